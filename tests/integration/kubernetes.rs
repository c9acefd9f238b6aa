//! The `PrometheusRule` that is shipped for Kubernetes is made from the rules of Prometheus.

use serde_json::Value;

use crate::support::{shipped, text, yaml};

pub const RULES: [&str; 2] = ["config/prometheus/rules/alerts.yml", "config/prometheus/rules/recording.yml"];
const PROMETHEUS_RULE: &str = "config/kubernetes/monitoring/prometheus-rule.yaml";

/// The rules in the operator's own kind, comments and all, in the order of their files.
fn prometheus_rule() -> String {
    let mut made = String::from(
        "# Made from config/prometheus/rules; `UPDATE_DOCS=1 cargo test prometheus_rule` writes it anew.\n\
         apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: aws-iot-jobs\n  labels:\n\
         \x20   app.kubernetes.io/name: aws-iot-jobs-exporter\nspec:\n  groups:\n",
    );
    for path in RULES {
        let rules = text(path);
        let (_, groups) = rules.split_once("\ngroups:\n").unwrap_or_else(|| panic!("{path} has no groups"));
        for line in groups.trim_end().lines() {
            if !line.is_empty() {
                made.push_str("  ");
                made.push_str(line);
            }
            made.push('\n');
        }
    }
    made
}

#[test]
fn the_prometheus_rule_is_made_from_the_rules() {
    let made = prometheus_rule();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(shipped(PROMETHEUS_RULE), &made).expect("a written file");
    }
    let stale = "is stale: run `UPDATE_DOCS=1 cargo test prometheus_rule`";
    assert!(text(PROMETHEUS_RULE) == made, "{PROMETHEUS_RULE} {stale}");

    let groups: Vec<Value> =
        RULES.iter().flat_map(|path| yaml(path)["groups"].as_array().expect("groups").clone()).collect();
    assert_eq!(yaml(PROMETHEUS_RULE)["spec"]["groups"], Value::Array(groups));
    let folder = std::fs::read_dir(shipped("config/prometheus/rules")).expect("the rules");
    let files = folder.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some())).count();
    assert_eq!(files, RULES.len(), "a file of rules is left out");
}
