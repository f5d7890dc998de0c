//! The page of a run with a million events: at its end, in its middle, at its beginning and at any of them, beside the page of
//! a run with a hundred and a bare page of the same bytes behind the same question to Postgres. Looking for words in it. And a
//! run with very much log: opened anywhere, and taken away whole.
//!
//! `cargo bench --bench run -- 1000` makes that a gigabyte of log; it is 200 MB otherwise.

#![expect(clippy::expect_used, reason = "a bench that can't go on ends here")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use actix_web::{App, HttpResponse, HttpServer, web};
use bytes::Bytes;
use sqlx::postgres::{PgPool, PgPoolOptions};
use support::quiet::Quiet;
use support::{Http, Process, Sample, env, fresh_database, say, signalbox, timed};

/// Events of the runs that are compared.
const MANY: u64 = 1_000_000;
const FEW: u64 = 100;
/// A call's long output with the lines around it, in bytes and in events.
const PART_BYTES: u64 = 50_000;
const PART_EVENTS: u64 = 51;

const ROUNDS: usize = 300;
/// Rounds before anything is noted.
const WARM: usize = 30;
/// How often each thing is looked for.
const LOOKS: usize = 12;

/// Events like those that are there, again and again.
const LIKE_OTHERS: &str = "
    create temporary table others as
        select row_number() over (order by run_id, seq) - 1 as n, kind, payload from events
        where kind not in ('init', 'result') limit 20000;
    delete from events where run_id = :run;
    insert into events (run_id, seq, at, source, kind, payload)
    select :run, i, now() - interval '9 hours' + i * interval '20 ms', 'stdout', kind, payload
    from generate_series(1, :events) i join others on n = i % (select count(*) from others);
    update runs set events = :events, stdout_lines = :events where id = :run";

/// Outputs of some 45 kB, and fifty lines of some 100 bytes between two of them.
const LOG: &str = r#"
    create temporary table logs as
        select n, '{"type":"user","message":{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":"'
               || string_agg(format('%s  INFO builder::stage_%s built %s in %s ms', i, i % 7, md5((n * 1000 + i)::text), i * 31 % 977), '\n')
               || '"}]}}' as payload
        from generate_series(0, 99) n, generate_series(1, 630) i group by n;
    delete from events where run_id = :run;
    insert into events (run_id, seq, at, source, kind, payload)
    select :run, i, now() - interval '9 hours' + i * interval '20 ms', 'stdout',
           case when i % 51 = 0 then 'tool_result' else 'text' end,
           case when i % 51 = 0 then payload
                else format('%s  INFO builder::stage_%s waits for the lock of the package cache, attempt %s', i, i % 7, md5(i::text)) end
    from generate_series(1, :events) i left join logs on i % 51 = 0 and n = i / 51 % 100;
    update runs set events = :events, stdout_lines = :events where id = :run"#;

/// What takes most to draw: long answers with code in them, changes of files, and long outputs.
const RICH: &str = r#"
    delete from events where run_id = :run;
    insert into events (run_id, seq, at, source, kind, payload)
    select :run, i, now() - interval '9 hours' + i * interval '20 ms', 'stdout',
           (array['tool_use', 'assistant', 'tool_result'])[1 + i % 3],
           case i % 3
               when 1 then format('{"type":"assistant","message":{"content":[{"type":"text","text":"Now:\n\n## Step %s\n\nThe **second** caller finds `parts` empty, see [the notes](https://example.org/%s).\n\n```rust\n%s```\n\n| file | lines |\n|---|---|\n%s\n\nThat is all."}]}}', i, i,
                    (select string_agg(format('let deadline_%s = start + patience * %s; // not \"later\" than %s\n', md5((i * n)::text), n, i * n), '') from generate_series(1, 12) n),
                    (select string_agg(format('| `src/%s.rs` | %s |', md5((i + n)::text), i * n), '\n') from generate_series(1, 5) n))
               when 0 then format('{"type":"assistant","message":{"content":[{"type":"tool_use","name":"Edit","input":{"file_path":"/workspace/src/%s.rs","old_string":"%s","new_string":"%s"}}]}}', md5(i::text),
                    (select string_agg(format('    let part_%s = parts.pop(%s).unwrap();\n', n, i), '') from generate_series(1, 8) n),
                    (select string_agg(format('    let Some(part_%s) = parts.pop(%s) else { return \"none\" };\n', n, i), '') from generate_series(1, 8) n))
               else format('{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"toolu_1","content":"%s"}]}}',
                    (select string_agg(format('test queue::%s ... ok\n', md5((i * n)::text)), '') from generate_series(1, 60) n)) end
    from generate_series(1, :events) i;
    update runs set events = :events, stdout_lines = :events where id = :run"#;

/// Runs statements that take numbers by name, in one session; gives what they say.
fn psql(url: &str, variables: &[(&str, u64)], sql: &str) -> String {
    let mut command = Command::new("psql");
    command.args(["-qAtX", "-v", "ON_ERROR_STOP=1", url]).stdin(Stdio::piped()).stdout(Stdio::piped());
    for (name, value) in variables {
        command.arg("-v").arg(format!("{name}={value}"));
    }
    let mut child = command.spawn().expect("psql");
    child.stdin.take().expect("piped").write_all(sql.as_bytes()).expect("reads");
    let done = child.wait_with_output().expect("ends");
    assert!(done.status.success(), "{sql}");
    String::from_utf8(done.stdout).expect("text")
}

/// The floor: what the guard asks, and the bytes.
async fn bare(floor: web::Data<(PgPool, Vec<Bytes>)>, n: web::Path<usize>) -> HttpResponse {
    let who = "select u.id, u.name, u.role from sessions s join users u on u.id = s.user_id
               where s.expires_at > now() and u.disabled_at is null limit 1";
    sqlx::query(who).fetch_one(&floor.0).await.expect("somebody is signed in");
    HttpResponse::Ok().content_type("text/html; charset=utf-8").body(floor.1[*n].clone())
}

fn serve_bare(database_url: String, pages: Vec<Bytes>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let pool = PgPoolOptions::new().test_before_acquire(false).connect(&database_url).await;
            let floor = web::Data::new((pool.expect("connects"), pages));
            let app = move || App::new().app_data(floor.clone()).route("/{n}", web::get().to(bare));
            HttpServer::new(app).workers(2).listen(listener).expect("listens").run().await
        })
    });
    url
}

/// How large a page is on its way, as a proxy compresses it.
fn compressed(page: &[u8]) -> usize {
    let mut gzip = Command::new("gzip");
    let gzip = gzip.args(["-c", "-5"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut gzip = gzip.spawn().expect("gzip");
    let mut stdin = gzip.stdin.take().expect("piped");
    let page = page.to_vec();
    let writing = std::thread::spawn(move || stdin.write_all(&page).expect("reads"));
    let size = gzip.wait_with_output().expect("ends").stdout.len();
    writing.join().expect("written");
    size
}

/// A file that was taken away.
struct Taken {
    first_byte_ms: f64,
    bytes: usize,
    seconds: f64,
    /// What `serve` had before, and the most it had meanwhile, in MiB.
    before: f64,
    most: f64,
}

fn take_away(serve: &Process, http: &Http, path: &str) -> Taken {
    let before = serve.resident_mib();
    let mut stream = TcpStream::connect(&http.host).expect("connects");
    let (host, cookie) = (&http.host, &http.cookie);
    let began = Instant::now();
    let ask = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\ncookie: {cookie}\r\nconnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).expect("writes");
    let (mut most, mut bytes, mut looked, mut first) = (before, 0, 0, None);
    let mut head = Vec::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = stream.read(&mut buffer).expect("reads");
        if read == 0 {
            break;
        }
        bytes += read;
        if first.is_none() {
            head.extend_from_slice(&buffer[..read]);
            let body = head.windows(4).position(|four| four == b"\r\n\r\n");
            if body.is_some_and(|at| head.len() > at + 4) {
                assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
                first = Some(began.elapsed());
            }
        }
        if bytes - looked > 8 << 20 {
            (looked, most) = (bytes, most.max(serve.resident_mib()));
        }
    }
    let first_byte_ms = first.expect("a body").as_secs_f64() * 1000.0;
    Taken { first_byte_ms, bytes, seconds: began.elapsed().as_secs_f64(), before, most }
}

/// Numbers that look drawn, the same ones each time.
fn draw(round: usize, below: u64) -> u64 {
    (round as u64).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) % below + 1
}

/// The pages of a run: at its end, in its middle, at its beginning, at one of its events.
fn pages(run: u64, events: u64, round: usize) -> [String; 4] {
    let at = draw(round, events);
    [
        format!("/runs/{run}"),
        format!("/runs/{run}?before={}", events / 2),
        format!("/runs/{run}?after=1"),
        format!("/runs/{run}?at={at}"),
    ]
}

/// What is looked for in the long run: what is there often, seldom, only as a kind, nowhere.
const SOUGHT: [(&str, &str); 6] = [
    ("a common word", "find?q=deadline"),
    ("what tools gave with it", "find?q=borrow+of+moved&what=outputs"),
    ("all errors", "find?what=errors"),
    ("the last call", "find?what=calls&to=last"),
    ("a call from the middle on", "find?what=calls&to=next&from=500000"),
    ("what is nowhere", "find?q=nowhere-to-be-found"),
];

fn main() -> ExitCode {
    let quiet = Quiet::begin();
    env("REDIS_URL");
    let megabytes = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(200);
    let log_events: u64 = megabytes * 1_000_000 / PART_BYTES * PART_EVENTS;
    let url = fresh_database("bench_run");
    let seed = ["seed", "--runs", "2000", "--events", "40000"];
    assert!(signalbox(&seed, &url).status().expect("runs").success());
    let ended = "select id from runs where state = 'ended' order by id desc limit 4";
    let runs: Vec<u64> = psql(&url, &[], ended).lines().map(|id| id.parse().expect("a number")).collect();
    for (run, events, sql) in [
        (runs[0], MANY, LIKE_OTHERS),
        (runs[1], FEW, LIKE_OTHERS),
        (runs[2], log_events, LOG),
        (runs[3], FEW, RICH),
    ] {
        psql(&url, &[("run", run), ("events", events)], sql);
    }
    psql(&url, &[], "vacuum analyze");

    let serve = Process::start(&mut signalbox(&["serve"], &url));
    let mut http = Http::signed_in(&serve.ready);
    let bodies: Vec<Bytes> =
        [runs[0], runs[2]].iter().map(|run| http.get(&format!("/runs/{run}")).body.into()).collect();
    let mut floor = Http::connect(&serve_bare(url.clone(), bodies));
    let mut samples: Vec<Sample> = (0..12).map(|_| Sample::default()).collect();
    let mut largest = [0; 4];
    for round in 0..ROUNDS + WARM {
        let (many, log) = (pages(runs[0], MANY, round), pages(runs[2], log_events, round));
        let mut note = |n: usize, http: &mut Http, path: &str| {
            let (ms, answer) = timed(|| http.get(path));
            assert_eq!(answer.status, 200, "{path}: {}", answer.head);
            if round >= WARM {
                samples[n].0.push(ms);
            }
            answer.body
        };
        for (n, path) in many.iter().chain(&log).enumerate() {
            let body = note(n, &mut http, path);
            if round % 30 == 0 {
                largest[n / 4] = compressed(&body).max(largest[n / 4]);
            }
        }
        let body = note(8, &mut http, &format!("/runs/{}", runs[1]));
        if round == 0 {
            largest[2] = compressed(&body);
        }
        let body = note(11, &mut http, &format!("/runs/{}", runs[3]));
        if round == 0 {
            largest[3] = compressed(&body);
        }
        note(9, &mut floor, "/0");
        note(10, &mut floor, "/1");
    }
    let names = [
        "1,000,000 events, at the tail",
        "… in the middle",
        "… at the beginning",
        "… at any event",
        "very much log, at the tail",
        "… in the middle",
        "… at the beginning",
        "… at any event",
        "100 events",
        "a bare page, the bytes of the first",
        "a bare page, the bytes of the log's tail",
        "100 events of long answers, code and changes",
    ];
    say(&format!("very much log: {megabytes} MB, {log_events} events"));
    for (sample, name) in samples.iter().zip(names) {
        say(&format!("{}   p99 {:.2} ms", sample.line(name), sample.at(0.99)));
    }
    let ratio = |a: usize, b: usize| samples[a].median() / samples[b].median();
    say(&format!("1,000,000 : 100 events      {:.2}", ratio(0, 8)));
    say(&format!("any event : tail            {:.2}", ratio(3, 0)));
    say(&format!("1,000,000 : bare            {:.2}   (goal: 10 ms at most)", ratio(0, 9)));
    say(&format!("very much log : bare        {:.2}   (goal: 50 ms at most)", ratio(4, 10)));
    let kib = largest.map(|bytes| bytes as f64 / 1024.0);
    say(&format!(
        "largest page, compressed    {:.1} KiB, {:.1} KiB of log, {:.1} KiB of 100 events, {:.1} KiB of long ones (goal: at most 60)",
        kib[0], kib[1], kib[2], kib[3]
    ));
    for (name, path) in SOUGHT {
        let mut sample = Sample::default();
        for round in 0..LOOKS + 2 {
            let path = format!("/runs/{}/{path}", runs[0]);
            let (ms, answer) = timed(|| http.get(&path));
            assert!(answer.status == 200 || answer.status == 303, "{path}: {}", answer.head);
            if round >= 2 {
                sample.0.push(ms);
            }
        }
        say(&format!("{}   p99 {:.1} ms", sample.line(&format!("looking for {name}")), sample.at(0.99)));
    }
    let whole = format!("/runs/{}/events/{}", runs[2], PART_EVENTS * 7);
    let mut one = Sample::default();
    one.0.extend((0..50).map(|_| timed(|| http.get(&whole)).0));
    say(&one.line("one output whole, as a file"));
    let taken = take_away(&serve, &http, &format!("/runs/{}/transcript.jsonl", runs[2]));
    say(&format!(
        "all of the log as a file    first byte {:.1} ms; {:.0} MB in {:.1} s; serve {:.1} MiB before, {:.1} MiB at most, {:.1} MiB after",
        taken.first_byte_ms,
        taken.bytes as f64 / 1e6,
        taken.seconds,
        taken.before,
        taken.most,
        serve.resident_mib()
    ));
    assert!(taken.most < taken.before + 64.0, "what is taken away piles up");
    quiet.end(&[("the bare page", &samples[9])])
}
