//! The outside check, held against servers with holes that it must find, and against ours.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};

use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::web::{Bytes, ServiceConfig, get, head, put, resource, to};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use futures_util::stream;

use crate::app::{TestApp, hung_server};

/// A dashboard with a door: everything but the public pages leads to the sign-in.
fn shut(app: &mut ServiceConfig) {
    app.route("/healthz", get().to(async || "ok"))
        .route("/login", get().to(async || html("<form method=post action=/login></form>")))
        .route("/static/v1/live.js", get().to(async || "const where = `/board-7f3a/${id}`;"))
        .default_service(to(async || HttpResponse::SeeOther().insert_header((LOCATION, "/login")).finish()));
}

/// The same dashboard, with one of each hole.
fn holed(app: &mut ServiceConfig) {
    app.route("/runs", get().to(async || "all your runs"))
        .route("/api/settings", put().to(async || HttpResponse::NoContent().finish()))
        .route("/runs/1", head().to(async || HttpResponse::Ok().finish()))
        // Named nowhere but in a script, and in no list.
        .route("/board-7f3a/1", get().to(async || "found by reading"))
        // Never ends.
        .route("/runs/1/events", get().to(endless))
        // Says no, and tells all the same.
        .route("/nope", get().to(async || HttpResponse::NotFound().body("no Tom &amp; Jerry here")))
        .route(
            "/audit",
            get().to(async || answer(403).insert_header(("x-debug", "Tom%20%26%20Jerry")).finish()),
        )
        .route("/users", get().to(async || answer(400).body(r#"{"error":"Tom \u0026 Jerry"}"#)))
        .route("/metrics", get().to(async || answer(503).finish()))
        .route("/me", get().to(async || answer(302).insert_header((LOCATION, "//else.example/")).finish()))
        .route("/healthz", get().to(async || "ok, 7 runs"))
        .route("/login", get().to(async || html("<a href=/nope></a><form method=post action=/runs></form>")))
        .route(
            "/static/v1/live.js",
            get().to(async || "const where = `/board-7f3a/${id}`; '/static/v1/x.css'"),
        )
        .route("/static/v1/x.css", put().to(async || HttpResponse::Created().finish()))
        .service(
            resource("/manifest.webmanifest")
                .to(async || answer(200).insert_header(("content-encoding", "gzip")).body("who knows what")),
        )
        .default_service(to(async |asked: HttpRequest| match asked.uri().path() {
            // What a server sees that tidies paths after its guard has looked at them.
            "/static/../runs" | "/login;/../audit" => HttpResponse::Ok().body("tidied"),
            _ => answer(303)
                .insert_header((LOCATION, "/login"))
                .body("<script src=/static/v1/live.js></script>"),
        }));
}

fn html(text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html")
        .body(format!("{text}<script src='/static/v1/live.js'></script>"))
}

fn answer(status: u16) -> actix_web::HttpResponseBuilder {
    HttpResponse::build(StatusCode::from_u16(status).unwrap())
}

async fn endless() -> HttpResponse {
    let first = stream::once(async { Ok::<_, actix_web::Error>(Bytes::from("data: 1\n\n")) });
    HttpResponse::Ok().streaming(stream::StreamExt::chain(first, stream::pending()))
}

/// Serves on a thread of its own for as long as the tests run.
fn serve(configure: fn(&mut ServiceConfig)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let server = HttpServer::new(move || App::new().configure(configure)).workers(1).disable_signals();
        actix_web::rt::System::new().block_on(server.listen(listener).unwrap().run())
    });
    address
}

async fn visit(url: String, canaries: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox"));
    command.args(["incognito", &url]).env_clear();
    for canary in canaries {
        command.args(["--canary", canary]);
    }
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The findings, a line for each method, with other spellings of a path (its query, `%72` for `r`, the server's address
/// in front) counted as the path, and without sizes.
fn findings(told: &str, origin: &str) -> BTreeSet<String> {
    let lines = told.lines().filter_map(|line| line.strip_prefix("! "));
    lines
        .flat_map(|line| {
            let (what, methods) = line.rsplit_once(": ").unwrap();
            let (path, what) = what.split_once(' ').unwrap();
            let path = path.trim_start_matches(origin).split('?').next().unwrap();
            let path = path.replace("%72", "r").replace("%61", "a");
            let what = what.rsplit_once(" (").unwrap().0.to_owned();
            methods.split(' ').map(move |method| format!("{method} {path} {what}")).collect::<Vec<_>>()
        })
        .collect()
}

#[tokio::test]
async fn every_hole_is_found_and_nothing_else_is_called_one() {
    let origin = format!("http://{}", serve(holed));
    let done = visit(origin.clone(), &["Tom & Jerry"]).await;
    let told = text(&done.stdout);
    let all = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let mut wanted: BTreeSet<String> = [
        "GET /runs lets a stranger in",
        "HEAD /runs/1 lets a stranger in",
        "GET /runs/1/events lets a stranger in",
        "PUT /api/settings lets a stranger in",
        "GET /board-7f3a/1 lets a stranger in",
        "GET /nope canary no. 1 is in its body",
        "GET /audit canary no. 1 is in its headers",
        "GET /users canary no. 1 is in its body",
        "GET /metrics faltered: status 503",
        "GET /me sends visitors to \"http://else.example/\"",
        "GET /healthz says more than \"ok\"",
        "GET /login a form for \"/runs\" on a public page",
        "PUT /static/v1/x.css lets a stranger in",
    ]
    .map(str::to_owned)
    .into();
    for method in all {
        wanted.insert(format!("{method} /static/../runs lets a stranger in"));
        wanted.insert(format!("{method} /login;/../audit lets a stranger in"));
        if method != "HEAD" {
            wanted.insert(format!("{method} /manifest.webmanifest can't be searched: it came as \"gzip\""));
        }
        if !["GET", "HEAD", "OPTIONS"].contains(&method) {
            wanted.insert(format!("{method} /manifest.webmanifest lets a stranger in"));
        }
    }
    assert_eq!(findings(&told, &origin), wanted, "{told}");
    assert!(told.contains("A STRANGER GETS IN"), "{told}");
    assert_eq!(done.status.code(), Some(1));
}

#[tokio::test]
async fn a_server_without_holes_passes() {
    let done = visit(format!("http://{}", serve(shut)), &["Tom & Jerry"]).await;
    let told = text(&done.stdout);
    assert_eq!(done.status.code(), Some(0), "{told}");
    assert!(told.lines().last().unwrap().ends_with("doors tried, 0 open."), "{told}");
}

#[tokio::test]
async fn our_server_passes_with_runs_and_people_in_it() {
    let app = TestApp::start().await;
    let proof = app.proof().await;
    let canaries =
        ["canary-title-51c0", "canary-prompt-51c1", "canary-agent-51c2", "canary-event-51c3", "ada"];
    let new = signalbox::model::run::NewRun::parse("claude-code", canaries[1], canaries[0], None).unwrap();
    app.db.start_run(&proof, &new, None).await.unwrap();
    let insert = "insert into agents (name, about, memory_mib, milli_cpus, pids, time_s) values ($1, $1, 512, 500, 64, 60)";
    sqlx::query(insert).bind(canaries[2]).execute(app.sql()).await.unwrap();
    let insert = "insert into events (run_id, seq, at, source, kind, payload) values (1, 1, now(), 'stdout', 'text', $1)";
    sqlx::query(insert).bind(canaries[3]).execute(app.sql()).await.unwrap();

    let browser = app.superuser().await;
    assert!(
        browser.get("/runs/1").await.body.contains(canaries[1]),
        "the canaries are there for who may see them"
    );
    let done = visit(browser.origin(), &canaries).await;
    assert_eq!(done.status.code(), Some(0), "{}{}", text(&done.stdout), text(&done.stderr));
}

#[tokio::test]
async fn a_visit_that_could_not_be_made_proves_nothing() {
    let (_listener, port) = hung_server();
    let elsewhere = serve(|app| {
        let moved = async || answer(301).insert_header((LOCATION, "https://127.0.0.1/")).finish();
        app.default_service(to(moved));
    });
    for (url, why) in [
        (format!("http://127.0.0.1:{port}"), "no answer within 5 s"),
        (format!("http://{elsewhere}"), "sends everybody to https://127.0.0.1"),
        ("http://127.0.0.1:1".into(), "can't be reached"),
        ("http://127.0.0.1:1/runs".into(), "more than scheme, host and port"),
        ("nonsense".into(), "no URL"),
    ] {
        let done = visit(url, &[]).await;
        let told = text(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{told}");
        assert!(told.contains(why) && told.lines().count() == 1, "{told}");
    }
}
