//! As much of a text as a page shows: each has its share, and all together have no more than a page can hold.

use super::show;
use crate::model::text;

/// How much of a text is shown, and of what is folded, and of a plain line; which may have lines of its own, since a mark that
/// goes to the beginning of a line begins one here.
pub(crate) const SAID: Most = Most { bytes: 12_000, lines: 240 };
pub(crate) const FOLDED: Most = Most { bytes: 4_000, lines: 120 };
pub(crate) const LINE: Most = Most { bytes: 4_000, lines: 12 };

/// How much all texts of a page may have, in bytes, and how many lines of them may stand open; past that each one has only its
/// least.
const PAGE: Most = Most { bytes: 48_000, lines: 2_000 };
const LEAST: Most = Most { bytes: 200, lines: 2 };

/// The most that a text may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    pub(crate) bytes: usize,
    pub(crate) lines: usize,
}

/// What is left of a page's room.
#[derive(Debug)]
pub(crate) struct Room(Most);

impl Room {
    /// A page with nothing on it.
    pub(crate) fn new() -> Self {
        Self(PAGE)
    }

    /// How much of this many bytes finds room.
    pub(crate) fn take(&mut self, wanted: usize) -> usize {
        let taken = wanted.min(self.0.bytes.max(LEAST.bytes));
        self.0.bytes = self.0.bytes.saturating_sub(taken);
        taken
    }

    /// How many of this many lines find room.
    pub(crate) fn take_lines(&mut self, wanted: usize) -> usize {
        let taken = wanted.min(self.0.lines.max(LEAST.lines));
        self.0.lines = self.0.lines.saturating_sub(taken);
        taken
    }
}

/// As much of a text as is shown.
#[derive(Debug)]
pub(crate) struct Clip {
    pub(crate) text: String,
    /// How much is left out, in words.
    pub(crate) rest: Option<String>,
}

impl Clip {
    /// The beginning of a text that stands open.
    pub(crate) fn open(text: String, most: Most, room: &mut Room) -> Self {
        let wanted = text.bytes().filter(|byte| *byte == b'\n').take(most.lines).count() + 1;
        let lines = room.take_lines(wanted.min(most.lines));
        Self::folded(text, Most { lines, ..most }, room)
    }

    /// The beginning of a text that takes no room before it is unfolded, and scrolls then.
    pub(crate) fn folded(mut text: String, most: Most, room: &mut Room) -> Self {
        let lines = end_of_lines(&text, most.lines);
        let shown = room.take(lines.min(most.bytes));
        if shown >= text.len() {
            return Self { text, rest: None };
        }
        let end = text::prefix(&text, shown).len();
        let rest = &text[end..];
        let rest = match rest.strip_prefix('\n').unwrap_or(rest).lines().count() as i64 {
            more if end == lines && more > 0 => {
                format!("… {} more {}", show::count(more), if more == 1 { "line" } else { "lines" })
            }
            _ => format!("… {} more characters", show::count(rest.chars().count() as i64)),
        };
        text.truncate(end);
        Self { text, rest: Some(rest) }
    }
}

/// Where that many lines of a text end.
fn end_of_lines(text: &str, lines: usize) -> usize {
    text.match_indices('\n').nth(lines.saturating_sub(1)).map_or(text.len(), |(end, _)| end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_long_texts_shows_the_least_of_each() {
        let mut room = Room::new();
        let mut shown = |text: &str| Clip::open(text.to_owned(), SAID, &mut room);
        let bytes: usize = (0..100).map(|_| shown(&"x".repeat(50_000)).text.len()).sum();
        assert!((PAGE.bytes..PAGE.bytes + 100 * LEAST.bytes).contains(&bytes), "{bytes}");
        let clip = shown(&"é".repeat(300));
        assert_eq!((clip.text, clip.rest.as_deref()), ("é".repeat(100), Some("… 200 more characters")));
        assert_eq!(shown("short").rest, None);
    }

    #[test]
    fn a_page_of_many_lines_shows_the_least_of_each() {
        let mut room = Room::new();
        let mut shown = |text: &str| Clip::open(text.to_owned(), LINE, &mut room);
        let clip = shown(&"\n".repeat(20_000));
        assert_eq!((clip.text, clip.rest.as_deref()), ("\n".repeat(11), Some("… 19,988 more lines")));
        let clip = shown(&"ab\n".repeat(20_000));
        assert_eq!((clip.text.lines().count(), clip.rest.as_deref()), (12, Some("… 19,988 more lines")));
        let lines: usize = (0..1_000).map(|_| shown(&"a\n".repeat(500)).text.lines().count()).sum();
        assert!((PAGE.lines - 24..PAGE.lines + 1_000 * LEAST.lines).contains(&lines), "{lines}");
        let clip = shown("a\nb\nc");
        assert_eq!((clip.text.as_str(), clip.rest.as_deref()), ("a\nb", Some("… 1 more line")));
        assert_eq!(shown("a\nb").rest, None);
    }

    #[test]
    fn what_is_folded_takes_no_lines_from_the_others() {
        let mut room = Room::new();
        let lines: usize =
            (0..100).map(|_| Clip::folded("a\n".repeat(500), FOLDED, &mut room).text.lines().count()).sum();
        assert_eq!(lines, 100 * FOLDED.lines);
        assert_eq!(room.take_lines(PAGE.lines), PAGE.lines);
    }
}
