//! A reply as a template: what stays the same from epoch to epoch, and where in it the numbers and times stand that
//! do not.
//!
//! Most replies of a healthy system differ from the last ones only in times and counters, of which the decoder takes
//! few: the sequence number, how long ago a leader heard each peer, and the load of the server. Comparing such a reply with the last one costs
//! a tenth of decoding it. **Invariant:** a payload that fits a template decodes to the reply that the template was
//! made from, but for these; whatever else differs by a single byte does not fit, and is decoded.

use super::json::JszReply;
use super::{JetStream, Reply, Usage, UsageField, strict};

/// The longest number or time that is looked at.
const TOKEN_BYTES_MAX: usize = 40;
/// Deeper values are left to the decoder.
const DEPTH_MAX: u8 = 16;
/// A reply with more changing places is left to the decoder: a leader of so many peers.
const HOLES_MAX: usize = 32_768;
/// A larger reply is left to the decoder.
const TEMPLATE_BYTES_MAX: usize = 1 << 20;

/// A reply without what changes in it.
#[derive(Clone, Debug)]
pub struct Template {
    /// Part by part: how long what stays the same is, that text, and what comes after it ([`Kind`]). All in one piece,
    /// so that one pass over it and over a payload tells whether they fit.
    parts: Box<[u8]>,
}

/// Where the parts that stay the same end, and what follows each.
#[derive(Clone, Copy, Debug)]
struct Hole {
    before: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An integer that the decoder does not take.
    Number,
    /// The inside of a string that holds a time, which the decoder does not take.
    Time,
    /// `server.seq`
    Sequence,
    /// `active` of a row of `data.meta_cluster.replicas`
    Active,
    /// A number of the server's load.
    Usage(UsageField),
    /// Nothing: the payload ends.
    End,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Number => b'n',
            Self::Time => b't',
            Self::Sequence => b's',
            Self::Active => b'a',
            Self::Usage(field) => field as u8,
            Self::End => b'e',
        }
    }

    fn of(byte: u8) -> Self {
        match byte {
            b'n' => Self::Number,
            b't' => Self::Time,
            b's' => Self::Sequence,
            b'a' => Self::Active,
            field => UsageField::ALL.get(usize::from(field)).map_or(Self::End, |field| Self::Usage(*field)),
        }
    }
}

/// What a payload that fits a template tells anew.
#[derive(Debug, Default)]
pub struct Changes {
    /// The sequence number.
    sequence: u64,
    /// How long ago the leader heard each peer, in the order of the rows.
    active_ns: Vec<i64>,
    /// The load of the server.
    usage: Usage,
}

impl Template {
    /// The template of a payload that was decoded to `reply`; `None` where something in it is unusual.
    pub fn new(payload: &[u8], reply: &Reply) -> Option<Self> {
        let strict = || matches!(strict::<JszReply<'_>>(payload), Ok(Ok(_)));
        if payload.len() > TEMPLATE_BYTES_MAX || !reply.flaws.is_empty() || !strict() {
            return None;
        }
        let mut scan =
            Scan { text: payload, at: 0, fixed: Vec::with_capacity(payload.len()), holes: Vec::new() };
        scan.value(Place::Reply, 0)?;
        let whole = scan.at == payload.len();
        let (rows, usage) = match &reply.jetstream {
            JetStream::Member(meta) => (meta.rows.as_slice(), Some(&meta.usage)),
            JetStream::Standalone | JetStream::Disabled => (&[][..], None),
        };
        let sequences = scan.holes.iter().filter(|hole| hole.kind == Kind::Sequence).count();
        let template = Self { parts: scan.parts()? };
        // The scan must have seen the same numbers as the decoder.
        let mut seen = Changes::default();
        let fits = whole && template.fit(payload, &mut seen);
        let same_rows = seen.active_ns.iter().copied().eq(rows.iter().map(|row| row.active_ns));
        let same = same_rows && usage.is_none_or(|usage| *usage == seen.usage);
        (fits && sequences == 1 && seen.sequence == reply.server.sequence && same).then_some(template)
    }

    /// How many bytes it takes.
    pub fn bytes(&self) -> usize {
        self.parts.len()
    }

    /// Whether a payload is the same but for what changes, which is put into `changes`.
    pub fn fit(&self, payload: &[u8], changes: &mut Changes) -> bool {
        changes.active_ns.clear();
        changes.usage = Usage::default();
        self.rest(payload, changes).is_some_and(<[u8]>::is_empty)
    }

    /// What a payload has beyond the template; `None` where it does not fit.
    fn rest<'a>(&self, payload: &'a [u8], changes: &mut Changes) -> Option<&'a [u8]> {
        let (mut parts, mut rest) = (&*self.parts, payload);
        loop {
            let (length, after) = parts.split_first_chunk()?;
            let (fixed, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            let (kind, after) = after.split_first()?;
            rest = rest.strip_prefix(fixed)?;
            parts = after;
            let length = match Kind::of(*kind) {
                Kind::Number => number(rest)?,
                Kind::Time => time(rest)?,
                Kind::Sequence => natural(rest, &mut changes.sequence)?,
                Kind::Active => {
                    let mut active = 0;
                    let length = integer(rest, &mut active)?;
                    changes.active_ns.push(active);
                    length
                }
                Kind::Usage(field) => {
                    let mut amount = 0;
                    // What cannot be is a flaw, and told by the decoder.
                    integer(rest, &mut amount).filter(|_| changes.usage.set(field, amount))?
                }
                Kind::End => return Some(rest),
            };
            rest = &rest[length..];
        }
    }
}

impl Changes {
    /// Brings a reply up to date, whose template the payload fits. Whether its load is another one now.
    pub fn apply(&self, reply: &mut Reply) -> bool {
        reply.server.sequence = self.sequence;
        let JetStream::Member(meta) = &mut reply.jetstream else { return false };
        for (row, active_ns) in meta.rows.iter_mut().zip(&self.active_ns) {
            row.active_ns = *active_ns;
        }
        std::mem::replace(&mut meta.usage, self.usage) != self.usage
    }
}

/// How long the integer is that the text begins with.
fn number(text: &[u8]) -> Option<usize> {
    let sign = usize::from(text.first() == Some(&b'-'));
    let digits = text[sign..].iter().take(TOKEN_BYTES_MAX).take_while(|byte| byte.is_ascii_digit()).count();
    let leads_with_zero = digits > 1 && text[sign] == b'0';
    (digits > 0 && digits < TOKEN_BYTES_MAX && !leads_with_zero).then_some(sign + digits)
}

fn natural(text: &[u8], value: &mut u64) -> Option<usize> {
    let length = number(text)?;
    let mut sum: u64 = 0;
    for byte in &text[..length] {
        // A sign is no digit.
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum = sum.checked_mul(10)?.checked_add(digit.into())?;
    }
    *value = sum;
    Some(length)
}

fn integer(text: &[u8], value: &mut i64) -> Option<usize> {
    let mut size = 0;
    let negative = text.first() == Some(&b'-');
    let length = natural(&text[usize::from(negative)..], &mut size)?;
    let size = i64::try_from(size).ok()?;
    *value = if negative { -size } else { size };
    Some(length + usize::from(negative))
}

/// How long the text is a time, at least in its letters.
fn time(text: &[u8]) -> Option<usize> {
    let of_a_time = |byte: &&u8| byte.is_ascii_digit() || b"-:.TZ+".contains(byte);
    let length = text.iter().take(TOKEN_BYTES_MAX).take_while(of_a_time).count();
    (length < TOKEN_BYTES_MAX).then_some(length)
}

/// Where in a reply a value stands, as far as the decoder cares.
#[derive(Clone, Copy)]
enum Place {
    Reply,
    Server,
    Data,
    Config,
    Meta,
    Rows,
    Row,
    /// Something that the decoder takes.
    Taken,
    Sequence,
    Active,
    Snapshot,
    Usage(UsageField),
    /// Something that it skips, with all that is in it.
    Skipped,
}

impl Place {
    /// Where the value of this field stands; `None` for what is never the same for long.
    fn field(self, name: &[u8]) -> Option<Self> {
        Some(match (self, name) {
            (Self::Reply, b"server") => Self::Server,
            (Self::Reply, b"data") => Self::Data,
            (Self::Reply, b"error") => return None,
            (Self::Server, b"seq") => Self::Sequence,
            (Self::Server, b"name" | b"id" | b"cluster" | b"domain" | b"ver") => Self::Taken,
            (Self::Data, b"disabled") => Self::Taken,
            (Self::Data, b"config") => Self::Config,
            (Self::Data, b"meta_cluster") => Self::Meta,
            (Self::Data, b"streams") => Self::Usage(UsageField::Streams),
            (Self::Data, b"consumers") => Self::Usage(UsageField::Consumers),
            (Self::Data, b"storage") => Self::Usage(UsageField::Storage),
            (Self::Data, b"reserved_storage") => Self::Usage(UsageField::ReservedStorage),
            (Self::Config, b"max_storage") => Self::Usage(UsageField::MaxStorage),
            (Self::Meta, b"pending") => Self::Usage(UsageField::Pending),
            (Self::Meta, b"snapshot") => Self::Snapshot,
            (Self::Snapshot, b"last_duration") => Self::Usage(UsageField::Snapshot),
            (Self::Config, b"domain") => Self::Taken,
            (Self::Meta, b"replicas") => Self::Rows,
            (Self::Meta, b"name" | b"leader" | b"peer" | b"cluster_size" | b"quorum_needed" | b"rescue") => {
                Self::Taken
            }
            (Self::Row, b"active") => Self::Active,
            (Self::Row, b"name" | b"peer" | b"offline" | b"current" | b"lag") => Self::Taken,
            (Self::Taken | Self::Sequence | Self::Active | Self::Usage(_), _) => Self::Taken,
            _ => Self::Skipped,
        })
    }

    fn entry(self) -> Self {
        if matches!(self, Self::Rows) { Self::Row } else { self }
    }
}

/// Walks through a payload that the decoder has read.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    fixed: Vec<u8>,
    holes: Vec<Hole>,
}

impl Scan<'_> {
    fn value(&mut self, place: Place, depth: u8) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        match self.text.get(self.at)? {
            b'{' => self.entries(b'}', |scan| {
                let place = place.field(scan.string()?)?;
                scan.take(b':')?;
                scan.value(place, depth + 1)
            }),
            b'[' => self.entries(b']', |scan| scan.value(place.entry(), depth + 1)),
            b'"' => {
                let text = self.text;
                let rest = &text[self.at + 1..];
                let is_time = matches!(place, Place::Skipped) && is_moment(rest);
                if is_time && let Some(length) = time(rest).filter(|length| rest.get(*length) == Some(&b'"'))
                {
                    self.take(b'"')?;
                    self.hole(Kind::Time, length)?;
                    self.take(b'"')
                } else {
                    self.string().map(|_| ())
                }
            }
            b'-' | b'0'..=b'9' => {
                let kind = match place {
                    Place::Skipped => Some(Kind::Number),
                    Place::Sequence => Some(Kind::Sequence),
                    Place::Active => Some(Kind::Active),
                    Place::Usage(field) => Some(Kind::Usage(field)),
                    Place::Reply
                    | Place::Server
                    | Place::Data
                    | Place::Config
                    | Place::Meta
                    | Place::Rows
                    | Place::Row
                    | Place::Taken
                    | Place::Snapshot => None,
                };
                let rest = &self.text[self.at..];
                match (kind, number(rest)) {
                    // What goes on behind an integer is a fraction, and stays as it is.
                    (Some(kind), Some(length)) if matches!(rest.get(length), Some(b',' | b'}' | b']')) => {
                        self.hole(kind, length)
                    }
                    _ => self.literal(),
                }
            }
            _ => self.literal(),
        }
    }

    /// The entries of an object or a list, up to its end.
    fn entries(&mut self, end: u8, mut entry: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        let start = *self.text.get(self.at)?;
        self.take(start)?;
        if self.text.get(self.at) == Some(&end) {
            return self.take(end);
        }
        loop {
            entry(self)?;
            if self.text.get(self.at) == Some(&end) {
                return self.take(end);
            }
            self.take(b',')?;
        }
    }

    /// A string without escapes.
    fn string(&mut self) -> Option<&[u8]> {
        let rest = self.text.get(self.at..)?.strip_prefix(b"\"")?;
        let length = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        if rest[length] == b'\\' {
            return None;
        }
        self.keep(length + 2);
        Some(&rest[..length])
    }

    /// `true`, `false`, `null`, or a number.
    fn literal(&mut self) -> Option<()> {
        let rest = &self.text[self.at..];
        let length = rest.iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b'"' | b'\\'))?;
        // Blanks between the parts of a payload are no server's.
        if length == 0 || rest[..length].iter().any(u8::is_ascii_whitespace) {
            return None;
        }
        self.keep(length);
        Some(())
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        if self.text.get(self.at) != Some(&byte) {
            return None;
        }
        self.keep(1);
        Some(())
    }

    fn keep(&mut self, length: usize) {
        self.fixed.extend_from_slice(&self.text[self.at..self.at + length]);
        self.at += length;
    }

    fn hole(&mut self, kind: Kind, length: usize) -> Option<()> {
        if self.holes.len() >= HOLES_MAX {
            return None;
        }
        self.holes.push(Hole { before: self.fixed.len(), kind });
        self.at += length;
        Some(())
    }

    /// The parts of the template, in one piece.
    fn parts(&self) -> Option<Box<[u8]>> {
        let mut parts = Vec::with_capacity(self.fixed.len() + 5 * (self.holes.len() + 1));
        let mut from = 0;
        let end = Hole { before: self.fixed.len(), kind: Kind::End };
        for Hole { before, kind } in self.holes.iter().chain([&end]) {
            parts.extend_from_slice(&u32::try_from(before - from).ok()?.to_le_bytes());
            parts.extend_from_slice(&self.fixed[from..*before]);
            parts.push(kind.byte());
            from = *before;
        }
        Some(parts.into())
    }
}

/// Whether the text begins as a moment does: `2026-11-23T`.
fn is_moment(text: &[u8]) -> bool {
    let digit = |place: usize| text.get(place).is_some_and(u8::is_ascii_digit);
    (0..4).all(digit) && text.get(4) == Some(&b'-') && text.get(10) == Some(&b'T')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::decode_jsz;

    const REPLY: &str = r#"{"server":{"name":"s1","id":"N1","cluster":"c1","ver":"2.15.1","seq":41,"time":"2026-11-23T05:03:30.055Z"},"data":{"memory":7,"now":"2026-11-23T05:03:30.055Z","api":{"total":9,"rate":1.5},"config":{"domain":"d","max_storage":100,"store_dir":"/data"},"meta_cluster":{"name":"c1","leader":"s1","peer":"k2My6qdB","replicas":[{"name":"s2","current":true,"active":706500,"peer":"noC8kOtg","lag":3},{"name":"s3","current":true,"active":-12,"peer":"3ahZoO2Q"}],"cluster_size":3,"quorum_needed":2,"pending":0,"snapshot":{"pending_size":1,"last_time":"2026-11-23T05:03:30.055Z","last_duration":5}},"storage":8,"streams":2}}"#;

    fn template(text: &str) -> Option<Template> {
        Template::new(text.as_bytes(), &decode_jsz(text.as_bytes()).ok()?)
    }

    /// Whether the text fits; if so, it is decoded the short way and the long way to the same.
    #[track_caller]
    fn fits(text: &str) -> bool {
        let mut changes = Changes::default();
        let fits = template(REPLY).unwrap().fit(text.as_bytes(), &mut changes);
        if fits {
            let mut reply = decode_jsz(REPLY.as_bytes()).unwrap();
            changes.apply(&mut reply);
            assert_eq!(Ok(reply), decode_jsz(text.as_bytes()), "{text}");
        }
        fits
    }

    #[test]
    fn times_and_counters_change_without_a_new_reading() {
        assert!(fits(REPLY));
        for (from, to) in [
            ("\"seq\":41", "\"seq\":4294967296"),
            ("\"time\":\"2026-11-23T05:03:30.055Z\"", "\"time\":\"2026-11-24T05:03:30.0557+02:00\""),
            ("\"memory\":7", "\"memory\":-70000"),
            ("\"total\":9", "\"total\":0"),
            ("706500", "1"),
            ("-12", "9223372036854775807"),
            ("\"pending\":0", "\"pending\":12"),
            ("\"storage\":8", "\"storage\":80000000000"),
            ("\"streams\":2", "\"streams\":0"),
            ("\"max_storage\":100", "\"max_storage\":-1"),
            ("\"pending_size\":1", "\"pending_size\":77"),
            ("\"last_duration\":5", "\"last_duration\":6000000000"),
        ] {
            assert!(fits(&REPLY.replace(from, to)), "{to}");
        }
    }

    #[test]
    fn whatever_else_differs_is_read_anew() {
        for (from, to) in [
            ("\"s2\"", "\"s4\""),
            ("\"lag\":3", "\"lag\":4"),
            ("\"lag\":3", "\"lag\":3,\"offline\":true"),
            ("\"cluster_size\":3", "\"cluster_size\":4"),
            ("\"quorum_needed\":2", "\"quorum_needed\":1"),
            ("2.15.1", "2.15.2"),
            ("true", "false"),
            ("706500", "0706500"),
            ("706500", "7.5"),
            ("706500", "\"7\""),
            ("706500", ""),
            ("-12", "9223372036854775808"),
            ("\"seq\":41", "\"seq\":-1"),
            ("\"seq\":41", "\"seq\":18446744073709551616"),
            ("\"rate\":1.5", "\"rate\":1.6"),
            ("/data", "/other"),
            ("2}}", "2}} "),
            ("2}}", "2}"),
            // What cannot be is told as a flaw.
            ("\"storage\":8", "\"storage\":-8"),
            ("\"storage\":8", "\"storage\":18446744073709551615"),
            ("\"storage\":8", "\"storage\":8e1"),
            ("\"last_duration\":5", "\"last_duration\":86400000000001"),
            (",\"last_duration\":5", ""),
            ("\"N1\"", "\"N2\""),
        ] {
            assert!(!fits(&REPLY.replace(from, to)), "{to}");
        }
    }

    #[test]
    fn what_no_server_sends_gets_no_template() {
        assert!(template(REPLY).is_some());
        for (from, to) in [
            ("\"seq\"", "\"s\\u0065q\""),
            ("\"s2\"", "\"s\\u0032\""),
            ("\"memory\":7", "\"memory\": 7"),
            ("\"memory\":7", &format!("\"memory\":{}{}", "[".repeat(40), "]".repeat(40))),
            ("\"cluster_size\":3", "\"cluster_size\":\"3\""),
            ("\"lag\":3", "\"lag\":3,\"lag\":3"),
            ("\"seq\":41,", ""),
        ] {
            assert!(template(&REPLY.replace(from, to)).is_none(), "{to}");
        }
    }
}
