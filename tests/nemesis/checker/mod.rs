//! The checker: holds a history against the guarantee, point by point. It knows nothing but the history.

mod claims;
mod once;
mod orphans;
mod rows;
pub(crate) mod samples;
pub(crate) mod story;
pub(crate) mod summary;
mod times;
mod transcripts;

use crate::history::{Ms, Record};
use story::Story;

/// How far two readings of one clock may be apart, in milliseconds.
const TOLERANCE: Ms = 100;

/// A breach of the guarantee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Which point of it.
    pub(crate) point: u8,
    pub(crate) run: Option<i64>,
    pub(crate) at: Ms,
    pub(crate) says: String,
}

/// What was found so far.
#[derive(Default)]
struct Found(Vec<Violation>);

impl Found {
    fn add(&mut self, point: u8, run: impl Into<Option<i64>>, at: Ms, says: String) {
        self.0.push(Violation { point, run: run.into(), at, says });
    }
}

/// Every breach in a history, in the order of the guarantee.
pub(crate) fn check(records: &[Record]) -> Vec<Violation> {
    violations(&Story::of(records))
}

/// The same, of a history that is sorted already.
pub(crate) fn violations(story: &Story<'_>) -> Vec<Violation> {
    let mut found = Found::default();
    once::nothing_is_lost(story, &mut found);
    once::at_most_one_container(story, &mut found);
    claims::no_end_is_false(story, &mut found);
    claims::wishes_have_their_effect(story, &mut found);
    times::stops_are_in_time(story, &mut found);
    times::forms_are_answered(story, &mut found);
    times::gates_are_closed_at_once(story, &mut found);
    times::proofs_follow_the_last_fault(story, &mut found);
    claims::pages_claim_nothing_false(story, &mut found);
    rows::what_is_over_stays_over(story, &mut found);
    rows::nobody_writes_under_an_old_fence(story, &mut found);
    orphans::no_orphan_lives(story, &mut found);
    orphans::a_cut_off_worker_stops_itself(story, &mut found);
    transcripts::are_what_was_printed(story, &mut found);
    found.0.sort_by_key(|violation| (violation.point, violation.at));
    found.0
}
