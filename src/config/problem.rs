//! What is wrong with a configuration: every problem in one line, with no secret in it.

use std::fmt;

use figment::value::Value;

use super::path::KeyPath;

/// The longest given text that is repeated in a problem, in characters; the rest is cut.
const SHOWN_CHARS: usize = 64;

/// One thing that is wrong. Displays as one line: `exporter.yml: refresh.interval: "60" is not a duration; …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    source: String,
    key: String,
    reason: String,
}

impl Problem {
    pub(super) fn new(source: &str, key: &KeyPath, reason: impl Into<String>) -> Self {
        Self { source: escaped(source), key: key.to_string(), reason: reason.into() }
    }

    /// A problem with a source as a whole, such as a file that can't be read.
    pub(super) fn with_source(source: &str, reason: impl Into<String>) -> Self {
        Self::new(source, &KeyPath::root(), reason)
    }

    /// Where the value came from: the path of a file, the name of an environment variable, or a flag.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The full path of the key, such as `targets[1].account_id`; `None` where a source as a whole is at fault.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        Some(self.key.as_str()).filter(|key| !key.is_empty())
    }

    /// What was given and what is accepted.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key() {
            Some(key) => write!(f, "{}: {key}: {}", self.source, self.reason),
            None => write!(f, "{}: {}", self.source, self.reason),
        }
    }
}

/// Everything that is wrong with a configuration, at least one problem. Displays as one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self(problems)
    }

    /// The problems, those of the sources first, then those of single keys, then those of rules between keys.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A given value as a problem repeats it.
pub(super) fn given(value: &Value, secret: bool) -> String {
    match value {
        Value::Dict(..) => "a mapping".to_owned(),
        Value::Array(..) => "a list".to_owned(),
        Value::Empty(..) => "nothing".to_owned(),
        _ if secret => "the value (a secret, not shown)".to_owned(),
        Value::String(_, text) if may_hold_credentials(text) => {
            "the value (not shown, as it may hold credentials)".to_owned()
        }
        Value::String(_, text) => format!("\"{}\"", abridged(text)),
        Value::Char(_, c) => format!("\"{}\"", c.escape_debug()),
        Value::Bool(_, truth) => truth.to_string(),
        Value::Num(_, num) => match (num.to_u128(), num.to_i128(), num.to_f64()) {
            (Some(whole), ..) => whole.to_string(),
            (_, Some(whole), _) => whole.to_string(),
            // `Display` would write 1e300 with 300 zeros.
            (_, _, Some(float)) => format!("{float:?}"),
            _ => "a number".to_owned(),
        },
    }
}

/// The sort of a value, for where the value itself is not repeated.
pub(super) fn sort(value: &Value) -> &'static str {
    match value {
        Value::Dict(..) => "a mapping",
        Value::Array(..) => "a list",
        Value::Empty(..) => "nothing",
        Value::Bool(..) => "a boolean",
        Value::Num(..) => "a number",
        Value::String(..) | Value::Char(..) => "a text",
    }
}

/// A text on one line and of a sane length.
pub(super) fn abridged(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", text[..end].escape_debug()),
        None => text.escape_debug().to_string(),
    }
}

/// A text on one line; quotes stay as they are.
fn escaped(text: &str) -> String {
    text.chars().map(|c| if "\"'\\".contains(c) { c.to_string() } else { c.escape_debug().to_string() }).collect()
}

/// User information stands before an `@`, and signed URLs have their signature in the query.
fn may_hold_credentials(text: &str) -> bool {
    text.contains('@') || (text.contains("://") && text.contains('?'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_of_a_sane_length_whatever_was_given() {
        let value = Value::from("\n\r\u{1b}[31m\u{202e}".repeat(10_000));
        let problem = Problem::new("a\nb.yml", &KeyPath::root().key("x\ny"), given(&value, false));
        let line = problem.to_string();
        assert!(!line.contains(char::is_control) && !line.contains('\u{202e}') && line.len() < 1000, "{line}");
    }

    #[test]
    fn a_text_that_may_hold_credentials_is_not_repeated() {
        for text in ["https://me:hunter2@host", "hunter2@host", "https://host/?X-Amz-Signature=hunter2"] {
            assert!(!given(&Value::from(text), false).contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn numbers_are_repeated_as_yaml_read_them() {
        assert_eq!(given(&Value::from(16u64), false), "16");
        assert_eq!(given(&Value::from(-5i64), false), "-5");
        assert_eq!(given(&Value::from(0.5), false), "0.5");
        assert_eq!(given(&Value::from(u128::MAX), false), u128::MAX.to_string());
        assert_eq!(given(&Value::from(1e300), false), "1e300");
        assert_eq!(given(&Value::from(f64::NAN), false), "NaN");
    }
}
