//! Container engines. The only trait that is ours, because there are two: Docker's API, and plain processes for
//! a first look on a machine without an engine.

pub mod cell;
pub mod docker;
pub mod host;
pub mod process;
pub mod weight;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use time::OffsetDateTime;

pub use cell::Cell;
pub use host::Left;

use crate::model::found::Leftover;

/// How long an engine may take to answer anything but [`Engine::start`] and what follows a container for its life.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// What an engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Its name, version and API, in one line.
    pub line: String,
    /// Whether runs are in containers.
    pub sandboxed: bool,
    /// The CLI's version, when the image's label or the program says it.
    pub claude: Option<String>,
    /// Who it is, as [`Engine::identity`] says; none when it hasn't said that in time.
    pub identity: Option<String>,
}

/// A signal of the ladder; the order is that of the rungs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Ends the turn; the CLI writes its result.
    Int,
    /// Ends the process; it may clean up.
    Term,
    /// Ends everything in the container.
    Kill,
}

impl Signal {
    /// Its name, as the engine and the page call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int => "SIGINT",
            Self::Term => "SIGTERM",
            Self::Kill => "SIGKILL",
        }
    }
}

/// What the engine says of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Made, never started.
    Created,
    /// Alive (running, paused, restarting, being removed: anything that isn't over).
    Alive,
    /// Over, with its exit.
    Exited(Exit),
    /// The engine answers, and there is no such container.
    Absent,
}

impl Status {
    /// The stage of it; none when there is no container.
    pub fn stage(&self) -> Option<Stage> {
        match self {
            Self::Created => Some(Stage::Created),
            Self::Alive => Some(Stage::Alive),
            Self::Exited(_) => Some(Stage::Over),
            Self::Absent => None,
        }
    }
}

/// Where a container is in its life, as a listing tells it. It is no evidence: how one ended, [`Engine::inspect`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Made, never started.
    Created,
    /// Anything that isn't over.
    Alive,
    /// Over.
    Over,
}

/// The end of a container, in the engine's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// 128 + n for a death by signal n.
    pub code: i64,
    /// Whether the kernel ended it for want of memory.
    pub oom: bool,
}

/// A piece of a container's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Of standard output.
    Stdout(Bytes),
    /// Of standard error.
    Stderr(Bytes),
}

/// One of our containers, as the engine lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The engine's id.
    pub container: String,
    /// Label `signalbox.run`; nought, which is no run's, when it says none.
    pub run: i64,
    /// Label `signalbox.fence`: the fence under which it was made; nought when it says none.
    pub fence: i64,
    /// Whether it is over.
    pub stage: Stage,
}

/// What became of a program that was run beside an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Executed {
    /// Its exit code; none when it was left alone because it said too much.
    pub code: Option<i64>,
    /// Its standard output, up to the limit.
    pub stdout: Vec<u8>,
    /// The beginning of its standard error.
    pub stderr: Vec<u8>,
    /// Whether it said more than the limit.
    pub cut: bool,
}

impl Executed {
    /// The longest standard error that is kept, in bytes.
    pub const STDERR_MAX: usize = 4096;

    /// Takes a piece of standard output in; false once there is no room for more.
    fn take_stdout(&mut self, piece: &[u8], limit: usize) -> bool {
        let room = limit.saturating_sub(self.stdout.len());
        self.stdout.extend_from_slice(&piece[..piece.len().min(room)]);
        self.cut = self.cut || piece.len() > room;
        !self.cut
    }

    fn take_stderr(&mut self, piece: &[u8]) {
        let room = Self::STDERR_MAX.saturating_sub(self.stderr.len());
        self.stderr.extend_from_slice(&piece[..piece.len().min(room)]);
    }
}

/// What an engine can answer instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It doesn't answer, not in time, or nonsense. Worth another try.
    #[error("the container engine doesn't answer: {0}")]
    Unavailable(String),
    /// There is no such container.
    #[error("there is no such container")]
    Absent,
    /// The container isn't running (any more), so the signal went nowhere.
    #[error("the container isn't running")]
    NotRunning,
    /// It had ended, or was only made, and runs now: somebody else has started it.
    #[error("the container was started by somebody else")]
    Restarted,
    /// A container for this run is there already.
    #[error("a container of that name is there already")]
    Exists,
    /// It answers, and refuses. Another try won't help.
    #[error("the container engine refuses: {0}")]
    Refused(String),
}

/// The result of every method.
pub type Result<T> = std::result::Result<T, Error>;

/// A container engine. Every method has a deadline of its own inside; none reports success that the engine
/// hasn't reported.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Asks for a sign of life.
    async fn about(&self) -> Result<About>;

    /// Who it is, over all its restarts: two engines that know nothing of each other's containers say different words.
    async fn identity(&self) -> Result<String>;

    /// Makes and starts the run's container; gives the engine's id. The name is the run's, so there is at most one.
    async fn start(&self, cell: &Cell) -> Result<String>;

    /// Sends a signal to the container's first process ([`Signal::Kill`]: to all of it). Success means delivered, not
    /// dead.
    async fn signal(&self, container: &str, signal: Signal) -> Result<()>;

    /// Runs a program beside the agent, as the agent's user in its workspace, with nothing to read: for us to look at its
    /// work. `argv` is ours; nothing that a person typed belongs there. At most `limit` bytes of its output are kept. It
    /// ends with the container at the latest, and may outlive an answer that came too late.
    async fn exec(
        &self,
        container: &str,
        argv: &[&str],
        limit: usize,
        deadline: Duration,
    ) -> Result<Executed>;

    /// What the engine says now. The only source of evidence.
    async fn inspect(&self, container: &str) -> Result<Status>;

    /// Waits, for as long as it takes, until the engine says that the container is over.
    async fn wait(&self, container: &str) -> Result<Exit>;

    /// The container's output from its first byte on, followed until the container is over. Each stream's bytes come in
    /// order, and the same again when asked again.
    fn output(&self, container: &str) -> BoxStream<'static, Result<Output>>;

    /// Those containers of this fleet and this worker that the engine knows, dead ones included. Others are never listed.
    async fn list(&self) -> Result<Vec<Found>>;

    /// Removes a container and what it left; one that is gone is fine.
    async fn remove(&self, container: &str) -> Result<()>;

    /// Ends everything in a container by this host's own kernel, without a word to the engine; returns when nothing of it
    /// is left, or with what stands in the way.
    async fn kill_by_host(&self, _container: &str) -> Result<()> {
        Err(Error::Refused("this host doesn't see its processes".to_owned()))
    }

    /// What this host's kernel shows of a container's processes. A child can outlive the engine's report of the first one.
    async fn left(&self, _container: &str) -> Left {
        Left::Unseen
    }

    /// Images and volumes of ours that nothing uses any more.
    async fn leftovers(&self) -> Result<Vec<Leftover>> {
        Ok(Vec::new())
    }

    /// Since when a container is there, and how many bytes it holds of its own; as far as the engine says.
    async fn weigh(&self, _container: &str) -> (Option<OffsetDateTime>, Option<i64>) {
        (None, None)
    }

    /// Removes an image or a volume that nothing uses.
    async fn discard(&self, _leftover: &Leftover) -> Result<()> {
        Err(Error::Refused("this engine has none".to_owned()))
    }

    /// The living containers that have a run's folder below `work_dir`, found without a word to the engine; none where this
    /// host doesn't see them.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when this host should see them, and couldn't look.
    async fn cells_by_host(&self, _work_dir: &Path) -> Result<Vec<host::Cell>> {
        Ok(Vec::new())
    }

    /// The living container of the run that has this folder (`…/WORKER/runs/RUN`), found the same way.
    ///
    /// # Errors
    /// As [`Self::cells_by_host`].
    async fn find_by_host(&self, gate_dir: &Path) -> Result<Option<String>> {
        let Some(work_dir) = gate_dir.ancestors().nth(3) else { return Ok(None) };
        let cells = self.cells_by_host(work_dir).await?;
        Ok(cells.into_iter().find(|cell| cell.folder == gate_dir).map(|cell| cell.container))
    }
}
