//! What a day of a configuration costs in requests: one walk of each target, and arithmetic.
//!
//! [`walk_all`] does the walks, as the exporter would, within the same budget. [`Estimate::new`] does the arithmetic, and asks
//! nobody. Jobs are counted as the exporter counts them, by a [`Tally`].

mod day;
mod progress;
mod report;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::app::{Roll, TargetError};
use crate::aws::rate_limit::{Class, RateLimiters};
use crate::aws::{self, ClientOptions, Connection};
use crate::clock::Clock;
use crate::collector::walks::{all_queries, walk};
use crate::config::{Config, Shown, Target};
use crate::exposition::board::Identity;
use crate::fingerprint::Fingerprinter;
use crate::jobs::{AccountId, JobSummary, Status, TargetSelection};
use crate::memory::Memory;
use crate::tally::{Attribution, Tally};
use crate::telemetry::Telemetry;
pub use day::{Change, Estimate, Failed, InvalidQuota, Quota, QuotaShare, TargetDay, Walked, Walks};
pub use progress::Progress;

/// A target that can be walked.
#[derive(Debug)]
struct Ready {
    target: Target,
    identity: Identity,
    connection: Connection,
}

/// Whose turn it is within each account and region, whose targets share a budget.
type Turns = Mutex<HashMap<(AccountId, String), Arc<tokio::sync::Mutex<()>>>>;

/// Walks each target once. Targets of one account and region, which share a budget, are walked one after another, so that each
/// takes as long as it does alone; all others at once.
///
/// # Errors
/// Where a target can't be had by its configuration; then nothing was asked of AWS.
pub async fn walk_all(
    config: &Config,
    options: &ClientOptions,
    clock: Clock,
    progress: &Progress,
) -> Result<Walks, TargetError> {
    let limiters = Arc::new(RateLimiters::new(config.limits.requests_per_second));
    let telemetry = Arc::new(Telemetry::new());
    let (mut roll, mut resolved) = (Roll::default(), Vec::new());
    for target in &config.targets {
        let found = aws::resolve(target, options, clock).await?;
        roll.enter(target, found.name(), found.region())?;
        resolved.push((target.clone(), found));
    }
    progress.begin(resolved.len());

    let (mut walking, turns) = (JoinSet::new(), Arc::new(Turns::default()));
    for (place, (target, found)) in resolved.into_iter().enumerate() {
        let (name, region) = (found.name().to_owned(), found.region().to_owned());
        let identity = Identity { name, region, labels: Vec::new() };
        let connection = Connection::open(found, &limiters, telemetry.target(identity.target_labels()));
        let ready = Ready { target, identity, connection };
        let (config, progress, turns) = (config.clone(), progress.clone(), Arc::clone(&turns));
        walking.spawn(async move {
            let outcome = ready.walk(&config, clock, &turns, &progress).await;
            progress.target_done();
            let Identity { name: target, region: aws_region, .. } = ready.identity;
            (place, outcome.map_err(|reason| Failed { target, aws_region, reason }))
        });
    }
    let mut ended = walking.join_all().await;
    ended.sort_by_key(|(place, _)| *place);
    let mut walks = Walks::default();
    for (_, outcome) in ended {
        match outcome {
            Ok(walked) => walks.whole.push(walked),
            Err(failed) => walks.failed.push(failed),
        }
    }
    Ok(walks)
}

impl Ready {
    async fn walk(&self, config: &Config, clock: Clock, turns: &Turns, progress: &Progress) -> Result<Walked, String> {
        let limit = config.refresh.timeout;
        let account = timeout(limit, self.connection.account())
            .await
            .map_err(|_| format!("account id: STS did not answer within refresh.timeout ({})", Shown(limit)))?
            .map_err(|error| format!("account id: {error}"))?;
        let quota = (account.clone(), self.identity.region.clone());
        let turn = Arc::clone(turns.lock().unwrap_or_else(PoisonError::into_inner).entry(quota).or_default());
        let _mine = turn.lock().await;
        timeout(limit, self.walk_now(account, config, clock, progress)).await.unwrap_or_else(|_| {
            let reason = "the walk was not done within refresh.timeout";
            Err(format!("{reason} ({}): raise that, or limits.requests_per_second", Shown(limit)))
        })
    }

    async fn walk_now(
        &self,
        account: AccountId,
        config: &Config,
        clock: Clock,
        progress: &Progress,
    ) -> Result<Walked, String> {
        let Self { target, identity, connection } = self;
        // Whatever is configured: how many have ended lately tells as well what another configuration would cost.
        let attribution = match config.thing_groups.ended_jobs_within {
            Duration::ZERO => Attribution::Open,
            window => Attribution::EndedSince(clock.now().wall.before(window)),
        };
        let mut memory = Memory::new(Fingerprinter::random());
        let mut tally = Tally::new(memory.fingerprints(), attribution);
        let mut lives = HashMap::new();
        let (begun, sent) = (Instant::now(), connection.requests());
        let queries = all_queries(&target.scope);
        let walking = walk(connection, Class::AllJobs, &account, &queries, config.limits.max_pages, |summary| {
            if let Some(job) = summary.id().map(|id| memory.fingerprints().of(id)) {
                // Of one that is met again the last sighting counts.
                if tally.attributes(summary) && !summary.status.as_ref().is_some_and(Status::is_open) {
                    lives.insert(job, life(summary));
                } else {
                    lives.remove(&job);
                }
            }
            tally.add(summary, &memory);
            progress.met();
        });
        let pages = walking.await.map_err(|error| error.to_string())?;
        let walk_seconds = begun.elapsed().as_secs_f64();
        let counts = tally.finish(&target.scope, &mut memory).counts;
        Ok(Walked {
            target: identity.name.clone(),
            aws_account_id: account.to_string(),
            aws_region: identity.region.clone(),
            jobs: counts.total,
            open_jobs: counts.open.len() as u64,
            jobs_ended_within: lives.len() as u64,
            lives: lives.into_values().collect(),
            pages,
            retries: (connection.requests() - sent).saturating_sub(pages),
            walk_seconds,
            has_temporary_credentials: connection.has_temporary_credentials(),
            assumes_role: target.role_arn.is_some(),
            asks_for_account: target.account_id.is_none(),
        })
    }
}

/// For how long a job was open whose groups were known then for good, as those of a SNAPSHOT job are.
fn life(summary: &JobSummary) -> Option<Duration> {
    let is_fixed = summary.target_selection == Some(TargetSelection::Snapshot);
    let (created, ended) = (summary.created_at?, summary.completed_at.or(summary.last_updated_at)?);
    is_fixed.then(|| ended.since(created))
}
