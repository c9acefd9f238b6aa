//! How the executions of one job go on.

use std::time::Duration;

use fastrand::Rng;

use crate::jobs::{ExecutionStatus, Timestamp};

use super::super::executions::TrackedExecutions;

/// How a job's executions go on, step by step: devices are told of the job, take it up, and come to an end of it.
#[derive(Clone, Debug)]
pub(super) struct Rollout {
    /// Devices that AWS has not told yet: they have no execution.
    pub(super) waiting: u32,
    /// Devices that don't take it up, because they are offline.
    pub(super) offline: u32,
    /// How many of a hundred devices fail.
    pub(super) failing_percent: u32,
    /// Whether there is a limit of time that a device can miss.
    pub(super) has_timeout: bool,
    /// How many times an execution is tried again.
    pub(super) max_retries: u32,
    /// In about how many steps it is over, this one included.
    pub(super) steps_left: u32,
    /// The time from step to step.
    pub(super) interval: Duration,
    /// What people do about it on the way.
    pub(super) intervention: Option<PlannedIntervention>,
}

/// What people do about a job before it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlannedIntervention {
    /// When so many steps are left.
    pub(super) at_steps_left: u32,
    pub(super) intervention: Intervention,
}

/// How people end a job early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intervention {
    Cancel,
    Delete,
}

impl Rollout {
    /// Whether AWS has still to tell devices of the job, which is what makes a job concurrent.
    pub(super) fn is_concurrent(&self) -> bool {
        self.waiting > 0
    }

    /// Whether nothing goes on by itself any more: only devices that are offline are left.
    pub(super) fn is_over(&self, executions: &TrackedExecutions) -> bool {
        self.waiting == 0 && self.idle(executions) == 0 && executions.get(ExecutionStatus::InProgress) == 0
    }

    /// What people do now.
    pub(super) fn due_intervention(&self) -> Option<Intervention> {
        self.intervention.filter(|due| due.at_steps_left == self.steps_left).map(|due| due.intervention)
    }

    /// Takes a share of the devices one stage further, the last stage first, so that none goes two stages in a step. As
    /// long as there are devices to tell, some execution is open.
    pub(super) fn step(&mut self, executions: &mut TrackedExecutions, rng: &mut Rng, now: Timestamp) {
        executions.report(now);
        let done = share(executions.get(ExecutionStatus::InProgress), self.steps_left, rng);
        self.end(done, executions, rng, now);
        let taken_up = share(self.idle(executions), self.steps_left - 1, rng);
        executions.advance((ExecutionStatus::Queued, ExecutionStatus::InProgress), taken_up, 0, now);
        self.tell(executions, rng, now);
        self.steps_left = self.steps_left.saturating_sub(1).max(1);
    }

    /// Queues executions for some of the devices that wait, for one at least.
    pub(super) fn tell(&mut self, executions: &mut TrackedExecutions, rng: &mut Rng, now: Timestamp) {
        let told = share(self.waiting, self.steps_left / 2, rng).max(1).min(self.waiting);
        self.waiting -= told;
        executions.queue(told, now);
    }

    /// Ends all executions in progress.
    pub(super) fn end_all(&self, executions: &mut TrackedExecutions, rng: &mut Rng, now: Timestamp) {
        self.end(executions.get(ExecutionStatus::InProgress), executions, rng, now);
    }

    fn end(&self, devices: u32, executions: &mut TrackedExecutions, rng: &mut Rng, now: Timestamp) {
        let mut advance =
            |to, count| executions.advance((ExecutionStatus::InProgress, to), count, self.max_retries, now);
        let too_late = u32::from(self.has_timeout);
        let mut left = devices;
        for (status, percent) in [
            (ExecutionStatus::Failed, self.failing_percent),
            (ExecutionStatus::TimedOut, too_late),
            (ExecutionStatus::Rejected, 1),
            (ExecutionStatus::Removed, 1),
        ] {
            let some = percent_of(devices, percent, rng).min(left);
            advance(status, some);
            left -= some;
        }
        advance(ExecutionStatus::Succeeded, left);
    }

    /// Devices that could take the job up.
    fn idle(&self, executions: &TrackedExecutions) -> u32 {
        executions.get(ExecutionStatus::Queued).saturating_sub(self.offline)
    }
}

/// A random part of `all`, such that nothing is left after about `steps` of them, and for sure after the last.
fn share(all: u32, steps: u32, rng: &mut Rng) -> u32 {
    if steps <= 1 {
        return all;
    }
    rng.u32(0..=all.div_ceil(steps).saturating_mul(2).min(all))
}

/// Rounded up or down at random: of few devices, some fail, too.
fn percent_of(all: u32, percent: u32, rng: &mut Rng) -> u32 {
    let part = (u64::from(all) * u64::from(percent) + rng.u64(0..100)) / 100;
    u32::try_from(part).unwrap_or(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_784_986_200);

    fn rollout(devices: u32, steps_left: u32) -> Rollout {
        Rollout {
            waiting: devices,
            offline: 0,
            failing_percent: 6,
            has_timeout: true,
            max_retries: 0,
            steps_left,
            interval: Duration::from_secs(1),
            intervention: None,
        }
    }

    #[test]
    fn every_rollout_is_over_after_its_last_step_and_open_before() {
        let mut rng = Rng::with_seed(1);
        for devices in [1, 2, 3, 17, 500, 4096, u32::MAX] {
            for steps in 3..30 {
                let (mut rollout, mut executions) = (rollout(devices, steps), TrackedExecutions::default());
                rollout.tell(&mut executions, &mut rng, NOW);
                let mut taken = 0;
                while !rollout.is_over(&executions) {
                    assert!(executions.open() > 0, "{devices} devices, {steps} steps: {executions:?}");
                    rollout.step(&mut executions, &mut rng, NOW);
                    taken += 1;
                }
                assert!(taken <= steps, "{devices} devices took {taken} steps of {steps}");
                let total = ExecutionStatus::ALL.map(|status| u64::from(executions.get(status))).iter().sum::<u64>();
                assert_eq!((executions.open(), total), (0, u64::from(devices)));
            }
        }
    }

    #[test]
    fn devices_that_are_offline_stay_queued() {
        let (mut rollout, mut executions) = (rollout(20, 9), TrackedExecutions::default());
        rollout.offline = 3;
        while !rollout.is_over(&executions) {
            rollout.step(&mut executions, &mut Rng::with_seed(2), NOW);
        }
        assert_eq!((executions.get(ExecutionStatus::Queued), executions.open()), (3, 3));
    }

    #[test]
    fn without_a_limit_of_time_no_device_misses_it() {
        let (mut rollout, mut executions) = (rollout(4096, 9), TrackedExecutions::default());
        rollout.has_timeout = false;
        while !rollout.is_over(&executions) {
            rollout.step(&mut executions, &mut Rng::with_seed(3), NOW);
        }
        assert_eq!(executions.get(ExecutionStatus::TimedOut), 0);
        assert!(executions.get(ExecutionStatus::Failed) > 0);
    }

    #[test]
    fn with_retries_it_is_over_when_no_execution_may_be_tried_again() {
        let (mut rollout, mut executions) = (rollout(500, 9), TrackedExecutions::default());
        (rollout.failing_percent, rollout.max_retries) = (60, 2);
        let mut rng = Rng::with_seed(4);
        rollout.tell(&mut executions, &mut rng, NOW);
        let steps = (1..20).find(|_| {
            rollout.step(&mut executions, &mut rng, NOW);
            rollout.is_over(&executions)
        });
        assert!(steps.is_some());
        assert_eq!(executions.open(), 0);
        assert!(executions.get(ExecutionStatus::Failed) > 500, "executions, and not devices");
    }
}
