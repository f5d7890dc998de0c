//! Agents: the recipes that runs name.

use std::time::Duration;

use super::stuck::patience;
use super::{Db, Error, Result, Superuser, within};
use crate::model::agent::{Agent, Limits};
use crate::model::run::LadderTimes;
use crate::model::stuck::Patience;

/// The columns of an agent, as statements elsewhere select them too.
pub(super) struct AgentRow {
    pub(super) name: String,
    pub(super) about: String,
    pub(super) image: Option<String>,
    pub(super) model: Option<String>,
    pub(super) memory_mib: i64,
    pub(super) milli_cpus: i64,
    pub(super) pids: i64,
    pub(super) time_s: i64,
    pub(super) sigint_ms: i64,
    pub(super) sigterm_ms: i64,
    pub(super) sigkill_ms: i64,
    pub(super) linger_ms: i64,
    pub(super) quiet_s: i64,
    pub(super) call_s: i64,
    pub(super) limited_s: i64,
    pub(super) same_calls: i64,
    pub(super) errors: i64,
    pub(super) stops_stuck: bool,
}

impl From<AgentRow> for Agent {
    fn from(row: AgentRow) -> Self {
        let ms = |ms: i64| Duration::from_millis(ms.unsigned_abs());
        Self {
            name: row.name,
            about: row.about,
            image: row.image,
            model: row.model,
            limits: Limits {
                memory_mib: row.memory_mib,
                milli_cpus: row.milli_cpus,
                pids: row.pids,
                time: Duration::from_secs(row.time_s.unsigned_abs()),
            },
            ladder: LadderTimes {
                sigint: ms(row.sigint_ms),
                sigterm: ms(row.sigterm_ms),
                sigkill: ms(row.sigkill_ms),
                linger: ms(row.linger_ms),
            },
            patience: patience(
                row.quiet_s,
                row.call_s,
                row.limited_s,
                row.same_calls,
                row.errors,
                row.stops_stuck,
            ),
        }
    }
}

impl Db {
    /// All agents, by name.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn agents(&self, _by: &Superuser) -> Result<Vec<Agent>> {
        let rows = within(
            sqlx::query_as!(
                AgentRow,
                "select name, about, image, model, memory_mib, milli_cpus, pids, time_s,
                        sigint_ms, sigterm_ms, sigkill_ms, linger_ms, quiet_s, call_s, limited_s, same_calls, errors,
                        stops_stuck from agents order by name"
            )
            .fetch_all(&self.pool),
        )
        .await?;
        Ok(rows.into_iter().map(Agent::from).collect())
    }

    /// Says how long each rung of an agent's ladder is given, for runs that are claimed from now on; with its audit row.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such agent.
    pub async fn set_ladder(
        &self,
        by: &Superuser,
        agent: &str,
        times: LadderTimes,
        address: Option<&str>,
    ) -> Result<()> {
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let done = within(
            sqlx::query!(
                r#"with kept as (
                       update agents set sigint_ms = $2, sigterm_ms = $3, sigkill_ms = $4, linger_ms = $5
                       where name = $1 returning name),
                   noted as (
                       insert into audit (who, what, detail, address)
                       select $6, 'ladder changed', name || ': ' || $2::bigint || ', ' || $3::bigint || ', ' || $4::bigint
                              || ', ' || $5::bigint || ' ms', $7
                       from kept)
                   select name from kept"#,
                agent,
                ms(times.sigint),
                ms(times.sigterm),
                ms(times.sigkill),
                ms(times.linger),
                by.name(),
                address
            )
            .fetch_optional(&self.pool),
        )
        .await?;
        done.map(drop).ok_or(Error::NotFound)
    }

    /// Says how long an agent's runs may get nowhere before they are called stuck; with its audit row. What is shown goes by
    /// it at once, stops by themselves from the next claim on.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such agent.
    pub async fn set_patience(
        &self,
        by: &Superuser,
        agent: &str,
        patience: Patience,
        address: Option<&str>,
    ) -> Result<()> {
        let s = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let done = within(
            sqlx::query!(
                r#"with kept as (
                       update agents set quiet_s = $2, call_s = $3, limited_s = $4, same_calls = $5, errors = $6,
                           stops_stuck = $7
                       where name = $1 returning name),
                   noted as (
                       insert into audit (who, what, detail, address)
                       select $8, 'patience changed', name || ': ' || $2::bigint || ', ' || $3::bigint || ', '
                              || $4::bigint || ' s; ' || $5::bigint || ' calls, ' || $6::bigint || ' errors'
                              || case when $7 then '; stops what is stuck' else '' end, $9
                       from kept)
                   select name from kept"#,
                agent,
                s(patience.quiet),
                s(patience.call),
                s(patience.limited),
                i64::from(patience.same_calls),
                i64::from(patience.errors),
                patience.stops,
                by.name(),
                address
            )
            .fetch_optional(&self.pool),
        )
        .await?;
        done.map(drop).ok_or(Error::NotFound)
    }
}
