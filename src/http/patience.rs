//! How long a connection waits for its client: a bound on the header that starts with its first byte, and one on a
//! response that is not taken.
//!
//! hyper has a header timeout, but its clock runs from the end of the response before: with a bound that is short
//! enough for a client that dawdles over its header, every connection that waits for its next scrape would be cut too.
//! So hyper's serves as the bound on idle connections, and the one on headers is kept here, where bytes are seen to
//! arrive.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use super::Limits;

/// Where a connection stands, and since when. The stream, the service and the body that is sent on one connection share
/// it; hyper polls all of them in one task. Who looks for a connection to end reads it from elsewhere.
///
/// A client may send the start of its next header while it still waits for a response (pipelining). That header is
/// bounded as an idle connection is.
#[derive(Clone, Debug)]
pub(super) struct Phase(Arc<State>);

#[derive(Debug)]
struct State {
    phase: AtomicU8,
    accepted: Instant,
    /// When the phase began, in milliseconds after `accepted`.
    since: AtomicU64,
    /// Notified when the connection can be ended for another.
    evictable: Arc<Notify>,
}

/// How much a connection would be missed, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Worth {
    /// Its client has not finished a header, or has not even begun one.
    Unfinished,
    /// Its client has been served, and may come back.
    Idle,
    /// A request is under way, or the response to one, or there may be one that has not been read yet.
    UnderWay,
}

impl Phase {
    /// Nobody has looked yet whether the first header has come.
    const FRESH: u8 = 0;
    /// The next request's header has started, or is due to because the connection is fresh.
    const HEADER: u8 = 1;
    /// A request has its header, and its response is not whole yet.
    const BUSY: u8 = 2;
    /// The response is whole, and not yet sent.
    const SENDING: u8 = 3;
    /// Nothing has come since the last response.
    const IDLE: u8 = 4;
    /// A request is refused, and its client may still be sending the rest of it.
    const REFUSED: u8 = 5;

    /// The state of a connection that was accepted just now; whoever waits for one to end for another waits for `evictable`.
    pub(super) fn fresh(evictable: Arc<Notify>) -> Self {
        let phase = AtomicU8::new(Self::FRESH);
        Self(Arc::new(State { phase, accepted: Instant::now(), since: AtomicU64::new(0), evictable }))
    }

    /// What has come has been read, and there is no whole header yet.
    pub(super) fn header_is_awaited(&self) {
        self.go(Self::FRESH, Self::HEADER);
    }

    pub(super) fn header_is_complete(&self) {
        self.enter(Self::BUSY);
    }

    /// The connection ends with a response to a request that was not read to its end.
    pub(super) fn refuse(&self) {
        self.enter(Self::REFUSED);
    }

    /// hyper answers before it has a request only to refuse a header that it cannot read.
    fn response_has_begun(&self) {
        if self.is_header() {
            self.refuse();
        }
    }

    pub(super) fn response_is_whole(&self) {
        self.go(Self::BUSY, Self::SENDING);
    }

    /// What the connection is worth, and for how long it has been by `now`.
    pub(super) fn worth(&self, now: Instant) -> (Worth, Duration) {
        let worth = match self.now() {
            Self::HEADER | Self::REFUSED => Worth::Unfinished,
            Self::IDLE => Worth::Idle,
            _ => Worth::UnderWay,
        };
        let since = Duration::from_millis(self.0.since.load(Ordering::Relaxed));
        (worth, now.saturating_duration_since(self.0.accepted).saturating_sub(since))
    }

    /// The client has taken all that it was sent.
    pub(super) fn everything_is_sent(&self) {
        self.go(Self::SENDING, Self::IDLE);
    }

    /// Bytes have come. Where they follow a response, they begin a header.
    fn bytes_have_come(&self) {
        self.go(Self::SENDING, Self::HEADER);
        self.go(Self::IDLE, Self::HEADER);
    }

    fn is_header(&self) -> bool {
        matches!(self.now(), Self::FRESH | Self::HEADER)
    }

    fn now(&self) -> u8 {
        self.0.phase.load(Ordering::Relaxed)
    }

    fn go(&self, from: u8, to: u8) {
        if self.now() == from {
            self.enter(to);
        }
    }

    fn enter(&self, phase: u8) {
        let since = u64::try_from(self.0.accepted.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.since.store(since, Ordering::Relaxed);
        self.0.phase.store(phase, Ordering::Relaxed);
        if matches!(phase, Self::HEADER | Self::IDLE | Self::REFUSED) {
            self.0.evictable.notify_waiters();
        }
    }
}

/// A stream that fails with [`io::ErrorKind::TimedOut`] once its client has taken too long.
pub(super) struct Patient<S> {
    stream: S,
    phase: Phase,
    header: Timer,
    write: Timer,
    /// Bounds the time after the shutdown in which the rest of a refused request is discarded.
    discard: Timer,
    is_shut: bool,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, phase: Phase, limits: &Limits) -> Self {
        let [header, write, discard] =
            [limits.header_timeout, limits.write_timeout, limits.body_timeout].map(Timer::new);
        Self { stream, phase, header, write, discard, is_shut: false }
    }

    /// Bounds the time without any progress: starts with the first write that has to wait, ends with the next one that
    /// has not.
    fn bounded<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write.stop();
            return written;
        }
        self.write.poll(cx).map(|()| Err(timed_out("the client does not take the response")))
    }
}

impl<S: AsyncRead + Unpin> Patient<S> {
    /// Discards what the client still sends, until it closes its side or the time is over. Closing the socket before that
    /// would reset the connection, and the client would lose the response (RFC 9112, section 9.6).
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

fn timed_out(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.phase.is_header() {
            this.header.stop();
        } else if this.header.poll(cx).is_ready() {
            // Asked before the stream, so that one byte now and then does not put it off.
            return Poll::Ready(Err(timed_out("the client does not finish its header")));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if read.is_pending() {
            this.phase.header_is_awaited();
        } else if buf.filled().len() > before {
            this.phase.bytes_have_come();
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.phase.response_has_begun();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.bounded(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.phase.response_has_begun();
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
            this.phase.everything_is_sent();
        }
        this.bounded(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_shut {
            let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
            ready!(this.bounded(cx, shut))?;
            this.is_shut = true;
        }
        if this.phase.now() == Phase::REFUSED {
            ready!(this.poll_discard(cx));
        }
        Poll::Ready(Ok(()))
    }
}

/// A timer that starts when it is first asked.
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

    fn patient() -> (Patient<DuplexStream>, Phase, DuplexStream) {
        let (stream, client) = duplex(16);
        let phase = Phase::fresh(Arc::default());
        let patient = Patient::new(stream, phase.clone(), &Limits::default());
        (patient, phase, client)
    }

    #[tokio::test(start_paused = true)]
    async fn a_fresh_connection_has_to_send_a_header() {
        let (mut patient, _phase, _client) = patient();
        let start = Instant::now();
        let error = patient.read_u8().await.expect_err("nothing comes");
        assert_eq!((error.kind(), start.elapsed().as_secs()), (io::ErrorKind::TimedOut, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn one_byte_now_and_then_does_not_put_the_bound_off() {
        let (mut patient, _phase, mut client) = patient();
        let start = Instant::now();
        tokio::spawn(async move {
            while client.write_u8(b'x').await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let error = patient.read_to_end(&mut Vec::new()).await.expect_err("the header never ends");
        assert_eq!((error.kind(), start.elapsed().as_secs()), (io::ErrorKind::TimedOut, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn between_requests_the_bound_starts_with_the_first_byte() {
        let (mut patient, phase, mut client) = patient();
        phase.header_is_complete();
        phase.response_is_whole();
        patient.flush().await.expect("nothing is left to send");
        tokio::spawn(async move {
            sleep(Duration::from_mins(1)).await;
            client.write_u8(b'G').await.expect("the connection is still there");
            sleep(Duration::from_mins(1)).await;
        });
        let start = Instant::now();
        assert_eq!(patient.read_u8().await.expect("the first byte"), b'G');
        assert_eq!(start.elapsed().as_secs(), 60);
        let error = patient.read_u8().await.expect_err("the rest does not come");
        assert_eq!((error.kind(), start.elapsed().as_secs()), (io::ErrorKind::TimedOut, 65));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_is_kept_and_one_that_does_not_is_cut() {
        let (mut patient, _phase, mut client) = patient();
        let slow_reader = tokio::spawn(async move {
            for _ in 0..4 {
                sleep(Duration::from_secs(20)).await;
                client.read_exact(&mut [0; 16]).await.expect("more of the response");
            }
            client
        });
        let start = Instant::now();
        let error = patient.write_all(&[0; 16 * 6]).await.expect_err("nobody reads the end");
        assert_eq!((error.kind(), start.elapsed().as_secs()), (io::ErrorKind::TimedOut, 80 + 30));
        drop(slow_reader.await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_worth_what_its_client_is_about() {
        let (mut patient, phase, mut client) = patient();
        assert_eq!(phase.worth(Instant::now()).0, Worth::UnderWay, "nobody has looked yet");
        let second = Duration::from_secs(1);
        tokio::time::timeout(second, patient.read_u8()).await.expect_err("nothing has come yet");
        assert_eq!(phase.worth(Instant::now()), (Worth::Unfinished, second));
        phase.header_is_complete();
        sleep(Duration::from_secs(2)).await;
        assert_eq!(phase.worth(Instant::now()), (Worth::UnderWay, Duration::from_secs(2)));
        phase.response_is_whole();
        assert_eq!(phase.worth(Instant::now()).0, Worth::UnderWay, "the client has not taken it yet");
        patient.flush().await.expect("nothing is left to send");
        sleep(Duration::from_secs(3)).await;
        assert_eq!(phase.worth(Instant::now()), (Worth::Idle, Duration::from_secs(3)));
        client.write_u8(b'G').await.expect("the connection is there");
        patient.read_u8().await.expect("a byte");
        assert_eq!(phase.worth(Instant::now()).0, Worth::Unfinished, "the next header has begun");
    }

    /// Takes what it is given and passes nothing on, as TLS does whose socket is full.
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
    async fn a_response_that_is_not_passed_on_is_under_way_and_bounded() {
        let phase = Phase::fresh(Arc::default());
        let mut patient = Patient::new(Unsent, phase.clone(), &Limits::default());
        phase.header_is_complete();
        patient.write_all(b"a response").await.expect("it is taken");
        phase.response_is_whole();
        let start = Instant::now();
        let error = patient.flush().await.expect_err("it goes no further");
        assert_eq!((error.kind(), start.elapsed().as_secs()), (io::ErrorKind::TimedOut, 30));
        assert_eq!(phase.worth(Instant::now()).0, Worth::UnderWay);
    }
}
