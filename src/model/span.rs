//! How spans of time are written.

use std::time::Duration;

use time::OffsetDateTime;

/// How long it is from one moment to another; zero when clocks differ.
pub fn between(from: OffsetDateTime, to: OffsetDateTime) -> Duration {
    Duration::try_from(to - from).unwrap_or_default()
}

/// A span in its largest unit, for lists.
pub fn rough(span: Duration) -> String {
    match span.as_secs() {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} min", s / 60),
        s @ 3600..172_800 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86_400),
    }
}

/// A span to the minute, below one to the second.
pub fn minutes(duration: Duration) -> String {
    match duration.as_secs() {
        s @ 0..60 => format!("{s} s"),
        s => span(Duration::from_secs(s - s % 60)),
    }
}

/// A span in its two largest units; below ten seconds to the tenth, below one to the millisecond.
pub fn span(span: Duration) -> String {
    let two = |large: u64, unit: &str, small: u64, sub: &str| match small {
        0 => format!("{large} {unit}"),
        small => format!("{large} {unit} {small} {sub}"),
    };
    match (span.as_secs(), span.subsec_millis()) {
        (0, ms) => format!("{ms} ms"),
        (s @ 1..10, ms) => format!("{s}.{} s", ms / 100),
        (s @ 10..60, _) => format!("{s} s"),
        (s @ 60..3600, _) => two(s / 60, "min", s % 60, "s"),
        (s @ 3600..86_400, _) => two(s / 3600, "h", s % 3600 / 60, "min"),
        (s, _) => two(s / 86_400, "days", s % 86_400 / 3600, "h").replacen("1 days", "1 day", 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_well() {
        let ms = Duration::from_millis;
        for (span_ms, fine, coarse) in [
            (31, "31 ms", "0 s"),
            (1_849, "1.8 s", "1 s"),
            (59_999, "59 s", "59 s"),
            (60_000, "1 min", "1 min"),
            (7_800_000, "2 h 10 min", "2 h"),
            (90_000_000, "1 day 1 h", "25 h"),
            (700_000_000, "8 days 2 h", "8 days"),
        ] {
            assert_eq!((span(ms(span_ms)).as_str(), rough(ms(span_ms)).as_str()), (fine, coarse));
        }
    }

    #[test]
    fn minutes_are_told_and_no_more() {
        for (s, said) in
            [(0, "0 s"), (59, "59 s"), (119, "1 min"), (4_850, "1 h 20 min"), (90_000, "1 day 1 h")]
        {
            assert_eq!(minutes(Duration::from_secs(s)), said);
        }
    }

    #[test]
    fn a_clock_ahead_of_ours_is_no_span() {
        let now = OffsetDateTime::UNIX_EPOCH;
        assert_eq!(between(now + Duration::from_secs(5), now), Duration::ZERO);
        assert_eq!(between(now, now + Duration::from_secs(5)), Duration::from_secs(5));
    }
}
