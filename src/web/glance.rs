//! What must be seen at a glance, on a phone: is the agent dead, who stopped it, what was it doing.

use std::time::Duration;

use time::OffsetDateTime;

use super::show::{self, Moment, Words};
use crate::model::activity::Call;
use crate::model::run::{Outcome, Run, State};
use crate::model::stuck::{Cause, Verdict};
use crate::model::text;

/// How much of a call is shown, in characters: two lines of a phone.
const GIST_MAX: usize = 72;

/// Of a run that somebody wished to stop.
pub(crate) struct Glance {
    pub(crate) tone: &'static str,
    /// Is it dead?
    pub(crate) head: &'static str,
    /// What that rests on.
    pub(crate) because: Words,
    /// Who stopped it, from where, when and why.
    pub(crate) who: String,
}

impl Glance {
    pub(crate) fn of(run: &Run, now: OffsetDateTime) -> Option<Self> {
        let stop = run.stop.as_ref()?;
        let (tone, head) = match (run.state, run.outcome) {
            (State::Ended, Some(Outcome::Terminated)) => ("go", "It is dead."),
            (State::Ended, _) if run.evidence.as_ref().is_some_and(|proof| proof.step.is_a_kill()) => {
                ("go", "It is dead; its worker had stopped it.")
            }
            (State::Ended, _) if run.progress.step.is_some() => ("go", "It is dead; it ended meanwhile."),
            (State::Ended, _) => ("go", "It is dead; it ended by itself first."),
            (State::Lost, _) => ("lost", "Nobody knows whether it lives."),
            _ => ("unsure", "It isn’t proven dead."),
        };
        let because = match (&run.evidence, run.progress.egress_cut_at) {
            (Some(proof), _) => Words::around("Proven at ", Moment::new(proof.confirmed_at, now), "."),
            (None, Some(cut)) => {
                let cut = Moment::new(cut, now);
                Words::around("But it can’t call, spend or push: egress cut at ", cut, ".")
            }
            (None, None) => "Its egress isn’t known to be cut.".into(),
        };
        let from = stop.device.as_ref().map(|device| format!(" from {device}")).unwrap_or_default();
        let why = if stop.reason.is_empty() { String::new() } else { format!(": “{}”", stop.reason) };
        let when = Moment::new(stop.at, now).ago();
        Some(Self { tone, head, because, who: format!("Stopped by {}{from}, {when}{why}", stop.by) })
    }
}

/// The tool call that a run is in, or was in when a stop was wished.
pub(crate) struct Within {
    pub(crate) verb: &'static str,
    pub(crate) tool: String,
    pub(crate) gist: String,
    pub(crate) span: String,
    /// Since when, while it goes on.
    pub(crate) since: Option<Moment>,
}

impl Within {
    /// What a run is in the middle of, or was when a stop was wished or its worker fell silent.
    pub(crate) fn of(run: &Run, now: OffsetDateTime) -> Option<Self> {
        let lives = run.state.is_held() && run.stop.is_none();
        let silent_since = run.lease_until.filter(|_| run.state == State::Lost);
        let until = run.stop.as_ref().map(|stop| stop.at).or(silent_since);
        let until = until.or_else(|| lives.then_some(now))?;
        let within = Self::in_call(run.watch.activity.call()?, until, show::span);
        Some(if lives { within } else { Self { verb: "Was in", since: None, ..within } })
    }

    /// A call that is under way, the time that it has taken by then written like this.
    pub(crate) fn in_call(call: &Call, until: OffsetDateTime, write: fn(Duration) -> String) -> Self {
        let since = Moment::new(call.since, until);
        Self {
            verb: "Is in",
            tool: call.tool.clone(),
            gist: text::head(&call.gist, GIST_MAX),
            span: write(since.age()),
            since: Some(since),
        }
    }
}

/// That a run is stuck: by what, since when, and the one thing to do about it.
pub(crate) struct Stuck {
    pub(crate) verdict: Verdict,
    pub(crate) span: String,
    pub(crate) advice: &'static str,
    /// Where that is done, if it is anywhere.
    pub(crate) link: Option<(&'static str, &'static str)>,
}

impl Stuck {
    pub(crate) fn of(run: &Run, now: OffsetDateTime) -> Option<Self> {
        let verdict = run.stuck(now)?;
        let link = match verdict.cause {
            Cause::WorkerSilent => Some(("Workers", "/workers")),
            Cause::RateLimited => Some(("Hold the queue…", "/hold")),
            Cause::Errors | Cause::LongCall | Cause::Quiet => Some(("To the newest ↓", "#newest")),
            // The lever lies beside it.
            Cause::SameCall | Cause::Finished => None,
        };
        let span = show::minutes(Moment::new(verdict.since, now).age());
        Some(Self { span, advice: verdict.cause.advice(), link, verdict })
    }
}
