//! The worker of a target, on the paused clock against the simulator: what it publishes, and when.

mod describe_faults;
mod executions;
mod first_version;
mod reload;
mod schedule;
mod walks;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_iot_jobs_exporter::aws::rate_limit::RateLimiters;
use aws_iot_jobs_exporter::aws::{self, ClientOptions, Connection};
use aws_iot_jobs_exporter::clock::Clock;
use aws_iot_jobs_exporter::collector::{Settings, Spread, TargetConfig, Worker, WorkerOptions};
use aws_iot_jobs_exporter::config::{Config, Target};
use aws_iot_jobs_exporter::jobs::{CacheState, Part, Scope, Status};
use aws_iot_jobs_exporter::metrics::{
    Collector, Identity, JobSource, Published, Reason, TargetCounters, TargetState, TargetStates,
};
use aws_iot_jobs_exporter::simulator::{Job, Simulator};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::support::{ACCESS_KEY_ID, NOW, REGION, Wire, account, target};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

/// The settings of a configuration that says nothing.
pub fn settings() -> Settings {
    Settings::new(&Config::default(), &Target::default())
}

/// How a target is set up.
pub struct Setup {
    pub rate: f64,
    pub scope: Scope,
    pub settings: Settings,
    pub spread: Spread,
    pub credentials: Option<SharedCredentialsProvider>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            rate: 1000.0,
            scope: Scope::default(),
            settings: settings(),
            spread: Spread::new(1, 1, MINUTE),
            credentials: None,
        }
    }
}

/// A worker that runs, and everything that it has published.
pub struct Running {
    pub simulator: Simulator,
    pub wire: Wire,
    pub clock: Clock,
    pub counters: Arc<TargetCounters>,
    pub config: watch::Sender<TargetConfig>,
    pub started: Instant,
    pub limiters: Arc<RateLimiters>,
    history: Arc<Mutex<Vec<(Instant, TargetState)>>>,
    task: JoinHandle<()>,
    recorder: JoinHandle<()>,
}

impl Running {
    pub async fn start(simulator: &Simulator) -> Self {
        Self::start_with(simulator, Setup::default()).await
    }

    pub async fn start_with(simulator: &Simulator, setup: Setup) -> Self {
        let Setup { rate, scope, settings, spread, credentials } = setup;
        let clock = Clock::starting_at(NOW);
        let wire = Wire::new(simulator.clone(), clock);
        let limiters = Arc::new(RateLimiters::new(rate));
        let connection = connection(&wire, clock, &limiters, credentials).await;
        let identity = Identity { name: "t".to_owned(), region: REGION.to_owned(), labels: Vec::new() };
        let slot = Arc::new(TargetStates::default()).slot(identity, JobSource::default(), TargetState::default());
        let (counters, mut states) = (slot.counters(), slot.subscribe());
        let (config, configured) = watch::channel(TargetConfig { connection, settings, slot });
        let history: Arc<Mutex<Vec<(Instant, TargetState)>>> = Arc::default();
        let seen = Arc::clone(&history);
        let recorder = tokio::spawn(async move {
            while states.changed().await.is_ok() {
                let state = states.borrow_and_update().state.clone();
                seen.lock().expect("no test panics in here").push((Instant::now(), state));
            }
        });
        let worker = Worker::new(WorkerOptions { scope, spread, clock, config: configured });
        let (started, task) = (Instant::now(), tokio::spawn(worker.run()));
        let simulator = simulator.clone();
        Self { simulator, wire, clock, counters, config, started, limiters, history, task, recorder }
    }

    /// What was published, and when.
    pub fn history(&self) -> Vec<(Instant, TargetState)> {
        self.history.lock().expect("no test panics in here").clone()
    }

    /// What is published.
    pub fn state(&self) -> TargetState {
        self.history.lock().expect("no test panics in here").last().expect("a state").1.clone()
    }

    /// What is published so much later.
    pub async fn after(&self, duration: Duration) -> TargetState {
        sleep(duration).await;
        self.state()
    }

    pub fn change(&self, id: &str, change: impl FnOnce(&mut Job)) {
        let changed = self.simulator.with_fleet(&account(), REGION, |fleet| fleet.update_job(id, change));
        assert!(changed, "there is no job {id}");
    }

    pub fn add(&self, job: Job) {
        self.simulator.with_fleet(&account(), REGION, |fleet| fleet.add_job(job));
    }

    pub fn remove(&self, id: &str) {
        let removed = self.simulator.with_fleet(&account(), REGION, |fleet| fleet.remove_job(id));
        assert!(removed.is_some(), "there is no job {id}");
    }

    /// Ends a job now.
    pub fn end(&self, id: &str, status: Status) {
        let now = self.clock.now().wall;
        self.change(id, |job| {
            job.status = status;
            (job.last_updated_at, job.completed_at) = (now, Some(now));
        });
    }

    /// Changes the settings.
    pub fn configure(&self, change: impl FnOnce(&mut Settings)) {
        self.config.send_modify(|config| change(&mut config.settings));
    }

    pub fn failures(&self, collector: Collector, reason: Reason) -> u64 {
        self.counters.failures(collector, reason)
    }

    pub fn all_failures(&self, collector: Collector) -> u64 {
        Reason::ALL.iter().map(|reason| self.counters.failures(collector, *reason)).sum()
    }

    /// How often a job was described.
    pub fn descriptions(&self, id: &str) -> usize {
        self.wire.releases(&format!("/jobs/{id}")).len()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
        self.recorder.abort();
    }
}

pub async fn connection(
    wire: &Wire,
    clock: Clock,
    limiters: &Arc<RateLimiters>,
    credentials: Option<SharedCredentialsProvider>,
) -> Arc<Connection> {
    let mut options = ClientOptions { http: wire.client(), ..ClientOptions::local(ACCESS_KEY_ID, "secret") };
    options.credentials = credentials.or(options.credentials);
    let resolved = aws::resolve(&target("t", "http://simulator.test"), &options, clock).await.expect("a target");
    Arc::new(Connection::open(resolved, limiters, Arc::new(TargetCounters::new(Vec::new()))))
}

pub fn part(published: Option<&Published>) -> &Part {
    &published.expect("published data").part
}

/// All jobs of a part; `None` if it is not shown.
pub fn total(published: Option<&Published>) -> Option<u64> {
    published.map(|published| published.part.jobs.values().sum())
}

/// The jobs of one status in a part.
pub fn count(published: Option<&Published>, status: &Status) -> u64 {
    part(published).jobs.iter().filter(|((of, _), _)| of == status).map(|(_, jobs)| jobs).sum()
}

/// The jobs of a thing group with one status; `None` without a row.
pub fn group_count(published: Option<&Published>, group: &str, status: &Status) -> Option<u64> {
    let row = part(published).thing_groups.get(group)?;
    row.jobs.iter().filter(|((of, _), _)| of == status).map(|(_, jobs)| *jobs).reduce(|a, b| a + b)
}

pub fn details(state: &TargetState, of: CacheState) -> u64 {
    state.states.details.as_ref().expect("descriptions")[&of]
}

/// A job in progress that targets the thing group `line`.
pub fn open(id: &str) -> Job {
    Job::new(id, Status::InProgress, NOW.before(DAY / 2)).targeting_group("line")
}

/// A completed job that targets the thing group `line`.
pub fn ended(id: &str, age: Duration) -> Job {
    Job::new(id, Status::Completed, NOW.before(age + DAY)).updated(NOW.before(age)).targeting_group("line")
}

/// `count` open jobs: `open-000` and so on.
pub fn open_jobs(count: usize) -> impl Iterator<Item = Job> {
    (0..count).map(|n| open(&format!("open-{n:03}")))
}

/// `count` jobs that ended so long ago.
pub fn ended_jobs(count: usize, age: Duration) -> impl Iterator<Item = Job> {
    (0..count).map(move |n| ended(&format!("ended-{n:05}"), age))
}
