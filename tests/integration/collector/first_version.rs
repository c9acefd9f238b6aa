//! Faults that the first version had.

use std::time::Duration;

use aws_iot_jobs_exporter::http::StatusCode;
use aws_iot_jobs_exporter::jobs::{CacheState, Status};
use aws_iot_jobs_exporter::metrics::Collector;
use aws_iot_jobs_exporter::simulator::{self, Operation};

use super::{
    DAY, MINUTE, Running, SECOND, Setup, count, details, ended, ended_jobs, group_count, open, open_jobs, part, total,
};
use crate::support::{Fate, simulator as simulated};

#[tokio::test(start_paused = true)]
async fn slow_descriptions_delay_no_walk_and_hide_no_series() {
    let running = Running::start(&simulated(open_jobs(80))).await;
    running.wire.decide(|request| {
        if request.uri().path().starts_with("/jobs/") { Fate::Late(Duration::from_secs(9)) } else { Fate::Arrives }
    });
    running.after(MINUTE * 5).await;
    let history = running.history();
    let shown: Vec<_> = history.iter().skip_while(|(_, state)| state.open.is_none()).collect();
    assert!(shown[0].0 - running.started < SECOND, "the first walk is shown at once");
    for (at, state) in shown {
        assert_eq!(total(state.open.as_ref()), Some(80), "{at:?}");
        assert_eq!(part(state.open.as_ref()).series.len(), 80, "{at:?}");
    }
    assert_eq!(details(&running.state(), CacheState::Fresh), 80);
}

#[tokio::test(start_paused = true)]
async fn a_description_that_hangs_delays_no_walk() {
    let running = Running::start(&simulated(open_jobs(20))).await;
    running.wire.decide(|request| if request.uri().path() == "/jobs/open-003" { Fate::Hangs } else { Fate::Arrives });
    let state = running.after(MINUTE * 20).await;
    assert!(running.counters.runs(Collector::OpenJobs) >= 19, "{}", running.counters.runs(Collector::OpenJobs));
    assert_eq!(running.all_failures(Collector::OpenJobs), 0);
    assert_eq!([details(&state, CacheState::Fresh), details(&state, CacheState::Failing)], [19, 1]);
    running.add(open("another"));
    assert_eq!(total(running.after(MINUTE * 2).await.open.as_ref()), Some(21));
}

#[tokio::test(start_paused = true)]
async fn jobs_that_are_listed_and_not_found_count_and_are_shown_as_failing() {
    let simulator = simulated(open_jobs(5));
    simulator.intercept(|call| {
        let is_lost =
            call.operation == Operation::DescribeJob && matches!(call.resource, Some("open-001" | "open-002"));
        is_lost.then(|| simulator::error(StatusCode::NOT_FOUND, "ResourceNotFoundException", "no"))
    });
    let running = Running::start(&simulator).await;
    running.after(MINUTE * 5).await;
    for (at, state) in running.history().iter().skip_while(|(_, state)| state.open.is_none()) {
        assert_eq!(total(state.open.as_ref()), Some(5), "{at:?}");
    }
    let state = running.state();
    assert_eq!([details(&state, CacheState::Fresh), details(&state, CacheState::Failing)], [3, 2]);
    assert_eq!(group_count(state.open.as_ref(), "<unknown>", &Status::InProgress), Some(2));
}

#[tokio::test(start_paused = true)]
async fn jobs_that_were_denied_are_described_soon_after_the_policy_is_repaired() {
    let simulator = simulated(open_jobs(2));
    simulator.intercept(|call| {
        let is_denied = call.operation == Operation::DescribeJob;
        is_denied.then(|| simulator::error(StatusCode::FORBIDDEN, "AccessDeniedException", "no"))
    });
    let running = Running::start(&simulator).await;
    let state = running.after(SECOND * 6).await;
    assert_eq!(details(&state, CacheState::Denied), 2);
    simulator.stop_intercepting();
    let state = running.after(SECOND * 90).await;
    assert_eq!(details(&state, CacheState::Fresh), 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_timeout_changes_nothing_that_is_shown_or_counted() {
    let running = Running::start(&simulated(open_jobs(3).chain(ended_jobs(5, DAY)))).await;
    let before = running.after(SECOND * 150).await;
    let runs = Collector::ALL.map(|collector| running.counters.runs(collector));
    running.configure(|settings| settings.collectors.all_jobs.timeout = MINUTE);
    let after = running.after(SECOND * 2).await;
    assert_eq!((&after.open_jobs, &after.all_jobs), (&before.open_jobs, &before.all_jobs));
    assert_eq!(
        (part(after.open.as_ref()), part(after.ended.as_ref())),
        (part(before.open.as_ref()), part(before.ended.as_ref()))
    );
    assert_eq!(Collector::ALL.map(|collector| running.counters.runs(collector)), runs);
}

#[tokio::test(start_paused = true)]
async fn an_ended_job_that_cannot_be_described_hides_no_other() {
    let canceled = |id: &str| {
        let mut job = ended(id, DAY);
        job.status = Status::Canceled;
        job
    };
    let simulator = simulated([ended("a", DAY), ended("b", DAY), canceled("c"), canceled("d")]);
    simulator.intercept(|call| {
        let fails = call.operation == Operation::DescribeJob && call.resource == Some("a");
        fails.then(|| simulator::error(StatusCode::INTERNAL_SERVER_ERROR, "InternalFailureException", "no"))
    });
    let running = Running::start(&simulator).await;
    let state = running.after(MINUTE).await;
    let shown = |group: &str, status| group_count(state.ended.as_ref(), group, &status);
    assert_eq!([shown("line", Status::Completed), shown("line", Status::Canceled)], [Some(1), Some(2)]);
    assert_eq!(shown("<unknown>", Status::Completed), Some(1));
}

#[tokio::test(start_paused = true)]
async fn after_a_start_with_many_ended_jobs_their_rows_fill_while_they_are_described() {
    let running = Running::start_with(
        &simulated(open_jobs(20).chain(ended_jobs(2000, DAY))),
        Setup { rate: 5.0, ..Setup::default() },
    )
    .await;
    let state = running.after(MINUTE).await;
    assert_eq!(count(state.ended.as_ref(), &Status::Completed), 2000, "counts do not wait for descriptions");
    let shown = group_count(state.ended.as_ref(), "line", &Status::Completed);
    assert!(shown > Some(100), "{shown:?} of about 280 that can be described by now");
    assert_eq!(group_count(state.open.as_ref(), "line", &Status::InProgress), Some(20), "open jobs come first");
}
