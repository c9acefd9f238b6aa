//! Runs the listings of each target.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::aws::rate_limit::{Class, RateLimiters};
use crate::aws::{self, ClientOptions, Connection, Query};
use crate::clock::Clock;
use crate::collector::walks::{self, full_queries, open_queries};
use crate::collector::{FULL_WALK_IDLE_FACTOR, JITTER, OPEN_WALK_IDLE_FACTOR};
use crate::config::{Collectors, Config, LogFormat, LogLevel, Shown, Target};
use crate::daemon::{TargetError, TargetRegistry};
use crate::jobs::{FullWalk, JobSummary};
use crate::metrics::{Failure, Reason, TargetCounters, WalkProgress};

/// How often the progress bar moves while no page arrives.
const TICK: Duration = Duration::from_millis(200);

/// The result of the listings of a target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listed {
    /// The target's name.
    pub target: String,
    /// The account of the jobs.
    pub aws_account_id: String,
    /// The region of the jobs.
    pub aws_region: String,
    /// The walk of the collector `open_jobs`.
    pub open_jobs: Walk,
    /// The walk of the collector `all_jobs`; `None` if it is disabled.
    pub all_jobs: Option<Walk>,
    /// The collectors of the target.
    #[serde(skip)]
    pub collectors: Collectors,
}

/// A complete walk.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Walk {
    /// The number of jobs, each counted once.
    pub jobs: usize,
    /// The number of open jobs.
    pub open: usize,
    /// The number of jobs that ended within `jobs.ended_within`.
    pub ended_recently: usize,
    /// The number of pages: one request each, if none fails.
    pub pages: u64,
    /// The duration of the walk, including waits for the rate limit.
    pub seconds: f64,
    /// The average time between the starts of such walks.
    pub seconds_between_starts: f64,
}

/// A target with a failed walk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// The target's name.
    pub target: String,
    /// Its region.
    pub aws_region: String,
    /// Why the walk failed.
    pub reason: String,
}

/// Runs each listing of each target once. All targets start together, as in the exporter, and share its rate limits.
/// The results are in the order of the configuration.
///
/// # Errors
/// If the configuration has no valid targets. No request is sent then.
pub async fn list_all(
    config: &Config,
    options: &ClientOptions,
    clock: Clock,
) -> Result<Vec<Result<Listed, Failed>>, TargetError> {
    let limiters = Arc::new(RateLimiters::new(config.limits.requests_per_second));
    let (progress, mut registry, mut listers) = (progress_bar(config), TargetRegistry::default(), Vec::new());
    for target in &config.targets {
        let resolved = aws::resolve(target, options, clock).await?;
        registry.insert(target, resolved.name(), resolved.region())?;
        let (name, region) = (resolved.name().to_owned(), resolved.region().to_owned());
        let connection = Connection::open(resolved, &limiters, Arc::new(TargetCounters::new(Vec::new())));
        let (target, config, progress) = (target.clone(), config.clone(), progress.clone());
        listers.push(Lister { name, region, target, connection, config, clock, progress });
    }
    let mut runs = JoinSet::new();
    for (index, lister) in listers.into_iter().enumerate() {
        runs.spawn(async move {
            let listed = lister.list().await;
            let Lister { name: target, region: aws_region, .. } = lister;
            (index, listed.map_err(|failure| Failed { target, aws_region, reason: failure.message }))
        });
    }
    let mut results = runs.join_all().await;
    results.sort_by_key(|(index, _)| *index);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// Hidden if standard error is not a terminal, or if it shows log lines.
fn progress_bar(config: &Config) -> ProgressBar {
    let is_hidden = config.log.level > LogLevel::Info || config.log.format == LogFormat::Json;
    let progress = if is_hidden { ProgressBar::hidden() } else { ProgressBar::no_length() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} jobs listed, {elapsed}") {
        progress.set_style(style);
    }
    progress.enable_steady_tick(TICK);
    progress
}

/// Runs the listings of a target.
struct Lister {
    name: String,
    region: String,
    target: Target,
    connection: Connection,
    config: Config,
    clock: Clock,
    progress: ProgressBar,
}

impl Lister {
    async fn list(&self) -> Result<Listed, Failure> {
        let Collectors { open_jobs, all_jobs, .. } = &self.target.collectors;
        // The request to STS is not part of a walk.
        let account = walks::account(&self.connection).await?;
        let queries = open_queries(&self.target.scope);
        let open_walk = self.walk(Class::OpenWalk, &queries, (open_jobs.interval, OPEN_WALK_IDLE_FACTOR)).await?;
        let queries = full_queries(&self.target.scope);
        let full_walk = if all_jobs.enabled && !queries.is_empty() {
            let walk = self.walk(Class::FullWalk, &queries, (all_jobs.interval, FULL_WALK_IDLE_FACTOR));
            Some(timeout(all_jobs.timeout, walk).await.unwrap_or_else(|_| Err(timed_out(all_jobs.timeout)))?)
        } else {
            None
        };
        Ok(Listed {
            target: self.name.clone(),
            aws_account_id: account.to_string(),
            aws_region: self.region.clone(),
            open_jobs: open_walk,
            all_jobs: full_walk,
            collectors: self.target.collectors.clone(),
        })
    }

    /// Runs a walk and counts its jobs. The next walk starts after an interval, or after a multiple of the duration.
    async fn walk(&self, class: Class, queries: &[Query], next: (Duration, u32)) -> Result<Walk, Failure> {
        let (now, limits) = (self.clock.now(), &self.config.limits);
        let jobs = FullWalk::new(now, now.wall.before(self.config.jobs.ended_within), 0);
        let insert = |jobs: &mut FullWalk, job: &JobSummary| {
            self.progress.inc(1);
            jobs.insert(job);
        };
        let walk = walks::Walk { class, queries, max_pages: limits.max_pages, progress: &WalkProgress::default() };
        let walked = walk.run(&self.connection, jobs, insert).await?;
        let took = now.instant.elapsed();
        let (interval, idle_factor) = next;
        let between_starts = interval.mul_f64(1.0 + JITTER / 2.0).max(took.saturating_mul(idle_factor));
        let jobs = walked.jobs.finish();
        Ok(Walk {
            jobs: jobs.stats().jobs,
            open: jobs.open(),
            ended_recently: jobs.ended_recently(),
            pages: walked.pages,
            seconds: took.as_secs_f64(),
            seconds_between_starts: between_starts.as_secs_f64(),
        })
    }
}

fn timed_out(timeout: Duration) -> Failure {
    let limit = format!("collectors.all_jobs.timeout ({})", Shown(timeout));
    let message = format!("the walk did not complete within {limit}: raise that, or limits.requests_per_second");
    Failure { reason: Reason::Timeout, message }
}
