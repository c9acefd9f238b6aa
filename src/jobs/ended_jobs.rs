//! The ended jobs of one full walk, in 8 bytes each: an account can hold a million of them.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use super::{Pair, Status, TargetSelection};

/// How many bits of a [`PackedJob`] name its pair.
const PAIR_BITS: u32 = 8;

/// Jobs that are sorted and merged at a time. Large enough that a million jobs take 30 merges, and small beside them.
const TAIL: usize = 32_768;

/// An ended job: 56 bits of a keyed hash of its id, then 8 bits that name its status and target selection.
///
/// Two of a million jobs have the same 56 bits with a probability of 1 : 140,000. Nobody outside can provoke it, since the key
/// is random.
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

/// The ended jobs of a full walk, as pages arrive. A later sighting of an id replaces an earlier one.
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

    /// Adds a sighting of an ended job.
    pub(super) fn insert(&mut self, id: &str, pair: &Pair) {
        self.tail.push(PackedJob::new(self.hasher.hash_one(id), self.labels.index(pair)));
        if self.tail.len() >= TAIL {
            self.merge();
        }
    }

    /// Merges from the end, so that the sorted jobs need no second copy.
    #[expect(clippy::indexing_slicing, reason = "places are found by a search, or counted down from the lengths")]
    fn merge(&mut self) {
        // Stable: the last sighting of an id comes last, and is kept.
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
            Ok(place) => {
                merged[place] = *job;
                false
            }
            Err(_) => true,
        });
        let (mut left, mut right) = (merged.len(), self.tail.len());
        // Exact: doubling would waste up to half of the largest allocation.
        merged.reserve_exact(right);
        merged.resize(left + right, PackedJob(0));
        while right > 0 {
            let takes_left = left > 0 && merged[left - 1] > self.tail[right - 1];
            merged[left + right - 1] = if takes_left { merged[left - 1] } else { self.tail[right - 1] };
            if takes_left { left -= 1 } else { right -= 1 }
        }
        self.tail.clear();
    }

    /// Ends the walk. The jobs in `open` were seen as open later.
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
        let place = self.jobs.binary_search_by_key(&hash, |job| job.hash()).ok()?;
        self.jobs.get(place).copied()
    }

    /// Whether the walk saw a job as ended.
    pub(super) fn contains(&self, id: &str) -> bool {
        self.find(id).is_some()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Counts by pair, without the jobs in `ids`, each of which must be there once only. A pair that the walk saw stays, as 0 too.
    pub(super) fn counts_without<'a>(&self, ids: impl Iterator<Item = &'a str>) -> BTreeMap<Pair, u64> {
        let mut counts = self.counts.clone();
        for job in ids.filter_map(|id| self.find(id)) {
            if let Some(count) = counts.get_mut(usize::from(job.pair())) {
                // Two ids with the same 56 bits must not make it negative.
                *count = u64::saturating_sub(*count, 1);
            }
        }
        let mut by_pair = BTreeMap::new();
        for ((pair, jobs), seen) in self.labels.pairs.iter().zip(counts).zip(&self.counts) {
            // A pair of replaced sightings only was never there.
            if *seen == 0 {
                continue;
            }
            *by_pair.entry(self.labels.shown(pair)).or_default() += jobs;
        }
        by_pair
    }
}

/// Pairs that contain texts that AWS added later: so many have an index of their own. The others have 28 at most: 5 statuses and
/// 2 target selections, and for both the two words in angle brackets.
const NEW_PAIRS: usize = 256 - 28;

/// Numbers the pairs of a walk in 8 bits.
#[derive(Debug, Default)]
struct LabelInterner {
    pairs: Vec<Pair>,
    indexes: BTreeMap<Pair, u8>,
    new_pairs: usize,
    /// There were more than [`NEW_PAIRS`]. Then all of them are folded: which ones had an index depends on the order of pages.
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
        // Never more than 256, by the limit above.
        let index = u8::try_from(self.pairs.len()).unwrap_or(u8::MAX);
        self.pairs.push(pair.clone());
        self.indexes.insert(pair.clone(), index);
        index
    }

    fn shown(&self, pair: &Pair) -> Pair {
        if self.is_overflown { folded(pair) } else { pair.clone() }
    }
}

/// A pair without texts that AWS added later.
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
    fn an_ended_job_takes_8_bytes_and_no_room_to_grow() {
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
    fn more_new_pairs_than_have_a_number_are_folded_in_any_order() {
        let statuses = |count: usize| (0..count).map(|status| format!("NEW_{status}"));
        assert_eq!(counts(statuses(NEW_PAIRS)).len(), NEW_PAIRS);
        let known = || (0..30).map(|_| "COMPLETED".to_owned());
        let folded = BTreeMap::from([(pair("<other>"), 300), (pair("COMPLETED"), 30)]);
        assert_eq!(counts(statuses(300).chain(known())), folded);
        assert_eq!(counts(known().chain(statuses(300).collect::<Vec<_>>().into_iter().rev())), folded);
    }

    proptest! {
        #[test]
        fn the_last_sighting_of_each_id_counts(
            sightings in vec((0..20_u8, 0..3_usize, prop::bool::weighted(0.2)), 0..60),
            open in prop::collection::btree_set(0..20_u8, 0..5),
            without in prop::collection::btree_set(0..25_u8, 0..8),
        ) {
            let pairs = [pair("COMPLETED"), pair("CANCELED"), pair("NEW")];
            let (mut builder, mut last) = (EndedJobsBuilder::default(), BTreeMap::new());
            for (id, status, merges) in sightings {
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
