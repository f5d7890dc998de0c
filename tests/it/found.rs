//! Lost and found: what a host holds and no run accounts for, and the other way about.

use signalbox::engine::Error;
use signalbox::model::found::{Kind, Leftover};
use signalbox::model::run::State;

use crate::fleet::{Fleet, until};

/// `data-kind` of what the page shows as not accounted for.
async fn open(fleet: &Fleet) -> Vec<(i64, String)> {
    sqlx::query_as("select id, kind from findings where gone_at is null order by kind")
        .fetch_all(fleet.app.sql())
        .await
        .unwrap()
}

#[tokio::test]
async fn what_a_worker_killed_by_itself_is_listed() {
    let fleet = Fleet::new().await;
    let ada = fleet.app.superuser().await;
    assert!(ada.get("/found").await.body.contains("Nothing is left over"));
    fleet.engine.plant(4711);
    let _worker = fleet.worker("w1").await;
    until("killed and removed", async || fleet.engine.known().is_empty()).await;
    until("listed", async || {
        let page = ada.get("/found").await.body;
        page.contains("container-4711") && page.contains("Killed and removed: nobody held it. By worker w1.")
    })
    .await;
}

#[tokio::test]
async fn a_leftover_folder_is_found_and_cleared_when_that_is_wished() {
    let fleet = Fleet::new().await;
    let ada = fleet.app.superuser().await;
    let parts = fleet.parts("w1");
    let left = parts.settings.dir.join("w1/runs/99");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("prompt"), "x".repeat(2048)).unwrap();
    let _worker = fleet.worker_with(parts).await;
    until("found", async || !open(&fleet).await.is_empty()).await;
    let (id, kind) = open(&fleet).await.remove(0);
    assert_eq!(kind, "folder");
    let page = ada.get("/found").await.body;
    assert!(page.contains("2 KiB") && page.contains("runs/99"), "{page}");
    assert!(left.exists(), "nothing is removed before somebody wants it");
    let path = format!("/found/{id}");
    assert_eq!(ada.post(&path, &[]).await.status, 303);
    assert_eq!(ada.post(&path, &[]).await.status, 303, "twice is once");
    until("removed", async || !left.exists()).await;
    until("gone", async || open(&fleet).await.is_empty()).await;
    let noted: Vec<String> =
        sqlx::query_scalar("select detail from audit where what = 'leftover to be cleared'")
            .fetch_all(fleet.app.sql())
            .await
            .unwrap();
    assert_eq!(noted.len(), 1, "{noted:?}");
    let idle = "select count(*) from audit where what = 'nothing to be cleared'";
    let idle: i64 = sqlx::query_scalar(idle).fetch_one(fleet.app.sql()).await.unwrap();
    assert_eq!(idle, 1);
    assert_eq!(ada.post("/found/999", &[]).await.status, 404);
}

#[tokio::test]
async fn a_path_outside_the_workers_own_folder_is_never_removed() {
    let fleet = Fleet::new().await;
    let ada = fleet.app.superuser().await;
    let elsewhere = std::env::temp_dir().join(format!("{}-precious", fleet.app.fleet));
    std::fs::create_dir_all(&elsewhere).unwrap();
    let parts = fleet.parts("w1");
    std::fs::create_dir_all(parts.settings.dir.join("w1/runs/99")).unwrap();
    let _worker = fleet.worker_with(parts).await;
    // From here on no survey comes for a minute.
    until("surveyed", async || !open(&fleet).await.is_empty()).await;
    let id: i64 = sqlx::query_scalar(
        "insert into findings (worker, kind, what) values ('w1', 'folder', $1) returning id",
    )
    .bind(elsewhere.display().to_string())
    .fetch_one(fleet.app.sql())
    .await
    .unwrap();
    assert_eq!(ada.post(&format!("/found/{id}"), &[]).await.status, 303);
    let refused = async || ada.get("/found").await.body.contains("It can&#39;t be cleared away");
    until("refused", refused).await;
    // What failed can be wished again, by the same button.
    let page = ada.get("/found").await.body;
    assert!(page.contains(&format!("action=\"/found/{id}\"")), "{page}");
    assert_eq!(ada.post(&format!("/found/{id}"), &[]).await.status, 303);
    let again: i64 = sqlx::query_scalar(
        "select count(*) from audit where what = 'leftover to be cleared' and detail like '%-precious%'",
    )
    .fetch_one(fleet.app.sql())
    .await
    .unwrap();
    assert_eq!(again, 2);
    until("refused again", refused).await;
    assert!(elsewhere.exists());
    std::fs::remove_dir_all(elsewhere).unwrap();
}

#[tokio::test]
async fn a_lost_run_without_a_container_is_named_until_it_is_settled() {
    let fleet = Fleet::new().await;
    let run = fleet.start("x").await;
    let lease = fleet.claim("w1").await;
    fleet.app.worker_db.mark_running(&lease, "container-gone").await.unwrap();
    let old = "update runs set started_at = now() - interval '1 h'";
    sqlx::query(old).execute(fleet.app.sql()).await.unwrap();
    let none = fleet.app.worker_db.runs_without("w1", &[run.0]).await.unwrap();
    assert!(none.is_empty(), "its container is there");
    let found = fleet.app.worker_db.runs_without("w1", &[]).await.unwrap();
    assert_eq!(found.iter().map(|(run, _)| *run).collect::<Vec<_>>(), [run]);
    assert_eq!(fleet.run(run).await.state, State::Running);
}

#[tokio::test]
async fn images_and_volumes_that_nothing_uses_are_listed_and_removed_when_that_is_wished() {
    let fleet = Fleet::new().await;
    let ada = fleet.app.superuser().await;
    let since = signalbox::clock::now() - time::Duration::hours(50);
    let leftover = |kind, what: &str, bytes| {
        let (what, detail) = (what.to_owned(), "left".to_owned());
        Leftover { kind, what, run: None, detail, bytes, since: Some(since) }
    };
    fleet.engine.leave(leftover(Kind::Image, "sha256:0123", Some(5 << 20)));
    fleet.engine.leave(leftover(Kind::Volume, "work-7", Some(3 << 10)));
    fleet.engine.leave(leftover(Kind::Volume, "work-8", None));
    let _worker = fleet.worker("w1").await;
    until("listed", async || open(&fleet).await.len() == 3).await;
    let page = ada.get("/found").await.body;
    for words in ["Replaced agent image", "sha256:0123", "5.0 MiB", "work-7", "3 KiB", "work-8", "2 d"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert_eq!(fleet.engine.left_over().len(), 3, "nothing is removed before somebody wants it");
    for (id, _) in &open(&fleet).await[..2] {
        assert_eq!(ada.post(&format!("/found/{id}"), &[]).await.status, 303);
    }
    until("removed", async || open(&fleet).await.len() == 1).await;
    let left = fleet.engine.left_over();
    assert_eq!(left.iter().map(|left| left.what.as_str()).collect::<Vec<_>>(), ["work-8"]);
    let page = ada.get("/found").await.body;
    assert!(page.contains("Removed. By worker w1."), "{page}");
}

#[tokio::test]
async fn a_container_that_nobody_holds_is_killed_and_removed_when_that_is_wished() {
    let fleet = Fleet::new().await;
    let ada = fleet.app.superuser().await;
    fleet.engine.plant(4711);
    // The sweep can't; it tries again 15 s later.
    fleet.engine.answers(Some(("signal", || Error::Unavailable("it is busy".into()))));
    let _worker = fleet.worker("w1").await;
    until("listed", async || !open(&fleet).await.is_empty()).await;
    let (id, kind) = open(&fleet).await.remove(0);
    assert_eq!(kind, "container");
    let page = ada.get("/found").await.body;
    assert!(page.contains("Kill and remove") && page.contains("/runs/4711"), "{page}");
    assert_eq!(fleet.engine.alive(), [4711]);
    // A first try that fails says so, and offers it again.
    assert_eq!(ada.post(&format!("/found/{id}"), &[]).await.status, 303);
    let failed = async || ada.get("/found").await.body.contains("it is still alive");
    until("tried", failed).await;
    assert_eq!(fleet.engine.alive(), [4711]);
    fleet.engine.answers(None);
    assert_eq!(ada.post(&format!("/found/{id}"), &[]).await.status, 303);
    until("gone", async || open(&fleet).await.is_empty()).await;
    assert!(fleet.engine.known().is_empty());
    let page = ada.get("/found").await.body;
    assert!(page.contains("Killed and removed"), "{page}");
}
