//! Help, wrong usage, and the commands that only print.

use super::{check, metawatch};

const COMMANDS: [&str; 11] = [
    "run",
    "doctor",
    "check",
    "view",
    "replay",
    "listen",
    "forward",
    "schema",
    "completions",
    "man",
    "install-docs",
];

#[test]
fn every_command_explains_itself_with_an_example() {
    for command in COMMANDS {
        for help in ["-h", "--help"] {
            let example = format!("metawatch {command}");
            check(&[command, help], "", 0, &["Usage: metawatch", "Example", &example], &[]);
        }
    }
    check(&["check", "--help"], "", 0, &["Exit codes:", "3  UNKNOWN", "--creds", "NATS_CREDS"], &[]);
    let flags = ["--publish-mode", "METAWATCH_ALERT_CREDS", "--alert-inbox-prefix", "nats stream add"];
    check(&["run", "--help"], "", 0, &flags, &[]);
    let short = check(&["check", "-h"], "", 0, &["Exit codes:"], &[]);
    assert!(!short.out.contains("--creds"), "the short help leaves the connection out");
    let offline = check(&["schema", "--help"], "", 0, &[], &[]);
    assert!(!offline.out.contains("--creds"), "a command without a connection does not explain one");
    check(&["replay", "--help"], "", 0, &["--connection-name"], &[]);
}

#[test]
fn alone_it_shows_its_commands() {
    let said = check(&[], "", 0, &["Usage: metawatch", "Examples:"], &[]);
    for command in COMMANDS {
        assert!(said.out.contains(&format!("\n  {command}")), "{command}");
    }
    check(&["--version"], "", 0, &[concat!("metawatch ", env!("CARGO_PKG_VERSION"))], &[]);
}

#[test]
fn wrong_usage_is_a_failure_and_unknown_for_a_check() {
    let cases: [(i32, &[&str], &str); 19] = [
        (1, &["frobnicate"], "unrecognized subcommand"),
        (1, &["view", "--frob"], "unexpected argument '--frob'"),
        (1, &["run", "--interval", "10ms"], "it must be at least 100ms"),
        (1, &["run", "--interval", "2h"], "it must be at most 1h"),
        (1, &["run", "--interval", "soon"], "write a duration like 500ms"),
        (1, &["run", "--resolve-after", "0"], "0 is not in 1..=1000"),
        (1, &["run", "--prefix", "a.*"], "without wildcards or blanks"),
        (1, &["run", "--prefix", "a b"], "without wildcards or blanks"),
        (1, &["run", "--prefix", "$SYS.x"], "belong to the servers"),
        (1, &["run", "--publish-mode", "quic"], "possible values: core, jetstream"),
        (1, &["run", "--alert-password", "p"], "--alert-password is given without a user"),
        (1, &["run", "--alert-context", "absent"], "the context \"absent\" (--alert-context)"),
        (1, &["listen", "--prefix", "$JS"], "belong to the servers"),
        (1, &["run", "--system", "a b"], "letters, digits, dots, hyphens and underscores"),
        (1, &["view", "--server", ""], "it names no server"),
        (3, &["check", "--server", ""], "it names no server"),
        (1, &["listen", "--server", " , "], "--server names no server"),
        (1, &["run", "--alert-server", ""], "it names no server"),
        (3, &["check", "--format", "xml"], "possible values: nagios, json, prometheus, text"),
    ];
    for (code, arguments, words) in cases {
        let said = check(arguments, "", code, &[], &[words, "error: ", "hint: "]);
        assert_eq!(said.out, "", "{arguments:?}");
    }
    check(&["-v", "check", "--frob"], "", 3, &[], &["unexpected argument"]);
}

#[test]
fn the_flags_of_the_connection_stand_before_and_behind_the_command() {
    let refused = "cannot";
    for arguments in [
        ["--server", "nats://127.0.0.1:1", "--timeout", "1s", "view"],
        ["view", "--server", "nats://127.0.0.1:1", "--timeout", "1s"],
    ] {
        let said = check(&arguments, "", 1, &[], &["error: ", "hint: "]);
        assert!(!said.err.contains("unexpected argument"), "{refused}: {said:?}");
    }
}

#[test]
fn the_schema_is_json_and_names_the_fields_of_an_event() {
    let said = check(&["schema"], "", 0, &[], &[]);
    let schema: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    for field in ["type", "id", "timestamp", "check", "state", "incident", "seq", "summary", "group", "epoch"]
    {
        assert!(schema["properties"][field].is_object(), "{field}");
    }
}

#[test]
fn completions_and_the_manual_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = super::run(&["completions", shell], "");
        assert_eq!(said.code, Some(0), "{shell}");
        assert!(COMMANDS.iter().all(|command| said.out.contains(command)), "{shell}");
    }
    check(&["completions", "tcsh"], "", 1, &[], &["error: "]);
    let words = [".TH metawatch 1", ".SH \"METAWATCH CHECK\"", "lost\\-contact", "METAWATCH_CREDS"];
    check(&["man"], "", 0, &words, &[]);
}

#[test]
fn one_command_installs_the_manual_and_the_completions_where_they_are_looked_for() {
    let home = tempfile::tempdir().expect("a directory");
    let prefix = home.path().join("new");
    let said = super::run(&["install-docs", "--prefix", prefix.to_str().expect("UTF-8")], "");
    assert_eq!(said.code, Some(0), "{said:?}");
    let expected = [
        ("share/man/man1/metawatch.1", ".TH metawatch 1"),
        ("share/bash-completion/completions/metawatch", "complete -F _metawatch"),
        ("share/zsh/site-functions/_metawatch", "#compdef metawatch"),
        ("share/fish/vendor_completions.d/metawatch.fish", "complete -c metawatch"),
    ];
    let told: Vec<&str> = said.out.lines().collect();
    for ((path, words), told) in expected.iter().zip(told) {
        let path = prefix.join(path);
        assert_eq!(told, path.to_str().expect("UTF-8"));
        assert!(std::fs::read_to_string(&path).expect("a file").contains(words), "{words}");
    }
    let taken = home.path().join("taken");
    std::fs::write(&taken, "").expect("a file");
    let said = super::run(&["install-docs", "--prefix", taken.to_str().expect("UTF-8")], "");
    assert!(said.code == Some(1) && said.err.contains("hint: name another one with --prefix"), "{said:?}");
}

#[test]
fn secrets_are_never_printed() {
    let mut command =
        metawatch(&["view", "-v", "--token", "s3cr3t", "-s", "nats://127.0.0.1:1", "--timeout", "1s"]);
    let said = super::Said::from(command.output().expect("it runs"));
    assert!(said.code == Some(1) && !said.err.contains("s3cr3t") && !said.out.contains("s3cr3t"), "{said:?}");
    let mut command = metawatch(&["view", "--help"]);
    command.env("NATS_PASSWORD", "s3cr3t").env("METAWATCH_TOKEN", "s3cr3t").env("METAWATCH_FROM", "s3cr3t");
    let said = super::Said::from(command.output().expect("it runs"));
    assert!(said.code == Some(0) && !said.out.contains("s3cr3t"), "{said:?}");
}

#[test]
fn what_is_told_is_one_json_object_a_line_where_that_is_asked_for() {
    let unreachable = ["check", "-s", "nats://127.0.0.1:1", "--timeout", "1s"];
    let as_flag = metawatch(&[&unreachable[..], &["--log-format", "json"]].concat());
    let mut as_variable = metawatch(&unreachable);
    as_variable.env("METAWATCH_LOG_FORMAT", "json").env("METAWATCH_LOG", "metawatch=debug");
    for mut command in [as_flag, as_variable] {
        let said = super::Said::from(command.output().expect("it runs"));
        assert_eq!(said.code, Some(3), "{said:?}");
        let lines: Vec<serde_json::Value> =
            said.err.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let failure = lines.iter().find(|line| line["level"] == "ERROR").expect("an error");
        for field in ["timestamp", "message", "hint"] {
            assert!(failure[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {failure}");
        }
    }
    let mut filtered = metawatch(&[&unreachable[..], &["--log-format", "json"]].concat());
    let said = super::Said::from(filtered.env("METAWATCH_LOG", "off").output().expect("it runs"));
    assert!(said.err.starts_with("error: "), "why it failed is told whatever the log shows: {said:?}");
    check(&["check", "--log-format", "xml"], "", 3, &[], &["possible values: text, json"]);
}
