//! What can go wrong while a page is made: one list, one status for each, one page that says what happened, what
//! was not done, and what to do.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use askama::Template;

use super::headers;
use crate::db;

/// What can go wrong while a page is made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nobody is signed in.
    #[error("nobody is signed in")]
    SignIn,
    /// Somebody is signed in who sees nothing.
    #[error("not a superuser")]
    Forbidden,
    /// A form that doesn't come from one of our pages.
    #[error("not from one of our own pages")]
    NotOurs,
    /// A host that we aren't.
    #[error("unknown host")]
    UnknownHost,
    /// There is no such page or row.
    #[error("not found")]
    NotFound,
    /// The page is there, but doesn't take this method.
    #[error("method not allowed")]
    Method,
    /// A request that makes no sense; the text says why, in a person's words.
    #[error("{0}")]
    Invalid(String),
    /// A request that can be read but not met; the text says why, in a person's words.
    #[error("{0}")]
    Unprocessable(String),
    /// A form larger than its page takes.
    #[error("form too large")]
    TooLarge,
    /// A form that came too slowly.
    #[error("form too slow")]
    TooSlow,
    /// Too many attempts.
    #[error("too many attempts")]
    TooMany(Duration),
    /// The row isn't in a state that allows this; the text says which state it met.
    #[error("{0}")]
    Conflict(String),
    /// A store doesn't answer.
    #[error("{0}")]
    Unavailable(String),
    /// A defect of ours; logged with its cause, shown as one fixed sentence.
    #[error("{0:#}")]
    Internal(anyhow::Error),
}

/// The result of every handler.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl From<db::Error> for Error {
    fn from(error: db::Error) -> Self {
        match error {
            db::Error::NotFound => Self::NotFound,
            db::Error::Conflict(met) => Self::Conflict(met),
            db::Error::Taken(_) => Self::Conflict(error.to_string()),
            db::Error::Unavailable(_) => Self::Unavailable(error.to_string()),
            db::Error::Fenced(_) | db::Error::NoRoom | db::Error::Broken(_) | db::Error::Unreadable(_) => {
                Self::Internal(error.into())
            }
        }
    }
}

impl From<askama::Error> for Error {
    fn from(error: askama::Error) -> Self {
        Self::Internal(error.into())
    }
}

impl From<crate::password::Failed> for Error {
    fn from(error: crate::password::Failed) -> Self {
        Self::Internal(error.into())
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    status: u16,
    what: &'a str,
    not_done: &'a str,
    to_do: &'a str,
    /// Whether all that whoever sees it can do is leave.
    may_leave: bool,
}

impl Error {
    /// An error that actix made, as one of ours with the same meaning.
    pub(crate) fn of_status(status: StatusCode, error: Option<&actix_web::Error>) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::Method,
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge,
            StatusCode::REQUEST_TIMEOUT => Self::TooSlow,
            status if status.is_client_error() => Self::Invalid("The request can't be read.".into()),
            status => Self::Internal(match error {
                Some(error) => anyhow::anyhow!("{error:?}"),
                None => anyhow::anyhow!("answered {status} without a page"),
            }),
        }
    }

    /// What one met who looked for several, as each of them is told.
    pub(crate) fn shared(met: &Self) -> Self {
        match met {
            Self::NotFound => Self::NotFound,
            Self::Unprocessable(what) => Self::Unprocessable(what.clone()),
            Self::Unavailable(what) => Self::Unavailable(what.clone()),
            other => Self::Internal(anyhow::anyhow!("{other}")),
        }
    }

    /// What happened, in a person's words.
    pub(crate) fn what(&self) -> &str {
        self.words().0
    }

    /// What happened, what was not done, what to do.
    fn words(&self) -> (&str, &str, &str) {
        const NOTHING: &str = "Nothing was changed.";
        match self {
            Self::SignIn => ("You aren't signed in.", NOTHING, "Sign in."),
            Self::Forbidden => {
                ("This account sees nothing here.", NOTHING, "Ask a superuser, or sign in as one.")
            }
            Self::NotOurs => (
                "This form didn't come from one of our own pages.",
                NOTHING,
                "Open the page here and send the form again.",
            ),
            Self::UnknownHost => (
                "The address in your browser isn't one that this server goes by.",
                NOTHING,
                "Use the address you were given.",
            ),
            Self::NotFound => ("There is nothing here.", NOTHING, "Go back to the runs."),
            Self::Method => {
                ("This page doesn't take requests of that kind.", NOTHING, "Go back to the runs.")
            }
            Self::Invalid(what) | Self::Unprocessable(what) | Self::Conflict(what) => {
                (what, NOTHING, "Go back and look again.")
            }
            Self::TooLarge => {
                ("The form is larger than this page takes.", NOTHING, "Go back and shorten it.")
            }
            Self::TooSlow => ("The form took too long to arrive.", NOTHING, "Go back and send it again."),
            Self::TooMany(_) => ("Too many attempts.", NOTHING, "Wait a minute, then try again."),
            Self::Unavailable(_) => (
                "The database doesn't answer.",
                "What you asked for may not have been done.",
                "Try again in a moment; asking twice does no harm.",
            ),
            Self::Internal(_) => (
                "Something went wrong on our side.",
                "What you asked for may not have been done.",
                "Look before you try again; the log has the cause.",
            ),
        }
    }

    /// Notes it in the log, once: the cause is there and nowhere else.
    pub(crate) fn log(&self) {
        match self {
            Self::Internal(cause) => tracing::error!(cause = format!("{cause:#}"), "a page failed"),
            Self::Unavailable(cause) => tracing::warn!(cause, "a page had to do without a store"),
            _ => {}
        }
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::SignIn => StatusCode::SEE_OTHER,
            Self::Forbidden | Self::NotOurs => StatusCode::FORBIDDEN,
            Self::UnknownHost | Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::Unprocessable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        let mut response = HttpResponse::new(status);
        headers::dress(response.headers_mut());
        if matches!(self, Self::SignIn) {
            response.headers_mut().insert(LOCATION, HeaderValue::from_static("/login"));
            return response;
        }
        if let Self::TooMany(wait) = self {
            response.headers_mut().insert(RETRY_AFTER, retry_after(*wait));
        }
        if let Self::Unavailable(_) = self {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(super::page::HTML));
        let (what, not_done, to_do) = self.words();
        let may_leave = matches!(self, Self::Forbidden);
        let page = ErrorPage { status: status.as_u16(), what, not_done, to_do, may_leave };
        let text = page.render().unwrap_or_else(|_| what.to_owned());
        response.set_body(actix_web::body::BoxBody::new(text))
    }
}

/// Whole seconds, rounded up, so that nobody comes back too early.
pub(crate) fn retry_after(wait: Duration) -> HeaderValue {
    HeaderValue::from(wait.as_secs() + 1)
}
