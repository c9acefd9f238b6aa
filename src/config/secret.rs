//! A text that must not show up in logs or problems.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

/// A secret text, which is erased from memory when it is dropped. Neither `Debug` nor `Display` shows it, so it can stand in
/// anything that is logged.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes `text` for a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into().into())
    }

    /// The secret itself, for the one call that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// Tells a changed configuration from an equal one; nothing that a client sends is compared.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_had_by_asking_for_it_only() {
        let secret = Secret::new("hunter2");
        assert_eq!(secret.expose(), "hunter2");
        assert!(!format!("{secret} {secret:?} {secret:#?}").contains("hunter2"));
    }
}
