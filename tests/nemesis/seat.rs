//! The processes of Signalbox in a world: the server, and workers each at a seat of its own; started, killed, signalled,
//! and started again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::Signal;
use tokio::sync::Mutex;

use crate::history::{Record, now};
use crate::parts::MARK;
use crate::program::Program;
use crate::wire::{Edit, Wire};
use crate::world::{FLEET, IMAGE, World};
use crate::{journal, kin, variable};

/// A program that runs, and the name of this life of it.
type Running = Mutex<Option<(Program, String)>>;

/// A worker's place.
pub(crate) struct Seat {
    pub(crate) name: String,
    /// Its way to Postgres.
    pub(crate) postgres: Wire,
    port: u16,
    /// Its way to the engine.
    pub(crate) engine: Wire,
    socket: PathBuf,
    /// Where its folder is; two of one name are on what could be two hosts.
    pub(crate) folder: PathBuf,
    pub(crate) program: Running,
    lives: AtomicU32,
}

impl Seat {
    pub(crate) async fn make(
        dir: &Path,
        (n, name): (usize, &str),
        folder: PathBuf,
        postgres: u16,
        edit: Option<Edit>,
    ) -> Self {
        let target = format!("127.0.0.1:{postgres}");
        let (postgres, port) = match edit {
            Some(edit) => Wire::to_port_with(target, edit).await,
            None => Wire::to_port(target).await,
        };
        let socket = dir.join(format!("engine-{n}.sock"));
        let engine = Wire::between_sockets(&socket, &dir.join("engine.sock"));
        let (program, lives) = (Mutex::default(), AtomicU32::new(u32::try_from(n * 1000).unwrap()));
        Self { name: name.to_owned(), postgres, port, engine, socket, folder, program, lives }
    }
}

impl World {
    /// Starts `serve`, for the first time or again where it was.
    pub(crate) async fn start_server(&self) {
        let life = format!("serve.{}", self.lives.fetch_add(1, Ordering::Relaxed) + 1);
        let listen = self.origin.strip_prefix("http://").unwrap_or("127.0.0.1:0").to_owned();
        let variables = [
            ("DATABASE_URL", journal::signed(&journal::by(&self.database_url, self.way_port), &life)),
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

    /// Stops everything on this host.
    pub(crate) fn stop_all(&self) -> Command {
        let mut command = signalbox("stop-all");
        let words = File::create(self.out.join("stop-all.out")).unwrap();
        command.env_clear().env("SIGNALBOX_FLEET", FLEET).env("SIGNALBOX_WORK_DIR", &self.seats[0].folder);
        command.env("DOCKER_HOST", &self.docker_host).env(MARK, &self.dir);
        command.args(["--reason", "by chance"]).stdout(words.try_clone().unwrap()).stderr(words);
        command
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
}

/// The program under test.
pub(crate) fn signalbox(word: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox"));
    command.arg(word);
    command
}
