//! Refusals: a superuser's click that was refused has its row in the audit, whatever refused it.

use actix_web::FromRequest;
use actix_web::HttpRequest;
use actix_web::dev::ServiceResponse;

use super::Site;
use super::address::Address;
use super::error::Error;
use super::page::Problem;
use crate::db::{self, Superuser};
use crate::model::run::RunId;
use crate::model::text;

/// How much of a path and of a reason is kept, in characters.
const KEPT: (usize, usize) = (100, 300);

/// Notes that a click was refused, where it was and nothing else has noted that.
pub(crate) async fn note<B>(site: &Site, by: &Superuser, response: &ServiceResponse<B>) {
    let request = response.request();
    let refused = response.status().is_client_error() && !request.method().is_safe();
    let Some(page) = request.match_pattern().filter(|_| refused && !db::is_noted()) else { return };
    let what = if page == "/stops" || page == "/runs/{id}/terminate" { "stop refused" } else { "refused" };
    let run = request.match_info().get("id").filter(|_| page.starts_with("/runs/"));
    let run = run.and_then(|id| id.parse().ok()).map(RunId);
    let path = text::head(&text::inert_line(request.path()), KEPT.0);
    let why = text::head(&text::inert_line(&why(response)), KEPT.1);
    let detail = format!("{} {path}: {why}", request.method());
    let address = address(request).await;
    if let Err(error) = site.db.note_refusal(by, what, run, &detail, address.as_deref()).await {
        tracing::warn!(%error, what, detail, by = by.name(), "refused, and not noted");
    }
}

/// Where a request comes from, as the audit has it.
pub(crate) async fn address(request: &HttpRequest) -> Option<String> {
    Address::extract(request).await.ok().map(|address| address.to_string())
}

/// Why, in the words of the page.
fn why<B>(response: &ServiceResponse<B>) -> String {
    if let Some(Problem(problem)) = response.response().extensions().get() {
        return problem.clone();
    }
    let error = response.response().error().and_then(|error| error.as_error::<Error>());
    error.map_or_else(|| response.status().to_string(), |error| error.what().to_owned())
}
