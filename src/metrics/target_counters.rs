//! The counters of a target: runs of its collectors, and requests to AWS.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::Collector;
use super::Reason;
use super::catalogue::{
    self, API_ERRORS, API_RATE_LIMIT_WAIT, API_REQUEST_DURATION, API_REQUESTS, COLLECTOR_FAILURES, COLLECTOR_RUNS,
};
use super::last_hour::{LastHour, RequestCount};
use super::samples::{Labels, Samples};
use crate::jobs::{OTHER, is_label_text};

/// Every family of these counters.
const FAMILIES: &[&catalogue::Family] =
    &[&COLLECTOR_RUNS, &COLLECTOR_FAILURES, &API_REQUESTS, &API_ERRORS, &API_REQUEST_DURATION, &API_RATE_LIMIT_WAIT];

/// The operations of the collectors, by AWS name. Their counters exist from the start.
pub const OPERATIONS: &[&str] =
    &["ListJobs", "DescribeJob", "ListJobExecutionsForJob", "ListTagsForResource", "GetCallerIdentity"];

/// The operations that fetch credentials, of STS and IAM Identity Center. Most targets use none or one of them.
pub const CREDENTIAL_OPERATIONS: &[&str] =
    &["AssumeRole", "AssumeRoleWithWebIdentity", "CreateToken", "GetRoleCredentials"];

/// Error codes that are always shown: those that the operations declare, and the exporter's own codes for attempts
/// without an answer.
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

/// The number of other codes that a target shows; further ones are folded.
const MAX_UNKNOWN_CODES: usize = 16;

/// The buckets of request durations, in seconds. The last one is the timeout of an attempt.
const REQUEST_DURATION_BUCKETS: [f64; 9] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Label names and values of one counter.
pub(super) type LabelSet = Vec<(&'static str, String)>;

/// The counters of one target. All known label values start at 0, so that `rate()` includes the first failure.
#[derive(Debug)]
pub struct TargetCounters {
    registry: Registry,
    runs: Family<LabelSet, Counter>,
    failures: Family<LabelSet, Counter>,
    api_requests: Family<LabelSet, Counter>,
    api_errors: Family<LabelSet, Counter>,
    api_durations: Family<LabelSet, Histogram, fn() -> Histogram>,
    api_waits: Family<LabelSet, Counter<f64, AtomicU64>>,
    unknown_codes: Mutex<BTreeSet<String>>,
    last_hour: LastHour,
    /// The number of changes so far.
    changes: AtomicU64,
    rendered: Mutex<Rendered>,
}

/// The samples and the number of changes that they contain; `None` before the first scrape.
#[derive(Debug, Default)]
struct Rendered(Option<(u64, Arc<Samples>)>);

impl TargetCounters {
    /// Counters with these labels.
    #[must_use]
    pub fn new(labels: Labels) -> Self {
        let labels = labels.into_iter().map(|(name, value)| (Cow::from(name), Cow::from(value)));
        let mut registry = Registry::with_labels(labels);
        let mut counter = |family: &catalogue::Family| {
            let counters: Family<LabelSet, Counter> = Family::default();
            registry.register(family.family_name(), "", counters.clone());
            counters
        };
        let (runs, failures) = (counter(&COLLECTOR_RUNS), counter(&COLLECTOR_FAILURES));
        let (api_requests, api_errors) = (counter(&API_REQUESTS), counter(&API_ERRORS));
        let api_durations: Family<LabelSet, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(REQUEST_DURATION_BUCKETS));
        registry.register(API_REQUEST_DURATION.name, "", api_durations.clone());
        let api_waits: Family<LabelSet, Counter<f64, AtomicU64>> = Family::default();
        registry.register(API_RATE_LIMIT_WAIT.family_name(), "", api_waits.clone());
        for collector in Collector::ALL {
            drop(runs.get_or_create(&of_collector(collector)));
            for reason in Reason::ALL {
                drop(failures.get_or_create(&of_failure(collector, *reason)));
            }
        }
        for operation in OPERATIONS {
            let labels = of_operation(operation);
            drop(api_requests.get_or_create(&labels));
            drop(api_durations.get_or_create(&labels));
            drop(api_waits.get_or_create(&labels));
        }
        Self {
            registry,
            runs,
            failures,
            api_requests,
            api_errors,
            api_durations,
            api_waits,
            unknown_codes: Mutex::default(),
            last_hour: LastHour::default(),
            changes: AtomicU64::new(0),
            rendered: Mutex::default(),
        }
    }

    /// Counts a run that ended, successfully or not.
    pub fn run_ended(&self, collector: Collector) {
        self.runs.get_or_create(&of_collector(collector)).inc();
        self.changed();
    }

    /// Counts a failed run. [`Self::run_ended`] counts its end.
    pub fn run_failed(&self, collector: Collector, reason: Reason) {
        self.failures.get_or_create(&of_failure(collector, reason)).inc();
        self.changed();
    }

    /// The number of runs that have ended.
    #[must_use]
    pub fn runs(&self, collector: Collector) -> u64 {
        self.runs.get_or_create(&of_collector(collector)).get()
    }

    /// The number of runs that failed for this reason.
    #[must_use]
    pub fn failures(&self, collector: Collector, reason: Reason) -> u64 {
        self.failures.get_or_create(&of_failure(collector, reason)).get()
    }

    /// Counts a request or a retry that ended. `duration` is the time until its answer or its timeout; `None` if it
    /// was cancelled.
    pub fn request_ended(&self, operation: &str, duration: Option<Duration>) {
        let labels = of_operation(operation);
        self.api_requests.get_or_create(&labels).inc();
        self.last_hour.request(operation);
        if let Some(duration) = duration {
            self.api_durations.get_or_create(&labels).observe(duration.as_secs_f64());
        }
        self.changed();
    }

    /// Adds the time that a request waited for its permit.
    pub fn waited(&self, operation: &str, duration: Duration) {
        self.api_waits.get_or_create(&of_operation(operation)).inc_by(duration.as_secs_f64());
        self.changed();
    }

    /// Counts a request for credentials. It belongs to no run of a collector.
    pub fn credential_request_sent(&self, operation: &str) {
        self.api_requests.get_or_create(&of_operation(operation)).inc();
        self.changed();
    }

    /// Counts a failed request, with AWS's error code or one of the exporter.
    pub fn request_failed(&self, operation: &str, code: &str) {
        let mut labels = of_operation(operation);
        labels.push(("code", self.shown_code(code).to_owned()));
        self.api_errors.get_or_create(&labels).inc();
        self.changed();
    }

    /// AWS throttled a request. That it failed is counted by itself.
    pub fn request_throttled(&self, operation: &str) {
        self.last_hour.throttled(operation);
    }

    /// Requests within the last hour, by operation. Those for credentials are left out.
    #[must_use]
    pub fn last_hour(&self) -> BTreeMap<String, RequestCount> {
        self.last_hour.counts()
    }

    /// The samples. They are rendered again only if a counter has changed.
    pub(super) fn samples(&self) -> Arc<Samples> {
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        // Read before the counters: the next call renders what is counted meanwhile.
        let changes = self.changes.load(Ordering::Acquire);
        match &rendered.0 {
            Some((at, samples)) if *at == changes => Arc::clone(samples),
            _ => {
                let samples = Arc::new(Samples::of_registry(&self.registry, FAMILIES));
                rendered.0 = Some((changes, Arc::clone(&samples)));
                samples
            }
        }
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// The code, if it is a valid label and the limit is not reached.
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
}

fn of_collector(collector: Collector) -> LabelSet {
    vec![("collector", collector.as_str().to_owned())]
}

fn of_failure(collector: Collector, reason: Reason) -> LabelSet {
    let mut labels = of_collector(collector);
    labels.push(("reason", reason.as_str().to_owned()));
    labels
}

fn of_operation(operation: &str) -> LabelSet {
    vec![("operation", operation.to_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters() -> TargetCounters {
        TargetCounters::new(vec![("target".to_owned(), "t\"".to_owned())])
    }

    fn lines(counters: &TargetCounters, family: &catalogue::Family) -> String {
        counters.samples().get(family).map(|lines| String::from_utf8_lossy(lines).into_owned()).unwrap_or_default()
    }

    #[test]
    fn known_label_values_start_at_0() {
        let counters = counters();
        let name = COLLECTOR_RUNS.name;
        let expected = ["all_jobs", "details", "executions", "open_jobs", "tags"]
            .map(|collector| format!("{name}{{target=\"t\\\"\",collector=\"{collector}\"}} 0\n"));
        assert_eq!(lines(&counters, &COLLECTOR_RUNS), expected.concat());
        let failures = lines(&counters, &COLLECTOR_FAILURES);
        assert_eq!(failures.lines().filter(|line| line.ends_with("} 0")).count(), 5 * Reason::ALL.len());
        assert!(lines(&counters, &API_REQUESTS).contains("operation=\"DescribeJob\"} 0\n"));
        assert_eq!(lines(&counters, &API_ERRORS), "");
    }

    #[test]
    fn every_method_counts_and_shows_at_once() {
        let counters = counters();
        let mut before = counters.samples();
        let mut shows = |family: &catalogue::Family, line: &str| {
            let samples = counters.samples();
            assert!(!Arc::ptr_eq(&samples, &before), "{line}");
            assert!(Arc::ptr_eq(&samples, &counters.samples()), "rendered once");
            before = samples;
            assert!(lines(&counters, family).contains(line), "{line} in {}", lines(&counters, family));
        };
        counters.run_ended(Collector::OpenJobs);
        shows(&COLLECTOR_RUNS, "collector=\"open_jobs\"} 1\n");
        counters.run_failed(Collector::Details, Reason::Denied);
        shows(&COLLECTOR_FAILURES, "collector=\"details\",reason=\"denied\"} 1\n");
        counters.request_ended("ListJobs", Some(Duration::from_millis(30)));
        shows(&API_REQUEST_DURATION, "bucket{target=\"t\\\"\",le=\"0.05\",operation=\"ListJobs\"} 1\n");
        counters.waited("ListJobs", Duration::from_millis(1500));
        shows(&API_RATE_LIMIT_WAIT, "operation=\"ListJobs\"} 1.5\n");
        counters.credential_request_sent("AssumeRole");
        shows(&API_REQUESTS, "operation=\"AssumeRole\"} 1\n");
        counters.request_failed("ListJobs", "Rate exceeded, sorry");
        shows(&API_ERRORS, "operation=\"ListJobs\",code=\"<other>\"} 1\n");
    }

    #[test]
    fn at_most_sixteen_unknown_codes_are_shown_and_known_ones_always() {
        let counters = counters();
        for n in 0..16 {
            assert_ne!(counters.shown_code(&format!("New{n}")), OTHER);
        }
        for (code, shown) in
            [("New16", OTHER), ("New3", "New3"), ("AccessDeniedException", "AccessDeniedException"), ("", OTHER)]
        {
            assert_eq!(counters.shown_code(code), shown);
        }
    }
}
