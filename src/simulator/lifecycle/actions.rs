//! The actions of a lifecycle on one job.

use std::sync::Arc;
use std::time::Duration;

use crate::jobs::{ExecutionStatus, Status, TargetSelection, Timestamp};

use super::super::executions::TrackedExecutions;
use super::super::fleet::{Fleet, Job};
use super::super::seeded::{JobGenerator, JobKind, MINUTE, explain_cancellation};
use super::super::window::HourlyWindow;
use super::rollout::{Intervention, PlannedIntervention, Rollout};
use super::{Action, LAST_STEPS, Lifecycle, MAX_DELETIONS, MAX_FREE_IDS, SECOND, is_as_it_ended};

impl Lifecycle {
    /// Performs `action` on `job`, a copy of the job in the fleet.
    pub(super) fn go_on(&mut self, fleet: &mut Fleet, mut job: Job, action: Action, now: Timestamp) {
        match action {
            Action::RollOut(rollout) => self.roll_out(fleet, job, rollout, now),
            Action::Unstick if self.generator.one_in(3) => self.cancel_unwanted(fleet, job, now),
            Action::Unstick => {
                let rollout = self.rollout(&job, 0);
                self.plan(&job, Action::RollOut(rollout), now);
            }
            Action::Serve(rollout) => self.serve(fleet, job, rollout, now),
            Action::Resume(rollout) => self.plan(&job, Action::Serve(rollout), now),
            Action::Start if self.is_missing(JobKind::Overdue) => self.plan(&job, Action::StartLate, now),
            // At least one job is late.
            Action::StartLate if self.present.of(JobKind::Overdue) == 0 => self.plan(&job, Action::StartLate, now),
            Action::Start | Action::StartLate => {
                let devices = self.generator.things();
                change_status(&mut job, Status::InProgress, now);
                let rollout = self.begin_rollout(&mut job, devices, now);
                self.plan(&job, Action::RollOut(rollout), now);
                fleet.add_job(job);
            }
            Action::OpenWindow(mut rollout) => {
                change_status(&mut job, Status::InProgress, now);
                notify_first(&mut job, &mut rollout, &mut self.generator, now);
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
            Some(Intervention::Delete) if self.present.of(JobKind::Deleting) < MAX_DELETIONS => {
                return self.delete(fleet, job, now);
            }
            // AWS refuses more deletions than its limit.
            Some(Intervention::Cancel | Intervention::Delete) => return self.cancel_unwanted(fleet, job, now),
            None => {}
        }
        rollout.step(job.executions_mut(), self.generator.rng(), now);
        job.is_concurrent = rollout.is_concurrent();
        if job.meets_abort_criteria() {
            return self.cancel(fleet, job, false, now);
        }
        if !rollout.is_over(job.executions_mut()) {
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
            cancel_executions(job.executions_mut(), true, now);
            return self.complete(fleet, job, now);
        }
        if rollout.due_intervention().is_some() && self.generator.one_in(400) {
            return self.cancel_unwanted(fleet, job, now);
        }
        let joining = u32::from(self.generator.one_in(3));
        rollout.step(job.executions_mut(), self.generator.rng(), now);
        // Now and then, a device joins again that had the job before.
        if joining > 0 && !(now.as_millis().rem_euclid(4) == 0 && job.executions_mut().queue_again(now)) {
            job.executions_mut().queue(joining, now);
        }
        // A CONTINUOUS job never completes.
        rollout.steps_left = rollout.steps_left.max(LAST_STEPS);
        job.is_concurrent = rollout.is_concurrent() || joining > 0;
        let stalls = !rollout.is_concurrent() && end.is_none() && self.is_missing(JobKind::Stalled);
        if stalls {
            job.is_concurrent = false;
            let missing = u32::from(job.executions.open() == 0);
            job.executions_mut().queue(missing, now);
        }
        self.plan(&job, if stalls { Action::Resume(rollout) } else { Action::Serve(rollout) }, now);
        fleet.add_job(job);
    }

    fn step_in_window(&mut self, fleet: &mut Fleet, mut job: Job, mut rollout: Rollout, now: Timestamp) {
        let is_closing = HourlyWindow::of(&job).is_none_or(|window| !window.contains(now));
        if is_closing {
            rollout.end_all(job.executions_mut(), self.generator.rng(), now);
        } else {
            rollout.step(job.executions_mut(), self.generator.rng(), now);
        }
        job.is_concurrent = rollout.is_concurrent() && !is_closing;
        if rollout.is_over(job.executions_mut()) {
            return self.complete(fleet, job, now);
        }
        if is_closing {
            change_status(&mut job, Status::Scheduled, now);
        }
        self.plan(&job, if is_closing { Action::OpenWindow(rollout) } else { Action::StepInWindow(rollout) }, now);
        fleet.add_job(job);
    }

    /// Stores a job after one execution was canceled. Completes it if that was the last open one and no device waits.
    pub(in crate::simulator) fn complete_if_over(&mut self, fleet: &mut Fleet, job: Job, now: Timestamp) {
        let is_running = job.status == Status::InProgress && job.target_selection == TargetSelection::Snapshot;
        if is_running && !job.is_concurrent && job.executions.open() == 0 {
            self.complete(fleet, job, now);
        } else {
            fleet.add_job(job);
        }
    }

    fn complete(&mut self, fleet: &mut Fleet, mut job: Job, now: Timestamp) {
        change_status(&mut job, Status::Completed, now);
        job.completed_at = Some(now);
        job.is_concurrent = false;
        self.end(fleet, job);
    }

    /// An operator cancels a job.
    fn cancel_unwanted(&mut self, fleet: &mut Fleet, mut job: Job, now: Timestamp) {
        explain_cancellation(Arc::make_mut(&mut job.texts));
        let force = self.generator.one_in(3);
        self.cancel(fleet, job, force, now);
    }

    /// Cancels a job. Without `force`, executions in progress continue.
    pub(in crate::simulator) fn cancel(&mut self, fleet: &mut Fleet, mut job: Job, force: bool, now: Timestamp) {
        change_status(&mut job, Status::Canceled, now);
        job.completed_at = Some(now);
        job.is_concurrent = true;
        job.force_canceled = force;
        cancel_executions(job.executions_mut(), force, now);
        self.plan(&job, Action::SettleCancellation, now);
        fleet.add_job(job);
    }

    /// Stores a job that has ended, and adds it to those that are purged later.
    fn end(&mut self, fleet: &mut Fleet, job: Job) {
        let id = job.id.clone();
        fleet.add_job(job);
        self.ended.extend(fleet.shared_job(&id).cloned());
    }

    /// Starts the deletion of a job.
    pub(in crate::simulator) fn delete(&mut self, fleet: &mut Fleet, mut job: Job, now: Timestamp) {
        change_status(&mut job, Status::DeletionInProgress, now);
        job.is_concurrent = false;
        for status in [ExecutionStatus::Queued, ExecutionStatus::InProgress] {
            job.executions_mut().remove(status, u32::MAX);
        }
        let deletion = self.deletion();
        self.plan(&job, deletion, now);
        fleet.add_job(job);
    }

    /// An operator deletes an ended job, if there is one.
    pub(super) fn delete_one_that_ended(&mut self, fleet: &mut Fleet, now: Timestamp) {
        if self.ended.is_empty() || self.present.of(JobKind::Deleting) >= MAX_DELETIONS {
            return;
        }
        for _ in 0..8 {
            let index = self.generator.rng().usize(0..self.ended.len());
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
                job.executions_mut().remove(status, count / steps_left);
            }
            self.plan(&job, Action::Delete { steps_left: steps_left - 1, interval }, now);
            fleet.add_job(job);
            return;
        }
        if self.present.of(JobKind::Deleting) == 0 {
            // So that one is always in progress.
            self.delete_one_that_ended(fleet, now);
        }
        fleet.remove_job(&job.id);
        if self.free_ids.len() < MAX_FREE_IDS {
            self.free_ids.push_back(job.id);
        }
    }

    /// The rollout of a job to `waiting` more devices.
    pub(super) fn rollout(&mut self, job: &Job, waiting: u32) -> Rollout {
        let steps = self.generator.rng().u32(8..=24);
        let interval = self.generator.ahead(5 * SECOND, MINUTE / 2);
        let failing_percent = if self.generator.one_in(12) { 60 } else { 1 };
        let has_timeout = job.in_progress_timeout_minutes.is_some();
        Rollout {
            waiting,
            offline: 0,
            failing_percent,
            has_timeout,
            max_retries: job.max_retries,
            steps_left: steps,
            interval,
            intervention: None,
        }
    }

    /// The rollout of a job over several maintenance windows.
    pub(super) fn slow_rollout(&mut self, job: &Job, waiting: u32) -> Rollout {
        let steps_left = self.generator.rng().u32(30..=120);
        let interval = self.generator.ahead(MINUTE, 3 * MINUTE);
        Rollout { steps_left, interval, ..self.rollout(job, waiting) }
    }

    /// Starts the rollout of a job to all its devices, and draws how it continues.
    pub(super) fn begin_rollout(&mut self, job: &mut Job, devices: u32, now: Timestamp) -> Rollout {
        let mut rollout = self.rollout(job, devices);
        let at_steps_left = self.generator.rng().u32(2..rollout.steps_left);
        let planned = |intervention| Some(PlannedIntervention { at_steps_left, intervention });
        match self.generator.rng().u32(0..20) {
            0 if self.is_missing(JobKind::Stuck) => rollout.offline = self.generator.rng().u32(1..=5).min(devices),
            5..8 => rollout.intervention = planned(Intervention::Cancel),
            8 => rollout.intervention = planned(Intervention::Delete),
            _ => {}
        }
        notify_first(job, &mut rollout, &mut self.generator, now);
        rollout
    }

    /// One deletion in six takes long.
    pub(super) fn deletion(&mut self) -> Action {
        let interval = if self.generator.one_in(6) { (4 * MINUTE, 18 * MINUTE) } else { (2 * SECOND, MINUTE / 2) };
        Action::Delete { steps_left: 5, interval: self.generator.ahead(interval.0, interval.1) }
    }
}

fn change_status(job: &mut Job, status: Status, now: Timestamp) {
    // The times of its executions must not change with those of the job.
    job.executions_mut();
    job.status = status;
    job.last_updated_at = now;
}

/// Notifies the first devices of a job that is now `IN_PROGRESS`, so that it has an open execution from the start.
pub(super) fn notify_first(job: &mut Job, rollout: &mut Rollout, generator: &mut JobGenerator, now: Timestamp) {
    rollout.notify(job.executions_mut(), generator.rng(), now);
    job.is_concurrent = rollout.is_concurrent();
}

/// Without force, executions in progress continue.
fn cancel_executions(executions: &mut TrackedExecutions, force: bool, now: Timestamp) {
    executions.advance((ExecutionStatus::Queued, ExecutionStatus::Canceled), u32::MAX, 0, now);
    if force {
        executions.advance((ExecutionStatus::InProgress, ExecutionStatus::Canceled), u32::MAX, 0, now);
    }
}
