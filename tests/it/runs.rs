//! The list of runs, the form that starts one, and the wish to stop.

use std::time::{Duration, Instant};

use sqlx::Row;

use crate::app::{Answer, TestApp, Wants};
use crate::sample::{self, LOST, RUNNING, STOP, attribute, attributes, ended, link};

fn ids(page: &Answer) -> Vec<i64> {
    assert_eq!(page.status, 200, "{}", page.body);
    attributes(page, "data-run").iter().map(|id| id.parse().unwrap()).collect()
}

async fn count(app: &TestApp, what: &str) -> i64 {
    let row = sqlx::query("select count(*) from audit where what = $1").bind(what).fetch_one(app.sql());
    row.await.unwrap().get(0)
}

#[tokio::test]
async fn the_list_goes_back_and_forth_and_skips_nothing() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    for _ in 0..60 {
        sample::run(&app, &[]).await;
        sample::run(&app, &ended("'failed'")).await;
    }
    for (start, expected) in [
        ("/?state=all", (1..=120).rev().collect::<Vec<i64>>()),
        ("/?state=failed", (1..=60).rev().map(|n| 2 * n).collect()),
    ] {
        let mut page = ada.get(start).await;
        assert_eq!(link(&page, "prev"), None, "nothing is newer than the newest");
        let mut seen = ids(&page);
        while let Some(next) = link(&page, "next") {
            page = ada.get(&next).await;
            seen.extend(ids(&page));
        }
        assert_eq!(seen, expected, "{start}, going back");
        let mut seen = ids(&page);
        while let Some(previous) = link(&page, "prev") {
            page = ada.get(&previous).await;
            seen.splice(0..0, ids(&page));
        }
        assert_eq!(seen, expected, "{start}, coming forth");
    }
}

#[tokio::test]
async fn each_filter_shows_its_own() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let mut runs = vec![
        ("queued", sample::run(&app, &[]).await),
        ("running", sample::run(&app, RUNNING).await),
        ("lost", sample::run(&app, LOST).await),
    ];
    for (word, outcome) in [
        ("succeeded", "'succeeded'"),
        ("failed", "'failed'"),
        ("terminated", "'terminated'"),
        ("timed_out", "'timed_out'"),
        ("over_budget", "'over_budget'"),
    ] {
        runs.push((word, sample::run(&app, &ended(outcome)).await));
    }
    for (word, run) in &runs {
        assert_eq!(ids(&ada.get(&format!("/?state={word}")).await), [*run], "{word}");
    }
    assert_eq!(ids(&ada.get("/?state=unconfirmed").await), [0_i64; 0]);
    let unconfirmed = sample::run(&app, &[RUNNING, STOP].concat()).await;
    let page = ada.get("/?state=unconfirmed").await;
    assert_eq!(ids(&page), [unconfirmed]);
    assert_eq!((attribute(&page, "data-state"), attribute(&page, "data-wish")), ("running", "stop"));
    assert!(
        page.body.contains(">Running</span>") && page.body.contains("stop unconfirmed</span>"),
        "two axes"
    );
    assert_eq!(ids(&ada.get("/").await).len(), runs.len() + 1);
}

#[tokio::test]
async fn a_list_that_makes_no_sense_says_so() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    for query in [
        "state=killed",
        "before=x",
        "before=0",
        "after=-1",
        "before=1&after=2",
        "before=99999999999999999999",
    ] {
        let page = ada.get(&format!("/?{query}")).await;
        assert_eq!(page.status, 422, "{query}: {}", page.body);
    }
    assert_eq!(ada.get("/?before=9223372036854775807").await.status, 200);
    assert!(ada.get("/").await.body.contains("No runs yet."));
}

#[tokio::test]
async fn only_what_can_be_stopped_has_a_lever() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let run = sample::run(&app, &[("title", "'Refactor billing'")]).await;
    sample::run(&app, &ended("'succeeded'")).await;
    let page = ada.get("/").await;
    assert_eq!(page.body.matches("class=\"lever\"").count(), 1);
    assert!(page.body.contains("aria-label=\"Stop Refactor billing\""));
    assert!(page.body.contains(&format!("href=\"/runs/{run}/terminate\"")));
}

#[tokio::test]
async fn the_form_starts_a_run_and_the_same_form_twice_starts_one() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let once = attribute(&ada.get("/runs/new").await, "value").to_owned();
    assert_eq!(once.len(), 32);
    let form =
        [("agent", "claude-code"), ("prompt", "Fix it.\r\nAll of it."), ("title", ""), ("once", &once)];
    let first = ada.post("/runs", &form).await;
    assert_eq!(first.status, 303, "{}", first.body);
    let again = ada.post("/runs", &form).await;
    assert_eq!(first.header("location"), again.header("location"));
    assert_eq!(count(&app, "run started").await, 1);
    let other = [("agent", "claude-code"), ("prompt", "Fix more."), ("title", ""), ("once", &once)];
    let page = ada.post("/runs", &other).await;
    assert_eq!(page.status, 422, "what is new in a form that was used isn't dropped unsaid");
    assert!(page.body.contains("has started run") && page.body.contains("Fix more."), "{}", page.body);
    assert_eq!(count(&app, "run started").await, 1);
    let row = sqlx::query("select title, prompt from runs").fetch_one(app.sql()).await.unwrap();
    assert_eq!(row.get::<String, _>("title"), "Fix it. All of it.");
    assert_eq!(row.get::<String, _>("prompt"), "Fix it.\nAll of it.");
    let plain = ada.post("/runs", &[("agent", "claude-code"), ("prompt", "x"), ("title", "Named")]).await;
    assert_eq!(plain.status, 303);
    assert!(ada.get(plain.header("location").unwrap()).await.body.contains("<h1>Named</h1>"));
}

#[tokio::test]
async fn a_form_that_cannot_be_right_comes_back_with_all_that_was_typed() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let long = "t".repeat(201);
    for (agent, prompt, title, says) in [
        ("claude-code", "  \r\n", "My <title>", "the prompt is empty"),
        ("claude-code", "My <prompt>", &long, "201 characters"),
        ("nobody", "My <prompt>", "My <title>", "no agent called nobody"),
        ("", "My <prompt>", "My <title>", "Say which agent"),
        ("claude-code", "My <prompt>\0", "My <title>", "NUL"),
    ] {
        let page = ada
            .post("/runs", &[("agent", agent), ("prompt", prompt), ("title", title), ("once", "me")])
            .await;
        assert_eq!(page.status, 422, "{says}");
        for kept in [says, "role=\"alert\"", "value=\"me\""] {
            assert!(page.body.contains(kept), "{kept} isn't in {}", page.body);
        }
        let typed = format!("{prompt}{title}");
        assert!(!typed.contains("<prompt>") || page.body.contains("My &#60;prompt&#62;"), "{}", page.body);
        assert!(!typed.contains("<title>") || page.body.contains("My &#60;title&#62;"));
    }
    assert!(ada.get("/").await.body.contains("No runs yet."));
    let large = "y".repeat(300 * 1024);
    let page = ada.post("/runs", &[("agent", "claude-code"), ("prompt", &large)]).await;
    assert_eq!(page.status, 422);
    assert!(page.body.contains("300 KiB long") && page.body.contains(&large));
}

#[tokio::test]
async fn a_run_can_be_asked_for_again() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let run = sample::run(&app, &[("prompt", "'The very same'"), ("title", "'Same'")]).await;
    let page = ada.get(&format!("/runs/new?like={run}")).await;
    assert!(page.body.contains("The very same") && page.body.contains("value=\"Same\""));
    assert_eq!(ada.get("/runs/new?like=999").await.status, 404);
    assert_eq!(ada.get("/runs/new?like=x").await.status, 404);
    let proof = app.proof().await;
    let again = |retry_of: &str| {
        let (retry_of, ada) = (retry_of.to_owned(), &ada);
        async move {
            let form = [("agent", "claude-code"), ("prompt", "x"), ("title", ""), ("retry_of", &retry_of)];
            let answer = ada.post("/runs", &form).await;
            answer.header("location").unwrap().rsplit('/').next().unwrap().parse().unwrap()
        }
    };
    let retry = app.db.run(&proof, again(&run.to_string()).await).await.unwrap();
    assert_eq!(retry.retry_of.map(|run| run.0), Some(run));
    let odd = app.db.run(&proof, again("999999").await).await.unwrap();
    assert_eq!(odd.retry_of, None, "a run that isn't there is no reason to refuse this one");
}

#[tokio::test]
async fn a_second_tap_is_the_same_wish_and_force_is_a_new_one() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    let (path, at) = (format!("/runs/{run}/terminate"), format!("/runs/{run}"));

    let confirm = ada.get(&path).await;
    assert!(confirm.body.contains("Stop gracefully") && confirm.body.contains("Force stop"));
    assert!(!confirm.body.contains("http-equiv=\"refresh\""), "a question doesn't run away");
    for reason in ["it loops", "another reason"] {
        let answer = ada.post(&path, &[("reason", reason)]).await;
        assert_eq!((answer.status, answer.header("location")), (303, Some(at.as_str())));
    }
    assert_eq!(count(&app, "stop wished").await, 1);
    assert!(app.queue.commands_waiting("arm-1").await.unwrap() >= Some(1), "the worker is told");
    let page = ada.get(&at).await;
    assert!(page.body.contains("“it loops”") && !page.body.contains("another reason"));
    assert_eq!((attribute(&page, "data-wish"), attribute(&page, "data-state")), ("stop", "running"));
    assert_eq!(attribute(&page, "data-confirmed"), "");
    assert!(page.body.contains("Not delivered yet") && page.body.contains("Not proven"));
    assert!(page.body.contains("Force stop"));

    for _ in 0..2 {
        assert_eq!(ada.post(&path, &[("mode", "force"), ("preset", "Wrong task")]).await.status, 303);
    }
    assert_eq!(count(&app, "stop wished").await, 2);
    assert_eq!(
        count(&app, "stop wished again").await,
        2,
        "one row a click, also for one that changed nothing"
    );
    let page = ada.get(&at).await;
    assert!(page.body.contains("Stop by force") && page.body.contains("“Wrong task”"));
    assert!(!page.body.contains("class=\"lever\""), "nothing is left to be asked for");
    assert!(ada.get(&path).await.body.contains("wished already"));
}

#[tokio::test]
async fn a_queued_run_that_is_stopped_never_starts() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let run = sample::run(&app, &[]).await;
    assert_eq!(ada.post(&format!("/runs/{run}/terminate"), &[("mode", "graceful")]).await.status, 303);
    let page = ada.get(&format!("/runs/{run}")).await;
    assert_eq!((attribute(&page, "data-state"), attribute(&page, "data-outcome")), ("ended", "terminated"));
    assert_ne!(attribute(&page, "data-confirmed"), "");
    assert!(page.body.contains("It never had a container."));
}

#[tokio::test]
async fn a_run_that_ended_first_keeps_its_outcome() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let run = sample::run(&app, &ended("'succeeded'")).await;
    assert_eq!(ada.post(&format!("/runs/{run}/terminate"), &[("mode", "force")]).await.status, 303);
    let page = ada.get(&format!("/runs/{run}")).await;
    assert_eq!((attribute(&page, "data-outcome"), attribute(&page, "data-wish")), ("succeeded", "run"));
    assert_eq!((count(&app, "stop wished").await, count(&app, "stop wished too late").await), (0, 1));
    assert!(ada.get(&format!("/runs/{run}/terminate")).await.body.contains("It is over already."));

    let late = sample::run(&app, &[&ended("'succeeded'"), STOP].concat()).await;
    let page = ada.get(&format!("/runs/{late}")).await;
    assert!(page.body.contains("It ended by itself first") && page.body.contains("keeps its own outcome"));
}

#[tokio::test]
async fn a_stop_that_makes_no_sense_changes_nothing() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let run = sample::run(&app, &[]).await;
    let path = format!("/runs/{run}/terminate");
    assert_eq!(ada.post(&path, &[("mode", "softly")]).await.status, 422);
    let long = "r".repeat(501);
    let page = ada.post(&path, &[("mode", "force"), ("reason", &long)]).await;
    assert!(page.status == 422 && page.body.contains("501 characters") && page.body.contains(&long));
    assert_eq!(ada.post(&path, &[("reason", "a\0b")]).await.status, 422);
    assert_eq!(ada.post("/runs/999/terminate", &[]).await.status, 404);
    assert_eq!(ada.get("/runs/999/terminate").await.status, 404);
    assert_eq!(ada.get("/runs/999").await.status, 404);
    assert_eq!(count(&app, "stop wished").await, 0);
    assert_eq!(ada.post(&path, &[("reason", &"é".repeat(500))]).await.status, 303);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_redis() {
    let wants = Wants { redis_url: Some("redis://127.0.0.1:1".into()), ..Wants::default() };
    let app = TestApp::start_with(wants).await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    let began = Instant::now();
    assert_eq!(ada.post(&format!("/runs/{run}/terminate"), &[]).await.status, 303);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(count(&app, "stop wished").await, 1);
}

#[tokio::test]
async fn a_run_page_says_what_is_and_leaves_the_rest_unsaid() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let bare = sample::run(&app, &ended("'failed'")).await;
    let page = ada.get(&format!("/runs/{bare}")).await;
    assert_eq!(attribute(&page, "data-confirmed"), "2026-11-03T14:02:17.204Z");
    assert_eq!(attribute(&page, "data-cost-usd"), "");
    assert!(!page.body.contains("<dd>0") && !page.body.contains("$0"), "absent is no zero: {}", page.body);
    assert_eq!(page.body.matches("not said").count(), 10);
    assert!(page.body.contains("Cost, by the CLI’s estimate"));
    assert!(page.body.contains("14:02:17.204"), "to the millisecond");

    let told = [("turns", "0"), ("tokens_in", "412000"), ("cost_usd", "0.75"), ("exit_code", "137")];
    let told = sample::run(&app, &[&ended("'failed'"), told.as_slice()].concat()).await;
    let page = ada.get(&format!("/runs/{told}")).await;
    assert_eq!(attribute(&page, "data-cost-usd"), "0.75");
    for said in ["<dd>0</dd>", "<dd>412,000</dd>", "<dd>$0.75</dd>", "137 <small>SIGKILL</small>"] {
        assert!(page.body.contains(said), "{said} isn't in {}", page.body);
    }
}

#[tokio::test]
async fn an_unconfirmed_stop_says_how_far_it_has_come() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let progress = [
        ("delivered_at", "now() - interval '19 s'"),
        ("egress_cut_at", "now() - interval '18 s'"),
        ("stop_step", "'sigkill'"),
        ("stop_step_at", "now() - interval '12 s'"),
        ("stop_trouble", "'The engine doesn’t answer.'"),
        ("stop_next_at", "now() + interval '90 s'"),
    ];
    let run = sample::run(&app, &[RUNNING, STOP, &progress].concat()).await;
    let page = ada.get(&format!("/runs/{run}")).await;
    for said in [
        "Stop unconfirmed",
        "arm-1 took it.",
        "Egress cut at ",
        "Last attempt: SIGKILL sent at ",
        ", 12 s ago.",
        "The engine doesn’t answer.",
        "Next attempt: in 1 min",
        "http-equiv=\"refresh\" content=\"3\"",
    ] {
        assert!(page.body.contains(said), "{said} isn't in {}", page.body);
    }
    let lost = sample::run(&app, &[LOST, STOP].concat()).await;
    let page = ada.get(&format!("/runs/{lost}")).await;
    assert!(page.body.contains("isn’t known until the worker is back"), "{}", page.body);
    assert!(page.body.contains("arm-1 is silent"));
    let queued = sample::run(&app, &[("waits_because", "'Every worker is full.'")]).await;
    assert!(ada.get(&format!("/runs/{queued}")).await.body.contains("Every worker is full."));
}
