//! Which job a collector requests next, and the history of its requests.
//!
//! Shared by all collectors that send requests about single jobs: one entry for each job, classes of urgency, retries
//! with backoff, and a pause while everything fails for one reason.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::{CollectorBackoff, FailureReason, doubled};
use super::{Job, JobId, Timepoint, Timestamp, same_creation};

/// A request about one job. An id can be reused during the request, so its answer is matched by id and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRequest {
    /// The id of the job.
    pub id: JobId,
    /// When the request was sent.
    pub sent: Timepoint,
}

/// The answer to a request about one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// The job exists.
    Found(T),
    /// The job does not exist.
    NotFound,
    /// The request failed.
    Failed(FailureReason),
}

/// The state of a job in a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheState {
    /// Answered within `stale_after`, or final.
    Fresh,
    /// Never answered, or too long ago.
    Overdue,
    /// The last request failed, or found no such job.
    Failing,
    /// The identity may not send the request.
    Denied,
}

impl CacheState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Fresh, Self::Overdue, Self::Failing, Self::Denied];

    const fn of_failure(reason: FailureReason) -> Self {
        match reason {
            FailureReason::Denied => Self::Denied,
            FailureReason::Credentials | FailureReason::Connection | FailureReason::Other => Self::Failing,
        }
    }

    /// The value of the label `state`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Overdue => "overdue",
            Self::Failing => "failing",
            Self::Denied => "denied",
        }
    }
}

/// How often a collector requests the same job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// The wait after a first or a changed answer. Each equal answer doubles it.
    pub(super) interval: Duration,
    /// The longest wait after an answer.
    pub(super) max_interval: Duration,
    /// Each consecutive failure doubles this wait.
    pub(super) retry: Duration,
    /// The longest wait after a failure.
    pub(super) max_retry: Duration,
}

/// The result of the last requests for a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum History {
    #[default]
    NotAsked,
    /// The last answer, and how many equal ones preceded it.
    Answered { at: Instant, equal: u32 },
    /// The last failure, and the number of consecutive ones. With 0 the job is due at once: the cause is gone.
    Failed { at: Instant, failures: u32, reason: FailureReason },
}

impl History {
    /// When the job is due; `None` for at once.
    pub(super) fn due(self, pace: &Pace) -> Option<Instant> {
        match self {
            Self::NotAsked | Self::Failed { failures: 0, .. } => None,
            Self::Answered { at, equal } => at.checked_add(doubled(pace.interval, equal, pace.max_interval)),
            Self::Failed { at, failures, .. } => at.checked_add(doubled(pace.retry, failures, pace.max_retry)),
        }
    }

    /// Adds an answer.
    pub(super) fn answered(self, at: Instant, is_equal: bool) -> Self {
        match self {
            Self::Answered { equal, .. } if is_equal => Self::Answered { at, equal: equal.saturating_add(1) },
            _ => Self::Answered { at, equal: 0 },
        }
    }

    /// Adds a failure.
    pub(super) fn failed(self, at: Instant, reason: FailureReason) -> Self {
        let before = if let Self::Failed { failures, .. } = self { failures } else { 0 };
        Self::Failed { at, failures: before.saturating_add(1), reason }
    }
}

/// The history and the data of one job, as long as the job exists.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry<T> {
    /// The creation time identifies a job together with its id, which can be reused.
    pub(super) created_at: Option<Timestamp>,
    pub(super) history: History,
    pub(super) asked_at: Option<Timepoint>,
    is_in_flight: bool,
    /// The data that the collector keeps for the job.
    pub(super) data: T,
}

impl<T: Default> Entry<T> {
    /// Drops the data of another job with the same id.
    fn belongs_to(&mut self, job: &Job) {
        if !same_creation(self.created_at, job.created_at) {
            (self.history, self.data) = (History::default(), T::default());
        }
        self.created_at = job.created_at;
    }
}

impl<T> Entry<T> {
    /// Whether `crossing` has passed, and the last request was sent before it.
    pub(super) fn was_asked_before(&self, crossing: Option<Timestamp>, now: Timepoint) -> bool {
        let is_before = |crossing| self.asked_at.is_none_or(|asked| asked.wall < crossing);
        crossing.is_some_and(|crossing| crossing <= now.wall && is_before(crossing))
    }
}

/// A job that waits for a request. The order is by due time, then newest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    /// `None` means at once, and sorts before any time.
    due: Option<Instant>,
    newest: Reverse<Option<Timestamp>>,
    id: JobId,
}

/// Every n-th request is for the lowest waiting class, so that a busy class cannot block another one forever.
const LOWEST_CLASS_EVERY: u32 = 5;

/// The data of all jobs, and the jobs that wait for a request, by class. Class 0 is the most urgent.
#[derive(Debug)]
pub(super) struct JobQueue<T, const CLASSES: usize> {
    entries: BTreeMap<JobId, Entry<T>>,
    waiting: [BTreeSet<Waiting>; CLASSES],
    /// The class and the position of each waiting job.
    positions: HashMap<JobId, (usize, Waiting)>,
    in_flight: usize,
    picks: u32,
    backoff: CollectorBackoff,
}

impl<T, const CLASSES: usize> Default for JobQueue<T, CLASSES> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            waiting: [const { BTreeSet::new() }; CLASSES],
            positions: HashMap::new(),
            in_flight: 0,
            picks: 0,
            backoff: CollectorBackoff::default(),
        }
    }
}

impl<T: Default, const CLASSES: usize> JobQueue<T, CLASSES> {
    /// The entry of a job.
    pub(super) fn entry(&self, id: &str, job: &Job) -> Option<&Entry<T>> {
        self.entries.get(id).filter(|entry| same_creation(entry.created_at, job.created_at))
    }

    /// Whether the last request for an id was denied, or all requests are.
    pub(super) fn is_denied(&self, id: &str) -> bool {
        let is_denied =
            |entry: &Entry<T>| matches!(entry.history, History::Failed { reason: FailureReason::Denied, .. });
        self.paused() == Some(FailureReason::Denied) || self.entries.get(id).is_some_and(is_denied)
    }

    /// The state of a job. `is_fresh` decides for a job whose last request did not fail.
    pub(super) fn state(&self, id: &str, job: &Job, is_fresh: impl FnOnce(&Entry<T>) -> bool) -> CacheState {
        let entry = self.entry(id, job);
        if let Some(History::Failed { reason, .. }) = entry.map(|entry| entry.history) {
            return CacheState::of_failure(reason);
        }
        if entry.is_some_and(is_fresh) {
            return CacheState::Fresh;
        }
        // Jobs without a request share the reason of the pause.
        self.paused().map_or(CacheState::Overdue, CacheState::of_failure)
    }

    /// Whether a request is the last one for its job, and the job has existed since.
    pub(super) fn is_current(&self, request: &JobRequest) -> bool {
        self.entries.get(&request.id).is_some_and(|entry| entry.asked_at == Some(request.sent))
    }

    /// Whether the first request for a job is pending. If everything is denied, no answer is expected.
    pub(super) fn is_awaited(&self, id: &str, job: &Job) -> bool {
        let was_answered = self.entry(id, job).is_some_and(|entry| entry.history != History::NotAsked);
        !was_answered && self.paused() != Some(FailureReason::Denied)
    }

    /// Whether a request for a job is in flight.
    fn is_in_flight(&self, id: &str) -> bool {
        self.entries.get(id).is_some_and(|entry| entry.is_in_flight)
    }

    /// Drops every job that `find` does not find.
    pub(super) fn retain<'a>(&mut self, find: impl Fn(&str) -> Option<&'a Job>) {
        self.entries.retain(|id, entry| find(id).is_some_and(|job| same_creation(entry.created_at, job.created_at)));
        self.in_flight = self.entries.values().filter(|entry| entry.is_in_flight).count();
    }

    /// Removes all jobs from the waiting ones.
    pub(super) fn clear_waiting(&mut self) {
        self.waiting = [const { BTreeSet::new() }; CLASSES];
        self.positions.clear();
    }

    /// Lets a job wait in a class until it is due (`None` for at once), or removes it. Nothing changes while a request
    /// for it is in flight.
    pub(super) fn wait(&mut self, id: &JobId, job: &Job, request: Option<(usize, Option<Instant>)>) {
        if let Some((class, waiting)) = self.positions.remove(id) {
            self.waiting.get_mut(class).map(|of_class| of_class.remove(&waiting));
        }
        let Some((class, due)) = request.filter(|_| !self.is_in_flight(id)) else { return };
        let newest = Reverse(job.completed_at.or(job.created_at));
        let waiting = Waiting { due, newest, id: JobId::clone(id) };
        self.waiting.get_mut(class).map(|of_class| of_class.insert(waiting.clone()));
        self.positions.insert(JobId::clone(id), (class, waiting));
    }

    fn jobs(&self) -> usize {
        self.in_flight + self.positions.len()
    }

    fn paused(&self) -> Option<FailureReason> {
        self.backoff.paused(self.jobs())
    }

    /// When the next request is due; `None` if no job waits. It can be in the past.
    pub(super) fn next_due(&self, now: Timepoint) -> Option<Instant> {
        let first = self.waiting.iter().filter_map(|class| class.first()).map(|first| first.due).min()?;
        match self.paused() {
            None => Some(first.unwrap_or(now.instant)),
            Some(_) => Some(self.backoff.next_while_paused().unwrap_or(now.instant)),
        }
    }

    /// The class of the next job, if one is due.
    pub(super) fn next_class(&self, now: Timepoint) -> Option<usize> {
        self.choose(now).map(|(class, _)| class)
    }

    /// Takes the next job, if one is due.
    pub(super) fn pick(&mut self, now: Timepoint) -> Option<JobId> {
        let (class, job) = self.choose(now).map(|(class, job)| (class, job.clone()))?;
        self.picks = (self.picks + 1) % LOWEST_CLASS_EVERY;
        self.waiting.get_mut(class).map(|of_class| of_class.remove(&job));
        self.positions.remove(&job.id);
        Some(job.id)
    }

    fn choose(&self, now: Timepoint) -> Option<(usize, &Waiting)> {
        if self.next_due(now)? > now.instant {
            return None;
        }
        let classes = || self.waiting.iter().enumerate();
        if self.paused().is_some() {
            return self.longest_unasked(classes().flat_map(|(class, jobs)| jobs.iter().map(move |job| (class, job))));
        }
        let is_due = |(_, first): &(_, &Waiting)| first.due.is_none_or(|due| due <= now.instant);
        let mut due = classes().filter_map(|(class, jobs)| Some((class, jobs.first()?))).filter(is_due);
        if self.picks + 1 == LOWEST_CLASS_EVERY { due.next_back() } else { due.next() }
    }

    /// A paused collector tries any job, but another one each time.
    fn longest_unasked<'a>(&self, jobs: impl Iterator<Item = (usize, &'a Waiting)>) -> Option<(usize, &'a Waiting)> {
        let asked_at = |id: &JobId| self.entries.get(id)?.asked_at.map(|asked| asked.instant);
        jobs.min_by_key(|(class, job)| (asked_at(&job.id), *class))
    }

    /// Records that a request for a job is sent. Its answer must be recorded.
    pub(super) fn asked(&mut self, id: &JobId, job: &Job, now: Timepoint) -> &mut Entry<T> {
        self.backoff.asked(now.instant);
        let entry = self.entries.entry(JobId::clone(id)).or_default();
        self.in_flight += usize::from(!entry.is_in_flight);
        entry.belongs_to(job);
        entry.asked_at = Some(now);
        entry.is_in_flight = true;
        entry
    }

    /// The entry of a job with a new answer. Creates one if there is none.
    pub(super) fn answered(&mut self, id: &JobId, job: &Job) -> &mut Entry<T> {
        let entry = self.entries.entry(JobId::clone(id)).or_default();
        self.in_flight -= usize::from(std::mem::take(&mut entry.is_in_flight));
        entry.belongs_to(job);
        entry
    }

    /// Drops a job that no longer exists.
    pub(super) fn forget(&mut self, id: &str) {
        if self.entries.remove(id).is_some_and(|entry| entry.is_in_flight) {
            self.in_flight -= 1;
        }
    }

    /// Counts an answer for the pause. The first success ends a pause, and makes jobs that failed for its reason due.
    /// Returns whether a pause has ended.
    ///
    /// A job that fails again for the same reason does not count: a policy can deny some jobs permanently, and they
    /// must not block the others.
    pub(super) fn count_answer<A>(&mut self, id: &str, answer: &Answer<A>) -> bool {
        let paused = self.paused();
        if let Answer::Failed(reason) = *answer {
            let before = self.entries.get(id).map(|entry| entry.history);
            let is_known = matches!(before, Some(History::Failed { reason: known, .. }) if known == reason);
            // A failure of a single job says nothing about the reason of a pause.
            let is_unrelated = paused.is_some() && reason == FailureReason::Other;
            if !is_known && !is_unrelated {
                self.backoff.failed(reason);
            }
            return false;
        }
        self.backoff.succeeded();
        for entry in self.entries.values_mut() {
            if let History::Failed { failures, reason, .. } = &mut entry.history
                && paused == Some(*reason)
            {
                *failures = 0;
            }
        }
        paused.is_some()
    }
}
