//! What a run costs while it lives: metered at its gate, written under its lease, said before it is stopped.

use std::fs::File;
use std::os::fd::AsRawFd;

use signalbox::model::metered::Tokens;
use signalbox::model::run::{Outcome, Run, RunId, State, StopMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};

use crate::app::TestApp;
use crate::fleet::{Fleet, Working, until};
use crate::sample::{self, LOST, RUNNING, attribute, ended};

/// What the model API says of each call: 1 cent at 10 and 50 dollars a million.
const MESSAGE: &str = r#"{"type":"message","model":"claude-fable-5-1","content":[],"usage":{"input_tokens":500,
    "cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":100}}"#;

const RESULT: &str =
    r#"{"type":"result","subtype":"success","is_error":false,"total_cost_usd":0.25,"result":"done"}"#;

/// A model API that says the same to everybody; gives its address.
async fn model_api() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let length = MESSAGE.len();
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json";
            let answer = format!("{head}\r\nContent-Length: {length}\r\n\r\n{MESSAGE}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    url
}

/// A worker whose gates lead there.
async fn worker(fleet: &Fleet, model_api: &str) -> Working {
    let mut parts = fleet.parts("w1");
    parts.settings.model_api.base_url = model_api.parse().unwrap();
    fleet.worker_with(parts).await
}

/// A connection to a run's gate, by way of its open folder: a socket's path may have 108 bytes at most.
async fn connect(fleet: &Fleet, run: RunId) -> std::io::Result<UnixStream> {
    let dir = File::open(fleet.engine.gate(run.0).0)?;
    UnixStream::connect(format!("/proc/self/fd/{}/gate.sock", dir.as_raw_fd())).await
}

/// What an agent does: calls the model through its gate.
async fn call(fleet: &Fleet, run: RunId) {
    let (_, token) = fleet.engine.gate(run.0);
    let mut stream = connect(fleet, run).await.unwrap();
    let asked =
        format!("POST /v1/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\nx-api-key: {token}\r\n\r\n");
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(MESSAGE), "{answer}");
}

async fn until_metered(fleet: &Fleet, run: RunId, calls: i64) -> Run {
    let metered = |run: &Run| run.metered.as_ref().is_some_and(|metered| metered.calls == calls);
    fleet.until(run, "metered", metered).await
}

fn cents(run: &Run) -> f64 {
    run.metered.as_ref().and_then(|metered| metered.usd).unwrap() * 100.0
}

#[tokio::test]
async fn a_living_run_says_what_it_has_cost_before_it_is_stopped() {
    let fleet = Fleet::new().await;
    let api = model_api().await;
    let _worker = worker(&fleet, &api).await;
    let ada = fleet.app.superuser().await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    let (page, question) = (format!("/runs/{run}"), format!("/runs/{run}/terminate"));
    assert_eq!(attribute(&ada.get(&page).await, "data-cost-usd"), "", "absent, and no nought");
    assert!(ada.get(&question).await.body.contains("<dt>Spent</dt><dd>not said yet</dd>"));

    for _ in 0..3 {
        call(&fleet, run).await;
    }
    let lives = until_metered(&fleet, run, 3).await;
    let metered = lives.metered.as_ref().unwrap();
    assert_eq!(metered.tokens, Tokens { input: 1500, output: 300, ..Tokens::default() });
    assert!((cents(&lives) - 3.0).abs() < 1e-9 && !metered.is_least(), "{metered:?}");
    let asked = ada.get(&question).await;
    assert!(
        asked.body.contains("<dt>Spent</dt><dd>$0.0300 so far, metered at its gate</dd>"),
        "{}",
        asked.body
    );
    let shown = ada.get(&page).await;
    assert_eq!(attribute(&shown, "data-cost-usd").parse::<f64>().map(|usd| (usd * 100.0).round()), Ok(3.0));
    for said in ["Cost, metered by list price", "$0.0300 <small>as of ", "1,500 tokens in, 300 out"] {
        assert!(shown.body.contains(said), "{said} isn't in {}", shown.body);
    }
    assert!(ada.get("/").await.body.contains("<span class=\"vh\">cost </span>$0.0300"));
    let many = ada.get(&format!("/stops/new?run={run}")).await;
    assert!(many.body.contains("Spent so far: $0.0300<"), "{}", many.body);

    fleet.stop(run, StopMode::Force).await;
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, over.numbers.cost_usd), (Some(Outcome::Terminated), None));
    assert!((cents(&over) - 3.0).abs() < 1e-9, "it stays known after a kill");
}

#[tokio::test]
async fn the_clis_own_word_stands_beside_the_meters_and_before_it() {
    let fleet = Fleet::new().await;
    let api = model_api().await;
    let _worker = worker(&fleet, &api).await;
    let ada = fleet.app.superuser().await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    call(&fleet, run).await;
    // Within the second in which figures are gathered: the last ones are written at the end.
    fleet.engine.print(run.0, RESULT);
    fleet.engine.exit(run.0, 0);
    fleet.until_over(run).await;
    until_metered(&fleet, run, 1).await;
    let shown = ada.get(&format!("/runs/{run}")).await;
    assert_eq!(attribute(&shown, "data-cost-usd"), "0.25");
    assert!(
        shown.body.contains("<dd>$0.25</dd>") && shown.body.contains("<dd>$0.0100 <small>"),
        "{}",
        shown.body
    );
    let asked = ada.get(&format!("/runs/{run}/terminate")).await;
    assert!(asked.body.contains("<dd>$0.25, by the CLI’s estimate</dd>"), "{}", asked.body);
    assert!(ada.get("/").await.body.contains("<span class=\"vh\">cost </span>$0.25<"));
}

#[tokio::test]
async fn a_next_life_goes_on_from_what_was_metered() {
    let fleet = Fleet::new().await;
    let api = model_api().await;
    let mut life = worker(&fleet, &api).await;
    let ada = fleet.app.superuser().await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    call(&fleet, run).await;
    until_metered(&fleet, run, 1).await;
    for calls in 2..4 {
        let before = fleet.run(run).await.fence;
        life.kill();
        life = worker(&fleet, &api).await;
        fleet.until(run, "taken over", |run| run.fence > before).await;
        until("open", async || connect(&fleet, run).await.is_ok()).await;
        call(&fleet, run).await;
        let lives = until_metered(&fleet, run, calls).await;
        assert!((cents(&lives) - calls as f64).abs() < 1e-9, "{lives:?}");
        assert!(lives.metered.unwrap().partly, "what was under way when the first life ended nobody knows");
    }
    let asked = ada.get(&format!("/runs/{run}/terminate")).await;
    assert!(asked.body.contains("<dd>at least $0.0300 so far, metered at its gate</dd>"), "{}", asked.body);
}

#[tokio::test]
async fn a_lost_run_has_cost_at_least_what_was_metered() {
    let fleet = Fleet::new().await;
    let api = model_api().await;
    let life = worker(&fleet, &api).await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    call(&fleet, run).await;
    assert!(!until_metered(&fleet, run, 1).await.metered.unwrap().is_least());
    life.kill();
    let lapse = sqlx::query("update runs set lease_until = now() - interval '1 s'");
    lapse.execute(fleet.app.sql()).await.unwrap();
    let lost = fleet.until(run, "lost", |run| run.state == State::Lost).await;
    assert!((cents(&lost) - 1.0).abs() < 1e-9 && lost.metered.unwrap().is_least());
}

/// The columns of what a gate has metered.
fn metered(usd: &'static str, more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let figures =
        [("metered_at", "now()"), ("metered_calls", "2"), ("metered_in", "5400"), ("metered_out", "320")];
    [figures.as_slice(), &[("metered_usd", usd)], more].concat()
}

#[tokio::test]
async fn a_page_says_whose_word_a_cost_is_and_what_it_leaves_out() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let unpriced = ("metered_unpriced", "true");
    for (columns, spent, row) in [
        (Vec::new(), "not said yet", ""),
        (metered("0.42", &[]), "$0.42 so far, metered at its gate", "$0.42"),
        (
            metered("0.42", &[("metered_partly", "true")]),
            "at least $0.42 so far, metered at its gate",
            "≥ $0.42",
        ),
        (metered("0.42", &[unpriced]), "at least $0.42 so far, metered at its gate", "≥ $0.42"),
        (
            metered("null", &[unpriced]),
            "5,400 tokens in, 320 out so far, metered at its gate; what they cost isn’t on the price list",
            "",
        ),
        (
            vec![("metered_at", "now()"), ("metered_calls", "1"), ("metered_partly", "true")],
            "not known: its gate couldn’t read what the model API said",
            "",
        ),
        (
            [metered("0.42", &[]), vec![("cost_usd", "0.75")]].concat(),
            "$0.75 so far, by the CLI’s estimate",
            "$0.75",
        ),
    ] {
        let run = sample::run(&app, &[RUNNING, &columns].concat()).await;
        let asked = ada.get(&format!("/runs/{run}/terminate")).await;
        let words = format!("<dt>Spent</dt><dd>{spent}</dd>");
        assert!(asked.body.contains(&words), "{words} isn't in {}", asked.body);
        let list = ada.get("/?state=running").await;
        let cost =
            list.body.split("<span class=\"cost\">").nth(1).unwrap().split("</span></div>").next().unwrap();
        let shown =
            if row.is_empty() { String::new() } else { format!("<span class=\"vh\">cost </span>{row}") };
        assert_eq!(cost, shown, "{columns:?}");
    }
}

#[tokio::test]
async fn a_stop_of_many_says_what_they_have_cost_and_of_how_many_it_is_not_known() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let mut runs = Vec::new();
    for columns in [
        [RUNNING, &metered("0.42", &[])].concat(),
        [RUNNING, &[("cost_usd", "0.5")]].concat(),
        [ended("'failed'").as_slice(), &[("cost_usd", "9")]].concat(),
        Vec::new(),
    ] {
        runs.push(sample::run(&app, &columns).await);
    }
    let both = async |said: &str, runs: &[i64]| {
        let selected: Vec<String> = runs.iter().map(|run| format!("run={run}")).collect();
        for question in [selected.join("&"), "state=all".to_owned()] {
            let page = ada.get(&format!("/stops/new?{question}")).await;
            assert!(page.body.contains(&format!(">Spent so far: {said}</p>")), "{question}: {}", page.body);
        }
    };
    both("$0.92", &runs).await;
    runs.push(sample::run(&app, RUNNING).await);
    both("$0.92; of one run it isn’t known", &runs).await;
    runs.push(sample::run(&app, LOST).await);
    both("$0.92; of 2 runs it isn’t known", &runs).await;
    runs.push(sample::run(&app, &[RUNNING, &metered("0.01", &[("metered_partly", "true")])].concat()).await);
    both("at least $0.93; of 2 runs it isn’t known", &runs).await;

    let none = TestApp::start().await;
    let ada = none.superuser().await;
    let queued = sample::run(&none, &[]).await;
    for question in [format!("run={queued}"), "state=all".to_owned()] {
        let page = ada.get(&format!("/stops/new?{question}")).await;
        assert!(page.body.contains("Stop one run?") && !page.body.contains("Spent"), "{}", page.body);
    }
}
