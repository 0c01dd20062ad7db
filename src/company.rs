//! Several watchers of one system: which of them speaks, and how the others know what it has told.
//!
//! Every watcher tells the others a few times a beat that it is there (a [`Word`]); from the same words all of them
//! pick the same speaker. **Invariants:** a watcher speaks only while it has lately heard its own words come back,
//! so one that was frozen or cut off stops before another takes over; and what the speaker is about to publish is
//! in the others' [`Ledger`] before it is published. JetStream has no part in it.

mod pages;
mod word;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ledger::Ledger;
use crate::stamp::Stamp;
use pages::{Assembly, Whole, paginate};
pub use pages::{Page, TooLarge};
pub use word::{Edition, Word};
use word::{WORD_VERSION, is_sound, rank, version};

/// More other watchers than this are not heard.
const WATCHERS_MAX: usize = 64;
/// So many earlier speakers are remembered.
const LINEAGE_MAX: usize = 32;
/// A watcher that sees the servers and in so many beats hears not even itself never will.
const DEAF_BEATS: u32 = 3;
/// How long a watcher that claims to speak waits for a better claim before it does.
const SETTLE: Duration = Duration::from_millis(150);

/// What a watcher is to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It listens for others.
    Joining,
    /// Another one speaks.
    Silent,
    /// It will speak in a moment, if nobody has a better claim.
    Claiming,
    /// It speaks.
    Speaking,
}

/// What a word from another watcher asks of us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing.
    Nothing,
    /// The speaker's ledger takes the place of ours.
    Adopt(Ledger),
    /// Another one spoke while we did not hear it; ours goes on, with what the other announced.
    Merge(Ledger),
}

/// Who we are to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// Which run of which watcher.
    pub instance: String,
    /// Its name.
    pub name: String,
    /// When it started, in nanoseconds since 1970.
    pub started_ns: i64,
}

/// All watchers of one system, as one of them knows them.
#[derive(Clone, Debug)]
pub struct Company {
    me: Me,
    beat: Duration,
    role: Role,
    able: bool,
    /// It may not hear the others, or not be heard: as far as it can know it is alone.
    denied: bool,
    /// Since when it has seen the servers.
    able_since: Option<Stamp>,
    /// When this connection was first known to carry our words.
    joined: Option<Stamp>,
    /// When the last of our words was sent that came back.
    echoed: Option<Stamp>,
    claim: Option<Stamp>,
    others: BTreeMap<String, Other>,
    ledger: Ledger,
    /// Which edition of whose ledger that is.
    edition: Option<Edition>,
    /// The highest term that was ever heard of.
    term: u64,
    /// The last editions of earlier speakers that went into it.
    lineage: Vec<Edition>,
    /// The ledger has changed since it was told.
    tell: bool,
    /// Somebody lacks the ledger.
    asked: bool,
    /// When the ledger was told last.
    told: Option<Stamp>,
    /// What we kept when we spoke last, until the speaker has taken it over.
    yielded: Option<Whole>,
    heard_out: Option<Edition>,
    assembly: Assembly,
    refused: u64,
}

#[derive(Clone, Debug)]
struct Other {
    word: Word,
    at: Stamp,
}

impl Company {
    /// The company of nobody yet. A beat is the unit of every limit: words come twice in it, a watcher that was not
    /// heard for two is gone.
    pub fn new(me: Me, interval: Duration) -> Self {
        Self {
            me,
            beat: interval.clamp(Duration::from_millis(500), Duration::from_secs(2)),
            role: Role::Joining,
            able: false,
            denied: false,
            able_since: None,
            joined: None,
            echoed: None,
            claim: None,
            others: BTreeMap::new(),
            ledger: Ledger::default(),
            edition: None,
            term: 0,
            lineage: Vec::new(),
            tell: false,
            asked: false,
            told: None,
            yielded: None,
            heard_out: None,
            assembly: Assembly::default(),
            refused: 0,
        }
    }

    /// How often words are to be sent.
    pub fn pace(&self) -> Duration {
        self.beat / 2
    }

    /// How long a watcher listens before it may speak: longer than the words of any other take.
    fn listening(&self) -> Duration {
        self.beat * 3 / 4
    }

    /// How long after its last echoed word a watcher may speak.
    fn lease(&self) -> Duration {
        self.beat * 3 / 2
    }

    /// How long after its last word a watcher counts: longer than its lease.
    fn silence(&self) -> Duration {
        self.beat * 2
    }

    /// The server refuses our words, or to let us hear any. (Or it no longer does.)
    pub fn set_denied(&mut self, denied: bool) {
        self.denied = denied;
    }

    /// Whether our own words do not come back though we see the servers: whoever else there is, we cannot know, and
    /// speaking twice is better than not at all.
    pub fn is_deaf(&self, now: Stamp) -> bool {
        let waited = self.able_since.is_some_and(|since| now.since(since) > self.beat * DEAF_BEATS);
        self.denied || (self.joined.is_none() && waited)
    }

    /// What we are to the others since the last [`Self::turn`].
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether what was decided may still be published.
    pub fn may_speak(&self, now: Stamp) -> bool {
        self.role == Role::Speaking && (self.is_leased(now) || self.is_deaf(now))
    }

    /// The name of the watcher that speaks; our own when we do, nothing when nobody does.
    pub fn speaker(&self) -> Option<&str> {
        match self.role {
            Role::Speaking => Some(&self.me.name),
            Role::Joining | Role::Silent | Role::Claiming => {
                let speaking = self.others.values().filter(|other| other.word.claim_ns.is_some());
                speaking.min_by_key(|other| rank(&other.word)).map(|other| other.word.name.as_str())
            }
        }
    }

    /// How many watchers there are, this one included.
    pub fn size(&self) -> usize {
        self.others.len() + 1
    }

    /// How many words were not believed or not understood.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Takes a word; our own tell that we are heard.
    pub fn hear(&mut self, word: Word, now: Stamp) -> Heard {
        if !is_sound(&word) {
            self.refused += 1;
            return Heard::Nothing;
        }
        if word.instance == self.me.instance {
            self.echo(word.sent_ns, now);
            return Heard::Nothing;
        }
        if word.leaving {
            self.others.remove(&word.instance);
            return Heard::Nothing;
        }
        if !self.others.contains_key(&word.instance) && self.others.len() >= WATCHERS_MAX {
            self.refused += 1;
            return Heard::Nothing;
        }
        self.asked |= self.role == Role::Speaking && (word.joining || word.behind);
        let mut word = word;
        self.term = self.term.max(word.keeps.as_ref().map_or(0, |edition| edition.term));
        let page = word.page.take();
        let sender = word.instance.clone();
        self.yielded.take_if(|own| word.heard_out.as_ref().is_some_and(|heard| heard.includes(&own.edition)));
        self.others.insert(sender.clone(), Other { word, at: now });
        page.map_or(Heard::Nothing, |page| self.hear_page(&sender, page))
    }

    fn hear_page(&mut self, sender: &str, page: Page) -> Heard {
        let yields = page.yields;
        let wanted = match self.role {
            Role::Speaking => yields,
            Role::Joining | Role::Silent => !yields && self.first_other() == Some(sender),
            Role::Claiming => false,
        };
        if !wanted {
            return Heard::Nothing;
        }
        let Some(Whole { ledger, edition, lineage }) = self.assembly.take(page) else {
            return Heard::Nothing;
        };
        if !lineage.iter().all(Edition::is_sound) {
            self.refused += 1;
            return Heard::Nothing;
        }
        if yields {
            self.heard_out = Some(edition.clone());
            return if self.is_news(edition) { Heard::Merge(ledger) } else { Heard::Nothing };
        }
        if self.edition.as_ref() == Some(&edition) {
            return Heard::Nothing;
        }
        self.edition = Some(edition);
        self.lineage = lineage;
        self.ledger = ledger.clone();
        Heard::Adopt(ledger)
    }

    /// Whether this edition holds anything that never went into the ledger; from now on it has.
    fn is_news(&mut self, edition: Edition) -> bool {
        let known = self.lineage.iter().any(|known| known.includes(&edition));
        self.remember(edition);
        !known
    }

    /// What we kept when we spoke last is to be taken over by the next speaker.
    fn yield_word(&mut self) {
        if self.role == Role::Speaking
            && let Some(edition) = self.edition.clone()
        {
            let (ledger, lineage) = (self.ledger.clone(), self.lineage.clone());
            self.yielded = Some(Whole { ledger, edition, lineage });
        }
    }

    /// What is to be merged by one who has just begun to speak: what it announced itself when it spoke before, if
    /// nobody has taken that over.
    pub fn reclaim(&mut self) -> Option<Ledger> {
        let Whole { ledger, edition, .. } = self.yielded.take()?;
        self.is_news(edition).then_some(ledger)
    }

    /// Remembers that an edition is part of the ledger.
    fn remember(&mut self, edition: Edition) {
        self.lineage.retain(|known| !edition.includes(known));
        self.lineage.push(edition);
        let excess = self.lineage.len().saturating_sub(LINEAGE_MAX);
        self.lineage.drain(..excess);
    }

    /// One of our words came back. After a gap, others may have taken over in between.
    fn echo(&mut self, sent_ns: i64, now: Stamp) {
        if sent_ns > now.steady_ns() {
            self.refused += 1;
            return;
        }
        let sent = Stamp::new(sent_ns, now.wall_ns());
        let lapsed = self.echoed.is_some_and(|before| sent.since(before) > self.lease());
        if lapsed {
            self.rejoin();
        }
        if self.joined.is_none() {
            // Words come in order: what came before our first own one may have lain about for long.
            self.others.clear();
            self.assembly = Assembly::default();
            self.joined = Some(now);
        }
        if self.echoed.is_none_or(|before| sent.has_reached(before)) {
            self.echoed = Some(sent);
        }
    }

    fn rejoin(&mut self) {
        self.yield_word();
        self.role = Role::Joining;
        self.able_since = None;
        self.claim = None;
        self.joined = None;
        self.echoed = None;
    }

    fn is_leased(&self, now: Stamp) -> bool {
        self.echoed.is_some_and(|echoed| now.since(echoed) <= self.lease())
    }

    /// Decides anew what we are. `able` says whether we see the servers.
    pub fn turn(&mut self, able: bool, now: Stamp) -> Role {
        self.able = able;
        self.able_since = if able { self.able_since.or(Some(now)) } else { None };
        let silence = self.silence();
        self.others.retain(|_, other| now.since(other.at) <= silence);
        if !self.is_deaf(now) {
            if self.echoed.is_some() && !self.is_leased(now) {
                self.rejoin();
            }
            let heard_long_enough = self.joined.is_some_and(|at| now.since(at) >= self.listening());
            if self.role == Role::Joining && !heard_long_enough {
                return Role::Joining;
            }
        }
        if self.is_first() {
            let since = *self.claim.get_or_insert(now);
            let settled = now.since(since) >= SETTLE;
            let begins = settled && self.role != Role::Speaking;
            self.role = if settled { Role::Speaking } else { Role::Claiming };
            if begins {
                self.begin();
            }
        } else {
            self.yield_word();
            self.claim = None;
            self.role = Role::Silent;
        }
        self.role
    }

    /// From the first moment of speaking on the ledger is our own edition, and a new one: it may have changed since we
    /// spoke last.
    fn begin(&mut self) {
        if let Some(edition) = self.edition.as_mut().filter(|edition| edition.of == self.me.instance) {
            edition.revision = edition.revision.saturating_add(1);
            self.tell = true;
            return;
        }
        self.term = self.term.saturating_add(1);
        let own = Edition { term: self.term, revision: 1, of: self.me.instance.clone() };
        if let Some(before) = self.edition.replace(own) {
            self.remember(before);
        }
        self.tell = true;
    }

    /// When [`Self::turn`] may come to another end though nobody says a word.
    pub fn next_turn(&self, now: Stamp) -> Stamp {
        let soonest = now.plus(Duration::from_millis(10));
        let next = match self.role {
            Role::Joining => self.joined.map(|at| at.plus(self.listening())),
            Role::Claiming => self.claim.map(|at| at.plus(SETTLE)),
            Role::Silent => self.others.values().map(|other| other.at.plus(self.silence())).min(),
            Role::Speaking => None,
        };
        match next {
            Some(next) if soonest.has_reached(next) => soonest,
            Some(next) => next.plus(Duration::from_millis(1)),
            None => now.plus(self.pace()),
        }
    }

    fn is_first(&self) -> bool {
        let claim = self.claim_ns().unwrap_or(i64::MAX);
        let keeps = version(self.edition.as_ref(), claim);
        let mine = (!self.able, claim, keeps, self.me.started_ns, self.me.instance.as_str());
        self.candidates().all(|other| mine < rank(&other.word))
    }

    fn first_other(&self) -> Option<&str> {
        self.candidates().min_by_key(|other| rank(&other.word)).map(|other| other.word.instance.as_str())
    }

    fn candidates(&self) -> impl Iterator<Item = &Other> {
        self.others.values().filter(|other| !other.word.joining)
    }

    fn claim_ns(&self) -> Option<i64> {
        self.claim.map(Stamp::wall_ns)
    }

    /// Takes the ledger as it is now. True when it has changed: then it is to be saved and told, and only then is
    /// anything to be published.
    pub fn keep(&mut self, ledger: Ledger) -> bool {
        if self.ledger == ledger {
            return false;
        }
        self.ledger = ledger;
        if let (Role::Speaking, Some(edition)) = (self.role, &mut self.edition) {
            edition.revision = edition.revision.saturating_add(1);
            self.tell = true;
        }
        true
    }

    /// The ledger as it was kept last.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The word to be sent from time to time, as long as nothing changes.
    pub fn word(&self, now: Stamp) -> Word {
        let lacks = |other: &Other| other.word.claim_ns.is_some() && other.word.keeps != self.edition;
        let speaker = self.first_other().and_then(|first| self.others.get(first));
        Word {
            v: WORD_VERSION,
            instance: self.me.instance.clone(),
            name: self.me.name.clone(),
            sent_ns: now.steady_ns(),
            started_ns: self.me.started_ns,
            able: self.able,
            claim_ns: self.claim_ns(),
            joining: self.role == Role::Joining,
            leaving: false,
            behind: self.role == Role::Silent && speaker.is_some_and(lacks),
            keeps: self.edition.clone(),
            heard_out: self.heard_out.clone(),
            page: None,
        }
    }

    /// The words to be sent now: with the ledger, where others need it. None has more bytes than `max_payload`.
    pub fn words(&mut self, now: Stamp, max_payload: usize) -> Result<Vec<Word>, TooLarge> {
        let word = self.word(now);
        if !self.owes_ledger(now) {
            return Ok(vec![word]);
        }
        self.tell = false;
        self.asked = false;
        self.told = Some(now);
        // Whoever joins asks for it.
        if self.others.is_empty() {
            return Ok(vec![word]);
        }
        let own = || {
            let (ledger, lineage) = (self.ledger.clone(), self.lineage.clone());
            Some(Whole { ledger, edition: self.edition.clone()?, lineage })
        };
        let (whole, yields) = match &self.yielded {
            Some(whole) => (whole.clone(), true),
            None => match own() {
                Some(whole) => (whole, false),
                None => return Ok(vec![word]),
            },
        };
        let edition = whole.edition.clone();
        let page = Page { edition, number: usize::MAX, of: usize::MAX, yields, text: String::new() };
        let empty = Word { page: Some(page), ..word.clone() };
        let overhead = serde_json::to_vec(&empty).map_or(usize::MAX, |bytes| bytes.len());
        let pages = paginate(&whole, yields, overhead, max_payload)?;
        Ok(pages.into_iter().map(|page| Word { page: Some(page), ..word.clone() }).collect())
    }

    /// The words did not get away.
    pub fn tell_again(&mut self) {
        self.tell = true;
    }

    /// Whether the ledger has changed since it was told.
    pub fn has_changed(&self) -> bool {
        self.tell && self.role == Role::Speaking
    }

    /// Whether the ledger is to be told now: at once when it has changed, in good time when it is only asked for.
    pub fn owes_ledger(&self, now: Stamp) -> bool {
        let speaking = self.role == Role::Speaking;
        let rested = self.told.is_none_or(|told| now.since(told) >= self.pace() / 2);
        self.has_changed() || rested && (speaking && self.asked || self.yielded.is_some())
    }

    /// The last word.
    pub fn farewell(&self, now: Stamp) -> Word {
        Word { leaving: true, claim_ns: None, ..self.word(now) }
    }
}

#[cfg(test)]
mod tests;
