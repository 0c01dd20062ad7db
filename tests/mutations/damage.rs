//! What can happen to replies on their way, or in the server that makes them.

use std::fmt;

use serde_json::{Value, json};

use crate::recordings::Line;
use crate::support::Random;

/// Marks a key that is to come a second time: before all others of its object, or after them.
const FIRST: &str = "!again";
const LAST: &str = "~again";

/// One damage to one epoch.
#[derive(Clone, Debug)]
pub(super) struct Damage {
    epoch: usize,
    reply: usize,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// The field at this pointer is missing.
    Missing(String),
    /// It has another value.
    Other(String, Value),
    /// It comes twice: with this value, too, before or after its own.
    Twice(String, Value, &'static str),
    RowsReversed,
    RowTwice(usize),
    Lost,
    Doubled,
    /// Only so many of its bytes arrive.
    Cut(usize),
    /// One byte of it is another.
    Byte(usize, u8),
    /// The replies come in another order.
    Rotated,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}, reply {}: {:?}", self.epoch, self.reply, self.kind)
    }
}

/// Values that no field should have, and some that only some fields should.
fn odd() -> Vec<Value> {
    vec![
        Value::Null,
        json!(-1),
        json!(0),
        json!(1),
        json!(u64::MAX),
        json!(1e300),
        json!(true),
        json!(false),
        json!(""),
        json!("x"),
        json!([]),
        json!({}),
        json!([{}]),
    ]
}

fn rows() -> &'static str {
    "/data/meta_cluster/replicas"
}

/// The pointers to all fields below `value`.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    let mut below = |key: &str, value: &Value| {
        let pointer = format!("{at}/{key}");
        found.push(pointer.clone());
        pointers(value, &pointer, found);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| below(key, value)),
        Value::Array(entries) => {
            entries.iter().enumerate().for_each(|(index, value)| below(&index.to_string(), value));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Other values for a field: odd ones, and those that fields of this name have elsewhere in the reply.
fn others(reply: &Value, pointer: &str, all: &[String]) -> Vec<Value> {
    let key = pointer.rsplit('/').next();
    let elsewhere = all.iter().filter(|other| *other != pointer && other.rsplit('/').next() == key);
    odd().into_iter().chain(elsewhere.filter_map(|other| reply.pointer(other).cloned())).collect()
}

/// Every damage to every single field of an epoch's replies.
pub(super) fn every_field(line: &Line) -> Vec<Damage> {
    let mut damages = Vec::new();
    for (index, reply) in line.replies.iter().enumerate() {
        let reply: Value = serde_json::from_slice(reply).expect("JSON");
        let mut all = Vec::new();
        pointers(&reply, "", &mut all);
        for pointer in &all {
            let mut add = |kind| damages.push(Damage { epoch: 0, reply: index, kind });
            add(Kind::Missing(pointer.clone()));
            for value in others(&reply, pointer, &all) {
                add(Kind::Other(pointer.clone(), value));
            }
            add(Kind::Twice(pointer.clone(), Value::Null, LAST));
            add(Kind::Twice(pointer.clone(), json!(false), FIRST));
            add(Kind::Twice(pointer.clone(), json!(false), LAST));
        }
    }
    damages
}

impl Damage {
    /// Some damage to some reply; one of the last epochs as often as one of all others.
    pub(super) fn at_random(lines: &[Line], random: &mut Random) -> Self {
        let late = random.one_in(2);
        let epoch =
            if late { lines.len() - 1 - random.below(lines.len().min(3)) } else { random.below(lines.len()) };
        let replies = &lines[epoch].replies;
        let reply = random.below(replies.len());
        let kind = match replies.get(reply) {
            Some(bytes) => Self::kind(bytes, random),
            None => Kind::Rotated,
        };
        Self { epoch, reply, kind }
    }

    fn kind(bytes: &[u8], random: &mut Random) -> Kind {
        let at = random.below(bytes.len());
        match random.below(10) {
            0 => Kind::Lost,
            1 => Kind::Doubled,
            2 => Kind::Cut(at),
            3 => Kind::Byte(at, random.next() as u8),
            4 => Kind::RowsReversed,
            5 => Kind::RowTwice(random.below(8)),
            _ => Self::field(bytes, random).unwrap_or(Kind::Rotated),
        }
    }

    fn field(bytes: &[u8], random: &mut Random) -> Option<Kind> {
        let reply: Value = serde_json::from_slice(bytes).ok()?;
        let mut all = Vec::new();
        pointers(&reply, "", &mut all);
        // Half of the time a field of a row, where there is one.
        let of_rows: Vec<&String> = all.iter().filter(|pointer| pointer.starts_with(rows())).collect();
        let pointer = if of_rows.is_empty() || random.one_in(2) {
            all.get(random.below(all.len()))?
        } else {
            of_rows[random.below(of_rows.len())]
        };
        let others = others(&reply, pointer, &all);
        let value = others[random.below(others.len())].clone();
        Some(match random.below(4) {
            0 => Kind::Missing(pointer.clone()),
            1 => Kind::Twice(pointer.clone(), value, if random.one_in(2) { FIRST } else { LAST }),
            _ => Kind::Other(pointer.clone(), value),
        })
    }

    /// Something that loses and changes nothing.
    pub(super) fn without_loss(epoch: usize, lines: &[Line], random: &mut Random) -> Self {
        let kind = match random.below(3) {
            0 => Kind::Doubled,
            1 => Kind::RowsReversed,
            _ => Kind::Rotated,
        };
        Self { epoch, reply: random.below(lines[epoch].replies.len()), kind }
    }

    pub(super) fn apply(&self, lines: &mut [Line]) {
        let replies = &mut lines[self.epoch].replies;
        let Some(reply) = replies.get_mut(self.reply) else { return };
        match &self.kind {
            Kind::Lost => drop(replies.remove(self.reply)),
            Kind::Doubled => {
                let again = reply.clone();
                replies.push(again);
            }
            Kind::Rotated => replies.rotate_left(1),
            Kind::Cut(at) => reply.truncate(*at),
            Kind::Byte(at, byte) => {
                if let Some(place) = reply.get_mut(*at) {
                    *place = *byte;
                }
            }
            Kind::Missing(_) | Kind::Other(..) | Kind::Twice(..) | Kind::RowsReversed | Kind::RowTwice(_) => {
                if let Some(changed) = self.kind.changed(reply) {
                    *reply = changed;
                }
            }
        }
    }
}

impl Kind {
    /// The reply with a change inside; `None` where it has no such place, or is no JSON any more.
    fn changed(&self, reply: &[u8]) -> Option<Vec<u8>> {
        let mut value: Value = serde_json::from_slice(reply).ok()?;
        let parent =
            |pointer: &str| pointer.rsplit_once('/').map(|(parent, key)| (parent.to_owned(), key.to_owned()));
        match self {
            Self::Missing(pointer) => {
                let (parent, key) = parent(pointer)?;
                match value.pointer_mut(&parent)? {
                    Value::Object(fields) => drop(fields.remove(&key)?),
                    Value::Array(entries) => drop(entries.remove(key.parse().ok()?)),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
                }
            }
            Self::Other(pointer, other) => *value.pointer_mut(pointer)? = other.clone(),
            Self::Twice(pointer, other, mark) => {
                let (parent, key) = parent(pointer)?;
                value.pointer_mut(&parent)?.as_object_mut()?.insert((*mark).to_owned(), other.clone());
                return Some(
                    value.to_string().replace(&format!("\"{mark}\""), &json!(key).to_string()).into_bytes(),
                );
            }
            Self::RowsReversed => value.pointer_mut(rows())?.as_array_mut()?.reverse(),
            Self::RowTwice(at) => {
                let rows = value.pointer_mut(rows())?.as_array_mut()?;
                let again = rows.get(at % rows.len().max(1))?.clone();
                rows.push(again);
            }
            Self::Lost | Self::Doubled | Self::Cut(_) | Self::Byte(..) | Self::Rotated => return None,
        }
        Some(value.to_string().into_bytes())
    }
}
