//! The table of every key: what the checks, the environment and the documentation go by.
//!
//! A new key is one row here and one field of the same name in [`super::Config`]. Its section comes into being with
//! its first row.

use std::time::Duration;

use super::form;
use super::kind::Kind;
use super::nearest::distance;
use super::path::KeyPath;
use crate::job::{Status, TargetSelection, is_thing_group_name};

/// What every environment variable of the exporter begins with.
pub(super) const VARIABLE_PREFIX: &str = "IOT_JOBS_EXPORTER_";

/// One key.
pub(super) struct Key {
    /// The full path; `[]` stands for any item of a list.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    /// As an environment variable would give it; `None` where leaving it out has a meaning of its own.
    pub(super) default: Option<&'static str>,
    /// Whether its value is never shown.
    pub(super) secret: bool,
}

impl Key {
    const fn new(path: &'static str, kind: Kind) -> Self {
        Self { path, kind, default: None, secret: false }
    }

    const fn default(mut self, text: &'static str) -> Self {
        self.default = Some(text);
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// The environment variable that sets this key; `None` for a key inside a list, which is set as a whole.
    pub(super) fn variable(&self) -> Option<String> {
        (!self.path.contains("[]")).then(|| format!("{VARIABLE_PREFIX}{}", self.path.replace('.', "__").to_uppercase()))
    }
}

const fn text(fits: fn(&str) -> bool, accepted: &'static str) -> Kind {
    Kind::Text { fits, accepted }
}

/// Every key there is.
pub(super) static KEYS: &[Key] = &[
    // What to watch; without any, one target from the usual AWS credential and region sources.
    Key::new("targets", Kind::Sections).default("[{}]"),
    // Names the target in labels and logs; without it, its region does.
    Key::new("targets[].name", text(form::is_target_name, "a name: 1 to 128 characters, no control characters")),
    // The AWS region; without it, the one that the usual AWS sources give.
    Key::new("targets[].region", text(form::is_region, "a region: 1 to 32 of a-z, 0-9 and -, such as eu-west-1")),
    // Several regions in place of one: a target for each.
    Key::new(
        "targets[].regions",
        Kind::List {
            of: &text(form::is_region, "a region: 1 to 32 of a-z, 0-9 and -, such as eu-west-1"),
            min_items: 1,
        },
    ),
    // A profile of the AWS configuration files.
    Key::new("targets[].profile", text(form::is_profile, "the name of a profile")),
    // A role to assume for this target.
    Key::new(
        "targets[].role_arn",
        text(form::is_role_arn, "a role's ARN, such as arn:aws:iam::012345678901:role/iot-jobs-exporter"),
    ),
    // Several roles in place of one: a target for each, in each region.
    Key::new(
        "targets[].role_arns",
        Kind::List {
            of: &text(form::is_role_arn, "a role's ARN, such as arn:aws:iam::012345678901:role/iot-jobs-exporter"),
            min_items: 1,
        },
    ),
    // What the role's trust policy asks for.
    Key::new(
        "targets[].external_id",
        text(form::is_external_id, "an external id: 2 to 1224 of letters, digits and _+=,.@:/-"),
    )
    .secret(),
    // What the role's sessions are called; without it, as the program.
    Key::new(
        "targets[].session_name",
        text(form::is_session_name, "the name of a session: 2 to 64 of letters, digits and _+=,.@-"),
    ),
    // Whether to call FIPS endpoints; without it, as AWS_USE_FIPS_ENDPOINT or the profile says.
    Key::new("targets[].use_fips", Kind::Boolean),
    // Whether to call dual-stack endpoints; without it, as AWS_USE_DUALSTACK_ENDPOINT or the profile says.
    Key::new("targets[].use_dualstack", Kind::Boolean),
    // The account, where the credentials must belong to no other.
    Key::new("targets[].account_id", text(form::is_account_id, "an account id: 12 digits, in quotes")),
    // The endpoint of every service that the target calls.
    Key::new(
        "targets[].endpoint_url",
        text(
            form::is_endpoint_url,
            "an http:// or https:// URL with a host and without user, query or fragment, such as http://localhost:4566",
        ),
    ),
    // Constant labels on every job series of the target.
    Key::new("targets[].labels", Kind::Labels),
    // Only jobs of these statuses, one walk each.
    Key::new(
        "targets[].jobs.status",
        Kind::List { of: &Kind::Word(|| Status::KNOWN.iter().map(Status::as_str).collect()), min_items: 0 },
    ),
    // Only jobs of this target selection.
    Key::new(
        "targets[].jobs.target_selection",
        Kind::Word(|| TargetSelection::KNOWN.iter().map(TargetSelection::as_str).collect()),
    ),
    // Only jobs whose target is this thing group.
    Key::new(
        "targets[].jobs.thing_group_name",
        text(is_thing_group_name, "a thing group's name: 1 to 128 of letters, digits and :_-"),
    ),
    // Only jobs of this namespace.
    Key::new(
        "targets[].jobs.namespace_id",
        text(form::is_namespace_id, "a namespace id: 1 to 64 of letters, digits and _-"),
    ),
    // Which shard this process is, from 0.
    Key::new("shard.index", Kind::Whole { min: 0, max: 999 }).default("0"),
    // How many shards the targets are split over.
    Key::new("shard.total", Kind::Whole { min: 1, max: 1000 }).default("1"),
    // From the start of one walk to that of the next.
    Key::new("refresh.interval", Kind::Duration { min: Duration::from_millis(100), max: DAY }).default("1m"),
    // How long a walk may take at most.
    Key::new("refresh.timeout", Kind::Duration { min: Duration::from_secs(1), max: DAY }).default("30m"),
    // How long the last good walk is shown.
    Key::new("refresh.stale_after", Kind::Duration { min: Duration::from_secs(1), max: DAY.saturating_mul(30) }),
    // How a job's thing groups are known.
    Key::new("thing_groups.resolve", Kind::Word(|| vec!["describe", "summary", "off"])).default("describe"),
    // Only these groups get rows of their own; without any, all do.
    Key::new("thing_groups.include", Kind::List { of: &Kind::GroupPattern, min_items: 0 }).default("[]"),
    // These groups do not, whatever is included.
    Key::new("thing_groups.exclude", Kind::List { of: &Kind::GroupPattern, min_items: 0 }).default("[]"),
    // For how long after its end a job is attributed to its groups.
    Key::new("thing_groups.ended_jobs_within", Kind::Duration { min: Duration::ZERO, max: TEN_YEARS }).default("7d"),
    // Whether each refresh asks DescribeJob for every open job.
    Key::new("jobs.describe", Kind::Boolean).default("true"),
    // Whether single jobs have series.
    Key::new("jobs.series", Kind::Boolean).default("true"),
    // After how long a job is long-running.
    Key::new(
        "jobs.long_running_after",
        Kind::List { of: &Kind::Duration { min: Duration::from_secs(1), max: TEN_YEARS }, min_items: 0 },
    )
    .default("1d,3d"),
    // For each account, region and operation.
    Key::new("limits.requests_per_second", Kind::Number { min: 0.01, max: 1000.0 }).default("5"),
    // Pages of one walk; past it, the walk fails.
    Key::new("limits.max_pages", Kind::Whole { min: 1, max: 1_000_000 }).default("20000"),
    // Groups with rows of their own; the others are summed.
    Key::new("limits.max_thing_groups", Kind::Whole { min: 0, max: 100_000 }).default("200"),
    // Jobs with series of their own.
    Key::new("limits.max_jobs", Kind::Whole { min: 0, max: 100_000 }).default("500"),
    // Where to serve.
    Key::new("web.listen_addresses", Kind::List { of: &Kind::ListenAddress, min_items: 1 }).default(":10114"),
    // Where the metrics are.
    Key::new(
        "web.telemetry_path",
        text(form::is_telemetry_path, "a path such as /metrics: not /, nothing below /-/, no query, no blanks"),
    )
    .default("/metrics"),
    // TLS, logins and headers, in the exporter-toolkit's format.
    Key::new("web.config_file", text(form::is_path, "the path of a file")),
    // Where the probes alone are served.
    Key::new("web.probe_address", Kind::ListenAddress),
    // Whether a reload can be asked for over HTTP.
    Key::new("web.enable_lifecycle", Kind::Boolean).default("false"),
    // How much is logged.
    Key::new("log.level", Kind::Word(|| vec!["error", "warn", "info", "debug", "trace"])).default("info"),
    // Lines for people or for machines.
    Key::new("log.format", Kind::Word(|| vec!["text", "json"])).default("text"),
];

const DAY: Duration = Duration::from_hours(24);

/// Without the leap days.
const TEN_YEARS: Duration = DAY.saturating_mul(3650);

/// The key that stands at `path`, where there is one.
pub(super) fn find(path: &KeyPath) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path.pattern())
}

/// The names of the keys and sections right inside `section`, in the table's order.
pub(super) fn names_in(section: &KeyPath) -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for key in KEYS {
        let inside = match section.pattern() {
            "" => Some(key.path),
            pattern => key.path.strip_prefix(pattern).and_then(|rest| rest.strip_prefix('.')),
        };
        let name = inside.and_then(|inside| inside.split(['.', '[']).next());
        names.extend(name.filter(|name| !names.contains(name)));
    }
    names
}

/// The key or section that was probably meant where `name` was written in `section`: near in its full path, or, in
/// another section, in its last part.
pub(super) fn nearest(section: &KeyPath, name: &str) -> Option<&'static str> {
    let candidates =
        KEYS.iter().flat_map(|key| key.path.match_indices('.').map(|(end, _)| &key.path[..end]).chain([key.path]));
    let scored = candidates.filter(|path| !path.ends_with("[]")).filter_map(|path| {
        let (parent, last) = path.rsplit_once('.').unwrap_or(("", path));
        let here = parent == section.pattern();
        let by_name = distance(name, last).map(|edits| edits + usize::from(!here));
        // Somebody who writes `log_level` or `refresh.interval` on top means the key with that path.
        let by_path = distance(name, path).filter(|_| section.pattern().is_empty());
        [by_name, by_path].into_iter().flatten().min().map(|edits| (edits, path))
    });
    scored.min_by_key(|(edits, _)| *edits).map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_is_sought_here_first_and_then_elsewhere() {
        let (top, refresh, target) = (KeyPath::root(), KeyPath::of("refresh"), KeyPath::root().key("targets").item(0));
        assert_eq!(nearest(&refresh, "intervall"), Some("refresh.interval"));
        assert_eq!(nearest(&top, "interval"), Some("refresh.interval"));
        assert_eq!(nearest(&top, "refersh"), Some("refresh"));
        assert_eq!(nearest(&top, "target"), Some("targets"));
        assert_eq!(nearest(&top, "log_level"), Some("log.level"));
        assert_eq!(nearest(&target, "external_idd"), Some("targets[].external_id"));
        assert_eq!(nearest(&target, "status"), Some("targets[].jobs.status"));
        assert_eq!(nearest(&target, "max_page"), Some("limits.max_pages"));
        assert_eq!((nearest(&target, "job"), nearest(&top, "job")), (Some("targets[].jobs"), Some("jobs")));
        assert_eq!(nearest(&target.key("jobs"), "describe"), Some("jobs.describe"));
        assert_eq!(nearest(&KeyPath::of("jobs"), "thing_group_name"), Some("targets[].jobs.thing_group_name"));
        assert_eq!(nearest(&refresh, "color"), None);
    }

    #[test]
    fn a_section_is_named_by_the_keys_in_it() {
        assert_eq!(
            names_in(&KeyPath::root()),
            ["targets", "shard", "refresh", "thing_groups", "jobs", "limits", "web", "log"]
        );
        assert_eq!(names_in(&KeyPath::of("log")), ["level", "format"]);
        let target = KeyPath::root().key("targets").item(7);
        assert!(names_in(&target).ends_with(&["labels", "jobs"]));
    }

    #[test]
    fn only_keys_outside_lists_have_a_variable() {
        let variables: Vec<_> = KEYS.iter().filter_map(Key::variable).collect();
        assert!(variables.contains(&"IOT_JOBS_EXPORTER_REFRESH__INTERVAL".to_owned()));
        assert!(variables.contains(&"IOT_JOBS_EXPORTER_TARGETS".to_owned()));
        assert!(!variables.iter().any(|variable| variable.contains("REGION")));
    }

    #[test]
    fn no_two_rows_have_the_same_path() {
        let mut paths: Vec<_> = KEYS.iter().map(|key| key.path).collect();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), KEYS.len());
    }
}
