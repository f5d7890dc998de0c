//! The gate, against an upstream in this process and raw bytes on the socket.

use std::fs;
use std::future::Future;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use sha2::{Digest, Sha256};
use signalbox::gate::{Credential, Gate, Meter, Upstream};
use signalbox::model::metered::Metered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;

const TOKEN: &str = "token-of-this-run";
const KEY: &str = "sk-the-real-key";

/// A model API that hands each connection, with the head of its request, to the test.
pub(crate) struct Api {
    pub(crate) url: String,
    asked: mpsc::UnboundedReceiver<(String, TcpStream)>,
}

impl Api {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (tell, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let tell = tell.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    let _ = tell.send((String::from_utf8(head).unwrap().to_ascii_lowercase(), stream));
                });
            }
        });
        Self { url, asked }
    }

    pub(crate) async fn next(&mut self) -> (String, TcpStream) {
        soon("a request", self.asked.recv()).await.unwrap()
    }

    fn heard_nothing(&mut self) -> bool {
        self.asked.try_recv().is_err()
    }
}

pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("signalbox-gate-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn upstream(url: &str) -> Upstream {
    Upstream::new(url.parse().unwrap(), SecretString::from(KEY)).unwrap()
}

async fn open(dir: &Path, url: &str) -> Gate {
    open_with(dir, url, Meter::new(Metered::default())).await
}

pub(crate) async fn open_with(dir: &Path, url: &str, meter: Meter) -> Gate {
    let credential = Credential::new(Sha256::digest(TOKEN).into(), || true);
    Gate::open(dir, credential, upstream(url), meter).await.unwrap()
}

pub(crate) async fn connect(dir: &Path) -> std::io::Result<UnixStream> {
    UnixStream::connect(dir.join("gate.sock")).await
}

/// Sends bytes as they are on a connection of their own; gives all that comes back.
pub(crate) async fn say(dir: &Path, bytes: &str) -> String {
    let mut stream = connect(dir).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon("an answer", stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn request(line: &str, headers: &str, body: &str) -> String {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{line} HTTP/1.1\r\nHost: 127.0.0.1:9000\r\nConnection: close\r\n{headers}{length}\r\n{body}")
}

pub(crate) fn known(line: &str, body: &str) -> String {
    request(line, &format!("x-api-key: {TOKEN}\r\n"), body)
}

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(10), future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} didn't come within 10 s"),
    }
}

/// Reads until `wanted` has come.
pub(crate) async fn read_until(stream: &mut (impl AsyncReadExt + Unpin), wanted: &str) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        let mut piece = [0; 4096];
        let length = soon(wanted, stream.read(&mut piece)).await.unwrap();
        assert!(length > 0, "it ended after {text:?}");
        text.push_str(&String::from_utf8_lossy(&piece[..length]));
    }
    text
}

async fn ends(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut rest = Vec::new();
    let _ = soon("its end", stream.read_to_end(&mut rest)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_good_for_nothing_once_the_lease_has_lapsed() {
    let (dir, mut api) = (Dir::new(), Api::new().await);
    let holds = Arc::new(AtomicBool::new(true));
    let asked = holds.clone();
    let credential = Credential::new(Sha256::digest(TOKEN).into(), move || asked.load(Ordering::Relaxed));
    let _gate =
        Gate::open(&dir.0, credential, upstream(&api.url), Meter::new(Metered::default())).await.unwrap();
    let said = |dir: PathBuf| tokio::spawn(async move { say(&dir, &known("POST /v1/messages", "{}")).await });
    let passing = said(dir.0.clone());
    let (_, mut stream) = api.next().await;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await.unwrap();
    assert!(passing.await.unwrap().starts_with("HTTP/1.1 200"));
    holds.store(false, Ordering::Relaxed);
    let refused = said(dir.0.clone()).await.unwrap();
    // Not 401, which the CLI would try again ten times.
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("lease"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_becomes_the_key_and_nothing_else_changes() {
    let (dir, mut api) = (Dir::new(), Api::new().await);
    let _gate = open(&dir.0, &format!("{}/prefix/", api.url)).await;
    for presented in [format!("X-Api-Key: {TOKEN}\r\n"), format!("Authorization: Bearer {TOKEN}\r\n")] {
        let extra = "anthropic-version: 2023-06-01\r\nAccept-Encoding: gzip\r\nCookie: a=b\r\nX-Hop: 1\r\n";
        let asked = request("POST /v1/messages?beta=true", &format!("{presented}{extra}"), "{\"a\":1}");
        let asked = asked.replace("Connection: close", "Connection: close, X-Hop");
        let answering = tokio::spawn({
            let dir = dir.0.clone();
            async move { say(&dir, &asked).await }
        });
        let (head, mut stream) = api.next().await;
        assert!(head.starts_with("post /prefix/v1/messages?beta=true http/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nx-api-key: {KEY}\r\n")), "{head}");
        assert!(head.contains(&format!("\r\nhost: {}\r\n", api.url.trim_start_matches("http://"))), "{head}");
        // The encoding is the gate's own wish: it reads what comes back.
        for kept in ["anthropic-version: 2023-06-01", "accept-encoding: identity", "content-length: 7"] {
            assert!(head.contains(&format!("\r\n{kept}\r\n")), "{kept:?} isn't in {head}");
        }
        for gone in [TOKEN, "gzip", "authorization", "cookie", "x-hop", "transfer-encoding", "9000"] {
            assert!(!head.contains(gone), "{gone:?} is in {head}");
        }
        let mut body = [0; 7];
        stream.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"{\"a\":1}");
        let answer =
            "HTTP/1.1 429 Too Many\r\nretry-after: 7\r\nSet-Cookie: c=d\r\nContent-Length: 2\r\n\r\n{}";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let answer = answering.await.unwrap().to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 429 ") && answer.contains("\r\nretry-after: 7\r\n"), "{answer}");
        assert!(answer.contains("\r\ncontent-length: 2\r\n") && answer.ends_with("\r\n\r\n{}"), "{answer}");
        assert!(!answer.contains("set-cookie"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_runs_token_nothing_passes() {
    let (dir, mut api) = (Dir::new(), Api::new().await);
    let _gate = open(&dir.0, &api.url).await;
    for presented in [
        String::new(),
        "x-api-key: \r\n".to_owned(),
        format!("x-api-key: {KEY}\r\n"),
        format!("x-api-key: {TOKEN}x\r\n"),
        format!("x-api-key: {}\r\n", &TOKEN[1..]),
        format!("x-api-key: {TOKEN}\r\nx-api-key: {TOKEN}\r\n"),
        format!("x-api-key: wrong\r\nauthorization: Bearer {TOKEN}\r\n"),
        format!("authorization: Basic {TOKEN}\r\n"),
        format!("authorization: {TOKEN}\r\n"),
        "authorization: Bearer \r\n".to_owned(),
    ] {
        for line in ["POST /v1/messages", "HEAD /", "GET /v1/models", "GET /etc/passwd"] {
            let answer = say(&dir.0, &request(line, &presented, "")).await;
            assert!(answer.starts_with("HTTP/1.1 401 "), "{line} with {presented:?}: {answer}");
            let error =
                "{\"error\":{\"message\":\"this gate serves another run\",\"type\":\"authentication_error\"}";
            assert!(line.starts_with("HEAD") || answer.contains(error), "{answer}");
        }
    }
    assert!(api.heard_nothing());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_model_apis_own_paths_are_open() {
    let (dir, mut api) = (Dir::new(), Api::new().await);
    let _gate = open(&dir.0, &api.url).await;
    for line in [
        "GET /",
        "POST /",
        "GET /v1/messages",
        "PUT /v1/messages",
        "DELETE /v1/messages",
        "TRACE /v1/messages",
        "OPTIONS *",
        "POST /v1/messages/",
        "POST /v1/messages/batches",
        "POST /v1/messages/../files",
        "POST /v1/messages/%2e%2e/files",
        "POST /v1/messages/..%2ffiles",
        "POST /v1//messages",
        "POST //v1/messages",
        "POST //evil.example/v1/messages",
        "POST /v1/Messages",
        "POST /v1/messages;a=b",
        "POST /v1/messages%00",
        "POST /v1/complete",
        "POST http://evil.example/v1/messages",
        "CONNECT evil.example:443",
        "GET /v1/models/..",
        "GET /v1/models/../files",
        "GET /v1/models/%2e%2e",
        "GET /v1/models/",
        "GET /v1/models/a/b",
        "GET /v1/organizations/users",
        "GET /v1/files",
        "HEAD /v1/files",
        "HEAD http://evil.example/",
    ] {
        let answer = say(&dir.0, &known(line, "")).await;
        let refused = answer.starts_with("HTTP/1.1 403 ") || answer.starts_with("HTTP/1.1 400 ");
        assert!(refused, "{line}: {answer}");
    }
    assert!(api.heard_nothing());

    for line in [
        "POST /v1/messages/count_tokens",
        "GET /v1/models?limit=9",
        "GET /v1/models/claude-x_4.5@1:a",
        "HEAD /",
    ] {
        let answering = tokio::spawn({
            let (dir, asked) = (dir.0.clone(), known(line, ""));
            async move { say(&dir, &asked).await }
        });
        let (head, mut stream) = api.next().await;
        assert!(head.starts_with(&line.to_ascii_lowercase()), "{line}: {head}");
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        assert!(answering.await.unwrap().starts_with("HTTP/1.1 204 "), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_can_be_read_two_ways_never_passes_as_two() {
    let (dir, mut api) = (Dir::new(), Api::new().await);
    let _gate = open(&dir.0, &api.url).await;
    let hidden = "POST /v1/files HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for framing in [
        "Content-Length: 5\r\nContent-Length: 50\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Content-Length: +5\r\n",
        "Content-Length : 5\r\n",
        " Content-Length: 5\r\n",
    ] {
        let head = format!("POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: {TOKEN}\r\n{framing}\r\n");
        let answer = say(&dir.0, &format!("{head}0\r\n\r\n{hidden}")).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{framing:?}: {answer}");
    }
    assert!(api.heard_nothing());

    // Of these two, chunked is the one that counts (RFC 9112, section 6.3), and the connection ends with it.
    for framing in
        ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 5"]
    {
        let head =
            format!("POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: {TOKEN}\r\n{framing}\r\n\r\n");
        let answering = tokio::spawn({
            let dir = dir.0.clone();
            async move { say(&dir, &format!("{head}1\r\na\r\n0\r\n\r\n{hidden}")).await }
        });
        let (head, mut stream) = api.next().await;
        assert!(head.contains("transfer-encoding: chunked") && !head.contains("content-length"), "{head}");
        read_until(&mut stream, "1\r\na\r\n0\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        let answers = answering.await.unwrap();
        assert!(answers.starts_with("HTTP/1.1 200 ") && answers.ends_with("\r\n\r\nok"), "{answers}");
    }
    assert!(api.heard_nothing());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hidden_behind_a_body_needs_the_token_too() {
    let (dir, mut api) = (Dir::new(), Api::new().await);
    let _gate = open(&dir.0, &api.url).await;
    let first = known("POST /v1/messages", "{}").replace("Connection: close\r\n", "");
    let second = request("POST /v1/messages", "", "{}");
    let answering = tokio::spawn({
        let dir = dir.0.clone();
        async move { say(&dir, &format!("{first}{second}")).await }
    });
    let (_, mut stream) = api.next().await;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    let answers = answering.await.unwrap();
    assert!(answers.starts_with("HTTP/1.1 200 ") && answers.contains("HTTP/1.1 401 "), "{answers}");
    assert!(api.heard_nothing());
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_pass_as_they_come_in_both_directions() {
    let (dir, mut api) = (Dir::new(), Api::new().await);
    let _gate = open(&dir.0, &api.url).await;
    let mut client = connect(&dir.0).await.unwrap();
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: {TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    client.write_all(format!("{head}3\r\none\r\n").as_bytes()).await.unwrap();
    let (_, mut server) = api.next().await;
    read_until(&mut server, "one").await;
    client.write_all(b"3\r\ntwo\r\n0\r\n\r\n").await.unwrap();
    read_until(&mut server, "two").await;

    server
        .write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .await
        .unwrap();
    let answer = read_until(&mut client, "\r\n\r\n").await;
    assert!(answer.contains("content-type: text/event-stream"), "{answer}");
    let mut slowest = Duration::ZERO;
    for round in 0..50 {
        let event = format!("data: {round};");
        let begun = Instant::now();
        server.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await.unwrap();
        read_until(&mut client, &event).await;
        slowest = slowest.max(begun.elapsed());
    }
    eprintln!("an event through the gate: at most {slowest:?} of 50");
    assert!(slowest < Duration::from_millis(200), "{slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_doesnt_read_is_waited_for_and_not_stored_up() {
    let (dir, mut api) = (Dir::new(), Api::new().await);
    let _gate = open(&dir.0, &api.url).await;
    let mut client = connect(&dir.0).await.unwrap();
    client.write_all(known("POST /v1/messages", "{}").as_bytes()).await.unwrap();
    let (_, mut server) = api.next().await;
    read_until(&mut server, "{}").await;
    server.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut sent = 0_usize;
    while let Ok(written) =
        tokio::time::timeout(Duration::from_millis(300), server.write(&[b'x'; 65536])).await
    {
        sent += written.unwrap();
        assert!(sent < 64 << 20, "the gate stores it up");
    }
    eprintln!("a reader who doesn't read holds the model API up after {} KiB", sent >> 10);
    drop(server);
    let mut all = Vec::new();
    soon("the rest", client.read_to_end(&mut all)).await.unwrap();
    assert!(all.len() >= sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_cuts_streams_on_both_sides_and_the_way_in() {
    let (dir, mut api) = (Dir::new(), Api::new().await);
    let gate = open(&dir.0, &api.url).await;
    let mut streaming = connect(&dir.0).await.unwrap();
    streaming.write_all(known("POST /v1/messages", "{}").as_bytes()).await.unwrap();
    let (_, mut server) = api.next().await;
    server.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").await.unwrap();
    read_until(&mut streaming, "one").await;
    let mut thinking = connect(&dir.0).await.unwrap();
    thinking.write_all(known("POST /v1/messages", "{}").as_bytes()).await.unwrap();
    let (_, silent) = api.next().await;
    let mut idle = connect(&dir.0).await.unwrap();
    idle.write_all(b"POST").await.unwrap();
    // It is counted once the gate has accepted it, which nothing tells.
    tokio::time::sleep(Duration::from_millis(50)).await;

    let begun = Instant::now();
    let cut = gate.close();
    let returned = begun.elapsed();
    let mut rest = Vec::new();
    let (mut server, mut silent) = (server, silent);
    let read = streaming.read_to_end(&mut rest);
    let _ = tokio::join!(
        ends(&mut server),
        ends(&mut silent),
        ends(&mut thinking),
        ends(&mut idle),
        soon("its end", read)
    );
    let elapsed = begun.elapsed();
    eprintln!("close() took {returned:?}; all five sides were cut after {elapsed:?}");
    assert!(elapsed < Duration::from_millis(50), "{elapsed:?}");
    assert_eq!(cut, 3);
    assert!(!String::from_utf8_lossy(&rest).ends_with("0\r\n\r\n"), "the answer doesn't look whole");
    assert!(connect(&dir.0).await.is_err() && !dir.0.join("gate.sock").exists());
    assert_eq!(gate.close(), 0, "closing twice is fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_opens_anew_is_not_closed_by_the_old_one() {
    let (dir, api) = (Dir::new(), Api::new().await);
    let old = open(&dir.0, &api.url).await;
    let new = open(&dir.0, &api.url).await;
    old.close();
    drop(old);
    assert!(say(&dir.0, &request("GET /", "", "")).await.starts_with("HTTP/1.1 401 "));
    drop(new);
    assert!(connect(&dir.0).await.is_err(), "dropping closes");
    fs::write(dir.0.join("gate.sock"), "left by a former life").unwrap();
    let _gate = open(&dir.0, &api.url).await;
    assert!(say(&dir.0, &request("GET /", "", "")).await.starts_with("HTTP/1.1 401 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_in_the_container_can_reach_it_however_long_its_path() {
    let (dir, api) = (Dir::new(), Api::new().await);
    let deep = dir.0.join("a".repeat(100)).join("b".repeat(100));
    fs::create_dir_all(&deep).unwrap();
    fs::set_permissions(&deep, fs::Permissions::from_mode(0o700)).unwrap();
    let _gate = open(&deep, &api.url).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let socket = deep.join("gate.sock");
    assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
    assert_eq!((mode(&deep), mode(&socket)), (0o755, 0o666));
    let short = dir.0.join("short");
    std::os::unix::fs::symlink(&deep, &short).unwrap();
    assert!(say(&short, &request("GET /", "", "")).await.starts_with("HTTP/1.1 401 "));
    assert_eq!(fs::read_dir(&deep).unwrap().count(), 1, "nothing is left beside the socket");
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_upstream_is_told_in_the_apis_words_and_without_secrets() {
    let dir = Dir::new();
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://user:pass@{}/secret-path", nobody.local_addr().unwrap());
    drop(nobody);
    let gate = open(&dir.0, &url).await;
    let answer = say(&dir.0, &known("POST /v1/messages", "{}")).await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("\"type\":\"api_error\""), "{answer}");
    assert!(answer.contains("content-type: application/json"), "{answer}");
    let told = format!("{answer}{gate:?}{:?}", upstream(&url));
    for secret in [KEY, TOKEN, "pass", "secret-path", "127.0.0.1"] {
        assert!(!answer.contains(secret), "{secret:?} is in {answer}");
        assert!(secret == "127.0.0.1" || !told.contains(secret), "{secret:?} is in {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_breaks_off_and_a_redirect_isnt_followed() {
    let (dir, mut api) = (Dir::new(), Api::new().await);
    let _gate = open(&dir.0, &api.url).await;
    for (answer, ends_with) in [
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n", "3\r\none\r\n"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\none", "\r\n\r\none"),
        ("HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n", "\r\n\r\n"),
        ("nonsense\r\n\r\n", "\"type\":\"error\"}"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            "\"type\":\"error\"}",
        ),
    ] {
        let answering = tokio::spawn({
            let (dir, asked) = (dir.0.clone(), known("POST /v1/messages", "{}"));
            async move { say(&dir, &asked).await }
        });
        let (_, mut stream) = api.next().await;
        stream.write_all(answer.as_bytes()).await.unwrap();
        drop(stream);
        let said = answering.await.unwrap();
        assert!(said.ends_with(ends_with), "{answer:?} became {said:?}");
    }
    assert!(api.heard_nothing());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_a_largest_size_told_or_not() {
    let (dir, mut api) = (Dir::new(), Api::new().await);
    let _gate = open(&dir.0, &api.url).await;
    let told = format!("x-api-key: {TOKEN}\r\nContent-Length: 67108865\r\n");
    let answer = say(&dir.0, &request("POST /v1/messages", &told, "")).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("request_too_large"), "{answer}");
    assert!(api.heard_nothing());

    let mut client = connect(&dir.0).await.unwrap();
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: {TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let (_, mut server) = api.next().await;
    let reading = tokio::spawn(async move {
        let mut sink = vec![0; 1 << 20];
        while server.read(&mut sink).await.is_ok_and(|length| length > 0) {}
    });
    let (mut answer, mut piece) = (client, format!("{:x}\r\n", 1 << 20).into_bytes());
    piece.extend(vec![b'x'; 1 << 20]);
    piece.extend(b"\r\n");
    for _ in 0..70 {
        if answer.write_all(&piece).await.is_err() {
            break;
        }
    }
    let mut said = Vec::new();
    let _ = soon("an answer", answer.read_to_end(&mut said)).await;
    let said = String::from_utf8_lossy(&said);
    assert!(said.starts_with("HTTP/1.1 413 "), "{said}");
    reading.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_takes_the_request_with_it() {
    let (dir, mut api) = (Dir::new(), Api::new().await);
    let _gate = open(&dir.0, &api.url).await;
    let mut client = connect(&dir.0).await.unwrap();
    client.write_all(known("POST /v1/messages", "{}").as_bytes()).await.unwrap();
    let (_, mut thinking) = api.next().await;
    drop(client);
    ends(&mut thinking).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_cannot_use_up_the_workers_connections() {
    let (dir, api) = (Dir::new(), Api::new().await);
    let gate = open(&dir.0, &api.url).await;
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(connect(&dir.0).await.unwrap());
    }
    let mut last = connect(&dir.0).await.unwrap();
    last.write_all(request("GET /", "", "").as_bytes()).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), last.read_u8()).await;
    assert!(early.is_err(), "it must wait its turn");
    held.clear();
    read_until(&mut last, "401").await;
    assert!(gate.close() <= 64);
}
