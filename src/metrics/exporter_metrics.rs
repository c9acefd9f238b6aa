//! The metrics of the exporter itself, independent of targets.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Metric, Registry};

use super::catalogue::{
    self, API_RATE_LIMIT, BUILD_INFO, CONFIG_HASH, CONFIG_SUCCESS_TIME, CONFIG_SUCCESSFUL, HTTP_LOGIN_FAILURES,
    HTTP_REQUESTS, SHARD_INDEX, SHARD_TOTAL, Subject, WEB_CONFIG_SUCCESSFUL,
};
use super::process::Process;
use super::samples::Samples;
use super::target_counters::LabelSet;
use crate::build_info::{REVISION, RUSTC, VERSION};
use crate::config::Loaded;
use crate::http::{LoginFailure, StatusCode};
use crate::jobs::{AccountId, Timestamp};

/// The exporter's own metrics.
#[derive(Debug)]
pub struct ExporterMetrics {
    rates: RatesInForce,
    registry: Registry,
    http_requests: Family<LabelSet, Counter>,
    http_login_failures: Family<LabelSet, Counter>,
    config_successful: Gauge,
    config_success_time: Gauge<f64, AtomicU64>,
    config_hash: Gauge,
    web_config_successful: Gauge,
    shard_index: Gauge,
    shard_total: Gauge,
}

impl ExporterMetrics {
    /// The metrics of this process. Each scrape reads `process_*` from `/proc`, and the current rate limits from
    /// `rates`.
    #[must_use]
    pub fn new(rates: impl Fn() -> Vec<RateInForce> + Send + Sync + 'static) -> Self {
        let mut registry = Registry::default();
        let rates = RatesInForce(Arc::new(rates));
        registry.register_collector(Box::new(rates.clone()));
        registry.register_collector(Box::new(Process::new()));
        let build: Family<LabelSet, Gauge> = Family::default();
        let values = [VERSION, REVISION, RUSTC].map(str::to_owned);
        build.get_or_create(&BUILD_INFO.labels.iter().copied().zip(values).collect()).set(1);
        register(&mut registry, &BUILD_INFO, build);
        let metrics = Self {
            rates,
            http_requests: Family::default(),
            http_login_failures: Family::default(),
            config_successful: Gauge::default(),
            config_success_time: Gauge::default(),
            config_hash: Gauge::default(),
            web_config_successful: Gauge::default(),
            shard_index: Gauge::default(),
            shard_total: Gauge::default(),
            registry: Registry::default(),
        };
        metrics.web_config_successful.set(1);
        for failure in LoginFailure::ALL {
            drop(metrics.http_login_failures.get_or_create(&login_failure(failure)));
        }
        register(&mut registry, &HTTP_REQUESTS, metrics.http_requests.clone());
        register(&mut registry, &HTTP_LOGIN_FAILURES, metrics.http_login_failures.clone());
        register(&mut registry, &CONFIG_SUCCESSFUL, metrics.config_successful.clone());
        register(&mut registry, &CONFIG_SUCCESS_TIME, metrics.config_success_time.clone());
        register(&mut registry, &CONFIG_HASH, metrics.config_hash.clone());
        register(&mut registry, &WEB_CONFIG_SUCCESSFUL, metrics.web_config_successful.clone());
        register(&mut registry, &SHARD_INDEX, metrics.shard_index.clone());
        register(&mut registry, &SHARD_TOTAL, metrics.shard_total.clone());
        Self { registry, ..metrics }
    }

    /// The current rate limits.
    #[must_use]
    pub fn rates_in_force(&self) -> Vec<RateInForce> {
        (self.rates.0)()
    }

    /// Counts a response. `handler` is the pattern of the path.
    pub fn http_request(&self, handler: &str, status: StatusCode) {
        let labels = vec![("handler", handler.to_owned()), ("code", status.as_str().to_owned())];
        self.http_requests.get_or_create(&labels).inc();
    }

    /// Counts a request without valid credentials.
    pub fn http_login_failed(&self, failure: LoginFailure) {
        self.http_login_failures.get_or_create(&login_failure(failure)).inc();
    }

    /// Records that a configuration was applied.
    pub fn config_applied(&self, loaded: &Loaded, at: Timestamp) {
        self.config_successful.set(1);
        self.config_success_time.set(at.as_secs_f64());
        self.shard_index.set(loaded.config.shard.index.into());
        self.shard_total.set(loaded.config.shard.total.into());
        self.config_in_use(loaded);
    }

    /// Records that a configuration was read and not applied.
    pub fn config_rejected(&self) {
        self.config_successful.set(0);
    }

    /// Sets the configuration in use. Its hash also changes with the web configuration, which is reloaded
    /// automatically.
    pub fn config_in_use(&self, loaded: &Loaded) {
        // 48 bits fit into every signed 64-bit number.
        self.config_hash.set(i64::try_from(loaded.effective.hash()).unwrap_or_default());
    }

    /// Sets whether the web configuration in its files is in use.
    pub fn web_config_in_use(&self, is_in_use: bool) {
        self.web_config_successful.set(i64::from(is_in_use));
    }

    /// The current samples.
    pub(super) fn samples(&self) -> Samples {
        let families: Vec<&'static catalogue::Family> =
            catalogue::ALL.iter().copied().filter(|family| family.subject == Subject::Exporter).collect();
        Samples::of_registry(&self.registry, &families)
    }
}

fn login_failure(failure: LoginFailure) -> LabelSet {
    vec![("reason", failure.as_str().to_owned())]
}

fn register(registry: &mut Registry, family: &catalogue::Family, metric: impl Metric) {
    registry.register(family.family_name(), "", metric);
}

/// The current rate limit of one operation in an account and region.
#[derive(Clone, Debug, PartialEq)]
pub struct RateInForce {
    /// The account.
    pub account: AccountId,
    /// The region.
    pub region: String,
    /// The operation, by its AWS name.
    pub operation: &'static str,
    /// Requests a second.
    pub rate: f64,
}

/// Reads the current rate limits at each scrape: they recover with time.
#[derive(Clone)]
struct RatesInForce(Arc<dyn Fn() -> Vec<RateInForce> + Send + Sync>);

impl fmt::Debug for RatesInForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RatesInForce")
    }
}

impl Collector for RatesInForce {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let gauge = ConstGauge::new(0.0);
        let mut family = encoder.encode_descriptor(API_RATE_LIMIT.name, "", None, gauge.metric_type())?;
        for RateInForce { account, region, operation, rate } in (self.0)() {
            let values = [account.as_str(), region.as_str(), operation];
            let labels: Vec<_> = API_RATE_LIMIT.labels.iter().copied().zip(values).collect();
            ConstGauge::new(rate).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn line(metrics: &ExporterMetrics, family: &catalogue::Family) -> String {
        metrics.samples().get(family).map(|lines| String::from_utf8_lossy(lines).into_owned()).unwrap_or_default()
    }

    #[test]
    fn a_configuration_shows_its_shard_its_hash_and_whether_it_was_applied() {
        let metrics = ExporterMetrics::new(Vec::new);
        let mut config = Config::default();
        (config.shard.index, config.shard.total) = (2, 5);
        let loaded = Loaded::from(config);
        metrics.config_applied(&loaded, Timestamp::from_millis(1_790_000_000_500));
        metrics.config_rejected();
        metrics.web_config_in_use(false);
        for (family, value) in [
            (&SHARD_INDEX, "2".to_owned()),
            (&SHARD_TOTAL, "5".to_owned()),
            (&CONFIG_HASH, loaded.effective.hash().to_string()),
            (&CONFIG_SUCCESSFUL, "0".to_owned()),
            (&CONFIG_SUCCESS_TIME, "1790000000.5".to_owned()),
            (&WEB_CONFIG_SUCCESSFUL, "0".to_owned()),
        ] {
            assert_eq!(line(&metrics, family), format!("{} {value}\n", family.name));
        }
    }

    #[test]
    fn requests_rates_the_build_and_the_process_are_shown() {
        let account = AccountId::parse("012345678901").expect("an account");
        let rate = RateInForce { account, region: "eu-west-1".to_owned(), operation: "ListJobs", rate: 2.5 };
        let metrics = ExporterMetrics::new(move || vec![rate.clone()]);
        metrics.http_request("/metrics", StatusCode::OK);
        metrics.http_request("/metrics", StatusCode::OK);
        let http = line(&metrics, &HTTP_REQUESTS);
        assert_eq!(http, format!("{}{{handler=\"/metrics\",code=\"200\"}} 2\n", HTTP_REQUESTS.name));
        metrics.http_login_failed(LoginFailure::WrongCredentials);
        let name = HTTP_LOGIN_FAILURES.name;
        let failures = line(&metrics, &HTTP_LOGIN_FAILURES);
        for (reason, count) in [("no_credentials", 0), ("wrong_credentials", 1), ("too_many_attempts", 0)] {
            assert!(failures.contains(&format!("{name}{{reason=\"{reason}\"}} {count}\n")), "{failures}");
        }
        let rates = line(&metrics, &API_RATE_LIMIT);
        assert!(
            rates.ends_with("{aws_account_id=\"012345678901\",aws_region=\"eu-west-1\",operation=\"ListJobs\"} 2.5\n")
        );
        assert!(line(&metrics, &BUILD_INFO).contains(&format!("version=\"{VERSION}\"")));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn each_scrape_reads_the_values_of_the_process_anew() {
        let metrics = ExporterMetrics::new(Vec::new);
        let cpu_seconds = || -> f64 {
            let line = line(&metrics, &catalogue::PROCESS_CPU);
            line.trim_end().strip_prefix("process_cpu_seconds_total ").expect("a sample").parse().expect("a number")
        };
        let first = cpu_seconds();
        // The loop itself takes processor time. The kernel counts it in steps of 10 ms.
        assert!((0..1_000_000).any(|_| cpu_seconds() > first), "{first} s for ever");
    }
}
