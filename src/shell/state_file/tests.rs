use super::*;

fn location(folder: &tempfile::TempDir) -> StateLocation {
    StateLocation::In(folder.path().join("deep/er/metawatch.state"))
}

fn saved_state() -> ReplicatedState {
    serde_json::from_value(serde_json::json!({ "alerts": [{
        "check": "META_001", "group": "default", "peer": "3ahZoO2Q", "name": "s3", "incident": "Ab3", "seq": 2,
        "state": "firing", "since_ns": 1, "told_ns": 2, "fired": true,
    }] }))
    .unwrap()
}

fn open(location: &StateLocation) -> (StateFile, Option<ReplicatedState>) {
    StateFile::open(location).unwrap().expect("a state file")
}

/// Writes a state, as the watcher does, and ends with the file.
fn save(state: StateFile) -> Result<(), String> {
    let (saved, results) = sync_channel(1);
    let (gone, end) = sync_channel::<()>(0);
    let writer = state.into_writer(move |result| {
        let _held = &gone;
        saved.send(result).unwrap();
    });
    let writer = writer.unwrap();
    assert!(writer.save(saved_state()));
    let result = results.recv().unwrap();
    drop(writer);
    // The lock ends with the thread.
    assert!(end.recv().is_err());
    result
}

#[test]
fn what_was_saved_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (state, held) = open(&location(&folder));
    assert_eq!(held, None);
    assert_eq!(save(state), Ok(()));
    assert_eq!(open(&location(&folder)).1, Some(saved_state()));
}

#[test]
fn two_watchers_never_share_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let (_state, _) = open(&location(&folder));
    let failure = StateFile::open::<ReplicatedState>(&location(&folder)).unwrap_err();
    assert!(failure.to_string().contains("another metawatch uses"), "{failure}");
    // Where nobody asked for the file, the second one goes without.
    let StateLocation::In(path) = location(&folder) else { unreachable!() };
    assert!(StateFile::open::<ReplicatedState>(&StateLocation::IfPossible(path)).unwrap().is_none());
}

#[test]
fn what_is_no_state_file_is_set_aside_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let whole = encode(&saved_state()).unwrap();
    let mut flipped = whole.clone();
    *flipped.iter_mut().rev().nth(5).unwrap() ^= 1;
    let newer =
        String::from_utf8(whole.clone()).unwrap().replace("\"metawatch_state\":1", "\"metawatch_state\":2");
    let bad: [(&[u8], &str); 7] = [
        (b"", "was not written by metawatch"),
        (b"my shopping list\n", "was not written by metawatch"),
        (&[0xff; 4096], "was not written by metawatch"),
        (&whole[..whole.len() / 2], "is damaged"),
        (&flipped, "is damaged"),
        (newer.as_bytes(), "is of version 2"),
        (b"{}\n{}\n", "was not written by metawatch"),
    ];
    for (number, (bytes, why)) in (1..).zip(bad) {
        assert!(decode::<ReplicatedState>(bytes).unwrap_err().why.contains(why), "{why}");
        fs::write(&path, bytes).unwrap();
        let (state, held) = open(&StateLocation::In(path.clone()));
        assert_eq!(held, None, "{why}");
        let aside = folder.path().join(format!("state.set-aside-{number}"));
        assert_eq!(fs::read(&aside).unwrap(), bytes, "nothing is lost");
        assert_eq!(save(state), Ok(()));
        assert_eq!(open(&StateLocation::In(path.clone())).1, Some(saved_state()));
    }
}

#[test]
fn a_file_that_cannot_be_written_is_told_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let (state, _) = open(&location(&folder));
    let StateLocation::In(path) = location(&folder) else { unreachable!() };
    let (saved, results) = sync_channel(1);
    let writer = state.into_writer(move |result| saved.send(result).unwrap()).unwrap();
    // A folder that is gone: what a broken disk does, for every user.
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    assert!(writer.save(saved_state()));
    assert!(results.recv().unwrap().is_err());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    assert!(writer.save(saved_state()));
    assert_eq!(results.recv().unwrap(), Ok(()));
}

#[cfg(unix)]
#[test]
fn no_link_and_no_pipe_is_ever_opened_or_written_through() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("victim"), "precious").unwrap();
    let link = |name: &str| std::os::unix::fs::symlink(at("victim"), at(name)).unwrap();
    let pipe = |name: &str| {
        assert!(std::process::Command::new("mkfifo").arg(at(name)).status().unwrap().success());
    };
    let fails = |name: &str, why: &str| {
        let failure =
            StateFile::open::<ReplicatedState>(&StateLocation::In(at(name))).unwrap_err().to_string();
        assert!(failure.contains(why), "{name}: {failure}");
    };
    link("linked.state");
    fails("linked.state", "it is a link");
    pipe("pipe.state");
    fails("pipe.state", "it is no regular file");
    link("a.state.lock");
    fails("a.state", "it is a link");
    pipe("b.state.lock");
    fails("b.state", "cannot use the state file");
    fs::create_dir(at("d.state")).unwrap();
    fails("d.state", "it is a directory");
    // A link where the new file was written in earlier versions.
    link("c.state.new");
    let (state, _) = open(&StateLocation::In(at("c.state")));
    assert_eq!(save(state), Ok(()));
    assert_eq!(fs::read_to_string(at("victim")).unwrap(), "precious");
}

#[test]
fn without_a_word_the_state_goes_where_the_system_keeps_state() {
    let config = |server: &str| {
        let flags = crate::shell::config::ConnectFlags { server: Some(server.into()), ..Default::default() };
        ConnectConfig::resolve(&flags, &Env::new([("HOME", "/h")])).unwrap()
    };
    let usual = |variables: &[(&'static str, &'static str)], server: &str| {
        StateLocation::usual(&Env::new(variables.iter().copied()), &config(server), "metawatch")
    };
    let folder = |location: &StateLocation| match location {
        StateLocation::IfPossible(path) => path.parent().unwrap().display().to_string(),
        StateLocation::Nowhere | StateLocation::In(_) => panic!("{location:?}"),
    };
    let systemd = [("STATE_DIRECTORY", "/var/lib/metawatch:/other"), ("HOME", "/h")];
    assert_eq!(folder(&usual(&systemd, "a")), "/var/lib/metawatch");
    assert_eq!(folder(&usual(&[("XDG_STATE_HOME", "/x"), ("HOME", "/h")], "a")), "/x/metawatch");
    assert_eq!(folder(&usual(&[("HOME", "/h")], "a")), "/h/.local/state/metawatch");
    assert_eq!(usual(&[], "a"), StateLocation::Nowhere);
    // What was seen of one system is never taken for another's.
    assert_ne!(usual(&[("HOME", "/h")], "a"), usual(&[("HOME", "/h")], "b"));
}

#[test]
fn what_another_command_keeps_is_neither_read_nor_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let place = StateLocation::In(path.clone());
    let theirs = [encode(&saved_state()).unwrap(), encode(&SavedForward::default()).unwrap()];
    for bytes in theirs {
        fs::write(&path, &bytes).unwrap();
        let opened = [
            StateFile::open::<ReplicatedState>(&place).map(drop),
            StateFile::open::<SavedForward>(&place).map(drop),
        ];
        let refused: Vec<String> =
            opened.into_iter().filter_map(Result::err).map(|failure| failure.to_string()).collect();
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(refused[0].contains("is one of metawatch "), "{refused:?}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}
