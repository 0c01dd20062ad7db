use super::*;
use crate::check::Verdict;
use crate::report::settled::{EPOCHS_MIN, SETTLED};
use crate::shell::collect::fake::{Fake, fake, jsz, statsz};
use crate::shell::collect::{PING_JSZ, Trouble};
use crate::shell::config::{ConnectFlags, Env};
use crate::shell::connect::LinkEvent;
use crate::shell::failure::FailureKind;

struct Outcome {
    looked: Result<Looked, Failure>,
    told: Vec<String>,
    took: Duration,
}

async fn check(set_up: impl FnOnce(&Fake)) -> Outcome {
    let (fake, port) = fake();
    fake.answers("$SYS.REQ.SERVER.NOWN.STATSZ", vec![(1, statsz("s1"))]);
    set_up(&fake);
    let clock = Clock::for_tests();
    let mut collector = Collector::on(port, clock, CollectorOptions::default()).await;
    let monitor = crate::event::Monitor { name: "t".into(), version: "0".into(), instance: "i".into() };
    let settings =
        Settings { rules: Default::default(), life: Default::default(), monitor, prefix: "metawatch".into() };
    let config = ConnectConfig::resolve(&ConnectFlags::default(), &Env::default()).unwrap();
    let mut told = Vec::new();
    let mut progress = |text: &str| told.push(text.to_owned());
    let mut how = Look::UntilSettled { progress: &mut progress };
    let looked = look_through(&mut collector, clock, &config, &mut Pipeline::new(settings), &mut how).await;
    Outcome { looked, told, took: clock.now().since(Stamp::new(0, 0)) }
}

fn verdicts(outcome: &Outcome) -> Vec<Verdict> {
    let looked = outcome.looked.as_ref().expect("a look");
    let mut verdicts: Vec<_> = looked.step.findings.iter().map(|finding| finding.verdict).collect();
    verdicts.sort();
    verdicts
}

fn millis(outcome: &Outcome) -> u128 {
    outcome.took.as_millis()
}

#[tokio::test(start_paused = true)]
async fn health_takes_one_epoch() {
    let outcome = check(|fake| {
        let reply = |name| jsz(name, Some("s1"), &[]);
        fake.answers(PING_JSZ, vec![(1, reply("s1")), (2, reply("s2")), (3, reply("s3"))]);
    })
    .await;
    assert!(verdicts(&outcome).iter().all(|verdict| *verdict == Verdict::Clear), "{:?}", verdicts(&outcome));
    assert_eq!(outcome.looked.unwrap().epochs, 1);
    assert!(outcome.took < Duration::from_millis(20), "{:?}", outcome.took);
    assert!(outcome.told.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_reported_fault_is_final() {
    let outcome = check(|fake| {
        let reply = |name| jsz(name, Some("s1"), &["s3"]);
        fake.answers(PING_JSZ, vec![(1, reply("s1")), (2, reply("s2"))]);
    })
    .await;
    assert!(verdicts(&outcome).contains(&Verdict::Fault));
    assert!(millis(&outcome) < 7_000, "{:?}", outcome.took);
    assert!(outcome.told.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_looked_at_long_enough_to_be_suspected() {
    let outcome = check(|fake| {
        let reply = |name| jsz(name, Some("s1"), &[]);
        fake.answers(PING_JSZ, vec![(1, reply("s1")), (2, reply("s2"))]);
    })
    .await;
    assert!(verdicts(&outcome).contains(&Verdict::Suspect), "{:?}", verdicts(&outcome));
    assert!(outcome.looked.as_ref().unwrap().epochs >= EPOCHS_MIN);
    assert!(outcome.took >= SETTLED && outcome.took < Duration::from_secs(8), "{:?}", outcome.took);
}

#[tokio::test(start_paused = true)]
async fn a_group_without_a_leader_is_given_the_time_of_an_election() {
    let outcome = check(|fake| {
        let reply = |name| jsz(name, None, &[]);
        fake.answers(PING_JSZ, vec![(1, reply("s1")), (2, reply("s2")), (3, reply("s3"))]);
    })
    .await;
    assert!(verdicts(&outcome).contains(&Verdict::Fault), "no leader for so long: {:?}", verdicts(&outcome));
    assert_eq!(outcome.told.len(), 1);
    assert!(outcome.took > Duration::from_secs(10) && outcome.took < Duration::from_secs(13));
}

#[tokio::test(start_paused = true)]
async fn no_reply_is_a_failure_of_access() {
    let outcome = check(|_| {}).await;
    let failure = outcome.looked.expect_err("a failure");
    // The floor of the own STATSZ is no answer to the question.
    assert_eq!(failure.kind(), FailureKind::NoReply);
    assert!(failure.hint().contains("_INBOX.>"));
    let kinds = [Trouble::NotSystemAccount, Trouble::MayNotAsk, Trouble::MayNotHear, Trouble::Disconnected]
        .map(|trouble| trouble.failure("_INBOX").kind());
    let (permission, gone) = (FailureKind::Permission, FailureKind::Disconnected);
    assert_eq!(kinds, [FailureKind::NotSystemAccount, permission, permission, gone]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_lost_later_leaves_what_was_seen() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let outcome = check(|fake| {
        let reply = |name| jsz(name, Some("s1"), &[]);
        fake.answers(PING_JSZ, vec![(1, reply("s1")), (2, reply("s2"))]);
        let fake = fake.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(5_400)).await;
            fake.world.lock().unwrap().disconnected = true;
            sender.send(()).unwrap();
        });
    })
    .await;
    receiver.await.unwrap();
    assert_eq!(outcome.looked.expect("what was seen").step.view.epoch.heard, 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_lost_before_anything_was_seen_is_waited_for_within_the_timeout() {
    let reply = |name| jsz(name, Some("s1"), &[]);
    for (returns_after, seen) in [(2_000, true), (60_000, false)] {
        let outcome = check(|fake| {
            fake.world.lock().unwrap().disconnected = true;
            fake.answers(PING_JSZ, vec![(1, reply("s1")), (2, reply("s2")), (3, reply("s3"))]);
            let fake = fake.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(returns_after)).await;
                fake.world.lock().unwrap().disconnected = false;
                fake.link(LinkEvent::Connected);
            });
        })
        .await;
        let took = outcome.took;
        match outcome.looked {
            Ok(looked) => assert!(seen && looked.epochs == 1 && took < Duration::from_secs(3), "{took:?}"),
            Err(failure) => {
                assert!(!seen && took == Duration::from_secs(5), "{took:?}");
                assert_eq!(failure.kind(), FailureKind::Disconnected);
            }
        }
    }
}
