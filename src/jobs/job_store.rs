//! The jobs of a target, and which source wins.
//!
//! ListJobs decides whether a listed job counts, and under which status. DescribeJob adds details, and says where a job went that
//! is no longer listed. An id exists once at a time: a job is in one of `open`, `left` and `moved`, and only if it is in none of
//! them its entry of the last full walk counts.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::details_cache::{
    Answer, DescribeClass, DescribeRequest, Details, DetailsCache, DetailsOptions, DetailsState, Place,
};
use super::ended_jobs::EndedJobs;
use super::thing_groups::Label;
use super::walk::{FullWalk, FullWalkResult, OpenWalk};
use super::{ExecutionCounts, Job, JobId, Pair, Scope, Status, Timepoint, Timestamp, UNKNOWN};

/// A job that left the list is given up after so many intervals of the open walk if it cannot be described.
const LEFT_FOR_INTERVALS: u32 = 2;

/// The options of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Which jobs the target watches.
    pub scope: Scope,
    /// The interval of the open walk.
    pub open_interval: Duration,
    /// Whether full walks take place. Without them no ended job is known.
    pub lists_ended: bool,
    /// Ended jobs are kept one by one for so long after their end.
    pub ended_within: Duration,
    /// How jobs are described; `None` where they are not.
    pub details: Option<DetailsOptions>,
}

/// The jobs of a target.
#[derive(Debug)]
pub struct JobStore {
    options: StoreOptions,
    jobs: Jobs,
    details: DetailsCache,
}

#[derive(Debug, Default)]
struct Jobs {
    /// The last complete open walk.
    open: Option<BTreeMap<JobId, Job>>,
    /// No longer listed, and `DescribeJob` has not said yet where they went.
    left: BTreeMap<JobId, LeftJob>,
    /// Those that `DescribeJob` found ended or gone since the last full walk began.
    moved: BTreeMap<JobId, MovedJob>,
    /// Every ended job of the last full walk.
    ended: Option<EndedJobs>,
    /// The jobs that ended recently, by the last full walk and by `DescribeJob` since.
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
    /// `None`: gone, or out of scope.
    job: Option<Job>,
    at: Timepoint,
}

impl Jobs {
    fn is_open(&self, id: &str) -> bool {
        self.open.as_ref().is_some_and(|open| open.contains_key(id))
    }

    fn find(&self, id: &str) -> Option<(&Job, Place)> {
        if let Some(job) = self.open.as_ref().and_then(|open| open.get(id)) {
            return Some((job, Place::Open));
        }
        if let Some(LeftJob { job, is_due, .. }) = self.left.get(id) {
            return Some((job, Place::Left { is_due: *is_due }));
        }
        self.recent.get(id).filter(|_| !self.is_gone(id)).map(|job| (job, Place::Ended))
    }

    fn is_gone(&self, id: &str) -> bool {
        self.moved.get(id).is_some_and(|moved| moved.job.is_none())
    }

    /// Open jobs, and those that left the list.
    fn open(&self) -> impl Iterator<Item = (&JobId, &Job)> {
        let left = self.left.iter().map(|(id, left)| (id, &left.job));
        self.open.iter().flatten().chain(left)
    }

    /// The jobs that ended recently. Without `open` those that are there as open jobs too.
    fn recent(&self, without_open: bool) -> impl Iterator<Item = (&JobId, &Job)> {
        let is_open = move |id: &str| without_open && (self.is_open(id) || self.left.contains_key(id));
        self.recent.iter().filter(move |(id, _)| !is_open(id) && !self.is_gone(id))
    }

    /// Every job that can be described.
    fn all(&self) -> impl Iterator<Item = (&JobId, &Job, Place)> {
        let open = self.open.iter().flatten().map(|(id, job)| (id, job, Place::Open));
        let left = self.left.iter().map(|(id, left)| (id, &left.job, Place::Left { is_due: left.is_due }));
        open.chain(left).chain(self.recent(true).map(|(id, job)| (id, job, Place::Ended)))
    }
}

impl JobStore {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(options: StoreOptions) -> Self {
        let details = DetailsCache::new(options.details);
        Self { options, jobs: Jobs::default(), details }
    }

    /// Goes on with other options of the same scope.
    pub fn set_options(&mut self, options: StoreOptions) {
        self.details.set_options(options.details);
        if !options.lists_ended {
            self.jobs.moved.clear();
        }
        self.options = options;
        self.reschedule();
    }

    fn reschedule(&mut self) {
        self.details.retain(|id| self.jobs.find(id).map(|(job, _)| job));
        self.details.reschedule(self.jobs.all());
    }

    /// The options.
    #[must_use]
    pub const fn options(&self) -> &StoreOptions {
        &self.options
    }

    fn ended_since(&self, now: Timepoint) -> Timestamp {
        now.wall.before(self.options.ended_within)
    }

    /// Starts a full walk, before its first request is sent.
    #[must_use]
    pub fn start_full_walk(&self, now: Timepoint) -> FullWalk {
        // Most jobs are there again, so that nothing has to grow.
        FullWalk::new(now, self.ended_since(now), self.jobs.ended.as_ref().map_or(0, EndedJobs::len))
    }

    /// An open walk is complete.
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
        self.reschedule();
    }

    /// Jobs that cannot be described can have gone anywhere. Only one that was being deleted is known to be gone.
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

    /// `DescribeJob` answered for a job, or failed.
    pub fn described(&mut self, request: &DescribeRequest, answer: &Answer, now: Timepoint) {
        let ends_pause = self.details.count_answer(&request.id, answer);
        if self.details.is_current(request) {
            self.follow(request, answer, now);
            match self.jobs.find(&request.id) {
                Some((job, place)) => {
                    self.details.answered(&request.id, answer, job, place, now);
                    self.details.schedule(&request.id, job, place);
                }
                None => self.details.forget(&request.id),
            }
        }
        if ends_pause {
            self.reschedule();
        }
    }

    /// Follows a job that left the list. An answer never overrules a listing, and an answer to a request that was sent before the
    /// job left does not say where it went.
    fn follow(&mut self, request: &DescribeRequest, answer: &Answer, now: Timepoint) {
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

    /// A full walk is complete.
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
        self.reschedule();
    }

    /// Drops what the last full walk found, which is stale. Jobs that moved since then stay for a walk that is under way.
    pub fn ended_jobs_stale(&mut self) {
        self.jobs.ended = None;
        self.jobs.recent.clear();
        self.reschedule();
    }

    /// The class of the job that is to be described next, if one is due. It holds until something changes.
    #[must_use]
    pub fn next_class(&self, now: Timepoint) -> Option<DescribeClass> {
        self.details.next_class(now)
    }

    /// Takes the job that is to be described next, if one is due. Each must be answered by [`JobStore::described`].
    ///
    /// The caller bounds how many are on their way, and has a permit of the request budget.
    pub fn next_to_describe(&mut self, now: Timepoint) -> Option<DescribeRequest> {
        loop {
            let id = self.details.pick(now)?;
            if let Some((job, place)) = self.jobs.find(&id) {
                self.details.asked(&id, job, place, now);
                return Some(DescribeRequest { id, sent: now });
            }
        }
    }

    /// When the next job is due to be described; `None` if none waits. It can be in the past.
    #[must_use]
    pub fn next_due(&self, now: Timepoint) -> Option<Instant> {
        self.details.next_due(now)
    }

    /// Open jobs by pair; `None` before the first open walk.
    #[must_use]
    pub fn open_counts(&self) -> Option<BTreeMap<Pair, u64>> {
        self.jobs.open.as_ref()?;
        let mut counts = BTreeMap::new();
        for (_, job) in self.jobs.open() {
            *counts.entry(job.pair()).or_default() += 1;
        }
        Some(counts)
    }

    /// Jobs that are not open by pair; `None` without a full walk. While open jobs are shown, none of them counts here.
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

    /// How many jobs are in each state of their details; `None` before the first open walk, and if jobs are not described.
    #[must_use]
    pub fn details_states(&self, now: Timepoint) -> Option<BTreeMap<DetailsState, u64>> {
        self.options.details.as_ref().and(self.jobs.open.as_ref())?;
        let mut states: BTreeMap<DetailsState, u64> = DetailsState::ALL.into_iter().map(|state| (state, 0)).collect();
        for (id, job, _) in self.jobs.all() {
            *states.entry(self.details.state(id, job, now)).or_default() += 1;
        }
        Some(states)
    }

    /// Open jobs, and those that left the list without an answer where they went; `None` before the first open walk.
    #[must_use]
    pub fn open_jobs(&self, now: Timepoint) -> Option<impl Iterator<Item = KnownJob<'_>>> {
        self.jobs.open.as_ref()?;
        Some(self.jobs.open().map(move |(id, job)| self.known(id, job, now)))
    }

    /// Jobs that ended recently; `None` without a full walk. While open jobs are shown, none of them is here.
    #[must_use]
    pub fn ended_jobs(&self, shows_open: bool, now: Timepoint) -> Option<impl Iterator<Item = KnownJob<'_>>> {
        self.jobs.ended.as_ref()?;
        Some(self.jobs.recent(shows_open).map(move |(id, job)| self.known(id, job, now)))
    }

    fn known<'a>(&'a self, id: &'a JobId, job: &'a Job, now: Timepoint) -> KnownJob<'a> {
        let (described_at, details) = self.details.details(id, job).map(|(at, details)| (*at, details)).unzip();
        KnownJob {
            id,
            job,
            details,
            described_at,
            executions: self.details.executions(id, job, now),
            state: self.options.details.map(|_| self.details.state(id, job, now)),
        }
    }
}

fn ended_recently(job: &Job, since: Timestamp) -> bool {
    job.ended_at().is_none_or(|ended| ended >= since)
}

/// A job and its details.
#[derive(Clone, Copy, Debug)]
pub struct KnownJob<'a> {
    /// The job's id.
    pub id: &'a JobId,
    /// What was listed.
    pub job: &'a Job,
    /// What `DescribeJob` added.
    pub details: Option<&'a Details>,
    /// When it did.
    pub described_at: Option<Timepoint>,
    /// Execution counts, unless they are stale.
    pub executions: Option<ExecutionCounts>,
    /// How well the job is known; `None` where jobs are not described.
    pub state: Option<DetailsState>,
}

impl KnownJob<'_> {
    /// The thing groups of the job as labels; `None` while its description is still to come.
    #[must_use]
    pub fn groups(&self) -> Option<Vec<Label>> {
        match (self.details, self.state) {
            (Some(details), _) => Some(details.groups.labels().cloned().collect()),
            (None, None) => Some(vec![self.job.thing_group_id.clone().unwrap_or_else(|| UNKNOWN.into())]),
            (None, Some(DetailsState::Failing | DetailsState::Denied)) => Some(vec![UNKNOWN.into()]),
            (None, Some(DetailsState::Fresh | DetailsState::Overdue)) => None,
        }
    }

    /// Whether the job has no description, and should have one.
    #[must_use]
    pub fn is_undescribed(&self) -> bool {
        self.details.is_none() && self.state.is_some()
    }
}

#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;
