//! The red handle: one pull holds the queue, stops every run and closes every gate; and it is left step by step.

use std::time::Duration;

use signalbox::model::run::{Outcome, RunId, State};
use signalbox::model::stop::StopId;
use sqlx::Row;
use tokio::time::Instant;

use crate::app::{Browser, TestApp, Wants, redis_url};
use crate::fleet::{Fleet, until};
use crate::sample::{self, LOST, attributes};
use crate::wire::{Proxy, Wire};

async fn count(app: &TestApp, what: &str) -> i64 {
    let row = sqlx::query("select count(*) from audit where what = $1").bind(what).fetch_one(app.sql());
    row.await.unwrap().get(0)
}

async fn pull(ada: &Browser) -> StopId {
    let pulled = ada.post("/handle", &[("preset", "It loops")]).await;
    assert_eq!(pulled.status, 303, "{}", pulled.body);
    pulled.header("location").unwrap().strip_prefix("/stops/").unwrap().parse().unwrap()
}

/// Whether a worker has said that its gates are closed.
async fn answered(app: &TestApp, worker: &str) -> bool {
    let row = sqlx::query("select gates_closed_at is not null from workers where name = $1").bind(worker);
    row.fetch_one(app.sql()).await.unwrap().get(0)
}

fn gate_of(fleet: &Fleet, worker: &str, run: RunId) -> std::path::PathBuf {
    let dir = fleet.parts(worker).settings.dir;
    dir.join(worker).join("runs").join(run.to_string()).join("gate.sock")
}

#[tokio::test]
async fn gates_close_at_once_though_the_engine_is_silent_and_leaving_waits_for_proof() {
    let fleet = Fleet::new().await;
    let ada = fleet.app.superuser().await;
    let worker = fleet.worker("w1").await;
    let (one, two) = (fleet.start("a").await, fleet.start("b").await);
    for run in [one, two] {
        fleet.until_running(run).await;
        assert!(gate_of(&fleet, "w1", run).exists());
    }
    assert!(ada.get("/handle").await.body.contains("2 runs are stopped by force."));
    fleet.engine.silent(true);
    let began = Instant::now();
    let stop = pull(&ada).await;
    until("answered", async || answered(&fleet.app, "w1").await).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(!gate_of(&fleet, "w1", one).exists() && !gate_of(&fleet, "w1", two).exists());
    assert_eq!(fleet.engine.alive().len(), 2, "the engine does nothing, and still nothing gets out");
    assert_eq!(count(&fleet.app, "gates closed").await, 1);

    // While it is pulled.
    let page = ada.get(&format!("/stops/{stop}")).await;
    for said in ["Queue held", "w1: gates closed", "0 of 2 proven over.", "http-equiv=\"refresh\""] {
        assert!(page.body.contains(said), "{said} isn't in {}", page.body);
    }
    assert_eq!(attributes(&page, "data-unproven-run").len(), 2);
    let waits = fleet.start("c").await;
    for path in ["/", "/workers", "/audit", "/runs/new"] {
        assert!(ada.get(path).await.body.contains("The red handle is pulled."), "{path}");
    }
    assert!(ada.get(&format!("/runs/{waits}")).await.body.contains("The queue is held by ada since"));
    assert_eq!(ada.get("/handle").await.header("location"), Some(&*format!("/stops/{stop}")));
    assert_eq!(pull(&ada).await, stop, "pulled twice it is one pull");
    assert_eq!(count(&fleet.app, "red handle pulled").await, 1);
    assert_eq!(count(&fleet.app, "red handle pulled again").await, 1);

    // Leaving.
    let leave = ada.get("/handle/leave").await;
    assert!(
        leave.body.contains("2 runs aren’t proven over") && leave.body.contains("Comes after the gates.")
    );
    for (path, form, why) in [
        ("/handle/queue", vec![], "Open the gates again first."),
        ("/hold/release", vec![], "Leave the handle first"),
        ("/handle/gates", vec![], "2 runs aren’t proven over."),
        ("/handle/gates", vec![("although", "1")], "2 runs aren’t proven over."),
    ] {
        let refused = ada.post(path, &form).await;
        assert_eq!(refused.status, 422, "{path}");
        assert!(refused.body.contains(why), "{path}: {}", refused.body);
    }
    for what in ["gates not opened", "queue not released"] {
        assert_eq!(count(&fleet.app, what).await, 2, "{what}");
    }
    fleet.engine.silent(false);
    for run in [one, two] {
        assert_eq!(fleet.until_over(run).await.outcome, Some(Outcome::Terminated));
    }
    assert!(ada.get("/handle/leave").await.body.contains("Every run is proven over"));
    assert_eq!(ada.post("/handle/gates", &[]).await.status, 303);
    assert_eq!(fleet.run(waits).await.state, State::Queued, "nothing starts yet");
    assert!(ada.get("/").await.body.contains("The queue is held."));
    assert_eq!(ada.post("/handle/queue", &[]).await.status, 303);
    fleet.until_running(waits).await;
    assert!(gate_of(&fleet, "w1", waits).exists());
    for what in ["gates opened", "queue released"] {
        assert_eq!(count(&fleet.app, what).await, 1, "{what}");
    }
    let page = ada.get("/").await;
    assert!(!page.body.contains("The queue is held.") && !page.body.contains("handle is pulled"));
    assert!(ada.get(&format!("/stops/{stop}")).await.body.contains("released again"));
    drop(worker);
}

#[tokio::test]
async fn it_works_with_redis_dead() {
    let wire = Proxy::to(redis_url().trim_start_matches("redis://").to_owned()).await;
    let redis = wire.url(&redis_url());
    let fleet = Fleet::with(Wants { redis_url: Some(redis.clone()), ..Wants::default() }).await;
    let ada = fleet.app.superuser().await;
    let _worker = fleet.worker_at(fleet.parts("w1"), &fleet.app.database_url, &redis).await;
    let run = fleet.start("a").await;
    fleet.until_running(run).await;
    wire.set(Wire::Cut);
    let began = Instant::now();
    pull(&ada).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    until("answered", async || answered(&fleet.app, "w1").await).await;
    assert_eq!(fleet.until_over(run).await.outcome, Some(Outcome::Terminated));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_worker_that_comes_back_while_it_is_pulled_opens_no_gate() {
    let fleet = Fleet::new().await;
    let ada = fleet.app.superuser().await;
    let worker = fleet.worker("w1").await;
    let run = fleet.start("a").await;
    fleet.until_running(run).await;
    let gate = gate_of(&fleet, "w1", run);
    worker.kill();
    let _ = std::fs::remove_file(&gate);
    fleet.engine.silent(true);
    let stop = pull(&ada).await;
    assert!(ada.get(&format!("/stops/{stop}")).await.body.contains("w1: not confirmed"));
    let _again = fleet.worker("w1").await;
    assert!(answered(&fleet.app, "w1").await, "it asks before it does anything else");
    let fence = fleet.run(run).await.fence;
    fleet.until(run, "adopted", |run| run.fence > fence || run.delivered_at().is_some()).await;
    assert!(!gate.exists());
    fleet.engine.silent(false);
    fleet.until_over(run).await;
    assert!(!gate.exists());
}

#[tokio::test]
async fn everything_is_taken_in_and_what_is_lost_must_be_accepted() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 60).await;
    let (queued, lost) = (sample::run(&app, &[]).await, sample::run(&app, LOST).await);
    let stop = pull(&ada).await;
    let by = app.proof().await;
    let (_, counts) = app.db.stop(&by, stop).await.unwrap();
    assert_eq!((counts.queued, counts.lost, counts.unproven()), (1, 1, 1));
    assert!(app.db.run(&by, RunId(queued)).await.unwrap().state.is_over());
    let leave = ada.get("/handle/leave").await;
    assert_eq!(attributes(&leave, "data-unproven-run"), [lost.to_string()]);
    assert!(leave.body.contains("Leave although one run is unproven"));
    assert!(leave.body.contains("arm-1: not confirmed"));
    assert_eq!(ada.post("/handle/gates", &[("although", "1")]).await.status, 303);
    let detail = sqlx::query("select detail from audit where what = 'gates opened'").fetch_one(app.sql());
    let detail: String = detail.await.unwrap().get(0);
    assert_eq!(detail, format!("stop {stop}, although unproven: runs {lost}"));
    assert_ne!(pull(&ada).await, stop, "with gates open again the handle can be pulled again");
}

#[tokio::test]
async fn a_hold_that_stood_before_the_pull_stands_after_the_handle_is_left() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    assert_eq!(ada.post("/hold", &[("reason", "deploying")]).await.status, 303);
    let stop = pull(&ada).await;
    assert_eq!(ada.post("/handle/gates", &[]).await.status, 303);
    // Pulled again before it was left, it is the same hold.
    let again = pull(&ada).await;
    assert_ne!(again, stop);
    assert_eq!(ada.post("/handle/gates", &[]).await.status, 303);
    let leave = ada.get("/handle/leave").await;
    assert!(leave.body.contains("It stays held.") && leave.body.contains("Leave the red handle</button>"));
    assert_eq!(ada.post("/handle/queue", &[]).await.status, 303);
    let page = ada.get("/").await;
    assert!(page.body.contains("The queue is held.") && page.body.contains("“deploying”"), "{}", page.body);
    assert!(page.body.contains("href=\"/hold\""), "{}", page.body);
    assert_eq!((count(&app, "red handle left").await, count(&app, "queue released").await), (1, 0));
    assert!(ada.get(&format!("/stops/{again}")).await.body.contains("held on"));
    assert_eq!(ada.post("/hold/release", &[]).await.status, 303);
    assert!(!ada.get("/").await.body.contains("The queue is held."));

    // Its own hold goes with it, also when it was pulled twice.
    for _ in 0..2 {
        pull(&ada).await;
        assert_eq!(ada.post("/handle/gates", &[]).await.status, 303);
    }
    assert_eq!(ada.post("/handle/queue", &[]).await.status, 303);
    assert!(!ada.get("/").await.body.contains("The queue is held."));
    assert_eq!((count(&app, "red handle left").await, count(&app, "queue released").await), (1, 2));
}
