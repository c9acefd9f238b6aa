//! `doctor`, as a program against the simulator.

use std::borrow::BorrowMut;

use aws_iot_jobs_exporter::http::StatusCode;
use aws_iot_jobs_exporter::simulator::{self, Fault, Operation, Role, Rule, Script, Simulator};
use tokio::process::Command;

use crate::describing::open;
use crate::process::{pointed_at, program};
use crate::support::{Endpoint, account, free_port, shipped, simulator as simulated};

/// What the command prints, and its exit status.
struct Report {
    text: String,
    status: Option<i32>,
}

impl Report {
    async fn of(command: impl BorrowMut<Command>) -> Self {
        let mut command = command;
        let output = command.borrow_mut().output().await.expect("an end");
        let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
        Self { text, status: output.status.code() }
    }

    async fn of_endpoint(simulator: Simulator) -> Self {
        let endpoint = Endpoint::start(simulator).await;
        Self::of(pointed_at(program(&["doctor"]), &endpoint)).await
    }

    /// The line of a check: its result, and what it says.
    #[track_caller]
    fn line(&self, subject: &str) -> &str {
        let of_subject = |line: &&str| line.trim_start().split(' ').next() == Some(subject);
        self.text
            .lines()
            .find(of_subject)
            .unwrap_or_else(|| panic!("no line of {subject} in {}", self.text))
            .trim_start()
    }

    #[track_caller]
    fn expect(&self, subject: &str, result: &str, parts: &[&str]) {
        let line = self.line(subject);
        assert_eq!(line.split_whitespace().nth(1), Some(result), "{line}");
        for part in parts {
            assert!(line.contains(part), "{part} is not in: {line}");
        }
    }
}

/// The command for an endpoint that is not the simulator.
fn doctor_for(url: &str) -> Command {
    let mut command = program(&["doctor"]);
    command.env("AWS_REGION", "eu-west-1").env("AWS_ENDPOINT_URL", url);
    command.env("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST").env("AWS_SECRET_ACCESS_KEY", "secret");
    command
}

fn denying(jobs: impl IntoIterator<Item = simulator::Job>, operation: Operation) -> Simulator {
    let simulator = simulated(jobs);
    simulator.intercept(move |call| {
        (call.operation == operation).then(|| simulator::error(StatusCode::FORBIDDEN, "AccessDeniedException", "no"))
    });
    simulator
}

#[tokio::test]
async fn a_target_without_a_fault_has_a_line_for_each_check() {
    let endpoint = Endpoint::start(simulated([open("fw-1")])).await;
    let mut command = pointed_at(program(&["doctor"]), &endpoint);
    command.env("IOT_JOBS_EXPORTER_COLLECTORS__TAGS__KEYS", "[team]");
    let report = Report::of(command).await;
    report.expect("configuration", "ok", &["1 target", "no file"]);
    report.expect("proxy", "ok", &["none for this endpoint"]);
    report.expect("region", "ok", &["eu-west-1"]);
    report.expect("credentials", "ok", &["AWS_ACCESS_KEY_ID in the environment"]);
    report.expect("identity", "ok", &["arn:aws:iam::012345678901:", "account 012345678901"]);
    report.expect("endpoint", "ok", &["127.0.0.1:", " answered after"]);
    report.expect("clock", "ok", &["s apart from AWS"]);
    let operations = ["iot:ListJobs", "iot:DescribeJob", "iot:ListJobExecutionsForJob", "iot:ListTagsForResource"];
    for operation in operations {
        report.expect(operation, "ok", &["allowed"]);
    }
    assert!(report.text.ends_with("\nNo fault.\n"), "{}", report.text);
    assert_eq!(report.status, Some(0));
}

#[tokio::test]
async fn only_the_permissions_that_the_configuration_needs_are_checked() {
    let endpoint = Endpoint::start(simulated([open("fw-1")])).await;
    let mut command = pointed_at(program(&["doctor"]), &endpoint);
    let report = Report::of(command.env("IOT_JOBS_EXPORTER_COLLECTORS__DETAILS__ENABLED", "false")).await;
    assert!(report.text.contains("iot:ListJobs ") && !report.text.contains("iot:DescribeJob"), "{}", report.text);
    assert!(!report.text.contains("iot:ListTagsForResource"), "{}", report.text);
}

#[tokio::test]
async fn without_credentials_the_searched_sources_are_named() {
    let endpoint = Endpoint::start(simulated([])).await;
    let mut command = pointed_at(program(&["doctor"]), &endpoint);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let report = Report::of(command).await;
    report.expect("credentials", "FAULT", &["no credentials in the environment", "Fix: give the exporter valid"]);
    report.expect("iot:DescribeJob", "skipped", &["without credentials"]);
    assert!(report.text.ends_with("\n1 fault.\n"), "{}", report.text);
    assert_eq!(report.status, Some(1));
}

#[tokio::test]
async fn the_profile_of_the_credentials_is_named() {
    let simulator = simulated([open("fw-1")]);
    simulator.add_role(Role::new(account(), "monitoring"));
    let endpoint = Endpoint::start(simulator).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let profile = "[profile plants]\naws_access_key_id = AKIATESTTESTTESTTEST\naws_secret_access_key = secret\n\
                   [profile role]\nsource_profile = plants\nrole_arn = arn:aws:iam::012345678901:role/monitoring\n";
    std::fs::write(folder.path().join("config"), profile).expect("a written file");
    let of_profile = async |profile: &str| {
        let mut command = pointed_at(program(&["doctor"]), &endpoint);
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        Report::of(command.env("AWS_CONFIG_FILE", folder.path().join("config")).env("AWS_PROFILE", profile)).await
    };
    of_profile("plants").await.expect("credentials", "ok", &["the access key of profile \"plants\"", "config"]);
    let report = of_profile("role").await;
    report.expect("credentials", "ok", &["profile \"plants\"", "then role arn:aws:iam::012345678901:role/monitoring"]);
    report.expect("identity", "ok", &["assumed-role/monitoring"]);
}

#[tokio::test]
async fn a_region_without_jobs_is_a_warning() {
    let report = Report::of_endpoint(simulated([])).await;
    report.expect(
        "iot:ListJobs",
        "warning",
        &["no jobs are on the first page in eu-west-1: is this the right region?"],
    );
    report.expect("iot:DescribeJob", "ok", &["not denied (tested with a job that does not exist)"]);
    assert_eq!(report.status, Some(0));
    let endpoint = Endpoint::start(simulated([open("fw-1")])).await;
    let mut command = pointed_at(program(&["doctor"]), &endpoint);
    let other = Report::of(command.env("AWS_REGION", "eu-west-2")).await;
    other.expect("iot:ListJobs", "warning", &["no jobs are on the first page in eu-west-2: is this the right region?"]);
    let mut command = pointed_at(program(&["doctor"]), &endpoint);
    let none = Report::of(command.env_remove("AWS_REGION")).await;
    none.expect("region", "FAULT", &["no AWS region", "AWS_REGION"]);
    assert_eq!(none.status, Some(1));
}

#[tokio::test]
async fn a_denied_operation_is_named_with_the_policy_that_allows_it() {
    for (operation, policy) in [
        (Operation::ListJobs, "counts.json"),
        (Operation::DescribeJob, "details.json"),
        (Operation::ListJobExecutionsForJob, "executions.json"),
    ] {
        let report = Report::of_endpoint(denying([open("fw-1")], operation)).await;
        let subject = format!("iot:{}", operation.as_str());
        let parts = ["AccessDeniedException", "127.0.0.1", &format!("Fix: grant {subject}"), policy];
        report.expect(&subject, "FAULT", &parts);
        report.expect("endpoint", "ok", &[]);
        assert!(shipped("config/iam").join(policy).exists(), "{policy}");
        assert!(report.text.ends_with("\n1 fault.\n"), "{}", report.text);
        assert_eq!(report.status, Some(1));
    }
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_is_named() {
    let report = Report::of(doctor_for(&format!("http://127.0.0.1:{}", free_port()))).await;
    report.expect("endpoint", "FAULT", &["ListJobs on 127.0.0.1", "Connection refused", "Fix: check endpoint_url"]);
    report.expect("clock", "skipped", &["does not answer"]);
    report.expect("identity", "skipped", &["does not answer"]);
    assert_eq!(report.status, Some(1));
}

#[tokio::test]
async fn a_clock_that_is_an_hour_behind_is_named() {
    let simulator = simulated([open("fw-1")]);
    simulator.set_script(Script::new([Rule::new(Fault::ClockSkew)]));
    let report = Report::of_endpoint(simulator).await;
    report.expect("clock", "FAULT", &["behind AWS's", "Fix: synchronize it"]);
    let is_an_hour = ["1 h 0 min", "59 min 59 s"].iter().any(|age| report.line("clock").contains(age));
    assert!(is_an_hour, "{}", report.line("clock"));
    // As in the exporter, the SDK signs with AWS's time after the first answer.
    report.expect("iot:DescribeJob", "ok", &["allowed"]);
    report.expect("identity", "ok", &[]);
    assert!(report.text.ends_with("\n1 fault.\n"), "{}", report.text);
    assert_eq!(report.status, Some(1));
}

#[tokio::test]
async fn a_proxy_that_cannot_be_reached_is_named_without_its_password() {
    let proxy = format!("http://u:hunter2@127.0.0.1:{}", free_port());
    let mut command = doctor_for("http://iot.example.test");
    let report = Report::of(command.env("HTTP_PROXY", &proxy)).await;
    report.expect("proxy", "FAULT", &["127.0.0.1:", "Connection refused", "NO_PROXY"]);
    report.expect("endpoint", "FAULT", &["whether it allows the endpoint"]);
    assert!(!report.text.contains("hunter2"), "{}", report.text);

    // The client calls addresses of this machine directly.
    let endpoint = Endpoint::start(simulated([open("fw-1")])).await;
    let mut command = pointed_at(program(&["doctor"]), &endpoint);
    let report = Report::of(command.env("HTTP_PROXY", &proxy).env("HTTPS_PROXY", &proxy)).await;
    report.expect("proxy", "ok", &["none for this endpoint"]);
    assert_eq!(report.status, Some(0));
}

#[tokio::test]
async fn an_answer_that_is_not_of_aws_is_a_fault_of_the_endpoint() {
    let simulator = simulated([open("fw-1")]);
    simulator.set_script(Script::new([Rule::new(Fault::Html)]));
    let report = Report::of_endpoint(simulator).await;
    report.expect("endpoint", "FAULT", &["ListJobs on 127.0.0.1", "Fix: check endpoint_url or AWS_ENDPOINT_URL"]);
    report.expect("clock", "skipped", &["does not answer as AWS IoT does"]);
    assert_eq!(report.status, Some(1));
}

#[tokio::test]
async fn a_filter_without_a_match_is_no_sign_of_a_wrong_region() {
    let endpoint = Endpoint::start(simulated([open("fw-1")])).await;
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let target = "targets: [{region: eu-west-1, filter: {namespace_id: nowhere}}]";
    std::fs::write(file.path(), target).expect("a written file");
    let path = format!("--config.file={}", file.path().display());
    let report = Report::of(pointed_at(program(&["doctor", &path]), &endpoint)).await;
    report.expect("iot:ListJobs", "warning", &["no job matches targets[].filter"]);
    assert!(report.text.ends_with("\n1 warning.\n"), "{}", report.text);
}

#[tokio::test]
async fn an_invalid_configuration_is_a_fault() {
    let mut command = program(&["doctor"]);
    let report = Report::of(command.env("AWS_REGION", "EU west").env("HTTPS_PROXY", "ftp://proxy:21")).await;
    assert_eq!(report.text.matches("FAULT").count(), 2, "{}", report.text);
    assert!(
        report.text.contains("only http and https proxies") && report.text.ends_with("\n2 faults.\n"),
        "{}",
        report.text
    );
    assert_eq!(report.status, Some(1));
}

#[tokio::test]
async fn an_account_that_differs_from_the_configured_one_is_named() {
    let endpoint = Endpoint::start(simulated([open("fw-1")])).await;
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let targets =
        "targets:\n  - {name: a, region: eu-west-1, account_id: \"999999999999\"}\n  - {name: b, region: eu-west-1}\n";
    std::fs::write(file.path(), targets).expect("a written file");
    let path = format!("--config.file={}", file.path().display());
    let report = Report::of(pointed_at(program(&["doctor", &path, "--target=a"]), &endpoint)).await;
    report.expect("account", "FAULT", &["to account 012345678901", "account_id is 999999999999"]);
    assert!(!report.text.contains("target b"), "{}", report.text);
    let mut without_sts = pointed_at(program(&["doctor", &path, "--target=a"]), &endpoint);
    without_sts.env("AWS_ENDPOINT_URL_STS", format!("http://127.0.0.1:{}", free_port()));
    let report = Report::of(without_sts).await;
    report.expect("identity", "warning", &["STS is not needed, since account_id is set"]);
    report.expect("account", "FAULT", &["to account 012345678901"]);
    let report = Report::of(pointed_at(program(&["doctor", &path]), &endpoint)).await;
    assert!(report.text.contains("\ntarget a\n") && report.text.contains("\ntarget b\n"), "{}", report.text);
    let report = Report::of(pointed_at(program(&["doctor", &path, "--target=c"]), &endpoint)).await;
    assert!(report.text.contains("there is no target c; there are a, b"), "{}", report.text);
    assert_eq!(report.status, Some(1));
}
