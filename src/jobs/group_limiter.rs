//! Limits the number of thing groups with their own rows.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::group_filter::GroupFilter;
use super::thing_groups::{Label, is_group};
use super::{OTHER, Pair, Timestamp};

/// A group without a row displaces one with a row only if it has this many times its open jobs.
const DISPLACED_BY: u64 = 2;

/// The jobs of one thing group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupRow {
    /// The number of jobs that target it.
    pub jobs: BTreeMap<Pair, u64>,
    /// The creation of the oldest open job of each pair.
    pub oldest_created: BTreeMap<Pair, Timestamp>,
    /// Jobs that are known to be stuck.
    pub stuck: u64,
}

impl GroupRow {
    fn open_jobs(&self) -> u64 {
        self.jobs.iter().filter(|((status, _), _)| status.is_open()).map(|(_, jobs)| jobs).sum()
    }

    fn is_empty(&self) -> bool {
        self.jobs.values().all(|jobs| *jobs == 0)
    }

    /// Adds a job.
    pub(super) fn add(&mut self, pair: &Pair, created_at: Option<Timestamp>) {
        *self.jobs.entry(pair.clone()).or_default() += 1;
        if let Some(created) = created_at.filter(|_| pair.0.is_open()) {
            keep_oldest(&mut self.oldest_created, pair, created);
        }
    }

    /// Splits it into the row of open jobs and that of the others.
    pub(super) fn split(self) -> (Self, Self) {
        let (open, ended) = self.jobs.into_iter().partition(|((status, _), _)| status.is_open());
        (Self { jobs: open, ..self }, Self { jobs: ended, ..Self::default() })
    }

    fn merge(&mut self, row: Self) {
        self.stuck += row.stuck;
        for (pair, jobs) in row.jobs {
            *self.jobs.entry(pair).or_default() += jobs;
        }
        for (pair, created) in row.oldest_created {
            keep_oldest(&mut self.oldest_created, &pair, created);
        }
    }
}

/// Keeps the older of two times.
pub(super) fn keep_oldest(oldest: &mut BTreeMap<Pair, Timestamp>, pair: &Pair, created: Timestamp) {
    let known = oldest.entry(pair.clone()).or_insert(created);
    *known = created.min(*known);
}

/// Chooses the thing groups with their own rows: those with the most open jobs, with few changes over time.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupLimiter {
    /// The rows that were shown. They stay, even as 0, as long as the group has a row.
    shown: BTreeMap<Label, BTreeSet<Pair>>,
}

/// A group that could have its own row.
#[derive(Clone, Debug)]
struct Candidate {
    label: Label,
    open_jobs: u64,
    is_empty: bool,
}

impl GroupLimiter {
    /// Folds groups without their own row into [`OTHER`], so that every sum stays the same. Returns how many were
    /// folded because of the limit.
    ///
    /// A group keeps its row while it has open jobs, unless a group without a row has twice as many. Groups that
    /// `filter` names always have a row; groups that it excludes never do.
    pub(super) fn fold(&self, rows: &mut BTreeMap<Label, GroupRow>, filter: &GroupFilter, limit: usize) -> u64 {
        for (label, pairs) in &self.shown {
            let row = rows.entry(Label::clone(label)).or_default();
            for pair in pairs {
                row.jobs.entry(pair.clone()).or_default();
            }
        }
        let candidates = rows.iter().filter(|(label, _)| is_group(label) && filter.shows(label));
        let candidates: Vec<Candidate> = candidates
            .map(|(label, row)| Candidate {
                label: Label::clone(label),
                open_jobs: row.open_jobs(),
                is_empty: row.is_empty(),
            })
            .collect();
        let chosen = self.choose(&candidates, filter, limit);
        let folded = candidates.iter().filter(|group| !group.is_empty && !chosen.contains(&group.label)).count();
        for (label, mut row) in std::mem::take(rows) {
            if !is_group(&label) || chosen.contains(&label) {
                rows.entry(label).or_default().merge(row);
            } else if !row.is_empty() {
                row.jobs.retain(|_, jobs| *jobs > 0);
                rows.entry(OTHER.into()).or_default().merge(row);
            }
        }
        folded as u64
    }

    fn choose(&self, candidates: &[Candidate], filter: &GroupFilter, limit: usize) -> BTreeSet<Label> {
        let (fixed, mut others): (Vec<Candidate>, Vec<Candidate>) =
            candidates.iter().cloned().partition(|group| filter.never_folds(&group.label));
        let rows_left = limit.saturating_sub(fixed.len());
        let has_row = |group: &Candidate| self.shown.contains_key(&group.label);
        // A group without open jobs can lose its row, but precedes other groups without open jobs.
        others.sort_by_cached_key(|group| {
            (Reverse(group.open_jobs), group.is_empty, Reverse(has_row(group)), Label::clone(&group.label))
        });
        let (mut kept, challengers): (Vec<Candidate>, Vec<Candidate>) =
            others.into_iter().partition(|group| group.open_jobs > 0 && has_row(group));
        let mut challengers = challengers.into_iter();
        // Only if the limit was lowered, or new groups are named by the filter.
        kept.truncate(rows_left);
        kept.extend(challengers.by_ref().take(rows_left - kept.len()));
        kept.sort_by_key(|group| group.open_jobs);
        // The largest group without a row against the smallest with one, and so on.
        for (weaker, challenger) in kept.iter_mut().zip(challengers) {
            if challenger.open_jobs == 0 || challenger.open_jobs < weaker.open_jobs.saturating_mul(DISPLACED_BY) {
                break;
            }
            *weaker = challenger;
        }
        fixed.into_iter().chain(kept).map(|group| group.label).collect()
    }

    /// Stores the rows that are shown. Undocumented labels are not stored: their number is unlimited.
    pub(super) fn remember<'a>(&mut self, rows: impl Iterator<Item = (&'a Label, &'a Pair)>) {
        self.shown.clear();
        for (label, pair) in rows {
            let pairs = self.shown.entry(Label::clone(label)).or_default();
            if !pair.0.is_new() && !pair.1.is_new() {
                pairs.insert(pair.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;
    use crate::jobs::group_filter::tests::filter;
    use crate::jobs::{Status, TargetSelection};

    fn pair(status: Status) -> Pair {
        (status, TargetSelection::Snapshot)
    }

    /// Groups by name, with the number of jobs in progress and of completed ones.
    fn rows<'a>(groups: impl IntoIterator<Item = (&'a str, (u64, u64))>) -> BTreeMap<Label, GroupRow> {
        let row = |(open, ended): (u64, u64)| GroupRow {
            jobs: BTreeMap::from([(pair(Status::InProgress), open), (pair(Status::Completed), ended)]),
            oldest_created: BTreeMap::from([(pair(Status::InProgress), Timestamp::from_secs(open.cast_signed()))]),
            stuck: open / 2,
        };
        groups.into_iter().map(|(name, jobs)| (name.into(), row(jobs))).collect()
    }

    fn named(groups: &BTreeMap<String, (u64, u64)>) -> BTreeMap<Label, GroupRow> {
        rows(groups.iter().map(|(name, jobs)| (name.as_str(), *jobs)))
    }

    fn fold(
        limiter: &mut GroupLimiter,
        mut rows: BTreeMap<Label, GroupRow>,
        filter: &GroupFilter,
        limit: usize,
    ) -> (BTreeMap<Label, GroupRow>, u64) {
        let folded = limiter.fold(&mut rows, filter, limit);
        limiter.remember(rows.iter().flat_map(|(label, row)| row.jobs.keys().map(move |pair| (label, pair))));
        (rows, folded)
    }

    fn labels(rows: &BTreeMap<Label, GroupRow>) -> Vec<&str> {
        rows.keys().map(AsRef::as_ref).collect()
    }

    fn any_groups() -> impl Strategy<Value = BTreeMap<String, (u64, u64)>> {
        btree_map("[0-9a-c]", (0_u64..20, 0_u64..20), 0..12)
    }

    /// The sums that folding must keep.
    fn sum<'a>(rows: impl Iterator<Item = &'a GroupRow>) -> GroupRow {
        let mut sum = GroupRow::default();
        rows.for_each(|row| sum.merge(row.clone()));
        sum.jobs.retain(|_, jobs| *jobs > 0);
        sum
    }

    proptest! {
        #[test]
        fn folding_keeps_every_sum_and_the_limit(times in proptest::collection::vec(any_groups(), 1..5), limit in 0_usize..8) {
            let mut limiter = GroupLimiter::default();
            for groups in times {
                let all = named(&groups);
                let (shown, folded) = fold(&mut limiter, all.clone(), &GroupFilter::default(), limit);
                // A group without jobs has no oldest one either, but these have one by construction.
                let with_jobs = all.values().filter(|row| !row.is_empty());
                let expected = sum(with_jobs.clone());
                let actual = sum(shown.values().filter(|row| !row.is_empty()));
                prop_assert_eq!(actual.jobs, expected.jobs);
                let own = shown.keys().filter(|label| is_group(label)).count();
                prop_assert!(own <= limit);
                let own_with_jobs = shown.iter().filter(|(label, row)| is_group(label) && !row.is_empty()).count();
                prop_assert_eq!(own_with_jobs, with_jobs.count().min(limit), "empty groups get no row");
                prop_assert_eq!(folded, (groups.values().filter(|(open, ended)| open + ended > 0).count() - own_with_jobs) as u64);
            }
        }

        #[test]
        fn a_group_with_open_jobs_loses_its_row_only_to_one_with_twice_as_many(
            first in any_groups(), second in any_groups(), limit in 1_usize..8,
        ) {
            let mut limiter = GroupLimiter::default();
            let (before, _) = fold(&mut limiter, named(&first), &GroupFilter::default(), limit);
            let (after, _) = fold(&mut limiter, named(&second), &GroupFilter::default(), limit);
            for (name, (open, _)) in &second {
                let lost = before.contains_key(name.as_str()) && !after.contains_key(name.as_str()) && *open > 0;
                let displaced_by = |(other, (theirs, _)): (&String, &(u64, u64))| {
                    *theirs >= 2 * open && !before.contains_key(other.as_str()) && after.contains_key(other.as_str())
                };
                prop_assert!(!lost || second.iter().any(displaced_by), "{} lost its row", name);
            }
        }
    }

    #[test]
    fn at_first_the_groups_with_the_most_open_jobs_have_rows() {
        let groups = rows([("a", (1, 99)), ("b", (5, 0)), ("c", (3, 0)), ("d", (0, 9))]);
        let (shown, folded) = fold(&mut GroupLimiter::default(), groups, &GroupFilter::default(), 2);
        assert_eq!((labels(&shown), folded), (vec![OTHER, "b", "c"], 2));
        let other = &shown[OTHER];
        assert_eq!((other.jobs[&pair(Status::InProgress)], other.jobs[&pair(Status::Completed)]), (1, 108));
        assert_eq!(other.oldest_created[&pair(Status::InProgress)], Timestamp::from_secs(0), "the older one");
    }

    #[test]
    fn a_few_jobs_more_do_not_displace_a_group_and_twice_as_many_do() {
        let mut limiter = GroupLimiter::default();
        let mut shown = |a, b| {
            let (shown, _) = fold(&mut limiter, rows([("a", (a, 0)), ("b", (b, 0))]), &GroupFilter::default(), 1);
            labels(&shown).into_iter().find(|label| is_group(label)).map(str::to_owned)
        };
        assert_eq!(shown(3, 2).as_deref(), Some("a"));
        assert_eq!(shown(3, 5).as_deref(), Some("a"));
        assert_eq!(shown(3, 6).as_deref(), Some("b"));
        assert_eq!(shown(7, 6).as_deref(), Some("b"));
        assert_eq!(shown(1, 0).as_deref(), Some("a"), "without open jobs, a group can lose its row");
        assert_eq!(shown(0, 0).as_deref(), Some("a"), "and no other group needs it");
    }

    #[test]
    fn placeholder_labels_do_not_count_and_never_fold() {
        let groups = rows([("<none>", (0, 1)), ("<unknown>", (0, 1)), ("a", (9, 0)), ("b", (8, 0))]);
        let (shown, _) = fold(&mut GroupLimiter::default(), groups, &GroupFilter::default(), 1);
        assert_eq!(labels(&shown), ["<none>", OTHER, "<unknown>", "a"]);
    }

    #[test]
    fn included_names_never_fold_and_excluded_ones_always_do() {
        let groups = || rows([("a", (0, 1)), ("b1", (5, 0)), ("b2", (4, 0)), ("c", (99, 0))]);
        let of = |filter: &GroupFilter, limit| fold(&mut GroupLimiter::default(), groups(), filter, limit);
        let (shown, folded) = of(&filter(&["a", "b.*"], &[]), 2);
        assert_eq!((labels(&shown), folded), (vec![OTHER, "a", "b1"], 1), "excluded groups are not counted");
        assert_eq!(labels(&of(&filter(&["a"], &["a"]), 2).0), [OTHER]);
        assert_eq!(labels(&of(&filter(&["a"], &[]), 0).0), [OTHER, "a"]);
    }

    #[test]
    fn a_group_without_jobs_stays_as_0_until_its_row_is_needed() {
        let mut limiter = GroupLimiter::default();
        let mut shown = |groups: &[(&'static str, (u64, u64))]| {
            let (shown, folded) = fold(&mut limiter, rows(groups.iter().copied()), &GroupFilter::default(), 2);
            (labels(&shown).concat(), folded)
        };
        assert_eq!(shown(&[("a", (1, 0)), ("b", (1, 0))]), ("ab".to_owned(), 0));
        assert_eq!(shown(&[("b", (1, 0))]), ("ab".to_owned(), 0));
        assert_eq!(shown(&[("b", (1, 0)), ("c", (0, 1))]), ("bc".to_owned(), 0));
    }
}
