//! When to walk, and what becomes of it: each target on its own task and schedule, publishing to its place on the board.

mod describe;
mod log;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::aws::Connection;
use crate::aws::rate_limit::Class;
use crate::census::{self, Census, Folding};
use crate::clock::Clock;
use crate::collector::caught;
use crate::collector::walks::{WalkError, all_queries, walk};
use crate::config::{Config, Jobs, Limits, Refresh, Resolve, ThingGroups};
use crate::exposition::board::{Board, Ended, Failure, Good, Identity, State};
use crate::exposition::fragments::Fragments;
use crate::fingerprint::Fingerprinter;
use crate::jobs::{AccountId, Description, JobSummary, Scope, Status, TargetSelection, Timepoint, same_creation};
use crate::memory::{Memory, Standing};
use crate::snapshot::{Describing, Permission, Snapshot, Walk};
use crate::tally::{Attribution, Tallied, Tally};
use crate::telemetry::{Reason, TargetTelemetry};
use describe::{Answer, Round, describe};
use log::Log;

/// For how long `DescribeJob` is left alone after AWS has denied it.
const DENIED_FOR: Duration = Duration::from_mins(10);

/// After how long about a single job that the identity may not describe is asked for again.
const REFUSED_FOR: Duration = Duration::from_hours(1);

/// After how long about a single job is asked for again that could not be described several times while others could.
const TROUBLED_FOR: Duration = Duration::from_mins(5);

/// How many ended jobs are tried besides the open ones, as long as no job could be described.
const PROBES: usize = 5;

/// So many jobs that ListJobs has just listed, and DescribeJob does not find, with none that it does, are not believed to be gone.
const NOTHING_FOUND: usize = 3;

/// For so long after a job has changed, one call may know of it what another does not yet.
const SETTLING: Duration = Duration::from_mins(1);

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
    /// What is the same for all targets.
    pub settings: Settings,
    /// Its counters.
    pub telemetry: TargetTelemetry,
    /// When its refreshes are, among those of others.
    pub turn: Turn,
    /// Its place on the board.
    pub board: watch::Sender<State>,
    /// The board with all targets, some of which may watch the same jobs.
    pub targets: Arc<Board>,
    /// The time.
    pub clock: Clock,
}

/// A target's place among all others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Turn {
    /// How long its first refresh waits.
    pub wait: Duration,
    /// How much of the interval passes between its first refresh and the second, above 0 and up to 1.
    pub share: f64,
}

/// How far apart the first refreshes of two targets are at most.
const BETWEEN_STARTS: Duration = Duration::from_millis(100);

impl Turn {
    /// The turn of the one at `place`, counted from 1, of so many. First refreshes follow each other closely, so that all is known
    /// soon, but not all credentials are asked for in one moment; from then on targets are spread over the interval.
    #[must_use]
    pub fn new(place: u32, count: u32, interval: Duration) -> Self {
        let apart = BETWEEN_STARTS.min(interval / count.max(1));
        Self { wait: apart * place.saturating_sub(1), share: f64::from(place) / f64::from(count.max(1)) }
    }
}

/// The settings of a refresh that are the same for all targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The schedule.
    pub schedule: Refresh,
    /// Bounds.
    pub limits: Limits,
    /// What is told of thing groups.
    pub thing_groups: ThingGroups,
    /// What is told of single jobs.
    pub jobs: Jobs,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        let Config { refresh, limits, thing_groups, jobs, .. } = config.clone();
        Self { schedule: refresh, limits, thing_groups, jobs }
    }
}

/// Refreshes one target until it is told to stop.
#[derive(Debug)]
pub struct Refresher {
    setup: Setup,
    wanted: census::Settings,
    memory: Memory,
    folding: Folding,
    /// Until when `DescribeJob` is left alone.
    denied_until: Option<Instant>,
    /// Whether the identity may describe jobs, as far as is known.
    permission: Permission,
    /// Whether any job was ever described, or found to be gone.
    was_ever_answered: bool,
    /// What went wrong when ended jobs were described in the background: the next refresh tells of it.
    background_failure: Option<Failure>,
    /// Refreshes that have failed in a row.
    failures: u32,
    /// Whether there was no good one yet under these settings.
    is_first: bool,
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
    at: Timepoint,
}

impl Refresher {
    /// Makes ready; nothing is asked of AWS yet.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let Settings { jobs, limits, thing_groups, .. } = &setup.settings;
        let at_most = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
        let wanted = census::Settings {
            long_running_after: jobs.long_running_after.clone(),
            filter: thing_groups.filter(),
            max_thing_groups: at_most(limits.max_thing_groups),
            max_jobs: jobs.series.then(|| at_most(limits.max_jobs)),
        };
        Self {
            wanted,
            memory: Memory::new(Fingerprinter::random()),
            folding: Folding::default(),
            denied_until: None,
            permission: Permission::Granted,
            was_ever_answered: false,
            background_failure: None,
            failures: 0,
            is_first: true,
            log: Log::default(),
            setup,
        }
    }

    /// Goes on with what it remembers under other settings, which must be of the same target.
    #[must_use]
    pub fn with_settings(self, settings: Settings, turn: Turn) -> Self {
        // What a summary tells of groups and what a description does are different names.
        let same_words = settings.thing_groups.resolve == self.setup.settings.thing_groups.resolve;
        let Self { setup, wanted: _, memory, folding, .. } = self;
        let fresh = Self::new(Setup { settings, turn, ..setup });
        let (memory, folding) = if same_words { (memory, folding) } else { (fresh.memory, fresh.folding) };
        Self {
            setup: fresh.setup,
            wanted: fresh.wanted,
            memory,
            folding,
            denied_until: self.denied_until,
            permission: self.permission,
            was_ever_answered: self.was_ever_answered,
            background_failure: self.background_failure,
            failures: self.failures,
            is_first: true,
            log: self.log,
        }
    }

    /// What it takes to refresh this target.
    #[must_use]
    pub const fn setup(&self) -> &Setup {
        &self.setup
    }

    /// What the target is called.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.setup.identity
    }

    /// Refreshes when it is its turn, and then on the interval, until `stop` says so or is gone; and gives back what it remembers.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Self {
        let mut wait = Some(self.setup.turn.wait);
        loop {
            let next = async {
                if let Some(wait) = wait.take() {
                    return sleep(wait).await;
                }
                let started = Instant::now();
                if caught(self.once()).await.is_none() {
                    self.panicked(started).await;
                }
            };
            let is_stopped = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => true,
                () = next => false,
            };
            if is_stopped {
                return self;
            }
        }
    }

    /// One refresh, and the wait for the next. It can be dropped at any time.
    async fn once(&mut self) {
        let started = Instant::now();
        let outcome = self.refresh(started).await;
        let took = started.elapsed();
        let interval = self.setup.settings.schedule.interval;
        match outcome {
            Ok(mut refreshed) => {
                self.failures = 0;
                let describing = refreshed.describing.unwrap_or_default().duration;
                let walking = took.saturating_sub(describing);
                self.publish(&mut refreshed, took);
                let is_first = std::mem::replace(&mut self.is_first, false);
                let interval = if is_first { interval.mul_f64(self.setup.turn.share) } else { interval };
                let next = started + period(walking, describing, interval, fastrand::f64());
                self.catch_up(&mut refreshed, took, next).await;
                sleep_until(next).await;
            }
            Err(failure) => self.failed(&failure, started).await,
        }
    }

    /// Publishes a failure, and waits for the next try.
    async fn failed(&mut self, failure: &Failure, started: Instant) {
        let (took, interval) = (started.elapsed(), self.setup.settings.schedule.interval);
        self.failures = self.failures.saturating_add(1);
        self.publish_failure(failure, took);
        sleep_until(next_try(started, took, interval, self.failures, fastrand::f64())).await;
    }

    /// A refresh panicked. What it remembers may be half-changed, and is dropped: it follows from what AWS says again.
    async fn panicked(&mut self, started: Instant) {
        self.memory = Memory::new(Fingerprinter::random());
        self.folding = Folding::default();
        self.background_failure = None;
        let message = "the refresh panicked, which is a fault in the exporter; the lines before this one say where";
        self.failed(&Failure { reason: Reason::Internal, message: message.to_owned() }, started).await;
    }

    async fn refresh(&mut self, started: Instant) -> Result<Refreshed, Failure> {
        // Before the walk, which decides whose groups are still to be asked for.
        self.memory.forgive(self.setup.clock.now());
        let timeout = self.setup.settings.schedule.timeout;
        let (deadline, requests) = (started + timeout, self.setup.connection.requests());
        let walked = timeout_at(deadline, self.walk()).await.unwrap_or_else(|_| {
            let message = format!("the walk was not done within refresh.timeout ({timeout:?})");
            Err(Failure { reason: Reason::Timeout, message })
        });
        let (account, mut tally, mut walk) = walked?;
        let (describing, describe_failure) = self.describe_open(&account, &mut tally, deadline).await;
        walk.requests = self.setup.connection.requests() - requests;

        let at = self.setup.clock.now();
        self.memory.expire_executions(at, self.setup.settings.schedule.stale_after(started.elapsed()));
        let tallied = tally.finish(&self.setup.scope, &mut self.memory);
        Ok(Refreshed { account, tallied, walk, describing, describe_failure, at })
    }

    async fn walk(&mut self) -> Result<(AccountId, Tally, Walk), Failure> {
        let account = self.account().await?;
        let Setup { connection, scope, clock, settings, .. } = &self.setup;
        let Settings { limits, thing_groups, .. } = settings;
        let attribution = match thing_groups {
            ThingGroups { resolve: Resolve::Off, .. } => Attribution::Nothing,
            ThingGroups { ended_jobs_within: Duration::ZERO, .. } => Attribution::Open,
            ThingGroups { ended_jobs_within, .. } => {
                Attribution::EndedSince(clock.now().wall.before(*ended_jobs_within))
            }
        };
        let (memory, by_summary) = (&mut self.memory, thing_groups.resolve == Resolve::Summary);
        let (walking, mut tally) = (Instant::now(), Tally::new(memory.fingerprints(), attribution));
        let queries = all_queries(scope);
        let pages = walk(connection, Class::OpenJobs, &account, &queries, limits.max_pages, |summary| {
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

    /// Whether `DescribeJob` is left alone for now.
    fn is_denied(&self) -> bool {
        self.denied_until.is_some_and(|until| Instant::now() < until)
    }

    /// Describes the open jobs, those that were open and are missing, and ended ones where they are few; and makes their
    /// descriptions a part of the count. Tells the first failure besides.
    ///
    /// What can't be described stays as the walk told it: what `ListJobs` said is whole.
    async fn describe_open(
        &mut self,
        account: &AccountId,
        tally: &mut Tally,
        deadline: Instant,
    ) -> (Option<Describing>, Option<Failure>) {
        let Settings { thing_groups, jobs, schedule, .. } = &self.setup.settings;
        let (describes_ended, describes_open) = (thing_groups.resolve == Resolve::Describe, jobs.describe);
        let patience = schedule.stale_after(Duration::ZERO);
        if !describes_ended && !describes_open {
            return (None, None);
        }
        let now = self.setup.clock.now();
        let mut open: Vec<Box<str>> = Vec::new();
        if describes_open {
            let missing = self.memory.open().filter(|job_id| !tally.has_met(job_id));
            open = tally.open().chain(missing).map(Into::into).collect();
        }
        let mut describing = Describing { permission: self.permission, ..Describing::default() };
        if self.is_denied() {
            describing.failures = tally.open().filter(|_| describes_open).count() as u64;
            self.memory.keep_open(tally.open_with_creation(), std::iter::empty(), now, patience);
            return (Some(describing), self.background_failure.take());
        }
        let asked = self.to_ask(&open, tally, now);
        let begun = Instant::now();
        let round = self.ask(account, Class::OpenJob, asked, deadline).await;

        self.memory.keep_open(tally.open_with_creation(), open.iter().map(AsRef::as_ref), now, patience);
        let believed = self.take_up(&round, tally);
        self.memory.asked(round.asked(), now);
        let unanswered: Vec<&str> =
            open.iter().map(AsRef::as_ref).filter(|job_id| !believed.contains(job_id)).collect();
        // One that may not be described would never be found to be gone.
        let is_denied = |job_id: &str| self.memory.is_denied(self.memory.fingerprints().of(job_id));
        let (listed, missing): (Vec<&str>, Vec<&str>) =
            unanswered.into_iter().partition(|job_id| tally.has_met(job_id));
        let missing: Vec<&str> = missing.into_iter().filter(|job_id| !is_denied(job_id)).collect();
        describing.failures = (listed.len() + missing.len()) as u64;
        self.memory.keep_open(tally.open_with_creation(), missing.into_iter(), now, patience);
        describing.described = round.described();
        describing.permission = self.permission;
        describing.duration = begun.elapsed();
        (Some(describing), round.failure.or(self.background_failure.take()))
    }

    /// Which jobs to ask for now: the open ones, those first that were not asked for the longest time, and some ended ones.
    fn to_ask(&self, open: &[Box<str>], tally: &Tally, now: Timepoint) -> Vec<Box<str>> {
        let is_due = |job_id: &str| !self.memory.is_left_alone(self.memory.fingerprints().of(job_id), now);
        let mut asked: Vec<Box<str>> = open.iter().filter(|job_id| is_due(job_id)).cloned().collect();
        // Those that failed lately come last, and by chance among those of one round: else a few that always fail would come
        // first again and again, and end the round for all.
        let in_trouble = |job_id: &str| self.memory.is_in_trouble(self.memory.fingerprints().of(job_id));
        asked.sort_by_cached_key(|job_id| (in_trouble(job_id), self.memory.asked_at(job_id), fastrand::u32(..)));
        let is_denied = self.permission == Permission::Denied;
        let ended = tally.waiting(&self.memory).into_iter().filter(|job_id| is_due(job_id));
        let (again, mut ended): (Vec<Box<str>>, Vec<Box<str>>) = ended.partition(|job_id| in_trouble(job_id));
        if is_denied {
            fastrand::shuffle(&mut ended);
        }
        let room = self.at_once();
        if ended.len() <= room {
            let left = room - ended.len();
            asked.extend(ended.into_iter().chain(again.into_iter().take(left)));
        } else if is_denied {
            asked.extend(ended.into_iter().take(PROBES));
        }
        if is_denied {
            // A policy can name some jobs: those that it leaves out must not be all that is ever tried.
            fastrand::shuffle(&mut asked);
        }
        asked
    }

    /// Asks AWS of jobs. Nothing of it is used where the answers may be another account's.
    async fn ask(&mut self, account: &AccountId, class: Class, jobs: Vec<Box<str>>, until: Instant) -> Round {
        if jobs.is_empty() {
            return Round::default();
        }
        let round = describe(&self.setup.connection, account, self.setup.clock, class, jobs, until).await;
        match timeout_at(until.max(Instant::now() + GRACE), self.check_same_account(account)).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => return Round::spoilt(failure),
            Err(_) => {
                let message = "the credentials could not be looked at again after jobs were described".to_owned();
                return Round::spoilt(Failure { reason: Reason::Timeout, message });
            }
        }
        self.judge(&round);
        round
    }

    /// What a round tells of the identity's permission, and of jobs that AWS does not describe.
    fn judge(&mut self, round: &Round) {
        let now = self.setup.clock.now();
        let later = |after: Duration| {
            let after = after.mul_f64(0.5 + fastrand::f64());
            Timepoint { instant: now.instant + after, wall: now.wall.after(after) }
        };
        if round.is_only_denials() && (!self.was_ever_answered || round.denied.len() >= describe::DENIALS) {
            self.permission = Permission::Denied;
            self.denied_until = Some(now.instant + DENIED_FOR);
            return;
        }
        for job_id in &round.denied {
            self.memory.refused(self.memory.fingerprints().of(job_id), None, true, later(REFUSED_FOR));
        }
        if round.answers.is_empty() {
            // Timeouts and the like say nothing of permission, nor of single jobs.
            if !round.denied.is_empty() {
                self.permission = Permission::Partial;
            }
            return;
        }
        (self.was_ever_answered, self.denied_until) = (true, None);
        for (job_id, ..) in &round.answers {
            self.memory.well(self.memory.fingerprints().of(job_id));
        }
        for job_id in &round.failed {
            self.memory.failed(self.memory.fingerprints().of(job_id), None, later(TROUBLED_FOR));
        }
        self.permission = if self.memory.has_denials() { Permission::Partial } else { Permission::Granted };
    }

    /// How many ended jobs are described before the others are shown: what the budget gives in a tenth of the interval. So
    /// what ends unseen from one walk to the next does not make rows flicker.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is positive, and casts saturate"
    )]
    fn at_once(&self) -> usize {
        let Settings { limits, schedule, .. } = &self.setup.settings;
        (limits.requests_per_second * schedule.interval.as_secs_f64() / 10.0).ceil() as usize
    }

    /// Makes what was told of jobs a part of the count, and gives back of which jobs it was believed.
    fn take_up<'a>(&mut self, round: &'a Round, tally: &mut Tally) -> HashSet<&'a str> {
        let (scope, now) = (&self.setup.scope, self.setup.clock.now().wall);
        let by_description = self.setup.settings.thing_groups.resolve == Resolve::Describe;
        let mut believed = round.answered();
        let listed_and_gone =
            round.answers.iter().filter(|(job_id, _, answer)| matches!(answer, Answer::Gone) && tally.has_met(job_id));
        // Some jobs are deleted between a walk and their description, but not all.
        let finds_nothing = listed_and_gone.count() >= NOTHING_FOUND && round.described() == 0;
        for (job_id, at, answer) in &round.answers {
            let seen = tally.seen(job_id);
            let Answer::Told(description) = answer else {
                // One that has just been created or changed may be known to ListJobs before it is to DescribeJob.
                let is_settling = seen.is_some_and(|seen| {
                    seen.last_updated_at.or(seen.created_at).is_some_and(|at| now.since(at) < SETTLING)
                });
                if seen.is_some() && (finds_nothing || is_settling) {
                    believed.remove(&**job_id);
                } else {
                    tally.remove(job_id);
                }
                continue;
            };
            let is_newer = seen.is_none_or(|seen| seen.is_older_than(&description.summary));
            let is_same = seen.is_none_or(|seen| same_creation(seen.created_at, description.summary.created_at));
            if !is_newer && !is_same {
                // It tells of the job that had this id before.
                believed.remove(&**job_id);
                continue;
            }
            let mut summary = tally.completed(job_id, &description.summary);
            if let (true, Some(seen)) = (is_same, seen) {
                // As the walk writes it, which is how the job is looked for again.
                summary.created_at = seen.created_at.or(summary.created_at);
            }
            if by_description {
                let job = self.memory.fingerprints().of(job_id);
                let (targets, standing) = (description.targets.as_deref(), standing(&summary, description));
                self.memory.learn_targets(job, summary.created_at, targets, standing);
            }
            self.memory.described(job_id, summary.created_at, description, *at);
            if seen.is_none() {
                tally.recover(job_id, &summary, scope, &self.memory);
            } else if is_newer {
                tally.amend(job_id, &summary, scope, &self.memory);
            }
        }
        believed
    }

    /// Describes ended jobs in the time that is left until the next refresh; when all are, shows their rows.
    async fn catch_up(&mut self, refreshed: &mut Refreshed, took: Duration, until: Instant) {
        let by_description = self.setup.settings.thing_groups.resolve == Resolve::Describe;
        let now = self.setup.clock.now();
        let waiting = refreshed.tallied.waiting(&self.memory).into_iter();
        let is_due = |job_id: &str| !self.memory.is_left_alone(self.memory.fingerprints().of(job_id), now);
        let jobs: Vec<Box<str>> = waiting.filter(|job_id| is_due(job_id)).collect();
        if !by_description || jobs.is_empty() || self.is_denied() || self.permission == Permission::Denied {
            return;
        }
        let before = self.permission;
        let round = self.ask(&refreshed.account, Class::EndedJob, jobs, until).await;
        for (job_id, _, answer) in &round.answers {
            let Some(waiting) = refreshed.tallied.settle(job_id) else { continue };
            let job = self.memory.fingerprints().of(job_id);
            match answer {
                Answer::Told(description) if same_creation(description.summary.created_at, waiting.created_at) => {
                    let ended = JobSummary { status: Some(waiting.pair.0.clone()), ..JobSummary::default() };
                    let (targets, standing) = (description.targets.as_deref(), standing(&ended, description));
                    self.memory.learn_targets(job, waiting.created_at, targets, standing);
                    refreshed.tallied.attribute(&waiting, job, &self.memory);
                }
                // The id has gone to another job, which the next walk finds; this one is still counted as it was seen.
                Answer::Told(_) => refreshed.tallied.wait(job_id, waiting),
                Answer::Gone => refreshed.tallied.remove(&waiting),
            }
        }
        for job_id in round.denied.iter().chain(&round.failed) {
            let job = self.memory.fingerprints().of(job_id);
            if !self.memory.is_left_alone(job, now) {
                continue;
            }
            if let Some(waiting) = refreshed.tallied.settle(job_id) {
                refreshed.tallied.attribute(&waiting, job, &self.memory);
            }
        }
        if let Some(describing) = &mut refreshed.describing {
            describing.permission = self.permission;
        }
        let is_done = refreshed.tallied.attributed.as_ref().is_some_and(|attributed| attributed.waiting.is_empty());
        self.background_failure = round.failure;
        if is_done || self.permission != before {
            let good = self.good(refreshed, took);
            self.setup.board.send_modify(|state| state.good = Some(Arc::clone(&good)));
        }
    }

    /// Puts a refresh on the board, in one step. It is counted and logged after that, so that who hears of a refresh can see what
    /// it brought.
    fn publish(&mut self, refreshed: &mut Refreshed, took: Duration) {
        let good = self.good(refreshed, took);
        let last = Some(Ended { at: good.published.wall, took, failure: None });
        let Setup { identity, board, targets, .. } = &self.setup;
        let overlapping = targets.publish(identity, board, State { good: Some(Arc::clone(&good)), last });
        self.setup.telemetry.refresh_ended();
        self.log.succeeded(identity, &good.snapshot, refreshed.describe_failure.as_ref());
        if let Some(other) = overlapping {
            log::overlaps(identity, &other, &good.snapshot.account);
        }
        self.log.check_staleness(identity, &self.setup.settings.schedule, took, good.stale_after);
    }

    fn good(&mut self, refreshed: &mut Refreshed, took: Duration) -> Arc<Good> {
        let snapshot = self.snapshot(refreshed);
        let labels = self.setup.identity.job_labels(snapshot.account.as_str());
        let fragments = Fragments::render(&snapshot, &labels);
        let stale_after = self.setup.settings.schedule.stale_after(took);
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

/// How long the targets in a description of a job hold that is now as `summary` tells.
fn standing(summary: &JobSummary, description: &Description) -> Standing {
    let is_open = summary.status.as_ref().is_some_and(Status::is_open);
    let is_fixed = summary.target_selection == Some(TargetSelection::Snapshot);
    match description.targets {
        _ if is_open && !is_fixed => Standing::MayChange,
        None if is_open => Standing::MayChange,
        _ => Standing::Settled,
    }
}

/// From the start of a refresh to the start of the next: an interval and a little jitter; no sooner after the walk ended than it
/// took, nor after the jobs were described than that took. So a refresh that is slower than its interval is followed, not
/// overlapped, and leaves the account half of each operation's time.
#[must_use]
pub fn period(walking: Duration, describing: Duration, interval: Duration, jitter: f64) -> Duration {
    let interval = interval + interval.mul_f64(Refresh::JITTER * jitter);
    interval.max(walking * 2).max(walking + describing * 2)
}

/// The wait after the first failure, which doubles with each further one, up to the interval.
const FIRST_WAIT: Duration = Duration::from_secs(5);

/// When a refresh is tried again that has failed so many times in a row: soon at first, since most failures pass; at last on the
/// interval; and never sooner after it ended than it took. Half of the wait is jitter, so that what failed together is not tried
/// again together.
fn next_try(started: Instant, took: Duration, interval: Duration, failures: u32, jitter: f64) -> Instant {
    let doubled = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(interval);
    let wait = doubled.mul_f64(0.5 + 0.5 * jitter);
    started + took + wait.max(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failures_are_tried_again_soon_then_ever_later_up_to_the_interval() {
        let start = Instant::now();
        let wait = |failures, jitter| next_try(start, Duration::ZERO, MINUTE, failures, jitter) - start;
        let longest: Vec<u64> = [1, 2, 3, 4, 5, 6, 1000].map(|failures| wait(failures, 1.0).as_secs()).to_vec();
        assert_eq!(longest, [5, 10, 20, 40, 60, 60, 60]);
        assert_eq!(wait(5, 0.0), MINUTE / 2);
        let took = Duration::from_secs(90);
        assert_eq!(next_try(start, took, MINUTE, 1, 1.0) - start, took * 2, "no sooner than it took");
        let short = Duration::from_millis(200);
        assert_eq!(next_try(start, Duration::ZERO, short, 1, 1.0) - start, short);
    }

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn first_refreshes_follow_each_other_closely_and_second_ones_over_the_interval() {
        let turns = |count| -> Vec<Turn> { (1..=count).map(|place| Turn::new(place, count, MINUTE)).collect() };
        assert_eq!(turns(1), [Turn { wait: Duration::ZERO, share: 1.0 }]);
        let waits: Vec<u128> = turns(4).iter().map(|turn| turn.wait.as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 300]);
        let shares: Vec<f64> = turns(4).iter().map(|turn| turn.share).collect();
        assert!(shares == [0.25, 0.5, 0.75, 1.0], "{shares:?}");
        assert!(turns(5000).iter().all(|turn| turn.wait < MINUTE));
    }

    fn next(walking: u64, describing: u64, jitter: f64) -> Duration {
        period(Duration::from_secs(walking), Duration::from_secs(describing), MINUTE, jitter)
    }

    #[test]
    fn the_next_refresh_starts_an_interval_later_with_little_jitter() {
        assert_eq!(next(1, 0, 0.0), MINUTE);
        assert_eq!(next(1, 0, 1.0), Duration::from_secs(63));
    }

    #[test]
    fn each_operation_rests_for_as_long_as_it_was_used() {
        assert_eq!(next(100, 0, 0.5), Duration::from_secs(200));
        assert_eq!(next(100, 40, 0.5), Duration::from_secs(200));
        assert_eq!(next(10, 60, 0.5), Duration::from_secs(130));
    }
}
