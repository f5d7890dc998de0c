//! The runs page beside the lists of other consoles, all at once and in turns: what the server takes for the first page and for a
//! deep one, and how long until Chromium has painted rows. Ours and Django's are behind a login, over the same RUNS runs in
//! Postgres; the others have no login, and JOBS jobs in Redis or in memory. Of those only the data of the list is asked for, not the
//! page around it.

#![expect(clippy::expect_used, reason = "a bench that can't go on ends here")]
#![expect(clippy::disallowed_methods, reason = "benches are told by the environment what to do")]

mod support;

use std::process::{Command, ExitCode};

use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};
use support::peer::{Peer, Peers};
use support::quiet::Quiet;
use support::{Http, Process, Sample, env, fresh_database, say, signalbox, timed};

const ROUNDS: usize = 200;
/// Rounds before anything is noted.
const WARM: usize = 5;
const PAINTS: usize = 21;
/// Rows on each page, ours and theirs.
const PAGE: usize = 50;

/// What a person looks at first: a list with its first page and one far down, and what a browser waits for.
struct List {
    name: &'static str,
    http: Http,
    /// Name and path of each page that the server is asked for.
    pages: Vec<(&'static str, String, Sample)>,
    path: &'static str,
    rows: &'static str,
    painted: Sample,
    moved: f64,
    /// Why it couldn't be painted.
    gone: Option<String>,
    _peer: Option<Peer>,
}

impl List {
    fn new(
        name: &'static str,
        http: Http,
        first: String,
        deep: String,
        path: &'static str,
        rows: &'static str,
    ) -> Self {
        let pages = vec![("first page", first, Sample::default()), ("a deep page", deep, Sample::default())];
        let painted = Sample::default();
        Self { name, http, pages, path, rows, painted, moved: 0.0, gone: None, _peer: None }
    }

    /// One of a peer that says `ready: URL`, or `ready: URL COOKIE`.
    fn of(
        name: &'static str,
        peer: Peer,
        first: String,
        deep: String,
        path: &'static str,
        rows: &'static str,
    ) -> Self {
        let (url, cookie) = peer.ready.split_once(' ').unwrap_or((&peer.ready, ""));
        let mut http = Http::connect(url);
        http.cookie = cookie.to_owned();
        Self { _peer: Some(peer), ..Self::new(name, http, first, deep, path, rows) }
    }

    fn ask(&mut self, noted: bool) {
        for (page, path, sample) in &mut self.pages {
            let (ms, answer) = timed(|| self.http.get(path));
            assert_eq!(answer.status, 200, "{} {page}: {}", self.name, answer.head);
            if noted {
                sample.0.push(ms);
            }
        }
    }

    fn paint(&mut self, painter: &mut Peer, noted: bool) {
        if self.gone.is_some() {
            return;
        }
        let url = format!("http://{}{}", self.http.host, self.path);
        let answer = asked(painter, &json!({ "url": url, "cookie": self.http.cookie, "rows": self.rows }));
        match answer["ms"].as_f64() {
            Some(ms) if noted => self.painted.0.push(ms),
            Some(_) => {}
            None => self.gone = Some(answer["error"].to_string()),
        }
        self.moved = self.moved.max(answer["moved"].as_f64().unwrap_or_default());
    }
}

fn asked(painter: &mut Peer, question: &Value) -> Value {
    serde_json::from_str(&painter.ask(&question.to_string())).expect("JSON")
}

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

/// Those of the peers that start.
fn others(peers: &Peers, url: &str, runs: usize, jobs: usize) -> Vec<List> {
    let last = jobs / PAGE;
    let jobs = jobs.to_string();
    let redis = [("JOBS", jobs.as_str())];
    let python = "venv/bin/python";
    let mut lists = Vec::new();
    if let Some(peer) = peers.start("Django", &[python, "django_pages.py"], &[("DATABASE_URL", url)]) {
        let deep = format!("/?page={}", runs * 9 / 10 / PAGE);
        lists.push(List::of("Django", peer, "/".to_owned(), deep, "/", ".run"));
    }
    if let Some(peer) = peers.start("rq-dashboard", &[python, "rq_pages.py"], &redis) {
        let page = |n| format!("/0/data/jobs/peers-pages/queued/{PAGE}/asc/{n}.json");
        let (path, rows) = ("/0/view/jobs/peers-pages/queued/8/asc/1", "#jobs tr[data-role=job]");
        lists.push(List::of("rq-dashboard", peer, page(1), page(last), path, rows));
    }
    if let Some(peer) = peers.start("bull-board", &["node", "bull_board.mjs"], &redis) {
        let page =
            |n| format!("/api/queues?activeQueue=peers-pages&status=waiting&jobsPerPage={PAGE}&page={n}");
        let (path, rows) = ("/queue/peers-pages?status=waiting", "a[href*='/queue/peers-pages/']");
        lists.push(List::of("bull-board", peer, page(1), page(last), path, rows));
    }
    if let Some(peer) = peers.start("Flower", &[python, "flower_tasks.py"], &redis) {
        let by = "order%5B0%5D%5Bcolumn%5D=7&columns%5B7%5D%5Bdata%5D=received&order%5B0%5D%5Bdir%5D=desc";
        let page = |n: usize| format!("/tasks/datatable?draw=1&start={}&length={PAGE}&{by}", (n - 1) * PAGE);
        lists.push(List::of("Flower", peer, page(1), page(last), "/tasks", "#tasks-table tbody tr td a"));
    }
    lists
}

/// Whether a stranger gets what a peer with a login shows.
fn needs_login(list: &List) -> bool {
    Http::connect(&format!("http://{}", list.http.host)).get("/").status != 200
}

/// The floor of a list out of Postgres: its bare statement.
async fn bare(postgres: &mut PgConnection) {
    let list = "select id, title, state, outcome, worker, asked_by_name, asked_at, cost_usd from runs order by id desc limit 51";
    postgres.fetch_all(list).await.expect("rows");
}

fn main() -> ExitCode {
    env("REDIS_URL");
    let quiet = Quiet::begin();
    let (runs, jobs) = (number("RUNS", 1_000_000), number("JOBS", 10_000));
    let peers = Peers::install();
    let url = fresh_database("bench_peers");
    let seed = signalbox(&["seed", "--runs", &runs.to_string(), "--events", "1000"], &url).status();
    assert!(seed.expect("runs").success());
    let vacuum = Command::new("psql").args(["-qX", &url, "-c", "vacuum analyze"]).status();
    assert!(vacuum.expect("psql").success());
    let serve = Process::start(&mut signalbox(&["serve"], &url));
    let mut lists = others(&peers, &url, runs, jobs);
    for list in lists.iter().filter(|list| list.name == "Django") {
        assert!(needs_login(list), "Django's list is open to everybody");
    }
    let deep = format!("/?state=all&before={}", runs / 10);
    let http = Http::signed_in(&serve.ready);
    lists.insert(0, List::new("runs page", http, "/".to_owned(), deep, "/", ".row"));

    say(&format!("{runs} runs in Postgres, {jobs} jobs in Redis, {PAGE} a page"));
    let floor = ask(&mut lists, &url);
    let still = paint(&peers, &mut lists);
    quiet.end(&[(BARE, &floor), (STILL, &still)])
}

const BARE: &str = "the list's bare statement";
const STILL: &str = "the same bytes as static files";

/// What the servers take; gives what the floor took.
fn ask(lists: &mut [List], url: &str) -> Sample {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
    let mut postgres = runtime.block_on(PgConnection::connect(url)).expect("connects");
    let mut floor = Sample::default();
    for round in 0..ROUNDS + WARM {
        // The second time, whatever was asked for before.
        let [_, (ms, ())] = [(); 2].map(|()| timed(|| runtime.block_on(bare(&mut postgres))));
        if round >= WARM {
            floor.0.push(ms);
        }
        lists.iter_mut().for_each(|list| list.ask(round >= WARM));
    }
    say(&floor.line(BARE));
    let ours = lists[0].pages[0].2.median();
    for list in &*lists {
        for (page, _, sample) in &list.pages {
            let line = sample.line(&format!("{}, {page}", list.name));
            say(&format!("{line}   p99 {:.1} ms   {:.1} × ours", sample.at(0.99), sample.median() / ours));
        }
    }
    floor
}

/// How long until rows are painted; gives what the floor took.
fn paint(peers: &Peers, lists: &mut [List]) -> Sample {
    let playwright = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/node_modules/playwright-core");
    let Some(mut painter) = peers.start("Chromium", &["node", "paint.mjs"], &[("PLAYWRIGHT", playwright)])
    else {
        return Sample::default();
    };
    let ours = &lists[0].http;
    let page = json!({ "url": format!("http://{}/", ours.host), "cookie": ours.cookie });
    let still = asked(&mut painter, &json!({ "still": page }));
    let kib = still["bytes"].as_f64().expect("a number") / 1024.0;
    let still = Http::connect(still["url"].as_str().expect("a URL"));
    let mut still = List::new(STILL, still, String::new(), String::new(), "/", ".row");
    for round in 0..=PAINTS {
        still.paint(&mut painter, round > 0);
        lists.iter_mut().for_each(|list| list.paint(&mut painter, round > 0));
    }
    for list in std::iter::once(&still).chain(&*lists) {
        match &list.gone {
            Some(why) => say(&format!("{}, painted: not measured: {why}", list.name)),
            None => {
                let line = list.painted.line(&format!("{}, painted", list.name));
                say(&format!("{line}   layout shift {:.3}", list.moved));
            }
        }
    }
    let ratio = lists[0].painted.median() / still.painted.median();
    say(&format!("painted: runs page : the same bytes   {ratio:.2}   (goal: at most 1.15)"));
    say(&format!("runs page, HTML and CSS, compressed   {kib:.1} KiB   (goal: at most 14)"));
    still.painted
}
