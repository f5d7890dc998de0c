//! One's own account: the password, and signing out everywhere.

use actix_session::Session;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;
use serde::Deserialize;

use super::Site;
use super::address::Address;
use super::error::{Error, Result};
use super::fleet::Fleet;
use super::form::Form;
use super::page::{Frame, Place, go_to, show_again};
use super::throttle::Throttle;
use crate::db::Superuser;
use crate::model::user::UserName;
use crate::password::{Passwords, check_new};

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage<'a> {
    frame: Frame,
    problem: Option<&'a str>,
}

/// What a person fills in to change the password.
#[derive(Deserialize)]
pub(crate) struct NewPassword {
    #[serde(default)]
    current: String,
    #[serde(default)]
    new: String,
    #[serde(default)]
    repeat: String,
}

/// The page.
pub(crate) async fn index(by: Superuser, site: Data<Site>, fleet: Data<Fleet>) -> Result<HttpResponse> {
    page(&by, &site, &fleet, None).await
}

async fn page(by: &Superuser, site: &Site, fleet: &Fleet, problem: Option<&str>) -> Result<HttpResponse> {
    let frame = fleet.frame(&site.db, by, Place::Account).await?;
    show_again(problem, &AccountPage { frame, problem })
}

/// Changes the password and ends every session, this one included.
#[expect(clippy::too_many_arguments, reason = "each is something that the framework hands over")]
pub(crate) async fn change_password(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    throttle: Data<Throttle>,
    passwords: Data<Passwords>,
    session: Session,
    address: Address,
    form: Form<NewPassword>,
) -> Result<HttpResponse> {
    if form.new != form.repeat {
        return page(&by, &site, &fleet, Some("The two new passwords differ.")).await;
    }
    if let Err(weak) = check_new(&form.new) {
        return page(&by, &site, &fleet, Some(&weak.to_string())).await;
    }
    let attempt = throttle.attempt(by.name(), address).map_err(Error::TooMany)?;
    let name = UserName::parse(by.name()).map_err(|error| Error::Internal(error.into()))?;
    let hash = site.db.credentials(&name).await?.map(|known| known.password_hash);
    if !passwords.matches(form.current.clone(), hash).await? {
        return page(&by, &site, &fleet, Some("The current password is another one.")).await;
    }
    attempt.forgive();
    site.db.change_password(&by, &passwords.hash(form.new.clone()).await?).await?;
    session.purge();
    Ok(go_to("/login"))
}

/// Ends every session of one's own, this one included.
pub(crate) async fn end_sessions(
    by: Superuser,
    site: Data<Site>,
    session: Session,
    address: Address,
) -> Result<HttpResponse> {
    site.db.end_sessions(&by, Some(&address.to_string())).await?;
    session.purge();
    Ok(go_to("/login"))
}
