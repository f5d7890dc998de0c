//! As much of a text as a page shows: each has its share, and all together have no more than a page can hold.

use super::show;
use crate::model::text;

/// How much of what was said is shown, and of what is folded, in bytes.
pub(crate) const SAID: usize = 12_000;
pub(crate) const FOLDED: usize = 4_000;

/// How much all texts of a page may have, in bytes; past that each one has only its least.
const PAGE: usize = 48_000;
const LEAST: usize = 200;

/// What is left of a page's room.
#[derive(Debug)]
pub(crate) struct Room(usize);

impl Room {
    /// A page with nothing on it.
    pub(crate) fn new() -> Self {
        Self(PAGE)
    }

    /// How much of this many bytes finds room.
    pub(crate) fn take(&mut self, wanted: usize) -> usize {
        let taken = wanted.min(self.0.max(LEAST));
        self.0 = self.0.saturating_sub(taken);
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
    /// The beginning of a text, of at most so many bytes.
    pub(crate) fn new(mut text: String, most: usize, room: &mut Room) -> Self {
        let shown = room.take(text.len().min(most));
        if shown >= text.len() {
            return Self { text, rest: None };
        }
        let end = text::prefix(&text, shown).len();
        let rest = show::count(text[end..].chars().count() as i64);
        text.truncate(end);
        Self { text, rest: Some(format!("… {rest} more characters")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_long_texts_shows_the_least_of_each() {
        let mut room = Room::new();
        let shown: usize = (0..100).map(|_| Clip::new("x".repeat(50_000), SAID, &mut room).text.len()).sum();
        assert!((PAGE..PAGE + 100 * LEAST).contains(&shown), "{shown}");
        let clip = Clip::new("é".repeat(300), SAID, &mut room);
        assert_eq!((clip.text, clip.rest.as_deref()), ("é".repeat(100), Some("… 200 more characters")));
        assert_eq!(Clip::new("short".to_owned(), SAID, &mut room).rest, None);
    }
}
