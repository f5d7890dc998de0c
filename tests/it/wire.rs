//! A wire between us and a store: it can be cut, left hanging, and mended.

use std::net::SocketAddr;

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
}

/// A proxy on loopback, in front of one address.
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    state: watch::Sender<Wire>,
}

impl Proxy {
    /// A whole wire to `target`.
    pub(crate) async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, told) = watch::channel(Wire::Whole);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *told.borrow() != Wire::Cut {
                    tokio::spawn(carry(client, target.clone(), told.clone()));
                }
            }
        });
        Self { address, state }
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

async fn carry(mut client: TcpStream, target: String, told: watch::Receiver<Wire>) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    tokio::select! {
        () = copy(&mut from_client, &mut to_server, told.clone()) => {}
        () = copy(&mut from_server, &mut to_client, told) => {}
    }
}

async fn copy(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    mut told: watch::Receiver<Wire>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let wire = *told.borrow_and_update();
        tokio::select! {
            read = from.read(&mut buffer), if wire == Wire::Whole => match read {
                Ok(length) if length > 0 && to.write_all(&buffer[..length]).await.is_ok() => {}
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
