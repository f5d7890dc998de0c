//! The command line: one file a subcommand.

mod cell;
mod doctor;
mod incognito;
mod migrate;
mod say;
mod seed;
mod serve;
mod stop_all;
mod superuser;
mod work;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{config, db, queue};

/// The control room for a fleet of autonomous Claude Code agents.
///
/// Configuration comes from the environment; deploy/env.example explains every variable.
#[derive(Debug, Parser)]
#[command(name = "signalbox", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the pages.
    Serve,
    /// Take runs and supervise them; one on each host that has a container engine.
    Work,
    /// Bring the database's schema up to date.
    Migrate,
    /// Say who may see and do everything. There is no way to do this from the web.
    #[command(subcommand)]
    Superuser(superuser::Act),
    /// Check what Signalbox leans on, one line each, and say what to do where something is wrong.
    Doctor(doctor::Args),
    /// Knock on every door of a server as a stranger with a phone; exits 1 if any opens.
    Incognito(incognito::Args),
    /// Fill a database with believable runs, for measuring and for pictures. Never on one that matters.
    Seed(seed::Args),
    /// Kill every agent on this host, at once. Needs neither Postgres nor Redis nor the network, and works while the engine
    /// hangs; the workers here report it when they can, and take nothing more until they are told to.
    StopAll(stop_all::Args),
    /// Watch over one run of the process engine; `work` starts this by itself.
    #[command(hide = true)]
    Cell(cell::Args),
}

/// Why a subcommand didn't do what it should: one line for a person, and an exit status.
#[derive(Debug)]
struct Failure {
    line: String,
    status: u8,
}

impl Failure {
    /// It was tried, and something went wrong.
    fn new(line: impl std::fmt::Display) -> Self {
        Self { line: line.to_string(), status: 1 }
    }

    /// It can't even be tried: the configuration, or where it should listen.
    fn unusable(line: impl std::fmt::Display) -> Self {
        Self { line: line.to_string(), status: 2 }
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        Self::unusable(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(format_args!("{error:#}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error)
    }
}

impl From<db::Error> for Failure {
    fn from(error: db::Error) -> Self {
        Self::new(error)
    }
}

impl From<queue::Unavailable> for Failure {
    fn from(error: queue::Unavailable) -> Self {
        Self::new(error)
    }
}

/// Runs what the command line says; gives the process's exit status: 0 when it went well, 1 when it didn't, 2 when
/// it couldn't be tried.
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Serve => serve::run().map(|()| 0),
        Command::Work => work::run().map(|()| 0),
        Command::Migrate => migrate::run().map(|()| 0),
        Command::Superuser(act) => superuser::run(act).map(|()| 0),
        Command::Doctor(args) => doctor::run(&args),
        Command::Incognito(args) => incognito::run(args),
        Command::Seed(args) => seed::run(&args).map(|()| 0),
        Command::StopAll(args) => stop_all::run(&args),
        Command::Cell(args) => cell::run(&args).map(|()| 0),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            // Several lines are one here, so that whoever reads the log sees where it ends.
            let line = failure.line.split_whitespace().collect::<Vec<_>>().join(" ");
            say::aside(format_args!("signalbox: {line}"));
            ExitCode::from(failure.status)
        }
    }
}

/// Runs `work` on this thread.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
