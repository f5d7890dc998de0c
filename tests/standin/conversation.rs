//! What a request tells: which scenario it wants, with which parameters, and how far it has come.

use serde::Deserialize;
use serde_json::Value;

/// The parts of a Messages API request that the stand-in looks at.
#[derive(Deserialize)]
pub(crate) struct Request {
    #[serde(default)]
    pub model: String,
    #[serde(default)]
    pub stream: bool,
    #[serde(default)]
    messages: Vec<Message>,
    #[serde(default)]
    tools: Vec<Tool>,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: Content,
}

#[derive(Deserialize)]
struct Tool {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Plain(String),
    Blocks(Vec<Value>),
}

/// Where a conversation stands. All of it is read from the request, so the stand-in
/// remembers nothing, and a conversation goes on after the stand-in was restarted.
#[derive(Debug, PartialEq)]
pub(crate) struct Standing {
    pub scenario: String,
    /// `name: value` lines that stand with the scenario's.
    pub settings: Vec<(String, String)>,
    /// Tool results since the scenario was named.
    pub results: usize,
    /// Messages in all; tells tool calls of one conversation apart.
    pub messages: usize,
    /// The user's texts, before there is a tool result.
    pub asked: Vec<String>,
}

impl Request {
    /// The last scenario named by the user counts; without one it is `answer`.
    pub(crate) fn standing(&self) -> Standing {
        let mut standing = Standing {
            scenario: "answer".to_owned(),
            settings: Vec::new(),
            results: 0,
            messages: self.messages.len(),
            asked: Vec::new(),
        };
        for message in self.messages.iter().filter(|message| message.role == "user") {
            for text in message.texts() {
                if let Some((scenario, settings)) = directions(text) {
                    (standing.scenario, standing.settings) = (scenario, settings);
                    standing.results = 0;
                }
            }
            standing.results += message.results();
            if standing.results == 0 {
                standing.asked.extend(message.texts().into_iter().map(str::to_owned));
            }
        }
        if standing.results > 0 {
            standing.asked.clear();
        }
        standing
    }

    pub(crate) fn offers(&self, tool: &str) -> bool {
        self.tools.iter().any(|offered| offered.name == tool)
    }
}

impl Message {
    fn texts(&self) -> Vec<&str> {
        match &self.content {
            Content::Plain(text) => vec![text],
            Content::Blocks(blocks) => {
                blocks.iter().filter_map(|block| block.get("text")?.as_str()).collect()
            }
        }
    }

    fn results(&self) -> usize {
        match &self.content {
            Content::Plain(_) => 0,
            Content::Blocks(blocks) => blocks.iter().filter(|block| block["type"] == "tool_result").count(),
        }
    }
}

fn directions(text: &str) -> Option<(String, Vec<(String, String)>)> {
    let settings: Vec<_> = text.lines().filter_map(setting).collect();
    // A phone's keyboard likes capitals.
    let scenario = settings.iter().find(|(name, _)| name == "scenario")?.1.to_lowercase();
    Some((scenario, settings))
}

fn setting(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let name = name.trim().to_lowercase();
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    plain.then(|| (name, value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn standing(messages: Value) -> Standing {
        serde_json::from_value::<Request>(json!({ "messages": messages })).unwrap().standing()
    }

    #[test]
    fn a_prompt_without_directions_gets_an_answer() {
        let standing = standing(json!([{ "role": "user", "content": "Note: what is a lease?" }]));
        assert_eq!(standing.scenario, "answer");
    }

    #[test]
    fn the_scenario_is_found_behind_reminders_with_its_settings() {
        let standing = standing(json!([
            { "role": "user", "content": [
                { "type": "text", "text": "<system-reminder>\nbe kind\n</system-reminder>" },
                { "type": "text", "text": "Please go.\nScenario: Loop\nsteps: 5" } ] },
            { "role": "system", "content": [{ "type": "text", "text": "scenario: cut" }] }
        ]));
        assert_eq!(standing.scenario, "loop");
        assert!(standing.settings.contains(&("steps".to_owned(), "5".to_owned())));
    }

    #[test]
    fn progress_is_the_number_of_tool_results_whatever_they_say() {
        let result = json!({ "type": "tool_result", "tool_use_id": "t", "content": "scenario: cut" });
        let standing = standing(json!([
            { "role": "user", "content": "scenario: tool" },
            { "role": "assistant", "content": [{ "type": "tool_use", "id": "t" }] },
            { "role": "user", "content": [result] }
        ]));
        assert_eq!((standing.scenario.as_str(), standing.results), ("tool", 1));
    }
}
