//! metawatch watches the JetStream meta group of a NATS system and tells other services, over NATS itself, the
//! moment a member is offline.
//!
//! # The path of the data
//!
//! ```text
//!   request            replies              view               findings           alerts              events
//!  shell::collect ──→ wire → epoch ──────→ view ────────────→ check ───────────→ alert ────────────→ event ──→ shell::publish
//!                     (Reply) (Gathered)   (ClusterView)      (Vec<Finding>)     (Vec<Transition>)   (AlertEvent)
//! ```
//!
//! A pure core decides; a thin asynchronous [`shell`] fetches and delivers. Every stage takes the output of the
//! stage before it and is one module with one main type. [`pipeline::Pipeline::step`] is the whole path in one
//! function; start reading there.
//!
//! One path leads back: where the cause of an alert leaves a question, [`pipeline::Pipeline::follow_ups`] puts it once the
//! alert is out, and [`pipeline::Pipeline::answer`] makes an event of the reply ([`diagnosis`]). No alert waits for
//! it. Of the answers, two things about a group as a whole enter the next epoch, because no other reply tells them: whether
//! its members see the leader that they name, and whom they expect ([`view::History::take_raft`]).
//!
//! # From a decision to its delivery
//!
//! [`daemon::Daemon`] is one watcher: it takes what woke it and gives what is to be done, and waits for nothing.
//! `shell::daemon` does each thing in a task of its own and wakes it with the result. What it decides is in the
//! [`outbox::Outbox`] at once, and stays there until it has arrived.
//!
//! What must outlive a watcher is a [`replicated_state::ReplicatedState`]: the alerts as they stand and the outbox. It
//! is in the state file and with the other watchers of the system before anything in it is published, so whoever goes
//! on, the same one after a crash or another one, goes on with the same incidents and the same ids. Which of any number
//! of watchers is active, and which stand by, is decided by [`election::Election`].
//!
//! With it travels what the active watcher remembers of the servers ([`view::SavedHistory`]): a reserve has asked none of
//! them, and still tells a crash in the moment of its takeover as fast as any.
//!
//! # Invariants
//!
//! - Nothing outside [`shell`] reads a clock, awaits, prints or iterates an unordered map. Time, names and ids are
//!   passed in; the reference time of everything is the end of the epoch ([`stamp`]).
//! - An epoch is a value, created and consumed; no state of a poll lives anywhere else ([`epoch`]).
//! - A reply can never fail an epoch: a bad one is data ([`wire::Reject`]).
//! - No evidence is never health: verdicts have five values ([`check::Verdict`]), and only `Clear` and `Gone` ever
//!   end an alert ([`alert`]); one that nothing shows any more ends after 10 minutes and says just that.
//! - A peer is gone only when those who had to agree on its removal could ([`view::Held`]).
//! - Time in which we saw nothing counts against nobody.
//! - The outcome depends neither on the order of the replies nor on duplicates ([`view`]), and not on what is remembered
//!   to save work: a reply that fits the last one decodes to the same but for its times, and a group whose members all
//!   say the same would be merged to the same view ([`wire::Template`], [`view::merge_after`]).
//! - An alert's identity holds no value that changes ([`alert::Identity`]).
//! - An event is published only once it is replicated, and only by a watcher that has lately heard itself
//!   ([`election`]); nothing that is decided is lost without a counter and a line ([`outbox`]), and nothing else that a
//!   limit cuts off either ([`daemon::LossKind`]).
//! - No disk, no connection and no flood holds up an epoch, the lease or the end ([`daemon`]).
//! - Every transition has a reason ([`alert::Reason`]).
//! - Every queue, buffer and loop has a limit.
//! - Names are for people, peer ids are keys ([`name`]).
//! - Every message says which system it speaks of, and whoever hears it goes by that ([`system`]).
//!
//! What is deliberately absent: no view is ever built from one server's word alone when others speak; no server
//! count is configured; the core knows no NATS client, and the shell knows no rule.
//!
//! # For subscribers
//!
//! [`event::AlertEvent`] and [`event::Heartbeat`] are what arrives, [`event::incidents::Incidents`] says what of it is
//! news; `examples/subscriber.rs` puts them together. They need no feature.
//!
//! # The fence
//!
//! `cargo check --no-default-features --lib` builds the core without a runtime, a client or a command line: a
//! stage that wants to await does not compile. `.clippy.toml` bans clocks, unordered maps, printing and
//! unbounded channels, each with its reason. Imports run one way: `main → shell → daemon → pipeline, election
//! → replicated_state → system, outbox → event → advice, alert → diagnosis → check → view → epoch → wire`; [`report`]
//! stands beside `event`, [`cadence`] behind `alert`; [`status`] is made of what `pipeline` gives, for `daemon` and
//! [`screen`]; [`doctor`] and [`forward`] take what all of these say; any stage may use [`stamp`], [`name`] and [`rules`].
//!
//! # Where to add what
//!
//! A check is one file in `check/`, one row in [`check::CHECKS`] and one scenario in `tests/scenarios`. A fact of
//! the servers is a field in [`wire`] and in [`view`]. An endpoint is a [`epoch::Heard`] and a request in
//! `shell::collect`. A sink is a module beside `shell::publish`.
//! What is to be seen is a field of [`status::SystemStatus`], drawn by `screen::layout` and by `status/page/page.js`; a
//! path of the HTTP side is a row of `shell::http::answer`.

// The values that every stage uses.
pub mod name;
pub mod rules;
pub mod stamp;

// The stages, in the order of the path.
pub mod wire;

pub mod epoch;

pub mod view;

pub mod check;

// Further questions, for alerts that are out already, and what to do by all that is known.
pub mod diagnosis;

pub mod advice;

pub mod alert;

pub mod event;

// When to look again.
pub mod cadence;

// What outlives a watcher, and who speaks where there are several.
pub mod outbox;

pub mod replicated_state;

pub mod election;

// Which system all of it is about.
pub mod system;

pub mod pipeline;

// What a watcher does next.
pub mod daemon;

// One verdict on the whole, for whoever asks once.
pub mod report;

// What is passed on to those who page people.
pub mod forward;

// What a watcher would lack, for whoever installs one.
pub mod doctor;

// How a system stands, for whoever looks on: as a document, as a page, and as a screen.
pub mod status;

pub mod screen;

// Another way in: epochs from a file.
pub mod recording;

/// Everything that awaits, reads a clock, prints or talks to a server.
#[cfg(feature = "shell")]
pub mod shell;
