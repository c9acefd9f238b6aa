//! Recording rules, alerts, and the tests of both.

use std::collections::{BTreeMap, BTreeSet};

use regex_lite::Regex;
use serde_json::Value;

use super::known::{ANY, Known, Labels, OF_ALERTS, Origin, Series, Shape, all_labels, labels, meant};
use super::{File, promql};

/// An alert, with the labels that it fires with.
#[derive(Debug)]
pub struct Alert {
    pub path: String,
    pub name: String,
    pub severity: String,
    pub expression: String,
    pub labels: Labels,
    pub annotations: BTreeMap<String, String>,
}

/// What the rules files define.
#[derive(Debug)]
pub struct Rules {
    /// The catalogue's series with those that rules record.
    pub known: Known,
    /// Recorded names, each with whether another rule uses it.
    pub recorded: BTreeMap<String, bool>,
    pub alerts: Vec<Alert>,
    pub complaints: Vec<String>,
}

/// Reads the rules. `known` has what is scraped.
pub fn read(files: &[File], known: Known) -> Rules {
    let mut rules = Rules { known, recorded: BTreeMap::new(), alerts: Vec::new(), complaints: Vec::new() };
    let mut documents = Vec::new();
    for file in files {
        match yaml_serde::from_str::<Value>(&file.text) {
            Ok(document) => documents.push((file, document)),
            Err(error) => rules.complaints.push(format!("{}: {error}", file.path)),
        }
    }
    let all = || {
        documents.iter().flat_map(|(file, document)| {
            let groups = document["groups"].as_array().into_iter().flatten();
            groups.flat_map(|group| group["rules"].as_array().into_iter().flatten()).map(move |rule| (*file, rule))
        })
    };
    // A rule may use what a later one records.
    let recordings: Vec<(&File, &Value)> = all().filter(|(_, rule)| rule["record"].is_string()).collect();
    for (_, rule) in &recordings {
        let name = text(&rule["record"]);
        rules.known.series.insert(name.clone(), Series { origin: Origin::Recorded, shape: None });
        rules.recorded.insert(name, false);
    }
    // Each round tells the labels of those that use only what the rounds before told of.
    let mut is_new = true;
    while is_new {
        is_new = false;
        for (_, rule) in &recordings {
            let name = text(&rule["record"]);
            if rules.known.series[&name].shape.is_none() {
                let shape = promql::check(&text(&rule["expr"]), &rules.known).shape;
                let shape = shape.map(|shape| with(&shape, &own_labels(rule)));
                is_new |= shape.is_some();
                rules.known.series.insert(name, Series { origin: Origin::Recorded, shape });
            }
        }
    }
    for (file, rule) in all() {
        let is_alert = rule["alert"].is_string();
        let name = text(&rule[if is_alert { "alert" } else { "record" }]);
        let place = format!("{}: {} {name}", file.path, if is_alert { "alert" } else { "rule" });
        let checked = promql::check(&text(&rule["expr"]), &rules.known);
        rules.complaints.extend(checked.complaints.iter().map(|complaint| format!("{place}: {complaint}")));
        rules.complaints.extend(checked.raw.iter().map(|raw| format!("{place}: {}", super::shown_raw(raw))));
        for used in checked.names.iter().filter(|used| **used != name) {
            rules.recorded.entry(used.clone()).and_modify(|is_used| *is_used = true);
        }
        if is_alert {
            let told = checked.shape.is_some();
            let alert = alert(file, &name, rule, &checked.shape.unwrap_or_default());
            // Where the expression is faulty, its labels are not known, and that has been said.
            if told {
                templates(&alert, &rules.known, &place, &mut rules.complaints);
            }
            rules.alerts.push(alert);
        }
    }
    let of_alerts: Shape =
        rules.alerts.iter().map(|alert| &alert.labels | &labels(["alertname", "alertstate"])).collect();
    for name in OF_ALERTS {
        let series = Series { origin: Origin::Gauge, shape: Some(of_alerts.clone()) };
        rules.known.series.insert(name.to_owned(), series);
    }
    rules
}

fn alert(file: &File, name: &str, rule: &Value, shape: &Shape) -> Alert {
    let annotations = rule["annotations"].as_object().into_iter().flatten();
    Alert {
        path: file.path.clone(),
        name: name.to_owned(),
        severity: text(&rule["labels"]["severity"]),
        expression: text(&rule["expr"]),
        labels: all_labels(&with(shape, &own_labels(rule))),
        annotations: annotations.map(|(key, value)| (key.clone(), text(value))).collect(),
    }
}

fn own_labels(rule: &Value) -> Labels {
    labels(rule["labels"].as_object().into_iter().flatten().map(|(label, _)| &**label))
}

fn with(shape: &Shape, more: &Labels) -> Shape {
    shape.iter().map(|labels| labels | more).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Checks the labels and queries in the templates of an alert.
fn templates(alert: &Alert, known: &Known, place: &str, complaints: &mut Vec<String>) {
    let (of_alert, of_rows) = (pattern(r"\$labels\.(\w+)"), pattern(r"\.Labels\.(\w+)"));
    let queries = pattern(r#"query \(printf "((?:[^"\\]|\\.)*)"([^)]*)\)"#);
    let filled = pattern(r"(\w+)=~?%q");
    for (key, annotation) in &alert.annotations {
        let mut complain = |complaint: String| complaints.push(format!("{place}: {key}: {complaint}"));
        for found in of_alert.captures_iter(annotation) {
            if !alert.labels.contains(&found[1]) {
                let near = meant(&found[1], alert.labels.iter().map(String::as_str));
                complain(format!("the alert has no label \"{}\"{near}", &found[1]));
            }
        }
        let mut rows = Labels::new();
        let mut seen = 0;
        for found in queries.captures_iter(annotation) {
            seen += 1;
            let query = found[1].replace(r#"\""#, "\"");
            let asked: Vec<&str> = filled.captures_iter(&query).filter_map(|c| c.get(1)).map(|m| m.as_str()).collect();
            let given: Vec<&str> =
                of_alert.captures_iter(&found[2]).filter_map(|c| c.get(1)).map(|m| m.as_str()).collect();
            if asked != given {
                complain(format!("fills the labels {asked:?} with {given:?}"));
            }
            let checked = promql::check(&query.replace("%q", &format!("\"{ANY}\"")), known);
            checked.complaints.into_iter().for_each(&mut complain);
            checked.raw.iter().for_each(|raw| complain(super::shown_raw(raw)));
            rows.extend(all_labels(&checked.shape.unwrap_or_default()));
        }
        if seen != annotation.matches("query (").count() {
            complain("has a query that this test can't read".to_owned());
        }
        for found in of_rows.captures_iter(annotation) {
            if !rows.contains(&found[1]) {
                let near = meant(&found[1], rows.iter().map(String::as_str));
                complain(format!("no query in it gives a label \"{}\"{near}", &found[1]));
            }
        }
    }
}

/// Checks the series and the expressions of a file of `promtool test rules`.
pub fn check_tests(file: &File, known: &Known) -> Vec<String> {
    let document: Value = match yaml_serde::from_str(&file.text) {
        Ok(document) => document,
        Err(error) => return vec![format!("{}: {error}", file.path)],
    };
    let (mut selectors, mut expressions) = (BTreeSet::new(), BTreeSet::new());
    for test in document["tests"].as_array().into_iter().flatten() {
        for series in test["input_series"].as_array().into_iter().flatten() {
            selectors.insert(text(&series["series"]));
        }
        for query in test["promql_expr_test"].as_array().into_iter().flatten() {
            expressions.insert(text(&query["expr"]));
        }
    }
    let queries = selectors.iter().chain(&expressions);
    queries
        .flat_map(|query| promql::check(query, known).complaints)
        .map(|complaint| format!("{}: {complaint}", file.path))
        .collect()
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a regular expression")
}
