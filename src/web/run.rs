//! One run: what is, what is wanted, what is proven; its figures and its transcript.

use actix_web::HttpResponse;
use actix_web::web::{Data, Query};
use askama::Template;
use serde::Deserialize;

use super::Site;
use super::error::Result;
use super::fleet::Fleet;
use super::glance::{Glance, Stuck, Within};
use super::kept;
use super::lamp::Lamp;
use super::page::{self, Frame, Place, number};
use super::receipt::Receipt;
use super::show::{self, Moment, Words};
use super::spent;
use super::transcript::{Entry, TAIL, Transcript, View};
use crate::clock;
use crate::db::Superuser;
use crate::model::run::{Run, RunId, State};

/// How often a page looks again, in seconds: at a run that goes on, and at one that only its worker can settle.
const LOOKS_AGAIN_S: (u32, u32) = (3, 10);

/// Which part of the transcript is asked for.
#[derive(Deserialize)]
pub(crate) struct Asked {
    before: Option<String>,
    event: Option<String>,
    still: Option<String>,
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
    talk: Transcript,
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

/// The page of one run.
pub(crate) async fn show(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    id: RunId,
    asked: Query<Asked>,
) -> Result<HttpResponse> {
    let before = asked.before.as_deref().map(number).transpose()?;
    let only = asked.event.as_deref().map(number).transpose()?;
    let run = site.db.run(&by, id).await?;
    let (end, limit) = match only {
        Some(seq) => (Some(seq.saturating_add(1)), 1),
        None => (before, TAIL),
    };
    let events = site.db.events_tail(&by, id, end, limit).await?;
    let frame = fleet.frame(&site.db, &by, Place::Runs).await?;
    let now = clock::now();
    let last = events.last().map_or(0, |event| event.seq);
    let mut talk = Transcript::new(&run, events, end, only.is_some(), now);
    if talk.entries.is_empty()
        && run.events > 0
        && let Some(dropped) = site.db.dropped_events(&by, id).await?
    {
        talk.silence = kept::silence(&dropped, now).into();
    }
    let follows = (asked.still.is_none() && talk.at_tail).then_some(last);
    page::show(&run_page(frame, run, talk, follows, now))
}

/// The page of a run; one that follows it has seen this event last.
pub(crate) fn run_page(
    frame: Frame,
    run: Run,
    talk: Transcript,
    follows: Option<i64>,
    now: time::OffsetDateTime,
) -> RunPage {
    let refresh = match run.state {
        _ if follows.is_none() => None,
        State::Ended => None,
        State::Lost => Some(LOOKS_AGAIN_S.1),
        State::Queued | State::Starting | State::Running => Some(LOOKS_AGAIN_S.0),
    };
    let (kept_waiting, live) = (frame.keeps_waiting(), frame.live);
    // It takes nothing but time to become stuck: that is news also where a drawing as of another time is compared.
    let stuck = Stuck::of(&run, clock::now());
    RunPage {
        frame,
        stream: follows.map(|last| match live {
            true => format!("/live/runs/{}", run.id),
            false => format!("/live/runs/{}?from={last}", run.id),
        }),
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
        talk,
        refresh,
        now: Moment::new(now, now),
        run,
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
