//! What a restarted forwarder goes on with.

use super::*;

impl Stage {
    /// The process ends, and another one begins with what it saved, for these receivers.
    fn restart(&mut self, kinds: &[ReceiverKind], after: u64) {
        let saved = serde_json::to_string(&self.forward.save()).expect("JSON");
        self.now += after;
        let receivers = kinds.iter().enumerate().map(|(number, kind)| (*kind, format!("receiver {number}")));
        self.forward = Forward::new(receivers.collect(), self.forward.rules.clone(), at(self.now));
        let lines = self.forward.restore(serde_json::from_str(&saved).expect("what was saved"), at(self.now));
        self.tell(lines);
    }
}

const BOTH: [ReceiverKind; 2] = [ReceiverKind::Webhook, ReceiverKind::Alertmanager];

#[test]
fn what_had_not_arrived_is_posted_after_a_restart_in_order_and_nothing_twice() {
    let mut stage = Stage::new(&BOTH);
    stage.event("a", 1, State::Firing);
    stage.post(|_| OK);
    stage.event("a", 2, State::Firing);
    stage.event("b", 1, State::Suspected);
    stage.event("b", 2, State::Firing);
    stage.event("b", 3, State::Resolved);
    let open = event("a", 2, State::Firing);
    stage.run(1_800, &[&open], |_| down());
    stage.restart(&BOTH, 60);
    stage.posts.clear();
    stage.run(3_600, &[&open], |_| down());
    stage.restart(&BOTH, 1);
    stage.posts.clear();
    stage.run(stage.now + 120, &[&open], |_| OK);
    assert_eq!(stage.keys(), ["a.2", "b.1", "b.2", "b.3"]);
    let ends: Vec<_> = stage.alerts();
    assert!(
        ends.iter().any(|(_, name, end)| name == "META_001/critical" && *end == wall(0)),
        "b is over: {ends:?}"
    );
    assert!(stage.lines.iter().any(|line| line.contains("4 events have waited since before the restart")));
    // What was heard before is no news.
    stage.posts.clear();
    stage.event("a", 2, State::Firing);
    stage.event("b", 3, State::Resolved);
    stage.post(|_| OK);
    assert!(stage.keys().is_empty(), "{:?}", stage.keys());
}

#[test]
fn what_ended_while_nobody_forwarded_is_told_to_all_that_knew_of_it() {
    let mut stage = Stage::new(&BOTH);
    stage.event("a", 1, State::Firing);
    stage.run(10, &[&event("a", 1, State::Firing)], |_| OK);
    assert_eq!(stage.keys(), ["a.1"]);
    stage.restart(&BOTH, 600);
    stage.posts.clear();
    let began = stage.now;
    stage.run(began + 20, &[], |_| OK);
    assert_eq!(stage.keys(), ["a.1.resolved"]);
    let last = stage.alerts().pop().expect("its end");
    assert_eq!(last.2, wall(began + 4), "with the second heartbeat that lists it no more");
}

#[test]
fn an_open_alert_goes_on_at_an_alertmanager_before_anything_is_heard() {
    let mut stage = Stage::new(&BOTH);
    stage.event("a", 1, State::Firing);
    stage.post(|_| OK);
    stage.restart(&BOTH, 5);
    stage.posts.clear();
    stage.post(|_| OK);
    assert_eq!(stage.alerts(), [(5, "META_001/critical".to_owned(), wall(305))]);
    assert!(stage.keys().is_empty(), "a webhook knows it: {:?}", stage.keys());
}

#[test]
fn that_nobody_watches_ends_after_a_restart_and_is_not_told_twice() {
    let mut stage = Stage::new(&BOTH);
    stage.run(10, &[], |_| OK);
    for second in 11..60 {
        stage.now = second;
        stage.post(|_| OK);
    }
    assert_eq!(stage.all_keys().len(), 1, "{:?}", stage.all_keys());
    stage.restart(&BOTH, 10);
    for _ in 0..60 {
        stage.now += 1;
        stage.post(|_| OK);
    }
    assert_eq!(stage.all_keys().len(), 1, "{:?}", stage.all_keys());
    stage.run(stage.now + 4, &[], |_| OK);
    let keys = stage.all_keys();
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert!(keys[1].starts_with("quiet.sys.resolved."), "{keys:?}");
}

#[test]
fn webhooks_of_one_name_go_by_their_order_and_those_given_no_more_are_told() {
    let hooks = [ReceiverKind::Webhook; 3];
    let mut stage = Stage::new(&hooks);
    for receiver in &mut stage.forward.receivers {
        receiver.name = "webhook https://pager".to_owned();
    }
    stage.event("a", 1, State::Firing);
    stage.post(|post| if post.receiver == 1 { OK } else { down() });
    let saved = stage.forward.save();
    let names = vec![(ReceiverKind::Webhook, "webhook https://pager".to_owned()); 2];
    stage.forward = Forward::new(names, stage.forward.rules.clone(), at(100));
    let lines = stage.forward.restore(saved, at(100));
    stage.tell(lines);
    stage.now = 100;
    stage.posts.clear();
    stage.post(|_| OK);
    let to: Vec<usize> = stage.posts.iter().map(|(_, post)| post.receiver).filter(|to| *to < 2).collect();
    assert_eq!(to, [0]);
    assert!(stage.lines.iter().any(|line| line.contains("1 events have waited for webhook https://pager")));
}
