//! A section of the body that responses share while its samples stay the same.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::OnceCell;

use crate::metrics::gzip::Fragment;

/// Pieces of fewer bytes are copied together: hyper sends at most 64 pieces with one system call, and a body can have
/// thousands of them.
const SMALL_PIECE: usize = 16 << 10;

/// Pieces are copied together up to this many bytes.
const JOINED_PIECE: usize = 256 << 10;

/// A section of the body.
#[derive(Debug)]
pub(super) struct Section {
    pieces: Arc<[Bytes]>,
    /// After the first client has requested it.
    gzip: OnceCell<Fragment>,
}

impl Section {
    fn new(pieces: &[Bytes]) -> Self {
        Self { pieces: joined(pieces).into(), gzip: OnceCell::new() }
    }

    /// The lines, in pieces.
    pub(super) const fn pieces(&self) -> &Arc<[Bytes]> {
        &self.pieces
    }

    /// The compressed lines.
    ///
    /// Compressed on a blocking thread, so that other requests do not wait: it takes tens of milliseconds for some
    /// megabytes.
    ///
    /// # Errors
    /// If they cannot be compressed.
    pub(super) async fn gzip(&self) -> io::Result<&Fragment> {
        let compress = || async {
            let pieces = Arc::clone(&self.pieces);
            tokio::task::spawn_blocking(move || Fragment::compress(&*pieces)).await?
        };
        self.gzip.get_or_try_init(compress).await
    }
}

/// Copies small pieces together.
pub(super) fn joined(pieces: &[Bytes]) -> Vec<Bytes> {
    let (mut joined, mut small) = (Vec::new(), BytesMut::new());
    for piece in pieces {
        let is_small = piece.len() < SMALL_PIECE;
        if !small.is_empty() && (!is_small || small.len() + piece.len() > JOINED_PIECE) {
            joined.push(small.split().freeze());
        }
        if is_small {
            small.extend_from_slice(piece);
        } else {
            joined.push(piece.clone());
        }
    }
    joined.extend((!small.is_empty()).then(|| small.freeze()));
    joined
}

/// The last section.
#[derive(Debug)]
pub(super) struct SectionCache<T>(Mutex<Option<Made<T>>>);

/// A section, and what it was made from.
#[derive(Debug)]
struct Made<T> {
    sources: Vec<Arc<T>>,
    section: Arc<Section>,
}

impl<T> Default for SectionCache<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> SectionCache<T> {
    /// The section of these sources: the last one, if it was made from the same ones.
    pub(super) fn section(&self, sources: Vec<Arc<T>>, render: impl FnOnce(&[Arc<T>]) -> Vec<Bytes>) -> Arc<Section> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |made: &&Made<T>| {
            made.sources.len() == sources.len() && made.sources.iter().zip(&sources).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        if let Some(made) = last.as_ref().filter(is_same) {
            return Arc::clone(&made.section);
        }
        let section = Arc::new(Section::new(&render(&sources)));
        *last = Some(Made { sources, section: Arc::clone(&section) });
        section
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::proptests::cases;

    proptest! {
        #![proptest_config(cases(64))]

        #[test]
        fn joined_pieces_have_the_same_bytes_and_only_small_pieces_are_copied(
            lengths in vec(prop_oneof![0..300_usize, SMALL_PIECE - 2..SMALL_PIECE + 2, 0..2 * JOINED_PIECE], 0..40),
        ) {
            let pieces: Vec<Bytes> = lengths.iter().zip(0..).map(|(length, fill)| vec![fill; *length].into()).collect();
            let joined = joined(&pieces);
            prop_assert_eq!(joined.concat(), pieces.concat());
            let is_large = |piece: &&Bytes| piece.len() >= SMALL_PIECE;
            for large in pieces.iter().filter(is_large) {
                prop_assert!(joined.iter().any(|piece| piece.as_ptr() == large.as_ptr()), "a reference and no copy");
            }
            let small: usize = lengths.iter().filter(|length| **length < SMALL_PIECE).sum();
            let large = pieces.iter().filter(is_large).count();
            prop_assert!(joined.len() <= 2 * large + 1 + small / (JOINED_PIECE - SMALL_PIECE), "few pieces");
        }
    }
}
