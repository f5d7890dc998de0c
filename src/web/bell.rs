//! One bell: a device that becomes one, comes by again or says that it was rung; what it listens for, a test, its end.

use std::collections::HashMap;

use actix_web::HttpResponse;
use actix_web::web::Data;
use secrecy::SecretString;
use serde::Deserialize;

use super::Site;
use super::address::Address;
use super::bells::{HERE, listens, name};
use super::device::Device;
use super::error::{Error, Result};
use super::form::Form;
use super::page::go_to;
use crate::bell::from_base64url;
use crate::db::{Subscription, Superuser};
use crate::model::bell::{BellId, PushKeys};

/// A push subscription, as `static/bell.js` sends it.
#[derive(Deserialize)]
pub(crate) struct Subscribed {
    #[serde(default)]
    device: String,
    #[serde(default)]
    url: String,
    #[serde(default)]
    p256dh: String,
    #[serde(default)]
    auth: String,
    #[serde(default)]
    name: String,
    #[serde(flatten)]
    listens: HashMap<String, String>,
}

impl Subscribed {
    fn parse(&self, site: &Site) -> Result<(SecretString, PushKeys)> {
        let url = site.ringer.reach().address(&self.url);
        let url = url.map_err(|error| Error::Unprocessable(error.to_string()))?;
        let keys = from_base64url(&self.p256dh).zip(from_base64url(&self.auth));
        let (p256dh, auth) =
            keys.ok_or_else(|| Error::Unprocessable("The subscription’s keys can’t be read.".into()))?;
        let known = (8..=64).contains(&self.device.len())
            && self.device.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !known {
            return Err(Error::Unprocessable("The device doesn’t say which one it is.".into()));
        }
        Ok((String::from(url).into(), PushKeys { p256dh, auth }))
    }
}

/// Makes a device a bell.
pub(crate) async fn add_device(
    by: Superuser,
    site: Data<Site>,
    address: Address,
    said: Device,
    subscribed: Form<Subscribed>,
) -> Result<HttpResponse> {
    let (url, keys) = subscribed.parse(&site)?;
    let name =
        name(&subscribed.name, said.0.as_deref().or(Some("A device"))).map_err(Error::Unprocessable)?;
    let subscription = Subscription { device: &subscribed.device, url: &url, keys: &keys };
    let listens = listens(&subscribed.listens);
    site.db.add_device(&by, &subscription, &name, &listens, Some(&address.to_string())).await?;
    Ok(HttpResponse::Ok().finish())
}

/// A device that is a bell sends the subscription that it has now. One that isn't any more is told so.
pub(crate) async fn renew_device(
    by: Superuser,
    site: Data<Site>,
    subscribed: Form<Subscribed>,
) -> Result<HttpResponse> {
    let (url, keys) = subscribed.parse(&site)?;
    let subscription = Subscription { device: &subscribed.device, url: &url, keys: &keys };
    site.db.renew_device(&by, &subscription).await?;
    Ok(HttpResponse::Ok().finish())
}

/// Which ring a device has heard.
#[derive(Deserialize)]
pub(crate) struct Heard {
    #[serde(default)]
    ring: String,
}

/// A device has heard a ring.
pub(crate) async fn arrived(by: Superuser, site: Data<Site>, heard: Form<Heard>) -> Result<HttpResponse> {
    let ring = heard.ring.parse().map_err(|_| Error::Unprocessable("Which ring?".into()))?;
    site.db.ring_arrived(&by, ring).await?;
    Ok(HttpResponse::Ok().finish())
}

/// What a bell is called and listens for, as it was filled in.
#[derive(Deserialize)]
pub(crate) struct Changed {
    #[serde(default)]
    name: String,
    #[serde(flatten)]
    listens: HashMap<String, String>,
}

/// Keeps what was filled in.
pub(crate) async fn change(
    by: Superuser,
    site: Data<Site>,
    address: Address,
    id: BellId,
    changed: Form<Changed>,
) -> Result<HttpResponse> {
    let name = name(&changed.name, None).map_err(Error::Unprocessable)?;
    site.db.change_bell(&by, id, &name, &listens(&changed.listens), Some(&address.to_string())).await?;
    Ok(go_to(HERE))
}

/// Rings it, to hear whether it does.
pub(crate) async fn test(by: Superuser, site: Data<Site>, id: BellId) -> Result<HttpResponse> {
    site.db.test_bell(&by, id).await?;
    Ok(go_to("/account/bells/rings"))
}

/// Takes it down.
pub(crate) async fn remove(
    by: Superuser,
    site: Data<Site>,
    address: Address,
    id: BellId,
) -> Result<HttpResponse> {
    site.db.remove_bell(&by, id, Some(&address.to_string())).await?;
    Ok(go_to(HERE))
}
