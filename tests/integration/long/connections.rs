//! Connections over real sockets and in real time: how long they are kept, and what happens where the network drops them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use crate::process::{Running, get, pointed_at, program};
use crate::support::{Endpoint, jobs, simulator as simulated};

/// Connections that go through it, by how many are open.
struct Forwarder {
    address: SocketAddr,
    open: Arc<AtomicUsize>,
}

impl Forwarder {
    /// Forwards to `to`. A connection without traffic for `forgets_after` stays open, and nothing goes through it any more: so do
    /// firewalls that drop idle connections.
    async fn start(to: SocketAddr, forgets_after: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let (address, open) = (listener.local_addr().expect("an address"), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&open);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let open = Arc::clone(&counter);
                tokio::spawn(async move {
                    open.fetch_add(1, Ordering::Relaxed);
                    forward(client, to, forgets_after).await;
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Self { address, open }
    }
}

/// Forwards until the client closes.
async fn forward(mut client: TcpStream, to: SocketAddr, forgets_after: Duration) {
    let mut server = TcpStream::connect(to).await.expect("the endpoint");
    let (mut from_client, mut from_server) = (vec![0; 65536], vec![0; 65536]);
    let mut is_forgotten = false;
    loop {
        let read = async {
            tokio::select! {
                read = client.read(&mut from_client) => (true, read.unwrap_or(0)),
                read = server.read(&mut from_server), if !is_forgotten => (false, read.unwrap_or(0)),
            }
        };
        let limit = if is_forgotten { Duration::from_hours(1) } else { forgets_after };
        match timeout(limit, read).await {
            Err(_) => is_forgotten = true,
            Ok((_, 0)) => return,
            Ok(_) if is_forgotten => {}
            Ok((true, length)) => drop(server.write_all(&from_client[..length]).await),
            Ok((false, length)) => drop(client.write_all(&from_server[..length]).await),
        }
    }
}

#[tokio::test]
async fn after_a_firewall_has_dropped_the_connections_one_attempt_fails_and_the_next_takes_a_new_one() {
    let endpoint = Endpoint::start(simulated(jobs(3))).await;
    let forwarder = Forwarder::start(endpoint.address, Duration::from_secs(1)).await;
    let mut command = pointed_at(program(&["--web.listen-address=127.0.0.1:0"]), &endpoint);
    command.env("AWS_ENDPOINT_URL", format!("http://{}", forwarder.address));
    command.env("IOT_JOBS_EXPORTER_COLLECTORS__OPEN_JOBS__INTERVAL", "5s");
    let mut daemon = Running::start(command);
    daemon.until("run complete").await;
    let hung = daemon.until("request timed out").await;
    for part in ["WARN", "operation=\"ListJobs\"", "target=eu-west-1 ", "seconds=10"] {
        assert!(hung.contains(part), "{part} is not in {hung}");
    }
    let page = get(&daemon.address().await, "/metrics").await;
    assert!(page.contains("aws_iot_jobs_up{target=\"eu-west-1\",aws_region=\"eu-west-1\"} 1"), "{page}");
    // The second attempt of the walk succeeds: it does not use the other connection that the firewall has dropped.
    let next = daemon.until("collector=").await;
    assert!(next.contains("run complete"), "{next}");
    assert_eq!(daemon.log.matches("request timed out").count(), 1, "{}", daemon.log);
}

#[tokio::test]
async fn idle_connections_are_closed_after_20_s() {
    let endpoint = Endpoint::start(simulated(jobs(3))).await;
    let forwarder = Forwarder::start(endpoint.address, Duration::from_hours(1)).await;
    let mut command = pointed_at(program(&["--web.listen-address=127.0.0.1:0"]), &endpoint);
    command.env("AWS_ENDPOINT_URL", format!("http://{}", forwarder.address));
    command.env("IOT_JOBS_EXPORTER_COLLECTORS__OPEN_JOBS__INTERVAL", "1h");
    let mut daemon = Running::start(command);
    daemon.until("run complete").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(forwarder.open.load(Ordering::Relaxed) > 0, "kept for a while");
    let deadline = Instant::now() + Duration::from_secs(30);
    while forwarder.open.load(Ordering::Relaxed) > 0 {
        assert!(Instant::now() < deadline, "{} are still open", forwarder.open.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
