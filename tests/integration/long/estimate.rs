//! The estimate is compared with days of more requests, or of walks that delay each other.

use std::time::Duration;

use aws_iot_jobs_exporter::jobs::ExecutionStatus;

use crate::estimate::{a_day, fleet, rare_runs};
use crate::support::simulator;

const STEP: Duration = Duration::from_hours(1);

#[tokio::test(start_paused = true)]
async fn a_day_with_the_default_settings_takes_the_requests_that_are_estimated() {
    let day = a_day(&simulator(fleet()), 0.1, |_| {}, STEP, |_, _| {}).await;
    day.is_accurate(|of| of.standing_still, &(0.95..1.05));
}

#[tokio::test(start_paused = true)]
async fn a_day_of_walks_that_are_slower_than_their_intervals_is_estimated_too() {
    let day = a_day(
        &simulator(fleet()),
        0.1,
        |config| {
            config.limits.requests_per_second = 0.05;
            config.jobs.ended_within = Duration::ZERO;
            config.targets[0].collectors.all_jobs.interval = Duration::from_mins(5);
        },
        STEP,
        |_, _| {},
    )
    .await;
    let full_walk = day.estimate.listed.all_jobs.expect("a full walk");
    assert!(day.estimate.listed.open_jobs.seconds_between_starts >= 80.0, "{:?}", day.estimate);
    assert!(full_walk.seconds_between_starts >= 400.0, "{:?}", day.estimate);
    // Open and full walks delay each other.
    day.is_accurate(|of| of.standing_still, &(0.95..1.2));
}

#[tokio::test(start_paused = true)]
async fn a_day_of_a_fleet_of_which_a_tenth_changes_all_the_time_is_estimated_roughly() {
    let step = Duration::from_mins(2);
    let day = a_day(&simulator(fleet()), 0.1, rare_runs, step, |running, number| {
        for id in ["job-000000", "job-000001"] {
            running.change(id, |job| job.executions.set(ExecutionStatus::Succeeded, number));
        }
    })
    .await;
    day.is_accurate(|of| of.active, &(0.75..1.25));
}
