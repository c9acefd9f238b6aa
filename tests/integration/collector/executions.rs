//! What is known about the progress of open jobs, over the whole of the exporter's own code.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_iot_jobs_exporter::jobs::{CacheState, ExecutionStatus, JobSeries, TargetSelection, Timestamp};
use aws_iot_jobs_exporter::metrics::{Collector, ListingState, Reason, TargetState};
use aws_iot_jobs_exporter::simulator::{Execution, Fault, Job, Operation, Rule, Script};

use super::{DAY, MINUTE, Running, SECOND, Setup, open, open_jobs, part, settings, total};
use crate::support::{Fate, NOW, simulator as simulated};

const HOUR: Duration = Duration::from_hours(1);

fn execution(thing: u32, status: ExecutionStatus, queued_at: Timestamp, updated_at: Timestamp) -> Execution {
    let started_at = (status != ExecutionStatus::Queued).then_some(updated_at);
    let last_updated_at = updated_at;
    Execution { thing, number: 1, retry_attempt: 0, status, queued_at, started_at, last_updated_at, version: 1 }
}

/// A job of three things, two of which have finished, and one of which never asks.
fn waiting(id: &str, finished: Duration) -> Job {
    let created = NOW.before(10 * DAY);
    let mut job = Job::new(id, aws_iot_jobs_exporter::jobs::Status::InProgress, created);
    for (thing, name) in ["press-1", "press-2", "press-3"].into_iter().enumerate() {
        job = job.targeting_thing(name);
        let (status, updated) = match thing {
            0 => (ExecutionStatus::Succeeded, NOW.before(finished + HOUR)),
            1 => (ExecutionStatus::Failed, NOW.before(finished)),
            _ => (ExecutionStatus::Queued, created),
        };
        job = job.with_execution(execution(u32::try_from(thing).expect("a number"), status, created, updated));
    }
    job
}

fn series<'a>(state: &'a TargetState, id: &str) -> &'a JobSeries {
    part(state.open.as_ref()).series.iter().find(|job| &*job.id == id).expect("a job with series")
}

/// Stuck jobs of all selections, and those of which it is not known; `None` if nothing is shown.
fn stuck(state: &TargetState) -> Option<(u64, u64)> {
    let progress = part(state.open.as_ref()).progress.as_ref()?;
    Some((progress.stuck.values().sum(), progress.unknown))
}

fn looks(state: &TargetState, of: CacheState) -> u64 {
    state.states.executions.as_ref().expect("looks")[&of]
}

#[tokio::test(start_paused = true)]
async fn a_stuck_job_shows_its_last_progress_and_names_what_holds_it_open_also_after_a_restart() {
    let simulator = simulated([waiting("stuck", 2 * DAY), waiting("slow", HOUR), open("idle")]);
    for _restart in 0..2 {
        let running = Running::start(&simulator).await;
        let state = running.after(10 * SECOND).await;
        assert_eq!(stuck(&state), Some((1, 0)));
        let stuck = series(&state, "stuck");
        assert_eq!((stuck.is_stuck, stuck.last_progress), (Some(true), Some(NOW.before(2 * DAY))));
        let names: Vec<&str> = stuck.named.iter().map(|execution| &*execution.thing).collect();
        assert_eq!(names, ["press-3"]);
        assert_eq!(stuck.oldest_open, BTreeMap::from([(ExecutionStatus::Queued, NOW.before(10 * DAY))]));
        let slow = series(&state, "slow");
        assert_eq!((slow.is_stuck, slow.last_progress, slow.named.len()), (Some(false), Some(NOW.before(HOUR)), 0));
        let idle = series(&state, "idle");
        assert_eq!((idle.is_stuck, idle.last_progress), (Some(false), None), "it has no open execution");
        assert!(running.wire.releases("/jobs/idle/things").is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_shown_of_stuck_jobs_until_every_job_of_the_first_walk_is_known() {
    let simulator = simulated((0..20).map(|n| waiting(&format!("job-{n:02}"), 2 * DAY)));
    let running = Running::start_with(&simulator, Setup { rate: 2.0, ..Setup::default() }).await;
    running.after(MINUTE * 3).await;
    let mut shown = false;
    for (at, state) in running.history() {
        let Some(counts) = state.open.as_ref().and_then(|_| stuck(&state)) else {
            assert!(!shown, "it was shown before {at:?}");
            continue;
        };
        shown = true;
        assert_eq!(counts, (20, 0), "{at:?}");
    }
    assert!(shown);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_crosses_its_threshold_is_described_and_looked_at_again_first() {
    let simulator = simulated([waiting("late", DAY - 45 * MINUTE)]);
    let running = Running::start(&simulator).await;
    let state = running.after(44 * MINUTE + 58 * SECOND).await;
    assert_eq!(series(&state, "late").is_stuck, Some(false));
    assert_eq!(running.wire.releases("/jobs/late/things").len(), 3, "all, then QUEUED and IN_PROGRESS");
    let described = running.descriptions("late");
    let state = running.after(5 * SECOND).await;
    assert_eq!(series(&state, "late").is_stuck, Some(true));
    assert_eq!(running.wire.releases("/jobs/late/things").len(), 4, "all again");
    assert_eq!(running.descriptions("late"), described + 1);
}

#[tokio::test(start_paused = true)]
async fn progress_that_only_the_last_look_shows_keeps_a_job_from_becoming_stuck() {
    let simulator = simulated([waiting("working", DAY - 10 * MINUTE)]);
    let running = Running::start(&simulator).await;
    running.after(5 * MINUTE).await;
    // The device reports, and nothing that DescribeJob counts changes.
    let now = running.clock.now().wall;
    running.change("working", |job| {
        *job = waiting("working", DAY - 10 * MINUTE);
        *job = job.clone().with_execution(execution(7, ExecutionStatus::InProgress, NOW.before(3 * DAY), now));
        job.executions_mut();
    });
    let state = running.after(30 * MINUTE).await;
    assert_eq!(series(&state, "working").is_stuck, Some(false));
    for (at, state) in running.history() {
        assert!(state.open.as_ref().and_then(|_| stuck(&state)).is_none_or(|(stuck, _)| stuck == 0), "{at:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_permission_only_the_progress_is_missing_and_it_comes_with_the_permission() {
    let simulator = simulated((0..12).map(|n| waiting(&format!("job-{n:02}"), 2 * DAY)));
    simulator.set_script(Script::new([Rule::new(Fault::Denied).on(Operation::ListJobExecutionsForJob)]));
    let running = Running::start(&simulator).await;
    let state = running.after(MINUTE * 20).await;
    assert_eq!((total(state.open.as_ref()), stuck(&state), looks(&state, CacheState::Denied)), (Some(12), None, 12));
    assert!(state.open_jobs.is_up() && state.all_jobs.as_ref().is_some_and(ListingState::is_up));
    let job = series(&state, "job-00");
    assert!(job.executions.is_some() && job.described_at.is_some());
    assert_eq!((job.is_stuck, job.last_progress, job.named.len(), job.oldest_open.len()), (None, None, 0, 0));
    let asked = running.failures(Collector::Executions, Reason::Denied);
    assert!((20..=30).contains(&asked), "one job a minute after the first ones: {asked}");

    simulator.clear_script();
    let state = running.after(MINUTE * 2).await;
    assert_eq!((stuck(&state), looks(&state, CacheState::Fresh)), (Some((12, 0)), 12));
}

#[tokio::test(start_paused = true)]
async fn looks_that_hang_or_fail_delay_no_listing_and_no_description() {
    for fault in [Fault::Hang, Fault::Error503, Fault::RepeatedToken, Fault::MissingJobs, Fault::WrongJson] {
        let simulator = simulated((0..5).map(|n| waiting(&format!("job-{n}"), 2 * DAY)));
        let running = Running::start(&simulator).await;
        running.wire.set_page_size(|request| request.uri().path().ends_with("/things").then_some(1));
        simulator.set_script(Script::new([Rule::new(fault).on(Operation::ListJobExecutionsForJob)]));
        for round in 1..=5 {
            running.add(waiting(&format!("new-{round}"), 2 * DAY));
            let state = running.after(MINUTE * 2).await;
            assert_eq!(total(state.open.as_ref()), Some(5 + round), "{fault}");
            assert_eq!(state.states.details.as_ref().expect("details")[&CacheState::Fresh], 5 + round, "{fault}");
            let job = series(&state, "job-0");
            assert_eq!((job.is_stuck, job.last_progress), (None, None), "{fault}: half a look is never shown");
        }
        assert!(running.all_failures(Collector::Executions) > 0, "{fault}");
        assert_eq!([Collector::OpenJobs, Collector::Details].map(|it| running.all_failures(it)), [0, 0], "{fault}");
        simulator.clear_script();
        let state = running.after(MINUTE * 15).await;
        assert_eq!(stuck(&state), Some((10, 0)), "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_reads_every_page_and_no_more_than_a_hundred() {
    let mut small = open("small").targeting_group("line");
    let mut large = small.clone();
    small.id = "small".to_owned();
    large.id = "large".to_owned();
    small.executions.set(ExecutionStatus::Queued, 7);
    large.executions.set(ExecutionStatus::Queued, 150);
    let simulator = simulated([small, large]);
    let running = Running::start(&simulator).await;
    running.wire.set_page_size(|request| request.uri().path().ends_with("/things").then_some(1));
    let state = running.after(MINUTE).await;
    assert_eq!(running.wire.releases("/jobs/small/things").len(), 7);
    assert_eq!(running.wire.releases("/jobs/large/things").len(), 100);
    let (small, large) = (series(&state, "small"), series(&state, "large"));
    assert_eq!((small.oldest_open.len(), large.oldest_open.len()), (1, 0), "the oldest of a part is not the oldest");
    assert!(large.last_progress >= Some(NOW), "the first sight stands in");
}

#[tokio::test(start_paused = true)]
async fn a_look_is_repeated_every_interval_and_at_a_new_threshold_at_once() {
    let simulator = simulated([waiting("job", 2 * HOUR)]);
    let running = Running::start(&simulator).await;
    running.after(2 * HOUR).await;
    // Of a first look one request, of each later one two.
    let requests = running.wire.releases("/jobs/job/things").len();
    assert_eq!(requests, 1 + 2 * 3);
    running.configure(|settings| settings.jobs.stuck_after = 3 * HOUR);
    let state = running.after(5 * SECOND).await;
    assert_eq!(series(&state, "job").is_stuck, Some(true));
    running.configure(|settings| settings.collectors.executions.enabled = false);
    let state = running.after(5 * SECOND).await;
    assert_eq!((stuck(&state), series(&state, "job").is_stuck, state.states.executions), (None, None, None));
}

#[tokio::test(start_paused = true)]
async fn an_execution_that_takes_long_is_named_although_its_job_is_not_stuck() {
    let started = NOW.before(2 * HOUR);
    let job = open("job").targeting_thing("press-1").targeting_thing("press-2");
    let job = job.with_execution(execution(0, ExecutionStatus::InProgress, started, started));
    let job = job.with_execution(execution(1, ExecutionStatus::Queued, started, started));
    let running = Running::start(&simulated([job])).await;
    let state = running.after(10 * SECOND).await;
    let job = series(&state, "job");
    let named: Vec<(&str, Timestamp)> = job.named.iter().map(|named| (&*named.thing, named.since)).collect();
    assert_eq!((job.is_stuck, named), (Some(false), vec![("press-1", started)]));
}

#[tokio::test(start_paused = true)]
async fn stuck_jobs_count_by_selection_and_group_and_have_series_first() {
    let jobs = open_jobs(5).chain([waiting("stuck", 3 * DAY).targeting_group("press").continuous()]);
    let setup = Setup {
        settings: {
            let mut settings = settings();
            settings.limits.max_jobs = 1;
            settings
        },
        ..Setup::default()
    };
    let running = Running::start_with(&simulated(jobs), setup).await;
    let state = running.after(10 * SECOND).await;
    let part = part(state.open.as_ref());
    let progress = part.progress.as_ref().expect("progress");
    let expected = [(TargetSelection::Snapshot, 0), (TargetSelection::Continuous, 1)];
    assert_eq!(progress.stuck, BTreeMap::from(expected));
    assert_eq!([&part.thing_groups["press"], &part.thing_groups["line"]].map(|row| row.stuck), [1, 0]);
    assert_eq!(part.series.iter().map(|job| &*job.id).collect::<Vec<_>>(), ["stuck"]);
}

#[tokio::test(start_paused = true)]
async fn tags_of_open_and_ended_jobs_are_read_once_a_day_on_all_their_pages() {
    let many = |job: Job| (0..30).fold(job, |job, n| job.tagged(&format!("key-{n:02}"), "x")).tagged("team", "line 1");
    let simulator = simulated([many(open("open")), many(super::ended("ended", DAY)), open("untagged")]);
    let keys = || vec!["team".to_owned(), "key-29".to_owned()];
    let mut settings = settings();
    settings.collectors.tags.keys = keys();
    settings.collectors.open_jobs.interval = MINUTE * 10;
    let running = Running::start_with(&simulator, Setup { settings, ..Setup::default() }).await;
    let state = running.after(20 * SECOND).await;
    assert_eq!(&*state.tag_keys, keys());
    let tags = |job: &JobSeries| -> Vec<Option<String>> {
        job.tags.as_ref().expect("tags").iter().map(|value| value.as_deref().map(str::to_owned)).collect()
    };
    let both = vec![Some("line 1".to_owned()), Some("x".to_owned())];
    assert_eq!((tags(series(&state, "open")), tags(series(&state, "untagged"))), (both.clone(), vec![None, None]));
    assert_eq!(tags(&part(state.ended.as_ref()).series[0]), both);
    let pages = running.wire.releases("/tags").len();
    assert_eq!(pages, 4 + 4 + 1, "31 tags are 4 pages");
    running.after(23 * HOUR).await;
    assert_eq!(running.wire.releases("/tags").len(), pages);
    running.after(2 * HOUR).await;
    assert_eq!(running.wire.releases("/tags").len(), 2 * pages);
}

#[tokio::test(start_paused = true)]
async fn tags_that_are_denied_or_hang_are_missing_alone() {
    let simulator = simulated(open_jobs(3));
    let mut settings = settings();
    settings.collectors.tags.keys = vec!["team".to_owned()];
    let running = Running::start_with(&simulator, Setup { settings, ..Setup::default() }).await;
    running.wire.decide(|request| if request.uri().path() == "/tags" { Fate::Hangs } else { Fate::Arrives });
    let state = running.after(MINUTE * 5).await;
    assert_eq!((total(state.open.as_ref()), series(&state, "open-000").tags.as_ref()), (Some(3), None));
    running.wire.decide(|_| Fate::Arrives);
    simulator.set_script(Script::new([Rule::new(Fault::Denied).on(Operation::ListTagsForResource)]));
    let state = running.after(MINUTE * 15).await;
    assert_eq!(state.states.tags.as_ref().expect("tags")[&CacheState::Denied], 3);
    simulator.clear_script();
    let state = running.after(MINUTE * 2).await;
    assert_eq!(state.states.tags.as_ref().expect("tags")[&CacheState::Fresh], 3);
}
