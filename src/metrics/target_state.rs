//! The state of a target, as its worker publishes it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::Reason;
use crate::jobs::{AccountId, CacheState, CacheStates, Part, Timepoint, Timestamp, WalkStats};

/// The collectors of a target. One that fails never delays or hides the data of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Collector {
    /// `ListJobs` with the open statuses.
    OpenJobs,
    /// Every page of `ListJobs`.
    AllJobs,
    /// `DescribeJob`.
    Details,
    /// `ListJobExecutionsForJob`.
    Executions,
    /// `ListTagsForResource`.
    Tags,
}

impl Collector {
    /// Every collector.
    pub const ALL: [Self; 5] = [Self::OpenJobs, Self::AllJobs, Self::Details, Self::Executions, Self::Tags];

    /// The value of the label `collector`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenJobs => "open_jobs",
            Self::AllJobs => "all_jobs",
            Self::Details => "details",
            Self::Executions => "executions",
            Self::Tags => "tags",
        }
    }

    /// The operation that it calls.
    #[must_use]
    pub const fn operation(self) -> &'static str {
        match self {
            Self::OpenJobs | Self::AllJobs => "ListJobs",
            Self::Details => "DescribeJob",
            Self::Executions => "ListJobExecutionsForJob",
            Self::Tags => "ListTagsForResource",
        }
    }
}

/// The states of each collector that sends requests about single jobs.
#[must_use]
pub fn by_collector(states: &CacheStates) -> [(Collector, Option<&BTreeMap<CacheState, u64>>); 3] {
    let CacheStates { details, executions, tags } = states;
    [
        (Collector::Details, details.as_ref()),
        (Collector::Executions, executions.as_ref()),
        (Collector::Tags, tags.as_ref()),
    ]
}

/// The whole state of a target. It is published in one step, so that all its fields are consistent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetState {
    /// The account; `None` until it is known.
    pub account: Option<AccountId>,
    /// The open jobs; `None` before the first open walk, and when they are stale.
    pub open: Option<Published>,
    /// The jobs that are not open; `None` before the first full walk, and when they are stale.
    pub ended: Option<Published>,
    /// The number of thing groups without their own rows because of the limit.
    pub folded_thing_groups: u64,
    /// The collector of open jobs.
    pub open_jobs: ListingState,
    /// The collector of all jobs; `None` if it is disabled.
    pub all_jobs: Option<ListingState>,
    /// The number of jobs by state, for each other collector.
    pub states: CacheStates,
    /// The failed requests of each other collector, as long as a job of it fails or is denied.
    pub request_failures: BTreeMap<Collector, (Failure, Failing)>,
    /// The keys of the shown tags, in the order of the values of each job.
    pub tag_keys: Arc<[String]>,
}

/// Data of one collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The data.
    pub part: Arc<Part>,
    /// When the last successful run ended.
    pub collected: Timepoint,
    /// How long it is shown after that. The worker withdraws it then, and each reader checks it, too.
    pub stale_after: Duration,
}

impl Published {
    /// Whether it is too old to be shown.
    #[must_use]
    pub fn is_stale(&self, now: Timepoint) -> bool {
        now.since(self.collected) >= self.stale_after
    }
}

/// The state of a collector with scheduled walks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListingState {
    /// The planned time between the starts of runs.
    pub interval: Duration,
    /// Whether no data is stale. Also true before the first run ends, until its data would be stale.
    pub is_fresh: bool,
    /// The last run that ended.
    pub last_run: Option<RunOutcome>,
    /// When the last successful run ended.
    pub last_success: Option<Timestamp>,
    /// The last complete walk.
    pub last_walk: Option<WalkState>,
    /// The failed runs since the last success; `None` if the last run succeeded.
    pub failing: Option<Failing>,
    /// When the next run starts; `None` while one is under way.
    pub next_run: Option<Instant>,
    /// The walk under way, until the first one has succeeded.
    pub first_walk: Option<RunningWalk>,
}

impl ListingState {
    /// Whether the last run succeeded and its data is fresh. The first run counts as a success until its data would be
    /// stale.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.is_fresh && self.last_run.as_ref().is_none_or(|run| run.failure.is_none())
    }
}

/// Failed runs in a row, or failed requests about single jobs since none has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failing {
    /// When the first of them ended.
    pub since: Timestamp,
    /// How many there are.
    pub runs: u32,
}

/// A walk that is under way.
#[derive(Clone, Debug)]
pub struct RunningWalk {
    /// When it started.
    pub since: Instant,
    /// How far it is. It changes while the walk goes on.
    pub progress: Arc<WalkProgress>,
}

impl PartialEq for RunningWalk {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.progress, &other.progress)
    }
}

impl Eq for RunningWalk {}

/// How far a walk is.
#[derive(Debug, Default)]
pub struct WalkProgress {
    pages: AtomicU64,
    jobs: AtomicU64,
}

impl WalkProgress {
    /// A page with so many jobs was read.
    pub fn page_read(&self, jobs: usize) {
        self.pages.fetch_add(1, Ordering::Relaxed);
        self.jobs.fetch_add(jobs as u64, Ordering::Relaxed);
    }

    /// Pages that were read.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    /// Jobs on them. One that is on two pages counts twice.
    #[must_use]
    pub fn jobs(&self) -> u64 {
        self.jobs.load(Ordering::Relaxed)
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOutcome {
    /// When it ended.
    pub at: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// The failure; `None` if it succeeded.
    pub failure: Option<Failure>,
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The reason.
    pub reason: Reason,
    /// The message, in one line.
    pub message: String,
}

/// The size of a complete walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkState {
    /// The number of its pages, over all its queries.
    pub pages: u64,
    /// The numbers of its jobs.
    pub stats: WalkStats,
}
