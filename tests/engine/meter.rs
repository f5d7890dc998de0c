//! The gate's meter: what passes is counted, and not a byte of it is held back or changed.

use signalbox::gate::Meter;
use signalbox::model::metered::{Metered, Tokens};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch::Receiver;

use crate::gate::{Api, Dir, connect, known, open_with, read_until, say, soon};

const BEGIN: &str = concat!(
    "event: message_start\ndata: ",
    r#"{"type":"message_start","message":{"model":"claude-haiku-4-5-20251001","content":[],"usage":{"input_tokens":1000,"#,
    r#""cache_creation_input_tokens":200,"cache_read_input_tokens":3000,"output_tokens":1}}}"#,
    "\n\n"
);
const TALK: &str =
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"é\"}}\n\n";
const END: &str = concat!(
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":400}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
);

/// What `BEGIN` and `END` cost, at 1, 1.25, 0.1 and 5 dollars a million.
const USD: f64 = (1000.0 + 1.25 * 200.0 + 0.1 * 3000.0 + 5.0 * 400.0) / 1e6;

fn tokens(output: i64) -> Tokens {
    Tokens { input: 1000, cache_write: 200, cache_read: 3000, output, ..Tokens::default() }
}

fn is(usd: Option<f64>, wanted: f64) -> bool {
    usd.is_some_and(|usd| (usd - wanted).abs() < 1e-12)
}

/// A request through a gate and its answer, in these pieces; gives what came back of the body, and the figures afterwards.
async fn call(line: &str, head: &str, pieces: &[&[u8]]) -> (Vec<u8>, Metered) {
    let (dir, mut api) = (Dir::new(), Api::new().await);
    let meter = Meter::new(Metered::default());
    let read = meter.read();
    let gate = open_with(&dir.0, &api.url, meter).await;
    let asking = tokio::spawn({
        let (dir, asked) = (dir.0.clone(), known(line, ""));
        async move { say_bytes(&dir, &asked).await }
    });
    let (_, mut server) = api.next().await;
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    server.write_all(head.as_bytes()).await.unwrap();
    for piece in pieces {
        server.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    let answer = asking.await.unwrap();
    let split = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    gate.close();
    (answer[split..].to_vec(), last(read).await)
}

async fn say_bytes(dir: &std::path::Path, asked: &str) -> Vec<u8> {
    use tokio::io::AsyncReadExt;
    let mut stream = connect(dir).await.unwrap();
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon("an answer", stream.read_to_end(&mut answer)).await.unwrap();
    answer
}

/// The figures when nothing can be metered any more.
async fn last(mut read: Receiver<Metered>) -> Metered {
    soon("the meter's end", async { while read.changed().await.is_ok() {} }).await;
    read.borrow().clone()
}

const STREAM: &str = "200 OK\r\nContent-Type: text/event-stream; charset=utf-8";
const JSON: &str = "200 OK\r\nContent-Type: application/json";

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_passes_unchanged_and_is_counted() {
    let whole = [BEGIN, TALK, TALK, END].concat();
    for size in [1, 7, 100, whole.len()] {
        let pieces: Vec<&[u8]> = whole.as_bytes().chunks(size).collect();
        let (body, metered) = call("POST /v1/messages?beta=true", STREAM, &pieces).await;
        assert!(body == whole.as_bytes(), "{size}: {}", String::from_utf8_lossy(&body));
        assert_eq!((metered.calls, metered.tokens), (1, tokens(400)), "{size}");
        assert!(is(metered.usd, USD) && !metered.partly && !metered.unpriced, "{size}: {metered:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_answer_is_counted() {
    let message = r#"{"type":"message","model":"claude-haiku-4-5","content":[],"usage":{"input_tokens":1000,
        "cache_creation_input_tokens":200,"cache_read_input_tokens":3000,"output_tokens":400}}"#;
    let (body, metered) = call("POST /v1/messages", JSON, &[message.as_bytes()]).await;
    assert_eq!(body, message.as_bytes());
    assert_eq!((metered.calls, metered.tokens, metered.partly), (1, tokens(400), false));
    assert!(is(metered.usd, USD), "{metered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_costs_nothing_is_not_counted() {
    let usage =
        r#"{"type":"message","model":"claude-haiku-4-5","usage":{"input_tokens":9,"output_tokens":9}}"#;
    for (line, head) in [
        ("POST /v1/messages/count_tokens", JSON),
        ("GET /v1/models", JSON),
        ("POST /v1/messages", "529 Overloaded\r\nContent-Type: application/json"),
        ("POST /v1/messages", "302 Found\r\nLocation: /\r\nContent-Type: application/json"),
    ] {
        let (body, metered) = call(line, head, &[usage.as_bytes()]).await;
        assert_eq!((body, metered), (usage.as_bytes().to_vec(), Metered::default()), "{line} {head}");
    }
    let (_, metered) = call("POST /v1/messages", JSON, &[usage.as_bytes()]).await;
    assert_eq!(metered.calls, 1, "the same is counted where it costs something");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_a_price_has_tokens_and_no_dollars() {
    let stream = [BEGIN, END].concat().replace("claude-haiku-4-5-20251001", "claude-tomorrow-9");
    let (_, metered) = call("POST /v1/messages", STREAM, &[stream.as_bytes()]).await;
    assert_eq!((metered.tokens, metered.usd), (tokens(400), None));
    assert!(metered.unpriced && !metered.partly, "{metered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_comes_passes_unchanged_and_what_cannot_be_read_is_known() {
    let noise: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let garbage = [BEGIN.as_bytes(), b"event: message_delta\ndata: {{{\n\n\xff\0", &noise, b"\n\n"].concat();
    let endless = [b"data: ".as_slice(), &vec![b'x'; 3 << 20]].concat();
    let gzip = "200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip";
    for (head, bytes) in [
        (STREAM, &noise),
        (STREAM, &garbage),
        (STREAM, &endless),
        (JSON, &noise),
        (JSON, &endless),
        (gzip, &noise),
        (gzip, &[BEGIN, END].concat().into_bytes()),
        ("200 OK", &noise),
        (STREAM, &Vec::new()),
    ] {
        let pieces: Vec<&[u8]> = bytes.chunks(10_000).collect();
        let (body, metered) = call("POST /v1/messages", head, &pieces).await;
        assert!(&body == bytes, "{head}: {} of {}", body.len(), bytes.len());
        assert!(metered.partly && metered.calls == 1, "{head}: {metered:?}");
        assert_eq!(metered.usd.is_some(), *bytes == garbage, "what was said before it counts: {head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_counts_while_it_goes_on_and_as_far_as_it_came_when_it_is_cut() {
    let (dir, mut api) = (Dir::new(), Api::new().await);
    let before = Metered { calls: 2, tokens: tokens(5), usd: Some(1.5), ..Metered::default() };
    let meter = Meter::new(before);
    let mut read = meter.read();
    let gate = open_with(&dir.0, &api.url, meter).await;
    let mut client = connect(&dir.0).await.unwrap();
    client.write_all(known("POST /v1/messages", "{}").as_bytes()).await.unwrap();
    let (_, mut server) = api.next().await;
    let head = format!("HTTP/1.1 {STREAM}\r\nTransfer-Encoding: chunked\r\n\r\n");
    server.write_all(format!("{head}{:x}\r\n{BEGIN}\r\n", BEGIN.len()).as_bytes()).await.unwrap();
    read_until(&mut client, "message_start").await;
    let metered = soon("a figure", read.wait_for(|metered| metered.calls == 3)).await.unwrap().clone();
    assert_eq!(
        (metered.tokens.prompt(), metered.tokens.output),
        (8400, 6),
        "it goes on from what was stored"
    );
    let begun = (1000.0 + 1.25 * 200.0 + 0.1 * 3000.0 + 5.0) / 1e6;
    assert!(is(metered.usd, 1.5 + begun) && !metered.partly, "{metered:?}");

    gate.close();
    let cut = last(read).await;
    assert_eq!((cut.calls, cut.tokens), (3, metered.tokens));
    assert!(cut.partly, "what more it took nobody has said");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_took_is_none_and_one_without_an_answer_is_known() {
    let dir = Dir::new();
    let meter = Meter::new(Metered::default());
    let read = meter.read();
    let gate = open_with(&dir.0, "http://127.0.0.1:9", meter).await;
    assert!(say(&dir.0, &known("POST /v1/messages", "{}")).await.starts_with("HTTP/1.1 502"));
    gate.close();
    assert_eq!(last(read).await, Metered::default());

    let (dir, mut api) = (Dir::new(), Api::new().await);
    let meter = Meter::new(Metered::default());
    let read = meter.read();
    let gate = open_with(&dir.0, &api.url, meter).await;
    let mut client = connect(&dir.0).await.unwrap();
    client.write_all(known("POST /v1/messages", "{}").as_bytes()).await.unwrap();
    let _silent = api.next().await;
    gate.close();
    assert_eq!(last(read).await, Metered { calls: 1, partly: true, ..Metered::default() });
}
