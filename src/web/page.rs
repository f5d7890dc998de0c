//! The only place where a template becomes an answer.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use askama::Template;
use bytes::Bytes;
use time::OffsetDateTime;

use super::error::{Error, Result};
use super::show::{Moment, Words};
use crate::db::{FleetNow, Standing, Superuser};
use crate::model::page::Cursor;

/// The type of every page.
pub(crate) const HTML: &str = "text/html; charset=utf-8";

/// The places that the navigation leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The runs.
    Runs,
    /// The workers.
    Workers,
    /// The health of it all.
    Health,
    /// The agents.
    Agents,
    /// The audit.
    Audit,
    /// One's own account.
    Account,
    /// The red handle.
    Handle,
}

/// What `layout.html` needs around every page. It is made from the proof, so a page inside the layout can't be made
/// without having asked who it is for; [`super::fleet::Fleet::frame`] makes it.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// Who is signed in.
    pub(crate) by: String,
    /// What must be said of the fleet on every page.
    pub(crate) notice: FleetNow,
    /// What stands for the fleet until somebody takes it back; said in red.
    pub(crate) standing: Standing,
    /// Where in the navigation this page is.
    pub(crate) here: Place,
    /// Whether the page is drawn for a stream, to be cut into its pieces.
    pub(crate) live: bool,
    now: OffsetDateTime,
}

impl Frame {
    /// The frame around a page for this person.
    pub(crate) fn new(
        by: &Superuser,
        notice: FleetNow,
        standing: Standing,
        here: Place,
        now: OffsetDateTime,
    ) -> Self {
        Self { by: by.name().to_owned(), notice, standing, here, live: false, now }
    }

    /// The same, around a page that is drawn for a stream.
    pub(crate) fn live(self) -> Self {
        Self { live: true, ..self }
    }

    /// A time, as seen from this page.
    pub(crate) fn moment(&self, at: OffsetDateTime) -> Moment {
        Moment::new(at, self.now)
    }

    /// Why queued runs don't start, when that is somebody's doing.
    pub(crate) fn keeps_waiting(&self) -> Option<Words> {
        let standing = &self.standing;
        if let Some(held) = &standing.held {
            let before = format!("The queue is held by {} since ", held.by);
            return Some(Words::around_lately(before, self.moment(held.at), "."));
        }
        (standing.drained > 0 && standing.willing == 0)
            .then(|| "No worker takes runs: each is drained or silent.".into())
    }

    /// How many stops aren't proven, in words; none when all are.
    pub(crate) fn unconfirmed(&self) -> Option<String> {
        counted(self.notice.unconfirmed).map(|count| format!("{count} unconfirmed"))
    }

    /// How many runs are lost, in words; none when none is.
    pub(crate) fn lost(&self) -> Option<String> {
        counted(self.notice.all_lost).map(|count| format!("{count} lost"))
    }

    /// How many runs live and get nowhere, in words; none when none does.
    pub(crate) fn stuck(&self) -> Option<String> {
        counted(self.notice.stuck_count()).map(|count| format!("{count} stuck"))
    }
}

fn counted(n: i32) -> Option<String> {
    match n {
        ..=0 => None,
        n if n < FleetNow::COUNTED => Some(n.to_string()),
        _ => Some(format!("{} or more", FleetNow::COUNTED)),
    }
}

/// A page.
pub(crate) fn show(page: &impl Template) -> Result<HttpResponse> {
    show_as(StatusCode::OK, page)
}

/// Draws a large page once for several, into room for all of it: else what is drawn is copied each time it outgrows its own.
pub(crate) fn draw(page: &impl Template) -> Result<Bytes> {
    let mut drawn = String::with_capacity(64 * 1024);
    page.render_into(&mut drawn)?;
    Ok(drawn.into())
}

/// A page that was drawn before.
pub(crate) fn show_drawn(page: Bytes) -> HttpResponse {
    HttpResponse::Ok().content_type(HTML).body(page)
}

/// A page with a status of its own.
pub(crate) fn show_as(status: StatusCode, page: &impl Template) -> Result<HttpResponse> {
    Ok(HttpResponse::build(status).content_type(HTML).body(page.render()?))
}

/// What was wrong with a form, as its page said it.
pub(crate) struct Problem(pub(crate) String);

/// A page that may say what is wrong with the form that was sent.
pub(crate) fn show_again(problem: Option<&str>, page: &impl Template) -> Result<HttpResponse> {
    let Some(problem) = problem else { return show(page) };
    let mut response = show_as(StatusCode::UNPROCESSABLE_ENTITY, page)?;
    response.extensions_mut().insert(Problem(problem.to_owned()));
    Ok(response)
}

/// On to another page, with GET.
pub(crate) fn go_to(path: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, path)).finish()
}

/// The answer to every path that isn't there.
pub(crate) async fn nothing_here(_by: Superuser) -> Result<HttpResponse> {
    Err(Error::NotFound)
}

/// The number that a query says.
///
/// # Errors
/// [`Error::Unprocessable`] when it is no number from 1 on.
pub(crate) fn number(text: &str) -> Result<i64> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| Error::Unprocessable(format!("{text:?} is no place in this list.")))
}

/// The cursor that a list's query says.
///
/// # Errors
/// [`Error::Unprocessable`] when it says two, or one that is no number.
pub(crate) fn cursor(before: Option<&str>, after: Option<&str>) -> Result<Cursor> {
    Ok(match (before, after) {
        (None, None) => Cursor::Start,
        (Some(id), None) => Cursor::Before(number(id)?),
        (None, Some(id)) => Cursor::After(number(id)?),
        (Some(_), Some(_)) => {
            return Err(Error::Unprocessable("A list goes either back or forth, not both.".to_owned()));
        }
    })
}
