//! What one complete walk found: a plain value that is made once, published whole and never changed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::job::{AccountId, Status, TargetSelection, Timestamp};

/// A status and a target selection: the two labels that every count of jobs has.
///
/// Besides the known values each can be a text that AWS added later, [`UNKNOWN`](crate::job::UNKNOWN) where AWS left it
/// out, or [`OTHER`](crate::job::OTHER) for what is folded. All of it is fit to be a label value.
pub type Pair = (Status, TargetSelection);

/// What a refresh publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The account whose jobs these are.
    pub account: AccountId,
    /// What was counted.
    pub counts: Counts,
    /// How the walk went.
    pub walk: Walk,
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
