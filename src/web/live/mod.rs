//! Live pages: a stream for each page that is open, with the pieces of it that changed. The pieces are cut from the very
//! page that a reload would give, drawn once for all who look at it.
//!
//! A page opens its stream under its own path below `/live`, behind the same guard. The [`Hub`] keeps a topic for each view
//! that somebody watches, hears of changes over Redis, and looks at Postgres by itself when it hears nothing.

mod follow;
mod hub;
mod message;
mod pieces;
mod topic;
mod view;
mod viewers;

use std::collections::VecDeque;
use std::sync::Arc;

use actix_session::Session;
use actix_web::web::{Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio_util::sync::CancellationToken;

use super::counts::{Counts, OpenStream};
use super::error::{Error, Result};
use super::filter::Asked;
use super::listing::{List, Part};
use super::{session, stop as stop_page};
use crate::db::Superuser;
use crate::model::run::RunId;
use crate::model::stop::StopId;
use message::From;
use view::View;
use viewers::Viewer;

pub(crate) use hub::Hub;

/// The stream of a list of runs.
pub(crate) async fn runs(
    by: Superuser,
    hub: Data<Hub>,
    query: (Query<Asked>, Query<Part>),
    stream: (Session, HttpRequest),
) -> Result<HttpResponse> {
    open(by, &hub, View::Runs(Arc::new(List::read(&query.0, &query.1)?)), stream).await
}

/// What the page of a run follows.
#[derive(Deserialize)]
pub(crate) struct Followed {
    /// A part of the transcript that doesn't grow: then only the run itself.
    part: Option<String>,
}

/// The stream of one run.
pub(crate) async fn run(
    by: Superuser,
    hub: Data<Hub>,
    id: RunId,
    followed: Query<Followed>,
    stream: (Session, HttpRequest),
) -> Result<HttpResponse> {
    let view = if followed.part.is_some() { View::RunAlone(id) } else { View::Run(id) };
    open(by, &hub, view, stream).await
}

/// The stream of a stop of many.
pub(crate) async fn stop(
    by: Superuser,
    hub: Data<Hub>,
    id: StopId,
    asked: Query<stop_page::Asked>,
    stream: (Session, HttpRequest),
) -> Result<HttpResponse> {
    open(by, &hub, View::Stop(id, asked.cursor()?), stream).await
}

/// The stream of the way out of the red handle.
pub(crate) async fn leave(
    by: Superuser,
    hub: Data<Hub>,
    stream: (Session, HttpRequest),
) -> Result<HttpResponse> {
    open(by, &hub, View::Leave, stream).await
}

/// The stream of the workers.
pub(crate) async fn workers(
    by: Superuser,
    hub: Data<Hub>,
    stream: (Session, HttpRequest),
) -> Result<HttpResponse> {
    open(by, &hub, View::Workers, stream).await
}

/// The stream of the health page.
pub(crate) async fn health(
    by: Superuser,
    hub: Data<Hub>,
    stream: (Session, HttpRequest),
) -> Result<HttpResponse> {
    open(by, &hub, View::Health, stream).await
}

/// Opens a stream: what was missed, what the page shows now, and from there on what changes.
async fn open(
    by: Superuser,
    hub: &Hub,
    view: View,
    (session, request): (Session, HttpRequest),
) -> Result<HttpResponse> {
    let session = session::presented(&session).ok_or(Error::SignIn)?;
    let from = From::of(&request);
    let viewer = hub.viewers.enter(session, by.clone());
    let run = if let View::Run(run) = view { Some(run) } else { None };
    let joined = hub.join(view, from, Arc::clone(&viewer)).await?;
    let missed = match (run, from.seq) {
        (Some(run), Some(after)) => follow::missed(&hub.site, &by, run, after, joined.seen).await?,
        _ => Vec::new(),
    };
    let mut waiting = VecDeque::from(missed);
    waiting.push_front(message::hello());
    waiting.push_back(joined.first);
    let open = request.app_data::<Data<Counts>>().map(|counts| counts.stream());
    let changes = Changes { waiting, rest: joined.rest, viewer, closing: hub.closing(), _open: open };
    let body = changes.stream().map(Ok::<_, std::convert::Infallible>);
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        // Else nginx waits until a buffer is full.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(body))
}

/// How much of a message is written at once, in bytes: a connection keeps a buffer of the largest that it wrote, and with the
/// line that says how long it is this fills one page of memory.
const AT_ONCE: usize = 4096 - 16;

/// What is still to come, for as long as the viewer may see it.
struct Changes {
    waiting: VecDeque<Bytes>,
    rest: Receiver<Bytes>,
    viewer: Arc<Viewer>,
    closing: CancellationToken,
    _open: Option<OpenStream>,
}

impl Changes {
    fn stream(self) -> impl Stream<Item = Bytes> {
        stream::unfold(Some(self), |changes| async {
            let mut changes = changes?;
            if let Some(part) = changes.part() {
                // The connection writes out what it has before it asks for more.
                tokio::task::yield_now().await;
                return Some((part, Some(changes)));
            }
            tokio::select! {
                biased;
                () = changes.closing.cancelled() => return None,
                () = changes.viewer.gone() => return Some((message::leave(), None)),
                // One that is too slow, like one whose topic has ended, comes again and gets what it has missed.
                next = changes.rest.recv() => changes.waiting.push_back(next.ok()?),
            }
            let part = changes.part()?;
            Some((part, Some(changes)))
        })
    }

    /// The next part of what waits.
    fn part(&mut self) -> Option<Bytes> {
        let message = self.waiting.front_mut()?;
        let part = message.split_to(message.len().min(AT_ONCE));
        if message.is_empty() {
            self.waiting.pop_front();
        }
        Some(part)
    }
}
