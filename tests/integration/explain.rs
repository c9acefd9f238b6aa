//! `explain`, as a program against the simulator.

use aws_iot_jobs_exporter::http::StatusCode;
use aws_iot_jobs_exporter::jobs::{Status, Timestamp};
use aws_iot_jobs_exporter::simulator::{self, Job, Operation, Scheduling, Simulator};
use serde_json::Value;

use crate::api::rollout;
use crate::describing::{ended, open};
use crate::process::{pointed_at, program};
use crate::support::{Endpoint, NOW, simulator as simulated};

/// What the command prints, its errors, and its exit status.
async fn explained(simulator: Simulator, arguments: &[&str]) -> (String, String, Option<i32>) {
    let endpoint = Endpoint::start(simulator).await;
    let mut all = vec!["explain"];
    all.extend(arguments);
    let output = pointed_at(program(&all), &endpoint).output().await.expect("an end");
    let [printed, errors] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8"));
    (printed, errors, output.status.code())
}

#[tokio::test]
async fn a_job_that_is_not_done_is_explained_with_its_things_and_what_to_do() {
    let (text, errors, status) = explained(simulated([rollout("fw-1"), open("idle")]), &["fw-1"]).await;
    assert_eq!((errors.as_str(), status), ("", Some(0)));
    for part in [
        "Job fw-1 of target eu-west-1",
        "1 QUEUED, 6 SUCCEEDED, 3 FAILED",
        "90.0 % of all, failed 30.0 %",
        "ring:early, 10 single things",
        "press-0  QUEUED",
        "1 execution is not started. press-0 has not started it for",
        "3 executions failed, timed out or were rejected: 30.0 % of all.",
        "aws iot list-job-executions-for-job --region eu-west-1 --job-id fw-1 --status QUEUED",
        "#/jobhub/fw-1",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let (json, _, _) = explained(simulated([rollout("fw-1")]), &["fw-1", "--output=json"]).await;
    let explanation: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(explanation[0]["things"][0]["thing"], "press-0");
    assert_eq!(explanation[0]["executions"]["FAILED"], 3);
    assert_eq!(explanation[0]["in_progress_timeout_seconds"], Value::Null);
}

#[tokio::test]
async fn the_reason_follows_from_the_status() {
    let scheduled = Job::new("later", Status::Scheduled, NOW)
        .scheduled(Scheduling { start_time: Some(Timestamp::from_secs(4_070_944_800)), ..Scheduling::default() });
    for (job, reason) in [
        (scheduled, "It starts at 2099-01-01T10:00:00Z."),
        (ended("done", std::time::Duration::from_hours(1)), "It is done: it ended"),
        (open("empty"), "No execution is open."),
    ] {
        let id = job.id.clone();
        let (text, errors, _) = explained(simulated([job]), &[&id]).await;
        assert!(text.contains(reason), "{id}: {text}{errors}");
    }
}

#[tokio::test]
async fn a_job_that_does_not_exist_or_is_denied_is_an_error_that_says_so() {
    let (text, errors, status) = explained(simulated([]), &["none"]).await;
    assert_eq!((text.as_str(), status), ("", Some(1)));
    assert!(errors.contains("AWS has no job none; asked in eu-west-1"), "{errors}");
    let (_, errors, status) = explained(simulated([open("fw-1")]), &["fw-1", "--target=other"]).await;
    assert_eq!(status, Some(1));
    assert!(errors.contains("there is no target other; there are eu-west-1"), "{errors}");

    let simulator = simulated([rollout("fw-1")]);
    simulator.intercept(|call| {
        (call.operation == Operation::ListJobExecutionsForJob)
            .then(|| simulator::error(StatusCode::FORBIDDEN, "AccessDeniedException", "no"))
    });
    let (text, _, status) = explained(simulator, &["fw-1"]).await;
    assert_eq!(status, Some(0), "what is known is printed");
    assert!(text.contains("Not all is known about its executions: ListJobExecutionsForJob on 127.0.0.1"), "{text}");
    assert!(text.contains("unknown") && !text.contains("press-0"), "{text}");

    let simulator = simulated([rollout("fw-1")]);
    simulator.intercept(|call| {
        (call.operation == Operation::DescribeJob)
            .then(|| simulator::error(StatusCode::FORBIDDEN, "AccessDeniedException", "no"))
    });
    let (text, errors, status) = explained(simulator, &["fw-1"]).await;
    assert_eq!((text.as_str(), status), ("", Some(1)));
    assert!(errors.contains("DescribeJob on 127.0.0.1") && errors.contains("AccessDenied"), "{errors}");
}

#[tokio::test]
async fn a_target_without_a_region_does_not_keep_the_others_from_being_asked() {
    let endpoint = Endpoint::start(simulated([rollout("fw-1")])).await;
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "targets: [{name: none}, {name: good, region: eu-west-1}]").expect("a written file");
    let path = format!("--config.file={}", file.path().display());
    for (arguments, status, error) in [(vec!["--target=good"], Some(0), ""), (vec![], Some(1), "no AWS region")] {
        let mut command = pointed_at(program(&[&["explain", "fw-1", &path], &arguments[..]].concat()), &endpoint);
        let output = command.env_remove("AWS_REGION").output().await.expect("an end");
        let [printed, errors] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8"));
        assert!(printed.contains("Job fw-1 of target good"), "{printed}{errors}");
        assert_eq!(output.status.code(), status, "{errors}");
        assert!(errors.contains(error), "{errors}");
    }
}

#[tokio::test]
async fn what_is_no_job_id_is_refused_without_asking_aws() {
    for id in ["", "a/b c"] {
        let (text, errors, status) = explained(simulated([rollout("fw-1")]), &[id]).await;
        assert_eq!((text.as_str(), status), ("", Some(64)));
        assert!(errors.contains("is not a job id"), "{errors}");
    }
}
