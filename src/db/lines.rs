//! Lists of runs: pages along the index that each filter has, and the sections of the first page.

use std::cmp::Reverse;

use serde_json::Value;
use sqlx::postgres::types::PgInterval;
use time::OffsetDateTime;

use super::stuck::{patience, watch};
use super::{Db, Error, Result, Superuser, within};
use crate::model::filter::Filter;
use crate::model::metered::Cost;
use crate::model::page::{Cursor, Page};
use crate::model::run::{RunFilter, RunId, RunLine};
use crate::model::stop::Matching;

/// How many runs a page of the list holds. This and the others stand in the statements as they are, since Postgres plans badly for a
/// limit that it doesn't know.
pub const LINES: usize = 40;
/// How many each of the first two sections shows.
pub const SECTION: usize = 20;
/// How many are left to the rest at least.
const REST: usize = 10;

pub(super) struct LineRow {
    pub(super) id: i64,
    pub(super) title: String,
    pub(super) agent: String,
    pub(super) worker: Option<String>,
    pub(super) state: String,
    pub(super) outcome: Option<String>,
    pub(super) note: Option<String>,
    pub(super) wish_at: Option<OffsetDateTime>,
    pub(super) delivered_at: Option<OffsetDateTime>,
    pub(super) asked_at: OffsetDateTime,
    pub(super) started_at: Option<OffsetDateTime>,
    pub(super) ended_at: Option<OffsetDateTime>,
    pub(super) last_event_at: Option<OffsetDateTime>,
    pub(super) cost_usd: Option<f64>,
    pub(super) metered_usd: Option<f64>,
    pub(super) at_least: bool,
    pub(super) lease_left: Option<PgInterval>,
    pub(super) activity: Option<Value>,
    pub(super) usual_s: Option<i64>,
    pub(super) quiet_s: i64,
    pub(super) call_s: i64,
    pub(super) limited_s: i64,
    pub(super) same_calls: i64,
    pub(super) errors: i64,
    pub(super) section: i32,
}

impl TryFrom<LineRow> for RunLine {
    type Error = Error;
    fn try_from(row: LineRow) -> Result<Self> {
        Ok(Self {
            id: RunId(row.id),
            title: row.title,
            agent: row.agent,
            worker: row.worker,
            state: row.state.parse()?,
            outcome: row.outcome.map(|word| word.parse()).transpose()?,
            note: row.note,
            wish_at: row.wish_at,
            delivered_at: row.delivered_at,
            asked_at: row.asked_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
            last_event_at: row.last_event_at,
            cost: Cost::of(row.cost_usd, row.metered_usd, row.at_least),
            lease_left_s: row.lease_left.map(seconds),
            watch: watch(
                row.activity,
                row.usual_s,
                patience(row.quiet_s, row.call_s, row.limited_s, row.same_calls, row.errors, false),
            ),
        })
    }
}

/// What a difference of two times is. Postgres could say it in seconds, by numbers of any length, which takes it longer.
fn seconds(of: PgInterval) -> f64 {
    f64::from(of.days) * 86_400.0 + of.microseconds as f64 / 1e6
}

/// Some lines: the same columns along another index. `$with`, `$from` and `$rest` are literals, so that each statement is checked by
/// the compiler and walks the index made for it. A success is noted by the first words of its result.
macro_rules! lines {
    ($warm:expr, $with:literal, $section:literal, [$($rest:literal)+] $(, $arg:expr)*) => {
        within(
            $warm.all(sqlx::query_as!(
                LineRow,
                $with + r#"select r.id, r.title, a.name as agent, r.worker, r.state, r.outcome,
                          coalesce(r.stop_trouble, case when r.outcome = 'succeeded' then left(r.result, 140) end,
                                   r.reason, r.trouble, r.waits_because) as note,
                          r.wish_at, r.delivered_at, r.asked_at, r.started_at, r.ended_at, r.last_event_at, r.cost_usd,
                          r.metered_usd, r.metered_partly or r.metered_unpriced as "at_least!",
                          r.lease_until - now() as lease_left,
                          case when r.state in ('starting', 'running') then r.activity end as activity,
                          r.usual_s, a.quiet_s, a.call_s, a.limited_s, a.same_calls, a.errors,
                          "# + $section + r#" as "section!""# $(+ $rest)+
                $(, $arg)*
            )),
        )
        .await?
    };
}
pub(super) use lines;

/// One page that lies so `$from` a run, `$order`ed by their number.
///
/// Where an index begins with what is filtered by, `$first` orders by that too, and the filter says `= any(array[…])`: to Postgres
/// that is no constant, so that it can't take it into its head to walk along all runs instead and to throw most of them away. What
/// is asked for stands in a `select` of its own, into which it doesn't look ahead: it finds no reason to make a new plan for each
/// page, which takes longer than the page. One bound and a limit that it knows make the plan the right one.
macro_rules! page {
    ($warm:expr, $filter:literal, $first:literal, $order:literal, $from:literal, $id:expr $(, $arg:expr)*) => {
        lines!(
            $warm,
            "",
            "0",
            [" from runs r join agents a on a.id = r.agent_id where r.id " $from " (select $1::bigint) and " $filter
                " order by " $first "r.id " $order " limit 41"],
            $id
            $(, $arg)*
        )
    };
}

/// The same, either way.
macro_rules! either {
    ($warm:expr, $filter:literal, [$down:literal, $up:literal], $between:expr $(, $arg:expr)*) => {
        if $between.2 {
            page!($warm, $filter, $up, "asc", ">", $between.0 $(, $arg)*)
        } else {
            page!($warm, $filter, $down, "desc", "<", $between.1 $(, $arg)*)
        }
    };
    ($warm:expr, $filter:literal, $between:expr $(, $arg:expr)*) => {
        either!($warm, $filter, ["", ""], $between $(, $arg)*)
    };
}

/// A page of a list, and how far was looked where it wasn't to the end.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its runs.
    pub page: Page<RunLine>,
    /// The last run that was looked at, when there may be more behind it: then the page isn't full, and goes on from there.
    pub looked_to: Option<RunId>,
}

/// The first page: what needs a human, what lives, and the newest of the rest.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Front {
    /// Unconfirmed, stuck, lost, and what went wrong within the hour; one more than [`SECTION`] when there are more.
    pub needs: Vec<RunLine>,
    /// Running, starting, queued; likewise.
    pub living: Vec<RunLine>,
    /// The newest that are over.
    pub rest: Vec<RunLine>,
    /// The cursor of older ones that are over, when there are any.
    pub older: Option<i64>,
}

/// What lies between two runs, and whether the oldest comes first.
pub(super) fn between(cursor: Cursor) -> (i64, i64, bool) {
    match cursor {
        Cursor::Start => (0, i64::MAX, false),
        Cursor::Before(id) => (0, id, false),
        Cursor::After(id) => (id, i64::MAX, true),
    }
}

/// What a filter goes by, when it is one thing that has an index of its own.
enum Only<'a> {
    Kind(RunFilter),
    Agent(&'a str),
    Worker(&'a str),
    Who(&'a str),
    Tier(u8),
    Time(OffsetDateTime, OffsetDateTime),
}

impl<'a> Only<'a> {
    fn of(filter: &'a Filter, now: OffsetDateTime) -> Option<Self> {
        let Filter { matching, since, until, cents, search } = filter;
        let Matching { kind, agent, worker, who } = matching;
        let timed = since.is_some() || until.is_some();
        let parts = [
            *kind != RunFilter::All,
            agent.is_some(),
            worker.is_some(),
            who.is_some(),
            timed,
            cents.is_some(),
            search.is_some(),
        ];
        if parts.iter().filter(|part| **part).count() > 1 || search.is_some() {
            return None;
        }
        // Postgres's own infinities are no times of ours; these are far enough.
        let (ever, never) = (OffsetDateTime::UNIX_EPOCH, time::macros::datetime!(9000-01-01 0:00 UTC));
        match (agent, worker, who, cents) {
            (Some(agent), ..) => Some(Self::Agent(agent)),
            (_, Some(worker), ..) => Some(Self::Worker(worker)),
            (_, _, Some(who), _) => Some(Self::Who(who)),
            (.., Some(cents)) => {
                [100, 1000, 10_000].iter().position(|tier| tier == cents).map(|n| Self::Tier(n as u8))
            }
            _ if timed => Some(Self::Time(filter.begins(now).unwrap_or(ever), until.unwrap_or(never))),
            _ if matches!(kind, RunFilter::Stuck | RunFilter::Needs) => None,
            _ => Some(Self::Kind(*kind)),
        }
    }
}

impl Db {
    /// A page of runs, newest first, by one statement whose cost doesn't grow with the table where the filter is one thing;
    /// else by looking at no more than so many runs.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn runs_page(
        &self,
        by: &Superuser,
        filter: &Filter,
        cursor: Cursor,
        now: OffsetDateTime,
    ) -> Result<Listed> {
        let Some(only) = Only::of(filter, now) else {
            return self.look_through(by, filter, cursor, now).await;
        };
        let (warm, there) = (&self.warm, between(cursor));
        let rows = match only {
            Only::Kind(RunFilter::State(s)) => either!(warm, "r.state = any(array[(select $2::text)])", ["r.state, ", "r.state desc, "], there, s.word()),
            Only::Kind(RunFilter::Outcome(o)) => {
                either!(warm, "r.outcome = any(array[(select $2::text)])", ["r.outcome, ", "r.outcome desc, "], there, o.word())
            }
            Only::Kind(RunFilter::Unconfirmed) => {
                either!(warm, "r.wish = 'stop' and r.state <> 'ended'", there)
            }
            Only::Kind(RunFilter::Living) => {
                either!(warm, "r.state in ('queued', 'starting', 'running')", there)
            }
            Only::Kind(_) => either!(warm, "true", there),
            Only::Agent(name) => {
                either!(
                    warm,
                    "r.agent_id = any(array[(select id from agents where name = $2)])",
                    ["r.agent_id, ", "r.agent_id desc, "],
                    there,
                    name
                )
            }
            Only::Worker(name) => {
                either!(warm, "r.worker = any(array[(select $2::text)])", ["r.worker, ", "r.worker desc, "], there, name)
            }
            Only::Who(name) => either!(
                warm,
                "r.asked_by_name = any(array[(select $2::text)])",
                ["r.asked_by_name, ", "r.asked_by_name desc, "],
                there,
                name
            ),
            Only::Tier(0) => either!(warm, "r.cost_tier >= 1", there),
            Only::Tier(1) => either!(warm, "r.cost_tier >= 2", there),
            Only::Tier(_) => either!(warm, "r.cost_tier >= 3", there),
            // Runs are asked for in the order of their numbers, but for those under way at one moment; an hour is more than
            // that, and than what a clock is set by. What lies outside isn't walked through.
            Only::Time(from, until) => either!(
                warm,
                "r.id > coalesce((select t.id from runs t where t.asked_at < (select $2::timestamptz) - interval '1 hour'
                                  order by t.asked_at desc limit 1), 0)
                 and r.id < coalesce((select t.id from runs t where t.asked_at > (select $3::timestamptz) + interval '1 hour'
                                      order by t.asked_at limit 1), 9223372036854775807)
                 and (r.asked_at >= (select $2::timestamptz) and r.asked_at < (select $3::timestamptz)) is true",
                there,
                from,
                until
            ),
        };
        let lines = rows.into_iter().map(RunLine::try_from).collect::<Result<Vec<_>>>()?;
        let page = Page::of_size(LINES, lines, cursor, |line: &RunLine| line.id.0);
        Ok(Listed { page, looked_to: None })
    }

    /// The first page, by one statement. `stuck` are those known to be.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn runs_front(&self, _by: &Superuser, stuck: &[RunId]) -> Result<Front> {
        let stuck: Vec<i64> = stuck.iter().map(|run| run.0).collect();
        let mut rows = lines!(
            &self.warm,
            "with needs as materialized (
                 select id, min(place) as place from (
                     (select id, 0 as place from runs where wish = 'stop' and state <> 'ended' order by id desc limit 21)
                     union all
                     (select id, 1 from runs where id = any($1) and state in ('starting', 'running') and wish = 'run')
                     union all
                     (select id, 2 from runs where state = 'lost' order by id desc limit 21)
                     union all
                     (select id, 3 from runs where outcome in ('failed', 'over_budget')
                                               and ended_at > now() - interval '1 hour' order by ended_at desc limit 21)
                 ) n group by id order by place, id desc limit 21),
             living as materialized (
                 select l.id, s.place from (values ('running', 10), ('starting', 11), ('queued', 12)) s (state, place),
                     lateral (select id from runs where state = any(array[s.state]) order by state, id desc limit 42) l
                 where l.id not in (select id from needs) order by s.place, l.id desc limit 21),
             rest as materialized (
                 select id, 20 as place from (
                     select id from runs
                     where state = any(array['ended']) and id not in (select id from needs)
                     order by state, id desc limit 41) r
                 limit greatest(10, 40 - (select count(*) from needs) - (select count(*) from living)) + 1) ",
            "p.place",
            [" from (table needs union all table living union all table rest) p
                   join runs r on r.id = p.id join agents a on a.id = r.agent_id"],
            &stuck
        );
        rows.sort_by_key(|row| (row.section, Reverse(row.id)));
        let mut front = Front::default();
        for row in rows {
            let section = match row.section {
                ..10 => &mut front.needs,
                10..20 => &mut front.living,
                _ => &mut front.rest,
            };
            section.push(row.try_into()?);
        }
        let shown = front.needs.len() + front.living.len();
        let room = REST.max(LINES.saturating_sub(shown));
        if front.rest.len() > room {
            front.rest.truncate(room);
            front.older = front.rest.last().map(|line| line.id.0);
        }
        Ok(front)
    }

    /// These runs, those that are there.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn runs_of(&self, _by: &Superuser, runs: &[RunId]) -> Result<Vec<RunLine>> {
        let ids: Vec<i64> = runs.iter().map(|run| run.0).collect();
        let found = lines!(
            &self.warm,
            "",
            "0",
            [" from runs r join agents a on a.id = r.agent_id where r.id = any($1) order by r.id"],
            &ids
        );
        found.into_iter().map(RunLine::try_from).collect()
    }

    /// The newest runs that workers hold or held when they fell silent, at most 51.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn runs_held(&self, _by: &Superuser) -> Result<Vec<RunLine>> {
        let rows = lines!(
            &self.warm,
            "",
            "0",
            [" from runs r join agents a on a.id = r.agent_id where r.state in ('starting', 'running', 'lost')
              order by r.id desc limit 51"]
        );
        rows.into_iter().map(RunLine::try_from).collect()
    }
}
