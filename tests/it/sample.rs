//! Runs, workers and transcripts for the pages to show, put straight into the database.

use signalbox::model::worker::Place;
use sqlx::{AssertSqlSafe, Row};

use crate::app::{Answer, TestApp};

/// Adds a run with these columns and values, as SQL writes them; gives its number.
pub(crate) async fn run(app: &TestApp, columns: &[(&str, &str)]) -> i64 {
    let mut all = vec![
        ("agent_id", "(select id from agents where name = 'claude-code')"),
        ("asked_by", "(select id from users where name = 'ada')"),
        ("asked_by_name", "'ada'"),
    ];
    for (column, otherwise) in [("title", "'A run'"), ("prompt", "'Do it.'")] {
        if columns.iter().all(|(given, _)| *given != column) {
            all.push((column, otherwise));
        }
    }
    all.extend_from_slice(columns);
    let (names, values): (Vec<&str>, Vec<&str>) = all.into_iter().unzip();
    let statement =
        format!("insert into runs ({}) values ({}) returning id", names.join(", "), values.join(", "));
    sqlx::raw_sql(AssertSqlSafe(statement)).fetch_one(app.sql()).await.unwrap().get(0)
}

/// The columns of a run that is held by worker `arm-1`.
pub(crate) const RUNNING: &[(&str, &str)] = &[
    ("state", "'running'"),
    ("worker", "'arm-1'"),
    ("fence", "1"),
    ("lease_until", "now() + interval '1 hour'"),
    ("started_at", "now() - interval '90 s'"),
    ("container", "'3f2a9c1b7d04aa55'"),
];

/// The columns of a run whose worker fell silent.
pub(crate) const LOST: &[(&str, &str)] = &[
    ("state", "'lost'"),
    ("worker", "'arm-1'"),
    ("fence", "2"),
    ("lease_until", "now() - interval '1 hour'"),
    ("trouble", "'Worker arm-1 fell silent.'"),
];

/// The columns of a run that ended like this.
pub(crate) fn ended(outcome: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut columns = vec![
        ("state", "'ended'"),
        ("outcome", outcome),
        ("end_step", "'by_itself'"),
        ("confirmed_at", "'2026-11-03 14:02:17.204Z'"),
        ("ended_at", "'2026-11-03 14:02:17.3Z'"),
    ];
    if outcome == "'terminated'" {
        columns.extend_from_slice(STOP);
    }
    columns
}

/// The columns of a wish to stop.
pub(crate) const STOP: &[(&str, &str)] = &[
    ("wish", "'stop'"),
    ("wish_mode", "'graceful'"),
    ("wish_by_name", "'ada'"),
    ("wish_at", "now() - interval '20 s'"),
    ("wish_reason", "'enough'"),
];

/// Adds a worker, last heard of so many seconds ago.
pub(crate) async fn worker(app: &TestApp, name: &str, silent_s: i32) {
    let added = sqlx::query(
        "insert into workers (name, version, arch, page_size, kernel, engine, engine_ok, sandboxed, claude,
                              rehearsal, capacity, heard_at)
         values ($1, '0.1.0', 'aarch64', 65536, '6.12.9', 'Docker 29', true, true, null, false, 4,
                 now() - make_interval(secs => $2))",
    );
    added.bind(name).bind(f64::from(silent_s)).execute(app.sql()).await.unwrap();
}

/// Where a worker that nobody runs has its runs.
pub(crate) fn place(worker: &str) -> Place {
    Place { worker: worker.to_owned(), seat: "seat".to_owned(), engine: None }
}

/// Adds events to a run, one for each line; a line of JSON is of the kind that is named with it.
pub(crate) async fn events(app: &TestApp, run: i64, lines: &[(&str, &str, &str)]) {
    for (source, kind, payload) in lines {
        let added = sqlx::query(
            "with counted as (update runs set events = events + 1, last_event_at = now() where id = $1
                              returning events)
             insert into events (run_id, seq, at, source, kind, payload)
             select $1, events, now(), $2, $3, $4 from counted",
        );
        added.bind(run).bind(*source).bind(*kind).bind(*payload).execute(app.sql()).await.unwrap();
    }
}

/// The activity of a run that made this call so many seconds ago and waits for its answer, as SQL writes it.
pub(crate) fn in_call(tool: &str, gist: &str, s: u32) -> String {
    format!(
        r#"json_build_object('open', json_build_array(json_build_object('id', 'a', 'tool', '{tool}', 'gist', '{gist}',
            'since', to_char(now() at time zone 'utc' - interval '{s} s', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))))"#
    )
}

/// The value of an attribute, where it first occurs.
pub(crate) fn attribute<'a>(page: &'a Answer, name: &str) -> &'a str {
    let start =
        page.body.find(&format!(" {name}=\"")).unwrap_or_else(|| panic!("no {name} in {}", page.body));
    page.body[start + name.len() + 3..].split('"').next().unwrap()
}

/// The values of an attribute, in their order.
pub(crate) fn attributes<'a>(page: &'a Answer, name: &str) -> Vec<&'a str> {
    let opening = format!(" {name}=\"");
    page.body.split(opening.as_str()).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

/// Where the link with this `rel` leads.
pub(crate) fn link(page: &Answer, rel: &str) -> Option<String> {
    let rest = page.body.split(&format!("rel=\"{rel}\" href=\"")).nth(1)?;
    Some(rest.split('"').next()?.replace("&#38;", "&"))
}

/// Adds so many lines of text to a run that has none.
pub(crate) async fn lines(app: &TestApp, run: i64, lines: i64) {
    let fill = sqlx::query(
        "with lines as (insert into events (run_id, seq, at, source, kind, payload)
             select $1, n, now(), 'stdout', 'text', 'line ' || n from generate_series(1, $2) n)
         update runs set events = $2, last_event_at = now() where id = $1",
    );
    fill.bind(run).bind(lines).execute(app.sql()).await.unwrap();
}
