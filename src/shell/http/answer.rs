//! Which answer a request gets.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, watch};

use super::body::{Answer, Snapshot};
use crate::report::exposition::Format;
use crate::shell::clock::Clock;
use crate::stamp::Stamp;
use crate::status::vitals::{self, Vitals};
use crate::status::{access, page};

/// A path and a query have so many bytes at most.
const PATH_MAX: usize = 1_024;
/// So many streams of events are open at once; the other connections answer whoever asks once.
const STREAMS_MAX: usize = 128;

const TEXT: &str = "text/plain; charset=utf-8";

/// What is to be had under a path.
struct Route {
    path: &'static str,
    answer: fn(&Site, &HeaderMap) -> Response<Answer>,
    /// Whether it is there for programs, which go by whatever name they found us under: that of a service or a pod.
    any_host: bool,
}

/// Every path that there is.
const ROUTES: [Route; 6] = [
    Route { path: "/", answer: Site::page, any_host: false },
    Route { path: "/status.json", answer: Site::document, any_host: false },
    Route { path: "/events", answer: Site::events, any_host: false },
    Route { path: "/metrics", answer: Site::metrics, any_host: true },
    Route { path: "/healthz", answer: Site::health, any_host: true },
    Route { path: "/readyz", answer: Site::readiness, any_host: true },
];

/// What is shown, and to whom.
#[derive(Debug)]
pub(super) struct Site {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    vitals: watch::Receiver<Option<(Stamp, Vitals)>>,
    hosts: Vec<String>,
    streams: Arc<Semaphore>,
    policy: HeaderValue,
    clock: Clock,
}

impl Site {
    pub(super) fn new(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        vitals: watch::Receiver<Option<(Stamp, Vitals)>>,
        hosts: Vec<String>,
        clock: Clock,
    ) -> Self {
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        Self { snapshots, vitals, hosts, streams, policy: policy(), clock }
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
        let route = ROUTES.iter().find(|route| route.path == uri.path());
        let named = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or_default());
        let named = uri.authority().map(|authority| authority.as_str()).or(named);
        match named {
            // Only browsers can be led astray, and they all tell whom they ask.
            _ if route.is_some_and(|route| route.any_host) && !is_of_a_browser(request.headers()) => {}
            None if request.version() == Version::HTTP_10 => {}
            Some(host) if access::is_our_host(host, &self.hosts) => {}
            _ => {
                let text =
                    "this host goes by its IP address or as localhost; name others with --listen-host\n";
                return plain(StatusCode::MISDIRECTED_REQUEST, text);
            }
        }
        let Some(route) = route else {
            let paths = ROUTES.map(|route| route.path).join(" ");
            return plain(StatusCode::NOT_FOUND, format!("there is: {paths}\n"));
        };
        match *request.method() {
            Method::GET => (route.answer)(self, request.headers()),
            Method::HEAD => {
                let mut answer = (route.answer)(self, request.headers());
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

    fn page(&self, _: &HeaderMap) -> Response<Answer> {
        let snapshot = Arc::clone(&self.snapshots.borrow());
        let now_ns = self.clock.now().wall_ns();
        let page = page::page(snapshot.status(), env!("CARGO_PKG_VERSION"), now_ns);
        whole(StatusCode::OK, "text/html; charset=utf-8", page)
    }

    fn document(&self, _: &HeaderMap) -> Response<Answer> {
        let document = self.snapshots.borrow().document();
        whole(StatusCode::OK, "application/json", document)
    }

    fn metrics(&self, headers: &HeaderMap) -> Response<Answer> {
        let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
        let format = Format::accepted(&accepted.collect::<Vec<_>>().join(","));
        let ready = self.vital(vitals::readiness).is_ok();
        let snapshot = Arc::clone(&self.snapshots.borrow());
        whole(StatusCode::OK, format.content_type(), snapshot.metrics(format, ready))
    }

    fn health(&self, _: &HeaderMap) -> Response<Answer> {
        told(self.vital(vitals::health))
    }

    fn readiness(&self, _: &HeaderMap) -> Response<Answer> {
        told(self.vital(vitals::readiness))
    }

    /// What is said of the watcher now, by what it told last of itself.
    fn vital(&self, say: fn(Option<&Vitals>, Duration) -> Result<(), String>) -> Result<(), String> {
        let last = *self.vitals.borrow();
        let age = last.map(|(at, _)| self.clock.now().since(at)).unwrap_or_default();
        say(last.as_ref().map(|(_, vitals)| vitals), age)
    }

    fn events(&self, _: &HeaderMap) -> Response<Answer> {
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

/// Whether a browser may have sent this. Each of them tells which language it prefers, and a page cannot keep it from that;
/// a scraper or a probe has none.
fn is_of_a_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ACCEPT_LANGUAGE)
        || headers.get(header::USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/"))
}

/// The answer to a probe.
fn told(said: Result<(), String>) -> Response<Answer> {
    match said {
        Ok(()) => plain(StatusCode::OK, "ok\n"),
        Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
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
