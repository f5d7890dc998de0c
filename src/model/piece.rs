//! A piece of a transcript: what a page shows of an event, made inert.

use std::io;

use serde_json::Value;

use super::event::{Event, Kind, blocks, read_result};
use super::text;

/// A piece of the conversation, inert: what a page shows of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// The session began.
    Init {
        /// The model it uses.
        model: String,
        /// How many tools it has.
        tools: usize,
        /// The CLI's version.
        version: String,
    },
    /// The assistant says something.
    Say(String),
    /// The assistant thinks.
    Think(String),
    /// The assistant calls a tool.
    ToolUse {
        /// The tool's name.
        name: String,
        /// The input's most telling line.
        gist: String,
        /// The whole input.
        input: String,
    },
    /// The assistant changes a file.
    Edit {
        /// The tool's name.
        name: String,
        /// The file.
        path: String,
        /// What is changed in it.
        changes: Vec<Change>,
    },
    /// What a tool gave.
    ToolResult {
        /// Its output.
        text: String,
        /// Whether the tool failed.
        is_error: bool,
    },
    /// The run's last word.
    Result {
        /// Whether it calls itself a success.
        success: bool,
        /// `subtype` as the CLI wrote it.
        subtype: String,
        /// What it answered, or what went wrong.
        text: String,
    },
    /// A record that we don't know.
    Other {
        /// Its type, as it says.
        what: String,
        /// All of it.
        text: String,
    },
    /// A line of text.
    Text(String),
}

/// A part of a file that is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What stood there.
    pub old: String,
    /// What shall stand there.
    pub new: String,
}

impl Piece {
    /// All that is to be read of it, in its order.
    pub fn text(&self) -> String {
        let lines = |parts: &[&str]| {
            parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("\n")
        };
        match self {
            Self::Init { model, version, .. } => lines(&[model, version]),
            Self::Say(text) | Self::Think(text) | Self::Text(text) | Self::ToolResult { text, .. } => {
                text.clone()
            }
            Self::ToolUse { name, input, .. } => lines(&[name, input]),
            Self::Edit { name, path, changes } => {
                let changes = changes.iter().flat_map(|change| [change.old.as_str(), change.new.as_str()]);
                lines(&[name.as_str(), path].into_iter().chain(changes).collect::<Vec<_>>())
            }
            Self::Result { subtype, text, .. } => lines(&[subtype, text]),
            Self::Other { what, text } => lines(&[what, text]),
        }
    }
}

impl Piece {
    /// Whether it says that something failed.
    pub fn is_error(&self) -> bool {
        matches!(self, Self::ToolResult { is_error: true, .. } | Self::Result { success: false, .. })
    }
}

/// Whether a line says of something in it that it is an error, however it is spaced.
fn says_error(line: &str) -> bool {
    line.split("\"is_error\"").skip(1).any(|rest| {
        rest.trim_start().strip_prefix(':').is_some_and(|value| value.trim_start().starts_with("true"))
    })
}

impl Event {
    /// Whether it says that something failed.
    pub fn is_error(&self) -> bool {
        let may = match self.kind {
            // Most say plainly that they don't.
            Kind::ToolResult => says_error(&self.payload),
            Kind::Result => true,
            _ => false,
        };
        may && self.pieces().iter().any(Piece::is_error)
    }

    /// What a page shows of it. Never empty.
    pub fn pieces(&self) -> Vec<Piece> {
        let as_text = || vec![Piece::Text(text::inert(&self.payload))];
        if self.kind == Kind::Text {
            return as_text();
        }
        let Ok(value) = serde_json::from_str::<Value>(&self.payload) else { return as_text() };
        let field = |key: &str| text::inert_line(value[key].as_str().unwrap_or_default());
        let other = || Piece::Other {
            what: match field("subtype") {
                sub if sub.is_empty() => field("type"),
                sub => format!("{} {sub}", field("type")),
            },
            text: text::inert(&pretty(&value)),
        };
        let pieces: Vec<Piece> = match self.kind {
            Kind::Init => vec![Piece::Init {
                model: field("model"),
                tools: value["tools"].as_array().map_or(0, Vec::len),
                version: field("claude_code_version"),
            }],
            Kind::Assistant | Kind::ToolUse | Kind::ToolResult => {
                blocks(&value).iter().filter_map(piece_of_block).collect()
            }
            Kind::Result => {
                let result = read_result(&value);
                vec![Piece::Result {
                    success: result.success,
                    subtype: text::inert_line(&result.subtype),
                    text: text::inert(&result.text),
                }]
            }
            Kind::Other | Kind::Text => Vec::new(),
        };
        if pieces.is_empty() { vec![other()] } else { pieces }
    }
}

fn piece_of_block(block: &Value) -> Option<Piece> {
    let string = |key: &str| block[key].as_str().map(text::inert);
    Some(match block["type"].as_str()? {
        "text" => Piece::Say(string("text")?),
        "thinking" => Piece::Think(string("thinking")?),
        "redacted_thinking" => Piece::Think("(hidden by the model's maker)".into()),
        "tool_use" if let Some(edit) = edit(block) => edit,
        "tool_use" | "server_tool_use" => Piece::ToolUse {
            name: text::inert_line(block["name"].as_str().unwrap_or("a tool")),
            gist: gist(&block["input"]),
            input: text::inert(&input_lines(&block["input"])),
        },
        "tool_result" => Piece::ToolResult {
            text: text::inert(&content_text(&block["content"])),
            is_error: block["is_error"] == Value::Bool(true),
        },
        what => Piece::Other { what: text::inert_line(what), text: text::inert(&pretty(block)) },
    })
}

/// A call of one of the tools that change files, if its input is what such a tool takes.
fn edit(block: &Value) -> Option<Piece> {
    let (name, input) = (block["name"].as_str()?, &block["input"]);
    let string = |from: &Value, key: &str| from[key].as_str().map(text::inert);
    let change =
        |from: &Value| Some(Change { old: string(from, "old_string")?, new: string(from, "new_string")? });
    let changes = match name {
        "Edit" => vec![change(input)?],
        "MultiEdit" => input["edits"].as_array()?.iter().map(change).collect::<Option<_>>()?,
        "Write" => vec![Change { old: String::new(), new: string(input, "content")? }],
        _ => return None,
    };
    Some(Piece::Edit { name: name.to_owned(), path: text::inert_line(input["file_path"].as_str()?), changes })
}

/// The one value of a tool's input that says most.
pub(super) fn gist(input: &Value) -> String {
    const TELLING: &[&str] =
        &["command", "file_path", "path", "pattern", "url", "query", "description", "prompt"];
    let telling = TELLING.iter().find_map(|key| input[*key].as_str());
    let first = || input.as_object()?.values().find_map(Value::as_str);
    text::head(&text::inert_line(telling.or_else(first).unwrap_or_default()), 160)
}

/// A tool's input for reading: `key: value`, strings as they are.
fn input_lines(input: &Value) -> String {
    let Some(map) = input.as_object() else { return pretty(input) };
    let line = |(key, value): (&String, &Value)| match value.as_str() {
        Some(s) if s.contains('\n') => format!("{key}:\n{s}"),
        Some(s) => format!("{key}: {s}"),
        None => format!("{key}: {value}"),
    };
    map.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A tool's output: a string, or a list of blocks of which some are text.
fn content_text(content: &Value) -> String {
    match content {
        Value::String(s) => s.clone(),
        Value::Array(list) => list
            .iter()
            .map(|block| match block["text"].as_str() {
                Some(s) => s.to_owned(),
                None => format!("[{}]", block["type"].as_str().unwrap_or("something")),
            })
            .collect::<Vec<_>>()
            .join("\n"),
        Value::Null => String::new(),
        other => pretty(other),
    }
}

/// A value on many lines; on one, where what lies deep in it would become many times as long by that.
fn pretty(value: &Value) -> String {
    let plain = value.to_string();
    let mut lines = Bounded { left: GROWTH * plain.len() + 1024, text: Vec::new() };
    match serde_json::to_writer_pretty(&mut lines, value).map(|()| String::from_utf8(lines.text)) {
        Ok(Ok(text)) => text,
        _ => plain,
    }
}

/// How many times as long a value may become on many lines.
const GROWTH: usize = 4;

/// Takes no more than so many bytes.
struct Bounded {
    left: usize,
    text: Vec<u8>,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_laid_out_on_lines_unless_that_makes_it_many_times_as_long() {
        let value = serde_json::json!({ "a": [1, "two"] });
        assert_eq!(pretty(&value), "{\n  \"a\": [\n    1,\n    \"two\"\n  ]\n}");
        let deep = format!("{}{}1{}", "[".repeat(100), "1,".repeat(50_000), "]".repeat(100));
        let value: Value = serde_json::from_str(&deep).unwrap();
        assert_eq!(pretty(&value), deep);
    }
}
