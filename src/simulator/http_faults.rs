//! Faults of HTTP and of connections: what a failing network, proxy or server does to its clients.
//!
//! The simulator has its own HTTP server, so that the exporter's needs no support for faults.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::Response;
use crate::http::{Listener, Request};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The limit for idle connections. The SDKs keep theirs for 90 seconds.
const IDLE_TIMEOUT: Duration = Duration::from_mins(3);

/// The limit for request bodies: ten times the largest job document that AWS accepts.
const MAX_BODY_BYTES: usize = 320 * 1024;

/// The pause after a failed accept. The usual cause is a lack of file descriptors, which lasts.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// What the server does with a request.
#[derive(Debug)]
pub enum FaultAction {
    /// It sends a response, whose [`Body`] may fail.
    Response(::http::Response<Body>),
    /// It does the same after a delay.
    Delay(Duration, Box<FaultAction>),
    /// It sends nothing. The connection stays open until the client gives up.
    Hang,
    /// It resets the connection before the first byte of a response: RST, by a linger time of zero.
    Reset,
    /// Like [`FaultAction::Reset`]; in addition, it resets every new connection for this time. Connections that are
    /// already open stay.
    ///
    /// A client sees the reset with its first read or write. A real refusal, RST in answer to SYN, would require
    /// closing the listening socket, and another process could then take its port.
    Refuse(Duration),
}

impl From<Response> for FaultAction {
    fn from(response: Response) -> Self {
        Self::Response(response.map(Body::whole))
    }
}

/// Decides what the server does with each request.
pub(super) type FaultHandler = Arc<dyn Fn(&Request) -> FaultAction + Send + Sync>;

/// Serves `handler` on all `listeners` until `shutdown` resolves, and then drops all connections.
pub(super) async fn serve(listeners: Vec<Listener>, handler: FaultHandler, shutdown: impl Future<Output = ()>) {
    let server = Arc::new(Server { handler, refuses_until: Mutex::default() });
    // Owned by this future: dropping it ends all tasks.
    let mut tasks = JoinSet::new();
    for socket in listeners.into_iter().flat_map(Listener::into_sockets) {
        tasks.spawn(Arc::clone(&server).accept_all(socket));
    }
    shutdown.await;
}

struct Server {
    handler: FaultHandler,
    refuses_until: Mutex<Option<Instant>>,
}

impl Server {
    async fn accept_all(self: Arc<Self>, socket: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            match socket.accept().await {
                Ok((stream, _)) if self.refuses() => reset(&stream),
                Ok((stream, _)) => drop(connections.spawn(Arc::clone(&self).serve_connection(stream))),
                Err(error) => {
                    debug!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    }

    async fn serve_connection(self: Arc<Self>, stream: TcpStream) {
        // A response is sent in few large writes, and Nagle's algorithm would delay the last of them.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "cannot set TCP_NODELAY");
        }
        let close_mode = CloseMode::default();
        let io = TokioIo::new(FaultStream { stream, close_mode: close_mode.clone() });
        let service = service_fn(move |request| Arc::clone(&self).respond(request, close_mode.clone()));
        // A client that closes its side has disconnected. Nothing else would end a request that hangs.
        let mut http1 = http1::Builder::new();
        http1.timer(TokioTimer::new()).header_read_timeout(IDLE_TIMEOUT).half_close(false);
        if let Err(error) = http1.serve_connection(io, service).await {
            debug!(error = &error as &dyn std::error::Error, "connection failed");
        }
    }

    async fn respond(
        self: Arc<Self>,
        request: hyper::Request<Incoming>,
        close_mode: CloseMode,
    ) -> Result<hyper::Response<ResponseBody>, BoxError> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, MAX_BODY_BYTES).collect().await?.to_bytes();
        let mut action = (self.handler)(&Request::from_parts(head, body));
        while let FaultAction::Delay(by, then) = action {
            sleep(by).await;
            action = *then;
        }
        match action {
            FaultAction::Response(response) => return Ok(response.map(|body| ResponseBody { body, close_mode })),
            FaultAction::Delay(..) | FaultAction::Hang => {}
            FaultAction::Reset => close_mode.set(CloseMode::RESET),
            FaultAction::Refuse(pause) => {
                self.refuse_for(pause);
                close_mode.set(CloseMode::RESET);
            }
        }
        // The end of the connection ends this.
        pending().await
    }

    /// Refuses connections for `pause` from now on. An earlier pause that ends later stays in effect.
    fn refuse_for(&self, pause: Duration) {
        let mut refuses_until = self.refuses_until.lock().unwrap_or_else(PoisonError::into_inner);
        *refuses_until = (*refuses_until).max(Instant::now().checked_add(pause));
    }

    fn refuses(&self) -> bool {
        let refuses_until = *self.refuses_until.lock().unwrap_or_else(PoisonError::into_inner);
        refuses_until.is_some_and(|end| Instant::now() < end)
    }
}

/// Makes `stream` end with a reset when it is dropped.
fn reset(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        debug!(%error, "cannot reset a connection; closing it");
    }
}

/// How a connection is closed after everything was sent.
#[derive(Clone, Debug, Default)]
struct CloseMode(Arc<AtomicU8>);

impl CloseMode {
    const CLOSE: u8 = 1;
    const RESET: u8 = 2;

    fn set(&self, close_mode: u8) {
        self.0.store(close_mode, Ordering::Relaxed);
    }
}

/// A connection that is closed as its [`CloseMode`] says. hyper flushes each time after it polled the service or the
/// body, so everything is sent after a flush.
struct FaultStream {
    stream: TcpStream,
    close_mode: CloseMode,
}

impl AsyncRead for FaultStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for FaultStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        match self.close_mode.0.load(Ordering::Relaxed) {
            CloseMode::CLOSE => {}
            CloseMode::RESET => reset(&self.stream),
            _ => return Poll::Ready(Ok(())),
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "a fault ended the connection")))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A body that is being sent. If it fails, the connection is closed after the data before the error is sent: hyper
/// would drop that data if it got the error.
struct ResponseBody {
    body: Body,
    close_mode: CloseMode,
}

impl hyper::body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => Poll::Ready(None),
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(Err(_)) => {
                self.close_mode.set(CloseMode::CLOSE);
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response: a whole one, or one that is shorter than its header says. `Content-Length` is its exact
/// size hint.
///
/// It also works without a connection: a truncated body fails with an error, and a stalled body stays pending.
#[derive(Clone, Debug)]
pub struct Body {
    data: Bytes,
    /// The bytes that are announced and not sent yet, those of `data` included.
    announced: u64,
    end: End,
}

/// What follows the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Blanks up to the announced length. None for a whole body.
    Blanks,
    Failure,
    Silence,
}

impl Body {
    /// All of `data`.
    #[must_use]
    pub fn whole(data: Bytes) -> Self {
        let announced = length(&data);
        Self { data, announced, end: End::Blanks }
    }

    /// Announces the length of `data`, sends `sent` bytes and closes the connection. At least one byte is held back.
    #[must_use]
    pub fn truncated(data: Bytes, sent: usize) -> Self {
        Self::cut(data, sent, End::Failure)
    }

    /// Announces the length of `data`, sends `sent` bytes and then nothing; the connection stays open. At least one
    /// byte is held back.
    #[must_use]
    pub fn stalled(data: Bytes, sent: usize) -> Self {
        Self::cut(data, sent, End::Silence)
    }

    /// All of `data`, and blanks up to `size` bytes in all. The blanks are made while they are sent. Blanks at the end
    /// do not change JSON or XML.
    #[must_use]
    pub fn padded(data: Bytes, size: u64) -> Self {
        let announced = size.max(length(&data));
        Self { data, announced, end: End::Blanks }
    }

    fn cut(mut data: Bytes, sent: usize, end: End) -> Self {
        let announced = length(&data);
        data.truncate(sent.min(data.len().saturating_sub(1)));
        Self { data, announced, end }
    }

    fn give(&mut self, data: Bytes) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.announced -= length(&data);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

fn length(data: &Bytes) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}

/// A chunk of blanks.
static BLANKS: [u8; 64 * 1024] = [b' '; 64 * 1024];

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if !this.data.is_empty() {
            let data = std::mem::take(&mut this.data);
            return this.give(data);
        }
        match this.end {
            End::Blanks if this.announced == 0 => Poll::Ready(None),
            End::Blanks => {
                let rest = usize::try_from(this.announced).unwrap_or(usize::MAX);
                this.give(Bytes::from_static(&BLANKS[..rest.min(BLANKS.len())]))
            }
            End::Failure => {
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the body is shorter than its Content-Length");
                Poll::Ready(Some(Err(error)))
            }
            // No waker is stored: only the end of the connection ends this.
            End::Silence => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.end == End::Blanks && self.announced == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use hyper::body::Body as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use super::*;

    const DATA: Bytes = Bytes::from_static(b"0123456789");

    #[tokio::test]
    async fn a_whole_body_is_its_data() {
        for data in [Bytes::new(), DATA] {
            let body = Body::whole(data.clone());
            assert_eq!(body.size_hint().exact(), Some(length(&data)));
            assert_eq!(body.is_end_stream(), data.is_empty());
            assert_eq!(body.collect().await.expect("no failure").to_bytes(), data);
        }
    }

    #[tokio::test]
    async fn a_truncated_body_fails_after_its_data() {
        for (sent, expected) in [(0, &b""[..]), (4, b"0123"), (10, b"012345678")] {
            let mut body = Body::truncated(DATA, sent);
            assert_eq!(body.size_hint().exact(), Some(10));
            let mut received = Vec::new();
            let error = loop {
                match body.frame().await.expect("an error at the end") {
                    Ok(frame) => received.extend_from_slice(&frame.into_data().expect("data")),
                    Err(error) => break error,
                }
            };
            assert_eq!((received.as_slice(), error.kind()), (expected, io::ErrorKind::UnexpectedEof));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_body_stays_pending_after_its_data() {
        let mut body = Body::stalled(DATA, 4);
        let frame = body.frame().await.expect("a frame").expect("no failure");
        assert_eq!(frame.into_data().expect("data"), DATA[..4]);
        let day = Duration::from_hours(24);
        tokio::time::timeout(day, body.frame()).await.expect_err("nothing more");
    }

    #[tokio::test]
    async fn a_padded_body_has_its_size_and_is_made_in_pieces() {
        let size = 1_000_000;
        let mut body = Body::padded(DATA, size);
        assert_eq!(body.size_hint().exact(), Some(size));
        let mut received = Vec::new();
        while let Some(frame) = body.frame().await {
            let piece = frame.expect("no failure").into_data().expect("data");
            assert!(piece.len() <= BLANKS.len(), "{} bytes at once", piece.len());
            received.extend_from_slice(&piece);
        }
        assert!(body.is_end_stream());
        assert_eq!(u64::try_from(received.len()), Ok(size));
        assert_eq!(received.trim_ascii_end(), DATA);
        assert_eq!(Body::padded(DATA, 3).size_hint().exact(), Some(10), "never less than the data");
    }

    /// Longer than any step here takes on a busy machine.
    const DEADLINE: Duration = Duration::from_secs(20);

    /// A connection that is silent for this time counts as silent; also a pause that tests can observe.
    const SHORT: Duration = Duration::from_millis(200);

    /// A server that answers requests for `/` and does `action` with all others.
    async fn server(action: impl Fn() -> FaultAction + Send + Sync + 'static) -> SocketAddr {
        let listener = Listener::bind(Some("127.0.0.1"), 0).await.expect("a free port");
        let address = listener.local_addr();
        let handler = move |request: &Request| {
            if request.uri() == "/" { Response::new(Bytes::new()).into() } else { action() }
        };
        tokio::spawn(serve(vec![listener], Arc::new(handler), pending()));
        address
    }

    async fn ask(address: SocketAddr, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.expect("the kernel accepts it");
        // A refused connection may already be closed; the read shows it.
        let _ = stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes()).await;
        stream
    }

    /// Reads until the server closes the connection. Returns the bytes and the error.
    async fn rest(stream: &mut TcpStream) -> (Vec<u8>, Option<io::ErrorKind>) {
        let mut rest = Vec::new();
        let read = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("the server closes the connection");
        (rest, read.err().map(|error| error.kind()))
    }

    #[tokio::test]
    async fn a_reset_differs_from_an_end() {
        let address = server(|| FaultAction::Reset).await;
        assert_eq!(rest(&mut ask(address, "/fail").await).await, (Vec::new(), Some(io::ErrorKind::ConnectionReset)));
    }

    #[tokio::test]
    async fn a_refusal_refuses_new_connections_for_a_while_and_keeps_open_ones() {
        let address = server(|| FaultAction::Refuse(4 * SHORT)).await;
        let mut open = ask(address, "/").await;
        let start = Instant::now();
        assert_eq!(rest(&mut ask(address, "/fail").await).await.1, Some(io::ErrorKind::ConnectionReset));
        while ask(address, "/").await.read_u8().await.is_err() {
            sleep(SHORT / 4).await;
        }
        assert!(start.elapsed() >= 4 * SHORT, "served after {:?}", start.elapsed());
        open.write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await.expect("it is open");
        let (received, error) = rest(&mut open).await;
        assert_eq!((String::from_utf8_lossy(&received).matches("200 OK").count(), error), (2, None));
    }

    #[tokio::test]
    async fn a_hanging_request_keeps_its_connection_open() {
        type Hang = fn() -> FaultAction;
        let stalled: Hang = || FaultAction::Response(::http::Response::new(Body::stalled(DATA, 4)));
        for hang in [stalled, || FaultAction::Hang] {
            let mut stream = ask(server(hang).await, "/fail").await;
            let silent = async { while stream.read_u8().await.is_ok() {} };
            timeout(3 * SHORT, silent).await.expect_err("nothing more comes, and it stays open");
        }
    }

    #[tokio::test]
    async fn a_truncated_body_is_sent_up_to_its_cut_and_then_the_connection_is_closed() {
        // The second size does not fit into the buffer of a socket.
        for size in [10, 20 << 20] {
            let data: Bytes = vec![b'x'; size].into();
            let truncated =
                move || FaultAction::Response(::http::Response::new(Body::truncated(data.clone(), size / 2)));
            let mut stream = ask(server(truncated).await, "/fail").await;
            let (received, error) = rest(&mut stream).await;
            let head = received.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole header");
            assert_eq!((received.len() - head - 4, error), (size / 2, None));
        }
    }

    #[tokio::test]
    async fn a_request_that_is_too_large_ends_its_connection() {
        let mut stream = TcpStream::connect(server(|| FaultAction::Hang).await).await.expect("a connection");
        let head = format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", MAX_BODY_BYTES + 1);
        stream.write_all(head.as_bytes()).await.expect("the server reads");
        let _ = stream.write_all(&vec![b'x'; MAX_BODY_BYTES + 1]).await;
        rest(&mut stream).await;
    }
}
