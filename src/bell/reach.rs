//! Which addresses may be rung. A bell's URL comes from a person, and is called from inside: it must lead out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// The longest address.
const URL_MAX: usize = 2000;

/// Why an address isn't rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// It can't be read.
    #[error("This is no address of a web server.")]
    NotAnAddress,
    /// It isn't https.
    #[error("The address must begin with https://.")]
    NotHttps,
    /// It holds a name and a password.
    #[error("The address may hold no name and no password.")]
    WithPassword,
    /// It leads to this machine or a private network.
    #[error("The address leads into a private network; it is never called.")]
    Private,
}

/// How far rings go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// To public addresses, over https.
    Public,
    /// Anywhere, and to this machine without https: for a console on loopback.
    Local,
}

impl Reach {
    /// An address that may be rung, as far as it can be told without asking the name service; connecting asks again.
    ///
    /// # Errors
    /// Why it may not.
    pub fn address(self, text: &str) -> Result<Url, Unreachable> {
        let url = Url::parse(text.trim()).map_err(|_| Unreachable::NotAnAddress)?;
        let host = url.host().filter(|_| text.len() <= URL_MAX).ok_or(Unreachable::NotAnAddress)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Unreachable::WithPassword);
        }
        let ip = match host {
            Host::Ipv4(ip) => Some(IpAddr::V4(ip)),
            Host::Ipv6(ip) => Some(IpAddr::V6(ip)),
            Host::Domain(_) => None,
        };
        let is_this_machine = ip.is_some_and(|ip| ip.is_loopback()) || is_localhost(&host);
        match url.scheme() {
            "https" => {}
            "http" if self == Self::Local && is_this_machine => {}
            _ => return Err(Unreachable::NotHttps),
        }
        if self == Self::Public && (is_localhost(&host) || ip.is_some_and(|ip| !is_public(ip))) {
            return Err(Unreachable::Private);
        }
        Ok(url)
    }
}

fn is_localhost(host: &Host<&str>) -> bool {
    let Host::Domain(name) = host else { return false };
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

/// Asks the name service, and connects to none but those that may be rung, so that a name can't lead elsewhere by the time
/// of the call.
impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = *self;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let may: Vec<SocketAddr> =
                found.filter(|address| reach == Self::Local || is_public(address.ip())).collect();
            if may.is_empty() {
                return Err(Unreachable::Private.into());
            }
            Ok(Box::new(may.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is one of the internet's own (IANA's registries of special-purpose addresses, RFC 6890).
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a, b, c) == (192, 0, 0)
        || (a, b, c) == (192, 88, 99)
        || (a == 198 && (b == 18 || b == 19)))
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let v4 = |high: u16, low: u16| {
        let ([w, x], [y, z]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(w, x, y, z))
    };
    match (a, b) {
        // Translated to IPv4 on the way: RFC 6052, section 2.1.
        (0x64, 0xff9b) => [c, d, e, f] == [0; 4] && v4(g, h),
        // 6to4 holds an IPv4 address, Teredo hides one, the documentation's lead nowhere.
        (0x2002, _) | (0x2001, 0x0000..=0x01ff | 0x0db8) | (0x3fff, 0..=0x0fff) => false,
        _ => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_leads_out_over_https() {
        for fine in [
            "https://fcm.googleapis.com/fcm/send/x",
            "https://93.184.215.14/x",
            "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:8443/",
            "https://ntfy.sh/topic",
        ] {
            assert!(Reach::Public.address(fine).is_ok(), "{fine}");
        }
        for (wrong, why) in [
            ("", Unreachable::NotAnAddress),
            ("ntfy.sh/x", Unreachable::NotAnAddress),
            ("http://ntfy.sh/x", Unreachable::NotHttps),
            ("ftp://ntfy.sh/x", Unreachable::NotHttps),
            ("http://127.0.0.1:80/", Unreachable::NotHttps),
            ("https://a:b@ntfy.sh/x", Unreachable::WithPassword),
            ("https://localhost/", Unreachable::Private),
            ("https://a.localhost./", Unreachable::Private),
            ("https://127.1/", Unreachable::Private),
            ("https://0x7f000001/", Unreachable::Private),
            ("https://2130706433/", Unreachable::Private),
            ("https://10.0.0.8/", Unreachable::Private),
            ("https://172.31.255.1/", Unreachable::Private),
            ("https://192.168.1.1/", Unreachable::Private),
            ("https://169.254.169.254/latest", Unreachable::Private),
            ("https://100.64.0.1/", Unreachable::Private),
            ("https://0.0.0.0/", Unreachable::Private),
            ("https://[::1]/", Unreachable::Private),
            ("https://[::]/", Unreachable::Private),
            ("https://[fd00::1]/", Unreachable::Private),
            ("https://[fe80::1]/", Unreachable::Private),
            ("https://[::ffff:10.0.0.1]/", Unreachable::Private),
            ("https://[64:ff9b::a00:1]/", Unreachable::Private),
            ("https://[2002:a00:1::]/", Unreachable::Private),
        ] {
            assert_eq!(Reach::Public.address(wrong).err(), Some(why), "{wrong}");
        }
    }

    #[test]
    fn a_console_on_loopback_rings_its_own_machine_without_https_and_nobody_else() {
        for fine in ["http://127.0.0.1:9/x", "http://localhost:9/", "https://10.0.0.8/"] {
            assert!(Reach::Local.address(fine).is_ok(), "{fine}");
        }
        assert_eq!(Reach::Local.address("http://ntfy.sh/x"), Err(Unreachable::NotHttps));
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_followed() {
        let ask = |reach: Reach| async move {
            let found = reach.resolve("localhost".parse().unwrap()).await;
            found.map(Iterator::count).map_err(|error| error.to_string())
        };
        assert_eq!(ask(Reach::Public).await, Err(Unreachable::Private.to_string()));
        assert!(ask(Reach::Local).await.unwrap() > 0);
    }
}
