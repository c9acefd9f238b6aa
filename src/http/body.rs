//! The body of a response.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};

use super::timeouts::ConnectionState;

/// The body of a response: lists of pieces that are sent one after the other and never copied together.
/// Responses can share a list. So a slow client costs only its references to lists, however long the body is.
///
/// hyper gets all pieces in one frame, and sends many of them with one system call. It would not take a second frame while
/// 16 KiB of the first one wait.
#[derive(Debug, Default)]
pub struct ResponseBody {
    lists: VecDeque<Arc<[Bytes]>>,
    /// The number of pieces of the first list that were sent.
    sent: usize,
    /// The number of bytes of the next piece that were sent.
    sent_bytes: usize,
    /// The number of bytes left to send.
    remaining: usize,
    /// Dropped with the body.
    _tracker: Option<Tracker>,
}

/// Reports that a response is written: hyper drops the frame then, or the body if it needs no frame.
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
        Self { lists, remaining, ..Self::default() }
    }

    /// Reports to `state` when the response is written.
    pub(super) fn tracked_by(self, state: ConnectionState) -> Self {
        Self { _tracker: Some(Tracker(state)), ..self }
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
        self.copy_to_bytes(self.remaining)
    }

    /// All pieces.
    #[cfg(test)]
    pub(crate) fn pieces(&self) -> Vec<Bytes> {
        self.lists.iter().flat_map(|list| list.iter().cloned()).collect()
    }

    /// What is left of each piece, without empty ones.
    fn unsent(&self) -> impl Iterator<Item = &[u8]> {
        let pieces = self.lists.iter().flat_map(|list| list.iter()).skip(self.sent);
        let sent_bytes = std::iter::once(self.sent_bytes).chain(std::iter::repeat(0));
        pieces.zip(sent_bytes).filter_map(|(piece, sent)| piece.get(sent..)).filter(|rest| !rest.is_empty())
    }
}

impl Buf for ResponseBody {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.unsent().next().unwrap_or_default()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(self.unsent());
        filled.map(|(slice, rest)| *slice = IoSlice::new(rest)).count()
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining, "{count} bytes of {}", self.remaining);
        self.remaining -= count;
        self.sent_bytes += count;
        while let Some(list) = self.lists.front() {
            match list.get(self.sent) {
                Some(piece) if piece.len() > self.sent_bytes => return,
                Some(piece) => {
                    self.sent += 1;
                    self.sent_bytes -= piece.len();
                }
                None => {
                    self.lists.pop_front();
                    self.sent = 0;
                }
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

impl Body for ResponseBody {
    type Data = Self;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Self>, Infallible>>> {
        let rest = std::mem::take(self.get_mut());
        Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))))
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
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::proptests::cases;

    /// The address of each slice, and their bytes.
    fn slices(body: &ResponseBody) -> (Vec<*const u8>, Vec<u8>) {
        let mut slices = [IoSlice::new(&[]); 64];
        let filled = body.chunks_vectored(&mut slices);
        let slices = &slices[..filled];
        (slices.iter().map(|slice| slice.as_ptr()).collect(), slices.iter().flat_map(|slice| slice.to_vec()).collect())
    }

    #[tokio::test]
    async fn a_body_is_one_frame_of_all_its_pieces_without_a_copy() {
        let shared: Arc<[Bytes]> = ["one ", "", "two "].map(Bytes::from).into();
        let mut body = ResponseBody::new([Arc::clone(&shared), [].into(), ["three", ""].map(Bytes::from).into()]);
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(13), false));
        let mut frame = body.frame().await.expect("a frame").expect("no error").into_data().expect("data");
        assert!(body.is_end_stream() && body.frame().await.is_none());
        let (addresses, bytes) = slices(&frame);
        assert_eq!(addresses[..2], [shared[0].as_ptr(), shared[2].as_ptr()], "references and no copies");
        assert_eq!((addresses.len(), &bytes[..]), (3, &b"one two three"[..]));
        frame.advance(8);
        assert_eq!((Arc::strong_count(&shared), frame.chunk()), (1, &b"three"[..]), "a list that was sent is dropped");
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn what_is_left_follows_what_was_sent(
            lists in vec(vec(vec(any::<u8>(), 0..4), 0..4), 0..4),
            sent in vec(0..7_usize, 0..8),
        ) {
            let mut expected: &[u8] = &lists.concat().concat();
            let mut body = ResponseBody::new(
                lists.iter().map(|list| list.iter().map(|piece| Bytes::from(piece.clone())).collect()),
            );
            for count in sent.into_iter().map(Some).chain([None]) {
                prop_assert_eq!((body.len(), slices(&body).1), (expected.len(), expected.to_vec()));
                prop_assert_eq!(body.chunk().is_empty(), expected.is_empty());
                prop_assert!(expected.starts_with(body.chunk()));
                let count = count.unwrap_or(expected.len()).min(expected.len());
                body.advance(count);
                expected = &expected[count..];
            }
            prop_assert!(body.is_empty() && body.lists.is_empty());
        }
    }
}
