//! When to walk, and what becomes of it: each target on its own task and schedule, publishing to its place on the board.

mod describe;
mod log;
pub mod walk;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::aws::Connection;
use crate::census::{self, Census, Folding};
use crate::clock::{Clock, Moment};
use crate::config::{Jobs, Limits, Refresh, Resolve, ThingGroups};
use crate::exposition::board::{Ended, Failure, Good, Identity, State};
use crate::exposition::fragments::Fragments;
use crate::fingerprint::Fingerprinter;
use crate::job::{AccountId, Description, Scope, Status, TargetSelection, Timestamp};
use crate::memory::{Memory, Standing};
use crate::snapshot::{Describing, Permission, Snapshot, Walk};
use crate::tally::{Attribution, Tallied, Tally};
use crate::telemetry::{Reason, TargetTelemetry};
use describe::{Answer, Round, describe};
use log::Log;
use walk::WalkError;

/// For how long `DescribeJob` is left alone after AWS has denied it.
const DENIED_FOR: Duration = Duration::from_mins(10);

/// After how long the few jobs that AWS would not describe are asked for again.
const REFUSED_FOR: Duration = Duration::from_hours(1);

/// For a look at the credentials after the time of a refresh is up.
const GRACE: Duration = Duration::from_secs(30);

/// What it takes to refresh one target.
#[derive(Debug)]
pub struct Setup {
    /// What the target is called.
    pub identity: Arc<Identity>,
    /// Its way to AWS.
    pub connection: Arc<Connection>,
    /// Its scope.
    pub scope: Scope,
    /// The schedule.
    pub schedule: Refresh,
    /// Bounds.
    pub limits: Limits,
    /// What is told of thing groups.
    pub thing_groups: ThingGroups,
    /// What is told of single jobs.
    pub jobs: Jobs,
    /// Its counters.
    pub telemetry: TargetTelemetry,
    /// Its place on the board.
    pub board: watch::Sender<State>,
    /// The time.
    pub clock: Clock,
}

/// Refreshes one target for as long as the process runs.
#[derive(Debug)]
pub struct Refresher {
    setup: Setup,
    wanted: census::Settings,
    memory: Memory,
    folding: Folding,
    /// Until when `DescribeJob` is left alone.
    denied_until: Option<Instant>,
    /// When the jobs that AWS would not describe were last asked for again.
    refusals_since: Instant,
    log: Log,
}

/// A refresh that succeeded.
#[derive(Debug)]
struct Refreshed {
    account: AccountId,
    tallied: Tallied,
    walk: Walk,
    describing: Option<Describing>,
    /// The first description that failed.
    describe_failure: Option<Failure>,
    at: Moment,
}

impl Refresher {
    /// Makes ready; nothing is asked of AWS yet.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let (jobs, limits) = (&setup.jobs, &setup.limits);
        let at_most = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
        let wanted = census::Settings {
            long_running_after: jobs.long_running_after.clone(),
            filter: setup.thing_groups.filter.clone(),
            max_thing_groups: at_most(limits.max_thing_groups),
            max_jobs: jobs.series.then(|| at_most(limits.max_jobs)),
        };
        Self {
            wanted,
            memory: Memory::new(Fingerprinter::random()),
            folding: Folding::default(),
            denied_until: None,
            refusals_since: Instant::now(),
            log: Log::default(),
            setup,
        }
    }

    /// What the target is called.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.setup.identity
    }

    /// Refreshes at once, and then on the interval, until it is dropped.
    pub async fn run(mut self) {
        loop {
            let started = Instant::now();
            let outcome = self.refresh(started).await;
            let took = started.elapsed();
            let interval = self.setup.schedule.interval;
            match outcome {
                Ok(mut refreshed) => {
                    let describing = refreshed.describing.unwrap_or_default().duration;
                    let walking = took.saturating_sub(describing);
                    self.publish(&mut refreshed, took);
                    let next = next_start(started, walking, describing, interval, fastrand::f64());
                    self.catch_up(&mut refreshed, took, next).await;
                    sleep_until(next).await;
                }
                Err(failure) => {
                    self.publish_failure(&failure, took);
                    sleep_until(next_start(started, took, Duration::ZERO, interval, fastrand::f64())).await;
                }
            }
        }
    }

    async fn refresh(&mut self, started: Instant) -> Result<Refreshed, Failure> {
        let (deadline, requests) = (started + self.setup.schedule.timeout, self.setup.connection.requests());
        let walked = timeout_at(deadline, self.walk()).await.unwrap_or_else(|_| {
            let message = format!("the walk was not done within refresh.timeout ({:?})", self.setup.schedule.timeout);
            Err(Failure { reason: Reason::Timeout, message })
        });
        let (account, mut tally, mut walk) = walked?;
        let (describing, describe_failure) = self.describe_open(&account, &mut tally, deadline).await?;
        walk.requests = self.setup.connection.requests() - requests;

        let at = self.setup.clock.now();
        self.memory.expire_executions(at, self.setup.schedule.stale_after(started.elapsed()));
        let tallied = tally.finish(&self.setup.scope, &mut self.memory);
        Ok(Refreshed { account, tallied, walk, describing, describe_failure, at })
    }

    async fn walk(&mut self) -> Result<(AccountId, Tally, Walk), Failure> {
        let account = self.account().await?;
        let Setup { connection, scope, limits, thing_groups, clock, .. } = &self.setup;
        let attribution = match thing_groups {
            ThingGroups { resolve: Resolve::Off, .. } => Attribution::Nothing,
            ThingGroups { ended_jobs_within: Duration::ZERO, .. } => Attribution::Open,
            ThingGroups { ended_jobs_within, .. } => {
                Attribution::EndedSince(clock.now().wall.before(*ended_jobs_within))
            }
        };
        let (memory, by_summary) = (&mut self.memory, thing_groups.resolve == Resolve::Summary);
        let (walking, mut tally) = (Instant::now(), Tally::new(memory.fingerprints(), attribution));
        let pages = walk::walk(connection, &account, scope, limits.max_pages, |summary| {
            if let (true, Some(id)) = (by_summary && tally.attributes(summary), summary.id()) {
                let job = memory.fingerprints().of(id);
                memory.learn_summary(job, summary.created_at, summary.thing_group_id.as_deref());
            }
            tally.add(summary, memory);
        });
        let pages =
            pages.await.map_err(|error: WalkError| Failure { reason: error.reason(), message: error.to_string() })?;
        let duration = walking.elapsed();
        // Credentials that changed in the middle may belong to somebody else.
        self.check_same_account(&account).await?;
        Ok((account, tally, Walk { duration, pages, requests: 0 }))
    }

    async fn account(&self) -> Result<AccountId, Failure> {
        let account = self.setup.connection.account().await;
        account.map_err(|error| Failure { reason: error.reason, message: format!("account id: {error}") })
    }

    async fn check_same_account(&self, before: &AccountId) -> Result<(), Failure> {
        let after = self.account().await?;
        if after == *before {
            return Ok(());
        }
        let message = format!("the credentials changed from account {before} to account {after} during the refresh");
        Err(Failure { reason: Reason::AccountMismatch, message })
    }

    fn is_denied(&self) -> bool {
        self.denied_until.is_some_and(|until| Instant::now() < until)
    }

    /// Describes the open jobs, those that were open and are missing, and ended ones where they are few; and makes their
    /// descriptions a part of the count.
    ///
    /// What can't be described stays as the walk told it: what `ListJobs` said is whole.
    async fn describe_open(
        &mut self,
        account: &AccountId,
        tally: &mut Tally,
        deadline: Instant,
    ) -> Result<(Option<Describing>, Option<Failure>), Failure> {
        let by_description = self.setup.thing_groups.resolve == Resolve::Describe;
        let describes_open = self.setup.jobs.describe;
        if !by_description && !describes_open {
            return Ok((None, None));
        }
        if self.refusals_since.elapsed() >= REFUSED_FOR {
            self.memory.forget_refusals();
            self.refusals_since = Instant::now();
        }
        let mut open: Vec<Box<str>> = Vec::new();
        if describes_open {
            let missing = self.memory.open().filter(|job_id| !tally.has_met(job_id));
            open = tally.open().chain(missing).map(Into::into).collect();
            // Where the time is not enough for all, each has its turn.
            open.sort_by_cached_key(|job_id| (self.memory.last_described(job_id), job_id.clone()));
        }
        if self.is_denied() {
            let failures = tally.open().filter(|_| describes_open).count() as u64;
            self.memory.keep_open(tally.open_with_creation());
            let permission = Permission::Denied;
            return Ok((Some(Describing { failures, permission, ..Describing::default() }), None));
        }
        let (begun, mut asked) = (Instant::now(), open.clone());
        let ended = tally.waiting();
        if ended.len() <= self.at_once() {
            asked.extend(ended);
        }
        let until = deadline.min(begun + self.patience(asked.len()));
        let round = self.ask(account, asked, until).await?;

        self.take_up(&round, tally);
        let answered = round.answered();
        let unanswered: HashSet<&str> = open.iter().map(AsRef::as_ref).filter(|id| !answered.contains(id)).collect();
        let still_missing = unanswered.iter().filter(|job_id| !tally.has_met(job_id) && !round.is_denied());
        let still_missing = still_missing.map(|job_id| (*job_id, self.memory.created_at(job_id))).collect::<Vec<_>>();
        self.memory.keep_open(tally.open_with_creation().chain(still_missing));
        let describing = Describing {
            described: round.described(),
            failures: unanswered.len() as u64,
            undescribed: 0,
            permission: round.permission(),
            duration: begun.elapsed(),
        };
        Ok((Some(describing), round.failure))
    }

    /// Asks AWS of jobs; nothing of it is used where the answers may be another account's.
    async fn ask(&mut self, account: &AccountId, jobs: Vec<Box<str>>, until: Instant) -> Result<Round, Failure> {
        let round = describe(&self.setup.connection, account, self.setup.clock, jobs, until).await;
        let checked = timeout_at(until.max(Instant::now() + GRACE), self.check_same_account(account)).await;
        checked.unwrap_or_else(|_| {
            let message = "the credentials could not be looked at again after the jobs were described".to_owned();
            Err(Failure { reason: Reason::Timeout, message })
        })?;
        if round.is_denied() {
            self.denied_until = Some(Instant::now() + DENIED_FOR);
        } else if round.described() > 0 {
            self.denied_until = None;
        }
        Ok(round)
    }

    /// How many ended jobs are described before the others are shown: what the budget gives in a tenth of the interval. So
    /// what ends unseen from one walk to the next does not make rows flicker.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is positive, and casts saturate"
    )]
    fn at_once(&self) -> usize {
        (self.setup.limits.requests_per_second * self.setup.schedule.interval.as_secs_f64() / 10.0).ceil() as usize
    }

    /// For how long so many jobs may be described: an interval, or twice what the budget takes.
    fn patience(&self, jobs: usize) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "jobs are fewer than 2^53")]
        let at_budget = Duration::try_from_secs_f64(jobs as f64 / self.setup.limits.requests_per_second);
        self.setup
            .schedule
            .interval
            .max(at_budget.unwrap_or(Duration::MAX).saturating_mul(2))
            .min(self.setup.schedule.timeout)
    }

    /// Makes what was told of jobs a part of the count.
    fn take_up(&mut self, round: &Round, tally: &mut Tally) {
        let scope = &self.setup.scope;
        for (job_id, at, answer) in &round.answers {
            let Answer::Told(description) = answer else {
                tally.remove(job_id);
                continue;
            };
            let seen = tally.seen(job_id);
            let mut description = description.clone();
            let created_at = description.summary.created_at.or(seen.and_then(|seen| seen.created_at));
            description.summary.created_at = created_at;
            let is_newer = seen.is_none_or(|seen| seen.is_older_than(&description.summary));
            if !is_newer && seen.is_some_and(|seen| seen.created_at != created_at) {
                // It tells of the job that had this id before.
                continue;
            }
            if self.setup.thing_groups.resolve == Resolve::Describe {
                let job = self.memory.fingerprints().of(job_id);
                let targets = description.targets.as_deref();
                self.memory.learn_targets(job, created_at, targets, standing(&description));
            }
            self.memory.described(job_id, &description, *at);
            if seen.is_none() {
                tally.recover(job_id, &description.summary, scope, &self.memory);
            } else if is_newer {
                tally.amend(job_id, &description.summary, scope, &self.memory);
            }
        }
        for job_id in &round.refused {
            if let Some(seen) = tally.seen(job_id).filter(|seen| !seen.is_open && !round.is_denied()) {
                let job = self.memory.fingerprints().of(job_id);
                self.memory.refused(job, seen.created_at);
            }
        }
    }

    /// Describes ended jobs in the time that is left until the next refresh; when all are, shows their rows.
    async fn catch_up(&mut self, refreshed: &mut Refreshed, took: Duration, until: Instant) {
        let Some(attributed) = &refreshed.tallied.attributed else { return };
        let by_description = self.setup.thing_groups.resolve == Resolve::Describe;
        if !by_description || attributed.waiting.is_empty() || self.is_denied() {
            return;
        }
        let jobs = attributed.waiting.iter().map(|waiting| waiting.job_id.clone()).collect();
        // Whatever is wrong, the next refresh tells.
        let Ok(round) = self.ask(&refreshed.account, jobs, until).await else { return };
        for (job_id, _, answer) in &round.answers {
            let Some(waiting) = refreshed.tallied.settle(job_id) else { continue };
            let job = self.memory.fingerprints().of(job_id);
            match answer {
                Answer::Told(description) if same_job(description, waiting.created_at) => {
                    let targets = description.targets.as_deref();
                    self.memory.learn_targets(job, waiting.created_at, targets, standing(description));
                    refreshed.tallied.attribute(&waiting, job, &self.memory);
                }
                // The id has gone to another job, which the next walk finds.
                Answer::Told(_) | Answer::Gone => refreshed.tallied.remove(&waiting),
            }
        }
        for job_id in round.refused.iter().filter(|_| !round.is_denied()) {
            let Some(waiting) = refreshed.tallied.settle(job_id) else { continue };
            let job = self.memory.fingerprints().of(job_id);
            self.memory.refused(job, waiting.created_at);
            refreshed.tallied.attribute(&waiting, job, &self.memory);
        }
        if round.is_denied()
            && let Some(describing) = &mut refreshed.describing
        {
            describing.permission = Permission::Denied;
        }
        let is_done = refreshed.tallied.attributed.as_ref().is_some_and(|attributed| attributed.waiting.is_empty());
        if is_done || round.is_denied() {
            let good = self.good(refreshed, took);
            self.setup.board.send_modify(|state| state.good = Some(Arc::clone(&good)));
            self.log.caught_up(&self.setup.identity, &good.snapshot, round.failure.as_ref());
        }
    }

    /// Puts a refresh on the board, in one step. It is counted and logged after that, so that who hears of a refresh can see what
    /// it brought.
    fn publish(&mut self, refreshed: &mut Refreshed, took: Duration) {
        let good = self.good(refreshed, took);
        let last = Some(Ended { at: good.published.wall, took, failure: None });
        self.setup.board.send_replace(State { good: Some(Arc::clone(&good)), last });
        self.setup.telemetry.refresh_ended();
        let identity = &self.setup.identity;
        self.log.succeeded(identity, &good.snapshot, refreshed.describe_failure.as_ref());
        self.log.check_staleness(identity, &self.setup.schedule, took, good.stale_after);
    }

    fn good(&mut self, refreshed: &mut Refreshed, took: Duration) -> Arc<Good> {
        let snapshot = self.snapshot(refreshed);
        let labels = self.setup.identity.job_labels(snapshot.account.as_str());
        let fragments = Fragments::render(&snapshot, &labels);
        let stale_after = self.setup.schedule.stale_after(took);
        Arc::new(Good { snapshot, fragments, published: refreshed.at, stale_after })
    }

    fn snapshot(&mut self, refreshed: &mut Refreshed) -> Snapshot {
        let Refreshed { account, tallied, walk, describing, at, .. } = refreshed;
        if let (Some(describing), Some(attributed)) = (describing.as_mut(), &tallied.attributed) {
            describing.undescribed = attributed.waiting.len() as u64 + attributed.refused;
        }
        let denied = describing.is_some_and(|describing| describing.permission == Permission::Denied);
        let Census { attention, groups, series, omitted_jobs } =
            census::take(tallied, &self.setup.scope, &self.wanted, denied, &mut self.folding, at.wall);
        Snapshot {
            account: account.clone(),
            counts: tallied.counts.clone(),
            attention,
            groups,
            series,
            omitted_jobs,
            walk: *walk,
            describing: *describing,
        }
    }

    /// Nothing of a failed refresh but its failure is ever seen.
    fn publish_failure(&mut self, failure: &Failure, took: Duration) {
        let ended = Ended { at: self.setup.clock.now().wall, took, failure: Some(failure.clone()) };
        self.setup.board.send_modify(|state| state.last = Some(ended));
        self.setup.telemetry.refresh_failed(failure.reason);
        self.setup.telemetry.refresh_ended();
        self.log.failed(&self.setup.identity, failure);
    }
}

/// How long the targets in a description hold.
fn standing(description: &Description) -> Standing {
    let is_open = description.summary.status.as_ref().is_some_and(Status::is_open);
    let is_fixed = description.summary.target_selection == Some(TargetSelection::Snapshot);
    match description.targets {
        _ if is_open && !is_fixed => Standing::MayChange,
        Some(_) => Standing::Settled,
        None if is_open => Standing::MayChange,
        None => Standing::Refused,
    }
}

/// Whether a description is of the job that was created then, and not of one that has got its id since.
fn same_job(description: &Description, created_at: Option<Timestamp>) -> bool {
    description.summary.created_at.is_none() || description.summary.created_at == created_at
}

/// When the next refresh starts: an interval and a little jitter after this one started; no sooner after the walk ended than it
/// took, nor after the jobs were described than that took. So a refresh that is slower than its interval is followed, not
/// overlapped, and leaves the account half of each operation's time.
fn next_start(started: Instant, walking: Duration, describing: Duration, interval: Duration, jitter: f64) -> Instant {
    let interval = interval + interval.mul_f64(Refresh::JITTER * jitter);
    started + interval.max(walking * 2).max(walking + describing * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn next(walking: u64, describing: u64, jitter: f64) -> Duration {
        let start = Instant::now();
        let (walking, describing) = (Duration::from_secs(walking), Duration::from_secs(describing));
        next_start(start, walking, describing, MINUTE, jitter) - start
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_refresh_starts_an_interval_later_with_little_jitter() {
        assert_eq!(next(1, 0, 0.0), MINUTE);
        assert_eq!(next(1, 0, 1.0), Duration::from_secs(63));
    }

    #[tokio::test(start_paused = true)]
    async fn each_operation_rests_for_as_long_as_it_was_used() {
        assert_eq!(next(100, 0, 0.5), Duration::from_secs(200));
        assert_eq!(next(100, 40, 0.5), Duration::from_secs(200));
        assert_eq!(next(10, 60, 0.5), Duration::from_secs(130));
    }
}
