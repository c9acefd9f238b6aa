//! The configuration: its types with their units and defaults, and [`load`], which reads it from its sources.
//!
//! `keys` is the table of what can be configured. `sources` lays flags, environment and file over each other with
//! figment, `check` holds the result against the table and finds everything wrong at once, `rules` ties keys
//! together, and only what came through all of it becomes a [`Config`]. Nothing here reads the process environment or
//! a clock. `config/exporter.yml` is the documentation for operators; a test holds it to the table.

mod check;
mod duration;
mod file;
mod form;
#[cfg(test)]
mod hostile;
mod keys;
mod kind;
mod listen;
mod nearest;
mod path;
mod problem;
mod rules;
mod secret;
mod sources;
mod targets;
pub mod web_config;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use figment::value::Value;
use serde::{Deserialize, Deserializer, Serialize};
use siphasher::sip::SipHasher24;

pub use self::duration::Shown;
pub use self::form::{is_endpoint_url, is_region};
pub use self::listen::{Host, InvalidListenAddress, ListenAddress};
pub use self::problem::{Problem, Problems};
pub use self::secret::Secret;
pub use self::sources::{Flag, FlagValue, Sources};
use self::targets::Item;
pub use self::web_config::WebConfig;
use crate::group_filter::GroupFilter;
use crate::job::{AccountId, Scope, Status, TargetSelection};

/// Everything that can be configured. [`load`] makes it; the default is what it makes of no sources at all.
///
/// `Deserialize` here and below takes the checked form that [`load`] hands it, not a file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What to watch; no two with the same name, or of the same jobs. None, where all belong to other shards.
    #[serde(deserialize_with = "targets::deserialize")]
    pub targets: Vec<Target>,
    /// Which part of the targets this process watches. [`load`] has left out the others.
    pub shard: Shard,
    /// When to walk.
    pub refresh: Refresh,
    /// What is told of thing groups.
    #[serde(deserialize_with = "thing_groups")]
    pub thing_groups: ThingGroups,
    /// What is told of single jobs. Which jobs are watched is [`Target::scope`].
    pub jobs: Jobs,
    /// Bounds on what a refresh may cost, and on what is shown.
    pub limits: Limits,
    /// Where to serve.
    pub web: Web,
    /// What is logged, and how.
    pub log: Log,
}

/// One account and region to watch, or a part of its jobs. What is `None` comes from the usual AWS sources.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// What the `target` label says; the region where it is `None`.
    pub name: Option<String>,
    /// The AWS region.
    pub region: Option<String>,
    /// A profile of the AWS configuration files.
    pub profile: Option<String>,
    /// The ARN of a role to assume.
    pub role_arn: Option<String>,
    /// What the role's trust policy asks for; only beside `role_arn`.
    pub external_id: Option<Secret>,
    /// What the role's sessions are called, in AWS's own logs for one; only beside `role_arn`.
    pub session_name: Option<String>,
    /// Whether to call endpoints that are validated by FIPS 140.
    pub use_fips: Option<bool>,
    /// Whether to call endpoints that are reached by IPv6 as well.
    pub use_dualstack: Option<bool>,
    /// The account of the jobs. One that belongs to another account fails the refresh; an empty account can't be told.
    pub account_id: Option<AccountId>,
    /// The endpoint of every service that the target calls, IoT and STS, as `endpoint_url` in AWS's own configuration.
    /// To redirect IoT alone there are `AWS_ENDPOINT_URL_IOT` and the `services` section of a profile.
    pub endpoint_url: Option<String>,
    /// Constant labels on every job series of this target; none of them is one of the exporter's own.
    pub labels: BTreeMap<String, String>,
    /// Which of its jobs to watch; the section `jobs`.
    pub scope: Scope,
}

impl Target {
    /// The name as far as the configuration tells it: the name given, else the region.
    #[must_use]
    pub fn known_name(&self) -> Option<&str> {
        self.name.as_deref().or(self.region.as_deref())
    }

    /// What decides which jobs it watches, in `region` where it has none of its own.
    #[must_use]
    pub fn watched(&self, region: Option<&str>) -> Watched {
        let of_role = self.role_arn.as_deref().and_then(targets::account_of).map(str::to_owned);
        let account = self.account_id.as_ref().map(ToString::to_string).or(of_role);
        let mut scope = self.scope.clone();
        scope.statuses.sort();
        Watched {
            region: self.region.as_deref().or(region).map(str::to_owned),
            // Whose profile it is only AWS can tell.
            profile: self.profile.clone().filter(|_| account.is_none()),
            account,
            endpoint_url: self.endpoint_url.clone(),
            scope,
        }
    }
}

/// Which jobs a target watches, as far as that is known without asking AWS. Two that are equal are the same jobs; two that
/// differ can still be, or overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    region: Option<String>,
    account: Option<String>,
    profile: Option<String>,
    endpoint_url: Option<String>,
    scope: Scope,
}

/// One of several processes that share the targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Which one this is, from 0.
    pub index: u32,
    /// How many there are, up to 1000.
    pub total: u32,
}

impl Shard {
    /// Whether a target of this name is this shard's. Every name is exactly one shard's, whatever the order of the targets, and
    /// the same one's in every version of this program.
    #[must_use]
    pub fn holds(self, name: &str) -> bool {
        // Without a key, so that every process says the same.
        let hash = SipHasher24::new().hash(name.as_bytes());
        hash % u64::from(self.total.max(1)) == u64::from(self.index)
    }
}

/// When to walk, and for how long a walk is good.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// From the start of one walk to the start of the next; 100 ms to a day.
    pub interval: Duration,
    /// How long a walk may take at most; 1 s to a day.
    pub timeout: Duration,
    /// How long the last good walk is shown, at least twice `interval`; see [`Refresh::stale_after`].
    pub stale_after: Option<Duration>,
}

impl Refresh {
    /// By how much an interval may turn out longer than configured, as a share of it: enough to keep exporters that
    /// started together from calling together for ever.
    pub const JITTER: f64 = 0.05;

    /// How long the last good walk, which took `last_walk`, is shown: what is configured, else 10 minutes, or three
    /// times what it takes to renew it, where that is longer. Two walks in a row can fail then before anything
    /// disappears, as long as they take no longer to fail than the good one took.
    #[must_use]
    pub fn stale_after(&self, last_walk: Duration) -> Duration {
        const LEAST: Duration = Duration::from_mins(10);
        self.stale_after.unwrap_or_else(|| self.longest_cycle(last_walk).saturating_mul(3).max(LEAST))
    }

    /// From the end of one walk to the end of the next, both of which take `walk`, at most: the wait is an interval with
    /// its jitter from start to start, or as long as the walk where that is longer.
    #[must_use]
    pub fn longest_cycle(&self, walk: Duration) -> Duration {
        self.interval.mul_f64(1.0 + Self::JITTER).max(walk).saturating_add(walk)
    }
}

/// What is told of thing groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThingGroups {
    /// How a job's groups are known.
    pub resolve: Resolve,
    /// Which groups get rows of their own, as far as their names go; the keys `include` and `exclude`.
    pub filter: GroupFilter,
    /// For how long after its end a job is attributed to its groups, up to 3650 days; with zero, no ended job is.
    pub ended_jobs_within: Duration,
}

/// How a job's thing groups are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resolve {
    /// By `DescribeJob`, which tells all of them by name.
    Describe,
    /// By the one id that `ListJobs` gives, as it is.
    Summary,
    /// Not at all: there are no families by group.
    Off,
}

/// What is told of single jobs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jobs {
    /// Whether each refresh asks `DescribeJob` for every open job.
    pub describe: bool,
    /// Whether there are families by job.
    pub series: bool,
    /// After how long a job is long-running, each 1 s to 3650 days, no two the same; in the order given. Without any,
    /// there are no families of long-running jobs.
    pub long_running_after: Vec<Duration>,
}

/// Bounds on what a refresh may cost, and on what is shown.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Attempts a second, retries included, for each account, region and operation; 0.01 to 1000.
    pub requests_per_second: f64,
    /// Pages of one walk; one that needs more fails.
    pub max_pages: u32,
    /// Thing groups with rows of their own, up to 100,000; those included by their very name always have theirs.
    pub max_thing_groups: u32,
    /// Jobs with series of their own, up to 100,000.
    pub max_jobs: u32,
}

/// Where to serve.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Web {
    /// Where to listen, at least one.
    pub listen_addresses: Vec<ListenAddress>,
    /// The path of the metrics, beginning with `/`.
    pub telemetry_path: String,
    /// The file with TLS, logins and headers, for [`web_config::load`]; without it, plain HTTP for everybody.
    pub config_file: Option<PathBuf>,
    /// Where the probes alone are served, in plain HTTP, besides.
    pub probe_address: Option<ListenAddress>,
    /// Whether `POST /-/reload` has the configuration read again.
    pub enable_lifecycle: bool,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Nothing below this level is logged.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// How much is logged; each level holds those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What stops the exporter from doing its work.
    Error,
    /// What an operator should look at.
    Warn,
    /// Starts, stops and changes of state.
    Info,
    /// Every walk.
    Debug,
    /// Every request to AWS.
    Trace,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        load(&Sources::default()).expect("the defaults in the table of keys are valid, as a test holds them to be")
    }
}

/// Reads the configuration from its sources.
///
/// # Errors
/// Everything that is wrong, in one go: sources that can't be read, unknown keys and variables, values of the wrong
/// kind or out of range, and rules between keys. A value that another source overrides is not looked at.
pub fn load(sources: &Sources) -> Result<Config, Problems> {
    let (figment, mut problems) = sources::merge(sources);
    let mut findings = check::Findings::default();
    let settled = check::settle(&figment, &mut findings);
    let mut config: Config = extract(&settled)?;
    rules::check(&config, &extract::<Given>(&settled)?.targets, &mut findings);
    problems.extend(findings.into_problems());
    if !problems.is_empty() {
        return Err(Problems::new(problems));
    }
    let shard = config.shard;
    // A single target without a name is the only one there is, and the rules have seen to it that shards have none such.
    config.targets.retain(|target| target.known_name().is_none_or(|name| shard.holds(name)));
    Ok(config)
}

/// The targets as they are written.
#[derive(Deserialize)]
struct Given {
    targets: Vec<Item>,
}

/// The typed configuration. That a settled value does not fit would be a row of the table that its field contradicts.
fn extract<'de, T: Deserialize<'de>>(settled: &Value) -> Result<T, Problems> {
    settled.deserialize().map_err(|error: figment::Error| {
        let reason = format!("{} contradicts the table of keys: a fault of this program", error.path.join("."));
        Problems::new(vec![Problem::with_source("configuration", reason)])
    })
}

/// Reads the configuration and the web configuration that it names. Without one, the latter asks for nothing.
///
/// # Errors
/// Everything that is wrong with either.
pub fn load_all(sources: &Sources) -> Result<(Config, WebConfig), Problems> {
    let config = load(sources)?;
    let web = config.web.config_file.as_deref().map(web_config::load).transpose()?;
    Ok((config, web.unwrap_or_default()))
}

fn account_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<AccountId>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| AccountId::parse(&text).map_err(serde::de::Error::custom)).transpose()
}

/// The section `thing_groups`, with its patterns made into a filter.
fn thing_groups<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ThingGroups, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Given {
        resolve: Resolve,
        include: Vec<String>,
        exclude: Vec<String>,
        ended_jobs_within: Duration,
    }
    let Given { resolve, include, exclude, ended_jobs_within } = Given::deserialize(deserializer)?;
    let filter = GroupFilter::new(&include, &exclude).map_err(serde::de::Error::custom)?;
    Ok(ThingGroups { resolve, filter, ended_jobs_within })
}

/// The section `jobs` of a target as the scope that it describes.
fn scope<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Scope, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Given {
        #[serde(default)]
        status: Vec<String>,
        target_selection: Option<String>,
        thing_group_name: Option<String>,
        namespace_id: Option<String>,
    }
    let Given { status, target_selection, thing_group_name, namespace_id } = Given::deserialize(deserializer)?;
    let statuses = status.iter().map(|text| Status::from(text.as_str())).collect();
    let target_selection = target_selection.as_deref().map(TargetSelection::from);
    Ok(Scope { statuses, target_selection, thing_group_name, namespace_id })
}
