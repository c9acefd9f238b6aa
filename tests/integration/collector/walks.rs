//! Walks that succeed, fail, hang or panic, and data that becomes stale.

use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_iot_jobs_exporter::http::StatusCode;
use aws_iot_jobs_exporter::jobs::{AccountId, Scope, Status};
use aws_iot_jobs_exporter::metrics::Collector;
use aws_iot_jobs_exporter::metrics::Reason;
use aws_iot_jobs_exporter::simulator::{self, Fault, Fleet, Operation, Rule, Script};

use super::{DAY, MINUTE, Running, SECOND, Setup, count, ended_jobs, open, open_jobs, total};
use crate::support::{Fate, REGION, Rotating, account, simulator as simulated, thread_log};

#[tokio::test(start_paused = true)]
async fn a_walk_hangs_and_data_is_withdrawn_when_it_is_stale() {
    let running = Running::start(&simulated(open_jobs(3).chain(ended_jobs(5, DAY)))).await;
    let state = running.after(SECOND * 50).await;
    assert_eq!((total(state.open.as_ref()), total(state.ended.as_ref())), (Some(3), Some(5)));
    running.wire.decide(|_| Fate::Hangs);
    let state = running.after(MINUTE * 8).await;
    assert_eq!(total(state.open.as_ref()), Some(3));
    assert!(!state.open_jobs.is_up(), "walks fail");
    let state = running.after(MINUTE * 2).await;
    assert_eq!((total(state.open.as_ref()), total(state.ended.as_ref())), (None, Some(5)), "stale after 10 minutes");
    let state = running.after(MINUTE * 36).await;
    assert_eq!(total(state.ended.as_ref()), None, "stale after 45 minutes");
    assert!(state.all_jobs.is_some_and(|all| !all.is_up()));
    running.wire.decide(|_| Fate::Arrives);
    let state = running.after(MINUTE * 15).await;
    assert_eq!((total(state.open.as_ref()), total(state.ended.as_ref())), (Some(3), Some(5)));
}

#[tokio::test(start_paused = true)]
async fn a_first_walk_that_hangs_counts_as_up_until_its_data_would_be_stale() {
    let simulator = simulated(open_jobs(3));
    let running = Running::start_with(&simulator, Setup { rate: 0.001, ..Setup::default() }).await;
    // Two requests at this rate are 1,000 s apart: the first walk has not ended.
    assert!(running.after(MINUTE * 9).await.open_jobs.is_up());
    let state = running.after(MINUTE * 2).await;
    assert!(!state.open_jobs.is_up() && state.open_jobs.last_run.is_none(), "{:?}", state.open_jobs);
}

#[tokio::test(start_paused = true)]
async fn full_walks_that_are_denied_take_nothing_from_open_jobs() {
    let running = Running::start(&simulated(open_jobs(3).chain(ended_jobs(5, DAY)))).await;
    running.simulator.intercept(|call| {
        let is_denied = call.operation == Operation::ListJobs && call.params.get("status").is_none();
        is_denied.then(|| simulator::error(StatusCode::FORBIDDEN, "AccessDeniedException", "no"))
    });
    let state = running.after(MINUTE * 20).await;
    assert_eq!((total(state.open.as_ref()), state.ended.as_ref()), (Some(3), None));
    assert!(state.open_jobs.is_up() && state.all_jobs.is_some_and(|all| !all.is_up()));
    // At 0, 2, 6 and 14 minutes.
    assert_eq!(running.failures(Collector::AllJobs, Reason::Denied), 4);
    assert_eq!(running.all_failures(Collector::OpenJobs), 0);
}

#[tokio::test(start_paused = true)]
async fn open_walks_that_fail_take_nothing_from_full_walks() {
    let running = Running::start(&simulated(open_jobs(3).chain(ended_jobs(5, DAY)))).await;
    running.simulator.intercept(|call| {
        let fails = call.operation == Operation::ListJobs && call.params.get("status").is_some();
        fails.then(|| simulator::error(StatusCode::FORBIDDEN, "AccessDeniedException", "no"))
    });
    let state = running.after(MINUTE * 20).await;
    assert_eq!((state.open.as_ref(), total(state.ended.as_ref())), (None, Some(5)));
    let failures = running.failures(Collector::OpenJobs, Reason::Denied);
    assert!((19..=20).contains(&failures), "{failures} failures in 20 minutes");
    assert!(!state.open_jobs.is_up() && state.all_jobs.is_some_and(|all| all.is_up()));
}

#[tokio::test(start_paused = true)]
async fn a_full_walk_that_takes_too_long_fails_by_its_timeout() {
    let log = thread_log();
    let mut setup = Setup::default();
    setup.settings.collectors.all_jobs.timeout = SECOND * 20;
    let running = Running::start_with(&simulated(open_jobs(3).chain(ended_jobs(5000, DAY * 9))), setup).await;
    running.wire.decide(|request| {
        let is_full = request.uri().path() == "/jobs" && !request.uri().query().unwrap_or_default().contains("status=");
        if is_full { Fate::Late(Duration::from_secs(2)) } else { Fate::Arrives }
    });
    let state = running.after(SECOND * 30).await;
    assert_eq!(running.failures(Collector::AllJobs, Reason::Timeout), 1);
    let lines = log.take();
    assert_eq!(
        with(&lines, &["run failed", "ListJobs on simulator.test: the walk was not complete"]).len(),
        1,
        "{lines:?}"
    );
    assert_eq!((total(state.open.as_ref()), state.ended.as_ref()), (Some(3), None));
    running.configure(|settings| settings.collectors.all_jobs.timeout = MINUTE);
    assert_eq!(total(running.after(MINUTE * 4).await.ended.as_ref()), Some(5000));
}

#[tokio::test(start_paused = true)]
async fn a_repeated_token_fails_a_walk_and_too_many_pages_do() {
    let mut setup = Setup::default();
    let simulator = simulated(open_jobs(3).chain(ended_jobs(1000, DAY * 9)));
    simulator.set_script(Script::new([Rule::new(Fault::RepeatedToken).on(Operation::ListJobs)]));
    setup.settings.limits.max_pages = 4;
    let running = Running::start_with(&simulator, setup).await;
    running.after(MINUTE).await;
    assert_eq!(running.failures(Collector::AllJobs, Reason::TokenLoop), 1);
    simulator.clear_script();
    running.after(MINUTE * 2).await;
    assert_eq!(running.failures(Collector::AllJobs, Reason::PageLimit), 1);
    running.configure(|settings| settings.limits.max_pages = 5);
    assert_eq!(total(running.after(MINUTE * 6).await.ended.as_ref()), Some(1000));
}

#[tokio::test(start_paused = true)]
async fn a_scope_of_open_statuses_is_never_walked_as_a_whole() {
    let scope = Scope { statuses: vec![Status::InProgress], ..Scope::default() };
    let running = Running::start_with(&simulated(open_jobs(3)), Setup { scope, ..Setup::default() }).await;
    let state = running.after(MINUTE * 30).await;
    assert_eq!((total(state.open.as_ref()), state.ended, state.all_jobs), (Some(3), None, None));
    assert_eq!(running.counters.runs(Collector::AllJobs), 0);
    let walks = running.counters.runs(Collector::OpenJobs);
    assert_eq!(running.simulator.requests(Operation::ListJobs), walks, "one request a walk");
}

#[tokio::test(start_paused = true)]
async fn a_scope_of_ended_statuses_has_no_open_jobs_and_one_walk_for_each() {
    let scope = Scope { statuses: vec![Status::Completed, Status::Canceled], ..Scope::default() };
    let simulator = simulated(open_jobs(3).chain(ended_jobs(5, DAY)));
    let running = Running::start_with(&simulator, Setup { scope, ..Setup::default() }).await;
    let state = running.after(MINUTE * 5).await;
    assert_eq!((total(state.open.as_ref()), total(state.ended.as_ref())), (Some(0), Some(5)));
    assert_eq!(simulator.requests(Operation::ListJobs), 2);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_walk_fails_that_walk_alone() {
    let running = Running::start(&simulated(open_jobs(3).chain(ended_jobs(5, DAY)))).await;
    running.after(MINUTE * 2).await;
    running.wire.decide(|request| {
        let is_open = request.uri().query().unwrap_or_default().contains("status=");
        assert!(!is_open, "a panic on purpose");
        Fate::Arrives
    });
    let state = running.after(MINUTE * 5).await;
    assert!(running.failures(Collector::OpenJobs, Reason::Internal) >= 4);
    assert_eq!((total(state.open.as_ref()), total(state.ended.as_ref())), (Some(3), Some(5)));
    running.wire.decide(|_| Fate::Arrives);
    running.add(open("another"));
    let state = running.after(MINUTE * 2).await;
    assert_eq!(total(state.open.as_ref()), Some(4));
    assert!(state.open_jobs.is_up());
}

#[tokio::test(start_paused = true)]
async fn after_a_panic_of_the_worker_all_data_is_withdrawn_until_it_is_listed_again() {
    let log = thread_log();
    let running = Running::start(&simulated(open_jobs(3).chain(ended_jobs(5, DAY)))).await;
    running.after(MINUTE * 2).await;
    log.panic_at("run complete");
    let state = running.after(MINUTE).await;
    assert_eq!(running.failures(Collector::OpenJobs, Reason::Internal), 1);
    assert_eq!(running.failures(Collector::AllJobs, Reason::Internal), 1);
    assert_eq!((total(state.open.as_ref()), total(state.ended.as_ref())), (None, None));
    assert!(!state.open_jobs.is_fresh && state.all_jobs.is_some_and(|all| !all.is_fresh));
    running.add(open("another"));
    let state = running.after(MINUTE * 3).await;
    assert_eq!((total(state.open.as_ref()), total(state.ended.as_ref())), (Some(4), Some(5)));
    assert!(state.open_jobs.is_up() && state.all_jobs.is_some_and(|all| all.is_up()));
}

/// Lines of a log that have all of these texts.
fn with<'a>(lines: &'a [String], texts: &[&str]) -> Vec<&'a str> {
    lines.iter().map(String::as_str).filter(|line| texts.iter().all(|text| line.contains(text))).collect()
}

fn deny_lists(running: &Running) {
    running.simulator.intercept(|call| {
        let fails = call.operation == Operation::ListJobs;
        fails.then(|| simulator::error(StatusCode::FORBIDDEN, "AccessDeniedException", "no"))
    });
}

#[tokio::test(start_paused = true)]
async fn the_first_run_is_logged_at_info_later_ones_at_debug_and_a_summary_each_quarter_of_an_hour() {
    let log = thread_log();
    let running = Running::start(&simulated(open_jobs(3))).await;
    running.after(MINUTE * 64).await;
    let lines = log.take();
    let first = with(&lines, &["INFO", "run complete", "collector=open_jobs"]);
    assert_eq!(first.len(), 1, "{lines:?}");
    for field in ["target=t", "jobs=3", "pages=3", "duration_seconds=0"] {
        assert!(first[0].contains(field), "{field} is not in {}", first[0]);
    }
    assert!(with(&lines, &["DEBUG", "run complete", "collector=open_jobs"]).len() > 50);
    let summaries = with(&lines, &["INFO", "summary", "target=t", "open_jobs=3", "ended_jobs=0", "failed_runs=0"]);
    assert_eq!(summaries.len(), 4, "{lines:?}");
    assert!(30 * with(&lines, &["INFO"]).len() < 200, "30 targets log less than 200 lines in an hour: {lines:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_logged_with_its_cause_at_least_each_ten_minutes() {
    let log = thread_log();
    let mut setup = Setup::default();
    setup.settings.collectors.all_jobs.enabled = false;
    let running = Running::start_with(&simulated(open_jobs(3)), setup).await;
    running.after(SECOND * 30).await;
    deny_lists(&running);
    log.take();
    running.after(MINUTE * 9).await;
    let lines = log.take();
    assert_eq!(with(&lines, &["run failed", "error=", "advice="]).len(), 1, "{lines:?}");
    assert!((7..=9).contains(&with(&lines, &["run failed again", "reason=denied"]).len()), "{lines:?}");
    running.after(MINUTE * 21).await;
    let lines = log.take();
    let whole = with(&lines, &["run failed", "error=", "advice=", "failing_for_seconds="]);
    assert_eq!(whole.len(), 2, "{lines:?}");
    let stale = with(&lines, &["WARN", "data is stale and no longer shown", "collector=open_jobs", "age_seconds="]);
    assert_eq!(stale.len(), 1, "{lines:?}");
    running.simulator.stop_intercepting();
    running.after(MINUTE * 2).await;
    let lines = log.take();
    assert_eq!(with(&lines, &["INFO", "collector has recovered", "failed_for_seconds="]).len(), 1, "{lines:?}");
    assert_eq!(with(&lines, &["INFO", "data is fresh and shown again"]).len(), 1, "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn an_account_without_jobs_asks_once_whether_the_region_is_right() {
    let log = thread_log();
    let running = Running::start(&simulated([])).await;
    running.after(MINUTE * 40).await;
    let lines = log.take();
    assert_eq!(with(&lines, &["WARN", "AWS has no jobs here", "region=eu-west-1"]).len(), 1, "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn credentials_of_another_account_fail_the_walk_that_they_change_in_and_then_start_the_target_anew() {
    const OF_ANOTHER: &str = "AKIAANOTHERANOTHER00";
    let log = thread_log();
    let another = AccountId::parse("210987654321").expect("an account id");
    let simulator = simulated(open_jobs(3).chain(ended_jobs(5, DAY)));
    simulator.add_access_key(&another, OF_ANOTHER);
    simulator.set_fleet(&another, REGION, Fleet::new(open_jobs(7), []));
    let credentials = Rotating::new();
    let provider = SharedCredentialsProvider::new(credentials.clone());
    let running = Running::start_with(&simulator, Setup { credentials: Some(provider), ..Setup::default() }).await;
    let state = running.after(SECOND * 50).await;
    assert_eq!((state.account, total(state.open.as_ref())), (Some(account()), Some(3)));
    credentials.set(OF_ANOTHER);
    running.after(MINUTE * 4).await;
    assert_eq!(running.failures(Collector::OpenJobs, Reason::AccountMismatch), 1);
    let lines = log.take();
    let named = with(&lines, &["run failed", "ListJobs on simulator.test: a job of account 210987654321"]);
    assert!(!named.is_empty(), "{lines:?}");
    for (at, state) in running.history() {
        let expected = if state.account.as_ref() == Some(&another) { [7, 0] } else { [3, 5] };
        for (part, expected) in [(&state.open, expected[0]), (&state.ended, expected[1])] {
            assert!(total(part.as_ref()).is_none_or(|jobs| jobs == expected), "{at:?}: {state:?}");
        }
    }
    let state = running.state();
    assert_eq!(state.account, Some(another));
    assert_eq!((count(state.open.as_ref(), &Status::InProgress), total(state.ended.as_ref())), (7, Some(0)));
}
