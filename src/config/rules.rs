//! The rules that tie keys together.

use std::collections::BTreeMap;

use super::check::Findings;
use super::duration::Shown;
use super::path::KeyPath;
use super::{Config, Target};

/// Tells of every broken rule. A rule keeps silent where a key that it goes by is at fault itself, and has its default
/// in `config` for that reason.
pub(super) fn check(config: &Config, findings: &mut Findings) {
    data_outlives_the_interval(config, findings);
    for (index, target) in config.targets.iter().enumerate() {
        external_ids_go_with_roles(target, &target_path(index), findings);
    }
    targets_have_names_of_their_own(&config.targets, findings);
}

fn target_path(index: usize) -> KeyPath {
    KeyPath::root().key("targets").item(index)
}

/// Good data would come and go: the next walk starts an interval after the one before, and takes its time.
fn data_outlives_the_interval(config: &Config, findings: &mut Findings) {
    let (stale_after, interval) = (KeyPath::of("refresh.stale_after"), KeyPath::of("refresh.interval"));
    let Some(shown_for) = config.refresh.stale_after else { return };
    if shown_for < config.refresh.interval.saturating_mul(2) && findings.none_at(&interval) {
        let (given, one) = (Shown(shown_for), Shown(config.refresh.interval));
        let reason = format!(
            "{given} is shorter than twice {interval}, which is {one}: data would disappear before the next walk ends"
        );
        findings.tell(&stale_after, reason);
    }
}

/// An external id is said when a role is assumed, and nowhere else.
fn external_ids_go_with_roles(target: &Target, at: &KeyPath, findings: &mut Findings) {
    let (external_id, role) = (at.key("external_id"), at.key("role_arn"));
    let has_no_role = target.role_arn.is_none() && findings.none_at(&role) && findings.tells_all(at);
    if target.external_id.is_some() && has_no_role {
        findings.tell(&external_id, format!("is of no use without {role}; give the role to assume, or leave this out"));
    }
}

/// The `target` label tells targets apart, and two with the same one would clash in every series.
fn targets_have_names_of_their_own(targets: &[Target], findings: &mut Findings) {
    let mut taken: BTreeMap<&str, KeyPath> = BTreeMap::new();
    for (index, target) in targets.iter().enumerate() {
        let at = target_path(index);
        let key = at.key(if target.name.is_some() { "name" } else { "region" });
        match target.known_name() {
            // The region stands in for no name, not for a faulty one.
            _ if !findings.none_at(&at.key("name")) => {}
            Some(name) => match taken.get(name) {
                Some(earlier) => {
                    let reason = format!("names this target as {earlier} names another; give each a name of its own");
                    findings.tell(&key, reason);
                }
                None => drop(taken.insert(name, key)),
            },
            None if targets.len() > 1 && findings.none_at(&key) && findings.tells_all(&at) => {
                let reason = "has neither a name nor a region; with several targets, each needs one to be told by";
                findings.tell(&at, reason);
            }
            None => {}
        }
    }
}
