//! A run's transcript, as it comes.

use actix_web::HttpResponse;

use super::error::{Error, Result};
use crate::db::Superuser;
use crate::model::run::RunId;

/// The transcript, live.
pub(crate) async fn stream(_by: Superuser, _run: RunId) -> Result<HttpResponse> {
    Err(Error::NotFound)
}
