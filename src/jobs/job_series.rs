//! Which jobs have series of their own.

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

/// A job that has series of its own.
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
    /// When it starts.
    pub scheduled_start: Option<Timestamp>,
    /// When it ends at the latest.
    pub scheduled_end: Option<Timestamp>,
    /// When it was last described.
    pub described_at: Option<Timestamp>,
    /// Whether it runs in maintenance windows only; `None` if unknown.
    pub windowed: Option<bool>,
    /// The thing groups that are shown for it; none while they are unknown.
    pub thing_groups: Vec<Label>,
    /// How many executions it has; `None` if unknown or stale.
    pub executions: Option<ExecutionCounts>,
    /// Whether it is stuck; `None` if that is not known.
    pub is_stuck: Option<bool>,
    /// When it last progressed; `None` if that is not known.
    pub last_progress: Option<Timestamp>,
    /// Since when the oldest execution of each open status has had it; none where not all were listed.
    pub oldest_open: BTreeMap<ExecutionStatus, Timestamp>,
    /// Executions whose things are named.
    pub named: Vec<OpenExecution>,
    /// Whether its executions meet one of its abort criteria; `None` if it has none, or that is not known.
    pub meets_abort_criteria: Option<bool>,
    /// The values of the tags that are shown; `None` if they are not known.
    pub tags: Option<TagValues>,
}

/// Executions that take longer are named, also if their job is not stuck: each is a device to look at.
const LONG_EXECUTION: Duration = Duration::from_hours(1);

impl JobSeries {
    fn new(known: &KnownJob, filter: &GroupFilter, limits: SeriesLimits, labels: &ShownLabels, now: Timestamp) -> Self {
        let KnownJob { id, job, details, described_at, executions, progress, .. } = known;
        let has_ended = !job.status.is_open();
        let is_named = |execution: &&OpenExecution| {
            let takes_long = || now.since(execution.since) > LONG_EXECUTION;
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

/// The open jobs that an operator wants to see most, and the newest of each kind.
pub(super) fn choose_open(
    jobs: &[KnownJob],
    filter: &GroupFilter,
    limits: SeriesLimits,
    labels: &ShownLabels,
    now: Timestamp,
) -> Vec<JobSeries> {
    let mut chosen: Vec<&KnownJob> = jobs.iter().collect();
    chosen.sort_by_cached_key(|known| (kind(known), Reverse(known.job.created_at), JobId::clone(known.id)));
    chosen.into_iter().take(limits.open).map(|known| JobSeries::new(known, filter, limits, labels, now)).collect()
}

/// The ended jobs that ended last.
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

/// What an open job is chosen by, the first to be chosen first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Stuck,
    Snapshot,
    Continuous,
    Scheduled,
    Other,
}

fn kind(known: &KnownJob) -> Kind {
    let has_open_executions = || known.executions.and_then(|executions| executions.open()).is_some_and(|open| open > 0);
    match (&known.job.status, &known.job.target_selection) {
        _ if known.progress.is_stuck == Some(true) => Kind::Stuck,
        (Status::InProgress, TargetSelection::Snapshot) => Kind::Snapshot,
        (Status::InProgress, TargetSelection::Continuous) if has_open_executions() => Kind::Continuous,
        (Status::Scheduled, _) => Kind::Scheduled,
        _ => Kind::Other,
    }
}

/// How many groups are shown with a job. AWS allows a hundred targets.
const MAX_GROUPS: usize = 10;

/// The groups that the filter lets through in alphabetical order, then [`EXCLUDED`] for those that it excludes, and [`OTHER`] for
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
