//! The settings of a worker.

use std::time::Duration;

use super::schedule::{self, RunTiming};
use crate::config::{AllJobs, Collectors, Config, Details, Executions, Jobs, Limits, OpenJobs, Target};
use crate::jobs::group_filter::GroupFilter;
use crate::jobs::{AggregateOptions, DetailsOptions, ExecutionsOptions, Scope, SeriesLimits, StoreOptions};

/// The start of a full walk is at least this many durations after the start of the previous one, so that an account
/// with many jobs spends at most a tenth of its time on it.
pub const FULL_WALK_IDLE_FACTOR: u32 = 10;

/// An open walk leaves as much time as it takes.
pub const OPEN_WALK_IDLE_FACTOR: u32 = 2;

/// How a worker collects, and what it publishes.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The collectors of the target.
    pub collectors: Collectors,
    /// The thing groups with their own samples.
    pub thing_groups: GroupFilter,
    /// What is published of single jobs.
    pub jobs: Jobs,
    /// The limits of collection and publication. The rate is not used here: all targets share it.
    pub limits: Limits,
}

impl Settings {
    /// The settings of one target of a configuration.
    #[must_use]
    pub fn new(config: &Config, target: &Target) -> Self {
        let Config { thing_groups, jobs, limits, .. } = config;
        Self {
            collectors: target.collectors.clone(),
            thing_groups: thing_groups.filter(),
            jobs: jobs.clone(),
            limits: limits.clone(),
        }
    }

    /// The timing of open walks.
    pub(super) fn open_timing(&self) -> RunTiming {
        let OpenJobs { interval, stale_after } = self.collectors.open_jobs;
        RunTiming { interval, idle_factor: OPEN_WALK_IDLE_FACTOR, retries_sooner: false, stale_after }
    }

    /// The timing of full walks.
    pub(super) fn full_timing(&self) -> RunTiming {
        let AllJobs { interval, stale_after, .. } = self.collectors.all_jobs;
        RunTiming { interval, idle_factor: FULL_WALK_IDLE_FACTOR, retries_sooner: true, stale_after }
    }

    /// The timeout of a full walk.
    pub(super) const fn full_walk_timeout(&self) -> Duration {
        self.collectors.all_jobs.timeout
    }

    /// Whether full walks run in this scope. A scope with only open statuses has no ended jobs.
    pub(super) fn lists_ended(&self, scope: &Scope) -> bool {
        let names_ended = scope.statuses.is_empty() || scope.statuses.iter().any(|status| !status.is_open());
        self.collectors.all_jobs.enabled && names_ended
    }

    pub(super) fn store_options(&self, scope: &Scope) -> StoreOptions {
        StoreOptions {
            scope: scope.clone(),
            open_interval: self.collectors.open_jobs.interval,
            lists_ended: self.lists_ended(scope),
            ended_within: self.jobs.ended_within,
            details: self.details_options(),
            executions: self.executions_options(),
            tag_keys: self.collectors.tags.keys.as_slice().into(),
        }
    }

    fn details_options(&self) -> Option<DetailsOptions> {
        let Details { enabled, interval, max_interval, stale_after } = self.collectors.details;
        let stale_after = stale_after.unwrap_or_else(|| schedule::stale_after(max_interval));
        enabled.then_some(DetailsOptions { interval, max_interval, stale_after })
    }

    fn executions_options(&self) -> Option<ExecutionsOptions> {
        let Executions { enabled, interval, stale_after } = self.collectors.executions;
        (enabled && self.collectors.details.enabled).then_some(ExecutionsOptions {
            interval,
            stale_after: stale_after.unwrap_or_else(|| schedule::stale_after(interval)),
            stuck_after: self.jobs.stuck_after,
            stuck_after_windowed: self.jobs.stuck_after_windowed,
            things_per_job: size(self.limits.things_per_job),
        })
    }

    pub(super) fn aggregate_options(&self) -> AggregateOptions {
        let Limits { max_thing_groups, max_jobs, max_ended_jobs, things_per_job, .. } = self.limits;
        let series = SeriesLimits { open: size(max_jobs), ended: size(max_ended_jobs), things: size(things_per_job) };
        AggregateOptions {
            filter: self.thing_groups.clone(),
            max_thing_groups: size(max_thing_groups),
            series: self.jobs.series.then_some(series),
        }
    }
}

fn size(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}
