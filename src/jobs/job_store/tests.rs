use super::super::fixtures::*;
use super::*;
use crate::jobs::{FailureReason, JobSummary};

const DENIED: DescribeAnswer = Answer::Failed(FailureReason::Denied);

fn in_progress(id: &str) -> JobSummary {
    job(id, "IN_PROGRESS")
}

fn open(fixture: &Fixture, status: &Status) -> u64 {
    let counts = fixture.store.open_counts().expect("an open walk");
    counts.iter().filter(|(pair, _)| pair.0 == *status).map(|(_, jobs)| jobs).sum()
}

fn ended(fixture: &Fixture, status: &Status) -> u64 {
    let counts = fixture.store.ended_counts(true).expect("a full walk");
    counts.iter().filter(|(pair, _)| pair.0 == *status).map(|(_, jobs)| jobs).sum()
}

#[test]
fn counts_are_unknown_before_the_first_walk_of_each_kind() {
    let mut fixture = Fixture::new(options());
    assert_eq!((fixture.store.open_counts(), fixture.store.ended_counts(true)), (None, None));
    fixture.open_walk(&[]);
    assert_eq!((fixture.store.open_counts(), fixture.store.ended_counts(true)), (Some(BTreeMap::new()), None));
}

#[test]
fn a_job_that_ends_counts_as_open_until_an_answer_reports_its_status() {
    let mut fixture = Fixture::new(options());
    fixture.open_walk(&[in_progress("a")]);
    fixture.full_walk(&[in_progress("a")]);
    assert_eq!(fixture.answer(|_| found(in_progress("a"), 1)).as_deref(), Some("a"));
    fixture.wait(MINUTE);
    fixture.open_walk(&[]);
    assert_eq!((open(&fixture, &Status::InProgress), ended(&fixture, &Status::Completed)), (1, 0));
    assert_eq!(fixture.answer(|id| found(job(id, "COMPLETED"), 0)).as_deref(), Some("a"));
    assert_eq!((open(&fixture, &Status::InProgress), ended(&fixture, &Status::Completed)), (0, 1));
    assert_eq!(fixture.next(), None, "an ended job without open executions is final");
}

#[test]
fn an_answer_during_a_full_walk_is_newer_than_the_walk() {
    let mut fixture = Fixture::new(options());
    fixture.open_walk(&["a", "b"].map(in_progress));
    let mut walk = fixture.store.start_full_walk(fixture.now);
    for id in ["a", "b"] {
        walk.insert(&in_progress(id));
    }
    fixture.wait(MINUTE);
    fixture.open_walk(&[]);
    while fixture.answer(|id| if id == "a" { found(job(id, "COMPLETED"), 0) } else { Answer::NotFound }).is_some() {}
    fixture.store.full_walk_done(walk.finish(), fixture.now);
    assert_eq!((open(&fixture, &Status::InProgress), ended(&fixture, &Status::Completed)), (0, 1));
}

#[test]
fn the_last_summary_of_a_full_walk_decides_whether_a_job_is_open() {
    let mut fixture = Fixture::new(options());
    fixture.open_walk(&[in_progress("b")]);
    fixture.full_walk(&[in_progress("a"), job("a", "COMPLETED"), job("b", "COMPLETED"), in_progress("b")]);
    assert_eq!((open(&fixture, &Status::InProgress), ended(&fixture, &Status::Completed)), (1, 1));
}

#[test]
fn a_listed_job_that_is_not_found_still_counts() {
    let mut fixture = Fixture::new(options());
    fixture.open_walk(&[in_progress("a")]);
    fixture.answer(|_| Answer::NotFound);
    assert_eq!(open(&fixture, &Status::InProgress), 1);
    assert_eq!(fixture.next(), Some(2 * MINUTE), "as after any failure");
}

#[test]
fn a_job_that_left_the_list_is_described_once_after_each_open_walk() {
    let mut fixture = Fixture::new(options());
    fixture.open_walk(&[in_progress("a")]);
    fixture.answer(|_| found(in_progress("a"), 1));
    for answer in [FAILED, found(job("a", "SCHEDULED"), 1), FAILED] {
        fixture.wait(MINUTE);
        fixture.open_walk(&[]);
        assert!(fixture.answer(|_| answer).is_some());
        assert_eq!(fixture.request(), None);
    }
    assert_eq!(open(&fixture, &Status::Scheduled), 1, "as the last answer says");
}

#[test]
fn an_answer_to_an_older_request_is_ignored_for_a_job_that_left() {
    let mut fixture = Fixture::new(options());
    fixture.open_walk(&[in_progress("a")]);
    fixture.full_walk(&[]);
    let request = fixture.request().expect("a new job");
    fixture.wait(MINUTE);
    fixture.open_walk(&[]);
    fixture.store.described(&request, &found(job("a", "COMPLETED"), 0), fixture.now);
    assert_eq!((open(&fixture, &Status::InProgress), ended(&fixture, &Status::Completed)), (1, 0));
    assert!(fixture.request().is_some(), "and it is due at once");
}

#[test]
fn without_descriptions_a_job_that_left_is_dropped_after_two_intervals() {
    for details in [None, options().details] {
        let mut fixture = Fixture::new(StoreOptions { details, ..options() });
        fixture.open_walk(&[in_progress("a"), job("b", "DELETION_IN_PROGRESS")]);
        fixture.full_walk(&[job("b", "COMPLETED"), in_progress("c")]);
        for (waited, left) in [(1, 2), (2, 2), (3, 2), (4, 0)] {
            fixture.wait(MINUTE);
            while fixture.answer(|_| DENIED).is_some() {}
            fixture.open_walk(&[in_progress("c")]);
            assert_eq!(
                open(&fixture, &Status::InProgress) + open(&fixture, &Status::DeletionInProgress),
                left + 1,
                "{waited}"
            );
        }
        assert_eq!(ended(&fixture, &Status::Completed), 0, "a job that was being deleted is gone");
    }
}

#[test]
fn failing_descriptions_drop_no_job_before_a_full_walk() {
    let mut fixture = Fixture::new(options());
    fixture.open_walk(&[in_progress("a")]);
    for _ in 0..9 {
        fixture.wait(MINUTE);
        fixture.open_walk(&[]);
        fixture.answer(|_| FAILED);
    }
    assert_eq!(open(&fixture, &Status::InProgress), 1);
    fixture.wait(MINUTE);
    fixture.full_walk(&[]);
    assert_eq!(open(&fixture, &Status::InProgress), 0);
}

#[test]
fn equal_answers_double_the_interval_and_a_changed_one_resets_it() {
    let mut fixture = Fixture::new(options());
    fixture.open_walk(&[in_progress("a")]);
    for (queued, minutes) in [(5, 1), (5, 2), (5, 4), (5, 8), (5, 10), (5, 10), (4, 1), (4, 2)] {
        assert_eq!(fixture.next(), Some(Duration::ZERO));
        fixture.answer(|id| found(in_progress(id), queued));
        assert_eq!(fixture.next(), Some(minutes * MINUTE), "{queued}");
        fixture.wait(minutes * MINUTE);
    }
}

#[test]
fn failures_double_the_interval_and_an_answer_resets_it() {
    let mut fixture = Fixture::new(options());
    fixture.open_walk(&[in_progress("a")]);
    for minutes in [2, 4, 8, 10, 10] {
        fixture.answer(|_| FAILED);
        assert_eq!(fixture.next(), Some(minutes * MINUTE));
        fixture.wait(minutes * MINUTE);
    }
    fixture.answer(|id| found(in_progress(id), 1));
    assert_eq!(fixture.next(), Some(MINUTE));
}

#[test]
fn a_moved_last_updated_at_is_due_at_once_but_not_again_after_a_failure() {
    let mut fixture = Fixture::new(options());
    fixture.open_walk(&[in_progress("a")]);
    fixture.answer(|id| found(in_progress(id), 1));
    fixture.wait(MINUTE / 2);
    fixture.open_walk(&[JobSummary { last_updated_at: Some(fixture.now.wall), ..in_progress("a") }]);
    assert!(fixture.answer(|_| FAILED).is_some());
    assert_eq!(fixture.next(), Some(2 * MINUTE));
}

#[test]
fn a_reused_id_is_another_job() {
    let mut fixture = Fixture::new(options());
    fixture.open_walk(&[in_progress("a")]);
    fixture.answer(|id| found(in_progress(id), 7));
    let again = JobSummary { created_at: Some(START.after(MINUTE)), ..in_progress("a") };
    fixture.open_walk(std::slice::from_ref(&again));
    let known = fixture.store.open_jobs(fixture.now).expect("jobs").next().expect("a job").details;
    assert_eq!(known, None);
    assert!(fixture.answer(|_| found(in_progress("a"), 7)).is_some(), "a late answer about the job before");
    let known = fixture.store.open_jobs(fixture.now).expect("jobs").next().expect("a job").details;
    assert_eq!(known, None);
}

#[test]
fn an_ended_job_is_described_until_no_execution_is_open_for_at_most_a_day() {
    let mut fixture = Fixture::new(options());
    fixture.open_walk(&[]);
    fixture.full_walk(&[job("a", "CANCELED"), job("b", "COMPLETED")]);
    let mut requests = BTreeMap::new();
    for _ in 0..3 * 24 * 60 {
        while let Some(id) =
            fixture.answer(|id| if id == "a" { found(job(id, "CANCELED"), 3) } else { found(job(id, "COMPLETED"), 0) })
        {
            *requests.entry(id).or_insert(0) += 1;
        }
        fixture.wait(MINUTE);
        fixture.open_walk(&[]);
    }
    assert_eq!(requests["b"], 1);
    // 1 + 2 + 4 + 8 minutes, then every 10.
    assert_eq!(requests["a"], 5 + (24 * 60 - 15) / 10);
}

#[test]
fn jobs_are_described_by_class_and_every_fifth_request_is_for_the_lowest() {
    let mut fixture = Fixture::new(options());
    let many = |prefix: &str, status: &str| (0..9).map(|n| job(&format!("{prefix}{n}"), status)).collect::<Vec<_>>();
    let (old, left) = (many("due-", "IN_PROGRESS"), many("left-", "IN_PROGRESS"));
    fixture.open_walk(&[&old[..], &left].concat());
    while fixture.answer(|id| found(in_progress(id), 1)).is_some() {}
    fixture.wait(MINUTE);
    fixture.open_walk(&[old, many("new-", "SCHEDULED")].concat());
    fixture.full_walk(&many("ended-", "COMPLETED"));
    let order: Vec<String> = std::iter::from_fn(|| Some(fixture.request()?.id.to_string())).collect();
    assert_eq!(order.len(), 36);
    let class = |index: usize| order[index].split('-').next().expect("a class");
    // Eighteen requests were sent before, so the second one is a fifth one.
    let fifths: Vec<&str> = (1..36).step_by(5).map(class).collect();
    assert_eq!(fifths, ["ended"; 7]);
    let others: Vec<&str> = (0..36).filter(|index| index % 5 != 1).map(class).collect();
    assert_eq!(others, [["left"; 9].as_slice(), &["new"; 9], &["due"; 9], &["ended"; 2]].concat());
}

#[test]
fn while_everything_is_denied_another_job_is_tried_each_minute() {
    let mut fixture = Fixture::new(options());
    let jobs: Vec<JobSummary> = (0..20).map(|n| in_progress(&format!("job-{n:02}"))).collect();
    fixture.open_walk(&jobs);
    let at_once = std::iter::from_fn(|| fixture.answer(|_| DENIED)).count();
    assert_eq!(at_once, 8);
    let mut asked = Vec::new();
    for _ in 0..20 {
        assert_eq!(fixture.next(), Some(MINUTE));
        fixture.wait(MINUTE);
        fixture.open_walk(&jobs);
        asked.extend(fixture.answer(|_| DENIED));
        assert_eq!(fixture.request(), None);
    }
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), 20);
    assert_eq!(fixture.store.states(fixture.now).details.expect("states")[&CacheState::Denied], 20);
    fixture.wait(MINUTE);
    let answered = std::iter::from_fn(|| fixture.answer(|id| found(in_progress(id), 1))).count();
    assert_eq!(answered, 20, "the first success makes the others due");
    assert_eq!(fixture.store.states(fixture.now).details.expect("states")[&CacheState::Fresh], 20);
}

#[test]
fn failures_of_single_jobs_cause_no_pause() {
    for answers in [vec![FAILED], vec![DENIED, FAILED], vec![DENIED, Answer::Failed(FailureReason::Connection)]] {
        let mut fixture = Fixture::new(options());
        fixture.open_walk(&(0..20).map(|n| in_progress(&format!("job-{n:02}"))).collect::<Vec<_>>());
        let mut answers = answers.into_iter().cycle();
        let at_once = std::iter::from_fn(|| fixture.answer(|_| answers.next().expect("an answer"))).count();
        assert_eq!(at_once, 20);
    }
}

#[test]
fn a_single_job_that_is_denied_is_retried_by_its_own_interval() {
    let mut fixture = Fixture::new(options());
    fixture.open_walk(&["a", "b", "c"].map(in_progress));
    let answer = |id: &str| if id == "a" { DENIED } else { found(in_progress(id), 1) };
    while fixture.answer(answer).is_some() {}
    let mut denied = 0;
    for _ in 0..60 {
        fixture.wait(MINUTE);
        while let Some(id) = fixture.answer(answer) {
            denied += u32::from(id == "a");
        }
    }
    // After 2, 6 and 14 minutes, then every 10.
    assert_eq!(denied, 7);
}

#[test]
fn permanently_denied_jobs_do_not_delay_others() {
    let mut fixture = Fixture::new(options());
    let jobs: Vec<JobSummary> = (0..100).map(|n| in_progress(&format!("job-{n:02}"))).collect();
    fixture.open_walk(&jobs);
    let answer = |id: &str| if id < "job-50" { DENIED } else { found(in_progress(id), 1) };
    for minute in 0..300 {
        while fixture.answer(answer).is_some() {}
        let states = fixture.store.states(fixture.now).details.expect("states");
        // At first the denied ones are tried, one a minute.
        if minute >= 50 {
            assert_eq!([states[&CacheState::Fresh], states[&CacheState::Denied]], [50, 50], "minute {minute}");
        }
        fixture.wait(MINUTE);
        fixture.open_walk(&jobs);
    }
}

#[test]
fn jobs_that_are_described_stay_fresh_while_the_only_other_one_is_denied() {
    let mut fixture = Fixture::new(options());
    fixture.open_walk(&[in_progress("a")]);
    fixture.full_walk(&["b", "c"].map(|id| job(id, "COMPLETED")));
    let answer = |id: &str| if id == "a" { DENIED } else { found(job(id, "COMPLETED"), 0) };
    for _ in 0..20 {
        while fixture.answer(answer).is_some() {}
        let states = fixture.store.states(fixture.now).details.expect("states");
        assert_eq!([states[&CacheState::Fresh], states[&CacheState::Denied]], [2, 1]);
        fixture.wait(MINUTE);
    }
}

#[test]
fn execution_counts_go_stale_unless_they_are_final() {
    let mut fixture = Fixture::new(options());
    fixture.open_walk(&[in_progress("a")]);
    fixture.full_walk(&[job("b", "COMPLETED")]);
    while fixture
        .answer(|id| if id == "a" { found(in_progress(id), 1) } else { found(job(id, "COMPLETED"), 0) })
        .is_some()
    {}
    let executions = |fixture: &Fixture| {
        let open = fixture.store.open_jobs(fixture.now).expect("jobs").next().expect("a job").executions.is_some();
        (open, fixture.store.ended_jobs(true, fixture.now).expect("jobs").next().expect("a job").executions.is_some())
    };
    fixture.wait(30 * MINUTE);
    assert_eq!(executions(&fixture), (true, true));
    fixture.wait(MINUTE);
    assert_eq!(executions(&fixture), (false, true));
}

#[test]
fn execution_counts_of_an_ended_job_that_is_being_deleted_go_stale() {
    let mut fixture = Fixture::new(options());
    fixture.open_walk(&[]);
    fixture.full_walk(&[job("a", "COMPLETED")]);
    fixture.answer(|id| found(job(id, "COMPLETED"), 0));
    let executions = |fixture: &Fixture| {
        let mut open = fixture.store.open_jobs(fixture.now).expect("an open walk");
        open.next().expect("a job").executions.is_some()
    };
    for (minutes, is_shown) in [(30, true), (1, false)] {
        fixture.wait(minutes * MINUTE);
        fixture.open_walk(&[job("a", "DELETION_IN_PROGRESS")]);
        assert_eq!(executions(&fixture), is_shown);
    }
}

#[test]
fn with_a_group_filter_only_listed_ended_rows_exist() {
    let scope = Scope { thing_group_name: Some("line".to_owned()), ..Scope::default() };
    let mut fixture = Fixture::new(StoreOptions { scope, ..options() });
    fixture.open_walk(&["a", "b"].map(in_progress));
    fixture.full_walk(&[job("c", "COMPLETED")]);
    fixture.open_walk(&[]);
    while fixture.answer(|id| found(job(id, if id == "a" { "COMPLETED" } else { "CANCELED" }), 0)).is_some() {}
    let counts = fixture.store.ended_counts(true).expect("counts");
    assert_eq!(counts.into_iter().map(|(pair, jobs)| (pair.0, jobs)).collect::<Vec<_>>(), [(Status::Completed, 2)]);
}

#[test]
fn new_intervals_apply_at_once() {
    let mut fixture = Fixture::new(options());
    fixture.open_walk(&[in_progress("a")]);
    fixture.answer(|id| found(in_progress(id), 1));
    let details = options().details.map(|details| DetailsOptions { interval: MINUTE / 4, ..details });
    fixture.store.set_options(StoreOptions { details, ..options() }, fixture.now);
    assert_eq!(fixture.next(), Some(MINUTE / 4));
    fixture.store.set_options(StoreOptions { details: None, ..options() }, fixture.now);
    assert_eq!(fixture.next(), None);
    assert_eq!(open(&fixture, &Status::InProgress), 1);
}
