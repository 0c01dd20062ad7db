//! Which part of a system is shown: some groups, or only what is not well.

use std::collections::BTreeSet;

use crate::check;
use crate::name::{Name, join_some};
use crate::pipeline::Step;
use crate::view::GroupView;

/// So many names are shown to whoever asked for one that there is not.
const NEAR_MAX: usize = 5;
/// Names are alike from here on, of 1.
const ALIKE_MIN: f64 = 0.6;
/// So many keys are remembered of the groups that are meant; a system has far fewer under one name.
const KEYS_MAX: usize = 1_000;

/// A group was asked for that nobody told of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no meta group {name}")]
pub struct UnknownGroup {
    /// What was asked for.
    pub name: String,
    /// Which groups there are, those of similar names first.
    pub there_are: String,
}

/// The groups that somebody chose, by their names or by their domains. Without a name all of them.
#[derive(Clone, Debug, Default)]
pub struct ChosenGroups {
    names: Vec<String>,
    /// The groups that the names have meant so far: who looks on still means one that is not seen just now.
    keys: BTreeSet<Name>,
}

impl ChosenGroups {
    /// Chooses by these names.
    pub fn new(names: &[String]) -> Self {
        Self { names: names.to_vec(), keys: BTreeSet::new() }
    }

    /// What was asked for; nothing where all groups are meant.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Learns from an epoch which groups are meant.
    ///
    /// # Errors
    ///
    /// Where a name is that of no group and no domain. The other names are learned all the same.
    pub fn learn(&mut self, step: &Step) -> Result<(), UnknownGroup> {
        let mut unknown = Ok(());
        for name in &self.names {
            let is_named = |group: &&GroupView| group.key.as_str() == name || group.domain.as_str() == name;
            let mut groups = step.view.groups.iter().filter(is_named).peekable();
            if groups.peek().is_none() && unknown.is_ok() {
                unknown = Err(UnknownGroup { name: name.clone(), there_are: near(step, name) });
            }
            let room = KEYS_MAX.saturating_sub(self.keys.len());
            self.keys.extend(groups.take(room).map(|group| group.key.clone()));
        }
        unknown
    }

    /// Whether this is the key of a group that is meant.
    pub fn contains(&self, key: &str) -> bool {
        self.names.is_empty()
            || self.names.iter().any(|name| name == key)
            || self.keys.iter().any(|known| known.as_str() == key)
    }

    /// Leaves the groups that are meant, and what is found of them.
    pub fn narrow(&self, step: &mut Step) {
        if !self.names.is_empty() {
            retain(step, |key| self.contains(key));
        }
    }
}

/// Leaves the groups with these names, or of these domains, and what is found of them. Without a name everything stays.
///
/// # Errors
///
/// Where a name is that of no group and no domain.
pub fn only_groups(step: &mut Step, names: &[String]) -> Result<(), UnknownGroup> {
    let mut chosen = ChosenGroups::new(names);
    chosen.learn(step)?;
    chosen.narrow(step);
    Ok(())
}

/// Leaves the groups of which something is not well, or not known.
pub fn only_problems(step: &mut Step) {
    let groups = check::unwell_groups(&step.view, &step.findings);
    let wanted: BTreeSet<String> = groups.into_iter().map(|group| group.key.as_str().to_owned()).collect();
    retain(step, |key| wanted.contains(key));
}

fn retain(step: &mut Step, wanted: impl Fn(&str) -> bool) {
    step.view.groups.retain(|group| wanted(group.key.as_str()));
    step.findings.retain(|finding| wanted(finding.group.as_str()));
    step.heartbeat.active.retain(|incident| wanted(&incident.group));
}

fn near(step: &Step, name: &str) -> String {
    let mut names: Vec<(f64, &str)> = step
        .view
        .groups
        .iter()
        .map(|group| (strsim::jaro_winkler(name, group.key.as_str()), group.key.as_str()))
        .collect();
    names.sort_by(|(a, first), (b, second)| b.total_cmp(a).then_with(|| first.cmp(second)));
    if names.is_empty() {
        return "no group is known".to_owned();
    }
    let many = names.len() > NEAR_MAX;
    if many && names.iter().any(|(alike, _)| *alike >= ALIKE_MIN) {
        names.retain(|(alike, _)| *alike >= ALIKE_MIN);
    }
    let shown: Vec<String> = names.iter().take(NEAR_MAX).map(|(_, name)| (*name).to_owned()).collect();
    if many {
        format!("near to it are {}", shown.join(", "))
    } else {
        format!("there are {}", join_some(shown))
    }
}
