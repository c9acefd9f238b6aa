//! Every scripted fault, one by one: what is published meanwhile, what `up`, the reason, the log and the page say, and that it
//! heals by itself. Where each may occur, and the result, is in `long::matrix`.
//!
//! `cargo test --test integration faults -- --nocapture --test-threads=1` prints the tables.

use std::time::Duration;

use aws_iot_jobs_exporter::jobs::Status;
use aws_iot_jobs_exporter::metrics::Reason;
use aws_iot_jobs_exporter::simulator::{Consequence, Fault, Job, Operation, Rule, Script, Simulator};

use crate::support::{
    Endpoint, Exporter, Exposition, Listening, NOW, config, jobs, list_only, only_one_walks_again, scrape_handler,
    simulator as simulated, thread_log, truth,
};

/// Three pages: a first, a middle and a last one.
pub const JOBS: usize = 600;

/// The jobs that the other listing has.
const FEW: usize = 3;
const ALL_JOBS: f64 = (JOBS + FEW) as f64;

/// Three pages for one listing. Every job is on the walk over all jobs.
fn fleet(listing: &str) -> Simulator {
    let (open, ended) = if listing == "open_jobs" { (JOBS, FEW) } else { (FEW, JOBS) };
    let open = (0..open).map(|n| Job::new(format!("open-{n:03}"), Status::InProgress, NOW));
    let ended = (0..ended).map(|n| Job::new(format!("ended-{n:03}"), Status::Completed, NOW));
    simulated(open.chain(ended))
}

/// A job that ends during a walk can be on it twice only if the walk lists jobs of any status.
fn can_occur(fault: Fault, listing: &str) -> bool {
    fault != Fault::MovedJob || listing == "all_jobs"
}

/// Waits until a listing has ended so many walks.
async fn walks(exporter: &Exporter, listing: &str, walks: u32) -> Exposition {
    exporter.until(|shown| shown.runs(listing) >= Some(f64::from(walks))).await
}

/// The reason that a walk fails by while a fault lasts; `None` where it does not fail.
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
        // Page after page without a job, for ever; an all_jobs.timeout that is over sooner would be it.
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
        let family = shown.family("aws_iot_jobs_exporter_collector_failures_total");
        family.map(|(labels, count)| (labels["reason"].clone(), labels["collector"].clone(), count)).collect::<Vec<_>>()
    };
    let (before, after) = (failures(before), failures(after));
    after.into_iter().filter(|row| !before.contains(row)).map(|(reason, ..)| reason).collect()
}

pub fn total(shown: &Exposition) -> f64 {
    shown.jobs().values().sum()
}

#[tokio::test(start_paused = true)]
async fn a_fault_that_occurs_once_fails_a_full_walk_only_where_no_retry_can_help() {
    with_one_fault("all_jobs").await;
}

pub async fn with_one_fault(listing: &str) {
    println!("\n{:<10} {:<20} {:<10} {:<4} {:<12} jobs", "walk", "occurred once", "expected", "up", "reason");
    for &fault in Fault::ALL.iter().filter(|fault| can_occur(**fault, listing)) {
        let exporter = Exporter::start(fleet(listing), |config| {
            only_one_walks_again(listing, config);
            config.jobs.series = false;
        })
        .await;
        let before = exporter.listed(1).await;
        exporter.simulator.set_script(Script::new([Rule::new(fault).on(Operation::ListJobs).times(1)]));
        let shown = walks(&exporter, listing, 2).await;
        let (up, reasons) = (shown.up(), reasons(&before, &shown));
        println!(
            "{listing:<10} {:<20} {:<10} {:<4} {:<12} {}",
            fault.as_str(),
            format!("{:?}", fault.consequence()),
            up.unwrap_or(f64::NAN),
            reasons.join(" "),
            total(&shown)
        );
        assert_eq!(exporter.simulator.fault_counts().get(&fault), Some(&1), "{fault} did not occur {listing}");
        let fails = fault.consequence() == Consequence::Fatal;
        let case = format!("{fault} on {listing}");
        assert_eq!((up, reasons.len()), (Some(f64::from(u8::from(!fails))), usize::from(fails)), "{case}");
        assert_eq!(total(&shown), ALL_JOBS, "{case}: a job is neither lost nor counted twice");
        assert_eq!(walks(&exporter, listing, 3).await.jobs(), truth(&exporter.simulator), "{case} heals");
    }
}

#[tokio::test(start_paused = true)]
async fn while_a_fault_lasts_the_last_good_open_walk_is_shown_with_its_reason_and_then_it_heals() {
    with_lasting_fault("open_jobs").await;
}

pub async fn with_lasting_fault(listing: &str) {
    println!(
        "\n{:<10} {:<20} {:<15} {:<3} {:<12} {:<9} log",
        "walk", "lasting", "published", "up", "reason", "recovered"
    );
    for &fault in Fault::ALL.iter().filter(|fault| can_occur(**fault, listing)) {
        let log = thread_log();
        let exporter = Exporter::start(fleet(listing), |config| {
            only_one_walks_again(listing, config);
            config.jobs.series = false;
            config.limits.max_pages = 50;
        })
        .await;
        let before = exporter.listed(1).await;
        exporter.simulator.set_script(Script::new([Rule::new(fault).on(Operation::ListJobs)]));
        log.take();
        let shown = walks(&exporter, listing, 2).await;
        let (reasons, logged) = (reasons(&before, &shown), log.take());
        let page = exporter.get("/").await;
        exporter.simulator.clear_script();
        let healed = walks(&exporter, listing, 3).await;

        let unchanged = shown.job_lines() == before.job_lines();
        println!(
            "{listing:<10} {:<20} {:<15} {:<3} {:<12} {:<9} {}",
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
        let case = format!("{fault} on {listing}");
        assert_eq!(reasons, expected, "{case}");
        assert_eq!(shown.up(), Some(f64::from(u8::from(expected.is_empty()))), "{case}");
        if let Some(reason) = expected.first() {
            assert!(unchanged, "{case}: a failed walk changed what is shown");
            let page = String::from_utf8_lossy(&page.into_body().into_bytes()).into_owned();
            let advice = Reason::ALL.iter().find(|known| known.as_str() == *reason).expect("a reason").advice();
            assert!(page.contains(&format!("failed ({reason})")) && page.contains(advice), "{case}: {page}");
            let of_walks: Vec<&String> = logged.iter().filter(|line| !line.contains("request timed out")).collect();
            let [line] = &of_walks[..] else { panic!("{case}: one line a walk, not {logged:#?}") };
            for part in ["WARN", "run failed", listing, &format!("reason={reason}"), "error=", "advice="] {
                assert!(line.contains(part), "{case}: {part} is not in {line}");
            }
        }
        assert_eq!(total(&shown), ALL_JOBS, "{case}: a job is neither lost nor counted twice");
        assert_eq!((healed.up(), healed.jobs()), (Some(1.0), truth(&exporter.simulator)), "{case} heals");
    }
}

/// The same over real sockets, where resets and cut bodies are what they are. Hangs cost half a minute an attempt there.
#[tokio::test(flavor = "multi_thread")]
async fn a_fault_on_a_real_socket_does_what_it_does_on_the_paused_clock() {
    println!("\n{:<20} {:<10} {:<4} reason", "on a socket, once", "expected", "up");
    // It takes 9 s, which the others need not wait for.
    let slow = tokio::spawn(occurs_once_on_a_socket(Fault::Slow));
    for &fault in Fault::ALL.iter().filter(|fault| !matches!(fault, Fault::Hang | Fault::HangInBody | Fault::Slow)) {
        occurs_once_on_a_socket(fault).await;
    }
    slow.await.expect("no panic");
}

async fn occurs_once_on_a_socket(fault: Fault) {
    let simulator = fleet("open_jobs");
    simulator.set_script(Script::new([Rule::new(fault).on(Operation::ListJobs).times(1)]));
    let endpoint = Endpoint::start(simulator.clone()).await;
    let mut config = config(&endpoint.url());
    list_only(&mut config);
    config.jobs.series = false;
    let listening = Listening::start(config).await;
    let shown = scrape_handler(&listening.handler).await;
    let fails = fault.consequence() == Consequence::Fatal;
    println!(
        "{:<20} {:<10} {:<4}",
        fault.as_str(),
        format!("{:?}", fault.consequence()),
        shown.up().unwrap_or(f64::NAN)
    );
    assert_eq!(simulator.fault_counts().get(&fault), Some(&1), "{fault} did not occur");
    assert_eq!(shown.up(), Some(f64::from(u8::from(!fails))), "{fault}: {}", shown.text);
    // The first walk over open jobs comes before the one over all jobs, which goes on without it.
    assert_eq!(total(&shown), if fails { FEW as f64 } else { ALL_JOBS }, "{fault}");
    if fails {
        let reason = expected_reason(fault).expect("a fatal fault has a reason");
        assert_eq!(shown.failures("open_jobs", reason), Some(1.0), "{fault}: {}", shown.text);
    }
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_failing_walks_leave_nothing_behind_and_are_never_a_tight_loop() {
    const FAILURES: f64 = 400.0;
    let exporter = Exporter::start(simulated(jobs(3)), |config| {
        list_only(config);
        config.limits.max_pages = 3;
    })
    .await;
    exporter.listed(1).await;
    let fatal: Vec<Fault> = Fault::ALL.iter().copied().filter(|fault| expected_reason(*fault).is_some()).collect();
    let sum = |shown: &Exposition, family| -> f64 { shown.family(family).map(|(_, count)| count).sum() };
    let failed = |shown: &Exposition| sum(shown, "aws_iot_jobs_exporter_collector_failures_total");
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (first, mut most, mut shown) = (alive(), 0, exporter.scrape().await);
    for fault in fatal.iter().cycle() {
        // Of one page, there is no token that could go wrong.
        exporter.simulator.set_script(Script::new([Rule::new(*fault).on(Operation::ListJobs)]));
        tokio::time::sleep(Duration::from_mins(50)).await;
        shown = exporter.scrape().await;
        most = most.max(alive());
        if failed(&shown) >= FAILURES {
            break;
        }
    }
    // A walk that is under way has a task or two of its own.
    assert!(most <= first + 3, "{first} tasks at first, and up to {most}");
    let releases = exporter.wire.releases("/jobs");
    let span = *releases.last().expect("a request") - releases[0];
    let walks = sum(&shown, "aws_iot_jobs_exporter_collector_runs_total");
    assert!(span.as_secs_f64() / walks > 30.0, "{walks} walks in {span:?}");
    let in_a_minute = |first: usize| {
        releases[first..].iter().take_while(|at| **at - releases[first] < Duration::from_mins(1)).count()
    };
    let most = (0..releases.len()).map(in_a_minute).max().unwrap_or_default();
    // One walk over open jobs and one over all jobs, of three attempts at each of the three pages at most.
    assert!(most <= 15, "{most} requests within a minute");
}
