//! Points in time: from AWS, and from the exporter's clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A point in time, in milliseconds since the Unix epoch: the precision of AWS IoT.
///
/// # Example
/// ```
/// use std::time::Duration;
///
/// use aws_iot_jobs_exporter::jobs::Timestamp;
///
/// let created = Timestamp::from_secs(1_784_986_200);
/// let ended = created.after(Duration::from_millis(1500));
/// assert_eq!(ended.as_millis(), 1_784_986_201_500);
/// assert_eq!(ended.since(created), Duration::from_millis(1500));
/// assert_eq!(created.since(ended), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The latest valid time of a job, in the year 2527: milliseconds up to it fit into 44 bits.
    pub const LATEST: Self = Self((1 << 44) - 2);

    /// Makes a time from milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Makes a time from whole seconds since the Unix epoch, saturating.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Seconds since the Unix epoch with a fraction, as in Prometheus.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "2^53 ms are 285,000 years")]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// This time plus `duration`, saturating.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// This time minus `duration`, saturating.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// The time from `earlier` to this one; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let millis = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

/// Whether two answers can be about the same creation of a job. It is not documented that all operations use the same
/// fraction of a second. An answer without a time matches any time.
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

/// A point in time on both clocks: the monotonic clock, and the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timepoint {
    /// For durations.
    pub instant: Instant,
    /// For display and for Prometheus.
    pub wall: Timestamp,
}

impl Timepoint {
    /// The time from `earlier` to this one, on the clock where it is longer: the monotonic clock stops while a machine
    /// is suspended, and the wall clock can be set back.
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
