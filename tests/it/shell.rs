//! What makes an app of the pages: the manifest and its icons, the service worker, the page for when there is none.

use serde_json::Value;

use crate::app::{Browser, TestApp};

/// The service worker as it is served, and the paths that it keeps.
async fn worker(stranger: &Browser) -> (String, Vec<String>) {
    let script = stranger.get("/static/worker/sw.js").await;
    assert_eq!(script.status, 200);
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(script.header("service-worker-allowed"), Some("/"), "it may look after every page");
    assert_eq!(script.header("cache-control"), Some("no-store"), "a new version is found at once");
    let list = script.body.split("const SHELL = ").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
    let kept = serde_json::from_str(list).unwrap();
    (script.body, kept)
}

#[tokio::test]
async fn the_service_worker_keeps_files_that_everybody_may_have_and_names_no_page() {
    let app = TestApp::start().await;
    let stranger = app.anonymous();
    let (script, kept) = worker(&stranger).await;
    assert!(kept.iter().any(|path| path.ends_with("/offline.html")) && !script.contains("{version}"));
    for path in &kept {
        assert!(path.starts_with("/static/") && !path.ends_with("/sw.js"), "{path}");
        assert_eq!(stranger.get(path).await.status, 200, "{path}");
    }
    for page in ["/runs", "/account", "/live", "/health", "/workers"] {
        assert!(!script.contains(&format!("'{page}")), "it names {page}");
    }
    // It has one path, and that path is nothing else.
    let versioned = kept[0].rsplit_once('/').map(|(folder, _)| format!("{folder}/sw.js")).unwrap();
    for path in [versioned.as_str(), "/static/worker/app.css", "/static/worker/offline.html", "/sw.js"] {
        assert_eq!(stranger.get(path).await.header("location"), Some("/login"), "{path}");
    }
}

#[tokio::test]
async fn the_page_for_when_there_is_no_console_knows_nothing() {
    let app = TestApp::start().await;
    let stranger = app.anonymous();
    let (_, kept) = worker(&stranger).await;
    let path = kept.iter().find(|path| path.ends_with("/offline.html")).unwrap();
    let page = stranger.get(path).await;
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.body.contains("can’t be reached") && !page.body.contains("{version}"), "{}", page.body);
    for file in page.body.split('"').filter(|part| part.starts_with("/static/")) {
        assert!(kept.iter().any(|path| path == file), "{file} isn't kept");
    }
}

#[tokio::test]
async fn the_manifest_makes_an_app_of_it_and_every_icon_is_there() {
    let app = TestApp::start().await;
    let stranger = app.anonymous();
    let manifest: Value = serde_json::from_str(&stranger.get("/manifest.webmanifest").await.body).unwrap();
    assert_eq!((&manifest["display"], &manifest["scope"]), (&"standalone".into(), &"/".into()));
    let icons = manifest["icons"].as_array().unwrap();
    for icon in icons {
        let answer = stranger.get(icon["src"].as_str().unwrap()).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, icon["type"].as_str()), "{icon}");
    }
    let there = |size: &str, purpose: &str| {
        icons
            .iter()
            .any(|icon| icon["sizes"] == size && icon["purpose"] == purpose && icon["type"] == "image/png")
    };
    assert!(there("192x192", "any") && there("512x512", "any") && there("512x512", "maskable"));
    // What it says to everybody leads to nothing but the start.
    assert!(manifest.get("shortcuts").is_none() && manifest["start_url"] == "/");
}
