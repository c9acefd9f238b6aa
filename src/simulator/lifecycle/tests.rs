//! Tests of the lifecycle of a fleet.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::LazyLock;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;

use crate::http::Request;
use crate::jobs::{AccountId, ExecutionStatus, TargetSelection};

use super::super::seeded::NOTICE;
use super::super::seeded::tests::{assert_fits, has_windows};
use super::super::{Operation, Simulator, ThingGroup};
use super::*;

const START: Timestamp = Timestamp::from_millis(1_784_986_200_123);
type ExecutionCounts = [u32; ExecutionStatus::ALL.len()];

const DAY: Duration = Duration::from_hours(24);

fn pace(times: u32) -> NonZeroU32 {
    NonZeroU32::new(times).expect("not 0")
}

/// Begins a lifecycle at the pace 1.
fn begin(seed: u64, size: usize) -> (Fleet, Lifecycle) {
    Lifecycle::begin(seed, size, pace(1), START)
}

/// Advances a fleet by `time`, and checks it every `interval`.
fn watch(
    (fleet, lifecycle): &mut (Fleet, Lifecycle),
    time: Duration,
    interval: Duration,
    mut look: impl FnMut(&Fleet, Timestamp),
) {
    let (mut now, end) = (START, START.after(time));
    while now < end {
        now = now.after(interval);
        lifecycle.advance(fleet, now);
        look(fleet, now);
    }
}

fn contents(fleet: &Fleet) -> (Vec<Job>, Vec<ThingGroup>) {
    (fleet.jobs().cloned().collect(), fleet.groups().cloned().collect())
}

fn count_by_status(fleet: &Fleet) -> BTreeMap<Status, usize> {
    let mut counts = BTreeMap::new();
    let mut jobs = fleet.jobs().peekable();
    // Jobs of the same status follow each other, so the map is changed only a few times.
    while let Some(first) = jobs.next() {
        let others = std::iter::from_fn(|| jobs.next_if(|job| job.status == first.status)).count();
        *counts.entry(first.status.clone()).or_default() += 1 + others;
    }
    counts
}

/// A fleet of 500 jobs over a day, which is simulated once for all tests.
struct Day {
    /// The fleet at the start and after each minute.
    minutes: Vec<(Timestamp, Fleet)>,
    events: usize,
}

impl Day {
    /// The fleet after each minute of the first `time`.
    fn first(&self, time: Duration) -> impl Iterator<Item = (Timestamp, &Fleet)> {
        let end = START.after(time);
        let minutes = self.minutes.iter().skip(1).take_while(move |(now, _)| *now <= end);
        minutes.map(|(now, fleet)| (*now, fleet))
    }
}

static DAY_OF_500: LazyLock<Day> = LazyLock::new(|| {
    let (mut fleet, mut lifecycle) = begin(13, 500);
    let (mut minutes, mut events, mut now) = (vec![(START, fleet.clone())], 0, START);
    while now < START.after(DAY) {
        now = now.after(MINUTE);
        events += lifecycle.advance(&mut fleet, now);
        minutes.push((now, fleet.clone()));
    }
    Day { minutes, events }
});

/// A new or changed job.
struct Change {
    at: Timestamp,
    /// The job with the same identity before.
    old: Option<Arc<Job>>,
    new: Arc<Job>,
}

/// The jobs of the start, and every change of a job by a single event in a quarter of a day, with 300 jobs.
static CHANGES: LazyLock<(Vec<Arc<Job>>, Vec<Change>)> = LazyLock::new(|| {
    let (mut fleet, mut lifecycle) = begin(3, 300);
    let first: Vec<Arc<Job>> = fleet.shared_jobs().cloned().collect();
    let (mut before, mut changes) = (first.clone(), Vec::new());
    while let Some(at) = lifecycle.next().filter(|next| *next < START.after(DAY / 4)) {
        lifecycle.advance(&mut fleet, at);
        let after: Vec<Arc<Job>> = fleet.shared_jobs().cloned().collect();
        // Most events change one job. The comparison of all jobs by their contents would take most of the time.
        let is_same = |(old, new): &(&Arc<Job>, &Arc<Job>)| Arc::ptr_eq(old, new);
        let start = before.iter().zip(&after).take_while(is_same).count();
        let rest = (&before[start..], &after[start..]);
        let end = rest.0.iter().rev().zip(rest.1.iter().rev()).take_while(is_same).count();
        let (old_jobs, new_jobs) = (&rest.0[..rest.0.len() - end], &rest.1[..rest.1.len() - end]);
        for new in new_jobs {
            let old = old_jobs.iter().find(|old| old.id == new.id && old.created_at == new.created_at).cloned();
            if old.as_ref() != Some(new) {
                changes.push(Change { at, old, new: Arc::clone(new) });
            }
        }
        before = after;
    }
    (first, changes)
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn one_long_step_and_many_short_ones_give_the_same_fleet(
        seed in any::<u64>(),
        size in 0_usize..400,
        times in 1_u32..30,
        steps in prop::collection::vec(0_u64..15_000, 1..60),
    ) {
        let (mut leaping, mut leaping_lifecycle) = Lifecycle::begin(seed, size, pace(times), START);
        let (mut walking, mut walking_lifecycle) = Lifecycle::begin(seed, size, pace(times), START);
        let mut now = START;
        for step in steps {
            now = now.after(Duration::from_millis(step));
            walking_lifecycle.advance(&mut walking, now);
        }
        // A call that reaches its limit is continued by the next one.
        while leaping_lifecycle.advance(&mut leaping, now) > 0 {}
        prop_assert_eq!(contents(&leaping), contents(&walking));
        prop_assert_eq!(leaping_lifecycle.next(), walking_lifecycle.next());
    }
}

#[test]
fn an_hour_at_once_and_second_by_second_give_the_same_fleet() {
    let (mut leaping, mut walking) = (begin(5, 500), begin(5, 500));
    leaping.1.advance(&mut leaping.0, START.after(HOUR));
    watch(&mut walking, HOUR, SECOND, |_, _| ());
    assert_eq!(contents(&leaping.0), contents(&walking.0));
}

#[test]
fn another_seed_gives_another_lifecycle() {
    let (mut one, mut other) = (begin(1, 100), begin(2, 100));
    assert_ne!(contents(&one.0), contents(&other.0));
    one.1.advance(&mut one.0, START.after(HOUR));
    other.1.advance(&mut other.0, START.after(HOUR));
    assert_ne!(contents(&one.0), contents(&other.0));
}

#[test]
fn a_lifecycle_begins_with_the_seeded_fleet() {
    let (fleet, _) = begin(42, 500);
    assert_eq!(contents(&fleet), contents(&Fleet::seeded(42, 500, START)));
}

#[test]
fn every_status_and_selection_is_present_all_day() {
    let look = |fleet: &Fleet, now: Timestamp| {
        for status in Status::KNOWN {
            assert!(fleet.jobs_after(None, Some(status)).next().is_some(), "no {status} at {now:?}");
        }
        for selection in TargetSelection::KNOWN {
            let is_open = |job: &Job| job.target_selection == *selection && job.status.is_open();
            assert!(fleet.jobs().any(is_open), "no {selection} at {now:?}");
        }
    };
    watch(&mut begin(7, 200), DAY, MINUTE, look);
    DAY_OF_500.first(DAY).for_each(|(now, fleet)| look(fleet, now));
}

#[test]
fn continuous_jobs_complete_and_are_canceled_at_the_paces_of_a_demo() {
    for speed in [1, 60] {
        let mut lifecycle = Lifecycle::begin(5, 2000, pace(speed), START);
        let time = DAY / speed;
        watch(&mut lifecycle, time, time / 24, |fleet, now| {
            for status in [Status::Completed, Status::Canceled] {
                let is_one = |job: &Job| job.target_selection == TargetSelection::Continuous && job.status == status;
                // No job of a seeded fleet was canceled, and the first cancellation takes hours of fleet time.
                let may_lack = status == Status::Canceled && now < START.after(time / 2);
                assert!(may_lack || fleet.jobs().any(is_one), "no CONTINUOUS {status} at {now:?} at pace {speed}");
            }
        });
    }
}

#[test]
fn counts_fit_statuses_and_times_are_in_order_after_every_event() {
    let (first, changes) = &*CHANGES;
    let at_start = first.iter().map(|job| (job, START));
    for (job, now) in at_start.chain(changes.iter().map(|change| (&change.new, change.at))) {
        assert_fits(job);
        assert!(job.created_at <= job.last_updated_at && job.last_updated_at <= now, "{job:?}");
        if job.has_ended() {
            assert_eq!(job.completed_at, Some(job.last_updated_at), "{job:?}");
        }
    }
}

#[test]
fn statuses_change_only_as_in_aws() {
    use Status::{Canceled, Completed, DeletionInProgress, InProgress, Scheduled};
    let mut seen = BTreeSet::new();
    for Change { old, new: job, .. } in &CHANGES.1 {
        let change = (old.as_ref().map(|old| old.status.clone()), job.status.clone());
        let is_right = match &change {
            (Some(old), new) if old == new => true,
            (None, InProgress | Scheduled)
            | (Some(Scheduled), InProgress)
            | (Some(InProgress), Completed | Canceled | DeletionInProgress)
            | (Some(Completed | Canceled), DeletionInProgress) => true,
            (Some(InProgress), Scheduled) => has_windows(job),
            _ => false,
        };
        assert!(is_right, "{change:?}: {job:?}");
        let has_moved = old.as_ref().is_some_and(|old| old.last_updated_at != job.last_updated_at);
        assert_eq!(has_moved, change.0.as_ref().is_some_and(|old| *old != change.1), "{job:?}");
        seen.insert(change);
    }
    assert!(seen.contains(&(Some(InProgress), Scheduled)), "windows close: {seen:?}");
    assert!(seen.contains(&(Some(InProgress), Canceled)), "jobs are canceled: {seen:?}");
    assert!(seen.contains(&(Some(InProgress), DeletionInProgress)), "open jobs are deleted: {seen:?}");
}

#[test]
fn jobs_with_windows_are_in_progress_only_in_them_and_one_always_exists() {
    for (now, fleet) in DAY_OF_500.first(DAY) {
        let mut windowed = 0;
        for job in fleet.jobs().filter(|job| has_windows(job) && job.status != Status::Completed) {
            let window = HourlyWindow::of(job).expect("an hourly window");
            let has_started = job.scheduling.as_deref().and_then(|schedule| schedule.start_time) <= Some(now);
            match job.status {
                Status::InProgress => assert!(window.contains(now), "{now:?} {job:?}"),
                // It starts with the first window that opens after its start time.
                Status::Scheduled if has_started && window.contains(now) => {
                    assert_eq!(job.last_updated_at, job.created_at, "{now:?} {job:?}");
                }
                _ => {}
            }
            windowed += 1;
        }
        assert!(windowed > 0);
    }
}

#[test]
fn one_job_is_always_overdue() {
    for (now, fleet) in DAY_OF_500.first(DAY) {
        let start = |job: &Job| job.scheduling.as_deref().and_then(|schedule| schedule.start_time);
        let is_late = |job: &Job| !has_windows(job) && start(job).is_some_and(|start| start < now);
        assert!(fleet.jobs().any(|job| job.status == Status::Scheduled && is_late(job)));
    }
}

#[test]
fn jobs_start_on_time_or_late_but_never_early() {
    let (mut on_time, mut late) = (0, 0);
    for (now, fleet) in DAY_OF_500.first(DAY / 4) {
        let started = |job: &&Job| now.since(job.last_updated_at) < MINUTE && !has_windows(job);
        for job in fleet.jobs().filter(|job| job.status == Status::InProgress).filter(started) {
            let Some(start) = job.scheduling.as_deref().and_then(|schedule| schedule.start_time) else { continue };
            assert!(job.last_updated_at >= start, "{job:?}");
            *(if job.last_updated_at == start { &mut on_time } else { &mut late }) += 1;
        }
    }
    assert!(on_time > 0 && late > 0, "{on_time} on time, {late} late");
}

#[test]
fn new_schedules_start_as_far_ahead_as_aws_requires() {
    let mut schedules = 0;
    for (_, fleet) in DAY_OF_500.first(DAY / 4) {
        for job in fleet.jobs().filter(|job| job.created_at > START) {
            let Some(schedule) = job.scheduling.as_deref() else { continue };
            for time in [schedule.start_time, schedule.end_time].into_iter().flatten() {
                assert!(time.since(job.created_at) >= NOTICE, "{job:?}");
                assert_eq!(time.as_millis() % 60_000, 0, "{job:?}");
            }
            schedules += 1;
        }
    }
    assert!(schedules > 0);
}

#[test]
fn one_snapshot_job_is_always_stuck_and_one_continuous_job_stalled() {
    let mut last_moves: HashMap<String, (ExecutionCounts, Timestamp)> = HashMap::new();
    for (now, fleet) in DAY_OF_500.first(DAY) {
        let mut still: BTreeMap<TargetSelection, usize> = BTreeMap::new();
        for job in fleet.jobs().filter(|job| job.status == Status::InProgress) {
            let entry = last_moves.entry(job.id.clone()).or_insert((job.executions.counts(), now));
            if entry.0 != job.executions.counts() {
                *entry = (job.executions.counts(), now);
            }
            if job.executions.open() > 0 && now.since(entry.1) > HOUR / 2 {
                *still.entry(job.target_selection.clone()).or_default() += 1;
            }
        }
        if now.since(START) > HOUR {
            assert_eq!(still.len(), 2, "{still:?} at {now:?}");
        }
    }
}

#[test]
fn devices_return_to_some_stuck_jobs() {
    let is_old = |job: &&Job| job.target_selection == TargetSelection::Snapshot && START.since(job.created_at) > DAY;
    let stuck = |fleet: &Fleet| -> Vec<String> {
        let in_progress = fleet.jobs().filter(|job| job.status == Status::InProgress && !has_windows(job));
        in_progress.filter(is_old).map(|job| job.id.clone()).collect()
    };
    let before = stuck(&DAY_OF_500.minutes[0].1);
    let after = stuck(&DAY_OF_500.minutes[13 * 60].1);
    assert!(!after.is_empty() && after.len() < before.len(), "{before:?} {after:?}");
}

#[test]
fn the_size_stays_about_the_requested_one() {
    let look = |size: usize, fleet: &Fleet, now: Timestamp| {
        let jobs = fleet.jobs().len();
        assert!(jobs <= size + 10 && jobs + 30 >= size, "{jobs} instead of {size} at {now:?}");
    };
    for size in [1, 2, 19, 200, 5000] {
        watch(&mut begin(17, size), DAY / 4, MINUTE, |fleet, now| look(size, fleet, now));
    }
    DAY_OF_500.first(DAY).for_each(|(now, fleet)| look(500, fleet, now));
}

#[test]
fn an_empty_fleet_stays_empty() {
    let (mut fleet, mut lifecycle) = begin(1, 0);
    assert_eq!((lifecycle.next(), lifecycle.advance(&mut fleet, START.after(DAY))), (None, 0));
    assert_eq!(fleet.jobs().len(), 0);
}

#[test]
fn deletions_stay_within_the_limit_of_aws() {
    // Large enough for the largest number of open jobs.
    let (mut fleet, mut lifecycle) = begin(19, 140_000);
    let deleting = |fleet: &Fleet| fleet.jobs_after(None, Some(&Status::DeletionInProgress)).count();
    let mut most = 0;
    while lifecycle.next().is_some_and(|next| next < START.after(3 * HOUR)) {
        let now = lifecycle.next().expect("there is a next");
        lifecycle.advance(&mut fleet, now);
        let now_deleting = deleting(&fleet);
        assert!((1..=MAX_DELETIONS).contains(&now_deleting), "{now_deleting}");
        most = most.max(now_deleting);
    }
    assert_eq!(most, MAX_DELETIONS, "the limit is reached");
}

#[test]
fn a_fleet_visibly_changes_within_a_minute() {
    let (mut created, mut ended, mut moved) = (Vec::new(), Vec::new(), 0);
    let mut executions: HashMap<String, ExecutionCounts> = HashMap::new();
    let mut living = begin(23, 2000);
    watch(&mut living, MINUTE * 30, 5 * SECOND, |fleet, now| {
        let is_new = |time: Timestamp| time > now.before(5 * SECOND);
        created.push(fleet.jobs().filter(|job| is_new(job.created_at)).count());
        ended.push(fleet.jobs().filter(|job| job.completed_at.is_some_and(is_new)).count());
        let in_progress = fleet.jobs().filter(|job| job.status == Status::InProgress);
        let changes = in_progress
            .filter(|job| executions.insert(job.id.clone(), job.executions.counts()) != Some(job.executions.counts()));
        moved += usize::from(changes.count() > 0);
    });
    for minute in created.chunks(12).zip(ended.chunks(12)) {
        let (created, ended): (usize, usize) = (minute.0.iter().sum(), minute.1.iter().sum());
        assert!(created <= 20 && ended <= 20, "{created} created, {ended} ended");
    }
    let (created, ended): (usize, usize) = (created.iter().sum(), ended.iter().sum());
    assert!((40..=300).contains(&created) && (30..=300).contains(&ended), "{created} created, {ended} ended");
    assert!(moved > 300, "counts move every few seconds, not {moved} times");
}

#[test]
fn no_count_jumps() {
    for (size, time, most) in [(500, DAY / 2, 8), (100_000, HOUR / 6, 12)] {
        let mut before: Option<BTreeMap<Status, usize>> = None;
        watch(&mut begin(29, size), time, 15 * SECOND, |fleet, now| {
            let after = count_by_status(fleet);
            for (status, count) in &after {
                let jump = before.as_ref().map_or(0, |before| before[status].abs_diff(*count));
                assert!(jump <= most, "{status} of {size} jumps by {jump} at {now:?}");
            }
            before = Some(after);
        });
    }
}

#[test]
fn ids_are_reused() {
    let mut created: HashMap<String, BTreeSet<Timestamp>> = HashMap::new();
    for (_, fleet) in DAY_OF_500.first(DAY / 4) {
        for job in fleet.jobs() {
            created.entry(job.id.clone()).or_default().insert(job.created_at);
        }
    }
    let again = created.values().filter(|times| times.len() > 1).count();
    assert!(again > 3, "{again}");
}

#[test]
fn some_deletions_take_seconds_and_some_take_long() {
    let (mut begun, mut took): (HashMap<String, Timestamp>, Vec<Duration>) = Default::default();
    watch(&mut begin(37, 2000), DAY / 4, 5 * SECOND, |fleet, now| {
        let deleting: BTreeSet<&str> =
            fleet.jobs_after(None, Some(&Status::DeletionInProgress)).map(|job| job.id.as_str()).collect();
        took.extend(begun.extract_if(|id, _| !deleting.contains(id.as_str())).map(|(_, begun)| now.since(begun)));
        for id in deleting {
            begun.entry(id.to_owned()).or_insert(now);
        }
    });
    assert!(took.iter().any(|time| *time < 2 * MINUTE), "{took:?}");
    assert!(took.iter().any(|time| *time > 20 * MINUTE), "{took:?}");
}

#[test]
fn groups_are_created_and_deleted_and_new_jobs_target_existing_ones() {
    let mut names: BTreeSet<Vec<String>> = BTreeSet::new();
    for (now, fleet) in DAY_OF_500.first(DAY / 2) {
        names.insert(fleet.groups().map(|group| group.name.clone()).collect());
        for job in fleet.jobs().filter(|job| now.since(job.created_at) < SECOND) {
            assert!((1..=100).contains(&job.targets.len()), "{job:?}");
        }
        for group in fleet.groups() {
            assert!(group.parent.as_deref().is_none_or(|parent| fleet.group(parent).is_some()), "{group:?}");
        }
    }
    let sizes: BTreeSet<usize> = names.iter().map(Vec::len).collect();
    assert!(sizes.len() > 2, "{sizes:?}");
}

#[test]
fn at_a_higher_pace_a_similar_day_takes_a_minute() {
    let (mut fleet, mut lifecycle) = Lifecycle::begin(43, 500, pace(1440), START);
    let day = std::iter::from_fn(|| Some(lifecycle.advance(&mut fleet, START.after(MINUTE)))).take_while(|n| *n > 0);
    let (fast, real): (usize, usize) = (day.sum(), DAY_OF_500.events);
    assert!(fast * 2 > real && real * 2 > fast, "{fast} and {real} events");
    let (now, fleet) = DAY_OF_500.first(DAY).last().expect("the end of the day");
    let newest = fleet.jobs().map(|job| job.created_at).max();
    assert!(newest.is_some_and(|time| now.since(time) < 5 * MINUTE), "times are the caller's");
}

#[test]
fn a_call_returns_at_the_highest_pace() {
    let (mut fleet, mut lifecycle) = Lifecycle::begin(47, 500, NonZeroU32::MAX, START);
    assert_eq!(lifecycle.advance(&mut fleet, START.after(DAY)), MAX_EVENTS);
    for job in fleet.jobs() {
        assert_fits(job);
    }
}

#[test]
fn jobs_changed_by_others_are_skipped_and_replaced() {
    let (mut fleet, mut lifecycle) = begin(53, 200);
    let open: Vec<String> = fleet.jobs().filter(|job| job.status.is_open()).map(|job| job.id.clone()).collect();
    for (n, id) in open.iter().enumerate() {
        match n % 3 {
            0 => drop(fleet.remove_job(id)),
            1 => drop(fleet.add_job(Job::new(id.clone(), Status::InProgress, START))),
            _ => drop(fleet.update_job(id, |job| job.status = Status::Unknown("NEW".into()))),
        }
    }
    lifecycle.advance(&mut fleet, START.after(DAY));
    for (n, id) in open.iter().enumerate() {
        match n % 3 {
            1 => assert_eq!(fleet.job(id), Some(&Job::new(id.clone(), Status::InProgress, START))),
            2 => assert_eq!(fleet.job(id).map(|job| job.status.as_str()), Some("NEW")),
            _ => {}
        }
    }
    assert!(fleet.jobs().filter(|job| job.status.is_open() && job.created_at > START).count() > 20);
}

const REGION: &str = "eu-west-1";
const KEY: &str = "AKIASIMULATED0000001";

fn account() -> AccountId {
    AccountId::parse("111122223333").expect("12 digits")
}

fn living(seed: u64, size: usize) -> Simulator {
    let simulator = Simulator::new();
    simulator.add_access_key(&account(), KEY);
    let (fleet, lifecycle) = begin(seed, size);
    simulator.set_fleet_with_lifecycle(&account(), REGION, fleet, lifecycle);
    simulator
}

/// One page of `ListJobs`, and the token of the next.
fn page(simulator: &Simulator, query: &str, now: Timestamp) -> (Vec<Value>, Option<String>) {
    let scope = format!("Credential={KEY}/20260725/{REGION}/iot/aws4_request");
    let authorization = format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0");
    let request = ::http::Request::get(format!("/jobs?{query}")).header("authorization", authorization);
    let request: Request = request.body(Bytes::new()).expect("a request");
    let answer: Value = serde_json::from_slice(simulator.answer(&request, now).body()).expect("JSON");
    let jobs = answer["jobs"].as_array().expect("a list of jobs").clone();
    (jobs, answer["nextToken"].as_str().map(str::to_owned))
}

/// The jobs of a fleet with their positions: an id with another status or creation time counts as another job.
fn places(simulator: &Simulator) -> BTreeSet<(String, Status, Timestamp)> {
    simulator.with_fleet(&account(), REGION, |fleet| {
        fleet.jobs().map(|job| (job.id.clone(), job.status.clone(), job.created_at)).collect()
    })
}

#[test]
fn a_job_that_keeps_its_position_is_listed_exactly_once_in_a_walk() {
    for seed in 0..8 {
        let (simulator, mut now) = (living(seed, 400), START);
        let mut stayed = places(&simulator);
        let (mut seen, mut query): (HashMap<String, usize>, String) = (HashMap::new(), "maxResults=9".to_owned());
        loop {
            let (jobs, token) = page(&simulator, &query, now);
            for job in jobs {
                *seen.entry(job["jobId"].as_str().expect("an id").to_owned()).or_default() += 1;
            }
            let here = places(&simulator);
            stayed.retain(|place| here.contains(place));
            let Some(token) = token else { break };
            query = format!("maxResults=9&nextToken={token}");
            now = now.after(7 * SECOND);
        }
        assert!(stayed.len() > 200 && stayed.len() < 400, "{} jobs stayed", stayed.len());
        for (id, ..) in stayed {
            assert_eq!(seen.get(&id), Some(&1), "{id}");
        }
    }
}

#[test]
fn every_request_sees_the_fleet_at_its_own_time() {
    let simulator = living(1, 100);
    let all = |now| page(&simulator, "maxResults=250", now).0;
    let before = all(START);
    assert_eq!(all(START), before);
    let after = all(START.after(HOUR));
    assert_ne!(after, before);
    assert_eq!(all(START), after, "a clock that is set back undoes nothing");
    assert_eq!(simulator.requests(Operation::ListJobs), 4);
    let walked = u64::try_from(after.len()).expect("a page");
    assert_eq!(simulator.truth(&account(), REGION).values().sum::<u64>(), walked);
}

#[test]
fn set_fleet_removes_the_lifecycle() {
    let simulator = living(1, 100);
    simulator.set_fleet(&account(), REGION, Fleet::seeded(1, 100, START));
    assert_eq!(page(&simulator, "", START), page(&simulator, "", START.after(DAY)));
}
