//! Systems of real nats-servers on loopback: start them, break them, mend them.
//!
//! Every process ends with the [`Cluster`], with a panic, and with our own end by any signal. Waiting is always for
//! a condition, with a generous limit; the error then holds the end of the servers' logs.

#![expect(clippy::disallowed_methods, reason = "real processes run in real time")]

pub mod config;
pub mod disk;
pub mod proxy;
pub mod sidecar;
pub mod tiny_disk;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::Value;
use tempfile::TempDir;

use config::Ports;
pub use config::{Layout, Node, User};
pub use metawatch::shell::demo::binary;
use metawatch::shell::demo::process::{Process, Reaper};
pub use proxy::Mode;
use proxy::Proxy;

/// The limit of every wait: long enough for a slow and noisy machine.
pub const LONG: Duration = Duration::from_secs(90);

const PING_JSZ: &str = "$SYS.REQ.SERVER.PING.JSZ";

/// How long a first boot may take before it is tried anew.
const FIRST_BOOT: Duration = Duration::from_secs(30);

/// The version that the live tests run, unless they ask for one: `$METAWATCH_TEST_VERSION`, else whatever is found.
pub fn tested_version() -> Option<String> {
    std::env::var("METAWATCH_TEST_VERSION").ok().filter(|version| !version.is_empty())
}

/// A running system.
pub struct Cluster {
    layout: Layout,
    ports: Vec<(String, Ports)>,
    /// By the name of the server that dials and of the one it reaches.
    proxies: BTreeMap<(String, String), Proxy>,
    processes: BTreeMap<String, Process>,
    reaper: Reaper,
    folder: TempDir,
}

impl Cluster {
    /// Starts every server of `layout` and waits until every meta group has a leader and all its peers.
    ///
    /// Servers of 2.10 sometimes form a group of those that met first and leave the others out for minutes: then
    /// the whole system is started anew.
    pub async fn start(layout: Layout) -> io::Result<Self> {
        let mut tries = 0;
        loop {
            let mut cluster = Self::prepare(layout.clone()).await?;
            for name in cluster.names() {
                cluster.boot(&name)?;
            }
            tries += 1;
            match cluster.wait_until_well_for(if tries < 4 { FIRST_BOOT } else { LONG }).await {
                Err(_) if tries < 4 => {}
                done => return done.map(|()| cluster),
            }
        }
    }

    /// Finds ports and starts proxies, but no server yet.
    pub async fn prepare(layout: Layout) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("metawatch-").tempdir()?;
        let mut ports = Vec::new();
        for node in &layout.nodes {
            ports.push((node.name.clone(), Ports::free()?));
        }
        let mut proxies = BTreeMap::new();
        if layout.proxied {
            for from in &layout.nodes {
                for (to, ports) in ports.iter().filter(|(to, _)| *to != from.name) {
                    proxies.insert((from.name.clone(), to.clone()), Proxy::start(ports.route).await?);
                }
            }
        }
        let reaper = Reaper::start(folder.path())?;
        Ok(Self { layout, ports, proxies, processes: BTreeMap::new(), reaper, folder })
    }

    /// The names of all servers, running or not.
    pub fn names(&self) -> Vec<String> {
        self.layout.nodes.iter().map(|node| node.name.clone()).collect()
    }

    /// The address of a server for clients.
    pub fn url(&self, name: &str) -> String {
        format!("nats://127.0.0.1:{}", self.ports_of(name).client)
    }

    /// The addresses of all servers, as one list.
    pub fn urls(&self) -> String {
        self.names().iter().map(|name| self.url(name)).collect::<Vec<_>>().join(",")
    }

    /// The folder with the configuration files and logs.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_path_buf()
    }

    /// Writes the configuration of a server and starts its process.
    pub fn boot(&mut self, name: &str) -> io::Result<()> {
        let node = self.layout.nodes.iter().find(|node| node.name == name);
        let node = node.ok_or_else(|| io::Error::other(format!("there is no server {name}")))?.clone();
        let server = binary::nats_server(node.version.as_deref())?;
        let home = self.folder.path().join(name);
        fs::create_dir_all(&home)?;
        let route_to = |to: &str| match self.proxies.get(&(name.to_owned(), to.to_owned())) {
            Some(proxy) => proxy.port(),
            None => self.ports_of(to).route,
        };
        let text = config::file(&self.layout, &node, &self.ports, route_to, &home.join("js"));
        fs::write(home.join("server.conf"), text)?;
        let (file, log) = (home.join("server.conf"), home.join("log"));
        let process = if node.tiny_disk {
            tiny_disk::start_on_tiny_disk(&server, &file, &home.join("js"), &log, &mut self.reaper)?
        } else {
            Process::start(&server, &file, &log, &mut self.reaper)?
        };
        self.processes.insert(name.to_owned(), process);
        Ok(())
    }

    /// From its next start on, the configuration of a server has no JetStream.
    pub fn take_jetstream(&mut self, name: &str) {
        for node in self.layout.nodes.iter_mut().filter(|node| node.name == name) {
            node.jetstream = false;
        }
    }

    /// Stops a server in an orderly way (SIGTERM) and waits for its end.
    pub async fn stop(&mut self, name: &str) -> io::Result<()> {
        self.process(name)?.signal("TERM")?;
        self.wait_for_end(name).await
    }

    /// Puts a server into lame duck mode; it runs on for a while.
    pub fn lame_duck(&mut self, name: &str) -> io::Result<()> {
        self.process(name)?.signal("USR2")
    }

    /// Kills a server (SIGKILL).
    pub fn kill(&mut self, name: &str) -> io::Result<()> {
        let process = self.processes.remove(name);
        process.ok_or_else(|| io::Error::other(format!("{name} does not run")))?.kill(&mut self.reaper)
    }

    /// Stops the clock of a server (SIGSTOP).
    pub fn freeze(&mut self, name: &str) -> io::Result<()> {
        self.process(name)?.signal("STOP")
    }

    /// Lets a frozen server go on (SIGCONT).
    pub fn thaw(&mut self, name: &str) -> io::Result<()> {
        self.process(name)?.signal("CONT")
    }

    /// Waits until a server's process has ended by itself.
    pub async fn wait_for_end(&mut self, name: &str) -> io::Result<()> {
        let deadline = Instant::now() + LONG;
        while !self.process(name)?.has_ended() {
            if Instant::now() > deadline {
                return Err(self.too_long(&format!("{name} does not end")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        match self.processes.remove(name) {
            Some(mut process) => process.reap(&mut self.reaper),
            None => Ok(()),
        }
    }

    /// Whether the process of a server runs.
    pub fn runs(&mut self, name: &str) -> bool {
        self.processes.get_mut(name).is_some_and(|process| !process.has_ended())
    }

    /// Cuts a server off from all others without closing anything, resets its routes, or mends them.
    pub fn routes(&self, name: &str, mode: Mode) {
        for (_, proxy) in self.proxies.iter().filter(|((from, to), _)| from == name || to == name) {
            proxy.set(mode);
        }
    }

    /// Removes a peer from the meta group, by name or, where the name is gone, by id.
    pub async fn peer_remove(&self, name: &str) -> io::Result<()> {
        let request = format!(r#"{{"peer":"{name}"}}"#);
        let reply = self.api("$JS.API.SERVER.REMOVE", request).await?;
        if reply.get("success") == Some(&Value::Bool(true)) {
            return Ok(());
        }
        Err(io::Error::other(format!("peer-remove of {name}: {reply}")))
    }

    /// Asks the meta leader to step down, until it answers: a busy one may drop the question.
    pub async fn step_down(&self) -> io::Result<()> {
        let deadline = Instant::now() + LONG;
        loop {
            match self.api("$JS.API.META.LEADER.STEPDOWN", String::new()).await {
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => {}
                Ok(_) => return Ok(()),
            }
        }
    }

    /// Fills the disks of all members of a stream of three replicas, as an application does, until `name`, whose disk
    /// is tiny, has switched JetStream off.
    pub async fn fill(&self, name: &str) -> io::Result<()> {
        const CREATE: &str = r#"{"name":"FILL","subjects":["fill"],"num_replicas":3,"storage":"file"}"#;
        let client = self.client("app").await?;
        let admin = self.admin().await?;
        // A stream that the full server leads may only stop storing, so another leads it.
        let (mut created, full) = (String::new(), format!(r#""leader":"{name}""#));
        for _ in 0..60 {
            answer(&client, "$JS.API.STREAM.DELETE.FILL", Vec::new()).await;
            created = answer(&client, "$JS.API.STREAM.CREATE.FILL", CREATE.into()).await;
            if created.contains(r#""leader":""#) && !created.contains(&full) {
                break;
            }
        }
        for block in 0..240 {
            // What is not stored any more is not acknowledged either.
            answer(&client, "fill", vec![b'x'; 300_000]).await;
            let filter = format!(r#"{{"server_name":"{name}"}}"#);
            let jsz = answer(&admin, PING_JSZ, filter.into()).await;
            if jsz.contains(r#""disabled":true"#) {
                return Ok(());
            }
            if block > 60 {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
        Err(io::Error::other(format!("{name} still has JetStream; the stream: {created}")))
    }

    /// Creates many streams at once: the meta layer is busy, and nothing is wrong.
    pub async fn churn(&self, streams: usize) -> io::Result<()> {
        let client = self.client("app").await?;
        for number in 0..streams {
            let create = format!(
                r#"{{"name":"C{number}","subjects":["c{number}"],"num_replicas":3,"storage":"memory"}}"#
            );
            let subject = format!("$JS.API.STREAM.CREATE.C{number}");
            client
                .publish_with_reply(subject, client.new_inbox(), create.into())
                .await
                .map_err(io::Error::other)?;
        }
        client.flush().await.map_err(io::Error::other)
    }

    /// Makes a server come back under another name: the old one stays listed.
    pub fn rename(&mut self, name: &str, new: &str) -> io::Result<()> {
        for node in self.layout.nodes.iter_mut().filter(|node| node.name == name) {
            new.clone_into(&mut node.name);
        }
        for (known, _) in self.ports.iter_mut().filter(|(known, _)| known == name) {
            new.clone_into(known);
        }
        self.boot(new)
    }

    /// The server that a client of the system account with this name is connected to.
    pub async fn server_of(&self, client_name: &str) -> io::Result<String> {
        let request = "$SYS.REQ.SERVER.PING.CONNZ";
        let deadline = Instant::now() + LONG;
        while Instant::now() < deadline {
            let replies = Self::ask(self.admin().await?, request).await?;
            let holds = |reply: &&Value| {
                let connections = reply["data"]["connections"].as_array();
                connections.is_some_and(|all| all.iter().any(|one| one["name"] == client_name))
            };
            if let Some(name) = replies.iter().find(holds).and_then(|reply| reply["server"]["name"].as_str())
            {
                return Ok(name.to_owned());
            }
        }
        Err(self.too_long(&format!("{client_name} is connected to no server")))
    }

    async fn api(&self, subject: &'static str, request: String) -> io::Result<Value> {
        let client = self.admin().await?;
        let reply = client.request(subject, request.into()).await.map_err(io::Error::other)?;
        serde_json::from_slice(&reply.payload).map_err(io::Error::other)
    }

    /// A client of the system account, connected to any running server.
    pub async fn admin(&self) -> io::Result<async_nats::Client> {
        self.client("admin").await
    }

    /// A client of this user, whose password is its name.
    pub async fn client(&self, user: &str) -> io::Result<async_nats::Client> {
        let servers: Vec<String> = self.processes.keys().map(|name| self.url(name)).collect();
        async_nats::ConnectOptions::with_user_and_password(user.to_owned(), user.to_owned())
            .connect(servers)
            .await
            .map_err(io::Error::other)
    }

    /// A client of this user, as soon as there can be one.
    pub async fn client_soon(&self, user: &str) -> async_nats::Client {
        let connecting = async {
            loop {
                match self.client(user).await {
                    Ok(client) => return client,
                    Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                }
            }
        };
        tokio::time::timeout(LONG, connecting).await.expect("a client of this user")
    }

    /// Every reply to `JSZ` that comes within a short while, asked through any running server.
    pub async fn jsz(&self) -> io::Result<Vec<Value>> {
        Self::ask(self.admin().await?, PING_JSZ).await
    }

    /// Waits until just so many servers answer a client of this server.
    pub async fn wait_for_replies(&self, through: &str, count: usize) -> io::Result<()> {
        let options = || async_nats::ConnectOptions::with_user_and_password("admin".into(), "admin".into());
        let deadline = Instant::now() + LONG;
        loop {
            let client = options().connect(self.url(through)).await.map_err(io::Error::other)?;
            if Self::ask(client, PING_JSZ).await?.len() == count {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.too_long(&format!("not {count} servers answer through {through}")));
            }
        }
    }

    /// Every reply of a server to this request that comes within a short while.
    async fn ask(client: async_nats::Client, request: &'static str) -> io::Result<Vec<Value>> {
        let inbox = client.new_inbox();
        let mut replies = client.subscribe(inbox.clone()).await.map_err(io::Error::other)?;
        client.publish_with_reply(request, inbox, "".into()).await.map_err(io::Error::other)?;
        let mut heard = Vec::new();
        while let Ok(Some(reply)) = tokio::time::timeout(Duration::from_millis(300), replies.next()).await {
            heard.push(serde_json::from_slice(&reply.payload).map_err(io::Error::other)?);
        }
        Ok(heard)
    }

    /// The name of the meta leader, by its own word.
    pub async fn leader(&self) -> io::Result<Option<String>> {
        let replies = self.jsz().await?;
        let leads = |reply: &&Value| {
            let name = &reply["server"]["name"];
            name.is_string() && reply["data"]["meta_cluster"]["leader"] == *name
        };
        Ok(replies.iter().find(leads).and_then(|reply| reply["server"]["name"].as_str().map(str::to_owned)))
    }

    /// A running member that does not lead, other than `besides`.
    pub async fn follower(&self, besides: &str) -> io::Result<String> {
        let leader = self.leader().await?.ok_or_else(|| io::Error::other("nobody leads"))?;
        let mut names = self.processes.keys().filter(|name| **name != leader && *name != besides);
        names.next().cloned().ok_or_else(|| io::Error::other("there is no follower"))
    }

    /// Waits until every running JetStream server answers, a leader leads and has every running peer current.
    pub async fn wait_until_well(&mut self) -> io::Result<()> {
        self.wait_until_well_for(LONG).await
    }

    async fn wait_until_well_for(&mut self, limit: Duration) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if self.is_well().await.unwrap_or(false) {
                return Ok(());
            }
            if self.processes.values_mut().any(Process::has_ended) {
                return Err(self.too_long("a server ended"));
            }
            if Instant::now() > deadline {
                return Err(self.too_long("the system does not become well"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn is_well(&self) -> io::Result<bool> {
        let replies = self.jsz().await?;
        if replies.len() < self.processes.len() {
            return Ok(false);
        }
        let expected = |domain: &str| {
            let runs = |node: &&Node| {
                node.jetstream && node.domain == domain && self.processes.contains_key(&node.name)
            };
            self.layout.nodes.iter().filter(runs).map(|node| node.name.clone()).collect::<BTreeSet<_>>()
        };
        let mut domains: BTreeMap<&str, bool> = BTreeMap::new();
        for node in self.layout.nodes.iter().filter(|node| node.jetstream) {
            domains.insert(&node.domain, expected(&node.domain).is_empty());
        }
        for reply in &replies {
            let meta = &reply["data"]["meta_cluster"];
            let name = reply["server"]["name"].as_str().unwrap_or_default();
            if meta["leader"] != reply["server"]["name"] {
                continue;
            }
            let rows = meta["replicas"].as_array().cloned().unwrap_or_default();
            let well = rows.iter().filter(|row| row["current"] == true && row["offline"] != true);
            let mut well: BTreeSet<String> =
                well.filter_map(|row| row["name"].as_str().map(str::to_owned)).collect();
            well.insert(name.to_owned());
            let domain = reply["server"]["domain"].as_str().unwrap_or_default();
            let complete = rows.len() as u64 + 1 == meta["cluster_size"].as_u64().unwrap_or(0);
            if let Some(led) = domains.get_mut(domain) {
                *led |= complete && expected(domain).is_subset(&well);
            }
        }
        Ok(domains.values().all(|well| *well))
    }

    fn process(&mut self, name: &str) -> io::Result<&mut Process> {
        self.processes.get_mut(name).ok_or_else(|| io::Error::other(format!("{name} does not run")))
    }

    fn ports_of(&self, name: &str) -> Ports {
        let ports = self.ports.iter().find(|(other, _)| other == name);
        ports.map(|(_, ports)| *ports).expect("every server has ports")
    }

    /// An error with the end of every log.
    fn too_long(&self, what: &str) -> io::Error {
        let mut text = format!("{what} (waited up to {LONG:?})");
        for name in self.names() {
            let log = fs::read_to_string(self.folder.path().join(&name).join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(8)..];
            text += &format!("\n--- log of {name}\n{}", tail.join("\n"));
        }
        io::Error::other(text)
    }
}

/// What is answered within half a second; nothing otherwise.
async fn answer(client: &async_nats::Client, subject: &'static str, request: Vec<u8>) -> String {
    let asked = client.request(subject, request.into());
    let answer = tokio::time::timeout(Duration::from_millis(500), asked).await;
    let payload = answer.ok().and_then(Result::ok).map(|message| message.payload);
    String::from_utf8_lossy(&payload.unwrap_or_default()).into_owned()
}
