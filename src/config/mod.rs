//! The configuration: its types with units and defaults, and [`load`], which reads it from its sources.
//!
//! `schema` defines every key. `sources` merges flags, environment and file with figment. `cursor` walks over the
//! result and collects all problems. `rules` and `aws_environment` check conditions between keys. This module reads
//! neither the process environment nor a clock.

mod aws_environment;
mod cursor;
mod duration;
mod effective;
mod file;
mod json_schema;
mod key;
mod listen;
mod path;
mod problem;
#[cfg(test)]
mod proptests;
#[cfg(test)]
mod reference;
mod rules;
mod schema;
mod secret;
mod sources;
mod syntax;
mod targets;
mod value;
mod warnings;
pub mod web_config;
mod yaml;

#[cfg(test)]
mod tests;

use std::path::Path;

use siphasher::sip::SipHasher24;

pub use self::aws_environment::{AwsProfiles, TrustProblem};
use self::cursor::Reading;
pub use self::duration::Shown;
pub use self::effective::Effective;
pub use self::file::{FileError, read_text};
pub use self::json_schema::json_schema;
use self::key::{Section as _, Shape};
pub use self::listen::{InvalidListenAddress, ListenAddress};
pub use self::problem::{Problem, Problems, Source};
pub use self::schema::{
    AllJobs, Collectors, Config, Details, Executions, Jobs, Limits, Log, LogFormat, LogLevel, OpenJobs, Shard, Tags,
    Target, ThingGroups, Web,
};
pub use self::secret::Secret;
pub use self::sources::{Flag, Sources};
pub(crate) use self::syntax::partition_of_region;
pub use self::syntax::{RESERVED_LABELS, is_endpoint_url, is_region};
pub use self::warnings::warnings;
pub use self::web_config::WebConfig;
use crate::jobs::group_filter::GroupFilter;
use crate::jobs::{AccountId, Scope};

impl Target {
    /// The name as far as the configuration determines it: the configured name, else the region.
    #[must_use]
    pub fn known_name(&self) -> Option<&str> {
        self.name.as_deref().or(self.region.as_deref())
    }

    /// The jobs that it monitors; `region` is used if the target has none of its own.
    #[must_use]
    pub fn monitored_jobs(&self, region: Option<&str>) -> MonitoredJobs {
        let of_role = self.role_arn.as_deref().and_then(syntax::account_of_role).map(str::to_owned);
        let account = self.account_id.as_ref().map(ToString::to_string).or(of_role);
        let mut scope = self.scope.clone();
        scope.statuses.sort();
        MonitoredJobs {
            region: self.region.as_deref().or(region).map(str::to_owned),
            // Only AWS knows the account of a profile.
            profile: self.profile.clone().filter(|_| account.is_none()),
            account,
            endpoint_url: self.endpoint_url.clone(),
            scope,
        }
    }
}

/// The jobs that a target monitors, as far as the configuration determines them. Equal values mean the same jobs;
/// different ones can still be the same, or overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitoredJobs {
    region: Option<String>,
    account: Option<String>,
    profile: Option<String>,
    endpoint_url: Option<String>,
    scope: Scope,
}

impl MonitoredJobs {
    /// The key of a shared rate limit: account and region, as far as they are known.
    fn quota(&self) -> [Option<String>; 4] {
        [&self.account, &self.profile, &self.region, &self.endpoint_url].map(Clone::clone)
    }

    /// Whether the jobs can be those of `other`: region and filter are equal, and the accounts are not known to
    /// differ.
    #[must_use]
    pub fn can_equal(&self, other: &Self) -> bool {
        let differ = self.account.as_ref().zip(other.account.as_ref()).is_some_and(|(one, other)| one != other);
        self.region == other.region && self.scope == other.scope && !differ
    }

    /// Whether the jobs can belong to this account.
    #[must_use]
    pub fn can_be_of(&self, account: &AccountId) -> bool {
        self.account.as_ref().is_none_or(|known| known == account.as_str())
    }
}

impl Shard {
    /// Whether this shard monitors a target with this name. Each name belongs to exactly one shard, independent of the
    /// order of the targets, and to the same one in every version of this program.
    #[must_use]
    pub fn holds(self, name: &str) -> bool {
        // Without a random key, so that every process computes the same hash.
        let hash = SipHasher24::new().hash(name.as_bytes());
        hash % u64::from(self.total.max(1)) == u64::from(self.index)
    }
}

impl ThingGroups {
    /// The filter for thing groups with their own rows.
    #[must_use]
    pub fn filter(&self) -> GroupFilter {
        GroupFilter::new(&self.include, &self.exclude)
    }
}

impl Default for Config {
    #[expect(clippy::expect_used, reason = "the defaults do not depend on anything, and a test loads them")]
    fn default() -> Self {
        load(&Sources::default()).expect("the defaults are valid, as a test confirms")
    }
}

impl Default for Collectors {
    fn default() -> Self {
        Config::default().collectors
    }
}

/// A configuration, with everything that was read for it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The web configuration. Without a file: plain HTTP for every client.
    pub web: WebConfig,
    /// The value and the source of every key.
    pub effective: Effective,
    /// The files that were read, each with the time of its last modification.
    pub files: Vec<String>,
}

impl Loaded {
    /// What changed since `earlier`, in a sentence.
    #[must_use]
    pub fn changes_since(&self, earlier: &Self) -> String {
        let changes = self.effective.changes_since(&earlier.effective);
        match (changes.is_empty(), self.files.is_empty()) {
            (false, _) => format!("Changed: {}.", changes.join(", ")),
            (true, true) => "Nothing changed; there is no configuration file.".to_owned(),
            (true, false) => format!("Nothing changed in {}.", self.files.join(", ")),
        }
    }

    /// Replaces the web configuration.
    pub fn set_web(&mut self, web: WebConfig) {
        self.effective.set_web(web.digest());
        self.web = web;
    }
}

impl From<Config> for Loaded {
    /// A configuration that was not read from a file.
    fn from(config: Config) -> Self {
        Self { config, web: WebConfig::default(), effective: Effective::default(), files: Vec::new() }
    }
}

/// Loads the configuration without the web configuration.
///
/// # Errors
/// All problems at once: unreadable sources, unknown keys and variables, invalid values, and violated rules. A value
/// that another source overrides is not checked.
pub fn load_without_web(sources: &Sources) -> Result<Loaded, Problems> {
    read(sources, None)
}

/// Loads only the configuration; see [`load_without_web`].
///
/// # Errors
/// All problems at once.
///
/// # Example
/// The environment takes precedence over defaults, and each problem names its source and its key.
///
/// ```
/// use std::time::Duration;
///
/// use aws_iot_jobs_exporter::config::{Sources, load};
///
/// let variable = |name: &str, value: &str| (format!("IOT_JOBS_EXPORTER_{name}"), value.to_owned());
/// let environment = vec![
///     variable("TARGETS", "[{region: eu-west-1}]"),
///     variable("COLLECTORS__OPEN_JOBS__INTERVAL", "2m"),
/// ];
/// let config = load(&Sources { environment, ..Sources::default() })?;
/// assert_eq!(config.targets[0].region.as_deref(), Some("eu-west-1"));
/// assert_eq!(config.collectors.open_jobs.interval, Duration::from_mins(2));
///
/// let environment = vec![variable("JOBS__ENDED_WITHIN", "60")];
/// let problems = load(&Sources { environment, ..Sources::default() }).expect_err("a number without a unit");
/// assert_eq!(problems.0[0].source.name, "IOT_JOBS_EXPORTER_JOBS__ENDED_WITHIN");
/// assert_eq!(problems.0[0].key.as_deref(), Some("jobs.ended_within"));
/// # Ok::<(), aws_iot_jobs_exporter::config::Problems>(())
/// ```
pub fn load(sources: &Sources) -> Result<Config, Problems> {
    load_without_web(sources).map(|loaded| loaded.config)
}

/// Loads the configuration and the web configuration that it names.
///
/// # Errors
/// All problems of both.
pub fn load_all(sources: &Sources) -> Result<Loaded, Problems> {
    read(sources, Some(web_config::load))
}

/// The log settings of the sources, even if other settings are invalid.
#[must_use]
pub fn log_settings(sources: &Sources) -> Log {
    let fields = Config::fields();
    let reading = Reading::new(sources::merge(sources, &fields).0, fields);
    Config::read_fields(&reading.root()).log
}

type LoadWeb = fn(&Path) -> Result<WebConfig, Problems>;

fn read(sources: &Sources, load_web: Option<LoadWeb>) -> Result<Loaded, Problems> {
    let fields = Config::fields();
    let (figment, mut problems) = sources::merge(sources, &fields);
    let reading = Reading::new(figment, fields);
    let root = reading.root();
    root.check_section(&key::names(reading.fields()));
    let mut config = Config::read_fields(&root);
    rules::check(&config, &root);
    if let Some(profiles) = &sources.aws_profiles {
        problems.extend(aws_environment::check(sources, profiles, &config, &root));
    }
    let web = load_web.zip(config.web.config_file.as_deref()).map(|(load, path)| load(path)).transpose();
    let web = web.map_err(|found| problems.extend(found.0)).ok().flatten().unwrap_or_default();
    let effective = Effective::new(reading.fields(), &root, web.digest());
    problems.extend(reading.into_problems());
    Problems::check(problems)?;
    let files = sources.file.iter().chain(&config.web.config_file).map(|path| file::with_time(path)).collect();
    let shard = config.shard;
    config.targets = config.targets.iter().flat_map(Target::expanded).collect();
    // A single target without a name is not filtered; the rules require names for shards.
    config.targets.retain(|target| target.known_name().is_none_or(|name| shard.holds(name)));
    Ok(Loaded { config, web, effective, files })
}

/// A command-line flag that sets a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagDefinition {
    /// The path of the key, such as `web.listen_addresses`.
    pub key: String,
    /// The name, without the two dashes.
    pub name: &'static str,
    /// The placeholder of its value in the help; empty for a flag without a value, which means `true`.
    pub value_name: &'static str,
    /// One sentence about it, with the default.
    pub help: String,
    /// Whether it can be repeated.
    pub is_list: bool,
}

/// The command-line flags that set a key, in the order of the keys.
#[must_use]
pub fn flags() -> Vec<FlagDefinition> {
    let fields = Config::fields();
    let flag = |(key, field): (String, &key::Field)| {
        let (name, value_name) = field.info.flag?;
        let default = field.info.default.filter(|_| !value_name.is_empty());
        let help = field.summary() + &default.map(|text| format!(" [default: {text}]")).unwrap_or_default();
        Some(FlagDefinition { key, name, value_name, help, is_list: matches!(field.info.shape, Shape::List { .. }) })
    };
    sources::leaves(&fields).into_iter().filter_map(flag).collect()
}
