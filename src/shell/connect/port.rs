//! Tells the port for HTTP from a silent server: both say nothing until they are asked in their own way.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// Ends when the address has been silent for so long and then answers a request of HTTP; else never.
///
/// Servers of NATS speak first, so that one that works is not asked.
pub(super) async fn speaks_http(address: SocketAddr, silent_for: Duration) {
    sleep(silent_for).await;
    if !answers_http(address).await.unwrap_or(false) {
        pending::<()>().await;
    }
}

async fn answers_http(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut start = [0; 5];
    stream.read_exact(&mut start).await?;
    Ok(&start == b"HTTP/")
}
