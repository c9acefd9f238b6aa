//! Requests to AWS within the last hour, by operation.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// The oldest minute that counts is this many before the current one.
const MINUTES: u64 = 60;

/// Requests to one operation within the last hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCount {
    /// All that were sent, retries included.
    pub requests: u64,
    /// Those that AWS throttled.
    pub throttled: u64,
}

/// Counts by minute, so that old ones can be dropped.
#[derive(Debug)]
pub(super) struct LastHour {
    start: Instant,
    by_operation: Mutex<BTreeMap<String, VecDeque<(u64, RequestCount)>>>,
}

impl Default for LastHour {
    fn default() -> Self {
        Self { start: Instant::now(), by_operation: Mutex::default() }
    }
}

impl LastHour {
    pub(super) fn request(&self, operation: &str) {
        self.count(operation, |count| count.requests += 1);
    }

    pub(super) fn throttled(&self, operation: &str) {
        self.count(operation, |count| count.throttled += 1);
    }

    /// The counts of each operation that was called.
    pub(super) fn counts(&self) -> BTreeMap<String, RequestCount> {
        let now = self.minute();
        let by_operation = self.by_operation.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |minutes: &VecDeque<(u64, RequestCount)>| {
            let recent = minutes.iter().filter(|(minute, _)| minute + MINUTES > now);
            recent.fold(RequestCount::default(), |sum, (_, count)| RequestCount {
                requests: sum.requests + count.requests,
                throttled: sum.throttled + count.throttled,
            })
        };
        by_operation.iter().map(|(operation, minutes)| (operation.clone(), sum(minutes))).collect()
    }

    fn minute(&self) -> u64 {
        self.start.elapsed().as_secs() / 60
    }

    fn count(&self, operation: &str, add: impl FnOnce(&mut RequestCount)) {
        let now = self.minute();
        let mut by_operation = self.by_operation.lock().unwrap_or_else(PoisonError::into_inner);
        if !by_operation.contains_key(operation) {
            by_operation.insert(operation.to_owned(), VecDeque::new());
        }
        let Some(minutes) = by_operation.get_mut(operation) else { return };
        if minutes.back().is_none_or(|(minute, _)| *minute != now) {
            minutes.push_back((now, RequestCount::default()));
            if minutes.len() as u64 > MINUTES {
                minutes.pop_front();
            }
        }
        if let Some((_, count)) = minutes.back_mut() {
            add(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_count_for_an_hour() {
        let hour = LastHour::default();
        hour.request("ListJobs");
        hour.throttled("ListJobs");
        advance(Duration::from_mins(30)).await;
        hour.request("ListJobs");
        hour.request("DescribeJob");
        let count = |requests, throttled| RequestCount { requests, throttled };
        let counts = |hour: &LastHour| -> Vec<_> { hour.counts().into_iter().collect() };
        let both = |list| vec![("DescribeJob".to_owned(), count(1, 0)), ("ListJobs".to_owned(), list)];
        assert_eq!(counts(&hour), both(count(2, 1)));
        advance(Duration::from_mins(29)).await;
        assert_eq!(counts(&hour), both(count(2, 1)));
        advance(Duration::from_mins(1)).await;
        assert_eq!(counts(&hour), both(count(1, 0)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_operation_keeps_an_hour_of_minutes() {
        let hour = LastHour::default();
        for _ in 0..200 {
            hour.request("ListJobs");
            advance(Duration::from_mins(1)).await;
        }
        assert_eq!(hour.by_operation.lock().expect("no panic")["ListJobs"].len(), 60);
    }
}
