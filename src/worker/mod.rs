//! The worker.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::db::Db;
use crate::engine::Engine;
use crate::queue::Queue;

/// What a worker needs from outside.
#[derive(Clone)]
pub struct Parts {
    /// The truth.
    pub db: Db,
    /// The nudge.
    pub queue: Queue,
    /// Where containers are made.
    pub engine: Arc<dyn Engine>,
    /// Its name, capacity, folder, image and model API.
    pub settings: config::Work,
}

/// Takes runs and supervises them until `shutdown`; says through `ready` when it has registered.
///
/// # Errors
/// When it can't start at all: its folder can't be used, or another worker of its name has it.
pub async fn work(
    _parts: Parts,
    _shutdown: CancellationToken,
    _ready: oneshot::Sender<()>,
) -> anyhow::Result<()> {
    anyhow::bail!("to come")
}
