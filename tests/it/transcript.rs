//! What can be done with a transcript: looking for something in it, jumping, taking it away; runs again; how it grew.

use std::time::{Duration, Instant};

use serde_json::Value;
use signalbox::db::Way;
use signalbox::model::metered::{Metered, Tokens};
use signalbox::model::run::RunId;
use signalbox::model::seek::{Sought, What};
use signalbox::queue::Notice;

use crate::app::{Answer, TestApp};
use crate::fleet::Fleet;
use crate::live::{end, says, watch};
use crate::sample::{self, RUNNING, attributes, ended};
use crate::scripted::Script;

const CALL: &str = r#"{"type":"assistant","message":{"content":[{"type":"tool_use","name":"Bash","input":{"command":"make \"it\""}}]}}"#;
const FINE: &str =
    r#"{"type":"user","message":{"content":[{"type":"tool_result","content":"fine, is_error: none"}]}}"#;
const BAD: &str = r#"{"type":"user","message":{"content":[{"type":"tool_result","is_error":true,"content":"No such Needle"}]}}"#;
const RESULT: &str = r#"{"type":"result","subtype":"success","is_error":false,"result":"All done."}"#;

async fn run_with(app: &TestApp, lines: &[(&str, &str, &str)]) -> i64 {
    sample::worker(app, "arm-1", 0).await;
    let run = sample::run(app, RUNNING).await;
    sample::events(app, run, lines).await;
    run
}

const TALK: [(&str, &str, &str); 7] = [
    ("stdout", "tool_use", CALL),
    ("stdout", "tool_result", FINE),
    ("stdout", "tool_use", CALL),
    ("stdout", "tool_result", BAD),
    ("stderr", "text", "a needle in standard error"),
    ("stdout", "tool_result", BAD),
    ("stdout", "result", RESULT),
];

/// The events that a page of what was found leads to.
fn found(page: &Answer) -> Vec<&str> {
    let links = attributes(page, "href");
    links.into_iter().filter_map(|href| href.split_once("?at=")?.1.split('#').next()).collect()
}

#[tokio::test]
async fn words_are_found_in_a_run_newest_first_whatever_their_letters() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let run = run_with(&app, &TALK).await;
    let find = async |query: &str| ada.get(&format!("/runs/{run}/find?{query}")).await;
    let page = find("q=nEEdle").await;
    assert_eq!(found(&page), ["6", "5", "4"]);
    assert!(page.body.contains("No such <mark>Needle</mark>"), "{}", page.body);
    assert!(page.body.contains("3 found in events 1 to 7 of 7."));
    assert_eq!(found(&find("q=needle&what=errors").await), ["6", "4"]);
    assert_eq!(found(&find("q=make+%22it%22").await), ["3", "1"], "as it is read, not as it is stored");
    assert!(found(&find("q=tool_use_id").await).is_empty());
    assert!(found(&find("q=message").await).is_empty(), "how a record is written isn't what is read");
    assert_eq!(found(&find("q=%25").await), Vec::<&str>::new(), "a pattern is no word");
    assert_eq!(found(&find("what=calls").await), ["3", "1"]);
    assert_eq!(found(&find("q=needle&from=6").await), ["5", "4"]);
    for wrong in ["what=x", "to=x", "from=x", &format!("q={}", "x".repeat(201))] {
        assert_eq!(find(wrong).await.status, 422, "{wrong}");
    }
}

#[tokio::test]
async fn one_tap_leads_to_the_first_error_to_a_call_and_to_the_result() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let run = run_with(&app, &TALK).await;
    let page = ada.get(&format!("/runs/{run}")).await;
    for (query, seq) in [
        ("what=errors&to=next", 4),
        ("what=calls&to=last", 3),
        ("what=result&to=last", 7),
        ("what=calls&to=next&from=1", 3),
        ("what=errors&to=next&from=4", 6),
    ] {
        let path = format!("/runs/{run}/find?{query}");
        assert!(query.contains("from") || page.body.contains(&path.replace('&', "&amp;")), "{path}");
        let answer = ada.get(&path).await;
        assert_eq!(
            answer.header("location"),
            Some(format!("/runs/{run}?at={seq}#e{seq}").as_str()),
            "{query}"
        );
    }
    let none = ada.get(&format!("/runs/{run}/find?what=calls&to=next&from=3")).await;
    assert!(
        none.status == 200 && none.body.contains("Nothing found in events 4 to 7 of 7."),
        "{}",
        none.body
    );
}

#[tokio::test]
async fn looking_goes_a_bounded_way_at_a_time_and_on_from_there() {
    let app = TestApp::start().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    sample::lines(&app, run, 25_000).await;
    sqlx::query("update events set payload = 'a needle' where seq in (3, 20001)")
        .execute(app.sql())
        .await
        .unwrap();
    let (by, id) = (app.proof().await, RunId(run));
    let sought = Sought { what: What::Anything, words: "needle".to_owned() };
    let mut way = Way::Back(i64::MAX);
    let (mut seen, mut looks) = (Vec::new(), Vec::new());
    while let looked = app.db.look_for(&by, id, &sought, way, i64::MAX).await.unwrap()
        && let Some(upto) = looked.upto
    {
        seen.extend(looked.candidates.iter().map(|event| event.seq));
        looks.push(upto);
        way = Way::Back(upto);
    }
    assert_eq!((seen, looks), (vec![20_001, 3], vec![15_001, 5_001, 1]));
    let on = app.db.look_for(&by, id, &sought, Way::On(3), i64::MAX).await.unwrap();
    assert_eq!((on.upto, on.candidates.len()), (Some(10_003), 0));

    let few = app.db.look_for(&by, id, &sought, Way::On(3), 300).await.unwrap();
    assert_eq!((few.upto, few.candidates.len()), (Some(303), 0));

    // Lines of a quarter of a megabyte: by their bytes, not by their number.
    sqlx::query("update events set payload = repeat('x', 250000) where seq > 24900")
        .execute(app.sql())
        .await
        .unwrap();
    let back = app.db.look_for(&by, id, &sought, Way::Back(i64::MAX), i64::MAX).await.unwrap();
    assert!((24_960..=24_970).contains(&back.upto.unwrap()), "{:?}", back.upto);

    // Where all of them may fit, none is left out between two looks.
    let lines = Sought { what: What::Anything, words: "line".to_owned() };
    let first = app.db.look_for(&by, id, &lines, Way::On(3), i64::MAX).await.unwrap();
    let second = app.db.look_for(&by, id, &lines, Way::On(first.upto.unwrap()), i64::MAX).await.unwrap();
    assert_eq!(first.candidates.last().unwrap().seq + 1, second.candidates[0].seq);
}

#[tokio::test]
async fn a_list_of_what_was_found_goes_on_where_it_ended() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    sample::lines(&app, run, 120).await;
    let mut path = format!("/runs/{run}/find?q=line");
    let mut all = Vec::new();
    loop {
        let page = ada.get(&path).await;
        let some: Vec<i64> = found(&page).iter().map(|seq| seq.parse().unwrap()).collect();
        assert!(some.len() <= 50);
        all.extend(some);
        let on = attributes(&page, "href").into_iter().find(|href| href.contains("&#38;from="));
        let Some(on) = on else { break };
        path = on.replace("&#38;", "&");
    }
    assert_eq!(all, (1..=120).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn the_page_costs_the_same_at_the_tail_of_a_long_transcript_as_of_a_short_one() {
    let app = TestApp::start().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    sample::lines(&app, run, 200_000).await;
    app.sql_do("analyze events").await;
    for (edge, order) in
        [("seq < 9223372036854775807", "desc"), ("seq < 100001", "desc"), ("seq > 100000", "asc")]
    {
        let explain = format!(
            "explain (analyze, buffers, costs off, timing off, format json)
             select * from (select *, sum(octet_length(payload)) over (order by seq {order}) as sum
                            from events where run_id = {run} and {edge} order by seq {order} limit 100) tail"
        );
        let plan: Value =
            sqlx::query_scalar(sqlx::AssertSqlSafe(explain)).fetch_one(app.sql()).await.unwrap();
        let top = &plan[0]["Plan"];
        let read = top["Shared Hit Blocks"].as_i64().unwrap() + top["Shared Read Blocks"].as_i64().unwrap();
        assert!(read < 40, "{read} blocks for {edge}: {plan:#}");
    }
}

#[tokio::test]
async fn a_page_of_the_worst_is_small_and_quick() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    let block = |text: &str| {
        let text = serde_json::to_string(text).unwrap();
        format!(r#"{{"type":"assistant","message":{{"content":[{{"type":"text","text":{text}}}]}}}}"#)
    };
    let edit = format!(
        r#"{{"type":"assistant","message":{{"content":[{{"type":"tool_use","name":"Edit","input":{{"file_path":"a","old_string":"{}","new_string":"{}"}}}}]}}}}"#,
        "a\\nb\\n".repeat(5000),
        "b\\nc\\n".repeat(5000)
    );
    let many = format!(
        r#"{{"type":"assistant","message":{{"content":[{}]}}}}"#,
        vec![r#"{"type":"tool_use","name":"x","input":{"a":"b\nc"}}"#; 3000].join(",")
    );
    let lines: Vec<String> = [
        ">".repeat(30_000),
        "*a ".repeat(10_000),
        "|a".repeat(8000) + "\n" + &"|-".repeat(8000),
        "[a](b".repeat(5000),
    ]
    .iter()
    .map(|text| block(text))
    .chain([edit, many, "\u{202e}".repeat(30_000)])
    .collect();
    let all: Vec<(&str, &str, &str)> = (0..35)
        .map(|n| lines[n % lines.len()].as_str())
        .map(|line| ("stdout", if line.starts_with('{') { "tool_use" } else { "text" }, line))
        .collect();
    sample::events(&app, run, &all).await;
    let began = Instant::now();
    let page = ada.get(&format!("/runs/{run}")).await;
    assert_eq!(page.status, 200);
    // Without optimisation, on a machine that does much else: some tens of milliseconds otherwise.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(page.body.len() < 700_000, "{}", page.body.len());
}

#[tokio::test]
async fn what_has_very_many_lines_shows_few_of_them_and_is_whole_in_a_file() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    let block = |text: &str| {
        let text = serde_json::to_string(text).unwrap();
        format!(r#"{{"type":"assistant","message":{{"content":[{{"type":"text","text":{text}}}]}}}}"#)
    };
    // A bar that goes back to the beginning of its line; nothing but empty lines; very many of them before a word.
    let (bar, list) = ("10 %\r".repeat(20_000), block(&"- a\n".repeat(20_000)));
    let (empty, word) = (block(&"\n".repeat(20_000)), block(&("\n".repeat(20_000) + "word")));
    let lines: Vec<(&str, &str, &str)> = (0..40)
        .map(|n| match n % 4 {
            0 => ("stdout", "text", bar.as_str()),
            1 => ("stdout", "assistant", list.as_str()),
            2 => ("stdout", "assistant", empty.as_str()),
            _ => ("stdout", "assistant", word.as_str()),
        })
        .chain([("stdout", "assistant", list.as_str()), ("stdout", "text", bar.as_str())])
        .collect();
    sample::events(&app, run, &lines).await;
    let page = ada.get(&format!("/runs/{run}")).await.body;
    let talk = page.split("id=\"talk\"").nth(1).unwrap();
    assert!(talk.contains("… 19,988 more lines: show all") && talk.contains("… 19,760 more lines: show all"));
    let standing = talk.matches('\n').count() + talk.matches("<br>").count();
    assert!(standing < 4_000, "{standing} lines stand on the page");
    let whole = ada.get(&format!("/runs/{run}/events/42")).await.body;
    assert_eq!(whole.lines().count(), 20_000);
}

#[tokio::test]
async fn a_transcript_is_taken_away_whole_line_by_line() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let run = run_with(&app, &TALK).await;
    let fill = "with lines as (insert into events (run_id, seq, at, source, kind, payload)
                    select $1, n, now(), 'stdout', 'text', 'line ' || n from generate_series(8, 1700) n)
                update runs set events = 1700 where id = $1";
    sqlx::query(fill).bind(run).execute(app.sql()).await.unwrap();
    let answer = ada.get(&format!("/runs/{run}/transcript.jsonl")).await;
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(
        answer.header("content-disposition"),
        Some(format!("attachment; filename=\"run-{run}.jsonl\"").as_str())
    );
    let lines: Vec<Value> = answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seqs: Vec<i64> = lines.iter().map(|line| line["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, (1..=1700).collect::<Vec<_>>());
    assert_eq!(lines[0]["record"], serde_json::from_str::<Value>(CALL).unwrap());
    assert_eq!(
        (lines[4]["line"].as_str(), lines[4]["source"].as_str()),
        (Some("a needle in standard error"), Some("stderr"))
    );
    assert_eq!(ada.get("/runs/999/transcript.jsonl").await.status, 404);
}

#[tokio::test]
async fn a_run_again_is_a_new_run_and_each_names_the_other() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let prompt = [("title", "'The title'"), ("prompt", "E'Do it.\n\nTwice <b>.'")];
    let run = sample::run(&app, &[&ended("'failed'")[..], &prompt].concat()).await;
    let page = ada.get(&format!("/runs/{run}")).await;
    assert!(page.body.contains(&format!("href=\"/runs/{run}/again\"")));
    let asked = ada.get(&format!("/runs/{run}/again")).await;
    assert!(asked.body.contains("The title") && asked.body.contains(&format!("/runs/new?like={run}")));
    assert!(!asked.body.contains("Both would run."));
    let once = attributes(&asked, "value")[0];
    let send = async || ada.post(&format!("/runs/{run}/again"), &[("once", once)]).await;
    let (first, second) = (send().await, send().await);
    assert_eq!((first.status, first.header("location")), (303, second.header("location")), "twice is once");
    let again = ada.get(first.header("location").unwrap()).await;
    assert!(again.body.contains(&format!("again after <a href=\"/runs/{run}\">")), "{}", again.body);
    assert!(again.body.contains("Twice &#60;b&#62;."));
    let number = sample::attribute(&again, "data-run");
    let first = ada.get(&format!("/runs/{run}")).await;
    assert!(first.body.contains(&format!("again as <a href=\"/runs/{number}\">")), "{}", first.body);
    assert_eq!(ada.post(&format!("/runs/{run}/again"), &[]).await.status, 422);
    let changed = ada.get(&format!("/runs/new?like={run}")).await;
    assert!(changed.body.contains("Twice &#60;b&#62;.") && changed.body.contains("value=\"The title\""));
    sample::worker(&app, "arm-1", 0).await;
    let living = sample::run(&app, RUNNING).await;
    assert!(ada.get(&format!("/runs/{living}/again")).await.body.contains("Both would run."));
}

#[tokio::test]
async fn a_run_names_the_recipe_that_it_was_claimed_with() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    app.sql_do("update agents set model = 'first'").await;
    app.sql_do("update agents set about = 'other words', sigint_ms = 5000").await;
    let run = sample::run(&app, &[]).await;
    let path = format!("/runs/{run}");
    assert!(!ada.get(&path).await.body.contains("id=\"recipe\""), "it has none before it is claimed");
    let claimed = app.worker_db.claim_but(&sample::place("arm-1"), &[1; 32], &[]).await.unwrap();
    assert_eq!(claimed.unwrap().lease.run().0, run);
    app.sql_do("update agents set model = 'second', memory_mib = 4096").await;
    let page = ada.get(&path).await;
    for said in ["claude-code v2", "<dd>first</dd>", "2,048 MiB", "Its agent is at version 3 now."] {
        assert!(page.body.contains(said), "{said} isn't in {}", page.body);
    }
    assert!(!page.body.contains("<dd>second</dd>"));
}

#[tokio::test]
async fn how_the_cost_of_a_run_grew_is_drawn_and_said_in_words() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, &[]).await;
    let path = format!("/runs/{run}");
    let claimed = app.worker_db.claim_but(&sample::place("arm-1"), &[1; 32], &[]).await.unwrap().unwrap();
    let meter = async |n: i64, ago: &'static str| {
        let began = format!("update runs set state = 'running', started_at = now() - interval '{ago}'");
        sqlx::query(sqlx::AssertSqlSafe(began)).execute(app.sql()).await.unwrap();
        let tokens = Tokens { input: 100 * n, output: n, ..Tokens::default() };
        let metered = Metered { calls: n, tokens, usd: Some(0.25 * n as f64), ..Metered::default() };
        app.worker_db.metered(&claimed.lease, &metered).await.unwrap();
    };
    meter(1, "5 s").await;
    assert!(!ada.get(&path).await.body.contains("class=\"card curve\""), "one point is no curve");
    meter(2, "50 s").await;
    meter(3, "50.2 s").await;
    let points =
        sqlx::query_scalar::<_, i64>("select count(*) from spent").fetch_one(app.sql()).await.unwrap();
    assert_eq!(points, 2, "what comes soon after another takes its place");
    let page = ada.get(&path).await;
    for said in [
        "Cost over time: it grew to $0.75 in",
        "<title id=\"tokens-curve\">Tokens over time</title>",
        "<b>303</b>",
    ] {
        assert!(page.body.contains(said), "{said} isn't in {}", page.body);
    }
}

#[tokio::test]
async fn the_first_error_is_noted_as_it_comes_and_led_to_at_once() {
    let fleet = Fleet::new().await;
    let prints = [FINE, BAD, FINE, BAD].map(str::to_owned).to_vec();
    fleet.engine.script(Script { prints, ..Script::default() });
    let _worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until(run, "said it all", |run| run.events == 4 && run.first_error.is_some()).await;
    let page = fleet.app.superuser().await.get(&format!("/runs/{run}")).await;
    assert!(page.body.contains(&format!("href=\"/runs/{run}?at=2#e2\">First error")), "{}", page.body);
}

#[tokio::test]
async fn who_reads_an_older_part_follows_the_run_but_gets_no_events() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let run = run_with(&app, &TALK).await;
    let (mut stream, whole) = watch(&ada, &format!("/runs/{run}?at=3")).await;
    assert!(whole.piece("span").is_none() && whole.piece("now").is_none(), "{whole:?}");
    sample::events(&app, run, &TALK).await;
    end(&app, run).await;
    app.queue.notice(Notice::Changed(RunId(run))).await.unwrap();
    let told = stream.until("its end", Duration::from_secs(5), says("main", "data-state=\"ended\"")).await;
    assert_eq!(told.events(), "");
}
