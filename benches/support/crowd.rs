//! Many viewers of one stream, on one thread, each as light as can be.

#![expect(clippy::expect_used, clippy::panic, reason = "a bench that can't go on ends here")]

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock, mpsc};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// How many may be on their way in at once.
const COMING: usize = 100;
/// How many come from one address: it has ports for more, but others want some too.
const OF_ONE_ADDRESS: usize = 5000;
/// How long all of them may take to have something.
const ALL_WITHIN: Duration = Duration::from_secs(240);

thread_local! {
    /// What was read last; all viewers share it.
    static READ: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(1 << 18));
}

/// What all viewers wait for.
struct Asked {
    host: SocketAddr,
    request: String,
    /// Counted, so that each knows whether it has that already.
    words: RwLock<(usize, String)>,
    left: AtomicUsize,
    all: mpsc::Sender<Instant>,
}

/// The viewers; they leave when this is dropped.
pub(crate) struct Crowd {
    asked: Arc<Asked>,
    all: mpsc::Receiver<Instant>,
    viewers: usize,
    _over: oneshot::Sender<()>,
}

impl Crowd {
    /// Lets them in, and waits until each has the whole page.
    pub(crate) fn new(host: &str, path: &str, cookie: &str, viewers: usize) -> Self {
        let (_over, over) = oneshot::channel();
        let (all_have_it, all) = mpsc::channel();
        let asked = Arc::new(Asked {
            host: host.parse().expect("an address"),
            request: format!("GET {path} HTTP/1.1\r\nhost: {host}\r\ncookie: {cookie}\r\n\r\n"),
            words: RwLock::new((1, "\"main\":".to_owned())),
            left: AtomicUsize::new(viewers),
            all: all_have_it,
        });
        let theirs = Arc::clone(&asked);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
            runtime.block_on(async move {
                let door = Arc::new(Semaphore::new(COMING));
                for n in 0..viewers {
                    let turn = Arc::clone(&door).acquire_owned().await.expect("stays open");
                    tokio::spawn(view(n, Arc::clone(&theirs), turn));
                }
                let _ = over.await;
            });
        });
        let crowd = Self { asked, all, viewers, _over };
        crowd.wait();
        crowd
    }

    /// What they look out for from now on.
    pub(crate) fn ask(&self, words: &str) {
        self.asked.left.store(self.viewers, Ordering::SeqCst);
        let mut asked = self.asked.words.write().expect("unbroken");
        *asked = (asked.0 + 1, words.to_owned());
    }

    /// Waits until all have what was asked for; says when the last one had it.
    pub(crate) fn wait(&self) -> Instant {
        self.all.recv_timeout(ALL_WITHIN).unwrap_or_else(|_| {
            panic!("{} of {} have nothing", self.asked.left.load(Ordering::SeqCst), self.viewers)
        })
    }
}

/// Reads a stream; says when it has brought what is asked for.
async fn view(n: usize, asked: Arc<Asked>, turn: OwnedSemaphorePermit) {
    let mut turn = Some(turn);
    let socket = loop {
        match open(n, &asked).await {
            Ok(socket) => break socket,
            // A server that has too much to do says so, and a browser comes again.
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    };
    let (mut has, mut tail) = (0, Vec::new());
    loop {
        socket.readable().await.expect("a socket");
        let (round, words) = asked.words.read().expect("unbroken").clone();
        let found = read(&socket, &mut tail, words.as_bytes()).expect("it goes on");
        if found && round > has {
            has = round;
            drop(turn.take());
            if asked.left.fetch_sub(1, Ordering::SeqCst) == 1 {
                let _ = asked.all.send(Instant::now());
            }
        }
    }
}

async fn open(n: usize, asked: &Asked) -> io::Result<TcpStream> {
    let from = Ipv4Addr::new(127, 0, 0, (2 + n / OF_ONE_ADDRESS) as u8);
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let mut socket = socket.connect(asked.host).await?;
    socket.write_all(asked.request.as_bytes()).await?;
    let mut status = [0; 12];
    loop {
        match socket.peek(&mut status).await? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            n if n < status.len() => tokio::task::yield_now().await,
            _ => break,
        }
    }
    if &status != b"HTTP/1.1 200" {
        return Err(ErrorKind::ConnectionRefused.into());
    }
    Ok(socket)
}

/// Reads what is there; true when it holds these words. `tail` is what is kept of it, for words that come in two parts.
fn read(socket: &TcpStream, tail: &mut Vec<u8>, words: &[u8]) -> io::Result<bool> {
    READ.with_borrow_mut(|read| {
        read.clear();
        read.append(tail);
        loop {
            match socket.try_read_buf(read) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let found = memchr::memmem::find(read, words).is_some();
        if !found {
            tail.extend_from_slice(&read[read.len().saturating_sub(words.len())..]);
        }
        Ok(found)
    })
}
