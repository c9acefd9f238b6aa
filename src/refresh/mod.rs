//! When to walk, and what becomes of it: each target on its own task and schedule, publishing to its place on the board.

mod log;
pub mod walk;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::aws::Connection;
use crate::clock::Clock;
use crate::config::Refresh;
use crate::exposition::board::{Ended, Failure, Good, Identity, State};
use crate::exposition::fragments::Fragments;
use crate::job::{AccountId, Scope};
use crate::snapshot::{Snapshot, Walk};
use crate::telemetry::{Reason, TargetTelemetry};
use log::Log;
use walk::{WalkError, Walked};

/// Refreshes one target for as long as the process runs.
#[derive(Debug)]
pub struct Refresher {
    /// What the target is called.
    pub identity: Arc<Identity>,
    /// Its way to AWS.
    pub connection: Connection,
    /// Its scope.
    pub scope: Scope,
    /// The schedule.
    pub schedule: Refresh,
    /// Pages of a walk at most.
    pub max_pages: u32,
    /// Its counters.
    pub telemetry: TargetTelemetry,
    /// Its place on the board.
    pub board: watch::Sender<State>,
    /// The time.
    pub clock: Clock,
}

impl Refresher {
    /// Refreshes at once, and then on the interval, until it is dropped.
    pub async fn run(self) {
        let mut log = Log::default();
        loop {
            let started = Instant::now();
            let outcome = self.refresh(started).await;
            let took = started.elapsed();
            self.publish(outcome, took, &mut log);
            sleep_until(next_start(started, took, self.schedule.interval, fastrand::f64())).await;
        }
    }

    async fn refresh(&self, started: Instant) -> Result<Snapshot, Failure> {
        let whole = async {
            let account = self.account().await?;
            let (walking, before) = (Instant::now(), self.connection.requests());
            let Walked { counts, pages } = walk::walk(&self.connection, &account, &self.scope, self.max_pages)
                .await
                .map_err(|error: WalkError| Failure { reason: error.reason(), message: error.to_string() })?;
            let (duration, requests) = (walking.elapsed(), self.connection.requests() - before);
            // Credentials that changed in the middle may belong to somebody else.
            self.check_same_account(&account).await?;
            Ok(Snapshot { account, counts, walk: Walk { duration, pages, requests } })
        };
        timeout_at(started + self.schedule.timeout, whole).await.unwrap_or_else(|_| {
            let message = format!("the refresh was not done within refresh.timeout ({:?})", self.schedule.timeout);
            Err(Failure { reason: Reason::Timeout, message })
        })
    }

    async fn account(&self) -> Result<AccountId, Failure> {
        let account = self.connection.account().await;
        account.map_err(|error| Failure { reason: error.reason, message: format!("account id: {error}") })
    }

    async fn check_same_account(&self, before: &AccountId) -> Result<(), Failure> {
        let after = self.account().await?;
        if after == *before {
            return Ok(());
        }
        let message = format!("the credentials changed from account {before} to account {after} during the walk");
        Err(Failure { reason: Reason::AccountMismatch, message })
    }

    /// Puts the outcome on the board, in one step: nothing of a failed refresh but its failure is ever seen. It is counted and
    /// logged after that, so that who hears of a refresh can see what it brought.
    fn publish(&self, outcome: Result<Snapshot, Failure>, took: Duration, log: &mut Log) {
        let now = self.clock.now();
        match outcome {
            Ok(snapshot) => {
                let labels = self.identity.job_labels(snapshot.account.as_str());
                let fragments = Fragments::render(&snapshot, &labels);
                let stale_after = self.schedule.stale_after(snapshot.walk.duration);
                let good = Arc::new(Good { snapshot, fragments, published: now, stale_after });
                let last = Some(Ended { at: now.wall, took, failure: None });
                self.board.send_replace(State { good: Some(Arc::clone(&good)), last });
                self.telemetry.refresh_ended();
                log.succeeded(&self.identity, &good.snapshot);
                log.check_staleness(&self.identity, &self.schedule, took, stale_after);
            }
            Err(failure) => {
                let ended = Ended { at: now.wall, took, failure: Some(failure.clone()) };
                self.board.send_modify(|state| state.last = Some(ended));
                self.telemetry.refresh_failed(failure.reason);
                self.telemetry.refresh_ended();
                log.failed(&self.identity, &failure);
            }
        }
    }
}

/// When the next refresh starts: an interval and a little jitter after this one started, and never sooner after it ended than
/// it took. So a walk that is slower than its interval is followed, not overlapped, and leaves the account half of its time.
fn next_start(started: Instant, took: Duration, interval: Duration, jitter: f64) -> Instant {
    let interval = interval + interval.mul_f64(Refresh::JITTER * jitter);
    started + interval.max(took * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_next_refresh_starts_an_interval_later_with_little_jitter() {
        let (start, minute) = (Instant::now(), Duration::from_mins(1));
        assert_eq!(next_start(start, Duration::from_secs(1), minute, 0.0) - start, minute);
        assert_eq!(next_start(start, Duration::from_secs(1), minute, 1.0) - start, Duration::from_secs(63));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_slow_walk_the_next_starts_no_sooner_than_it_took() {
        let start = Instant::now();
        let (took, interval) = (Duration::from_secs(100), Duration::from_mins(1));
        assert_eq!(next_start(start, took, interval, 0.5) - start, Duration::from_secs(200));
    }
}
