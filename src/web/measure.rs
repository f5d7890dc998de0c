//! Something asked, within a time of its own: its answer, when it came, and how long it took.

use std::future::Future;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::clock;

/// How long a store may take for its sign of life.
pub(crate) const PATIENCE: Duration = Duration::from_millis(800);
/// How long all that is asked for one page may take together; the rest of its 2 s is for the page.
const TOGETHER: Duration = Duration::from_millis(1500);

/// How long is left for what is asked for a page that was begun then.
pub(crate) fn left(began: Instant) -> Duration {
    TOGETHER.saturating_sub(began.elapsed())
}

/// An answer.
pub(crate) struct Measured<T> {
    pub(crate) answer: Result<T, String>,
    pub(crate) at: OffsetDateTime,
    pub(crate) took: Duration,
}

impl<T> Measured<T> {
    /// How long the answer took, in milliseconds; none when there was none.
    pub(crate) fn took_ms(&self) -> Option<f64> {
        self.answer.is_ok().then_some(self.took.as_secs_f64() * 1000.0)
    }

    /// It wasn't asked, since what it hangs on doesn't answer.
    pub(crate) fn not_asked(why: &str) -> Self {
        Self { answer: Err(why.to_owned()), at: clock::now(), took: Duration::ZERO }
    }
}

/// Asks, for no longer than this.
pub(crate) async fn measure<T, E: std::fmt::Display>(
    patience: Duration,
    asking: impl Future<Output = Result<T, E>>,
) -> Measured<T> {
    let began = Instant::now();
    let answer = match tokio::time::timeout(patience, asking).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} ms", patience.as_millis())),
    };
    Measured { answer, at: clock::now(), took: began.elapsed() }
}
