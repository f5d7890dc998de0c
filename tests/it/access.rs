//! Every route, with every method, as every visitor. The list of routes comes from actix-web itself, so that a page
//! that forgot its guard fails here without anybody having to remember a test.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use actix_web::introspection::IntrospectionTree;
use actix_web::web::{Data, ServiceConfig, resource};
use actix_web::{App, HttpResponse, HttpServer, test};
use signalbox::bell::{Reach, Ringer};
use signalbox::config::{Keep, Origin};
use signalbox::db::{Db, Role};
use signalbox::model::run::NewRun;
use signalbox::queue::Queue;
use signalbox::web::{Shared, Site, routes};

use crate::app::{Answer, Browser, Request, TestApp, Wants, hung_server};

/// What a stranger may see. This list may only shrink.
const PUBLIC: &[(&str, &[&str])] = &[
    ("/healthz", &["GET", "HEAD"]),
    ("/login", &["GET", "HEAD", "POST"]),
    ("/manifest.webmanifest", &["GET", "HEAD"]),
    ("/static/{version}/{file}", &["GET", "HEAD"]),
];

/// What those see who show the token for scraping, and nobody else does, whoever they are. This list may only shrink.
const BY_TOKEN: &[(&str, &str)] = &[("GET", "/metrics")];

/// What whoever is signed in may do, superuser or not: leave. This list may only shrink.
const BY_SIGNED_IN: &[(&str, &str)] = &[("POST", "/logout")];

/// That token, here.
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

const METHODS: &[&str] =
    &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "X"];

/// Paths that aren't there, or that strangers try.
const UNKNOWN: &[&str] = &[
    "/nothing",
    "/admin",
    "/api/runs",
    "/.env",
    "/runs/",
    "/runs/1/",
    "/runs/abc",
    "/runs/1/terminate/now",
    "/login/",
    "/login/x",
    "/healthz/",
    "/static/",
    "/static/x/app.css",
    "/mcp",
    "/a/b/c/d/e",
];

/// A server that can be scraped.
async fn start() -> TestApp {
    TestApp::start_with(Wants { metrics_token: Some(TOKEN), ..Wants::default() }).await
}

/// A route, as actix-web knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Route {
    path: String,
    methods: Vec<String>,
}

impl Route {
    fn is_public(&self, method: &str) -> bool {
        PUBLIC.iter().any(|(path, methods)| *path == self.path && methods.contains(&method))
    }

    /// A path that this route answers; run 1 is there.
    fn example(&self) -> String {
        self.path
            .replace("/agents/{name}", "/agents/claude-code")
            .replace("{id}", "1")
            .replace("{seq}", "1")
            .replace("{name}", "w1")
            .replace("{version}", "x")
            .replace("{file}", "app.css")
    }
}

fn site() -> Site {
    Site {
        db: Db::new("postgres://nobody@127.0.0.1:1/none", Role::Web, 1).unwrap(),
        queue: Queue::new("redis://127.0.0.1:1", "none").unwrap(),
        origin: Origin::parse("http://127.0.0.1:1").unwrap(),
        ringer: Ringer::new("http://127.0.0.1:1", Reach::Local, None),
        trusted_proxies: Vec::new(),
        keep: Keep::default(),
        name: "it".to_owned(),
        metrics: None,
    }
}

fn shared(listens: &str) -> Shared {
    Shared::new(site(), listens.parse().unwrap())
}

/// All routes of an app, as actix-web reports them.
async fn routes_of(configure: impl FnOnce(&mut ServiceConfig)) -> Vec<Route> {
    const HERE: &str = "/the-routes";
    let report = async |tree: Data<IntrospectionTree>| HttpResponse::Ok().body(tree.report_as_json());
    let app = test::init_service(App::new().service(resource(HERE).to(report)).configure(configure)).await;
    let answer = test::call_service(&app, test::TestRequest::get().uri(HERE).to_request()).await;
    let report: Vec<serde_json::Value> =
        serde_json::from_slice(&test::read_body(answer).await).expect("a list of routes");
    let of = |item: &serde_json::Value| Route {
        path: item["full_path"].as_str().unwrap().to_owned(),
        methods: item["methods"].as_array().unwrap().iter().map(|m| m.as_str().unwrap().to_owned()).collect(),
    };
    let mut routes: Vec<Route> = report.iter().map(of).filter(|route| route.path != HERE).collect();
    routes.iter_mut().for_each(|route| route.methods.sort());
    routes.sort();
    routes
}

async fn our_routes() -> Vec<Route> {
    let routes = routes_of(routes(&shared("127.0.0.1:1"))).await;
    let there = |path: &str| routes.iter().any(|route| route.path == path);
    assert!(
        routes.len() > 12 && there("/") && there("/runs/{id}"),
        "actix-web's report has gaps: {routes:?}"
    );
    routes
}

/// The same, and the paths that aren't there.
async fn everything() -> Vec<Route> {
    let unknown = UNKNOWN.iter().map(|path| Route { path: (*path).to_owned(), methods: Vec::new() });
    our_routes().await.into_iter().chain(unknown).collect()
}

fn is_shown_the_door(answer: &Answer) -> bool {
    answer.status == 303
        && answer.header("location") == Some("/login")
        && answer.body.is_empty()
        && answer.header("set-cookie").is_none()
        && answer.header("allow").is_none()
}

/// What a stranger gets to see without being on the list.
async fn leaks(stranger: &Browser, routes: &[Route]) -> BTreeSet<String> {
    let mut leaks = BTreeSet::new();
    for route in routes {
        for method in METHODS.iter().filter(|method| !route.is_public(method)) {
            for own in [None, Some(stranger.origin())] {
                let request = Request::new(method, &route.example());
                let request = own.iter().fold(request, |request, origin| request.header("origin", origin));
                let answer = stranger.send(request).await;
                if !is_shown_the_door(&answer) {
                    leaks.insert(format!("{method} {}: {}", route.path, answer.status));
                }
            }
        }
    }
    leaks
}

#[tokio::test]
async fn strangers_are_shown_the_door_everywhere() {
    let app = start().await;
    let none = BTreeSet::new();
    assert_eq!(leaks(&app.anonymous(), &everything().await).await, none);
    let with_stale_cookie = app.anonymous().with_cookie(Some("signalbox=stale".into()));
    assert_eq!(leaks(&with_stale_cookie, &everything().await).await, none);
}

#[tokio::test]
async fn strangers_are_shown_what_is_public_and_no_more() {
    let app = TestApp::start().await;
    let stranger = app.anonymous();
    for path in ["/healthz", "/login", "/manifest.webmanifest"] {
        assert_eq!(stranger.get(path).await.status, 200, "{path}");
        assert_eq!(stranger.send(Request::new("HEAD", path)).await.status, 200, "{path}");
    }
    assert_eq!(stranger.get("/healthz").await.body, "ok");
    let login = stranger.get("/login").await.body;
    let css = login.split('"').find(|part| part.ends_with("/app.css")).expect("a style sheet");
    assert_eq!(stranger.get(css).await.status, 200);
    let listed: BTreeSet<&str> = PUBLIC.iter().map(|(path, _)| *path).collect();
    let routes = our_routes().await;
    let there = routes.iter().map(|route| route.path.as_str()).collect();
    assert!(listed.is_subset(&there), "a public route is gone: take it from the list");
}

#[tokio::test]
async fn strangers_do_not_touch_postgres() {
    let (_listener, port) = hung_server();
    let hung = format!("postgres://signalbox@127.0.0.1:{port}/none");
    let app = TestApp::start_with(Wants { database_url: Some(hung), ..Wants::default() }).await;
    let began = Instant::now();
    assert_eq!(leaks(&app.anonymous(), &everything().await).await, BTreeSet::new());
    assert_eq!(app.anonymous().get("/login").await.status, 200);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_page_that_forgot_its_guard_is_found() {
    let forgotten = |app: &mut ServiceConfig| {
        app.service(resource("/forgotten").to(async || HttpResponse::Ok().body("every run there is")));
    };
    let both = move |shared: Shared| {
        move |app: &mut ServiceConfig| {
            forgotten(app);
            routes(&shared)(app);
        }
    };
    let found = routes_of(both(shared("127.0.0.1:1"))).await;
    assert!(found.iter().any(|route| route.path == "/forgotten"), "actix-web's report misses it");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let shared = shared(&address.to_string());
    let server = HttpServer::new(move || App::new().configure(both(shared.clone())))
        .workers(1)
        .disable_signals()
        .listen(listener)
        .unwrap()
        .run();
    let handle = server.handle();
    let running = tokio::spawn(server);
    let leaks = leaks(&Browser::new(address), &found).await;
    handle.stop(false).await;
    running.await.unwrap().unwrap();
    let expected = METHODS.iter().map(|method| format!("{method} /forgotten: 200")).collect();
    assert_eq!(leaks, expected);
}

#[tokio::test]
async fn plain_users_are_refused_everywhere() {
    let app = start().await;
    let pat = app.plain().await;
    for route in everything().await {
        for method in METHODS.iter().filter(|method| !route.is_public(method)) {
            if BY_SIGNED_IN.contains(&(*method, route.path.as_str())) {
                continue;
            }
            let request = Request::new(method, &route.example()).header("origin", &pat.origin());
            let answer = pat.send(request).await;
            assert_eq!(answer.status, 403, "{method} {}", route.path);
            assert!(*method == "HEAD" || answer.body.contains("sees nothing here"), "{}", answer.body);
            assert!(answer.header("allow").is_none());
        }
    }
}

#[tokio::test]
async fn plain_users_are_shown_the_way_out_and_may_take_it_from_our_own_pages() {
    let app = start().await;
    let pat = app.plain().await;
    let copy = pat.with_cookie(pat.cookie());
    let way_out = "method=\"post\" action=\"/logout\"";
    assert!(pat.get("/").await.body.contains(way_out));
    assert!(
        !app.superuser().await.get("/nothing").await.body.contains(way_out),
        "who can go back is shown the way back"
    );

    let from_elsewhere = Request::new("POST", "/logout").header("origin", "https://evil.example");
    let refused = pat.send(from_elsewhere).await;
    assert_eq!((refused.status, pat.get("/").await.status), (403, 403), "{}", refused.body);
    assert!(refused.body.contains("our own pages"), "{}", refused.body);

    let left = pat.post("/logout", &[]).await;
    assert_eq!((left.status, left.header("location"), pat.cookie()), (303, Some("/login"), None));
    assert!(is_shown_the_door(&copy.get("/").await), "whoever copied the cookie too");
    let noted = "select count(*) from audit where who = 'pat' and what = 'signed out'";
    let noted: i64 = sqlx::query_scalar(noted).fetch_one(app.sql()).await.unwrap();
    assert_eq!(noted, 1);
}

#[tokio::test]
async fn the_superuser_gets_in_everywhere_but_only_from_our_own_pages() {
    let app = start().await;
    let run = NewRun::parse("claude-code", "do something", "", None).unwrap();
    assert_eq!(app.db.start_run(&app.proof().await, &run, None).await.unwrap().run.0, 1);
    for route in everything().await {
        let ada = app.superuser().await;
        for method in METHODS.iter().filter(|method| !route.is_public(method)) {
            let (what, path) = (format!("{method} {}", route.path), route.example());
            let safe = ["GET", "HEAD", "OPTIONS", "TRACE"].contains(method);
            if !safe {
                let from_elsewhere = Request::new(method, &path).header("origin", "https://evil.example");
                let answer = ada.send(from_elsewhere).await;
                assert_eq!(answer.status, 403, "{what}");
                assert!(answer.body.contains("our own pages"), "{what}");
                assert_eq!(ada.send(Request::new(method, &path)).await.status, 403, "{what}, no origin");
            }
            let request = Request::new(method, &path).form(&[]).header("origin", &ada.origin());
            let answer = ada.send_for_head(request).await;
            let by_token = BY_TOKEN.contains(&(*method, route.path.as_str()));
            if route.methods.iter().any(|has| has == method) && !by_token {
                let ended = ["/logout", "/account/sessions"].contains(&route.path.as_str());
                assert!(ended || answer.header("location") != Some("/login"), "{what}");
                let fine = [200, 303, 400, 404, 422].contains(&answer.status);
                assert!(fine, "{what}: {}", answer.status);
                if ended {
                    ada.sign_in("ada").await;
                }
            } else {
                assert!([404, 405].contains(&answer.status), "{what}: {}", answer.status);
            }
        }
    }
}

#[tokio::test]
async fn the_token_opens_what_can_be_scraped_and_nothing_else() {
    let app = start().await;
    let scraper = app.anonymous();
    let bearer = format!("Bearer {TOKEN}");
    let mut opened = BTreeSet::new();
    for route in everything().await {
        for method in METHODS.iter().filter(|method| !route.is_public(method)) {
            let request = Request::new(method, &route.example()).header("authorization", &bearer);
            let answer = scraper.send(request).await;
            if !is_shown_the_door(&answer) {
                assert_eq!(answer.status, 200, "{method} {}", route.path);
                opened.insert(((*method).to_owned(), route.path.clone()));
            }
        }
    }
    let listed = BY_TOKEN.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(opened, listed);
}

/// An answer as anybody can tell it from another.
fn seen(answer: Answer) -> (u16, Vec<(String, String)>, String) {
    let mut headers: Vec<_> = answer.headers.into_iter().filter(|(name, _)| name != "date").collect();
    headers.sort();
    (answer.status, headers, answer.body)
}

#[tokio::test]
async fn without_the_token_there_is_nothing_to_scrape_for_anybody() {
    let (told, untold) = (start().await, TestApp::start().await);
    let shown = |header: &str, value: &str| vec![(header.to_owned(), value.to_owned())];
    let right = shown("authorization", &format!("Bearer {TOKEN}"));
    let wrong = [
        vec![],
        shown("authorization", "Bearer 0123456789abcdef0123456789abcdeF"),
        shown("authorization", "Bearer "),
        shown("authorization", TOKEN),
        shown("authorization", &format!("Basic {TOKEN}")),
        shown("authorization", &format!("bearer {TOKEN}")),
        shown("x-token", TOKEN),
        [right.clone(), right.clone()].concat(),
    ];
    for (app, ways) in [(&told, &wrong[..]), (&untold, &[right][..])] {
        for visitor in [app.anonymous(), app.plain().await, app.superuser().await] {
            for headers in ways {
                for (scraped, unknown) in [("/metrics", "/nothing"), ("/metrics?token=x", "/nothing?token=x")]
                {
                    let ask = async |path: &str| {
                        let request = Request::new("GET", path);
                        seen(
                            visitor
                                .send(headers.iter().fold(request, |r, (name, value)| r.header(name, value)))
                                .await,
                        )
                    };
                    assert_eq!(ask(scraped).await, ask(unknown).await, "{headers:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn no_way_of_writing_a_path_gets_around_the_guard() {
    let app = start().await;
    let stranger = app.anonymous();
    let public = [stranger.get("/login").await.body, "ok".to_owned()];
    for route in our_routes().await {
        let path = route.example();
        let rest = &path[1..];
        for target in [
            format!("/{path}"),
            format!("{path}/"),
            format!("{path}//"),
            format!("/./{rest}"),
            format!("/%2e/{rest}"),
            format!("/%2f{rest}"),
            format!("/x/..{path}"),
            format!("/login/..{path}"),
            format!("/static/..{path}"),
            format!("/static/x/..%2f..{path}"),
            format!("/healthz/%2e%2e{path}"),
            format!("{path};a=b"),
            format!("{path}%00"),
            format!("{path}%20"),
            format!("{path}.json"),
            format!("{path}?login"),
            format!("/\\{rest}"),
            path.to_uppercase(),
            path.bytes().map(|byte| format!("%{byte:02x}")).collect(),
            format!("/%{:02x}{}", path.as_bytes().get(1).unwrap_or(&b'/'), path.get(2..).unwrap_or_default()),
            format!("http://{}{path}", app.address),
            format!("http://evil.example{path}"),
            "*".to_owned(),
            rest.to_owned(),
        ] {
            for method in ["GET", "POST", "OPTIONS", "CONNECT"] {
                let request = Request::new(method, &target);
                // After a CONNECT the server leaves the line open for a second.
                let answer = match method {
                    "CONNECT" => stranger.send_for_head(request).await,
                    _ => stranger.send(request).await,
                };
                let harmless = is_shown_the_door(&answer)
                    || answer.status == 400
                    || (method == "POST" && answer.status == 403 && answer.body.contains("our own pages"))
                    || (method == "GET" && public.contains(&answer.body))
                    || (method == "GET" && route.is_public("GET") && answer.status == 200);
                assert!(harmless, "{method} {target}: {} {}", answer.status, answer.body);
            }
        }
    }
}

#[tokio::test]
async fn the_list_of_routes_in_the_docs_is_true() {
    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/api_surface.md");
    let mut text = String::from(
        "# Every route\n\n\
         Made from the routes as the server has them; `SIGNALBOX_REWRITE_DOCS=1 cargo test --test it` writes it anew.\n\
         Anything else sends a stranger to `/login`, refuses a plain user and is \"not found\" for a superuser.\n\n\
         | method | path | for |\n|---|---|---|\n",
    );
    for route in our_routes().await {
        for method in &route.methods {
            let who = match (method.as_str(), route.path.as_str()) {
                _ if route.is_public(method) => "everybody",
                it if BY_SIGNED_IN.contains(&it) => "whoever is signed in",
                it if BY_TOKEN.contains(&it) => "whoever shows the token for it; for others it isn't there",
                _ => "superusers",
            };
            text += &format!("| {method} | `{}` | {who} |\n", route.path);
        }
    }
    #[expect(clippy::disallowed_methods, reason = "a switch for whoever changes the routes")]
    if std::env::var("SIGNALBOX_REWRITE_DOCS").is_ok() {
        std::fs::write(PATH, &text).unwrap();
    }
    let written = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(
        written == text,
        "docs/api_surface.md is behind; SIGNALBOX_REWRITE_DOCS=1 writes it anew:\n{text}"
    );
}
