//! A TCP proxy on a route, which can hold every byte back without closing (a partition), or reset every connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What a proxy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything on.
    Pass,
    /// Holds everything back. Nothing is lost: as with TCP, what was held back arrives after the partition heals,
    /// if the connection still stands then.
    Hold,
    /// Passes everything on after 150 to 300 ms, as a slow and uneven network does.
    Slow,
    /// Resets the connections there are, and new ones at once.
    Reset,
}

/// One proxy, from a port of its own to a server's route listener.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    mode: Arc<watch::Sender<Mode>>,
    listener: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy to a port of this machine.
    pub async fn start(to: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let mode = Arc::new(watch::channel(Mode::Pass).0);
        let modes = Arc::clone(&mode);
        let listener = tokio::spawn(async move {
            while let Ok((incoming, _)) = listener.accept().await {
                tokio::spawn(join(incoming, SocketAddr::from(([127, 0, 0, 1], to)), modes.subscribe()));
            }
        });
        Ok(Self { port, mode, listener })
    }

    /// The port that leads through the proxy.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes what it does, for the connections there are too.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn join(incoming: TcpStream, to: SocketAddr, mut mode: watch::Receiver<Mode>) {
    // A reset, not an orderly end, when this is dropped.
    incoming.set_zero_linger().ok();
    if mode.wait_for(|mode| *mode != Mode::Hold).await.is_err() || *mode.borrow() == Mode::Reset {
        return;
    }
    let Ok(outgoing) = TcpStream::connect(to).await else { return };
    outgoing.set_zero_linger().ok();
    incoming.set_nodelay(true).ok();
    outgoing.set_nodelay(true).ok();
    let (from_incoming, to_incoming) = incoming.into_split();
    let (from_outgoing, to_outgoing) = outgoing.into_split();
    let there = pass(from_incoming, to_outgoing, mode.clone());
    let back = pass(from_outgoing, to_incoming, mode.clone());
    tokio::select! {
        () = there => {}
        () = back => {}
        _ = mode.wait_for(|mode| *mode == Mode::Reset) => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 16 * 1024];
    let mut delays = 1_u32;
    loop {
        let read = from.read(&mut buffer).await;
        if mode.wait_for(|mode| *mode != Mode::Hold).await.is_err() {
            return;
        }
        match read {
            Ok(length) if length > 0 => {
                if *mode.borrow() == Mode::Slow {
                    // What comes meanwhile waits behind it, so that nothing is overtaken.
                    delays = delays.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                    tokio::time::sleep(Duration::from_millis(150 + u64::from(delays >> 16) % 150)).await;
                }
                if to.write_all(&buffer[..length]).await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}
