//! The pages.

use std::net::{IpAddr, TcpListener};

use tokio_util::sync::CancellationToken;

use crate::config::Origin;
use crate::db::Db;
use crate::queue::Queue;

/// What the pages need from outside.
#[derive(Clone)]
pub struct Site {
    /// The truth.
    pub db: Db,
    /// The nudge.
    pub queue: Queue,
    /// The public origin.
    pub origin: Origin,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
}

/// Serves the pages on a socket that the caller has bound, until `shutdown`.
///
/// # Errors
/// When the server can't start.
pub async fn serve(_listener: TcpListener, _site: Site, _shutdown: CancellationToken) -> std::io::Result<()> {
    Err(std::io::Error::other("to come"))
}
