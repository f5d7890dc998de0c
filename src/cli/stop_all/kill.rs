//! The killing: all at once and again and again, and no kill waits for another one's end or for a word of the engine. What
//! became of each agent is looked at only after the last kill.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::config;
use crate::engine::docker::Docker;
use crate::engine::host::Host;
use crate::engine::process::Processes;
use crate::engine::{Engine, Error, Left, Signal, Stage, Status};

/// How long killing goes on.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it goes on looking after the first round, with nothing alive: a start under way takes its time.
const STARTS_FOR: Duration = Duration::from_secs(3);
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(200);
/// How long an engine is asked for anything: it may be the reason why this is needed.
const ASK: Duration = Duration::from_secs(1);

/// What is known of an agent in the end.
pub(super) struct Proof {
    pub(super) run: i64,
    /// Whose it is, where that is known.
    pub(super) worker: Option<String>,
    pub(super) container: String,
    pub(super) dead: bool,
    pub(super) words: String,
}

/// An agent that was alive when it was found.
struct Agent {
    run: i64,
    worker: Option<String>,
    container: String,
    /// The folder of its worker, when it is made of plain processes.
    plain: Option<PathBuf>,
    tried: Tried,
}

/// What was done about one.
#[derive(Default)]
struct Tried {
    /// The host's SIGKILL went out.
    by_host: bool,
    /// The engine's did, by its word.
    by_engine: bool,
    /// Why the host's didn't, the last time.
    refused: Option<String>,
}

/// All that can be killed from here.
pub(super) struct Killer {
    host: Arc<Host>,
    engine: Option<Docker>,
    work_dir: PathBuf,
    /// Every agent that was found, by worker's folder and container.
    found: Mutex<BTreeMap<(Option<PathBuf>, String), Agent>>,
}

impl Killer {
    pub(super) fn new(settings: &config::Host) -> Self {
        Self {
            host: Arc::default(),
            engine: Docker::of_fleet(settings.docker_host.as_deref(), &settings.fleet).ok(),
            work_dir: settings.work_dir.clone(),
            found: Mutex::default(),
        }
    }

    /// The folders of the workers of this host.
    ///
    /// # Errors
    /// When they can't be looked for.
    pub(super) fn folders(&self) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.work_dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
        Ok(paths.into_iter().filter(|path| path.join("lock").exists()).collect())
    }

    /// Kills every agent, and gives what is known of each when nothing more is killed.
    pub(super) async fn kill_all(&self) -> Vec<Proof> {
        tokio::join!(
            rounds(async || self.containers_by_host().await),
            rounds(async || self.containers_by_engine().await),
            rounds(async || self.plain_processes().await),
        );
        let agents = std::mem::take(&mut *self.found());
        join_all(agents.values().map(|agent| self.prove(agent))).await
    }

    fn found(&self) -> MutexGuard<'_, BTreeMap<(Option<PathBuf>, String), Agent>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what was found, and what was done about it.
    fn keep(&self, agent: Agent) {
        let tried = &agent.tried;
        let (by_host, by_engine, refused) = (tried.by_host, tried.by_engine, tried.refused.clone());
        let mut found = self.found();
        let known = found.entry((agent.plain.clone(), agent.container.clone())).or_insert(agent);
        known.tried.by_host |= by_host;
        known.tried.by_engine |= by_engine;
        known.tried.refused = refused;
    }

    /// A round of containers whose processes can be seen from here.
    async fn containers_by_host(&self) -> bool {
        let (host, work_dir) = (Arc::clone(&self.host), self.work_dir.clone());
        let Ok(Ok(cells)) = spawn_blocking(move || host.cells(&work_dir)).await else {
            // It couldn't look just now: somebody may be alive.
            return true;
        };
        let killed = join_all(cells.into_iter().map(async |cell| {
            let run = name_of(&cell.folder).and_then(|name| name.parse().ok()).unwrap_or_default();
            let worker = cell.folder.ancestors().nth(2).and_then(name_of);
            let tried = self.by_host(&cell.container).await;
            self.keep(Agent { run, worker, container: cell.container.clone(), plain: None, tried });
            matches!(self.left(&cell.container).await, Left::Alive(_))
        }));
        killed.await.contains(&true)
    }

    /// A round of what the engine lists, if it answers.
    async fn containers_by_engine(&self) -> bool {
        let Some(engine) = &self.engine else { return false };
        let Ok(Ok(listed)) = timeout(ASK, engine.list()).await else { return false };
        let alive = listed.into_iter().filter(|cell| cell.stage == Stage::Alive);
        let killed = join_all(alive.map(async |cell| {
            let asked = timeout(ASK, engine.signal(&cell.container, Signal::Kill));
            let (mut tried, asked) = tokio::join!(self.by_host(&cell.container), asked);
            tried.by_engine = matches!(asked, Ok(Ok(())));
            self.keep(Agent { run: cell.run, worker: None, container: cell.container, plain: None, tried });
        }));
        !killed.await.is_empty()
    }

    async fn by_host(&self, container: &str) -> Tried {
        let (host, container) = (Arc::clone(&self.host), container.to_owned());
        match spawn_blocking(move || host.kill(&container)).await {
            Ok(Ok(_)) => Tried { by_host: true, ..Tried::default() },
            Ok(Err(error)) => Tried { refused: Some(error.to_string()), ..Tried::default() },
            Err(error) => Tried { refused: Some(error.to_string()), ..Tried::default() },
        }
    }

    async fn left(&self, container: &str) -> Left {
        let (host, container) = (Arc::clone(&self.host), container.to_owned());
        spawn_blocking(move || host.left(&container)).await.unwrap_or(Left::Unseen)
    }

    /// A round of plain processes.
    async fn plain_processes(&self) -> bool {
        let folders = self.folders().unwrap_or_default();
        let rounds = folders.iter().map(async |folder| {
            let processes = Processes::new(folder, "claude");
            let killed = processes.cells().into_iter().map(async |run| {
                let container = run.to_string();
                let sent = processes.signal(&container, Signal::Kill).await;
                if matches!(sent, Err(Error::NotRunning | Error::Absent)) {
                    return false;
                }
                let over =
                    matches!(processes.inspect(&container).await, Ok(Status::Exited(_) | Status::Absent));
                let refused = sent.as_ref().err().map(Error::to_string);
                let tried = Tried { by_host: sent.is_ok(), refused, ..Tried::default() };
                self.keep(Agent {
                    run,
                    worker: name_of(folder),
                    container,
                    plain: Some(folder.clone()),
                    tried,
                });
                !over
            });
            join_all(killed).await.contains(&true)
        });
        join_all(rounds).await.contains(&true)
    }

    async fn prove(&self, agent: &Agent) -> Proof {
        let (dead, words) = match &agent.plain {
            Some(folder) => prove_plain(folder, agent).await,
            None => {
                let left = self.left(&agent.container).await;
                let word = match &self.engine {
                    Some(engine) => timeout(ASK, said(engine, &agent.container)).await.ok().flatten(),
                    None => None,
                };
                prove(&agent.tried, left, word.as_deref())
            }
        };
        let (run, worker, container) = (agent.run, agent.worker.clone(), agent.container.clone());
        Proof { run, worker, container, dead, words }
    }
}

/// Rounds, until nothing is left alive and what was just being started when the first came had its time. A round says
/// whether something may be alive.
async fn rounds(round: impl AsyncFn() -> bool) {
    let until = Instant::now() + PATIENCE;
    let mut settled = None;
    loop {
        let alive = round().await;
        let now = Instant::now();
        let settled = *settled.get_or_insert(now + STARTS_FOR);
        if now >= until || (now >= settled && !alive) {
            return;
        }
        sleep(PAUSE).await;
    }
}

/// Whether a container is over, and what shows it: what the host sees of it now, and what the engine says now.
fn prove(tried: &Tried, left: Left, word: Option<&str>) -> (bool, String) {
    let is_empty = matches!(left, Left::Empty | Left::Gone);
    let host = match left {
        Left::Alive(n) => format!("{n} of its processes are ALIVE"),
        _ if tried.by_host && is_empty => "killed by the host's kernel, nothing of it is left".to_owned(),
        _ if tried.by_engine => "killed by the engine".to_owned(),
        _ if tried.by_host => "killed by the host's kernel, what is left can't be seen".to_owned(),
        _ => format!("not killed by this host: {}", tried.refused.as_deref().unwrap_or("it wasn't tried")),
    };
    let over = word.is_some_and(|word| word != ALIVE);
    let dead = !matches!(left, Left::Alive(_) | Left::Unread) && (over || (tried.by_host && is_empty));
    let word = word.map_or("the engine doesn't answer".to_owned(), |word| format!("the engine says {word}"));
    (dead, format!("{host}; {word}"))
}

async fn prove_plain(folder: &Path, agent: &Agent) -> (bool, String) {
    match Processes::new(folder, "claude").inspect(&agent.container).await {
        Ok(Status::Exited(_) | Status::Absent) => (true, "killed, nothing of it is left".to_owned()),
        Ok(_) => (false, format!("ALIVE; {}", agent.tried.refused.as_deref().unwrap_or("killed"))),
        Err(error) => (false, format!("not known: {error}")),
    }
}

const ALIVE: &str = "alive";

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
            Ok(Status::Created | Status::Alive) => ALIVE.to_owned(),
            Err(_) => return None,
        };
        return Some(word);
    }
}

pub(super) fn name_of(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_seen_to_be_over_is_dead() {
        let by_host = Tried { by_host: true, ..Tried::default() };
        let by_engine = Tried { by_engine: true, refused: Some("not seen".to_owned()), ..Tried::default() };
        let refused = Tried { refused: Some("not permitted".to_owned()), ..Tried::default() };
        let cases = [
            (&by_host, Left::Gone, None, true, "nothing of it is left; the engine doesn't answer"),
            (&by_host, Left::Empty, Some("exited 137"), true, "the engine says exited 137"),
            // An engine that hasn't noticed yet doesn't count against what the kernel shows.
            (&by_host, Left::Gone, Some("alive"), true, "the engine says alive"),
            (&by_host, Left::Alive(2), Some("exited 137"), false, "2 of its processes are ALIVE"),
            (&by_host, Left::Unseen, None, false, "can't be seen"),
            (&by_engine, Left::Unseen, None, false, "killed by the engine; the engine doesn't answer"),
            (&by_engine, Left::Unseen, Some("exited 137"), true, "killed by the engine"),
            (&refused, Left::Unseen, Some("alive"), false, "not killed by this host: not permitted"),
            // It died by itself between two rounds.
            (&refused, Left::Gone, Some("exited 1"), true, "exited 1"),
        ];
        for (tried, left, word, dead, says) in cases {
            let (is_dead, words) = prove(tried, left, word);
            assert!(is_dead == dead && words.contains(says), "{left:?} {word:?}: {words}");
        }
    }

    #[test]
    fn what_is_found_again_keeps_what_was_done_about_it() {
        let settings = config::Host { work_dir: "/nowhere".into(), fleet: "f".into(), docker_host: None };
        let killer = Killer::new(&settings);
        let agent = |tried| Agent { run: 1, worker: None, container: "c".into(), plain: None, tried };
        killer.keep(agent(Tried { by_host: true, ..Tried::default() }));
        killer.keep(agent(Tried { refused: Some("gone".into()), ..Tried::default() }));
        let found = killer.found();
        let tried = &found[&(None, "c".to_owned())].tried;
        assert!(tried.by_host && !tried.by_engine && tried.refused.as_deref() == Some("gone"));
    }
}
