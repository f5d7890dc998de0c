//! What is kept of transcripts: partitions made ahead, dropped when they are past their time, and looked at.

use std::time::Duration;

use sqlx::Executor;
use time::OffsetDateTime;

use super::{Db, Error, Result, Superuser, within};
use crate::model::run::RunId;

/// A drop may take this long: it reads the ends of all runs of a partition first, and nobody waits for it meanwhile. How long
/// it may make others wait is written in the function itself.
const DROP_WITHIN: Duration = Duration::from_secs(60);

/// The transcripts of a range of runs, which lie together.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Its first run.
    pub first: i64,
    /// Its last run, which may not be there yet.
    pub last: i64,
    /// About how many events it holds, as Postgres last saw; none when it hasn't looked.
    pub about: Option<i64>,
    /// What it takes, with its index.
    pub bytes: i64,
    /// When its first run was asked for; none while it has none.
    pub since: Option<OffsetDateTime>,
    /// When its newest run was asked for.
    pub until: Option<OffsetDateTime>,
    /// Its oldest run that isn't over.
    pub lives: Option<RunId>,
    /// Whether it takes no more runs.
    pub full: bool,
}

/// Transcripts that were dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Of the first run.
    pub first: i64,
    /// Of the last.
    pub last: i64,
    /// When.
    pub at: OffsetDateTime,
    /// How much they took.
    pub bytes: i64,
    /// How long, or up to what, they were kept: what follows "kept".
    pub kept: String,
}

/// What is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// The oldest partitions and the newest, oldest first.
    pub parts: Vec<Part>,
    /// How many there are in all.
    pub count: i64,
    /// What all of them take.
    pub bytes: i64,
    /// About how many events they hold.
    pub about: i64,
    /// What went last, newest first.
    pub dropped: Vec<Dropped>,
}

/// How many of the oldest partitions are shown, and of the newest.
const SHOWN: i64 = 12;

impl Db {
    /// Makes partitions of events until three lie ready beyond the newest run, for `runs` each or as large as the newest;
    /// says how many it made. Whoever finds that they are there does nothing.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer, or somebody has the table locked.
    pub async fn make_room(&self, runs: Option<i64>) -> Result<i32> {
        within(sqlx::query_scalar!(r#"select events_make_room($1) as "made!""#, runs).fetch_one(&self.pool))
            .await
    }

    /// Drops the oldest partition that is due, if one is, with its row in the audit: all of its runs have ended longer than
    /// `days` ago, or all partitions take more than `bytes`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer, or somebody has the table locked.
    pub async fn drop_due(&self, days: Option<i32>, bytes: Option<i64>) -> Result<Option<Dropped>> {
        let work = async {
            let mut transaction = self.pool.begin().await?;
            transaction.execute("set local statement_timeout = '60s'").await?;
            let dropped = sqlx::query_as!(
                Dropped,
                r#"select first_run as "first!", end_run - 1 as "last!", now() as "at!", bytes as "bytes!",
                          kept as "kept!"
                   from events_drop_due($1, $2)"#,
                days,
                bytes
            )
            .fetch_optional(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(dropped)
        };
        match tokio::time::timeout(DROP_WITHIN, work).await {
            Ok(done) => done.map_err(|error: sqlx::Error| error.into()),
            Err(_) => Err(Error::Unavailable(format!("no answer within {} s", DROP_WITHIN.as_secs()))),
        }
    }

    /// What is kept, by what Postgres knows of its tables: no event is counted or read.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn kept(&self, _by: &Superuser) -> Result<Kept> {
        let rows = within(
            sqlx::query!(
                r#"with parts as (
                       select *, pg_total_relation_size(oid) as bytes, row_number() over (order by first_run) as n
                       from event_parts),
                   whole as (
                       select *, count(*) over () as parts, sum(bytes) over ()::bigint as all_bytes,
                              sum(greatest(about, 0)) over ()::bigint as all_about
                       from parts)
                   select first_run as "first!", end_run - 1 as "last!", nullif(about, -1) as about,
                          bytes as "bytes!", parts as "parts!", all_bytes as "all_bytes!", all_about as "all_about!",
                          (select asked_at from runs r where r.id >= first_run and r.id < end_run
                           order by r.id limit 1) as since,
                          (select asked_at from runs r where r.id >= first_run and r.id < end_run
                           order by r.id desc limit 1) as until,
                          (select min(id) from runs r where r.state in ('queued', 'starting', 'running', 'lost')
                                                        and r.id >= first_run and r.id < end_run) as lives,
                          end_run <= (select max(id) from runs) as full
                   from whole where n <= $1 or n > parts - $1 order by first_run"#,
                SHOWN
            )
            .fetch_all(&self.pool),
        );
        let dropped = within(
            sqlx::query_as!(
                Dropped,
                "select first_run as first, end_run - 1 as \"last!\", at, bytes, kept from dropped_events
                 order by first_run desc limit 20"
            )
            .fetch_all(&self.pool),
        );
        let (rows, dropped) = tokio::try_join!(rows, dropped)?;
        let (count, bytes, about) =
            rows.first().map_or((0, 0, 0), |row| (row.parts, row.all_bytes, row.all_about));
        let parts = rows.into_iter().map(|row| Part {
            first: row.first,
            last: row.last,
            about: row.about,
            bytes: row.bytes,
            since: row.since,
            until: row.until,
            lives: row.lives.map(RunId),
            full: row.full.unwrap_or(false),
        });
        Ok(Kept { parts: parts.collect(), count, bytes, about, dropped })
    }

    /// What became of a run's transcript, if it was dropped.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn dropped_events(&self, _by: &Superuser, run: RunId) -> Result<Option<Dropped>> {
        within(
            sqlx::query_as!(
                Dropped,
                "select first_run as first, end_run - 1 as \"last!\", at, bytes, kept from dropped_events
                 where first_run <= $1 and end_run > $1",
                run.0
            )
            .fetch_optional(&self.pool),
        )
        .await
    }
}
