//! Generates fleets from a seed, with the proportions of real accounts: thousands of ended jobs, because AWS keeps
//! them for up to 730 days, and some dozens of open ones, because quotas limit those.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use crate::jobs::{ExecutionStatus, Status, Timestamp};

use super::executions::Executions;
use super::fleet::{Fleet, Job, Scheduling, Target, Texts, ThingGroup};
use super::json::uuid_from;
use super::window::HourlyWindow;

pub(super) const MINUTE: Duration = Duration::from_mins(1);
pub(super) const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// How long AWS keeps a job after it has ended (AWS IoT quotas, 2020).
const RETENTION: Duration = Duration::from_hours(730 * 24);

/// The largest number of open jobs: AWS limits them to some hundreds. One in twenty is being deleted, so this also
/// respects the limit of ten deletions at a time.
const MAX_OPEN: usize = 200;

const REGIONS: [&str; 3] = ["amer", "apac", "emea"];
const PRODUCTS: [&str; 4] = ["charger", "gateway", "pump", "sensor"];

/// Groups across regions. The colon tests that names may contain one.
const RINGS: [&str; 3] = ["ring:canary", "ring:early", "ring:broad"];

/// The namespace of Greengrass deployments, from the MQTT topics of the Greengrass nucleus.
const GREENGRASS_NAMESPACE: &str = "aws-gg-deployment";

/// The number of different target lists. Jobs often share their targets.
const TARGET_LISTS: usize = 200;

/// AWS requires a job's start and end to be this far in the future at its creation (API reference,
/// `SchedulingConfig`).
pub(super) const NOTICE: Duration = Duration::from_mins(30);

/// The kinds of open jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobKind {
    /// A SNAPSHOT job that makes progress.
    RollingOut,
    /// A SNAPSHOT job that waits for offline devices.
    Stuck,
    /// A CONTINUOUS job, which stays in progress by design.
    Continuous,
    /// A CONTINUOUS job with open executions that do not progress.
    Stalled,
    /// Starts in the future.
    Scheduled,
    /// Its start time is over, but it has not started.
    Overdue,
    /// Runs in its maintenance windows, and is `SCHEDULED` between them.
    Windowed,
    /// A SNAPSHOT job with executions that have been in progress for hours.
    Hanging,
    /// A SNAPSHOT job with a third of its executions failed.
    Failing,
    /// Being deleted.
    Deleting,
}

impl JobKind {
    /// The number of kinds.
    pub(super) const COUNT: usize = Self::Deleting as usize + 1;
}

/// The kinds in the proportions of a fleet. A small fleet has the first few.
const PROPORTIONS: [JobKind; 22] = [
    JobKind::RollingOut,
    JobKind::Continuous,
    JobKind::Stuck,
    JobKind::Scheduled,
    JobKind::RollingOut,
    JobKind::Windowed,
    JobKind::Continuous,
    JobKind::Deleting,
    JobKind::RollingOut,
    JobKind::Overdue,
    JobKind::Stalled,
    JobKind::RollingOut,
    JobKind::Continuous,
    JobKind::Scheduled,
    JobKind::RollingOut,
    JobKind::Windowed,
    JobKind::RollingOut,
    JobKind::Stuck,
    JobKind::RollingOut,
    JobKind::Continuous,
    JobKind::Hanging,
    JobKind::Failing,
];

/// How jobs ended during the last days. Every fleet with enough ended jobs has each of these; the rest is random.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// COMPLETED, and every execution succeeded.
    Clean,
    /// COMPLETED, and one in twelve failed.
    SomeFailures,
    /// COMPLETED, and every second one failed.
    ManyFailures,
    /// A rollout to a few devices first: 4 of 4 failed.
    FailedCanary,
    /// CANCELED by AWS, because the executions met the abort criteria.
    Aborted,
    /// CANCELED by an operator, because a newer version is out.
    Superseded,
}

const RECENT_ENDINGS: [Ending; 10] = [
    Ending::Clean,
    Ending::FailedCanary,
    Ending::Aborted,
    Ending::SomeFailures,
    Ending::Clean,
    Ending::ManyFailures,
    Ending::Superseded,
    Ending::Clean,
    Ending::SomeFailures,
    Ending::Clean,
];

/// The age of the first of [`RECENT_ENDINGS`], and their distance.
const RECENT_SPACING: Duration = Duration::from_hours(14);

impl Fleet {
    /// A fleet of `size` jobs and their groups, as it could be at the time `now`. The same arguments always give the
    /// same fleet.
    ///
    /// Half of a small fleet is open, and some 60 to 200 jobs of a large one. The rest was completed or canceled
    /// during the last 730 days, ten of them during the last week, with every kind of result. The execution counts of
    /// each job fit its status.
    #[must_use]
    pub fn seeded(seed: u64, size: usize, now: Timestamp) -> Self {
        Seeded::new(seed, size, NonZeroU32::MIN, now).fleet
    }
}

/// A seeded fleet, and what its lifecycle needs.
pub(super) struct Seeded {
    pub(super) fleet: Fleet,
    /// The id of each open job, and its kind.
    pub(super) open: Vec<(String, JobKind)>,
    pub(super) generator: JobGenerator,
}

impl Seeded {
    pub(super) fn new(seed: u64, size: usize, pace: NonZeroU32, now: Timestamp) -> Self {
        let (mut generator, groups) = JobGenerator::new(seed, pace, now);
        let (mut kinds, mut endings, mut open) = (open_kinds(size), RECENT_ENDINGS.into_iter(), Vec::new());
        let mut recent = now;
        // Added one by one, to avoid a second copy of a million jobs.
        let jobs = (0..size).map(|_| match kinds.next() {
            Some(kind) => {
                let job = generator.open(kind, now);
                open.push((job.id.clone(), kind));
                job
            }
            None => match endings.next() {
                Some(ending) => {
                    recent = recent.before(RECENT_SPACING);
                    generator.ended_recently(ending, recent)
                }
                None => generator.ended(now),
            },
        });
        Self { fleet: Fleet::new(jobs, groups), open, generator }
    }
}

/// The kinds of the open jobs of a fleet of `size` jobs.
fn open_kinds(size: usize) -> impl Iterator<Item = JobKind> {
    let open = (size / 2).min(60 + size / 1000).min(MAX_OPEN);
    PROPORTIONS.into_iter().cycle().take(open)
}

/// Generates jobs and groups, with variations.
pub(super) struct JobGenerator {
    rng: Rng,
    pace: NonZeroU32,
    /// The number of jobs generated so far.
    jobs: usize,
    group_names: Vec<String>,
    /// The target lists. Jobs share them.
    target_lists: Vec<Arc<[Target]>>,
    texts: HashMap<(&'static str, Style, Written), Arc<Texts>>,
}

/// The origin of a job, which shows in its id.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Style {
    Greengrass,
    FreeRtos,
    Plain,
}

impl Style {
    /// The team that owns jobs of this style.
    fn team(self) -> &'static str {
        match self {
            Self::Greengrass => "edge",
            Self::FreeRtos => "firmware",
            Self::Plain => "operations",
        }
    }
}

/// The state of a job when its texts were written.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Written {
    AtCreation,
    AtCancellation,
}

impl JobGenerator {
    pub(super) fn new(seed: u64, pace: NonZeroU32, now: Timestamp) -> (Self, Vec<ThingGroup>) {
        let rng = Rng::with_seed(seed);
        let (group_names, target_lists) = (Vec::new(), Vec::new());
        let mut generator = Self { rng, pace, jobs: 0, group_names, target_lists, texts: HashMap::new() };
        let long_ago = now.before(RETENTION + DAY);
        let mut groups: Vec<ThingGroup> =
            REGIONS.into_iter().chain(RINGS).map(|name| generator.group(name, None, long_ago)).collect();
        for region in REGIONS {
            let in_region = |product| generator.group(&format!("{region}-{product}s"), Some(region), long_ago);
            groups.extend(PRODUCTS.map(in_region));
        }
        generator.target_lists = (0..TARGET_LISTS).map(|_| generator.target_list()).collect();
        (generator, groups)
    }

    fn group(&mut self, name: &str, parent: Option<&str>, created_at: Timestamp) -> ThingGroup {
        self.group_names.push(name.to_owned());
        ThingGroup {
            name: name.to_owned(),
            id: uuid_from(self.rng.u128(..)),
            parent: parent.map(str::to_owned),
            description: Some(format!("Simulated devices of {name}")),
            created_at,
        }
    }

    /// A new group of a product in a region. Jobs target it from now on. Its name may already exist.
    pub(super) fn new_group(&mut self, now: Timestamp) -> ThingGroup {
        let (region, product) = (self.pick(&REGIONS), self.pick(&PRODUCTS));
        let parent = format!("{region}-{product}s");
        let name = format!("{parent}-line-{}", self.rng.u8(1..=9));
        self.forget_group(&name);
        let lists = [Target::ThingGroup(name.clone())].into();
        self.target_lists.push(lists);
        self.group(&name, Some(&parent), now)
    }

    /// No job targets this group from now on.
    pub(super) fn forget_group(&mut self, name: &str) {
        let is_it = |target: &Target| matches!(target, Target::ThingGroup(group) if group == name);
        self.group_names.retain(|known| known != name);
        self.target_lists.retain(|targets| !targets.iter().any(is_it));
    }

    fn open(&mut self, kind: JobKind, now: Timestamp) -> Job {
        match kind {
            JobKind::RollingOut => self.rolling_out(now),
            JobKind::Stuck => self.stuck(now),
            JobKind::Continuous => self.continuous(now),
            JobKind::Stalled => self.stalled(now),
            JobKind::Scheduled => {
                let start = now.after(self.ahead(2 * MINUTE, 4 * HOUR));
                self.scheduled(now, start)
            }
            JobKind::Overdue => {
                let start = now.before(self.between(HOUR / 4, 3 * HOUR));
                self.scheduled(now, start)
            }
            JobKind::Windowed => self.windowed(now),
            JobKind::Hanging => self.hanging(now),
            JobKind::Failing => self.failing(now),
            JobKind::Deleting => self.deleting(now),
        }
    }

    fn ended(&mut self, now: Timestamp) -> Job {
        let completed_at = now.before(self.between(Duration::ZERO, RETENTION));
        let created_at = completed_at.before(self.between(HOUR / 4, 14 * DAY));
        let things = self.things();
        if self.one_in(6) {
            return self.canceled(created_at, things).updated(completed_at);
        }
        let mut job = self.job(Status::Completed, created_at);
        job.executions = self.finished(things);
        if self.one_in(10) {
            let end_time = Some(completed_at);
            let scheduling = Scheduling { end_time, end_behavior: Some("CANCEL".to_owned()), ..Scheduling::default() };
            job = job.continuous().scheduled(scheduling);
        }
        job.updated(completed_at)
    }

    fn ended_recently(&mut self, ending: Ending, completed_at: Timestamp) -> Job {
        let status = match ending {
            Ending::Aborted | Ending::Superseded => Status::Canceled,
            _ => Status::Completed,
        };
        let created_at = completed_at.before(self.between(HOUR, 20 * HOUR));
        let things = if matches!(ending, Ending::FailedCanary) { 4 } else { self.rng.u32(120..=1200) };
        let mut job = self.job(status, created_at);
        if matches!(ending, Ending::Aborted) {
            // AWS sets no reason here.
            job.texts = Arc::new(Texts { reason_code: None, comment: None, ..Texts::clone(&job.texts) });
            job.abort_percent = 20;
        }
        let (failed, canceled) = match ending {
            Ending::Clean => (0, 0),
            Ending::SomeFailures => (things / 12, 0),
            Ending::ManyFailures => (things / 2, 0),
            Ending::FailedCanary => (things, 0),
            Ending::Aborted => (things / 5, things / 2),
            Ending::Superseded => (things / 100, things / 3),
        };
        job.with_executions(ExecutionStatus::Succeeded, things - failed - canceled)
            .with_executions(ExecutionStatus::Failed, failed)
            .with_executions(ExecutionStatus::Canceled, canceled)
            .updated(completed_at)
    }

    /// Without force, executions in progress continue, so some of them may never end.
    fn canceled(&mut self, created_at: Timestamp, things: u32) -> Job {
        let mut job = self.job(Status::Canceled, created_at);
        job.force_canceled = self.one_in(3);
        let canceled = self.rng.u32(1..=things);
        job.executions = self.finished(things - canceled);
        let in_progress = u32::from(!job.force_canceled && self.one_in(10));
        let already = job.executions.get(ExecutionStatus::Canceled);
        job.with_executions(ExecutionStatus::Canceled, already + canceled - in_progress)
            .with_executions(ExecutionStatus::InProgress, in_progress)
    }

    fn rolling_out(&mut self, now: Timestamp) -> Job {
        let age = self.between(HOUR / 12, DAY);
        let mut job = self.job(Status::InProgress, now.before(age));
        job.is_concurrent = self.rng.bool();
        let (done, things) = (self.things(), self.things());
        job.executions = self.finished(done);
        let in_progress = self.rng.u32(1..=things);
        let job = job
            .with_executions(ExecutionStatus::InProgress, in_progress)
            .with_executions(ExecutionStatus::Queued, things - in_progress);
        let since = self.between(Duration::ZERO, age);
        job.updated(now.before(since))
    }

    fn stuck(&mut self, now: Timestamp) -> Job {
        let age = self.between(2 * DAY, 60 * DAY);
        let mut job = self.job(Status::InProgress, now.before(age));
        let done = self.things();
        job.executions = self.finished(done);
        let offline = self.rng.u32(1..=5);
        job.with_executions(ExecutionStatus::Queued, offline).updated(now.before(age).after(DAY))
    }

    /// Some devices started hours ago and never report. The others have ended.
    fn hanging(&mut self, now: Timestamp) -> Job {
        let age = self.between(10 * HOUR, 20 * HOUR);
        let mut job = self.job(Status::InProgress, now.before(age));
        let (done, in_progress) = (self.rng.u32(200..=900), self.rng.u32(1..=4));
        job.executions = self.finished(done);
        job.in_progress_timeout_minutes = None;
        job.with_executions(ExecutionStatus::InProgress, in_progress).updated(now.before(age).after(HOUR))
    }

    /// Every third device failed within the last hours, and some are still open.
    fn failing(&mut self, now: Timestamp) -> Job {
        let age = self.between(2 * HOUR, 4 * HOUR);
        let mut job = self.job(Status::InProgress, now.before(age));
        let things = self.rng.u32(60..=240);
        job.executions.set(ExecutionStatus::Succeeded, things);
        job.executions.shift(ExecutionStatus::Succeeded, ExecutionStatus::Failed, things / 3);
        job.executions.shift(ExecutionStatus::Succeeded, ExecutionStatus::TimedOut, things / 30);
        job.with_executions(ExecutionStatus::Queued, things / 10).updated(now.before(HOUR / 4))
    }

    /// Half of them have an end.
    fn continuous(&mut self, now: Timestamp) -> Job {
        let job = self.without_end(now, 0);
        if self.one_in(2) {
            let end = now.after(self.ahead(HOUR / 4, 6 * HOUR));
            return job.scheduled(ending(end));
        }
        job
    }

    fn stalled(&mut self, now: Timestamp) -> Job {
        self.without_end(now, 1)
    }

    /// A CONTINUOUS job with few executions queued, at least `min_queued`.
    fn without_end(&mut self, now: Timestamp, min_queued: u32) -> Job {
        let age = self.between(DAY, 400 * DAY);
        let mut job = self.job(Status::InProgress, now.before(age)).continuous();
        let done = self.things();
        job.executions = self.finished(done);
        let queued = self.rng.u32(min_queued..=3);
        let since = self.between(Duration::ZERO, age);
        job.with_executions(ExecutionStatus::Queued, queued).updated(now.before(since))
    }

    /// No execution is queued before the start.
    fn scheduled(&mut self, now: Timestamp, start: Timestamp) -> Job {
        let created_at = now.before(self.between(4 * HOUR, 14 * DAY));
        with_configs(self.job(Status::Scheduled, created_at).scheduled(starting(start)))
    }

    fn windowed(&mut self, now: Timestamp) -> Job {
        let created_at = now.before(self.between(2 * DAY, 30 * DAY));
        let window = self.window();
        let status = if window.contains(now) { Status::InProgress } else { Status::Scheduled };
        let (done, queued) = (self.things(), self.things());
        let mut job = self.job(status, created_at).scheduled(in_window(created_at.after(HOUR), window));
        job.executions = self.finished(done);
        job.with_executions(ExecutionStatus::Queued, queued).updated(window.last_change(now))
    }

    fn deleting(&mut self, now: Timestamp) -> Job {
        let age = self.between(DAY, 300 * DAY);
        let mut job = self.job(Status::DeletionInProgress, now.before(age));
        let things = self.things();
        job.executions = self.finished(things);
        job.updated(now.before(self.between(Duration::ZERO, HOUR)))
    }

    /// A job that is created `now` and rolls out at once.
    pub(super) fn new_rollout(&mut self, now: Timestamp) -> Job {
        with_configs(self.job(Status::InProgress, now))
    }

    /// A CONTINUOUS job that is created `now`; half of them have an end.
    pub(super) fn new_continuous(&mut self, now: Timestamp) -> Job {
        let job = with_configs(self.job(Status::InProgress, now).continuous());
        if self.one_in(2) {
            let end = now.after(self.ahead(NOTICE, 2 * HOUR));
            return job.scheduled(ending(end));
        }
        job
    }

    /// A job that is created `now` and starts later.
    pub(super) fn new_scheduled(&mut self, now: Timestamp) -> Job {
        let start = now.after(self.ahead(NOTICE, 3 * HOUR));
        with_configs(self.job(Status::Scheduled, now).scheduled(starting(start)))
    }

    /// A job that is created `now` and starts in its first maintenance window.
    pub(super) fn new_windowed(&mut self, now: Timestamp) -> Job {
        let start = now.after(self.ahead(NOTICE, HOUR));
        let window = self.window();
        with_configs(self.job(Status::Scheduled, now).scheduled(in_window(start, window)))
    }

    fn window(&mut self) -> HourlyWindow {
        HourlyWindow { minute: self.rng.u8(0..60), length_in_minutes: self.rng.u8(10..=40) }
    }

    /// A job with an id, targets and texts; the rest has default values.
    fn job(&mut self, status: Status, created_at: Timestamp) -> Job {
        let serial = self.jobs;
        self.jobs += 1;
        let product = self.pick(&PRODUCTS);
        let style = match self.rng.u32(0..10) {
            0..=1 => Style::Greengrass,
            2 => Style::FreeRtos,
            _ => Style::Plain,
        };
        let mut id = match style {
            Style::Greengrass => uuid_from(self.rng.u128(..)),
            Style::FreeRtos => format!("AFR_OTA-{product}-{serial:06}"),
            Style::Plain => format!("{product}-fw-{}-{}-{serial:06}", self.rng.u32(1..6), self.rng.u32(0..40)),
        };
        id.shrink_to_fit();
        let written = if status == Status::Canceled { Written::AtCancellation } else { Written::AtCreation };
        let texts = self.texts.entry((product, style, written));
        let texts = texts.or_insert_with(|| Arc::new(texts_of(product, style, written))).clone();
        let targets = self.rng.choice(&self.target_lists).cloned().unwrap_or_default();
        let in_progress_timeout_minutes = self.one_in(2).then_some(60);
        Job { targets, in_progress_timeout_minutes, texts, ..Job::new(id, status, created_at) }
    }

    /// Mostly one group; sometimes several groups, things and groups, or only things.
    fn target_list(&mut self) -> Arc<[Target]> {
        let (groups, things) = match self.rng.u32(0..10) {
            0..=6 => (1, 0),
            7 => (self.rng.usize(2..=4), 0),
            8 => (1, self.rng.u32(1..=5)),
            _ => (0, self.rng.u32(1..=5)),
        };
        let groups = self.rng.choose_multiple(self.group_names.iter(), groups);
        let mut targets: Vec<Target> = groups.into_iter().map(|name| Target::ThingGroup(name.clone())).collect();
        let first = self.rng.u32(0..100_000);
        targets.extend((first..first + things).map(|number| Target::Thing(format!("device-{number:06}"))));
        targets.into()
    }

    /// The number of devices of a job: 1 to 4096, with a logarithmic distribution.
    pub(super) fn things(&mut self) -> u32 {
        let magnitude = self.rng.u32(0..12);
        self.rng.u32(1 << magnitude..=2 << magnitude)
    }

    /// Executions that have all ended, most of them successfully.
    fn finished(&mut self, things: u32) -> Executions {
        let mut executions = Executions::default();
        executions.set(ExecutionStatus::Succeeded, things);
        for (status, percent) in [
            (ExecutionStatus::Failed, 2),
            (ExecutionStatus::TimedOut, 1),
            (ExecutionStatus::Rejected, 1),
            (ExecutionStatus::Removed, 1),
        ] {
            let count = things * self.rng.u32(0..=percent) / 100;
            executions.shift(ExecutionStatus::Succeeded, status, count);
        }
        executions
    }

    /// A random duration in whole milliseconds, the precision of AWS times.
    fn between(&mut self, shortest: Duration, longest: Duration) -> Duration {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.rng.u64(millis(shortest)..=millis(longest)))
    }

    /// A random duration divided by the pace of the fleet. Never zero, so time always advances.
    pub(super) fn ahead(&mut self, shortest: Duration, longest: Duration) -> Duration {
        (self.between(shortest, longest) / self.pace.get()).max(Duration::from_millis(1))
    }

    pub(super) fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(0..n) == 0
    }

    pub(super) fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        self.rng.choice(from).copied().unwrap_or_default()
    }
}

/// Gives every third job retries, and every second one abort criteria. Only for jobs without executions: those of a
/// seeded job were never retried, and only one seeded job was aborted.
fn with_configs(mut job: Job) -> Job {
    let number = job.times().id;
    job.max_retries = if number.is_multiple_of(3) { 2 } else { 0 };
    job.abort_percent = if number.is_multiple_of(2) { 20 } else { 0 };
    job
}

fn texts_of(product: &str, style: Style, written: Written) -> Texts {
    let mut texts = Texts {
        document_source: Some(format!("https://s3.amazonaws.com/simulated-firmware/{product}.json")),
        tags: [("product", product), ("team", style.team())]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..Texts::default()
    };
    match style {
        Style::Greengrass => texts.namespace_id = Some(GREENGRASS_NAMESPACE.to_owned()),
        Style::FreeRtos | Style::Plain => texts.description = Some(format!("Firmware of {product}s")),
    }
    match written {
        Written::AtCreation => {}
        Written::AtCancellation => explain_cancellation(&mut texts),
    }
    texts
}

/// The texts of a cancellation by an operator.
pub(super) fn explain_cancellation(texts: &mut Texts) {
    texts.reason_code = Some("SUPERSEDED".to_owned());
    texts.comment = Some("A newer version is out".to_owned());
}

fn starting(start: Timestamp) -> Scheduling {
    let start = whole_minute(start);
    Scheduling {
        start_time: Some(start),
        end_time: Some(start.after(7 * DAY)),
        end_behavior: Some("STOP_ROLLOUT".to_owned()),
        maintenance_windows: Vec::new(),
    }
}

fn ending(end: Timestamp) -> Scheduling {
    let (end_time, end_behavior) = (Some(whole_minute(end)), Some("FORCE_CANCEL".to_owned()));
    Scheduling { end_time, end_behavior, ..Scheduling::default() }
}

fn in_window(start: Timestamp, window: HourlyWindow) -> Scheduling {
    let start_time = Some(whole_minute(start));
    Scheduling { start_time, maintenance_windows: vec![window.into()], ..Scheduling::default() }
}

/// The next whole minute. AWS reports schedules in minutes, so an event at any other time would not match its
/// schedule.
fn whole_minute(time: Timestamp) -> Timestamp {
    const MILLIS: i64 = 60_000;
    Timestamp::from_millis(time.as_millis().saturating_add(MILLIS - 1).div_euclid(MILLIS).saturating_mul(MILLIS))
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;

    use crate::jobs::TargetSelection;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_784_986_200_123);

    pub(in crate::simulator) fn has_windows(job: &Job) -> bool {
        job.scheduling.as_ref().is_some_and(|scheduling| !scheduling.maintenance_windows.is_empty())
    }

    /// Checks that the execution counts of a job fit its status.
    #[track_caller]
    pub(in crate::simulator) fn assert_fits(job: &Job) {
        let executions = &job.executions;
        let queued = executions.get(ExecutionStatus::Queued);
        let fits = match job.status {
            Status::Completed => executions.open() == 0 && executions.total() > 0,
            Status::Canceled => queued == 0 && (executions.open() == 0 || !job.force_canceled),
            Status::DeletionInProgress => executions.open() == 0,
            Status::Scheduled if has_windows(job) => executions.get(ExecutionStatus::InProgress) == 0,
            Status::Scheduled => executions.total() == 0,
            Status::InProgress if job.target_selection == TargetSelection::Continuous => true,
            Status::InProgress => executions.open() > 0,
            Status::Unknown(_) => false,
        };
        assert!(fits, "{job:?}");
    }

    fn fleet(size: usize) -> Fleet {
        Fleet::seeded(42, size, NOW)
    }

    #[test]
    fn only_the_same_seed_gives_the_same_fleet() {
        assert!(fleet(500).jobs().eq(fleet(500).jobs()));
        assert!(fleet(500).groups().eq(fleet(500).groups()));
        assert!(!fleet(500).jobs().eq(Fleet::seeded(43, 500, NOW).jobs()));
    }

    #[test]
    fn every_size_is_kept() {
        for size in [0, 1, 2, 19, 1000] {
            assert_eq!(fleet(size).jobs().len(), size);
        }
    }

    #[test]
    fn ended_jobs_dominate_and_open_ones_are_some_dozens() {
        let fleet = fleet(8_000);
        let mut counts: HashMap<(Status, TargetSelection), usize> = HashMap::new();
        for job in fleet.jobs() {
            *counts.entry((job.status.clone(), job.target_selection.clone())).or_default() += 1;
        }
        let of =
            |status: &Status| counts.iter().filter(|((found, _), _)| found == status).map(|(_, n)| n).sum::<usize>();
        assert!(of(&Status::Completed) > of(&Status::Canceled) && of(&Status::Canceled) > 500, "{counts:?}");
        assert!((40..=200).contains(&of(&Status::InProgress)), "{counts:?}");
        assert!(of(&Status::Scheduled) > 0, "{counts:?}");
        assert!((1..=10).contains(&of(&Status::DeletionInProgress)), "{counts:?}");
        for selection in TargetSelection::KNOWN {
            assert!(counts.contains_key(&(Status::InProgress, selection.clone())), "{counts:?}");
        }
    }

    #[test]
    fn no_more_than_ten_jobs_are_being_deleted_in_the_largest_fleet() {
        let deleting = open_kinds(usize::MAX).filter(|kind| *kind == JobKind::Deleting).count();
        assert!((1..=10).contains(&deleting), "{deleting}");
    }

    #[test]
    fn execution_counts_fit_the_status() {
        for job in fleet(8_000).jobs() {
            assert_fits(job);
        }
    }

    #[test]
    fn a_job_with_windows_is_in_progress_in_them_only() {
        for job in fleet(8_000).jobs().filter(|job| has_windows(job)) {
            let window = HourlyWindow::of(job).expect("an hourly window");
            assert_eq!(job.status == Status::InProgress, window.contains(NOW), "{job:?}");
        }
    }

    #[test]
    fn times_are_in_order_and_none_is_in_the_future() {
        for job in fleet(8_000).jobs() {
            assert!(job.created_at <= job.last_updated_at && job.last_updated_at <= NOW, "{job:?}");
            let has_ended = matches!(job.status, Status::Completed | Status::Canceled);
            assert_eq!(job.completed_at, has_ended.then_some(job.last_updated_at), "{job:?}");
            assert!(job.completed_at.is_none_or(|at| NOW.since(at) <= RETENTION), "{job:?}");
        }
    }

    #[test]
    fn ids_and_targets_are_valid_in_aws() {
        let fleet = fleet(8_000);
        for job in fleet.jobs() {
            let well_formed = job.id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
            assert!(well_formed && (1..=64).contains(&job.id.len()), "{}", job.id);
            assert!((1..=100).contains(&job.targets.len()), "{job:?}");
            for target in job.targets.iter() {
                assert!(!matches!(target, Target::ThingGroup(name) if fleet.group(name).is_none()), "{job:?}");
            }
        }
        for style in ["AFR_OTA-", "gateway-fw-"] {
            assert!(fleet.jobs().any(|job| job.id.starts_with(style)), "{style}");
        }
        assert!(fleet.jobs().any(|job| job.texts.namespace_id.is_some()), "Greengrass deployments");
    }

    #[test]
    fn the_last_week_has_every_ending() {
        let fleet = fleet(200);
        let is_recent = |job: &&Job| job.completed_at.is_some_and(|at| NOW.since(at) < 7 * DAY);
        let recent: Vec<&Job> = fleet.jobs().filter(is_recent).collect();
        let failed = |job: &Job| u64::from(job.executions.get(ExecutionStatus::Failed)) * 100 / job.executions.total();
        let completed =
            |low, high| recent.iter().any(|job| job.status == Status::Completed && (low..=high).contains(&failed(job)));
        assert!(completed(0, 0) && completed(5, 24) && completed(25, 99) && completed(100, 100), "{recent:?}");
        let is_canceled = |job: &&Job| job.status == Status::Canceled;
        assert!(recent.iter().copied().filter(is_canceled).any(Job::meets_abort_criteria), "{recent:?}");
        assert!(!recent.iter().copied().filter(is_canceled).all(Job::meets_abort_criteria), "{recent:?}");
    }

    #[test]
    fn some_jobs_mix_things_and_groups() {
        let is_mixed = |job: &Job| {
            let groups = job.targets.iter().filter(|target| matches!(target, Target::ThingGroup(_))).count();
            groups > 0 && groups < job.targets.len()
        };
        assert!(fleet(1000).jobs().any(is_mixed));
    }
}
