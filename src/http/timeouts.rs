//! Timeouts of a connection: for a header, from its first byte, and for a response that the client does not read.
//!
//! hyper measures its header timeout from the end of the previous response. A value that stops slow headers would also
//! close every connection between two scrapes. So hyper's timeout limits idle connections, and [`TimeoutStream`]
//! limits headers.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use super::Limits;

/// The state of a connection, and since when. The stream, the service and the response body of the connection update
/// it; the connection limiter reads it.
///
/// With pipelining, the next header can start before the response is sent. Then the idle timeout applies to it.
#[derive(Clone, Debug)]
pub(super) struct ConnectionState {
    stage: Arc<Mutex<(Stage, Instant)>>,
    evictable: Arc<Notify>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing was read yet: a whole request may be waiting in the socket.
    Accepted,
    /// A header is incomplete.
    Header,
    /// The handler runs, or its response is being written.
    Busy,
    /// The response was written, but TLS may not have sent it yet.
    Sending,
    /// The response was sent, and no other request has started.
    Idle,
    /// The connection ends with a response to a request that was not fully read.
    Refused,
}

/// The order of eviction, first to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EvictionPriority {
    /// It has no complete header, or is being closed.
    Incomplete,
    /// It waits for its next request.
    Idle,
    /// It has a request or a response in progress, or may have one.
    Busy,
}

impl ConnectionState {
    /// The state of a new connection. It notifies `evictable` when the connection becomes evictable.
    pub(super) fn new(evictable: Arc<Notify>) -> Self {
        Self { stage: Arc::new(Mutex::new((Stage::Accepted, Instant::now()))), evictable }
    }

    /// All input was read, but the header is incomplete.
    pub(super) fn input_exhausted(&self) {
        self.advance(&[Stage::Accepted], Stage::Header);
    }

    pub(super) fn request_started(&self) {
        self.enter(Stage::Busy);
    }

    pub(super) fn request_refused(&self) {
        self.enter(Stage::Refused);
    }

    pub(super) fn response_complete(&self) {
        self.advance(&[Stage::Busy], Stage::Sending);
    }

    pub(super) fn output_flushed(&self) {
        self.advance(&[Stage::Sending], Stage::Idle);
    }

    fn input_received(&self) {
        self.advance(&[Stage::Sending, Stage::Idle], Stage::Header);
    }

    /// Without a request, hyper writes only to refuse an invalid header.
    fn output_started(&self) {
        self.advance(&[Stage::Accepted, Stage::Header], Stage::Refused);
    }

    /// The priority, and since when it applies.
    pub(super) fn priority(&self) -> (EvictionPriority, Instant) {
        let (stage, since) = *self.current();
        let priority = match stage {
            Stage::Header | Stage::Refused => EvictionPriority::Incomplete,
            Stage::Idle => EvictionPriority::Idle,
            Stage::Accepted | Stage::Busy | Stage::Sending => EvictionPriority::Busy,
        };
        (priority, since)
    }

    fn is_in(&self, stages: &[Stage]) -> bool {
        stages.contains(&self.current().0)
    }

    fn advance(&self, from: &[Stage], to: Stage) {
        if self.is_in(from) {
            self.enter(to);
        }
    }

    fn enter(&self, stage: Stage) {
        *self.current() = (stage, Instant::now());
        if self.priority().0 < EvictionPriority::Busy {
            self.evictable.notify_waiters();
        }
    }

    fn current(&self) -> MutexGuard<'_, (Stage, Instant)> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that fails with [`io::ErrorKind::TimedOut`] when its client takes too long.
pub(super) struct TimeoutStream<S> {
    stream: S,
    state: ConnectionState,
    header: Timer,
    write: Timer,
    discard: Timer,
    is_shut_down: bool,
}

impl<S: AsyncRead + Unpin> TimeoutStream<S> {
    pub(super) fn new(stream: S, state: ConnectionState, limits: &Limits) -> Self {
        let [header, write, discard] =
            [limits.header_timeout, limits.write_timeout, limits.body_timeout].map(Timer::new);
        Self { stream, state, header, write, discard, is_shut_down: false }
    }

    /// Limits the time without progress: from the first write that has to wait to the next one that succeeds.
    fn bounded<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write.stop();
            return written;
        }
        self.write.poll(cx).map(|()| Err(timed_out("the client does not read the response")))
    }

    /// Discards further input until the client closes its side or the time is over. Closing the socket earlier would
    /// reset the connection, and the client would lose the response (RFC 9112, section 9.6).
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut buffer = [0; 4096];
        loop {
            if self.discard.poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::new(&mut buffer);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }
}

fn timed_out(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, reason)
}

impl<S: AsyncRead + Unpin> AsyncRead for TimeoutStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.state.is_in(&[Stage::Accepted, Stage::Header]) {
            this.header.stop();
        } else if this.header.poll(cx).is_ready() {
            // Polled before the stream, so that single bytes do not extend the time.
            return Poll::Ready(Err(timed_out("the client does not complete its header")));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if read.is_pending() {
            this.state.input_exhausted();
        } else if buf.filled().len() > before {
            this.state.input_received();
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TimeoutStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.state.output_started();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.bounded(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        if flushed.is_ready() {
            this.state.output_flushed();
        }
        this.bounded(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_shut_down {
            let shut_down = Pin::new(&mut this.stream).poll_shutdown(cx);
            ready!(this.bounded(cx, shut_down))?;
            this.is_shut_down = true;
        }
        if this.state.is_in(&[Stage::Refused]) {
            ready!(this.poll_discard(cx));
        }
        Poll::Ready(Ok(()))
    }
}

/// A timer that starts when it is first polled.
struct Timer {
    duration: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    fn new(duration: Duration) -> Self {
        Self { duration, sleep: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let duration = self.duration;
        self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(duration))).as_mut().poll(cx)
    }

    fn stop(&mut self) {
        self.sleep = None;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::sleep;

    use super::*;

    fn stream() -> (TimeoutStream<DuplexStream>, ConnectionState, DuplexStream) {
        let (stream, client) = duplex(16);
        let state = ConnectionState::new(Arc::default());
        let stream = TimeoutStream::new(stream, state.clone(), &Limits::default());
        (stream, state, client)
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_must_send_a_header() {
        let (mut stream, _state, _client) = stream();
        let start = Instant::now();
        let error = stream.read_u8().await.expect_err("nothing comes");
        assert_eq!((error.kind(), start.elapsed().as_secs()), (io::ErrorKind::TimedOut, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn single_bytes_do_not_extend_the_time() {
        let (mut stream, _state, mut client) = stream();
        let start = Instant::now();
        tokio::spawn(async move {
            while client.write_u8(b'x').await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let error = stream.read_to_end(&mut Vec::new()).await.expect_err("the header never ends");
        assert_eq!((error.kind(), start.elapsed().as_secs()), (io::ErrorKind::TimedOut, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn between_requests_the_timeout_starts_with_the_first_byte() {
        let (mut stream, state, mut client) = stream();
        state.request_started();
        state.response_complete();
        stream.flush().await.expect("nothing is left to send");
        tokio::spawn(async move {
            sleep(Duration::from_mins(1)).await;
            client.write_u8(b'G').await.expect("the connection is still there");
            sleep(Duration::from_mins(1)).await;
        });
        let start = Instant::now();
        assert_eq!(stream.read_u8().await.expect("the first byte"), b'G');
        assert_eq!(start.elapsed().as_secs(), 60);
        let error = stream.read_u8().await.expect_err("the rest does not come");
        assert_eq!((error.kind(), start.elapsed().as_secs()), (io::ErrorKind::TimedOut, 65));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_is_disconnected_only_if_it_stops() {
        let (mut stream, _state, mut client) = stream();
        let slow_reader = tokio::spawn(async move {
            for _ in 0..4 {
                sleep(Duration::from_secs(20)).await;
                client.read_exact(&mut [0; 16]).await.expect("more of the response");
            }
            client
        });
        let start = Instant::now();
        let error = stream.write_all(&[0; 16 * 6]).await.expect_err("the client does not read");
        assert_eq!((error.kind(), start.elapsed().as_secs()), (io::ErrorKind::TimedOut, 80 + 30));
        drop(slow_reader.await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_priority_follows_the_stage() {
        let (mut stream, state, mut client) = stream();
        let priority = || {
            let (priority, since) = state.priority();
            (priority, since.elapsed().as_secs())
        };
        assert_eq!(priority().0, EvictionPriority::Busy, "a request can be waiting in the socket");
        tokio::time::timeout(Duration::from_secs(1), stream.read_u8()).await.expect_err("no input");
        assert_eq!(priority().0, EvictionPriority::Incomplete);
        state.request_started();
        sleep(Duration::from_secs(2)).await;
        assert_eq!(priority(), (EvictionPriority::Busy, 2));
        state.response_complete();
        assert_eq!(priority().0, EvictionPriority::Busy, "the response is not sent");
        stream.flush().await.expect("nothing to send");
        sleep(Duration::from_secs(3)).await;
        assert_eq!(priority(), (EvictionPriority::Idle, 3));
        client.write_u8(b'G').await.expect("the connection is open");
        stream.read_u8().await.expect("a byte");
        assert_eq!(priority().0, EvictionPriority::Incomplete, "the next header has started");
        state.request_refused();
        stream.flush().await.expect("nothing to send");
        assert_eq!(priority().0, EvictionPriority::Incomplete, "the connection is being closed");
    }

    /// Buffers everything and sends nothing, like TLS on a full socket.
    struct Unsent;

    impl AsyncRead for Unsent {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Unsent {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_in_a_buffer_is_busy_and_times_out() {
        let state = ConnectionState::new(Arc::default());
        let mut stream = TimeoutStream::new(Unsent, state.clone(), &Limits::default());
        state.request_started();
        stream.write_all(b"a response").await.expect("it is taken");
        state.response_complete();
        let start = Instant::now();
        let error = stream.flush().await.expect_err("the write times out");
        assert_eq!((error.kind(), start.elapsed().as_secs()), (io::ErrorKind::TimedOut, 30));
        assert_eq!(state.priority().0, EvictionPriority::Busy);
    }
}
