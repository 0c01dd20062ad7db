//! What the servers of a simulated system say of themselves: as text, in the spelling of real ones.

use metawatch::name::PeerId;

/// What a system looks like.
#[derive(Clone, Debug)]
pub struct Shape {
    /// How many servers it has.
    pub servers: usize,
    /// How many servers make a meta group, which has a domain and a cluster of its own.
    pub group: usize,
    /// The versions of the servers, in turn.
    pub versions: Vec<String>,
    /// How many of the servers are dead: spread over the groups, never the first of one.
    pub dead: usize,
    /// Decides who is dead, whose answers are lost, and how long the others take.
    pub seed: u64,
}

/// One server of the system.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// The id of its run.
    pub id: String,
    /// Whether it answers at all.
    pub alive: bool,
    jsz: Template,
    statsz: Template,
}

/// The digits in a text that are other ones in each answer.
#[derive(Clone, Copy, Debug)]
enum Digits {
    /// How many messages the server has sent.
    Sequence,
    /// The time of day, down to nanoseconds.
    Time,
    /// How long ago the leader heard a peer.
    Active,
}

/// An answer, and where it changes.
#[derive(Clone, Debug)]
struct Template {
    text: Vec<u8>,
    changing: Vec<(usize, Digits)>,
}

/// Where digits stand that change: as many as the texts below have.
const SEQUENCE: &str = "1000000000";
const TIME: &str = "05:03:30.055796032Z";
const ACTIVE: &str = "111111111";

impl Template {
    fn new(text: String) -> Self {
        let mut changing = Vec::new();
        for (mark, digits) in [(SEQUENCE, Digits::Sequence), (TIME, Digits::Time), (ACTIVE, Digits::Active)] {
            changing.extend(text.match_indices(mark).map(|(at, _)| (at, digits)));
        }
        Self { text: text.into_bytes(), changing }
    }

    /// Writes the answer as it is now.
    fn write(&self, out: &mut Vec<u8>, sequence: u64, now_ns: u64) {
        let start = out.len();
        out.extend_from_slice(&self.text);
        for (at, digits) in &self.changing {
            let place = &mut out[start + at..];
            match digits {
                Digits::Sequence => decimal(&mut place[..10], 1_000_000_000 + sequence % 1_000_000_000),
                Digits::Active => {
                    decimal(&mut place[..9], 100_000_000 + (now_ns ^ *at as u64) % 800_000_000);
                }
                Digits::Time => {
                    let seconds = now_ns / 1_000_000_000;
                    decimal(&mut place[..2], seconds / 3_600 % 24);
                    decimal(&mut place[3..5], seconds / 60 % 60);
                    decimal(&mut place[6..8], seconds % 60);
                    decimal(&mut place[9..18], now_ns % 1_000_000_000);
                }
            }
        }
    }
}

fn decimal(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

impl Simulated {
    /// Its answer to `JSZ`.
    pub fn write_jsz(&self, out: &mut Vec<u8>, sequence: u64, now_ns: u64) {
        self.jsz.write(out, sequence, now_ns);
    }

    /// Its answer to `STATSZ`.
    pub fn write_statsz(&self, out: &mut Vec<u8>, sequence: u64, now_ns: u64) {
        self.statsz.write(out, sequence, now_ns);
    }
}

/// Makes every server of a system.
pub fn servers(shape: &Shape) -> Vec<Simulated> {
    let dead = dead(shape);
    (0..shape.servers)
        .map(|number| {
            let server = Server { shape, number, dead: &dead };
            Simulated {
                id: server.id(),
                alive: !dead[number],
                jsz: Template::new(server.jsz()),
                statsz: Template::new(server.statsz()),
            }
        })
        .collect()
}

/// Who is dead. The first server of a group leads it, and lives.
fn dead(shape: &Shape) -> Vec<bool> {
    let mut random = Random::new(shape.seed);
    let mut dead = vec![false; shape.servers];
    let able: Vec<usize> = (0..shape.servers).filter(|number| number % shape.group != 0).collect();
    let mut left = shape.dead.min(able.len());
    while left > 0 {
        let chosen = able[(random.next() % able.len() as u64) as usize];
        if !std::mem::replace(&mut dead[chosen], true) {
            left -= 1;
        }
    }
    dead
}

/// A server while its answers are written.
struct Server<'a> {
    shape: &'a Shape,
    number: usize,
    dead: &'a [bool],
}

impl Server<'_> {
    fn group(&self) -> usize {
        self.number / self.shape.group
    }

    fn mates(&self) -> std::ops::Range<usize> {
        let first = self.group() * self.shape.group;
        first..(first + self.shape.group).min(self.shape.servers)
    }

    fn id(&self) -> String {
        format!("N{:0>55}", self.number)
    }

    fn version(&self) -> &str {
        let versions = &self.shape.versions;
        versions.get(self.number % versions.len().max(1)).map_or("2.14.6", String::as_str)
    }

    fn leads(&self) -> bool {
        self.number == self.mates().start
    }

    /// Everybody lists its peers from 2.15 on, before that the leader alone.
    fn everybody_lists(&self) -> bool {
        let mut parts = self.version().split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next(), parts.next()) >= (Some(2), Some(15))
    }

    fn header(&self) -> String {
        let (name, id, group, version) = (name(self.number), self.id(), self.group(), self.version());
        format!(
            r#""server":{{"name":"{name}","host":"127.0.0.1","id":"{id}","cluster":"c{group}","domain":"d{group}","ver":"{version}","feature_flags":{{"js_ack_fc_v2":false,"js_raft_delete_range":false}},"jetstream":true,"flags":7,"seq":{SEQUENCE},"time":"2026-11-23T{TIME}"}}"#
        )
    }

    fn rows(&self) -> String {
        let row = |other: usize| {
            let (name, peer) = (name(other), PeerId::of_server(&name(other)));
            let contact = match (self.leads(), self.dead[other]) {
                (true, true) => r#""current":false,"offline":true,"active":171555333222"#.to_owned(),
                (false, true) => r#""current":false,"offline":true,"active":0"#.to_owned(),
                (true, false) => format!(r#""current":true,"active":{ACTIVE}"#),
                (false, false) => r#""current":false,"active":0"#.to_owned(),
            };
            format!(r#"{{"name":"{name}",{contact},"peer":"{peer}"}}"#)
        };
        let rows: Vec<String> = self.mates().filter(|other| *other != self.number).map(row).collect();
        format!(r#""replicas":[{}],"#, rows.join(","))
    }

    fn jsz(&self) -> String {
        let (header, id, group, size) = (self.header(), self.id(), self.group(), self.mates().len());
        let leader = name(self.mates().start);
        let peer = PeerId::of_server(&leader);
        let lists = (self.leads() || self.everybody_lists()) && size > 1;
        let rows = if lists { self.rows() } else { String::new() };
        let quorum = if self.everybody_lists() {
            format!(r#""quorum_needed":{},"#, size / 2 + 1)
        } else {
            String::new()
        };
        format!(
            r#"{{{header},"data":{{"memory":0,"storage":0,"reserved_memory":0,"reserved_storage":0,"accounts":1,"ha_assets":1,"api":{{"level":4,"total":0,"errors":0}},"server_id":"{id}","now":"2026-11-23T{TIME}","config":{{"max_memory":64000000,"max_storage":256000000,"store_dir":"/data/jetstream","domain":"d{group}","sync_interval":120000000000,"compress_ok":true,"strict":true}},"limits":{{}},"streams":0,"consumers":0,"messages":0,"bytes":0,"meta_cluster":{{"name":"c{group}","leader":"{leader}","peer":"{peer}",{rows}"cluster_size":{size},{quorum}"pending":0,"pending_requests":0,"pending_infos":0,"snapshot":{{"pending_entries":1,"pending_size":86,"last_time":"0001-01-01T00:00:00Z"}}}},"total":1}}}}"#
        )
    }

    fn statsz(&self) -> String {
        let header = self.header();
        let route = |other: usize| {
            let name = name(other);
            format!(
                r#"{{"rid":{other},"name":"{name}","sent":{{"msgs":6,"bytes":6085}},"received":{{"msgs":5,"bytes":5697}},"pending":203}}"#
            )
        };
        let others = self.mates().filter(|other| *other != self.number && !self.dead[*other]);
        let routes: Vec<String> = others.map(route).collect();
        // The real server that the answers go through is one more.
        let (routes, servers) = (routes.join(","), self.shape.servers + 1);
        format!(
            r#"{{{header},"statsz":{{"start":"2026-11-22T09:00:00Z","mem":18374656,"cores":2,"cpu":0,"connections":1,"total_connections":1,"active_accounts":1,"subscriptions":216,"sent":{{"msgs":19,"bytes":11142}},"received":{{"msgs":18,"bytes":10402}},"slow_consumers":0,"routes":[{routes}],"active_servers":{servers}}}}}"#
        )
    }
}

fn name(number: usize) -> String {
    format!("nats-{number}")
}

/// Numbers that look random and come from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Those of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
