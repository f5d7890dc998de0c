//! The nemesis: random runs, wishes and faults against three workers on the real parts; then a checker that holds what
//! was claimed against what was seen. `make nemesis` runs it; without its variables this is a set of tests: the checker
//! against made-up histories, worlds with a bug planted in them, and one short world without.
//!
//! `SIGNALBOX_NEMESIS=SECONDS` lives a world for so long, with `SIGNALBOX_NEMESIS_SEED`, its history going to
//! `SIGNALBOX_NEMESIS_OUT`. `SIGNALBOX_NEMESIS_CHECK=DIRECTORY` judges a history again.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that can't go on ends here, and this one is read by people"
)]

mod befall;
mod broken;
#[expect(dead_code, reason = "the end-to-end tests need more of it")]
#[path = "../e2e/browser.rs"]
mod browser;
mod checker;
mod dice;
mod faults;
mod history;
#[path = "../engine/image.rs"]
mod image;
mod journal;
mod kin;
mod lived;
mod met;
mod observer;
mod parts;
mod planted;
#[expect(dead_code, reason = "the end-to-end tests need more of it")]
#[path = "../e2e/program.rs"]
mod program;
mod seat;
#[path = "../e2e/wire.rs"]
mod wire;
mod wishes;
mod witness;
mod world;

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    if kin::is_janitor() {
        return ExitCode::SUCCESS;
    }
    if let Some(directory) = variable("SIGNALBOX_NEMESIS_CHECK") {
        return lived::judge(&PathBuf::from(directory));
    }
    if let Some(seconds) = variable("SIGNALBOX_NEMESIS") {
        let seconds = seconds.parse().expect("SIGNALBOX_NEMESIS is a number of seconds");
        let seed = variable("SIGNALBOX_NEMESIS_SEED").map(|seed| seed.parse().expect("SEED is a number"));
        return block_on(lived::nemesis(seconds, seed));
    }
    let made_up = checker::samples::ALL.iter().map(|(name, test)| {
        let test = *test;
        Trial::test(format!("checker::{name}"), move || {
            test();
            Ok(())
        })
    });
    let worlds = [
        world_trial("planted::the_fence_check_removed_is_caught", planted::the_fence_check_removed_is_caught),
        world_trial("planted::the_fence_check_in_place_is_fine", planted::the_fence_check_in_place_is_fine),
        world_trial(
            "planted::evidence_before_the_engines_word_is_caught",
            planted::evidence_before_the_engines_word_is_caught,
        ),
        world_trial("planted::the_self_fence_off_is_caught", planted::the_self_fence_off_is_caught),
        world_trial("planted::the_self_fence_on_is_fine", planted::the_self_fence_on_is_fine),
        world_trial("lived::a_short_world_keeps_the_guarantee", lived::a_short_world_keeps_the_guarantee),
        world_trial(
            "met::a_worker_sent_away_while_postgres_is_frozen_leaves",
            met::a_worker_sent_away_while_postgres_is_frozen_leaves,
        ),
        world_trial(
            "broken::an_engine_frozen_during_a_stop_is_waited_for_and_believed_when_it_thaws",
            broken::an_engine_frozen_during_a_stop_is_waited_for_and_believed_when_it_thaws,
        ),
        world_trial(
            "broken::an_engine_killed_under_living_containers_brings_none_of_them_back",
            broken::an_engine_killed_under_living_containers_brings_none_of_them_back,
        ),
        world_trial(
            "broken::an_engine_restarted_under_a_living_container_ends_it_for_good",
            broken::an_engine_restarted_under_a_living_container_ends_it_for_good,
        ),
        world_trial(
            "broken::a_crowd_is_dead_within_five_seconds_of_the_return_of_what_was_away",
            broken::a_crowd_is_dead_within_five_seconds_of_the_return_of_what_was_away,
        ),
        world_trial(
            "broken::a_worker_killed_after_its_claim_and_in_the_middle_of_stops_finishes_them_in_its_next_life",
            broken::a_worker_killed_after_its_claim_and_in_the_middle_of_stops_finishes_them_in_its_next_life,
        ),
        world_trial(
            "broken::a_worker_killed_while_the_engine_does_what_it_asked_neither_loses_nor_doubles_a_run",
            broken::a_worker_killed_while_the_engine_does_what_it_asked_neither_loses_nor_doubles_a_run,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), made_up.chain(worlds).collect()).exit_code()
}

/// A test in a world of its own.
fn world_trial<F: Future<Output = ()> + 'static>(name: &str, test: fn() -> F) -> Trial {
    let lacks = world::lacks();
    let must = variable("CI").as_deref() == Some("true");
    let run = move || match lacks {
        Some(what) => Err(format!("this machine lacks {what}").into()),
        None => {
            block_on(test());
            Ok(())
        }
    };
    Trial::test(name, run).with_ignored_flag(lacks.is_some() && !must)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// What the environment says, if it is anything.
#[expect(clippy::disallowed_methods, reason = "tests are told by the environment what there is")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
