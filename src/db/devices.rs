//! Devices: browsers whose push subscription is a bell.

use secrecy::{ExposeSecret, SecretString};

use super::bells::{MOST, too_many, words};
use super::{Db, Result, Superuser, within};
use crate::model::bell::{Happening, PushKeys};

/// A browser's push subscription.
#[derive(Debug)]
pub struct Subscription<'a> {
    /// By what the device is known.
    pub device: &'a str,
    /// Where its push service is.
    pub url: &'a SecretString,
    /// What it is encrypted with.
    pub keys: &'a PushKeys,
}

impl Db {
    /// Makes a device a bell. It has one subscription and one owner: others that it had are gone.
    ///
    /// # Errors
    /// [`super::Error::Conflict`] when there are as many as one may have.
    pub async fn add_device(
        &self,
        by: &Superuser,
        subscription: &Subscription<'_>,
        name: &str,
        listens: &[Happening],
        address: Option<&str>,
    ) -> Result<()> {
        let added = within(async {
            let mut tx = self.pool.begin().await?;
            let url = subscription.url.expose_secret();
            sqlx::query!(
                "delete from bells where kind = 'device' and url = $1 and not (user_id = $2 and device = $3)",
                url,
                by.id(),
                subscription.device
            )
            .execute(&mut *tx)
            .await?;
            let added = sqlx::query!(
                "with owner as (
                     select id, name from users
                     where id = $1 and role = 'superuser' and disabled_at is null
                       and (select count(*) from bells where user_id = $1 and device is distinct from $2) < $8
                     for share),
                 added as (
                     insert into bells (user_id, kind, device, name, url, p256dh, auth, listens, told_upto)
                     select id, 'device', $2, $3, $4, $5, $6, $7, coalesce((select max(id) from happenings), 0)
                     from owner
                     on conflict on constraint bells_one_a_device do update
                         set name = excluded.name, url = excluded.url, p256dh = excluded.p256dh,
                             auth = excluded.auth, listens = excluded.listens, listens_since = now(),
                             told_upto = excluded.told_upto, seen_at = now(), dropped_at = null
                     returning name)
                 insert into audit (who, what, detail, address)
                 select owner.name, 'bell put up', 'device ' || added.name, $9 from owner, added",
                by.id(),
                subscription.device,
                name,
                url,
                &subscription.keys.p256dh[..],
                &subscription.keys.auth[..],
                &words(listens),
                MOST,
                address
            )
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(added.rows_affected())
        })
        .await?;
        if added == 0 { Err(too_many()) } else { Ok(()) }
    }

    /// A device comes by with the subscription that it has now.
    ///
    /// # Errors
    /// [`super::Error::NotFound`] when it is no bell of this person's.
    pub async fn renew_device(&self, by: &Superuser, subscription: &Subscription<'_>) -> Result<()> {
        within(
            sqlx::query!(
                "update bells set url = $3, p256dh = $4, auth = $5, seen_at = now(), dropped_at = null
                 where user_id = $1 and device = $2
                   and not exists (select from bells o where o.kind = 'device' and o.url = $3
                                                         and not (o.user_id = $1 and o.device = $2))
                 returning id",
                by.id(),
                subscription.device,
                subscription.url.expose_secret(),
                &subscription.keys.p256dh[..],
                &subscription.keys.auth[..]
            )
            .fetch_one(&self.pool),
        )
        .await
        .map(drop)
    }

    /// A device says that a ring has come.
    ///
    /// # Errors
    /// [`super::Error::NotFound`] when it was for no bell of this person's.
    pub async fn ring_arrived(&self, by: &Superuser, ring: i64) -> Result<()> {
        within(
            sqlx::query!(
                "with came as (
                     update rings r set arrived_at = coalesce(r.arrived_at, now()) from bells b
                     where r.id = $1 and b.id = r.bell_id and b.user_id = $2 and b.kind = 'device'
                     returning b.id, r.kind, r.arrived_at)
                 update bells b set arrived_at = came.arrived_at,
                        canary_arrived_at = case came.kind when 'canary' then came.arrived_at
                                                           else b.canary_arrived_at end
                 from came where b.id = came.id returning b.id",
                ring,
                by.id()
            )
            .fetch_one(&self.pool),
        )
        .await
        .map(drop)
    }
}
