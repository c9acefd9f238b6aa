//! What a server can do to a client other than to answer it.
//!
//! Ordinary handlers answer every request with a whole [`Response`] and need nothing of this. A stand-in for a service
//! that is to be seen failing does: a network, a proxy or an overloaded server shows its clients each of these.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::{BoxFuture, Handler, Request, Response};

/// What becomes of a request.
#[derive(Debug)]
pub enum Reply {
    /// It gets a response, whose [`Body`] may come to a bad end.
    Response(::http::Response<Body>),
    /// It gets nothing. The connection stays open until its client gives up, or the server's drain is over.
    Hang,
    /// Its connection is reset, without a byte of a response: RST, for which the socket lingers for zero seconds.
    Reset,
    /// As [`Reply::Reset`]; and for so long, every connection to this server is reset as soon as it is accepted.
    /// Connections that are open already stay.
    ///
    /// A client sees the reset with its first read or write. A refusal of the system's own, RST in answer to SYN, would
    /// take closing the listening socket, and its port could be somebody else's when it is to be opened again.
    Refuse(Duration),
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self::Response(response.map(Body::whole))
    }
}

/// What decides what becomes of requests, as a [`Handler`] answers them: it is dropped half way when its client goes
/// away, or when the drain is over, and a panic ends its own connection only. See [`replier`] for how to make one.
pub type Replier = Arc<dyn Fn(Request) -> BoxFuture<Reply> + Send + Sync>;

/// Makes a [`Replier`] of an asynchronous function.
pub fn replier<F, Decided>(decide: F) -> Replier
where
    F: Fn(Request) -> Decided + Send + Sync + 'static,
    Decided: Future<Output = Reply> + Send + 'static,
{
    Arc::new(move |request| Box::pin(decide(request)))
}

/// A handler is a replier that always responds.
pub(super) fn responding(handler: Handler) -> Replier {
    Arc::new(move |request| {
        let response = handler(request);
        Box::pin(async move { response.await.into() })
    })
}

/// The body of a response: a whole one, or one that does not keep what its header promises. Its exact size hint is what
/// `Content-Length` announces.
///
/// It needs no connection: whoever reads it elsewhere sees a body that fails where a socket would be closed, and that
/// stays pending where a socket would be silent.
#[derive(Clone, Debug)]
pub struct Body {
    data: Bytes,
    /// Bytes that are announced and not given out yet, those of `data` included.
    announced: u64,
    end: End,
}

/// What follows after the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// What is announced and not there yet, as blanks. Nothing, for a body that is whole.
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

    /// The length of `data` is announced, and `sent` bytes of it are sent; then the connection is closed. One byte at
    /// least is held back.
    #[must_use]
    pub fn truncated(data: Bytes, sent: usize) -> Self {
        Self::cut(data, sent, End::Failure)
    }

    /// The length of `data` is announced, and `sent` bytes of it are sent; then nothing comes any more, and the
    /// connection stays open. One byte at least is held back.
    #[must_use]
    pub fn stalled(data: Bytes, sent: usize) -> Self {
        Self::cut(data, sent, End::Silence)
    }

    /// All of `data`, and blanks up to `size` bytes in all, which are made while they are sent. JSON and XML mean the
    /// same with blanks at their end.
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

/// One after the other, these make any number of blanks.
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
            // Nobody is woken: only the end of the connection ends this.
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
    use http_body_util::BodyExt as _;
    use hyper::body::Body as _;

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
    async fn a_truncated_body_fails_after_what_is_sent() {
        for (sent, expected) in [(0, &b""[..]), (4, b"0123"), (10, b"012345678")] {
            let mut body = Body::truncated(DATA, sent);
            assert_eq!(body.size_hint().exact(), Some(10));
            let mut received = Vec::new();
            let error = loop {
                match body.frame().await.expect("the end is not a good one") {
                    Ok(frame) => received.extend_from_slice(&frame.into_data().expect("data")),
                    Err(error) => break error,
                }
            };
            assert_eq!((received.as_slice(), error.kind()), (expected, io::ErrorKind::UnexpectedEof));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_body_stays_pending_after_what_is_sent() {
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
}
