//! The device that a request comes from, by its own word.

use std::convert::Infallible;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::USER_AGENT;
use actix_web::{FromRequest, HttpRequest};

use crate::model::device::device;

/// A short phrase, when it says anything.
#[derive(Debug, Clone)]
pub(crate) struct Device(pub(crate) Option<String>);

impl FromRequest for Device {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let said = request.headers().get(USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()));
        ready(Ok(Self(said.and_then(|said| device(&said)))))
    }
}
