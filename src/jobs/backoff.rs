//! Slows down a collector while all its requests fail.

use std::time::Duration;

use tokio::time::Instant;

/// Why a request about one job failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureReason {
    /// The identity lacks a permission.
    Denied,
    /// There are no valid credentials.
    Credentials,
    /// The endpoint cannot be reached.
    Connection,
    /// Any other reason: it may concern only this job.
    Other,
}

/// A collector pauses after this many consecutive failures for one reason that does not concern single jobs. It equals
/// the largest number of requests in flight.
const PAUSES_AFTER: usize = 8;

/// A paused collector sends one request in this time.
const PAUSED_INTERVAL: Duration = Duration::from_mins(1);

/// The last answers of a collector, without those of jobs that fail again for the same reason.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CollectorBackoff {
    /// Consecutive failures for one reason that does not concern single jobs.
    streak: Option<(FailureReason, usize)>,
    asked_at: Option<Instant>,
}

impl CollectorBackoff {
    pub(super) const fn asked(&mut self, now: Instant) {
        self.asked_at = Some(now);
    }

    pub(super) fn failed(&mut self, reason: FailureReason) {
        self.streak = match self.streak {
            _ if reason == FailureReason::Other => None,
            Some((known, failures)) if known == reason => Some((reason, failures.saturating_add(1))),
            _ => Some((reason, 1)),
        };
    }

    pub(super) const fn succeeded(&mut self) {
        self.streak = None;
    }

    /// Why the collector is paused. `jobs` is the number of jobs that it knows.
    pub(super) fn paused(&self, jobs: usize) -> Option<FailureReason> {
        self.streak.filter(|(_, failures)| *failures >= PAUSES_AFTER.min(jobs)).map(|(reason, _)| reason)
    }

    /// When a paused collector may send its next request; `None` for at once.
    pub(super) fn next_while_paused(&self) -> Option<Instant> {
        self.asked_at.map(|asked| asked + PAUSED_INTERVAL)
    }
}

/// A delay that doubles: `interval × 2^doublings`, at most `max_interval`.
pub(super) fn doubled(interval: Duration, doublings: u32, max_interval: Duration) -> Duration {
    let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
    interval.saturating_mul(factor).min(max_interval)
}
