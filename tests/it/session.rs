//! Sessions: when they begin, when they end, and that they end for certain.

use std::time::{Duration, Instant};

use crate::app::{Browser, PASSWORD, Request, TestApp};

async fn is_in(browser: &Browser) -> bool {
    browser.get("/").await.status == 200
}

async fn execute(app: &TestApp, statement: &'static str) {
    sqlx::query(statement).execute(app.sql()).await.unwrap();
}

#[tokio::test]
async fn signing_out_ends_it_also_for_whoever_copied_the_cookie() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let copy = ada.with_cookie(ada.cookie());
    assert!(is_in(&copy).await);
    let answer = ada.post("/logout", &[]).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/login")));
    assert_eq!(ada.cookie(), None);
    assert!(!is_in(&copy).await);
}

#[tokio::test]
async fn every_sign_in_begins_a_new_one_and_ends_the_one_before() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let before = ada.cookie();
    ada.sign_in("ada").await;
    assert_ne!(ada.cookie(), before);
    assert!(is_in(&ada).await);
    assert!(!is_in(&ada.with_cookie(before)).await);
}

#[tokio::test]
async fn a_cookie_planted_before_the_sign_in_opens_nothing() {
    let app = TestApp::start().await;
    let planted = app.plain().await.cookie();
    let victim = app.anonymous().with_cookie(planted.clone());
    victim.sign_in("ada").await;
    assert!(is_in(&victim).await);
    let attacker = app.anonymous().with_cookie(planted);
    assert_eq!(attacker.get("/").await.header("location"), Some("/login"));
}

#[tokio::test]
async fn cookies_of_nobody_are_strangers() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let cookie = ada.cookie().unwrap();
    let cut = cookie[..cookie.len() - 1].to_owned();
    let flipped = cookie.chars().rev().collect::<String>();
    let twice = format!("signalbox=x; {cookie}");
    let long = format!("signalbox={}", "a".repeat(5000));
    for bad in [cut, flipped, twice, long, "signalbox=".into(), "signalbox=%00".into(), "=;;=".into()] {
        let stranger = ada.with_cookie(Some(bad.clone()));
        assert_eq!(stranger.get("/").await.header("location"), Some("/login"), "{bad}");
    }
}

#[tokio::test]
async fn what_the_database_holds_opens_nothing() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let cookie = ada.cookie().unwrap();
    let (stored, lasts): (Vec<u8>, f64) = sqlx::query_as(
        "select token_hash, extract(epoch from expires_at - created_at)::float8 from sessions",
    )
    .fetch_one(app.sql())
    .await
    .unwrap();
    let hex = stored.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(!cookie.contains(&hex), "the table holds the token");
    assert_eq!(lasts, 12.0 * 3600.0);
}

#[tokio::test]
async fn twelve_hours_are_the_most_and_nothing_extends_them() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let expiry = async || {
        let at = sqlx::query_scalar::<_, time::OffsetDateTime>("select expires_at from sessions");
        at.fetch_one(app.sql()).await.unwrap()
    };
    let at = expiry().await;
    let answer = ada.get("/").await;
    assert_eq!((answer.status, answer.header("set-cookie")), (200, None));
    assert_eq!(expiry().await, at);
    execute(&app, "update sessions set expires_at = now() - interval '1 second'").await;
    assert!(!is_in(&ada).await);
}

#[tokio::test]
async fn shutting_somebody_out_bites_at_the_next_click() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    assert!(is_in(&ada).await);
    execute(&app, "update users set disabled_at = now() where name = 'ada'").await;
    assert_eq!(ada.get("/").await.header("location"), Some("/login"));
}

#[tokio::test]
async fn a_demotion_and_a_promotion_bite_at_the_next_click() {
    let app = TestApp::start().await;
    let (ada, pat) = (app.superuser().await, app.plain().await);
    assert_eq!(pat.get("/").await.status, 403);
    execute(&app, "update users set role = 'plain' where name = 'ada'").await;
    execute(&app, "update users set role = 'superuser' where name = 'pat'").await;
    assert_eq!(ada.get("/").await.status, 403);
    assert_eq!(pat.get("/").await.status, 200);
}

#[tokio::test]
async fn a_new_password_ends_every_session_and_the_old_one() {
    let app = TestApp::start().await;
    let (ada, elsewhere, pat) = (app.superuser().await, app.superuser().await, app.plain().await);
    let new = "a louder room, more levers";
    let form = |current, new, repeat| [("current", current), ("new", new), ("repeat", repeat)];
    for (form, told) in [
        (form("wrong", new, new), "is another one"),
        (form(PASSWORD, new, "something else entirely"), "differ"),
        (form(PASSWORD, "short", "short"), "at least 15 characters"),
    ] {
        let answer = ada.post("/account/password", &form).await;
        assert_eq!(answer.status, 422);
        assert!(answer.body.contains(told), "{told}: {}", answer.body);
    }
    assert!(is_in(&elsewhere).await);
    let answer = ada.post("/account/password", &form(PASSWORD, new, new)).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/login")));
    assert!(!is_in(&ada).await && !is_in(&elsewhere).await);
    assert_eq!(pat.get("/").await.status, 403, "somebody else's session ended");
    let sign_in = async |password| {
        app.anonymous().post("/login", &[("name", "ada"), ("password", password)]).await.status
    };
    assert_eq!((sign_in(PASSWORD).await, sign_in(new).await), (401, 303));
}

#[tokio::test]
async fn the_current_password_cannot_be_guessed_on_the_account_page_either() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let new = "a louder room, more levers";
    let guess = [("current", "wrong"), ("new", new), ("repeat", new)];
    for _ in 0..5 {
        assert_eq!(ada.post("/account/password", &guess).await.status, 422);
    }
    let answer = ada.post("/account/password", &guess).await;
    assert_eq!(answer.status, 429);
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test]
async fn signing_out_everywhere_ends_all_of_ones_own() {
    let app = TestApp::start().await;
    let (ada, elsewhere) = (app.superuser().await, app.superuser().await);
    assert_eq!(ada.post("/account/sessions", &[]).await.header("location"), Some("/login"));
    assert!(!is_in(&ada).await && !is_in(&elsewhere).await);
}

#[tokio::test]
async fn sessions_are_good_on_another_server_and_after_a_restart() {
    let app = TestApp::start().await;
    let other = TestApp::start_with(crate::app::Wants {
        database_url: Some(app.database_url.clone()),
        origin: Some("https://box.example"),
        ..Default::default()
    });
    let same_origin = TestApp::start_with(crate::app::Wants {
        database_url: Some(app.database_url.clone()),
        origin: Some("https://box.example"),
        ..Default::default()
    });
    let (other, same_origin) = (other.await, same_origin.await);
    let sign_in = Request::new("POST", "/login")
        .header("host", "box.example")
        .header("origin", "https://box.example")
        .form(&[("name", "ada"), ("password", PASSWORD)]);
    let ada = other.anonymous();
    assert_eq!(ada.send(sign_in).await.status, 303);
    let there = same_origin.anonymous().with_cookie(ada.cookie());
    assert_eq!(there.send(Request::new("GET", "/").header("host", "box.example")).await.status, 200);
}

#[tokio::test]
async fn while_postgres_is_stopped_pages_say_so_within_two_seconds() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    // Nobody gets past this lock, so the session can't be read.
    let mut lock = app.sql().begin().await.unwrap();
    sqlx::query("lock table sessions in access exclusive mode").execute(&mut *lock).await.unwrap();
    let began = Instant::now();
    let answer = ada.get("/").await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("The database doesn&#39;t answer."), "{}", answer.body);
    assert!(ada.cookie().is_some(), "the cookie is kept for better times");
    lock.rollback().await.unwrap();
    assert!(is_in(&ada).await);
}
