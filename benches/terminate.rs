//! From the click to the death of the container, by the whole path (guard, transaction, queue, worker, host and engine), beside a
//! bare kill through the engine's API, `docker kill`, `docker stop`, and the host's own kill, of containers made the same
//! way; and a hundred at once beside `docker kill` of a hundred. In turns, in one run.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a bench that can't go on ends here")]
#![expect(clippy::disallowed_methods, reason = "what is measured is held against the time on a page")]

#[path = "../tests/engine/image.rs"]
mod image;
mod support;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::query_parameters::{InspectContainerOptions, KillContainerOptionsBuilder};
use signalbox::engine::host::Host;
use support::peer::{Peer, Peers};
use support::quiet::Quiet;
use support::{Http, Process, Sample, env, fresh_database, say, signalbox};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const ROUNDS: usize = 20;
/// `docker stop` waits ten seconds for an agent that ignores SIGTERM.
const SLOW_ROUNDS: usize = 2;
const CROWD: usize = 100;
const CROWD_ROUNDS: usize = 3;
/// An agent that ends by SIGKILL alone.
const AGENT: &str = "trap '' INT TERM; echo up; while :; do sleep 1; done";
const IMAGE: &str = "signalbox-bench-agent:latest";

struct Bench {
    http: Http,
    /// A second browser, signed in by itself.
    second: Http,
    docker: Docker,
    host: Host,
    runtime: tokio::runtime::Runtime,
}

/// A run at work.
struct Running {
    path: String,
    container: String,
    pid: i64,
}

impl Bench {
    /// Starts runs and waits until their agents are at work.
    fn start(&mut self, runs: usize) -> Vec<Running> {
        let form =
            format!("agent=claude-code&title=bench&prompt={}", AGENT.replace(' ', "+").replace(';', "%3B"));
        // One after the other: an engine that starts a hundred at once does nothing else for a minute.
        (0..runs)
            .map(|_| {
                let answer = self.http.post("/runs", &form);
                assert_eq!(answer.status, 303, "{}", answer.head);
                let path = answer.header("location").to_owned();
                self.at_work(path)
            })
            .collect()
    }

    fn at_work(&mut self, path: String) -> Running {
        let deadline = Instant::now() + Duration::from_secs(300);
        loop {
            assert!(Instant::now() < deadline, "{path} doesn't start");
            let page = page(&mut self.http, &path);
            if page.contains("data-state=\"running\"") && page.contains("id=\"e1\"") {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let name = format!("signalbox-run-{}", path.rsplit('/').next().expect("an id"));
        let inspect = self.docker.inspect_container(&name, None::<InspectContainerOptions>);
        let found = self.runtime.block_on(inspect).expect("inspects");
        let pid = found.state.and_then(|state| state.pid).filter(|pid| *pid > 0).expect("a process");
        Running { path, container: found.id.expect("an id"), pid }
    }

    fn one(&mut self) -> Running {
        self.start(1).remove(0)
    }

    /// A bare kill by the engine's API: milliseconds until the process is gone, and until the engine says so.
    fn bare_kill(&mut self) -> (f64, f64) {
        let Running { path, container, pid } = self.one();
        let start = Instant::now();
        let docker = self.docker.clone();
        let kill = self.runtime.spawn(async move {
            let options = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
            docker.kill_container(&container, Some(options)).await.expect("kills");
            let inspect =
                async || docker.inspect_container(&container, None::<InspectContainerOptions>).await;
            while inspect().await.ok().and_then(|answer| answer.state?.running) == Some(true) {}
            ms(start)
        });
        let gone = gone(pid, start);
        let confirmed = self.runtime.block_on(kill).expect("confirms");
        self.until_ended(&path);
        (gone, confirmed)
    }

    /// Milliseconds until the process is gone after an order that is given by itself.
    fn ordered(&mut self, order: impl FnOnce(&Self, &Running)) -> f64 {
        let running = self.one();
        self.host.learn(&running.container);
        let (start, pid) = (Instant::now(), running.pid);
        let waiting = std::thread::spawn(move || gone(pid, start));
        order(self, &running);
        let gone = waiting.join().expect("is gone");
        self.until_ended(&running.path);
        gone
    }

    fn host_kill(&mut self) -> f64 {
        self.ordered(|bench, running| {
            bench.host.kill(&running.container).expect("kills");
        })
    }

    /// By the whole path: milliseconds until the process is gone, until an open page says so, and from the evidence until that
    /// page, a second browser's, has it.
    fn terminate(&mut self) -> (f64, f64, f64) {
        let Running { path, pid, .. } = self.one();
        let mut watched = self.second.watch(&format!("/live{path}"));
        let start = Instant::now();
        let waiting = std::thread::spawn(move || gone(pid, start));
        let answer = self.http.post(&format!("{path}/terminate"), "mode=force");
        assert_eq!(answer.status, 303, "{}", answer.head);
        let message = watched.until(r#"data-state=\"ended\""#);
        let (told, seen_at) = (ms(start), OffsetDateTime::now_utc());
        assert!(message.contains(r#"data-outcome=\"terminated\""#), "{path} isn't terminated");
        let page = page(&mut self.second, &path);
        let (_, rest) = page.split_once("data-confirmed=\"").expect("evidence");
        let proven = OffsetDateTime::parse(rest.split('"').next().unwrap(), &Rfc3339).expect("a time");
        (waiting.join().expect("is gone"), told, (seen_at - proven).as_seconds_f64() * 1000.0)
    }

    /// A hundred by one click: milliseconds until all are gone, and until all are proven.
    fn crowd(&mut self) -> (f64, f64) {
        let crowd = self.start(CROWD);
        let upto = crowd.last().unwrap().path.rsplit('/').next().unwrap().to_owned();
        let start = Instant::now();
        let pids: Vec<i64> = crowd.iter().map(|running| running.pid).collect();
        let waiting =
            std::thread::spawn(move || pids.iter().map(|pid| gone(*pid, start)).fold(0.0, f64::max));
        let answer = self.http.post("/stops", &format!("state=running&upto={upto}&mode=force"));
        assert_eq!(answer.status, 303, "{}", answer.head);
        let path = answer.header("location").to_owned();
        while !page(&mut self.second, &path).contains("data-unproven=\"0\"") {
            assert!(start.elapsed() < Duration::from_secs(60), "{path} isn't done");
            std::thread::sleep(Duration::from_millis(10));
        }
        let proven = ms(start);
        (waiting.join().expect("all gone"), proven)
    }

    /// `docker kill` of a hundred.
    fn bare_crowd(&mut self) -> f64 {
        let crowd = self.start(CROWD);
        let start = Instant::now();
        let pids: Vec<i64> = crowd.iter().map(|running| running.pid).collect();
        let waiting =
            std::thread::spawn(move || pids.iter().map(|pid| gone(*pid, start)).fold(0.0, f64::max));
        let all: Vec<&str> = crowd.iter().map(|running| running.container.as_str()).collect();
        docker(&[&["kill"], &all[..]].concat());
        let gone = waiting.join().expect("all gone");
        crowd.iter().for_each(|running| self.until_ended(&running.path));
        gone
    }

    fn until_ended(&mut self, path: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !page(&mut self.http, path).contains("data-state=\"ended\"") {
            assert!(Instant::now() < deadline, "{path} doesn't end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn page(http: &mut Http, path: &str) -> String {
    String::from_utf8_lossy(&http.get(path).body).into_owned()
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

/// Waits for a process to be gone, looking every 50 µs: milliseconds since `start`. A zombie runs no more code.
fn gone(pid: i64, start: Instant) -> f64 {
    let stat = format!("/proc/{pid}/stat");
    loop {
        let state = std::fs::read_to_string(Path::new(&stat)).unwrap_or_default();
        let state = state.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
        if matches!(state, None | Some('Z' | 'X')) {
            return ms(start);
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{pid} lives on");
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn docker(arguments: &[&str]) {
    let done = Command::new("docker").args(arguments).stdout(Stdio::null()).status().expect("docker");
    assert!(done.success(), "docker {arguments:?}");
}

fn make_image(address: &str) {
    let root = std::env::temp_dir().join(format!("signalbox-bench-image-{}", std::process::id()));
    let scripts = [
        ("bin/claude", "#!/bin/sh\nexec sh -c \"$(cat)\"\n"),
        ("entrypoint", "#!/bin/sh\nexec \"$@\" </gate/prompt\n"),
    ];
    image::make(address, IMAGE, &root, &["sh", "sleep", "cat"], &scripts);
}

fn main() -> ExitCode {
    let docker_host = env("DOCKER_HOST");
    let quiet = Quiet::begin();
    make_image(&docker_host);
    let url = fresh_database("bench_terminate");
    let serve = Process::start(&mut signalbox(&["serve"], &url));
    let mut work = signalbox(&["work"], &url);
    work.env("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
        .env("SIGNALBOX_ENGINE", "docker")
        .env("SIGNALBOX_IMAGE", IMAGE)
        .env("SIGNALBOX_CAPACITY", "100")
        .env("SIGNALBOX_WORKER", "bench");
    let _work = Process::start(&mut work);
    let docker_api =
        Docker::connect_with_unix(&docker_host, 30, bollard::API_DEFAULT_VERSION).expect("an engine");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("tokio");
    let docker_api = runtime.block_on(docker_api.negotiate_version()).expect("an engine");
    let mut bench = Bench {
        http: Http::signed_in(&serve.ready),
        second: Http::signed_in(&serve.ready),
        docker: docker_api,
        host: Host::default(),
        runtime,
    };
    let floor = measure(&mut bench, queues(&Peers::install()));
    quiet.end(&[("the host's own kill", &floor)])
}

/// Other queues, and the orders by which they end a plain process.
fn queues(peers: &Peers) -> Vec<(&'static str, Peer, Sample)> {
    let programs: [(_, &[&str]); 3] = [
        ("Celery: revoke(terminate=True), SIGKILL", &["venv/bin/python", "celery_revoke.py"]),
        ("rq: send_stop_job_command", &["venv/bin/python", "rq_stop.py"]),
        ("BullMQ: cancelJob, and the job's own kill", &["node", "bullmq_cancel.mjs"]),
    ];
    let start = |(name, program)| Some((name, peers.start(name, program, &[])?, Sample::default()));
    programs.into_iter().filter_map(start).collect()
}

/// Gives what the host's own kill took, from the beginning to the end.
fn measure(bench: &mut Bench, mut queues: Vec<(&str, Peer, Sample)>) -> Sample {
    let names = [
        "bare kill by the engine's API → process gone",
        "click, force → process gone",
        "the host's own kill → process gone",
        "docker kill → process gone",
        "bare kill → engine says it isn't running",
        "click → an open page says terminated",
        "evidence → a second browser has it",
        "docker stop → process gone",
        "100: docker kill → all gone",
        "100: one click → all gone",
        "100: one click → all proven",
    ];
    let mut samples: [Sample; 11] = Default::default();
    // `cargo bench --bench terminate -- click`: ours alone.
    if std::env::args().any(|argument| argument == "click") {
        for round in 0..=ROUNDS {
            let ours = bench.terminate();
            if round > 0 {
                let times = [(1, ours.0), (2, bench.host_kill()), (5, ours.1), (6, ours.2)];
                times.into_iter().for_each(|(n, ms)| samples[n].0.push(ms));
            }
        }
        [1, 5, 6].into_iter().for_each(|n| say(&samples[n].line(names[n])));
        return std::mem::take(&mut samples[2]);
    }
    for round in 0..=ROUNDS {
        let (bare, ours) = (bench.bare_kill(), bench.terminate());
        let by_host = bench.host_kill();
        let by_docker = bench.ordered(|_, running| docker(&["kill", &running.container]));
        for (_, queue, sample) in &mut queues {
            let ms = queue.ms();
            if round > 0 {
                sample.0.push(ms);
            }
        }
        if round > 0 {
            let times = [bare.0, ours.0, by_host, by_docker, bare.1, ours.1, ours.2];
            times.into_iter().zip(&mut samples).for_each(|(ms, sample)| sample.0.push(ms));
        }
    }
    for _ in 0..SLOW_ROUNDS {
        samples[7].0.push(bench.ordered(|_, running| docker(&["stop", &running.container])));
    }
    for _ in 0..CROWD_ROUNDS {
        samples[8].0.push(bench.bare_crowd());
        let (gone, proven) = bench.crowd();
        samples[9].0.push(gone);
        samples[10].0.push(proven);
    }
    samples.iter().zip(names).for_each(|(sample, name)| say(&sample.line(name)));
    queues.iter().for_each(|(name, _, sample)| say(&sample.line(name)));
    let ratio = |a: usize, b: usize| samples[a].median() / samples[b].median();
    say(&format!("gone: click : bare kill          {:.2}   (goal: at most 1.3)", ratio(1, 0)));
    say(&format!("confirmed: click : bare kill     {:.2}", ratio(5, 4)));
    say(&format!("100: one click : docker kill     {:.2}   (goal: at most 2)", ratio(9, 8)));
    let [_, _, mut by_host, ..] = samples;
    (0..ROUNDS / 2).for_each(|_| by_host.0.push(bench.host_kill()));
    by_host
}
