//! One request, sent exactly as it is written: a client that tidies `..` and `%2e` away would never see what they open.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

/// An answer's head, and then its body, have this long each.
const DEADLINE: Duration = Duration::from_secs(5);

/// As much of a body is read.
const BODY_MAX: usize = 256 * 1024;

/// A telephone, as the founder's was.
const USER_AGENT: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 \
                          (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1";

/// A server's address.
pub(super) struct Target {
    origin: String,
    /// What `Host` says.
    authority: String,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.origin)
    }
}

impl Target {
    pub(super) fn of(url: &Url) -> Result<Self, String> {
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            None => return Err("has no host".into()),
        };
        let tls = if url.scheme() == "https" { Some((tls()?, server_name(&host)?)) } else { None };
        let shown = url.host_str().unwrap_or_default();
        Ok(Self {
            origin: url.origin().ascii_serialization(),
            authority: url.port().map_or_else(|| shown.to_owned(), |port| format!("{shown}:{port}")),
            port: url.port_or_known_default().unwrap_or(80),
            host,
            tls,
        })
    }

    /// Scheme, host and port.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// The host alone.
    pub(super) fn host(&self) -> &str {
        &self.host
    }
}

/// TLS that trusts what this machine trusts.
fn tls() -> Result<TlsConnector, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(|error| format!("needs TLS, which doesn't start ({error})"))?;
    Ok(Arc::new(config.with_no_client_auth()).into())
}

fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(host.to_owned()).map_err(|error| format!("has no name for a certificate ({error})"))
}

/// Whether a path can stand in a request line.
pub(super) fn can_be_sent(path: &str) -> bool {
    uri(path).is_some()
}

/// A path that would be changed on its way is none; a fragment would be cut off.
fn uri(path: &str) -> Option<Uri> {
    path.parse().ok().filter(|uri: &Uri| *uri == path && !path.contains('#'))
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// At most the first 256 KiB, or what had come after 5 s.
    pub(super) body: Bytes,
}

impl Answer {
    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Somebody who asks, over a connection that is kept as long as the server lets them.
pub(super) struct Caller<'a> {
    target: &'a Target,
    line: Option<SendRequest<Full<Bytes>>>,
}

impl<'a> Caller<'a> {
    pub(super) fn new(target: &'a Target) -> Self {
        Self { target, line: None }
    }

    /// Asks. A connection that the server had closed meanwhile is made anew, once.
    pub(super) async fn ask(&mut self, method: &'static str, path: &str) -> Result<Answer, String> {
        let kept = self.line.is_some();
        match self.ask_once(method, path).await {
            Err(_) if kept => self.ask_once(method, path).await,
            done => done,
        }
    }

    async fn ask_once(&mut self, method: &'static str, path: &str) -> Result<Answer, String> {
        let request = self.request(method, path)?;
        let mut line = match self.line.take() {
            Some(line) => line,
            None => in_time("connection", self.connect()).await?,
        };
        let ask = async {
            line.ready().await?;
            line.send_request(request).await
        };
        let (head, mut rest) = in_time("answer", async { ask.await.map_err(told) }).await?.into_parts();
        let mut body = Vec::new();
        let read = async {
            while let Some(frame) = rest.frame().await {
                body.extend_from_slice(&frame.ok()?.into_data().unwrap_or_default());
                if body.len() >= BODY_MAX {
                    return None;
                }
            }
            Some(())
        };
        // What came in time is judged, also of an answer that never ends. Its connection is of no more use.
        let whole = tokio::time::timeout(DEADLINE, read).await.is_ok_and(|read| read.is_some());
        if whole {
            self.line = Some(line);
        }
        body.truncate(BODY_MAX);
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: body.into() })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let tcp = TcpStream::connect((self.target.host.as_str(), self.target.port)).await.map_err(told)?;
        tcp.set_nodelay(true).map_err(told)?;
        let stream: Box<dyn Stream> = match &self.target.tls {
            None => Box::new(tcp),
            Some((tls, name)) => Box::new(tls.connect(name.clone(), tcp).await.map_err(told)?),
        };
        let (line, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(told)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        Ok(line)
    }

    /// Anonymous. What changes something is sent as a page of the server's own would send it, so that a check of the
    /// request's origin doesn't stand in for the guard.
    fn request(&self, method: &'static str, path: &str) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::builder()
            .method(method)
            .uri(uri(path).ok_or("this path can't be sent")?)
            .header("host", &self.target.authority)
            .header("user-agent", USER_AGENT)
            .header("accept", "text/html,application/xhtml+xml,application/json;q=0.9,*/*;q=0.8")
            .header("accept-language", "en-GB,en;q=0.9")
            .header("accept-encoding", "identity");
        if !matches!(method, "GET" | "HEAD") {
            request = request.header("origin", &self.target.origin).header("sec-fetch-site", "same-origin");
        }
        let body = if matches!(method, "POST" | "PUT" | "PATCH") {
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            request = request.header("content-type", form);
            "a=b"
        } else {
            ""
        };
        request.body(body.into()).map_err(told)
    }
}

fn told(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

async fn in_time<T>(what: &str, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(DEADLINE, work)
        .await
        .unwrap_or_else(|_| Err(format!("no {what} within {} s", DEADLINE.as_secs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_sent_as_they_are_written() {
        for path in
            ["/", "//", "/a/../b", "/%2e%2e/b", "/a;x=1/b", "/a%00", "/.git/config", "/a\\b", "/a?b=/../c"]
        {
            assert!(can_be_sent(path), "{path}");
        }
        for path in ["", "a b", "/a#b", "/a\r\nb", "/a b"] {
            assert!(!can_be_sent(path), "{path:?}");
        }
    }
}
