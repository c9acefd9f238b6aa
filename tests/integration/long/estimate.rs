//! An exporter runs for a whole day, on the paused clock, and the estimate is held against it.

use std::time::Duration;

use aws_iot_jobs_exporter::simulator::Lifecycle;

use crate::estimate::{a_day, fleet, requests};
use crate::support::{NOW, REGION, account, simulator};

fn assert_close(counted: f64, estimated: u64, what: &str) {
    let ratio = estimated as f64 / counted;
    assert!((0.98..1.02).contains(&ratio), "{what}: {estimated} estimated, {counted} in a day");
}

#[tokio::test(start_paused = true)]
async fn a_day_takes_the_requests_that_are_estimated() {
    let (shown, estimate) = a_day(simulator(fleet()), |config| config.refresh.interval = Duration::from_mins(5)).await;
    let day = &estimate.targets[0];
    assert_eq!((day.walked.pages, day.walked.open_jobs, day.walked.jobs), (3, 20, 600));
    assert_close(requests(&shown, "ListJobs"), day.requests_per_day["ListJobs"], "ListJobs");
    let described = requests(&shown, "DescribeJob") - day.describe_requests_after_start as f64;
    assert_eq!(day.describe_requests_after_start, 580, "{day:?}");
    assert_close(described, day.requests_per_day["DescribeJob"], "DescribeJob");
    let refreshes = shown.value("aws_iot_jobs_exporter_refreshes_total", &[]).expect("refreshes");
    assert!((day.refreshes_per_day / refreshes - 1.0).abs() < 0.02, "{refreshes} refreshes, {day:?}");
}

#[tokio::test(start_paused = true)]
async fn a_day_of_refreshes_that_are_slower_than_the_interval_is_estimated_too() {
    let (shown, estimate) = a_day(simulator(fleet()), |config| {
        config.limits.requests_per_second = 0.1;
        config.thing_groups.ended_jobs_within = Duration::ZERO;
    })
    .await;
    let day = &estimate.targets[0];
    assert!(day.seconds_between_refreshes >= 400.0, "{day:?}");
    for operation in ["ListJobs", "DescribeJob"] {
        assert_close(requests(&shown, operation), day.requests_per_day[operation], operation);
    }
}

#[tokio::test(start_paused = true)]
async fn a_day_of_a_fleet_that_lives_is_estimated_roughly() {
    let simulator = simulator([]);
    let pace = std::num::NonZeroU32::MIN;
    let (fleet, lifecycle) = Lifecycle::begin(3, 800, pace, NOW);
    simulator.set_fleet_with_lifecycle(&account(), REGION, fleet, lifecycle);
    let (shown, estimate) = a_day(simulator, |config| {
        config.refresh.interval = Duration::from_mins(10);
        // So few jobs are purged by then, where a real account keeps them for months.
        config.thing_groups.ended_jobs_within = Duration::from_mins(30);
    })
    .await;
    let day = &estimate.targets[0];
    assert!(day.describe_requests_after_start > 20, "{day:?}");
    let open = day.walked.open_jobs as f64 * day.refreshes_per_day;
    let estimated = day.requests_per_day["DescribeJob"] as f64;
    assert!(estimated > open * 1.02, "jobs end that no refresh met: {day:?}");
    let ratio = estimated / requests(&shown, "DescribeJob");
    // How many are open, and end, is another number each hour.
    assert!((0.8..1.25).contains(&ratio), "{ratio}: {day:?}");
}
