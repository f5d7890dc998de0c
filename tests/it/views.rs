//! The list of runs by what it is narrowed to, searched, and in its sections; and stops of all that match.

use std::cell::Cell;

use futures_util::future::join_all;

use crate::app::{Answer, TestApp};
use crate::sample::{self, LOST, RUNNING, STOP, attribute, attributes, ended, link};

fn ids(page: &Answer) -> Vec<i64> {
    assert_eq!(page.status, 200, "{}", page.body);
    attributes(page, "data-run").iter().map(|id| id.parse().unwrap()).collect()
}

/// The runs in the element with this id.
fn section(page: &Answer, id: &str) -> Vec<i64> {
    let rest = page.body.split(&format!("id=\"{id}\"")).nth(1).unwrap_or_default();
    let list = rest.split("</ul>").next().unwrap();
    list.split(" data-run=\"").skip(1).map(|rest| rest.split('"').next().unwrap().parse().unwrap()).collect()
}

fn with<'a>(columns: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = columns.iter().filter(|(name, _)| more.iter().all(|(other, _)| other != name));
    kept.chain(more).copied().collect()
}

#[tokio::test]
async fn the_first_page_says_first_what_needs_somebody_then_what_lives_then_the_rest() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let old = sample::run(&app, &ended("'failed'")).await;
    let succeeded = sample::run(&app, &ended("'succeeded'")).await;
    let queued = sample::run(&app, &[]).await;
    let running = sample::run(&app, RUNNING).await;
    let lost = sample::run(&app, LOST).await;
    let unconfirmed = sample::run(&app, &[RUNNING, STOP].concat()).await;
    let stuck = sample::run(&app, &with(RUNNING, &[("last_event_at", "now() - interval '1 hour'")])).await;
    let just = [("ended_at", "now() - interval '10 min'")];
    let failed = sample::run(&app, &with(&ended("'failed'"), &just)).await;
    let dear = sample::run(&app, &with(&ended("'over_budget'"), &just)).await;
    let timed_out = sample::run(&app, &with(&ended("'timed_out'"), &just)).await;
    let page = ada.get("/").await;
    assert_eq!(section(&page, "needs"), [unconfirmed, stuck, lost, dear, failed]);
    assert_eq!(section(&page, "living"), [running, queued]);
    assert_eq!(section(&page, "rows"), [timed_out, succeeded, old]);
    assert!(page.body.contains("Five runs need you."), "{}", page.body);
    assert_eq!(ids(&ada.get("/?state=needs").await), [dear, failed, stuck, unconfirmed, lost]);
    assert_eq!(ids(&ada.get("/?state=stuck").await), [stuck]);
    assert_eq!(ids(&ada.get("/?state=living").await), [stuck, unconfirmed, running, queued]);
    assert_eq!(ids(&ada.get("/?state=all").await).len(), 10);
    assert!(!ada.get("/?state=failed").await.body.contains("id=\"needs\""), "sections are of the first page");
}

#[tokio::test]
async fn the_first_sections_end_somewhere_and_say_how_many_more_there_are() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    for _ in 0..25 {
        sample::run(&app, &[]).await;
        sample::run(&app, &with(LOST, &[])).await;
    }
    let over: Vec<i64> = {
        let mut over = Vec::new();
        for _ in 0..30 {
            over.push(sample::run(&app, &ended("'succeeded'")).await);
        }
        over.reverse();
        over
    };
    let page = ada.get("/").await;
    assert_eq!((section(&page, "needs").len(), section(&page, "living").len()), (20, 20));
    assert_eq!(page.body.matches(">and 5 more</a>").count(), 2, "{}", page.body);
    assert!(page.body.contains("href=\"/?state=needs\"") && page.body.contains("href=\"/?state=living\""));
    assert_eq!(ids(&ada.get("/?state=needs").await).len(), 25);
    // The rest goes on where the first page left off.
    let mut seen = section(&page, "rows");
    assert_eq!(seen, over[..10]);
    let next = link(&page, "next").expect("older ones");
    seen.extend(ids(&ada.get(&next).await));
    assert_eq!(seen, over);
}

#[tokio::test]
async fn what_changed_before_somebody_asked_is_on_their_page_however_many_ask_at_once() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    let asking = Cell::new(true);
    // A machine that is busy may have no time for a page; then it says so.
    let answered = async |path: &str| loop {
        let page = ada.get(path).await;
        if page.status != 503 {
            return page;
        }
    };
    let crowd = join_all((0..4).map(async |n| {
        let mut pages = 0;
        while asking.get() {
            assert_eq!(ids(&answered(["/", "/?state=running"][n % 2]).await), [run]);
            pages += 1;
        }
        pages
    }));
    let changes = async {
        for n in 0..30 {
            let change = sqlx::query("update runs set title = 'Version ' || $1 where id = $2");
            change.bind(n.to_string()).bind(run).execute(app.sql()).await.unwrap();
            let page = answered(["/", "/?state=running"][n % 2]).await;
            assert!(page.body.contains(&format!(">Version {n}</a>")), "{n}: {}", page.body);
        }
        asking.set(false);
    };
    let (pages, ()): (Vec<usize>, ()) = tokio::join!(crowd, changes);
    assert!(pages.iter().all(|pages| *pages > 0), "they were there: {pages:?}");
}

/// A few dozen runs that differ in everything; gives for each its number and what it is.
async fn mixed(app: &TestApp) -> Vec<(i64, Mixed)> {
    sample::worker(app, "arm-1", 0).await;
    sample::worker(app, "x86-1", 0).await;
    app.sql_do("insert into agents (name, about, memory_mib, milli_cpus, pids, time_s)
         select 'reviewer', about, memory_mib, milli_cpus, pids, time_s from agents where name = 'claude-code'")
        .await;
    let mut runs = Vec::new();
    for n in 0..96_i64 {
        let mixed = Mixed {
            failed: n % 2 == 0,
            reviewer: n % 3 == 0,
            x86: n % 4 < 2,
            bob: n % 5 == 0,
            cents: [None, Some(50), Some(150), Some(1200), Some(20_000)][n as usize % 5],
            days: (96 - n) / 12,
        };
        let agent = format!(
            "(select id from agents where name = '{}')",
            if mixed.reviewer { "reviewer" } else { "claude-code" }
        );
        let (worker, asked_at) = (
            if mixed.x86 { "'x86-1'" } else { "'arm-1'" },
            format!("now() - interval '{} days' - interval '10 min'", mixed.days),
        );
        let cost = mixed.cents.map_or("null".to_owned(), |cents| format!("{}", cents as f64 / 100.0));
        let columns = with(
            &ended(if mixed.failed { "'failed'" } else { "'succeeded'" }),
            &[
                ("agent_id", agent.as_str()),
                ("worker", worker),
                ("asked_at", &asked_at),
                ("cost_usd", &cost),
                ("asked_by_name", if mixed.bob { "'bob'" } else { "'ada'" }),
                ("prompt", if n % 7 == 0 { "'Look at the haystack'" } else { "'Look at the barn'" }),
            ],
        )
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect::<Vec<_>>();
        let columns: Vec<(&str, &str)> = columns.iter().map(|(name, value)| (&**name, &**value)).collect();
        runs.push((insert(app, &columns).await, mixed));
    }
    runs
}

struct Mixed {
    failed: bool,
    reviewer: bool,
    x86: bool,
    bob: bool,
    cents: Option<i64>,
    days: i64,
}

/// Adds a run with exactly these columns and those that it must have.
async fn insert(app: &TestApp, columns: &[(&str, &str)]) -> i64 {
    let mut all = vec![("asked_by", "(select id from users where name = 'ada')"), ("title", "'A run'")];
    all.extend_from_slice(columns);
    let (names, values): (Vec<&str>, Vec<&str>) = all.into_iter().unzip();
    let statement =
        format!("insert into runs ({}) values ({}) returning id", names.join(", "), values.join(", "));
    let row = sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).fetch_one(app.sql()).await.unwrap();
    sqlx::Row::get(&row, 0)
}

type Lets = fn(i64, &Mixed) -> bool;

#[tokio::test]
async fn each_filter_lets_in_its_own_and_no_other_back_and_forth() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let runs = mixed(&app).await;
    let first = runs[0].0;
    let hay: Lets = |n, _| n % 7 == 0;
    let cases: [(&str, Lets); 17] = [
        ("state=failed", |_, it| it.failed),
        ("agent=reviewer", |_, it| it.reviewer),
        ("worker=x86-1", |_, it| it.x86),
        ("who=bob", |_, it| it.bob),
        ("cost=1", |_, it| it.cents >= Some(100)),
        ("cost=10", |_, it| it.cents >= Some(1000)),
        ("cost=100", |_, it| it.cents >= Some(10_000)),
        ("cost=12.5", |_, it| it.cents >= Some(1250)),
        ("last=hour", |_, it| it.days == 0),
        ("last=day", |_, it| it.days == 0),
        ("last=week", |_, it| it.days < 7),
        ("q=haystack", hay),
        ("q=look+-haystack", |n, it| n % 7 != 0 && it.days >= 0),
        ("agent=reviewer&worker=x86-1", |_, it| it.reviewer && it.x86),
        ("state=failed&who=ada&cost=0.4", |_, it| it.failed && !it.bob && it.cents >= Some(40)),
        ("q=look+barn&state=succeeded&last=week", |n, it| n % 7 != 0 && !it.failed && it.days < 7),
        ("state=all&agent=claude-code&who=ada&worker=arm-1", |_, it| !it.reviewer && !it.bob && !it.x86),
    ];
    for (query, lets) in cases {
        let mut expected: Vec<i64> =
            runs.iter().filter(|(id, it)| lets(id - first, it)).map(|(id, _)| *id).collect();
        expected.reverse();
        assert!(!expected.is_empty() && expected.len() < runs.len(), "{query} says nothing");
        let mut page = ada.get(&format!("/?{query}")).await;
        let mut seen = ids(&page);
        while let Some(next) = link(&page, "next") {
            page = ada.get(&next).await;
            seen.extend(ids(&page));
        }
        assert_eq!(seen, expected, "{query}, going back");
        let mut seen = ids(&page);
        while let Some(previous) = link(&page, "prev") {
            page = ada.get(&previous).await;
            seen.splice(0..0, ids(&page));
        }
        assert_eq!(seen, expected, "{query}, coming forth");
    }
}

#[tokio::test]
async fn a_time_from_and_until_is_kept_to_the_minute() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let mut runs = Vec::new();
    for at in [
        "2026-11-01 10:00Z",
        "2026-11-01 10:01Z",
        "2026-11-01 10:59Z",
        "2026-11-01 11:00Z",
        "2026-11-02 00:00Z",
    ] {
        let at = format!("'{at}'");
        runs.push(sample::run(&app, &[("asked_at", &at)]).await);
    }
    let seen = async |query: &str| ids(&ada.get(&format!("/?{query}")).await);
    assert_eq!(seen("from=2026-11-01T10:01&until=2026-11-01T11:00").await, [runs[2], runs[1]]);
    assert_eq!(seen("until=2026-11-01T10:01").await, [runs[0]]);
    assert_eq!(seen("from=2026-11-02").await, [runs[4]]);
    assert_eq!(
        seen("from=2026-11-01&until=2026-11-02&state=queued").await,
        [runs[3], runs[2], runs[1], runs[0]]
    );
    let empty = ada.get("/?from=2030-01-01").await;
    assert!(empty.status == 200 && empty.body.contains("No runs like that here."));
}

#[tokio::test]
async fn a_filter_that_makes_no_sense_comes_back_with_all_that_was_typed() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    for (query, says) in [
        ("state=killed&agent=mine", "there is no such filter"),
        ("last=fortnight&agent=mine", "no time back from now"),
        ("from=yesterday&agent=mine", "is no time; write it like"),
        ("last=day&from=2026-11-28&agent=mine", "not both"),
        ("from=2026-11-28&until=2026-11-27&agent=mine", "isn’t before the other one"),
        ("cost=much&agent=mine", "are no dollars"),
        ("q=%21%21&agent=mine", "no word in"),
        ("q=%00&agent=mine", "no word in"),
        (&format!("q={}&agent=mine", "w".repeat(201)), "201 characters"),
        (&format!("worker={}&agent=mine", "w".repeat(101)), "101 characters"),
    ] {
        let page = ada.get(&format!("/?{query}")).await;
        assert_eq!(page.status, 422, "{query}");
        for kept in
            [says, "role=\"alert\"", "<option selected>mine</option>", "<details class=\"narrow-to\" open>"]
        {
            assert!(page.body.contains(kept), "{query}: {kept} isn't in {}", page.body);
        }
        assert!(!page.body.contains("data-live"), "what isn't there can't be watched");
        assert_eq!(ada.get(&format!("/live/runs?{query}")).await.status, 422, "{query}");
    }
    let page = ada.get("/?cost=much%22%3E%3Cscript%3E").await;
    assert!(page.body.contains("value=\"much&#34;&#62;&#60;script&#62;\""), "{}", page.body);
}

#[tokio::test]
async fn what_a_form_leaves_empty_has_no_place_in_the_address() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let to = async |query: &str| {
        let answer = ada.get(&format!("/?{query}")).await;
        assert_eq!(answer.status, 303, "{query}");
        answer.header("location").unwrap().to_owned()
    };
    assert_eq!(to("q=&state=&agent=&worker=&who=&last=&cost=&from=&until=").await, "/");
    assert_eq!(to("q=a+b&state=failed&agent=").await, "/?q=a+b&state=failed");
    assert_eq!(to("pick=1&q=&state=running").await, "/?state=running&pick=1");
    let page = ada.get("/?agent=claude-code&q=a%22b&cost=2").await;
    for chip in ["href=\"/?agent=claude-code&#38;cost=2\"", "href=\"/?q=a%22b&#38;cost=2\"", ">≥ $2.00<"] {
        assert!(page.body.contains(chip), "{chip} isn't in {}", page.body);
    }
}

#[tokio::test]
async fn a_search_finds_prompt_title_result_and_reason() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let prompt =
        sample::run(&app, &[("prompt", "'Mend the zebra in src/web/runs.rs, getUserName and foo_bar'")])
            .await;
    let title = sample::run(&app, &[("title", "'A quokka in the title'")]).await;
    let result =
        sample::run(&app, &with(&ended("'succeeded'"), &[("result", "'Two walruses, one fixed.'")])).await;
    let reason =
        sample::run(&app, &with(&ended("'failed'"), &[("reason", "'Exited with 1: no such okapi'")])).await;
    for (q, expected) in [
        ("zebra", vec![prompt]),
        ("ZEBRA", vec![prompt]),
        ("quokka", vec![title]),
        ("walruses", vec![result]),
        ("okapi", vec![reason]),
        ("runs.rs", vec![prompt]),
        ("web/runs", vec![prompt]),
        ("getUserName", vec![prompt]),
        ("user name", vec![prompt]),
        ("foo_bar", vec![prompt]),
        ("bar", vec![prompt]),
        ("\"the zebra\"", vec![prompt]),
        ("\"zebra the\"", vec![]),
        ("zebra or okapi", vec![reason, prompt]),
        ("fixed -walruses", vec![]),
        ("fixed -okapi", vec![result]),
        ("nothing like it", vec![]),
    ] {
        let query = url::form_urlencoded::byte_serialize(q.as_bytes()).collect::<String>();
        assert_eq!(ids(&ada.get(&format!("/?q={query}")).await), expected, "{q}");
    }
    // What changes is found under its new words, and no more under its old ones.
    app.sql_do("update runs set title = 'A numbat in the title' where title like '%quokka%'").await;
    assert_eq!(ids(&ada.get("/?q=numbat").await), [title]);
    assert_eq!(ids(&ada.get("/?q=quokka").await), [0_i64; 0]);
    assert!(ada.get("/").await.body.contains("Two walruses, one fixed."), "a success is noted by its result");
}

#[tokio::test]
async fn hostile_searches_are_only_words() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::run(&app, &[("title", "'Plain'"), ("prompt", "'plain words'")]).await;
    for q in [
        "'; drop table runs; --",
        "a' & !b | (c",
        "\"unclosed",
        "\\",
        "wor:*",
        "#0",
        "'#0'",
        "<b>x</b>",
        "or or or",
        "- - -a",
        "\"\"a",
        "é\u{301} 中文 👩\u{200d}🚀 ok",
        "\u{0}a",
        "\u{202e}a",
        "a\nb\tc",
        "-\"a",
        "a -",
        "1 or",
        "((((a",
        "%s%n",
    ] {
        let query = url::form_urlencoded::byte_serialize(q.as_bytes()).collect::<String>();
        let page = ada.get(&format!("/?q={query}")).await;
        assert!([200, 422].contains(&page.status), "{q:?}: {} {}", page.status, page.body);
        assert_eq!(attributes(&page, "data-run").len(), 0, "{q:?}");
    }
    assert_eq!(ids(&ada.get("/?q=words").await).len(), 1);
}

#[tokio::test]
async fn what_one_page_cannot_look_through_the_next_one_does() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let columns = [("agent_id", "1"), ("prompt", "'x'"), ("asked_by_name", "'bob'")];
    let needle = insert(&app, &with(&ended("'failed'"), &columns)).await;
    app.sql_do(
        "insert into runs (agent_id, title, prompt, asked_by, asked_by_name, state, outcome, end_step, confirmed_at, ended_at)
         select agent_id, title, prompt, asked_by, case when n > 13000 then 'bob' else 'ada' end, 'ended',
                case when n > 13000 then 'succeeded' else 'failed' end, end_step, confirmed_at, ended_at
         from runs, generate_series(1, 26000) n",
    )
    .await;
    let page = ada.get("/?state=failed&who=bob").await;
    assert!(
        page.body.contains("None like that so far.") && page.body.contains("Look further"),
        "{}",
        page.body
    );
    let mut page = page;
    let mut pages = 1;
    while ids(&page).is_empty() {
        page = ada.get(&link(&page, "next").expect("it isn't over")).await;
        pages += 1;
    }
    assert_eq!((ids(&page), link(&page, "next")), (vec![needle], None));
    assert!((2..6).contains(&pages), "{pages}");
    // And back to where one came from.
    let back = ada.get(&link(&page, "prev").unwrap()).await;
    assert_eq!(ids(&back), [0_i64; 0]);
    // A word that is everywhere, and one that is in the oldest run alone.
    app.sql_do("update runs set title = 'A lone narwhal' where id = 1").await;
    assert_eq!(ids(&ada.get("/?q=narwhal").await), [needle]);
    assert_eq!(ids(&ada.get("/?q=run").await).len(), 40);
}

#[tokio::test]
async fn a_stop_of_all_that_match_takes_those_that_are_shown() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    sample::worker(&app, "x86-1", 0).await;
    let ours = [("asked_by_name", "'bob'"), ("worker", "'x86-1'")];
    let mine = sample::run(&app, RUNNING).await;
    let running = insert(&app, &with(&with(RUNNING, &ours), &[("agent_id", "1"), ("prompt", "'x'")])).await;
    let queued = insert(&app, &[("agent_id", "1"), ("prompt", "'x'"), ("asked_by_name", "'bob'")]).await;
    let waits = sample::run(&app, &[]).await;
    for (query, expected) in [
        ("who=bob", vec![queued, running]),
        ("worker=x86-1", vec![running]),
        ("state=queued&who=bob", vec![queued]),
        ("state=running&agent=claude-code", vec![running, mine]),
        ("state=living&who=ada", vec![waits, mine]),
        ("worker=nobody", vec![]),
    ] {
        let list = ada.get(&format!("/?{query}&pick=1")).await;
        assert_eq!(ids(&list), expected, "{query}");
        if expected.is_empty() {
            continue;
        }
        let href = list.body.split("class=\"lever\" href=\"").nth(1).and_then(|rest| rest.split('"').next());
        let question = ada.get(&href.expect("all that match").replace("&#38;", "&")).await;
        assert_eq!(attribute(&question, "data-count"), expected.len().to_string(), "{query}");
    }
    let question = ada.get("/stops/new?state=all&who=bob").await;
    assert!(
        question.body.contains("Every run that isn’t over asked for by bob, up to run"),
        "{}",
        question.body
    );
    let form = [("state", "all"), ("who", "bob"), ("upto", "1000"), ("mode", "force")];
    assert_eq!(ada.post("/stops", &form).await.header("location"), Some("/stops/1"));
    let stopped: Vec<i64> = ids(&ada.get("/?who=bob&state=all").await);
    assert_eq!(stopped, [queued, running]);
    let by = app.proof().await;
    for (run, is_stopped) in [(mine, false), (waits, false), (running, true), (queued, true)] {
        let run = app.db.run(&by, signalbox::model::run::RunId(run)).await.unwrap();
        assert_eq!(run.stop.is_some(), is_stopped, "run {}", run.id);
    }
    let (stop, counts) = app.db.stop(&by, signalbox::model::stop::StopId(1)).await.unwrap();
    assert!(stop.written_at.is_some(), "nothing of others keeps it open");
    assert_eq!((counts.all(), counts.queued, counts.unconfirmed), (2, 1, 1));
    assert!(ada.get("/stops").await.body.contains("asked for by bob"));

    for query in ["cost=1", "last=day", "q=a", "state=stuck", "state=needs"] {
        let list = ada.get(&format!("/?{query}&pick=1")).await;
        assert!(!list.body.contains("All that match…"), "{query} can't be handed to a stop");
        assert!(list.status == 200);
    }
    assert!(ada.get("/?last=day&pick=1").await.body.contains("Here, select them."));
    assert_eq!(ada.get("/stops/new?state=stuck").await.status, 422);
}
