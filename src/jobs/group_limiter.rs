//! Which thing groups have rows of their own.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::group_filter::GroupFilter;
use super::thing_groups::{Label, is_group};
use super::{OTHER, Pair, Timestamp};

/// A group without a row displaces one that has a row only with so many times its open jobs.
const DISPLACED_BY: u64 = 2;

/// The jobs of one thing group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupRow {
    /// Jobs that target it.
    pub jobs: BTreeMap<Pair, u64>,
    /// Creation of the oldest open one of each pair.
    pub oldest_created: BTreeMap<Pair, Timestamp>,
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

    fn merge(&mut self, row: Self) {
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

/// Chooses the thing groups that have rows of their own: those with the most open jobs, and mostly the same from one time to the
/// next.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupLimiter {
    /// The rows that were shown. They stay, as 0 too, as long as the group has a row.
    shown: BTreeMap<Label, BTreeSet<Pair>>,
}

/// A group that could have a row of its own.
#[derive(Clone, Debug)]
struct Candidate {
    label: Label,
    open_jobs: u64,
    is_empty: bool,
}

impl GroupLimiter {
    /// Folds the groups that get no row of their own into [`OTHER`], so that every sum of memberships stays as it is. Returns how
    /// many there are for lack of room.
    ///
    /// A group that has a row keeps it while it has open jobs, unless one with twice as many has none. Groups that `filter`
    /// names always have a row; those that it leaves out never have.
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
        let places = limit.saturating_sub(fixed.len());
        let has_row = |group: &Candidate| self.shown.contains_key(&group.label);
        // Without open jobs a group has no right to its row, but it still comes before others that have none either.
        others.sort_by_cached_key(|group| {
            (Reverse(group.open_jobs), group.is_empty, Reverse(has_row(group)), Label::clone(&group.label))
        });
        let (mut kept, challengers): (Vec<Candidate>, Vec<Candidate>) =
            others.into_iter().partition(|group| group.open_jobs > 0 && has_row(group));
        let mut challengers = challengers.into_iter();
        // Only where the limit is lower than it was, or groups that never fold have come.
        kept.truncate(places);
        kept.extend(challengers.by_ref().take(places - kept.len()));
        kept.sort_by_key(|group| group.open_jobs);
        // The largest without a row against the smallest with one, and so on.
        for (weaker, challenger) in kept.iter_mut().zip(challengers) {
            if challenger.open_jobs == 0 || challenger.open_jobs < weaker.open_jobs.saturating_mul(DISPLACED_BY) {
                break;
            }
            *weaker = challenger;
        }
        fixed.into_iter().chain(kept).map(|group| group.label).collect()
    }

    /// Remembers the rows that are shown. Labels that AWS added later are not kept: there is no bound to them.
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
