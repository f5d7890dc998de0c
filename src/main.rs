//! Signalbox's program: reads the command line and runs the subcommand; nothing else.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    signalbox::cli::run(signalbox::cli::Cli::parse())
}
