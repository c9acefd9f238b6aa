//! Paths of keys in a configuration.

use std::fmt;

use super::problem::abridged;

/// The path of a key or a list item: `targets[1].region`. The root has no parts. The part of an item is its index, as
/// in figment.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyPath(pub(super) Vec<String>);

impl KeyPath {
    /// Parses a path without list items: `web.listen_addresses`.
    pub(super) fn of(text: &str) -> Self {
        Self(text.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    pub(super) fn key(&self, name: &str) -> Self {
        Self(self.0.iter().cloned().chain([name.to_owned()]).collect())
    }

    /// An item of this list, counted from 0.
    pub(super) fn item(&self, index: usize) -> Self {
        self.key(&index.to_string())
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            // Keys are never numbers.
            match part.parse::<usize>() {
                Ok(item) => write!(f, "[{item}]")?,
                Err(_) => write!(f, "{}{}", if index == 0 { "" } else { "." }, printable_name(part))?,
            }
        }
        Ok(())
    }
}

/// A key's name up to the first invalid character. With a forgotten blank, `{external_id:hunter2}` is one key whose
/// name contains the secret.
fn printable_name(name: &str) -> String {
    let plain = name.find(|c: char| !(c.is_alphanumeric() || "_-.".contains(c))).map_or(name, |end| &name[..end]);
    let shown = abridged(plain);
    match (plain.len() == name.len(), shown.len() == plain.len() && !plain.is_empty() && !plain.contains('.')) {
        (true, true) => shown,
        (true, false) => format!("\"{shown}\""),
        (false, _) => format!("\"{shown}…\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_shows_keys_and_the_index_of_items() {
        assert_eq!(KeyPath::of("targets").item(1).key("region").to_string(), "targets[1].region");
        assert_eq!(KeyPath::default().to_string(), "");
    }

    #[test]
    fn a_name_is_shown_up_to_the_first_invalid_character() {
        let shown = |name| KeyPath::default().key(name).to_string();
        assert_eq!(shown("external_id:hunter2"), "\"external_id…\"");
        assert_eq!(shown("a\nb"), "\"a…\"");
        assert_eq!(shown("log.level"), "\"log.level\"");
        assert!(shown(&"x".repeat(1_000_000)).len() < 100);
    }
}
