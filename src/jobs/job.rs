//! A job as the store keeps it.

use std::sync::Arc;

use super::thing_groups::Label;
use super::{JobSummary, Status, TargetSelection, Timestamp, is_thing_group_name, same_creation};

/// A job's id, shared by all records of the job.
pub type JobId = Arc<str>;

/// A status and a target selection: the two labels of every count of jobs. Both are valid label values.
pub type Pair = (Status, TargetSelection);

/// The fields of `ListJobs` for a job, with valid label values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// `status`.
    pub status: Status,
    /// `targetSelection`.
    pub target_selection: TargetSelection,
    /// `createdAt`.
    pub created_at: Option<Timestamp>,
    /// `lastUpdatedAt`.
    pub last_updated_at: Option<Timestamp>,
    /// `completedAt`.
    pub completed_at: Option<Timestamp>,
    /// `isConcurrent`.
    pub is_concurrent: Option<bool>,
    /// `thingGroupId`, if it is a valid id.
    pub thing_group_id: Option<Label>,
}

impl From<&JobSummary> for Job {
    fn from(summary: &JobSummary) -> Self {
        Self {
            status: Status::label(summary.status.as_ref()),
            target_selection: TargetSelection::label(summary.target_selection.as_ref()),
            created_at: summary.created_at,
            last_updated_at: summary.last_updated_at,
            completed_at: summary.completed_at,
            is_concurrent: summary.is_concurrent,
            thing_group_id: summary.thing_group_id.as_deref().filter(|id| is_thing_group_name(id)).map(Into::into),
        }
    }
}

impl Job {
    /// Status and target selection.
    #[must_use]
    pub fn pair(&self) -> Pair {
        (self.status.clone(), self.target_selection.clone())
    }

    /// When an ended job ended: `completedAt`, else `lastUpdatedAt`, else `createdAt`.
    #[must_use]
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.completed_at.or(self.last_updated_at).or(self.created_at)
    }

    /// This job with the fields of a newer answer of `DescribeJob`. Fields that the answer omits stay, if it is the
    /// same job.
    #[must_use]
    pub fn updated(&self, answer: &JobSummary) -> Self {
        let job = Self::from(answer);
        if !same_creation(self.created_at, job.created_at) {
            return job;
        }
        Self {
            status: answer.status.as_ref().map_or_else(|| self.status.clone(), |_| job.status),
            target_selection: answer
                .target_selection
                .as_ref()
                .map_or_else(|| self.target_selection.clone(), |_| job.target_selection),
            created_at: job.created_at.or(self.created_at),
            last_updated_at: job.last_updated_at.or(self.last_updated_at),
            completed_at: job.completed_at.or(self.completed_at),
            is_concurrent: job.is_concurrent.or(self.is_concurrent),
            thing_group_id: job.thing_group_id.or_else(|| self.thing_group_id.clone()),
        }
    }
}
