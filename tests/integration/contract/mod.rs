//! Every metric and label that a dashboard, a rule, a runbook or the README names is in the catalogue, and is used as its
//! type allows.
//!
//! Queries are parsed with their variables filled in, and the labels of each part follow from those of its parts: what an
//! aggregation has taken away is gone for what is around it. A fault is told with the panel, rule or line that it is in.

pub mod dashboards;
pub mod docs;
mod known;
mod pages;
mod promql;
mod rules;
mod selftests;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use aws_iot_jobs_exporter::metrics::catalogue;
use regex_lite::Regex;

use self::known::Known;
use self::rules::{Alert, Rules};

/// Counters that a panel uses without `rate` or `increase`: dashboard, panel, name, and why.
const RAW_COUNTERS: &[(&str, &str, &str, &str)] = &[(
    "dashboards/exporter.json",
    "Throttled requests",
    "aws_iot_jobs_exporter_api_requests_total",
    "times 0, to tell none from not known",
)];

/// Families that no dashboard asks for, and why.
const NOT_ON_DASHBOARDS: &[(&str, &str)] = &[
    (
        "aws_iot_jobs_exporter_config_hash",
        "it only compares configurations: of processes, or before and after a change",
    ),
    (
        "aws_iot_jobs_exporter_http_login_failures_total",
        "a failed login is a log line; the counter is for alerts of one's own",
    ),
    ("process_virtual_memory_bytes", "address space that is reserved and not used says nothing of the exporter"),
    ("process_virtual_memory_max_bytes", "the limit of the above"),
];

/// Variables that an alert's link leaves at all, though the alert has the label, and why.
const NOT_HANDED_OVER: &[(&str, &str, &str)] = &[];

/// The headings of a runbook after its title.
const RUNBOOK_HEADINGS: [&str; 3] = ["## Meaning", "## What to check", "## What to do"];

/// The most lines of a runbook: a page.
const RUNBOOK_LINES: usize = 65;

/// A file of the repository.
#[derive(Clone, Debug)]
pub struct File {
    /// Below the repository.
    pub path: String,
    pub text: String,
}

impl File {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }
}

/// Everything that the contract binds.
#[derive(Debug, Default)]
pub struct Shipped {
    pub dashboards: Vec<File>,
    pub rules: Vec<File>,
    pub tests: Vec<File>,
    pub runbooks: Vec<File>,
    /// The README.
    pub readme: Option<File>,
    /// Further texts, whose names are looked at and nothing else.
    pub texts: Vec<File>,
}

impl Shipped {
    pub fn read() -> Self {
        Self {
            dashboards: files("dashboards", ".json"),
            rules: files("config/prometheus/rules", ".yml"),
            tests: files("config/prometheus/tests", ".yml"),
            runbooks: files("docs/runbooks", ".md"),
            readme: Some(file("README.md")),
            texts: [
                "CHANGELOG.md",
                "CONTRIBUTING.md",
                "SECURITY.md",
                "charts/aws-iot-jobs-exporter/README.md",
                "config/compose.yml",
                "config/exporter.yml",
                "config/grafana/provisioning/dashboards/aws-iot-jobs.yml",
                "config/grafana/provisioning/datasources/prometheus.yml",
                "config/iam/README.md",
                "config/prometheus/alertmanager.yml",
                "config/prometheus/prometheus.yml",
                "docs/alerts.md",
                "docs/api.md",
                "docs/architecture.md",
                "docs/cost.md",
                "docs/dashboards.md",
                "docs/demo.md",
                "docs/deployment.md",
                "docs/getting-started.md",
                "docs/metrics.md",
                "docs/reliability.md",
                "docs/scaling.md",
                "docs/security.md",
            ]
            .map(file)
            .to_vec(),
        }
    }
}

fn file(path: &str) -> File {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = std::fs::read_to_string(full).unwrap_or_else(|error| panic!("{path}: {error}"));
    File::new(path, &text)
}

fn files(folder: &str, ending: &str) -> Vec<File> {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(full).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let names: BTreeSet<String> = names.filter(|name| name.ends_with(ending)).collect();
    assert!(!names.is_empty(), "{folder} has no file {ending}");
    names.iter().map(|name| file(&format!("{folder}/{name}"))).collect()
}

pub fn shown_raw(counter: &str) -> String {
    format!("{counter} is a counter, and used without rate or increase")
}

/// What is known with the rules, and the scrape jobs of the README and of what is shipped.
fn known(shipped: &Shipped) -> Rules {
    let mut known = Known::scraped();
    let jobs = shipped.readme.iter().chain(&shipped.texts).flat_map(|file| file.text.lines());
    let jobs = jobs.filter_map(|line| line.trim().strip_prefix("- job_name: ")).map(str::to_owned);
    known.jobs.extend(jobs);
    rules::read(&shipped.rules, known)
}

/// What is wrong with dashboards, and which series they ask for.
fn check_dashboards(shipped: &Shipped, rules: &Rules) -> dashboards::Found {
    let mut found = dashboards::Found::default();
    let all = dashboards::read(&shipped.dashboards, &mut found);
    for dashboard in &all {
        dashboards::check(dashboard, &all, &rules.known, &mut found);
    }
    dashboards::check_colors(&all, &mut found);
    let kept: Vec<(&str, &str)> = NOT_HANDED_OVER.iter().map(|(alert, variable, _)| (*alert, *variable)).collect();
    for alert in &rules.alerts {
        dashboards::check_alert(alert, &all, &kept, &mut found);
    }
    found
}

/// What is wrong with queries and names in pages, rules, and the tests of rules.
fn check_texts(shipped: &Shipped, rules: &Rules) -> Vec<String> {
    let mut complaints = Vec::new();
    // The reference names histograms by their families.
    let is_page = |text: &&File| docs::is_markdown(&text.path) && text.path != "docs/metrics.md";
    let others = shipped.texts.iter().filter(is_page);
    for page in shipped.readme.iter().chain(&shipped.runbooks).chain(others) {
        complaints.extend(pages::check(page, &rules.known));
    }
    // What their scrapes attach, and an example of a target's own label.
    let attached = known::OF_PROCESSES.into_iter().chain(["namespace", "team"]).collect::<Vec<_>>();
    let mut scraped_anywhere = rules.known.clone().with_labels(&attached);
    scraped_anywhere.jobs.clear();
    for test in &shipped.tests {
        complaints.extend(rules::check_tests(test, &scraped_anywhere));
    }
    let written = shipped.readme.iter().chain(&shipped.runbooks).chain(&shipped.texts);
    for text in written.chain(&shipped.rules).chain(&shipped.tests).chain(&shipped.dashboards) {
        complaints.extend(pages::check_words(text, &rules.known, &rules.alerts));
    }
    complaints
}

/// What is wrong with the alerts and their runbooks and tests.
fn check_alerts(shipped: &Shipped, rules: &Rules) -> Vec<String> {
    let mut complaints = Vec::new();
    for alert in &rules.alerts {
        let place = format!("{}: alert {}", alert.path, alert.name);
        let mut complain = |complaint: String| complaints.push(format!("{place}: {complaint}"));
        for annotation in ["summary", "description", "runbook_url", "dashboard"] {
            if alert.annotations.get(annotation).is_none_or(String::is_empty) {
                complain(format!("has no {annotation}"));
            }
        }
        if !["critical", "warning", "info"].contains(&&*alert.severity) {
            complain(format!("\"{}\" is no severity", alert.severity));
        }
        let runbook = format!("docs/runbooks/{}.md", alert.name);
        let url = alert.annotations.get("runbook_url").map_or("", String::as_str);
        if !url.starts_with("https://") || !url.ends_with(&format!("/{runbook}")) {
            complain(format!("its runbook_url does not lead to {runbook}"));
        }
        match shipped.runbooks.iter().find(|page| page.path == runbook) {
            None => complain(format!("there is no {runbook}")),
            Some(page) if !severities(page).contains(&format!("`{}`", alert.severity)) => {
                complain(format!("{runbook} does not have the severity `{}`", alert.severity));
            }
            Some(_) => {}
        }
        let template = Regex::new(r"(?s)\{\{.*?\}\}").expect("a regular expression");
        for (name, annotation) in &alert.annotations {
            if template.replace_all(annotation, "").contains(['<', '>']) {
                complain(format!("{name}: has an angle bracket, which receivers of HTML refuse"));
            }
        }
        if !shipped.tests.iter().any(|test| test.path.ends_with(&format!("/{}.yml", alert.name))) {
            complain("has no test of its own name".to_owned());
        }
    }
    for page in &shipped.runbooks {
        let name = page.path.rsplit('/').next().and_then(|name| name.strip_suffix(".md")).unwrap_or_default();
        if !rules.alerts.iter().any(|alert| alert.name == name) {
            complaints.push(format!("{}: there is no alert of this name", page.path));
        }
        let mut is_code = false;
        let is_heading = |line: &&str| {
            is_code ^= line.trim_start().starts_with("```");
            !is_code && line.starts_with('#')
        };
        let headings: Vec<&str> = page.text.lines().filter(is_heading).collect();
        let title = format!("# {name}");
        if headings != [&[&*title], &RUNBOOK_HEADINGS[..]].concat() {
            complaints.push(format!("{}: its headings are {headings:?}", page.path));
        }
        let lines = page.text.lines().count();
        if lines > RUNBOOK_LINES {
            complaints.push(format!("{}: {lines} lines are more than a page", page.path));
        }
    }
    complaints
}

/// The paragraph of a runbook about the alert's severity.
fn severities(page: &File) -> &str {
    page.text.split("\n\n").find(|paragraph| paragraph.starts_with("Severity ")).unwrap_or_default()
}

/// The thresholds of the table at the head of a file of alerts: alert, name, and value.
fn listed_thresholds(file: &File) -> BTreeSet<(String, String, String)> {
    let row = Regex::new(r"(?m)^#   (AwsIot\w+) +([a-z_]+) +([0-9.]+)(?: |$)").expect("a regular expression");
    row.captures_iter(&file.text).map(|row| (row[1].to_owned(), row[2].to_owned(), row[3].to_owned())).collect()
}

/// The comparisons of the alerts with numbers: alert, the name that the comment after the number gives, and the number. A comparison
/// with 0 or 1 asks for a state.
pub fn used_thresholds<'a>(alerts: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeSet<(String, String, String)> {
    let comparison = Regex::new(r"(?m)(?:[<>=!]=|[<>]) *([0-9.]+)(?: # ([a-z_]+)$)?").expect("a regular expression");
    let of = |(alert, expression): (&str, &str)| {
        let found = comparison.captures_iter(expression).filter(|found| !["0", "1"].contains(&&found[1]));
        let name = |found: &regex_lite::Captures<'_>| found.get(2).map_or("", |name| name.as_str()).to_owned();
        found.map(|found| (alert.to_owned(), name(&found), found[1].to_owned())).collect::<Vec<_>>()
    };
    alerts.into_iter().flat_map(of).collect()
}

fn thresholds_of(alerts: &[Alert]) -> BTreeSet<(String, String, String)> {
    used_thresholds(alerts.iter().map(|alert| (&*alert.name, &*alert.expression)))
}

/// What is wrong with the lists of exceptions, and with what is nowhere used.
fn check_uses(rules: &Rules, found: &dashboards::Found) -> Vec<String> {
    let mut complaints = Vec::new();
    for family in catalogue::ALL {
        let is_excused = NOT_ON_DASHBOARDS.iter().any(|(name, _)| *name == family.name);
        let is_used = known::series_of(family).iter().any(|name| found.names.contains(name));
        match (is_used, is_excused) {
            (false, false) => complaints.push(format!("{} is on no dashboard", family.name)),
            (true, true) => complaints.push(format!("{} is on a dashboard, and excused from it", family.name)),
            _ => {}
        }
    }
    for (name, is_used) in &rules.recorded {
        if !is_used && !found.names.contains(name) {
            complaints.push(format!("{name} is recorded, and neither a rule nor a dashboard uses it"));
        }
    }
    for (path, panel, name) in &found.raw {
        if !RAW_COUNTERS.iter().any(|(of, on, counter, _)| (of, on, counter) == (&&**path, &&**panel, &&**name)) {
            complaints.push(format!("{path}: panel \"{panel}\": {}", shown_raw(name)));
        }
    }
    for (path, panel, name, _) in RAW_COUNTERS {
        if !found.raw.contains(&((*path).to_owned(), (*panel).to_owned(), (*name).to_owned())) {
            complaints.push(format!("{path}: panel \"{panel}\" does not use {name} as it is any more"));
        }
    }
    complaints
}

/// All that is shipped, and what was found in it. Parsing its queries takes seconds, so the tests share it.
static SHIPPED: LazyLock<Shipped> = LazyLock::new(Shipped::read);
static SHIPPED_RULES: LazyLock<Rules> = LazyLock::new(|| known(&SHIPPED));
static SHIPPED_PANELS: LazyLock<dashboards::Found> = LazyLock::new(|| check_dashboards(&SHIPPED, &SHIPPED_RULES));

#[track_caller]
pub fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn rules_and_alerts_name_what_there_is_and_use_it_as_its_type_allows() {
    assert!(SHIPPED_RULES.recorded.len() > 10 && SHIPPED_RULES.alerts.len() > 10, "{SHIPPED_RULES:?}");
    assert_none(&SHIPPED_RULES.complaints);
    assert_none(&check_alerts(&SHIPPED, &SHIPPED_RULES));
}

#[test]
fn the_thresholds_at_the_head_of_the_alerts_are_those_of_the_expressions() {
    let listed: BTreeSet<_> = SHIPPED.rules.iter().flat_map(listed_thresholds).collect();
    assert!(listed.len() > 10, "{listed:?}");
    assert_eq!(listed, thresholds_of(&SHIPPED_RULES.alerts));
    // A name has one value, or the rules of an alert would overlap or leave a gap.
    let names: BTreeSet<_> = listed.iter().map(|(alert, name, _)| (alert, name)).collect();
    assert_eq!(names.len(), listed.len(), "{listed:?}");
}

#[test]
fn only_the_recording_rules_remove_the_labels_that_tell_processes_apart() {
    let stripped = |text: &str| known::OF_PROCESSES.iter().any(|label| text.contains(&format!("{label}, ")));
    for alert in &SHIPPED_RULES.alerts {
        assert!(!stripped(&alert.expression) && !alert.expression.contains("instance"), "{alert:?}");
    }
}

#[test]
fn dashboards_name_what_there_is_and_use_it_as_its_type_allows() {
    assert!(SHIPPED_PANELS.names.len() > 30, "{:?}", SHIPPED_PANELS.names);
    assert_none(&SHIPPED_PANELS.complaints);
}

#[test]
fn runbooks_readme_and_other_texts_name_what_there_is() {
    assert_none(&check_texts(&SHIPPED, &SHIPPED_RULES));
}

#[test]
fn every_family_is_on_a_dashboard_or_excused_and_every_recorded_series_is_used() {
    assert_none(&check_uses(&SHIPPED_RULES, &SHIPPED_PANELS));
}
