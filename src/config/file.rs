//! Reading the files that a configuration is made of.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Far more than a thousand targets, or a long chain of certificates, need. A mistaken `--config.file=/dev/zero` ends
/// here.
const MAX_BYTES: u64 = 1 << 20;

/// The bytes of a file.
///
/// # Errors
/// Where there is none, or too many; the text completes a sentence that begins with the file.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    let length = read.map_err(|error| format!("can't be read: {error}"))?;
    if u64::try_from(length).is_ok_and(|length| length <= MAX_BYTES) {
        Ok(bytes)
    } else {
        Err(format!("is larger than {MAX_BYTES} bytes; a configuration is not"))
    }
}

/// The text of a file.
///
/// # Errors
/// As [`bytes()`], and where it is no text.
pub(super) fn text(path: &Path) -> Result<String, String> {
    String::from_utf8(bytes(path)?)
        .map_err(|error| format!("is not UTF-8 text, from byte {} on", error.utf8_error().valid_up_to()))
}
