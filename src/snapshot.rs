//! What one complete walk found: a plain value that is made once, published whole and never changed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::jobs::thing_groups::{Groups, Label};
use crate::jobs::{AccountId, ExecutionCounts, Schedule, Status, TargetSelection, Timestamp};

/// A status and a target selection: the two labels that every count of jobs has.
///
/// Besides the known values each can be a text that AWS added later, [`UNKNOWN`](crate::jobs::UNKNOWN) where AWS left it
/// out, or [`OTHER`](crate::jobs::OTHER) for what is folded. All of it is fit to be a label value.
pub type Pair = (Status, TargetSelection);

/// What a refresh publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The account whose jobs these are.
    pub account: AccountId,
    /// What was counted.
    pub counts: Counts,
    /// Which of it somebody should look at.
    pub attention: Attention,
    /// The same by thing group; `None` where groups are not looked at.
    pub groups: Option<GroupTable>,
    /// The open jobs that have series of their own; none where there are no such series.
    pub series: Vec<JobSeries>,
    /// How many open jobs have no series of their own, because of the limit.
    pub omitted_jobs: u64,
    /// How the walk went.
    pub walk: Walk,
    /// How describing went; `None` where nothing is described.
    pub describing: Option<Describing>,
}

/// The counts of one walk, and the open jobs it met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs, each counted once. Every known pair in scope is present, as 0 where there is none.
    pub jobs: BTreeMap<Pair, u64>,
    /// Creation time of the oldest open job of each pair; a pair is absent where there is none, or none tells its time.
    pub oldest: BTreeMap<Pair, Timestamp>,
    /// Jobs that roll out or cancel right now. A selection is absent while any of its jobs in progress came without
    /// `isConcurrent`; all are where the scope names statuses, since a job of another status can be cancelling.
    pub concurrent: BTreeMap<TargetSelection, u64>,
    /// The open jobs, the oldest first; those without a creation time last, each group by job id.
    pub open: Vec<OpenJob>,
    /// Distinct jobs.
    pub total: u64,
    /// Summaries of jobs that were met before in this walk.
    pub duplicates: u64,
    /// Summaries without a job id, a status or a target selection.
    pub malformed: u64,
    /// Jobs that the walk missed, and that are counted as they were described.
    pub recovered: u64,
}

/// An open job, as its last sighting in the walk tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenJob {
    /// The job's id.
    pub job_id: Box<str>,
    /// One of the open statuses.
    pub status: Status,
    /// The target selection, fit to be a label.
    pub target_selection: TargetSelection,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// When it last changed.
    pub last_updated_at: Option<Timestamp>,
    /// The groups that it targets; `None` where groups are not looked at.
    pub groups: Option<Groups>,
    /// When it runs; `None` where that is not known.
    pub schedule: Option<Schedule>,
    /// How many executions it has; `None` where that is not known, or was known too long ago.
    pub executions: Option<ExecutionCounts>,
    /// When that was told.
    pub described_at: Option<Timestamp>,
}

impl OpenJob {
    /// Since when a SNAPSHOT job that is in progress has been so: since its start where it is scheduled, else since it was
    /// created. `None` for other jobs, for those that pause in maintenance windows, and where neither time is known.
    ///
    /// Where the schedule is not known this is as if it had none.
    #[must_use]
    pub fn running_since(&self) -> Option<Timestamp> {
        let schedule = self.schedule.unwrap_or_default();
        let judged = self.status == Status::InProgress && self.target_selection == TargetSelection::Snapshot;
        if judged && !schedule.windowed { self.created_at.max(schedule.start()) } else { None }
    }
}

/// An open job that has series of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSeries {
    /// Its place in [`Counts::open`].
    pub place: usize,
    /// The groups to show for it.
    pub groups: Vec<Label>,
}

/// Counts of jobs that somebody should look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attention {
    /// By threshold: SNAPSHOT jobs that have been in progress for longer. Empty where such jobs are not in scope.
    pub long_running: BTreeMap<Duration, u64>,
    /// SCHEDULED jobs whose start is past. A selection is absent where it has a SCHEDULED job whose schedule is not known.
    pub start_overdue: BTreeMap<TargetSelection, u64>,
}

/// Counts by thing group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupTable {
    /// A row for each group that is shown, and for the words that stand in for groups.
    pub rows: BTreeMap<Label, GroupRow>,
    /// How many groups have no row of their own, because of the limit.
    pub folded: u64,
}

/// The jobs of one thing group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupRow {
    /// Jobs that target it.
    pub jobs: BTreeMap<Pair, u64>,
    /// Creation time of the oldest open one of each pair.
    pub oldest: BTreeMap<Pair, Timestamp>,
    /// As in [`Attention`].
    pub long_running: BTreeMap<Duration, u64>,
}

/// Whether the identity may call `DescribeJob`, as far as was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Permission {
    /// Nothing was denied.
    #[default]
    Granted,
    /// Some jobs it may describe, and others not: a policy can name them.
    Partial,
    /// Nothing else came back.
    Denied,
}

/// How describing went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Describing {
    /// Jobs that were described for this snapshot.
    pub described: u64,
    /// Open jobs of which no description was to be had this time.
    pub failures: u64,
    /// Jobs that ended within the window, and were never described.
    pub undescribed: u64,
    /// Whether the identity may call `DescribeJob`.
    pub permission: Permission,
    /// From the first description to the last, waits for the request budget included.
    pub duration: Duration,
}

/// How a complete walk went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// From its first request to its last page, waits for the request budget included.
    pub duration: Duration,
    /// Pages of `ListJobs`.
    pub pages: u64,
    /// Requests that were sent for it, retries included.
    pub requests: u64,
}
