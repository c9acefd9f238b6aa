//! The soak on the paused clock: hundreds of walks and thousands of descriptions under faults that come and go, reloads, and a
//! fleet that changes all the time. Each exposition is judged by the answers that were served ([`oracle`]); in the end, without
//! faults, everything has to equal the simulator's own fleet.
//!
//! `SOAK_OPEN_WALKS=10000 cargo test --release --test integration soak -- --nocapture` is the long one, which also watches the
//! memory and the files of the process. Without the variable it is a short one, among all other tests.
//!
//! `benches/soak.py` does the like over sockets, with the program itself.

mod oracle;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_iot_jobs_exporter::config::{self, Config, Problems, Sources, Target};
use aws_iot_jobs_exporter::jobs::{ExecutionStatus, Status, Timestamp};
use aws_iot_jobs_exporter::simulator::{self, Fault, Fleet, Job, Operation, Rule, Script, Simulator};
use tokio::time::Instant;

use crate::support::{Exporter, Exposition, Fate, NOW, account, simulator as simulated, target};
use oracle::{Books, StaleAfter};

const URL: &str = "http://simulator.test";

/// The targets, by name and region. The last one comes and goes.
const TARGETS: [(&str, &str); 3] = [("a", "eu-west-1"), ("b", "us-east-1"), ("c", "ap-south-1")];

const JOBS: usize = 120;

/// So that a walk has several pages.
const PAGE_SIZE: u32 = 20;

const STALE_AFTER: StaleAfter = StaleAfter {
    open: Duration::from_mins(5),
    ended: Duration::from_mins(12),
    // The default. Without any change, counts that have become stale are withdrawn within a minute.
    details: Duration::from_mins(31),
};

/// Long enough for everything to be withdrawn.
const OUTAGE: Duration = Duration::from_mins(15);

/// A job that has just been created.
fn new_job(id: String, dice: &mut fastrand::Rng, now: Timestamp) -> Job {
    let status = if dice.u8(..4) == 0 { Status::Scheduled } else { Status::InProgress };
    let job = Job::new(id, status, now)
        .with_executions(ExecutionStatus::Queued, dice.u32(1..5))
        .targeting_group(&format!("group-{}", dice.u8(..6)));
    let job = if dice.bool() { job.targeting_group(&format!("group-{}", dice.u8(..6))) } else { job };
    if dice.u8(..4) == 0 { job.continuous() } else { job }
}

/// Lets a fleet change as one does: jobs come, go on, end, are deleted, and an id is used again.
fn change(fleet: &mut Fleet, dice: &mut fastrand::Rng, next_id: &mut u64, now: Timestamp) {
    *next_id += 1;
    fleet.add_job(new_job(format!("job-{next_id}"), dice, now));
    let ids: Vec<String> = fleet.jobs().map(|job| job.id.clone()).collect();
    for _ in 0..3 {
        let id = dice.choice(&ids).expect("a job");
        let Some(job) = fleet.job(id) else { continue };
        let (luck, status) = (dice.u8(..6), job.status.clone());
        match (status, luck) {
            (Status::Scheduled | Status::InProgress, 0 | 1) => {
                fleet.update_job(id, |job| {
                    job.status = if luck == 0 { Status::Completed } else { Status::Canceled };
                    (job.completed_at, job.last_updated_at) = (Some(now), now);
                });
            }
            // A maintenance window opens or closes.
            (status @ (Status::Scheduled | Status::InProgress), 2) => {
                let other = if status == Status::Scheduled { Status::InProgress } else { Status::Scheduled };
                fleet.update_job(id, |job| (job.status, job.last_updated_at) = (other, now));
            }
            (Status::InProgress, _) => {
                fleet.update_job(id, |job| {
                    job.executions.set(ExecutionStatus::InProgress, dice.u32(..5));
                    if luck > 4 {
                        job.last_updated_at = now;
                    }
                });
            }
            (Status::DeletionInProgress, _) | (Status::Completed | Status::Canceled, 0) => drop(fleet.remove_job(id)),
            (Status::Completed | Status::Canceled, 1) => {
                fleet.update_job(id, |job| (job.status, job.last_updated_at) = (Status::DeletionInProgress, now));
            }
            (Status::Completed | Status::Canceled, 2) => drop(fleet.add_job(new_job(id.clone(), dice, now))),
            _ => {}
        }
    }
    while fleet.jobs().len() > JOBS + 30 {
        let ids: Vec<String> = fleet.jobs().map(|job| job.id.clone()).collect();
        fleet.remove_job(dice.choice(&ids).expect("a job"));
    }
}

/// What goes wrong, and for how long.
fn faults(dice: &mut fastrand::Rng) -> (Script, Duration) {
    // Fields that are missing are for the properties of the store: an oracle would have to know all of its rules.
    let odd = [Fault::MissingFields, Fault::NullFields];
    let mild: Vec<Fault> = Fault::ALL.iter().copied().filter(|fault| !odd.contains(fault)).collect();
    let a_while = Duration::from_secs(dice.u64(20..240));
    let fault = |dice: &mut fastrand::Rng| Rule::new(dice.choice(&mild).copied().expect("a fault"));
    match dice.u8(..10) {
        0..3 => (Script::default(), a_while),
        3..7 => {
            let rules: Vec<Rule> = (0..3).map(|_| fault(dice).with_chance(0.15)).collect();
            (Script { rules, seed: dice.u64(..) }, a_while)
        }
        7 => (Script::new([fault(dice).on(Operation::ListJobs)]), a_while),
        8 => (Script::new([fault(dice).on(Operation::DescribeJob)]), a_while * 3),
        _ => (Script::new([Rule::new(Fault::Error503)]), OUTAGE),
    }
}

fn open_walks(shown: &Exposition) -> f64 {
    let runs = shown.family("aws_iot_jobs_exporter_collector_runs_total");
    // Those of the target that comes and goes start at nothing each time.
    let runs = runs.filter(|(labels, _)| labels["collector"] == "open_jobs" && labels["target"] != "c");
    runs.map(|(_, count)| count).sum()
}

/// Counters by series, without those of the target that comes and goes.
fn counters(shown: &Exposition) -> HashMap<String, f64> {
    let is_counter = |series: &str| {
        let name = series.split('{').next().unwrap_or_default();
        ["_total", "_sum", "_count", "_bucket"].iter().any(|end| name.ends_with(end))
            && name != "aws_iot_jobs_exporter_shard_total"
    };
    let lines = shown.text.lines().filter(|line| !line.starts_with('#') && !line.contains("target=\"c\""));
    let series = lines.filter_map(|line| line.rsplit_once(' ')).filter(|(series, _)| is_counter(series));
    series.map(|(series, value)| (series.to_owned(), value.parse().expect("a number"))).collect()
}

fn has_duplicates(shown: &Exposition) -> bool {
    let mut seen = HashSet::new();
    let series = |line: &str| line.rsplit_once(' ').map(|(series, _)| series.to_owned());
    !shown.text.lines().filter(|line| !line.starts_with('#')).filter_map(series).all(|series| seen.insert(series))
}

fn of((name, region): (&str, &str)) -> Target {
    Target { region: Some(region.to_owned()), ..target(name, URL) }
}

/// One look at what the process holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    tasks: usize,
    /// Resident memory, in KiB.
    memory: u64,
    files: usize,
}

impl Held {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
        let memory =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
        Self {
            tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
            memory: memory.expect("VmRSS"),
            files: std::fs::read_dir("/proc/self/fd").expect("Linux").count(),
        }
    }
}

/// The most of it in the third and in the last quarter: what leaks goes on growing.
fn later_quarters(held: &[Held], of: impl Fn(&Held) -> u64) -> (u64, u64) {
    let most = |part: &[Held]| part.iter().map(&of).max().unwrap_or_default();
    (most(&held[held.len() / 2..held.len() * 3 / 4]), most(&held[held.len() * 3 / 4..]))
}

/// Three fleets that change until `stands_still` is set.
fn fleets(stands_still: Arc<AtomicBool>) -> Simulator {
    let simulator = simulated([]);
    let mut dice = fastrand::Rng::with_seed(6);
    for (_, region) in TARGETS {
        let jobs = (0..JOBS).map(|n| {
            let id = format!("{region}-{n}");
            let job = match n % 3 {
                0 => return new_job(id, &mut dice, NOW),
                1 => Job::new(id, Status::Completed, NOW),
                _ => Job::new(id, Status::Canceled, NOW.before(Duration::from_hours(24 * 60))),
            };
            job.targeting_group("group-1")
        });
        simulator.set_fleet(&account(), region, Fleet::new(jobs.collect::<Vec<_>>(), []));
    }
    let state = Mutex::new((fastrand::Rng::with_seed(8), 0_u64));
    simulator.intercept(move |call: &simulator::Call<'_>| {
        let mut state = state.lock().expect("no test panics in here");
        let (dice, next_id) = &mut *state;
        if call.operation == Operation::ListJobs && !stands_still.load(Ordering::Relaxed) && dice.u8(..3) == 0 {
            call.simulator.with_fleet(call.account, call.region, |fleet| change(fleet, dice, next_id, call.now));
        }
        None
    });
    simulator
}

/// What was seen so far.
#[derive(Default)]
struct Soak {
    books: Books,
    scrapes: u64,
    absent: u64,
    counters: HashMap<String, f64>,
    faults: BTreeMap<Fault, u64>,
    reloads: u32,
    has_c: bool,
}

impl Soak {
    /// Looks at one exposition.
    fn look(&mut self, shown: &Exposition) {
        self.scrapes += 1;
        assert!(!has_duplicates(shown), "a series is there twice:\n{}", shown.text);
        for (name, region) in TARGETS {
            let is_there = self.has_c || name != "c";
            if !is_there {
                assert!(!shown.text.contains("target=\"c\""), "c is shown, and no target any more");
                continue;
            }
            let faults = self.books.faults(shown, name, region, STALE_AFTER);
            assert!(faults.is_empty(), "{name} after {} open walks: {faults:#?}", open_walks(shown));
            self.absent += u64::from(!shown.family("aws_iot_jobs").any(|(labels, _)| labels["target"] == name));
        }
        let counters = counters(shown);
        for (series, value) in &self.counters {
            let now = counters.get(series);
            assert!(now.is_some_and(|now| now >= value), "{series} went from {value} to {now:?}");
        }
        self.counters = counters;
    }

    /// Changes something about the configuration, or nothing.
    async fn reload(&mut self, exporter: &Exporter, dice: &mut fastrand::Rng, problems: &Problems) {
        self.reloads += 1;
        match dice.u8(..4) {
            0 => assert!(exporter.reload_faulty(problems.clone()).await.is_err()),
            1 => {
                self.has_c = !self.has_c;
                self.books.forget(TARGETS[2].1);
                let targets = &TARGETS[..if self.has_c { 3 } else { 2 }];
                let change = |config: &mut Config| config.targets = targets.iter().copied().map(of).collect();
                exporter.reload(change).await.expect("a good configuration");
            }
            2 => {
                let interval = Duration::from_secs(dice.u64(20..90));
                let change = |config: &mut Config| config.collectors.open_jobs.interval = interval;
                exporter.reload(change).await.expect("a good configuration");
            }
            _ => drop(exporter.reload(|_| {}).await.expect("the same configuration")),
        }
    }
}

/// Everything that is shown of a target, from the fleet itself: jobs, thing groups of open jobs, and executions.
fn assert_true(shown: &Exposition, exporter: &Exporter, name: &str, region: &str) {
    let of_target = |family: &'static str, labels: &'static [&'static str]| {
        let rows = shown.family(family).filter(|(of, value)| of["target"] == name && *value > 0.0);
        let row = |(of, value): (&crate::support::Labels, f64)| {
            (labels.iter().map(|label| of[*label].clone()).collect::<Vec<String>>(), value)
        };
        rows.map(row).collect::<BTreeMap<Vec<String>, f64>>()
    };
    let (mut jobs, mut groups, mut executions) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    exporter.simulator.with_fleet(&account(), region, |fleet| {
        for job in fleet.jobs() {
            let pair = [job.status.to_string(), job.target_selection.to_string()];
            *jobs.entry(pair.to_vec()).or_default() += 1.0;
            if !job.status.is_open() {
                continue;
            }
            let of_job = job.targets.iter().filter_map(|target| match target {
                simulator::Target::ThingGroup(group) => Some(group.clone()),
                simulator::Target::Thing(_) => None,
            });
            for group in of_job.collect::<HashSet<_>>() {
                *groups.entry([vec![group], pair.to_vec()].concat()).or_default() += 1.0;
            }
            for status in ExecutionStatus::ALL {
                let count = f64::from(job.executions.get(status));
                if count > 0.0 {
                    executions.insert(vec![job.id.clone(), status.as_str().to_owned()], count);
                }
            }
        }
    });
    assert_eq!(of_target("aws_iot_jobs", &["status", "target_selection"]), jobs, "{name}");
    let mut group_rows = of_target("aws_iot_thing_group_jobs", &["thing_group", "status", "target_selection"]);
    group_rows.retain(|row, _| oracle::OPEN_STATUSES.contains(&&*row[1]));
    assert_eq!(group_rows, groups, "{name}");
    assert_eq!(of_target("aws_iot_job_executions", &["job_id", "execution_status"]), executions, "{name}");
}

#[tokio::test(start_paused = true)]
async fn under_faults_reloads_and_changes_every_exposition_is_right_and_the_end_is_the_truth() {
    let wanted: u32 =
        std::env::var("SOAK_OPEN_WALKS").map_or(300, |text| text.parse().expect("SOAK_OPEN_WALKS is a number"));
    let mut dice = fastrand::Rng::with_seed(7);
    let stands_still = Arc::new(AtomicBool::new(false));
    let exporter = Exporter::start(fleets(Arc::clone(&stands_still)), |config| {
        config.targets = TARGETS.map(of).to_vec();
        config.collectors.open_jobs.stale_after = Some(STALE_AFTER.open);
        config.collectors.all_jobs.interval = Duration::from_mins(3);
        config.collectors.all_jobs.stale_after = Some(STALE_AFTER.ended);
        config.limits.max_pages = 50;
    })
    .await;
    exporter.wire.set_page_size(|_| Some(PAGE_SIZE));
    let mut soak = Soak { has_c: true, ..Soak::default() };
    let hearing = soak.books.clone();
    exporter.wire.record(move |request, status, body| hearing.hear(request, status, body));
    let network = Arc::new(Mutex::new(Some(fastrand::Rng::with_seed(9))));
    let fates = Arc::clone(&network);
    exporter.wire.decide(move |_| {
        match fates.lock().expect("no test panics in here").as_mut().map(|dice| dice.u8(..)) {
            Some(0) => Fate::Breaks,
            Some(1..20) => Fate::Late(Duration::from_millis(700)),
            _ => Fate::Arrives,
        }
    });

    let environment = vec![("IOT_JOBS_EXPORTER_COLLECTORS__OPEN_JOBS__INTERVAL".to_owned(), "never".to_owned())];
    let problems = config::load(&Sources { environment, ..Sources::default() }).expect_err("no duration");
    let (mut held, mut walks, mut next_change) = (Vec::new(), 0.0, Instant::now());
    while walks < f64::from(wanted) {
        tokio::time::sleep(Duration::from_millis(dice.u64(100..5000))).await;
        let shown = exporter.scrape().await;
        soak.look(&shown);
        if open_walks(&shown) - walks >= f64::from(wanted) / 400.0 {
            held.push(Held::now());
            walks = open_walks(&shown);
        }
        if Instant::now() < next_change {
            continue;
        }
        exporter.wire.forget_releases();
        soak.books.prune();
        for (fault, times) in exporter.simulator.fault_counts() {
            *soak.faults.entry(fault).or_default() += times;
        }
        let (script, lasts) = faults(&mut dice);
        exporter.simulator.set_script(script);
        next_change = Instant::now() + lasts;
        soak.reload(&exporter, &mut dice, &problems).await;
    }

    // In the end nothing goes wrong and nothing changes any more.
    exporter.simulator.clear_script();
    *network.lock().expect("no test panics in here") = None;
    stands_still.store(true, Ordering::Relaxed);
    let calm = Instant::now();
    while calm.elapsed() < Duration::from_mins(30) {
        tokio::time::sleep(Duration::from_secs(5)).await;
        soak.look(&exporter.scrape().await);
    }
    let shown = exporter.scrape().await;
    for (name, region) in TARGETS.into_iter().filter(|(name, _)| soak.has_c || *name != "c") {
        assert_eq!(shown.value("aws_iot_jobs_up", &[("target", name)]), Some(1.0), "{name}");
        assert_true(&shown, &exporter, name, region);
    }

    let (tasks, tasks_at_last) = later_quarters(&held, |held| held.tasks as u64);
    let Soak { scrapes, absent, reloads, faults, .. } = &soak;
    let described: f64 = shown
        .family("aws_iot_jobs_exporter_collector_runs_total")
        .filter(|(labels, _)| labels["collector"] == "details")
        .map(|(_, runs)| runs)
        .sum();
    println!(
        "{walks} open walks, {described} descriptions, {scrapes} expositions right, {absent} times a target withdrawn or not \
         yet there, {reloads} reloads, faults: {faults:?}\n\
         tasks: {tasks} at most in the third quarter, {tasks_at_last} in the last"
    );
    assert!(*absent > 0 && faults.values().sum::<u64>() > u64::from(wanted) / 10, "nothing went wrong: {faults:?}");
    assert!(tasks_at_last <= tasks + 20, "tasks are left behind: {held:?}");
    // Other tests run in the same process beside a short one.
    if wanted >= 5000 {
        let (memory, memory_at_last) = later_quarters(&held, |held| held.memory);
        let (files, files_at_last) = later_quarters(&held, |held| held.files as u64);
        println!("memory: {memory} KiB, then {memory_at_last}; files: {files}, then {files_at_last}");
        assert!(memory_at_last <= memory + memory / 50, "memory grows from {memory} to {memory_at_last} KiB");
        assert!(files_at_last <= files, "files are left open");
    }
}
