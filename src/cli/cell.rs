//! `signalbox cell`: what the process engine starts in place of a container.

use std::path::PathBuf;

use super::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run's folder.
    dir: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<u8, Failure> {
    Err(Failure::new(format_args!("{}: to come", args.dir.display())))
}
