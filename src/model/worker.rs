//! What a worker says of itself.

use time::OffsetDateTime;

/// What a worker found on its host; measured, never assumed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HostFacts {
    /// Signalbox's own version.
    pub version: String,
    /// Machine architecture, as `uname -m` says it.
    pub arch: String,
    /// Memory page size in bytes.
    pub page_size: i64,
    /// Kernel release.
    pub kernel: String,
    /// Engine, its version and API, in one line; or why there is none.
    pub engine: String,
    /// Whether the engine answered when it was last asked.
    pub engine_ok: bool,
    /// Whether runs are in containers. False for the process engine.
    pub sandboxed: bool,
    /// Version of the Claude Code CLI that its runs use, when known.
    pub claude: Option<String>,
    /// Whether the model API is the scripted stand-in.
    pub rehearsal: bool,
    /// How many runs it takes at once.
    pub capacity: i32,
    /// What its host has to bear.
    pub load: Load,
    /// What it has counted since it started.
    pub counts: Counts,
}

/// Bytes in use, and bytes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// In use.
    pub used: i64,
    /// In all.
    pub total: i64,
}

impl Room {
    /// The share that is in use, from 0 to 1; none where there is nothing.
    pub fn share(self) -> Option<f64> {
        (self.total > 0).then(|| self.used as f64 / self.total as f64)
    }
}

/// What a worker's host has to bear, as of a heartbeat. What couldn't be measured is none.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Load {
    /// The share of all processors that was busy since the heartbeat before, from 0 to 1.
    pub cpu: Option<f64>,
    /// The host's memory.
    pub memory: Option<Room>,
    /// The disk that the worker's folder is on.
    pub disk: Option<Room>,
    /// How long the engine took to answer, in milliseconds; none when it didn't.
    pub engine_ms: Option<f64>,
    /// The longest that a line took from its printing to Postgres since the heartbeat before, in seconds; none when nothing
    /// was printed.
    pub lag_s: Option<f64>,
}

/// What a worker has counted since it started.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Counts {
    /// Calls of the model through its gates.
    pub calls: i64,
    /// Dollars that they took, by list price.
    pub usd: f64,
    /// How long stops took.
    pub stops: StopTimes,
}

/// How long stops took, from the click to their proof in Postgres.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StopTimes {
    /// How many took no longer than each of [`Self::BOUNDS_S`] and longer than the one before; the last: longer than all.
    pub counts: Vec<i64>,
    /// All of them together, in seconds.
    pub sum_s: f64,
}

impl StopTimes {
    /// Upper bounds, in seconds.
    pub const BOUNDS_S: [f64; 11] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

    /// Counts one.
    pub fn count(&mut self, took_s: f64) {
        self.counts.resize(Self::BOUNDS_S.len() + 1, 0);
        let place = Self::BOUNDS_S.iter().position(|bound| took_s <= *bound).unwrap_or(Self::BOUNDS_S.len());
        self.counts[place] += 1;
        self.sum_s += took_s;
    }
}

/// Where a worker's runs have their containers. Another worker may go by its name one day, on another host; and its engine may
/// be another one after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The worker's name.
    pub worker: String,
    /// The random word in its folder.
    pub seat: String,
    /// The engine's own identity, once it has said it.
    pub engine: Option<String>,
}

/// A worker, as Postgres knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// Its name, unique in the fleet.
    pub name: String,
    /// What it said of itself.
    pub facts: HostFacts,
    /// When it started.
    pub started_at: OffsetDateTime,
    /// When it was last heard of.
    pub heard_at: OffsetDateTime,
    /// Seconds since then, by Postgres's clock.
    pub silent_s: f64,
    /// How many runs it holds.
    pub holds: i64,
    /// Since when it takes nothing, if it was drained.
    pub drained: Option<Drained>,
}

/// A worker finishes what it runs, and takes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drained {
    /// Since when.
    pub at: OffsetDateTime,
    /// Who wished it.
    pub by: String,
    /// Why, in their words; may be empty.
    pub why: String,
}

impl Worker {
    /// Heartbeats come every 5 s; three missed in a row and it is called silent.
    pub const SILENT_AFTER_S: f64 = 15.0;

    /// Whether it was heard of lately.
    pub fn is_alive(&self) -> bool {
        self.silent_s < Self::SILENT_AFTER_S
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_counted_under_the_first_bound_that_holds_it() {
        let mut times = StopTimes::default();
        for took_s in [0.05, 0.051, 4.0, 1000.0] {
            times.count(took_s);
        }
        assert_eq!(times.counts, [1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
        assert!((times.sum_s - 1004.101).abs() < 1e-9);
    }
}
