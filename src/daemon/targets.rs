//! The monitored targets, each with its own worker, and how a reload changes them.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinSet, yield_now};

use crate::aws::rate_limit::RateLimiters;
use crate::aws::{self, ClientOptions, ConnectError, Connection};
use crate::clock::Clock;
use crate::collector::{Settings, Spread, TargetConfig, Worker, WorkerOptions};
use crate::config::{Config, MonitoredJobs, Target};
use crate::metrics::{Identity, JobSource, Slot, TargetState, TargetStates};

/// Why the targets of a configuration cannot be monitored.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// A target cannot be connected.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Two targets would have the same label.
    #[error("two targets are named {0:?}, one of them by its region: set targets[].name")]
    SameName(String),
    /// Two targets would count the same jobs.
    #[error(
        "the targets {0:?} and {1:?} monitor the same jobs, in a region that one of them gets from AWS settings: each job \
         would be counted twice; remove one of them"
    )]
    SameJobs(String, String),
}

/// Targets with known regions, all different. [`crate::config`] checked everything that needs no region.
#[derive(Debug, Default)]
pub(crate) struct TargetRegistry(Vec<RegisteredTarget>);

#[derive(Debug)]
struct RegisteredTarget {
    name: String,
    monitored_jobs: MonitoredJobs,
    /// Whether the region comes from AWS settings, not from the configuration.
    is_region_found: bool,
}

impl TargetRegistry {
    /// Adds a target, unless another one has its name or its jobs.
    pub(crate) fn insert(&mut self, target: &Target, name: &str, region: &str) -> Result<(), TargetError> {
        let (name, monitored_jobs) = (name.to_owned(), target.monitored_jobs(Some(region)));
        let is_region_found = target.region.is_none();
        for other in &self.0 {
            if other.name == name {
                return Err(TargetError::SameName(name));
            }
            if (other.is_region_found || is_region_found) && other.monitored_jobs == monitored_jobs {
                return Err(TargetError::SameJobs(other.name.clone(), name));
            }
        }
        self.0.push(RegisteredTarget { name, monitored_jobs, is_region_found });
        Ok(())
    }
}

/// Starts, changes and stops the workers of targets.
#[derive(Debug)]
pub(super) struct TargetManager {
    options: ClientOptions,
    clock: Clock,
    limiters: Arc<RateLimiters>,
    states: Arc<TargetStates>,
    running: BTreeMap<String, RunningTarget>,
    collectors: Handle,
    workers: JoinSet<()>,
}

/// A target with its worker. Dropping this ends the worker.
#[derive(Debug)]
struct RunningTarget {
    target: Target,
    config: watch::Sender<TargetConfig>,
}

impl RunningTarget {
    fn current(&self) -> TargetConfig {
        self.config.borrow().clone()
    }

    /// Whether its connection, name and labels equal those of `target`.
    fn is_connected_as(&self, target: &Target) -> bool {
        // The first two comparisons avoid copies for the others.
        let has_its_place = self.target.name == target.name && self.target.region == target.region;
        has_its_place && Target { collectors: target.collectors.clone(), ..self.target.clone() } == *target
    }

    /// Whether its jobs are also those of `target`, as far as that is known without a request to AWS.
    fn has_jobs_of(&self, target: &Target, region: &str) -> bool {
        let shown = self.current().slot.shown();
        let (own, new) =
            (self.target.monitored_jobs(Some(&shown.identity.region)), target.monitored_jobs(Some(region)));
        // AWS may have reported the account, if the configuration does not name it.
        own.can_equal(&new) && shown.state.account.as_ref().is_none_or(|account| new.can_be_of(account))
    }
}

/// The plan for a target of a new configuration.
#[derive(Debug)]
pub(super) struct Plan {
    target: Target,
    config: TargetConfig,
    /// Whether the running worker with this name is kept.
    is_kept: bool,
}

impl Plan {
    /// The target's name.
    pub(super) fn name(&self) -> String {
        self.config.slot.shown().identity.name.clone()
    }
}

impl TargetManager {
    pub(super) fn new(
        options: ClientOptions,
        clock: Clock,
        limiters: Arc<RateLimiters>,
        states: Arc<TargetStates>,
        collectors: Handle,
    ) -> Self {
        Self { options, clock, limiters, states, running: BTreeMap::new(), collectors, workers: JoinSet::new() }
    }

    /// Applies the plans for the targets of `config`. A target that keeps its name, account, region and filter keeps
    /// its data. Removed targets leave nothing behind.
    pub(super) fn apply(&mut self, config: &Config, plans: Vec<Plan>) {
        self.limiters.set_rate(config.limits.requests_per_second);
        let slots: Vec<Slot> = plans.iter().map(|plan| plan.config.slot.clone()).collect();
        let count = u32::try_from(plans.len()).unwrap_or(u32::MAX);
        let mut before = std::mem::take(&mut self.running);
        for (Plan { target, config, is_kept }, position) in plans.into_iter().zip(1..) {
            let name = config.slot.shown().identity.name.clone();
            let config = match before.remove(&name).filter(|_| is_kept) {
                Some(running) => {
                    // The worker may have published after the new slot was made.
                    config.slot.publish(running.current().slot.shown().state.clone());
                    running.config.send_if_modified(|current| {
                        let is_connected = Arc::ptr_eq(&current.connection, &config.connection);
                        let is_modified = !is_connected || current.settings != config.settings;
                        *current = config;
                        is_modified
                    });
                    running.config
                }
                None => self.start(&target, config, position, count),
            };
            self.running.insert(name, RunningTarget { target, config });
        }
        // Last, so that each new target already has data to show.
        self.states.arrange(&slots);
    }

    /// Plans the targets of `config`, without changing anything.
    ///
    /// # Errors
    /// If a target cannot be resolved, or two targets are the same.
    pub(super) async fn plan(&self, config: &Config) -> Result<Vec<Plan>, TargetError> {
        let (mut plans, mut registry) = (Vec::new(), TargetRegistry::default());
        for target in &config.targets {
            // A client takes milliseconds to make. A scrape must not wait for those of all targets.
            yield_now().await;
            let settings = Settings::new(config, target);
            let plan = match self.running.values().find(|running| running.is_connected_as(target)) {
                Some(running) => Plan {
                    target: target.clone(),
                    config: TargetConfig { settings, ..running.current() },
                    is_kept: true,
                },
                None => self.connect(target, settings).await?,
            };
            let shown = plan.config.slot.shown();
            registry.insert(target, &shown.identity.name, &shown.identity.region)?;
            plans.push(plan);
        }
        Ok(plans)
    }

    /// Plans a target that is new, or whose connection changes.
    async fn connect(&self, target: &Target, settings: Settings) -> Result<Plan, TargetError> {
        let resolved = aws::resolve(target, &self.options, self.clock).await?;
        let (name, region) = (resolved.name().to_owned(), resolved.region().to_owned());
        let running = self.running.get(&name).filter(|running| running.has_jobs_of(target, &region));
        let source = JobSource::new(&region, target);
        let identity = Identity { name, region, labels: target.labels.clone().into_iter().collect() };
        let slot = match running {
            Some(running) => running.current().slot.changed(identity, source),
            None => self.states.slot(identity, source, TargetState::default()),
        };
        let connection = Arc::new(Connection::open(resolved, &self.limiters, slot.counters()));
        let config = TargetConfig { connection, settings, slot };
        Ok(Plan { target: target.clone(), config, is_kept: running.is_some() })
    }

    fn start(
        &mut self,
        target: &Target,
        config: TargetConfig,
        position: u32,
        count: u32,
    ) -> watch::Sender<TargetConfig> {
        let spread = Spread::new(position, count, target.collectors.open_jobs.interval);
        let (sender, config) = watch::channel(config);
        let worker = Worker::new(WorkerOptions { scope: target.scope.clone(), spread, clock: self.clock, config });
        self.workers.spawn_on(worker.run(), &self.collectors);
        sender
    }

    /// The names of the targets, sorted.
    pub(super) fn names(&self) -> Vec<&str> {
        self.running.keys().map(String::as_str).collect()
    }

    /// Waits until a worker fails, which is a bug in the exporter. Returns the reason.
    pub(super) async fn failed(&mut self) -> String {
        loop {
            match self.workers.join_next().await {
                Some(Err(error)) => return error.to_string(),
                // The worker of a removed target ended.
                Some(Ok(())) => {}
                None => pending().await,
            }
        }
    }

    /// Cancels all workers.
    pub(super) async fn shut_down(&mut self) {
        self.workers.shutdown().await;
    }
}
