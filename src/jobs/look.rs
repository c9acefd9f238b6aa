//! A look: the result of listing the executions of one job with `ListJobExecutionsForJob`.
//!
//! Source of the shapes: the AWS IoT API reference, page
//! [`JobExecutionSummaryForJob`](https://docs.aws.amazon.com/iot/latest/apireference/API_JobExecutionSummaryForJob.html).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{ExecutionStatus, Timepoint, Timestamp};

/// A thing's name, `[a-zA-Z0-9:_-]{1,128}`.
pub type ThingName = Arc<str>;

/// One execution as `ListJobExecutionsForJob` returns it. **Every field is optional** in the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecutionSummary {
    /// The name in `thingArn`, if it is valid.
    pub thing: Option<ThingName>,
    /// `status`; `None` for an undocumented one.
    pub status: Option<ExecutionStatus>,
    /// `queuedAt`.
    pub queued_at: Option<Timestamp>,
    /// `startedAt`.
    pub started_at: Option<Timestamp>,
    /// `lastUpdatedAt`.
    pub last_updated_at: Option<Timestamp>,
    /// `executionNumber`, from 1. Above 1, the thing had an earlier execution of this job.
    pub execution_number: Option<i64>,
    /// `retryAttempt`, 0 for the first attempt.
    pub retry_attempt: Option<i32>,
}

impl ExecutionSummary {
    /// When this execution last showed progress of its job.
    ///
    /// `lastUpdatedAt` of a QUEUED execution is about its `queuedAt`, the time at which a device was added. It is
    /// progress only if an earlier execution of the device has ended.
    fn progressed_at(&self) -> Option<Timestamp> {
        let is_retry = self.retry_attempt.is_some_and(|attempt| attempt >= 1)
            || self.execution_number.is_some_and(|number| number >= 2);
        match self.status {
            Some(ExecutionStatus::Queued) => self.queued_at.filter(|_| is_retry),
            _ => self.last_updated_at.or(self.started_at),
        }
    }

    /// This execution, if it is open and its time is known.
    fn open(&self) -> Option<OpenExecution> {
        let status = self.status.filter(|status| status.is_open())?;
        let since = match status {
            ExecutionStatus::InProgress => self.started_at.or(self.queued_at),
            _ => self.queued_at,
        };
        Some(OpenExecution { since: since?, thing: self.thing.clone()?, status })
    }
}

/// At most this many times the limit are named: the limit of each open status, and as many that were named before.
pub(super) const NAMED_PER_LIMIT: usize = 3;

/// An open execution. The order is by age.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenExecution {
    /// When it got its status: `queuedAt` or `startedAt`.
    pub since: Timestamp,
    /// The name of the thing.
    pub thing: ThingName,
    /// `QUEUED` or `IN_PROGRESS`.
    pub status: ExecutionStatus,
}

/// The executions that a look lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookScope {
    /// All executions, to find the last progress.
    All,
    /// Open executions, `QUEUED` before `IN_PROGRESS`: an execution that starts meanwhile is seen twice, never missed.
    Open,
}

impl LookScope {
    /// The status filters of its walks, in order.
    #[must_use]
    pub const fn statuses(self) -> &'static [Option<ExecutionStatus>] {
        match self {
            Self::All => &[None],
            Self::Open => &[Some(ExecutionStatus::Queued), Some(ExecutionStatus::InProgress)],
        }
    }
}

/// A look in progress. A failed look is dropped, and changes nothing.
#[derive(Debug)]
pub struct Look {
    scope: LookScope,
    limit: usize,
    /// The executions that were named before. They stay named until they end.
    named: Vec<OpenExecution>,
    still_open: BTreeMap<ThingName, OpenExecution>,
    /// The oldest ones of each open status, at most `limit`.
    oldest: BTreeMap<ExecutionStatus, BTreeSet<OpenExecution>>,
    oldest_queued_at: Option<Timestamp>,
    progressed: Option<Timestamp>,
    has_open: bool,
    has_unknown: bool,
}

/// The result of a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookResult {
    /// The executions that were listed.
    pub scope: LookScope,
    /// Whether all pages were listed.
    pub is_complete: bool,
    /// The newest progress.
    pub progressed: Option<Timestamp>,
    /// Whether any execution was open; `None` if unknown, because not all were listed or one has an undocumented
    /// status.
    pub has_open: Option<bool>,
    /// `queuedAt` of the oldest open execution.
    pub oldest_queued_at: Option<Timestamp>,
    /// The oldest execution of each open status, since it got the status.
    pub oldest: BTreeMap<ExecutionStatus, Timestamp>,
    /// Named executions: the oldest ones of each open status, and those that were named before.
    pub named: Vec<OpenExecution>,
}

impl Look {
    /// Names the `limit` oldest executions of each open status, and those in `named` from the last look while they are
    /// open.
    #[must_use]
    pub fn new(scope: LookScope, limit: usize, named: Vec<OpenExecution>) -> Self {
        Self {
            scope,
            limit,
            named,
            still_open: BTreeMap::new(),
            oldest: BTreeMap::new(),
            oldest_queued_at: None,
            progressed: None,
            has_open: false,
            has_unknown: false,
        }
    }

    /// The executions that it lists.
    #[must_use]
    pub const fn scope(&self) -> LookScope {
        self.scope
    }

    /// Adds an execution.
    pub fn insert(&mut self, execution: &ExecutionSummary) {
        self.progressed = self.progressed.max(execution.progressed_at());
        self.has_unknown |= execution.status.is_none();
        if !execution.status.is_some_and(ExecutionStatus::is_open) {
            return;
        }
        self.has_open = true;
        self.oldest_queued_at = oldest(self.oldest_queued_at, execution.queued_at);
        let Some(open) = execution.open() else { return };
        if self.named.iter().any(|named| named.thing == open.thing) {
            self.still_open.insert(ThingName::clone(&open.thing), open.clone());
        }
        let oldest = self.oldest.entry(open.status).or_default();
        oldest.insert(open);
        // The oldest one is always kept: its age is shown without its name.
        if oldest.len() > self.limit.max(1) {
            oldest.pop_last();
        }
    }

    /// Ends the look. `is_complete` says whether all pages were read. A time after `answered` counts as `answered`.
    #[must_use]
    pub fn finish(self, is_complete: bool, answered: Timepoint) -> LookResult {
        let not_later = |time: Option<Timestamp>| time.map(|time| time.min(answered.wall));
        let mut named = self.named;
        if is_complete {
            named.retain(|execution| self.still_open.contains_key(&execution.thing));
        }
        for execution in &mut named {
            if let Some(now) = self.still_open.get(&execution.thing) {
                execution.clone_from(now);
            }
        }
        let oldest: Vec<OpenExecution> =
            self.oldest.values().flat_map(|oldest| oldest.iter().take(self.limit)).cloned().collect();
        // An execution that was queued long ago and has just started is not one of the oldest.
        named.retain(|execution| oldest.iter().all(|oldest| oldest.thing != execution.thing));
        named.sort();
        named.truncate((NAMED_PER_LIMIT * self.limit).saturating_sub(oldest.len()));
        named.extend(oldest);
        named.sort();
        // A thing can have two open executions, and one that starts meanwhile is seen twice.
        let mut shown = BTreeSet::new();
        named.retain(|execution| shown.insert((ThingName::clone(&execution.thing), execution.status)));
        let oldest = self.oldest.into_iter().filter_map(|(status, executions)| {
            let first = executions.first()?;
            Some((status, first.since))
        });
        LookResult {
            scope: self.scope,
            is_complete,
            progressed: not_later(self.progressed),
            has_open: (self.has_open || (is_complete && !self.has_unknown)).then_some(self.has_open),
            oldest_queued_at: not_later(self.oldest_queued_at),
            oldest: oldest.collect(),
            named,
        }
    }
}

fn oldest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn an_execution_that_was_not_listed_or_has_a_new_status_can_be_open() {
        let now = Timepoint { instant: Instant::now(), wall: Timestamp::from_secs(9) };
        let has_open = |statuses: &[Option<ExecutionStatus>], is_complete| {
            let mut look = Look::new(LookScope::All, 5, Vec::new());
            for status in statuses {
                look.insert(&ExecutionSummary { status: *status, ..ExecutionSummary::default() });
            }
            look.finish(is_complete, now).has_open
        };
        let (queued, succeeded) = (Some(ExecutionStatus::Queued), Some(ExecutionStatus::Succeeded));
        assert_eq!(has_open(&[succeeded, queued, None], false), Some(true));
        assert_eq!(has_open(&[succeeded], true), Some(false));
        assert_eq!(has_open(&[succeeded], false), None);
        assert_eq!(has_open(&[succeeded, None], true), None);
    }

    #[test]
    fn a_thing_with_two_open_executions_is_named_once_with_the_older_one() {
        let now = Timepoint { instant: Instant::now(), wall: Timestamp::from_secs(9) };
        let mut look = Look::new(LookScope::Open, 5, Vec::new());
        for started in [4, 2] {
            look.insert(&ExecutionSummary {
                thing: Some("press".into()),
                status: Some(ExecutionStatus::InProgress),
                started_at: Some(Timestamp::from_secs(started)),
                ..ExecutionSummary::default()
            });
        }
        let named = look.finish(true, now).named;
        assert_eq!(named.iter().map(|named| named.since).collect::<Vec<_>>(), [Timestamp::from_secs(2)]);
    }

    #[test]
    fn executions_without_times_and_names_are_not_named() {
        let now = Timepoint { instant: Instant::now(), wall: Timestamp::from_secs(9) };
        let mut look = Look::new(LookScope::Open, 5, Vec::new());
        look.insert(&ExecutionSummary { status: Some(ExecutionStatus::InProgress), ..ExecutionSummary::default() });
        let result = look.finish(true, now);
        assert_eq!((result.named, result.progressed, result.oldest_queued_at), (Vec::new(), None, None));
    }
}
