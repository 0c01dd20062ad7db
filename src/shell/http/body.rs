//! What is sent: something whole, or one snapshot after the other.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::report::exposition::Format;
use crate::status::numbers::Numbers;
use crate::status::{SystemStatus, metrics, page};

/// When nothing happens for so long, a comment shows that the connection is there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// A stream of events ends after this time; the browser opens another one.
const STREAM_MAX: Duration = Duration::from_secs(3_600);
/// After a lost connection a browser tries again after so many milliseconds.
const RETRY: &str = "retry: 2000\n\n";

/// What is shown after an epoch. It is written once, and only when somebody asks.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    status: Option<Arc<SystemStatus>>,
    document: OnceLock<Bytes>,
    event: OnceLock<Bytes>,
    numbers: Option<Numbers>,
    metrics: [OnceLock<String>; 2],
}

impl Snapshot {
    pub(super) fn new(status: Option<SystemStatus>, numbers: Option<Numbers>) -> Self {
        Self { status: status.map(Arc::new), numbers, ..Self::default() }
    }

    /// The numbers as text, with whether the watcher is ready now.
    pub(super) fn metrics(&self, format: Format, ready: bool) -> String {
        let [plain, open] = &self.metrics;
        let text = match format {
            Format::Prometheus => plain,
            Format::OpenMetrics => open,
        };
        let version = env!("CARGO_PKG_VERSION");
        let text = text.get_or_init(|| metrics::page(self.numbers.as_ref(), version, format));
        metrics::whole(text, ready, format)
    }

    /// The status; `None` before the first epoch.
    pub(super) fn status(&self) -> Option<&Arc<SystemStatus>> {
        self.status.as_ref()
    }

    /// The status as JSON.
    pub(super) fn document(&self) -> Bytes {
        self.document.get_or_init(|| page::document(self.status.as_deref()).into()).clone()
    }

    /// The status as a server-sent event. JSON holds no line end.
    fn event(&self) -> Bytes {
        let event = || {
            let mut text = b"event: status\ndata: ".to_vec();
            text.extend_from_slice(&self.document());
            text.extend_from_slice(b"\n\n");
            text.into()
        };
        self.event.get_or_init(event).clone()
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// All at once.
    Whole(Option<Bytes>),
    /// One snapshot after the other.
    Events(mpsc::Receiver<Bytes>),
}

impl Answer {
    /// Sends each snapshot from now on. A client that is slow misses those between; one at a time waits for it.
    pub(super) fn events(
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            #[expect(clippy::disallowed_methods, reason = "a timer of the shell, not a time of the core")]
            let until = Instant::now() + STREAM_MAX;
            if sender.send(RETRY.into()).await.is_err() {
                return;
            }
            snapshots.mark_changed();
            loop {
                let news = tokio::select! {
                    () = sender.closed() => break,
                    () = sleep_until(until) => break,
                    news = timeout(SIGN_OF_LIFE, snapshots.changed()) => news,
                };
                let event = match news {
                    Ok(Ok(())) => snapshots.borrow_and_update().event(),
                    Ok(Err(_)) => break,
                    Err(_) => Bytes::from_static(b": still here\n\n"),
                };
                if sender.send(event).await.is_err() {
                    break;
                }
            }
            drop(permit);
        });
        Self::Events(receiver)
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Events(events) => {
                events.poll_recv(context).map(|event| event.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Events(_) => SizeHint::default(),
        }
    }
}
