//! Whatever `DescribeJob` does, the listings go on, and nothing of them disappears.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aws_iot_jobs_exporter::http::StatusCode;
use aws_iot_jobs_exporter::jobs::{CacheState, Status};
use aws_iot_jobs_exporter::metrics::{Collector, ListingState};
use aws_iot_jobs_exporter::simulator::{self, Fault, Operation, Rule, Script};

use super::{DAY, MINUTE, Running, SECOND, Setup, count, details, ended_jobs, open, open_jobs, part, total};
use crate::support::{Fate, REGION, account, simulator as simulated};

/// What goes wrong with `DescribeJob`.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Slow,
    Fault(Fault),
    NotFound,
}

async fn open_counts_follow(trouble: Trouble, of_one: bool) {
    let case = format!("{trouble:?}, one job: {of_one}");
    let simulator = simulated(open_jobs(12).chain(ended_jobs(30, DAY)));
    let running = Running::start_with(&simulator, Setup { rate: 20.0, ..Setup::default() }).await;
    let before = running.after(MINUTE * 2).await;
    assert_eq!(details(&before, CacheState::Fresh), 42, "{case}");

    let is_affected = move |path: &str| if of_one { path == "/jobs/open-001" } else { path.starts_with("/jobs/") };
    match trouble {
        Trouble::Slow => running.wire.decide(move |request| {
            if is_affected(request.uri().path()) { Fate::Late(Duration::from_millis(9_900)) } else { Fate::Arrives }
        }),
        Trouble::Fault(fault) => {
            let rule = Rule::new(fault).on(Operation::DescribeJob);
            simulator.set_script(Script::new([if of_one { rule.of_job("open-001") } else { rule }]));
        }
        Trouble::NotFound => simulator.intercept(move |call| {
            let path = format!("/jobs/{}", call.resource.unwrap_or_default());
            let is_affected = call.operation == Operation::DescribeJob && is_affected(&path);
            is_affected.then(|| simulator::error(StatusCode::NOT_FOUND, "ResourceNotFoundException", "no"))
        }),
    }
    let from = running.history().len();
    for round in 1..=5 {
        running.add(open(&format!("new-{round}")));
        let state = running.after(MINUTE * 2).await;
        assert_eq!(total(state.open.as_ref()), Some(12 + round), "{case}");
    }
    for (at, state) in &running.history()[from..] {
        assert_eq!(total(state.ended.as_ref()), Some(30), "{case} {at:?}");
        assert!(part(state.open.as_ref()).series.len() >= 12, "{case} {at:?}");
        assert!(state.open_jobs.is_up() && state.all_jobs.as_ref().is_some_and(ListingState::is_up), "{case} {at:?}");
    }
    let failures = Collector::ALL.map(|collector| running.all_failures(collector));
    assert_eq!(failures[..2], [0, 0], "{case}");
    let fails_runs = !matches!(trouble, Trouble::Slow | Trouble::NotFound);
    assert_eq!(failures[2] > 0, fails_runs, "{case}");
}

#[tokio::test(start_paused = true)]
async fn slow_descriptions_delay_no_listing() {
    open_counts_follow(Trouble::Slow, true).await;
    open_counts_follow(Trouble::Slow, false).await;
}

#[tokio::test(start_paused = true)]
async fn descriptions_that_hang_delay_no_listing() {
    open_counts_follow(Trouble::Fault(Fault::Hang), true).await;
    open_counts_follow(Trouble::Fault(Fault::Hang), false).await;
}

#[tokio::test(start_paused = true)]
async fn descriptions_that_are_refused_delay_no_listing() {
    for fault in [Fault::Denied, Fault::Throttle429, Fault::Error500, Fault::Reset] {
        open_counts_follow(Trouble::Fault(fault), true).await;
        open_counts_follow(Trouble::Fault(fault), false).await;
    }
}

#[tokio::test(start_paused = true)]
async fn jobs_that_describe_job_does_not_find_delay_no_listing() {
    open_counts_follow(Trouble::NotFound, true).await;
    open_counts_follow(Trouble::NotFound, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_ends_or_is_deleted_is_followed_by_one_description() {
    let running = Running::start(&simulated(open_jobs(10).chain(ended_jobs(5, DAY)))).await;
    running.after(MINUTE * 3).await;
    let ids = ["open-000", "open-001", "open-002"];
    let before = ids.map(|id| running.descriptions(id));
    running.end(ids[0], Status::Completed);
    running.end(ids[1], Status::Canceled);
    running.remove(ids[2]);
    let state = running.after(MINUTE + SECOND * 5).await;
    let ended = |status| count(state.ended.as_ref(), &status);
    assert_eq!(total(state.open.as_ref()), Some(7));
    assert_eq!([ended(Status::Completed), ended(Status::Canceled)], [6, 1]);
    // Until the next open walk an open job can be due by itself.
    for (id, before) in ids.iter().zip(before) {
        assert!((1..=2).contains(&(running.descriptions(id) - before)), "{id}: {}", running.descriptions(id) - before);
    }
}

#[tokio::test(start_paused = true)]
async fn jobs_that_end_are_followed_while_every_second_description_fails() {
    let simulator = simulated(open_jobs(40).chain(ended_jobs(5, DAY)));
    let calls = AtomicU64::new(0);
    simulator.intercept(move |call| {
        let fails = call.operation == Operation::DescribeJob && calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        fails.then(|| simulator::error(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException", "later"))
    });
    let running = Running::start(&simulator).await;
    running.after(MINUTE * 3).await;
    let from = running.history().len();
    for n in 0..20 {
        running.end(&format!("open-{n:03}"), Status::Completed);
    }
    let state = running.after(MINUTE * 10).await;
    assert_eq!((total(state.open.as_ref()), total(state.ended.as_ref())), (Some(20), Some(25)));
    for (at, state) in &running.history()[from..] {
        assert_eq!(total(state.open.as_ref()).zip(total(state.ended.as_ref())).map(|(a, b)| a + b), Some(45), "{at:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_200_jobs_that_are_canceled_at_once_none_is_missing_at_any_time() {
    let simulator = simulated(open_jobs(200));
    let running = Running::start_with(&simulator, Setup { rate: 20.0, ..Setup::default() }).await;
    running.after(MINUTE * 3).await;
    let from = running.history().len();
    for n in 0..200 {
        running.end(&format!("open-{n:03}"), Status::Canceled);
    }
    let state = running.after(MINUTE * 2).await;
    assert_eq!((total(state.open.as_ref()), count(state.ended.as_ref(), &Status::Canceled)), (Some(0), 200));
    for (at, state) in &running.history()[from..] {
        assert_eq!(
            total(state.open.as_ref()).zip(total(state.ended.as_ref())).map(|(a, b)| a + b),
            Some(200),
            "{at:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn details_are_back_within_90_seconds_after_a_denial_of_an_hour() {
    let simulator = simulated(open_jobs(30));
    let is_denied = Arc::new(AtomicBool::new(true));
    let denies = Arc::clone(&is_denied);
    simulator.intercept(move |call| {
        let is_denied = call.operation == Operation::DescribeJob && denies.load(Ordering::Relaxed);
        is_denied.then(|| simulator::error(StatusCode::FORBIDDEN, "AccessDeniedException", "no"))
    });
    let running = Running::start(&simulator).await;
    let state = running.after(MINUTE * 60).await;
    assert_eq!(details(&state, CacheState::Denied), 30);
    let requests = simulator.requests(Operation::DescribeJob);
    assert!((60..80).contains(&requests), "about one request a minute while all are denied: {requests}");
    is_denied.store(false, Ordering::Relaxed);
    assert_eq!(details(&running.after(SECOND * 90).await, CacheState::Fresh), 30);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_left_the_list_is_described_before_thousands_that_ended() {
    let simulator = simulated(open_jobs(5).chain(ended_jobs(3000, DAY)));
    let running = Running::start_with(&simulator, Setup { rate: 2.0, ..Setup::default() }).await;
    running.after(MINUTE * 3).await;
    running.simulator.with_fleet(&account(), REGION, |fleet| fleet.remove_job("open-003")).expect("a job");
    running.wire.forget_releases();
    running.after(MINUTE * 2).await;
    let walk = running.wire.releases("/jobs")[2];
    let described = running.wire.releases("/jobs/open-003");
    let described = described.iter().find(|at| **at >= walk).expect("a description");
    assert!(*described - walk <= SECOND * 3, "{:?}", *described - walk);
}
