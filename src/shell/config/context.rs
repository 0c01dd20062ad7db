//! Context files of the nats CLI: where they are, which one is meant, what they say.

use std::path::{MAIN_SEPARATOR, Path, PathBuf};

use serde_json::{Map, Value};

use super::flags::{Layer, Origin, Setting};
use super::secret::{Env, expand_path, reason, unreadable};
use crate::shell::failure::{Failure, FailureKind};

/// Which context was asked for, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// None at all, not even the selected one.
    Nothing,
    /// The one that `nats context select` chose, if any.
    Selected,
    /// This name or path, as written in `origin`.
    Named { value: String, origin: String },
}

/// The context that is meant, as the lowest layer of values; `None` when there is none to use.
pub(super) fn load(choice: &Choice, around: &Env) -> Result<Option<Layer>, Failure> {
    let directory = around.contexts_home();
    match choice {
        Choice::Nothing => Ok(None),
        Choice::Named { value, origin } if is_path(value) => {
            let path = expand_path(origin, value, around)?;
            let text = std::fs::read_to_string(&path).map_err(|error| unreadable(origin, &path, &error))?;
            let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            parse(&name, &path, &text).map(Some)
        }
        Choice::Named { value, origin } => {
            let directory = directory.ok_or_else(|| {
                let message =
                    format!("{origin} names the context {value:?}, but the home directory is not known");
                Failure::new(FailureKind::Config, message, "set HOME, or give the path of the context file")
            })?;
            by_name(value, origin, &directory).map(Some)
        }
        Choice::Selected => {
            let Some(directory) = directory else { return Ok(None) };
            let Some(name) = selected(&directory.join("context.txt"))? else { return Ok(None) };
            by_name(&name, "context.txt", &directory).map(Some)
        }
    }
}

/// A value that ends in `.json` or holds a path separator is a path, everything else is a name.
fn is_path(value: &str) -> bool {
    value.ends_with(".json") || value.contains('/') || value.contains(MAIN_SEPARATOR)
}

/// The name that `nats context select` wrote down.
fn selected(file: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|name| !name.is_empty())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        // No context was asked for: one that cannot even be looked up is no reason to stop.
        Err(error) => {
            tracing::warn!(file = %file.display(), reason = %reason(&error), "the selected context cannot be read");
            Ok(None)
        }
    }
}

fn by_name(name: &str, origin: &str, directory: &Path) -> Result<Layer, Failure> {
    // A name becomes part of a path: it must not lead anywhere else.
    if name.contains("..") || name.contains(['/', '\\', '\0']) {
        let message = format!("{origin} names the context {name:?}, which is not a valid name");
        return Err(Failure::new(
            FailureKind::Config,
            message,
            "choose one with --context NAME, or use --no-context",
        ));
    }
    let contexts = directory.join("context");
    let path = contexts.join(format!("{name}.json"));
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(name, &path, &text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(missing(name, origin, &contexts)),
        Err(error) => Err(unreadable(&format!("the context {name:?}"), &path, &error)),
    }
}

fn missing(name: &str, origin: &str, contexts: &Path) -> Failure {
    let known = known(contexts);
    let hint = if known.is_empty() {
        format!(
            "there are no contexts in {}; create one with nats context add, or use --no-context",
            contexts.display()
        )
    } else {
        format!("these contexts exist: {}; or use --no-context", known.join(", "))
    };
    Failure::new(FailureKind::Config, format!("the context {name:?} ({origin}) does not exist"), hint)
}

/// The names of the contexts that exist, in order; at most 20, which is enough for a hint.
fn known(contexts: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(contexts) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let path: PathBuf = entry.ok()?.path();
            let json = path.extension().is_some_and(|extension| extension == "json");
            json.then(|| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()))?
        })
        .collect();
    names.sort();
    names.truncate(20);
    names
}

/// Reads a context. It goes through a plain JSON object and not through a derived type, because the errors of
/// a derived type quote the value they do not like, and that may be a password.
fn parse(name: &str, path: &Path, text: &str) -> Result<Layer, Failure> {
    let broken = |what: String, hint: &str| {
        let message = format!("the context file {} {what}", path.display());
        Failure::new(FailureKind::Config, message, hint)
    };
    let value: Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| {
        let what = format!("is not valid JSON at line {}, column {}", error.line(), error.column());
        broken(what, "mend it with nats context edit, or use --no-context")
    })?;
    let Value::Object(fields) = value else {
        return Err(broken(
            "is not a JSON object".into(),
            "mend it with nats context edit, or use --no-context",
        ));
    };
    let mut layer = Layer::new(Origin::Context(name.to_owned()));
    for (key, field) in Origin::fields() {
        let wanted = if key == Setting::TlsFirst { "true or false" } else { "a text" };
        let value = field_text(&fields, field, key).ok_or_else(|| {
            broken(format!("has a field {field:?} that is not {wanted}"), "mend it with nats context edit")
        })?;
        layer.set(key, value);
    }
    // Going round the proxy in silence would be a surprise, and mostly not work.
    if fields.get("socks_proxy").and_then(Value::as_str).is_some_and(|proxy| !proxy.is_empty()) {
        return Err(broken(
            "asks for a SOCKS proxy, which is not supported".into(),
            "remove socks_proxy from the context, or use --no-context with --server",
        ));
    }
    Ok(layer)
}

/// The text of a field, empty when it is absent; `None` when it has the wrong type.
fn field_text(fields: &Map<String, Value>, field: &str, key: Setting) -> Option<String> {
    match fields.get(field) {
        None | Some(Value::Null) => Some(String::new()),
        Some(Value::Bool(set)) if key == Setting::TlsFirst => {
            Some(if *set { "true" } else { "false" }.to_owned())
        }
        Some(Value::String(text)) if key != Setting::TlsFirst => Some(text.clone()),
        Some(_) => None,
    }
}
