//! curl reads what the daemon serves.

use super::settled;
use super::tools::tool;
use crate::support::{Endpoint, Exposition, Listening, config, jobs, output, simulator as simulated, truth};

#[tokio::test(flavor = "multi_thread")]
async fn curl_reads_the_compressed_metrics_whole() {
    let simulator = simulated(jobs(600));
    let endpoint = Endpoint::start(simulator.clone()).await;
    let listening = Listening::start(config(&endpoint.url())).await;
    settled(&listening).await;
    let url = listening.url("/metrics");
    let read = |arguments: &[&str]| {
        output(tool("curl").args(["--fail", "--silent", "--show-error"]).args(arguments).arg(&url))
    };
    let (plain, compressed) = (read(&[]), read(&["--compressed"]));
    let families =
        |text: &str| text.lines().filter(|line| line.starts_with("# TYPE")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(families(&plain), families(&compressed));
    assert_eq!(Exposition::parse(compressed.as_bytes()).jobs(), truth(&simulator));
}
