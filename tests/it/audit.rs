//! The audit's page.

use crate::app::TestApp;
use crate::sample::{self, attributes, link};

#[tokio::test]
async fn the_audit_goes_back_and_forth() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    for _ in 0..120 {
        app.db.note_at_the_door("ada", "knocked", Some("192.0.2.7")).await.unwrap();
    }
    let mut page = ada.get("/audit").await;
    let mut seen = attributes(&page, "data-audit").join(" ");
    while let Some(next) = link(&page, "next") {
        page = ada.get(&next).await;
        seen = format!("{seen} {}", attributes(&page, "data-audit").join(" "));
    }
    let all: Vec<String> = (1..=121).rev().map(|id| id.to_string()).collect();
    assert_eq!(seen, all.join(" "));
    assert!(link(&page, "prev").is_some());
    assert!(page.body.contains("signed in") && page.body.contains("192.0.2.7"));
    assert_eq!(ada.get("/audit?before=x").await.status, 422);
}

#[tokio::test]
async fn who_is_refused_at_the_door_is_noted_once_a_minute() {
    let app = TestApp::start().await;
    let pat = app.plain().await;
    for path in ["/", "/audit", "/", "/workers"] {
        assert_eq!(pat.get(path).await.status, 403);
    }
    let noted: Vec<(String, bool)> =
        sqlx::query_as("select who, address is not null from audit where what = 'refused at the door'")
            .fetch_all(app.sql())
            .await
            .unwrap();
    // Two, when a minute has just begun.
    assert!((1..=2).contains(&noted.len()), "{noted:?}");
    assert!(noted.iter().all(|(who, from)| who == "pat" && *from), "{noted:?}");
}

#[tokio::test]
async fn the_audit_names_the_run() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let run = sample::run(&app, &[]).await;
    ada.post(&format!("/runs/{run}/terminate"), &[("reason", "enough")]).await;
    let page = ada.get("/audit").await;
    assert!(page.body.contains("stop wished") && page.body.contains("graceful: enough"));
    assert!(page.body.contains(&format!("<a href=\"/runs/{run}\">")));
}
