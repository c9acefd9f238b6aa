//! Hourly maintenance windows.
//!
//! They follow the wall clock at every pace of a lifecycle, because their cron expressions name fixed times. The
//! examples of AWS are daily and weekly; hourly windows open and close while a user watches the demo.

use std::time::Duration;

use crate::jobs::Timestamp;

use super::fleet::{Job, MaintenanceWindow};

const MINUTE_MILLIS: i64 = 60_000;
const HOUR_MILLIS: i64 = 60 * MINUTE_MILLIS;

/// A maintenance window that opens every hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HourlyWindow {
    /// The minute of the hour in which it opens, 0 to 59.
    pub(super) minute: u8,
    /// The length, less than an hour.
    pub(super) length_in_minutes: u8,
}

impl HourlyWindow {
    /// The window of a job, if it has an hourly one.
    pub(super) fn of(job: &Job) -> Option<Self> {
        let [window] = job.scheduling.as_deref()?.maintenance_windows.as_slice() else { return None };
        let minute = window.start_time.strip_prefix("cron(")?.strip_suffix(" * ? * * *)")?.parse().ok()?;
        let length_in_minutes = u8::try_from(window.duration_in_minutes).ok()?;
        (minute < 60 && length_in_minutes < 60).then_some(Self { minute, length_in_minutes })
    }

    /// Whether it is open at `time`. Its end is exclusive.
    pub(super) fn contains(self, time: Timestamp) -> bool {
        time < self.last_opening(time).after(self.length())
    }

    /// The first opening after `time`.
    pub(super) fn next_opening(self, time: Timestamp) -> Timestamp {
        self.last_opening(time).after(Duration::from_hours(1))
    }

    /// The end of the window that opened last.
    pub(super) fn closing(self, time: Timestamp) -> Timestamp {
        self.last_opening(time).after(self.length())
    }

    /// The last time it opened or closed.
    pub(super) fn last_change(self, time: Timestamp) -> Timestamp {
        if self.contains(time) { self.last_opening(time) } else { self.closing(time) }
    }

    fn last_opening(self, time: Timestamp) -> Timestamp {
        let offset = i64::from(self.minute) * MINUTE_MILLIS;
        let since = time.as_millis().saturating_sub(offset).rem_euclid(HOUR_MILLIS);
        Timestamp::from_millis(time.as_millis().saturating_sub(since))
    }

    fn length(self) -> Duration {
        Duration::from_mins(u64::from(self.length_in_minutes))
    }
}

impl From<HourlyWindow> for MaintenanceWindow {
    fn from(window: HourlyWindow) -> Self {
        Self {
            start_time: format!("cron({} * ? * * *)", window.minute),
            duration_in_minutes: u32::from(window.length_in_minutes),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::jobs::Status;

    use super::super::fleet::Scheduling;
    use super::*;

    fn at(hours: i64, minutes: i64) -> Timestamp {
        Timestamp::from_millis(hours * HOUR_MILLIS + minutes * MINUTE_MILLIS)
    }

    #[test]
    fn a_window_opens_and_closes_every_hour() {
        let window = HourlyWindow { minute: 50, length_in_minutes: 20 };
        for (time, open, next, closing) in [
            (at(7, 49), false, at(7, 50), at(7, 10)),
            (at(7, 50), true, at(8, 50), at(8, 10)),
            (at(8, 9), true, at(8, 50), at(8, 10)),
            (at(8, 10), false, at(8, 50), at(8, 10)),
            (at(-1, 55), true, at(0, 50), at(0, 10)),
        ] {
            assert_eq!(window.contains(time), open, "{time:?}");
            assert_eq!((window.next_opening(time), window.closing(time)), (next, closing), "{time:?}");
        }
        assert_eq!(window.last_change(at(8, 9)), at(7, 50));
        assert_eq!(window.last_change(at(8, 11)), at(8, 10));
    }

    #[test]
    fn a_window_round_trips_through_its_job() {
        let window = HourlyWindow { minute: 7, length_in_minutes: 25 };
        let job = Job::new("a", Status::Scheduled, at(0, 0));
        assert_eq!(HourlyWindow::of(&job), None);
        let maintenance_windows = vec![window.into()];
        let job = job.scheduled(Scheduling { maintenance_windows, ..Scheduling::default() });
        assert_eq!(HourlyWindow::of(&job), Some(window));
    }

    #[test]
    fn other_windows_are_not_hourly() {
        for (start, minutes) in [("cron(0 2 ? * * *)", 30), ("cron(60 * ? * * *)", 30), ("cron(0 * ? * * *)", 60)] {
            let window = MaintenanceWindow { start_time: start.to_owned(), duration_in_minutes: minutes };
            let maintenance_windows = vec![window];
            let job = Job::new("a", Status::Scheduled, at(0, 0))
                .scheduled(Scheduling { maintenance_windows, ..Scheduling::default() });
            assert_eq!(HourlyWindow::of(&job), None, "{start}");
        }
    }
}
