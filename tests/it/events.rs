//! A run's transcript as its page shows it.

use crate::app::TestApp;
use crate::sample::{self, RUNNING, attributes};

const TOOL: &str = r#"{"type":"assistant","message":{"content":[{"type":"text","text":"I'll look."},{"type":"tool_use","name":"Bash","input":{"command":"ls -l"}}]}}"#;
const ERROR: &str = r#"{"type":"user","message":{"content":[{"type":"tool_result","is_error":true,"content":"Exit code 2\nno such file\nat all"}]}}"#;
const RESULT: &str = r#"{"type":"result","subtype":"success","is_error":false,"result":"All done."}"#;

#[tokio::test]
async fn a_transcript_reads_as_a_conversation() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, &[RUNNING, &[("prompt", "'Please look.'")]].concat()).await;
    let lines = [
        ("stderr", "text", "warning: one"),
        ("stderr", "text", "warning: two"),
        ("stdout", "text", "no record"),
        ("stdout", "tool_use", TOOL),
        ("stdout", "tool_result", ERROR),
        ("stdout", "other", r#"{"type":"system","subtype":"odd"}"#),
        ("stdout", "result", RESULT),
    ];
    sample::events(&app, run, &lines).await;
    let page = ada.get(&format!("/runs/{run}")).await;
    let ids: Vec<&str> = attributes(&page, "id").into_iter().filter(|id| id.starts_with('e')).collect();
    assert_eq!(ids, ["e1", "e2", "e3", "e4", "e5", "e6", "e7"]);
    for said in [
        "<pre>Please look.</pre>",
        "<div class=\"lines err\">",
        "<p class=\"say\">I&#39;ll look.</p>",
        "<b>Bash</b><span class=\"gist\">ls -l</span>",
        "<b>Error</b><span class=\"gist\">Exit code 2</span><span class=\"faint small\">3 lines</span>",
        "system odd",
        "Result: success",
        "All done.",
        "7 events",
    ] {
        assert!(page.body.contains(said), "{said} isn't in {}", page.body);
    }
    assert_eq!(page.body.matches("class=\"lines").count(), 2, "lines of one stream stand together");
}

#[tokio::test]
async fn a_transcript_opens_at_its_tail_and_goes_back() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    let fill = sqlx::query(
        "with lines as (insert into events (run_id, seq, at, source, kind, payload)
             select $1, n, now(), 'stdout', 'text', 'line ' || n from generate_series(1, 450) n)
         update runs set events = 450 where id = $1",
    );
    fill.bind(run).execute(app.sql()).await.unwrap();
    let at = format!("/runs/{run}");
    let tail = ada.get(&at).await;
    assert!(tail.body.contains("events 251 to 450 of 450") && tail.body.contains(">line 450<"));
    assert!(!tail.body.contains(">line 250<"));
    assert!(tail.body.contains("http-equiv=\"refresh\""));
    let older = ada.get(&format!("{at}?before=251")).await;
    assert!(older.body.contains("events 51 to 250 of 450") && older.body.contains("?before=51"));
    assert!(!older.body.contains("http-equiv=\"refresh\""), "who reads the past isn't pulled out of it");
    let oldest = ada.get(&format!("{at}?before=51")).await;
    assert!(oldest.body.contains(">line 1<") && !oldest.body.contains("← Older events"));
    assert!(!ada.get(&format!("{at}?still=1")).await.body.contains("http-equiv=\"refresh\""));
    assert_eq!(ada.get(&format!("{at}?before=x")).await.status, 422);
}

#[tokio::test]
async fn a_long_piece_is_clipped_and_is_whole_on_a_page_of_its_own() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    sample::events(&app, run, &[("stdout", "text", &"é".repeat(30_000)), ("stdout", "text", "next")]).await;
    sqlx::query("update events set cut = 12345 where seq = 1").execute(app.sql()).await.unwrap();
    let page = ada.get(&format!("/runs/{run}")).await;
    assert!(page.body.contains("18,000 more characters") && page.body.contains("?event=1"));
    assert!(page.body.contains("12,345 bytes were cut off"));
    let whole = ada.get(&format!("/runs/{run}?event=1")).await;
    assert!(whole.body.contains(&"é".repeat(30_000)) && !whole.body.contains(">next<"));
}

#[tokio::test]
async fn a_page_of_the_longest_lines_is_a_page_too() {
    let app = TestApp::start().await;
    let run = sample::run(&app, &[]).await;
    let long = "x".repeat(250_000);
    let lines: Vec<_> = (0..12).map(|_| ("stdout", "text", long.as_str())).collect();
    sample::events(&app, run, &lines).await;
    let (by, id) = (app.proof().await, signalbox::model::run::RunId(run));
    let mut end = None;
    let mut seen = Vec::new();
    loop {
        let tail = app.db.events_tail(&by, id, end, 200).await.unwrap();
        let Some(first) = tail.first() else { break };
        assert!(tail.len() <= 6, "{} long lines at once", tail.len());
        end = Some(first.seq);
        seen.extend(tail.iter().rev().map(|event| event.seq));
    }
    assert_eq!(seen, (1..=12).rev().collect::<Vec<_>>());
}
