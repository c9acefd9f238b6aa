//! The jobs of a target, from several sources.
//!
//! `ListJobs` decides whether a listed job counts, and its status. `DescribeJob` adds details, and determines what
//! happened to a job that is no longer listed. An id is in one of `open`, `left` and `moved`; only if it is in none of
//! them, its entry of the last full walk counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::details_cache::{DescribeAnswer, DescribeClass, Details, DetailsCache, DetailsOptions, ListState};
use super::ended_jobs::EndedJobs;
use super::executions_cache::{ExecutionsCache, ExecutionsOptions, LookClass, Progress};
use super::job_queue::{Answer, CacheState, JobRequest};
use super::look::{Look, LookResult};
use super::tags::{Tag, TagValues, TagsCache};
use super::thing_groups::Label;
use super::walk::{FullWalk, FullWalkResult, OpenWalk};
use super::{ExecutionCounts, Job, JobId, Pair, Scope, Status, Timepoint, Timestamp, UNKNOWN};

/// A job that left the list and may not be described (denied, or `details` is disabled) is dropped after this many
/// intervals of the open walk.
const LEFT_FOR_INTERVALS: u32 = 2;

/// The options of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Which jobs the target monitors.
    pub scope: Scope,
    /// The interval of the open walk.
    pub open_interval: Duration,
    /// Whether full walks run. Without them, no ended job is known.
    pub lists_ended: bool,
    /// Jobs that ended within this time are kept as records.
    pub ended_within: Duration,
    /// How jobs are described; `None` if they are not.
    pub details: Option<DetailsOptions>,
    /// How executions are listed; `None` if they are not. Only described jobs are covered.
    pub executions: Option<ExecutionsOptions>,
    /// The keys of the tags that are read; empty if tags are not read.
    pub tag_keys: Arc<[String]>,
}

/// A look at the executions of a job, to be sent.
#[derive(Debug)]
pub struct LookRequest {
    /// The request.
    pub request: JobRequest,
    /// Its urgency.
    pub class: LookClass,
    /// Collects the executions.
    pub look: Look,
}

/// The number of jobs in each state; `None` if the collector is disabled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheStates {
    /// The descriptions of open jobs and of those that ended recently.
    pub details: Option<BTreeMap<CacheState, u64>>,
    /// The looks at jobs with open executions.
    pub executions: Option<BTreeMap<CacheState, u64>>,
    /// The tags of open jobs and of those that ended recently.
    pub tags: Option<BTreeMap<CacheState, u64>>,
}

/// The jobs of a target.
///
/// # Example
/// A walk over the open jobs is complete, so each of them counts under its pair of status and target selection.
///
/// ```
/// use std::time::Duration;
///
/// use aws_iot_jobs_exporter::clock::Clock;
/// use aws_iot_jobs_exporter::jobs::{JobStore, JobSummary, OpenWalk, Scope, Status, StoreOptions, TargetSelection};
///
/// let mut store = JobStore::new(StoreOptions {
///     scope: Scope::default(),
///     open_interval: Duration::from_mins(1),
///     lists_ended: true,
///     ended_within: Duration::from_hours(7 * 24),
///     details: None,
///     executions: None,
///     tag_keys: [].into(),
/// });
/// assert_eq!(store.open_counts(), None);
///
/// let mut walk = OpenWalk::default();
/// walk.insert(&JobSummary {
///     job_id: Some("firmware-2".to_owned()),
///     status: Some(Status::InProgress),
///     target_selection: Some(TargetSelection::Snapshot),
///     ..JobSummary::default()
/// });
/// store.open_walk_done(walk, Clock::system().now());
///
/// let counts = store.open_counts().expect("a complete walk");
/// assert_eq!(counts[&(Status::InProgress, TargetSelection::Snapshot)], 1);
/// ```
#[derive(Debug)]
pub struct JobStore {
    options: StoreOptions,
    jobs: Jobs,
    details: DetailsCache,
    executions: ExecutionsCache,
    tags: TagsCache,
    /// The next time at which a job may become stuck. It can be too early.
    next_crossing: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Jobs {
    /// The last complete open walk.
    open: Option<BTreeMap<JobId, Job>>,
    /// Jobs that left the list, until `DescribeJob` reports their state.
    left: BTreeMap<JobId, LeftJob>,
    /// Jobs that `DescribeJob` found ended or missing since the last full walk began.
    moved: BTreeMap<JobId, MovedJob>,
    /// Every ended job of the last full walk.
    ended: Option<EndedJobs>,
    /// The jobs that ended recently, from the last full walk and later answers of `DescribeJob`.
    recent: BTreeMap<JobId, Job>,
}

#[derive(Debug)]
struct LeftJob {
    job: Job,
    since: Timepoint,
    /// Whether an open walk has ended since the last answer.
    is_due: bool,
}

#[derive(Debug)]
struct MovedJob {
    /// `None` if it is missing or out of scope.
    job: Option<Job>,
    at: Timepoint,
}

impl Jobs {
    fn is_open(&self, id: &str) -> bool {
        self.open.as_ref().is_some_and(|open| open.contains_key(id))
    }

    fn find(&self, id: &str) -> Option<(&Job, ListState)> {
        if let Some(job) = self.open.as_ref().and_then(|open| open.get(id)) {
            return Some((job, ListState::Open));
        }
        if let Some(LeftJob { job, is_due, .. }) = self.left.get(id) {
            return Some((job, ListState::Left { is_due: *is_due }));
        }
        self.recent.get(id).filter(|_| !self.is_gone(id)).map(|job| (job, ListState::Ended))
    }

    /// A job that is listed as open, or has left the list and may still be open.
    fn find_open(&self, id: &str) -> Option<&Job> {
        self.find(id).filter(|(_, list_state)| *list_state != ListState::Ended).map(|(job, _)| job)
    }

    fn is_gone(&self, id: &str) -> bool {
        self.moved.get(id).is_some_and(|moved| moved.job.is_none())
    }

    /// Open jobs, and those that left the list.
    fn open(&self) -> impl Iterator<Item = (&JobId, &Job)> {
        let left = self.left.iter().map(|(id, left)| (id, &left.job));
        self.open.iter().flatten().chain(left)
    }

    /// The jobs that ended recently. With `without_open`, jobs that are also open are omitted.
    fn recent(&self, without_open: bool) -> impl Iterator<Item = (&JobId, &Job)> {
        let is_open = move |id: &str| without_open && (self.is_open(id) || self.left.contains_key(id));
        self.recent.iter().filter(move |(id, _)| !is_open(id) && !self.is_gone(id))
    }

    /// Every job that can be described.
    fn all(&self) -> impl Iterator<Item = (&JobId, &Job, ListState)> {
        let open = self.open.iter().flatten().map(|(id, job)| (id, job, ListState::Open));
        let left = self.left.iter().map(|(id, left)| (id, &left.job, ListState::Left { is_due: left.is_due }));
        open.chain(left).chain(self.recent(true).map(|(id, job)| (id, job, ListState::Ended)))
    }
}

impl JobStore {
    /// An empty store.
    #[must_use]
    pub fn new(options: StoreOptions) -> Self {
        Self {
            details: DetailsCache::new(options.details),
            executions: ExecutionsCache::new(options.executions),
            tags: TagsCache::new(Arc::clone(&options.tag_keys)),
            jobs: Jobs::default(),
            next_crossing: None,
            options,
        }
    }

    /// Applies other options of the same scope.
    pub fn set_options(&mut self, options: StoreOptions, now: Timepoint) {
        self.details.set_options(options.details);
        self.executions.set_options(options.executions);
        self.tags.set_keys(&options.tag_keys);
        if !options.lists_ended {
            self.jobs.moved.clear();
        }
        self.options = options;
        self.reschedule(now);
    }

    /// Schedules every job again.
    fn reschedule(&mut self, now: Timepoint) {
        let Self { jobs, details, executions, tags, next_crossing, .. } = self;
        details.retain(|id| jobs.find(id).map(|(job, _)| job));
        executions.queue.retain(|id| jobs.find_open(id));
        tags.queue.retain(|id| jobs.find(id).map(|(job, _)| job));
        details.queue.clear_waiting();
        executions.queue.clear_waiting();
        tags.queue.clear_waiting();
        *next_crossing = None;
        for (id, job, list_state) in jobs.all() {
            tags.schedule(id, job);
            schedule(details, executions, next_crossing, (id, job, list_state), now);
        }
    }

    /// Schedules the requests for jobs that may have become stuck.
    pub fn check_crossings(&mut self, now: Timepoint) {
        if self.next_crossing.is_some_and(|crossing| crossing <= now.wall) {
            self.reschedule(now);
        }
    }

    /// Schedules a job after an answer.
    fn schedule(&mut self, id: &JobId, now: Timepoint) {
        let Self { jobs, details, executions, next_crossing, .. } = self;
        if let Some((job, list_state)) = jobs.find(id) {
            schedule(details, executions, next_crossing, (id, job, list_state), now);
        }
    }

    /// The options.
    #[must_use]
    pub const fn options(&self) -> &StoreOptions {
        &self.options
    }

    fn ended_since(&self, now: Timepoint) -> Timestamp {
        now.wall.before(self.options.ended_within)
    }

    /// Starts a full walk. Call this before its first request is sent.
    #[must_use]
    pub fn start_full_walk(&self, now: Timepoint) -> FullWalk {
        // Most jobs are listed again, so this avoids reallocations.
        FullWalk::new(now, self.ended_since(now), self.jobs.ended.as_ref().map_or(0, EndedJobs::len))
    }

    /// Applies a complete open walk.
    pub fn open_walk_done(&mut self, walk: OpenWalk, now: Timepoint) {
        let list = walk.into_jobs();
        let Jobs { open, left, moved, .. } = &mut self.jobs;
        for (id, job) in open.take().into_iter().flatten() {
            if !list.contains_key(&id) {
                left.insert(id, LeftJob { job, since: now, is_due: true });
            }
        }
        for id in list.keys() {
            left.remove(id);
            moved.remove(id);
        }
        for job in left.values_mut() {
            job.is_due = true;
        }
        *open = Some(list);
        self.give_up_undescribable(now);
        let ended_since = self.ended_since(now);
        self.jobs.recent.retain(|_, job| ended_recently(job, ended_since));
        self.reschedule(now);
    }

    /// Drops jobs that left the list and may not be described. Their state is unknown, except that one in deletion no
    /// longer exists.
    fn give_up_undescribable(&mut self, now: Timepoint) {
        let wait = self.options.open_interval.saturating_mul(LEFT_FOR_INTERVALS);
        let is_given_up = |id: &JobId, left: &mut LeftJob| self.details.is_denied(id) && now.since(left.since) > wait;
        let given_up: Vec<(JobId, LeftJob)> = self.jobs.left.extract_if(.., is_given_up).collect();
        for (id, left) in given_up {
            if left.job.status == Status::DeletionInProgress {
                self.set_moved(&id, None, now);
            }
        }
    }

    /// Records the result of a `DescribeJob` request.
    pub fn described(&mut self, request: &JobRequest, answer: &DescribeAnswer, now: Timepoint) {
        let ends_pause = self.details.queue.count_answer(&request.id, answer);
        if self.details.queue.is_current(request) {
            self.follow(request, answer, now);
            match self.jobs.find(&request.id) {
                Some((job, list_state)) => self.details.answered(request, answer, job, list_state, now),
                None => self.details.queue.forget(&request.id),
            }
            self.schedule(&request.id, now);
        }
        if ends_pause {
            self.reschedule(now);
        }
    }

    /// Records the result of a look at the executions of a job.
    pub fn looked(&mut self, request: &JobRequest, answer: Answer<LookResult>, now: Timepoint) {
        let ends_pause = self.executions.queue.count_answer(&request.id, &answer);
        if self.executions.queue.is_current(request) {
            match self.jobs.find_open(&request.id) {
                Some(job) => self.executions.answered(request, answer, job, now),
                None => self.executions.queue.forget(&request.id),
            }
            self.schedule(&request.id, now);
        }
        if ends_pause {
            self.reschedule(now);
        }
    }

    /// Records the result of a `ListTagsForResource` request.
    pub fn tags_read(&mut self, request: &JobRequest, answer: &Answer<Vec<Tag>>, now: Timepoint) {
        let ends_pause = self.tags.queue.count_answer(&request.id, answer);
        if self.tags.queue.is_current(request) {
            match self.jobs.find(&request.id) {
                Some((job, _)) => {
                    self.tags.answered(request, answer, job, now);
                    self.tags.schedule(&request.id, job);
                }
                None => self.tags.queue.forget(&request.id),
            }
        }
        if ends_pause {
            self.reschedule(now);
        }
    }

    /// Determines the state of a job that left the list. A listing overrules an answer. An answer to a request from
    /// before the job left is ignored.
    fn follow(&mut self, request: &JobRequest, answer: &DescribeAnswer, now: Timepoint) {
        let id = &request.id;
        let Some(left) = self.jobs.left.get_mut(id) else { return };
        if request.sent.instant < left.since.instant {
            return;
        }
        left.is_due = false;
        let moved_to = match answer {
            Answer::Failed(_) => return,
            Answer::NotFound => None,
            Answer::Found(description) => {
                let job = left.job.updated(&description.summary);
                let is_in_scope = self.options.scope.includes(&job);
                if job.status.is_open() && is_in_scope {
                    left.job = job;
                    return;
                }
                is_in_scope.then_some(job)
            }
        };
        self.jobs.left.remove(id);
        self.set_moved(id, moved_to, now);
    }

    fn set_moved(&mut self, id: &JobId, job: Option<Job>, at: Timepoint) {
        if !self.options.lists_ended {
            return;
        }
        let ended_since = self.ended_since(at);
        if let Some(job) = job.as_ref().filter(|job| ended_recently(job, ended_since)) {
            self.jobs.recent.insert(JobId::clone(id), job.clone());
        }
        self.jobs.moved.insert(JobId::clone(id), MovedJob { job, at });
    }

    /// Applies a complete full walk.
    pub fn full_walk_done(&mut self, walk: FullWalkResult, now: Timepoint) {
        let FullWalkResult { started, ended, recent, open: seen_open, .. } = walk;
        self.jobs.moved.retain(|_, moved| moved.at.instant >= started.instant);
        let is_answered = |id: &JobId, left: &mut LeftJob| {
            left.since.instant < started.instant && (ended.contains(id) || !seen_open.contains_key(id))
        };
        for (id, _) in self.jobs.left.extract_if(.., is_answered) {
            if !ended.contains(&id) {
                self.jobs.moved.insert(id, MovedJob { job: None, at: now });
            }
        }
        for (id, job) in seen_open {
            if !self.jobs.is_open(&id) && !self.jobs.moved.contains_key(&id) && self.options.scope.includes(&job) {
                self.jobs.left.entry(id).or_insert(LeftJob { job, since: now, is_due: true });
            }
        }
        self.jobs.recent = recent;
        let ended_since = self.ended_since(now);
        for (id, moved) in &self.jobs.moved {
            if let Some(job) = moved.job.as_ref().filter(|job| ended_recently(job, ended_since)) {
                self.jobs.recent.insert(JobId::clone(id), job.clone());
            }
        }
        self.jobs.ended = Some(ended);
        self.reschedule(now);
    }

    /// Drops the stale jobs of the last full walk. Jobs that moved since then stay for a walk in progress.
    pub fn ended_jobs_stale(&mut self, now: Timepoint) {
        self.jobs.ended = None;
        self.jobs.recent.clear();
        self.reschedule(now);
    }

    /// The class of the next job to describe, if one is due. Valid until the store changes.
    #[must_use]
    pub fn next_class(&self, now: Timepoint) -> Option<DescribeClass> {
        self.details.next_class(now)
    }

    /// Takes the next job to describe, if one is due. [`JobStore::described`] must record its answer.
    ///
    /// The caller limits the number of requests in flight, and has a permit of the rate limit.
    pub fn next_to_describe(&mut self, now: Timepoint) -> Option<JobRequest> {
        loop {
            let id = self.details.queue.pick(now)?;
            if let Some((job, list_state)) = self.jobs.find(&id) {
                self.details.asked(&id, job, list_state, now);
                return Some(JobRequest { id, sent: now });
            }
        }
    }

    /// Takes the next look at the executions of a job, if one is due. [`JobStore::looked`] must record its answer.
    pub fn next_look(&mut self, now: Timepoint) -> Option<LookRequest> {
        loop {
            let id = self.executions.queue.pick(now)?;
            let Some(job) = self.jobs.find_open(&id) else { continue };
            let described = self.details.fresh(&id, job, now);
            if let Some((class, look)) = self.executions.start(&id, job, described, now) {
                return Some(LookRequest { request: JobRequest { id, sent: now }, class, look });
            }
        }
    }

    /// Takes the next job whose tags are to be read, if one is due. [`JobStore::tags_read`] must record its answer.
    pub fn next_tags(&mut self, now: Timepoint) -> Option<JobRequest> {
        loop {
            let id = self.tags.queue.pick(now)?;
            if let Some((job, _)) = self.jobs.find(&id) {
                self.tags.queue.asked(&id, job, now);
                return Some(JobRequest { id, sent: now });
            }
        }
    }

    /// When something is due next: a request about a job, or a job that may become stuck. It can be in the past.
    pub fn next_due(&self, now: Timepoint) -> impl Iterator<Item = Instant> {
        let crossing = self.next_crossing.and_then(|crossing| now.instant.checked_add(crossing.since(now.wall)));
        let due = [
            self.details.queue.next_due(now),
            self.executions.queue.next_due(now),
            self.tags.queue.next_due(now),
            crossing,
        ];
        due.into_iter().flatten()
    }

    /// The number of open jobs by pair; `None` before the first open walk.
    #[must_use]
    pub fn open_counts(&self) -> Option<BTreeMap<Pair, u64>> {
        self.jobs.open.as_ref()?;
        let mut counts = BTreeMap::new();
        for (_, job) in self.jobs.open() {
            *counts.entry(job.pair()).or_default() += 1;
        }
        Some(counts)
    }

    /// The number of other jobs by pair; `None` without a full walk. With `shows_open`, open jobs are omitted.
    #[must_use]
    pub fn ended_counts(&self, shows_open: bool) -> Option<BTreeMap<Pair, u64>> {
        let Jobs { moved, ended, .. } = &self.jobs;
        let open = self.jobs.open().map(|(id, _)| id).filter(|_| shows_open);
        let mut counts = ended.as_ref()?.counts_without(open.chain(moved.keys()).map(AsRef::as_ref));
        let is_listed = |pair: &Pair| !self.options.scope.is_of_a_group() || counts.contains_key(pair);
        let moved: Vec<Pair> =
            moved.values().filter_map(|moved| moved.job.as_ref()).map(Job::pair).filter(is_listed).collect();
        for pair in moved {
            *counts.entry(pair).or_default() += 1;
        }
        Some(counts)
    }

    /// The number of jobs in each state. All are `None` before the first open walk.
    #[must_use]
    pub fn states(&self, now: Timepoint) -> CacheStates {
        let none = || CacheState::ALL.into_iter().map(|state| (state, 0)).collect();
        let has_walked = self.jobs.open.is_some();
        let mut states = CacheStates {
            details: (has_walked && self.options.details.is_some()).then(none),
            executions: (has_walked && self.looks()).then(none),
            tags: (has_walked && !self.options.tag_keys.is_empty()).then(none),
        };
        let count = |states: &mut Option<BTreeMap<CacheState, u64>>, state: CacheState| {
            if let Some(count) = states.as_mut().and_then(|states| states.get_mut(&state)) {
                *count += 1;
            }
        };
        for (id, job, _) in self.jobs.all() {
            let known = self.known(id, job, now);
            known.state.into_iter().for_each(|state| count(&mut states.details, state));
            known.progress.state.into_iter().for_each(|state| count(&mut states.executions, state));
            count(&mut states.tags, self.tags.state(id, job, now));
        }
        states
    }

    /// Whether executions are listed.
    #[must_use]
    pub const fn looks(&self) -> bool {
        self.options.details.is_some() && self.options.executions.is_some()
    }

    /// Open jobs, and those that left the list in an unknown state; `None` before the first open walk.
    #[must_use]
    pub fn open_jobs(&self, now: Timepoint) -> Option<impl Iterator<Item = KnownJob<'_>>> {
        self.jobs.open.as_ref()?;
        Some(self.jobs.open().map(move |(id, job)| self.known(id, job, now)))
    }

    /// Jobs that ended recently; `None` without a full walk. With `shows_open`, open jobs are omitted.
    #[must_use]
    pub fn ended_jobs(&self, shows_open: bool, now: Timepoint) -> Option<impl Iterator<Item = KnownJob<'_>>> {
        self.jobs.ended.as_ref()?;
        Some(self.jobs.recent(shows_open).map(move |(id, job)| self.known(id, job, now)))
    }

    fn known<'a>(&'a self, id: &'a JobId, job: &'a Job, now: Timepoint) -> KnownJob<'a> {
        let described = self.details.described(id, job);
        let fresh = self.details.fresh(id, job, now);
        let is_open = job.status.is_open();
        let progress = if is_open { self.executions.progress(id, job, fresh, now) } else { Progress::default() };
        KnownJob {
            id,
            job,
            details: described.map(|described| &described.details),
            described_at: described.map(|described| described.answered),
            executions: fresh.map(|fresh| fresh.details.executions),
            state: self.options.details.map(|_| self.details.state(id, job, now)),
            progress,
            is_awaited: progress.is_awaited || self.details.is_awaited(id, job),
            meets_abort_criteria: fresh.and_then(|fresh| fresh.meets_abort_criteria),
            tags: self.tags.values(id, job, now),
        }
    }
}

/// Schedules the requests for one job.
fn schedule(
    details: &mut DetailsCache,
    executions: &mut ExecutionsCache,
    next_crossing: &mut Option<Timestamp>,
    (id, job, list_state): (&JobId, &Job, ListState),
    now: Timepoint,
) {
    if list_state == ListState::Ended {
        details.schedule(id, job, list_state, None, now);
        return;
    }
    let described = details.fresh(id, job, now);
    let crossing = described.and_then(|described| executions.crossing(id, job, described));
    executions.schedule(id, job, described, now);
    details.schedule(id, job, list_state, crossing, now);
    // A crossing in the past has just been scheduled.
    let next = crossing.filter(|crossing| *crossing > now.wall);
    *next_crossing = next_crossing.map_or(next, |known| Some(next.map_or(known, |next| next.min(known))));
}

fn ended_recently(job: &Job, since: Timestamp) -> bool {
    job.ended_at().is_none_or(|ended| ended >= since)
}

/// A job and its details.
#[derive(Clone, Copy, Debug)]
pub struct KnownJob<'a> {
    /// The job's id.
    pub id: &'a JobId,
    /// The listed fields.
    pub job: &'a Job,
    /// The details of `DescribeJob`.
    pub details: Option<&'a Details>,
    /// When they were received.
    pub described_at: Option<Timepoint>,
    /// Execution counts, unless they are stale.
    pub executions: Option<ExecutionCounts>,
    /// The state of the description; `None` if jobs are not described.
    pub state: Option<CacheState>,
    /// The progress of an open job.
    pub progress: Progress<'a>,
    /// Whether the first description or the first look is pending.
    pub is_awaited: bool,
    /// Whether its executions meet one of its abort criteria; `None` if it has none or that is unknown.
    pub meets_abort_criteria: Option<bool>,
    /// The values of its tags; `None` if unknown.
    pub tags: Option<&'a TagValues>,
}

impl KnownJob<'_> {
    /// The thing groups of the job as labels; `None` while its description is pending.
    #[must_use]
    pub fn groups(&self) -> Option<Vec<Label>> {
        match (self.details, self.state) {
            (Some(details), _) => Some(details.groups.labels().cloned().collect()),
            (None, None) => Some(vec![self.job.thing_group_id.clone().unwrap_or_else(|| UNKNOWN.into())]),
            (None, Some(CacheState::Failing | CacheState::Denied)) => Some(vec![UNKNOWN.into()]),
            (None, Some(CacheState::Fresh | CacheState::Overdue)) => None,
        }
    }

    /// Whether the job should have a description and has none.
    #[must_use]
    pub fn is_undescribed(&self) -> bool {
        self.details.is_none() && self.state.is_some()
    }
}

#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;
