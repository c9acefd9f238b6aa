//! What happens to a job, one thing after the other.

use std::sync::Arc;
use std::time::Duration;

use crate::job::{ExecutionStatus, Status, Timestamp};

use super::super::fleet::{Executions, Fleet, Job};
use super::super::seeded::{Kind, MINUTE, Maker, explain_cancellation};
use super::super::window::HourlyWindow;
use super::rollout::{Intervention, PlannedIntervention, Rollout};
use super::{Action, LAST_STEPS, Lifecycle, MAX_DELETIONS, MAX_FREE_IDS, SECOND, is_as_it_ended};

impl Lifecycle {
    /// Lets `action` happen to `job`, a copy of that in the fleet.
    pub(super) fn go_on(&mut self, fleet: &mut Fleet, mut job: Job, action: Action, now: Timestamp) {
        match action {
            Action::RollOut(rollout) => self.roll_out(fleet, job, rollout, now),
            Action::Unstick if self.maker.one_in(3) => self.cancel(fleet, job, now),
            Action::Unstick => {
                let rollout = self.rollout(&job, 0);
                self.plan(&job, Action::RollOut(rollout), now);
            }
            Action::Serve(rollout) => self.serve(fleet, job, rollout, now),
            Action::Resume(rollout) => self.plan(&job, Action::Serve(rollout), now),
            Action::Start if self.is_missing(Kind::Overdue) => self.plan(&job, Action::StartLate, now),
            // Somebody has to be late.
            Action::StartLate if self.present.of(Kind::Overdue) == 0 => self.plan(&job, Action::StartLate, now),
            Action::Start | Action::StartLate => {
                let devices = self.maker.things();
                change_status(&mut job, Status::InProgress, now);
                let rollout = self.begin_rollout(&mut job, devices);
                self.plan(&job, Action::RollOut(rollout), now);
                fleet.add_job(job);
            }
            Action::OpenWindow(mut rollout) => {
                change_status(&mut job, Status::InProgress, now);
                tell_first(&mut job, &mut rollout, &mut self.maker);
                self.plan(&job, Action::StepInWindow(rollout), now);
                fleet.add_job(job);
            }
            Action::StepInWindow(rollout) => self.step_in_window(fleet, job, rollout, now),
            Action::Delete { steps_left, interval } => self.go_on_deleting(fleet, job, steps_left, interval, now),
            Action::SettleCancellation => {
                job.is_concurrent = false;
                self.end(fleet, job);
            }
        }
    }

    fn roll_out(&mut self, fleet: &mut Fleet, mut job: Job, mut rollout: Rollout, now: Timestamp) {
        match rollout.due_intervention() {
            Some(Intervention::Delete) if self.present.of(Kind::Deleting) < MAX_DELETIONS => {
                return self.delete(fleet, job, now);
            }
            // AWS refuses a deletion too many.
            Some(Intervention::Cancel | Intervention::Delete) => return self.cancel(fleet, job, now),
            None => {}
        }
        rollout.step(&mut job.executions, self.maker.rng());
        job.is_concurrent = rollout.is_concurrent();
        if !rollout.is_over(&job.executions) {
            self.plan(&job, Action::RollOut(rollout), now);
        } else if job.executions.open() > 0 {
            self.plan(&job, Action::Unstick, now);
        } else {
            return self.complete(fleet, job, now);
        }
        fleet.add_job(job);
    }

    fn serve(&mut self, fleet: &mut Fleet, mut job: Job, mut rollout: Rollout, now: Timestamp) {
        let end = job.scheduling.as_deref().and_then(|schedule| schedule.end_time);
        if end.is_some_and(|end| end <= now) {
            cancel_executions(&mut job.executions, true);
            return self.complete(fleet, job, now);
        }
        if rollout.due_intervention().is_some() && self.maker.one_in(400) {
            return self.cancel(fleet, job, now);
        }
        let joining = u32::from(self.maker.one_in(3));
        rollout.step(&mut job.executions, self.maker.rng());
        job.executions.add(ExecutionStatus::Queued, joining);
        // It is never over.
        rollout.steps_left = rollout.steps_left.max(LAST_STEPS);
        job.is_concurrent = rollout.is_concurrent() || joining > 0;
        let stalls = !rollout.is_concurrent() && end.is_none() && self.is_missing(Kind::Stalled);
        if stalls {
            job.is_concurrent = false;
            job.executions.add(ExecutionStatus::Queued, u32::from(job.executions.open() == 0));
        }
        self.plan(&job, if stalls { Action::Resume(rollout) } else { Action::Serve(rollout) }, now);
        fleet.add_job(job);
    }

    fn step_in_window(&mut self, fleet: &mut Fleet, mut job: Job, mut rollout: Rollout, now: Timestamp) {
        let is_closing = HourlyWindow::of(&job).is_none_or(|window| !window.contains(now));
        if is_closing {
            rollout.end_all(&mut job.executions, self.maker.rng());
        } else {
            rollout.step(&mut job.executions, self.maker.rng());
        }
        job.is_concurrent = rollout.is_concurrent() && !is_closing;
        if rollout.is_over(&job.executions) {
            return self.complete(fleet, job, now);
        }
        if is_closing {
            change_status(&mut job, Status::Scheduled, now);
        }
        self.plan(&job, if is_closing { Action::OpenWindow(rollout) } else { Action::StepInWindow(rollout) }, now);
        fleet.add_job(job);
    }

    fn complete(&mut self, fleet: &mut Fleet, mut job: Job, now: Timestamp) {
        change_status(&mut job, Status::Completed, now);
        job.completed_at = Some(now);
        job.is_concurrent = false;
        self.end(fleet, job);
    }

    fn cancel(&mut self, fleet: &mut Fleet, mut job: Job, now: Timestamp) {
        change_status(&mut job, Status::Canceled, now);
        job.completed_at = Some(now);
        job.is_concurrent = true;
        job.force_canceled = self.maker.one_in(3);
        cancel_executions(&mut job.executions, job.force_canceled);
        explain_cancellation(Arc::make_mut(&mut job.texts));
        self.plan(&job, Action::SettleCancellation, now);
        fleet.add_job(job);
    }

    /// Puts a job that nothing happens to any more back into the fleet, to be purged some day.
    fn end(&mut self, fleet: &mut Fleet, job: Job) {
        let id = job.id.clone();
        fleet.add_job(job);
        self.ended.extend(fleet.shared_job(&id).cloned());
    }

    fn delete(&mut self, fleet: &mut Fleet, mut job: Job, now: Timestamp) {
        change_status(&mut job, Status::DeletionInProgress, now);
        job.is_concurrent = false;
        job.executions.set(ExecutionStatus::Queued, 0);
        job.executions.set(ExecutionStatus::InProgress, 0);
        let deletion = self.deletion();
        self.plan(&job, deletion, now);
        fleet.add_job(job);
    }

    /// Lets people delete some job that has ended. They may find none.
    pub(super) fn delete_one_that_ended(&mut self, fleet: &mut Fleet, now: Timestamp) {
        if self.ended.is_empty() || self.present.of(Kind::Deleting) >= MAX_DELETIONS {
            return;
        }
        for _ in 0..8 {
            let index = self.maker.rng().usize(0..self.ended.len());
            if is_as_it_ended(fleet, &self.ended[index]) {
                let job = Job::clone(&self.ended[index]);
                return self.delete(fleet, job, now);
            }
        }
    }

    fn go_on_deleting(&mut self, fleet: &mut Fleet, mut job: Job, steps_left: u32, interval: Duration, now: Timestamp) {
        if steps_left > 1 {
            for status in ExecutionStatus::ALL {
                let count = job.executions.get(status);
                job.executions.set(status, count - count / steps_left);
            }
            self.plan(&job, Action::Delete { steps_left: steps_left - 1, interval }, now);
            fleet.add_job(job);
            return;
        }
        if self.present.of(Kind::Deleting) == 0 {
            // So that there is always one.
            self.delete_one_that_ended(fleet, now);
        }
        fleet.remove_job(&job.id);
        if self.free_ids.len() < MAX_FREE_IDS {
            self.free_ids.push_back(job.id);
        }
    }

    /// How a job goes on that `waiting` devices have still to be told of.
    pub(super) fn rollout(&mut self, job: &Job, waiting: u32) -> Rollout {
        let steps = self.maker.rng().u32(8..=24);
        let interval = self.maker.ahead(5 * SECOND, MINUTE / 2);
        let failing_percent = if self.maker.one_in(12) { 60 } else { 6 };
        let has_timeout = job.in_progress_timeout_minutes.is_some();
        Rollout { waiting, offline: 0, failing_percent, has_timeout, steps_left: steps, interval, intervention: None }
    }

    /// How a job goes on that takes several maintenance windows.
    pub(super) fn slow_rollout(&mut self, job: &Job, waiting: u32) -> Rollout {
        let steps_left = self.maker.rng().u32(30..=120);
        let interval = self.maker.ahead(MINUTE, 3 * MINUTE);
        Rollout { steps_left, interval, ..self.rollout(job, waiting) }
    }

    /// Begins the rollout of a job to all its devices, and decides what becomes of it.
    pub(super) fn begin_rollout(&mut self, job: &mut Job, devices: u32) -> Rollout {
        let mut rollout = self.rollout(job, devices);
        let at_steps_left = self.maker.rng().u32(2..rollout.steps_left);
        let planned = |intervention| Some(PlannedIntervention { at_steps_left, intervention });
        match self.maker.rng().u32(0..20) {
            0 if self.is_missing(Kind::Stuck) => rollout.offline = self.maker.rng().u32(1..=5).min(devices),
            5..8 => rollout.intervention = planned(Intervention::Cancel),
            8 => rollout.intervention = planned(Intervention::Delete),
            _ => {}
        }
        tell_first(job, &mut rollout, &mut self.maker);
        rollout
    }

    /// One deletion in six takes long.
    pub(super) fn deletion(&mut self) -> Action {
        let interval = if self.maker.one_in(6) { (4 * MINUTE, 18 * MINUTE) } else { (2 * SECOND, MINUTE / 2) };
        Action::Delete { steps_left: 5, interval: self.maker.ahead(interval.0, interval.1) }
    }
}

fn change_status(job: &mut Job, status: Status, now: Timestamp) {
    job.status = status;
    job.last_updated_at = now;
}

/// Tells the first devices of a job that is now `IN_PROGRESS`: it has an open execution from the beginning.
pub(super) fn tell_first(job: &mut Job, rollout: &mut Rollout, maker: &mut Maker) {
    rollout.tell(&mut job.executions, maker.rng());
    job.is_concurrent = rollout.is_concurrent();
}

/// Without force, executions in progress go on.
fn cancel_executions(executions: &mut Executions, force: bool) {
    executions.shift(ExecutionStatus::Queued, ExecutionStatus::Canceled, u32::MAX);
    if force {
        executions.shift(ExecutionStatus::InProgress, ExecutionStatus::Canceled, u32::MAX);
    }
}
