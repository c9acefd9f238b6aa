//! The soak on the paused clock: thousands of refreshes under faults that come and go, reloads, and a fleet that changes
//! while it is walked over. Each exposition is held against a count that is made from nothing but the pages that were
//! served: the last status of each job of the last walk that came to its end.
//!
//! `SOAK_REFRESHES=10000 cargo test --release --test integration soak -- --nocapture` is the long one, which also watches
//! the memory and the files of the process. Without the variable it is a short one, among all other tests.
//!
//! `benches/soak.py` does the like over sockets, with the program itself.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_iot_jobs_exporter::config::{self, Config, Sources, Target};
use aws_iot_jobs_exporter::http::{Request, StatusCode, header};
use aws_iot_jobs_exporter::jobs::{Status, Timestamp};
use aws_iot_jobs_exporter::simulator::{Fault, Fleet, Job, Operation, Rule, Script};
use serde_json::Value;
use tokio::time::Instant;

use crate::support::{Exporter, Exposition, Fate, NOW, account, simulator as simulated, target, walk_only};

const URL: &str = "http://simulator.test";

/// The targets, by name and region. The last one comes and goes.
const TARGETS: [(&str, &str); 3] = [("a", "eu-west-1"), ("b", "us-east-1"), ("c", "ap-south-1")];

const STALE_AFTER: Duration = Duration::from_mins(5);

/// A walk that came to its end this short a time ago may be on its way to the exposition.
const ON_ITS_WAY: Duration = Duration::from_millis(20);

type Counts = BTreeMap<(String, String), f64>;

/// What was served of one region.
#[derive(Default)]
struct Served {
    /// The walk that is under way: each job's last status and selection.
    walk: HashMap<String, (String, String)>,
    /// The last walks that came to their end, the latest one last.
    whole: VecDeque<(Instant, Counts)>,
}

/// Counts jobs by the pages that reached the exporter. It knows nothing of how the exporter counts.
#[derive(Clone, Default)]
struct Books(Arc<Mutex<HashMap<String, Served>>>);

impl Books {
    fn hear(&self, request: &Request, status: StatusCode, body: &[u8]) {
        if status != StatusCode::OK || request.uri().path() != "/jobs" {
            return;
        }
        // What can't be read as a page is not one.
        let Ok(page) = serde_json::from_slice::<Value>(body) else { return };
        let Some(jobs) = page["jobs"].as_array() else { return };
        let text = |job: &Value, name: &str| job[name].as_str().map(str::to_owned);
        let jobs: Option<Vec<_>> = jobs
            .iter()
            .map(|job| Some((text(job, "jobId")?, (text(job, "status")?, text(job, "targetSelection")?))))
            .collect();
        let Some(jobs) = jobs else { return };
        let mut books = self.0.lock().expect("no test panics in here");
        let served = books.entry(region(request)).or_default();
        if !request.uri().query().unwrap_or_default().contains("nextToken=") {
            served.walk.clear();
        }
        served.walk.extend(jobs);
        if page["nextToken"].as_str().unwrap_or_default().is_empty() {
            let mut counts = Counts::new();
            for of in served.walk.drain().map(|(_, of)| of) {
                *counts.entry(of).or_default() += 1.0;
            }
            served.whole.push_back((Instant::now(), counts));
            if served.whole.len() > 2 {
                served.whole.pop_front();
            }
        }
    }

    fn forget(&self, region: &str) {
        self.0.lock().expect("no test panics in here").remove(region);
    }

    /// What is wrong with what is shown of a target; `None` where nothing is.
    fn fault(&self, shown: &Exposition, target: &str, region: &str) -> Option<String> {
        let rows = shown.family("aws_iot_jobs").filter(|(labels, _)| labels["target"] == target);
        let rows: Vec<_> = rows.map(|(of, n)| ((of["status"].clone(), of["target_selection"].clone()), n)).collect();
        let up = shown.value("aws_iot_jobs_up", &[("target", target)]);
        let is_shown = !rows.is_empty();
        let counts: Counts = rows.into_iter().filter(|(_, n)| *n > 0.0).collect();
        let books = self.0.lock().expect("no test panics in here");
        let whole: Vec<_> = books.get(region).map(|served| served.whole.iter().collect()).unwrap_or_default();
        let Some((ended, latest)) = whole.last() else {
            return is_shown.then(|| format!("{target} is shown, and was never walked over: {counts:?}"));
        };
        let (age, one_before) = (ended.elapsed(), whole.len().checked_sub(2).map(|at| whole[at]));
        if !is_shown {
            let is_right = age + Duration::from_secs(1) > STALE_AFTER || (age < ON_ITS_WAY && one_before.is_none());
            return (!is_right).then(|| format!("{target} is not shown, {age:?} after a whole walk"));
        }
        if up == Some(1.0) && age > STALE_AFTER {
            return Some(format!("{target} is up on data of {age:?} ago"));
        }
        if counts == *latest && age <= STALE_AFTER + Duration::from_secs(1) {
            return None;
        }
        let before = one_before.filter(|_| age < ON_ITS_WAY).map(|(_, counts)| counts);
        (before != Some(&counts)).then(|| format!("{target}, {age:?} after a walk: {counts:?} is shown for {latest:?}"))
    }
}

/// The region that a request was signed for.
fn region(request: &Request) -> String {
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|header| header.to_str().ok());
    authorization.and_then(|text| text.split('/').nth(2)).expect("a signed request").to_owned()
}

/// Lets a fleet change as one does: jobs come, go on, end, and are deleted in the end.
fn change(fleet: &mut Fleet, dice: &mut fastrand::Rng, next_id: &mut u64, now: Timestamp) {
    *next_id += 1;
    let job = Job::new(format!("job-{next_id}"), Status::InProgress, now);
    fleet.add_job(if dice.u8(..4) == 0 { job.continuous() } else { job });
    let ids: Vec<String> = fleet.jobs().map(|job| job.id.clone()).collect();
    for _ in 0..3 {
        let to = [Status::Completed, Status::Canceled, Status::DeletionInProgress, Status::InProgress];
        let to = dice.choice(to).expect("a status");
        fleet.update_job(dice.choice(&ids).expect("a job"), |job| job.status = to);
    }
    if fleet.jobs().len() > 600 || dice.u8(..3) == 0 {
        fleet.remove_job(dice.choice(&ids).expect("a job"));
    }
}

/// What goes wrong, and for how long.
fn weather(dice: &mut fastrand::Rng) -> (Script, Duration) {
    // Fields that are not there are for the properties of the tally: an oracle would have to know all of its rules.
    let odd = [Fault::MissingFields, Fault::NullFields];
    let mild: Vec<Fault> = Fault::ALL.iter().copied().filter(|fault| !odd.contains(fault)).collect();
    let a_while = Duration::from_secs(dice.u64(20..240));
    match dice.u8(..10) {
        0..3 => (Script::default(), a_while),
        3..7 => {
            let rules = (0..3).map(|_| Rule::new(dice.choice(&mild).copied().expect("a fault")).with_chance(0.15));
            let rules: Vec<Rule> = rules.collect();
            (Script { rules, seed: dice.u64(..) }, a_while)
        }
        7 | 8 => {
            let rule = Rule::new(dice.choice(&mild).copied().expect("a fault")).on(Operation::ListJobs);
            (Script::new([rule]), a_while)
        }
        // Long enough for what is shown to be withdrawn.
        _ => (Script::new([Rule::new(Fault::Error503)]), STALE_AFTER * 2),
    }
}

fn refreshes(shown: &Exposition) -> f64 {
    // Those of the target that comes and goes start at nothing each time.
    let rows = shown.family("aws_iot_jobs_exporter_refreshes_total").filter(|(labels, _)| labels["target"] != "c");
    rows.map(|(_, count)| count).sum()
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

#[tokio::test(start_paused = true)]
async fn under_faults_reloads_and_changes_every_exposition_is_one_whole_walk() {
    let wanted: u32 =
        std::env::var("SOAK_REFRESHES").map_or(200, |text| text.parse().expect("SOAK_REFRESHES is a number"));
    let mut dice = fastrand::Rng::with_seed(7);
    let simulator = simulated([]);
    for (_, region) in TARGETS {
        let jobs = (0..500).map(|n| Job::new(format!("{region}-{n}"), Status::Completed, NOW));
        simulator.set_fleet(&account(), region, Fleet::new(jobs, []));
    }
    let state = Mutex::new((fastrand::Rng::with_seed(8), 0_u64));
    simulator.intercept(move |call| {
        let mut state = state.lock().expect("no test panics in here");
        let (dice, next_id) = &mut *state;
        if call.operation == Operation::ListJobs && dice.bool() {
            call.simulator.with_fleet(call.account, call.region, |fleet| change(fleet, dice, next_id, call.now));
        }
        None
    });
    let exporter = Exporter::start(simulator, |config| {
        walk_only(config);
        config.targets = TARGETS.map(of).to_vec();
        config.refresh.stale_after = Some(STALE_AFTER);
        config.limits.max_pages = 50;
    })
    .await;
    let books = Books::default();
    let hearing = books.clone();
    exporter.wire.record(move |request, status, body| hearing.hear(request, status, body));
    let roads = Mutex::new(fastrand::Rng::with_seed(9));
    exporter.wire.decide(move |_| match roads.lock().expect("no test panics in here").u8(..) {
        0 => Fate::Breaks,
        1..20 => Fate::Late(Duration::from_millis(700)),
        _ => Fate::Arrives,
    });

    let environment = vec![("IOT_JOBS_EXPORTER_REFRESH__INTERVAL".to_owned(), "never".to_owned())];
    let problems = config::load(&Sources { environment, ..Sources::default() }).expect_err("no duration");
    let (mut scrapes, mut absent, mut reloads, mut struck, mut is_there) = (0_u64, 0_u64, 0_u32, BTreeMap::new(), true);
    let (mut held, mut last) = (Vec::new(), 0.0);
    let mut next_change = Instant::now();
    while last < f64::from(wanted) {
        tokio::time::sleep(Duration::from_millis(dice.u64(100..5000))).await;
        let shown = exporter.scrape().await;
        scrapes += 1;
        assert!(!has_duplicates(&shown), "{}", shown.text);
        for (name, region) in TARGETS {
            if let Some(fault) = books.fault(&shown, name, region) {
                panic!("after {last} refreshes: {fault}");
            }
            let is_absent = !shown.family("aws_iot_jobs").any(|(labels, _)| labels["target"] == name);
            absent += u64::from(is_absent && (is_there || name != "c"));
        }
        if refreshes(&shown) - last >= f64::from(wanted) / 400.0 {
            held.push(Held::now());
            last = refreshes(&shown);
        }
        if Instant::now() < next_change {
            continue;
        }
        exporter.wire.forget_releases();
        for (fault, times) in exporter.simulator.struck() {
            *struck.entry(fault).or_default() += times;
        }
        let (script, lasts) = weather(&mut dice);
        exporter.simulator.set_script(script);
        next_change = Instant::now() + lasts;
        reloads += 1;
        match dice.u8(..4) {
            0 => assert!(exporter.reload_faulty(problems.clone()).await.is_err()),
            1 => {
                is_there = !is_there;
                books.forget(TARGETS[2].1);
                let change = |config: &mut Config| {
                    config.targets = TARGETS[..if is_there { 3 } else { 2 }].iter().copied().map(of).collect();
                };
                exporter.reload(change).await.expect("a good configuration");
            }
            2 => {
                let interval = Duration::from_secs(dice.u64(20..90));
                exporter.reload(|config| config.refresh.interval = interval).await.expect("a good configuration");
            }
            _ => drop(exporter.reload(|_| {}).await.expect("the same configuration")),
        }
    }
    let (tasks, tasks_at_last) = later_quarters(&held, |held| held.tasks as u64);
    println!(
        "{last} refreshes, {scrapes} expositions right, {absent} times a target withdrawn or not yet there, {reloads} reloads, \
         faults struck: {struck:?}\ntasks: {tasks} at most in the third quarter, {tasks_at_last} in the last"
    );
    assert!(absent > 0 && struck.values().sum::<u64>() > u64::from(wanted) / 10, "nothing went wrong: {struck:?}");
    assert!(tasks_at_last <= tasks + 2, "tasks are left behind: {held:?}");
    // Other tests run in the same process beside a short one.
    if wanted >= 5000 {
        let (memory, memory_at_last) = later_quarters(&held, |held| held.memory);
        let (files, files_at_last) = later_quarters(&held, |held| held.files as u64);
        println!("memory: {memory} KiB, then {memory_at_last}; files: {files}, then {files_at_last}");
        assert!(memory_at_last <= memory + memory / 50, "memory grows from {memory} to {memory_at_last} KiB");
        assert!(files_at_last <= files, "files are left open");
    }
}
