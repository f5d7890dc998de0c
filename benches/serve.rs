//! What `serve` costs: memory when nobody looks and with ten viewers on a million runs, and the time from its start to its first
//! answer; beside a bare actix server. `SIGNALBOX_BENCH_RUNS` says how many runs.

#![expect(clippy::expect_used, reason = "a bench that can't go on ends here")]
#![expect(clippy::disallowed_methods, reason = "benches are told by the environment what to do")]

#[path = "support/bare.rs"]
mod bare;
mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use support::quiet::Quiet;
use support::{Http, Process, Sample, env, fresh_database, say, signalbox};

/// As the product's.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RUNS: &str = "1000000";
const STARTS: usize = 20;
/// How long a process is left alone before it is weighed.
const AT_REST: Duration = Duration::from_secs(12);
/// What ten people look at.
const VIEWS: [&str; 10] = [
    "/live/runs",
    "/live/runs",
    "/live/runs",
    "/live/runs?state=failed",
    "/live/runs?state=running",
    "/live/runs?state=all",
    "/live/runs/1000",
    "/live/workers",
    "/live/health",
    "/live/health",
];

/// Milliseconds from the start of a program to its first answer on this port.
fn cold(listen: &str, mut program: Command) -> f64 {
    program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let mut child = program.spawn().expect("starts");
    while !answers(listen) {
        assert!(began.elapsed() < Duration::from_secs(10), "it doesn't answer");
        std::thread::sleep(Duration::from_micros(200));
    }
    let ms = began.elapsed().as_secs_f64() * 1000.0;
    child.kill().expect("is there");
    child.wait().expect("ends");
    ms
}

fn answers(listen: &str) -> bool {
    let asked = || -> std::io::Result<[u8; 12]> {
        let mut stream = TcpStream::connect(listen)?;
        stream.write_all(format!("GET /healthz HTTP/1.1\r\nhost: {listen}\r\n\r\n").as_bytes())?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status)
    };
    asked().is_ok_and(|status| &status == b"HTTP/1.1 200")
}

/// An address that nobody listens on.
fn free() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").to_string()
}

fn at_rest(process: &Process) -> f64 {
    std::thread::sleep(AT_REST);
    process.pss_mib()
}

fn main() -> ExitCode {
    bare::serve_if_meant();
    let quiet = Quiet::begin();
    env("REDIS_URL");
    let runs = std::env::var("SIGNALBOX_BENCH_RUNS").unwrap_or_else(|_| RUNS.to_owned());
    let url = fresh_database("bench_serve");
    assert!(
        signalbox(&["seed", "--runs", &runs, "--events", "1000"], &url).status().expect("runs").success()
    );
    assert!(
        Command::new("psql").args(["-qX", &url, "-c", "vacuum analyze"]).status().expect("psql").success()
    );

    let (mut ours, mut floor) = (Sample::default(), Sample::default());
    for start in 0..=STARTS {
        let (at, bare_at) = (free(), free());
        let mut serve = signalbox(&["serve"], &url);
        serve.env("SIGNALBOX_LISTEN", &at);
        let (ms, bare_ms) = (cold(&at, serve), cold(&bare_at, bare::command(&bare_at)));
        // The first one reads the program from the disk.
        if start > 0 {
            ours.0.push(ms);
            floor.0.push(bare_ms);
        }
    }
    let bare = Process::start(&mut bare::command("127.0.0.1:0"));
    let serve = Process::start(&mut signalbox(&["serve"], &url));
    let (idle, bare) = (at_rest(&serve), at_rest(&bare));
    let mut http = Http::signed_in(&serve.ready);
    let watching: Vec<_> = VIEWS.iter().map(|view| http.watch(view)).collect();
    for view in VIEWS {
        let page = view.trim_start_matches("/live").replacen("/runs?", "/?", 1);
        let page = if page == "/runs" { "/" } else { &page };
        assert_eq!(http.get(page).status, 200, "{page}");
    }
    let with_ten = at_rest(&serve);
    drop(watching);
    say(&format!("serve idle             {idle:.1} MiB   (goal: at most 10)"));
    say(&format!("bare actix idle        {bare:.1} MiB"));
    say(&format!("serve, ten viewers     {with_ten:.1} MiB on {runs} runs   (goal: at most 20)"));
    say(&ours.line("serve: start → first answer"));
    say(&floor.line("bare actix: start → first answer"));
    say(&format!("start: ours : bare     {:.2}   (goal: at most 25 ms)", ours.median() / floor.median()));
    quiet.end(&[("a bare start", &floor)])
}
