//! The meter: counts what the model API's answers say that they took, while they pass.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::watch;

use super::reader::Reader;
use super::usage::Said;
use crate::model::metered::{Metered, Taken};
use crate::model::price::Price;

/// What one run's gate has metered; cheap to clone. Readers hear of its end when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Meter(watch::Sender<Metered>);

impl Meter {
    /// Goes on from what a former life had metered.
    pub fn new(stored: Metered) -> Self {
        Self(watch::Sender::new(stored))
    }

    /// The figures, as they grow.
    pub fn read(&self) -> watch::Receiver<Metered> {
        self.0.subscribe()
    }

    /// A call that is about to be made.
    pub(super) fn call(&self) -> Call {
        Call {
            meter: self.clone(),
            reader: Reader::Unreadable,
            said: Said::default(),
            counted: None,
            made: true,
        }
    }
}

/// One call of the model. What isn't known of it when it is dropped, which is also how a call is cut, makes the figures
/// incomplete.
#[derive(Debug)]
pub(super) struct Call {
    meter: Meter,
    reader: Reader,
    said: Said,
    counted: Option<Taken>,
    made: bool,
}

impl Call {
    /// The model API never took it.
    pub(super) fn was_not_made(mut self) {
        self.made = false;
    }

    /// Its answer begins.
    pub(super) fn answered(&mut self, headers: &HeaderMap) {
        let word = |name: HeaderName| headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
        let encoded = !matches!(word(header::CONTENT_ENCODING), b"" | b"identity");
        self.reader = Reader::new(&String::from_utf8_lossy(word(header::CONTENT_TYPE)), encoded);
    }

    fn take(&mut self, piece: &[u8]) {
        let Self { reader, said, .. } = self;
        let mut heard = false;
        reader.take(piece, &mut |record| {
            said.hear(record);
            heard = true;
        });
        if heard {
            self.count();
        }
    }

    /// Counts what it has said by now.
    fn count(&mut self) {
        let Some(tokens) = self.said.tokens else { return };
        let model = self.said.model.as_deref().filter(|_| !self.said.special);
        let usd = model.and_then(|model| Price::of(model, tokens.prompt())).map(|price| price.usd(&tokens));
        let unpriced = usd.is_none() || self.said.searched;
        // Dollars that were counted have been spent, whatever it says later.
        let taken = Taken { tokens, usd: usd.or(self.counted.and_then(|counted| counted.usd)) };
        self.meter.0.send_if_modified(|metered| {
            let grows = self.counted != Some(taken) || (unpriced && !metered.unpriced);
            if grows {
                metered.count(self.counted.as_ref(), &taken);
                metered.unpriced |= unpriced;
            }
            grows
        });
        self.counted = Some(taken);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.made {
            return;
        }
        let Self { reader, said, .. } = self;
        reader.end(&mut |record| said.hear(record));
        self.count();
        if self.said.is_whole() && !self.said.unbelievable && !self.reader.has_lost() {
            return;
        }
        self.meter.0.send_modify(|metered| {
            metered.partly = true;
            if self.counted.is_none() {
                metered.calls = metered.calls.saturating_add(1);
            }
        });
    }
}

/// An answer that is metered as it passes. Not a byte is held back or changed.
pub(super) struct Passing<B> {
    pub(super) body: B,
    pub(super) call: Call,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Passing<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(piece) = frame.data_ref()
        {
            self.call.take(piece);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
