//! Live pages: how long until a change that is written and told reaches one viewer, and all of many; what a viewer weighs, and
//! whether that is given back when they leave; beside a bare actix stream of the same messages. `SIGNALBOX_BENCH_VIEWERS`
//! says how many.

#![expect(clippy::expect_used, reason = "a bench that can't go on ends here")]
#![expect(clippy::disallowed_methods, reason = "benches are told by the environment what to do")]

#[path = "support/bare.rs"]
mod bare;
#[path = "support/crowd.rs"]
mod crowd;
mod support;

use std::io::{Read, Write};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crowd::Crowd;
use rustix::process::{Resource, getrlimit, setrlimit};
use signalbox::model::run::RunId;
use signalbox::queue::{Notice, Queue};
use support::quiet::Quiet;
use support::{Http, Process, Sample, env, fresh_database, say, signalbox};

/// As the product's, so that a viewer of the floor weighs what it does for the same reasons.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 40;
/// Each holds a socket here, another one at the server.
const VIEWERS: usize = 10_000;
/// Changes that all of them see.
const CHANGES: usize = 10;
/// How long memory may take to be given back.
const GIVEN_BACK: Duration = Duration::from_secs(20);
/// Changes that nobody sees any more.
const GOODBYE: usize = 9000;

/// Somebody's runs, one of which changes again and again.
struct Changing {
    psql: std::process::Child,
    queue: Queue,
    runtime: tokio::runtime::Runtime,
}

impl Changing {
    fn new(url: &str) -> Self {
        let psql = Command::new("psql")
            .args(["-qX", url])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("psql");
        let fleet = std::env::var("SIGNALBOX_FLEET").unwrap_or_else(|_| "signalbox".to_owned());
        let queue = Queue::new(&env("REDIS_URL"), &fleet).expect("a URL");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
        Self { psql, queue, runtime }
    }

    /// Writes a change, as a worker does, and tells of it. Gives the time at which it was written.
    fn change(&mut self, words: &str) -> Instant {
        let psql = self.psql.stdin.as_mut().expect("piped");
        let update = format!(
            "update runs set title = '{words}' where id = (select max(id) from runs where state = 'running');\n\\echo done\n"
        );
        psql.write_all(update.as_bytes()).expect("writes");
        let mut done = [0; 5];
        self.psql.stdout.as_mut().expect("piped").read_exact(&mut done).expect("is written");
        let written = Instant::now();
        self.runtime.block_on(self.queue.notice(Notice::Changed(RunId(1)))).expect("tells");
        written
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}

/// The words by which a change will be known.
fn words(n: usize) -> String {
    format!("Change {n:04}.")
}

/// What became of many viewers of one server.
#[derive(Default)]
struct Seen {
    fan_out: Sample,
    /// KiB that each of them weighs, as they have come and after all changes, and what is left of that when they have gone.
    came: f64,
    changed: f64,
    gone: f64,
}

/// Lets many watch some changes.
fn many(
    server: &Process,
    viewers: usize,
    connect: impl FnOnce() -> Crowd,
    changes: std::ops::Range<usize>,
    mut change: impl FnMut(&str) -> Instant,
) -> Seen {
    let before = server.pss_kib();
    let each = |seen: f64| (seen - before) / viewers as f64;
    let crowd = connect();
    let mut seen = Seen { came: each(server.pss_kib()), ..Seen::default() };
    for n in changes {
        crowd.ask(&words(n));
        let began = change(&words(n));
        let all_have_it = crowd.wait();
        seen.fan_out.0.push((all_have_it - began).as_secs_f64() * 1000.0);
        std::thread::sleep(Duration::from_millis(300));
    }
    seen.changed = each(server.pss_kib());
    drop(crowd);
    // A server learns who has left when it writes to them.
    for n in 0..3 {
        change(&words(GOODBYE + n));
        std::thread::sleep(Duration::from_millis(300));
    }
    std::thread::sleep(GIVEN_BACK);
    seen.gone = each(server.pss_kib());
    seen
}

fn main() -> ExitCode {
    bare::serve_if_meant();
    let quiet = Quiet::begin();
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).expect("as many files as there may be");
    let viewers =
        std::env::var("SIGNALBOX_BENCH_VIEWERS").ok().and_then(|n| n.parse().ok()).unwrap_or(VIEWERS);

    let url = fresh_database("bench_live");
    let seed = ["seed", "--runs", "10000", "--events", "1000"];
    assert!(signalbox(&seed, &url).status().expect("runs").success());
    let serve = Process::start(&mut signalbox(&["serve"], &url));
    let mut changing = Changing::new(&url);
    let one = Http::signed_in(&serve.ready);

    let mut notices = support::notice::Bare::new();
    let mut noticed = Sample::default();
    let mut sample = Sample::default();
    let mut stream = one.watch("/live/runs");
    let mut message = String::new();
    for n in 0..ROUNDS {
        noticed.0.push(notices.ms());
        let written = changing.change(&words(n));
        message = stream.until(&words(n));
        sample.0.push(written.elapsed().as_secs_f64() * 1000.0);
        // So that the next is the first after a silence.
        std::thread::sleep(Duration::from_millis(150));
    }
    say(&sample.line("a change written → one viewer has it"));

    // The floor says the very same, before and after.
    let floor = Process::start(&mut bare::command("127.0.0.1:0"));
    let mut to_floor = Http::connect(&floor.ready);
    let last = words(ROUNDS - 1);
    let mut tell = |words: &str| {
        let began = Instant::now();
        to_floor.post("/tell", &format!("id: 0-0123456789abcdef\n{}\n", message.replace(&last, words)));
        began
    };
    let floor_host = floor.ready.trim_start_matches("http://").to_owned();
    let bare_crowd = || Crowd::new(&floor_host, "/live", "", viewers);
    // The first who come make what all others share.
    drop(Crowd::new(&floor_host, "/live", "", 10));
    std::thread::sleep(Duration::from_secs(1));
    let half = CHANGES / 2;
    let mut bare = many(&floor, viewers, bare_crowd, ROUNDS..ROUNDS + half, &mut tell);
    let ours = || Crowd::new(&one.host, "/live/runs", &one.cookie, viewers);
    let ours = many(&serve, viewers, ours, ROUNDS..ROUNDS + CHANGES, |words| changing.change(words));
    let again = many(&floor, viewers, bare_crowd, ROUNDS + half..ROUNDS + CHANGES, &mut tell);
    bare.fan_out.0.extend(again.fan_out.0);
    (0..ROUNDS).for_each(|_| noticed.0.push(notices.ms()));

    say(&format!(
        "{viewers} viewers, of messages of {:.1} KiB; none missed any",
        message.len() as f64 / 1024.0
    ));
    let names = ["ours", "bare actix"];
    for (seen, name) in [&ours, &bare].into_iter().zip(names) {
        say(&format!(
            "a viewer, {name:<12} {:.1} KiB; after all changes {:.1}; when they have gone {:.1}",
            seen.came, seen.changed, seen.gone
        ));
    }
    say(&format!("a viewer, ours − bare  {:.1} KiB   (goal: ours at most 10)", ours.changed - bare.changed));
    say(&ours.fan_out.line("a change written → all have it"));
    say(&bare.fan_out.line("bare actix: → all have it"));
    let ratio = ours.fan_out.median() / bare.fan_out.median();
    say(&format!("ours : bare            {ratio:.2}   (goal: ours at most 80 ms)"));
    quiet.end(&[("a notice to a bare listener", &noticed)])
}
