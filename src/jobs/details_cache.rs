//! What `DescribeJob` said of each job, and which job it is asked for next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::{CollectorBackoff, FailureReason, doubled};
use super::thing_groups::{Groups, Interner};
use super::{Description, ExecutionCounts, Job, JobId, Schedule, Timepoint, Timestamp, same_creation};

/// An answer of `DescribeJob`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There is such a job.
    Found(Box<Description>),
    /// There is no such job.
    NotFound,
    /// No answer.
    Failed(FailureReason),
}

/// A request of `DescribeJob`. An id can be used again while it is on its way, so its answer is known by the time too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeRequest {
    /// The id of the job.
    pub id: JobId,
    /// When it was sent.
    pub sent: Timepoint,
}

/// How often `DescribeJob` is asked for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetailsOptions {
    /// A first or a changed answer is due again after this.
    pub interval: Duration,
    /// Equal answers and failures double the interval, up to this.
    pub max_interval: Duration,
    /// Execution counts are shown for so long.
    pub stale_after: Duration,
}

/// An ended job that still has open executions, or cannot be described, is asked for during this time only.
const ENDED_ASKED_FOR: Duration = Duration::from_hours(24);

/// What an answer of `DescribeJob` adds to a listed job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// The thing groups that the job targets.
    pub groups: Groups,
    /// When it runs.
    pub schedule: Schedule,
    /// How many executions it has.
    pub executions: ExecutionCounts,
    /// `isConcurrent`.
    pub is_concurrent: Option<bool>,
    /// Whether the job had ended.
    pub has_ended: bool,
}

impl Details {
    /// Whether nothing of this changes any more.
    fn is_final(&self) -> bool {
        self.has_ended && self.executions.open().unwrap_or(0) == 0 && self.is_concurrent != Some(true)
    }
}

/// Whether execution counts still hold. Final ones do, unless the job is listed as open again: an ended job that is being deleted is.
fn are_executions_fresh(
    (at, details): &(Timepoint, Details),
    job: &Job,
    options: &DetailsOptions,
    now: Timepoint,
) -> bool {
    (details.is_final() && !job.status.is_open()) || now.since(*at) <= options.stale_after
}

/// How the requests for a job went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum History {
    #[default]
    NotAsked,
    /// The last answer, and how many before it were equal.
    Answered { at: Instant, equal: u32 },
    /// The last failure, and how many there were in a row. After none the job is due at once: the reason has gone.
    Failed { at: Instant, failures: u32, reason: FailureReason },
}

impl History {
    /// When the job is due; `None` for at once.
    fn due(self, options: &DetailsOptions) -> Option<Instant> {
        let (at, doublings) = match self {
            Self::NotAsked | Self::Failed { failures: 0, .. } => return None,
            Self::Answered { at, equal } => (at, equal),
            Self::Failed { at, failures, .. } => (at, failures),
        };
        at.checked_add(doubled(options.interval, doublings, options.max_interval))
    }
}

/// What is remembered of the requests for one job, as long as the job is there.
#[derive(Clone, Debug, Default)]
struct CacheEntry {
    /// A job's id can be used again after its job is deleted: id and creation name a job.
    created_at: Option<Timestamp>,
    details: Option<(Timepoint, Details)>,
    history: History,
    /// `lastUpdatedAt` when the job was last asked for.
    listed_update: Option<Timestamp>,
    asked_at: Option<Timepoint>,
    /// When it was first asked for as an ended job.
    ended_asked_at: Option<Instant>,
    is_in_flight: bool,
}

impl CacheEntry {
    /// Whether this ended job needs no further request.
    fn is_settled(&self, options: &DetailsOptions) -> bool {
        let due = self.history.due(options);
        self.details.as_ref().is_some_and(|(_, details)| details.is_final())
            || due.zip(self.ended_asked_at).is_some_and(|(due, first)| due > first + ENDED_ASKED_FOR)
    }
}

/// How well a job is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DetailsState {
    /// Described within `stale_after`, or ended and no longer asked for.
    Fresh,
    /// Not described yet, or too long ago.
    Overdue,
    /// The last request failed, or found no such job.
    Failing,
    /// The identity may not describe the job.
    Denied,
}

impl DetailsState {
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

/// Where a job is in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// No longer listed. It is due once after each open walk.
    Left {
        is_due: bool,
    },
    Open,
    Ended,
}

/// Which jobs are described first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DescribeClass {
    /// Jobs that are no longer listed as open.
    Left,
    /// Open jobs that are new, or have changed.
    Changed,
    /// Open jobs that are described again.
    Open,
    /// Jobs that have ended.
    Ended,
}

impl DescribeClass {
    const ALL: [Self; 4] = [Self::Left, Self::Changed, Self::Open, Self::Ended];
}

/// A job that waits to be described. Those that are due first come first, then the newest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    /// `None` for at once, which sorts before any time.
    due: Option<Instant>,
    newest: Reverse<Option<Timestamp>>,
    id: JobId,
}

/// Every fifth request is for the lowest class that waits, so that a busy class cannot hold up another for ever.
const LOWEST_CLASS_EVERY: u32 = 5;

/// The answers of `DescribeJob`, and the jobs that wait for one.
#[derive(Debug, Default)]
pub(super) struct DetailsCache {
    /// `None` where jobs are not described.
    options: Option<DetailsOptions>,
    entries: BTreeMap<JobId, CacheEntry>,
    interner: Interner,
    waiting: [BTreeSet<Waiting>; 4],
    in_flight: usize,
    picks: u32,
    backoff: CollectorBackoff,
}

impl DetailsCache {
    /// Knows nothing yet.
    pub(super) fn new(options: Option<DetailsOptions>) -> Self {
        Self { options, ..Self::default() }
    }

    /// Goes on with other options. What is not described any more is forgotten.
    pub(super) fn set_options(&mut self, options: Option<DetailsOptions>) {
        match options {
            Some(_) => self.options = options,
            None => *self = Self::default(),
        }
    }

    /// The entry of a job.
    fn entry(&self, id: &str, job: &Job) -> Option<&CacheEntry> {
        self.entries.get(id).filter(|entry| same_creation(entry.created_at, job.created_at))
    }

    /// The description of a job, and when it was read.
    pub(super) fn details(&self, id: &str, job: &Job) -> Option<&(Timepoint, Details)> {
        self.entry(id, job)?.details.as_ref()
    }

    /// Whether the identity may not describe a job, or nothing is described.
    pub(super) fn is_denied(&self, id: &str) -> bool {
        let is_denied =
            |entry: &CacheEntry| matches!(entry.history, History::Failed { reason: FailureReason::Denied, .. });
        self.options.is_none()
            || self.paused() == Some(FailureReason::Denied)
            || self.entries.get(id).is_some_and(is_denied)
    }

    /// How well a job is known at `now`.
    pub(super) fn state(&self, id: &str, job: &Job, now: Timepoint) -> DetailsState {
        let Some(options) = &self.options else { return DetailsState::Overdue };
        let entry = self.entry(id, job);
        if let Some(History::Failed { reason, .. }) = entry.map(|entry| entry.history) {
            return DetailsState::of_failure(reason);
        }
        let is_fresh = |entry: &CacheEntry| {
            let is_asked_for = job.status.is_open() || !entry.is_settled(options);
            entry.details.as_ref().is_some_and(|(at, _)| !is_asked_for || now.since(*at) <= options.stale_after)
        };
        if entry.is_some_and(is_fresh) {
            return DetailsState::Fresh;
        }
        // Those that no request is sent for share the reason of the others.
        self.paused().map_or(DetailsState::Overdue, DetailsState::of_failure)
    }

    /// Execution counts that are not stale.
    pub(super) fn executions(&self, id: &str, job: &Job, now: Timepoint) -> Option<ExecutionCounts> {
        let known = self.details(id, job)?;
        are_executions_fresh(known, job, self.options.as_ref()?, now).then_some(known.1.executions)
    }

    /// Whether a request is the last one for its job, and the job has been there all the time.
    pub(super) fn is_current(&self, request: &DescribeRequest) -> bool {
        self.entries.get(&request.id).is_some_and(|entry| entry.asked_at == Some(request.sent))
    }

    /// Forgets every job that `find` does not find.
    pub(super) fn retain<'a>(&mut self, find: impl Fn(&str) -> Option<&'a Job>) {
        self.entries.retain(|id, entry| find(id).is_some_and(|job| same_creation(entry.created_at, job.created_at)));
        self.in_flight = self.entries.values().filter(|entry| entry.is_in_flight).count();
        self.interner.sweep();
    }

    /// Schedules these jobs, which are all that there are.
    pub(super) fn reschedule<'a>(&mut self, jobs: impl Iterator<Item = (&'a JobId, &'a Job, Place)>) {
        self.waiting = Default::default();
        for (id, job, place) in jobs {
            self.schedule(id, job, place);
        }
    }

    /// Puts a job into the queue, unless a request for it is on its way or it needs none.
    pub(super) fn schedule(&mut self, id: &JobId, job: &Job, place: Place) {
        let Some((class, due)) = self.next_request(id, job, place) else { return };
        let newest = Reverse(job.completed_at.or(job.created_at));
        self.waiting[class as usize].insert(Waiting { due, newest, id: JobId::clone(id) });
    }

    /// The class of a job, and when it is due (`None` for at once). It follows from the history of the job.
    fn next_request(&self, id: &JobId, job: &Job, place: Place) -> Option<(DescribeClass, Option<Instant>)> {
        let options = self.options.as_ref()?;
        let entry = self.entry(id, job);
        if entry.is_some_and(|entry| entry.is_in_flight) {
            return None;
        }
        let unchanged =
            entry.filter(|entry| entry.history != History::NotAsked && entry.listed_update == job.last_updated_at);
        match (place, unchanged) {
            (Place::Left { is_due }, _) => is_due.then_some((DescribeClass::Left, None)),
            (Place::Open, None) => Some((DescribeClass::Changed, None)),
            (Place::Open, Some(entry)) => Some((DescribeClass::Open, entry.history.due(options))),
            (Place::Ended, None) => Some((DescribeClass::Ended, None)),
            (Place::Ended, Some(entry)) => {
                (!entry.is_settled(options)).then(|| (DescribeClass::Ended, entry.history.due(options)))
            }
        }
    }

    fn jobs(&self) -> usize {
        self.in_flight + self.waiting.iter().map(BTreeSet::len).sum::<usize>()
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

    /// The class of the job that is described next, if one is due.
    pub(super) fn next_class(&self, now: Timepoint) -> Option<DescribeClass> {
        self.choose(now).map(|(class, _)| class)
    }

    /// Takes the job that is described next, if one is due. Its answer must be recorded.
    pub(super) fn pick(&mut self, now: Timepoint) -> Option<JobId> {
        let (class, job) = self.choose(now).map(|(class, job)| (class, job.clone()))?;
        self.picks = (self.picks + 1) % LOWEST_CLASS_EVERY;
        self.waiting[class as usize].remove(&job);
        Some(job.id)
    }

    fn choose(&self, now: Timepoint) -> Option<(DescribeClass, &Waiting)> {
        if self.next_due(now)? > now.instant {
            return None;
        }
        let classes = || DescribeClass::ALL.into_iter().zip(&self.waiting);
        if self.paused().is_some() {
            return self.longest_unasked(classes().flat_map(|(class, jobs)| jobs.iter().map(move |job| (class, job))));
        }
        let is_due = |(_, first): &(_, &Waiting)| first.due.is_none_or(|due| due <= now.instant);
        let mut due = classes().filter_map(|(class, jobs)| Some((class, jobs.first()?))).filter(is_due);
        if self.picks + 1 == LOWEST_CLASS_EVERY { due.next_back() } else { due.next() }
    }

    /// While the collector is paused any job will do, but each time another one.
    fn longest_unasked<'a>(
        &self,
        jobs: impl Iterator<Item = (DescribeClass, &'a Waiting)>,
    ) -> Option<(DescribeClass, &'a Waiting)> {
        let asked_at = |id: &JobId| self.entries.get(id)?.asked_at.map(|asked| asked.instant);
        jobs.min_by_key(|(class, job)| (asked_at(&job.id), *class as usize))
    }

    /// A request for a job is being sent.
    pub(super) fn asked(&mut self, id: &JobId, job: &Job, place: Place, now: Timepoint) {
        self.in_flight += 1;
        self.backoff.asked(now.instant);
        let entry = self.entries.entry(JobId::clone(id)).or_default();
        entry.created_at = job.created_at;
        entry.listed_update = job.last_updated_at;
        entry.asked_at = Some(now);
        entry.is_in_flight = true;
        if place == Place::Ended {
            entry.ended_asked_at.get_or_insert(now.instant);
        }
    }

    /// Records the answer for `job`, which is at `place`.
    pub(super) fn answered(&mut self, id: &JobId, answer: &Answer, job: &Job, place: Place, now: Timepoint) {
        let mut entry = self.take(id).unwrap_or_default();
        if !same_creation(entry.created_at, job.created_at) {
            entry.details = None;
        }
        entry.created_at = job.created_at;
        let at = now.instant;
        let failed = |reason| {
            let before = if let History::Failed { failures, .. } = entry.history { failures } else { 0 };
            History::Failed { at, failures: before.saturating_add(1), reason }
        };
        entry.history = match answer {
            Answer::Failed(reason) => failed(*reason),
            Answer::NotFound => failed(FailureReason::Other),
            // Another job of the same id, which the next walk will list.
            Answer::Found(description) if !same_creation(description.summary.created_at, job.created_at) => {
                History::Answered { at, equal: 0 }
            }
            Answer::Found(description) => {
                let before = entry.details.take().map(|(_, details)| details);
                let details = self.details_of(description, job, before.as_ref());
                let equal = match entry.history {
                    History::Answered { equal, .. } if before.as_ref() == Some(&details) => equal.saturating_add(1),
                    _ => 0,
                };
                entry.details = Some((now, details));
                History::Answered { at, equal }
            }
        };
        let has_ended = entry.details.as_ref().is_some_and(|(_, details)| details.has_ended);
        if place == Place::Ended && has_ended && entry.ended_asked_at.is_none() {
            // It left the list, and this answer is the first to say that it has ended.
            entry.listed_update = job.last_updated_at;
            entry.ended_asked_at = Some(at);
        }
        self.entries.insert(JobId::clone(id), entry);
    }

    /// Takes the entry of a job whose answer has come.
    fn take(&mut self, id: &str) -> Option<CacheEntry> {
        let mut entry = self.entries.remove(id)?;
        self.in_flight -= usize::from(std::mem::take(&mut entry.is_in_flight));
        Some(entry)
    }

    /// Forgets a job that has gone.
    pub(super) fn forget(&mut self, id: &str) {
        self.take(id);
    }

    /// Counts an answer towards a pause, and ends a pause at the first success: what failed for the same reason can be asked for
    /// again. Returns whether a pause has ended.
    ///
    /// A job that fails as it did before starts no pause. A policy can deny some jobs for good, and they must not hold up the
    /// others.
    pub(super) fn count_answer(&mut self, id: &str, answer: &Answer) -> bool {
        let paused = self.paused();
        match answer {
            Answer::Failed(reason) => {
                let before = self.entries.get(id).map(|entry| entry.history);
                let is_known = matches!(before, Some(History::Failed { reason: known, .. }) if known == *reason);
                // A failure that is about one job says nothing about the reason of a pause.
                let is_unrelated = paused.is_some() && *reason == FailureReason::Other;
                if !is_known && !is_unrelated {
                    self.backoff.failed(*reason);
                }
                return false;
            }
            Answer::Found(_) | Answer::NotFound => self.backoff.succeeded(),
        }
        for entry in self.entries.values_mut() {
            if let History::Failed { failures, reason, .. } = &mut entry.history
                && paused == Some(*reason)
            {
                *failures = 0;
            }
        }
        paused.is_some()
    }

    fn details_of(&mut self, description: &Description, job: &Job, before: Option<&Details>) -> Details {
        let status = description.summary.status.as_ref().unwrap_or(&job.status);
        // An answer without targets removes no known ones.
        let groups = match (&description.targets, before) {
            (None, Some(before)) => before.groups.clone(),
            (targets, _) => self.interner.of_targets(targets.as_deref()),
        };
        Details {
            groups,
            schedule: description.schedule,
            executions: description.executions,
            is_concurrent: description.summary.is_concurrent,
            has_ended: !status.is_open(),
        }
    }
}
