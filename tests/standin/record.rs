//! The record a test reads to learn what reached the "model", and how it ended.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use actix_web::HttpRequest;
use serde_json::{Map, Value, json};

use crate::conversation::Standing;

/// Headers a test may want to see, keys among them: what comes here is only ever made up.
const HEADERS: [&str; 6] =
    ["x-api-key", "authorization", "user-agent", "anthropic-version", "host", "x-stainless-retry-count"];

#[derive(Clone)]
pub(crate) struct Recorder {
    file: Option<Arc<Mutex<File>>>,
    requests: Arc<AtomicU64>,
}

impl Recorder {
    pub(crate) fn open(path: Option<&Path>) -> std::io::Result<Self> {
        let file = path
            .map(|path| OpenOptions::new().create(true).append(true).open(path))
            .transpose()?
            .map(|file| Arc::new(Mutex::new(file)));
        Ok(Self { file, requests: Arc::new(AtomicU64::new(0)) })
    }

    /// Writes down that a request came, and gives the entry its end is noted on.
    pub(crate) fn arrived(&self, request: &HttpRequest, bytes: usize, standing: Option<&Standing>) -> Entry {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        self.write(&json!({
            "request": number,
            "what": "arrived",
            "at_ms": now_ms(),
            "method": request.method().as_str(),
            "path": request.uri().to_string(),
            "headers": headers(request),
            "scenario": standing.map_or("", |standing| &standing.scenario),
            "turn": standing.map_or(0, |standing| standing.results),
            "asked": standing.map_or(&[][..], |standing| &standing.asked),
            "bytes": bytes,
        }));
        Entry {
            recorder: self.clone(),
            number,
            arrived: Instant::now(),
            ending: "gone",
            status: 200,
            sent: 0,
        }
    }

    fn write(&self, line: &Value) {
        let Some(file) = &self.file else { return };
        let line = format!("{line}\n");
        // A record that can't be kept must not change what the stand-in does.
        if let Ok(mut file) = file.lock() {
            _ = file.write_all(line.as_bytes());
        }
    }
}

fn headers(request: &HttpRequest) -> Map<String, Value> {
    HEADERS
        .iter()
        .filter_map(|name| {
            let value = request.headers().get(*name)?.to_str().ok()?;
            Some(((*name).to_owned(), value.into()))
        })
        .collect()
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A request that is being answered; unless told otherwise, its client went away.
pub(crate) struct Entry {
    recorder: Recorder,
    pub number: u64,
    arrived: Instant,
    ending: &'static str,
    status: u16,
    sent: usize,
}

impl Entry {
    /// `ending` is `whole`, `cut`, or `error`.
    pub(crate) fn ends(&mut self, ending: &'static str) {
        self.ending = ending;
    }

    pub(crate) fn status(&mut self, status: u16) {
        self.status = status;
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.recorder.write(&json!({
            "request": self.number,
            "what": "ended",
            "at_ms": now_ms(),
            "ending": self.ending,
            "status": self.status,
            "sent_bytes": self.sent,
            "took_ms": u64::try_from(self.arrived.elapsed().as_millis()).unwrap_or(u64::MAX),
        }));
    }
}
