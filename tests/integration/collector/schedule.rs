//! How often AWS is asked, and how old what is shown is.

use aws_iot_jobs_exporter::collector::Spread;
use aws_iot_jobs_exporter::jobs::Status;
use aws_iot_jobs_exporter::metrics::Collector;
use aws_iot_jobs_exporter::simulator::Operation;

use super::{DAY, MINUTE, Running, SECOND, Setup, count, ended_jobs, open, open_jobs, total};
use crate::support::simulator as simulated;

#[tokio::test(start_paused = true)]
async fn with_an_interval_of_a_second_open_counts_are_two_seconds_old_at_most() {
    let mut setup = Setup::default();
    setup.settings.collectors.open_jobs.interval = SECOND;
    let simulator = simulated(open_jobs(200).chain(ended_jobs(5000, DAY * 9)));
    let running = Running::start_with(&simulator, setup).await;
    running.after(SECOND * 10).await;
    assert_eq!(running.counters.runs(Collector::AllJobs), 1);
    let before = simulator.requests(Operation::ListJobs);
    for added in 1..=20 {
        running.add(open(&format!("new-{added}")));
        let state = running.after(SECOND * 2).await;
        assert_eq!(total(state.open.as_ref()), Some(200 + added));
        assert_eq!(count(state.ended.as_ref(), &Status::Completed), 5000);
    }
    let requests = simulator.requests(Operation::ListJobs) - before;
    assert!((100..=160).contains(&requests), "{requests} requests in 40 seconds");
    assert_eq!(running.counters.runs(Collector::AllJobs), 1, "the next full walk is in a quarter of an hour");
}

#[tokio::test(start_paused = true)]
async fn open_jobs_come_first_and_a_full_walk_follows_every_15_minutes() {
    let simulator = simulated(open_jobs(3).chain(ended_jobs(2000, DAY * 9)));
    let running = Running::start_with(&simulator, Setup { rate: 1.0, ..Setup::default() }).await;
    let state = running.after(SECOND * 3).await;
    assert_eq!((total(state.open.as_ref()), state.ended.as_ref()), (Some(3), None));
    assert_eq!(total(running.after(SECOND * 20).await.ended.as_ref()), Some(2000));
    running.after(MINUTE * 62).await;
    assert_eq!(running.counters.runs(Collector::AllJobs), 5);
    let walks = running.counters.runs(Collector::OpenJobs);
    assert!((60..=62).contains(&walks), "{walks} open walks in an hour");
}

#[tokio::test(start_paused = true)]
async fn an_open_walk_is_served_before_a_full_walk_that_shares_the_rate() {
    let mut setup = Setup { rate: 1.0, ..Setup::default() };
    setup.settings.collectors.open_jobs.interval = SECOND * 10;
    let running = Running::start_with(&simulated(open_jobs(3).chain(ended_jobs(15_000, DAY * 9))), setup).await;
    running.after(SECOND * 60).await;
    let mut walks = 0;
    for (_, state) in running.history() {
        assert_eq!(state.ended, None, "the full walk has 61 pages");
        if let Some(run) = state.open_jobs.last_run {
            walks += 1;
            assert!(run.duration <= SECOND * 4, "{:?} for 3 requests, and one in five of the full walk", run.duration);
        }
    }
    assert!(walks >= 5, "{walks}");
}

#[tokio::test(start_paused = true)]
async fn states_are_published_a_second_apart_and_the_first_open_walk_at_once() {
    let simulator = simulated(open_jobs(30).chain(ended_jobs(30, DAY)));
    let running = Running::start_with(&simulator, Setup { rate: 10.0, ..Setup::default() }).await;
    running.after(MINUTE).await;
    let history = running.history();
    let first = history.iter().position(|(_, state)| state.open.is_some()).expect("open jobs");
    assert!(history[first].0 - running.started < SECOND / 2);
    for pair in history[first..].windows(2) {
        assert!(pair[1].0 - pair[0].0 >= SECOND, "{:?}", pair[1].0 - pair[0].0);
    }
}

#[tokio::test(start_paused = true)]
async fn targets_start_soon_after_each_other_and_then_spread_over_the_interval() {
    let simulator = simulated(open_jobs(3));
    let mut targets = Vec::new();
    for position in 1..=4 {
        let spread = Spread::new(position, 4, MINUTE);
        targets.push(Running::start_with(&simulator, Setup { spread, ..Setup::default() }).await);
    }
    tokio::time::sleep(MINUTE * 2).await;
    for (target, position) in targets.iter().zip(1_u32..) {
        let walks: Vec<_> = target.wire.releases("/jobs").iter().map(|at| *at - target.started).collect();
        assert!(walks[0] < SECOND, "{walks:?}");
        let second = walks.iter().find(|at| **at > SECOND * 5).expect("a second walk");
        let expected = (MINUTE / 4) * position;
        assert!(*second >= expected && *second < expected + SECOND, "target {position}: {second:?}");
    }
}
