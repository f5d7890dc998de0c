//! Scenarios as files: what they may hold, and the shelf they are taken from.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use rust_embed::Embed;
use serde::Deserialize;
use serde_json::Value;

/// What the model does, turn by turn, in one conversation.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// One sentence for the reader of the file.
    #[serde(rename = "about")]
    _about: String,
    /// The names a prompt may set, with their defaults.
    #[serde(default)]
    pub params: BTreeMap<String, Scalar>,
    /// One entry a reply; the last one answers whatever comes after it.
    pub turns: Vec<Turn>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Turn {
    /// For how many replies in a row this turn serves.
    #[serde(default = "one")]
    pub times: Scalar,
    pub steps: Vec<Step>,
}

/// One thing that happens while a reply is streamed.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Step {
    /// A block of visible text.
    Text(Telling),
    /// A block of thinking.
    Think(Telling),
    /// A tool call; the turn then waits for its result.
    Tool { name: String, input: Value },
    /// Keep-alives, as the real API sends them while nothing else is ready.
    Ping { times: Scalar, pace_ms: Scalar },
    /// Silence.
    Pause { ms: Scalar },
    /// An error in place of a reply; only as a turn's first step.
    Error { status: u16, kind: String, message: String, retry_after_s: Option<Scalar> },
    /// What the reply says it stopped for, when it isn't the usual reason.
    Stop { reason: String, details: Option<Value> },
    /// The connection breaks here.
    Cut,
}

/// Words, and how fast they come.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Telling {
    pub say: Words,
    /// How often the words are said over in the same block.
    #[serde(default = "one")]
    pub times: Scalar,
    /// Characters an event.
    #[serde(default = "chunk")]
    pub chunk: Scalar,
    /// Milliseconds between two events.
    #[serde(default = "pace")]
    pub pace_ms: Scalar,
}

/// One wording, or several to take in turn.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Words {
    One(String),
    Several(Vec<String>),
}

/// A number, or a text that may name parameters (`"{steps}"`).
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Scalar {
    Number(u64),
    Text(String),
}

fn one() -> Scalar {
    Scalar::Number(1)
}

fn chunk() -> Scalar {
    Scalar::Number(24)
}

fn pace() -> Scalar {
    Scalar::Number(15)
}

#[derive(Embed)]
#[folder = "tests/standin/scenarios"]
struct BuiltIn;

/// Every scenario by name, all of them read and checked before the first request.
#[derive(Clone)]
pub(crate) struct Shelf(BTreeMap<String, Scenario>);

impl Shelf {
    /// The built-in scenarios, and over them those of `folder`.
    pub(crate) fn open(folder: Option<&Path>) -> anyhow::Result<Self> {
        let mut shelf = Self(BTreeMap::new());
        for file in BuiltIn::iter() {
            let content = BuiltIn::get(&file).context("an embedded file is missing")?;
            shelf.put(Path::new(file.as_ref()), &content.data)?;
        }
        for entry in folder.map(fs::read_dir).transpose()?.into_iter().flatten() {
            let path = entry?.path();
            shelf.put(&path, &fs::read(&path)?)?;
        }
        Ok(shelf)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Scenario> {
        self.0.get(name)
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    fn put(&mut self, path: &Path, content: &[u8]) -> anyhow::Result<()> {
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")) else {
            return Ok(());
        };
        let scenario: Scenario =
            serde_json::from_slice(content).with_context(|| format!("scenario {name}"))?;
        if scenario.turns.is_empty() {
            bail!("scenario {name} has no turns");
        }
        self.0.insert(name.to_owned(), scenario);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_promised_scenario_is_on_the_shelf() {
        let shelf = Shelf::open(None).unwrap();
        for name in ["answer", "tool", "think", "loop", "flood", "stubborn", "limit", "refuse", "cut"] {
            assert!(shelf.get(name).is_some(), "{name} is missing from {:?}", shelf.names());
        }
    }

    #[test]
    fn a_misspelt_step_is_refused_by_name() {
        let content = br#"{"about": "x", "turns": [{"steps": [{"tolo": {}}]}]}"#;
        let error = Shelf(BTreeMap::new()).put(Path::new("odd.json"), content).unwrap_err();
        assert!(format!("{error:#}").contains("tolo"), "{error:#}");
    }
}
