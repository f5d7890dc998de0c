//! Every page with the worst that an agent, a worker or a stranger can put on it: it stays text.

use sqlx::Row;

use crate::app::{Answer, TestApp};
use crate::sample::{self, LOST, RUNNING, STOP, attributes, ended};

/// Markup, ANSI, a bell, reading directions, and no place to break a line.
fn worst() -> String {
    format!(
        "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{{{7*7}}}}\u{1b}[31m\u{7}\u{9b}2J\u{202e}\u{2066}\u{e0041}👩‍🚀{}",
        "w".repeat(10_000)
    )
}

/// Checks that nothing on a page acts, and that what is opened is closed in its order.
fn check(path: &str, page: &Answer) {
    assert_eq!(page.status, 200, "{path}: {}", page.body);
    let own = format!("<script type=\"module\" src=\"{}\"></script>", live_js(page));
    assert_eq!((page.body.matches("<script").count(), page.body.matches(&own).count()), (1, 1), "{path}");
    assert_eq!(page.body.matches("<img").count(), 0, "{path}");
    assert!(!page.body.contains(" style="), "{path} has an inline style");
    let acts = |c: &char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{e0000}'..='\u{e007f}')
    };
    assert_eq!(page.body.chars().find(acts), None, "{path}");
    assert_eq!(unbalanced(&page.body), None, "{path}");
    let mut ids = attributes(page, "id");
    ids.sort_unstable();
    let doubled = ids.windows(2).find(|two| two[0] == two[1]);
    assert_eq!(doubled, None, "{path} has an id twice");
}

/// Where our one script is.
fn live_js(page: &Answer) -> &str {
    let ours = |part: &&str| part.starts_with("/static/") && part.ends_with("/live.js");
    page.body.split('"').find(ours).expect("our script")
}

/// The first tag that is closed out of its order, if there is one; quotes must be closed within their tag.
fn unbalanced(html: &str) -> Option<String> {
    const VOID: [&str; 4] = ["meta", "link", "input", "br"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = html.strip_prefix("<!doctype html>").expect("a doctype");
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        let mut quoted = false;
        let end = rest.find(|c| {
            quoted ^= c == '"';
            (c == '>' || c == '<') && !quoted
        })?;
        let (tag, after) = rest.split_at(end);
        rest = after.strip_prefix('>').unwrap_or_else(|| panic!("<{tag} isn't closed"));
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap();
        match tag.strip_prefix('/') {
            Some(_) if open.pop() != Some(name) => return Some(tag.to_owned()),
            Some(_) => {}
            None if tag.ends_with('/') || VOID.contains(&name) => {}
            None => open.push(name),
        }
    }
    open.pop().map(str::to_owned)
}

async fn fill(app: &TestApp) -> Vec<i64> {
    let worst = worst();
    sample::worker(app, "arm-1", 0).await;
    for change in [
        "update workers set engine = $1, kernel = $1, arch = $1, version = $1, claude = $1",
        "update agents set about = $1, image = $1, model = $1",
    ] {
        sqlx::query(change).bind(&worst).execute(app.sql()).await.unwrap();
    }
    let mut runs = vec![
        sample::run(app, &[]).await,
        sample::run(app, RUNNING).await,
        sample::run(app, LOST).await,
        sample::run(app, &[RUNNING, STOP, &[("stop_step", "'sigkill'")]].concat()).await,
        sample::run(app, &[LOST, STOP].concat()).await,
    ];
    for outcome in ["'succeeded'", "'failed'", "'terminated'", "'timed_out'", "'over_budget'"] {
        runs.push(sample::run(app, &ended(outcome)).await);
    }
    let change = sqlx::query(
        "update runs set title = left($1, 200), prompt = $1, asked_by_name = $1, waits_because = $1, trouble = $1,
             stop_trouble = $1, model = $1, container = $1, reason = case state when 'ended' then $1 end,
             wish_by_name = case wish when 'stop' then $1 end, wish_reason = $1,
             wish_device = $1, delivered_to = $1, delivered_at = wish_at, work_seen_at = now(), work_files = 3,
             work_trouble = $1",
    );
    change.bind(&worst).execute(app.sql()).await.unwrap();
    let earlier = sqlx::query(
        "insert into earlier_wishes (run_id, at, mode, by_name, reason, device, save, delivered_at, delivered_to)
         select id, wish_at - interval '1 s', 'graceful', $1, $1, $1, true, wish_at - interval '900 ms', $1
         from runs where wish = 'stop'",
    );
    earlier.bind(&worst).execute(app.sql()).await.unwrap();
    let saved = sqlx::query(
        "insert into saved_work (run_id, patch, files, unpushed, trouble)
         select id, convert_to($1, 'UTF8'), 1, 1, $1 from runs where state <> 'queued'",
    );
    saved.bind(&worst).execute(app.sql()).await.unwrap();
    let text = serde_json::to_string(&format!("{worst}\n\0two")).unwrap();
    let lines = [
        ("stderr", "text", worst.clone()),
        ("stdout", "text", worst.clone()),
        (
            "stdout",
            "init",
            format!(r#"{{"type":"system","subtype":"init","model":{text},"claude_code_version":{text}}}"#),
        ),
        (
            "stdout",
            "tool_use",
            format!(
                r#"{{"type":"assistant","message":{{"content":[{{"type":"text","text":{text}}},{{"type":"thinking","thinking":{text}}},{{"type":"tool_use","name":{text},"input":{{"command":{text}}}}},{{"type":{text}}}]}}}}"#
            ),
        ),
        (
            "stdout",
            "tool_result",
            format!(
                r#"{{"type":"user","message":{{"content":[{{"type":"tool_result","is_error":true,"content":{text}}}]}}}}"#
            ),
        ),
        ("stdout", "other", format!(r#"{{"type":{text},"subtype":{text}}}"#)),
        ("stdout", "result", format!(r#"{{"type":"result","subtype":{text},"result":{text}}}"#)),
    ];
    let lines: Vec<(&str, &str, &str)> =
        lines.iter().map(|(source, kind, line)| (*source, *kind, line.as_str())).collect();
    for run in &runs[1..] {
        sample::events(app, *run, &lines).await;
    }
    for kind in ["container", "run", "folder", "image", "volume"] {
        for gone in ["null", "now()"] {
            let insert = format!(
                "insert into findings (worker, kind, what, run_id, detail, bytes, since, gone_at, done, done_by, done_at)
                 values ('arm-1', '{kind}', $1, 1, $1, 5000, now(), {gone}, $1, $1, now())"
            );
            sqlx::query(sqlx::AssertSqlSafe(insert)).bind(&worst).execute(app.sql()).await.unwrap();
        }
    }
    for change in [
        "update fleet set held_at = now() - interval '2 days', held_by = $1, held_why = $1",
        "update workers set drained_at = now(), drained_by = $1, drained_why = $1",
        "insert into stops (kind, filter, takes_queued, upto, mode, reason, by_id, by_name)
         select kind, case kind when 'filter' then 'queued' end, true, 3, 'force', $1, id, $1
         from users, unnest(array['selected', 'filter', 'everything']) kind where name = 'ada'",
        "insert into stop_runs (stop_id, run_id, met)
         select s.id, r.id, case r.state when 'ended' then 'over' else 'wished' end from stops s, runs r where $1 <> ''",
        "update stops set written_at = now(), over = 5 where $1 <> ''",
        "update fleet set gates_closed_at = now(), gates_closed_by = $1, handle = 3",
    ] {
        sqlx::query(change).bind(&worst).execute(app.sql()).await.unwrap();
    }
    for change in [
        "insert into bells (user_id, kind, name, url, secret, listens)
         select id, 'webhook', left($1, 60), 'https://hook.example/' || left($1, 200), left($1, 100), '{lost}'
         from users where name = 'ada'",
        "insert into rings (bell_id, bell_name, bell_kind, user_name, kind, told, tries, trouble, due_at)
         select id, left($1, 60), kind, $1, 'told', '{\"needs\": 3}', 1, $1, now() + interval '1 hour' from bells",
    ] {
        sqlx::query(change).bind(&worst).execute(app.sql()).await.unwrap();
    }
    app.db.note_at_the_door(&worst, &worst, Some(&worst)).await.unwrap();
    runs
}

#[tokio::test]
async fn nothing_hostile_acts_on_any_page() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    check("/ when empty", &ada.get("/").await);
    let runs = fill(&app).await;
    let mut paths: Vec<String> = [
        "/",
        "/?state=lost",
        "/?pick=1",
        "/runs/new",
        "/workers",
        "/agents",
        "/agents/claude-code/ladder",
        "/found",
        "/health",
        "/kept",
        "/audit",
        "/account",
        "/account/bells",
        "/account/bells/rings",
        "/stops",
        "/stops/1",
        "/stops/2",
        "/stops/3",
        "/stops/new?state=all",
        "/hold",
        "/handle/leave",
        "/?state=needs",
        "/?q=w+%3Cb%3E+&agent=%22%3E%3Cb%3E&pick=1",
    ]
    .map(str::to_owned)
    .into();
    let each: Vec<String> = runs.iter().map(|run| format!("run={run}")).collect();
    paths.push(format!("/stops/new?{}", each.join("&")));
    for run in &runs {
        paths.extend(
            ["", "/terminate", "?at=4", "?before=3", "/find?q=a", "/again"]
                .map(|end| format!("/runs/{run}{end}")),
        );
        paths.push(format!("/runs/new?like={run}"));
    }
    for path in paths {
        // Its own words come back to whoever fills in a form as they were, marks of reading direction included.
        let mut page = ada.get(&path).await;
        if path.starts_with("/runs/new") {
            page.body.retain(|c| !matches!(c, '\u{202e}' | '\u{2066}' | '\u{e0041}'));
        }
        check(&path, &page);
    }
    // The question is put only while the handle isn't pulled.
    assert_eq!(ada.get("/handle").await.header("location"), Some("/stops/3"));
    let left = "update fleet set gates_closed_at = null, gates_closed_by = null";
    sqlx::query(left).execute(app.sql()).await.unwrap();
    check("/handle", &ada.get("/handle").await);
    check("/handle/leave, half left", &ada.get("/handle/leave").await);
    let shown = ada.get(&format!("/runs/{}", runs[1])).await;
    assert!(shown.body.contains("&#60;script&#62;alert(1)") && shown.body.contains("⟨U+202E⟩"));
}

#[tokio::test]
async fn pages_say_that_runs_are_unsandboxed_and_rehearsed() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    sqlx::query("update workers set sandboxed = false, rehearsal = true").execute(app.sql()).await.unwrap();
    for path in ["/", "/runs/new", "/workers", "/agents", "/health", "/audit", "/account"] {
        let page = ada.get(path).await;
        assert!(page.body.contains("Unsandboxed:") && page.body.contains("Rehearsal:"), "{path}");
    }
}

#[tokio::test]
async fn the_list_is_small() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    for _ in 0..40 {
        sample::run(&app, &[("title", "md5(random()::text) || md5(random()::text)")]).await;
    }
    let page = ada.get("/?state=all").await;
    let rows = sqlx::query("select count(*) from runs").fetch_one(app.sql()).await.unwrap().get::<i64, _>(0);
    assert_eq!(attributes(&page, "data-run").len() as i64, rows);
    assert!(page.body.len() < 48 * 1024, "{} bytes", page.body.len());
}

#[test]
fn the_checker_sees_what_is_wrong() {
    assert_eq!(unbalanced("<!doctype html><p><b></p></b>").as_deref(), Some("/p"));
    assert_eq!(unbalanced("<!doctype html><p title=\"<b>\"></p>"), None);
    assert_eq!(unbalanced("<!doctype html><p>").as_deref(), Some("p"));
}
