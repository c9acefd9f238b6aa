//! What the exporter tells of itself: its own metrics, the process's, and its log.
//!
//! Counters live here because they outlast any snapshot. What follows from the last refresh (`up`, the last walk) does not: it is
//! made from the [board](crate::exposition::board) when somebody asks.

pub mod logging;
mod process;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::catalogue::{
    self, API_ERRORS, API_RATE_LIMIT, API_RATE_LIMIT_WAIT, API_REQUEST_DURATION, API_REQUESTS, BUILD_INFO, CONFIG_HASH,
    CONFIG_SUCCESS_TIME, CONFIG_SUCCESSFUL, REFRESH_FAILURES, REFRESH_INTERVAL, REFRESHES, REQUESTS_LIMIT,
    WEB_CONFIG_SUCCESSFUL,
};
use crate::config::Loaded;
use crate::jobs::{AccountId, OTHER, Timestamp, is_label_text};

/// Label names and values, in the order in which they are written.
pub type Labels = Vec<(String, String)>;

/// The operations that the exporter calls, by AWS's names.
pub const OPERATIONS: &[&str] = &["ListJobs", "DescribeJob", "GetCallerIdentity"];

/// The operations that get credentials, of STS and IAM Identity Center. Most targets call none of them, or one.
pub const CREDENTIAL_OPERATIONS: &[&str] =
    &["AssumeRole", "AssumeRoleWithWebIdentity", "CreateToken", "GetRoleCredentials"];

/// Error codes that are always shown: those that the operations declare, and the exporter's own for attempts without an answer.
const KNOWN_CODES: &[&str] = &[
    "AccessDeniedException",
    "InternalFailureException",
    "InvalidRequestException",
    "ResourceNotFoundException",
    "ServiceUnavailableException",
    "ThrottlingException",
    "malformed",
    "network",
    "timeout",
];

/// How many other codes a target may show before further ones are folded.
const MAX_UNKNOWN_CODES: usize = 16;

/// The buckets of request durations, in seconds. The last is the timeout of an attempt.
const REQUEST_DURATION_BUCKETS: [f64; 9] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Why a refresh failed: few, and each with something else for the operator to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// AWS asked to slow down, and retries did not help.
    Throttled,
    /// The identity may not do this.
    Denied,
    /// There is no identity: no credentials, or AWS did not accept them.
    Credentials,
    /// No whole answer in time.
    Timeout,
    /// No connection, or one that broke.
    Network,
    /// A 5xx answer.
    Unavailable,
    /// Any other error answer.
    Rejected,
    /// An answer that can't be read, or that lacks what it must have.
    Malformed,
    /// A page token that was seen before in the same walk.
    TokenLoop,
    /// More pages than allowed.
    PageLimit,
    /// A job of another account than the target's.
    AccountMismatch,
    /// The request could not even be made.
    Configuration,
    /// A fault in the exporter.
    Internal,
}

impl Reason {
    /// Every reason.
    pub const ALL: &'static [Self] = &[
        Self::Throttled,
        Self::Denied,
        Self::Credentials,
        Self::Timeout,
        Self::Network,
        Self::Unavailable,
        Self::Rejected,
        Self::Malformed,
        Self::TokenLoop,
        Self::PageLimit,
        Self::AccountMismatch,
        Self::Configuration,
        Self::Internal,
    ];

    /// The value of the label `reason`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Denied => "denied",
            Self::Credentials => "credentials",
            Self::Timeout => "timeout",
            Self::Network => "network",
            Self::Unavailable => "unavailable",
            Self::Rejected => "rejected",
            Self::Malformed => "malformed",
            Self::TokenLoop => "token_loop",
            Self::PageLimit => "page_limit",
            Self::AccountMismatch => "account_mismatch",
            Self::Configuration => "configuration",
            Self::Internal => "internal",
        }
    }

    /// What the operator can do about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Throttled => {
                "the account's rate is shared with everything else in it: lower limits.requests_per_second or raise refresh.interval"
            }
            Self::Denied => {
                "allow the action to the identity that the exporter runs as (the README has the policy); for a role, check its trust policy and external_id"
            }
            Self::Credentials => {
                "give the exporter valid credentials (environment, profile, web identity, ECS or EC2 role) and check the machine's clock"
            }
            Self::Timeout => "check the route to the endpoint, or raise refresh.timeout if the walk is only long",
            Self::Network => {
                "check name resolution, route, proxy, firewall and trusted certificates between the exporter and the endpoint"
            }
            Self::Unavailable => "AWS failed; the next refresh tries again by itself",
            Self::Rejected => "check the target's region, endpoint_url and filter against the answer",
            Self::Malformed => "check that endpoint_url is AWS IoT and that no proxy answers in its place",
            Self::TokenLoop => "the endpoint repeats pages, so a count would be wrong; check that it is AWS IoT",
            Self::PageLimit => "raise limits.max_pages, or narrow the target with targets[].filter",
            Self::AccountMismatch => {
                "check targets[].account_id and the credentials: they belong to different accounts"
            }
            Self::Configuration => "check the target's region and endpoint_url",
            Self::Internal => "report it with the log; the target is tried again, and the others go on",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The exporter's own counters.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    refreshes: Family<Labels, Counter>,
    refresh_failures: Family<Labels, Counter>,
    api_requests: Family<Labels, Counter>,
    api_errors: Family<Labels, Counter>,
    api_durations: Family<Labels, Histogram, fn() -> Histogram>,
    api_waits: Family<Labels, Counter<f64, AtomicU64>>,
    configured: Gauge,
    configured_at: Gauge<f64, AtomicU64>,
    config_hash: Gauge,
    web_configured: Gauge,
    interval: Gauge<f64, AtomicU64>,
    requests_limit: Gauge<f64, AtomicU64>,
}

impl Telemetry {
    /// Starts counting, and adds what belongs to the whole process: `process_*`, which are read from this process's files under
    /// `/proc`, and the rates in force, which `rates` gives.
    #[must_use]
    pub fn of_process(rates: impl Fn() -> Vec<RateInForce> + Send + Sync + 'static) -> Self {
        let mut telemetry = Self::new();
        telemetry.registry.register_collector(Box::new(process::Process::new()));
        telemetry.registry.register_collector(Box::new(RatesInForce(Box::new(rates))));
        telemetry
    }

    /// Starts counting.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a default would not say that counting starts")]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let mut counter = |family: &catalogue::Family| {
            let counters: Family<Labels, Counter> = Family::default();
            registry.register(family.family_name(), family.help, counters.clone());
            counters
        };
        let (refreshes, refresh_failures) = (counter(&REFRESHES), counter(&REFRESH_FAILURES));
        let (api_requests, api_errors) = (counter(&API_REQUESTS), counter(&API_ERRORS));
        let api_durations: Family<Labels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(REQUEST_DURATION_BUCKETS.iter().copied()));
        registry.register(API_REQUEST_DURATION.name, API_REQUEST_DURATION.help, api_durations.clone());
        let api_waits: Family<Labels, Counter<f64, AtomicU64>> = Family::default();
        registry.register(API_RATE_LIMIT_WAIT.family_name(), API_RATE_LIMIT_WAIT.help, api_waits.clone());
        let build: Family<Labels, Gauge> = Family::default();
        build.get_or_create(&build_labels()).set(1);
        registry.register(BUILD_INFO.name, BUILD_INFO.help, build);
        let (configured, configured_at) = (Gauge::default(), Gauge::<f64, AtomicU64>::default());
        registry.register(CONFIG_SUCCESSFUL.name, CONFIG_SUCCESSFUL.help, configured.clone());
        registry.register(CONFIG_SUCCESS_TIME.name, CONFIG_SUCCESS_TIME.help, configured_at.clone());
        let (config_hash, web_configured) = (Gauge::default(), Gauge::default());
        web_configured.set(1);
        registry.register(CONFIG_HASH.name, CONFIG_HASH.help, config_hash.clone());
        registry.register(WEB_CONFIG_SUCCESSFUL.name, WEB_CONFIG_SUCCESSFUL.help, web_configured.clone());
        let (interval, requests_limit) = (Gauge::<f64, AtomicU64>::default(), Gauge::<f64, AtomicU64>::default());
        registry.register(REFRESH_INTERVAL.name, REFRESH_INTERVAL.help, interval.clone());
        registry.register(REQUESTS_LIMIT.name, REQUESTS_LIMIT.help, requests_limit.clone());
        Self {
            registry,
            refreshes,
            refresh_failures,
            api_requests,
            api_errors,
            api_durations,
            api_waits,
            configured,
            configured_at,
            config_hash,
            web_configured,
            interval,
            requests_limit,
        }
    }

    /// A configuration was applied at this time.
    pub fn configured(&self, loaded: &Loaded, at: Timestamp) {
        let config = &loaded.config;
        self.configured.set(1);
        self.config_hash(loaded);
        self.configured_at.set(at.as_secs_f64());
        self.interval.set(config.refresh.interval.as_secs_f64());
        self.requests_limit.set(config.limits.requests_per_second);
    }

    /// This is the configuration in use.
    pub fn config_hash(&self, loaded: &Loaded) {
        // 48 bits, which every signed 64-bit number holds.
        self.config_hash.set(i64::try_from(loaded.effective.hash()).unwrap_or_default());
    }

    /// Whether what is in the web configuration's files is in use.
    pub fn web_configured(&self, is_in_use: bool) {
        self.web_configured.set(i64::from(is_in_use));
    }

    /// A configuration was read and not applied.
    pub fn not_configured(&self) {
        self.configured.set(0);
    }

    /// Everything counted here, for the encoder.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The counters of one target, whose labels are `labels`. They start at 0 at once, so that a rate sees the first failure.
    #[must_use]
    pub fn target(self: &Arc<Self>, labels: Labels) -> TargetTelemetry {
        let target = TargetTelemetry {
            telemetry: Arc::clone(self),
            labels,
            is_forgotten: Arc::default(),
            requests: Arc::default(),
            unknown_codes: Arc::default(),
            errors: Arc::default(),
        };
        drop(self.refreshes.get_or_create(&target.labels));
        for reason in Reason::ALL {
            drop(self.refresh_failures.get_or_create(&target.with("reason", reason.as_str())));
        }
        for operation in OPERATIONS {
            let labels = target.with("operation", operation);
            drop(self.api_requests.get_or_create(&labels));
            drop(self.api_durations.get_or_create(&labels));
            drop(self.api_waits.get_or_create(&labels));
        }
        target
    }
}

/// The rate that requests to one operation in an account and region are held to.
#[derive(Clone, Debug, PartialEq)]
pub struct RateInForce {
    /// The account.
    pub account: AccountId,
    /// The region.
    pub region: String,
    /// The operation, by AWS's name.
    pub operation: &'static str,
    /// Requests a second.
    pub rate: f64,
}

/// Reads the rates in force when they are asked for: they recover with time.
struct RatesInForce(Box<dyn Fn() -> Vec<RateInForce> + Send + Sync>);

impl fmt::Debug for RatesInForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RatesInForce")
    }
}

impl Collector for RatesInForce {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let gauge = ConstGauge::new(0.0);
        let mut family =
            encoder.encode_descriptor(API_RATE_LIMIT.name, API_RATE_LIMIT.help, None, gauge.metric_type())?;
        for RateInForce { account, region, operation, rate } in (self.0)() {
            let values = [account.as_str(), region.as_str(), operation];
            let labels: Vec<_> = API_RATE_LIMIT.labels.iter().copied().zip(values).collect();
            ConstGauge::new(rate).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// The version that this was built as.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit that this was built from, or `unknown`.
pub const REVISION: &str = env!("EXPORTER_REVISION");
/// The compiler's version.
pub const RUSTC: &str = env!("EXPORTER_RUSTC");

fn build_labels() -> Labels {
    BUILD_INFO
        .labels
        .iter()
        .map(|label| (*label).to_owned())
        .zip([VERSION, REVISION, RUSTC].map(str::to_owned))
        .collect()
}

/// The counters of one target. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct TargetTelemetry {
    telemetry: Arc<Telemetry>,
    labels: Labels,
    /// Written when the counters are taken away, read while one is counted.
    is_forgotten: Arc<RwLock<bool>>,
    requests: Arc<AtomicU64>,
    unknown_codes: Arc<Mutex<BTreeSet<String>>>,
    /// The labels of every error that was counted.
    errors: Arc<Mutex<BTreeSet<Labels>>>,
}

impl TargetTelemetry {
    /// Takes the target's counters away: it is watched no more.
    pub fn forget(&self) {
        let mut is_forgotten = self.is_forgotten.write().unwrap_or_else(PoisonError::into_inner);
        *is_forgotten = true;
        let Telemetry { refreshes, refresh_failures, api_requests, api_errors, api_durations, api_waits, .. } =
            &*self.telemetry;
        refreshes.remove(&self.labels);
        for reason in Reason::ALL {
            refresh_failures.remove(&self.with("reason", reason.as_str()));
        }
        for operation in OPERATIONS.iter().chain(CREDENTIAL_OPERATIONS) {
            let labels = self.with("operation", operation);
            api_requests.remove(&labels);
            api_durations.remove(&labels);
            api_waits.remove(&labels);
        }
        for labels in std::mem::take(&mut *self.errors.lock().unwrap_or_else(PoisonError::into_inner)) {
            api_errors.remove(&labels);
        }
    }

    /// A refresh ended, well or not.
    pub fn refresh_ended(&self) {
        self.telemetry.refreshes.get_or_create(&self.labels).inc();
    }

    /// It failed.
    pub fn refresh_failed(&self, reason: Reason) {
        self.telemetry.refresh_failures.get_or_create(&self.with("reason", reason.as_str())).inc();
    }

    /// A request was sent, a retry included. It took so long until its answer was there or it was given up; `None` if nobody
    /// waited for that.
    pub fn request_ended(&self, operation: &str, duration: Option<Duration>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let labels = self.with("operation", operation);
        self.count(|telemetry| {
            telemetry.api_requests.get_or_create(&labels).inc();
            if let Some(duration) = duration {
                telemetry.api_durations.get_or_create(&labels).observe(duration.as_secs_f64());
            }
        });
    }

    /// A request waited so long for its permit.
    pub fn waited(&self, operation: &str, duration: Duration) {
        let labels = self.with("operation", operation);
        self.count(|telemetry| {
            telemetry.api_waits.get_or_create(&labels).inc_by(duration.as_secs_f64());
        });
    }

    /// Counts, unless the target was forgotten meanwhile: requests can end after that.
    fn count(&self, count: impl FnOnce(&Telemetry)) {
        let is_forgotten = self.is_forgotten.read().unwrap_or_else(PoisonError::into_inner);
        if !*is_forgotten {
            count(&self.telemetry);
        }
    }

    /// A request for credentials goes out. It belongs to no walk, and is not one of [`Self::requests`].
    pub fn credential_request_sent(&self, operation: &str) {
        self.count(|telemetry| {
            telemetry.api_requests.get_or_create(&self.with("operation", operation)).inc();
        });
    }

    /// A request failed, with AWS's error code or one of the exporter's own.
    pub fn request_failed(&self, operation: &str, code: &str) {
        let mut labels = self.with("operation", operation);
        labels.push(("code".to_owned(), self.shown_code(code).to_owned()));
        self.count(|telemetry| {
            telemetry.api_errors.get_or_create(&labels).inc();
            self.errors.lock().unwrap_or_else(PoisonError::into_inner).insert(labels.clone());
        });
    }

    /// Requests of this target so far, retries included, those for credentials excluded.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The code, if it is fit to be a label and there is room for it.
    fn shown_code<'a>(&self, code: &'a str) -> &'a str {
        if KNOWN_CODES.contains(&code) {
            return code;
        }
        if !is_label_text(code) {
            return OTHER;
        }
        let mut unknown = self.unknown_codes.lock().unwrap_or_else(PoisonError::into_inner);
        if unknown.contains(code) {
            return code;
        }
        if unknown.len() >= MAX_UNKNOWN_CODES {
            return OTHER;
        }
        unknown.insert(code.to_owned());
        code
    }

    fn with(&self, label: &str, value: &str) -> Labels {
        let mut labels = self.labels.clone();
        labels.push((label.to_owned(), value.to_owned()));
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> TargetTelemetry {
        Arc::new(Telemetry::new()).target(vec![("target".to_owned(), "a".to_owned())])
    }

    #[test]
    fn error_codes_that_are_no_plain_words_are_folded() {
        assert_eq!(target().shown_code("ThrottlingException"), "ThrottlingException");
        assert_eq!(target().shown_code("Rate exceeded, sorry"), OTHER);
        assert_eq!(target().shown_code(""), OTHER);
    }

    #[test]
    fn a_request_that_ends_after_its_target_is_gone_leaves_no_series() {
        let target = target();
        target.forget();
        target.request_ended("DescribeJob", None);
        target.request_failed("DescribeJob", "timeout");
        target.waited("DescribeJob", Duration::from_secs(1));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, target.telemetry.registry()).expect("a text");
        assert!(!text.contains("DescribeJob"), "{text}");
    }

    #[test]
    fn at_most_sixteen_unknown_codes_are_shown_and_known_ones_always() {
        let target = target();
        for n in 0..16 {
            assert_ne!(target.shown_code(&format!("New{n}")), OTHER);
        }
        assert_eq!(target.shown_code("New16"), OTHER);
        assert_eq!(target.shown_code("New3"), "New3");
        assert_eq!(target.shown_code("AccessDeniedException"), "AccessDeniedException");
    }

    #[test]
    fn reasons_have_distinct_words() {
        let words: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
    }
}
