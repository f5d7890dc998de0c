//! `signalbox doctor`: what Signalbox leans on, one line each.

use std::future::Future;
use std::time::Duration;

use clap::ValueEnum;
use secrecy::ExposeSecret;

use super::{Failure, block_on, say, work};
use crate::db::{self, Checkup};
use crate::queue::Queue;
use crate::{clock, config};

/// No check takes longer.
const DEADLINE: Duration = Duration::from_secs(2);

/// Leases are kept by Postgres's clock and evidence is dated by the worker's; pages compare the two.
const SKEW_S: f64 = 2.0;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What this host is for; without it both are checked.
    #[arg(value_enum)]
    part: Option<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The pages.
    Serve,
    /// Runs.
    Work,
}

/// What a check found: how it is, or what is wrong and what to do.
type Finding = Result<String, String>;

/// Says each finding as it comes, and remembers whether all was well.
struct Round {
    well: bool,
}

impl Round {
    fn note(&mut self, what: &str, finding: Finding) {
        match finding {
            Ok(text) => say::line(format_args!("ok    {what:<18} {text}")),
            Err(text) => {
                self.well = false;
                say::line(format_args!("FAIL  {what:<18} {text}"));
            }
        }
    }
}

pub(super) fn run(args: &Args) -> Result<u8, Failure> {
    let wants = |part| args.part.is_none_or(|only| only == part);
    block_on(async {
        let mut round = Round { well: true };
        let env = config::env();
        stores(&mut round, &env).await;
        if wants(Part::Serve) {
            serve(&mut round, &env);
        }
        if wants(Part::Work) {
            worker(&mut round, &env).await;
        }
        Ok(u8::from(!round.well))
    })
}

async fn stores(round: &mut Round, env: &config::Env<'_>) {
    let stores = match config::Stores::from_env(env) {
        Ok(stores) => stores,
        Err(error) => {
            return round.note("configuration", Err(format!("{error}; deploy/env.example explains it")));
        }
    };
    round.note("configuration", Ok(format!("fleet {}", stores.fleet)));
    match db::checkup(stores.database_url.expose_secret()).await {
        Ok(found) => database(round, &found),
        Err(error) => round.note(
            "Postgres",
            Err(format!("{error}; look at DATABASE_URL, and whether Postgres runs and lets this login in")),
        ),
    }
    round.note("Redis", redis(&stores).await);
}

fn database(round: &mut Round, found: &Checkup) {
    round.note("Postgres", Ok(format!("version {}", found.version)));
    round.note(
        "schema",
        match found.pending {
            Some(0) => Ok("up to date".into()),
            Some(steps) => Err(format!("{steps} migrations are to come; run `signalbox migrate`")),
            None => Err("this login may not see it; run `signalbox migrate` as the database's owner".into()),
        },
    );
    round.note(
        "superuser",
        match found.superusers {
            Some(0) => Err("nobody can sign in; run `signalbox superuser add NAME`".into()),
            Some(1) => Ok("one".into()),
            Some(many) => Ok(format!("{many} of them")),
            None => Ok("not for this login to know".into()),
        },
    );
    let ahead = (found.clock - clock::now()).as_seconds_f64();
    round.note(
        "clock",
        if ahead.abs() <= SKEW_S {
            Ok("agrees with Postgres's".into())
        } else {
            Err(format!("Postgres's is {ahead:+.0} s from this host's; let both follow a time server (NTP)"))
        },
    );
}

async fn redis(stores: &config::Stores) -> Finding {
    let ping = async {
        Queue::new(stores.redis_url.expose_secret(), &stores.fleet)
            .map_err(|error| error.to_string())?
            .ping()
            .await
            .map_err(|error| error.to_string())
    };
    match within(ping).await {
        Ok(()) => Ok("answers".into()),
        Err(trouble) => Err(format!(
            "{trouble}; look at REDIS_URL. Until it is back, everything works, only some seconds later"
        )),
    }
}

fn serve(round: &mut Round, env: &config::Env<'_>) {
    round.note(
        "serve",
        match config::Serve::from_env(env) {
            Ok(config) => Ok(match config.origin {
                Some(origin) => format!("listens on {}, is called {origin}", config.listen),
                None => format!("listens on {}, for this machine alone", config.listen),
            }),
            Err(error) => Err(error.to_string()),
        },
    );
}

async fn worker(round: &mut Round, env: &config::Env<'_>) {
    let settings = match config::Work::from_env(env, &work::hostname()) {
        Ok(settings) => settings,
        Err(error) => return round.note("work", Err(error.to_string())),
    };
    round.note("work", Ok(format!("worker {}, {} runs at once", settings.name, settings.capacity)));
    round.note(
        "model API",
        Ok(match settings.model_api.rehearsal {
            true => format!("rehearsal, at {}", settings.model_api.base_url),
            false => format!("a key for {} is there (not tried)", settings.model_api.base_url),
        }),
    );
    match work::engine(&settings) {
        Ok(engine) => {
            let about = within(async { engine.about().await.map_err(|error| error.to_string()) }).await;
            match about {
                Ok(about) if about.sandboxed => {
                    round.note("engine", Ok(about.line));
                    round.note("agent image", image(&settings.image, about.claude));
                }
                Ok(about) => round.note("engine", Ok(format!("{}; agents run UNSANDBOXED", about.line))),
                Err(trouble) => round.note(
                    "engine",
                    Err(format!("{trouble}; look at DOCKER_HOST, and whether this user may use its socket")),
                ),
            }
        }
        Err(failure) => round.note("engine", Err(failure.line)),
    }
}

/// The image says which CLI it holds; one that isn't there says nothing.
fn image(name: &str, claude: Option<String>) -> Finding {
    match claude {
        Some(version) => Ok(format!("{name}, Claude Code {version}")),
        None => Err(format!(
            "{name} isn't there, or isn't one of ours; deploy/agent builds it, SIGNALBOX_IMAGE names it"
        )),
    }
}

async fn within<T>(check: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(DEADLINE, check)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", DEADLINE.as_secs())))
}
