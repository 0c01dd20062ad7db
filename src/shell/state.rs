//! The state file: what a restarted watcher goes on with.
//!
//! It holds one [`Ledger`] behind a line that says what it is and how its bytes add up. It is replaced as a whole,
//! so a reader, and a watcher that starts after a crash, sees the one before or the one after and never half of it.
//! What is no state file of ours is set aside, never overwritten. **Invariant:** no trouble with the disk delays or
//! stops the watching.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::ledger::Ledger;
use crate::name::letters;
use crate::shell::config::{ConnectConfig, Surroundings, reason};
use crate::shell::failure::{Failure, FailureKind};
use crate::shell::place::file_at;

/// The version of the file.
const VERSION: u32 = 1;
/// A longer file is not ours.
const BYTES_MAX: u64 = 256 << 20;
/// Publishing waits for the new file for this long at most.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where the state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// In memory alone.
    Nowhere,
    /// In this file, if that can be done: nobody asked for it by name.
    IfPossible(PathBuf),
    /// In this file; without it the watching does not begin.
    In(PathBuf),
}

impl Keep {
    /// Where the state is kept when nobody says where: in the folder that systemd gives (`$STATE_DIRECTORY`), else in
    /// `$XDG_STATE_HOME` or `~/.local/state`, in a file for these servers and this prefix, so that what was seen of
    /// one system is never taken for another's.
    pub fn usual(around: &Surroundings, config: &ConnectConfig, prefix: &str) -> Self {
        let given = around.variable("STATE_DIRECTORY").and_then(|list| list.split(':').next());
        let own = || {
            let named =
                around.variable("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
            let home = named.or_else(|| Some(around.home()?.join(".local/state")))?;
            Some(home.join("metawatch"))
        };
        let Some(folder) = given.map(PathBuf::from).or_else(own) else {
            tracing::warn!(
                hint = "give --state FILE, or none",
                "there is no home for a state file: open incidents do not survive a restart"
            );
            return Self::Nowhere;
        };
        let mut hash = Sha256::new();
        for address in &config.servers {
            hash.update(address.as_url_str());
            hash.update([0]);
        }
        for part in [prefix, &config.name, config.context.as_deref().unwrap_or_default()] {
            hash.update(part);
            hash.update([0]);
        }
        let which: String = letters(&hash.finalize()).take(8).map(char::from).collect();
        Self::IfPossible(folder.join(format!("{which}.state")))
    }
}

/// The first line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    metawatch_state: u32,
    sha256: String,
}

/// An open state file, which no other watcher uses.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    writing: Option<JoinHandle<io::Result<File>>>,
    /// Brings the file onto the disk, for the case that the host goes down. Nobody waits for it.
    syncing: Option<JoinHandle<()>>,
    /// It does not hold what it should.
    behind: bool,
    failing: bool,
    /// Held, not read: the lock ends with it.
    _lock: File,
}

impl StateFile {
    /// Opens the file and reads what it holds; `None` for none. Nothing that it holds is a failure; a place that
    /// cannot be written to is one, and so is a file that another watcher uses.
    pub fn open(keep: &Keep) -> Result<Option<(Self, Option<Ledger>)>, Failure> {
        let (path, demanded) = match keep {
            Keep::Nowhere => return Ok(None),
            Keep::IfPossible(path) => (path, false),
            Keep::In(path) => (path, true),
        };
        match Self::open_at(path) {
            Ok(opened) => Ok(Some(opened)),
            Err(failure) if demanded => Err(failure),
            Err(failure) => {
                tracing::warn!(
                    hint = failure.hint(),
                    "{failure}: open incidents are kept in memory and do not survive a restart"
                );
                Ok(None)
            }
        }
    }

    fn open_at(path: &Path) -> Result<(Self, Option<Ledger>), Failure> {
        let failed = |why: &str| {
            let message = format!("cannot use the state file {}: {why}", path.display());
            let hint = "give --state a file in a directory that this user may write to, or none";
            Failure::new(FailureKind::Io, message, hint)
        };
        let unusable = |error: &io::Error| failed(&reason(error));
        let path = &file_at(path).map_err(failed)?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(|error| unusable(&error))?;
        }
        let lock = options().truncate(false).open(beside(path, "lock")).map_err(|error| unusable(&error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!("another metawatch uses the state file {}", path.display());
                let hint = "give each watcher a --state file of its own, or none";
                return Err(Failure::new(FailureKind::Io, message, hint));
            }
            Err(TryLockError::Error(error)) => {
                return Err(failed(&format!("it cannot be locked ({})", reason(&error))));
            }
        }
        let held = match read(path) {
            Ok(held) => held,
            Err(why) => {
                let aside = set_aside(path).map_err(|error| unusable(&error))?;
                tracing::error!(
                    file = %path.display(),
                    kept_as = %aside.display(),
                    "the state file {why}: it is set aside, and watching starts anew. \
                     Incidents that were open are announced again if they last, and not resolved if they are over"
                );
                None
            }
        };
        let state = Self {
            path: path.to_owned(),
            writing: None,
            syncing: None,
            behind: false,
            failing: false,
            _lock: lock,
        };
        Ok((state, held))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file does not hold what it should: saving is to be tried again.
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// Replaces what the file holds. Waits for the disk, but not for long: what is not done then goes on by itself.
    pub async fn save(&mut self, ledger: &Ledger) {
        self.behind = true;
        if !self.is_free().await {
            return self.complain("the disk does not answer");
        }
        let bytes = match encode(ledger) {
            Ok(bytes) => bytes,
            Err(error) => return self.complain(&error.to_string()),
        };
        let path = self.path.clone();
        self.writing = Some(tokio::task::spawn_blocking(move || replace(&path, &bytes)));
        self.behind = !self.is_free().await;
    }

    /// Waits until nothing is being written, but not for long.
    async fn is_free(&mut self) -> bool {
        let Some(writing) = &mut self.writing else { return true };
        let Ok(done) = timeout(PATIENCE, writing).await else { return false };
        self.writing = None;
        match done.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(file) => {
                if self.syncing.as_ref().is_none_or(JoinHandle::is_finished) {
                    self.syncing = Some(tokio::task::spawn_blocking(move || sync(&file)));
                }
                if std::mem::take(&mut self.failing) {
                    tracing::warn!(file = %self.path.display(), "the state file is written again");
                }
                true
            }
            Err(error) => {
                self.complain(&reason(&error));
                false
            }
        }
    }

    fn complain(&mut self, why: &str) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(
                file = %self.path.display(),
                reason = why,
                hint = "make room or mend the file; it is tried again after every epoch",
                "the state cannot be saved: a restart would forget open incidents; the watching goes on"
            );
        }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// The path of a companion of the file, in the same folder.
fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    path.with_file_name(name)
}

fn encode(ledger: &Ledger) -> serde_json::Result<Vec<u8>> {
    let body = serde_json::to_vec(ledger)?;
    let mut bytes = serde_json::to_vec(&Header { metawatch_state: VERSION, sha256: sum(&body) })?;
    bytes.push(b'\n');
    bytes.extend(body);
    bytes.push(b'\n');
    Ok(bytes)
}

fn sum(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the file holds; `None` when there is no file. The error completes "the state file …".
fn read(path: &Path) -> Result<Option<Ledger>, String> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => {
            let read = file.take(BYTES_MAX + 1).read_to_end(&mut bytes);
            read.map_err(|error| format!("cannot be read ({})", reason(&error)))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot be read ({})", reason(&error))),
    }
    decode(&bytes).map(Some)
}

fn decode(bytes: &[u8]) -> Result<Ledger, String> {
    let foreign = || "was not written by metawatch".to_owned();
    let at = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(foreign)?;
    let (line, body) = (&bytes[..at], bytes[at + 1..].trim_ascii_end());
    let header: Header = serde_json::from_slice(line).map_err(|_| foreign())?;
    if header.metawatch_state != VERSION {
        return Err(format!("is of version {}, and this metawatch knows {VERSION}", header.metawatch_state));
    }
    if header.sha256 != sum(body) {
        return Err("is damaged (its checksum does not fit)".to_owned());
    }
    serde_json::from_slice(body).map_err(|error| format!("cannot be understood ({error})"))
}

/// Renames the file, to a name that is free.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    for number in 1.. {
        let aside = beside(path, &format!("set-aside-{number}"));
        if !aside.exists() {
            fs::rename(path, &aside)?;
            return Ok(aside);
        }
        if number >= 100 {
            break;
        }
    }
    Err(io::Error::other("a hundred files were set aside already"))
}

/// All or nothing: a new file takes the place of the old one. From then on an end of this process loses nothing.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let new = beside(path, "new");
    let mut file = options().open(&new)?;
    file.write_all(bytes)?;
    fs::rename(&new, path)?;
    Ok(file)
}

/// A failure shows at the next write, or when the file is read: its checksum does not fit.
fn sync(file: &File) {
    if let Err(error) = file.sync_all() {
        tracing::debug!(%error, "the state file could not be brought onto the disk");
    }
}

#[cfg(test)]
mod tests;
