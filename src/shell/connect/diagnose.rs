//! Turns what went wrong while connecting into a failure that says what to do.

use std::error::Error;
use std::io;
use std::time::Duration;

use async_nats::rustls::{AlertDescription, CertificateError, Error as TlsError};
use async_nats::{ConnectError, ConnectErrorKind, ServerAddr, ServerError};

use crate::shell::config::{Auth, ConnectConfig, ConnectionRole};
use crate::shell::failure::{Failure, FailureKind};

/// What a failed try to connect to `server` means.
pub(super) fn failure(
    server: &ServerAddr,
    config: &ConnectConfig,
    share: Duration,
    error: &ConnectError,
) -> Failure {
    let causes = Causes::of(error);
    let url = server.as_url_str();
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation => refused(Some(server), &config.auth, config.role),
        ConnectErrorKind::Authentication => {
            let why = error.source().map_or_else(|| "the server's challenge cannot be signed".into(), plain);
            Failure::new(FailureKind::Config, why, "check the seed and the credentials file")
        }
        ConnectErrorKind::TimedOut => too_late(server, share),
        ConnectErrorKind::ServerParse => Failure::new(
            FailureKind::Config,
            format!("{url} is not a valid address"),
            "write nats://HOST:4222",
        ),
        ConnectErrorKind::Dns => {
            unreachable(format!("{url}: the host has no address"), "check the name of the host")
        }
        ConnectErrorKind::Tls | ConnectErrorKind::Io | ConnectErrorKind::MaxReconnects => {
            if let Some(tls) = causes.tls {
                return tls_failure(server, config, tls);
            }
            if let Some(text) = causes.server {
                return server_failure(server, config, text);
            }
            if error.kind() == ConnectErrorKind::Tls {
                let why = error.source().map_or_else(String::new, plain);
                return Failure::new(FailureKind::Tls, format!("{url}: TLS: {why}"), CA_HINT);
            }
            io_failure(server, config, causes.io, error)
        }
    }
}

/// No answer within the time that was given.
pub(super) fn too_late(server: &ServerAddr, share: Duration) -> Failure {
    let waited = humantime::format_duration(share);
    unreachable(
        format!("no answer from {} within {waited}", server.as_url_str()),
        "check the address, the port and the firewall; a server that is frozen, or waits for TLS (--tlsfirst), is silent too",
    )
}

/// What listens there speaks HTTP.
pub(super) fn http_port(server: &ServerAddr) -> Failure {
    let url = server.as_url_str();
    unreachable(
        format!("{url} speaks HTTP: it is a port for monitoring or WebSockets, or no NATS server"),
        PORT_HINT,
    )
}

/// The host has no address.
pub(super) fn unknown_host(server: &ServerAddr, error: &io::Error) -> Failure {
    unreachable(
        format!("{}: the host {:?} cannot be resolved: {error}", server.as_url_str(), server.host()),
        "check the name of the host, and the DNS",
    )
}

/// The login was refused; by which server is known only on the first connect.
pub(super) fn refused(server: Option<&ServerAddr>, auth: &Auth, role: ConnectionRole) -> Failure {
    let login = format!(
        "give a login of {}: --creds FILE, --user and --password, --nkey FILE, --token, or --context NAME",
        role.account()
    );
    let (what, hint) = match auth {
        Auth::Nothing => ("a connection without a login", login.as_str()),
        Auth::Token(_) => (
            "the token",
            "check the token; a user name without a password is sent as a token, so add --password",
        ),
        Auth::Password { .. } => ("the user and the password", "check --user and --password, or the context"),
        Auth::Nkey(_) => ("the NKey", "check that the server knows the public key of this seed"),
        Auth::Jwt { seed: None, .. } => (
            "the credentials",
            "add the seed that signs for the JWT with --seed; only a bearer JWT goes without",
        ),
        Auth::Creds(_) | Auth::Jwt { .. } => (
            "the credentials",
            "check that they are not expired or revoked, and that the server knows their account",
        ),
    };
    let who = server.map_or("the server", ServerAddr::as_url_str);
    Failure::new(FailureKind::Credentials, format!("{who} refuses {what}"), hint)
}

/// Whether the words of a server are about the login.
pub(super) fn is_login_error(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["authorization", "authentication"].iter().any(|word| text.contains(word))
}

/// Of the failures of several servers, the one that helps most, told together with the others.
pub(super) fn most_telling(failures: Vec<Failure>) -> Failure {
    let rank = |failure: &Failure| match failure.kind() {
        FailureKind::Credentials => 0,
        FailureKind::Tls => 1,
        FailureKind::Config => 2,
        FailureKind::Unreachable => 4,
        FailureKind::NotSystemAccount
        | FailureKind::Permission
        | FailureKind::NoReply
        | FailureKind::Disconnected
        | FailureKind::Io
        | FailureKind::Input => 3,
    };
    let message = failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    match failures.iter().min_by_key(|failure| rank(failure)) {
        Some(best) => Failure::new(best.kind(), message, best.hint()),
        None => unreachable("no server is configured".into(), "give one with --server"),
    }
}

const CA_HINT: &str = "give the authority that signed the server's certificate with --tlsca FILE";
const PORT_HINT: &str =
    "use the port for NATS clients: 4222, unless the server's configuration has another one";
const PLAIN_HINT: &str = "the server seems to speak no TLS: use nats://, and drop --tlsca, --tlscert, --tlskey and --tlsfirst, or turn TLS on at the server";

fn unreachable(message: String, hint: &str) -> Failure {
    Failure::new(FailureKind::Unreachable, message, hint)
}

/// What is known about the causes of an error, from the outside in.
struct Causes<'a> {
    tls: Option<&'a TlsError>,
    server: Option<&'a str>,
    io: Option<io::ErrorKind>,
}

impl<'a> Causes<'a> {
    fn of(error: &'a ConnectError) -> Self {
        let mut causes = Self { tls: None, server: None, io: None };
        let mut next = error.source();
        while let Some(cause) = next {
            next = cause.source();
            if let Some(error) = cause.downcast_ref::<io::Error>() {
                causes.io = Some(error.kind());
                // An io error hides what it wraps: its `source` is that of the inner error.
                next = error.get_ref().map(|inner| inner as &(dyn Error + 'static));
            } else if let Some(error) = cause.downcast_ref::<TlsError>() {
                causes.tls = Some(error);
            } else if let Some(ServerError::Other(text)) = cause.downcast_ref::<ServerError>() {
                causes.server = Some(text);
            }
        }
        causes
    }
}

/// How the check of certificates names an authority's certificate in the place of a server's.
const CA_AS_SERVER: &str = "CaUsedAsEndEntity";

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the list of TLS errors is open; the rest speaks for itself"
)]
fn tls_failure(server: &ServerAddr, config: &ConnectConfig, error: &TlsError) -> Failure {
    let url = server.as_url_str();
    let (what, hint) = match error {
        TlsError::InvalidMessage(_) => ("what came back is not TLS".into(), PLAIN_HINT),
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => {
            ("the server's certificate is signed by an unknown authority".into(), CA_HINT)
        }
        TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => (
            format!("the server's certificate is not for {:?}", server.host()),
            "use a name that the certificate holds in --server, or have one made for this name",
        ),
        TlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            ("the server's certificate has expired".into(), "renew it, or check the clock of this host")
        }
        TlsError::InvalidCertificate(CertificateError::Other(other)) if other.to_string() == CA_AS_SERVER => {
            (
                "the server's own certificate is that of an authority (CA:TRUE), which no server may use"
                    .into(),
                "have the authority sign another certificate for the server; one that is self-signed needs CA:FALSE",
            )
        }
        TlsError::AlertReceived(alert) => (
            format!("the server ended the handshake: {alert:?}"),
            match (alert, &config.tls.client) {
                (AlertDescription::CertificateRequired, _) | (_, None) => {
                    "the server wants a client certificate: give one with --tlscert and --tlskey; if it is the cluster or gateway \
                     port, use the port for NATS clients (4222 by default)"
                }
                (_, Some(_)) => {
                    "check that the server trusts the authority of the client certificate (--tlscert)"
                }
            },
        ),
        error => (error.to_string(), CA_HINT),
    };
    Failure::new(FailureKind::Tls, format!("{url}: TLS: {what}"), hint)
}

/// The server said why it does not want us.
fn server_failure(server: &ServerAddr, config: &ConnectConfig, text: &str) -> Failure {
    let url = server.as_url_str();
    if is_login_error(text) {
        let refused = refused(Some(server), &config.auth, config.role);
        return Failure::new(FailureKind::Credentials, format!("{refused}: {text}"), refused.hint());
    }
    let lower = text.to_ascii_lowercase();
    if let Some(port) = other_port(&lower) {
        return unreachable(format!("{url} is {port}"), PORT_HINT);
    }
    // A server without TLS takes the start of a handshake for a command.
    if lower.contains("unknown protocol operation") || lower.contains("parser error") {
        return Failure::new(
            FailureKind::Tls,
            format!("{url}: TLS: the server answered: {text}"),
            PLAIN_HINT,
        );
    }
    if lower.contains("tls") || lower.contains("secure connection") {
        return Failure::new(FailureKind::Tls, format!("{url}: the server answered: {text}"), CA_HINT);
    }
    unreachable(
        format!("{url}: the server answered: {text}"),
        "see the server's log, and its connection limits",
    )
}

/// Which port of a server it is where clients are sent away with these words (nats-server 2.15,
/// `server/errors.go`).
fn other_port(lower: &str) -> Option<&'static str> {
    let name = lower.strip_prefix("attempted to connect to ")?.strip_suffix(" port")?;
    Some(match name {
        "route" => "the cluster port, for routes between servers",
        "gateway" => "the gateway port, for links between clusters",
        "leaf node" => "the port for leaf nodes",
        _ => "another port than that for clients",
    })
}

fn io_failure(
    server: &ServerAddr,
    config: &ConnectConfig,
    io: Option<io::ErrorKind>,
    error: &ConnectError,
) -> Failure {
    let url = server.as_url_str();
    let wants_tls = config.tls.required() || server.tls_required();
    match io {
        Some(io::ErrorKind::ConnectionRefused) => unreachable(
            format!("nothing listens at {url}"),
            "start the server, or give another address with --server",
        ),
        Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
            if wants_tls =>
        {
            let hint = "see the server's log: it may speak no TLS, or want a client certificate (--tlscert and --tlskey)";
            Failure::new(FailureKind::Tls, format!("{url}: the server ended the TLS handshake"), hint)
        }
        Some(kind) => unreachable(format!("{url}: {kind}"), "check the address, the port and the network"),
        None => {
            let why = error.source().map_or_else(String::new, plain);
            let what = if why.ends_with("got nothing") {
                "told nothing of itself".to_owned()
            } else {
                format!("ended the connection: {why}")
            };
            unreachable(
                format!("{url} {what}"),
                "if the server starts with TLS (handshake_first), add --tlsfirst; if it is the cluster or gateway port, \
                 use the port for NATS clients, 4222 by default",
            )
        }
    }
}

/// The words of an error, without the wrapping that the client puts around errors of the login.
fn plain(error: &(dyn Error + 'static)) -> String {
    let text = error.to_string();
    text.strip_prefix("AuthError(").and_then(|inner| inner.strip_suffix(')')).unwrap_or(&text).to_owned()
}
