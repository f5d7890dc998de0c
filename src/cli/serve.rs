//! `signalbox serve`: the pages.

use std::net::TcpListener;

use rustix::process::{Resource, getrlimit, setrlimit};
use secrecy::ExposeSecret;

use super::{Failure, say};
use crate::bell::{Key, Reach, Ringer};
use crate::config::{self, Origin};
use crate::db::{Db, MetricsToken, Role};
use crate::queue::Queue;
use crate::{host, shutdown, telemetry, web};

/// Connections to Postgres. A page holds one for a few milliseconds.
const POOL: u32 = 10;

pub(super) fn run() -> Result<(), Failure> {
    let env = config::env();
    let config = config::Serve::from_env(&env)?;
    let traces =
        telemetry::start(&config::log_filter(&env), config::collector(&env)?.as_ref(), "signalbox-serve")
            .map_err(|error| Failure::unusable(format_args!("{error:#}")))?;
    open_many();
    let listener = TcpListener::bind(config.listen)
        .map_err(|error| Failure::unusable(format_args!("SIGNALBOX_LISTEN: {}: {error}", config.listen)))?;
    let served = actix_web::rt::System::new().block_on(serve(config, listener));
    if let Some(traces) = traces {
        traces.end();
    }
    served
}

/// Each open page holds a file. Most systems give a program a thousand until it asks for more.
fn open_many() {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, files) {
        tracing::debug!(%error, "no more files may be open");
    }
}

async fn serve(config: config::Serve, listener: TcpListener) -> Result<(), Failure> {
    let shutdown = shutdown::on_signal()?;
    let stores = &config.stores;
    let address = listener.local_addr()?;
    let origin = config.origin.unwrap_or_else(|| Origin::of_loopback(address));
    let push_key = config.push_key.as_ref().map(|key| Key::parse(key.expose_secret())).transpose();
    let push_key =
        push_key.map_err(|error| Failure::unusable(format_args!("SIGNALBOX_VAPID_KEY: {error}")))?;
    let reach = if origin.is_loopback() { Reach::Local } else { Reach::Public };
    let site = web::Site {
        db: Db::new(stores.database_url.expose_secret(), Role::Web, POOL)
            .map_err(|error| Failure::unusable(format_args!("DATABASE_URL: {error}")))?,
        queue: Queue::new(stores.redis_url.expose_secret(), &stores.fleet)
            .map_err(|error| Failure::unusable(format_args!("REDIS_URL: {error}")))?,
        ringer: Ringer::new(&origin.to_string(), reach, push_key),
        origin,
        trusted_proxies: config.trusted_proxies,
        keep: config.keep,
        name: host::name().unwrap_or_else(|| "unnamed".to_owned()),
        metrics: config.metrics_token.as_ref().map(MetricsToken::new),
    };
    tracing::info!(%address, origin = %site.origin, "serving");
    // The port is open: whoever connects from here on is answered as soon as the server takes it up.
    say::line(format_args!("ready: {}", site.origin));
    let db = site.db.clone();
    web::serve(listener, site, shutdown.asked).await?;
    db.close().await;
    Ok(())
}
