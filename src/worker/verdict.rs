//! The verdict: what an end is called, and why, from the engine's word and the CLI's own records.

use crate::engine::{Exit, Signal};
use crate::model::run::{Outcome, RunResult, Step};
use crate::model::text;

use super::ladder;

/// Why a run is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The superuser wished it.
    Wish,
    /// Its agent's time limit.
    TimeLimit,
    /// It had printed its `result`, and didn't exit.
    Lingered,
    /// It was stuck, and its agent lets no such run go on.
    Stuck,
    /// The worker couldn't renew its lease, and fenced itself.
    CutOff,
    /// The worker stood still when it should have renewed its lease, and fenced itself when it went on.
    StoodStill,
    /// The lease is somebody else's, or nobody's.
    LeaseGone,
    /// What it printed couldn't be stored, for a reason that stays.
    Unstorable,
    /// The worker is being shut down by hand.
    Shutdown,
    /// `signalbox stop-all` came while it was being started.
    StopAll,
    /// Somebody else had the engine start its container again.
    Restarted,
}

impl Cause {
    /// Why a worker began to stop a run though nobody had wished that; none for a wish.
    pub fn unasked(self) -> Option<&'static str> {
        Some(match self {
            Self::Wish => return None,
            Self::TimeLimit => "Its agent's time limit was reached.",
            Self::Lingered => "It didn't exit after its result.",
            Self::Stuck => "It was stuck.",
            Self::CutOff => "Its worker couldn't reach Postgres to renew the lease.",
            Self::StoodStill => "Its worker stood still when it should have renewed the lease.",
            Self::LeaseGone => "Its worker had lost the lease.",
            Self::Unstorable => "What it printed couldn't be stored.",
            Self::Shutdown => "Its worker was shut down.",
            Self::StopAll => "`signalbox stop-all` was here while it was being started.",
            Self::Restarted => "Its container was started again, not by its worker.",
        })
    }
}

/// What is known when a container is over.
#[derive(Debug, Clone, Default)]
pub struct Known<'a> {
    /// The CLI's last `result`.
    pub result: Option<&'a RunResult>,
    /// The last line that wasn't a record: often the reason.
    pub last_words: &'a str,
    /// Why it was being stopped, if it was.
    pub cause: Option<Cause>,
    /// The signal that got through to it, if one did.
    pub delivered: Option<Signal>,
    /// Whether that was the host's own kill, and the engine didn't take its own.
    pub by_host: bool,
    /// Whether a signal was sent to it at all.
    pub tried: bool,
    /// What showed that it was stuck, when that is why it was stopped.
    pub stuck: Option<&'a str>,
    /// What `stop-all` on its host says, if it was there in the run's life.
    pub stop_all: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// In one word.
    pub outcome: Outcome,
    /// Why.
    pub reason: String,
    /// Which step ended it.
    pub step: Step,
}

/// Judges an end that the engine has confirmed. A run that ended by itself first keeps its own outcome.
pub fn judge(exit: Exit, known: &Known<'_>) -> Verdict {
    let succeeded = exit.code == 0 && known.result.is_some_and(|result| result.success);
    let (Some(cause), Some(signal)) = (known.cause, known.delivered) else {
        let (outcome, mut reason) = by_itself(exit, known, succeeded);
        if known.cause == Some(Cause::Wish) && known.stop_all.is_none() {
            reason.push_str(if known.tried {
                " It was being stopped; no signal of that is behind its end."
            } else {
                " It ended by itself before the stop reached it."
            });
        }
        return Verdict { outcome, reason, step: Step::ByItself };
    };
    if succeeded && cause == Cause::Wish {
        let reason = "Finished its work, although it was being stopped.".to_owned();
        return Verdict { outcome: Outcome::Succeeded, reason, step: Step::ByItself };
    }
    let (outcome, reason) = match cause {
        Cause::Wish if known.by_host => (
            Outcome::Terminated,
            "Stopped by SIGKILL from the host itself; the engine didn't take its own.".to_owned(),
        ),
        Cause::Wish => (Outcome::Terminated, format!("Stopped by {}.", signal.name())),
        Cause::Lingered => lingered(known),
        // It lived on after its success until its worker's signal: its outcome stays, and the stop is told.
        _ if succeeded => (Outcome::Succeeded, lived_on(cause)),
        Cause::Stuck => (Outcome::Failed, stuck(known.stuck.unwrap_or_default())),
        Cause::TimeLimit => (Outcome::TimedOut, "Its agent's time limit was reached.".to_owned()),
        Cause::CutOff => (
            Outcome::Failed,
            "Its worker couldn't reach Postgres to renew the lease, and stopped it.".to_owned(),
        ),
        Cause::StoodStill => (
            Outcome::Failed,
            "Its worker stood still when it should have renewed the lease, and stopped it when it went on.".to_owned(),
        ),
        Cause::LeaseGone => (Outcome::Failed, "Its worker had lost the lease, and stopped it.".to_owned()),
        Cause::Unstorable => (
            Outcome::Failed,
            "Postgres refused what it printed last, so that part isn't kept, and its worker stopped it.".to_owned(),
        ),
        Cause::StopAll => (Outcome::Failed, stop_all(known).unwrap_or_default()),
        Cause::Restarted => (
            Outcome::Failed,
            "Its container was started again, not by its worker, which stopped it: a run is one process, once."
                .to_owned(),
        ),
        Cause::Shutdown => (Outcome::Failed, "Its worker was shut down, and stopped it.".to_owned()),
    };
    let step = if known.by_host { Step::HostKill } else { ladder::step(signal) };
    Verdict { outcome, reason, step }
}

/// What `stop-all` has to do with an end, if anything. Its note may be older than the container.
fn stop_all(known: &Known<'_>) -> Option<String> {
    let here = || "Stopped: `signalbox stop-all` was here while it was being started.".to_owned();
    let said = known.stop_all.as_deref().map(text::inert_line);
    said.or_else(|| (known.cause == Some(Cause::StopAll)).then(here))
}

/// Why a run was stopped that was stuck, and what showed it.
pub fn stuck(evidence: &str) -> String {
    format!("Stuck, and stopped by itself: {evidence}")
}

/// Of a run that had printed its success, and was stopped unasked.
fn lived_on(cause: Cause) -> String {
    let why = cause.unasked().unwrap_or_default();
    format!("Finished its work, but lived on and was stopped. {why}")
}

/// The work was over; what was stopped is what it left behind.
fn lingered(known: &Known<'_>) -> (Outcome, String) {
    match known.result {
        Some(result) if result.success => (
            Outcome::Succeeded,
            "Finished its work, but didn't exit after its result, and was stopped.".to_owned(),
        ),
        _ => {
            let (outcome, reason) = by_itself(Exit { code: 1, oom: false }, known, false);
            (outcome, format!("{reason} It didn't exit after its result, and was stopped."))
        }
    }
}

fn by_itself(exit: Exit, known: &Known<'_>, succeeded: bool) -> (Outcome, String) {
    if succeeded {
        return (Outcome::Succeeded, "Finished its work.".to_owned());
    }
    if let (137, Some(words)) = (exit.code, stop_all(known)) {
        return (Outcome::Failed, words);
    }
    let last_words = text::head(&text::inert_line(known.last_words), 300);
    let reason = match (exit, known.result) {
        // The flag is also set when the kernel took a tool and the CLI went on.
        (Exit { oom: true, code: 137 }, _) => "Ran out of memory; the kernel ended it.".to_owned(),
        (_, Some(result)) if !result.success => {
            let said = text::head(&text::inert_line(&result.text), 300);
            let said = if said.is_empty() { text::inert_line(&result.subtype) } else { said };
            format!("Claude Code gave up: {said}")
        }
        (Exit { code: 0, .. }, None) => "Exited with 0, but printed no result.".to_owned(),
        (Exit { code, .. }, Some(_)) => format!("Printed a result of success, but exited with {code}."),
        (Exit { code, .. }, None) if last_words.is_empty() => {
            format!("Exited with {code} and printed no result.")
        }
        (Exit { code, .. }, None) => {
            format!("Exited with {code} and printed no result. Its last words: {last_words}")
        }
    };
    (Outcome::Failed, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::run::Numbers;

    fn result(success: bool, text: &str) -> RunResult {
        let subtype = if success { "success" } else { "error_during_execution" };
        RunResult { success, subtype: subtype.into(), text: text.into(), numbers: Numbers::default() }
    }

    fn exit(code: i64) -> Exit {
        Exit { code, oom: false }
    }

    #[test]
    fn only_exit_0_with_a_result_of_success_is_succeeded() {
        let (good, bad) = (result(true, "done"), result(false, "API Error: 529"));
        let cases = [
            (exit(0), Some(&good), Outcome::Succeeded),
            (exit(1), Some(&good), Outcome::Failed),
            (exit(0), Some(&bad), Outcome::Failed),
            (exit(0), None, Outcome::Failed),
            (exit(137), None, Outcome::Failed),
        ];
        for (exit, result, outcome) in cases {
            let verdict = judge(exit, &Known { result, ..Known::default() });
            assert_eq!((verdict.outcome, verdict.step), (outcome, Step::ByItself), "{exit:?} {result:?}");
            assert!(!verdict.reason.is_empty());
        }
    }

    #[test]
    fn terminated_needs_a_wish_and_a_signal_that_got_through() {
        let wish = |delivered, code| {
            judge(exit(code), &Known { cause: Some(Cause::Wish), delivered, ..Known::default() })
        };
        assert_eq!(wish(Some(Signal::Kill), 137).outcome, Outcome::Terminated);
        assert_eq!(wish(Some(Signal::Int), 1).step, Step::Sigint);
        let first = wish(None, 1);
        assert_eq!(first.outcome, Outcome::Failed);
        assert!(first.reason.contains("before the stop reached it"));
    }

    #[test]
    fn a_success_during_the_stop_stays_a_success() {
        let good = result(true, "done");
        let known = Known {
            result: Some(&good),
            cause: Some(Cause::Wish),
            delivered: Some(Signal::Int),
            ..Known::default()
        };
        assert_eq!(judge(exit(0), &known).outcome, Outcome::Succeeded);
        assert_eq!(judge(exit(1), &known).outcome, Outcome::Terminated);
    }

    #[test]
    fn what_lived_on_after_its_success_and_exits_0_on_sigint_was_stopped_all_the_same() {
        let good = result(true, "done");
        let judged = |cause, delivered| {
            judge(exit(0), &Known { result: Some(&good), cause: Some(cause), delivered, ..Known::default() })
        };
        for (cause, said) in
            [(Cause::Lingered, "didn't exit after its result"), (Cause::TimeLimit, "time limit was reached")]
        {
            let stopped = judged(cause, Some(Signal::Int));
            assert_eq!((stopped.outcome, stopped.step), (Outcome::Succeeded, Step::Sigint), "{cause:?}");
            assert!(stopped.reason.contains(said) && stopped.reason.contains("was stopped"), "{stopped:?}");
            let first = judged(cause, None);
            assert_eq!((first.outcome, first.step), (Outcome::Succeeded, Step::ByItself), "{cause:?}");
            assert_eq!(first.reason, "Finished its work.");
        }
    }

    #[test]
    fn what_lingers_after_its_result_keeps_what_it_said() {
        let judged = |result: &RunResult| {
            let (cause, delivered) = (Some(Cause::Lingered), Some(Signal::Int));
            judge(exit(143), &Known { result: Some(result), cause, delivered, ..Known::default() })
        };
        let good = judged(&result(true, "done"));
        assert_eq!((good.outcome, good.step), (Outcome::Succeeded, Step::Sigint));
        assert!(good.reason.contains("didn't exit"), "{}", good.reason);
        let bad = judged(&result(false, "API Error: 529"));
        assert_eq!(bad.outcome, Outcome::Failed);
        assert!(bad.reason.contains("529") && bad.reason.contains("didn't exit"), "{}", bad.reason);
    }

    #[test]
    fn what_was_stuck_says_by_what_and_keeps_a_success() {
        let stopped = |code, result| {
            let (cause, delivered) = (Some(Cause::Stuck), Some(Signal::Int));
            let stuck = Some("The same call 10 times in a row, in 1 min.");
            judge(exit(code), &Known { result, cause, delivered, stuck, ..Known::default() })
        };
        let verdict = stopped(1, None);
        assert_eq!((verdict.outcome, verdict.step), (Outcome::Failed, Step::Sigint));
        let said = "Stuck, and stopped by itself: The same call 10 times in a row, in 1 min.";
        assert_eq!(verdict.reason, said);
        let good = result(true, "done");
        assert_eq!(stopped(0, Some(&good)).outcome, Outcome::Succeeded);
    }

    #[test]
    fn what_stop_all_killed_says_so() {
        let known = Known { stop_all: Some("Killed by `signalbox stop-all`.".into()), ..Known::default() };
        assert_eq!(judge(exit(137), &known).reason, "Killed by `signalbox stop-all`.");
        assert_eq!(judge(exit(3), &known).reason, "Exited with 3 and printed no result.");
        // One that was just being started: killed by `stop-all` itself, or by its worker, which saw the note.
        for delivered in [None, Some(Signal::Kill)] {
            let known = Known { cause: Some(Cause::StopAll), delivered, ..Known::default() };
            let verdict = judge(exit(137), &known);
            assert!(verdict.reason.contains("stop-all"), "{}", verdict.reason);
            assert_eq!(verdict.outcome, Outcome::Failed);
        }
    }

    #[test]
    fn the_hosts_own_kill_is_told_from_the_engines() {
        let known = Known {
            cause: Some(Cause::Wish),
            delivered: Some(Signal::Kill),
            by_host: true,
            ..Known::default()
        };
        let verdict = judge(exit(137), &known);
        assert_eq!((verdict.outcome, verdict.step), (Outcome::Terminated, Step::HostKill));
    }

    #[test]
    fn reasons_are_in_words_and_inert() {
        let bad = result(false, "API Error\u{1b}[31m: \u{202e}529");
        let verdict = judge(exit(1), &Known { result: Some(&bad), ..Known::default() });
        assert_eq!(verdict.reason, "Claude Code gave up: API Error: ⟨U+202E⟩529");
        let oom = judge(Exit { code: 137, oom: true }, &Known::default());
        assert!(oom.reason.contains("memory"));
        let tool = judge(Exit { code: 1, oom: true }, &Known { result: Some(&bad), ..Known::default() });
        assert_eq!(tool.reason, verdict.reason);
    }
}
