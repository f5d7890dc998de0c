//! Bells: who has them, what they are told, how it is sealed and signed, and what becomes of what isn't taken.

use std::time::Duration;

use serde_json::Value;
use signalbox::bell::Reach;
use signalbox::model::bell::Happening;
use sqlx::Row;

use crate::app::{Browser, TestApp, Wants};
use crate::push_service::{Call, Device, PushService};
use crate::sample;

/// A secret as the standard writes it.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Waits, for at most ten seconds, until it is so.
async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let look = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), look).await.unwrap_or_else(|_| panic!("never: {what}"));
}

async fn number(app: &TestApp, query: &'static str) -> i64 {
    sqlx::query(query).fetch_one(app.sql()).await.unwrap().get(0)
}

/// A minute is over for every bell.
async fn a_minute_later(app: &TestApp) {
    app.sql_do("update bells set told_at = told_at - interval '61 s'").await;
}

/// What is due at some time is due now.
async fn time_for_the_next_try(app: &TestApp) {
    app.sql_do("update rings set due_at = now()").await;
}

/// The fields of a form that listens for all of it.
fn everything() -> Vec<(&'static str, &'static str)> {
    Happening::ALL.iter().map(|what| (what.word(), "yes")).collect()
}

async fn subscribe(browser: &Browser, device: &Device) -> u16 {
    let fields = device.fields();
    let mut fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    fields.extend(everything());
    browser.post("/account/bells/device", &fields).await.status
}

async fn renew(browser: &Browser, device: &Device) -> u16 {
    let fields = device.fields();
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    browser.post("/account/bells/device/renew", &fields).await.status
}

async fn put_up(browser: &Browser, kind: &str, url: &str, secret: &str) -> u16 {
    let fields = [&[("kind", kind), ("url", url), ("secret", secret)][..], &everything()].concat();
    browser.post("/account/bells", &fields).await.status
}

/// The next push to this device that isn't the daily try.
async fn told(service: &PushService, device: &Device) -> (Call, Value) {
    loop {
        let call = service.next().await;
        if !device.is_meant(&call) {
            continue;
        }
        let said = device.read(&call);
        if said["kind"] != "canary" {
            return (call, said);
        }
    }
}

#[tokio::test]
async fn a_device_is_told_of_a_failed_run_sealed_and_signed() {
    let (app, service) = (TestApp::start().await, PushService::start().await);
    let (ada, device) = (app.superuser().await, Device::new(&service, 1));
    assert_eq!(subscribe(&ada, &device).await, 200);
    let canary = service.next().await;
    assert_eq!(device.read(&canary)["kind"], "canary", "a new device is tried at once");
    sample::run(&app, &[&sample::ended("'failed'")[..4], &[("ended_at", "now()")]].concat()).await;
    let (call, said) = told(&service, &device).await;
    assert_eq!(said["text"], "1 run needs you");
    assert_eq!(call.header("content-encoding"), Some("aes128gcm"));
    assert!(call.header("ttl").is_some_and(|ttl| ttl.parse::<u32>().is_ok()));
    // The key that the page gives the browser is the one that the token is signed with.
    let page = ada.get("/account/bells").await;
    let key = sample::attribute(&page, "data-key");
    let claims = call.vapid_claims(key);
    assert_eq!(claims["aud"], service.origin());
    assert!(claims["exp"].as_i64().unwrap() - app_time(&app).await <= 24 * 3600);
    assert!(claims["sub"].as_str().unwrap().starts_with("mailto:"));
    until("it counts as taken", async || {
        number(&app, "select count(*) from rings where kind = 'told' and taken_at is not null").await == 1
    })
    .await;
}

async fn app_time(app: &TestApp) -> i64 {
    number(app, "select extract(epoch from now())::bigint").await
}

#[tokio::test]
async fn each_kind_of_happening_is_told_to_who_listens_for_it_and_to_nobody_else() {
    let (app, service) = (TestApp::start().await, PushService::start().await);
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    for what in Happening::ALL {
        let url = format!("{}/only-{what}", service.origin());
        let fields = [("kind", "webhook"), ("url", &url), ("secret", SECRET), (what.word(), "yes")];
        assert_eq!(ada.post("/account/bells", &fields).await.status, 303);
    }
    let fields = [("kind", "webhook"), ("url", &format!("{}/nothing", service.origin())), ("secret", SECRET)];
    assert_eq!(ada.post("/account/bells", &fields).await.status, 303);
    // What happened before isn't told; what happens from here on is.
    app.sql_do("update bells set listens_since = now() - interval '10 min'").await;
    sample::run(&app, &sample::ended("'failed'")).await;
    for outcome in ["'failed'", "'over_budget'", "'succeeded'"] {
        sample::run(&app, &[&sample::ended(outcome)[..4], &[("ended_at", "now()")]].concat()).await;
    }
    let unproven = [
        sample::RUNNING,
        &[("wish", "'stop'"), ("wish_mode", "'force'"), ("wish_by_name", "'ada'")],
        &[("wish_at", "now() - interval '61 s'")],
    ]
    .concat();
    sample::run(&app, &unproven).await;
    sample::run(&app, &[sample::RUNNING, &[("last_event_at", "now() - interval '2 h'")]].concat()).await;
    sample::run(&app, &[&sample::LOST[..3], &[("lease_until", "now() - interval '1 min'")]].concat()).await;
    sample::worker(&app, "arm-2", 40).await;
    app.sql_do(
        "insert into stops (kind, takes_queued, upto, mode, reason, by_id, by_name)
         select 'everything', true, 0, 'force', '', id, name from users where name = 'ada'",
    )
    .await;
    let mut said: Vec<(String, String)> = Vec::new();
    while said.len() < Happening::ALL.len() {
        let call = service.next().await;
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        said.push((call.path.clone(), body["data"]["text"].as_str().unwrap().to_owned()));
    }
    said.sort();
    let needs = "1 run needs you";
    let expected = [
        ("failed", needs),
        ("lost", needs),
        ("over_budget", needs),
        ("red_handle", "Everything was stopped"),
        ("stuck", needs),
        ("succeeded", "1 run is done"),
        ("unconfirmed", needs),
        ("worker_silent", "1 worker needs you"),
    ];
    let expected = expected.map(|(what, text)| (format!("/only-{what}"), text.to_owned()));
    assert_eq!(said, expected);
    assert_eq!(number(&app, "select count(*) from rings").await, 8, "each is told once");
}

#[tokio::test]
async fn a_bell_rings_once_a_minute_at_most_and_sums_up_what_happened_meanwhile() {
    let (app, service) = (TestApp::start().await, PushService::start().await);
    let (ada, device) = (app.superuser().await, Device::new(&service, 1));
    assert_eq!(subscribe(&ada, &device).await, 200);
    let fails = async || {
        sample::run(&app, &[&sample::ended("'failed'")[..4], &[("ended_at", "now()")]].concat()).await
    };
    fails().await;
    assert_eq!(told(&service, &device).await.1["text"], "1 run needs you");
    for _ in 0..3 {
        fails().await;
    }
    until("they are noted", async || number(&app, "select count(*) from happenings").await == 4).await;
    assert_eq!(
        number(&app, "select count(*) from rings where kind = 'told'").await,
        1,
        "the minute isn't over"
    );
    a_minute_later(&app).await;
    assert_eq!(told(&service, &device).await.1["text"], "3 runs need you");
    // One that came good in the meantime needs nobody.
    sample::worker(&app, "arm-1", 0).await;
    let quiet = [sample::RUNNING, &[("last_event_at", "now() - interval '2 h'")]].concat();
    let run = sample::run(&app, &quiet).await;
    until("it is stuck", async || number(&app, "select count(*) from happenings").await == 5).await;
    let came_good = "update runs set state = 'ended', outcome = 'succeeded', end_step = 'by_itself', confirmed_at = now(),
                            ended_at = now(), lease_until = null where id = $1";
    sqlx::query(came_good).bind(run).execute(app.sql()).await.unwrap();
    until("it did its work", async || number(&app, "select count(*) from happenings").await == 6).await;
    a_minute_later(&app).await;
    assert_eq!(told(&service, &device).await.1["text"], "1 run is done");
}

#[tokio::test]
async fn what_a_bell_was_told_is_lost_by_no_server_that_dies() {
    let (mut app, service) = (TestApp::start().await, PushService::start().await);
    let ada = app.superuser().await;
    let url = format!("{}/hook", service.origin());
    assert_eq!(put_up(&ada, "webhook", &url, SECRET).await, 303);
    // Nobody looks while it happens.
    app.stop_server();
    sample::run(&app, &[&sample::ended("'failed'")[..4], &[("ended_at", "now()")]].concat()).await;
    // Another server takes it up, and dies between sending and noting it.
    let wanted = app.db.listened_for().await.unwrap().unwrap();
    app.db.look_out(&wanted).await.unwrap();
    app.db.look_out(&wanted).await.unwrap();
    let due = app.db.due_rings().await.unwrap();
    assert_eq!((due.len(), due[0].tries), (1, 1));
    assert!(app.db.due_rings().await.unwrap().is_empty(), "another one leaves it alone meanwhile");
    time_for_the_next_try(&app).await;
    let again = app.db.due_rings().await.unwrap();
    assert_eq!((again[0].ring.id, again[0].tries), (due[0].ring.id, 2));
    app.db.ring_taken(due[0].ring.id).await.unwrap();
    time_for_the_next_try(&app).await;
    assert!(app.db.due_rings().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_end_that_is_written_late_is_told_all_the_same() {
    let mut app = TestApp::start().await;
    let ada = app.superuser().await;
    assert_eq!(put_up(&ada, "webhook", "https://hook.example/x", SECRET).await, 303);
    app.sql_do("update bells set listens_since = now() - interval '1 hour'").await;
    app.stop_server();
    let wanted = app.db.listened_for().await.unwrap().unwrap();
    app.db.look_out(&wanted).await.unwrap();
    // Written by a statement that began half a minute before that look.
    let late = [&sample::ended("'failed'")[..4], &[("ended_at", "now() - interval '30 s'")]].concat();
    sample::run(&app, &late).await;
    // One that was over long before had been told, or will never be.
    let old = [&sample::ended("'failed'")[..4], &[("ended_at", "now() - interval '10 min'")]].concat();
    sample::run(&app, &old).await;
    app.db.look_out(&wanted).await.unwrap();
    app.db.look_out(&wanted).await.unwrap();
    assert_eq!(number(&app, "select count(*) from happenings").await, 1);
}

#[tokio::test]
async fn one_looks_out_at_a_time() {
    let mut app = TestApp::start().await;
    let ada = app.superuser().await;
    assert_eq!(put_up(&ada, "webhook", "https://hook.example/x", SECRET).await, 303);
    app.stop_server();
    sample::run(&app, &[&sample::ended("'failed'")[..4], &[("ended_at", "now()")]].concat()).await;
    let mut other = app.sql().begin().await.unwrap();
    sqlx::query("select from lookout for update").execute(&mut *other).await.unwrap();
    let wanted = app.db.listened_for().await.unwrap().unwrap();
    app.db.look_out(&wanted).await.unwrap();
    assert_eq!(number(&app, "select count(*) from rings").await, 0);
    other.rollback().await.unwrap();
    app.db.look_out(&wanted).await.unwrap();
    assert_eq!(number(&app, "select count(*) from rings").await, 1);
}

#[tokio::test]
async fn a_webhook_is_signed_and_ntfy_and_slack_get_what_they_read() {
    let (app, service) = (TestApp::start().await, PushService::start().await);
    let ada = app.superuser().await;
    let at = |path: &str| format!("{}/{path}", service.origin());
    assert_eq!(put_up(&ada, "webhook", &at("hook"), SECRET).await, 303);
    assert_eq!(put_up(&ada, "ntfy", &at("topic"), "tk_token").await, 303);
    assert_eq!(put_up(&ada, "slack", &at("services/T/B/x"), "").await, 303);
    sample::run(&app, &[&sample::ended("'failed'")[..4], &[("ended_at", "now()")]].concat()).await;
    let mut calls = [service.next().await, service.next().await, service.next().await];
    calls.sort_by(|one, other| one.path.cmp(&other.path));
    let [hook, slack, ntfy] = &calls;

    assert!(hook.is_signed_with(SECRET), "{hook:?}");
    assert!(!hook.is_signed_with("another secret of theirs"));
    assert!(
        (hook.header("webhook-timestamp").unwrap().parse::<i64>().unwrap() - app_time(&app).await).abs() < 60
    );
    let body: Value = serde_json::from_slice(&hook.body).unwrap();
    assert_eq!((&body["type"], &body["data"]["needs"]), (&"signalbox.told".into(), &1.into()));

    assert_eq!(ntfy.body, b"1 run needs you");
    assert_eq!(
        (ntfy.header("title"), ntfy.header("authorization")),
        (Some("Signalbox"), Some("Bearer tk_token"))
    );

    let body: Value = serde_json::from_slice(&slack.body).unwrap();
    assert_eq!(body["text"], format!("<http://{}/|Signalbox>: 1 run needs you", app.address));
    assert_eq!(slack.header("authorization"), None);

    // Neither addresses nor secrets are ever shown again.
    for path in ["/account/bells", "/account/bells/rings", "/audit"] {
        let page = ada.get(path).await.body;
        for secret in [SECRET, "tk_token", "services/T/B", "/topic", "/hook"] {
            assert!(!page.contains(secret), "{path} shows {secret}");
        }
    }
}

#[tokio::test]
async fn what_isnt_taken_is_tried_five_times_within_an_hour_and_given_up() {
    let (app, service) = (TestApp::start().await, PushService::start().await);
    let ada = app.superuser().await;
    assert_eq!(put_up(&ada, "webhook", &format!("{}/hook", service.origin()), SECRET).await, 303);
    service.answers(500);
    sample::run(&app, &[&sample::ended("'failed'")[..4], &[("ended_at", "now()")]].concat()).await;
    let first = service.next().await;
    for (tries, pause) in [(1, 60), (2, 300), (3, 900), (4, 2340)] {
        until("its failure is noted", async || {
            let noted = "select coalesce(max(tries), 0) from rings where trouble is not null and due_at > now() + interval '35 s'";
            number(&app, noted).await == tries
        })
        .await;
        let left = number(&app, "select extract(epoch from due_at - now())::bigint from rings").await;
        assert!((pause - 10..=pause).contains(&left), "after {tries}: {left} s");
        let page = ada.get("/account/bells/rings").await.body;
        assert!(page.contains("again at") && page.contains("It answered 500."), "{page}");
        time_for_the_next_try(&app).await;
        let again = service.next().await;
        assert_eq!(again.header("webhook-id"), first.header("webhook-id"), "the receiver knows it again");
    }
    until("it is given up", async || {
        number(&app, "select count(*) from rings where given_up_at is not null").await == 1
    })
    .await;
    let page = ada.get("/account/bells/rings").await.body;
    assert!(page.contains("given up after 5 tries. It answered 500."), "{page}");
    assert!(ada.get("/account/bells").await.body.contains("Not reached"));
    // And one that is taken at the second try is over.
    service.answers(200);
    a_minute_later(&app).await;
    sample::run(&app, &[&sample::ended("'failed'")[..4], &[("ended_at", "now()")]].concat()).await;
    service.next().await;
    until("it is taken", async || {
        number(&app, "select count(*) from rings where taken_at is not null").await == 1
    })
    .await;
    assert!(ada.get("/account/bells").await.body.contains("Reached"));
}

#[tokio::test]
async fn a_receiver_that_never_answers_holds_up_nobody_else() {
    let (app, service) = (TestApp::start().await, PushService::start().await);
    let (_listener, hung) = crate::app::hung_server();
    let ada = app.superuser().await;
    assert_eq!(put_up(&ada, "webhook", &format!("http://127.0.0.1:{hung}/"), SECRET).await, 303);
    assert_eq!(put_up(&ada, "webhook", &format!("{}/hook", service.origin()), SECRET).await, 303);
    sample::run(&app, &[&sample::ended("'failed'")[..4], &[("ended_at", "now()")]].concat()).await;
    assert_eq!(service.next().await.path, "/hook");
    let noted = async || {
        number(&app, "select count(*) from rings where trouble = 'No answer within 10 s.'").await == 1
    };
    let soon = tokio::time::timeout(Duration::from_secs(15), async {
        while !noted().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    soon.await.expect("it is given up after its deadline");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (app, service) = (TestApp::start().await, PushService::start().await);
    let ada = app.superuser().await;
    assert_eq!(put_up(&ada, "slack", &format!("{}/hook", service.origin()), "").await, 303);
    service.answers(307);
    sample::run(&app, &[&sample::ended("'failed'")[..4], &[("ended_at", "now()")]].concat()).await;
    assert_eq!(service.next().await.path, "/hook");
    until("it counts as not taken", async || {
        number(&app, "select count(*) from rings where trouble = 'It answered 307.'").await == 1
    })
    .await;
}

#[tokio::test]
async fn who_is_no_superuser_any_more_has_no_bell_and_hears_nothing() {
    let (app, service) = (TestApp::start().await, PushService::start().await);
    app.add_user("eve", "superuser", crate::app::CHEAP_HASH).await;
    app.add_user("dan", "superuser", crate::app::CHEAP_HASH).await;
    let (eve, dan, ada) = (app.signed_in("eve").await, app.signed_in("dan").await, app.superuser().await);
    let [eves, dans, adas] = [1, 2, 3].map(|n| Device::new(&service, n));
    for (browser, device) in [(&eve, &eves), (&dan, &dans), (&ada, &adas)] {
        assert_eq!(subscribe(browser, device).await, 200);
    }
    let name = |name: &str| signalbox::model::user::UserName::parse(name).unwrap();
    app.db.set_role(&name("eve"), signalbox::model::user::Role::Plain).await.unwrap();
    app.db.disable_user(&name("dan")).await.unwrap();
    assert_eq!(number(&app, "select count(*) from bells").await, 1);
    sample::run(&app, &[&sample::ended("'failed'")[..4], &[("ended_at", "now()")]].concat()).await;
    assert_eq!(told(&service, &adas).await.1["text"], "1 run needs you");
    assert_eq!(number(&app, "select count(*) from rings where kind = 'told'").await, 1);
    assert_eq!(subscribe(&eve, &eves).await, 403);
    // Promoted again, she has none until she makes one.
    app.db.set_role(&name("eve"), signalbox::model::user::Role::Superuser).await.unwrap();
    assert_eq!(number(&app, "select count(*) from bells").await, 1);
    assert_eq!(renew(&eve, &eves).await, 404);
}

#[tokio::test]
async fn a_device_that_the_push_service_drops_is_rung_no_more_until_it_comes_by() {
    let (app, service) = (TestApp::start().await, PushService::start().await);
    let (ada, device) = (app.superuser().await, Device::new(&service, 1));
    service.answers(410);
    assert_eq!(subscribe(&ada, &device).await, 200);
    service.next().await;
    until("it is dropped", async || {
        number(&app, "select count(*) from bells where url is null and auth is null").await == 1
    })
    .await;
    let page = ada.get("/account/bells").await.body;
    assert!(page.contains("Dropped") && page.contains("Open Signalbox on it"), "{page}");
    // It comes by with another subscription, and is the same bell again.
    service.answers(201);
    assert_eq!(renew(&ada, &Device::new(&service, 1)).await, 200);
    assert_eq!(renew(&ada, &Device::new(&service, 1)).await, 200, "as often as it likes");
    assert_eq!(
        number(&app, "select count(*) from bells where url is not null and dropped_at is null").await,
        1
    );
    // One that was taken down stays so.
    let id = number(&app, "select id from bells").await;
    assert_eq!(ada.post(&format!("/account/bells/{id}/remove"), &[]).await.status, 303);
    assert_eq!(renew(&ada, &Device::new(&service, 1)).await, 404);
    assert_eq!(number(&app, "select count(*) from bells").await, 0);
}

#[tokio::test]
async fn a_device_has_one_owner() {
    let (app, service) = (TestApp::start().await, PushService::start().await);
    app.add_user("eve", "superuser", crate::app::CHEAP_HASH).await;
    let (ada, eve, device) = (app.superuser().await, app.signed_in("eve").await, Device::new(&service, 1));
    assert_eq!(subscribe(&ada, &device).await, 200);
    assert_eq!(renew(&eve, &device).await, 404, "nobody takes it by coming by");
    assert_eq!(subscribe(&eve, &device).await, 200);
    let owner = "select count(*) from bells b join users u on u.id = b.user_id where u.name = 'eve'";
    assert_eq!(number(&app, owner).await, 1);
    assert_eq!(number(&app, "select count(*) from bells").await, 1);
    // And nobody touches another one's bells.
    let id = number(&app, "select id from bells").await;
    for path in ["", "/test", "/remove"] {
        let answer = ada.post(&format!("/account/bells/{id}{path}"), &[("name", "mine")]).await;
        assert_eq!(answer.status, 404, "{path}");
    }
    assert!(ada.get("/account/bells").await.body.contains("You have no bell."));
}

#[tokio::test]
async fn the_daily_try_shows_when_it_last_arrived() {
    let (app, service) = (TestApp::start().await, PushService::start().await);
    app.add_user("eve", "superuser", crate::app::CHEAP_HASH).await;
    let (ada, eve, device) = (app.superuser().await, app.signed_in("eve").await, Device::new(&service, 1));
    assert_eq!(subscribe(&ada, &device).await, 200);
    let said = device.read(&service.next().await);
    let ring = said["ring"].to_string();
    let arrived = said["arrived"].as_str().unwrap().to_owned();
    assert!(ada.get("/account/bells").await.body.contains("has never arrived"));
    assert_eq!(app.anonymous().post(&arrived, &[("ring", &ring)]).await.status, 303, "to the door");
    assert_eq!(eve.post(&arrived, &[("ring", &ring)]).await.status, 404);
    assert!(ada.get("/account/bells").await.body.contains("has never arrived"));
    app.sql_do("update bells set canary_at = canary_at - interval '2 h'").await;
    assert!(ada.get("/account/bells").await.body.contains("Not heard of"));
    assert_eq!(ada.post(&arrived, &[("ring", &ring)]).await.status, 200);
    let page = ada.get("/account/bells").await.body;
    assert!(page.contains("arrived <time") && page.contains("Reached"), "{page}");
    // A day later it is tried again.
    app.sql_do("update bells set canary_at = now() - interval '25 h'").await;
    assert_eq!(device.read(&service.next().await)["kind"], "canary");
    assert_eq!(number(&app, "select count(*) from rings where kind = 'canary'").await, 2);
}

#[tokio::test]
async fn a_bell_is_tested_changed_and_taken_down_and_the_audit_says_so() {
    let (app, service) = (TestApp::start().await, PushService::start().await);
    let ada = app.superuser().await;
    assert_eq!(put_up(&ada, "slack", &format!("{}/x", service.origin()), "").await, 303);
    let path = format!("/account/bells/{}", number(&app, "select id from bells").await);
    assert_eq!(ada.post(&format!("{path}/test"), &[]).await.status, 303);
    assert!(String::from_utf8_lossy(&service.next().await.body).contains("This is a test."));
    assert_eq!(ada.post(&path, &[("name", "The team"), ("lost", "yes")]).await.status, 303);
    let page = ada.get("/account/bells").await.body;
    assert!(page.contains("The team") && page.contains("Rings for 1 of 8"), "{page}");
    assert_eq!(ada.post(&path, &[("name", "")]).await.status, 422);
    assert_eq!(ada.post(&path, &[("name", &"x".repeat(61))]).await.status, 422);
    assert_eq!(ada.post(&format!("{path}/remove"), &[]).await.status, 303);
    let audit = ada.get("/audit").await.body;
    for what in ["bell put up", "bell changed", "bell taken down"] {
        assert!(audit.contains(what), "{what}");
    }
    assert!(
        ada.get("/account/bells/rings").await.body.contains("This is a test."),
        "the log outlives the bell"
    );
}

#[tokio::test]
async fn a_bell_leads_out_or_isnt_put_up() {
    let wants = Wants { origin: Some("https://box.example"), reach: Some(Reach::Public), ..Wants::default() };
    let app = TestApp::start_with(wants).await;
    let service = PushService::start().await;
    // Pages of this origin want its name and a cookie over https; the rules are the same behind them.
    let by = app.proof().await;
    let ringer = signalbox::bell::Ringer::new("https://box.example", Reach::Public, None);
    assert!(ringer.reach().address(&format!("{}/x", service.origin())).is_err());
    let url = format!("{}/x", service.origin()).into();
    let new = signalbox::db::NewBell {
        kind: signalbox::model::bell::BellKind::Slack,
        name: "inside",
        url: &url,
        secret: None,
        listens: &[Happening::Failed],
    };
    // Even one that got into the table isn't called.
    app.db.add_bell(&by, &new, None).await.unwrap();
    sample::run(&app, &[&sample::ended("'failed'")[..4], &[("ended_at", "now()")]].concat()).await;
    until("it is refused", async || {
        number(&app, "select count(*) from rings where trouble = 'The address must begin with https://.'")
            .await
            == 1
    })
    .await;
    assert_eq!(service.calls(), 0);
}

#[tokio::test]
async fn nonsense_is_said_on_the_page_and_changes_nothing() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    for (kind, url, secret, said) in [
        ("webhook", "https://hook.example/x", "short", "The secret needs 16 to 400 characters."),
        ("webhook", "http://hook.example/x", SECRET, "must begin with https://"),
        ("webhook", "nonsense", SECRET, "no address of a web server"),
        ("device", "https://hook.example/x", SECRET, "from the device itself"),
        ("pigeon", "https://hook.example/x", SECRET, "Choose what kind"),
        ("ntfy", "https://a:b@ntfy.sh/x", "", "no name and no password"),
    ] {
        let answer = ada.post("/account/bells", &[("kind", kind), ("url", url), ("secret", secret)]).await;
        assert_eq!(answer.status, 422, "{said}");
        assert!(answer.body.contains(said) && !answer.body.contains(SECRET), "{said}: {}", answer.body);
    }
    let device =
        [("device", "12345678"), ("url", "https://push.example/x"), ("p256dh", "AAAA"), ("auth", "AAAA")];
    assert_eq!(ada.post("/account/bells/device", &device).await.status, 422);
    assert_eq!(number(&app, "select count(*) from bells").await, 0);
    for n in 0..20 {
        assert_eq!(put_up(&ada, "slack", &format!("https://hook.example/{n}"), "").await, 303);
    }
    let answer = ada.post("/account/bells", &[("kind", "slack"), ("url", "https://hook.example/x")]).await;
    assert!(answer.status == 422 && answer.body.contains("You have 20 bells"), "{}", answer.body);
}

#[tokio::test]
async fn nothing_is_done_where_nobody_has_a_bell() {
    let mut app = TestApp::start().await;
    assert_eq!(app.db.listened_for().await.unwrap(), None);
    sample::run(&app, &[&sample::ended("'failed'")[..4], &[("ended_at", "now()")]].concat()).await;
    app.stop_server();
    let notes = "select (select count(*) from happenings) + (select count(*) from rings) + (select count(*) from push_key)";
    assert_eq!(number(&app, notes).await, 0);
}

#[tokio::test]
async fn a_worker_reads_no_bell() {
    let app = TestApp::start().await;
    for table in ["bells", "rings", "happenings", "push_key", "lookout"] {
        let may = "select has_table_privilege('signalbox_worker', $1, 'select')";
        let may: bool = sqlx::query_scalar(may).bind(table).fetch_one(app.sql()).await.unwrap();
        assert!(!may, "{table}");
    }
}
