//! The shown tags of each job, and when they are read again.

use std::sync::Arc;
use std::time::Duration;

use super::backoff::FailureReason;
use super::job_queue::{Answer, CacheState, JobQueue, JobRequest, Pace};
use super::{Job, JobId, Timepoint};

/// Tags rarely change.
const PACE: Pace = Pace {
    interval: Duration::from_hours(24),
    max_interval: Duration::from_hours(24),
    retry: Duration::from_mins(1),
    max_retry: Duration::from_hours(1),
};

/// Three times the interval, as for other collectors.
const STALE_AFTER: Duration = PACE.interval.saturating_mul(3);

/// Longer values are cut. AWS allows no longer ones:
/// [Tag](https://docs.aws.amazon.com/iot/latest/apireference/API_Tag.html).
const MAX_VALUE_CHARS: usize = 256;

/// A tag: key and value.
pub type Tag = (String, String);

/// The values of the configured keys, in their order; `None` if a job lacks a key.
pub type TagValues = Arc<[Option<Box<str>>]>;

#[derive(Clone, Debug)]
pub(super) struct Read {
    at: Timepoint,
    values: TagValues,
}

/// The answers of `ListTagsForResource`.
#[derive(Debug, Default)]
pub(super) struct TagsCache {
    /// The configured keys; empty if tags are not read.
    keys: Arc<[String]>,
    pub(super) queue: JobQueue<Option<Read>, 1>,
}

impl TagsCache {
    /// An empty cache.
    pub(super) fn new(keys: Arc<[String]>) -> Self {
        Self { keys, ..Self::default() }
    }

    /// Applies other keys. Values of other keys were not stored.
    pub(super) fn set_keys(&mut self, keys: &Arc<[String]>) {
        if self.keys != *keys {
            *self = Self::new(Arc::clone(keys));
        }
    }

    /// The values of a job, unless they are stale.
    pub(super) fn values(&self, id: &str, job: &Job, now: Timepoint) -> Option<&TagValues> {
        let read = self.queue.entry(id, job)?.data.as_ref()?;
        is_fresh(read, now).then_some(&read.values)
    }

    /// The state of a job at `now`.
    pub(super) fn state(&self, id: &str, job: &Job, now: Timepoint) -> CacheState {
        self.queue.state(id, job, |entry| entry.data.as_ref().is_some_and(|read| is_fresh(read, now)))
    }

    /// Queues a job, unless a request for it is in flight.
    pub(super) fn schedule(&mut self, id: &JobId, job: &Job) {
        if !self.keys.is_empty() {
            let due = self.queue.entry(id, job).and_then(|entry| entry.history.due(&PACE));
            self.queue.wait(id, job, Some((0, due)));
        }
    }

    /// Records the answer for the job of a request.
    pub(super) fn answered(&mut self, request: &JobRequest, answer: &Answer<Vec<Tag>>, job: &Job, now: Timepoint) {
        let entry = self.queue.answered(&request.id, job);
        entry.history = match answer {
            Answer::Failed(reason) => entry.history.failed(now.instant, *reason),
            Answer::NotFound => entry.history.failed(now.instant, FailureReason::Other),
            Answer::Found(tags) => {
                let value = |key: &String| tags.iter().find(|(known, _)| known == key).map(|(_, value)| shown(value));
                entry.data = Some(Read { at: now, values: self.keys.iter().map(value).collect() });
                entry.history.answered(now.instant, true)
            }
        };
    }
}

fn is_fresh(read: &Read, now: Timepoint) -> bool {
    now.since(read.at) <= STALE_AFTER
}

fn shown(value: &str) -> Box<str> {
    value.chars().take(MAX_VALUE_CHARS).collect::<String>().into_boxed_str()
}

/// The label for a tag key: `tag_`, and the key with `_` instead of every invalid character.
#[must_use]
pub fn tag_label(key: &str) -> String {
    let fit = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    format!("tag_{}", key.chars().map(fit).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_characters_of_a_key_become_underscores_in_its_label() {
        for (key, label) in [("team", "tag_team"), ("cost:center", "tag_cost_center"), ("Größe 1", "tag_Gr__e_1")] {
            assert_eq!(tag_label(key), label);
        }
    }

    #[test]
    fn a_value_is_cut_after_256_characters() {
        assert_eq!(shown(&"é".repeat(300)).chars().count(), 256);
    }
}
