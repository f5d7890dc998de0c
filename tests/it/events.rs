//! A run's transcript as its page shows it.

use crate::app::TestApp;
use crate::sample::{self, RUNNING, attributes};

const TOOL: &str = r#"{"type":"assistant","message":{"content":[{"type":"text","text":"I'll **look**."},{"type":"tool_use","name":"Bash","input":{"command":"ls -l"}}]}}"#;
const ERROR: &str = r#"{"type":"user","message":{"content":[{"type":"tool_result","is_error":true,"content":"Exit code 2\nno such file\nat all"}]}}"#;
const EDIT: &str = r#"{"type":"assistant","message":{"content":[{"type":"tool_use","name":"Edit","input":{"file_path":"src/a.rs","old_string":"a\nb\n","new_string":"a\nlet <c> = 1;\n"}}]}}"#;
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
        // A kind that only a later version knows.
        ("stdout", "unheard-of", r#"{"type":"system","subtype":"odd"}"#),
        ("stdout", "tool_use", EDIT),
        ("stdout", "result", RESULT),
    ];
    sample::events(&app, run, &lines).await;
    let page = ada.get(&format!("/runs/{run}")).await;
    let is_event = |id: &&str| id.strip_prefix('e').is_some_and(|seq| seq.parse::<i64>().is_ok());
    let ids: Vec<&str> = attributes(&page, "id").into_iter().filter(is_event).collect();
    assert_eq!(ids, ["e1", "e2", "e3", "e4", "e5", "e6", "e7", "e8"]);
    for said in [
        "<pre tabindex=\"0\">Please look.</pre>",
        "<div class=\"lines err\">",
        "<div class=\"md\"><p>I'll <strong>look</strong>.</p>",
        "<b>Bash</b><span class=\"gist\">ls -l</span>",
        "<b>Error</b><span class=\"gist\">Exit code 2</span><span class=\"faint small\">3 lines</span>",
        "system odd",
        "<b>Edit</b><span class=\"gist\">src/a.rs</span><span class=\"faint small\">+1 −1</span>",
        "<span>  a</span><del>- b</del><ins>+ <b>let</b> &#60;c&#62; = <var>1</var>;</ins>",
        "Result: success",
        "All done.",
        "8 events",
    ] {
        assert!(page.body.contains(said), "{said} isn't in {}", page.body);
    }
    assert_eq!(page.body.matches("class=\"lines").count(), 2, "lines of one stream stand together");
}

#[tokio::test]
async fn a_transcript_opens_at_its_tail_and_goes_back_and_on() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    sample::lines(&app, run, 250).await;
    let at = format!("/runs/{run}");
    let tail = ada.get(&at).await;
    assert!(tail.body.contains("events 151 to 250 of 250") && tail.body.contains(">line 250<"));
    assert!(!tail.body.contains(">line 150<"));
    assert!(tail.body.contains("http-equiv=\"refresh\""));
    let older = ada.get(&format!("{at}?before=151")).await;
    assert!(older.body.contains("events 51 to 150 of 250") && older.body.contains("?before=51"));
    assert!(!older.body.contains("http-equiv=\"refresh\""), "who reads the past isn't pulled out of it");
    assert_eq!(sample::attribute(&older, "data-live"), format!("/live/runs/{run}?part=1"));
    let oldest = ada.get(&format!("{at}?before=51")).await;
    assert!(oldest.body.contains(">line 1<") && !oldest.body.contains("Older events"));
    assert!(oldest.body.contains("?after=50"));
    let newer = ada.get(&format!("{at}?after=100")).await;
    assert!(newer.body.contains("events 101 to 200 of 250") && newer.body.contains("?after=200"));
    let newest = ada.get(&format!("{at}?after=200")).await;
    assert!(newest.body.contains(">line 250<") && !newest.body.contains("Newer events"));
    let still = ada.get(&format!("{at}?still=1")).await;
    assert!(!still.body.contains("http-equiv=\"refresh\"") && !still.body.contains(" data-live="));
    for nowhere in ["before=x", "at=0", "before=3&after=3"] {
        assert_eq!(ada.get(&format!("{at}?{nowhere}")).await.status, 422, "{nowhere}");
    }
}

#[tokio::test]
async fn a_permalink_opens_with_its_event_in_the_middle_and_marked() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    sample::lines(&app, run, 250).await;
    let page = ada.get(&format!("/runs/{run}?at=120")).await;
    assert!(page.body.contains("events 90 to 189 of 250"), "{}", page.body);
    assert!(page.body.contains("<span id=\"e120\" class=\"marked\">line 120</span>"));
    assert_eq!(page.body.matches("class=\"marked\"").count(), 1);
    assert!(page.body.contains(&format!("href=\"/runs/{run}?at=90#e90\"")), "each time is a permalink");
    let time = page.body.split("class=\"at whole\"").nth(1).unwrap().split("</a>").next().unwrap();
    let day = time.split("datetime=\"").nth(1).unwrap().get(..10).unwrap();
    assert!(time.contains("?at=120#e120") && time.contains(&format!(">{day} ")), "its day in {time}");
    assert_eq!(page.body.matches("class=\"at whole\"").count(), 1, "no other says its day");
    let gone = ada.get(&format!("/runs/{run}?at=900")).await;
    assert_eq!((gone.status, gone.body.matches("class=\"marked\"").count()), (200, 0));
}

#[tokio::test]
async fn a_long_piece_is_clipped_and_is_whole_in_a_file() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    sample::events(&app, run, &[("stdout", "text", &"é".repeat(30_000)), ("stdout", "text", "next")]).await;
    sqlx::query("update events set cut = 12345 where seq = 1").execute(app.sql()).await.unwrap();
    let page = ada.get(&format!("/runs/{run}")).await;
    assert!(page.body.contains("28,000 more characters: show all"), "{}", page.body);
    assert!(page.body.contains(&format!("href=\"/runs/{run}/events/1\"")));
    assert!(page.body.contains("12,345 bytes were cut off"));
    let whole = ada.get(&format!("/runs/{run}/events/1")).await;
    assert_eq!(whole.body, "é".repeat(30_000));
    assert_eq!(whole.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(whole.header("content-disposition").unwrap().starts_with("attachment;"));
    assert_eq!(whole.header("x-content-type-options"), Some("nosniff"));
    for nowhere in ["/events/3", "/events/x", "/events/0"] {
        assert_eq!(ada.get(&format!("/runs/{run}{nowhere}")).await.status, 404, "{nowhere}");
    }
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
