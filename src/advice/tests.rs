use super::*;
use crate::check::CauseKind;
use crate::diagnosis::{Diagnosis, DiagnosisKind};

fn case() -> PeerCase<'static> {
    let (name, id) = (Some("s3"), "3ahZoO2Q");
    PeerCase { name, id, can_agree: true, through: None, off_since_start: false, diagnosis: &[] }
}

fn removals(advice: &[Advice]) -> Vec<&str> {
    let commands = advice.iter().filter_map(|advice| advice.command.as_deref());
    commands.filter(|command| command.contains("remove") || command.contains("REMOVE")).collect()
}

fn diagnosed(kind: DiagnosisKind) -> Vec<Diagnosis> {
    let said = |text: &str| text.to_owned();
    vec![Diagnosis {
        server: said("s3"),
        asked: said("HEALTHZ"),
        says: said("x"),
        kind: Some(kind),
        missing: Vec::new(),
    }]
}

#[test]
fn commands_cannot_be_extended_by_a_name() {
    for (name, quoted) in [
        ("s3", "s3"),
        ("nats-0.nats", "nats-0.nats"),
        ("a b", "'a b'"),
        ("x'; reboot #", r"'x'\''; reboot #'"),
        ("--force", "'--force'"),
        ("n\nreboot", r"'n\u{a}reboot'"),
        ("\"kCGheKT", "'\"kCGheKT'"),
        ("", "''"),
    ] {
        assert_eq!(shell_quoted(name), quoted);
    }
}

#[test]
fn only_what_cannot_come_back_or_was_meant_to_go_is_advised_to_be_removed() {
    use CauseKind as Kind;
    for cause in [
        Kind::Stopping,
        Kind::Crashed,
        Kind::CrashedOrUnreachable,
        Kind::DownBeforeTerm,
        Kind::JetstreamDisabled,
        Kind::FrozenOrPartitioned,
        Kind::FlagContradicted,
        Kind::HiddenFromUs,
        Kind::MonitoringStuck,
        Kind::Ghost,
        Kind::DamagedId,
        Kind::Unlisted,
        Kind::Unknown,
    ] {
        let advice = for_peer(cause, &case());
        assert!(advice.len() >= 2, "{cause:?}");
        let removed: &[&str] = if matches!(cause, Kind::Ghost | Kind::DamagedId) {
            &["nats server cluster peer-remove 3ahZoO2Q"]
        } else {
            &[]
        };
        assert_eq!(removals(&advice), removed, "{cause:?}");
    }
    let diagnosis = diagnosed(DiagnosisKind::NotConfigured);
    let on_purpose = for_peer(Kind::JetstreamDisabled, &PeerCase { diagnosis: &diagnosis, ..case() });
    assert_eq!(removals(&on_purpose), ["nats server cluster peer-remove 3ahZoO2Q"]);
    let diagnosis = diagnosed(DiagnosisKind::NotEnabled);
    let disk = for_peer(Kind::JetstreamDisabled, &PeerCase { diagnosis: &diagnosis, ..case() });
    assert!(removals(&disk).is_empty() && disk.iter().all(|advice| !advice.action.contains("intended")));
}

#[test]
fn a_removal_says_its_condition_and_its_cost() {
    for (cause, condition) in [(CauseKind::Ghost, "if you scaled down"), (CauseKind::DamagedId, "if ")] {
        let advice = for_peer(cause, &case());
        let removal = advice.iter().find(|advice| advice.command.is_some()).expect("a removal");
        assert!(removal.action.contains(condition) && removal.action.contains("shut out for 5 minutes"));
    }
}

#[test]
fn no_removal_is_advised_where_nobody_could_agree_on_it() {
    let advice = for_peer(CauseKind::Ghost, &PeerCase { can_agree: false, ..case() });
    assert!(removals(&advice).is_empty());
    assert!(advice.iter().any(|advice| advice.action.contains("bring the others back first")));
}

#[test]
fn of_two_groups_in_one_system_account_the_right_one_is_asked() {
    let advice = for_peer(CauseKind::Ghost, &PeerCase { through: Some("leaf-1"), ..case() });
    let command = r#"nats --server ADDRESS-OF-leaf-1 request '$JS.API.SERVER.REMOVE' '{"peer":"","peer_id":"3ahZoO2Q"}'"#;
    assert_eq!(removals(&advice), [command]);
    assert!(advice.iter().any(|advice| advice.action.contains("such as leaf-1")));
}

#[test]
fn a_nameless_peer_is_never_started_by_its_id() {
    for cause in [CauseKind::DownBeforeTerm, CauseKind::Crashed] {
        let advice = for_peer(cause, &PeerCase { name: None, ..case() });
        assert!(advice[0].action.starts_with("start the server that is missing"), "{cause:?}");
    }
}

#[test]
fn a_command_carries_the_login_of_the_call() {
    let advice = list().with_login("--context prod");
    assert_eq!(advice.command.as_deref(), Some("nats --context prod server list"));
    assert_eq!(say("x").with_login("--context prod"), say("x"));
    assert_eq!(list().with_login(""), list());
}

#[test]
fn a_leaderless_group_is_told_what_fits_its_case() {
    let words = |cause, kind: Option<DiagnosisKind>| {
        let diagnosis = kind.map(diagnosed).unwrap_or_default();
        let case = GroupCase { missing: Vec::new(), diagnosis: &diagnosis };
        let advice = for_group(cause, &case);
        advice.into_iter().map(|advice| advice.action).collect::<Vec<_>>().join("; ")
    };
    let enough = words(CauseKind::NoLeaderElected, None);
    assert!(!enough.contains("bring") && enough.contains("hub") && enough.contains("come up once"));
    let observers = words(CauseKind::NoLeaderElected, Some(DiagnosisKind::Observer));
    assert!(observers.contains("hub") && !observers.contains("first start"));
    let renamed = words(CauseKind::Renamed, None);
    assert!(renamed.contains("old names back") && renamed.contains("one after the other"));
    assert!(words(CauseKind::TooFewMembers, None).contains("bring back the missing servers"));
}
