//! Redis killed, frozen, emptied, full, read-only, behind another password: stops and starts go on by Postgres alone.

use std::time::Duration;

use nix::sys::signal::Signal;
use signalbox::model::run::{State, Step};
use tokio::time::Instant;

use super::own::OwnRedis;
use super::{BACK, pages, start, started, stop};
use crate::app::{TestApp, Wants};
use crate::fleet::{Fleet, until};
use crate::live::{end, says, watch};
use crate::sample::{self, RUNNING};

/// What changes is told by a stream within this.
const BY_ITSELF: Duration = Duration::from_millis(2500);

/// Runs a fleet on a Redis of its own. Under the fault a run is stopped and another one started; after it all is as it was.
async fn runs_go_on(fault: impl AsyncFnOnce(&mut OwnRedis), repair: impl AsyncFnOnce(&mut OwnRedis)) {
    let mut redis = OwnRedis::start();
    let fleet = Fleet::with(Wants { redis_url: Some(redis.url()), ..Wants::default() }).await;
    let _worker = fleet.worker("w1").await;
    let ada = fleet.app.superuser().await;
    let first = fleet.start("x").await;
    fleet.until_running(first).await;

    fault(&mut redis).await;
    assert_eq!(stop(&ada, first, "force", "").await.status, 303);
    let second = started(&start(&ada, "y", "once-1").await);
    assert_eq!(started(&start(&ada, "y", "once-1").await), second, "the same form");
    for (page, answer) in pages(&ada).await {
        assert_eq!(answer.status, 200, "{page}");
    }
    let over = fleet.over_by_then(first).await;
    fleet.assert_stopped_once(&over).await;
    assert_eq!(over.evidence.unwrap().step, Step::Sigkill);
    let running = fleet.until_running(second).await;
    assert_eq!((running.fence, fleet.engine.made(second.0)), (1, 1));

    repair(&mut redis).await;
    let began = Instant::now();
    until("back", async || fleet.app.queue.ping().await.is_ok()).await;
    stop(&ada, second, "force", "").await;
    let over = fleet.over_by_then(second).await;
    fleet.assert_stopped_once(&over).await;
    until("read", async || fleet.app.queue.commands_waiting("w1").await.is_ok_and(|n| n == Some(0))).await;
    assert!(began.elapsed() < 2 * BACK, "{:?}", began.elapsed());
}

#[tokio::test]
async fn redis_killed_and_restarted_empty_loses_nothing() {
    runs_go_on(async |redis| redis.kill(), async |redis| redis.start_again()).await;
}

#[tokio::test]
async fn redis_frozen_keeps_nobody_waiting() {
    let freeze = async |redis: &mut OwnRedis| redis.signal(Signal::SIGSTOP);
    runs_go_on(freeze, async |redis| redis.signal(Signal::SIGCONT)).await;
}

#[tokio::test]
async fn redis_out_of_memory_takes_no_command_and_none_is_missed() {
    let fill = async |redis: &mut OwnRedis| {
        redis.tell(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
        redis.tell(&["CONFIG", "SET", "maxmemory", "1"]).await;
    };
    runs_go_on(fill, async |redis| redis.tell(&["CONFIG", "SET", "maxmemory", "0"]).await).await;
}

#[tokio::test]
async fn redis_read_only_takes_no_command_and_none_is_missed() {
    let follow = async |redis: &mut OwnRedis| redis.tell(&["REPLICAOF", "127.0.0.1", "1"]).await;
    runs_go_on(follow, async |redis| redis.tell(&["REPLICAOF", "NO", "ONE"]).await).await;
}

#[tokio::test]
async fn redis_behind_another_password_is_done_without() {
    let lock = async |redis: &mut OwnRedis| {
        redis.tell(&["CONFIG", "SET", "requirepass", "another"]).await;
        redis.tell_as("another", &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        redis.tell_as("another", &["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    };
    let unlock =
        async |redis: &mut OwnRedis| redis.tell_as("another", &["CONFIG", "SET", "requirepass", ""]).await;
    runs_go_on(lock, unlock).await;
}

#[tokio::test]
async fn something_else_where_a_workers_commands_belong_is_deleted_and_no_stop_is_missed() {
    let redis = OwnRedis::start();
    let fleet = Fleet::with(Wants { redis_url: Some(redis.url()), ..Wants::default() }).await;
    let key = format!("{}:commands:w1", fleet.app.fleet);
    let waiting = async || fleet.app.queue.commands_waiting("w1").await.unwrap();
    // Before its worker starts, and under one that listens.
    redis.tell(&["SET", &key, "x"]).await;
    assert_eq!(waiting().await, None);
    let _worker = fleet.worker("w1").await;
    let ada = fleet.app.superuser().await;
    for _ in 0..2 {
        until("a stream again", async || waiting().await == Some(0)).await;
        let run = fleet.start("x").await;
        fleet.until_running(run).await;
        redis.tell(&["SET", &key, "x"]).await;
        assert_eq!(stop(&ada, run, "force", "").await.status, 303);
        let over = fleet.over_by_then(run).await;
        fleet.assert_stopped_once(&over).await;
    }
    until("a stream again", async || waiting().await == Some(0)).await;
}

#[tokio::test]
async fn redis_flushed_in_a_loop_loses_no_stop_and_no_start() {
    let redis = OwnRedis::start();
    let fleet = Fleet::with(Wants { redis_url: Some(redis.url()), ..Wants::default() }).await;
    let _worker = fleet.worker("w1").await;
    let ada = fleet.app.superuser().await;
    let flush = async {
        loop {
            redis.tell(&["FLUSHALL"]).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let live = async {
        for n in 0..3 {
            let run = started(&start(&ada, "x", &format!("once-{n}")).await);
            fleet.until(run, "running", |run| run.state == State::Running).await;
            assert_eq!(stop(&ada, run, "force", "").await.status, 303);
            let over = fleet.over_by_then(run).await;
            fleet.assert_stopped_once(&over).await;
        }
    };
    tokio::select! { () = flush => {}, () = live => {} }
}

#[tokio::test]
async fn somebody_who_never_answers_where_redis_should_be_is_done_without() {
    let (_listener, hung) = crate::app::hung_server();
    let redis_url = Some(format!("redis://127.0.0.1:{hung}"));
    let fleet = Fleet::with(Wants { redis_url, ..Wants::default() }).await;
    let _worker = fleet.worker("w1").await;
    let ada = fleet.app.superuser().await;
    let run = started(&start(&ada, "x", "once").await);
    fleet.until_running(run).await;
    assert_eq!(stop(&ada, run, "force", "").await.status, 303);
    let over = fleet.over_by_then(run).await;
    fleet.assert_stopped_once(&over).await;
}

#[tokio::test]
async fn redis_killed_leaves_open_pages_live_which_look_by_themselves() {
    let mut redis = OwnRedis::start();
    let app = TestApp::start_with(Wants { redis_url: Some(redis.url()), ..Wants::default() }).await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let runs = [sample::run(&app, RUNNING).await, sample::run(&app, RUNNING).await];
    let (mut stream, _) = watch(&ada, "/").await;
    redis.kill();
    end(&app, runs[0]).await;
    stream.until("an end", BY_ITSELF, says(&format!("run-{}", runs[0]), "data-state=\"ended\"")).await;
    let third = sample::run(&app, RUNNING).await;
    stream.until("a new run", BY_ITSELF, says(&format!("run-{third}"), "data-state=\"running\"")).await;
    redis.start_again();
    until("Redis is back", async || app.queue.ping().await.is_ok()).await;
    end(&app, runs[1]).await;
    // Who listens again looks at what it may have missed.
    stream.until("another end", BY_ITSELF, says(&format!("run-{}", runs[1]), "data-state=\"ended\"")).await;
}

#[tokio::test]
async fn redis_frozen_leaves_open_pages_live_too() {
    let redis = OwnRedis::start();
    let app = TestApp::start_with(Wants { redis_url: Some(redis.url()), ..Wants::default() }).await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    let (mut stream, _) = watch(&ada, &format!("/runs/{run}")).await;
    redis.signal(Signal::SIGSTOP);
    end(&app, run).await;
    let within = BY_ITSELF + Duration::from_millis(500);
    stream.until("its end", within, says("main", "data-state=\"ended\"")).await;
    redis.signal(Signal::SIGCONT);
}
