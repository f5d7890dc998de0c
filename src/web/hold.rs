//! The held queue, and drained workers: nothing new starts, here or anywhere.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path};
use askama::Template;

use super::Site;
use super::address::Address;
use super::error::{Error, Result};
use super::fleet::Fleet;
use super::form::{Form, Why};
use super::page::{Frame, Place, go_to, show_again};
use crate::db::{self, Superuser};
use crate::model::run::{RunFilter, RunId, State};
use crate::queue::Notice;

#[derive(Template)]
#[template(path = "workers/hold.html")]
struct HoldPage<'a> {
    frame: Frame,
    /// Runs that wait.
    waiting: i64,
    problem: Option<&'a str>,
}

/// The question: hold the queue, or release it?
pub(crate) async fn ask(by: Superuser, site: Data<Site>, fleet: Data<Fleet>) -> Result<HttpResponse> {
    hold_page(&by, &site, &fleet, None).await
}

async fn hold_page(
    by: &Superuser,
    site: &Site,
    fleet: &Fleet,
    problem: Option<&str>,
) -> Result<HttpResponse> {
    // What was known a second ago may be what somebody has just changed.
    fleet.forget();
    let waiting = site.db.matches(by, &RunFilter::State(State::Queued).into()).await?.queued;
    let frame = fleet.frame(&site.db, by, Place::Workers).await?;
    show_again(problem, &HoldPage { frame, waiting, problem })
}

/// Holds it.
pub(crate) async fn hold(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    address: Address,
    why: Form<Why>,
) -> Result<HttpResponse> {
    let reason = match why.parse() {
        Ok(reason) => reason,
        Err(problem) => return hold_page(&by, &site, &fleet, Some(&problem)).await,
    };
    let fresh = site.db.hold(&by, reason, Some(&address.to_string())).await?;
    changed(&site, &fleet).await;
    tracing::info!(by = by.name(), fresh, "queue held");
    Ok(go_to("/hold"))
}

/// Releases it; while the red handle hasn't been left, that is its own last step.
pub(crate) async fn release(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    address: Address,
) -> Result<HttpResponse> {
    if site.db.standing(&by).await?.handle.is_some() {
        let problem = "The red handle holds it. Leave the handle first, step by step.";
        site.db.note_idle(&by, "queue not released", problem, Some(&address.to_string())).await?;
        return hold_page(&by, &site, &fleet, Some(problem)).await;
    }
    match site.db.release_queue(&by, Some(&address.to_string())).await {
        Ok(fresh) => {
            changed(&site, &fleet).await;
            tracing::info!(by = by.name(), fresh, "queue released");
            wake(&site).await;
            Ok(go_to("/hold"))
        }
        Err(db::Error::Conflict(why)) => hold_page(&by, &site, &fleet, Some(&why)).await,
        Err(error) => Err(error.into()),
    }
}

/// Tells every page that what stands for the fleet is another; they find out by themselves, only later.
pub(crate) async fn changed(site: &Site, fleet: &Fleet) {
    fleet.forget();
    if let Err(error) = site.queue.notice(Notice::Standing).await {
        tracing::debug!(%error, "pages will look by themselves");
    }
}

/// Tells workers that there may be something to take; they find out by themselves, only later.
pub(crate) async fn wake(site: &Site) {
    if let Err(error) = site.queue.notice(Notice::Queued(RunId(0))).await {
        tracing::debug!(%error, "workers will look by themselves");
    }
}

/// From here on the worker takes nothing.
pub(crate) async fn drain(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    address: Address,
    worker: Path<String>,
    why: Form<Why>,
) -> Result<HttpResponse> {
    let reason = why.parse().map_err(Error::Unprocessable)?;
    set_drained(&by, &site, &fleet, address, &worker, Some(reason)).await
}

/// From here on it takes runs again.
pub(crate) async fn undrain(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    address: Address,
    worker: Path<String>,
) -> Result<HttpResponse> {
    set_drained(&by, &site, &fleet, address, &worker, None).await
}

async fn set_drained(
    by: &Superuser,
    site: &Site,
    fleet: &Fleet,
    address: Address,
    worker: &str,
    why: Option<&str>,
) -> Result<HttpResponse> {
    if worker.contains('\0') {
        return Err(Error::NotFound);
    }
    let address = address.to_string();
    let drained = why.is_some();
    let fresh = site.db.drain(by, worker, drained, why.unwrap_or_default(), Some(&address)).await?;
    changed(site, fleet).await;
    tracing::info!(by = by.name(), worker, drained, fresh, "worker drained or not");
    if !drained {
        wake(site).await;
    }
    Ok(go_to("/workers"))
}
