//! The guard: who is it, may they, and does it come from our own page.

use std::future::{Ready, ready};
use std::time::Duration;

use actix_session::Session;
use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpMessage, HttpRequest};

use tracing::{Instrument, Span, info_span};

use super::error::Error;
use super::origin::{self, Ours};
use super::{Site, refusal, session};
use crate::db::{self, Superuser, Visitor};
use crate::telemetry;

/// Lets superusers pass, and nobody else. The user's row is read again for each request, so that disabling or demoting
/// somebody bites at their next click.
pub(crate) async fn require_superuser(
    session: Session,
    site: Data<Site>,
    ours: Data<Ours>,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    db::together(STATEMENTS, pass(session, site, ours, request, next)).await
}

/// The longest that all statements of one request may take. Each has its own deadline, but a store that is slow without
/// being late adds up. The rest of the 2 s is for Redis and for us.
const STATEMENTS: Duration = Duration::from_millis(1500);

async fn pass(
    session: Session,
    site: Data<Site>,
    ours: Data<Ours>,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let presented = session::presented(&session).ok_or(Error::SignIn)?;
    let by = match site.db.visitor(&presented).await.map_err(Error::from)? {
        Some(Visitor::Superuser(by)) => by,
        Some(Visitor::Plain(name)) => {
            turned_away(&site, &name, "refused at the door", &request).await;
            return Err(Error::Forbidden.into());
        }
        None => return Err(Error::SignIn.into()),
    };
    require_our_page(&site, &ours, by.name(), &request).await?;
    request.extensions_mut().insert(by.clone());
    let span = traced(&request);
    let response = next.call(request).instrument(span).await?;
    refusal::note(&site, &by, &response).await;
    Ok(response)
}

/// What is traced of a request: that it changes something, and which page takes it. Pages that are only looked at aren't, and
/// nobody gets here who could flood a collector.
fn traced(request: &ServiceRequest) -> Span {
    if request.method().is_safe() {
        return Span::none();
    }
    let (method, page) = (request.method(), request.match_pattern().unwrap_or_default());
    let name = tracing::field::Empty;
    let span = info_span!(target: telemetry::TRACE, "request", otel.kind = "server", otel.name = name);
    if !span.is_none() {
        span.record("otel.name", format!("{method} {page}"));
    }
    span
}

/// Whoever is signed in, superuser or not, by name. It proves nothing but that.
#[derive(Clone)]
pub(crate) struct SignedIn(pub(crate) String);

/// Lets whoever is signed in pass, for what anybody may do: leave.
pub(crate) async fn require_signed_in(
    session: Session,
    site: Data<Site>,
    ours: Data<Ours>,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let pass = async {
        let presented = session::presented(&session).ok_or(Error::SignIn)?;
        let name = match site.db.visitor(&presented).await.map_err(Error::from)? {
            Some(Visitor::Superuser(by)) => by.name().to_owned(),
            Some(Visitor::Plain(name)) => name,
            None => return Err(Error::SignIn.into()),
        };
        require_our_page(&site, &ours, &name, &request).await?;
        request.extensions_mut().insert(SignedIn(name));
        next.call(request).await
    };
    db::together(STATEMENTS, pass).await
}

/// Lets a form from one of our own pages pass, and notes any other.
async fn require_our_page(
    site: &Site,
    ours: &Ours,
    who: &str,
    request: &ServiceRequest,
) -> Result<(), Error> {
    let from_ours = origin::check(ours, request);
    if from_ours.is_err() {
        turned_away(site, who, "form from elsewhere refused", request).await;
    }
    from_ours
}

/// Notes that somebody who is signed in got no further than here; once a minute, since another's page can have their browser
/// knock.
async fn turned_away(site: &Site, who: &str, what: &str, request: &ServiceRequest) {
    let address = refusal::address(request.request()).await;
    if let Err(error) = site.db.note_turned_away(who, what, address.as_deref()).await {
        tracing::warn!(%error, who, what, "not noted");
    }
}

impl FromRequest for SignedIn {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(request.extensions().get::<Self>().cloned().ok_or_else(|| Error::SignIn.into()))
    }
}

/// The proof, as handlers ask for it. Outside the guarded scope there is none to be had.
impl FromRequest for Superuser {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(request.extensions().get::<Self>().cloned().ok_or_else(|| Error::SignIn.into()))
    }
}
