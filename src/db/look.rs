//! Lists of runs that no single index gives: by more than one thing ([`super::walk`]), or by words, of which one stretch after the
//! other is searched, the newest first. After so many runs the page says how far it has looked, and goes on from there.

use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::lines::{LINES, LineRow, Listed, between, lines};
use super::{Db, Result, Superuser, within};
use crate::model::filter::Filter;
use crate::model::page::{Cursor, Page};
use crate::model::run::{RunFilter, RunId, RunLine};
use crate::model::search::Search;

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

/// Where one is: between these two runs, and going up or down.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) above: i64,
    pub(super) below: i64,
    pub(super) up: bool,
}

impl Way {
    fn on_from(self, id: i64) -> Self {
        if self.up { Self { above: id, ..self } } else { Self { below: id, ..self } }
    }
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
        let timed = filter.since.is_some() || filter.until.is_some();
        let (above, below, up) = between(cursor);
        let way = if timed || filter.search.is_some() {
            self.bounds(filter, cursor, now).await?
        } else {
            Way { above, below, up }
        };
        let stuck = match filter.matching.kind {
            RunFilter::Stuck | RunFilter::Needs => self.some_stuck_runs().await?,
            _ => Vec::new(),
        };
        let (found, looked_to) = match &filter.search {
            Some(search) => self.search(filter, search, way, now, &stuck).await?,
            None => self.walk(filter, way, now, &stuck).await?,
        };
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

    /// One run more than a page holds, if there are so many, and how far was looked where that isn't to the end.
    async fn search(
        &self,
        filter: &Filter,
        search: &Search,
        mut way: Way,
        now: OffsetDateTime,
        stuck: &[i64],
    ) -> Result<(Vec<RunLine>, Option<i64>)> {
        let began = Instant::now();
        let mut found: Vec<RunLine> = Vec::new();
        let mut looked_at = 0;
        for round in 0_usize.. {
            let ahead = self.ahead_in_words(search.terms(), way, round).await?;
            looked_at += ahead.ids.len();
            if !ahead.ids.is_empty() {
                found.extend(self.rest_of(filter, &ahead.ids, way.up, now, stuck).await?);
            }
            let Some(on) = ahead.on else { break };
            if found.len() > LINES {
                break;
            }
            if looked_at >= LOOKED_AT || began.elapsed() > SEARCHED_FOR {
                return Ok((found, Some(on)));
            }
            way = way.on_from(on);
        }
        Ok((found, None))
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
            &self.warm,
            "",
            "0",
            [" from runs r join agents a on a.id = r.agent_id
              where r.id = any($1) and ($2::text is null or r.state = $2) and ($3::text is null or r.outcome = $3)
                and ($4::text is null or a.name = $4) and ($5::text is null or r.worker = $5)
                and ($6::text is null or r.asked_by_name = $6) and ($7::timestamptz is null or r.asked_at >= $7)
                and ($8::timestamptz is null or r.asked_at < $8)
                and ($9::float8 is null or greatest(r.cost_usd, r.metered_usd) >= $9)
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
