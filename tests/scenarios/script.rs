//! The language of the scenarios: see `README.md` beside it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::{Answers, Group, Said, Server, World, server};

/// What happens to a whole epoch.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Around {
    #[default]
    Usual,
    NobodyAnswers,
    Denied,
    Disconnected,
    Dropped,
}

/// A script, as far as it was read.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) world: World,
    /// The world as the header describes it.
    healthy: World,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) around: Around,
    pub(crate) announced: Vec<(Server, String, bool)>,
    pub(crate) statsz: bool,
    /// metawatch is started again before the epoch, and remembers its saved state only.
    pub(crate) restarts: bool,
    step: Option<Duration>,
}

impl Script {
    /// Reads a line of the header; false when it is none.
    pub(crate) fn header(&mut self, line: &str) -> bool {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("group") => {
                self.healthy.groups.push(group(words));
                self.world = self.healthy.clone();
                self.statsz = true;
            }
            Some("with") => {
                let name = words.next().expect("a setting").to_owned();
                self.settings.push((name, words.next().expect("a value").to_owned()));
            }
            _ => return false,
        }
        true
    }

    /// The step to the next epoch and the number of epochs: `5s`, `+500ms`, `…` or `…×10`.
    pub(crate) fn time(&mut self, word: &str, now: Duration, first: bool) -> Result<(Duration, u32), String> {
        let duration =
            |text: &str| humantime::parse_duration(text).map_err(|error| format!("{text}: {error}"));
        let (word, epochs) = match word.split_once('×') {
            Some((word, epochs)) => (word, epochs.parse().map_err(|error| format!("{epochs}: {error}"))?),
            None => (word, 1),
        };
        let step = match word.strip_prefix('+') {
            Some(step) => *self.step.insert(duration(step)?),
            None if word == "…" => self.step.unwrap_or(Duration::from_secs(1)),
            None => duration(word)?
                .checked_sub(now)
                .filter(|step| first || !step.is_zero())
                .ok_or("goes backwards")?,
        };
        Ok((step, epochs))
    }

    pub(crate) fn this_epoch_only(&mut self) {
        self.around = Around::Usual;
        self.announced.clear();
    }

    /// One clause of a line.
    pub(crate) fn apply(&mut self, clause: &str) -> Result<(), String> {
        let words: Vec<&str> = clause.split_whitespace().collect();
        match words[..] {
            ["all", "well"] => {
                self.world = World { gateways: self.world.gateways, ..self.healthy.clone() };
            }
            ["clusters", "have", "gateways"] => self.world.gateways = true,
            ["nobody", "answers"] => self.around = Around::NobodyAnswers,
            ["access", "denied"] => self.around = Around::Denied,
            ["connection", "lost"] => self.around = Around::Disconnected,
            ["messages", "dropped"] => self.around = Around::Dropped,
            ["metawatch", "restarts"] => self.restarts = true,
            ["no", "STATSZ"] => self.statsz = false,
            ["nobody", "leads"] => self.world.groups[0].leader = None,
            ["nobody", "leads", domain] => self.group_of(domain)?.leader = None,
            ["quorum", quorum] => self.world.groups[0].quorum = Some(number(quorum)?),
            ["rescue", "quorum", quorum] => {
                self.world.groups[0].rescue = true;
                self.world.groups[0].quorum = Some(number(quorum)?);
            }
            [who, ref rest @ ..] => return self.of_server(who, rest),
            [] => {}
        }
        Ok(())
    }

    fn group_of(&mut self, who: &str) -> Result<&mut Group, String> {
        let at = self.world.groups.iter().position(|group| match who.split_once('/') {
            Some((domain, name)) => {
                group.servers.iter().any(|server| server.domain == domain && server.name == name)
            }
            None => {
                let name = who.rsplit(':').next().unwrap_or(who);
                group.servers.iter().any(|server| server.name == name || server.domain == who)
            }
        });
        at.map(|at| &mut self.world.groups[at]).ok_or(format!("nobody is called {who}"))
    }

    fn of_server(&mut self, who: &str, words: &[&str]) -> Result<(), String> {
        let group = self.group_of(who)?;
        let name = who.rsplit(['/', ':']).next().unwrap_or(who);
        if let ["leads"] = words {
            group.leader = Some(name.to_owned());
            group.said.retain(|(reporter, _), _| reporter != name);
            return Ok(());
        }
        if let ["says", peer, rest @ ..] = words {
            return says(group, name, peer, rest);
        }
        if let ["is", "removed"] = words {
            group.members.remove(name);
            return Ok(());
        }
        if let ["joins"] = words {
            group.members.insert(name.to_owned());
            return Ok(());
        }
        if let ["well"] = words {
            group.said.retain(|(_, peer), _| peer != name);
        }
        let server = match who.split_once(':') {
            Some((cluster, _)) => group.server_in(cluster, name),
            None => group.server(name),
        };
        let server = server.ok_or(format!("nobody is called {who}"))?;
        if let ["tells", kind, stream @ ..] = words {
            let server = server.clone();
            self.announced.push((server, format!("{kind} {}", stream.join(" ")), false));
            return Ok(());
        }
        if let ["announces", kind, how @ ..] = words {
            let mut server = server.clone();
            if *how == ["as", "an", "earlier", "run"] {
                server.run -= 1;
            }
            self.announced.push((server, (*kind).to_owned(), *how == ["late"]));
            return Ok(());
        }
        change(server, words)
    }
}

fn number(word: &str) -> Result<i64, String> {
    word.parse().map_err(|error| format!("{word}: {error}"))
}

/// What a server does, or how it is.
fn change(server: &mut Server, words: &[&str]) -> Result<(), String> {
    match words {
        ["silent"] => server.answers = Answers::Not,
        ["crashed"] => (server.answers, server.cut) = (Answers::Not, true),
        ["loses", "its", "JSZ"] => server.answers = Answers::OnlyStatsz,
        ["well"] => {
            let fresh = crate::model::server(&server.name, &server.cluster, &server.domain, server.minor);
            *server = Server { run: server.run, ..fresh };
        }
        ["restarted"] => {
            server.run += 1;
            (server.answers, server.cut) = (Answers::Member, false);
        }
        ["heard", "by", "nobody"] => server.heard_by = Some(BTreeSet::new()),
        ["heard", "by", names @ ..] => {
            server.heard_by = Some(names.iter().map(|name| (*name).to_owned()).collect());
        }
        ["disabled"] => server.answers = Answers::Disabled,
        ["standalone"] => server.answers = Answers::Standalone,
        ["unreadable"] => server.answers = Answers::Unreadable,
        ["sends", "an", "error"] => server.answers = Answers::Error,
        ["cut"] => server.cut = true,
        ["names", "nobody"] => server.follows = Some(None),
        ["names", leader] => server.follows = Some(Some((*leader).to_owned())),
        ["gives", "size", size] => server.size = Some(number(size)?),
        ["sends", "no", "list"] => server.no_list = true,
        ["lists", "row", row] => {
            server.lists_rows.push(serde_json::from_str(row).map_err(|error| format!("{row}: {error}"))?);
        }
        ["lists", peer] => server.also_lists.push((*peer).to_owned()),
        ["is", "forged"] => server.forged = true,
        ["renamed", name] => (server.name, server.run) = ((*name).to_owned(), server.run + 1),
        ["domain", domain] => server.domain = (*domain).to_owned(),
        ["cluster", cluster] => server.cluster = (*cluster).to_owned(),
        ["has", field, told] => has(server, field, told)?,
        ["version", version] if minor_of(version).is_none() || version.matches('.').count() != 1 => {
            server.version = Some((*version).to_owned());
        }
        ["version", version] => server.minor = minor(version),
        other => return Err(format!("a server does not {}", other.join(" "))),
    }
    Ok(())
}

/// `streams 200`, `storage 91GB`, `snapshot 6s`, or a value of JSON; `nothing` is no field at all.
fn has(server: &mut Server, field: &str, told: &str) -> Result<(), String> {
    let units = [("kB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000_u64)];
    let sized = units
        .iter()
        .find_map(|(unit, bytes)| told.strip_suffix(unit)?.parse::<u64>().ok().map(|amount| amount * bytes));
    let lasted = humantime::parse_duration(told).ok().filter(|_| field == "snapshot");
    let value = match (sized, lasted) {
        _ if told == "nothing" => {
            server.tells.remove(field);
            return Ok(());
        }
        (Some(bytes), _) => bytes.into(),
        (_, Some(lasted)) => u64::try_from(lasted.as_nanos()).map_err(|error| error.to_string())?.into(),
        (None, None) => serde_json::from_str(told).map_err(|error| format!("{told}: {error}"))?,
    };
    server.tells.insert(field.to_owned(), value);
    Ok(())
}

/// What a reporter says of a peer.
fn says(group: &mut Group, reporter: &str, peer: &str, words: &[&str]) -> Result<(), String> {
    let millis = |word: &str| -> Result<i64, String> {
        let (sign, word) = word.strip_prefix('-').map_or((1, word), |word| (-1, word));
        let duration = humantime::parse_duration(word).map_err(|error| format!("{word}: {error}"))?;
        Ok(sign * i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    };
    let mut said = |change: &dyn Fn(&mut Said)| group.say(reporter, peer, change);
    match words {
        ["offline"] => said(&|said| said.offline = true),
        ["online"] => said(&|said| said.offline = false),
        ["lost", ago] => {
            let ago = millis(ago)?;
            said(&|said| (said.current, said.active_ms) = (false, ago));
        }
        ["behind", ago] => {
            let ago = millis(ago)?;
            said(&|said| (said.current, said.active_ms) = (false, ago));
        }
        ["lag", lag] => {
            let lag = number(lag)?;
            said(&|said| said.lag = lag);
        }
        ["never"] => said(&|said| (said.current, said.active_ms) = (false, 0)),
        ["current", ago] => {
            let ago = millis(ago)?;
            said(&|said| (said.current, said.active_ms) = (true, ago));
        }
        ["nameless"] => said(&|said| said.forgot_name = true),
        ["nothing"] => said(&|said| said.omitted = true),
        ["well"] => said(&|said| *said = Said::WELL),
        other => return Err(format!("nobody says {}", other.join(" "))),
    }
    Ok(())
}

/// `2.14` → 14.
fn minor(version: &str) -> u32 {
    minor_of(version).expect("a version")
}

fn minor_of(version: &str) -> Option<u32> {
    version.split('.').nth(1).and_then(|minor| minor.parse().ok())
}

/// `s1 s2 s3 leader s1 version 2.14 [domain d] [cluster c]`; `c2:s4` is in another cluster.
fn group<'a>(mut words: impl Iterator<Item = &'a str>) -> Group {
    let (mut names, mut version, mut domain, mut cluster) = (Vec::new(), 15, "", "c1");
    let mut leader = None;
    while let Some(word) = words.next() {
        match word {
            "leader" => leader = words.next().map(str::to_owned),
            "version" => version = minor(words.next().expect("a version")),
            "domain" => domain = words.next().expect("a domain"),
            "cluster" => cluster = words.next().expect("a cluster"),
            name => names.push(name),
        }
    }
    let servers: Vec<Server> = names
        .into_iter()
        .map(|name| match name.split_once(':') {
            Some((cluster, name)) => server(name, cluster, domain, version),
            None => server(name, cluster, domain, version),
        })
        .collect();
    let members: BTreeSet<String> = servers.iter().map(|server| server.name.clone()).collect();
    Group { servers, members, leader, ..Group::default() }
}
