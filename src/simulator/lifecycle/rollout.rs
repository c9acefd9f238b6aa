//! The progress of the executions of one job.

use std::time::Duration;

use fastrand::Rng;

use crate::jobs::{ExecutionStatus, Timestamp};

use super::super::executions::TrackedExecutions;

/// The progress of a job's executions in steps: devices are notified, start, and finish.
#[derive(Clone, Debug)]
pub(super) struct Rollout {
    /// Devices without an execution: AWS has not notified them yet.
    pub(super) waiting: u32,
    /// Devices that do not start, because they are offline.
    pub(super) offline: u32,
    /// The percentage of devices that fail.
    pub(super) failing_percent: u32,
    /// Whether executions can time out.
    pub(super) has_timeout: bool,
    /// The number of retries of an execution.
    pub(super) max_retries: u32,
    /// The approximate number of steps left, this one included.
    pub(super) steps_left: u32,
    /// The time between steps.
    pub(super) interval: Duration,
    /// What an operator does before it is over.
    pub(super) intervention: Option<PlannedIntervention>,
}

/// What an operator does with a job before it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlannedIntervention {
    /// The number of steps that are left at that time.
    pub(super) at_steps_left: u32,
    pub(super) intervention: Intervention,
}

/// How an operator ends a job early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intervention {
    Cancel,
    Delete,
}

impl Rollout {
    /// Whether devices remain to be notified, which makes a job concurrent.
    pub(super) fn is_concurrent(&self) -> bool {
        self.waiting > 0
    }

    /// Whether only offline devices are left.
    pub(super) fn is_over(&self, executions: &TrackedExecutions) -> bool {
        self.waiting == 0 && self.idle(executions) == 0 && executions.get(ExecutionStatus::InProgress) == 0
    }

    /// What an operator does now.
    pub(super) fn due_intervention(&self) -> Option<Intervention> {
        self.intervention.filter(|due| due.at_steps_left == self.steps_left).map(|due| due.intervention)
    }

    /// Moves a share of the devices one stage further, the last stage first, so that no device moves two stages in a
    /// step. While devices wait, at least one execution is open.
    pub(super) fn step(&mut self, executions: &mut TrackedExecutions, rng: &mut Rng, now: Timestamp) {
        executions.report(now);
        let done = share(executions.get(ExecutionStatus::InProgress), self.steps_left, rng);
        self.end(done, executions, rng, now);
        let taken_up = share(self.idle(executions), self.steps_left - 1, rng);
        executions.advance((ExecutionStatus::Queued, ExecutionStatus::InProgress), taken_up, 0, now);
        self.notify(executions, rng, now);
        self.steps_left = self.steps_left.saturating_sub(1).max(1);
    }

    /// Queues executions for some of the waiting devices, at least one.
    pub(super) fn notify(&mut self, executions: &mut TrackedExecutions, rng: &mut Rng, now: Timestamp) {
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

    /// Devices that could start the job.
    fn idle(&self, executions: &TrackedExecutions) -> u32 {
        executions.get(ExecutionStatus::Queued).saturating_sub(self.offline)
    }
}

/// A random part of `all`, so that nothing is left after about `steps` calls, and certainly after the last.
fn share(all: u32, steps: u32, rng: &mut Rng) -> u32 {
    if steps <= 1 {
        return all;
    }
    rng.u32(0..=all.div_ceil(steps).saturating_mul(2).min(all))
}

/// Rounded up or down at random: some of few devices fail, too.
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
    fn every_rollout_is_open_until_its_last_step() {
        let mut rng = Rng::with_seed(1);
        for devices in [1, 2, 3, 17, 500, 4096, u32::MAX] {
            for steps in 3..30 {
                let (mut rollout, mut executions) = (rollout(devices, steps), TrackedExecutions::default());
                rollout.notify(&mut executions, &mut rng, NOW);
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
    fn offline_devices_stay_queued() {
        let (mut rollout, mut executions) = (rollout(20, 9), TrackedExecutions::default());
        rollout.offline = 3;
        while !rollout.is_over(&executions) {
            rollout.step(&mut executions, &mut Rng::with_seed(2), NOW);
        }
        assert_eq!((executions.get(ExecutionStatus::Queued), executions.open()), (3, 3));
    }

    #[test]
    fn without_a_timeout_no_device_times_out() {
        let (mut rollout, mut executions) = (rollout(4096, 9), TrackedExecutions::default());
        rollout.has_timeout = false;
        while !rollout.is_over(&executions) {
            rollout.step(&mut executions, &mut Rng::with_seed(3), NOW);
        }
        assert_eq!(executions.get(ExecutionStatus::TimedOut), 0);
        assert!(executions.get(ExecutionStatus::Failed) > 0);
    }

    #[test]
    fn a_rollout_with_retries_is_over_after_the_last_retry() {
        let (mut rollout, mut executions) = (rollout(500, 9), TrackedExecutions::default());
        (rollout.failing_percent, rollout.max_retries) = (60, 2);
        let mut rng = Rng::with_seed(4);
        rollout.notify(&mut executions, &mut rng, NOW);
        let steps = (1..20).find(|_| {
            rollout.step(&mut executions, &mut rng, NOW);
            rollout.is_over(&executions)
        });
        assert!(steps.is_some());
        assert_eq!(executions.open(), 0);
        assert!(executions.get(ExecutionStatus::Failed) > 500, "executions, and not devices");
    }
}
