//! What one looks for in a transcript: words, errors, calls of tools, the result.

use super::event::{Event, Kind};
use super::piece::Piece;
use super::words;

words! {
    /// What kind of event is looked for.
    What {
        /// Any.
        Anything = "anything",
        /// What was said.
        Said = "said",
        /// Calls of tools.
        Calls = "calls",
        /// What tools gave.
        Outputs = "outputs",
        /// What failed.
        Errors = "errors",
        /// The last word.
        Result = "result",
    }
}

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sought {
    /// Of what kind.
    pub what: What,
    /// With these words; empty for any.
    pub words: String,
}

/// An event that fits, and where its words are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Its number.
    pub seq: i64,
    /// When it came.
    pub at: time::OffsetDateTime,
    /// What it is, in a word or two.
    pub name: String,
    /// What stands before the words, on their line.
    pub before: String,
    /// The words as they stand there.
    pub words: String,
    /// What stands behind them.
    pub after: String,
}

/// How much of a line is shown before the words and from them on, in bytes.
const AROUND: (usize, usize) = (60, 180);

impl Sought {
    /// The longest words, in characters.
    pub const WORDS_MAX: usize = 200;

    /// The kinds that fit; none when any may.
    pub fn kinds(&self) -> Option<&'static [Kind]> {
        match self.what {
            What::Anything => None,
            What::Said => Some(&[Kind::Assistant, Kind::ToolUse, Kind::Result]),
            What::Calls => Some(&[Kind::ToolUse]),
            What::Outputs => Some(&[Kind::ToolResult]),
            What::Errors => Some(&[Kind::ToolResult, Kind::Result]),
            What::Result => Some(&[Kind::Result]),
        }
    }

    /// Patterns of SQL, in small letters, one of which the line of each event that fits is like. More may be.
    pub fn patterns(&self) -> Vec<String> {
        if self.words.is_empty() {
            return match self.what {
                // Compact, as the CLI writes it, and with the one space that other writers of JSON put there.
                What::Errors => [
                    r#""is\_error":true"#,
                    r#""is\_error": true"#,
                    r#""subtype":"error"#,
                    r#""subtype": "error"#,
                ]
                .map(|part| format!("%{part}%"))
                .to_vec(),
                _ => vec!["%".to_owned()],
            };
        }
        let like = |words: &str| {
            let mut pattern = String::from("%");
            for c in words.to_ascii_lowercase().chars() {
                if matches!(c, '%' | '_' | '\\') {
                    pattern.push('\\');
                }
                pattern.push(c);
            }
            pattern + "%"
        };
        // Within a record words are written as JSON writes them.
        let quoted = serde_json::Value::from(self.words.as_str()).to_string();
        let mut patterns = vec![like(&self.words), like(quoted.trim_matches('"'))];
        patterns.dedup();
        patterns
    }

    /// Where it fits an event, if it does: what is read of the event counts, not how its line is written. Large and small
    /// letters are the same as far as ASCII goes.
    pub fn find(&self, event: &Event) -> Option<Hit> {
        let pieces = event.pieces();
        let piece = pieces.iter().find(|piece| self.fits(piece))?;
        let text = piece.text();
        let at = place(&text, &self.words)?;
        let line = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let from = text.ceil_char_boundary(line.max(at.saturating_sub(AROUND.0)));
        let end = at + self.words.len();
        let rest = &text[end..];
        let rest = &rest[..rest.floor_char_boundary(AROUND.1.saturating_sub(self.words.len()))];
        Some(Hit {
            seq: event.seq,
            at: event.at,
            name: name(piece).to_owned(),
            before: if from > line { format!("…{}", &text[from..at]) } else { text[from..at].to_owned() },
            words: text[at..end].to_owned(),
            after: rest.lines().next().unwrap_or_default().to_owned(),
        })
    }

    fn fits(&self, piece: &Piece) -> bool {
        let of_kind = match self.what {
            What::Anything => true,
            What::Said => matches!(piece, Piece::Say(_) | Piece::Result { .. }),
            What::Calls => matches!(piece, Piece::ToolUse { .. } | Piece::Edit { .. }),
            What::Outputs => matches!(piece, Piece::ToolResult { .. }),
            What::Errors => piece.is_error(),
            What::Result => matches!(piece, Piece::Result { .. }),
        };
        of_kind && place(&piece.text(), &self.words).is_some()
    }
}

fn place(text: &str, words: &str) -> Option<usize> {
    if words.is_empty() {
        // Where there is something to be read.
        return Some(text.len() - text.trim_start().len());
    }
    let (text, words) = (text.to_ascii_lowercase(), words.to_ascii_lowercase());
    text.find(&words)
}

fn name(piece: &Piece) -> &str {
    match piece {
        Piece::Init { .. } => "Began",
        Piece::Say(_) => "Said",
        Piece::Think(_) => "Thought",
        Piece::ToolUse { name, .. } | Piece::Edit { name, .. } => name,
        Piece::ToolResult { is_error: true, .. } => "Error",
        Piece::ToolResult { .. } => "Output",
        Piece::Result { success: true, .. } => "Result",
        Piece::Result { .. } => "Result: failed",
        Piece::Other { .. } => "Record",
        Piece::Text(_) => "Line",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{Line, Source};

    fn event(line: &str) -> Event {
        let Line { kind, cut, payload, .. } = Line::read(Source::Stdout, line.as_bytes(), 0);
        Event { seq: 7, at: time::OffsetDateTime::UNIX_EPOCH, source: Source::Stdout, kind, cut, payload }
    }

    fn find(what: What, words: &str, line: &str) -> Option<Hit> {
        Sought { what, words: words.to_owned() }.find(&event(line))
    }

    const SAY: &str =
        r#"{"type":"assistant","message":{"content":[{"type":"text","text":"one\nsay \"Now\" ö_%\\"}]}}"#;
    const BAD: &str = r#"{"type":"user","message":{"content":[{"type":"tool_result","is_error":true,"content":"Exit code 2"}]}}"#;

    #[test]
    fn words_are_found_as_they_are_read() {
        let hit = find(What::Anything, "\"now\"", SAY).unwrap();
        assert_eq!((hit.seq, hit.name.as_str()), (7, "Said"));
        assert_eq!(
            (hit.before.as_str(), hit.words.as_str(), hit.after.as_str()),
            ("say ", "\"Now\"", " ö_%\\")
        );
        assert_eq!(find(What::Anything, "content", SAY), None, "how a line is written isn't what is read");
        assert_eq!(find(What::Calls, "now", SAY), None);
    }

    #[test]
    fn errors_are_what_failed() {
        assert_eq!(
            find(What::Errors, "", BAD).map(|hit| hit.words + &hit.after),
            Some("Exit code 2".to_owned())
        );
        assert_eq!(find(What::Errors, "", &BAD.replace("true", "false")), None);
        let spaced = BAD.replace(":", ": ");
        assert!(find(What::Errors, "", &spaced).is_some() && event(&spaced).is_error());
        let like = Sought { what: What::Errors, words: String::new() }.patterns();
        let fits = |line: &str| {
            like.iter().any(|pattern| line.contains(&pattern.trim_matches('%').replace('\\', "")))
        };
        assert!(fits(BAD) && fits(&spaced) && !fits(r#"{"is_error":false}"#), "{like:?}");
        assert_eq!(find(What::Errors, "", r#"{"type":"result","subtype":"success","is_error":false}"#), None);
        assert!(
            find(What::Errors, "", r#"{"type":"result","subtype":"error_max_turns","is_error":false}"#)
                .is_some()
        );
    }

    #[test]
    fn what_is_found_is_found_by_the_patterns_too() {
        // LIKE, as Postgres has it, for patterns of one part between two `%`.
        let like = |line: &str, pattern: &str| {
            let inner = pattern.trim_start_matches('%').strip_suffix('%').unwrap_or_default();
            line.to_ascii_lowercase()
                .contains(&inner.replace("\\_", "_").replace("\\%", "%").replace("\\\\", "\\"))
        };
        for words in ["\"Now\"", "ö_%\\", "ONE", "say \"now\" ö"] {
            let sought = Sought { what: What::Anything, words: words.to_owned() };
            assert!(sought.find(&event(SAY)).is_some(), "{words}");
            assert!(sought.patterns().iter().any(|pattern| like(SAY, pattern)), "{:?}", sought.patterns());
        }
        let errors = Sought { what: What::Errors, words: String::new() };
        assert!(errors.patterns().iter().any(|pattern| like(BAD, pattern)));
    }

    #[test]
    fn long_lines_are_shown_around_the_words() {
        let line = format!("{}needle{}", "é".repeat(500), "é".repeat(500));
        let hit = find(What::Anything, "needle", &line).unwrap();
        assert!(
            hit.before.starts_with('…') && hit.before.len() <= AROUND.0 + 5 && hit.after.len() <= AROUND.1
        );
    }
}
