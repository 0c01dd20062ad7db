//! `metawatch view --watch` on a terminal: a real cluster, a real terminal, and somebody who types.

#![allow(clippy::disallowed_methods, reason = "a test waits in real time")]

use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};

use super::three;
use super::told::Told;
use crate::cluster::{Cluster, LONG};

const BINARY: &str = env!("CARGO_BIN_EXE_metawatch");

/// A terminal with `view --watch` in it, and what stands on it.
struct Terminal {
    told: Told,
    screen: vt100::Parser,
    /// Everything that was written to it.
    written: Vec<u8>,
}

impl Terminal {
    fn start(cluster: &Cluster, columns: u16, rows: u16) -> Self {
        let (columns_text, rows_text, servers) = (columns.to_string(), rows.to_string(), cluster.urls());
        let arguments = [&columns_text, &rows_text, BINARY, "view", "--watch", "--interval", "500ms"];
        let variables = [
            ("NATS_URL", &*servers),
            ("NATS_USER", "admin"),
            ("NATS_PASSWORD", "admin"),
            ("TERM", "xterm-256color"),
        ];
        let told = Told::start("screen/terminal.py", &arguments, &variables);
        Self { told, screen: vt100::Parser::new(rows, columns, 0), written: Vec::new() }
    }

    /// What stands on it now.
    async fn text(&mut self) -> String {
        let written = self.told.tell(json!(["screen"])).await;
        let written = base64::engine::general_purpose::STANDARD.decode(written.as_str().unwrap()).unwrap();
        self.screen.process(&written);
        self.written.extend(written);
        self.screen.screen().contents()
    }

    /// Waits until all of these words stand on it.
    async fn expect(&mut self, words: &[&str]) -> String {
        let until = Instant::now() + LONG;
        loop {
            let text = self.text().await;
            if words.iter().all(|words| text.contains(words)) {
                return text;
            }
            assert!(Instant::now() < until, "{words:?} do not stand on:\n{text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn type_in(&mut self, text: &str) {
        self.told.tell(json!(["type", text])).await;
    }

    async fn resize(&mut self, columns: u16, rows: u16) {
        self.text().await;
        self.screen.screen_mut().set_size(rows, columns);
        self.told.tell(json!(["size", columns, rows])).await;
    }

    /// It has ended, and has left the terminal as it was.
    async fn expect_given_back(&mut self, code: i64) {
        let ended = self.told.tell(json!(["end", 10])).await;
        let until = Instant::now() + LONG;
        // Its last words may still be on their way.
        while !self.written.ends_with(b"\x1b[?1049l") && Instant::now() < until {
            self.text().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(ended, code, "{}", self.text().await);
        assert_eq!(
            self.told.tell(json!(["modes"])).await,
            json!([true, true]),
            "it echoes and edits lines again"
        );
        let screen = self.screen.screen();
        assert!(
            !screen.alternate_screen() && !screen.hide_cursor(),
            "the old screen and the cursor are back"
        );
        assert!(self.written.ends_with(b"\x1b[?1049l"), "nothing comes after it");
    }
}

#[tokio::test]
async fn the_screen_follows_an_outage_and_the_keys() {
    let mut cluster = three().await;
    let mut terminal = Terminal::start(&cluster, 80, 24);
    let text =
        terminal.expect(&["OK  3 of 3 meta peers online", "meta group default, led by", "q quit"]).await;
    assert!(terminal.screen.screen().alternate_screen() && terminal.screen.screen().hide_cursor(), "{text}");
    let follower = cluster.follower("").await.unwrap();
    cluster.kill(&follower).unwrap();
    let offline = format!("{follower} is offline (crashed)");
    let text = terminal
        .expect(&[
            "1 OPEN INCIDENT",
            &offline,
            "failures left: 0",
            "fault (crashed)",
            "start s",
            "LAST EVENTS",
        ])
        .await;
    assert!(text.contains("CRITICAL"), "{text}");
    terminal.type_in("o").await;
    terminal.expect(&["o show all", "2 more, not shown"]).await;
    terminal.type_in("?").await;
    terminal.expect(&["KEYS", "scroll by a page"]).await;
    terminal.type_in("?o").await;
    terminal.expect(&["o problems only"]).await;
    terminal.type_in("p").await;
    let paused = terminal.expect(&["PAUSED"]).await;
    cluster.boot(&follower).unwrap();
    cluster.wait_until_well().await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let still = terminal.text().await;
    assert!(still.contains(&offline), "{paused}\n{still}");
    terminal.type_in(" ").await;
    terminal.expect(&["OK  3 of 3 meta peers online", "is back after", "failures left: 1"]).await;
    terminal.type_in("q").await;
    terminal.expect_given_back(0).await;
    terminal.told.end().await;
}

#[tokio::test]
async fn a_terminal_may_change_its_size_be_too_small_and_go_away() {
    let cluster = three().await;
    let mut terminal = Terminal::start(&cluster, 80, 24);
    terminal.expect(&["meta group default", "q quit"]).await;
    for (columns, rows) in [(40, 10), (200, 60), (3, 2), (1, 1), (80, 24)] {
        terminal.resize(columns, rows).await;
        let words: &[&str] = match columns {
            0..20 => &[],
            20..60 => &["OK  3 of 3", "PEER", "q quit"],
            _ => &["OK  3 of 3 meta peers online", "CLUSTER", "q quit"],
        };
        terminal.expect(words).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        let text = terminal.expect(words).await;
        assert!(text.lines().count() <= rows.into(), "{columns}x{rows}: {text}");
    }
    // An epoch after which nothing is new draws little: nothing flickers.
    terminal.text().await;
    let before = terminal.written.len();
    tokio::time::sleep(Duration::from_secs(3)).await;
    terminal.text().await;
    let drawn = &terminal.written[before..];
    assert!(drawn.len() < 6_000, "{} bytes in 3 s", drawn.len());
    assert!(!drawn.windows(4).any(|bytes| bytes == b"\x1b[2J"), "the screen is never cleared in between");
    terminal.told.tell(json!(["hangup"])).await;
    let ended = terminal.told.tell(json!(["end", 10])).await;
    // Nobody reads the code any more; it is no signal and no panic.
    assert!(matches!(ended.as_i64(), Some(0 | 1)), "without a terminal it ends: {ended}");
    terminal.told.end().await;
}

#[tokio::test]
async fn the_terminal_is_given_back_on_signals_and_keys() {
    let cluster = three().await;
    for (what, with) in [
        ("type", "\u{3}"),
        ("type", "\u{1b}"),
        ("signal", "TERM"),
        ("signal", "INT"),
        ("signal", "HUP"),
        ("signal", "QUIT"),
    ] {
        let mut terminal = Terminal::start(&cluster, 80, 24);
        terminal.expect(&["q quit"]).await;
        terminal.told.tell(json!([what, with])).await;
        terminal.expect_given_back(0).await;
        terminal.told.end().await;
    }
}

#[tokio::test]
async fn a_terminal_that_takes_nothing_does_not_keep_it_from_ending() {
    let cluster = three().await;
    let mut terminal = Terminal::start(&cluster, 200, 60);
    terminal.expect(&["q quit"]).await;
    terminal.told.tell(json!(["stall"])).await;
    // Each size is drawn anew, until the terminal is full.
    for columns in 0..60 {
        terminal.told.tell(json!(["size", 100 + columns, 60])).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    terminal.told.tell(json!(["signal", "TERM"])).await;
    assert_eq!(terminal.told.tell(json!(["end", 20])).await, 0);
    terminal.told.end().await;
}

#[tokio::test]
async fn check_is_read_by_people_on_a_terminal_and_by_programs_elsewhere() {
    let recording = crate::support::path("recordings/R_crash-2.14.6.ndjson.gz");
    let recording = recording.to_string_lossy();
    let mut told =
        Told::start("screen/terminal.py", &["80", "24", BINARY, "check", "--from", &recording], &[]);
    told.tell(json!(["end", 30])).await;
    let written = told.tell(json!(["screen"])).await;
    let written = base64::engine::general_purpose::STANDARD.decode(written.as_str().unwrap()).unwrap();
    let text = String::from_utf8_lossy(&written).into_owned();
    assert!(text.contains("servers answered, ") && !text.contains("| peers="), "the text form: {text}");
    let piped =
        tokio::process::Command::new(BINARY).args(["check", "--from", &recording]).output().await.unwrap();
    let text = String::from_utf8_lossy(&piped.stdout).into_owned();
    assert!(text.contains("| peers="), "the form of nagios: {text}");
}

#[tokio::test]
async fn it_tells_lines_where_there_is_no_terminal() {
    let mut cluster = three().await;
    let mut command = tokio::process::Command::new(BINARY);
    command.args(["view", "--watch", "--interval", "500ms", "--user", "admin", "--password", "admin"]);
    command
        .args(["--server", &cluster.urls()])
        .env_clear()
        .env("XDG_CONFIG_HOME", "/nowhere")
        .kill_on_drop(true);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = {
        use tokio::io::AsyncBufReadExt;
        tokio::io::BufReader::new(child.stdout.take().unwrap()).lines()
    };
    let first = lines.next_line().await.unwrap().unwrap();
    assert!(first.contains("3 of 3 servers answered"), "{first}");
    let document = first_document(&cluster, &["--group", "default"]).await.expect("a document");
    assert_eq!((&document["only"], &document["status"]), (&json!(["default"]), &json!("OK")));
    let document = first_document(&cluster, &["--problems"]).await.expect("a document");
    assert_eq!((&document["groups"], &document["counts"]["groups"]), (&json!([]), &json!(1)));
    let refused = first_document(&cluster, &["--group", "nowhere"]).await.expect_err("no such group");
    assert!(refused.contains("there is no meta group nowhere") && refused.contains("default"), "{refused}");
    let follower = cluster.follower("").await.unwrap();
    cluster.stop(&follower).await.unwrap();
    let offline = format!("CRITICAL {follower} is offline (stopped)");
    let told = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("a line");
            assert!(!line.contains('\u{1b}'), "{line}");
            if line.contains(&offline) {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, told).await.expect("it is told");
    let id = child.id().unwrap().to_string();
    assert!(tokio::process::Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

/// The first document of `view --watch`, or what is complained of.
async fn first_document(cluster: &Cluster, more: &[&str]) -> Result<Value, String> {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt};
    let mut command = tokio::process::Command::new(BINARY);
    command.args(["view", "--watch", "--format", "json", "--user", "admin", "--password", "admin"]);
    command.args(["--server", &cluster.urls()]).args(more).env_clear().env("XDG_CONFIG_HOME", "/nowhere");
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut lines = tokio::io::BufReader::new(child.stdout.take().unwrap()).lines();
    if let Some(line) = lines.next_line().await.unwrap() {
        return Ok(serde_json::from_str(&line).unwrap());
    }
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
    Err(said)
}
