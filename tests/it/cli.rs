//! The program itself: its words, its exit codes, and that it starts when its stores are away.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::app::{Browser, TestApp, redis_url};

/// Nobody listens here: port 1 needs rights that nothing in these tests has used.
const NOBODY: &str = "postgres://nobody@127.0.0.1:1/none";

fn signalbox(args: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox"));
    command.args(args).env_clear().envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str], variables: &[(&str, &str)]) -> Output {
    signalbox(args, variables).output().unwrap()
}

fn run_with_input(args: &[&str], variables: &[(&str, &str)], input: &str) -> Output {
    let mut child = signalbox(args, variables).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn out(done: &Output) -> String {
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn err(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

/// A server that is ended with the test, whatever becomes of the test.
struct Server(Child);

impl Server {
    /// Starts it and waits for its `ready:` line; gives the URL.
    fn start(variables: &[(&str, &str)]) -> (Self, String) {
        Self::begin(signalbox(&["serve"], variables))
    }

    fn begin(mut serve: Command) -> (Self, String) {
        let mut child = serve.stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().expect("a line").unwrap();
        let server = Self(child);
        let url = line.strip_prefix("ready: ").expect("the line is ready: URL").to_owned();
        (server, url)
    }

    /// A line of what the system says of its process, without its name.
    fn said(&self, file: &str, name: &str) -> String {
        let all = std::fs::read_to_string(format!("/proc/{}/{file}", self.0.id())).unwrap();
        all.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
    }

    /// How much of its memory is its own, and how much ever was, in KiB.
    fn kib(&self) -> (u64, u64) {
        let kib = |name: &str| {
            let said = self.said("status", name);
            said.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap()
        };
        (kib("RssAnon:"), kib("VmHWM:"))
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_bad_configuration_is_one_line_and_status_2() {
    let (postgres, redis) = (("DATABASE_URL", NOBODY), ("REDIS_URL", "redis://127.0.0.1:1"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (command, variables, names) in [
        ("serve", vec![], "DATABASE_URL"),
        ("serve", vec![postgres], "REDIS_URL"),
        ("serve", vec![postgres, redis, ("SIGNALBOX_LISTEN", "8080")], "SIGNALBOX_LISTEN"),
        ("serve", vec![postgres, redis, ("SIGNALBOX_LISTEN", &address)], "SIGNALBOX_LISTEN"),
        ("serve", vec![postgres, redis, ("SIGNALBOX_LISTEN", "0.0.0.0:0")], "SIGNALBOX_ORIGIN"),
        ("serve", vec![postgres, redis, ("SIGNALBOX_ORIGIN", "http://example.org")], "SIGNALBOX_ORIGIN"),
        ("serve", vec![postgres, redis, ("SIGNALBOX_LOG", "a=b=c")], "SIGNALBOX_LOG"),
        ("work", vec![postgres, redis], "ANTHROPIC_API_KEY"),
        (
            "work",
            vec![postgres, redis, ("ANTHROPIC_API_KEY", "x"), ("DOCKER_HOST", "ssh://x")],
            "DOCKER_HOST",
        ),
        ("migrate", vec![], "DATABASE_URL"),
        ("superuser", vec![], "DATABASE_URL"),
    ] {
        let args: &[&str] = if command == "superuser" { &["superuser", "list"] } else { &[command] };
        let done = run(args, &variables);
        let told = err(&done);
        assert_eq!(done.status.code(), Some(2), "{command} {variables:?}: {told}");
        assert!(told.contains(names) && told.lines().count() == 1, "{command} {variables:?}: {told}");
        assert!(out(&done).is_empty());
    }
}

#[tokio::test]
async fn serve_starts_without_its_stores_and_ends_at_a_signal() {
    let (mut server, url) = Server::start(&[
        ("DATABASE_URL", NOBODY),
        ("REDIS_URL", "redis://127.0.0.1:1"),
        ("SIGNALBOX_LISTEN", "127.0.0.1:0"),
    ]);
    let browser = Browser::new(url.strip_prefix("http://").unwrap().parse().unwrap());
    let answer = browser.get("/healthz").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    assert_eq!(browser.get("/").await.status, 303);
    server.signal(Signal::SIGTERM);
    let status = tokio::task::spawn_blocking(move || server.0.wait().unwrap()).await.unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn serve_takes_as_many_open_pages_as_the_system_allows() {
    let variables =
        [("DATABASE_URL", NOBODY), ("REDIS_URL", "redis://127.0.0.1:1"), ("SIGNALBOX_LISTEN", "127.0.0.1:0")];
    let mut few = Command::new("/bin/sh");
    few.args(["-c", "ulimit -Sn 100 && exec \"$0\" serve", env!("CARGO_BIN_EXE_signalbox")]);
    few.env_clear().envs(variables).stdin(Stdio::null()).stdout(Stdio::piped());
    let (server, _) = Server::begin(few);
    let limits = server.said("limits", "Max open files");
    let limits: Vec<&str> = limits.split_whitespace().take(2).collect();
    assert_eq!(limits[0], limits[1]);
    assert_ne!(limits[1], "100", "the test itself is allowed no more");
}

#[tokio::test]
async fn memory_that_a_sign_in_took_is_given_back() {
    const TAKEN: u64 = 19 * 1024;
    let app = TestApp::start().await;
    let redis = redis_url();
    let (server, url) = Server::start(&[
        ("DATABASE_URL", app.database_url.as_str()),
        ("REDIS_URL", &redis),
        ("SIGNALBOX_LISTEN", "127.0.0.1:0"),
    ]);
    let stranger = Browser::new(url.strip_prefix("http://").unwrap().parse().unwrap());
    assert_eq!(stranger.get("/login").await.status, 200);
    let ((before, most), form) = (server.kib(), [("name", "nobody"), ("password", "a lamp for every lever")]);
    assert_ne!(stranger.post("/login", &form).await.status, 303);
    assert!(server.kib().1 >= most + TAKEN / 2, "it took much of it for a moment");
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.kib().0 >= before + TAKEN / 2 {
        assert!(Instant::now() < deadline, "{before} KiB before, {} now", server.kib().0);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn superusers_are_made_and_unmade_on_the_command_line() {
    let app = TestApp::start().await;
    let variables = [("DATABASE_URL", app.database_url.as_str())];
    let superuser = |args: &[&str], input: &str| {
        let args = [&["superuser"], args].concat();
        let done = run_with_input(&args, &variables, input);
        (done.status.code(), out(&done), err(&done))
    };
    let list = || superuser(&["list"], "").1;
    assert_eq!(list(), "ada\tsuperuser\tactive\npat\tplain\tactive\n");

    let (status, told, _) = superuser(&["add", "Grace"], "a lamp for every lever\r\nmore\n");
    assert_eq!((status, told.as_str()), (Some(0), "grace is a superuser.\n"));
    let grace = app.anonymous();
    let form = [("name", "grace"), ("password", "a lamp for every lever")];
    assert_eq!(grace.post("/login", &form).await.header("location"), Some("/"));
    assert_eq!(grace.get("/").await.status, 200);

    for (args, input, why) in [
        (["add", "grace"], "a lamp for every lever", "The name grace is taken."),
        (["add", "emmy"], "short", "at least 15 characters"),
        (["add", "emmy"], "", "at least 15 characters"),
        (["add", "../x"], "a lamp for every lever", "A name has"),
        (["disable", "nobody"], "", "There is nobody called nobody."),
        (["enable", "nobody"], "", "There is nobody called nobody."),
        (["demote", "nobody"], "", "There is nobody called nobody."),
        (["password", "nobody"], "a lamp for every lever", "There is nobody called nobody."),
    ] {
        let (status, told, trouble) = superuser(&args, input);
        assert_eq!((status, told.as_str()), (Some(1), ""), "{args:?}");
        assert!(trouble.contains(why) && trouble.lines().count() == 1, "{args:?}: {trouble}");
    }

    superuser(&["demote", "grace"], "");
    assert_eq!(grace.get("/").await.status, 403);
    superuser(&["promote", "grace"], "");
    assert_eq!(grace.get("/").await.status, 200);
    superuser(&["password", "grace"], "another lamp for a lever");
    assert_eq!(grace.get("/").await.header("location"), Some("/login"));
    superuser(&["disable", "grace"], "");
    assert!(list().contains("grace\tsuperuser\tdisabled\n"));
    let told = superuser(&["password", "grace"], "a third lamp for a lever").1;
    assert!(told.ends_with("grace is shut out all the same: signalbox superuser enable grace\n"), "{told}");
    assert!(list().contains("grace\tsuperuser\tdisabled\n"));
    assert_eq!(superuser(&["enable", "grace"], "").1, "grace may sign in.\n");
    assert!(list().contains("grace\tsuperuser\tactive\n"));
    let acts: Vec<String> =
        sqlx::query_scalar("select what from audit where who = 'command line' order by id")
            .fetch_all(app.sql())
            .await
            .unwrap();
    let wanted = [
        "superuser added",
        "role changed",
        "role changed",
        "password reset",
        "user disabled",
        "password reset",
        "user enabled",
    ];
    assert_eq!(acts, wanted);
}

#[test]
fn a_database_that_is_away_is_told_in_one_line() {
    for args in [&["migrate"][..], &["superuser", "list"], &["seed", "--runs", "1"]] {
        let done = run(args, &[("DATABASE_URL", NOBODY)]);
        let told = err(&done);
        assert_eq!(done.status.code(), Some(1), "{args:?}: {told}");
        assert!(told.contains("Postgres doesn't answer") && told.lines().count() == 1, "{args:?}: {told}");
    }
}

#[tokio::test]
async fn the_doctor_says_what_to_do() {
    let done = run(&["doctor"], &[("DATABASE_URL", NOBODY), ("REDIS_URL", "redis://127.0.0.1:1")]);
    let told = out(&done);
    assert_eq!(done.status.code(), Some(1), "{told}");
    for what in ["FAIL  Postgres", "FAIL  Redis", "FAIL  work", "ANTHROPIC_API_KEY"] {
        assert!(told.contains(what), "{what} isn't in {told}");
    }
    let app = TestApp::start().await;
    let redis = redis_url();
    let done = run(&["doctor", "serve"], &[("DATABASE_URL", &app.database_url), ("REDIS_URL", &redis)]);
    assert_eq!(done.status.code(), Some(0), "{}", out(&done));
    sqlx::query("update users set disabled_at = now()").execute(app.sql()).await.unwrap();
    let done = run(&["doctor", "serve"], &[("DATABASE_URL", &app.database_url), ("REDIS_URL", &redis)]);
    assert!(out(&done).contains("FAIL  superuser") && done.status.code() == Some(1), "{}", out(&done));
}

#[tokio::test]
async fn seed_fills_a_database_and_asks_before_it_adds_to_one() {
    let app = TestApp::start().await;
    let url = ("DATABASE_URL", app.database_url.as_str());
    let seed = ["seed", "--runs", "300", "--events", "2000"];
    let public = run(&seed, &[url, ("SIGNALBOX_ORIGIN", "https://signalbox.example.org")]);
    assert_eq!(public.status.code(), Some(2), "{}", err(&public));
    let first = run(&seed, &[url]);
    assert_eq!(first.status.code(), Some(0), "{}", err(&first));
    let again = run(&seed, &[url]);
    assert!(again.status.code() == Some(1) && err(&again).contains("--yes"), "{}", err(&again));
    let (runs, events): (i64, i64) =
        sqlx::query_as("select (select count(*) from runs), (select count(*) from events)")
            .fetch_one(app.sql())
            .await
            .unwrap();
    assert_eq!((runs, events), (300, 2000));
    let miscounted =
        "select count(*) from runs r where events <> (select count(*) from events where run_id = r.id)";
    assert_eq!(sqlx::query_scalar::<_, i64>(miscounted).fetch_one(app.sql()).await.unwrap(), 0);

    let adrift = "select count(*) from runs r where metered_at is not null and metered_at > started_at and not exists (
                      select from spent s where s.run_id = r.id and s.usd is not distinct from r.metered_usd
                                            and s.tokens_out = r.metered_out)";
    assert_eq!(sqlx::query_scalar::<_, i64>(adrift).fetch_one(app.sql()).await.unwrap(), 0);
    let falling = "select count(*) from spent s join spent t using (run_id)
                   where s.slot < t.slot and (s.at >= t.at or s.usd > t.usd or s.tokens_in > t.tokens_in)";
    assert_eq!(sqlx::query_scalar::<_, i64>(falling).fetch_one(app.sql()).await.unwrap(), 0);

    // What was made reads as what it should: every page of it, through the real server.
    let browser = app.superuser().await;
    for page in [
        "/",
        "/?state=running",
        "/?state=terminated",
        "/workers",
        "/audit",
        "/health",
        "/runs/300",
        "/runs/1",
    ] {
        assert_eq!(browser.get(page).await.status, 200, "{page}");
    }
    let curved = "select run_id from spent group by run_id having count(*) > 3 order by run_id desc limit 1";
    let run: i64 = sqlx::query_scalar(curved).fetch_one(app.sql()).await.unwrap();
    let page = browser.get(&format!("/runs/{run}")).await;
    assert!(page.body.contains("Cost over time") && page.body.contains("id=\"recipe\""), "{}", page.body);
}

#[test]
fn a_reader_that_goes_away_is_no_trouble() {
    let mut child = signalbox(&["--help"], &[]).spawn().unwrap();
    drop(child.stdout.take());
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(!told.contains("panicked"), "{told}");
    child.wait().unwrap();
}
