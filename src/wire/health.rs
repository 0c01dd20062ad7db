//! What servers answer when they are asked why: `HEALTHZ`, one server's word about its own JetStream, and `RAFTZ`,
//! one member's word about its Raft group.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{Reject, Server, bounded, malformed, parse, spelled};
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
    /// Whether it knew any leader since it started.
    pub ever_had_leader: bool,
    /// It only watches the group of a hub that its leaf node extends, and can elect nobody.
    pub observer: bool,
    /// That its write-ahead log has failed, and how where it tells (most versions do not).
    pub wal_error: Option<String>,
    /// The other peers. A follower tells of its leader only when it last saw it (measured, 2.12 to 2.15).
    pub peers: BTreeMap<PeerId, RaftPeer>,
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
    let spelled: Spelled<HealthData> = parse(payload)?;
    let (server, data) = spelled.open()?;
    let data = data.ok_or_else(|| malformed("the reply holds neither data nor an error", None))?;
    let well = data.status == "ok";
    let words = if data.error.is_empty() { data.status } else { data.error };
    Ok(Health { server, error: (!well).then(|| bounded(&words)) })
}

/// Reads one reply to `RAFTZ`; `None` from a server that is in no meta group.
pub fn decode_raftz(payload: &[u8]) -> Result<Option<Raft>, Reject> {
    let spelled: Spelled<BTreeMap<String, BTreeMap<String, RaftData>>> = parse(payload)?;
    let (server, accounts) = spelled.open()?;
    let group = accounts.unwrap_or_default().into_values().find_map(|mut groups| groups.remove(META_GROUP));
    Ok(group.map(|group| group.into_raft(server)))
}

#[derive(Deserialize)]
struct Spelled<T> {
    server: spelled::Server,
    data: Option<T>,
    error: Option<spelled::ApiError>,
}

impl<T> Spelled<T> {
    fn open(self) -> Result<(Server, Option<T>), Reject> {
        let server = self.server.into_server()?;
        match self.error {
            Some(error) => Err(Reject { server: Some(Box::new(server)), ..error.into_reject() }),
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
    // Absent in the first versions that answer at all: then nothing is claimed.
    #[serde(default = "yes")]
    ever_had_leader: bool,
    #[serde(default)]
    observer: bool,
    wal_error: Option<Value>,
    #[serde(default)]
    peers: Option<BTreeMap<String, PeerData>>,
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
        let peer = |(id, peer): (String, PeerData)| {
            let name = (!peer.name.is_empty()).then(|| Name::new(&peer.name));
            Some((PeerId::parse(&id)?, RaftPeer { name, last_seen: last_seen(&peer.last_seen) }))
        };
        Raft {
            server,
            role: match self.state.as_str() {
                "LEADER" => Role::Leader,
                "FOLLOWER" => Role::Follower,
                "CANDIDATE" => Role::Candidate,
                _ => Role::Other,
            },
            leader: PeerId::parse(&self.leader),
            ever_had_leader: self.ever_had_leader,
            observer: self.observer,
            // Go writes most errors as an empty object.
            wal_error: self.wal_error.map(|error| bounded(error.as_str().unwrap_or_default())),
            peers: self.peers.unwrap_or_default().into_iter().filter_map(peer).collect(),
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
        for wrong in ["[]", r#"{"_meta_":1}"#, r#"{"SYS":{"_meta_":{"peers":[1]}}}"#, "{"] {
            assert!(decode(&format!("\"data\":{wrong}")).is_err(), "{wrong}");
        }
        let raft =
            raftz(r#"{"state":"GOD","leader":"../../x","peers":{"nobody":{},"k2My6qdB":{"name":"s1"}}}"#);
        assert_eq!((raft.role, raft.leader, raft.peers.len()), (Role::Other, None, 1));
        assert!(decode_healthz(&b"[".repeat(100_000)).is_err());
        assert!(decode_healthz(br#"{"server":{"name":""},"data":{"status":"ok"}}"#).is_err());
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
