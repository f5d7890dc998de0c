//! A world: stores, an engine, a server and workers, all real and all ours to break; a superuser's browser; and those
//! who write down what happens.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection, PgPool, raw_sql};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::browser::Browser;
use crate::history::{Pen, Record, now};
use crate::kin::Janitor;
use crate::observer::Observer;
use crate::parts::{self, Part};
use crate::program::Program;
use crate::seat::{Seat, signalbox};
use crate::wire::{Edit, Wire};
use crate::{image, journal, variable, witness};

const PASSWORD: &str = "a quiet room with levers";
/// Its hash, with parameters that cost nothing.
const CHEAP_HASH: &str =
    "$argon2id$v=19$m=8,t=1,p=1$kVm+zQDCKwNzbJeQah3acA$BFAhNkhPr3zTQNUU95y3+ZVqPsKkznjAWHE2BKlhMdE";

/// How small the agents are, so that the machine can hold many; and for how long at most they run.
const SMALL: &str = "update agents set memory_mib = 256, milli_cpus = 400, pids = 64, time_s = 3600";

pub(crate) const IMAGE: &str = "nemesis-agent:latest";
pub(crate) const FLEET: &str = "nemesis";
const TOOLS: [&str; 8] = ["sh", "sleep", "cat", "awk", "setsid", "ps", "ls", "echo"];
const ENTRYPOINT: &str = "#!/bin/sh\nexec \"$@\" </gate/prompt\n";

pub(crate) struct World {
    /// Everything on the disk that goes with it.
    pub(crate) dir: PathBuf,
    /// What stays: the history, and what the programs said.
    pub(crate) out: PathBuf,
    pub(crate) pen: Pen,
    /// The database, as its owner.
    pub(crate) sql: PgPool,
    pub(crate) browser: Browser,
    pub(crate) origin: String,
    pub(crate) docker_host: String,
    pub(crate) database_url: String,
    pub(crate) redis_url: String,
    pub(crate) postgres: Mutex<Part>,
    pub(crate) redis: Mutex<Part>,
    pub(crate) engine: Mutex<Part>,
    pub(crate) seats: Vec<Seat>,
    /// The server's way to Postgres.
    pub(crate) way: Wire,
    pub(crate) way_port: u16,
    pub(crate) serve: Mutex<Option<(Program, String)>>,
    pub(crate) lives: AtomicU32,
    pub(crate) clicks: AtomicU64,
    notes: JoinHandle<()>,
    observer: Option<Observer>,
    _den: Part,
    _janitor: Janitor,
}

/// What a world begins with.
#[derive(Default)]
pub(crate) struct Plan {
    /// The names of its workers; two of one name have a folder each. Those after the first `start` start later.
    pub(crate) workers: Vec<&'static str>,
    pub(crate) start: usize,
    /// What the wires to Postgres do to what the workers say.
    pub(crate) edit: Option<Edit>,
    pub(crate) seed: u64,
    pub(crate) seconds: u64,
}

/// Whether this machine has what a world is made of; else what it lacks.
pub(crate) fn lacks() -> Option<&'static str> {
    let has = |program: &str| {
        let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        folders.iter().any(|folder| Path::new(folder).join(program).exists())
    };
    let programs = [
        "dockerd",
        "docker",
        "docker-init",
        "redis-server",
        "busybox",
        "setpriv",
        "nsenter",
        "unshare",
        "setsid",
    ];
    match programs.into_iter().find(|program| !has(program)) {
        Some(program) => Some(program),
        None if parts::postgres_programs().is_none() => Some("postgres"),
        None if !nix::unistd::geteuid().is_root() => Some("root's rights"),
        None => None,
    }
}

impl World {
    pub(crate) async fn make(out: &Path, plan: Plan) -> Self {
        let dir = PathBuf::from(format!("/tmp/signalbox-nemesis.{}", random(4)));
        for folder in ["log", "w"] {
            fs::create_dir_all(dir.join(folder)).unwrap();
        }
        fs::create_dir_all(out).unwrap();
        if let Some(file) = variable("SIGNALBOX_NEMESIS_WORLD") {
            fs::write(file, dir.display().to_string()).unwrap();
        }
        let janitor = Janitor::of(&dir);
        let pen = Pen::new(&out.join("history.jsonl"));
        pen.write(&Record::Began { at: now(), seed: plan.seed, seconds: plan.seconds, lease_ms: 30_000 });

        let (password, ports) = (random(8), [parts::free_port(), parts::free_port()]);
        let mut postgres = parts::postgres(&dir, ports[0], &password);
        let redis = parts::redis(&dir, ports[1], &password);
        let den = parts::den(&dir);
        let mut engine = parts::engine(&dir, den.pid());
        let docker_host = format!("unix://{}", dir.join("engine.sock").display());
        let server = format!("postgres://signalbox:{password}@127.0.0.1:{}", ports[0]);
        let database_url = format!("{server}/signalbox");
        let redis_url = format!("redis://:{password}@127.0.0.1:{}", ports[1]);

        postgres.up(&dir, || answers(format!("{server}/postgres"))).await;
        let sql = fresh_database(&server, &database_url).await;
        engine.up(&dir, || witness::answers(docker_host.clone())).await;
        let scripts = [
            ("bin/claude", include_str!("agent.sh")),
            ("bin/claude-child", include_str!("child.sh")),
            ("entrypoint", ENTRYPOINT),
        ];
        image::make(&docker_host, IMAGE, &dir.join("image"), &TOOLS, &scripts);
        let notes = tokio::spawn(witness::take_notes(docker_host.clone(), pen.clone()));
        let observer = Observer::of(dir.join("docker"), pen.clone());

        let mut seats = Vec::new();
        for (n, name) in plan.workers.iter().enumerate() {
            let again = plan.workers[..n].contains(name);
            let folder = dir.join(if again { format!("w{n}") } else { "w".to_owned() });
            seats.push(Seat::make(&dir, (n, name), folder, ports[0], plan.edit).await);
        }
        let (way, way_port) = Wire::to_port(format!("127.0.0.1:{}", ports[0])).await;
        let mut world = Self {
            way,
            way_port,
            browser: Browser::new(""),
            origin: String::new(),
            postgres: Mutex::new(postgres),
            redis: Mutex::new(redis),
            engine: Mutex::new(engine),
            serve: Mutex::default(),
            lives: AtomicU32::default(),
            clicks: AtomicU64::default(),
            observer: Some(observer),
            _den: den,
            _janitor: janitor,
            out: out.to_owned(),
            dir,
            pen,
            sql,
            docker_host,
            database_url,
            redis_url,
            seats,
            notes,
        };
        world.start_server().await;
        world.origin = world.serve.lock().await.as_mut().unwrap().0.ready().await;
        world.browser = Browser::new(&world.origin);
        world.browser.sign_in("ada", PASSWORD).await;
        for seat in world.seats.iter().take(plan.start) {
            world.start_worker(seat).await;
            seat.program.lock().await.as_mut().unwrap().0.ready().await;
        }
        world
    }

    /// Ends it all, in an order in which nothing is missed, with the whole history written.
    pub(crate) async fn end(mut self) {
        for seat in &self.seats {
            seat.program.lock().await.take();
        }
        self.serve.lock().await.take();
        journal::copy(&self.sql, &self.pen).await;
        self.notes.abort();
        drop(self.observer.take());
        self.sql.close().await;
        self.engine.lock().await.leave(Duration::from_secs(20)).await;
        self.pen.flush();
        let log = self.dir.join("log/dockerd.log");
        let _ = fs::copy(log, self.out.join("dockerd.log"));
    }
}

/// Whether Postgres answers at this address.
pub(crate) async fn answers(url: String) -> bool {
    let asked = PgConnection::connect(&url);
    tokio::time::timeout(Duration::from_secs(1), asked).await.is_ok_and(|answer| answer.is_ok())
}

/// The database, brought up to date by the program itself, with a journal, small agents and a superuser.
async fn fresh_database(server: &str, url: &str) -> PgPool {
    let pool = |size| PgPoolOptions::new().max_connections(size).acquire_timeout(Duration::from_secs(2));
    let first = pool(1).connect(&format!("{server}/postgres")).await.unwrap();
    raw_sql("create database signalbox").execute(&first).await.unwrap();
    first.close().await;
    let done = signalbox("migrate").env_clear().env("DATABASE_URL", url).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let sql = pool(4).connect(url).await.unwrap();
    raw_sql(SMALL).execute(&sql).await.unwrap();
    let added = sqlx::query("insert into users (name, role, password_hash) values ('ada', 'superuser', $1)");
    added.bind(CHEAP_HASH).execute(&sql).await.unwrap();
    journal::make(&sql).await;
    sql
}

/// So many random bytes, in hex.
pub(crate) fn random(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).unwrap();
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}
