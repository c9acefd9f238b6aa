//! Makes snapshots of a store for publication: sums over its jobs, and the jobs with their own series.
//!
//! Open and ended jobs are separate parts, since two collectors find them, and each part becomes stale separately.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::group_filter::GroupFilter;
use super::group_limiter::{GroupLimiter, GroupRow, keep_oldest};
use super::job_series::{JobSeries, choose_ended, choose_open};
use super::thing_groups::Label;
use super::{
    CacheState, JobId, JobStore, KnownJob, Pair, Scope, Start, Status, StoreOptions, TargetSelection, Timepoint,
    Timestamp,
};

/// How many undocumented statuses and target selections are shown; the others become `<other>`.
const MAX_NEW_LABELS: usize = 16;

/// A job is overdue this long after its start time: AWS needs some minutes, and clocks differ.
pub const OVERDUE_AFTER: Duration = Duration::from_mins(5);

/// What a snapshot contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AggregateOptions {
    /// Which thing groups may have their own rows.
    pub filter: GroupFilter,
    /// The largest number of thing groups with their own rows.
    pub max_thing_groups: usize,
    /// The limits of jobs with their own series; `None` if no job has series, by configuration.
    pub series: Option<SeriesLimits>,
}

/// The largest numbers of jobs with their own series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesLimits {
    /// Open jobs.
    pub open: usize,
    /// Ended jobs.
    pub ended: usize,
    /// Named things of a job, for each open status.
    pub things: usize,
}

/// Which parts are fresh enough to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Open jobs.
    pub open: bool,
    /// Ended jobs.
    pub ended: bool,
}

/// A snapshot of a target's jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Open jobs; `None` before the first open walk, and if they are not shown.
    pub open: Option<Part>,
    /// Jobs that are not open; `None` before the first full walk, and if they are not shown.
    pub ended: Option<Part>,
    /// The number of thing groups without their own row because of the limit.
    pub folded_thing_groups: u64,
}

/// A snapshot of the open jobs, or of the ended ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The number of jobs, each counted once. Every known pair in scope is present; its count can be 0.
    pub jobs: BTreeMap<Pair, u64>,
    /// Creation of the oldest open job of each pair.
    pub oldest_created: BTreeMap<Pair, Timestamp>,
    /// Open jobs with a rollout or cancellation in progress. Absent if a job `IN_PROGRESS` came without
    /// `isConcurrent`.
    pub concurrent: BTreeMap<TargetSelection, u64>,
    /// SCHEDULED jobs whose start time has passed.
    pub start_overdue: BTreeMap<TargetSelection, u64>,
    /// The progress of open jobs. `None` until the progress of all jobs of the first open walk is known, and if
    /// executions are not listed.
    pub progress: Option<ProgressCounts>,
    /// Jobs by thing group. A job that targets three groups counts in each of them.
    pub thing_groups: BTreeMap<Label, GroupRow>,
    /// The number of jobs without a description; `None` if jobs are not described.
    pub undescribed: Option<u64>,
    /// Jobs with their own series.
    pub series: Vec<JobSeries>,
    /// The number of jobs without series because of the limit.
    pub omitted_jobs: u64,
}

/// The progress of open jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgressCounts {
    /// Jobs that are known to be stuck.
    pub stuck: BTreeMap<TargetSelection, u64>,
    /// Jobs whose progress is unknown.
    pub unknown: u64,
}

/// Makes snapshots of a store. Rows that were shown once stay.
///
/// # Example
/// Every known pair is present after a complete walk. Ended jobs are absent until a full walk has found them.
///
/// ```
/// use std::time::Duration;
///
/// use aws_iot_jobs_exporter::clock::Clock;
/// use aws_iot_jobs_exporter::jobs::{
///     AggregateOptions, Aggregator, JobStore, OpenWalk, Scope, Shown, Status, StoreOptions, TargetSelection,
/// };
///
/// let now = Clock::system().now();
/// let mut store = JobStore::new(StoreOptions {
///     scope: Scope::default(),
///     open_interval: Duration::from_mins(1),
///     lists_ended: true,
///     ended_within: Duration::ZERO,
///     details: None,
///     executions: None,
///     tag_keys: [].into(),
/// });
/// store.open_walk_done(OpenWalk::default(), now);
///
/// let shown = Shown { open: true, ended: true };
/// let snapshot = Aggregator::default().aggregate(&store, &AggregateOptions::default(), shown, now);
/// let open = snapshot.open.expect("a complete open walk");
/// assert_eq!(open.jobs[&(Status::InProgress, TargetSelection::Snapshot)], 0);
/// assert!(snapshot.ended.is_none());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Aggregator {
    limiter: GroupLimiter,
    overdue: OverdueJobs,
    first_jobs: FirstJobs,
}

impl Aggregator {
    /// The snapshot of a store at `now`.
    #[must_use]
    pub fn aggregate(
        &mut self,
        store: &JobStore,
        options: &AggregateOptions,
        shown: Shown,
        now: Timepoint,
    ) -> Snapshot {
        let scope = &store.options().scope;
        let open_counts = store.open_counts().filter(|_| shown.open);
        let ended_counts = store.ended_counts(shown.open).filter(|_| shown.ended);
        let labels = ShownLabels::new(open_counts.iter().chain(&ended_counts).flat_map(BTreeMap::keys));
        let open_jobs: Option<Vec<_>> = store.open_jobs(now).filter(|_| shown.open).map(Iterator::collect);
        let ended_jobs: Option<Vec<_>> =
            store.ended_jobs(shown.open, now).filter(|_| shown.ended).map(Iterator::collect);

        let mut open = open_counts.zip(open_jobs.as_deref()).map(|(counts, jobs)| {
            let mut part = part(&counts, jobs, true, store.options(), &labels);
            part.oldest_created = oldest_created(jobs, &labels);
            part.concurrent = concurrent(jobs, scope, &labels);
            part.start_overdue = self.overdue.count(jobs, scope, &labels, now.wall);
            if store.looks() {
                let are_known = self.first_jobs.are_known(jobs);
                part.progress = are_known.then(|| progress(jobs, scope, &labels)).flatten();
            } else {
                self.first_jobs = FirstJobs::default();
            }
            if let Some(limits) = options.series {
                part.set_series(choose_open(jobs, &options.filter, limits, &labels, now.wall), jobs);
            }
            part
        });
        let mut ended = ended_counts.zip(ended_jobs.as_deref()).map(|(counts, jobs)| {
            let mut part = part(&counts, jobs, false, store.options(), &labels);
            if let Some(limits) = options.series {
                part.set_series(choose_ended(jobs, &options.filter, limits, &labels, now.wall), jobs);
            }
            part
        });

        let mut rows = group_rows(open_jobs.iter().chain(&ended_jobs).flatten(), &labels);
        let folded_thing_groups = self.limiter.fold(&mut rows, &options.filter, options.max_thing_groups);
        for part in open.iter().chain(&ended).filter(|part| part.undescribed.unwrap_or(0) == 0) {
            add_zeros(&mut rows, part);
        }
        self.limiter.remember(rows.iter().flat_map(|(label, row)| row.jobs.keys().map(move |pair| (label, pair))));
        for (label, row) in rows {
            let (open_row, ended_row) = row.split();
            for (part, row) in [(&mut open, open_row), (&mut ended, ended_row)] {
                if let Some(part) = part.as_mut().filter(|_| !row.jobs.is_empty()) {
                    part.thing_groups.insert(Label::clone(&label), row);
                }
            }
        }
        Snapshot { open, ended, folded_thing_groups }
    }
}

impl Part {
    fn set_series(&mut self, series: Vec<JobSeries>, jobs: &[KnownJob]) {
        self.omitted_jobs = (jobs.len() - series.len()) as u64;
        self.series = series;
    }
}

/// Rows without jobs become 0 if that is certain.
fn add_zeros(rows: &mut BTreeMap<Label, GroupRow>, part: &Part) {
    for row in rows.values_mut() {
        for pair in part.jobs.keys() {
            row.jobs.entry(pair.clone()).or_default();
        }
    }
}

/// The common fields of both parts.
fn part(
    counts: &BTreeMap<Pair, u64>,
    jobs: &[KnownJob],
    open: bool,
    options: &StoreOptions,
    labels: &ShownLabels,
) -> Part {
    let scope = &options.scope;
    // It is not documented whether ListJobs returns ended jobs with a thing-group filter.
    let is_known = |(status, _): &Pair| status.is_open() == open && (open || !scope.is_of_a_group());
    let mut part =
        Part { jobs: scope.known_pairs().filter(is_known).map(|pair| (pair, 0)).collect(), ..Part::default() };
    for (pair, jobs) in counts {
        *part.jobs.entry(labels.pair(pair)).or_default() += jobs;
    }
    let undescribed = jobs.iter().filter(|job| job.is_undescribed()).count() as u64;
    part.undescribed = options.details.map(|_| undescribed);
    part
}

fn oldest_created(jobs: &[KnownJob], labels: &ShownLabels) -> BTreeMap<Pair, Timestamp> {
    let mut oldest = BTreeMap::new();
    for KnownJob { job, .. } in jobs {
        if let Some(created) = job.created_at {
            keep_oldest(&mut oldest, &labels.pair(&job.pair()), created);
        }
    }
    oldest
}

fn concurrent(jobs: &[KnownJob], scope: &Scope, labels: &ShownLabels) -> BTreeMap<TargetSelection, u64> {
    let in_progress = scope.known_pairs().filter(|(status, _)| *status == Status::InProgress);
    let mut counts: BTreeMap<_, u64> = in_progress.map(|(_, selection)| (selection, 0)).collect();
    let mut unknown = BTreeSet::new();
    for KnownJob { job, details, .. } in jobs {
        let (_, selection) = labels.pair(&job.pair());
        match job.is_concurrent.or(details.and_then(|details| details.is_concurrent)) {
            None if job.status == Status::InProgress => drop(unknown.insert(selection)),
            is_concurrent => *counts.entry(selection).or_default() += u64::from(is_concurrent == Some(true)),
        }
    }
    counts.retain(|selection, _| !unknown.contains(selection));
    counts
}

/// `None` if the identity may not describe jobs or list executions: then the number of stuck jobs is unknown, not 0.
fn progress(jobs: &[KnownJob], scope: &Scope, labels: &ShownLabels) -> Option<ProgressCounts> {
    let is_denied = |known: &KnownJob| [known.state, known.progress.state].contains(&Some(CacheState::Denied));
    if jobs.iter().any(is_denied) && jobs.iter().all(|known| known.progress.look.is_none()) {
        return None;
    }
    let stuck = scope.selections().iter().map(|selection| (selection.clone(), 0)).collect();
    let mut counts = ProgressCounts { stuck, unknown: 0 };
    for KnownJob { job, progress, .. } in jobs {
        match progress.is_stuck {
            Some(is_stuck) => {
                *counts.stuck.entry(labels.pair(&job.pair()).1).or_default() += u64::from(is_stuck);
            }
            None => counts.unknown += 1,
        }
    }
    Some(counts)
}

fn group_rows<'a>(jobs: impl Iterator<Item = &'a KnownJob<'a>>, labels: &ShownLabels) -> BTreeMap<Label, GroupRow> {
    let mut rows: BTreeMap<Label, GroupRow> = BTreeMap::new();
    for known in jobs {
        let pair = labels.pair(&known.job.pair());
        for group in known.groups().into_iter().flatten() {
            let row = rows.entry(group).or_default();
            row.add(&pair, known.job.created_at);
            row.stuck += u64::from(known.progress.is_stuck == Some(true));
        }
    }
    rows
}

/// The jobs of the first open walk with unknown progress. Until it is known, a count of stuck jobs would be too low.
#[derive(Clone, Debug, Default)]
struct FirstJobs(Option<BTreeSet<JobId>>);

impl FirstJobs {
    fn are_known(&mut self, jobs: &[KnownJob]) -> bool {
        let mut awaited = jobs.iter().filter(|known| known.is_awaited).map(|known| known.id);
        match &mut self.0 {
            None => self.0 = Some(awaited.cloned().collect()),
            Some(first) if first.is_empty() => {}
            Some(first) => *first = awaited.by_ref().filter(|id| first.contains(*id)).cloned().collect(),
        }
        self.0.as_ref().is_some_and(BTreeSet::is_empty)
    }
}

/// Counts SCHEDULED jobs without maintenance windows whose start time has passed.
#[derive(Clone, Debug, Default)]
struct OverdueJobs {
    /// The selections that were shown. They stay, so that a new job without a description does not hide the others.
    shown: BTreeSet<TargetSelection>,
}

impl OverdueJobs {
    fn count(
        &mut self,
        jobs: &[KnownJob],
        scope: &Scope,
        labels: &ShownLabels,
        now: Timestamp,
    ) -> BTreeMap<TargetSelection, u64> {
        let in_scope = scope.known_pairs().filter(|(status, _)| *status == Status::Scheduled);
        let mut counts: BTreeMap<_, u64> = in_scope.map(|(_, selection)| (selection, 0)).collect();
        let mut unknown = BTreeSet::new();
        for KnownJob { job, details, state, .. } in jobs.iter().filter(|known| known.job.status == Status::Scheduled) {
            let (_, selection) = labels.pair(&job.pair());
            let schedule = details.map(|details| details.schedule);
            let known = schedule.filter(|schedule| schedule.windowed || schedule.start != Start::Unreadable);
            if let Some(schedule) = known {
                let is_late = schedule.start().is_some_and(|start| start.after(OVERDUE_AFTER) < now);
                *counts.entry(selection).or_default() += u64::from(is_late && !schedule.windowed);
                continue;
            }
            if state.is_none() {
                // If jobs are not described, their schedules never become known.
                self.shown.remove(&selection);
            }
            unknown.insert(selection);
        }
        counts.retain(|selection, late| *late > 0 || !unknown.contains(selection) || self.shown.contains(selection));
        self.shown.extend(counts.keys().filter(|selection| !selection.is_new()).cloned());
        counts
    }
}

/// The undocumented texts that are shown: the first ones alphabetically, so that the order of pages does not matter.
#[derive(Debug)]
pub(super) struct ShownLabels {
    statuses: BTreeSet<Status>,
    selections: BTreeSet<TargetSelection>,
}

impl ShownLabels {
    fn new<'a>(pairs: impl Iterator<Item = &'a Pair> + Clone) -> Self {
        let statuses: BTreeSet<&Status> =
            pairs.clone().map(|(status, _)| status).filter(|status| status.is_new()).collect();
        let selections: BTreeSet<&TargetSelection> =
            pairs.map(|(_, selection)| selection).filter(|selection| selection.is_new()).collect();
        Self {
            statuses: statuses.into_iter().take(MAX_NEW_LABELS).cloned().collect(),
            selections: selections.into_iter().take(MAX_NEW_LABELS).cloned().collect(),
        }
    }

    /// A pair as it is shown.
    pub(super) fn pair(&self, (status, selection): &Pair) -> Pair {
        let is_folded = status.is_new() && !self.statuses.contains(status);
        let status = if is_folded { Status::other() } else { status.clone() };
        let is_folded = selection.is_new() && !self.selections.contains(selection);
        (status, if is_folded { TargetSelection::other() } else { selection.clone() })
    }
}

#[cfg(test)]
mod tests;
