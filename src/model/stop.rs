//! A stop of many runs by one click: what it takes in, how far it has come.

use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;

use super::run::{Outcome, RunFilter, RunId, State, StopMode};
use super::words;

/// A stop's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StopId(pub i64);

impl fmt::Display for StopId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for StopId {
    type Err = std::num::ParseIntError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(Self)
    }
}

words! {
    /// How a stop names its runs.
    StopKind {
        /// One by one.
        Selected = "selected",
        /// All that match a filter.
        Filter = "filter",
        /// All there are: the red handle.
        Everything = "everything",
    }
}

words! {
    /// What a stop's wish met at one of its runs.
    Met {
        /// Nothing yet: it is still to be written.
        Pending = "pending",
        /// A run that lived, as far as anybody knew.
        Wished = "wished",
        /// One whose stop was wished before.
        Repeated = "repeated",
        /// One still queued: over at once.
        Queued = "queued",
        /// One that was over.
        Over = "over",
    }
}

/// What is to be stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// These.
    Selected(Vec<RunId>),
    /// All that match, up to this run.
    Filter(Matching, RunId),
}

/// Which runs a stop of all that match goes by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Matching {
    /// What they are.
    pub kind: RunFilter,
    /// Their agent's name.
    pub agent: Option<String>,
    /// The worker that holds them, or held them last.
    pub worker: Option<String>,
    /// Who asked for them.
    pub who: Option<String>,
}

impl From<RunFilter> for Matching {
    fn from(kind: RunFilter) -> Self {
        Self { kind, ..Self::default() }
    }
}

impl Matching {
    /// What a stop of all that match takes in; none when it can't be said, or all that match are over. What is queued is with
    /// no worker.
    pub fn reach(&self) -> Option<Reach> {
        let reach = self.kind.reach()?;
        Some(Reach { queued: reach.queued && self.worker.is_none(), ..reach })
    }
}

impl Target {
    /// How many can be selected one by one.
    pub const SELECTED_MAX: usize = 500;
}

/// Which runs a stop takes in, besides those that are selected one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Those that a worker holds, or held when it fell silent, in these states.
    pub held: &'static [State],
    /// Of them only those whose stop is wished already.
    pub wished: bool,
    /// Those still queued.
    pub queued: bool,
}

impl Reach {
    /// Everything that isn't over.
    pub const ALL: Self =
        Self { held: &[State::Starting, State::Running, State::Lost], wished: false, queued: true };
}

impl RunFilter {
    /// What a stop of all that match takes in; none when all that match are over, or are judged one by one.
    pub fn reach(self) -> Option<Reach> {
        let held = |held| Some(Reach { held, wished: false, queued: false });
        match self {
            Self::All => Some(Reach::ALL),
            Self::State(State::Queued) => Some(Reach { held: &[], wished: false, queued: true }),
            Self::State(State::Starting) => held(&[State::Starting]),
            Self::State(State::Running) => held(&[State::Running]),
            Self::State(State::Lost) => held(&[State::Lost]),
            Self::Unconfirmed => Some(Reach { held: Reach::ALL.held, wished: true, queued: false }),
            Self::Living => {
                Some(Reach { held: &[State::Starting, State::Running], wished: false, queued: true })
            }
            Self::State(State::Ended) | Self::Outcome(_) | Self::Stuck | Self::Needs => None,
        }
    }
}

/// A stop, as it was wished and as far as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Stop {
    /// Its number.
    pub id: StopId,
    /// How it names its runs.
    pub kind: StopKind,
    /// The filter, where it goes by one.
    pub filter: Option<Matching>,
    /// No run after this one is meant.
    pub upto: RunId,
    /// Where the ladder begins.
    pub mode: StopMode,
    /// Why, in their words; may be empty.
    pub reason: String,
    /// Who wished it.
    pub by: String,
    /// When.
    pub at: OffsetDateTime,
    /// When its last wish was written; none while some are on their way.
    pub written_at: Option<OffsetDateTime>,
    /// The red handle's: when gates could open again, and by whom.
    pub gates_opened: Option<(OffsetDateTime, String)>,
    /// The red handle's: when the queue was released, and by whom.
    pub released: Option<(OffsetDateTime, String)>,
    /// The red handle's: whether the queue was held before, and stayed so.
    pub hold_kept: bool,
}

/// How far a stop has come. Every run of it is in one of `pending`, `queued`, `over`, `unconfirmed`, `lost`, `proven`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StopCounts {
    /// Wishes still to be written.
    pub pending: i64,
    /// Runs that were still queued: they never start.
    pub queued: i64,
    /// Runs that were over already.
    pub over: i64,
    /// Runs whose worker took the wish.
    pub delivered: i64,
    /// Runs that lived, and whose end is proven.
    pub proven: i64,
    /// Runs whose end isn't proven.
    pub unconfirmed: i64,
    /// Runs whose worker is silent, so that nobody knows.
    pub lost: i64,
}

impl StopCounts {
    /// All its runs.
    pub fn all(&self) -> i64 {
        self.pending + self.queued + self.over + self.proven + self.unconfirmed + self.lost
    }

    /// Those of which nobody has proof that they are over.
    pub fn unproven(&self) -> i64 {
        self.pending + self.unconfirmed + self.lost
    }

    /// Those that were wished, by this stop or before it.
    pub fn wished(&self) -> i64 {
        self.queued + self.proven + self.unconfirmed + self.lost
    }
}

/// One run of a stop, as its receipts list it.
#[derive(Debug, Clone, PartialEq)]
pub struct StopLine {
    /// The run.
    pub run: RunId,
    /// What it is called.
    pub title: String,
    /// The worker that holds it, or held it last.
    pub worker: Option<String>,
    /// What is.
    pub state: State,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// What the wish met.
    pub met: Met,
    /// When its stop was wished.
    pub wish_at: Option<OffsetDateTime>,
    /// When its worker took the wish.
    pub delivered_at: Option<OffsetDateTime>,
    /// When its end was proven.
    pub confirmed_at: Option<OffsetDateTime>,
    /// Why its end isn't proven, in words.
    pub trouble: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_takes_in_what_its_filter_shows_and_isnt_over() {
        assert_eq!(RunFilter::All.reach(), Some(Reach::ALL));
        assert_eq!(RunFilter::Outcome(Outcome::Failed).reach(), None);
        assert_eq!(RunFilter::State(State::Ended).reach(), None);
        let running = RunFilter::State(State::Running).reach().unwrap();
        assert_eq!((running.held, running.queued), (&[State::Running][..], false));
        assert!(RunFilter::Unconfirmed.reach().unwrap().wished);
        assert_eq!(RunFilter::Stuck.reach(), None, "it is judged anew at each look");
        let all = Matching::from(RunFilter::All);
        assert_eq!(all.reach(), Some(Reach::ALL));
        let held = Matching { worker: Some("arm-1".to_owned()), ..all };
        assert_eq!(held.reach(), Some(Reach { queued: false, ..Reach::ALL }));
    }

    #[test]
    fn every_run_is_counted_once() {
        let counts = StopCounts {
            pending: 1,
            queued: 2,
            over: 4,
            delivered: 40,
            proven: 8,
            unconfirmed: 16,
            lost: 32,
        };
        assert_eq!((counts.all(), counts.unproven(), counts.wished()), (63, 49, 58));
    }
}
