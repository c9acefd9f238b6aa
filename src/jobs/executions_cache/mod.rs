//! The answers of `ListJobExecutionsForJob`: when the executions of a job are listed again, and whether the job is
//! stuck.

use std::time::Duration;

use tokio::time::Instant;

use super::backoff::FailureReason;
use super::details_cache::Described;
use super::job_queue::{Answer, CacheState, JobQueue, JobRequest, Pace};
use super::look::{Look, LookResult, LookScope};
use super::{Job, JobId, Status, Timepoint, Timestamp};

/// A failed look is repeated after twice this time; each further failure doubles the time, up to
/// [`MAX_RETRY_INTERVAL`].
const RETRY_INTERVAL: Duration = Duration::from_mins(1);

/// A new permission takes effect after this time at the latest.
const MAX_RETRY_INTERVAL: Duration = Duration::from_mins(10);

/// How executions are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecutionsOptions {
    /// The time between two looks at a job.
    pub interval: Duration,
    /// The result of a look is shown for this time.
    pub stale_after: Duration,
    /// A job is stuck when it has not progressed for longer than this.
    pub stuck_after: Duration,
    /// The same for jobs with maintenance windows, which pause regularly.
    pub stuck_after_windowed: Duration,
    /// How many things of each open status are named.
    pub things_per_job: usize,
}

impl ExecutionsOptions {
    const fn pace(&self) -> Pace {
        Pace {
            interval: self.interval,
            max_interval: self.interval,
            retry: RETRY_INTERVAL,
            max_retry: MAX_RETRY_INTERVAL,
        }
    }
}

/// The results of the looks at one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Looked {
    sent: Timepoint,
    answered: Timepoint,
    /// The newest progress in all looks.
    progressed: Option<Timestamp>,
    /// Whether a look at all executions reached the page limit.
    has_too_many: bool,
    result: LookResult,
}

/// The urgency of a look, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookClass {
    /// Jobs with an earlier look.
    Later,
    /// Jobs without one.
    First,
}

/// The progress of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Whether the job is stuck; `None` if unknown.
    pub is_stuck: Option<bool>,
    /// When it last progressed.
    pub last: Option<Timestamp>,
    /// The last look at it, unless it is stale.
    pub look: Option<&'a LookResult>,
    /// The state of its executions; `None` if they are not listed.
    pub state: Option<CacheState>,
    /// Whether the first look is pending.
    pub is_awaited: bool,
}

/// The looks at the executions of all jobs.
#[derive(Debug, Default)]
pub(super) struct ExecutionsCache {
    /// `None` if executions are not listed.
    options: Option<ExecutionsOptions>,
    pub(super) queue: JobQueue<Option<Looked>, 2>,
}

impl ExecutionsCache {
    /// An empty cache.
    pub(super) fn new(options: Option<ExecutionsOptions>) -> Self {
        Self { options, ..Self::default() }
    }

    /// Applies other options. Drops jobs whose executions are no longer listed.
    pub(super) fn set_options(&mut self, options: Option<ExecutionsOptions>) {
        match options {
            Some(_) => self.options = options,
            None => *self = Self::default(),
        }
    }

    /// The progress of a job. `described` is its last description, if its counts are fresh.
    pub(super) fn progress(&self, id: &str, job: &Job, described: Option<&Described>, now: Timepoint) -> Progress<'_> {
        let Some((options, described)) = self.options.as_ref().zip(described) else { return Progress::default() };
        match needs_look(job, described) {
            None => return Progress::default(),
            Some(false) => return Progress { is_stuck: Some(false), ..Progress::default() },
            Some(true) => {}
        }
        let (state, is_awaited) = (Some(self.state(id, job, now)), self.queue.is_awaited(id, job));
        let looked = self.looked(id, job).filter(|looked| now.since(looked.answered) <= options.stale_after);
        let Some(looked) = looked else { return Progress { state, is_awaited, ..Progress::default() } };
        let is_stuck = crosses_at(options, job, described, looked).and_then(|crosses_at| {
            let is_idle = [described.sent, looked.sent].iter().all(|sent| sent.wall >= crosses_at);
            if is_idle { looked.result.has_open } else { Some(false) }
        });
        let last = last_progress(job, described, looked);
        Progress { is_stuck, last, look: Some(&looked.result), state, is_awaited }
    }

    fn looked(&self, id: &str, job: &Job) -> Option<&Looked> {
        self.queue.entry(id, job)?.data.as_ref()
    }

    /// The time at which a job becomes stuck unless it progresses, as long as no answer is from after that time.
    pub(super) fn crossing(&self, id: &str, job: &Job, described: &Described) -> Option<Timestamp> {
        let looked = self.looked(id, job).filter(|_| needs_look(job, described) == Some(true))?;
        let crosses_at = crosses_at(self.options.as_ref()?, job, described, looked)?;
        [described.sent, looked.sent].iter().any(|sent| sent.wall < crosses_at).then_some(crosses_at)
    }

    fn state(&self, id: &str, job: &Job, now: Timepoint) -> CacheState {
        let Some(options) = &self.options else { return CacheState::Overdue };
        self.queue.state(id, job, |entry| {
            entry.data.as_ref().is_some_and(|looked| now.since(looked.answered) <= options.stale_after)
        })
    }

    /// Queues a job, if it needs a look and none is in flight.
    pub(super) fn schedule(&mut self, id: &JobId, job: &Job, described: Option<&Described>, now: Timepoint) {
        let request = self.next_request(id, job, described, now);
        self.queue.wait(id, job, request.map(|(class, due)| (class as usize, due)));
    }

    fn next_request(
        &self,
        id: &JobId,
        job: &Job,
        described: Option<&Described>,
        now: Timepoint,
    ) -> Option<(LookClass, Option<Instant>)> {
        let options = self.options.as_ref()?;
        let described = described.filter(|described| needs_look(job, described) == Some(true))?;
        let Some(entry) = self.queue.entry(id, job) else { return Some((LookClass::First, None)) };
        let class = if entry.data.is_some() { LookClass::Later } else { LookClass::First };
        let must_look = entry.was_asked_before(self.crossing(id, job, described), now);
        Some((class, if must_look { None } else { entry.history.due(&options.pace()) }))
    }

    /// Starts a look at a job that was picked, if it still needs one. Its answer must be recorded.
    pub(super) fn start(
        &mut self,
        id: &JobId,
        job: &Job,
        described: Option<&Described>,
        now: Timepoint,
    ) -> Option<(LookClass, Look)> {
        let options = self.options?;
        let (class, _) = self.next_request(id, job, described, now)?;
        let last = self.looked(id, job);
        // While an execution ends, another ended one can be deleted, so that no count rises. So all executions are
        // listed before a job becomes stuck, unless there are too many.
        let becomes_stuck = last.zip(described).is_some_and(|(last, described)| {
            let crosses_at = crosses_at(&options, job, described, last);
            crosses_at.is_some_and(|crosses_at| crosses_at <= now.wall && last.sent.wall < crosses_at)
        });
        let scope = match last {
            Some(last) if last.has_too_many || !becomes_stuck => LookScope::Open,
            _ => LookScope::All,
        };
        let named = last.map(|last| last.result.named.clone()).unwrap_or_default();
        self.queue.asked(id, job, now);
        Some((class, Look::new(scope, options.things_per_job, named)))
    }

    /// Records the answer for the job of a request.
    pub(super) fn answered(&mut self, request: &JobRequest, answer: Answer<LookResult>, job: &Job, now: Timepoint) {
        let entry = self.queue.answered(&request.id, job);
        entry.history = match answer {
            Answer::Failed(reason) => entry.history.failed(now.instant, reason),
            Answer::NotFound => entry.history.failed(now.instant, FailureReason::Other),
            Answer::Found(result) => {
                let before = entry.data.take();
                let is_cut = result.scope == LookScope::All && !result.is_complete;
                // Executions that were not listed may have progressed at any time until now.
                let unseen = (before.is_none() && is_cut).then_some(now.wall);
                let (progressed, has_too_many) =
                    before.map(|before| (before.progressed, before.has_too_many)).unwrap_or_default();
                entry.data = Some(Looked {
                    sent: request.sent,
                    answered: now,
                    progressed: progressed.max(result.progressed).max(unseen),
                    has_too_many: has_too_many || is_cut,
                    result,
                });
                entry.history.answered(now.instant, false)
            }
        };
    }
}

/// Whether a job has open executions; `None` if AWS omits the counts. A job in deletion needs no look.
fn needs_look(job: &Job, described: &Described) -> Option<bool> {
    if job.status == Status::DeletionInProgress {
        return Some(false);
    }
    described.details.executions.open().map(|open| open > 0)
}

/// The last progress of a job: its start, or what its executions and their counts show. A time in the future counts as
/// the time of the last answer.
fn last_progress(job: &Job, described: &Described, looked: &Looked) -> Option<Timestamp> {
    let start = described.details.schedule.start().or(job.created_at);
    let start = start.map(|start| start.min(described.answered.wall.max(looked.answered.wall)));
    start.max(looked.progressed).max(described.progressed)
}

/// When a job becomes stuck unless it progresses. Its oldest open execution also gets the whole time.
fn crosses_at(options: &ExecutionsOptions, job: &Job, described: &Described, looked: &Looked) -> Option<Timestamp> {
    let is_windowed = described.details.schedule.windowed;
    let threshold = if is_windowed { options.stuck_after_windowed } else { options.stuck_after };
    let since = last_progress(job, described, looked).max(looked.result.oldest_queued_at)?;
    Some(since.after(threshold))
}

#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;
