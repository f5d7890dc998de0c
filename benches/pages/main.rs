//! The runs page at a million runs, beside the same page at ten thousand and a bare actix + askama + sqlx page:
//! does its cost grow with the table, and what does the guard cost? How many requests are answered in a second; and what `serve` weighs.

#![expect(clippy::expect_used, reason = "a bench that can't go on ends here")]

mod bare;
mod load;
#[path = "../support/mod.rs"]
mod support;
mod views;

use std::process::{Command, ExitCode};

use support::quiet::Quiet;
use support::{Http, Process, Sample, env, fresh_database, say, signalbox, timed};

const ROUNDS: usize = 1500;
/// A page that isn't there, which nobody hears without having passed the guard.
const NOTHING: &str = "/nothing";

fn seeded(name: &str, runs: u32) -> String {
    let url = fresh_database(name);
    let runs = runs.to_string();
    assert!(
        signalbox(&["seed", "--runs", &runs, "--events", "1000"], &url).status().expect("runs").success()
    );
    assert!(
        Command::new("psql").args(["-qX", &url, "-c", "vacuum analyze"]).status().expect("psql").success()
    );
    url
}

fn main() -> ExitCode {
    env("REDIS_URL");
    let quiet = Quiet::begin();
    let (small_url, large_url) = (seeded("bench_small", 10_000), seeded("bench_large", 1_000_000));
    let serve = |url: &str| Process::start(&mut signalbox(&["serve"], url));
    let (on_small, on_large, idle) = (serve(&small_url), serve(&large_url), serve(&large_url));
    let mut small = Http::signed_in(&on_small.ready);
    let mut large = Http::signed_in(&on_large.ready);
    let bytes = |http: &mut Http, path: &str| http.get(path).body.into();
    let given = bare::Given { nothing: bytes(&mut large, NOTHING), runs: bytes(&mut large, "/") };
    let mut bare = Http::connect(&bare::serve(large_url, given));
    let mut samples: [Sample; 9] = Default::default();
    let mut stranger = Http::connect(&on_large.ready);
    // Whoever isn't signed in is refused without a statement: also where there is no Postgres.
    let storeless = serve("postgres://nobody@127.0.0.1:1/none");
    assert_eq!(Http::connect(&storeless.ready).get("/").status, 303);
    for round in 0..ROUNDS + 200 {
        let times = [
            timed(|| small.get("/")),
            timed(|| large.get("/")),
            timed(|| large.get("/?state=all&before=500000")),
            timed(|| large.get("/?state=failed")),
            timed(|| bare.get("/")),
            timed(|| stranger.get("/")),
            timed(|| large.get(NOTHING)),
            timed(|| bare.get("/nothing")),
            timed(|| bare.get("/asked/nothing")),
        ];
        for (n, (ms, answer)) in times.into_iter().enumerate() {
            let expected = [200, 200, 200, 200, 200, 303, 404, 200, 200][n];
            assert_eq!(answer.status, expected, "{}", answer.head);
            if round >= 200 {
                samples[n].0.push(ms);
            }
        }
    }
    let names = [
        "runs page, 10,000 runs",
        "runs page, 1,000,000 runs",
        "… half-way down",
        "… filtered: failed",
        "bare actix + askama + sqlx page, 1,000,000",
        "anonymous, refused",
        "guarded, and nothing but that",
        "bare, the same bytes",
        "bare, the guard's statement and the same bytes",
    ];
    for (sample, name) in samples.iter().zip(names) {
        say(&sample.line(name));
    }
    say(&format!("runs page, p99           {:.2} ms (goal: at most 5)", samples[1].at(0.99)));
    let ratio = |a: usize, b: usize| samples[a].median() / samples[b].median();
    say(&format!("1,000,000 : 10,000     {:.2}   (goal: at most 1.2)", ratio(1, 0)));
    say(&format!("half-way : first page  {:.2}", ratio(2, 1)));
    say(&format!("ours : bare            {:.2}", ratio(1, 4)));
    say(&format!("idle serve             {:.1} MiB resident (goal: at most 20)", idle.resident_mib()));
    say(&format!("serve after the load   {:.1} MiB resident", on_large.resident_mib()));
    let (guard, statement) =
        (samples[6].median() - samples[7].median(), samples[8].median() - samples[7].median());
    say(&format!(
        "the guard              {guard:.3} ms, of which {statement:.3} are its statement's (goal: at most 0.06 besides)"
    ));
    load::measure(&large, &bare);
    let among = views::measure(&mut large, &mut bare);
    quiet.end(&[(names[4], &samples[4]), ("the bare page among the views", &among)])
}
