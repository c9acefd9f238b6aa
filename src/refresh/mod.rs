//! When to walk, and what becomes of it: each target on its own task and schedule, publishing to its place on the board.

pub mod walk;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, info, warn};

use crate::aws::Connection;
use crate::clock::Clock;
use crate::config::Refresh;
use crate::exposition::board::{Ended, Failure, Good, Identity, State};
use crate::exposition::fragments::Fragments;
use crate::job::{AccountId, Scope, Status};
use crate::snapshot::{Counts, Snapshot, Walk};
use crate::telemetry::{Reason, TargetTelemetry};
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

    /// Puts the outcome on the board, in one step: nothing of a failed refresh but its failure is ever seen.
    fn publish(&self, outcome: Result<Snapshot, Failure>, took: Duration, log: &mut Log) {
        let now = self.clock.now();
        self.telemetry.refresh_ended();
        let mut ended = Ended { at: now.wall, took, failure: None };
        let good = match outcome {
            Ok(snapshot) => {
                let labels = self.identity.job_labels(snapshot.account.as_str());
                let fragments = Fragments::render(&snapshot, &labels);
                let stale_after = self.schedule.stale_after(snapshot.walk.duration);
                log.succeeded(&self.identity, &snapshot);
                log.check_staleness(&self.identity, &self.schedule, took, stale_after);
                Some(Arc::new(Good { snapshot, fragments, published: now, stale_after }))
            }
            Err(failure) => {
                self.telemetry.refresh_failed(failure.reason);
                log.failed(&self.identity, &failure);
                ended.failure = Some(failure);
                None
            }
        };
        self.board.send_modify(|state| {
            if good.is_some() {
                state.good = good;
            }
            state.last = Some(ended);
        });
    }
}

/// When the next refresh starts: an interval and a little jitter after this one started, and never sooner after it ended than
/// it took. So a walk that is slower than its interval is followed, not overlapped, and leaves the account half of its time.
fn next_start(started: Instant, took: Duration, interval: Duration, jitter: f64) -> Instant {
    let interval = interval + interval.mul_f64(Refresh::JITTER * jitter);
    started + interval.max(took * 2)
}

/// What the log has told of a target, so that it tells a thing once.
#[derive(Debug, Default)]
struct Log {
    failures: u32,
    last_failure: Option<(Reason, String)>,
    told_of_staleness: bool,
    last_counts: Option<(u64, u64)>,
}

impl Log {
    fn succeeded(&mut self, identity: &Identity, snapshot: &Snapshot) {
        let Counts { total, open, duplicates, malformed, .. } = &snapshot.counts;
        let open = open.len() as u64;
        let changed = match self.last_counts.replace((*total, open)) {
            None => "first walk".to_owned(),
            Some(before) if before == (*total, open) => "nothing".to_owned(),
            Some((total_before, open_before)) => {
                format!("{} jobs, {} open", change(total_before, *total), change(open_before, open))
            }
        };
        let in_progress = snapshot.counts.jobs.iter().filter(|((status, _), _)| *status == Status::InProgress);
        let in_progress = in_progress.map(|(_, jobs)| jobs).sum::<u64>();
        let walk = &snapshot.walk;
        info!(
            target = %identity.name,
            region = %identity.region,
            account = %snapshot.account,
            pages = walk.pages,
            jobs = total,
            open,
            in_progress,
            requests = walk.requests,
            duration = ?rounded(walk.duration),
            changed = %changed,
            "{}", if self.failures == 0 { "refreshed" } else { "refreshed again after failures" }
        );
        if *malformed > 0 {
            warn!(target = %identity.name, malformed, "summaries without a job id, a status or a target selection");
        }
        debug!(target = %identity.name, duplicates, failures = self.failures, "walk");
        (self.failures, self.last_failure) = (0, None);
    }

    /// Data that turns stale before it can be renewed comes and goes without any failure.
    fn check_staleness(&mut self, identity: &Identity, schedule: &Refresh, took: Duration, stale_after: Duration) {
        let renewed = schedule.longest_cycle(took);
        if stale_after >= renewed {
            self.told_of_staleness = false;
        } else if !std::mem::replace(&mut self.told_of_staleness, true) {
            warn!(
                target = %identity.name,
                ?stale_after,
                renewed_after = ?rounded(renewed),
                "refresh.stale_after is shorter than it takes to renew the data: raise it, or it disappears between refreshes"
            );
        }
    }

    /// The whole cause and what to do at first and whenever the failure is another; while it lasts, that it does.
    fn failed(&mut self, identity: &Identity, failure: &Failure) {
        self.failures += 1;
        let reason = failure.reason;
        // The page that a walk fails on may well differ from one refresh to the next; it is the same failure.
        let kind: String = failure.message.chars().filter(|character| !character.is_ascii_digit()).collect();
        let kind = Some((reason, kind));
        if std::mem::replace(&mut self.last_failure, kind.clone()) == kind {
            warn!(target = %identity.name, %reason, failures = self.failures, "refresh failed again");
        } else {
            warn!(
                target = %identity.name,
                region = %identity.region,
                %reason,
                error = %failure.message,
                advice = reason.advice(),
                "refresh failed"
            );
        }
    }
}

/// The difference between two counts, with its sign.
fn change(before: u64, after: u64) -> String {
    if after >= before { format!("+{}", after - before) } else { format!("-{}", before - after) }
}

/// To the millisecond, which is what a reader of a log wants.
fn rounded(duration: Duration) -> Duration {
    Duration::from_millis(duration.as_millis().try_into().unwrap_or(u64::MAX))
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

    #[test]
    fn changes_are_told_with_their_sign() {
        assert_eq!((change(5, 7), change(7, 5), change(5, 5)), ("+2".into(), "-2".into(), "+0".into()));
    }
}
