//! The rules that tie keys together.

use std::collections::BTreeMap;

use super::check::Findings;
use super::duration::Shown;
use super::path::KeyPath;
use super::targets::{Item, account_of, origins};
use super::{Config, Target, Watched};

/// Tells of every broken rule. A rule keeps silent where a key that it goes by is at fault itself, and has its default
/// in `config` for that reason. `items` are those of `targets` as they are written.
pub(super) fn check(config: &Config, items: &[Item], findings: &mut Findings) {
    data_outlives_the_interval(config, findings);
    for (index, item) in items.iter().enumerate() {
        let at = target_path(index);
        what_goes_with_roles(item, &at, findings);
        one_way_to_say_it(item, &at, findings);
        endpoints_have_no_variants(item, &at, findings);
    }
    let origins = origins(items);
    targets_have_names_of_their_own(&config.targets, items, &origins, findings);
    targets_watch_jobs_of_their_own(&config.targets, &origins, findings);
    shards_are_told_apart(config, &origins, findings);
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

/// What is said when a role is assumed is said nowhere else.
fn what_goes_with_roles(item: &Item, at: &KeyPath, findings: &mut Findings) {
    let (role, roles) = (at.key("role_arn"), at.key("role_arns"));
    let has_no_role = item.role_arn.is_none() && item.role_arns.is_empty();
    if !has_no_role || !findings.none_at(&role) || !findings.none_at(&roles) || !findings.tells_all(at) {
        return;
    }
    for (key, is_given) in [("external_id", item.external_id.is_some()), ("session_name", item.session_name.is_some())]
    {
        if is_given {
            let reason = format!("is of no use without {role} or {roles}; give the role to assume, or leave this out");
            findings.tell(&at.key(key), reason);
        }
    }
}

/// A key for one value, and a key for several, can't both be meant.
fn one_way_to_say_it(item: &Item, at: &KeyPath, findings: &mut Findings) {
    let both = [
        ("region", "regions", item.region.is_some() && !item.regions.is_empty()),
        ("role_arn", "role_arns", item.role_arn.is_some() && !item.role_arns.is_empty()),
        ("account_id", "role_arns", item.account_id.is_some() && !item.role_arns.is_empty()),
    ];
    for (one, several, _) in both.into_iter().filter(|(.., are_given)| *are_given) {
        findings.tell(&at.key(one), format!("can't stand beside {}; give one of the two", at.key(several)));
    }
}

/// An endpoint is one address, which has neither a FIPS nor a dual-stack variant; the SDK refuses every request.
fn endpoints_have_no_variants(item: &Item, at: &KeyPath, findings: &mut Findings) {
    for (key, is_on) in [("use_fips", item.use_fips), ("use_dualstack", item.use_dualstack)] {
        if item.endpoint_url.is_some() && is_on == Some(true) {
            let reason = format!("can't be had of {}, which is an address of its own", at.key("endpoint_url"));
            findings.tell(&at.key(key), reason);
        }
    }
}

/// The `target` label tells targets apart, and two with the same one would clash in every series.
fn targets_have_names_of_their_own(targets: &[Target], items: &[Item], origins: &[usize], findings: &mut Findings) {
    let mut taken: BTreeMap<&str, (usize, KeyPath)> = BTreeMap::new();
    for (target, &index) in targets.iter().zip(origins) {
        let (at, item) = (target_path(index), &items[index]);
        let key = at.key(match item {
            Item { name: Some(_), .. } => "name",
            Item { role_arns, .. } if !role_arns.is_empty() => "role_arns",
            Item { regions, .. } if !regions.is_empty() => "regions",
            _ => "region",
        });
        match target.known_name() {
            // The region stands in for no name, not for a faulty one.
            _ if !findings.none_at(&at.key("name")) => {}
            Some(name) => match taken.get(name) {
                // Two of one item are told of as watching the same jobs.
                Some((of, _)) if *of == index => {}
                Some((_, earlier)) => {
                    let reason = format!("names this target as {earlier} names another; give each a name of its own");
                    findings.tell(&key, reason);
                }
                None => drop(taken.insert(name, (index, key))),
            },
            None if targets.len() > 1 && findings.none_at(&key) && findings.tells_all(&at) => {
                let reason = "has neither a name nor a region; with several targets, each needs one to be told by";
                findings.tell(&at, reason);
            }
            None => {}
        }
    }
}

/// Two targets of the same jobs would count each of them twice in every sum.
fn targets_watch_jobs_of_their_own(targets: &[Target], origins: &[usize], findings: &mut Findings) {
    let watched: Vec<Watched> = targets.iter().map(|target| target.watched(None)).collect();
    for (n, target) in watched.iter().enumerate() {
        let Some(earlier) = watched[..n].iter().position(|earlier| earlier == target) else { continue };
        let (at, other) = (target_path(origins[n]), target_path(origins[earlier]));
        // Two that are the same for being faulty are told of as that.
        if !findings.none_at(&at) || !findings.none_at(&other) {
            continue;
        }
        if origins[n] == origins[earlier] {
            let account = targets[n].role_arn.as_deref().and_then(account_of).unwrap_or_default();
            let reason =
                format!("has two roles of account {account}: each job would be counted twice; leave one of them out");
            findings.tell(&at.key("role_arns"), reason);
        } else {
            let reason =
                format!("watches the same jobs as {other}: each would be counted twice; leave one of them out");
            findings.tell(&at, reason);
        }
    }
}

/// Each target belongs to the shard that its name says, which every process has to know without asking anybody.
fn shards_are_told_apart(config: &Config, origins: &[usize], findings: &mut Findings) {
    let (index, total) = (KeyPath::of("shard.index"), KeyPath::of("shard.total"));
    let shard = config.shard;
    if shard.index >= shard.total && findings.none_at(&index) && findings.none_at(&total) {
        let reason = format!("is {}, and {total} is {}: shards are counted from 0", shard.index, shard.total);
        findings.tell(&index, reason);
    }
    if shard.total > 1 {
        for (target, &origin) in config.targets.iter().zip(origins) {
            let at = target_path(origin);
            if target.known_name().is_none() && findings.none_at(&at) && findings.tells_all(&at) {
                let reason = format!(
                    "is {}, and a target that has neither a name nor a region in the configuration belongs to no shard; give it a name",
                    shard.total
                );
                findings.tell(&total, reason);
            }
        }
    }
}
