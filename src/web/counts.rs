//! What this server counts while it answers: requests by their outcome, refusals by their cause, open streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use actix_web::http::StatusCode;

use super::error::Error;

/// Since the server started.
#[derive(Default)]
pub(crate) struct Counts {
    answered: [AtomicU64; CLASSES.len()],
    refused: [AtomicU64; CAUSES.len()],
    streams: Arc<AtomicI64>,
}

/// What answers are, by the first digit of their status.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// Why somebody didn't get what they asked for.
const CAUSES: [&str; 6] = ["signed_out", "plain_user", "elsewhere", "unknown_host", "too_many", "request"];

/// One open stream; it is over when this is dropped.
pub(crate) struct OpenStream(Arc<AtomicI64>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counts {
    /// Counts an answer.
    pub(crate) fn answered(&self, status: StatusCode, error: Option<&Error>, changes: bool) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(2).min(CLASSES.len() - 1);
        self.answered[class].fetch_add(1, Ordering::Relaxed);
        let cause = match error {
            Some(Error::SignIn) => 0,
            Some(Error::Forbidden) => 1,
            Some(Error::NotOurs) => 2,
            Some(Error::UnknownHost) => 3,
            Some(Error::TooMany(_)) => 4,
            _ if changes && status.is_client_error() => 5,
            _ => return,
        };
        self.refused[cause].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a stream, for as long as it is open.
    pub(crate) fn stream(&self) -> OpenStream {
        self.streams.fetch_add(1, Ordering::Relaxed);
        OpenStream(Arc::clone(&self.streams))
    }

    /// How many streams are open.
    pub(crate) fn streams(&self) -> i64 {
        self.streams.load(Ordering::Relaxed)
    }

    /// Answers, by what they are.
    pub(crate) fn answers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CLASSES.into_iter().zip(self.answered.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// All of them.
    pub(crate) fn requests(&self) -> u64 {
        self.answers().map(|(_, count)| count).sum()
    }

    /// Refusals, by their cause.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CAUSES.into_iter().zip(self.refused.iter().map(|count| count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_counted_once_and_a_refusal_by_its_cause() {
        let counts = Counts::default();
        counts.answered(StatusCode::OK, None, false);
        counts.answered(StatusCode::SEE_OTHER, Some(&Error::SignIn), false);
        counts.answered(StatusCode::NOT_FOUND, Some(&Error::NotFound), false);
        counts.answered(StatusCode::NOT_FOUND, Some(&Error::NotFound), true);
        assert_eq!(counts.requests(), 4);
        let refused: Vec<_> = counts.refusals().filter(|(_, count)| *count > 0).collect();
        assert_eq!(refused, [("signed_out", 1), ("request", 1)]);
        let stream = counts.stream();
        assert_eq!(counts.streams(), 1);
        drop(stream);
        assert_eq!(counts.streams(), 0);
    }
}
