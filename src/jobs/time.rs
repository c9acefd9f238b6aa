//! Points in time, as AWS gives them and as the exporter measures them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A point in time, in milliseconds since the Unix epoch: the precision that AWS IoT gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The latest time that is believed of a job, in the year 2527: milliseconds up to it fit into 44 bits.
    pub const LATEST: Self = Self((1 << 44) - 2);

    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From whole seconds since the Unix epoch, saturating.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Seconds since the Unix epoch with a fraction, as Prometheus writes times.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "2^53 ms are 285,000 years")]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// This time moved by `duration` into the future, saturating.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// This time moved by `duration` into the past, saturating.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// The time from `earlier` to this one; zero where `earlier` is the later one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let millis = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

/// Whether two answers can be about the same creation of a job. It is not documented that all operations write times with the same
/// fraction, and an answer without a time contradicts none.
#[must_use]
pub fn same_creation(one: Option<Timestamp>, other: Option<Timestamp>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.0.div_euclid(1000) == other.0.div_euclid(1000),
        _ => true,
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(millis(after)),
            Err(before) => Self(-millis(before.duration())),
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A moment on both clocks: the one that only moves forward, and the one on the wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timepoint {
    /// For durations.
    pub instant: Instant,
    /// For what people and Prometheus see.
    pub wall: Timestamp,
}

impl Timepoint {
    /// The time from `earlier` to this one, on the clock on which it is longer: the monotonic one stands still while a machine
    /// is suspended, and the wall can be set back.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.instant.saturating_duration_since(earlier.instant).max(self.wall.since(earlier.wall))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_saturate_instead_of_wrapping() {
        assert_eq!(Timestamp::from_millis(i64::MIN).before(Duration::MAX), Timestamp::from_millis(i64::MIN));
        assert_eq!(Timestamp::from_millis(i64::MAX).after(Duration::MAX), Timestamp::from_millis(i64::MAX));
        assert_eq!(Timestamp::from_secs(5).since(Timestamp::from_secs(9)), Duration::ZERO);
        assert_eq!(Timestamp::from(UNIX_EPOCH - Duration::from_secs(1)), Timestamp::from_secs(-1));
    }
}
