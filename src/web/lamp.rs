//! The lamp of a run: a shape, a tone and a word, so that colour never speaks alone.

use crate::model::run::{Outcome, Run, RunLine, State};
use crate::model::worker::Worker;

/// What a lamp shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lamp {
    /// The symbol in `templates/_sprite.html`.
    pub(crate) shape: &'static str,
    /// The class that colours it.
    pub(crate) tone: &'static str,
    /// What it says: what is, or what is proven to have been.
    pub(crate) word: &'static str,
    /// Which of the two.
    pub(crate) axis: Axis,
    /// What is wished or delivered and isn't proven: another axis, and never one word with the first.
    pub(crate) beside: Option<(Axis, &'static str)>,
    /// Whether a human is needed.
    pub(crate) alarm: bool,
}

/// What a status speaks of: what somebody wished, what a worker took, what the engine has confirmed, or what is as far as a
/// worker has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Axis {
    Is,
    Wished,
    Delivered,
    Proven,
}

impl Axis {
    /// The axis of a stop that isn't proven.
    pub(crate) fn of_stop(delivered: bool) -> Self {
        if delivered { Self::Delivered } else { Self::Wished }
    }

    /// The word before a status.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Is => "is",
            Self::Wished => "wished",
            Self::Delivered => "delivered",
            Self::Proven => "proven",
        }
    }
}

/// A stop that is wished and not proven has a shape and a tone of its own, beside the lamp.
pub(crate) const UNCONFIRMED: Sign = Sign { shape: "unconfirmed", tone: "unsure", word: "Stop unconfirmed" };

impl Lamp {
    /// A run that lives and gets nowhere; how long it is so stands beside the word.
    pub(crate) const STUCK: Self =
        Self { shape: "stuck", tone: "wait", word: "Stuck", axis: Axis::Is, beside: None, alarm: true };

    /// The lamp of a run in a list.
    pub(crate) fn of_line(line: &RunLine) -> Self {
        let stop = line.is_unconfirmed().then(|| Axis::of_stop(line.delivered_at.is_some()));
        Self::of(line.state, line.outcome, stop)
    }

    /// The lamp of a run that is shown whole.
    pub(crate) fn of_run(run: &Run) -> Self {
        let stop = run.is_unconfirmed().then(|| Axis::of_stop(run.delivered_at().is_some()));
        Self::of(run.state, run.outcome, stop)
    }

    /// The lamp of a run; `stop` is how far a stop has come that isn't proven.
    pub(crate) fn of(state: State, outcome: Option<Outcome>, stop: Option<Axis>) -> Self {
        let axis = if state.is_over() { Axis::Proven } else { Axis::Is };
        let lamp = |shape, tone, word| Self { shape, tone, word, axis, beside: None, alarm: false };
        let what_is = match (state, outcome) {
            (State::Queued, _) => lamp("queued", "calm", "Queued"),
            (State::Starting, _) => lamp("starting", "calm", "Starting"),
            (State::Running, _) => lamp("running", "go", "Running"),
            (State::Lost, _) => Self { alarm: true, ..lamp("lost", "lost", "Lost") },
            (State::Ended, Some(Outcome::Succeeded)) => lamp("succeeded", "off", "Succeeded"),
            (State::Ended, Some(Outcome::Terminated)) => lamp("terminated", "off", "Terminated"),
            (State::Ended, Some(Outcome::TimedOut)) => lamp("timed_out", "wait", "Timed out"),
            (State::Ended, Some(Outcome::OverBudget)) => lamp("over_budget", "wait", "Over budget"),
            (State::Ended, Some(Outcome::Failed) | None) => lamp("failed", "bad", "Failed"),
        };
        match stop {
            Some(axis) => Self { beside: Some((axis, "stop unconfirmed")), alarm: true, ..what_is },
            None => what_is,
        }
    }

    /// The tone of what needs a human, else of what is.
    pub(crate) fn mood(&self) -> &'static str {
        if self.beside.is_some() { UNCONFIRMED.tone } else { self.tone }
    }

    /// What a title says first.
    pub(crate) fn headline(&self) -> &'static str {
        if self.beside.is_some() { UNCONFIRMED.word } else { self.word }
    }
}

/// The lamp of a part: a worker, a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sign {
    /// The symbol in `templates/_sprite.html`.
    pub(crate) shape: &'static str,
    /// The class that colours it.
    pub(crate) tone: &'static str,
    /// What it says.
    pub(crate) word: &'static str,
}

impl Sign {
    /// It answers.
    pub(crate) const ALIVE: Self = Self { shape: "running", tone: "go", word: "Alive" };
    /// It doesn't.
    pub(crate) const DEAD: Self = Self { shape: "failed", tone: "bad", word: "Dead" };
    /// It answers, but a human should look.
    pub(crate) const TROUBLE: Self = Self { shape: "lost", tone: "wait", word: "Trouble" };
    /// It was alive less than a day ago.
    pub(crate) const SILENT: Self = Self { shape: "lost", tone: "wait", word: "Silent" };
    /// It finishes what it runs, and takes nothing.
    pub(crate) const DRAINED: Self = Self { shape: "over_budget", tone: "bad", word: "Drained" };
    /// It hasn't been heard of for a day, and holds nothing.
    pub(crate) const GONE: Self = Self { shape: "terminated", tone: "off", word: "Gone" };

    /// What a worker's last words say.
    pub(crate) fn of_worker(worker: &Worker) -> Self {
        const DAY_S: f64 = 86_400.0;
        match worker {
            worker if worker.is_alive() && worker.facts.engine_ok && worker.drained.is_some() => {
                Self::DRAINED
            }
            worker if worker.is_alive() && worker.facts.engine_ok => Self::ALIVE,
            worker if worker.is_alive() => Self::TROUBLE,
            worker if worker.holds > 0 || worker.silent_s < DAY_S => Self::SILENT,
            _ => Self::GONE,
        }
    }
}
