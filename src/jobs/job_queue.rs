//! Which job a collector asks for next, and how its requests for each job went.
//!
//! Collectors that send requests about one job at a time share this: one entry for each job, classes of urgency, retries that get
//! rarer, and a pause while everything fails for one reason.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::{CollectorBackoff, FailureReason, doubled};
use super::{Job, JobId, Timepoint, Timestamp, same_creation};

/// A request about one job. An id can be used again while it is on its way, so its answer is known by the time too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRequest {
    /// The id of the job.
    pub id: JobId,
    /// When it was sent.
    pub sent: Timepoint,
}

/// The answer to a request about one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// There is such a job.
    Found(T),
    /// There is no such job.
    NotFound,
    /// No answer.
    Failed(FailureReason),
}

/// How well a collector knows a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheState {
    /// Answered within `stale_after`, or not asked for any more because nothing changes.
    Fresh,
    /// Not answered yet, or too long ago.
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

/// How often a collector asks for the same job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// After a first or a changed answer. Each equal one doubles it.
    pub(super) interval: Duration,
    /// The longest time after an answer.
    pub(super) max_interval: Duration,
    /// Each failure in a row doubles this.
    pub(super) retry: Duration,
    /// The longest time after a failure.
    pub(super) max_retry: Duration,
}

/// How the requests for a job went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum History {
    #[default]
    NotAsked,
    /// The last answer, and how many before it were equal.
    Answered { at: Instant, equal: u32 },
    /// The last failure, and how many there were in a row. After none the job is due at once: the reason has gone.
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

    /// After another answer.
    pub(super) fn answered(self, at: Instant, is_equal: bool) -> Self {
        match self {
            Self::Answered { equal, .. } if is_equal => Self::Answered { at, equal: equal.saturating_add(1) },
            _ => Self::Answered { at, equal: 0 },
        }
    }

    /// After another failure.
    pub(super) fn failed(self, at: Instant, reason: FailureReason) -> Self {
        let before = if let Self::Failed { failures, .. } = self { failures } else { 0 };
        Self::Failed { at, failures: before.saturating_add(1), reason }
    }
}

/// What is remembered of the requests for one job, as long as the job is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry<T> {
    /// A job's id can be used again after its job is deleted: id and creation name a job.
    pub(super) created_at: Option<Timestamp>,
    pub(super) history: History,
    pub(super) asked_at: Option<Timepoint>,
    is_in_flight: bool,
    /// What the collector keeps of the job.
    pub(super) data: T,
}

impl<T: Default> Entry<T> {
    /// Drops what is known about another job with the same id.
    fn belongs_to(&mut self, job: &Job) {
        if !same_creation(self.created_at, job.created_at) {
            (self.history, self.data) = (History::default(), T::default());
        }
        self.created_at = job.created_at;
    }
}

impl<T> Entry<T> {
    /// Whether `crossing` has passed, and the job was last asked for before it.
    pub(super) fn was_asked_before(&self, crossing: Option<Timestamp>, now: Timepoint) -> bool {
        let is_before = |crossing| self.asked_at.is_none_or(|asked| asked.wall < crossing);
        crossing.is_some_and(|crossing| crossing <= now.wall && is_before(crossing))
    }
}

/// A job that waits for a request. Those that are due first come first, then the newest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    /// `None` for at once, which sorts before any time.
    due: Option<Instant>,
    newest: Reverse<Option<Timestamp>>,
    id: JobId,
}

/// Every fifth request is for the lowest class that waits, so that a busy class cannot hold up another for ever.
const LOWEST_CLASS_EVERY: u32 = 5;

/// What a collector keeps of each job, and the jobs that wait for a request, by class. Class 0 is the most urgent.
#[derive(Debug)]
pub(super) struct JobQueue<T, const CLASSES: usize> {
    entries: BTreeMap<JobId, Entry<T>>,
    waiting: [BTreeSet<Waiting>; CLASSES],
    /// Where each job waits. It waits once at most.
    places: HashMap<JobId, (usize, Waiting)>,
    in_flight: usize,
    picks: u32,
    backoff: CollectorBackoff,
}

impl<T, const CLASSES: usize> Default for JobQueue<T, CLASSES> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            waiting: [const { BTreeSet::new() }; CLASSES],
            places: HashMap::new(),
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

    /// Whether the last request for an id was denied, or all are.
    pub(super) fn is_denied(&self, id: &str) -> bool {
        let is_denied =
            |entry: &Entry<T>| matches!(entry.history, History::Failed { reason: FailureReason::Denied, .. });
        self.paused() == Some(FailureReason::Denied) || self.entries.get(id).is_some_and(is_denied)
    }

    /// How well a job is known. `is_fresh` judges the answer of a job whose last request did not fail.
    pub(super) fn state(&self, id: &str, job: &Job, is_fresh: impl FnOnce(&Entry<T>) -> bool) -> CacheState {
        let entry = self.entry(id, job);
        if let Some(History::Failed { reason, .. }) = entry.map(|entry| entry.history) {
            return CacheState::of_failure(reason);
        }
        if entry.is_some_and(is_fresh) {
            return CacheState::Fresh;
        }
        // Those that no request is sent for share the reason of the others.
        self.paused().map_or(CacheState::Overdue, CacheState::of_failure)
    }

    /// Whether a request is the last one for its job, and the job has been there all the time.
    pub(super) fn is_current(&self, request: &JobRequest) -> bool {
        self.entries.get(&request.id).is_some_and(|entry| entry.asked_at == Some(request.sent))
    }

    /// Whether the first request for a job is still to be answered, or to fail. If everything is denied, no answer is awaited.
    pub(super) fn is_awaited(&self, id: &str, job: &Job) -> bool {
        let was_answered = self.entry(id, job).is_some_and(|entry| entry.history != History::NotAsked);
        !was_answered && self.paused() != Some(FailureReason::Denied)
    }

    /// Whether a request for a job is on its way.
    fn is_in_flight(&self, id: &str) -> bool {
        self.entries.get(id).is_some_and(|entry| entry.is_in_flight)
    }

    /// Forgets every job that `find` does not find.
    pub(super) fn retain<'a>(&mut self, find: impl Fn(&str) -> Option<&'a Job>) {
        self.entries.retain(|id, entry| find(id).is_some_and(|job| same_creation(entry.created_at, job.created_at)));
        self.in_flight = self.entries.values().filter(|entry| entry.is_in_flight).count();
    }

    /// Lets no job wait any more.
    pub(super) fn clear_waiting(&mut self) {
        self.waiting = [const { BTreeSet::new() }; CLASSES];
        self.places.clear();
    }

    /// Lets a job wait in a class until it is due (`None` for at once), or wait no more. It stays where it is if a request for it is
    /// on its way.
    pub(super) fn wait(&mut self, id: &JobId, job: &Job, request: Option<(usize, Option<Instant>)>) {
        if let Some((class, waiting)) = self.places.remove(id) {
            self.waiting.get_mut(class).map(|of_class| of_class.remove(&waiting));
        }
        let Some((class, due)) = request.filter(|_| !self.is_in_flight(id)) else { return };
        let newest = Reverse(job.completed_at.or(job.created_at));
        let waiting = Waiting { due, newest, id: JobId::clone(id) };
        self.waiting.get_mut(class).map(|of_class| of_class.insert(waiting.clone()));
        self.places.insert(JobId::clone(id), (class, waiting));
    }

    fn jobs(&self) -> usize {
        self.in_flight + self.places.len()
    }

    fn paused(&self) -> Option<FailureReason> {
        self.backoff.paused(self.jobs())
    }

    /// When the next request is due; `None` if none is waiting. It can be in the past.
    pub(super) fn next_due(&self, now: Timepoint) -> Option<Instant> {
        let first = self.waiting.iter().filter_map(|class| class.first()).map(|first| first.due).min()?;
        match self.paused() {
            None => Some(first.unwrap_or(now.instant)),
            Some(_) => Some(self.backoff.next_while_paused().unwrap_or(now.instant)),
        }
    }

    /// The class of the job that is asked for next, if one is due.
    pub(super) fn next_class(&self, now: Timepoint) -> Option<usize> {
        self.choose(now).map(|(class, _)| class)
    }

    /// Takes the job that is asked for next, if one is due.
    pub(super) fn pick(&mut self, now: Timepoint) -> Option<JobId> {
        let (class, job) = self.choose(now).map(|(class, job)| (class, job.clone()))?;
        self.picks = (self.picks + 1) % LOWEST_CLASS_EVERY;
        self.waiting.get_mut(class).map(|of_class| of_class.remove(&job));
        self.places.remove(&job.id);
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

    /// While the collector is paused any job will do, but each time another one.
    fn longest_unasked<'a>(&self, jobs: impl Iterator<Item = (usize, &'a Waiting)>) -> Option<(usize, &'a Waiting)> {
        let asked_at = |id: &JobId| self.entries.get(id)?.asked_at.map(|asked| asked.instant);
        jobs.min_by_key(|(class, job)| (asked_at(&job.id), *class))
    }

    /// A request for a job is being sent. Its answer must be recorded.
    pub(super) fn asked(&mut self, id: &JobId, job: &Job, now: Timepoint) -> &mut Entry<T> {
        self.backoff.asked(now.instant);
        let entry = self.entries.entry(JobId::clone(id)).or_default();
        self.in_flight += usize::from(!entry.is_in_flight);
        entry.belongs_to(job);
        entry.asked_at = Some(now);
        entry.is_in_flight = true;
        entry
    }

    /// The entry of a job whose answer has come, or a new one.
    pub(super) fn answered(&mut self, id: &JobId, job: &Job) -> &mut Entry<T> {
        let entry = self.entries.entry(JobId::clone(id)).or_default();
        self.in_flight -= usize::from(std::mem::take(&mut entry.is_in_flight));
        entry.belongs_to(job);
        entry
    }

    /// Forgets a job that has gone.
    pub(super) fn forget(&mut self, id: &str) {
        if self.entries.remove(id).is_some_and(|entry| entry.is_in_flight) {
            self.in_flight -= 1;
        }
    }

    /// Counts an answer towards a pause, and ends a pause at the first success: what failed for the same reason can be asked for
    /// again. Returns whether a pause has ended.
    ///
    /// A job that fails as it did before starts no pause. A policy can deny some jobs for good, and they must not hold up the
    /// others.
    pub(super) fn count_answer<A>(&mut self, id: &str, answer: &Answer<A>) -> bool {
        let paused = self.paused();
        if let Answer::Failed(reason) = *answer {
            let before = self.entries.get(id).map(|entry| entry.history);
            let is_known = matches!(before, Some(History::Failed { reason: known, .. }) if known == reason);
            // A failure that is about one job says nothing about the reason of a pause.
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
