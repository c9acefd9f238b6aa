//! What a day costs: the estimate is compared with a day of a worker, and the program prints it.

use std::ops::Range;
use std::time::Duration;

use aws_iot_jobs_exporter::aws::ClientOptions;
use aws_iot_jobs_exporter::cli::estimate::{self, Estimate, Requests, TargetDay};
use aws_iot_jobs_exporter::clock::Clock;
use aws_iot_jobs_exporter::collector::Settings;
use aws_iot_jobs_exporter::config::Config;
use aws_iot_jobs_exporter::jobs::{ExecutionStatus, Status};
use aws_iot_jobs_exporter::simulator::{Fault, Job, Operation, Role, Rule, Script, Simulator};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::collector::{Running as RunningWorker, Setup};
use crate::process::{Running, pointed_at, program};
use crate::support::{ACCESS_KEY_ID, Endpoint, NOW, REGION, Wire, account, jobs, simulator};

const DAY: Duration = Duration::from_hours(24);

/// A day of a target: the requests that a worker sent, and the estimate of before.
pub struct Day {
    pub list_jobs: f64,
    /// Without those for jobs that had ended before the start.
    pub describe_job: f64,
    pub list_executions: f64,
    pub estimate: TargetDay,
}

impl Day {
    /// Compares one of the two estimates with the requests that were sent.
    #[track_caller]
    pub fn is_accurate(&self, estimated: impl FnMut(Requests) -> f64, ratios: &Range<f64>) {
        let [list_jobs, describe_job, list_executions, _] = self.estimate.requests_per_day.map(estimated);
        let sent = [self.list_jobs, self.describe_job, self.list_executions];
        let accuracy = [list_jobs / sent[0], describe_job / sent[1], list_executions / sent[2]];
        println!("estimated / sent: {accuracy:.3?} of {sent:?} ListJobs, DescribeJob, ListJobExecutionsForJob");
        assert!(accuracy.iter().all(|ratio| ratios.contains(ratio)), "{accuracy:?}: {:?}", self.estimate);
    }
}

/// Estimates a day with this share of the open jobs active, and lets a worker run for one. Every `step` of it `change` is called.
pub async fn a_day(
    simulator: &Simulator,
    active: f64,
    configure: impl Fn(&mut Config),
    step: Duration,
    change: impl Fn(&RunningWorker, u32),
) -> Day {
    let mut config = crate::support::config("http://simulator.test");
    configure(&mut config);
    let clock = Clock::starting_at(NOW);
    let options = ClientOptions {
        http: Wire::new(simulator.clone(), clock).client(),
        ..ClientOptions::local(ACCESS_KEY_ID, "secret")
    };
    let listings = estimate::list_all(&config, &options, clock).await.expect("valid targets");
    let estimate = Estimate::new(listings, &config, active, &[]).targets.pop().expect("a complete walk");

    let requests = || {
        [Operation::ListJobs, Operation::DescribeJob, Operation::ListJobExecutionsForJob]
            .map(|operation| simulator.requests(operation))
    };
    let before = requests();
    let setup = Setup {
        rate: config.limits.requests_per_second,
        settings: Settings::new(&config, &config.targets[0]),
        ..Setup::default()
    };
    let running = RunningWorker::start_with(simulator, setup).await;
    for number in 0.. {
        if running.started.elapsed() >= DAY {
            break;
        }
        sleep(step).await;
        change(&running, number);
        running.wire.forget_releases();
    }
    let [list_jobs, describe_job, list_executions] = std::array::from_fn(|of| (requests()[of] - before[of]) as f64);
    let describe_job = describe_job - estimate.describe_requests_after_start as f64;
    Day { list_jobs, describe_job, list_executions, estimate }
}

/// Longer intervals than the default ones, so that a day takes few requests.
pub fn rare_runs(config: &mut Config) {
    let collectors = &mut config.targets[0].collectors;
    collectors.open_jobs.interval = Duration::from_mins(5);
    collectors.all_jobs.interval = Duration::from_hours(1);
    collectors.details.interval = Duration::from_mins(5);
    collectors.details.max_interval = Duration::from_mins(20);
}

/// 600 jobs, 20 of which are open and wait for a device.
pub fn fleet() -> Vec<Job> {
    let mut fleet = jobs(600);
    for job in &mut fleet[..20] {
        job.status = Status::InProgress;
        job.executions.set(ExecutionStatus::Queued, 1);
    }
    fleet
}

#[tokio::test(start_paused = true)]
async fn a_day_of_a_fleet_that_stands_still_takes_the_requests_that_are_estimated() {
    // Two pages, and few jobs: a day has thousands of requests, and each is processed with all jobs.
    let mut jobs = jobs(260);
    for job in &mut jobs[..10] {
        job.status = Status::InProgress;
        job.executions.set(ExecutionStatus::Queued, 1);
    }
    let day = a_day(&simulator(jobs), 0.1, rare_runs, DAY, |_, _| {}).await;
    let Day { estimate, .. } = &day;
    let full_walk = estimate.listed.all_jobs.expect("a full walk");
    assert_eq!((estimate.listed.open_jobs.open, full_walk.jobs, full_walk.pages), (10, 260, 2));
    assert_eq!(estimate.describe_requests_after_start, 250);
    day.is_accurate(|of| of.standing_still, &(0.95..1.05));
}

async fn estimated(simulator: Simulator, arguments: &[&str]) -> (Option<i32>, String, String) {
    let endpoint = Endpoint::start(simulator).await;
    let arguments: Vec<&str> = std::iter::once("estimate").chain(arguments.iter().copied()).collect();
    let ending = pointed_at(program(&arguments), &endpoint).output();
    let output = timeout(Duration::from_mins(1), ending).await.expect("an end").expect("a start");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn file(text: &str) -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("a written file");
    let flag = format!("--config.file={}", file.path().display());
    (file, flag)
}

#[tokio::test]
async fn the_estimate_is_a_table_for_people() {
    let arguments = ["--quota=10", "--quota=DescribeJob=20", "--active=50%"];
    let (code, table, errors) = estimated(simulator(fleet()), &arguments).await;
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let row = |first: &str| {
        let row = words.iter().find(|line| line.first() == Some(&first));
        row.unwrap_or_else(|| panic!("{table}"))[1..].join(" ")
    };
    assert_eq!(row(REGION), "(account 012345678901, region eu-west-1)");
    assert!(row("open_jobs").starts_with("20 3 ") && row("open_jobs").ends_with(" 61.5 s"), "{table}");
    assert!(row("all_jobs").starts_with("600 3 ") && row("all_jobs").ends_with(" 922.5 s"), "{table}");
    assert_eq!(row("ListJobs"), "4,496 (0.5 %) 4,496 (0.5 %)");
    assert_eq!(row("DescribeJob"), "2,880 (0.2 %) 15,840 (0.9 %)");
    assert_eq!(row("ListJobExecutionsForJob"), "1,920 (0.2 %) 1,920 (0.2 %)");
    assert!(!table.contains("ListTagsForResource"), "no tags are read: {table}");
    assert!(table.contains("$0.19 a day, $0.45 with 50 % active"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 120), "{table}");
}

#[tokio::test]
async fn the_estimate_is_json_for_machines_and_names_the_targets_that_are_not_in_it() {
    let simulator = simulator(fleet());
    let role = Role::new(account(), "reader").with_external_id("between-us");
    let arn = role.arn();
    simulator.add_role(role);
    simulator.set_script(Script::new([Rule::new(Fault::Error503).on(Operation::ListJobs).times(1)]));
    let (_file, flag) = file(&format!(
        "targets:\n- {{name: as-role, role_arn: '{arn}', external_id: between-us}}\n- {{name: nowhere, region: us-east-1, \
         endpoint_url: 'http://127.0.0.1:1'}}\n"
    ));
    let (code, json, errors) = estimated(simulator, &["--output=json", &flag]).await;
    assert_eq!(code, Some(1), "{errors}");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["active_share"], 0.1);
    let [target] = json["targets"].as_array().expect("targets").as_slice() else { panic!("{json}") };
    assert_eq!(target["target"], "as-role");
    assert_eq!((&target["all_jobs"]["jobs"], &target["all_jobs"]["pages"]), (&Value::from(600), &Value::from(3)));
    let [_, describe_job, ..] = target["requests_per_day"].as_array().expect("operations").as_slice() else {
        panic!("{json}")
    };
    assert_eq!((&describe_job["operation"], &describe_job["active"]), (&"DescribeJob".into(), &Value::from(5472.0)));
    let failed = &json["failed"][0];
    assert_eq!((&failed["target"], &failed["aws_region"]), (&Value::from("nowhere"), &Value::from("us-east-1")));
    let printed = "the estimate does not include target nowhere: account id: ";
    assert!(errors.contains(printed) && errors.contains("refused"), "{errors}");
}

#[tokio::test]
async fn the_estimate_of_a_shard_says_that_it_is_one() {
    let (_file, flag) = file("targets: [{name: a, region: eu-west-1}]\nshard: {total: 2}");
    let whole = estimated(simulator(fleet()), &[&flag, "--shard.total=1"]).await;
    assert!(whole.0 == Some(0) && !whole.1.contains("shard"), "{whole:?}");
    let mut parts = Vec::new();
    for index in ["--shard.index=0", "--shard.index=1"] {
        parts.push(estimated(simulator(fleet()), &[&flag, index]).await);
    }
    for ((code, table, errors), index) in parts.iter().zip(0..) {
        assert_eq!((*code, errors.as_str()), (Some(0), ""));
        assert!(table.starts_with(&format!("Targets of shard {index} of 2 only")), "{table}");
    }
    let empty = parts.iter().filter(|(_, table, _)| table.ends_with("No target was listed.\n"));
    assert_eq!(empty.count(), 1, "one of the two has the target");
}

#[tokio::test]
async fn an_interrupted_estimate_is_none_and_says_so() {
    for signal in ["INT", "TERM", "HUP"] {
        let simulator = simulator(fleet());
        simulator.set_script(Script::new([Rule::new(Fault::Hang).on(Operation::ListJobs)]));
        let endpoint = Endpoint::start(simulator).await;
        let mut running = Running::start(pointed_at(program(&["estimate"]), &endpoint));
        running.handles_sigterm().await;
        running.signal(signal);
        running.until("interrupted before all jobs were listed: there is no estimate").await;
        assert_eq!(running.exit_code().await, Some(1), "{signal}");
    }
}
