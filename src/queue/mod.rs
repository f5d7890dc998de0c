//! All Redis: it hastens, it never decides. Whatever is lost here, the next look at Postgres finds.

mod commands;
mod notices;

use std::future::Future;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};

pub use commands::{Command, Inbox, Letter};
pub use notices::{Notice, Notices};

/// The longest that a call to Redis may keep its caller waiting.
const DEADLINE: Duration = Duration::from_millis(300);

/// A handle on the queue; cheap to clone.
#[derive(Clone)]
pub struct Queue {
    client: redis::Client,
    /// Made at the first use, so that a process starts while Redis is away.
    connection: std::sync::Arc<tokio::sync::OnceCell<ConnectionManager>>,
    prefix: String,
}

/// Redis doesn't answer, or not in time.
#[derive(Debug, Clone, thiserror::Error)]
#[error("Redis doesn't answer: {0}")]
pub struct Unavailable(String);

impl From<redis::RedisError> for Unavailable {
    fn from(error: redis::RedisError) -> Self {
        Self(error.to_string())
    }
}

/// The result of every method here.
pub type Result<T> = std::result::Result<T, Unavailable>;

async fn within<T>(work: impl Future<Output = redis::RedisResult<T>>) -> Result<T> {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Unavailable(format!("no answer within {} ms", DEADLINE.as_millis()))),
    }
}

impl Queue {
    /// A queue at this URL, for this fleet. Nothing is connected yet.
    ///
    /// # Errors
    /// When the URL can't be read.
    pub fn new(url: &str, fleet: &str) -> Result<Self> {
        let client = redis::Client::open(url)?;
        Ok(Self { client, connection: Default::default(), prefix: fleet.to_owned() })
    }

    async fn connection(&self) -> Result<ConnectionManager> {
        let connect = async {
            let config = ConnectionManagerConfig::new()
                .set_connection_timeout(Some(DEADLINE))
                .set_response_timeout(Some(DEADLINE))
                .set_number_of_retries(1);
            ConnectionManager::new_with_config(self.client.clone(), config).await
        };
        let made = tokio::time::timeout(DEADLINE, self.connection.get_or_try_init(|| connect)).await;
        match made {
            Ok(connection) => Ok(connection?.clone()),
            Err(_) => Err(Unavailable(format!("no connection within {} ms", DEADLINE.as_millis()))),
        }
    }

    /// How much memory Redis uses, in bytes.
    ///
    /// # Errors
    /// [`Unavailable`] when it doesn't say.
    pub async fn bytes(&self) -> Result<i64> {
        let mut connection = self.connection().await?;
        let said =
            within(async { redis::cmd("INFO").arg("memory").query_async::<String>(&mut connection).await });
        let said = said.await?;
        let used = said.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok());
        used.ok_or_else(|| Unavailable("it doesn't say how much memory it uses".to_owned()))
    }

    /// Asks Redis for a sign of life.
    ///
    /// # Errors
    /// [`Unavailable`] when there is none in time.
    pub async fn ping(&self) -> Result<()> {
        let mut connection = self.connection().await?;
        within(async { redis::cmd("PING").query_async::<String>(&mut connection).await }).await.map(drop)
    }
}
