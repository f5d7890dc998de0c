//! `signalbox incognito URL`: what a stranger sees.

use super::{Failure, block_on, say};
use crate::incognito::{Visit, visit};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the server is: scheme, host and port.
    url: String,
    /// A text that only a superuser may see, planted beforehand; it must be in no answer. May be given again.
    #[arg(long = "canary", value_name = "STRING")]
    canaries: Vec<String>,
    /// Show every door, not only those that answered differently.
    #[arg(long)]
    all: bool,
}

pub(super) fn run(args: Args) -> Result<u8, Failure> {
    let visit_of = Visit::of(&args.url, args.canaries).map_err(Failure::unusable)?;
    let report = block_on(async { visit(visit_of).await.map_err(Failure::unusable) })?;
    say::line(report.table(args.all));
    say::line(report.summary());
    Ok(u8::from(!report.is_clean()))
}
