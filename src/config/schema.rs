//! Defines every key of the configuration: type, limits, default, flag, documentation.
//!
//! The documentation is Markdown for operators. Its first sentence stands alone in `--help`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::key::{Key, define_section, list, list_or, mapping, not_empty, overriding, section, sections};
use super::listen::ListenAddress;
use super::secret::Secret;
use super::syntax;
use super::value::{Scalar, boolean, duration, number, parsed, text, whole_number, word};
use crate::jobs::group_filter::Pattern;
use crate::jobs::{AccountId, Scope, Status, TargetSelection};

const DAY: Duration = Duration::from_hours(24);

/// Ten years without leap days.
const TEN_YEARS: Duration = DAY.saturating_mul(3650);

define_section! {
    /// All settings of the exporter. [`load`](super::load) returns it; the default is its result without sources.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Config {
        /// What to monitor: one item for each account and region. Without it, there is one target, whose region and
        /// credentials come from the usual AWS sources: environment, profile, container or instance role.
        pub targets: Vec<Target> => sections();
        /// Several processes can share the targets. Each has the same targets and its own index, and monitors those that
        /// belong to it by their names. See docs/scaling.md.
        pub shard: Shard => section();
        /// Each collector calls one operation of AWS IoT on its own schedule. If one fails, it neither delays the
        /// others nor hides their data.
        pub collectors: Collectors => section();
        /// Metrics by thing group.
        pub thing_groups: ThingGroups => section();
        /// Metrics by job. Which jobs are monitored at all is decided by each target's `filter`.
        pub jobs: Jobs => section();
        /// Limits of requests and of series.
        pub limits: Limits => section();
        /// The HTTP server.
        pub web: Web => section();
        /// The log, on standard error.
        pub log: Log => section();
    }
}

fn region() -> Scalar<String> {
    Scalar::new(syntax::REGION, serde_json::json!({ "type": "string", "pattern": syntax::REGION_PATTERN }), |text| {
        syntax::region_error(text).map_or_else(|| Ok(text.to_owned()), Err)
    })
}

fn role_arn() -> Scalar<String> {
    let pattern = "^arn:[a-z0-9-]+:iam::[0-9]{12}:role/[!-.0-~]([!-~]*[!-.0-~])?$";
    // 2048 characters at most, says the API reference of AssumeRole; so do the next two of theirs.
    text(pattern, 2048, "a role's ARN, such as arn:aws:iam::012345678901:role/iot-jobs-exporter")
}

fn thing_group_name() -> Scalar<String> {
    text("^[a-zA-Z0-9:_-]+$", 128, "a thing group's name: 1 to 128 letters, digits and :_-")
}

define_section! {
    /// One account and region to monitor, or a part of its jobs. Values that are `None` come from the usual AWS
    /// sources. In the file, an item of `targets` represents one target for each pair of region and role; after
    /// loading, a single one.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Target {
        /// The value of the label `target`, 1 to 128 characters. By default it is the region, so set it if two targets
        /// have the same region.
        pub name: Option<String> =>
            text("^[^\\x00-\\x1f\\x7f-\\x9f]+$", 128, "a name: 1 to 128 characters, none of them a control character")
            .optional().example("production");
        /// The AWS region. By default it comes from `AWS_REGION`, the profile, or the instance.
        pub region: Option<String> => region().optional().example("eu-west-1");
        /// Several regions instead of one: a target for each. The name of such a target consists of the item's name,
        /// if it has one, the role's account, and the region: `plants-012345678901-eu-west-1`.
        pub regions: Vec<String> => not_empty(list(region())).example("[eu-west-1, eu-central-1]");
        /// A profile of the AWS configuration files.
        pub profile: Option<String> =>
            text("^[^\\x00-\\x1f\\x7f-\\x9f]+$", 1024, "the name of a profile").optional().example("monitoring");
        /// A role to assume, with the credentials found above.
        pub role_arn: Option<String> =>
            role_arn().optional().example("arn:aws:iam::012345678901:role/iot-jobs-exporter");
        /// Several roles instead of one, each of another account: a target for each role and region.
        pub role_arns: Vec<String> =>
            not_empty(list(role_arn())).example("[arn:aws:iam::012345678901:role/iot-jobs-exporter]");
        /// The external id that the role's trust policy requires. It is never logged. The variable
        /// `IOT_JOBS_EXPORTER_TARGETS` keeps it out of the file.
        pub external_id: Option<Secret> =>
            text("^[a-zA-Z0-9_+=,.@:/-]{2,}$", 1224, "an external id: 2 to 1224 letters, digits and _+=,.@:/-")
            .secret().optional().example("example-external-id");
        /// The name of the role's sessions, which `CloudTrail` shows. The default is `aws-iot-jobs-exporter`.
        pub session_name: Option<String> =>
            text("^[a-zA-Z0-9_+=,.@-]{2,}$", 64, "a session name: 2 to 64 letters, digits and _+=,.@-")
            .optional().example("iot-jobs-exporter");
        /// The account of the jobs, which avoids a request to STS. A job of another account fails the walk, which
        /// detects a wrong profile if there are any jobs.
        pub account_id: Option<AccountId> =>
            Scalar::new(
                "an account id of 12 digits",
                serde_json::json!({ "type": ["string", "integer"], "pattern": "^[0-9]{12}$" }),
                |text| AccountId::parse(text).map_err(|_| "is not an account id of 12 digits".to_owned()),
            )
            .optional().example("\"012345678901\"");
        /// The endpoint of IoT and STS for this target, for example an AWS emulator. To redirect IoT alone, as to a VPC
        /// endpoint, set `AWS_ENDPOINT_URL_IOT` or a `services` section in the profile.
        pub endpoint_url: Option<String> =>
            parsed(syntax::ENDPOINT_URL, |text| syntax::is_endpoint_url(text).then(|| text.to_owned()))
            .optional().example("http://localhost:4566");
        /// Whether to call FIPS endpoints. By default, `AWS_USE_FIPS_ENDPOINT` or the profile decides.
        pub use_fips: Option<bool> => boolean().optional().example("false");
        /// Whether to call dual-stack endpoints, which IPv6 reaches. By default, `AWS_USE_DUALSTACK_ENDPOINT` or the
        /// profile decides.
        pub use_dualstack: Option<bool> => boolean().optional().example("false");
        /// Constant labels on every series of this target, at most 16. Names that the exporter or Prometheus sets are
        /// refused.
        pub labels: BTreeMap<String, String> =>
            mapping(syntax::label_name_error, "NAME", syntax::label_value()).example("{environment: production}");
        /// Monitor only a part of the jobs. AWS filters, so a part needs fewer requests than the whole.
        pub scope = "filter": Scope => section::<Filter>().map(Filter::scope);
        /// Overrides keys of the global `collectors` for this target. An omitted key has the global value.
        pub collectors: Collectors => overriding("collectors").example("{open_jobs: {interval: 5m}}");
    }
}

define_section! {
    /// The filters of `ListJobs`.
    pub(super) struct Filter {
        /// Only jobs with these statuses, one walk each; by default, all. AWS keeps ended jobs for a long time, and
        /// most jobs have ended, so exclude them if nobody uses their number.
        pub(super) status: Vec<Status> => list(status()).example("[IN_PROGRESS, SCHEDULED]");
        /// Only jobs with this target selection; by default, both.
        pub(super) target_selection: Option<TargetSelection> => target_selection().optional().example("SNAPSHOT");
        /// Only jobs that target this thing group. AWS omits SCHEDULED jobs when this filter is set.
        pub(super) thing_group_name: Option<String> => thing_group_name().optional().example("factory-1");
        /// Only jobs that target the thing group with this id, instead of a name. AWS omits SCHEDULED jobs here, too.
        // The pattern of `thingGroupId` in the API reference of ListJobs.
        pub(super) thing_group_id: Option<String> =>
            text("^[a-zA-Z0-9-]+$", 128, "a thing group's id: 1 to 128 letters, digits and -").optional();
        /// Only jobs of this namespace, such as those that AWS IoT Greengrass creates.
        pub(super) namespace_id: Option<String> =>
            text("^[a-zA-Z0-9_-]+$", 64, "a namespace id: 1 to 64 letters, digits and _-").optional()
            .example("example-namespace");
    }
}

impl Filter {
    fn scope(self) -> Scope {
        let Self { status: statuses, target_selection, thing_group_name, thing_group_id, namespace_id } = self;
        Scope { statuses, target_selection, thing_group_name, thing_group_id, namespace_id }
    }
}

fn status() -> Scalar<Status> {
    word(&Status::KNOWN.iter().map(|status| (status.as_str(), status.clone())).collect::<Vec<_>>())
}

fn target_selection() -> Scalar<TargetSelection> {
    word(&TargetSelection::KNOWN.iter().map(|selection| (selection.as_str(), selection.clone())).collect::<Vec<_>>())
}

define_section! {
    /// One of several processes that share the targets.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
    pub struct Shard {
        /// Index of the shard of this process, from 0.
        pub index: u32 => whole_number(0..=999).default("0").flag("shard.index", "NUMBER");
        /// Number of shards. The name of a target decides which shard it belongs to.
        pub total: u32 => whole_number(1..=1000).default("1").flag("shard.total", "NUMBER");
    }
}

define_section! {
    /// The schedules of the collectors.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Collectors {
        /// Lists the open jobs with ListJobs: one walk each for `SCHEDULED`, `IN_PROGRESS` and
        /// `DELETION_IN_PROGRESS`.
        pub open_jobs: OpenJobs => section();
        /// Lists every page of ListJobs, for the ended jobs. It does not run for a target whose `filter.status`
        /// contains no ended status.
        pub all_jobs: AllJobs => section();
        /// Describes jobs with DescribeJob: thing groups, schedule and execution counts. A new or changed job, and one that is no
        /// longer open, is described at once.
        pub details: Details => section();
        /// Lists the executions of open jobs with ListJobExecutionsForJob: when a job last progressed, whether it is
        /// stuck, and which things keep it open. It needs `details`.
        pub executions: Executions => section();
        /// Reads the tags of jobs with `ListTagsForResource`, once a day.
        pub tags: Tags => section();
    }
}

define_section! {
    /// The collector of open jobs.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct OpenJobs {
        /// The time from the start of one walk to the start of the next, plus up to 5 %, so that exporters do not stay
        /// synchronized. Each walk is followed by a pause of at least its own duration.
        pub interval: Duration => duration(Duration::from_millis(100)..=DAY).default("1m");
        /// How long the open jobs are shown after the last successful walk, at least twice the interval. After that,
        /// their metrics are absent. By default it is three times the planned time between two walks, and at least
        /// 10m.
        pub stale_after: Option<Duration> => stale_after();
    }
}

define_section! {
    /// The collector of all jobs.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AllJobs {
        /// Whether it runs. Without it, there are no metrics of ended jobs.
        pub enabled: bool => boolean().default("true");
        /// The time from the start of one walk to the start of the next, plus up to 5 %. It is at least ten times the
        /// duration of the last walk.
        pub interval: Duration => duration(Duration::from_millis(100)..=DAY).default("15m");
        /// How long a walk may take. Raise it for very many ended jobs: a walk needs one request for each 250 jobs, spaced by
        /// `limits.requests_per_second`.
        pub timeout: Duration => duration(Duration::from_secs(1)..=DAY).default("2h");
        /// How long the ended jobs are shown after the last successful walk, at least twice the interval. After that,
        /// their metrics are absent. By default it is three times the planned time between two walks, and at least
        /// 10m.
        pub stale_after: Option<Duration> => stale_after();
    }
}

define_section! {
    /// The collector of details.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Details {
        /// Whether jobs are described. Without it, executions and schedules are unknown, a job's only thing group is
        /// the id that ListJobs returns, if any, and a job that ends is missing until the next walk over all jobs.
        pub enabled: bool => boolean().default("true");
        /// The time until a job is described again after a first or a changed answer. An equal answer or a failure
        /// doubles it.
        pub interval: Duration => duration(Duration::from_millis(100)..=DAY).default("1m");
        /// The longest time between two descriptions of an open job.
        pub max_interval: Duration => duration(Duration::from_millis(100)..=DAY).default("10m");
        /// How long a job's execution counts are shown after the last description, at least twice `max_interval`. By
        /// default it is three times `max_interval`, and at least 10m.
        pub stale_after: Option<Duration> => stale_after();
    }
}

define_section! {
    /// The collector of executions.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Executions {
        /// Whether executions are listed. Without it, stuck jobs are not detected.
        pub enabled: bool => boolean().default("true");
        /// The time between two looks at the executions of a job. A first look lists all of them, a later one only the
        /// open ones. A job that may have become stuck gets a look at once.
        pub interval: Duration => duration(Duration::from_millis(100)..=DAY).default("30m");
        /// How long the progress of a job is shown after the last look, at least twice the interval. By default it is
        /// three times the interval, and at least 10m.
        pub stale_after: Option<Duration> => stale_after();
    }
}

define_section! {
    /// The collector of tags.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Tags {
        /// The keys of the tags to show in `aws_iot_job_tags_info`, as labels `tag_KEY`. Characters that are invalid
        /// in labels become `_`. With `[]`, no tags are read.
        // A tag's key in the API reference, https://docs.aws.amazon.com/iot/latest/apireference/API_Tag.html.
        pub keys: Vec<String> =>
            list(text("^[^\\x00-\\x1f\\x7f-\\x9f]+$", 128, "the key of a tag: 1 to 128 characters"))
            .example("[team, \"cost:center\"]");
    }
}

fn stale_after() -> Key<Option<Duration>> {
    duration(Duration::from_secs(1)..=DAY.saturating_mul(30)).optional()
}

define_section! {
    /// Metrics by thing group.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ThingGroups {
        /// The groups with their own rows; `[]` means all. The other groups are summed as `<other>`. An item is a
        /// group's name, which `limits.max_thing_groups` never folds, or a regular expression that matches the whole
        /// name: `[factory-1, "site-[0-9]+"]`. In a variable, write expressions with a comma or a leading bracket as
        /// YAML: `['[a-z]{1,3}']`.
        pub include: Vec<Pattern> => list(group_pattern());
        /// The groups without their own rows, even if they are included.
        pub exclude: Vec<Pattern> => list(group_pattern());
    }
}

fn group_pattern() -> Scalar<Pattern> {
    let accepted = "a pattern: a thing group's name, or a regular expression in quotes";
    Scalar::new(accepted, serde_json::json!({ "type": "string", "minLength": 1 }), |text| {
        Pattern::parse(text).map_err(|invalid| format!("is not a pattern: {}", invalid.reason))
    })
}

define_section! {
    /// Metrics by job.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Jobs {
        /// Whether single jobs have their own series, at most `limits.max_jobs`.
        pub series: bool => boolean().default("true");
        /// How long a job is shown after its end: by thing group, and with its own series. A longer time costs one
        /// DescribeJob request for each additional job, once per start.
        pub ended_within: Duration => duration(Duration::ZERO..=TEN_YEARS).default("7d");
        /// A job with open executions is stuck when none of its executions has progressed for longer than this, and
        /// its oldest open execution was queued longer ago.
        pub stuck_after: Duration => duration(Duration::from_secs(1)..=TEN_YEARS).default("1d");
        /// The same for jobs with maintenance windows, which pause between them.
        pub stuck_after_windowed: Duration => duration(Duration::from_secs(1)..=TEN_YEARS).default("14d");
    }
}

define_section! {
    /// Limits of requests and of series.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Limits {
        /// Requests for each account, region and operation, retries included. All clients of an account share AWS's
        /// quotas, so stay well below them.
        pub requests_per_second: f64 => number(0.01..=1000.0).default("5");
        /// The largest number of pages of 250 jobs in a walk. A walk that needs more fails. It guards against an
        /// endpoint that returns pages forever: 20000 pages are five million jobs.
        pub max_pages: u32 => whole_number(1..=1_000_000).default("20000");
        /// The largest number of thing groups of a target with their own rows: those with the most open jobs. The
        /// others are summed as `<other>`. Groups that `thing_groups.include` names always have their own rows.
        pub max_thing_groups: u32 => whole_number(0..=100_000).default("200");
        /// The largest number of open jobs of a target with their own series: stuck ones first, then the newest that
        /// are in progress. Each costs Prometheus about 20 series, and more if things are named.
        pub max_jobs: u32 => whole_number(0..=100_000).default("500");
        /// The largest number of ended jobs of a target with their own series: those that ended last. Each costs
        /// Prometheus about 16 series.
        pub max_ended_jobs: u32 => whole_number(0..=100_000).default("100");
        /// The number of things of each open status that are named for a stuck job, and the number that have been
        /// `IN_PROGRESS` for more than an hour for any other open job: the oldest ones. Those that were named before
        /// stay until their executions end, up to the same number again.
        pub things_per_job: u32 => whole_number(0..=100).default("5");
    }
}

define_section! {
    /// The HTTP server.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Web {
        /// Address to listen on; can be repeated. `:10114` means all interfaces, IPv4 and IPv6. Write an IPv6 address
        /// in brackets: `[::1]:10114`.
        pub listen_addresses: Vec<ListenAddress> =>
            not_empty(list_or(listen_address(), ":10114")).flag("web.listen-address", "[HOST]:PORT");
        /// Path of the metrics. `/` is the status page, and the probes are below `/-/`.
        pub telemetry_path: String =>
            parsed("a path such as /metrics, without a query or spaces; / and paths below /-/ are reserved",
                |text| syntax::is_telemetry_path(text).then(|| text.to_owned()))
            .default("/metrics").flag("web.telemetry-path", "PATH");
        /// File with TLS, client certificates, users and headers, in the format of the Prometheus exporter-toolkit.
        /// Without it, the exporter serves plain HTTP to every client that can reach the port.
        pub config_file: Option<PathBuf> =>
            text("^[^\\x00-\\x1f\\x7f-\\x9f]+$", 4096, "the path of a file").map(PathBuf::from).optional()
            .flag("web.config.file", "FILE");
        /// Additional address that serves only `/-/healthy` and `/-/ready`, in plain HTTP. It is for probes without a client
        /// certificate.
        pub probe_address: Option<ListenAddress> =>
            listen_address().optional().flag("web.probe-address", "[HOST]:PORT");
        /// Reload the configuration on `POST /-/reload`, as on SIGHUP. Everybody who can see the metrics can request
        /// it.
        pub enable_lifecycle: bool => boolean().default("false").flag("web.enable-lifecycle", "");
    }
}

fn listen_address() -> Scalar<ListenAddress> {
    let accepted = "an address: :PORT or HOST:PORT, such as :10114, 127.0.0.1:10114 or [::1]:10114";
    parsed(accepted, |text| text.parse().ok())
}

define_section! {
    /// The log.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Log {
        /// Lowest level to log: error, warn, info, debug or trace.
        pub level: LogLevel =>
            word(&[("error", LogLevel::Error), ("warn", LogLevel::Warn), ("info", LogLevel::Info),
                ("debug", LogLevel::Debug), ("trace", LogLevel::Trace)])
            .default("info").flag("log.level", "LEVEL");
        /// Format of the log: text for people or json for machines.
        pub format: LogFormat =>
            word(&[("text", LogFormat::Text), ("json", LogFormat::Json)]).default("text").flag("log.format", "FORMAT");
    }
}

/// The log levels; each one includes the previous ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Failures that stop the exporter from working.
    Error,
    /// Conditions that an operator should check.
    Warn,
    /// Starts, stops and changes of state.
    Info,
    /// Every walk.
    Debug,
    /// Every request to AWS.
    Trace,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}
