//! From the moment that an agent says something until a frame in Chromium shows it: through the engine's output, the worker and
//! its batches, Postgres, Redis, the server and its own pauses, and the page. Beside an event that is pushed straight to a page.

#![expect(clippy::expect_used, reason = "a bench that can't go on ends here")]

mod support;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use support::quiet::Quiet;
use support::{Http, Process, Sample, fresh_database, say, signalbox};

const EVENTS: &str = "200";

fn main() -> ExitCode {
    let quiet = Quiet::begin();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let playwright = here.join("tests/browser/node_modules/playwright-core");
    assert!(playwright.exists(), "there is no {}; npm ci there brings it", playwright.display());
    let url = fresh_database("bench_frame");
    let serve = Process::start(&mut signalbox(&["serve"], &url));
    let mut work = signalbox(&["work"], &url);
    work.env("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
        .env("SIGNALBOX_ENGINE", "process")
        .env("SIGNALBOX_CLAUDE", here.join("benches/frame/agent"))
        .env("SIGNALBOX_WORKER", "bench");
    let _work = Process::start(&mut work);
    let mut http = Http::signed_in(&serve.ready);
    let answer = http.post("/runs", "agent=claude-code&title=The+time&prompt=Say+the+time.");
    assert_eq!(answer.status, 303, "{}", answer.head);
    let run = answer.header("location").to_owned();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !String::from_utf8_lossy(&http.get(&run).body).contains("tick 1 at") {
        assert!(Instant::now() < deadline, "{run} says nothing");
        std::thread::sleep(Duration::from_millis(50));
    }

    let seen = Command::new("node")
        .arg(here.join("benches/frame/frame.mjs"))
        .env("SIGNALBOX_URL", &serve.ready)
        .env("COOKIE", &http.cookie)
        .env("RUN", &run)
        .env("EVENTS", EVENTS)
        .env("PLAYWRIGHT", &playwright)
        .stderr(Stdio::inherit())
        .output()
        .expect("node");
    assert!(seen.status.success(), "the browser didn't see it");
    let (mut ours, mut floor) = (Sample::default(), Sample::default());
    for line in String::from_utf8_lossy(&seen.stdout).lines() {
        let (what, ms) = line.split_once(' ').expect("two words");
        let sample = if what == "ours" { &mut ours } else { &mut floor };
        sample.0.push(ms.parse().expect("a number"));
    }
    say(&ours.line("said by an agent → in a frame"));
    say(&floor.line("pushed straight to a page → in a frame"));
    say(&format!(
        "p99                    {:.0} ms, bare {:.0}   (goals: 60 ms and 250)",
        ours.at(0.99),
        floor.at(0.99)
    ));
    quiet.end(&[("an event pushed straight", &floor)])
}
