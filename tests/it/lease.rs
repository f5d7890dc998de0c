//! Leases: an old fence writes nothing, a lapsed lease is a lost run, and a worker that is cut off stops itself.

use std::time::Duration;

use signalbox::db::{Batch, Error, Settlement};
use signalbox::model::activity::Call;
use signalbox::model::event::{Event, Kind, Source};
use signalbox::model::metered::Metered;
use signalbox::model::run::{Evidence, Outcome, State, Step, StopMode, StopProgress};
use signalbox::model::work::{NewStop, Patch};

use crate::fleet::{Fleet, until};
use crate::wire::{Proxy, Wire};

fn event(seq: i64, payload: &str) -> Event {
    let at = time::OffsetDateTime::UNIX_EPOCH;
    Event { seq, at, source: Source::Stdout, kind: Kind::Text, cut: 0, payload: payload.into() }
}

fn batch(events: &[(i64, &str)]) -> Batch {
    Batch { events: events.iter().map(|(seq, text)| event(*seq, text)).collect(), ..Batch::default() }
}

/// A call, as it is stored.
fn long_call() -> Call {
    let call = r#"{"id":"a","tool":"Bash","gist":"make","since":"2026-11-03T14:02:17Z"}"#;
    serde_json::from_str(call).unwrap()
}

async fn lapse(fleet: &Fleet) {
    let lapse =
        sqlx::query("update runs set lease_until = now() - interval '1 s' where lease_until is not null");
    lapse.execute(fleet.app.sql()).await.unwrap();
}

#[tokio::test]
async fn an_old_fence_writes_nothing() {
    let fleet = Fleet::new().await;
    let run = fleet.start("x").await;
    let db = &fleet.app.worker_db;
    let old = fleet.claim("w1").await;
    let new = db.adopt(&fleet.place("w1"), run).await.unwrap().expect("it is w1's").lease;
    assert!(new.fence() > old.fence());
    let evidence = Evidence {
        container: None,
        exit_code: Some(0),
        step: Step::ByItself,
        confirmed_at: time::OffsetDateTime::UNIX_EPOCH,
        cgroup: None,
    };
    let refused = [
        db.append(&old, &batch(&[(1, "ghost")])).await.map(drop),
        db.mark_running(&old, "c").await,
        db.progress(&old, &Default::default()).await,
        db.trouble(&old, Some("ghost")).await,
        db.metered(&old, &Metered { calls: 9, ..Metered::default() }).await,
        db.call_took(&old, &long_call(), Duration::from_secs(90)).await,
        db.work_seen(&old, Some(1), None, None).await,
        db.save_work(&old, &Patch::default()).await,
        db.release(&old, "ghost").await,
        db.end(&old, Outcome::Succeeded, "ghost", &evidence, None).await.map(drop),
    ];
    for (n, result) in refused.into_iter().enumerate() {
        assert!(matches!(result, Err(Error::Fenced(_))), "{n}: {result:?}");
    }
    assert!(db.renew("w1", std::slice::from_ref(&old)).await.unwrap().is_empty());
    assert_eq!(db.renew("w1", std::slice::from_ref(&new)).await.unwrap().len(), 1);
    assert_eq!(fleet.run(run).await.refused, 11, "each is counted");
    db.append(&new, &batch(&[(1, "real")])).await.unwrap();
    db.mark_running(&new, "c").await.unwrap();
    assert_eq!(fleet.run(run).await.metered, None);
    let metered = Metered { calls: 1, ..Metered::default() };
    db.metered(&new, &metered).await.unwrap();
    assert_eq!(fleet.run(run).await.metered, Some(metered));
    assert!(db.adopt(&fleet.place("w2"), run).await.unwrap().is_none(), "only its own worker adopts a run");
    db.end(&new, Outcome::Succeeded, "real", &evidence, None).await.unwrap();
    db.end(&new, Outcome::Succeeded, "again", &evidence, None).await.unwrap();
    let over = fleet.run(run).await;
    assert_eq!((over.reason.as_deref(), over.refused), (Some("real"), 11));
}

#[tokio::test]
async fn what_is_over_stays_over_whoever_writes() {
    let fleet = Fleet::new().await;
    let run = fleet.start("x").await;
    fleet.stop(run, StopMode::Force).await;
    assert_eq!(fleet.run(run).await.state, State::Ended);
    for attempt in [
        "update runs set state = 'queued', outcome = null, confirmed_at = null, end_step = null, ended_at = null",
        "update runs set outcome = 'failed'",
        "update runs set fence = fence - 1",
    ] {
        let refused = sqlx::query(attempt).execute(fleet.app.sql()).await.unwrap_err();
        assert!(refused.to_string().contains("is over"), "{attempt}: {refused}");
    }
    sqlx::query("update runs set events = events + 1").execute(fleet.app.sql()).await.unwrap();
}

#[tokio::test]
async fn a_batch_sent_again_is_stored_once_and_a_gap_is_refused() {
    let fleet = Fleet::new().await;
    let run = fleet.start("x").await;
    let db = &fleet.app.worker_db;
    let lease = fleet.claim("w1").await;
    db.append(&lease, &batch(&[(1, "a"), (2, "b")])).await.unwrap();
    db.append(&lease, &batch(&[(1, "a"), (2, "b")])).await.unwrap();
    assert!(matches!(db.append(&lease, &batch(&[(4, "d")])).await, Err(Error::Conflict(_))));
    db.append(&lease, &batch(&[(3, "c")])).await.unwrap();
    let stored: Vec<_> = fleet.events(run).await.into_iter().map(|event| event.payload).collect();
    assert_eq!(stored, ["a", "b", "c"]);
}

#[tokio::test]
async fn terminated_without_a_wish_is_refused_by_the_database() {
    let fleet = Fleet::new().await;
    let run = fleet.start("x").await;
    let db = &fleet.app.worker_db;
    let lease = fleet.claim("w1").await;
    let evidence = Evidence {
        container: None,
        exit_code: Some(137),
        step: Step::Sigkill,
        confirmed_at: time::OffsetDateTime::UNIX_EPOCH,
        cgroup: None,
    };
    let refused = db.end(&lease, Outcome::Terminated, "never wished", &evidence, None).await;
    assert!(matches!(refused, Err(Error::Broken(_))), "{refused:?}");
    assert_eq!(fleet.run(run).await.outcome, None);
    fleet.app.db.wish_stop(&fleet.by, run, &NewStop::new(StopMode::Force)).await.unwrap();
    db.end(&lease, Outcome::Terminated, "wished", &evidence, None).await.unwrap();
}

#[tokio::test]
async fn a_lapsed_lease_is_a_lost_run_and_the_worker_that_comes_back_settles_it() {
    let fleet = Fleet::new().await;
    let worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    let before = fleet.until_running(run).await;
    worker.kill();
    lapse(&fleet).await;
    let lost = fleet.until(run, "lost", |run| run.state == State::Lost).await;
    assert!(lost.fence > before.fence, "the fence is a tombstone");
    assert!(lost.trouble.unwrap().contains("w1 fell silent"));
    assert_eq!(fleet.engine.alive(), [run.0]);
    fleet.app.db.wish_stop(&fleet.by, run, &NewStop::new(StopMode::Force)).await.unwrap();
    assert!(fleet.run(run).await.is_unconfirmed(), "nobody has proof yet");
    let _again = fleet.worker("w1").await;
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, over.evidence.unwrap().step), (Some(Outcome::Terminated), Step::Sigkill));
    assert!(fleet.engine.alive().is_empty());
}

#[tokio::test]
async fn a_stop_wished_after_the_proof_of_a_lost_run_did_not_terminate_it() {
    let fleet = Fleet::new().await;
    let db = &fleet.app.worker_db;
    let settled = async |own, step, proof_after_wish: bool| {
        let run = fleet.start("x").await;
        let lease = fleet.claim("w1").await;
        lapse(&fleet).await;
        db.lose_lapsed().await.unwrap();
        // The worker's clock says nothing here: it may be hours off.
        let confirmed_at = time::OffsetDateTime::UNIX_EPOCH;
        let none = StopProgress::default();
        let ago = Duration::from_secs(if proof_after_wish { 0 } else { 3600 });
        let (container, exit_code, cgroup) = (Some("c".to_owned()), Some(137), None);
        let evidence = Evidence { container, exit_code, step, confirmed_at, cgroup };
        fleet.app.db.wish_stop(&fleet.by, run, &NewStop::new(StopMode::Force)).await.unwrap();
        let settlement = Settlement { own, reason: "over", evidence: &evidence, ago, progress: &none };
        assert!(db.settle_lost(lease.worker(), run, &settlement).await.unwrap());
        fleet.run(run).await.outcome.unwrap()
    };
    assert_eq!(settled(None, Step::Sigkill, true).await, Outcome::Terminated);
    assert_eq!(settled(None, Step::Sigkill, false).await, Outcome::Failed);
    assert_eq!(settled(Some(Outcome::Succeeded), Step::ByItself, true).await, Outcome::Succeeded);
}

#[tokio::test]
async fn a_container_that_never_started_is_gone_before_its_lost_run_is_settled() {
    let fleet = Fleet::new().await;
    let run = fleet.start("x").await;
    fleet.claim("w1").await;
    lapse(&fleet).await;
    fleet.app.db.lose_lapsed().await.unwrap();
    fleet.engine.plant_unstarted(run.0);
    fleet.engine.keeps(true);
    let _worker = fleet.worker("w1").await;
    // The worker takes others only after it has swept.
    let other = fleet.start("y").await;
    fleet.until_running(other).await;
    assert_eq!(fleet.run(run).await.state, State::Lost, "a start may still come through");
    fleet.engine.keeps(false);
    // Every 2 s while something of its own is lost.
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, fleet.engine.made(run.0)), (Some(Outcome::Failed), 1));
    assert!(!fleet.engine.known().contains(&run.0));
}

#[tokio::test]
async fn a_worker_whose_lease_is_taken_stops_the_container() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    lapse(&fleet).await;
    fleet.until(run, "lost", |run| run.state != State::Running).await;
    until("stopped", async || fleet.engine.alive().is_empty()).await;
    let over = fleet.until_over(run).await;
    assert_eq!(over.outcome, Some(Outcome::Failed));
}

#[tokio::test]
async fn a_worker_cut_off_from_postgres_stops_its_containers_before_the_lease_lapses() {
    let fleet = Fleet::new().await;
    let url: url::Url = fleet.app.database_url.parse().unwrap();
    let target = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
    let wire = Proxy::to(target).await;
    let mut parts = fleet.parts("w1");
    parts.times.renewal = Duration::from_millis(200);
    parts.times.fence = Duration::from_secs(3);
    let worker = fleet.worker_at(parts, &wire.url(&fleet.app.database_url), &crate::app::redis_url()).await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    wire.set(Wire::Hanging);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fleet.engine.alive(), [run.0], "one second is no reason");
    wire.set(Wire::Whole);

    wire.set(Wire::Cut);
    until("stopped by itself", async || fleet.engine.alive().is_empty()).await;
    assert_eq!(fleet.run(run).await.outcome, None, "nothing was written meanwhile");
    wire.set(Wire::Whole);
    let over = fleet.until_over(run).await;
    assert_eq!(over.outcome, Some(Outcome::Failed));
    assert!(over.reason.unwrap().contains("couldn't reach Postgres"));
    worker.hand_over().await;
}
