//! What a run said, to take away: one event whole, or all of them. Always a file: no browser shows or runs what an agent wrote.

use std::io;

use actix_session::Session;
use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Site;
use super::error::{Error, Result};
use super::live::Hub;
use super::page::number;
use super::session;
use crate::db::Superuser;
use crate::model::event::{Event, Kind};
use crate::model::run::RunId;

/// How many events are read at once; never more than about a megabyte.
const AT_ONCE: i64 = 500;

fn file(name: &str) -> HttpResponseBuilder {
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CONTENT_TYPE, "text/plain; charset=utf-8"));
    answer.insert_header((CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")));
    answer
}

/// All that is to be read of one event, which is never longer than a line may be.
pub(crate) async fn event(
    by: Superuser,
    site: Data<Site>,
    id: RunId,
    path: Path<(String, String)>,
) -> Result<HttpResponse> {
    let seq = number(&path.1).map_err(|_| Error::NotFound)?;
    let event = site.db.event(&by, id, seq).await?;
    let pieces: Vec<String> = event.pieces().iter().map(|piece| piece.text()).collect();
    Ok(file(&format!("run-{id}-event-{seq}.txt")).body(pieces.join("\n\n")))
}

/// An event as a line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    seq: i64,
    #[serde(serialize_with = "rfc3339")]
    at: OffsetDateTime,
    source: &'a str,
    #[serde(skip_serializing_if = "is_nought")]
    cut: i64,
    /// A record as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<&'a RawValue>,
    /// A line that is no record.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<&'a str>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_nought(n: &i64) -> bool {
    *n == 0
}

fn rfc3339<S: serde::Serializer>(at: &OffsetDateTime, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.format(&Rfc3339).unwrap_or_default())
}

fn line(event: &Event, to: &mut Vec<u8>) -> serde_json::Result<()> {
    let record = match event.kind {
        Kind::Text => None,
        _ => serde_json::from_str(&event.payload).ok(),
    };
    let line = Line {
        seq: event.seq,
        at: event.at,
        source: event.source.word(),
        cut: event.cut,
        line: record.is_none().then_some(event.payload.as_str()),
        record,
    };
    serde_json::to_writer(&mut *to, &line)?;
    to.push(b'\n');
    Ok(())
}

/// The whole transcript, a line of JSON for each event that there is now. Whoever loses the right to see it, or whose proof
/// can't be renewed, gets no more of it, and the file breaks off.
pub(crate) async fn transcript(
    by: Superuser,
    site: Data<Site>,
    hub: Data<Hub>,
    id: RunId,
    session: Session,
) -> Result<HttpResponse> {
    let session = session::presented(&session).ok_or(Error::SignIn)?;
    let upto = site.db.run(&by, id).await?.events;
    let viewer = hub.enter(session, by);
    let lines = stream::try_unfold(0_i64, move |after| {
        let (site, viewer) = (site.clone(), viewer.clone());
        async move {
            let broken = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
            let by = viewer.proof().ok_or_else(|| broken(&"nobody is proven to read this"))?;
            let events =
                site.db.events_after(&by, id, after, upto, AT_ONCE).await.map_err(|error| broken(&error))?;
            let Some(last) = events.last().map(|event| event.seq) else { return Ok::<_, io::Error>(None) };
            let mut part = Vec::new();
            for event in &events {
                line(event, &mut part).map_err(|error| broken(&error))?;
            }
            Ok(Some((Bytes::from(part), last)))
        }
    });
    Ok(file(&format!("run-{id}.jsonl")).streaming(lines))
}
