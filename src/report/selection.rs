//! Which part of a system is shown: some groups, or only what is not well.

use std::collections::BTreeSet;

use crate::check;
use crate::name::{Name, join_some};
use crate::pipeline::Step;

/// So many names are shown to whoever asked for one that there is not.
const NEAR_MAX: usize = 5;
/// Names are alike from here on, of 1.
const ALIKE_MIN: f64 = 0.6;

/// A group was asked for that nobody told of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no meta group {name}")]
pub struct UnknownGroup {
    /// What was asked for.
    pub name: String,
    /// Which groups there are, those of similar names first.
    pub there_are: String,
}

/// Leaves the groups with these names, or of these domains, and what is found of them. Without a name everything stays.
///
/// # Errors
///
/// Where a name is that of no group and no domain.
pub fn only_groups(step: &mut Step, names: &[String]) -> Result<(), UnknownGroup> {
    if names.is_empty() {
        return Ok(());
    }
    let mut wanted: BTreeSet<Name> = BTreeSet::new();
    for name in names {
        let is_named = |key: &Name, domain: &Name| key.as_str() == name || domain.as_str() == name;
        let before = wanted.len();
        let groups = step.view.groups.iter().filter(|group| is_named(&group.key, &group.domain));
        wanted.extend(groups.map(|group| group.key.clone()));
        if wanted.len() == before && !wanted.iter().any(|key| key.as_str() == name) {
            return Err(UnknownGroup { name: name.clone(), there_are: near(step, name) });
        }
    }
    retain(step, &wanted);
    Ok(())
}

/// Leaves the groups of which something is not well, or not known.
pub fn only_problems(step: &mut Step) {
    let groups = check::unwell_groups(&step.view, &step.findings);
    let wanted = groups.into_iter().map(|group| group.key.clone()).collect();
    retain(step, &wanted);
}

fn retain(step: &mut Step, wanted: &BTreeSet<Name>) {
    step.view.groups.retain(|group| wanted.contains(&group.key));
    step.findings.retain(|finding| wanted.contains(&finding.group));
    step.heartbeat.active.retain(|incident| wanted.iter().any(|key| key.as_str() == incident.group));
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
