//! Lost and found: what a host holds and no run accounts for, and the other way about.

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
