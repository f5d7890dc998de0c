//! Live pages: what a second browser sees, when, and what it never does.

use std::time::Duration;

use signalbox::model::run::StopMode;
use signalbox::queue::Notice;
use tokio::time::Instant;

use crate::app::{Answer, Browser, CHEAP_HASH, TestApp};
use crate::fleet::Fleet;
use crate::sample::{self, RUNNING};
use crate::scripted::Script;
use crate::sse::{Stream, Told};

/// With Redis a change is told within this, on a machine that does much else.
const SOON: Duration = Duration::from_millis(900);
/// Whoever may see nothing any more sees nothing more after this.
const SHUT_OUT: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(10);

const LINES: [(&str, &str, &str); 3] =
    [("stdout", "text", "one"), ("stdout", "text", "two"), ("stdout", "text", "three")];

/// The address of a page's stream, as the page says it.
async fn stream_of(browser: &Browser, path: &str) -> String {
    let page = browser.get(path).await;
    assert_eq!(page.status, 200, "{}", page.body);
    sample::attribute(&page, "data-live").replace("&#38;", "&")
}

/// Opens the stream of a page, as the page does; the first that comes is all of it.
pub(crate) async fn watch(browser: &Browser, path: &str) -> (Stream, Told) {
    let mut stream = browser.stream(&stream_of(browser, path).await, None).await;
    let whole = stream.until("all of it", PATIENCE, |told| told.piece("main").is_some()).await;
    (stream, whole)
}

pub(crate) fn says(id: &str, words: &str) -> impl Fn(&Told) -> bool {
    move |told| told.piece(id).is_some_and(|piece| piece.contains(words))
}

pub(crate) async fn end(app: &TestApp, run: i64) {
    let end =
        "update runs set state = 'ended', outcome = 'failed', reason = 'It is over.', end_step = 'by_itself',
                               confirmed_at = now(), ended_at = now() where id = $1";
    sqlx::query(end).bind(run).execute(app.sql()).await.unwrap();
}

async fn change(app: &TestApp, run: i64) {
    app.queue.notice(Notice::Changed(signalbox::model::run::RunId(run))).await.unwrap();
}

#[tokio::test]
async fn a_second_browser_sees_a_run_live_and_end() {
    let fleet = Fleet::new().await;
    fleet.engine.script(Script { prints: vec!["hello".to_owned()], ..Script::default() });
    let _worker = fleet.worker("w1").await;
    let second = fleet.app.superuser().await;
    let (mut list, _) = watch(&second, "/").await;
    let run = fleet.start("x").await;
    let (row, page) = (format!("run-{run}"), format!("/runs/{run}"));
    list.until("it runs", PATIENCE, says(&row, "data-state=\"running\"")).await;

    let (mut followed, _) = watch(&second, &page).await;
    fleet.until(run, "said something", |run| run.events == 1).await;
    fleet.engine.print(run.0, "again");
    followed.until("its line", SOON, |told| told.events().contains(">again<")).await;
    fleet.stop(run, StopMode::Force).await;
    fleet.until_over(run).await;
    let began = Instant::now();
    followed.until("its end", SOON, says("main", "data-outcome=\"terminated\"")).await;
    list.until("its end in the list", SOON, says(&row, "data-outcome=\"terminated\"")).await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let page = second.get(&page).await;
    assert!(page.body.contains("It is dead."), "a reload says the same");
}

#[tokio::test]
async fn the_first_line_after_a_silence_is_seen_at_once() {
    let fleet = Fleet::new().await;
    fleet.engine.script(Script { prints: vec!["hello".to_owned()], ..Script::default() });
    let _worker = fleet.worker("w1").await;
    let second = fleet.app.superuser().await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    let (mut stream, _) = watch(&second, &format!("/runs/{run}")).await;
    let mut took = Vec::new();
    for n in 0..9 {
        let is_silent = "select last_event_at < now() - interval '250 ms' from runs where id = $1";
        crate::fleet::until("silent", async || {
            let silent = sqlx::query_scalar::<_, Option<bool>>(is_silent).bind(run.0);
            silent.fetch_one(fleet.app.sql()).await.unwrap().unwrap_or_default()
        })
        .await;
        let began = Instant::now();
        fleet.engine.print(run.0, &format!("line {n}"));
        let words = format!(">line {n}<");
        stream.until("the line", PATIENCE, |told| told.events().contains(&words)).await;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    // A line that waits for company waits 120 ms.
    assert!(took[4] < Duration::from_millis(110), "{took:?}");
}

#[tokio::test]
async fn what_a_stream_brings_is_what_a_reload_would() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    for path in
        ["/", "/?state=running&pick=1", "/workers", "/health", "/handle/leave", &format!("/runs/{run}")]
    {
        let (_, whole) = watch(&ada, path).await;
        let page = ada.get(path).await;
        let pieces = whole.data["pieces"].as_object().unwrap();
        assert!(
            pieces.contains_key("main") && pieces.contains_key("standing") && pieces.contains_key("lever")
        );
        for (id, piece) in pieces {
            let piece = piece.as_str().unwrap().trim();
            assert!(piece.starts_with('<') && piece.contains(&format!("id=\"{id}\"")), "{path}: {piece}");
            assert!(!piece.contains("<!--"), "{path}: {piece}");
            assert!(page.body.contains(&format!("id=\"{id}\"")), "{path} has no {id}");
        }
    }
}

#[tokio::test]
async fn only_what_changed_is_told_and_growing_older_is_no_change() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let (quiet, busy) = (sample::run(&app, RUNNING).await, sample::run(&app, RUNNING).await);
    let (mut stream, whole) = watch(&ada, "/").await;
    let (quiet, row) = (format!("run-{quiet}"), format!("run-{busy}"));
    assert!(whole.piece(&quiet).is_some() && whole.piece(&row).is_some());
    end(&app, busy).await;
    change(&app, busy).await;
    let told = stream.until("its end", SOON, says(&row, "data-state=\"ended\"")).await;
    assert_eq!(told.piece(&quiet), None, "{told:?}");
    let pulse = stream.until("a pulse", PATIENCE, |_| true).await;
    assert_eq!(pulse.data["pieces"], serde_json::Value::Null, "{pulse:?}");
    assert!(pulse.data["at"].as_i64() > told.data["at"].as_i64());
}

#[tokio::test]
async fn a_stream_goes_on_where_it_broke_off_without_a_gap_or_a_double() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    sample::events(&app, run, &LINES).await;
    let path = stream_of(&ada, &format!("/runs/{run}")).await;
    assert_eq!(path, format!("/live/runs/{run}?seen=3"));
    // Between the page and its stream.
    sample::events(&app, run, &LINES).await;
    let mut stream = ada.stream(&path, None).await;
    let mut seen = Vec::new();
    let mut last = String::new();
    while seen.len() < 3 {
        let told = stream.until("the events", PATIENCE, |_| true).await;
        seen.extend(told.seqs());
        last = told.id;
    }
    // One by one, the link lost again and again.
    for _ in 0..8 {
        drop(stream);
        sample::events(&app, run, &LINES).await;
        change(&app, run).await;
        stream = ada.stream(&path, Some(&last)).await;
        sample::events(&app, run, &LINES).await;
        change(&app, run).await;
        let wanted = seen.len() + 6;
        while seen.len() < wanted {
            let told = stream.until("the events", PATIENCE, |_| true).await;
            seen.extend(told.seqs());
            last = told.id;
        }
    }
    assert_eq!(seen, (4..=54).collect::<Vec<_>>());
    assert!(last.starts_with("54-"), "{last}");
}

#[tokio::test]
async fn a_link_that_was_lost_for_a_moment_costs_nothing_and_one_that_was_lost_long_loads_the_page() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    let (_, whole) = watch(&ada, "/").await;
    // By the browser's own word, or in the address, when it has given the stream up and the page opens another one.
    let by_address = format!("/live/runs?seen={}", whole.id);
    for (path, last) in [("/live/runs", Some(&*whole.id)), (&by_address, None)] {
        let mut again = ada.stream(path, last).await;
        let first = again.until("something", PATIENCE, |_| true).await;
        assert_eq!((&first.id, &first.data["pieces"]), (&whole.id, &serde_json::Value::Null), "{path}");
    }
    let (_, narrowed) = watch(&ada, "/?from=2026-01-01").await;
    let mut again = ada.stream(&format!("/live/runs?from=2026-01-01&seen={}", narrowed.id), None).await;
    assert_eq!(again.until("something", PATIENCE, |_| true).await.data["pieces"], serde_json::Value::Null);
    let fill = "with lines as (insert into events (run_id, seq, at, source, kind, payload)
                    select $1, n, now(), 'stdout', 'text', 'line ' || n from generate_series(1, 2500) n)
                update runs set events = 2500 where id = $1";
    sqlx::query(fill).bind(run).execute(app.sql()).await.unwrap();
    let stream = async |seen: &str| ada.stream(&format!("/live/runs/{run}?seen={seen}"), None).await;
    assert_eq!(stream("10").await.until("an answer", PATIENCE, |_| true).await.event, "stale");
    let mut behind = stream("1200").await;
    let mut seen = Vec::new();
    while seen.len() < 1300 {
        seen.extend(behind.until("the events", PATIENCE, |_| true).await.seqs());
    }
    assert_eq!(seen, (1201..=2500).collect::<Vec<_>>());
}

fn is_shown_the_door(answer: &Answer) -> bool {
    answer.status == 303 && answer.header("location") == Some("/login") && answer.body.is_empty()
}

#[tokio::test]
async fn strangers_and_plain_users_get_no_stream() {
    let app = TestApp::start().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    let (stranger, pat, ada) = (app.anonymous(), app.plain().await, app.superuser().await);
    for path in
        ["/live/runs", &format!("/live/runs/{run}"), "/live/workers", "/live/health", "/live/handle/leave"]
    {
        assert!(is_shown_the_door(&stranger.get(path).await), "{path}");
        assert_eq!(pat.get(path).await.status, 403, "{path}");
        ada.stream(path, None).await;
    }
    for (path, status) in [("/live/runs/999", 404), ("/live/stops/9", 404), ("/live/runs?state=x", 422)] {
        assert_eq!(ada.get(path).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn whoever_is_shut_out_is_told_to_leave_and_sees_nothing_more() {
    let app = TestApp::start().await;
    for (name, shut_out) in [
        ("demoted", "update users set role = 'plain' where name = 'eve'"),
        ("disabled", "update users set disabled_at = now() where name = 'eve'"),
        (
            "expired",
            "update sessions set expires_at = now() where user_id = (select id from users where name = 'eve')",
        ),
    ] {
        app.sql_do("delete from users where name = 'eve'").await;
        app.add_user("eve", "superuser", CHEAP_HASH).await;
        let eve = app.signed_in("eve").await;
        let (mut stream, _) = watch(&eve, "/").await;
        app.sql_do(shut_out).await;
        let rest = stream.rest(SHUT_OUT).await;
        assert_eq!(rest.last().map(|told| told.event.as_str()), Some("leave"), "{name}: {rest:?}");
    }
    let (ada, elsewhere) = (app.superuser().await, app.superuser().await);
    let ((mut hers, _), (mut other, _)) = (watch(&ada, "/").await, watch(&elsewhere, "/").await);
    assert_eq!(ada.post("/logout", &[]).await.status, 303);
    assert_eq!(hers.rest(SHUT_OUT).await.last().map(|told| told.event.clone()).as_deref(), Some("leave"));
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    change(&app, run).await;
    other.until("another's goes on", PATIENCE, |told| told.piece(&format!("run-{run}")).is_some()).await;
}

#[tokio::test]
async fn while_postgres_is_away_nothing_is_told_and_afterwards_all_is() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    let (mut stream, _) = watch(&ada, "/").await;
    let mut lock = app.sql().begin().await.unwrap();
    sqlx::query("lock table runs in access exclusive mode").execute(&mut *lock).await.unwrap();
    change(&app, run).await;
    // What can't be looked at isn't said to be as it was: no pulse, and the page says how old it is.
    let silent = Instant::now() + Duration::from_secs(7);
    let quiet = tokio::time::timeout_at(silent, stream.next_by(silent + PATIENCE)).await;
    assert!(quiet.is_err(), "{quiet:?}");
    sqlx::query("update runs set state = 'lost' where id = $1").bind(run).execute(&mut *lock).await.unwrap();
    lock.commit().await.unwrap();
    stream.until("the change", PATIENCE, says(&format!("run-{run}"), "data-state=\"lost\"")).await;
}

#[tokio::test]
async fn hostile_words_stay_words_in_a_stream() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let hostile = "'<!--/cut--><script>alert(1)</script><!--cut main-->\u{202e}\r\n\r\nevent: leave'";
    let run = sample::run(&app, &[RUNNING, &[("title", hostile)]].concat()).await;
    let (mut list, whole) = watch(&ada, "/").await;
    let row = whole.piece(&format!("run-{run}")).unwrap();
    assert!(row.contains("&#60;!--/cut--&#62;&#60;script&#62;") && row.contains("⟨U+202E⟩"), "{row}");
    let (mut stream, whole) = watch(&ada, &format!("/runs/{run}")).await;
    assert!(!whole.data.to_string().contains("<script>"));
    let line = "</pre><img src=x onerror=alert(1)>\u{1b}[2J";
    sample::events(&app, run, &[("stdout", "text", line)]).await;
    change(&app, run).await;
    let told = stream.until("the line", SOON, |told| !told.events().is_empty()).await;
    assert!(told.events().contains("&#60;img src=x onerror=alert(1)&#62;"), "{}", told.events());
    assert!(!told.events().contains("<img") && !told.events().contains('\u{1b}'), "{}", told.events());
    list.until("still there", PATIENCE, |told| told.event.is_empty()).await;
}

#[tokio::test]
async fn what_stands_for_the_fleet_is_told_to_every_page() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    let ((mut list, _), (mut page, _)) = (watch(&ada, "/").await, watch(&ada, &format!("/runs/{run}")).await);
    assert_eq!(ada.post("/hold", &[("reason", "deploy")]).await.status, 303);
    for stream in [&mut list, &mut page] {
        stream.until("the hold", SOON, says("standing", "The queue is held.")).await;
    }
    assert_eq!(ada.post("/handle", &[("reason", "")]).await.status, 303);
    for stream in [&mut list, &mut page] {
        stream.until("the handle", SOON, says("lever", "Pulled")).await;
    }
}

#[tokio::test]
async fn who_waits_for_the_way_out_of_the_red_handle_sees_each_step_of_it() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("w1").await;
    let (ada, second) = (fleet.app.superuser().await, fleet.app.superuser().await);
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    let (mut leave, whole) = watch(&second, "/handle/leave").await;
    assert!(whole.piece("main").unwrap().contains("The red handle is not pulled."));

    fleet.engine.silent(true);
    assert_eq!(ada.post("/handle", &[]).await.status, 303);
    let (pulled, closed) = (says("main", "One run isn’t proven over"), says("main", "w1: gates closed"));
    leave.until("the pull, and its gates", PATIENCE, |told| pulled(told) && closed(told)).await;
    fleet.engine.silent(false);
    fleet.until_over(run).await;
    leave.until("the proof", PATIENCE, says("main", "Every run is proven over")).await;
    let pulse = leave.until("a pulse", PATIENCE, |told| told.data["pieces"].is_null()).await;
    assert!(pulse.event.is_empty(), "then nothing is new");

    let waits = fleet.start("y").await;
    leave.until("what waits", PATIENCE, says("main", "One run waits, and starts.")).await;
    assert_eq!(ada.post("/handle/gates", &[]).await.status, 303);
    leave.until("the first step", PATIENCE, says("main", "Release the queue</button>")).await;
    assert_eq!(ada.post("/handle/queue", &[]).await.status, 303);
    leave.until("the last step", PATIENCE, says("main", "The red handle is not pulled.")).await;
    fleet.until_running(waits).await;

    // What was refused stays to be read, and no stream takes it away.
    let refused = ada.post("/handle/gates", &[]).await;
    assert_eq!(refused.status, 422);
    assert!(refused.body.contains("No gate is kept closed.") && !refused.body.contains("data-live"));
}

#[tokio::test]
async fn a_server_that_leaves_ends_its_streams_at_once() {
    let mut app = TestApp::start().await;
    let ada = app.superuser().await;
    let (mut stream, _) = watch(&ada, "/").await;
    let began = Instant::now();
    app.tell_to_leave();
    let rest = stream.rest(Duration::from_secs(2)).await;
    assert!(rest.iter().all(|told| told.event.is_empty()), "nobody is sent away: {rest:?}");
    app.stop_server();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}
