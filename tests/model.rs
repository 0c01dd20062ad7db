//! A small model of a NATS system that answers as nats-server 2.9 to 2.15 does.
//!
//! It knows which server lists whom in which version, and how each spells it. It does not age anything by
//! itself: a script or a simulation says what each leader says.

use std::collections::{BTreeMap, BTreeSet};

use metawatch::name::PeerId;
use serde_json::{Value, json};

/// How a server answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answers {
    Member,
    Not,
    /// To `STATSZ`; its replies to `JSZ` are lost on the way.
    OnlyStatsz,
    Disabled,
    Standalone,
    /// With a reply of a wrong type.
    Unreadable,
    /// With an error 500.
    Error,
}

/// One server.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) cluster: String,
    pub(crate) domain: String,
    /// 9 to 15.
    pub(crate) minor: u32,
    pub(crate) run: u32,
    pub(crate) answers: Answers,
    /// Nobody holds a route to it, and it holds none.
    pub(crate) cut: bool,
    /// Who receives something from it in every epoch; `None` where nobody tells.
    pub(crate) heard_by: Option<BTreeSet<String>>,
    /// Whom it names as leader, when that is not the group's.
    pub(crate) follows: Option<Option<String>>,
    pub(crate) size: Option<i64>,
    pub(crate) no_list: bool,
    /// Somebody else answers in its name, too, and says that its JetStream is off.
    pub(crate) forged: bool,
    /// Peers it lists besides the members, also itself or a member again.
    pub(crate) also_lists: Vec<String>,
    /// Rows it lists besides, as they are.
    pub(crate) lists_rows: Vec<Value>,
    /// What it says of its load, by the names of the fields; none for a server that tells nothing.
    pub(crate) tells: BTreeMap<String, Value>,
    /// Its version in the place of `2.<minor>.1`.
    pub(crate) version: Option<String>,
}

/// What a reporter says of a peer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Said {
    pub(crate) offline: bool,
    pub(crate) current: bool,
    pub(crate) active_ms: i64,
    pub(crate) lag: i64,
    pub(crate) forgot_name: bool,
    pub(crate) omitted: bool,
}

impl Said {
    pub(crate) const WELL: Self =
        Self { offline: false, current: true, active_ms: 400, lag: 0, forgot_name: false, omitted: false };
    /// What a follower of 2.15 says of another follower.
    const HEARD_OF: Self = Self { current: false, active_ms: 0, ..Self::WELL };
}

/// One meta group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    pub(crate) servers: Vec<Server>,
    /// Who is listed; a server can run without being a peer.
    pub(crate) members: BTreeSet<String>,
    pub(crate) leader: Option<String>,
    pub(crate) said: BTreeMap<(String, String), Said>,
    pub(crate) rescue: bool,
    pub(crate) quorum: Option<i64>,
}

impl Group {
    pub(crate) fn server(&mut self, name: &str) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| server.name == name)
    }

    pub(crate) fn server_in(&mut self, cluster: &str, name: &str) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| server.cluster == cluster && server.name == name)
    }

    /// Changes what `reporter` says of `peer`.
    pub(crate) fn say(&mut self, reporter: &str, peer: &str, change: impl FnOnce(&mut Said)) {
        let leads = self.leader.as_deref() == Some(reporter);
        let usual = if leads { Said::WELL } else { Said::HEARD_OF };
        change(self.said.entry((reporter.to_owned(), peer.to_owned())).or_insert(usual));
    }

    fn leader_of(&self, server: &Server) -> Option<String> {
        server.follows.clone().unwrap_or_else(|| self.leader.clone())
    }

    fn rows(&self, server: &Server) -> Vec<Value> {
        let leader = self.leader_of(server);
        let leads = leader.as_deref() == Some(&server.name);
        let lists = leads || server.minor >= 15;
        if !lists || server.no_list {
            return Vec::new();
        }
        let mut listed: Vec<&String> = self.members.iter().filter(|peer| **peer != server.name).collect();
        if leader.is_none() && server.minor >= 15 && self.members.contains(&server.name) {
            listed.push(&server.name);
        }
        listed.extend(&server.also_lists);
        let usual = |peer: &String| {
            if leads || leader.as_ref() == Some(peer) { Said::WELL } else { Said::HEARD_OF }
        };
        listed
            .into_iter()
            .map(|peer| {
                let said = self.said.get(&(server.name.clone(), peer.clone()));
                (peer, said.copied().unwrap_or_else(|| usual(peer)))
            })
            .filter(|(_, said)| !said.omitted)
            .map(|(peer, said)| row(peer, said))
            .chain(server.lists_rows.iter().cloned())
            .collect()
    }

    fn meta(&self, server: &Server) -> Value {
        let leader = self.leader_of(server);
        let rows = self.rows(server);
        let size = server.size.unwrap_or(self.members.len() as i64);
        let mut meta = json!({"name": server.cluster, "cluster_size": size, "pending": 0});
        if let Some(pending) = server.tells.get("pending") {
            meta["pending"] = pending.clone();
        }
        if let Some(snapshot) = server.tells.get("snapshot") {
            meta["snapshot"] = json!({"pending_entries": 0, "last_duration": snapshot});
        }
        match &leader {
            Some(leader) => {
                meta["leader"] = json!(leader);
                meta["peer"] = json!(PeerId::of_server(leader).as_str());
            }
            // The hash of the empty name: not a peer.
            None if server.minor < 15 => meta["peer"] = json!("fqA4S4SK"),
            None => {}
        }
        if !rows.is_empty() {
            meta["replicas"] = json!(rows);
        }
        if server.minor >= 15 {
            meta["quorum_needed"] = json!(self.quorum.unwrap_or(size / 2 + 1));
            if self.rescue {
                meta["rescue"] = json!(true);
            }
        }
        meta
    }

    fn jsz(&self, server: &Server) -> Option<String> {
        let envelope = envelope(server);
        let reply = match server.answers {
            Answers::Not | Answers::OnlyStatsz => return None,
            Answers::Member => {
                let mut data = json!({"config": {}, "meta_cluster": self.meta(server)});
                for (field, told) in &server.tells {
                    match field.as_str() {
                        "pending" | "snapshot" => {}
                        "max_storage" => data["config"]["max_storage"] = told.clone(),
                        field => data[field] = told.clone(),
                    }
                }
                json!({"server": envelope, "data": data})
            }
            Answers::Disabled => json!({"server": envelope, "data": {"disabled": true, "config": {}}}),
            Answers::Standalone => json!({"server": envelope, "data": {"config": {}}}),
            Answers::Unreadable => {
                json!({"server": envelope, "data": {"meta_cluster": {"cluster_size": "three"}}})
            }
            Answers::Error => json!({"server": envelope, "error": {"code": 500, "description": "busy"}}),
        };
        Some(reply.to_string())
    }

    fn statsz(&self, server: &Server, epoch: u64, gateways: bool) -> Option<String> {
        if server.answers == Answers::Not {
            return None;
        }
        let peers = self.servers.iter().filter(|peer| {
            !server.cut && !peer.cut && peer.cluster == server.cluster && peer.name != server.name
        });
        // One row a pooled connection: every name comes twice.
        let routes: Vec<Value> =
            peers.flat_map(|peer| [route(server, peer, epoch), route(server, peer, epoch)]).collect();
        let mut statsz = json!({"active_servers": self.servers.len()});
        if !routes.is_empty() {
            statsz["routes"] = json!(routes);
        }
        if gateways {
            let others = self.servers.iter().filter(|other| other.cluster != server.cluster && !other.cut);
            let others: BTreeSet<&str> = others.map(|other| other.cluster.as_str()).collect();
            let gateway = |name: &str| json!({"name": name, "inbound_connections": 1});
            statsz["gateways"] = others.into_iter().map(gateway).collect();
        }
        Some(json!({"server": envelope(server), "statsz": statsz}).to_string())
    }
}

/// A connection of a route, with what has come over it where the script says who hears the peer.
fn route(reporter: &Server, peer: &Server, epoch: u64) -> Value {
    let mut route = json!({"name": peer.name});
    if let Some(heard_by) = &peer.heard_by {
        let more = if heard_by.contains(&reporter.name) { epoch } else { 0 };
        route["received"] = json!({"msgs": 100 + more, "bytes": 5_000});
    }
    route
}

fn row(peer: &str, said: Said) -> Value {
    let id = PeerId::of_server(peer);
    let name = if said.forgot_name {
        format!("Server name unknown at this time (peerID: {id})")
    } else {
        peer.to_owned()
    };
    let mut row = json!({"name": name, "current": said.current, "active": said.active_ms * 1_000_000, "peer": id.as_str()});
    if said.offline {
        row["offline"] = json!(true);
    }
    if said.lag > 0 {
        row["lag"] = json!(said.lag);
    }
    row
}

fn envelope(server: &Server) -> Value {
    let mut envelope = json!({
        "name": server.name, "host": "127.0.0.1", "id": run_id(server),
        "cluster": server.cluster, "ver": server.version.clone().unwrap_or_else(|| format!("2.{}.1", server.minor)), "jetstream": true, "seq": 1,
    });
    if !server.domain.is_empty() {
        envelope["domain"] = json!(server.domain);
    }
    envelope
}

/// What somebody sends in the name of a server.
fn forged(server: &Server) -> String {
    json!({"server": envelope(server), "data": {"disabled": true, "config": {}}}).to_string()
}

/// The subject and the payload of a server's announcement.
pub(crate) fn announcement(server: &Server, kind: &str) -> (String, String) {
    let (kind, stream) = kind.split_once(' ').unwrap_or((kind, ""));
    if kind == "ELECTED" {
        let leader = PeerId::of_server(&server.name);
        let payload = json!({"leader": leader.as_str(), "cluster": server.cluster, "domain": server.domain});
        return ("$JS.EVENT.ADVISORY.DOMAIN.LEADER_ELECTED".to_owned(), payload.to_string());
    }
    if matches!(kind, "OUT_OF_STORAGE" | "REMOVED" | "META_RESCUE") {
        let payload = json!({"server": server.name, "server_id": run_id(server), "cluster": server.cluster,
            "domain": server.domain, "stream": stream});
        return (format!("$JS.EVENT.ADVISORY.SERVER.{kind}"), payload.to_string());
    }
    let payload = envelope(server).to_string();
    (format!("$SYS.SERVER.{}.{kind}", run_id(server)), payload)
}

fn run_id(server: &Server) -> String {
    format!("N{}{}{}", server.name, server.cluster, server.run)
}

/// A healthy server.
pub(crate) fn server(name: &str, cluster: &str, domain: &str, minor: u32) -> Server {
    Server {
        name: name.into(),
        cluster: cluster.into(),
        domain: domain.into(),
        minor,
        run: 1,
        answers: Answers::Member,
        cut: false,
        heard_by: None,
        follows: None,
        size: None,
        no_list: false,
        forged: false,
        also_lists: Vec::new(),
        lists_rows: Vec::new(),
        tells: BTreeMap::new(),
        version: None,
    }
}

/// Everything there is.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) groups: Vec<Group>,
    /// How many epochs there have been: what is counted grows with it.
    pub(crate) epoch: u64,
    /// The clusters are joined by gateways.
    pub(crate) gateways: bool,
}

impl World {
    /// The replies to `JSZ`.
    pub(crate) fn jsz(&self) -> Vec<String> {
        self.groups
            .iter()
            .flat_map(|group| {
                let forged = group.servers.iter().filter(|server| server.forged).map(forged);
                group.servers.iter().filter_map(|server| group.jsz(server)).chain(forged)
            })
            .collect()
    }

    /// The replies to `STATSZ`.
    pub(crate) fn statsz(&self) -> Vec<String> {
        let all = |group: &Group| -> Vec<String> {
            let of = |server| group.statsz(server, self.epoch, self.gateways);
            group.servers.iter().filter_map(of).collect()
        };
        self.groups.iter().flat_map(all).collect()
    }
}
