//! Runs: the list, and the form that starts one.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use bytes::Bytes;
use serde::Deserialize;

use super::Site;
use super::address::Address;
use super::error::{Error, Result};
use super::filter::Asked;
use super::fleet::Fleet;
use super::form::{Form, fresh_token};
use super::listing::{self, List, Part};
use super::page::{self, Frame, Place, go_to, show_again, show_drawn};
use super::turns::Turns;
use crate::clock;
use crate::db::{self, Superuser};
use crate::model::agent::Agent;
use crate::model::run::{NewRun, RunId};
use crate::queue::Notice;

/// The largest form, in bytes as they are sent: a prompt of 256 KiB can be three times as long when encoded.
pub(crate) const FORM_MAX: usize = 1024 * 1024;

/// How long a list may be waited for besides its statements, while another drawing of it goes on.
const BESIDES: Duration = Duration::from_millis(400);

/// Lists that are being drawn, each for its person: all who wait for the same one share a drawing.
pub(crate) type Drawings = Turns<(i64, List), std::result::Result<Bytes, Arc<Error>>>;

/// The list. What a filter's form leaves empty has no place in the address; what makes no sense comes back with what is wrong.
pub(crate) async fn index(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    drawings: Data<Drawings>,
    query: (Query<Asked>, Query<Part>),
    request: HttpRequest,
) -> Result<HttpResponse> {
    let (asked, part) = (query.0.into_inner(), query.1.into_inner());
    if let Err(problem) = asked.parse() {
        let frame = fleet.frame(&site.db, &by, Place::Runs).await?;
        let choices = fleet.choices(&site.db, &by).await?;
        return show_again(Some(&problem), &listing::refused(frame, choices, asked, &part, problem.clone()));
    }
    let list = List::read(&asked, &part)?;
    if request.query_string().split('&').any(|part| part.ends_with('=')) {
        return Ok(go_to(&list.href()));
    }
    let draw = async || draw(&by, &site, &fleet, &list).await.map_err(Arc::new);
    let drawn = drawings.look((by.id(), list.clone()), draw);
    match tokio::time::timeout(db::left() + BESIDES, drawn).await {
        Ok(drawn) => Ok(show_drawn(drawn.map_err(|met| Error::shared(&met))?)),
        Err(_) => Err(Error::Unavailable("the list wasn't drawn in time".to_owned())),
    }
}

async fn draw(by: &Superuser, site: &Site, fleet: &Fleet, list: &List) -> Result<Bytes> {
    let frame = fleet.frame(&site.db, by, Place::Runs).await?;
    let choices = fleet.choices(&site.db, by).await?;
    let seen = list.seen(site, by, &frame.notice.stuck).await?;
    page::draw(&list.page(frame, choices, seen, clock::now()))
}

/// What the form is opened with.
#[derive(Deserialize)]
pub(crate) struct Opened {
    #[serde(default)]
    agent: String,
    like: Option<String>,
}

/// What a person fills in.
#[derive(Clone, Deserialize)]
pub(crate) struct Filled {
    #[serde(default)]
    agent: String,
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    once: String,
    #[serde(default)]
    retry_of: String,
}

#[derive(Template)]
#[template(path = "runs/new.html")]
struct FormPage<'a> {
    frame: Frame,
    agents: Vec<Agent>,
    agent: &'a str,
    prompt: &'a str,
    title: &'a str,
    once: &'a str,
    retry_of: &'a str,
    problem: Option<&'a str>,
}

/// The form that starts a run; `like` fills it with what another run was asked.
pub(crate) async fn form(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    opened: Query<Opened>,
) -> Result<HttpResponse> {
    let mut filled = Filled {
        agent: opened.agent.clone(),
        prompt: String::new(),
        title: String::new(),
        once: fresh_token()?,
        retry_of: String::new(),
    };
    if let Some(like) = &opened.like {
        let like: RunId = like.parse().map_err(|_| Error::NotFound)?;
        let run = site.db.run(&by, like).await?;
        (filled.agent, filled.prompt, filled.title) = (run.agent, run.prompt, run.title);
        filled.retry_of = like.to_string();
    }
    form_page(&by, &site, &fleet, &filled, None).await
}

async fn form_page(
    by: &Superuser,
    site: &Site,
    fleet: &Fleet,
    filled: &Filled,
    problem: Option<&str>,
) -> Result<HttpResponse> {
    let page = FormPage {
        frame: fleet.frame(&site.db, by, Place::Runs).await?,
        agents: site.db.agents(by).await?,
        agent: &filled.agent,
        prompt: &filled.prompt,
        title: &filled.title,
        once: &filled.once,
        retry_of: &filled.retry_of,
        problem,
    };
    show_again(problem, &page)
}

/// Starts a run. What can't be right comes back with everything that was typed.
pub(crate) async fn start(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    address: Address,
    filled: Form<Filled>,
) -> Result<HttpResponse> {
    // Browsers send every newline of a textarea as CR LF (HTML standard, "constructing the entry list").
    let prompt = filled.prompt.replace("\r\n", "\n");
    let new = match NewRun::parse(&filled.agent, &prompt, &filled.title, Some(&filled.once)) {
        Ok(new) => NewRun { retry_of: filled.retry_of.parse().ok(), ..new },
        Err(wrong) => return form_page(&by, &site, &fleet, &filled, Some(&wrong.to_string())).await,
    };
    match begin(&by, &site, &fleet, &address, &new).await {
        Err(db::Error::NotFound) => {
            let problem = match filled.agent.as_str() {
                "" => "Say which agent shall do it.".to_owned(),
                name => format!("There is no agent called {name}."),
            };
            form_page(&by, &site, &fleet, &filled, Some(&problem)).await
        }
        Err(db::Error::Conflict(met)) => {
            let problem =
                format!("{met} It says something else now, which wasn’t started. Once more starts it too.");
            let again = Filled { once: fresh_token()?, ..Filled::clone(&filled) };
            form_page(&by, &site, &fleet, &again, Some(&problem)).await
        }
        begun => Ok(begun?),
    }
}

/// Starts a run, tells the workers, and goes on to its page.
pub(crate) async fn begin(
    by: &Superuser,
    site: &Site,
    fleet: &Fleet,
    address: &Address,
    new: &NewRun,
) -> db::Result<HttpResponse> {
    let started = site.db.start_run(by, new, Some(&address.to_string())).await?;
    fleet.forget();
    if started.fresh
        && let Err(error) = site.queue.notice(Notice::Queued(started.run)).await
    {
        tracing::debug!(%error, run = %started.run, "workers will find the run by themselves");
    }
    Ok(go_to(&format!("/runs/{}", started.run)))
}
