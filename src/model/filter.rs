//! What a list of runs is narrowed to.

use time::{Duration, OffsetDateTime};

use super::run::RunFilter;
use super::search::Search;
use super::stop::Matching;
use super::words;

words! {
    /// A time that is counted back from now.
    Lately {
        /// An hour.
        Hour = "hour",
        /// A day.
        Day = "day",
        /// A week.
        Week = "week",
    }
}

impl Lately {
    fn span(self) -> Duration {
        match self {
            Self::Hour => Duration::hours(1),
            Self::Day => Duration::days(1),
            Self::Week => Duration::weeks(1),
        }
    }
}

/// Since when runs were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Since {
    /// So long before now.
    Lately(Lately),
    /// This moment.
    Moment(OffsetDateTime),
}

/// What runs must be to be in a list; the default lets all in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Filter {
    /// What a stop of many goes by too.
    pub matching: Matching,
    /// Asked for from here on.
    pub since: Option<Since>,
    /// Asked for before this.
    pub until: Option<OffsetDateTime>,
    /// What they have cost at least, in cents.
    pub cents: Option<i64>,
    /// Words that they hold.
    pub search: Option<Search>,
}

impl From<RunFilter> for Filter {
    fn from(kind: RunFilter) -> Self {
        Self { matching: kind.into(), ..Self::default() }
    }
}

impl Filter {
    /// Whether it goes by nothing that a stop of many can't go by.
    pub fn is_matching(&self) -> bool {
        *self == Self { matching: self.matching.clone(), ..Self::default() }
    }

    /// The moment from which on runs were asked for.
    pub fn begins(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        self.since.map(|since| match since {
            Since::Lately(lately) => now - lately.span(),
            Since::Moment(at) => at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::run::State;

    #[test]
    fn a_stop_goes_by_some_of_it() {
        let running = Filter::from(RunFilter::State(State::Running));
        assert!(running.is_matching());
        assert!(!Filter { cents: Some(100), ..running.clone() }.is_matching());
        assert!(!Filter { since: Some(Since::Lately(Lately::Hour)), ..running }.is_matching());
    }

    #[test]
    fn an_hour_ago_is_an_hour_ago() {
        let lately = Filter { since: Some(Since::Lately(Lately::Hour)), ..Filter::default() };
        let now = OffsetDateTime::UNIX_EPOCH;
        assert_eq!(lately.begins(now), Some(now - Duration::hours(1)));
        assert_eq!(Filter::default().begins(now), None);
    }
}
