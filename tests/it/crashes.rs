//! A worker that is killed between any two of its steps: its next life goes on, nothing is doubled, nothing is claimed that
//! isn't so.

use signalbox::model::run::{Outcome, Run, RunId, State, StopMode};

use crate::fleet::{Fleet, Working, until};
use crate::scripted::{Moment, Script};

/// Starts a worker and kills it in the middle of its next call of this name.
async fn killed_in(fleet: &Fleet, worker: Working, call: &'static str, run: RunId) {
    until(call, async || fleet.engine.is_stuck()).await;
    assert!(!fleet.run(run).await.state.is_over(), "nothing is proven yet");
    worker.kill();
    fleet.engine.sticks(None);
}

/// What holds of a run that was to be stopped, whatever happened on the way.
async fn is_terminated(fleet: &Fleet, run: RunId) -> Run {
    let over = fleet.until_over(run).await;
    assert_eq!(over.outcome, Some(Outcome::Terminated), "{over:?}");
    assert!(fleet.engine.alive().is_empty());
    assert!(fleet.engine.made(run.0) <= 1, "no second container");
    let wishes: i64 =
        sqlx::query_scalar("select count(*) from audit where run_id = $1 and what = 'stop wished'")
            .bind(run.0)
            .fetch_one(fleet.app.sql())
            .await
            .unwrap();
    assert_eq!(wishes, 1);
    over
}

#[tokio::test]
async fn killed_before_and_after_the_create_a_run_still_runs_once() {
    for moment in [Moment::Before, Moment::After] {
        let fleet = Fleet::new().await;
        fleet.engine.sticks(Some(("start", moment)));
        let worker = fleet.worker("w1").await;
        let run = fleet.start("x").await;
        killed_in(&fleet, worker, "start", run).await;
        let _next = fleet.worker("w1").await;
        fleet.until_running(run).await;
        assert_eq!(fleet.engine.made(run.0), 1, "{moment:?}");
    }
}

#[tokio::test]
async fn killed_right_after_the_claim_the_run_goes_back_to_the_queue() {
    let fleet = Fleet::new().await;
    let run = fleet.start("x").await;
    fleet.claim("w1").await;
    assert_eq!(fleet.run(run).await.state, State::Starting);
    let _worker = fleet.worker("w1").await;
    let running = fleet.until_running(run).await;
    assert!(running.fence >= 2 && fleet.engine.made(run.0) == 1);
}

#[tokio::test]
async fn killed_on_every_rung_the_next_life_knows_what_the_stop_had_tried() {
    for (ignored, code) in [(vec!["SIGINT"], 143), (vec!["SIGINT", "SIGTERM"], 137)] {
        let fleet = Fleet::new().await;
        fleet.engine.script(Script { ignores: ignored.iter().copied().collect(), ..Script::default() });
        let worker = fleet.worker("w1").await;
        let run = fleet.start("x").await;
        fleet.until_running(run).await;
        fleet.stop(run, StopMode::Graceful).await;
        // The signal that ends it is sent, and its answer never heard.
        let last = async || fleet.engine.signals(run.0).len() == ignored.len();
        until("on the last rung but one", last).await;
        fleet.engine.sticks(Some(("signal", Moment::After)));
        until("stuck", async || fleet.engine.is_stuck() || fleet.run(run).await.state.is_over()).await;
        worker.kill();
        fleet.engine.sticks(None);
        let _next = fleet.worker("w1").await;
        assert_eq!(is_terminated(&fleet, run).await.evidence.unwrap().exit_code, Some(code));
    }
}

#[tokio::test]
async fn killed_before_a_signal_is_sent_the_next_life_sends_it() {
    let fleet = Fleet::new().await;
    let worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    fleet.engine.sticks(Some(("signal", Moment::Before)));
    fleet.stop(run, StopMode::Force).await;
    killed_in(&fleet, worker, "signal", run).await;
    let _next = fleet.worker("w1").await;
    is_terminated(&fleet, run).await;
}

#[tokio::test]
async fn killed_before_the_evidence_is_written_the_next_life_asks_again_and_writes_it() {
    let fleet = Fleet::new().await;
    let worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    // The engine's word is asked for, and never heard.
    fleet.engine.sticks(Some(("inspect", Moment::After)));
    fleet.engine.exit(run.0, 0);
    killed_in(&fleet, worker, "inspect", run).await;
    let _next = fleet.worker("w1").await;
    let over = fleet.until_over(run).await;
    assert_eq!(over.evidence.unwrap().exit_code, Some(0));
    until("removed", async || fleet.engine.known().is_empty()).await;
}

#[tokio::test]
async fn killed_in_the_removal_the_next_life_clears_away_what_is_left() {
    for moment in [Moment::Before, Moment::After] {
        let fleet = Fleet::new().await;
        let worker = fleet.worker("w1").await;
        let run = fleet.start("x").await;
        fleet.until_running(run).await;
        fleet.engine.sticks(Some(("remove", moment)));
        fleet.stop(run, StopMode::Force).await;
        until("removing", async || fleet.engine.is_stuck()).await;
        is_terminated(&fleet, run).await;
        worker.kill();
        fleet.engine.sticks(None);
        let _next = fleet.worker("w1").await;
        until("cleared away", async || fleet.engine.known().is_empty()).await;
        is_terminated(&fleet, run).await;
    }
}
