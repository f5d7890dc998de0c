//! The files under `static/`, part of the program. Their path holds a version made from what they contain, so that a
//! browser may keep them for ever.

use std::sync::LazyLock;

use actix_web::guard::{Guard, GuardContext};
use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use rust_embed::RustEmbed;
use sha2::{Digest, Sha256};

use super::error::{Error, Result};
use super::page::HTML;

#[derive(RustEmbed)]
#[folder = "static/"]
struct Files;

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut all = Sha256::new();
    for name in Files::iter() {
        all.update(name.as_bytes());
        all.update(Files::get(&name).map_or([0; 32], |file| file.metadata.sha256_hash()));
    }
    all.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
});

/// The path of a file under `static/`, for templates.
pub(crate) fn url(file: &str) -> String {
    format!("/static/{}/{file}", *VERSION)
}

/// The service worker's own file. It is found again under one path, whatever the version, since browsers know a worker by it.
const WORKER: &str = "sw.js";
const WORKER_PATH: &str = "/static/worker/sw.js";

/// Lets through only the paths of files that there are.
pub(crate) struct Known;

impl Guard for Known {
    fn check(&self, request: &GuardContext<'_>) -> bool {
        let path = request.head().uri.path();
        let known = |file: &str| file != WORKER && Files::get(file).is_some() && url(file) == path;
        path == WORKER_PATH || path.rsplit_once('/').is_some_and(|(_, file)| known(file))
    }
}

/// One file.
pub(crate) async fn file(request: HttpRequest) -> Result<HttpResponse> {
    let name = request.match_info().get("file").unwrap_or_default();
    if name == WORKER {
        return worker();
    }
    let file = Files::get(name).ok_or(Error::NotFound)?;
    let kind = match name.rsplit_once('.').map(|(_, kind)| kind) {
        Some("html") => {
            return Ok(kept().content_type(HTML).body(versioned(&file.data)));
        }
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    };
    Ok(kept().content_type(kind).body(file.data.into_owned()))
}

/// An answer that a browser may keep for ever.
fn kept() -> HttpResponseBuilder {
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CACHE_CONTROL, "public, max-age=31536000, immutable"));
    answer
}

/// A text, with the version put in where it says `{version}`.
fn versioned(text: &[u8]) -> String {
    String::from_utf8_lossy(text).replace("{version}", &VERSION)
}

/// The service worker, which keeps the files of this version and may look after every page.
fn worker() -> Result<HttpResponse> {
    let file = Files::get(WORKER).ok_or(Error::NotFound)?;
    let shell: Vec<String> = Files::iter()
        .filter(|name| name != WORKER && !name.ends_with(".webmanifest"))
        .map(|name| url(&name))
        .collect();
    let shell = serde_json::to_string(&shell).map_err(|error| Error::Internal(error.into()))?;
    Ok(HttpResponse::Ok()
        .content_type("text/javascript; charset=utf-8")
        .insert_header(("service-worker-allowed", "/"))
        .body(versioned(&file.data).replace("['{shell}']", &shell)))
}

/// The web app manifest: `static/manifest.webmanifest`, with the version put in where it says `{version}`.
pub(crate) async fn manifest() -> Result<HttpResponse> {
    let file = Files::get("manifest.webmanifest").ok_or(Error::NotFound)?;
    Ok(HttpResponse::Ok().content_type("application/manifest+json").body(versioned(&file.data)))
}
