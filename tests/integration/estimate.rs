//! What a day costs: the estimate is held against a day, and the program tells it.

use std::time::Duration;

use aws_iot_jobs_exporter::clock::Clock;
use aws_iot_jobs_exporter::config::{Config, Target};
use aws_iot_jobs_exporter::estimate::{self, Estimate, Progress};
use aws_iot_jobs_exporter::jobs::{Scope, Status};
use aws_iot_jobs_exporter::simulator::{Fault, Job, Operation, Role, Rule, Script, Simulator};
use serde_json::Value;
use tokio::time::timeout;

use crate::process::{Running, pointed_at, program};
use crate::support::{Endpoint, Exporter, Exposition, NOW, REGION, account, jobs, simulator, target};

const DAY: Duration = Duration::from_hours(24);

pub fn requests(shown: &Exposition, operation: &str) -> f64 {
    let rows = shown.family("aws_iot_jobs_exporter_api_requests_total");
    rows.filter(|(labels, _)| labels["operation"] == operation).map(|(_, count)| count).sum()
}

/// Lets an exporter run for a day, and estimates the same.
pub async fn a_day(simulator: Simulator, configure: impl Fn(&mut Config)) -> (Exposition, Estimate) {
    let mut config = crate::support::config("http://simulator.test");
    configure(&mut config);
    let exporter = Exporter::start(simulator, configure).await;
    tokio::time::sleep(DAY).await;
    let shown = exporter.scrape().await;
    let walks =
        estimate::walk_all(&config, &exporter.access(), Clock::starting_at(NOW.after(DAY)), &Progress::new()).await;
    let walks = walks.expect("targets that can be had");
    assert_eq!(walks.failed, []);
    (shown, Estimate::new(walks, &config, &[]))
}

/// 600 jobs, 20 of which are open.
pub fn fleet() -> Vec<Job> {
    let mut fleet = jobs(600);
    for job in &mut fleet[..20] {
        job.status = Status::InProgress;
    }
    fleet
}

#[tokio::test(start_paused = true)]
async fn a_day_of_targets_that_get_into_each_others_way_is_estimated_roughly() {
    let (shown, estimate) = a_day(simulator(jobs(20)), |config| {
        config.limits.requests_per_second = 0.05;
        crate::support::walk_only(config);
        let all =
            [Status::InProgress, Status::Scheduled, Status::DeletionInProgress, Status::Completed, Status::Canceled];
        let without = |left_out: usize| {
            let mut statuses = all.to_vec();
            let name = format!("without {}", statuses.remove(left_out).as_str());
            Target { scope: Scope { statuses, ..Scope::default() }, ..target(&name, "http://simulator.test") }
        };
        config.targets = (0..4).map(without).collect();
    })
    .await;
    assert!(estimate.targets.iter().all(|day| day.walked.pages == 4), "{estimate:?}");
    let estimated: u64 = estimate.targets.iter().map(|day| day.requests_per_day["ListJobs"]).sum();
    let ratio = estimated as f64 / requests(&shown, "ListJobs");
    // How often they meet depends on when each began.
    assert!((0.9..1.1).contains(&ratio), "{ratio}: {estimated} estimated");
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
    let (code, table, errors) = estimated(simulator(fleet()), &["--quota=10", "--quota=DescribeJob=20"]).await;
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let row = |first: &[&str]| words.iter().find(|line| line.starts_with(first)).unwrap_or_else(|| panic!("{table}"));
    // A refresh each 61.5 s, of 3 pages and 20 open jobs.
    assert_eq!(row(&[REGION, "012345678901"])[3..7], ["600", "20", "0", "3"]);
    assert_eq!(row(&[REGION, "61.5"]), &[REGION, "61.5", "s", "1405", "4,215", "28,098", "32,313"]);
    let asked = |operation| row(&["012345678901", REGION, operation])[3..].join(" ");
    assert_eq!(asked("ListJobs"), "0.05/s (0.5 %) 5/s (50 %)");
    assert_eq!(asked("DescribeJob"), "0.33/s (1.6 %) 5/s (25 %)");
    assert_eq!(row(&["jobs.describe:", "false"])[2..], ["4,215", "-87", "%"]);
    assert!(table.lines().all(|line| line.chars().count() <= 90), "{table}");
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
    let [target] = json["targets"].as_array().expect("targets").as_slice() else { panic!("{json}") };
    assert_eq!(target["target"], "as-role");
    assert_eq!((&target["pages"], &target["retries"]), (&Value::from(3), &Value::from(1)));
    // A session of a role lasts for an hour.
    for operation in ["AssumeRole", "GetCallerIdentity"] {
        assert_eq!(target["requests_per_day"][operation], 24, "{operation}");
    }
    let sum: u64 =
        json["requests_per_day_by_operation"].as_object().expect("sums").values().filter_map(Value::as_u64).sum();
    assert_eq!(json["requests_per_day"], sum);
    let failed = &json["failed"][0];
    assert_eq!((&failed["target"], &failed["aws_region"]), (&Value::from("nowhere"), &Value::from("us-east-1")));
    let told = "the estimate is without target nowhere: account id: ";
    assert!(errors.contains(told) && errors.contains("refused"), "{errors}");
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
        assert!(
            table.starts_with(&format!("Of shard {index} of 2 alone; --shard.total=1 is for all targets.")),
            "{table}"
        );
    }
    let empty = parts.iter().filter(|(_, table, _)| table.ends_with("No target was walked.\n"));
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
        running.until("interrupted before all targets were walked: there is no estimate").await;
        assert_eq!(running.exit_code(Duration::from_secs(5)).await, Some(1), "{signal}");
    }
}
