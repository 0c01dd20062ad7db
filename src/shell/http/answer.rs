//! Which answer a request gets.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, watch};

use super::body::{Answer, Snapshot};
use crate::shell::clock::Clock;
use crate::status::{access, page};

/// A path and a query have so many bytes at most.
const PATH_MAX: usize = 1_024;
/// So many streams of events are open at once; the other connections answer whoever asks once.
const STREAMS_MAX: usize = 128;

const TEXT: &str = "text/plain; charset=utf-8";

/// What is to be had under a path.
struct Route {
    path: &'static str,
    answer: fn(&Site) -> Response<Answer>,
}

/// Every path that there is.
const ROUTES: [Route; 3] = [
    Route { path: "/", answer: Site::page },
    Route { path: "/status.json", answer: Site::document },
    Route { path: "/events", answer: Site::events },
];

/// What is shown, and to whom.
#[derive(Debug)]
pub(super) struct Site {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    hosts: Vec<String>,
    streams: Arc<Semaphore>,
    policy: HeaderValue,
    clock: Clock,
}

impl Site {
    pub(super) fn new(snapshots: watch::Receiver<Arc<Snapshot>>, hosts: Vec<String>) -> Self {
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        Self { snapshots, hosts, streams, policy: policy(), clock: Clock::new() }
    }

    /// Ready when nothing will be published any more.
    pub(super) async fn is_over(&self) {
        let mut snapshots = self.snapshots.clone();
        while snapshots.changed().await.is_ok() {}
    }

    /// The answer to a request. A body that comes with it is not read.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Response<Answer> {
        let mut answer = self.choose(request);
        let secure = [
            (header::CONTENT_SECURITY_POLICY, self.policy.clone()),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (
                HeaderName::from_static("cross-origin-resource-policy"),
                HeaderValue::from_static("same-origin"),
            ),
            (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        ];
        answer.headers_mut().extend(secure);
        answer
    }

    fn choose<B>(&self, request: &Request<B>) -> Response<Answer> {
        let uri = request.uri();
        if uri.path_and_query().is_some_and(|path| path.as_str().len() > PATH_MAX) {
            return plain(StatusCode::URI_TOO_LONG, "this path is too long\n");
        }
        let named = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or_default());
        let named = uri.authority().map(|authority| authority.as_str()).or(named);
        match named {
            // Only browsers can be led astray, and they all tell whom they ask.
            None if request.version() == Version::HTTP_10 => {}
            Some(host) if access::is_our_host(host, &self.hosts) => {}
            _ => {
                let text =
                    "this host goes by its IP address or as localhost; name others with --listen-host\n";
                return plain(StatusCode::MISDIRECTED_REQUEST, text);
            }
        }
        let Some(route) = ROUTES.iter().find(|route| route.path == uri.path()) else {
            let paths = ROUTES.map(|route| route.path).join(" ");
            return plain(StatusCode::NOT_FOUND, format!("there is: {paths}\n"));
        };
        match *request.method() {
            Method::GET => (route.answer)(self),
            Method::HEAD => {
                let mut answer = (route.answer)(self);
                if matches!(answer.body(), Answer::Events(_)) {
                    *answer.body_mut() = Answer::Whole(None);
                }
                answer
            }
            _ => {
                let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
                answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
                answer
            }
        }
    }

    fn page(&self) -> Response<Answer> {
        let snapshot = Arc::clone(&self.snapshots.borrow());
        let now_ns = self.clock.now().wall_ns();
        let page = page::page(snapshot.status(), env!("CARGO_PKG_VERSION"), now_ns);
        whole(StatusCode::OK, "text/html; charset=utf-8", page)
    }

    fn document(&self) -> Response<Answer> {
        let document = self.snapshots.borrow().document();
        whole(StatusCode::OK, "application/json", document)
    }

    fn events(&self) -> Response<Answer> {
        let Ok(permit) = Arc::clone(&self.streams).try_acquire_owned() else {
            let mut answer = plain(StatusCode::SERVICE_UNAVAILABLE, "too many pages are open\n");
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            return answer;
        };
        let mut answer = Response::new(Answer::events(self.snapshots.clone(), permit));
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        answer
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Answer> {
    whole(status, TEXT, text)
}

fn whole(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Answer> {
    let mut answer = Response::new(Answer::Whole(Some(body.into())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// What a browser may do with the page: run its own script and style, known by their hashes, and ask this server.
fn policy() -> HeaderValue {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; connect-src 'self'; base-uri \
         'none'; form-action 'none'; frame-ancestors 'none'",
        hash(page::SCRIPT),
        hash(page::STYLE)
    );
    // It holds letters, digits and signs alone; without it nothing would be allowed, which is safe.
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}
