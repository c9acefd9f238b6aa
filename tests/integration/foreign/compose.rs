//! promtool and amtool check the configurations that `config/compose.yml` mounts.

use regex_lite::Regex;
use serde_json::Value;

use super::tools::tool;
use crate::compose::{ALERTMANAGER, PROMETHEUS};
use crate::support::{output, shipped, text};

#[test]
fn promtool_accepts_the_scrape_configuration_with_the_rules() {
    let checked =
        output(tool("promtool").args(["check", "config", "--lint=all", "--lint-fatal"]).arg(shipped(PROMETHEUS)));
    assert!(checked.contains("2 rule files found"), "{checked}");
}

#[test]
fn alertmanager_takes_each_severity_to_its_receiver_and_the_examples_in_comments_are_valid() {
    output(tool("amtool").arg("check-config").arg(shipped(ALERTMANAGER)));
    for (severity, receiver) in [("critical", "page"), ("warning", "ticket"), ("info", "nobody")] {
        output(
            tool("amtool")
                .args(["config", "routes", "test", "--verify.receivers", receiver])
                .arg(format!("--config.file={}", shipped(ALERTMANAGER).display()))
                .arg(format!("severity={severity}")),
        );
    }
    let shipped = text(ALERTMANAGER);
    let (before, receivers) = shipped.split_once("\nreceivers:\n").expect("receivers");
    let examples = Regex::new(r"(?m)^    # ").expect("a regular expression");
    assert!(examples.find_iter(receivers).count() > 8, "{receivers}");
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let uncommented = format!("{before}\nreceivers:\n{}", examples.replace_all(receivers, "    "));
    std::fs::write(file.path(), &uncommented).expect("a written file");
    output(tool("amtool").arg("check-config").arg(file.path()));
    let receivers = yaml_serde::from_str::<Value>(&uncommented).expect("YAML")["receivers"].clone();
    assert!(receivers[0]["pagerduty_configs"].is_array() && receivers[1]["slack_configs"].is_array(), "{receivers}");
}
