//! The daemon over real sockets: paths, methods, formats and codings.

use std::io::Read as _;

use aws_iot_jobs_exporter::simulator::{self, Operation};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support;
use crate::support::{Endpoint, Exposition, Listening, config, jobs, simulator as simulated, truth};

/// One exchange with the exporter. Lines of the request end in a line feed here.
async fn exchange(listening: &Listening, request: &str) -> (String, Vec<u8>) {
    support::exchange(listening.address, &request.replace('\n', "\r\n").replace("{HOST}", "exporter.test")).await
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\nHost: {{HOST}}\nConnection: close\n{headers}\n")
}

pub async fn exporter() -> (simulator::Simulator, Endpoint, Listening) {
    let simulator = simulated(jobs(600));
    let endpoint = Endpoint::start(simulator.clone()).await;
    let listening = Listening::start(config(&endpoint.url())).await;
    (simulator, endpoint, listening)
}

#[tokio::test]
async fn the_real_sdk_walks_the_simulator_over_http() {
    let (simulator, _endpoint, listening) = exporter().await;
    let (_, body) = exchange(&listening, &get("/metrics", "")).await;
    assert_eq!(Exposition::parse(&body).jobs(), truth(&simulator));
    assert_eq!(simulator.requests(Operation::ListJobs), 6, "a page for each open status, and three of all jobs");
}

#[tokio::test]
async fn each_format_is_served_to_whom_asks_for_it_with_its_content_type() {
    let (_simulator, _endpoint, listening) = exporter().await;
    let (head, body) = exchange(&listening, &get("/metrics", "")).await;
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    let text = String::from_utf8(body).expect("text");
    assert!(text.contains("# TYPE aws_iot_jobs_exporter_collector_runs_total counter\n"), "{text}");
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");

    let openmetrics = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\n";
    let (head, body) = exchange(&listening, &get("/metrics", openmetrics)).await;
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
    let text = String::from_utf8(body).expect("text");
    assert!(text.contains("# TYPE aws_iot_jobs_exporter_collector_runs counter\n"), "{text}");
    assert!(text.contains("# UNIT process_resident_memory_bytes bytes\n"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[tokio::test]
async fn gzip_is_one_member_and_reads_back_as_the_plain_body() {
    let (_simulator, _endpoint, listening) = exporter().await;
    let (head, body) = exchange(&listening, &get("/metrics", "Accept-Encoding: gzip\n")).await;
    assert!(head.contains("content-encoding: gzip") && head.contains("vary: accept, accept-encoding"), "{head}");
    let mut decoder = flate2::bufread::GzDecoder::new(&body[..]);
    let mut text = String::new();
    decoder.read_to_string(&mut text).expect("gzip");
    assert!(decoder.into_inner().is_empty(), "bytes after the first member, which curl and browsers would not read");
    assert!(text.contains("aws_iot_jobs{") && text.contains("process_threads"), "{text}");
}

#[tokio::test]
async fn unknown_paths_are_404_and_other_methods_405_with_allow() {
    let (_simulator, _endpoint, listening) = exporter().await;
    for path in ["/nothing", "/metrics/", "/-/", "/../metrics"] {
        let (head, _) = exchange(&listening, &get(path, "")).await;
        assert!(head.starts_with("http/1.1 404"), "{path}: {head}");
    }
    let (head, _) = exchange(&listening, &get("/-/reload", "")).await;
    assert!(head.starts_with("http/1.1 403"), "not without --web.enable-lifecycle: {head}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let request = format!("{method} /metrics HTTP/1.1\nHost: {{HOST}}\nContent-Length: 0\nConnection: close\n\n");
        let (head, _) = exchange(&listening, &request).await;
        assert!(head.starts_with("http/1.1 405") && head.contains("allow: get, head"), "{method}: {head}");
    }
}

#[tokio::test]
async fn head_answers_like_get_without_the_body() {
    let (_simulator, _endpoint, listening) = exporter().await;
    for path in ["/", "/metrics", "/-/healthy", "/-/ready"] {
        let (head, body) = exchange(&listening, &get(path, "").replacen("GET", "HEAD", 1)).await;
        assert!(head.starts_with("http/1.1 200"), "{path}: {head}");
        assert!(body.is_empty(), "{path}");
        assert!(!head.contains("content-length: 0"), "{path}: {head}");
    }
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_scrape() {
    let (_simulator, _endpoint, listening) = exporter().await;
    let mut socket = TcpStream::connect(listening.address).await.expect("a connection");
    for _ in 0..3 {
        socket.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("a sent request");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nHealthy.\n") {
            let more = socket.read_buf(&mut answer).await.expect("an answer");
            assert!(more > 0, "{}", String::from_utf8_lossy(&answer));
        }
    }
}
