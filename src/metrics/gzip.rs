//! One gzip member ([RFC 1952](https://www.rfc-editor.org/rfc/rfc1952)) of fragments that are compressed at different
//! times.
//!
//! Several members would be simpler, but many clients, including curl and browsers, read only the first one.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

/// The start of a member: no name, no time, an unknown system.
pub(super) const HEADER: Bytes = Bytes::from_static(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);

/// The end of a flush, at a byte boundary: an empty stored block.
const SYNC_MARKER: [u8; 4] = [0, 0, 0xff, 0xff];

/// Compressed data that ends at a byte boundary. Any number of members can contain it.
#[derive(Debug)]
pub(super) struct Fragment {
    /// The compressed data.
    pub(super) compressed: Bytes,
    crc: Crc,
}

impl Fragment {
    /// Compresses `pieces`.
    ///
    /// # Errors
    /// If the compressed data does not end at a byte boundary, which would be a fault of flate2.
    pub(super) fn compress<'a>(pieces: impl IntoIterator<Item = &'a Bytes>) -> io::Result<Self> {
        // The fastest level: an exposition repeats itself so much that higher levels gain little for several times the
        // work.
        let (mut encoder, mut crc) = (DeflateEncoder::new(Vec::new(), Compression::fast()), Crc::new());
        for piece in pieces {
            encoder.write_all(piece)?;
            crc.update(piece);
        }
        // A flush ends the last block at a byte boundary and leaves the stream open. With pending output, a flush only
        // writes that output (flate2 1.1.11), so a second one is needed.
        encoder.flush()?;
        encoder.flush()?;
        let mut compressed = std::mem::take(encoder.get_mut());
        if !compressed.ends_with(&SYNC_MARKER) {
            return Err(io::Error::other("the compressed data does not end at a byte boundary"));
        }
        compressed.shrink_to_fit();
        Ok(Self { compressed: compressed.into(), crc })
    }
}

/// The longest block that is stored without compression
/// ([RFC 1951](https://www.rfc-editor.org/rfc/rfc1951#section-3.2.4)).
const MAX_STORED: usize = 65_535;

/// The end of a member of `fragments`: `pieces`, and the checksum.
///
/// The pieces are stored without compression. They differ in each response, and to set up the compressor for a few
/// kilobytes costs more than the rest of a response.
pub(super) fn end(fragments: &[&Fragment], pieces: &[Bytes]) -> Bytes {
    let (mut whole, text) = (Crc::new(), pieces.concat());
    for fragment in fragments {
        whole.combine(&fragment.crc);
    }
    whole.update(&text);
    let mut end = Vec::with_capacity(text.len() + 32);
    for block in text.chunks(MAX_STORED) {
        push_stored(&mut end, false, block);
    }
    push_stored(&mut end, true, &[]);
    end.extend_from_slice(&whole.sum().to_le_bytes());
    end.extend_from_slice(&whole.amount().to_le_bytes());
    end.into()
}

/// Adds a stored block: whether it is the last one, its length, the complement of the length, and its bytes.
fn push_stored(output: &mut Vec<u8>, is_last: bool, block: &[u8]) {
    // A block has at most `MAX_STORED` bytes.
    let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
    output.push(u8::from(is_last));
    output.extend_from_slice(&length.to_le_bytes());
    output.extend_from_slice(&(!length).to_le_bytes());
    output.extend_from_slice(block);
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::bufread::GzDecoder;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::proptests::cases;

    /// What a client reads that stops after one member, and whether that was everything.
    fn read(member: &[u8]) -> (Vec<u8>, bool) {
        let (mut decoder, mut plain) = (GzDecoder::new(member), Vec::new());
        decoder.read_to_end(&mut plain).expect("gzip");
        (plain, decoder.into_inner().is_empty())
    }

    /// The member of these fragments and this end.
    fn member(fragments: &[&Fragment], rest: &[Bytes]) -> Vec<u8> {
        let end = end(fragments, rest);
        let compressed = fragments.iter().map(|fragment| &fragment.compressed);
        [&HEADER].into_iter().chain(compressed).chain([&end]).flat_map(|part| part.to_vec()).collect()
    }

    #[test]
    fn a_large_fragment_serves_several_members() {
        let large: Vec<Bytes> = (0..20_000).map(|n| format!("metric{{n=\"{n}\"}} {}\n", n % 7).into()).collect();
        let fragment = Fragment::compress(&large).expect("gzip");
        assert!(fragment.compressed.len() * 3 < large.iter().map(Bytes::len).sum());
        for rest in ["", "up 1\n", "up 0\n# EOF\n"] {
            let plain = [large.concat(), rest.into()].concat();
            assert_eq!(read(&member(&[&fragment], &[rest.into()])), (plain, true));
        }
    }

    #[test]
    fn pending_output_does_not_hide_the_end_of_a_fragment() {
        // About one of 30 such sizes leaves output pending.
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..400 {
            // Several times the encoder's buffer of 32 KiB, in pieces of all sizes that compress badly.
            let piece = |rng: &mut fastrand::Rng| {
                let length = rng.usize(1..20_000);
                std::iter::repeat_with(|| rng.u8(b'a'..=b'z')).take(length).collect::<Bytes>()
            };
            let pieces: Vec<Bytes> = (0..rng.usize(1..12)).map(|_| piece(&mut rng)).collect();
            let fragment = Fragment::compress(&pieces).expect("a fragment that ends at a byte boundary");
            let plain = [pieces.concat(), b"up 1\n".to_vec()].concat();
            assert!(read(&member(&[&fragment], &["up 1\n".into()])) == (plain, true));
        }
    }

    proptest! {
        #![proptest_config(cases(128))]

        #[test]
        fn any_fragments_are_one_member(
            fragments in vec(vec(vec(any::<u8>(), 0..300), 0..5), 0..4),
            rest in vec(vec(any::<u8>(), 0..40_000), 0..5),
        ) {
            let bytes = |pieces: &Vec<Vec<u8>>| pieces.iter().cloned().map(Bytes::from).collect::<Vec<_>>();
            let compressed: Vec<Fragment> =
                fragments.iter().map(|pieces| Fragment::compress(&bytes(pieces)).expect("gzip")).collect();
            let member = member(&compressed.iter().collect::<Vec<_>>(), &bytes(&rest));
            prop_assert_eq!(read(&member), ([fragments.concat(), rest].concat().concat(), true));
        }
    }
}
