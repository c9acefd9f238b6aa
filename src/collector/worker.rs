//! The worker of one target: one task owns all data of the target, so no locks are needed.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::caught;
use super::describing::{Describing, Event};
use super::in_flight::{Answered, InFlight};
use super::listing::{Listing, Reporter};
use super::log::{self, RequestLog, SummaryLog};
use super::looks;
use super::schedule::{RunSchedule, Spread};
use super::settings::Settings;
use super::walks::{Walk, Walked, check_same_account, full_queries, open_queries};
use crate::aws::rate_limit::Class;
use crate::aws::{Connection, DescribePermit, LIST_JOBS, LIST_TAGS};
use crate::clock::Clock;
use crate::jobs::{
    AccountId, Aggregator, Answer, Description, FullWalk, FullWalkResult, JobId, JobRequest, JobStore, LookRequest,
    LookResult, OpenWalk, Scope, Shown, Tag, Timepoint,
};
use crate::metrics::{Collector, Failure, Reason, Slot, TargetState, WalkProgress};

/// The shortest time between publications: each one renders what has changed.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);

/// The longest time between publications: execution counts become stale, and start times pass.
const REPUBLISH_INTERVAL: Duration = Duration::from_mins(1);

/// The longest pause after a panic; the worker ignores reloads meanwhile.
const MAX_RESTART_WAIT: Duration = Duration::from_mins(1);

/// The part of the configuration that a reload can change while the worker keeps its data.
#[derive(Clone, Debug)]
pub struct TargetConfig {
    /// The clients. If their account changes, the target starts over without data.
    pub connection: Arc<Connection>,
    /// How jobs are collected, and what is published.
    pub settings: Settings,
    /// Where the target's state is published, and its counters.
    pub slot: Slot,
}

/// The arguments of a worker.
#[derive(Debug)]
pub struct WorkerOptions {
    /// Which jobs the target monitors.
    pub scope: Scope,
    /// When it starts among all targets.
    pub spread: Spread,
    /// The clock.
    pub clock: Clock,
    /// What a reload can change. The worker ends when the sender is dropped.
    pub config: watch::Receiver<TargetConfig>,
}

/// The largest number of concurrent requests of the collector `tags`.
const MAX_TAG_REQUESTS: usize = 2;

/// The requests about single jobs in flight.
#[derive(Debug)]
struct JobRequests {
    describing: Describing,
    looks: InFlight<LookResult>,
    tags: InFlight<Vec<Tag>>,
}

impl Default for JobRequests {
    fn default() -> Self {
        Self {
            describing: Describing::default(),
            looks: InFlight::new(looks::MAX_IN_FLIGHT),
            tags: InFlight::new(MAX_TAG_REQUESTS),
        }
    }
}

/// Collects the jobs of one target.
#[derive(Debug)]
pub struct Worker {
    options: WorkerOptions,
    current: TargetConfig,
    /// The account of all data; `None` before the first complete walk.
    account: Option<AccountId>,
    store: JobStore,
    aggregator: Aggregator,
    open_jobs: Listing<OpenWalk>,
    /// `None` if full walks are disabled.
    all_jobs: Option<Listing<FullWalkResult>>,
    requests: JobRequests,
    reporter: Reporter,
    request_log: RequestLog,
    summary_log: SummaryLog,
    folded_thing_groups: u64,
    published_at: Option<Instant>,
    has_changed: bool,
}

impl Worker {
    /// Publishes an empty state. It collects nothing yet.
    #[must_use]
    pub fn new(mut options: WorkerOptions) -> Self {
        let current = options.config.borrow_and_update().clone();
        let now = options.clock.now();
        let Spread { wait, share } = options.spread;
        let schedule = RunSchedule::new(now.instant + wait, share);
        let lists_ended = current.settings.lists_ended(&options.scope);
        let mut worker = Self {
            account: None,
            store: JobStore::new(current.settings.store_options(&options.scope)),
            aggregator: Aggregator::default(),
            open_jobs: Listing::new(Collector::OpenJobs, schedule, now),
            all_jobs: lists_ended.then(|| Listing::new(Collector::AllJobs, schedule, now)),
            requests: JobRequests::default(),
            reporter: Reporter { target: current.slot.shown().identity.name.clone(), finished_runs: Vec::new() },
            request_log: RequestLog::default(),
            summary_log: SummaryLog::new(now.instant),
            folded_thing_groups: 0,
            published_at: None,
            has_changed: true,
            options,
            current,
        };
        worker.publish_state(now);
        worker
    }

    /// Collects until the sender of the configuration is dropped. Can be cancelled at any time.
    ///
    /// A panic counts as a failed run of both listings. The store may be inconsistent then, so all data is withdrawn
    /// until it is listed again.
    pub async fn run(mut self) {
        while caught(self.collect()).await.is_none() {
            self.panicked();
            sleep(self.current.settings.collectors.open_jobs.interval.min(MAX_RESTART_WAIT)).await;
        }
    }

    async fn collect(&mut self) {
        loop {
            let now = self.options.clock.now();
            self.expire(now);
            self.start_due_runs(now);
            self.store.check_crossings(now);
            self.wait_for_permit(now);
            self.send_due_requests(now);
            if self.publication_due().is_none_or(|due| due <= now.instant) {
                self.publish(now);
            }
            let deadline = self.next_deadline(now);
            tokio::select! {
                result = self.open_jobs.finished() => self.open_walk_finished(result),
                result = finished(&mut self.all_jobs) => self.full_walk_finished(result),
                event = self.requests.describing.next() => self.described(event),
                looked = self.requests.looks.next() => self.looked(looked),
                tags = self.requests.tags.next() => self.tags_read(tags),
                changed = self.options.config.changed() => match changed {
                    Ok(()) => self.configure(),
                    Err(_) => return,
                },
                () = sleep_until(deadline) => {}
            }
        }
    }

    fn now(&self) -> Timepoint {
        self.options.clock.now()
    }

    /// The time of the next action that no event triggers. It is later than `now`.
    fn next_deadline(&self, now: Timepoint) -> Instant {
        let settings = &self.current.settings;
        let (open_timing, full_timing) = (settings.open_timing(), settings.full_timing());
        let mut deadlines = vec![
            self.publication_due(),
            self.open_jobs.schedule().due(&open_timing),
            self.open_jobs.stale_at(&open_timing),
        ];
        deadlines.extend(self.store.next_due(now).filter(|due| *due > now.instant).map(Some));
        if let Some(all_jobs) = &self.all_jobs {
            deadlines.extend([
                all_jobs.schedule().due(&full_timing).filter(|_| self.open_jobs.schedule().has_run()),
                all_jobs.stale_at(&full_timing),
                all_jobs.schedule().running_since().map(|since| since + settings.full_walk_timeout()),
            ]);
        }
        // There is always a time for the publication.
        deadlines.into_iter().flatten().min().unwrap_or(now.instant + PUBLISH_INTERVAL)
    }

    /// Withdraws stale data, and cancels a full walk that exceeds its timeout.
    fn expire(&mut self, now: Timepoint) {
        let settings = &self.current.settings;
        self.has_changed |= self.open_jobs.expire(&settings.open_timing(), now, &self.reporter.target);
        let Some(all_jobs) = &mut self.all_jobs else { return };
        if all_jobs.expire(&settings.full_timing(), now, &self.reporter.target) {
            self.store.ended_jobs_stale(now);
            self.has_changed = true;
        }
        let timeout = settings.full_walk_timeout();
        if all_jobs.schedule().running_since().is_some_and(|since| now.instant >= since + timeout) {
            let cause = format!("the walk was not complete within collectors.all_jobs.timeout ({timeout:?})");
            let error = self.current.connection.unusable(LIST_JOBS, Reason::Timeout, cause);
            all_jobs.failed(error.into(), now, &mut self.reporter);
            self.has_changed = true;
        }
    }

    fn start_due_runs(&mut self, now: Timepoint) {
        let TargetConfig { connection, settings, .. } = &self.current;
        let max_pages = settings.limits.max_pages;
        if self.open_jobs.is_due(&settings.open_timing(), now.instant) {
            let (connection, queries) = (Arc::clone(connection), open_queries(&self.options.scope));
            let walk = |progress: Arc<WalkProgress>| async move {
                let walk = Walk { class: Class::OpenWalk, queries: &queries, max_pages, progress: &progress };
                walk.run(&connection, OpenWalk::default(), OpenWalk::insert).await
            };
            self.open_jobs.start(walk, now.instant);
            self.has_changed |= self.open_jobs.is_first();
        }
        // Open jobs come first, so that they are shown soon.
        let Some(all_jobs) = self.all_jobs.as_mut().filter(|_| self.open_jobs.schedule().has_run()) else { return };
        if all_jobs.is_due(&settings.full_timing(), now.instant) {
            let (connection, queries) = (Arc::clone(connection), full_queries(&self.options.scope));
            let jobs = self.store.start_full_walk(now);
            let walk = |progress: Arc<WalkProgress>| async move {
                let walk = Walk { class: Class::FullWalk, queries: &queries, max_pages, progress: &progress };
                let Walked { account, pages, jobs } = walk.run(&connection, jobs, FullWalk::insert).await?;
                Ok(Walked { account, pages, jobs: jobs.finish() })
            };
            all_jobs.start(walk, now.instant);
            self.has_changed |= all_jobs.is_first();
        }
    }

    fn open_walk_finished(&mut self, result: Result<Walked<OpenWalk>, Failure>) {
        let now = self.now();
        let is_first = self.store.open_counts().is_none();
        match result {
            Ok(Walked { account, pages, jobs }) => {
                if !self.adopt_account(&account) {
                    return;
                }
                self.open_jobs.succeeded(pages, jobs.stats(), now, &mut self.reporter);
                self.store.open_walk_done(jobs, now);
                if is_first {
                    self.published_at = None;
                }
            }
            Err(failure) => {
                self.open_jobs.failed(failure, now, &mut self.reporter);
                self.check_account();
            }
        }
        self.request_log.recovered(&self.reporter.target, &self.store.states(now));
        self.has_changed = true;
    }

    fn full_walk_finished(&mut self, result: Result<Walked<FullWalkResult>, Failure>) {
        let now = self.now();
        let belongs_here = result.as_ref().map_or(true, |walked| self.adopt_account(&walked.account));
        let Some(all_jobs) = self.all_jobs.as_mut().filter(|_| belongs_here) else { return };
        match result {
            Ok(Walked { pages, jobs, .. }) => {
                if all_jobs.is_first() && jobs.stats().jobs == 0 && self.options.scope == Scope::default() {
                    log::no_jobs(&self.current.slot.shown().identity);
                }
                all_jobs.succeeded(pages, jobs.stats(), now, &mut self.reporter);
                self.store.full_walk_done(jobs, now);
            }
            Err(failure) => {
                all_jobs.failed(failure, now, &mut self.reporter);
                self.check_account();
            }
        }
        self.has_changed = true;
    }

    /// A failed walk may have found that the credentials belong to another account.
    fn check_account(&mut self) {
        if let Some(account) = self.current.connection.known_account().filter(|_| self.account.is_some()) {
            self.adopt_account(&account);
        }
    }

    /// Takes over the account that a walk found, and returns whether it is the account that the stored data belongs to. If
    /// not, the target starts over, since its data and the current requests may mix two accounts.
    fn adopt_account(&mut self, account: &AccountId) -> bool {
        let Some(before) = self.account.replace(account.clone()).filter(|before| before != account) else {
            return true;
        };
        log::account_changed(&self.reporter.target, &before, account);
        let now = self.now();
        let schedule = RunSchedule::new(now.instant, self.options.spread.share);
        self.forget();
        self.open_jobs = Listing::new(Collector::OpenJobs, schedule, now);
        if let Some(all_jobs) = &mut self.all_jobs {
            *all_jobs = Listing::new(Collector::AllJobs, schedule, now);
        }
        false
    }

    /// Drops all job data, and the requests about it.
    fn forget(&mut self) {
        self.store = JobStore::new(self.current.settings.store_options(&self.options.scope));
        self.aggregator = Aggregator::default();
        self.requests = JobRequests::default();
        self.has_changed = true;
    }

    fn wait_for_permit(&mut self, now: Timepoint) {
        // A new connection does not know the account at first, and must not get its own rate until then.
        let describing = &mut self.requests.describing;
        let can_ask = describing.has_room() && self.current.connection.has_quota_account();
        let class = if can_ask { self.store.next_class(now) } else { None };
        describing.wait_for(class, &self.current.connection);
    }

    fn described(&mut self, event: Event) {
        match event {
            Event::Permit(permit) => self.describe_next(permit),
            Event::Described(answered) => self.answered(answered),
        }
    }

    fn describe_next(&mut self, permit: Result<DescribePermit, Failure>) {
        let Some(account) = &self.account else { return };
        let Some(request) = self.store.next_to_describe(self.options.clock.now()) else { return };
        match permit {
            Ok(permit) => self.requests.describing.send(&self.current.connection, account, request, permit),
            Err(failure) => self.answered(Answered { request, outcome: Err(failure) }),
        }
    }

    fn answered(&mut self, answered: Answered<Box<Description>>) {
        let (request, answer) = self.reported(Collector::Details, answered);
        self.store.described(&request, &answer, self.now());
    }

    fn looked(&mut self, answered: Answered<LookResult>) {
        let (request, answer) = self.reported(Collector::Executions, answered);
        self.store.looked(&request, answer, self.now());
    }

    fn tags_read(&mut self, answered: Answered<Vec<Tag>>) {
        let (request, answer) = self.reported(Collector::Tags, answered);
        self.store.tags_read(&request, &answer, self.now());
    }

    /// Counts and logs an answer.
    fn reported<T>(&mut self, collector: Collector, answered: Answered<T>) -> (JobRequest, Answer<T>) {
        let now = self.now();
        let failure = answered.failure();
        self.reporter.finished_runs.push((collector, failure.map(|failure| failure.reason)));
        if let Some(failure) = failure {
            self.request_log.failed(&self.reporter.target, collector, failure, now);
        }
        self.has_changed = true;
        answered.answer()
    }

    /// Sends the due looks and requests for tags. Each page waits for its own permit.
    fn send_due_requests(&mut self, now: Timepoint) {
        let TargetConfig { connection, .. } = &self.current;
        let Some(account) = self.account.as_ref().filter(|_| connection.has_quota_account()) else { return };
        let JobRequests { looks, tags, .. } = &mut self.requests;
        while looks.has_room() {
            let Some(LookRequest { request, class, look }) = self.store.next_look(now) else { break };
            let (connection, account) = (Arc::clone(connection), account.clone());
            let (id, clock) = (JobId::clone(&request.id), self.options.clock);
            looks.send(request, async move { looks::look(&connection, &account, &id, class, look, clock).await });
        }
        while tags.has_room() {
            let Some(request) = self.store.next_tags(now) else { break };
            let (connection, account, id) = (Arc::clone(connection), account.clone(), JobId::clone(&request.id));
            tags.send(request, async move { read_tags(&connection, &account, &id).await });
        }
    }

    /// Applies another connection or other settings.
    fn configure(&mut self) {
        let new = self.options.config.borrow_and_update().clone();
        let old = std::mem::replace(&mut self.current, new);
        let (now, settings) = (self.now(), &self.current.settings);
        let is_reconnected = !Arc::ptr_eq(&old.connection, &self.current.connection);
        if is_reconnected {
            // A walk of the old connection could hang, or fail for a reason that is repaired now.
            self.requests.describing.wait_for(None, &old.connection);
            self.open_jobs.restart(now.instant);
        }
        if !settings.lists_ended(&self.options.scope) {
            self.all_jobs = None;
            self.store.ended_jobs_stale(now);
        } else if let Some(all_jobs) = &mut self.all_jobs {
            let schedule = all_jobs.schedule();
            let is_affected = schedule.running_since().is_some() || schedule.has_failed();
            // Only a full walk finds jobs that ended before the old limit.
            let lists_more = settings.jobs.ended_within > old.settings.jobs.ended_within;
            if lists_more || (is_reconnected && is_affected) {
                all_jobs.restart(now.instant);
            }
        } else {
            let schedule = RunSchedule::new(now.instant, self.options.spread.share);
            self.all_jobs = Some(Listing::new(Collector::AllJobs, schedule, now));
        }
        if old.settings.collectors.details.enabled != settings.collectors.details.enabled {
            // The old aggregator would show its groups as 0 from now on: without descriptions, the names of groups are
            // their ids.
            self.aggregator = Aggregator::default();
        }
        self.store.set_options(settings.store_options(&self.options.scope), now);
        self.has_changed = true;
    }

    /// When the state is published; `None` for immediately.
    fn publication_due(&self) -> Option<Instant> {
        self.published_at.map(|at| at + if self.has_changed { PUBLISH_INTERVAL } else { REPUBLISH_INTERVAL })
    }

    fn publish(&mut self, now: Timepoint) {
        let shown =
            Shown { open: self.open_jobs.is_fresh(), ended: self.all_jobs.as_ref().is_some_and(Listing::is_fresh) };
        let options = self.current.settings.aggregate_options();
        let snapshot = self.aggregator.aggregate(&self.store, &options, shown, now);
        self.open_jobs.show(snapshot.open);
        if let Some(all_jobs) = &mut self.all_jobs {
            all_jobs.show(snapshot.ended);
        }
        self.folded_thing_groups = snapshot.folded_thing_groups;
        self.publish_state(now);
    }

    fn publish_state(&mut self, now: Timepoint) {
        let (open_timing, full_timing) = (self.current.settings.open_timing(), self.current.settings.full_timing());
        let all_jobs = self.all_jobs.as_ref();
        let (slot, states) = (&self.current.slot, self.store.states(now));
        let overlap = slot.publish(TargetState {
            account: self.account.clone(),
            open: self.open_jobs.published(&open_timing),
            ended: all_jobs.and_then(|all_jobs| all_jobs.published(&full_timing)),
            folded_thing_groups: self.folded_thing_groups,
            open_jobs: self.open_jobs.state(&open_timing),
            all_jobs: all_jobs.map(|all_jobs| all_jobs.state(&full_timing)),
            request_failures: self.request_log.failures(&states),
            states,
            tag_keys: Arc::clone(&self.store.options().tag_keys),
        });
        if let Some(other) = overlap {
            log::overlaps(&slot.shown().identity, &other);
        }
        let counters = slot.counters();
        for (collector, failure) in self.reporter.finished_runs.drain(..) {
            counters.run_ended(collector);
            self.summary_log.run_ended(failure.is_some());
            if let Some(reason) = failure {
                counters.run_failed(collector, reason);
            }
        }
        self.summary_log.log(&self.reporter.target, &slot.shown().state, now.instant);
        (self.published_at, self.has_changed) = (Some(now.instant), false);
    }

    /// The store may be inconsistent, so it is filled again from AWS.
    fn panicked(&mut self) {
        let now = self.now();
        self.forget();
        let message = "the worker panicked, which is a bug in the exporter; the previous log lines say where";
        let failure = Failure { reason: Reason::Internal, message: message.to_owned() };
        self.open_jobs.failed(failure.clone(), now, &mut self.reporter);
        self.open_jobs.withdraw();
        if let Some(all_jobs) = &mut self.all_jobs {
            all_jobs.failed(failure, now, &mut self.reporter);
            all_jobs.withdraw();
        }
        self.publish_state(now);
    }
}

/// The tags of a job; `None` if the job does not exist.
async fn read_tags(connection: &Connection, account: &AccountId, id: &str) -> Result<Option<Vec<Tag>>, Failure> {
    let tags = connection.list_tags(account, id, Class::Tags).await;
    let tags = tags.map_err(Failure::from)?;
    check_same_account(connection, LIST_TAGS, account).await?;
    Ok(tags)
}

async fn finished(all_jobs: &mut Option<Listing<FullWalkResult>>) -> Result<Walked<FullWalkResult>, Failure> {
    match all_jobs {
        Some(all_jobs) => all_jobs.finished().await,
        None => pending().await,
    }
}
