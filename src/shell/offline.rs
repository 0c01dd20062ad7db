//! Looking at what was written down before: recordings, captures, and bare replies, from a file or from stdin.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::pipeline::Settings;
use crate::recording::{self, BadLines, BareReplies, Item, Player, RecordedEpoch, interval};
use crate::shell::failure::{Failure, FailureKind};
use crate::shell::one_shot::Looked;
use crate::shell::unpack::{self, unpack};

/// A larger file is not read at once: `replay` takes it.
const BYTES_MAX: u64 = 1 << 30;

/// Sends everything that `path` holds through the pipeline. What cannot be read is told to `complain`.
pub fn look(path: &Path, settings: Settings, complain: &mut dyn FnMut(&str)) -> Result<Looked, Failure> {
    let name = shown(path);
    let text = read_whole(path)?;
    let mut epochs: Vec<Box<RecordedEpoch<'_>>> = Vec::new();
    let mut bare = BareReplies::default();
    let mut bad_lines = BadLines::default();
    for item in recording::items(&text, 1) {
        match item {
            Ok(Item::Epoch(epoch)) => epochs.push(epoch),
            Ok(Item::Jsz(reply)) => bare.replies.push(reply),
            Ok(Item::Statsz(reply)) => bare.statsz.push(reply),
            Err(bad) => bad_lines.tell(&format!("{name}, {bad}"), complain),
        }
    }
    bad_lines.end(&name, complain);
    epochs.extend(bare.into_epoch());
    let mut player = Player::new(settings, interval(&epochs), wall_ns());
    let mut last = None;
    for epoch in &epochs {
        last = Some(player.play(epoch));
    }
    let step = last.ok_or_else(|| nothing_readable(&name))?;
    let epochs = u32::try_from(player.epochs()).unwrap_or(u32::MAX);
    Ok(Looked { step, alerts: player.pipeline().alert_table().clone(), epochs })
}

/// The failure of a file that holds no epoch.
pub(super) fn nothing_readable(name: &str) -> Failure {
    Failure::new(
        FailureKind::Input,
        format!("{name} holds no epoch and no reply that can be read"),
        "give a recording of `metawatch run --record`, or replies to $SYS.REQ.SERVER.PING.JSZ, one JSON object each",
    )
}

/// What a path is called in messages.
pub(super) fn shown(path: &Path) -> String {
    if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() }
}

/// Opens a file, or stdin for `-`; what is packed with gzip is unpacked as it is read.
pub(super) fn open(path: &Path) -> Result<Box<dyn Read>, Failure> {
    let file: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(|error| unreadable(path, &error))?)
    };
    unpack(file, &shown(path))
}

/// The failure of a file that cannot be read.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    unpack::unreadable(&shown(path), error)
}

fn read_whole(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    open(path)?.take(BYTES_MAX + 1).read_to_end(&mut text).map_err(|error| unreadable(path, &error))?;
    if text.len() as u64 > BYTES_MAX {
        return Err(Failure::new(
            FailureKind::Input,
            format!("{} is larger than 1 GiB", shown(path)),
            "use `metawatch replay`, which reads a recording line by line, or give the end of it",
        ));
    }
    Ok(text)
}

/// Now, for replies that tell no time.
#[expect(
    clippy::disallowed_methods,
    reason = "the shell may read the clock; replies without any time are seen now"
)]
pub(super) fn wall_ns() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX)
}
