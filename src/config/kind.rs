//! The kinds of value that keys take, and how each reads what was given.

use std::time::Duration;

use figment::value::{Num, Value};

use super::duration::{self, Shown};
use super::listen::ListenAddress;
use super::nearest::nearest;
use crate::group_filter::GroupFilter;

/// What a key takes.
///
/// A value comes from YAML with a type of its own, or from an environment variable or a flag as a text: numbers,
/// booleans and durations are read from texts too.
pub(super) enum Kind {
    /// A text that fits; `accepted` completes "… is not".
    Text { fits: fn(&str) -> bool, accepted: &'static str },
    /// One of these words.
    Word(fn() -> Vec<&'static str>),
    /// `true` or `false`.
    Boolean,
    /// A span of time, bounds included.
    Duration { min: Duration, max: Duration },
    /// A number with or without a fraction, bounds included.
    Number { min: f64, max: f64 },
    /// A whole number, bounds included.
    Whole { min: u64, max: u64 },
    /// An address to listen on.
    ListenAddress,
    /// A pattern of thing groups' names.
    GroupPattern,
    /// A list of scalars, none of them twice.
    List { of: &'static Kind, min_items: usize },
    /// A list of sections, at least one; their keys are in the table with `[]` in the path.
    Sections,
    /// Label names with their values.
    Labels,
}

/// Why a scalar was not taken.
#[derive(Debug, PartialEq)]
pub(super) enum Refusal {
    /// A text was asked for, and YAML read a number or a boolean: put it in quotes.
    Unquoted,
    /// Completes a sentence that begins with the given value.
    Because(String),
}

impl Kind {
    /// Reads a scalar into the form that the typed configuration takes.
    ///
    /// # Errors
    /// Where the value is not of this kind. Lists, sections and labels are no scalars, and refused.
    pub(super) fn read_scalar(&self, value: &Value) -> Result<Value, Refusal> {
        match self {
            Self::Text { fits, accepted } => {
                let text = text_of(value, accepted)?;
                if fits(text) { Ok(text.into()) } else { Err(is_not(accepted)) }
            }
            Self::Word(words) => read_word(value, &words()),
            Self::Boolean => read_boolean(value),
            Self::Duration { min, max } => read_duration(value, *min, *max),
            Self::Number { min, max } => {
                let number = number_of(value).ok_or_else(|| is_not("a number"))?;
                // NaN is in no range.
                if (*min..=*max).contains(&number) { Ok(number.into()) } else { Err(out_of_range(min, max)) }
            }
            Self::Whole { min, max } => {
                let number = whole_of(value).ok_or_else(|| is_not("a whole number"))?;
                let fitting = u64::try_from(number).ok().filter(|number| (*min..=*max).contains(number));
                fitting.map(Value::from).ok_or_else(|| out_of_range(min, max))
            }
            Self::ListenAddress => {
                let accepted = "a listen address: :PORT or HOST:PORT, such as :10114, 127.0.0.1:10114 or [::1]:10114";
                let address: ListenAddress = text_of(value, accepted)?.parse().map_err(|_| is_not(accepted))?;
                Ok(address.to_string().into())
            }
            Self::GroupPattern => read_group_pattern(value),
            Self::List { .. } | Self::Sections | Self::Labels => Err(is_not("a scalar")),
        }
    }
}

fn read_word(value: &Value, words: &[&'static str]) -> Result<Value, Refusal> {
    let accepted = format!("one of {}", words.join(", "));
    let text = text_of(value, &accepted)?;
    if words.contains(&text) {
        return Ok(text.into());
    }
    Err(is_not(&(accepted + &hint(text, words))))
}

/// What is added to a refusal where one of the words was probably meant.
fn hint(text: &str, words: &[&'static str]) -> String {
    nearest(text, words.iter().copied()).map(|word| format!("; did you mean {word}?")).unwrap_or_default()
}

fn read_boolean(value: &Value) -> Result<Value, Refusal> {
    const ACCEPTED: &str = "true or false";
    match value {
        Value::Bool(_, truth) => Ok((*truth).into()),
        // `parse` takes these two words alone, letter by letter.
        Value::String(_, text) => {
            let truth: Result<bool, _> = text.parse();
            truth.map(Value::from).map_err(|_| is_not(&(ACCEPTED.to_owned() + &hint(text, &["true", "false"]))))
        }
        _ => Err(is_not(ACCEPTED)),
    }
}

fn read_group_pattern(value: &Value) -> Result<Value, Refusal> {
    let text = text_of(value, "a pattern: a thing group's name, or a regular expression in quotes")?;
    match GroupFilter::new(&[text.to_owned()], &[]) {
        Ok(_) => Ok(text.into()),
        Err(invalid) => Err(is_not(&format!("a pattern: {}", invalid.reason))),
    }
}

fn read_duration(value: &Value, min: Duration, max: Duration) -> Result<Value, Refusal> {
    let invalid = |error: duration::InvalidDuration| Refusal::Because(error.to_string());
    let text = value.as_str().ok_or_else(|| invalid(duration::InvalidDuration::Form))?;
    let duration = duration::parse(text).map_err(invalid)?;
    if !(min..=max).contains(&duration) {
        return Err(out_of_range(&Shown(min), &Shown(max)));
    }
    // Nothing here is told apart by less than a millisecond, so two durations that differ by less are the same.
    let whole_millis = Duration::new(duration.as_secs(), duration.subsec_millis() * 1_000_000);
    Value::serialize(whole_millis).map_err(|error| Refusal::Because(error.to_string()))
}

/// The text of a value that must be one; `accepted` says what was asked for.
fn text_of<'a>(value: &'a Value, accepted: &str) -> Result<&'a str, Refusal> {
    match value {
        Value::String(_, text) => Ok(text),
        Value::Num(..) | Value::Bool(..) => Err(Refusal::Unquoted),
        _ => Err(is_not(accepted)),
    }
}

fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::String(_, text) => text.parse().ok(),
        Value::Num(_, Num::F64(number)) => Some(*number),
        // Every bound lies inside an `i32`, so that what does not fit one is out of range either way.
        Value::Num(..) => whole_of(value).map(|whole| f64::from(i32::try_from(whole).unwrap_or(i32::MAX))),
        _ => None,
    }
}

fn whole_of(value: &Value) -> Option<i128> {
    match value {
        Value::String(_, text) => text.parse().ok(),
        Value::Num(_, number) => number.to_i128().or_else(|| number.to_u128().map(saturated)),
        _ => None,
    }
}

fn saturated(number: u128) -> i128 {
    i128::try_from(number).unwrap_or(i128::MAX)
}

fn is_not(accepted: &str) -> Refusal {
    Refusal::Because(format!("is not {accepted}"))
}

fn out_of_range(min: &impl std::fmt::Display, max: &impl std::fmt::Display) -> Refusal {
    Refusal::Because(format!("is out of range; accepted is {min} to {max}"))
}

#[cfg(test)]
mod tests {
    use figment::value::Empty;

    use super::*;

    fn because(kind: &Kind, value: impl Into<Value>) -> String {
        match kind.read_scalar(&value.into()) {
            Err(Refusal::Because(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    const DIGIT: Kind = Kind::Text { fits: |text| text.len() == 1, accepted: "one character" };
    const WORD: Kind = Kind::Word(|| vec!["IN_PROGRESS", "COMPLETED"]);
    const SPAN: Kind = Kind::Duration { min: Duration::from_millis(100), max: Duration::from_hours(24) };
    const NUMBER: Kind = Kind::Number { min: 0.01, max: 1000.0 };
    const WHOLE: Kind = Kind::Whole { min: 1, max: 1_000_000 };

    #[test]
    fn a_text_that_does_not_fit_is_refused_and_a_number_is_to_be_quoted() {
        assert_eq!(because(&DIGIT, "ab"), "is not one character");
        assert_eq!(because(&DIGIT, Vec::<Value>::new()), "is not one character");
        assert_eq!(DIGIT.read_scalar(&1u64.into()), Err(Refusal::Unquoted));
        assert_eq!(DIGIT.read_scalar(&true.into()), Err(Refusal::Unquoted));
    }

    #[test]
    fn a_word_is_taken_letter_by_letter_and_the_nearest_one_named() {
        assert_eq!(WORD.read_scalar(&"COMPLETED".into()), Ok("COMPLETED".into()));
        assert_eq!(because(&WORD, "completed"), "is not one of IN_PROGRESS, COMPLETED; did you mean COMPLETED?");
        assert_eq!(because(&WORD, "QUEUED"), "is not one of IN_PROGRESS, COMPLETED");
    }

    #[test]
    fn a_boolean_is_one_or_the_text_of_one() {
        for (value, truth) in
            [(true.into(), true), ("true".into(), true), (false.into(), false), ("false".into(), false)]
        {
            assert_eq!(Kind::Boolean.read_scalar(&value), Ok(truth.into()), "{value:?}");
        }
        for (text, meant) in [("True", "true"), ("ture", "true"), ("FALSE", "false")] {
            assert_eq!(because(&Kind::Boolean, text), format!("is not true or false; did you mean {meant}?"));
        }
        for value in
            [Value::from("yes"), "off".into(), "1".into(), "".into(), " true ".into(), 1u64.into(), Empty::Unit.into()]
        {
            assert!(because(&Kind::Boolean, value.clone()).starts_with("is not true or false"), "{value:?}");
        }
    }

    #[test]
    fn a_group_pattern_is_a_text_that_compiles() {
        for text in ["factory-1", "factory-.*", "(a|b):[0-9]{1,3}"] {
            assert_eq!(Kind::GroupPattern.read_scalar(&text.into()), Ok(text.into()));
        }
        assert_eq!(because(&Kind::GroupPattern, "a("), "is not a pattern: found open group without closing ')'");
        assert!(because(&Kind::GroupPattern, "").starts_with("is not a pattern: it is empty"));
        assert!(because(&Kind::GroupPattern, vec![Value::from("a-z")]).ends_with("a regular expression in quotes"));
        assert_eq!(Kind::GroupPattern.read_scalar(&7u64.into()), Err(Refusal::Unquoted));
    }

    #[test]
    fn durations_are_kept_to_the_millisecond() {
        assert_eq!(SPAN.read_scalar(&"1s1ms999us".into()), SPAN.read_scalar(&"1001ms".into()));
    }

    #[test]
    fn durations_are_bounded_and_need_a_unit() {
        assert!(SPAN.read_scalar(&"100ms".into()).is_ok() && SPAN.read_scalar(&"1d".into()).is_ok());
        assert_eq!(because(&SPAN, "99ms"), "is out of range; accepted is 100ms to 1d");
        assert_eq!(because(&SPAN, "1d 1ms"), "is out of range; accepted is 100ms to 1d");
        for value in [Value::from("60"), Value::from(60u64), Value::from(0.5), Value::from(true)] {
            assert!(because(&SPAN, value).starts_with("is not a duration; write a number with a unit"));
        }
    }

    #[test]
    fn numbers_are_read_from_numbers_and_texts() {
        for value in [Value::from(5u64), Value::from(5.0), Value::from("5"), Value::from("5.0")] {
            assert_eq!(NUMBER.read_scalar(&value), Ok(5.0.into()));
        }
        assert_eq!(WHOLE.read_scalar(&"20000".into()), Ok(20_000u64.into()));
    }

    #[test]
    fn numbers_out_of_range_or_not_finite_are_refused() {
        for value in [0.0, 0.009, 1000.1, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(because(&NUMBER, value), "is out of range; accepted is 0.01 to 1000");
        }
        assert_eq!(because(&NUMBER, u64::MAX), "is out of range; accepted is 0.01 to 1000");
        assert_eq!(because(&NUMBER, "NaN"), "is out of range; accepted is 0.01 to 1000");
        assert_eq!(because(&NUMBER, "five"), "is not a number");
        for value in [Value::from(0u64), Value::from(-1i64), Value::from(1_000_001u64), Value::from(u128::MAX)] {
            assert_eq!(because(&WHOLE, value), "is out of range; accepted is 1 to 1000000");
        }
        for value in [Value::from(1.5), Value::from("1.5"), Value::from(true)] {
            assert_eq!(because(&WHOLE, value), "is not a whole number");
        }
    }
}
