//! A helper in Python that does what a test tells it: it holds a terminal or a browser.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::support::path;

/// No answer takes longer.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// A helper that runs, and ends with this value.
pub(super) struct Told {
    child: Child,
    commands: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Told {
    /// Starts a script below `tests/`.
    pub(super) fn start(script: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new("python3");
        command.arg(path(script)).args(arguments).envs(variables.iter().copied()).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, commands, answers }
    }

    /// Has it do something, and gives what it tells.
    #[track_caller]
    pub(super) fn tell(&mut self, command: Value) -> impl Future<Output = Value> + '_ {
        let caller = std::panic::Location::caller();
        async move {
            let line = format!("{command}\n");
            self.commands.as_mut().unwrap().write_all(line.as_bytes()).await.unwrap();
            let answer = tokio::time::timeout(ANSWER_MAX, self.answers.next_line()).await;
            let answer = answer.expect("an answer in time").unwrap().expect("an answer");
            let mut answer: Value = serde_json::from_str(&answer).unwrap();
            assert!(
                answer.get("error").is_none(),
                "{caller}: {command}: {}",
                answer["error"].as_str().unwrap()
            );
            answer["ok"].take()
        }
    }

    /// Lets it end in its own order.
    pub(super) async fn end(mut self) {
        drop(self.commands.take());
        tokio::time::timeout(ANSWER_MAX, self.child.wait()).await.expect("an end").unwrap();
    }
}
