//! The answers of `DescribeJob`, and when each job is described again.

use std::time::Duration;

use tokio::time::Instant;

use super::backoff::FailureReason;
use super::job_queue::{Answer, CacheState, Entry, History, JobQueue, JobRequest, Pace};
use super::thing_groups::{Groups, Interner};
use super::{AbortCriterion, Description, ExecutionCounts, Job, JobId, Schedule, Timepoint, Timestamp, same_creation};

/// An answer of `DescribeJob`.
pub type DescribeAnswer = Answer<Box<Description>>;

/// How often jobs are described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetailsOptions {
    /// A first or a changed answer is renewed after this time.
    pub interval: Duration,
    /// Equal answers and failures double the interval, up to this.
    pub max_interval: Duration,
    /// Execution counts are shown for this time.
    pub stale_after: Duration,
}

impl DetailsOptions {
    const fn pace(&self) -> Pace {
        let Self { interval, max_interval, .. } = *self;
        Pace { interval, max_interval, retry: interval, max_retry: max_interval }
    }
}

/// An ended job with open executions or without a description is described for this time only.
const ENDED_ASKED_FOR: Duration = Duration::from_hours(24);

/// What an answer of `DescribeJob` adds to a listed job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// The thing groups that the job targets.
    pub groups: Groups,
    /// The schedule.
    pub schedule: Schedule,
    /// The execution counts.
    pub executions: ExecutionCounts,
    /// `isConcurrent`.
    pub is_concurrent: Option<bool>,
    /// `abortConfig`.
    pub abort_criteria: Box<[AbortCriterion]>,
    /// Whether the job had ended.
    pub has_ended: bool,
}

impl Details {
    /// Whether the executions meet an abort criterion; `None` if there is no criterion or the counts are unknown.
    fn meets_abort_criteria(&self) -> Option<bool> {
        let met = self.abort_criteria.iter().map(|criterion| criterion.is_met(&self.executions));
        met.reduce(|one, other| Some(one? || other?)).flatten()
    }

    /// Whether none of this can change any more.
    fn is_final(&self) -> bool {
        self.has_ended && self.executions.open().unwrap_or(0) == 0 && self.is_concurrent != Some(true)
    }
}

/// The last answer about a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// When the request was sent.
    pub sent: Timepoint,
    /// When the answer came.
    pub answered: Timepoint,
    /// The details.
    pub details: Details,
    /// When an answer last had more started or ended executions than the previous answer.
    pub progressed: Option<Timestamp>,
    /// Whether the executions meet an abort criterion, or have met one before; `None` if there is no criterion or the
    /// counts are unknown. Executions that continue after AWS has canceled the job can lower the share again.
    pub meets_abort_criteria: Option<bool>,
}

impl Described {
    /// Whether the execution counts are valid. Final ones stay valid, unless the job is listed as open again, as an
    /// ended job is during its deletion.
    fn is_fresh(&self, job: &Job, options: &DetailsOptions, now: Timepoint) -> bool {
        (self.details.is_final() && !job.status.is_open()) || now.since(self.answered) <= options.stale_after
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct DetailsEntry {
    described: Option<Described>,
    /// `lastUpdatedAt` at the time of the last request.
    listed_update: Option<Timestamp>,
    /// When it was first described as an ended job.
    ended_asked_at: Option<Instant>,
}

/// Whether an ended job needs no further description.
fn is_settled(entry: &Entry<DetailsEntry>, options: &DetailsOptions) -> bool {
    let due = entry.history.due(&options.pace());
    let DetailsEntry { described, ended_asked_at, .. } = &entry.data;
    described.as_ref().is_some_and(|described| described.details.is_final())
        || due.zip(*ended_asked_at).is_some_and(|(due, first)| due > first + ENDED_ASKED_FOR)
}

/// How the store lists a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListState {
    /// No longer listed. It is described once after each open walk.
    Left {
        is_due: bool,
    },
    Open,
    Ended,
}

/// The urgency of a description, most urgent first.
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

/// The answers of `DescribeJob`.
#[derive(Debug, Default)]
pub(super) struct DetailsCache {
    /// `None` if jobs are not described.
    options: Option<DetailsOptions>,
    pub(super) queue: JobQueue<DetailsEntry, 4>,
    interner: Interner,
}

impl DetailsCache {
    /// An empty cache.
    pub(super) fn new(options: Option<DetailsOptions>) -> Self {
        Self { options, ..Self::default() }
    }

    /// Applies other options. Drops jobs that are no longer described.
    pub(super) fn set_options(&mut self, options: Option<DetailsOptions>) {
        match options {
            Some(_) => self.options = options,
            None => *self = Self::default(),
        }
    }

    /// The last answer about a job.
    pub(super) fn described(&self, id: &str, job: &Job) -> Option<&Described> {
        self.queue.entry(id, job)?.data.described.as_ref()
    }

    /// The last answer about a job, if its execution counts are not stale.
    pub(super) fn fresh(&self, id: &str, job: &Job, now: Timepoint) -> Option<&Described> {
        let options = self.options.as_ref()?;
        self.described(id, job).filter(|described| described.is_fresh(job, options, now))
    }

    /// Whether the first answer about a job is pending.
    pub(super) fn is_awaited(&self, id: &str, job: &Job) -> bool {
        self.options.is_some() && self.queue.is_awaited(id, job)
    }

    /// Whether the identity may not describe a job, or any job.
    pub(super) fn is_denied(&self, id: &str) -> bool {
        self.options.is_none() || self.queue.is_denied(id)
    }

    /// The state of a job at `now`.
    pub(super) fn state(&self, id: &str, job: &Job, now: Timepoint) -> CacheState {
        let Some(options) = &self.options else { return CacheState::Overdue };
        self.queue.state(id, job, |entry| {
            let is_asked_for = job.status.is_open() || !is_settled(entry, options);
            let described = entry.data.described.as_ref();
            described.is_some_and(|last| !is_asked_for || now.since(last.answered) <= options.stale_after)
        })
    }

    /// Drops every job that `find` does not find.
    pub(super) fn retain<'a>(&mut self, find: impl Fn(&str) -> Option<&'a Job>) {
        self.queue.retain(find);
        self.interner.sweep();
    }

    /// Queues a job, unless its request is in flight or it needs none. `crossing` is a time after which the job must
    /// be described again at once.
    pub(super) fn schedule(
        &mut self,
        id: &JobId,
        job: &Job,
        list_state: ListState,
        crossing: Option<Timestamp>,
        now: Timepoint,
    ) {
        let request = self.next_request(id, job, list_state, crossing, now);
        self.queue.wait(id, job, request.map(|(class, due)| (class as usize, due)));
    }

    /// The class of a job, and when it is due (`None` for at once), from its history.
    fn next_request(
        &self,
        id: &JobId,
        job: &Job,
        list_state: ListState,
        crossing: Option<Timestamp>,
        now: Timepoint,
    ) -> Option<(DescribeClass, Option<Instant>)> {
        let options = self.options.as_ref()?;
        let is_unchanged = |entry: &&Entry<DetailsEntry>| {
            entry.history != History::NotAsked && entry.data.listed_update == job.last_updated_at
        };
        let unchanged = self.queue.entry(id, job).filter(is_unchanged);
        let due = |entry: &Entry<DetailsEntry>| entry.history.due(&options.pace());
        match (list_state, unchanged) {
            (ListState::Left { is_due }, _) => is_due.then_some((DescribeClass::Left, None)),
            (ListState::Open, None) => Some((DescribeClass::Changed, None)),
            (ListState::Open, Some(entry)) if entry.was_asked_before(crossing, now) => {
                Some((DescribeClass::Changed, None))
            }
            (ListState::Open, Some(entry)) => Some((DescribeClass::Open, due(entry))),
            (ListState::Ended, None) => Some((DescribeClass::Ended, None)),
            (ListState::Ended, Some(entry)) => {
                (!is_settled(entry, options)).then(|| (DescribeClass::Ended, due(entry)))
            }
        }
    }

    /// The class of the next job to describe, if one is due.
    pub(super) fn next_class(&self, now: Timepoint) -> Option<DescribeClass> {
        self.queue.next_class(now).and_then(|class| DescribeClass::ALL.get(class).copied())
    }

    /// Records that a request for a job is sent.
    pub(super) fn asked(&mut self, id: &JobId, job: &Job, list_state: ListState, now: Timepoint) {
        let data = &mut self.queue.asked(id, job, now).data;
        data.listed_update = job.last_updated_at;
        if list_state == ListState::Ended {
            data.ended_asked_at.get_or_insert(now.instant);
        }
    }

    /// Records the answer for a job with this list state.
    pub(super) fn answered(
        &mut self,
        request: &JobRequest,
        answer: &DescribeAnswer,
        job: &Job,
        list_state: ListState,
        now: Timepoint,
    ) {
        let entry = self.queue.answered(&request.id, job);
        let at = now.instant;
        entry.history = match answer {
            Answer::Failed(reason) => entry.history.failed(at, *reason),
            Answer::NotFound => entry.history.failed(at, FailureReason::Other),
            // Another job with the same id; the next walk will list it.
            Answer::Found(description) if !same_creation(description.summary.created_at, job.created_at) => {
                entry.history.answered(at, false)
            }
            Answer::Found(description) => {
                let before = entry.data.described.take();
                let details = details_of(&mut self.interner, description, job, before.as_ref());
                let is_equal = before.as_ref().is_some_and(|before| before.details == details);
                let progressed = before.as_ref().and_then(|before| {
                    let has_progressed = details.executions.show_progress_since(&before.details.executions);
                    if has_progressed { Some(now.wall) } else { before.progressed }
                });
                let has_met_criteria = before.and_then(|before| before.meets_abort_criteria) == Some(true);
                let meets_abort_criteria = if has_met_criteria { Some(true) } else { details.meets_abort_criteria() };
                let (sent, answered) = (request.sent, now);
                entry.data.described = Some(Described { sent, answered, details, progressed, meets_abort_criteria });
                entry.history.answered(at, is_equal)
            }
        };
        let data = &mut entry.data;
        let has_ended = data.described.as_ref().is_some_and(|described| described.details.has_ended);
        if list_state == ListState::Ended && has_ended && data.ended_asked_at.is_none() {
            // It left the list, and this is the first answer that says it has ended.
            data.listed_update = job.last_updated_at;
            data.ended_asked_at = Some(at);
        }
    }
}

fn details_of(interner: &mut Interner, description: &Description, job: &Job, before: Option<&Described>) -> Details {
    let status = description.summary.status.as_ref().unwrap_or(&job.status);
    // An answer without targets keeps the known ones.
    let groups = match (&description.targets, before) {
        (None, Some(before)) => before.details.groups.clone(),
        (targets, _) => interner.of_targets(targets.as_deref()),
    };
    Details {
        groups,
        schedule: description.schedule,
        executions: description.executions,
        is_concurrent: description.summary.is_concurrent,
        abort_criteria: description.abort_criteria.clone().into_boxed_slice(),
        has_ended: !status.is_open(),
    }
}
