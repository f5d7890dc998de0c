//! What goes over a stream, as server-sent events (HTML standard, section 9.2), and where a stream goes on.

use std::collections::BTreeMap;

use actix_web::HttpRequest;
use bytes::Bytes;
use serde::Serialize;
use time::OffsetDateTime;

use crate::web::error::{Error, Result};

/// How soon a browser comes again after its link was lost, in milliseconds.
const RETRY_MS: u32 = 1000;

/// What a page is told.
#[derive(Serialize)]
pub(super) struct Message<'a> {
    /// The server's time, in milliseconds since 1970: what the page shows was so then.
    at: i64,
    /// Elements to be put in the place of those with the same id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pieces: BTreeMap<&'a str, &'a str>,
    /// Events to be put below the transcript.
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<&'a str>,
}

impl<'a> Message<'a> {
    /// That all is as it was.
    pub(super) fn new(at: OffsetDateTime) -> Self {
        let at = (at.unix_timestamp_nanos() / 1_000_000) as i64;
        Self { at, pieces: BTreeMap::new(), events: None }
    }

    pub(super) fn pieces(self, pieces: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self { pieces: pieces.into_iter().collect(), ..self }
    }

    pub(super) fn events(self, events: Option<&'a str>) -> Self {
        Self { events, ..self }
    }

    /// In bytes; whoever has seen it has seen all up to `upto`.
    pub(super) fn bytes(&self, upto: Upto) -> Result<Bytes> {
        // JSON has no newline outside its strings and escapes those inside, so it is one line of data.
        let json = serde_json::to_string(self).map_err(|error| Error::Internal(error.into()))?;
        Ok(format!("id: {}-{:x}\ndata: {json}\n\n", upto.seq, upto.version).into())
    }
}

/// What a page has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Upto {
    /// The last event of the transcript; nought where there is none.
    pub(super) seq: i64,
    /// All its pieces, but for their ages.
    pub(super) version: u64,
}

/// Where a stream shall go on: what its page has seen, as far as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct From {
    pub(super) seq: Option<i64>,
    pub(super) version: Option<u64>,
}

impl From {
    /// By the last id that the browser saw, else by what the page was made with. That has a name which no list is narrowed by.
    pub(super) fn of(request: &HttpRequest) -> Self {
        let last = request.headers().get("last-event-id").and_then(|value| value.to_str().ok());
        let made_with = || {
            let mut query = request.query_string().split('&');
            query.find_map(|pair| pair.strip_prefix("seen="))
        };
        last.filter(|last| !last.is_empty()).or_else(made_with).map(Self::read).unwrap_or_default()
    }

    fn read(text: &str) -> Self {
        let (seq, version) = text.split_once('-').unwrap_or((text, ""));
        Self { seq: seq.parse().ok().filter(|seq| *seq >= 0), version: u64::from_str_radix(version, 16).ok() }
    }
}

/// The beginning of every stream.
pub(super) fn hello() -> Bytes {
    format!("retry: {RETRY_MS}\n\n").into()
}

/// To one who may see nothing any more.
pub(super) fn leave() -> Bytes {
    Bytes::from_static(b"event: leave\ndata:\n\n")
}

/// To one who has missed more than is worth sending: the page itself is shorter.
pub(super) fn stale() -> Bytes {
    Bytes::from_static(b"event: stale\ndata:\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_goes_on_where_its_last_id_says() {
        let upto = Upto { seq: 17, version: 0xab };
        let bytes = Message::new(OffsetDateTime::UNIX_EPOCH).bytes(upto).unwrap();
        assert_eq!(bytes, "id: 17-ab\ndata: {\"at\":0}\n\n");
        assert_eq!(From::read("17-ab"), From { seq: Some(17), version: Some(0xab) });
        assert_eq!(From::read("17"), From { seq: Some(17), version: None });
        assert_eq!(From::read("x-y"), From::default());
    }

    #[test]
    fn no_piece_can_end_its_line() {
        let message = Message::new(OffsetDateTime::UNIX_EPOCH).pieces([("a", "x\ny\r\n\nevent: leave")]);
        let bytes = message.bytes(Upto { seq: 0, version: 0 }).unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(text.matches('\n').count(), 3, "{text}");
        assert!(!text.contains('\r'));
    }
}
