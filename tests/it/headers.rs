//! What every answer carries, and whom the server answers.

use crate::app::{Answer, PASSWORD, Request, TestApp, Wants, hung_server};

fn check(what: &str, answer: &Answer) {
    let header = |name| answer.header(name).unwrap_or_else(|| panic!("{what}: no {name}"));
    let csp = header("content-security-policy");
    assert!(csp.starts_with("default-src 'none'; "), "{what}: {csp}");
    assert!(csp.contains("frame-ancestors 'none'") && csp.contains("base-uri 'none'"), "{what}: {csp}");
    let scripts = csp.split("; ").filter(|part| part.starts_with("script-src"));
    assert_eq!(scripts.collect::<Vec<_>>(), ["script-src 'self'"], "{what}");
    assert!(csp.contains("require-trusted-types-for 'script'; trusted-types live worker; "), "{what}: {csp}");
    assert!(!csp.contains("unsafe") && !csp.contains('*') && !csp.contains("http"), "{what}: {csp}");
    assert_eq!(header("x-content-type-options"), "nosniff", "{what}");
    assert_eq!(header("x-frame-options"), "DENY", "{what}");
    assert_eq!(header("referrer-policy"), "same-origin", "{what}");
    for banner in ["server", "x-powered-by", "via"] {
        assert_eq!(answer.header(banner), None, "{what}");
    }
    let cache = header("cache-control");
    let kept = cache == "public, max-age=31536000, immutable";
    assert!(cache == "no-store" || (what == "static" && kept), "{what}: {cache}");
    if answer.status >= 400 {
        assert_eq!(header("content-type"), "text/html; charset=utf-8", "{what}");
        assert!(answer.body.contains("<main"), "{what}: {}", answer.body);
        for leak in ["actix", "sqlx", "Error", "src/", "panicked"] {
            assert!(!answer.body.contains(leak), "{what}: {}", answer.body);
        }
    }
}

#[tokio::test]
async fn every_kind_of_answer_is_dressed() {
    let app = TestApp::start().await;
    let (stranger, pat, ada) = (app.anonymous(), app.plain().await, app.superuser().await);
    let login = stranger.get("/login").await;
    let css = login.body.split('"').find(|part| part.ends_with("/app.css")).unwrap().to_owned();
    let big = "x".repeat(5000);
    let answers = [
        ("login", 200, login),
        ("static", 200, stranger.get(&css).await),
        ("healthz", 200, stranger.get("/healthz").await),
        ("manifest", 200, stranger.get("/manifest.webmanifest").await),
        ("stranger", 303, stranger.get("/").await),
        ("plain", 403, pat.get("/").await),
        ("page", 200, ada.get("/").await),
        ("account", 200, ada.get("/account").await),
        ("unknown path", 404, ada.get("/nothing").await),
        ("malformed number", 404, ada.get("/runs/abc").await),
        ("number too large", 404, ada.get("/runs/99999999999999999999").await),
        ("number with a sign", 404, ada.get("/runs/+1").await),
        ("wrong method", 405, ada.post("/workers", &[]).await),
        ("no origin", 403, ada.send(Request::new("POST", "/runs")).await),
        ("bad form", 400, {
            let form = Request::new("POST", "/account/password").header("origin", &ada.origin());
            ada.send(form.header("content-type", "text/plain")).await
        }),
        ("refused", 401, stranger.post("/login", &[("name", "ada"), ("password", "x")]).await),
        ("too large", 413, stranger.post("/login", &[("name", &big)]).await),
        ("host", 400, stranger.send(Request::new("GET", "/").header("host", "evil.example")).await),
        ("signed in", 303, stranger.post("/login", &[("name", "ada"), ("password", PASSWORD)]).await),
        ("signed out", 303, stranger.post("/logout", &[]).await),
    ];
    for (what, status, answer) in &answers {
        assert_eq!(answer.status, *status, "{what}");
        check(what, answer);
    }
}

#[tokio::test]
async fn answers_about_trouble_are_dressed_too() {
    let (_listener, port) = hung_server();
    let hung = format!("postgres://signalbox@127.0.0.1:{port}/none");
    let app = TestApp::start_with(Wants { database_url: Some(hung), ..Wants::default() }).await;
    let answer = app.anonymous().post("/login", &[("name", "ada"), ("password", PASSWORD)]).await;
    assert_eq!(answer.status, 503);
    check("unavailable", &answer);
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sqlx::query("alter table workers rename to gone").execute(app.sql()).await.unwrap();
    let answer = ada.get("/account").await;
    assert_eq!(answer.status, 500);
    check("defect", &answer);
    assert!(answer.body.contains("Something went wrong on our side."), "{}", answer.body);
    for _ in 0..5 {
        app.anonymous().post("/login", &[("name", "ada"), ("password", "wrong")]).await;
    }
    let answer = app.anonymous().post("/login", &[("name", "ada"), ("password", "wrong")]).await;
    assert_eq!(answer.status, 429);
    check("too many", &answer);
}

#[tokio::test]
async fn only_hosts_that_we_go_by_are_answered() {
    let app = TestApp::start().await;
    let stranger = app.anonymous();
    let port = app.address.port();
    let status = async |request: Request| stranger.send(request).await.status;
    let host = |host: &str| Request::new("GET", "/healthz").header("host", host);
    for ours in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("LOCALHOST:{port}")] {
        assert_eq!(status(host(&ours)).await, 200, "{ours}");
    }
    for other in ["evil.example", "localhost", "127.0.0.1", &format!("evil.example:{port}"), "", "a b"] {
        assert_eq!(status(host(other)).await, 400, "{other}");
    }
    let aimed = Request::new("GET", "http://evil.example/healthz");
    assert_eq!(status(aimed).await, 400);
    let raw = async |text: String| {
        let answer = stranger.exchange(text.as_bytes()).await;
        String::from_utf8_lossy(&answer).split(' ').nth(1).map(str::to_owned)
    };
    let bad = Some("400".to_owned());
    assert_eq!(raw("GET /healthz HTTP/1.0\r\n\r\n".into()).await, bad);
    let twice = format!("GET /healthz HTTP/1.1\r\nhost: localhost:{port}\r\nhost: evil.example\r\n\r\n");
    assert_eq!(raw(twice).await, bad);
    let good = format!("GET /healthz HTTP/1.0\r\nhost: localhost:{port}\r\n\r\n");
    assert_eq!(raw(good).await, Some("200".to_owned()));
}

#[tokio::test]
async fn a_public_origin_is_answered_by_its_name() {
    let app = TestApp::start_with(Wants { origin: Some("https://box.example"), ..Wants::default() }).await;
    let stranger = app.anonymous();
    let host = |host: &str| Request::new("GET", "/healthz").header("host", host);
    assert_eq!(stranger.send(host("box.example")).await.status, 200);
    assert_eq!(stranger.send(host("www.box.example")).await.status, 400);
}

#[tokio::test]
async fn forms_are_taken_from_our_own_pages_only() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let send = async |pairs: &[(&str, &str)]| {
        let request = Request::new("POST", "/account/password").form(&[]);
        ada.send(pairs.iter().fold(request, |request, (name, value)| request.header(name, value)))
            .await
            .status
    };
    let own = ada.origin();
    // 422: the form itself was looked at, and is empty.
    assert_eq!(send(&[("origin", &own)]).await, 422);
    assert_eq!(send(&[("sec-fetch-site", "same-origin")]).await, 422);
    assert_eq!(send(&[("origin", "null"), ("sec-fetch-site", "same-origin")]).await, 422);
    assert_eq!(send(&[]).await, 403);
    assert_eq!(send(&[("origin", "null")]).await, 403);
    assert_eq!(send(&[("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")]).await, 403);
    assert_eq!(send(&[("origin", &format!("{own}.evil.example"))]).await, 403);
    assert_eq!(send(&[("referer", &own)]).await, 403);
    assert_eq!(send(&[("sec-fetch-site", "none")]).await, 403);
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_stops() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    // A connection that somebody keeps open.
    let idle = tokio::net::TcpStream::connect(app.address).await.unwrap();
    assert_eq!(ada.get("/").await.status, 200);
    let began = std::time::Instant::now();
    drop(app);
    assert!(began.elapsed() < std::time::Duration::from_secs(6), "{:?}", began.elapsed());
    drop(idle);
}
