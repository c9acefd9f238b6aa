//! The requests of a day at the defaults, on the paused clock.
//!
//! A debug build takes minutes for them. There the pages of full walks are a tenth of their size and so are the ended jobs, which
//! takes the same requests, and a third of the day after its first hour stands for the whole:
//! `cargo test --release --test integration day_ -- --nocapture` measures the whole.

use std::ops::Range;
use std::time::Duration;

use aws_iot_jobs_exporter::jobs::{ExecutionStatus, Status};
use aws_iot_jobs_exporter::simulator::{Job, Operation};

use crate::support::{Exporter, NOW, REGION, account, simulator as simulated};

const DAY: Duration = Duration::from_hours(24);

/// After the first hour a part of the day is measured: one of so many.
const PARTS: u32 = if cfg!(debug_assertions) { 3 } else { 1 };

const SCALE: u32 = if cfg!(debug_assertions) { 10 } else { 1 };

const ALL_ENDED: u32 = 100_000;

const ENDED: u32 = ALL_ENDED / SCALE;

const PAGE_SIZE: u32 = 250 / SCALE;

const OPEN: u32 = 200;

/// The ended jobs are those of three years; in a debug build, the last ones of them.
fn fleet() -> impl Iterator<Item = Job> {
    let open = (0..OPEN).map(|n| {
        let job = Job::new(format!("open-{n}"), Status::InProgress, NOW.before(n * Duration::from_hours(12)));
        job.targeting_group("line").with_executions(ExecutionStatus::Queued, 50)
    });
    let ended = (0..ENDED).map(|n| {
        let ended = NOW.before(n * (3 * 365 * DAY / ALL_ENDED));
        Job::new(format!("ended-{n}"), Status::Completed, ended).targeting_group("line")
    });
    open.chain(ended)
}

/// Requests so far of `ListJobs` and `DescribeJob`.
fn requests(exporter: &Exporter) -> [u64; 2] {
    [Operation::ListJobs, Operation::DescribeJob].map(|operation| exporter.simulator.requests(operation))
}

/// The first `active` open jobs change at the end of each of these minutes.
async fn run(exporter: &Exporter, active: u32, minutes: Range<u32>) {
    for minute in minutes {
        tokio::time::sleep(Duration::from_mins(1)).await;
        exporter.simulator.with_fleet(&account(), REGION, |fleet| {
            for n in 0..active {
                let is_there = fleet.update_job(&format!("open-{n}"), |job| {
                    job.last_updated_at = NOW.after(Duration::from_mins(minute.into()));
                    job.executions.set(ExecutionStatus::Succeeded, minute);
                });
                assert!(is_there);
            }
        });
        exporter.wire.forget_releases();
    }
}

/// The requests of the first day, in which `active` open jobs change every minute.
async fn requests_of_a_day(active: u32) -> u64 {
    let exporter = Exporter::start(simulated(fleet()), |config| config.limits.requests_per_second = 5.0).await;
    exporter.wire.set_page_size(|request| {
        let is_full_walk = request.uri().path() == "/jobs" && !request.uri().query()?.contains("status=");
        is_full_walk.then_some(PAGE_SIZE)
    });
    run(&exporter, active, 1..61).await;
    let first_hour = requests(&exporter);
    run(&exporter, active, 61..61 + 23 * 60 / PARTS).await;
    let shown = exporter.scrape().await;
    assert_eq!(shown.up(), Some(1.0));
    assert_eq!(shown.jobs().values().sum::<f64>(), f64::from(OPEN + ENDED));
    assert_eq!(shown.in_state("details", "overdue"), Some(0.0));
    let later = requests(&exporter);
    let of_day = |n: usize| first_hour[n] + (later[n] - first_hour[n]) * u64::from(PARTS);
    let (listed, described) = (of_day(0), of_day(1));
    println!("{active} active jobs: {listed} requests of ListJobs and {described} of DescribeJob");
    listed + described
}

#[tokio::test(start_paused = true)]
async fn a_day_of_a_fleet_that_stands_still_takes_at_most_75000_requests() {
    let requests = requests_of_a_day(0).await;
    assert!(requests <= 75_000, "{requests}");
}

#[tokio::test(start_paused = true)]
async fn a_day_with_a_tenth_of_the_open_jobs_active_takes_at_most_105000_requests() {
    let requests = requests_of_a_day(OPEN / 10).await;
    assert!(requests <= 105_000, "{requests}");
}
