//! Transcripts: appended by the worker that holds the lease, read by the superuser.

use std::time::Duration;

use sqlx::types::Json;

use super::{Db, Error, Lease, Result, Superuser, within};
use crate::model::activity::Activity;
use crate::model::event::{Event, Kind, Source};
use crate::model::run::{Numbers, RunId};

/// Lines that came together, and what they say of the run.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// In the order they came; `seq` grows by one each.
    pub events: Vec<Event>,
    /// The figures of the latest `result`, if one is among them.
    pub numbers: Option<Numbers>,
    /// The model that the CLI names, if one of them does.
    pub model: Option<String>,
    /// What the run is in the middle of after all of them.
    pub activity: Activity,
}

/// How many bytes of events a tail may hold before its oldest one.
const TAIL_BYTES: i64 = 1024 * 1024;

pub(super) struct EventRow {
    pub(super) seq: i64,
    pub(super) at: time::OffsetDateTime,
    pub(super) source: String,
    pub(super) kind: String,
    pub(super) cut: i64,
    pub(super) payload: String,
}

impl TryFrom<EventRow> for Event {
    type Error = Error;
    fn try_from(row: EventRow) -> Result<Self> {
        Ok(Self {
            seq: row.seq,
            at: row.at,
            source: row.source.parse()?,
            // A worker of the next version may know more kinds.
            kind: row.kind.parse().unwrap_or(Kind::Other),
            cut: row.cut,
            payload: row.payload,
        })
    }
}

impl Db {
    /// Appends a batch, and counts it, in one statement: all of it or nothing. A batch sent again after an answer was
    /// lost is recognised by its `seq` and not stored twice. A run that has just ended may still have output on its way.
    /// What it was in the middle of stays as it was when a stop was wished. Gives the longest that a call like the one it is
    /// in has taken, if that was over a minute.
    ///
    /// Where no partition has been made for the run yet, it makes one, and stores them then.
    ///
    /// # Errors
    /// [`Error::Fenced`] when the lease is gone; [`Error::Conflict`] when the batch doesn't follow what is stored;
    /// [`Error::NoRoom`] when the run's transcript has been dropped.
    pub async fn append(&self, lease: &Lease, batch: &Batch) -> Result<Option<Duration>> {
        match self.append_where_there_is_room(lease, batch).await {
            Err(Error::NoRoom) => {
                self.make_room(None).await?;
                self.append_where_there_is_room(lease, batch).await
            }
            done => done,
        }
    }

    async fn append_where_there_is_room(&self, lease: &Lease, batch: &Batch) -> Result<Option<Duration>> {
        let (Some(first), Some(last)) = (batch.events.first(), batch.events.last()) else { return Ok(None) };
        let call = batch.activity.call();
        let lines_of = |source| batch.events.iter().filter(|event| event.source == source).count() as i64;
        let numbers = batch.numbers.clone().unwrap_or_default();
        let seqs: Vec<i64> = batch.events.iter().map(|event| event.seq).collect();
        let ats: Vec<_> = batch.events.iter().map(|event| event.at).collect();
        let sources: Vec<&str> = batch.events.iter().map(|event| event.source.word()).collect();
        let kinds: Vec<&str> = batch.events.iter().map(|event| event.kind.word()).collect();
        let cuts: Vec<i64> = batch.events.iter().map(|event| event.cut).collect();
        let payloads: Vec<&str> = batch.events.iter().map(|event| event.payload.as_str()).collect();
        let done = within(
            sqlx::query!(
                r#"with held as (
                       update runs set events = $5, stdout_lines = stdout_lines + $6,
                           stderr_lines = stderr_lines + $7, last_event_at = $8,
                           turns = coalesce($9, turns), tokens_in = coalesce($10, tokens_in),
                           tokens_out = coalesce($11, tokens_out), cost_usd = coalesce($12, cost_usd),
                           duration_ms = coalesce($13, duration_ms), model = coalesce($14, model),
                           activity = case when wish = 'stop' and wish_at < $21 then activity else $22::jsonb::json end,
                           usual_s = (select longest_s from usual_calls u
                                      where u.agent_id = runs.agent_id and u.tool = $23 and u.gist = $24)
                       where id = $1 and worker = $2 and fence = $3 and state in ('starting', 'running', 'ended')
                         and events = $4::bigint - 1
                       returning id, usual_s),
                   kept as (
                       insert into events (run_id, seq, at, source, kind, cut, payload)
                       select held.id, unnest($15::bigint[]), unnest($16::timestamptz[]), unnest($17::text[]),
                              unnest($18::text[]), unnest($19::bigint[]), unnest($20::text[])
                       from held)
                   select usual_s from held"#,
                lease.run().0,
                lease.worker(),
                lease.fence(),
                first.seq,
                last.seq,
                lines_of(Source::Stdout),
                lines_of(Source::Stderr),
                last.at,
                numbers.turns,
                numbers.tokens_in,
                numbers.tokens_out,
                numbers.cost_usd,
                numbers.duration_ms,
                batch.model,
                &seqs,
                &ats,
                &sources as &[&str],
                &kinds as &[&str],
                &cuts,
                &payloads as &[&str],
                first.at,
                Json(&batch.activity) as _,
                call.map(|call| call.tool.as_str()),
                call.map(|call| call.gist.as_str())
            )
            .fetch_optional(&self.pool),
        )
        .await?;
        let span = |s: i64| Duration::from_secs(s.unsigned_abs());
        if let Some(row) = done {
            self.note_first_error(lease, batch).await?;
            return Ok(row.usual_s.map(span));
        }
        let met = within(
            sqlx::query!(
                "select events, usual_s from runs where id = $1 and worker = $2 and fence = $3
                 and state in ('starting', 'running', 'ended')",
                lease.run().0,
                lease.worker(),
                lease.fence()
            )
            .fetch_optional(&self.pool),
        )
        .await?;
        match met {
            None => Err(self.refused(lease).await),
            Some(row) if row.events == last.seq => Ok(row.usual_s.map(span)),
            Some(row) => {
                Err(Error::Conflict(format!("{} events are stored, not {}", row.events, first.seq - 1)))
            }
        }
    }

    /// Notes where the first error of a run is, so that a page need not look for it.
    async fn note_first_error(&self, lease: &Lease, batch: &Batch) -> Result<()> {
        let Some(error) = batch.events.iter().find(|event| event.is_error()) else { return Ok(()) };
        within(
            sqlx::query!(
                "update runs set first_error = $4
                 where id = $1 and worker = $2 and fence = $3 and first_error is null",
                lease.run().0,
                lease.worker(),
                lease.fence(),
                error.seq
            )
            .execute(&self.pool),
        )
        .await
        .map(drop)
    }

    /// The last `result` line stored, for a worker that takes a run over.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn stored_result(&self, lease: &Lease) -> Result<Option<String>> {
        let row = within(
            sqlx::query!(
                "select payload from events where run_id = $1 and kind = 'result' order by seq desc limit 1",
                lease.run().0
            )
            .fetch_optional(&self.pool),
        )
        .await?;
        Ok(row.map(|row| row.payload))
    }

    /// The last events before `before` (all of them when none), oldest first: at most `limit`, and no more than about a
    /// megabyte, so that a page of the longest lines is a page too. At least one, if there is one.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn events_tail(
        &self,
        _by: &Superuser,
        run: RunId,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<Event>> {
        let rows = within(
            sqlx::query_as!(
                EventRow,
                r#"select seq as "seq!", at as "at!", source as "source!", kind as "kind!", cut as "cut!",
                          payload as "payload!"
                   from (select *, sum(octet_length(payload)) over (order by seq desc) - octet_length(payload) as newer
                         from events where run_id = $1 and seq < $2 order by seq desc limit $3) tail
                   where newer < $4 order by seq desc"#,
                run.0,
                before.unwrap_or(i64::MAX),
                limit,
                TAIL_BYTES
            )
            .fetch_all(&self.pool),
        )
        .await?;
        rows.into_iter().rev().map(Event::try_from).collect()
    }

    /// The events after `after`, up to and with `upto`, oldest first: at most `limit`, and no more than about a megabyte.
    /// At least one, if there is one.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn events_after(
        &self,
        _by: &Superuser,
        run: RunId,
        after: i64,
        upto: i64,
        limit: i64,
    ) -> Result<Vec<Event>> {
        let rows = within(
            sqlx::query_as!(
                EventRow,
                r#"select seq as "seq!", at as "at!", source as "source!", kind as "kind!", cut as "cut!",
                          payload as "payload!"
                   from (select *, sum(octet_length(payload)) over (order by seq) - octet_length(payload) as older
                         from events where run_id = $1 and seq > $2 and seq <= $3 order by seq limit $4) head
                   where older < $5 order by seq"#,
                run.0,
                after,
                upto,
                limit,
                TAIL_BYTES
            )
            .fetch_all(&self.pool),
        )
        .await?;
        rows.into_iter().map(Event::try_from).collect()
    }
}
