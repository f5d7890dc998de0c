//! Events into Postgres: what a worker does with the lines that its containers print, beside a bare COPY of the same rows.

#![expect(clippy::expect_used, reason = "a bench that can't go on ends here")]

mod support;

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Instant;

use signalbox::db::{Batch, Db, Lease, Role};
use signalbox::model::event::{Event, Line, Source};
use signalbox::model::worker::{HostFacts, Place};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};
use support::quiet::Quiet;
use support::{Sample, env, fresh_database, say};
use time::OffsetDateTime;

/// Rows of a round.
const ROWS: usize = 20_000;
/// Lines that a worker stores at once when many come, as `worker::pump` has it.
const BATCH: usize = 1000;
const ROUNDS: usize = 25;
/// Rounds before anything is noted.
const WARM: usize = 3;
/// Runs that print at the same time.
const AT_ONCE: usize = 4;

/// Lines as agents print them: a few hundred bytes, a few kilobytes now and then.
fn lines() -> Vec<String> {
    let text =
        "The test waits for a clock instead of a condition; that explains why it fails one time in ten. ";
    let line = |n: usize| match n % 6 {
        0 => format!(
            r#"{{"type":"assistant","message":{{"role":"assistant","content":[{{"type":"text","text":"{}"}}],"usage":{{"input_tokens":{n},"output_tokens":61}}}}}}"#,
            text.repeat(1 + n % 3)
        ),
        1 | 3 => format!(
            r#"{{"type":"assistant","message":{{"role":"assistant","content":[{{"type":"tool_use","id":"toolu_{n:024}","name":"Bash","input":{{"command":"cargo test --workspace 2>&1 | tail -40","description":"{}"}}}}]}}}}"#,
            &text[..40]
        ),
        5 => format!("warning: unused variable: `n{n}`"),
        _ => format!(
            r#"{{"type":"user","message":{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"toolu_{n:024}","content":"{}"}}]}}}}"#,
            text.repeat(if n.is_multiple_of(40) { 30 } else { 2 })
        ),
    };
    (0..ROWS).map(line).collect()
}

/// What a worker makes of lines.
fn batches(lines: &[String], after: i64) -> impl Iterator<Item = Batch> {
    lines.chunks(BATCH).enumerate().map(move |(n, chunk)| {
        let first = after + (n * BATCH) as i64 + 1;
        let event = |(seq, line): (i64, &String)| {
            let line = Line::read(Source::Stdout, line.as_bytes(), 0);
            let (source, at) = (Source::Stdout, OffsetDateTime::UNIX_EPOCH);
            Event { seq, at, source, kind: line.kind, cut: line.cut, payload: line.payload }
        };
        Batch { events: (first..).zip(chunk).map(event).collect(), ..Batch::default() }
    })
}

/// Stores them under the run's lease, one after the other.
async fn store(db: &Db, lease: &Lease, batches: impl IntoIterator<Item = Batch>) {
    for batch in batches {
        db.append(lease, &batch).await.expect("stored");
    }
}

/// The rows as COPY reads them.
fn rows(lines: &[String], run: usize) -> Vec<String> {
    let row = |(seq, line): (usize, &String)| {
        let read = Line::read(Source::Stdout, line.as_bytes(), 0);
        let mut text = format!("{run}\t{seq}\t1970-01-01 00:00:00+00\tstdout\t{}\t0\t", read.kind.word());
        for c in read.payload.chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                c => text.push(c),
            }
        }
        writeln!(text).expect("a string");
        text
    };
    (1..).zip(lines).map(row).collect()
}

async fn copy(connection: &mut PgConnection, rows: String) {
    let mut copy = connection.copy_in_raw("copy bare from stdin").await.expect("begins");
    copy.send(rows.into_bytes()).await.expect("sent");
    copy.finish().await.expect("stored");
}

/// Leases on runs that were just begun.
async fn leases(url: &str, db: &Db, connection: &mut PgConnection) -> Vec<Lease> {
    let begin = "insert into runs (agent_id, title, prompt, asked_by, asked_by_name)
                 select (select min(id) from agents), 'A run', 'x', id, name
                 from users, generate_series(1, 4)";
    connection.execute(begin).await.expect("begun");
    let place = Place { worker: "bench".into(), seat: "seat".into(), engine: None };
    db.heartbeat(&place.worker, &place.seat, &HostFacts::default(), true).await.expect(url);
    let mut leases = Vec::new();
    for _ in 0..AT_ONCE {
        leases.push(db.claim(&place, &[0; 32]).await.expect("Postgres answers").expect("a run waits").lease);
    }
    leases
}

async fn measure(url: &str) -> [Sample; 5] {
    let db = Db::new(url, Role::Worker, 10).expect("a URL");
    let mut connection = PgConnection::connect(url).await.expect("connects");
    connection.execute("create table bare (like events including all)").await.expect("made");
    let (lines, leases) = (lines(), leases(url, &db, &mut connection).await);
    let bytes: usize = lines.iter().map(String::len).sum();
    say(&format!("{ROWS} rows a round, {} bytes each on average", bytes / ROWS));
    let mut samples: [Sample; 5] = Default::default();
    let mut stored = [0; AT_ONCE];
    for round in 0..ROUNDS + WARM {
        let mut note = |n: usize, began: Instant| {
            if round >= WARM {
                samples[n].0.push(began.elapsed().as_secs_f64() * 1000.0);
            }
        };
        let (whole, cut) = (rows(&lines, 2 * round), rows(&lines, 2 * round + 1));
        let ready: Vec<Batch> = batches(&lines, stored[0]).collect();
        let began = Instant::now();
        store(&db, &leases[0], ready).await;
        note(0, began);
        stored[0] += ROWS as i64;

        let whole = whole.concat();
        let began = Instant::now();
        copy(&mut connection, whole).await;
        note(1, began);

        let began = Instant::now();
        store(&db, &leases[0], batches(&lines, stored[0])).await;
        note(2, began);
        stored[0] += ROWS as i64;

        let began = Instant::now();
        let each = leases.iter().zip(&stored).zip(lines.chunks(ROWS / AT_ONCE));
        let each = each.map(|((lease, after), lines)| store(&db, lease, batches(lines, *after)));
        futures_util::future::join_all(each).await;
        note(3, began);
        stored.iter_mut().for_each(|stored| *stored += (ROWS / AT_ONCE) as i64);

        let cut: Vec<String> = cut.chunks(BATCH).map(<[String]>::concat).collect();
        let began = Instant::now();
        for rows in cut {
            copy(&mut connection, rows).await;
        }
        note(4, began);
        connection.execute("truncate bare").await.expect("emptied");
    }
    samples
}

fn main() -> ExitCode {
    env("REDIS_URL");
    let quiet = Quiet::begin();
    let url = fresh_database("bench_events");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let samples = runtime.expect("a runtime").block_on(measure(&url));
    let names = [
        "one run: stored",
        "bare COPY of the same rows",
        "one run: read and stored",
        "four runs at once: read and stored",
        "bare COPY, in thousands",
    ];
    for (sample, name) in samples.iter().zip(names) {
        let rate = ROWS as f64 / sample.median();
        say(&format!("{}   {rate:.1} thousand rows/s", sample.line(name)));
    }
    let ratio = |n: usize| samples[1].median() / samples[n].median();
    say(&format!("bare COPY : one run    {:.2}   (goal: at least 0.6)", ratio(0)));
    say(&format!("bare COPY : four runs  {:.2}", ratio(3)));
    quiet.end(&[(names[1], &samples[1])])
}
