//! The current time, from a clock that tests can pause.

use std::time::SystemTime;

use tokio::time::Instant;

use crate::jobs::{Timepoint, Timestamp};

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
