//! One receiver: where it is, what is sent along, and one post to it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_nats::rustls::pki_types::pem::PemObject;
use async_nats::rustls::pki_types::{CertificateDer, ServerName};
use async_nats::rustls::{ClientConfig, RootCertStore};
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::forward::ReceiverKind;
use crate::forward::answer::Answer;
use crate::name::printable;
use crate::shell::config::{Env, Secret, pointed_to, reason};
use crate::shell::failure::{Failure, FailureKind};

/// A receiver that does not answer within this time has not taken what was sent.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The path of an Alertmanager's API. Source: prometheus/alertmanager 0.16 and later, `api/v2/openapi.yaml`.
const ALERTS_PATH: &str = "/api/v2/alerts";

/// Where posts go.
#[derive(Clone)]
pub(super) struct Receiver {
    /// The name that people are told: no path and no login is in it, for both may be secrets.
    pub(super) name: String,
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    headers: Vec<Header>,
    around: Env,
}

/// A header, whose value is looked up for every post: it may have been renewed.
#[derive(Clone)]
pub(super) struct Header {
    name: HeaderName,
    value: Secret,
}

impl Header {
    /// Reads `Name: value`, where the value may be or end with a pointer, as in `Authorization: Bearer env://NAME`.
    pub(super) fn parse(flag: &str, text: &Secret, around: &Env) -> Result<Self, Failure> {
        let bad = |what: &str| {
            let hint = "write it like 'Authorization: Bearer env://NAME' or 'X-Key: file://PATH'";
            Failure::new(FailureKind::Config, format!("{flag} {what}"), hint)
        };
        let (name, value) =
            text.expose().split_once(':').ok_or_else(|| bad("has no colon behind its name"))?;
        let name: HeaderName = name.trim().parse().map_err(|_| bad("has a name that no header can have"))?;
        let header = Self { name, value: Secret::from(value.trim()) };
        header.read(around)?;
        Ok(header)
    }

    fn read(&self, around: &Env) -> Result<HeaderValue, Failure> {
        let name = format!("the header {}", self.name);
        let value = pointed_to(&name, self.value.expose(), around)?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| {
            Failure::new(
                FailureKind::Config,
                format!("{name} has a value with line ends or controls"),
                "take them out",
            )
        })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl Receiver {
    /// Reads an address. `given` may point to where it is kept.
    pub(super) fn parse(
        kind: ReceiverKind,
        given: &Secret,
        headers: Vec<Header>,
        tls: &Arc<ClientConfig>,
        around: &Env,
    ) -> Result<Self, Failure> {
        let (flag, word) = match kind {
            ReceiverKind::Alertmanager => ("--alertmanager", "alertmanager"),
            ReceiverKind::Webhook => ("--webhook", "webhook"),
        };
        let bad = |what: &str, hint: &str| Failure::new(FailureKind::Config, format!("{flag} {what}"), hint);
        let hint = "write http://HOST:PORT/PATH or https://HOST/PATH, or point to it with env://NAME";
        let text = pointed_to(flag, given.expose(), around)?;
        let uri: Uri = text.expose().parse().map_err(|_| bad("is not a valid address", hint))?;
        let (Some(scheme @ ("http" | "https")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(bad("is not an address of http or https", hint));
        };
        if authority.as_str().contains('@') {
            let hint = "give the login as a header: --webhook-header or --alertmanager-header 'Authorization: env://NAME'";
            return Err(bad("has a login in its address", hint));
        }
        let secure = scheme == "https";
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let path = match kind {
            ReceiverKind::Alertmanager => format!("{}{ALERTS_PATH}", uri.path().trim_end_matches('/')),
            ReceiverKind::Webhook => uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
        };
        let name = format!("{word} {scheme}://{}", printable(authority.as_str()));
        let uri = path.parse().map_err(|_| bad("is not a valid address", hint))?;
        let tls = secure.then(|| tls.clone());
        Ok(Self { name, uri, host, port, tls, headers, around: around.clone() })
    }

    /// Posts once.
    pub(super) async fn post(&self, key: Option<&str>, body: String) -> Answer {
        match timeout(ANSWER_MAX, self.exchange(key, body)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => Answer::None(why),
            Err(_) => Answer::None(format!("no answer within {} s", ANSWER_MAX.as_secs())),
        }
    }

    async fn exchange(&self, key: Option<&str>, body: String) -> Result<Answer, String> {
        let request = self.request(key, body).map_err(|failure| failure.to_string())?;
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| format!("it cannot be reached: {}", reason(&error)))?;
        let Some(tls) = &self.tls else { return send(stream, request).await };
        let name =
            ServerName::try_from(self.host.clone()).map_err(|_| "its host is no name for TLS".to_owned())?;
        let stream = TlsConnector::from(tls.clone()).connect(name, stream).await;
        send(stream.map_err(|error| format!("TLS: {}", printable(&error.to_string())))?, request).await
    }

    fn request(&self, key: Option<&str>, body: String) -> Result<Request<String>, Failure> {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let mut builder = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(HOST, format!("{host}:{}", self.port))
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("metawatch/", env!("CARGO_PKG_VERSION")));
        if let Some(key) = key {
            builder = builder.header("Idempotency-Key", printable(key).as_ref());
        }
        for header in &self.headers {
            builder = builder.header(header.name.clone(), header.read(&self.around)?);
        }
        builder.body(body).map_err(|_| {
            Failure::new(
                FailureKind::Config,
                "the request cannot be written",
                "see the headers that are given",
            )
        })
    }
}

/// Sends the request. Of the answer only its head is read: a body may repeat what was sent.
async fn send<S>(stream: S, request: Request<String>) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ended = |error: hyper::Error| format!("it ended the connection: {}", printable(&error.to_string()));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(ended)?;
    // Ends when the answer is there and the sender is gone.
    let driving = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    driving.abort();
    let answer = answer.map_err(ended)?;
    let retry_after = answer.headers().get(RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Ok(Answer::Status { code: answer.status().as_u16(), retry_after })
}

/// Whom to trust: the authorities of this file, else those of the system.
pub(super) fn trust(ca: Option<&Path>) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let failed = |why: String| {
                let message = format!("--receiver-tlsca: {} {why}", path.display());
                Failure::new(FailureKind::Config, message, "give a PEM file with the authority's certificate")
            };
            let pem =
                std::fs::read(path).map_err(|error| failed(format!("cannot be read: {}", reason(&error))))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(|_| failed("holds no certificate".to_owned()))?;
                roots
                    .add(certificate)
                    .map_err(|_| failed("holds no authority that can be trusted".to_owned()))?;
            }
            if roots.is_empty() {
                return Err(failed("holds no certificate".to_owned()));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}
