//! The systems that monitor with this exporter, and the record of what was executed on them.
//!
//! `tests/compatibility.sh` makes the table of `docs/compatibility.md` from that record. The checks themselves are in the tests about
//! their subjects.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use aws_iot_jobs_exporter::simulator::Fleet;

use super::prometheus::{Prometheus, serve_text_only};
use super::settled;
use super::tools::{newer_tool, tool};
use crate::support::{Endpoint, Listening, NOW, REGION, account, config, output, simulator as simulated};

/// The variable with the file that results are appended to.
const RESULTS: &str = "COMPATIBILITY_RESULTS";

/// A system that scrapes the exporter, evaluates its rules and answers the queries of its dashboards.
#[derive(Clone, Copy, Debug)]
pub enum System {
    /// The Prometheus of Debian 12, the oldest that is supported.
    Prometheus2,
    /// The newest one.
    Prometheus3,
    /// `VictoriaMetrics` with vmagent and vmalert.
    VictoriaMetrics,
}

impl System {
    /// Starts it with a scrape configuration. Rules are in the folder `rules` beside it.
    pub fn start(self, folder: &Path, scrape: &str, alertmanager: Option<u16>) -> Prometheus {
        match self {
            Self::Prometheus2 | Self::Prometheus3 => Prometheus::start_release(self.finder(), folder, scrape),
            Self::VictoriaMetrics => Prometheus::start_victoria_metrics(folder, scrape, alertmanager),
        }
    }

    /// A program of this system.
    pub fn tool(self, name: &str) -> Command {
        self.finder()(name)
    }

    fn finder(self) -> fn(&str) -> Command {
        match self {
            Self::Prometheus2 => tool,
            Self::Prometheus3 | Self::VictoriaMetrics => newer_tool,
        }
    }

    /// Its name with the version that is there.
    fn name(self) -> String {
        match self {
            Self::Prometheus2 | Self::Prometheus3 => {
                let printed = output(self.tool("promtool").arg("--version"));
                let version = printed.strip_prefix("promtool, version ").unwrap_or_else(|| panic!("{printed}"));
                let end = version.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(version.len());
                format!("Prometheus {}", &version[..end])
            }
            Self::VictoriaMetrics => {
                // Debian's build does not know its version, but its package does.
                let log = concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/target/tools/usr/share/doc/victoria-metrics/changelog.Debian.gz"
                );
                let printed = output(tool("gzip").args(["--decompress", "--stdout", log]));
                let version =
                    printed.split_once('(').and_then(|(_, rest)| rest.split_once('+').or(rest.split_once('-')));
                format!("VictoriaMetrics {}", version.unwrap_or_else(|| panic!("{log} has no version")).0)
            }
        }
    }

    /// Notes that this check succeeded, and on what.
    pub fn record(self, check: &str, detail: &str) {
        let Some(file) = std::env::var_os(RESULTS) else { return };
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).expect("the file of results");
        // One write, because tests run at the same time.
        file.write_all(format!("{}\t{check}\t{detail}\n", self.name()).as_bytes()).expect("a written result");
    }
}

/// What each job of a scrape configuration asks for: its name, and the lines that make it do so.
fn protocols(system: System) -> Vec<(&'static str, String)> {
    let only = |protocol| (protocol, format!("scrape_protocols: [{protocol}], "));
    match system {
        // It negotiates: no option sets the format.
        System::Prometheus2 => vec![("OpenMetricsText1.0.0", String::new())],
        System::Prometheus3 => [
            "OpenMetricsText1.0.0",
            "OpenMetricsText0.0.1",
            "PrometheusText1.0.0",
            "PrometheusText0.0.4",
            "PrometheusProto",
        ]
        .map(only)
        .into(),
        System::VictoriaMetrics => vec![("PrometheusText0.0.4", String::new())],
    }
}

async fn every_protocol_brings_the_same_samples(system: System) {
    let simulator = simulated([]);
    simulator.set_fleet(&account(), REGION, Fleet::seeded(23, 400, NOW));
    let endpoint = Endpoint::start(simulator).await;
    let listening = Listening::start(config(&endpoint.url())).await;
    settled(&listening).await;
    // Which format an answer has is decided by the request, so another listener brings text to whoever asks for anything else.
    let text_only = serve_text_only(listening.handler.clone()).await;

    let mut scrape = "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n".to_owned();
    let mut jobs = protocols(system);
    let mut add = |name: &str, how: &str, address: &str| {
        let _ = writeln!(scrape, "- {{job_name: '{name}', {how}static_configs: [{{targets: ['{address}']}}]}}");
    };
    for (name, how) in &jobs {
        add(name, how, &listening.address.to_string());
    }
    if matches!(system, System::Prometheus2) {
        add("PrometheusText0.0.4", "", &text_only);
        jobs.push(("PrometheusText0.0.4", String::new()));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let prometheus = system.start(folder.path(), &scrape, None);

    prometheus.query("up == 1", jobs.len()).await;
    // All jobs have the same series, with the same values where those do not change.
    let ours = "__name__=~\"aws_iot_.+|process_.+\"";
    prometheus.query(&format!("count(count by (job) ({{{ours}}})) == {}", jobs.len()), 1).await;
    prometheus.query(&format!("count(count by (__name__) ({{{ours}}})) > 40"), 1).await;
    prometheus.query(&format!("stddev(count by (job) ({{{ours}}})) == 0"), 1).await;
    prometheus.query("max(stddev by (status, target_selection) (aws_iot_jobs)) == 0", 1).await;
    prometheus.query("min(stddev by (status, target_selection) (aws_iot_jobs)) == 0", 1).await;
    prometheus
        .query(
            "aws_iot_jobs_exporter_api_request_duration_seconds_bucket{le=\"+Inf\", operation=\"ListJobs\"} > 0",
            jobs.len(),
        )
        .await;
    prometheus.query("aws_iot_jobs_exporter_collector_runs_total{collector=\"open_jobs\"} >= 1", jobs.len()).await;
    for (name, _) in jobs {
        // The exporter has no protocol buffers, and answers with text, which Prometheus reads by its content type.
        let detail = if name == "PrometheusProto" { "answered with text" } else { "yes" };
        system.record(&format!("scrape, `{name}`"), detail);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_protocol_of_prometheus_brings_the_same_samples() {
    every_protocol_brings_the_same_samples(System::Prometheus2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_protocol_of_prometheus_3_brings_the_same_samples() {
    every_protocol_brings_the_same_samples(System::Prometheus3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vmagent_reads_the_text_format() {
    every_protocol_brings_the_same_samples(System::VictoriaMetrics).await;
}
