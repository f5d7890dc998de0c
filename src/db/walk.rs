//! Lists of runs by more than one thing: one statement walks along the index that leaves the fewest, newest first, and asks the rest
//! of what lies there, until the page is full or so many runs lie behind.

use time::OffsetDateTime;

use super::lines::{LINES, LineRow, lines};
use super::look::Way;
use super::{Db, Result, within};
use crate::model::filter::Filter;
use crate::model::run::{Outcome, RunFilter, RunLine, State};

/// How many runs are walked along for one page, at most; that stands in the statements too.
const WALKED: i64 = 6000;

/// What a walk asks of each run on its way; what is none isn't asked.
struct Asked<'a> {
    state: Option<&'static str>,
    outcome: Option<&'static str>,
    agent: Option<&'a str>,
    worker: Option<&'a str>,
    who: Option<&'a str>,
    from: Option<OffsetDateTime>,
    until: Option<OffsetDateTime>,
    usd: Option<f64>,
}

impl<'a> Asked<'a> {
    fn of(filter: &'a Filter, now: OffsetDateTime) -> Self {
        let matching = &filter.matching;
        let (state, outcome) = match matching.kind {
            RunFilter::State(state) => (Some(state.word()), None),
            RunFilter::Outcome(outcome) => (None, Some(outcome.word())),
            _ => (None, None),
        };
        Self {
            state,
            outcome,
            agent: matching.agent.as_deref(),
            worker: matching.worker.as_deref(),
            who: matching.who.as_deref(),
            from: filter.begins(now),
            until: filter.until,
            usd: filter.cents.map(|cents| cents as f64 / 100.0),
        }
    }
}

/// A walk along one index, either way, until a page is full, the way is at its end or so many runs lie behind; `$down` and `$up` are
/// what the index begins with, and what is asked for is written as it is for `page!` in [`super::lines`].
///
/// A line's section is its place on the way; below nought when it isn't one of those that are looked for, but the last that was
/// walked along; nought when it lies behind the end.
macro_rules! walk {
    ($warm:expr, $along:literal, [$down:literal, $up:literal], $way:expr, $asked:expr $(, $arg:expr)*) => {
        if $way.up {
            walk!(@ $warm, $along, $up, "asc", ">", ">=", $way.above, $way.below, $asked $(, $arg)*)
        } else {
            walk!(@ $warm, $along, $down, "desc", "<", "<=", $way.below, $way.above, $asked $(, $arg)*)
        }
    };
    ($warm:expr, $along:literal, $way:expr, $asked:expr $(, $arg:expr)*) => {
        walk!($warm, $along, ["", ""], $way, $asked $(, $arg)*)
    };
    (@ $warm:expr, $along:literal, $first:literal, $order:literal, $from:literal, $end:literal, $start:expr, $last:expr,
     $asked:expr $(, $arg:expr)*) => {
        lines!(
            $warm,
            "",
            "(case when r.is_behind then 0 when r.fits then r.nth else -r.nth end)::int",
            [" from (select * from (
                  select w.*, row_number() over () as nth, id " $end " $2 as is_behind,
                         (($3::text is null or state = $3) and ($4::text is null or outcome = $4)
                          and ($5::text is null or agent_id = (select id from agents where name = $5))
                          and ($6::text is null or worker = $6) and ($7::text is null or asked_by_name = $7)
                          and ($8::timestamptz is null or asked_at >= $8) and ($9::timestamptz is null or asked_at < $9)
                          and ($10::float8 is null or greatest(cost_usd, metered_usd) >= $10)) is true as fits
                  from (select * from runs where id " $from " (select $1::bigint) and " $along "
                        order by " $first "id " $order " limit 6000) w) walked
                  where fits or is_behind or nth = 6000 limit 41) r
              join agents a on a.id = r.agent_id order by r.nth"],
            $start,
            $last,
            $asked.state,
            $asked.outcome,
            $asked.agent,
            $asked.worker,
            $asked.who,
            $asked.from,
            $asked.until,
            $asked.usd
            $(, $arg)*
        )
    };
}

impl Db {
    /// One run more than a page holds, if there are so many, and how far was walked where that isn't to the end.
    pub(super) async fn walk(
        &self,
        filter: &Filter,
        way: Way,
        now: OffsetDateTime,
        stuck: &[i64],
    ) -> Result<(Vec<RunLine>, Option<i64>)> {
        let (mut found, mut looked_to) = (Vec::new(), None);
        for row in self.walked(filter, way, &Asked::of(filter, now), stuck).await? {
            let place = i64::from(row.section);
            if place == 0 {
                break;
            }
            looked_to = (place.abs() == WALKED).then_some(row.id);
            if place > 0 {
                found.push(RunLine::try_from(row)?);
            }
        }
        let is_full = found.len() > LINES;
        Ok((found, looked_to.filter(|_| !is_full)))
    }

    async fn walked(
        &self,
        filter: &Filter,
        way: Way,
        asked: &Asked<'_>,
        stuck: &[i64],
    ) -> Result<Vec<LineRow>> {
        let warm = &self.warm;
        let matching = &filter.matching;
        let tier =
            filter.cents.map_or(0, |cents| [100, 1000, 10_000].iter().filter(|tier| cents >= **tier).count());
        Ok(match (matching.kind, &matching.worker, &matching.agent, &matching.who) {
            (RunFilter::Stuck, ..) => {
                walk!(warm, "id = any($11::bigint[])", way, asked, stuck)
            }
            (RunFilter::Needs, ..) => walk!(
                warm,
                "id = any(array(select id from runs where wish = 'stop' and state <> 'ended')
                       || array(select id from runs where state = 'lost') || $11::bigint[]
                       || array(select id from runs where outcome in ('failed', 'over_budget')
                                                      and ended_at > now() - interval '1 hour'))",
                way,
                asked,
                stuck
            ),
            (RunFilter::Unconfirmed, ..) => walk!(warm, "wish = 'stop' and state <> 'ended'", way, asked),
            (RunFilter::Living, ..) => walk!(warm, "state in ('queued', 'starting', 'running')", way, asked),
            (RunFilter::State(state), ..) if state != State::Ended => {
                walk!(warm, "state = any(array[(select $3::text)])", ["state, ", "state desc, "], way, asked)
            }
            _ if tier == 3 => walk!(warm, "cost_tier >= 3", way, asked),
            _ if tier == 2 => walk!(warm, "cost_tier >= 2", way, asked),
            (RunFilter::Outcome(outcome), ..) if outcome != Outcome::Succeeded => {
                walk!(
                    warm,
                    "outcome = any(array[(select $4::text)])",
                    ["outcome, ", "outcome desc, "],
                    way,
                    asked
                )
            }
            (_, Some(_), ..) => {
                walk!(
                    warm,
                    "worker = any(array[(select $6::text)])",
                    ["worker, ", "worker desc, "],
                    way,
                    asked
                )
            }
            (.., Some(_)) => walk!(
                warm,
                "asked_by_name = any(array[(select $7::text)])",
                ["asked_by_name, ", "asked_by_name desc, "],
                way,
                asked
            ),
            (_, _, Some(_), _) => walk!(
                warm,
                "agent_id = any(array[(select id from agents where name = $5)])",
                ["agent_id, ", "agent_id desc, "],
                way,
                asked
            ),
            _ if tier == 1 => walk!(warm, "cost_tier >= 1", way, asked),
            // Nearly all succeed.
            _ => walk!(warm, "true", way, asked),
        })
    }
}
