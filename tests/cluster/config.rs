//! What a system of servers looks like, and the configuration file of each of them.

use std::fmt::Write;
use std::path::Path;

use metawatch::shell::demo::process::free_port;

/// One server.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its server name.
    pub name: String,
    /// Its cluster.
    pub cluster: String,
    /// Its version; the default one when `None`.
    pub version: Option<String>,
    /// Its JetStream domain; none when empty.
    pub domain: String,
    /// Whether JetStream is on.
    pub jetstream: bool,
    /// The cluster it is attached to as a leaf.
    pub leaf_of: Option<String>,
    /// Its streams live on a disk of 10 MB, which can be filled.
    pub tiny_disk: bool,
}

/// A user.
#[derive(Clone, Debug)]
pub struct User {
    /// The account.
    pub account: &'static str,
    /// Name and password.
    pub name: &'static str,
    /// What it may publish; everything when empty.
    pub publish: Vec<String>,
    /// What it may subscribe to; everything when empty.
    pub subscribe: Vec<String>,
}

/// A whole system.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Its servers.
    pub nodes: Vec<Node>,
    /// Users besides `admin` (system account) and `app` (account APP), whose passwords are their names.
    pub users: Vec<User>,
    /// Whether the routes lead through proxies that can cut a server off.
    pub proxied: bool,
    /// Whether the servers name each other's addresses to clients.
    pub advertised: bool,
    /// Lines that every configuration file gets besides.
    pub extra: String,
    /// Lines of the account SYS, such as exports.
    pub sys: String,
    /// Lines of the account APP, such as imports.
    pub app: String,
    /// The accounts, instead of those that are made of the above.
    pub accounts: Option<String>,
}

impl Layout {
    /// One cluster `c1` of servers `s1`, `s2`, ….
    pub fn cluster(size: usize) -> Self {
        Self {
            nodes: (1..=size).map(|number| Node::new(&format!("s{number}"), "c1")).collect(),
            ..Self::default()
        }
    }

    /// All servers in this version.
    #[must_use]
    pub fn version(mut self, version: Option<&str>) -> Self {
        for node in &mut self.nodes {
            node.version = version.map(str::to_owned);
        }
        self
    }

    /// The routes lead through proxies.
    #[must_use]
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// With one more user.
    #[must_use]
    pub fn user(mut self, user: User) -> Self {
        self.users.push(user);
        self
    }
}

impl Node {
    /// A server with JetStream, without a domain.
    pub fn new(name: &str, cluster: &str) -> Self {
        Self {
            name: name.to_owned(),
            cluster: cluster.to_owned(),
            version: None,
            domain: String::new(),
            jetstream: true,
            leaf_of: None,
            tiny_disk: false,
        }
    }
}

/// The ports of one server.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub client: u16,
    pub route: u16,
    pub gateway: u16,
    pub leaf: u16,
}

impl Ports {
    /// Ports that are free now, and given to nobody else in this process.
    pub fn free() -> std::io::Result<Self> {
        Ok(Self { client: free_port()?, route: free_port()?, gateway: free_port()?, leaf: free_port()? })
    }
}

/// The configuration file of one server. `route_to` gives the port to reach each other server's route listener.
pub fn file(
    layout: &Layout,
    node: &Node,
    ports: &[(String, Ports)],
    route_to: impl Fn(&str) -> u16,
    store: &Path,
) -> String {
    let own = ports_of(ports, &node.name);
    let mut text = format!("server_name: \"{}\"\nlisten: 127.0.0.1:{}\n", node.name, own.client);
    text += "lame_duck_duration: 30s\nlame_duck_grace_period: 10s\n";
    if node.jetstream {
        let store = store.display();
        let domain =
            if node.domain.is_empty() { String::new() } else { format!("domain: \"{}\"", node.domain) };
        writeln!(text, "jetstream {{ store_dir: \"{store}\", max_mem: 64MB, max_file: 256MB, {domain} }}")
            .ok();
    }
    text += &accounts(layout);
    let mates = layout.nodes.iter().filter(|other| other.cluster == node.cluster && other.name != node.name);
    let routes: Vec<String> =
        mates.map(|mate| format!("nats://127.0.0.1:{}", route_to(&mate.name))).collect();
    // JetStream wants a cluster, also of a server that is alone in its own.
    let alone = routes.is_empty() && node.leaf_of.is_none() && layout.nodes.len() > 1 && node.jetstream;
    let routes = if alone { vec![format!("nats://127.0.0.1:{}", own.route)] } else { routes };
    if !routes.is_empty() {
        // With proxies nobody may learn another way round them: the advertised address leads nowhere.
        let advertise = if layout.proxied { "advertise: \"127.0.0.1:1\"," } else { "" };
        writeln!(
            text,
            "cluster {{ name: \"{}\", listen: 127.0.0.1:{}, no_advertise: {}, {advertise} routes: [{}] }}",
            node.cluster,
            own.route,
            !layout.advertised,
            routes.join(", ")
        )
        .ok();
    }
    text += &gateways(layout, node, ports);
    text += &leafs(layout, node, ports);
    text + &layout.extra
}

fn ports_of(ports: &[(String, Ports)], name: &str) -> Ports {
    ports.iter().find(|(other, _)| other == name).map(|(_, ports)| *ports).expect("every server has ports")
}

fn accounts(layout: &Layout) -> String {
    if let Some(accounts) = &layout.accounts {
        return accounts.clone();
    }
    let users = |account: &str, first: &str| {
        let mut users = format!("{{ user: {first}, password: {first} }}");
        for user in layout.users.iter().filter(|user| user.account == account) {
            let list = |subjects: &[String]| {
                let quoted: Vec<String> = subjects.iter().map(|subject| format!("\"{subject}\"")).collect();
                if quoted.is_empty() { "\">\"".to_owned() } else { format!("[{}]", quoted.join(", ")) }
            };
            write!(
                users,
                ", {{ user: {0}, password: {0}, permissions: {{ publish: {1}, subscribe: {2} }} }}",
                user.name,
                list(&user.publish),
                list(&user.subscribe)
            )
            .ok();
        }
        users
    };
    format!(
        "accounts {{\n  SYS {{ users: [{}]\n {} }}\n  APP {{ jetstream: enabled, users: [{}]\n {} }}\n}}\nsystem_account: SYS\n",
        users("SYS", "admin"),
        layout.sys,
        users("APP", "app"),
        layout.app
    )
}

/// Clusters that are no leafs are joined by gateways.
fn gateways(layout: &Layout, node: &Node, ports: &[(String, Ports)]) -> String {
    let mut clusters: Vec<&str> =
        layout.nodes.iter().filter(|node| node.leaf_of.is_none()).map(|node| node.cluster.as_str()).collect();
    clusters.dedup();
    if clusters.len() < 2 || node.leaf_of.is_some() {
        return String::new();
    }
    let gateways: Vec<String> = clusters
        .iter()
        .map(|cluster| {
            let members = layout.nodes.iter().filter(|node| node.cluster == *cluster);
            let urls: Vec<String> = members
                .map(|node| format!("nats://127.0.0.1:{}", ports_of(ports, &node.name).gateway))
                .collect();
            format!("{{ name: \"{cluster}\", urls: [{}] }}", urls.join(", "))
        })
        .collect();
    format!(
        "gateway {{ name: \"{}\", listen: 127.0.0.1:{}, gateways: [{}] }}\n",
        node.cluster,
        ports_of(ports, &node.name).gateway,
        gateways.join(", ")
    )
}

fn leafs(layout: &Layout, node: &Node, ports: &[(String, Ports)]) -> String {
    if let Some(hub) = &node.leaf_of {
        let hubs: Vec<u16> = layout
            .nodes
            .iter()
            .filter(|other| other.cluster == *hub)
            .map(|other| ports_of(ports, &other.name).leaf)
            .collect();
        let remote = |user: &str, account: &str| {
            let urls: Vec<String> =
                hubs.iter().map(|port| format!("\"nats-leaf://{user}:{user}@127.0.0.1:{port}\"")).collect();
            format!("{{ urls: [{}], account: {account} }}", urls.join(", "))
        };
        return format!("leafnodes {{ remotes: [{}, {}] }}\n", remote("admin", "SYS"), remote("app", "APP"));
    }
    if layout.nodes.iter().any(|other| other.leaf_of.as_ref() == Some(&node.cluster)) {
        return format!("leafnodes {{ listen: 127.0.0.1:{} }}\n", ports_of(ports, &node.name).leaf);
    }
    String::new()
}
