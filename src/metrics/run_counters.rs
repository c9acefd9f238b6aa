//! How often the collectors of a target ran and failed, since the target started.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Collector;
use crate::telemetry::Reason;

/// Counts the runs of each collector: of a listing its walks, of `details` the jobs that were asked for. A reload resets nothing.
#[derive(Debug, Default)]
pub struct RunCounters {
    runs: [AtomicU64; Collector::ALL.len()],
    failures: [[AtomicU64; Reason::ALL.len()]; Collector::ALL.len()],
}

impl RunCounters {
    /// A run has ended, successfully or not.
    pub fn run_ended(&self, collector: Collector) {
        self.runs[collector as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A run that has ended was a failure.
    pub fn run_failed(&self, collector: Collector, reason: Reason) {
        self.failures[collector as usize][reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Runs that have ended.
    #[must_use]
    pub fn runs(&self, collector: Collector) -> u64 {
        self.runs[collector as usize].load(Ordering::Relaxed)
    }

    /// Runs that failed for this reason.
    #[must_use]
    pub fn failures(&self, collector: Collector, reason: Reason) -> u64 {
        self.failures[collector as usize][reason as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_collector_and_each_reason_is_counted_by_itself() {
        let counters = RunCounters::default();
        for collector in Collector::ALL {
            for reason in Reason::ALL {
                counters.run_ended(collector);
                counters.run_failed(collector, *reason);
                assert_eq!(counters.failures(collector, *reason), 1, "{collector:?} {reason}");
            }
            assert_eq!(counters.runs(collector), Reason::ALL.len() as u64, "{collector:?}");
        }
    }
}
