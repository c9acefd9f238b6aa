//! The time of day, in a way that tests can pause.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::jobs::Timestamp;

/// A moment on both clocks: the one that only moves forward, and the one on the wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// For durations.
    pub instant: Instant,
    /// For what people and Prometheus see.
    pub wall: Timestamp,
}

impl Moment {
    /// The time from `earlier` to this one, on the clock on which it is longer: the monotonic one stands still while a machine
    /// is suspended, and the wall can be set back.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.instant.saturating_duration_since(earlier.instant).max(self.wall.since(earlier.wall))
    }
}

/// Tells the time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Where set, the wall follows tokio's clock from here on, so that pausing that one pauses both.
    origin: Option<Moment>,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub const fn system() -> Self {
        Self { origin: None }
    }

    /// A clock whose wall shows `wall` now and then keeps pace with tokio's clock, paused or not.
    #[must_use]
    pub fn starting_at(wall: Timestamp) -> Self {
        Self { origin: Some(Moment { instant: Instant::now(), wall }) }
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Moment {
        let instant = Instant::now();
        let wall = match self.origin {
            Some(origin) => origin.wall.after(instant.saturating_duration_since(origin.instant)),
            None => system_time(),
        };
        Moment { instant, wall }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
fn system_time() -> Timestamp {
    Timestamp::from(SystemTime::now())
}
