//! The receipt of an end: wished, delivered, proven, each with its time. What is, what is wanted and what is
//! proven are three things; none of them is told by another.

mod proof;

use time::OffsetDateTime;

use super::show::{self, Moment, Words};
use crate::model::run::{Run, State, Step, StopMode};
use crate::model::wish::StopWish;
use crate::model::work::SavedWork;
use proof::{not_proven, proven};

/// What a run page shows of a stop, or of what proves an end.
pub(crate) struct Receipt {
    pub(crate) name: &'static str,
    /// Its first day.
    pub(crate) since: Moment,
    pub(crate) stops: Vec<Stop>,
}

/// One of its steps.
pub(crate) struct Stop {
    pub(crate) mark: Mark,
    pub(crate) tone: &'static str,
    pub(crate) name: &'static str,
    pub(crate) at: Option<Moment>,
    pub(crate) plus: Option<String>,
    /// A sentence or more, each on a line of its own.
    pub(crate) lines: Vec<Words>,
    /// Where there is more.
    pub(crate) link: Option<(&'static str, String)>,
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

impl Stop {
    fn new(mark: Mark, tone: &'static str, name: &'static str) -> Self {
        Self { mark, tone, name, at: None, plus: None, lines: Vec::new(), link: None }
    }

    fn says(self, line: impl Into<Words>) -> Self {
        let mut lines = self.lines;
        lines.push(line.into());
        Self { lines, ..self }
    }
}

impl Receipt {
    /// The receipt, once there is a wish to stop or an end.
    pub(crate) fn of(run: &Run, now: OffsetDateTime) -> Option<Self> {
        let proof = run.evidence.as_ref();
        let Some(stop) = &run.stop else {
            let proof = proof?;
            let since = Moment::new(proof.confirmed_at, now);
            return Some(Self { name: "Evidence", since, stops: vec![proven(run, proof, None, now)] });
        };
        let last = match proof {
            Some(proof) => proven(run, proof, Some(stop.at), now),
            None => not_proven(run, stop, now),
        };
        let wishes: Vec<&StopWish> = run.earlier.iter().chain([stop]).collect();
        let mut stops = Vec::new();
        for (n, wish) in wishes.iter().enumerate() {
            stops.push(wished(wish, now));
            stops.push(match wishes.get(n + 1) {
                Some(next) => overtaken(run, wish, next, now),
                None => delivered(run, wish, now),
            });
        }
        let saves = wishes.iter().find(|wish| wish.save);
        stops.extend(saves.and_then(|wish| saved(run, wish, now)));
        stops.push(last);
        Some(Self {
            name: if proof.is_some() { "Receipt" } else { "Stop unconfirmed" },
            since: Moment::new(wishes.first().map_or(stop.at, |first| first.at), now),
            stops,
        })
    }
}

fn wished(stop: &StopWish, now: OffsetDateTime) -> Stop {
    let how = match stop.mode {
        StopMode::Graceful => "Stop gracefully",
        StopMode::Force => "Stop by force",
    };
    let why = if stop.reason.is_empty() { ".".to_owned() } else { format!(": “{}”", stop.reason) };
    let from = stop.device.as_ref().map(|device| format!(", from {device}")).unwrap_or_default();
    Stop { at: Some(Moment::new(stop.at, now)), ..Stop::new(Mark::Done, "calm", "Wished") }
        .says(format!("{how}, by {}{from}{why}", stop.by))
}

/// What was delivered of a wish that a heavier one took the place of.
fn overtaken(run: &Run, wish: &StopWish, next: &StopWish, now: OffsetDateTime) -> Stop {
    let nobody = |name, text: &str| Stop::new(Mark::NotNeeded, "", name).says(text);
    match wish.delivered_at {
        None => nobody("Not delivered", "The next wish took its place."),
        at if at == next.delivered_at => nobody("Delivered with the next", "It was heard of only then."),
        Some(at) => {
            let cut = run.progress.egress_cut_at.filter(|cut| *cut < next.at);
            let step = took(run, wish, at, now);
            if cut.is_some() { step.says(egress(run, now)) } else { step }
        }
    }
}

fn took(run: &Run, wish: &StopWish, at: OffsetDateTime, now: OffsetDateTime) -> Stop {
    let worker = wish.delivered_to.as_deref().or(run.worker.as_deref()).unwrap_or("A worker");
    let step = Stop {
        at: Some(Moment::new(at, now)),
        plus: later(wish.at, at),
        ..Stop::new(Mark::Done, "calm", "Delivered")
    };
    let step = step.says(format!("{worker} took it."));
    if at < wish.at { step.says("By the worker’s own clock, which is behind.") } else { step }
}

fn egress(run: &Run, now: OffsetDateTime) -> Words {
    match run.progress.egress_cut_at {
        Some(cut) => Words::around("Egress cut at ", Moment::new(cut, now), "."),
        None if run.state.is_over() => "When its egress was cut wasn’t noted.".into(),
        None => "Its egress isn’t known to be cut yet.".into(),
    }
}

fn delivered(run: &Run, stop: &StopWish, now: OffsetDateTime) -> Stop {
    let worker = run.worker.as_deref().unwrap_or("A worker");
    let nobody = |text: String| Stop::new(Mark::NotNeeded, "", "Not delivered").says(text);
    let due = |text: String| Stop::new(Mark::Due, "", "Not delivered yet").says(text);
    match stop.delivered_at {
        Some(at) => {
            // Where an earlier wish had it cut, that is said there.
            let told = run.earlier.iter().any(|wish| wish.delivered_at.is_some_and(|taken| taken < at))
                && run.progress.egress_cut_at.is_some_and(|cut| cut < stop.at);
            let step = took(run, stop, at, now);
            if told { step } else { step.says(egress(run, now)) }
        }
        None if run.evidence.as_ref().is_some_and(|proof| proof.step == Step::NeverStarted) => {
            nobody("No worker had it: there was nobody to tell.".to_owned())
        }
        None if run.state.is_over() => nobody(format!("{worker} didn’t report that it took the wish.")),
        None if run.state == State::Lost => {
            due(format!("{worker} is silent; it finds the wish when it is back."))
        }
        None => due(format!("On its way to {worker}, which looks every 2 s by itself too.")),
    }
}

/// What became of the work, where that was asked.
fn saved(run: &Run, stop: &StopWish, now: OffsetDateTime) -> Option<Stop> {
    let nothing = |text: &str| Stop::new(Mark::NotNeeded, "wait", "Work not saved").says(text);
    let step = match &run.saved {
        Some(saved) => kept(run, saved, stop, now),
        None if !stop.save => return None,
        None if run.evidence.as_ref().is_some_and(|proof| proof.step == Step::NeverStarted) => {
            nothing("It never started, so there was none.")
        }
        None if !run.is_saving() => nothing("No word of it came from its worker."),
        None if run.state == State::Lost => Stop::new(Mark::Due, "", "Work not saved")
            .says("Its worker is silent; what it saved isn’t known."),
        None if run.delivered_at().is_none() => {
            Stop::new(Mark::Due, "", "Work not saved yet").says("It is saved before the first signal.")
        }
        None => {
            let latest = run.progress.next_at.map(|next| {
                let next = Moment::new(next, now);
                Words::around("The first signal is sent by ", next, " at the latest.")
            });
            let step = Stop::new(Mark::Due, "calm", "Saving the work");
            latest.into_iter().fold(step, Stop::says)
        }
    };
    Some(step)
}

fn kept(run: &Run, saved: &SavedWork, stop: &StopWish, now: OffsetDateTime) -> Stop {
    let some = saved.bytes > 0;
    let (tone, name, what) = match (some, &saved.trouble) {
        (true, None) => ("calm", "Work saved", None),
        (true, Some(_)) => ("wait", "Work saved in part", None),
        (false, None) => ("calm", "No work to save", Some("Nothing was uncommitted or unpushed.".to_owned())),
        (false, Some(_)) => ("wait", "Work not saved", None),
    };
    let of =
        |n: i64, one: &str, many: &str| format!("{} {}", show::count(n), if n == 1 { one } else { many });
    let files = some.then(|| {
        let commits = of(saved.unpushed, "unpushed commit", "unpushed commits");
        let with = if saved.unpushed > 0 { format!(" with {commits}") } else { String::new() };
        format!("{} changed{with}; {}.", of(saved.files, "file", "files"), show::size(saved.bytes))
    });
    let step = Stop {
        at: Some(Moment::new(saved.at, now)),
        plus: later(stop.at, saved.at),
        link: some.then(|| ("Download the patch", format!("/runs/{}/work.patch", run.id))),
        ..Stop::new(Mark::Done, tone, name)
    };
    [files, what, saved.trouble.clone()].into_iter().flatten().fold(step, Stop::says)
}

/// How much later; none when the worker's clock and Postgres's disagree about the order.
fn later(from: OffsetDateTime, to: OffsetDateTime) -> Option<String> {
    std::time::Duration::try_from(to - from).ok().map(|gap| format!("+ {}", show::span(gap)))
}
