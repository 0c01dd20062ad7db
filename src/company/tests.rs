use super::*;

const BEAT: Duration = Duration::from_secs(1);

fn at(millis: i64) -> Stamp {
    Stamp::new(millis * 1_000_000, (1_795_380_222_000 + millis) * 1_000_000)
}

fn company(name: &str, started: i64) -> Company {
    Company::new(Me { instance: name.into(), name: name.into(), started_ns: started }, BEAT)
}

/// Lets time pass: the company hears its own words, and says what it has become at the end.
fn pass(company: &mut Company, from: i64, to: i64) -> Role {
    for millis in (from..=to).step_by(100) {
        let own = company.word(at(millis));
        assert_eq!(company.hear(own, at(millis)), Heard::Nothing);
        company.turn(true, at(millis));
    }
    company.role()
}

fn speaks(name: &str, claim_ns: i64) -> Word {
    let mut other = company(name, 0);
    other.able = true;
    other.role = Role::Speaking;
    other.edition = Some(Edition { term: 1, revision: 1, of: name.into() });
    Word { claim_ns: Some(claim_ns), ..other.word(at(0)) }
}

#[test]
fn a_watcher_that_is_alone_listens_and_then_speaks() {
    let mut alone = company("a", 0);
    assert_eq!(pass(&mut alone, 0, 700), Role::Joining);
    assert_eq!(pass(&mut alone, 800, 800), Role::Claiming);
    assert_eq!(pass(&mut alone, 900, 1_000), Role::Speaking);
    assert!(alone.may_speak(at(1_000)));
    assert_eq!((alone.speaker(), alone.size()), (Some("a"), 1));
}

#[test]
fn one_that_does_not_hear_itself_any_more_stops_speaking_before_others_take_over() {
    let mut alone = company("a", 0);
    pass(&mut alone, 0, 1_000);
    assert!(alone.may_speak(at(2_500)) && !alone.may_speak(at(2_600)));
    assert_eq!(alone.turn(true, at(2_600)), Role::Joining);
    // The others wait longer than that.
    let mut other = company("b", 1);
    pass(&mut other, 0, 500);
    other.hear(speaks("a", 1), at(600));
    assert_eq!(pass(&mut other, 700, 2_600), Role::Silent);
    assert_eq!(pass(&mut other, 2_700, 2_900), Role::Speaking);
}

#[test]
fn one_that_may_not_hear_the_others_speaks_all_the_same() {
    let mut deaf = company("a", 0);
    deaf.set_denied(true);
    deaf.turn(true, at(0));
    assert_eq!(deaf.turn(true, at(200)), Role::Speaking);
    // Without a word of the server about it, after a while.
    let mut unheard = company("b", 0);
    assert_eq!(unheard.turn(true, at(0)), Role::Joining);
    assert_eq!(unheard.turn(true, at(3_000)), Role::Joining);
    unheard.turn(true, at(3_100));
    assert_eq!(unheard.turn(true, at(3_300)), Role::Speaking);
    // But never while it sees no server: then it is the connection.
    let mut blind = company("c", 0);
    assert_eq!(blind.turn(false, at(60_000)), Role::Joining);
}

#[test]
fn words_that_cannot_be_believed_are_counted_and_change_nothing() {
    let mut company = company("a", 0);
    pass(&mut company, 0, 1_000);
    let good = speaks("b", 1);
    let bad = [
        Word { v: 1, ..good.clone() },
        Word { instance: String::new(), ..good.clone() },
        Word { instance: "x".repeat(129), ..good.clone() },
        Word { name: "x".repeat(129), ..good.clone() },
        // Numbers that nobody comes to.
        Word { started_ns: -1, ..good.clone() },
        Word { claim_ns: Some(i64::MIN), ..good.clone() },
        Word { claim_ns: Some(i64::MAX), ..good.clone() },
        Word { keeps: Some(Edition { term: u64::MAX, revision: 1, of: "b".into() }), ..good.clone() },
        Word { heard_out: Some(Edition { term: 1, revision: u64::MAX, of: "b".into() }), ..good.clone() },
        Word { keeps: Some(Edition { term: 1, revision: 1, of: "x".repeat(129) }), ..good.clone() },
        // An echo from the future.
        Word { sent_ns: i64::MAX, ..company.word(at(1_000)) },
    ];
    for (number, word) in (1..).zip(bad) {
        assert_eq!(company.hear(word.clone(), at(1_000)), Heard::Nothing, "{word:?}");
        assert_eq!(company.refused(), number, "{word:?}");
    }
    assert_eq!(company.turn(true, at(1_000)), Role::Speaking);
    for number in 0..1_000 {
        company.hear(speaks(&format!("s{number}"), i64::MAX - 1), at(1_000));
    }
    assert_eq!(company.size(), 65, "strangers are not remembered without limit");
}

#[test]
fn half_a_ledger_is_none_and_pages_that_cannot_be_are_nothing() {
    let mut company = company("b", 1);
    pass(&mut company, 0, 500);
    let speaker = speaks("a", 1);
    let edition = Edition { term: 1, revision: 1, of: "a".into() };
    let page = |number: usize, of: usize| {
        Page {
        edition: edition.clone(),
        number,
        of,
        yields: false,
        text: r#"{"lineage":[],"ledger":{"alerts":[]}}"#.chars().skip(number.saturating_mul(20)).take(if of == 2 { 20 } else { 99 }).collect(),
    }
    };
    let mut hear = |page: Page| company.hear(Word { page: Some(page), ..speaker.clone() }, at(600));
    for (number, of) in [(0, 0), (5, 5), (0, usize::MAX), (usize::MAX, 2)] {
        assert_eq!(hear(page(number, of)), Heard::Nothing, "{number} of {of}");
    }
    assert_eq!(hear(page(1, 2)), Heard::Nothing);
    assert_eq!(hear(page(1, 2)), Heard::Nothing, "the same page twice is one");
    assert_eq!(hear(page(0, 2)), Heard::Adopt(Ledger::default()));
    assert_eq!(hear(page(0, 1)), Heard::Nothing, "it is known already");
}

/// What the parts of an empty ledger say with this lineage.
fn text_of(lineage: &[Edition]) -> String {
    let lineage = serde_json::to_string(lineage).expect("JSON");
    format!(r#"{{"lineage":{lineage},"ledger":{{"alerts":[]}}}}"#)
}

#[test]
fn a_ledger_of_a_lineage_that_cannot_be_is_not_taken_over() {
    let mut company = company("b", 1);
    pass(&mut company, 0, 500);
    let edition = |revision: u64| Edition { term: 1, revision, of: "a".into() };
    let page = |text: String| Page { edition: edition(3), number: 0, of: 1, yields: false, text };
    let mut hear = |text: String| {
        let heard = company.hear(Word { page: Some(page(text)), ..speaks("a", 1) }, at(600));
        (heard, company.refused())
    };
    assert_eq!(hear(text_of(&[edition(u64::MAX)])), (Heard::Nothing, 1));
    assert_eq!(hear(text_of(&[edition(2)])), (Heard::Adopt(Ledger::default()), 1));
}

proptest::proptest! {
    /// Whatever numbers another watcher sends, this one decides, and its own terms and revisions go on
    /// counting.
    #[test]
    fn no_number_of_another_watcher_wraps_ours(
        sent: i64, started: i64, claim: Option<i64>, terms: [u64; 2], revisions: [u64; 2], yields: bool,
    ) {
        let mut company = company("a", 0);
        pass(&mut company, 0, 1_000);
        let edition = |which: usize| {
            Edition { term: terms[which], revision: revisions[which], of: "b".into() }
        };
        let page = Page {
            edition: edition(0), number: 0, of: 1, yields,
            text: text_of(&[edition(1)]),
        };
        let word = Word {
            sent_ns: sent, started_ns: started, claim_ns: claim, keeps: Some(edition(0)),
            heard_out: Some(edition(1)),
            page: Some(page), ..speaks("b", 1)
        };
        let sound = is_sound(&word);
        company.hear(word, at(1_000));
        proptest::prop_assert_eq!(company.refused(), u64::from(!sound));
        company.turn(true, at(1_100));
        pass(&mut company, 1_200, 6_000);
        proptest::prop_assert!(company.may_speak(at(6_000)), "it is alone again");
        let before = company.edition.clone().expect("an edition");
        let system = Some("one".to_owned());
        let changed = company.keep(Ledger { system, ..Ledger::default() });
        proptest::prop_assert!(changed);
        let after = company.edition.clone().expect("an edition");
        proptest::prop_assert!(after.revision > before.revision && after.term == before.term);
    }
}
