//! Faults: chosen by the dice, several at a time, each undone after a bounded while.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::dice::Dice;
use crate::history::{Record, now};
use crate::world::World;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    WorkerKilled,
    WorkerFrozen,
    WorkerLeaves,
    /// Somebody stops everything on the host, past all stores.
    HostStopsAll,
    ServerKilled,
    ServerFrozen,
    /// These are between the server and Postgres.
    ServerCut,
    ServerHangs,
    RedisKilled,
    RedisFrozen,
    RedisFlushed,
    RedisFull,
    RedisReadOnly,
    PostgresKilled,
    PostgresFrozen,
    PostgresHangsUp,
    PostgresLocked,
    /// These are between one worker and Postgres.
    PostgresCut,
    PostgresHangs,
    PostgresSlow,
    EngineKilled,
    EngineFrozen,
    /// Sent away and started again at once; not left to the dice.
    EngineRestarted,
    /// These are between one worker and the engine.
    EngineCut,
    EngineHangs,
    EngineSlow,
}

use Fault as F;

/// How often each is chosen, and how long it lasts at least and at most, in milliseconds.
const CHANCES: [(u64, Fault, u64, u64); 25] = [
    (14, F::WorkerKilled, 100, 12_000),
    (12, F::WorkerFrozen, 500, 40_000),
    (4, F::WorkerLeaves, 100, 4_000),
    (2, F::HostStopsAll, 0, 0),
    (5, F::ServerKilled, 50, 3_000),
    (3, F::ServerFrozen, 500, 5_000),
    (3, F::ServerCut, 100, 3_000),
    (3, F::ServerHangs, 100, 5_000),
    (5, F::RedisKilled, 500, 8_000),
    (4, F::RedisFrozen, 500, 8_000),
    (4, F::RedisFlushed, 2_000, 10_000),
    (3, F::RedisFull, 2_000, 10_000),
    (3, F::RedisReadOnly, 2_000, 10_000),
    (5, F::PostgresKilled, 200, 8_000),
    (5, F::PostgresFrozen, 500, 28_000),
    (5, F::PostgresHangsUp, 1_000, 6_000),
    (3, F::PostgresLocked, 500, 5_000),
    (6, F::PostgresCut, 1_000, 35_000),
    (6, F::PostgresHangs, 1_000, 35_000),
    (4, F::PostgresSlow, 2_000, 15_000),
    (3, F::EngineKilled, 200, 6_000),
    (5, F::EngineFrozen, 500, 12_000),
    (4, F::EngineCut, 500, 12_000),
    (4, F::EngineHangs, 500, 12_000),
    (3, F::EngineSlow, 2_000, 10_000),
];

/// How many at a time.
const AT_ONCE: usize = 3;
/// Now and then there is none for a while, so that it is seen how things go then, and what comes back.
const CALM_EVERY: Duration = Duration::from_secs(50);
const CALM: Duration = Duration::from_secs(14);

impl Fault {
    /// Its name in the history, and in the environment.
    pub(crate) fn word(self) -> String {
        let name = format!("{self:?}");
        let mut word = String::new();
        for letter in name.chars() {
            if letter.is_uppercase() && !word.is_empty() {
                word.push('-');
            }
            word.extend(letter.to_lowercase());
        }
        word
    }

    fn is_of_a_seat(self) -> bool {
        matches!(self, F::WorkerKilled | F::WorkerFrozen | F::WorkerLeaves)
            || matches!(self, F::PostgresCut | F::PostgresHangs | F::PostgresSlow)
            || matches!(self, F::EngineCut | F::EngineHangs | F::EngineSlow)
    }

    /// What it befalls, but for its worker's name.
    fn part(self) -> &'static str {
        match self {
            F::WorkerKilled | F::WorkerFrozen | F::WorkerLeaves => "worker",
            F::HostStopsAll => "host",
            F::ServerKilled | F::ServerFrozen => "serve",
            F::ServerCut | F::ServerHangs => "serve's way",
            F::RedisKilled | F::RedisFrozen | F::RedisFlushed | F::RedisFull | F::RedisReadOnly => "redis",
            F::PostgresKilled | F::PostgresFrozen | F::PostgresHangsUp | F::PostgresLocked => "postgres",
            F::PostgresCut | F::PostgresHangs | F::PostgresSlow => "way to postgres",
            F::EngineKilled | F::EngineFrozen | F::EngineRestarted => "engine",
            F::EngineCut | F::EngineHangs | F::EngineSlow => "way to engine",
        }
    }
}

/// Inflicts them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Nemesis {
    pub(crate) world: Arc<World>,
    /// What is befallen now.
    befallen: Arc<Mutex<HashSet<String>>>,
    count: Arc<AtomicU64>,
    /// Everything is undone at once.
    pub(crate) heal: CancellationToken,
}

impl Nemesis {
    pub(crate) fn of(world: &Arc<World>) -> Self {
        Self {
            world: world.clone(),
            befallen: Arc::default(),
            count: Arc::default(),
            heal: CancellationToken::new(),
        }
    }

    /// Lets the dice choose, for as long as told.
    pub(crate) async fn rage_until(self, deadline: Instant, mut dice: Dice) {
        let mut under_way = tokio::task::JoinSet::new();
        let choices: Vec<(u64, usize)> = CHANCES.iter().enumerate().map(|(n, c)| (c.0, n)).collect();
        let mut calm = Instant::now() + CALM_EVERY;
        self.pause(dice.millis(6_000, 12_000)).await;
        while Instant::now() < deadline && !self.heal.is_cancelled() {
            if Instant::now() > calm {
                while let Some(done) = under_way.join_next().await {
                    done.unwrap();
                }
                self.pause(CALM).await;
                calm = Instant::now() + CALM_EVERY;
            }
            if under_way.len() < AT_ONCE {
                let (_, fault, least, most) = CHANCES[dice.weighted(&choices)];
                // Mostly short, now and then as long as may be.
                let most = if dice.chance(70) { least + (most - least) / 4 } else { most };
                let (nemesis, lasts) = (self.clone(), dice.millis(least, most));
                let seat = usize::try_from(dice.below(self.world.seats.len() as u64)).unwrap();
                under_way.spawn(async move { nemesis.inflict(fault, seat, lasts).await });
            }
            self.pause(dice.millis(300, 6_000)).await;
            while let Some(done) = under_way.try_join_next() {
                done.unwrap();
            }
        }
        while let Some(done) = under_way.join_next().await {
            done.unwrap();
        }
    }

    /// One fault, from its beginning to its end. Nothing when what it would befall is befallen already.
    pub(crate) async fn inflict(&self, fault: Fault, seat: usize, lasts: Duration) {
        let seat = &self.world.seats[seat];
        let target = if fault.is_of_a_seat() { seat.name.clone() } else { fault.part().to_owned() };
        let befalls = format!("{} {target}", fault.part());
        if !self.befallen.lock().await.insert(befalls.clone()) {
            return;
        }
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let note = |begins| {
            let (kind, target) = (fault.word(), target.clone());
            self.world.pen.write(&Record::Fault { at: now(), fault: number, kind, target, begins });
        };
        note(true);
        self.befall(fault, seat, lasts).await;
        note(false);
        self.befallen.lock().await.remove(&befalls);
    }

    /// Sleeps, unless everything is to be undone.
    pub(crate) async fn pause(&self, lasts: Duration) {
        tokio::select! { () = sleep(lasts) => {}, () = self.heal.cancelled() => {} }
    }
}
