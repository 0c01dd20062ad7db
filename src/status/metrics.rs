//! A watcher and its system as text for Prometheus: what `/metrics` of `metawatch run --listen` shows.
//!
//! The series of meta groups are those of `metawatch check --format prometheus`, under the same names. Names of servers
//! and leaders stand in `_info` series; a peer is known by its id, a group by its name and domain.

use super::numbers::{GroupSeries, Numbers, ROLES, Seen};
use crate::alert::State;
use crate::check::Severity;
use crate::report::exposition::{Exposition, Format};
use crate::report::numbers::GroupNumbers;
use crate::report::prometheus::{self, EpochNumbers};

/// All but what depends on the time of the scrape, which [`whole`] adds. `numbers` is `None` while there was no
/// connection yet.
pub fn page(numbers: Option<&Numbers>, version: &str, format: Format) -> String {
    let mut page = Exposition::new(format);
    page.info("metawatch_build_info", "The version of metawatch.").sample(&[("version", version)], 1);
    if let Some(numbers) = numbers {
        watcher(&mut page, numbers);
        epochs(&mut page, numbers);
        published(&mut page, numbers);
        if let Some(seen) = &numbers.seen {
            system(&mut page, seen);
            groups(&mut page, seen);
        }
    }
    page.into_open_text()
}

/// The page with whether the watcher is ready now.
pub fn whole(page: &str, ready: bool, format: Format) -> String {
    let mut page = Exposition::resume(format, page.to_owned());
    let help = "Whether it sees its servers, or stands by for a watcher that does: what /readyz says.";
    page.gauge("metawatch_ready", help).single(u8::from(ready));
    page.into_text()
}

fn watcher(page: &mut Exposition, numbers: &Numbers) {
    let Numbers { monitor, system, since, interval, publishing, .. } = numbers;
    let labels = [("name", monitor.name.as_str()), ("system", system.as_deref().unwrap_or_default())];
    page.info(
        "metawatch_watcher_info",
        "The name of this watcher, and the system it watches; empty when not known.",
    )
    .sample(&labels, 1);
    let mut role = page.gauge("metawatch_role", "What this watcher is to the others: 1 for its role.");
    for known in ROLES {
        role.sample(&[("role", known)], u8::from(known == numbers.role));
    }
    let watchers = "How many watchers there are, this one included.";
    page.gauge("metawatch_watchers", watchers).single(publishing.watchers);
    page.gauge("process_start_time_seconds", "When it started, in seconds since 1970.")
        .single(prometheus::unix_seconds(since.wall_ns()));
    page.gauge("metawatch_interval_seconds", "The time between two epochs when all is calm.")
        .single(interval.as_secs_f64());
}

fn epochs(page: &mut Exposition, numbers: &Numbers) {
    let Numbers { totals, epochs_took, complete, reconnects, .. } = numbers;
    let help = "Epochs: complete ones ran their course and showed something, whoever did not answer.";
    let mut family = page.counter("metawatch_epochs_total", help);
    family.sample(&[("result", "complete")], totals.complete_epochs);
    family.sample(&[("result", "incomplete")], totals.epochs.saturating_sub(totals.complete_epochs));
    page.summary(
        "metawatch_epoch_duration_seconds",
        "How long epochs took.",
        totals.epochs,
        epochs_took.as_secs_f64(),
    );
    let at = complete.map_or_else(|| "NaN".to_owned(), |at| prometheus::unix_seconds(at.wall_ns()));
    let help = "When the last complete epoch ended, in seconds since 1970.";
    page.gauge("metawatch_epoch_complete_timestamp_seconds", help).single(at);
    let mut family = page.counter("metawatch_replies_total", "Replies of servers, by what became of them.");
    for (result, count) in [
        ("used", totals.replies),
        ("late", totals.late),
        ("rejected", totals.rejected),
        ("duplicate", totals.duplicate),
        ("conflicting", totals.conflicting),
        ("unexpected", totals.unexpected),
        ("dropped", totals.dropped),
    ] {
        family.sample(&[("result", result)], count);
    }
    page.counter("metawatch_reconnects_total", "Times that the watching connection was made again.")
        .single(reconnects);
}

fn published(page: &mut Exposition, numbers: &Numbers) {
    let Numbers { publishing, losses, .. } = numbers;
    page.counter("metawatch_events_sent_total", "Alert events that were delivered.").single(publishing.sent);
    page.gauge("metawatch_events_waiting", "Alert events that wait for their delivery.")
        .single(publishing.waiting);
    page.counter("metawatch_events_lost_total", "Alert events that could not be delivered and were dropped.")
        .single(publishing.lost);
    let mut family = page.counter("metawatch_lost_total", "What else was lost, by kind.");
    for (kind, count) in losses {
        family.sample(&[("kind", kind)], count);
    }
    page.counter("metawatch_unreplicated_total", "Times that the state was too large for other watchers.")
        .single(publishing.unreplicated);
    page.gauge("metawatch_alerts_connected", "Whether the connection for alerts is there.")
        .single(u8::from(publishing.connected));
    let help = "Whether the state file cannot be written: open incidents would not survive a restart.";
    page.gauge("metawatch_unsaved", help).single(u8::from(publishing.unsaved));
}

fn system(page: &mut Exposition, seen: &Seen) {
    prometheus::status(page, seen.status.code());
    let epoch = EpochNumbers {
        heard: seen.heard,
        expected: Some(seen.expected),
        seconds: Some(seen.took.as_secs_f64()),
        closed_ns: Some(seen.closed.wall_ns()),
    };
    prometheus::of_epoch(page, epoch);
    let counts = seen.counts;
    for (name, help, count) in [
        ("metawatch_groups", "Meta groups, those without series of their own included.", counts.groups),
        ("metawatch_groups_not_ok", "Meta groups that are not OK.", counts.groups_not_ok),
        ("metawatch_peers", "Peers of all meta groups.", counts.peers),
        ("metawatch_peers_offline", "Peers of all meta groups that are offline.", counts.offline),
        ("metawatch_peers_suspected", "Peers of all meta groups that may be offline.", counts.suspected),
        (
            "metawatch_servers_without_group",
            "Servers that are in no meta group.",
            counts.servers_without_group,
        ),
    ] {
        page.gauge(name, help).single(count);
    }
    let help = "Groups and peers that have no series of their own because there are too many.";
    let mut family = page.gauge("metawatch_left_out", help);
    family.sample(&[("kind", "groups")], seen.groups_left_out);
    family.sample(&[("kind", "peers")], seen.peers_left_out);
    let mut family = page.gauge("metawatch_incidents", "Open incidents.");
    for (check, severity, state, count) in &seen.incidents {
        let severity = match severity {
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        };
        let labels = [("check", *check), ("severity", severity), ("state", State::as_str(*state))];
        family.sample(&labels, count);
    }
}

fn groups(page: &mut Exposition, seen: &Seen) {
    let groups: Vec<&GroupNumbers> = seen.groups.iter().map(|group| &group.numbers).collect();
    prometheus::of_groups(page, &groups);
    let labels =
        |group: &GroupSeries| (group.numbers.numbers.domain.clone(), group.numbers.numbers.name.clone());
    let help = "The worst of the group and its peers: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.";
    let mut family = page.gauge("metawatch_meta_status", help);
    for group in &seen.groups {
        let (domain, name) = labels(group);
        family.sample(&[("domain", &domain), ("group", &name)], group.status.code());
    }
    let help = "Times that an epoch found another leader than the one before.";
    let mut family = page.counter("metawatch_meta_leader_changes_total", help);
    for group in &seen.groups {
        let (domain, name) = labels(group);
        family.sample(&[("domain", &domain), ("group", &name)], group.leader_changes);
    }
    prometheus::of_checks(page, &seen.checks);
    prometheus::of_peers(page, &seen.peers);
}
