//! What was measured over the last hour and day, by part. The hour is read each time; of the day only what may have changed,
//! since ten minutes that are over stay as they were.

use std::collections::BTreeMap;
use std::time::Duration;

use time::OffsetDateTime;

use super::plot::{Measure, Plot, Span};
use crate::db::{self, Db, Sample, Superuser};

/// How far back the day is read again: a worker's sample may come late.
const AGAIN: Duration = Duration::from_secs(20 * 60);
/// How long a sample says how something is.
const LATELY: Duration = Duration::from_secs(180);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

type ByPart = BTreeMap<String, Vec<Sample>>;

/// The day, as far as it was read.
#[derive(Default)]
pub(super) struct Day {
    parts: ByPart,
    upto: Option<OffsetDateTime>,
}

impl Day {
    /// Reads what may have changed since the last time.
    async fn read(&mut self, db: &Db, by: &Superuser, now: OffsetDateTime) -> db::Result<()> {
        let since = self.upto.map_or(OffsetDateTime::UNIX_EPOCH, |upto| in_tens(upto - AGAIN));
        let fresh = db.samples_of_day(by, since).await?;
        for samples in self.parts.values_mut() {
            samples.retain(|sample| sample.at < since && sample.at > now - DAY);
        }
        self.parts.retain(|_, samples| !samples.is_empty());
        fresh.into_iter().for_each(|sample| self.parts.entry(sample.part.clone()).or_default().push(sample));
        self.upto = Some(now);
        Ok(())
    }
}

/// The beginning of the ten minutes that hold this moment.
fn in_tens(at: OffsetDateTime) -> OffsetDateTime {
    at - Duration::from_secs(at.unix_timestamp().rem_euclid(600).unsigned_abs())
        - Duration::from_nanos(at.nanosecond().into())
}

/// Both, as of now.
pub(super) struct History<'a> {
    hour: ByPart,
    day: &'a Day,
    now: OffsetDateTime,
}

impl<'a> History<'a> {
    pub(super) async fn read(
        db: &Db,
        by: &Superuser,
        day: &'a mut Day,
        now: OffsetDateTime,
    ) -> db::Result<Self> {
        let (hour, read) = tokio::join!(db.samples_of_hour(by), day.read(db, by, now));
        read?;
        let mut parts = ByPart::new();
        hour?.into_iter().for_each(|sample| parts.entry(sample.part.clone()).or_default().push(sample));
        Ok(Self { hour: parts, day, now })
    }

    /// Both plots of one measure.
    pub(super) fn plots(&self, part: &str, name: &str, measure: Measure) -> Vec<Plot> {
        let plot = |span, parts: &ByPart| {
            let samples: Vec<&Sample> = parts.get(part).into_iter().flatten().collect();
            Plot::new(name, measure, span, &samples, self.now)
        };
        vec![plot(Span::Hour, &self.hour), plot(Span::Day, &self.day.parts)]
    }

    /// The last size that is known of a part, and when that was, if it was lately.
    pub(super) fn size(&self, part: &str) -> Option<(i64, OffsetDateTime)> {
        let latest = self.hour.get(part)?.iter().rev().find_map(|sample| Some((sample.bytes?, sample.at)))?;
        (latest.1 > self.now - LATELY).then_some(latest)
    }
}
