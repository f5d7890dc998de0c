//! A scenario's turn with every parameter filled in: plain steps, ready to be told.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::conversation::Standing;
use crate::scenario::{Scalar, Scenario, Step, Telling, Turn, Words};

/// A step with its amounts known.
#[derive(Debug, PartialEq)]
pub(crate) enum Cue {
    Text(Speech),
    Think(Speech),
    Tool { name: String, input: Value },
    Ping { times: u64, pace: Duration },
    Pause(Duration),
    Error { status: u16, kind: String, message: String, retry_after_s: Option<u64> },
    Stop { reason: String, details: Option<Value> },
    Cut,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Speech {
    pub words: String,
    pub times: u64,
    pub chunk: usize,
    pub pace: Duration,
}

impl Speech {
    /// Said at once, in one event.
    pub(crate) fn plain(words: String) -> Self {
        Self { words, times: 1, chunk: usize::MAX, pace: Duration::ZERO }
    }
}

/// The cues of the reply that is due now; an error says which amount made no sense.
pub(crate) fn cues(scenario: &Scenario, standing: &Standing) -> Result<Vec<Cue>, String> {
    let filler = Filler::new(scenario, standing);
    let turn = due(&scenario.turns, standing.results as u64, &filler)?;
    turn.steps.iter().map(|step| filler.cue(step)).collect()
}

fn due<'a>(turns: &'a [Turn], results: u64, filler: &Filler) -> Result<&'a Turn, String> {
    let mut passed = 0_u64;
    for turn in turns {
        passed = passed.saturating_add(filler.amount(&turn.times)?);
        if results < passed {
            return Ok(turn);
        }
    }
    turns.last().ok_or_else(|| "the scenario has no turns".to_owned())
}

struct Filler {
    values: BTreeMap<String, String>,
    step: usize,
}

impl Filler {
    /// Settings of names the scenario doesn't declare are ignored: a prompt may hold any line.
    fn new(scenario: &Scenario, standing: &Standing) -> Self {
        let mut values: BTreeMap<String, String> =
            scenario.params.iter().map(|(name, default)| (name.clone(), default.text())).collect();
        for (name, value) in &standing.settings {
            if let Some(slot) = values.get_mut(name) {
                slot.clone_from(value);
            }
        }
        let seconds: Vec<_> = values.iter().filter_map(in_seconds).collect();
        values.extend(seconds);
        let step = standing.results + 1;
        values.insert("step".to_owned(), step.to_string());
        Self { values, step }
    }

    fn cue(&self, step: &Step) -> Result<Cue, String> {
        Ok(match step {
            Step::Text(telling) => Cue::Text(self.speech(telling)?),
            Step::Think(telling) => Cue::Think(self.speech(telling)?),
            Step::Tool { name, input } => Cue::Tool { name: name.clone(), input: self.value(input) },
            Step::Ping { times, pace_ms } => {
                Cue::Ping { times: self.amount(times)?, pace: self.duration(pace_ms)? }
            }
            Step::Pause { ms } => Cue::Pause(self.duration(ms)?),
            Step::Error { status, kind, message, retry_after_s } => Cue::Error {
                status: *status,
                kind: kind.clone(),
                message: self.text(message),
                retry_after_s: retry_after_s.as_ref().map(|s| self.amount(s)).transpose()?,
            },
            Step::Stop { reason, details } => Cue::Stop { reason: reason.clone(), details: details.clone() },
            Step::Cut => Cue::Cut,
        })
    }

    fn speech(&self, telling: &Telling) -> Result<Speech, String> {
        let words = match &telling.say {
            Words::One(words) => words.as_str(),
            Words::Several(wordings) => {
                wordings.get((self.step - 1) % wordings.len().max(1)).map_or("", String::as_str)
            }
        };
        Ok(Speech {
            words: self.text(words),
            times: self.amount(&telling.times)?,
            chunk: usize::try_from(self.amount(&telling.chunk)?).unwrap_or(usize::MAX).max(1),
            pace: self.duration(&telling.pace_ms)?,
        })
    }

    fn amount(&self, scalar: &Scalar) -> Result<u64, String> {
        match scalar {
            Scalar::Number(number) => Ok(*number),
            Scalar::Text(text) => {
                let filled = self.text(text);
                filled.parse().map_err(|_| format!("`{filled}` (from `{text}`) is not a whole number"))
            }
        }
    }

    fn duration(&self, milliseconds: &Scalar) -> Result<Duration, String> {
        self.amount(milliseconds).map(Duration::from_millis)
    }

    fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => {
                // A text that is one parameter may stand for a number, as a tool's timeout does.
                let filled = self.text(text);
                match filled.parse::<u64>() {
                    Ok(number) if filled != *text => number.into(),
                    _ => filled.into(),
                }
            }
            Value::Object(map) => map.iter().map(|(name, inner)| (name.clone(), self.value(inner))).collect(),
            other => other.clone(),
        }
    }

    /// Only names that are known are replaced, so a shell's own braces stay as they are.
    fn text(&self, text: &str) -> String {
        self.values
            .iter()
            .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
    }
}

fn in_seconds((name, value): (&String, &String)) -> Option<(String, String)> {
    let milliseconds: u32 = value.parse().ok()?;
    Some((format!("{}_s", name.strip_suffix("_ms")?), (f64::from(milliseconds) / 1000.0).to_string()))
}

impl Scalar {
    fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Shelf;

    fn cue_of(settings: &[(&str, &str)], results: usize) -> Vec<Cue> {
        let shelf = Shelf::open(None).unwrap();
        let settings = settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let standing =
            Standing { scenario: "loop".to_owned(), settings, results, messages: 1, asked: Vec::new() };
        cues(shelf.get("loop").unwrap(), &standing).unwrap()
    }

    fn calls_a_tool(cues: &[Cue]) -> bool {
        cues.iter().any(|cue| matches!(cue, Cue::Tool { .. }))
    }

    #[test]
    fn a_loop_ends_after_the_steps_the_prompt_asked_for() {
        let settings = [("steps", "3"), ("pause_ms", "100")];
        assert!(calls_a_tool(&cue_of(&settings, 2)));
        assert!(!calls_a_tool(&cue_of(&settings, 3)));
    }

    #[test]
    fn milliseconds_are_offered_to_the_shell_in_seconds() {
        let said = format!("{:?}", cue_of(&[("pause_ms", "100")], 4));
        assert!(said.contains("sleep 0.1") && said.contains("step 5"), "{said}");
    }
}
