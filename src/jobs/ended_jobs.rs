//! The ended jobs of one full walk, in 8 bytes each: an account can have a million of them.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use super::{Pair, Status, TargetSelection};

/// The number of bits for the pair in a [`PackedJob`].
const PAIR_BITS: u32 = 8;

/// The number of jobs that are sorted and merged at a time: few merges (30 for a million jobs), and little memory.
const TAIL: usize = 32_768;

/// An ended job: 56 bits of a keyed hash of its id, and 8 bits for its status and target selection.
///
/// Among a million jobs, two have the same 56 bits with a probability of 1 : 140,000. The key is random, so collisions
/// cannot be provoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PackedJob(u64);

impl PackedJob {
    const fn new(hash: u64, pair: u8) -> Self {
        Self(hash >> PAIR_BITS << PAIR_BITS | pair as u64)
    }

    const fn hash(self) -> u64 {
        self.0 >> PAIR_BITS
    }

    const fn pair(self) -> u8 {
        self.0.to_le_bytes()[0]
    }
}

/// Collects the ended jobs of a full walk. A later summary of an id replaces an earlier one.
#[derive(Debug, Default)]
pub(super) struct EndedJobsBuilder {
    hasher: RandomState,
    labels: LabelInterner,
    /// Sorted, each id once.
    merged: Vec<PackedJob>,
    /// In order of arrival.
    tail: Vec<PackedJob>,
}

impl EndedJobsBuilder {
    pub(super) fn with_capacity(jobs: usize) -> Self {
        Self { merged: Vec::with_capacity(jobs), ..Self::default() }
    }

    /// Adds a summary of an ended job.
    pub(super) fn insert(&mut self, id: &str, pair: &Pair) {
        self.tail.push(PackedJob::new(self.hasher.hash_one(id), self.labels.index(pair)));
        if self.tail.len() >= TAIL {
            self.merge();
        }
    }

    /// Merges from the end, so that the sorted jobs need no second copy.
    #[expect(clippy::indexing_slicing, reason = "indexes are found by a search, or counted down from the lengths")]
    fn merge(&mut self) {
        // The sort is stable: the last summary of an id comes last, and is kept.
        self.tail.sort_by_key(|job| job.hash());
        self.tail.dedup_by(|later, kept| {
            let is_same = later.hash() == kept.hash();
            if is_same {
                *kept = *later;
            }
            is_same
        });
        let merged = &mut self.merged;
        self.tail.retain(|job| match merged.binary_search_by_key(&job.hash(), |known| known.hash()) {
            Ok(index) => {
                merged[index] = *job;
                false
            }
            Err(_) => true,
        });
        let (mut left, mut right) = (merged.len(), self.tail.len());
        // Exact: doubling could waste half of the largest allocation.
        merged.reserve_exact(right);
        merged.resize(left + right, PackedJob(0));
        while right > 0 {
            let takes_left = left > 0 && merged[left - 1] > self.tail[right - 1];
            merged[left + right - 1] = if takes_left { merged[left - 1] } else { self.tail[right - 1] };
            if takes_left { left -= 1 } else { right -= 1 }
        }
        self.tail.clear();
    }

    /// Ends the walk. Removes the jobs in `open`, which were listed as open later.
    pub(super) fn finish<'a>(mut self, open: impl Iterator<Item = &'a str>) -> EndedJobs {
        self.merge();
        let Self { hasher, labels, merged: mut jobs, .. } = self;
        let open: HashSet<u64> = open.map(|id| PackedJob::new(hasher.hash_one(id), 0).hash()).collect();
        if !open.is_empty() {
            jobs.retain(|job| !open.contains(&job.hash()));
        }
        jobs.shrink_to_fit();
        let mut counts = vec![0; labels.pairs.len()];
        for job in &jobs {
            if let Some(count) = counts.get_mut(usize::from(job.pair())) {
                *count += 1;
            }
        }
        EndedJobs { hasher, jobs, labels, counts }
    }
}

/// The ended jobs of the last full walk.
#[derive(Debug)]
pub(super) struct EndedJobs {
    hasher: RandomState,
    jobs: Vec<PackedJob>,
    labels: LabelInterner,
    /// By index of the pair.
    counts: Vec<u64>,
}

impl EndedJobs {
    fn find(&self, id: &str) -> Option<PackedJob> {
        let hash = PackedJob::new(self.hasher.hash_one(id), 0).hash();
        let index = self.jobs.binary_search_by_key(&hash, |job| job.hash()).ok()?;
        self.jobs.get(index).copied()
    }

    /// Whether the walk listed a job as ended.
    pub(super) fn contains(&self, id: &str) -> bool {
        self.find(id).is_some()
    }

    /// The number of jobs.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// The counts by pair, without the jobs in `ids`, which must be distinct. A pair that the walk listed stays, even
    /// as 0.
    pub(super) fn counts_without<'a>(&self, ids: impl Iterator<Item = &'a str>) -> BTreeMap<Pair, u64> {
        let mut counts = self.counts.clone();
        for job in ids.filter_map(|id| self.find(id)) {
            if let Some(count) = counts.get_mut(usize::from(job.pair())) {
                // Two ids with the same 56 bits must not cause an underflow.
                *count = u64::saturating_sub(*count, 1);
            }
        }
        let mut by_pair = BTreeMap::new();
        for ((pair, jobs), seen) in self.labels.pairs.iter().zip(counts).zip(&self.counts) {
            // All summaries of this pair were replaced.
            if *seen == 0 {
                continue;
            }
            *by_pair.entry(self.labels.shown(pair)).or_default() += jobs;
        }
        by_pair
    }
}

/// How many pairs with undocumented texts have their own index. The others are at most 28: 5 statuses and 2 target
/// selections, and for both the two words in angle brackets.
const NEW_PAIRS: usize = 256 - 28;

/// Maps the pairs of a walk to 8 bits.
#[derive(Debug, Default)]
struct LabelInterner {
    pairs: Vec<Pair>,
    indexes: BTreeMap<Pair, u8>,
    new_pairs: usize,
    /// Whether there were more than [`NEW_PAIRS`]. Then all new pairs are folded: which ones have an index depends on
    /// the order of pages.
    is_overflown: bool,
}

impl LabelInterner {
    fn index(&mut self, pair: &Pair) -> u8 {
        if let Some(index) = self.indexes.get(pair) {
            return *index;
        }
        let is_new = pair.0.is_new() || pair.1.is_new();
        if is_new && self.new_pairs == NEW_PAIRS {
            self.is_overflown = true;
            return self.index(&folded(pair));
        }
        self.new_pairs += usize::from(is_new);
        // The limit above ensures that there are at most 256.
        let index = u8::try_from(self.pairs.len()).unwrap_or(u8::MAX);
        self.pairs.push(pair.clone());
        self.indexes.insert(pair.clone(), index);
        index
    }

    fn shown(&self, pair: &Pair) -> Pair {
        if self.is_overflown { folded(pair) } else { pair.clone() }
    }
}

/// A pair with `<other>` instead of undocumented texts.
fn folded((status, selection): &Pair) -> Pair {
    let status = if status.is_new() { Status::other() } else { status.clone() };
    let selection = if selection.is_new() { TargetSelection::other() } else { selection.clone() };
    (status, selection)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn pair(status: &str) -> Pair {
        (status.into(), TargetSelection::Snapshot)
    }

    #[test]
    fn an_ended_job_takes_8_bytes_without_spare_capacity() {
        let mut builder = EndedJobsBuilder::default();
        for job in 0..5 * TAIL {
            builder.insert(&format!("job-{job}"), &pair("COMPLETED"));
        }
        let ended = builder.finish(std::iter::empty());
        assert_eq!((ended.len(), ended.jobs.capacity()), (5 * TAIL, 5 * TAIL));
        assert_eq!(size_of::<PackedJob>(), 8);
    }

    fn counts(statuses: impl Iterator<Item = String>) -> BTreeMap<Pair, u64> {
        let mut builder = EndedJobsBuilder::default();
        for (job, status) in statuses.enumerate() {
            builder.insert(&format!("job-{job}"), &pair(&status));
        }
        builder.finish(std::iter::empty()).counts_without(std::iter::empty())
    }

    #[test]
    fn too_many_new_pairs_are_folded_in_any_order() {
        let statuses = |count: usize| (0..count).map(|status| format!("NEW_{status}"));
        assert_eq!(counts(statuses(NEW_PAIRS)).len(), NEW_PAIRS);
        let known = || (0..30).map(|_| "COMPLETED".to_owned());
        let folded = BTreeMap::from([(pair("<other>"), 300), (pair("COMPLETED"), 30)]);
        assert_eq!(counts(statuses(300).chain(known())), folded);
        assert_eq!(counts(known().chain(statuses(300).collect::<Vec<_>>().into_iter().rev())), folded);
    }

    proptest! {
        #[test]
        fn the_last_summary_of_each_id_counts(
            summaries in vec((0..20_u8, 0..3_usize, prop::bool::weighted(0.2)), 0..60),
            open in prop::collection::btree_set(0..20_u8, 0..5),
            without in prop::collection::btree_set(0..25_u8, 0..8),
        ) {
            let pairs = [pair("COMPLETED"), pair("CANCELED"), pair("NEW")];
            let (mut builder, mut last) = (EndedJobsBuilder::default(), BTreeMap::new());
            for (id, status, merges) in summaries {
                builder.insert(&id.to_string(), &pairs[status]);
                last.insert(id, status);
                if merges {
                    builder.merge();
                }
            }
            let ids = |ids: std::collections::BTreeSet<u8>| ids.into_iter().map(|id| id.to_string()).collect::<Vec<_>>();
            last.retain(|id, _| !open.contains(id));
            let (open, gone) = (ids(open), without.clone());
            let ended = builder.finish(open.iter().map(AsRef::as_ref));
            prop_assert_eq!(ended.len(), last.len());
            prop_assert!(ended.jobs.is_sorted());
            for id in 0..25 {
                prop_assert_eq!(ended.contains(&id.to_string()), last.contains_key(&id));
            }
            let without = ids(without);
            let mut counts = ended.counts_without(without.iter().map(AsRef::as_ref));
            counts.retain(|_, jobs| *jobs > 0);
            let mut expected = BTreeMap::new();
            for status in last.iter().filter(|(id, _)| !gone.contains(id)).map(|(_, status)| *status) {
                *expected.entry(pairs[status].clone()).or_default() += 1;
            }
            prop_assert_eq!(counts, expected);
        }
    }
}
