use super::*;

#[test]
fn an_id_is_a_few_plain_characters() {
    for good in ["prod", "EU-west.1_a", &"x".repeat(SYSTEM_MAX)] {
        assert_eq!(SystemId::parse(good).expect("an id").to_string(), good);
    }
    for bad in ["", "a b", "a/b", "größe", "a\n", "*", &"x".repeat(SYSTEM_MAX + 1)] {
        assert_eq!(SystemId::parse(bad), Err(NoSystemId), "{bad:?}");
    }
}

#[test]
fn what_was_given_stays_and_what_was_learned_follows_the_speaker() {
    let mut known = KnownSystem::given(SystemId::parse("prod").expect("an id"));
    assert_eq!((known.learn("prod"), known.take_other()), (Ok(()), None));
    assert_eq!((known.learn("other"), known.id()), (Ok(()), Some("prod")));
    assert_eq!(known.take_other().map(|other| other.to_string()).as_deref(), Some("other"), "it is told");
    assert_eq!((known.learn("other"), known.take_other()), (Ok(()), None), "once");
    let mut known = KnownSystem::default();
    assert_eq!(known.id(), None);
    for id in ["one", "other"] {
        assert_eq!((known.learn(id), known.id()), (Ok(()), Some(id)));
    }
    assert_eq!((known.learn("\u{1b}[2J"), known.id()), (Err(NoSystemId), Some("other")));
}
