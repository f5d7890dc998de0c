//! A push service on loopback, and the browser behind it: takes what is sent, and reads it as a browser would. It shares no
//! arithmetic on curves with the product.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use p256::ecdh::diffie_hellman;
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::{PublicKey, SecretKey};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::hmac;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};

/// What was sent.
#[derive(Debug)]
pub(crate) struct Call {
    /// Where to.
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

/// It takes every call, and answers as it is told to.
pub(crate) struct PushService {
    origin: String,
    answer: Arc<AtomicU16>,
    taken: Arc<AtomicU64>,
    calls: Mutex<mpsc::UnboundedReceiver<Call>>,
}

impl PushService {
    /// Listens.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let (answer, taken) = (Arc::new(AtomicU16::new(201)), Arc::new(AtomicU64::new(0)));
        let (calls, received) = mpsc::unbounded_channel();
        let (told, counted) = (answer.clone(), taken.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (calls, told, counted) = (calls.clone(), told.clone(), counted.clone());
                tokio::spawn(async move {
                    if let Some(call) = serve(stream, told.load(Ordering::SeqCst)).await {
                        counted.fetch_add(1, Ordering::SeqCst);
                        let _ = calls.send(call);
                    }
                });
            }
        });
        Self { origin, answer, taken, calls: Mutex::new(received) }
    }

    /// From here on it answers this.
    pub(crate) fn answers(&self, status: u16) {
        self.answer.store(status, Ordering::SeqCst);
    }

    /// Its origin.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// How many calls it has taken.
    pub(crate) fn calls(&self) -> u64 {
        self.taken.load(Ordering::SeqCst)
    }

    /// The next call, within ten seconds.
    pub(crate) async fn next(&self) -> Call {
        let next = async { self.calls.lock().await.recv().await.unwrap() };
        tokio::time::timeout(Duration::from_secs(10), next).await.expect("a call within ten seconds")
    }
}

async fn serve(mut stream: TcpStream, status: u16) -> Option<Call> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut body = bytes.split_off(end);
    let length: usize = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
    while body.len() < length && stream.read_buf(&mut body).await.ok()? > 0 {}
    let answer = format!(
        "HTTP/1.1 {status} x\r\ncontent-length: 0\r\nlocation: /elsewhere\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await.ok()?;
    Some(Call { path, headers, body })
}

impl Call {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(has, _)| has == name).map(|(_, value)| value.as_str())
    }

    /// The claims of its token, which was signed with this key (RFC 8292).
    pub(crate) fn vapid_claims(&self, key: &str) -> Value {
        let presented =
            self.header("authorization").and_then(|it| it.strip_prefix("vapid ")).expect("a token");
        let part = |name: &str| {
            presented
                .split(", ")
                .find_map(|part| part.strip_prefix(name))
                .unwrap_or_else(|| panic!("no {name}"))
        };
        assert_eq!(part("k="), key, "another key than the page's");
        let (signed, signature) = part("t=").rsplit_once('.').unwrap();
        let key = VerifyingKey::from_sec1_bytes(&decode(key)).unwrap();
        let signature = Signature::from_slice(&decode(signature)).unwrap();
        key.verify(signed.as_bytes(), &signature).expect("a signature of the page's key");
        let (head, claims) = signed.split_once('.').unwrap();
        let head: Value = serde_json::from_slice(&decode(head)).unwrap();
        assert_eq!(head["alg"], "ES256");
        serde_json::from_slice(&decode(claims)).unwrap()
    }

    /// Whether it is signed with this secret, as Standard Webhooks wants it.
    pub(crate) fn is_signed_with(&self, secret: &str) -> bool {
        let key = secret.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key.unwrap_or_else(|| secret.into()));
        let [id, at, signature] = ["webhook-id", "webhook-timestamp", "webhook-signature"]
            .map(|name| self.header(name).unwrap_or_else(|| panic!("no {name}")));
        let signed = [format!("{id}.{at}.").as_bytes(), &self.body].concat();
        let signature = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
        hmac::verify(&key, &signed, &signature).is_ok()
    }
}

fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// A browser's subscription.
pub(crate) struct Device {
    name: String,
    url: String,
    secret: SecretKey,
    auth: [u8; 16],
}

impl Device {
    /// The device of this number; each time with a subscription of its own.
    pub(crate) fn new(service: &PushService, number: u8) -> Self {
        let mut random = [0; 56];
        getrandom::fill(&mut random).unwrap();
        Self {
            name: format!("device-{number:04}"),
            url: format!("{}/push/{number}/{}", service.origin, URL_SAFE_NO_PAD.encode(&random[48..])),
            secret: SecretKey::from_slice(&random[..32]).unwrap(),
            auth: random[32..48].try_into().unwrap(),
        }
    }

    fn public(&self) -> Vec<u8> {
        self.secret.public_key().to_sec1_point(false).as_bytes().to_vec()
    }

    /// What its page sends.
    pub(crate) fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("device", self.name.clone()),
            ("url", self.url.clone()),
            ("p256dh", URL_SAFE_NO_PAD.encode(self.public())),
            ("auth", URL_SAFE_NO_PAD.encode(self.auth)),
            ("name", "A phone".to_owned()),
        ]
    }

    /// Whether it was pushed to this one.
    pub(crate) fn is_meant(&self, call: &Call) -> bool {
        self.url.ends_with(&call.path)
    }

    /// What was pushed to it (RFC 8291 and RFC 8188).
    pub(crate) fn read(&self, call: &Call) -> Value {
        assert!(self.is_meant(call), "a push to another device: {}", call.path);
        let (salt, rest) = call.body.split_at(16);
        assert_eq!(rest[..4], 4096_u32.to_be_bytes());
        let (theirs, sealed) = rest[5..].split_at(usize::from(rest[4]));
        let shared = diffie_hellman(
            self.secret.to_nonzero_scalar(),
            PublicKey::from_sec1_bytes(theirs).unwrap().as_affine(),
        );
        let own = self.public();
        let input: [u8; 32] =
            derive(&self.auth, shared.raw_secret_bytes(), &[b"WebPush: info\0", &own, theirs]);
        let key: [u8; 16] = derive(salt, &input, &[b"Content-Encoding: aes128gcm\0"]);
        let nonce: [u8; 12] = derive(salt, &input, &[b"Content-Encoding: nonce\0"]);
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).unwrap());
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let text = key.open_in_place(nonce, Aad::empty(), &mut sealed).expect("sealed for this device");
        let end = text.iter().rposition(|byte| *byte != 0).unwrap();
        assert_eq!(text[end], 2, "the delimiter of the last record");
        serde_json::from_slice(&text[..end]).unwrap()
    }
}

fn derive<const N: usize>(salt: &[u8], input: &[u8], info: &[&[u8]]) -> [u8; N] {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let mut out = [0; N];
    Salt::new(HKDF_SHA256, salt).extract(input).expand(info, Length(N)).unwrap().fill(&mut out).unwrap();
    out
}
