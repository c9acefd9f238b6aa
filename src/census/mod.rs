//! What follows from a finished tally: counts by thing group, the jobs that somebody should look at, and which jobs have series
//! of their own.

mod folding;
mod series;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::jobs::group_filter::GroupFilter;
use crate::jobs::thing_groups::{Groups, Label};
use crate::jobs::{Scope, Start, Status, TargetSelection, Timestamp, UNKNOWN};
use crate::snapshot::{Attention, Counts, GroupRow, GroupTable, JobSeries, OpenJob, Pair};
use crate::tally::{Attributed, Tallied};
pub use folding::Folding;

/// What is asked of a census.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// After how long a job is long-running.
    pub long_running_after: Vec<Duration>,
    /// Which groups get rows of their own, as far as their names go.
    pub filter: GroupFilter,
    /// How many groups get rows of their own.
    pub max_thing_groups: usize,
    /// How many jobs get series of their own; `None` where none should.
    pub max_jobs: Option<usize>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Jobs that somebody should look at.
    pub attention: Attention,
    /// Counts by thing group; `None` where groups are not looked at.
    pub groups: Option<GroupTable>,
    /// The open jobs that have series of their own.
    pub series: Vec<JobSeries>,
    /// How many have none because of the limit.
    pub omitted_jobs: u64,
}

/// Takes the census of a walk at the time `now`.
///
/// `denied` says that jobs whose groups are still to be asked for have to be shown without: the identity may not describe them.
#[must_use]
pub fn take(
    tallied: &Tallied,
    scope: &Scope,
    settings: &Settings,
    denied: bool,
    folding: &mut Folding,
    now: Timestamp,
) -> Census {
    let open = &tallied.counts.open;
    let running = scope.known_pairs().any(|pair| pair == (Status::InProgress, TargetSelection::Snapshot));
    let thresholds: &[Duration] = if running { &settings.long_running_after } else { &[] };
    let mut long_running = none_of(thresholds);
    for job in open {
        count_long_running(&mut long_running, job, now);
    }
    let attention = Attention { long_running, start_overdue: start_overdue(&tallied.counts, scope, now) };

    let groups = tallied.attributed.as_ref().map(|attributed| {
        let rows = group_rows(open, attributed, denied, thresholds, now);
        let mut table = folding.fold(rows, &settings.filter, settings.max_thing_groups);
        let tells_ended = attributed.includes_ended && (denied || attributed.waiting.is_empty());
        for row in table.rows.values_mut() {
            complete(row, scope, tells_ended, thresholds);
        }
        table
    });
    let shortest = settings.long_running_after.iter().min().copied();
    let series = settings.max_jobs.map(|max| series::choose(open, shortest, now, max)).unwrap_or_default();
    let job_series = |place: usize| JobSeries { place, groups: series::groups(&open[place], &settings.filter) };
    let series: Vec<JobSeries> = series.into_iter().map(job_series).collect();
    let left_out = if settings.max_jobs.is_some() { open.len() - series.len() } else { 0 };
    Census { attention, groups, series, omitted_jobs: left_out as u64 }
}

fn none_of(thresholds: &[Duration]) -> BTreeMap<Duration, u64> {
    thresholds.iter().map(|threshold| (*threshold, 0)).collect()
}

fn count_long_running(counts: &mut BTreeMap<Duration, u64>, job: &OpenJob, now: Timestamp) {
    let Some(running) = job.running_since().map(|since| now.since(since)) else { return };
    for (threshold, count) in counts {
        *count += u64::from(running > *threshold);
    }
}

/// SCHEDULED jobs without maintenance windows whose start is past, for each selection in scope of which all schedules are known.
fn start_overdue(counts: &Counts, scope: &Scope, now: Timestamp) -> BTreeMap<TargetSelection, u64> {
    let in_scope =
        scope.known_pairs().filter(|(status, _)| *status == Status::Scheduled).map(|(_, selection)| selection);
    let mut overdue: BTreeMap<TargetSelection, (u64, u64)> = in_scope.map(|selection| (selection, (0, 0))).collect();
    for job in counts.open.iter().filter(|job| job.status == Status::Scheduled) {
        let Some(schedule) = job.schedule.filter(|schedule| schedule.windowed || schedule.start != Start::Unreadable)
        else {
            continue;
        };
        let (known, late) = overdue.entry(job.target_selection.clone()).or_default();
        *known += 1;
        *late += u64::from(!schedule.windowed && schedule.start().is_some_and(|start| start < now));
    }
    let all = |selection: &TargetSelection| counts.jobs.get(&(Status::Scheduled, selection.clone())).copied();
    let sure = |(selection, (known, late))| (all(&selection) == Some(known)).then_some((selection, late));
    overdue.into_iter().filter_map(sure).collect()
}

/// Every group that a job has, with its jobs. One that has three groups counts in each.
fn group_rows(
    open: &[OpenJob],
    attributed: &Attributed,
    denied: bool,
    thresholds: &[Duration],
    now: Timestamp,
) -> BTreeMap<Label, GroupRow> {
    let mut rows: BTreeMap<Label, GroupRow> = BTreeMap::new();
    let mut add = |label: &Label, pair: &Pair, jobs: u64, oldest: Option<Timestamp>, job: Option<&OpenJob>| {
        let row = rows
            .entry(Label::clone(label))
            .or_insert_with(|| GroupRow { long_running: none_of(thresholds), ..GroupRow::default() });
        *row.jobs.entry(pair.clone()).or_default() += jobs;
        if let (true, Some(created)) = (pair.0.is_open(), oldest) {
            let known = row.oldest.entry(pair.clone()).or_insert(created);
            *known = created.min(*known);
        }
        if let Some(job) = job {
            count_long_running(&mut row.long_running, job, now);
        }
    };
    for job in open {
        let pair = (job.status.clone(), job.target_selection.clone());
        for label in job.groups.iter().flat_map(Groups::labels) {
            add(label, &pair, 1, job.created_at, Some(job));
        }
    }
    for ((pair, groups), sum) in &attributed.sums {
        for label in groups.labels() {
            add(label, pair, sum.jobs, sum.oldest, None);
        }
    }
    if denied {
        let unknown = Label::from(UNKNOWN);
        for waiting in attributed.waiting.values() {
            add(&unknown, &waiting.pair, 1, waiting.created_at, None);
        }
    }
    rows
}

/// What is known to be none becomes 0, and of ended jobs nothing is shown as long as some of them are missing.
fn complete(row: &mut GroupRow, scope: &Scope, tells_ended: bool, thresholds: &[Duration]) {
    let is_told = |pair: &Pair| tells_ended || pair.0.is_open();
    row.jobs.retain(|pair, _| is_told(pair));
    for pair in scope.known_pairs().filter(is_told) {
        row.jobs.entry(pair).or_default();
    }
    for threshold in thresholds {
        row.long_running.entry(*threshold).or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::Fingerprinter;
    use crate::jobs::{JobSummary, JobTarget, Schedule};
    use crate::memory::{Memory, Standing};
    use crate::snapshot::OpenJob;
    use crate::tally::{Attribution, Tally};

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
    const DAY: Duration = Duration::from_hours(24);

    fn settings() -> Settings {
        Settings {
            long_running_after: vec![DAY, 3 * DAY],
            filter: GroupFilter::default(),
            max_thing_groups: 200,
            max_jobs: Some(500),
        }
    }

    fn open_job(status: &str, selection: &str, age: Duration, schedule: Option<Schedule>) -> OpenJob {
        OpenJob {
            job_id: format!("{status}-{selection}-{age:?}").into(),
            status: status.into(),
            target_selection: selection.into(),
            created_at: Some(NOW.before(age)),
            last_updated_at: None,
            groups: None,
            schedule,
            executions: None,
            described_at: None,
        }
    }

    fn tallied(open: Vec<OpenJob>) -> Tallied {
        let mut jobs = BTreeMap::new();
        for job in &open {
            *jobs.entry((job.status.clone(), job.target_selection.clone())).or_default() += 1;
        }
        Tallied { counts: Counts { jobs, open, ..Counts::default() }, attributed: None }
    }

    fn attention(open: Vec<OpenJob>, scope: &Scope) -> Attention {
        take(&tallied(open), scope, &settings(), false, &mut Folding::default(), NOW).attention
    }

    fn starting(start: Timestamp) -> Schedule {
        Schedule { start: Start::At(start), ..Schedule::default() }
    }

    const WINDOWED: Option<Schedule> = Some(Schedule { start: Start::Unreadable, end: None, windowed: true });

    #[test]
    fn long_running_are_snapshot_jobs_in_progress_for_longer_than_a_threshold_without_windows() {
        let open = vec![
            open_job("IN_PROGRESS", "SNAPSHOT", DAY, None),
            open_job("IN_PROGRESS", "SNAPSHOT", DAY + Duration::from_secs(1), None),
            open_job("IN_PROGRESS", "SNAPSHOT", 9 * DAY, Some(Schedule::default())),
            open_job("IN_PROGRESS", "SNAPSHOT", 8 * DAY, Some(starting(NOW.before(2 * DAY)))),
            open_job("IN_PROGRESS", "SNAPSHOT", 7 * DAY, WINDOWED),
            open_job("IN_PROGRESS", "CONTINUOUS", 9 * DAY, Some(Schedule::default())),
            open_job("SCHEDULED", "SNAPSHOT", 9 * DAY, Some(starting(NOW.before(9 * DAY)))),
        ];
        let found = attention(open, &Scope::default()).long_running;
        assert_eq!(found, BTreeMap::from([(DAY, 3), (3 * DAY, 1)]));
    }

    #[test]
    fn long_running_is_absent_where_such_jobs_are_out_of_scope_and_0_where_there_are_none() {
        assert_eq!(attention(vec![], &Scope::default()).long_running, BTreeMap::from([(DAY, 0), (3 * DAY, 0)]));
        let scope = Scope { statuses: vec![Status::Scheduled], ..Scope::default() };
        assert_eq!(attention(vec![], &scope).long_running, BTreeMap::new());
    }

    #[test]
    fn overdue_are_scheduled_jobs_without_windows_whose_start_is_past() {
        let open = vec![
            open_job("SCHEDULED", "SNAPSHOT", DAY, Some(starting(NOW.before(Duration::from_secs(1))))),
            open_job("SCHEDULED", "SNAPSHOT", 2 * DAY, Some(starting(NOW.after(DAY)))),
            open_job(
                "SCHEDULED",
                "SNAPSHOT",
                3 * DAY,
                Some(Schedule { start: Start::At(NOW.before(DAY)), end: None, windowed: true }),
            ),
        ];
        let found = attention(open, &Scope::default()).start_overdue;
        assert_eq!(found, BTreeMap::from([(TargetSelection::Snapshot, 1)]));
    }

    #[test]
    fn overdue_is_absent_for_a_selection_of_which_a_schedule_is_not_known() {
        let open = vec![
            open_job("SCHEDULED", "SNAPSHOT", DAY, Some(starting(NOW.before(DAY)))),
            open_job("SCHEDULED", "SNAPSHOT", 2 * DAY, None),
            open_job("SCHEDULED", "CONTINUOUS", DAY, Some(starting(NOW.before(DAY)))),
        ];
        let found = attention(open, &Scope::default()).start_overdue;
        assert_eq!(found, BTreeMap::from([(TargetSelection::Continuous, 1)]));
    }

    /// A tally of jobs in groups: id, status, groups; `None` for groups that were not told.
    fn in_groups(jobs: &[(&str, &str, Option<&[&str]>)]) -> Tallied {
        let mut memory = Memory::new(Fingerprinter::new(&[3; 16]));
        let mut tally = Tally::new(memory.fingerprints(), Attribution::EndedSince(NOW.before(DAY)));
        for (id, status, groups) in jobs {
            let summary = JobSummary {
                job_id: Some((*id).to_owned()),
                status: Some((*status).into()),
                target_selection: Some(TargetSelection::Snapshot),
                created_at: Some(NOW),
                is_concurrent: Some(false),
                ..JobSummary::default()
            };
            if let Some(groups) = groups {
                let targets: Vec<JobTarget> =
                    groups.iter().map(|name| JobTarget::ThingGroup((*name).to_owned())).collect();
                let job = memory.fingerprints().of(id);
                memory.learn_targets(job, summary.created_at, Some(&targets), Standing::Settled);
            }
            tally.add(&summary, &memory);
        }
        tally.finish(&Scope::default(), &mut memory)
    }

    fn rows(tallied: &Tallied, denied: bool) -> BTreeMap<String, BTreeMap<String, u64>> {
        let census = take(tallied, &Scope::default(), &settings(), denied, &mut Folding::default(), NOW);
        let snapshot = |row: &GroupRow| -> BTreeMap<String, u64> {
            let of_snapshot = row.jobs.iter().filter(|((_, selection), _)| *selection == TargetSelection::Snapshot);
            of_snapshot.map(|((status, _), n)| (status.to_string(), *n)).collect()
        };
        let rows = census.groups.expect("groups").rows;
        rows.iter().map(|(label, row)| (label.to_string(), snapshot(row))).collect()
    }

    #[test]
    fn a_job_counts_in_each_of_its_groups_and_a_shown_group_has_every_known_pair() {
        let tallied = in_groups(&[
            ("1", "IN_PROGRESS", Some(&["a", "b"])),
            ("2", "COMPLETED", Some(&["b"])),
            ("3", "SCHEDULED", Some(&[])),
            ("4", "IN_PROGRESS", None),
        ]);
        let rows = rows(&tallied, false);
        assert_eq!(rows.keys().collect::<Vec<_>>(), ["<none>", "<unknown>", "a", "b"]);
        let of = |group: &str, status: &str| rows[group][status];
        assert_eq!(
            [of("a", "IN_PROGRESS"), of("b", "IN_PROGRESS"), of("b", "COMPLETED"), of("a", "COMPLETED")],
            [1, 1, 1, 0]
        );
        assert_eq!([of("<none>", "SCHEDULED"), of("<unknown>", "IN_PROGRESS")], [1, 1]);
        assert!(rows.values().all(|row| row.len() == Status::KNOWN.len()));
    }

    #[test]
    fn while_an_ended_job_is_undescribed_ended_rows_are_absent_and_not_too_low() {
        let tallied =
            in_groups(&[("1", "IN_PROGRESS", Some(&["a"])), ("2", "COMPLETED", Some(&["a"])), ("3", "CANCELED", None)]);
        let open = ["DELETION_IN_PROGRESS", "IN_PROGRESS", "SCHEDULED"];
        let shown = rows(&tallied, false);
        assert_eq!(shown.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(shown["a"].keys().collect::<Vec<_>>(), open);

        let denied = rows(&tallied, true);
        assert_eq!((denied["a"]["COMPLETED"], denied["<unknown>"]["CANCELED"]), (1, 1), "it will never be described");
    }
}
