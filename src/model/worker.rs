//! What a worker says of itself.

use time::OffsetDateTime;

/// What a worker found on its host; measured, never assumed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
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
