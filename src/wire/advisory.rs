//! What servers tell on their own about storage, membership (`$JS.EVENT.ADVISORY.SERVER.*`) and elections
//! (`$JS.EVENT.ADVISORY.DOMAIN.LEADER_ELECTED`).
//!
//! Source: nats-server 2.10 to 2.15, `server/jetstream_events.go`. They are sent only while somebody listens, and anybody
//! in the system account can send one: what they say counts only beside what the servers answer.

use std::borrow::Cow;

use serde::Deserialize;

use super::shapes::Object;
use super::{Reject, lenient, malformed, strict};
use crate::name::{Name, PeerId};

/// The subjects of what servers tell of themselves.
pub const SUBJECTS: &str = "$JS.EVENT.ADVISORY.SERVER.*";
/// The subject on which the leader of a meta group tells that it was elected.
pub const ELECTIONS: &str = "$JS.EVENT.ADVISORY.DOMAIN.LEADER_ELECTED";

/// An advisory about one server, by that server as it seems.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Advisory {
    /// The server's name; empty where only its id is told.
    pub name: Name,
    /// The id that this server has as a peer.
    pub peer: PeerId,
    /// The id of this run of the server; empty where it is not told.
    pub id: Name,
    /// The JetStream domain; empty for none.
    pub domain: Name,
    /// What it tells.
    pub kind: AdvisoryKind,
}

/// What a server tells.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdvisoryKind {
    /// Its storage is full: it is about to switch its JetStream off (2.10; 2.15.1 was not seen to do so).
    OutOfStorage {
        /// The stream that could not be stored; empty when it does not say.
        stream: Name,
    },
    /// It was removed from the meta group.
    Removed,
    /// An operator lowered the quorum of the meta group (2.15).
    MetaRescue,
    /// It was elected leader of the meta group.
    Elected,
}

#[derive(Deserialize)]
struct Spelled<'a> {
    #[serde(borrow)]
    server: Cow<'a, str>,
    #[serde(borrow, default)]
    server_id: Cow<'a, str>,
    #[serde(borrow, default)]
    domain: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
}

/// The word on an election: it names the leader by its peer id alone.
#[derive(Deserialize)]
struct SpelledElection<'a> {
    #[serde(borrow)]
    leader: Cow<'a, str>,
    #[serde(borrow, default)]
    domain: Cow<'a, str>,
}

/// Reads an advisory of a server or the word on an election; `None` for other subjects.
pub fn decode_advisory(subject: &str, payload: &[u8]) -> Option<Result<Advisory, Reject>> {
    if subject == ELECTIONS {
        return Some(decode_election(payload));
    }
    let kind = subject.strip_prefix(SUBJECTS.trim_end_matches('*'))?;
    if !matches!(kind, "OUT_OF_STORAGE" | "REMOVED" | "META_RESCUE") {
        return None;
    }
    let read = || {
        let Object(spelled) = match strict::<Object<Spelled<'_>>>(payload)? {
            Ok(spelled) => spelled,
            Err(error) => return Err(malformed(&error.to_string(), lenient::Text::of(payload).sender())),
        };
        if spelled.server.is_empty() {
            return Err(malformed("the advisory names no server", None));
        }
        let stream = Name::new(&spelled.stream);
        Ok(Advisory {
            name: Name::new(&spelled.server),
            peer: PeerId::of_server(&spelled.server),
            id: Name::new(&spelled.server_id),
            domain: Name::new(&spelled.domain),
            kind: match kind {
                "OUT_OF_STORAGE" => AdvisoryKind::OutOfStorage { stream },
                "REMOVED" => AdvisoryKind::Removed,
                _ => AdvisoryKind::MetaRescue,
            },
        })
    };
    Some(read())
}

fn decode_election(payload: &[u8]) -> Result<Advisory, Reject> {
    let Object(spelled) = strict::<Object<SpelledElection<'_>>>(payload)?
        .map_err(|error| malformed(&error.to_string(), lenient::Text::of(payload).sender()))?;
    let peer = PeerId::parse(&spelled.leader).filter(PeerId::is_sound);
    let peer = peer.ok_or_else(|| malformed("the advisory names no leader", None))?;
    let (domain, kind) = (Name::new(&spelled.domain), AdvisoryKind::Elected);
    Ok(Advisory { name: Name::default(), peer, id: Name::default(), domain, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As 2.10.25 and 2.15.1 send them.
    const OUT_OF_STORAGE: &str = r#"{"type":"io.nats.jetstream.advisory.v1.server_out_of_space","id":"cVI7","timestamp":"2026-11-26T14:21:09.142449738Z","server":"s3","server_id":"NAG5","stream":"FILL","cluster":"c1"}"#;
    const REMOVED: &str = r#"{"type":"io.nats.jetstream.advisory.v1.server_removed","id":"pAHK","timestamp":"2026-11-26T14:21:06.758353175Z","server":"s3","server_id":"NDCM","cluster":"c1","domain":"hub"}"#;

    fn read(last: &str, payload: &str) -> Option<Result<Advisory, Reject>> {
        decode_advisory(&format!("$JS.EVENT.ADVISORY.SERVER.{last}"), payload.as_bytes())
    }

    #[test]
    fn what_servers_send_is_read() {
        let full = read("OUT_OF_STORAGE", OUT_OF_STORAGE).unwrap().unwrap();
        assert_eq!((full.name.as_str(), full.id.as_str(), full.domain.as_str()), ("s3", "NAG5", ""));
        assert_eq!(full.kind, AdvisoryKind::OutOfStorage { stream: Name::new("FILL") });
        let removed = read("REMOVED", REMOVED).unwrap().unwrap();
        assert_eq!((removed.peer, removed.domain.as_str()), (PeerId::of_server("s3"), "hub"));
        assert_eq!(removed.kind, AdvisoryKind::Removed);
        assert_eq!(read("META_RESCUE", REMOVED).unwrap().unwrap().kind, AdvisoryKind::MetaRescue);
    }

    #[test]
    fn the_word_on_an_election_names_the_leader_by_its_peer_id() {
        let elected = |payload: &str| decode_advisory(ELECTIONS, payload.as_bytes()).unwrap();
        let s2 = PeerId::of_server("s2");
        let told = elected(&format!(
            r#"{{"type":"io.nats.jetstream.advisory.v1.domain_leader_elected","id":"X","timestamp":"2026-11-26T14:21:06Z","leader":"{s2}","replicas":[{{"name":"s1","current":true,"active":7,"peer":"Hlxu1SDg"}}],"cluster":"c1","domain":"hub"}}"#
        ))
        .unwrap();
        assert_eq!((told.peer, told.domain.as_str(), told.kind), (s2, "hub", AdvisoryKind::Elected));
        for odd in ["", "[]", "{}", r#"{"leader":""}"#, r#"{"leader":"s2"}"#, r#"{"leader":7}"#] {
            assert!(elected(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn what_cannot_be_one_is_refused() {
        assert!(read("SOMETHING_NEW", REMOVED).is_none());
        for odd in ["", "[]", "{}", r#"{"server":""}"#, r#"{"server":7}"#, r#"{"server":"s1","stream":[]}"#] {
            assert!(read("REMOVED", odd).unwrap().is_err(), "{odd}");
        }
    }
}
