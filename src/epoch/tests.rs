use super::*;
use crate::name::PeerId;

/// So long after the opening.
fn at(millis: u64) -> Stamp {
    Stamp::new(0, 0).plus(Duration::from_millis(millis))
}

fn reply(name: &str, rows: &[&str]) -> String {
    let leads = !rows.is_empty();
    let rows: Vec<String> = rows
        .iter()
        .map(|row| {
            format!(r#"{{"name":"{row}","current":true,"active":5,"peer":"{}"}}"#, PeerId::of_server(row))
        })
        .collect();
    let leader =
        if leads { format!(r#""leader":"{name}","replicas":[{}],"#, rows.join(",")) } else { String::new() };
    format!(
        r#"{{"server":{{"name":"{name}","id":"N{name}"}},"data":{{"meta_cluster":{{{leader}"cluster_size":3}}}}}}"#
    )
}

fn statsz(name: &str, active_servers: i64) -> String {
    format!(
        r#"{{"server":{{"name":"{name}","id":"N{name}"}},"statsz":{{"active_servers":{active_servers}}}}}"#
    )
}

fn key(name: &str) -> ServerKey {
    ServerKey { peer: PeerId::of_server(name), domain: Name::default() }
}

fn plan(awaited: &[&str], unawaited: &[&str]) -> Plan {
    let entry = |awaited| move |name: &&str| (key(name), Expected { name: Some(Name::new(name)), awaited });
    Plan {
        number: 7,
        expected: awaited.iter().map(entry(true)).chain(unawaited.iter().map(entry(false))).collect(),
        learning: awaited.is_empty(),
        ask_statsz: false,
        patience: Duration::from_millis(500),
        settle: Duration::from_millis(20),
    }
}

/// An open epoch and what it was told so far.
struct Told(Epoch);

impl Told {
    fn open(plan: Plan) -> Self {
        Self(Epoch::open(plan, at(0)))
    }

    fn jsz(mut self, millis: u64, name: &str, rows: &[&str]) -> Self {
        self.0.hear(at(millis), Heard::Jsz { epoch: 7, payload: reply(name, rows).as_bytes() });
        self
    }

    fn statsz(mut self, millis: u64, name: &str, active_servers: i64) -> Self {
        let payload = statsz(name, active_servers);
        self.0.hear(at(millis), Heard::Statsz { epoch: 7, payload: payload.as_bytes() });
        self
    }

    fn hear(mut self, millis: u64, heard: Heard<'_>) -> Self {
        self.0.hear(at(millis), heard);
        self
    }

    /// When it ends if nothing more comes, in milliseconds, and why; both ways of asking agree.
    #[track_caller]
    fn ends(&self, millis: u64, ended: Ended) {
        let wake = self.0.wake_at().since(at(0)).as_millis();
        assert_eq!(self.0.ended(at(millis)), Some(ended), "it wakes at {wake} ms");
        if millis > 0
            && !matches!(ended, Ended::NoResponders | Ended::Denied | Ended::Disconnected | Ended::Full)
        {
            assert_eq!(self.0.ended(at(millis - 1)), None, "it wakes at {wake} ms");
            assert_eq!(self.0.wake_at(), at(millis));
        }
    }

    fn close(self) -> Gathered {
        self.0.close(at(500), Ended::Deadline)
    }
}

#[test]
fn it_ends_with_the_last_awaited_answer() {
    Told::open(plan(&["s1", "s2"], &[])).jsz(1, "s1", &[]).jsz(4, "s2", &[]).ends(4, Ended::AllHeard);
}

#[test]
fn the_deadline_is_absolute() {
    let epoch = Told::open(plan(&["s1", "s2"], &[])).jsz(400, "s1", &[]);
    epoch.ends(500, Ended::Deadline);
    epoch.jsz(499, "s3", &[]).ends(500, Ended::Deadline);
    Told::open(plan(&["s1"], &[])).ends(500, Ended::Deadline);
}

#[test]
fn who_missed_the_last_epoch_is_given_a_settle_time_only() {
    Told::open(plan(&["s1"], &["s2"])).jsz(5, "s1", &[]).ends(25, Ended::AllHeard);
    Told::open(plan(&["s1"], &["s2"])).jsz(5, "s1", &[]).jsz(9, "s2", &[]).ends(9, Ended::AllHeard);
    // It grows with the slowest answer, and never beyond the deadline.
    Told::open(plan(&["s1"], &["s2"])).jsz(100, "s1", &[]).ends(300, Ended::AllHeard);
    Told::open(plan(&["s1"], &["s2"])).jsz(300, "s1", &[]).ends(500, Ended::Deadline);
}

#[test]
fn a_first_epoch_waits_for_as_many_as_share_the_account_and_for_all_that_a_leader_lists() {
    let three = || Told::open(plan(&[], &[])).statsz(1, "s1", 3);
    three().jsz(2, "s1", &["s2", "s3"]).jsz(3, "s2", &[]).jsz(4, "s3", &[]).ends(24, Ended::AllHeard);
    // A server that just started knows few: the leader's list says more.
    let two = Told::open(plan(&[], &[])).statsz(1, "s1", 2).jsz(2, "s1", &["s2", "s3"]).jsz(3, "s2", &[]);
    two.ends(303, Ended::Quiet);
    // It may count the dead: then the quiet ends it, sooner where every listed peer has answered.
    let dead = Told::open(plan(&[], &[])).statsz(1, "s1", 9).jsz(2, "s1", &["s2"]).jsz(3, "s2", &[]);
    dead.ends(103, Ended::Quiet);
    // Without the right to ask, only the quiet ends it.
    Told::open(plan(&[], &[])).jsz(2, "s1", &[]).ends(302, Ended::Quiet);
    Told::open(plan(&[], &[])).statsz(1, "s1", -5).jsz(2, "s1", &[]).ends(22, Ended::AllHeard);
}

/// An answer that names this leader.
fn following(name: &str, leader: &str) -> String {
    format!(
        r#"{{"server":{{"name":"{name}","id":"N{name}"}},"data":{{"meta_cluster":{{"leader":"{leader}","cluster_size":3}}}}}}"#
    )
}

#[test]
fn a_first_epoch_ends_at_once_when_the_servers_account_for_each_other() {
    let follows = |mut told: Told, millis, name, leader| {
        let payload = following(name, leader);
        told.0.hear(at(millis), Heard::Jsz { epoch: 7, payload: payload.as_bytes() });
        told
    };
    let counted = |servers| {
        let told = Told::open(plan(&[], &[])).statsz(1, "s1", servers).jsz(2, "s1", &["s2", "s3"]);
        follows(told, 3, "s2", "s1")
    };
    follows(counted(3), 4, "s3", "s1").ends(4, Ended::AllHeard);
    // Somebody names a leader that nobody has heard, or none: then somebody may be missing.
    follows(counted(3), 4, "s3", "s9").ends(24, Ended::AllHeard);
    counted(3).jsz(4, "s3", &[]).ends(24, Ended::AllHeard);
    // More have answered than are counted: the count is not all there is.
    follows(counted(2), 4, "s3", "s1").ends(24, Ended::AllHeard);
    // Somebody counted or listed has not answered.
    follows(counted(4), 4, "s3", "s1").ends(104, Ended::Quiet);
    counted(2).ends(303, Ended::Quiet);
    // However slow the answers are, the rest of it is short.
    let slow = Told::open(plan(&[], &[])).statsz(1, "s1", 1).jsz(200, "s1", &[]);
    slow.ends(250, Ended::AllHeard);
}

#[test]
fn who_announces_its_stop_is_not_waited_for() {
    let payload = br#"{"name":"s2","id":"Ns2"}"#;
    let event = Heard::Event { at: at(1), subject: "$SYS.SERVER.Ns2.SHUTDOWN", payload };
    Told::open(plan(&["s1", "s2"], &[])).hear(1, event).jsz(5, "s1", &[]).ends(25, Ended::AllHeard);
}

#[test]
fn no_access_ends_it_at_once_unless_somebody_answered() {
    for (heard, ended) in [
        (Heard::NoResponders { epoch: 7 }, Ended::NoResponders),
        (Heard::Denied, Ended::Denied),
        (Heard::Disconnected, Ended::Disconnected),
    ] {
        Told::open(plan(&["s1"], &[])).hear(1, heard).ends(1, ended);
    }
    Told::open(plan(&["s1"], &[])).hear(1, Heard::NoResponders { epoch: 6 }).ends(500, Ended::Deadline);
    Told::open(plan(&["s1", "s2"], &[])).jsz(1, "s1", &[]).hear(2, Heard::Denied).ends(500, Ended::Deadline);
    Told::open(plan(&["s1", "s2"], &[]))
        .jsz(1, "s1", &[])
        .hear(2, Heard::Disconnected)
        .ends(2, Ended::Disconnected);
}

#[test]
fn what_cannot_be_used_is_counted_and_ends_nothing() {
    let text = reply("s1", &[]);
    let payload = text.as_bytes();
    let gathered = Told::open(plan(&["s1", "s2"], &[]))
        .hear(1, Heard::Jsz { epoch: 6, payload })
        .hear(2, Heard::Statsz { epoch: 6, payload })
        .hear(3, Heard::Unexpected)
        .hear(3, Heard::Jsz { epoch: 7, payload: b"{" })
        .hear(3, Heard::Event { at: at(0), subject: "$SYS.SERVER.N.STATSZ", payload })
        .hear(4, Heard::Jsz { epoch: 7, payload })
        .hear(5, Heard::Jsz { epoch: 7, payload })
        .hear(6, Heard::Dropped)
        .close();
    let Counts { rejected, late, duplicate, unexpected, dropped, .. } = gathered.counts;
    assert_eq!((rejected, late, duplicate, unexpected, dropped), (1, 2, 1, 2, 1));
    assert_eq!((gathered.replies.len(), gathered.late.len(), gathered.rejects.len()), (1, 1, 1));
    assert!(!gathered.counts_absence(), "messages were dropped: nobody can be said to be absent");
    let missing: Vec<_> = gathered.missing().map(|missing| missing.key.clone()).collect();
    assert_eq!(missing, [key("s2")]);
}

#[test]
fn a_bad_reply_is_a_sign_of_life() {
    let bad = br#"{"server":{"name":"s1"},"data":{"meta_cluster":"three"}}"#;
    let epoch = Told::open(plan(&["s1"], &[])).hear(3, Heard::Jsz { epoch: 7, payload: bad });
    epoch.ends(3, Ended::AllHeard);
    let gathered = epoch.close();
    assert!(gathered.heard(&key("s1")) && gathered.replies.is_empty());
}

#[test]
fn too_many_bytes_end_it() {
    let large = vec![b' '; 4 << 20];
    let mut epoch = Told::open(plan(&["s1"], &[]));
    for _ in 0..16 {
        epoch = epoch.hear(1, Heard::Jsz { epoch: 7, payload: &large });
    }
    epoch.ends(1, Ended::Full);
    assert!(!epoch.0.close(at(1), Ended::Full).counts_absence());
}

#[test]
fn the_order_of_what_arrives_does_not_matter() {
    let replies = [reply("s1", &["s2", "s3"]), reply("s2", &[]), reply("s2", &["s1"]), reply("s3", &[])];
    let events = [
        ("$SYS.SERVER.N.LAMEDUCK", r#"{"name":"s3","id":"Ns3"}"#, 3),
        ("$SYS.SERVER.N.SHUTDOWN", r#"{"name":"s3","id":"Ns3"}"#, 9),
    ];
    let gather = |order: &[usize]| {
        let mut epoch = Epoch::open(plan(&["s1"], &[]), at(0));
        for index in order {
            if let Some((subject, payload, millis)) = events.get(*index) {
                let payload = payload.as_bytes();
                epoch.hear(at(20), Heard::Event { at: at(*millis), subject, payload });
            }
            epoch.hear(at(20), Heard::Jsz { epoch: 7, payload: replies[*index].as_bytes() });
        }
        let gathered = epoch.close(at(30), Ended::Deadline);
        (gathered.replies, gathered.announcements, gathered.respondents, gathered.heard)
    };
    let expected = gather(&[0, 1, 2, 3]);
    for order in [[3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]] {
        assert_eq!(gather(&order), expected, "{order:?}");
    }
}

#[test]
fn a_flood_of_announcements_pushes_out_nobody_who_is_known_in_whatever_order_it_comes() {
    let mut flood = vec![("s3".to_owned(), "Ns3".to_owned(), 3)];
    for number in 0..5_000 {
        flood.push((format!("stranger-{number}"), "N".to_owned(), 1));
        // The same again is one.
        flood.push(("s1".to_owned(), "Ns1".to_owned(), 2));
        flood.push(("s2".to_owned(), format!("N{number}"), 4));
    }
    let gather = |order: &mut dyn Iterator<Item = &(String, String, u64)>| {
        let mut epoch = Epoch::open(plan(&["s1", "s2"], &["s3"]), at(0));
        for (name, id, millis) in order {
            let payload = format!(r#"{{"name":"{name}","id":"{id}"}}"#);
            let (subject, payload) = (format!("$SYS.SERVER.{id}.SHUTDOWN"), payload.as_bytes());
            epoch.hear(at(20), Heard::Event { at: at(*millis), subject: &subject, payload });
        }
        epoch.close(at(30), Ended::AllHeard)
    };
    let gathered = gather(&mut flood.iter());
    let of = |name: &str| {
        gathered.announcements.iter().filter(|(_, said)| said.server.name == Name::new(name)).count()
    };
    assert_eq!((of("s1"), of("s2"), of("s3")), (1, 8, 1));
    assert_eq!(gathered.announcements.len(), 256 + 10);
    let dropped = (5_000 - 256) + (5_000 - 8);
    assert_eq!(gathered.counts.announcements_dropped, dropped, "every other one is counted");
    assert_eq!(gather(&mut flood.iter().rev()).announcements, gathered.announcements);
}

/// A reply of a run of s1, which says this of itself.
fn said(run: &str, sequence: u64, cluster: &str, data: &str) -> String {
    format!(
        r#"{{"server":{{"name":"s1","id":"{run}","seq":{sequence},"cluster":"{cluster}"}},"data":{data}}}"#
    )
}

const MEMBER: &str = r#"{"meta_cluster":{"leader":"s1","cluster_size":3}}"#;
const OTHER: &str = r#"{"meta_cluster":{"leader":"s2","cluster_size":3}}"#;
const ALONE: &str = r#"{"config":{}}"#;
const OFF: &str = r#"{"disabled":true}"#;

#[test]
fn answers_that_cannot_all_be_one_servers_are_told_in_whatever_order_they_come() {
    let member = said("NA", 1, "c1", MEMBER);
    for (others, told, duplicates) in [
        (vec![], "", 0),
        // The same answer once more, or one that was sent later, is no contradiction.
        (vec![member.clone()], "", 1),
        (vec![said("NA", 9, "c1", MEMBER)], "", 1),
        (vec![said("NA", 9, "c1", OTHER)], "s1 (NA) gave two different answers to one request", 1),
        (vec![said("NA", 1, "c1", OTHER)], "s1 (NA) gave two different answers to one request", 1),
        (
            vec![said("NA", 9, "c1", OTHER), said("NA", 5, "c1", MEMBER)],
            "s1 (NA) gave two different answers to one request",
            2,
        ),
        (vec![said("NA", 1, "c2", MEMBER)], "s1 (NA) gave two different answers to one request", 1),
        (vec![said("NA", 2, "c1", "[]")], "s1 (NA) gave two different answers to one request", 0),
        // Servers of different clusters can share a name; of one cluster they cannot.
        (vec![said("NB", 1, "leaf", ALONE)], "", 0),
        (vec![said("NB", 1, "", ALONE)], "", 0),
        (
            vec![said("NB", 1, "c1", ALONE)],
            "servers with different parts in JetStream answer as s1 (NA, NB)",
            0,
        ),
        (
            vec![said("NB", 1, "c1", OFF), said("NB", 2, "c1", ALONE)],
            "s1 (NB) gave two different answers to one request, \
             servers with different parts in JetStream answer as s1 (NA, NB)",
            1,
        ),
        // That two members share a name is told where the group is known.
        (vec![said("NB", 1, "c1", MEMBER)], "", 0),
    ] {
        let mut payloads = others.clone();
        payloads.push(member.clone());
        let gather = |payloads: &[String]| {
            let mut epoch = Told::open(plan(&["s1"], &[]));
            for payload in payloads {
                epoch = epoch.hear(1, Heard::Jsz { epoch: 7, payload: payload.as_bytes() });
            }
            epoch.close()
        };
        let expected = gather(&payloads);
        let words: Vec<String> = expected.conflicts.iter().map(ToString::to_string).collect();
        assert_eq!(words.join(", "), told, "{others:?}");
        assert_eq!(expected.counts.conflicting, words.len() as u64);
        for _ in 0..payloads.len() {
            payloads.rotate_left(1);
            for order in [payloads.clone(), payloads.iter().rev().cloned().collect()] {
                let gathered = gather(&order);
                assert_eq!(gathered.replies, expected.replies, "{order:?}");
                assert_eq!(gathered.conflicts, expected.conflicts, "{order:?}");
                assert_eq!(gathered.counts.duplicate, duplicates, "{order:?}");
            }
        }
    }
}

#[test]
fn conflicts_are_bounded_and_cost_no_more_than_the_answers() {
    let mut epoch = Epoch::open(plan(&[], &[]), at(0));
    for index in 0..10_000 {
        let data = if index % 2 == 0 { MEMBER } else { ALONE };
        let payload = said(&format!("N{index}"), 1, "c1", data);
        epoch.hear(at(1), Heard::Jsz { epoch: 7, payload: payload.as_bytes() });
    }
    for index in 0..2 * EXAMPLES_MAX {
        for data in [MEMBER, OTHER] {
            let payload = said("NX", 1, "c1", data).replace("s1", &format!("t{index}"));
            epoch.hear(at(1), Heard::Jsz { epoch: 7, payload: payload.as_bytes() });
        }
    }
    let gathered = epoch.close(at(500), Ended::Deadline);
    assert_eq!(gathered.counts.conflicting, 1 + 2 * EXAMPLES_MAX as u64);
    assert_eq!(gathered.conflicts.len(), EXAMPLES_MAX);
    assert!(gathered.conflicts.iter().all(|conflict| (1..=8).contains(&conflict.ids.len())));
    assert!(gathered.conflicts.is_sorted());
}

#[test]
fn nobody_waits_for_a_peer_whose_id_no_server_can_have() {
    let list = reply("s1", &["s2", "s3"]).replace("3ahZoO2Q", "\\\"kCGheKT");
    let epoch = Told::open(plan(&[], &[])).statsz(1, "s1", 2);
    let epoch = epoch.hear(2, Heard::Jsz { epoch: 7, payload: list.as_bytes() }).jsz(3, "s2", &[]);
    epoch.ends(23, Ended::AllHeard);
}
