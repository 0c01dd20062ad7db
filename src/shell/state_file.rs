//! The state file: what a restarted watcher goes on with.
//!
//! It holds one [`ReplicatedState`], or what [`crate::forward`] goes on with, behind a line that says what it is and how its bytes add up. It is replaced as a whole,
//! so a reader, and a watcher that starts after a crash, sees the one before or the one after and never half of it.
//! What is no state file of ours is set aside, never overwritten. **Invariant:** no trouble with the disk delays or
//! stops the watching.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::forward::SavedForward;
use crate::name::{base62, printable};
use crate::replicated_state::ReplicatedState;
use crate::shell::atomic_file::{open_regular, remove_leftovers, replace};
use crate::shell::config::{ConnectConfig, Env, reason};
use crate::shell::failure::{Failure, FailureKind};

/// The version of the file.
const VERSION: u32 = 1;
/// A longer file is not ours.
const BYTES_MAX: u64 = 256 << 20;

/// Where the state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateLocation {
    /// In memory alone.
    Nowhere,
    /// In this file, if that can be done: nobody asked for it by name.
    IfPossible(PathBuf),
    /// In this file; without it the watching does not begin.
    In(PathBuf),
}

impl StateLocation {
    /// Where the state is kept when nobody says where: in the folder that systemd gives (`$STATE_DIRECTORY`), else in
    /// `$XDG_STATE_HOME` or `~/.local/state`, in a file for these servers and this prefix, so that what was seen of
    /// one system is never taken for another's.
    pub fn usual(around: &Env, config: &ConnectConfig, prefix: &str) -> Self {
        let parts = [prefix, &config.name, config.context.as_deref().unwrap_or_default()];
        Self::among_ours::<ReplicatedState>(around, config, &parts, "state")
    }

    /// The same for `forward`: for these servers, this prefix, and receivers that are told by these names.
    pub fn usual_of_forward(around: &Env, config: &ConnectConfig, prefix: &str, receivers: &[&str]) -> Self {
        let parts =
            [&[prefix, &config.name, config.context.as_deref().unwrap_or_default()], receivers].concat();
        Self::among_ours::<SavedForward>(around, config, &parts, "forward")
    }

    /// The one that somebody names: a file, or `none`.
    pub fn named(path: &Path) -> Self {
        if path.as_os_str() == "none" { Self::Nowhere } else { Self::In(path.to_owned()) }
    }

    fn among_ours<T: Persistent>(around: &Env, config: &ConnectConfig, parts: &[&str], ending: &str) -> Self {
        let given = around.variable("STATE_DIRECTORY").and_then(|list| list.split(':').next());
        let own = || {
            let named =
                around.variable("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
            let home = named.or_else(|| Some(around.home()?.join(".local/state")))?;
            Some(home.join("metawatch"))
        };
        let Some(folder) = given.map(PathBuf::from).or_else(own) else {
            let hint = "give --state FILE, or none";
            tracing::warn!(hint, "there is no home for a state file: {}", T::WITHOUT);
            return Self::Nowhere;
        };
        let mut hash = Sha256::new();
        for part in config.servers.iter().map(|address| address.as_url_str()).chain(parts.iter().copied()) {
            hash.update(part);
            hash.update([0]);
        }
        let which: String = base62(&hash.finalize()).take(8).map(char::from).collect();
        Self::IfPossible(folder.join(format!("{which}.{ending}")))
    }
}

/// What a state file can hold.
pub trait Persistent: Serialize + DeserializeOwned + Send + 'static {
    /// Whose it is; `None` is a watcher's.
    const OF: Option<&'static str>;
    /// What it costs to be without: completes "the state file …: ".
    const WITHOUT: &'static str;
    /// What follows from a file that was set aside.
    const SET_ASIDE: &'static str;
}

impl Persistent for ReplicatedState {
    const OF: Option<&'static str> = None;
    const WITHOUT: &'static str = "open incidents are kept in memory and do not survive a restart";
    const SET_ASIDE: &'static str = "watching starts anew. Incidents that were open are announced again if they last, and \
         not resolved if they are over";
}

impl Persistent for SavedForward {
    const OF: Option<&'static str> = Some("forward");
    const WITHOUT: &'static str = "what has not arrived is kept in memory and does not survive a restart";
    const SET_ASIDE: &'static str =
        "what had not arrived at webhooks is not posted, and what is open is posted again";
}

/// The first line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    metawatch_state: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<String>,
    sha256: String,
}

/// Why a file cannot be read. The words complete "the state file …".
#[derive(Debug, PartialEq, Eq)]
struct Unreadable {
    why: String,
    /// It is the whole file of another command, and not to be set aside.
    is_anothers: bool,
}

impl From<String> for Unreadable {
    fn from(why: String) -> Self {
        Self { why, is_anothers: false }
    }
}

/// An open state file, which no other watcher uses.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    /// Held, not read: the lock ends with it.
    lock: File,
}

/// The way to the thread that writes the file.
#[derive(Debug)]
pub struct StateWriter<T> {
    states: SyncSender<T>,
    unsynced: Arc<AtomicU64>,
}

impl StateFile {
    /// Opens the file and reads what it holds; `None` for none. Nothing that it holds is a failure; a place that
    /// cannot be written to is one, and so is a file that another watcher uses.
    pub fn open<T: Persistent>(location: &StateLocation) -> Result<Option<(Self, Option<T>)>, Failure> {
        let (path, demanded) = match location {
            StateLocation::Nowhere => return Ok(None),
            StateLocation::IfPossible(path) => (path, false),
            StateLocation::In(path) => (path, true),
        };
        match Self::open_at(path) {
            Ok(opened) => Ok(Some(opened)),
            Err(failure) if demanded => Err(failure),
            Err(failure) => {
                tracing::warn!(hint = failure.hint(), "{failure}: {}", T::WITHOUT);
                Ok(None)
            }
        }
    }

    fn open_at<T: Persistent>(path: &Path) -> Result<(Self, Option<T>), Failure> {
        let failed = |why: &str| cannot_use(path, why);
        let unusable = |error: &io::Error| unusable(path, error);
        check_kind(path)?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(|error| unusable(&error))?;
        }
        let lock = open_regular(&beside(path, "lock"), &mut options()).map_err(|error| unusable(&error))?;
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
            Err(Unreadable { why, is_anothers: true }) => return Err(of_another(path, &why)),
            Err(Unreadable { why, .. }) => {
                let aside = set_aside(path).map_err(|error| unusable(&error))?;
                tracing::error!(
                    file = %path.display(),
                    kept_as = %aside.display(),
                    "the state file {why}: it is set aside, and {}", T::SET_ASIDE
                );
                None
            }
        };
        remove_leftovers(path).map_err(|error| unusable(&error))?;
        Ok((Self { path: path.to_owned(), lock }, held))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts the thread that writes the file. It calls `saved` after each state, with the reason when it could not be
    /// written; a disk that does not answer holds up this thread alone.
    pub fn into_writer<T: Persistent>(
        self,
        saved: impl Fn(Result<(), String>) + Send + 'static,
    ) -> io::Result<StateWriter<T>> {
        let (states, waiting) = sync_channel::<T>(1);
        let (woken, wakes) = sync_channel::<()>(1);
        let newest = Arc::new(Mutex::new(None));
        let unsynced = Arc::new(AtomicU64::new(0));
        let Self { path, lock } = self;
        // Brings the newest file onto the disk, for the case that the host goes down. Nobody waits for it.
        let (file, failed) = (newest.clone(), unsynced.clone());
        thread::Builder::new().name("state-sync".to_owned()).spawn(move || {
            for () in wakes {
                let file: Option<File> = file.lock().unwrap_or_else(PoisonError::into_inner).take();
                if file.is_some_and(|file| file.sync_all().is_err()) {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        })?;
        let write = move || {
            for state in waiting {
                let written = encode(&state)
                    .map_err(|error| error.to_string())
                    .and_then(|bytes| replace(&path, &bytes, 0o600).map_err(|error| reason(&error)));
                saved(written.map(|file| {
                    *newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
                    // A wake that waits already stands for this one, too.
                    woken.try_send(()).ok();
                }));
            }
            drop(lock);
        };
        thread::Builder::new().name("state-file".to_owned()).spawn(write)?;
        Ok(StateWriter { states, unsynced })
    }
}

impl<T> StateWriter<T> {
    /// Writes this state next. False when the last one is not written yet, and another one waits.
    pub fn save(&self, state: T) -> bool {
        self.states.try_send(state).is_ok()
    }

    /// How many states the disk has not confirmed, so that they may not survive a loss of power.
    pub fn unsynced(&self) -> u64 {
        self.unsynced.load(Ordering::Relaxed)
    }
}

/// How a place for a state file stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usable {
    /// There is no file yet, and one can be written.
    New,
    /// There is one that can be read and replaced.
    There,
    /// A metawatch that runs uses it.
    Held,
}

/// Whether a watcher could use this file. Nothing is locked, set aside or left behind.
pub fn usable(path: &Path) -> Result<Usable, Failure> {
    check_kind(path)?;
    if let Ok(lock) = open_regular(&beside(path, "lock"), OpenOptions::new().read(true))
        && let Err(TryLockError::WouldBlock) = lock.try_lock_shared()
    {
        return Ok(Usable::Held);
    }
    let mut folders =
        path.ancestors().skip(1).map(|folder| if folder == Path::new("") { Path::new(".") } else { folder });
    let there = folders.find(|folder| folder.exists()).unwrap_or(Path::new("."));
    let trial = tempfile::Builder::new().prefix(".metawatch-").tempfile_in(there);
    drop(trial.map_err(|error| cannot_use(path, &format!("{}: {}", there.display(), reason(&error))))?);
    match read::<ReplicatedState>(path) {
        Ok(None) => Ok(Usable::New),
        Ok(Some(_)) => Ok(Usable::There),
        Err(Unreadable { why, is_anothers: true }) => Err(of_another(path, &why)),
        Err(Unreadable { why, .. }) => {
            let message = format!("the state file {} {why}", path.display());
            Err(Failure::new(
                FailureKind::Io,
                message,
                "a watcher would set it aside and start anew: see what wrote it",
            ))
        }
    }
}

fn cannot_use(path: &Path, why: &str) -> Failure {
    let message = format!("cannot use the state file {}: {why}", path.display());
    let hint = "give --state a file in a directory that this user may write to, or none";
    Failure::new(FailureKind::Io, message, hint)
}

fn of_another(path: &Path, why: &str) -> Failure {
    let message = format!("the state file {} {why}", path.display());
    Failure::new(FailureKind::Io, message, "give each command a --state file of its own")
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    match error.get_ref() {
        Some(own) => cannot_use(path, &own.to_string()),
        None => cannot_use(path, &reason(error)),
    }
}

/// That there is a file, or nothing.
fn check_kind(path: &Path) -> Result<(), Failure> {
    if path.file_name().is_none() {
        return Err(cannot_use(path, "that names no file"));
    }
    match path.symlink_metadata() {
        Ok(found) if found.is_symlink() => Err(cannot_use(path, "it is a link")),
        Ok(found) if found.is_dir() => Err(cannot_use(path, "it is a directory")),
        Ok(found) if !found.is_file() => Err(cannot_use(path, "it is no regular file")),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// How a companion of the file is opened to be written.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(false);
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

fn encode<T: Persistent>(state: &T) -> serde_json::Result<Vec<u8>> {
    let body = serde_json::to_vec(state)?;
    let mut bytes = serde_json::to_vec(&Header {
        metawatch_state: VERSION,
        of: T::OF.map(str::to_owned),
        sha256: sum(&body),
    })?;
    bytes.push(b'\n');
    bytes.extend(body);
    bytes.push(b'\n');
    Ok(bytes)
}

fn sum(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the file holds; `None` when there is no file. The error completes "the state file …".
fn read<T: Persistent>(path: &Path) -> Result<Option<T>, Unreadable> {
    let mut bytes = Vec::new();
    match open_regular(path, OpenOptions::new().read(true)) {
        Ok(file) => {
            let read = file.take(BYTES_MAX + 1).read_to_end(&mut bytes);
            read.map_err(|error| format!("cannot be read ({})", reason(&error)))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot be read ({})", reason(&error)).into()),
    }
    decode(&bytes).map(Some)
}

fn decode<T: Persistent>(bytes: &[u8]) -> Result<T, Unreadable> {
    let foreign = || "was not written by metawatch".to_owned();
    let at = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(foreign)?;
    let (line, body) = (&bytes[..at], bytes[at + 1..].trim_ascii_end());
    let header: Header = serde_json::from_slice(line).map_err(|_| foreign())?;
    if header.metawatch_state != VERSION {
        let version = header.metawatch_state;
        return Err(format!("is of version {version}, and this metawatch knows {VERSION}").into());
    }
    if header.of.as_deref() != T::OF {
        let whose = header.of.unwrap_or_else(|| "run".to_owned());
        return Err(Unreadable {
            why: format!("is one of metawatch {}", printable(&whose)),
            is_anothers: true,
        });
    }
    if header.sha256 != sum(body) {
        return Err("is damaged (its checksum does not fit)".to_owned().into());
    }
    serde_json::from_slice(body).map_err(|error| format!("cannot be understood ({error})").into())
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

#[cfg(test)]
mod tests;
