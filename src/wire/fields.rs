//! The fields of a JSON object that is not quite what a server sends, each read by itself: one that is of a wrong
//! type counts as absent and costs no other.
//!
//! Values are kept as the text they were sent as, so that nothing is read that nobody asks for, and a number may be
//! as large and a value as deep as it likes. Every level is walked once, without recursion.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::shapes::Bounded;
use super::{ROWS_MAX, bounded};

/// So much of what was wrong with one payload is kept in words.
pub const FLAWS_MAX: usize = 4;

/// What was wrong with the parts of a payload, in words, bounded and printable.
#[derive(Debug, Default)]
pub(super) struct Flaws(Vec<String>);

impl Flaws {
    pub(super) fn add(&mut self, flaw: fmt::Arguments<'_>) {
        if self.0.len() < FLAWS_MAX {
            self.0.push(bounded(&flaw.to_string()));
        }
    }

    pub(super) fn into_words(self) -> Vec<String> {
        self.0
    }
}

/// The fields of one object, in the order in which they were sent; a name can come more than once.
#[derive(Default)]
pub(super) struct Fields<'a> {
    /// Where in the payload the object is, as a prefix of the names of its fields.
    path: String,
    fields: Vec<(String, &'a str)>,
}

impl<'a> Fields<'a> {
    /// The fields of the object that `text` is, up to where it stops being one, and what is wrong there.
    pub(super) fn up_to_error(text: &'a str) -> (Self, Option<serde_json::Error>) {
        let mut fields = Vec::new();
        let mut json = serde_json::Deserializer::from_str(text);
        let read = Collect(&mut fields).deserialize(&mut json).and_then(|()| json.end());
        (Self { path: String::new(), fields }, read.err())
    }

    /// The fields of the object that `text` is; `None` when it is something else.
    pub(super) fn of(text: &'a str, path: String) -> Option<Self> {
        let (fields, error) = Self::up_to_error(text);
        error.is_none().then_some(Self { path, ..fields })
    }

    /// The objects among the values, with their names, and how many other values there are.
    pub(super) fn objects(&self) -> (Vec<(&str, Self)>, usize) {
        let read = |(name, text): &'_ (String, &'a str)| Fields::of(text, format!("{}{name}.", self.path));
        let objects: Vec<_> =
            self.fields.iter().filter_map(|field| Some((field.0.as_str(), read(field)?))).collect();
        let others = self.fields.len() - objects.len();
        (objects, others)
    }

    /// Whether there is something other than `null` under the name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.all(name).any(|text| text != "null")
    }

    pub(super) fn text(&self, name: &str, flaws: &mut Flaws) -> String {
        self.last(name, "text", flaws, |text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// A number; a fraction is cut off, and what does not fit becomes the greatest or the least that does.
    pub(super) fn number(&self, name: &str, flaws: &mut Flaws) -> Option<i64> {
        let number = self.number_between(name, i64::MIN.into(), i64::MAX.into(), flaws)?;
        i64::try_from(number).ok()
    }

    /// The same for a number that is never negative.
    pub(super) fn count(&self, name: &str, flaws: &mut Flaws) -> Option<u64> {
        let number = self.number_between(name, 0, u64::MAX.into(), flaws)?;
        u64::try_from(number).ok()
    }

    fn number_between(&self, name: &str, least: i128, most: i128, flaws: &mut Flaws) -> Option<i128> {
        let number = self.last(name, "number", flaws, number)?;
        if !(least..=most).contains(&number) {
            flaws.add(format_args!("{}{name} is out of range", self.path));
        }
        Some(number.clamp(least, most))
    }

    /// A flag, false where it is absent; `None` where it is there and is none. Of two that differ, `worse` counts.
    pub(super) fn flag(&self, name: &str, worse: bool, flaws: &mut Flaws) -> Option<bool> {
        self.check_agreement(name, flaws);
        let read = |text| match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        let mut flags = self.all(name).map(read);
        if flags.clone().any(|flag| flag == Some(worse)) {
            return Some(worse);
        }
        let flag = flags.try_fold(false, |_, flag| flag);
        if flag.is_none() {
            flaws.add(format_args!("{}{name} is no flag", self.path));
        }
        flag
    }

    pub(super) fn object(&self, name: &str, flaws: &mut Flaws) -> Option<Self> {
        self.last(name, "object", flaws, |text| Self::of(text, format!("{}{name}.", self.path)))
    }

    /// The entries of a list, each still as it was sent. What is no list is one entry that cannot be read.
    pub(super) fn list(&self, name: &str, flaws: &mut Flaws) -> Option<Bounded<&'a RawValue>> {
        let read = |text: &'a str| serde_json::from_str::<Bounded<&RawValue>>(text).ok();
        let list = self.last(name, "list", flaws, read);
        if list.as_ref().is_some_and(|list| list.unread > 0) {
            flaws.add(format_args!("{}{name} has more than {ROWS_MAX} entries", self.path));
        }
        let none = || self.has(name).then(|| Bounded { entries: Vec::new(), unread: 1 });
        list.or_else(none)
    }

    /// The objects of a list, each turned into a `T`; entries that are no object, or no `T`, are not read.
    pub(super) fn each<T>(
        &self,
        name: &str,
        flaws: &mut Flaws,
        mut read: impl FnMut(&Self, &mut Flaws) -> Option<T>,
    ) -> Option<Bounded<T>> {
        let list = self.list(name, flaws)?;
        let mut entries = Vec::with_capacity(list.entries.len());
        let mut unread = list.unread;
        for (index, entry) in list.entries.into_iter().enumerate() {
            let path = format!("{}{name}[{index}].", self.path);
            let Some(fields) = Fields::of(entry.get(), path) else {
                flaws.add(format_args!("{}{name}[{index}] is no object", self.path));
                unread += 1;
                continue;
            };
            match read(&fields, flaws) {
                Some(entry) => entries.push(entry),
                None => unread += 1,
            }
        }
        Some(Bounded { entries, unread })
    }

    fn all(&self, name: &str) -> impl DoubleEndedIterator<Item = &'a str> + Clone {
        self.fields.iter().filter(move |(own, _)| own == name).map(|(_, text)| *text)
    }

    /// The last value of this name that can be read; `null` is as good as none.
    fn last<T>(
        &self,
        name: &str,
        kind: &str,
        flaws: &mut Flaws,
        read: impl Fn(&'a str) -> Option<T>,
    ) -> Option<T> {
        self.check_agreement(name, flaws);
        for text in self.all(name).rev().filter(|text| *text != "null") {
            let value = read(text);
            if value.is_some() {
                return value;
            }
            flaws.add(format_args!("{}{name} is no {kind}", self.path));
        }
        None
    }

    fn check_agreement(&self, name: &str, flaws: &mut Flaws) {
        let mut values = self.all(name);
        let first = values.next();
        if values.any(|value| Some(value) != first) {
            flaws.add(format_args!("{}{name} comes more than once, and differs", self.path));
        }
    }
}

fn number(text: &str) -> Option<i128> {
    let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let rounded = || text.parse::<f64>().ok().map(|number| number as i128);
    is_number.then(|| text.parse().ok().or_else(rounded)).flatten()
}

/// Reads the fields of an object into a list that is outside, so that an error does not lose those before it.
struct Collect<'v, 'a>(&'v mut Vec<(String, &'a str)>);

impl<'a> DeserializeSeed<'a> for Collect<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Collect<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
            self.0.push((name, value.get()));
        }
        Ok(())
    }
}
