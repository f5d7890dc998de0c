//! Plain processes, for a first look on a machine without a container engine. Nothing is walled off: an agent can do what
//! its user can, and one that means harm can hide from this. What holds is the ladder: every process that descends from
//! the run is found and ended, and "over" is said only when none is left.
//!
//! A run's parent is a small process of its own, the [`shim`], so runs outlive a worker that dies and are found again by
//! their folders.

mod beside;
mod folder;
pub mod shim;
mod table;

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use nix::sys::signal::Signal as Kernel;
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{
    About, Cell, DEADLINE, Engine, Error, Executed, Exit, Found, Left, Output, Result, Signal, Status,
};
use folder::{Folder, Spec};
use table::Identity;

/// How long a shim may take to start its CLI.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// How often files and processes are looked at while something is awaited.
const TICK: Duration = Duration::from_millis(20);

/// How long a shim may take to record the end of a run that has nothing left alive.
const RECORD_DEADLINE: Duration = Duration::from_millis(500);

/// Stands for the gate's address until the shim knows it.
const GATE_URL: &str = "{gate}";

/// The variables that a run has from the worker's environment: how to find programs, and in which language.
const HANDED_ON: &[&str] = &["PATH", "LANG", "LC_ALL", "TZ"];

/// An engine that isn't one.
pub struct Processes {
    cells: PathBuf,
    claude: String,
    shim: PathBuf,
    version: OnceCell<String>,
}

impl Processes {
    /// Keeps its cells under `work_dir`, which is this worker's alone; `claude` is the CLI's program. Nothing is touched
    /// yet.
    pub fn new(work_dir: &Path, claude: &str) -> Self {
        // This program, even when its file has been replaced since.
        let shim = PathBuf::from("/proc/self/exe");
        Self { cells: work_dir.join("cells"), claude: claude.to_owned(), shim, version: OnceCell::new() }
    }

    /// Names another program that has the subcommand `cell DIR`.
    #[must_use]
    pub fn with_shim(self, shim: &Path) -> Self {
        Self { shim: shim.to_path_buf(), ..self }
    }

    /// The runs that have a folder here, alive or not; to look closer takes time that a kill doesn't have.
    pub fn cells(&self) -> Vec<i64> {
        let entries = fs::read_dir(&self.cells).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// The folder of a container. Ids are numbers, so none leads elsewhere.
    fn folder(&self, container: &str) -> Result<Folder> {
        let run: i64 = container.parse().map_err(|_| Error::Absent)?;
        Ok(Folder::at(self.cells.join(run.to_string())))
    }

    fn spec(&self, cell: &Cell) -> Result<Spec> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| Error::Unavailable(error.to_string()))?;
        let environment = cell.environment(GATE_URL).into_iter();
        Ok(Spec {
            run: cell.run,
            fence: cell.fence,
            mark: random.iter().map(|byte| format!("{byte:02x}")).collect(),
            argv: cell.command(&self.claude),
            environment: environment.map(|(name, value)| (name.to_owned(), value)).collect(),
            gate_dir: cell.gate_dir.clone(),
        })
    }

    /// Starts the shim; what is given ends with it.
    fn spawn(&self, folder: &Folder) -> io::Result<JoinHandle<()>> {
        let log =
            fs::OpenOptions::new().append(true).create(true).mode(0o600).open(folder.file("shim.log"))?;
        let mut shim = Command::new(&self.shim)
            .arg0("signalbox")
            .arg("cell")
            .arg(folder.path())
            .env_clear()
            .envs(handed_on())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .current_dir("/")
            .spawn()?;
        Ok(tokio::spawn(async move {
            if let Err(error) = shim.wait().await {
                tracing::warn!(%error, "a shim can't be awaited");
            }
        }))
    }

    async fn version(&self) -> Option<String> {
        let asked = self.version.get_or_try_init(|| async {
            let mut command = Command::new(&self.claude);
            command.arg("--version").env_clear().envs(handed_on()).stdin(Stdio::null()).kill_on_drop(true);
            let said = timeout(DEADLINE, command.output()).await.map_err(|_| ErrorKind::TimedOut)??;
            let text = String::from_utf8_lossy(&said.stdout);
            text.split_whitespace().next().map(str::to_owned).ok_or(io::Error::from(ErrorKind::InvalidData))
        });
        asked.await.ok().cloned()
    }
}

#[async_trait]
impl Engine for Processes {
    async fn about(&self) -> Result<About> {
        let line = "plain processes, unsandboxed".to_owned();
        Ok(About {
            line,
            sandboxed: false,
            claude: self.version().await,
            identity: self.identity().await.ok(),
        })
    }

    /// Its cells lie in the worker's folder, and so belong to its seat.
    async fn identity(&self) -> Result<String> {
        Ok("plain processes".to_owned())
    }

    async fn start(&self, cell: &Cell) -> Result<String> {
        let (cells, spec) = (self.cells.clone(), self.spec(cell)?);
        let folder = look(move || match Folder::make(&cells, &spec) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
            made => made.map(Some),
        });
        let folder = folder.await?.ok_or(Error::Exists)?;
        let shim = self.spawn(&folder);
        // For want of memory or file descriptors, which is nothing that the run could help.
        let shim = shim.map_err(|error| Error::Unavailable(format!("the shim can't be started: {error}")))?;
        timeout(START_DEADLINE, begun(&folder, &shim)).await.map_err(|_| late(START_DEADLINE))??;
        Ok(cell.run.to_string())
    }

    async fn signal(&self, container: &str, signal: Signal) -> Result<()> {
        let folder = self.folder(container)?;
        let sent = look(move || match signal {
            Signal::Int => send(&folder, Kernel::SIGINT),
            Signal::Term => send(&folder, Kernel::SIGTERM),
            Signal::Kill => end(&folder),
        });
        match timeout(DEADLINE, sent).await.map_err(|_| late(DEADLINE))?? {
            Ok(()) => Ok(()),
            Err(Status::Absent) => Err(Error::Absent),
            Err(Status::Alive) => Err(Error::Unavailable("the run is about to start or to end".to_owned())),
            Err(Status::Created | Status::Exited(_)) => Err(Error::NotRunning),
        }
    }

    async fn exec(
        &self,
        container: &str,
        argv: &[&str],
        limit: usize,
        deadline: Duration,
    ) -> Result<Executed> {
        let folder = self.folder(container)?;
        timeout(deadline, beside::run(&folder, argv, limit)).await.map_err(|_| late(deadline))?
    }

    async fn inspect(&self, container: &str) -> Result<Status> {
        let Ok(folder) = self.folder(container) else { return Ok(Status::Absent) };
        timeout(DEADLINE, look(move || folder.status())).await.map_err(|_| late(DEADLINE))?
    }

    async fn wait(&self, container: &str) -> Result<Exit> {
        let folder = self.folder(container)?;
        loop {
            if folder.may_be_over() {
                match self.inspect(container).await? {
                    Status::Exited(exit) => return Ok(exit),
                    Status::Absent => return Err(Error::Absent),
                    Status::Created | Status::Alive => {}
                }
            }
            sleep(TICK).await;
        }
    }

    fn output(&self, container: &str) -> BoxStream<'static, Result<Output>> {
        let following = self.folder(container).map(Following::new);
        stream::unfold(Some(following), async |following| match following? {
            Ok(following) => following.next().await,
            Err(error) => Some((Err(error), None)),
        })
        .boxed()
    }

    async fn list(&self) -> Result<Vec<Found>> {
        let cells = self.cells.clone();
        timeout(DEADLINE, look(move || found(&cells))).await.map_err(|_| late(DEADLINE))?
    }

    async fn remove(&self, container: &str) -> Result<()> {
        let Ok(folder) = self.folder(container) else { return Ok(()) };
        let removed = look(move || match folder.status()? {
            Status::Absent => Ok(true),
            Status::Exited(_) => folder.remove().map(|()| true),
            // Whoever claims it first: the shim that would start it, or the end of it.
            Status::Created if folder.refusal()?.is_some() => folder.remove().map(|()| true),
            Status::Created if folder.claim(&Identity::of(std::process::id().cast_signed())?)? => {
                folder.remove().map(|()| true)
            }
            Status::Created | Status::Alive => Ok(false),
        });
        if removed.await? { Ok(()) } else { Err(Error::Refused("the run isn't over".to_owned())) }
    }
    async fn left(&self, container: &str) -> Left {
        match self.inspect(container).await {
            Ok(Status::Exited(_)) => Left::Empty,
            Ok(Status::Absent) => Left::Gone,
            Ok(Status::Created | Status::Alive) => Left::Alive(1),
            Err(_) => Left::Unseen,
        }
    }
}

/// Waits until the shim has started the CLI.
async fn begun(folder: &Folder, shim: &JoinHandle<()>) -> Result<()> {
    loop {
        let ended = shim.is_finished();
        let seen = folder.clone();
        let (started, refused) = look(move || Ok((seen.cli()?.is_some(), seen.refusal()?))).await?;
        match refused {
            Some(why) => return Err(Error::Refused(why)),
            None if started => return Ok(()),
            None if ended => return Err(Error::Refused("the shim ended before it began".to_owned())),
            None => sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Sends a signal to the CLI alone; otherwise says why not.
fn send(folder: &Folder, signal: Kernel) -> io::Result<std::result::Result<(), Status>> {
    if folder.cli()?.is_some_and(|cli| cli.send(signal)) { Ok(Ok(())) } else { Ok(Err(folder.status()?)) }
}

/// Kills until nothing is left to kill; otherwise says why there was nothing.
fn end(folder: &Folder) -> io::Result<std::result::Result<(), Status>> {
    let status = folder.status()?;
    let (Status::Alive, Some(spec)) = (&status, folder.spec()?) else { return Ok(Err(status)) };
    let begun = Instant::now();
    while folder.kill_living(&spec)? > 0 && begun.elapsed() < DEADLINE {
        std::thread::sleep(Duration::from_millis(2));
    }
    // A shim that is stopped or stuck won't record the end; without it the end can still be seen.
    let begun = Instant::now();
    while let Some(shim) = folder.shim()?.filter(Identity::is_alive) {
        if begun.elapsed() > RECORD_DEADLINE {
            shim.send(Kernel::SIGKILL);
            folder.kill_living(&spec)?;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(Ok(()))
}

fn found(cells: &Path) -> io::Result<Vec<Found>> {
    let mut all = Vec::new();
    let entries = match fs::read_dir(cells) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(all),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let folder = Folder::at(entry.path());
        let (Ok(run), Some(spec)) = (name.parse(), folder.spec()?) else { continue };
        let stage = folder.status()?.stage();
        all.extend(stage.map(|stage| Found { container: name, run, fence: spec.fence, stage }));
    }
    Ok(all)
}

/// A run's output on its way, from its two files.
struct Following {
    folder: Folder,
    out: Tail,
    err: Tail,
}

impl Following {
    fn new(folder: Folder) -> Self {
        let (out, err) = (Tail::of(folder.file("stdout")), Tail::of(folder.file("stderr")));
        Self { folder, out, err }
    }

    async fn next(mut self) -> Option<(Result<Output>, Option<Result<Self>>)> {
        loop {
            let looked = look(move || {
                // First, so that what was written just before the end is read.
                let over = self.folder.may_be_over()
                    && matches!(self.folder.status()?, Status::Exited(_) | Status::Absent);
                let piece = match self.out.read()? {
                    Some(bytes) => Some(Output::Stdout(bytes)),
                    None => self.err.read()?.map(Output::Stderr),
                };
                Ok((self, piece, over))
            });
            match looked.await {
                Ok((following, Some(piece), _)) => return Some((Ok(piece), Some(Ok(following)))),
                Ok((_, None, true)) => return None,
                Ok((following, None, false)) => self = following,
                Err(error) => return Some((Err(error), None)),
            }
            sleep(TICK).await;
        }
    }
}

/// A file that grows.
struct Tail {
    path: PathBuf,
    file: Option<fs::File>,
}

impl Tail {
    fn of(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    /// What has come since, up to 64 KiB.
    fn read(&mut self) -> io::Result<Option<Bytes>> {
        let file = match &mut self.file {
            Some(file) => file,
            none => match fs::File::open(&self.path) {
                Ok(file) => none.insert(file),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        let mut piece = vec![0; 64 << 10];
        let length = file.read(&mut piece)?;
        piece.truncate(length);
        Ok((length > 0).then(|| piece.into()))
    }
}

fn handed_on() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| HANDED_ON.iter().any(|kept| name == kept))
}

/// Looks at files and processes, off the async threads.
async fn look<T: Send + 'static>(question: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    let answer =
        tokio::task::spawn_blocking(question).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    answer.map_err(|error| Error::Unavailable(error.to_string()))
}

fn late(deadline: Duration) -> Error {
    Error::Unavailable(format!("no answer within {} s", deadline.as_secs()))
}
