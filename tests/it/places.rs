//! Whose word counts: what one engine doesn't have may be on another, and what couldn't be looked at isn't gone.

use std::time::Duration;

use signalbox::model::run::{Cgroup, Outcome, Run, RunId, State, Step, StopMode};
use time::OffsetDateTime;

use crate::fleet::{Fleet, Working, until};
use crate::scripted::Scripted;
use crate::wire::{Proxy, Wire};

/// A run whose worker was killed, and whose lease has lapsed; its container lives on.
async fn lost(fleet: &Fleet) -> RunId {
    let worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    worker.kill();
    fleet.falls_silent("w1").await;
    fleet.stop(run, StopMode::Force).await;
    run
}

/// Waits until a worker has gone through all that its engine lists, and what is lost, twice.
async fn swept(engine: &Scripted) {
    engine.plant(900);
    let lists = engine.listed();
    until("swept", async || engine.known().is_empty() && engine.listed() > lists + 2).await;
}

#[tokio::test]
async fn a_worker_of_that_name_on_another_host_settles_nothing_by_its_own_engines_silence() {
    let fleet = Fleet::new().await;
    let run = lost(&fleet).await;
    let elsewhere = Scripted::default();
    elsewhere.is("the other host's");
    let mut parts = fleet.parts("w1");
    parts.settings.dir = parts.settings.dir.join("elsewhere");
    parts.engine = std::sync::Arc::new(elsewhere.clone());
    let other = fleet.worker_with(parts).await;
    swept(&elsewhere).await;
    let still = fleet.run(run).await;
    assert_eq!((still.state, still.outcome), (State::Lost, None), "{still:?}");
    assert_eq!(fleet.engine.alive(), [run.0], "it lives, where nobody looks");
    other.kill();
    fleet.falls_silent("w1").await;
    let _back = fleet.worker("w1").await;
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, over.evidence.unwrap().step), (Some(Outcome::Terminated), Step::Sigkill));
}

#[tokio::test]
async fn another_engine_in_the_place_of_the_one_that_a_run_is_on_says_nothing_of_it() {
    let fleet = Fleet::new().await;
    let run = lost(&fleet).await;
    let moved = Scripted::default();
    moved.is("a new one");
    let mut parts = fleet.parts("w1");
    parts.engine = std::sync::Arc::new(moved.clone());
    let worker = fleet.worker_with(parts).await;
    swept(&moved).await;
    assert_eq!(fleet.run(run).await.state, State::Lost);
    worker.kill();
    fleet.engine.vanish(run.0);
    let _back = fleet.worker("w1").await;
    let over = fleet.until_over(run).await;
    assert_eq!(over.evidence.unwrap().step, Step::Absent, "its own engine's word counts");
}

#[tokio::test]
async fn a_run_under_a_living_lease_isnt_ended_by_another_engine() {
    let fleet = Fleet::new().await;
    let worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    worker.kill();
    let moved = Scripted::default();
    moved.is("a new one");
    let mut parts = fleet.parts("w1");
    parts.engine = std::sync::Arc::new(moved);
    let moved = fleet.worker_with(parts).await;
    let said = |run: &Run| run.trouble.as_ref().is_some_and(|why| why.contains("another one answers"));
    fleet.until(run, "said to be elsewhere", said).await;
    moved.kill();
    let _back = fleet.worker("w1").await;
    fleet.until(run, "well again", |run| run.trouble.is_none()).await;
    assert_eq!((fleet.engine.alive(), fleet.run(run).await.state), (vec![run.0], State::Running));
}

/// When a worker of this name was last heard.
async fn heard(fleet: &Fleet) -> OffsetDateTime {
    let asked = sqlx::query_scalar("select heard_at from workers where name = 'w1'");
    asked.fetch_one(fleet.app.sql()).await.unwrap()
}

/// A second worker of that name on the same engine, at a seat of its own, by this way to Postgres.
async fn second(fleet: &Fleet, wire: &Proxy) -> Working {
    let mut parts = fleet.parts("w1");
    parts.settings.dir = parts.settings.dir.join("elsewhere");
    parts.times.lapse = Duration::from_secs(1);
    fleet.begin_at(parts, &wire.url(&fleet.app.database_url), &crate::app::redis_url())
}

#[tokio::test]
async fn a_worker_that_may_not_have_its_name_leaves_alone_what_runs_under_it() {
    let fleet = Fleet::new().await;
    let _first = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    let url: url::Url = fleet.app.database_url.parse().unwrap();
    let wire = Proxy::to(format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432))).await;
    let _second = second(&fleet, &wire).await;
    // Much longer than its lapse.
    for _ in 0..2 {
        let before = heard(&fleet).await;
        until("heard again", async || heard(&fleet).await > before).await;
    }
    assert_eq!((fleet.engine.alive(), fleet.run(run).await.state), (vec![run.0], State::Running));
    // When Postgres says nothing any more, no lease is known to hold.
    wire.set(Wire::Cut);
    until("dead", async || fleet.engine.alive().is_empty()).await;
}

#[tokio::test]
async fn what_the_host_couldnt_look_at_isnt_called_dead() {
    let fleet = Fleet::new().await;
    fleet.engine.on_host();
    let _worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    fleet.engine.unreadable(true);
    fleet.stop(run, StopMode::Force).await;
    let said = |run: &Run| run.trouble.as_ref().is_some_and(|why| why.contains("nobody could look"));
    let between = fleet.until(run, "said", said).await;
    assert!(between.is_unconfirmed() && fleet.engine.alive().is_empty());
    fleet.engine.unreadable(false);
    let over = fleet.until_over(run).await;
    assert_eq!(
        (over.outcome, over.evidence.unwrap().cgroup),
        (Some(Outcome::Terminated), Some(Cgroup::Gone))
    );
}

#[tokio::test]
async fn a_lost_run_is_killed_by_the_host_though_the_engine_hangs_and_settled_when_it_answers() {
    let fleet = Fleet::new().await;
    fleet.engine.on_host();
    let run = lost(&fleet).await;
    fleet.engine.hangs(true);
    let _back = fleet.worker("w1").await;
    until("killed by the host", async || fleet.engine.alive().is_empty()).await;
    let between = fleet.run(run).await;
    assert_eq!((between.state, between.outcome), (State::Lost, None), "nothing is proven yet");
    fleet.engine.hangs(false);
    let over = fleet.until_over(run).await;
    let evidence = over.evidence.unwrap();
    assert_eq!((over.outcome, evidence.exit_code), (Some(Outcome::Terminated), Some(137)));
}

#[tokio::test]
async fn an_engine_that_knows_nothing_of_a_living_container_for_a_moment_ends_no_run() {
    for on_host in [true, false] {
        let fleet = Fleet::new().await;
        if on_host {
            fleet.engine.on_host();
        }
        let _worker = fleet.worker("w1").await;
        let run = fleet.start("x").await;
        fleet.until_running(run).await;
        fleet.engine.forgets(true);
        let said = |run: &Run| run.trouble.as_ref().is_some_and(|why| why.contains("knows nothing"));
        fleet.until(run, "said", said).await;
        fleet.engine.forgets(false);
        fleet.until(run, "well again", |run| run.trouble.is_none()).await;
        assert_eq!((fleet.engine.alive(), fleet.run(run).await.state), (vec![run.0], State::Running));
        assert!(fleet.engine.signals(run.0).is_empty());
        fleet.engine.vanish(run.0);
        let over = fleet.until_over(run).await;
        assert_eq!((over.outcome, over.evidence.unwrap().step), (Some(Outcome::Failed), Step::Absent));
    }
}
