//! The real key: only the worker has it, and only the model API sees it.

use std::fs;
use std::path::Path;

use crate::house::{House, SOON, Wants};
use crate::kernel::{self, holds};

const REAL: &str = "sk-ant-real-3c1f0b7e9d";

pub(crate) async fn the_real_key_is_nowhere_but_at_the_model_api() {
    let house = House::open_with(Wants { key: Some(REAL), ..Wants::default() }).await;
    let run = house.start("scenario: loop\nsteps: 6\npause_ms: 400").await;
    house.until_at_work(run, 2).await;
    let container = house.container(run).await;

    // While it lives: what the engine and the kernel show of it, and what lies on the disk.
    let inspected = serde_json::to_string(&house.witness().inspect(&container).await.unwrap()).unwrap();
    assert!(inspected.contains("ANTHROPIC_API_KEY=") && !inspected.contains(REAL), "{inspected}");
    let processes = kernel::of_container(&container);
    assert!(processes.iter().any(|process| process.shows("ANTHROPIC_API_KEY=")), "we would see it");
    assert!(processes.iter().all(|process| !process.shows(REAL)));
    let folder = house.work_dir().join("box/runs").join(run.to_string());
    assert!(folder.join("prompt").exists());
    assert_not_in(&house.work_dir());

    let page = house.until_ended(run, SOON).await;
    assert_eq!(page.outcome(), "succeeded", "{:?}", house.row(run).await);

    // The model API saw it with every question, and nothing else.
    let record = house.record();
    let asked =
        |entry: &&serde_json::Value| entry["path"].as_str().is_some_and(|path| path.contains("/v1/messages"));
    let keys: Vec<_> = record.iter().filter(asked).map(|entry| &entry["headers"]["x-api-key"]).collect();
    assert!(keys.len() > 6 && keys.iter().all(|key| **key == REAL), "{keys:?}");
    let stranger = reqwest::Client::builder().no_proxy().timeout(SOON).build().unwrap();
    let refused =
        stranger.post(format!("{}/v1/messages", house.standin_url())).body("{}").send().await.unwrap();
    assert_eq!(refused.status().as_u16(), 401);

    for log in [house.serve.as_ref().unwrap().log(), house.work.as_ref().unwrap().log()] {
        assert!(!log.contains(REAL), "{log}");
    }
    for path in ["/", "/workers", "/health", "/agents", "/mcp", "/audit", "/account", &format!("/runs/{run}")]
    {
        assert!(!house.browser.get(path).await.body.contains(REAL), "{path}");
    }
    for event in house.events(run).await {
        assert!(!event.payload.contains(REAL), "{event:?}");
    }
}

/// The key is in no file in or below this folder.
fn assert_not_in(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            assert_not_in(&path);
        } else if kind.is_file() {
            assert!(!holds(&fs::read(&path).unwrap(), REAL), "{}", path.display());
        }
    }
}
