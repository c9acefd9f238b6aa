//! The parts of the way from an answer of AWS to a scrape: decode, store, aggregate, render, and answer a scrape.
//!
//! `cargo bench --bench parts` measures times. `benches/instructions.py` counts the instructions of each part.

#![expect(clippy::expect_used, reason = "a benchmark that cannot run ends")]

use std::collections::BTreeMap;
use std::future::ready;
use std::hint::black_box;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use aws_iot_jobs_exporter::aws::rate_limit::{Class, RateLimiters};
use aws_iot_jobs_exporter::aws::{self, ClientOptions, Connection, PAGE_SIZE, Query};
use aws_iot_jobs_exporter::clock::Clock;
use aws_iot_jobs_exporter::config::Target;
use aws_iot_jobs_exporter::http::Handler;
use aws_iot_jobs_exporter::jobs::{
    AccountId, AggregateOptions, Aggregator, JobStore, JobSummary, OpenWalk, Part, Scope, SeriesLimits, Shown, Status,
    StoreOptions, TargetSelection, Timepoint, Timestamp,
};
use aws_iot_jobs_exporter::metrics::{
    ExporterMetrics, Identity, JobSource, Published, Slot, TargetState, TargetStates,
};
use aws_iot_jobs_exporter::web::Site;
use aws_smithy_types::body::SdkBody;
use bytes::{Buf as _, Bytes};
use divan::Bencher;
use http_body_util::BodyExt as _;

#[path = "../src/aws/fake_connector.rs"]
mod fake_connector;

/// An account with many ended jobs.
const JOBS: usize = 100_000;

/// The open jobs, each with series of its own.
const OPEN_JOBS: usize = 200;

const REGION: &str = "eu-west-1";
const ACCOUNT: &str = "012345678901";

fn main() {
    divan::main();
}

fn now() -> Timepoint {
    Clock::system().now()
}

/// A job of the last two years; every 500th one is open.
fn summary(number: usize, now: Timepoint) -> JobSummary {
    let is_open = number.is_multiple_of(JOBS / OPEN_JOBS);
    let age = Duration::from_mins(10 * u64::try_from(number).unwrap_or_default());
    let at = now.wall.before(age);
    let id = format!("pump-fw-{}-{}-{number:06}", number % 7, number % 23);
    JobSummary {
        job_arn: Some(format!("arn:aws:iot:{REGION}:{ACCOUNT}:job/{id}")),
        job_id: Some(id),
        thing_group_id: None,
        target_selection: Some(TargetSelection::Snapshot),
        status: Some(if is_open { Status::InProgress } else { Status::Completed }),
        created_at: Some(at),
        last_updated_at: Some(at),
        completed_at: (!is_open).then_some(at),
        is_concurrent: Some(false),
    }
}

fn summaries(now: Timepoint) -> Vec<JobSummary> {
    (0..JOBS).map(|number| summary(number, now)).collect()
}

/// The answer of `ListJobs` with a whole page.
fn page(now: Timepoint) -> String {
    let seconds = |time: Option<Timestamp>| time.map(Timestamp::as_secs_f64);
    let job = |number| {
        let job = summary(number, now);
        serde_json::json!({
            "jobArn": job.job_arn,
            "jobId": job.job_id,
            "thingGroupId": "9a3ec0fc-7b0d-4a5e-9d43-6a7f7c1c2b0e",
            "targetSelection": job.target_selection.as_ref().map(TargetSelection::as_str),
            "status": job.status.as_ref().map(Status::as_str),
            "createdAt": seconds(job.created_at),
            "lastUpdatedAt": seconds(job.last_updated_at),
            "completedAt": seconds(job.completed_at),
            "isConcurrent": job.is_concurrent,
        })
    };
    let jobs: Vec<serde_json::Value> = (0..usize::try_from(PAGE_SIZE).unwrap_or_default()).map(job).collect();
    serde_json::json!({ "jobs": jobs, "nextToken": "2" }).to_string()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn connection(page: String) -> Connection {
    let page = Bytes::from(page);
    let options = ClientOptions {
        http: fake_connector::client(move |_| ready(Ok(http::Response::new(SdkBody::from(page.clone()))))),
        ..ClientOptions::local("AKIDBENCH", "key")
    };
    let target = Target {
        region: Some(REGION.to_owned()),
        account_id: Some(AccountId::parse(ACCOUNT).expect("an account")),
        endpoint_url: Some("http://localhost".to_owned()),
        ..Target::default()
    };
    let resolved = aws::resolve(&target, &options, Clock::system()).await.expect("a target");
    // Far above what a walk needs, so that no request waits.
    let limiters = Arc::new(RateLimiters::new(1_000_000.0));
    Connection::open(resolved, &limiters, states().1.counters())
}

/// A signed request for a page of 250 jobs, and its answer as values of the exporter.
#[divan::bench]
fn decode(bencher: Bencher) {
    let runtime = runtime();
    let connection = runtime.block_on(connection(page(now())));
    bencher.bench_local(|| {
        let page = runtime.block_on(connection.list_jobs(&Query::default(), None, Class::FullWalk));
        page.expect("a page")
    });
}

fn empty_store() -> JobStore {
    JobStore::new(StoreOptions {
        scope: Scope::default(),
        open_interval: Duration::from_mins(1),
        lists_ended: true,
        ended_within: Duration::from_hours(7 * 24),
        details: None,
        executions: None,
        tag_keys: [].into(),
    })
}

/// Takes in the pages of an open and of a full walk.
fn list(store: &mut JobStore, summaries: &[JobSummary], now: Timepoint) {
    let mut open = OpenWalk::default();
    for summary in summaries.iter().step_by(JOBS / OPEN_JOBS) {
        open.insert(summary);
    }
    store.open_walk_done(open, now);
    let mut full = store.start_full_walk(now);
    for summary in summaries {
        full.insert(summary);
    }
    store.full_walk_done(full.finish(), now);
}

/// Both walks over an account with 100,000 jobs.
#[divan::bench]
fn store(bencher: Bencher) {
    let now = now();
    let summaries = summaries(now);
    let mut store = empty_store();
    list(&mut store, &summaries, now);
    bencher.bench_local(|| list(black_box(&mut store), &summaries, now));
}

/// The sums of an account with 100,000 jobs, and the 1,200 of them that get series.
#[divan::bench]
fn aggregate(bencher: Bencher) {
    let now = now();
    let mut store = empty_store();
    list(&mut store, &summaries(now), now);
    let mut aggregator = Aggregator::default();
    bencher.bench_local(|| aggregated(&mut aggregator, black_box(&store), now));
}

fn aggregated(aggregator: &mut Aggregator, store: &JobStore, now: Timepoint) -> [Part; 2] {
    let series = SeriesLimits { open: 1000, ended: 1000, things: 10 };
    let options = AggregateOptions { max_thing_groups: 100, series: Some(series), ..AggregateOptions::default() };
    let snapshot = aggregator.aggregate(store, &options, Shown { open: true, ended: true }, now);
    [snapshot.open, snapshot.ended].map(|part| part.expect("a complete walk"))
}

fn states() -> (Arc<TargetStates>, Slot) {
    let states = Arc::new(TargetStates::default());
    let identity = Identity { name: "plants".to_owned(), region: REGION.to_owned(), labels: Vec::new() };
    let slot = states.slot(identity, JobSource::default(), TargetState::default());
    states.arrange([&slot]);
    (states, slot)
}

fn state(parts: [Part; 2], now: Timepoint) -> TargetState {
    let stale_after = Duration::from_hours(24);
    let [open, ended] = parts.map(|part| Some(Published { part: Arc::new(part), collected: now, stale_after }));
    let account = AccountId::parse(ACCOUNT).ok();
    TargetState { account, open, ended, ..TargetState::default() }
}

fn large_state(now: Timepoint) -> TargetState {
    let mut store = empty_store();
    list(&mut store, &summaries(now), now);
    state(aggregated(&mut Aggregator::default(), &store, now), now)
}

/// The samples of a target with 1,200 jobs.
#[divan::bench]
fn render(bencher: Bencher) {
    let now = now();
    let (_, slot) = states();
    let full = large_state(now);
    let count = BTreeMap::from([((Status::InProgress, TargetSelection::Snapshot), 1)]);
    let small = state([Part { jobs: count, ..Part::default() }, Part::default()], now);
    bencher.bench_local(|| {
        // Only what differs is rendered.
        slot.publish(small.clone());
        slot.publish(full.clone());
    });
}

/// Whole responses, with the headers that Prometheus sends.
#[divan::bench(args = ["identity", "gzip"])]
fn scrape(bencher: Bencher, encoding: &str) {
    let now = now();
    let (states, slot) = states();
    slot.publish(large_state(now));
    let metrics = Arc::new(ExporterMetrics::new(Vec::new));
    let handler = Arc::new(Site::new(states, metrics, Clock::system(), "/metrics".to_owned(), None)).handler();
    let runtime = runtime();
    bencher.bench_local(|| runtime.block_on(answer(&handler, encoding)));
}

async fn answer(handler: &Handler, encoding: &str) -> usize {
    let request = http::Request::get("/metrics")
        .header(
            "accept",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
        )
        .header("accept-encoding", encoding)
        .body(Bytes::new())
        .expect("a request");
    let (mut body, mut length) = (handler(request).await.into_body(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(mut pieces) = frame.expect("no error").into_data() else { continue };
        // As hyper sends it: up to 64 pieces with one system call.
        while pieces.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 64];
            let filled = pieces.chunks_vectored(&mut slices);
            let sent = slices.iter().take(filled).map(|slice| slice.len()).sum();
            pieces.advance(sent);
            length += sent;
        }
    }
    length
}
