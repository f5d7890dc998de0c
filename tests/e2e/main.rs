//! The whole: real `serve` and `work` processes, real stores, and the real Claude Code CLI in real containers (or plain
//! processes), with the stand-in as the model API. What is claimed is read as a browser reads it; what is true is asked
//! of the container engine, the kernel and the database, past the worker.
//!
//! `DOCKER_HOST` names an engine that has the agent image, `SIGNALBOX_CLAUDE` the CLI for plain processes. What lacks
//! is skipped by name; with `CI=true` it fails.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may end with a panic")]

mod agents;
mod answer;
mod browser;
mod cell;
mod engine;
mod house;
#[path = "../engine/image.rs"]
mod image;
mod kernel;
mod lives;
mod load;
mod outage;
mod plain;
mod program;
mod prompt;
mod secrets;
mod stop;
mod stop_all;
mod stranger;
#[expect(dead_code, reason = "the nemesis needs more of it")]
mod wire;

use std::future::Future;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// What a test can't do without.
#[derive(Clone, Copy)]
struct Need {
    variable: &'static str,
}

const CONTAINERS: Need = Need { variable: "DOCKER_HOST" };
const CLAUDE: Need = Need { variable: "SIGNALBOX_CLAUDE" };

macro_rules! trials {
    ($need:expr, $module:ident: $($name:ident),+ $(,)?) => {
        vec![$(trial($need, concat!(stringify!($module), "::", stringify!($name)), $module::$name)),+]
    };
}

fn main() -> ExitCode {
    let trials = [
        trials!(CONTAINERS, answer: a_run_answers_and_leaves_nothing_behind),
        trials!(CONTAINERS, stop:
            a_graceful_stop_keeps_the_cost_and_is_claimed_only_after_the_engine_has_said_so,
            a_stubborn_tool_outlives_the_ladder_until_it_is_killed,
            force_is_dead_and_confirmed_within_two_seconds,
            a_living_run_says_what_it_has_cost_and_goes_on_saying_it_when_it_was_killed,
        ),
        trials!(CONTAINERS, secrets: the_real_key_is_nowhere_but_at_the_model_api),
        trials!(CONTAINERS, prompt: prompts_reach_the_model_as_they_are),
        trials!(CONTAINERS, cell: inside_there_is_little_to_be_had),
        trials!(CONTAINERS, lives:
            a_worker_killed_in_the_middle_goes_on_without_a_gap,
            a_server_killed_in_the_middle_is_missed_by_no_run_and_no_session,
            a_worker_frozen_past_its_lease_loses_the_run_and_stops_it_when_it_is_back,
            ctrl_c_stops_the_runs,
            sigterm_leaves_the_runs_to_the_next_life,
        ),
        trials!(CONTAINERS, outage:
            a_frozen_engine_leaves_a_stop_unconfirmed_though_the_host_has_killed_it_until_it_thaws,
            without_an_engine_runs_wait_and_say_why_and_then_start_by_themselves,
            without_postgres_a_worker_stops_its_containers_before_the_lease_lapses,
        ),
        trials!(CONTAINERS, load:
            a_tool_that_eats_all_memory_harms_nobody_else,
            a_run_that_dies_for_want_of_memory_says_so,
            a_flood_of_words_is_cut_with_marks_and_ends,
            a_flood_from_a_tool_ends,
        ),
        trials!(CONTAINERS, agents:
            one_that_ignores_signals_and_hides_its_children_dies_whole,
            one_that_forks_without_end_dies_whole,
            one_that_closes_its_output_is_stopped_like_any_other,
            one_that_floods_its_output_is_dead_and_proven_within_two_seconds,
            one_that_ends_during_the_stop_keeps_its_own_word,
            one_that_lives_on_after_its_result_is_stopped_and_marked,
        ),
        trials!(CONTAINERS, stop_all:
            with_everything_dead_the_host_stops_its_own_agents,
        ),
        trials!(CONTAINERS, stranger: a_stranger_learns_nothing_of_what_runs),
        trials!(CLAUDE, plain:
            a_plain_run_answers,
            a_plain_loop_stops_gracefully,
            a_stubborn_plain_run_dies_whole_by_force,
            a_plain_run_outlives_its_worker,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect()).exit_code()
}

/// A test on a runtime of its own.
fn trial<F: Future<Output = ()> + 'static>(need: Need, name: &str, test: fn() -> F) -> Trial {
    let lacks = variable(need.variable).is_none();
    let must = variable("CI").as_deref() == Some("true");
    let run = move || {
        if lacks {
            return Err(format!("{} isn't set", need.variable).into());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(test());
        Ok(())
    };
    Trial::test(name, run).with_ignored_flag(lacks && !must)
}

/// What the environment says, if it is anything.
#[expect(clippy::disallowed_methods, reason = "tests are told by the environment what there is")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
