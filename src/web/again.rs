//! The same once more: a run that is asked what another one was asked, and names it.

use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;
use serde::Deserialize;

use super::Site;
use super::address::Address;
use super::error::{Error, Result};
use super::fleet::Fleet;
use super::form::{Form, fresh_token};
use super::lamp::Lamp;
use super::page::{Frame, Place, show};
use super::runs;
use super::spent;
use crate::db::Superuser;
use crate::model::run::{NewRun, Run, RunId};

#[derive(Template)]
#[template(path = "runs/again.html")]
struct AgainPage {
    frame: Frame,
    lamp: Lamp,
    spent: Option<String>,
    once: String,
    run: Run,
}

/// The question.
pub(crate) async fn ask(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    id: RunId,
) -> Result<HttpResponse> {
    let run = site.db.run(&by, id).await?;
    let page = AgainPage {
        frame: fleet.frame(&site.db, &by, Place::Runs).await?,
        lamp: Lamp::of_run(&run),
        spent: spent::of_run(&run),
        once: fresh_token()?,
        run,
    };
    show(&page)
}

/// What the question sends.
#[derive(Deserialize)]
pub(crate) struct Sent {
    #[serde(default)]
    once: String,
}

/// Starts it.
pub(crate) async fn start(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    address: Address,
    id: RunId,
    sent: Form<Sent>,
) -> Result<HttpResponse> {
    if sent.once.is_empty() {
        return Err(Error::Unprocessable(
            "The form says nothing of itself; it would start a run each time.".to_owned(),
        ));
    }
    let run = site.db.run(&by, id).await?;
    let new = NewRun::parse(&run.agent, &run.prompt, &run.title, Some(&sent.once))
        .map_err(|wrong| Error::Unprocessable(wrong.to_string()))?;
    runs::begin(&by, &site, &fleet, &address, &NewRun { retry_of: Some(id), ..new })
        .await
        .map_err(Error::from)
}
