//! Every scripted fault, one by one: what is published meanwhile, what `up`, the reason, the log and the page say, and that it
//! heals by itself. Where each may strike, and the result, is in `long::matrix`.
//!
//! `cargo test --test integration faults -- --nocapture --test-threads=1` prints the tables.

use std::time::Duration;

use aws_iot_jobs_exporter::simulator::{Consequence, Fault, Operation, Rule, Script};

use crate::support::{
    Endpoint, Exporter, Exposition, Listening, ThreadLog, config, jobs, scrape_handler, simulator as simulated, truth,
};

/// Three pages: a first, a middle and a last one.
pub const JOBS: usize = 600;

/// The reason that a refresh fails by while a fault lasts; `None` where it does not fail.
fn expected_reason(fault: Fault) -> Option<&'static str> {
    match fault {
        Fault::Throttle400 | Fault::Throttle429 => Some("throttled"),
        Fault::Error500 | Fault::Error503 => Some("unavailable"),
        Fault::Denied => Some("denied"),
        Fault::ExpiredCredentials | Fault::InvalidCredentials => Some("credentials"),
        Fault::Reset | Fault::Refused | Fault::Truncated => Some("network"),
        Fault::Hang | Fault::HangInBody => Some("timeout"),
        Fault::Oversized | Fault::Html | Fault::WrongJson | Fault::WrongTypes | Fault::MissingJobs => Some("malformed"),
        Fault::RepeatedToken | Fault::TokenCycle => Some("token_loop"),
        Fault::ExpiredToken => Some("rejected"),
        // Page after page without a job, for ever; a refresh.timeout that is over sooner would be it.
        Fault::EmptyPage => Some("page_limit"),
        // The SDK corrects its clock by the answer, and what is odd in an answer is counted as it comes.
        Fault::ClockSkew
        | Fault::Slow
        | Fault::EmptyToken
        | Fault::DuplicateJob
        | Fault::MovedJob
        | Fault::UnknownStatus
        | Fault::MissingFields
        | Fault::NullFields => None,
    }
}

fn reasons(before: &Exposition, after: &Exposition) -> Vec<String> {
    let failures = |shown: &Exposition| {
        let family = shown.family("aws_iot_jobs_exporter_refresh_failures_total");
        family.map(|(labels, count)| (labels["reason"].clone(), count)).collect::<Vec<_>>()
    };
    let (before, after) = (failures(before), failures(after));
    after.into_iter().filter(|row| !before.contains(row)).map(|(reason, _)| reason).collect()
}

pub fn total(shown: &Exposition) -> f64 {
    shown.jobs().values().sum()
}

#[tokio::test(start_paused = true)]
async fn a_fault_that_strikes_once_fails_a_refresh_only_where_no_retry_can_help() {
    println!("\n{:<20} {:<10} {:<4} {:<12} jobs", "struck once", "expected", "up", "reason");
    for &fault in Fault::ALL {
        let exporter = Exporter::start(simulated(jobs(JOBS)), |_| {}).await;
        let before = exporter.refreshed(1).await;
        exporter.simulator.set_script(Script::new([Rule::new(fault).on(Operation::ListJobs).times(1)]));
        let shown = exporter.refreshed(2).await;
        let (up, reasons) = (shown.up(), reasons(&before, &shown));
        println!(
            "{:<20} {:<10} {:<4} {:<12} {}",
            fault.as_str(),
            format!("{:?}", fault.consequence()),
            up.unwrap_or(f64::NAN),
            reasons.join(" "),
            total(&shown)
        );
        assert_eq!(exporter.simulator.struck().get(&fault), Some(&1), "{fault} did not strike");
        let fails = fault.consequence() == Consequence::Fatal;
        assert_eq!((up, reasons.len()), (Some(f64::from(u8::from(!fails))), usize::from(fails)), "{fault}");
        assert_eq!(total(&shown), 600.0, "{fault}: a job is neither lost nor counted twice");
        assert_eq!(exporter.refreshed(3).await.jobs(), truth(&exporter.simulator), "{fault} heals");
    }
}

#[tokio::test(start_paused = true)]
async fn while_a_fault_lasts_the_last_good_walk_is_shown_with_its_reason_and_then_it_heals() {
    println!("\n{:<20} {:<15} {:<3} {:<12} {:<9} log", "lasting", "published", "up", "reason", "recovered");
    for &fault in Fault::ALL {
        let log = ThreadLog::start();
        let exporter = Exporter::start(simulated(jobs(JOBS)), |config| config.limits.max_pages = 50).await;
        let before = exporter.refreshed(1).await;
        exporter.simulator.set_script(Script::new([Rule::new(fault).on(Operation::ListJobs)]));
        log.take();
        let shown = exporter.refreshed(2).await;
        let (reasons, logged) = (reasons(&before, &shown), log.take());
        let page = exporter.get("/").await;
        exporter.simulator.clear_script();
        let healed = exporter.refreshed(3).await;

        let unchanged = shown.job_lines() == before.job_lines();
        println!(
            "{:<20} {:<15} {:<3} {:<12} {:<9} {}",
            fault.as_str(),
            if reasons.is_empty() {
                "this walk"
            } else if unchanged {
                "the walk before"
            } else {
                "SOMETHING ELSE"
            },
            shown.up().unwrap_or(f64::NAN),
            reasons.join(" "),
            if healed.up() == Some(1.0) { "yes" } else { "NO" },
            logged.first().and_then(|line| line.split("error=").nth(1)?.split(" advice=").next()).unwrap_or_default(),
        );
        let expected: Vec<&str> = expected_reason(fault).into_iter().collect();
        assert_eq!(reasons, expected, "{fault}");
        assert_eq!(shown.up(), Some(f64::from(u8::from(expected.is_empty()))), "{fault}");
        if let Some(reason) = expected.first() {
            assert!(unchanged, "{fault}: a failed walk changed what is shown");
            let page = String::from_utf8_lossy(&page.into_body().into_bytes()).into_owned();
            assert!(page.contains(&format!("failed: {reason}")) && page.contains("what to do"), "{fault}: {page}");
            let of_refreshes: Vec<&String> = logged.iter().filter(|line| !line.contains("request timed out")).collect();
            let [line] = &of_refreshes[..] else { panic!("{fault}: one line a refresh, not {logged:#?}") };
            for part in ["WARN", "refresh failed", &format!("reason={reason}"), "error=", "advice="] {
                assert!(line.contains(part), "{fault}: {part} is not in {line}");
            }
        }
        assert_eq!(total(&shown), 600.0, "{fault}: a job is neither lost nor counted twice");
        assert_eq!((healed.up(), healed.jobs()), (Some(1.0), truth(&exporter.simulator)), "{fault} heals");
    }
}

/// The same over real sockets, where resets and cut bodies are what they are. Hangs cost half a minute an attempt there.
#[tokio::test(flavor = "multi_thread")]
async fn a_fault_on_a_real_socket_does_what_it_does_on_the_paused_clock() {
    println!("\n{:<20} {:<10} {:<4} reason", "on a socket, once", "expected", "up");
    for &fault in Fault::ALL.iter().filter(|fault| !matches!(fault, Fault::Hang | Fault::HangInBody)) {
        let simulator = simulated(jobs(JOBS));
        simulator.set_script(Script::new([Rule::new(fault).on(Operation::ListJobs).times(1)]));
        let endpoint = Endpoint::start(simulator.clone()).await;
        let config = config(&endpoint.url());
        let listening = Listening::start(config).await;
        let shown = scrape_handler(&listening.handler).await;
        let fails = fault.consequence() == Consequence::Fatal;
        println!(
            "{:<20} {:<10} {:<4}",
            fault.as_str(),
            format!("{:?}", fault.consequence()),
            shown.up().unwrap_or(f64::NAN)
        );
        assert_eq!(simulator.struck().get(&fault), Some(&1), "{fault} did not strike");
        assert_eq!(shown.up(), Some(f64::from(u8::from(!fails))), "{fault}: {}", shown.text);
        assert_eq!(total(&shown), if fails { 0.0 } else { 600.0 }, "{fault}");
        if fails {
            let reason = expected_reason(fault).expect("a fatal fault has a reason");
            assert_eq!(shown.failures(reason), Some(1.0), "{fault}: {}", shown.text);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn thousands_of_failing_refreshes_leave_nothing_behind_and_are_never_a_tight_loop() {
    const REFRESHES: f64 = 2000.0;
    let exporter = Exporter::start(simulated(jobs(3)), |config| config.limits.max_pages = 1).await;
    exporter.refreshed(1).await;
    let fatal: Vec<Fault> = Fault::ALL.iter().copied().filter(|fault| expected_reason(*fault).is_some()).collect();
    let failed = |shown: &Exposition| -> f64 {
        shown.family("aws_iot_jobs_exporter_refresh_failures_total").map(|(_, count)| count).sum()
    };
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (first, mut most, mut shown) = (alive(), 0, exporter.scrape().await);
    for fault in fatal.iter().cycle() {
        // Of one page, there is no token that could go wrong.
        exporter.simulator.set_script(Script::new([Rule::new(*fault).on(Operation::ListJobs)]));
        tokio::time::sleep(Duration::from_mins(50)).await;
        shown = exporter.scrape().await;
        most = most.max(alive());
        if failed(&shown) >= REFRESHES {
            break;
        }
    }
    // A refresh that is under way has a task or two of its own.
    assert!(most <= first + 3, "{first} tasks at first, and up to {most}");
    let releases = exporter.wire.releases("/jobs");
    let span = *releases.last().expect("a request") - releases[0];
    let refreshes = shown.family("aws_iot_jobs_exporter_refreshes_total").map(|(_, count)| count).sum::<f64>();
    assert!(span.as_secs_f64() / refreshes > 30.0, "{refreshes} refreshes in {span:?}");
    let in_a_minute = |first: usize| {
        releases[first..].iter().take_while(|at| **at - releases[first] < Duration::from_mins(1)).count()
    };
    let most = (0..releases.len()).map(in_a_minute).max().unwrap_or_default();
    // After 5, 10, 20 and 40 s at most, and half of that at least, with three attempts each.
    assert!(most <= 15, "{most} requests within a minute");
}
