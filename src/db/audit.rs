//! The audit: who did what, when. Most rows are written by the statement that does the thing.

use time::OffsetDateTime;

use super::{Db, Result, Superuser, noted, within};
use crate::model::page::{Cursor, PAGE_SIZE, Page};
use crate::model::run::RunId;

/// One line of the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// Its number; grows.
    pub id: i64,
    /// When.
    pub at: OffsetDateTime,
    /// Who: a user's name, `worker NAME`, `command line`, `visitor`.
    pub who: String,
    /// What was done, in a few words.
    pub what: String,
    /// The run it was done to.
    pub run: Option<RunId>,
    /// More about it.
    pub detail: String,
    /// The client's address, where there was one.
    pub address: Option<String>,
}

struct AuditRow {
    id: i64,
    at: OffsetDateTime,
    who: String,
    what: String,
    run_id: Option<i64>,
    detail: String,
    address: Option<String>,
}

impl Db {
    /// A page of the audit, newest first.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn audit_page(&self, _by: &Superuser, cursor: Cursor) -> Result<Page<AuditLine>> {
        let limit = PAGE_SIZE as i64 + 1;
        let (below, above) = match cursor {
            Cursor::Start => (i64::MAX, None),
            Cursor::Before(id) => (id, None),
            Cursor::After(id) => (i64::MAX, Some(id)),
        };
        let rows = match above {
            None => {
                within(
                    sqlx::query_as!(
                        AuditRow,
                        "select id, at, who, what, run_id, detail, address from audit
                         where id < $1 order by id desc limit $2",
                        below,
                        limit
                    )
                    .fetch_all(&self.pool),
                )
                .await?
            }
            Some(above) => {
                within(
                    sqlx::query_as!(
                        AuditRow,
                        "select id, at, who, what, run_id, detail, address from audit
                         where id > $1 order by id limit $2",
                        above,
                        limit
                    )
                    .fetch_all(&self.pool),
                )
                .await?
            }
        };
        let lines = rows
            .into_iter()
            .map(|row| AuditLine {
                id: row.id,
                at: row.at,
                who: row.who,
                what: row.what,
                run: row.run_id.map(RunId),
                detail: row.detail,
                address: row.address,
            })
            .collect();
        Ok(Page::from_rows(lines, cursor, |line: &AuditLine| line.id))
    }

    /// Notes something that happened at the door: a sign-in, one refused, a sign-out.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn note_at_the_door(&self, who: &str, what: &str, address: Option<&str>) -> Result<()> {
        within(
            sqlx::query!("insert into audit (who, what, address) values ($1, $2, $3)", who, what, address)
                .execute(&self.pool),
        )
        .await
        .map(drop)
    }

    /// Notes a click that changed nothing, or was refused.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn note_idle(
        &self,
        by: &Superuser,
        what: &str,
        detail: &str,
        address: Option<&str>,
    ) -> Result<()> {
        self.note_refusal(by, what, None, detail, address).await
    }

    /// Notes that a click was refused, and of which run it was, if of one.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn note_refusal(
        &self,
        by: &Superuser,
        what: &str,
        run: Option<RunId>,
        detail: &str,
        address: Option<&str>,
    ) -> Result<()> {
        within(
            sqlx::query!(
                "insert into audit (who, what, run_id, detail, address) values ($1, $2, $3, $4, $5)",
                by.name(),
                what,
                run.map(|run| run.0),
                detail,
                address
            )
            .execute(&self.pool),
        )
        .await?;
        noted();
        Ok(())
    }

    /// Notes that somebody who is signed in was turned away at the door, once a minute at most.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn note_turned_away(&self, who: &str, what: &str, address: Option<&str>) -> Result<()> {
        within(
            sqlx::query!(
                "insert into audit (who, what, address, once)
                 values ($1, $2, $3, concat_ws(' ', $2::text, floor(extract(epoch from now()) / 60), $1::text))
                 on conflict do nothing",
                who,
                what,
                address
            )
            .execute(&self.pool),
        )
        .await
        .map(drop)
    }

    /// Notes something that a worker did by itself.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn note_of_worker(
        &self,
        worker: &str,
        what: &str,
        run: Option<RunId>,
        detail: &str,
    ) -> Result<()> {
        within(
            sqlx::query!(
                "insert into audit (who, what, run_id, detail) values ('worker ' || $1::text, $2, $3, $4)",
                worker,
                what,
                run.map(|run| run.0),
                detail
            )
            .execute(&self.pool),
        )
        .await
        .map(drop)
    }
}
