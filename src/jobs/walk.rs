//! What a walk over the pages of `ListJobs` has found so far. A walk that fails is dropped, and changes nothing.

use std::collections::BTreeMap;

use super::ended_jobs::{EndedJobs, EndedJobsBuilder};
use super::{Job, JobId, JobSummary, Timepoint, Timestamp};

/// The size of a walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkStats {
    /// Jobs, each counted once.
    pub jobs: usize,
    /// Summaries of jobs that the walk had seen before.
    pub duplicates: usize,
    /// Summaries without an id, a status or a target selection.
    pub malformed: usize,
}

/// Counts summaries.
#[derive(Clone, Copy, Debug, Default)]
struct Sightings {
    of_jobs: usize,
    malformed: usize,
}

impl Sightings {
    /// Counts a summary and returns its id. A summary without an id is not counted as a job: it could be any of them.
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

/// The open jobs, by one walk for each open status. A later sighting of an id replaces an earlier one.
#[derive(Debug, Default)]
pub struct OpenWalk {
    jobs: BTreeMap<JobId, Job>,
    sightings: Sightings,
}

impl OpenWalk {
    /// Adds a summary.
    pub fn insert(&mut self, summary: &JobSummary) {
        let Some(id) = self.sightings.id(summary) else { return };
        let job = Job::from(summary);
        if job.status.is_open() {
            self.jobs.insert(id.into(), job);
        } else {
            // Some emulators ignore the filter. Such a job is not one of this walk.
            self.sightings.of_jobs -= 1;
            self.jobs.remove(id);
        }
    }

    /// The size of the walk.
    #[must_use]
    pub fn stats(&self) -> WalkStats {
        self.sightings.stats(self.jobs.len())
    }

    pub(super) fn into_jobs(self) -> BTreeMap<JobId, Job> {
        self.jobs
    }
}

/// Every job of a target. A later sighting of an id replaces an earlier one.
#[derive(Debug)]
pub struct FullWalk {
    started: Timepoint,
    ended_since: Timestamp,
    ended: EndedJobsBuilder,
    recent: BTreeMap<JobId, Job>,
    open: BTreeMap<JobId, Job>,
    sightings: Sightings,
}

/// A full walk that is complete.
#[derive(Debug)]
pub struct FullWalkResult {
    pub(super) started: Timepoint,
    pub(super) ended: EndedJobs,
    /// The ended jobs that ended recently.
    pub(super) recent: BTreeMap<JobId, Job>,
    pub(super) open: BTreeMap<JobId, Job>,
    sightings: Sightings,
}

impl FullWalk {
    /// Jobs that ended at `ended_since` or later are kept one by one. There is room for so many `ended_jobs`.
    #[must_use]
    pub fn new(started: Timepoint, ended_since: Timestamp, ended_jobs: usize) -> Self {
        Self {
            started,
            ended_since,
            ended: EndedJobsBuilder::with_capacity(ended_jobs),
            recent: BTreeMap::new(),
            open: BTreeMap::new(),
            sightings: Sightings::default(),
        }
    }

    /// Adds a summary.
    pub fn insert(&mut self, summary: &JobSummary) {
        let Some(id) = self.sightings.id(summary) else { return };
        let job = Job::from(summary);
        if job.status.is_open() {
            self.recent.remove(id);
            self.open.insert(id.into(), job);
            return;
        }
        self.open.remove(id);
        self.ended.insert(id, &job.pair());
        // A job without any time cannot be left out for its age.
        if job.ended_at().is_none_or(|ended| ended >= self.ended_since) {
            self.recent.insert(id.into(), job);
        } else {
            self.recent.remove(id);
        }
    }

    /// Ends the walk after its last page.
    #[must_use]
    pub fn finish(self) -> FullWalkResult {
        let Self { started, ended, recent, open, sightings, .. } = self;
        let ended = ended.finish(open.keys().map(AsRef::as_ref));
        FullWalkResult { started, ended, recent, open, sightings }
    }
}

impl FullWalkResult {
    /// The size of the walk.
    #[must_use]
    pub fn stats(&self) -> WalkStats {
        self.sightings.stats(self.ended.len() + self.open.len())
    }

    /// How many jobs are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// How many jobs ended recently.
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
    fn a_job_that_is_not_open_is_no_duplicate_in_an_open_walk() {
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
