//! End to end with real parts: the program, a Prometheus with the scrape configuration and the rules that are shipped, an
//! Alertmanager with the configuration that is shipped, and every query of the dashboards.
//!
//! The files are used as they are, but for addresses, for the receiver that the test gives the Alertmanager, and for how long
//! things wait ([`hastened`]). No expression is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_iot_jobs_exporter::clock::Clock;
use aws_iot_jobs_exporter::http::{self, Listener, Request, Response, StatusCode};
use aws_iot_jobs_exporter::jobs::{ExecutionStatus, Status, Timestamp};
use aws_iot_jobs_exporter::simulator::{Fleet, Job, Operation, Scheduling, ThingGroup, error};
use regex_lite::{Captures, Regex};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::compatibility::System;
use super::prometheus::Prometheus;
use super::tools::tool;
use crate::contract::{Shipped, dashboards};
use crate::process::{Running, pointed_at, program};
use crate::support::{Endpoint, REGION, account, free_port, output, simulator as simulated};

/// How long anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long queries that should stay without an answer are watched.
const WATCHED: Duration = Duration::from_secs(5);

/// Collectors that a test can wait for.
const EVERY_SECOND: [(&str, &str); 4] = [
    ("IOT_JOBS_EXPORTER_COLLECTORS__OPEN_JOBS__INTERVAL", "1s"),
    ("IOT_JOBS_EXPORTER_COLLECTORS__ALL_JOBS__INTERVAL", "1s"),
    ("IOT_JOBS_EXPORTER_COLLECTORS__DETAILS__INTERVAL", "1s"),
    ("IOT_JOBS_EXPORTER_COLLECTORS__DETAILS__MAX_INTERVAL", "1s"),
];

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prometheus").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(shipped(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The one place of a text replaced.
#[track_caller]
fn with(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from} has to be in one place of\n{text}");
    text.replace(from, to)
}

/// A configuration in which whatever waits does so for a 180th of the time, and for a second at least: a quarter of an hour
/// is 5 seconds. Only these keys wait; windows of expressions are no keys.
fn hastened(text: &str) -> String {
    let waits = r"interval|for|keep_firing_for|scrape_interval|scrape_timeout|evaluation_interval|group_wait|group_interval|repeat_interval";
    let line = Regex::new(&format!(r"(?m)^( *(?:- )?(?:{waits}): )([0-9]+)([smhd])$")).expect("a regular expression");
    line.replace_all(text, |found: &Captures| {
        let unit = match &found[3] {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => 86400,
        };
        let seconds = found[2].parse::<u64>().expect("a number") * unit;
        format!("{}{}s", &found[1], seconds.div_ceil(180))
    })
    .into_owned()
}

/// Writes the shipped scrape configuration and rules into `folder`, and gives back the configuration. `alertmanager` is none where
/// nobody is to be alerted.
fn prometheus_files(folder: &Path, exporter: &str, alertmanager: Option<u16>) -> String {
    std::fs::create_dir_all(folder.join("rules")).expect("a folder");
    for (file, waits) in [("rules/alerts.yml", 13), ("rules/recording.yml", 1)] {
        let (slow, fast) = (read(file), hastened(&read(file)));
        let changed: Vec<(&str, &str)> = slow.lines().zip(fast.lines()).filter(|(slow, fast)| slow != fast).collect();
        assert!(changed.len() >= waits, "only {changed:?} wait in {file}");
        std::fs::write(folder.join(file), fast).expect("written rules");
    }
    let slow = read("prometheus.yml");
    let mut fast = hastened(&slow);
    assert!(slow.contains("scrape_interval: 30s") && fast.contains("scrape_interval: 1s"), "{fast}");
    fast = with(&fast, "\"exporter:10114\"", &format!("\"{exporter}\""));
    let alertmanager = alertmanager.map_or(String::new(), |port| format!("\"127.0.0.1:{port}\""));
    with(&fast, "\"alertmanager:9093\"", &alertmanager)
}

/// Whether Prometheus answers a dashboard's query with any number. It is asked as Grafana asks, for the last ten seconds where a
/// graph is to be drawn.
fn has_data(prometheus: &Prometheus, query: &dashboards::Query) -> bool {
    let now = Clock::system().now().wall.as_millis() / 1000;
    let mut parameters = vec![("query", query.expression.clone())];
    let path = if query.is_instant {
        "query"
    } else {
        parameters.extend([("start", (now - 10).to_string()), ("end", now.to_string()), ("step", "1".to_owned())]);
        "query_range"
    };
    let answer = fetch(&format!("{}/api/v1/{path}", prometheus.url()), &parameters);
    assert_eq!(answer["status"], "success", "{}: {answer}: {}", query.place, query.expression);
    let is_number = |sample: &Value| sample[1].as_str().is_some_and(|value| value != "NaN");
    let mut series = answer["data"]["result"].as_array().into_iter().flatten();
    series.any(|one| is_number(&one["value"]) || one["values"].as_array().into_iter().flatten().any(is_number))
}

fn fetch(url: &str, parameters: &[(&str, String)]) -> Value {
    let mut command = tool("curl");
    command.args(["--silent", "--show-error", "--get"]);
    for (name, value) in parameters {
        command.arg("--data-urlencode").arg(format!("{name}={value}"));
    }
    let answer = output(command.arg(url));
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{url}: {error}: {answer}"))
}

/// The values of `label` that a query's result has.
fn values_of(prometheus: &Prometheus, query: &str, label: &str) -> BTreeSet<String> {
    let answer = fetch(&format!("{}/api/v1/query", prometheus.url()), &[("query", query.to_owned())]);
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    let series = answer["data"]["result"].as_array().into_iter().flatten();
    series.filter_map(|one| one["metric"][label].as_str().map(str::to_owned)).collect()
}

/// Queries that have no answer for an open job of the demo, and why. They have one in
/// [`a_job_that_is_late_becomes_a_ticket_and_once_it_has_started_that_is_over`].
const EMPTY_FOR_AN_OPEN_JOB: &[(&str, &str)] = &[
    ("exporter 19/B", "a code of errors has a series once AWS has answered with it"),
    ("rollout 13/C", "the start of a job that has a schedule; the job in question has none"),
    ("rollout 13/I", "the end of a job that has a schedule"),
    ("rollout annotation Started", "the start of a job that has a schedule"),
    ("rollout 13/K", "the end of an ended job; the job in question is open"),
    ("rollout annotation Completed", "the end of a completed job"),
    ("rollout annotation Canceled", "the end of a canceled job"),
];

/// Those of the above that are answered once the job has ended.
const OF_ENDED: [&str; 2] = ["rollout 13/K", "rollout annotation Completed"];
const OF_CANCELED: &str = "rollout annotation Canceled";

/// Queries that are valid, and have no answer in any of these tests, and why.
const ALWAYS_EMPTY: &[(&str, &str)] = &[
    ("exporter annotation Alerts", "no alert about the exporter fires; the other dashboards show those about jobs"),
    ("exporter annotation Stale data", NOT_STALE),
    ("fleet annotation Stale data", NOT_STALE),
    ("rollout annotation Stale data", NOT_STALE),
    ("thing-group annotation Stale data", NOT_STALE),
    ("fleet 7/F", ONE_TARGET),
    ("thing-group 9/F", ONE_TARGET),
];
const NOT_STALE: &str = "the data of the demo is fresh";
const ONE_TARGET: &str = "the target of a row is named if there are several";

/// All queries of the dashboards with these values of variables, which the variables have to list.
fn queries(prometheus: &Prometheus, values: &[(&str, &str)]) -> Vec<dashboards::Query> {
    let mut found = dashboards::Found::default();
    let all = dashboards::read(&Shipped::read().dashboards, &mut found);
    assert!(found.complaints.is_empty(), "{found:?}");
    for (name, selector, label) in all.iter().flat_map(|dashboard| dashboards::choices(dashboard, values)) {
        let listed = values_of(prometheus, &selector, &label);
        let chosen = values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        assert!(!listed.is_empty(), "the variable {name} lists nothing: {selector} has no {label}");
        assert!(chosen.is_none_or(|chosen| listed.contains(chosen)), "{name} does not list {chosen:?}: {listed:?}");
    }
    let queries: Vec<_> = all.iter().flat_map(|dashboard| dashboards::queries(dashboard, values)).collect();
    assert!(queries.len() > 100, "only {} queries", queries.len());
    for (place, _) in EMPTY_FOR_AN_OPEN_JOB.iter().chain(ALWAYS_EMPTY) {
        assert!(queries.iter().any(|query| query.place == *place), "{place} is no query any more");
    }
    queries
}

fn is_empty_for_an_open_job(query: &dashboards::Query) -> bool {
    EMPTY_FOR_AN_OPEN_JOB.iter().any(|(place, _)| *place == query.place)
}

/// Asks until each query has been answered with data, and gives back those that were not in time. No answer is an error.
async fn unanswered(
    prometheus: &Prometheus,
    mut waiting: Vec<dashboards::Query>,
    time: Duration,
) -> Vec<dashboards::Query> {
    let from = Instant::now();
    loop {
        waiting.retain(|query| !has_data(prometheus, query));
        if waiting.is_empty() || from.elapsed() > time {
            return waiting;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Queries for a message, one a line.
fn listed(queries: &[dashboards::Query]) -> String {
    let each = queries.iter().map(|query| format!("{} ({}): {}\n", query.place, query.title, query.expression));
    each.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_every_dashboard_is_answered_with_data_of_the_demo() {
    every_query_is_answered(System::Prometheus2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_every_dashboard_is_answered_with_data_of_the_demo_in_prometheus_3() {
    every_query_is_answered(System::Prometheus3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_every_dashboard_is_answered_with_data_of_the_demo_in_victoria_metrics() {
    every_query_is_answered(System::VictoriaMetrics).await;
}

/// An open job of the demo, about which most queries have data, and one of its thing groups.
async fn job_to_look_at(prometheus: &Prometheus) -> (String, String) {
    // The job with failures that has been at rest for the longest: one that moves may end while it is looked at.
    let oldest = "bottomk(1, aws_iot_job_created_timestamp_seconds \
                  and on (job_id) aws_iot_job_info{target_selection=\"SNAPSHOT\"} \
                  and on (job_id) aws_iot_job_status{status=\"IN_PROGRESS\"} and on (job_id) aws_iot_job_windowed == 0 \
                  and on (job_id) aws_iot_job_thing_group_info and on (job_id) aws_iot_job_stuck == 1 \
                  and on (job_id) aws_iot_job_executions{execution_status=\"FAILED\"} > 0 \
                  unless on (job_id) aws_iot_job_scheduled_start_timestamp_seconds)";
    prometheus.query(oldest, 1).await;
    let job = values_of(prometheus, oldest, "job_id").pop_first().expect("an open job");
    let groups = format!("aws_iot_job_thing_group_info{{job_id=\"{job}\"}}");
    let group = values_of(prometheus, &groups, "thing_group").pop_first().expect("its thing group");
    (job, group)
}

/// Queries of panels and annotations, in this system.
async fn every_query_is_answered(system: System) {
    let arguments = ["demo", "--jobs=600", "--seed=5", "--speed=20", "--web.listen-address=127.0.0.1:0"];
    let mut command = program(&arguments);
    command.envs(EVERY_SECOND.iter().copied()).env("IOT_JOBS_EXPORTER_COLLECTORS__TAGS__KEYS", "[product, team]");
    let mut demo = Running::start(command);
    let address = demo.address().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let prometheus = system.start(folder.path(), &prometheus_files(folder.path(), &address, None), None);
    // The rules record series.
    prometheus.query("aws_iot_jobs_collector:fresh:max == 1", 2).await;

    let (job, group) = job_to_look_at(&prometheus).await;
    let mut all = queries(&prometheus, &[("job", &job), ("thing_group", &group)]);
    let is_always_empty = |query: &dashboards::Query| ALWAYS_EMPTY.iter().any(|(place, _)| *place == query.place);
    for query in all.iter().filter(|query| is_always_empty(query)) {
        // An error fails the test.
        has_data(&prometheus, query);
    }
    let count = all.len();
    all.retain(|query| !is_always_empty(query));
    let (empty, full): (Vec<_>, Vec<_>) = all.into_iter().partition(is_empty_for_an_open_job);

    let left = unanswered(&prometheus, full, PATIENCE).await;
    assert!(left.is_empty(), "no data for\n{}", listed(&left));
    let mut answered = empty.clone();
    let left = unanswered(&prometheus, empty, WATCHED).await;
    answered.retain(|query| left.iter().all(|other| other.place != query.place));
    assert!(answered.is_empty(), "listed as empty, and answered with data:\n{}", listed(&answered));
    system.record("queries of the dashboards", &format!("{count} queries"));
}

/// Queries to which `VictoriaMetrics` answers otherwise than Prometheus, and why: `docs/compatibility.md` lists them.
const DIFFERENT: &[(&str, &str)] = &[
    ("exporter 14/A", YOUNG_RATE),
    ("exporter 18/A", YOUNG_RATE),
    ("exporter 21/A", YOUNG_RATE),
    ("exporter 22/A", YOUNG_RATE),
    ("exporter 23/A", YOUNG_RATE),
    ("exporter 26/A", YOUNG_RATE),
    ("fleet 7/I", TIE),
    ("thing-group 9/I", TIE),
];
const YOUNG_RATE: &str = "where there is less data than the window is long, rate divides by the time of the data";
const TIE: &str = "topk chooses another one of the groups of a job, all of which have the value 1";

/// The samples that a query has at a time: labels without the name of the metric, and the value. Times of samples are left out.
fn samples_at(prometheus: &Prometheus, query: &str, time: i64) -> BTreeMap<String, f64> {
    let parameters = [("query", query.to_owned()), ("time", time.to_string())];
    let answer = fetch(&format!("{}/api/v1/query", prometheus.url()), &parameters);
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    let samples = answer["data"]["result"].as_array().into_iter().flatten().map(|one| {
        let mut labels = one["metric"].clone();
        labels.as_object_mut().expect("labels").remove("__name__");
        (labels.to_string(), one["value"][1].as_str().and_then(|value| value.parse().ok()).expect("a value"))
    });
    // VictoriaMetrics leaves out what is not a number.
    samples.filter(|(_, value): &(_, f64)| !value.is_nan()).collect()
}

/// Whether the series are the same, and the values to one percent: both scrape on their own, at different moments of a second.
fn are_alike(left: &BTreeMap<String, f64>, right: &BTreeMap<String, f64>) -> bool {
    left.keys().eq(right.keys())
        && left.values().zip(right.values()).all(|(left, right)| (left - right).abs() <= left.abs() / 100.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn victoria_metrics_answers_the_queries_of_the_dashboards_as_prometheus_does() {
    let arguments = ["demo", "--jobs=600", "--seed=5", "--speed=0", "--web.listen-address=127.0.0.1:0"];
    let mut command = program(&arguments);
    command.envs(EVERY_SECOND.iter().copied()).env("IOT_JOBS_EXPORTER_COLLECTORS__TAGS__KEYS", "[product, team]");
    // If a walk ended between the scrapes of the two in each second, they would never agree on its age.
    for collector in ["OPEN_JOBS", "ALL_JOBS"] {
        command.env(format!("IOT_JOBS_EXPORTER_COLLECTORS__{collector}__INTERVAL"), "5s");
    }
    let mut demo = Running::start(command);
    let address = demo.address().await;
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
    let [prometheus, victoria_metrics] = [System::Prometheus3, System::VictoriaMetrics];
    let start = |system: System, folder: &tempfile::TempDir| {
        system.start(folder.path(), &prometheus_files(folder.path(), &address, None), None)
    };
    let both = [start(prometheus, &folders[0]), start(victoria_metrics, &folders[1])];
    for one in &both {
        one.query("aws_iot_jobs_collector:fresh:max == 1", 2).await;
    }
    let (job, group) = job_to_look_at(&both[0]).await;
    let all = queries(&both[0], &[("job", &job), ("thing_group", &group)]);
    let count = all.len();

    for (place, _) in DIFFERENT {
        assert!(all.iter().any(|query| query.place == *place), "{place} is no query any more");
    }
    let is_known = |query: &dashboards::Query| DIFFERENT.iter().any(|(place, _)| *place == query.place);
    let mut waiting: Vec<_> =
        all.into_iter().filter(|query| !is_known(query)).map(|query| (query, String::new())).collect();
    let from = Instant::now();
    while !waiting.is_empty() && from.elapsed() < PATIENCE {
        waiting.retain_mut(|(query, last)| {
            // What was scraped and evaluated up to then has arrived in both.
            let time = Clock::system().now().wall.as_millis() / 1000 - 5;
            let [left, right] = [&both[0], &both[1]].map(|one| samples_at(one, &query.expression, time));
            *last = format!("Prometheus {left:?}\nVictoriaMetrics {right:?}");
            !are_alike(&left, &right)
        });
        sleep(Duration::from_secs(1)).await;
    }
    let different = waiting.iter().map(|(query, last)| format!("{}{last}\n", listed(slice::from_ref(query))));
    let different: Vec<String> = different.collect();
    assert!(different.is_empty(), "of {count} queries are answered otherwise:\n{}", different.join("\n"));
    let alike = format!("{} of {count} as in Prometheus", count - DIFFERENT.len());
    victoria_metrics.record("answers to these queries, compared", &alike);
}

/// What the Alertmanager sent to one of its receivers.
#[derive(Clone, Default)]
struct Inbox(Arc<Mutex<Vec<Value>>>);

impl Inbox {
    /// Takes what is sent to the address that it gives back.
    async fn open() -> (Self, String) {
        let listener = Listener::bind(Some("127.0.0.1"), 0).await.expect("a loopback port");
        let (inbox, address) = (Self::default(), listener.local_addr());
        let taking = inbox.clone();
        let handler = http::handler(move |request: Request| {
            let sent = serde_json::from_slice(request.body()).expect("JSON of the Alertmanager");
            taking.0.lock().expect("no test panics in here").push(sent);
            std::future::ready(Response::default())
        });
        tokio::spawn(http::serve(vec![listener], http::Limits::default(), handler, pending()));
        (inbox, format!("http://{address}/"))
    }

    /// Every alert of every notification, in the order in which they came.
    fn alerts(&self) -> Vec<Value> {
        let sent = self.0.lock().expect("no test panics in here");
        sent.iter().flat_map(|one| one["alerts"].as_array().cloned().unwrap_or_default()).collect()
    }

    /// Waits for an alert of this status, after the first `seen`.
    async fn until(&self, status: &str, seen: usize) -> Value {
        let from = Instant::now();
        while from.elapsed() < PATIENCE {
            if let Some(alert) = self.alerts().into_iter().skip(seen).find(|alert| alert["status"] == status) {
                return alert;
            }
            sleep(Duration::from_millis(200)).await;
        }
        panic!("no alert is {status} after {PATIENCE:?}: {:?}", self.0);
    }
}

/// An Alertmanager with the shipped configuration, in which the receiver `ticket` is the test's own; it ends with the test.
struct Alertmanager {
    port: u16,
    _process: tokio::process::Child,
}

impl Alertmanager {
    fn start(folder: &Path, ticket: &str) -> Self {
        let (port, file) = (free_port(), folder.join("alertmanager.yml"));
        let slow = read("alertmanager.yml");
        let mut fast = hastened(&slow);
        assert!(fast.contains("group_wait: 1s") && fast.contains("group_interval: 2s"), "{fast}");
        let name = "  - name: ticket\n";
        fast = with(&fast, name, &format!("{name}    webhook_configs: [{{url: '{ticket}'}}]\n"));
        std::fs::write(&file, fast).expect("a written configuration");
        output(tool("amtool").arg("check-config").arg(&file));
        let process = tokio::process::Command::from(tool("prometheus-alertmanager"))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", folder.join("alertmanager").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("a started Alertmanager");
        Self { port, _process: process }
    }

    /// The labels of each alert that it has for the receiver `ticket`.
    fn tickets(&self) -> Vec<Value> {
        self.alerts_for_ticket().iter().map(|alert| alert["labels"].clone()).collect()
    }

    /// The descriptions of these alerts as they are now.
    fn ticket_descriptions(&self) -> Vec<String> {
        let alerts = self.alerts_for_ticket();
        alerts.iter().map(|alert| alert["annotations"]["description"].as_str().expect("a text").to_owned()).collect()
    }

    fn alerts_for_ticket(&self) -> Vec<Value> {
        let url = format!("http://127.0.0.1:{}/api/v2/alerts", self.port);
        fetch(&url, &[("receiver", "ticket".to_owned())]).as_array().expect("alerts").clone()
    }
}

/// A rollout that should have started two hours ago.
fn late_rollout(id: &str, now: Timestamp) -> Job {
    let start_time = Some(now.before(Duration::from_hours(2)));
    let end_time = Some(now.after(Duration::from_hours(2)));
    Job::new(id, Status::Scheduled, now.before(Duration::from_hours(3)))
        .scheduled(Scheduling { start_time, end_time, ..Scheduling::default() })
        .targeting_group("line-1")
        .with_executions(ExecutionStatus::Queued, 4)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_late_becomes_a_ticket_and_once_it_has_started_that_is_over() {
    a_late_job_becomes_a_ticket(System::Prometheus2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_late_becomes_a_ticket_in_prometheus_3() {
    a_late_job_becomes_a_ticket(System::Prometheus3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_late_becomes_a_ticket_in_vmalert() {
    a_late_job_becomes_a_ticket(System::VictoriaMetrics).await;
}

/// From the scrape over the rules and the Alertmanager to its receiver, and back when the job has started.
async fn a_late_job_becomes_a_ticket(system: System) {
    let now = Clock::system().now().wall;
    let simulator = simulated([]);
    let jobs = [
        late_rollout("fw-late", now),
        Job::new("fw-idle", Status::InProgress, now.before(Duration::from_hours(9000)))
            .continuous()
            .with_executions(ExecutionStatus::Succeeded, 70),
    ];
    simulator.set_fleet(&account(), REGION, Fleet::new(jobs, [ThingGroup::new("line-1")]));
    let is_first = AtomicBool::new(true);
    simulator.intercept(move |call| {
        let throttled = call.operation == Operation::ListJobs && is_first.swap(false, Ordering::Relaxed);
        throttled.then(|| error(StatusCode::TOO_MANY_REQUESTS, "ThrottlingException", "Rate exceeded"))
    });
    let endpoint = Endpoint::start(simulator.clone()).await;
    let mut command = pointed_at(program(&["--web.listen-address=127.0.0.1:0"]), &endpoint);
    command.envs(EVERY_SECOND.iter().copied());
    let mut exporter = Running::start(command);
    let address = exporter.address().await;

    let folder = tempfile::tempdir().expect("a temporary folder");
    let (ticket, ticket_url) = Inbox::open().await;
    let alertmanager = Alertmanager::start(folder.path(), &ticket_url);
    let configuration = prometheus_files(folder.path(), &address, Some(alertmanager.port));
    let prometheus = system.start(folder.path(), &configuration, Some(alertmanager.port));

    let alert = ticket.until("firing", 0).await;
    let labels = json!({
        "alertname": "AwsIotJobStartOverdue",
        "aws_account_id": "012345678901",
        "aws_region": "eu-west-1",
        "job": "aws-iot-jobs",
        "severity": "warning",
        "target": "eu-west-1",
        "target_selection": "SNAPSHOT",
    });
    assert_eq!(alert["labels"], labels);
    let annotation = |name: &str| alert["annotations"][name].as_str().expect("an annotation").to_owned();
    assert_eq!(annotation("summary"), "1 scheduled AWS IoT job did not start in time");
    // With intervals of a second, vmalert's first text was seen without the job, and a later one with it. The Alertmanager gets each.
    let from = Instant::now();
    let named = "Up to 5 jobs: fw-late.";
    while !alertmanager.ticket_descriptions().iter().all(|description| description.ends_with(named)) {
        assert!(from.elapsed() < PATIENCE, "{:?}", alertmanager.ticket_descriptions());
        sleep(Duration::from_millis(200)).await;
    }
    assert!(annotation("runbook_url").ends_with("/docs/runbooks/AwsIotJobStartOverdue.md"), "{alert}");
    assert_eq!(
        annotation("dashboard"),
        "/d/aws-iot-jobs-fleet?var-account=012345678901&var-region=eu-west-1&var-target=eu-west-1"
    );
    assert_eq!(alertmanager.tickets(), slice::from_ref(&labels));
    // Queries that have no answer for an open job without a schedule have one now.
    let mut empty_before = queries(&prometheus, &[("job", "fw-late"), ("thing_group", "line-1")]);
    empty_before.retain(is_empty_for_an_open_job);
    let (of_canceled, others): (Vec<_>, Vec<_>) =
        empty_before.into_iter().partition(|query| query.place == OF_CANCELED);
    let (of_ended, of_late): (Vec<_>, Vec<_>) = others.into_iter().partition(|query| OF_ENDED.contains(&&*query.place));
    let left = unanswered(&prometheus, of_late, PATIENCE).await;
    assert!(left.is_empty(), "no data for\n{}", listed(&left));

    let change = |change: fn(&mut Job)| {
        assert!(simulator.with_fleet(&account(), REGION, |fleet| fleet.update_job("fw-late", change)));
    };
    let seen = ticket.alerts().len();
    change(|job| {
        job.executions.shift(ExecutionStatus::Queued, ExecutionStatus::InProgress, 4);
        (job.status, job.last_updated_at) = (Status::InProgress, Clock::system().now().wall);
    });
    let over = ticket.until("resolved", seen).await;
    assert_eq!(over["labels"], labels);
    prometheus.query("ALERTS{alertname=\"AwsIotJobStartOverdue\"}", 0).await;
    let from = Instant::now();
    while !alertmanager.tickets().is_empty() {
        assert!(from.elapsed() < PATIENCE, "the Alertmanager still has {:?}", alertmanager.tickets());
        sleep(Duration::from_millis(200)).await;
    }

    change(|job| {
        let now = Clock::system().now().wall;
        job.executions.shift(ExecutionStatus::InProgress, ExecutionStatus::Succeeded, 4);
        (job.status, job.last_updated_at, job.completed_at) = (Status::Completed, now, Some(now));
    });
    let left = unanswered(&prometheus, of_ended, PATIENCE).await;
    assert!(left.is_empty(), "no data for\n{}", listed(&left));
    // Now there is a job with series of both families of executions. No query may be an error.
    for query in &queries(&prometheus, &[("job", "fw-late"), ("thing_group", "line-1")]) {
        has_data(&prometheus, query);
    }
    change(|job| job.status = Status::Canceled);
    let left = unanswered(&prometheus, of_canceled, PATIENCE).await;
    assert!(left.is_empty(), "no data for\n{}", listed(&left));
    let others: Vec<Value> = ticket.alerts().into_iter().filter(|one| one["labels"] != labels).collect();
    assert!(others.is_empty(), "{others:?}");
    system.record("an alert reaches its receiver and resolves", "AwsIotJobStartOverdue");
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_that_follow_from_another_one_are_held_back_and_no_others() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let alertmanager = Alertmanager::start(folder.path(), "http://127.0.0.1:9/");
    let url = format!("http://127.0.0.1:{}/api/v2/alerts", alertmanager.port);
    let of_target = |alert: &str, target: &str| json!({"alertname": alert, "job": "aws-iot-jobs", "target": target, "aws_region": REGION, "severity": "warning"});
    let with = |mut labels: Value, name: &str, value: &str| {
        labels[name] = json!(value);
        labels
    };
    let of_collector =
        |alert: &str, target: &str, collector: &str| with(of_target(alert, target), "collector", collector);
    let of_job = |alert: &str, job: &str| with(of_target(alert, "jobs"), "job_id", job);
    let critical = |labels: Value| with(labels, "severity", "critical");
    let (failing, stale) = ("AwsIotJobsCollectorFailing", "AwsIotJobsDataStale");
    let (rollout, ended) = ("AwsIotRolloutFailing", "AwsIotRolloutEndedWithFailures");
    let labels = [
        of_collector(stale, "stale", "open_jobs"),
        of_collector(failing, "stale", "details"),
        of_collector(stale, "ended", "all_jobs"),
        of_collector(failing, "ended", "all_jobs"),
        of_collector(failing, "ended", "details"),
        of_collector("AwsIotJobsPermissionMissing", "denied", "details"),
        of_collector(failing, "denied", "details"),
        of_collector(failing, "denied", "open_jobs"),
        critical(json!({"alertname": "AwsIotJobsExporterDown"})),
        json!({"alertname": "AwsIotJobsExporterDown", "job": "aws-iot-jobs", "severity": "warning"}),
        critical(of_job(rollout, "worse")),
        of_job(rollout, "worse"),
        of_job(ended, "other"),
        critical(of_job(ended, "worse")),
        of_job("AwsIotJobStuck", "stuck"),
        with(of_job("AwsIotJobExecutionLong", "stuck"), "thing", "device-1"),
        with(of_job("AwsIotJobExecutionLong", "open"), "thing", "device-1"),
        of_target("AwsIotJobStartOverdue", "late"),
    ];
    let count = labels.len();
    let alerts = json!(labels.map(|labels| json!({"labels": labels}))).to_string();
    let post = || {
        let mut curl = tool("curl");
        curl.args(["--silent", "--fail", "--header", "Content-Type: application/json", "--data", &alerts, &url]);
        curl.status().expect("curl").success()
    };
    let from = Instant::now();
    while !post() {
        assert!(from.elapsed() < PATIENCE, "the Alertmanager takes no alerts");
        sleep(Duration::from_millis(200)).await;
    }
    let held_back = [
        (failing, "denied", "details", "warning"),
        (failing, "ended", "all_jobs", "warning"),
        (failing, "stale", "details", "warning"),
        (rollout, "jobs", "worse", "warning"),
        (ended, "jobs", "worse", "critical"),
        ("AwsIotJobExecutionLong", "jobs", "stuck", "warning"),
    ];
    let held_back =
        BTreeSet::from(held_back.map(|(alert, target, of, severity)| [alert, target, of, severity].map(str::to_owned)));
    loop {
        let all = fetch(&url, &[]);
        let all: Vec<&Value> = all.as_array().expect("alerts").iter().collect();
        let inhibited = all.iter().filter(|alert| alert["status"]["inhibitedBy"] != json!([]));
        let label = |alert: &Value, name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
        let identity = |alert: &Value| {
            let of = label(alert, "collector") + &label(alert, "job_id");
            [label(alert, "alertname"), label(alert, "target"), of, label(alert, "severity")]
        };
        let inhibited: BTreeSet<_> = inhibited.map(|alert| identity(alert)).collect();
        if all.len() == count && inhibited == held_back {
            return;
        }
        assert!(from.elapsed() < PATIENCE, "held back are {inhibited:?}, of {} alerts", all.len());
        sleep(Duration::from_millis(200)).await;
    }
}
