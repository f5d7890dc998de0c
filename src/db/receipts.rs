//! What has become of the stops of many: their figures and their receipts.

use time::OffsetDateTime;

use super::{Db, Error, Result, Superuser, within};
use crate::model::metered::Spent;
use crate::model::page::{Cursor, PAGE_SIZE, Page};
use crate::model::run::RunId;
use crate::model::stop::{Matching, Stop, StopCounts, StopId, StopLine};

/// What matches a filter and isn't over, at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Matches {
    /// Runs queued.
    pub queued: i64,
    /// Runs that a worker holds.
    pub held: i64,
    /// Runs lost.
    pub lost: i64,
    /// The newest run there was.
    pub upto: RunId,
    /// What they have cost.
    pub spent: Spent,
}

impl Matches {
    /// All of them.
    pub fn all(&self) -> i64 {
        self.queued + self.held + self.lost
    }
}

struct StopRow {
    id: i64,
    kind: String,
    filter: Option<String>,
    agent: Option<String>,
    who: Option<String>,
    of_worker: Option<String>,
    upto: i64,
    mode: String,
    reason: String,
    by_name: String,
    at: OffsetDateTime,
    written_at: Option<OffsetDateTime>,
    gates_opened_at: Option<OffsetDateTime>,
    gates_opened_by: Option<String>,
    released_at: Option<OffsetDateTime>,
    released_by: Option<String>,
    hold_kept: bool,
    pending: i64,
    queued: i64,
    over: i64,
    delivered: i64,
    proven: i64,
    unconfirmed: i64,
    lost: i64,
}

impl TryFrom<StopRow> for (Stop, StopCounts) {
    type Error = Error;
    fn try_from(row: StopRow) -> Result<Self> {
        let stop = Stop {
            id: StopId(row.id),
            kind: row.kind.parse()?,
            filter: match row.filter {
                Some(word) => Some(Matching {
                    kind: word.parse()?,
                    agent: row.agent,
                    worker: row.of_worker,
                    who: row.who,
                }),
                None => None,
            },
            upto: RunId(row.upto),
            mode: row.mode.parse()?,
            reason: row.reason,
            by: row.by_name,
            at: row.at,
            written_at: row.written_at,
            gates_opened: row.gates_opened_at.zip(row.gates_opened_by),
            released: row.released_at.zip(row.released_by),
            hold_kept: row.hold_kept,
        };
        let counts = StopCounts {
            pending: row.pending,
            queued: row.queued,
            over: row.over,
            delivered: row.delivered,
            proven: row.proven,
            unconfirmed: row.unconfirmed,
            lost: row.lost,
        };
        Ok((stop, counts))
    }
}

/// Stops with their figures. Only runs that can still change are looked at; the others are counted in the row.
macro_rules! stops {
    ($pool:expr, $which:literal $(, $arg:expr)*) => {
        within(
            sqlx::query_as!(
                StopRow,
                r#"select s.id, s.kind, s.filter, s.agent, s.worker as of_worker, s.who, s.upto, s.mode, s.reason, s.by_name, s.at, s.written_at,
                          s.gates_opened_at, s.gates_opened_by, s.released_at, s.released_by, s.hold_kept,
                          s.queued, s.over,
                          u.pending + case when s.takes_queued and s.written_at is null then (
                              select count(*) from runs
                              where state = 'queued' and wish = 'run' and id <= s.upto
                                and (s.agent is null or agent_id = (select id from agents where name = s.agent))
                                and (s.who is null or asked_by_name = s.who)) else 0 end as "pending!",
                          u.delivered as "delivered!", u.proven as "proven!", u.unconfirmed as "unconfirmed!",
                          u.lost as "lost!"
                   from stops s, lateral (
                       select count(*) filter (where m.met = 'pending' and r.state not in ('ended', 'queued')) as pending,
                              count(r.delivered_at) as delivered,
                              count(*) filter (where r.state = 'ended') as proven,
                              count(*) filter (where m.met <> 'pending' and r.state in ('queued', 'starting', 'running'))
                                  as unconfirmed,
                              count(*) filter (where m.met <> 'pending' and r.state = 'lost') as lost
                       from stop_runs m join runs r on r.id = m.run_id
                       where m.stop_id = s.id and m.met in ('pending', 'wished', 'repeated')) u
                   where "# + $which
                $(, $arg)*
            )
            .fetch_all($pool),
        )
        .await?
    };
}

struct LineRow {
    run_id: i64,
    title: String,
    worker: Option<String>,
    state: String,
    outcome: Option<String>,
    met: String,
    wish_at: Option<OffsetDateTime>,
    delivered_at: Option<OffsetDateTime>,
    confirmed_at: Option<OffsetDateTime>,
    trouble: Option<String>,
}

impl TryFrom<LineRow> for StopLine {
    type Error = Error;
    fn try_from(row: LineRow) -> Result<Self> {
        Ok(Self {
            run: RunId(row.run_id),
            title: row.title,
            worker: row.worker,
            state: row.state.parse()?,
            outcome: row.outcome.map(|word| word.parse()).transpose()?,
            met: row.met.parse()?,
            wish_at: row.wish_at,
            delivered_at: row.delivered_at,
            confirmed_at: row.confirmed_at,
            trouble: row.trouble,
        })
    }
}

/// Receipts of a stop's runs; `$which` is a literal, so that the compiler checks each statement.
macro_rules! receipts {
    ($pool:expr, $which:literal $(, $arg:expr)*) => {
        within(
            sqlx::query_as!(
                LineRow,
                r#"select m.run_id, r.title, r.worker, r.state, r.outcome, m.met, r.wish_at, r.delivered_at,
                          r.confirmed_at, coalesce(r.stop_trouble, r.trouble) as trouble
                   from stop_runs m join runs r on r.id = m.run_id where "# + $which + " limit $1",
                PAGE_SIZE as i64 + 1
                $(, $arg)*
            )
            .fetch_all($pool),
        )
        .await?
        .into_iter()
        .map(StopLine::try_from)
        .collect::<Result<Vec<_>>>()?
    };
}

impl Db {
    /// What matches a filter and could be stopped, counted at one moment.
    ///
    /// # Errors
    /// [`Error::Conflict`] when all that match are over; [`Error::Unavailable`].
    pub async fn matches(&self, _by: &Superuser, matching: &Matching) -> Result<Matches> {
        let Some(reach) = matching.reach() else {
            return Err(Error::Conflict("Runs like that are over already.".to_owned()));
        };
        let mut states: Vec<String> = reach.held.iter().map(|state| state.word().to_owned()).collect();
        if reach.queued {
            states.push("queued".to_owned());
        }
        let row = within(
            sqlx::query!(
                r#"select count(*) filter (where state = 'queued') as "queued!",
                          count(*) filter (where state in ('starting', 'running')) as "held!",
                          count(*) filter (where state = 'lost') as "lost!",
                          (select coalesce(max(id), 0) from runs) as "upto!",
                          sum(greatest(cost_usd, metered_usd)) as usd,
                          coalesce(bool_or((cost_usd is null or cost_usd < metered_usd) and metered_usd is not null
                                           and (metered_partly or metered_unpriced)), false) as "at_least!",
                          count(*) filter (where state <> 'queued' and greatest(cost_usd, metered_usd) is null)
                              as "unknown!"
                   from runs where state = any($1) and (wish = 'stop' or not $2)
                     and ($3::text is null or agent_id = (select id from agents where name = $3))
                     and ($4::text is null or worker = $4) and ($5::text is null or asked_by_name = $5)"#,
                &states,
                reach.wished,
                matching.agent.as_deref(),
                matching.worker.as_deref(),
                matching.who.as_deref()
            )
            .fetch_one(&self.pool),
        )
        .await?;
        let spent = Spent { usd: row.usd, at_least: row.at_least, unknown: row.unknown };
        Ok(Matches { queued: row.queued, held: row.held, lost: row.lost, upto: RunId(row.upto), spent })
    }

    /// A stop and how far it has come.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such stop.
    pub async fn stop(&self, _by: &Superuser, id: StopId) -> Result<(Stop, StopCounts)> {
        let rows = stops!(&self.pool, "s.id = $1", id.0);
        rows.into_iter().next().ok_or(Error::NotFound)?.try_into()
    }

    /// A page of the stops, newest first.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn stops_page(&self, _by: &Superuser, cursor: Cursor) -> Result<Page<(Stop, StopCounts)>> {
        let limit = PAGE_SIZE as i64 + 1;
        let rows = match cursor {
            Cursor::Start => stops!(&self.pool, "s.id < $1 order by s.id desc limit $2", i64::MAX, limit),
            Cursor::Before(id) => stops!(&self.pool, "s.id < $1 order by s.id desc limit $2", id, limit),
            Cursor::After(id) => stops!(&self.pool, "s.id > $1 order by s.id limit $2", id, limit),
        };
        let rows = rows.into_iter().map(TryInto::try_into).collect::<Result<Vec<(Stop, StopCounts)>>>()?;
        Ok(Page::from_rows(rows, cursor, |(stop, _)| stop.id.0))
    }

    /// A page of a stop's receipts, the newest run first.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn stop_lines(&self, _by: &Superuser, id: StopId, cursor: Cursor) -> Result<Page<StopLine>> {
        let pool = &self.pool;
        let lines = match cursor {
            Cursor::Start => {
                receipts!(pool, "m.stop_id = $2 and m.run_id < $3 order by m.run_id desc", id.0, i64::MAX)
            }
            Cursor::Before(run) => {
                receipts!(pool, "m.stop_id = $2 and m.run_id < $3 order by m.run_id desc", id.0, run)
            }
            Cursor::After(run) => {
                receipts!(pool, "m.stop_id = $2 and m.run_id > $3 order by m.run_id", id.0, run)
            }
        };
        Ok(Page::from_rows(lines, cursor, |line: &StopLine| line.run.0))
    }

    /// Those of a stop's runs that nobody has proof of, the oldest first; at most [`PAGE_SIZE`] and one.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn stop_unproven(&self, _by: &Superuser, id: StopId) -> Result<Vec<StopLine>> {
        Ok(receipts!(
            &self.pool,
            "m.stop_id = $2 and m.met in ('pending', 'wished', 'repeated') and r.state <> 'ended' order by m.run_id",
            id.0
        ))
    }
}
