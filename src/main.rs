//! Signalbox's program: reads the command line and runs the subcommand; nothing else.

use std::process::ExitCode;

use clap::Parser;

/// glibc's allocator keeps what password hashing took (19 MiB a turn) for ever; this one gives it back.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    signalbox::cli::run(signalbox::cli::Cli::parse())
}
