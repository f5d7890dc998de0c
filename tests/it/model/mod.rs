//! A model of lease, fence, command and ladder, checked exhaustively: every order of the steps that workers, engines, the
//! server, the superuser and fate can take, up to a number of faults.
//!
//! The steps are those of `src/db/lease.rs`, `src/db/runs.rs` and `src/worker`, one for each statement, each request to an
//! engine and each look. A fault is a worker killed or frozen, its Postgres out of reach, its engine hanging, an
//! answer of Postgres lost, or a statement carried out after its sender gave it up. Redis needs no budget: every
//! command may be lost, and one that isn't may come at any time, to any later life.
//!
//! Abstracted:
//! - One run, two hosts. Runs share nothing but the queue, whose order is of no interest here.
//! - Time goes in thirds of a lease. It stands still while somebody awake has something urgent to do: clocks are bounded,
//!   and a third of a lease (10 s) is longer than a look (2 s), a signal and a death together.
//! - A held queue, a drained worker and stops of many only make claims rarer, and wishes more.
//! - SIGTERM is left out: it is another SIGINT.
//! - What the containers print, what they cost, why they wait; gates, which close with the order that is modelled.
//! - The engine's list and inspect are at one stroke with what follows from them, but where an engine may still do
//!   something between: making, starting and removing are steps apart, and requests outlive those who sent them.
//! - A host that never comes back: its runs stay lost, and nothing claims more.

mod packed;
mod postgres;
mod properties;
mod steps;
mod world;

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model};

/// The protocol, or one of its negative twins.
#[derive(Debug, Clone, Copy, Default)]
struct Protocol {
    /// How many faults there may be.
    faults: u8,
    counts_calm_steps: bool,
    rules: Rules,
}

/// What a defect would leave out, or turn round.
#[derive(Debug, Clone, Copy, Default)]
struct Rules {
    ignores_fences: bool,
    adopts_under_the_old_fence: bool,
    never_fences_itself: bool,
    writes_the_end_before_the_engine_says_so: bool,
    settles_what_never_started_before_it_is_removed: bool,
    takes_runs_that_are_to_stop: bool,
}

/// Looks at every order of steps.
fn hold(protocol: Protocol) {
    protocol.checker().threads(2).spawn_bfs().join().assert_properties();
}

/// Looks until the defect shows itself as the breach of this property.
fn shows(rules: Rules, faults: u8, breach: &'static str) {
    let protocol = Protocol { faults, counts_calm_steps: false, rules };
    let until = HasDiscoveries::AllOf(BTreeSet::from([breach]));
    let checker = protocol.checker().threads(2).finish_when(until).spawn_bfs().join();
    let path = checker.assert_any_discovery(breach);
    assert_eq!(checker.discovery_classification(breach).to_string(), "counterexample", "{path}");
}

#[test]
fn the_guarantee_holds_in_every_order_of_steps_and_of_two_faults() {
    hold(Protocol { faults: 2, ..Protocol::default() });
}

#[test]
fn once_the_faults_are_over_nothing_goes_round_in_circles() {
    hold(Protocol { faults: 1, counts_calm_steps: true, ..Protocol::default() });
}

#[test]
fn without_the_check_of_the_fence_old_leases_write_and_two_containers_live() {
    let rules = Rules { ignores_fences: true, ..Rules::default() };
    shows(rules, 2, properties::NO_GHOST);
    shows(rules, 2, properties::ONE_CONTAINER);
}

#[test]
fn an_end_written_before_the_engines_word_is_a_false_one() {
    let rules = Rules { writes_the_end_before_the_engine_says_so: true, ..Rules::default() };
    shows(rules, 0, properties::ENGINES_WORD);
}

#[test]
fn a_worker_that_never_fences_itself_outlives_its_lease() {
    let rules = Rules { never_fences_itself: true, ..Rules::default() };
    shows(rules, 1, properties::STOPS_ITSELF);
}

#[test]
fn without_a_new_fence_a_former_life_still_writes() {
    let rules = Rules { adopts_under_the_old_fence: true, ..Rules::default() };
    shows(rules, 2, properties::NO_GHOST);
}

#[test]
fn settled_before_it_is_removed_a_container_may_still_start() {
    let rules = Rules { settles_what_never_started_before_it_is_removed: true, ..Rules::default() };
    shows(rules, 2, properties::ENGINES_WORD);
}

#[test]
fn a_claim_that_looks_at_no_wish_revives_what_was_stopped() {
    let rules = Rules { takes_runs_that_are_to_stop: true, ..Rules::default() };
    shows(rules, 1, properties::STAYS_STOPPED);
}
