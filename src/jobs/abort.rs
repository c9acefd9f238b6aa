//! The abort criteria of a job.
//!
//! AWS cancels a job that meets one of them. No field of a job reports this, so it is derived from the criteria and
//! the execution counts.
//! Source: [AbortCriteria](https://docs.aws.amazon.com/iot/latest/apireference/API_AbortCriteria.html).

use super::{ExecutionCounts, ExecutionStatus};

/// Executions with a result. Removed and canceled ones have none.
const FINISHED: [ExecutionStatus; 4] =
    [ExecutionStatus::Succeeded, ExecutionStatus::Failed, ExecutionStatus::TimedOut, ExecutionStatus::Rejected];

/// A condition under which AWS cancels a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortCriterion {
    /// `failureType`; `None` for `ALL`: failed, rejected and timed out.
    pub failure: Option<ExecutionStatus>,
    /// `thresholdPercentage` in hundredths of a percent: AWS allows two digits after the decimal point.
    pub threshold: u32,
    /// `minNumberOfExecutedThings`.
    pub min_executed: u32,
}

impl AbortCriterion {
    /// Whether these counts meet the criterion; `None` if one of them is unknown.
    #[must_use]
    pub fn is_met(&self, counts: &ExecutionCounts) -> Option<bool> {
        let (mut finished, mut failed) = (0, 0);
        for status in FINISHED {
            let count = u64::from(counts.get(status)?);
            finished += count;
            let is_failure = self.failure.map_or(status != ExecutionStatus::Succeeded, |failure| failure == status);
            failed += if is_failure { count } else { 0 };
        }
        let reaches_share = failed > 0 && failed * 10_000 >= finished * u64::from(self.threshold);
        // The documentation speaks of things that "must receive job execution notifications".
        let notified = finished + u64::from(counts.get(ExecutionStatus::InProgress)?);
        Some(reaches_share && notified >= u64::from(self.min_executed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_criterion_needs_its_share_and_its_number_of_executions() {
        let counts = |succeeded, failed, rejected| {
            ExecutionCounts::from_fn(|status| match status {
                ExecutionStatus::Succeeded => Some(succeeded),
                ExecutionStatus::Failed => Some(failed),
                ExecutionStatus::Rejected => Some(rejected),
                _ => Some(0),
            })
        };
        let failed = AbortCriterion { failure: Some(ExecutionStatus::Failed), threshold: 2050, min_executed: 10 };
        let any = AbortCriterion { failure: None, ..failed };
        assert_eq!(failed.is_met(&counts(7, 3, 0)), Some(true));
        assert_eq!(failed.is_met(&counts(8, 2, 0)), Some(false), "20 %");
        assert_eq!(failed.is_met(&counts(6, 2, 2)), Some(false), "rejected ones are of another type");
        assert_eq!(any.is_met(&counts(6, 2, 2)), Some(true));
        assert_eq!(any.is_met(&counts(0, 9, 0)), Some(false), "too few");
        let with_one_in_progress = |status| match status {
            ExecutionStatus::Failed => Some(9),
            status => Some(u32::from(status == ExecutionStatus::InProgress)),
        };
        assert_eq!(any.is_met(&ExecutionCounts::from_fn(with_one_in_progress)), Some(true));
        let always = AbortCriterion { failure: None, threshold: 0, min_executed: 1 };
        assert_eq!(always.is_met(&counts(10, 0, 0)), Some(false), "without a failure nothing is aborted");
        assert_eq!(always.is_met(&ExecutionCounts::default()), None);
    }
}
