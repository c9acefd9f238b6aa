//! The daemon on the paused clock: what it publishes, when, and what it never does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::future::ProvideCredentials as ProvidedCredentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_iot_jobs_exporter::config::{self, Config, Sources, Target};
use aws_iot_jobs_exporter::http::StatusCode;
use aws_iot_jobs_exporter::jobs::{AccountId, Scope, Status, TargetSelection, Timestamp};
use aws_iot_jobs_exporter::simulator::{self, Call, Fleet, Job, Operation, Response, Role, Simulator, ThingGroup};
use bytes::Bytes;
use tokio::time::Instant;

use crate::api::get_json;
use crate::support::{
    Exporter, Exposition, Fate, LISTINGS, NOW, REGION, Rotating, account, jobs, list_only, only_one_walks_again,
    simulator as simulated, target, thread_log, truth,
};

const MINUTE: Duration = Duration::from_mins(1);
const LAST_SUCCESS: &str = "aws_iot_jobs_collector_last_success_timestamp_seconds";

fn open_jobs(count: usize) -> Vec<Job> {
    let created = |n: usize| NOW.before(Duration::from_secs(n as u64));
    (0..count).map(|n| Job::new(format!("open-{n:06}"), Status::InProgress, created(n))).collect()
}

/// Lists jobs of one status only, so that a walk is one query, and describes none.
fn one_query(config: &mut Config) {
    list_only(config);
    config.targets[0].scope.statuses = vec![Status::InProgress];
}

/// Answers `ListJobs` in the simulator's stead.
fn list_jobs(simulator: &Simulator, answer: impl Fn(&Call) -> Option<Response> + Send + Sync + 'static) {
    simulator.intercept(move |call| if call.operation == Operation::ListJobs { answer(call) } else { None });
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).expect("a status")
}

fn body(text: &str) -> Response {
    Response::new(Bytes::copy_from_slice(text.as_bytes()))
}

#[tokio::test(start_paused = true)]
async fn every_page_of_both_listings_is_counted_exactly() {
    let exporter = Exporter::start(simulated([]), |_| {}).await;
    exporter.simulator.set_fleet(&account(), REGION, Fleet::seeded(3, 1234, NOW));
    let shown = exporter.listed(1).await;
    assert_eq!(shown.jobs(), truth(&exporter.simulator));
    let of_walk = |family: &str, collector| shown.value(family, &[("collector", collector)]).expect("a walk");
    assert_eq!(of_walk("aws_iot_jobs_walk_pages", "all_jobs"), 5.0);
    assert_eq!(of_walk("aws_iot_jobs_walk_jobs", "all_jobs"), 1234.0);
    let is_open = |status: &str| Status::from(status).is_open();
    let open: f64 = shown.jobs().iter().filter(|((status, _), _)| is_open(status)).map(|(_, jobs)| jobs).sum();
    assert_eq!(of_walk("aws_iot_jobs_walk_jobs", "open_jobs"), open);
    let pages = of_walk("aws_iot_jobs_walk_pages", "open_jobs") + 5.0;
    assert_eq!(exporter.simulator.requests(Operation::ListJobs) as f64, pages, "no page is requested twice");
    assert_eq!(shown.up(), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn an_account_without_jobs_shows_zeros_and_no_age() {
    let shown = Exporter::start(simulated([]), |_| {}).await.listed(1).await;
    assert_eq!(shown.family("aws_iot_jobs").count(), 10);
    assert!(shown.family("aws_iot_jobs").all(|(_, value)| value == 0.0));
    assert_eq!(shown.family("aws_iot_jobs_oldest_created_timestamp_seconds").count(), 0);
    assert_eq!(shown.up(), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn a_signature_is_new_when_it_arrives_however_long_requests_wait_for_the_budget() {
    let exporter = Exporter::start(simulated(jobs(3)), |config| {
        let of = |n: usize| Target {
            scope: Scope { namespace_id: Some(format!("n{n}")), ..Scope::default() },
            ..target(&format!("t{n}"), "http://simulator.test")
        };
        config.targets = (0..10).map(of).collect();
        config.limits.requests_per_second = 0.2;
    })
    .await;
    let ages: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let noted = Arc::clone(&ages);
    exporter.simulator.intercept(move |call| {
        let signed = call.headers["x-amz-date"].to_str().expect("a date");
        let signed = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", signed).expect("a date");
        let signed = jiff::tz::TimeZone::UTC.to_timestamp(signed).expect("a time").as_millisecond();
        let signed = Timestamp::from_millis(signed);
        noted.lock().expect("no test panics in here").push(call.now.since(signed));
        None
    });
    tokio::time::sleep(10 * MINUTE).await;
    let ages = std::mem::take(&mut *ages.lock().expect("no test panics in here"));
    assert!(ages.len() > 100, "{} requests", ages.len());
    assert!(ages.iter().all(|age| *age <= Duration::from_secs(2)), "{ages:?}");
    let shown = exporter.scrape().await;
    let waits = shown.family("aws_iot_jobs_exporter_api_rate_limit_wait_seconds_total");
    let waited: f64 = waits.map(|(_, seconds)| seconds).sum();
    assert!(waited > 300.0, "they waited for {waited} s only");
}

#[tokio::test(start_paused = true)]
async fn a_hang_that_a_retry_hides_is_a_warning_with_operation_host_and_seconds() {
    let exporter = Exporter::start(simulated(jobs(3)), |_| {}).await;
    let log = thread_log();
    let is_first = AtomicBool::new(true);
    exporter.wire.decide(move |request| {
        let hangs = request.uri().path() == "/jobs" && is_first.swap(false, Ordering::Relaxed);
        if hangs { Fate::Hangs } else { Fate::Arrives }
    });
    let shown = exporter.listed(1).await;
    assert_eq!(shown.up(), Some(1.0));
    let lines = log.take();
    let warnings: Vec<&String> = lines.iter().filter(|line| line.contains(" WARN ")).collect();
    let [warning] = &warnings[..] else { panic!("one warning, not {lines:#?}") };
    for part in ["request timed out", "target=t ", "operation=\"ListJobs\"", "host=\"simulator.test\"", "seconds=10"] {
        assert!(warning.contains(part), "{part} is not in {warning}");
    }
    let of = |name| shown.value(name, &[("operation", "ListJobs")]);
    // A page for each open status, one of all jobs, and the retry.
    assert_eq!(of("aws_iot_jobs_exporter_api_requests_total"), Some(5.0));
    assert_eq!(of("aws_iot_jobs_exporter_api_request_duration_seconds_count"), Some(5.0));
    assert!(of("aws_iot_jobs_exporter_api_request_duration_seconds_sum") >= Some(10.0));
}

#[tokio::test(start_paused = true)]
async fn throttling_lowers_the_rate_in_force_which_recovers() {
    let exporter = Exporter::start(simulated(jobs(3)), |config| config.limits.requests_per_second = 4.0).await;
    let rate = |shown: &Exposition| {
        shown.value("aws_iot_jobs_exporter_api_rate_limit_requests_per_second", &[("operation", "ListJobs")])
    };
    let shown = exporter.listed(1).await;
    assert_eq!(rate(&shown), Some(4.0));
    let once = AtomicBool::new(true);
    list_jobs(&exporter.simulator, move |_| {
        once.swap(false, Ordering::Relaxed)
            .then(|| simulator::error(status(429), "ThrottlingException", "Rate exceeded"))
    });
    let shown = exporter.listed(2).await;
    assert_eq!((rate(&shown), shown.up()), (Some(2.0), Some(1.0)), "the retry succeeds");
    tokio::time::sleep(6 * MINUTE).await;
    assert_eq!(rate(&exporter.scrape().await), Some(4.0));
}

#[tokio::test(start_paused = true)]
async fn before_the_first_walk_ends_no_job_family_is_there_and_the_target_counts_as_up() {
    let exporter = Exporter::start(simulated(jobs(3)), |_| {}).await;
    exporter.wire.decide(|_| Fate::Hangs);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let shown = exporter.scrape().await;
    assert!(shown.job_lines().is_empty(), "{}", shown.text);
    assert_eq!(shown.up(), Some(1.0));
    for family in ["aws_iot_jobs_collector_success", LAST_SUCCESS, "aws_iot_jobs_collector_duration_seconds"] {
        assert_eq!(shown.family(family).count(), 0, "{family}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_open_walk_is_at_once_and_the_next_ones_on_the_interval() {
    let start = Instant::now();
    let exporter = Exporter::start(simulated(jobs(1)), one_query).await;
    exporter.listed(4).await;
    let walks: Vec<Duration> = exporter.wire.releases("/jobs").iter().map(|at| *at - start).collect();
    assert!(walks[0] < Duration::from_secs(1), "{walks:?}");
    for pair in walks.windows(2) {
        let gap = pair[1] - pair[0];
        assert!((MINUTE..=MINUTE.mul_f64(1.05) + Duration::from_secs(1)).contains(&gap), "{walks:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_walk_slower_than_its_interval_is_followed_not_overlapped() {
    let exporter = Exporter::start(simulated(open_jobs(1000)), one_query).await;
    exporter.wire.decide(|request| match request.uri().path() {
        "/jobs" => Fate::Late(Duration::from_secs(9)),
        _ => Fate::Arrives,
    });
    exporter.listed(3).await;
    // Four pages of 9 s each, and as long a rest.
    let walks = exporter.wire.releases("/jobs");
    let starts: Vec<Instant> = walks.iter().copied().step_by(4).collect();
    for pair in starts.windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_secs(72), "{starts:?}");
    }
    for pair in walks.windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_secs(9), "two pages under way at once");
    }
}

#[tokio::test(start_paused = true)]
async fn full_walks_take_a_tenth_of_the_time_at_most() {
    let exporter = Exporter::start(simulated(jobs(1000)), |config| {
        list_only(config);
        config.collectors.all_jobs.interval = MINUTE;
    })
    .await;
    let starts: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let seen = Arc::clone(&starts);
    exporter.wire.decide(move |request| {
        let query = request.uri().query().unwrap_or_default();
        if request.uri().path() != "/jobs" || query.contains("status=") {
            return Fate::Arrives;
        }
        if !query.contains("nextToken") {
            seen.lock().expect("no test panics in here").push(Instant::now());
        }
        Fate::Late(Duration::from_secs(9))
    });
    let shown = exporter.until(|shown| shown.runs("all_jobs") >= Some(3.0)).await;
    let starts = starts.lock().expect("no test panics in here");
    for pair in starts.windows(2) {
        assert!(pair[1] - pair[0] >= 6 * MINUTE, "{starts:?}: each walk takes 36 s");
    }
    let interval = shown.value("aws_iot_jobs_collector_interval_seconds", &[("collector", "all_jobs")]);
    assert!(interval >= Some(360.0), "{interval:?}");
}

#[tokio::test(start_paused = true)]
async fn a_walk_that_fails_half_way_changes_nothing_but_the_exporters_own_metrics() {
    for listing in LISTINGS {
        let fleet = if listing == "open_jobs" { open_jobs(1000) } else { jobs(1000) };
        let ids: Vec<String> = fleet.iter().skip(1).take(500).map(|job| job.id.clone()).collect();
        let exporter = Exporter::start(simulated(fleet), |config| only_one_walks_again(listing, config)).await;
        let before = exporter.listed(1).await;
        exporter.simulator.with_fleet(&account(), REGION, |fleet| ids.iter().for_each(|id| drop(fleet.remove_job(id))));
        list_jobs(&exporter.simulator, |call| {
            let is_later = call.params.get("nextToken").is_some();
            is_later.then(|| simulator::error(status(403), "AccessDeniedException", "no"))
        });
        let after = exporter.until(|shown| shown.runs(listing) >= Some(2.0)).await;
        assert_eq!(after.job_lines(), before.job_lines(), "{listing}");
        let last_success = |shown: &Exposition| shown.value(LAST_SUCCESS, &[("collector", listing)]);
        assert_eq!(last_success(&after), last_success(&before), "{listing}");
        assert_eq!((after.up(), after.failures(listing, "denied")), (Some(0.0), Some(1.0)), "{listing}");
        let success = after.value("aws_iot_jobs_collector_success", &[("collector", listing)]);
        assert_eq!(success, Some(0.0), "{listing}");
    }
}

#[tokio::test(start_paused = true)]
async fn stale_jobs_are_withdrawn_by_collector_and_come_back_with_the_next_good_walk() {
    let exporter = Exporter::start(simulated(jobs(3)), list_only).await;
    let good = exporter.listed(1).await;
    list_jobs(&exporter.simulator, |_| Some(simulator::error(status(503), "ServiceUnavailableException", "no")));

    tokio::time::sleep(9 * MINUTE).await;
    let shown = exporter.scrape().await;
    assert_eq!((shown.job_lines(), shown.up()), (good.job_lines(), Some(0.0)), "shown until they are stale");

    tokio::time::sleep(2 * MINUTE).await;
    let shown = exporter.scrape().await;
    let statuses: BTreeSet<&str> = shown.family("aws_iot_jobs").map(|(labels, _)| labels["status"].as_str()).collect();
    assert_eq!(statuses, BTreeSet::from(["CANCELED", "COMPLETED"]), "ended jobs stay");
    let ids: Vec<&str> = shown.family("aws_iot_job_info").map(|(labels, _)| labels["job_id"].as_str()).collect();
    assert_eq!(ids, ["job-000001", "job-000002"]);
    for family in ["aws_iot_jobs_oldest_created_timestamp_seconds", "aws_iot_jobs_concurrent"] {
        assert_eq!(shown.family(family).count(), 0, "{family}");
    }

    tokio::time::sleep(35 * MINUTE).await;
    let shown = exporter.scrape().await;
    let [line] = shown.job_lines()[..] else { panic!("{}", shown.text) };
    assert!(line.starts_with("aws_iot_jobs_target_info{"), "the account is known: {line}");
    assert_eq!(shown.up(), Some(0.0));
    for listing in LISTINGS {
        let last_success = |shown: &Exposition| shown.value(LAST_SUCCESS, &[("collector", listing)]);
        assert_eq!(last_success(&shown), last_success(&good), "{listing}");
    }

    exporter.simulator.stop_intercepting();
    tokio::time::sleep(16 * MINUTE).await;
    let shown = exporter.scrape().await;
    assert_eq!((shown.jobs(), shown.up()), (truth(&exporter.simulator), Some(1.0)));
}

#[tokio::test(start_paused = true)]
async fn data_that_turns_stale_during_a_hanging_walk_is_not_up() {
    let exporter = Exporter::start(simulated(jobs(3)), one_query).await;
    exporter.listed(1).await;
    exporter.wire.decide(|_| Fate::Late(Duration::from_secs(9)));
    exporter.simulator.set_fleet(&account(), REGION, Fleet::new(open_jobs(60_000), []));
    tokio::time::sleep(12 * MINUTE).await;
    let shown = exporter.scrape().await;
    assert_eq!(shown.runs("open_jobs"), Some(1.0), "the second is under way");
    assert_eq!(shown.family("aws_iot_jobs").count(), 0);
    assert_eq!(shown.up(), Some(0.0), "stale is never up");
}

/// Each way a walk can fail, by the reason that tells it apart.
#[tokio::test(start_paused = true)]
async fn every_failure_has_its_reason_publishes_nothing_and_heals_by_itself() {
    type Answer = fn(&Call) -> Option<Response>;
    let cases: &[(&str, &str, Answer)] = &[
        ("throttled", "429", |_| Some(simulator::error(status(429), "ThrottlingException", "Rate exceeded"))),
        ("throttled", "400 as in the model", |_| {
            Some(simulator::error(status(400), "ThrottlingException", "Rate exceeded"))
        }),
        ("denied", "no permission", |_| Some(simulator::error(status(403), "AccessDeniedException", "not you"))),
        ("credentials", "expired", |_| Some(simulator::error(status(403), "ExpiredTokenException", "old"))),
        ("credentials", "unknown key", |_| Some(simulator::error(status(403), "UnrecognizedClientException", "who?"))),
        ("unavailable", "500", |_| Some(simulator::error(status(500), "InternalFailureException", "oops"))),
        ("unavailable", "503", |_| Some(simulator::error(status(503), "ServiceUnavailableException", "later"))),
        ("rejected", "400", |_| Some(simulator::error(status(400), "InvalidRequestException", "what?"))),
        ("malformed", "no list of jobs", |_| Some(body("{}"))),
        ("malformed", "a null list of jobs", |_| Some(body(r#"{"jobs": null}"#))),
        ("malformed", "nothing at all", |_| Some(body(""))),
        ("malformed", "HTML", |_| Some(body("<html><body>Welcome to our proxy</body></html>"))),
        ("malformed", "cut JSON", |_| Some(body(r#"{"jobs": [{"jobId": "a""#))),
        ("malformed", "a number for a name", |_| Some(body(r#"{"jobs": [{"jobId": 7}]}"#))),
        ("malformed", "17 MiB", |_| Some(body(&format!(r#"{{"jobs": [], "x": "{}"}}"#, "x".repeat(17 << 20))))),
        ("token_loop", "the same token for ever", |_| Some(body(r#"{"jobs": [], "nextToken": "again"}"#))),
        ("token_loop", "tokens in a circle", |call| {
            Some(body(&format!(r#"{{"jobs": [], "nextToken": "{}"}}"#, call.attempt % 5)))
        }),
        ("page_limit", "no end", |call| Some(body(&format!(r#"{{"jobs": [], "nextToken": "{}"}}"#, call.attempt)))),
        ("account_mismatch", "a job of somebody else", |_| {
            Some(body(r#"{"jobs": [{"jobArn": "arn:aws:iot:eu-west-1:999999999999:job/a", "jobId": "a"}]}"#))
        }),
    ];
    for (reason, case, answer) in cases {
        let exporter = Exporter::start(simulated(jobs(600)), |config| {
            list_only(config);
            config.jobs.series = false;
            config.limits.max_pages = 20;
        })
        .await;
        let before = exporter.listed(1).await;
        list_jobs(&exporter.simulator, answer);
        let after = exporter.listed(2).await;
        assert_eq!(after.failures("open_jobs", reason), Some(1.0), "{case}: {}", after.text);
        assert_eq!(after.up(), Some(0.0), "{case}");
        assert_eq!(after.job_lines(), before.job_lines(), "{case}");
        let status = get_json(&exporter, "/api/v1/status").await;
        let failure = &status["targets"][0]["collectors"][0]["failure"];
        let named = |message: &str| message.starts_with("page ") && message.contains(": ListJobs on simulator.test: ");
        assert!(failure["message"].as_str().is_some_and(named), "{case}: {failure}");
        exporter.simulator.stop_intercepting();
        let healed = exporter.listed(3).await;
        assert_eq!((healed.up(), healed.jobs()), (Some(1.0), truth(&exporter.simulator)), "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_is_a_network_failure_and_one_that_hangs_a_timeout() {
    for (reason, code, fate) in
        [("network", "network", (|_| Fate::Breaks) as fn(&_) -> Fate), ("timeout", "timeout", |_| Fate::Hangs)]
    {
        let exporter = Exporter::start(simulated(jobs(3)), list_only).await;
        exporter.listed(1).await;
        exporter.wire.decide(fate);
        let shown = exporter.listed(2).await;
        assert_eq!(shown.failures("open_jobs", reason), Some(1.0), "{}", shown.text);
        // Three attempts at the first page.
        let errors = [("operation", "ListJobs"), ("code", code)];
        assert_eq!(shown.value("aws_iot_jobs_exporter_api_errors_total", &errors), Some(3.0));
        exporter.wire.decide(|_| Fate::Arrives);
        assert_eq!(exporter.listed(3).await.up(), Some(1.0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_fails_once_is_tried_again_and_both_attempts_are_counted() {
    let exporter = Exporter::start(simulated(jobs(600)), list_only).await;
    list_jobs(&exporter.simulator, |call| {
        (call.attempt == 2).then(|| simulator::error(status(500), "InternalFailureException", "oops"))
    });
    let shown = exporter.listed(1).await;
    assert_eq!((shown.up(), shown.jobs()), (Some(1.0), truth(&exporter.simulator)));
    let requests = shown.value("aws_iot_jobs_exporter_api_requests_total", &[("operation", "ListJobs")]);
    assert_eq!(requests, Some(7.0), "three pages of open jobs, three of all, and one retry");
    let errors = [("operation", "ListJobs"), ("code", "InternalFailureException")];
    assert_eq!(shown.value("aws_iot_jobs_exporter_api_errors_total", &errors), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn with_every_third_attempt_throttled_no_second_holds_a_sixth_release() {
    let exporter = Exporter::start(simulated(jobs(25_000)), |config| {
        list_only(config);
        config.limits.requests_per_second = 5.0;
    })
    .await;
    list_jobs(&exporter.simulator, |call| {
        (call.attempt % 3 == 0).then(|| simulator::error(status(429), "ThrottlingException", "Rate exceeded"))
    });
    let shown = exporter.listed(1).await;
    assert_eq!((shown.up(), shown.jobs()), (Some(1.0), truth(&exporter.simulator)));
    let releases = exporter.wire.releases("/jobs");
    assert!(releases.len() >= 150, "100 pages of all jobs, those of open jobs, and half as many retries");
    for (n, first) in releases.iter().enumerate() {
        let second = releases[n..].iter().filter(|at| **at - *first < Duration::from_secs(1)).count();
        assert!(second <= 5, "{second} releases in the second after release {n}");
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_permit_does_not_count_against_an_attempts_timeout() {
    let exporter = Exporter::start(simulated(jobs(600)), |config| config.limits.requests_per_second = 0.02).await;
    let shown = exporter.until(|shown| shown.runs("open_jobs") >= Some(1.0)).await;
    assert_eq!(shown.up(), Some(1.0), "{}", shown.text);
    let walk = shown.value("aws_iot_jobs_collector_duration_seconds", &[]).expect("a walk");
    assert!(walk >= 100.0, "three pages, 50 s apart, took {walk} s");
}

#[tokio::test(start_paused = true)]
async fn targets_of_one_account_and_region_share_its_budget() {
    let exporter = Exporter::start(simulated(jobs(1000)), |config| {
        config.limits.requests_per_second = 2.0;
        config.targets = ["a", "b", "c"].map(|name| target(name, "http://simulator.test")).to_vec();
    })
    .await;
    exporter.listed(1).await;
    let releases = exporter.wire.releases("/jobs");
    assert!(releases.len() >= 21, "three pages of open jobs and four of all for each: {}", releases.len());
    for pair in releases.windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_millis(500));
    }
}

#[tokio::test(start_paused = true)]
async fn three_targets_share_one_exposition_with_one_header_a_family() {
    let simulator = simulated(jobs(10));
    simulator.set_fleet(&account(), "us-east-1", Fleet::seeded(9, 400, NOW));
    let exporter = Exporter::start(simulator, |config| {
        let mut targets = ["a", "b", "c"].map(|name| target(name, "http://simulator.test"));
        targets[1].region = Some("us-east-1".to_owned());
        targets[2].region = Some("ap-south-1".to_owned());
        targets[2].labels.insert("team".to_owned(), "say \"hi\"\\\n".to_owned());
        config.targets = targets.to_vec();
    })
    .await;
    let shown = exporter.listed(1).await;
    assert_eq!(shown.text.matches("# TYPE aws_iot_jobs gauge\n").count(), 1);
    let headers: Vec<&str> = shown.text.lines().filter(|line| line.starts_with("# TYPE")).collect();
    let distinct: std::collections::BTreeSet<&&str> = headers.iter().collect();
    assert_eq!(headers.len(), distinct.len(), "{headers:?}");
    let total = |target: &str| -> f64 {
        shown.family("aws_iot_jobs").filter(|(labels, _)| labels["target"] == target).map(|(_, value)| value).sum()
    };
    assert_eq!((total("a"), total("b"), total("c")), (10.0, 400.0, 0.0));
    let (labels, _) = shown.family("aws_iot_jobs").find(|(labels, _)| labels["target"] == "c").expect("a row");
    assert_eq!(labels["team"], "say \"hi\"\\\n");
    assert_eq!(labels["aws_account_id"], "012345678901");
}

#[tokio::test(start_paused = true)]
async fn a_hanging_target_hides_neither_the_others_nor_its_own_failure() {
    let exporter = Exporter::start(simulated(jobs(10)), |config| {
        config.targets = ["good", "hanging"].map(|name| target(name, "http://simulator.test")).to_vec();
        config.targets[1].region = Some("us-east-1".to_owned());
    })
    .await;
    exporter.wire.decide(|request| {
        let signature = request.headers()["authorization"].to_str().unwrap_or_default();
        if signature.contains("us-east-1/iot") { Fate::Hangs } else { Fate::Arrives }
    });
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(exporter.get("/-/ready").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(exporter.get("/-/healthy").await.status(), StatusCode::OK);
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(exporter.get("/-/ready").await.status(), StatusCode::OK);
    let shown = exporter.scrape().await;
    assert_eq!(shown.value("aws_iot_jobs_up", &[("target", "good")]), Some(1.0));
    assert_eq!(shown.value("aws_iot_jobs_up", &[("target", "hanging")]), Some(0.0));
    assert!(shown.family("aws_iot_jobs").all(|(labels, _)| labels["target"] == "good"));
}

#[tokio::test(start_paused = true)]
async fn it_is_ready_when_the_first_open_walk_of_each_target_has_ended_successfully_or_not() {
    let exporter = Exporter::start(simulated(jobs(3)), |config| {
        config.targets = ["fast", "slow", "denied"].map(|name| target(name, "http://simulator.test")).to_vec();
        config.targets[1].region = Some("us-east-1".to_owned());
        config.targets[2].region = Some("us-west-2".to_owned());
    })
    .await;
    list_jobs(&exporter.simulator, |call| {
        (call.region == "us-west-2").then(|| simulator::error(status(403), "AccessDeniedException", "no"))
    });
    exporter.wire.decide(|request| {
        let signature = request.headers()["authorization"].to_str().unwrap_or_default();
        if signature.contains("us-east-1/iot") { Fate::Late(Duration::from_secs(5)) } else { Fate::Arrives }
    });
    let is_ready = async || exporter.get("/-/ready").await.status() == StatusCode::OK;
    let has_ended = |shown: &Exposition, name: &str| {
        shown.value("aws_iot_jobs_collector_success", &[("target", name), ("collector", "open_jobs")])
    };
    for _ in 0..14 {
        assert!(!is_ready().await);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let shown = exporter.scrape().await;
    let ended = ["fast", "slow", "denied"].map(|name| has_ended(&shown, name));
    assert_eq!(ended, [Some(1.0), None, Some(0.0)]);
    // The slow one has a page for each open status.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(is_ready().await);
    assert_eq!(has_ended(&exporter.scrape().await, "slow"), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn it_is_ready_after_a_minute_even_if_no_walk_has_ended() {
    let exporter = Exporter::start(simulated(jobs(3)), |config| config.limits.requests_per_second = 0.01).await;
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(exporter.get("/-/ready").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(exporter.get("/-/ready").await.status(), StatusCode::OK);
    assert_eq!(exporter.scrape().await.runs("open_jobs"), Some(0.0), "the first walk is under way");
}

#[tokio::test(start_paused = true)]
async fn requests_to_the_exporter_are_counted_by_handler_and_code() {
    let exporter = Exporter::start(simulated(jobs(3)), |_| {}).await;
    exporter.wire.decide(|_| Fate::Hangs);
    let requests = async || {
        let shown = exporter.scrape().await;
        let family = shown.family("aws_iot_jobs_exporter_http_requests_total");
        let rows = family.map(|(labels, requests)| ((labels["handler"].clone(), labels["code"].clone()), requests));
        rows.collect::<BTreeMap<_, _>>()
    };
    assert_eq!(requests().await, BTreeMap::new(), "a scrape is counted when it is answered");
    for path in
        ["/", "/-/healthy", "/-/healthy?verbose", "/-/ready", "/-/reload", "/nothing", "/metrics/", "/..", "/%2d"]
    {
        exporter.get(path).await;
    }
    let expected = [
        ("/", "200", 1.0),
        ("/-/healthy", "200", 2.0),
        ("/-/ready", "503", 1.0),
        ("/-/reload", "403", 1.0),
        ("/metrics", "200", 1.0),
        ("<other>", "404", 4.0),
    ];
    let expected = expected.map(|(handler, code, requests)| ((handler.to_owned(), code.to_owned()), requests));
    assert_eq!(requests().await, BTreeMap::from(expected));
    assert_eq!(requests().await[&("/metrics".to_owned(), "200".to_owned())], 2.0);
}

#[tokio::test(start_paused = true)]
async fn a_targets_scope_is_passed_on_one_walk_a_status_and_nothing_outside_it_is_shown_as_zero() {
    let fleet = vec![
        Job::new("a", Status::InProgress, NOW),
        Job::new("b", Status::InProgress, NOW).continuous(),
        Job::new("c", Status::Scheduled, NOW),
        Job::new("d", Status::Completed, NOW),
    ];
    let exporter = Exporter::start(simulated(fleet), |config| {
        config.targets[0].scope = Scope {
            statuses: vec![Status::InProgress, Status::Scheduled],
            target_selection: Some(TargetSelection::Snapshot),
            ..Scope::default()
        };
    })
    .await;
    let shown = exporter.listed(1).await;
    let rows: Vec<_> = shown
        .family("aws_iot_jobs")
        .map(|(labels, value)| (labels["status"].as_str(), labels["target_selection"].as_str(), value))
        .collect();
    assert_eq!(rows, [("IN_PROGRESS", "SNAPSHOT", 1.0), ("SCHEDULED", "SNAPSHOT", 1.0)]);
    assert_eq!(exporter.simulator.requests(Operation::ListJobs), 2);
}

#[tokio::test(start_paused = true)]
async fn a_group_and_a_namespace_in_scope_reach_listjobs_and_every_page_is_asked_at_its_largest() {
    let simulator = simulated([]);
    simulator.set_fleet(&account(), REGION, Fleet::new(jobs(1), [ThingGroup::new("line-1")]));
    let exporter = Exporter::start(simulator, |config| {
        config.targets[0].scope.thing_group_name = Some("line-1".to_owned());
        config.targets[0].scope.namespace_id = Some("field".to_owned());
    })
    .await;
    let queries: Arc<Mutex<BTreeSet<Option<String>>>> = Arc::default();
    let seen = Arc::clone(&queries);
    list_jobs(&exporter.simulator, move |call| {
        let param = |name| call.params.get(name);
        let expected = (Some("line-1"), Some("field"), Some("250"));
        if (param("thingGroupName"), param("namespaceId"), param("maxResults")) == expected {
            seen.lock().expect("no test panics in here").insert(param("status").map(str::to_owned));
        }
        None
    });
    exporter.listed(1).await;
    // With a thing group filter AWS omits SCHEDULED jobs.
    let expected = [None, Some("DELETION_IN_PROGRESS".to_owned()), Some("IN_PROGRESS".to_owned())];
    assert_eq!(*queries.lock().expect("no test panics in here"), BTreeSet::from(expected));
    assert_eq!(exporter.simulator.requests(Operation::ListJobs), 3);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_moves_during_the_walk_is_counted_once_by_its_later_sighting() {
    let exporter = Exporter::start(simulated([]), list_only).await;
    list_jobs(&exporter.simulator, |call| {
        Some(body(match call.params.get("nextToken") {
            None => {
                r#"{"jobs": [{"jobId": "a", "status": "IN_PROGRESS", "targetSelection": "SNAPSHOT"},
                              {"jobId": "b", "status": "COMPLETED", "targetSelection": "SNAPSHOT"}], "nextToken": "2"}"#
            }
            Some("2") => r#"{"jobs": [], "nextToken": "3"}"#,
            Some(_) => {
                r#"{"jobs": [{"jobId": "a", "status": "COMPLETED", "targetSelection": "SNAPSHOT"}], "nextToken": ""}"#
            }
        }))
    });
    let shown = exporter.listed(1).await;
    assert_eq!(shown.jobs().into_iter().collect::<Vec<_>>(), [(("COMPLETED".to_owned(), "SNAPSHOT".to_owned()), 2.0)]);
    assert_eq!(shown.value("aws_iot_jobs_walk_duplicates", &[("collector", "all_jobs")]), Some(1.0));
    assert_eq!(
        shown.value("aws_iot_jobs_walk_pages", &[("collector", "all_jobs")]),
        Some(3.0),
        "an empty page is legal, an empty token is the end"
    );
}

#[tokio::test(start_paused = true)]
async fn what_aws_adds_or_leaves_out_is_counted_under_its_own_text_or_as_unknown() {
    let exporter = Exporter::start(simulated([]), list_only).await;
    list_jobs(&exporter.simulator, |_| {
        Some(body(
            r#"{"jobs": [{"jobId": "a", "status": "QUEUED", "targetSelection": "SNAPSHOT", "newField": {"x": [1]}},
                         {"jobId": "b", "status": "bad \"text\"\n", "targetSelection": "SNAPSHOT"},
                         {"jobArn": "arn:aws:iot:eu-west-1:012345678901:job/c", "status": "COMPLETED"},
                         {"status": "COMPLETED", "targetSelection": "SNAPSHOT", "createdAt": 1560787022.733}]}"#,
        ))
    });
    let shown = exporter.listed(1).await;
    let count = |status, selection| shown.value("aws_iot_jobs", &[("status", status), ("target_selection", selection)]);
    assert_eq!(count("QUEUED", "SNAPSHOT"), Some(1.0));
    assert_eq!(count("<other>", "SNAPSHOT"), Some(1.0));
    assert_eq!(count("COMPLETED", "<unknown>"), Some(1.0));
    assert_eq!(count("COMPLETED", "SNAPSHOT"), Some(0.0), "without an id it could be any job");
    assert_eq!(shown.value("aws_iot_jobs_walk_malformed", &[("collector", "all_jobs")]), Some(2.0));
    assert_eq!(shown.up(), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn sts_is_asked_once_for_the_account_and_not_at_all_where_it_is_configured() {
    let exporter = Exporter::start(simulated(jobs(1)), |_| {}).await;
    exporter.listed(5).await;
    assert_eq!(exporter.simulator.requests(Operation::GetCallerIdentity), 1);

    let exporter = Exporter::start(simulated(jobs(1)), |config| config.targets[0].account_id = Some(account())).await;
    assert_eq!(exporter.listed(2).await.up(), Some(1.0));
    assert_eq!(exporter.simulator.requests(Operation::GetCallerIdentity), 0);
}

#[tokio::test(start_paused = true)]
async fn while_the_account_is_not_known_what_needs_it_is_absent() {
    let simulator = simulated(jobs(1));
    simulator.intercept(|call| {
        let asked = call.operation == Operation::GetCallerIdentity;
        asked.then(|| simulator::sts_error(status(403), "AccessDenied", "not even this"))
    });
    let exporter = Exporter::start(simulator, |_| {}).await;
    let shown = exporter.listed(1).await;
    assert!(shown.job_lines().is_empty());
    assert_eq!((shown.up(), shown.failures("open_jobs", "denied")), (Some(0.0), Some(1.0)));
    assert_eq!(exporter.simulator.requests(Operation::ListJobs), 0);
}

#[tokio::test(start_paused = true)]
async fn a_configured_account_that_is_not_the_credentials_fails_walks_as_account_mismatch() {
    let exporter = Exporter::start(simulated(jobs(1)), |config| {
        config.targets[0].account_id = AccountId::parse("999999999999").ok();
    })
    .await;
    let shown = exporter.listed(1).await;
    for listing in LISTINGS {
        assert_eq!(shown.failures(listing, "account_mismatch"), Some(1.0), "{listing}");
    }
    assert!(shown.job_lines().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_role_is_assumed_with_its_external_id_and_not_without_the_right_one() {
    let role_account = AccountId::parse("210987654321").expect("an account id");
    let simulator = simulated([]);
    simulator.set_fleet(&role_account, REGION, Fleet::new(jobs(7), []));
    let role = Role::new(role_account.clone(), "exporter").with_external_id("between-us");
    let arn = role.arn();
    simulator.add_role(role);
    let targets = |external_id: &str| {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let target = format!(
            "{{region: {REGION}, endpoint_url: 'http://simulator.test', role_arn: '{arn}', external_id: {external_id}}}"
        );
        std::fs::write(file.path(), format!("targets: [{target}]")).expect("a written file");
        let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
        config::load(&sources).expect("a valid configuration").targets
    };
    let exporter = Exporter::start(simulator.clone(), |config| config.targets = targets("between-us")).await;
    let shown = exporter.listed(1).await;
    assert_eq!(shown.up(), Some(1.0), "{}", shown.text);
    let (labels, _) = shown.family("aws_iot_jobs").next().expect("a row");
    assert_eq!(labels["aws_account_id"], role_account.as_str());
    assert_eq!(shown.jobs().values().sum::<f64>(), 7.0);

    let exporter = Exporter::start(simulator, |config| config.targets = targets("not-it")).await;
    let shown = exporter.listed(1).await;
    assert_eq!((shown.up(), shown.failures("open_jobs", "denied")), (Some(0.0), Some(1.0)), "{}", shown.text);
}

#[tokio::test(start_paused = true)]
async fn failures_of_sts_have_their_reasons_too() {
    for (code, name, reason) in [
        (400, "Throttling", "throttled"),
        (503, "ServiceUnavailable", "unavailable"),
        (403, "InvalidClientTokenId", "credentials"),
    ] {
        let simulator = simulated(jobs(1));
        simulator.intercept(move |call| {
            let asked = call.operation == Operation::GetCallerIdentity;
            asked.then(|| simulator::sts_error(status(code), name, "no"))
        });
        let shown = Exporter::start(simulator, |_| {}).await.listed(1).await;
        assert_eq!((shown.failures("open_jobs", reason), shown.up()), (Some(1.0), Some(0.0)), "{name}");
    }
    let exporter = Exporter::start(simulated(jobs(1)), |_| {}).await;
    exporter.wire.decide(|request| if request.uri().path() == "/" { Fate::Breaks } else { Fate::Arrives });
    assert_eq!(exporter.listed(1).await.failures("open_jobs", "network"), Some(1.0));
}

/// Credentials that are good for an hour, and different each time they are asked for.
#[derive(Clone, Debug)]
struct Fresh(Arc<AtomicU64>);

impl ProvideCredentials for Fresh {
    fn provide_credentials<'a>(&'a self) -> ProvidedCredentials<'a>
    where
        Self: 'a,
    {
        let key = format!("AKIAFRESH{:011}", self.0.fetch_add(1, Ordering::Relaxed));
        let expiry = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(u32::MAX));
        ProvidedCredentials::ready(Ok(Credentials::new(key, "secret", None, Some(expiry), "test")))
    }
}

#[tokio::test(start_paused = true)]
async fn sts_and_iot_are_asked_by_one_and_the_same_identity() {
    let simulator = simulated(jobs(3));
    for n in 0..10 {
        simulator.add_access_key(&account(), &format!("AKIAFRESH{n:011}"));
    }
    let credentials = Fresh(Arc::default());
    let provider = SharedCredentialsProvider::new(credentials.clone());
    let exporter = Exporter::start_as(simulator, Some(provider), |_| {}).await;
    assert_eq!(exporter.listed(3).await.up(), Some(1.0));
    assert_eq!(credentials.0.load(Ordering::Relaxed), 1, "credentials that are good are not asked for again");
    assert_eq!(exporter.simulator.requests(Operation::GetCallerIdentity), 1);
}

#[tokio::test(start_paused = true)]
async fn before_their_account_is_known_targets_with_the_same_credentials_share_a_budget() {
    let exporter = Exporter::start(simulated(jobs(1)), |config| {
        config.limits.requests_per_second = 1.0;
        config.targets = ["a", "b", "c", "d"].map(|name| target(name, "http://simulator.test")).to_vec();
    })
    .await;
    exporter.listed(1).await;
    let asked = exporter.wire.releases("/");
    assert_eq!(asked.len(), 4);
    for pair in asked.windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_secs(1), "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_account_is_asked_for_again_when_the_identity_of_the_credentials_changes() {
    const ROTATED: &str = "AKIAROTATEDROTATED00";
    const OF_ANOTHER: &str = "AKIAANOTHERANOTHER00";
    let another = AccountId::parse("210987654321").expect("an account id");
    let simulator = simulated(jobs(600));
    simulator.add_access_key(&account(), ROTATED);
    simulator.add_access_key(&another, OF_ANOTHER);
    simulator.set_fleet(&another, REGION, Fleet::new(jobs(7), []));
    let credentials = Rotating::new();
    let provider = SharedCredentialsProvider::new(credentials.clone());
    let exporter = Exporter::start_as(simulator, Some(provider), list_only).await;
    let asked = || exporter.simulator.requests(Operation::GetCallerIdentity);
    exporter.listed(2).await;
    assert_eq!(asked(), 1);

    credentials.set(ROTATED);
    let shown = exporter.listed(3).await;
    assert_eq!((shown.up(), asked()), (Some(1.0), 2), "a new key of the same account is no failure");

    credentials.set(OF_ANOTHER);
    // The first page after the change is already another account's, so that walk must not be published as this one's.
    let shown = exporter.listed(4).await;
    let failures = shown.failures("open_jobs", "account_mismatch");
    assert_eq!((shown.up(), failures), (Some(0.0), Some(1.0)), "{}", shown.text);
    assert_eq!(shown.jobs().values().sum::<f64>(), 600.0);

    let accounts = |shown: &Exposition| -> BTreeSet<String> {
        shown.family("aws_iot_jobs").map(|(labels, _)| labels["aws_account_id"].clone()).collect()
    };
    let shown = exporter
        .until(|shown| {
            assert!(accounts(shown).len() <= 1, "{}", shown.text);
            accounts(shown).contains(another.as_str()) && shown.jobs().values().sum::<f64>() == 7.0
        })
        .await;
    assert_eq!(shown.up(), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn the_status_page_shows_the_error_of_a_failed_walk_as_text() {
    let exporter = Exporter::start(simulated(jobs(20)), |_| {}).await;
    exporter.listed(1).await;
    list_jobs(&exporter.simulator, |_| Some(simulator::error(status(403), "AccessDeniedException", "<b>no</b>")));
    exporter.listed(2).await;
    let body = exporter.get("/").await.into_body().into_bytes().to_vec();
    let page = String::from_utf8(body).expect("text");
    assert!(page.contains("failed (denied)") && page.contains("&lt;b&gt;no&lt;/b&gt;"), "{page}");
    assert!(!page.contains("<b>no"), "{page}");
}

#[tokio::test(start_paused = true)]
async fn no_scrape_page_or_api_calls_aws() {
    let exporter = Exporter::start(simulated(jobs(20)), |_| {}).await;
    exporter.described().await;
    let before = exporter.simulator.total_requests();
    for _ in 0..50 {
        exporter.scrape().await;
        for path in ["/", "/jobs/t/job-000000", "/api/v1/status", "/api/v1/jobs", "/api/v1/jobs/t/job-000000"] {
            exporter.get(path).await;
        }
    }
    assert_eq!(exporter.simulator.total_requests(), before);
}

#[tokio::test(start_paused = true)]
async fn an_access_key_that_aws_does_not_know_is_a_failure_of_credentials() {
    // What the rest of this file stands on, too: the simulator refuses keys that it does not know.
    let simulator = Simulator::new();
    simulator.add_access_key(&account(), "AKIASOMEBODYELSE0000");
    let exporter = Exporter::start(simulator, |_| {}).await;
    assert_eq!(exporter.listed(1).await.failures("open_jobs", "credentials"), Some(1.0));
}
