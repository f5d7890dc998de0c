//! What can be scraped: numbers that are so, in Prometheus's format, and nothing that is anybody's.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use signalbox::model::run::StopMode;

use crate::app::{Answer, Request, TestApp, Wants, hung_server};
use crate::fleet::{Fleet, until};
use crate::sample::{self, LOST, RUNNING, STOP};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

async fn start(wants: Wants) -> TestApp {
    TestApp::start_with(Wants { metrics_token: Some(TOKEN), ..wants }).await
}

async fn scrape(app: &TestApp) -> Answer {
    let request = Request::new("GET", "/metrics").header("authorization", &format!("Bearer {TOKEN}"));
    let answer = app.anonymous().send(request).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!((answer.header("cache-control"), answer.header("set-cookie")), (Some("no-store"), None));
    answer
}

/// The value of a series, as it is written.
fn value<'a>(page: &'a Answer, series: &str) -> Option<&'a str> {
    page.body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
}

/// The names of all families, with those that a histogram is made of.
fn names(page: &Answer) -> BTreeSet<String> {
    let typed = page.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    typed
        .flat_map(|(name, kind)| {
            let parts: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            parts.iter().map(move |part| format!("{name}{part}"))
        })
        .collect()
}

#[tokio::test]
async fn the_fleet_is_there_in_numbers() {
    let app = start(Wants::default()).await;
    sample::worker(&app, "arm-1", 3).await;
    sample::run(&app, RUNNING).await;
    sample::run(&app, &[RUNNING, STOP].concat()).await;
    sample::run(&app, LOST).await;
    sample::run(&app, &[("asked_at", "now() - interval '90 s'")]).await;
    sample::run(&app, &sample::ended("'succeeded'")).await;
    app.sql_do(
        "update workers set cpu = 0.25, memory_used = 3, memory_total = 8, engine_ms = 12, gate_calls = 7,
                            gate_usd = 1.5, stops = '{1,0,2,0,0,0,0,0,0,0,0,1}', stops_s = 400.5",
    )
    .await;
    let ada = app.superuser().await;
    assert_eq!(ada.post("/runs/999/terminate", &[]).await.status, 404);
    let page = scrape(&app).await;
    for (series, expected) in [
        ("signalbox_runs{state=\"queued\"}", "1"),
        ("signalbox_runs{state=\"starting\"}", "0"),
        ("signalbox_runs{state=\"running\"}", "2"),
        ("signalbox_runs{state=\"lost\"}", "1"),
        ("signalbox_stops_unconfirmed", "1"),
        ("signalbox_store_up{store=\"postgres\"}", "1"),
        ("signalbox_store_up{store=\"redis\"}", "1"),
        ("signalbox_worker_runs{worker=\"arm-1\"}", "2"),
        ("signalbox_worker_capacity{worker=\"arm-1\"}", "4"),
        ("signalbox_worker_cpu_ratio{worker=\"arm-1\"}", "0.25"),
        ("signalbox_worker_memory_bytes{worker=\"arm-1\"}", "8"),
        ("signalbox_worker_engine_seconds{worker=\"arm-1\"}", "0.012"),
        ("signalbox_gate_calls_total{worker=\"arm-1\"}", "7"),
        ("signalbox_gate_dollars_total{worker=\"arm-1\"}", "1.5"),
        ("signalbox_stop_seconds_bucket{worker=\"arm-1\",le=\"0.25\"}", "3"),
        ("signalbox_stop_seconds_bucket{worker=\"arm-1\",le=\"+Inf\"}", "4"),
        ("signalbox_stop_seconds_sum{worker=\"arm-1\"}", "400.5"),
        ("signalbox_refusals_total{cause=\"request\"}", "1"),
        ("signalbox_refusals_total{cause=\"signed_out\"}", "0"),
    ] {
        assert_eq!(value(&page, series), Some(expected), "{series} in {}", page.body);
    }
    let oldest: f64 = value(&page, "signalbox_queue_oldest_seconds").unwrap().parse().unwrap();
    assert!((90.0..100.0).contains(&oldest), "{oldest}");
    // What was never measured isn't there.
    assert_eq!(value(&page, "signalbox_worker_disk_bytes{worker=\"arm-1\"}"), None);
    assert_eq!(value(&page, "signalbox_event_lag_seconds{worker=\"arm-1\"}"), None);
    // What a silent worker said last is no longer so; its silence is.
    app.sql_do("update workers set heard_at = now() - interval '40 s'").await;
    let page = scrape(&app).await;
    for series in ["runs", "cpu_ratio", "memory_bytes", "engine_up", "engine_seconds"] {
        assert_eq!(value(&page, &format!("signalbox_worker_{series}{{worker=\"arm-1\"}}")), None, "{series}");
    }
    assert_eq!(value(&page, "signalbox_worker_capacity{worker=\"arm-1\"}"), Some("4"));
    let age = value(&page, "signalbox_worker_heartbeat_age_seconds{worker=\"arm-1\"}").unwrap();
    assert!(age.parse::<f64>().unwrap() >= 40.0, "{age}");
}

#[tokio::test]
async fn a_stop_that_is_proven_is_among_the_times_and_a_run_that_ended_by_itself_is_not() {
    let fleet = Fleet::with(Wants { metrics_token: Some(TOKEN), ..Wants::default() }).await;
    let _worker = fleet.worker("w1").await;
    let (stopped, ends) = (fleet.start("x").await, fleet.start("y").await);
    for run in [stopped, ends] {
        fleet.until_running(run).await;
    }
    fleet.engine.exit(ends.0, 0);
    fleet.until_over(ends).await;
    fleet.stop(stopped, StopMode::Force).await;
    fleet.until_over(stopped).await;
    let of = |page: &Answer, name: &str| {
        let value = value(page, &format!("signalbox_{name}{{worker=\"w1\"}}"));
        value.map(|text| text.parse::<f64>().unwrap())
    };
    // With its next heartbeat; processors are known from the second one on.
    let told = async || {
        let page = scrape(&fleet.app).await;
        of(&page, "stop_seconds_count").is_some_and(|count| count > 0.0)
            && of(&page, "worker_cpu_ratio").is_some()
    };
    until("told", told).await;
    let page = scrape(&fleet.app).await;
    assert_eq!(of(&page, "stop_seconds_count"), Some(1.0));
    let took_s = of(&page, "stop_seconds_sum").unwrap();
    assert!(0.0 < took_s && took_s < 20.0, "{took_s}");
    assert!(of(&page, "worker_memory_bytes") > of(&page, "worker_memory_used_bytes"));
    assert!(of(&page, "worker_disk_bytes") > Some(0.0));
}

#[tokio::test]
async fn nothing_that_is_anybodys_can_be_scraped() {
    let app = start(Wants::default()).await;
    sample::worker(&app, "arm-1", 0).await;
    let columns = [RUNNING, &[("title", "'Secret-title'"), ("prompt", "'secret-prompt'")], STOP].concat();
    sample::run(&app, &columns).await;
    let page = scrape(&app).await;
    for word in ["Secret-title", "secret-prompt", "enough", "ada", "claude-code", TOKEN] {
        assert!(!page.body.contains(word), "{word} in {}", page.body);
    }
    let labels: BTreeSet<&str> = page
        .body
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('{')?.1.split_once('}'))
        .flat_map(|(labels, _)| labels.split(',').filter_map(|label| Some(label.split_once('=')?.0)))
        .collect();
    assert_eq!(labels, BTreeSet::from(["cause", "class", "le", "state", "store", "version", "worker"]));
}

#[tokio::test]
async fn a_dead_store_can_be_scraped_too() {
    let (_listener, port) = hung_server();
    let hung = format!("postgres://signalbox@127.0.0.1:{port}/none");
    let redis_url = Some("redis://127.0.0.1:1".to_owned());
    let app = start(Wants { database_url: Some(hung), redis_url, ..Wants::default() }).await;
    let began = Instant::now();
    let page = scrape(&app).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    for store in ["postgres", "redis"] {
        assert_eq!(value(&page, &format!("signalbox_store_up{{store=\"{store}\"}}")), Some("0"));
        assert_eq!(value(&page, &format!("signalbox_store_latency_seconds{{store=\"{store}\"}}")), None);
    }
    assert_eq!(value(&page, "signalbox_runs{state=\"queued\"}"), None, "unknown is not 0");
    assert!(value(&page, "process_resident_memory_bytes").is_some());
}

#[tokio::test]
async fn every_number_on_the_board_can_be_scraped() {
    let board = include_str!("../../deploy/grafana/signalbox.json");
    let board: serde_json::Value = serde_json::from_str(board).unwrap();
    let targets = board["panels"].as_array().unwrap().iter().filter_map(|panel| panel["targets"].as_array());
    let expressions: Vec<&str> =
        targets.flatten().map(|target| target["expr"].as_str().expect("an expression")).collect();
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let used: BTreeSet<String> = expressions
        .iter()
        .flat_map(|expression| expression.split(|c| !is_of_a_name(c)))
        .filter(|word| word.starts_with("signalbox_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect();
    assert!(used.len() > 15, "{used:?}");
    assert!(expressions.iter().all(|it| used.iter().any(|name| it.contains(name.as_str()))));
    let app = start(Wants::default()).await;
    sample::worker(&app, "arm-1", 0).await;
    let exported = names(&scrape(&app).await);
    assert_eq!(used.difference(&exported).collect::<Vec<_>>(), Vec::<&String>::new());
}
