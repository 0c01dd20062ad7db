//! Values that must never be shown, and the ways to spell where one is kept.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::shell::failure::{Failure, FailureKind};

/// A text that no `Debug` output and no error ever shows.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself. Give it to the server, never to a person or a log.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What surrounds the process: its environment variables, and the directories they name.
///
/// It is passed in, so that a test decides what the environment is. It has no `Debug`: variables hold secrets.
#[derive(Clone, Default)]
pub struct Env {
    variables: BTreeMap<String, String>,
    /// The home directory that the account of this user names, whatever `HOME` says.
    account_home: Option<PathBuf>,
}

impl Env {
    /// Those of this process. Variables that are not UTF-8 are left out: none of ours can be.
    pub fn of_process() -> Self {
        let unicode = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { variables: std::env::vars_os().filter_map(unicode).collect(), account_home: account_home() }
    }

    /// Exactly these variables.
    pub fn new<N: Into<String>, V: Into<String>>(variables: impl IntoIterator<Item = (N, V)>) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self { variables: variables.collect(), account_home: None }
    }

    /// The variable, when it is set and not empty: an empty one counts as not set everywhere.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The home directory.
    pub fn home(&self) -> Option<PathBuf> {
        self.variable("HOME").or_else(|| self.variable("USERPROFILE")).map(PathBuf::from)
    }

    /// The same environment, of a user whose account names this home directory.
    #[cfg(test)]
    pub(super) fn of_account(self, home: &Path) -> Self {
        Self { account_home: Some(home.to_owned()), ..self }
    }

    /// Where the nats CLI keeps its contexts: in `nats` under `$XDG_CONFIG_HOME` when that is absolute, else under
    /// `~/.config`. The CLI takes the home directory from the user's account and never from `HOME` (jsm.go 0.2,
    /// natscontext); where `HOME` leads to no contexts, those of the account are found.
    pub fn contexts_home(&self) -> Option<PathBuf> {
        let named = self.variable("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        if let Some(named) = named {
            return Some(named.join("nats"));
        }
        let below = |home: PathBuf| home.join(".config").join("nats");
        let homes = [self.home(), self.account_home.clone()].map(|home| home.map(below));
        let there = homes.iter().flatten().find(|folder| folder.is_dir()).cloned();
        there.or_else(|| homes.into_iter().flatten().next())
    }
}

/// The home directory of this user by `/etc/passwd`.
fn account_home() -> Option<PathBuf> {
    #[cfg(unix)]
    {
        let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
        let id = rustix::process::getuid().as_raw().to_string();
        let home = accounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.get(2) == Some(&id.as_str())).then(|| fields.get(5).copied())?
        })?;
        (!home.is_empty()).then(|| PathBuf::from(home))
    }
    #[cfg(not(unix))]
    None
}

/// Where a secret comes from: a file that is read anew at every connect, or the text itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// Read at every connect, so that a renewed file is used without a restart.
    File(PathBuf),
    /// Given in place: a password, a seed, or the text of a credentials file.
    Text(Secret),
}

impl<T: Into<Secret>> From<T> for SecretSource {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

/// One value as somebody wrote it, and how to speak of it in an error.
#[derive(Clone, Copy)]
pub(super) struct ConfigValue<'a> {
    /// The name of the flag, variable or field; never the value.
    pub(super) name: &'a str,
    pub(super) value: &'a str,
    /// Whether `$VAR` in it means a variable. A shell has expanded flags already.
    pub(super) dollars: bool,
}

/// The secret that is written here, or where it points to. A file is read at every connect; that it can be read is
/// seen to here.
pub(super) fn secret(written: ConfigValue<'_>, around: &Env) -> Result<SecretSource, Failure> {
    match pointer(written, around)? {
        Pointer::File(path) => {
            std::fs::read_to_string(&path).map_err(|error| unreadable(written.name, &path, &error))?;
            Ok(SecretSource::File(path))
        }
        Pointer::Value(secret) => Ok(secret.into()),
        // An unset variable stays as it is written: `$` is a common character in passwords.
        Pointer::Plain(text) if written.dollars => {
            expand(text, |name| Some(around.variable(name).map_or_else(|| format!("${name}"), str::to_owned)))
                .map(SecretSource::from)
                .map_err(|_| broken(written.name, "cannot be expanded", "write the value out"))
        }
        Pointer::Plain(text) => Ok(text.into()),
    }
}

/// The secret that a value called `name` is or points to, with the words before it: `Bearer env://NAME`. A file is
/// read now.
pub(crate) fn pointed_to(name: &str, value: &str, around: &Env) -> Result<Secret, Failure> {
    let (words, last) = value.rsplit_once(' ').map_or(("", value), |(words, last)| (words, last));
    let is_pointer =
        ["env://", "file://", "data:", "op://", "nsc://"].iter().any(|kind| last.starts_with(kind));
    let (words, value) = if is_pointer { (words, last) } else { ("", value) };
    let found = match secret(ConfigValue { name, value, dollars: false }, around)? {
        SecretSource::Text(text) => text,
        SecretSource::File(path) => {
            let text = std::fs::read_to_string(&path).map_err(|error| unreadable(name, &path, &error))?;
            Secret::from(text.trim_end_matches(['\r', '\n']))
        }
    };
    Ok(if words.is_empty() { found } else { Secret::from(format!("{words} {}", found.expose())) })
}

/// The key material that is written here: a pointer, the text itself, or the path of a file.
pub(super) fn material(written: ConfigValue<'_>, around: &Env) -> Result<SecretSource, Failure> {
    match pointer(written, around)? {
        Pointer::File(path) => Ok(SecretSource::File(path)),
        Pointer::Value(secret) => Ok(SecretSource::Text(secret)),
        Pointer::Plain(text) if is_seed(text) || text.contains("-----BEGIN") => {
            Ok(SecretSource::Text(Secret::from(text)))
        }
        Pointer::Plain(_) => path(written, around).map(SecretSource::File),
    }
}

/// The path that is written here, with `~` and `$VAR` expanded.
pub(super) fn path(written: ConfigValue<'_>, around: &Env) -> Result<PathBuf, Failure> {
    expand_path(written.name, written.value, around)
}

/// An inline user seed: 58 characters of base 32 that begin with `SU`.
fn is_seed(text: &str) -> bool {
    text.len() == 58
        && text.starts_with("SU")
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte))
}

enum Pointer<'a> {
    File(PathBuf),
    Value(Secret),
    Plain(&'a str),
}

fn pointer<'a>(written: ConfigValue<'a>, around: &Env) -> Result<Pointer<'a>, Failure> {
    let (name, value) = (written.name, written.value);
    if let Some(variable) = value.strip_prefix("env://") {
        let found = around.variable(variable).map(|text| Pointer::Value(Secret::from(text)));
        return found.ok_or_else(|| {
            let hint = format!("export {variable}, or give {name} another way");
            broken(name, &format!("points to the variable {variable}, which is not set"), &hint)
        });
    }
    if let Some(file) = value.strip_prefix("file://") {
        return expand_path(name, file, around).map(Pointer::File);
    }
    if let Some(rest) = value.strip_prefix("data:") {
        return decode_data(rest).map(|text| Pointer::Value(Secret::from(text))).ok_or_else(|| {
            broken(
                name,
                "is not a valid data: URI",
                "write data:;base64,TEXT with standard base 64, or data:,TEXT",
            )
        });
    }
    if value.starts_with("op://") {
        let hint = "let 1Password fill a variable: op run -- metawatch ..., and point to it with env://NAME";
        return Err(broken(name, "points to 1Password (op://), which is not supported", hint));
    }
    if value.starts_with("nsc://") {
        return Err(broken(name, "points to nsc (nsc://), which is not supported", NSC_HINT));
    }
    Ok(Pointer::Plain(value))
}

/// What to do instead of asking nsc.
pub(super) const NSC_HINT: &str =
    "write the credentials to a file with nsc generate creds, and give it with --creds FILE";

/// The text of a `data:` URI, after the scheme; `None` when it is malformed or not UTF-8.
fn decode_data(rest: &str) -> Option<String> {
    let (head, body) = rest.split_once(',')?;
    let plain = percent_decode(body)?;
    if !head.ends_with(";base64") {
        return String::from_utf8(plain).ok();
    }
    // People leave the padding out, and it carries nothing.
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&alphabet::STANDARD, config).decode(plain).ok()?;
    String::from_utf8(bytes).ok()
}

/// Turns `%2F` into `/`; `None` when a `%` is not followed by two hexadecimal digits.
pub(super) fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

/// Expands `~` at the start and `$VAR` anywhere; a variable that is not set is an error here, because a path
/// with a hole in it names another file.
pub(super) fn expand_path(name: &str, text: &str, around: &Env) -> Result<PathBuf, Failure> {
    let expanded =
        expand(text, |variable| around.variable(variable).map(str::to_owned)).map_err(|variable| {
            let what = format!("names the variable {variable}, which is not set");
            broken(name, &what, &format!("export {variable}, or write the path out"))
        })?;
    let Some(rest) = expanded.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'))
    else {
        return Ok(PathBuf::from(expanded));
    };
    let home = around.home().ok_or_else(|| {
        broken(name, "begins with ~, but HOME is not set", "set HOME, or write the path out")
    })?;
    Ok(home.join(rest.trim_start_matches('/')))
}

/// Replaces `$NAME` and `${NAME}`; a `$` without a name stays. The error is the name that `lookup` does not know.
fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let braced = after.strip_prefix('{').and_then(|inside| inside.split_once('}'));
        let (name, next) = braced.unwrap_or_else(|| {
            let end = after.bytes().position(|byte| !is_name_byte(byte)).unwrap_or(after.len());
            after.split_at(end)
        });
        let is_name =
            name.bytes().all(is_name_byte) && !name.starts_with(|first: char| first.is_ascii_digit());
        if name.is_empty() || !is_name {
            out.push('$');
            rest = after;
            continue;
        }
        out.push_str(&lookup(name).ok_or_else(|| name.to_owned())?);
        rest = next;
    }
    out.push_str(rest);
    Ok(out)
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// A failure about the value called `name`.
pub(super) fn broken(name: &str, what: &str, hint: &str) -> Failure {
    Failure::new(FailureKind::Config, format!("{name} {what}"), hint)
}

/// A failure about a file that `name` points to and that cannot be read.
pub(crate) fn unreadable(name: &str, path: &Path, error: &std::io::Error) -> Failure {
    let message = format!("{name}: {} cannot be read: {}", path.display(), reason(error));
    Failure::new(FailureKind::Config, message, "check the path, and that this user may read the file")
}

/// The cause in words, without the number of the operating system.
pub(crate) fn reason(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::NotFound {
        "no such file".to_owned()
    } else {
        error.kind().to_string()
    }
}
