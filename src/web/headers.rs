//! What every answer carries, errors and redirects too; and the line that each request leaves in the log.

use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::Data;

use super::counts::Counts;
use super::error::Error;

/// Starts at nothing; each permission is one that our pages need: scripts of ours, of which `static/live.js` alone may make
/// elements of text, and `static/shell.js` alone may name a service worker, each by a policy of its own.
const CSP: &str = "default-src 'none'; style-src 'self'; img-src 'self'; manifest-src 'self'; script-src 'self'; \
    worker-src 'self'; connect-src 'self'; require-trusted-types-for 'script'; trusted-types live worker; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const ALWAYS: [(&str, &str); 7] = [
    ("content-security-policy", CSP),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    // `no-referrer` would make browsers send `Origin: null` with our own forms (Fetch standard, "append a request
    // Origin header").
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    // Browsers heed it over https only (RFC 6797, section 8.1).
    ("strict-transport-security", "max-age=31536000"),
];

/// Puts on what every answer carries. Pages are not stored anywhere; an asset says otherwise by itself.
pub(crate) fn dress(headers: &mut HeaderMap) {
    for (name, value) in ALWAYS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// The outermost layer: every answer is dressed, every error is one of ours, every request is logged. Cookies, bodies
/// and query strings are never logged.
pub(crate) async fn outermost(
    counts: Data<Counts>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let (method, path, began) = (request.method().clone(), request.path().to_owned(), Instant::now());
    let answer = match next.call(request).await {
        Ok(answer) => Ok(as_page(answer.map_into_boxed_body())),
        // Only two layers fail instead of answering: ours, with one of our errors, and the session's, when its store
        // doesn't answer.
        Err(error) if error.as_error::<Error>().is_some() => Err(error),
        Err(error) => Err(Error::Unavailable(format!("session store: {error}")).into()),
    };
    let status = match &answer {
        Ok(answer) => answer.status(),
        Err(error) => error.as_response_error().status_code(),
    };
    let failed = match &answer {
        Ok(answer) => answer.response().error(),
        Err(error) => Some(error),
    };
    let failed = failed.and_then(|error| error.as_error::<Error>());
    if let Some(error) = failed {
        error.log();
    }
    counts.answered(status, failed, !method.is_safe());
    let (status, took_ms) = (status.as_u16(), began.elapsed().as_millis() as u64);
    if status >= 500 {
        tracing::warn!(%method, ?path, status, took_ms, "answered");
    } else {
        tracing::debug!(%method, ?path, status, took_ms, "answered");
    }
    answer
}

/// Dresses an answer; one that actix made for an error of its own becomes our page.
fn as_page(mut answer: ServiceResponse) -> ServiceResponse {
    dress(answer.headers_mut());
    let status = answer.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let is_ours = answer.headers().get(CONTENT_TYPE).is_some_and(|value| value == super::page::HTML);
    if !is_error || is_ours {
        return answer;
    }
    let error = Error::of_status(status, answer.response().error());
    let (request, _) = answer.into_parts();
    ServiceResponse::from_err(error, request)
}
