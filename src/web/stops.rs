//! Many runs stopped by one click: the question, the wish, and the list of such stops.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde::Deserialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::form_urlencoded;

use super::Site;
use super::address::Address;
use super::error::{Error, Result};
use super::fleet::Fleet;
use super::form::{Form, fresh_token};
use super::lamp::Lamp;
use super::page::{Frame, Place, cursor, go_to, show, show_as};
use super::run::{REASON_MAX, REASONS};
use super::show::{self, Moment};
use crate::clock;
use crate::db::{Click, Matches, Superuser, Tell};
use crate::model::run::{RunFilter, RunId, RunLine, State, StopMode};
use crate::model::stop::{Stop, StopCounts, StopKind, Target};
use crate::queue::{Command, Notice};

/// How long a click goes on writing wishes before its page is shown; what is left is written behind it.
const WRITES_FOR: Duration = Duration::from_millis(400);
/// Between two looks for stops that aren't written whole.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The largest form, in bytes as they are sent: the numbers of all that can be selected, and a reason.
pub(crate) const FORM_MAX: usize = 32 * 1024;

/// The device that a click came from isn't read yet.
const DEVICE: Option<&str> = None;

/// What a person says about why.
#[derive(Deserialize, Default)]
pub(crate) struct Why {
    #[serde(default)]
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) preset: String,
}

impl Why {
    /// The reason: what was typed, or else the button.
    ///
    /// # Errors
    /// What is wrong with it, in a person's words.
    pub(crate) fn parse(&self) -> std::result::Result<&str, String> {
        let typed = self.reason.trim();
        let reason = if typed.is_empty() { self.preset.trim() } else { typed };
        match reason.chars().count() {
            _ if reason.contains('\0') => Err("The reason holds a NUL character; take it out.".to_owned()),
            0..=REASON_MAX => Ok(reason),
            n => Err(format!("The reason is {n} characters long; {REASON_MAX} is the most.")),
        }
    }
}

/// What a person sends off.
#[derive(Deserialize)]
pub(crate) struct Wished {
    #[serde(default)]
    runs: String,
    state: Option<String>,
    #[serde(default)]
    upto: String,
    #[serde(default)]
    once: String,
    mode: Option<String>,
    #[serde(flatten)]
    why: Why,
}

/// What is asked about.
enum Asked {
    Selected(Vec<RunId>),
    Filter(RunFilter),
}

#[derive(Template)]
#[template(path = "stops/new.html")]
struct ConfirmPage<'a> {
    frame: Frame,
    heading: String,
    /// Which runs, exactly.
    which: String,
    count: i64,
    parts: Vec<String>,
    rows: Vec<(Lamp, RunLine)>,
    /// Whether a graceful stop can still do something.
    graceful: bool,
    runs: String,
    filter: Option<&'static str>,
    upto: RunId,
    back: String,
    once: String,
    why: &'a Why,
    problem: Option<&'a str>,
}

/// The question before many are stopped: `run=1&run=2`, or `state=WORD` for all that match.
pub(crate) async fn confirm(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    request: HttpRequest,
) -> Result<HttpResponse> {
    let mut runs = Vec::new();
    let mut filter = None;
    for (key, value) in form_urlencoded::parse(request.query_string().as_bytes()) {
        match &*key {
            "run" => runs.push(value.into_owned()),
            "state" => filter = Some(value.into_owned()),
            _ => {}
        }
    }
    let asked = match (filter, &*runs) {
        (_, [_, ..]) => Asked::Selected(selected(runs.iter().map(String::as_str))?),
        (Some(word), []) => Asked::Filter(known(&word)?),
        (None, []) => return Err(nothing_selected()),
    };
    let page = Question { by: &by, site: &site, fleet: &fleet, asked, why: &Why::default(), problem: None };
    page.show().await
}

fn nothing_selected() -> Error {
    Error::Unprocessable("No run is selected.".to_owned())
}

fn known(word: &str) -> Result<RunFilter> {
    word.parse()
        .map_err(|_| Error::Unprocessable(format!("Runs can’t be {word:?}; there is no such filter.")))
}

fn selected<'a>(runs: impl Iterator<Item = &'a str>) -> Result<Vec<RunId>> {
    let mut ids = Vec::new();
    for run in runs {
        let id = run.parse().ok().filter(|id: &RunId| id.0 > 0);
        ids.push(id.ok_or_else(|| Error::Unprocessable(format!("{run:?} is no run.")))?);
    }
    ids.sort_unstable();
    ids.dedup();
    match ids.len() {
        0 => Err(nothing_selected()),
        n if n > Target::SELECTED_MAX => Err(Error::Unprocessable(format!(
            "{n} runs are selected; {} is the most. Stop all that match a filter instead.",
            Target::SELECTED_MAX
        ))),
        _ => Ok(ids),
    }
}

/// A question, and everything needed to put it.
struct Question<'a> {
    by: &'a Superuser,
    site: &'a Site,
    fleet: &'a Fleet,
    asked: Asked,
    why: &'a Why,
    problem: Option<&'a str>,
}

impl Question<'_> {
    async fn show(self) -> Result<HttpResponse> {
        let status = if self.problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
        let page = match &self.asked {
            Asked::Selected(ids) => self.about_selected(ids).await?,
            Asked::Filter(filter) => self.about_filter(*filter).await?,
        };
        show_as(status, &page)
    }

    async fn about_selected(&self, ids: &[RunId]) -> Result<ConfirmPage<'_>> {
        let mut lines = self.site.db.runs_of(self.by, ids).await?;
        let over = lines.len();
        lines.retain(|line| !line.state.is_over());
        let over = over - lines.len();
        let which = match (lines.len(), over) {
            (_, 0) => "Those you selected:".to_owned(),
            (_, 1) => "Those you selected; one of them is over already:".to_owned(),
            (_, n) => format!("Those you selected; {n} of them are over already:"),
        };
        let count = lines.len() as i64;
        let graceful = lines.iter().any(|line| line.wish_at.is_none());
        let ids: Vec<String> = lines.iter().map(|line| line.id.to_string()).collect();
        let lamp = |line: &RunLine| Lamp::of(line.state, line.outcome, line.is_unconfirmed());
        Ok(ConfirmPage {
            frame: self.fleet.frame(&self.site.db, self.by, Place::Runs).await?,
            heading: question(count),
            which,
            count,
            parts: Vec::new(),
            rows: lines.into_iter().map(|line| (lamp(&line), line)).collect(),
            graceful,
            runs: ids.join(","),
            filter: None,
            upto: RunId(0),
            back: "/?pick=1".to_owned(),
            once: fresh_token()?,
            why: self.why,
            problem: self.problem,
        })
    }

    async fn about_filter(&self, filter: RunFilter) -> Result<ConfirmPage<'_>> {
        if filter.reach().is_none() {
            return Err(Error::Unprocessable(
                "Runs like that are over already; none of them can be stopped.".into(),
            ));
        }
        let matches = self.site.db.matches(self.by, filter).await?;
        let word = filter.word().unwrap_or("all");
        Ok(ConfirmPage {
            frame: self.fleet.frame(&self.site.db, self.by, Place::Runs).await?,
            heading: question(matches.all()),
            which: format!("{}, up to run {}.", every(filter), matches.upto),
            count: matches.all(),
            parts: parts(&matches),
            rows: Vec::new(),
            graceful: filter != RunFilter::Unconfirmed,
            runs: String::new(),
            filter: Some(word),
            upto: matches.upto,
            back: format!("/?state={word}&pick=1"),
            once: fresh_token()?,
            why: self.why,
            problem: self.problem,
        })
    }
}

fn question(count: i64) -> String {
    match count {
        0 => "There is nothing to stop.".to_owned(),
        1 => "Stop one run?".to_owned(),
        n => format!("Stop {} runs?", show::count(n)),
    }
}

/// All that a filter shows, in words.
fn every(filter: RunFilter) -> String {
    match filter {
        RunFilter::All => "Every run that isn’t over".to_owned(),
        RunFilter::Unconfirmed => "Every run whose stop is unconfirmed".to_owned(),
        RunFilter::State(state) => format!("Every {state} run"),
        RunFilter::Outcome(outcome) => format!("Every run that {outcome}"),
    }
}

fn parts(matches: &Matches) -> Vec<String> {
    let part = |n: i64, what: &str| (n > 0).then(|| format!("{} {what}", show::count(n)));
    [
        part(matches.held, "held by workers"),
        part(matches.lost, "lost: their workers are silent"),
        part(matches.queued, "queued: they never start"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Writes the stop, tells the workers, and goes to its page. Sent twice it is one stop.
pub(crate) async fn wish(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    address: Address,
    wished: Form<Wished>,
) -> Result<HttpResponse> {
    let asked = match &wished.state {
        Some(word) => Asked::Filter(known(word)?),
        None => Asked::Selected(selected(wished.runs.split(',').filter(|run| !run.is_empty()))?),
    };
    let mode = match wished.mode.as_deref() {
        None => StopMode::Graceful,
        Some(word) => word.parse().map_err(|_| {
            Error::Unprocessable(format!(
                "Runs can be stopped by \"graceful\" or \"force\", not by {word:?}."
            ))
        })?,
    };
    let reason = match wished.why.parse() {
        Ok(reason) => reason,
        Err(problem) => {
            let (by, site, fleet, why) = (&by, &site, &fleet, &wished.why);
            return Question { by, site, fleet, asked, why, problem: Some(&problem) }.show().await;
        }
    };
    let target = match asked {
        Asked::Selected(runs) => Target::Selected(runs),
        Asked::Filter(filter) if filter.reach().is_none() => {
            return Err(Error::Unprocessable("Runs like that are over already.".to_owned()));
        }
        Asked::Filter(filter) => {
            let upto = wished.upto.parse().ok().filter(|upto: &RunId| upto.0 >= 0);
            Target::Filter(filter, upto.ok_or_else(|| Error::Unprocessable("Up to which run?".to_owned()))?)
        }
    };
    let address = address.to_string();
    let click = click(&wished.once, mode, reason, &address);
    let begun = site.db.stop_many(&by, &target, &click).await?;
    tracing::info!(stop = %begun.stop, fresh = begun.fresh, by = by.name(), "stop of many wished");
    spread(&site, &fleet, begun.tell).await;
    Ok(go_to(&format!("/stops/{}", begun.stop)))
}

/// A click, as its form sent it.
pub(crate) fn click<'a>(once: &'a str, mode: StopMode, reason: &'a str, address: &'a str) -> Click<'a> {
    let once = Some(once).filter(|once| !once.is_empty() && once.len() <= 64 && !once.contains('\0'));
    Click { once, mode, reason, device: DEVICE, address: Some(address) }
}

/// Tells the workers, then goes on writing for a moment, so that most stops are written whole when their page is shown.
pub(crate) async fn spread(site: &Site, fleet: &Fleet, first: Vec<Tell>) {
    fleet.forget();
    tell(site, first).await;
    let began = Instant::now();
    while began.elapsed() < WRITES_FOR {
        match write_on(site).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(%error, "the other wishes are written later");
                return;
            }
        }
    }
}

/// Tells workers to stop runs, and all of them to look. The wishes are written; Redis only makes it quick.
async fn tell(site: &Site, tells: Vec<Tell>) {
    let commands: Vec<(String, Command)> =
        tells.into_iter().map(|tell| (tell.worker, Command::Stop(tell.run, tell.mode))).collect();
    let (noticed, told) = tokio::join!(site.queue.notice(Notice::Stopping), site.queue.commands(&commands));
    if let Err(error) = told.and(noticed) {
        tracing::warn!(%error, "workers will find the wishes in Postgres");
    }
}

/// Writes one batch of each stop that isn't written whole. True when there is more that can be written now.
async fn write_on(site: &Site) -> crate::db::Result<bool> {
    let mut more = false;
    for stop in site.db.open_stops().await? {
        let written = site.db.write_wishes(stop).await?;
        more |= !written.whole && written.runs > 0;
        if !written.tell.is_empty() {
            tell(site, written.tell).await;
        }
    }
    Ok(more)
}

/// Goes on with what clicks began, whichever server took them, until shutdown.
pub(crate) async fn go_on(site: &Site, shutdown: &CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        loop {
            match write_on(site).await {
                Ok(true) if !shutdown.is_cancelled() => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::debug!(%error, "stops can't be gone on with");
                    break;
                }
            }
        }
    }
}

/// Which part of the list is asked for.
#[derive(Deserialize)]
pub(crate) struct Part {
    before: Option<String>,
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "stops/index.html")]
struct ListPage {
    frame: Frame,
    rows: Vec<Row>,
    newer: Option<i64>,
    older: Option<i64>,
}

struct Row {
    stop: Stop,
    counts: StopCounts,
    what: String,
    lamp: Lamp,
    at: Moment,
}

/// The stops, newest first.
pub(crate) async fn index(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    part: Query<Part>,
) -> Result<HttpResponse> {
    let cursor = cursor(part.before.as_deref(), part.after.as_deref())?;
    let page = site.db.stops_page(&by, cursor).await?;
    let frame = fleet.frame(&site.db, &by, Place::Runs).await?;
    let now = clock::now();
    let row = |(stop, counts): (Stop, StopCounts)| Row {
        what: what(&stop),
        lamp: lamp(&counts, stop.written_at.is_some()),
        at: Moment::new(stop.at, now),
        stop,
        counts,
    };
    let rows = page.rows.into_iter().map(row).collect();
    show(&ListPage { frame, rows, newer: page.newer, older: page.older })
}

/// What a stop is of, in words.
pub(crate) fn what(stop: &Stop) -> String {
    match (stop.kind, stop.filter) {
        (StopKind::Everything, _) => "The red handle".to_owned(),
        (StopKind::Filter, Some(filter)) => format!("{}, up to run {}", every(filter), stop.upto),
        _ => "Selected runs".to_owned(),
    }
}

/// The lamp of a whole stop: proven, or not yet.
pub(crate) fn lamp(counts: &StopCounts, written: bool) -> Lamp {
    if written && counts.unproven() == 0 {
        return Lamp {
            word: "Proven over",
            ..Lamp::of(State::Ended, Some(crate::model::run::Outcome::Terminated), false)
        };
    }
    let lamp = Lamp { beside: None, ..Lamp::of(State::Running, None, true) };
    match (counts.unconfirmed + counts.pending, counts.lost) {
        (0, 1..) if written => Lamp { beside: None, ..Lamp::of(State::Lost, None, false) },
        _ => Lamp { word: "Unconfirmed", ..lamp },
    }
}
