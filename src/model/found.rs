//! Lost and found: what is on a host and no run accounts for, or the other way about.

use time::OffsetDateTime;

use super::run::RunId;
use super::words;

words! {
    /// What kind of thing it is.
    Kind {
        /// A container of ours that no run accounts for.
        Container = "container",
        /// A run that should have a container, and the engine has none.
        Run = "run",
        /// A run's folder that was left over.
        Folder = "folder",
        /// An agent image that a newer one has replaced.
        Image = "image",
        /// A volume of ours that no container uses.
        Volume = "volume",
    }
}

/// Something that is left over on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// What kind of thing it is.
    pub kind: Kind,
    /// The engine's id of it, its path, or the run's number.
    pub what: String,
    /// The run that it was for, where that can be told.
    pub run: Option<RunId>,
    /// What else is known, in words.
    pub detail: String,
    /// Its size in bytes.
    pub bytes: Option<i64>,
    /// Since when it is there.
    pub since: Option<OffsetDateTime>,
}

/// A leftover, as Postgres knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its number.
    pub id: i64,
    /// Whose host it is on.
    pub worker: String,
    /// Whether that worker was heard of lately.
    pub worker_alive: bool,
    /// The thing.
    pub leftover: Leftover,
    /// When it was found.
    pub found_at: OffsetDateTime,
    /// When it was seen last.
    pub seen_at: OffsetDateTime,
    /// When it was there no more.
    pub gone_at: Option<OffsetDateTime>,
    /// Who wants it cleared away, and since when.
    pub wished: Option<(String, OffsetDateTime)>,
    /// What was done about it, by whom, when.
    pub done: Option<(String, String, OffsetDateTime)>,
}
