//! A real Prometheus scrapes the daemon, and promtool judges what it serves.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use aws_iot_jobs_exporter::http::{self, HeaderValue, Listener, header};
use aws_iot_jobs_exporter::simulator::Fleet;
use tokio::io::AsyncWriteExt as _;

use super::compatibility::System;
use super::settled;
use super::tools::{newer_tool, tool};
use crate::support::{
    Endpoint, Listening, NOW, REGION, account, config, free_port, output, simulator as simulated, target, truth,
};

/// A server that scrapes, stores, evaluates rules and answers queries in `PromQL`; it ends with the test.
pub struct Prometheus {
    url: String,
    _processes: Vec<tokio::process::Child>,
}

/// A process of a server, of the test's own.
fn spawn(command: Command) -> tokio::process::Child {
    let mut command = tokio::process::Command::from(command);
    command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().expect("a started server")
}

impl Prometheus {
    /// That of the system.
    pub fn start(folder: &Path, scrape: &str) -> Self {
        Self::start_release(tool, folder, scrape)
    }

    /// `release` finds the programs of a release: [`tool`] or [`newer_tool`].
    pub fn start_release(release: fn(&str) -> Command, folder: &Path, scrape: &str) -> Self {
        let port = free_port();
        let file = folder.join("prometheus.yml");
        std::fs::write(&file, scrape).expect("a written configuration");
        output(release("promtool").args(["check", "config"]).arg(&file));
        let mut command = release("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        Self { url: format!("http://127.0.0.1:{port}"), _processes: vec![spawn(command)] }
    }

    /// `VictoriaMetrics` with vmagent, which scrapes, and, where there are rules beside the configuration, vmalert. All flags that are not
    /// paths and addresses make it faster, but for one: vmalert adds a label that Prometheus has not.
    pub fn start_victoria_metrics(folder: &Path, scrape: &str, alertmanager: Option<u16>) -> Self {
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}");
        let file = folder.join("prometheus.yml");
        std::fs::write(&file, scrape).expect("a written configuration");
        let listening = || format!("-httpListenAddr=127.0.0.1:{}", free_port());

        let mut storage = newer_tool("victoria-metrics");
        storage.arg(format!("-httpListenAddr=127.0.0.1:{port}")).arg("-search.latencyOffset=0s");
        storage.arg(format!("-storageDataPath={}", folder.join("data").display()));
        let mut agent = newer_tool("vmagent");
        // Rules and the Alertmanager, which the file has too, are for vmalert.
        agent.arg("-promscrape.config.strictParse=false").arg(format!("-promscrape.config={}", file.display()));
        agent.arg(format!("-remoteWrite.url={url}/api/v1/write")).arg(listening());
        agent.arg(format!("-remoteWrite.tmpDataPath={}", folder.join("agent").display()));
        output(newer_tool("vmagent").args(agent.get_args()).arg("-dryRun"));
        let mut processes = vec![spawn(storage), spawn(agent)];
        if folder.join("rules").exists() {
            let mut alert = newer_tool("vmalert");
            alert.arg(format!("-rule={}", folder.join("rules/*.yml").display())).arg(listening());
            alert.args(["-disableAlertgroupLabel", "-rule.evalDelay=0s"]);
            alert.args(["-datasource.url", "-remoteRead.url", "-remoteWrite.url"].map(|flag| format!("{flag}={url}")));
            alert.arg(
                alertmanager
                    .map_or("-notifier.blackhole".to_owned(), |port| format!("-notifier.url=http://127.0.0.1:{port}")),
            );
            output(newer_tool("vmalert").args(alert.get_args()).arg("-dryRun"));
            processes.push(spawn(alert));
        }
        Self { url, _processes: processes }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The result of an instant query once it has `rows` rows, as promtool prints it.
    pub async fn query(&self, expression: &str, rows: usize) -> String {
        let mut last = String::new();
        for _ in 0..120 {
            let printed =
                tool("promtool").args(["query", "instant", &self.url, expression]).output().expect("promtool");
            last = String::from_utf8_lossy(&printed.stdout).into_owned();
            if printed.status.success() && last.lines().filter(|line| !line.is_empty()).count() == rows {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        panic!("{expression} has not {rows} rows after 30 s:\n{last}");
    }
}

/// What `promtool check metrics` says of an exposition.
pub async fn complaints(metrics: &str) -> String {
    let mut check = tokio::process::Command::from(tool("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    check.stdin.take().expect("an input").write_all(metrics.as_bytes()).await.expect("written metrics");
    let judged = check.wait_with_output().await.expect("a judgement");
    format!("{}{}", String::from_utf8_lossy(&judged.stdout), String::from_utf8_lossy(&judged.stderr))
}

/// The one finding of promtool that is known. The design gives the name. A gauge of a total number looks like a counter to promtool.
pub const SHARD_TOTAL: &str = "aws_iot_jobs_exporter_shard_total non-counter metrics should not have \"_total\" suffix";

/// The daemon's handler once more, for clients that take text only: Prometheus asks for `OpenMetrics` and can't be told not to.
pub async fn serve_text_only(handler: http::Handler) -> String {
    let listener = Listener::bind(Some("127.0.0.1"), 0).await.expect("a loopback port");
    let address = listener.local_addr().to_string();
    let text_only: http::Handler = Arc::new(move |mut request: http::Request| {
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("text/plain;version=0.0.4"));
        handler(request)
    });
    tokio::spawn(http::serve(vec![listener], http::Limits::default(), text_only, std::future::pending()));
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_both_formats_and_answers_queries_for_every_series() {
    let simulator = simulated([]);
    simulator.set_fleet(&account(), REGION, Fleet::seeded(21, 900, NOW));
    let endpoint = Endpoint::start(simulator.clone()).await;
    let mut config = config(&endpoint.url());
    config.targets[0].labels.insert("team".to_owned(), "say \"hi\"\\\n".to_owned());
    config.targets.push(target("other", &endpoint.url()));
    let listening = Listening::start(config).await;
    let text_only = serve_text_only(listening.handler.clone()).await;

    let folder = tempfile::tempdir().expect("a temporary folder");
    let scrape = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n\
         - {{job_name: openmetrics, static_configs: [{{targets: ['{}']}}]}}\n\
         - {{job_name: text, static_configs: [{{targets: ['{text_only}']}}]}}\n",
        listening.address
    );
    let prometheus = Prometheus::start(folder.path(), &scrape);

    let up = prometheus.query("up == 1", 2).await;
    assert!(up.contains("job=\"openmetrics\"") && up.contains("job=\"text\""), "{up}");
    // Two targets, two formats.
    for ((status, selection), count) in truth(&simulator) {
        let selector = format!("aws_iot_jobs{{status=\"{status}\",target_selection=\"{selection}\"}} == {count}");
        prometheus.query(&selector, 4).await;
    }
    prometheus.query("aws_iot_jobs", 40).await;
    prometheus.query("aws_iot_jobs{team=\"say \\\"hi\\\"\\\\\\n\"}", 20).await;
    prometheus.query("aws_iot_jobs_up == 1", 4).await;
    prometheus.query("time() - aws_iot_jobs_collector_last_success_timestamp_seconds < 60", 8).await;
    prometheus.query("aws_iot_jobs_exporter_collector_runs_total{collector=~\"open_jobs|all_jobs\"} >= 1", 8).await;
    prometheus.query("process_cpu_seconds_total", 2).await;
    // A label of ours that Prometheus attaches itself would come back as exported_….
    prometheus.query("count({__name__=~\"aws_iot_.+|process_.+\"})", 1).await;
    prometheus.query("{__name__=~\"aws_iot_.+|process_.+\", exported_job!=\"\"}", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_complains_of_one_name_in_live_metrics() {
    let simulator = simulated([]);
    simulator.set_fleet(&account(), REGION, Fleet::seeded(22, 300, NOW));
    let endpoint = Endpoint::start(simulator).await;
    let listening = Listening::start(config(&endpoint.url())).await;
    settled(&listening).await;
    let metrics = output(tool("curl").args(["--fail", "--silent", "--show-error"]).arg(listening.url("/metrics")));
    assert_eq!(complaints(&metrics).await.trim(), SHARD_TOTAL);
}

/// The files of a folder of `config/prometheus` whose names end so, in order.
fn shipped(folder: &str) -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prometheus").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

#[test]
fn promtool_accepts_the_shipped_rules_and_their_own_tests_pass() {
    let of_release = output(newer_tool("promtool").arg("--version"));
    assert!(of_release.contains("version 3."), "{of_release}");
    for system in [System::Prometheus2, System::Prometheus3] {
        let promtool = || system.tool("promtool");
        let checked = output(promtool().args(["check", "rules", "--lint=all", "--lint-fatal"]).args(shipped("rules")));
        assert!(checked.contains("SUCCESS"), "{checked}");
        let tested = output(promtool().args(["test", "rules"]).args(shipped("tests")));
        assert!(tested.contains("SUCCESS"), "{tested}");
        system.record("rules load", "promtool check rules");
        system.record("unit tests of the rules", &format!("{} files", shipped("tests").len()));
    }
}

#[test]
fn vmalert_accepts_the_shipped_rules_and_their_own_tests_pass() {
    let rules = shipped("rules").into_iter().map(|path| format!("-rule={}", path.display()));
    output(newer_tool("vmalert").arg("-dryRun").args(rules));

    // The format of promtool, but for the name of one key.
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("rules")).expect("a folder");
    std::fs::create_dir(folder.path().join("tests")).expect("a folder");
    for path in shipped("rules") {
        let copy = folder.path().join("rules").join(path.file_name().expect("a name"));
        std::fs::copy(&path, copy).expect("a copied file");
    }
    let mut tests = 0;
    for path in shipped("tests") {
        let text = std::fs::read_to_string(&path).expect("a test");
        let copy = folder.path().join("tests").join(path.file_name().expect("a name"));
        std::fs::write(&copy, text.replace("promql_expr_test:", "metricsql_expr_test:")).expect("a written test");
        let mut unittest = newer_tool("vmalert-tool");
        let tested =
            output(unittest.args(["unittest", "--disableAlertgroupLabel"]).arg(format!("--files={}", copy.display())));
        assert!(tested.contains("SUCCESS"), "{}: {tested}", path.display());
        tests += 1;
    }
    assert!(tests > 10, "only {tests} files of tests");
    System::VictoriaMetrics.record("rules load", "vmalert -dryRun");
    System::VictoriaMetrics.record("unit tests of the rules", &format!("{tests} files"));
}
