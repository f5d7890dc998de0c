//! Where a request comes from.

use std::future::{Ready, ready};
use std::net::IpAddr;

use actix_web::dev::Payload;
use actix_web::http::header::X_FORWARDED_FOR;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};

use super::Site;
use super::error::Error;

/// The client's address: the peer's, or what a trusted proxy says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address(pub(crate) IpAddr);

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl FromRequest for Address {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let peer = request.peer_addr().map(|peer| peer.ip().to_canonical());
        let trusted = request.app_data::<Data<Site>>().map_or(&[][..], |site| &site.trusted_proxies);
        let forwarded = request.headers().get_all(X_FORWARDED_FOR).filter_map(|value| value.to_str().ok());
        let address =
            peer.map(|peer| client(peer, trusted, forwarded.collect::<Vec<_>>().join(",").as_str()));
        ready(address.map(Self).ok_or_else(|| Error::Internal(anyhow::anyhow!("a request from nowhere"))))
    }
}

/// Walks back from the peer as long as the word of a trusted proxy goes.
fn client(peer: IpAddr, trusted: &[IpAddr], forwarded: &str) -> IpAddr {
    let mut client = peer;
    for hop in forwarded.rsplit(',') {
        if !trusted.iter().any(|proxy| proxy.to_canonical() == client) {
            break;
        }
        let Ok(hop) = hop.trim().parse::<IpAddr>() else { break };
        client = hop.to_canonical();
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_of(peer: &str, forwarded: &str) -> String {
        let trusted = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        client(peer.parse().unwrap(), &trusted, forwarded).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(client_of("192.0.2.9", "198.51.100.1"), "192.0.2.9");
        assert_eq!(client_of("10.0.0.1", "198.51.100.1"), "198.51.100.1");
        assert_eq!(client_of("10.0.0.1", "203.0.113.7, 198.51.100.1"), "198.51.100.1");
        assert_eq!(client_of("10.0.0.1", "203.0.113.7, 198.51.100.1, 10.0.0.2"), "198.51.100.1");
        assert_eq!(client_of("10.0.0.1", ""), "10.0.0.1");
        assert_eq!(client_of("10.0.0.1", "198.51.100.1, unknown"), "10.0.0.1");
        assert_eq!(client_of("10.0.0.1", "::ffff:198.51.100.1"), "198.51.100.1");
    }
}
