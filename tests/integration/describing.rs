//! What `DescribeJob` adds, on the paused clock: groups, executions, schedules; and what is shown while it can't be had.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_iot_jobs_exporter::config::Config;
use aws_iot_jobs_exporter::http::StatusCode;
use aws_iot_jobs_exporter::jobs::group_filter::Pattern;
use aws_iot_jobs_exporter::jobs::{ExecutionStatus, Status, Timestamp};
use aws_iot_jobs_exporter::simulator::{
    self, Call, Fleet, Job, MaintenanceWindow, Operation, Response, Scheduling, Simulator, ThingGroup,
};
use tokio::time::Instant;

use crate::support::{
    Exporter, Exposition, Fate, NOW, REGION, account, list_only, simulator as simulated, target, thread_log,
};

const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);
const SECOND: Duration = Duration::from_secs(1);

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

/// The SNAPSHOT jobs of a status.
fn jobs_of(shown: &Exposition, status: &str) -> Option<f64> {
    shown.value("aws_iot_jobs", &[("status", status), ("target_selection", "SNAPSHOT")])
}

/// Jobs that are fresh, overdue, failing and denied.
fn states(shown: &Exposition) -> [f64; 4] {
    ["fresh", "overdue", "failing", "denied"].map(|state| shown.in_state("details", state).expect("a row"))
}

fn failing(shown: &Exposition) -> f64 {
    let [_, _, failing, _] = states(shown);
    failing
}

fn all_failures(shown: &Exposition) -> f64 {
    shown.family("aws_iot_jobs_exporter_collector_failures_total").map(|(_, failures)| failures).sum()
}

#[tokio::test(start_paused = true)]
async fn open_jobs_show_their_groups_executions_and_times() {
    let start = NOW.before(MINUTE * 90);
    let scheduling = Scheduling { start_time: Some(start), ..Scheduling::default() };
    let job = open("a").targeting_group("line").targeting_group("ring:canary").targeting_thing("d");
    let job = job.with_executions(ExecutionStatus::Queued, 3).with_executions(ExecutionStatus::TimedOut, 1);
    let exporter = Exporter::start(simulated([job.scheduled(scheduling)]), |_| {}).await;
    let shown = exporter.described().await;
    assert_eq!(shown.value("aws_iot_job_info", &[("job_id", "a"), ("target_selection", "SNAPSHOT")]), Some(1.0));
    assert_eq!(shown.value("aws_iot_job_status", &[("job_id", "a")]), Some(1.0));
    assert_eq!(shown.value("aws_iot_job_status", &[("job_id", "a"), ("status", "IN_PROGRESS")]), Some(1.0));
    assert_eq!(shown.value("aws_iot_job_windowed", &[("job_id", "a")]), Some(0.0));
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
    let described = only(&shown, "aws_iot_job_described_timestamp_seconds").expect("a time");
    assert!((0.0..2.0).contains(&(described - NOW.as_secs_f64())), "{described}");
    assert_eq!(states(&shown), [1.0, 0.0, 0.0, 0.0]);
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
    let shown = exporter.described().await;
    assert_eq!([overdue(&shown, "SNAPSHOT"), overdue(&shown, "CONTINUOUS")], [Some(0.0), Some(0.0)]);
    tokio::time::sleep(9 * MINUTE).await;
    assert_eq!(overdue(&exporter.scrape().await, "SNAPSHOT"), Some(0.0), "AWS needs some minutes");
    tokio::time::sleep(3 * MINUTE).await;
    assert_eq!(overdue(&exporter.scrape().await, "SNAPSHOT"), Some(1.0));
    // Without descriptions nothing is known about schedules.
    let blind = Exporter::start(exporter.simulator.clone(), list_only).await;
    let shown = blind.listed(1).await;
    assert_eq!([overdue(&shown, "SNAPSHOT"), overdue(&shown, "CONTINUOUS")], [None, Some(0.0)], "absent, and not 0");
}

#[tokio::test(start_paused = true)]
async fn a_description_never_overrules_a_listing_and_a_job_that_ends_in_between_is_counted_once_at_all_times() {
    let exporter =
        Exporter::start(simulated([open("a").targeting_group("line"), open("b").targeting_group("line")]), |_| {})
            .await;
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
    let shown = exporter.described().await;
    assert_eq!(jobs_of(&shown, "IN_PROGRESS"), Some(2.0), "as it was listed");
    assert_eq!(shown.value("aws_iot_job_status", &[("job_id", "a"), ("status", "IN_PROGRESS")]), Some(1.0));
    exporter
        .until(|shown| {
            let of_statuses = ["IN_PROGRESS", "COMPLETED"].map(|status| jobs_of(shown, status).expect("a row"));
            let of_group = ["IN_PROGRESS", "COMPLETED"].map(|status| of_group(shown, "line", status).unwrap_or(0.0));
            assert_eq!((of_statuses.iter().sum(), of_statuses), (2.0, of_group), "{}", shown.text);
            of_statuses == [1.0, 1.0]
        })
        .await;
    let shown = exporter.scrape().await;
    assert_eq!(shown.value("aws_iot_job_status", &[("job_id", "a"), ("status", "COMPLETED")]), Some(1.0));
    assert_eq!(shown.runs("all_jobs"), Some(1.0), "DescribeJob says where a job went that is no longer listed");
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
    exporter.described().await;
    let hide = Arc::new(AtomicBool::new(true));
    hide_from_walks(&exporter.simulator, &["a", "b", "c"], Arc::clone(&hide));
    let now = NOW.after(MINUTE);
    change(&exporter, "b", |job| {
        job.status = Status::Completed;
        (job.last_updated_at, job.completed_at) = (now, Some(now));
    });
    exporter.simulator.with_fleet(&account(), REGION, |fleet| fleet.remove_job("c"));
    exporter.listed(2).await;
    tokio::time::sleep(3 * SECOND).await;
    let shown = exporter.scrape().await;
    assert_eq!(
        [of_group(&shown, "line", "IN_PROGRESS"), of_group(&shown, "line", "COMPLETED")],
        [Some(2.0), Some(1.0)]
    );
    assert_eq!(shown.jobs().values().sum::<f64>(), 3.0, "the one that is not found is gone");
    assert_eq!((shown.up(), failing(&shown)), (Some(1.0), 0.0));
    assert_eq!(all_failures(&shown), 0.0);
    let not_found = [("operation", "DescribeJob"), ("code", "ResourceNotFoundException")];
    assert_eq!(shown.value("aws_iot_jobs_exporter_api_errors_total", &not_found), None, "a deleted job is no error");
    hide.store(false, Ordering::Relaxed);
    let healed = exporter.listed(3).await;
    assert_eq!([jobs_of(&healed, "IN_PROGRESS"), jobs_of(&healed, "COMPLETED")], [Some(2.0), Some(1.0)]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_missing_and_cannot_be_described_still_counts_and_is_asked_for_after_each_open_walk() {
    let exporter = Exporter::start(simulated([open("a"), open("b")]), |_| {}).await;
    exporter.described().await;
    hide_from_walks(&exporter.simulator, &["a"], Arc::new(AtomicBool::new(true)));
    exporter.wire.decide(|request| if request.uri().path() == "/jobs/a" { Fate::Breaks } else { Fate::Arrives });
    let mut asked = Vec::new();
    for walks in 2..5 {
        exporter.listed(walks).await;
        tokio::time::sleep(2 * SECOND).await;
        let shown = exporter.scrape().await;
        assert_eq!((shown.jobs().values().sum::<f64>(), failing(&shown)), (2.0, 1.0));
        asked.push(exporter.wire.releases("/jobs/a").len());
    }
    assert_eq!([asked[1] - asked[0], asked[2] - asked[1]], [1, 1]);
    exporter.wire.decide(|_| Fate::Arrives);
    change(&exporter, "a", |job| job.status = Status::Canceled);
    exporter.listed(5).await;
    tokio::time::sleep(2 * SECOND).await;
    let shown = exporter.scrape().await;
    assert_eq!([jobs_of(&shown, "IN_PROGRESS"), jobs_of(&shown, "CANCELED")], [Some(1.0), Some(1.0)]);
    assert_eq!(failing(&shown), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_missing_job_that_has_left_the_scope_is_not_counted() {
    let exporter = Exporter::start(simulated([open("a"), open("b")]), |config| {
        config.targets[0].scope.statuses = vec![Status::InProgress];
    })
    .await;
    exporter.described().await;
    change(&exporter, "a", |job| job.status = Status::Completed);
    exporter.listed(2).await;
    tokio::time::sleep(3 * SECOND).await;
    let shown = exporter.scrape().await;
    assert_eq!(
        shown.jobs().into_iter().collect::<Vec<_>>(),
        [(("IN_PROGRESS".to_owned(), "SNAPSHOT".to_owned()), 1.0)]
    );
    let asked = || exporter.wire.releases("/jobs/a").len();
    let before = asked();
    exporter.listed(5).await;
    assert_eq!(asked(), before, "it is asked for no more");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_cannot_be_described_keeps_what_is_known_and_its_executions_until_they_are_stale() {
    let job = |id| open(id).targeting_group("line").with_executions(ExecutionStatus::Queued, 2);
    let exporter = Exporter::start(simulated([job("a"), job("b")]), |_| {}).await;
    exporter.described().await;
    describe_job(&exporter.simulator, |call| (call.resource == Some("a")).then(unavailable));
    tokio::time::sleep(2 * MINUTE).await;
    let shown = exporter.scrape().await;
    assert_eq!((shown.up(), states(&shown)), (Some(1.0), [1.0, 0.0, 1.0, 0.0]));
    assert_eq!(of_group(&shown, "line", "IN_PROGRESS"), Some(2.0));
    assert_eq!(executions(&shown, "a", "QUEUED"), Some(2.0), "the last counts");
    assert_eq!(shown.value("aws_iot_job_windowed", &[("job_id", "a")]), Some(0.0));

    // Three times the longest interval between two descriptions.
    tokio::time::sleep(31 * MINUTE).await;
    let shown = exporter.scrape().await;
    assert_eq!(shown.up(), Some(1.0));
    assert_eq!([executions(&shown, "a", "QUEUED"), executions(&shown, "b", "QUEUED")], [None, Some(2.0)]);
    assert_eq!(of_group(&shown, "line", "IN_PROGRESS"), Some(2.0), "groups of a SNAPSHOT job do not change");

    exporter.simulator.stop_intercepting();
    tokio::time::sleep(11 * MINUTE).await;
    let shown = exporter.scrape().await;
    assert_eq!((states(&shown), executions(&shown, "a", "QUEUED")), ([2.0, 0.0, 0.0, 0.0], Some(2.0)));
}

#[tokio::test(start_paused = true)]
async fn without_permission_to_describe_it_goes_on_with_what_list_jobs_gives_and_says_so_each_ten_minutes() {
    let log = thread_log();
    let jobs = (0..20).map(|n| open(&format!("open-{n}")).targeting_group("line"));
    let exporter = Exporter::start(simulated(jobs.chain([ended("old", DAY).targeting_group("line")])), |_| {}).await;
    describe_job(&exporter.simulator, |_| Some(denied()));
    exporter.listed(1).await;
    let mut warnings = Vec::new();
    for _ in 0..60 {
        tokio::time::sleep(MINUTE).await;
        let shown = exporter.scrape().await;
        assert_eq!((shown.up(), shown.jobs().values().sum::<f64>()), (Some(1.0), 21.0));
        let rows = group_rows(&shown);
        assert!(rows.keys().all(|[group, ..]| group == "<unknown>"), "{rows:?}");
        assert_eq!(rows.values().sum::<f64>(), 21.0);
        assert_eq!((states(&shown), only(&shown, "aws_iot_jobs_undescribed")), ([0.0, 0.0, 0.0, 21.0], Some(21.0)));
        for family in ["aws_iot_job_executions", "aws_iot_job_windowed", "aws_iot_job_described_timestamp_seconds"] {
            assert_eq!(shown.family(family).count(), 0, "{family}");
        }
        assert_eq!(shown.value("aws_iot_job_info", &[("job_id", "open-7")]), Some(1.0));
        warnings.extend(log.take().into_iter().filter(|line| line.contains("WARN")));
    }
    assert!((5..=7).contains(&warnings.len()), "{warnings:#?}");
    for warning in warnings {
        for part in ["run failed", "collector=details", "reason=denied", "iot:DescribeJob", "advice="] {
            assert!(warning.contains(part), "{part} is not in {warning}");
        }
    }

    exporter.simulator.stop_intercepting();
    tokio::time::sleep(2 * MINUTE).await;
    let shown = exporter.scrape().await;
    assert_eq!(
        [of_group(&shown, "line", "IN_PROGRESS"), of_group(&shown, "line", "COMPLETED")],
        [Some(20.0), Some(1.0)]
    );
    assert_eq!(states(&shown), [21.0, 0.0, 0.0, 0.0]);
    assert!(log.take().iter().any(|line| line.contains("collector has recovered") && line.contains("details")));
}

#[tokio::test(start_paused = true)]
async fn jobs_that_a_policy_leaves_out_are_unknown_and_the_others_are_described() {
    let jobs = (0..6).map(|n| open(&format!("ours-{n}")).targeting_group("line"));
    let theirs = [open("theirs").targeting_group("line"), ended("theirs-old", DAY).targeting_group("line")];
    let exporter = Exporter::start(simulated(jobs.chain(theirs)), |_| {}).await;
    describe_job(&exporter.simulator, move |call| {
        call.resource.is_some_and(|job| job.starts_with("theirs")).then(denied)
    });
    let asked = || exporter.wire.releases("/jobs/theirs-old").len();
    exporter.listed(1).await;
    for _ in 0..50 {
        tokio::time::sleep(30 * SECOND).await;
        let shown = exporter.scrape().await;
        let rows = |group| ["IN_PROGRESS", "COMPLETED"].map(|status| of_group(&shown, group, status).unwrap_or(0.0));
        assert_eq!((rows("line"), rows("<unknown>")), ([6.0, 0.0], [1.0, 1.0]));
        assert_eq!((states(&shown), only(&shown, "aws_iot_jobs_undescribed")), ([6.0, 0.0, 0.0, 2.0], Some(2.0)));
    }
    // At once, and after 1, 2, 4, 8 and 10 minutes more: see `collectors.details`.
    assert!((4..=6).contains(&asked()), "{} requests in 25 minutes", asked());
}

#[tokio::test(start_paused = true)]
async fn rows_of_ended_jobs_fill_while_they_are_described_and_the_last_to_end_come_first() {
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
    exporter.listed(1).await;
    let shown = exporter
        .until(|shown| {
            let known = of_group(shown, "line", "COMPLETED").unwrap_or(0.0);
            let undescribed = only(shown, "aws_iot_jobs_undescribed").expect("a row");
            assert_eq!((jobs_of(shown, "COMPLETED"), known + undescribed), (Some(101.0), 100.0), "{}", shown.text);
            assert_eq!(of_group(shown, "<unknown>", "COMPLETED"), None, "none has failed");
            known == 50.0
        })
        .await;
    assert_eq!(of_group(&shown, "line", "IN_PROGRESS"), Some(1.0));
    let shown = exporter.described().await;
    assert_eq!(of_group(&shown, "line", "COMPLETED"), Some(100.0));
    assert_eq!(of_group(&shown, "old", "COMPLETED"), None, "it ended too long ago");
    let order = order.lock().expect("no test panics in here");
    let expected: Vec<String> = (0..100).map(|n| format!("ended-{n:02}")).collect();
    assert_eq!(*order, expected);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_created_and_ends_between_two_walks_does_not_make_ended_rows_flicker() {
    let jobs = (0..50).map(|n| ended(&format!("ended-{n}"), DAY).targeting_group("line"));
    let exporter = Exporter::start(simulated(jobs), |config| config.collectors.all_jobs.interval = MINUTE).await;
    exporter.described().await;
    let mut before = 50.0;
    for n in 1..8_u32 {
        exporter.simulator.with_fleet(&account(), REGION, |fleet| {
            fleet.add_job(ended(&format!("new-{n}"), Duration::ZERO).targeting_group("line"));
        });
        exporter
            .until(|shown| {
                let now = of_group(shown, "line", "COMPLETED").expect("a row");
                assert!(now >= before, "{now} after {before}");
                now == f64::from(50 + n)
            })
            .await;
        before = f64::from(50 + n);
    }
    assert_eq!(exporter.simulator.requests(Operation::DescribeJob), 57, "each of them once");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_has_ended_is_described_once_more_and_then_never_again() {
    let jobs = [open("snapshot").targeting_group("line"), open("continuous").targeting_group("line").continuous()];
    let exporter = Exporter::start(simulated(jobs), |config| {
        // Later than the next walk, so that only the walk asks for descriptions.
        config.collectors.details.interval = 10 * MINUTE;
        config.collectors.open_jobs.interval = 5 * MINUTE;
    })
    .await;
    exporter.described().await;
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
    exporter.listed(2).await;
    tokio::time::sleep(3 * SECOND).await;
    let shown = exporter.scrape().await;
    assert_eq!(exporter.simulator.requests(Operation::DescribeJob), 4);
    let late = [("thing_group", "late"), ("status", "COMPLETED"), ("target_selection", "CONTINUOUS")];
    assert_eq!(shown.value("aws_iot_thing_group_jobs", &late), Some(1.0));
    tokio::time::sleep(DAY).await;
    assert_eq!(exporter.simulator.requests(Operation::DescribeJob), 4);
}

#[tokio::test(start_paused = true)]
async fn targets_of_a_continuous_job_follow_and_the_row_of_a_group_without_jobs_stays_as_0() {
    let exporter = Exporter::start(simulated([open("a").continuous().targeting_group("before")]), |_| {}).await;
    let rows = |shown: &Exposition| group_rows(shown).into_keys().map(|[group, ..]| group).collect::<Vec<_>>();
    let groups_of_job = |shown: &Exposition| {
        let family = shown.family("aws_iot_job_thing_group_info");
        family.map(|(labels, _)| labels["thing_group"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(rows(&exporter.described().await), ["before"]);
    change(&exporter, "a", |job| *job = Job { targets: [].into(), ..job.clone() }.targeting_group("after"));
    tokio::time::sleep(2 * MINUTE).await;
    let shown = exporter.scrape().await;
    assert_eq!((rows(&shown), groups_of_job(&shown)), (vec!["after".to_owned()], vec!["after".to_owned()]));
    let before = [("thing_group", "before"), ("status", "IN_PROGRESS"), ("target_selection", "CONTINUOUS")];
    assert_eq!(shown.value("aws_iot_thing_group_jobs", &before), Some(0.0));
    assert_eq!(shown.value("aws_iot_thing_group_jobs_oldest_created_timestamp_seconds", &before), None);
}

#[tokio::test(start_paused = true)]
async fn an_id_that_is_used_again_is_another_job() {
    let jobs = [ended("a", DAY).targeting_group("first")];
    let exporter = Exporter::start(simulated(jobs), |config| config.collectors.all_jobs.interval = MINUTE).await;
    let rows = |shown: &Exposition| group_rows(shown).into_keys().map(|[group, ..]| group).collect::<Vec<_>>();
    assert_eq!(rows(&exporter.described().await), ["first"]);
    exporter.simulator.with_fleet(&account(), REGION, |fleet| {
        fleet.add_job(ended("a", Duration::ZERO).targeting_group("second"));
    });
    tokio::time::sleep(2 * MINUTE).await;
    let shown = exporter.scrape().await;
    assert_eq!((rows(&shown), jobs_of(&shown, "COMPLETED")), (vec!["second".to_owned()], Some(1.0)));
}

#[tokio::test(start_paused = true)]
async fn without_details_groups_are_the_ids_that_list_jobs_gives_and_cost_nothing() {
    let simulator = simulated([]);
    let jobs = [
        open("a").targeting_group("line").with_executions(ExecutionStatus::Queued, 1),
        ended("b", DAY).targeting_group("line"),
        open("c").targeting_thing("d"),
    ];
    simulator.set_fleet(&account(), REGION, Fleet::new(jobs, [ThingGroup::new("line")]));
    let exporter = Exporter::start(simulator, list_only).await;
    let shown = exporter.listed(2).await;
    let id = ThingGroup::new("line").id;
    assert_eq!([of_group(&shown, &id, "IN_PROGRESS"), of_group(&shown, &id, "COMPLETED")], [Some(1.0), Some(1.0)]);
    assert_eq!(of_group(&shown, "<unknown>", "IN_PROGRESS"), Some(1.0), "no id says nothing");
    assert_eq!(exporter.simulator.requests(Operation::DescribeJob), 0);
    let families = [
        "aws_iot_jobs_undescribed",
        "aws_iot_jobs_collector_jobs",
        "aws_iot_job_executions",
        "aws_iot_job_windowed",
        "aws_iot_job_described_timestamp_seconds",
    ];
    for family in families {
        assert_eq!(shown.family(family).count(), 0, "{family}");
    }
    assert_eq!(shown.family("aws_iot_job_info").count(), 3);
}

#[tokio::test(start_paused = true)]
async fn without_series_of_jobs_and_without_ended_jobs_sums_stay() {
    let job = open("a").targeting_group("line").with_executions(ExecutionStatus::Queued, 1);
    let jobs = [job, ended("b", DAY).targeting_group("line")];
    let start = |configure: fn(&mut Config)| Exporter::start(simulated(jobs.clone()), configure);

    let no_series = start(|config| config.jobs.series = false).await;
    let shown = no_series.described().await;
    assert!(!shown.text.contains("job_id="), "{}", shown.text);
    assert_eq!(
        shown.value("aws_iot_jobs_omitted_jobs", &[("collector", "open_jobs")]),
        Some(0.0),
        "left out by choice, and not by a limit"
    );
    assert_eq!(of_group(&shown, "line", "IN_PROGRESS"), Some(1.0));

    let no_ended = start(|config| config.jobs.ended_within = Duration::ZERO).await;
    let shown = no_ended.described().await;
    assert_eq!(of_group(&shown, "line", "IN_PROGRESS"), Some(1.0));
    assert_eq!([of_group(&shown, "line", "COMPLETED"), jobs_of(&shown, "COMPLETED")], [Some(0.0), Some(1.0)]);
    assert_eq!(shown.value("aws_iot_job_info", &[("job_id", "b")]), None);
    assert_eq!(no_ended.simulator.requests(Operation::DescribeJob), 1);

    let no_full_walks = start(|config| config.collectors.all_jobs.enabled = false).await;
    let shown = no_full_walks.described().await;
    assert_eq!([jobs_of(&shown, "IN_PROGRESS"), jobs_of(&shown, "COMPLETED")], [Some(1.0), None], "absent, and not 0");
    assert_eq!((shown.up(), shown.runs("all_jobs")), (Some(1.0), Some(0.0)));
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
    let shown = exporter.described().await;
    let groups: Vec<String> = group_rows(&shown).into_keys().map(|[group, ..]| group).collect();
    assert_eq!(groups, ["<other>", "factory-1", "factory-2"]);
    assert!(!shown.text.contains("test-1"), "in no family: {}", shown.text);
    assert_eq!(
        only(&shown, "aws_iot_jobs_folded_thing_groups"),
        Some(0.0),
        "what is left out is not folded by a limit"
    );
    let jobs: Vec<&str> = shown.family("aws_iot_job_info").map(|(labels, _)| labels["job_id"].as_str()).collect();
    assert_eq!(
        (jobs, shown.value("aws_iot_jobs_omitted_jobs", &[("collector", "open_jobs")])),
        (vec!["a", "b"], Some(1.0))
    );
}

#[tokio::test(start_paused = true)]
async fn descriptions_keep_to_the_budget_of_their_own_operation() {
    let exporter = Exporter::start(simulated((0..100).map(|n| open(&format!("job-{n}")))), |config| {
        config.limits.requests_per_second = 5.0;
        config.collectors.details.interval = 10 * MINUTE;
    })
    .await;
    let shown = exporter.described().await;
    assert_eq!((shown.up(), all_failures(&shown)), (Some(1.0), 0.0));
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
    let shown = exporter.until(|shown| shown.runs("details") >= Some(1.0)).await;
    assert_eq!(shown.value("aws_iot_job_status", &[("status", "IN_PROGRESS")]), Some(1.0));
    assert_eq!((failing(&shown), shown.failures("details", "account_mismatch")), (1.0, Some(1.0)));
    assert_eq!(of_group(&shown, "<unknown>", "IN_PROGRESS"), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn whatever_a_description_leaves_out_or_gets_wrong_is_unknown_and_takes_nothing_from_the_walk() {
    let described = |body: &'static str| async move {
        let exporter = Exporter::start(simulated([open("a")]), |_| {}).await;
        describe_job(&exporter.simulator, move |_| Some(Response::new(body.into())));
        let shown = exporter.until(|shown| shown.runs("details") >= Some(1.0)).await;
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
        assert_eq!(failing(&shown), 1.0, "{body}");
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
    assert_eq!(only(&shown, "aws_iot_job_windowed"), Some(0.0), "windows are known without the start");
    assert_eq!(shown.family("aws_iot_job_scheduled_start_timestamp_seconds").count(), 0);
}

/// Within one exposition a job has one status, whatever happens to it between its walk and its description.
#[tokio::test(start_paused = true)]
async fn under_a_fleet_that_changes_at_every_request_group_rows_status_rows_and_counts_agree() {
    const JOBS: u32 = 200;
    let group = |n: u32| format!("group-{}", n % 7);
    let jobs = (0..JOBS).map(|n| {
        let status = Status::KNOWN[n as usize % Status::KNOWN.len()].clone();
        Job::new(format!("job-{n:03}"), status, NOW.before(DAY)).targeting_group(&group(n))
    });
    let exporter = Exporter::start(simulated(jobs), |config| {
        config.limits.max_ended_jobs = JOBS;
        config.collectors.open_jobs.interval = 5 * SECOND;
        config.collectors.all_jobs.interval = 7 * SECOND;
    })
    .await;
    let rng = Mutex::new(fastrand::Rng::with_seed(9));
    exporter.simulator.intercept(move |call| {
        let mut rng = rng.lock().expect("no test panics in here");
        let (job, now) = (format!("job-{:03}", rng.u32(0..JOBS)), call.now);
        let status = if rng.u32(0..8) == 0 {
            Status::KNOWN.iter().filter(|status| !status.is_open()).nth(rng.usize(0..2))
        } else {
            Status::KNOWN.iter().filter(|status| status.is_open()).nth(rng.usize(0..3))
        };
        let status = status.cloned().expect("a status");
        call.simulator.with_fleet(call.account, call.region, |fleet| {
            fleet.update_job(&job, |job| {
                // What has ended does not change any more.
                if job.status.is_open() {
                    let completed_at = (!status.is_open()).then_some(now);
                    (job.status, job.last_updated_at, job.completed_at) = (status, now, completed_at);
                }
            })
        });
        None
    });
    exporter.described().await;
    let by_status = |shown: &Exposition, family: &str| {
        let mut sums: BTreeMap<String, f64> = BTreeMap::new();
        for (labels, jobs) in shown.family(family) {
            *sums.entry(labels["status"].clone()).or_default() += jobs;
        }
        sums.retain(|_, jobs| *jobs > 0.0);
        sums
    };
    for _ in 0..100 {
        let shown = exporter.scrape().await;
        let counts = by_status(&shown, "aws_iot_jobs");
        assert_eq!(by_status(&shown, "aws_iot_thing_group_jobs"), counts);
        assert_eq!(by_status(&shown, "aws_iot_job_status"), counts);
        assert_eq!(counts.values().sum::<f64>(), f64::from(JOBS), "none is lost, and none counted twice");
        tokio::time::sleep(SECOND).await;
    }
}

/// A budget at which sixty ended jobs take 12 seconds.
fn slowly(config: &mut Config) {
    config.limits.requests_per_second = 5.0;
}

/// Sixty ended jobs.
fn sixty_ended() -> impl Iterator<Item = Job> {
    (0..60).map(|n| ended(&format!("ended-{n:02}"), Duration::from_hours(n)).targeting_group("line"))
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
        let shown = exporter.described().await;
        assert_eq!(jobs_of(&shown, "COMPLETED"), Some(60.0));
        assert_eq!(
            [of_group(&shown, "line", "COMPLETED"), of_group(&shown, "line", "IN_PROGRESS")],
            [Some(60.0), Some(1.0)]
        );
        assert_eq!(only(&shown, "aws_iot_jobs_undescribed"), Some(0.0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_ended_job_that_is_deleted_counts_until_the_next_full_walk_and_its_id_can_be_used_again() {
    let exporter = Exporter::start(simulated(sixty_ended()), slowly).await;
    exporter.listed(1).await;
    exporter.simulator.with_fleet(&account(), REGION, |fleet| {
        fleet.add_job(Job::new("ended-59", Status::InProgress, NOW).targeting_group("again"));
        fleet.remove_job("ended-58");
    });
    tokio::time::sleep(30 * SECOND).await;
    let shown = exporter.scrape().await;
    assert_eq!(jobs_of(&shown, "COMPLETED"), Some(60.0), "until the next walk they are counted as they were listed");
    exporter.listed(2).await;
    tokio::time::sleep(3 * SECOND).await;
    let shown = exporter.scrape().await;
    assert_eq!([jobs_of(&shown, "COMPLETED"), jobs_of(&shown, "IN_PROGRESS")], [Some(59.0), Some(1.0)]);
    assert_eq!(of_group(&shown, "again", "IN_PROGRESS"), Some(1.0));
    tokio::time::sleep(16 * MINUTE).await;
    let shown = exporter.scrape().await;
    assert_eq!([jobs_of(&shown, "COMPLETED"), of_group(&shown, "line", "COMPLETED")], [Some(58.0), Some(58.0)]);
    assert_eq!(states(&shown), [59.0, 0.0, 0.0, 0.0]);
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
        tokio::time::sleep(30 * MINUTE).await;
        let case = format!("{open_denied} open denied, {open_allowed} not, {ended_denied} ended denied");
        for minute in (0..80).step_by(8) {
            tokio::time::sleep(8 * MINUTE).await;
            let shown = exporter.scrape().await;
            assert_eq!(of_group(&shown, "line", "COMPLETED"), Some(60.0), "{case}, minute {minute}");
            let open = of_group(&shown, "line", "IN_PROGRESS").unwrap_or_default();
            assert_eq!(open, f64::from(open_allowed), "{case}, minute {minute}");
            let [_, _, _, denied] = states(&shown);
            assert_eq!(denied, f64::from(open_denied + ended_denied), "{case}, minute {minute}");
            assert_eq!(only(&shown, "aws_iot_jobs_undescribed"), Some(denied), "{case}, minute {minute}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_description_brings_no_ended_job_back() {
    let exporter =
        Exporter::start(simulated([ended("a", Duration::from_secs(5)).targeting_group("line")]), |_| {}).await;
    describe_job(&exporter.simulator, |call| {
        let mut body: serde_json::Value = serde_json::from_slice(call.answer().body()).expect("JSON");
        body["job"]["status"] = "IN_PROGRESS".into();
        body["job"]["lastUpdatedAt"] = NOW.before(MINUTE).as_secs_f64().into();
        Some(Response::new(body.to_string().into()))
    });
    let shown = exporter.described().await;
    assert_eq!([jobs_of(&shown, "COMPLETED"), of_group(&shown, "line", "COMPLETED")], [Some(1.0), Some(1.0)]);
}

#[tokio::test(start_paused = true)]
async fn throttling_of_one_operation_fails_no_call_of_the_other() {
    let exporter = Exporter::start(simulated((0..100).map(|n| open(&format!("job-{n}")))), |_| {}).await;
    let asked: Mutex<BTreeMap<String, u64>> = Mutex::default();
    exporter.simulator.intercept(move |call| match call.operation {
        // Every second request for a job is throttled.
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
    for walk in 1..8 {
        let shown = exporter.listed(walk).await;
        assert_eq!(shown.up(), Some(1.0), "{walk}");
    }
    let shown = exporter.scrape().await;
    assert_eq!([shown.failures("open_jobs", "throttled"), shown.failures("all_jobs", "throttled")], [Some(0.0); 2]);
    assert!(shown.failures("details", "throttled") >= Some(100.0));
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_no_descriptions_leave_nothing_behind() {
    let jobs = (0..100).map(|n| open(&format!("open-{n}")).targeting_group("line")).chain(sixty_ended());
    let exporter = Exporter::start(simulated(jobs), |_| {}).await;
    describe_job(&exporter.simulator, |_| Some(Response::new("<html>Welcome to our proxy</html>".into())));
    exporter.listed(3).await;
    let shown = exporter.scrape().await;
    assert_eq!(states(&shown), [0.0, 0.0, 160.0, 0.0]);
    exporter.simulator.stop_intercepting();
    // The longest time after which a failed job is asked for again.
    tokio::time::sleep(11 * MINUTE).await;
    let shown = exporter.scrape().await;
    assert_eq!(
        [of_group(&shown, "line", "IN_PROGRESS"), of_group(&shown, "line", "COMPLETED")],
        [Some(100.0), Some(60.0)]
    );
}

#[tokio::test(start_paused = true)]
async fn jobs_that_always_fail_starve_no_others() {
    let jobs = (0..100).map(|n| open(&format!("open-{n:02}")).targeting_group("line")).chain(sixty_ended());
    let exporter = Exporter::start(simulated(jobs), slowly).await;
    describe_job(&exporter.simulator, |call| {
        let poisoned = call.resource.is_some_and(|job| job.starts_with("open-0") || job == "ended-00");
        poisoned.then(|| simulator::error(StatusCode::INTERNAL_SERVER_ERROR, "InternalFailureException", "oops"))
    });
    tokio::time::sleep(2 * MINUTE).await;
    for _ in 0..15 {
        tokio::time::sleep(2 * MINUTE).await;
        let shown = exporter.scrape().await;
        assert_eq!(failing(&shown), 11.0);
        assert_eq!(shown.family("aws_iot_job_executions").count(), 90 * 8);
        assert_eq!(
            [of_group(&shown, "line", "COMPLETED"), of_group(&shown, "<unknown>", "COMPLETED")],
            [Some(59.0), Some(1.0)]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_gone_and_would_be_denied_is_given_up_after_two_open_walks() {
    let exporter = Exporter::start(simulated(["a", "theirs"].map(open)), |_| {}).await;
    describe_job(&exporter.simulator, |call| (call.resource == Some("theirs")).then(denied));
    exporter.listed(2).await;
    exporter.simulator.with_fleet(&account(), REGION, |fleet| fleet.remove_job("theirs"));
    tokio::time::sleep(5 * MINUTE).await;
    let asked = exporter.wire.releases("/jobs/theirs").len();
    tokio::time::sleep(30 * MINUTE).await;
    assert_eq!(exporter.wire.releases("/jobs/theirs").len(), asked);
    let shown = exporter.scrape().await;
    assert_eq!((states(&shown), jobs_of(&shown, "IN_PROGRESS")), ([1.0, 0.0, 0.0, 0.0], Some(1.0)));
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
    let shown = exporter.listed(2).await;
    assert_eq!(shown.jobs().values().sum::<f64>(), 1.0);
}

#[tokio::test(start_paused = true)]
async fn descriptions_that_fail_are_logged_once_in_ten_minutes_for_each_reason() {
    let log = thread_log();
    let exporter = Exporter::start(simulated(sixty_ended()), slowly).await;
    let requests = AtomicU64::new(0);
    describe_job(&exporter.simulator, move |_| {
        let is_even = requests.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        Some(if is_even { unavailable() } else { Response::new("<html>".into()) })
    });
    tokio::time::sleep(9 * MINUTE).await;
    let lines = log.take();
    tokio::time::sleep(51 * MINUTE).await;
    assert_eq!(of_group(&exporter.scrape().await, "<unknown>", "COMPLETED"), Some(60.0));
    let later = log.take().iter().filter(|line| line.contains("WARN")).count();
    assert!((2..=10).contains(&later), "{later} warnings in 51 minutes");
    let mut warnings: Vec<&String> = lines.iter().filter(|line| line.contains("WARN")).collect();
    warnings.sort_by_key(|line| line.contains("reason=unavailable"));
    let [malformed, unavailable] = warnings[..] else { panic!("two warnings, not {warnings:#?}") };
    assert!(malformed.contains("reason=malformed") && malformed.contains("advice="), "{malformed}");
    assert!(unavailable.contains("ServiceUnavailableException") && unavailable.contains("advice="), "{unavailable}");
}

#[tokio::test(start_paused = true)]
async fn a_windowed_job_whose_start_cannot_be_read_is_windowed() {
    let windows = vec![MaintenanceWindow { start_time: "cron(0 4 * * ? *)".to_owned(), duration_in_minutes: 60 }];
    let windows = Scheduling { maintenance_windows: windows, ..Scheduling::default() };
    let exporter = Exporter::start(simulated([open("a").scheduled(windows)]), |_| {}).await;
    describe_job(&exporter.simulator, |call| {
        let mut body: serde_json::Value = serde_json::from_slice(call.answer().body()).expect("JSON");
        body["job"]["schedulingConfig"]["startTime"] = "next Tuesday".into();
        Some(Response::new(body.to_string().into()))
    });
    let shown = exporter.described().await;
    assert_eq!(only(&shown, "aws_iot_job_windowed"), Some(1.0));
    assert_eq!(shown.family("aws_iot_job_scheduled_start_timestamp_seconds").count(), 0);
}

#[tokio::test(start_paused = true)]
async fn targets_that_a_description_leaves_out_stay_as_they_were() {
    let exporter = Exporter::start(simulated([open("a").targeting_group("line")]), |_| {}).await;
    exporter.described().await;
    describe_job(&exporter.simulator, |_| Some(Response::new(r#"{"job": {"jobId": "a"}}"#.into())));
    let shown = exporter.until(|shown| shown.runs("details") >= Some(2.0)).await;
    assert_eq!((of_group(&shown, "line", "IN_PROGRESS"), failing(&shown)), (Some(1.0), 0.0));
    assert_eq!(shown.family("aws_iot_job_last_updated_timestamp_seconds").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_targets_of_one_account_wait_for_each_other_and_describe_all_of_their_jobs() {
    let exporter = Exporter::start(simulated((0..100).map(|n| open(&format!("job-{n}")))), |config| {
        config.limits.requests_per_second = 5.0;
        config.targets = ["a", "b", "c", "d"].map(|name| target(name, "http://simulator.test")).to_vec();
    })
    .await;
    tokio::time::sleep(2 * MINUTE).await;
    let shown = exporter.scrape().await;
    let fresh = shown
        .family("aws_iot_jobs_collector_jobs")
        .filter(|(labels, _)| labels["collector"] == "details" && labels["state"] == "fresh");
    assert_eq!(fresh.map(|(_, jobs)| jobs).collect::<Vec<_>>(), [100.0; 4]);
    assert_eq!(all_failures(&shown), 0.0);
}
