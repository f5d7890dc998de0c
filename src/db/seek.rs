//! Looking for something in a transcript, a bounded part of it at a time.

use super::events::EventRow;
use super::{Db, Result, Superuser, within};
use crate::model::event::{Event, Kind};
use crate::model::run::RunId;
use crate::model::seek::Sought;

/// How many events one statement looks at, and how many bytes of them before its last one.
const AT_ONCE: i64 = 10_000;
const AT_ONCE_BYTES: i64 = 8 * 1024 * 1024;

/// How many that may fit it gives.
const CANDIDATES: i64 = 50;

/// Which way one looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To older events than this one.
    Back(i64),
    /// To newer events than this one.
    On(i64),
}

/// What one has seen.
#[derive(Debug)]
pub struct Looked {
    /// The last event that was looked at; none when there are no more that way.
    pub upto: Option<i64>,
    /// Those that may fit, in the order in which they were met.
    pub candidates: Vec<Event>,
}

struct LookedRow {
    upto: Option<i64>,
    seq: Option<i64>,
    at: Option<time::OffsetDateTime>,
    source: Option<String>,
    kind: Option<String>,
    cut: Option<i64>,
    payload: Option<String>,
}

impl LookedRow {
    fn event(self) -> Option<Result<Event>> {
        let row = EventRow {
            seq: self.seq?,
            at: self.at?,
            source: self.source?,
            kind: self.kind?,
            cut: self.cut?,
            payload: self.payload?,
        };
        Some(row.try_into())
    }
}

/// Looks along the primary key. Letters are made small as bytes, which is quick: only ASCII has small ones then.
macro_rules! look {
    ($pool:expr, $from:literal, $order:literal, $last:literal, $run:expr, $edge:expr, $at_once:expr, $kinds:expr, $patterns:expr) => {
        within(
            sqlx::query_as!(
                LookedRow,
                r#"with near as materialized (
                       select * from (
                           select seq, at, source, kind, cut, payload,
                                  sum(octet_length(payload)) over (order by seq "#
                    + $order
                    + r#") - octet_length(payload) as nearer
                           from events where run_id = $1 and "#
                    + $from
                    + r#" order by seq "#
                    + $order
                    + r#" limit $3) met where nearer < $4)
                   select (select "#
                    + $last
                    + r#"(seq) from near) as upto, hit.seq as "seq?", hit.at as "at?", hit.source as "source?",
                          hit.kind as "kind?", hit.cut as "cut?", hit.payload as "payload?"
                   from (select 1) one left join lateral (
                       select * from near
                       where ($5::text[] is null or kind = any($5))
                         and lower(payload collate "C") like any($6::text[])
                       order by seq "#
                    + $order
                    + r#" limit $7) hit on true"#,
                $run,
                $edge,
                $at_once,
                AT_ONCE_BYTES,
                $kinds,
                $patterns,
                CANDIDATES
            )
            .fetch_all($pool),
        )
        .await?
    };
}

impl Db {
    /// Looks at that many of the next events that way for what may be sought, and at no more than some thousands.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn look_for(
        &self,
        _by: &Superuser,
        run: RunId,
        sought: &Sought,
        way: Way,
        at_once: i64,
    ) -> Result<Looked> {
        let most = at_once.min(AT_ONCE);
        let words = |kinds: &[Kind]| kinds.iter().map(|kind| kind.word().to_owned()).collect::<Vec<_>>();
        let kinds: Option<Vec<String>> = sought.kinds().map(words);
        let (kinds, patterns) = (kinds.as_deref(), &sought.patterns());
        let rows = match way {
            Way::Back(edge) => {
                look!(&self.pool, "seq < $2", "desc", "min", run.0, edge, most, kinds, patterns)
            }
            Way::On(edge) => look!(&self.pool, "seq > $2", "asc", "max", run.0, edge, most, kinds, patterns),
        };
        let mut upto = rows.first().and_then(|row| row.upto);
        let candidates: Vec<Event> = rows.into_iter().filter_map(LookedRow::event).collect::<Result<_>>()?;
        // There may be more of them in what was looked at.
        if candidates.len() as i64 == CANDIDATES {
            upto = candidates.last().map(|event| event.seq);
        }
        Ok(Looked { upto, candidates })
    }

    /// One event.
    ///
    /// # Errors
    /// [`super::Error::NotFound`] when there is no such event.
    pub async fn event(&self, _by: &Superuser, run: RunId, seq: i64) -> Result<Event> {
        let row = within(
            sqlx::query_as!(
                EventRow,
                "select seq, at, source, kind, cut, payload from events where run_id = $1 and seq = $2",
                run.0,
                seq
            )
            .fetch_one(&self.pool),
        )
        .await?;
        row.try_into()
    }
}
