//! The users of basic authentication: names, and passwords as bcrypt hashes.

use std::fmt;

use crate::config::Secret;

/// The highest accepted cost. Each step doubles the time of a check, and this one takes some seconds.
const MAX_COST: u32 = 16;

/// A password, as its bcrypt hash.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Secret);

impl PasswordHash {
    /// Parses a bcrypt hash: `$2a$`, `$2b$` or `$2y$`, the cost, the salt and the hash.
    ///
    /// # Errors
    /// If it is not a bcrypt hash, or takes too long to check; the text completes a sentence that begins with the
    /// hash.
    pub fn parse(text: &str) -> Result<Self, String> {
        const ADVICE: &str = "make one with `htpasswd -nBC 10 USER`";
        let parts: bcrypt::HashParts =
            text.parse().map_err(|_| format!("is not the bcrypt hash of a password; {ADVICE}"))?;
        // A faulty implementation made these hashes: it garbled characters other than ASCII.
        if text.starts_with("$2x$") {
            return Err(format!("is a hash of the kind $2x$, which is known to be faulty; {ADVICE}"));
        }
        match parts.get_cost() {
            4..=MAX_COST => Ok(Self(Secret::new(text))),
            cost => Err(format!("has the cost {cost}, and accepted is 4 to {MAX_COST}; {ADVICE}")),
        }
    }

    /// Whether it is the hash of this password. This is slow by design, so call it on a blocking thread. As in all
    /// implementations of bcrypt, only the first 72 bytes count.
    #[must_use]
    pub fn matches(&self, password: &[u8]) -> bool {
        bcrypt::verify(password, self.0.expose()).unwrap_or(false)
    }

    /// The hash itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// Why a user cannot have this name; `None` if it can.
pub(super) fn user_name_error(name: &str) -> Option<&'static str> {
    // RFC 7617, section 2: the first colon ends the name.
    name.contains(':').then_some("has a colon in the name, which basic authentication cannot represent")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(password: &str) -> PasswordHash {
        PasswordHash::parse(&bcrypt::hash(password, 4).expect("a hash")).expect("a hash")
    }

    #[test]
    fn a_hash_matches_its_password_and_no_other() {
        let hash = hash("hunter2");
        assert!(hash.matches(b"hunter2"));
        for other in ["", "hunter", "hunter22", "Hunter2", "hunter2\0"] {
            assert!(!hash.matches(other.as_bytes()), "{other:?}");
        }
    }

    /// Hashes of libxcrypt's `crypt`.
    #[test]
    fn hashes_of_another_implementation_match() {
        for (hash, password) in [
            ("$2y$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.", "hunter2"),
            ("$2b$04$Zyxwvutsrqponmlkjihgfe91EVTbipYuSP7HB4a0NH55cMj08u5tG", "hunter2"),
            ("$2a$10$ZyxwvutsrqponmlkjihgfelfZrhjycgSb.eS1G42GCGpzwhQVOKv2", "pässwörd"),
            ("$2y$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i", &"x".repeat(80)),
        ] {
            assert!(PasswordHash::parse(hash).expect("a hash").matches(password.as_bytes()), "{hash}");
        }
    }

    #[test]
    fn a_slow_or_invalid_hash_is_refused() {
        let tail = "Zyxwvutsrqponmlkjihgfe7pHi7BJMkfwFHFC5GJ9yvJ48moWxaa.";
        assert!(PasswordHash::parse(&format!("$2y$10${tail}")).is_ok());
        for bad in ["", "hunter2", "$2y$10$x", "$1y$10$", "$2y$17$", "$2y$03$", "$2y$31$", "$2x$10$", "$2y$1x$"] {
            let text = if bad.len() == 7 { format!("{bad}{tail}") } else { bad.to_owned() };
            let reason = PasswordHash::parse(&text).expect_err(&text);
            assert!(!reason.contains(tail) && reason.contains("htpasswd"), "{reason}");
        }
    }

    #[test]
    fn a_hash_is_not_shown() {
        assert_eq!(format!("{:?}", hash("hunter2")), "PasswordHash(…)");
    }
}
