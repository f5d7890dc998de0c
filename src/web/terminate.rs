//! The question before a stop, with what the stop would cost, and the wish itself.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;
use serde::Deserialize;
use tokio::time::{sleep, timeout};
use tracing::{Instrument, info_span};

use super::Site;
use super::address::Address;
use super::device::Device;
use super::error::{Error, Result};
use super::fleet::Fleet;
use super::form::Form;
use super::glance::Within;
use super::lamp::Lamp;
use super::page::{Frame, Place, go_to, show_again};
use super::run::since;
use super::show::{self, Moment};
use super::spent;
use crate::clock;
use crate::db::Superuser;
use crate::model::run::{Run, RunId, State, StopMode};
use crate::model::work::{NewStop, WorkSeen};
use crate::queue::{Command, Notice};
use crate::telemetry;

/// Reasons within a thumb's reach.
pub(crate) const REASONS: [&str; 4] = ["It loops", "Wrong task", "Costs too much", "No longer needed"];

/// The longest reason, in characters.
pub(crate) const REASON_MAX: usize = 500;

/// How long the question waits for a look at the work; after that it shows what was last known.
const LOOK_WAIT: Duration = Duration::from_millis(600);
/// Between two questions whether it has come.
const LOOK_TICK: Duration = Duration::from_millis(40);
/// What was seen this short a time ago needs no other look.
const LOOK_FRESH: Duration = Duration::from_secs(2);

/// What a person says when they stop a run.
#[derive(Deserialize, Default)]
pub(crate) struct Said {
    mode: Option<String>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    preset: String,
    #[serde(default)]
    save: String,
}

impl Said {
    fn mode(&self) -> Result<StopMode> {
        let Some(word) = self.mode.as_deref() else { return Ok(StopMode::Graceful) };
        word.parse().map_err(|_| {
            Error::Unprocessable(format!(
                "A run can be stopped by \"graceful\" or \"force\", not by {word:?}."
            ))
        })
    }

    fn saves(&self) -> Result<bool> {
        match self.save.as_str() {
            "" => Ok(false),
            "yes" => Ok(true),
            word => {
                Err(Error::Unprocessable(format!("The work can be saved: \"yes\" or nothing, not {word:?}.")))
            }
        }
    }

    /// The reason: what was typed, else what was chosen.
    fn reason(&self) -> std::result::Result<&str, String> {
        let typed = self.reason.trim();
        let reason = if typed.is_empty() { self.preset.trim() } else { typed };
        match reason.chars().count() {
            _ if reason.contains('\0') => Err("The reason holds a NUL character; take it out.".to_owned()),
            0..=REASON_MAX => Ok(reason),
            n => Err(format!("The reason is {n} characters long; {REASON_MAX} is the most.")),
        }
    }
}

#[derive(Template)]
#[template(path = "runs/terminate.html")]
struct ConfirmPage<'a> {
    frame: Frame,
    lamp: Lamp,
    since: String,
    spent: Option<String>,
    within: Option<Within>,
    work: Option<Work>,
    said: &'a Said,
    problem: Option<&'a str>,
    run: Run,
}

/// What a stop would lose of the workspace.
struct Work {
    what: String,
    /// Whether there is anything.
    any: bool,
    trouble: Option<String>,
    seen: Moment,
}

impl Work {
    fn new(seen: WorkSeen, now: time::OffsetDateTime) -> Self {
        let of =
            |n: i64, one: &str, many: &str| format!("{} {}", show::count(n), if n == 1 { one } else { many });
        let files = seen.files.map(|n| format!("{} uncommitted", of(n, "file", "files")));
        let unpushed = seen.unpushed.filter(|n| *n > 0);
        let commits = unpushed.map(|n| format!("{} unpushed", of(n, "commit", "commits")));
        let any = seen.files.is_none_or(|n| n > 0) || unpushed.is_some();
        let what = match (files, commits) {
            _ if !any => "nothing uncommitted or unpushed".to_owned(),
            (Some(files), Some(commits)) => format!("{files}, {commits}"),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => "not known".to_owned(),
        };
        Self { what, any, trouble: seen.trouble, seen: Moment::new(seen.at, now) }
    }
}

/// The question before a stop.
pub(crate) async fn confirm(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    id: RunId,
) -> Result<HttpResponse> {
    confirm_page(&by, &site, &fleet, id, &Said::default(), None).await
}

async fn confirm_page(
    by: &Superuser,
    site: &Site,
    fleet: &Fleet,
    id: RunId,
    said: &Said,
    problem: Option<&str>,
) -> Result<HttpResponse> {
    // Side by side, so that together they take no longer than one statement may.
    let (run, frame) = tokio::join!(site.db.run(by, id), fleet.frame(&site.db, by, Place::Runs));
    let (run, frame) = (run?, frame?);
    let work = look(site, by, &run).await;
    let now = clock::now();
    show_again(
        problem,
        &ConfirmPage {
            frame,
            lamp: Lamp::of_run(&run),
            since: since(&run, now),
            spent: spent::of_run(&run),
            within: Within::of(&run, now),
            work: work.map(|seen| Work::new(seen, now)),
            said,
            problem,
            run,
        },
    )
}

/// What a stop would lose: seen just now, when the worker answers in time, or else when it was last seen.
async fn look(site: &Site, by: &Superuser, run: &Run) -> Option<WorkSeen> {
    let known = run.work.clone();
    let fresh = known.as_ref().is_some_and(|seen| Moment::new(seen.at, clock::now()).age() < LOOK_FRESH);
    let listens = run.state == State::Running && run.stop.is_none() && run.stops_itself_at().is_none();
    let Some(worker) = run.worker.as_deref().filter(|_| listens && !fresh) else { return known };
    let before = known.as_ref().map(|seen| seen.at);
    let asked = async {
        site.queue.command(worker, Command::Look(run.id), None).await.ok()?;
        loop {
            sleep(LOOK_TICK).await;
            let seen = site.db.seen_work(by, run.id).await.ok()?;
            if seen.as_ref().map(|seen| seen.at) != before {
                return seen;
            }
        }
    };
    timeout(LOOK_WAIT, asked).await.ok().flatten().or(known)
}

/// Writes the wish to stop, then tells the worker. Sent twice it is one wish, and noted twice.
pub(crate) async fn terminate(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    (address, device): (Address, Device),
    id: RunId,
    said: Form<Said>,
) -> Result<HttpResponse> {
    let (mode, save) = (said.mode()?, said.saves()?);
    let reason = match said.reason() {
        Ok(reason) => reason,
        Err(problem) => return confirm_page(&by, &site, &fleet, id, &said, Some(&problem)).await,
    };
    let address = address.to_string();
    let stop = NewStop { mode, reason, save, address: Some(&address), device: device.0.as_deref() };
    let writing = info_span!(target: telemetry::TRACE, "wish written", run = id.0);
    let stopped = site.db.wish_stop(&by, id, &stop).instrument(writing).await?;
    fleet.forget();
    tracing::info!(run = %id, mode = mode.word(), save, fresh = stopped.fresh, by = by.name(), "stop wished");
    // The wish is written; Redis only makes it quick.
    let tell = async {
        let Some((worker, mode)) = &stopped.tell else { return Ok(()) };
        let save = stopped.save;
        let command = if save { Command::SaveAndStop(id, *mode) } else { Command::Stop(id, *mode) };
        site.queue.command(worker, command, telemetry::here()).await
    };
    let sending = info_span!(target: telemetry::TRACE, "command sent", run = id.0);
    let (told, noticed) = tokio::join!(tell.instrument(sending), site.queue.notice(Notice::Changed(id)));
    if let Err(error) = told.and(noticed) {
        tracing::warn!(%error, run = %id, "the worker will find the wish in Postgres");
    }
    Ok(go_to(&format!("/runs/{id}")))
}
