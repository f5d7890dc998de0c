//! `signalbox cell`: the shim that the process engine starts in place of a container.

use std::path::PathBuf;

use super::Failure;
use crate::engine::process::shim;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run's folder.
    dir: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    Ok(shim::main(&args.dir)?)
}
