//! Which thing groups have rows of their own, where there are more than the limit: those with the most open jobs, and not one
//! today and another tomorrow.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::jobs::OTHER;
use crate::jobs::group_filter::GroupFilter;
use crate::jobs::thing_groups::{Label, is_group};
use crate::snapshot::{GroupRow, GroupTable};

/// A group without a row takes the place of one that has it only with so many times its open jobs.
const DISPLACED_BY: u64 = 2;

/// Remembers which groups had rows of their own.
#[derive(Clone, Debug, Default)]
pub struct Folding {
    shown: BTreeSet<Label>,
}

/// A group that could have a row of its own, and how many open jobs it has.
type Candidate = (Label, u64);

impl Folding {
    /// Folds the groups that get no row of their own into [`OTHER`], so that every sum of memberships stays as it is.
    ///
    /// A group that has a row keeps it while it has open jobs, unless one with twice as many is without. Groups that `filter`
    /// names always have theirs; those that it leaves out never have.
    #[must_use]
    pub fn fold(&mut self, rows: BTreeMap<Label, GroupRow>, filter: &GroupFilter, limit: usize) -> GroupTable {
        let candidates = rows.iter().filter(|(label, _)| is_group(label) && filter.shows(label));
        let candidates: Vec<Candidate> = candidates.map(|(label, row)| (Label::clone(label), open_jobs(row))).collect();
        let shown = self.choose(&candidates, filter, limit);
        let folded = (candidates.len() - shown.len()) as u64;

        let mut table = GroupTable { rows: BTreeMap::new(), folded };
        for (label, row) in rows {
            if !is_group(&label) || shown.contains(&label) {
                table.rows.insert(label, row);
            } else {
                merge(table.rows.entry(OTHER.into()).or_default(), row);
            }
        }
        self.shown = shown;
        table
    }

    fn choose(&self, candidates: &[Candidate], filter: &GroupFilter, limit: usize) -> BTreeSet<Label> {
        let (fixed, mut others): (Vec<Candidate>, Vec<Candidate>) =
            candidates.iter().cloned().partition(|(label, _)| filter.never_folds(label));
        let places = limit.saturating_sub(fixed.len());
        let has_row = |(label, open): &Candidate| *open > 0 && self.shown.contains(label);
        // Without open jobs it has no right to its row, but it still comes before others that have none either.
        others.sort_by_cached_key(|candidate| {
            let (label, open) = candidate;
            (Reverse(*open), Reverse(self.shown.contains(label)), Label::clone(label))
        });
        let (mut kept, challengers): (Vec<Candidate>, Vec<Candidate>) = others.into_iter().partition(has_row);
        let mut challengers = challengers.into_iter();
        // Only where the limit is lower than it was, or groups that never fold have come.
        kept.truncate(places);
        kept.extend(challengers.by_ref().take(places - kept.len()));
        kept.sort_by_key(|(_, open)| *open);
        // The largest that is without against the smallest that has a row, and so on.
        for (weaker, challenger) in kept.iter_mut().zip(challengers) {
            if challenger.1 == 0 || challenger.1 < weaker.1.saturating_mul(DISPLACED_BY) {
                break;
            }
            *weaker = challenger;
        }
        fixed.into_iter().chain(kept).map(|(label, _)| label).collect()
    }
}

fn open_jobs(row: &GroupRow) -> u64 {
    row.jobs.iter().filter(|((status, _), _)| status.is_open()).map(|(_, jobs)| jobs).sum()
}

/// Adds a group to the folded ones: jobs are summed, and of the oldest the older one stays.
fn merge(into: &mut GroupRow, row: GroupRow) {
    for (pair, jobs) in row.jobs {
        *into.jobs.entry(pair).or_default() += jobs;
    }
    for (pair, created) in row.oldest {
        let oldest = into.oldest.entry(pair).or_insert(created);
        *oldest = created.min(*oldest);
    }
    for (threshold, jobs) in row.long_running {
        *into.long_running.entry(threshold).or_default() += jobs;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;
    use crate::jobs::group_filter::tests::filter;
    use crate::jobs::{Status, TargetSelection, Timestamp};
    use crate::snapshot::Pair;

    fn pair(status: Status) -> Pair {
        (status, TargetSelection::Snapshot)
    }

    /// Groups by name, with so many jobs in progress and so many completed.
    fn rows<'a>(groups: impl IntoIterator<Item = (&'a str, (u64, u64))>) -> BTreeMap<Label, GroupRow> {
        let row = |(open, ended): (u64, u64)| GroupRow {
            jobs: BTreeMap::from([(pair(Status::InProgress), open), (pair(Status::Completed), ended)]),
            oldest: BTreeMap::from([(pair(Status::InProgress), Timestamp::from_secs(open.cast_signed()))]),
            long_running: BTreeMap::from([(Duration::from_secs(1), open / 2)]),
        };
        groups.into_iter().map(|(name, jobs)| (name.into(), row(jobs))).collect()
    }

    fn shown(table: &GroupTable) -> Vec<&str> {
        table.rows.keys().map(AsRef::as_ref).collect()
    }

    fn any_groups() -> impl Strategy<Value = BTreeMap<String, (u64, u64)>> {
        btree_map("[a-l]", (0_u64..20, 0_u64..20), 0..12)
    }

    fn named(groups: &BTreeMap<String, (u64, u64)>) -> BTreeMap<Label, GroupRow> {
        rows(groups.iter().map(|(name, jobs)| (name.as_str(), *jobs)))
    }

    /// Everything that folding must keep.
    fn whole<'a>(rows: impl Iterator<Item = &'a GroupRow>) -> GroupRow {
        let mut whole = GroupRow::default();
        rows.for_each(|row| merge(&mut whole, row.clone()));
        whole
    }

    proptest! {
        #[test]
        fn folding_keeps_every_sum_and_the_limit(walks in proptest::collection::vec(any_groups(), 1..5), limit in 0_usize..8) {
            let mut folding = Folding::default();
            for groups in walks {
                let rows = named(&groups);
                let table = folding.fold(rows.clone(), &GroupFilter::default(), limit);
                prop_assert_eq!(whole(table.rows.values()), whole(rows.values()));
                let own = table.rows.keys().filter(|label| is_group(label)).count();
                prop_assert_eq!(own, groups.len().min(limit), "no place is left empty");
                prop_assert_eq!(table.folded, (groups.len() - own) as u64);
                prop_assert_eq!(table.rows.contains_key(OTHER), table.folded > 0);
            }
        }

        #[test]
        fn a_group_keeps_its_row_while_it_has_open_jobs_unless_one_with_twice_as_many_is_without(
            first in any_groups(), second in any_groups(), limit in 1_usize..8,
        ) {
            let mut folding = Folding::default();
            let before = folding.fold(named(&first), &GroupFilter::default(), limit);
            let after = folding.fold(named(&second), &GroupFilter::default(), limit);
            for (name, (open, _)) in &second {
                let lost = before.rows.contains_key(name.as_str()) && !after.rows.contains_key(name.as_str()) && *open > 0;
                let displaced_by = |(other, (theirs, _)): (&String, &(u64, u64))| {
                    *theirs >= 2 * open && !before.rows.contains_key(other.as_str()) && after.rows.contains_key(other.as_str())
                };
                prop_assert!(!lost || second.iter().any(displaced_by), "{} lost its row", name);
                let gained = !before.rows.contains_key(name.as_str()) && after.rows.contains_key(name.as_str());
                prop_assert!(!lost || !gained);
            }
        }
    }

    #[test]
    fn at_first_the_groups_with_the_most_open_jobs_have_rows() {
        let table = Folding::default().fold(
            rows([("a", (1, 99)), ("b", (5, 0)), ("c", (3, 0)), ("d", (0, 9))]),
            &GroupFilter::default(),
            2,
        );
        assert_eq!(shown(&table), [OTHER, "b", "c"]);
        assert_eq!(table.folded, 2);
        let other = &table.rows[OTHER];
        assert_eq!(other.jobs[&pair(Status::InProgress)], 1);
        assert_eq!(other.jobs[&pair(Status::Completed)], 108);
        assert_eq!(other.oldest[&pair(Status::InProgress)], Timestamp::from_secs(0), "the older one");
    }

    #[test]
    fn a_few_jobs_more_do_not_displace_a_group_and_twice_as_many_do() {
        let mut folding = Folding::default();
        let mut fold = |a, b| {
            let table = folding.fold(rows([("a", (a, 0)), ("b", (b, 0))]), &GroupFilter::default(), 1);
            shown(&table).into_iter().find(|label| is_group(label)).map(str::to_owned)
        };
        assert_eq!(fold(3, 2).as_deref(), Some("a"));
        assert_eq!(fold(3, 5).as_deref(), Some("a"));
        assert_eq!(fold(3, 6).as_deref(), Some("b"));
        assert_eq!(fold(7, 6).as_deref(), Some("b"));
        assert_eq!(fold(1, 0).as_deref(), Some("a"), "without open jobs there is no right to a row");
        assert_eq!(fold(0, 0).as_deref(), Some("a"), "and nobody who has more of one");
    }

    #[test]
    fn words_that_stand_in_for_groups_take_no_place_and_never_fold() {
        let table = Folding::default().fold(
            rows([("<none>", (0, 1)), ("<unknown>", (0, 1)), ("a", (9, 0)), ("b", (8, 0))]),
            &GroupFilter::default(),
            1,
        );
        assert_eq!(shown(&table), ["<none>", OTHER, "<unknown>", "a"]);
    }

    #[test]
    fn included_names_never_fold_and_what_the_filter_leaves_out_always_does() {
        let groups = [("a", (0, 1)), ("b1", (5, 0)), ("b2", (4, 0)), ("c", (99, 0))];
        let table = Folding::default().fold(rows(groups), &filter(&["a", "b.*"], &[]), 2);
        assert_eq!(shown(&table), [OTHER, "a", "b1"]);
        assert_eq!(table.folded, 1, "what the operator leaves out is not folded by a limit");
        let table = Folding::default().fold(rows(groups), &filter(&["a"], &["a"]), 2);
        assert_eq!(shown(&table), [OTHER]);
        let table = Folding::default().fold(rows(groups), &filter(&["a"], &[]), 0);
        assert_eq!(shown(&table), [OTHER, "a"]);
    }

    #[test]
    fn a_group_that_went_away_is_gone() {
        let mut folding = Folding::default();
        let _ = folding.fold(rows([("a", (1, 0)), ("b", (1, 0))]), &GroupFilter::default(), 5);
        let table = folding.fold(rows([("b", (1, 0))]), &GroupFilter::default(), 5);
        assert_eq!((shown(&table), table.folded), (vec!["b"], 0));
    }
}
