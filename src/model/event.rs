//! An event: one line of a run's transcript. Lines of `claude -p --output-format stream-json` are read as far as
//! they can be; what can't be read stays text.

use serde_json::Value;
use time::OffsetDateTime;

use super::activity::{self, Act};
use super::run::{Numbers, RunResult};
use super::text;
use super::words;

words! {
    /// Which of the container's streams a line came from.
    Source {
        /// Standard output.
        Stdout = "stdout",
        /// Standard error.
        Stderr = "stderr",
    }
}

words! {
    /// What a line is.
    Kind {
        /// `system`, subtype `init`: session, model, tools.
        Init = "init",
        /// The assistant says or thinks something.
        Assistant = "assistant",
        /// The assistant calls a tool.
        ToolUse = "tool_use",
        /// What the tool gave.
        ToolResult = "tool_result",
        /// The run's last word, with its figures.
        Result = "result",
        /// A record of the CLI that we don't know.
        Other = "other",
        /// Anything else, as it came.
        Text = "text",
    }
}

/// One line of a run's transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number within the run, from 1.
    pub seq: i64,
    /// When the worker read it.
    pub at: OffsetDateTime,
    /// Where it came from.
    pub source: Source,
    /// What it is.
    pub kind: Kind,
    /// How many bytes were cut away; 0 for whole lines.
    pub cut: i64,
    /// The line, without its newline and without NUL.
    pub payload: String,
}

/// A line read: what will be stored, and what it says of the run.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What it is.
    pub kind: Kind,
    /// How many bytes were cut away.
    pub cut: i64,
    /// What will be stored.
    pub payload: String,
    /// What a `result` says.
    pub result: Option<RunResult>,
    /// The model that an `init` names.
    pub model: Option<String>,
    /// What it says that the agent does.
    pub acts: Vec<Act>,
}

/// The longest line that is stored, in bytes.
pub const LINE_MAX: usize = 256 * 1024;

/// The longest name of a model that is kept, in characters.
const MODEL_MAX: usize = 100;

/// Beyond these a figure isn't believed, and none is kept: no run costs, lasts or says that much, and sums of many must not
/// overflow. In dollars, turns, milliseconds (ten years) and tokens.
const USD_MAX: f64 = 1e6;
const TURNS_MAX: i64 = 10_000_000;
const DURATION_MAX_MS: i64 = 10 * 366 * 86_400_000;
const TOKENS_MAX: i64 = 1_000_000_000_000;

impl Line {
    /// Reads a line of output. `dropped` is how many bytes of it were not even kept in memory.
    pub fn read(source: Source, bytes: &[u8], dropped: usize) -> Self {
        let line = String::from_utf8_lossy(bytes).replace('\0', "\u{2400}");
        let parsed = match source {
            Source::Stdout if dropped == 0 => {
                serde_json::from_str::<Value>(&line).ok().filter(Value::is_object)
            }
            _ => None,
        };
        let Some(mut value) = parsed else {
            let kept = text::prefix(&line, LINE_MAX);
            let cut = (line.len() - kept.len() + dropped) as i64;
            let (kind, payload) = (Kind::Text, kept.to_owned());
            return Self { kind, cut, payload, result: None, model: None, acts: Vec::new() };
        };
        let kind = kind_of(&value);
        let result = (kind == Kind::Result).then(|| read_result(&value));
        let model = (kind == Kind::Init).then(|| string(&value, "model")).flatten();
        let model = model.map(|model| text::head(&model, MODEL_MAX));
        let acts = activity::acts(&value, kind);
        let (payload, cut) = if line.len() <= LINE_MAX { (line, 0) } else { shrink(&mut value, line.len()) };
        Self { kind, cut, payload, result, model, acts }
    }
}

/// What a stored `result` line says; none when it can't be read.
pub fn stored_result(payload: &str) -> Option<RunResult> {
    let value: Value = serde_json::from_str(payload).ok()?;
    (kind_of(&value) == Kind::Result).then(|| read_result(&value))
}

/// What a record says there, without NUL, which Postgres keeps in no text.
fn string(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(|said| said.replace('\0', "\u{2400}"))
}

/// The blocks of a message.
pub(super) fn blocks(value: &Value) -> &[Value] {
    value.pointer("/message/content").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn kind_of(value: &Value) -> Kind {
    let has = |what: &str| blocks(value).iter().any(|block| block["type"] == what);
    match (value["type"].as_str(), value["subtype"].as_str()) {
        (Some("system"), Some("init")) => Kind::Init,
        (Some("assistant"), _) if has("tool_use") => Kind::ToolUse,
        (Some("assistant"), _) => Kind::Assistant,
        (Some("user"), _) if has("tool_result") => Kind::ToolResult,
        (Some("result"), _) => Kind::Result,
        _ => Kind::Other,
    }
}

pub(super) fn read_result(value: &Value) -> RunResult {
    let subtype = string(value, "subtype").unwrap_or_default();
    // A sum without one of its parts would be a guess.
    let tokens = |keys: &[&str]| {
        let said = keys.iter().filter_map(|key| value.get("usage")?.get(key)).filter(|n| !n.is_null());
        let counts: Vec<i64> = said.map(|n| n.as_i64().filter(|n| *n >= 0)).collect::<Option<_>>()?;
        let sum =
            counts.into_iter().try_fold(None, |sum, n| sum.unwrap_or(0_i64).checked_add(n).map(Some))?;
        sum.filter(|n| *n <= TOKENS_MAX)
    };
    let count = |key: &str, max: i64| value[key].as_i64().filter(|n| (0..=max).contains(n));
    let errors = || {
        let list = value.get("errors")?.as_array()?;
        let said = list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; ");
        Some(said.replace('\0', "\u{2400}"))
    };
    RunResult {
        success: subtype == "success" && value["is_error"] == Value::Bool(false),
        text: string(value, "result").or_else(errors).unwrap_or_default(),
        numbers: Numbers {
            turns: count("num_turns", TURNS_MAX),
            tokens_in: tokens(&["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"]),
            tokens_out: tokens(&["output_tokens"]),
            // Adding nothing makes 0 of -0.
            cost_usd: value["total_cost_usd"]
                .as_f64()
                .map(|usd| usd + 0.0)
                .filter(|usd| (0.0..=USD_MAX).contains(usd)),
            duration_ms: count("duration_ms", DURATION_MAX_MS),
        },
        subtype,
    }
}

/// Cuts the long strings inside a record until its line fits, so that it stays a record.
fn shrink(value: &mut Value, length: usize) -> (String, i64) {
    let mut limit = LINE_MAX / 2;
    loop {
        cut_strings(value, limit);
        let line = value.to_string();
        if line.len() <= LINE_MAX || limit < 64 {
            let kept = text::prefix(&line, LINE_MAX).to_owned();
            let cut = length.saturating_sub(kept.len()) as i64;
            return (kept, cut.max(1));
        }
        limit /= 4;
    }
}

fn cut_strings(value: &mut Value, limit: usize) {
    match value {
        Value::String(s) if s.len() > limit => {
            let kept = text::prefix(s, limit).len();
            let left_out = s.len() - kept;
            s.truncate(kept);
            s.push_str(&format!("… [{left_out} bytes cut]"));
        }
        Value::Array(list) => list.iter_mut().for_each(|item| cut_strings(item, limit)),
        Value::Object(map) => map.values_mut().for_each(|item| cut_strings(item, limit)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::piece::Piece;
    use super::*;

    fn read(line: &str) -> Line {
        Line::read(Source::Stdout, line.as_bytes(), 0)
    }

    fn event(line: &str) -> Event {
        let Line { kind, cut, payload, .. } = read(line);
        Event { seq: 1, at: OffsetDateTime::UNIX_EPOCH, source: Source::Stdout, kind, cut, payload }
    }

    #[test]
    fn a_result_gives_its_figures_and_absent_stays_absent() {
        let full = read(
            r#"{"type":"result","subtype":"success","is_error":false,"num_turns":3,"duration_ms":1800,"result":"done",
                "total_cost_usd":0.0123,"usage":{"input_tokens":10,"cache_read_input_tokens":90,"output_tokens":5}}"#,
        );
        let result = full.result.unwrap();
        assert!(result.success);
        assert_eq!(result.numbers.tokens_in, Some(100));
        assert_eq!(result.numbers.cost_usd, Some(0.0123));
        let bare =
            read(r#"{"type":"result","subtype":"error_during_execution","is_error":true}"#).result.unwrap();
        assert!(!bare.success);
        assert_eq!(bare.numbers, Numbers::default());
    }

    #[test]
    fn a_failed_success_is_no_success() {
        let line = r#"{"type":"result","subtype":"success","is_error":true,"result":"API Error: 529"}"#;
        assert!(!read(line).result.unwrap().success);
    }

    #[test]
    fn hostile_numbers_are_absent() {
        let line = r#"{"type":"result","total_cost_usd":-1e999,"num_turns":-5,"usage":{"input_tokens":"x"}}"#;
        let numbers = read(line).result.map(|result| result.numbers).unwrap_or_default();
        assert_eq!(numbers, Numbers::default());
        for usage in [
            r#"{"input_tokens":-3,"output_tokens":-3}"#,
            r#"{"input_tokens":99999999999999999999,"cache_read_input_tokens":5,"output_tokens":"5"}"#,
            r#"{"input_tokens":9223372036854775807,"cache_read_input_tokens":1}"#,
        ] {
            let line = format!(r#"{{"type":"result","usage":{usage}}}"#);
            assert_eq!(read(&line).result.map(|result| result.numbers), Some(Numbers::default()), "{usage}");
        }
    }

    #[test]
    fn figures_beyond_belief_are_absent_and_the_largest_believable_are_there() {
        for unbelievable in [
            r#""total_cost_usd":1e308"#,
            r#""total_cost_usd":1000001"#,
            r#""num_turns":9223372036854775807"#,
            r#""duration_ms":9223372036854775807"#,
            r#""usage":{"output_tokens":9223372036854775807}"#,
        ] {
            let line = format!(r#"{{"type":"result",{unbelievable}}}"#);
            assert_eq!(read(&line).result.map(|result| result.numbers), Some(Numbers::default()), "{line}");
        }
        let dear = read(r#"{"type":"result","total_cost_usd":1000000,"num_turns":10000000}"#).result.unwrap();
        assert_eq!((dear.numbers.cost_usd, dear.numbers.turns), (Some(1e6), Some(10_000_000)));
        let nothing = read(r#"{"type":"result","total_cost_usd":-0.0}"#).result.unwrap().numbers.cost_usd;
        assert!(nothing.is_some_and(|usd| usd == 0.0 && usd.is_sign_positive()), "{nothing:?}");
    }

    #[test]
    fn nothing_that_is_read_of_a_record_holds_nul() {
        let init = read(r#"{"type":"system","subtype":"init","model":"m\u0000"}"#);
        assert_eq!(init.model.as_deref(), Some("m\u{2400}"));
        let result = read(r#"{"type":"result","subtype":"e\u0000","errors":["a\u0000"]}"#).result.unwrap();
        assert_eq!((result.subtype.as_str(), result.text.as_str()), ("e\u{2400}", "a\u{2400}"));
        assert_eq!(read(r#"{"type":"result","result":"a\u0000"}"#).result.unwrap().text, "a\u{2400}");
    }

    #[test]
    fn what_is_no_record_stays_text() {
        for line in ["", "hello", "[1,2]", "\"x\"", "{\"type\":", "null"] {
            assert_eq!(read(line).kind, Kind::Text, "{line}");
        }
        assert_eq!(Line::read(Source::Stderr, b"{\"type\":\"result\"}", 0).kind, Kind::Text);
        assert_eq!(read("{\"type\":\"rate_limit_event\"}").kind, Kind::Other);
        assert!(!Line::read(Source::Stdout, b"a\0b\xff", 0).payload.contains('\0'));
    }

    #[test]
    fn long_lines_are_cut_with_a_mark_and_long_records_stay_records() {
        let text = Line::read(Source::Stdout, "é".repeat(LINE_MAX).as_bytes(), 7);
        assert_eq!((text.payload.len(), text.cut), (LINE_MAX, LINE_MAX as i64 + 7));
        let long = format!(
            r#"{{"type":"result","subtype":"success","is_error":false,"num_turns":1,"result":"{}"}}"#,
            "x".repeat(3 * LINE_MAX)
        );
        let line = read(&long);
        assert!(line.payload.len() <= LINE_MAX && line.cut > 0);
        assert!(line.result.unwrap().success);
        assert!(stored_result(&line.payload).unwrap().text.ends_with("bytes cut]"));
    }

    #[test]
    fn a_record_of_many_strings_is_cut_too() {
        let many: Vec<String> = (0..40_000).map(|n| format!("string number {n}")).collect();
        let line = read(&serde_json::json!({"type": "user", "x": many}).to_string());
        assert!(line.payload.len() <= LINE_MAX && line.cut > 0);
    }

    #[test]
    fn a_models_name_is_bounded() {
        let line = format!(r#"{{"type":"system","subtype":"init","model":"{}"}}"#, "m".repeat(10_000));
        assert_eq!(read(&line).model.map(|model| model.chars().count()), Some(MODEL_MAX + 1));
    }

    #[test]
    fn pieces_are_inert() {
        let say = event(
            r#"{"type":"assistant","message":{"content":[{"type":"text","text":"\u001b[31m<b>\u0000\u202e"}]}}"#,
        );
        assert_eq!(say.pieces(), vec![Piece::Say("<b>␀⟨U+202E⟩".into())]);
        let tool = event(
            r#"{"type":"assistant","message":{"content":[{"type":"tool_use","name":"Bash","input":{"command":"ls\n-l","timeout":5}}]}}"#,
        );
        let Piece::ToolUse { name, gist, input } = &tool.pieces()[0] else { panic!("no tool") };
        assert_eq!(
            (name.as_str(), gist.as_str(), input.as_str()),
            ("Bash", "ls -l", "command:\nls\n-l\ntimeout: 5")
        );
    }

    #[test]
    fn odd_records_give_a_piece_too() {
        for line in [
            r#"{"type":"assistant","message":{"content":"just a string"}}"#,
            r#"{"type":"assistant","message":{"content":[{"type":"tool_use"}]}}"#,
            r#"{"type":"user","message":{"content":[{"type":"tool_result","content":[{"type":"image"}]}]}}"#,
            r#"{"type":"result"}"#,
            r#"{"type":{"a":1}}"#,
            "{}",
        ] {
            assert!(!event(line).pieces().is_empty(), "{line}");
        }
    }
}
