//! What `signalbox stop-all` left in a worker's folder: reported once, and nothing starts beside it.

use signalbox::model::run::{Outcome, RunId};
use signalbox::worker::notes::Note;

use crate::fleet::{Fleet, until};
use crate::scripted::Moment;

fn note(done: bool) -> Note {
    let (who, reason) = ("root".to_owned(), "it spends".to_owned());
    Note { at: signalbox::clock::now(), who, reason, killed: Vec::new(), done }
}

async fn noted(fleet: &Fleet) -> i64 {
    sqlx::query_scalar("select count(*) from audit where what = 'stopped by stop-all'")
        .fetch_one(fleet.app.sql())
        .await
        .unwrap()
}

async fn drained(fleet: &Fleet) -> bool {
    sqlx::query_scalar("select drained_at is not null from workers where name = 'w1'")
        .fetch_one(fleet.app.sql())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_report_whose_answer_was_lost_is_one_report() {
    let fleet = Fleet::new().await;
    let worker = fleet.worker("w1").await;
    worker.kill();
    let killed = [(RunId(7), "dead".to_owned()), (RunId(7), "dead too".to_owned())];
    let db = &fleet.app.worker_db;
    for _ in 0..3 {
        db.report_stop_all("w1", "stop-all-1.json", "root", "Killed.", &killed).await.unwrap();
    }
    assert_eq!(noted(&fleet).await, 2);
    assert!(drained(&fleet).await);
    // Whoever lets the worker go on isn't overruled by the same note; only by another.
    fleet.app.db.drain(&fleet.by, "w1", false, "", None).await.unwrap();
    db.report_stop_all("w1", "stop-all-1.json", "root", "Killed.", &killed).await.unwrap();
    assert!(!drained(&fleet).await);
    for _ in 0..2 {
        db.report_stop_all("w1", "stop-all-2.json", "root", "Killed.", &[]).await.unwrap();
    }
    assert_eq!(noted(&fleet).await, 3);
    assert!(drained(&fleet).await);
}

#[tokio::test]
async fn a_run_that_was_just_being_started_is_stopped_by_its_worker() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("w1").await;
    let folder = fleet.parts("w1").settings.dir.join("w1");
    fleet.engine.sticks(Some(("start", Moment::Before)));
    let run = fleet.start("x").await;
    until("being started", async || fleet.engine.is_stuck()).await;
    let mut left = note(false);
    let path = left.write(&folder).unwrap();
    fleet.engine.sticks(None);
    let over = fleet.until_over(run).await;
    assert_eq!(over.outcome, Some(Outcome::Failed));
    assert!(over.reason.as_deref().is_some_and(|why| why.contains("stop-all")), "{:?}", over.reason);
    assert!(fleet.engine.alive().is_empty());
    let waits = fleet.start("y").await;
    left.done = true;
    assert_eq!(left.write(&folder).unwrap(), path);
    until("reported", async || noted(&fleet).await == 1 && !path.exists()).await;
    assert!(drained(&fleet).await);
    assert_eq!(fleet.engine.made(waits.0), 0);
}
