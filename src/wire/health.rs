//! What servers answer when they are asked why: `HEALTHZ`, one server's word about its own JetStream, and `RAFTZ`,
//! one member's word about its Raft group.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::fields::{Fields, Flaws};
use super::lenient::{Envelope, Text};
use super::shapes::Object;
use super::{Reject, Server, bounded, json, malformed, strict};
use crate::name::{Name, PeerId};

/// The name of the meta group among the Raft groups.
const META_GROUP: &str = "_meta_";
/// A contact longer ago than this is none: servers spell "never" as the time since the year 1.
const LAST_SEEN_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A reply to `HEALTHZ` that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Who answered.
    pub server: Server,
    /// What it lacks, in its own words, printable and bounded; `None` when it finds nothing wrong with itself.
    pub error: Option<String>,
}

/// One member's account of the meta group as a Raft group: a reply to `RAFTZ` that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raft {
    /// Who answered.
    pub server: Server,
    /// What it is in the group.
    pub role: Role,
    /// Whom it follows.
    pub leader: Option<PeerId>,
    /// In which term it is, where it tells: each election begins a new one.
    pub term: Option<u64>,
    /// Whether it knew any leader since it started.
    pub ever_had_leader: bool,
    /// It only watches the group of a hub that its leaf node extends, and can elect nobody.
    pub observer: bool,
    /// That its write-ahead log has failed, and how where it tells (most versions do not).
    pub wal_error: Option<String>,
    /// The other peers. A follower tells of its leader only when it last saw it (measured, 2.12 to 2.15).
    pub peers: BTreeMap<PeerId, RaftPeer>,
    /// How many further peers could not be read.
    pub unreadable_peers: u32,
}

/// What a member is in a Raft group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It leads.
    Leader,
    /// It follows.
    Follower,
    /// It asks to be elected.
    Candidate,
    /// Something else: it is about to stop, or a later version has more roles.
    Other,
}

/// What a member says of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftPeer {
    /// Its name, where the member knows it.
    pub name: Option<Name>,
    /// How long ago the member last saw it, where it tells.
    pub last_seen: Option<Duration>,
}

/// Reads one reply to `HEALTHZ`.
pub fn decode_healthz(payload: &[u8]) -> Result<Health, Reject> {
    let (server, data) = match strict::<Spelled<'_, Object<HealthData>>>(payload)? {
        Ok(json) => json.open()?,
        Err(error) => lenient_health(Text::of(payload).open(&error)?)?,
    };
    let Some(Object(data)) = data else {
        return Err(malformed("the reply holds neither data nor an error", Some(server)));
    };
    let well = data.status == "ok";
    let words = if data.error.is_empty() { data.status } else { data.error };
    if words.is_empty() {
        return Err(malformed("the server does not say how it is", Some(server)));
    }
    Ok(Health { server, error: (!well).then(|| bounded(&words)) })
}

/// Reads one reply to `RAFTZ`; `None` from a server that is in no meta group.
pub fn decode_raftz(payload: &[u8]) -> Result<Option<Raft>, Reject> {
    let (server, group) =
        match strict::<Spelled<'_, BTreeMap<String, BTreeMap<String, Object<RaftData>>>>>(payload)? {
            Ok(json) => {
                let (server, accounts) = json.open()?;
                let mut accounts = accounts.unwrap_or_default().into_values();
                (server, accounts.find_map(|mut groups| groups.remove(META_GROUP)))
            }
            Err(error) => lenient_raft(Text::of(payload).open(&error)?)?,
        };
    Ok(group.map(|Object(group)| group.into_raft(server)))
}

fn lenient_health(envelope: Envelope<'_>) -> Result<(Server, Option<Object<HealthData>>), Reject> {
    let Envelope { server, error, fields, mut flaws } = envelope;
    let data = fields.object("data", &mut flaws).map(|data| {
        Object(HealthData { status: data.text("status", &mut flaws), error: data.text("error", &mut flaws) })
    });
    Spelled { server: Object(server), data, error }.open()
}

/// A group that is not found where some account cannot be read may be there all the same.
fn lenient_raft(envelope: Envelope<'_>) -> Result<(Server, Option<Object<RaftData>>), Reject> {
    let Envelope { server, error, fields, mut flaws } = envelope;
    let data = fields.object("data", &mut flaws);
    let (accounts, others) = data.as_ref().map(Fields::objects).unwrap_or_default();
    let group = accounts.iter().find_map(|(_, groups)| groups.object(META_GROUP, &mut flaws));
    let lost = others > 0
        || (data.is_none() && fields.has("data"))
        || accounts.iter().any(|(_, groups)| groups.has(META_GROUP));
    let group = group.map(|group| Object(raft_data(&group, &mut flaws)));
    let (server, group) = Spelled { server: Object(server), data: group, error }.open()?;
    if group.is_none() && lost {
        return Err(malformed("the meta group cannot be read", Some(server)));
    }
    Ok((server, group))
}

fn raft_data(group: &Fields<'_>, flaws: &mut Flaws) -> RaftData {
    let (peers, others) = match group.object("peers", flaws) {
        Some(peers) => {
            let (peers, others) = peers.objects();
            let read = |(id, peer): &(&str, Fields<'_>)| {
                let data =
                    PeerData { name: peer.text("name", flaws), last_seen: peer.text("last_seen", flaws) };
                ((*id).to_owned(), Object(data))
            };
            (Some(peers.iter().map(read).collect()), others)
        }
        None => (None, usize::from(group.has("peers"))),
    };
    RaftData {
        state: group.text("state", flaws),
        leader: group.text("leader", flaws),
        term: group.count("term", flaws),
        ever_had_leader: !group.has("ever_had_leader")
            || group.flag("ever_had_leader", false, flaws).unwrap_or_else(yes),
        observer: group.flag("observer", false, flaws).unwrap_or_default(),
        wal_error: group.has("wal_error").then(|| Value::String(group.text("wal_error", flaws))),
        peers,
        unread: others,
    }
}

#[derive(Deserialize)]
struct Spelled<'a, T> {
    #[serde(borrow)]
    server: Object<json::Server<'a>>,
    data: Option<T>,
    #[serde(borrow)]
    error: Option<Object<json::ApiError<'a>>>,
}

impl<T> Spelled<'_, T> {
    fn open(self) -> Result<(Server, Option<T>), Reject> {
        let server = self.server.0.into_server()?;
        match self.error {
            Some(Object(error)) => Err(error.into_reject(server)),
            None => Ok((server, self.data)),
        }
    }
}

#[derive(Deserialize)]
struct HealthData {
    status: String,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
struct RaftData {
    #[serde(default)]
    state: String,
    #[serde(default)]
    leader: String,
    term: Option<u64>,
    // Absent in the first versions that answer at all: then nothing is claimed.
    #[serde(default = "yes")]
    ever_had_leader: bool,
    #[serde(default)]
    observer: bool,
    wal_error: Option<Value>,
    peers: Option<BTreeMap<String, Object<PeerData>>>,
    /// How many peers are not among those.
    #[serde(skip)]
    unread: usize,
}

#[derive(Deserialize)]
struct PeerData {
    #[serde(default)]
    name: String,
    #[serde(default)]
    last_seen: String,
}

fn yes() -> bool {
    true
}

impl RaftData {
    fn into_raft(self, server: Server) -> Raft {
        let sent = self.peers.unwrap_or_default();
        let all = sent.len() + self.unread;
        let peer = |(id, Object(peer)): (String, Object<PeerData>)| {
            let name = (!peer.name.is_empty()).then(|| Name::new(&peer.name));
            Some((PeerId::parse(&id)?, RaftPeer { name, last_seen: last_seen(&peer.last_seen) }))
        };
        let peers: BTreeMap<PeerId, RaftPeer> = sent.into_iter().filter_map(peer).collect();
        Raft {
            server,
            role: match self.state.as_str() {
                "LEADER" => Role::Leader,
                "FOLLOWER" => Role::Follower,
                "CANDIDATE" => Role::Candidate,
                _ => Role::Other,
            },
            // A damaged id is no server's, and no other leads.
            leader: PeerId::parse(&self.leader).filter(PeerId::is_sound),
            term: self.term,
            ever_had_leader: self.ever_had_leader,
            observer: self.observer,
            // Go writes most errors as an empty object.
            wal_error: self.wal_error.map(|error| bounded(error.as_str().unwrap_or_default())),
            unreadable_peers: u32::try_from(all - peers.len()).unwrap_or(u32::MAX),
            peers,
        }
    }
}

/// Reads a duration as Go spells it, as in `1m2.5s`; `None` for anything else and for what means never.
fn last_seen(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 7] = [
        // `ms` goes before `m`, and so on: the first that fits counts.
        ("ns", 1e-9),
        ("µs", 1e-6),
        ("us", 1e-6),
        ("ms", 1e-3),
        ("h", 3_600.0),
        ("m", 60.0),
        ("s", 1.0),
    ];
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let (unit, factor) = UNITS.iter().find(|(unit, _)| rest[digits..].starts_with(unit))?;
        seconds += number * factor;
        rest = &rest[digits + unit.len()..];
    }
    let lasted = Duration::try_from_secs_f64(seconds).ok()?;
    (!text.is_empty() && lasted <= LAST_SEEN_MAX).then_some(lasted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::RejectReason;

    const SERVER: &str = r#""server":{"name":"s2","id":"NB","cluster":"c1","ver":"2.15.1","seq":9}"#;

    fn raftz(group: &str) -> Raft {
        let text = format!(r#"{{{SERVER},"data":{{"SYS":{{"_meta_":{group}}}}}}}"#);
        decode_raftz(text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn a_server_says_what_it_lacks() {
        let health = |data: &str| decode_healthz(format!("{{{SERVER},\"data\":{data}}}").as_bytes());
        assert_eq!(health(r#"{"status":"ok","status_code":200}"#).unwrap().error, None);
        let lacks = health(r#"{"status":"unavailable","status_code":503,"error":"JetStream not enabled"}"#);
        assert_eq!(lacks.unwrap().error.as_deref(), Some("JetStream not enabled"));
        assert_eq!(health(r#"{"status":"unavailable"}"#).unwrap().error.as_deref(), Some("unavailable"));
        let hostile = format!(r#"{{"status":"error","error":"\u001b[2J\r\n{}"}}"#, "é".repeat(5_000));
        let hostile = health(&hostile).unwrap().error.unwrap();
        assert_eq!(hostile.chars().count(), 200);
        assert!(!hostile.chars().any(char::is_control), "{hostile}");
    }

    #[test]
    fn a_leader_tells_when_it_last_saw_whom() {
        // 2.15.1, 12 s after s1 was frozen; abridged.
        let raft = raftz(
            r#"{"id":"3ahZoO2Q","state":"LEADER","size":3,"quorum_needed":2,"leader":"3ahZoO2Q",
                "leader_since":"2026-11-23T10:10:05.319044271Z","ever_had_leader":true,"term":1,"peers":{
                "k2My6qdB":{"name":"s1","known":true,"last_replicated_index":3,"last_seen":"12.710025054s"},
                "noC8kOtg":{"name":"","known":true}}}"#,
        );
        assert_eq!((raft.role, raft.leader), (Role::Leader, PeerId::parse("3ahZoO2Q")));
        let seen = raft.peers[&PeerId::of_server("s1")].last_seen.unwrap();
        assert_eq!(seen.as_millis(), 12_710);
        let unnamed = RaftPeer { name: None, last_seen: None };
        assert_eq!(raft.peers[&PeerId::of_server("s2")], unnamed);
    }

    #[test]
    fn a_member_without_a_leader_and_one_with_a_broken_log_say_so() {
        let raft = raftz(r#"{"state":"CANDIDATE","ever_had_leader":false,"peers":null,"wal_error":null}"#);
        assert_eq!((raft.role, raft.leader), (Role::Candidate, None));
        assert!(!raft.ever_had_leader && raft.wal_error.is_none() && raft.peers.is_empty());
        assert_eq!(raftz(r#"{"wal_error":{}}"#).wal_error.as_deref(), Some(""));
        assert_eq!(raftz(r#"{"wal_error":"no space\n"}"#).wal_error.as_deref(), Some("no space\\u{a}"));
    }

    #[test]
    fn hostile_replies_are_data() {
        let decode = |data: &str| decode_raftz(format!("{{{SERVER},{data}}}").as_bytes());
        assert_eq!(decode(r#""data":{"APP":{"x":{}}}"#).unwrap(), None);
        assert_eq!(decode(r#""data":null"#).unwrap(), None);
        let refused = decode(r#""error":{"code":404,"description":"no\u0007"}"#).unwrap_err();
        assert_eq!(refused.reason, RejectReason::ServerError);
        for wrong in ["[]", r#"{"_meta_":1}"#, r#"{"SYS":{"_meta_":[]}}"#, r#"{"SYS":{},"APP":3}"#, "{"] {
            let reject = decode(&format!("\"data\":{wrong}")).unwrap_err();
            assert_eq!(reject.server.expect(wrong).name, Name::new("s2"));
        }
        let raft = raftz(
            r#"{"state":"GOD","leader":"../../x","peers":{"far too long for one":{},"k2My6qdB":{"name":"s1"}}}"#,
        );
        assert_eq!((raft.role, raft.leader), (Role::Other, None));
        assert_eq!((raft.peers.len(), raft.unreadable_peers), (1, 1));
        assert!(decode_healthz(&b"[".repeat(100_000)).is_err());
        assert!(decode_healthz(br#"{"server":{"name":""},"data":{"status":"ok"}}"#).is_err());
    }

    #[test]
    fn one_bad_peer_costs_one_peer_and_one_bad_field_one_field() {
        let raft = raftz(
            r#"{"state":7,"leader":"3ahZoO2Q","ever_had_leader":"no","wal_error":{"a":[]},"peers":{
                "3ahZoO2Q":{"name":1,"last_seen":"1s"},"noC8kOtg":5,"\"kCGheKT":{"last_seen":9}}}"#,
        );
        assert_eq!((raft.role, raft.leader), (Role::Other, PeerId::parse("3ahZoO2Q")));
        assert!(raft.ever_had_leader && raft.wal_error.as_deref() == Some(""));
        let known = RaftPeer { name: None, last_seen: Some(Duration::from_secs(1)) };
        assert_eq!(raft.peers[&PeerId::of_server("s3")], known);
        let damaged = RaftPeer { name: None, last_seen: None };
        assert_eq!(raft.peers[&PeerId::parse("\"kCGheKT").unwrap()], damaged);
        assert_eq!((raft.peers.len(), raft.unreadable_peers), (2, 1));
        assert_eq!(raftz(r#"{"peers":[1]}"#).unreadable_peers, 1);
        let others =
            format!(r#"{{{SERVER},"data":{{"APP":[],"SYS":{{"x":1,"_meta_":{{"state":"LEADER"}}}}}}}}"#);
        assert_eq!(decode_raftz(others.as_bytes()).unwrap().unwrap().role, Role::Leader);
    }

    #[test]
    fn health_is_told_as_far_as_it_can_be_read() {
        let health = |data: &str| decode_healthz(format!(r#"{{{SERVER},"data":{data}}}"#).as_bytes());
        let error = |data: &str| health(data).unwrap().error;
        assert_eq!(error(r#"{"status":"ok","error":[]}"#), None);
        assert_eq!(error(r#"{"status":"unavailable","error":5}"#).as_deref(), Some("unavailable"));
        assert_eq!(error(r#"{"status":503,"error":"JetStream"}"#).as_deref(), Some("JetStream"));
        for wrong in ["{}", r#"{"status":200}"#, "[]", "null", r#"{"status":"ok""#] {
            assert!(health(wrong).unwrap_err().server.is_some(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_read_as_go_spells_them() {
        let millis = |text: &str| last_seen(text).map(|lasted| lasted.as_millis());
        for (text, expected) in [
            ("706.5ms", Some(706)),
            ("0s", Some(0)),
            ("12µs", Some(0)),
            ("1m2.5s", Some(62_500)),
            ("2h3m4s", Some(7_384_000)),
            ("2562047h47m16.854775807s", None),
            ("-1s", None),
            ("", None),
            ("12", None),
            ("1.2.3s", None),
            ("5 parsecs", None),
            ("é", None),
        ] {
            assert_eq!(millis(text), expected, "{text}");
        }
        assert_eq!(last_seen(&"9".repeat(400)), None);
        assert_eq!(last_seen(&format!("{}s", "9".repeat(400))), None);
    }
}
