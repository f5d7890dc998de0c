//! Runs: the list, the form, one run, and its end.

use actix_web::HttpResponse;

use super::error::{Error, Result};
use crate::db::Superuser;
use crate::model::run::RunId;

/// The largest form, in bytes as they are sent: a prompt of 256 KiB can be three times as long when encoded.
pub(crate) const FORM_MAX: usize = 1024 * 1024;

/// The list.
pub(crate) async fn index(_by: Superuser) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().content_type(super::page::HTML).body("runs"))
}

/// The form that starts a run.
pub(crate) async fn form(_by: Superuser) -> Result<HttpResponse> {
    Err(Error::NotFound)
}

/// Starts a run.
pub(crate) async fn start(_by: Superuser) -> Result<HttpResponse> {
    Err(Error::NotFound)
}

/// One run.
pub(crate) async fn show(_by: Superuser, _run: RunId) -> Result<HttpResponse> {
    Err(Error::NotFound)
}

/// The question before a stop, for browsers without JavaScript.
pub(crate) async fn confirm(_by: Superuser, _run: RunId) -> Result<HttpResponse> {
    Err(Error::NotFound)
}

/// Writes the wish to stop.
pub(crate) async fn terminate(_by: Superuser, _run: RunId) -> Result<HttpResponse> {
    Err(Error::NotFound)
}
