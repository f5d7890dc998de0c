//! The files under `static/`, part of the program. Their path holds a version made from what they contain, so that a
//! browser may keep them for ever.

use std::sync::LazyLock;

use actix_web::guard::{Guard, GuardContext};
use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse};
use rust_embed::RustEmbed;
use sha2::{Digest, Sha256};

use super::error::{Error, Result};

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

/// Lets through only the paths of files that there are.
pub(crate) struct Known;

impl Guard for Known {
    fn check(&self, request: &GuardContext<'_>) -> bool {
        let path = request.head().uri.path();
        path.rsplit_once('/').is_some_and(|(_, file)| Files::get(file).is_some() && url(file) == path)
    }
}

/// One file.
pub(crate) async fn file(request: HttpRequest) -> Result<HttpResponse> {
    let name = request.match_info().get("file").unwrap_or_default();
    let file = Files::get(name).ok_or(Error::NotFound)?;
    let kind = match name.rsplit_once('.').map(|(_, kind)| kind) {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    };
    Ok(HttpResponse::Ok()
        .content_type(kind)
        .insert_header((CACHE_CONTROL, "public, max-age=31536000, immutable"))
        .body(file.data.into_owned()))
}

/// The web app manifest: `static/manifest.webmanifest`, with the version put in where it says `{version}`.
pub(crate) async fn manifest() -> Result<HttpResponse> {
    let file = Files::get("manifest.webmanifest").ok_or(Error::NotFound)?;
    let text = String::from_utf8_lossy(&file.data).replace("{version}", &VERSION);
    Ok(HttpResponse::Ok().content_type("application/manifest+json").body(text))
}
