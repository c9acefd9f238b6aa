//! Compares the progress of a job with a model of AWS: devices work, are retried, join and are deleted while pages are
//! read, and the exporter restarts.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::fixtures::*;
use super::super::look::ExecutionSummary;
use super::super::{
    DescribeAnswer, Description, ExecutionCounts, ExecutionStatus, JobRequest, LookRequest, Schedule, Start,
};
use super::*;
use crate::proptests::cases;

/// An execution in AWS.
#[derive(Clone, Debug)]
struct Execution {
    /// Its sort key in lists, which never changes.
    key: u32,
    summary: ExecutionSummary,
    deleted_at: Option<Timestamp>,
    /// When it last started or ended, which changes a count.
    moved_at: Option<Timestamp>,
}

impl Execution {
    fn is_open(&self) -> bool {
        self.summary.status.is_some_and(ExecutionStatus::is_open)
    }
}

/// An event. The numbers select an execution.
#[derive(Clone, Copy, Debug)]
enum Event {
    Join,
    Start(u8),
    Report(u8),
    End(u8, u8),
    Retry(u8),
    Delete(u8),
    FlipWindow,
    WaitMinutes(u8),
    WaitHours(u8),
    Walk,
    AskDescription,
    HandleDescription,
    DeliverDescription,
    LoseDescription,
    AskLook,
    Page,
    LoseLook(u8),
    Restart,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => Just(Event::Join),
        4 => any::<u8>().prop_map(Event::Start),
        3 => any::<u8>().prop_map(Event::Report),
        4 => (any::<u8>(), 0..4_u8).prop_map(|(execution, how)| Event::End(execution, how)),
        2 => any::<u8>().prop_map(Event::Retry),
        2 => any::<u8>().prop_map(Event::Delete),
        1 => Just(Event::FlipWindow),
        4 => (1..90_u8).prop_map(Event::WaitMinutes),
        3 => (1..60_u8).prop_map(Event::WaitHours),
        4 => Just(Event::Walk),
        5 => Just(Event::AskDescription),
        5 => Just(Event::HandleDescription),
        5 => Just(Event::DeliverDescription),
        1 => Just(Event::LoseDescription),
        6 => Just(Event::AskLook),
        12 => Just(Event::Page),
        1 => (0..4_u8).prop_map(Event::LoseLook),
        1 => Just(Event::Restart),
    ];
    vec(event, 1..200)
}

/// A look, page by page.
#[derive(Debug)]
struct Pages {
    request: JobRequest,
    look: Look,
    statuses: &'static [Option<ExecutionStatus>],
    after: Option<u32>,
    read: usize,
}

struct World {
    executions: Vec<Execution>,
    windowed: bool,
    is_scheduled: bool,
    page_size: usize,
    max_pages: usize,
    fixture: Fixture,
    described: Option<(JobRequest, Option<(Timestamp, DescribeAnswer)>)>,
    looking: Option<Pages>,
    since_start: SinceStart,
}

/// The state since the exporter started.
#[derive(Debug, Default)]
struct SinceStart {
    /// Whether a look at all executions reached the page limit.
    was_cut: bool,
    /// Whether an execution was deleted, and its times with it.
    has_deleted: bool,
    /// When AWS handled the last answered request of `DescribeJob`, and when the last finished look began.
    known_until: [Option<Timestamp>; 2],
    /// The last progress that was shown, and whether the job was stuck.
    shown: Option<Timestamp>,
    was_stuck: bool,
}

impl World {
    fn new(windowed: bool, page_size: usize, max_pages: usize) -> Self {
        let mut world = Self {
            executions: Vec::new(),
            windowed,
            is_scheduled: false,
            page_size,
            max_pages,
            fixture: Fixture::new(options_with_looks()),
            described: None,
            looking: None,
            since_start: SinceStart::default(),
        };
        for _ in 0..3 {
            world.happens(Event::Join);
        }
        world
    }

    fn now(&self) -> Timestamp {
        self.fixture.now.wall
    }

    fn pick(&mut self, choice: u8, is_meant: impl Fn(&Execution) -> bool) -> Option<&mut Execution> {
        let is_meant = |execution: &&mut Execution| execution.deleted_at.is_none() && is_meant(execution);
        let mut meant: Vec<&mut Execution> = self.executions.iter_mut().filter(is_meant).collect();
        let index = usize::from(choice).checked_rem(meant.len())?;
        Some(meant.swap_remove(index))
    }

    fn add(&mut self, thing: &str, retry: i32) {
        let (now, number) = (self.now(), u32::try_from(self.executions.len()).expect("a number"));
        self.executions.push(Execution {
            // An order unrelated to time and things.
            key: number.wrapping_mul(2_654_435_761) ^ 0x5bd1_e995,
            summary: ExecutionSummary {
                thing: Some(thing.into()),
                status: Some(ExecutionStatus::Queued),
                queued_at: Some(now),
                last_updated_at: Some(now),
                execution_number: Some(1),
                retry_attempt: Some(retry),
                ..ExecutionSummary::default()
            },
            deleted_at: None,
            moved_at: None,
        });
    }

    fn happens(&mut self, event: Event) {
        self.fixture.wait(Duration::from_secs(1));
        let now = self.now();
        match event {
            Event::Join => self.add(&format!("thing-{}", self.executions.len()), 0),
            Event::Start(choice) => {
                if let Some(execution) = self.pick(choice, |it| it.summary.status == Some(ExecutionStatus::Queued)) {
                    let summary = &mut execution.summary;
                    summary.status = Some(ExecutionStatus::InProgress);
                    (summary.started_at, summary.last_updated_at) = (Some(now), Some(now));
                    execution.moved_at = Some(now);
                }
            }
            Event::Report(choice) => {
                if let Some(execution) = self.pick(choice, |it| it.summary.status == Some(ExecutionStatus::InProgress))
                {
                    execution.summary.last_updated_at = Some(now);
                }
            }
            Event::End(choice, how) => {
                let ended = [
                    ExecutionStatus::Succeeded,
                    ExecutionStatus::Failed,
                    ExecutionStatus::TimedOut,
                    ExecutionStatus::Rejected,
                ];
                if let Some(execution) = self.pick(choice, Execution::is_open) {
                    execution.summary.status = Some(ended[usize::from(how)]);
                    execution.summary.last_updated_at = Some(now);
                    execution.moved_at = Some(now);
                }
            }
            Event::Retry(choice) => {
                let failed = [Some(ExecutionStatus::Failed), Some(ExecutionStatus::TimedOut)];
                let execution = self.pick(choice, |it| failed.contains(&it.summary.status)).cloned();
                if let Some(ExecutionSummary { thing: Some(thing), retry_attempt, .. }) = execution.map(|it| it.summary)
                {
                    self.add(&thing, retry_attempt.unwrap_or(0) + 1);
                }
            }
            Event::Delete(choice) => {
                if let Some(execution) = self.pick(choice, |execution| !execution.is_open()) {
                    execution.deleted_at = Some(now);
                    self.since_start.has_deleted = true;
                }
            }
            Event::FlipWindow => self.is_scheduled ^= self.windowed,
            Event::WaitMinutes(minutes) => self.fixture.wait(u32::from(minutes) * MINUTE),
            Event::WaitHours(hours) => self.fixture.wait(u32::from(hours) * 60 * MINUTE),
            Event::Walk => self.fixture.open_walk(&[self.job()]),
            Event::AskDescription => {
                if self.described.is_none() {
                    self.described = self.fixture.request().map(|request| (request, None));
                }
            }
            Event::HandleDescription => {
                let answer = (now, self.description());
                if let Some((_, handled)) = &mut self.described {
                    handled.get_or_insert(answer);
                }
            }
            Event::DeliverDescription => self.deliver_description(None),
            Event::LoseDescription => self.deliver_description(Some(FAILED)),
            Event::AskLook => {
                if self.looking.is_none()
                    && let Some(LookRequest { request, look, .. }) = self.fixture.store.next_look(self.fixture.now)
                {
                    let statuses = look.scope().statuses();
                    self.looking = Some(Pages { request, look, statuses, after: None, read: 0 });
                }
            }
            Event::Page => self.page(),
            Event::LoseLook(reason) => {
                let reasons = [
                    FailureReason::Denied,
                    FailureReason::Credentials,
                    FailureReason::Connection,
                    FailureReason::Other,
                ];
                if let Some(Pages { request, .. }) = self.looking.take() {
                    let answer = Answer::Failed(reasons[usize::from(reason)]);
                    self.fixture.store.looked(&request, answer, self.fixture.now);
                }
            }
            Event::Restart => self.restart(),
        }
        self.fixture.store.check_crossings(self.fixture.now);
        self.check();
    }

    fn restart(&mut self) {
        let now = self.fixture.now;
        self.fixture = Fixture { now, ..Fixture::new(options_with_looks()) };
        (self.described, self.looking, self.since_start) = (None, None, SinceStart::default());
        self.fixture.open_walk(&[self.job()]);
    }

    fn job(&self) -> super::super::JobSummary {
        job("a", if self.is_scheduled { "SCHEDULED" } else { "IN_PROGRESS" })
    }

    fn existing(&self) -> impl Iterator<Item = &Execution> {
        self.executions.iter().filter(|execution| execution.deleted_at.is_none())
    }

    fn description(&self) -> DescribeAnswer {
        let count = |status| self.existing().filter(|execution| execution.summary.status == Some(status)).count();
        let executions = ExecutionCounts::from_fn(|status| u32::try_from(count(status)).ok());
        let schedule = Schedule { windowed: self.windowed, start: Start::AtOnce, end: None };
        Answer::Found(Box::new(Description { executions, schedule, ..description(self.job(), 0, &[]) }))
    }

    fn deliver_description(&mut self, failure: Option<DescribeAnswer>) {
        let Some((request, handled)) = self.described.take() else { return };
        let (handled_at, handled) = handled.unwrap_or_else(|| (self.now(), self.description()));
        if failure.is_none() {
            self.since_start.known_until[0] = Some(handled_at);
        }
        self.fixture.store.described(&request, &failure.unwrap_or(handled), self.fixture.now);
    }

    /// Checks the progress after each event.
    fn check(&mut self) {
        let Progress { is_stuck, last, .. } = self.progress();
        let Some(last) = last else { return };
        assert!(
            Some(last) >= self.since_start.shown,
            "last progress goes back from {:?} to {last:?}",
            self.since_start.shown
        );
        self.since_start.shown = Some(last);
        let [Some(described), Some(looked)] = self.since_start.known_until else { return };
        // The counts, or the look after them, show a start or an end.
        let moved = self.existing().filter_map(|execution| execution.moved_at);
        let moved = moved.filter(|moved| *moved <= described).max();
        if !self.since_start.has_deleted {
            assert!(Some(last) >= moved, "last progress {last:?} is older than {moved:?}");
        }
        let becomes_stuck = is_stuck == Some(true) && !self.since_start.was_stuck;
        self.since_start.was_stuck = is_stuck == Some(true);
        if becomes_stuck && !self.since_start.was_cut {
            let idle_since = self.idle_since(described.min(looked));
            let idle = described.min(looked).since(idle_since);
            assert!(idle >= self.threshold(), "stuck by answers from {idle:?} after {idle_since:?}");
        }
    }

    /// Reads the next page of the current look.
    fn page(&mut self) {
        let Some(Pages { request, mut look, statuses, after, read }) = self.looking.take() else { return };
        if let Some((status, rest)) = statuses.split_first().filter(|_| read < self.max_pages) {
            let is_listed = |execution: &&Execution| {
                status.is_none_or(|status| execution.summary.status == Some(status))
                    && after.is_none_or(|after| execution.key > after)
            };
            let mut listed: Vec<&Execution> = self.existing().filter(is_listed).collect();
            listed.sort_by_key(|execution| execution.key);
            let after = listed.get(self.page_size - 1).map(|last| last.key).filter(|_| listed.len() > self.page_size);
            listed.iter().take(self.page_size).for_each(|execution| look.insert(&execution.summary));
            let statuses = if after.is_some() { statuses } else { rest };
            if !statuses.is_empty() {
                self.looking = Some(Pages { request, look, statuses, after, read: read + 1 });
                return;
            }
            self.end_look(&request, look, true);
        } else {
            self.end_look(&request, look, false);
        }
    }

    fn end_look(&mut self, request: &JobRequest, look: Look, is_complete: bool) {
        let (scope, now) = (look.scope(), self.fixture.now);
        self.since_start.was_cut |= scope == LookScope::All && !is_complete;
        self.since_start.known_until[1] = Some(request.sent.wall);
        self.fixture.store.looked(request, Answer::Found(look.finish(is_complete, now)), now);
        let there = |execution: &&Execution| {
            let was_there = execution.summary.queued_at.is_some_and(|queued| queued <= request.sent.wall);
            was_there && execution.deleted_at.is_none()
        };
        // Changes during the look can be seen or not.
        let settled = |time: &Timestamp| *time <= request.sent.wall;
        let truth = self
            .executions
            .iter()
            .filter(there)
            .filter(|execution| is_complete && (scope == LookScope::All || execution.is_open()));
        let truth = truth.filter_map(|execution| progressed_at(&execution.summary)).filter(settled).max();
        let Progress { last, .. } = self.progress();
        if let (Some(last), Some(truth)) = (last, truth) {
            assert!(last >= truth, "last progress {last:?} is older than {truth:?}");
        }
    }

    fn progress(&self) -> Progress<'_> {
        let jobs = self.fixture.store.open_jobs(self.fixture.now);
        jobs.and_then(|mut jobs| jobs.next()).map(|known| known.progress).unwrap_or_default()
    }

    fn threshold(&self) -> Duration {
        if self.windowed { 14 * DAY } else { DAY }
    }

    /// The start of the idle time at `at`: no progress, and no device added that is still open, according to AWS.
    fn idle_since(&self, at: Timestamp) -> Timestamp {
        let progressed = self.existing().filter_map(|execution| progressed_at(&execution.summary));
        let progressed = progressed.filter(|progressed| *progressed <= at);
        let oldest_open =
            self.existing().filter(|execution| execution.is_open()).filter_map(|it| it.summary.queued_at).min();
        progressed.chain(oldest_open).fold(START, Timestamp::max)
    }

    /// Answers everything that is due, at the same time.
    fn answer_all(&mut self) {
        for _ in 0..50 {
            self.fixture.store.check_crossings(self.fixture.now);
            self.deliver_description(None);
            while self.looking.is_some() {
                self.page();
            }
            self.check();
            let answer = self.description();
            if self.fixture.answer(|_| answer).is_some() {
                self.since_start.known_until[0] = Some(self.now());
                continue;
            }
            let Some(LookRequest { request, look, .. }) = self.fixture.store.next_look(self.fixture.now) else {
                return;
            };
            let statuses = look.scope().statuses();
            self.looking = Some(Pages { request, look, statuses, after: None, read: 0 });
        }
        panic!("requests never cease");
    }
}

/// The rule for progress, implemented independently.
fn progressed_at(execution: &ExecutionSummary) -> Option<Timestamp> {
    let is_retry = execution.retry_attempt > Some(0);
    match execution.status {
        Some(ExecutionStatus::Queued) => execution.queued_at.filter(|_| is_retry),
        _ => execution.last_updated_at,
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_job_is_stuck_if_and_only_if_it_has_been_idle_for_longer_than_the_threshold(
        events in events(),
        windowed in any::<bool>(),
        page_size in 1..4_usize,
        max_pages in prop_oneof![1 => 1..4_usize, 3 => Just(1000)],
        idle_hours in prop_oneof![0..60_u32, 20 * 24..30 * 24_u32],
    ) {
        let mut world = World::new(windowed, page_size, max_pages);
        for event in events {
            world.happens(event);
        }
        world.answer_all();
        world.fixture.wait(idle_hours * 60 * MINUTE);
        world.fixture.open_walk(&[world.job()]);
        for is_restarted in [false, true] {
            if is_restarted {
                world.restart();
            }
            world.answer_all();
            let idle = world.now().since(world.idle_since(world.now()));
            let open = world.existing().filter(|execution| execution.is_open()).count();
            let Progress { is_stuck, last, .. } = world.progress();
            // A failed request is repeated later.
            prop_assert!(is_stuck.is_some() || !is_restarted, "not known after everything was answered");
            if open == 0 {
                prop_assert!(is_stuck != Some(true), "stuck without open executions");
            } else if is_stuck == Some(true) {
                let is_known = !world.since_start.was_cut && !world.since_start.has_deleted;
                prop_assert!(!is_known || idle >= world.threshold(), "stuck after {:?}", idle);
            } else if is_restarted && !world.since_start.was_cut {
                prop_assert!(idle < world.threshold(), "not stuck after {:?}; last progress {:?}", idle, last);
            }
        }
    }
}
