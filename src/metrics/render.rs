//! Renders the state of a target as sample lines.

use super::catalogue::{
    COLLECTOR_DURATION, COLLECTOR_FRESH, COLLECTOR_INTERVAL, COLLECTOR_JOBS, COLLECTOR_LAST_SUCCESS, COLLECTOR_SUCCESS,
    ENDED_JOB_EXECUTIONS, FOLDED_THING_GROUPS, Family, JOB_ABORT_CRITERIA_MET, JOB_COMPLETED, JOB_CREATED,
    JOB_DESCRIBED, JOB_EXECUTIONS, JOB_INFO, JOB_LAST_PROGRESS, JOB_LAST_UPDATED, JOB_OLDEST_OPEN_EXECUTION,
    JOB_OPEN_EXECUTION_SINCE, JOB_SCHEDULED_END, JOB_SCHEDULED_START, JOB_STATUS, JOB_STUCK, JOB_TAGS_INFO,
    JOB_THING_GROUP_INFO, JOB_WINDOWED, JOBS, JOBS_CONCURRENT, JOBS_OLDEST_CREATED, JOBS_PROGRESS_UNKNOWN,
    JOBS_START_OVERDUE, JOBS_STUCK, JOBS_UNDESCRIBED, OMITTED_JOBS, OVERLAPPING_TARGETS, TARGET_INFO, THING_GROUP_JOBS,
    THING_GROUP_JOBS_OLDEST_CREATED, THING_GROUP_JOBS_STUCK, UP, WALK_DUPLICATES, WALK_JOBS, WALK_MALFORMED,
    WALK_PAGES,
};
use super::samples::{Labels, SampleWriter, Samples, Value};
use super::{Collector, ListingState, TargetState, by_collector};
use crate::jobs::{ExecutionStatus, JobSeries, OpenExecution, Pair, Part, Timestamp, tag_label};

type TimeOfJob = fn(&JobSeries) -> Option<Timestamp>;
type FlagOfJob = fn(&JobSeries) -> Option<bool>;
type ValueOfListing = fn(&ListingState) -> Option<Value>;

/// The samples of open jobs, or of ended ones.
pub(super) fn part(part: &Part, tag_keys: &[String], labels: &Labels) -> Samples {
    let mut writer = SampleWriter::new(labels);
    write_sums(&mut writer, part);
    write_series(&mut writer, &part.series);
    write_executions(&mut writer, &part.series);
    write_tags(&mut writer, &part.series, tag_keys);
    writer.finish()
}

fn write_sums(writer: &mut SampleWriter, part: &Part) {
    writer.gauge(&JOBS, part.jobs.iter().map(|(pair, jobs)| (of_pair(pair), *jobs)));
    writer.gauge(&JOBS_OLDEST_CREATED, part.oldest_created.iter().map(|(pair, at)| (of_pair(pair), at.as_secs_f64())));
    for (family, counts) in [(&JOBS_CONCURRENT, &part.concurrent), (&JOBS_START_OVERDUE, &part.start_overdue)] {
        writer.gauge(family, counts.iter().map(|(selection, jobs)| ([selection.as_str()], *jobs)));
    }
    if let Some(progress) = &part.progress {
        let stuck = progress.stuck.iter().map(|(selection, jobs)| ([selection.as_str()], *jobs));
        writer.gauge(&JOBS_STUCK, stuck);
        writer.gauge(&JOBS_PROGRESS_UNKNOWN, [([], progress.unknown)]);
        writer.gauge(&THING_GROUP_JOBS_STUCK, part.thing_groups.iter().map(|(group, row)| ([&**group], row.stuck)));
    }
    let groups = part.thing_groups.iter();
    let jobs = groups.clone().flat_map(|(group, row)| row.jobs.iter().map(move |(pair, jobs)| (group, pair, *jobs)));
    writer.gauge(&THING_GROUP_JOBS, jobs.map(|(group, pair, jobs)| (of_group(group, pair), jobs)));
    let oldest = groups.flat_map(|(group, row)| row.oldest_created.iter().map(move |(pair, at)| (group, pair, *at)));
    let oldest = oldest.map(|(group, pair, at)| (of_group(group, pair), at.as_secs_f64()));
    writer.gauge(&THING_GROUP_JOBS_OLDEST_CREATED, oldest);
}

fn write_series(writer: &mut SampleWriter, series: &[JobSeries]) {
    writer.gauge(&JOB_INFO, series.iter().map(|job| ([&*job.id, job.pair.1.as_str()], true)));
    writer.gauge(&JOB_STATUS, series.iter().map(|job| ([&*job.id, job.pair.0.as_str()], true)));
    let flags: [(&'static Family, FlagOfJob); 3] = [
        (&JOB_WINDOWED, |job| job.windowed),
        (&JOB_STUCK, |job| job.is_stuck),
        (&JOB_ABORT_CRITERIA_MET, |job| job.meets_abort_criteria),
    ];
    for (family, flag) in flags {
        writer.gauge(family, series.iter().filter_map(|job| Some(([&*job.id], flag(job)?))));
    }
    let groups = series.iter().flat_map(|job| job.thing_groups.iter().map(|group| ([&*job.id, &**group], true)));
    writer.gauge(&JOB_THING_GROUP_INFO, groups);
    let times: [(&'static Family, TimeOfJob); 7] = [
        (&JOB_CREATED, |job| job.created_at),
        (&JOB_LAST_UPDATED, |job| job.last_updated_at),
        (&JOB_SCHEDULED_START, |job| job.scheduled_start),
        (&JOB_SCHEDULED_END, |job| job.scheduled_end),
        (&JOB_COMPLETED, |job| job.completed_at),
        (&JOB_DESCRIBED, |job| job.described_at),
        (&JOB_LAST_PROGRESS, |job| job.last_progress),
    ];
    for (family, time) in times {
        writer.gauge(family, series.iter().filter_map(|job| Some(([&*job.id], time(job)?.as_secs_f64()))));
    }
}

fn write_executions(writer: &mut SampleWriter, series: &[JobSeries]) {
    let oldest = series.iter().flat_map(|job| {
        job.oldest_open.iter().map(|(status, since)| ([&*job.id, status.as_str()], since.as_secs_f64()))
    });
    writer.gauge(&JOB_OLDEST_OPEN_EXECUTION, oldest);
    let named = series.iter().flat_map(|job| job.named.iter().map(move |execution| (job, execution)));
    let named = named.map(|(job, OpenExecution { since, thing, status })| {
        ([&*job.id, &**thing, status.as_str()], since.as_secs_f64())
    });
    writer.gauge(&JOB_OPEN_EXECUTION_SINCE, named);
    for (family, is_open) in [(&JOB_EXECUTIONS, true), (&ENDED_JOB_EXECUTIONS, false)] {
        let jobs = series.iter().filter(|job| job.pair.0.is_open() == is_open);
        let jobs = jobs.filter_map(|job| Some((&*job.id, job.executions?)));
        let executions = jobs.flat_map(|(id, counts)| {
            let count = move |status: ExecutionStatus| Some(([id, status.as_str()], u64::from(counts.get(status)?)));
            ExecutionStatus::ALL.into_iter().filter_map(count)
        });
        writer.gauge(family, executions);
    }
}

/// The labels of this family are configured.
fn write_tags(writer: &mut SampleWriter, series: &[JobSeries], tag_keys: &[String]) {
    let labels: Vec<String> = tag_keys.iter().map(|key| tag_label(key)).collect();
    let samples = series.iter().filter_map(|job| {
        let values = job.tags.as_ref()?.iter().map(|value| value.as_deref().unwrap_or_default());
        let tags = labels.iter().map(String::as_str).zip(values);
        Some((std::iter::once(("job_id", &*job.id)).chain(tags), true.into()))
    });
    writer.gauge_with_labels(&JOB_TAGS_INFO, samples);
}

fn of_pair((status, selection): &Pair) -> [&str; 2] {
    [status.as_str(), selection.as_str()]
}

fn of_group<'a>(group: &'a str, (status, selection): &'a Pair) -> [&'a str; 3] {
    [group, status.as_str(), selection.as_str()]
}

/// Sums over the open and the ended jobs of a target.
pub(super) fn jobs_of_target(state: &TargetState, labels: &Labels) -> Samples {
    let mut writer = SampleWriter::new(labels);
    writer.gauge(&JOBS_UNDESCRIBED, sum(state, |part| part.undescribed).map(|jobs| ([], jobs)));
    writer.gauge(&TARGET_INFO, [([], true)]);
    writer.finish()
}

/// The families about the target itself.
pub(super) fn target(state: &TargetState, labels: &Labels) -> Samples {
    let mut writer = SampleWriter::new(labels);
    let listings = || {
        let all_jobs = state.all_jobs.as_ref().map(|listing| (Collector::AllJobs, listing));
        std::iter::once((Collector::OpenJobs, &state.open_jobs)).chain(all_jobs)
    };
    writer.gauge(&UP, [([], listings().all(|(_, listing)| listing.is_up()))]);
    let parts = [(Collector::OpenJobs, &state.open), (Collector::AllJobs, &state.ended)];
    let omitted = parts.map(|(collector, part)| Some(([collector.as_str()], part.as_ref()?.part.omitted_jobs)));
    let is_any_shown = state.open.is_some() || state.ended.is_some();
    writer.gauge(&FOLDED_THING_GROUPS, is_any_shown.then_some(([], state.folded_thing_groups)));
    writer.gauge(&OMITTED_JOBS, omitted.into_iter().flatten());
    let states = by_collector(&state.states).into_iter().flat_map(|(collector, states)| {
        states.into_iter().flatten().map(move |(state, jobs)| ([collector.as_str(), state.as_str()], *jobs))
    });
    writer.gauge(&COLLECTOR_JOBS, states);
    let values: [(&'static Family, ValueOfListing); 9] = [
        (&COLLECTOR_SUCCESS, |listing| Some(listing.last_run.as_ref()?.failure.is_none().into())),
        (&COLLECTOR_FRESH, |listing| Some(listing.is_fresh.into())),
        (&COLLECTOR_LAST_SUCCESS, |listing| Some(listing.last_success?.as_secs_f64().into())),
        (&COLLECTOR_DURATION, |listing| Some(listing.last_run.as_ref()?.duration.as_secs_f64().into())),
        (&COLLECTOR_INTERVAL, |listing| Some(listing.interval.as_secs_f64().into())),
        (&WALK_PAGES, |listing| Some(listing.last_walk?.pages.into())),
        (&WALK_JOBS, |listing| Some((listing.last_walk?.stats.jobs as u64).into())),
        (&WALK_DUPLICATES, |listing| Some((listing.last_walk?.stats.duplicates as u64).into())),
        (&WALK_MALFORMED, |listing| Some((listing.last_walk?.stats.malformed as u64).into())),
    ];
    for (family, value) in values {
        let samples = listings().filter_map(|(collector, listing)| Some(([collector.as_str()], value(listing)?)));
        writer.gauge(family, samples);
    }
    writer.finish()
}

/// The number of other targets with the same jobs.
pub(super) fn overlapping(others: u64, labels: &Labels) -> Samples {
    let mut writer = SampleWriter::new(labels);
    writer.gauge(&OVERLAPPING_TARGETS, [([], others)]);
    writer.finish()
}

/// The sum over the shown jobs of a target; `None` if nothing is shown.
fn sum(state: &TargetState, value: impl Fn(&Part) -> Option<u64>) -> Option<u64> {
    let shown = state.open.iter().chain(&state.ended).filter_map(|published| value(&published.part));
    shown.reduce(u64::saturating_add)
}
