//! Where in the configuration something stands.

use std::fmt;

use super::problem::abridged;

/// A place in the configuration, in two spellings: as it is shown (`targets[1].region`), and as the table of keys
/// writes it (`targets[].region`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyPath {
    shown: String,
    pattern: String,
}

impl KeyPath {
    /// The top of the configuration.
    pub(super) fn root() -> Self {
        Self::default()
    }

    /// The place that the table writes as `pattern`; for paths without a list in them, which have one spelling only.
    pub(super) fn of(pattern: &str) -> Self {
        Self { shown: pattern.to_owned(), pattern: pattern.to_owned() }
    }

    /// The key `name` in this section.
    pub(super) fn key(&self, name: &str) -> Self {
        let dot = if self.shown.is_empty() { "" } else { "." };
        Self {
            shown: format!("{}{dot}{}", self.shown, plain_name(name)),
            pattern: format!("{}{dot}{name}", self.pattern),
        }
    }

    /// The item `index` of this list, counted from 0.
    pub(super) fn item(&self, index: usize) -> Self {
        Self { shown: format!("{}[{index}]", self.shown), pattern: format!("{}[]", self.pattern) }
    }

    /// As the table of keys writes it.
    pub(super) fn pattern(&self) -> &str {
        &self.pattern
    }

    /// As it is shown.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// A key of the table as somebody at this place would write it: `targets[].name` seen from `targets[1].nmae` is
    /// `targets[1].name`.
    pub(super) fn localize(&self, pattern: &str) -> String {
        let list = |text: &str| text.find(']').map(|end| text[..=end].to_owned());
        match (list(&self.shown), list(&self.pattern)) {
            (Some(shown), Some(own)) if pattern.starts_with(&own) => pattern.replacen(&own, &shown, 1),
            _ => pattern.to_owned(),
        }
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// A key's name fit to be shown. `{external_id:x}`, with the blank forgotten, is one key that holds the secret, so a
/// name is shown up to the first character that belongs in none.
fn plain_name(name: &str) -> String {
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
    fn a_path_has_the_index_where_it_is_shown_and_none_where_the_table_is_asked() {
        let path = KeyPath::root().key("targets").item(1).key("region");
        assert_eq!((path.shown(), path.pattern()), ("targets[1].region", "targets[].region"));
    }

    #[test]
    fn a_name_is_shown_up_to_what_belongs_in_no_name() {
        let shown = |name| KeyPath::root().key(name).to_string();
        assert_eq!(shown("external_id:hunter2"), "\"external_id…\"");
        assert_eq!(shown("a\nb"), "\"a…\"");
        assert_eq!(shown("refresh.interval"), "\"refresh.interval\"");
        assert!(shown(&"x".repeat(1_000_000)).len() < 100);
    }

    #[test]
    fn a_key_of_the_table_is_named_as_it_is_written_at_this_place() {
        let here = KeyPath::root().key("targets").item(2).key("nmae");
        assert_eq!(here.localize("targets[].name"), "targets[2].name");
        assert_eq!(here.localize("refresh.interval"), "refresh.interval");
    }
}
