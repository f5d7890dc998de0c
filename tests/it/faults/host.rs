//! What a host may lack: file descriptors, somewhere to write its words, the right time. The real programs, and plain
//! processes for containers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use signalbox::model::run::{Outcome, Run, RunId, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::own::{Folder, Process, free_port};
use super::{BACK, SOON, pages, soon, start, started, stop, until_back};
use crate::app::{Browser, PASSWORD};
use crate::fleet::{Fleet, until};

/// An agent that says a word and lives until it is stopped; it notes the number of its process beside itself.
const AGENT: &str = r#"#!/bin/sh
[ "$1" = --version ] && { echo 2.1.0; exit; }
echo $$ >>"${0%/*}/pids"
echo '{"type":"system","subtype":"init","model":"none"}'
exec sleep 600
"#;

/// The real programs of one house, beside the fleet whose stores they use.
pub(crate) struct House {
    pub(crate) fleet: Fleet,
    folder: Folder,
    pub(crate) serve: Process,
    pub(crate) work: Process,
    pub(crate) ada: Browser,
    more: Vec<(&'static str, String)>,
}

impl House {
    pub(crate) async fn open(more: Vec<(&'static str, String)>, words: fn() -> Stdio) -> Self {
        let (fleet, folder) = (Fleet::new().await, Folder::new("house"));
        let agent = folder.path().join("agent");
        fs::write(&agent, AGENT).unwrap();
        fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
        let port = free_port();
        let listen = ("SIGNALBOX_LISTEN", format!("127.0.0.1:{port}"));
        let serve = program(&fleet, &folder, "serve", &[&more[..], &[listen]].concat(), words);
        let work = program(&fleet, &folder, "work", &more, words);
        let ada = Browser::new(([127, 0, 0, 1], port).into());
        let house = Self { fleet, folder, serve, work, ada, more };
        let listens = async || TcpStream::connect(("127.0.0.1", port)).await.is_ok();
        until("listening", listens).await;
        let answer = house.ada.post("/login", &[("name", "ada"), ("password", PASSWORD)]).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        house
    }

    fn restart_work(&mut self, words: fn() -> Stdio) {
        self.work.kill();
        self.work = program(&self.fleet, &self.folder, "work", &self.more, words);
    }

    /// Starts a run and waits until its process is there.
    pub(crate) async fn start(&self, once: &str) -> RunId {
        let before = self.pids().len();
        let run = started(&start(&self.ada, "x", once).await);
        self.fleet.until(run, "running", |run| run.state == State::Running).await;
        until("at work", async || self.pids().len() > before).await;
        run
    }

    fn pids(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.folder.path().join("pids")).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// How many of its agents live, by the kernel.
    fn living(&self) -> usize {
        let lives = |pid: &i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.contains("(sleep)") && !stat.contains(") Z")
        };
        self.pids().iter().filter(|pid| lives(pid)).count()
    }

    async fn over(&self, run: RunId) {
        let over = self.fleet.over_by_then(run).await;
        assert_eq!(over.outcome, Some(Outcome::Terminated), "{:?}", over.reason);
        assert_eq!(self.fleet.audit(run).await, ["run started", "stop wished"]);
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // What outlives a worker outlives a test.
        for pid in self.pids() {
            if fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains("(sleep)")) {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
        }
    }
}

fn program(
    fleet: &Fleet,
    folder: &Folder,
    command: &str,
    more: &[(&str, String)],
    words: fn() -> Stdio,
) -> Process {
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut program = Command::new(env!("CARGO_BIN_EXE_signalbox"));
    program.arg(command).env_clear().envs([
        ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
        ("DATABASE_URL", fleet.app.database_url.clone()),
        ("REDIS_URL", fleet.app.redis_url.clone()),
        ("SIGNALBOX_FLEET", fleet.app.fleet.clone()),
        ("SIGNALBOX_WORKER", "w1".to_owned()),
        ("SIGNALBOX_WORK_DIR", path("work")),
        ("SIGNALBOX_ENGINE", "process".to_owned()),
        ("SIGNALBOX_CLAUDE", path("agent")),
        ("ANTHROPIC_BASE_URL", "http://127.0.0.1:9".to_owned()),
    ]);
    program.envs(more.iter().map(|(name, value)| (name, value)));
    Process::start(program.stdout(words()).stderr(words()))
}

/// Sets how many file descriptors a process may have.
fn limit(process: &Process, descriptors: u32) {
    let mut prlimit = Command::new("prlimit");
    prlimit.arg("--pid").arg(process.pid().to_string()).arg(format!("--nofile={descriptors}:"));
    assert!(prlimit.status().unwrap().success());
}

/// A connection that is kept, and asked again.
struct Kept(TcpStream);

impl Kept {
    async fn ask(&mut self, browser: &Browser, target: &str) -> String {
        let host = browser.origin();
        let host = host.strip_prefix("http://").unwrap();
        let cookie = browser.cookie().unwrap_or_default();
        let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\ncookie: {cookie}\r\n\r\n");
        self.0.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let whole = async {
            while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
                assert!(self.0.read_buf(&mut answer).await.unwrap() > 0, "it hung up");
            }
        };
        timeout(SOON, whole).await.expect("an answer within 2 s");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

#[tokio::test]
async fn a_server_out_of_file_descriptors_answers_whom_it_has_and_takes_others_when_it_can() {
    let house = House::open(Vec::new(), Stdio::null).await;
    let address = house.ada.origin().strip_prefix("http://").unwrap().to_owned();
    let mut kept = Kept(TcpStream::connect(&address).await.unwrap());
    assert!(kept.ask(&house.ada, "/healthz").await.starts_with("HTTP/1.1 200"));
    limit(&house.serve, 3);
    assert!(kept.ask(&house.ada, "/healthz").await.starts_with("HTTP/1.1 200"));
    // They wait in the kernel's queue.
    let waiting = TcpStream::connect(&address).await.unwrap();
    limit(&house.serve, 1024);
    until_back(&house.ada, "/").await;
    drop(waiting);
    let run = house.start("once").await;
    assert_eq!(stop(&house.ada, run, "force", "").await.status, 303);
    house.over(run).await;
    assert_eq!(house.living(), 0);
}

#[tokio::test]
async fn a_worker_out_of_file_descriptors_claims_no_end_and_makes_good_when_it_can() {
    let house = House::open(Vec::new(), Stdio::null).await;
    let run = house.start("once").await;
    limit(&house.work, 3);
    assert_eq!(stop(&house.ada, run, "force", "").await.status, 303);
    let second = started(&start(&house.ada, "y", "once-2").await);
    for (page, answer) in pages(&house.ada).await {
        assert_eq!(answer.status, 200, "{page}");
    }
    // It may or may not manage to kill; what it says must be so.
    let told = |run: &Run| run.delivered_at().is_some() || run.state.is_over();
    let told = house.fleet.until(run, "told", told).await;
    assert!(told.outcome.is_none() || house.living() == 0, "{told:?}, and it lives");
    assert_eq!(house.fleet.run(second).await.outcome, None, "nobody wished that");
    limit(&house.work, 1024);
    house.over(run).await;
    let began = Instant::now();
    house.fleet.until(second, "running", |run| run.state == State::Running).await;
    assert!(began.elapsed() < BACK, "{:?}", began.elapsed());
    until("one agent", async || house.living() == 1).await;
}

fn full() -> Stdio {
    Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap())
}

#[tokio::test]
async fn words_that_go_to_a_full_device_are_lost_and_nothing_else_is() {
    let house = House::open(Vec::new(), full).await;
    for (page, answer) in pages(&house.ada).await {
        assert_eq!(answer.status, if page == "/runs/1" { 404 } else { 200 }, "{page}");
    }
    let run = house.start("once").await;
    assert_eq!(stop(&house.ada, run, "force", "").await.status, 303);
    house.over(run).await;
    assert_eq!(house.living(), 0);
}

/// The library that tells programs another time, where it is installed.
fn faketime() -> Option<PathBuf> {
    let libraries = fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path());
    libraries.map(|path| path.join("faketime/libfaketimeMT.so.1")).find(|path| path.exists())
}

#[tokio::test]
async fn a_clock_two_hours_ahead_or_behind_ends_no_run_no_lease_and_no_session() {
    let Some(library) = faketime() else { return };
    let clock = Folder::new("clock");
    let file = clock.path().join("offset");
    let set = |offset: &str| {
        fs::write(clock.path().join("next"), format!("{offset}\n")).unwrap();
        fs::rename(clock.path().join("next"), &file).unwrap();
    };
    set("+0");
    let more = vec![
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    let mut house = House::open(more, Stdio::null).await;
    // Shorter than the clock is wrong.
    sqlx::query("update agents set time_s = 1800").execute(house.fleet.app.sql()).await.unwrap();
    let run = house.start("once").await;
    for offset in ["+7200", "-7200"] {
        set(offset);
        for (page, answer) in pages(&house.ada).await {
            assert_eq!(answer.status, 200, "{offset} {page}");
        }
        let before = house.fleet.run(run).await.fence;
        house.restart_work(Stdio::null);
        let adopted = house.fleet.until(run, "adopted", |run| run.fence > before).await;
        assert_eq!((adopted.state, adopted.stop), (State::Running, None), "{offset}");
        let other = house.start(offset).await;
        assert_eq!(stop(&house.ada, other, "force", "").await.status, 303);
        house.over(other).await;
        assert_eq!((house.fleet.run(run).await.outcome, house.living()), (None, 1), "{offset}");
    }
    assert_eq!(soon("/", house.ada.get("/")).await.status, 200, "still signed in");
    assert_eq!(stop(&house.ada, run, "force", "").await.status, 303);
    house.over(run).await;
    assert_eq!(house.living(), 0);
}
