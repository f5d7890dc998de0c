//! The addresses the stand-in answers at, its errors, and the check of the key.

use std::net::TcpListener;

use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use actix_web::web::{Bytes, Data, PayloadConfig};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::Server, web};
use futures_util::stream;
use serde_json::json;
use tokio::sync::mpsc;

use crate::conversation::{Request, Standing};
use crate::record::{Entry, Recorder, now_ms};
use crate::scenario::Shelf;
use crate::script::{Cue, Speech, cues};
use crate::wire::{Chunk, Reply};

/// The real API's own limit for a request.
const LARGEST_REQUEST: usize = 32 << 20;

#[derive(Clone)]
pub(crate) struct Standin {
    pub key: Option<String>,
    pub scenarios: Shelf,
    pub recorder: Recorder,
}

/// Serves until SIGINT or SIGTERM, and then drops what is still being told.
pub(crate) fn serve(listener: TcpListener, standin: Standin) -> std::io::Result<Server> {
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::new(standin.clone()))
            .app_data(PayloadConfig::new(LARGEST_REQUEST))
            .route("/", web::head().to(hello))
            .route("/v1/messages", web::post().to(messages))
            .route("/v1/messages/count_tokens", web::post().to(count_tokens))
            .default_service(web::to(unknown))
    });
    Ok(server.workers(2).shutdown_timeout(0).listen(listener)?.run())
}

async fn hello(standin: Data<Standin>, request: HttpRequest) -> HttpResponse {
    standin.recorder.arrived(&request, 0, None).ends("whole");
    HttpResponse::Ok().finish()
}

async fn unknown(standin: Data<Standin>, request: HttpRequest) -> HttpResponse {
    let entry = standin.recorder.arrived(&request, 0, None);
    failure(entry, StatusCode::NOT_FOUND, "not_found_error", "Not Found")
}

async fn count_tokens(standin: Data<Standin>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let mut entry = standin.recorder.arrived(&request, body.len(), None);
    if !standin.admits(&request) {
        return no_admission(entry);
    }
    entry.ends("whole");
    HttpResponse::Ok().json(json!({ "input_tokens": body.len() / 4 }))
}

async fn messages(standin: Data<Standin>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let parsed = serde_json::from_slice::<Request>(&body);
    let standing = parsed.as_ref().map(Request::standing).ok();
    let entry = standin.recorder.arrived(&request, body.len(), standing.as_ref());
    if !standin.admits(&request) {
        return no_admission(entry);
    }
    let (Ok(asked), Some(standing)) = (parsed, standing) else {
        return invalid(entry, "the request's body is not a Messages API request");
    };
    match standin.cues(&asked, &standing) {
        Ok(cues) => answer(entry, &asked, &standing, body.len(), cues).await,
        Err(message) => invalid(entry, &message),
    }
}

async fn answer(
    mut entry: Entry,
    asked: &Request,
    standing: &Standing,
    request_bytes: usize,
    mut cues: Vec<Cue>,
) -> HttpResponse {
    // Before the first word, silence means that not even the response's head comes.
    if let Some(Cue::Pause(length)) = cues.first() {
        actix_web::rt::time::sleep(*length).await;
        cues.remove(0);
    }
    if let Some(Cue::Error { status, kind, message, retry_after_s }) = cues.first() {
        let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = failure(entry, status, kind, message);
        if let Some(seconds) = retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, (*seconds).into());
        }
        return response;
    }
    let reply = Reply {
        id: format!("msg_{:x}_{}", now_ms(), entry.number),
        model: asked.model.clone(),
        request_bytes,
        cached: standing.results > 0,
        call_prefix: standing.messages.to_string(),
        cues,
    };
    if asked.stream {
        return streamed(reply, entry);
    }
    match reply.whole().await {
        Some(message) => {
            entry.ends("whole");
            HttpResponse::Ok().json(message)
        }
        None => streamed(Reply { cues: vec![Cue::Cut], ..reply }, entry),
    }
}

fn streamed(reply: Reply, entry: Entry) -> HttpResponse {
    let (to, mut from) = mpsc::channel::<Chunk>(16);
    actix_web::rt::spawn(reply.stream(to, entry));
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .streaming(stream::poll_fn(move |context| from.poll_recv(context)))
}

impl Standin {
    fn admits(&self, request: &HttpRequest) -> bool {
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let bearer = header(AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
        self.key.as_deref().is_none_or(|key| header("x-api-key").or(bearer) == Some(key))
    }

    fn cues(&self, asked: &Request, standing: &Standing) -> Result<Vec<Cue>, String> {
        let name = &standing.scenario;
        let scenario = self.scenarios.get(name).ok_or_else(|| {
            format!("no scenario is called {name}; there are {}", self.scenarios.names().join(", "))
        })?;
        let cues = cues(scenario, standing)?;
        let missing = cues.iter().find_map(|cue| match cue {
            Cue::Tool { name, .. } if !asked.offers(name) => Some(name),
            _ => None,
        });
        Ok(match missing {
            Some(tool) => {
                vec![Cue::Text(Speech::plain(format!("I would use {tool}, but it isn't offered.")))]
            }
            None => cues,
        })
    }
}

fn no_admission(entry: Entry) -> HttpResponse {
    failure(entry, StatusCode::UNAUTHORIZED, "authentication_error", "invalid x-api-key")
}

fn invalid(entry: Entry, message: &str) -> HttpResponse {
    failure(entry, StatusCode::BAD_REQUEST, "invalid_request_error", message)
}

fn failure(mut entry: Entry, status: StatusCode, kind: &str, message: &str) -> HttpResponse {
    entry.ends("error");
    entry.status(status.as_u16());
    let id = format!("req_{:x}_{}", now_ms(), entry.number);
    HttpResponse::build(status).insert_header(("request-id", id.as_str())).json(json!({
        "type": "error", "error": { "type": kind, "message": message }, "request_id": id,
    }))
}
