//! A stop as a person asks for it, and what is known of the work that it would lose.

use time::OffsetDateTime;

use super::run::StopMode;

/// What a person says when they stop a run, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewStop<'a> {
    /// Where the ladder begins.
    pub mode: StopMode,
    /// Why, in their words; may be empty.
    pub reason: &'a str,
    /// Whether the work is saved before the first signal.
    pub save: bool,
    /// The client's address.
    pub address: Option<&'a str>,
    /// The device, in a few words.
    pub device: Option<&'a str>,
}

impl NewStop<'_> {
    /// A stop with nothing else said.
    pub fn new(mode: StopMode) -> Self {
        Self { mode, reason: "", save: false, address: None, device: None }
    }
}

/// What was seen of a run's workspace while it lived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkSeen {
    /// When.
    pub at: OffsetDateTime,
    /// Files that no commit holds as they are.
    pub files: Option<i64>,
    /// Commits that no remote has.
    pub unpushed: Option<i64>,
    /// What couldn't be seen, in words.
    pub trouble: Option<String>,
}

/// What was kept of a run's workspace before a stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedWork {
    /// When.
    pub at: OffsetDateTime,
    /// How long the patch is, in bytes; 0 when there is none.
    pub bytes: i64,
    /// How many files it changes.
    pub files: i64,
    /// How many commits are in it that no remote has.
    pub unpushed: i64,
    /// What isn't in it and why, in words.
    pub trouble: Option<String>,
}

/// A worker's part of [`SavedWork`], with the patch itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patch {
    /// For `git apply` in an empty folder, or in a clone at the commit that the remote has.
    pub bytes: Vec<u8>,
    /// How many files it changes.
    pub files: i64,
    /// How many commits are in it that no remote has.
    pub unpushed: i64,
    /// What isn't in it and why, in words.
    pub trouble: Vec<String>,
}

impl Patch {
    /// The longest that is kept, in bytes.
    pub const MAX: usize = 4 << 20;
}
