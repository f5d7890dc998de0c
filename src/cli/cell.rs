//! `signalbox cell`: what the process engine starts in place of a container.

use std::path::PathBuf;

use super::Failure;
use crate::engine::process::shim;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run's folder.
    dir: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<u8, Failure> {
    shim::main(&args.dir).map_err(|error| Failure::new(format_args!("{error:#}")))?;
    Ok(0)
}
