//! Chooses the jobs with their own series.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use super::aggregate::{SeriesLimits, ShownLabels};
use super::group_filter::GroupFilter;
use super::look::NAMED_PER_LIMIT;
use super::thing_groups::{Label, is_group};
use super::{
    EXCLUDED, ExecutionCounts, ExecutionStatus, JobId, KnownJob, OTHER, OpenExecution, Pair, Status, TagValues,
    TargetSelection, Timestamp,
};

/// A job with its own series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSeries {
    /// The job's id.
    pub id: JobId,
    /// Its status and target selection.
    pub pair: Pair,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// When it last changed.
    pub last_updated_at: Option<Timestamp>,
    /// When an ended job ended: `completedAt`, else `lastUpdatedAt`.
    pub completed_at: Option<Timestamp>,
    /// Its scheduled start.
    pub scheduled_start: Option<Timestamp>,
    /// Its scheduled end.
    pub scheduled_end: Option<Timestamp>,
    /// When it was last described.
    pub described_at: Option<Timestamp>,
    /// Whether it runs only in maintenance windows; `None` if unknown.
    pub windowed: Option<bool>,
    /// The thing groups that are shown for it; empty while unknown.
    pub thing_groups: Vec<Label>,
    /// Its execution counts; `None` if unknown or stale.
    pub executions: Option<ExecutionCounts>,
    /// Whether it is stuck; `None` if unknown.
    pub is_stuck: Option<bool>,
    /// When it last progressed; `None` if unknown.
    pub last_progress: Option<Timestamp>,
    /// The oldest execution of each open status, since it got the status; empty if not all were listed.
    pub oldest_open: BTreeMap<ExecutionStatus, Timestamp>,
    /// Executions with their thing names.
    pub named: Vec<OpenExecution>,
    /// Whether its executions meet one of its abort criteria; `None` if it has none or that is unknown.
    pub meets_abort_criteria: Option<bool>,
    /// The values of its tags; `None` if unknown.
    pub tags: Option<TagValues>,
}

/// Longer executions are named even if their job is not stuck: each may need attention.
const NAMED_AFTER: Duration = Duration::from_hours(1);

impl JobSeries {
    fn new(known: &KnownJob, filter: &GroupFilter, limits: SeriesLimits, labels: &ShownLabels, now: Timestamp) -> Self {
        let KnownJob { id, job, details, described_at, executions, progress, .. } = known;
        let has_ended = !job.status.is_open();
        let is_named = |execution: &&OpenExecution| {
            let takes_long = || now.since(execution.since) > NAMED_AFTER;
            progress.is_stuck == Some(true) || (execution.status == ExecutionStatus::InProgress && takes_long())
        };
        let complete = progress.look.filter(|look| look.is_complete);
        Self {
            id: JobId::clone(id),
            pair: labels.pair(&job.pair()),
            created_at: job.created_at,
            last_updated_at: job.last_updated_at,
            completed_at: job.completed_at.or(job.last_updated_at).filter(|_| has_ended),
            scheduled_start: details.and_then(|details| details.schedule.start()),
            scheduled_end: details.and_then(|details| details.schedule.end),
            described_at: described_at.map(|at| at.wall),
            windowed: details.map(|details| details.schedule.windowed),
            thing_groups: shown_groups(known, filter),
            executions: *executions,
            is_stuck: progress.is_stuck,
            last_progress: progress.last,
            oldest_open: complete.map(|look| look.oldest.clone()).unwrap_or_default(),
            named: progress
                .look
                .iter()
                .flat_map(|look| &look.named)
                .filter(is_named)
                .take(NAMED_PER_LIMIT * limits.things)
                .cloned()
                .collect(),
            meets_abort_criteria: known.meets_abort_criteria,
            tags: known.tags.cloned(),
        }
    }
}

/// The most important open jobs, and the newest ones of each priority.
pub(super) fn choose_open(
    jobs: &[KnownJob],
    filter: &GroupFilter,
    limits: SeriesLimits,
    labels: &ShownLabels,
    now: Timestamp,
) -> Vec<JobSeries> {
    let mut chosen: Vec<&KnownJob> = jobs.iter().collect();
    chosen.sort_by_cached_key(|known| (priority(known), Reverse(known.job.created_at), JobId::clone(known.id)));
    chosen.into_iter().take(limits.open).map(|known| JobSeries::new(known, filter, limits, labels, now)).collect()
}

/// The jobs that ended last.
pub(super) fn choose_ended(
    jobs: &[KnownJob],
    filter: &GroupFilter,
    limits: SeriesLimits,
    labels: &ShownLabels,
    now: Timestamp,
) -> Vec<JobSeries> {
    let mut chosen: Vec<&KnownJob> = jobs.iter().collect();
    chosen.sort_by(|a, b| b.job.ended_at().cmp(&a.job.ended_at()).then_with(|| a.id.cmp(b.id)));
    chosen.into_iter().take(limits.ended).map(|known| JobSeries::new(known, filter, limits, labels, now)).collect()
}

/// The priority of an open job, highest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SeriesPriority {
    Stuck,
    Snapshot,
    Continuous,
    Scheduled,
    Other,
}

fn priority(known: &KnownJob) -> SeriesPriority {
    let has_open_executions = || known.executions.and_then(|executions| executions.open()).is_some_and(|open| open > 0);
    match (&known.job.status, &known.job.target_selection) {
        _ if known.progress.is_stuck == Some(true) => SeriesPriority::Stuck,
        (Status::InProgress, TargetSelection::Snapshot) => SeriesPriority::Snapshot,
        (Status::InProgress, TargetSelection::Continuous) if has_open_executions() => SeriesPriority::Continuous,
        (Status::Scheduled, _) => SeriesPriority::Scheduled,
        _ => SeriesPriority::Other,
    }
}

/// The number of groups that are shown for a job. AWS allows a hundred targets.
const MAX_GROUPS: usize = 10;

/// The groups that the filter allows, in alphabetical order, then [`EXCLUDED`] for excluded ones, and [`OTHER`] for
/// the rest.
fn shown_groups(known: &KnownJob, filter: &GroupFilter) -> Vec<Label> {
    let groups = known.groups().unwrap_or_default();
    let (excluded, groups): (Vec<Label>, Vec<Label>) =
        groups.into_iter().partition(|label| is_group(label) && filter.excludes(label));
    let (mut shown, hidden): (Vec<Label>, Vec<Label>) =
        groups.into_iter().partition(|label| !is_group(label) || filter.shows(label));
    let are_too_many = shown.len() > MAX_GROUPS;
    shown.truncate(MAX_GROUPS);
    shown.extend((!excluded.is_empty()).then(|| EXCLUDED.into()));
    shown.extend((are_too_many || !hidden.is_empty()).then(|| OTHER.into()));
    shown
}
