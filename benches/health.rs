//! The health page of 24 workers with a whole day of samples, seen a moment ago and looked at anew, beside a page behind the
//! same guard that asks for next to nothing.

#![expect(clippy::expect_used, reason = "a bench that can't go on ends here")]

mod support;

use std::process::{Command, ExitCode};
use std::time::Duration;

use support::quiet::Quiet;
use support::{Http, Process, Sample, env, fresh_database, say, signalbox, timed};

/// How often it is asked while it is remembered.
const ROUNDS: usize = 500;
/// How often it is looked at anew; it is remembered for three seconds between.
const LOOKS: usize = 12;

const FILL: &str = "
    insert into workers (name, version, arch, page_size, kernel, engine, engine_ok, sandboxed, rehearsal, capacity, cpu,
                         memory_used, memory_total, disk_used, disk_total, engine_ms, lag_s, heard_at)
    select 'dock-' || n, '0.1.0', 'aarch64', 65536, '6.12', 'Docker 29', true, true, false, 8, 0.3, 3000000000,
           8000000000, 30000000000, 90000000000, 6, 0.04, now() + interval '1 hour'
    from generate_series(1, 24) n;
    insert into samples (minute, part, took_ms, bytes, cpu, disk, amount, age_s, requests)
    select date_trunc('minute', now()) - make_interval(mins => n), part, random(), random() * 1e9, random(), random(),
           8 * random(), random(), 60 * random()
    from generate_series(1, 1439) n,
         (select unnest(array['postgres', 'redis', 'queue', 'events', 'server bench'])
          union all select 'worker dock-' || n from generate_series(1, 24) n) parts (part);
    vacuum analyze";

fn main() -> ExitCode {
    env("REDIS_URL");
    let quiet = Quiet::begin();
    let url = fresh_database("bench_health");
    for statement in FILL.split(';') {
        let filled = Command::new("psql").args(["-qX", &url, "-c", statement]).status();
        assert!(filled.expect("psql").success());
    }
    let serve = Process::start(&mut signalbox(&["serve"], &url));
    let mut http = Http::signed_in(&serve.ready);
    let mut samples: [Sample; 3] = Default::default();
    let mut bytes = 0;
    for look in 0..=LOOKS {
        let (ms, answer) = timed(|| http.get("/health"));
        assert_eq!(answer.status, 200, "{}", answer.head);
        bytes = answer.body.len();
        // The first one reads the whole day.
        if look > 0 {
            samples[0].0.push(ms);
        }
        for _ in 0..ROUNDS / LOOKS {
            samples[1].0.push(timed(|| http.get("/health")).0);
            samples[2].0.push(timed(|| http.get("/account")).0);
        }
        std::thread::sleep(Duration::from_millis(3100));
    }
    let names = ["health page, looked at anew", "… seen a moment ago", "account page"];
    for (sample, name) in samples.iter().zip(names) {
        say(&sample.line(name));
    }
    say(&format!("health page           {} KiB (goals: 30 ms and 2 ms)", bytes / 1024));
    quiet.end(&[(names[2], &samples[2])])
}
