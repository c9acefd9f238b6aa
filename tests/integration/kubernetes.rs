//! The Helm chart, as far as it can be checked without Helm: what is generated, and what has to agree with other shipped files.
//!
//! `UPDATE_DOCS=1 cargo test reference` writes the generated parts: the tables of the chart's README, and of its schema the
//! configuration of the exporter, the alerts, and the descriptions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use regex_lite::Regex;
use serde_json::{Value, json};

use crate::contract::used_thresholds;
use crate::support::{shipped, text, yaml};

pub const CHART: &str = "charts/aws-iot-jobs-exporter";
/// The README is in the packaged chart too, where relative links lead nowhere.
const RUNBOOKS: &str = "https://github.com/aws-iot-jobs-exporter/aws-iot-jobs-exporter/blob/main/docs/runbooks/";
pub const RULES: [&str; 2] = ["config/prometheus/rules/alerts.yml", "config/prometheus/rules/recording.yml"];

fn in_chart(name: &str) -> String {
    format!("{CHART}/{name}")
}

/// A value of the chart that a comment describes.
struct Documented {
    path: Vec<String>,
    description: String,
}

/// The values with their comments. A key without a comment is a group, and each key in it has one.
fn documented() -> Vec<Documented> {
    let key = Regex::new(r"^( *)([A-Za-z]+):( |$)").expect("a regular expression");
    let (mut found, mut groups, mut comment) = (Vec::<Documented>::new(), Vec::<String>::new(), Vec::new());
    // What is in a value that is described belongs to it.
    let mut described_at = None;
    for line in text(&in_chart("values.yaml")).lines() {
        let indentation = line.len() - line.trim_start().len();
        if line.is_empty() {
            comment.clear();
            continue;
        }
        if let Some(text) = line.trim_start().strip_prefix("# ") {
            comment.push(text.to_owned());
            continue;
        }
        if described_at.is_some_and(|at| indentation > at) {
            assert!(comment.is_empty(), "a comment inside of a value that is described: {line}");
            continue;
        }
        let key = key.captures(line).unwrap_or_else(|| panic!("values.yaml: no key in {line:?}"));
        groups.truncate(indentation / 2);
        groups.push(key[2].to_owned());
        described_at = None;
        if !comment.is_empty() {
            described_at = Some(indentation);
            found.push(Documented { path: groups.clone(), description: comment.join(" ") });
            comment.clear();
        }
    }
    found
}

fn default_of<'a>(values: &'a Value, path: &[String]) -> &'a Value {
    path.iter().fold(values, |value, key| &value[key])
}

fn values_table() -> String {
    let values = yaml(&in_chart("values.yaml"));
    let mut table = String::from("| value | default | meaning |\n| --- | --- | --- |\n");
    for value in documented() {
        let default = default_of(&values, &value.path);
        let _ = writeln!(table, "| `{}` | `{default}` | {} |", value.path.join("."), value.description);
    }
    table
}

/// An alert of the rules: `for` of its rules by their severity, and its thresholds.
#[derive(Default)]
struct Alert {
    waits: BTreeMap<String, String>,
    thresholds: BTreeMap<String, String>,
}

fn alerts() -> BTreeMap<String, Alert> {
    let mut alerts = BTreeMap::<String, Alert>::new();
    let file = yaml(RULES[0]);
    for rule in file["groups"].as_array().into_iter().flatten().filter_map(|group| group["rules"].as_array()).flatten()
    {
        let of = |value: &Value| value.as_str().expect("a text").to_owned();
        let alert = alerts.entry(of(&rule["alert"])).or_default();
        let repeated = alert.waits.insert(of(&rule["labels"]["severity"]), of(&rule["for"]));
        assert!(repeated.is_none(), "the chart distinguishes the rules of an alert by their severity: {rule}");
        let expression = of(&rule["expr"]);
        for (_, name, value) in used_thresholds([("", &*expression)]) {
            // That the rules of an alert agree is the contract's.
            alert.thresholds.insert(name, value);
        }
    }
    alerts
}

fn alerts_table() -> String {
    let mut table = String::from("| alert | rules, with `for` | `thresholds` |\n| --- | --- | --- |\n");
    let listed = |of: &BTreeMap<String, String>| {
        let each: Vec<String> = of.iter().map(|(name, value)| format!("`{name}` {value}")).collect();
        each.join(", ")
    };
    for (name, alert) in alerts() {
        let _ = writeln!(
            table,
            "| [{name}]({RUNBOOKS}{name}.md) | {} | {} |",
            listed(&alert.waits),
            listed(&alert.thresholds)
        );
    }
    table
}

/// The chart's README with its tables made anew.
fn readme() -> String {
    let mut readme = text(&in_chart("README.md"));
    for (name, table) in [("values", values_table()), ("alerts", alerts_table())] {
        let (begin, end) = (format!("<!-- generated: {name} -->\n"), format!("<!-- end: {name} -->"));
        let (before, rest) = readme.split_once(&begin).unwrap_or_else(|| panic!("no {begin}"));
        let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("no {end}"));
        readme = format!("{before}{begin}\n{table}\n{end}{after}");
    }
    readme
}

fn object(properties: &Value) -> Value {
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

/// The schema of `prometheusRule.alerts`.
fn alerts_schema() -> Value {
    let mut schema = serde_json::Map::new();
    for (name, alert) in alerts() {
        let number = |value: &str| value.parse::<f64>().expect("a number");
        let thresholds = alert.thresholds.iter().map(|(name, value)| {
            (name.clone(), json!({"type": "number", "description": format!("{} by default.", number(value))}))
        });
        let mut of = json!({
            "enabled": {"type": "boolean", "description": "Whether the alert is installed."},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "thresholds": object(&thresholds.collect::<serde_json::Map<_, _>>().into()),
        });
        for severity in alert.waits.keys() {
            of[severity] = json!({"$ref": "#/definitions/rule"});
        }
        schema.insert(name, object(&of));
    }
    object(&schema.into())
}

/// The schema of the values, with its generated parts made anew.
fn schema() -> String {
    let mut schema: Value = serde_json::from_str(&text(&in_chart("values.schema.json"))).expect("JSON");
    let mut config: Value = serde_json::from_str(&text("config/exporter.schema.json")).expect("JSON");
    config.as_object_mut().expect("a schema").remove("$schema");
    // Helm would lose the zeros at the start of an account that is written as a number.
    config["properties"]["targets"]["items"]["properties"]["account_id"]["type"] = json!(["string", "null"]);
    schema["definitions"]["config"] = config;
    schema["properties"]["prometheusRule"]["properties"]["alerts"] = alerts_schema();
    for value in documented() {
        let property = value.path.iter().fold(&mut schema, |schema, key| &mut schema["properties"][key]);
        assert!(property.is_object(), "values.schema.json does not have {}", value.path.join("."));
        // Nothing beside a reference counts.
        if property["$ref"].is_null() {
            property["description"] = value.description.into();
        }
    }
    let mut text = serde_json::to_string_pretty(&schema).expect("JSON");
    text.push('\n');
    text
}

fn check_file(path: &str, content: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(shipped(path), content).expect("a written file");
    }
    assert!(text(path) == content, "{path} is out of date: run `UPDATE_DOCS=1 cargo test reference`");
}

#[test]
fn the_reference_and_the_schema_of_the_chart_are_up_to_date() {
    assert!(documented().len() > 50 && alerts().len() > 10);
    check_file(&in_chart("README.md"), &readme());
    check_file(&in_chart("values.schema.json"), &schema());
}

#[test]
fn the_schema_knows_every_value_and_no_other() {
    // Keys that Helm itself can give to a chart.
    const OF_HELM: [&str; 2] = ["enabled", "global"];
    fn compare(values: &Value, schema: &Value, described: &BTreeSet<String>, path: &str) {
        let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<BTreeSet<_>>();
        let mut known = keys(&schema["properties"]);
        if path.is_empty() {
            known.retain(|key| !OF_HELM.contains(&&**key));
        }
        assert_eq!(keys(values), known, "{path}");
        assert_eq!(schema["additionalProperties"], false, "{path}");
        for key in known {
            let inner = format!("{path}.{key}");
            if !described.contains(&inner) {
                compare(&values[&key], &schema["properties"][&key], described, &inner);
            }
        }
    }
    let described = documented().iter().map(|value| format!(".{}", value.path.join("."))).collect();
    let schema = serde_json::from_str(&text(&in_chart("values.schema.json"))).expect("JSON");
    compare(&yaml(&in_chart("values.yaml")), &schema, &described, "");
}

#[test]
fn the_chart_has_the_very_files_that_everybody_else_has() {
    for (name, of) in [("files/rules", "config/prometheus/rules"), ("files/dashboards", "dashboards")] {
        let link = shipped(&in_chart(name));
        assert!(link.is_symlink(), "{name} is a copy, which can differ");
        assert_eq!(link.canonicalize().expect("a folder"), shipped(of).canonicalize().expect("a folder"));
    }
    let rules = std::fs::read_dir(shipped("config/prometheus/rules")).expect("the rules");
    let names = rules.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    let known = RULES.map(|path| path.rsplit('/').next().expect("a name").to_owned());
    assert_eq!(names.collect::<BTreeSet<_>>(), BTreeSet::from(known));
}

#[test]
fn the_chart_installs_this_version_as_the_user_of_the_image() {
    let chart = yaml(&in_chart("Chart.yaml"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    let values = yaml(&in_chart("values.yaml"));
    let context = &values["podSecurityContext"];
    let user = format!("\nUSER {}:{}\n", context["runAsUser"], context["runAsGroup"]);
    assert!(text("Dockerfile").contains(&user), "another user than the image's: {user}");
}

#[test]
fn requests_and_limits_are_the_measured_figures_and_those_stand_nowhere_otherwise() {
    let page = text("docs/scaling.md");
    let row =
        Regex::new(r"\| peak memory of the daemon \| ([0-9]+) MiB \| ([0-9]+) MiB \|").expect("a regular expression");
    let figures = row.captures(&page).expect("the figures");
    let figure = |n: usize| figures.get(n).expect("a figure").as_str().parse::<u64>().expect("a number");
    let (hundred_thousand, million) = (figure(1), figure(2));
    let values = yaml(&in_chart("values.yaml"));
    let mebibytes = |what: &str| {
        let text = values["resources"][what]["memory"].as_str().expect("an amount");
        text.strip_suffix("Mi").and_then(|number| number.parse::<u64>().ok()).expect("an amount in Mi")
    };
    assert!((hundred_thousand..2 * hundred_thousand).contains(&mebibytes("requests")), "{figures:?}");
    assert!((million..3 * million).contains(&mebibytes("limits")), "{figures:?}");
    let unit = text("config/systemd/aws-iot-jobs-exporter.service");
    assert!(
        unit.contains(&format!("uses {hundred_thousand} MiB with 100,000 jobs and {million} MiB with a million jobs.")),
        "the unit has other figures than docs/scaling.md"
    );
    let comment = format!("{hundred_thousand} MiB at 100,000 jobs, {million} MiB at a million");
    let of_resources = documented().into_iter().find(|value| value.path == ["resources"]).expect("resources");
    assert!(of_resources.description.contains(&comment), "no \"{comment}\" in values.yaml");
}
