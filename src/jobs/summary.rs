//! The data of `ListJobs` for a job.

use super::{JobArn, Status, TargetSelection, Timestamp};

/// One job as `ListJobs` returns it. **Every field is optional** in the API; none is guessed here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobSummary {
    /// `jobId`, 1 to 64 of `[a-zA-Z0-9_-]`.
    pub job_id: Option<String>,
    /// `jobArn`.
    pub job_arn: Option<String>,
    /// `thingGroupId`: a single id, although a job can have a hundred targets. It is not documented when AWS sets it.
    pub thing_group_id: Option<String>,
    /// `targetSelection`.
    pub target_selection: Option<TargetSelection>,
    /// `status`.
    pub status: Option<Status>,
    /// `createdAt`.
    pub created_at: Option<Timestamp>,
    /// `lastUpdatedAt`.
    pub last_updated_at: Option<Timestamp>,
    /// `completedAt`.
    pub completed_at: Option<Timestamp>,
    /// `isConcurrent`: a rollout or a cancellation is in progress, which counts for the concurrency quota.
    pub is_concurrent: Option<bool>,
}

impl JobSummary {
    /// The job's id: `jobId`, else the last part of `jobArn`. An empty id counts as none.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        let from_arn = || self.job_arn.as_deref().and_then(JobArn::parse).map(|arn| arn.job_id);
        self.job_id.as_deref().filter(|id| !id.is_empty()).or_else(from_arn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_without_an_id_takes_the_last_part_of_its_arn() {
        let arn = Some("arn:aws:iot:eu-west-1:012345678901:job/from-arn".to_owned());
        let summary = JobSummary { job_id: Some(String::new()), job_arn: arn, ..JobSummary::default() };
        assert_eq!(summary.id(), Some("from-arn"));
        assert_eq!(JobSummary::default().id(), None);
    }
}
