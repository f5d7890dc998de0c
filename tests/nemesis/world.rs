//! A world: stores, an engine, a server and workers, all real and all ours to break; a superuser's browser; and those
//! who write down what happens.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection, PgPool, raw_sql};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::browser::Browser;
use crate::history::{Pen, Record, now};
use crate::kin::{self, Janitor};
use crate::observer::Observer;
use crate::parts::{self, MARK, Part};
use crate::program::Program;
use crate::wire::{Edit, Wire};
use crate::{image, journal, variable, witness};

const PASSWORD: &str = "a quiet room with levers";
/// Its hash, with parameters that cost nothing.
const CHEAP_HASH: &str =
    "$argon2id$v=19$m=8,t=1,p=1$kVm+zQDCKwNzbJeQah3acA$BFAhNkhPr3zTQNUU95y3+ZVqPsKkznjAWHE2BKlhMdE";

/// How small the agents are, so that the machine can hold many; and for how long at most they run.
const SMALL: &str = "update agents set memory_mib = 256, milli_cpus = 400, pids = 64, time_s = 3600";

const IMAGE: &str = "nemesis-agent:latest";
const FLEET: &str = "nemesis";
const TOOLS: [&str; 8] = ["sh", "sleep", "cat", "awk", "setsid", "ps", "ls", "echo"];
const ENTRYPOINT: &str = "#!/bin/sh\nexec \"$@\" </gate/prompt\n";

/// A worker's place.
pub(crate) struct Seat {
    pub(crate) name: String,
    /// Its way to Postgres.
    pub(crate) postgres: Wire,
    port: u16,
    /// Its way to the engine.
    pub(crate) engine: Wire,
    socket: PathBuf,
    /// Its folder; two of one name may have two.
    folder: PathBuf,
    program: Mutex<Option<(Program, String)>>,
    lives: AtomicU32,
}

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
    serve: Mutex<Option<(Program, String)>>,
    lives: AtomicU32,
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
        let postgres = parts::postgres(&dir, ports[0], &password);
        let redis = parts::redis(&dir, ports[1], &password);
        let den = parts::den(&dir);
        let engine = parts::engine(&dir, den.pids()[0]);
        let docker_host = format!("unix://{}", dir.join("engine.sock").display());
        let server = format!("postgres://signalbox:{password}@127.0.0.1:{}", ports[0]);
        let database_url = format!("{server}/signalbox");
        let redis_url = format!("redis://:{password}@127.0.0.1:{}", ports[1]);

        postgres.up(|| answers(format!("{server}/postgres"))).await;
        let sql = fresh_database(&server, &database_url).await;
        engine.up(|| witness::answers(docker_host.clone())).await;
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
            seats.push(Seat::make(&dir, n, name, ports[0], plan.edit).await);
        }
        let mut world = Self {
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

    /// Starts `serve`, for the first time or again where it was.
    pub(crate) async fn start_server(&self) {
        let life = format!("serve.{}", self.lives.fetch_add(1, Ordering::Relaxed) + 1);
        let listen = self.origin.strip_prefix("http://").unwrap_or("127.0.0.1:0").to_owned();
        let variables = [
            ("DATABASE_URL", journal::signed(&self.database_url, &life)),
            ("REDIS_URL", self.redis_url.clone()),
            ("SIGNALBOX_FLEET", FLEET.to_owned()),
            ("SIGNALBOX_LISTEN", listen),
            (MARK, self.dir.display().to_string()),
        ];
        let program = Program::start(signalbox("serve"), &variables, &self.out, &life);
        self.pen.write(&Record::Life { at: now(), life: life.clone(), begins: true });
        *self.serve.lock().await = Some((program, life));
    }

    /// What a worker at this seat is told by its environment.
    pub(crate) fn worker_variables(&self, seat: &Seat, life: &str) -> Vec<(&'static str, String)> {
        vec![
            ("DATABASE_URL", journal::signed(&journal::by(&self.database_url, seat.port), life)),
            ("REDIS_URL", self.redis_url.clone()),
            ("SIGNALBOX_FLEET", FLEET.to_owned()),
            ("SIGNALBOX_WORKER", seat.name.clone()),
            ("SIGNALBOX_CAPACITY", "4".to_owned()),
            ("SIGNALBOX_WORK_DIR", seat.folder.display().to_string()),
            ("SIGNALBOX_IMAGE", IMAGE.to_owned()),
            ("DOCKER_HOST", format!("unix://{}", seat.socket.display())),
            ("ANTHROPIC_BASE_URL", "http://127.0.0.1:9".to_owned()),
            ("PATH", variable("PATH").unwrap_or_default()),
        ]
    }

    /// The next life of a worker; a word in the journal.
    pub(crate) fn begin_life(&self, seat: &Seat) -> String {
        let life = format!("{}.{}", seat.name, seat.lives.fetch_add(1, Ordering::Relaxed) + 1);
        self.pen.write(&Record::Life { at: now(), life: life.clone(), begins: true });
        life
    }

    /// Starts a worker, for the first time or again.
    pub(crate) async fn start_worker(&self, seat: &Seat) {
        let life = self.begin_life(seat);
        let mut variables = self.worker_variables(seat, &life);
        variables.push((MARK, self.dir.display().to_string()));
        let program = Program::start(signalbox("work"), &variables, &self.out, &life);
        *seat.program.lock().await = Some((program, life));
    }

    fn over(&self, life: String) {
        self.pen.write(&Record::Life { at: now(), life, begins: false });
    }

    /// `kill -9`.
    pub(crate) async fn kill_worker(&self, seat: &Seat) {
        if let Some((program, life)) = seat.program.lock().await.take() {
            self.over(life);
            program.kill();
        }
    }

    pub(crate) async fn signal_worker(&self, seat: &Seat, signal: Signal) {
        if let Some((program, _)) = seat.program.lock().await.as_ref() {
            program.signal(signal);
        }
    }

    pub(crate) async fn kill_server(&self) {
        if let Some((program, life)) = self.serve.lock().await.take() {
            self.over(life);
            program.kill();
        }
    }

    pub(crate) async fn signal_server(&self, signal: Signal) {
        if let Some((program, _)) = self.serve.lock().await.as_ref() {
            program.signal(signal);
        }
    }

    /// Starts again what has ended by itself, as a host's supervisor would.
    pub(crate) async fn look_after(&self) {
        let gone = |program: &Option<(Program, String)>| {
            program.as_ref().filter(|(program, _)| !kin::lives(program.pid())).map(|(_, life)| life.clone())
        };
        for seat in &self.seats {
            let life = gone(&*seat.program.lock().await);
            if let Some(life) = life {
                self.over(life);
                self.start_worker(seat).await;
            }
        }
        let life = gone(&*self.serve.lock().await);
        if let Some(life) = life {
            self.over(life);
            self.start_server().await;
        }
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

impl Seat {
    async fn make(dir: &Path, n: usize, name: &str, postgres: u16, edit: Option<Edit>) -> Self {
        let target = format!("127.0.0.1:{postgres}");
        let (postgres, port) = match edit {
            Some(edit) => Wire::to_port_with(target, edit).await,
            None => Wire::to_port(target).await,
        };
        let socket = dir.join(format!("engine-{n}.sock"));
        let engine = Wire::between_sockets(&socket, &dir.join("engine.sock"));
        let (program, lives) = (Mutex::default(), AtomicU32::new(u32::try_from(n * 1000).unwrap()));
        let folder = dir.join("w").join(n.to_string());
        Self { name: name.to_owned(), postgres, port, engine, socket, folder, program, lives }
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

/// The program under test.
fn signalbox(word: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox"));
    command.arg(word);
    command
}

/// So many random bytes, in hex.
pub(crate) fn random(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).unwrap();
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}
