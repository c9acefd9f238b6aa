//! A queue of future events.

use std::collections::BTreeMap;

use crate::jobs::Timestamp;

/// Events in the order of their times; events of the same time in the order of insertion. So the result does not
/// depend on how often the queue is read.
#[derive(Clone, Debug)]
pub(super) struct EventQueue<T> {
    entries: BTreeMap<(Timestamp, u64), T>,
    /// The number of all entries so far.
    serial: u64,
}

impl<T> EventQueue<T> {
    pub(super) const fn new() -> Self {
        Self { entries: BTreeMap::new(), serial: 0 }
    }

    pub(super) fn insert(&mut self, at: Timestamp, entry: T) {
        self.entries.insert((at, self.serial), entry);
        self.serial += 1;
    }

    /// The time of the next event.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.entries.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the next event that is due by `now`, with its time.
    pub(super) fn take(&mut self, now: Timestamp) -> Option<(Timestamp, T)> {
        let first = self.entries.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((at, _), entry) = first.remove_entry();
        Some((at, entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_ordered_by_time_and_then_by_insertion() {
        let mut queue = EventQueue::new();
        for (at, entry) in [(5, "c"), (1, "a"), (5, "d"), (3, "b"), (9, "late")] {
            queue.insert(Timestamp::from_millis(at), entry);
        }
        let now = Timestamp::from_millis(8);
        let taken: Vec<_> = std::iter::from_fn(|| queue.take(now)).map(|(at, entry)| (at.as_millis(), entry)).collect();
        assert_eq!(taken, [(1, "a"), (3, "b"), (5, "c"), (5, "d")]);
        assert_eq!(queue.next(), Some(Timestamp::from_millis(9)));
    }
}
