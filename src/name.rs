//! Names are for people, peer ids are keys.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use smol_str::SmolStr;

/// The longest name that is kept whole, in bytes. nats-server allows more; nobody reads more.
pub const NAME_BYTES_MAX: usize = 128;

/// The longest peer id that is kept, in bytes. A sound one has eight.
pub const PEER_ID_BYTES_MAX: usize = 16;

/// The id of a peer of a Raft group: eight characters, computed from the server's name.
///
/// A damaged peer file can bring others into a group (measured on 2.10.25: `"kCGheKT`, with the quotation mark), and
/// only by that very id can such a peer be removed. So an id is kept as it was sent; [`Self::is_sound`] tells
/// whether a server can have it.
///
/// Source: nats-server 2.9 to 2.15, `server/util.go` and `server/raft.go` (`getHash`, `idLen`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PeerId([u8; PEER_ID_BYTES_MAX]);

impl PeerId {
    /// The hash of the empty name.
    const NOBODY: Self = Self(*b"fqA4S4SK\0\0\0\0\0\0\0\0");
    /// How long the ids are that servers compute.
    const SOUND_BYTES: usize = 8;

    /// The id that a server of this name has in every Raft group.
    pub fn of_server(name: &str) -> Self {
        let mut id = [0; PEER_ID_BYTES_MAX];
        let hash = Sha256::digest(name.as_bytes());
        for (place, letter) in id.iter_mut().take(Self::SOUND_BYTES).zip(base62(&hash)) {
            *place = letter;
        }
        Self(id)
    }

    /// Keeps an id as it was sent; `None` when it is empty, longer than [`PEER_ID_BYTES_MAX`] or holds a NUL.
    ///
    /// The hash of the empty name is none either: servers up to 2.14 send it when they know no leader.
    pub fn parse(text: &str) -> Option<Self> {
        let mut id = [0; PEER_ID_BYTES_MAX];
        id.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        let id = Self(id);
        (!text.is_empty() && !text.contains('\0') && id != Self::NOBODY).then_some(id)
    }

    /// Whether it is an id as servers compute them from their names: eight ASCII letters and digits. No server can
    /// have another.
    pub fn is_sound(&self) -> bool {
        let text = self.as_str();
        text.len() == Self::SOUND_BYTES && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    }

    /// The id as it was sent, whatever it holds: for interfaces and hashes. Display is for people.
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(PEER_ID_BYTES_MAX);
        // Only text is ever stored.
        std::str::from_utf8(&self.0[..end]).unwrap_or_default()
    }
}

/// A hash as letters and digits, one for each byte, as nats-server writes it.
pub(crate) fn base62(hash: &[u8]) -> impl Iterator<Item = u8> {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    hash.iter().map(|byte| DIGITS[usize::from(*byte) % DIGITS.len()])
}

/// As text, but compared as one number: ids are the keys of every map.
impl Ord for PeerId {
    fn cmp(&self, other: &Self) -> Ordering {
        u128::from_be_bytes(self.0).cmp(&u128::from_be_bytes(other.0))
    }
}

impl PartialOrd for PeerId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Printed safely: see [`printable`].
impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&printable(self.as_str()))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PeerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What [`PeerId::parse`] refuses is an error.
impl<'de> Deserialize<'de> for PeerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("no peer id"))
    }
}

/// A name that somebody else chose, of bounded length: of a server, a cluster, a domain.
///
/// A longer one is cut and ends in the hash of the whole, so that two names stay two. A clone allocates nothing: names
/// of usual length stand in the value itself, the others share their text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Name(SmolStr);

impl Name {
    /// Keeps `text`, cut to [`NAME_BYTES_MAX`] when it is longer.
    pub fn new(text: &str) -> Self {
        if text.is_empty() {
            return Self::default();
        }
        if text.len() <= NAME_BYTES_MAX {
            return Self(text.into());
        }
        let mut end = NAME_BYTES_MAX - 16;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self(format!("{}…{}", &text[..end], PeerId::of_server(text)).into())
    }

    /// The name as it is kept. Print it through [`printable`].
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Printed safely: see [`printable`].
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&printable(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A name that is too long is cut as any other.
impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::new(&Cow::<'de, str>::deserialize(deserializer)?))
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

/// `text` as it may be shown on a terminal or put into a header: every character that could move the cursor,
/// change colours, reorder what is written or end the line is shown as its code instead.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_hidden(character) {
            shown.push_str(&format!("\\u{{{:x}}}", u32::from(character)));
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Whether a character does something other than show itself: controls, line separators, directional and
/// zero-width marks.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// So many names are told in one sentence.
const FEW: usize = 4;

/// `s1, s2, s3, s4 and 3 more`: names in a sentence, the first four of them.
pub fn join_some(names: impl IntoIterator<Item = String>) -> String {
    let mut names = names.into_iter();
    let told: Vec<String> = names.by_ref().take(FEW).collect();
    let more = names.count();
    let told = told.join(", ");
    if more > 0 { format!("{told} and {more} more") } else { told }
}

/// `10,001`: a number as people read it.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.5 GB`: an amount of bytes for people, in powers of 1,000.
pub fn bytes(amount: u64) -> String {
    let units = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let mut scaled = amount as f64;
    let mut unit = "bytes";
    for next in units {
        // Rounded to three digits it would be 1,000.
        if scaled < 999.5 {
            break;
        }
        (scaled, unit) = (scaled / 1_000.0, next);
    }
    let digits = if unit == "bytes" || scaled >= 99.95 { 0 } else { 1 };
    format!("{scaled:.digits$} {unit}")
}

/// The first bytes of `text`, at most `limit` of them, with `…` where some are left out.
pub fn shortened(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let most = limit.saturating_sub('…'.len_utf8());
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// `text` as one token of a subject: `.`, `*`, `>`, `%`, blanks and everything that does not print become `%`
/// and the two hexadecimal digits of each of their bytes. Never empty.
pub fn subject_token(text: &str) -> String {
    if text.is_empty() {
        return "_".to_owned();
    }
    let mut token = String::with_capacity(text.len());
    for character in text.chars() {
        let unsafe_here = matches!(character, '.' | '*' | '>' | '%') || character.is_whitespace();
        if unsafe_here || is_hidden(character) {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                token.push_str(&format!("%{byte:02X}"));
            }
        } else {
            token.push(character);
        }
    }
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_in_the_unit_that_fits() {
        let told = [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1_000, "1.0 kB"),
            (93_400_000_000, "93.4 GB"),
            (99_960_000_000, "100 GB"),
            (999_700_000_000, "1.0 TB"),
            (u64::MAX, "18.4 EB"),
        ];
        for (amount, words) in told {
            assert_eq!(bytes(amount), words);
        }
    }

    #[test]
    fn peer_ids_are_the_ones_that_real_servers_send() {
        let measured = [("s1", "k2My6qdB"), ("s2", "noC8kOtg"), ("s3", "3ahZoO2Q"), ("c1s1", "CJDTUsEZ")];
        for (name, id) in measured {
            assert_eq!(PeerId::of_server(name).as_str(), id);
            assert_eq!(PeerId::parse(id), Some(PeerId::of_server(name)));
        }
    }

    #[test]
    fn peer_ids_sort_as_text() {
        let texts =
            ["\"kCGheKT", "0", "0zzzzzzz", "3ahZoO2Q", "k2My6qdB", "k2My6qdB0", "k2My6qdC", "noC8kOtg", "é"];
        let ids = texts.map(PeerId::parse);
        assert!(ids.is_sorted() && ids.iter().all(Option::is_some), "{ids:?}");
    }

    #[test]
    fn damaged_peer_ids_are_kept_as_they_were_sent() {
        for text in ["\"kCGheKT", "x", "nine char", "3ahZoO2\n", "3ahZoO2é", "3ahZoO2Q0", "0123456789abcdef"]
        {
            let id = PeerId::parse(text).unwrap();
            assert_eq!((id.as_str(), id.is_sound()), (text, false), "{text:?}");
            assert_eq!(serde_json::to_value(id).unwrap(), text);
        }
        assert!(PeerId::of_server("s1").is_sound());
        assert_eq!(PeerId::parse("3ahZ\u{1b}[m").unwrap().to_string(), "3ahZ\\u{1b}[m");
    }

    #[test]
    fn what_cannot_be_a_peer_id_is_refused() {
        assert_eq!(PeerId::of_server(""), PeerId::NOBODY);
        for text in ["", "fqA4S4SK", "3ahZoO2Q\0", "\0", "0123456789abcdef0", "éééééééé0"] {
            assert_eq!(PeerId::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn long_names_are_cut_and_stay_distinct() {
        let long = "é".repeat(5_000);
        let other = format!("{long}x");
        let (name, other) = (Name::new(&long), Name::new(&other));
        assert!(name.as_str().len() <= NAME_BYTES_MAX, "{}", name.as_str().len());
        assert_ne!(name, other);
        assert_eq!(Name::new("s1").as_str(), "s1");
    }

    #[test]
    fn a_sentence_names_four_and_counts_the_rest() {
        let told = |count: usize| join_some((1..=count).map(|number| format!("s{number}")));
        assert_eq!([told(0), told(1), told(4)], ["", "s1", "s1, s2, s3, s4"]);
        assert_eq!(told(7), "s1, s2, s3, s4 and 3 more");
    }

    #[test]
    fn hostile_names_neither_reach_the_terminal_nor_split_a_subject() {
        assert_eq!(printable("\u{1b}[31mred\n"), "\\u{1b}[31mred\\u{a}");
        assert_eq!(printable("a\u{202e}b\u{85}"), "a\\u{202e}b\\u{85}");
        assert_eq!(subject_token("a.b*c>d e"), "a%2Eb%2Ac%3Ed%20e");
        assert_eq!(subject_token("n\r\nPUB x"), "n%0D%0APUB%20x");
        assert_eq!(subject_token("100%"), "100%25");
        assert_eq!(subject_token(""), "_");
        assert_eq!(subject_token("größe\u{a0}1"), "größe%C2%A01");
    }
}
