//! Stop means stopped: the ladder on a scripted engine, and the evidence that ends it.

use std::collections::BTreeSet;

use signalbox::model::run::{Outcome, State, Step, StopMode};
use signalbox::model::stop::NewStop;
use tokio::time::Instant;

use crate::fleet::Fleet;
use crate::scripted::Script;

const FLUSHED: &str = r#"{"type":"result","subtype":"error_during_execution","is_error":true,"total_cost_usd":0.5,"num_turns":4}"#;

#[tokio::test]
async fn sigint_lets_the_cli_flush_its_result() {
    let fleet = Fleet::new().await;
    fleet.engine.script(Script { last_words: Some(FLUSHED.into()), ..Script::default() });
    let _worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    fleet.stop(run, StopMode::Graceful).await;
    let over = fleet.until_over(run).await;
    let evidence = over.evidence.unwrap();
    assert_eq!((over.outcome, evidence.step), (Some(Outcome::Terminated), Step::Sigint));
    assert_eq!((over.numbers.cost_usd, over.numbers.turns), (Some(0.5), Some(4)));
    assert!(evidence.confirmed_at >= over.stop.unwrap().at);
    assert!(over.progress.delivered_at.is_some() && over.progress.egress_cut_at.is_some());
}

#[tokio::test]
async fn what_ignores_signals_is_killed() {
    let fleet = Fleet::new().await;
    fleet.engine.script(Script { ignores: BTreeSet::from(["SIGINT", "SIGTERM"]), ..Script::default() });
    let _worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    fleet.stop(run, StopMode::Graceful).await;
    let between =
        fleet.until(run, "on the second rung", |run| run.progress.step == Some(Step::Sigterm)).await;
    assert_eq!((between.state, between.is_unconfirmed()), (State::Running, true));
    assert!(between.progress.next_at.is_some() && between.evidence.is_none());
    let over = fleet.until_over(run).await;
    let evidence = over.evidence.unwrap();
    assert_eq!(
        (evidence.step, evidence.exit_code, evidence.signal()),
        (Step::Sigkill, Some(137), Some("SIGKILL"))
    );
}

#[tokio::test]
async fn force_begins_with_sigkill_and_cuts_a_graceful_stop_short() {
    let fleet = Fleet::new().await;
    fleet.engine.script(Script { ignores: BTreeSet::from(["SIGINT", "SIGTERM"]), ..Script::default() });
    let mut parts = fleet.parts("w1");
    parts.times = Default::default();
    let _worker = fleet.worker_with(parts).await;
    let (direct, second) = (fleet.start("x").await, fleet.start("y").await);
    fleet.until_running(direct).await;
    fleet.until_running(second).await;
    fleet.stop(second, StopMode::Graceful).await;
    fleet.until(second, "on the first rung", |run| run.progress.step == Some(Step::Sigint)).await;
    let began = Instant::now();
    fleet.stop(direct, StopMode::Force).await;
    fleet.stop(second, StopMode::Force).await;
    for run in [direct, second] {
        assert_eq!(fleet.until_over(run).await.evidence.unwrap().step, Step::Sigkill);
    }
    assert!(began.elapsed().as_secs() < 5, "a ladder of ten seconds was cut short");
}

#[tokio::test]
async fn a_silent_engine_leaves_the_stop_unconfirmed_with_the_reason() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    fleet.engine.silent(true);
    fleet.stop(run, StopMode::Force).await;
    let waiting = fleet.until(run, "in trouble", |run| run.progress.trouble.is_some()).await;
    assert!(waiting.is_unconfirmed() && waiting.outcome.is_none() && waiting.evidence.is_none());
    assert!(waiting.progress.egress_cut_at.is_some() && waiting.progress.next_at.is_some());
    assert!(waiting.progress.trouble.unwrap().contains("doesn't answer"));
    fleet.engine.silent(false);
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, over.evidence.unwrap().step), (Some(Outcome::Terminated), Step::Sigkill));
    assert_eq!(over.progress.trouble, None);
}

#[tokio::test]
async fn a_run_that_ended_by_itself_first_keeps_its_own_outcome() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    fleet.engine.silent(true);
    fleet.stop(run, StopMode::Force).await;
    fleet.until(run, "delivered", |run| run.progress.trouble.is_some()).await;
    fleet.engine.exit(run.0, 3);
    fleet.engine.silent(false);
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, over.evidence.unwrap().step), (Some(Outcome::Failed), Step::ByItself));
    assert!(over.reason.unwrap().contains("ended by itself before the stop reached it"));
    assert!(over.stop.is_some(), "the wish stays on record");
}

#[tokio::test]
async fn a_queued_run_never_starts() {
    let fleet = Fleet::new().await;
    let run = fleet.start("x").await;
    fleet.stop(run, StopMode::Graceful).await;
    let over = fleet.run(run).await;
    assert_eq!((over.outcome, over.evidence.unwrap().step), (Some(Outcome::Terminated), Step::NeverStarted));
    let _worker = fleet.worker("w1").await;
    let next = fleet.start("y").await;
    fleet.until_running(next).await;
    assert_eq!((fleet.engine.made(run.0), fleet.run(run).await.fence), (0, 0));
}

#[tokio::test]
async fn a_stop_wished_twice_is_one_wish_and_one_audit_row_a_click() {
    let fleet = Fleet::new().await;
    let run = fleet.start("x").await;
    let _worker = fleet.worker("w1").await;
    fleet.until_running(run).await;
    let wish = async |mode| fleet.app.db.wish_stop(&fleet.by, run, &NewStop::new(mode)).await;
    let (a, b, c) =
        tokio::join!(wish(StopMode::Graceful), wish(StopMode::Graceful), wish(StopMode::Graceful));
    let fresh = [a, b, c].into_iter().filter(|stopped| stopped.as_ref().unwrap().fresh).count();
    assert_eq!(fresh, 1);
    assert!(wish(StopMode::Force).await.unwrap().fresh, "force after graceful is a new wish");
    assert!(!wish(StopMode::Graceful).await.unwrap().fresh, "graceful after force is not");
    fleet.until_over(run).await;
    let after = wish(StopMode::Force).await.unwrap();
    assert!(after.over && !after.fresh);
    for (what, expected) in [("stop wished", 2), ("stop wished again", 3), ("stop wished too late", 1)] {
        let rows = sqlx::query_scalar("select count(*) from audit where run_id = $1 and what = $2");
        let rows: i64 = rows.bind(run.0).bind(what).fetch_one(fleet.app.sql()).await.unwrap();
        assert_eq!(rows, expected, "{what}");
    }
}

#[tokio::test]
async fn with_redis_dead_the_worker_learns_of_the_wish_within_five_seconds() {
    let fleet = Fleet::new().await;
    let url = fleet.app.database_url.clone();
    let _worker = fleet.worker_at(fleet.parts("w1"), &url, "redis://127.0.0.1:1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    let began = Instant::now();
    fleet.app.db.wish_stop(&fleet.by, run, &NewStop::new(StopMode::Force)).await.unwrap();
    fleet.until_over(run).await;
    assert!(began.elapsed().as_secs() < 5);
}
