//! Many runs stopped by one click: selected, or all that match; written in batches that nothing loses.

use std::time::Duration;

use signalbox::db::{Click, Db, Role};
use signalbox::model::page::Cursor;
use signalbox::model::run::{Outcome, RunFilter, RunId, State, StopMode};
use signalbox::model::stop::{Met, StopId, Target};
use sqlx::Row;
use tokio::time::Instant;

use crate::app::{Answer, Browser, TestApp, Wants, hung_server, redis_url};
use crate::fleet::{Fleet, until};
use crate::sample::{self, LOST, RUNNING, STOP, attribute, attributes, ended};
use crate::wire::{Proxy, Wire};

/// The rows of the audit that say this, and their details.
async fn audited(app: &TestApp, what: &str) -> Vec<String> {
    let rows = sqlx::query("select detail from audit where what = $1 order by id").bind(what);
    rows.fetch_all(app.sql()).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Opens the question, answers it, and gives the number of the stop.
async fn answer(ada: &Browser, question: &str, mode: &str) -> (StopId, Answer) {
    let page = ada.get(question).await;
    assert_eq!(page.status, 200, "{}", page.body);
    let field = |name: &str| {
        let rest = page.body.split(&format!("name=\"{name}\" value=\"")).nth(1);
        rest.map(|rest| rest.split('"').next().unwrap().to_owned())
    };
    let mut form = vec![("mode", mode.to_owned()), ("preset", "It loops".to_owned())];
    for name in ["once", "runs", "state", "upto"] {
        form.extend(field(name).map(|value| (name, value)));
    }
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (first, second) = tokio::join!(ada.post("/stops", &form), ada.post("/stops", &form));
    assert_eq!((first.status, second.status), (303, 303), "{}", first.body);
    assert_eq!(first.header("location"), second.header("location"), "a double tap is one stop");
    let stop = first.header("location").unwrap().strip_prefix("/stops/").unwrap().parse().unwrap();
    (stop, page)
}

#[tokio::test]
async fn whoever_presses_force_after_gracefully_means_it() {
    let fleet = Fleet::new().await;
    let ada = fleet.app.superuser().await;
    let run = fleet.start("a").await;
    fleet.claim("w1").await;
    let once = attribute(&ada.get(&format!("/stops/new?run={run}")).await, "value").to_owned();
    let runs = run.to_string();
    let mut ways = Vec::new();
    for mode in ["graceful", "force", "force"] {
        let sent = ada.post("/stops", &[("mode", mode), ("once", &once), ("runs", &runs)]).await;
        assert_eq!(sent.status, 303, "{}", sent.body);
        ways.push(sent.header("location").unwrap().to_owned());
        until("wished", async || fleet.run(run).await.stop.is_some_and(|stop| stop.mode.to_string() == mode))
            .await;
    }
    assert!(ways[0] != ways[1] && ways[1] == ways[2], "{ways:?}");
}

/// Adds runs that wait.
async fn queue(app: &TestApp, runs: i32) {
    let added = sqlx::query(
        "insert into runs (agent_id, title, prompt, asked_by, asked_by_name)
         select a.id, 'Waits ' || n, 'x', u.id, u.name from agents a, users u, generate_series(1, $1) n
         where a.name = 'claude-code' and u.name = 'ada'",
    );
    added.bind(runs).execute(app.sql()).await.unwrap();
}

#[tokio::test]
async fn selected_runs_are_stopped_and_no_other() {
    let fleet = Fleet::new().await;
    let ada = fleet.app.superuser().await;
    let _worker = fleet.worker("w1").await;
    let (first, second, other) = (fleet.start("a").await, fleet.start("b").await, fleet.start("c").await);
    for run in [first, second, other] {
        fleet.until_running(run).await;
    }
    let list = ada.get("/?pick=1").await;
    assert_eq!(list.body.matches("type=\"checkbox\"").count(), 3);
    assert!(!list.body.contains("class=\"lever\" href=\"/runs/"), "a tap selects and does nothing else");

    let (stop, page) = answer(&ada, &format!("/stops/new?run={first}&run={second}"), "force").await;
    assert!(page.body.contains("Stop 2 runs?"), "{}", page.body);
    for run in [first, second] {
        let over = fleet.until_over(run).await;
        assert_eq!(over.outcome, Some(Outcome::Terminated));
        assert_eq!(over.stop.unwrap().reason, "It loops");
    }
    assert_eq!(fleet.run(other).await.state, State::Running);
    let clicks = audited(&fleet.app, "stop of many wished").await;
    assert_eq!(clicks, [format!("stop {stop}, force: 2 selected: It loops")]);
    let wishes = audited(&fleet.app, "stop wished").await;
    assert_eq!(wishes, vec![format!("force, with stop {stop}: It loops"); 2]);

    let page = ada.get(&format!("/stops/{stop}")).await;
    assert!(page.body.contains("All 2 runs are proven over."), "{}", page.body);
    assert_eq!(attributes(&page, "data-run"), [second.to_string(), first.to_string()]);
    assert_eq!(page.body.matches("proven + ").count(), 2);
    assert!(!page.body.contains("http-equiv=\"refresh\""), "there is nothing more to come");
    assert!(ada.get("/stops").await.body.contains("2 of 2 over"));
}

#[tokio::test]
async fn a_stop_of_all_that_match_says_how_many_and_takes_those() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let running = [sample::run(&app, RUNNING).await, sample::run(&app, RUNNING).await];
    let lost = sample::run(&app, LOST).await;
    let queued = sample::run(&app, &[]).await;
    sample::run(&app, &ended("'succeeded'")).await;
    let unconfirmed = sample::run(&app, &[RUNNING, STOP].concat()).await;
    let question = |word: &str| format!("/stops/new?state={word}");
    for (word, says) in [
        ("running", "Stop 3 runs?"),
        ("queued", "Stop one run?"),
        ("lost", "Stop one run?"),
        ("unconfirmed", "Stop one run?"),
        ("all", "Stop 5 runs?"),
        ("starting", "There is nothing to stop."),
    ] {
        assert!(ada.get(&question(word)).await.body.contains(says), "{word}");
    }
    for word in ["succeeded", "ended", "nonsense"] {
        assert_eq!(ada.get(&question(word)).await.status, 422, "{word}");
    }
    let page = ada.get(&question("running")).await;
    assert!(page.body.contains(&format!("Every running run, up to run {unconfirmed}.")));
    let late = sample::run(&app, RUNNING).await;
    let form = [("state", "running"), ("upto", attribute_after(&page, "upto")), ("mode", "force")];
    assert_eq!(ada.post("/stops", &form).await.header("location"), Some("/stops/1"));
    let by = app.proof().await;
    for run in running.iter().chain([&unconfirmed]) {
        let stop = app.db.run(&by, RunId(*run)).await.unwrap().stop.unwrap();
        assert_eq!(stop.mode, StopMode::Force, "run {run}");
    }
    for run in [late, lost, queued] {
        assert_eq!(app.db.run(&by, RunId(run)).await.unwrap().stop, None, "run {run}");
    }
    let (stop, counts) = app.db.stop(&by, StopId(1)).await.unwrap();
    assert!(stop.written_at.is_some());
    assert_eq!((counts.all(), counts.unconfirmed, counts.unproven()), (3, 3, 3));
    let page = ada.get("/stops/1").await;
    assert_eq!(attributes(&page, "data-unproven-run").len(), 3);
    assert!(page.body.contains("0 of 3 proven over.") && page.body.contains("http-equiv=\"refresh\""));
    assert_eq!(
        audited(&app, "stop of many wished").await,
        ["stop 1, force: all that are running, up to run 6"]
    );

    let (stop, _) = answer(&ada, &question("all"), "graceful").await;
    let (_, counts) = app.db.stop(&by, stop).await.unwrap();
    assert_eq!((counts.all(), counts.queued, counts.lost, counts.unconfirmed), (6, 1, 1, 4));
    let met: Vec<Met> =
        app.db.stop_lines(&by, stop, Cursor::Start).await.unwrap().rows.iter().map(|line| line.met).collect();
    assert_eq!(met.iter().filter(|met| **met == Met::Repeated).count(), 3, "a wish isn't weakened: {met:?}");
    let queued = app.db.run(&by, RunId(queued)).await.unwrap();
    assert_eq!(
        (queued.outcome, queued.reason.as_deref()),
        (Some(Outcome::Terminated), Some("Stopped before it started."))
    );
}

fn attribute_after<'a>(page: &'a Answer, name: &str) -> &'a str {
    let rest = page.body.split(&format!("name=\"{name}\" value=\"")).nth(1).unwrap();
    rest.split('"').next().unwrap()
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_words() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    for question in ["/stops/new", "/stops/new?run=x", "/stops/new?run=0"] {
        assert_eq!(ada.get(question).await.status, 422, "{question}");
    }
    // More would be stopped than what such a list shows.
    for narrowed in ["q=alpha", "last=hour", "from=2026-01-01", "until=2026-01-01", "cost=100"] {
        assert_eq!(ada.get(&format!("/stops/new?state=living&{narrowed}")).await.status, 422, "{narrowed}");
    }
    assert_eq!(ada.get("/stops/new?state=living&q=&cost=").await.status, 200);
    let many: Vec<String> = (1..=501).map(|n| n.to_string()).collect();
    for form in [
        vec![("runs", "")],
        vec![("runs", "1,x")],
        vec![("runs", &many.join(","))],
        vec![("state", "running")],
        vec![("state", "failed"), ("upto", "1")],
        vec![("runs", "1"), ("mode", "hard")],
        vec![("runs", "1"), ("reason", "a\0b")],
    ] {
        assert_eq!(ada.post("/stops", &form).await.status, 422, "{form:?}");
    }
    assert_eq!(ada.get("/stops/1").await.status, 404, "nothing was written");
    assert!(ada.get("/stops").await.body.contains("Nobody has stopped many runs at once."));
}

/// A database with 3,500 runs waiting, and nobody but the test to work on it.
async fn much_to_write() -> (TestApp, std::net::TcpListener) {
    let (listener, port) = hung_server();
    let hung = format!("postgres://signalbox@127.0.0.1:{port}/none");
    let app = TestApp::start_with(Wants { database_url: Some(hung), ..Wants::default() }).await;
    queue(&app, 3500).await;
    (app, listener)
}

#[tokio::test]
async fn a_server_that_dies_between_two_batches_loses_nothing() {
    let (app, _listener) = much_to_write().await;
    let by = app.proof().await;
    sample::worker(&app, "w1", 0).await;
    let target = Target::Filter(RunFilter::State(State::Queued).into(), RunId(i64::MAX));
    let begun = app.db.stop_many(&by, &target, &Fleet::click(StopMode::Graceful)).await.unwrap();
    let (stop, counts) = app.db.stop(&by, begun.stop).await.unwrap();
    assert_eq!((stop.written_at, counts.queued, counts.pending, counts.all()), (None, 500, 3000, 3500));

    // Meanwhile nobody takes what shall stop; what came later may start.
    assert!(app.worker_db.claim(&sample::place("w1"), &[0; 32]).await.unwrap().is_none());
    queue(&app, 1).await;
    let late =
        app.worker_db.claim(&sample::place("w1"), &[0; 32]).await.unwrap().expect("a later run is free");
    assert_eq!(late.lease.run(), RunId(3501));
    assert_eq!(stop.upto, RunId(3500));

    let another = Db::new(&app.database_url, Role::Web, 2).unwrap();
    assert_eq!(another.open_stops().await.unwrap(), [begun.stop]);
    let (one, two) = tokio::join!(another.write_wishes(begun.stop), app.db.write_wishes(begun.stop));
    assert!(one.unwrap().runs + two.unwrap().runs >= 500, "two may write at once");
    while !another.write_wishes(begun.stop).await.unwrap().whole {}
    let (stop, counts) = app.db.stop(&by, begun.stop).await.unwrap();
    assert!(stop.written_at.is_some());
    assert_eq!((counts.queued, counts.all(), counts.unproven()), (3500, 3500, 0));
    assert_eq!(audited(&app, "stop wished").await.len(), 3500);
    assert_eq!(audited(&app, "stop of many wished").await.len(), 1);
    assert!(app.db.open_stops().await.unwrap().is_empty());
    queue(&app, 1).await;
    assert!(
        app.worker_db.claim(&sample::place("w1"), &[0; 32]).await.unwrap().is_some(),
        "the queue moves on"
    );
}

#[tokio::test]
async fn any_server_goes_on_with_what_another_began() {
    let app = TestApp::start().await;
    let by = app.proof().await;
    queue(&app, 2500).await;
    let target = Target::Filter(RunFilter::All.into(), RunId(i64::MAX));
    let stop = app.db.stop_many(&by, &target, &Fleet::click(StopMode::Force)).await.unwrap().stop;
    until("written", async || app.db.stop(&by, stop).await.unwrap().0.written_at.is_some()).await;
    assert_eq!(app.db.stop(&by, stop).await.unwrap().1.queued, 2500);
    let ada = app.superuser().await;
    let first = ada.get(&format!("/stops/{stop}")).await;
    assert_eq!(attributes(&first, "data-run").len(), 50);
    let next = sample::link(&first, "next").unwrap();
    assert_eq!(attribute(&ada.get(&next).await, "data-run"), "2450");
}

#[tokio::test]
async fn a_run_that_somebody_has_locked_keeps_no_other_waiting() {
    let (app, _listener) = much_to_write().await;
    let by = app.proof().await;
    sample::worker(&app, "arm-1", 0).await;
    let (stuck, free) = (sample::run(&app, RUNNING).await, sample::run(&app, RUNNING).await);
    let mut lock = app.sql().begin().await.unwrap();
    sqlx::query("select id from runs where id = any($1) for update")
        .bind(vec![stuck, 7])
        .execute(&mut *lock)
        .await
        .unwrap();
    let target = Target::Filter(RunFilter::All.into(), RunId(i64::MAX));
    let begun = app.db.stop_many(&by, &target, &Fleet::click(StopMode::Force)).await.unwrap();
    assert_eq!(begun.tell.iter().map(|tell| tell.run.0).collect::<Vec<_>>(), [free]);
    while app.db.write_wishes(begun.stop).await.unwrap().runs > 0 {}
    let (stop, counts) = app.db.stop(&by, begun.stop).await.unwrap();
    assert_eq!((stop.written_at, counts.pending, counts.queued), (None, 2, 3499));
    lock.rollback().await.unwrap();
    let written = app.db.write_wishes(begun.stop).await.unwrap();
    assert_eq!((written.runs, written.whole, written.tell.len()), (2, true, 1));
}

#[tokio::test]
async fn without_redis_many_are_stopped_by_the_poll() {
    let wire = Proxy::to(redis_url().trim_start_matches("redis://").to_owned()).await;
    let redis = wire.url(&redis_url());
    let fleet = Fleet::with(Wants { redis_url: Some(redis.clone()), ..Wants::default() }).await;
    let ada = fleet.app.superuser().await;
    let _worker = fleet.worker_at(fleet.parts("w1"), &fleet.app.database_url, &redis).await;
    for broken in [Wire::Cut, Wire::Hanging] {
        wire.set(Wire::Whole);
        let runs = [fleet.start("a").await, fleet.start("b").await, fleet.start("c").await];
        for run in runs {
            fleet.until_running(run).await;
        }
        wire.set(broken);
        let began = Instant::now();
        let form = [("state", "running"), ("upto", "1000"), ("mode", "force")];
        assert_eq!(ada.post("/stops", &form).await.status, 303);
        assert!(began.elapsed() < Duration::from_secs(2), "{broken:?}: {:?}", began.elapsed());
        for run in runs {
            assert_eq!(fleet.until_over(run).await.outcome, Some(Outcome::Terminated));
        }
        assert!(began.elapsed() < Duration::from_secs(6), "{broken:?}: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_hundred_at_once_are_over_soon() {
    let fleet = Fleet::new().await;
    let ada = fleet.app.superuser().await;
    let mut parts = fleet.parts("w1");
    parts.settings.capacity = 100;
    let _worker = fleet.worker_with(parts).await;
    queue(&fleet.app, 100).await;
    let _ = fleet.app.queue.notice(signalbox::queue::Notice::Queued(RunId(1))).await;
    until("all run", async || fleet.engine.alive().len() == 100).await;
    for run in 1..=100 {
        fleet.until_running(RunId(run)).await;
    }
    let began = Instant::now();
    let (stop, _) = answer(&ada, "/stops/new?state=running", "force").await;
    until("all over", async || fleet.engine.alive().is_empty()).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    until("all proven", async || fleet.app.db.stop(&fleet.by, stop).await.unwrap().1.unproven() == 0).await;
    let (_, counts) = fleet.app.db.stop(&fleet.by, stop).await.unwrap();
    assert_eq!((counts.proven, counts.delivered), (100, 100));
    assert_eq!(audited(&fleet.app, "stop wished").await.len(), 100);
}

#[tokio::test]
async fn one_forms_token_is_nobody_elses_stop() {
    let app = TestApp::start().await;
    let by = app.proof().await;
    let click = Click { once: Some("t"), ..Fleet::click(StopMode::Force) };
    let run = sample::run(&app, &[]).await;
    let first = app.db.stop_many(&by, &Target::Selected(vec![RunId(run)]), &click).await.unwrap();
    let again = app.db.stop_many(&by, &Target::Selected(vec![RunId(run)]), &click).await.unwrap();
    assert_eq!((first.fresh, again.fresh, again.stop), (true, false, first.stop));
    assert_eq!(audited(&app, "stop wished").await.len(), 1);
    assert_eq!(audited(&app, "stop of many wished").await.len(), 1);
    assert_eq!(audited(&app, "stop of many wished again").await, [format!("stop {}", first.stop)]);
}
