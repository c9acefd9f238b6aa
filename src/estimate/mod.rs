//! What a day of a configuration costs in requests: one walk of each target, and arithmetic.
//!
//! [`walk_all`] does the walks, as the exporter would, within the same budget. [`Estimate::new`] does the arithmetic, and asks
//! nobody. Jobs are counted as the exporter counts them, by a [`Tally`].

mod day;
mod progress;
mod report;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::app::{Roll, TargetError};
use crate::aws::budget::Budgets;
use crate::aws::{self, Access, Connection};
use crate::clock::Clock;
use crate::config::{Config, Target};
use crate::exposition::board::Identity;
use crate::fingerprint::Fingerprinter;
use crate::job::AccountId;
use crate::memory::Memory;
use crate::refresh::walk::walk;
use crate::tally::{Attribution, Tally};
use crate::telemetry::Telemetry;
pub use day::{Change, Estimate, Failed, InvalidQuota, Quota, QuotaShare, TargetDay, Walked, Walks};
pub use progress::Progress;

/// A target that can be walked.
#[derive(Debug)]
struct Ready {
    /// Its place in the configuration.
    place: usize,
    target: Target,
    identity: Identity,
    connection: Connection,
}

/// Walks each target once. Targets of one account and region, which share a budget, are walked one after another, so that each
/// takes as long as it does alone; all others at once.
///
/// # Errors
/// Where a target can't be had by its configuration; then nothing was asked of AWS.
pub async fn walk_all(
    config: &Config,
    access: &Access,
    clock: Clock,
    progress: &Progress,
) -> Result<Walks, TargetError> {
    let budgets = Arc::new(Budgets::new(config.limits.requests_per_second));
    let telemetry = Arc::new(Telemetry::new(false));
    let (mut roll, mut resolved) = (Roll::default(), Vec::new());
    for target in &config.targets {
        let found = aws::resolve(target, access, clock, config.refresh.timeout).await?;
        roll.enter(target, found.name(), found.region())?;
        resolved.push((target.clone(), found));
    }
    progress.begin(resolved.len());

    let mut asking = JoinSet::new();
    for (place, (target, found)) in resolved.into_iter().enumerate() {
        let (name, region) = (found.name().to_owned(), found.region().to_owned());
        let identity = Identity { name, region, labels: Vec::new() };
        let connection = Connection::open(found, &budgets, telemetry.target(identity.target_labels()));
        let ready = Ready { place, target, identity, connection };
        asking.spawn(async move {
            let account = ready.connection.account().await;
            (ready, account)
        });
    }
    let (mut failed, mut groups) = (BTreeMap::new(), BTreeMap::<_, Vec<Ready>>::new());
    for (ready, account) in asking.join_all().await {
        match account {
            Ok(account) => groups.entry((account, ready.identity.region.clone())).or_default().push(ready),
            Err(error) => {
                let reason = format!("account id: {error}");
                failed.insert(ready.place, Failed { target: ready.identity.name, reason });
                progress.target_done();
            }
        }
    }

    let mut walking = JoinSet::new();
    for ((account, _), mut group) in groups {
        group.sort_by_key(|ready| ready.place);
        let (config, progress) = (config.clone(), progress.clone());
        walking.spawn(async move {
            let mut walked = Vec::new();
            for ready in group {
                let outcome = walk_one(&ready, account.clone(), &config, clock, &progress).await;
                progress.target_done();
                walked.push((ready.place, ready.identity.name, outcome));
            }
            walked
        });
    }
    let mut whole = BTreeMap::new();
    for (place, target, outcome) in walking.join_all().await.into_iter().flatten() {
        match outcome {
            Ok(walked) => drop(whole.insert(place, walked)),
            Err(reason) => drop(failed.insert(place, Failed { target, reason })),
        }
    }
    Ok(Walks { whole: whole.into_values().collect(), failed: failed.into_values().collect() })
}

async fn walk_one(
    ready: &Ready,
    account: AccountId,
    config: &Config,
    clock: Clock,
    progress: &Progress,
) -> Result<Walked, String> {
    let Ready { target, identity, connection, .. } = ready;
    let (timeout, window) = (config.refresh.timeout, config.thing_groups.ended_jobs_within);
    // Whatever is configured: how many have ended lately tells as well what another configuration would cost.
    let attribution = match window {
        Duration::ZERO => Attribution::Open,
        window => Attribution::EndedSince(clock.now().wall.before(window)),
    };
    let mut memory = Memory::new(Fingerprinter::random());
    let mut tally = Tally::new(memory.fingerprints(), attribution);
    let (begun, sent) = (Instant::now(), connection.requests());
    let walking = walk(connection, &account, &target.scope, config.limits.max_pages, |summary| {
        tally.add(summary, &memory);
        progress.met();
    });
    let pages = timeout_at(begun + timeout, walking)
        .await
        .map_err(|_| format!("the walk was not done within refresh.timeout ({timeout:?})"))?
        .map_err(|error| error.to_string())?;
    let walk_seconds = begun.elapsed().as_secs_f64();
    let ended = tally.waiting(&memory).len() as u64;
    let counts = tally.finish(&target.scope, &mut memory).counts;
    let renewals = connection.credentials_last(clock.now().wall).map(|last| day::DAY.div_duration_f64(last));
    Ok(Walked {
        target: identity.name.clone(),
        aws_account_id: account.to_string(),
        aws_region: identity.region.clone(),
        jobs: counts.total,
        open_jobs: counts.open.len() as u64,
        jobs_ended_within: ended,
        pages,
        retries: (connection.requests() - sent).saturating_sub(pages),
        walk_seconds,
        credential_renewals_per_day: renewals.unwrap_or_default(),
        assumes_role: target.role_arn.is_some(),
        asks_for_account: target.account_id.is_none(),
    })
}
