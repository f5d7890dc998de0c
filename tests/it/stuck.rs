//! Stuck: what a worker keeps of what a run is in, what is said of one that gets nowhere, and what is done about it.

use std::time::Duration;

use signalbox::db::Batch;
use signalbox::model::activity::{Activity, Call};
use signalbox::model::event::{Event, Kind, Line, Source};
use signalbox::model::run::{Outcome, Run, RunId, State, Step, StopMode};
use time::OffsetDateTime;

use crate::app::TestApp;
use crate::fleet::{Fleet, until};
use crate::sample::{self, RUNNING, STOP, attribute, attributes};

const CALL: &str = r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"a","name":"Bash","input":{"command":"cargo test"}}]}}"#;
const BACK: &str =
    r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"a","content":"ok"}]}}"#;
const FAILED: &str = r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"a","is_error":true,"content":"no"}]}}"#;

fn tool(run: &Run) -> Option<&str> {
    run.watch.activity.call().map(|call| call.tool.as_str())
}

/// What comes of these lines.
fn after(lines: &[&str]) -> Activity {
    let mut activity = Activity::default();
    for line in lines {
        activity.take(Line::read(Source::Stdout, line.as_bytes(), 0).acts, OffsetDateTime::UNIX_EPOCH);
    }
    activity
}

/// A line with what the run is in after it. It comes later than whatever is done here.
fn batch(seq: i64, activity: Activity) -> Batch {
    let at = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(100 * 365 * 86_400);
    let event = Event { seq, at, source: Source::Stdout, kind: Kind::Text, cut: 0, payload: "x".into() };
    Batch { events: vec![event], activity, ..Batch::default() }
}

async fn sql(fleet: &Fleet, statement: &'static str) {
    sqlx::query(statement).execute(fleet.app.sql()).await.unwrap();
}

#[tokio::test]
async fn a_next_life_goes_on_from_what_a_run_was_in() {
    let fleet = Fleet::new().await;
    let first = fleet.worker("w1").await;
    let ada = fleet.app.superuser().await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    fleet.engine.print(run.0, CALL);
    fleet.until(run, "in a call", |run| tool(run) == Some("Bash")).await;
    let list = ada.get("/").await;
    assert!(list.body.contains("<b>Bash</b>: <code>cargo test</code><span>, "), "{}", list.body);
    assert!(ada.get(&format!("/runs/{run}")).await.body.contains("Is in: Bash <code>cargo test</code>"));
    first.kill();
    fleet.engine.print(run.0, FAILED);
    let _second = fleet.worker("w1").await;
    let after = fleet.until(run, "out of it", |run| tool(run).is_none() && run.events == 2).await;
    assert_eq!(after.watch.activity.errors.map(|errors| errors.times), Some(1));
    assert!(!ada.get("/").await.body.contains("cargo test"));
}

#[tokio::test]
async fn what_it_was_in_stays_as_it_was_when_a_stop_was_wished() {
    let fleet = Fleet::new().await;
    let (stopped, goes_on) = (fleet.start("x").await, fleet.start("y").await);
    let leases = [fleet.claim("w1").await, fleet.claim("w1").await];
    let db = &fleet.app.worker_db;
    for lease in &leases {
        db.append(lease, &batch(1, after(&[CALL]))).await.unwrap();
    }
    fleet.stop(stopped, StopMode::Graceful).await;
    for lease in &leases {
        db.append(lease, &batch(2, after(&[CALL, BACK]))).await.unwrap();
    }
    assert_eq!(tool(&fleet.run(stopped).await), Some("Bash"));
    assert_eq!(tool(&fleet.run(goes_on).await), None);
}

async fn times_kept(fleet: &Fleet) -> i64 {
    sqlx::query_scalar("select count(*) from usual_calls").fetch_one(fleet.app.sql()).await.unwrap()
}

#[tokio::test]
async fn how_long_a_call_took_is_kept_for_the_next_one_like_it() {
    let fleet = Fleet::new().await;
    let run = fleet.start("x").await;
    let lease = fleet.claim("w1").await;
    let db = &fleet.app.worker_db;
    let in_call = after(&[CALL]);
    let call = in_call.call().unwrap().clone();
    assert_eq!(db.append(&lease, &batch(1, in_call.clone())).await.unwrap(), None);
    for took_s in [90, 4000, 300] {
        db.call_took(&lease, &call, Duration::from_secs(took_s)).await.unwrap();
    }
    let longest = Some(Duration::from_secs(4000));
    assert_eq!(db.append(&lease, &batch(2, in_call.clone())).await.unwrap(), longest);
    assert_eq!(db.append(&lease, &batch(2, in_call.clone())).await.unwrap(), longest, "sent again");
    assert_eq!(fleet.run(run).await.watch.usual, longest);
    let other = after(&[&CALL.replace("cargo test", "cargo run")]);
    assert_eq!(db.append(&lease, &batch(3, other)).await.unwrap(), None);
    assert_eq!(db.append(&lease, &batch(4, after(&[]))).await.unwrap(), None);
    assert_eq!(fleet.run(run).await.watch.usual, None);
    sql(
        &fleet,
        "insert into usual_calls (agent_id, tool, gist, longest_s, at)
         select agent_id, 'Bash', 'call ' || n, 60, now() - n * interval '1 minute'
         from usual_calls, generate_series(1, 900) n",
    )
    .await;
    db.call_took(&lease, &call, Duration::from_secs(90)).await.unwrap();
    let kept = times_kept(&fleet).await;
    assert!((300..310).contains(&kept), "{kept} are kept");
    assert_eq!(db.append(&lease, &batch(5, in_call)).await.unwrap(), longest, "the newest are");
}

#[tokio::test]
async fn a_worker_keeps_the_time_of_a_call_that_took_over_a_minute_and_of_no_other() {
    let fleet = Fleet::new().await;
    let first = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    fleet.engine.print(run.0, CALL);
    fleet.engine.print(run.0, BACK);
    fleet.engine.print(run.0, CALL);
    fleet.until(run, "in a call", |run| run.events == 3).await;
    assert_eq!(times_kept(&fleet).await, 0);
    first.kill();
    sql(
        &fleet,
        "update runs set activity = jsonb_set(activity::jsonb, '{open,0,since}',
             to_jsonb(to_char(now() at time zone 'utc' - interval '95 s', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')))",
    )
    .await;
    let _second = fleet.worker("w1").await;
    fleet.engine.print(run.0, BACK);
    until("kept", async || times_kept(&fleet).await == 1).await;
    let longest: i64 =
        sqlx::query_scalar("select longest_s from usual_calls").fetch_one(fleet.app.sql()).await.unwrap();
    assert!((95..120).contains(&longest), "{longest}");
}

/// The same call, three times.
fn loops(fleet: &Fleet, run: RunId) {
    for line in [CALL, BACK].repeat(3) {
        fleet.engine.print(run.0, line);
    }
}

#[tokio::test]
async fn what_is_stuck_is_stopped_by_itself_only_where_its_agent_says_so() {
    let fleet = Fleet::new().await;
    sql(&fleet, "update agents set same_calls = 3").await;
    let _worker = fleet.worker("w1").await;
    let ada = fleet.app.superuser().await;
    let left = fleet.start("x").await;
    fleet.until_running(left).await;
    sql(&fleet, "update agents set stops_stuck = true").await;
    let (stopped, works) = (fleet.start("y").await, fleet.start("z").await);
    for run in [stopped, works] {
        fleet.until_running(run).await;
    }
    fleet.engine.print(works.0, CALL);
    loops(&fleet, left);
    loops(&fleet, stopped);
    let over = fleet.until_over(stopped).await;
    assert_eq!((over.outcome, over.stop), (Some(Outcome::Failed), None));
    assert_eq!(over.evidence.unwrap().step, Step::Sigint);
    let reason = over.reason.unwrap();
    assert!(reason.starts_with("Stuck, and stopped by itself: The same call 3 times in a row"), "{reason}");
    let noted: Vec<(String, String)> =
        sqlx::query_as("select who, detail from audit where what = 'stopped by itself'")
            .fetch_all(fleet.app.sql())
            .await
            .unwrap();
    assert_eq!(noted, [("worker w1".to_owned(), reason)]);
    let other = fleet.until(left, "stuck", |run| run.events == 6).await;
    assert_eq!(other.state, State::Running, "it is only said");
    let page = ada.get(&format!("/runs/{left}")).await;
    assert_eq!(attribute(&page, "data-stuck"), "same_call");
    assert!(page.body.contains("Stop it, and say in a new prompt"), "{}", page.body);
    assert_eq!(fleet.run(works).await.state, State::Running);
    assert!(!ada.get(&format!("/runs/{works}")).await.body.contains("data-stuck"));
}

/// Columns of a run that lives, with these in place of or beside the usual ones.
fn living<'a>(columns: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let usual = RUNNING.iter().filter(|(column, _)| columns.iter().all(|(given, _)| given != column));
    usual.chain(columns).copied().collect()
}

#[tokio::test]
async fn a_list_says_of_each_run_what_it_is_in_and_whether_it_is_stuck() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let heard = ("last_event_at", "now() - interval '750 s'");
    let call = sample::in_call("Bash", "cargo test", 750);
    let (quiet, in_call) = (living(&[heard]), living(&[heard, ("activity", &call)]));
    assert!(!ada.get("/").await.body.contains("data-stuck"));
    let busy = sample::run(&app, &in_call).await;
    let list = ada.get("/").await;
    assert!(!list.body.contains("data-stuck") && list.body.contains("Nothing needs you."), "{}", list.body);
    let doing = "<b>Bash</b>: <code>cargo test</code><span>, <time ";
    assert!(list.body.contains(doing) && list.body.contains(">12 min"), "{}", list.body);

    let stuck = sample::run(&app, &quiet).await;
    let note = "No output for 12 min; its limit is 10 min.";
    // What every page says of the fleet is remembered for a second.
    until("counted", async || ada.get("/").await.body.contains("1 stuck")).await;
    let list = ada.get("/").await;
    assert_eq!(attributes(&list, "data-stuck"), ["quiet"]);
    for said in [
        note,
        ">Stuck</span> <span class=\"wait word\">12 min",
        "row wait alarm",
        "1 stuck",
        "One run needs you.",
    ] {
        assert!(list.body.contains(said), "{said} isn't in {}", list.body);
    }
    let page = ada.get(&format!("/runs/{stuck}")).await;
    assert_eq!(attribute(&page, "data-stuck"), "quiet");
    assert!(page.body.contains(note) && page.body.contains("Read its last words"), "{}", page.body);
    assert!(!ada.get(&format!("/runs/{busy}")).await.body.contains("data-stuck"));

    // Of one that is to stop the stop is what counts; one in trouble can't be heard; one that has ended lives no more.
    sqlx::query("update runs set state = 'ended', outcome = 'failed', end_step = 'by_itself', confirmed_at = now(), ended_at = now()")
        .execute(app.sql())
        .await
        .unwrap();
    sample::run(&app, &[&quiet[..], STOP].concat()).await;
    sample::run(&app, &living(&[heard, ("trouble", "'The engine doesn’t answer.'")])).await;
    until("no longer counted", async || !ada.get("/").await.body.contains("1 stuck")).await;
    let list = ada.get("/").await;
    assert!(!list.body.contains("data-stuck"), "{}", list.body);
    assert!(!list.body.contains(doing));
}

#[tokio::test]
async fn a_worker_that_misses_a_renewal_is_said_to_be_silent() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let lease = |s: i32| format!("now() + interval '{s} s'");
    let (late, fresh) = (lease(14), lease(29));
    let silent = sample::run(&app, &living(&[("lease_until", &late)])).await;
    let well = sample::run(&app, &living(&[("lease_until", &fresh)])).await;
    let page = ada.get(&format!("/runs/{silent}")).await;
    assert_eq!(attribute(&page, "data-stuck"), "worker_silent");
    assert!(page.body.contains("Look at its worker.") && page.body.contains("href=\"/workers\""));
    assert!(!ada.get(&format!("/runs/{well}")).await.body.contains("data-stuck"));
}

#[tokio::test]
async fn a_hostile_call_is_stored_and_shown_inert() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("w1").await;
    let ada = fleet.app.superuser().await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    let hostile = CALL
        .replace("\"a\"", r#""\u0000a""#)
        .replace("Bash", r"<b>\u0000\u202eBash")
        .replace("cargo test", &format!(r"</code><script>\u0000{}", "x".repeat(5000)));
    fleet.engine.print(run.0, &hostile);
    let in_call = fleet.until(run, "in a call", |run| tool(run).is_some()).await;
    let call: &Call = in_call.watch.activity.call().unwrap();
    assert!(call.gist.chars().count() <= 161 && !call.gist.contains('\0'), "{}", call.gist);
    let list = ada.get("/").await;
    assert!(
        list.body.contains("&#60;b&#62;␀⟨U+202E⟩Bash") && !list.body.contains("<script>"),
        "{}",
        list.body
    );
}
