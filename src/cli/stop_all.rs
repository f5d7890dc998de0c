//! `signalbox stop-all`: kills every agent on this host, with no store, no network and, if need be, no engine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User};
use time::OffsetDateTime;
use tokio::time::{sleep, timeout};

use super::{Failure, block_on, say};
use crate::clock;
use crate::config;
use crate::engine::docker::Docker;
use crate::engine::host::Host;
use crate::engine::process::Processes;
use crate::engine::{Engine, Left, Signal, Stage, Status};
use crate::worker::notes::{Killed, Note};

/// How long killing goes on.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it goes on looking after the first round, with nothing alive: a start under way takes its time.
const STARTS_FOR: Duration = Duration::from_secs(3);
/// How long an engine is asked for anything: it may be the reason why this is needed.
const ASK: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Why; kept in the audit when the worker is back.
    #[arg(long, default_value = "")]
    reason: String,
}

/// An agent's cell on this host.
struct Target {
    run: i64,
    worker: Option<String>,
    container: String,
    /// The plain processes that it is made of, when it is no container.
    processes: Option<Processes>,
}

pub(super) fn run(args: &Args) -> Result<u8, Failure> {
    let host = config::Host::from_env(&config::env())?;
    block_on(stop_all(&host, &args.reason))
}

async fn stop_all(settings: &config::Host, reason: &str) -> Result<u8, Failure> {
    let stop = StopAll {
        host: Host::default(),
        engine: Docker::of_fleet(settings.docker_host.as_deref(), &settings.fleet).ok(),
        work_dir: settings.work_dir.clone(),
    };
    let mut note =
        Note { at: clock::now(), who: who(), reason: reason.to_owned(), killed: Vec::new(), done: false };
    let folders = stop.folders();
    leave(&note, &folders);
    let mut receipts: BTreeMap<String, Receipt> = BTreeMap::new();
    let until = Instant::now() + PATIENCE;
    let mut settled = None;
    loop {
        let targets = stop.targets().await;
        let mut alive = false;
        for target in &targets {
            let receipt = stop.end(target).await;
            alive |= !receipt.dead;
            receipts.insert(target.container.clone(), receipt);
        }
        // What was just being started when the first look came is caught by a later one.
        let now = Instant::now();
        let settled = *settled.get_or_insert(now + STARTS_FOR);
        if now >= until || (now >= settled && !alive) {
            break;
        }
        sleep(Duration::from_millis(200)).await;
    }
    for receipt in receipts.values() {
        say::line(format_args!("{}", receipt.line));
    }
    note.done = true;
    for folder in &folders {
        note.killed = receipts.values().filter(|r| r.is_of(folder)).map(|r| r.killed.clone()).collect();
        leave(&note, std::slice::from_ref(folder));
    }
    let living = receipts.values().filter(|receipt| !receipt.dead).count();
    say::line(format_args!(
        "{} stopped, {living} alive. Workers on this host take nothing more until they are told to.",
        receipts.len() - living
    ));
    Ok(u8::from(living > 0))
}

/// Leaves the note where each worker of this host finds it.
fn leave(note: &Note, folders: &[PathBuf]) {
    for folder in folders {
        if let Err(error) = note.write(folder) {
            say::aside(format_args!("signalbox: no note in {}: {error}", folder.display()));
        }
    }
}

fn who() -> String {
    let uid = Uid::current();
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
    name.unwrap_or_else(|| format!("user {uid}"))
}

struct Receipt {
    worker: Option<String>,
    dead: bool,
    killed: Killed,
    line: String,
}

impl Receipt {
    fn is_of(&self, folder: &Path) -> bool {
        self.worker.as_deref().is_none_or(|worker| folder.file_name().is_some_and(|name| name == worker))
    }
}

struct StopAll {
    host: Host,
    engine: Option<Docker>,
    work_dir: PathBuf,
}

impl StopAll {
    /// The folders of the workers of this host.
    fn folders(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.work_dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.join("lock").exists()).collect()
    }

    /// Every living agent: by its processes, by what the engine lists if it answers, and by the folders of plain processes.
    async fn targets(&self) -> Vec<Target> {
        let mut found: BTreeMap<String, Target> = BTreeMap::new();
        for cell in self.host.cells(&self.work_dir) {
            let run = name_of(&cell.folder).and_then(|name| name.parse().ok()).unwrap_or_default();
            let worker = cell.folder.ancestors().nth(2).and_then(name_of);
            let target = Target { run, worker, container: cell.container.clone(), processes: None };
            found.insert(cell.container, target);
        }
        if let Some(engine) = &self.engine
            && let Ok(Ok(listed)) = timeout(ASK, engine.list()).await
        {
            for cell in listed.into_iter().filter(|cell| cell.stage == Stage::Alive) {
                let (run, container) = (cell.run, cell.container);
                let target = Target { run, worker: None, container: container.clone(), processes: None };
                found.entry(container).or_insert(target);
            }
        }
        for folder in self.folders() {
            let processes = Processes::new(&folder, "claude");
            for cell in processes.list().await.unwrap_or_default() {
                if cell.stage == Stage::Alive {
                    let target = Target {
                        run: cell.run,
                        worker: name_of(&folder),
                        container: cell.container.clone(),
                        processes: Some(Processes::new(&folder, "claude")),
                    };
                    found.insert(format!("{}/{}", folder.display(), cell.container), target);
                }
            }
        }
        found.into_values().collect()
    }

    /// Kills one, and says what proves it.
    async fn end(&self, target: &Target) -> Receipt {
        let (dead, proof) = match &target.processes {
            Some(processes) => end_processes(processes, &target.container).await,
            None => self.end_container(&target.container).await,
        };
        let at = clock::now();
        let short: String = target.container.chars().take(12).collect();
        let line = format!("run {}  {short}  {} UTC  {proof}", target.run, clock_ms(at));
        let killed = Killed { run: target.run, container: target.container.clone(), proof };
        Receipt { worker: target.worker.clone(), dead, killed, line }
    }

    async fn end_container(&self, container: &str) -> (bool, String) {
        let by_host = self.host.kill(container);
        let by_engine = match (&by_host, &self.engine) {
            (Err(_), Some(engine)) => {
                timeout(ASK, engine.signal(container, Signal::Kill)).await.is_ok_and(|sent| sent.is_ok())
            }
            _ => false,
        };
        let left = self.host.left(container);
        let engine = match &self.engine {
            Some(engine) => timeout(ASK, said(engine, container)).await.ok().flatten(),
            None => None,
        };
        let host = match (&by_host, left) {
            (_, Left::Alive(n)) | (&Ok(Left::Alive(n)), _) => format!("{n} of its processes are ALIVE"),
            (Ok(_), _) => "killed by the host's kernel, nothing of it is left".to_owned(),
            (Err(_), _) if by_engine => "killed by the engine".to_owned(),
            (Err(error), _) => format!("not killed by this host: {error}"),
        };
        let over = engine.as_deref().is_some_and(|word| word != "alive");
        let word =
            engine.map_or("the engine doesn't answer".to_owned(), |word| format!("the engine says {word}"));
        let killed = matches!(by_host, Ok(Left::Empty | Left::Gone));
        let dead = !matches!(left, Left::Alive(_)) && (killed || over);
        (dead, format!("{host}; {word}"))
    }
}

async fn end_processes(processes: &Processes, cell: &str) -> (bool, String) {
    let sent = processes.signal(cell, Signal::Kill).await;
    match processes.inspect(cell).await {
        Ok(Status::Exited(_) | Status::Absent) => (true, "killed, nothing of it is left".to_owned()),
        Ok(_) => {
            (false, format!("ALIVE; {}", sent.err().map_or("killed".to_owned(), |error| error.to_string())))
        }
        Err(error) => (false, format!("not known: {error}")),
    }
}

/// The engine's word, waited for a moment: it takes one to notice a death.
async fn said(engine: &Docker, container: &str) -> Option<String> {
    let until = Instant::now() + ASK / 2;
    loop {
        let word = match engine.inspect(container).await {
            Ok(Status::Exited(exit)) => format!("exited {}", exit.code),
            Ok(Status::Absent) => "that it is gone".to_owned(),
            Ok(Status::Created | Status::Alive) if Instant::now() < until => {
                sleep(Duration::from_millis(20)).await;
                continue;
            }
            Ok(Status::Created | Status::Alive) => "alive".to_owned(),
            Err(_) => return None,
        };
        return Some(word);
    }
}

fn name_of(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().into_owned())
}

fn clock_ms(at: OffsetDateTime) -> String {
    format!("{:02}:{:02}:{:02}.{:03}", at.hour(), at.minute(), at.second(), at.millisecond())
}
