//! One of the two collectors that walk over `ListJobs`: its runs, and its published data.

use std::future::pending;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::log::{self, RunLog};
use super::schedule::{RunSchedule, RunTiming};
use super::walks::Walked;
use crate::jobs::{Part, Timepoint, Timestamp, WalkStats};
use crate::metrics::{
    Collector, Failing, Failure, ListingState, Published, Reason, RunOutcome, RunningWalk, WalkProgress, WalkState,
};

/// A collector whose walks find a `T`.
#[derive(Debug)]
pub(super) struct Listing<T> {
    collector: Collector,
    schedule: RunSchedule,
    /// The current run.
    run: JoinSet<Result<Walked<T>, Failure>>,
    /// When the last successful run ended, or when the first run was scheduled. `None` after that has become stale.
    fresh_since: Option<Timepoint>,
    part: Option<Arc<Part>>,
    last_run: Option<RunOutcome>,
    last_success: Option<Timestamp>,
    last_walk: Option<WalkState>,
    failing_since: Option<Timestamp>,
    progress: Arc<WalkProgress>,
    log: RunLog,
}

/// Counts and logs the runs of a target.
#[derive(Debug)]
pub(super) struct Reporter {
    pub(super) target: String,
    /// Runs that are not counted yet, with the reason of a failure. They are counted together with the publication, so
    /// that no scrape has the count without the data.
    pub(super) finished_runs: Vec<(Collector, Option<Reason>)>,
}

impl<T: Send + 'static> Listing<T> {
    /// A listing without runs.
    pub(super) fn new(collector: Collector, schedule: RunSchedule, now: Timepoint) -> Self {
        Self {
            collector,
            schedule,
            run: JoinSet::new(),
            fresh_since: Some(now),
            part: None,
            last_run: None,
            last_success: None,
            last_walk: None,
            failing_since: None,
            progress: Arc::default(),
            log: RunLog::default(),
        }
    }

    pub(super) const fn schedule(&self) -> &RunSchedule {
        &self.schedule
    }

    pub(super) fn is_due(&self, timing: &RunTiming, now: Instant) -> bool {
        self.schedule.due(timing).is_some_and(|due| due <= now)
    }

    /// Starts a run. The walk reports its pages to the progress that it is given.
    pub(super) fn start<W>(&mut self, walk: impl FnOnce(Arc<WalkProgress>) -> W, now: Instant)
    where
        W: Future<Output = Result<Walked<T>, Failure>> + Send + 'static,
    {
        self.schedule.started(now);
        self.progress = Arc::default();
        self.run.spawn(walk(Arc::clone(&self.progress)));
    }

    /// Whether no run has succeeded.
    pub(super) const fn is_first(&self) -> bool {
        self.last_success.is_none()
    }

    /// Cancels the current run, and schedules another one at `now`.
    pub(super) fn restart(&mut self, now: Instant) {
        self.run = JoinSet::new();
        self.schedule.run_at(now);
    }

    /// Waits for the end of the current run. The caller reports it.
    pub(super) async fn finished(&mut self) -> Result<Walked<T>, Failure> {
        match self.run.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(Failure { reason: Reason::Internal, message: "the run panicked".to_owned() }),
            None => pending().await,
        }
    }

    /// Records a successful run.
    pub(super) fn succeeded(&mut self, pages: u64, stats: WalkStats, now: Timepoint, reporter: &mut Reporter) {
        let duration = self.schedule.finished(now.instant, false, fastrand::f64());
        let walk = WalkState { pages, stats };
        if self.fresh_since.replace(now).is_none() && !self.is_first() {
            log::fresh_again(&reporter.target, self.collector);
        }
        self.last_success = Some(now.wall);
        self.failing_since = None;
        self.last_walk = Some(walk);
        self.last_run = Some(RunOutcome { at: now.wall, duration, failure: None });
        reporter.finished_runs.push((self.collector, None));
        self.log.completed(&reporter.target, self.collector, &walk, duration, now);
    }

    /// Records a failed or cancelled run. The data stays.
    pub(super) fn failed(&mut self, failure: Failure, now: Timepoint, reporter: &mut Reporter) {
        self.run = JoinSet::new();
        let duration = self.schedule.finished(now.instant, true, fastrand::f64());
        reporter.finished_runs.push((self.collector, Some(failure.reason)));
        self.failing_since.get_or_insert(now.wall);
        self.log.failed(&reporter.target, self.collector, &failure, now);
        self.last_run = Some(RunOutcome { at: now.wall, duration, failure: Some(failure) });
    }

    pub(super) const fn is_fresh(&self) -> bool {
        self.fresh_since.is_some()
    }

    /// When the data becomes stale.
    pub(super) fn stale_at(&self, timing: &RunTiming) -> Option<Instant> {
        self.fresh_since?.instant.checked_add(self.schedule.stale_after(timing))
    }

    /// Withdraws stale data. Returns whether there was any.
    pub(super) fn expire(&mut self, timing: &RunTiming, now: Timepoint, target: &str) -> bool {
        let stale_after = self.schedule.stale_after(timing);
        let is_stale = self.fresh_since.is_some_and(|since| now.since(since) >= stale_after);
        if is_stale {
            if let Some(at) = self.last_success {
                log::stale(target, self.collector, now.wall.since(at));
            }
            self.withdraw();
        }
        is_stale
    }

    /// Withdraws the data until the next successful run.
    pub(super) fn withdraw(&mut self) {
        (self.fresh_since, self.part) = (None, None);
    }

    /// Shows new data. Without it, the old data stays until it is stale.
    pub(super) fn show(&mut self, part: Option<Part>) {
        // Equal data is not rendered again.
        if let Some(part) = part.filter(|part| self.part.as_deref() != Some(part)) {
            self.part = Some(Arc::new(part));
        }
    }

    pub(super) fn published(&self, timing: &RunTiming) -> Option<Published> {
        let (part, collected) = self.part.clone().zip(self.fresh_since)?;
        Some(Published { part, collected, stale_after: self.schedule.stale_after(timing) })
    }

    pub(super) fn state(&self, timing: &RunTiming) -> ListingState {
        ListingState {
            interval: self.schedule.interval(timing),
            is_fresh: self.is_fresh(),
            last_run: self.last_run.clone(),
            last_success: self.last_success,
            last_walk: self.last_walk,
            failing: self.failing_since.map(|since| Failing { since, runs: self.schedule.failures() }),
            next_run: self.schedule.due(timing),
            first_walk: self
                .schedule
                .running_since()
                .filter(|_| self.is_first())
                .map(|since| RunningWalk { since, progress: Arc::clone(&self.progress) }),
        }
    }
}
