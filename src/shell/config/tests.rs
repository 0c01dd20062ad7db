use std::path::Path;

use super::*;

/// Variables with a home of their own, so that no test sees the machine it runs on.
fn around(home: &Path, variables: &[(&str, &str)]) -> Env {
    let home = home.to_str().expect("a path in UTF-8");
    Env::new([("HOME", home)].into_iter().chain(variables.iter().copied()))
}

fn resolve(flags: &ConnectFlags, home: &Path, variables: &[(&str, &str)]) -> Result<ConnectConfig, Failure> {
    ConnectConfig::resolve(flags, &around(home, variables))
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

/// Writes a context, and selects it when asked.
fn context(home: &Path, name: &str, json: &str, select: bool) {
    let nats = home.join(".config/nats");
    std::fs::create_dir_all(nats.join("context")).expect("a directory");
    std::fs::write(nats.join(format!("context/{name}.json")), json).expect("a context");
    if select {
        std::fs::write(nats.join("context.txt"), format!("{name}\n")).expect("a selection");
    }
}

fn some(text: &str) -> Option<Secret> {
    Some(Secret::from(text))
}

fn urls(config: &ConnectConfig) -> Vec<&str> {
    config.servers.iter().map(ServerAddr::as_url_str).collect()
}

fn password(user: &str, password: &str) -> Auth {
    Auth::Password { user: user.into(), password: password.into() }
}

#[test]
fn without_anything_the_local_server_is_used_without_a_login() {
    let home = home();
    let config = resolve(&ConnectFlags::default(), home.path(), &[]).expect("a configuration");
    assert_eq!(urls(&config), ["nats://127.0.0.1:4222"]);
    assert_eq!((config.auth, config.tls, config.context), (Auth::Nothing, Tls::default(), None));
    assert_eq!((config.name.as_str(), config.inbox_prefix.as_str()), ("metawatch", "_INBOX"));
    assert_eq!(config.timeout, Duration::from_secs(5));
}

#[test]
fn a_flag_beats_our_variable_beats_the_nats_variable_beats_the_context() {
    let home = home();
    context(home.path(), "c", r#"{"url": "context", "ca": "/context", "inbox_prefix": "context"}"#, true);
    let all = [
        ("METAWATCH_SERVER", "own"),
        ("NATS_URL", "nats"),
        ("METAWATCH_TLSCA", "/own"),
        ("NATS_CA", "/nats"),
        ("METAWATCH_TIMEOUT", "2s"),
        ("NATS_TIMEOUT", "3s"),
        ("METAWATCH_INBOX_PREFIX", "own"),
    ];
    let flags = ConnectFlags {
        server: some("flag"),
        tlsca: Some("/flag".into()),
        timeout: Some(Duration::from_secs(1)),
        inbox_prefix: Some("flag".into()),
        ..ConnectFlags::default()
    };
    let no_own: Vec<_> = all.into_iter().filter(|(name, _)| !name.starts_with("METAWATCH_")).collect();
    let none = ConnectFlags::default();
    for (flags, variables, who, inbox, seconds) in [
        (&flags, &all[..], "flag", "flag", 1),
        (&none, &all[..], "own", "own", 2),
        (&none, &no_own[..], "nats", "context", 3),
        (&none, &[], "context", "context", 5),
    ] {
        let config = resolve(flags, home.path(), variables).expect(who);
        assert_eq!(urls(&config), [format!("nats://{who}:4222")]);
        assert_eq!(config.tls.ca, Some(PathBuf::from(format!("/{who}"))));
        assert_eq!((config.inbox_prefix.as_str(), config.timeout.as_secs()), (inbox, seconds), "{who}");
    }
}

#[test]
fn every_flag_has_a_variable_of_ours_and_an_empty_one_counts_as_not_set() {
    let home = home();
    context(home.path(), "named", "{}", false);
    context(home.path(), "selected", r#"{"url": "wrong"}"#, true);
    let config = |variables: &[(&str, &str)]| resolve(&ConnectFlags::default(), home.path(), variables);
    let set = config(&[
        ("METAWATCH_CONTEXT", "named"),
        ("METAWATCH_USER", "u"),
        ("METAWATCH_PASSWORD", "p"),
        ("METAWATCH_TLSCERT", "/c"),
        ("METAWATCH_TLSKEY", "/k"),
        ("METAWATCH_TLSFIRST", "yes"),
        ("METAWATCH_CONNECTION_NAME", "me"),
        ("NATS_CREDS", ""),
    ])
    .expect("a configuration");
    assert_eq!(
        (set.auth, set.name.as_str(), set.context.as_deref()),
        (password("u", "p"), "me", Some("named"))
    );
    assert_eq!(set.tls, Tls { ca: None, client: Some(("/c".into(), "/k".into())), first: true });
    for (variable, auth) in [
        ("METAWATCH_TOKEN", Auth::Token("x".into())),
        ("METAWATCH_JWT", Auth::Jwt { jwt: "x".into(), seed: None }),
        ("METAWATCH_CREDS", Auth::Creds(SecretSource::File("x".into()))),
        ("METAWATCH_NKEY", Auth::Nkey(SecretSource::File("x".into()))),
    ] {
        let config = config(&[("METAWATCH_NO_CONTEXT", "true"), (variable, "x")]).expect(variable);
        assert_eq!((config.auth, config.context), (auth, None));
    }
}

#[test]
fn the_login_of_a_stronger_layer_hides_all_logins_below() {
    let home = home();
    let everything =
        r#"{"url": "nats://eve:evil@c", "user": "cu", "password": "cp", "creds": "/cc", "token": "ct"}"#;
    context(home.path(), "all", everything, false);
    context(home.path(), "user", r#"{"user": "cu", "password": "cp"}"#, false);
    context(home.path(), "creds", r#"{"creds": "/cc"}"#, false);
    context(home.path(), "url", r#"{"url": "nats://cu:cp@c"}"#, false);
    let on = |context: &str| ConnectFlags { context: Some(context.into()), ..ConnectFlags::default() };
    let file = |path: &str| Auth::Creds(SecretSource::File(path.into()));
    for (flags, variables, auth) in [
        (on("all"), &[][..], password("cu", "cp")),
        (on("url"), &[], password("cu", "cp")),
        (on("creds"), &[], file("/cc")),
        (ConnectFlags { creds: some("/fc"), ..on("all") }, &[], file("/fc")),
        (ConnectFlags { token: some("ft"), ..on("url") }, &[("NATS_CREDS", "/nc")], Auth::Token("ft".into())),
        (on("all"), &[("NATS_CREDS", "/nc")], file("/nc")),
        // A user of a flag takes a password from the variables, never the one of the context.
        (ConnectFlags { user: some("fu"), ..on("user") }, &[("NATS_PASSWORD", "np")], password("fu", "np")),
        (ConnectFlags { user: some("fu"), ..on("user") }, &[], Auth::Token("fu".into())),
        // A password alone goes with the user of the context.
        (ConnectFlags { password: some("fp"), ..on("user") }, &[], password("cu", "fp")),
        // The address of a server carries a login of its layer, which an explicit one of that layer beats.
        (ConnectFlags { server: some("u:p@h"), ..on("creds") }, &[("NATS_USER", "nu")], password("u", "p")),
        (ConnectFlags { server: some("nats://t%40k@h"), ..on("user") }, &[], Auth::Token("t@k".into())),
        (ConnectFlags { server: some("u:p@h"), creds: some("/fc"), ..on("user") }, &[], file("/fc")),
        (ConnectFlags { token: some("ft"), ..on("url") }, &[], Auth::Token("ft".into())),
    ] {
        let config = resolve(&flags, home.path(), variables).expect("a configuration");
        assert_eq!(config.auth, auth, "{:?} {variables:?}", flags.context);
        assert!(urls(&config).iter().all(|url| !url.contains('@')));
    }
}

#[test]
fn a_context_is_found_by_selection_by_name_and_by_path() {
    let home = home();
    context(home.path(), "one", r#"{"url": "one"}"#, true);
    context(
        home.path(),
        "two",
        r#"{"url": "two", "description": "x", "color_scheme": 7, "other": []}"#,
        false,
    );
    let path = home.path().join("mine.json");
    std::fs::write(&path, r#"{"url": "three"}"#).expect("a context");
    let xdg = self::home();
    context(xdg.path(), "one", r#"{"url": "four"}"#, true);
    let xdg = xdg.path().join(".config");
    let xdg = xdg.to_str().expect("UTF-8");
    let named = |name: &str| ConnectFlags { context: Some(name.into()), ..ConnectFlags::default() };
    let none = ConnectFlags { no_context: true, ..ConnectFlags::default() };
    for (flags, variables, host, context) in [
        (ConnectFlags::default(), &[][..], "one", Some("one")),
        (ConnectFlags::default(), &[("NATS_CONTEXT", "two")], "two", Some("two")),
        (named("two"), &[("NATS_CONTEXT", "absent")], "two", Some("two")),
        (named(path.to_str().expect("UTF-8")), &[], "three", Some("mine")),
        (named("~/mine.json"), &[], "three", Some("mine")),
        (none.clone(), &[("NATS_CONTEXT", "two")], "127.0.0.1", None),
        (
            ConnectFlags::default(),
            &[("METAWATCH_NO_CONTEXT", "1"), ("NATS_CONTEXT", "two")],
            "127.0.0.1",
            None,
        ),
        (ConnectFlags::default(), &[("XDG_CONFIG_HOME", xdg)], "four", Some("one")),
        (ConnectFlags::default(), &[("XDG_CONFIG_HOME", "relative")], "one", Some("one")),
    ] {
        let config = resolve(&flags, home.path(), variables).expect("a configuration");
        assert_eq!((urls(&config)[0], config.context.as_deref()), (&*format!("nats://{host}:4222"), context));
    }
    // Without any home there is nothing selected, and that is fine.
    let nowhere = Env::default();
    assert_eq!(
        ConnectConfig::resolve(&ConnectFlags::default(), &nowhere).map(|config| config.context),
        Ok(None)
    );
}

#[test]
fn where_home_leads_to_no_contexts_those_of_the_account_are_found() {
    let (elsewhere, account) = (home(), home());
    context(account.path(), "one", r#"{"url": "nats://one:4222"}"#, true);
    let around = around(elsewhere.path(), &[]).of_account(account.path());
    let config = ConnectConfig::resolve(&ConnectFlags::default(), &around).expect("a configuration");
    assert_eq!(urls(&config), ["nats://one:4222"]);
    // What HOME leads to comes first.
    context(elsewhere.path(), "two", r#"{"url": "nats://two:4222"}"#, true);
    let config = ConnectConfig::resolve(&ConnectFlags::default(), &around).expect("a configuration");
    assert_eq!(urls(&config), ["nats://two:4222"]);
}

#[test]
fn every_field_of_a_context_is_used() {
    let home = home();
    let tls = r#"{"url": "a,tls://b:1", "cert": "~/c", "key": "$D/k", "ca": "${D}/ca", "tls_first": true,
        "inbox_prefix": "_I.x"}"#;
    context(home.path(), "tls", tls, true);
    let config = resolve(&ConnectFlags::default(), home.path(), &[("D", "/d")]).expect("a configuration");
    assert_eq!(urls(&config), ["nats://a:4222", "tls://b:1"]);
    let client = Some((home.path().join("c"), "/d/k".into()));
    assert_eq!(config.tls, Tls { ca: Some("/d/ca".into()), client, first: true });
    assert_eq!(config.inbox_prefix, "_I.x");
    let seed = format!("SU{}", "A".repeat(56));
    let own = resolve(&ConnectFlags::default(), home.path(), &[("D", "/d"), ("METAWATCH_TLSFIRST", "false")]);
    assert!(!own.expect("a configuration").tls.first);
    for (fields, auth) in [
        (r#""user": "u", "password": "p""#.to_owned(), password("u", "p")),
        (r#""user": "u""#.to_owned(), Auth::Token("u".into())),
        (r#""token": "t", "password": null"#.to_owned(), Auth::Token("t".into())),
        (r#""creds": "~/x.creds""#.to_owned(), Auth::Creds(SecretSource::File(home.path().join("x.creds")))),
        (r#""creds": "", "nkey": "/x.nk""#.to_owned(), Auth::Nkey(SecretSource::File("/x.nk".into()))),
        (format!(r#""nkey": "{seed}""#), Auth::Nkey(SecretSource::Text(seed.as_str().into()))),
        (
            r#""user_jwt": "j", "user_seed": "s""#.to_owned(),
            Auth::Jwt { jwt: "j".into(), seed: Some("s".into()) },
        ),
        (r#""creds": "/c", "nsc": "nsc://o/a/u""#.to_owned(), Auth::Creds(SecretSource::File("/c".into()))),
    ] {
        context(home.path(), "auth", &format!("{{{fields}}}"), true);
        let config = resolve(&ConnectFlags::default(), home.path(), &[]).expect("a configuration");
        assert_eq!(config.auth, auth, "{fields}");
    }
}

#[test]
fn a_connection_beside_another_shares_its_servers_and_never_its_login() {
    let home = home();
    context(home.path(), "selected", r#"{"url": "selected", "user": "su", "password": "sp"}"#, true);
    context(home.path(), "apps", r#"{"url": "apps", "creds": "/apps"}"#, false);
    let variables = [("NATS_USER", "nu"), ("METAWATCH_TLSCA", "/own"), ("METAWATCH_KEPT", "kept")];
    let around = around(home.path(), &variables);
    let flags = ConnectFlags {
        server: some("u:p@a,b"),
        timeout: Some(Duration::from_secs(9)),
        ..ConnectFlags::default()
    };
    let first = ConnectConfig::resolve(&flags, &around).expect("a configuration");
    let beside = |flags: &ConnectFlags| first.beside(flags, &around);

    let user =
        ConnectFlags { user: some("app"), password: some("env://METAWATCH_KEPT"), ..ConnectFlags::default() };
    let config = beside(&user).expect("a configuration");
    assert_eq!((urls(&config), &config.auth), (urls(&first), &password("app", "kept")));
    assert_eq!((&config.tls, config.timeout), (&first.tls, Duration::from_secs(9)));
    assert_eq!((config.name.as_str(), config.role), ("metawatch-alerts", ConnectionRole::Alerts));

    let elsewhere = ConnectFlags { server: some("c"), ..ConnectFlags::default() };
    let config = beside(&elsewhere).expect("a configuration");
    assert_eq!(
        (urls(&config), &config.auth, &config.tls),
        (vec!["nats://c:4222"], &Auth::Nothing, &Tls::default())
    );

    let named = ConnectFlags { context: Some("apps".into()), ..ConnectFlags::default() };
    let config = beside(&named).expect("a configuration");
    assert_eq!(
        (urls(&config), &config.auth),
        (vec!["nats://apps:4222"], &Auth::Creds(SecretSource::File("/apps".into())))
    );

    let alone = ConnectFlags { password: some("p"), ..ConnectFlags::default() };
    let failure = beside(&alone).expect_err("a password without a user");
    assert!(failure.to_string().contains("--alert-password is given without a user"), "{failure}");
    assert!(failure.hint().contains("--alert-user NAME"), "{}", failure.hint());
    let absent = ConnectFlags { context: Some("absent".into()), ..ConnectFlags::default() };
    let failure = beside(&absent).expect_err("no context");
    assert!(failure.to_string().contains("(--alert-context)"), "{failure}");
    assert!(failure.hint().contains("leave --alert-context out"), "{}", failure.hint());
    assert!(!ConnectFlags { server: some(""), ..ConnectFlags::default() }.is_any() && alone.is_any());
}

#[test]
fn secrets_may_be_kept_elsewhere() {
    let home = home();
    std::fs::write(home.path().join("secret"), "from file\n").expect("a file");
    let variables = [("KEPT", "from variable"), ("DIR", home.path().to_str().expect("UTF-8"))];
    let around = around(home.path(), &variables);
    for (dollars, value, wanted) in [
        (false, "env://KEPT", "from variable"),
        (false, "data:;base64,czNjcmV0IQ==", "s3cret!"),
        (false, "data:text/plain;base64,czNjcmV0IQ", "s3cret!"),
        (false, "data:,a%2Fb", "a/b"),
        (false, "pa$$KEPT", "pa$$KEPT"),
        (true, "$KEPT-${KEPT}", "from variable-from variable"),
        (true, "pa$unset$ ${}$1", "pa$unset$ ${}$1"),
    ] {
        let written = ConfigValue { name: "it", value, dollars };
        assert_eq!(secret::secret(written, &around), Ok(wanted.into()), "{value}");
    }
    for value in ["file://~/secret", "file://$DIR/secret"] {
        let written = ConfigValue { name: "it", value, dollars: false };
        let file = SecretSource::File(home.path().join("secret"));
        assert_eq!(secret::secret(written, &around), Ok(file), "{value}");
    }
    let material = |value| secret::material(ConfigValue { name: "it", value, dollars: false }, &around);
    assert_eq!(material("file://~/x"), Ok(SecretSource::File(home.path().join("x"))));
    assert_eq!(material("env://KEPT"), Ok(SecretSource::Text("from variable".into())));
    let inline = "-----BEGIN NATS USER JWT-----\nx";
    assert_eq!(material(inline), Ok(SecretSource::Text(inline.into())));
}

#[test]
fn what_cannot_be_used_is_named_with_a_hint_and_no_secret() {
    let home = home();
    context(home.path(), "prod", "{}", false);
    context(home.path(), "dev", "{}", false);
    context(home.path(), "broken", "{\"password\": \"hunter2\",\n oops", false);
    context(home.path(), "list", "[\"hunter2\"]", false);
    context(home.path(), "number", r#"{"password": 1337}"#, false);
    context(home.path(), "word", r#"{"tls_first": "hunter2"}"#, false);
    context(home.path(), "nsc", r#"{"nsc": "nsc://o/a/u"}"#, false);
    context(home.path(), "socks", r#"{"socks_proxy": "hunter2"}"#, false);
    context(home.path(), "hole", r#"{"creds": "$NOPE/x"}"#, false);
    let on = |context: &str| ConnectFlags { context: Some(context.into()), ..ConnectFlags::default() };
    let flags = ConnectFlags::default;
    let token = |token: &str| ConnectFlags { token: some(token), ..flags() };
    let server = |server: &str| ConnectFlags { server: some(server), ..flags() };
    for (flags, what, hint) in [
        (on("absent"), "\"absent\" (--context) does not exist", "dev, hole, list"),
        (on("/no/such.json"), "--context: /no/such.json cannot be read", "path"),
        (on(".."), "--context names the context \"..\", which is not a valid name", "--context NAME"),
        (on("broken"), "broken.json is not valid JSON at line 2", "nats context edit"),
        (on("list"), "list.json is not a JSON object", "nats context edit"),
        (on("number"), "a field \"password\" that is not a text", "nats context edit"),
        (on("word"), "a field \"tls_first\" that is not true or false", "nats context edit"),
        (on("nsc"), "\"nsc\" of the context \"nsc\" is deprecated", "--creds FILE"),
        (on("socks"), "asks for a SOCKS proxy", "--no-context"),
        (on("hole"), "the variable NOPE, which is not set", "export NOPE"),
        (token("env://NOPE"), "--token points to the variable NOPE", "export NOPE"),
        (token("file:///no/hunter"), "--token: /no/hunter cannot be read", "path"),
        (token("data:;base64,hunter2!"), "--token is not a valid data: URI", "base 64"),
        (token("data:hunter2"), "--token is not a valid data: URI", "base 64"),
        (token("op://vault/hunter2/x"), "--token points to 1Password", "op run"),
        (token("nsc://o/a/hunter2"), "--token points to nsc", "--creds FILE"),
        (server("nats://u:hunter2@h:99999"), "--server names the server \"h:99999\"", "nats://HOST:4222"),
        (server("ws://hunter2@h"), "--server names the server \"h\", but WebSocket", "nats://HOST:4222"),
        (server("http://h"), "--server names the server \"http://h\"", "nats://HOST:4222"),
        (server(" , "), "--server names no server", "nats://HOST:4222"),
        (server("u:hunter2@a,v:hunter2@b"), "--server gives different logins", "--user"),
        (ConnectFlags { creds: some("/x"), ..token("hunter2") }, "both --creds and --token", "one way"),
        (
            ConnectFlags { password: some("hunter2"), ..flags() },
            "--password is given without a user",
            "--user NAME",
        ),
        (ConnectFlags { seed: some("hunter2"), ..flags() }, "--seed is given without a JWT", "--nkey"),
        (ConnectFlags { jwt: some("hunter2"), ..token("x") }, "both --jwt and --token", "one way"),
        (ConnectFlags { tlscert: Some("/c".into()), ..flags() }, "--tlscert is given without", "--tlskey"),
        (ConnectFlags { tlskey: Some("/k".into()), ..flags() }, "--tlskey is given without", "--tlscert"),
        (
            ConnectFlags { inbox_prefix: Some("a.*".into()), ..flags() },
            "--inbox-prefix is not a valid",
            "wildcards",
        ),
        (ConnectFlags { timeout: Some(Duration::ZERO), ..flags() }, "--timeout is not a duration", "5s"),
    ] {
        let failure = resolve(&flags, home.path(), &[]).expect_err(what);
        assert_eq!(failure.kind(), FailureKind::Config, "{failure}");
        assert!(failure.to_string().contains(what), "{what}: {failure}");
        assert!(failure.hint().contains(hint), "{hint}: {}", failure.hint());
        let shown = format!("{failure:?} {flags:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("1337"), "{shown}");
    }
    for (name, value) in
        [("METAWATCH_TIMEOUT", "soon"), ("METAWATCH_TLSFIRST", "maybe"), ("NATS_TIMEOUT", "x")]
    {
        let failure = resolve(&flags(), home.path(), &[(name, value)]).expect_err(name);
        assert!(failure.to_string().starts_with(name), "{failure}");
    }
}

#[test]
fn nothing_that_can_be_printed_holds_a_secret() {
    let home = home();
    let seed = format!("SU{}", "HUNTER".repeat(9) + "22");
    let flags = |login: fn(&mut ConnectFlags, &str), value: &str| {
        let mut flags = ConnectFlags::default();
        login(&mut flags, value);
        flags
    };
    for (flags, count) in [
        (flags(|flags, text| flags.token = some(text), "HUNTER"), 1),
        (flags(|flags, text| flags.user = some(text), "HUNTER"), 1),
        (flags(|flags, text| flags.server = some(text), "nats://u:HUNTER@a,b"), 2),
        (flags(|flags, text| flags.server = some(text), "HUNTER@a"), 1),
        (flags(|flags, text| flags.nkey = some(text), &seed), 1),
        (flags(|flags, text| (flags.jwt, flags.seed) = (some(text), some(text)), "HUNTER"), 1),
        (flags(|flags, text| flags.creds = some(text), "data:,HUNTER"), 1),
    ] {
        let config = resolve(&flags, home.path(), &[]).expect("a configuration");
        assert_eq!(config.servers.len(), count);
        assert_ne!(config.auth, Auth::Nothing);
        let shown = format!("{flags:?} {config:?} {config:#?}");
        assert!(!shown.contains("HUNTER"), "{shown}");
    }
}

#[test]
fn addresses_may_be_written_in_every_usual_way() {
    for (list, wanted) in [
        ("a", vec!["nats://a:4222"]),
        ("a:1, nats://b ,tls://c:3,", vec!["nats://a:1", "nats://b:4222", "tls://c:3"]),
        ("nats://[::1]:5,::", vec![]),
        ("nats://[::1]:5", vec!["nats://[::1]:5"]),
        ("nats://a:4222/path?query", vec!["nats://a:4222"]),
        ("a,a:4222", vec!["nats://a:4222"]),
    ] {
        let parsed = server::parse("it", list).map(|servers| servers.addresses).unwrap_or_default();
        let urls: Vec<&str> = parsed.iter().map(ServerAddr::as_url_str).collect();
        assert_eq!(urls, wanted, "{list}");
    }
}

#[cfg(feature = "cli")]
#[test]
fn the_command_line_knows_the_aliases_and_the_help_names_both_variables() {
    use clap::{Args, Command, FromArgMatches};

    let command = ConnectFlags::augment_args(Command::new("x"));
    let parse = |line: &[&str]| {
        let matches = command.clone().try_get_matches_from([&["x"], line].concat())?;
        ConnectFlags::from_arg_matches(&matches)
    };
    let flags =
        parse(&["--servers", "a", "--tlscacert", "/ca", "--timeout", "1m", "--tlsfirst"]).expect("flags");
    assert_eq!((flags.server, flags.tlsca.as_deref()), (some("a"), Some("/ca")));
    assert_eq!((flags.timeout, flags.tlsfirst), (Some(Duration::from_secs(60)), true));
    assert_eq!(parse(&["-s", "b"]).expect("flags").server, some("b"));
    assert!(parse(&["--context", "a", "--no-context"]).is_err());
    // The help flows to the width of the terminal: its words are what counts, not where its lines break.
    let help = command.clone().render_long_help().to_string();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for name in
        ["METAWATCH_SERVER, NATS_URL", "METAWATCH_TLSCERT, NATS_CERT", "METAWATCH_NO_CONTEXT", "Connection:"]
    {
        assert!(help.contains(name), "{help}");
    }
    // What the help says and what is looked up must not drift apart.
    for argument in command.get_arguments() {
        let name = format!("METAWATCH_{}", argument.get_id().as_str().to_uppercase());
        assert!(argument.get_help().is_some_and(|help| help.to_string().contains(&name)), "{name}");
    }
}

#[test]
fn pings_keep_up_with_the_interval_within_limits() {
    let config = ConnectConfig::resolve(&ConnectFlags::default(), &Env::default()).unwrap();
    for (interval, given_up_after) in
        [(100, 2_500), (1_000, 2_500), (1_600, 4_000), (2_000, 5_000), (60_000, 5_000)]
    {
        let ping_interval = config.watching_every(Duration::from_millis(interval)).ping_interval;
        let after = (ping_interval * 3).as_millis();
        assert!(after.abs_diff(given_up_after) <= 1, "{interval} ms: {after} ms");
    }
}
