//! Foreign readers of the exposition that is rendered when data changes.

use super::prometheus::{Prometheus, SHARD_TOTAL, complaints};
use super::tools::tool;
use crate::metrics::Serving;
use crate::support::{Exposition, output};

#[tokio::test(flavor = "multi_thread")]
async fn promtool_complains_of_the_name_of_shard_total_only() {
    let serving = Serving::start(2, 5).await;
    let metrics = output(tool("curl").args(["--fail", "--silent", "--show-error"]).arg(serving.url()));
    assert_eq!(complaints(&metrics).await.trim(), SHARD_TOTAL);
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_and_python_read_the_compressed_body_whole() {
    let serving = Serving::start(3, 50).await;
    let curl =
        |arguments: &[&str]| output(tool("curl").args(["--fail", "--silent"]).args(arguments).arg(serving.url()));
    let script = "import gzip, sys, urllib.request\n\
        request = urllib.request.Request(sys.argv[1], headers={'Accept-Encoding': 'gzip'})\n\
        response = urllib.request.urlopen(request)\n\
        assert response.headers['Content-Encoding'] == 'gzip'\n\
        sys.stdout.buffer.write(gzip.decompress(response.read()))";
    let python = || output(tool("python3").args(["-c", script, &serving.url()]));
    let series = |text: &str| {
        let read = Exposition::parse(text.as_bytes());
        ["aws_iot_job_info", "aws_iot_job_executions", "aws_iot_jobs_exporter_collector_runs_total", "process_threads"]
            .map(|name| read.family(name).count())
    };
    let plain = curl(&[]);
    assert_eq!(series(&plain), [300, 3 * 50 * 8, 3 * 5, 1]);
    for compressed in [curl(&["--compressed"]), python(), curl(&["--compressed"])] {
        assert_eq!(series(&compressed), series(&plain));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_the_compressed_body() {
    let serving = Serving::start(2, 50).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let scrape = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n\
         - {{job_name: exporter, static_configs: [{{targets: ['{}']}}]}}\n",
        serving.address
    );
    let prometheus = Prometheus::start(folder.path(), &scrape);
    prometheus.query("up == 1", 1).await;
    prometheus.query("aws_iot_job_info == 1", 200).await;
    prometheus.query("aws_iot_jobs_up{team=\"say \\\"hi\\\"\\\\\\n\"} == 0", 2).await;
    prometheus.query("aws_iot_jobs_exporter_collector_runs_total{collector=\"open_jobs\"} == 1", 2).await;
    prometheus.query("aws_iot_jobs_exporter_http_requests_total{handler=\"/metrics\", code=\"200\"} > 1", 1).await;
    prometheus.query("aws_iot_jobs_exporter_shard_total == 1", 1).await;
    prometheus.query("{__name__=~\"aws_iot_.+|process_.+\", exported_job!=\"\"}", 0).await;
}
