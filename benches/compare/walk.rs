//! Walks over all jobs of an endpoint, for a comparison of their cost: `benches/compare/run.py` counts instructions.
//!
//! `walk sdk URL WALKS` is what a program does that only counts the jobs: the SDK's client, its paginator, and a map.
//! `walk exporter URL WALKS` is the exporter's worker, from the request of a page to the published samples.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_iot_jobs_exporter::aws::rate_limit::RateLimiters;
use aws_iot_jobs_exporter::aws::{self, ClientOptions, Connection, PAGE_SIZE};
use aws_iot_jobs_exporter::clock::Clock;
use aws_iot_jobs_exporter::collector::{Settings, Spread, TargetConfig, Worker, WorkerOptions};
use aws_iot_jobs_exporter::config::{Config, Target};
use aws_iot_jobs_exporter::jobs::{AccountId, Scope};
use aws_iot_jobs_exporter::metrics::{Identity, JobSource, TargetState, TargetStates};
use aws_sdk_iot::config::{BehaviorVersion, Region};
use aws_sdk_iot::types::{JobStatus, TargetSelection};
use tokio::sync::watch;

const REGION: &str = "eu-west-1";

/// The account of the simulated endpoint.
const ACCOUNT: &str = "111122223333";

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [program, url, walks] = arguments.as_slice() else {
        return Err("usage: walk sdk|exporter URL WALKS".into());
    };
    let walks: u32 = walks.parse()?;
    let jobs = match program.as_str() {
        "sdk" => with_sdk(url, walks).await?,
        "exporter" => with_exporter(url, walks).await?,
        other => return Err(format!("there is no program {other:?}: sdk or exporter").into()),
    };
    println!("{jobs}");
    Ok(())
}

/// Returns how many jobs the last walk counted.
async fn with_sdk(url: &str, walks: u32) -> Result<u64, Failure> {
    let config = aws_sdk_iot::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new("AKIADEMODEMODEMODEMO", "secret", None, None, "fixed"))
        .endpoint_url(url)
        .build();
    let client = aws_sdk_iot::Client::from_conf(config);
    let mut counted = 0;
    for _ in 0..walks {
        let mut counts: HashMap<(Option<JobStatus>, Option<TargetSelection>), u64> = HashMap::new();
        let mut jobs = client.list_jobs().max_results(PAGE_SIZE).into_paginator().items().send();
        while let Some(job) = jobs.next().await {
            let job = job?;
            *counts.entry((job.status, job.target_selection)).or_default() += 1;
        }
        counted = counts.values().sum();
    }
    Ok(counted)
}

/// Returns how many jobs the last walk counted.
async fn with_exporter(url: &str, walks: u32) -> Result<u64, Failure> {
    let clock = Clock::system();
    let account = AccountId::parse(ACCOUNT)?;
    let target = Target {
        region: Some(REGION.to_owned()),
        account_id: Some(account),
        endpoint_url: Some(url.to_owned()),
        ..Target::default()
    };
    let mut config = Config::default();
    config.collectors.details.enabled = false;
    let settings = Settings::new(&config, &Target { collectors: config.collectors.clone(), ..target.clone() });
    let options = ClientOptions::local("AKIADEMODEMODEMODEMO", "secret");
    let resolved = aws::resolve(&target, &options, clock).await?;
    let limiters = Arc::new(RateLimiters::new(1_000_000.0));
    let states = Arc::new(TargetStates::default());
    let identity = Identity { name: "t".to_owned(), region: REGION.to_owned(), labels: Vec::new() };
    let slot = states.slot(identity, JobSource::default(), TargetState::default());
    let connection = Arc::new(Connection::open(resolved, &limiters, slot.counters()));
    let mut counted = 0;
    for _ in 0..walks {
        let mut shown = slot.subscribe();
        let (_sender, configured) = watch::channel(TargetConfig {
            connection: Arc::clone(&connection),
            settings: settings.clone(),
            slot: slot.clone(),
        });
        let spread = Spread::new(1, 1, Duration::from_mins(1));
        let worker = Worker::new(WorkerOptions { scope: Scope::default(), spread, clock, config: configured });
        let worker = tokio::spawn(worker.run());
        let has_ended = |target: &Arc<_>| total(target).is_some();
        counted = total(&*shown.wait_for(has_ended).await?).unwrap_or_default();
        worker.abort();
    }
    Ok(counted)
}

/// All jobs that a target shows, once its first full walk has ended.
fn total(target: &aws_iot_jobs_exporter::metrics::ShownTarget) -> Option<u64> {
    let (open, ended) = (target.state.open.as_ref()?, target.state.ended.as_ref()?);
    Some(open.part.jobs.values().chain(ended.part.jobs.values()).sum())
}
