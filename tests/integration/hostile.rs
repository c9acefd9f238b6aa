//! Clients that mean no good, or are broken: whatever they do, a scrape beside them is answered whole.
//!
//! Real sockets are the point here. What limits hold, and for how long, is told in the tests of `http`.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use aws_iot_jobs_exporter::config::web_config;

use crate::support::{Endpoint, Exposition, Listening, config, jobs, simulator as simulated};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connections that are held at once. Each takes two files of this process, which may open no more than 1024.
const HELD: usize = 300;

/// So many that a scrape does not fit into the buffers of a socket at once, and few enough to be read quickly.
const JOBS: usize = 60;

/// Of `hunter2`, with a low cost.
const HASH: &str = "$2b$04$Zyxwvutsrqponmlkjihgfe91EVTbipYuSP7HB4a0NH55cMj08u5tG";

async fn exporter() -> (Endpoint, Listening) {
    let endpoint = Endpoint::start(simulated(jobs(JOBS))).await;
    let listening = Listening::start(config(&endpoint.url())).await;
    (endpoint, listening)
}

async fn connect(listening: &Listening) -> TcpStream {
    TcpStream::connect(listening.address).await.expect("a connection")
}

/// A connection that has sent these bytes.
async fn having_sent(listening: &Listening, bytes: &[u8]) -> TcpStream {
    let mut stream = connect(listening).await;
    stream.write_all(bytes).await.expect("the server reads");
    stream
}

/// Everything that comes until the server closes; a reset closes, too.
async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the server closes the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What the server says to these bytes, with the end of the connection asked for by closing our side.
async fn answer(listening: &Listening, bytes: &[u8]) -> String {
    let mut stream = connect(listening).await;
    // It may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    rest(stream).await
}

fn statuses(answer: &str) -> Vec<&str> {
    answer.split("HTTP/1.1 ").skip(1).map(|response| &response[..3]).collect()
}

/// A scrape of its own connection, read to its end.
async fn scrape(listening: &Listening) -> Exposition {
    let request = b"GET /metrics HTTP/1.1\r\nhost: exporter\r\nconnection: close\r\n\r\n";
    let answer = rest(having_sent(listening, request).await).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    Exposition::parse(body.as_bytes())
}

async fn assert_scrapes(listening: &Listening, beside: &str) {
    for _ in 0..3 {
        let shown = timeout(PATIENCE, scrape(listening)).await;
        let shown = shown.unwrap_or_else(|_| panic!("no scrape is answered beside {beside}"));
        assert_eq!(shown.jobs().values().sum::<f64>(), JOBS as f64, "beside {beside}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_every_way_to_hold_a_connection_a_scrape_is_answered() {
    let (_endpoint, listening) = exporter().await;
    let pipeline = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(200);
    let long_line = [b"GET / HTTP/1.1\r\nx: ".as_slice(), &[b'a'; 8000]].concat();
    let body_missing = b"POST /-/reload HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nhalf";
    let chunk_missing = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nffff\r\nhalf";
    for (name, bytes) in [
        ("connections that say nothing", &b""[..]),
        ("headers that stop in the middle", b"GET /metrics HTTP/1.1\r\nhost: x\r\nx-slow: "),
        ("a header line without an end", &long_line),
        ("bodies that never come", body_missing),
        ("chunks that never come", chunk_missing),
        ("pipelines whose answers nobody reads", &pipeline),
        ("connections that stay open after a scrape", b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"),
        ("the first bytes of a TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("noise", b"\x00\xff\xfe\x80\r\n\r\n\r\n\x00"),
    ] {
        let mut held = Vec::new();
        for _ in 0..HELD {
            held.push(having_sent(&listening, bytes).await);
        }
        assert_scrapes(&listening, name).await;
        let mut half_closed = Vec::new();
        for mut stream in held.drain(..).take(HELD / 2) {
            let _ = stream.shutdown().await;
            half_closed.push(stream);
        }
        assert_scrapes(&listening, &format!("{name}, half-closed")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_closed_its_side_gets_all_the_answers_that_it_asked_for() {
    let (_endpoint, listening) = exporter().await;
    let answer = answer(&listening, &b"GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n".repeat(50)).await;
    assert_eq!(statuses(&answer), ["200"; 50]);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_too_large_or_too_many_are_refused_and_end_the_connection() {
    let (_endpoint, listening) = exporter().await;
    let large = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "a".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(2000));
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(1 << 20));
    for (name, request) in [("large", large), ("many", many), ("long", long)] {
        let answer = answer(&listening, request.as_bytes()).await;
        assert_eq!(statuses(&answer), ["431"], "{name}: {answer:.200}");
    }
    assert_scrapes(&listening, "headers that are too large").await;
}

/// Two servers that read one of these differently see two requests where there is one (RFC 9112, section 11.2). This one
/// answers at most one, and closes the connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_end_is_in_doubt_is_the_last_of_its_connection() {
    let (_endpoint, listening) = exporter().await;
    let smuggled = "GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n";
    let length = smuggled.len();
    for framing in [
        format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n\r\n0\r\n\r\n"),
        format!("content-length: 0\r\ncontent-length: {length}\r\n\r\n"),
        format!("content-length: {length}\r\ncontent-length: 0\r\n\r\n"),
        format!("content-length: 0, {length}\r\n\r\n"),
        format!("content-length: +{length}\r\n\r\n"),
        "content-length: -1\r\n\r\n".to_owned(),
        "content-length: 0x10\r\n\r\n".to_owned(),
        "content-length: 99999999999999999999999\r\n\r\n".to_owned(),
        format!("content-length : {length}\r\n\r\n"),
        format!(" content-length: {length}\r\n\r\n"),
        format!("x: y\r\n content-length: {length}\r\n\r\n"),
        "transfer-encoding : chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n".to_owned(),
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n".to_owned(),
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n".to_owned(),
        "transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n".to_owned(),
        "transfer-encoding: chunked\r\n\r\n0 \x01\r\n\r\n".to_owned(),
        "transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n".to_owned(),
        "transfer-encoding: chunked\r\n\r\n-1\r\n\r\n".to_owned(),
    ] {
        let request = format!("POST /-/ready HTTP/1.1\r\nhost: x\r\n{framing}{smuggled}");
        let answer = answer(&listening, request.as_bytes()).await;
        let statuses = statuses(&answer);
        // A fault in the body may end the connection without an answer, one in the header may not.
        let is_in_body = framing.starts_with("transfer-encoding: chunked\r\n\r\n");
        assert!(statuses.len() == 1 || (is_in_body && statuses.is_empty()), "{framing:?}: {answer}");
        assert!(statuses.iter().all(|status| status.starts_with('4')), "{framing:?}: {answer}");
    }
    assert_scrapes(&listening, "requests that hide others").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_spelling_of_a_path_is_that_path() {
    let (_endpoint, listening) = exporter().await;
    for path in [
        "//metrics",
        "/metrics/",
        "/./metrics",
        "/-/../metrics",
        "/metrics/../metrics",
        "/%6detrics",
        "/metrics%00",
        "/metrics%2f",
        "/metrics;x=y",
        "/METRICS",
        "/-/healthy/../../metrics",
        "/..%2f..%2fetc%2fpasswd",
        "/../../etc/passwd",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        let answer = answer(&listening, request.as_bytes()).await;
        assert_eq!(statuses(&answer), ["404"], "{path}: {answer}");
        assert!(!answer.contains("aws_iot_jobs{") && !answer.contains("root:"), "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_path_gets_past_a_login() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("web.yml");
    std::fs::write(&file, format!("basic_auth_users: {{prometheus: '{HASH}'}}\n")).expect("a written file");
    let web = web_config::load(&file).expect("a valid web configuration");
    let endpoint = Endpoint::start(simulated(jobs(JOBS))).await;
    let listening = Listening::start_with_web_config(config(&endpoint.url()), web).await;
    for target in [
        "/metrics",
        "/",
        "/-/reload",
        "/-/healthy/",
        "/-/healthy/../../metrics",
        "//-/healthy",
        "/-/./healthy",
        "/%2d/healthy",
        "/-/healthy%00",
        "/-/healthy;/metrics",
        "/-/HEALTHY",
        "http://x/metrics",
        "http://-/healthy@x/metrics",
        "http://x/-/healthy/../../metrics",
    ] {
        for method in ["GET", "HEAD", "POST", "get", "PROPFIND"] {
            let request = format!("{method} {target} HTTP/1.1\r\nhost: x\r\n\r\n");
            let answer = answer(&listening, request.as_bytes()).await;
            assert!(["401", "400"].contains(&statuses(&answer)[0]), "{method} {target}: {answer}");
        }
    }
    for target in ["*", "x:443", "-/healthy"] {
        let answer = answer(&listening, format!("OPTIONS {target} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await;
        assert!(["401", "400"].contains(&statuses(&answer)[0]), "{target}: {answer}");
    }
    // What is open is open, with a query and in the form for proxies too.
    for target in ["/-/healthy", "/-/ready?verbose", "http://x/-/healthy"] {
        let answer = answer(&listening, format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await;
        assert_eq!(statuses(&answer), ["200"], "{target}: {answer}");
    }
}
