//! New settings and new connections keep what is known.

use std::time::Duration;

use aws_iot_jobs_exporter::jobs::{CacheState, Status};
use aws_iot_jobs_exporter::metrics::Collector;
use aws_iot_jobs_exporter::simulator::Operation;

use super::{
    DAY, MINUTE, Running, SECOND, Setup, connection, details, ended_jobs, group_count, open, open_jobs, part, total,
};
use crate::support::{Fate, simulator as simulated};

#[tokio::test(start_paused = true)]
async fn no_new_setting_hides_what_is_still_shown() {
    let running = Running::start(&simulated(open_jobs(3).chain(ended_jobs(5, DAY)))).await;
    running.after(MINUTE * 2).await;
    let from = running.history().len();
    let changes: [fn(&mut aws_iot_jobs_exporter::collector::Settings); 8] = [
        |settings| settings.collectors.open_jobs.interval = SECOND * 30,
        |settings| settings.collectors.open_jobs.stale_after = Some(MINUTE * 5),
        |settings| settings.collectors.all_jobs.interval = MINUTE * 5,
        |settings| settings.collectors.all_jobs.stale_after = Some(MINUTE * 30),
        |settings| settings.collectors.details.interval = SECOND * 30,
        |settings| settings.collectors.details.max_interval = MINUTE * 5,
        |settings| settings.jobs.ended_within = DAY * 30,
        |settings| settings.limits.max_pages = 7,
    ];
    for change in changes {
        running.configure(change);
        running.after(Duration::from_millis(700)).await;
    }
    running.after(MINUTE).await;
    for (at, state) in &running.history()[from..] {
        assert_eq!((total(state.open.as_ref()), total(state.ended.as_ref())), (Some(3), Some(5)), "{at:?}");
        assert_eq!(details(state, CacheState::Fresh), 8, "{at:?}");
        let series = [&state.open, &state.ended].map(|shown| part(shown.as_ref()).series.len());
        assert_eq!(series, [3, 5], "{at:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shorter_interval_holds_from_the_last_walk_on() {
    let running = Running::start(&simulated(open_jobs(3))).await;
    running.after(SECOND * 90).await;
    let walks = running.counters.runs(Collector::OpenJobs);
    running.configure(|settings| settings.collectors.open_jobs.interval = SECOND * 10);
    // Runs are counted when the state is published, up to a second later.
    running.after(SECOND * 2).await;
    assert_eq!(running.counters.runs(Collector::OpenJobs), walks + 1, "it is due already");
    running.after(MINUTE).await;
    let more = running.counters.runs(Collector::OpenJobs) - walks - 1;
    assert!((5..=6).contains(&more), "{more} walks in a minute");
}

#[tokio::test(start_paused = true)]
async fn collectors_can_be_turned_off_and_on_again() {
    let running = Running::start(&simulated(open_jobs(3).chain(ended_jobs(5, DAY)))).await;
    running.after(MINUTE * 2).await;
    running.configure(|settings| {
        (settings.collectors.all_jobs.enabled, settings.collectors.details.enabled) = (false, false);
    });
    let state = running.after(SECOND * 2).await;
    assert_eq!((total(state.open.as_ref()), state.ended.as_ref(), &state.states.details), (Some(3), None, &None));
    assert_eq!(group_count(state.open.as_ref(), "line", &Status::InProgress), None, "unknown, and not 0");
    let described = running.simulator.requests(Operation::DescribeJob);
    running.after(MINUTE * 5).await;
    assert_eq!(running.simulator.requests(Operation::DescribeJob), described);
    running.configure(|settings| {
        (settings.collectors.all_jobs.enabled, settings.collectors.details.enabled) = (true, true);
    });
    let state = running.after(SECOND * 5).await;
    assert_eq!((total(state.open.as_ref()), total(state.ended.as_ref())), (Some(3), Some(5)));
    assert_eq!(details(&state, CacheState::Fresh), 8);
}

#[tokio::test(start_paused = true)]
async fn a_longer_time_for_ended_jobs_starts_a_full_walk() {
    let mut setup = Setup::default();
    setup.settings.jobs.ended_within = DAY;
    let running = Running::start_with(&simulated(ended_jobs(5, DAY * 3)), setup).await;
    assert_eq!(part(running.after(MINUTE).await.ended.as_ref()).series.len(), 0);
    running.configure(|settings| settings.jobs.ended_within = DAY * 7);
    assert_eq!(part(running.after(SECOND * 2).await.ended.as_ref()).series.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn another_connection_to_the_same_account_keeps_data_and_replaces_a_walk_that_hangs() {
    let running = Running::start(&simulated(open_jobs(3).chain(ended_jobs(5, DAY)))).await;
    running.after(SECOND * 50).await;
    running.wire.decide(|_| Fate::Hangs);
    running.after(SECOND * 20).await;
    running.add(open("another"));
    running.wire.decide(|_| Fate::Arrives);
    let from = running.history().len();
    let connection = connection(&running.wire, running.clock, &running.limiters, None).await;
    running.config.send_modify(|config| config.connection = connection);
    let state = running.after(SECOND * 2).await;
    assert_eq!((total(state.open.as_ref()), total(state.ended.as_ref())), (Some(4), Some(5)));
    for (at, state) in &running.history()[from..] {
        assert!(total(state.open.as_ref()) >= Some(3) && total(state.ended.as_ref()) == Some(5), "{at:?}");
    }
}
