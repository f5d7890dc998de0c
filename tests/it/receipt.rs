//! Wished, delivered, proven: what a page says of each, from which device, to the millisecond, and at a glance.

use signalbox::model::device::DEVICE_MAX;

use crate::app::{Answer, Browser, Request, TestApp};
use crate::sample::{self, LOST, RUNNING, STOP, attributes, ended};

const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                      Version/18.1 Mobile/15E148 Safari/604.1";

const CALL: &str = r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"a","name":"Bash","input":{"command":"cargo test"}}]}}"#;
fn says(page: &Answer, all: &[&str]) {
    assert_eq!(page.status, 200, "{}", page.body);
    for said in all {
        assert!(page.body.contains(said), "{said:?} isn't in {}", page.body);
    }
}

async fn stop_from(browser: &Browser, run: i64, user_agent: &str) {
    let request = Request::new("POST", &format!("/runs/{run}/terminate"))
        .header("origin", &browser.origin())
        .header("user-agent", user_agent)
        .form(&[("mode", "force"), ("preset", "It loops")]);
    assert_eq!(browser.send(request).await.status, 303);
}

#[tokio::test]
async fn a_wish_keeps_the_device_it_came_from() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    stop_from(&ada, run, IPHONE).await;
    let page = ada.get(&format!("/runs/{run}")).await;
    says(
        &page,
        &["Stop by force, by ada, from iPhone, Safari: “It loops”", "Stopped by ada from iPhone, Safari, "],
    );
    says(&ada.get("/audit").await, &["force: It loops; from iPhone, Safari"]);

    let hostile = sample::run(&app, RUNNING).await;
    stop_from(&ada, hostile, &format!("<b>\u{202e}{}", "é".repeat(3_000))).await;
    let stored: String = sqlx::query_scalar("select wish_device from runs where id = $1")
        .bind(hostile)
        .fetch_one(app.sql())
        .await
        .unwrap();
    assert!(stored.chars().count() <= DEVICE_MAX && !stored.contains('\u{202e}'), "{stored}");
    let page = ada.get(&format!("/runs/{hostile}")).await;
    assert!(page.body.contains("from &#60;b&#62;⟨U+202E⟩éé") && !page.body.contains("<b>é"), "{}", page.body);

    let silent = sample::run(&app, RUNNING).await;
    stop_from(&ada, silent, "").await;
    says(&ada.get(&format!("/runs/{silent}")).await, &["Stop by force, by ada: “It loops”"]);
}

#[tokio::test]
async fn a_receipt_has_three_axes_with_times_to_the_millisecond() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let told = [
        ("worker", "'arm-1'"),
        ("container", "'3f2a9c1b7d04aa55'"),
        ("exit_code", "137"),
        ("wish_device", "'Linux, Firefox'"),
        ("delivered_to", "'arm-1'"),
        ("delivered_at", "'2026-11-03 14:02:16.031Z'"),
        ("egress_cut_at", "'2026-11-03 14:02:16.032Z'"),
        ("host_killed_at", "'2026-11-03 14:02:16.900Z'"),
        ("cgroup", "'empty'"),
    ];
    let columns = [ended("'terminated'"), told.to_vec()].concat();
    let columns: Vec<_> = columns
        .into_iter()
        .map(|(column, value)| match column {
            "wish_at" => (column, "'2026-11-03 14:02:16.008Z'"),
            "end_step" => (column, "'host_kill'"),
            _ => (column, value),
        })
        .collect();
    let run = sample::run(&app, &columns).await;
    let page = ada.get(&format!("/runs/{run}")).await;
    says(
        &page,
        &[
            "14:02:16.008",
            "by ada, from Linux, Firefox",
            "14:02:16.031",
            "arm-1 took it.",
            ">14:02:16.032</time>.",
            "14:02:17.204",
            "Container 3f2a9c1b7d04 exited 137, SIGKILL, after the host’s own kill; confirmed by the engine.",
            ">14:02:16.900</time>. The host sees no process left in its control group.",
            "It is dead.",
            ">14:02:17.204</time>.",
        ],
    );
    for (word, said) in [("gone", "its control group is gone"), ("unseen", "couldn’t look")] {
        sqlx::query("update runs set cgroup = $1").bind(word).execute(app.sql()).await.unwrap();
        says(&ada.get(&format!("/runs/{run}")).await, &[said]);
    }
}

#[tokio::test]
async fn a_run_that_misses_a_renewal_says_by_when_it_stops_itself() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    let page = async |left_s: i32| {
        let lease = sqlx::query_scalar(
            "update runs set lease_until = now() + make_interval(secs => $1)
             returning to_char((lease_until - interval '10 s') at time zone 'utc', 'HH24:MI:SS')",
        );
        let by: String = lease.bind(f64::from(left_s)).fetch_one(app.sql()).await.unwrap();
        (ada.get(&format!("/runs/{run}")).await, by)
    };
    for left_s in [17, 9, 1] {
        let (missed, by) = page(left_s).await;
        says(
            &missed,
            &["arm-1 has missed a renewal of its lease: it stops itself by", &format!(">{by} UTC</time>")],
        );
    }
    for left_s in [20, 29] {
        assert!(!page(left_s).await.0.body.contains("stops itself"), "{left_s}");
    }
    sqlx::query("update runs set state = 'lost'").execute(app.sql()).await.unwrap();
    assert!(!page(5).await.0.body.contains("stops itself"), "then nobody knows");
}

#[tokio::test]
async fn a_page_says_what_the_agent_is_or_was_in() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let activity = sample::in_call("Bash", "cargo test", 200);
    let run = sample::run(&app, &[RUNNING, &[("activity", activity.as_str())]].concat()).await;
    let at = format!("/runs/{run}");
    sample::events(&app, run, &[("stdout", "tool_use", CALL), ("stdout", "text", "still at it")]).await;
    for page in [&at, &format!("{at}?before=2"), &format!("{at}?at=2")] {
        says(&ada.get(page).await, &["Is in: Bash <code>cargo test</code>, <time ", ">for 3 min 2"]);
    }
    says(
        &ada.get(&format!("{at}/terminate")).await,
        &["<dt>Is in</dt><dd>Bash <code>cargo test</code>, <time ", ">for 3 min"],
    );
    stop_from(&ada, run, IPHONE).await;
    says(&ada.get(&at).await, &["It isn’t proven dead.", "Was in: Bash <code>cargo test</code>, for 3 min"]);

    let idle = sample::run(&app, RUNNING).await;
    assert!(!ada.get(&format!("/runs/{idle}")).await.body.contains("Is in:"));
    says(&ada.get(&format!("/runs/{idle}/terminate")).await, &["no tool call"]);
}

#[tokio::test]
async fn every_page_counts_what_is_unconfirmed_and_what_is_lost() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let quiet = sample::run(&app, RUNNING).await;
    let mut pages: Vec<String> =
        ["/", "/?state=failed", "/runs/new", "/workers", "/agents", "/health", "/audit", "/account"]
            .map(str::to_owned)
            .into();
    pages.extend([format!("/runs/{quiet}"), format!("/runs/{quiet}/terminate")]);
    for page in &pages {
        assert!(!ada.get(page).await.body.contains("class=\"needs\""), "{page}: nothing needs anybody");
    }
    sample::run(&app, &[RUNNING, STOP].concat()).await;
    sample::run(&app, &[LOST, STOP].concat()).await;
    sample::run(&app, LOST).await;
    crate::fleet::until("counted", async || ada.get("/").await.body.contains("class=\"needs\"")).await;
    for page in &pages {
        let page = ada.get(page).await;
        says(
            &page,
            &[
                "href=\"/?state=unconfirmed\"",
                "2 unconfirmed</span></a>",
                "href=\"/?state=lost\"",
                "2 lost</span></a>",
            ],
        );
    }
    for (state, shown) in [("unconfirmed", 2), ("lost", 2)] {
        let page = ada.get(&format!("/?state={state}")).await;
        assert_eq!(attributes(&page, "data-run").len(), shown, "as many as were counted");
    }
}

#[tokio::test]
async fn two_axes_are_never_one_word() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    for (columns, word) in [(RUNNING, "Running"), (LOST, "Lost")] {
        let run = sample::run(&app, &[columns, STOP].concat()).await;
        for page in
            ["/".to_owned(), "/workers".to_owned(), format!("/runs/{run}"), format!("/runs/{run}/terminate")]
        {
            says(&ada.get(&page).await, &[&format!(">{word}</span>"), "stop unconfirmed</span>"]);
        }
    }
}

/// What a list says of a run, axis by axis: `[("is", "Running"), ("wished", "stop unconfirmed")]`.
fn axes(row: &str) -> Vec<(String, String)> {
    let parts = row.split("<span class=\"axis\">").skip(1);
    let text = |html: &str| html.split('>').nth(1).unwrap().split('<').next().unwrap().to_owned();
    parts
        .map(|part| {
            let (axis, rest) = part.split_once("</span>").unwrap();
            (axis.to_owned(), text(rest))
        })
        .collect()
}

#[tokio::test]
async fn every_status_in_a_list_says_which_axis_it_speaks_of() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let starting = [("state", "'starting'"), ("started_at", "null")];
    let starting: Vec<_> = RUNNING
        .iter()
        .filter(|(name, _)| *name != "state" && *name != "started_at")
        .copied()
        .chain(starting)
        .collect();
    let taken = [("delivered_at", "now()"), ("delivered_to", "'arm-1'")];
    let stop = |axis: &'static str| Some((axis, "stop unconfirmed"));
    type Said = (&'static str, &'static str);
    let cases: Vec<(Vec<Said>, Said, Option<Said>)> = vec![
        (vec![], ("is", "Queued"), None),
        (starting, ("is", "Starting"), None),
        (RUNNING.to_vec(), ("is", "Running"), None),
        (LOST.to_vec(), ("is", "Lost"), None),
        ([RUNNING, STOP].concat(), ("is", "Running"), stop("wished")),
        ([RUNNING, STOP, &taken].concat(), ("is", "Running"), stop("delivered")),
        ([LOST, STOP].concat(), ("is", "Lost"), stop("wished")),
        (ended("'succeeded'"), ("proven", "Succeeded"), None),
        (ended("'failed'"), ("proven", "Failed"), None),
        (ended("'terminated'"), ("proven", "Terminated"), None),
        (ended("'timed_out'"), ("proven", "Timed out"), None),
        (ended("'over_budget'"), ("proven", "Over budget"), None),
    ];
    let mut runs = Vec::new();
    for (columns, ..) in &cases {
        runs.push(sample::run(&app, columns).await);
    }
    let list = ada.get("/").await.body;
    let ids: Vec<String> = runs.iter().map(ToString::to_string).collect();
    let question = ada.get(&format!("/stops/new?run={}", ids.join("&run="))).await.body;
    let workers = ada.get("/workers").await.body;
    for (run, (columns, is, beside)) in runs.iter().zip(&cases) {
        let expected: Vec<(String, String)> =
            [Some(*is), *beside].into_iter().flatten().map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
        let row = list.split(&format!("data-run=\"{run}\"")).nth(1).unwrap().split("</li>").next().unwrap();
        assert_eq!(axes(row), expected, "{columns:?}");
        let page = ada.get(&format!("/runs/{run}")).await.body;
        let bar = page.split("class=\"runbar").nth(1).unwrap().split("</div>").next().unwrap();
        assert_eq!(axes(bar), expected, "{columns:?}");
        let line = |page: &str| {
            let line = page.split(&format!("<a href=\"/runs/{run}\">")).nth(1)?.split("</li>").next()?;
            Some(axes(line))
        };
        if is.0 == "is" {
            assert_eq!(line(&question), Some(expected.clone()), "{columns:?}");
        }
        if is.0 == "is" && is.1 != "Queued" {
            assert_eq!(line(&workers), Some(expected), "{columns:?}");
        }
    }
    assert_eq!(ada.post("/handle", &[]).await.status, 303);
    for page in ["/stops/1", "/handle/leave", "/stops"] {
        let page = ada.get(page).await.body;
        let words = page.matches("class=\"word").count();
        let said = axes(&page);
        assert!(words > 0 && said.len() >= words, "{words} {said:?}");
    }
}
