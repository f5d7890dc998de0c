//! An agent: a named recipe for runs.

use std::time::Duration;

use super::run::LadderTimes;
use super::stuck::Patience;

/// A recipe and its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// What runs call it.
    pub name: String,
    /// One sentence for the person who picks it.
    pub about: String,
    /// The container image; none means the worker's own (`SIGNALBOX_IMAGE`).
    pub image: Option<String>,
    /// The model, as the CLI's `--model` takes it; none means the CLI's default.
    pub model: Option<String>,
    /// What a run may use at most.
    pub limits: Limits,
    /// How long each rung of the ladder is given.
    pub ladder: LadderTimes,
    /// How long its runs may get nowhere.
    pub patience: Patience,
}

/// What a run may use at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory, swap included, in MiB.
    pub memory_mib: i64,
    /// Thousandths of a processor.
    pub milli_cpus: i64,
    /// Processes and threads.
    pub pids: i64,
    /// Wall time from the container's start; then the ladder begins, with outcome `timed_out`.
    pub time: Duration,
}

/// What a run was made of: its agent as it was when the run was claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Which version of the agent's recipe; the first is 1.
    pub version: i32,
    /// The container image; none means the worker's own.
    pub image: Option<String>,
    /// The model; none means the CLI's default.
    pub model: Option<String>,
    /// What the run may use at most.
    pub limits: Limits,
}
