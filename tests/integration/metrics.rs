//! The exposition over real sockets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_iot_jobs_exporter::clock::Clock;
use aws_iot_jobs_exporter::config::{self, Config, Loaded};
use aws_iot_jobs_exporter::http::{self, HeaderName, HeaderValue, Listener, Response, StatusCode, header};
use aws_iot_jobs_exporter::jobs::{
    CacheState, CacheStates, ExecutionCounts, ExecutionStatus, GroupRow, JobSeries, OpenExecution, Part,
    ProgressCounts, Status, TargetSelection, WalkStats,
};
use aws_iot_jobs_exporter::metrics::{
    Collector, ExporterMetrics, Exposition, Failure, Format, Identity, JobSource, ListingState, Published, RateInForce,
    Reason, RunOutcome, Slot, TargetState, TargetStates, WalkState, catalogue,
};

use crate::support;
use crate::support::{Exposition as ReadExposition, NOW, REGION, account};

/// A part with so many jobs that have series of their own, and that uses every field.
fn part(status: &Status, jobs: u32, clock: Clock) -> Published {
    let pair = (status.clone(), TargetSelection::Snapshot);
    let counts = BTreeMap::from([(pair.clone(), u64::from(jobs))]);
    let selections = || if status.is_open() { BTreeMap::from([(pair.1.clone(), 1)]) } else { BTreeMap::new() };
    let series = |n| JobSeries {
        id: format!("{status}-{n:06}").into(),
        pair: pair.clone(),
        created_at: Some(NOW),
        last_updated_at: Some(NOW),
        completed_at: Some(NOW).filter(|_| !status.is_open()),
        scheduled_start: Some(NOW),
        scheduled_end: Some(NOW),
        described_at: Some(NOW),
        windowed: Some(false),
        thing_groups: vec!["line".into()],
        executions: Some(ExecutionCounts::from_fn(|_| Some(n))),
        is_stuck: Some(false).filter(|_| status.is_open()),
        last_progress: Some(NOW).filter(|_| status.is_open()),
        oldest_open: open_statuses(status).map(|status| (status, NOW)).collect(),
        named: open_statuses(status)
            .map(|status| OpenExecution { since: NOW, thing: "press-1".into(), status })
            .collect(),
        meets_abort_criteria: Some(false),
        tags: Some([Some("say \"hi\"\\\n".into()), None].into()),
    };
    let oldest_created = if status.is_open() { BTreeMap::from([(pair.clone(), NOW)]) } else { BTreeMap::new() };
    let row = GroupRow { jobs: counts.clone(), oldest_created: oldest_created.clone(), stuck: 1 };
    let part = Part {
        jobs: counts,
        oldest_created,
        concurrent: selections(),
        start_overdue: selections(),
        progress: status.is_open().then(|| ProgressCounts { stuck: selections(), unknown: 1 }),
        thing_groups: BTreeMap::from([("line".into(), row)]),
        undescribed: Some(0),
        series: (0..jobs).map(series).collect(),
        omitted_jobs: 0,
    };
    Published { part: Arc::new(part), collected: clock.now(), stale_after: Duration::from_hours(1) }
}

fn open_statuses(status: &Status) -> impl Iterator<Item = ExecutionStatus> {
    ExecutionStatus::ALL.into_iter().filter(|execution| status.is_open() && execution.is_open())
}

fn states() -> BTreeMap<CacheState, u64> {
    CacheState::ALL.into_iter().map(|state| (state, 1)).collect()
}

/// A state that uses every field.
pub fn state(jobs: u32, clock: Clock) -> TargetState {
    let failure = Failure { reason: Reason::Timeout, message: "no answer".to_owned() };
    let listing = ListingState {
        interval: Duration::from_mins(1),
        is_fresh: true,
        last_run: Some(RunOutcome { at: NOW, duration: Duration::from_millis(1500), failure: Some(failure) }),
        last_success: Some(NOW),
        last_walk: Some(WalkState { pages: 1, stats: WalkStats { jobs: 3, duplicates: 1, malformed: 0 } }),
        ..ListingState::default()
    };
    TargetState {
        account: Some(account()),
        open: Some(part(&Status::InProgress, jobs, clock)),
        ended: Some(part(&Status::Completed, jobs, clock)),
        folded_thing_groups: 0,
        open_jobs: listing.clone(),
        all_jobs: Some(listing),
        request_failures: BTreeMap::new(),
        states: CacheStates { details: Some(states()), executions: Some(states()), tags: Some(states()) },
        tag_keys: ["team", "cost:center"].map(str::to_owned).into(),
    }
}

/// A server of an exposition.
pub struct Serving {
    pub address: String,
}

impl Serving {
    /// Serves `targets` targets, each with so many open and as many ended jobs.
    pub async fn start(targets: usize, jobs: u32) -> Self {
        let (states, clock) = (Arc::<TargetStates>::default(), Clock::system());
        let rate = RateInForce { account: account(), region: REGION.to_owned(), operation: "ListJobs", rate: 5.0 };
        let exporter = Arc::new(ExporterMetrics::new(move || vec![rate.clone()]));
        exporter.config_applied(&Loaded::from(Config::default()), NOW);
        let source = JobSource::new(REGION, &config::Target::default());
        let slot = |n| {
            let labels = vec![("team".to_owned(), "say \"hi\"\\\n".to_owned())];
            let identity = Identity { name: format!("target-{n}"), region: REGION.to_owned(), labels };
            let slot = states.slot(identity, source.clone(), state(jobs, clock));
            slot.counters().run_ended(Collector::OpenJobs);
            slot.counters().request_failed("ListJobs", "ThrottlingException");
            slot
        };
        let slots: Vec<Slot> = (0..targets).map(slot).collect();
        states.arrange(&slots);
        let exposition = Arc::new(Exposition::new(states, Arc::clone(&exporter)));
        let listener = Listener::bind(Some("127.0.0.1"), 0).await.expect("a loopback port");
        let address = listener.local_addr().to_string();
        let handler = http::handler(move |request| {
            let (shown, exporter) = (Arc::clone(&exposition), Arc::clone(&exporter));
            async move {
                exporter.http_request("/metrics", StatusCode::OK);
                let mentions = |name: HeaderName, text: &str| {
                    let value = request.headers().get(name).and_then(|value| value.to_str().ok());
                    value.is_some_and(|value| value.contains(text))
                };
                let open_metrics = mentions(header::ACCEPT, "openmetrics-text");
                let format = if open_metrics { Format::OpenMetrics } else { Format::Text };
                let (wants_gzip, now) = (mentions(header::ACCEPT_ENCODING, "gzip"), clock.now());
                let mut response = Response::new(if wants_gzip {
                    shown.gzip_body(format, now).await.expect("gzip")
                } else {
                    shown.body(format, now)
                });
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
                if wants_gzip {
                    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                }
                response
            }
        });
        let limits = http::Limits { write_timeout: Duration::from_mins(5), ..http::Limits::default() };
        tokio::spawn(http::serve(vec![listener], limits, handler, std::future::pending()));
        Self { address }
    }

    pub fn url(&self) -> String {
        format!("http://{}/metrics", self.address)
    }
}

/// The header and the body of one response.
pub async fn exchange(address: &str, method: &str) -> (String, Vec<u8>) {
    support::exchange(address, &format!("{method} /metrics HTTP/1.1\r\nHost: exporter\r\nConnection: close\r\n\r\n"))
        .await
}

fn content_length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
}

#[tokio::test]
async fn a_body_in_many_pieces_has_its_length_and_head_has_it_too() {
    let serving = Serving::start(3, 20).await;
    let (head, body) = exchange(&serving.address, "GET").await;
    assert_eq!(content_length(&head), Some(body.len()), "{head}");
    let read = ReadExposition::parse(&body);
    assert_eq!(read.family("aws_iot_job_info").count(), 3 * 2 * 20);
    let (head, body) = exchange(&serving.address, "HEAD").await;
    assert!(body.is_empty() && content_length(&head) > Some(10_000), "{head}");
}

#[tokio::test]
async fn a_state_that_uses_every_field_shows_every_family_of_jobs_and_targets() {
    let serving = Serving::start(1, 2).await;
    let (_, body) = exchange(&serving.address, "GET").await;
    let text = String::from_utf8(body).expect("UTF-8");
    let missing: Vec<&str> = catalogue::ALL
        .iter()
        .map(|family| family.name)
        .filter(|name| !text.contains(&format!("\n# TYPE {name} ")))
        // There may be no limits.
        .filter(|name| !name.starts_with("process_"))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
