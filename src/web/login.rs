//! Signing in and out.

use actix_session::Session;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::web::Data;
use askama::Template;
use serde::Deserialize;

use super::address::Address;
use super::error::{Result, retry_after};
use super::form::Form;
use super::guard::SignedIn;
use super::page::{go_to, show, show_as};
use super::throttle::Throttle;
use super::{Site, session};
use crate::db::Credentials;
use crate::model::user::UserName;
use crate::password::Passwords;

/// The largest form, in bytes as they are sent.
pub(crate) const FORM_MAX: usize = 4 * 1024;

/// The one message for every failure.
const REFUSED: &str = "This name and password don't go together.";

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    name: &'a str,
    problem: Option<&'a str>,
}

/// What a person fills in.
#[derive(Deserialize)]
pub(crate) struct SignIn {
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: String,
}

/// The form.
pub(crate) async fn form() -> Result<HttpResponse> {
    show(&LoginPage { name: "", problem: None })
}

/// Signs in. Every failure looks the same and takes as long.
pub(crate) async fn sign_in(
    site: Data<Site>,
    throttle: Data<Throttle>,
    passwords: Data<Passwords>,
    session: Session,
    address: Address,
    form: Form<SignIn>,
) -> Result<HttpResponse> {
    let name = form.name.trim().to_ascii_lowercase();
    let attempt = match throttle.attempt(&name, address) {
        Ok(attempt) => attempt,
        Err(wait) => {
            let problem = format!("Too many attempts. Try again in {} s.", wait.as_secs() + 1);
            let page = LoginPage { name: &form.name, problem: Some(&problem) };
            let mut answer = show_as(StatusCode::TOO_MANY_REQUESTS, &page)?;
            answer.headers_mut().insert(RETRY_AFTER, retry_after(wait));
            return Ok(answer);
        }
    };
    let checked = check(&site, &passwords, &name, form.password.clone(), address).await;
    match checked {
        Ok(Some(user_id)) => {
            session::begin(&session, user_id)?;
            attempt.forgive();
            Ok(go_to("/"))
        }
        Ok(None) => {
            show_as(StatusCode::UNAUTHORIZED, &LoginPage { name: &form.name, problem: Some(REFUSED) })
        }
        Err(error) => {
            attempt.forgive();
            Err(error)
        }
    }
}

/// The user's number, if name and password go together. Either way it is noted in the audit.
async fn check(
    site: &Site,
    passwords: &Passwords,
    name: &str,
    password: String,
    address: Address,
) -> Result<Option<i64>> {
    let known = match UserName::parse(name) {
        Ok(name) => site.db.credentials(&name).await?,
        Err(_) => None,
    };
    let (user_id, hash) =
        known.map(|Credentials { user_id, password_hash }| (user_id, password_hash)).unzip();
    let right = passwords.matches(password, hash).await?;
    let signed_in = user_id.filter(|_| right);
    let from = address.to_string();
    match (signed_in, user_id) {
        (Some(_), _) => site.db.note_at_the_door(name, "signed in", Some(&from)).await?,
        (None, Some(_)) => site.db.note_at_the_door(name, "sign-in refused", Some(&from)).await?,
        (None, None) => site.db.note_at_the_door("visitor", "sign-in refused", Some(&from)).await?,
    }
    Ok(signed_in)
}

/// Signs out: the session is gone, whoever still holds its cookie.
pub(crate) async fn sign_out(
    by: SignedIn,
    site: Data<Site>,
    session: Session,
    address: Address,
) -> Result<HttpResponse> {
    session.purge();
    let noted = site.db.note_at_the_door(&by.0, "signed out", Some(&address.to_string())).await;
    if let Err(error) = noted {
        tracing::warn!(%error, "a sign-out isn't in the audit");
    }
    Ok(go_to("/login"))
}
