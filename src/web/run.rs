//! One run: what is, what is wanted, what is proven; its figures and its transcript.

use actix_web::HttpResponse;
use actix_web::web::{Data, Query};
use askama::Template;

use super::Site;
use super::curve::{Curve, HEIGHT, WIDTH, curves};
use super::diff::Line as DiffLine;
use super::error::Result;
use super::fleet::Fleet;
use super::glance::{Glance, Stuck, Within};
use super::kept;
use super::lamp::Lamp;
use super::page::{self, Frame, Place};
use super::part::{Asked, Part};
use super::receipt::Receipt;
use super::show::{self, Moment, Words};
use super::spent;
use super::transcript::{Entry, Transcript, View};
use crate::clock;
use crate::db::Superuser;
use crate::model::agent::Recipe;
use crate::model::metered::Point;
use crate::model::run::{Run, RunId, State};

/// How often a page looks again, in seconds: at a run that goes on, and at one that only its worker can settle.
const LOOKS_AGAIN_S: (u32, u32) = (3, 10);

/// What a page of a run follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follows {
    /// Nothing.
    Nothing,
    /// The run, but not its transcript.
    Run,
    /// Both; it has seen this event last.
    Events(i64),
}

#[derive(Template)]
#[template(path = "runs/show.html")]
pub(crate) struct RunPage {
    frame: Frame,
    /// Where its stream is; none for a page that doesn't follow.
    stream: Option<String>,
    run: Run,
    lamp: Lamp,
    since: String,
    /// Since when that is, where it goes on.
    since_at: Option<Moment>,
    lever: Option<&'static str>,
    asked: Moment,
    says: Vec<Words>,
    glance: Option<Glance>,
    within: Option<Within>,
    stuck: Option<Stuck>,
    fence: Option<Moment>,
    confirmed: String,
    receipt: Option<Receipt>,
    figures: Vec<Figure>,
    curves: Vec<Curve>,
    recipe: Option<Made>,
    /// How long its prompt is, in words.
    prompt_size: String,
    talk: Transcript,
    /// When the last event came, while it lives.
    last_word: Option<Moment>,
    refresh: Option<u32>,
    now: Moment,
}

/// One of the run's figures; absent is shown as absent.
struct Figure {
    name: &'static str,
    value: Option<String>,
    /// Since when it grows, if it is a span that does.
    from: Option<Moment>,
    beside: Option<Words>,
    all: bool,
}

/// The recipe that a run was made by.
struct Made {
    version: String,
    /// That its agent's recipe is another one by now.
    since: Option<String>,
    parts: Vec<(&'static str, String)>,
}

/// The page of one run.
pub(crate) async fn show(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    id: RunId,
    asked: Query<Asked>,
) -> Result<HttpResponse> {
    let part = asked.part()?;
    let run = site.db.run(&by, id).await?;
    let points = async {
        // Nothing was noted of a run whose gate has metered nothing.
        Ok(if run.metered_at.is_some() { site.db.spent(&by, id).await? } else { Vec::new() })
    };
    let frame = fleet.frame(&site.db, &by, Place::Runs);
    let (events, points, frame) = tokio::try_join!(part.events(&site, &by, id), points, frame)?;
    let now = clock::now();
    let last = events.last().map_or(0, |event| event.seq);
    let mut talk = Transcript::new(&run, events, part, now);
    if talk.entries.is_empty()
        && run.events > 0
        && let Some(dropped) = site.db.dropped_events(&by, id).await?
    {
        talk.silence = kept::silence(&dropped, now).into();
    }
    let follows = match part {
        _ if asked.is_still() => Follows::Nothing,
        Part::Tail => Follows::Events(last),
        _ => Follows::Run,
    };
    page::show(&run_page(frame, run, &points, talk, follows, now))
}

/// The page of a run.
pub(crate) fn run_page(
    frame: Frame,
    run: Run,
    points: &[Point],
    talk: Transcript,
    follows: Follows,
    now: time::OffsetDateTime,
) -> RunPage {
    let refresh = match (run.state, follows) {
        (State::Ended, _) | (_, Follows::Nothing | Follows::Run) => None,
        (State::Lost, _) => Some(LOOKS_AGAIN_S.1),
        (State::Queued | State::Starting | State::Running, _) => Some(LOOKS_AGAIN_S.0),
    };
    let (kept_waiting, live) = (frame.keeps_waiting(), frame.live);
    // It takes nothing but time to become stuck: that is news also where a drawing as of another time is compared.
    let stuck = Stuck::of(&run, clock::now());
    let lives = run.state == State::Running && run.stop.is_none();
    RunPage {
        frame,
        stream: match follows {
            Follows::Nothing => None,
            Follows::Run => Some(format!("/live/runs/{}?part=1", run.id)),
            Follows::Events(_) if live => Some(format!("/live/runs/{}", run.id)),
            Follows::Events(last) => Some(format!("/live/runs/{}?seen={last}", run.id)),
        },
        lamp: if stuck.is_some() { Lamp::STUCK } else { Lamp::of_run(&run) },
        since: match &stuck {
            Some(stuck) => format!("for {}", stuck.span),
            None => since(&run, now),
        },
        since_at: stuck
            .as_ref()
            .map(|stuck| stuck.verdict.since)
            .or_else(|| since_at(&run))
            .map(|at| Moment::new(at, now)),
        lever: lever(&run),
        asked: Moment::new(run.asked_at, now),
        says: says(&run, kept_waiting),
        glance: Glance::of(&run, now),
        within: Within::of(&run, now),
        stuck,
        fence: run.stops_itself_at().map(|at| Moment::new(at, now)),
        confirmed: run
            .evidence
            .as_ref()
            .map(|evidence| Moment::new(evidence.confirmed_at, now).iso())
            .unwrap_or_default(),
        receipt: Receipt::of(&run, now),
        figures: figures(&run, now),
        curves: curves(points, run.started_at),
        recipe: run.recipe.as_ref().map(|recipe| made(recipe, run.agent_version)),
        prompt_size: prompt_size(&run.prompt),
        last_word: run.last_event_at.filter(|_| lives).map(|at| Moment::new(at, now)),
        talk,
        refresh,
        now: Moment::new(now, now),
        run,
    }
}

fn made(recipe: &Recipe, now: i32) -> Made {
    let (limits, worker) = (&recipe.limits, "the worker’s own");
    Made {
        version: format!("version {}", recipe.version),
        since: (now != recipe.version).then(|| format!("Its agent is at version {now} now.")),
        parts: vec![
            ("Image", recipe.image.clone().unwrap_or_else(|| worker.to_owned())),
            ("Model", recipe.model.clone().unwrap_or_else(|| "the CLI’s default".to_owned())),
            ("Memory", format!("{} MiB", show::count(limits.memory_mib))),
            ("Processors", show::thousandths(limits.milli_cpus)),
            ("Processes", show::count(limits.pids)),
            ("Time", show::span(limits.time)),
        ],
    }
}

fn prompt_size(prompt: &str) -> String {
    match prompt.lines().count() {
        0 | 1 => show::size(prompt.len() as i64),
        lines => format!("{} lines, {}", show::count(lines as i64), show::size(prompt.len() as i64)),
    }
}

/// What can still be done to stop it.
fn lever(run: &Run) -> Option<&'static str> {
    match &run.stop {
        _ if run.state.is_over() => None,
        None => Some("Stop"),
        Some(_) => (!run.is_forced()).then_some("Force stop"),
    }
}

/// How long it is what it is.
pub(crate) fn since(run: &Run, now: time::OffsetDateTime) -> String {
    let Some(at) = since_at(run).map(|at| Moment::new(at, now)) else { return String::new() };
    if run.state.is_over() { at.ago() } else { format!("for {}", show::span(at.age())) }
}

fn since_at(run: &Run) -> Option<time::OffsetDateTime> {
    match run.state {
        State::Ended => run.ended_at,
        State::Queued => Some(run.asked_at),
        State::Starting => None,
        State::Running => run.started_at,
        State::Lost => run.lease_until,
    }
}

/// Why it is so, in the words of whoever knows.
fn says(run: &Run, kept_waiting: Option<Words>) -> Vec<Words> {
    let mut says: Vec<Words> = Vec::new();
    match run.state {
        State::Queued => {
            let why = kept_waiting.or_else(|| run.waits_because.clone().map(Words::from));
            says.push(why.unwrap_or_else(|| "Waits for a worker.".into()));
        }
        State::Lost => says.push(Words::from(format!(
            "{} What became of its container isn’t known until the worker is back.",
            run.trouble.as_deref().unwrap_or("Its worker fell silent.")
        ))),
        State::Starting | State::Running => says.extend(run.trouble.clone().map(Words::from)),
        State::Ended => says.extend(run.reason.clone().map(Words::from)),
    }
    says.retain(|line| !line.is_blank());
    says
}

/// The figures that grow while a run lives.
const METERED: [&str; 2] = ["Cost, metered by list price", "Lasted"];

fn figures(run: &Run, now: time::OffsetDateTime) -> Vec<Figure> {
    let figure = |name, value| Figure { name, value, from: None, beside: None, all: false };
    let numbers = &run.numbers;
    let until = run.ended_at.unwrap_or(now);
    // How long a lost run lived is exactly what isn’t known.
    let started = run.started_at.filter(|_| run.state != State::Lost);
    let lasted = started.map(|from| show::span(Moment::new(from, until).age()));
    let own = numbers.duration_ms.map(|ms| show::span(std::time::Duration::from_millis(ms.unsigned_abs())));
    let evidence = run.evidence.as_ref();
    let metered = run.metered.as_ref();
    let mut figures = vec![
        Figure { all: true, ..figure("Cost, by the CLI’s estimate", numbers.cost_usd.map(show::dollars)) },
        Figure {
            all: true,
            beside: run.metered_at.map(|at| Words::around_lately("as of ", Moment::new(at, now), "")),
            ..figure("Cost, metered by list price", metered.map(spent::metered))
        },
        figure("Turns", numbers.turns.map(show::count)),
        figure("Tokens in", numbers.tokens_in.map(show::count)),
        figure("Tokens out", numbers.tokens_out.map(show::count)),
        Figure {
            from: started.filter(|_| run.ended_at.is_none()).map(|at| Moment::new(at, now)),
            ..figure("Lasted", lasted)
        },
        figure("By its own clock", own),
        Figure {
            beside: evidence.and_then(|evidence| evidence.signal()).map(Words::from),
            ..figure(
                "Exit code",
                evidence.and_then(|evidence| evidence.exit_code).map(|code| code.to_string()),
            )
        },
    ];
    if !run.state.is_over() {
        // The CLI says its figures at its end; they aren't missed before.
        figures.retain(|figure| figure.value.is_some() || METERED.contains(&figure.name));
        figures.iter_mut().for_each(|figure| figure.all = true);
    }
    figures.push(Figure { all: true, ..figure("Model", run.model.clone()) });
    if let Some(tokens) = metered.and_then(spent::tokens) {
        figures.push(Figure { all: true, ..figure("Metered", Some(tokens)) });
    }
    if run.refused > 0 {
        figures.push(figure("Writes refused, of an old fence", Some(show::count(run.refused))));
    }
    figures.push(Figure { all: true, ..figure("Container", run.container.as_deref().map(show::short)) });
    figures
}
