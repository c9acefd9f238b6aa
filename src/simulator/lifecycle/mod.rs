//! A fleet that changes over time: jobs are created, roll out, finish, get stuck, are canceled, deleted and purged.
//!
//! [`Lifecycle`] is a queue of events. [`Lifecycle::advance`] processes all events that are due, each at its own time,
//! and each can add others. Random numbers are drawn in the order of the events. So the same seed, size, pace and
//! start give the same fleet at any later time, no matter how often `advance` is called.
//!
//! # Time
//! Every time of a job is on the caller's clock, because clients compare it with their own. A higher pace only
//! shortens waits: with a pace of 60, a rollout of ten minutes takes ten seconds. Jobs of the start have the age of
//! jobs in a real account, days and months. Maintenance windows and the precision of schedules (whole minutes) ignore
//! the pace.
//!
//! # What happens
//! - The number of jobs of each [`JobKind`] stays at that of the start: when one ends, another is created soon. Half
//!   of the stuck and of the stalled jobs never progress, and neither do the hanging and failing ones of the start.
//! - A SNAPSHOT job rolls out and is COMPLETED when all its executions have ended. Some are canceled or deleted before
//!   that, and AWS cancels those that meet their abort criteria. Some get stuck, because devices are offline; hours
//!   later the devices return, or an operator cancels the job.
//! - A CONTINUOUS job stays `IN_PROGRESS`. Devices join. Some jobs stall for hours. Some have an end, and are
//!   COMPLETED then; newer ones without an end are canceled at some time.
//! - A SCHEDULED job starts on time, or is overdue for a while, as if too many others ran.
//! - A job with maintenance windows is `IN_PROGRESS` in them, SCHEDULED between them, and COMPLETED after some.
//! - Operators delete ended jobs. Most deletions take a minute, some an hour. At most [`MAX_DELETIONS`] run at a time,
//!   and at least one as long as there are jobs to delete. The id of a deleted job is sometimes reused.
//! - AWS purges the oldest ended jobs, so that the fleet keeps its size. A real account keeps them for 730 days, too
//!   long for a demonstration.
//! - Each change of an execution has its time: queued, started, reported, ended. Every third new job retries failed
//!   executions. Things join CONTINUOUS jobs, some of them again.
//! - Now and then, an operator creates or deletes a thing group.
//!
//! # What AWS does not document, and how the simulator behaves
//! - `lastUpdatedAt` changes with the status, and not with executions.
//! - Open executions disappear when the deletion of their job begins, the others one after the other.
//! - `completedAt` of a job that is being deleted stays.
//! - Executions in progress end before their maintenance window does.
//! - A canceled job is concurrent for some seconds. Later reports of its devices are not simulated.

mod actions;
mod event_queue;
mod rollout;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::jobs::{Status, Timestamp};

use super::fleet::{Fleet, Job};
use super::seeded::{HOUR, JobGenerator, JobKind, MINUTE, Seeded};
use super::window::HourlyWindow;

use actions::notify_first;
use event_queue::EventQueue;
use rollout::{Intervention, PlannedIntervention, Rollout};

/// How many jobs of an account can be `DELETION_IN_PROGRESS` (AWS IoT quotas).
pub(super) const MAX_DELETIONS: usize = 10;

/// The largest number of events in one call of [`Lifecycle::advance`]: those of at least five hours at a pace of 1,
/// and less than 0.1 s of work. It bounds the time of a call after a long wait or at an extreme pace.
const MAX_EVENTS: usize = 100_000;

/// A CONTINUOUS job always has this many steps left.
const LAST_STEPS: u32 = 4;

/// How many ids are kept for reuse.
const MAX_FREE_IDS: usize = 32;

/// The largest number of thing groups that are added to those of the start.
const MAX_NEW_GROUPS: usize = 6;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// The events of one fleet over time: rollouts, schedules, cancellations, deletions, purges. It belongs to the fleet
/// that [`Lifecycle::begin`] returned with it.
///
/// The events depend only on seed, size, pace and start, not on how often [`Lifecycle::advance`] is called.
pub struct Lifecycle {
    /// The target number of jobs.
    size: usize,
    generator: JobGenerator,
    events: EventQueue<Event>,
    wanted: PerKind,
    /// The number of jobs of each kind in the event queue.
    present: PerKind,
    /// The number of jobs of each kind that will be created soon.
    coming: PerKind,
    /// Ended jobs, oldest first, except for the seconds that a cancellation takes. Shared with the fleet, so that each
    /// of a million costs only a pointer. Some may have changed or gone since.
    ended: VecDeque<Arc<Job>>,
    /// Ids of removed jobs.
    free_ids: VecDeque<String>,
    /// Groups that were added since the start, oldest first.
    new_groups: VecDeque<String>,
}

/// A number for each [`JobKind`].
#[derive(Clone, Copy, Debug, Default)]
struct PerKind([usize; JobKind::COUNT]);

impl PerKind {
    fn of(&self, kind: JobKind) -> usize {
        self.0[kind as usize]
    }

    fn of_mut(&mut self, kind: JobKind) -> &mut usize {
        &mut self.0[kind as usize]
    }
}

enum Event {
    /// An operator creates a job of this kind; for [`JobKind::Deleting`], deletes one.
    Create(JobKind),
    /// The next action of a job.
    GoOn(PendingAction),
    /// AWS purges jobs.
    Purge,
    /// An operator creates or deletes a thing group.
    Regroup,
}

/// The next action of a job. Each job is in the event queue at most once.
struct PendingAction {
    id: String,
    /// Ids are reused, so the creation time is part of a job's identity.
    created_at: Timestamp,
    action: Action,
}

enum Action {
    /// A rollout takes its next step.
    RollOut(Rollout),
    /// Offline devices return after a long time, or an operator cancels the job.
    Unstick,
    /// A CONTINUOUS job takes its next step.
    Serve(Rollout),
    /// A stalled job continues.
    Resume(Rollout),
    /// The start time of a scheduled job.
    Start,
    /// The late start of an overdue job.
    StartLate,
    /// A maintenance window opens.
    OpenWindow(Rollout),
    /// A rollout takes its next step in its maintenance window, which may be over.
    StepInWindow(Rollout),
    /// A deletion takes its next step.
    Delete { steps_left: u32, interval: Duration },
    /// A cancellation has reached all devices.
    SettleCancellation,
}

impl Action {
    /// The kind of a job that waits for this action; `None` if it has ended.
    fn kind(&self) -> Option<JobKind> {
        match self {
            Self::RollOut(_) => Some(JobKind::RollingOut),
            Self::Unstick => Some(JobKind::Stuck),
            Self::Serve(_) => Some(JobKind::Continuous),
            Self::Resume(_) => Some(JobKind::Stalled),
            Self::Start => Some(JobKind::Scheduled),
            Self::StartLate => Some(JobKind::Overdue),
            Self::OpenWindow(_) | Self::StepInWindow(_) => Some(JobKind::Windowed),
            Self::Delete { .. } => Some(JobKind::Deleting),
            Self::SettleCancellation => None,
        }
    }

    /// The status of a job that waits for this action.
    fn status(&self) -> Status {
        match self {
            Self::RollOut(_) | Self::Unstick | Self::Serve(_) | Self::Resume(_) | Self::StepInWindow(_) => {
                Status::InProgress
            }
            Self::Start | Self::StartLate | Self::OpenWindow(_) => Status::Scheduled,
            Self::Delete { .. } => Status::DeletionInProgress,
            Self::SettleCancellation => Status::Canceled,
        }
    }
}

impl Lifecycle {
    /// A seeded fleet of `size` jobs as it could be at the time `now`, and its lifecycle, `pace` times faster than in
    /// a real account. An empty fleet stays empty.
    #[must_use]
    pub fn begin(seed: u64, size: usize, pace: NonZeroU32, now: Timestamp) -> (Fleet, Self) {
        let Seeded { mut fleet, open, generator } = Seeded::new(seed, size, pace, now);
        let mut ended: Vec<Arc<Job>> = fleet.shared_jobs().filter(|job| job.has_ended()).cloned().collect();
        ended.sort_by_key(|job| job.completed_at);
        let mut lifecycle = Self {
            size,
            generator,
            events: EventQueue::new(),
            wanted: PerKind::default(),
            present: PerKind::default(),
            coming: PerKind::default(),
            ended: ended.into(),
            free_ids: VecDeque::new(),
            new_groups: VecDeque::new(),
        };
        lifecycle.adopt(&mut fleet, open, now);
        if size > 0 {
            lifecycle.events.insert(now, Event::Purge);
            lifecycle.events.insert(now.after(lifecycle.generator.ahead(MINUTE, 5 * MINUTE)), Event::Regroup);
        }
        (fleet, lifecycle)
    }

    /// The lifecycle of a fleet that only API calls change: the later effects of those calls.
    pub(super) fn at_rest(now: Timestamp) -> Self {
        Self {
            size: usize::MAX,
            generator: JobGenerator::new(0, NonZeroU32::MIN, now).0,
            events: EventQueue::new(),
            wanted: PerKind::default(),
            present: PerKind::default(),
            coming: PerKind::default(),
            ended: VecDeque::new(),
            free_ids: VecDeque::new(),
            new_groups: VecDeque::new(),
        }
    }

    /// Processes the events that are due by `now`. Returns their number: 0 if the fleet is up to date. After a very
    /// long time, the next call continues.
    ///
    /// Jobs that others have changed or removed are skipped.
    pub fn advance(&mut self, fleet: &mut Fleet, now: Timestamp) -> usize {
        for happened in 0..MAX_EVENTS {
            let Some((at, event)) = self.events.take(now) else { return happened };
            self.happen(fleet, event, at);
        }
        MAX_EVENTS
    }

    /// The time of the next event. An empty fleet has none.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        self.events.next()
    }

    /// Adds the jobs of the start to the event queue, at random stages.
    fn adopt(&mut self, fleet: &mut Fleet, open: Vec<(String, JobKind)>, now: Timestamp) {
        let mut kept_still = PerKind::default();
        for (id, kind) in open {
            let Some(job) = fleet.job(&id) else { continue };
            let action = match kind {
                JobKind::Hanging | JobKind::Failing => continue,
                JobKind::Stuck | JobKind::Stalled => {
                    let seen = kept_still.of_mut(kind);
                    *seen += 1;
                    if *seen % 2 == 1 {
                        continue;
                    }
                    if kind == JobKind::Stuck { Action::Unstick } else { Action::Resume(self.rollout(job, 0)) }
                }
                JobKind::RollingOut => {
                    let waiting = if job.is_concurrent { self.generator.things() } else { 0 };
                    let mut rollout = self.rollout(job, waiting);
                    rollout.steps_left = self.generator.rng().u32(2..=rollout.steps_left);
                    Action::RollOut(rollout)
                }
                JobKind::Continuous => Action::Serve(self.rollout(job, 0)),
                JobKind::Scheduled => Action::Start,
                JobKind::Overdue => Action::StartLate,
                JobKind::Windowed => {
                    let rollout = self.slow_rollout(job, 0);
                    let opened = job.status == Status::InProgress;
                    if opened { Action::StepInWindow(rollout) } else { Action::OpenWindow(rollout) }
                }
                JobKind::Deleting => self.deletion(),
            };
            *self.wanted.of_mut(kind) += 1;
            self.plan(job, action, now);
        }
    }

    fn happen(&mut self, fleet: &mut Fleet, event: Event, now: Timestamp) {
        match event {
            Event::Create(kind) => {
                *self.coming.of_mut(kind) -= 1;
                self.create(fleet, kind, now);
                self.keep_going(kind, now);
            }
            Event::GoOn(part) => {
                let kind = part.action.kind();
                if let Some(kind) = kind {
                    *self.present.of_mut(kind) -= 1;
                }
                let is_there = |job: &&Job| job.created_at == part.created_at && job.status == part.action.status();
                if let Some(job) = fleet.job(&part.id).filter(is_there).cloned() {
                    self.go_on(fleet, job, part.action, now);
                }
                if let Some(kind) = kind {
                    self.keep_going(kind, now);
                }
            }
            Event::Purge => {
                self.purge(fleet);
                let pause = self.generator.ahead(10 * SECOND, 20 * SECOND);
                self.events.insert(now.after(pause), Event::Purge);
            }
            Event::Regroup => {
                self.regroup(fleet, now);
                let pause = self.generator.ahead(3 * MINUTE, 8 * MINUTE);
                self.events.insert(now.after(pause), Event::Regroup);
            }
        }
    }

    /// Plans the creation of a job if one of this kind is missing. Jobs that get stuck, stall or are late are not
    /// created as such: others become so.
    fn keep_going(&mut self, kind: JobKind, now: Timestamp) {
        let pause = match kind {
            JobKind::Stuck | JobKind::Stalled | JobKind::Overdue | JobKind::Hanging | JobKind::Failing => return,
            JobKind::RollingOut | JobKind::Continuous | JobKind::Deleting => self.generator.ahead(5 * SECOND, MINUTE),
            // There are few of these, and each kind should always be present.
            JobKind::Scheduled | JobKind::Windowed => self.generator.ahead(SECOND, 5 * SECOND),
        };
        if self.is_missing(kind) {
            *self.coming.of_mut(kind) += 1;
            self.events.insert(now.after(pause), Event::Create(kind));
        }
    }

    fn is_missing(&self, kind: JobKind) -> bool {
        self.present.of(kind) + self.coming.of(kind) < self.wanted.of(kind)
    }

    fn create(&mut self, fleet: &mut Fleet, kind: JobKind, now: Timestamp) {
        let devices = self.generator.things();
        let (mut job, action) = match kind {
            JobKind::RollingOut | JobKind::Stuck | JobKind::Hanging | JobKind::Failing => {
                let mut job = self.generator.new_rollout(now);
                let rollout = self.begin_rollout(&mut job, devices, now);
                (job, Action::RollOut(rollout))
            }
            JobKind::Continuous | JobKind::Stalled => {
                let mut job = self.generator.new_continuous(now);
                let mut rollout = self.rollout(&job, devices);
                // A job with an end is not canceled.
                let has_end = job.scheduling.is_some();
                let cancel = PlannedIntervention { at_steps_left: LAST_STEPS, intervention: Intervention::Cancel };
                rollout.intervention = (!has_end).then_some(cancel);
                notify_first(&mut job, &mut rollout, &mut self.generator, now);
                (job, Action::Serve(rollout))
            }
            JobKind::Scheduled | JobKind::Overdue => (self.generator.new_scheduled(now), Action::Start),
            JobKind::Windowed => {
                let job = self.generator.new_windowed(now);
                let rollout = self.slow_rollout(&job, devices);
                (job, Action::OpenWindow(rollout))
            }
            JobKind::Deleting => return self.delete_one_that_ended(fleet, now),
        };
        if self.generator.one_in(4)
            && let Some(id) = self.free_ids.pop_front()
            && fleet.job(&id).is_none()
        {
            job.id = id;
        }
        self.plan(&job, action, now);
        fleet.add_job(job);
    }

    /// Adds the next action of `job` to the event queue.
    fn plan(&mut self, job: &Job, action: Action, now: Timestamp) {
        let generator = &mut self.generator;
        let soon = match &action {
            Action::RollOut(rollout) | Action::StepInWindow(rollout) => now.after(rollout.interval),
            Action::Serve(_) => now.after(generator.ahead(10 * SECOND, MINUTE)),
            Action::Unstick => now.after(generator.ahead(HOUR, 12 * HOUR)),
            Action::Resume(_) => now.after(generator.ahead(HOUR, 6 * HOUR)),
            Action::StartLate => now.after(generator.ahead(HOUR / 4, 3 * HOUR)),
            Action::Start | Action::OpenWindow(_) => now,
            Action::Delete { interval, .. } => now.after(*interval),
            Action::SettleCancellation => now.after(generator.ahead(5 * SECOND, MINUTE / 2)),
        };
        let schedule = job.scheduling.as_deref();
        let at = match (&action, HourlyWindow::of(job)) {
            (Action::Start, _) => schedule.and_then(|schedule| schedule.start_time).unwrap_or(soon),
            (Action::Serve(_), _) => schedule.and_then(|schedule| schedule.end_time).map_or(soon, |end| end.min(soon)),
            (Action::OpenWindow(_), Some(window)) => {
                // A window that opens at the very start is not missed.
                let just_before_start =
                    schedule.and_then(|schedule| schedule.start_time).map(|start| start.before(MILLISECOND));
                window.next_opening(just_before_start.map_or(now, |start| start.max(now)))
            }
            (Action::StepInWindow(_), Some(window)) => soon.min(window.closing(now)),
            _ => soon,
        };
        if let Some(kind) = action.kind() {
            *self.present.of_mut(kind) += 1;
        }
        self.events
            .insert(at.max(now), Event::GoOn(PendingAction { id: job.id.clone(), created_at: job.created_at, action }));
    }

    /// Removes the oldest ended jobs until the fleet has its target size.
    fn purge(&mut self, fleet: &mut Fleet) {
        while fleet.jobs().len() > self.size
            && let Some(job) = self.ended.pop_front()
        {
            if is_as_it_ended(fleet, &job) {
                fleet.remove_job(&job.id);
            }
        }
    }

    fn regroup(&mut self, fleet: &mut Fleet, now: Timestamp) {
        if self.new_groups.len() < MAX_NEW_GROUPS && (self.new_groups.is_empty() || self.generator.one_in(2)) {
            let group = self.generator.new_group(now);
            self.new_groups.retain(|name| *name != group.name);
            self.new_groups.push_back(group.name.clone());
            fleet.add_group(group);
        } else if let Some(name) = self.new_groups.pop_front() {
            self.generator.forget_group(&name);
            fleet.remove_group(&name);
        }
    }
}

impl fmt::Debug for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifecycle").field("size", &self.size).field("next", &self.next()).finish_non_exhaustive()
    }
}

/// Whether an ended job still exists unchanged, and its id was not reused.
fn is_as_it_ended(fleet: &Fleet, job: &Job) -> bool {
    fleet.job(&job.id).is_some_and(|found| found.created_at == job.created_at && found.status == job.status)
}
