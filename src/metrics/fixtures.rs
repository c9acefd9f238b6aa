//! Targets for tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use tokio::time::Instant;

use super::{
    Collector, ExporterMetrics, Exposition, Failure, Format, Identity, JobSource, ListingState, Published, Reason,
    RunOutcome, Slot, TargetState, TargetStates, WalkState,
};

use crate::jobs::{
    AccountId, CacheState, CacheStates, ExecutionCounts, ExecutionStatus, GroupRow, JobSeries, OpenExecution, Pair,
    Part, ProgressCounts, Status, TargetSelection, Timepoint, Timestamp, WalkStats,
};
use crate::proptests::text;

pub(super) const MINUTE: Duration = Duration::from_mins(1);

pub(super) fn now() -> Timepoint {
    Timepoint { instant: Instant::now(), wall: Timestamp::from_secs(1_790_000_000) }
}

pub(super) fn later(now: Timepoint, time: Duration) -> Timepoint {
    Timepoint { instant: now.instant + time, wall: now.wall.after(time) }
}

pub(super) fn account() -> AccountId {
    AccountId::parse("012345678901").expect("an account")
}

pub(super) fn identity(name: &str) -> Identity {
    Identity { name: name.to_owned(), region: "eu-west-1".to_owned(), labels: Vec::new() }
}

/// A part with this number of jobs of one status.
pub(super) fn part(status: Status, jobs: u64) -> Part {
    Part { jobs: BTreeMap::from([((status, TargetSelection::Snapshot), jobs)]), ..Part::default() }
}

pub(super) fn published(part: Part, collected: Timepoint) -> Published {
    Published { part: Arc::new(part), collected, stale_after: 10 * MINUTE }
}

/// A target with this number of open jobs and of ended jobs, which is up.
pub(super) fn state(jobs: u64, collected: Timepoint) -> TargetState {
    let stats = WalkStats { jobs: usize::try_from(jobs).expect("a count"), ..WalkStats::default() };
    let listing =
        ListingState { is_fresh: true, last_walk: Some(WalkState { pages: 1, stats }), ..ListingState::default() };
    TargetState {
        account: Some(account()),
        open: Some(published(part(Status::InProgress, jobs), collected)),
        ended: Some(published(part(Status::Completed, jobs), collected)),
        open_jobs: listing.clone(),
        all_jobs: Some(listing),
        ..TargetState::default()
    }
}

/// Targets and their exposition.
pub(super) struct Fixture {
    pub(super) states: Arc<TargetStates>,
    pub(super) exposition: Exposition,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let states = Arc::<TargetStates>::default();
        let exporter = Arc::new(ExporterMetrics::new(Vec::new));
        Self { exposition: Exposition::new(Arc::clone(&states), exporter), states }
    }

    pub(super) fn slot(&self, name: &str, state: TargetState) -> Slot {
        self.states.slot(identity(name), JobSource::default(), state)
    }

    pub(super) fn text(&self, now: Timepoint) -> String {
        let body = self.exposition.body(Format::Text, now).into_bytes();
        String::from_utf8(body.to_vec()).expect("UTF-8")
    }
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_millis)
}

fn duration() -> impl Strategy<Value = Duration> {
    (any::<u32>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Duration::new(seconds.into(), nanos))
}

fn label() -> impl Strategy<Value = Arc<str>> {
    text().prop_map(Arc::from)
}

fn pair(is_open: bool) -> impl Strategy<Value = Pair> {
    let known: Vec<Status> = Status::KNOWN.iter().filter(|status| status.is_open() == is_open).cloned().collect();
    let new = text().prop_map(move |text| match Status::label(Some(&text.as_str().into())) {
        status if status.is_open() == is_open => status,
        _ if is_open => Status::InProgress,
        _ => Status::Completed,
    });
    let selection = prop_oneof![
        3 => select(TargetSelection::KNOWN),
        1 => text().prop_map(|text| TargetSelection::label(Some(&text.as_str().into()))),
    ];
    (prop_oneof![3 => select(known), 1 => new], selection)
}

/// The keys of the tags in each state.
const TAG_KEYS: [&str; 2] = ["team", "cost:center"];

fn open_status() -> impl Strategy<Value = ExecutionStatus> {
    select(vec![ExecutionStatus::Queued, ExecutionStatus::InProgress])
}

fn named() -> impl Strategy<Value = OpenExecution> {
    (timestamp(), text(), open_status()).prop_map(|(since, thing, status)| OpenExecution {
        since,
        thing: thing.into(),
        status,
    })
}

/// A job with a unique id.
fn series(is_open: bool) -> impl Strategy<Value = JobSeries> {
    let times = [(); 6].map(|()| option::of(timestamp()));
    let executions = option::of(vec(option::of(0..u32::MAX), 8));
    let flags = [(); 3].map(|()| option::of(any::<bool>()));
    let progress = (option::of(timestamp()), btree_map(open_status(), timestamp(), 0..3), vec(named(), 0..4));
    let tags = option::of(vec(option::of(text()), TAG_KEYS.len()));
    (text(), pair(is_open), times, flags, vec(label(), 0..4), executions, progress, tags).prop_map(
        |(id, pair, times, flags, mut thing_groups, executions, progress, tags)| {
            let [windowed, is_stuck, meets_abort_criteria] = flags;
            let (last_progress, oldest_open, mut named) = progress;
            named.sort_by(|a, b| a.thing.cmp(&b.thing));
            named.dedup_by(|a, b| a.thing == b.thing);
            let [created_at, last_updated_at, completed_at, scheduled_start, scheduled_end, described_at] = times;
            thing_groups.sort();
            thing_groups.dedup();
            let executions = executions.map(|counts| ExecutionCounts::from_fn(|status| counts[status as usize]));
            JobSeries {
                id: id.into(),
                pair,
                created_at,
                last_updated_at,
                completed_at,
                scheduled_start,
                scheduled_end,
                described_at,
                windowed,
                thing_groups,
                executions,
                is_stuck,
                last_progress,
                oldest_open,
                named,
                meets_abort_criteria,
                tags: tags.map(|tags| tags.into_iter().map(|value| value.map(String::into_boxed_str)).collect()),
            }
        },
    )
}

fn any_part(is_open: bool) -> impl Strategy<Value = Part> {
    // Small enough that sums over all samples are exact.
    let counts = || btree_map(pair(is_open), 0..1_u64 << 40, 0..6);
    let oldest = || btree_map(pair(is_open), timestamp(), 0..4);
    let selections = || btree_map(pair(is_open).prop_map(|(_, selection)| selection), any::<u64>(), 0..4);
    let groups = btree_map(
        label(),
        (counts(), oldest()).prop_map(|(jobs, oldest_created)| GroupRow { jobs, oldest_created, stuck: 3 }),
        0..4,
    );
    let jobs = vec(series(is_open), 0..4);
    let progress =
        option::of((selections(), any::<u64>()).prop_map(|(stuck, unknown)| ProgressCounts { stuck, unknown }));
    let selections = (selections(), selections());
    (counts(), oldest(), selections, groups, option::of(any::<u64>()), jobs, any::<u64>(), progress).prop_map(
        move |(
            jobs,
            oldest_created,
            (concurrent, start_overdue),
            thing_groups,
            undescribed,
            mut series,
            omitted_jobs,
            progress,
        )| {
            for (n, job) in series.iter_mut().enumerate() {
                job.id = format!("{is_open}-{n}-{}", job.id).into();
            }
            let (concurrent, start_overdue) =
                if is_open { (concurrent, start_overdue) } else { (BTreeMap::new(), BTreeMap::new()) };
            let progress = progress.filter(|_| is_open);
            Part {
                jobs,
                oldest_created,
                concurrent,
                start_overdue,
                progress,
                thing_groups,
                undescribed,
                series,
                omitted_jobs,
            }
        },
    )
}

fn listing() -> impl Strategy<Value = ListingState> {
    let failure = (select(Reason::ALL), text()).prop_map(|(reason, message)| Failure { reason, message });
    let run = (timestamp(), duration(), option::of(failure));
    let run = run.prop_map(|(at, duration, failure)| RunOutcome { at, duration, failure });
    let walk = (any::<u64>(), any::<[usize; 3]>()).prop_map(|(pages, [jobs, duplicates, malformed])| WalkState {
        pages,
        stats: WalkStats { jobs, duplicates, malformed },
    });
    (duration(), any::<bool>(), option::of(run), option::of(timestamp()), option::of(walk)).prop_map(
        |(interval, is_fresh, last_run, last_success, last_walk)| ListingState {
            interval,
            is_fresh,
            last_run,
            last_success,
            last_walk,
            ..ListingState::default()
        },
    )
}

/// Any state without stale parts at `now`.
pub(super) fn any_state(now: Timepoint) -> impl Strategy<Value = TargetState> {
    let published = move |is_open| option::of(any_part(is_open).prop_map(move |part| published(part, now)));
    let states = || option::of(btree_map(select(CacheState::ALL.to_vec()), any::<u64>(), 0..4));
    let states = (states(), states(), states());
    let states = states.prop_map(|(details, executions, tags)| CacheStates { details, executions, tags });
    let account = option::weighted(0.9, Just(account()));
    let listings = (listing(), option::of(listing()));
    (account, published(true), published(false), any::<u64>(), listings, states).prop_map(
        |(account, open, ended, folded_thing_groups, (open_jobs, all_jobs), states)| TargetState {
            account,
            open,
            ended,
            folded_thing_groups,
            open_jobs,
            all_jobs,
            request_failures: BTreeMap::new(),
            states,
            tag_keys: TAG_KEYS.map(str::to_owned).into(),
        },
    )
}

/// Targets with different names.
pub(super) fn any_targets(now: Timepoint) -> impl Strategy<Value = Vec<(Identity, TargetState)>> {
    let labels = (subsequence(vec!["env", "team", "site_1"], 0..=3), vec(text(), 3)).prop_map(|(names, values)| {
        names.into_iter().zip(values).map(|(name, value)| (name.to_owned(), value)).collect()
    });
    let target = (text(), text(), labels, any_state(now));
    vec(target, 0..4).prop_map(|targets| {
        let target = |(n, (name, region, labels, state))| {
            let name = format!("{n}{name}");
            (Identity { name, region, labels }, state)
        };
        targets.into_iter().enumerate().map(target).collect()
    })
}

/// Increments every counter once.
pub(super) fn count_all(slot: &Slot) {
    let counters = slot.counters();
    for collector in Collector::ALL {
        counters.run_ended(collector);
        counters.run_failed(collector, Reason::Timeout);
    }
    counters.request_ended("ListJobs", Some(Duration::from_millis(70)));
    counters.waited("ListJobs", Duration::from_millis(200));
    counters.credential_request_sent("AssumeRole");
    counters.request_failed("ListJobs", "ThrottlingException");
}
