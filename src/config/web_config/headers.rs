//! The headers that can be added to every response.

use http::{HeaderName, HeaderValue};

use super::document::Section;

/// Each header that can be configured, with the values that it takes; none means any. The exporter-toolkit's list, to
/// the letter: it takes no others either.
const ALLOWED: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

/// The names, as they are written.
pub(super) fn names() -> Vec<&'static str> {
    ALLOWED.iter().map(|(name, _)| *name).collect()
}

/// Reads the section. A header that is blank is not added.
pub(super) fn read(mut section: Section<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for (name, values) in ALLOWED {
        // `X-XSS-Protection: 1` is a number to YAML.
        let Some(text) = section.text_or_digit(name).filter(|text| !text.trim().is_empty()) else { continue };
        if !values.is_empty() && !values.contains(&text.as_str()) {
            section.is_not(name, &text, &format!("one of {}", values.join(", ")));
            continue;
        }
        // What is not ASCII would be taken, and read by each browser in its own way.
        let value = HeaderValue::try_from(&text).ok().filter(|value| value.to_str().is_ok());
        match (HeaderName::try_from(name), value) {
            (Ok(name), Some(value)) => headers.push((name, value)),
            _ => section.is_not(name, &text, "the value of a header: ASCII on one line"),
        }
    }
    headers
}
