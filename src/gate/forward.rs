//! What passes the gate: the model API's own requests, with the run's token taken out and the real key put in.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use reqwest::redirect::Policy;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sha2::{Digest, Sha256};
use url::Url;

use super::meter::{Call, Meter, Passing};

/// The largest request that passes. The model API itself takes 32 MB.
const REQUEST_LIMIT: usize = 64 << 20;

/// How long the model API's host may take to accept a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// How long the model API may be silent: before its answer, and between two pieces of it. Models think.
const SILENCE_DEADLINE: Duration = Duration::from_secs(600);

/// What the container presents, and what the model API wants.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Headers that belong to one connection (RFC 9110, section 7.6.1), and those that we set or that carry who one is.
const NOT_FORWARDED: &[&str] = &[
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-api-key",
];

type Answer = Response<BoxBody<Bytes, Box<dyn StdError + Send + Sync>>>;

/// The model API behind every gate, and the key that only gates hold; cheap to clone.
#[derive(Clone)]
pub struct Upstream {
    client: reqwest::Client,
    base: Arc<Url>,
    key: Arc<SecretString>,
}

impl Upstream {
    /// A client of the model API.
    ///
    /// # Errors
    /// When the platform's certificates can't be read.
    pub fn new(base_url: Url, key: SecretString) -> anyhow::Result<Self> {
        // An error means that someone installed one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(CONNECT_DEADLINE)
            .read_timeout(SILENCE_DEADLINE)
            .build()?;
        Ok(Self { client, base: Arc::new(base_url), key: Arc::new(key) })
    }

    /// The address of a request, under the base URL's own path.
    fn url(&self, path: &str, query: Option<&str>) -> Url {
        let mut url = (*self.base).clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url.set_query(query);
        url
    }

    /// The real key, for the one header that needs it.
    fn key(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(self.key.expose_secret()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("host", &self.base.host_str()).finish_non_exhaustive()
    }
}

/// What a container must present, and for how long it is good.
#[derive(Clone)]
pub struct Credential {
    token_hash: [u8; 32],
    is_good: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Credential {
    /// A credential by the SHA-256 of its token, good for as long as `is_good` says so: it dies with the run's lease, also when
    /// nobody came to close the gate.
    pub fn new(token_hash: [u8; 32], is_good: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { token_hash, is_good: Arc::new(is_good) }
    }
}

/// Answers one run's requests.
pub(super) struct Forward {
    credential: Credential,
    upstream: Upstream,
    meter: Meter,
}

impl Forward {
    pub(super) fn new(credential: Credential, upstream: Upstream, meter: Meter) -> Self {
        Self { credential, upstream, meter }
    }

    /// The model API's answer, or the gate's own in the model API's words.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        match self.pass(request).await {
            Ok(answer) => answer,
            Err(refusal) => refusal.into_answer(),
        }
    }

    async fn pass(&self, request: Request<Incoming>) -> Result<Answer, Refusal> {
        let (head, body) = request.into_parts();
        if !self.knows(&head.headers) {
            return Err(Refusal::Stranger);
        }
        if !(self.credential.is_good)() {
            return Err(Refusal::Lapsed);
        }
        if !is_open(&head.method, &head.uri) {
            return Err(Refusal::Elsewhere);
        }
        if body.size_hint().lower() > REQUEST_LIMIT as u64 {
            return Err(Refusal::TooLarge);
        }

        let mut headers = forwarded(&head.headers);
        headers.insert(API_KEY, self.upstream.key().ok_or(Refusal::Unreachable)?);
        let call = is_metered(&head.method, &head.uri).then(|| self.meter.call());
        if call.is_some() {
            // So that the answer can be read as it passes; whoever takes another encoding takes none too.
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let asked = self
            .upstream
            .client
            .request(head.method, self.upstream.url(head.uri.path(), head.uri.query()))
            .headers(headers);
        let asked = if body.is_end_stream() {
            asked
        } else {
            asked.body(reqwest::Body::wrap(Limited::new(body, REQUEST_LIMIT)))
        };
        let answered = match asked.send().await {
            Ok(answered) => answered,
            Err(error) => {
                let refusal = Refusal::of(&error);
                if let Some(call) = call.filter(|_| error.is_connect() || refusal == Refusal::TooLarge) {
                    call.was_not_made();
                }
                return Err(refusal);
            }
        };
        if answered.status() == StatusCode::SWITCHING_PROTOCOLS {
            call.into_iter().for_each(Call::was_not_made);
            return Err(Refusal::Unreachable);
        }
        Ok(hand_back(answered, call))
    }

    /// Whether the run's token is presented. Hashes are compared, and all of them, so the time taken tells nothing.
    fn knows(&self, headers: &HeaderMap) -> bool {
        let Some(token) = presented(headers) else { return false };
        let hash = Sha256::digest(token);
        let differing = hash.iter().zip(&self.credential.token_hash).fold(0, |all, (a, b)| all | (a ^ b));
        std::hint::black_box(differing) == 0
    }
}

/// What a request shows as its key: `x-api-key`, or else a bearer token. Several are as good as none.
fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let one = |name| {
        let mut all = headers.get_all(name).iter();
        all.next().filter(|_| all.next().is_none()).map(HeaderValue::as_bytes)
    };
    if headers.contains_key(API_KEY) {
        return one(API_KEY);
    }
    let (scheme, token) = one(header::AUTHORIZATION)?.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// Whether the gate lets this through. Paths are compared whole and as they came, so no way of writing one leads past
/// this. Batches stay out: they would go on spending after the gate is closed.
fn is_open(method: &Method, uri: &Uri) -> bool {
    if uri.scheme().is_some() || uri.authority().is_some() {
        return false;
    }
    match (method.as_str(), uri.path()) {
        ("HEAD", "/") => true,
        ("POST", "/v1/messages" | "/v1/messages/count_tokens") => true,
        ("GET", "/v1/models") => true,
        ("GET", path) => path.strip_prefix("/v1/models/").is_some_and(is_model_name),
        _ => false,
    }
}

fn is_model_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"._:@-".contains(&c))
}

/// The headers that go on, in either direction.
fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let goes_on = |name: &HeaderName| {
        !NOT_FORWARDED.contains(&name.as_str()) && !named.iter().any(|other| other == name.as_str())
    };
    let kept = headers.iter().filter(|(name, _)| goes_on(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Whether this is a call of the model, which costs something.
fn is_metered(method: &Method, uri: &Uri) -> bool {
    method == Method::POST && uri.path() == "/v1/messages"
}

/// The model API's answer as it comes in, piece by piece.
fn hand_back(answered: reqwest::Response, call: Option<Call>) -> Answer {
    let (head, body) = Response::from(answered).into_parts();
    let mut headers = forwarded(&head.headers);
    if let Some(length) = head.headers.get(header::CONTENT_LENGTH) {
        headers.insert(header::CONTENT_LENGTH, length.clone());
    }
    let body = body.map_err(Into::into);
    let body = match call {
        Some(mut call) if head.status.is_success() => {
            call.answered(&head.headers);
            Passing { body, call }.boxed()
        }
        Some(call) => {
            call.was_not_made();
            body.boxed()
        }
        None => body.boxed(),
    };
    let mut answer = Response::new(body);
    *answer.status_mut() = head.status;
    *answer.headers_mut() = headers;
    answer
}

/// Why the gate doesn't hand a request on, or has no answer to hand back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Stranger,
    Lapsed,
    Elsewhere,
    TooLarge,
    Unreachable,
    Silent,
}

impl Refusal {
    /// What an error of the client means. The URL is left out of the log: a base URL may hold a password.
    fn of(error: &reqwest::Error) -> Self {
        let mut words = Vec::new();
        let mut cause = error.source();
        while let Some(deeper) = cause {
            if deeper.is::<http_body_util::LengthLimitError>() {
                return Self::TooLarge;
            }
            words.push(deeper.to_string());
            cause = deeper.source();
        }
        tracing::warn!(
            timeout = error.is_timeout(),
            cause = words.join(": "),
            "the model API can't be reached"
        );
        if error.is_timeout() && !error.is_connect() { Self::Silent } else { Self::Unreachable }
    }

    /// Status, type and message as the model API words its errors.
    fn words(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Stranger => {
                (StatusCode::UNAUTHORIZED, "authentication_error", "this gate serves another run")
            }
            Self::Lapsed => (StatusCode::FORBIDDEN, "permission_error", "the lease on this run has lapsed"),
            Self::Elsewhere => {
                (StatusCode::FORBIDDEN, "permission_error", "this gate leads to the model API only")
            }
            Self::TooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", "the request is larger than 64 MiB")
            }
            Self::Unreachable => (StatusCode::BAD_GATEWAY, "api_error", "the model API can't be reached"),
            Self::Silent => (StatusCode::BAD_GATEWAY, "timeout_error", "the model API didn't answer in time"),
        }
    }

    fn into_answer(self) -> Answer {
        let (status, kind, message) = self.words();
        let text = json!({ "type": "error", "error": { "type": kind, "message": message } }).to_string();
        let mut answer = Response::new(Full::from(text).map_err(|never| match never {}).boxed());
        *answer.status_mut() = status;
        let json = HeaderValue::from_static("application/json");
        answer.headers_mut().insert(header::CONTENT_TYPE, json);
        answer
    }
}
