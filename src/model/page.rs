//! Keyset pages: a cursor instead of an offset, so that depth costs nothing.

/// Which way a page lies from its cursor. Lists are newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Cursor {
    /// The newest.
    #[default]
    Start,
    /// Those with a smaller number than this.
    Before(i64),
    /// Those with a larger number than this.
    After(i64),
}

/// How many rows a page holds.
pub const PAGE_SIZE: usize = 50;

/// A page of a list, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// At most [`PAGE_SIZE`] rows.
    pub rows: Vec<T>,
    /// The cursor of the page with newer rows, when there is one.
    pub newer: Option<i64>,
    /// The cursor of the page with older rows, when there is one.
    pub older: Option<i64>,
}

impl<T> Page<T> {
    /// Makes a page from up to [`PAGE_SIZE`] + 1 rows, as the database gave them: newest first for
    /// [`Cursor::Start`] and [`Cursor::Before`], oldest first for [`Cursor::After`].
    pub fn from_rows(rows: Vec<T>, cursor: Cursor, id: impl Fn(&T) -> i64) -> Self {
        Self::of_size(PAGE_SIZE, rows, cursor, id)
    }

    /// The same with pages of another size.
    pub fn of_size(size: usize, mut rows: Vec<T>, cursor: Cursor, id: impl Fn(&T) -> i64) -> Self {
        let more = rows.len() > size;
        rows.truncate(size);
        if matches!(cursor, Cursor::After(_)) {
            rows.reverse();
        }
        let first = rows.first().map(&id);
        let last = rows.last().map(&id);
        let (newer, older) = match cursor {
            Cursor::Start => (None, last.filter(|_| more)),
            Cursor::Before(_) => (first, last.filter(|_| more)),
            Cursor::After(_) => (first.filter(|_| more), last),
        };
        Self { rows, newer, older }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(ids: std::ops::RangeInclusive<i64>, newest_first: bool, cursor: Cursor) -> Page<i64> {
        let mut rows: Vec<i64> = ids.collect();
        if newest_first {
            rows.reverse();
        }
        Page::from_rows(rows, cursor, |id| *id)
    }

    #[test]
    fn the_first_page_has_nothing_newer() {
        let first = page(50..=100, true, Cursor::Start);
        assert_eq!((first.rows.len(), first.newer, first.older), (50, None, Some(51)));
    }

    #[test]
    fn going_back_gives_the_same_order() {
        let back = page(51..=101, false, Cursor::After(50));
        assert_eq!((back.rows[0], back.rows[49]), (100, 51));
        assert_eq!((back.newer, back.older), (Some(100), Some(51)));
    }

    #[test]
    fn a_short_page_has_nothing_older() {
        assert_eq!(page(1..=3, true, Cursor::Before(4)).older, None);
    }
}
