//! Stores that are away, or hang: what still works, and how soon the rest says that it doesn't.

use std::time::{Duration, Instant};

use signalbox::model::run::{NewRun, RunId};

use crate::app::{TestApp, Wants, hung_server};

/// A page answers within this, whatever the stores do.
const SOON: Duration = Duration::from_secs(2);

async fn start_run(app: &TestApp) -> RunId {
    let new = NewRun::parse("claude-code", "do something", "", None).unwrap();
    app.db.start_run(&app.proof().await, &new, None).await.unwrap().run
}

/// A run that a worker holds, which has to be told.
async fn held_run(app: &TestApp) -> RunId {
    let run = start_run(app).await;
    sqlx::query(
        "insert into workers (name, version, arch, page_size, kernel, engine, engine_ok, sandboxed, rehearsal, capacity)
         values ('w1', '0', 'x86_64', 4096, '6', 'docker', true, true, false, 1)",
    )
    .execute(app.sql())
    .await
    .unwrap();
    sqlx::query(
        "update runs set state = 'running', worker = 'w1', fence = 1, lease_until = now() + interval '1 minute'
         where id = $1",
    )
    .bind(run.0)
    .execute(app.sql())
    .await
    .unwrap();
    run
}

async fn wish(app: &TestApp, run: RunId) -> (String, Option<String>) {
    let row = sqlx::query_as("select wish, wish_mode from runs where id = $1").bind(run.0);
    row.fetch_one(app.sql()).await.unwrap()
}

#[tokio::test]
async fn without_redis_runs_are_started_and_stopped() {
    let (_listener, hung) = hung_server();
    for redis in [format!("redis://127.0.0.1:{hung}"), "redis://127.0.0.1:1".to_owned()] {
        let app = TestApp::start_with(Wants { redis_url: Some(redis.clone()), ..Wants::default() }).await;
        let ada = app.superuser().await;
        let run = held_run(&app).await;

        let began = Instant::now();
        let answer = ada.post(&format!("/runs/{run}/terminate"), &[("mode", "force")]).await;
        assert!(began.elapsed() < SOON, "{redis}: {:?}", began.elapsed());
        assert_eq!(answer.status, 303, "{}", answer.body);
        assert_eq!(wish(&app, run).await, ("stop".to_owned(), Some("force".to_owned())));

        let began = Instant::now();
        let form = [("agent", "claude-code"), ("prompt", "do more"), ("title", "")];
        let answer = ada.post("/runs", &form).await;
        assert!(began.elapsed() < SOON, "{redis}: {:?}", began.elapsed());
        assert_eq!((answer.status, answer.header("location")), (303, Some("/runs/2")), "{}", answer.body);

        for page in ["/", "/runs/1", "/workers", "/health", "/agents", "/audit", "/account"] {
            let began = Instant::now();
            assert_eq!(ada.get(page).await.status, 200, "{page}");
            assert!(began.elapsed() < SOON, "{redis}, {page}: {:?}", began.elapsed());
        }
    }
}

#[tokio::test]
async fn while_postgres_hangs_every_page_says_so_soon() {
    let app = TestApp::start().await;
    let (ada, run) = (app.superuser().await, start_run(&app).await);
    // Nobody gets past these locks; the guard still does.
    let mut locks = app.sql().begin().await.unwrap();
    let lock = "lock table runs, workers, agents, audit in access exclusive mode";
    sqlx::query(lock).execute(&mut *locks).await.unwrap();
    for page in ["/", "/runs/1", "/runs/new", "/workers", "/agents", "/audit", "/account"] {
        let began = Instant::now();
        let answer = ada.get(page).await;
        assert!(began.elapsed() < SOON, "{page}: {:?}", began.elapsed());
        assert_eq!(answer.status, 503, "{page}");
        assert!(answer.body.contains("The database doesn&#39;t answer."), "{page}: {}", answer.body);
    }
    let began = Instant::now();
    let answer = ada.post(&format!("/runs/{run}/terminate"), &[("mode", "force")]).await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(answer.status, 503);
    locks.rollback().await.unwrap();
    assert_eq!(ada.post(&format!("/runs/{run}/terminate"), &[("mode", "force")]).await.status, 303);
    assert_eq!(ada.get("/").await.status, 200);
}
