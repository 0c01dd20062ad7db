//! Logins and certificates that are renewed under a running watcher: it reads its files anew at every connect, and needs
//! no restart.

#![allow(clippy::disallowed_methods, reason = "a login expires in real time")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use metawatch::shell::demo::process::Process;
use nkeys::KeyPair;
use tokio::time::{sleep, timeout};

use super::connect::{Certificates, Operator, Server};
use crate::cluster::LONG;

/// A running watcher of one server.
struct Watcher {
    log: PathBuf,
    process: Process,
    /// So many times it was seen to be connected again.
    returns: usize,
}

impl Watcher {
    /// Starts it and waits until it is connected.
    async fn start(server: &mut Server, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let log = server.home.path().join("watcher.log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_metawatch"));
        command
            .args(["run", "--no-context", "--state", "none", "--interval", "1s", "--server", &server.url()])
            .args(flags)
            .env_clear()
            .envs(environment.iter().copied());
        let process = Process::spawn(command, &log, &mut server.reaper).unwrap();
        let watcher = Self { log, process, returns: 0 };
        watcher.wait_for("watching", 1).await;
        watcher
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    async fn wait_for(&self, words: &str, count: usize) {
        let told = async {
            while self.text().matches(words).count() < count {
                sleep(Duration::from_millis(50)).await;
            }
        };
        assert!(timeout(LONG, told).await.is_ok(), "no {count} × {words}: {}", self.text());
    }

    /// Waits until it is connected once more; nothing was refused to it since it was the last time.
    async fn is_back(&mut self, what: &str) {
        const BACK: &str = "connected again";
        self.returns += 1;
        self.wait_for(BACK, self.returns).await;
        let text = self.text();
        let since = text.split(BACK).nth(self.returns - 1);
        assert!(since.is_some_and(|since| !since.contains("refuse")), "{what}: {text}");
    }
}

/// The server of this configuration in place of the one before.
async fn renew(server: &mut Server, config: &str) {
    server.stop();
    server.start(config).await;
}

#[tokio::test]
async fn a_token_a_password_and_a_seed_in_files_are_renewed_under_a_running_watcher() {
    let seeds = [(); 2].map(|()| KeyPair::new_user());
    let token = |secret: &str| format!("authorization {{ token: \"{secret}\" }}");
    let user = |secret: &str| format!("authorization {{ user: u, password: \"{secret}\" }}");
    let nkey = |pair: &KeyPair| format!("authorization {{ users: [{{ nkey: {} }}] }}", pair.public_key());
    let seed = |pair: &KeyPair| pair.seed().unwrap();
    for (flags, secrets, configs) in [
        (
            ["--token", "file://SECRET"].as_slice(),
            ["one", "two"].map(str::to_owned),
            [token("one"), token("two")],
        ),
        (
            &["--user", "u", "--password", "file://SECRET"],
            ["one", "two"].map(str::to_owned),
            [user("one"), user("two")],
        ),
        (&["--nkey", "SECRET"], [seed(&seeds[0]), seed(&seeds[1])], [nkey(&seeds[0]), nkey(&seeds[1])]),
    ] {
        let mut server = Server::with(&configs[0]).await;
        let file = server.write("secret", &format!("{}\n", secrets[0]));
        let flags: Vec<String> = flags.iter().map(|flag| flag.replace("SECRET", &file)).collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mut watcher = Watcher::start(&mut server, &flags, &[]).await;
        server.write("secret", &format!("{}\n", secrets[1]));
        renew(&mut server, &configs[1]).await;
        watcher.is_back(&format!("{flags:?}")).await;
        watcher.process.kill(&mut server.reaper).unwrap();
    }
}

#[tokio::test]
async fn a_jwt_that_expires_is_renewed_in_the_credentials_file_or_apart_from_its_seed() {
    let operator = Operator::new();
    let seed = operator.seed();
    for apart in [false, true] {
        let mut server = Server::with(&operator.config).await;
        // Long enough for a watcher to start on a busy machine.
        let expires = crate::support::unix_seconds() + 10;
        let text = |expires: u64| {
            let jwt = operator.user_jwt(expires);
            if apart { jwt } else { operator.creds(&jwt) }
        };
        let file = server.write("renewed", &text(expires));
        let pointer = format!("file://{file}");
        let flags = if apart { ["--jwt", &pointer] } else { ["--creds", &file] };
        let environment = [("METAWATCH_SEED", seed.as_str())];
        let environment = if apart { environment.as_slice() } else { &[] };
        let mut watcher = Watcher::start(&mut server, &flags, environment).await;
        server.write("renewed", &text(0));
        watcher.returns += 1;
        watcher.wait_for("connected again", 1).await;
        // Once more: what expired was not used again.
        renew(&mut server, &operator.config).await;
        watcher.is_back("a renewed JWT").await;
        let lists = fs::read_to_string(format!("/proc/{}/cmdline", watcher.process.id())).unwrap();
        assert!(lists.contains("run") && !lists.contains(&seed), "{lists}");
        watcher.process.kill(&mut server.reaper).unwrap();
    }
}

#[tokio::test]
async fn the_authority_and_the_client_certificate_are_renewed_under_a_running_watcher() {
    let mut server = Server::new();
    let tls = |certificates: &Certificates| {
        format!("tls {{ {}, ca_file: {:?}, verify: true }}", certificates.server, certificates.ca)
    };
    let certificates = Certificates::new(&server);
    server.start(&tls(&certificates)).await;
    let (cert, key) = certificates.client.clone();
    let flags = ["--tlsca", &certificates.ca, "--tlscert", &cert, "--tlskey", &key];
    let mut watcher = Watcher::start(&mut server, &flags, &[]).await;
    // Another authority under the same names: what it signs is not trusted by who knows the one before.
    let certificates = Certificates::new(&server);
    renew(&mut server, &tls(&certificates)).await;
    watcher.is_back("other certificates").await;
    watcher.process.kill(&mut server.reaper).unwrap();
}
