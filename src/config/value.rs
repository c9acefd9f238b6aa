//! Types of single values: how their text is parsed, and how they are described to people and editors.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::cursor::suggest;
use super::duration::{self, Shown};
use super::secret::Secret;
use super::syntax::matches;

/// Returns why a text is invalid, as the end of a sentence that begins with the text.
type Parse<T> = Box<dyn Fn(&str) -> Result<T, String>>;

/// A single value of type `T`.
pub(super) struct Scalar<T> {
    parse: Parse<T>,
    /// Completes "is not …" and "accepts …".
    pub(super) accepted: String,
    pub(super) schema: Json,
    pub(super) is_secret: bool,
}

impl<T: 'static> Scalar<T> {
    /// `parse` returns why a text is invalid, as the end of a sentence that begins with the text.
    pub(super) fn new(
        accepted: impl Into<String>,
        schema: Json,
        parse: impl Fn(&str) -> Result<T, String> + 'static,
    ) -> Self {
        Self { parse: Box::new(parse), accepted: accepted.into(), schema, is_secret: false }
    }

    /// # Errors
    /// Why the text is invalid.
    pub(super) fn parse(&self, text: &str) -> Result<T, String> {
        (self.parse)(text)
    }

    pub(super) fn map<U: 'static>(self, convert: impl Fn(T) -> U + 'static) -> Scalar<U> {
        let parse = self.parse;
        Scalar {
            parse: Box::new(move |text| parse(text).map(&convert)),
            accepted: self.accepted,
            schema: self.schema,
            is_secret: self.is_secret,
        }
    }
}

impl Scalar<String> {
    /// A text that is never shown.
    pub(super) fn secret(mut self) -> Scalar<Secret> {
        self.is_secret = true;
        self.map(Secret::new)
    }
}

/// A text of 1 to `max_chars` characters that matches `pattern`, a regular expression for the whole text.
pub(super) fn text(pattern: &'static str, max_chars: usize, accepted: &'static str) -> Scalar<String> {
    let schema = json!({ "type": "string", "minLength": 1, "maxLength": max_chars, "pattern": pattern });
    Scalar::new(accepted, schema, move |text| {
        let fits = (1..=max_chars).contains(&text.chars().count()) && matches(pattern, text);
        if fits { Ok(text.to_owned()) } else { Err(format!("is not {accepted}")) }
    })
}

/// A text that `parse` accepts.
pub(super) fn parsed<T: 'static>(accepted: &'static str, parse: fn(&str) -> Option<T>) -> Scalar<T> {
    let schema = json!({ "type": "string" });
    Scalar::new(accepted, schema, move |text| parse(text).ok_or_else(|| format!("is not {accepted}")))
}

/// One of these words.
pub(super) fn word<T: Clone + 'static>(words: &[(&'static str, T)]) -> Scalar<T> {
    word_or_refusal(words, |_| None)
}

/// One of these words. `refuse` returns why other known words are not supported.
pub(super) fn word_or_refusal<T: Clone + 'static>(
    words: &[(&'static str, T)],
    refuse: fn(&str) -> Option<&'static str>,
) -> Scalar<T> {
    let words = words.to_vec();
    let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    let accepted = format!("one of {}", names.join(", "));
    let reason = format!("is not {accepted}");
    Scalar::new(accepted, json!({ "enum": names }), move |text| {
        let found = words.iter().find(|(name, _)| *name == text).map(|(_, meaning)| meaning.clone());
        found.ok_or_else(|| refuse(text).map_or_else(|| format!("{reason}{}", hint(text, &names)), str::to_owned))
    })
}

pub(super) fn boolean() -> Scalar<bool> {
    let schema = json!({ "type": "boolean" });
    Scalar::new("true or false", schema, |text| {
        text.parse().map_err(|_| format!("is not true or false{}", hint(text, &["true", "false"])))
    })
}

fn hint(text: &str, words: &[&'static str]) -> String {
    suggest(text, words.iter().copied()).map(|word| format!("; did you mean {word}?")).unwrap_or_default()
}

/// A number with or without a fraction.
pub(super) fn number(range: RangeInclusive<f64>) -> Scalar<f64> {
    let schema = json!({ "type": "number", "minimum": range.start(), "maximum": range.end() });
    Scalar::new(format!("a number from {} to {}", range.start(), range.end()), schema, move |text| {
        // `parse` accepts "inf" and "NaN", which are in no range.
        let number = text.parse().map_err(|_| "is not a number".to_owned())?;
        in_range(number, &range, &range.start(), &range.end())
    })
}

/// A whole number.
pub(super) fn whole_number(range: RangeInclusive<u32>) -> Scalar<u32> {
    let schema = json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() });
    Scalar::new(format!("a whole number from {} to {}", range.start(), range.end()), schema, move |text| {
        let number: i128 = text.parse().map_err(|_| "is not a whole number".to_owned())?;
        // A number that does not fit into `u32` is in no range.
        in_range(u32::try_from(number).ok(), &(Some(*range.start())..=Some(*range.end())), range.start(), range.end())
            .map(Option::unwrap_or_default)
    })
}

/// A duration, to the millisecond.
pub(super) fn duration(range: RangeInclusive<Duration>) -> Scalar<Duration> {
    let (min, max) = (Shown(*range.start()), Shown(*range.end()));
    let accepted = format!("a duration from {min} to {max}");
    Scalar::new(accepted, json!({ "type": "string", "pattern": "^\\+?[0-9.].*[a-zµ]" }), move |text| {
        let duration = duration::parse(text).map_err(|error| error.to_string())?;
        in_range(duration, &range, &min, &max)
    })
}

fn in_range<T: PartialOrd>(
    value: T,
    range: &RangeInclusive<T>,
    min: &impl Display,
    max: &impl Display,
) -> Result<T, String> {
    if range.contains(&value) { Ok(value) } else { Err(format!("is out of range; accepted: {min} to {max}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_word_gets_the_nearest_one_as_hint() {
        let word = word(&[("IN_PROGRESS", 1), ("COMPLETED", 2)]);
        assert_eq!(word.parse("COMPLETED"), Ok(2));
        assert_eq!(
            word.parse("completed"),
            Err("is not one of IN_PROGRESS, COMPLETED; did you mean COMPLETED?".to_owned())
        );
        assert_eq!(word.parse("QUEUED"), Err("is not one of IN_PROGRESS, COMPLETED".to_owned()));
    }

    #[test]
    fn true_and_false_are_the_only_booleans() {
        assert_eq!((boolean().parse("true"), boolean().parse("false")), (Ok(true), Ok(false)));
        for (text, meant) in [("True", "true"), ("ture", "true"), ("FALSE", "false")] {
            assert_eq!(boolean().parse(text), Err(format!("is not true or false; did you mean {meant}?")));
        }
        for text in ["yes", "off", "1", "", " true "] {
            assert!(boolean().parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations_have_bounds_and_need_a_unit() {
        let span = duration(Duration::from_millis(100)..=Duration::from_hours(24));
        assert!(span.parse("100ms").is_ok() && span.parse("1d").is_ok());
        for text in ["99ms", "1d 1ms"] {
            assert_eq!(span.parse(text), Err("is out of range; accepted: 100ms to 1d".to_owned()));
        }
        for text in ["60", "0.5", "true"] {
            assert!(
                span.parse(text)
                    .is_err_and(|reason| reason.starts_with("is not a duration; write a number with a unit"))
            );
        }
    }

    #[test]
    fn numbers_that_are_out_of_range_or_not_finite_are_refused() {
        let (number, whole) = (number(0.01..=1000.0), whole_number(1..=1_000_000));
        assert_eq!((number.parse("5.0"), whole.parse("20000")), (Ok(5.0), Ok(20_000)));
        for text in ["0", "0.009", "1000.1", "-1", "NaN", "inf", "-inf", "18446744073709551616"] {
            assert_eq!(number.parse(text), Err("is out of range; accepted: 0.01 to 1000".to_owned()));
        }
        for text in ["0", "-1", "1000001", "4294967297", "18446744073709551616"] {
            assert_eq!(whole.parse(text), Err("is out of range; accepted: 1 to 1000000".to_owned()));
        }
        assert_eq!(number.parse("five"), Err("is not a number".to_owned()));
        for text in ["1.5", "true", "0x10", "1_000", ""] {
            assert_eq!(whole.parse(text), Err("is not a whole number".to_owned()));
        }
    }
}
