//! Fleets out of a seed, with the proportions of real accounts: ended jobs by the thousands, because AWS keeps them for
//! up to 730 days, and open ones by the dozens, because quotas bound those.

use std::time::Duration;

use fastrand::Rng;

use crate::job::{Status, Timestamp};

use super::fleet::{ExecutionStatus, Executions, Fleet, Job, MaintenanceWindow, Scheduling, Target, ThingGroup};
use super::notation::uuid_from;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// How long AWS keeps a job after it has ended (AWS IoT quotas, 2020).
const RETENTION: Duration = Duration::from_hours(730 * 24);

/// Even the largest fleet has no more open jobs: AWS bounds them by the hundreds. At one deletion in twenty, the ten
/// deletions at a time that AWS allows are kept to as well.
const MAX_OPEN: usize = 200;

const REGIONS: [&str; 3] = ["amer", "apac", "emea"];
const PRODUCTS: [&str; 4] = ["charger", "gateway", "pump", "sensor"];

/// Groups that hold devices across regions. The colon is there because names may have one.
const RINGS: [&str; 3] = ["ring:canary", "ring:early", "ring:broad"];

/// The namespace in which Greengrass keeps its deployments; seen in the MQTT topics of the Greengrass nucleus.
const GREENGRASS_NAMESPACE: &str = "aws-gg-deployment";

/// What kinds of open jobs there are, in the proportions in which a fleet has them.
#[derive(Clone, Copy)]
enum Open {
    /// A SNAPSHOT job that makes progress.
    RollingOut,
    /// A SNAPSHOT job that waits for devices which don't come back.
    Stuck,
    /// A CONTINUOUS job, which stays in progress by design.
    Continuous,
    /// Starts at a time to come.
    Scheduled,
    /// Should have started, and has not.
    Overdue,
    /// Waits for its next maintenance window.
    BetweenWindows,
    /// Runs in its maintenance window.
    InWindow,
    /// Goes away.
    Deleting,
}

const OPEN_KINDS: [Open; 20] = [
    Open::RollingOut,
    Open::Continuous,
    Open::Stuck,
    Open::Scheduled,
    Open::RollingOut,
    Open::BetweenWindows,
    Open::Continuous,
    Open::Deleting,
    Open::RollingOut,
    Open::Overdue,
    Open::InWindow,
    Open::RollingOut,
    Open::Continuous,
    Open::Scheduled,
    Open::RollingOut,
    Open::Continuous,
    Open::RollingOut,
    Open::Stuck,
    Open::RollingOut,
    Open::Continuous,
];

impl Fleet {
    /// A fleet of `size` jobs, and the groups that they target, as it could look at the time `now`. The same arguments
    /// always give the same fleet.
    ///
    /// Half of a small fleet is open, and some 60 to 200 jobs of a large one; the rest was completed or canceled during
    /// the last 730 days. The execution counts of each job fit its status.
    #[must_use]
    pub fn seeded(seed: u64, size: usize, now: Timestamp) -> Self {
        let mut rng = Rng::with_seed(seed);
        let groups = groups(&mut rng, now);
        let mut maker = Maker { rng, now, group_names: groups.iter().map(|group| group.name.clone()).collect() };
        let mut jobs: Vec<Job> = open_kinds(size).enumerate().map(|(serial, kind)| maker.open(serial, kind)).collect();
        jobs.extend((jobs.len()..size).map(|serial| maker.ended(serial)));
        Self::new(jobs, groups)
    }
}

/// The kinds of the open jobs of a fleet of `size` jobs.
fn open_kinds(size: usize) -> impl Iterator<Item = Open> {
    let open = (size / 2).min(60 + size / 1000).min(MAX_OPEN);
    OPEN_KINDS.into_iter().cycle().take(open)
}

fn groups(rng: &mut Rng, now: Timestamp) -> Vec<ThingGroup> {
    let mut groups: Vec<ThingGroup> = REGIONS.into_iter().chain(RINGS).map(ThingGroup::new).collect();
    for region in REGIONS {
        groups.extend(PRODUCTS.map(|product| ThingGroup::new(format!("{region}-{product}s")).within(region)));
    }
    for group in &mut groups {
        group.id = uuid_from(rng.u128(..));
        group.created_at = now.before(RETENTION + DAY);
        group.description = Some(format!("Simulated devices of {}", group.name));
    }
    groups
}

struct Maker {
    rng: Rng,
    now: Timestamp,
    group_names: Vec<String>,
}

impl Maker {
    fn open(&mut self, serial: usize, kind: Open) -> Job {
        match kind {
            Open::RollingOut => self.rolling_out(serial),
            Open::Stuck => self.stuck(serial),
            Open::Continuous => self.continuous(serial),
            Open::Scheduled => {
                let start = self.now.after(self.between(HOUR, 14 * DAY));
                self.scheduled(serial, start)
            }
            Open::Overdue => {
                let start = self.now.before(self.between(HOUR / 4, 3 * HOUR));
                self.scheduled(serial, start)
            }
            Open::BetweenWindows => self.windowed(serial, Status::Scheduled),
            Open::InWindow => self.windowed(serial, Status::InProgress),
            Open::Deleting => self.deleting(serial),
        }
    }

    fn ended(&mut self, serial: usize) -> Job {
        let completed_at = self.now.before(self.between(Duration::ZERO, RETENTION));
        let created_at = completed_at.before(self.between(HOUR / 4, 14 * DAY));
        let things = self.things();
        if self.one_in(6) {
            return self.canceled(serial, created_at, things).updated(completed_at);
        }
        let mut job = self.job(serial, Status::Completed, created_at);
        job.executions = self.finished(things);
        if self.one_in(10) {
            let end_time = Some(completed_at);
            let scheduling = Scheduling { end_time, end_behavior: Some("CANCEL".to_owned()), ..Scheduling::default() };
            job = job.continuous().scheduled(scheduling);
        }
        job.updated(completed_at)
    }

    /// Without force, executions in progress go on, so some of them may never end.
    fn canceled(&mut self, serial: usize, created_at: Timestamp, things: u32) -> Job {
        let mut job = self.job(serial, Status::Canceled, created_at);
        job.force_canceled = self.one_in(3);
        job.reason_code = Some("SUPERSEDED".to_owned());
        job.comment = Some("A newer version is out".to_owned());
        let canceled = self.rng.u32(1..=things);
        job.executions = self.finished(things - canceled);
        let in_progress = u32::from(!job.force_canceled && self.one_in(10));
        let already = job.executions.get(ExecutionStatus::Canceled);
        job.with_executions(ExecutionStatus::Canceled, already + canceled - in_progress)
            .with_executions(ExecutionStatus::InProgress, in_progress)
    }

    fn rolling_out(&mut self, serial: usize) -> Job {
        let age = self.between(HOUR / 12, DAY);
        let mut job = self.job(serial, Status::InProgress, self.now.before(age));
        job.is_concurrent = self.rng.bool();
        let (done, things) = (self.things(), self.things());
        job.executions = self.finished(done);
        let in_progress = self.rng.u32(1..=things);
        let job = job
            .with_executions(ExecutionStatus::InProgress, in_progress)
            .with_executions(ExecutionStatus::Queued, things - in_progress);
        let since = self.between(Duration::ZERO, age);
        job.updated(self.now.before(since))
    }

    fn stuck(&mut self, serial: usize) -> Job {
        let age = self.between(2 * DAY, 60 * DAY);
        let mut job = self.job(serial, Status::InProgress, self.now.before(age));
        let done = self.things();
        job.executions = self.finished(done);
        let offline = self.rng.u32(1..=5);
        job.with_executions(ExecutionStatus::Queued, offline).updated(self.now.before(age).after(DAY))
    }

    fn continuous(&mut self, serial: usize) -> Job {
        let age = self.between(DAY, 400 * DAY);
        let mut job = self.job(serial, Status::InProgress, self.now.before(age)).continuous();
        let done = self.things();
        job.executions = self.finished(done);
        let queued = self.rng.u32(0..=3);
        let since = self.between(Duration::ZERO, age);
        job.with_executions(ExecutionStatus::Queued, queued).updated(self.now.before(since))
    }

    /// Nothing is queued before the start.
    fn scheduled(&mut self, serial: usize, start: Timestamp) -> Job {
        let created_at = self.now.before(self.between(4 * HOUR, 14 * DAY));
        let scheduling = Scheduling {
            start_time: Some(start),
            end_time: Some(start.after(7 * DAY)),
            end_behavior: Some("STOP_ROLLOUT".to_owned()),
            maintenance_windows: Vec::new(),
        };
        self.job(serial, Status::Scheduled, created_at).scheduled(scheduling)
    }

    fn windowed(&mut self, serial: usize, status: Status) -> Job {
        let age = self.between(2 * DAY, 30 * DAY);
        let created_at = self.now.before(age);
        let window = MaintenanceWindow {
            start_time: format!("cron(0 {} ? * * *)", self.rng.u8(0..=5)),
            duration_in_minutes: 60 * self.rng.u32(1..=4),
        };
        let scheduling = Scheduling {
            start_time: Some(created_at.after(HOUR)),
            maintenance_windows: vec![window],
            ..Scheduling::default()
        };
        let (done, queued) = (self.things(), self.things());
        let mut job = self.job(serial, status, created_at).scheduled(scheduling);
        job.executions = self.finished(done);
        job.with_executions(ExecutionStatus::Queued, queued).updated(self.now.before(self.between(HOUR, DAY)))
    }

    fn deleting(&mut self, serial: usize) -> Job {
        let age = self.between(DAY, 300 * DAY);
        let mut job = self.job(serial, Status::DeletionInProgress, self.now.before(age));
        let things = self.things();
        job.executions = self.finished(things);
        job.updated(self.now.before(self.between(Duration::ZERO, HOUR)))
    }

    /// A job with an id, targets and a description, and nothing else that differs from the default.
    fn job(&mut self, serial: usize, status: Status, created_at: Timestamp) -> Job {
        let product = self.pick(&PRODUCTS);
        let style = self.rng.u32(0..10);
        let id = match style {
            0..=1 => uuid_from(self.rng.u128(..)),
            2 => format!("AFR_OTA-{product}-{serial:06}"),
            _ => format!("{product}-fw-{}-{}-{serial:06}", self.rng.u32(1..6), self.rng.u32(0..40)),
        };
        let mut job = Job::new(id, status, created_at);
        job.targets = self.targets();
        job.document_source = Some(format!("https://s3.amazonaws.com/simulated-firmware/{product}.json"));
        match style {
            0..=1 => job.namespace_id = Some(GREENGRASS_NAMESPACE.to_owned()),
            _ => job.description = Some(format!("Firmware of {product}s")),
        }
        job.in_progress_timeout_minutes = self.one_in(2).then_some(60);
        job
    }

    /// Mostly one group; sometimes several groups, things and groups, or things only.
    fn targets(&mut self) -> Vec<Target> {
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
        targets
    }

    /// How many devices a job is for: 1 to 4096, of every magnitude as often as of any other.
    fn things(&mut self) -> u32 {
        let magnitude = self.rng.u32(0..12);
        self.rng.u32(1 << magnitude..=2 << magnitude)
    }

    /// Executions that have all ended, most of them well.
    fn finished(&mut self, things: u32) -> Executions {
        let mut executions = Executions::default();
        executions.set(ExecutionStatus::Succeeded, things);
        for (status, percent) in [
            (ExecutionStatus::Failed, 8),
            (ExecutionStatus::TimedOut, 4),
            (ExecutionStatus::Rejected, 2),
            (ExecutionStatus::Removed, 1),
        ] {
            let count = things * self.rng.u32(0..=percent) / 100;
            executions.shift(ExecutionStatus::Succeeded, status, count);
        }
        executions
    }

    /// A duration of whole milliseconds, which is the precision of AWS' times.
    fn between(&mut self, shortest: Duration, longest: Duration) -> Duration {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.rng.u64(millis(shortest)..=millis(longest)))
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(0..n) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        self.rng.choice(from.iter().copied()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use crate::job::TargetSelection;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_784_986_200_123);

    fn fleet(size: usize) -> Fleet {
        Fleet::seeded(42, size, NOW)
    }

    #[test]
    fn the_same_seed_gives_the_same_fleet_and_another_another() {
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
        let deleting = open_kinds(usize::MAX).filter(|kind| matches!(kind, Open::Deleting)).count();
        assert!((1..=10).contains(&deleting), "{deleting}");
    }

    #[test]
    fn execution_counts_fit_the_status() {
        for job in fleet(8_000).jobs() {
            let executions = job.executions;
            let queued = executions.get(ExecutionStatus::Queued);
            let windows = job.scheduling.as_ref().is_some_and(|scheduling| !scheduling.maintenance_windows.is_empty());
            let fits = match job.status {
                Status::Completed => executions.open() == 0 && executions.total() > 0,
                Status::Canceled => queued == 0 && (executions.open() == 0 || !job.force_canceled),
                Status::DeletionInProgress => executions.open() == 0,
                Status::Scheduled if windows => executions.get(ExecutionStatus::InProgress) == 0,
                Status::Scheduled => executions.total() == 0,
                Status::InProgress if job.target_selection == TargetSelection::Continuous => true,
                Status::InProgress => executions.open() > 0,
                Status::Unknown(_) => false,
            };
            assert!(fits, "{job:?}");
        }
    }

    #[test]
    fn times_are_in_order_and_nothing_is_from_the_future() {
        for job in fleet(8_000).jobs() {
            assert!(job.created_at <= job.last_updated_at && job.last_updated_at <= NOW, "{job:?}");
            let has_ended = matches!(job.status, Status::Completed | Status::Canceled);
            assert_eq!(job.completed_at, has_ended.then_some(job.last_updated_at), "{job:?}");
            assert!(job.completed_at.is_none_or(|at| NOW.since(at) <= RETENTION), "{job:?}");
        }
    }

    #[test]
    fn ids_and_targets_are_ones_that_aws_would_take() {
        let fleet = fleet(8_000);
        for job in fleet.jobs() {
            let well_formed = job.id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
            assert!(well_formed && (1..=64).contains(&job.id.len()), "{}", job.id);
            assert!((1..=100).contains(&job.targets.len()), "{job:?}");
            for target in &job.targets {
                assert!(!matches!(target, Target::ThingGroup(name) if fleet.group(name).is_none()), "{job:?}");
            }
        }
        for style in ["AFR_OTA-", "gateway-fw-"] {
            assert!(fleet.jobs().any(|job| job.id.starts_with(style)), "{style}");
        }
        assert!(fleet.jobs().any(|job| job.namespace_id.is_some()), "Greengrass deployments");
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
