//! The guard: who is it, may they, and does it come from our own page.

use std::future::{Ready, ready};
use std::time::Duration;

use actix_session::Session;
use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpMessage, HttpRequest};

use super::error::Error;
use super::origin::{self, Ours};
use super::{Site, session};
use crate::db::{Superuser, Visitor};

/// Lets superusers pass, and nobody else. The user's row is read again for each request, so that disabling or demoting
/// somebody bites at their next click.
pub(crate) async fn require_superuser(
    session: Session,
    site: Data<Site>,
    ours: Data<Ours>,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let presented = session::presented(&session).ok_or(Error::SignIn)?;
    let by = match site.db.visitor(&presented).await.map_err(Error::from)? {
        Some(Visitor::Superuser(by)) => by,
        Some(Visitor::Plain) => return Err(Error::Forbidden.into()),
        None => return Err(Error::SignIn.into()),
    };
    origin::check(&ours, &request)?;
    request.extensions_mut().insert(by);
    next.call(request).await
}

/// The longest that a page may take to be made, the guard's own look included. Each statement has its own deadline, but a
/// store that is slow without being late adds up.
const PAGE_WITHIN: Duration = Duration::from_millis(1800);

/// Lets no page be waited for. Forms have deadlines of their own: they may arrive slowly, and what was begun isn't dropped.
pub(crate) async fn answer_in_time(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    if !request.method().is_safe() {
        return next.call(request).await;
    }
    match tokio::time::timeout(PAGE_WITHIN, next.call(request)).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Unavailable(format!("no page within {} ms", PAGE_WITHIN.as_millis())).into()),
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
