//! Something asked, within a time of its own: its answer, when it came, and how long it took.

use std::future::Future;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::clock;

/// How long any part may take to answer. Asked one after the other, three of them leave a page enough of its 2 s.
const PATIENCE: Duration = Duration::from_millis(500);

/// An answer.
pub(crate) struct Measured<T> {
    pub(crate) answer: Result<T, String>,
    pub(crate) at: OffsetDateTime,
    pub(crate) took: Duration,
}

impl<T> Measured<T> {
    /// How long the answer took, in milliseconds; none when there was none.
    pub(crate) fn took_ms(&self) -> Option<f64> {
        self.answer.is_ok().then(|| self.took.as_secs_f64() * 1000.0)
    }

    /// It wasn't asked, since what it hangs on doesn't answer.
    pub(crate) fn not_asked(why: &str) -> Self {
        Self { answer: Err(why.to_owned()), at: clock::now(), took: Duration::ZERO }
    }
}

/// Asks.
pub(crate) async fn measure<T, E: std::fmt::Display>(
    asking: impl Future<Output = Result<T, E>>,
) -> Measured<T> {
    let began = Instant::now();
    let answer = match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} ms", PATIENCE.as_millis())),
    };
    Measured { answer, at: clock::now(), took: began.elapsed() }
}
