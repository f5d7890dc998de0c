//! From the POST to the death of the container: the whole path (guard, transaction, queue, worker, engine), beside
//! a bare kill through the engine's API of a container made the same way. In turns, in one run.

#![expect(clippy::expect_used, reason = "a bench that can't go on ends here")]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::query_parameters::{InspectContainerOptions, KillContainerOptionsBuilder};
use support::{Http, Process, Sample, env, fresh_database, say, signalbox};

const ROUNDS: usize = 20;

struct Bench {
    http: Http,
    docker: Docker,
    runtime: tokio::runtime::Runtime,
}

/// When the process was gone, and when the engine (or the page) said so; in ms after the order.
struct Death {
    gone: f64,
    confirmed: f64,
}

impl Bench {
    /// Starts a run and waits until its agent is at work; gives the run's path and its container's first process.
    fn start(&mut self) -> (String, i64) {
        let answer = self.http.post("/runs", "agent=claude-code&title=bench&prompt=scenario:+think");
        assert_eq!(answer.status, 303, "{}", answer.head);
        let path = answer.header("location").to_owned();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            assert!(Instant::now() < deadline, "{path} doesn't start");
            let page = self.page(&path);
            if page.contains("data-state=\"running\"") && page.contains("id=\"e1\"") {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        (path.clone(), self.pid(&path))
    }

    fn page(&mut self, path: &str) -> String {
        String::from_utf8_lossy(&self.http.get(path).body).into_owned()
    }

    fn name(path: &str) -> String {
        format!("signalbox-run-{}", path.rsplit('/').next().expect("an id"))
    }

    fn pid(&self, path: &str) -> i64 {
        let name = Self::name(path);
        let inspect = self.docker.inspect_container(&name, None::<InspectContainerOptions>);
        let answer = self.runtime.block_on(inspect).expect("inspects");
        answer.state.and_then(|state| state.pid).filter(|pid| *pid > 0).expect("a process")
    }

    /// Waits for a process to be gone, looking every 50 µs: milliseconds since `start`.
    fn gone(pid: i64, start: Instant) -> f64 {
        let proc = format!("/proc/{pid}");
        while Path::new(&proc).exists() {
            assert!(start.elapsed() < Duration::from_secs(20), "{pid} lives on");
            std::thread::sleep(Duration::from_micros(50));
        }
        start.elapsed().as_secs_f64() * 1000.0
    }

    fn bare_kill(&mut self) -> Death {
        let (path, pid) = self.start();
        let name = Self::name(&path);
        let start = Instant::now();
        let options = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        let docker = self.docker.clone();
        let kill = self.runtime.spawn(async move {
            docker.kill_container(&name, Some(options)).await.expect("kills");
            while docker
                .inspect_container(&name, None::<InspectContainerOptions>)
                .await
                .ok()
                .and_then(|answer| answer.state?.running)
                == Some(true)
            {}
            start.elapsed().as_secs_f64() * 1000.0
        });
        let gone = Self::gone(pid, start);
        let confirmed = self.runtime.block_on(kill).expect("confirms");
        self.until_ended(&path);
        Death { gone, confirmed }
    }

    fn terminate(&mut self) -> Death {
        let (path, pid) = self.start();
        let start = Instant::now();
        let waiting = std::thread::spawn(move || Self::gone(pid, start));
        let answer = self.http.post(&format!("{path}/terminate"), "mode=force");
        assert_eq!(answer.status, 303, "{}", answer.head);
        let confirmed = self.until_ended(&path);
        let gone = waiting.join().expect("is gone");
        let page = self.page(&path);
        assert!(page.contains("data-outcome=\"terminated\""), "{path} isn't terminated");
        Death { gone, confirmed: confirmed.duration_since(start).as_secs_f64() * 1000.0 }
    }

    fn until_ended(&mut self, path: &str) -> Instant {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.page(path).contains("data-state=\"ended\"") {
            assert!(Instant::now() < deadline, "{path} doesn't end");
            std::thread::sleep(Duration::from_millis(1));
        }
        Instant::now()
    }
}

fn main() {
    let standin = Process::start(Command::new(env("CLAUDE_STANDIN")).args(["--listen", "127.0.0.1:0"]));
    let url = fresh_database("bench_terminate");
    let serve = Process::start(&mut signalbox(&["serve"], &url));
    let mut work = signalbox(&["work"], &url);
    work.env("ANTHROPIC_BASE_URL", &standin.ready)
        .env("SIGNALBOX_ENGINE", "docker")
        .env("SIGNALBOX_WORKER", "bench");
    let _work = Process::start(&mut work);
    let docker_host = env("DOCKER_HOST");
    let docker =
        Docker::connect_with_unix(&docker_host, 30, bollard::API_DEFAULT_VERSION).expect("an engine");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("tokio");
    let docker = runtime.block_on(docker.negotiate_version()).expect("an engine");
    let mut bench = Bench { http: Http::signed_in(&serve.ready), docker, runtime };
    let mut samples: [Sample; 4] = Default::default();
    for round in 0..=ROUNDS {
        let (bare, ours) = (bench.bare_kill(), bench.terminate());
        if round > 0 {
            let times = [bare.gone, ours.gone, bare.confirmed, ours.confirmed];
            times.into_iter().zip(&mut samples).for_each(|(ms, sample)| sample.0.push(ms));
        }
    }
    let names = [
        "bare kill by the engine's API → process gone",
        "POST terminate, force → process gone",
        "bare kill → engine says it isn't running",
        "POST terminate → page says terminated",
    ];
    for (sample, name) in samples.iter().zip(names) {
        say(&sample.line(name));
    }
    let ratio = |a: usize, b: usize| samples[a].median() / samples[b].median();
    say(&format!("gone: ours : bare       {:.2}   (goal: at most 1.5)", ratio(1, 0)));
    say(&format!("confirmed: ours : bare  {:.2}", ratio(3, 2)));
}
