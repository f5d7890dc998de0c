//! A plot: one measure over the last hour or day, as a line for the eye and a sentence for whoever can't see it. Where
//! nothing is known there is no line.

use std::fmt::Write;
use std::time::Duration;

use time::OffsetDateTime;

use crate::db::Sample;
use crate::web::show;

/// How high a plot is, in its own units; it is as wide as it has places.
const HEIGHT: f64 = 100.0;

/// A span that is plotted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    /// The last hour, by minutes.
    Hour,
    /// The last day, by the worst of each ten minutes.
    Day,
}

impl Span {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// How many places it has, and how many seconds each of them lasts.
    fn places(self) -> (usize, i64) {
        match self {
            Self::Hour => (60, 60),
            Self::Day => (144, 600),
        }
    }
}

/// What is plotted, and how its numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    Took,
    Bytes,
    Cpu,
    Disk,
    Amount,
    Age,
    Requests,
}

impl Measure {
    fn of(self, sample: &Sample) -> Option<f64> {
        match self {
            Self::Took => sample.took_ms.map(f64::from),
            Self::Bytes => sample.bytes.map(|bytes| bytes as f64),
            Self::Cpu => sample.cpu.map(f64::from),
            Self::Disk => sample.disk.map(f64::from),
            Self::Amount => sample.amount.map(f64::from),
            Self::Age => sample.age_s.map(f64::from),
            Self::Requests => sample.requests.map(f64::from),
        }
    }

    /// A number of this kind, in words.
    pub(crate) fn say(self, value: f64) -> String {
        match self {
            Self::Took => milliseconds(value),
            Self::Bytes => show::size(value as i64),
            Self::Cpu | Self::Disk => format!("{:.0} %", value * 100.0),
            Self::Amount | Self::Requests => show::count(value.round() as i64),
            Self::Age => match value {
                ..1.0 => milliseconds(value * 1000.0),
                s => show::span(Duration::try_from_secs_f64(s).unwrap_or_default()),
            },
        }
    }

    /// What the top of a plot stands for, when this is its highest value.
    fn top(self, highest: f64) -> f64 {
        if matches!(self, Self::Cpu | Self::Disk) {
            return 1.0;
        }
        let power = 10_f64.powf(highest.max(f64::MIN_POSITIVE).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * power >= highest);
        if highest > 0.0 { step.unwrap_or(10.0) * power } else { 1.0 }
    }
}

fn milliseconds(ms: f64) -> String {
    match ms {
        ..10.0 => format!("{ms:.1} ms"),
        10.0..1000.0 => format!("{ms:.0} ms"),
        _ => show::span(Duration::try_from_secs_f64(ms / 1000.0).unwrap_or_default()),
    }
}

/// A plot as the template draws it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plot {
    pub(crate) span: Span,
    /// Its numbers, in words.
    pub(crate) title: String,
    /// The line; empty when nothing is known.
    pub(crate) line: String,
    /// How wide it is, in its own units.
    pub(crate) width: usize,
    /// The highest value, in words.
    pub(crate) highest: String,
}

impl Plot {
    /// Of one part's samples, as of now.
    pub(crate) fn new(
        name: &str,
        measure: Measure,
        span: Span,
        samples: &[&Sample],
        now: OffsetDateTime,
    ) -> Self {
        let (count, seconds) = span.places();
        let last = now.unix_timestamp().div_euclid(seconds);
        let mut places = vec![None; count];
        for sample in samples {
            let ago = last - sample.at.unix_timestamp().div_euclid(seconds);
            let place = usize::try_from(ago).ok().filter(|ago| *ago < count).map(|ago| count - 1 - ago);
            if let Some(place) = place {
                places[place] = measure.of(sample);
            }
        }
        let time_of = |place: usize| {
            let at = (last - (count - 1 - place) as i64) * seconds;
            let at = OffsetDateTime::from_unix_timestamp(at).unwrap_or(now);
            format!("{:02}:{:02} UTC", at.hour(), at.minute())
        };
        let known = || places.iter().enumerate().filter_map(|(place, value)| Some((place, (*value)?)));
        let highest = known().max_by(|a, b| a.1.total_cmp(&b.1));
        let lowest = known().min_by(|a, b| a.1.total_cmp(&b.1));
        let (Some(highest), Some(lowest), Some(first), Some(latest)) =
            (highest, lowest, known().next(), known().next_back())
        else {
            let title = format!("{name}, last {}: no data yet.", span.word());
            return Self { span, title, line: String::new(), width: count - 1, highest: String::new() };
        };
        // The last place may still be on its way.
        let gaps = places[first.0..count - 1].iter().filter(|value| value.is_none()).count();
        let mut title = format!(
            "{name}, last {}: lowest {}, highest {} at {}, last {} at {}.",
            span.word(),
            measure.say(lowest.1),
            measure.say(highest.1),
            time_of(highest.0),
            measure.say(latest.1),
            time_of(latest.0),
        );
        if gaps > 0 {
            let minutes = gaps as i64 * seconds / 60;
            // Writing to a string can't fail.
            let _ = write!(title, " Nothing is known of {minutes} min.");
        }
        Self {
            span,
            title,
            line: line(&places, measure.top(highest.1)),
            width: count - 1,
            highest: measure.say(highest.1),
        }
    }
}

/// A line through what is known, broken where nothing is.
fn line(places: &[Option<f64>], top: f64) -> String {
    let mut line = String::new();
    let mut drawing = false;
    for (place, value) in places.iter().enumerate() {
        let Some(value) = value else {
            drawing = false;
            continue;
        };
        let y = (HEIGHT - (value / top).clamp(0.0, 1.0) * HEIGHT).round();
        let alone = !drawing && places.get(place + 1).copied().flatten().is_none();
        let _ = match (drawing, alone) {
            (true, _) => write!(line, " {place} {y}"),
            (false, false) => write!(line, "M{place} {y}"),
            // A point alone is as wide as the place that it has.
            (false, true) => write!(line, "M{} {y}h1", place.saturating_sub(usize::from(place > 0))),
        };
        drawing = !alone;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_795_867_200 + 30).unwrap()
    }

    fn sample(minutes_ago: i64, took_ms: Option<f32>) -> Sample {
        let at = now() - Duration::from_secs(30) - time::Duration::minutes(minutes_ago);
        Sample {
            part: "postgres".into(),
            at,
            took_ms,
            bytes: None,
            cpu: None,
            disk: None,
            amount: None,
            age_s: None,
            requests: None,
        }
    }

    fn plot(samples: &[Sample], span: Span) -> Plot {
        let samples: Vec<&Sample> = samples.iter().collect();
        Plot::new("Answers in", Measure::Took, span, &samples, now())
    }

    #[test]
    fn a_gap_is_a_gap() {
        let samples = [
            sample(10, Some(1.0)),
            sample(9, Some(2.0)),
            sample(8, None),
            sample(5, Some(1.0)),
            sample(4, Some(1.0)),
        ];
        let plot = plot(&samples, Span::Hour);
        assert_eq!(plot.line, "M49 50 50 0M54 50 55 50");
        assert!(
            plot.title.contains("highest 2.0 ms at 11:51 UTC, last 1.0 ms at 11:56 UTC."),
            "{}",
            plot.title
        );
        // Of the three between, and of the three since.
        assert!(plot.title.ends_with("Nothing is known of 6 min."), "{}", plot.title);
    }

    #[test]
    fn nothing_known_is_no_data_and_no_zero() {
        for samples in
            [vec![], vec![sample(3, None)], vec![sample(61, Some(1.0))], vec![sample(-5, Some(1.0))]]
        {
            let plot = plot(&samples, Span::Hour);
            assert_eq!(
                (plot.line.as_str(), plot.title.as_str()),
                ("", "Answers in, last hour: no data yet.")
            );
        }
    }

    #[test]
    fn a_minute_alone_can_be_seen_and_whole_hours_have_no_gap() {
        assert_eq!(plot(&[sample(0, Some(1.0))], Span::Hour).line, "M58 0h1");
        let hour: Vec<Sample> = (1..60).rev().map(|ago| sample(ago, Some(0.5))).collect();
        let plot = plot(&hour, Span::Hour);
        assert_eq!(plot.line.matches('M').count(), 1);
        assert!(!plot.title.contains("Nothing"), "{}", plot.title);
    }

    #[test]
    fn a_day_has_a_place_for_each_ten_minutes() {
        let plot = plot(&[sample(20, Some(1.0)), sample(10, Some(1.0)), sample(0, Some(4.0))], Span::Day);
        assert_eq!((plot.line.as_str(), plot.width), ("M141 80 142 80 143 20", 143));
    }

    #[test]
    fn numbers_are_said_in_their_units() {
        assert_eq!(Measure::Took.say(0.42), "0.4 ms");
        assert_eq!(Measure::Took.say(1500.0), "1.5 s");
        assert_eq!(Measure::Age.say(0.031), "31 ms");
        assert_eq!(Measure::Cpu.say(0.123), "12 %");
        assert_eq!((Measure::Took.top(0.0), Measure::Took.top(3.1), Measure::Cpu.top(0.1)), (1.0, 5.0, 1.0));
    }
}
