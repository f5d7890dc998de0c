//! The workers' page; and names that two workers go by.

use signalbox::db::Error;
use signalbox::model::run::{Outcome, Step};
use signalbox::model::worker::HostFacts;

use crate::app::TestApp;
use crate::fleet::Fleet;
use crate::sample::{self, RUNNING, attributes};

#[tokio::test]
async fn a_worker_shows_what_it_found_and_what_it_holds() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    assert!(ada.get("/workers").await.body.contains("No worker has ever been heard of."));
    sample::worker(&app, "arm-1", 0).await;
    sample::worker(&app, "arm-2", 60).await;
    sample::worker(&app, "old-1", 200_000).await;
    let run = sample::run(&app, RUNNING).await;
    let page = ada.get("/workers").await;
    assert_eq!(attributes(&page, "data-worker"), ["arm-1", "arm-2", "old-1"]);
    assert_eq!(attributes(&page, "data-alive"), ["true", "false", "false"]);
    for said in [
        "One worker is alive.",
        "room for 3 more runs",
        "aarch64, pages of 64 KiB",
        "<dd>1 of 4</dd>",
        "Silent",
        "Gone",
        "not known",
        &format!("href=\"/runs/{run}\""),
    ] {
        assert!(page.body.contains(said), "{said} isn't in {}", page.body);
    }
}

#[tokio::test]
async fn a_name_is_another_hosts_only_after_a_lease_of_silence() {
    let fleet = Fleet::new().await;
    let first = fleet.worker("w1").await;
    let mut parts = fleet.parts("w1");
    parts.settings.dir = parts.settings.dir.join("elsewhere");
    let (db, facts) = (&fleet.app.worker_db, HostFacts::default());
    for fresh in [true, false] {
        let refused = db.heartbeat("w1", "another", &facts, fresh).await;
        assert!(matches!(refused, Err(Error::Taken(_))), "{refused:?}");
    }
    let (second, run) = tokio::join!(fleet.worker_with(parts), async {
        let run = fleet.start("x").await;
        let held = fleet.until_running(run).await;
        assert_eq!(held.fence, 1, "the other one takes nothing");
        first.kill();
        fleet.falls_silent("w1").await;
        run
    });
    // It is on the same engine, whose word it takes.
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, over.evidence.unwrap().step), (Some(Outcome::Failed), Step::Sigkill));
    let run = fleet.start("y").await;
    fleet.until_running(run).await;
    // It beats on under its own seat, and leaves when that is another's.
    let taken = "update workers set seat = 'another' where name = 'w1'";
    sqlx::query(taken).execute(fleet.app.sql()).await.unwrap();
    let why = second.ended().await.unwrap_err();
    assert!(format!("{why:#}").contains("another worker is w1 now"), "{why:#}");
    assert!(fleet.engine.alive().is_empty(), "nothing of it lives on unwatched");
    db.heartbeat("w1", "another", &facts, false).await.unwrap();
}
