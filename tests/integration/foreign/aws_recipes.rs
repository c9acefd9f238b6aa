//! The `CloudFormation` template: cfn-lint checks it, moto creates its stack, and the exporter accepts the environment of its container.

use std::process::{Command, Output};

use serde_json::Value;

use super::python::script;
use super::tools::{python, python_program};
use crate::aws_recipes::TEMPLATE;
use crate::process::program;
use crate::support::{output, shipped, text};

/// The partitions differ in what their regions have.
const REGIONS: [&str; 4] = ["us-east-1", "eu-west-1", "us-gov-west-1", "cn-north-1"];

fn cfn_lint(template: &std::path::Path) -> Output {
    let mut command: Command = python_program("cfn-lint");
    command.arg("--regions").args(REGIONS).arg("--").arg(template);
    command.output().expect("a started cfn-lint")
}

#[test]
fn cfn_lint_finds_nothing_in_the_template() {
    let checked = cfn_lint(&shipped(TEMPLATE));
    let found = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && found.trim().is_empty(), "{found}{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn cfn_lint_would_find_a_mistake() {
    let folder = tempfile::tempdir().expect("a folder");
    let faulty = folder.path().join("ecs.yaml");
    for (right, wrong, rule) in [
        ("MaximumPercent: 100", "MaximumPercents: 100", "E3002"),
        ("[TaskRole, Arn]", "[TaskRoles, Arn]", "E1010"),
        ("AllowedValues: [FARGATE, EC2]", "AllowedValues: [FARGATE, EC3]", "W1030"),
    ] {
        let template = text(TEMPLATE);
        assert!(template.contains(right), "{right}");
        std::fs::write(&faulty, template.replacen(right, wrong, 1)).expect("a written file");
        let checked = cfn_lint(&faulty);
        let found = String::from_utf8_lossy(&checked.stdout);
        assert!(!checked.status.success() && found.contains(rule), "{wrong}: {found}");
    }
}

#[tokio::test]
async fn the_exporter_accepts_the_environment_that_the_stack_gives_it() {
    let printed = output(python().arg(script("check_stacks.py")).arg(shipped(TEMPLATE)));
    let stacks: Value = serde_json::from_str(&printed).expect("JSON");
    for (stack, keys) in [("few", "[]"), ("many", "[product, team]")] {
        let made = &stacks[stack];
        assert_eq!(made["status"], "CREATE_COMPLETE", "{made}");
        assert_eq!(made["ingress"].as_array().map(Vec::len), Some(1), "{made}");
        assert_eq!(made["ingress"][0]["UserIdGroupPairs"][0]["GroupId"], made["prometheus"], "{made}");
        let container = &made["container"];
        // Fargate refuses the option.
        assert_eq!(container["dockerSecurityOptions"].is_null(), stack == "few", "{container}");

        let mut command = program(&["--config.print"]);
        for variable in container["environment"].as_array().expect("variables") {
            let part = |name: &str| variable[name].as_str().expect("a text");
            command.env(part("name"), part("value"));
        }
        for secret in container["secrets"].as_array().into_iter().flatten() {
            let parameter = secret["valueFrom"].as_str().expect("a parameter");
            assert!(parameter.ends_with(":parameter/iot-jobs-exporter/targets"), "{parameter}");
            command.env(secret["name"].as_str().expect("a name"), targets_of_the_readme());
        }
        let answered = command.output().await.expect("an end");
        let shown = String::from_utf8_lossy(&answered.stdout);
        assert!(answered.status.success(), "{shown}{}", String::from_utf8_lossy(&answered.stderr));
        assert!(shown.contains(&format!("\n    keys: {keys}  #")), "{shown}");
        assert_eq!(shown.contains("- name: plants"), stack == "many", "{shown}");
    }
}

/// The list of targets that the README stores as a parameter.
fn targets_of_the_readme() -> String {
    let readme = text("config/aws/README.md");
    let (_, after) = readme.split_once("```yaml\n  - name: own\n").expect("targets");
    let (rest, _) = after.split_once("  ```").expect("an end");
    let lines: Vec<&str> = std::iter::once("- name: own").chain(rest.lines().map(|line| &line[2..])).collect();
    lines.join("\n")
}
