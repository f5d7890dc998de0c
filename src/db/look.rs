//! Lists of runs that no single index gives: by more than one thing, or by words. One index is walked along, newest first, and the
//! rest is asked of what lies there; after so many runs the page says how far it has looked, and goes on from there.

use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::lines::{LINES, LineRow, Listed, between, lines};
use super::{Db, Result, Superuser, within};
use crate::model::filter::Filter;
use crate::model::page::{Cursor, Page};
use crate::model::run::{Outcome, RunFilter, RunId, RunLine, State};

/// How many runs are looked at for one page, at most, and how many at a time; that stands in the statements too.
const LOOKED_AT: usize = 12_000;
const AT_A_TIME: usize = 1000;
/// How long a search goes on for one page.
const SEARCHED_FOR: Duration = Duration::from_millis(25);
/// How many stretches of words are searched at a time; migration 0019 says how long one is.
const STRETCHES: [i64; 4] = [1, 3, 12, 24];
const STRETCH_BITS: i64 = 14;

/// What lies on the way that is walked along: the next runs of it, and where it goes on; nowhere at its end.
struct Ahead {
    ids: Vec<i64>,
    on: Option<i64>,
}

impl Ahead {
    /// All of a way, or the next runs of it.
    fn of(ids: Vec<i64>) -> Self {
        let on = ids.last().copied().filter(|_| ids.len() >= AT_A_TIME);
        Self { ids, on }
    }
}

/// Where one is: between these two runs, and going up or down.
#[derive(Clone, Copy)]
struct Way {
    above: i64,
    below: i64,
    up: bool,
}

impl Way {
    fn on_from(self, id: i64) -> Self {
        if self.up { Self { above: id, ..self } } else { Self { below: id, ..self } }
    }
}

/// Numbers of runs along one index, either way; `$down` and `$up` are what it begins with, see `page!` in [`super::lines`].
macro_rules! along {
    ($pool:expr, $filter:literal, [$down:literal, $up:literal], $way:expr $(, $arg:expr)*) => {{
        let Way { above, below, up } = $way;
        let ids = if up {
            along!(@ $pool, $filter, $up, "asc", above, below $(, $arg)*)
        } else {
            along!(@ $pool, $filter, $down, "desc", above, below $(, $arg)*)
        };
        Ahead::of(ids)
    }};
    ($pool:expr, $filter:literal, $way:expr $(, $arg:expr)*) => {
        along!($pool, $filter, ["", ""], $way $(, $arg)*)
    };
    (@ $pool:expr, $filter:literal, $first:literal, $order:literal, $above:expr, $below:expr $(, $arg:expr)*) => {
        within(
            sqlx::query_scalar!(
                "select id from runs where id > $1 and id < $2 and " + $filter + " order by " + $first + "id " + $order + " limit 1000",
                $above,
                $below
                $(, $arg)*
            )
            .fetch_all($pool),
        )
        .await?
    };
}

impl Db {
    /// A page of runs by whatever filter.
    pub(super) async fn look_through(
        &self,
        _by: &Superuser,
        filter: &Filter,
        cursor: Cursor,
        now: OffsetDateTime,
    ) -> Result<Listed> {
        let began = Instant::now();
        let mut way = self.bounds(filter, cursor, now).await?;
        let stuck = match filter.matching.kind {
            RunFilter::Stuck | RunFilter::Needs => self.some_stuck_runs().await?,
            _ => Vec::new(),
        };
        let mut found: Vec<RunLine> = Vec::new();
        let mut looked_at = 0;
        let mut looked_to = None;
        for round in 0_usize.. {
            let ahead = self.ahead(filter, way, round, &stuck).await?;
            looked_at += ahead.ids.len();
            if !ahead.ids.is_empty() {
                found.extend(self.rest_of(filter, &ahead.ids, way.up, now, &stuck).await?);
            }
            let Some(on) = ahead.on else { break };
            if found.len() > LINES {
                break;
            }
            if looked_at >= LOOKED_AT || (filter.search.is_some() && began.elapsed() > SEARCHED_FOR) {
                looked_to = Some(on);
                break;
            }
            way = way.on_from(on);
        }
        let mut page = Page::of_size(LINES, found, cursor, |line: &RunLine| line.id.0);
        match (looked_to, cursor) {
            (Some(on), Cursor::After(_)) => page.newer = Some(on),
            (Some(on), _) => page.older = Some(on),
            (None, _) => {}
        }
        // Of an empty page too one gets back to where one came from.
        match cursor {
            Cursor::Before(id) => page.newer = page.newer.or(Some(id - 1)),
            Cursor::After(id) => page.older = page.older.or(Some(id + 1)),
            Cursor::Start => {}
        }
        Ok(Listed { page, looked_to: looked_to.map(RunId) })
    }

    /// Between which runs those lie that the cursor and the time leave; see [`Db::runs_page`] for the hour.
    async fn bounds(&self, filter: &Filter, cursor: Cursor, now: OffsetDateTime) -> Result<Way> {
        let (above, below, up) = between(cursor);
        let row = within(
            sqlx::query!(
                r#"select greatest($1::bigint, (select id from runs where asked_at < $3::timestamptz - interval '1 hour'
                                                order by asked_at desc limit 1)) as "above!",
                          least($2::bigint, (select id from runs where asked_at > $4::timestamptz + interval '1 hour'
                                             order by asked_at limit 1),
                                coalesce((select max(id) + 1 from runs), 1)) as "below!""#,
                above,
                below,
                filter.begins(now),
                filter.until
            )
            .fetch_one(&self.pool),
        )
        .await?;
        Ok(Way { above: row.above, below: row.below, up })
    }

    /// The next runs along the index that leaves the fewest.
    async fn ahead(&self, filter: &Filter, way: Way, round: usize, stuck: &[i64]) -> Result<Ahead> {
        let pool = &self.pool;
        if let Some(search) = &filter.search {
            return self.ahead_in_words(search.terms(), way, round).await;
        }
        let matching = &filter.matching;
        let tier =
            filter.cents.map_or(0, |cents| [100, 1000, 10_000].iter().filter(|tier| cents >= **tier).count());
        Ok(match (matching.kind, &matching.worker, &matching.agent, &matching.who) {
            (RunFilter::Stuck, ..) => {
                let mut ids: Vec<i64> =
                    stuck.iter().copied().filter(|id| *id > way.above && *id < way.below).collect();
                ids.sort_unstable();
                if !way.up {
                    ids.reverse();
                }
                Ahead { ids, on: None }
            }
            (RunFilter::Needs, ..) => along!(
                pool,
                "id = any(array(select id from runs where wish = 'stop' and state <> 'ended')
                       || array(select id from runs where state = 'lost') || $3::bigint[]
                       || array(select id from runs where outcome in ('failed', 'over_budget')
                                                      and ended_at > now() - interval '1 hour'))",
                way,
                stuck
            ),
            (RunFilter::Unconfirmed, ..) => along!(pool, "wish = 'stop' and state <> 'ended'", way),
            (RunFilter::Living, ..) => along!(pool, "state in ('queued', 'starting', 'running')", way),
            (RunFilter::State(state), ..) if state != State::Ended => {
                along!(pool, "state = any(array[$3])", ["state, ", "state desc, "], way, state.word())
            }
            _ if tier == 3 => along!(pool, "cost_tier >= 3", way),
            _ if tier == 2 => along!(pool, "cost_tier >= 2", way),
            (RunFilter::Outcome(outcome), ..) if outcome != Outcome::Succeeded => {
                along!(pool, "outcome = any(array[$3])", ["outcome, ", "outcome desc, "], way, outcome.word())
            }
            (_, Some(worker), ..) => {
                along!(pool, "worker = any(array[$3])", ["worker, ", "worker desc, "], way, worker)
            }
            (_, _, _, Some(who)) => along!(
                pool,
                "asked_by_name = any(array[$3])",
                ["asked_by_name, ", "asked_by_name desc, "],
                way,
                who
            ),
            (_, _, Some(agent), _) => along!(
                pool,
                "agent_id = any(array[(select id from agents where name = $3)])",
                ["agent_id, ", "agent_id desc, "],
                way,
                agent
            ),
            _ if tier == 1 => along!(pool, "cost_tier >= 1", way),
            // Nearly all succeed.
            _ => along!(pool, "true", way),
        })
    }

    /// The next runs that hold what is searched for, a few stretches at a time. Nothing but the words' own index shall be used, so
    /// that the numbers are written as what no other index knows.
    async fn ahead_in_words(&self, terms: &str, way: Way, round: usize) -> Result<Ahead> {
        let Way { above, below, up } = way;
        let stretches = STRETCHES[round.min(STRETCHES.len() - 1)];
        let (lowest, highest) = ((above + 1) >> STRETCH_BITS, (below - 1) >> STRETCH_BITS);
        let ids = if up {
            let last = highest.min(lowest + stretches - 1);
            let ids = within(
                sqlx::query_scalar!(
                    r#"select w.run_id as "run_id!" from generate_series($3::bigint, $4::bigint) s,
                         lateral (select run_id from run_words
                                  where words @@ (('''#' || s || '''')::tsquery && websearch_to_tsquery('simple', $5))
                                    and (run_id > $1 and run_id < $2) is true order by run_id + 0 offset 0) w limit 1000"#,
                    above,
                    below,
                    lowest,
                    last,
                    terms
                )
                .fetch_all(&self.pool),
            );
            let more = (last < highest).then(|| ((last + 1) << STRETCH_BITS) - 1);
            (ids.await?, more)
        } else {
            let last = lowest.max(highest - stretches + 1);
            let ids = within(
                sqlx::query_scalar!(
                    r#"select w.run_id as "run_id!" from generate_series($3::bigint, $4::bigint, -1) s,
                         lateral (select run_id from run_words
                                  where words @@ (('''#' || s || '''')::tsquery && websearch_to_tsquery('simple', $5))
                                    and (run_id > $1 and run_id < $2) is true order by -run_id offset 0) w limit 1000"#,
                    above,
                    below,
                    highest,
                    last,
                    terms
                )
                .fetch_all(&self.pool),
            );
            let more = (last > lowest).then_some(last << STRETCH_BITS);
            (ids.await?, more)
        };
        let (ids, more) = ids;
        let on = if ids.len() >= AT_A_TIME { ids.last().copied() } else { more };
        Ok(Ahead { ids, on })
    }

    /// Of these, those that the whole filter lets in, in the order of the way.
    async fn rest_of(
        &self,
        filter: &Filter,
        ids: &[i64],
        up: bool,
        now: OffsetDateTime,
        stuck: &[i64],
    ) -> Result<Vec<RunLine>> {
        let matching = &filter.matching;
        let (state, outcome) = match matching.kind {
            RunFilter::State(state) => (Some(state.word()), None),
            RunFilter::Outcome(outcome) => (None, Some(outcome.word())),
            _ => (None, None),
        };
        // None means that it isn't asked.
        let among = (matching.kind == RunFilter::Stuck).then_some(stuck);
        let rows = lines!(
            &self.pool,
            "",
            "0",
            [" from runs r join agents a on a.id = r.agent_id
              where r.id = any($1) and ($2::text is null or r.state = $2) and ($3::text is null or r.outcome = $3)
                and ($4::text is null or a.name = $4) and ($5::text is null or r.worker = $5)
                and ($6::text is null or r.asked_by_name = $6) and ($7::timestamptz is null or r.asked_at >= $7)
                and ($8::timestamptz is null or r.asked_at < $8)
                and ($9::float8 is null or coalesce(r.cost_usd, r.metered_usd) >= $9)
                and case $10 when 'unconfirmed' then r.wish = 'stop' and r.state <> 'ended'
                             when 'living' then r.state in ('queued', 'starting', 'running')
                             when 'needs' then r.wish = 'stop' and r.state <> 'ended' or r.state = 'lost'
                                  or r.id = any($13) or (r.outcome in ('failed', 'over_budget')
                                                         and r.ended_at > now() - interval '1 hour')
                             else true end
                and ($11::bigint[] is null or r.id = any($11))
              order by case when $12 then r.id else -r.id end limit 41"],
            ids,
            state,
            outcome,
            matching.agent.as_deref(),
            matching.worker.as_deref(),
            matching.who.as_deref(),
            filter.begins(now),
            filter.until,
            filter.cents.map(|cents| cents as f64 / 100.0),
            matching.kind.word().unwrap_or("all"),
            among,
            up,
            stuck
        );
        rows.into_iter().map(RunLine::try_from).collect()
    }
}
