//! Whether a job needs an operator, and how an ended one went. The thresholds are those of the alert rules.

use std::time::Duration;

use serde::Serialize;

use super::aggregate::OVERDUE_AFTER;
use super::{EXCLUDED, ExecutionCounts, ExecutionStatus, JobSeries, Status, Timestamp};

/// From this number of failed executions on a rollout is failing, or ended with failures.
const MIN_FAILED: u64 = 3;
/// The share of failed executions from which an operator should look.
const SOME_FAILED: f64 = 0.05;
/// The share of failed executions from which an operator must act.
const MANY_FAILED: f64 = 0.25;
/// A stuck job with fewer open executions is a matter of single devices.
const MIN_OPEN: u64 = 3;
/// The same as a share of all executions of the job.
const MIN_OPEN_SHARE: f64 = 0.1;
/// An execution that has been in progress for longer is one to look at.
const LONG_EXECUTION: Duration = Duration::from_hours(6);

/// Why an open job needs an operator. The order is by urgency, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Attention {
    /// A quarter of the executions or more failed.
    Failing,
    /// No progress for longer than `jobs.stuck_after`.
    Stuck,
    /// No progress either, but few executions are open.
    StuckFewOpen,
    /// One in twenty executions or more failed.
    SomeFail,
    /// Not started although its time has passed.
    StartOverdue,
    /// An execution has been in progress for hours.
    ExecutionLong,
}

impl Attention {
    /// Whether an operator must act now. Otherwise it can wait for the next working day.
    #[must_use]
    pub const fn is_critical(self) -> bool {
        matches!(self, Self::Stuck | Self::Failing)
    }

    /// The most urgent reason of a job at `now`; `None` if the job does not need an operator, or that is not known.
    #[must_use]
    pub fn of(job: &JobSeries, now: Timestamp) -> Option<Self> {
        let (status, _) = &job.pair;
        if !status.is_open() || is_excluded(job) {
            return None;
        }
        let failed = FailedShare::of(job.executions.as_ref());
        let is_stuck = job.is_stuck == Some(true);
        let takes_long = |since: Timestamp| now.since(since) > LONG_EXECUTION;
        let is_hanging = job
            .named
            .iter()
            .any(|execution| execution.status == ExecutionStatus::InProgress && takes_long(execution.since));
        let is_overdue = *status == Status::Scheduled
            && job.windowed == Some(false)
            && job.scheduled_start.is_some_and(|start| now > start.after(OVERDUE_AFTER));
        let reasons = [
            (Self::Failing, failed == FailedShare::Critical),
            (Self::Stuck, is_stuck && has_many_open(job.executions.as_ref())),
            (Self::StuckFewOpen, is_stuck),
            (Self::SomeFail, failed == FailedShare::High),
            (Self::StartOverdue, is_overdue),
            (Self::ExecutionLong, is_hanging),
        ];
        reasons.into_iter().find_map(|(reason, applies)| applies.then_some(reason))
    }
}

/// How an ended job went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Completed, with few failures or none.
    Completed,
    /// Completed, and one in twenty executions or more failed.
    SomeFailed,
    /// Completed, and a quarter of the executions or more failed.
    Failed,
    /// Canceled, and its executions meet its own abort criteria.
    Aborted,
    /// Canceled.
    Canceled,
    /// Completed, but its executions are not known.
    Unknown,
    /// Ended with a status that is not documented.
    Other,
}

impl Outcome {
    /// How a job ended; `None` if it is open.
    #[must_use]
    pub fn of(job: &JobSeries) -> Option<Self> {
        let failed = FailedShare::of(job.executions.as_ref());
        match &job.pair.0 {
            status if status.is_open() => None,
            Status::Completed if job.executions.is_none() => Some(Self::Unknown),
            Status::Completed => Some(match failed {
                FailedShare::Critical => Self::Failed,
                FailedShare::High => Self::SomeFailed,
                FailedShare::Low => Self::Completed,
            }),
            Status::Canceled if job.meets_abort_criteria == Some(true) => Some(Self::Aborted),
            Status::Canceled => Some(Self::Canceled),
            _ => Some(Self::Other),
        }
    }
}

/// Executions of a job that failed, timed out or were rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FailedShare {
    /// A quarter or more.
    Critical,
    /// One in twenty or more.
    High,
    /// Fewer, too few to judge, or not known.
    Low,
}

impl FailedShare {
    fn of(executions: Option<&ExecutionCounts>) -> Self {
        let Some(executions) = executions else { return Self::Low };
        let enough = executions.sum(ExecutionStatus::is_failure).is_some_and(|failed| failed >= MIN_FAILED);
        match executions.share(ExecutionStatus::is_failure) {
            Some(share) if enough && share >= MANY_FAILED => Self::Critical,
            Some(share) if enough && share >= SOME_FAILED => Self::High,
            _ => Self::Low,
        }
    }
}

fn has_many_open(executions: Option<&ExecutionCounts>) -> bool {
    let is_open = ExecutionStatus::is_open;
    executions.is_some_and(|executions| {
        executions.sum(is_open).is_some_and(|open| open >= MIN_OPEN)
            && executions.share(is_open).is_some_and(|share| share >= MIN_OPEN_SHARE)
    })
}

/// Whether the configuration excludes all groups of a job.
fn is_excluded(job: &JobSeries) -> bool {
    !job.thing_groups.is_empty() && job.thing_groups.iter().all(|group| **group == *EXCLUDED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::{OpenExecution, TargetSelection};

    const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

    fn counts(queued: u32, succeeded: u32, failed: u32) -> ExecutionCounts {
        ExecutionCounts::from_fn(|status| match status {
            ExecutionStatus::Queued => Some(queued),
            ExecutionStatus::Succeeded => Some(succeeded),
            ExecutionStatus::TimedOut => Some(failed),
            _ => Some(0),
        })
    }

    fn job(status: Status, executions: ExecutionCounts) -> JobSeries {
        JobSeries {
            id: "a".into(),
            pair: (status, TargetSelection::Snapshot),
            created_at: None,
            last_updated_at: None,
            completed_at: None,
            scheduled_start: None,
            scheduled_end: None,
            described_at: None,
            windowed: Some(false),
            thing_groups: vec!["ring:early".into()],
            executions: Some(executions),
            is_stuck: Some(false),
            last_progress: None,
            oldest_open: [].into(),
            named: Vec::new(),
            meets_abort_criteria: None,
            tags: None,
        }
    }

    #[test]
    fn a_stuck_job_is_critical_from_three_open_executions_and_a_tenth_of_all_on() {
        let stuck = |queued, succeeded| {
            let job = job(Status::InProgress, counts(queued, succeeded, 0));
            Attention::of(&JobSeries { is_stuck: Some(true), ..job }, NOW)
        };
        assert_eq!(stuck(3, 27), Some(Attention::Stuck));
        assert_eq!(stuck(3, 28), Some(Attention::StuckFewOpen));
        assert_eq!(stuck(2, 0), Some(Attention::StuckFewOpen));
    }

    #[test]
    fn a_rollout_fails_by_the_share_of_its_executions_and_their_number() {
        let rollout = |succeeded, failed| Attention::of(&job(Status::InProgress, counts(0, succeeded, failed)), NOW);
        assert_eq!(rollout(0, 2), None, "two are too few");
        assert_eq!([rollout(9, 3), rollout(10, 3)], [Some(Attention::Failing), Some(Attention::SomeFail)]);
        assert_eq!([rollout(57, 3), rollout(58, 3)], [Some(Attention::SomeFail), None]);
        assert_eq!(Attention::of(&job(Status::InProgress, ExecutionCounts::default()), NOW), None, "unknown");
    }

    #[test]
    fn a_job_that_starts_late_or_has_a_long_execution_needs_a_look() {
        let scheduled = JobSeries {
            scheduled_start: Some(NOW.before(OVERDUE_AFTER + Duration::from_millis(1))),
            ..job(Status::Scheduled, counts(0, 0, 0))
        };
        assert_eq!(Attention::of(&scheduled, NOW), Some(Attention::StartOverdue));
        assert_eq!(Attention::of(&JobSeries { windowed: Some(true), ..scheduled.clone() }, NOW), None);
        assert_eq!(Attention::of(&scheduled, NOW.before(Duration::from_millis(1))), None);
        let execution = |status| OpenExecution {
            since: NOW.before(LONG_EXECUTION + Duration::from_millis(1)),
            thing: "pump-1".into(),
            status,
        };
        let hanging = |status| {
            let job = job(Status::InProgress, counts(1, 0, 0));
            Attention::of(&JobSeries { named: vec![execution(status)], ..job }, NOW)
        };
        assert_eq!(hanging(ExecutionStatus::InProgress), Some(Attention::ExecutionLong));
        assert_eq!(hanging(ExecutionStatus::Queued), None);
    }

    #[test]
    fn a_job_of_excluded_groups_only_needs_nobody() {
        let failing = job(Status::InProgress, counts(0, 0, 9));
        let excluded = JobSeries { thing_groups: vec![EXCLUDED.into()], ..failing.clone() };
        assert_eq!(Attention::of(&excluded, NOW), None);
        let one_of_two = JobSeries { thing_groups: vec!["a".into(), EXCLUDED.into()], ..failing };
        assert_eq!(Attention::of(&one_of_two, NOW), Some(Attention::Failing));
    }

    #[test]
    fn an_ended_job_is_judged_by_its_status_its_failures_and_its_abort_criteria() {
        let outcome = |status: Status, failed| Outcome::of(&job(status, counts(0, 10, failed)));
        assert_eq!(outcome(Status::InProgress, 9), None);
        assert_eq!(outcome(Status::Completed, 0), Some(Outcome::Completed));
        assert_eq!(outcome(Status::Completed, 3), Some(Outcome::SomeFailed));
        assert_eq!(outcome(Status::Completed, 4), Some(Outcome::Failed));
        assert_eq!(outcome(Status::Canceled, 4), Some(Outcome::Canceled));
        let aborted = JobSeries { meets_abort_criteria: Some(true), ..job(Status::Canceled, counts(0, 0, 4)) };
        assert_eq!(Outcome::of(&aborted), Some(Outcome::Aborted));
        assert_eq!(outcome(Status::from("ARCHIVED"), 0), Some(Outcome::Other));
        let unknown = JobSeries { executions: None, ..job(Status::Completed, counts(0, 0, 0)) };
        assert_eq!(Outcome::of(&unknown), Some(Outcome::Unknown), "COMPLETED does not mean success");
    }

    #[test]
    fn the_thresholds_are_those_of_the_alert_rules() {
        let rules = include_str!("../../config/prometheus/rules/alerts.yml");
        // A contract test holds the expressions against this table at the head of the file.
        let threshold = |alert: &str, name: &str| {
            let rows = rules.lines().map(|line| line.trim_start_matches('#').split_whitespace().collect::<Vec<_>>());
            let of_name =
                |row: Vec<&'static str>| (row.get(..2) == Some(&[alert, name])).then(|| row.get(2).copied())?;
            rows.into_iter().find_map(of_name).unwrap_or_else(|| panic!("{alert} has no threshold {name}"))
        };
        for (alert, name, expected) in [
            ("AwsIotJobStuck", "open_executions", MIN_OPEN.to_string()),
            ("AwsIotJobStuck", "open_share", MIN_OPEN_SHARE.to_string()),
            ("AwsIotRolloutFailing", "critical_share", MANY_FAILED.to_string()),
            ("AwsIotRolloutFailing", "warning_share", SOME_FAILED.to_string()),
            ("AwsIotRolloutFailing", "failed_executions", MIN_FAILED.to_string()),
            ("AwsIotJobExecutionLong", "seconds", LONG_EXECUTION.as_secs().to_string()),
        ] {
            assert_eq!(threshold(alert, name), expected, "{alert} {name}");
        }
    }
}
