//! The whole: real `serve` and `work` processes, real stores, and the real Claude Code CLI in real containers (or plain
//! processes), with the stand-in as the model API. What is claimed is read as a browser reads it; what is true is asked
//! of the container engine, the kernel and the database, past the worker.
//!
//! `DOCKER_HOST` names an engine that has the agent image, `SIGNALBOX_CLAUDE` the CLI for plain processes. What lacks
//! is skipped by name; with `CI=true` it fails.

mod answer;
mod browser;
mod engine;
mod house;
mod kernel;
mod program;
mod stop;

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
