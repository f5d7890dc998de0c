//! The health page: what is dead shows as dead, and the page comes all the same.

use std::time::{Duration, Instant};

use crate::app::{TestApp, Wants};
use crate::sample::{self, RUNNING, STOP, attribute, attributes};

#[tokio::test]
async fn all_is_well_when_it_is() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let page = ada.get("/health").await;
    assert_eq!(attribute(&page, "data-well"), "true");
    assert_eq!(attributes(&page, "data-part"), ["Postgres", "Redis", "Queue", "Worker arm-1"]);
    assert!(page.body.contains("All is well."));
    assert_eq!(page.body.matches("Measured at").count(), 4);
}

#[tokio::test]
async fn what_needs_a_human_comes_first() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let page = ada.get("/health").await;
    assert_eq!(attribute(&page, "data-well"), "false");
    assert!(page.body.contains("No worker is alive"));
    sample::worker(&app, "arm-1", 20).await;
    sample::run(&app, &[RUNNING, STOP].concat()).await;
    let page = ada.get("/health").await;
    assert!(page.body.contains("One stop is unconfirmed.") && page.body.contains("Worker arm-1 is silent."));
}

#[tokio::test]
async fn a_dead_redis_shows_as_dead_within_two_seconds() {
    // Nobody listens there; and the other takes connections and says nothing.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for address in ["127.0.0.1:1".to_owned(), mute.local_addr().unwrap().to_string()] {
        let wants = Wants { redis_url: Some(format!("redis://{address}")), ..Wants::default() };
        let app = TestApp::start_with(wants).await;
        let ada = app.superuser().await;
        for n in 0..20 {
            sample::worker(&app, &format!("arm-{n}"), 0).await;
        }
        let began = Instant::now();
        let page = ada.get("/health").await;
        assert!(began.elapsed() < Duration::from_secs(2), "{address}: {:?}", began.elapsed());
        assert_eq!(page.status, 200);
        assert!(page.body.contains("data-part=\"Redis\" data-well=\"false\""), "{}", page.body);
        assert!(page.body.contains("data-part=\"Postgres\" data-well=\"true\""));
        assert!(page.body.contains("Redis doesn’t answer"));
    }
}
