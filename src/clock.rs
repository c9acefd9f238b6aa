//! The current time, from a clock that tests can pause.

use std::fmt::{self, Display};
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use tokio::time::Instant;

use crate::jobs::{Timepoint, Timestamp};

/// A time in UTC, as `2026-11-23T02:15:00.5Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0.as_millis()) {
            Ok(time) => Display::fmt(&time, f),
            Err(_) => f.write_str("unknown"),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A duration in its two largest units, for people: `3 d 4 h`, `2 min 5 s` or `40 s`.
pub(crate) struct Age(pub(crate) Duration);

impl Age {
    /// From whole seconds.
    pub(crate) const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }
}

impl Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0.as_secs();
        match secs {
            0..60 => write!(f, "{secs} s"),
            60..3600 => write!(f, "{} min {} s", secs / 60, secs % 60),
            3600..86400 => write!(f, "{} h {} min", secs / 3600, secs / 60 % 60),
            _ => write!(f, "{} d {} h", secs / 86400, secs / 3600 % 24),
        }
    }
}

/// The source of the current time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// If set, the wall clock follows tokio's clock from this point, so that pausing tokio's clock pauses both.
    origin: Option<Timepoint>,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub const fn system() -> Self {
        Self { origin: None }
    }

    /// A clock that shows `wall` now and then follows tokio's clock, paused or not.
    #[must_use]
    pub fn starting_at(wall: Timestamp) -> Self {
        Self { origin: Some(Timepoint { instant: Instant::now(), wall }) }
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> Timepoint {
        let instant = Instant::now();
        let wall = match self.origin {
            Some(origin) => origin.wall.after(instant.saturating_duration_since(origin.instant)),
            None => system_time(),
        };
        Timepoint { instant, wall }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
fn system_time() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_their_two_largest_units() {
        let ages = [40, 125, 3_720, 273_600].map(|secs| Age::from_secs(secs).to_string());
        assert_eq!(ages, ["40 s", "2 min 5 s", "1 h 2 min", "3 d 4 h"]);
    }
}
