//! What runs are judged stuck by: their agents' patience, and how long calls usually take.

use std::time::Duration;

use serde_json::Value;

use super::{Db, FleetNow, Lease, Result, within};
use crate::model::activity::{Activity, Call};
use crate::model::run::RunId;
use crate::model::stuck::{Patience, Verdict, Watch};

/// How many living runs are looked at for a count.
const LOOKED_AT: i64 = 500;

/// How many calls of one agent are remembered with their times.
const USUAL_MAX: i64 = 300;

/// An agent's patience from its columns.
pub(super) fn patience(
    quiet_s: i64,
    call_s: i64,
    limited_s: i64,
    same_calls: i64,
    errors: i64,
    stops: bool,
) -> Patience {
    let s = |s: i64| Duration::from_secs(s.unsigned_abs());
    let count = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
    Patience {
        quiet: s(quiet_s),
        call: s(call_s),
        limited: s(limited_s),
        same_calls: count(same_calls),
        errors: count(errors),
        stops,
    }
}

/// What is kept of a run to judge it by. An activity that another version wrote is none.
pub(super) fn watch(activity: Option<Value>, usual_s: Option<i64>, patience: Patience) -> Watch {
    let activity = activity.and_then(|stored| serde_json::from_value::<Activity>(stored).ok());
    Watch {
        activity: activity.unwrap_or_default(),
        usual: usual_s.map(|s| Duration::from_secs(s.unsigned_abs())),
        patience,
    }
}

impl Db {
    /// Remembers how long a call took that was over a minute, if none like it took longer; of each agent the newest few hundred.
    ///
    /// # Errors
    /// [`super::Error::Fenced`] when the lease is gone.
    pub async fn call_took(&self, lease: &Lease, call: &Call, took: Duration) -> Result<()> {
        let longest_s = i64::try_from(took.as_secs()).unwrap_or(i64::MAX);
        let done = within(
            sqlx::query!(
                r#"with held as (
                       select agent_id from runs
                       where id = $1 and worker = $2 and fence = $3 and state in ('starting', 'running', 'ended')),
                   kept as (
                       insert into usual_calls (agent_id, tool, gist, longest_s)
                       select agent_id, $4, $5, $6 from held
                       on conflict (agent_id, tool, gist) do update
                           set longest_s = greatest(usual_calls.longest_s, excluded.longest_s), at = now()),
                   gone as (
                       delete from usual_calls u using held
                       where u.agent_id = held.agent_id
                         and u.at < (select at from usual_calls n where n.agent_id = held.agent_id
                                     order by at desc offset $7 limit 1))
                   select agent_id from held"#,
                lease.run().0,
                lease.worker(),
                lease.fence(),
                call.tool,
                call.gist,
                longest_s,
                USUAL_MAX
            )
            .fetch_optional(&self.pool),
        )
        .await?;
        self.held(lease, u64::from(done.is_some())).await
    }

    /// Which of the living runs are stuck: at most [`FleetNow::COUNTED`].
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub(super) async fn some_stuck_runs(&self) -> Result<Vec<i64>> {
        let counted = usize::try_from(FleetNow::COUNTED).unwrap_or_default();
        Ok(self.stuck_runs().await?.into_iter().take(counted).map(|(run, _)| run.0).collect())
    }

    /// The living runs that are stuck, by Postgres's clock, of at most a few hundred that are looked at.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub(super) async fn stuck_runs(&self) -> Result<Vec<(RunId, Verdict)>> {
        let rows = within(
            sqlx::query!(
                r#"select now() as "now!", r.id, r.activity, r.usual_s, a.quiet_s, a.call_s, a.limited_s, a.same_calls,
                          a.errors,
                          case when r.state = 'running' and r.trouble is null
                               then coalesce(r.last_event_at, r.started_at) end as heard_at,
                          extract(epoch from r.lease_until - now())::float8 as lease_left_s
                   from runs r join agents a on a.id = r.agent_id
                   where r.state in ('starting', 'running') and r.wish = 'run' limit $1"#,
                LOOKED_AT
            )
            .fetch_all(&self.pool),
        )
        .await?;
        let stuck = rows.into_iter().filter_map(|row| {
            let patience =
                patience(row.quiet_s, row.call_s, row.limited_s, row.same_calls, row.errors, false);
            let watch = watch(row.activity, row.usual_s, patience);
            let verdict = watch.judge(row.heard_at, row.lease_left_s, row.now)?;
            Some((RunId(row.id), verdict))
        });
        Ok(stuck.collect())
    }
}
