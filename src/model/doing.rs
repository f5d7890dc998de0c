//! What an agent is in the middle of: the tool calls of its transcript that have no result yet.

use serde_json::Value;
use time::OffsetDateTime;

use super::event::{Event, Kind, Piece};

/// A tool call without its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doing {
    /// The tool's name, inert.
    pub tool: String,
    /// The input's most telling line, inert; may be empty.
    pub gist: String,
    /// When it was called.
    pub since: OffsetDateTime,
}

impl Doing {
    /// The last call that had no result at `moment`, from events in their order. None too when the events don't reach back
    /// far enough.
    pub fn at(events: &[Event], moment: OffsetDateTime) -> Option<Self> {
        let mut answered = Vec::new();
        for event in events.iter().rev().filter(|event| event.at <= moment) {
            match event.kind {
                Kind::ToolResult => answered.extend(ids(event, "tool_result", "tool_use_id")),
                Kind::ToolUse => {
                    let calls = ids(event, "tool_use", "id");
                    if let Some(call) = call(event)
                        && !calls.iter().any(|id| answered.contains(id))
                    {
                        return Some(call);
                    }
                }
                // The turn is over: whatever was called before it is over too.
                Kind::Result => return None,
                _ => {}
            }
        }
        None
    }
}

fn call(event: &Event) -> Option<Doing> {
    event.pieces().into_iter().rev().find_map(|piece| match piece {
        Piece::ToolUse { name, gist, .. } => Some(Doing { tool: name, gist, since: event.at }),
        _ => None,
    })
}

/// The ids that an event's blocks of one type carry.
fn ids(event: &Event, block: &str, key: &str) -> Vec<String> {
    let value: Value = serde_json::from_str(&event.payload).unwrap_or_default();
    let blocks = value.pointer("/message/content").and_then(Value::as_array);
    let of = |item: &Value| (item["type"] == block).then(|| item[key].as_str().map(str::to_owned)).flatten();
    blocks.into_iter().flatten().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;
    use crate::model::event::{Line, Source};

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn events(lines: &[&str]) -> Vec<Event> {
        let read = |(n, line): (usize, &&str)| {
            let Line { kind, cut, payload, .. } = Line::read(Source::Stdout, line.as_bytes(), 0);
            let at = START + Duration::seconds(n as i64);
            Event { seq: n as i64 + 1, at, source: Source::Stdout, kind, cut, payload }
        };
        lines.iter().enumerate().map(read).collect()
    }

    fn doing(lines: &[&str], at_s: i64) -> Option<(String, String, i64)> {
        let doing = Doing::at(&events(lines), START + Duration::seconds(at_s))?;
        Some((doing.tool, doing.gist, (doing.since - START).whole_seconds()))
    }

    const CALL: &str = r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"a","name":"Bash","input":{"command":"cargo test"}}]}}"#;
    const OTHER: &str = r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"b","name":"Read","input":{"file_path":"x"}}]}}"#;
    const BACK: &str =
        r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"a","content":"ok"}]}}"#;
    const BACK_B: &str =
        r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"b","content":"ok"}]}}"#;

    #[test]
    fn a_call_lasts_until_its_result() {
        let bash = Some(("Bash".to_owned(), "cargo test".to_owned(), 0));
        assert_eq!(doing(&[CALL], 9), bash);
        assert_eq!(doing(&[CALL, BACK], 9), None);
        assert_eq!(doing(&[CALL, BACK], 0), bash, "then it was still at it");
        assert_eq!(doing(&[CALL, "plain text"], 9), bash);
        assert_eq!(doing(&[CALL, OTHER, BACK_B], 9), bash, "of two at once the other one is done");
        assert_eq!(doing(&[], 9), None);
    }

    #[test]
    fn a_result_ends_it_and_nonsense_is_no_call() {
        assert_eq!(doing(&[CALL, r#"{"type":"result","subtype":"success","is_error":false}"#], 9), None);
        let odd = r#"{"type":"assistant","message":{"content":[{"type":"tool_use"}]}}"#;
        assert_eq!(doing(&[odd], 9), Some(("a tool".to_owned(), String::new(), 0)));
        assert_eq!(doing(&[r#"{"type":"assistant","message":{"content":"tool_use"}}"#], 9), None);
    }
}
