//! What a day costs: the estimate is held against a day, and the program tells it.

use std::time::Duration;

use aws_iot_jobs_exporter::clock::Clock;
use aws_iot_jobs_exporter::config::{Config, Target};
use aws_iot_jobs_exporter::estimate::{self, Estimate, Progress};
use aws_iot_jobs_exporter::job::{Scope, Status};
use aws_iot_jobs_exporter::simulator::{Fault, Job, Operation, Role, Rule, Script, Simulator};
use serde_json::Value;
use tokio::time::timeout;

use crate::process::{pointed_at, program};
use crate::support::{Endpoint, Exporter, Exposition, NOW, account, jobs, simulator, target};

const DAY: Duration = Duration::from_hours(24);

fn requests(shown: &Exposition, operation: &str) -> f64 {
    let rows = shown.family("aws_iot_jobs_exporter_api_requests_total");
    rows.filter(|(labels, _)| labels["operation"] == operation).map(|(_, count)| count).sum()
}

/// Lets an exporter run for a day, and estimates the same.
async fn a_day(simulator: Simulator, configure: impl Fn(&mut Config)) -> (Exposition, Estimate) {
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

fn assert_close(counted: f64, estimated: u64, what: &str) {
    let ratio = estimated as f64 / counted;
    assert!((0.98..1.02).contains(&ratio), "{what}: {estimated} estimated, {counted} in a day");
}

/// 600 jobs, 20 of which are open.
fn fleet() -> Vec<Job> {
    let mut fleet = jobs(600);
    for job in &mut fleet[..20] {
        job.status = Status::InProgress;
    }
    fleet
}

#[tokio::test(start_paused = true)]
async fn a_day_takes_the_requests_that_are_estimated() {
    let (shown, estimate) = a_day(simulator(fleet()), |config| config.refresh.interval = Duration::from_mins(5)).await;
    let day = &estimate.targets[0];
    assert_eq!((day.walked.pages, day.walked.open_jobs, day.walked.jobs), (3, 20, 600));
    assert_close(requests(&shown, "ListJobs"), day.requests_per_day["ListJobs"], "ListJobs");
    let described = requests(&shown, "DescribeJob") - day.describe_requests_after_start as f64;
    assert!(day.describe_requests_after_start > 500, "{day:?}");
    assert_close(described, day.requests_per_day["DescribeJob"], "DescribeJob");
    let refreshes = shown.value("aws_iot_jobs_exporter_refreshes_total", &[]).expect("refreshes");
    assert!((day.refreshes_per_day / refreshes - 1.0).abs() < 0.02, "{refreshes} refreshes, {day:?}");
}

#[tokio::test(start_paused = true)]
async fn a_day_of_refreshes_that_are_slower_than_the_interval_is_estimated_too() {
    let (shown, estimate) = a_day(simulator(fleet()), |config| {
        config.limits.requests_per_second = 0.1;
        config.thing_groups.ended_jobs_within = Duration::ZERO;
    })
    .await;
    let day = &estimate.targets[0];
    assert!(day.seconds_between_refreshes >= 400.0, "{day:?}");
    for operation in ["ListJobs", "DescribeJob"] {
        assert_close(requests(&shown, operation), day.requests_per_day[operation], operation);
    }
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

#[tokio::test]
async fn the_estimate_is_a_table_for_people_and_leaves_out_nothing_that_was_asked() {
    let (code, table, errors) = estimated(simulator(fleet()), &["--quota=10", "--quota=DescribeJob=20"]).await;
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    for text in
        ["600", "DescribeJob", "One walk", "Requests a day", "of the quota", "50 %", "25 %", "jobs.describe: false"]
    {
        assert!(table.contains(text), "no {text:?} in\n{table}");
    }
    assert!(table.lines().all(|line| line.chars().count() <= 120), "{table}");
}

#[tokio::test]
async fn the_estimate_is_json_for_machines_and_names_the_targets_that_are_not_in_it() {
    let simulator = simulator(fleet());
    let role = Role::new(account(), "reader").with_external_id("between-us");
    let arn = role.arn();
    simulator.add_role(role);
    simulator.set_script(Script::new([Rule::new(Fault::Error503).on(Operation::ListJobs).times(1)]));
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let text = format!(
        "targets:\n- {{name: as-role, role_arn: '{arn}', external_id: between-us}}\n- {{name: nowhere, endpoint_url: \
         'http://127.0.0.1:1'}}\n"
    );
    std::fs::write(file.path(), text).expect("a written file");
    let path = file.path().to_str().expect("a path of UTF-8");
    let (code, json, errors) = estimated(simulator, &["--output=json", "--config.file", path]).await;
    assert_eq!(code, Some(1), "{errors}");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let [target] = json["targets"].as_array().expect("targets").as_slice() else { panic!("{json}") };
    assert_eq!(target["target"], "as-role");
    assert_eq!((&target["pages"], &target["retries"]), (&Value::from(3), &Value::from(1)));
    // A session of a role lasts for an hour.
    for operation in ["AssumeRole", "GetCallerIdentity"] {
        assert_eq!(target["requests_per_day"][operation], 24, "{operation}");
    }
    assert_eq!(json["failed"][0]["target"], "nowhere");
    assert!(errors.contains("not in it: target nowhere: account id: ") && errors.contains("refused"), "{errors}");
}
