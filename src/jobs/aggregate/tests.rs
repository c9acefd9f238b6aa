use proptest::collection::vec;
use proptest::prelude::*;

use super::super::fixtures::*;
use super::*;
use crate::jobs::group_filter::tests::filter;
use crate::jobs::{
    Answer, ExecutionStatus, ExecutionSummary, FailureReason, JobSummary, LookRequest, OTHER, Schedule, UNKNOWN,
};

const BOTH: Shown = Shown { open: true, ended: true };

fn limits() -> AggregateOptions {
    let series = Some(SeriesLimits { open: 500, ended: 100, things: 5 });
    AggregateOptions { max_thing_groups: 200, series, ..AggregateOptions::default() }
}

fn pair(status: &str) -> Pair {
    (status.into(), TargetSelection::Snapshot)
}

/// Answers every request that is due. The groups of a job are the letters of its id.
fn describe_all(fixture: &mut Fixture, jobs: &[JobSummary]) {
    let answer = |id: &str| {
        let summary = jobs.iter().rfind(|job| job.id() == Some(id)).expect("a job").clone();
        let groups: Vec<String> = id.chars().filter(char::is_ascii_alphabetic).map(String::from).collect();
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        Answer::Found(Box::new(description(summary, 0, &groups)))
    };
    while fixture.answer(answer).is_some() {}
}

/// The count of a group's row in a part.
fn row(part: Option<&Part>, group: &str, status: &str) -> Option<u64> {
    part?.thing_groups.get(group)?.jobs.get(&pair(status)).copied()
}

#[test]
fn each_part_is_absent_until_its_walk_is_complete_and_while_it_is_stale() {
    let (mut fixture, mut aggregator) = (Fixture::new(options()), Aggregator::default());
    let mut parts = |fixture: &Fixture, shown| {
        let snapshot = aggregator.aggregate(&fixture.store, &limits(), shown, fixture.now);
        (snapshot.open.map(|part| part.jobs.len()), snapshot.ended.map(|part| part.jobs.len()))
    };
    assert_eq!(parts(&fixture, BOTH), (None, None));
    fixture.open_walk(&[]);
    assert_eq!(parts(&fixture, BOTH), (Some(6), None), "a certain absence is 0");
    fixture.full_walk(&[]);
    assert_eq!(parts(&fixture, BOTH), (Some(6), Some(4)));
    assert_eq!(parts(&fixture, Shown { open: false, ended: true }), (None, Some(4)));
    assert_eq!(parts(&fixture, Shown { open: true, ended: false }), (Some(6), None));
}

#[test]
fn a_job_that_ended_is_shown_while_stale_open_jobs_are_withdrawn() {
    let mut fixture = Fixture::new(options());
    fixture.open_walk(&[job("a", "IN_PROGRESS")]);
    fixture.full_walk(&[job("a", "COMPLETED")]);
    let ended = |shown| {
        let snapshot = Aggregator::default().aggregate(&fixture.store, &limits(), shown, fixture.now);
        snapshot.ended.map(|part| (part.jobs[&pair("COMPLETED")], part.series.len()))
    };
    assert_eq!(ended(BOTH), Some((0, 0)));
    assert_eq!(ended(Shown { open: false, ended: true }), Some((1, 1)));
}

#[test]
fn a_group_has_zeros_only_after_all_jobs_were_described_and_then_keeps_them() {
    let (mut fixture, mut aggregator) = (Fixture::new(options()), Aggregator::default());
    let jobs = [job("a", "IN_PROGRESS"), job("b", "IN_PROGRESS")];
    fixture.open_walk(&jobs);
    let mut aggregate =
        |fixture: &Fixture| aggregator.aggregate(&fixture.store, &limits(), BOTH, fixture.now).open.expect("a part");
    assert!(aggregate(&fixture).thing_groups.is_empty(), "nothing is known about groups yet");

    fixture.answer(|id| Answer::Found(Box::new(description(job(id, "IN_PROGRESS"), 0, &["x"]))));
    let part = aggregate(&fixture);
    assert_eq!((part.undescribed, row(Some(&part), "x", "IN_PROGRESS")), (Some(1), Some(1)));
    assert_eq!(row(Some(&part), "x", "SCHEDULED"), None, "the other job may be SCHEDULED");

    fixture.answer(|id| Answer::Found(Box::new(description(job(id, "IN_PROGRESS"), 0, &["y"]))));
    let part = aggregate(&fixture);
    assert_eq!((part.undescribed, row(Some(&part), "x", "SCHEDULED")), (Some(0), Some(0)));

    fixture.open_walk(&[job("c", "IN_PROGRESS")]);
    fixture.full_walk(&[]);
    while fixture.answer(|_| FAILED).is_some() {}
    fixture.wait(MINUTE);
    fixture.full_walk(&[]);
    let part = aggregate(&fixture);
    for group in ["x", "y"] {
        assert_eq!(row(Some(&part), group, "IN_PROGRESS"), Some(0), "{group}");
        assert_eq!(row(Some(&part), group, "SCHEDULED"), Some(0), "{group}");
    }
    assert_eq!((part.undescribed, row(Some(&part), UNKNOWN, "IN_PROGRESS")), (Some(1), Some(1)));
    assert_eq!(row(Some(&part), UNKNOWN, "SCHEDULED"), None);
}

#[test]
fn an_ended_job_without_a_description_hides_no_other_job() {
    let (mut fixture, mut aggregator) = (Fixture::new(options()), Aggregator::default());
    fixture.open_walk(&[]);
    fixture.full_walk(&[job("a", "COMPLETED"), job("b", "COMPLETED")]);
    while fixture.answer(|id| if id == "a" { FAILED } else { found(job(id, "COMPLETED"), 0) }).is_some() {}
    let part = aggregator.aggregate(&fixture.store, &limits(), BOTH, fixture.now).ended;
    assert_eq!(row(part.as_ref(), "line", "COMPLETED"), Some(1));
    assert_eq!(row(part.as_ref(), UNKNOWN, "COMPLETED"), Some(1));
}

#[test]
fn without_descriptions_the_group_is_the_id_in_the_listing() {
    let mut fixture = Fixture::new(StoreOptions { details: None, ..options() });
    let group = |id: &str| Some(id.to_owned());
    fixture.open_walk(&[
        JobSummary { thing_group_id: group("6b58ef65"), ..job("a", "IN_PROGRESS") },
        JobSummary { thing_group_id: group("<none>"), ..job("b", "IN_PROGRESS") },
        job("c", "IN_PROGRESS"),
    ]);
    let part = Aggregator::default().aggregate(&fixture.store, &limits(), BOTH, fixture.now).open.expect("a part");
    assert_eq!(row(Some(&part), "6b58ef65", "IN_PROGRESS"), Some(1));
    assert_eq!(row(Some(&part), UNKNOWN, "IN_PROGRESS"), Some(2));
    assert_eq!((part.undescribed, part.start_overdue.len()), (None, 2));
    fixture.open_walk(&[job("d", "SCHEDULED")]);
    let part = Aggregator::default().aggregate(&fixture.store, &limits(), BOTH, fixture.now).open.expect("a part");
    assert_eq!(part.start_overdue.keys().collect::<Vec<_>>(), [&TargetSelection::Continuous], "its start is not known");
}

#[test]
fn scheduled_jobs_are_overdue_five_minutes_after_their_start_unless_they_wait_for_a_window() {
    let (mut fixture, mut aggregator) = (Fixture::new(options()), Aggregator::default());
    fixture.open_walk(&["a", "b", "c", "d"].map(|id| job(id, "SCHEDULED")));
    let mut overdue = |fixture: &Fixture| {
        let part = aggregator.aggregate(&fixture.store, &limits(), BOTH, fixture.now).open.expect("a part");
        part.start_overdue.get(&TargetSelection::Snapshot).copied()
    };
    assert_eq!(overdue(&fixture), None, "unknown");
    let answer = |id: &str| {
        let (start, windowed) = match id {
            "a" => (Start::At(START), false),
            "b" => (Start::At(START), true),
            "c" => (Start::AtOnce, false),
            _ => return FAILED,
        };
        let schedule = Schedule { start, windowed, ..Schedule::default() };
        Answer::Found(Box::new(crate::jobs::Description { schedule, ..description(job(id, "SCHEDULED"), 0, &[]) }))
    };
    while fixture.answer(answer).is_some() {}
    fixture.wait(5 * MINUTE);
    assert_eq!(overdue(&fixture), None, "one start is unknown");
    fixture.wait(Duration::from_secs(1));
    assert_eq!(overdue(&fixture), Some(1));
    fixture.open_walk(&[job("d", "SCHEDULED")]);
    fixture.full_walk(&[]);
    fixture.wait(MINUTE);
    fixture.full_walk(&[]);
    assert_eq!(overdue(&fixture), Some(0), "a shown selection stays");
}

#[test]
fn concurrent_jobs_are_absent_while_one_lacks_is_concurrent() {
    let mut fixture = Fixture::new(options());
    let concurrent = |is_concurrent, id: &str| JobSummary { is_concurrent, ..job(id, "IN_PROGRESS") };
    let mut count = |jobs: &[JobSummary]| {
        fixture.open_walk(jobs);
        let snapshot = Aggregator::default().aggregate(&fixture.store, &limits(), BOTH, fixture.now);
        snapshot.open.expect("a part").concurrent.get(&TargetSelection::Snapshot).copied()
    };
    assert_eq!(count(&[]), Some(0));
    assert_eq!(count(&[concurrent(Some(true), "a"), concurrent(Some(false), "b")]), Some(1));
    assert_eq!(count(&[concurrent(Some(true), "a"), concurrent(None, "b")]), None);
}

#[test]
fn each_pair_and_group_has_its_oldest_open_job() {
    let mut fixture = Fixture::new(options());
    let created = |id: &str, minutes: u32| JobSummary {
        created_at: Some(START.after(minutes * MINUTE)),
        ..job(id, "IN_PROGRESS")
    };
    let jobs = [created("a1", 5), created("b2", 3), created("a3", 9)];
    fixture.open_walk(&jobs);
    describe_all(&mut fixture, &jobs);
    let part = Aggregator::default().aggregate(&fixture.store, &limits(), BOTH, fixture.now).open.expect("a part");
    assert_eq!(part.oldest_created, BTreeMap::from([(pair("IN_PROGRESS"), START.after(3 * MINUTE))]));
    assert_eq!(part.thing_groups["a"].oldest_created[&pair("IN_PROGRESS")], START.after(5 * MINUTE));
}

#[test]
fn sixteen_undocumented_texts_are_shown_in_any_order() {
    let mut jobs: Vec<JobSummary> = (10..40).map(|n| job(&format!("job-{n}"), &format!("NEW_{n}"))).collect();
    jobs.push(job("free", "free text"));
    let mut counts = Vec::new();
    for reversed in [false, true] {
        let mut fixture = Fixture::new(options());
        fixture.open_walk(&[]);
        if reversed {
            jobs.reverse();
        }
        fixture.full_walk(&jobs);
        let part = Aggregator::default().aggregate(&fixture.store, &limits(), BOTH, fixture.now).ended.expect("a part");
        assert_eq!(part.jobs[&pair(OTHER)], 15);
        assert_eq!(part.jobs.values().sum::<u64>(), 31);
        assert!(part.series.iter().all(|series| part.jobs.contains_key(&series.pair)));
        counts.push(part.jobs);
    }
    assert_eq!(counts[0], counts[1]);
    assert_eq!(counts[0].keys().filter(|(status, _)| status.is_new()).count(), 16);
}

#[test]
fn series_go_to_the_most_important_jobs() {
    let mut fixture = Fixture::new(options());
    let of = |id: &str, status, selection: &str, minutes: u32| JobSummary {
        target_selection: Some(selection.into()),
        created_at: Some(START.after(minutes * MINUTE)),
        ..job(id, status)
    };
    fixture.open_walk(&[
        of("scheduled", "SCHEDULED", "SNAPSHOT", 9),
        of("idle", "IN_PROGRESS", "CONTINUOUS", 9),
        of("active", "IN_PROGRESS", "CONTINUOUS", 1),
        of("old", "IN_PROGRESS", "SNAPSHOT", 1),
        of("new", "IN_PROGRESS", "SNAPSHOT", 2),
    ]);
    fixture.full_walk(&["e1", "e3", "e2"].map(|id| JobSummary {
        completed_at: Some(START.after(MINUTE * u32::from(id.as_bytes()[1]))),
        ..job(id, "COMPLETED")
    }));
    let jobs: Vec<_> = fixture
        .store
        .open_jobs(fixture.now)
        .expect("jobs")
        .map(|known| (known.id.to_string(), known.job.clone()))
        .collect();
    while fixture
        .answer(|id| match jobs.iter().find(|(known, _)| known == id) {
            Some((_, job)) => found(
                JobSummary { created_at: job.created_at, ..super::super::fixtures::job(id, job.status.as_str()) },
                u32::from(id == "active"),
            ),
            None => FAILED,
        })
        .is_some()
    {}
    let ids = |open, ended| {
        let options = AggregateOptions { series: Some(SeriesLimits { open, ended, things: 5 }), ..limits() };
        let snapshot = Aggregator::default().aggregate(&fixture.store, &options, BOTH, fixture.now);
        let ids = |part: Option<Part>| {
            part.map(|part| {
                (
                    part.series.iter().map(|series| series.id.to_string()).collect::<Vec<_>>().join(" "),
                    part.omitted_jobs,
                )
            })
            .expect("a part")
        };
        (ids(snapshot.open), ids(snapshot.ended))
    };
    assert_eq!(ids(9, 2), (("new old active scheduled idle".to_owned(), 0), ("e3 e2".to_owned(), 1)));
    assert_eq!(ids(3, 0).0, ("new old active".to_owned(), 2));
}

#[test]
fn a_job_shows_ten_groups_and_excluded_ones() {
    let mut fixture = Fixture::new(options());
    let jobs = [job("abcdefghijkl", "IN_PROGRESS")];
    fixture.open_walk(&jobs);
    describe_all(&mut fixture, &jobs);
    let groups = |filter| {
        let options = AggregateOptions { filter, ..limits() };
        let part = Aggregator::default().aggregate(&fixture.store, &options, BOTH, fixture.now).open.expect("a part");
        part.series[0].thing_groups.iter().map(ToString::to_string).collect::<Vec<_>>().concat()
    };
    assert_eq!(groups(filter(&[], &[])), "abcdefghij<other>");
    assert_eq!(groups(filter(&["[a-c]"], &["a"])), "bc<excluded><other>");
}

#[test]
fn a_paused_collector_omits_no_job_from_the_groups() {
    let mut fixture = Fixture::new(options());
    fixture.open_walk(&(0..20).map(|n| job(&format!("job-{n}"), "IN_PROGRESS")).collect::<Vec<_>>());
    while fixture.answer(|_| Answer::Failed(FailureReason::Denied)).is_some() {}
    let part = Aggregator::default().aggregate(&fixture.store, &limits(), BOTH, fixture.now).open.expect("a part");
    assert_eq!(row(Some(&part), UNKNOWN, "IN_PROGRESS"), Some(20));
    assert_eq!(part.undescribed, Some(20));
}

fn summaries() -> impl Strategy<Value = Vec<JobSummary>> {
    let summary = ("[a-d]{1,2}[01]", 0..6_usize, prop::bool::ANY).prop_map(|(id, status, continuous)| JobSummary {
        target_selection: Some(if continuous { "CONTINUOUS" } else { "SNAPSHOT" }.into()),
        ..job(&id, ["IN_PROGRESS", "SCHEDULED", "DELETION_IN_PROGRESS", "COMPLETED", "CANCELED", "PAUSED"][status])
    });
    vec(summary, 0..40)
}

proptest! {
    #[test]
    fn order_repeats_and_page_ends_do_not_change_the_snapshot(
        jobs in summaries(), shuffle in any::<prop::sample::Index>(), limit in 0..6_usize,
    ) {
        // Each id once, as it was listed last.
        let distinct: BTreeMap<&str, &JobSummary> = jobs.iter().map(|job| (job.id().expect("an id"), job)).collect();
        let mut once: Vec<JobSummary> = distinct.values().map(|job| (*job).clone()).collect();
        let turn = if once.is_empty() { 0 } else { shuffle.index(once.len()) };
        once.rotate_left(turn);
        let mut snapshots = Vec::new();
        for listed in [&jobs, &once] {
            let mut fixture = Fixture::new(options());
            fixture.open_walk(listed);
            fixture.full_walk(listed);
            describe_all(&mut fixture, listed);
            let options = AggregateOptions { max_thing_groups: limit, ..limits() };
            snapshots.push(Aggregator::default().aggregate(&fixture.store, &options, BOTH, fixture.now));
        }
        for part in snapshots.iter_mut().flat_map(|snapshot| snapshot.open.iter_mut().chain(&mut snapshot.ended)) {
            for series in &mut part.series {
                series.described_at = None;
            }
        }
        prop_assert_eq!(&snapshots[0], &snapshots[1]);
        let snapshot = &snapshots[0];

        let mut expected: BTreeMap<Pair, u64> = BTreeMap::new();
        let mut memberships: BTreeMap<(String, Pair), u64> = BTreeMap::new();
        for (id, job) in &distinct {
            let pair = (job.status.clone().expect("a status"), job.target_selection.clone().expect("a selection"));
            *expected.entry(pair.clone()).or_default() += 1;
            for group in id.chars().filter(char::is_ascii_alphabetic).collect::<BTreeSet<_>>() {
                *memberships.entry((group.to_string(), pair.clone())).or_default() += 1;
            }
        }
        let parts = || snapshot.open.iter().chain(&snapshot.ended);
        let above_zero = |counts: BTreeMap<Pair, u64>| counts.into_iter().filter(|(_, jobs)| *jobs > 0).collect::<BTreeMap<_, _>>();
        prop_assert_eq!(above_zero(parts().flat_map(|part| part.jobs.clone()).collect()), expected);
        let groups = memberships.keys().map(|(group, _)| group).collect::<BTreeSet<_>>().len();
        prop_assert_eq!(snapshot.folded_thing_groups, groups.saturating_sub(limit) as u64);
        let mut folded: BTreeMap<Pair, u64> = BTreeMap::new();
        for ((group, pair), jobs) in memberships {
            let own = parts().find_map(|part| part.thing_groups.get(group.as_str())?.jobs.get(&pair));
            match own {
                Some(own) => prop_assert_eq!(*own, jobs),
                None => *folded.entry(pair).or_default() += jobs,
            }
        }
        let other = parts().filter_map(|part| part.thing_groups.get(OTHER)).flat_map(|row| row.jobs.clone());
        prop_assert_eq!(above_zero(other.collect()), folded);
    }
}

#[test]
fn stuck_jobs_are_counted_only_when_all_first_jobs_are_known() {
    let job_of = |id: &str| job(id, "IN_PROGRESS");
    let jobs = ["a", "b"].map(job_of);
    let mut fixture = Fixture::new(options_with_looks());
    let mut aggregator = Aggregator::default();
    fixture.open_walk(&jobs);
    fixture.wait(2 * DAY);
    fixture.open_walk(&jobs);
    let describe = |fixture: &mut Fixture| while fixture.answer(|id| found(job_of(id), 1)).is_some() {};
    let mut progress = |fixture: &Fixture| {
        aggregator.aggregate(&fixture.store, &limits(), BOTH, fixture.now).open.expect("a part").progress
    };
    assert_eq!(progress(&fixture), None);
    describe(&mut fixture);
    assert_eq!(progress(&fixture), None, "described, but not looked at");
    let look = |fixture: &mut Fixture, answer: Option<FailureReason>| {
        let LookRequest { request, mut look, .. } = fixture.store.next_look(fixture.now).expect("a look");
        let queued = ExecutionSummary {
            thing: Some("press".into()),
            status: Some(ExecutionStatus::Queued),
            queued_at: Some(START),
            ..ExecutionSummary::default()
        };
        look.insert(&queued);
        let found = || Answer::Found(look.finish(true, fixture.now));
        let answer = answer.map_or_else(found, Answer::Failed);
        fixture.store.looked(&request, answer, fixture.now);
    };
    look(&mut fixture, None);
    assert_eq!(progress(&fixture), None, "one of two is known");
    look(&mut fixture, Some(FailureReason::Other));
    let counts = progress(&fixture).expect("each job is known, or failed once");
    assert_eq!((counts.stuck[&TargetSelection::Snapshot], counts.unknown), (1, 1));
    fixture.open_walk(&["a", "b", "new"].map(job_of));
    assert_eq!(progress(&fixture).map(|counts| counts.unknown), Some(2), "it stays from then on");

    let mut denied = Fixture::new(options_with_looks());
    denied.open_walk(&jobs);
    describe(&mut denied);
    look(&mut denied, Some(FailureReason::Denied));
    look(&mut denied, Some(FailureReason::Denied));
    assert_eq!(progress(&denied), None, "nothing is known, which is not 0");
}
