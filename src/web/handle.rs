//! The red handle: the question, and the pull. The way out is [`super::leave`].

use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

use super::Site;
use super::address::Address;
use super::device::Device;
use super::error::Result;
use super::fleet::Fleet;
use super::form::{Form, Why};
use super::lamp::Sign;
use super::page::{Frame, Place, go_to, show_again};
use super::spread::{click, spread};
use super::terminate::REASONS;
use crate::db::{Matches, Superuser};
use crate::model::run::{RunFilter, StopMode};

/// The handle itself, as a picture.
const HANDLE: Sign = Sign { shape: "handle", tone: "", word: "The red handle" };

#[derive(Template)]
#[template(path = "handle/pull.html")]
struct PullPage<'a> {
    frame: Frame,
    matches: Matches,
    why: &'a Why,
    problem: Option<&'a str>,
}

/// The question; while the handle is pulled, its receipts.
pub(crate) async fn ask(by: Superuser, site: Data<Site>, fleet: Data<Fleet>) -> Result<HttpResponse> {
    let standing = site.db.standing(&by).await?;
    match (standing.handle, standing.gates_closed) {
        (Some(stop), Some(_)) => Ok(go_to(&format!("/stops/{stop}"))),
        _ => pull_page(&by, &site, &fleet, &Why::default(), None).await,
    }
}

async fn pull_page(
    by: &Superuser,
    site: &Site,
    fleet: &Fleet,
    why: &Why,
    problem: Option<&str>,
) -> Result<HttpResponse> {
    let matches = site.db.matches(by, &RunFilter::All.into()).await?;
    let frame = fleet.frame(&site.db, by, Place::Handle).await?;
    show_again(problem, &PullPage { frame, matches, why, problem })
}

/// Pulls it. Pulled twice it is one pull.
pub(crate) async fn pull(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    device: Device,
    address: Address,
    why: Form<Why>,
) -> Result<HttpResponse> {
    let reason = match why.parse() {
        Ok(reason) => reason,
        Err(problem) => return pull_page(&by, &site, &fleet, &why, Some(&problem)).await,
    };
    let address = address.to_string();
    let click = click("", StopMode::Force, reason, &device, &address);
    let begun = site.db.pull_handle(&by, &click).await?;
    tracing::warn!(stop = %begun.stop, fresh = begun.fresh, by = by.name(), "red handle pulled");
    spread(&site, &fleet, begun.tell).await;
    Ok(go_to(&format!("/stops/{}", begun.stop)))
}
