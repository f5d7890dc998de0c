//! Signalbox's program: reads the command line and runs the subcommand; nothing else.

use std::process::ExitCode;

use clap::Parser;

/// Password hashing takes 19 MiB a turn. glibc's allocator was seen to keep hundreds of MiB after many sign-ins; this one
/// keeps no more than the four turns that may be taken at once.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    signalbox::cli::run(signalbox::cli::Cli::parse())
}
