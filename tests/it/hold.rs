//! The held queue and drained workers: nothing new starts, whatever is restarted, whoever is just claiming.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signalbox::db::{Db, Role};
use signalbox::model::run::State;
use sqlx::Row;

use crate::app::TestApp;
use crate::fleet::{Fleet, until};
use crate::sample;

/// Whether there is a run that `w1` could take; it takes it.
async fn can_claim(fleet: &Fleet) -> bool {
    fleet.app.worker_db.claim(&fleet.place("w1"), &[0; 32]).await.unwrap().is_some()
}

#[tokio::test]
async fn a_held_queue_stays_held_through_a_restart_until_it_is_released() {
    let fleet = Fleet::new().await;
    let ada = fleet.app.superuser().await;
    let worker = fleet.worker("w1").await;
    let runs_on = fleet.start("a").await;
    fleet.until_running(runs_on).await;
    assert!(ada.get("/hold").await.body.contains("Hold the queue?"));
    assert_eq!(ada.post("/hold", &[("reason", "deploying <b>")]).await.status, 303);
    assert_eq!(ada.post("/hold", &[]).await.status, 303, "held twice is held once");
    let waits = fleet.start("b").await;
    assert!(!can_claim(&fleet).await);
    worker.hand_over().await;
    let _again = fleet.worker("w1").await;
    assert!(!can_claim(&fleet).await);
    assert_eq!(fleet.run(waits).await.state, State::Queued);
    assert_eq!(fleet.run(runs_on).await.state, State::Running, "what runs goes on");
    for path in ["/", "/workers", "/audit", "/health", "/agents", "/account", "/runs/new", "/hold", "/stops"]
    {
        let page = ada.get(path).await;
        assert!(page.body.contains("The queue is held."), "{path}");
        assert!(page.body.contains("“deploying &#60;b&#62;”"), "{path}");
    }
    assert!(ada.get("/?state=queued").await.body.contains("The queue is held by ada since"));
    assert!(ada.get(&format!("/runs/{waits}")).await.body.contains("The queue is held by ada since"));
    assert_eq!(ada.post("/hold/release", &[]).await.status, 303);
    fleet.until_running(waits).await;
    let audit = sqlx::query("select what from audit where what like 'queue%' order by id");
    let audit: Vec<String> =
        audit.fetch_all(fleet.app.sql()).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(audit, ["queue held", "queue held already", "queue released"]);
}

#[tokio::test]
async fn once_the_queue_is_held_no_claim_that_was_under_way_comes_after() {
    let app = TestApp::start().await;
    let by = app.proof().await;
    for worker in ["a", "b", "c", "d"] {
        sample::worker(&app, worker, 0).await;
    }
    for _ in 0..10 {
        for _ in 0..40 {
            sample::run(&app, &[]).await;
        }
        let (stop, tries) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let claimers: Vec<_> = ["a", "b", "c", "d"]
            .into_iter()
            .map(|worker| {
                let db = Db::new(&app.database_url, Role::Worker, 1).unwrap();
                let (stop, tries) = (Arc::clone(&stop), Arc::clone(&tries));
                tokio::spawn(async move {
                    while !stop.load(Ordering::SeqCst) {
                        db.claim(&sample::place(worker), &[0; 32]).await.unwrap();
                        tries.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        assert!(app.db.hold(&by, "", None).await.unwrap());
        let claimed = async || {
            let row = sqlx::query("select count(*) from runs where state = 'starting'").fetch_one(app.sql());
            row.await.unwrap().get::<i64, _>(0)
        };
        let at_the_hold = claimed().await;
        let tried = tries.load(Ordering::SeqCst);
        until("tried again and again", async || tries.load(Ordering::SeqCst) > tried + 20).await;
        assert_eq!(claimed().await, at_the_hold);
        stop.store(true, Ordering::SeqCst);
        for claimer in claimers {
            claimer.await.unwrap();
        }
        assert!(app.db.release_queue(&by, None).await.unwrap());
    }
}

#[tokio::test]
async fn a_drained_worker_finishes_what_it_runs_and_takes_nothing() {
    let fleet = Fleet::new().await;
    let ada = fleet.app.superuser().await;
    let worker = fleet.worker("w1").await;
    let runs_on = fleet.start("a").await;
    fleet.until_running(runs_on).await;
    assert!(ada.get("/workers").await.body.contains("Drain w1"));
    assert_eq!(ada.post("/workers/w1/drain", &[("reason", "new kernel")]).await.status, 303);
    assert_eq!(ada.post("/workers/nobody/drain", &[]).await.status, 404);
    let waits = fleet.start("b").await;
    assert!(!can_claim(&fleet).await);
    worker.hand_over().await;
    let _again = fleet.worker("w1").await;
    assert!(!can_claim(&fleet).await);
    let page = ada.get("/workers").await;
    for said in ["Take runs again", "“new kernel”", "It finishes what it runs.", "One worker is drained."]
    {
        assert!(page.body.contains(said), "{said} isn't in {}", page.body);
    }
    assert_eq!(fleet.run(waits).await.state, State::Queued);
    assert!(
        ada.get(&format!("/runs/{waits}"))
            .await
            .body
            .contains("No worker takes runs: each is drained or silent.")
    );
    fleet.engine.exit(runs_on.0, 0);
    fleet.until_over(runs_on).await;
    assert!(!can_claim(&fleet).await);
    assert_eq!(fleet.run(waits).await.state, State::Queued);
    let _other = fleet.worker("w2").await;
    assert_eq!(fleet.until_running(waits).await.worker.as_deref(), Some("w2"), "others take it");
    assert_eq!(ada.post("/workers/w1/undrain", &[]).await.status, 303);
    assert!(!ada.get("/workers").await.body.contains("is drained"));
}

#[tokio::test]
async fn a_drained_worker_stands_in_red_also_when_it_is_silent_and_while_the_handle_is_pulled() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    assert!(!ada.get("/").await.body.contains("drained"));
    assert_eq!(ada.post("/workers/arm-1/drain", &[]).await.status, 303);
    let silent = "update workers set heard_at = now() - interval '1 hour'";
    sqlx::query(silent).execute(app.sql()).await.unwrap();
    let strip = async |says: &str| {
        until(says, async || {
            let page = ada.get("/workers").await.body;
            page.contains("<b>One worker is drained.</b>") && page.contains(says)
        })
        .await;
    };
    strip("Nobody takes runs.").await;
    sample::worker(&app, "arm-2", 0).await;
    strip("Others take runs.").await;
    assert_eq!(ada.post("/handle", &[]).await.status, 303);
    strip("The red handle is pulled.").await;
    let pulled = ada.get("/workers").await.body;
    assert!(!pulled.contains("take runs.") && !pulled.contains("Nobody takes"), "nothing starts anyway");
    assert_eq!(ada.post("/workers/arm-1/undrain", &[]).await.status, 303);
    assert!(!ada.get("/").await.body.contains("is drained"));
}
