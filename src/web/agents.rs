//! The agents.

use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

use super::Site;
use super::error::Result;
use super::fleet::Fleet;
use super::page::{Frame, Place, show};
use super::show;
use crate::db::Superuser;
use crate::model::agent::Agent;

#[derive(Template)]
#[template(path = "agents/index.html")]
struct AgentsPage {
    frame: Frame,
    first: String,
    agents: Vec<Agent>,
}

/// The page.
pub(crate) async fn index(by: Superuser, site: Data<Site>, fleet: Data<Fleet>) -> Result<HttpResponse> {
    let agents = site.db.agents(&by).await?;
    let frame = fleet.frame(&site.db, &by, Place::Agents).await?;
    let first = match agents.len() {
        1 => "One agent.".to_owned(),
        n => format!("{} agents.", show::word(n)),
    };
    show(&AgentsPage { frame, first, agents })
}
