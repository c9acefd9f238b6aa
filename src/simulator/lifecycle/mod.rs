//! A fleet that changes: jobs are created, roll out, finish, stick, are canceled, deleted and purged.
//!
//! [`Lifecycle`] is a queue of what happens to a fleet, and when. [`Lifecycle::advance`] lets everything happen that is
//! due; each thing happens at its own time, and puts down what follows from it. Chance is drawn when something happens, in
//! the order in which things happen. So the same seed, size, pace and start give the same fleet at any later time,
//! however often the time between is looked at.
//!
//! # Time
//! Every time that a job shows is on the clock of the one who calls, because clients compare it with their own. A lifecycle
//! of a higher pace has shorter waits, and nothing else: with a pace of 60, a job that would roll out for ten minutes does it
//! in ten seconds. What was there at the start has the age that it would have in a real account, days and months. Two
//! things keep the wall's pace: maintenance windows, because their cron expressions say when they open, and the
//! precision of schedules, which AWS tells in whole minutes.
//!
//! # What happens
//! - As many jobs of each [`Kind`] as the fleet had at the start are kept going: where one ends, another is created
//!   soon after. The first of the stuck and of the stalled ones, and every other one after, never move; nor do the hanging and the
//!   failing ones of the start.
//! - A SNAPSHOT job rolls out and is COMPLETED when all its executions have ended. Some are canceled or deleted on the
//!   way, and AWS cancels those that meet their abort criteria. Some stick, because devices are offline; hours later those come back, or somebody cancels the job.
//! - A CONTINUOUS job stays `IN_PROGRESS`. Devices join. Some jobs stall for hours. Some have an end, and are COMPLETED
//!   then; of the newer ones, those without an end are canceled some day.
//! - A SCHEDULED job starts on time, or is overdue for a while, as if too many others ran.
//! - A job with maintenance windows is `IN_PROGRESS` in them, SCHEDULED between them, and COMPLETED after some.
//! - People delete jobs that have ended. Most deletions take a minute, some an hour. No more than [`MAX_DELETIONS`] go on
//!   at a time; as long as there are jobs to delete, one at least does. The id of a deleted job is used again, sometimes.
//! - AWS purges the jobs that ended first, so many that the fleet keeps its size: a real account would keep them 730
//!   days, which nobody waits for.
//! - Each change of an execution has its time: queued, started, reported, ended. Every third new job tries executions again
//!   that fail. Things join CONTINUOUS jobs, some of them again.
//! - Now and then, somebody creates a thing group or deletes one.
//!
//! # What nobody documents, and how it is here
//! - `lastUpdatedAt` moves when the status does, and not with executions.
//! - Executions that are open when the deletion of their job begins are gone at once, the others by and by.
//! - `completedAt` of a job that is being deleted stays.
//! - Executions in progress end before their maintenance window does.
//! - A canceled job is concurrent for some seconds. What devices do about it later is not told any more.

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
use super::seeded::{HOUR, Kind, MINUTE, Maker, Seeded};
use super::window::HourlyWindow;

use actions::tell_first;
use event_queue::EventQueue;
use rollout::{Intervention, PlannedIntervention, Rollout};

/// How many jobs of an account can be `DELETION_IN_PROGRESS` (AWS IoT quotas).
pub(super) const MAX_DELETIONS: usize = 10;

/// How many things happen in one call of [`Lifecycle::advance`] at most: those of five hours or more at a pace of 1, and less
/// than a tenth of a second's work. Whoever asks after a longer time, or at a pace beyond reason, gets an answer all the
/// same.
const MAX_EVENTS: usize = 100_000;

/// A CONTINUOUS job has so many steps left, however many it takes.
const LAST_STEPS: u32 = 4;

/// How many ids are kept to be used again.
const MAX_FREE_IDS: usize = 32;

/// How many thing groups there are at most beyond those of the start.
const MAX_NEW_GROUPS: usize = 6;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What happens to one fleet over time: rollouts, schedules, cancellations, deletions, purges. It goes with the fleet
/// that [`Lifecycle::begin`] gave out with it, and with no other.
///
/// What happens depends on seed, size, pace and start alone, and not on how often [`Lifecycle::advance`] is called. Jobs show
/// times of the caller's clock at every pace.
pub struct Lifecycle {
    /// How many jobs the fleet should have.
    size: usize,
    maker: Maker,
    events: EventQueue<Event>,
    wanted: PerKind,
    /// Jobs of each kind that are in the event queue.
    present: PerKind,
    /// Jobs of each kind that are soon to be created.
    coming: PerKind,
    /// Jobs that have ended, those that did so first at the front, give or take the seconds that a cancellation needs to
    /// settle. Shared with the fleet, so that a million cost no more than a pointer each. Some are no longer there, or no
    /// longer like this.
    ended: VecDeque<Arc<Job>>,
    /// Ids of jobs that are gone.
    free_ids: VecDeque<String>,
    /// Groups that were created since the start, the oldest first.
    new_groups: VecDeque<String>,
}

/// A number for each [`Kind`].
#[derive(Clone, Copy, Debug, Default)]
struct PerKind([usize; Kind::COUNT]);

impl PerKind {
    fn of(&self, kind: Kind) -> usize {
        self.0[kind as usize]
    }

    fn of_mut(&mut self, kind: Kind) -> &mut usize {
        &mut self.0[kind as usize]
    }
}

enum Event {
    /// Somebody creates a job of this kind; for [`Kind::Deleting`], deletes one.
    Create(Kind),
    /// A job goes on.
    GoOn(Part),
    /// AWS purges jobs.
    Purge,
    /// Somebody creates or deletes a thing group.
    Regroup,
}

/// What is still to happen to a job. A job is in the event queue once, or not at all.
struct Part {
    id: String,
    /// Ids are used again, so this is part of a job's identity.
    created_at: Timestamp,
    action: Action,
}

enum Action {
    /// A rollout takes its next step.
    RollOut(Rollout),
    /// Devices come back after a long time, or somebody loses patience.
    Unstick,
    /// A CONTINUOUS job takes its next step.
    Serve(Rollout),
    /// A stalled job goes on.
    Resume(Rollout),
    /// A scheduled job's start is there.
    Start,
    /// An overdue job starts at last.
    StartLate,
    /// A maintenance window opens.
    OpenWindow(Rollout),
    /// A rollout takes its next step in its maintenance window, which may be over.
    StepInWindow(Rollout),
    /// A deletion takes its next step.
    Delete { steps_left: u32, interval: Duration },
    /// A cancellation has reached everywhere.
    SettleCancellation,
}

impl Action {
    /// The kind of the job that this is still to happen to; `None` where it has ended.
    fn kind(&self) -> Option<Kind> {
        match self {
            Self::RollOut(_) => Some(Kind::RollingOut),
            Self::Unstick => Some(Kind::Stuck),
            Self::Serve(_) => Some(Kind::Continuous),
            Self::Resume(_) => Some(Kind::Stalled),
            Self::Start => Some(Kind::Scheduled),
            Self::StartLate => Some(Kind::Overdue),
            Self::OpenWindow(_) | Self::StepInWindow(_) => Some(Kind::Windowed),
            Self::Delete { .. } => Some(Kind::Deleting),
            Self::SettleCancellation => None,
        }
    }

    /// The status that a job has until this happens to it.
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
    /// A seeded fleet of `size` jobs as it could look at the time `now`, and what happens to it from then on, so many
    /// times faster than it would in a real account. A fleet of none stays one.
    #[must_use]
    pub fn begin(seed: u64, size: usize, pace: NonZeroU32, now: Timestamp) -> (Fleet, Self) {
        let Seeded { mut fleet, open, maker } = Seeded::new(seed, size, pace, now);
        let mut ended: Vec<Arc<Job>> = fleet.shared_jobs().filter(|job| job.has_ended()).cloned().collect();
        ended.sort_by_key(|job| job.completed_at);
        let mut lifecycle = Self {
            size,
            maker,
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
            lifecycle.events.insert(now.after(lifecycle.maker.ahead(MINUTE, 5 * MINUTE)), Event::Regroup);
        }
        (fleet, lifecycle)
    }

    /// What happens to a fleet that stays as it is: nothing, but for what follows from what people do by API calls.
    pub(super) fn at_rest(now: Timestamp) -> Self {
        Self {
            size: usize::MAX,
            maker: Maker::new(0, NonZeroU32::MIN, now).0,
            events: EventQueue::new(),
            wanted: PerKind::default(),
            present: PerKind::default(),
            coming: PerKind::default(),
            ended: VecDeque::new(),
            free_ids: VecDeque::new(),
            new_groups: VecDeque::new(),
        }
    }

    /// Lets everything happen to `fleet` that is due by `now`, and tells how much that was: 0 where the fleet is up to
    /// date. After a very long time, what is left over falls to the next call.
    ///
    /// Jobs that somebody else has changed or removed are left alone.
    pub fn advance(&mut self, fleet: &mut Fleet, now: Timestamp) -> usize {
        for happened in 0..MAX_EVENTS {
            let Some((at, event)) = self.events.take(now) else { return happened };
            self.happen(fleet, event, at);
        }
        MAX_EVENTS
    }

    /// When something happens next. Nothing ever happens to a fleet of none.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        self.events.next()
    }

    /// Puts the jobs of the start in the event queue, somewhere on their way.
    fn adopt(&mut self, fleet: &mut Fleet, open: Vec<(String, Kind)>, now: Timestamp) {
        let mut kept_still = PerKind::default();
        for (id, kind) in open {
            let Some(job) = fleet.job(&id) else { continue };
            let action = match kind {
                Kind::Hanging | Kind::Failing => continue,
                Kind::Stuck | Kind::Stalled => {
                    let seen = kept_still.of_mut(kind);
                    *seen += 1;
                    if *seen % 2 == 1 {
                        continue;
                    }
                    if kind == Kind::Stuck { Action::Unstick } else { Action::Resume(self.rollout(job, 0)) }
                }
                Kind::RollingOut => {
                    let waiting = if job.is_concurrent { self.maker.things() } else { 0 };
                    let mut rollout = self.rollout(job, waiting);
                    rollout.steps_left = self.maker.rng().u32(2..=rollout.steps_left);
                    Action::RollOut(rollout)
                }
                Kind::Continuous => Action::Serve(self.rollout(job, 0)),
                Kind::Scheduled => Action::Start,
                Kind::Overdue => Action::StartLate,
                Kind::Windowed => {
                    let rollout = self.slow_rollout(job, 0);
                    let opened = job.status == Status::InProgress;
                    if opened { Action::StepInWindow(rollout) } else { Action::OpenWindow(rollout) }
                }
                Kind::Deleting => self.deletion(),
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
                let pause = self.maker.ahead(10 * SECOND, 20 * SECOND);
                self.events.insert(now.after(pause), Event::Purge);
            }
            Event::Regroup => {
                self.regroup(fleet, now);
                let pause = self.maker.ahead(3 * MINUTE, 8 * MINUTE);
                self.events.insert(now.after(pause), Event::Regroup);
            }
        }
    }

    /// Lets somebody create a job soon where one of this kind is missing. Nobody creates jobs that stick, stall or are
    /// late: those others become.
    fn keep_going(&mut self, kind: Kind, now: Timestamp) {
        let pause = match kind {
            Kind::Stuck | Kind::Stalled | Kind::Overdue | Kind::Hanging | Kind::Failing => return,
            Kind::RollingOut | Kind::Continuous | Kind::Deleting => self.maker.ahead(5 * SECOND, MINUTE),
            // There are few of these, and each kind should always be there.
            Kind::Scheduled | Kind::Windowed => self.maker.ahead(SECOND, 5 * SECOND),
        };
        if self.is_missing(kind) {
            *self.coming.of_mut(kind) += 1;
            self.events.insert(now.after(pause), Event::Create(kind));
        }
    }

    fn is_missing(&self, kind: Kind) -> bool {
        self.present.of(kind) + self.coming.of(kind) < self.wanted.of(kind)
    }

    fn create(&mut self, fleet: &mut Fleet, kind: Kind, now: Timestamp) {
        let devices = self.maker.things();
        let (mut job, action) = match kind {
            Kind::RollingOut | Kind::Stuck | Kind::Hanging | Kind::Failing => {
                let mut job = self.maker.new_rollout(now);
                let rollout = self.begin_rollout(&mut job, devices, now);
                (job, Action::RollOut(rollout))
            }
            Kind::Continuous | Kind::Stalled => {
                let mut job = self.maker.new_continuous(now);
                let mut rollout = self.rollout(&job, devices);
                // A job with an end is left to come to it.
                let has_end = job.scheduling.is_some();
                let cancel = PlannedIntervention { at_steps_left: LAST_STEPS, intervention: Intervention::Cancel };
                rollout.intervention = (!has_end).then_some(cancel);
                tell_first(&mut job, &mut rollout, &mut self.maker, now);
                (job, Action::Serve(rollout))
            }
            Kind::Scheduled | Kind::Overdue => (self.maker.new_scheduled(now), Action::Start),
            Kind::Windowed => {
                let job = self.maker.new_windowed(now);
                let rollout = self.slow_rollout(&job, devices);
                (job, Action::OpenWindow(rollout))
            }
            Kind::Deleting => return self.delete_one_that_ended(fleet, now),
        };
        if self.maker.one_in(4)
            && let Some(id) = self.free_ids.pop_front()
            && fleet.job(&id).is_none()
        {
            job.id = id;
        }
        self.plan(&job, action, now);
        fleet.add_job(job);
    }

    /// Puts in the event queue what happens to `job` next.
    fn plan(&mut self, job: &Job, action: Action, now: Timestamp) {
        let maker = &mut self.maker;
        let soon = match &action {
            Action::RollOut(rollout) | Action::StepInWindow(rollout) => now.after(rollout.interval),
            Action::Serve(_) => now.after(maker.ahead(10 * SECOND, MINUTE)),
            Action::Unstick => now.after(maker.ahead(HOUR, 12 * HOUR)),
            Action::Resume(_) => now.after(maker.ahead(HOUR, 6 * HOUR)),
            Action::StartLate => now.after(maker.ahead(HOUR / 4, 3 * HOUR)),
            Action::Start | Action::OpenWindow(_) => now,
            Action::Delete { interval, .. } => now.after(*interval),
            Action::SettleCancellation => now.after(maker.ahead(5 * SECOND, MINUTE / 2)),
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
        self.events.insert(at.max(now), Event::GoOn(Part { id: job.id.clone(), created_at: job.created_at, action }));
    }

    /// Removes jobs that ended first, as many as there are too many.
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
        if self.new_groups.len() < MAX_NEW_GROUPS && (self.new_groups.is_empty() || self.maker.one_in(2)) {
            let group = self.maker.new_group(now);
            self.new_groups.retain(|name| *name != group.name);
            self.new_groups.push_back(group.name.clone());
            fleet.add_group(group);
        } else if let Some(name) = self.new_groups.pop_front() {
            self.maker.forget_group(&name);
            fleet.remove_group(&name);
        }
    }
}

impl fmt::Debug for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifecycle").field("size", &self.size).field("next", &self.next()).finish_non_exhaustive()
    }
}

/// Whether a job that ended is still there, and was not deleted or its id used again since.
fn is_as_it_ended(fleet: &Fleet, job: &Job) -> bool {
    fleet.job(&job.id).is_some_and(|found| found.created_at == job.created_at && found.status == job.status)
}
