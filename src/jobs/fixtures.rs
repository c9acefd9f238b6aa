//! A small target for tests: a store, a clock, and answers.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Answer, DescribeAnswer, Description, DetailsOptions, ExecutionCounts, ExecutionStatus, ExecutionsOptions,
    FailureReason, JobRequest, JobStore, JobSummary, JobTarget, OpenWalk, Schedule, Scope, StoreOptions, Timepoint,
    Timestamp,
};

pub(super) const START: Timestamp = Timestamp::from_secs(1_700_000_000);
pub(super) const MINUTE: Duration = Duration::from_mins(1);
pub(super) const DAY: Duration = Duration::from_hours(24);

pub(super) fn options() -> StoreOptions {
    StoreOptions {
        scope: Scope::default(),
        open_interval: MINUTE,
        lists_ended: true,
        ended_within: 7 * 24 * 60 * MINUTE,
        details: Some(DetailsOptions { interval: MINUTE, max_interval: 10 * MINUTE, stale_after: 30 * MINUTE }),
        executions: None,
        tag_keys: [].into(),
    }
}

/// The same options, with looks at executions.
pub(super) fn options_with_looks() -> StoreOptions {
    let executions = ExecutionsOptions {
        interval: 30 * MINUTE,
        stale_after: 90 * MINUTE,
        stuck_after: DAY,
        stuck_after_windowed: 14 * DAY,
        things_per_job: 2,
    };
    StoreOptions { executions: Some(executions), ..options() }
}

/// A job that was created and last changed at [`START`].
pub(super) fn job(id: &str, status: &str) -> JobSummary {
    JobSummary {
        job_id: Some(id.to_owned()),
        status: Some(status.into()),
        target_selection: Some("SNAPSHOT".into()),
        created_at: Some(START),
        last_updated_at: Some(START),
        is_concurrent: Some(false),
        ..JobSummary::default()
    }
}

/// A description with this number of queued executions, for these groups.
pub(super) fn description(summary: JobSummary, queued: u32, groups: &[&str]) -> Description {
    let count = |status| if status == ExecutionStatus::Queued { Some(queued) } else { Some(0) };
    let group = |name: &&str| JobTarget::ThingGroup((*name).to_owned());
    Description {
        summary,
        targets: Some(groups.iter().map(group).chain(groups.is_empty().then_some(JobTarget::Thing)).collect()),
        executions: ExecutionCounts::from_fn(count),
        schedule: Schedule::default(),
        abort_criteria: Vec::new(),
        ..Description::default()
    }
}

pub(super) fn found(summary: JobSummary, queued: u32) -> DescribeAnswer {
    Answer::Found(Box::new(description(summary, queued, &["line"])))
}

pub(super) const FAILED: DescribeAnswer = Answer::Failed(FailureReason::Other);

#[derive(Debug)]
pub(super) struct Fixture {
    pub(super) store: JobStore,
    pub(super) now: Timepoint,
}

impl Fixture {
    pub(super) fn new(options: StoreOptions) -> Self {
        Self { store: JobStore::new(options), now: Timepoint { instant: Instant::now(), wall: START } }
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.now = Timepoint { instant: self.now.instant + time, wall: self.now.wall.after(time) };
    }

    pub(super) fn open_walk(&mut self, jobs: &[JobSummary]) {
        let mut walk = OpenWalk::default();
        for job in jobs {
            walk.insert(job);
        }
        self.store.open_walk_done(walk, self.now);
    }

    pub(super) fn full_walk(&mut self, jobs: &[JobSummary]) {
        let mut walk = self.store.start_full_walk(self.now);
        for job in jobs {
            walk.insert(job);
        }
        self.store.full_walk_done(walk.finish(), self.now);
    }

    /// The next request that is due.
    pub(super) fn request(&mut self) -> Option<JobRequest> {
        self.store.next_to_describe(self.now)
    }

    /// Answers the next request that is due, and returns its job id.
    pub(super) fn answer(&mut self, answer: impl FnOnce(&str) -> DescribeAnswer) -> Option<String> {
        let request = self.request()?;
        let answer = answer(&request.id);
        self.store.described(&request, &answer, self.now);
        Some(request.id.to_string())
    }

    /// How long until a request is due.
    pub(super) fn next(&self) -> Option<Duration> {
        Some(self.store.next_due(self.now).min()?.saturating_duration_since(self.now.instant))
    }
}
