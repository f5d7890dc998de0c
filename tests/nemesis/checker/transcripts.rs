//! Point 6, in the transcripts: what is stored is what one agent printed, from its first line on, without a gap and
//! nothing twice.

use super::Found;
use super::story::{Line, Story};

pub(super) fn are_what_was_printed(story: &Story<'_>, found: &mut Found) {
    for row in story.rows.values() {
        let lines = story.lines.get(&row.run).map_or(&[][..], Vec::as_slice);
        let at = row.confirmed.unwrap_or(0);
        if row.events != lines.len() as i64 {
            found.add(6, row.run, at, format!("it counts {} events, and has {}", row.events, lines.len()));
        }
        if let Some(line) = lines.iter().zip(1..).find(|(line, n)| line.0 != *n) {
            found.add(6, row.run, at, format!("where event {} belongs stands {}", line.1, line.0.0));
        }
        if let Some(says) = not_as_printed(lines) {
            found.add(6, row.run, at, says);
        }
        if row.outcome.as_deref() == Some("succeeded") && !lines.iter().any(|line| is_result(line.2)) {
            found.add(6, row.run, at, "it succeeded, and its result isn't stored".into());
        }
    }
}

fn is_result(text: &str) -> bool {
    text.starts_with("{\"type\":\"result\"")
}

/// What is wrong with the numbers and the marks of the lines.
fn not_as_printed(lines: &[Line<'_>]) -> Option<String> {
    let (mut mark, mut number) = (None, 0);
    for (seq, source, text) in lines {
        if *source == "stderr" {
            return Some(format!("event {seq} is an error of the agent's: {text}"));
        }
        let rest = text.strip_prefix("line ");
        let own = match rest.and_then(|rest| rest.split_once(' ')) {
            Some((n, own)) => {
                number += 1;
                if n.parse() != Ok(number) {
                    return Some(format!("event {seq} is line {n}, not {number}"));
                }
                own
            }
            None if is_result(text) => text.rsplit('"').nth(1)?,
            None => return Some(format!("event {seq} isn't what an agent prints: {text}")),
        };
        if *mark.get_or_insert(own) != own {
            return Some(format!("event {seq} was printed by another agent"));
        }
    }
    None
}
