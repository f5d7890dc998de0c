//! The work that was saved before a stop, to take away.

use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use actix_web::web::Data;

use super::Site;
use super::error::Result;
use crate::db::Superuser;
use crate::model::run::RunId;

/// The patch, as a file: no browser shows or runs what an agent wrote.
pub(crate) async fn patch(by: Superuser, site: Data<Site>, id: RunId) -> Result<HttpResponse> {
    let patch = site.db.saved_patch(&by, id).await?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/plain; charset=utf-8"))
        .insert_header((CONTENT_DISPOSITION, format!("attachment; filename=\"run-{id}.patch\"")))
        .body(patch))
}
