//! Logs of the collectors. At INFO there is what changes, and one summary of a target each 15 minutes. Single runs are DEBUG.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::jobs::{AccountId, CacheState, CacheStates, Timepoint};
use crate::metrics::{Collector, Failing, Failure, Identity, Published, Reason, TargetState, WalkState, by_collector};

/// A failure that repeats is logged with its cause again after this time.
const REPEAT_AFTER: Duration = Duration::from_mins(10);

/// How far apart the summaries of a target are.
const SUMMARY_INTERVAL: Duration = Duration::from_mins(15);

/// What was logged about a listing.
#[derive(Debug, Default)]
pub(super) struct RunLog {
    has_succeeded: bool,
    /// Failures in a row, and the end of the first of them.
    failing: Option<(u32, Instant)>,
    /// The last failure that was logged with its cause.
    last_failure: Option<((Reason, String), Instant)>,
}

impl RunLog {
    pub(super) fn completed(
        &mut self,
        target: &str,
        collector: Collector,
        walk: &WalkState,
        duration: Duration,
        now: Timepoint,
    ) {
        let collector = collector.as_str();
        let malformed = Some(walk.stats.malformed).filter(|malformed| *malformed > 0);
        let (jobs, pages, duration_seconds) = (walk.stats.jobs, walk.pages, seconds(duration));
        if self.has_succeeded && self.failing.is_none() && malformed.is_none() {
            debug!(%collector, %target, jobs, pages, duration_seconds, "run complete");
        } else {
            info!(%collector, %target, jobs, pages, malformed, duration_seconds, "run complete");
        }
        let Self { failing, .. } = std::mem::replace(self, Self { has_succeeded: true, ..Self::default() });
        if let Some((failures, since)) = failing {
            let failed_for_seconds = seconds(now.instant.saturating_duration_since(since));
            info!(%collector, %target, failures, failed_for_seconds, "collector has recovered");
        }
    }

    pub(super) fn failed(&mut self, target: &str, collector: Collector, failure: &Failure, now: Timepoint) {
        let (failures, since) = self.failing.map_or((1, now.instant), |(runs, since)| (runs.saturating_add(1), since));
        self.failing = Some((failures, since));
        let Failure { reason, message } = failure;
        let collector = collector.as_str();
        // A walk can fail on different pages for the same reason.
        let kind: String = message.chars().filter(|character| !character.is_ascii_digit()).collect();
        let kind = (*reason, kind);
        let failing_for_seconds = seconds(now.instant.saturating_duration_since(since));
        let was_logged = |(last, at): &((Reason, String), Instant)| {
            *last == kind && now.instant.saturating_duration_since(*at) < REPEAT_AFTER
        };
        if self.last_failure.as_ref().is_some_and(was_logged) {
            warn!(%collector, %target, %reason, failures, failing_for_seconds, "run failed again");
            return;
        }
        let advice = reason.advice();
        warn!(%collector, %target, %reason, failures, failing_for_seconds, error = %message, advice, "run failed");
        self.last_failure = Some((kind, now.instant));
    }
}

/// The data of a listing is too old, and is no longer shown.
pub(super) fn stale(target: &str, collector: Collector, age: Duration) {
    let (collector, age_seconds) = (collector.as_str(), seconds(age));
    warn!(%collector, %target, age_seconds, "data is stale and no longer shown");
}

/// Data is shown again after it was stale.
pub(super) fn fresh_again(target: &str, collector: Collector) {
    info!(collector = %collector.as_str(), %target, "data is fresh and shown again");
}

/// The first complete list of an account and region is empty.
pub(super) fn no_jobs(target: &Identity) {
    let Identity { name: target, region, .. } = target;
    warn!(%target, %region, "AWS has no jobs here: check that this is the right account and region");
}

/// When the summaries of a target are logged, and what happened since the last one.
#[derive(Debug)]
pub(super) struct SummaryLog {
    due: Instant,
    runs: u64,
    failed_runs: u64,
}

impl SummaryLog {
    pub(super) fn new(now: Instant) -> Self {
        Self { due: now + SUMMARY_INTERVAL, runs: 0, failed_runs: 0 }
    }

    pub(super) const fn run_ended(&mut self, has_failed: bool) {
        self.runs += 1;
        self.failed_runs += has_failed as u64;
    }

    /// Logs the summary if it is due. Unknown values are left out.
    pub(super) fn log(&mut self, target: &str, state: &TargetState, now: Instant) {
        if now < self.due {
            return;
        }
        let sum = |part: &Option<Published>| part.as_ref().map(|published| published.part.jobs.values().sum::<u64>());
        let (open_jobs, ended_jobs) = (sum(&state.open), sum(&state.ended));
        let progress = state.open.as_ref().and_then(|open| open.part.progress.as_ref());
        let stuck_jobs = progress.map(|progress| progress.stuck.values().sum::<u64>());
        let Self { runs, failed_runs, .. } = *self;
        info!(%target, open_jobs, ended_jobs, stuck_jobs, runs, failed_runs, "summary");
        *self = Self::new(now);
    }
}

/// The failed requests about single jobs, and what was logged about them.
#[derive(Debug, Default)]
pub(super) struct RequestLog {
    failing: BTreeMap<Collector, FailingRequests>,
}

/// The failed requests of a collector, as long as a job of it fails.
#[derive(Debug)]
struct FailingRequests {
    last: Failure,
    failing: Failing,
    /// When each reason was logged last.
    logged: BTreeMap<Reason, Instant>,
}

impl RequestLog {
    /// Logs a failure, unless the same reason was logged within ten minutes.
    pub(super) fn failed(&mut self, target: &str, collector: Collector, failure: &Failure, now: Timepoint) {
        let failing = self.failing.entry(collector).or_insert_with(|| FailingRequests {
            last: failure.clone(),
            failing: Failing { since: now.wall, runs: 0 },
            logged: BTreeMap::new(),
        });
        failing.last = failure.clone();
        failing.failing.runs = failing.failing.runs.saturating_add(1);
        let Failure { reason, message } = failure;
        let last = failing.logged.get(reason);
        if last.is_some_and(|at| now.instant.saturating_duration_since(*at) < REPEAT_AFTER) {
            return;
        }
        failing.logged.insert(*reason, now.instant);
        let Failing { since, runs: failures } = failing.failing;
        let (collector, failing_for_seconds) = (collector.as_str(), seconds(now.wall.since(since)));
        let advice = reason.advice();
        warn!(%collector, %target, %reason, failures, failing_for_seconds, error = %message, advice, "run failed");
    }

    /// Logs collectors that have recovered. `states` has the number of jobs whose last request failed.
    pub(super) fn recovered(&mut self, target: &str, states: &CacheStates) {
        for (collector, states) in by_collector(states) {
            if states.is_some_and(has_failures) {
                continue;
            }
            // A collector that is off has not recovered.
            if self.failing.remove(&collector).is_some() && states.is_some() {
                info!(collector = %collector.as_str(), %target, "collector has recovered");
            }
        }
    }

    /// The last failure of each collector of which a job fails.
    pub(super) fn failures(&self, states: &CacheStates) -> BTreeMap<Collector, (Failure, Failing)> {
        let of_collector = |(collector, states): (Collector, Option<&BTreeMap<CacheState, u64>>)| {
            let FailingRequests { last, failing, .. } = self.failing.get(&collector)?;
            states.is_some_and(has_failures).then(|| (collector, (last.clone(), *failing)))
        };
        by_collector(states).into_iter().filter_map(of_collector).collect()
    }
}

/// Whether the last request about a job failed.
fn has_failures(states: &BTreeMap<CacheState, u64>) -> bool {
    [CacheState::Failing, CacheState::Denied].iter().any(|state| states.get(state).is_some_and(|jobs| *jobs > 0))
}

pub(super) fn account_changed(target: &str, before: &AccountId, after: &AccountId) {
    warn!(%target, %before, %after, "the credentials now belong to another account; the target starts over without data");
}

pub(super) fn overlaps(target: &Identity, other: &Identity) {
    warn!(
        target = %target.name,
        other = %other.name,
        region = %target.region,
        advice = "remove one of the two targets, or give them filters that have no job in common",
        "two targets list the same jobs: sums over targets count each of these jobs twice"
    );
}

/// Rounded to milliseconds, for readability.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
