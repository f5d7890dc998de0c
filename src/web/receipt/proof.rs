//! The last step of a receipt: what the engine and the host have said, or why they haven't yet.

use std::time::Duration;

use time::OffsetDateTime;

use super::{Mark, Stop, later};
use crate::model::run::{Cgroup, Evidence, Outcome, Run, Step};
use crate::model::wish::StopWish;
use crate::web::show::{self, Moment, Words};

pub(super) fn proven(
    run: &Run,
    proof: &Evidence,
    wished_at: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> Stop {
    let (name, tone, first) = match run.outcome {
        Some(Outcome::Terminated) => ("Proven", "go", ""),
        Some(Outcome::TimedOut) => ("Its time limit ended it", "wait", ""),
        Some(Outcome::OverBudget) => ("Its budget ended it", "wait", ""),
        _ if proof.step.is_a_kill() => ("Its worker stopped it", "wait", ""),
        _ if wished_at.is_some() && run.progress.step.is_some() => (
            "It ended meanwhile",
            "wait",
            "No signal of the stop is behind it, so it keeps its own outcome. ",
        ),
        _ if wished_at.is_some() => {
            ("It ended by itself first", "wait", "The stop came too late, so it keeps its own outcome. ")
        }
        _ => ("It ended by itself", "go", ""),
    };
    let step = Stop {
        at: Some(Moment::new(proof.confirmed_at, now)),
        plus: wished_at.and_then(|wished| later(wished, proof.confirmed_at)),
        ..Stop::new(Mark::Done, tone, name)
    };
    let engines = Words::from(format!("{first}{}", engines_word(proof)));
    let lines = [Some(engines), hosts_word(run, now), run.trouble.clone().map(Words::from)];
    lines.into_iter().flatten().fold(step, Stop::says)
}

/// The engine's word, as a sentence.
fn engines_word(proof: &Evidence) -> String {
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
        Step::HostKill => "after the host’s own kill",
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

/// The host's, where it has one.
fn hosts_word(run: &Run, now: OffsetDateTime) -> Option<Words> {
    let killed = run.progress.host_killed_at;
    let killed = killed.map(|at| Words::around("The host killed it itself at ", Moment::new(at, now), "."));
    let cgroup = run.evidence.as_ref().and_then(|proof| proof.cgroup).map(|cgroup| match cgroup {
        Cgroup::Empty => "The host sees no process left in its control group.",
        Cgroup::Gone => "The host sees that its control group is gone, and every process with it.",
        Cgroup::Unseen => "The host itself couldn’t look.",
    });
    match (killed, cgroup) {
        (Some(killed), Some(cgroup)) => Some(killed.and(cgroup)),
        (killed, cgroup) => killed.or_else(|| cgroup.map(Words::from)),
    }
}

pub(super) fn not_proven(run: &Run, stop: &StopWish, now: OffsetDateTime) -> Stop {
    let progress = &run.progress;
    let mut lines: Vec<Words> = Vec::new();
    lines.extend(progress.trouble.clone().map(Words::from));
    if let Some(step) = progress.step {
        let what = match step {
            Step::Sigint => "SIGINT sent",
            Step::Sigterm => "SIGTERM sent",
            Step::Sigkill => "SIGKILL sent",
            Step::HostKill => "The host’s own kill tried",
            Step::Absent => "No container found",
            Step::NeverStarted | Step::ByItself => "Looked",
        };
        lines.push(match progress.step_at.map(|at| Moment::new(at, now)) {
            Some(at) => Words::around(format!("Last attempt: {what} at "), at, format!(", {}.", at.ago())),
            None => format!("Last attempt: {what}.").into(),
        });
    } else if run.delivered_at().is_some() && !run.is_saving() {
        lines.push("No step of the ladder was tried yet.".into());
    }
    lines.extend(hosts_word(run, now));
    if let Some(next) = progress.next_at.filter(|_| !run.is_saving()) {
        lines.push(next_attempt(next, now));
    }
    if lines.is_empty() {
        lines.push("The engine’s word isn’t in yet.".into());
    }
    Stop {
        plus: Some(format!("for {}", show::span(Moment::new(stop.at, now).age()))),
        lines,
        ..Stop::new(Mark::Due, "unsure", "Not proven")
    }
}

/// After this, what was due is late, and said to be.
const LATE: Duration = Duration::from_secs(5);

fn next_attempt(next: OffsetDateTime, now: OffsetDateTime) -> Words {
    let (due, wait) = (Moment::new(next, now), Moment::new(now, next).age());
    if wait.as_secs() > 0 {
        Words::around_lately(format!("Next attempt: in {}, at ", show::span(wait)), due, ".")
    } else if due.age() > LATE {
        Words::around_lately("The next attempt was due at ", due, format!(", {}.", due.ago()))
    } else {
        "Next attempt: now.".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_attempt_is_ahead_or_now_or_late_and_has_its_day_where_that_is_another() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(23 * 3600);
        let said = |next: OffsetDateTime| next_attempt(next, now).to_string();
        assert_eq!(said(now + Duration::from_secs(60)), "Next attempt: in 1 min, at 23:01:00 UTC.");
        assert_eq!(
            said(now + Duration::from_secs(7200)),
            "Next attempt: in 2 h, at 1970-01-02 01:00:00 UTC."
        );
        assert_eq!(said(now), "Next attempt: now.");
        assert_eq!(
            said(now - Duration::from_secs(300)),
            "The next attempt was due at 22:55:00 UTC, 5 min ago."
        );
    }
}
