//! The runs page at a million runs, beside the same page at ten thousand and a bare actix + askama + sqlx page:
//! does its cost grow with the table, and what does the guard cost? And what `serve` weighs.

#![expect(clippy::expect_used, reason = "a bench that can't go on ends here")]

mod support;

use std::process::{Command, ExitCode};

use actix_web::{App, HttpResponse, HttpServer, web};
use askama::Template;
use sqlx::Row;
use sqlx::postgres::{PgPool, PgPoolOptions};
use support::quiet::Quiet;
use support::{Http, Process, Sample, env, fresh_database, say, signalbox, timed};

const ROUNDS: usize = 1500;

#[derive(Template)]
#[template(
    source = "<!doctype html><title>Runs</title><ul>{% for row in rows %}<li>{{ row.0 }} {{ row.1 }} {{ row.2 }}</li>{% endfor %}</ul>",
    ext = "html",
    config = "benches/support/askama.toml"
)]
struct Bare {
    rows: Vec<(i64, String, String)>,
}

/// The floor: one statement over the same index, one template, no guard.
async fn bare(pool: web::Data<PgPool>) -> HttpResponse {
    let rows = sqlx::query("select id, title, state from runs order by id desc limit 51")
        .fetch_all(pool.get_ref())
        .await
        .expect("rows");
    let rows = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    HttpResponse::Ok().content_type("text/html").body(Bare { rows }.render().expect("renders"))
}

fn serve_bare(database_url: String) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let pool = PgPoolOptions::new()
                .test_before_acquire(false)
                .connect(&database_url)
                .await
                .expect("connects");
            let app =
                move || App::new().app_data(web::Data::new(pool.clone())).route("/", web::get().to(bare));
            HttpServer::new(app).workers(2).listen(listener).expect("listens").run().await
        })
    });
    url
}

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

/// Views of the million, each beside the first page: depths, filters, directions, and what is by more than one thing.
const VIEWS: [&str; 26] = [
    "/?state=all",
    "/?state=all&before=900000",
    "/?state=all&before=500000",
    "/?state=all&before=1000",
    "/?state=all&after=500000",
    "/?state=failed",
    "/?state=failed&before=500000",
    "/?state=failed&after=500000",
    "/?state=ended&before=500000",
    "/?state=running",
    "/?state=unconfirmed",
    "/?agent=claude-code",
    "/?agent=claude-code&before=500000",
    "/?worker=dock-2",
    "/?worker=dock-2&before=500000",
    "/?worker=dock-2&after=500000",
    "/?who=bench&before=500000",
    "/?last=day",
    "/?until=2026-06-01",
    "/?cost=1&before=500000",
    "/?cost=10&before=500000",
    "/?cost=10&after=500000",
    "/?cost=100",
    "/?state=failed&worker=dock-2&before=500000",
    "/?state=over_budget&worker=dock-1&cost=2.5",
    "/?state=lost&agent=claude-code",
];

/// Searches: words that are in each run, in some, in few, in none; several; and together with something else.
const SEARCHES: [&str; 12] = [
    "changed",
    "billing",
    "changed+billing",
    "leaks+billing+findings",
    "%22tests+for+billing%22",
    "file4711",
    "file17+web",
    "spent",
    "nowhere",
    "billing+-leaks",
    "billing&state=failed",
    "changed&state=over_budget&cost=20",
];

/// The bare page, whatever was asked for before it.
fn warm(bare: &mut Http) -> f64 {
    bare.get("/");
    timed(|| bare.get("/")).0
}

/// Each of the views by turns with the first page, and each of the searches; says the ratios, and the slowest hundredth. Gives
/// what the bare page took meanwhile.
fn views(large: &mut Http, bare: &mut Http) -> Sample {
    let mut floor = Sample::default();
    for path in VIEWS {
        let [mut first, mut view]: [Sample; 2] = Default::default();
        for round in 0..230 {
            floor.0.push(warm(bare));
            let pair = [timed(|| large.get("/?state=all")), timed(|| large.get(path))];
            assert_eq!(pair[1].1.status, 200, "{path}: {}", pair[1].1.head);
            if round >= 30 {
                first.0.push(pair[0].0);
                view.0.push(pair[1].0);
            }
        }
        say(&format!("{}  {:.2} × first page", view.line(path), view.median() / first.median()));
    }
    let mut all = Sample::default();
    for search in SEARCHES {
        let mut sample = Sample::default();
        for round in 0..110 {
            floor.0.push(warm(bare));
            // Each with depths of its own, also where the word has become rare.
            let path = match round % 3 {
                0 => format!("/?q={search}"),
                1 => format!("/?q={search}&before={}", 1_000_000 - round * 9_000),
                _ => format!("/?q={search}&after={}", round * 9_000),
            };
            let (ms, answer) = timed(|| large.get(&path));
            assert_eq!(answer.status, 200, "{path}: {}", answer.head);
            if round >= 10 {
                sample.0.push(ms);
            }
        }
        say(&format!("{}  p99 {:.1} ms", sample.line(&format!("search {search}")), sample.at(0.99)));
        all.0.extend(sample.0);
    }
    say(&format!("all searches: p99 {:.1} ms (goal: at most 50)", all.at(0.99)));
    floor
}

fn main() -> ExitCode {
    env("REDIS_URL");
    let quiet = Quiet::begin();
    let (small_url, large_url) = (seeded("bench_small", 10_000), seeded("bench_large", 1_000_000));
    let serve = |url: &str| Process::start(&mut signalbox(&["serve"], url));
    let (on_small, on_large, idle) = (serve(&small_url), serve(&large_url), serve(&large_url));
    let mut small = Http::signed_in(&on_small.ready);
    let mut large = Http::signed_in(&on_large.ready);
    let mut bare = Http::connect(&serve_bare(large_url));
    let mut samples: [Sample; 6] = Default::default();
    let mut stranger = Http::connect(&on_large.ready);
    for round in 0..ROUNDS + 200 {
        let times = [
            timed(|| small.get("/")),
            timed(|| large.get("/")),
            timed(|| large.get("/?state=all&before=500000")),
            timed(|| large.get("/?state=failed")),
            timed(|| bare.get("/")),
            timed(|| stranger.get("/")),
        ];
        for (n, (ms, answer)) in times.into_iter().enumerate() {
            assert_eq!(answer.status, if n == 5 { 303 } else { 200 }, "{}", answer.head);
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
    let among = views(&mut large, &mut bare);
    quiet.end(&[(names[4], &samples[4]), ("the bare page among the views", &among)])
}
