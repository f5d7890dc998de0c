//! What the nemesis has met, as tests of their own.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use crate::kin;
use crate::planted::Stage;
use crate::world::Plan;

/// It once waited for ever for connections that Postgres didn't let go, and nobody renewed its leases.
pub(crate) async fn a_worker_sent_away_while_postgres_is_frozen_leaves() {
    let stage = Stage::set(Plan { workers: vec!["box"], start: 1, ..Plan::default() }).await;
    let world = &stage.world;
    for _ in 0..3 {
        stage.running().await;
    }
    let pid = world.seats[0].program.lock().await.as_ref().unwrap().0.pid();
    let frozen = world.postgres.lock().await.freeze();
    // Long enough for each of its connections to wait for an answer.
    sleep(Duration::from_secs(5)).await;
    world.signal_worker(&world.seats[0], Signal::SIGTERM).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while kin::lives(pid) && Instant::now() < deadline {
        sleep(Duration::from_millis(50)).await;
    }
    let left = !kin::lives(pid);
    kin::signal(&frozen, Signal::SIGCONT);
    assert!(left, "it is still there");
    world.look_after().await;
    assert_eq!(stage.judged().await, []);
}
