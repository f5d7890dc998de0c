//! Stop means stopped: the ladder on a scripted engine, and the evidence that ends it.

use std::collections::BTreeSet;
use std::time::Duration;

use signalbox::clock;
use signalbox::engine::{Engine, Error};
use signalbox::model::run::{Cgroup, LadderTimes, Outcome, Run, RunId, State, Step, StopMode, StopProgress};
use signalbox::model::work::NewStop;
use tokio::time::Instant;

use crate::fleet::{Fleet, Working, until};
use crate::scripted::{Moment, Script};

const DONE: &str = r#"{"type":"result","subtype":"success","is_error":false,"result":"done","num_turns":1}"#;
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
    let evidence = over.evidence.clone().unwrap();
    assert_eq!((over.outcome, evidence.step), (Some(Outcome::Terminated), Step::Sigint));
    assert_eq!((over.numbers.cost_usd, over.numbers.turns), (Some(0.5), Some(4)));
    assert!(evidence.confirmed_at >= over.stop.as_ref().unwrap().at);
    assert!(over.delivered_at().is_some() && over.progress.egress_cut_at.is_some());
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
    assert!(over.reason.unwrap().contains("no signal of that is behind its end"));
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
    fleet.engine.script(Script { ignores: BTreeSet::from(["SIGINT", "SIGTERM"]), ..Script::default() });
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
    let stop = between.stop.unwrap();
    let wished = stop.at;
    let cut = between.progress.egress_cut_at.unwrap();
    assert!(cut - wished < time::Duration::SECOND, "the gate closed {} later", cut - wished);
    assert_eq!(stop.delivered_to.as_deref(), Some("w1"));
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

/// Starts a run whose start the engine has done and not answered.
async fn half_started(fleet: &Fleet) -> RunId {
    fleet.engine.sticks(Some(("start", Moment::After)));
    let run = fleet.start("x").await;
    until("started", async || fleet.engine.is_stuck()).await;
    run
}

#[tokio::test]
async fn what_the_host_kills_while_the_engine_starts_it_is_terminated_by_that() {
    let fleet = Fleet::new().await;
    fleet.engine.on_host();
    let _worker = fleet.worker("w1").await;
    let run = half_started(&fleet).await;
    fleet.stop(run, StopMode::Force).await;
    until("killed by the host", async || fleet.engine.alive().is_empty()).await;
    fleet.engine.sticks(None);
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, over.evidence.unwrap().exit_code), (Some(Outcome::Terminated), Some(137)));
    assert!(over.progress.host_killed_at.is_some());
}

#[tokio::test]
async fn a_graceful_stop_begins_with_the_first_rung_also_when_the_start_takes_its_time() {
    let fleet = Fleet::new().await;
    fleet.engine.on_host();
    let _worker = fleet.worker("w1").await;
    let run = half_started(&fleet).await;
    fleet.stop(run, StopMode::Graceful).await;
    let told = fleet.until(run, "told", |run| run.delivered_at().is_some()).await;
    // As long as a busy machine takes, and more than a force stop waits for.
    let later = told.delivered_at().unwrap() + Duration::from_millis(900);
    until("later", async || clock::now() > later).await;
    fleet.engine.sticks(None);
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, over.evidence.unwrap().step), (Some(Outcome::Terminated), Step::Sigint));
    assert_eq!(over.progress.host_killed_at, None);
}

#[tokio::test]
async fn one_that_is_started_again_behind_its_workers_back_is_stopped() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("w1").await;
    let (run, other) = (fleet.start("x").await, fleet.start("y").await);
    fleet.until_running(run).await;
    fleet.until_running(other).await;
    fleet.engine.answers(Some(("wait", || Error::Restarted)));
    let over = async || fleet.engine.alive().len() == 1;
    until("stopped", over).await;
    let which = if fleet.engine.alive() == [run.0] { other } else { run };
    let over = fleet.until_over(which).await;
    assert_eq!((over.outcome, over.evidence.unwrap().step), (Some(Outcome::Failed), Step::Sigkill));
    assert!(over.reason.unwrap().contains("started again"), "it says so");
    assert_eq!(audit(&fleet, which).await.len(), 1, "what its worker did by itself is noted");
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
    fleet.engine.script(Script { prints: vec![DONE.to_owned()], ..Script::default() });
    let _worker = impatient(&fleet).await;
    let run = fleet.start("x").await;
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, over.stop), (Some(Outcome::Succeeded), None));
    assert!(over.reason.unwrap().contains("didn't exit after its result"));
    assert_eq!(over.evidence.unwrap().step, Step::Sigint);
    let lasted = over.ended_at.unwrap() - over.started_at.unwrap();
    assert!(lasted >= time::Duration::milliseconds(500), "{lasted}");
    assert_eq!(audit(&fleet, run).await, [LINGERED]);
}

/// A worker that waits 600 ms after a result.
async fn impatient(fleet: &Fleet) -> Working {
    let mut parts = fleet.parts("w1");
    parts.times.ladder.as_mut().unwrap().linger = Duration::from_millis(600);
    fleet.worker_with(parts).await
}

const LINGERED: &str = "worker w1: stopped by itself: It didn't exit after its result.";

/// What the audit says of a run, but for its start.
async fn audit(fleet: &Fleet, run: RunId) -> Vec<String> {
    let rows = sqlx::query_scalar(
        "select concat_ws(': ', who, what, detail) from audit where run_id = $1 and what <> 'run started' order by id",
    );
    rows.bind(run.0).fetch_all(fleet.app.sql()).await.unwrap()
}

#[tokio::test]
async fn one_that_answers_its_workers_sigint_with_0_is_marked_and_noted_all_the_same() {
    let fleet = Fleet::new().await;
    fleet.engine.script(Script { prints: vec![DONE.to_owned()], interrupted: Some(0), ..Script::default() });
    let _worker = impatient(&fleet).await;
    let run = fleet.start("x").await;
    let over = fleet.until_over(run).await;
    let evidence = over.evidence.unwrap();
    assert_eq!((over.outcome, evidence.step), (Some(Outcome::Succeeded), Step::Sigint));
    assert_eq!(evidence.exit_code, Some(0));
    assert!(over.reason.unwrap().contains("didn't exit after its result, and was stopped"));
    assert_eq!(audit(&fleet, run).await, [LINGERED]);
    let ada = fleet.app.superuser().await;
    let page = ada.get(&format!("/runs/{}", run.0)).await;
    assert!(
        page.body.contains("Its worker stopped it") && page.body.contains("after SIGINT"),
        "{}",
        page.body
    );

    let by_itself = fleet.start("y").await;
    fleet.until_running(by_itself).await;
    fleet.engine.exit(by_itself.0, 0);
    let over = fleet.until_over(by_itself).await;
    assert_eq!(over.evidence.unwrap().step, Step::ByItself);
    assert!(audit(&fleet, by_itself).await.is_empty(), "nobody stopped it");
}

#[tokio::test]
async fn one_that_passes_its_time_limit_and_exits_0_says_that_it_was_stopped() {
    let fleet = Fleet::new().await;
    sqlx::query("update agents set time_s = 1").execute(fleet.app.sql()).await.unwrap();
    fleet.engine.script(Script { interrupted: Some(0), last_words: Some(DONE.into()), ..Script::default() });
    let _worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, over.evidence.unwrap().step), (Some(Outcome::Succeeded), Step::Sigint));
    assert!(over.reason.unwrap().contains("was stopped. Its agent's time limit was reached."));
    let noted = "worker w1: stopped by itself: Its agent's time limit was reached.";
    assert_eq!(audit(&fleet, run).await, [noted]);
}

#[tokio::test]
async fn a_stop_that_a_worker_began_by_itself_is_noted_once_whatever_comes_of_it() {
    let fleet = Fleet::new().await;
    let ignores = BTreeSet::from(["SIGINT", "SIGTERM"]);
    fleet.engine.script(Script { prints: vec![DONE.to_owned()], ignores, ..Script::default() });
    let mut parts = fleet.parts("w1");
    let patient = Duration::from_secs(60);
    parts.times.ladder =
        Some(LadderTimes { linger: Duration::from_millis(300), sigint: patient, ..LadderTimes::default() });
    let _worker = fleet.worker_with(parts).await;
    let [wished, vanished, ended] = [fleet.start("x").await, fleet.start("y").await, fleet.start("z").await];
    for run in [wished, vanished, ended] {
        fleet.until(run, "on the first rung", |run| run.progress.step == Some(Step::Sigint)).await;
        assert_eq!(audit(&fleet, run).await, [LINGERED], "while it is being stopped");
    }
    fleet.stop(wished, StopMode::Force).await;
    fleet.engine.vanish(vanished.0);
    fleet.engine.exit(ended.0, 3);
    assert_eq!(fleet.until_over(wished).await.evidence.unwrap().step, Step::Sigkill);
    assert_eq!(audit(&fleet, wished).await, [LINGERED, "ada: stop wished: force"], "a wish came after it");
    assert_eq!(fleet.until_over(vanished).await.evidence.unwrap().step, Step::Absent);
    assert_eq!(audit(&fleet, vanished).await, [LINGERED]);
    fleet.until_over(ended).await;
    assert_eq!(audit(&fleet, ended).await, [LINGERED]);
}

#[tokio::test]
async fn a_new_life_forgets_no_rung_before_it_has_tried_one() {
    let fleet = Fleet::new().await;
    let run = fleet.start("x").await;
    let lease = fleet.claim("w1").await;
    let db = &fleet.app.worker_db;
    let tried =
        |step| StopProgress { step: Some(step), step_at: Some(clock::now()), ..StopProgress::default() };
    db.progress(&lease, &tried(Step::Sigterm)).await.unwrap();
    let noted = fleet.run(run).await.progress;
    let next = db.adopt(&fleet.place("w1"), run).await.unwrap().unwrap();
    assert_eq!(next.step, Some(Step::Sigterm));
    let first = StopProgress { egress_cut_at: Some(clock::now()), ..StopProgress::default() };
    db.progress(&next.lease, &first).await.unwrap();
    let kept = fleet.run(run).await.progress;
    assert_eq!((kept.step, kept.step_at), (Some(Step::Sigterm), noted.step_at));
    db.progress(&next.lease, &tried(Step::Sigkill)).await.unwrap();
    assert_eq!(fleet.run(run).await.progress.step, Some(Step::Sigkill));
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
