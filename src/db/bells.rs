//! Bells: devices and addresses where superusers are called. Each belongs to one of them, and goes with their rights.

use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;

use super::{Db, Error, Result, Superuser, within};
use crate::model::bell::{BellId, BellKind, Happening, RingKind, Told};

/// How many bells one person may have.
pub(super) const MOST: i64 = 20;

/// How many rings the log shows.
const LOG: i64 = 200;

/// A bell, as its page shows it: neither its address nor its secret.
#[derive(Debug, Clone)]
pub struct Bell {
    /// Its number.
    pub id: BellId,
    /// What kind.
    pub kind: BellKind,
    /// What its owner calls it.
    pub name: String,
    /// The host of its address; none when the push service has dropped it.
    pub host: Option<String>,
    /// By what a device is known.
    pub device: Option<String>,
    /// Whether it has a secret.
    pub has_secret: bool,
    /// What it listens for.
    pub listens: Vec<Happening>,
    /// When it was made.
    pub made_at: OffsetDateTime,
    /// When its device last came by.
    pub seen_at: OffsetDateTime,
    /// When the push service dropped it.
    pub dropped_at: Option<OffsetDateTime>,
    /// When it was last tried whether it is reached, and when such a try last arrived.
    pub canary: (Option<OffsetDateTime>, Option<OffsetDateTime>),
    /// When something it was told last arrived.
    pub arrived_at: Option<OffsetDateTime>,
    /// Its last ring: when it was taken, or what was wrong.
    pub last: Option<(OffsetDateTime, Option<String>)>,
}

/// An address to be rung.
#[derive(Debug)]
pub struct NewBell<'a> {
    /// What kind.
    pub kind: BellKind,
    /// What it shall be called.
    pub name: &'a str,
    /// The address.
    pub url: &'a SecretString,
    /// What its calls are signed with, or presented to it.
    pub secret: Option<&'a SecretString>,
    /// What it listens for.
    pub listens: &'a [Happening],
}

/// A line of the log.
#[derive(Debug, Clone)]
pub struct RingLine {
    /// Its number.
    pub id: i64,
    /// Why it rang.
    pub kind: RingKind,
    /// What it said.
    pub told: Told,
    /// The bell and its kind, as they were.
    pub bell: (String, BellKind),
    /// Whose it was.
    pub whose: String,
    /// Since when it was to be told.
    pub at: OffsetDateTime,
    /// How often it was tried.
    pub tries: i64,
    /// When it is tried next, while it isn't over.
    pub due_at: OffsetDateTime,
    /// When the other side took it.
    pub taken_at: Option<OffsetDateTime>,
    /// When the device said that it had come.
    pub arrived_at: Option<OffsetDateTime>,
    /// When it was given up.
    pub given_up_at: Option<OffsetDateTime>,
    /// What was wrong the last time.
    pub trouble: Option<String>,
}

pub(super) fn words(listens: &[Happening]) -> Vec<String> {
    listens.iter().map(|what| what.word().to_owned()).collect()
}

/// The words that this version knows.
pub(super) fn known(listens: Vec<String>) -> Vec<Happening> {
    listens.iter().filter_map(|word| word.parse().ok()).collect()
}

impl Db {
    /// The key that push services know this installation by, if one was made.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn push_key(&self) -> Result<Option<Vec<u8>>> {
        within(sqlx::query_scalar!("select pkcs8 from push_key").fetch_optional(&self.pool)).await
    }

    /// Keeps a key, unless there is one; gives the one that counts.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn keep_push_key(&self, pkcs8: &[u8]) -> Result<Vec<u8>> {
        let insert = sqlx::query!("insert into push_key (pkcs8) values ($1) on conflict do nothing", pkcs8);
        within(insert.execute(&self.pool)).await?;
        self.push_key().await?.ok_or(Error::NotFound)
    }

    /// One's own bells, the oldest first.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn bells(&self, by: &Superuser) -> Result<Vec<Bell>> {
        let rows = within(
            sqlx::query!(
                r#"select b.id, b.kind, b.name, substring(b.url from '://([^/?#]+)') as host, b.device,
                          b.secret is not null as "has_secret!", b.listens, b.made_at, b.seen_at, b.dropped_at,
                          b.canary_at, b.canary_arrived_at, b.arrived_at, r.last_at as "last_at?", r.trouble as "trouble?"
                   from bells b left join lateral (
                       select coalesce(taken_at, given_up_at, at) as last_at,
                              case when taken_at is null then trouble end as trouble
                       from rings where bell_id = b.id and (taken_at is not null or trouble is not null)
                       order by id desc limit 1) r on true
                   where b.user_id = $1 order by b.id"#,
                by.id()
            )
            .fetch_all(&self.pool),
        )
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(Bell {
                    id: BellId(row.id),
                    kind: row.kind.parse()?,
                    name: row.name,
                    host: row.host,
                    device: row.device,
                    has_secret: row.has_secret,
                    listens: known(row.listens),
                    made_at: row.made_at,
                    seen_at: row.seen_at,
                    dropped_at: row.dropped_at,
                    canary: (row.canary_at, row.canary_arrived_at),
                    arrived_at: row.arrived_at,
                    last: row.last_at.map(|at| (at, row.trouble)),
                })
            })
            .collect()
    }

    /// Adds an address.
    ///
    /// # Errors
    /// [`Error::Conflict`] when there are as many as one may have.
    pub async fn add_bell(&self, by: &Superuser, new: &NewBell<'_>, address: Option<&str>) -> Result<()> {
        let done = within(
            sqlx::query!(
                "with owner as (
                     select id, name from users
                     where id = $1 and role = 'superuser' and disabled_at is null
                       and (select count(*) from bells where user_id = $1) < $7 for share),
                 added as (
                     insert into bells (user_id, kind, name, url, secret, listens, told_upto)
                     select id, $2, $3, $4, $5, $6, coalesce((select max(id) from happenings), 0) from owner
                     returning name)
                 insert into audit (who, what, detail, address)
                 select owner.name, 'bell put up', $2 || ' ' || added.name, $8 from owner, added",
                by.id(),
                new.kind.word(),
                new.name,
                new.url.expose_secret(),
                new.secret.map(ExposeSecret::expose_secret),
                &words(new.listens),
                MOST,
                address
            )
            .execute(&self.pool),
        )
        .await?;
        if done.rows_affected() == 0 { Err(too_many()) } else { Ok(()) }
    }

    /// Changes what a bell is called and listens for, from now on.
    ///
    /// # Errors
    /// [`Error::NotFound`] when one has no such bell.
    pub async fn change_bell(
        &self,
        by: &Superuser,
        id: BellId,
        name: &str,
        listens: &[Happening],
        address: Option<&str>,
    ) -> Result<()> {
        within(
            sqlx::query!(
                "with changed as (
                     update bells set name = $3, listens = $4, listens_since = now()
                     where id = $1 and user_id = $2 returning id, kind),
                 noted as (
                     insert into audit (who, what, detail, address)
                     select $5, 'bell changed', kind || ' ' || $3 || ': ' || array_to_string($4::text[], ', '), $6
                     from changed)
                 select id from changed",
                id.0,
                by.id(),
                name,
                &words(listens),
                by.name(),
                address
            )
            .fetch_one(&self.pool),
        )
        .await
        .map(drop)
    }

    /// Takes a bell down.
    ///
    /// # Errors
    /// [`Error::NotFound`] when one has no such bell.
    pub async fn remove_bell(&self, by: &Superuser, id: BellId, address: Option<&str>) -> Result<()> {
        within(
            sqlx::query!(
                "with gone as (delete from bells where id = $1 and user_id = $2 returning id, kind, name),
                 noted as (
                     insert into audit (who, what, detail, address)
                     select $3, 'bell taken down', kind || ' ' || name, $4 from gone)
                 select id from gone",
                id.0,
                by.id(),
                by.name(),
                address
            )
            .fetch_one(&self.pool),
        )
        .await
        .map(drop)
    }

    /// Rings a bell to hear whether it does; while such a ring is under way there is no second one.
    ///
    /// # Errors
    /// [`Error::NotFound`] when one has no such bell, or it has been dropped.
    pub async fn test_bell(&self, by: &Superuser, id: BellId) -> Result<()> {
        within(
            sqlx::query!(
                "with bell as (select * from bells where id = $1 and user_id = $2 and url is not null),
                 rung as (
                     insert into rings (bell_id, bell_name, bell_kind, user_name, kind, told)
                     select id, name, kind, $3, 'test', '{}' from bell
                     where not exists (select from rings where bell_id = $1 and kind = 'test'
                                       and taken_at is null and given_up_at is null))
                 select id from bell",
                id.0,
                by.id(),
                by.name()
            )
            .fetch_one(&self.pool),
        )
        .await
        .map(drop)
    }

    /// The newest rings of everybody's bells.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn rings(&self, _by: &Superuser) -> Result<Vec<RingLine>> {
        let rows = within(
            sqlx::query!(
                "select id, kind, told, bell_name, bell_kind, user_name, at, tries, due_at, taken_at, arrived_at, trouble,
                        case when bell_id is null and taken_at is null then coalesce(given_up_at, at)
                             else given_up_at end as given_up_at
                 from rings order by id desc limit $1",
                LOG
            )
            .fetch_all(&self.pool),
        )
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(RingLine {
                    id: row.id,
                    kind: row.kind.parse()?,
                    told: serde_json::from_value(row.told).unwrap_or_default(),
                    bell: (row.bell_name, row.bell_kind.parse()?),
                    whose: row.user_name,
                    at: row.at,
                    tries: row.tries,
                    due_at: row.due_at,
                    taken_at: row.taken_at,
                    arrived_at: row.arrived_at,
                    given_up_at: row.given_up_at,
                    trouble: row.trouble,
                })
            })
            .collect()
    }
}

pub(super) fn too_many() -> Error {
    Error::Conflict(format!("You have {MOST} bells; take one down first."))
}
