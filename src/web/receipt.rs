//! The receipt of an end: wished, delivered, proven, each with its time. What is, what is wanted and what is
//! proven are three things; none of them is told by another.

use time::OffsetDateTime;

use super::show::{self, Moment};
use crate::model::run::{Evidence, Outcome, Run, State, Step, StopMode, StopWish};

/// What a run page shows of a stop, or of what proves an end.
pub(crate) struct Receipt {
    pub(crate) name: &'static str,
    pub(crate) day: String,
    pub(crate) stops: Vec<Stop>,
}

/// One of its steps.
pub(crate) struct Stop {
    pub(crate) mark: Mark,
    pub(crate) tone: &'static str,
    pub(crate) name: &'static str,
    pub(crate) at: Option<Moment>,
    pub(crate) plus: Option<String>,
    pub(crate) text: String,
}

/// Whether a step has come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Done,
    Due,
    NotNeeded,
}

impl Mark {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Due => "due",
            Self::NotNeeded => "moot",
        }
    }
}

impl Receipt {
    /// The receipt, once there is a wish to stop or an end.
    pub(crate) fn of(run: &Run, now: OffsetDateTime) -> Option<Self> {
        let proof = run.evidence.as_ref();
        let Some(stop) = &run.stop else {
            let proof = proof?;
            let day = Moment::new(proof.confirmed_at, now).day();
            return Some(Self { name: "Evidence", day, stops: vec![proven(run, proof, None, now)] });
        };
        let last = match proof {
            Some(proof) => proven(run, proof, Some(stop.at), now),
            None => not_proven(run, stop, now),
        };
        Some(Self {
            name: if proof.is_some() { "Receipt" } else { "Stop unconfirmed" },
            day: Moment::new(stop.at, now).day(),
            stops: vec![wished(stop, now), delivered(run, stop, now), last],
        })
    }
}

fn wished(stop: &StopWish, now: OffsetDateTime) -> Stop {
    let how = match stop.mode {
        StopMode::Graceful => "Stop gracefully",
        StopMode::Force => "Stop by force",
    };
    let why = if stop.reason.is_empty() { ".".to_owned() } else { format!(": “{}”", stop.reason) };
    Stop {
        mark: Mark::Done,
        tone: "calm",
        name: "Wished",
        at: Some(Moment::new(stop.at, now)),
        plus: None,
        text: format!("{how}, by {}{why}", stop.by),
    }
}

fn delivered(run: &Run, stop: &StopWish, now: OffsetDateTime) -> Stop {
    let worker = run.worker.as_deref().unwrap_or("A worker");
    let blank = Stop {
        mark: Mark::Due,
        tone: "",
        name: "Not delivered yet",
        at: None,
        plus: None,
        text: String::new(),
    };
    let nobody =
        |text: String| Stop { mark: Mark::NotNeeded, name: "Not delivered", text, ..blank_of(&blank) };
    match run.progress.delivered_at {
        Some(at) => {
            let gate = match run.progress.egress_cut_at {
                Some(cut) => format!("gate closed at {}.", Moment::new(cut, now).clock_ms()),
                None if run.state.is_over() => "when its gate closed wasn’t noted.".to_owned(),
                None => "its gate isn’t known to be closed yet.".to_owned(),
            };
            Stop {
                mark: Mark::Done,
                tone: "calm",
                name: "Delivered",
                at: Some(Moment::new(at, now)),
                plus: later(stop.at, at),
                text: format!("{worker} took it; {gate}"),
            }
        }
        None if run.evidence.as_ref().is_some_and(|proof| proof.step == Step::NeverStarted) => {
            nobody("No worker had it: there was nobody to tell.".to_owned())
        }
        None if run.state.is_over() => nobody(format!("{worker} didn’t report that it took the wish.")),
        None if run.state == State::Lost => {
            Stop { text: format!("{worker} is silent; it finds the wish when it is back."), ..blank }
        }
        None => {
            Stop { text: format!("On its way to {worker}, which looks every 2 s by itself too."), ..blank }
        }
    }
}

fn blank_of(stop: &Stop) -> Stop {
    Stop { mark: stop.mark, tone: stop.tone, name: stop.name, at: stop.at, plus: None, text: String::new() }
}

fn proven(run: &Run, proof: &Evidence, wished_at: Option<OffsetDateTime>, now: OffsetDateTime) -> Stop {
    let (name, tone, first) = match run.outcome {
        Some(Outcome::Terminated) => ("Proven", "go", ""),
        Some(Outcome::TimedOut) => ("Its time limit ended it", "wait", ""),
        Some(Outcome::OverBudget) => ("Its budget ended it", "wait", ""),
        _ if wished_at.is_some() => {
            ("It ended by itself first", "wait", "The stop came too late, so it keeps its own outcome. ")
        }
        _ => ("It ended by itself", "go", ""),
    };
    Stop {
        mark: Mark::Done,
        tone,
        name,
        at: Some(Moment::new(proof.confirmed_at, now)),
        plus: wished_at.and_then(|wished| later(wished, proof.confirmed_at)),
        text: format!("{first}{}", words(proof)),
    }
}

/// The engine's word, as a sentence.
fn words(proof: &Evidence) -> String {
    let container = proof.container.as_deref().map(show::short);
    let code = match (proof.exit_code, proof.signal()) {
        (Some(code), Some(signal)) => format!("exited {code}, {signal}"),
        (Some(code), None) => format!("exited {code}"),
        (None, _) => "is gone; its exit code isn’t known".to_owned(),
    };
    let rung = match proof.step {
        Step::NeverStarted => return "It never had a container.".to_owned(),
        Step::Absent => {
            return match container {
                Some(container) => format!("The engine has no container {container}."),
                None => "The engine has no container of this run.".to_owned(),
            };
        }
        Step::ByItself => "by itself",
        Step::Sigint => "after SIGINT",
        Step::Sigterm => "after SIGTERM",
        Step::Sigkill => "after SIGKILL",
        Step::HostKill => "after the host’s own SIGKILL",
    };
    let container = container.map_or_else(|| "Its container".to_owned(), |id| format!("Container {id}"));
    // An exit by the signal that was sent says it already.
    let rung = if proof.signal().is_some_and(|signal| rung.ends_with(signal)) {
        String::new()
    } else {
        format!(", {rung}")
    };
    format!("{container} {code}{rung}; confirmed by the engine.")
}

fn not_proven(run: &Run, stop: &StopWish, now: OffsetDateTime) -> Stop {
    let progress = &run.progress;
    let mut text = Vec::new();
    if let Some(step) = progress.step {
        let what = match step {
            Step::Sigint => "SIGINT sent",
            Step::Sigterm => "SIGTERM sent",
            Step::Sigkill | Step::HostKill => "SIGKILL sent",
            Step::Absent => "No container found",
            Step::NeverStarted | Step::ByItself => "Looked",
        };
        text.push(match progress.step_at {
            Some(at) => format!("{what} {}.", Moment::new(at, now).ago()),
            None => format!("{what}."),
        });
    } else if progress.delivered_at.is_some() {
        text.push("No step of the ladder was tried yet.".to_owned());
    }
    text.extend(progress.trouble.clone());
    if let Some(next) = progress.next_at {
        let wait = Moment::new(now, next).age();
        text.push(match wait.as_secs() {
            0 => "The next attempt is due.".to_owned(),
            _ => format!("Next attempt in {}, at {}.", show::span(wait), Moment::new(next, now).clock()),
        });
    }
    if text.is_empty() {
        text.push("The engine’s word isn’t in yet.".to_owned());
    }
    Stop {
        mark: Mark::Due,
        tone: "bad",
        name: "Not proven",
        at: None,
        plus: Some(format!("for {}", show::span(Moment::new(stop.at, now).age()))),
        text: text.join(" "),
    }
}

/// How much later; none when the worker's clock and Postgres's disagree about the order.
fn later(from: OffsetDateTime, to: OffsetDateTime) -> Option<String> {
    std::time::Duration::try_from(to - from).ok().map(|gap| format!("+ {}", show::span(gap)))
}
