//! The server under `kill -9`, at any moment between a form and its answer: what was written is whole, and the same form
//! sent again is the same deed.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::own::{OwnRedis, Process, signalbox};
use super::{start, started, stop};
use crate::app::{Browser, PASSWORD, Wants};
use crate::fleet::Fleet;

/// The real server, beside the fleet's own, on the same stores; and Ada, signed in.
async fn serve(fleet: &Fleet) -> (Process, Browser) {
    let variables = [
        ("DATABASE_URL", fleet.app.database_url.clone()),
        ("REDIS_URL", fleet.app.redis_url.clone()),
        ("SIGNALBOX_FLEET", fleet.app.fleet.clone()),
        ("SIGNALBOX_LISTEN", "127.0.0.1:0".to_owned()),
    ];
    let (process, url) = tokio::task::spawn_blocking(move || signalbox("serve", &variables)).await.unwrap();
    let ada = Browser::new(url.strip_prefix("http://").unwrap().parse().unwrap());
    ada.post("/login", &[("name", "ada"), ("password", PASSWORD)]).await;
    (process, ada)
}

/// Sends a form and kills the server some time later; whether there is an answer is up to chance.
async fn killed_after(mut process: Process, ask: impl Future<Output = ()> + Send + 'static, pause: Duration) {
    let asked = tokio::spawn(ask);
    sleep(pause).await;
    process.kill();
    // Without an answer the browser gives up, which is a panic of its own here.
    let _ = asked.await;
}

/// From before the form is read to after it is answered, in steps as fine as the whole is short.
fn moments() -> impl Iterator<Item = Duration> {
    [0, 500, 1_000, 1_500, 2_000, 3_000, 5_000, 9_000].into_iter().map(Duration::from_micros)
}

#[tokio::test]
async fn a_server_killed_at_any_moment_of_a_stop_has_written_all_of_it_or_nothing() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("w1").await;
    let here = fleet.app.superuser().await;
    for (n, pause) in moments().enumerate() {
        let run = started(&start(&here, "x", &format!("once-{n}")).await);
        fleet.until_running(run).await;
        let (process, ada) = serve(&fleet).await;
        let ask =
            async move { drop(ada.post(&format!("/runs/{run}/terminate"), &[("mode", "force")]).await) };
        killed_after(process, ask, pause).await;
        // In one look: what was sent to Postgres before the end may be written only now.
        let (wished, noted): (bool, i64) = sqlx::query_as(
            "select wish = 'stop', (select count(*) from audit where run_id = $1 and what = 'stop wished')
             from runs where id = $1",
        )
        .bind(run.0)
        .fetch_one(fleet.app.sql())
        .await
        .unwrap();
        assert_eq!(noted, i64::from(wished), "{pause:?}");
        // She taps again.
        assert_eq!(stop(&here, run, "force", "").await.status, 303);
        let over = fleet.over_by_then(run).await;
        fleet.assert_stopped_once(&over).await;
    }
}

#[tokio::test]
async fn a_server_killed_at_any_moment_of_a_start_has_started_one_run_or_none() {
    let fleet = Fleet::new().await;
    let here = fleet.app.superuser().await;
    let mut all = Vec::new();
    for (n, pause) in moments().enumerate() {
        let (process, ada) = serve(&fleet).await;
        let once = format!("once-{n}");
        let form = once.clone();
        let ask = async move { drop(start(&ada, "x", &form).await) };
        killed_after(process, ask, pause).await;
        let run = started(&start(&here, "x", &once).await);
        all.push(run);
        let runs: i64 = sqlx::query_scalar("select count(*) from runs where once = $1")
            .bind(&once)
            .fetch_one(fleet.app.sql())
            .await
            .unwrap();
        assert_eq!((runs, fleet.audit(run).await), (1, vec!["run started".to_owned()]), "{pause:?}");
    }
    let mut parts = fleet.parts("w1");
    parts.settings.capacity = 100;
    let _worker = fleet.worker_with(parts).await;
    for run in all {
        fleet.until_running(run).await;
    }
}

#[tokio::test]
async fn a_server_killed_between_the_wish_and_its_command_is_not_missed() {
    let redis = OwnRedis::start();
    let fleet = Fleet::with(Wants { redis_url: Some(redis.url()), ..Wants::default() }).await;
    let _worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    let (process, ada) = serve(&fleet).await;
    // It has written the wish, and waits for Redis to take the command.
    redis.signal(Signal::SIGSTOP);
    let ask = async move { drop(ada.post(&format!("/runs/{run}/terminate"), &[("mode", "force")]).await) };
    let asked = tokio::spawn(ask);
    fleet.until(run, "wished", |run| run.stop.is_some()).await;
    let mut process = process;
    process.kill();
    let _ = asked.await;
    let over = fleet.over_by_then(run).await;
    fleet.assert_stopped_once(&over).await;
    redis.signal(Signal::SIGCONT);
}
