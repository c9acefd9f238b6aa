//! What clients cost that ask for the metrics and do not read the answer.

use std::time::Duration;

use aws_iot_jobs_exporter::jobs::{ExecutionStatus, Status};
use aws_iot_jobs_exporter::simulator::Job;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::metrics::exchange;
use crate::process::{Running, pointed_at, program};
use crate::support::{Endpoint, Exposition, NOW, simulator as simulated};

const CLIENTS: usize = 450;

/// Each has about 2 KB of series.
const JOBS: usize = 2000;

/// How long the server waits for a client that does not read (`src/http/mod.rs`). A scrape that waited for such clients would
/// take at least that long.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Memory of its own in bytes, without that of the kernel for its sockets.
fn memory(id: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("kilobytes") * 1024
}

fn fleet() -> impl Iterator<Item = Job> {
    (0..JOBS).map(|n| {
        Job::new(format!("job-{n:06}"), Status::InProgress, NOW)
            .targeting_group("line")
            .with_executions(ExecutionStatus::InProgress, 3)
    })
}

/// The program with its whole exposition.
async fn started(endpoint: &Endpoint) -> (Running, String) {
    let mut command = pointed_at(program(&["--web.listen-address=127.0.0.1:0"]), endpoint);
    command.env("IOT_JOBS_EXPORTER_LIMITS__REQUESTS_PER_SECOND", "1000");
    command.env("IOT_JOBS_EXPORTER_LIMITS__MAX_JOBS", JOBS.to_string());
    let mut daemon = Running::start(command);
    let address = daemon.address().await;
    let deadline = Instant::now() + Duration::from_mins(2);
    loop {
        let (_, body) = exchange(&address, "GET").await;
        if Exposition::parse(&body).in_state("details", "fresh") == Some(JOBS as f64) {
            return (daemon, address);
        }
        assert!(Instant::now() < deadline, "not all jobs are described");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_cost_references_only_and_hold_up_no_scrape() {
    let endpoint = Endpoint::start(simulated(fleet())).await;
    let (daemon, address) = started(&endpoint).await;
    let id = daemon.id();
    let (_, body) = exchange(&address, "GET").await;
    assert!(body.len() >= 4_000_000, "{} bytes", body.len());
    let before = memory(id);

    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        let mut client = TcpStream::connect(&address).await.expect("a connection");
        let coding = if n % 2 == 0 { "" } else { "Accept: application/openmetrics-text\r\n" };
        let request = format!("GET /metrics HTTP/1.1\r\nHost: exporter\r\n{coding}\r\n");
        client.write_all(request.as_bytes()).await.expect("a sent request");
        clients.push(client);
    }
    // Until the kernel's buffers are full and the server waits: it needs no more memory then.
    for client in &clients {
        client.readable().await.expect("an answer");
    }
    let mut after = memory(id);
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let last = std::mem::replace(&mut after, memory(id));
        if last == after {
            break;
        }
    }
    let grown = after.saturating_sub(before);
    let start = Instant::now();
    let (head, again) = exchange(&address, "GET").await;
    let took = start.elapsed();
    println!("{CLIENTS} clients of {} bytes: {} KiB more, a scrape in {took:?}", body.len(), grown / 1024);
    assert!(grown < 64 << 20, "{} MiB more", grown >> 20);
    assert!(head.starts_with("http/1.1 200") && again.len() >= 4_000_000 && took < WRITE_TIMEOUT / 2, "{took:?}");

    // One that reads in time gets the whole response.
    let mut last = clients.pop().expect("a client");
    last.read_exact(&mut vec![0; 4_000_000]).await.expect("the rest");
}
