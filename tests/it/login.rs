//! Signing in: who gets in, what failures look like, how often one may try, and what is noted.

use std::time::{Duration, Instant};

use crate::app::{Answer, Browser, PASSWORD, REAL_HASH, Request, TestApp, Wants, hung_server};

async fn try_to_sign_in(browser: &Browser, name: &str, password: &str) -> Answer {
    browser.post("/login", &[("name", name), ("password", password)]).await
}

async fn audit(app: &TestApp) -> Vec<(String, String, Option<String>)> {
    sqlx::query_as("select who, what, address from audit order by id").fetch_all(app.sql()).await.unwrap()
}

#[tokio::test]
async fn the_right_password_opens_the_first_page() {
    let app = TestApp::start().await;
    let ada = app.anonymous();
    assert_eq!(ada.get("/").await.header("location"), Some("/login"));
    let answer = try_to_sign_in(&ada, " Ada ", PASSWORD).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/")));
    assert_eq!(ada.get("/").await.status, 200);
}

#[tokio::test]
async fn the_cookie_is_kept_from_scripts_other_sites_and_other_days() {
    let app = TestApp::start().await;
    let answer = try_to_sign_in(&app.anonymous(), "ada", PASSWORD).await;
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.starts_with("signalbox="), "{cookie}");
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(cookie.split("; ").any(|has| has == part), "{part}: {cookie}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");
}

#[tokio::test]
async fn over_https_the_cookie_is_for_this_host_only() {
    let app = TestApp::start_with(Wants { origin: Some("https://box.example"), ..Wants::default() }).await;
    let request = Request::new("POST", "/login")
        .header("host", "box.example")
        .header("origin", "https://box.example")
        .form(&[("name", "ada"), ("password", PASSWORD)]);
    let answer = app.anonymous().send(request).await;
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-signalbox=") && cookie.contains("; Secure"), "{cookie}");
}

#[tokio::test]
async fn every_failure_looks_the_same() {
    let app = TestApp::start().await;
    app.add_user("gone", "superuser", REAL_HASH).await;
    sqlx::query("update users set disabled_at = now() where name = 'gone'").execute(app.sql()).await.unwrap();
    let mut answers = Vec::new();
    for (name, password) in [("ada", "wrong"), ("pat", "wrong"), ("nobody", PASSWORD), ("gone", PASSWORD)] {
        let stranger = app.anonymous();
        let mut answer = try_to_sign_in(&stranger, name, password).await;
        assert_eq!(answer.status, 401, "{name}");
        assert_eq!(stranger.cookie(), None);
        answer.headers.retain(|(header, _)| header != "date" && header != "content-length");
        answer.headers.sort();
        answers.push((answer.headers, answer.body.replace(name, "NAME")));
    }
    assert!(answers[0].1.contains("This name and password don&#39;t go together."), "{}", answers[0].1);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
}

#[tokio::test]
async fn strange_forms_are_refused_in_words() {
    let app = TestApp::start().await;
    let stranger = app.anonymous();
    let name_with_nul = try_to_sign_in(&stranger, "ada\0", PASSWORD).await;
    assert_eq!(name_with_nul.status, 401);
    assert_eq!(stranger.post("/login", &[]).await.status, 401);
    let too_large = stranger.post("/login", &[("name", "ada"), ("password", &"x".repeat(5000))]).await;
    assert_eq!(too_large.status, 413);
    assert!(too_large.body.contains("larger than this page takes"), "{}", too_large.body);
    let no_form = Request::new("POST", "/login").header("origin", &stranger.origin());
    let no_form = stranger.send(no_form.header("content-type", "application/json")).await;
    assert_eq!(no_form.status, 400);
    assert!(no_form.body.contains("can&#39;t be read"), "{}", no_form.body);
    let twice = stranger.post("/login", &[("name", "ada"), ("name", "pat"), ("password", PASSWORD)]).await;
    assert_eq!(twice.status, 400);
}

#[tokio::test]
async fn what_was_typed_comes_back_inert() {
    let app = TestApp::start().await;
    let answer = try_to_sign_in(&app.anonymous(), "\"><script>alert(1)</script>", "x").await;
    assert!(!answer.body.contains("<script>alert"), "{}", answer.body);
}

#[tokio::test]
async fn names_that_nobody_has_cost_the_same() {
    let app = TestApp::start_with(Wants {
        trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
        ..Wants::default()
    })
    .await;
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for round in 0..8 {
        let name = format!("known{round}");
        app.add_user(&name, "superuser", REAL_HASH).await;
        for (times, name) in [(&mut known, name), (&mut unknown, format!("unknown{round}"))] {
            let stranger = app.anonymous();
            let request = Request::new("POST", "/login")
                .header("origin", &stranger.origin())
                .header("x-forwarded-for", &format!("192.0.2.{round}"))
                .form(&[("name", &name), ("password", "wrong")]);
            let began = Instant::now();
            assert_eq!(stranger.send(request).await.status, 401);
            times.push(began.elapsed());
        }
    }
    let fastest = |times: &[Duration]| times.iter().min().unwrap().as_secs_f64();
    // Without the work for unknown names it would be thirty times.
    let ratio = fastest(&known) / fastest(&unknown);
    assert!((0.33..3.0).contains(&ratio), "known {known:?}, unknown {unknown:?}");
}

#[tokio::test]
async fn five_failures_a_minute_and_then_one_waits() {
    let app = TestApp::start().await;
    let stranger = app.anonymous();
    for _ in 0..5 {
        assert_eq!(try_to_sign_in(&stranger, "ada", "wrong").await.status, 401);
    }
    let answer = try_to_sign_in(&stranger, "ada", PASSWORD).await;
    assert_eq!(answer.status, 429);
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((50..=60).contains(&wait), "{wait}");
    assert!(answer.body.contains("Too many attempts"), "{}", answer.body);
    // The address is used up as well, whatever the name.
    assert_eq!(try_to_sign_in(&stranger, "pat", PASSWORD).await.status, 429);
    assert_eq!(stranger.get("/login").await.status, 200);
}

#[tokio::test]
async fn a_name_is_used_up_from_wherever_it_is_tried_and_others_are_not() {
    let proxy = vec!["127.0.0.1".parse().unwrap()];
    let app = TestApp::start_with(Wants { trusted_proxies: proxy, ..Wants::default() }).await;
    let stranger = app.anonymous();
    let from = async |address: &str, name: &str, password: &str| {
        let request = Request::new("POST", "/login")
            .header("origin", &stranger.origin())
            .header("x-forwarded-for", address)
            .form(&[("name", name), ("password", password)]);
        stranger.send(request).await.status
    };
    for n in 0..5 {
        assert_eq!(from(&format!("192.0.2.{n}"), "ada", "wrong").await, 401);
    }
    assert_eq!(from("192.0.2.9", "ada", PASSWORD).await, 429);
    assert_eq!(from("192.0.2.9", "pat", PASSWORD).await, 303);
    assert_eq!(from("192.0.2.0, 192.0.2.8", "pat", PASSWORD).await, 303);
}

#[tokio::test]
async fn an_address_cannot_be_made_up() {
    let app = TestApp::start().await;
    let stranger = app.anonymous();
    let mut last = 0;
    for n in 0..6 {
        let request = Request::new("POST", "/login")
            .header("origin", &stranger.origin())
            .header("x-forwarded-for", &format!("192.0.2.{n}"))
            .form(&[("name", &format!("name{n}")), ("password", "wrong")]);
        last = stranger.send(request).await.status;
    }
    assert_eq!(last, 429);
}

#[tokio::test]
async fn guesses_at_the_same_time_do_not_get_past_the_limit() {
    let app = TestApp::start().await;
    app.add_user("eve", "superuser", REAL_HASH).await;
    let guesses = (0..20).map(|_| {
        let stranger = app.anonymous();
        async move { try_to_sign_in(&stranger, "eve", "wrong").await.status }
    });
    let mut answers = futures_util::future::join_all(guesses).await;
    answers.sort_unstable();
    assert_eq!(answers[..5], [401; 5]);
    assert_eq!(answers[5..], [429; 15]);
}

#[tokio::test]
async fn signing_in_often_is_no_failure() {
    let app = TestApp::start().await;
    for _ in 0..8 {
        app.superuser().await;
    }
}

#[tokio::test]
async fn an_empty_database_has_no_way_in() {
    let app = TestApp::start().await;
    sqlx::query("delete from users").execute(app.sql()).await.unwrap();
    let stranger = app.anonymous();
    for (name, password) in [("admin", "admin"), ("ada", PASSWORD), ("", ""), ("root", "")] {
        assert_eq!(try_to_sign_in(&stranger, name, password).await.status, 401, "{name}");
    }
    assert_eq!(stranger.get("/").await.header("location"), Some("/login"));
    let users = sqlx::query_scalar::<_, i64>("select count(*) from users").fetch_one(app.sql()).await;
    assert_eq!(users.unwrap(), 0);
}

#[tokio::test]
async fn what_happens_at_the_door_is_noted() {
    let app = TestApp::start().await;
    let ada = app.anonymous();
    try_to_sign_in(&ada, "ada", "wrong").await;
    try_to_sign_in(&ada, "a password typed as a name", "x").await;
    ada.sign_in("ada").await;
    ada.post("/logout", &[]).await;
    let here = Some("127.0.0.1".to_owned());
    let line = |who: &str, what: &str| (who.to_owned(), what.to_owned(), here.clone());
    assert_eq!(
        audit(&app).await,
        [
            line("ada", "sign-in refused"),
            line("visitor", "sign-in refused"),
            line("ada", "signed in"),
            line("ada", "signed out")
        ]
    );
}

#[tokio::test]
async fn without_an_audit_nobody_signs_in() {
    let app = TestApp::start().await;
    sqlx::query("revoke insert on audit from signalbox_web").execute(app.sql()).await.unwrap();
    let ada = app.anonymous();
    let answer = try_to_sign_in(&ada, "ada", PASSWORD).await;
    assert_eq!((answer.status, ada.cookie()), (500, None));
    assert!(!answer.body.contains("permission"), "{}", answer.body);
}

#[tokio::test]
async fn without_an_audit_one_can_still_sign_out() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let cookie = ada.cookie();
    sqlx::query("revoke insert on audit from signalbox_web").execute(app.sql()).await.unwrap();
    assert_eq!(ada.post("/logout", &[]).await.status, 303);
    assert_eq!(ada.with_cookie(cookie).get("/").await.header("location"), Some("/login"));
}

#[tokio::test]
async fn while_postgres_hangs_a_sign_in_is_told_so_within_two_seconds() {
    let (_listener, port) = hung_server();
    let hung = format!("postgres://signalbox@127.0.0.1:{port}/none");
    let app = TestApp::start_with(Wants { database_url: Some(hung), ..Wants::default() }).await;
    let stranger = app.anonymous();
    let began = Instant::now();
    let answer = try_to_sign_in(&stranger, "ada", PASSWORD).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("The database doesn&#39;t answer."), "{}", answer.body);
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test]
async fn while_redis_hangs_people_sign_in_as_ever() {
    let (_listener, port) = hung_server();
    let hung = format!("redis://127.0.0.1:{port}");
    let app = TestApp::start_with(Wants { redis_url: Some(hung), ..Wants::default() }).await;
    let began = Instant::now();
    let ada = app.superuser().await;
    assert_eq!(ada.get("/").await.status, 200);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}
