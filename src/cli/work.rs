//! `signalbox work`: a worker.

use std::sync::Arc;

use secrecy::ExposeSecret;
use tokio::sync::oneshot;

use super::{Failure, say};
use crate::config::{self, EngineKind};
use crate::db::{Db, Role};
use crate::engine::Engine;
use crate::engine::docker::Docker;
use crate::engine::process::Processes;
use crate::queue::Queue;
use crate::{shutdown, telemetry, worker};

/// Connections to Postgres.
const POOL: u32 = 10;

pub(super) fn run() -> Result<(), Failure> {
    let env = config::env();
    let settings = config::Work::from_env(&env, &hostname())?;
    let traces =
        telemetry::start(&config::log_filter(&env), config::collector(&env)?.as_ref(), "signalbox-work")
            .map_err(|error| Failure::unusable(format_args!("{error:#}")))?;
    let worked = tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work(settings));
    if let Some(traces) = traces {
        traces.end();
    }
    worked
}

async fn work(settings: config::Work) -> Result<(), Failure> {
    let shutdown = shutdown::on_signal()?;
    let stores = &settings.stores;
    let name = settings.name.clone();
    let parts = worker::Parts {
        db: Db::new(stores.database_url.expose_secret(), Role::Worker, POOL)
            .map_err(|error| Failure::unusable(format_args!("DATABASE_URL: {error}")))?,
        queue: Queue::new(stores.redis_url.expose_secret(), &stores.fleet)
            .map_err(|error| Failure::unusable(format_args!("REDIS_URL: {error}")))?,
        engine: engine(&settings)?,
        settings,
        times: worker::Times::default(),
    };
    let leave = worker::Leave { hand_over: shutdown.asked, stop_runs: shutdown.by_hand };
    let db = parts.db.clone();
    let (ready, told) = oneshot::channel();
    let announce = async {
        if told.await.is_ok() {
            say::line(format_args!("ready: worker {name}"));
        }
    };
    let (worked, ()) = tokio::join!(worker::work(parts, leave, ready), announce);
    db.close().await;
    Ok(worked?)
}

/// The engine that the configuration names.
pub(super) fn engine(settings: &config::Work) -> Result<Arc<dyn Engine>, Failure> {
    match settings.engine {
        EngineKind::Docker => {
            let docker =
                Docker::connect(settings.docker_host.as_deref(), &settings.stores.fleet, &settings.name)
                    .map_err(|error| Failure::unusable(format_args!("{error}")))?;
            Ok(Arc::new(docker.with_image(&settings.image)))
        }
        EngineKind::Process => {
            say::aside(
                "signalbox: SIGNALBOX_ENGINE=process: agents run unsandboxed, as plain processes with this \
                 user's rights. For a first look only.",
            );
            Ok(Arc::new(Processes::new(&settings.dir, &settings.claude)))
        }
    }
}

/// This machine's name, as the kernel has it.
pub(super) fn hostname() -> String {
    let name = ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok());
    name.map_or_else(String::new, |name| name.trim().to_owned())
}
