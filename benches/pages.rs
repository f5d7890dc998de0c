//! The runs page at a million runs, beside the same page at ten thousand and a bare actix + askama + sqlx page:
//! does its cost grow with the table, and what does the guard cost? And what `serve` weighs.

#![expect(clippy::expect_used, reason = "a bench that can't go on ends here")]

mod support;

use std::process::Command;

use actix_web::{App, HttpResponse, HttpServer, web};
use askama::Template;
use sqlx::Row;
use sqlx::postgres::{PgPool, PgPoolOptions};
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

fn main() {
    env("REDIS_URL");
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
            timed(|| large.get("/?before=500000")),
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
    let ratio = |a: usize, b: usize| samples[a].median() / samples[b].median();
    say(&format!("1,000,000 : 10,000     {:.2}   (goal: at most 1.2)", ratio(1, 0)));
    say(&format!("half-way : first page  {:.2}", ratio(2, 1)));
    say(&format!("ours : bare            {:.2}", ratio(1, 4)));
    say(&format!("idle serve             {:.1} MiB resident (goal: at most 20)", idle.resident_mib()));
    say(&format!("serve after the load   {:.1} MiB resident", on_large.resident_mib()));
}
