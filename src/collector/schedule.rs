//! Schedules the runs of a listing. Pure functions: times are arguments.

use std::time::Duration;

use tokio::time::Instant;

/// Each run is delayed by a random share of its interval, up to this one, so that targets drift apart.
pub const JITTER: f64 = 0.05;

/// The longest time between the first runs of two targets. It spreads their requests for credentials.
const BETWEEN_STARTS: Duration = Duration::from_millis(100);

/// A failed full walk is repeated after twice this time; each further failure doubles the time.
const RETRY_INTERVAL: Duration = Duration::from_mins(1);

/// Data becomes stale after this many times the longest planned time between two answers.
const STALE_AFTER_INTERVALS: u32 = 3;

/// Data never becomes stale sooner than this, so that a short outage of AWS hides nothing.
const MIN_STALE_AFTER: Duration = Duration::from_mins(10);

/// When data becomes stale that is renewed after `interval`.
pub(super) fn stale_after(interval: Duration) -> Duration {
    interval.saturating_mul(STALE_AFTER_INTERVALS).max(MIN_STALE_AFTER)
}

/// When a target starts among all others: first runs follow each other closely, second ones are spread over the
/// interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The delay of the first run.
    pub wait: Duration,
    /// The share of the interval between the first two runs, above 0 and up to 1.
    pub share: f64,
}

impl Spread {
    /// The spread of the target at `position`, counted from 1, of `count` targets with this interval.
    #[must_use]
    pub fn new(position: u32, count: u32, interval: Duration) -> Self {
        let apart = BETWEEN_STARTS.min(interval / count.max(1));
        Self { wait: apart * position.saturating_sub(1), share: f64::from(position) / f64::from(count.max(1)) }
    }
}

/// How the runs of a listing are scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunTiming {
    pub(super) interval: Duration,
    /// The start of a run is at least this many durations after the start of the previous one.
    pub(super) idle_factor: u32,
    /// Whether a failed run is repeated before the interval is over.
    pub(super) retries_sooner: bool,
    /// The configured time after which data becomes stale.
    pub(super) stale_after: Option<Duration>,
}

/// When the runs of a listing start.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunSchedule {
    /// When the next run starts, if that does not follow from the last one.
    next: Option<Instant>,
    share: f64,
    running_since: Option<Instant>,
    last: Option<LastRun>,
    /// The duration of the last successful run.
    success_took: Duration,
    runs: u32,
    /// Failed runs in a row.
    failures: u32,
}

#[derive(Clone, Copy, Debug)]
struct LastRun {
    started: Instant,
    took: Duration,
    /// A random number between 0 and 1.
    jitter: f64,
}

impl RunSchedule {
    /// Schedules the first run at `first`. `share` is that of [`Spread`].
    pub(super) const fn new(first: Instant, share: f64) -> Self {
        Self {
            next: Some(first),
            share,
            running_since: None,
            last: None,
            success_took: Duration::ZERO,
            runs: 0,
            failures: 0,
        }
    }

    /// Schedules the next run at `now`.
    pub(super) const fn run_at(&mut self, now: Instant) {
        (self.next, self.running_since) = (Some(now), None);
    }

    pub(super) const fn started(&mut self, now: Instant) {
        (self.next, self.running_since) = (None, Some(now));
    }

    /// Records the end of a run. Returns its duration.
    pub(super) fn finished(&mut self, now: Instant, has_failed: bool, jitter: f64) -> Duration {
        let started = self.running_since.take().unwrap_or(now);
        self.next = None;
        let took = now.saturating_duration_since(started);
        self.last = Some(LastRun { started, took, jitter });
        self.runs = self.runs.saturating_add(1);
        if has_failed {
            self.failures = self.failures.saturating_add(1);
        } else {
            (self.failures, self.success_took) = (0, took);
        }
        took
    }

    pub(super) const fn running_since(&self) -> Option<Instant> {
        self.running_since
    }

    /// Whether a run has finished.
    pub(super) const fn has_run(&self) -> bool {
        self.runs > 0
    }

    pub(super) const fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// Failed runs in a row.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// The planned time between the starts of runs.
    pub(super) fn interval(&self, timing: &RunTiming) -> Duration {
        // A run that hangs until it fails must not extend the age of data.
        timing.interval.max(self.success_took.saturating_mul(timing.idle_factor))
    }

    /// How long data is shown.
    pub(super) fn stale_after(&self, timing: &RunTiming) -> Duration {
        timing.stale_after.unwrap_or_else(|| stale_after(self.interval(timing)))
    }

    /// When the next run starts; `None` while one is running.
    pub(super) fn due(&self, timing: &RunTiming) -> Option<Instant> {
        if self.running_since.is_some() || self.next.is_some() {
            return self.next;
        }
        let LastRun { started, took, jitter } = self.last?;
        if self.failures > 0 && timing.retries_sooner {
            let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
            // A walk that fails slowly must not run all the time.
            let wait = RETRY_INTERVAL.saturating_mul(factor).min(self.interval(timing)).max(took);
            return Some(started + took + wait);
        }
        let interval = match self.runs {
            1 => timing.interval.mul_f64(self.share),
            _ => timing.interval.mul_f64(1.0 + JITTER * jitter),
        };
        Some(started + interval.max(took.saturating_mul(timing.idle_factor)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const OPEN: RunTiming = RunTiming { interval: MINUTE, idle_factor: 2, retries_sooner: false, stale_after: None };
    const FULL: RunTiming =
        RunTiming { interval: Duration::from_mins(15), idle_factor: 10, retries_sooner: true, stale_after: None };

    /// A schedule after runs with these durations and failures. Also returns the start of the last one.
    fn after(runs: &[(Duration, bool)], timing: &RunTiming) -> (RunSchedule, Instant) {
        let start = Instant::now();
        let (mut schedule, mut now) = (RunSchedule::new(start, 0.5), start);
        for (took, has_failed) in runs {
            now = schedule.due(timing).expect("no run");
            schedule.started(now);
            assert_eq!(schedule.due(timing), None);
            assert_eq!(schedule.finished(now + *took, *has_failed, 1.0), *took);
        }
        (schedule, now)
    }

    fn wait(runs: &[(Duration, bool)], timing: &RunTiming) -> Duration {
        let (schedule, started) = after(runs, timing);
        schedule.due(timing).expect("no run") - started
    }

    #[test]
    fn runs_start_an_interval_apart_and_the_second_one_spreads_targets() {
        let second = Duration::from_secs(1);
        assert_eq!(wait(&[(second, false)], &OPEN), MINUTE / 2);
        assert_eq!(wait(&[(second, false); 2], &OPEN), MINUTE.mul_f64(1.05));
        assert_eq!(wait(&[(second, true); 2], &OPEN), MINUTE.mul_f64(1.05), "a failed open walk");
    }

    #[test]
    fn a_long_walk_leaves_time_before_the_next() {
        assert_eq!(wait(&[(MINUTE, false); 2], &OPEN), MINUTE * 2);
        assert_eq!(wait(&[(MINUTE * 4, false); 2], &FULL), MINUTE * 40);
        let (schedule, _) = after(&[(MINUTE * 4, false)], &FULL);
        assert_eq!((schedule.interval(&FULL), schedule.stale_after(&FULL)), (MINUTE * 40, MINUTE * 120));
    }

    #[test]
    fn a_failed_full_walk_backs_off_up_to_its_interval() {
        let waits =
            [1, 2, 3, 4, 40].map(|failures| wait(&vec![(Duration::ZERO, true); failures], &FULL).as_secs() / 60);
        assert_eq!(waits, [2, 4, 8, 15, 15]);
        assert_eq!(wait(&[(MINUTE * 30, true)], &FULL), MINUTE * 60, "no sooner than it took");
        let (hung, _) = after(&[(MINUTE * 120, true)], &FULL);
        assert_eq!(hung.stale_after(&FULL), MINUTE * 45, "a walk that hangs keeps no data longer");
        let recovered = [(Duration::ZERO, true), (Duration::ZERO, false)];
        assert_eq!(wait(&recovered, &FULL), FULL.interval.mul_f64(1.05));
    }

    #[test]
    fn run_at_starts_a_run_and_keeps_the_interval() {
        let (mut schedule, started) = after(&[(MINUTE * 4, false); 2], &FULL);
        schedule.run_at(started + MINUTE * 5);
        assert_eq!(schedule.due(&FULL), Some(started + MINUTE * 5));
        assert_eq!(schedule.stale_after(&FULL), MINUTE * 120);
    }

    #[test]
    fn data_is_shown_for_three_intervals_and_at_least_ten_minutes() {
        let (schedule, _) = after(&[(Duration::ZERO, false)], &OPEN);
        assert_eq!(schedule.stale_after(&OPEN), MINUTE * 10);
        assert_eq!(schedule.stale_after(&FULL), MINUTE * 45);
        assert_eq!(schedule.stale_after(&RunTiming { stale_after: Some(MINUTE * 3), ..OPEN }), MINUTE * 3);
    }

    #[test]
    fn first_runs_follow_each_other_closely_and_second_ones_over_the_interval() {
        let spreads = |count| -> Vec<Spread> { (1..=count).map(|at| Spread::new(at, count, MINUTE)).collect() };
        assert_eq!(spreads(1), [Spread { wait: Duration::ZERO, share: 1.0 }]);
        let waits: Vec<u128> = spreads(4).iter().map(|spread| spread.wait.as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 300]);
        let shares: Vec<f64> = spreads(4).iter().map(|spread| spread.share).collect();
        assert!(shares == [0.25, 0.5, 0.75, 1.0], "{shares:?}");
        assert!(spreads(5000).iter().all(|spread| spread.wait < MINUTE));
    }
}
