//! The audit.

use actix_web::HttpResponse;
use actix_web::web::{Data, Query};
use askama::Template;
use serde::Deserialize;

use super::Site;
use super::error::Result;
use super::fleet::Fleet;
use super::page::{Frame, Place, cursor, show};
use super::show::Moment;
use crate::clock;
use crate::db::{AuditLine, Superuser};

/// Which part of it is asked for.
#[derive(Deserialize)]
pub(crate) struct Asked {
    before: Option<String>,
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "audit/index.html")]
struct AuditPage {
    frame: Frame,
    lines: Vec<(AuditLine, Moment)>,
    newer: Option<i64>,
    older: Option<i64>,
}

/// The page, newest first.
pub(crate) async fn index(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    asked: Query<Asked>,
) -> Result<HttpResponse> {
    let cursor = cursor(asked.before.as_deref(), asked.after.as_deref())?;
    let page = site.db.audit_page(&by, cursor).await?;
    let frame = fleet.frame(&site.db, &by, Place::Audit).await?;
    let now = clock::now();
    let dated = |line: AuditLine| {
        let at = Moment::new(line.at, now);
        (line, at)
    };
    let lines = page.rows.into_iter().map(dated).collect();
    show(&AuditPage { frame, lines, newer: page.newer, older: page.older })
}
