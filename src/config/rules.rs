//! Rules between keys. Skip a rule whose keys are invalid.

use std::collections::BTreeMap;

use super::MonitoredJobs;
use super::cursor::Cursor;
use super::duration::Shown;
use super::schema::{Collectors, Config, Target};
use super::syntax::{account_of_role, label_count_error};
use crate::jobs::{Status, tag_label};

/// Reports every broken rule.
pub(super) fn check(config: &Config, root: &Cursor<'_>) {
    collectors_fit_together(&config.collectors, &root.key("collectors"));
    tags_have_different_labels(&config.collectors, &BTreeMap::new(), &root.key("collectors"));
    for (spec, at) in specs(config, root) {
        let collectors = at.key("collectors").or_global("collectors");
        collectors_fit_together(&spec.collectors, &collectors);
        tags_have_different_labels(&spec.collectors, &spec.labels, &collectors);
        role_settings_need_a_role(spec, &at);
        one_value_or_several(&at);
        endpoints_have_no_variants(spec, &at);
        filters_match_something(spec, &at);
        if let Some(reason) = label_count_error(&spec.labels) {
            at.key("labels").report(reason);
        }
    }
    targets_have_different_names(config, root);
    targets_monitor_different_jobs(config, root);
    shards_are_known(config, root);
}

/// The items of `targets` with their positions. The default item has no position.
pub(super) fn specs<'a>(config: &'a Config, root: &Cursor<'a>) -> Vec<(&'a Target, Cursor<'a>)> {
    let list = root.key("targets");
    let mut places: Vec<Cursor<'a>> = list.items().collect();
    places.resize(config.targets.len(), list);
    config.targets.iter().zip(places).collect()
}

/// Otherwise data would repeatedly disappear: an answer arrives an interval after the previous one, plus the duration
/// of the request.
fn collectors_fit_together(collectors: &Collectors, at: &Cursor<'_>) {
    let Collectors { open_jobs, all_jobs, details, executions, .. } = collectors;
    for (collector, key, interval, stale_after) in [
        ("open_jobs", "interval", open_jobs.interval, open_jobs.stale_after),
        ("all_jobs", "interval", all_jobs.interval, all_jobs.stale_after),
        ("details", "max_interval", details.max_interval, details.stale_after),
        ("executions", "interval", executions.interval, executions.stale_after),
    ] {
        let collector = at.key(collector);
        let (longest, shown) = (collector.key(key), collector.key("stale_after"));
        if let Some(stale_after) = stale_after.filter(|shown| *shown < interval.saturating_mul(2))
            && longest.is_valid()
        {
            shown.report(format!(
                "{} is shorter than twice {}, which is {}: data would disappear before it is renewed",
                Shown(stale_after),
                longest.path,
                Shown(interval)
            ));
        }
    }
    let (interval, longest) = (at.key("details").key("interval"), at.key("details").key("max_interval"));
    if details.max_interval < details.interval && interval.is_valid() && longest.is_valid() {
        let shown = [details.interval, details.max_interval].map(Shown);
        if longest.is_given() {
            longest.report(format!("{} is shorter than {}, which is {}", shown[1], interval.path, shown[0]));
        } else {
            interval.report(format!("{} is longer than {}, which is {}", shown[0], longest.path, shown[1]));
        }
    }
}

/// Two tags with the same label would hide each other.
fn tags_have_different_labels(collectors: &Collectors, constant: &BTreeMap<String, String>, at: &Cursor<'_>) {
    let keys = at.key("tags").key("keys");
    let mut known: BTreeMap<String, &str> = BTreeMap::new();
    for key in &collectors.tags.keys {
        let label = tag_label(key);
        if constant.contains_key(&label) {
            keys.report(format!("gives {key:?} the label {label}, which is a constant label of the target"));
        }
        if let Some(other) = known.insert(label.clone(), key) {
            keys.report(format!("gives {other:?} and {key:?} the same label, {label}; leave one of them out"));
        }
    }
}

fn role_settings_need_a_role(spec: &Target, at: &Cursor<'_>) {
    if !at.omits(&["role_arn", "role_arns"]) {
        return;
    }
    for (key, is_given) in [("external_id", spec.external_id.is_some()), ("session_name", spec.session_name.is_some())]
    {
        if is_given {
            let reason =
                format!("has no effect without {0}.role_arn or {0}.role_arns; give the role, or remove this", at.path);
            at.key(key).report(reason);
        }
    }
}

fn one_value_or_several(at: &Cursor<'_>) {
    let filter = at.key("filter");
    for (section, one, other) in [
        (at, "region", "regions"),
        (at, "role_arn", "role_arns"),
        (at, "account_id", "role_arns"),
        // ListJobs refuses both.
        (&filter, "thing_group_name", "thing_group_id"),
    ] {
        if section.key(one).is_given() && section.key(other).is_given() {
            section
                .key(one)
                .report(format!("cannot be combined with {}; give one of the two", section.key(other).path));
        }
    }
}

/// The SDK refuses every request with both.
fn endpoints_have_no_variants(spec: &Target, at: &Cursor<'_>) {
    for (key, is_on) in [("use_fips", spec.use_fips), ("use_dualstack", spec.use_dualstack)] {
        if spec.endpoint_url.is_some() && is_on == Some(true) {
            at.key(key).report(format!("cannot be combined with {}.endpoint_url", at.path));
        }
    }
}

/// AWS omits SCHEDULED jobs when a thing group filter is set (reported in aws-cli#8924).
fn filters_match_something(spec: &Target, at: &Cursor<'_>) {
    let filter = at.key("filter");
    let groups = [("thing_group_name", &spec.scope.thing_group_name), ("thing_group_id", &spec.scope.thing_group_id)];
    let Some((group, _)) = groups.into_iter().find(|(_, group)| group.is_some()) else { return };
    if spec.scope.statuses == [Status::Scheduled] && filter.key("status").is_valid() {
        filter.key("status").report(format!(
            "matches nothing: AWS omits SCHEDULED jobs when {} is set; add another status, or remove one of the two",
            filter.key(group).path
        ));
    }
}

/// Two targets with the same label `target` would have the same series.
fn targets_have_different_names(config: &Config, root: &Cursor<'_>) {
    let specs = specs(config, root);
    let count: usize = specs.iter().map(|(spec, _)| spec.expanded().len()).sum();
    let mut taken: BTreeMap<String, Cursor<'_>> = BTreeMap::new();
    for (spec, at) in &specs {
        // The region does not replace an invalid name.
        if !at.key("name").is_valid() {
            continue;
        }
        let from = ["name", "role_arns", "regions"].into_iter().find(|key| at.key(key).is_given()).unwrap_or("region");
        let mut own = BTreeMap::new();
        for target in spec.expanded() {
            match target.known_name().map(str::to_owned) {
                Some(name) if taken.contains_key(&name) => {
                    let other = taken.get(&name).map(|other| other.path.to_string()).unwrap_or_default();
                    let reason = format!("{name:?} is the name of {other} too; give each target its own name");
                    at.key(from).report(reason);
                }
                // Two targets of one item are reported as monitoring the same jobs.
                Some(name) => drop(own.insert(name, at.clone())),
                None if count > 1 && at.key(from).is_valid() && at.omits(&["name", "region"]) => {
                    at.report("has neither name nor region; each of several targets needs one");
                }
                None => {}
            }
        }
        taken.append(&mut own);
    }
}

/// Two targets with the same jobs would count each job twice in every sum.
fn targets_monitor_different_jobs(config: &Config, root: &Cursor<'_>) {
    // The keys of `MonitoredJobs`. Targets that are equal because one of these is invalid are not reported here.
    const KEYS: [&str; 8] =
        ["region", "regions", "profile", "role_arn", "role_arns", "account_id", "endpoint_url", "filter"];
    let is_known = |at: &Cursor<'_>| !at.misspells(&KEYS) && KEYS.iter().all(|key| at.key(key).is_valid());
    let mut seen: Vec<(MonitoredJobs, Cursor<'_>)> = Vec::new();
    for (spec, at) in specs(config, root) {
        for target in spec.expanded() {
            let monitored_jobs = target.monitored_jobs(None);
            match seen.iter().find(|(earlier, _)| *earlier == monitored_jobs) {
                Some((_, earlier)) if earlier.path == at.path && at.key("role_arns").is_valid() => {
                    let account = target.role_arn.as_deref().and_then(account_of_role).unwrap_or_default();
                    let reason = format!("has two roles of account {account}: each job would count twice; remove one");
                    at.key("role_arns").report(reason);
                }
                Some((_, earlier)) if is_known(earlier) && is_known(&at) => {
                    at.report(format!(
                        "monitors the same jobs as {}: each would count twice; remove one",
                        earlier.path
                    ));
                }
                _ => {}
            }
            seen.push((monitored_jobs, at.clone()));
        }
    }
}

/// The name of a target determines its shard, so every process must know it without a request.
fn shards_are_known(config: &Config, root: &Cursor<'_>) {
    let (shard, at) = (config.shard, root.key("shard"));
    let (index, total) = (at.key("index"), at.key("total"));
    if shard.index >= shard.total && index.is_valid() && total.is_valid() {
        index.report(format!("is {}, and shard.total is {}: shards are counted from 0", shard.index, shard.total));
    }
    let is_nameless = |target: &Target| target.known_name().is_none();
    if shard.total > 1
        && specs(config, root)
            .iter()
            .any(|(spec, at)| spec.expanded().iter().any(is_nameless) && at.is_valid() && at.omits(&["name", "region"]))
    {
        total.report(format!(
            "is {}, but a target has neither name nor region in the configuration, so it belongs to no shard; give it a name",
            shard.total
        ));
    }
}
