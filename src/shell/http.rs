//! The HTTP side of `metawatch run --listen`: a status page and what it is made of, numbers for Prometheus, and probes.
//!
//! It runs in a thread of its own and gets a snapshot after each epoch; nothing that a client does or does not do holds
//! up the watcher. It answers `GET` and `HEAD`, changes nothing, and has a limit for everything: connections, headers,
//! the time to send a request and the time to take an answer.

mod answer;
mod body;
mod stream;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::shell::clock::Clock;
use crate::shell::failure::{Failure, FailureKind};
use crate::stamp::Stamp;
use crate::status::SystemStatus;
use crate::status::numbers::Numbers;
use crate::status::vitals::Vitals;
use answer::Site;
use body::Snapshot;
use stream::Deadlined;

/// So many connections are served at once. Each takes some 20 kB.
const CONNECTIONS_MAX: usize = 256;
/// So many more are told that there are too many; the others are closed without a word.
const REFUSALS_MAX: usize = 64;
/// A refused client may take so long to read why.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
/// A request, or the next one on the same connection, comes within this time.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// A client that takes nothing for so long is gone.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// A request has so many headers at most ...
const HEADERS_MAX: usize = 64;
/// ... in so many bytes, together with its path.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// After a connection could not be taken (too many open files), the next one is after this time.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

const REFUSAL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 5\r\n\
    Connection: close\r\nContent-Length: 21\r\n\r\ntoo many connections\n";

/// Where to listen, and for whom.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// The address.
    pub listen: SocketAddr,
    /// Names of this host that a browser may use besides its addresses.
    pub hosts: Vec<String>,
}

/// A running server. It ends with this value.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    snapshots: Option<watch::Sender<Arc<Snapshot>>>,
    vitals: watch::Sender<Option<(Stamp, Vitals)>>,
    clock: Clock,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Listens from now on. The page says that it waits until the first snapshot is published.
    ///
    /// # Errors
    ///
    /// Another program has the port, this user may not have it, or the host has no such address.
    pub fn start(options: HttpOptions) -> Result<Self, Failure> {
        let HttpOptions { listen, hosts } = options;
        let failed = |error: std::io::Error| cannot_listen(listen, &error);
        let listener = TcpListener::bind(listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (snapshots, receiver) = watch::channel(Arc::new(Snapshot::default()));
        let (vitals, told) = watch::channel(None);
        let clock = Clock::new();
        let site = Arc::new(Site::new(receiver, told, hosts, clock));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let thread = std::thread::Builder::new().name("http".to_owned()).spawn(move || {
            runtime.block_on(serve(listener, site));
            // Whoever is still connected is left.
            runtime.shutdown_background();
        });
        tracing::info!("status page at http://{address}/");
        if !address.ip().is_loopback() {
            tracing::warn!(
                hint = "let a proxy with a login stand before it, or listen on 127.0.0.1",
                "whoever reaches {address} can read the status of the system"
            );
        }
        Ok(Self { address, snapshots: Some(snapshots), vitals, clock, thread: Some(thread.map_err(failed)?) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this is shown.
    pub fn publish(&self, status: Option<SystemStatus>, numbers: Option<Numbers>) {
        if let Some(snapshots) = &self.snapshots {
            snapshots.send_replace(Arc::new(Snapshot::new(status, numbers)));
        }
    }

    /// The watcher works, and knows this of itself. Probes are told so until it is silent for too long.
    pub fn beat(&self, vitals: Vitals) {
        self.vitals.send_replace(Some((self.clock.now(), vitals)));
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        // Without a sender the server ends, and its thread with it.
        drop(self.snapshots.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the status page has panicked");
        }
    }
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> Failure {
    let port = address.port();
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds have no hint of their own")]
    let hint = match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "choose another port for --listen, or see which program has it: ss -ltnp 'sport = :{port}'"
        ),
        std::io::ErrorKind::PermissionDenied => "choose a port above 1023 for --listen".to_owned(),
        std::io::ErrorKind::AddrNotAvailable => {
            format!("choose an address of this host for --listen, or the port alone: --listen {port}")
        }
        _ => "choose another address for --listen".to_owned(),
    };
    Failure::new(FailureKind::Io, format!("cannot listen on {address}: {error}"), hint)
}

/// Takes connections until there are no more snapshots.
async fn serve(listener: TcpListener, site: Arc<Site>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the status page cannot be served"),
    };
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    loop {
        let taken = tokio::select! {
            () = site.is_over() => return,
            taken = listener.accept() => taken,
        };
        let Ok((stream, _)) = taken else {
            sleep(ACCEPT_AGAIN).await;
            continue;
        };
        if let Ok(permit) = Arc::clone(&connections).try_acquire_owned() {
            let site = Arc::clone(&site);
            tokio::spawn(async move {
                connection(stream, site).await;
                drop(permit);
            });
        } else if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
            tokio::spawn(async move {
                // Whoever does not listen is not told.
                drop(timeout(REFUSAL_TIME, refuse(stream)).await);
                drop(permit);
            });
        }
    }
}

/// Serves one connection to its end.
async fn connection(stream: TcpStream, site: Arc<Site>) {
    let io = TokioIo::new(Deadlined::new(stream, WRITE_TIME));
    let service = service_fn(|request| {
        let answer = site.answer(&request);
        async move { Ok::<_, std::convert::Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(io, service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a client of the status page");
    }
}

/// Says that there are too many, and waits until the client has read it.
async fn refuse(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(REFUSAL).await?;
    stream.shutdown().await?;
    let mut rest = [0; 1_024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}
