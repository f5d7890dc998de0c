//! The gate: the only way out of a run's container.
//!
//! A Unix socket per run, served by the worker. What comes in with the run's token goes to the model API with the real key
//! in its place; nothing else goes anywhere, and closing the gate cuts whatever is under way. What comes back is metered.

mod forward;
mod meter;
mod reader;
mod usage;

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use forward::Forward;
pub use forward::{Credential, Upstream};
pub use meter::Meter;

/// The socket's name in the run's folder.
pub const SOCKET: &str = "gate.sock";

/// How many connections a run may hold at once, so that a run can't exhaust the worker's file descriptors.
const CONNECTIONS: usize = 64;

/// How long a connection may take to send the head of its next request.
const HEAD_DEADLINE: Duration = Duration::from_secs(300);

/// How long to leave the listener alone when it can't accept, which means that file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// An open gate: a Unix socket that serves one run. Dropping it closes it.
pub struct Gate {
    dir: File,
    /// Device and inode of our socket: the name may be another gate's by the time we close.
    socket: (u64, u64),
    closed: CancellationToken,
    open: Arc<AtomicUsize>,
}

impl Gate {
    /// Opens `gate.sock` in the run's folder, in place of one that a former life left there. `credential` is what
    /// the container must present as its API key; `meter` counts what passes. The folder becomes 0755 and the socket 0666, since the
    /// container's user is another; keep strangers out by the folder's parent.
    ///
    /// # Errors
    /// When the socket can't be made.
    pub async fn open(
        dir: &Path,
        credential: Credential,
        upstream: Upstream,
        meter: Meter,
    ) -> io::Result<Self> {
        fs::set_permissions(dir, Permissions::from_mode(0o755))?;
        let dir = File::open(dir)?;
        let listener = bind(&dir)?;
        let socket = identity(&inside(&dir, SOCKET))?;
        let gate =
            Self { dir, socket, closed: CancellationToken::new(), open: Arc::new(AtomicUsize::new(0)) };
        let forward = Arc::new(Forward::new(credential, upstream, meter));
        tokio::spawn(accept(listener, forward, gate.closed.clone(), gate.open.clone()));
        Ok(gate)
    }

    /// Closes at once, streams included; says how many connections were cut. Closing twice is fine.
    pub fn close(&self) -> usize {
        if self.closed.is_cancelled() {
            return 0;
        }
        let cut = self.open.load(Ordering::SeqCst);
        self.closed.cancel();
        let path = inside(&self.dir, SOCKET);
        if identity(&path).is_ok_and(|found| found == self.socket)
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::warn!(%error, "a closed gate's socket can't be removed");
        }
        cut
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("closed", &self.closed.is_cancelled()).finish_non_exhaustive()
    }
}

/// A path to a file in an open folder, however long the folder's own is: a socket's may have 108 bytes at most.
fn inside(dir: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

/// Listens under a passing name first: the socket appears ready, or replaces a stale one, in a single step.
fn bind(dir: &File) -> io::Result<UnixListener> {
    let passing = inside(dir, ".gate.sock.new");
    match fs::remove_file(&passing) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&passing)?;
    fs::set_permissions(&passing, Permissions::from_mode(0o666))?;
    fs::rename(&passing, inside(dir, SOCKET))?;
    Ok(listener)
}

async fn accept(
    listener: UnixListener,
    forward: Arc<Forward>,
    closed: CancellationToken,
    open: Arc<AtomicUsize>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let next = async {
            let place = room.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = closed.cancelled() => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let counted = Counted::new(&open);
                let serving = serve(stream, forward.clone(), closed.clone());
                tokio::spawn(async move {
                    serving.await;
                    drop((counted, place));
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a gate can't accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection until it ends or the gate closes; dropping it cuts both sides.
async fn serve(stream: UnixStream, forward: Arc<Forward>, closed: CancellationToken) {
    let answer = service_fn(move |request| {
        let forward = forward.clone();
        async move { Ok::<_, std::convert::Infallible>(forward.answer(request).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE);
    tokio::select! {
        biased;
        () = closed.cancelled() => {}
        ended = server.serve_connection(TokioIo::new(stream), answer) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a gate's connection broke");
            }
        }
    }
}

/// Counts a connection for as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::SeqCst);
        Self(open.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
