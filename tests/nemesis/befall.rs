//! How each fault comes about, and how it is undone.

use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, raw_sql};
use tokio::time::{Instant, timeout};

use crate::faults::Fault as F;
use crate::faults::Nemesis;
use crate::seat::Seat;
use crate::wire::{Is, Wire};
use crate::world::answers;
use crate::{kin, witness};

impl Nemesis {
    /// Does it again and again for a while.
    async fn keep<F: Future>(&self, lasts: Duration, every: Duration, mut deed: impl FnMut() -> F) {
        let end = Instant::now() + lasts;
        while Instant::now() < end && !self.heal.is_cancelled() {
            let _ = timeout(Duration::from_secs(2), deed()).await;
            self.pause(every).await;
        }
    }

    pub(crate) async fn befall(&self, fault: F, seat: &Seat, lasts: Duration) {
        let world = &self.world;
        match fault {
            F::WorkerKilled => {
                world.kill_worker(seat).await;
                self.pause(lasts).await;
                world.start_worker(seat).await;
            }
            F::WorkerFrozen => {
                world.signal_worker(seat, Signal::SIGSTOP).await;
                self.pause(lasts).await;
                world.signal_worker(seat, Signal::SIGCONT).await;
            }
            F::HostStopsAll => {
                if let Ok(mut stop) = world.stop_all().spawn() {
                    let _ = tokio::task::spawn_blocking(move || stop.wait()).await;
                }
            }
            F::WorkerLeaves => {
                world.signal_worker(seat, Signal::SIGTERM).await;
                self.pause(lasts).await;
            }
            F::ServerKilled => {
                world.kill_server().await;
                self.pause(lasts).await;
                world.start_server().await;
            }
            F::ServerFrozen => {
                world.signal_server(Signal::SIGSTOP).await;
                self.pause(lasts).await;
                world.signal_server(Signal::SIGCONT).await;
            }
            F::ServerCut => self.wire(&world.way, Is::Cut, lasts).await,
            F::ServerHangs => self.wire(&world.way, Is::Hanging, lasts).await,
            F::RedisKilled | F::RedisFrozen | F::RedisFlushed | F::RedisFull | F::RedisReadOnly => {
                self.befall_redis(fault, lasts).await;
            }
            F::PostgresKilled | F::PostgresFrozen | F::PostgresHangsUp | F::PostgresLocked => {
                self.befall_postgres(fault, lasts).await;
            }
            F::PostgresCut => self.wire(&seat.postgres, Is::Cut, lasts).await,
            F::PostgresHangs => self.wire(&seat.postgres, Is::Hanging, lasts).await,
            F::PostgresSlow => self.wire(&seat.postgres, Is::Slow(Duration::from_millis(150)), lasts).await,
            F::EngineKilled => {
                let mut engine = world.engine.lock().await;
                engine.kill();
                self.pause(lasts).await;
                // Its containerd died with it, as it does by itself; one that isn't reaped yet would be taken for alive.
                let _ = std::fs::remove_file(world.dir.join("x/containerd/containerd.pid"));
                engine.again(&world.dir);
                engine.up(&world.dir, || witness::answers(world.docker_host.clone())).await;
            }
            F::EngineRestarted => {
                let mut engine = world.engine.lock().await;
                engine.leave(Duration::from_secs(20)).await;
                engine.again(&world.dir);
                engine.up(&world.dir, || witness::answers(world.docker_host.clone())).await;
            }
            F::EngineFrozen => {
                let frozen = world.engine.lock().await.freeze();
                self.pause(lasts).await;
                kin::signal(&frozen, Signal::SIGCONT);
            }
            F::EngineCut => self.wire(&seat.engine, Is::Cut, lasts).await,
            F::EngineHangs => self.wire(&seat.engine, Is::Hanging, lasts).await,
            F::EngineSlow => self.wire(&seat.engine, Is::Slow(Duration::from_millis(150)), lasts).await,
        }
    }

    async fn wire(&self, wire: &Wire, is: Is, lasts: Duration) {
        wire.set(is);
        self.pause(lasts).await;
        wire.set(Is::Whole);
    }

    async fn befall_redis(&self, fault: F, lasts: Duration) {
        let world = &self.world;
        match fault {
            F::RedisKilled => {
                let mut redis = world.redis.lock().await;
                redis.kill();
                self.pause(lasts).await;
                redis.again(&world.dir);
                redis.up(&world.dir, || tell(world.redis_url.clone(), &["PING"])).await;
            }
            F::RedisFrozen => {
                let frozen = world.redis.lock().await.freeze();
                self.pause(lasts).await;
                kin::signal(&frozen, Signal::SIGCONT);
            }
            F::RedisFlushed => {
                let flush = || tell(world.redis_url.clone(), &["FLUSHALL"]);
                self.keep(lasts, Duration::from_millis(50), flush).await;
            }
            F::RedisFull => {
                tell(world.redis_url.clone(), &["CONFIG", "SET", "maxmemory", "1"]).await;
                self.pause(lasts).await;
                tell(world.redis_url.clone(), &["CONFIG", "SET", "maxmemory", "0"]).await;
            }
            // A replica takes no writes; this one's master is nobody.
            _ => {
                tell(world.redis_url.clone(), &["REPLICAOF", "127.0.0.1", "1"]).await;
                self.pause(lasts).await;
                tell(world.redis_url.clone(), &["REPLICAOF", "NO", "ONE"]).await;
            }
        }
    }

    async fn befall_postgres(&self, fault: F, lasts: Duration) {
        let world = &self.world;
        match fault {
            F::PostgresKilled => {
                let mut postgres = world.postgres.lock().await;
                postgres.kill();
                self.pause(lasts).await;
                postgres.again(&world.dir);
                postgres.up(&world.dir, || answers(world.database_url.clone())).await;
            }
            F::PostgresFrozen => {
                let frozen = world.postgres.lock().await.freeze();
                self.pause(lasts).await;
                kin::signal(&frozen, Signal::SIGCONT);
            }
            F::PostgresHangsUp => {
                let away = "select pg_terminate_backend(pid) from pg_stat_activity
                            where application_name like 'signalbox%'";
                let (sql, often) = (world.sql.clone(), Duration::from_millis(200));
                self.keep(lasts, often, || run(sql.clone(), away)).await;
            }
            _ => {
                let millis = lasts.as_millis();
                let hold = format!(
                    "begin; set local lock_timeout = '2s'; lock table runs in access exclusive mode;
                     select pg_sleep({millis} / 1000.0); commit"
                );
                if let Ok(Ok(mut holder)) =
                    timeout(Duration::from_secs(2), PgConnection::connect(&world.database_url)).await
                {
                    let held = timeout(
                        lasts + Duration::from_secs(5),
                        raw_sql(AssertSqlSafe(hold)).execute(&mut holder),
                    );
                    tokio::select! { _ = held => {}, () = self.heal.cancelled() => {} }
                    // A connection that is dropped in the middle is closed, and its lock is gone soon.
                }
            }
        }
    }
}

/// Says something to Redis; whether it was taken.
async fn tell(url: String, words: &'static [&'static str]) -> bool {
    let client = redis::Client::open(url).unwrap();
    let asked = async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd(words[0]).arg(&words[1..]).query_async::<redis::Value>(&mut connection).await
    };
    timeout(Duration::from_secs(2), asked).await.is_ok_and(|answer| answer.is_ok())
}

/// Runs a statement; whether it went well.
async fn run(sql: PgPool, statement: &'static str) -> bool {
    raw_sql(statement).execute(&sql).await.is_ok()
}
