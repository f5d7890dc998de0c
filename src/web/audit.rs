//! The audit.

use actix_web::HttpResponse;

use super::error::Result;
use crate::db::Superuser;

/// The page.
pub(crate) async fn index(_by: Superuser) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().content_type(super::page::HTML).body("audit"))
}
