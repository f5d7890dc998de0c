//! How times, spans, dollars and counts are written, once for all pages.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::model::span::between;
pub(crate) use crate::model::span::{minutes, rough, span};

/// A time, and the time at which the page that shows it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    at: OffsetDateTime,
    now: OffsetDateTime,
}

impl Moment {
    /// `at`, as seen from `now`.
    pub(crate) fn new(at: OffsetDateTime, now: OffsetDateTime) -> Self {
        Self { at, now }
    }

    /// For machines: RFC 3339.
    pub(crate) fn iso(&self) -> String {
        self.at.format(&Rfc3339).unwrap_or_default()
    }

    /// The same to the second, for lists.
    pub(crate) fn second(&self) -> Digits {
        let at = self.at.to_offset(time::UtcOffset::UTC);
        let mut digits = *b"0000-00-00T00:00:00Z";
        let mut put = |from: usize, n: u32, size: usize| {
            for (place, power) in (from..from + size).rev().zip([1, 10, 100, 1000]) {
                digits[place] = b'0' + (n / power % 10) as u8;
            }
        };
        put(0, at.year().unsigned_abs(), 4);
        put(5, u8::from(at.month()).into(), 2);
        put(8, at.day().into(), 2);
        put(11, at.hour().into(), 2);
        put(14, at.minute().into(), 2);
        put(17, at.second().into(), 2);
        Digits(digits)
    }

    /// Day and minute, in UTC.
    pub(crate) fn minute(&self) -> String {
        format!("{} {} UTC", self.day(), &self.clock()[..5])
    }

    /// Day and second, in UTC.
    pub(crate) fn exact(&self) -> String {
        format!("{} {} UTC", self.day(), self.clock())
    }

    /// The day, in UTC.
    pub(crate) fn day(&self) -> String {
        let at = self.at.to_offset(time::UtcOffset::UTC);
        format!("{:04}-{:02}-{:02}", at.year(), u8::from(at.month()), at.day())
    }

    /// The time of day to the second, in UTC.
    pub(crate) fn clock(&self) -> String {
        let at = self.at.to_offset(time::UtcOffset::UTC);
        format!("{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second())
    }

    /// The time of day to the millisecond, in UTC.
    pub(crate) fn clock_ms(&self) -> String {
        format!("{}.{:03}", self.clock(), self.at.millisecond())
    }

    /// The time of day, with its day in front when that is another one; in UTC.
    pub(crate) fn lately(&self) -> String {
        let today = Self::new(self.now, self.now).day();
        if self.day() == today { format!("{} UTC", self.clock()) } else { self.exact() }
    }

    /// How long ago it was; zero when clocks differ.
    pub(crate) fn age(&self) -> Duration {
        between(self.at, self.now)
    }

    /// How long ago it was, in words.
    pub(crate) fn ago(&self) -> String {
        ago(self.age())
    }
}

/// A sentence, with the time that it names, if it names one, apart: pages write that in their reader's zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) before: String,
    pub(crate) time: Option<(Moment, String)>,
    pub(crate) after: String,
}

impl Words {
    /// Around the time of day of `at`, to the millisecond.
    pub(crate) fn around(before: impl Into<String>, at: Moment, after: impl Into<String>) -> Self {
        Self { before: before.into(), time: Some((at, at.clock_ms())), after: after.into() }
    }

    /// Around the time of `at`, with its day where that isn't today.
    pub(crate) fn around_lately(before: impl Into<String>, at: Moment, after: impl Into<String>) -> Self {
        Self { before: before.into(), time: Some((at, at.lately())), after: after.into() }
    }

    /// Whether it says nothing.
    pub(crate) fn is_blank(&self) -> bool {
        self.time.is_none() && self.before.trim().is_empty() && self.after.trim().is_empty()
    }

    /// With another one behind it.
    pub(crate) fn and(self, more: &str) -> Self {
        Self { after: format!("{} {more}", self.after), ..self }
    }
}

impl std::fmt::Display for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time = self.time.as_ref().map_or("", |(_, text)| text);
        write!(f, "{}{time}{}", self.before, self.after)
    }
}

impl<T: Into<String>> From<T> for Words {
    fn from(text: T) -> Self {
        Self { before: text.into(), time: None, after: String::new() }
    }
}

/// A time to the second, as RFC 3339 writes it.
pub(crate) struct Digits([u8; 20]);

impl std::fmt::Display for Digits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

/// A span that ends now, in words.
pub(crate) fn ago(age: Duration) -> String {
    match age.as_secs() {
        0 => "just now".to_owned(),
        _ => format!("{} ago", rough(age)),
    }
}

/// Dollars: to the cent, and finer where a cent says nothing.
pub(crate) fn dollars(usd: f64) -> String {
    if usd < 0.1 { format!("${usd:.4}") } else { format!("${usd:.2}") }
}

/// A count, with its thousands apart.
pub(crate) fn count(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut out = String::from(if n < 0 { "−" } else { "" });
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of bytes.
pub(crate) fn size(bytes: i64) -> String {
    match bytes {
        ..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

/// Thousandths of something, as a decimal number.
pub(crate) fn thousandths(n: i64) -> String {
    format!("{}", n as f64 / 1000.0)
}

/// A small count as a word, as sentences begin with it.
pub(crate) fn word(n: usize) -> String {
    const WORDS: [&str; 13] = [
        "No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven",
        "Twelve",
    ];
    WORDS.get(n).map_or_else(|| n.to_string(), |word| (*word).to_owned())
}

/// The first twelve characters of a container's id, as the engine's own tools show it.
pub(crate) fn short(container: &str) -> String {
    container.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_and_counts_read_well() {
        assert_eq!(
            (dollars(0.0012), dollars(0.0), dollars(4.184)),
            ("$0.0012".into(), "$0.0000".into(), "$4.18".into())
        );
        assert_eq!((count(0), count(999), count(1_204_000)), ("0".into(), "999".into(), "1,204,000".into()));
    }

    #[test]
    fn a_second_is_written_like_any_other_time() {
        let at = time::macros::datetime!(2026-11-08 4:05:09.7 UTC);
        assert_eq!(Moment::new(at, at).second().to_string(), "2026-11-08T04:05:09Z");
    }

    #[test]
    fn a_clock_ahead_of_ours_is_no_age() {
        let now = OffsetDateTime::UNIX_EPOCH;
        assert_eq!(Moment::new(now + Duration::from_secs(5), now).ago(), "just now");
    }
}
