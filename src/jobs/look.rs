//! A look at the executions of one job: what the pages of `ListJobExecutionsForJob` say about its progress.
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
    /// The name in `thingArn`, if a thing can have it.
    pub thing: Option<ThingName>,
    /// `status`; `None` for one that AWS added later.
    pub status: Option<ExecutionStatus>,
    /// `queuedAt`.
    pub queued_at: Option<Timestamp>,
    /// `startedAt`.
    pub started_at: Option<Timestamp>,
    /// `lastUpdatedAt`.
    pub last_updated_at: Option<Timestamp>,
    /// `executionNumber`, from 1. It is higher if the thing had an execution of this job before.
    pub execution_number: Option<i64>,
    /// `retryAttempt`, 0 for the first attempt.
    pub retry_attempt: Option<i32>,
}

impl ExecutionSummary {
    /// When this execution last showed that its job progresses.
    ///
    /// `lastUpdatedAt` of a QUEUED execution is about its `queuedAt`, which says that a device was added. Only if an execution of
    /// the device has ended before, it is progress.
    fn progressed_at(&self) -> Option<Timestamp> {
        let is_retry = self.retry_attempt.is_some_and(|attempt| attempt >= 1)
            || self.execution_number.is_some_and(|number| number >= 2);
        match self.status {
            Some(ExecutionStatus::Queued) => self.queued_at.filter(|_| is_retry),
            _ => self.last_updated_at.or(self.started_at),
        }
    }

    /// This execution, if it is open and the time is known.
    fn open(&self) -> Option<OpenExecution> {
        let status = self.status.filter(|status| status.is_open())?;
        let since = match status {
            ExecutionStatus::InProgress => self.started_at.or(self.queued_at),
            _ => self.queued_at,
        };
        Some(OpenExecution { since: since?, thing: self.thing.clone()?, status })
    }
}

/// At most so many times the limit are named: that many of each open status, and as many that were named before.
pub(super) const NAMED_PER_LIMIT: usize = 3;

/// An execution that is not finished. The order is by age.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenExecution {
    /// Since when it has had its status: `queuedAt` or `startedAt`.
    pub since: Timestamp,
    /// The name of the thing.
    pub thing: ThingName,
    /// `QUEUED` or `IN_PROGRESS`.
    pub status: ExecutionStatus,
}

/// Which executions a look lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookScope {
    /// All executions, so that their last progress is known.
    All,
    /// Those that are open, `QUEUED` before `IN_PROGRESS`: an execution that starts meanwhile is seen twice, and never missed.
    Open,
}

impl LookScope {
    /// The status filters of its walks, one after the other.
    #[must_use]
    pub const fn statuses(self) -> &'static [Option<ExecutionStatus>] {
        match self {
            Self::All => &[None],
            Self::Open => &[Some(ExecutionStatus::Queued), Some(ExecutionStatus::InProgress)],
        }
    }
}

/// What a look has found so far. A look that fails is dropped, and changes nothing.
#[derive(Debug)]
pub struct Look {
    scope: LookScope,
    limit: usize,
    /// The executions that were named before. They stay named until they finish.
    named: Vec<OpenExecution>,
    still_open: BTreeMap<ThingName, OpenExecution>,
    /// The oldest of each open status, at most `limit`.
    oldest: BTreeMap<ExecutionStatus, BTreeSet<OpenExecution>>,
    oldest_queued_at: Option<Timestamp>,
    progressed: Option<Timestamp>,
    has_open: bool,
    has_unknown: bool,
}

/// A look that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookResult {
    /// What was listed.
    pub scope: LookScope,
    /// Whether everything was listed, and not only the first pages.
    pub is_complete: bool,
    /// The newest sign of progress.
    pub progressed: Option<Timestamp>,
    /// Whether any execution was open; `None` if that is not known, because not all were listed or one has a new status.
    pub has_open: Option<bool>,
    /// `queuedAt` of the oldest open execution.
    pub oldest_queued_at: Option<Timestamp>,
    /// Since when the oldest execution of each open status has had it.
    pub oldest: BTreeMap<ExecutionStatus, Timestamp>,
    /// Executions that are named: the oldest ones of each open status, and those that were named before.
    pub named: Vec<OpenExecution>,
}

impl Look {
    /// Names the `limit` oldest executions of each open status, and as long as they are open those in `named`, which the last look
    /// named.
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

    /// Which executions it lists.
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
        // The oldest one is kept in any case: its age is shown without its name.
        if oldest.len() > self.limit.max(1) {
            oldest.pop_last();
        }
    }

    /// Ends the look. It is complete if it has read the last page. A time after `answered` counts as that time.
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
        // One that was queued long ago and has just started is none of the oldest.
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
    fn a_thing_with_two_open_executions_is_named_once_by_the_older_one() {
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
    fn a_page_without_times_and_names_names_nothing() {
        let now = Timepoint { instant: Instant::now(), wall: Timestamp::from_secs(9) };
        let mut look = Look::new(LookScope::Open, 5, Vec::new());
        look.insert(&ExecutionSummary { status: Some(ExecutionStatus::InProgress), ..ExecutionSummary::default() });
        let result = look.finish(true, now);
        assert_eq!((result.named, result.progressed, result.oldest_queued_at), (Vec::new(), None, None));
    }
}
