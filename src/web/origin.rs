//! Known hosts only, and changes only from our own pages.

use std::net::SocketAddr;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use actix_web::middleware::Next;
use actix_web::web::Data;

use super::error::{Error, Result};
use crate::config::Origin;

/// The hosts that we go by, and the origins that our own pages have.
pub(crate) struct Ours {
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Ours {
    /// The public origin; and the names of loopback, when that is what is listened on.
    pub(crate) fn new(origin: &Origin, listens: SocketAddr) -> Self {
        let mut ours = Self { hosts: vec![origin.host().to_owned()], origins: vec![origin.to_string()] };
        if listens.ip().is_loopback() {
            let port = listens.port();
            for name in ["127.0.0.1", "localhost", "[::1]"] {
                // Browsers leave out port 80.
                let host = if port == 80 { name.to_owned() } else { format!("{name}:{port}") };
                ours.origins.push(format!("http://{host}"));
                ours.hosts.push(host);
            }
        }
        ours
    }

    fn is_host(&self, host: &str) -> bool {
        self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host))
    }

    fn is_origin(&self, origin: &str) -> bool {
        self.origins.iter().any(|ours| ours == origin)
    }
}

/// Refuses requests for hosts that we aren't: names that somebody else points at us.
pub(crate) async fn require_known_host(
    ours: Data<Ours>,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> std::result::Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let named = only(request.headers(), HOST).is_some_and(|host| ours.is_host(host));
    // `GET http://host/path` names a host of its own, which counts for more (RFC 9112, section 3.2.2).
    let aimed = request.uri().authority().is_none_or(|authority| ours.is_host(authority.as_str()));
    if named && aimed { next.call(request).await } else { Err(Error::UnknownHost.into()) }
}

/// Refuses requests that change something and don't come from one of our own pages.
pub(crate) async fn require_ours(
    ours: Data<Ours>,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> std::result::Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    check(&ours, &request)?;
    next.call(request).await
}

/// What browsers say of how near a request's page is to us (Fetch Metadata, section 2.1).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a request may change something: browsers say where it comes from and pages can't make them lie.
pub(crate) fn check(ours: &Ours, request: &ServiceRequest) -> Result<()> {
    if request.method().is_safe() {
        return Ok(());
    }
    let headers = request.headers();
    let fine = match only(headers, ORIGIN) {
        // Old browsers say no more than that; what says that it is ours and comes from elsewhere is no browser.
        Some(origin) if origin != "null" => {
            let mut sites = headers.get_all(FETCH_SITE);
            ours.is_origin(origin) && sites.all(|site| site == "same-origin" || site == "none")
        }
        // No origin, or one that is kept secret: then only the browser's own word that it is the same.
        _ if headers.get_all(ORIGIN).count() <= 1 => only(headers, FETCH_SITE) == Some("same-origin"),
        _ => false,
    };
    if fine { Ok(()) } else { Err(Error::NotOurs) }
}

/// The header's value, if it is there exactly once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name);
    let first = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn ours() -> Ours {
        Ours::new(&Origin::parse("https://box.example").unwrap(), "127.0.0.1:8080".parse().unwrap())
    }

    fn allowed(pairs: &[(&'static str, &str)]) -> bool {
        let request = pairs.iter().fold(TestRequest::post(), |request, pair| request.append_header(*pair));
        check(&ours(), &request.to_srv_request()).is_ok()
    }

    #[test]
    fn changes_come_from_our_own_pages() {
        assert!(allowed(&[("origin", "https://box.example")]));
        assert!(allowed(&[("origin", "http://localhost:8080")]));
        assert!(allowed(&[("sec-fetch-site", "same-origin")]));
        assert!(allowed(&[("origin", "https://box.example"), ("sec-fetch-site", "same-origin")]));
        assert!(allowed(&[("origin", "https://box.example"), ("sec-fetch-site", "none")]));
        assert!(allowed(&[("origin", "null"), ("sec-fetch-site", "same-origin")]));
    }

    #[test]
    fn changes_from_elsewhere_are_refused() {
        assert!(!allowed(&[]));
        assert!(!allowed(&[("origin", "null")]));
        assert!(!allowed(&[("origin", "http://box.example")]));
        assert!(!allowed(&[("origin", "https://box.example.evil.example")]));
        assert!(!allowed(&[("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")]));
        assert!(!allowed(&[("origin", "https://box.example"), ("origin", "https://evil.example")]));
        for site in ["cross-site", "same-site", "", "Same-Origin"] {
            assert!(!allowed(&[("origin", "https://box.example"), ("sec-fetch-site", site)]), "{site}");
        }
        let twice = ("sec-fetch-site", "same-origin");
        assert!(!allowed(&[("origin", "https://box.example"), twice, ("sec-fetch-site", "cross-site")]));
        assert!(!allowed(&[("sec-fetch-site", "none")]));
        assert!(!allowed(&[("sec-fetch-site", "same-site")]));
        assert!(!allowed(&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")]));
    }

    #[test]
    fn loopback_names_count_only_where_loopback_is_listened_on() {
        let public =
            Ours::new(&Origin::parse("https://box.example").unwrap(), "0.0.0.0:8080".parse().unwrap());
        assert!(public.is_host("BOX.example") && !public.is_host("localhost:8080"));
        assert!(ours().is_host("localhost:8080") && !ours().is_host("localhost"));
    }
}
