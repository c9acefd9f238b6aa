//! The body of a response.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::{Frame, SizeHint};

use super::timeouts::ConnectionState;

/// The body of a response: lists of pieces that are sent one after the other and never copied together.
/// Responses can share a list. So a slow client costs only its references to lists, however long the body is.
#[derive(Clone, Debug, Default)]
pub struct ResponseBody {
    lists: VecDeque<Arc<[Bytes]>>,
    /// The number of pieces of the first list that were sent.
    sent: usize,
    /// The number of bytes left to send.
    remaining: usize,
    /// Dropped with the body.
    _tracker: Option<Arc<Tracker>>,
}

/// Reports that a body is complete: hyper drops a body then.
#[derive(Debug)]
struct Tracker(ConnectionState);

impl Drop for Tracker {
    fn drop(&mut self) {
        self.0.response_complete();
    }
}

impl ResponseBody {
    /// The pieces of these lists.
    pub fn new(lists: impl IntoIterator<Item = Arc<[Bytes]>>) -> Self {
        let lists: VecDeque<Arc<[Bytes]>> = lists.into_iter().collect();
        let remaining = lists.iter().flat_map(|list| list.iter()).map(Bytes::len).sum();
        Self { lists, sent: 0, remaining, _tracker: None }
    }

    /// Reports to `state` when the body is complete.
    pub(super) fn tracked_by(self, state: ConnectionState) -> Self {
        Self { _tracker: Some(Arc::new(Tracker(state))), ..self }
    }

    /// The length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.remaining
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.remaining == 0
    }

    /// Copies all pieces into one, for callers that need the whole body.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        let mut whole = BytesMut::with_capacity(self.remaining);
        while let Some(piece) = self.next_piece() {
            whole.extend_from_slice(&piece);
        }
        whole.freeze()
    }

    /// Takes the next piece that is not empty.
    fn next_piece(&mut self) -> Option<Bytes> {
        loop {
            let Some(piece) = self.lists.front()?.get(self.sent) else {
                self.lists.pop_front();
                self.sent = 0;
                continue;
            };
            self.sent += 1;
            if !piece.is_empty() {
                self.remaining -= piece.len();
                return Some(piece.clone());
            }
        }
    }
}

impl From<Bytes> for ResponseBody {
    fn from(whole: Bytes) -> Self {
        Self::new([Arc::from([whole])])
    }
}

impl From<String> for ResponseBody {
    fn from(whole: String) -> Self {
        Bytes::from(whole).into()
    }
}

impl From<&'static str> for ResponseBody {
    fn from(whole: &'static str) -> Self {
        Bytes::from_static(whole.as_bytes()).into()
    }
}

impl hyper::body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.get_mut().next_piece().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use hyper::body::Body as _;

    use super::*;

    #[tokio::test]
    async fn pieces_come_in_order_without_a_copy_and_the_length_counts_down() {
        let shared: Arc<[Bytes]> = ["one ", "", "two "].map(Bytes::from).into();
        let mut body = ResponseBody::new([Arc::clone(&shared), [].into(), ["three", ""].map(Bytes::from).into()]);
        let mut whole = Vec::new();
        for remaining in [13, 9, 5] {
            assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(remaining), false));
            let piece = body.frame().await.expect("a piece").expect("no error").into_data().expect("data");
            assert!(!piece.is_empty(), "an empty piece would end a chunked body");
            whole.push(piece);
        }
        assert_eq!(whole[1].as_ptr(), shared[2].as_ptr(), "a reference and no copy");
        assert!(body.is_end_stream() && body.frame().await.is_none());
        assert_eq!(whole.concat(), b"one two three");
    }
}
