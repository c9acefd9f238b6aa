//! What a worker can be configured to do.

use std::time::Duration;

use super::schedule::Pace;
use crate::jobs::group_filter::GroupFilter;
use crate::jobs::{AggregateOptions, DetailsOptions, Scope, SeriesLimits, StoreOptions};

/// A full walk starts no sooner after the start of the one before than this many times its duration, so that an account with
/// many jobs spends at most a tenth of its time on it.
pub const FULL_WALK_IDLE_FACTOR: u32 = 10;

/// An open walk leaves as much time as it takes.
pub const OPEN_WALK_IDLE_FACTOR: u32 = 2;

/// How a worker collects, and what it publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `collectors.open_jobs`.
    pub open_jobs: OpenJobs,
    /// `collectors.all_jobs`.
    pub all_jobs: AllJobs,
    /// `collectors.details`.
    pub details: Details,
    /// `thing_groups`: which groups have rows of their own.
    pub thing_groups: GroupFilter,
    /// `jobs`.
    pub jobs: Jobs,
    /// `limits`, without the rate, which all targets share.
    pub limits: Limits,
}

/// The collector of open jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenJobs {
    /// How far apart walks start.
    pub interval: Duration,
    /// For how long data is shown; `None` for three intervals, and at least 10 minutes.
    pub stale_after: Option<Duration>,
}

/// The collector of all jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllJobs {
    /// Without it no ended job is known.
    pub enabled: bool,
    /// How far apart walks start, unless they take longer than a tenth of this.
    pub interval: Duration,
    /// A walk that takes longer fails.
    pub timeout: Duration,
    /// For how long data is shown; `None` for three times the planned interval, and at least 10 minutes.
    pub stale_after: Option<Duration>,
}

/// The collector of details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// Whether jobs are described.
    pub enabled: bool,
    /// A first or a changed answer is due again after this.
    pub interval: Duration,
    /// Equal answers and failures double the interval, up to this.
    pub max_interval: Duration,
    /// For how long execution counts are shown; `None` for three times `max_interval`, and at least 10 minutes.
    pub stale_after: Option<Duration>,
}

/// What is published of single jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jobs {
    /// Whether jobs have series of their own.
    pub series: bool,
    /// Ended jobs are shown one by one, and by thing group, for so long after their end.
    pub ended_within: Duration,
}

/// What is collected and published at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pages of a walk.
    pub max_pages: u32,
    /// Thing groups with rows of their own.
    pub max_thing_groups: usize,
    /// Open jobs with series of their own.
    pub max_jobs: usize,
    /// Ended jobs with series of their own.
    pub max_ended_jobs: usize,
}

impl Default for OpenJobs {
    fn default() -> Self {
        Self { interval: Duration::from_mins(1), stale_after: None }
    }
}

impl Default for AllJobs {
    fn default() -> Self {
        let (interval, timeout) = (Duration::from_mins(15), Duration::from_hours(2));
        Self { enabled: true, interval, timeout, stale_after: None }
    }
}

impl Default for Details {
    fn default() -> Self {
        let (interval, max_interval) = (Duration::from_mins(1), Duration::from_mins(10));
        Self { enabled: true, interval, max_interval, stale_after: None }
    }
}

impl Default for Jobs {
    fn default() -> Self {
        Self { series: true, ended_within: Duration::from_hours(7 * 24) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_pages: 20_000, max_thing_groups: 200, max_jobs: 500, max_ended_jobs: 100 }
    }
}

impl Settings {
    /// How open walks are scheduled.
    pub(super) fn open_pace(&self) -> Pace {
        let OpenJobs { interval, stale_after } = self.open_jobs;
        Pace { interval, idle_factor: OPEN_WALK_IDLE_FACTOR, retries_sooner: false, stale_after }
    }

    /// How full walks are scheduled.
    pub(super) fn full_pace(&self) -> Pace {
        let AllJobs { interval, stale_after, .. } = self.all_jobs;
        Pace { interval, idle_factor: FULL_WALK_IDLE_FACTOR, retries_sooner: true, stale_after }
    }

    /// Whether full walks take place in this scope. One that names only open statuses has no ended jobs.
    pub(super) fn lists_ended(&self, scope: &Scope) -> bool {
        self.all_jobs.enabled && (scope.statuses.is_empty() || scope.statuses.iter().any(|status| !status.is_open()))
    }

    pub(super) fn store_options(&self, scope: &Scope) -> StoreOptions {
        let Details { enabled, interval, max_interval, stale_after } = self.details;
        let stale_after = stale_after.unwrap_or_else(|| super::schedule::stale_after(max_interval));
        StoreOptions {
            scope: scope.clone(),
            open_interval: self.open_jobs.interval,
            lists_ended: self.lists_ended(scope),
            ended_within: self.jobs.ended_within,
            details: enabled.then_some(DetailsOptions { interval, max_interval, stale_after }),
        }
    }

    pub(super) fn aggregate_options(&self) -> AggregateOptions {
        let Limits { max_thing_groups, max_jobs, max_ended_jobs, .. } = self.limits;
        AggregateOptions {
            filter: self.thing_groups.clone(),
            max_thing_groups,
            series: self.jobs.series.then_some(SeriesLimits { open: max_jobs, ended: max_ended_jobs }),
        }
    }
}
