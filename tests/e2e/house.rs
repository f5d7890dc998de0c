//! A house of its own for each test: database, stand-in, server, worker, and a superuser's browser.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};
use url::Url;

use crate::browser::{Browser, RunPage};
use crate::engine::Witness;
use crate::program::Program;
use crate::variable;

/// How long a run may take for what takes a second or two on a machine with nothing else to do.
pub(crate) const SOON: Duration = Duration::from_secs(40);

const PASSWORD: &str = "a quiet room with levers";

/// Its hash, with parameters that cost nothing.
const CHEAP_HASH: &str =
    "$argon2id$v=19$m=8,t=1,p=1$kVm+zQDCKwNzbJeQah3acA$BFAhNkhPr3zTQNUU95y3+ZVqPsKkznjAWHE2BKlhMdE";

/// What a test may want otherwise.
#[derive(Default)]
pub(crate) struct Wants {
    /// Plain processes instead of containers.
    pub(crate) plain: bool,
    /// The key that the model API asks for.
    pub(crate) key: Option<&'static str>,
    /// Another way from the worker to the engine.
    pub(crate) engine: Option<String>,
    /// Another port of loopback by which the worker reaches Postgres.
    pub(crate) postgres_port: Option<u16>,
}

pub(crate) struct House {
    /// The superuser's.
    pub(crate) browser: Browser,
    /// Past the worker; none for plain processes.
    witness: Option<Witness>,
    pub(crate) serve: Option<Program>,
    pub(crate) work: Option<Program>,
    sql: PgPool,
    /// Everything of this test's on the disk.
    dir: PathBuf,
    origin: String,
    fleet: String,
    database_url: String,
    worker_variables: Vec<(&'static str, String)>,
    _standin: Program,
    standin_url: String,
    lives: usize,
}

/// What the database holds of a run.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Row {
    pub(crate) reason: Option<String>,
    pub(crate) end_step: Option<String>,
    pub(crate) exit_code: Option<i64>,
    pub(crate) confirmed_at: Option<OffsetDateTime>,
    pub(crate) wish_at: Option<OffsetDateTime>,
    pub(crate) egress_cut_at: Option<OffsetDateTime>,
    pub(crate) container: Option<String>,
    pub(crate) events: i64,
    pub(crate) stdout_lines: i64,
    pub(crate) stderr_lines: i64,
    pub(crate) turns: Option<i64>,
    pub(crate) tokens_in: Option<i64>,
    pub(crate) tokens_out: Option<i64>,
    pub(crate) cost_usd: Option<f64>,
    pub(crate) metered_usd: Option<f64>,
    pub(crate) metered_partly: bool,
    pub(crate) model: Option<String>,
}

/// An event, as it is stored.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Stored {
    pub(crate) seq: i64,
    pub(crate) source: String,
    pub(crate) kind: String,
    pub(crate) cut: i64,
    pub(crate) payload: String,
}

impl House {
    /// A house with a worker at a container engine.
    pub(crate) async fn open() -> Self {
        Self::open_with(Wants::default()).await
    }

    /// A house with something different about it.
    pub(crate) async fn open_with(wants: Wants) -> Self {
        let mut house = Self::without_worker(wants).await;
        house.start_worker().await;
        house
    }

    /// A house whose agents are shell scripts: the prompt is the script, the image holds nothing but busybox.
    pub(crate) async fn of_scripts() -> Self {
        static MADE: std::sync::OnceLock<()> = std::sync::OnceLock::new();
        MADE.get_or_init(|| {
            let address = variable("DOCKER_HOST").expect("DOCKER_HOST");
            let root = home().join(format!("image-{}", random()));
            let tools = ["sh", "sleep", "cat", "head", "yes", "setsid", "touch"];
            let scripts = [
                ("bin/claude", "#!/bin/sh\nexec sh -c \"$(cat)\"\n"),
                ("entrypoint", "#!/bin/sh\nexec \"$@\" </gate/prompt\n"),
            ];
            crate::image::make(&address, SCRIPTS, &root, &tools, &scripts);
        });
        let house = Self::open().await;
        let small = "update agents set image = $1, memory_mib = 256, pids = 64";
        sqlx::query(small).bind(SCRIPTS).execute(house.sql()).await.unwrap();
        house
    }

    /// What a worker on this host has in its environment.
    pub(crate) fn variable_of_worker(&self, name: &str) -> String {
        let found = self.worker_variables.iter().find(|(has, _)| *has == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    async fn without_worker(wants: Wants) -> Self {
        let fleet = format!("e2e-{}", random());
        let dir = home().join(&fleet);
        fs::create_dir_all(dir.join("work")).unwrap();
        let database_url = fresh_database(&fleet).await;
        let (redis, path) = (variable("REDIS_URL").expect("REDIS_URL"), variable("PATH").unwrap_or_default());

        let mut standin = Command::new(standin_program());
        standin.arg("--record").arg(dir.join("record"));
        standin.args(wants.key.iter().flat_map(|key| ["--key", key]));
        let mut standin = Program::start(standin, &[], &dir, "standin");
        let standin_url = standin.ready().await;

        let mut worker_variables = vec![
            (
                "DATABASE_URL",
                wants.postgres_port.map_or(database_url.clone(), |port| by(&database_url, port)),
            ),
            ("REDIS_URL", redis.clone()),
            ("SIGNALBOX_FLEET", fleet.clone()),
            ("SIGNALBOX_WORKER", "box".to_owned()),
            ("SIGNALBOX_WORK_DIR", dir.join("work").display().to_string()),
            ("ANTHROPIC_BASE_URL", standin_url.clone()),
            ("PATH", path),
        ];
        worker_variables.extend(wants.key.map(|key| ("ANTHROPIC_API_KEY", key.to_owned())));
        let mut witness = None;
        if wants.plain {
            worker_variables.push(("SIGNALBOX_ENGINE", "process".to_owned()));
            worker_variables
                .push(("SIGNALBOX_CLAUDE", variable("SIGNALBOX_CLAUDE").expect("SIGNALBOX_CLAUDE")));
        } else {
            let host = variable("DOCKER_HOST").expect("DOCKER_HOST");
            witness = Some(Witness::at(&host, &fleet).await);
            worker_variables.push(("DOCKER_HOST", wants.engine.unwrap_or(host)));
            worker_variables.extend(variable("SIGNALBOX_IMAGE").map(|image| ("SIGNALBOX_IMAGE", image)));
        }

        let sql = PgPoolOptions::new().max_connections(2).connect(&database_url).await.unwrap();
        let added =
            sqlx::query("insert into users (name, role, password_hash) values ('ada', 'superuser', $1)");
        added.bind(CHEAP_HASH).execute(&sql).await.unwrap();
        let mut house = Self {
            browser: Browser::new(""),
            witness,
            serve: None,
            work: None,
            sql,
            dir,
            origin: String::new(),
            fleet,
            database_url,
            worker_variables,
            _standin: standin,
            standin_url,
            lives: 0,
        };
        house.origin = house.start_server("127.0.0.1:0").await;
        house.browser = Browser::new(&house.origin);
        house.browser.sign_in("ada", PASSWORD).await;
        house
    }

    /// Starts `serve`; gives its origin.
    async fn start_server(&mut self, listen: &str) -> String {
        let variables = [
            ("DATABASE_URL", self.database_url.clone()),
            ("REDIS_URL", variable("REDIS_URL").expect("REDIS_URL")),
            ("SIGNALBOX_FLEET", self.fleet.clone()),
            ("SIGNALBOX_LISTEN", listen.to_owned()),
        ];
        self.lives += 1;
        let name = format!("serve-{}", self.lives);
        let mut server = Program::start(signalbox(&["serve"]), &variables, &self.dir, &name);
        let origin = server.ready().await;
        self.serve = Some(server);
        origin
    }

    /// Starts `serve` again where it was.
    pub(crate) async fn restart_server(&mut self) {
        let listen = self.origin.strip_prefix("http://").unwrap().to_owned();
        self.start_server(&listen).await;
    }

    /// Starts `work`, for the first time or again.
    pub(crate) async fn start_worker(&mut self) {
        self.lives += 1;
        let name = format!("work-{}", self.lives);
        let mut worker = Program::start(signalbox(&["work"]), &self.worker_variables, &self.dir, &name);
        worker.ready().await;
        self.work = Some(worker);
    }

    pub(crate) fn worker(&mut self) -> &mut Program {
        self.work.as_mut().expect("a worker")
    }

    /// The engine's word.
    pub(crate) fn witness(&self) -> &Witness {
        self.witness.as_ref().expect("a container engine")
    }

    /// The worker's folder.
    pub(crate) fn work_dir(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// Where strangers and browsers go.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// Where the stand-in listens.
    pub(crate) fn standin_url(&self) -> &str {
        &self.standin_url
    }

    /// The database, as its owner.
    pub(crate) fn sql(&self) -> &PgPool {
        &self.sql
    }

    /// Sends the form that starts a run; gives the run's number.
    pub(crate) async fn start(&self, prompt: &str) -> i64 {
        self.start_titled(prompt, "").await
    }

    pub(crate) async fn start_titled(&self, prompt: &str, title: &str) -> i64 {
        let form = [("agent", "claude-code"), ("prompt", prompt), ("title", title)];
        let answer = self.browser.post("/runs", &form).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        answer.location.unwrap().strip_prefix("/runs/").unwrap().parse().unwrap()
    }

    /// Sends the form that stops a run.
    pub(crate) async fn terminate(&self, run: i64, mode: &str) {
        let answer = self.browser.post(&format!("/runs/{run}/terminate"), &[("mode", mode)]).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
    }

    /// The run's page.
    pub(crate) async fn page(&self, run: i64) -> RunPage {
        RunPage { body: self.browser.page(&format!("/runs/{run}")).await }
    }

    /// Opens the run's page again and again until it is so.
    pub(crate) async fn until(
        &self,
        run: i64,
        what: &str,
        within: Duration,
        so: impl Fn(&RunPage) -> bool,
    ) -> RunPage {
        let deadline = Instant::now() + within;
        loop {
            let page = self.page(run).await;
            if so(&page) {
                return page;
            }
            assert!(
                Instant::now() < deadline,
                "run {run} isn't {what} within {within:?}: {:#?}",
                self.row(run).await
            );
            sleep(Duration::from_millis(40)).await;
        }
    }

    pub(crate) async fn until_ended(&self, run: i64, within: Duration) -> RunPage {
        self.until(run, "ended", within, |page| page.is("ended")).await
    }

    /// Waits until a run has called this many tools.
    pub(crate) async fn until_at_work(&self, run: i64, calls: usize) {
        let what = format!("{calls} tool calls");
        until(&what, SOON, async || self.count(run, "tool_use").await >= calls).await;
    }

    pub(crate) async fn count(&self, run: i64, kind: &str) -> usize {
        let counted =
            sqlx::query_scalar::<_, i64>("select count(*) from events where run_id = $1 and kind = $2");
        let count = counted.bind(run).bind(kind).fetch_one(&self.sql).await.unwrap();
        count.try_into().unwrap()
    }

    pub(crate) async fn row(&self, run: i64) -> Row {
        sqlx::query_as("select * from runs where id = $1").bind(run).fetch_one(&self.sql).await.unwrap()
    }

    pub(crate) async fn events(&self, run: i64) -> Vec<Stored> {
        let stored = sqlx::query_as("select * from events where run_id = $1 order by seq");
        stored.bind(run).fetch_all(&self.sql).await.unwrap()
    }

    /// The id of a run's container.
    pub(crate) async fn container(&self, run: i64) -> String {
        until("running", SOON, async || self.row(run).await.container.is_some()).await;
        self.row(run).await.container.unwrap()
    }

    /// Waits until the engine knows nothing of this fleet any more.
    pub(crate) async fn until_clear(&self) {
        until("clear of containers", Duration::from_secs(20), async || {
            self.witness().containers().await.is_empty()
        })
        .await;
    }

    /// What reached the model API, in the order it came: records with `what` of `arrived` and `ended`.
    pub(crate) fn record(&self) -> Vec<Value> {
        let record = fs::read_to_string(self.dir.join("record")).unwrap_or_default();
        let whole = record.rfind('\n').map_or("", |end| &record[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// How many requests reached the model API.
    pub(crate) fn requests(&self) -> usize {
        self.record().iter().filter(|entry| entry["what"] == "arrived").count()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for program in [&self.serve, &self.work].into_iter().flatten() {
                let log = program.log();
                let lines: Vec<_> = log.lines().rev().take(25).collect();
                let words = lines.into_iter().rev().collect::<Vec<_>>().join("\n");
                let _ = writeln!(std::io::stderr(), "--- its last words:\n{words}");
            }
        }
        (self.work, self.serve) = (None, None);
        let (witness, url, fleet, dir) =
            (self.witness.take(), self.database_url.clone(), self.fleet.clone(), self.dir.clone());
        // A thread of its own, because the test's runtime stands still while something is dropped.
        let tidy = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                if let Some(witness) = witness {
                    witness.clear().await;
                }
                for process in crate::kernel::of_cells(&dir.join("work")) {
                    let pid = nix::unistd::Pid::from_raw(process.pid);
                    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
                }
                drop_database(&url).await;
                forget(&fleet).await;
                let _ = fs::remove_dir_all(&dir);
            });
        });
        let _ = tidy.join();
    }
}

/// The image whose agents are shell scripts.
const SCRIPTS: &str = "signalbox-test-scripts:latest";

/// Waits until something is so.
pub(crate) async fn until(what: &str, within: Duration, mut so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !so().await {
        assert!(Instant::now() < deadline, "not {what} within {within:?}");
        sleep(Duration::from_millis(40)).await;
    }
}

/// The program under test.
pub(crate) fn signalbox(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox"));
    command.args(arguments);
    command
}

/// The stand-in: as told, else the one that was built beside the program.
fn standin_program() -> PathBuf {
    let beside = PathBuf::from(env!("CARGO_BIN_EXE_signalbox")).with_file_name("examples").join("standin");
    let program = variable("CLAUDE_STANDIN").map_or(beside, PathBuf::from);
    assert!(program.exists(), "no {}; cargo build --example standin makes it", program.display());
    program
}

/// Where houses stand: where development keeps its workers' folders, else among temporary files.
pub(crate) fn home() -> PathBuf {
    variable("SIGNALBOX_WORK_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

pub(crate) fn random() -> String {
    let mut bytes = [0_u8; 6];
    getrandom::fill(&mut bytes).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Postgres's `host:port`.
pub(crate) fn postgres() -> String {
    let url: Url = variable("DATABASE_URL").expect("DATABASE_URL").parse().unwrap();
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432))
}

fn by(url: &str, port: u16) -> String {
    let mut url: Url = url.parse().unwrap();
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(port)).unwrap();
    url.into()
}

async fn maintenance() -> PgConnection {
    PgConnection::connect(&variable("DATABASE_URL").expect("DATABASE_URL")).await.unwrap()
}

/// A database of this name, brought up to date by the program itself.
async fn fresh_database(fleet: &str) -> String {
    let name = fleet.replace('-', "_");
    sqlx::raw_sql(AssertSqlSafe(format!("create database {name}")))
        .execute(&mut maintenance().await)
        .await
        .unwrap();
    let mut url: Url = variable("DATABASE_URL").expect("DATABASE_URL").parse().unwrap();
    url.set_path(&name);
    let url = String::from(url);
    let done = signalbox(&["migrate"]).env_clear().env("DATABASE_URL", &url).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    url
}

async fn drop_database(url: &str) {
    let name = url.rsplit('/').next().unwrap_or_default();
    let statement = format!("drop database if exists {name} with (force)");
    let _ = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut maintenance().await).await;
}

/// Takes a fleet's keys out of Redis.
async fn forget(fleet: &str) {
    let client = redis::Client::open(variable("REDIS_URL").expect("REDIS_URL")).unwrap();
    let Ok(mut connection) = client.get_multiplexed_async_connection().await else { return };
    let keys = redis::cmd("KEYS").arg(format!("{fleet}:*")).query_async::<Vec<String>>(&mut connection).await;
    for key in keys.unwrap_or_default() {
        let _ = redis::cmd("DEL").arg(key).query_async::<()>(&mut connection).await;
    }
}
