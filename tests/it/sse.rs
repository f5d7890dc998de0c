//! A browser's end of a live page: the events of a stream, one after the other.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::app::{Answer, Browser, Request};

/// An open stream.
pub(crate) struct Stream {
    socket: TcpStream,
    /// Bytes as they came, in chunks.
    raw: Vec<u8>,
    /// What the chunks held, and nobody has taken yet.
    text: String,
    over: bool,
}

/// An event of it.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// Its kind; empty for the usual one.
    pub(crate) event: String,
    /// Its id.
    pub(crate) id: String,
    /// Its data, where that is JSON.
    pub(crate) data: Value,
}

impl Told {
    /// An element that it brings.
    pub(crate) fn piece(&self, id: &str) -> Option<&str> {
        self.data["pieces"][id].as_str()
    }

    /// The entries that it brings for the transcript.
    pub(crate) fn events(&self) -> &str {
        self.data["events"].as_str().unwrap_or_default()
    }

    /// The ids of the events that it brings, in their order.
    pub(crate) fn seqs(&self) -> Vec<i64> {
        let ids = self.events().split(" id=\"e").skip(1);
        ids.map(|rest| rest.split('"').next().unwrap().parse().unwrap()).collect()
    }
}

impl Browser {
    /// Opens a stream, which must be one.
    pub(crate) async fn stream(&self, path: &str, last: Option<&str>) -> Stream {
        let request = Request::new("GET", path).header("accept", "text/event-stream");
        let request = last.iter().fold(request, |request, last| request.header("last-event-id", last));
        let mut socket = TcpStream::connect(self.address()).await.unwrap();
        socket.write_all(&self.bytes(&request)).await.unwrap();
        let mut raw = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(5);
        let end = loop {
            let end = raw.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
            let read = timeout_at(deadline, socket.read_buf(&mut raw)).await.expect("a head").unwrap();
            assert!(read > 0, "no head: {}", String::from_utf8_lossy(&raw));
        };
        let head = Answer::head(&raw[..end]);
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")), "{head:?}");
        assert_eq!(head.header("cache-control"), Some("no-store"));
        Stream { socket, raw: raw.split_off(end), text: String::new(), over: false }
    }
}

impl Stream {
    /// The next event, by then; none when the stream has ended.
    pub(crate) async fn next_by(&mut self, deadline: Instant) -> Option<Told> {
        loop {
            if let Some(told) = self.take() {
                return Some(told);
            }
            if self.over {
                return None;
            }
            let read = timeout_at(deadline, self.socket.read_buf(&mut self.raw)).await;
            let read = read.unwrap_or_else(|_| panic!("nothing came in time; left: {:?}", self.text));
            self.over = read.unwrap_or(0) == 0;
            self.unchunk();
        }
    }

    /// The first event that is so, within this time.
    pub(crate) async fn until(&mut self, what: &str, within: Duration, so: impl Fn(&Told) -> bool) -> Told {
        let deadline = Instant::now() + within;
        loop {
            let told = self.next_by(deadline).await.unwrap_or_else(|| panic!("it ended before {what}"));
            if so(&told) {
                return told;
            }
        }
    }

    /// What comes until the stream ends, which it does within this time.
    pub(crate) async fn rest(&mut self, within: Duration) -> Vec<Told> {
        let deadline = Instant::now() + within;
        let mut all = Vec::new();
        while let Some(told) = self.next_by(deadline).await {
            all.push(told);
        }
        all
    }

    fn unchunk(&mut self) {
        while let Some(line) = self.raw.windows(2).position(|two| two == b"\r\n") {
            let size = std::str::from_utf8(&self.raw[..line]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            if self.raw.len() < line + 2 + size + 2 {
                return;
            }
            self.text += std::str::from_utf8(&self.raw[line + 2..line + 2 + size]).unwrap();
            self.raw.drain(..line + 2 + size + 2);
            self.over |= size == 0;
        }
    }

    fn take(&mut self) -> Option<Told> {
        loop {
            let (block, rest) = self.text.split_once("\n\n")?;
            let field = |name: &str| {
                let lines = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                lines.map(str::trim_start).collect::<Vec<_>>().join("\n")
            };
            let told = Told {
                event: field("event"),
                id: field("id"),
                data: serde_json::from_str(&field("data")).unwrap_or_default(),
            };
            let has_data = block.lines().any(|line| line.starts_with("data"));
            self.text = rest.to_owned();
            if has_data {
                return Some(told);
            }
        }
    }
}
