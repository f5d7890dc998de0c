//! Stuck: whether a living run gets anywhere, judged by what is known of it; with what shows it and what to do.

use std::time::Duration;

use time::OffsetDateTime;

use super::activity::{Activity, Call, Streak};
use super::span::{between, minutes};
use super::{text, words};

/// How much of a call a sentence names, in characters.
const GIST_MAX: usize = 60;
/// A CLI that has printed its result exits within a second or two.
const EXITS_WITHIN: Duration = Duration::from_secs(10);
/// A lease lasts 30 s and is renewed every 10: with less than 18 left a renewal is 2 s late.
const LEASE_S: f64 = 30.0;
pub(super) const MISSED_BELOW_S: f64 = 18.0;
/// What no span here is longer than, in seconds.
const LONGEST_S: f64 = 1e9;
/// So many times as long as any call like it a call may take.
const USUAL_TIMES: u32 = 2;

words! {
    /// What shows that a run is stuck.
    Cause {
        /// Its worker has missed a renewal of the lease.
        WorkerSilent = "worker_silent",
        /// Its result is printed, and it is alive.
        Finished = "finished",
        /// The model API wants fewer calls.
        RateLimited = "rate_limited",
        /// One tool after the other fails.
        Errors = "errors",
        /// It makes the same call again and again.
        SameCall = "same_call",
        /// A call takes longer than such calls may.
        LongCall = "long_call",
        /// It says nothing, and is in no call.
        Quiet = "quiet",
    }
}

impl Cause {
    /// The one thing to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::WorkerSilent => "Look at its worker.",
            Self::Finished => "Let its ladder stop it: its result is kept.",
            Self::RateLimited => "Let it wait, and let fewer runs work at once.",
            Self::Errors => "Read the last error; if it won’t go away, stop the run.",
            Self::SameCall => "Stop it, and say in a new prompt what it shall do instead.",
            Self::LongCall => "See what the tool waits for; if nothing will come, stop the run.",
            Self::Quiet => "Read its last words; if they lead nowhere, stop the run.",
        }
    }

    /// Whether a stop by itself may follow from it. The others have one of their own.
    pub fn may_stop(self) -> bool {
        !matches!(self, Self::WorkerSilent | Self::Finished)
    }
}

/// How long an agent's runs may get nowhere before they are called stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Without output, outside a call.
    pub quiet: Duration,
    /// In one call without output; a call whose like has taken long before may take twice as long as that.
    pub call: Duration,
    /// While the model API wants fewer calls.
    pub limited: Duration,
    /// The same call in a row.
    pub same_calls: u32,
    /// Failed tools in a row.
    pub errors: u32,
    /// Whether the worker stops a run that is stuck.
    pub stops: bool,
}

impl Patience {
    /// The least and the most that each of the times may be, in seconds, in their order. Migration 0018 says the same.
    pub const BOUNDS_S: [(u64, u64); 3] = [(60, 86_400), (60, 604_800), (60, 86_400)];
    /// The same of the counts.
    pub const BOUNDS: [(u32, u32); 2] = [(3, 1000), (2, 1000)];
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            quiet: Duration::from_secs(600),
            call: Duration::from_secs(1800),
            limited: Duration::from_secs(300),
            same_calls: 10,
            errors: 8,
            stops: false,
        }
    }
}

/// What is known of a living run.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What it is in the middle of.
    pub activity: &'a Activity,
    /// The longest that a call like the one it is in has taken, if that was over a minute.
    pub usual: Option<Duration>,
    /// When its last output came, or when it was started. None while nobody could hear any: its silence says nothing then.
    pub heard_at: Option<OffsetDateTime>,
    /// How long its lease lasts from now, in seconds.
    pub lease_left_s: Option<f64>,
}

/// What is kept of a run to judge it by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Watch {
    /// What it is in the middle of; as it was when a stop was wished.
    pub activity: Activity,
    /// The longest that a call like the one it is in has taken, if that was over a minute.
    pub usual: Option<Duration>,
    /// Its agent's patience.
    pub patience: Patience,
}

impl Watch {
    /// Whether it is stuck; see [`Known`] for what is given.
    pub fn judge(
        &self,
        heard_at: Option<OffsetDateTime>,
        lease_left_s: Option<f64>,
        now: OffsetDateTime,
    ) -> Option<Verdict> {
        let known = Known { activity: &self.activity, usual: self.usual, heard_at, lease_left_s };
        judge(&known, &self.patience, now)
    }
}

/// That a run is stuck.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What shows it.
    pub cause: Cause,
    /// Since when that is so.
    pub since: OffsetDateTime,
    /// The same in a person's words, with its numbers.
    pub evidence: String,
}

/// Whether a living run is stuck, and if so, by what; what explains the rest comes first.
pub fn judge(known: &Known<'_>, patience: &Patience, now: OffsetDateTime) -> Option<Verdict> {
    let verdict = |cause, since, evidence| Some(Verdict { cause, since, evidence });
    let lasts = |since: OffsetDateTime| between(since, now);
    let row = |streak: Option<Streak>, limit: u32| streak.filter(|streak| streak.times >= limit);
    let activity = known.activity;

    if let Some(left) = known.lease_left_s.filter(|left| *left < MISSED_BELOW_S) {
        let unheard = Duration::try_from_secs_f64((LEASE_S - left).min(LONGEST_S)).unwrap_or_default();
        let evidence = format!("Its worker hasn’t renewed the lease for {}.", minutes(unheard));
        return verdict(Cause::WorkerSilent, now - unheard, evidence);
    }
    if let Some(since) = activity.finished_since.filter(|since| lasts(*since) >= EXITS_WITHIN) {
        let ago = minutes(lasts(since));
        return verdict(Cause::Finished, since, format!("Its result came {ago} ago, and it hasn’t exited."));
    }
    // It says when it will go on; neither its silence nor what it did before counts.
    if let Some(since) = activity.limited_since {
        let evidence = format!("Rate-limited by the model API for {}.", minutes(lasts(since)));
        return (lasts(since) >= patience.limited).then_some(Verdict {
            cause: Cause::RateLimited,
            since,
            evidence,
        });
    }
    if let Some(Streak { times, since }) = row(activity.errors, patience.errors) {
        let evidence = format!("{times} tools in a row have failed, in {}.", minutes(lasts(since)));
        return verdict(Cause::Errors, since, evidence);
    }
    if let Some(Streak { times, since }) = row(activity.same, patience.same_calls) {
        let evidence = format!("The same call {times} times in a row, in {}.", minutes(lasts(since)));
        return verdict(Cause::SameCall, since, evidence);
    }
    let heard_at = known.heard_at?;
    let quiet = lasts(heard_at);
    match activity.call() {
        Some(call) => {
            let usual = known.usual.filter(|usual| *usual * USUAL_TIMES > patience.call);
            let limit = usual.map_or(patience.call, |usual| usual * USUAL_TIMES);
            let evidence = || long_call(call, quiet, limit, usual, now);
            (quiet >= limit).then(|| Verdict {
                cause: Cause::LongCall,
                since: call.since,
                evidence: evidence(),
            })
        }
        None if quiet >= patience.quiet => {
            let (quiet, limit) = (minutes(quiet), minutes(patience.quiet));
            let evidence = format!("No output for {quiet}; its limit is {limit}.");
            verdict(Cause::Quiet, heard_at, evidence)
        }
        None => None,
    }
}

fn long_call(
    call: &Call,
    quiet: Duration,
    limit: Duration,
    usual: Option<Duration>,
    now: OffsetDateTime,
) -> String {
    let gist = match call.gist.as_str() {
        "" => String::new(),
        gist => format!(" “{}”", text::head(gist, GIST_MAX)),
    };
    let lasts = between(call.since, now);
    // What prints in the meantime is at work.
    let silent = match lasts.saturating_sub(quiet) {
        Duration::ZERO => String::new(),
        _ => format!(", silent for {}", minutes(quiet)),
    };
    let limit = match usual {
        Some(usual) => format!("the longest one like it took {}", minutes(usual)),
        None => format!("its limit is {}", minutes(limit)),
    };
    format!("In {}{gist} for {}{silent}; {limit}.", call.tool, minutes(lasts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{Line, Source};

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
    const CALL: &str = r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"a","name":"Bash","input":{"command":"make"}}]}}"#;
    const FAILED: &str =
        r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"a","is_error":true}]}}"#;
    const BACK: &str = r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"a"}]}}"#;
    const RETRY: &str = r#"{"type":"system","subtype":"api_retry","error_status":429}"#;
    const RESULT: &str = r#"{"type":"result","subtype":"success","is_error":false}"#;

    fn at(s: u64) -> OffsetDateTime {
        START + Duration::from_secs(s)
    }

    /// What comes of these lines, all at the start.
    fn after(lines: &[&str]) -> Activity {
        let mut activity = Activity::default();
        for line in lines {
            activity.take(Line::read(Source::Stdout, line.as_bytes(), 0).acts, START);
        }
        activity
    }

    fn known(activity: &Activity) -> Known<'_> {
        Known { activity, usual: None, heard_at: Some(START), lease_left_s: Some(25.0) }
    }

    fn judged(known: &Known<'_>, s: u64) -> Option<(Cause, String)> {
        judge(known, &Patience::default(), at(s)).map(|verdict| (verdict.cause, verdict.evidence))
    }

    /// What it is so many seconds after these lines, with nothing since.
    fn later(lines: &[&str], s: u64) -> Option<(Cause, String)> {
        judged(&known(&after(lines)), s)
    }

    fn cause(lines: &[&str], s: u64) -> Option<Cause> {
        later(lines, s).map(|(cause, _)| cause)
    }

    #[test]
    fn no_output_outside_a_call_is_stuck_at_its_limit_and_not_before() {
        assert_eq!(later(&[], 599), None);
        let said = "No output for 10 min; its limit is 10 min.";
        assert_eq!(later(&[CALL, BACK], 600), Some((Cause::Quiet, said.into())));
        let activity = after(&[]);
        assert_eq!(
            judged(&Known { heard_at: Some(at(500)), ..known(&activity) }, 900),
            None,
            "it has just printed"
        );
        assert_eq!(judged(&Known { heard_at: None, ..known(&activity) }, 900), None, "nobody could hear it");
    }

    #[test]
    fn a_call_has_a_limit_of_its_own() {
        assert_eq!(later(&[CALL], 1799), None, "a build that is quiet for half an hour");
        let said = "In Bash “make” for 30 min; its limit is 30 min.";
        assert_eq!(later(&[CALL], 1800), Some((Cause::LongCall, said.into())));
        assert_eq!(later(&[CALL, BACK], 599), None);
    }

    #[test]
    fn a_tool_that_prints_is_at_work() {
        let activity = after(&[CALL]);
        let prints = Known { heard_at: Some(at(3000)), ..known(&activity) };
        assert_eq!(judged(&prints, 4799), None);
        let said = "In Bash “make” for 1 h 20 min, silent for 30 min; its limit is 30 min.";
        assert_eq!(judged(&prints, 4800).map(|(_, evidence)| evidence), Some(said.into()));
    }

    #[test]
    fn a_call_whose_like_took_long_before_may_take_twice_as_long() {
        let activity = after(&[CALL]);
        let usual = |s| Known { usual: Some(Duration::from_secs(s)), ..known(&activity) };
        assert_eq!(judged(&usual(3000), 5999), None);
        let said = "In Bash “make” for 1 h 40 min; the longest one like it took 50 min.";
        assert_eq!(judged(&usual(3000), 6000), Some((Cause::LongCall, said.into())));
        assert!(
            judged(&usual(70), 1800).is_some_and(|(_, evidence)| evidence.contains("its limit is 30 min"))
        );
        assert_eq!(judged(&usual(70), 1799), None, "never less than its agent's limit");
    }

    #[test]
    fn the_same_call_again_and_again_is_stuck() {
        assert_eq!(later(&[CALL, BACK].repeat(9), 1), None);
        let said = "The same call 10 times in a row, in 1 s.";
        assert_eq!(later(&[CALL, BACK].repeat(10), 1), Some((Cause::SameCall, said.into())));
        let other = CALL.replace("make", "make check");
        let by_turns = [CALL, BACK, other.as_str(), BACK].repeat(10);
        assert_eq!(cause(&by_turns, 1), None);
    }

    #[test]
    fn one_failure_after_the_other_is_stuck_until_something_works() {
        let other = CALL.replace("make", "make check");
        let fails = [CALL, FAILED, other.as_str(), FAILED].repeat(4);
        assert_eq!(cause(&fails[..14], 1), None);
        let said = "8 tools in a row have failed, in 9 s.";
        assert_eq!(later(&fails, 9), Some((Cause::Errors, said.into())));
        assert_eq!(cause(&[&fails[..], &[CALL, BACK]].concat(), 9), None);
    }

    #[test]
    fn waiting_for_the_model_api_is_stuck_in_the_end_and_not_for_its_silence() {
        assert_eq!(cause(&[RETRY], 299), None);
        let said = "Rate-limited by the model API for 5 min.";
        assert_eq!(later(&[RETRY], 300), Some((Cause::RateLimited, said.into())));
        assert_eq!(cause(&[RETRY, CALL], 1000), None, "it went on");
    }

    #[test]
    fn a_cli_exits_soon_after_its_result() {
        assert_eq!(cause(&[RESULT], 9), None);
        let said = "Its result came 14 s ago, and it hasn’t exited.";
        assert_eq!(later(&[RESULT], 14), Some((Cause::Finished, said.into())));
        assert_eq!(cause(&[RESULT, CALL], 14), None, "it goes on");
    }

    #[test]
    fn a_worker_is_silent_when_it_has_missed_a_renewal() {
        let activity = after(&[]);
        let left = |s| judged(&Known { lease_left_s: Some(s), ..known(&activity) }, 1);
        assert_eq!(left(18.5), None);
        let said = "Its worker hasn’t renewed the lease for 14 s.";
        assert_eq!(left(16.0), Some((Cause::WorkerSilent, said.into())));
        assert_eq!(left(-1e300).map(|(cause, _)| cause), Some(Cause::WorkerSilent));
        assert_eq!(judged(&Known { lease_left_s: None, ..known(&activity) }, 1), None);
    }

    #[test]
    fn what_has_a_stop_of_its_own_gets_no_second_one() {
        let stops: Vec<Cause> = Cause::ALL.iter().copied().filter(|cause| cause.may_stop()).collect();
        assert_eq!(stops.len(), Cause::ALL.len() - 2);
        assert!(!Cause::Finished.may_stop() && !Cause::WorkerSilent.may_stop());
    }
}
