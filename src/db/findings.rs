//! Lost and found: reported by workers, seen and cleared by the superuser.

use time::OffsetDateTime;

use super::{Db, Error, Result, Superuser, within};
use crate::model::found::{Finding, Leftover};
use crate::model::run::RunId;

/// The longest that each list is.
const MOST: i64 = 300;

struct FindingRow {
    id: i64,
    worker: String,
    worker_alive: bool,
    kind: String,
    what: String,
    run_id: Option<i64>,
    detail: String,
    bytes: Option<i64>,
    since: Option<OffsetDateTime>,
    found_at: OffsetDateTime,
    seen_at: OffsetDateTime,
    gone_at: Option<OffsetDateTime>,
    wished_by_name: Option<String>,
    wished_at: Option<OffsetDateTime>,
    done: Option<String>,
    done_by: Option<String>,
    done_at: Option<OffsetDateTime>,
}

impl TryFrom<FindingRow> for Finding {
    type Error = Error;
    fn try_from(row: FindingRow) -> Result<Self> {
        Ok(Self {
            id: row.id,
            worker: row.worker,
            worker_alive: row.worker_alive,
            leftover: Leftover {
                kind: row.kind.parse()?,
                what: row.what,
                run: row.run_id.map(RunId),
                detail: row.detail,
                bytes: row.bytes,
                since: row.since,
            },
            found_at: row.found_at,
            seen_at: row.seen_at,
            gone_at: row.gone_at,
            wished: row.wished_by_name.zip(row.wished_at),
            done: match (row.done, row.done_by, row.done_at) {
                (Some(done), Some(by), Some(at)) => Some((done, by, at)),
                _ => None,
            },
        })
    }
}

impl Db {
    /// What is left over now on all hosts, oldest first, and what was cleared away in the last week, newest first.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn findings(&self, _by: &Superuser) -> Result<(Vec<Finding>, Vec<Finding>)> {
        let open = within(
            sqlx::query_as!(
                FindingRow,
                r#"select f.id, f.worker, (w.heard_at > now() - interval '15 s') as "worker_alive!", f.kind, f.what,
                          f.run_id, f.detail, f.bytes, f.since, f.found_at, f.seen_at, f.gone_at, f.wished_by_name,
                          f.wished_at, f.done, f.done_by, f.done_at
                   from findings f join workers w on w.name = f.worker
                   where f.gone_at is null order by f.found_at, f.id limit $1"#,
                MOST
            )
            .fetch_all(&self.pool),
        );
        let gone = within(
            sqlx::query_as!(
                FindingRow,
                r#"select f.id, f.worker, (w.heard_at > now() - interval '15 s') as "worker_alive!", f.kind, f.what,
                          f.run_id, f.detail, f.bytes, f.since, f.found_at, f.seen_at, f.gone_at, f.wished_by_name,
                          f.wished_at, f.done, f.done_by, f.done_at
                   from findings f join workers w on w.name = f.worker
                   where f.gone_at > now() - interval '7 days' order by f.gone_at desc limit $1"#,
                MOST
            )
            .fetch_all(&self.pool),
        );
        let read =
            |rows: Vec<FindingRow>| rows.into_iter().map(Finding::try_from).collect::<Result<Vec<_>>>();
        Ok((read(open.await?)?, read(gone.await?)?))
    }

    /// Wishes that a leftover be cleared away, with its audit row; again, when the last try has failed. False when that is
    /// wished already, or it is gone.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such finding.
    pub async fn wish_cleared(&self, by: &Superuser, finding: i64, address: Option<&str>) -> Result<bool> {
        let row = within(
            sqlx::query!(
                r#"with wished as (
                       update findings set wished_by = $2, wished_by_name = $3, wished_at = now(),
                              done = null, done_by = null, done_at = null
                       where id = $1 and gone_at is null and kind <> 'run'
                         and (wished_at is null or done_at is not null)
                       returning worker, kind, what, run_id),
                   noted as (
                       insert into audit (who, what, run_id, detail, address)
                       select $3, 'leftover to be cleared', run_id, kind || ' ' || what || ' on ' || worker, $4
                       from wished)
                   select (select count(*) from wished) as "fresh!",
                          (select count(*) from findings where id = $1) as "known!""#,
                finding,
                by.id(),
                by.name(),
                address
            )
            .fetch_one(&self.pool),
        )
        .await?;
        if row.known == 0 {
            return Err(Error::NotFound);
        }
        if row.fresh == 0 {
            self.note_idle(by, "nothing to be cleared", &format!("finding {finding}"), address).await?;
        }
        Ok(row.fresh == 1)
    }

    /// A worker's whole survey: what is left over on its host now. What it doesn't name any more is gone.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn report_found(&self, worker: &str, leftovers: &[Leftover]) -> Result<()> {
        let kinds: Vec<String> = leftovers.iter().map(|l| l.kind.word().to_owned()).collect();
        let whats: Vec<String> = leftovers.iter().map(|l| l.what.clone()).collect();
        let runs: Vec<Option<i64>> = leftovers.iter().map(|l| l.run.map(|run| run.0)).collect();
        let details: Vec<String> = leftovers.iter().map(|l| l.detail.clone()).collect();
        let bytes: Vec<Option<i64>> = leftovers.iter().map(|l| l.bytes).collect();
        let since: Vec<Option<OffsetDateTime>> = leftovers.iter().map(|l| l.since).collect();
        within(
            sqlx::query!(
                r#"with seen as (
                       select * from unnest($2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[],
                                            $7::timestamptz[]) as seen (kind, what, run_id, detail, bytes, since)),
                   gone as (
                       update findings f set gone_at = now(),
                           done = coalesce(done, 'It was there no more.'), done_at = coalesce(done_at, now()),
                           done_by = coalesce(done_by, 'nobody we know of')
                       where f.worker = $1 and f.gone_at is null
                         and not exists (select from seen where seen.kind = f.kind and seen.what = f.what)),
                   forgotten as (
                       delete from findings where worker = $1 and gone_at < now() - interval '7 days')
                   insert into findings (worker, kind, what, run_id, detail, bytes, since)
                   select distinct on (kind, what) $1, kind, what, run_id, detail, bytes, since from seen
                   on conflict (worker, kind, what) where gone_at is null
                   do update set seen_at = now(), detail = excluded.detail, bytes = excluded.bytes"#,
                worker,
                &kinds,
                &whats,
                &runs as &[Option<i64>],
                &details,
                &bytes as &[Option<i64>],
                &since as &[Option<OffsetDateTime>]
            )
            .execute(&self.pool),
        )
        .await
        .map(drop)
    }

    /// What a worker is asked to clear away.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn to_be_cleared(&self, worker: &str) -> Result<Vec<(i64, Leftover)>> {
        let rows = within(
            sqlx::query!(
                "select id, kind, what, run_id, detail from findings
                 where worker = $1 and gone_at is null and wished_at is not null and done_at is null
                 order by id limit 20",
                worker
            )
            .fetch_all(&self.pool),
        )
        .await?;
        rows.into_iter()
            .map(|row| {
                let (what, run, detail) = (row.what, row.run_id.map(RunId), row.detail);
                let kind = row.kind.parse()?;
                Ok((row.id, Leftover { kind, what, run, detail, bytes: None, since: None }))
            })
            .collect()
    }

    /// Says what a worker did about a leftover that it was asked to clear away; `gone` when that is the end of it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn cleared(&self, worker: &str, finding: i64, done: &str, gone: bool) -> Result<()> {
        within(
            sqlx::query!(
                "update findings set done = $3, done_by = 'worker ' || $1, done_at = now(),
                        gone_at = case when $4 then now() end
                 where id = $2 and worker = $1 and gone_at is null",
                worker,
                finding,
                done,
                gone
            )
            .execute(&self.pool),
        )
        .await
        .map(drop)
    }

    /// Lists what a worker found and cleared away by itself. The run doesn't say any more that its container is there.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn cleared_by_itself(&self, worker: &str, leftover: &Leftover, done: &str) -> Result<()> {
        within(
            sqlx::query!(
                r#"with known as (
                       update findings set done = $6, done_by = 'worker ' || $1, done_at = now(), gone_at = now()
                       where worker = $1 and kind = $2 and what = $3 and gone_at is null returning id),
                   told as (
                       update runs set trouble = null
                       where id = $4 and container = $3 and state = 'ended' and trouble is not null)
                   insert into findings (worker, kind, what, run_id, detail, done, done_by, done_at, gone_at)
                   select $1, $2, $3, $4, $5, $6, 'worker ' || $1, now(), now()
                   where not exists (select from known)"#,
                worker,
                leftover.kind.word(),
                leftover.what,
                leftover.run.map(|run| run.0),
                leftover.detail,
                done
            )
            .execute(&self.pool),
        )
        .await
        .map(drop)
    }

    /// The runs that a worker should have containers for, other than these: running for a while, or lost.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn runs_without(&self, worker: &str, found: &[i64]) -> Result<Vec<(RunId, OffsetDateTime)>> {
        let rows = within(
            sqlx::query!(
                r#"select id, coalesce(started_at, asked_at) as "since!" from runs
                   where worker = $1 and state in ('running', 'lost') and id <> all($2)
                     and coalesce(started_at, asked_at) < now() - interval '5 s'
                   order by id limit 100"#,
                worker,
                found
            )
            .fetch_all(&self.pool),
        )
        .await?;
        Ok(rows.into_iter().map(|row| (RunId(row.id), row.since)).collect())
    }
}
