//! `signalbox seed`: believable runs and events, for measuring and for pictures.

use std::time::Instant;

use secrecy::ExposeSecret;

use super::{Failure, block_on, say};
use crate::config;
use crate::db::{Seed, SeedPlan};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many runs.
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..=20_000_000))]
    runs: i64,
    /// How many events in all. With fewer than eight for each run the newest have them; from a million on, one run has a
    /// twentieth of them.
    #[arg(long, value_parser = clap::value_parser!(i64).range(0..=100_000_000), default_value_t = 0)]
    events: i64,
    /// Also when the database already holds runs.
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let env = config::env();
    let url = config::database_url(&env)?;
    if !config::is_local(&env)? {
        return Err(Failure::unusable(
            "SIGNALBOX_ORIGIN: isn't loopback, so this may be an installation that matters; it isn't filled with \
             invented runs",
        ));
    }
    block_on(async {
        let began = Instant::now();
        let mut seed = Seed::connect(url.expose_secret()).await?;
        if !args.yes && seed.holds_runs().await? {
            return Err(Failure::new(
                "The database holds runs. To add invented ones to them, say --yes; they can't be told apart later.",
            ));
        }
        let plan = SeedPlan { runs: args.runs, events: args.events };
        let told = |runs, events| say::aside(format_args!("{runs} runs, {events} events"));
        let largest = seed.fill(plan, told).await?;
        say::line(format_args!(
            "{} runs and {} events in {:.1} s.",
            args.runs,
            args.events,
            began.elapsed().as_secs_f64()
        ));
        if let Some(largest) = largest {
            say::line(format_args!("Run {largest} has {} of the events.", args.events / 20));
        }
        Ok(())
    })
}
