//! A change of a file as lines, each with its sign: what goes, what comes, and a little of what stays around it.

use std::time::Duration;

use similar::{ChangeTag, TextDiff};

use super::clip::{FOLDED, Room};
use super::show;
use crate::model::piece::Change;
use crate::model::text;

/// How long two texts may be compared, and how long they may be, in bytes; longer ones are all gone and all new.
const COMPARED_WITHIN: Duration = Duration::from_millis(5);
const COMPARED_MAX: usize = 64 * 1024;

/// How much of a line is shown, in bytes; how many stand around a change; how many of all find room on a screen.
const LINE: usize = 400;
const AROUND: usize = 3;
const SCREEN: usize = 30;
/// How many are shown where there is no room left.
const LEAST: usize = 4;

/// A change as it is shown.
#[derive(Debug)]
pub(crate) struct Diff {
    pub(crate) lines: Vec<Line>,
    /// How many lines came and went.
    pub(crate) counts: String,
    /// How much is left out, in words.
    pub(crate) rest: Option<String>,
}

/// A line of it, with its sign in front.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Comes(String),
    Goes(String),
    Stays(String),
    /// Some are left out between two changes.
    Gap,
}

impl Line {
    fn sign(&mut self) {
        match self {
            Self::Comes(text) => text.insert_str(0, "+ "),
            Self::Goes(text) => text.insert_str(0, "- "),
            Self::Stays(text) => text.insert_str(0, "  "),
            Self::Gap => {}
        }
    }
}

impl Diff {
    pub(crate) fn of(changes: &[Change], room: &mut Room) -> Self {
        let mut lines = Vec::new();
        for change in changes {
            if !lines.is_empty() {
                lines.push(Line::Gap);
            }
            compare(&change.old, &change.new, &mut lines);
        }
        let came = lines.iter().filter(|line| matches!(line, Line::Comes(_))).count() as i64;
        let went = lines.iter().filter(|line| matches!(line, Line::Goes(_))).count() as i64;
        // It stands open, and scrolls where it is longer than a screen.
        let open = lines.len().min(SCREEN);
        let most = if room.take_lines(open) < open { LEAST } else { FOLDED.lines };
        let (mut left, mut shown) = (FOLDED.bytes, 0);
        for line in lines.iter_mut().take(most) {
            if let Line::Comes(text) | Line::Goes(text) | Line::Stays(text) = line {
                let kept = room.take(text.len().min(LINE).min(left));
                if kept < text.len() {
                    text.truncate(text::prefix(text, kept).len());
                    text.push('…');
                }
                left = left.saturating_sub(kept + 1);
            }
            line.sign();
            shown += 1;
            if left == 0 {
                break;
            }
        }
        let rest = lines.len() - shown;
        lines.truncate(shown);
        Self {
            lines,
            counts: format!("+{} −{}", show::count(came), show::count(went)),
            rest: (rest > 0).then(|| format!("… {} more lines", show::count(rest as i64))),
        }
    }
}

fn compare(old: &str, new: &str, lines: &mut Vec<Line>) {
    let line = |text: &str| text.trim_end_matches('\n').to_owned();
    if old.is_empty() || old.len() + new.len() > COMPARED_MAX {
        lines.extend(old.lines().map(|text| Line::Goes(line(text))));
        lines.extend(new.lines().map(|text| Line::Comes(line(text))));
        return;
    }
    let diff = TextDiff::configure().timeout(COMPARED_WITHIN).diff_lines(old, new);
    for (n, group) in diff.grouped_ops(AROUND).iter().enumerate() {
        if n > 0 {
            lines.push(Line::Gap);
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let text = line(change.value());
            lines.push(match change.tag() {
                ChangeTag::Insert => Line::Comes(text),
                ChangeTag::Delete => Line::Goes(text),
                ChangeTag::Equal => Line::Stays(text),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(old: &str, new: &str) -> Diff {
        Diff::of(&[Change { old: old.to_owned(), new: new.to_owned() }], &mut Room::new())
    }

    #[test]
    fn a_change_shows_what_goes_and_comes_and_a_little_around_it() {
        let old: String = (1..=20).map(|n| format!("line {n}\n")).collect();
        let shown = diff(&old, &old.replace("line 2\n", "line two\n").replace("line 19\n", ""));
        assert_eq!(shown.counts, "+1 −2");
        assert_eq!(
            shown.lines[1..3],
            [Line::Goes("- line 2".to_owned()), Line::Comes("+ line two".to_owned())]
        );
        assert_eq!(shown.lines.iter().filter(|line| **line == Line::Gap).count(), 1);
        assert_eq!((shown.lines.len(), shown.rest), (12, None));
        assert_eq!(diff("", "a\nb").lines, [Line::Comes("+ a".to_owned()), Line::Comes("+ b".to_owned())]);
    }

    #[test]
    fn a_page_of_many_changes_shows_little_of_each() {
        let mut room = Room::new();
        let change = [Change { old: String::new(), new: "a\n".repeat(500) }];
        let shown: Vec<usize> = (0..100).map(|_| Diff::of(&change, &mut room).lines.len()).collect();
        assert_eq!((shown[0], shown[99]), (FOLDED.lines, LEAST));
    }

    #[test]
    fn the_worst_change_is_quick_and_short() {
        let began = std::time::Instant::now();
        let lines =
            |seed: u64| -> String { (0..8000_u64).map(|n| format!("{}\n", (n * seed) % 7)).collect() };
        for (old, new) in [
            (lines(3), lines(5)),
            ("x".repeat(200_000), "y\n".repeat(100_000)),
            ("a\n".repeat(20_000), "b\n".repeat(20_000)),
        ] {
            let shown = diff(&old, &new);
            assert!(shown.lines.len() <= FOLDED.lines && shown.rest.is_some());
        }
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
}
