//! A wire between us and a store: it can be cut, left hanging, slowed down, made to drip, cut after so many bytes or after
//! a certain statement, and mended.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the wire does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Carries bytes both ways.
    Whole,
    /// Takes connections, and carries nothing: like a process under SIGSTOP.
    Hanging,
    /// Refuses connections and drops those it has: like a process that was killed.
    Cut,
    /// Carries bytes, each piece this much later.
    Slow(Duration),
    /// Carries a byte at a time, with pauses.
    Dripping,
    /// Drops each connection after this many bytes of answers.
    Short(usize),
}

/// A proxy on loopback, in front of one address.
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    state: watch::Sender<Wire>,
    marked: Marked,
}

/// What is looked for in what a client says; see [`Proxy::lose_answer_to`].
type Marked = Arc<Mutex<Option<Vec<u8>>>>;

impl Proxy {
    /// A whole wire to `target`.
    pub(crate) async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, told) = watch::channel(Wire::Whole);
        let marked = Marked::default();
        let marks = Arc::clone(&marked);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *told.borrow() != Wire::Cut {
                    tokio::spawn(carry(client, target.clone(), told.clone(), Arc::clone(&marks)));
                }
            }
        });
        Self { address, state, marked }
    }

    /// A whole wire to where this URL leads.
    pub(crate) async fn to_store(url: &str) -> Self {
        let url: url::Url = url.parse().unwrap();
        Self::to(format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())).await
    }

    /// Carries the next piece that holds these words to the store, and cuts its connection when the answer comes: the store
    /// has done it, and nobody is told.
    pub(crate) fn lose_answer_to(&self, words: &str) {
        *self.marked.lock().unwrap() = Some(words.as_bytes().to_vec());
    }

    /// Whether that has happened.
    pub(crate) fn has_lost_it(&self) -> bool {
        self.marked.lock().unwrap().is_none()
    }

    /// Makes the wire so.
    pub(crate) fn set(&self, wire: Wire) {
        self.state.send_replace(wire);
    }

    /// This URL, through the wire.
    pub(crate) fn url(&self, url: &str) -> String {
        let mut url: url::Url = url.parse().unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(self.address.port())).unwrap();
        url.into()
    }
}

async fn carry(mut client: TcpStream, target: String, told: watch::Receiver<Wire>, marked: Marked) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let (armed, is_armed) = watch::channel(false);
    let look = |said: &[u8]| {
        let mut marked = marked.lock().unwrap();
        if marked.as_ref().is_some_and(|mark| said.windows(mark.len()).any(|it| it == *mark)) {
            *marked = None;
            armed.send_replace(true);
        }
        true
    };
    tokio::select! {
        () = copy(&mut from_client, &mut to_server, told.clone(), look) => {}
        () = copy(&mut from_server, &mut to_client, told, |_| !*is_armed.borrow()) => {}
    }
}

/// Carries bytes one way, for as long as `goes_on` says so of each piece.
async fn copy(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    mut told: watch::Receiver<Wire>,
    goes_on: impl Fn(&[u8]) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut carried = 0;
    loop {
        let wire = *told.borrow_and_update();
        tokio::select! {
            read = from.read(&mut buffer), if wire != Wire::Hanging => match read {
                Ok(length) if length > 0 && goes_on(&buffer[..length]) => {
                    carried += length;
                    if matches!(wire, Wire::Short(limit) if carried > limit) {
                        return;
                    }
                    if !pass(to, &buffer[..length], wire).await {
                        return;
                    }
                }
                _ => return,
            },
            changed = told.changed() => {
                if changed.is_err() || *told.borrow() == Wire::Cut {
                    return;
                }
            }
        }
    }
}

async fn pass(to: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8], wire: Wire) -> bool {
    match wire {
        Wire::Slow(pause) => tokio::time::sleep(pause).await,
        Wire::Dripping => {
            for byte in bytes {
                tokio::time::sleep(Duration::from_millis(1)).await;
                if to.write_all(&[*byte]).await.is_err() {
                    return false;
                }
            }
            return true;
        }
        _ => {}
    }
    to.write_all(bytes).await.is_ok()
}
