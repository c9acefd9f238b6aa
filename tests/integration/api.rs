//! The JSON API and the pages of the exporter, on the paused clock.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_iot_jobs_exporter::http::StatusCode;
use aws_iot_jobs_exporter::jobs::{ExecutionStatus, Status, Timestamp};
use aws_iot_jobs_exporter::simulator::{self, Execution, Job, Operation};
use serde_json::{Value, json};

use crate::describing::{ended, open};
use crate::support::{Exporter, NOW, simulator as simulated, target, text};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// A job of ten things: one waits for two days, six succeeded, three failed.
pub fn rollout(id: &str) -> Job {
    let created = NOW.before(3 * DAY);
    let mut job = Job::new(id, Status::InProgress, created).targeting_group("ring:early").tagged("team", "ops");
    for thing in 0..10 {
        let status = match thing {
            0 => ExecutionStatus::Queued,
            1..7 => ExecutionStatus::Succeeded,
            _ => ExecutionStatus::Failed,
        };
        job = job.targeting_thing(&format!("press-{thing}")).with_execution(execution(thing, status, created));
    }
    job
}

fn execution(thing: u32, status: ExecutionStatus, created: Timestamp) -> Execution {
    let started_at = (status != ExecutionStatus::Queued).then_some(created);
    let last_updated_at = if started_at.is_some() { NOW.before(2 * DAY) } else { created };
    Execution {
        thing,
        number: 1,
        retry_attempt: 0,
        status,
        queued_at: created,
        started_at,
        last_updated_at,
        version: 1,
    }
}

async fn get(exporter: &Exporter, path: &str) -> (StatusCode, String) {
    let response = exporter.get(path).await;
    let status = response.status();
    (status, String::from_utf8(response.into_body().into_bytes().to_vec()).expect("UTF-8"))
}

pub async fn get_json(exporter: &Exporter, path: &str) -> Value {
    let (status, body) = get(exporter, path).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

async fn started() -> Exporter {
    let simulator = simulated([rollout("fw-1"), open("idle"), ended("done", HOUR)]);
    let exporter = Exporter::start(simulator, |config| {
        config.collectors.tags.keys = vec!["team".to_owned()];
        config.targets[0].collectors = config.collectors.clone();
    })
    .await;
    exporter.described().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    exporter
}

fn ids(jobs: &Value) -> Vec<&str> {
    jobs["jobs"].as_array().expect("jobs").iter().map(|job| job["job_id"].as_str().expect("an id")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_job_has_the_simulator_s_truth() {
    let exporter = started().await;
    let job = get_json(&exporter, "/api/v1/jobs/t/fw-1").await;
    assert_eq!(job["attention"], json!({ "reason": "failing", "severity": "critical" }));
    assert_eq!((&job["stuck"], &job["open_executions"]), (&json!(true), &json!(1)));
    assert_eq!(
        (&job["ended_share"], &job["succeeded_share"], &job["failed_share"]),
        (&json!(0.9), &json!(0.6), &json!(0.3))
    );
    assert_eq!((&job["executions"]["FAILED"], &job["executions"]["REJECTED"]), (&json!(3), &json!(0)));
    assert_eq!((&job["thing_groups"], &job["tags"]), (&json!(["ring:early"]), &json!({ "team": "ops" })));
    let things: Vec<&str> =
        job["things"].as_array().expect("things").iter().filter_map(|thing| thing["thing"].as_str()).collect();
    assert_eq!(things, ["press-0"]);
    assert_eq!(job["console_url"], "https://eu-west-1.console.aws.amazon.com/iot/home?region=eu-west-1#/jobhub/fw-1");
    let commands = job["commands"].as_array().expect("commands");
    assert_eq!(commands[0], "aws iot describe-job --region eu-west-1 --job-id fw-1");
    assert!(commands[1].as_str().expect("a command").ends_with("--status QUEUED"), "{commands:?}");

    let (status, page) = get(&exporter, "/jobs/t/fw-1").await;
    assert_eq!(status, StatusCode::OK);
    for part in ["press-0", "ring:early", "failing", "--status FAILED", "90.0 %", "30.0 %"] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_is_null_and_not_0() {
    let simulator = simulated([open("fw-1")]);
    simulator.intercept(|call| {
        (call.operation == Operation::DescribeJob)
            .then(|| simulator::error(StatusCode::FORBIDDEN, "AccessDeniedException", "no iot:DescribeJob"))
    });
    let exporter = Exporter::start(simulator, |_| {}).await;
    exporter.listed(1).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let job = get_json(&exporter, "/api/v1/jobs/t/fw-1").await;
    for field in
        ["executions", "open_executions", "ended_share", "failed_share", "stuck", "windowed", "attention", "result"]
    {
        assert_eq!(job[field], Value::Null, "{field}");
    }
    let status = get_json(&exporter, "/api/v1/status").await;
    assert_eq!(status["targets"][0]["health"], "denied");
    assert_eq!(status["targets"][0]["collectors"][2]["jobs"]["denied"], 1);
    let (_, page) = get(&exporter, "/").await;
    assert!(page.contains("details failed (denied)") && page.contains("1 job affected"), "{page}");
    assert!(page.contains("DescribeJob on simulator.test: AccessDeniedException"), "{page}");
}

#[tokio::test(start_paused = true)]
async fn a_target_whose_jobs_cannot_be_described_has_a_problem_and_it_is_not_known_whether_jobs_need_attention() {
    for operation in [Operation::DescribeJob, Operation::ListJobExecutionsForJob] {
        let simulator = simulated([open("fw-1"), rollout("fw-2")]);
        simulator.intercept(move |call| {
            (call.operation == operation)
                .then(|| simulator::error(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException", "try later"))
        });
        let exporter = Exporter::start(simulator, |_| ()).await;
        tokio::time::sleep(Duration::from_mins(5)).await;
        let status = get_json(&exporter, "/api/v1/status").await;
        let target = &status["targets"][0];
        let collector = if operation == Operation::DescribeJob { 2 } else { 3 };
        let failure = &target["collectors"][collector]["failure"];
        assert_eq!(failure["reason"], "unavailable", "{target}");
        assert!(failure["runs"].as_u64() > Some(1) && failure["since"].is_string(), "{failure}");
        assert_eq!(status["summary"]["jobs_need_attention_is_minimum"], true);
        let (_, page) = get(&exporter, "/").await;
        assert!(page.contains(&format!("{} on simulator.test: ServiceUnavailable", operation.as_str())), "{page}");
        assert!(page.contains("affected"), "{page}");
        if operation == Operation::DescribeJob {
            assert_eq!(target["health"], "requests_failing");
            assert!(page.contains("1 of 1 target with problems · not known whether jobs need attention"), "{page}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn jobs_are_filtered_and_those_that_need_attention_come_first() {
    let exporter = started().await;
    for (query, expected) in [
        ("", vec!["fw-1", "idle", "done"]),
        ("?attention=true", vec!["fw-1"]),
        ("?attention=false&status=IN_PROGRESS", vec!["idle"]),
        ("?status=COMPLETED&status=CANCELED", vec!["done"]),
        ("?group=ring%3Aearly", vec!["fw-1"]),
        ("?target=other", vec![]),
        ("?target=other&target=t", vec!["fw-1", "idle", "done"]),
    ] {
        let jobs = get_json(&exporter, &format!("/api/v1/jobs{query}")).await;
        assert_eq!(ids(&jobs), expected, "{query}");
    }
    let (status, body) = get(&exporter, "/api/v1/jobs?state=x").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("is not a filter: use target, status, group or attention"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn a_failing_target_comes_first_with_its_cause_since_when_and_the_next_try() {
    let simulator = simulated([open("fw-1")]);
    simulator.intercept(|call| {
        (call.operation == Operation::ListJobs && call.region == "eu-west-2")
            .then(|| simulator::error(StatusCode::FORBIDDEN, "AccessDeniedException", "no iot:ListJobs"))
    });
    let exporter = Exporter::start(simulator, |config| {
        config.targets = vec![target("fine", "http://simulator.test"), target("broken", "http://simulator.test")];
        config.targets[1].region = Some("eu-west-2".to_owned());
    })
    .await;
    tokio::time::sleep(Duration::from_mins(3)).await;
    let status = get_json(&exporter, "/api/v1/status").await;
    let first = &status["targets"][0];
    assert_eq!((&first["target"], &first["health"]), (&json!("broken"), &json!("failing")));
    assert_eq!(status["summary"]["targets_with_problems"], 1);
    let failure = &first["collectors"][0]["failure"];
    assert_eq!(failure["reason"], "denied");
    assert!(failure["runs"].as_u64().expect("a number") >= 2, "{failure}");
    assert!(failure["since"].is_string() && first["collectors"][0]["next_run_seconds"].is_u64(), "{first}");
    assert_eq!(first["open_jobs"], Value::Null);
    let (_, page) = get(&exporter, "/").await;
    assert!(page.contains("1 of 2 targets with problems"), "{page}");
    let cause = page.find("open_jobs and all_jobs failed (denied)").expect("the cause");
    assert!(cause < page.find(">fine<").expect("the other target"));
}

#[tokio::test(start_paused = true)]
async fn the_first_walk_shows_how_far_it_is() {
    let simulator = simulated((0..1000).map(|n| ended(&format!("job-{n}"), HOUR)));
    let exporter = Exporter::start(simulator, |config| config.limits.requests_per_second = 0.1).await;
    // A request starts every 10 s. At 55 s none is due, so both answers show the same walk.
    tokio::time::sleep(Duration::from_secs(55)).await;
    let status = get_json(&exporter, "/api/v1/status").await;
    let walk = &status["targets"][0]["collectors"][1]["first_walk"];
    let (pages, jobs) = (walk["pages"].as_u64().expect("pages"), walk["jobs"].as_u64().expect("jobs"));
    assert!((1..4).contains(&pages), "{status}");
    assert_eq!(jobs, pages * 250);
    let (_, page) = get(&exporter, "/").await;
    assert!(page.contains(&format!("first walk: page {}", pages + 1)), "{page}");
}

#[tokio::test(start_paused = true)]
async fn requests_of_the_last_hour_stand_beside_the_rate() {
    let exporter = started().await;
    let status = get_json(&exporter, "/api/v1/status").await;
    let requests = status["targets"][0]["requests_last_hour"].as_array().expect("requests");
    let described = requests.iter().find(|request| request["operation"] == "DescribeJob").expect("descriptions");
    assert!(described["requests"].as_u64().expect("a number") >= 2, "{described}");
    assert_eq!(described["throttled"], 0);
    assert!(described["limit_per_second"].as_f64().expect("a rate") > 0.0);
}

#[tokio::test(start_paused = true)]
async fn paths_that_do_not_exist_name_the_right_one() {
    let exporter = started().await;
    for (path, right) in [
        ("/metrics/", "The metrics are at /metrics."),
        ("/health", "Use /-/healthy."),
        ("/healthz", "Use /-/healthy."),
        ("/ready", "Use /-/ready."),
        ("/nothing", "Not found."),
        ("/api/v1/jobs/t/none", "this target shows no job with this id"),
        ("/jobs/t/none", "this target shows no job with this id"),
    ] {
        let (status, body) = get(&exporter, path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert!(body.contains(right), "{path}: {body}");
    }
}

/// The names of all fields in a value, without those of maps whose keys are data.
fn fields(value: &Value, found: &mut BTreeSet<String>) {
    const DATA: &[&str] = &["executions", "tags"];
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                found.insert(name.clone());
                if !DATA.contains(&name.as_str()) {
                    fields(value, found);
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| fields(value, found)),
        _ => {}
    }
}

#[tokio::test(start_paused = true)]
async fn the_documentation_has_every_field_and_no_other() {
    let exporter = started().await;
    let mut found = BTreeSet::new();
    for path in ["/api/v1/status", "/api/v1/jobs"] {
        fields(&get_json(&exporter, path).await, &mut found);
    }
    // These occur in other states of a target.
    found.extend(
        ["reason", "message", "advice", "since", "runs", "pages", "seconds", "severity", "failing", "denied"]
            .map(str::to_owned),
    );
    let page = text("docs/api.md");
    let words: BTreeSet<String> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .flat_map(|code| code.split(['.', ',', ' ']))
        .map(|word| word.trim_end_matches("[]").to_owned())
        .collect();
    let missing: Vec<&String> = found.iter().filter(|field| !words.contains(*field)).collect();
    assert!(missing.is_empty(), "docs/api.md does not have {missing:?}");
    let rows = page.lines().filter(|line| line.starts_with("| `") && line.matches(" | ").count() >= 2);
    for row in rows {
        let cell = row.trim_start_matches("| ").split(" | ").next().expect("a cell");
        for name in cell.split('`').skip(1).step_by(2) {
            let last = name.rsplit('.').next().expect("a name").trim_end_matches("[]");
            assert!(found.contains(last), "docs/api.md has {name}, which no answer has");
        }
    }
}
