//! Logs of the collectors: one line for each successful run, and only new failures.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::{info, warn};

use crate::jobs::{AccountId, CacheState, CacheStates};
use crate::metrics::{Collector, Failure, Identity, Reason, WalkState, by_collector};

/// What was logged about a listing.
#[derive(Debug, Default)]
pub(super) struct RunLog {
    /// Failures in a row.
    failures: u32,
    last_failure: Option<(Reason, String)>,
}

impl RunLog {
    pub(super) fn completed(&mut self, target: &str, collector: Collector, walk: &WalkState, duration: Duration) {
        let collector = collector.as_str();
        let malformed = Some(walk.stats.malformed).filter(|malformed| *malformed > 0);
        let (jobs, pages) = (walk.stats.jobs, walk.pages);
        info!(%collector, %target, jobs, pages, malformed, duration_seconds = seconds(duration), "run complete");
        let Self { failures, .. } = std::mem::take(self);
        if failures > 0 {
            info!(%collector, %target, failures, "collector has recovered");
        }
    }

    pub(super) fn failed(&mut self, target: &str, collector: Collector, failure: &Failure) {
        self.failures = self.failures.saturating_add(1);
        let Failure { reason, message } = failure;
        let (collector, failures) = (collector.as_str(), self.failures);
        // A walk can fail on different pages for the same reason.
        let kind = message.chars().filter(|character| !character.is_ascii_digit()).collect();
        let kind = Some((*reason, kind));
        if std::mem::replace(&mut self.last_failure, kind.clone()) == kind {
            warn!(%collector, %target, %reason, failures, "run failed again");
        } else {
            warn!(%collector, %target, %reason, error = %message, advice = reason.advice(), "run failed");
        }
    }
}

/// What was logged about failed requests for single jobs. For each collector, a reason is logged once until no job
/// fails any more.
#[derive(Debug, Default)]
pub(super) struct RequestLog {
    reasons: BTreeSet<(Collector, Reason)>,
}

impl RequestLog {
    pub(super) fn failed(&mut self, target: &str, collector: Collector, failure: &Failure) {
        let Failure { reason, message } = failure;
        if self.reasons.insert((collector, *reason)) {
            let collector = collector.as_str();
            warn!(%collector, %target, %reason, error = %message, advice = reason.advice(), "run failed");
        }
    }

    /// `states` has the number of jobs whose last request failed.
    pub(super) fn checked(&mut self, target: &str, states: &CacheStates) {
        for (collector, states) in by_collector(states) {
            let Some(states) = states else {
                self.reasons.retain(|(failed, _)| *failed != collector);
                continue;
            };
            let has_failed = |state| states.get(&state).is_some_and(|jobs| *jobs > 0);
            if has_failed(CacheState::Failing) || has_failed(CacheState::Denied) {
                continue;
            }
            let before = self.reasons.len();
            self.reasons.retain(|(failed, _)| *failed != collector);
            if self.reasons.len() < before {
                info!(collector = %collector.as_str(), %target, "collector has recovered");
            }
        }
    }
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
