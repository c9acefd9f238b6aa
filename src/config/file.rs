//! Reads the files of a configuration.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::problem::Source;

/// Enough for a thousand targets, or for a long chain of certificates. It stops a mistake such as
/// `--config.file=/dev/zero`.
const MAX_BYTES: u64 = 1 << 20;

/// Why a file is unusable. Displays as the end of a sentence that begins with the file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system could not open or read it.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is larger than 1 MiB.
    #[error("is larger than {MAX_BYTES} bytes, the limit for a configuration")]
    TooLarge,
    /// It is UTF-16, by its byte-order mark or by the zero bytes of ASCII text.
    #[error("is UTF-16; save it as UTF-8")]
    Utf16,
    /// It is not UTF-8.
    #[error("is not UTF-8; the first invalid byte is number {0}")]
    NotUtf8(usize),
}

/// The content of a file, without the byte-order mark that some editors write.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let length = File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if !u64::try_from(length).is_ok_and(|length| length <= MAX_BYTES) {
        return Err(FileError::TooLarge);
    }
    match &bytes[..] {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [1..=255, 0, 1..=255, 0, ..] | [0, 1..=255, 0, 1..=255, ..] => {
            Err(FileError::Utf16)
        }
        [0xef, 0xbb, 0xbf, rest @ ..] => Ok(rest.to_vec()),
        _ => Ok(bytes),
    }
}

/// The text of a file of at most 1 MiB, without a byte-order mark.
///
/// # Errors
/// If the file cannot be read, is too large, or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, FileError> {
    String::from_utf8(bytes(path)?).map_err(|error| FileError::NotUtf8(error.utf8_error().valid_up_to() + 1))
}

/// A file with the time of its last modification, for a message.
pub(super) fn with_time(path: &Path) -> String {
    let name = Source::new(&path.display().to_string(), None);
    let modified = path.metadata().and_then(|metadata| metadata.modified()).ok();
    match modified.and_then(|time| jiff::Timestamp::try_from(time).ok()) {
        Some(time) => format!("{name} (last modified {time:.0})"),
        None => name.to_string(),
    }
}
