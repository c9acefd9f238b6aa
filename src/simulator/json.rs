//! Ids and times in the formats of AWS.

use std::hash::{DefaultHasher, Hash, Hasher as _};

use serde_json::{Value, json};

use crate::jobs::Timestamp;

/// A UUID that is always the same for the same `key`.
pub(super) fn uuid_of(key: &impl Hash) -> String {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, key).hash(&mut hasher);
        hasher.finish()
    };
    uuid_from((u128::from(half(0)) << 64) | u128::from(half(1)))
}

/// The text of a random (version 4) UUID whose random bits are `bits`.
pub(super) fn uuid_from(bits: u128) -> String {
    let bits = (bits & !(0xf << 76) & !(0b11 << 62)) | (4 << 76) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// A time in rest-json: seconds since the Unix epoch with a fraction.
pub(super) fn epoch_seconds(time: Timestamp) -> Value {
    json!(time.as_secs_f64())
}

/// `2026-07-25 14:30`: the format of AWS IoT schedules.
pub(super) fn schedule_time(time: Timestamp) -> String {
    utc(time).strftime("%Y-%m-%d %H:%M").to_string()
}

/// `2026-07-25T14:30:00Z`: the format of STS times.
pub(super) fn iso_8601(time: Timestamp) -> String {
    utc(time).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `20260725T143000Z`: the format of a signature's date.
pub(super) fn basic_iso_8601(time: Timestamp) -> String {
    utc(time).strftime(BASIC_ISO_8601).to_string()
}

/// The time of a signature's date.
pub(super) fn from_basic_iso_8601(text: &str) -> Option<Timestamp> {
    let time = jiff::civil::DateTime::strptime(BASIC_ISO_8601, text).ok()?;
    let time = jiff::tz::TimeZone::UTC.to_timestamp(time).ok()?;
    Some(Timestamp::from_millis(time.as_millisecond()))
}

const BASIC_ISO_8601: &str = "%Y%m%dT%H%M%SZ";

/// `Sat, 25 Jul 2026 14:30:00 GMT`: the format of HTTP dates.
pub(super) fn http_date(time: Timestamp) -> String {
    utc(time).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Times before 1970 or after the last one of jiff (9999-12-30) are clamped.
fn utc(time: Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(time.as_millis().max(0)).unwrap_or(jiff::Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_772_323_199, "2026-02-28T23:59:59Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (i64::MAX / 1000, "9999-12-30T22:00:00Z"),
            (-1, "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(iso_8601(Timestamp::from_secs(seconds)), expected);
        }
        assert_eq!(schedule_time(Timestamp::from_secs(1_772_323_199)), "2026-02-28 23:59");
    }

    #[test]
    fn dates_of_headers_and_of_signatures_are_written_in_utc() {
        let time = Timestamp::from_secs(1_784_989_800);
        assert_eq!(http_date(time), "Sat, 25 Jul 2026 14:30:00 GMT");
        assert_eq!(basic_iso_8601(time), "20260725T143000Z");
        assert_eq!(from_basic_iso_8601("20260725T143000Z"), Some(time));
        for text in ["", "2026-07-25T14:30:00Z", "20260725T143000", "20261325T143000Z", "20260725T143000Z."] {
            assert_eq!(from_basic_iso_8601(text), None, "{text:?}");
        }
    }

    #[test]
    fn epoch_seconds_keep_their_milliseconds() {
        assert_eq!(epoch_seconds(Timestamp::from_millis(1_560_787_022_733)).to_string(), "1560787022.733");
    }

    #[test]
    fn uuids_have_the_form_of_version_4() {
        assert_eq!(uuid_from(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid_from(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid_of(&"a"), uuid_of(&"a"));
        assert_ne!(uuid_of(&"a"), uuid_of(&"b"));
    }
}
