//! Wishes to stop a run, and what became of each: one that follows another weighs more, and takes its place.

use time::OffsetDateTime;

use super::run::StopMode;

/// A wish to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopWish {
    /// Where the ladder begins.
    pub mode: StopMode,
    /// Who wished it.
    pub by: String,
    /// When.
    pub at: OffsetDateTime,
    /// Why, in their words; may be empty.
    pub reason: String,
    /// The device it came from, in a few words; it is what the device says of itself.
    pub device: Option<String>,
    /// Whether the work was to be saved first.
    pub save: bool,
    /// When a worker took it, by that worker's clock.
    pub delivered_at: Option<OffsetDateTime>,
    /// Which worker that was.
    pub delivered_to: Option<String>,
}

/// How heavily a wish weighs. A run's wishes grow heavier, so that its weight tells which of them a worker has taken.
/// Migration 0015 says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(i16);

impl Weight {
    /// The weight of a wish: gracefully, by force once the work is saved, by force at once.
    pub fn of(mode: StopMode, save: bool) -> Self {
        Self(match (mode, save) {
            (StopMode::Graceful, _) => 0,
            (StopMode::Force, true) => 1,
            (StopMode::Force, false) => 2,
        })
    }

    /// As the database knows it.
    pub fn number(self) -> i16 {
        self.0
    }
}

/// That a worker took a wish of this weight, or of any that weighs less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The wish.
    pub weight: Weight,
    /// When, by the worker's clock.
    pub at: OffsetDateTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_follow_weighs_more() {
        let of = Weight::of;
        assert_eq!(of(StopMode::Graceful, true), of(StopMode::Graceful, false));
        assert!(of(StopMode::Graceful, true) < of(StopMode::Force, true));
        assert!(of(StopMode::Force, true) < of(StopMode::Force, false));
    }
}
