//! What a request brings: forms, read within a size and a time, and the numbers of runs.

use std::future::{Future, Ready, ready};
use std::ops::Deref;
use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::error::UrlencodedError;
use actix_web::web::FormConfig;
use actix_web::{FromRequest, HttpRequest};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::Error;
use super::terminate::REASON_MAX;
use crate::model::bell::BellId;
use crate::model::run::RunId;
use crate::model::stop::StopId;

/// The longest that a form may take to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(10);

/// A page's own limit, in bytes as they are sent.
pub(crate) fn limit(bytes: usize) -> FormConfig {
    FormConfig::default().limit(bytes).error_handler(|error, _| Error::from(error).into())
}

/// A form, whole.
pub(crate) struct Form<T>(T);

impl<T> Deref for Form<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl From<UrlencodedError> for Error {
    fn from(error: UrlencodedError) -> Self {
        match error {
            UrlencodedError::Overflow { .. } => Self::TooLarge,
            _ => Self::Invalid("The form can't be read.".into()),
        }
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for Form<T> {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Self::Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let reading = actix_web::web::Form::<T>::from_request(request, payload);
        Box::pin(async move {
            match tokio::time::timeout(ARRIVES_WITHIN, reading).await {
                Ok(read) => Ok(Self(read?.into_inner())),
                Err(_) => Err(Error::TooSlow.into()),
            }
        })
    }
}

/// The row that a path names as `{id}`; anything but a number, written as we write it, is not found.
macro_rules! named_by_path {
    ($id:ty) => {
        impl FromRequest for $id {
            type Error = actix_web::Error;
            type Future = Ready<Result<Self, Self::Error>>;

            fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
                let text = request.match_info().get("id").unwrap_or_default();
                let id = text.parse().ok().filter(|id: &Self| id.to_string() == text);
                ready(id.ok_or_else(|| Error::NotFound.into()))
            }
        }
    };
}
named_by_path!(RunId);
named_by_path!(StopId);
named_by_path!(BellId);

/// Marks a form, so that the same one sent twice does its work once.
pub(crate) fn fresh_token() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::Internal(anyhow::anyhow!("no randomness: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What a person says about why.
#[derive(Deserialize, Default)]
pub(crate) struct Why {
    #[serde(default)]
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) preset: String,
}

impl Why {
    /// The reason: what was typed, or else the button.
    ///
    /// # Errors
    /// What is wrong with it, in a person's words.
    pub(crate) fn parse(&self) -> std::result::Result<&str, String> {
        let typed = self.reason.trim();
        let reason = if typed.is_empty() { self.preset.trim() } else { typed };
        match reason.chars().count() {
            _ if reason.contains('\0') => Err("The reason holds a NUL character; take it out.".to_owned()),
            0..=REASON_MAX => Ok(reason),
            n => Err(format!("The reason is {n} characters long; {REASON_MAX} is the most.")),
        }
    }
}
