//! Durations such as `30s`, `5m`, `1d`, `1m30s`.

use std::fmt;
use std::time::Duration;

use jiff::SpanRelativeTo;
use jiff::fmt::friendly::SpanParser;

/// Parses a duration, to the millisecond. A day has 24 hours, a week 7 days.
///
/// # Errors
/// If it has no unit, is negative, or has months or years, whose length depends on the calendar.
pub(super) fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    // jiff also accepts 00:05:00, which YAML readers interpret differently.
    let span = SpanParser::new().parse_span(text).ok().filter(|_| !text.contains(':')).ok_or(InvalidDuration::Form)?;
    if span.get_months() != 0 || span.get_years() != 0 {
        return Err(InvalidDuration::Calendar);
    }
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| InvalidDuration::Form)?;
    let duration = Duration::try_from(signed).map_err(|_| InvalidDuration::Negative)?;
    Ok(Duration::new(duration.as_secs(), duration.subsec_millis() * 1_000_000))
}

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidDuration {
    #[error("is not a duration; write a number with a unit, such as 30s, 5m or 1d")]
    Form,
    #[error("has months or years, which have no fixed length; write days, such as 30d")]
    Calendar,
    #[error("is negative; write a number with a unit, such as 30s, 5m or 1d")]
    Negative,
}

/// Displays a duration in the largest unit that gives a whole number.
#[derive(Clone, Copy, Debug)]
pub struct Shown(pub Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u128, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
        let millis = self.0.as_millis();
        match UNITS.into_iter().find(|(unit, _)| millis.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", millis / unit),
            None => write!(f, "{millis}ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for (text, millis) in [
            ("30s", 30_000),
            ("5m", 300_000),
            ("1d", 86_400_000),
            ("1m30s", 90_000),
            ("200ms", 200),
            ("1w", 604_800_000),
            ("1h 30m", 5_400_000),
            ("0.5s", 500),
            ("1s999us", 1000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn durations_without_unit_or_fixed_length_or_with_a_sign_are_refused() {
        for text in ["", "60", "s", "1x", "1s1", "PT5M", "99999999999999999999d", "1e3s", "00:05:00", "\u{0}", "５m"] {
            assert_eq!(parse(text), Err(InvalidDuration::Form), "{text}");
        }
        for text in ["1mo", "1y", "2 years 1d"] {
            assert_eq!(parse(text), Err(InvalidDuration::Calendar), "{text}");
        }
        for text in ["-5m", "5m ago"] {
            assert_eq!(parse(text), Err(InvalidDuration::Negative), "{text}");
        }
    }

    #[test]
    fn a_duration_is_shown_in_its_largest_whole_unit() {
        for text in ["100ms", "1s", "90s", "30m", "7h", "30d"] {
            assert_eq!(parse(text).map(|duration| Shown(duration).to_string()), Ok(text.to_owned()));
        }
    }
}
