//! Compares the store with a model of AWS: jobs change in every way during walks and descriptions.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::jobs::fixtures::options_with_looks;
use crate::jobs::{Description, ExecutionStatus, FailureReason, JobSummary, TargetSelection};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);
const SECOND: Duration = Duration::from_secs(1);

/// A job in AWS.
#[derive(Clone, Debug, PartialEq)]
struct AwsJob {
    status: Status,
    selection: TargetSelection,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl AwsJob {
    fn summary(&self, id: &str) -> JobSummary {
        JobSummary {
            job_id: Some(id.to_owned()),
            status: Some(self.status.clone()),
            target_selection: Some(self.selection.clone()),
            created_at: Some(self.created_at),
            last_updated_at: Some(self.updated_at),
            completed_at: (!self.status.is_open()).then_some(self.updated_at),
            ..JobSummary::default()
        }
    }

    fn pair(&self) -> Pair {
        (self.status.clone(), self.selection.clone())
    }
}

/// An event. The numbers select a job or a request.
#[derive(Clone, Copy, Debug)]
enum Event {
    Create(u8),
    Move(u8, u8),
    Remove(u8),
    Touch(u8),
    Wait(u8),
    OpenPage,
    OpenFails,
    FullPage,
    FullFails,
    /// Sends the next requests of `DescribeJob`.
    Ask(u8),
    /// AWS handles a request.
    Handle(u8),
    /// The answer arrives, or is lost.
    Deliver(u8),
    Lose(u8),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0..8_u8).prop_map(Event::Create),
        8 => (any::<u8>(), 0..6_u8).prop_map(|(job, to)| Event::Move(job, to)),
        3 => any::<u8>().prop_map(Event::Remove),
        1 => any::<u8>().prop_map(Event::Touch),
        3 => any::<u8>().prop_map(Event::Wait),
        12 => Just(Event::OpenPage),
        1 => Just(Event::OpenFails),
        8 => Just(Event::FullPage),
        1 => Just(Event::FullFails),
        5 => (1..4_u8).prop_map(Event::Ask),
        5 => any::<u8>().prop_map(Event::Handle),
        5 => any::<u8>().prop_map(Event::Deliver),
        2 => any::<u8>().prop_map(Event::Lose),
    ];
    vec(event, 1..120)
}

/// The sort key of a job in a listing: by status, then newest first.
type Key = (usize, std::cmp::Reverse<Timestamp>, String);

/// A listing, page by page. A page starts after the last job of the previous page.
#[derive(Debug)]
struct Listing<W> {
    walk: W,
    statuses: Vec<Status>,
    after: Option<Key>,
}

#[derive(Debug)]
struct Sent {
    request: JobRequest,
    answer: Option<DescribeAnswer>,
}

struct World {
    aws: BTreeMap<String, AwsJob>,
    store: JobStore,
    now: Timepoint,
    page_size: usize,
    /// The order of statuses in listings, which is not documented.
    order: Vec<Status>,
    open: Option<Listing<OpenWalk>>,
    full: Option<Listing<FullWalk>>,
    /// The last summaries of the current full walk, and of the last complete one; `None` for open jobs.
    seeing: BTreeMap<String, Option<Pair>>,
    seen: BTreeMap<String, Option<Pair>>,
    sent: Vec<Sent>,
    failure: FailureReason,
    /// Jobs that were counted after a listing or an answer, with their creation.
    counted: BTreeSet<(String, Timestamp)>,
}

fn options(scope: Scope, details: bool) -> StoreOptions {
    StoreOptions {
        lists_ended: scope.statuses.is_empty() || scope.statuses.iter().any(|status| !status.is_open()),
        scope,
        open_interval: Duration::from_mins(1),
        ended_within: Duration::from_hours(1),
        details: details.then_some(DetailsOptions {
            interval: Duration::from_mins(1),
            max_interval: Duration::from_mins(10),
            stale_after: Duration::from_mins(30),
        }),
        executions: options_with_looks().executions,
        tag_keys: [].into(),
    }
}

fn scopes() -> impl Strategy<Value = Scope> {
    let of = |statuses: &[Status]| Scope { statuses: statuses.to_vec(), ..Scope::default() };
    prop_oneof![
        4 => Just(Scope::default()),
        1 => Just(of(&[Status::InProgress])),
        1 => Just(of(&[Status::InProgress, Status::Completed])),
        1 => Just(Scope { target_selection: Some(TargetSelection::Snapshot), ..Scope::default() }),
    ]
}

impl World {
    fn new(scope: Scope, details: bool, page_size: usize, order: Vec<Status>) -> Self {
        Self {
            aws: BTreeMap::new(),
            store: JobStore::new(options(scope, details)),
            now: Timepoint { instant: Instant::now(), wall: START },
            page_size,
            order,
            open: None,
            full: None,
            seeing: BTreeMap::new(),
            seen: BTreeMap::new(),
            sent: Vec::new(),
            failure: FailureReason::Other,
            counted: BTreeSet::new(),
        }
    }

    fn scope(&self) -> &Scope {
        &self.store.options.scope
    }

    fn advance(&mut self, by: Duration) {
        self.now = Timepoint { instant: self.now.instant + by, wall: self.now.wall.after(by) };
    }

    fn job_mut(&mut self, choice: u8) -> Option<&mut AwsJob> {
        let index = usize::from(choice).checked_rem(self.aws.len())?;
        self.aws.values_mut().nth(index)
    }

    fn happens(&mut self, event: Event) {
        self.advance(SECOND);
        let now = self.now.wall;
        match event {
            Event::Create(id) => {
                let selection = TargetSelection::KNOWN[usize::from(id % 2)].clone();
                let status = if id % 3 == 0 { Status::Scheduled } else { Status::InProgress };
                let job = AwsJob { status, selection, created_at: now, updated_at: now };
                self.aws.entry(format!("job-{id}")).or_insert(job);
            }
            Event::Move(choice, to) => {
                if let Some(job) = self.job_mut(choice) {
                    let to = match (&job.status, to) {
                        (Status::Scheduled, 0 | 1) => Status::InProgress,
                        (Status::InProgress, 0 | 1) => Status::Scheduled,
                        (Status::Scheduled | Status::InProgress, 2) => Status::Completed,
                        (Status::Scheduled | Status::InProgress, 3) => Status::Canceled,
                        (Status::Scheduled | Status::InProgress, 4) => Status::DeletionInProgress,
                        _ => return,
                    };
                    job.status = to;
                    job.updated_at = now;
                }
            }
            Event::Remove(choice) => {
                let id = self.aws.keys().nth(usize::from(choice).checked_rem(self.aws.len()).unwrap_or(0)).cloned();
                if let Some(id) = id {
                    self.aws.remove(&id);
                }
            }
            Event::Touch(choice) => {
                if let Some(job) = self.job_mut(choice).filter(|job| job.status.is_open()) {
                    job.updated_at = now;
                }
            }
            Event::Wait(seconds) => self.advance(u32::from(seconds) * SECOND),
            Event::OpenPage => self.open_page(),
            Event::OpenFails => self.open = None,
            Event::FullPage => self.full_page(),
            Event::FullFails => self.full = None,
            Event::Ask(times) => (0..times).for_each(|_| self.ask()),
            Event::Handle(choice) => self.handle(choice),
            Event::Deliver(choice) => self.deliver(choice, None),
            Event::Lose(choice) => self.deliver(choice, Some(Answer::Failed(self.failure))),
        }
    }

    /// The next page of a listing, and the key of its last job unless it is the last page.
    fn page(&self, statuses: &[Status], after: Option<&Key>) -> (Vec<JobSummary>, Option<Key>) {
        let rank = |status: &Status| self.order.iter().position(|known| known == status).unwrap_or(usize::MAX);
        let in_selection =
            |job: &AwsJob| self.scope().target_selection.as_ref().is_none_or(|selection| *selection == job.selection);
        let mut jobs: Vec<(Key, JobSummary)> = self
            .aws
            .iter()
            .filter(|(_, job)| statuses.contains(&job.status) && in_selection(job))
            .map(|(id, job)| ((rank(&job.status), std::cmp::Reverse(job.created_at), id.clone()), job.summary(id)))
            .filter(|(key, _)| after.is_none_or(|after| key > after))
            .collect();
        jobs.sort_by(|(a, _), (b, _)| a.cmp(b));
        let next = jobs.get(self.page_size.saturating_sub(1)).filter(|_| jobs.len() > self.page_size);
        let next = next.map(|(key, _)| key.clone());
        (jobs.into_iter().take(self.page_size).map(|(_, summary)| summary).collect(), next)
    }

    /// The statuses of a scope, one filtered listing for each.
    fn statuses(&self, open: bool) -> Vec<Status> {
        let all = if self.scope().statuses.is_empty() { Status::KNOWN } else { &self.scope().statuses };
        all.iter().filter(|status| status.is_open() == open).cloned().collect()
    }

    fn open_page(&mut self) {
        let statuses = self.statuses(true);
        let Listing { mut walk, mut statuses, after } =
            self.open.take().unwrap_or_else(|| Listing { walk: OpenWalk::default(), statuses, after: None });
        let Some(status) = statuses.first() else { return };
        let (page, after) = self.page(std::slice::from_ref(status), after.as_ref());
        for summary in &page {
            walk.insert(summary);
        }
        if after.is_none() {
            statuses.remove(0);
        }
        if statuses.is_empty() {
            self.store.open_walk_done(walk, self.now);
        } else {
            self.open = Some(Listing { walk, statuses, after });
        }
    }

    fn full_page(&mut self) {
        if !self.store.options.lists_ended {
            return;
        }
        let Listing { mut walk, statuses, after } = self.full.take().unwrap_or_else(|| {
            self.seeing.clear();
            let everything = self.scope().statuses.is_empty();
            let statuses = if everything { Status::KNOWN.to_vec() } else { self.statuses(false) };
            Listing { walk: self.store.start_full_walk(self.now), statuses, after: None }
        });
        let (page, after) = self.page(&statuses, after.as_ref());
        for summary in &page {
            walk.insert(summary);
            let job = Job::from(summary);
            let pair = (!job.status.is_open()).then(|| job.pair());
            self.seeing.insert(summary.id().expect("an id").to_owned(), pair);
        }
        if after.is_some() {
            self.full = Some(Listing { walk, statuses, after });
        } else {
            let result = walk.finish();
            assert_eq!(result.stats().jobs, self.seeing.len());
            self.seen = std::mem::take(&mut self.seeing);
            // A full walk decides about jobs that left before it began. A job that changes its status so that the walk
            // misses it stays missing until it is listed again.
            let Self { counted, seen, store, .. } = self;
            let is_unseen = |(id, _): &(String, Timestamp)| {
                let left = store.jobs.left.get(id.as_str());
                left.is_some_and(|left| left.since.instant < result.started.instant) && !seen.contains_key(id)
            };
            counted.retain(|job| !is_unseen(job));
            self.store.full_walk_done(result, self.now);
        }
    }

    fn ask(&mut self) {
        let is_current = |sent: &&Sent| self.store.details.queue.is_current(&sent.request);
        let in_flight: BTreeSet<JobId> =
            self.sent.iter().filter(is_current).map(|sent| JobId::clone(&sent.request.id)).collect();
        if let Some(request) = self.store.next_to_describe(self.now) {
            assert!(!in_flight.contains(&request.id), "{request:?} is sent while another one is in flight");
            self.sent.push(Sent { request, answer: None });
            self.advance(SECOND);
        }
        // Only descriptions change looks here.
        if let Some(LookRequest { request, look, .. }) = self.store.next_look(self.now) {
            self.store.looked(&request, Answer::Found(look.finish(true, self.now)), self.now);
        }
    }

    fn answer(&self, id: &str) -> DescribeAnswer {
        let Some(job) = self.aws.get(id) else { return Answer::NotFound };
        let executions = ExecutionCounts::from_fn(|status| Some(u32::from(status == ExecutionStatus::Queued)));
        Answer::Found(Box::new(Description { summary: job.summary(id), executions, ..Description::default() }))
    }

    fn handle(&mut self, choice: u8) {
        let Some(index) = usize::from(choice).checked_rem(self.sent.len()) else { return };
        let answer = self.answer(&self.sent[index].request.id);
        self.sent[index].answer.get_or_insert(answer);
    }

    fn deliver(&mut self, choice: u8, failure: Option<DescribeAnswer>) {
        let Some(index) = usize::from(choice).checked_rem(self.sent.len()) else { return };
        let Sent { request, answer } = self.sent.remove(index);
        let answer = failure.or(answer).unwrap_or_else(|| self.answer(&request.id));
        self.store.described(&request, &answer, self.now);
    }

    /// The pair under which an id counts: the first hit.
    fn hit(&self, id: &str) -> Option<Pair> {
        let Jobs { open, left, moved, ended, .. } = &self.store.jobs;
        if let Some(job) = open.as_ref().and_then(|open| open.get(id)) {
            return Some(job.pair());
        }
        if let Some(left) = left.get(id) {
            return Some(left.job.pair());
        }
        if let Some(moved) = moved.get(id) {
            return ended.as_ref().and(moved.job.as_ref()).map(Job::pair);
        }
        ended.as_ref()?;
        self.seen.get(id).cloned().flatten()
    }

    fn ids(&self) -> BTreeSet<String> {
        let Jobs { open, left, moved, .. } = &self.store.jobs;
        let known = open.iter().flatten().map(|(id, _)| id).chain(left.keys()).chain(moved.keys());
        known.map(ToString::to_string).chain(self.seen.keys().cloned()).chain(self.aws.keys().cloned()).collect()
    }

    fn counts(&self) -> BTreeMap<Pair, u64> {
        let mut counts = BTreeMap::new();
        let open = self.store.jobs.open.is_some().then(|| self.store.open_counts()).flatten();
        for (pair, jobs) in open.into_iter().chain(self.store.ended_counts(true)).flatten() {
            *counts.entry(pair).or_default() += jobs;
        }
        counts.retain(|_, jobs| *jobs > 0);
        counts
    }

    fn truth(&self) -> BTreeMap<Pair, u64> {
        let mut counts = BTreeMap::new();
        for (id, job) in &self.aws {
            if self.scope().includes(&Job::from(&job.summary(id))) {
                *counts.entry(job.pair()).or_default() += 1;
            }
        }
        counts
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        let Jobs { open, left, moved, .. } = &self.store.jobs;
        for id in open.iter().flatten().map(|(id, _)| id) {
            prop_assert!(!left.contains_key(id) && !moved.contains_key(id), "{} is in two maps", id);
        }
        prop_assert!(left.keys().all(|id| !moved.contains_key(id)));

        let mut once: BTreeMap<Pair, u64> = BTreeMap::new();
        for pair in self.ids().iter().filter_map(|id| self.hit(id)) {
            if open.is_some() || !pair.0.is_open() {
                *once.entry(pair).or_default() += 1;
            }
        }
        prop_assert_eq!(self.counts(), once, "each job counts once, by its first hit");
        Ok(())
    }

    /// A job that counted once and still exists in scope is never missing.
    fn check_none_is_missing(&mut self) -> Result<(), TestCaseError> {
        let Jobs { open, left, moved, .. } = &self.store.jobs;
        let listed = open.iter().flatten().map(|(id, job)| (id, job.created_at));
        let left = left.iter().map(|(id, left)| (id, left.job.created_at));
        let moved = moved.iter().filter_map(|(id, moved)| Some((id, moved.job.as_ref()?.created_at)));
        let counted: Vec<_> =
            listed.chain(left).chain(moved).map(|(id, at)| (id.to_string(), at.expect("a time"))).collect();
        self.counted.extend(counted);
        self.counted.retain(|(id, created)| self.aws.get(id).is_some_and(|job| job.created_at == *created));
        if self.store.jobs.ended.is_none() {
            return Ok(());
        }
        for (id, _) in &self.counted {
            let in_scope = self.scope().includes(&Job::from(&self.aws[id].summary(id)));
            prop_assert!(!in_scope || self.hit(id).is_some(), "{} is missing: {:?}", id, self.aws[id]);
        }
        Ok(())
    }

    /// One walk of each kind, without changes.
    fn walk_once_each(&mut self) {
        while !self.sent.is_empty() {
            self.deliver(0, None);
        }
        self.advance(SECOND);
        (self.open, self.full) = (None, None);
        self.open_page();
        while self.open.is_some() {
            self.open_page();
        }
        self.advance(SECOND);
        self.full_page();
        while self.full.is_some() {
            self.full_page();
        }
    }

    fn describe_all(&mut self) {
        self.ask();
        while !self.sent.is_empty() {
            self.deliver(0, None);
            self.ask();
        }
    }
}

fn order() -> impl Strategy<Value = Vec<Status>> {
    Just(Status::KNOWN.to_vec()).prop_shuffle()
}

proptest! {
    #[test]
    fn each_job_counts_once_despite_changes_and_failures(
        scope in scopes(), details: bool, page_size in 1..4_usize, order in order(), denied: bool, events in events(),
    ) {
        let mut world = World::new(scope, details, page_size, order);
        world.failure = if denied { FailureReason::Denied } else { FailureReason::Other };
        for event in events {
            world.happens(event);
            world.check()?;
        }
        world.walk_once_each();
        if !world.store.options.lists_ended {
            // Without full walks, only time or an answer shows that a job is gone.
            world.describe_all();
            world.advance(Duration::from_mins(3));
            world.walk_once_each();
        }
        world.check()?;
        prop_assert_eq!(world.counts(), world.truth(), "after one walk of each kind without changes");
    }

    #[test]
    fn a_job_that_counted_is_never_missing_while_it_exists(
        page_size in 1..4_usize, order in order(), events in events(),
    ) {
        let mut world = World::new(Scope::default(), true, page_size, order);
        for event in events {
            world.happens(event);
            world.check_none_is_missing()?;
        }
        world.walk_once_each();
        world.describe_all();
        world.check_none_is_missing()?;
        prop_assert_eq!(world.counts(), world.truth());
        prop_assert!(world.store.jobs.left.is_empty());
    }
}
