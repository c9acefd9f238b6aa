use super::super::fixtures::*;
use super::super::job_store::StoreOptions;
use super::super::look::{ExecutionSummary, OpenExecution};
use super::super::{Description, ExecutionCounts, ExecutionStatus, JobSummary, LookRequest, Schedule};
use super::*;

/// An execution that was queued, and last changed, this long after [`START`].
fn execution(thing: &str, status: ExecutionStatus, after: Duration) -> ExecutionSummary {
    let at = Some(START.after(after));
    ExecutionSummary {
        thing: Some(thing.into()),
        status: Some(status),
        queued_at: at,
        started_at: at.filter(|_| status != ExecutionStatus::Queued),
        last_updated_at: at,
        execution_number: Some(1),
        retry_attempt: Some(0),
    }
}

fn queued(thing: &str, after: Duration) -> ExecutionSummary {
    execution(thing, ExecutionStatus::Queued, after)
}

fn counts(queued: u32, succeeded: u32) -> ExecutionCounts {
    ExecutionCounts::from_fn(|status| match status {
        ExecutionStatus::Queued => Some(queued),
        ExecutionStatus::Succeeded => Some(succeeded),
        _ => Some(0),
    })
}

/// One open job with these executions.
struct OneJob {
    fixture: Fixture,
    summary: JobSummary,
    counts: ExecutionCounts,
    schedule: Schedule,
    executions: Vec<ExecutionSummary>,
    looks: Vec<LookScope>,
}

impl OneJob {
    fn new(options: StoreOptions) -> Self {
        let mut fixture = Fixture::new(options);
        let summary = job("a", "IN_PROGRESS");
        fixture.open_walk(std::slice::from_ref(&summary));
        let (schedule, counts) = (Schedule::default(), counts(1, 2));
        Self { fixture, summary, counts, schedule, executions: Vec::new(), looks: Vec::new() }
    }

    /// Answers every request that is due.
    fn answer(&mut self) {
        self.fixture.store.check_crossings(self.fixture.now);
        loop {
            let description = Description {
                executions: self.counts,
                schedule: self.schedule,
                ..description(self.summary.clone(), 0, &[])
            };
            if self.fixture.answer(|_| Answer::Found(Box::new(description))).is_some() {
                continue;
            }
            if !self.look(|look, now| Answer::Found(look.finish(true, now))) {
                return;
            }
        }
    }

    fn look(&mut self, answer: impl FnOnce(Look, Timepoint) -> Answer<LookResult>) -> bool {
        let now = self.fixture.now;
        let Some(LookRequest { request, mut look, .. }) = self.fixture.store.next_look(now) else { return false };
        self.looks.push(look.scope());
        let statuses = look.scope().statuses();
        for execution in &self.executions {
            if statuses.iter().any(|status| status.is_none() || *status == execution.status) {
                look.insert(execution);
            }
        }
        self.fixture.store.looked(&request, answer(look, now), now);
        true
    }

    fn wait(&mut self, time: Duration) {
        self.fixture.wait(time);
    }

    fn progress(&self) -> Progress<'_> {
        let mut jobs = self.fixture.store.open_jobs(self.fixture.now).expect("an open walk");
        jobs.next().expect("a job").progress
    }

    fn named(&self) -> Vec<String> {
        let look = self.progress().look.expect("a look");
        look.named.iter().map(|OpenExecution { thing, .. }| thing.to_string()).collect()
    }
}

#[test]
fn a_job_is_stuck_after_no_progress_for_longer_than_the_threshold() {
    let mut one = OneJob::new(options_with_looks());
    let succeeded = execution("first", ExecutionStatus::Succeeded, 3 * MINUTE);
    one.executions = vec![succeeded, queued("second", Duration::ZERO)];
    assert_eq!(one.progress(), Progress::default(), "nothing is known before a description");
    one.wait(5 * MINUTE);
    one.answer();
    assert_eq!((one.progress().is_stuck, one.progress().last), (Some(false), Some(START.after(3 * MINUTE))));
    one.wait(23 * HOUR + 59 * MINUTE);
    one.answer();
    assert_eq!(one.progress().is_stuck, Some(true));
    assert_eq!(one.named(), ["second"]);
}

#[test]
fn a_job_becomes_stuck_only_by_answers_from_after_the_threshold() {
    let mut one = OneJob::new(options_with_looks());
    one.executions = vec![queued("thing", Duration::ZERO)];
    one.wait(23 * HOUR + 59 * MINUTE);
    one.answer();
    one.wait(2 * MINUTE);
    assert_eq!(one.progress().is_stuck, Some(false), "not without new answers");
    one.fixture.store.check_crossings(one.fixture.now);
    let now = one.fixture.now;
    assert!(one.look(|look, _| Answer::Found(look.finish(true, now))), "it is looked at again at once");
    assert_eq!(one.looks, [LookScope::All, LookScope::All]);
    assert_eq!(one.progress().is_stuck, Some(false), "nor without a new description");
    one.answer();
    assert_eq!(one.progress().is_stuck, Some(true));
}

#[test]
fn an_added_device_gives_an_idle_job_time() {
    let mut one = OneJob::new(options_with_looks());
    one.executions = vec![execution("first", ExecutionStatus::Succeeded, MINUTE), queued("joined", 30 * DAY)];
    one.wait(30 * DAY + MINUTE);
    one.answer();
    let Progress { is_stuck, last, .. } = one.progress();
    assert_eq!((is_stuck, last), (Some(false), Some(START.after(MINUTE))), "a device that joins is no progress");
    one.wait(DAY);
    one.answer();
    assert_eq!(one.progress().is_stuck, Some(true));
}

#[test]
fn retries_and_rising_counts_are_progress_and_queued_devices_are_not() {
    let mut one = OneJob::new(options_with_looks());
    one.executions = vec![queued("thing", Duration::ZERO)];
    one.wait(MINUTE);
    one.answer();
    one.executions = vec![ExecutionSummary { retry_attempt: Some(1), ..queued("thing", HOUR) }];
    one.wait(2 * HOUR);
    one.answer();
    assert_eq!(one.progress().last, Some(START.after(HOUR)));
    one.counts = counts(9, 2);
    one.wait(HOUR);
    one.answer();
    assert_eq!(one.progress().last, Some(START.after(HOUR)), "only the queued ones are more");
    one.counts = counts(9, 3);
    one.wait(HOUR);
    one.answer();
    assert_eq!(one.progress().last, Some(one.fixture.now.wall), "one has succeeded");
}

#[test]
fn jobs_with_maintenance_windows_have_their_own_threshold() {
    let mut one = OneJob::new(options_with_looks());
    one.executions = vec![queued("thing", Duration::ZERO)];
    one.schedule = Schedule { windowed: true, ..Schedule::default() };
    one.summary = job("a", "SCHEDULED");
    one.wait(13 * DAY);
    one.fixture.open_walk(std::slice::from_ref(&one.summary));
    one.answer();
    assert_eq!(one.progress().is_stuck, Some(false));
    one.wait(2 * DAY);
    one.answer();
    assert_eq!(one.progress().is_stuck, Some(true));
}

#[test]
fn jobs_without_open_executions_or_in_deletion_are_not_stuck_and_need_no_look() {
    for (status, queued) in [("IN_PROGRESS", 0), ("DELETION_IN_PROGRESS", 3)] {
        let mut one = OneJob::new(options_with_looks());
        one.summary = job("a", status);
        one.fixture.open_walk(std::slice::from_ref(&one.summary));
        one.counts = counts(queued, 2);
        one.wait(30 * DAY);
        one.answer();
        assert_eq!((one.progress().is_stuck, one.looks.len()), (Some(false), 0), "{status}");
    }
}

#[test]
fn progress_is_unknown_without_looks_and_a_look_is_shown_until_stale() {
    let mut one = OneJob::new(options_with_looks());
    one.executions = vec![queued("thing", Duration::ZERO)];
    one.wait(2 * DAY);
    one.answer();
    assert_eq!(one.progress().is_stuck, Some(true));
    for minutes in [31, 31, 27] {
        one.wait(minutes * MINUTE);
        one.look(|_, _| Answer::Failed(FailureReason::Denied));
        one.answer_descriptions();
    }
    assert_eq!((one.progress().is_stuck, one.progress().state), (Some(true), Some(CacheState::Denied)));
    one.wait(2 * MINUTE);
    assert_eq!((one.progress().is_stuck, one.progress().last), (None, None));
}

#[test]
fn a_first_look_at_the_page_limit_counts_as_progress_and_later_ones_list_open_executions() {
    let mut one = OneJob::new(options_with_looks());
    one.executions = vec![queued("thing", Duration::ZERO)];
    one.wait(2 * DAY);
    one.answer_descriptions();
    let now = one.fixture.now;
    one.look(|look, _| Answer::Found(look.finish(false, now)));
    assert_eq!((one.progress().is_stuck, one.progress().last), (Some(false), Some(now.wall)));
    one.wait(DAY);
    one.answer();
    assert_eq!((one.progress().is_stuck, &*one.looks), (Some(true), &[LookScope::All, LookScope::Open][..]));
}

#[test]
fn a_named_thing_stays_named_until_its_execution_ends() {
    let mut one = OneJob::new(options_with_looks());
    one.executions = vec![queued("c", 3 * MINUTE), queued("b", 2 * MINUTE), queued("d", 4 * MINUTE)];
    one.wait(5 * MINUTE);
    one.answer();
    assert_eq!(one.named(), ["b", "c"], "the oldest two");
    one.executions.push(queued("a", MINUTE));
    one.executions[1] = execution("b", ExecutionStatus::InProgress, HOUR);
    one.wait(2 * HOUR);
    one.answer();
    assert_eq!(one.named(), ["a", "c", "b"], "b has started, so that another one that is queued has room");
    one.executions.remove(0);
    one.wait(HOUR);
    one.answer();
    assert_eq!(one.named(), ["a", "d", "b"], "c has ended");
    let older = |thing: &str, after| execution(thing, ExecutionStatus::InProgress, after);
    one.executions.extend([older("long-1", 2 * MINUTE), older("long-2", 3 * MINUTE)]);
    one.wait(HOUR);
    one.answer();
    assert_eq!(one.named(), ["a", "long-1", "long-2", "d", "b"], "the oldest of each status, and b");
}

#[test]
fn denied_jobs_are_tried_one_by_one_and_never_block_the_worker() {
    for jobs in [1, 2, 3, 8, 9, 12] {
        let ids: Vec<String> = (0..jobs).map(|n| format!("job-{n}")).collect();
        let summaries: Vec<JobSummary> = ids.iter().map(|id| job(id, "IN_PROGRESS")).collect();
        let mut fixture = Fixture::new(options_with_looks());
        fixture.open_walk(&summaries);
        let mut asked = 0;
        for _minute in 0..120 {
            fixture.wait(MINUTE);
            while fixture.answer(|id| found(job(id, "IN_PROGRESS"), 1)).is_some() {}
            while let Some(LookRequest { request, .. }) = fixture.store.next_look(fixture.now) {
                fixture.store.looked(&request, Answer::Failed(FailureReason::Denied), fixture.now);
                asked += 1;
            }
        }
        assert!((119..=135).contains(&asked), "{jobs} jobs were asked for {asked} times in two hours");
    }
}

#[test]
fn a_job_with_a_reused_id_starts_without_looks() {
    let mut one = OneJob::new(options_with_looks());
    one.executions = vec![queued("old-device", Duration::ZERO)];
    one.wait(2 * DAY);
    one.answer();
    assert_eq!(one.named(), ["old-device"]);
    one.summary.created_at = Some(one.fixture.now.wall);
    one.summary.last_updated_at = one.summary.created_at;
    one.fixture.open_walk(std::slice::from_ref(&one.summary));
    one.answer_descriptions();
    assert!(one.look(|_, _| Answer::Failed(FailureReason::Other)));
    assert_eq!((one.progress().is_stuck, one.progress().look), (None, None));
}

#[test]
fn a_time_in_the_future_counts_as_the_time_of_the_answer() {
    let mut one = OneJob::new(options_with_looks());
    one.executions = vec![execution("thing", ExecutionStatus::InProgress, 100 * DAY)];
    one.wait(DAY);
    one.answer();
    assert_eq!(one.progress().last, Some(START.after(DAY)));
}

const HOUR: Duration = Duration::from_hours(1);

impl OneJob {
    fn answer_descriptions(&mut self) {
        let description = || Description {
            executions: self.counts,
            schedule: self.schedule,
            ..description(self.summary.clone(), 0, &[])
        };
        while self.fixture.answer(|_| Answer::Found(Box::new(description()))).is_some() {}
    }
}
