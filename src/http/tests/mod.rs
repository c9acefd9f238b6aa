//! Tests of the server over real loopback sockets and in real time: a paused clock would fire timeouts while a test
//! waits for a socket.

mod security;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::*;

/// Longer than any step here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// A limit under test.
const SHORT: Duration = Duration::from_millis(200);

struct Server {
    address: SocketAddr,
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(limits: Limits, handler: Handler) -> Self {
        Self::on(listener().await, limits, handler)
    }

    fn on(listener: Listener, limits: Limits, handler: Handler) -> Self {
        let address = listener.local_addr();
        let (shutdown, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(vec![listener], limits, handler, async move { drop(stopped.await) }));
        Self { address, shutdown, task }
    }

    async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.expect("a connection"))
    }

    /// Stops the server, and returns how long that took.
    async fn stop(self) -> Duration {
        let start = Instant::now();
        self.shutdown.send(()).expect("the server runs");
        timeout(DEADLINE, self.task).await.expect("the server stops").expect("the server did not panic");
        start.elapsed()
    }
}

async fn listener() -> Listener {
    Listener::bind(Some("127.0.0.1"), 0).await.expect("a free port")
}

/// A client that sends exactly this text, even if it is malformed.
struct Client<S = TcpStream>(S);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("the server reads");
    }

    /// The status line and the body of one response.
    async fn receive(&mut self) -> (String, String) {
        timeout(DEADLINE, self.try_receive()).await.expect("a response in time").expect("a whole response")
    }

    async fn try_receive(&mut self) -> Option<(String, String)> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(char::from(self.0.read_u8().await.ok()?));
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())?;
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.ok()?;
        Some((head.lines().next()?.to_owned(), String::from_utf8(body).ok()?))
    }

    async fn get(&mut self) -> (String, String) {
        self.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
        self.receive().await
    }

    /// Waits until the server closes the connection, whatever it says before. A reset closes it, too.
    async fn closed(&mut self) {
        self.rest().await;
    }
}

fn echo() -> Handler {
    handler(async |request| Response::new(request.into_body().into()))
}

const OK: &str = "HTTP/1.1 200 OK";

#[tokio::test]
async fn a_connection_stays_open_between_scrapes() {
    let limits = Limits { header_timeout: SHORT, ..Limits::default() };
    let server = Server::start(limits, echo()).await;
    let mut client = server.connect().await;
    assert_eq!(client.get().await.0, OK);
    sleep(2 * SHORT).await;
    assert_eq!(client.get().await.0, OK, "idle for longer than a header may take");
}

#[tokio::test]
async fn an_idle_connection_times_out() {
    let limits = Limits { idle_timeout: SHORT, ..Limits::default() };
    let server = Server::start(limits, echo()).await;
    let mut client = server.connect().await;
    let start = Instant::now();
    client.get().await;
    client.closed().await;
    assert!(start.elapsed() >= SHORT, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_connection_that_is_too_old_ends_after_its_current_request() {
    let limits = Limits { max_connection_age: 5 * SHORT, ..Limits::default() };
    let (waits, entered, leave) = waiting_handler();
    let server = Server::start(limits, waits).await;
    let (mut idle, mut busy) = (server.connect().await, server.connect().await);
    assert_eq!(idle.get().await.0, OK);
    busy.hang().await;
    entered.notified().await;
    idle.closed().await;
    leave.notify_one();
    assert_eq!(busy.receive().await.1, "finished");
    busy.closed().await;
}

#[tokio::test]
async fn an_incomplete_header_times_out() {
    let limits = Limits { header_timeout: SHORT, ..Limits::default() };
    let server = Server::start(limits, echo()).await;
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nhost:").await;
    client.closed().await;
}

#[tokio::test]
async fn an_incomplete_header_times_out_after_a_request_too() {
    let limits = Limits { header_timeout: SHORT, ..Limits::default() };
    let server = Server::start(limits, echo()).await;
    let mut client = server.connect().await;
    client.get().await;
    sleep(2 * SHORT).await;
    client.send("GET / HTTP/1.1\r\nhost:").await;
    client.closed().await;
}

#[tokio::test]
async fn a_silent_connection_times_out() {
    let limits = Limits { header_timeout: SHORT, ..Limits::default() };
    let server = Server::start(limits, echo()).await;
    server.connect().await.closed().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(Limits::default(), echo()).await;
    let mut client = server.connect().await;
    let request = |body: &str| format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    client.send(&(request("first") + &request("second"))).await;
    assert_eq!(client.receive().await.1, "first");
    assert_eq!(client.receive().await.1, "second");
}

#[tokio::test]
async fn a_slow_handler_does_not_time_out() {
    let limits = Limits { header_timeout: SHORT, idle_timeout: SHORT, ..Limits::default() };
    let slow = handler(async |_| {
        sleep(2 * SHORT).await;
        Response::new("done".into())
    });
    let server = Server::start(limits, slow).await;
    assert_eq!(server.connect().await.get().await.1, "done");
}

#[tokio::test]
async fn the_handler_sees_the_peer() {
    let who = handler(async |request: Request| {
        let peer = request.extensions().get::<SocketAddr>().map(ToString::to_string).unwrap_or_default();
        Response::new(peer.into())
    });
    let server = Server::start(Limits::default(), who).await;
    let mut client = server.connect().await;
    let own = client.0.local_addr().expect("connected").to_string();
    assert_eq!(client.get().await.1, own);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_with_and_without_content_length() {
    let limits = Limits { max_body_bytes: 10, ..Limits::default() };
    let server = Server::start(limits, echo()).await;
    let chunked = "transfer-encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n";
    for rest in ["content-length: 11\r\n\r\n0123456789a", chunked] {
        let mut client = server.connect().await;
        client.send(&format!("POST / HTTP/1.1\r\nhost: test\r\n{rest}")).await;
        assert_eq!(client.receive().await.0, "HTTP/1.1 413 Payload Too Large", "{rest:?}");
        client.closed().await;
    }
    // A body that does not fit into the socket buffers: the refusal must arrive although the rest is never read.
    let mut client = server.connect().await;
    let large = "x".repeat(1 << 20);
    client.send(&format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n{large}", large.len())).await;
    assert_eq!(client.receive().await.0, "HTTP/1.1 413 Payload Too Large");
    let mut client = server.connect().await;
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\n0123456789").await;
    assert_eq!(client.receive().await.1, "0123456789", "the limit itself is allowed");
}

#[tokio::test]
async fn a_body_that_is_too_slow_is_refused() {
    let limits = Limits { body_timeout: SHORT, ..Limits::default() };
    let server = Server::start(limits, echo()).await;
    let mut client = server.connect().await;
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\n01234").await;
    assert_eq!(client.receive().await.0, "HTTP/1.1 408 Request Timeout");
    client.closed().await;
}

#[tokio::test]
async fn a_header_that_is_too_large_is_refused() {
    let server = Server::start(Limits { max_header_bytes: 200, ..Limits::default() }, echo()).await;
    let request = |length: usize| {
        let frame = "GET / HTTP/1.1\r\nhost: test\r\nx: \r\n\r\n";
        frame.replace("x: ", &format!("x: {}", "x".repeat(length - frame.len())))
    };
    // A header that does not fit into the socket buffers: the refusal must arrive although the rest is never read.
    for length in [201, 5_000_000] {
        let mut client = server.connect().await;
        client.send(&request(200)).await;
        assert_eq!(client.receive().await.0, OK, "the limit itself is allowed");
        client.send(&request(length)).await;
        assert_eq!(client.receive().await.0, "HTTP/1.1 431 Request Header Fields Too Large");
    }
}

#[tokio::test]
async fn a_panic_of_a_handler_closes_only_its_connection() {
    let panics = handler(async |request: Request| {
        assert!(request.body().is_empty(), "a panic that belongs to this test");
        Response::new("".into())
    });
    let server = Server::start(Limits::default(), panics).await;
    let mut victim = server.connect().await;
    victim.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 1\r\n\r\nx").await;
    victim.closed().await;
    assert_eq!(server.connect().await.get().await.0, OK);
    server.stop().await;
}

/// A handler that answers `/` at once. It notifies when another request has entered, and answers it when it may leave.
fn waiting_handler() -> (Handler, Arc<Notify>, Arc<Notify>) {
    let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enters, leaves) = (entered.clone(), leave.clone());
    let waits = handler(move |request: Request| {
        let (enters, leaves) = (enters.clone(), leaves.clone());
        async move {
            if request.uri() != "/" {
                enters.notify_one();
                leaves.notified().await;
            }
            Response::new("finished".into())
        }
    });
    (waits, entered, leave)
}

#[tokio::test]
async fn the_connection_limit_applies_to_all_listeners_together() {
    let limits = Limits { max_connections: 1, ..Limits::default() };
    let mut listeners = Vec::new();
    for _ in 0..2 {
        listeners.push(listener().await);
    }
    let [first, second] = [listeners[0].local_addr(), listeners[1].local_addr()];
    let (handler, entered, _) = waiting_handler();
    let server = tokio::spawn(serve(listeners, limits, handler, std::future::pending()));

    let mut inside = Client(TcpStream::connect(first).await.expect("a connection"));
    inside.hang().await;
    entered.notified().await;
    let mut waiting = Client(TcpStream::connect(second).await.expect("the kernel accepts it"));
    waiting.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
    timeout(SHORT, waiting.try_receive()).await.expect_err("no response while the limit is reached");
    drop(inside);
    assert_eq!(waiting.receive().await.0, OK, "served when a slot is free");
    let mut new = Client(TcpStream::connect(first).await.expect("a connection"));
    assert_eq!(new.get().await.0, OK, "an idle connection of the other listener is evicted");
    waiting.closed().await;
    server.abort();
}

#[tokio::test]
async fn idle_connections_cannot_hold_every_slot() {
    let limits = Limits { max_connections: 8, header_timeout: 2 * DEADLINE, ..Limits::default() };
    let server = Server::start(limits, echo()).await;
    let mut held = Vec::new();
    for n in 0..100 {
        let mut client = server.connect().await;
        match n % 3 {
            // Sends nothing.
            0 => {}
            // Sends half a header.
            1 => client.send("GET / HTTP/1.1\r\nhost:").await,
            // Is served, and then idle.
            _ => drop(client.get().await),
        }
        held.push(client);
        if n % 10 == 0 {
            assert_eq!(server.connect().await.get().await.0, OK);
        }
    }
}

#[tokio::test]
async fn a_current_request_is_not_evicted() {
    let (handler, entered, _) = waiting_handler();
    let server = Server::start(Limits { max_connections: 2, ..Limits::default() }, handler).await;
    let mut under_way = server.connect().await;
    under_way.hang().await;
    entered.notified().await;
    for _ in 0..20 {
        assert_eq!(server.connect().await.get().await.0, OK);
    }
    assert!(under_way.is_silent().await, "it is still there");
}

#[tokio::test]
async fn a_slowly_read_response_is_not_evicted() {
    let size = 20 << 20;
    let large = handler(move |_| std::future::ready(Response::new("x".repeat(size).into())));
    let server = Server::start(Limits { max_connections: 2, ..Limits::default() }, large).await;
    let mut slow = server.connect().await;
    slow.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
    slow.0.readable().await.expect("the beginning of a response");
    for _ in 0..5 {
        assert_eq!(server.connect().await.get().await.0, OK);
    }
    assert_eq!(slow.receive().await.1.len(), size);
}

#[tokio::test]
async fn a_response_without_a_body_leaves_its_connection_idle() {
    let server = Server::start(Limits { max_connections: 1, ..Limits::default() }, echo()).await;
    let mut head = server.connect().await;
    head.send("HEAD / HTTP/1.1\r\nhost: test\r\nx-pad: 1\r\n\r\n").await;
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        text.push(char::from(timeout(DEADLINE, head.0.read_u8()).await.expect("in time").expect("a response")));
    }
    assert_eq!(server.connect().await.get().await.0, OK, "it is evicted");
    head.closed().await;
}

#[test]
fn connections_leave_half_of_the_open_files_to_others() {
    assert_eq!(connections(Some(1_048_576)), 512);
    assert_eq!(connections(Some(1024)), 512);
    assert_eq!(connections(Some(256)), 128);
    assert_eq!(connections(Some(0)), 1);
    assert_eq!(connections(None), 512);
    assert!(Limits::of_this_process().max_connections > 0);
}

#[tokio::test]
async fn a_shutdown_closes_idle_connections_at_once() {
    let limits = Limits { header_timeout: 2 * DEADLINE, drain: 2 * DEADLINE, ..Limits::default() };
    let server = Server::start(limits, echo()).await;
    let address = server.address;
    let mut fresh = server.connect().await;
    let mut idle = server.connect().await;
    idle.get().await;
    server.stop().await;
    fresh.closed().await;
    idle.closed().await;
    TcpStream::connect(address).await.expect_err("the socket is closed");
}

#[tokio::test]
async fn a_shutdown_lets_a_current_request_finish() {
    let (waits, entered, leave) = waiting_handler();
    let server = Server::start(Limits { drain: DEADLINE, ..Limits::default() }, waits).await;
    let address = server.address;
    let mut client = server.connect().await;
    client.hang().await;
    entered.notified().await;

    let stopping = tokio::spawn(server.stop());
    while TcpStream::connect(address).await.is_ok() {
        sleep(Duration::from_millis(5)).await;
    }
    leave.notify_one();
    assert_eq!(client.receive().await.1, "finished");
    client.closed().await;
    stopping.await.expect("the server stops");
}

#[tokio::test]
async fn a_drain_is_bounded() {
    let (hangs, entered, _) = waiting_handler();
    let server = Server::start(Limits { drain: SHORT, ..Limits::default() }, hangs).await;
    let mut client = server.connect().await;
    client.hang().await;
    entered.notified().await;
    let took = server.stop().await;
    assert!(took >= SHORT, "{took:?}");
    client.closed().await;
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn hang(&mut self) {
        self.send("GET /hang HTTP/1.1\r\nhost: test\r\n\r\n").await;
    }

    /// Reads until the server closes the connection. Returns the bytes and the error.
    async fn rest(&mut self) -> (Vec<u8>, Option<std::io::ErrorKind>) {
        let mut rest = Vec::new();
        let read = timeout(DEADLINE, self.0.read_to_end(&mut rest)).await.expect("the server closes the connection");
        (rest, read.err().map(|error| error.kind()))
    }

    /// Whether the connection is open and silent.
    async fn is_silent(&mut self) -> bool {
        timeout(3 * SHORT, self.0.read_u8()).await.is_err()
    }
}

#[tokio::test]
async fn a_response_keeps_its_own_date() {
    let dated = handler(async |request: Request| {
        let mut response = Response::new("".into());
        if let Some(date) = request.headers().get("x-date") {
            response.headers_mut().insert(header::DATE, date.clone());
        }
        response
    });
    let server = Server::start(Limits::default(), dated).await;
    let date_headers = async |headers: &str| {
        let mut client = server.connect().await;
        client.send(&format!("GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}\r\n")).await;
        let head = String::from_utf8(client.rest().await.0).expect("text");
        head.lines().filter_map(|line| line.strip_prefix("date: ").map(str::to_owned)).collect::<Vec<_>>()
    };
    let date = "Sat, 25 Jul 2026 14:30:00 GMT";
    assert_eq!(date_headers(&format!("x-date: {date}\r\n")).await, [date]);
    let added = date_headers("").await;
    assert!(added.len() == 1 && added[0] != date, "{added:?}");
}
