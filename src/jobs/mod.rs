//! AWS IoT jobs as plain values, and pure functions over them. This module does no I/O, reads no clock and does not
//! use the SDK: times are arguments. Source of all types: the AWS IoT API reference, pages
//! [`JobSummary`](https://docs.aws.amazon.com/iot/latest/apireference/API_JobSummary.html) and
//! [`Job`](https://docs.aws.amazon.com/iot/latest/apireference/API_Job.html).

mod abort;
mod aggregate;
mod arn;
mod assessment;
mod backoff;
mod description;
mod details_cache;
mod ended_jobs;
mod executions_cache;
#[cfg(test)]
mod fixtures;
pub mod group_filter;
mod group_limiter;
mod job;
mod job_queue;
mod job_series;
mod job_store;
mod look;
mod scope;
mod status;
mod summary;
mod tags;
mod thing_groups;
mod time;
mod walk;

pub use abort::AbortCriterion;
pub use aggregate::{AggregateOptions, Aggregator, OVERDUE_AFTER, Part, ProgressCounts, SeriesLimits, Shown, Snapshot};
pub use arn::{AccountId, InvalidAccountId, JobArn};
pub use assessment::{Attention, Outcome};
pub use backoff::FailureReason;
pub use description::{
    Description, ExecutionCounts, ExecutionLimits, ExecutionStatus, JobTarget, Schedule, Start, is_thing_group_name,
    parse_start_time, thing_name,
};
pub use details_cache::{DescribeAnswer, DescribeClass, Described, Details, DetailsOptions};
pub use executions_cache::{ExecutionsOptions, LookClass, Progress};
pub use group_limiter::GroupRow;
pub use job::{Job, JobId, Pair};
pub use job_queue::{Answer, CacheState, JobRequest};
pub use job_series::JobSeries;
pub use job_store::{CacheStates, JobStore, KnownJob, LookRequest, StoreOptions};
pub use look::{ExecutionSummary, Look, LookResult, LookScope, OpenExecution, ThingName};
pub use scope::Scope;
pub use status::{EXCLUDED, NONE, OTHER, Status, TargetSelection, UNKNOWN, is_label_text};
pub use summary::JobSummary;
pub use tags::{Tag, TagValues, tag_label};
pub use time::{Timepoint, Timestamp, same_creation};
pub use walk::{FullWalk, FullWalkResult, OpenWalk, WalkStats};
