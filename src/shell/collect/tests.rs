use std::time::Duration;

use async_nats::StatusCode;

use super::fake::{Answer, Fake, FakeTransport, fake, jsz, message, statsz};
use super::*;
use crate::epoch::Ended;
use crate::pipeline::{Pipeline, Settings};
use crate::shell::connect::Operation;

const OWN_STATSZ: &str = "$SYS.REQ.SERVER.NOWN.STATSZ";
const SECOND: Duration = Duration::from_secs(1);

/// A collector, the pipeline that plans its epochs, and the test's hand on both.
struct Bench {
    fake: Fake,
    collector: Collector<FakeTransport>,
    pipeline: Pipeline,
    clock: Clock,
    number: u64,
}

impl Bench {
    async fn new() -> Self {
        let (fake, transport) = fake();
        let clock = Clock::for_tests();
        let collector =
            Collector::on(transport, clock, CollectorOptions { events: true, raw: true, again: true }).await;
        let pipeline = Pipeline::new(settings());
        Self { fake, collector, pipeline, clock, number: 0 }
    }

    async fn healthy() -> Self {
        let bench = Self::new().await;
        let reply = |name| jsz(name, Some("s1"), &[]);
        bench.fake.answers(PING_JSZ, vec![(1, reply("s1")), (2, reply("s2")), (3, reply("s3"))]);
        bench.fake.answers(OWN_STATSZ, vec![(1, statsz("s1"))]);
        bench
    }

    async fn epoch(&mut self) -> Gathered {
        self.number += 1;
        let plan = self.pipeline.plan(self.number, self.clock.now(), SECOND * 5);
        let gathered = self.collector.epoch(plan).await;
        self.pipeline.step(&gathered);
        gathered
    }

    async fn rest(&mut self, duration: Duration) -> (WakeReason, Duration) {
        let before = self.clock.now();
        let woken = self.collector.idle_until(before.plus(duration)).await;
        (woken, self.clock.now().since(before))
    }
}

fn settings() -> Settings {
    let monitor = crate::event::Monitor { name: "t".into(), version: "0".into(), instance: "i".into() };
    Settings { rules: Default::default(), life: Default::default(), monitor, prefix: "metawatch".into() }
}

fn refused(operation: Operation, subject: &str) -> LinkEvent {
    LinkEvent::PermissionDenied { operation, subject: subject.to_owned() }
}

fn took(gathered: &Gathered) -> u128 {
    gathered.closed.since(gathered.opened).as_millis()
}

#[tokio::test(start_paused = true)]
async fn an_epoch_ends_with_its_last_reply() {
    let mut bench = Bench::healthy().await;
    let first = bench.epoch().await;
    assert_eq!((first.ended, first.replies.len()), (Ended::AllHeard, 3));
    let asked = bench.fake.asked();
    assert_eq!(asked, [format!("{PING_JSZ} _INBOX.t.1.jsz"), format!("{OWN_STATSZ} _INBOX.t.1.statsz")]);
    let second = bench.epoch().await;
    assert_eq!((second.ended, second.replies.len(), took(&second)), (Ended::AllHeard, 3, 3));
    assert_eq!(bench.fake.asked(), [format!("{PING_JSZ} _INBOX.t.2.jsz")]);
    assert_eq!(bench.collector.take_capture().replies.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn outside_the_system_account_it_ends_at_once() {
    let mut bench = Bench::new().await;
    bench.fake.answers(OWN_STATSZ, vec![(1, Answer::Status(StatusCode::NO_RESPONDERS))]);
    bench.fake.answers(PING_JSZ, vec![(2, Answer::Status(StatusCode::NO_RESPONDERS))]);
    let gathered = bench.epoch().await;
    assert_eq!((gathered.ended, took(&gathered)), (Ended::NoResponders, 2));
    assert_eq!(bench.collector.trouble(&gathered), Some(Trouble::NotSystemAccount));
}

#[tokio::test(start_paused = true)]
async fn without_a_connection_it_ends_at_once_and_asks_nothing() {
    let mut bench = Bench::healthy().await;
    bench.fake.world.lock().unwrap().disconnected = true;
    let gathered = bench.epoch().await;
    assert_eq!((gathered.ended, took(&gathered)), (Ended::Disconnected, 0));
    assert_eq!(bench.collector.trouble(&gathered), Some(Trouble::Disconnected));
    assert!(bench.fake.asked().is_empty());
    assert_eq!(bench.rest(SECOND).await, (WakeReason::Time, SECOND));
}

#[tokio::test(start_paused = true)]
async fn silence_costs_the_deadline_and_is_a_trouble_of_ours() {
    let mut bench = Bench::new().await;
    let gathered = bench.epoch().await;
    assert_eq!((gathered.ended, took(&gathered)), (Ended::Deadline, 5_000));
    assert_eq!(bench.collector.trouble(&gathered), Some(Trouble::NoReply));
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_is_not_repeated_every_epoch() {
    let mut bench = Bench::new().await;
    let refusal = refused(Operation::Publish, PING_JSZ);
    let asking = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        bench.fake.link(refusal.clone());
    };
    let fake = bench.fake.clone();
    let plan = bench.pipeline.plan(1, bench.clock.now(), SECOND * 5);
    let (gathered, ()) = tokio::join!(bench.collector.epoch(plan), asking);
    assert_eq!((gathered.ended, took(&gathered)), (Ended::Denied, 1));
    assert_eq!(bench.collector.trouble(&gathered), Some(Trouble::MayNotAsk));
    fake.asked();
    let gathered = bench.epoch().await;
    assert_eq!((gathered.ended, took(&gathered)), (Ended::Denied, 0));
    assert!(fake.asked().is_empty());
    bench.rest(SECOND * 10).await;
    bench.epoch().await;
    assert_eq!(fake.asked().len(), 2, "tried again");
}

#[tokio::test(start_paused = true)]
async fn a_refused_inbox_is_subscribed_again_later() {
    let mut bench = Bench::new().await;
    bench.fake.link(refused(Operation::Subscribe, "_INBOX.t.*.*"));
    let gathered = bench.epoch().await;
    assert_eq!(gathered.ended, Ended::Denied);
    assert_eq!(bench.collector.trouble(&gathered), Some(Trouble::MayNotHear));
    bench.rest(SECOND * 10).await;
    let reply = |name| jsz(name, Some("s1"), &[]);
    bench.fake.answers(PING_JSZ, vec![(1, reply("s1")), (2, reply("s2")), (3, reply("s3"))]);
    let gathered = bench.epoch().await;
    assert_eq!(gathered.replies.len(), 3);
    let listened = bench.fake.world.lock().unwrap().listened.clone();
    assert_eq!(
        listened,
        [
            Subscription::Inbox,
            Subscription::Shutdown,
            Subscription::Lameduck,
            Subscription::Elected,
            Subscription::Advisories,
            Subscription::Inbox
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_statsz_is_left_out_until_another_connection() {
    let mut bench = Bench::healthy().await;
    bench.epoch().await;
    bench.fake.link(refused(Operation::Publish, PING_STATSZ));
    bench.fake.answers(PING_JSZ, vec![(1, jsz("s1", Some("s1"), &[])), (2, jsz("s2", Some("s1"), &[]))]);
    bench.epoch().await;
    bench.fake.asked();
    let gathered = bench.epoch().await;
    assert!(!gathered.asked_statsz);
    assert_eq!(bench.fake.asked().len(), 1);
    bench.fake.link(LinkEvent::Connected);
    let gathered = bench.epoch().await;
    assert!(gathered.asked_statsz);
    assert_eq!(bench.fake.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_comes_between_epochs_is_heard_by_the_next() {
    let mut bench = Bench::healthy().await;
    bench.epoch().await;
    let Answer::Payload(late) = jsz("s3", Some("s1"), &[]) else { unreachable!() };
    bench.fake.reply("_INBOX.t.1.jsz", &late);
    bench.fake.reply("_INBOX.t.1.nonsense", "");
    assert_eq!(bench.rest(SECOND).await, (WakeReason::Time, SECOND));
    bench.fake.stop("s3");
    assert_eq!(bench.rest(SECOND).await, (WakeReason::Event, Duration::ZERO));
    let gathered = bench.epoch().await;
    assert_eq!((gathered.counts.late, gathered.counts.unexpected), (1, 1));
    assert_eq!(gathered.announcements.len(), 1);
    assert!(gathered.announcements[0].0 <= gathered.opened);
    assert_eq!(bench.collector.take_capture().events.len(), 1);
    assert_eq!(bench.rest(SECOND).await, (WakeReason::Time, SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_an_epoch_calls_for_another() {
    let mut bench = Bench::healthy().await;
    bench.epoch().await;
    let plan = bench.pipeline.plan(2, bench.clock.now(), SECOND * 5);
    let fake = bench.fake.clone();
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        fake.stop("s3");
    };
    let (gathered, ()) = tokio::join!(bench.collector.epoch(plan), stopping);
    assert_eq!(gathered.announcements.len(), 1);
    assert_eq!(bench.rest(SECOND).await, (WakeReason::Event, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_late_replies_is_counted_and_costs_the_next_epoch_nothing() {
    let mut bench = Bench::healthy().await;
    bench.epoch().await;
    for _ in 0..5_000 {
        bench.fake.reply("_INBOX.t.0.jsz", "{}");
    }
    bench.rest(SECOND).await;
    let gathered = bench.epoch().await;
    // They answer an epoch that is over: nothing of this one is lost.
    assert_eq!((gathered.counts.late, gathered.counts.dropped), (5_000, 0));
    assert!(gathered.counts_absence());
    assert_eq!(bench.epoch().await.counts.dropped, 0);
}

#[tokio::test(start_paused = true)]
async fn members_that_have_become_slow_are_waited_for_although_epochs_follow_quickly() {
    let mut bench = Bench::healthy().await;
    for _ in 0..3 {
        assert_eq!(bench.epoch().await.heard, 3);
        bench.rest(SECOND).await;
    }
    // Nobody knows yet that their way is longer now.
    let reply = |name| jsz(name, Some("s1"), &[]);
    bench.fake.answers(PING_JSZ, vec![(1, reply("s1")), (700, reply("s2")), (700, reply("s3"))]);
    let mut heard = Vec::new();
    for _ in 0..8 {
        heard.push(bench.epoch().await.heard);
        bench.rest(Duration::from_millis(250)).await;
    }
    assert_eq!(heard[4..], [3, 3, 3, 3], "{heard:?}");
}

#[tokio::test(start_paused = true)]
async fn the_loss_of_the_connection_ends_an_epoch_and_its_return_a_rest() {
    let mut bench = Bench::new().await;
    let fake = bench.fake.clone();
    let losing = async {
        tokio::time::sleep(Duration::from_millis(7)).await;
        fake.world.lock().unwrap().disconnected = true;
        fake.link(LinkEvent::Disconnected);
    };
    let plan = bench.pipeline.plan(1, bench.clock.now(), SECOND * 5);
    let (gathered, ()) = tokio::join!(bench.collector.epoch(plan), losing);
    assert_eq!((gathered.ended, took(&gathered)), (Ended::Disconnected, 7));
    bench.fake.world.lock().unwrap().disconnected = false;
    bench.fake.link(LinkEvent::Connected);
    assert_eq!(bench.rest(SECOND).await, (WakeReason::Connected, Duration::ZERO));
    let news: Vec<_> = bench.collector.take_news().into();
    assert_eq!(news, [LinkEvent::Disconnected, LinkEvent::Connected]);
}

#[tokio::test(start_paused = true)]
async fn an_old_loss_does_not_end_an_epoch_and_an_unheard_one_does() {
    let mut bench = Bench::healthy().await;
    let fake = bench.fake.clone();
    let telling = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        fake.link(LinkEvent::Disconnected);
        fake.link(LinkEvent::Connected);
    };
    let plan = bench.pipeline.plan(1, bench.clock.now(), SECOND * 5);
    let (gathered, ()) = tokio::join!(bench.collector.epoch(plan), telling);
    assert_eq!(gathered.ended, Ended::AllHeard);

    let mut bench = Bench::new().await;
    let fake = bench.fake.clone();
    let losing = async {
        tokio::time::sleep(SECOND).await;
        fake.world.lock().unwrap().disconnected = true;
    };
    let plan = bench.pipeline.plan(1, bench.clock.now(), SECOND * 5);
    let (gathered, ()) = tokio::join!(bench.collector.epoch(plan), losing);
    assert_eq!((gathered.ended, took(&gathered)), (Ended::Disconnected, 5_000));
}

#[tokio::test(start_paused = true)]
async fn a_server_in_lame_duck_mode_is_left_once_the_alert_about_it_had_time_to_go_out() {
    let mut bench = Bench::healthy().await;
    bench.epoch().await;
    let left = |bench: &Bench| bench.fake.world.lock().unwrap().left;
    bench.fake.link(LinkEvent::LameDuck);
    let half = LAME_DUCK_STAY / 2;
    let away = Duration::from_millis(7);
    assert_eq!(bench.rest(half).await, (WakeReason::Time, half));
    bench.epoch().await;
    assert_eq!(left(&bench), 0);
    let fake = bench.fake.clone();
    let moving = async {
        tokio::time::sleep(away).await;
        fake.link(LinkEvent::Disconnected);
        fake.link(LinkEvent::Connected);
    };
    assert_eq!(bench.rest(half).await, (WakeReason::Time, half));
    let before = bench.clock.now();
    let (gathered, ()) = tokio::join!(bench.epoch(), moving);
    assert_eq!((gathered.ended, left(&bench)), (Ended::AllHeard, 1));
    assert_eq!(gathered.opened.since(before), away, "the next epoch waits for the other server");
    assert_eq!(bench.rest(SECOND * 5).await, (WakeReason::Time, SECOND * 5));
    assert_eq!(left(&bench), 1, "once");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_the_connection_itself_is_not_left_and_neither_is_the_next_one() {
    let mut bench = Bench::healthy().await;
    bench.fake.link(LinkEvent::LameDuck);
    bench.fake.link(LinkEvent::Disconnected);
    bench.fake.link(LinkEvent::Connected);
    assert_eq!(bench.rest(SECOND).await.0, WakeReason::Connected);
    bench.rest(LAME_DUCK_STAY * 2).await;
    assert_eq!(bench.fake.world.lock().unwrap().left, 0);
    // Without another server there is nothing to wait for either.
    bench.fake.world.lock().unwrap().alone = true;
    bench.fake.link(LinkEvent::LameDuck);
    assert_eq!(bench.rest(LAME_DUCK_STAY * 2).await, (WakeReason::Time, LAME_DUCK_STAY * 2));
}

#[tokio::test(start_paused = true)]
async fn epochs_of_a_lost_connection_count_against_nobody_and_the_next_one_is_planned_as_before() {
    let mut bench = Bench::healthy().await;
    let before = bench.epoch().await;
    // The own server freezes: one epoch that nobody answers, one that ends with the connection.
    bench.fake.answers(PING_JSZ, Vec::new());
    let silent = bench.epoch().await;
    bench.fake.world.lock().unwrap().disconnected = true;
    let cut = bench.epoch().await;
    assert_eq!((silent.ended, cut.ended), (Ended::Deadline, Ended::Disconnected));
    let fake = bench.fake.clone();
    let reconnecting = async {
        tokio::time::sleep(SECOND).await;
        fake.world.lock().unwrap().disconnected = false;
        fake.link(LinkEvent::Connected);
    };
    let until = bench.clock.now().plus(SECOND * 2);
    let (there, ()) = tokio::join!(bench.collector.reconnected(until), reconnecting);
    assert!(there);
    let plan = bench.pipeline.plan(9, bench.clock.now(), SECOND * 5);
    assert!(!plan.learning && !plan.ask_statsz);
    let asked: Vec<_> = before.respondents.iter().map(|respondent| &respondent.key).collect();
    assert_eq!(plan.expected.iter().map(|(key, _)| key).collect::<Vec<_>>(), asked);
    assert!(plan.expected.iter().all(|(_, expected)| expected.awaited), "nobody is taken for silent");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_return_is_waited_for_as_long_as_there_is_time() {
    let mut bench = Bench::new().await;
    let until = bench.clock.now().plus(SECOND * 2);
    assert!(bench.collector.reconnected(until).await, "it was never lost");
    bench.fake.world.lock().unwrap().disconnected = true;
    bench.fake.link(LinkEvent::Disconnected);
    assert!(!bench.collector.reconnected(until).await);
    assert_eq!(bench.clock.now(), until);
}

#[tokio::test(start_paused = true)]
async fn what_belongs_to_no_request_is_counted() {
    let mut bench = Bench::healthy().await;
    bench.epoch().await;
    bench.fake.answers(PING_JSZ, vec![(1, Answer::Payload("nonsense".into())), (2, jsz("s1", None, &[]))]);
    let fake = bench.fake.clone();
    let odd = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        fake.reply("_INBOX.t.x.jsz", "{}");
        fake.arrives(Incoming::Reply(message("_INBOX.t.2.jsz", "", Some(StatusCode::TIMEOUT))));
        fake.link(LinkEvent::SlowConsumer);
    };
    let plan = bench.pipeline.plan(2, bench.clock.now(), SECOND * 5);
    let (gathered, ()) = tokio::join!(bench.collector.epoch(plan), odd);
    let counts = gathered.counts;
    assert_eq!((counts.unexpected, counts.rejected, counts.dropped), (2, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn one_that_opens_no_epoch_is_woken_by_its_connection_all_the_same_whatever_else_has_come() {
    let mut bench = Bench::healthy().await;
    bench.fake.elect("s2");
    assert_eq!(bench.rest(SECOND).await.0, WakeReason::Event);
    bench.fake.elect("s2");
    bench.fake.link(LinkEvent::Connected);
    let until = bench.clock.now().plus(SECOND);
    assert_eq!(bench.collector.listen_until(until).await, WakeReason::Connected);
    assert_eq!(bench.collector.listen_until(until).await, WakeReason::Time);
    assert_eq!(bench.rest(SECOND).await, (WakeReason::Event, Duration::ZERO), "the next epoch is urgent");
}

#[tokio::test(start_paused = true)]
async fn what_stopped_long_ago_makes_room_for_what_stops_now() {
    let mut bench = Bench::healthy().await;
    for _ in 0..5_000 {
        bench.fake.stop("s9");
    }
    bench.collector.drain();
    let until = bench.clock.now().plus(Duration::from_secs(700));
    assert_eq!(bench.collector.listen_until(until).await, WakeReason::Time);
    bench.fake.stop("s2");
    let gathered = bench.epoch().await;
    let stopped: Vec<&str> =
        gathered.announcements.iter().map(|(_, announcement)| announcement.server.name.as_str()).collect();
    assert_eq!(stopped, ["s2"]);
}
