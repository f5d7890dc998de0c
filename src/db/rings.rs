//! The lookout: what happened is noted once, told to each bell at most once a minute, and sent until it is taken.

use secrecy::SecretString;
use time::OffsetDateTime;

use super::bells::known;
use super::{Db, Result, within};
use crate::model::bell::{BellId, Happening, PushKeys, Ring, Target};
use crate::model::stuck::Cause;

/// How many rings are taken up at once.
const AT_ONCE: i64 = 16;

/// How many rings are kept, for the log.
const KEPT: i64 = 1000;

/// How many ends of runs are looked at in one go.
const ENDS: i64 = 500;

/// A ring to be sent now, and where to.
#[derive(Debug)]
pub struct DueRing {
    /// The ring.
    pub ring: Ring,
    /// Which try this is, from 1 on.
    pub tries: i64,
    /// The bell's number.
    pub bell: BellId,
    /// Where it goes.
    pub target: Target,
}

impl Db {
    /// What any bell listens for; none when there is no bell.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn listened_for(&self) -> Result<Option<Vec<Happening>>> {
        let listens = within(
            sqlx::query_scalar!(
                r#"select coalesce(array_agg(distinct what) filter (where what is not null), '{}') as "listens!"
                   from bells left join lateral unnest(listens) what on true
                   where url is not null having count(*) > 0"#
            )
            .fetch_optional(&self.pool),
        )
        .await?;
        Ok(listens.map(known))
    }

    /// Looks for what has happened since the last look, and makes rings of it. Whoever else looks meanwhile does nothing.
    /// An end is noted when Postgres shows it, even if it was written a minute late.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn look_out(&self, wanted: &[Happening]) -> Result<()> {
        let stuck = match wanted.contains(&Happening::Stuck) {
            true => self.stuck_runs().await?,
            false => Vec::new(),
        };
        // A silent worker is told of by its own name.
        let stuck = stuck.into_iter().filter(|(_, verdict)| verdict.cause != Cause::WorkerSilent);
        let (stuck, since): (Vec<i64>, Vec<OffsetDateTime>) =
            stuck.map(|(run, verdict)| (run.0, verdict.since)).unzip();
        let wanted: Vec<String> = wanted.iter().map(|what| what.word().to_owned()).collect();
        within(async {
            let mut tx = self.pool.begin().await?;
            let seen = sqlx::query_scalar!("select seen_at from lookout for update skip locked");
            let Some(seen) = seen.fetch_optional(&mut *tx).await? else { return Ok(()) };
            let ends = sqlx::query!(
                r#"with ends as (
                       select r.id, r.ended_at, w.what
                       from runs r, lateral (select case r.outcome when 'timed_out' then 'failed' else r.outcome end) w (what)
                       where r.ended_at > greatest($1::timestamptz - interval '60 s', (select min(listens_since) from bells))
                         and w.what = any($2)
                         and not exists (select from happenings h
                                         where h.what = w.what and h.subject = 'run ' || r.id and h.mark = '')
                       order by r.ended_at fetch first ($3) rows with ties),
                   noted as (
                       insert into happenings (at, what, subject)
                       select ended_at, what, 'run ' || id from ends on conflict do nothing)
                   select count(*) as "count!", max(ended_at) as last from ends"#,
                seen,
                &wanted,
                ENDS
            )
            .fetch_one(&mut *tx)
            .await?;
            let all = ends.count < ENDS;
            sqlx::query!("update lookout set seen_at = case when $1 then now() else coalesce($2, now()) end", all, ends.last)
                .execute(&mut *tx)
                .await?;
            sqlx::query!(
                "insert into happenings (at, what, subject, mark)
                 select * from (
                     select wish_at + interval '60 s' as at, 'unconfirmed' as what, 'run ' || id as subject, '' as mark
                     from runs where wish = 'stop' and state <> 'ended'
                                 and wish_at between now() - interval '1 day' and now() - interval '60 s'
                     union all
                     select lease_until, 'lost', 'run ' || id, '' from runs
                     where state = 'lost' and lease_until > now() - interval '1 day'
                     union all
                     select now(), 'stuck', 'run ' || s.id, extract(epoch from s.since)::bigint::text
                     from unnest($2::bigint[], $3::timestamptz[]) s (id, since)
                     union all
                     select at, 'red_handle', 'stop ' || id, ''
                     from (select id, kind, at from stops order by id desc limit 50) s
                     where kind = 'everything' and at > now() - interval '1 day'
                     union all
                     select heard_at + interval '30 s', 'worker_silent', 'worker ' || name,
                            extract(epoch from heard_at)::bigint::text
                     from workers
                     where drained_at is null
                       and heard_at between now() - interval '1 day' and now() - interval '30 s') n
                 where n.what = any($1)
                   and n.at >= (select min(listens_since) from bells)
                   and not exists (select from happenings h
                                   where h.what = n.what and h.subject = n.subject and h.mark = n.mark)
                 limit 1000",
                &wanted,
                &stuck,
                &since
            )
            .execute(&mut *tx)
            .await?;
            make_rings(&mut tx).await?;
            tx.commit().await
        })
        .await
    }

    /// Takes up rings that are due, for half a minute: whoever dies in between leaves them to the next one. What has no
    /// bell any more, or no try left, is given up.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn due_rings(&self) -> Result<Vec<DueRing>> {
        within(
            sqlx::query!(
                "update rings r set given_up_at = now(),
                        trouble = case when exists (select from bells b where b.id = r.bell_id and b.url is not null)
                                       then coalesce(trouble, 'Nobody knows what became of its last try.')
                                       else coalesce(trouble, 'The bell is gone.') end
                 where taken_at is null and given_up_at is null and due_at <= now()
                   and (tries >= 5 or not exists (select from bells b where b.id = r.bell_id and b.url is not null))"
            )
            .execute(&self.pool),
        )
        .await?;
        let rows = within(
            sqlx::query!(
                r#"with due as (
                       select id from rings
                       where taken_at is null and given_up_at is null and due_at <= now()
                       order by due_at limit $1 for update skip locked)
                   update rings r set due_at = now() + interval '30 s', tries = r.tries + 1
                   from due, bells b
                   where r.id = due.id and b.id = r.bell_id and b.url is not null
                   returning r.id, r.kind, r.told, r.at, r.tries, b.id as bell, b.kind as bell_kind, b.url as "url!",
                             b.p256dh, b.auth, b.secret"#,
                AT_ONCE
            )
            .fetch_all(&self.pool),
        )
        .await?;
        rows.into_iter()
            .map(|row| {
                let keys = match (row.p256dh.map(<[u8; 65]>::try_from), row.auth.map(<[u8; 16]>::try_from)) {
                    (Some(Ok(p256dh)), Some(Ok(auth))) => Some(PushKeys { p256dh, auth }),
                    _ => None,
                };
                let told = serde_json::from_value(row.told).unwrap_or_default();
                Ok(DueRing {
                    ring: Ring { id: row.id, kind: row.kind.parse()?, told, at: row.at },
                    tries: row.tries,
                    bell: BellId(row.bell),
                    target: Target {
                        kind: row.bell_kind.parse()?,
                        url: SecretString::from(row.url),
                        keys,
                        secret: row.secret.map(SecretString::from),
                    },
                })
            })
            .collect()
    }

    /// The other side has taken a ring.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer; then it rings again.
    pub async fn ring_taken(&self, ring: i64) -> Result<()> {
        let taken = sqlx::query!(
            "update rings set taken_at = now(), trouble = null
             where id = $1 and taken_at is null and given_up_at is null",
            ring
        );
        within(taken.execute(&self.pool)).await.map(drop)
    }

    /// A try failed; it is tried again after so many seconds, or given up.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer; then it is tried again sooner.
    pub async fn ring_failed(&self, ring: i64, trouble: &str, again_after_s: Option<i64>) -> Result<()> {
        let failed = sqlx::query!(
            "update rings set trouble = $2, due_at = now() + make_interval(secs => coalesce($3::float8, 0)),
                    given_up_at = case when $3::float8 is null then now() end
             where id = $1 and taken_at is null and given_up_at is null",
            ring,
            trouble,
            again_after_s.map(|s| s as f64)
        );
        within(failed.execute(&self.pool)).await.map(drop)
    }

    /// The push service knows a device's subscription no more: it is forgotten, unless the device has another one by now.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn device_dropped(&self, bell: BellId, target: &Target) -> Result<()> {
        let auth = target.keys.as_ref().map(|keys| keys.auth.to_vec());
        let dropped = sqlx::query!(
            "update bells set url = null, p256dh = null, auth = null, dropped_at = now()
             where id = $1 and kind = 'device' and auth = $2",
            bell.0,
            auth
        );
        within(dropped.execute(&self.pool)).await.map(drop)
    }
}

/// Tells each bell what is new to it, all of it in one ring, if it was told nothing for a minute; and tries once a day
/// whether devices are reached.
async fn make_rings(tx: &mut sqlx::PgConnection) -> sqlx::Result<()> {
    let told = sqlx::query!(
        r#"with newest as (select max(id) as id from happenings),
           due as (
               select b.id, b.told_upto, b.listens, b.listens_since, newest.id as upto
               from bells b join users u on u.id = b.user_id, newest
               where b.url is not null and b.told_upto < newest.id
                 and (b.told_at is null or b.told_at <= now() - interval '60 s')
                 and u.role = 'superuser' and u.disabled_at is null
               for update of b),
           news as (
               select due.id,
                      count(*) filter (where last.subject like 'run %' and last.what <> 'succeeded') as needs,
                      count(*) filter (where last.what = 'succeeded') as done,
                      count(*) filter (where last.what = 'worker_silent') as workers,
                      bool_or(last.what = 'red_handle') as handle
               from due, lateral (
                   select distinct on (h.subject) h.subject, h.what from happenings h
                   where h.id > due.told_upto and h.what = any(due.listens) and h.at >= due.listens_since
                   order by h.subject, h.id desc) last
               group by due.id),
           upto as (
               update bells b set told_upto = due.upto, told_at = case when news.id is null then b.told_at else now() end
               from due left join news on news.id = due.id where b.id = due.id)
           insert into rings (bell_id, bell_name, bell_kind, user_name, kind, told)
           select b.id, b.name, b.kind, u.name, 'told',
                  json_build_object('needs', n.needs, 'done', n.done, 'workers', n.workers, 'handle', n.handle)
           from news n join bells b on b.id = n.id join users u on u.id = b.user_id"#
    )
    .execute(&mut *tx)
    .await?;
    let canaries = sqlx::query!(
        "with due as (
             update bells b set canary_at = now() from users u
             where u.id = b.user_id and b.kind = 'device' and b.url is not null
               and (b.canary_at is null or b.canary_at <= now() - interval '1 day')
             returning b.id, b.name, b.kind, u.name as user_name)
         insert into rings (bell_id, bell_name, bell_kind, user_name, kind, told)
         select id, name, kind, user_name, 'canary', '{}' from due"
    )
    .execute(&mut *tx)
    .await?;
    if told.rows_affected() + canaries.rows_affected() > 0 {
        sqlx::query!(
            "delete from rings where id <= (select id from rings order by id desc offset $1 limit 1)
                                 and (taken_at is not null or given_up_at is not null)",
            KEPT
        )
        .execute(&mut *tx)
        .await?;
        // What still lasts is a day old at most.
        sqlx::query!("delete from happenings where noted_at < now() - interval '30 days'")
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}
