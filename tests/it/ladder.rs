//! Stop means stopped: the ladder on a scripted engine, and the evidence that ends it.

use std::collections::BTreeSet;
use std::time::Duration;

use signalbox::engine::Engine;
use signalbox::model::run::{Cgroup, Outcome, Run, State, Step, StopMode};
use signalbox::model::work::NewStop;
use tokio::time::Instant;

use crate::fleet::{Fleet, until};
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
    // Nobody obeys before all has been wished.
    fleet.claim("w1").await;
    let wish = async |mode| fleet.app.db.wish_stop(&fleet.by, run, &NewStop::new(mode)).await;
    let (a, b, c) =
        tokio::join!(wish(StopMode::Graceful), wish(StopMode::Graceful), wish(StopMode::Graceful));
    let fresh = [a, b, c].into_iter().filter(|stopped| stopped.as_ref().unwrap().fresh).count();
    assert_eq!(fresh, 1);
    assert!(wish(StopMode::Force).await.unwrap().fresh, "force after graceful is a new wish");
    assert!(!wish(StopMode::Graceful).await.unwrap().fresh, "graceful after force is not");
    let _worker = fleet.worker("w1").await;
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

#[tokio::test]
async fn a_hanging_engine_holds_up_neither_the_gate_nor_the_hosts_own_kill() {
    let fleet = Fleet::new().await;
    fleet.engine.on_host();
    fleet.engine.script(Script { ignores: BTreeSet::from(["SIGINT", "SIGTERM"]), ..Script::default() });
    let _worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    fleet.engine.hangs(true);
    fleet.stop(run, StopMode::Graceful).await;
    until("killed by the host", async || fleet.engine.alive().is_empty()).await;
    let noted = |run: &Run| run.progress.host_killed_at.is_some() && run.progress.trouble.is_some();
    let between = fleet.until(run, "noted", noted).await;
    assert!(between.is_unconfirmed() && between.outcome.is_none() && between.evidence.is_none());
    let wished = between.stop.unwrap().at;
    let cut = between.progress.egress_cut_at.unwrap();
    assert!(cut - wished < time::Duration::SECOND, "the gate closed {} later", cut - wished);
    assert_eq!(between.progress.delivered_to.as_deref(), Some("w1"));
    fleet.engine.hangs(false);
    let over = fleet.until_over(run).await;
    let evidence = over.evidence.unwrap();
    assert_eq!((over.outcome, evidence.step), (Some(Outcome::Terminated), Step::HostKill));
    assert_eq!((evidence.exit_code, evidence.cgroup), (Some(137), Some(Cgroup::Gone)));
}

#[tokio::test]
async fn a_stop_wished_while_the_engine_hangs_over_the_start_closes_the_gate_at_once() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("w1").await;
    fleet.engine.hangs(true);
    let run = fleet.start("x").await;
    fleet.until(run, "claimed", |run| run.state == State::Starting).await;
    fleet.stop(run, StopMode::Force).await;
    let between = fleet.until(run, "cut off", |run| run.progress.egress_cut_at.is_some()).await;
    assert!(between.progress.egress_cut_at.unwrap() - between.stop.unwrap().at < time::Duration::SECOND);
    fleet.engine.hangs(false);
    let over = fleet.until_over(run).await;
    assert_eq!(over.outcome, Some(Outcome::Terminated));
    assert!(fleet.engine.alive().is_empty());
}

#[tokio::test]
async fn what_outlives_the_engines_report_is_killed_before_the_end_is_written() {
    let fleet = Fleet::new().await;
    fleet.engine.on_host();
    let _worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    fleet.engine.survivors(3);
    fleet.engine.exit(run.0, 0);
    let over = fleet.until_over(run).await;
    assert_eq!(over.evidence.unwrap().cgroup, Some(Cgroup::Gone));
    assert_eq!(fleet.engine.left("any").await, signalbox::engine::Left::Gone, "nobody is left");
}

#[tokio::test]
async fn a_run_that_lives_on_after_its_result_is_stopped_and_marked_and_noted() {
    let fleet = Fleet::new().await;
    let result = r#"{"type":"result","subtype":"success","is_error":false,"result":"done","num_turns":1}"#;
    fleet.engine.script(Script { prints: vec![result.to_owned()], ..Script::default() });
    let mut parts = fleet.parts("w1");
    parts.times.ladder.as_mut().unwrap().linger = Duration::from_millis(600);
    let _worker = fleet.worker_with(parts).await;
    let run = fleet.start("x").await;
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, over.stop), (Some(Outcome::Succeeded), None));
    assert!(over.reason.unwrap().contains("didn't exit after its result"));
    assert_eq!(over.evidence.unwrap().step, Step::Sigint);
    let lasted = over.ended_at.unwrap() - over.started_at.unwrap();
    assert!(lasted >= time::Duration::milliseconds(500), "{lasted}");
    let noted: Vec<(String, String)> =
        sqlx::query_as("select who, what from audit where run_id = $1 and what <> 'run started'")
            .bind(run.0)
            .fetch_all(fleet.app.sql())
            .await
            .unwrap();
    assert_eq!(noted, [("worker w1".to_owned(), "stopped by itself".to_owned())]);
}

#[tokio::test]
async fn an_agents_own_ladder_is_what_its_runs_get() {
    let fleet = Fleet::new().await;
    fleet.engine.script(Script { ignores: BTreeSet::from(["SIGINT"]), ..Script::default() });
    let slow = "update agents set sigint_ms = 120000, sigterm_ms = 60000";
    sqlx::query(slow).execute(fleet.app.sql()).await.unwrap();
    let mut parts = fleet.parts("w1");
    parts.times.ladder = None;
    let _worker = fleet.worker_with(parts).await;
    let patient = fleet.start("x").await;
    fleet.until_running(patient).await;
    sqlx::query("update agents set sigint_ms = 300").execute(fleet.app.sql()).await.unwrap();
    let brisk = fleet.start("y").await;
    fleet.until_running(brisk).await;
    fleet.stop(patient, StopMode::Graceful).await;
    fleet.stop(brisk, StopMode::Graceful).await;
    assert_eq!(fleet.until_over(brisk).await.evidence.unwrap().step, Step::Sigterm);
    let waiting = fleet.run(patient).await;
    assert!(waiting.is_unconfirmed() && waiting.progress.step == Some(Step::Sigint), "{waiting:?}");
    let out_of_bounds = "update agents set sigint_ms = 120001";
    assert!(sqlx::query(out_of_bounds).execute(fleet.app.sql()).await.is_err());
}
