//! Problems of a configuration, each on one line and without secrets.

use std::collections::BTreeSet;
use std::fmt;

use figment::value::Value;

use super::path::KeyPath;

/// The longest part of a value that a problem repeats.
const MAX_SHOWN_CHARS: usize = 64;

/// A problem. Displays as one line: `exporter.yml:12: jobs.ended_within: "60" is not a duration; …`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The source of the value.
    pub source: Source,
    /// The full path of the key, such as `targets[1].account_id`; `None` if the whole source is invalid.
    pub key: Option<String>,
    /// The value and what is accepted.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, key, reason } = self;
        write!(f, "{source}: {}{reason}", key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default())
    }
}

/// The source of a value. Displays as `exporter.yml:12`, or as the name of a variable or flag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The path of a file, or the name of a variable or flag, on one line.
    pub name: String,
    /// The line in a file, counted from 1.
    pub line: Option<usize>,
}

impl Source {
    pub(super) fn new(name: &str, line: Option<usize>) -> Self {
        // A URL instead of a path, given by mistake, can contain a password.
        if name.contains("://") {
            return Self { name: "a URL (not shown, it may hold credentials)".to_owned(), line };
        }
        // Quotes are not escaped: the name is displayed without quotes.
        let on_one_line = |c: char| if "\"'\\".contains(c) { c.to_string() } else { c.escape_debug().to_string() };
        Self { name: name.chars().map(on_one_line).collect(), line }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl Problem {
    pub(super) fn new(source: Source, key: &KeyPath, reason: impl Into<String>) -> Self {
        let key = Some(key.to_string()).filter(|key| !key.is_empty());
        Self { source, key, reason: reason.into() }
    }

    /// A problem of a whole file or variable.
    pub(super) fn of_source(name: &str, line: Option<usize>, reason: impl Into<String>) -> Self {
        Self::new(Source::new(name, line), &KeyPath::default(), reason)
    }
}

/// All problems of a configuration, at least one, sorted by source and line. Displays one line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// # Errors
    /// All problems, if there is one.
    pub(super) fn check(mut problems: Vec<Problem>) -> Result<(), Self> {
        problems.sort_by(|one, other| one.source.cmp(&other.source));
        // A key that several targets share is read once for each of them.
        let mut seen = BTreeSet::new();
        problems.retain(|problem| seen.insert(problem.clone()));
        if problems.is_empty() { Ok(()) } else { Err(Self(problems)) }
    }
}

/// A value, as problems repeat it.
pub(super) fn given(value: &Value, is_secret: bool) -> String {
    match value.as_str() {
        None => sort(value).to_owned(),
        Some(_) if is_secret => "the value (a secret, not shown)".to_owned(),
        Some(text) if may_hold_credentials(text) => "the value (not shown, it may hold credentials)".to_owned(),
        Some(text) => format!("\"{}\"", abridged(text)),
    }
}

/// Why a value is not the section with these keys.
pub(super) fn not_a_section(value: &Value, keys: &[&str]) -> String {
    format!("is {}, not a section; its keys are {}", sort(value), keys.join(", "))
}

/// The kind of a value. Every scalar is a text: its key determines the meaning.
pub(super) fn sort(value: &Value) -> &'static str {
    match value {
        Value::Dict(..) => "a mapping",
        Value::Array(..) => "a list",
        Value::Empty(..) => "nothing",
        _ => "a single value",
    }
}

/// A text on one line, cut after [`MAX_SHOWN_CHARS`].
pub(super) fn abridged(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", text[..end].escape_debug()),
        None => text.escape_debug().to_string(),
    }
}

/// User information precedes an `@`, and signed URLs have a signature in the query.
fn may_hold_credentials(text: &str) -> bool {
    text.contains('@') || (text.contains("://") && text.contains('?'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_of_limited_length() {
        let value = Value::from("\n\r\u{1b}[31m\u{202e}".repeat(10_000));
        let source = Source::new("a\nb.yml", Some(3));
        let line = Problem::new(source, &KeyPath::default().key("x\ny"), given(&value, false)).to_string();
        assert!(line.starts_with("a\\nb.yml:3: "), "{line}");
        assert!(!line.contains(char::is_control) && !line.contains('\u{202e}') && line.len() < 1000, "{line}");
    }

    #[test]
    fn a_text_that_may_hold_credentials_is_not_repeated() {
        for text in ["https://me:hunter2@host", "hunter2@host", "https://host/?X-Amz-Signature=hunter2"] {
            assert!(!given(&Value::from(text), false).contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn problems_are_ordered_by_source_and_line() {
        let at = |name: &str, line| Problem::of_source(name, line, "");
        let problems = vec![at("b.yml", Some(10)), at("VARIABLE", None), at("b.yml", Some(9)), at("b.yml", None)];
        let problems = Problems::check(problems).expect_err("problems");
        let order: Vec<_> =
            problems.0.iter().map(|problem| (problem.source.name.as_str(), problem.source.line)).collect();
        assert_eq!(order, [("VARIABLE", None), ("b.yml", None), ("b.yml", Some(9)), ("b.yml", Some(10))]);
    }
}
