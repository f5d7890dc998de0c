//! A run: one Claude Code CLI process in one container, once.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use time::OffsetDateTime;

use super::agent::Recipe;
use super::metered::{Cost, Metered};
use super::stuck::{self, Verdict, Watch};
use super::wish::{StopWish, Taken};
use super::words;
use super::work::{SavedWork, WorkSeen};

/// A run's number; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub i64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = std::num::ParseIntError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(Self)
    }
}

words! {
    /// What is.
    State {
        /// Waits for a worker.
        Queued = "queued",
        /// A worker holds the lease and makes the container.
        Starting = "starting",
        /// The container runs.
        Running = "running",
        /// It is over, and there is evidence.
        Ended = "ended",
        /// The worker's lease lapsed without a word; what became of the container isn't known.
        Lost = "lost",
    }
}

impl State {
    /// Whether a worker holds the run.
    pub fn is_held(self) -> bool {
        matches!(self, Self::Starting | Self::Running)
    }

    /// Whether nothing will change any more.
    pub fn is_over(self) -> bool {
        self == Self::Ended
    }
}

words! {
    /// How a run ended.
    Outcome {
        /// Exit 0 and a `result` of success.
        Succeeded = "succeeded",
        /// Anything else that it did by itself.
        Failed = "failed",
        /// A wish ended it, and the engine has confirmed it.
        Terminated = "terminated",
        /// Its agent's time limit ended it.
        TimedOut = "timed_out",
        /// Its budget ended it.
        OverBudget = "over_budget",
    }
}

words! {
    /// What the superuser wants of a run.
    Wish {
        /// It shall run.
        Run = "run",
        /// It shall stop.
        Stop = "stop",
    }
}

words! {
    /// Where the ladder begins.
    StopMode {
        /// SIGINT first, so that the CLI writes its result and its cost.
        Graceful = "graceful",
        /// SIGKILL at once.
        Force = "force",
    }
}

words! {
    /// The rung that a stop has reached, or that ended a run.
    Step {
        /// It never had a container.
        NeverStarted = "never_started",
        /// It ended by itself.
        ByItself = "by_itself",
        /// SIGINT was sent.
        Sigint = "sigint",
        /// SIGTERM was sent.
        Sigterm = "sigterm",
        /// SIGKILL was sent by the engine.
        Sigkill = "sigkill",
        /// SIGKILL was sent by the host's own kernel, and the engine didn't take its own.
        HostKill = "host_kill",
        /// The engine says that there is no such container.
        Absent = "absent",
    }
}

impl Step {
    /// Whether a signal of ours was behind it.
    pub fn is_a_kill(self) -> bool {
        matches!(self, Self::Sigint | Self::Sigterm | Self::Sigkill | Self::HostKill)
    }
}

words! {
    /// What the host's kernel showed of a container's processes when the engine had said that it is over.
    Cgroup {
        /// Its control group was there, and nobody was in it.
        Empty = "empty",
        /// It had no control group any more.
        Gone = "gone",
        /// The worker doesn't run on the container's host, so the engine's word stands alone.
        Unseen = "unseen",
    }
}

/// What proves an end: the engine's word, never ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The engine's id of the container; none when the run never had one.
    pub container: Option<String>,
    /// Exit code as the engine reports it (128 + n for a death by signal n).
    pub exit_code: Option<i64>,
    /// Which rung of the ladder ended it.
    pub step: Step,
    /// When the engine confirmed it, by the worker's clock.
    pub confirmed_at: OffsetDateTime,
    /// What the host showed then; none when there was no container.
    pub cgroup: Option<Cgroup>,
}

impl Evidence {
    /// The signal behind an exit code over 128, by name where it has one.
    pub fn signal(&self) -> Option<&'static str> {
        Some(match self.exit_code? {
            129 => "SIGHUP",
            130 => "SIGINT",
            131 => "SIGQUIT",
            134 => "SIGABRT",
            137 => "SIGKILL",
            139 => "SIGSEGV",
            143 => "SIGTERM",
            _ => return None,
        })
    }
}

/// What the CLI's own records say; absent is absent, never 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Numbers {
    /// Turns of the conversation.
    pub turns: Option<i64>,
    /// Input tokens, those read from and written to the cache included.
    pub tokens_in: Option<i64>,
    /// Output tokens.
    pub tokens_out: Option<i64>,
    /// The client's estimate in US dollars (`total_cost_usd`), cumulative for the process.
    pub cost_usd: Option<f64>,
    /// Wall time that the CLI reports, in milliseconds.
    pub duration_ms: Option<i64>,
}

/// The last `result` record of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunResult {
    /// `subtype` is `success` and `is_error` is false.
    pub success: bool,
    /// `subtype` as the CLI wrote it.
    pub subtype: String,
    /// What it answered, or what went wrong.
    pub text: String,
    /// Its figures.
    pub numbers: Numbers,
}

/// How far a stop has come, as the worker reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopProgress {
    /// The wishes that the worker took, as it reports them; a run that is read names them in its wishes.
    pub taken: Vec<Taken>,
    /// Why the worker began to stop it though nobody had wished that, as it reports it.
    pub unasked: Option<String>,
    /// When the gate was closed: from then on nothing leaves the container.
    pub egress_cut_at: Option<OffsetDateTime>,
    /// The last rung tried.
    pub step: Option<Step>,
    /// When it was tried.
    pub step_at: Option<OffsetDateTime>,
    /// Why it isn't confirmed yet, in words.
    pub trouble: Option<String>,
    /// When the next attempt is due.
    pub next_at: Option<OffsetDateTime>,
    /// When the host's own kernel had killed everything in the container, whatever the engine says.
    pub host_killed_at: Option<OffsetDateTime>,
}

/// A run, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its number.
    pub id: RunId,
    /// The agent's name.
    pub agent: String,
    /// What it is called: given, or the prompt's first words.
    pub title: String,
    /// The recipe that it was claimed with; none before, and for runs of before recipes were kept.
    pub recipe: Option<Recipe>,
    /// Which version its agent's recipe has now.
    pub agent_version: i32,
    /// What the agent was asked.
    pub prompt: String,
    /// The run that this one is a retry of.
    pub retry_of: Option<RunId>,
    /// The newest few runs that are retries of this one.
    pub retries: Vec<RunId>,
    /// Who asked for it.
    pub asked_by: String,
    /// When it was asked for.
    pub asked_at: OffsetDateTime,
    /// What is.
    pub state: State,
    /// The wish to stop, if there is one.
    pub stop: Option<StopWish>,
    /// The wishes that it took the place of, in their order.
    pub earlier: Vec<StopWish>,
    /// How far the stop has come.
    pub progress: StopProgress,
    /// The worker that holds it, or held it last.
    pub worker: Option<String>,
    /// The fence of its latest lease.
    pub fence: i64,
    /// How many writes under an older fence were refused.
    pub refused: i64,
    /// When the lease lapses, by Postgres's clock.
    pub lease_until: Option<OffsetDateTime>,
    /// How long that is from now, by the same clock, in seconds; negative once it is past.
    pub lease_left_s: Option<f64>,
    /// What was seen of its work while it lived.
    pub work: Option<WorkSeen>,
    /// What was kept of it before a stop.
    pub saved: Option<SavedWork>,
    /// The engine's id of its container.
    pub container: Option<String>,
    /// When the container started.
    pub started_at: Option<OffsetDateTime>,
    /// When it was over.
    pub ended_at: Option<OffsetDateTime>,
    /// Why it is still queued, if a worker said so.
    pub waits_because: Option<String>,
    /// Trouble that isn't about a stop: the engine doesn't answer, the store was away.
    pub trouble: Option<String>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why, in words.
    pub reason: Option<String>,
    /// What proves the end.
    pub evidence: Option<Evidence>,
    /// The CLI's figures.
    pub numbers: Numbers,
    /// What its gate has metered; none before the first call.
    pub metered: Option<Metered>,
    /// When that was last written.
    pub metered_at: Option<OffsetDateTime>,
    /// The model that the CLI says it uses.
    pub model: Option<String>,
    /// How many events its transcript has; the last one's `seq`.
    pub events: i64,
    /// When the last event came.
    pub last_event_at: Option<OffsetDateTime>,
    /// Which event is the first error, as far as it was noted.
    pub first_error: Option<i64>,
    /// What it is in the middle of.
    pub watch: Watch,
}

impl Run {
    /// When its worker took the wish that holds now.
    pub fn delivered_at(&self) -> Option<OffsetDateTime> {
        self.stop.as_ref()?.delivered_at
    }

    /// A wish to stop whose evidence isn't in yet.
    pub fn is_unconfirmed(&self) -> bool {
        self.stop.is_some() && !self.state.is_over()
    }

    /// Whether its work is being saved, or is yet to be, before the first signal.
    pub fn is_saving(&self) -> bool {
        let first = self.saved.is_none() && self.progress.step.is_none();
        first && self.is_unconfirmed() && self.stop.as_ref().is_some_and(|stop| stop.save)
    }

    /// What it has cost, as far as it is known.
    pub fn cost(&self) -> Option<Cost> {
        let metered = self.metered.as_ref();
        let at_least = metered.is_some_and(Metered::is_least);
        Cost::of(self.numbers.cost_usd, metered.and_then(|metered| metered.usd), at_least)
    }

    /// Whether nothing stronger can be wished.
    pub fn is_forced(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.mode == StopMode::Force) && !self.is_saving()
    }

    /// Whether it gets nowhere, and what shows it. A run that is to stop is judged by its stop alone.
    pub fn stuck(&self, now: OffsetDateTime) -> Option<Verdict> {
        let is_heard = self.state == State::Running && self.trouble.is_none();
        let heard_at = self.last_event_at.or(self.started_at).filter(|_| is_heard);
        let lives = self.state.is_held() && self.stop.is_none();
        self.watch.judge(heard_at, self.lease_left_s, now).filter(|_| lives)
    }

    /// When its worker stops it by itself, having missed a renewal: two thirds into the lease. None while renewals come.
    pub fn stops_itself_at(&self) -> Option<OffsetDateTime> {
        const AHEAD_OF_LAPSE: Duration = Duration::from_secs(10);
        let late = self.state.is_held() && self.lease_left_s.is_some_and(|left| left < stuck::MISSED_BELOW_S);
        self.lease_until.filter(|_| late).map(|until| until - AHEAD_OF_LAPSE)
    }
}

/// A run as a list shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunLine {
    /// Its number.
    pub id: RunId,
    /// What it is called.
    pub title: String,
    /// The agent's name.
    pub agent: String,
    /// The worker that holds it, or held it last.
    pub worker: Option<String>,
    /// What is.
    pub state: State,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why it ended, waits or can't be stopped, in words.
    pub note: Option<String>,
    /// When a stop was wished.
    pub wish_at: Option<OffsetDateTime>,
    /// When its worker took that wish.
    pub delivered_at: Option<OffsetDateTime>,
    /// When it was asked for.
    pub asked_at: OffsetDateTime,
    /// When its container started.
    pub started_at: Option<OffsetDateTime>,
    /// When it was over.
    pub ended_at: Option<OffsetDateTime>,
    /// When the last event came.
    pub last_event_at: Option<OffsetDateTime>,
    /// What it has cost, as far as it is known.
    pub cost: Option<Cost>,
    /// How long its lease lasts from now, in seconds.
    pub lease_left_s: Option<f64>,
    /// What it is in the middle of.
    pub watch: Watch,
}

impl RunLine {
    /// Whether it gets nowhere, and what shows it. A run that is to stop is judged by its stop alone.
    pub fn stuck(&self, now: OffsetDateTime) -> Option<Verdict> {
        // What there is to note of a run that lives is trouble with the engine, which can't be heard then.
        let is_heard = self.state == State::Running && self.note.is_none();
        let heard_at = self.last_event_at.or(self.started_at).filter(|_| is_heard);
        let lives = self.state.is_held() && self.wish_at.is_none();
        self.watch.judge(heard_at, self.lease_left_s, now).filter(|_| lives)
    }

    /// A wish to stop whose evidence isn't in yet.
    pub fn is_unconfirmed(&self) -> bool {
        self.wish_at.is_some() && !self.state.is_over()
    }
}

/// Which runs a list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RunFilter {
    /// All of them.
    #[default]
    All,
    /// Those in one state.
    State(State),
    /// Those that ended in one way.
    Outcome(Outcome),
    /// Those with a wish to stop whose evidence isn't in yet.
    Unconfirmed,
    /// Those that live and get nowhere.
    Stuck,
    /// Those that a human should look at: unconfirmed, stuck, lost, and what went wrong within the hour.
    Needs,
    /// Those that aren't over, as far as anybody knows: queued, starting, running.
    Living,
}

impl RunFilter {
    /// The word in the URL; none for all.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::All => None,
            Self::State(s) => Some(s.word()),
            Self::Outcome(o) => Some(o.word()),
            Self::Unconfirmed => Some("unconfirmed"),
            Self::Stuck => Some("stuck"),
            Self::Needs => Some("needs"),
            Self::Living => Some("living"),
        }
    }
}

impl FromStr for RunFilter {
    type Err = super::UnknownWord;
    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "" | "all" => Ok(Self::All),
            "unconfirmed" => Ok(Self::Unconfirmed),
            "stuck" => Ok(Self::Stuck),
            "needs" => Ok(Self::Needs),
            "living" => Ok(Self::Living),
            word => word.parse().map(Self::State).or_else(|_| word.parse().map(Self::Outcome)),
        }
    }
}

/// The most that is kept of a result, in characters.
pub const RESULT_MAX: usize = 2000;

/// What a person fills in to start a run, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    /// The agent's name.
    pub agent: String,
    /// What the agent is asked.
    pub prompt: String,
    /// What the run is called.
    pub title: String,
    /// The form's own token: a form sent twice starts one run.
    pub once: Option<String>,
    /// The run that this one is a retry of; one that isn't there is left out.
    pub retry_of: Option<RunId>,
}

/// What is wrong with a form that should start a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NewRunError {
    /// Nothing to do.
    #[error("Say what the agent shall do: the prompt is empty.")]
    EmptyPrompt,
    /// More than the CLI should be given at once.
    #[error("The prompt is {0} KiB long; {max} KiB is the most.", max = NewRun::PROMPT_MAX / 1024)]
    PromptTooLong(usize),
    /// More than a line.
    #[error("The title is {0} characters long; {max} is the most.", max = NewRun::TITLE_MAX)]
    TitleTooLong(usize),
    /// A NUL can't be stored or passed on.
    #[error("The text holds a NUL character; take it out.")]
    Nul,
}

impl NewRun {
    /// The longest prompt, in bytes.
    pub const PROMPT_MAX: usize = 256 * 1024;
    /// The longest title, in characters.
    pub const TITLE_MAX: usize = 200;

    /// Checks a form. An empty title becomes the prompt's first words.
    ///
    /// # Errors
    /// The first thing that is wrong, in a person's words.
    pub fn parse(agent: &str, prompt: &str, title: &str, once: Option<&str>) -> Result<Self, NewRunError> {
        if prompt.trim().is_empty() {
            return Err(NewRunError::EmptyPrompt);
        }
        if prompt.len() > Self::PROMPT_MAX {
            return Err(NewRunError::PromptTooLong(prompt.len().div_ceil(1024)));
        }
        if prompt.contains('\0') || title.contains('\0') || agent.contains('\0') {
            return Err(NewRunError::Nul);
        }
        let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
        let length = title.chars().count();
        if length > Self::TITLE_MAX {
            return Err(NewRunError::TitleTooLong(length));
        }
        let title = if title.is_empty() { first_words(prompt, 80) } else { title };
        let once = once.filter(|t| !t.is_empty() && t.len() <= 64 && !t.contains('\0'));
        Ok(Self {
            agent: agent.to_owned(),
            prompt: prompt.to_owned(),
            title,
            once: once.map(str::to_owned),
            retry_of: None,
        })
    }
}

/// The first words of a text, at most `max` characters, cut at a word's end where there is one.
fn first_words(text: &str, max: usize) -> String {
    let mut title = String::new();
    for word in text.split_whitespace() {
        let room = max - title.chars().count();
        if word.chars().count() >= room {
            if title.is_empty() {
                title.extend(word.chars().take(max - 1));
            }
            title.push('…');
            break;
        }
        if !title.is_empty() {
            title.push(' ');
        }
        title.push_str(word);
    }
    title
}

/// How long each rung of the ladder is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LadderTimes {
    /// After SIGINT: the CLI writes its result and its cost.
    pub sigint: Duration,
    /// After SIGTERM.
    pub sigterm: Duration,
    /// After SIGKILL, before it is sent again.
    pub sigkill: Duration,
    /// After a `result`, for a CLI that doesn't exit: then it is stopped.
    pub linger: Duration,
}

impl LadderTimes {
    /// The least and the most that each may be, in milliseconds, in the order of the fields. Migration 0008 says the same.
    pub const BOUNDS_MS: [(u64, u64); 4] = [(0, 120_000), (0, 60_000), (500, 10_000), (1_000, 3_600_000)];
}

impl Default for LadderTimes {
    fn default() -> Self {
        Self {
            sigint: Duration::from_secs(10),
            sigterm: Duration::from_secs(5),
            sigkill: Duration::from_secs(2),
            linger: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_way_to_the_database_and_back() {
        for &state in State::ALL {
            assert_eq!(state.word().parse::<State>().unwrap(), state);
        }
        for &outcome in Outcome::ALL {
            assert_eq!(outcome.word().parse::<Outcome>().unwrap(), outcome);
        }
        assert!("killed".parse::<State>().is_err());
    }

    #[test]
    fn a_title_is_made_from_the_prompts_first_words() {
        let run = NewRun::parse("claude-code", "  fix\nthe   tests ", "", None).unwrap();
        assert_eq!(run.title, "fix the tests");
        let long = NewRun::parse("claude-code", &"word ".repeat(100), " ", None).unwrap();
        assert!(long.title.chars().count() <= 80 && long.title.ends_with('…'));
        let one = NewRun::parse("claude-code", &"é".repeat(1000), "", None).unwrap();
        assert_eq!(one.title.chars().count(), 80);
    }

    #[test]
    fn bad_forms_are_told_in_words() {
        let parse = |prompt: &str, title: &str| NewRun::parse("claude-code", prompt, title, None);
        assert_eq!(parse(" \n", ""), Err(NewRunError::EmptyPrompt));
        assert_eq!(parse("a\0b", ""), Err(NewRunError::Nul));
        assert_eq!(parse("a", &"t".repeat(201)), Err(NewRunError::TitleTooLong(201)));
        assert!(matches!(parse(&"a".repeat(300_000), ""), Err(NewRunError::PromptTooLong(293))));
    }

    #[test]
    fn filters_read_states_and_outcomes() {
        assert_eq!("running".parse(), Ok(RunFilter::State(State::Running)));
        assert_eq!("terminated".parse(), Ok(RunFilter::Outcome(Outcome::Terminated)));
        assert_eq!("unconfirmed".parse(), Ok(RunFilter::Unconfirmed));
        assert!("x' or 1=1".parse::<RunFilter>().is_err());
    }
}
