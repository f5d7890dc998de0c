//! Notices: "run N changed", "look, there is much to stop", to whoever listens. Losing one is harmless.

use futures_util::StreamExt;

use super::{Queue, Result, Unavailable, within};
use crate::model::run::RunId;

/// Something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// A run waits for a worker.
    Queued(RunId),
    /// A run changed.
    Changed(RunId),
    /// Many runs shall stop, or every gate shall close: workers look at Postgres at once.
    Stopping,
    /// What stands for the whole fleet changed: the hold, the red handle, a drain.
    Standing,
}

/// How [`Notice::Stopping`] is said; it names no run.
const STOPPING: &str = "stopping";
/// How [`Notice::Standing`] is said.
const STANDING: &str = "standing";

/// What a listener holds.
pub struct Notices {
    pubsub: redis::aio::PubSub,
}

impl Queue {
    fn notices_key(&self) -> String {
        format!("{}:notices", self.prefix)
    }

    /// Tells whoever listens.
    ///
    /// # Errors
    /// [`Unavailable`] when Redis doesn't answer; the caller may go on.
    pub async fn notice(&self, notice: Notice) -> Result<()> {
        let text = match notice {
            Notice::Queued(run) => format!("queued {run}"),
            Notice::Changed(run) => format!("changed {run}"),
            Notice::Stopping => STOPPING.to_owned(),
            Notice::Standing => STANDING.to_owned(),
        };
        let mut connection = self.connection().await?;
        let publish = async {
            redis::cmd("PUBLISH").arg(self.notices_key()).arg(text).query_async::<i64>(&mut connection).await
        };
        within(publish).await.map(drop)
    }

    /// Listens. Do this before looking for work, or a notice is lost in between.
    ///
    /// # Errors
    /// [`Unavailable`] when Redis doesn't answer.
    pub async fn notices(&self) -> Result<Notices> {
        let subscribe = async {
            let mut pubsub = self.client.get_async_pubsub().await?;
            pubsub.subscribe(self.notices_key()).await?;
            Ok(pubsub)
        };
        Ok(Notices { pubsub: within(subscribe).await? })
    }
}

impl Notices {
    /// The next notice; waits as long as it takes.
    ///
    /// # Errors
    /// [`Unavailable`] when the connection is gone.
    pub async fn next(&mut self) -> Result<Notice> {
        let mut messages = self.pubsub.on_message();
        loop {
            let message =
                messages.next().await.ok_or_else(|| Unavailable("the connection is gone".into()))?;
            let text: String = message.get_payload()?;
            match text.as_str() {
                STOPPING => return Ok(Notice::Stopping),
                STANDING => return Ok(Notice::Standing),
                _ => {}
            }
            let Some((what, run)) = text.split_once(' ') else { continue };
            match (what, run.parse()) {
                ("queued", Ok(run)) => return Ok(Notice::Queued(run)),
                ("changed", Ok(run)) => return Ok(Notice::Changed(run)),
                _ => {}
            }
        }
    }
}
