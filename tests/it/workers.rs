//! The workers' page.

use crate::app::TestApp;
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
