use super::limits::TRANSITIONS_MAX;
use super::*;

/// One alert of a saved table, about the peer `s3`.
fn alert(incident: &str, sequence: u64, state: &str) -> Alert {
    let saved: SavedAlert = serde_json::from_value(serde_json::json!({
        "check": "META_001", "group": "default", "peer": "3ahZoO2Q", "name": "s3", "incident": incident,
        "seq": sequence, "state": state, "since_ns": 1, "told_ns": 2, "fired": true,
    }))
    .expect("an alert");
    saved.restore(Stamp::new(10, 20)).expect("a sound alert")
}

#[track_caller]
fn check_merge(own: Option<Alert>, other: Alert, expected: (&str, u64, State, &[&str])) {
    let mut table = AlertTable::default();
    table.replace(own.into_iter().collect());
    table.merge(vec![other]);
    let merged: Vec<&Alert> = table.alerts.values().collect();
    let [alert] = merged[..] else { panic!("{merged:?}") };
    let ids: Vec<&str> = alert.merged.iter().map(String::as_str).collect();
    assert_eq!((alert.incident.as_str(), alert.sequence, alert.state, ids.as_slice()), expected);
}

#[test]
fn what_another_watcher_announced_goes_on() {
    let other = alert("B", 2, "firing");
    check_merge(None, other.clone(), ("B", 2, State::Firing, &[]));
    check_merge(Some(alert("A", 4, "resolved")), other, ("B", 2, State::Firing, &[]));
}

#[test]
fn two_incidents_about_one_thing_become_one_that_names_the_other() {
    let (own, other) = (alert("A", 1, "firing"), alert("B", 2, "firing"));
    check_merge(Some(own.clone()), other.clone(), ("A", 1, State::Firing, &["B"]));
    let named_already = Alert { merged: vec!["B".into(), "C".into()], ..own };
    check_merge(Some(named_already), other, ("A", 1, State::Firing, &["B", "C"]));
}

#[test]
fn one_incident_told_from_two_sides_never_uses_a_number_twice() {
    let (own, ahead) = (alert("A", 1, "firing"), alert("A", 3, "resolved"));
    // Whether it is over is seen anew.
    check_merge(Some(own), ahead, ("A", 3, State::Firing, &[]));
    // What fires again on the other side has an end that is still to be told.
    check_merge(Some(alert("A", 2, "resolved")), alert("A", 4, "firing"), ("A", 4, State::Firing, &[]));
    check_merge(Some(alert("A", 3, "resolved")), alert("A", 3, "firing"), ("A", 3, State::Firing, &[]));
    check_merge(Some(alert("A", 6, "resolved")), alert("A", 4, "firing"), ("A", 6, State::Resolved, &[]));
}

#[test]
fn the_end_that_another_watcher_told_ends_nothing_here() {
    check_merge(Some(alert("A", 1, "firing")), alert("B", 2, "resolved"), ("A", 1, State::Firing, &[]));
}

fn finding(group: &str, peer: &str, verdict: Verdict) -> Finding {
    Finding {
        check: "META_001",
        group: Name::new(group),
        peer: Some(PeerId::of_server(peer)),
        verdict,
        grounds: Some(Grounds::Reported),
        witnesses: Vec::new(),
        cause: None,
        since: None,
        severity: Severity::Critical,
        words: None,
        measure: None,
    }
}

/// An epoch that showed everything there is.
fn step(
    table: &mut AlertTable,
    findings: &[Finding],
    now: Stamp,
    superseded: &BTreeSet<Name>,
) -> Vec<Transition> {
    let shown = Shown { whole: true, superseded };
    let about = |_: &Identity| About { name: Name::new("s"), domain: Name::default(), size: None };
    table.step(findings, now, &LifeRules::default(), shown, about)
}

#[test]
fn a_real_fault_is_told_at_once_though_invented_groups_fill_the_table() {
    let (mut table, mut now) = (AlertTable::default(), Stamp::new(0, 0));
    let mut open = BTreeSet::new();
    let mut step = |table: &mut AlertTable, findings: &[Finding]| {
        now = now.plus(Duration::from_secs(1));
        let told = step(table, findings, now, &BTreeSet::new());
        assert!(told.len() <= TRANSITIONS_MAX && table.alerts.len() <= ALERTS_MAX);
        // Whoever listens knows exactly the incidents that are open: none goes without an event.
        for transition in &told {
            let incident = transition.alert.incident.clone();
            let news = if transition.alert.state == State::Resolved {
                open.remove(&incident)
            } else {
                open.insert(incident) || transition.alert.sequence > 1
            };
            assert!(news, "{transition:?}");
        }
        let active: BTreeSet<_> = table.active().map(|alert| alert.incident.clone()).collect();
        assert_eq!(open, active);
        told.into_iter().map(|transition| transition.alert.identity).collect::<Vec<_>>()
    };
    let real = [finding("default", "s1", Verdict::Clear), finding("default", "s2", Verdict::Clear)];
    step(&mut table, &real);
    // A few groups of many peers, and many of one; before and behind the real one in every order.
    let mut invented: Vec<Finding> = (0..9_000)
        .map(|number| finding(&format!("a{}", number % 3), &format!("p{number}"), Verdict::Fault))
        .chain((0..3_000).map(|number| finding(&format!("z{number}"), "p", Verdict::Fault)))
        .collect();
    invented.sort_by(|one, other| one.group.cmp(&other.group));
    let calm: Vec<Finding> = invented.iter().cloned().chain(real.clone()).collect();
    for _ in 0..60 {
        step(&mut table, &calm);
    }
    assert_eq!((table.alerts.len(), table.overflow() > 0), (ALERTS_MAX, true));
    let mut broken = calm.clone();
    broken.last_mut().expect("the real one").verdict = Verdict::Fault;
    let told = step(&mut table, &broken);
    let real =
        Identity { check: "META_001", group: Name::new("default"), peer: Some(PeerId::of_server("s2")) };
    assert!(told.contains(&real), "it is told in the same epoch");
    // And it ends as soon as any.
    let ended = (0..3).any(|_| step(&mut table, &calm).contains(&real));
    assert!(ended && !table.active().any(|alert| alert.identity == real));
}
