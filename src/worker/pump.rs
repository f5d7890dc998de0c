//! The pump: a container's output, line by line, into the transcript; at once after a silence, else in batches, at most
//! 200 ms late; nothing twice and nothing lost.

use std::time::Duration;

use futures_util::StreamExt;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::Worker;
use super::lines::{RawLine, Splitter};
use super::verdict::Cause;
use crate::clock;
use crate::db::{self, Batch, Lease};
use crate::engine::{Output, Status};
use crate::model::activity::Call;
use crate::model::event::{Event, Kind, Line, Source};
use crate::model::run::RunResult;
use crate::model::span::between;
use crate::model::stuck::Watch;
use crate::model::text;
use crate::queue::Notice;

/// How long a line may wait for company, which it does when another has just been stored. The statement that stores it has
/// the rest of the 200 ms.
const GATHER: Duration = Duration::from_millis(120);
/// A batch this large is stored at once.
const BATCH_LINES: usize = 1000;
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// A call that took this long is remembered, so that the next one like it may take long too.
const LONG: Duration = Duration::from_secs(60);
/// Between two tries of a store or an engine that doesn't answer.
const RETRY: Duration = Duration::from_millis(300);

/// What the output has said so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    /// The last `result`.
    pub(super) result: Option<RunResult>,
    /// When it came, unless the CLI has gone on since.
    pub(super) rests_since: Option<Instant>,
    /// The last line that was no record.
    pub(super) last_words: String,
    /// When the last line came.
    pub(super) heard_at: Option<OffsetDateTime>,
    /// What the agent is in the middle of.
    pub(super) watch: Watch,
}

/// How many lines of each stream are stored already.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stored {
    /// Of standard output.
    pub(super) stdout: i64,
    /// Of standard error.
    pub(super) stderr: i64,
}

/// Why the pump stopped before the output was over.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The lease is gone; nothing more may be written.
    Fenced,
    /// What was printed can't be stored; the log says why.
    Broken,
}

impl Stopped {
    /// Why the run is stopped then.
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::Fenced => Cause::LeaseGone,
            Self::Broken => Cause::Unstorable,
        }
    }
}

pub(super) struct Pump<'a> {
    worker: &'a Worker,
    lease: &'a Lease,
    container: String,
    /// Lines read so far, stored or in `batch`: where to go on after the engine's connection broke.
    read: Stored,
    batch: Batch,
    bytes: usize,
    /// Calls that took long and are over, each with its time.
    took: Vec<(Call, Duration)>,
    said: watch::Sender<Said>,
}

impl<'a> Pump<'a> {
    pub(super) fn new(
        worker: &'a Worker,
        lease: &'a Lease,
        container: String,
        stored: Stored,
        said: watch::Sender<Said>,
    ) -> Self {
        let (batch, took) = (Batch::default(), Vec::new());
        Self { worker, lease, container, read: stored, batch, bytes: 0, took, said }
    }

    /// Pumps until the container is over and all that it wrote is stored.
    pub(super) async fn run(mut self) -> Result<(), Stopped> {
        loop {
            let whole = self.follow().await?;
            if whole {
                return Ok(());
            }
            sleep(RETRY).await;
        }
    }

    /// Follows the output until it ends; true when the engine says that the container is over too.
    async fn follow(&mut self) -> Result<bool, Stopped> {
        let mut output = self.worker.parts.engine.output(&self.container);
        let mut stdout = Splitter::skipping(self.read.stdout);
        let mut stderr = Splitter::skipping(self.read.stderr);
        let mut flush_at: Option<Instant> = None;
        let mut flushed: Option<Instant> = None;
        loop {
            let next = tokio::select! {
                next = output.next() => next,
                () = sleep_until(flush_at.unwrap_or_else(Instant::now)), if flush_at.is_some() => {
                    (flush_at, flushed) = (None, Some(Instant::now()));
                    self.flush().await?;
                    continue;
                }
            };
            match next {
                Some(Ok(Output::Stdout(chunk))) => {
                    stdout.feed(&chunk, |line| self.take(Source::Stdout, &line))
                }
                Some(Ok(Output::Stderr(chunk))) => {
                    stderr.feed(&chunk, |line| self.take(Source::Stderr, &line))
                }
                Some(Err(error)) => {
                    tracing::debug!(run = %self.lease.run(), %error, "output broke off");
                    self.flush().await?;
                    return Ok(false);
                }
                None => {
                    let over = matches!(
                        self.worker.parts.engine.inspect(&self.container).await,
                        Ok(Status::Exited(_) | Status::Absent)
                    );
                    if over {
                        stdout.end(|line| self.take(Source::Stdout, &line));
                        stderr.end(|line| self.take(Source::Stderr, &line));
                    }
                    self.flush().await?;
                    return Ok(over);
                }
            }
            let was_silent = flushed.is_none_or(|at| at.elapsed() >= GATHER);
            if self.batch.events.len() >= BATCH_LINES
                || self.bytes >= BATCH_BYTES
                || (was_silent && !self.batch.events.is_empty())
            {
                (flush_at, flushed) = (None, Some(Instant::now()));
                self.flush().await?;
            } else if !self.batch.events.is_empty() && flush_at.is_none() {
                flush_at = flushed.map(|at| at + GATHER);
            }
        }
    }

    fn take(&mut self, source: Source, raw: &RawLine) {
        let line = Line::read(source, &raw.bytes, raw.dropped);
        let at = clock::now();
        match source {
            Source::Stdout => self.read.stdout += 1,
            Source::Stderr => self.read.stderr += 1,
        }
        let result = line.result;
        if let Some(result) = &result {
            self.batch.numbers = Some(result.numbers.clone());
        }
        self.batch.model = line.model.or(self.batch.model.take());
        let mut over = Vec::new();
        self.said.send_modify(|said| {
            said.heard_at = Some(at);
            over = said.watch.activity.take(line.acts, at);
            if line.kind == Kind::Text && !line.payload.trim().is_empty() {
                said.last_words = text::prefix(&line.payload, 2000).to_owned();
            }
            match result {
                Some(result) => {
                    said.result = Some(result);
                    said.rests_since = Some(Instant::now());
                }
                None if line.kind != Kind::Text => said.rests_since = None,
                None => {}
            }
        });
        // A call that a stop has ended says nothing of how long such calls take.
        if !over.is_empty() && !self.worker.roster.is_ordered(self.lease.run()) {
            let timed = over.into_iter().map(|call| (between(call.since, at), call));
            self.took.extend(timed.filter(|(took, _)| *took >= LONG).map(|(took, call)| (call, took)));
        }
        self.bytes += line.payload.len();
        self.batch.events.push(Event {
            seq: self.read.stdout + self.read.stderr,
            at,
            source,
            kind: line.kind,
            cut: line.cut,
            payload: line.payload,
        });
    }

    /// Stores what has gathered; while Postgres is away it waits, and the engine keeps the rest.
    async fn flush(&mut self) -> Result<(), Stopped> {
        if self.batch.events.is_empty() {
            return Ok(());
        }
        self.batch.activity = self.said.borrow().watch.activity.clone();
        loop {
            match self.worker.parts.db.append(self.lease, &self.batch).await {
                Ok(usual) => {
                    self.said.send_modify(|said| said.watch.usual = usual);
                    break;
                }
                Err(db::Error::Unavailable(_)) => sleep(RETRY).await,
                Err(db::Error::Fenced(_)) => return Err(Stopped::Fenced),
                Err(error) => {
                    tracing::error!(run = %self.lease.run(), %error, "events can't be stored");
                    return Err(Stopped::Broken);
                }
            }
        }
        if let Some(first) = self.batch.events.first() {
            self.worker.gauges.stored(between(first.at, clock::now()));
        }
        self.batch = Batch::default();
        self.bytes = 0;
        for (call, took) in self.took.drain(..) {
            if let Err(error) = self.worker.parts.db.call_took(self.lease, &call, took).await {
                tracing::debug!(run = %self.lease.run(), %error, "how long a call took isn't remembered");
            }
        }
        self.worker.tell(Notice::Changed(self.lease.run()));
        Ok(())
    }
}
