//! What `DescribeJob` adds, on the paused clock: groups, executions, schedules; and what is shown while it can't be had.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_iot_jobs_exporter::config::{Config, Resolve};
use aws_iot_jobs_exporter::http::StatusCode;
use aws_iot_jobs_exporter::jobs::group_filter::Pattern;
use aws_iot_jobs_exporter::jobs::{ExecutionStatus, Status, TargetSelection, Timestamp};
use aws_iot_jobs_exporter::simulator::{
    self, Call, Fleet, Job, MaintenanceWindow, Operation, Response, Scheduling, Simulator, ThingGroup,
};
use tokio::time::Instant;

use crate::support::{Exporter, Exposition, Fate, NOW, REGION, ThreadLog, account, simulator as simulated, target};

const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

pub fn open(id: &str) -> Job {
    Job::new(id, Status::InProgress, NOW.before(DAY / 2))
}

pub fn ended(id: &str, age: Duration) -> Job {
    Job::new(id, Status::Completed, NOW.before(age + DAY)).updated(NOW.before(age))
}

/// Answers `DescribeJob` in the simulator's stead, where `answer` gives one.
fn describe_job(simulator: &Simulator, answer: impl Fn(&Call) -> Option<Response> + Send + Sync + 'static) {
    simulator.intercept(move |call| if call.operation == Operation::DescribeJob { answer(call) } else { None });
}

fn denied() -> Response {
    simulator::error(StatusCode::FORBIDDEN, "AccessDeniedException", "not authorized to perform: iot:DescribeJob")
}

fn unavailable() -> Response {
    simulator::error(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException", "later")
}

fn change(exporter: &Exporter, id: &str, change: impl FnOnce(&mut Job)) {
    let changed = exporter.simulator.with_fleet(&account(), REGION, |fleet| fleet.update_job(id, change));
    assert!(changed, "there is no job {id}");
}

/// The rows of `aws_iot_thing_group_jobs` that are not 0, by group, status and selection.
pub fn group_rows(shown: &Exposition) -> BTreeMap<[String; 3], f64> {
    let rows = shown.family("aws_iot_thing_group_jobs").filter(|(_, jobs)| *jobs > 0.0);
    rows.map(|(labels, jobs)| (["thing_group", "status", "target_selection"].map(|label| labels[label].clone()), jobs))
        .collect()
}

fn of_group(shown: &Exposition, group: &str, status: &str) -> Option<f64> {
    let labels = [("thing_group", group), ("status", status), ("target_selection", "SNAPSHOT")];
    shown.value("aws_iot_thing_group_jobs", &labels)
}

fn executions(shown: &Exposition, job: &str, status: &str) -> Option<f64> {
    shown.value("aws_iot_job_executions", &[("job_id", job), ("execution_status", status)])
}

pub fn only(shown: &Exposition, name: &str) -> Option<f64> {
    shown.value(name, &[])
}

#[tokio::test(start_paused = true)]
async fn open_jobs_show_their_groups_executions_and_times() {
    let start = NOW.before(MINUTE * 90);
    let scheduling = Scheduling { start_time: Some(start), ..Scheduling::default() };
    let job = open("a").targeting_group("line").targeting_group("ring:canary").targeting_thing("d");
    let job = job.with_executions(ExecutionStatus::Queued, 3).with_executions(ExecutionStatus::TimedOut, 1);
    let exporter = Exporter::start(simulated([job.scheduled(scheduling)]), |_| {}).await;
    let shown = exporter.refreshed(1).await;
    let info = [("job_id", "a"), ("status", "IN_PROGRESS"), ("target_selection", "SNAPSHOT"), ("windowed", "false")];
    assert_eq!(shown.value("aws_iot_job_info", &info), Some(1.0));
    for group in ["line", "ring:canary"] {
        let labels = [("job_id", "a"), ("thing_group", group)];
        assert_eq!(shown.value("aws_iot_job_thing_group_info", &labels), Some(1.0), "{group}");
        assert_eq!(of_group(&shown, group, "IN_PROGRESS"), Some(1.0), "{group}");
        let oldest = [("thing_group", group), ("status", "IN_PROGRESS")];
        let created = NOW.before(DAY / 2).as_secs_f64();
        assert_eq!(
            shown.value("aws_iot_thing_group_jobs_oldest_created_timestamp_seconds", &oldest),
            Some(created),
            "{group}"
        );
    }
    assert_eq!([executions(&shown, "a", "QUEUED"), executions(&shown, "a", "TIMED_OUT")], [Some(3.0), Some(1.0)]);
    assert_eq!(shown.family("aws_iot_job_executions").count(), 8);
    let whole_minutes = (start.as_secs_f64() / 60.0).floor() * 60.0;
    let times = ["created", "last_updated", "scheduled_start"];
    let times = times.map(|of| only(&shown, &format!("aws_iot_job_{of}_timestamp_seconds")));
    let created = Some(NOW.before(DAY / 2).as_secs_f64());
    assert_eq!(times, [created, created, Some(whole_minutes)]);
    assert_eq!(only(&shown, "aws_iot_jobs_describe_failures"), Some(0.0));
    assert_eq!(only(&shown, "aws_iot_jobs_describe_denied"), Some(0.0));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_job_with_one_device_queued_crosses_the_threshold_and_others_of_its_age_do_not() {
    let created = NOW.before(DAY - 10 * MINUTE);
    let job = |id: &str| Job::new(id, Status::InProgress, created).targeting_group("line");
    let windows = vec![MaintenanceWindow { start_time: "cron(0 4 * * ? *)".to_owned(), duration_in_minutes: 60 }];
    let windows = Scheduling { maintenance_windows: windows, ..Scheduling::default() };
    let exporter = Exporter::start(
        simulated([
            job("stuck").with_executions(ExecutionStatus::Queued, 1),
            job("continuous").with_executions(ExecutionStatus::Queued, 1).continuous(),
            job("windowed").with_executions(ExecutionStatus::Queued, 1).scheduled(windows),
        ]),
        |config| config.refresh.interval = 5 * MINUTE,
    )
    .await;
    let long_running = |shown: &Exposition| {
        let of = |family: &str, threshold| shown.value(family, &[("threshold", threshold)]);
        [("aws_iot_jobs_long_running", "86400"), ("aws_iot_jobs_long_running", "259200")]
            .into_iter()
            .chain([("aws_iot_thing_group_jobs_long_running", "86400")])
            .map(|(family, threshold)| of(family, threshold).expect("a row"))
            .collect::<Vec<f64>>()
    };
    assert_eq!(long_running(&exporter.refreshed(1).await), [0.0, 0.0, 0.0]);
    tokio::time::sleep(12 * MINUTE).await;
    assert_eq!(long_running(&exporter.scrape().await), [1.0, 0.0, 1.0]);
    tokio::time::sleep(2 * DAY + 5 * MINUTE).await;
    assert_eq!(long_running(&exporter.scrape().await), [1.0, 1.0, 1.0], "thresholds are cumulative");
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_job_is_overdue_once_its_start_is_past_unless_it_waits_for_a_window() {
    let starting = |at: Timestamp, windows: usize| Scheduling {
        start_time: Some(at),
        maintenance_windows: vec![
            MaintenanceWindow {
                start_time: "cron(0 4 * * ? *)".to_owned(),
                duration_in_minutes: 60
            };
            windows
        ],
        ..Scheduling::default()
    };
    let job = |id: &str, scheduling| Job::new(id, Status::Scheduled, NOW.before(DAY)).scheduled(scheduling);
    let soon = NOW.after(5 * MINUTE);
    let exporter = Exporter::start(
        simulated([
            job("late", starting(soon, 0)),
            job("windowed", starting(soon, 1)),
            job("later", starting(NOW.after(DAY), 0)),
        ]),
        |_| {},
    )
    .await;
    let overdue =
        |shown: &Exposition, selection| shown.value("aws_iot_jobs_start_overdue", &[("target_selection", selection)]);
    let shown = exporter.refreshed(1).await;
    assert_eq!([overdue(&shown, "SNAPSHOT"), overdue(&shown, "CONTINUOUS")], [Some(0.0), Some(0.0)]);
    tokio::time::sleep(8 * MINUTE).await;
    assert_eq!(overdue(&exporter.scrape().await, "SNAPSHOT"), Some(1.0));
    // Without descriptions nothing is known of schedules.
    let blind = Exporter::start(exporter.simulator.clone(), |config| config.jobs.describe = false).await;
    let shown = blind.refreshed(1).await;
    assert_eq!([overdue(&shown, "SNAPSHOT"), overdue(&shown, "CONTINUOUS")], [None, Some(0.0)], "absent, and not 0");
}

#[tokio::test(start_paused = true)]
async fn where_a_description_is_newer_its_status_counts_in_every_family() {
    let exporter =
        Exporter::start(simulated([open("a").targeting_group("line"), open("b").targeting_group("line")]), |_| {})
            .await;
    let simulator = exporter.simulator.clone();
    // It completes between the walk and its description.
    describe_job(&exporter.simulator, move |call| {
        if call.resource == Some("a") {
            let now = call.now;
            call.simulator.with_fleet(call.account, call.region, |fleet| {
                fleet.update_job("a", |job| {
                    job.status = Status::Completed;
                    (job.last_updated_at, job.completed_at) = (now, Some(now));
                })
            });
        }
        None
    });
    let shown = exporter.refreshed(1).await;
    let completed = [("status", "COMPLETED"), ("target_selection", "SNAPSHOT")];
    assert_eq!(shown.value("aws_iot_jobs", &completed), Some(1.0));
    assert_eq!(
        [of_group(&shown, "line", "COMPLETED"), of_group(&shown, "line", "IN_PROGRESS")],
        [Some(1.0), Some(1.0)]
    );
    assert_eq!(shown.value("aws_iot_job_info", &[("job_id", "a")]), None, "it is not open any more");
    assert_eq!(only(&shown, "aws_iot_jobs_undescribed"), Some(0.0), "it has just been described");
    assert_eq!(simulator.requests(Operation::DescribeJob), 2);
}

#[tokio::test(start_paused = true)]
async fn a_description_that_is_older_than_the_summary_does_not_turn_the_clock_back() {
    let exporter = Exporter::start(simulated([open("a").updated(NOW)]), |_| {}).await;
    describe_job(&exporter.simulator, |call| {
        let at = NOW.before(MINUTE).as_secs_f64();
        let body = format!(
            r#"{{"job": {{"jobId": "{}", "status": "SCHEDULED", "targetSelection": "SNAPSHOT", "createdAt": {},
                 "lastUpdatedAt": {at}, "targets": ["arn:aws:iot:eu-west-1:012345678901:thing/a"]}}}}"#,
            call.resource.unwrap_or_default(),
            NOW.before(DAY / 2).as_secs_f64(),
        );
        Some(Response::new(body.into()))
    });
    let shown = exporter.refreshed(1).await;
    assert_eq!(shown.value("aws_iot_job_info", &[("status", "IN_PROGRESS")]), Some(1.0), "{}", shown.text);
}

/// Takes some jobs out of every page of `ListJobs`, as if they had moved while it was walked over.
fn hide_from_walks(simulator: &Simulator, hidden: &'static [&'static str], hide: Arc<AtomicBool>) {
    simulator.intercept(move |call| {
        if call.operation != Operation::ListJobs || !hide.load(Ordering::Relaxed) {
            return None;
        }
        let answer = call.answer();
        let mut page: serde_json::Value = serde_json::from_slice(answer.body()).expect("JSON");
        let jobs = page["jobs"].as_array_mut().expect("a list of jobs");
        jobs.retain(|job| !hidden.contains(&job["jobId"].as_str().expect("an id")));
        Some(Response::new(page.to_string().into()))
    });
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_open_and_is_missing_from_the_walk_is_counted_as_it_is_described() {
    let jobs = ["a", "b", "c", "kept"].map(|id| open(id).targeting_group("line"));
    let exporter = Exporter::start(simulated(jobs), |_| {}).await;
    exporter.refreshed(1).await;
    let hide = Arc::new(AtomicBool::new(true));
    hide_from_walks(&exporter.simulator, &["a", "b", "c"], Arc::clone(&hide));
    let now = NOW.after(MINUTE);
    change(&exporter, "b", |job| {
        job.status = Status::Completed;
        (job.last_updated_at, job.completed_at) = (now, Some(now));
    });
    exporter.simulator.with_fleet(&account(), REGION, |fleet| fleet.remove_job("c"));
    let shown = exporter.refreshed(2).await;
    assert_eq!(only(&shown, "aws_iot_jobs_last_walk_recovered"), Some(2.0));
    assert_eq!(
        [of_group(&shown, "line", "IN_PROGRESS"), of_group(&shown, "line", "COMPLETED")],
        [Some(2.0), Some(1.0)]
    );
    assert_eq!(shown.jobs().values().sum::<f64>(), 3.0, "the one that is not found is gone");
    assert_eq!((shown.up(), only(&shown, "aws_iot_jobs_describe_failures")), (Some(1.0), Some(0.0)));
    let not_found = [("operation", "DescribeJob"), ("code", "ResourceNotFoundException")];
    assert_eq!(shown.value("aws_iot_jobs_exporter_api_errors_total", &not_found), None, "a deleted job is no error");
    hide.store(false, Ordering::Relaxed);
    let healed = exporter.refreshed(3).await;
    assert_eq!(only(&healed, "aws_iot_jobs_last_walk_recovered"), Some(0.0));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_missing_and_can_not_be_described_is_asked_for_again() {
    let exporter = Exporter::start(simulated([open("a"), open("b")]), |_| {}).await;
    exporter.refreshed(1).await;
    let failing = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&failing);
    exporter.simulator.intercept(move |call| match call.operation {
        Operation::DescribeJob if fails.load(Ordering::Relaxed) && call.resource == Some("a") => Some(unavailable()),
        Operation::ListJobs => {
            let mut page: serde_json::Value = serde_json::from_slice(call.answer().body()).expect("JSON");
            page["jobs"].as_array_mut().expect("a list").retain(|job| job["jobId"] != "a");
            Some(Response::new(page.to_string().into()))
        }
        _ => None,
    });
    let shown = exporter.refreshed(2).await;
    let counted = |shown: &Exposition| shown.jobs().values().sum::<f64>();
    assert_eq!((counted(&shown), only(&shown, "aws_iot_jobs_describe_failures")), (1.0, Some(1.0)));
    failing.store(false, Ordering::Relaxed);
    let shown = exporter.refreshed(3).await;
    assert_eq!((counted(&shown), only(&shown, "aws_iot_jobs_last_walk_recovered")), (2.0, Some(1.0)));
}

#[tokio::test(start_paused = true)]
async fn a_missing_job_that_has_left_the_scope_is_not_counted() {
    let exporter = Exporter::start(simulated([open("a"), open("b")]), |config| {
        config.targets[0].scope.statuses = vec![Status::InProgress];
    })
    .await;
    exporter.refreshed(1).await;
    change(&exporter, "a", |job| job.status = Status::Completed);
    let shown = exporter.refreshed(2).await;
    assert_eq!(
        shown.jobs().into_iter().collect::<Vec<_>>(),
        [(("IN_PROGRESS".to_owned(), "SNAPSHOT".to_owned()), 1.0)]
    );
    assert_eq!(only(&shown, "aws_iot_jobs_last_walk_recovered"), Some(0.0));
    let before = exporter.simulator.requests(Operation::DescribeJob);
    exporter.refreshed(3).await;
    assert_eq!(exporter.simulator.requests(Operation::DescribeJob) - before, 1, "it is asked for no more");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_can_not_be_described_keeps_what_is_known_and_its_executions_until_they_are_stale() {
    let job = |id| open(id).targeting_group("line").with_executions(ExecutionStatus::Queued, 2);
    let exporter = Exporter::start(simulated([job("a"), job("b")]), |_| {}).await;
    exporter.refreshed(1).await;
    describe_job(&exporter.simulator, |call| (call.resource == Some("a")).then(unavailable));
    let shown = exporter.refreshed(2).await;
    assert_eq!((shown.up(), only(&shown, "aws_iot_jobs_describe_failures")), (Some(1.0), Some(1.0)));
    assert_eq!(of_group(&shown, "line", "IN_PROGRESS"), Some(2.0));
    assert_eq!(executions(&shown, "a", "QUEUED"), Some(2.0), "the last counts");
    let info = [("job_id", "a"), ("windowed", "false")];
    assert_eq!(shown.value("aws_iot_job_info", &info), Some(1.0));

    tokio::time::sleep(12 * MINUTE).await;
    let shown = exporter.scrape().await;
    assert_eq!(shown.up(), Some(1.0));
    assert_eq!([executions(&shown, "a", "QUEUED"), executions(&shown, "b", "QUEUED")], [None, Some(2.0)]);
    assert_eq!(of_group(&shown, "line", "IN_PROGRESS"), Some(2.0), "groups of a SNAPSHOT job do not change");

    exporter.simulator.stop_intercepting();
    tokio::time::sleep(10 * MINUTE).await;
    let shown = exporter.scrape().await;
    assert_eq!(only(&shown, "aws_iot_jobs_describe_failures"), Some(0.0));
    assert_eq!(executions(&shown, "a", "QUEUED"), Some(2.0));
}

#[tokio::test(start_paused = true)]
async fn a_describe_job_that_hangs_or_fails_holds_up_no_walk_for_long() {
    let log = ThreadLog::start();
    for (fate, requests) in [((|_| Fate::Hangs) as fn(&_) -> Fate, 30), (|_| Fate::Breaks, 30)] {
        let exporter = Exporter::start(simulated((0..300).map(|n| open(&format!("job-{n}")))), |_| {}).await;
        exporter.wire.decide(
            move |request| {
                if request.uri().path().starts_with("/jobs/") { fate(request) } else { Fate::Arrives }
            },
        );
        let start = Instant::now();
        let shown = exporter.refreshed(1).await;
        assert!(start.elapsed() < 2 * MINUTE, "{:?}", start.elapsed());
        assert_eq!((shown.up(), only(&shown, "aws_iot_jobs_describe_failures")), (Some(1.0), Some(300.0)));
        assert_eq!(shown.jobs().values().sum::<f64>(), 300.0);
        let asked = exporter.wire.released.lock().expect("no test panics in here").len();
        assert!(asked <= requests, "{asked} requests where nobody answers");
        let warnings = log.take();
        let warnings: Vec<&String> = warnings.iter().filter(|line| line.contains("WARN")).collect();
        assert_eq!(warnings.len(), 1, "{warnings:#?}");
        exporter.wire.decide(|_| Fate::Arrives);
        assert_eq!(only(&exporter.refreshed(2).await, "aws_iot_jobs_describe_failures"), Some(0.0));
    }
}

#[tokio::test(start_paused = true)]
async fn without_permission_to_describe_it_goes_on_with_what_list_jobs_gives_and_tries_again_now_and_then() {
    let log = ThreadLog::start();
    let jobs = (0..20).map(|n| open(&format!("open-{n}")).targeting_group("line"));
    let exporter = Exporter::start(simulated(jobs.chain([ended("old", DAY).targeting_group("line")])), |_| {}).await;
    describe_job(&exporter.simulator, |_| Some(denied()));
    let shown = exporter.refreshed(1).await;
    assert_eq!((shown.up(), shown.jobs().values().sum::<f64>()), (Some(1.0), 21.0));
    let rows = group_rows(&shown);
    assert!(rows.keys().all(|[group, ..]| group == "<unknown>"), "{rows:?}");
    assert_eq!(rows.values().sum::<f64>(), 21.0);
    assert_eq!(only(&shown, "aws_iot_jobs_describe_denied"), Some(1.0));
    assert_eq!(only(&shown, "aws_iot_jobs_describe_failures"), Some(20.0));
    assert_eq!(shown.family("aws_iot_job_executions").count(), 0);
    assert_eq!(shown.value("aws_iot_job_info", &[("job_id", "open-7"), ("windowed", "<unknown>")]), Some(1.0));
    let asked = || exporter.simulator.requests(Operation::DescribeJob);
    assert!(asked() <= 8, "{} requests to be denied", asked());
    let lines = log.take();
    let warnings: Vec<&String> = lines.iter().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{lines:#?}");
    assert!(warnings[0].contains("iot:DescribeJob"), "{}", warnings[0]);

    let before = asked();
    tokio::time::sleep(9 * MINUTE).await;
    assert_eq!(asked(), before, "it is left alone");
    tokio::time::sleep(3 * MINUTE).await;
    assert!((before + 1..=before + 8).contains(&asked()), "and tried again: {} requests", asked() - before);
    let lines = log.take();
    assert!(lines.iter().all(|line| !line.contains("WARN")), "once is enough: {lines:#?}");

    exporter.simulator.stop_intercepting();
    tokio::time::sleep(12 * MINUTE).await;
    let shown = exporter.scrape().await;
    assert_eq!(
        [of_group(&shown, "line", "IN_PROGRESS"), of_group(&shown, "line", "COMPLETED")],
        [Some(20.0), Some(1.0)]
    );
    assert_eq!(only(&shown, "aws_iot_jobs_describe_denied"), Some(0.0));
    assert!(log.take().iter().any(|line| line.contains("can be described again")));
}

#[tokio::test(start_paused = true)]
async fn jobs_that_a_policy_leaves_out_are_unknown_and_the_others_are_described() {
    let jobs = (0..6).map(|n| open(&format!("ours-{n}")).targeting_group("line"));
    let theirs = [open("theirs").targeting_group("line"), ended("theirs-old", DAY).targeting_group("line")];
    let exporter = Exporter::start(simulated(jobs.chain(theirs)), |_| {}).await;
    let asked = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&asked);
    describe_job(&exporter.simulator, move |call| {
        let theirs = call.resource.is_some_and(|job| job.starts_with("theirs"));
        counted.fetch_add(u64::from(call.resource == Some("theirs-old")), Ordering::Relaxed);
        theirs.then(denied)
    });
    let shown = exporter.refreshed(3).await;
    assert_eq!(
        [of_group(&shown, "line", "IN_PROGRESS"), of_group(&shown, "line", "COMPLETED")],
        [Some(6.0), Some(0.0)]
    );
    let unknown = |status| of_group(&shown, "<unknown>", status);
    assert_eq!([unknown("IN_PROGRESS"), unknown("COMPLETED")], [Some(1.0), Some(1.0)]);
    let names = ["describe_denied", "describe_failures", "undescribed"];
    let values = names.map(|name| only(&shown, &format!("aws_iot_jobs_{name}")));
    assert_eq!(values, [Some(1.0), Some(1.0), Some(1.0)]);
    assert_eq!(asked.load(Ordering::Relaxed), 1, "an ended job that is refused is not asked for at once again");
    tokio::time::sleep(95 * MINUTE).await;
    assert!(asked.load(Ordering::Relaxed) >= 2, "but some day");
    let shown = exporter.scrape().await;
    assert_eq!(of_group(&shown, "<unknown>", "COMPLETED"), Some(1.0), "and it is what it was");
}

#[tokio::test(start_paused = true)]
async fn ended_rows_are_absent_until_every_ended_job_of_the_window_is_described_the_last_to_end_first() {
    let jobs = (0..100).map(|n| ended(&format!("ended-{n:02}"), Duration::from_hours(n)).targeting_group("line"));
    let outside = ended("outside", 8 * DAY).targeting_group("old");
    let exporter = Exporter::start(simulated(jobs.chain([outside, open("open").targeting_group("line")])), |config| {
        config.limits.requests_per_second = 1.0;
    })
    .await;
    let order: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&order);
    describe_job(&exporter.simulator, move |call| {
        let ended = call.resource.filter(|job| job.starts_with("ended"));
        seen.lock().expect("no test panics in here").extend(ended.map(str::to_owned));
        None
    });
    let shown = exporter.refreshed(1).await;
    assert_eq!([of_group(&shown, "line", "COMPLETED"), of_group(&shown, "line", "IN_PROGRESS")], [None, Some(1.0)]);
    assert_eq!(only(&shown, "aws_iot_jobs_undescribed"), Some(100.0));
    assert_eq!(shown.value("aws_iot_jobs", &[("status", "COMPLETED"), ("target_selection", "SNAPSHOT")]), Some(101.0));

    let shown = exporter.refreshed(2).await;
    let left = only(&shown, "aws_iot_jobs_undescribed").expect("a row");
    assert!((30.0..60.0).contains(&left), "{left} after a minute at one a second");
    assert_eq!(of_group(&shown, "line", "COMPLETED"), None, "absent rather than too low");

    // Before the third refresh: as soon as the last one is described.
    tokio::time::sleep(50 * Duration::from_secs(1)).await;
    let shown = exporter.scrape().await;
    assert_eq!(only(&shown, "aws_iot_jobs_exporter_refreshes_total"), Some(2.0));
    assert_eq!(only(&shown, "aws_iot_jobs_undescribed"), Some(0.0));
    assert_eq!(of_group(&shown, "line", "COMPLETED"), Some(100.0));
    assert_eq!(of_group(&shown, "old", "COMPLETED"), None, "it ended too long ago");
    let order = order.lock().expect("no test panics in here");
    let expected: Vec<String> = (0..100).map(|n| format!("ended-{n:02}")).collect();
    assert_eq!(*order, expected);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_ends_unseen_between_two_walks_does_not_make_ended_rows_flicker() {
    let jobs = (0..50).map(|n| ended(&format!("ended-{n}"), DAY).targeting_group("line"));
    let exporter = Exporter::start(simulated(jobs), |_| {}).await;
    exporter.refreshed(2).await;
    for n in 3..10_u32 {
        exporter.simulator.with_fleet(&account(), REGION, |fleet| {
            fleet.add_job(ended(&format!("new-{n}"), Duration::ZERO).targeting_group("line"));
        });
        let shown = exporter.refreshed(n).await;
        assert_eq!(of_group(&shown, "line", "COMPLETED"), Some(f64::from(50 + n - 2)));
    }
    assert_eq!(exporter.simulator.requests(Operation::DescribeJob), 57, "each of them once");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_job_that_ends_is_not_described_again_and_a_continuous_one_is() {
    let jobs = [open("snapshot").targeting_group("line"), open("continuous").targeting_group("line").continuous()];
    let exporter = Exporter::start(simulated(jobs), |_| {}).await;
    exporter.refreshed(1).await;
    assert_eq!(exporter.simulator.requests(Operation::DescribeJob), 2);
    for id in ["snapshot", "continuous"] {
        change(&exporter, id, |job| {
            let now = NOW.after(MINUTE);
            job.status = Status::Completed;
            (job.last_updated_at, job.completed_at) = (now, Some(now));
            if id == "continuous" {
                // The last thing that happened to it.
                *job = job.clone().targeting_group("late");
            }
        });
    }
    let shown = exporter.refreshed(2).await;
    assert_eq!(exporter.simulator.requests(Operation::DescribeJob), 3);
    let late = [("thing_group", "late"), ("status", "COMPLETED"), ("target_selection", "CONTINUOUS")];
    assert_eq!(shown.value("aws_iot_thing_group_jobs", &late), Some(1.0));
    exporter.refreshed(5).await;
    assert_eq!(exporter.simulator.requests(Operation::DescribeJob), 3);
}

#[tokio::test(start_paused = true)]
async fn targets_of_a_continuous_job_follow_and_a_group_without_jobs_is_gone() {
    let exporter = Exporter::start(simulated([open("a").continuous().targeting_group("before")]), |_| {}).await;
    let rows = |shown: &Exposition| group_rows(shown).into_keys().map(|[group, ..]| group).collect::<Vec<_>>();
    assert_eq!(rows(&exporter.refreshed(1).await), ["before"]);
    change(&exporter, "a", |job| *job = Job { targets: [].into(), ..job.clone() }.targeting_group("after"));
    let shown = exporter.refreshed(2).await;
    assert_eq!(rows(&shown), ["after"]);
    assert!(!shown.job_lines().concat().contains("before"), "gone from every family: {}", shown.text);
}

#[tokio::test(start_paused = true)]
async fn an_id_that_is_used_again_is_another_job() {
    let exporter = Exporter::start(simulated([ended("a", DAY).targeting_group("first")]), |_| {}).await;
    let rows = |shown: &Exposition| group_rows(shown).into_keys().map(|[group, ..]| group).collect::<Vec<_>>();
    assert_eq!(rows(&exporter.refreshed(2).await), ["first"]);
    exporter.simulator.with_fleet(&account(), REGION, |fleet| {
        fleet.add_job(ended("a", Duration::ZERO).targeting_group("second"));
    });
    assert_eq!(rows(&exporter.refreshed(3).await), ["second"]);
}

#[tokio::test(start_paused = true)]
async fn resolved_by_summary_groups_are_the_ids_that_list_jobs_gives_and_cost_nothing() {
    let simulator = simulated([]);
    let jobs =
        [open("a").targeting_group("line"), ended("b", DAY).targeting_group("line"), open("c").targeting_thing("d")];
    simulator.set_fleet(&account(), REGION, Fleet::new(jobs, [ThingGroup::new("line")]));
    let exporter = Exporter::start(simulator, |config| {
        config.thing_groups.resolve = Resolve::Summary;
        config.jobs.describe = false;
    })
    .await;
    let shown = exporter.refreshed(1).await;
    let id = ThingGroup::new("line").id;
    assert_eq!([of_group(&shown, &id, "IN_PROGRESS"), of_group(&shown, &id, "COMPLETED")], [Some(1.0), Some(1.0)]);
    assert_eq!(of_group(&shown, "<unknown>", "IN_PROGRESS"), Some(1.0), "no id says nothing");
    assert_eq!(exporter.simulator.requests(Operation::DescribeJob), 0);
    assert_eq!(only(&shown, "aws_iot_jobs_undescribed"), None);
}

#[tokio::test(start_paused = true)]
async fn switched_off_nothing_is_described_and_what_is_not_known_is_absent() {
    let job = open("a").targeting_group("line").with_executions(ExecutionStatus::Queued, 1);
    let jobs = [job, ended("b", DAY).targeting_group("line")];
    let start = |configure: fn(&mut Config)| Exporter::start(simulated(jobs.clone()), configure);
    let off = start(|config| {
        config.thing_groups.resolve = Resolve::Off;
        config.jobs.describe = false;
    });
    let off = off.await;
    let shown = off.refreshed(2).await;
    for family in ["aws_iot_thing_group_jobs", "aws_iot_job_thing_group_info", "aws_iot_job_executions"] {
        assert_eq!(shown.family(family).count(), 0, "{family}");
    }
    assert_eq!(shown.family("aws_iot_job_info").count(), 1);
    assert_eq!(off.simulator.requests(Operation::DescribeJob), 0);

    let no_open = start(|config| config.jobs.describe = false).await;
    let shown = no_open.refreshed(2).await;
    assert_eq!(
        [of_group(&shown, "<unknown>", "IN_PROGRESS"), of_group(&shown, "line", "COMPLETED")],
        [Some(1.0), Some(1.0)]
    );
    assert_eq!(no_open.simulator.requests(Operation::DescribeJob), 1, "the one that has ended, once");

    let no_groups = start(|config| config.thing_groups.resolve = Resolve::Off).await;
    let shown = no_groups.refreshed(2).await;
    assert_eq!(shown.family("aws_iot_thing_group_jobs").count(), 0);
    assert_eq!(executions(&shown, "a", "QUEUED"), Some(1.0));
    assert_eq!(no_groups.simulator.requests(Operation::DescribeJob), 2, "the one that is open, each time");

    let no_series = start(|config| config.jobs.series = false).await;
    let shown = no_series.refreshed(1).await;
    assert!(!shown.text.contains("job_id="), "{}", shown.text);
    assert_eq!(only(&shown, "aws_iot_jobs_omitted_jobs"), Some(0.0));
    assert_eq!(of_group(&shown, "line", "IN_PROGRESS"), Some(1.0));

    let no_ended = start(|config| config.thing_groups.ended_jobs_within = Duration::ZERO).await;
    let shown = no_ended.refreshed(1).await;
    assert_eq!([of_group(&shown, "line", "IN_PROGRESS"), of_group(&shown, "line", "COMPLETED")], [Some(1.0), None]);
    assert_eq!(no_ended.simulator.requests(Operation::DescribeJob), 1);
}

#[tokio::test(start_paused = true)]
async fn groups_that_are_left_out_are_summed_and_jobs_past_the_limit_are_counted() {
    let jobs = [
        open("a").targeting_group("factory-1").with_executions(ExecutionStatus::Queued, 1),
        open("b").targeting_group("test-1"),
        Job::new("c", Status::Scheduled, NOW).targeting_group("factory-2"),
    ];
    let exporter = Exporter::start(simulated(jobs), |config| {
        let pattern = |text| Pattern::parse(text).expect("a pattern");
        config.thing_groups.include = vec![pattern("factory-.*"), pattern("test-.*")];
        config.thing_groups.exclude = vec![pattern("test-.*")];
        config.limits.max_jobs = 2;
    })
    .await;
    let shown = exporter.refreshed(1).await;
    let groups: Vec<String> = group_rows(&shown).into_keys().map(|[group, ..]| group).collect();
    assert_eq!(groups, ["<other>", "factory-1", "factory-2"]);
    assert!(!shown.text.contains("test-1"), "in no family: {}", shown.text);
    assert_eq!(
        only(&shown, "aws_iot_jobs_folded_thing_groups"),
        Some(0.0),
        "what is left out is not folded by a limit"
    );
    let jobs: Vec<&str> = shown.family("aws_iot_job_info").map(|(labels, _)| labels["job_id"].as_str()).collect();
    assert_eq!((jobs, only(&shown, "aws_iot_jobs_omitted_jobs")), (vec!["a", "b"], Some(1.0)));
}

#[tokio::test(start_paused = true)]
async fn descriptions_keep_to_the_budget_of_their_own_operation() {
    let exporter = Exporter::start(simulated((0..100).map(|n| open(&format!("job-{n}")))), |config| {
        config.limits.requests_per_second = 5.0;
    })
    .await;
    let shown = exporter.refreshed(1).await;
    assert_eq!((shown.up(), only(&shown, "aws_iot_jobs_describe_failures")), (Some(1.0), Some(0.0)));
    let wire = exporter.wire.released.lock().expect("no test panics in here");
    let releases: Vec<Instant> =
        wire.iter().filter(|(path, _)| path.starts_with("/jobs/")).map(|(_, at)| *at).collect();
    assert_eq!(releases.len(), 100);
    for (n, first) in releases.iter().enumerate() {
        let second = releases[n..].iter().filter(|at| **at - *first < Duration::from_secs(1)).count();
        assert!(second <= 5, "{second} releases in the second after release {n}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_of_another_account_is_not_believed() {
    let exporter = Exporter::start(simulated([open("a").targeting_group("line")]), |_| {}).await;
    describe_job(&exporter.simulator, |call| {
        let arn = format!("arn:aws:iot:eu-west-1:999999999999:job/{}", call.resource.unwrap_or_default());
        let body =
            format!(r#"{{"job": {{"jobId": "a", "jobArn": "{arn}", "status": "COMPLETED", "targets": ["{arn}"]}}}}"#);
        Some(Response::new(body.into()))
    });
    let shown = exporter.refreshed(1).await;
    assert_eq!(shown.value("aws_iot_job_info", &[("status", "IN_PROGRESS")]), Some(1.0));
    assert_eq!(only(&shown, "aws_iot_jobs_describe_failures"), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn whatever_a_description_leaves_out_or_gets_wrong_is_unknown_and_takes_nothing_from_the_walk() {
    let described = |body: &'static str| async move {
        let exporter = Exporter::start(simulated([open("a")]), |_| {}).await;
        describe_job(&exporter.simulator, move |_| Some(Response::new(body.into())));
        let shown = exporter.refreshed(1).await;
        assert_eq!((shown.up(), shown.jobs().values().sum::<f64>()), (Some(1.0), 1.0), "{body}: {}", shown.text);
        shown
    };
    for body in [
        "",
        "{}",
        "<html>",
        r#"{"job": {}}"#,
        r#"{"job": {"jobId": "b"}}"#,
        r#"{"job": null}"#,
        r#"{"job": {"jobId": 7}}"#,
    ] {
        let shown = described(body).await;
        assert_eq!(only(&shown, "aws_iot_jobs_describe_failures"), Some(1.0), "{body}");
        assert_eq!(of_group(&shown, "<unknown>", "IN_PROGRESS"), Some(1.0), "{body}");
    }
    let shown = described(r#"{"job": {"jobId": "a"}}"#).await;
    assert_eq!(of_group(&shown, "<unknown>", "IN_PROGRESS"), Some(1.0));
    assert_eq!(shown.family("aws_iot_job_executions").count(), 0);
    let shown = described(
        r#"{"job": {"jobId": "a", "targets": ["nonsense", "arn:aws:iot:eu-west-1:012345678901:thinggroup/a b"],
            "schedulingConfig": {"startTime": "next Tuesday"},
            "jobProcessDetails": {"numberOfQueuedThings": -5, "numberOfFailedThings": 2}}}"#,
    )
    .await;
    assert_eq!(of_group(&shown, "<unknown>", "IN_PROGRESS"), Some(1.0));
    assert_eq!([executions(&shown, "a", "QUEUED"), executions(&shown, "a", "FAILED")], [None, Some(2.0)]);
    assert_eq!(
        shown.value("aws_iot_job_info", &[("windowed", "false")]),
        Some(1.0),
        "windows are told apart from the start"
    );
    assert_eq!(shown.family("aws_iot_job_scheduled_start_timestamp_seconds").count(), 0);
}

/// Within one exposition a job tells one status, whatever happens to it between the walk and its description.
#[tokio::test(start_paused = true)]
async fn under_a_fleet_that_changes_at_every_request_group_rows_info_rows_and_counts_agree() {
    let group = |n: u32| format!("group-{}", n % 7);
    let jobs = (0..400_u32).map(|n| {
        let status = Status::KNOWN[n as usize % Status::KNOWN.len()].clone();
        Job::new(format!("job-{n:03}"), status, NOW.before(DAY)).targeting_group(&group(n))
    });
    let exporter = Exporter::start(simulated(jobs), |config| config.refresh.interval = Duration::from_secs(5)).await;
    let rng = Mutex::new(fastrand::Rng::with_seed(9));
    exporter.simulator.intercept(move |call| {
        let mut rng = rng.lock().expect("no test panics in here");
        let (job, now) = (format!("job-{:03}", rng.u32(0..400)), call.now);
        let status = rng.choice(Status::KNOWN).cloned().expect("a status");
        call.simulator.with_fleet(call.account, call.region, |fleet| {
            fleet.update_job(&job, |job| {
                let has_ended = matches!(status, Status::Completed | Status::Canceled);
                (job.status, job.last_updated_at, job.completed_at) = (status, now, has_ended.then_some(now));
            })
        });
        None
    });
    for refresh in 1..30 {
        let shown = exporter.refreshed(refresh).await;
        let mut by_group: BTreeMap<String, f64> = BTreeMap::new();
        for ([_, status, _], jobs) in group_rows(&shown) {
            *by_group.entry(status).or_default() += jobs;
        }
        let mut open_rows: BTreeMap<String, f64> = BTreeMap::new();
        for (labels, _) in shown.family("aws_iot_job_info") {
            *open_rows.entry(labels["status"].clone()).or_default() += 1.0;
        }
        let tells_ended = only(&shown, "aws_iot_jobs_undescribed") == Some(0.0);
        for ((status, selection), jobs) in shown.jobs() {
            assert_eq!(selection, TargetSelection::Snapshot.as_str());
            if Status::from(status.as_str()).is_open() {
                assert_eq!((by_group[&status], open_rows[&status]), (jobs, jobs), "refresh {refresh}, {status}");
            } else if tells_ended {
                assert_eq!(by_group[&status], jobs, "refresh {refresh}, {status}");
            }
        }
        let total = only(&shown, "aws_iot_jobs_last_walk_jobs");
        assert_eq!(Some(shown.jobs().values().sum::<f64>()), total);
    }
}

/// A budget that leaves most ended jobs to the time between refreshes.
fn slowly(config: &mut Config) {
    config.limits.requests_per_second = 5.0;
}

/// Sixty ended jobs: more than are described at once at five a second.
fn sixty_ended() -> impl Iterator<Item = Job> {
    (0..60).map(|n| ended(&format!("ended-{n:02}"), Duration::from_hours(n)).targeting_group("line"))
}

fn completed(shown: &Exposition) -> Option<f64> {
    shown.value("aws_iot_jobs", &[("status", "COMPLETED"), ("target_selection", "SNAPSHOT")])
}

/// Changes the pages of `ListJobs`, summary by summary.
fn list_with(simulator: &Simulator, change: impl Fn(&mut serde_json::Value) + Send + Sync + 'static) {
    simulator.intercept(move |call| {
        (call.operation == Operation::ListJobs).then(|| {
            let mut page: serde_json::Value = serde_json::from_slice(call.answer().body()).expect("JSON");
            page["jobs"].as_array_mut().expect("a list of jobs").iter_mut().for_each(&change);
            Response::new(page.to_string().into())
        })
    });
}

#[tokio::test(start_paused = true)]
async fn a_job_is_the_same_whatever_fraction_of_a_second_either_call_writes_and_also_without_a_time() {
    type Change = fn(&mut serde_json::Value);
    let changes: [Change; 2] = [
        |job| drop(job.as_object_mut().expect("a job").remove("createdAt")),
        |job| job["createdAt"] = job["createdAt"].as_f64().expect("a time").floor().into(),
    ];
    for change in changes {
        let created = |job: Job| Job { created_at: job.created_at.after(Duration::from_millis(733)), ..job };
        let jobs = sixty_ended().chain([open("open").targeting_group("line")]).map(created);
        let exporter = Exporter::start(simulated(jobs), slowly).await;
        list_with(&exporter.simulator, change);
        let shown = exporter.refreshed(3).await;
        assert_eq!(completed(&shown), Some(60.0));
        assert_eq!(
            [of_group(&shown, "line", "COMPLETED"), of_group(&shown, "line", "IN_PROGRESS")],
            [Some(60.0), Some(1.0)]
        );
        assert_eq!(only(&shown, "aws_iot_jobs_undescribed"), Some(0.0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_that_is_used_again_before_its_turn_comes_is_left_to_the_next_walk() {
    let exporter = Exporter::start(simulated(sixty_ended()), slowly).await;
    exporter.refreshed(1).await;
    exporter.simulator.with_fleet(&account(), REGION, |fleet| {
        fleet.add_job(Job::new("ended-59", Status::InProgress, NOW).targeting_group("again"));
        fleet.remove_job("ended-58");
    });
    tokio::time::sleep(30 * Duration::from_secs(1)).await;
    let shown = exporter.scrape().await;
    assert_eq!(completed(&shown), Some(60.0), "until the next walk it is counted as it was seen");
    assert_eq!(only(&shown, "aws_iot_jobs_exporter_refreshes_total"), Some(1.0));
    let shown = exporter.refreshed(2).await;
    assert_eq!([completed(&shown), of_group(&shown, "line", "COMPLETED")], [Some(58.0), Some(58.0)]);
    assert_eq!(of_group(&shown, "again", "IN_PROGRESS"), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn an_ended_job_that_is_deleted_before_its_turn_comes_is_counted_no_more() {
    let exporter = Exporter::start(simulated(sixty_ended()), slowly).await;
    exporter.refreshed(1).await;
    exporter.simulator.with_fleet(&account(), REGION, |fleet| fleet.remove_job("ended-59"));
    tokio::time::sleep(30 * Duration::from_secs(1)).await;
    let shown = exporter.scrape().await;
    assert_eq!(only(&shown, "aws_iot_jobs_exporter_refreshes_total"), Some(1.0));
    assert_eq!([completed(&shown), of_group(&shown, "line", "COMPLETED")], [Some(59.0), Some(59.0)]);
}

/// Whatever share of the jobs a policy leaves out, and whichever come first, the others are described.
#[tokio::test(start_paused = true)]
async fn jobs_that_a_policy_leaves_out_never_keep_others_from_being_described() {
    for (open_denied, open_allowed, ended_denied) in [(4, 6, 0), (1, 0, 0), (20, 1, 10), (0, 3, 3)] {
        let group = |job: Job| job.targeting_group("line");
        let denied_open = (0..open_denied).map(|n| group(open(&format!("a-denied-{n:02}"))));
        let allowed_open = (0..open_allowed).map(|n| group(open(&format!("open-{n}"))));
        let denied_ended = (0..ended_denied).map(|n| group(ended(&format!("a-denied-ended-{n}"), Duration::ZERO)));
        let jobs = denied_open.chain(allowed_open).chain(denied_ended).chain(sixty_ended());
        let exporter = Exporter::start(simulated(jobs.collect::<Vec<_>>()), slowly).await;
        describe_job(&exporter.simulator, |call| {
            call.resource.is_some_and(|job| job.starts_with("a-denied")).then(denied)
        });
        tokio::time::sleep(100 * MINUTE).await;
        let case = format!("{open_denied} open denied, {open_allowed} not, {ended_denied} ended denied");
        for minute in (0..80).step_by(8) {
            tokio::time::sleep(8 * MINUTE).await;
            let shown = exporter.scrape().await;
            assert_eq!(of_group(&shown, "line", "COMPLETED"), Some(60.0), "{case}, minute {minute}");
            let open = of_group(&shown, "line", "IN_PROGRESS").unwrap_or_default();
            assert_eq!(open, f64::from(open_allowed), "{case}, minute {minute}");
            assert_eq!(only(&shown, "aws_iot_jobs_describe_denied"), Some(1.0), "{case}, minute {minute}");
            let failures = only(&shown, "aws_iot_jobs_describe_failures");
            assert_eq!(failures, Some(f64::from(open_denied)), "{case}, minute {minute}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_permission_and_open_jobs_the_log_and_the_metric_stay_as_they_are() {
    let log = ThreadLog::start();
    let exporter = Exporter::start(simulated(sixty_ended()), slowly).await;
    describe_job(&exporter.simulator, |_| Some(denied()));
    exporter.refreshed(2).await;
    for _ in 0..60 {
        tokio::time::sleep(MINUTE).await;
        let shown = exporter.scrape().await;
        assert_eq!(only(&shown, "aws_iot_jobs_describe_denied"), Some(1.0));
        assert_eq!(of_group(&shown, "<unknown>", "COMPLETED"), Some(60.0));
    }
    let lines = log.take();
    assert_eq!(lines.iter().filter(|line| line.contains("WARN")).count(), 1, "{lines:#?}");
    assert!(lines.iter().all(|line| !line.contains("described again")), "{lines:#?}");
}

#[tokio::test(start_paused = true)]
async fn an_older_description_brings_no_ended_job_back_to_life() {
    let exporter =
        Exporter::start(simulated([ended("a", Duration::from_secs(5)).targeting_group("line")]), |_| {}).await;
    describe_job(&exporter.simulator, |call| {
        let mut body: serde_json::Value = serde_json::from_slice(call.answer().body()).expect("JSON");
        body["job"]["status"] = "IN_PROGRESS".into();
        body["job"]["lastUpdatedAt"] = NOW.before(MINUTE).as_secs_f64().into();
        Some(Response::new(body.to_string().into()))
    });
    let shown = exporter.refreshed(1).await;
    assert_eq!([completed(&shown), of_group(&shown, "line", "COMPLETED")], [Some(1.0), Some(1.0)]);
}

#[tokio::test(start_paused = true)]
async fn throttling_of_one_operation_fails_no_call_of_the_other() {
    let exporter = Exporter::start(simulated((0..300).map(|n| open(&format!("job-{n}")))), |_| {}).await;
    let asked: Mutex<BTreeMap<String, u64>> = Mutex::default();
    exporter.simulator.intercept(move |call| match call.operation {
        // Each job is throttled whenever it is asked for the first time in a refresh.
        Operation::DescribeJob => {
            let mut asked = asked.lock().expect("no test panics in here");
            let times = asked.entry(call.resource.unwrap_or_default().to_owned()).or_default();
            *times += 1;
            let throttled = *times % 2 == 1;
            throttled.then(|| simulator::error(StatusCode::TOO_MANY_REQUESTS, "ThrottlingException", "Rate exceeded"))
        }
        Operation::ListJobs => (call.attempt % 2 == 1).then(unavailable),
        _ => None,
    });
    for refresh in 1..12 {
        let shown = exporter.refreshed(refresh).await;
        assert_eq!(shown.up(), Some(1.0), "{refresh}");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_no_descriptions_are_forgotten_as_soon_as_they_are_over() {
    let jobs = (0..100).map(|n| open(&format!("open-{n}")).targeting_group("line")).chain(sixty_ended());
    let exporter = Exporter::start(simulated(jobs), |_| {}).await;
    describe_job(&exporter.simulator, |_| Some(Response::new("<html>Welcome to our proxy</html>".into())));
    exporter.refreshed(3).await;
    exporter.simulator.stop_intercepting();
    let shown = exporter.refreshed(5).await;
    assert_eq!(
        [of_group(&shown, "line", "IN_PROGRESS"), of_group(&shown, "line", "COMPLETED")],
        [Some(100.0), Some(60.0)]
    );
}

#[tokio::test(start_paused = true)]
async fn that_nothing_at_all_is_found_is_not_believed_nor_that_a_job_is_gone_which_has_just_been_created() {
    let not_found = || simulator::error(StatusCode::NOT_FOUND, "ResourceNotFoundException", "The job does not exist");
    let exporter = Exporter::start(simulated((0..5).map(|n| open(&format!("job-{n}")))), |_| {}).await;
    describe_job(&exporter.simulator, move |_| Some(not_found()));
    let shown = exporter.refreshed(1).await;
    assert_eq!((shown.jobs().values().sum::<f64>(), only(&shown, "aws_iot_jobs_describe_failures")), (5.0, Some(5.0)));

    let jobs = [open("old"), open("gone"), Job::new("new", Status::InProgress, NOW)];
    let exporter = Exporter::start(simulated(jobs), |_| {}).await;
    describe_job(&exporter.simulator, move |call| (call.resource != Some("old")).then(not_found));
    let shown = exporter.refreshed(1).await;
    let ids: Vec<&str> = shown.family("aws_iot_job_info").map(|(labels, _)| labels["job_id"].as_str()).collect();
    assert_eq!(ids, ["new", "old"]);
}

#[tokio::test(start_paused = true)]
async fn jobs_that_always_fail_starve_no_others_and_hide_no_ended_rows_for_ever() {
    let jobs = (0..100).map(|n| open(&format!("open-{n:02}")).targeting_group("line")).chain(sixty_ended());
    let exporter = Exporter::start(simulated(jobs), slowly).await;
    describe_job(&exporter.simulator, |call| {
        let poisoned = call.resource.is_some_and(|job| job.starts_with("open-0") || job == "ended-00");
        poisoned.then(|| simulator::error(StatusCode::INTERNAL_SERVER_ERROR, "InternalFailureException", "oops"))
    });
    tokio::time::sleep(60 * MINUTE).await;
    for _ in 0..10 {
        tokio::time::sleep(2 * MINUTE).await;
        let shown = exporter.scrape().await;
        assert_eq!(only(&shown, "aws_iot_jobs_describe_failures"), Some(10.0));
        assert_eq!(shown.family("aws_iot_job_executions").count(), 90 * 8);
        assert_eq!(
            [of_group(&shown, "line", "COMPLETED"), of_group(&shown, "<unknown>", "COMPLETED")],
            [Some(59.0), Some(1.0)]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_gone_and_would_be_denied_is_not_asked_for_for_ever() {
    let exporter = Exporter::start(simulated(["a", "theirs"].map(open)), |_| {}).await;
    describe_job(&exporter.simulator, |call| (call.resource == Some("theirs")).then(denied));
    exporter.refreshed(2).await;
    exporter.simulator.with_fleet(&account(), REGION, |fleet| fleet.remove_job("theirs"));
    let shown = exporter.refreshed(3).await;
    assert_eq!(only(&shown, "aws_iot_jobs_describe_failures"), Some(0.0));
    let shown = exporter.refreshed(5).await;
    assert_eq!(only(&shown, "aws_iot_jobs_describe_denied"), Some(0.0), "and with it goes the trouble");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_list_jobs_lists_stays_counted_whatever_is_known_of_its_filters() {
    let job = Job::new("a", Status::Scheduled, NOW.before(DAY)).targeting_group("line");
    let simulator = simulated([]);
    simulator.set_fleet(&account(), REGION, Fleet::new([job], [ThingGroup::new("line")]));
    let exporter = Exporter::start(simulator, |config| {
        config.targets[0].scope.thing_group_name = Some("line".to_owned());
    })
    .await;
    exporter.simulator.intercept(|call| {
        let listed = r#"{"jobs": [{"jobId": "a", "status": "SCHEDULED", "targetSelection": "SNAPSHOT"}]}"#;
        (call.operation == Operation::ListJobs).then(|| Response::new(listed.into()))
    });
    let shown = exporter.refreshed(1).await;
    assert_eq!(shown.jobs().values().sum::<f64>(), 1.0);
}

#[tokio::test(start_paused = true)]
async fn trouble_in_the_background_is_told_once() {
    let log = ThreadLog::start();
    let exporter = Exporter::start(simulated(sixty_ended()), slowly).await;
    describe_job(&exporter.simulator, |_| Some(unavailable()));
    tokio::time::sleep(60 * MINUTE).await;
    assert_eq!(of_group(&exporter.scrape().await, "line", "COMPLETED"), None);
    let lines = log.take();
    let warnings: Vec<&String> = lines.iter().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{lines:#?}");
    assert!(warnings[0].contains("ServiceUnavailableException"), "{}", warnings[0]);
}

#[tokio::test(start_paused = true)]
async fn a_windowed_job_whose_start_can_not_be_read_is_not_long_running() {
    let windows = vec![MaintenanceWindow { start_time: "cron(0 4 * * ? *)".to_owned(), duration_in_minutes: 60 }];
    let windows = Scheduling { maintenance_windows: windows, ..Scheduling::default() };
    let old = Job::new("a", Status::InProgress, NOW.before(9 * DAY)).scheduled(windows);
    let exporter = Exporter::start(simulated([old]), |_| {}).await;
    describe_job(&exporter.simulator, |call| {
        let mut body: serde_json::Value = serde_json::from_slice(call.answer().body()).expect("JSON");
        body["job"]["schedulingConfig"]["startTime"] = "next Tuesday".into();
        Some(Response::new(body.to_string().into()))
    });
    let shown = exporter.refreshed(1).await;
    assert_eq!(shown.value("aws_iot_jobs_long_running", &[("threshold", "86400")]), Some(0.0));
    assert_eq!(shown.value("aws_iot_job_info", &[("windowed", "true")]), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn what_a_description_leaves_out_stays_as_it_was() {
    let exporter = Exporter::start(simulated([open("a").targeting_group("line")]), |_| {}).await;
    exporter.refreshed(1).await;
    describe_job(&exporter.simulator, |_| Some(Response::new(r#"{"job": {"jobId": "a"}}"#.into())));
    let shown = exporter.refreshed(2).await;
    assert_eq!(of_group(&shown, "line", "IN_PROGRESS"), Some(1.0));
    assert_eq!(shown.family("aws_iot_job_last_updated_timestamp_seconds").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_targets_of_one_account_wait_for_each_other_and_describe_all_of_their_jobs() {
    let exporter = Exporter::start(simulated((0..100).map(|n| open(&format!("job-{n}")))), |config| {
        config.limits.requests_per_second = 5.0;
        config.targets = ["a", "b", "c", "d"].map(|name| target(name, "http://simulator.test")).to_vec();
    })
    .await;
    let shown = exporter.refreshed(8).await;
    let failures: Vec<f64> = shown.family("aws_iot_jobs_describe_failures").map(|(_, failures)| failures).collect();
    assert_eq!(failures, [0.0; 4]);
}
