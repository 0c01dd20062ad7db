//! Connecting to real servers: every login, every way to encrypt, and every way in which it fails.

use std::net::TcpListener;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use metawatch::shell::config::{ConnectConfig, ConnectFlags, Env, Secret};
use metawatch::shell::connect::{Link, LinkEvent, Operation, Retry, connect};
use metawatch::shell::failure::{Failure, FailureKind};
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair as TlsKey};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::cluster::tested_version;
use metawatch::shell::demo::binary::nats_server;
use metawatch::shell::demo::process::{Process, Reaper};

const SOON: Duration = Duration::from_secs(60);

fn free_port() -> u16 {
    crate::cluster::config::Ports::free().expect("a port").client
}

/// A directory with a configuration, and the server that runs from it.
pub(super) struct Server {
    pub(super) home: TempDir,
    port: u16,
    process: Option<Process>,
    pub(super) reaper: Reaper,
}

impl Server {
    pub(super) fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let reaper = Reaper::start(home.path()).expect("a reaper");
        Self { home, port: free_port(), process: None, reaper }
    }

    pub(super) async fn with(config: &str) -> Self {
        let mut server = Self::new();
        server.start(config).await;
        server
    }

    pub(super) fn write(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    }

    fn configure(&self, config: &str) -> String {
        self.write("server.conf", &format!("listen: \"127.0.0.1:{}\"\n{config}\n", self.port))
    }

    pub(super) async fn start(&mut self, config: &str) {
        let path = self.configure(config);
        let binary = nats_server(tested_version().as_deref()).expect("a server");
        let log = self.home.path().join("log");
        let process = Process::start(&binary, path.as_ref(), &log, &mut self.reaper);
        self.process = Some(process.expect("a process"));
        for _ in 0..3_000 {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("the server does not start: {}", self.log());
    }

    pub(super) fn stop(&mut self) {
        self.process.take().expect("a process").kill(&mut self.reaper).expect("an end");
    }

    fn signal(&self, signal: &str) {
        self.process.as_ref().expect("a process").signal(signal).expect("a signal");
    }

    /// Its address for clients.
    pub(super) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// Flags for this server.
    pub(super) fn flags(&self) -> ConnectFlags {
        self.flags_with("nats", "")
    }

    pub(super) fn flags_with(&self, scheme: &str, login: &str) -> ConnectFlags {
        let server = format!("{scheme}://{login}127.0.0.1:{}", self.port);
        ConnectFlags {
            server: Some(Secret::from(server)),
            timeout: Some(Duration::from_secs(8)),
            ..ConnectFlags::default()
        }
    }
}

fn secret(text: &str) -> Option<Secret> {
    Some(Secret::from(text))
}

fn config(flags: &ConnectFlags) -> ConnectConfig {
    ConnectConfig::resolve(flags, &Env::default()).expect("a configuration")
}

async fn once(flags: &ConnectFlags) -> Result<Link, Failure> {
    timeout(SOON, connect(&config(flags), Retry::Once)).await.expect("an end")
}

/// Connects, and has the server answer.
pub(super) async fn works(what: &str, server: &Server, flags: ConnectFlags) {
    match once(&flags).await {
        Ok(link) => link.client.flush().await.expect("an answer"),
        Err(failure) => panic!("{what}: {failure}\n{}", server.log()),
    }
}

/// Fails with this kind, these words and this hint, and shows nothing that is secret.
pub(super) async fn fails(what: &str, flags: ConnectFlags, kind: FailureKind, words: &str, hint: &str) {
    let failure = once(&flags).await.map(drop).expect_err(what);
    assert_eq!(failure.kind(), kind, "{what}: {failure}");
    assert!(failure.to_string().contains(words), "{what}: {failure}");
    assert!(failure.hint().contains(hint), "{what}: {}", failure.hint());
    assert!(!format!("{failure:?}").contains("hunter2"), "{what}: {failure:?}");
}

async fn next(link: &mut Link) -> LinkEvent {
    timeout(SOON, link.events.recv()).await.expect("an event in time").expect("an event")
}

/// Waits for an event, past others.
async fn hear(link: &mut Link, wanted: LinkEvent) {
    while next(link).await != wanted {}
}

#[tokio::test]
async fn users_and_tokens_are_accepted_or_refused() {
    let server = Server::with("authorization { user: u, password: \"p@ss\" }").await;
    let user = |name: &str, password: &str| ConnectFlags {
        user: secret(name),
        password: secret(password),
        ..server.flags()
    };
    works("a user", &server, user("u", "p@ss")).await;
    works("a user in the address", &server, server.flags_with("nats", "u:p%40ss@")).await;
    let refused = FailureKind::Credentials;
    fails(
        "a wrong password",
        user("u", "hunter2"),
        refused,
        "refuses the user and the password",
        "--password",
    )
    .await;
    fails("no login", server.flags(), refused, "a connection without a login", "--creds").await;
    let token = ConnectFlags { token: secret("hunter2"), ..server.flags() };
    fails("a token", token, refused, "refuses the token", "--password").await;

    let server = Server::with("authorization { token: \"t0ken\" }").await;
    works("a token", &server, ConnectFlags { token: secret("t0ken"), ..server.flags() }).await;
    works("a user alone", &server, ConnectFlags { user: secret("t0ken"), ..server.flags() }).await;
    works("a token in the address", &server, server.flags_with("nats", "t0ken@")).await;
}

#[tokio::test]
async fn an_nkey_signs_and_its_file_is_read_anew() {
    let (mine, other) = (KeyPair::new_user(), KeyPair::new_user());
    let server =
        Server::with(&format!("authorization {{ users: [{{ nkey: {} }}] }}", mine.public_key())).await;
    let (seed, wrong) = (mine.seed().expect("a seed"), other.seed().expect("a seed"));
    let file = server.write("seed.nk", &format!("{seed}\n"));
    let nkey = |nkey: &str| ConnectFlags { nkey: secret(nkey), ..server.flags() };
    works("a file", &server, nkey(&file)).await;
    works("a seed", &server, nkey(&seed)).await;
    fails("a wrong seed", nkey(&wrong), FailureKind::Credentials, "refuses the NKey", "public key").await;
    fails("no file", nkey("/no/such.nk"), FailureKind::Config, "/no/such.nk cannot be read", "path").await;

    let mut link = once(&nkey(&file)).await.expect("a link");
    server.write("seed.nk", &wrong);
    link.client.force_reconnect().await.expect("a reconnect");
    hear(&mut link, LinkEvent::AuthorizationViolation).await;
    server.write("seed.nk", &seed);
    hear(&mut link, LinkEvent::Connected).await;
}

/// A signed JWT as nsc makes them; the server does not check the id.
fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, nats: serde_json::Value, expires: u64) -> String {
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = serde_json::json!({
        "jti": "x", "iat": 1, "iss": issuer.public_key(), "sub": subject.public_key(), "name": name, "nats": nats,
        "exp": expires,
    });
    let text = format!("{}.{}", part(serde_json::json!({"typ": "JWT", "alg": "ed25519-nkey"})), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(issuer.sign(text.as_bytes()).expect("a signature"));
    format!("{text}.{signature}")
}

/// An operator with a system account, and a user of it.
pub(super) struct Operator {
    account: KeyPair,
    user: KeyPair,
    /// The configuration of a server.
    pub(super) config: String,
}

impl Operator {
    pub(super) fn new() -> Self {
        let (operator, account, user) =
            (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
        let of_operator = serde_json::json!({"type": "operator", "version": 2});
        let operator_jwt = jwt(&operator, &operator, "O", of_operator, 0);
        let free = serde_json::json!({"type": "account", "version": 2, "limits": {"subs": -1, "conn": -1,
            "leaf": -1, "imports": -1, "exports": -1, "data": -1, "payload": -1, "wildcards": true}});
        let (account_jwt, id) = (jwt(&operator, &account, "SYS", free, 0), account.public_key());
        let config = format!(
            "operator: {operator_jwt}\nsystem_account: {id}\nresolver: MEMORY\n\
             resolver_preload: {{ {id}: {account_jwt} }}"
        );
        Self { account, user, config }
    }

    /// The JWT of the user; it expires at this second since 1970, or never at 0.
    pub(super) fn user_jwt(&self, expires: u64) -> String {
        self.jwt_by(&self.account, expires)
    }

    fn jwt_by(&self, issuer: &KeyPair, expires: u64) -> String {
        let nats = serde_json::json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
        jwt(issuer, &self.user, "u", nats, expires)
    }

    pub(super) fn seed(&self) -> String {
        self.user.seed().expect("a seed")
    }

    /// The text of a credentials file.
    pub(super) fn creds(&self, jwt: &str) -> String {
        let seed = self.seed();
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }
}

#[tokio::test]
async fn credentials_of_an_operator_work_as_a_file_and_in_parts() {
    let operator = Operator::new();
    let (user_jwt, seed) = (operator.user_jwt(0), operator.seed());
    let server = Server::with(&operator.config).await;
    let file = server.write("user.creds", &operator.creds(&user_jwt));
    let foreign = operator.jwt_by(&KeyPair::new_account(), 0);
    let foreign = server.write("foreign.creds", &operator.creds(&foreign));
    let with = |file: &str| ConnectFlags { creds: secret(file), ..server.flags() };
    works("a file", &server, with(&file)).await;
    fails("a foreign file", with(&foreign), FailureKind::Credentials, "refuses the credentials", "expired")
        .await;
    let fields = serde_json::json!({"user_jwt": user_jwt, "user_seed": seed}).to_string();
    let context = Some(server.write("context.json", &fields));
    works("a context", &server, ConnectFlags { context, ..server.flags() }).await;
    let apart = ConnectFlags { jwt: secret(&user_jwt), seed: secret(&seed), ..server.flags() };
    works("flags", &server, apart).await;
    let alone = ConnectFlags { jwt: secret(&user_jwt), ..server.flags() };
    fails("a JWT alone", alone, FailureKind::Credentials, "refuses the credentials", "--seed").await;
}

/// Certificates, as files in the directory of a server; making them anew overwrites them.
pub(super) struct Certificates {
    pub(super) ca: String,
    pub(super) other_ca: String,
    pub(super) server: String,
    pub(super) elsewhere: String,
    pub(super) client: (String, String),
    pub(super) foreign: (String, String),
}

impl Certificates {
    pub(super) fn new(server: &Server) -> Self {
        let authority = |name: &str| {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            CertifiedIssuer::self_signed(params, TlsKey::generate().expect("a key")).expect("an authority")
        };
        let (ca, other) = (authority("one"), authority("two"));
        let leaf = |file: &str, host: &str, issuer: &CertifiedIssuer<'_, TlsKey>| {
            let key = TlsKey::generate().expect("a key");
            let params = CertificateParams::new([host.to_owned()]).expect("parameters");
            let certificate = params.signed_by(&key, issuer).expect("a certificate");
            (
                server.write(&format!("{file}.pem"), &certificate.pem()),
                server.write(&format!("{file}.key"), &key.serialize_pem()),
            )
        };
        let block = |(cert, key): (String, String)| format!("cert_file: {cert:?}, key_file: {key:?}");
        Self {
            ca: server.write("ca.pem", &ca.pem()),
            other_ca: server.write("other.pem", &other.pem()),
            server: block(leaf("server", "127.0.0.1", &ca)),
            elsewhere: block(leaf("elsewhere", "elsewhere.example", &ca)),
            client: leaf("client", "client", &ca),
            foreign: leaf("foreign", "client", &other),
        }
    }
}

#[tokio::test]
async fn a_port_that_is_not_for_clients_is_named() {
    let mut server = Server::new();
    let ports = [(); 5].map(|()| free_port());
    let [cluster, gateway, leaf, monitoring, websocket] = ports;
    let config = format!(
        "cluster {{ name: c, listen: \"127.0.0.1:{cluster}\" }}
gateway {{ name: c, listen: \"127.0.0.1:{gateway}\" }}
leafnodes {{ listen: \"127.0.0.1:{leaf}\" }}
http: \"127.0.0.1:{monitoring}\"
websocket {{ listen: \"127.0.0.1:{websocket}\", no_tls: true }}
accounts {{ SYS: {{ users: [{{ user: u, password: p }}] }} }}
system_account: SYS"
    );
    server.start(&config).await;
    for (port, words) in [
        (cluster, "is the cluster port"),
        (gateway, "is the gateway port"),
        (leaf, "is the port for leaf nodes"),
        (monitoring, "speaks HTTP"),
        (websocket, "speaks HTTP"),
    ] {
        let mut flags = server.flags();
        flags.server = secret(&format!("nats://u:p@127.0.0.1:{port}"));
        let told = format!("nats://127.0.0.1:{port} {words}");
        fails(words, flags, FailureKind::Unreachable, &told, "the port for NATS clients").await;
    }
}

#[tokio::test]
async fn a_missing_or_silent_server_is_named_and_the_next_one_is_tried() {
    let unreachable = FailureKind::Unreachable;
    let nobody = Server::new();
    fails("nobody", nobody.flags(), unreachable, "nothing listens at nats://127.0.0.1:", "start the server")
        .await;
    let mut unknown = nobody.flags();
    unknown.server = secret("nats://no-such-host.invalid");
    fails("an unknown host", unknown, unreachable, "no-such-host.invalid", "DNS").await;
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let mut flags = nobody.flags();
    flags.server = secret(&format!("127.0.0.1:{port}"));
    flags.timeout = Some(Duration::from_millis(300));
    fails("a silent one", flags, unreachable, "no answer from nats://127.0.0.1:", "--tlsfirst").await;

    let (strict, open) = (Server::with("authorization { token: t }").await, Server::with("").await);
    let list = |ports: &[u16]| {
        let urls: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        ConnectFlags { server: secret(&urls.join(",")), ..nobody.flags() }
    };
    let three = list(&[nobody.port, port, open.port]);
    works("the third", &open, three).await;
    let told = [nobody.port, strict.port].map(|port| port.to_string());
    fails("the refusal", list(&[nobody.port, strict.port]), FailureKind::Credentials, &told[1], "--creds")
        .await;
    fails(
        "the other one too",
        list(&[strict.port, nobody.port]),
        FailureKind::Credentials,
        &told[0],
        "--creds",
    )
    .await;
}

#[tokio::test]
async fn a_watcher_waits_for_its_server_and_finds_it_again() {
    let mut server = Server::new();
    let waiting = config(&server.flags());
    let waiting = tokio::spawn(async move { connect(&waiting, Retry::Forever).await });
    sleep(Duration::from_millis(700)).await;
    assert!(!waiting.is_finished());
    server.start("").await;
    let mut link = timeout(SOON, waiting).await.expect("in time").expect("no panic").expect("a link");
    assert_eq!(next(&mut link).await, LinkEvent::Connected);
    server.stop();
    assert_eq!(next(&mut link).await, LinkEvent::Disconnected);
    sleep(Duration::from_secs(3)).await;
    server.start("").await;
    timeout(Duration::from_millis(1500), hear(&mut link, LinkEvent::Connected))
        .await
        .expect("found within a second");
}

#[tokio::test]
async fn a_watcher_outlasts_refused_logins_at_the_start_and_later() {
    let right = "authorization { user: u, password: right }";
    let wrong = "authorization { user: u, password: other }";
    let server = Server::with(wrong).await;
    let flags = ConnectFlags { user: secret("u"), password: secret("right"), ..server.flags() };
    let waiting = config(&flags);
    let waiting = tokio::spawn(async move { connect(&waiting, Retry::Forever).await });
    sleep(Duration::from_millis(700)).await;
    assert!(!waiting.is_finished());
    server.configure(right);
    server.signal("HUP");
    let mut link = timeout(SOON, waiting).await.expect("in time").expect("no panic").expect("a link");
    assert_eq!(next(&mut link).await, LinkEvent::Connected);
    server.configure(wrong);
    server.signal("HUP");
    hear(&mut link, LinkEvent::AuthorizationViolation).await;
    sleep(Duration::from_secs(1)).await;
    server.configure(right);
    server.signal("HUP");
    hear(&mut link, LinkEvent::Connected).await;
}

#[tokio::test]
async fn a_frozen_server_is_noticed_and_refused_subjects_are_told() {
    let rights = "permissions: { publish: [\"ok\"], subscribe: [\"_INBOX.>\"] }";
    let server =
        Server::with(&format!("authorization {{ users: [{{ user: u, password: p, {rights} }}] }}")).await;
    let flags = ConnectFlags { user: secret("u"), password: secret("p"), ..server.flags() };
    let mut link = once(&flags).await.expect("a link");
    let denied =
        |operation, subject: &str| LinkEvent::PermissionDenied { operation, subject: subject.to_owned() };
    link.client.publish("$SYS.REQ.SERVER.PING.JSZ", "".into()).await.expect("a publish");
    hear(&mut link, denied(Operation::Publish, "$SYS.REQ.SERVER.PING.JSZ")).await;
    let _subscription = link.client.subscribe("$SYS.SERVER.*.SHUTDOWN").await.expect("a subscription");
    hear(&mut link, denied(Operation::Subscribe, "$SYS.SERVER.*.SHUTDOWN")).await;
    server.signal("STOP");
    hear(&mut link, LinkEvent::Disconnected).await;
    server.signal("CONT");
    hear(&mut link, LinkEvent::Connected).await;
}

#[tokio::test]
async fn the_inbox_prefix_and_the_name_reach_the_server() {
    let server =
        Server::with("accounts { SYS { users: [{ user: s, password: p }] } }\nsystem_account: SYS").await;
    let flags = ConnectFlags {
        inbox_prefix: Some("_MY.inbox".into()),
        connection_name: Some("next door".into()),
        ..server.flags_with("nats", "s:p@")
    };
    let link = once(&flags).await.expect("a link");
    assert!(link.client.new_inbox().starts_with("_MY.inbox."));
    let reply = link.client.request("$SYS.REQ.SERVER.PING.CONNZ", "{\"subscriptions\": true}".into()).await;
    let text = String::from_utf8(reply.expect("a reply").payload.to_vec()).expect("UTF-8");
    assert!(text.contains("\"name\":\"next door\"") && text.contains("_MY.inbox."), "{text}");
}
