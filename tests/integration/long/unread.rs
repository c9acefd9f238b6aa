//! What clients cost that ask for the metrics and do not read the answer.

use std::io::Read as _;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::Instant;

use crate::metrics::{Serving, exchange};

const CLIENTS: usize = 450;

/// Set for the process that serves.
const SERVES: &str = "TEST_SERVES_AN_EXPOSITION";

/// Not a test of its own: the test below starts this program again with this name, to measure the memory of the server alone.
#[tokio::test(flavor = "multi_thread")]
async fn serves_for_the_test_below() {
    if std::env::var_os(SERVES).is_none() {
        return;
    }
    let serving = Serving::start(20, 34).await;
    println!("\nserving at {}", serving.address);
    // Until the other process closes it.
    tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await.expect("a read").expect("an end");
}

/// Memory of its own in bytes, without that of the kernel for its sockets.
fn memory(id: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("kilobytes") * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_cost_references_only_and_hold_up_no_scrape() {
    let mut server = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "long::unread::serves_for_the_test_below", "--nocapture"])
        .env(SERVES, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a server");
    let mut lines = BufReader::new(server.stdout.take().expect("its output")).lines();
    let address = loop {
        let line = lines.next_line().await.expect("its output").expect("an address");
        if let Some((_, address)) = line.split_once("serving at ") {
            break address.to_owned();
        }
    };
    let id = server.id().expect("it runs");
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
    // Until the kernel's buffers are full and the server waits.
    for client in &clients {
        client.readable().await.expect("an answer");
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let grown = memory(id).saturating_sub(before);
    let start = Instant::now();
    let (head, again) = exchange(&address, "GET").await;
    let took = start.elapsed();
    println!("{CLIENTS} clients of {} bytes: {} KiB more, a scrape in {took:?}", body.len(), grown / 1024);
    assert!(grown < 64 << 20, "{} MiB more", grown >> 20);
    assert!(head.starts_with("http/1.1 200") && again.len() >= 4_000_000 && took < Duration::from_secs(1), "{took:?}");

    // None of them was cut: each still gets the whole of its answer.
    let mut last = clients.pop().expect("a client");
    let mut read = 0;
    while read < 4_000_000 {
        let more = last.read(&mut vec![0; 1 << 20]).await.expect("the rest");
        assert!(more > 0, "{read} bytes and no more");
        read += more;
    }
}
