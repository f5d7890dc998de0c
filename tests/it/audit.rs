//! The audit's page.

use crate::app::{Request, TestApp};
use crate::sample::{self, attributes, link};

#[tokio::test]
async fn the_audit_goes_back_and_forth() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    for _ in 0..120 {
        app.db.note_at_the_door("ada", "knocked", Some("192.0.2.7")).await.unwrap();
    }
    let mut page = ada.get("/audit").await;
    let mut seen = attributes(&page, "data-audit").join(" ");
    while let Some(next) = link(&page, "next") {
        page = ada.get(&next).await;
        seen = format!("{seen} {}", attributes(&page, "data-audit").join(" "));
    }
    let all: Vec<String> = (1..=121).rev().map(|id| id.to_string()).collect();
    assert_eq!(seen, all.join(" "));
    assert!(link(&page, "prev").is_some());
    assert!(page.body.contains("signed in") && page.body.contains("192.0.2.7"));
    assert_eq!(ada.get("/audit?before=x").await.status, 422);
}

#[tokio::test]
async fn who_is_refused_at_the_door_is_noted_once_a_minute() {
    let app = TestApp::start().await;
    let pat = app.plain().await;
    for path in ["/", "/audit", "/", "/workers"] {
        assert_eq!(pat.get(path).await.status, 403);
    }
    let noted: Vec<(String, bool)> =
        sqlx::query_as("select who, address is not null from audit where what = 'refused at the door'")
            .fetch_all(app.sql())
            .await
            .unwrap();
    // Two, when a minute has just begun.
    assert!((1..=2).contains(&noted.len()), "{noted:?}");
    assert!(noted.iter().all(|(who, from)| who == "pat" && *from), "{noted:?}");
}

#[tokio::test]
async fn the_audit_names_the_run() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let run = sample::run(&app, &[]).await;
    ada.post(&format!("/runs/{run}/terminate"), &[("reason", "enough")]).await;
    let page = ada.get("/audit").await;
    assert!(page.body.contains("stop wished") && page.body.contains("graceful: enough"));
    assert!(page.body.contains(&format!("<a href=\"/runs/{run}\">")));
}

/// What the audit says was refused, with whose word and why.
async fn refusals(app: &TestApp) -> Vec<(String, String, Option<i64>)> {
    let rows =
        "select what, detail, run_id from audit where what like '%refused' and who = 'ada' order by id";
    sqlx::query_as(rows).fetch_all(app.sql()).await.unwrap()
}

#[tokio::test]
async fn every_refused_click_has_its_row() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let run = sample::run(&app, &[]).await;
    let terminate = format!("/runs/{run}/terminate");
    let (long, many) = ("x".repeat(501), (1..=501).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
    let one = run.to_string();
    type Form<'a> = Vec<(&'a str, &'a str)>;
    let cases: [(&str, Form<'_>, u16, &str); 13] = [
        (&terminate, vec![("mode", "hard")], 422, "not by \"hard\"."),
        (&terminate, vec![("reason", &long)], 422, "The reason is 501 characters long; 500 is the most."),
        (&terminate, vec![("save", "no")], 422, "The work can be saved"),
        ("/stops", vec![("runs", &many)], 422, "501 runs are selected; 500 is the most."),
        ("/stops", vec![("runs", &one), ("mode", "hard")], 422, "not by \"hard\"."),
        ("/stops", vec![("runs", &one), ("reason", &long)], 422, "The reason is 501 characters long"),
        ("/stops", vec![("state", "failed"), ("upto", "1")], 422, "Runs like that are over already."),
        ("/stops", vec![("state", "running")], 422, "Up to which run?"),
        ("/handle", vec![("reason", &long)], 422, "The reason is 501 characters long"),
        ("/hold", vec![("reason", "a\0b")], 422, "The reason holds a NUL character"),
        ("/workers/nobody/drain", vec![], 404, "There is nothing here."),
        ("/workers/nobody/undrain", vec![], 404, "There is nothing here."),
        ("/found/4711", vec![], 404, "There is nothing here."),
    ];
    for (n, (path, form, status, why)) in cases.iter().enumerate() {
        assert_eq!(ada.post(path, form).await.status, *status, "{path} {why}");
        let all = refusals(&app).await;
        assert_eq!(all.len(), n + 1, "one row a click: {path} {why}");
        let (what, detail, of) = &all[n];
        let stops = *path == terminate || *path == "/stops";
        assert_eq!(what, if stops { "stop refused" } else { "refused" });
        assert!(detail.starts_with(&format!("POST {path}: ")) && detail.contains(why), "{detail}");
        assert_eq!(*of, (*path == terminate).then_some(run), "{path}");
    }
    assert!(ada.get("/audit").await.body.contains("501 runs are selected"));
    // What was done is no refusal, and neither is a page that is only looked at.
    assert_eq!(ada.post(&terminate, &[("mode", "force")]).await.status, 303);
    assert_eq!(ada.get("/stops/new?state=ended").await.status, 422);
    assert_eq!(refusals(&app).await.len(), cases.len());
}

#[tokio::test]
async fn a_refusal_that_is_noted_where_it_happens_has_one_row() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let noted = async || {
        let rows = "select what from audit where who = 'ada' and what <> 'signed in' order by id";
        sqlx::query_scalar::<_, String>(rows).fetch_all(app.sql()).await.unwrap()
    };
    assert_eq!(ada.post("/runs/4711/terminate", &[]).await.status, 404);
    assert_eq!(ada.post("/handle/gates", &[]).await.status, 422);
    assert_eq!(noted().await, ["stop refused", "gates not opened"]);
}

#[tokio::test]
async fn a_refusal_takes_little_room_and_a_strangers_none() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let long = "é".repeat(2_000);
    assert_eq!(ada.post("/runs/1/terminate", &[("mode", &long)]).await.status, 422);
    let path = format!("/workers/{}/drain", "x".repeat(4_000));
    assert_eq!(ada.post(&path, &[]).await.status, 404);
    let noted = refusals(&app).await;
    assert_eq!(noted.len(), 2);
    assert!(noted.iter().all(|(_, detail, _)| detail.chars().count() < 500), "{noted:?}");

    let rows = async || -> i64 {
        sqlx::query_scalar("select count(*) from audit").fetch_one(app.sql()).await.unwrap()
    };
    let before = rows().await;
    let nobody = app.anonymous();
    for path in ["/runs/1/terminate", "/stops", "/handle", "/workers/nobody/drain", "/found/4711"] {
        assert_eq!(nobody.post(path, &[("mode", "hard")]).await.status, 303, "to the door");
        let elsewhere = Request::new("POST", path).header("origin", "https://evil.example").form(&[]);
        assert_eq!(nobody.send(elsewhere).await.status, 303);
    }
    assert_eq!(rows().await, before);
}

#[tokio::test]
async fn a_form_from_elsewhere_is_noted_once_a_minute() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    for _ in 0..5 {
        let elsewhere = Request::new("POST", "/handle").header("origin", "https://evil.example").form(&[]);
        assert_eq!(ada.send(elsewhere).await.status, 403);
    }
    let noted = refusals(&app).await;
    // Two, when a minute has just begun.
    assert!((1..=2).contains(&noted.len()), "{noted:?}");
    assert!(noted.iter().all(|(what, ..)| what == "form from elsewhere refused"), "{noted:?}");
}
