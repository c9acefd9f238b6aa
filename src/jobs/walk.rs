//! Collects the results of a walk over the pages of `ListJobs`. A failed walk is dropped, and changes nothing.

use std::collections::{BTreeMap, HashMap};

use super::ended_jobs::{EndedJobs, EndedJobsBuilder};
use super::{Job, JobId, JobSummary, Timepoint, Timestamp};

/// The size of a walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkStats {
    /// The number of jobs, each counted once.
    pub jobs: usize,
    /// The number of repeated summaries.
    pub duplicates: usize,
    /// The number of summaries without an id, a status or a target selection.
    pub malformed: usize,
}

/// Counts summaries.
#[derive(Clone, Copy, Debug, Default)]
struct SummaryCounter {
    of_jobs: usize,
    malformed: usize,
}

impl SummaryCounter {
    /// Counts a summary and returns its id. A summary without an id is not counted as a job: it could be any of the
    /// others.
    fn id<'a>(&mut self, summary: &'a JobSummary) -> Option<&'a str> {
        let id = summary.id();
        let is_malformed = id.is_none() || summary.status.is_none() || summary.target_selection.is_none();
        self.malformed += usize::from(is_malformed);
        self.of_jobs += usize::from(id.is_some());
        id
    }

    const fn stats(self, jobs: usize) -> WalkStats {
        WalkStats { jobs, duplicates: self.of_jobs.saturating_sub(jobs), malformed: self.malformed }
    }
}

/// The open jobs, from one walk for each open status. A later summary of an id replaces an earlier one.
#[derive(Debug, Default)]
pub struct OpenWalk {
    jobs: BTreeMap<JobId, Job>,
    counter: SummaryCounter,
}

impl OpenWalk {
    /// Adds a summary.
    pub fn insert(&mut self, summary: &JobSummary) {
        let Some(id) = self.counter.id(summary) else { return };
        let job = Job::from(summary);
        if job.status.is_open() {
            self.jobs.insert(id.into(), job);
        } else {
            // Some emulators ignore the filter. Such a job does not belong to this walk.
            self.counter.of_jobs -= 1;
            self.jobs.remove(id);
        }
    }

    /// The size of the walk.
    #[must_use]
    pub fn stats(&self) -> WalkStats {
        self.counter.stats(self.jobs.len())
    }

    pub(super) fn into_jobs(self) -> BTreeMap<JobId, Job> {
        self.jobs
    }
}

/// Every job of a target. A later summary of an id replaces an earlier one.
#[derive(Debug)]
pub struct FullWalk {
    started: Timepoint,
    ended_since: Timestamp,
    ended: EndedJobsBuilder,
    /// The jobs that are open or ended recently. Every summary looks for an earlier one of its id here.
    records: HashMap<JobId, Job>,
    counter: SummaryCounter,
}

/// The result of a complete full walk.
#[derive(Debug)]
pub struct FullWalkResult {
    pub(super) started: Timepoint,
    pub(super) ended: EndedJobs,
    /// The jobs that ended recently.
    pub(super) recent: BTreeMap<JobId, Job>,
    pub(super) open: BTreeMap<JobId, Job>,
    counter: SummaryCounter,
}

impl FullWalk {
    /// A new walk. Jobs that ended at `ended_since` or later are kept as records. `ended_jobs` is the initial
    /// capacity.
    #[must_use]
    pub fn new(started: Timepoint, ended_since: Timestamp, ended_jobs: usize) -> Self {
        Self {
            started,
            ended_since,
            ended: EndedJobsBuilder::with_capacity(ended_jobs),
            records: HashMap::new(),
            counter: SummaryCounter::default(),
        }
    }

    /// Adds a summary.
    pub fn insert(&mut self, summary: &JobSummary) {
        let Some(id) = self.counter.id(summary) else { return };
        let job = Job::from(summary);
        let is_open = job.status.is_open();
        if !is_open {
            self.ended.insert(id, &job.pair());
        }
        // The age of a job without any time is unknown, so it is kept.
        if is_open || job.ended_at().is_none_or(|ended| ended >= self.ended_since) {
            self.records.insert(id.into(), job);
        } else {
            self.records.remove(id);
        }
    }

    /// Ends the walk after its last page.
    #[must_use]
    pub fn finish(self) -> FullWalkResult {
        let Self { started, ended, records, counter, .. } = self;
        let (open, recent): (BTreeMap<_, _>, _) = records.into_iter().partition(|(_, job)| job.status.is_open());
        let ended = ended.finish(open.keys().map(AsRef::as_ref));
        FullWalkResult { started, ended, recent, open, counter }
    }
}

impl FullWalkResult {
    /// The size of the walk.
    #[must_use]
    pub fn stats(&self) -> WalkStats {
        self.counter.stats(self.ended.len() + self.open.len())
    }

    /// The number of open jobs.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// The number of jobs that ended recently.
    #[must_use]
    pub fn ended_recently(&self) -> usize {
        self.recent.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::Status;

    fn summary(id: &str, status: Status) -> JobSummary {
        JobSummary { job_id: Some(id.to_owned()), status: Some(status), ..JobSummary::default() }
    }

    #[test]
    fn a_job_that_is_not_open_is_not_a_duplicate_in_an_open_walk() {
        let mut walk = OpenWalk::default();
        for (id, status) in [
            ("a", Status::InProgress),
            ("b", Status::Completed),
            ("c", Status::from("PAUSED")),
            ("d", Status::InProgress),
            ("d", Status::Completed),
            ("e", Status::InProgress),
            ("e", Status::Scheduled),
        ] {
            walk.insert(&summary(id, status));
        }
        let stats = walk.stats();
        assert_eq!((stats.jobs, stats.duplicates), (2, 2), "d and e were seen twice");
        assert_eq!(walk.into_jobs().len(), 2);
    }
}
