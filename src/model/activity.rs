//! What an agent is in the middle of, as its output tells line by line: the calls that have no answer yet, what repeats
//! itself, and what it waits for.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use super::event::{self, Kind};
use super::piece;
use super::text;

/// The most calls that are remembered as open; agents call a handful at once.
const OPEN_MAX: usize = 16;
/// The longest name of a tool or id of a call that is kept, in characters.
const NAME_MAX: usize = 80;

/// The HTTP status of a model API that wants fewer calls.
const TOO_MANY: u64 = 429;

/// What a line says that an agent does, or that is done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// It calls a tool.
    Call {
        /// What the answer will name.
        id: String,
        /// The tool's name, inert.
        tool: String,
        /// The input's most telling line, inert; may be empty.
        gist: String,
        /// Stands for tool and input: the same for the same call.
        like: u64,
    },
    /// A tool has answered.
    Answer {
        /// Which call.
        id: String,
        /// Whether the tool failed.
        failed: bool,
    },
    /// The model API wants fewer calls, and the CLI waits.
    Limited,
    /// The model has said something.
    Spoke,
    /// The result is printed.
    Finished,
    /// Something else.
    Other,
}

/// What a record says. `kind` is what it is.
pub fn acts(record: &Value, kind: Kind) -> Vec<Act> {
    let of_blocks = |act: fn(&Value) -> Option<Act>| event::blocks(record).iter().filter_map(act).collect();
    match kind {
        Kind::ToolUse => [vec![Act::Spoke], of_blocks(call)].concat(),
        Kind::ToolResult => of_blocks(answer),
        // The CLI's own words about a refusal aren't the model's.
        Kind::Assistant if record["message"]["model"] != "<synthetic>" => vec![Act::Spoke],
        Kind::Result => vec![Act::Finished],
        Kind::Other if is_limit(record) => vec![Act::Limited],
        Kind::Other if record["subtype"] == "thinking_tokens" => vec![Act::Spoke],
        Kind::Text => Vec::new(),
        _ => vec![Act::Other],
    }
}

fn is_limit(record: &Value) -> bool {
    match record["subtype"].as_str() {
        Some("api_retry") => record["error_status"] == TOO_MANY || record["error"] == "rate_limit",
        _ => record["type"] == "rate_limit_event" && record["rate_limit_info"]["status"] == "rejected",
    }
}

fn call(block: &Value) -> Option<Act> {
    if block["type"] != "tool_use" {
        return None;
    }
    let tool = word(&block["name"]);
    let mut like = DefaultHasher::new();
    (&tool, block["input"].to_string()).hash(&mut like);
    Some(Act::Call {
        id: word(&block["id"]),
        tool: if tool.is_empty() { "a tool".to_owned() } else { tool },
        gist: piece::gist(&block["input"]),
        like: like.finish(),
    })
}

fn answer(block: &Value) -> Option<Act> {
    let failed = block["is_error"] == true;
    (block["type"] == "tool_result").then(|| Act::Answer { id: word(&block["tool_use_id"]), failed })
}

fn word(value: &Value) -> String {
    text::head(&text::inert_line(value.as_str().unwrap_or_default()), NAME_MAX)
}

/// A tool call without its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// What the answer will name.
    id: String,
    /// The tool's name, inert.
    pub tool: String,
    /// The input's most telling line, inert; may be empty.
    pub gist: String,
    /// When it was called.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

/// Something that happened several times in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streak {
    /// How often.
    pub times: u32,
    /// When it happened first.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

impl Streak {
    fn grown(before: Option<Self>, at: OffsetDateTime) -> Self {
        let Self { times, since } = before.unwrap_or(Self { times: 0, since: at });
        Self { times: times.saturating_add(1), since }
    }
}

/// What an agent is in the middle of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Activity {
    /// Calls without an answer, the newest last.
    open: Vec<Call>,
    /// What stands for the last call.
    like: u64,
    /// How often the last call was made in a row, always with the same input.
    pub same: Option<Streak>,
    /// How many tools in a row have failed.
    pub errors: Option<Streak>,
    /// Since when the model API wants fewer calls and answers none.
    #[serde(with = "time::serde::rfc3339::option")]
    pub limited_since: Option<OffsetDateTime>,
    /// Since when its result is printed, and nothing came after it.
    #[serde(with = "time::serde::rfc3339::option")]
    pub finished_since: Option<OffsetDateTime>,
}

impl Activity {
    /// Takes in what a line says. Gives the calls that it ends.
    pub fn take(&mut self, acts: Vec<Act>, at: OffsetDateTime) -> Vec<Call> {
        let mut over = Vec::new();
        for act in acts {
            self.finished_since = None;
            match act {
                Act::Call { id, tool, gist, like } => {
                    let before = self.same.filter(|_| self.like == like);
                    self.same = Some(Streak::grown(before, at));
                    self.like = like;
                    if self.open.len() == OPEN_MAX {
                        self.open.remove(0);
                    }
                    self.open.push(Call { id, tool, gist, since: at });
                }
                Act::Answer { id, failed } => {
                    self.errors = failed.then(|| Streak::grown(self.errors, at));
                    over.extend(self.open.extract_if(.., |call| call.id == id));
                }
                Act::Limited => self.limited_since = self.limited_since.or(Some(at)),
                Act::Spoke => self.limited_since = None,
                // The turn is over: whatever was called before it is over too.
                Act::Finished => *self = Self { finished_since: Some(at), ..Self::default() },
                Act::Other => {}
            }
        }
        over
    }

    /// The call that it is in: the newest one without an answer.
    pub fn call(&self) -> Option<&Call> {
        self.open.last()
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;
    use crate::model::event::{Line, Source};

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    const CALL: &str = r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"a","name":"Bash","input":{"command":"cargo test"}}]}}"#;
    const OTHER: &str = r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"b","name":"Read","input":{"file_path":"x"}}]}}"#;
    const BACK: &str =
        r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"a","content":"ok"}]}}"#;
    const BACK_B: &str =
        r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"b","content":"ok"}]}}"#;
    const FAILED: &str = r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"a","is_error":true,"content":"no"}]}}"#;
    const SAYS: &str =
        r#"{"type":"assistant","message":{"model":"claude-x","content":[{"type":"text","text":"Hm."}]}}"#;
    const RETRY: &str = r#"{"type":"system","subtype":"api_retry","error_status":429,"error":"rate_limit"}"#;
    const RESULT: &str = r#"{"type":"result","subtype":"success","is_error":false}"#;

    fn at(s: i64) -> OffsetDateTime {
        START + Duration::seconds(s)
    }

    /// What comes of these lines, a second apart.
    fn after(lines: &[&str]) -> Activity {
        let mut activity = Activity::default();
        for (n, line) in lines.iter().enumerate() {
            activity.take(Line::read(Source::Stdout, line.as_bytes(), 0).acts, at(n as i64));
        }
        activity
    }

    fn call(lines: &[&str]) -> Option<(String, String, i64)> {
        let activity = after(lines);
        let call = activity.call()?;
        Some((call.tool.clone(), call.gist.clone(), (call.since - START).whole_seconds()))
    }

    #[test]
    fn a_call_lasts_until_its_answer() {
        let bash = Some(("Bash".to_owned(), "cargo test".to_owned(), 0));
        assert_eq!(call(&[CALL]), bash);
        assert_eq!(call(&[CALL, BACK]), None);
        assert_eq!(call(&[CALL, "plain text"]), bash);
        assert_eq!(call(&[CALL, OTHER]), Some(("Read".to_owned(), "x".to_owned(), 1)));
        assert_eq!(call(&[CALL, OTHER, BACK_B]), bash, "of two at once the other one is done");
        assert_eq!(call(&[]), None);
        let over = after(&[CALL, OTHER]).take(Line::read(Source::Stdout, BACK.as_bytes(), 0).acts, at(9));
        assert_eq!(over.iter().map(|call| call.tool.as_str()).collect::<Vec<_>>(), ["Bash"]);
    }

    #[test]
    fn a_result_ends_it_and_nonsense_is_no_call() {
        let done = after(&[CALL, FAILED, CALL, RESULT]);
        assert_eq!((done.call(), done.same, done.errors), (None, None, None));
        assert_eq!(done.finished_since, Some(at(3)));
        assert_eq!(after(&[RESULT, "plain text"]).finished_since, Some(at(0)), "text is no word of the CLI");
        assert_eq!(after(&[RESULT, SAYS]).finished_since, None, "it goes on");
        let odd = r#"{"type":"assistant","message":{"content":[{"type":"tool_use"}]}}"#;
        assert_eq!(call(&[odd]), Some(("a tool".to_owned(), String::new(), 0)));
        assert_eq!(call(&[r#"{"type":"assistant","message":{"content":"tool_use"}}"#]), None);
        let many = vec![CALL; OPEN_MAX + 3];
        assert_eq!(after(&many).open.len(), OPEN_MAX);
        let nul = CALL.replace("\"a\"", r#""\u0000""#).replace("Bash", r"\u0000");
        let stored = serde_json::to_string(&after(&[nul.as_str()])).unwrap();
        assert!(!stored.contains(r"\u0000"), "Postgres takes no NUL: {stored}");
    }

    #[test]
    fn only_the_same_call_with_the_same_input_is_a_repetition() {
        let times = |lines: &[&str]| after(lines).same.map(|same| (same.times, same.since));
        assert_eq!(times(&[CALL, BACK, SAYS, CALL, BACK, CALL]), Some((3, at(0))));
        assert_eq!(times(&[CALL, BACK, OTHER, BACK_B, CALL]), Some((1, at(4))));
        let with_more = CALL.replace("cargo test", "cargo test\",\"timeout\":\"9");
        assert_eq!(
            times(&[CALL, BACK, &with_more]),
            Some((1, at(2))),
            "the gist alone doesn't make it the same"
        );
    }

    #[test]
    fn errors_are_counted_until_a_tool_does_its_work() {
        let errors = |lines: &[&str]| after(lines).errors.map(|errors| (errors.times, errors.since));
        assert_eq!(errors(&[CALL, FAILED, SAYS, CALL, FAILED]), Some((2, at(1))));
        assert_eq!(errors(&[CALL, FAILED, CALL, BACK]), None);
    }

    #[test]
    fn it_is_rate_limited_until_the_model_speaks() {
        let since = |lines: &[&str]| after(lines).limited_since;
        assert_eq!(since(&[SAYS, RETRY, RETRY]), Some(at(1)));
        assert_eq!(since(&[RETRY, SAYS]), None);
        assert_eq!(since(&[RETRY, r#"{"type":"system","subtype":"thinking_tokens"}"#]), None);
        assert_eq!(since(&[RETRY, &SAYS.replace("claude-x", "<synthetic>")]), Some(at(0)));
        assert_eq!(since(&[r#"{"type":"system","subtype":"api_retry","error_status":500}"#]), None);
        let event = |status: &str| {
            format!(r#"{{"type":"rate_limit_event","rate_limit_info":{{"status":"{status}"}}}}"#)
        };
        assert_eq!(since(&[&event("rejected")]), Some(at(0)));
        assert_eq!(since(&[&event("allowed_warning")]), None);
    }

    #[test]
    fn what_the_cli_really_prints_is_understood() {
        let printed = |sample: &str| {
            let path = format!("{}/tests/samples/{sample}.jsonl", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).unwrap()
        };
        let upto = |sample: &str, n: usize| after(&printed(sample).lines().take(n).collect::<Vec<_>>());
        assert_eq!(upto("limit", 3).limited_since, Some(at(1)));
        assert_eq!(upto("limit", 9).limited_since, None, "it has given up");
        let failed = upto("tool_error", 4);
        assert_eq!((failed.errors.map(|errors| errors.times), failed.call()), (Some(1), None));
        assert!(upto("tool", 3).call().is_some_and(|call| call.gist.starts_with("uname")));
        assert_eq!(upto("loop", 9).same.map(|same| same.times), Some(1), "each step is another call");
    }

    #[test]
    fn a_next_life_goes_on_from_what_was_stored() {
        let stored = serde_json::to_value(after(&[CALL, OTHER, FAILED, RETRY])).unwrap();
        let mut activity: Activity = serde_json::from_value(stored).unwrap();
        activity.take(Line::read(Source::Stdout, BACK_B.as_bytes(), 0).acts, at(9));
        assert_eq!((activity.call(), activity.errors), (None, None));
        assert_eq!(activity.limited_since, Some(at(3)));
        assert_eq!(serde_json::from_str::<Activity>("{}").unwrap(), Activity::default());
    }
}
