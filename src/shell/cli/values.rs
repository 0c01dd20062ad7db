//! The values of flags, with their limits.

use std::time::Duration;

fn between(text: &str, min: Duration, max: Duration) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a duration like 500ms, 2s or 15m"))?;
    let shown = humantime::format_duration;
    if duration < min {
        return Err(format!("it must be at least {}", shown(min)));
    }
    if duration > max {
        return Err(format!("it must be at most {}", shown(max)));
    }
    Ok(duration)
}

pub(super) fn interval(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_millis(100), Duration::from_secs(3_600))
}

/// The contact of a healthy peer is up to one heartbeat, 1 s, old.
pub(super) fn lost_contact(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_secs(2), Duration::from_secs(86_400))
}

pub(super) fn remind(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_secs(1), Duration::MAX)
}

/// A time in which something is counted.
pub(super) fn window(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_secs(10), Duration::from_secs(86_400))
}

pub(super) fn positive(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_millis(1), Duration::MAX)
}

/// A prefix of subjects that anybody may publish to.
pub(super) fn prefix(text: &str) -> Result<String, String> {
    let fits = |token: &str| {
        !token.is_empty()
            && !token.contains(|c: char| c.is_whitespace() || c.is_control() || "*>".contains(c))
    };
    if !text.split('.').all(fits) {
        return Err("a prefix is tokens with dots between them, without wildcards or blanks".to_owned());
    }
    let first = text.split('.').next().unwrap_or_default();
    if first.starts_with('$') || first == "_INBOX" {
        return Err(format!("subjects that begin with {first} belong to the servers; choose another prefix"));
    }
    if text.len() > 128 {
        return Err("a prefix has at most 128 bytes".to_owned());
    }
    Ok(text.to_owned())
}
