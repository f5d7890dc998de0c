//! A wire between the worker and what it leans on: it can be cut, left hanging, slowed down, and mended.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::sleep;

/// What the wire does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Is {
    /// Carries bytes both ways.
    Whole,
    /// Takes connections, and carries nothing: like a process under SIGSTOP.
    Hanging,
    /// Hangs up on everybody: like a process that was killed.
    Cut,
    /// Carries bytes both ways, each piece late by this much.
    Slow(Duration),
}

/// What a wire does to what goes out over it. The length must stay.
pub(crate) type Edit = fn(&mut [u8]);

/// What is listened for in what goes out; see [`Wire::keep_answer_to`].
type Ear = Arc<Mutex<Option<&'static str>>>;

/// Our end of it.
pub(crate) struct Wire {
    state: watch::Sender<Is>,
    ear: Ear,
    socket: Option<PathBuf>,
}

impl Wire {
    /// A whole wire from a Unix socket at `path` to the one at `target`.
    pub(crate) fn between_sockets(path: &Path, target: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let (state, told) = watch::channel(Is::Whole);
        let target: PathBuf = target.to_owned();
        let ear = Ear::default();
        let heard = Arc::clone(&ear);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = UnixStream::connect(target.clone());
                tokio::spawn(join(near, far, told.clone(), as_it_is, Arc::clone(&heard)));
            }
        });
        Self { state, ear, socket: Some(path.to_owned()) }
    }

    /// A whole wire from a port of its own, which is told too, to `target`.
    pub(crate) async fn to_port(target: String) -> (Self, u16) {
        Self::to_port_with(target, as_it_is).await
    }

    /// The same, with an edit of what goes out.
    pub(crate) async fn to_port_with(target: String, edit: Edit) -> (Self, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (state, told) = watch::channel(Is::Whole);
        let ear = Ear::default();
        let heard = Arc::clone(&ear);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(target.clone());
                tokio::spawn(join(near, far, told.clone(), edit, Arc::clone(&heard)));
            }
        });
        (Self { state, ear, socket: None }, port)
    }

    /// Carries the next piece that goes out with these words in it, and keeps to itself whatever comes back over the same
    /// connection: it is done, and nobody is told.
    pub(crate) fn keep_answer_to(&self, words: &'static str) {
        *self.ear.lock().unwrap() = Some(words);
    }

    /// Whether that has gone out.
    pub(crate) fn has_kept_it(&self) -> bool {
        self.ear.lock().unwrap().is_none()
    }

    pub(crate) fn set(&self, is: Is) {
        self.state.send_replace(is);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            let _ = std::fs::remove_file(socket);
        }
    }
}

fn as_it_is(_: &mut [u8]) {}

async fn join<S: AsyncRead + AsyncWrite>(
    near: S,
    far: impl Future<Output = std::io::Result<S>>,
    told: watch::Receiver<Is>,
    edit: Edit,
    ear: Ear,
) {
    if *told.borrow() == Is::Cut {
        return;
    }
    let Ok(far) = far.await else { return };
    let ((near_in, near_out), (far_in, far_out)) = (tokio::io::split(near), tokio::io::split(far));
    let mut cut = told.clone();
    let kept = AtomicBool::new(false);
    let out = |piece: &mut [u8]| {
        edit(piece);
        let hears = |words: &str| piece.windows(words.len()).any(|it| it == words.as_bytes());
        if ear.lock().unwrap().take_if(|words| hears(words)).is_some() {
            kept.store(true, Ordering::Relaxed);
        }
        true
    };
    let back = |_: &mut [u8]| !kept.load(Ordering::Relaxed);
    tokio::select! {
        _ = cut.wait_for(|is| *is == Is::Cut) => {}
        // One side may be done while the other still speaks.
        _ = async { tokio::join!(carry(near_in, far_out, told.clone(), out), carry(far_in, near_out, told, back)) } => {}
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut told: watch::Receiver<Is>,
    passes: impl Fn(&mut [u8]) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        let carries = |is: &Is| matches!(is, Is::Whole | Is::Slow(_));
        let Ok(is) = told.wait_for(carries).await.map(|is| *is) else { return };
        if let Is::Slow(late) = is {
            sleep(late).await;
        }
        if read > 0 && !passes(&mut buffer[..read]) {
            continue;
        }
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
