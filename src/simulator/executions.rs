//! The executions of one job: how many there are by status, on which things, and their times.
//!
//! Counts, lists and times all derive from one record, so they always agree.

use std::borrow::Cow;
use std::collections::{BTreeMap, BinaryHeap};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use crate::jobs::{ExecutionStatus, Timestamp};

/// The executions of one job.
///
/// A fleet can have a million ended jobs, so those are stored as counts alone; times and things of their executions
/// derive from the counts and from the times of the job. The first change to an execution makes them tracked: see
/// [`TrackedExecutions`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executions(Record);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Record {
    Counts(Counts),
    Tracked(Arc<TrackedExecutions>),
}

type Counts = [u32; ExecutionStatus::ALL.len()];

impl Default for Executions {
    fn default() -> Self {
        Self(Record::Counts(Counts::default()))
    }
}

impl Executions {
    /// The number of executions with `status`.
    #[must_use]
    pub fn get(&self, status: ExecutionStatus) -> u32 {
        match &self.0 {
            Record::Counts(counts) => counts[status as usize],
            Record::Tracked(tracked) => tracked.get(status),
        }
    }

    /// Sets the number of executions with `status`. Tracking ends: their times derive from the job's again.
    pub fn set(&mut self, status: ExecutionStatus, count: u32) {
        let mut counts = self.counts();
        counts[status as usize] = count;
        self.0 = Record::Counts(counts);
    }

    /// Moves up to `count` executions from one status to another. Like [`Executions::set`], this ends tracking.
    pub fn shift(&mut self, from: ExecutionStatus, to: ExecutionStatus, count: u32) {
        let count = count.min(self.get(from));
        self.set(from, self.get(from) - count);
        self.set(to, self.get(to).saturating_add(count));
    }

    /// The number of executions that can still change.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.sum(ExecutionStatus::is_open)
    }

    /// The number of executions.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.sum(|_| true)
    }

    /// The number of executions of each status, in the order of [`ExecutionStatus::ALL`].
    #[must_use]
    pub fn counts(&self) -> [u32; ExecutionStatus::ALL.len()] {
        ExecutionStatus::ALL.map(|status| self.get(status))
    }

    fn sum(&self, counts: impl Fn(ExecutionStatus) -> bool) -> u64 {
        let counted = ExecutionStatus::ALL.into_iter().filter(|status| counts(*status));
        counted.map(|status| u64::from(self.get(status))).sum()
    }

    /// The tracked executions, to change them. Times that derived from `times` are fixed from now on.
    pub(super) fn tracked(&mut self, times: &JobTimes) -> &mut TrackedExecutions {
        if let Record::Counts(counts) = &self.0 {
            self.0 = Record::Tracked(Arc::new(TrackedExecutions::from_counts(counts, times)));
        }
        match &mut self.0 {
            Record::Tracked(tracked) => Arc::make_mut(tracked),
            Record::Counts(_) => unreachable!("they have just been tracked"),
        }
    }

    fn view(&self, times: &JobTimes) -> Cow<'_, TrackedExecutions> {
        match &self.0 {
            Record::Counts(counts) => Cow::Owned(TrackedExecutions::from_counts(counts, times)),
            Record::Tracked(tracked) => Cow::Borrowed(tracked),
        }
    }

    /// Executions of one status, or of all, in list order: at most `limit` of them, from the first one after the
    /// position `after`.
    ///
    /// The order is by a hash of the job, the thing and the number. Clients cannot use it, and it never changes. So an
    /// execution that stays in the filter is listed once, even if others change between two pages.
    pub(super) fn list(
        &self,
        times: &JobTimes,
        status: Option<ExecutionStatus>,
        after: Option<u64>,
        limit: usize,
    ) -> Vec<(u64, Execution)> {
        let (view, seed) = (self.view(times), times.seed());
        // A max-heap of `limit` items: it needs the memory of a page, not of all executions.
        let mut smallest = BinaryHeap::new();
        let batches: Vec<&Batch> = view.batches().collect();
        for (index, batch) in batches.iter().enumerate() {
            if status.is_some_and(|status| status != batch.status) {
                continue;
            }
            for thing in batch.things() {
                let position = position(seed, thing, batch.number);
                if after.is_none_or(|after| position > after) {
                    smallest.push((position, index, thing));
                    if smallest.len() > limit {
                        smallest.pop();
                    }
                }
            }
        }
        let sorted = smallest.into_sorted_vec().into_iter();
        sorted.map(|(position, index, thing)| (position, batches[index].execution(thing))).collect()
    }

    /// The executions on one thing, the first one first.
    pub(super) fn on_thing(&self, times: &JobTimes, thing: u32) -> Vec<Execution> {
        let view = self.view(times);
        let batches = view.batches().filter(|batch| batch.things().contains(&thing));
        let mut executions: Vec<Execution> = batches.map(|batch| batch.execution(thing)).collect();
        executions.sort_by_key(|execution| execution.number);
        executions
    }

    /// The status details that came with the cancellation of an execution.
    pub(super) fn details(&self, thing: u32, number: u32) -> Option<&BTreeMap<String, String>> {
        match &self.0 {
            Record::Counts(_) => None,
            Record::Tracked(tracked) => tracked.details.get(&(thing, number)),
        }
    }
}

/// The times of a job, from which those of untracked executions derive.
#[derive(Clone, Copy, Debug)]
pub(super) struct JobTimes {
    pub(super) created: Timestamp,
    /// The latest possible change of an execution.
    pub(super) last_changed: Timestamp,
    /// Whether devices can join at any time.
    pub(super) is_continuous: bool,
    /// A hash of its id.
    pub(super) id: u64,
}

impl JobTimes {
    /// Ids are reused, so the creation time is part of a job's identity.
    fn seed(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.id, self.created).hash(&mut hasher);
        hasher.finish()
    }
}

/// One execution of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execution {
    /// The index of its thing among the things of the job, from 0.
    pub thing: u32,
    /// 1 for the first execution on its thing.
    pub number: u32,
    /// The number of retries before this one. Each retry is an execution with its own number.
    pub retry_attempt: u32,
    /// Its status.
    pub status: ExecutionStatus,
    /// When AWS offered it to the device.
    pub queued_at: Timestamp,
    /// When the device started it.
    pub started_at: Option<Timestamp>,
    /// When its status changed, or when the device last reported.
    pub last_updated_at: Timestamp,
    /// The number of its changes, its creation included.
    pub version: u32,
}

/// Executions that record the time of each change.
///
/// Changes of a job affect many things at once, so executions with equal values are stored together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackedExecutions {
    /// Executions that can still change, oldest first: the oldest one advances first.
    open: Vec<Batch>,
    /// Executions that have ended, in chunks that clones share: those of a CONTINUOUS job only grow in number.
    ended: Vec<Arc<Vec<Batch>>>,
    /// The number of things that have or had an execution.
    things: u32,
    /// The status details of single executions, by thing and number.
    details: BTreeMap<(u32, u32), BTreeMap<String, String>>,
}

/// The number of ended batches in a chunk.
const CHUNK: usize = 64;

/// Executions on consecutive things.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Batch {
    first: u32,
    count: u32,
    number: u32,
    retry_attempt: u32,
    status: ExecutionStatus,
    queued: Spread,
    started: Option<Spread>,
    updated: Spread,
    version: u32,
}

impl Batch {
    fn things(&self) -> std::ops::Range<u32> {
        self.first..self.first.saturating_add(self.count)
    }

    fn execution(&self, thing: u32) -> Execution {
        Execution {
            thing,
            number: self.number,
            retry_attempt: self.retry_attempt,
            status: self.status,
            queued_at: self.queued.time_of(thing),
            started_at: self.started.map(|started| started.time_of(thing)),
            last_updated_at: self.updated.time_of(thing),
            version: self.version,
        }
    }

    /// Splits off its first `count` executions.
    fn split(&mut self, count: u32) -> Self {
        let taken = Self { count, ..self.clone() };
        self.first += count;
        self.count -= count;
        taken
    }
}

/// A time for each thing: the same for all, or one between two bounds that depends on the thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spread {
    from: Timestamp,
    until: Timestamp,
}

impl Spread {
    const fn at(time: Timestamp) -> Self {
        Self { from: time, until: time }
    }

    /// Two spreads with ordered bounds give each thing two ordered times.
    fn time_of(self, thing: u32) -> Timestamp {
        let millis = self.until.since(self.from).as_millis();
        let share = (millis * u128::from(scramble(u64::from(thing)))) >> 64;
        self.from.after(Duration::from_millis(u64::try_from(share).unwrap_or(u64::MAX)))
    }
}

impl TrackedExecutions {
    /// Ended executions are on the first things, because those started first.
    fn from_counts(counts: &Counts, times: &JobTimes) -> Self {
        let mut tracked = Self::default();
        for status in ExecutionStatus::ALL.into_iter().rev() {
            let count = counts[status as usize].min(u32::MAX - tracked.things);
            if count > 0 {
                tracked.insert(Batch::of_untracked(status, tracked.things, count, times));
                tracked.things += count;
            }
        }
        tracked
    }

    /// The number of executions with `status`.
    #[must_use]
    pub fn get(&self, status: ExecutionStatus) -> u32 {
        let ended = (!status.is_open()).then(|| self.ended.iter().flat_map(|chunk| chunk.iter())).into_iter().flatten();
        let counts = self.open.iter().chain(ended).filter(|batch| batch.status == status).map(|batch| batch.count);
        counts.fold(0, u32::saturating_add)
    }

    fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.ended.iter().flat_map(|chunk| chunk.iter()).chain(&self.open)
    }

    fn insert(&mut self, batch: Batch) {
        if batch.status.is_open() {
            return self.open.push(batch);
        }
        match self.ended.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => Arc::make_mut(chunk).push(batch),
            _ => self.ended.push(Arc::new(vec![batch])),
        }
    }

    /// The number of executions that can still change.
    #[must_use]
    pub fn open(&self) -> u64 {
        u64::from(self.get(ExecutionStatus::Queued)) + u64::from(self.get(ExecutionStatus::InProgress))
    }

    /// Queues an execution on `count` things that had none before.
    pub fn queue(&mut self, count: u32, at: Timestamp) {
        let count = count.min(u32::MAX - self.things);
        self.push_queued(self.things, count, (1, 0), at);
        self.things += count;
    }

    /// Queues another execution on a thing whose execution has ended, as if it had left a group and joined it again.
    /// Returns whether there is such a thing.
    pub fn queue_again(&mut self, at: Timestamp) -> bool {
        let some = usize::try_from(at.as_millis()).unwrap_or_default();
        let ended = self.ended.last().and_then(|chunk| chunk.get(some % chunk.len()));
        let Some(thing) = ended.map(|batch| batch.first) else { return false };
        let on_thing = self.batches().filter(|batch| batch.things().contains(&thing));
        let Some(last) = on_thing.max_by_key(|batch| batch.number).filter(|batch| !batch.status.is_open()) else {
            return false;
        };
        let number = last.number.saturating_add(1);
        self.push_queued(thing, 1, (number, 0), at);
        true
    }

    fn push_queued(&mut self, first: u32, count: u32, (number, retry_attempt): (u32, u32), at: Timestamp) {
        if count > 0 {
            let (queued, updated) = (Spread::at(at), Spread::at(at));
            let status = ExecutionStatus::Queued;
            let batch =
                Batch { first, count, number, retry_attempt, status, queued, started: None, updated, version: 1 };
            self.open.push(batch);
        }
    }

    /// Moves up to `count` executions from one status to another, oldest first. Each one that fails or times out is
    /// retried up to `max_retries` times, by another execution.
    pub fn advance(
        &mut self,
        (from, to): (ExecutionStatus, ExecutionStatus),
        count: u32,
        max_retries: u32,
        at: Timestamp,
    ) {
        for mut batch in self.take(from, count) {
            batch.status = to;
            batch.updated = Spread::at(at);
            batch.version = batch.version.saturating_add(1);
            if to == ExecutionStatus::InProgress {
                batch.started = Some(Spread::at(at));
            }
            let fails = matches!(to, ExecutionStatus::Failed | ExecutionStatus::TimedOut);
            let retry = (fails && batch.retry_attempt < max_retries).then(|| {
                (batch.first, batch.count, (batch.number.saturating_add(1), batch.retry_attempt.saturating_add(1)))
            });
            self.insert(batch);
            if let Some((first, count, numbers)) = retry {
                self.push_queued(first, count, numbers, at);
            }
        }
    }

    /// Some of the devices in progress report.
    pub fn report(&mut self, at: Timestamp) {
        let in_progress = self.open.iter_mut().filter(|batch| batch.status == ExecutionStatus::InProgress);
        for batch in in_progress {
            if scramble(u64::from(batch.first) ^ at.as_millis().unsigned_abs()).is_multiple_of(2) {
                batch.updated = Spread::at(at);
                batch.version = batch.version.saturating_add(1);
            }
        }
    }

    /// Cancels the open execution with this number on a thing, and stores its status details.
    pub(super) fn cancel(&mut self, thing: u32, number: u32, details: BTreeMap<String, String>, at: Timestamp) {
        let found = self.open.iter().position(|batch| batch.number == number && batch.things().contains(&thing));
        let Some(index) = found else { return };
        let mut rest = self.open.remove(index);
        let before = rest.split(thing - rest.first);
        let mut canceled = rest.split(1);
        canceled.status = ExecutionStatus::Canceled;
        canceled.updated = Spread::at(at);
        canceled.version = canceled.version.saturating_add(1);
        // The parts keep the position of the batch, since open executions stay in order.
        self.open.splice(index..index, [before, rest].into_iter().filter(|batch| batch.count > 0));
        self.insert(canceled);
        if !details.is_empty() {
            self.details.insert((thing, number), details);
        }
    }

    /// Removes up to `count` executions with `status`, as the deletion of a job does.
    pub(super) fn remove(&mut self, status: ExecutionStatus, count: u32) {
        if status.is_open() {
            drop(self.take(status, count));
            return;
        }
        let mut left = count;
        for chunk in &mut self.ended {
            let chunk = Arc::make_mut(chunk);
            drop(take(chunk, status, &mut left));
        }
        self.ended.retain(|chunk| !chunk.is_empty());
    }

    /// Takes up to `count` open executions with `status`, oldest first.
    fn take(&mut self, status: ExecutionStatus, mut count: u32) -> Vec<Batch> {
        take(&mut self.open, status, &mut count)
    }

    /// Adds an execution on a thing that had none.
    pub(super) fn push(&mut self, execution: Execution) {
        let Execution { number, retry_attempt, status, queued_at, started_at, last_updated_at, version, .. } =
            execution;
        let (first, count) = (self.things, 1.min(u32::MAX - self.things));
        let (queued, started) = (Spread::at(queued_at), started_at.map(Spread::at));
        let updated = Spread::at(last_updated_at);
        let batch = Batch { first, count, number, retry_attempt, status, queued, started, updated, version };
        if count > 0 {
            self.insert(batch);
            self.things += count;
        }
    }
}

impl Batch {
    /// Executions of which only the number is known. Their times are spread over those of the job, in a valid order
    /// for each thing.
    fn of_untracked(status: ExecutionStatus, first: u32, count: u32, times: &JobTimes) -> Self {
        use ExecutionStatus as Status;
        let length = times.last_changed.since(times.created);
        let at = |share: u32| times.created.after(length / 16 * share);
        // A SNAPSHOT job is queued on all its devices soon, a CONTINUOUS one on each device that joins.
        let (queued_from, queued_until) = match (times.is_continuous, status) {
            (false, _) => (0, 2),
            (true, Status::Queued) => (8, 15),
            (true, _) => (0, 12),
        };
        let queued = Spread { from: at(queued_from), until: at(queued_until) };
        let started = Spread { from: at(queued_from + 1), until: at(queued_until + 1) };
        let ended = Spread { from: at(queued_from + 2), until: times.last_changed.max(times.created) };
        let (started, updated, version) = match status {
            Status::Queued => (None, queued, 1),
            Status::InProgress => (Some(started), ended, 2),
            Status::Succeeded | Status::Failed | Status::TimedOut => (Some(started), ended, 3),
            Status::Rejected | Status::Removed | Status::Canceled => (None, ended, 2),
        };
        Self { first, count, number: 1, retry_attempt: 0, status, queued, started, updated, version }
    }
}

/// Takes up to `left` executions with `status` out of `batches`, and reduces `left`.
fn take(batches: &mut Vec<Batch>, status: ExecutionStatus, left: &mut u32) -> Vec<Batch> {
    let mut taken = Vec::new();
    for batch in batches.iter_mut().filter(|batch| batch.status == status) {
        let part = batch.split(batch.count.min(*left));
        *left -= part.count;
        taken.push(part);
        if *left == 0 {
            break;
        }
    }
    batches.retain(|batch| batch.count > 0);
    taken.retain(|part| part.count > 0);
    taken
}

/// The position of an execution in list order.
fn position(seed: u64, thing: u32, number: u32) -> u64 {
    scramble(seed ^ (u64::from(number) << 32 | u64::from(thing)))
}

/// A bijection without a visible order: the finalizer of `SplitMix64`.
fn scramble(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ExecutionStatus::{Canceled, Failed, InProgress, Queued, Rejected, Succeeded};

    const CREATED: Timestamp = Timestamp::from_secs(1_784_900_000);
    const LAST_CHANGED: Timestamp = Timestamp::from_secs(1_784_986_400);

    const fn times(is_continuous: bool) -> JobTimes {
        JobTimes { created: CREATED, last_changed: LAST_CHANGED, is_continuous, id: 7 }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(1_785_000_000 + seconds)
    }

    fn all(executions: &Executions, times: &JobTimes) -> Vec<Execution> {
        executions.list(times, None, None, usize::MAX).into_iter().map(|(_, execution)| execution).collect()
    }

    /// Some executions of every status, as counts alone.
    fn counted() -> Executions {
        let mut executions = Executions::default();
        for (count, status) in (10..).zip(ExecutionStatus::ALL) {
            executions.set(status, count);
        }
        executions
    }

    fn tracked(change: impl FnOnce(&mut TrackedExecutions)) -> Executions {
        let mut executions = Executions::default();
        change(executions.tracked(&times(false)));
        executions
    }

    #[test]
    fn lists_have_as_many_of_each_status_as_the_counts() {
        for executions in [counted(), tracked(|tracked| *tracked = counted().tracked(&times(true)).clone())] {
            for status in ExecutionStatus::ALL {
                let listed = executions.list(&times(true), Some(status), None, usize::MAX);
                assert_eq!(listed.len(), executions.get(status) as usize, "{status:?}");
                assert!(listed.iter().all(|(_, execution)| execution.status == status));
            }
        }
    }

    #[test]
    fn derived_times_are_in_order_and_within_those_of_the_job() {
        for is_continuous in [false, true] {
            for execution in all(&counted(), &times(is_continuous)) {
                let Execution { queued_at, started_at, last_updated_at, status, .. } = execution;
                let begun = started_at.unwrap_or(queued_at);
                assert!(CREATED <= queued_at && queued_at <= begun && begun <= last_updated_at, "{execution:?}");
                assert!(last_updated_at <= LAST_CHANGED, "{execution:?}");
                let begins = !matches!(status, Queued | Rejected | ExecutionStatus::Removed | Canceled);
                assert_eq!(started_at.is_some(), begins, "{execution:?}");
                assert!(status != Queued || last_updated_at == queued_at, "waiting is no progress: {execution:?}");
            }
        }
    }

    #[test]
    fn later_changes_keep_earlier_times() {
        let before = all(&counted(), &times(false));
        let mut executions = counted();
        executions.tracked(&times(false)).advance((Queued, InProgress), 3, 0, at(0));
        let later = JobTimes { last_changed: at(99), ..times(false) };
        let after = all(&executions, &later);
        let changed: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
        assert_eq!(changed.len(), 3);
        for (before, after) in changed {
            assert_eq!((after.thing, after.queued_at, after.number), (before.thing, before.queued_at, 1));
            assert_eq!((after.status, after.started_at, after.version), (InProgress, Some(at(0)), 2));
        }
    }

    #[test]
    fn an_execution_keeps_the_time_of_each_change() {
        let executions = tracked(|tracked| {
            tracked.queue(2, at(0));
            tracked.advance((Queued, InProgress), 1, 0, at(10));
            tracked.queue(1, at(15));
            tracked.advance((InProgress, Succeeded), 1, 0, at(20));
        });
        let mut found = all(&executions, &times(false));
        found.sort_by_key(|execution| execution.thing);
        let times: Vec<_> =
            found.iter().map(|it| (it.status, it.queued_at, it.started_at, it.last_updated_at)).collect();
        let expected =
            [(Succeeded, at(0), Some(at(10)), at(20)), (Queued, at(0), None, at(0)), (Queued, at(15), None, at(15))];
        assert_eq!(times, expected);
    }

    #[test]
    fn a_report_updates_only_the_executions_that_report() {
        let executions = tracked(|tracked| {
            tracked.queue(9, at(0));
            tracked.advance((Queued, InProgress), 5, 0, at(1));
            (2..9).for_each(|seconds| tracked.report(at(seconds)));
        });
        for execution in all(&executions, &times(false)) {
            let has_reported = execution.last_updated_at > at(1);
            assert_eq!(has_reported, execution.status == InProgress, "{execution:?}");
            assert_eq!(has_reported, execution.version > 2, "{execution:?}");
        }
    }

    #[test]
    fn a_retry_is_another_execution_up_to_the_limit() {
        let executions = tracked(|tracked| {
            tracked.queue(4, at(0));
            for seconds in 1..9 {
                tracked.advance((Queued, InProgress), u32::MAX, 2, at(seconds));
                tracked.advance((InProgress, Failed), u32::MAX, 2, at(seconds));
            }
        });
        assert_eq!((executions.get(Failed), executions.open()), (12, 0));
        let on_one = executions.on_thing(&times(false), 3);
        let numbers: Vec<_> = on_one.iter().map(|execution| (execution.number, execution.retry_attempt)).collect();
        assert_eq!(numbers, [(1, 0), (2, 1), (3, 2)]);
        assert_eq!(on_one[1].queued_at, on_one[0].last_updated_at);
    }

    #[test]
    fn a_repeated_run_has_a_higher_number_and_no_retry_attempt() {
        let mut executions = tracked(|tracked| tracked.queue(1, at(0)));
        let tracked = executions.tracked(&times(true));
        assert!(!tracked.queue_again(at(1)), "its execution has not ended");
        tracked.advance((Queued, Rejected), 1, 0, at(2));
        assert!(tracked.queue_again(at(3)));
        assert!(!tracked.queue_again(at(4)), "it is queued again");
        let numbers: Vec<_> =
            executions.on_thing(&times(true), 0).iter().map(|it| (it.number, it.retry_attempt)).collect();
        assert_eq!(numbers, [(1, 0), (2, 0)]);
        assert_eq!(executions.counts().iter().sum::<u32>(), 2);
    }

    #[test]
    fn one_of_many_executions_can_be_canceled() {
        for thing in [0, 3, 9] {
            let executions = tracked(|tracked| {
                tracked.queue(10, at(0));
                tracked.cancel(thing, 1, [("who".to_owned(), "me".to_owned())].into(), at(5));
            });
            assert_eq!((executions.get(Queued), executions.get(Canceled)), (9, 1));
            assert_eq!(executions.on_thing(&times(false), thing)[0].last_updated_at, at(5));
            assert_eq!(executions.details(thing, 1).map(|details| details["who"].as_str()), Some("me"));
        }
    }

    #[test]
    fn pages_of_every_size_list_each_execution_once_in_hash_order() {
        let executions = counted();
        let whole = all(&executions, &times(false));
        for size in [1, 2, 7, 50, 250] {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page = executions.list(&times(false), None, after, size);
                let Some((last, _)) = page.last() else { break };
                after = Some(*last);
                seen.extend(page.into_iter().map(|(_, execution)| execution));
            }
            assert_eq!(seen, whole, "{size}");
        }
        assert!(!whole.is_sorted_by_key(|execution| execution.thing));
        assert!(!whole.is_sorted_by_key(|execution| execution.queued_at));
        let other = JobTimes { id: 8, ..times(false) };
        assert_ne!(
            all(&executions, &other).iter().map(|it| it.thing).collect::<Vec<_>>(),
            whole.iter().map(|it| it.thing).collect::<Vec<_>>()
        );
    }

    #[test]
    fn setting_a_count_ends_tracking() {
        let mut executions = tracked(|tracked| tracked.queue(5, at(0)));
        executions.shift(Queued, Succeeded, 9);
        assert_eq!((executions.get(Queued), executions.get(Succeeded), executions.total()), (0, 5, 5));
        assert!(all(&executions, &times(false)).iter().all(|execution| execution.last_updated_at <= LAST_CHANGED));
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let executions = tracked(|tracked| {
            tracked.queue(u32::MAX, at(0));
            tracked.queue(9, at(1));
            tracked.advance((Queued, InProgress), u32::MAX, 0, at(2));
            tracked.advance((InProgress, Failed), u32::MAX, 10, at(3));
        });
        assert_eq!((executions.get(Failed), executions.get(Queued)), (u32::MAX, u32::MAX));
    }
}
