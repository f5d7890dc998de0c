//! One fault at a time on the real engine and the real worker, where it hurts most: under living containers, and in the
//! middle of a stop.

use std::time::Duration;

use sqlx::raw_sql;
use time::OffsetDateTime;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::faults::{Fault, Nemesis};
use crate::kin;
use crate::observer::container_of;
use crate::planted::Stage;
use crate::wire::Is;
use crate::world::{Plan, random};

/// What is made good must be so within this.
const GOOD_WITHIN: Duration = Duration::from_secs(5);
/// Longer than any of these tests.
const FOR_LONG: Duration = Duration::from_secs(600);

/// A fault that lasts until it is undone.
struct Broken {
    nemesis: Nemesis,
    lasts: JoinHandle<()>,
}

impl Broken {
    /// Befalls the engine, and waits until it does nothing more.
    async fn engine(stage: &Stage, fault: Fault) -> Self {
        let processes = stage.world.engine.lock().await.pids();
        let nemesis = Nemesis::of(&stage.world);
        let own = nemesis.clone();
        let lasts = tokio::spawn(async move { own.inflict(fault, 0, FOR_LONG).await });
        let still = |pid: &i32| kin::stat(*pid).is_none_or(|(state, _)| matches!(state, 'T' | 'Z' | 'X'));
        until("befallen", async || processes.iter().all(still)).await;
        Self { nemesis, lasts }
    }

    /// Freezes Redis, and waits until it answers nobody.
    async fn redis(stage: &Stage) -> Self {
        let nemesis = Nemesis::of(&stage.world);
        let own = nemesis.clone();
        let lasts = tokio::spawn(async move { own.inflict(Fault::RedisFrozen, 0, FOR_LONG).await });
        let pids = stage.world.redis.lock().await.pids();
        let still = |pid: &i32| kin::stat(*pid).is_some_and(|(state, _)| state == 'T');
        until("frozen", async || pids.iter().all(still)).await;
        Self { nemesis, lasts }
    }

    /// Undoes it; comes back when the engine is back.
    async fn heal(self) {
        self.nemesis.heal.cancel();
        self.lasts.await.unwrap();
    }
}

/// What the database holds of a run.
#[derive(Debug, sqlx::FromRow)]
struct Row {
    state: String,
    outcome: Option<String>,
    exit_code: Option<i64>,
    container: Option<String>,
    wish_at: Option<OffsetDateTime>,
    egress_cut_at: Option<OffsetDateTime>,
    host_killed_at: Option<OffsetDateTime>,
    stop_step: Option<String>,
    stop_trouble: Option<String>,
}

async fn row(stage: &Stage, run: i64) -> Row {
    let asked = sqlx::query_as("select * from runs where id = $1");
    asked.bind(run).fetch_one(&stage.world.sql).await.unwrap()
}

async fn container(stage: &Stage, run: i64) -> String {
    row(stage, run).await.container.expect("a container")
}

/// How many processes live in a container, by the kernel's word.
fn living(container: &str) -> usize {
    kin::pids().filter(|pid| kin::lives(*pid) && container_of(*pid).as_deref() == Some(container)).count()
}

async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + GOOD_WITHIN;
    while !so().await {
        assert!(Instant::now() < deadline, "not {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn is_over_in_time(stage: &Stage, run: i64) -> Row {
    let over = async || row(stage, run).await.state == "ended";
    until(&format!("over, run {run}"), over).await;
    row(stage, run).await
}

async fn ends_in_time(stage: &Stage, run: i64, outcome: &str) -> Row {
    let row = is_over_in_time(stage, run).await;
    assert_eq!(row.outcome.as_deref(), Some(outcome), "{row:?}");
    row
}

/// Stops a run by force while the engine is away: cut off within a second and dead by the host, and nobody says that it
/// is over.
async fn dies_unconfirmed(stage: &Stage, run: i64) {
    let container = container(stage, run).await;
    stage.thumbs.stop(run, true).await;
    until("dead by the host", async || living(&container) == 0).await;
    until("explained", async || row(stage, run).await.stop_trouble.is_some()).await;
    stage.thumbs.look(run).await;
    let row = row(stage, run).await;
    assert_eq!((row.state.as_str(), &row.outcome), ("running", &None), "{row:?}");
    assert!(row.host_killed_at.is_some() && row.stop_trouble.unwrap().contains("engine doesn't answer"));
    let cut = row.egress_cut_at.expect("the gate is closed") - row.wish_at.unwrap();
    assert!(cut < time::Duration::SECOND, "cut off after {cut}");
}

/// Wishes of a run's stops, by the audit.
async fn clicks_noted(stage: &Stage, run: i64) -> i64 {
    let noted = "select count(*) from audit where run_id = $1 and what like 'stop wished%'";
    sqlx::query_scalar(noted).bind(run).fetch_one(&stage.world.sql).await.unwrap()
}

/// Twelve runs on three workers, stopped by a click each while something is away: all are proven dead within 5 s of its
/// return, and each click is in the audit once.
pub(crate) async fn a_crowd_is_dead_within_five_seconds_of_the_return_of_what_was_away() {
    let stage = Stage::set(Plan { workers: vec!["a", "b", "c"], start: 3, ..Plan::default() }).await;
    for fault in [Fault::RedisFrozen, Fault::EngineFrozen, Fault::WorkerKilled] {
        let starting = (0..12).map(|_| stage.running());
        let runs = futures_util::future::join_all(starting).await;
        let seat = &stage.world.seats[0];
        let broken = match fault {
            Fault::EngineFrozen => Some(Broken::engine(&stage, fault).await),
            Fault::RedisFrozen => Some(Broken::redis(&stage).await),
            _ => {
                stage.world.kill_worker(seat).await;
                None
            }
        };
        futures_util::future::join_all(runs.iter().map(|run| stage.thumbs.stop(*run, true))).await;
        match broken {
            Some(broken) => broken.heal().await,
            None => stage.world.start_worker(seat).await,
        }
        until(&format!("all over after {fault:?}"), async || {
            let living =
                "select count(*) from runs where id = any($1) and outcome is distinct from 'terminated'";
            let living: i64 =
                sqlx::query_scalar(living).bind(&runs).fetch_one(&stage.world.sql).await.unwrap();
            living == 0
        })
        .await;
        for run in runs {
            assert_eq!(clicks_noted(&stage, run).await, 1, "run {run} after {fault:?}");
        }
    }
    assert_eq!(stage.judged().await, []);
}

async fn stage() -> Stage {
    Stage::set(Plan { workers: vec!["box"], start: 1, ..Plan::default() }).await
}

pub(crate) async fn an_engine_frozen_during_a_stop_is_waited_for_and_believed_when_it_thaws() {
    let stage = stage().await;
    let run = stage.running().await;
    let frozen = Broken::engine(&stage, Fault::EngineFrozen).await;
    dies_unconfirmed(&stage, run).await;
    frozen.heal().await;
    ends_in_time(&stage, run, "terminated").await;
    assert_eq!(stage.judged().await, []);
}

pub(crate) async fn an_engine_killed_under_living_containers_brings_none_of_them_back() {
    let stage = stage().await;
    let (stopped, other) = (stage.running().await, stage.running().await);
    let (its, others) = (container(&stage, stopped).await, container(&stage, other).await);
    let killed = Broken::engine(&stage, Fault::EngineKilled).await;
    dies_unconfirmed(&stage, stopped).await;
    assert!(living(&others) > 0 && row(&stage, other).await.state == "running", "it needs no engine to live");
    killed.heal().await;
    // An engine that wasn't there for the death may not know its exit code any more, and says 255.
    let row = is_over_in_time(&stage, stopped).await;
    let word = (row.outcome.as_deref().unwrap(), row.exit_code.unwrap());
    assert!([("terminated", 137), ("terminated", 255)].contains(&word), "{row:?}");
    // Without `live-restore` the engine ends what it finds alive.
    ends_in_time(&stage, other, "failed").await;
    assert_eq!(living(&its) + living(&others), 0);
    assert_eq!(stage.judged().await, []);
}

pub(crate) async fn an_engine_restarted_under_a_living_container_ends_it_for_good() {
    let stage = stage().await;
    let run = stage.thumbs.start("long 0", &random(8)).await.expect("a run");
    stage.until(run, "running").await;
    let container = container(&stage, run).await;
    Broken::engine(&stage, Fault::EngineRestarted).await.heal().await;
    let row = ends_in_time(&stage, run, "failed").await;
    assert_eq!((row.exit_code, living(&container)), (Some(143), 0), "as the engine reports it");
    assert_eq!(stage.judged().await, []);
}

/// Starts the worker and waits until it is ready.
async fn revive(stage: &Stage) {
    let seat = &stage.world.seats[0];
    stage.world.start_worker(seat).await;
    seat.program.lock().await.as_mut().unwrap().0.ready().await;
}

pub(crate) async fn a_worker_killed_after_its_claim_and_in_the_middle_of_stops_finishes_them_in_its_next_life()
 {
    let stage = stage().await;
    let seat = &stage.world.seats[0];
    let brisk = "update agents set sigint_ms = 1000, sigterm_ms = 1000";
    raw_sql(brisk).execute(&stage.world.sql).await.unwrap();

    // Between the claim and the container.
    seat.engine.set(Is::Cut);
    let run = stage.thumbs.start("stubborn 0", &random(8)).await.expect("a run");
    stage.until(run, "starting").await;
    stage.world.kill_worker(seat).await;
    assert_eq!(row(&stage, run).await.container, None);
    seat.engine.set(Is::Whole);
    revive(&stage).await;
    stage.until(run, "running").await;

    // Right after the click.
    stage.thumbs.stop(run, false).await;
    stage.world.kill_worker(seat).await;
    revive(&stage).await;
    ends_in_time(&stage, run, "terminated").await;

    // Between two rungs.
    let run = stage.running().await;
    stage.thumbs.stop(run, false).await;
    until("on the first rung", async || row(&stage, run).await.stop_step.as_deref() == Some("sigint")).await;
    stage.world.kill_worker(seat).await;
    revive(&stage).await;
    ends_in_time(&stage, run, "terminated").await;

    // On the second one.
    let run = stage.running().await;
    stage.thumbs.stop(run, false).await;
    until("on the second rung", async || row(&stage, run).await.stop_step.as_deref() == Some("sigterm"))
        .await;
    stage.world.kill_worker(seat).await;
    revive(&stage).await;
    ends_in_time(&stage, run, "terminated").await;

    // While the evidence is on its way to Postgres.
    let run = stage.running().await;
    let its = container(&stage, run).await;
    seat.postgres.set(Is::Hanging);
    stage.thumbs.stop(run, true).await;
    until("dead", async || living(&its) == 0).await;
    stage.world.kill_worker(seat).await;
    assert_eq!(row(&stage, run).await.state, "running", "nobody could have written more");
    seat.postgres.set(Is::Whole);
    revive(&stage).await;
    ends_in_time(&stage, run, "terminated").await;

    // Between the last signal and the evidence.
    let run = stage.running().await;
    let container = container(&stage, run).await;
    seat.engine.set(Is::Hanging);
    stage.thumbs.stop(run, true).await;
    until("dead", async || living(&container) == 0).await;
    until("noted", async || row(&stage, run).await.host_killed_at.is_some()).await;
    stage.world.kill_worker(seat).await;
    assert_eq!(row(&stage, run).await.state, "running", "the engine hasn't said it yet");
    seat.engine.set(Is::Whole);
    revive(&stage).await;
    ends_in_time(&stage, run, "terminated").await;
    assert_eq!(stage.judged().await, []);
}

/// In the middle of each thing that it asks of the engine: the engine does it, and nobody is told.
pub(crate) async fn a_worker_killed_while_the_engine_does_what_it_asked_neither_loses_nor_doubles_a_run() {
    let stage = stage().await;
    let seat = &stage.world.seats[0];
    for asked in ["/containers/create?", "/start HTTP/1.1", "/logs?"] {
        seat.engine.keep_answer_to(asked);
        let run = stage.thumbs.start("stubborn 0", &random(8)).await.expect("a run");
        until(asked, async || seat.engine.has_kept_it()).await;
        stage.world.kill_worker(seat).await;
        revive(&stage).await;
        stage.until(run, "running").await;
        let container = container(&stage, run).await;
        until("alive", async || living(&container) > 0).await;
        stage.thumbs.stop(run, true).await;
        ends_in_time(&stage, run, "terminated").await;
        assert_eq!(living(&container), 0);
    }

    let run = stage.running().await;
    seat.engine.keep_answer_to("DELETE /");
    stage.thumbs.stop(run, true).await;
    until("being removed", async || seat.engine.has_kept_it()).await;
    stage.world.kill_worker(seat).await;
    revive(&stage).await;
    ends_in_time(&stage, run, "terminated").await;
    assert_eq!(stage.judged().await, []);
}
