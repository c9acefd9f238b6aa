//! Clients that nobody here wrote, in Python: boto3 reads the simulator, the official parser reads the exposition.

use aws_iot_jobs_exporter::config::{self, Sources};
use aws_iot_jobs_exporter::jobs::AccountId;
use aws_iot_jobs_exporter::simulator::{Fleet, Role};

use super::settled;
use super::tools::{newer_tool, python, tool};
use crate::support::{
    ACCESS_KEY_ID, Endpoint, Listening, NOW, REGION, account, config, output, shipped, simulator as simulated, target,
    text,
};

pub fn script(name: &str) -> String {
    format!("{}/tests/python/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_reads_every_answer_of_the_simulator_under_the_real_service_model() {
    let simulator = simulated([]);
    simulator.set_fleet(&account(), REGION, Fleet::seeded(11, 1234, NOW));
    let role = Role::new(AccountId::parse("210987654321").expect("an account id"), "checker").with_external_id("check");
    let arn = role.arn();
    simulator.add_role(role);
    let endpoint = Endpoint::start(simulator).await;
    let printed = output(python().arg(script("check_simulator.py")).arg(endpoint.url()).args([
        "--region",
        REGION,
        "--access-key-id",
        ACCESS_KEY_ID,
        "--role-arn",
        &arn,
        "--external-id",
        "check",
    ]));
    assert!(printed.lines().count() > 10, "the script checked next to nothing:\n{printed}");
}

#[test]
fn the_aws_cli_runs_every_command_of_the_runbooks_against_the_simulator() {
    let runbooks = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbooks");
    let program = env!("CARGO_BIN_EXE_aws-iot-jobs-exporter");
    let printed = output(python().arg(script("run_runbooks.py")).args([program, runbooks]));
    let calls = printed.lines().last().and_then(|line| line.split(' ').next()?.parse::<u32>().ok());
    assert!(calls.is_some_and(|calls| calls > 20), "next to nothing was run:\n{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_parser_reads_both_formats_and_finds_the_same_samples() {
    let simulator = simulated([]);
    simulator.set_fleet(&account(), REGION, Fleet::seeded(12, 700, NOW));
    let endpoint = Endpoint::start(simulator).await;
    let mut config = config(&endpoint.url());
    config.targets.extend(["quo\"te\\back\nline", "third"].map(|name| target(name, &endpoint.url())));
    let listening = Listening::start(config).await;
    settled(&listening).await;
    let printed = output(python().arg(script("check_exposition.py")).arg(listening.url("/metrics")));
    assert!(printed.contains("samples are the same"), "{printed}");
}

#[test]
fn a_json_schema_validator_underlines_what_is_wrong_in_a_configuration_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let (example, printed) = (folder.path().join("example.yml"), folder.path().join("printed.yml"));
    let sample = text("config/exporter.yml");
    let lines = sample.lines().filter(|line| *line != "  - {}");
    let uncommented: String =
        lines.map(|line| if line.starts_with("#  ") { &line[1..] } else { line }.to_owned() + "\n").collect();
    std::fs::write(&example, uncommented).expect("a file");
    let effective = config::load_without_web(&Sources::default()).expect("the defaults").effective;
    std::fs::write(&printed, effective.to_yaml()).expect("a file");
    let mut command = python();
    command.arg(script("check_schema.py")).arg(shipped("config/exporter.schema.json"));
    let checked = output(command.arg(shipped("config/exporter.yml")).args([example, printed]));
    assert!(checked.starts_with("3 files"), "{checked}");
}

#[test]
fn the_dashboards_are_those_that_their_script_makes() {
    output(tool("python3").arg(shipped("dashboards/generate.py")).arg("--check"));
}

#[test]
fn what_is_not_known_is_absent_in_the_results_of_the_dashboards_queries() {
    for promtool in [tool("promtool"), newer_tool("promtool")] {
        let printed = output(tool("python3").arg(script("check_dashboard_queries.py")).arg(promtool.get_program()));
        assert!(printed.contains("results are right"), "{printed}");
    }
}
