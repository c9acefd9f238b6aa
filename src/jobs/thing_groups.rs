//! The thing groups of a job, as values of the label `thing_group`.
//!
//! Thousands of jobs target the same few groups, so each name and each set of names is stored once, and a job stores a
//! pointer.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::{JobTarget, NONE, UNKNOWN};

/// A value of the label `thing_group`: a group's name, or a word in angle brackets, which is not a valid group name.
pub(super) type Label = Arc<str>;

/// Whether a label is the name of a thing group, not a placeholder.
#[must_use]
pub(super) fn is_group(label: &str) -> bool {
    !label.starts_with('<')
}

/// The labels of one job, at least one: its target groups, [`NONE`] for a job that targets only things, and
/// [`UNKNOWN`] for unknown targets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Groups(
    /// Boxed, so that a set takes one word, not two: there can be a million jobs.
    Arc<Box<[Label]>>,
);

impl Groups {
    /// The labels, in alphabetical order.
    #[must_use]
    pub fn labels(&self) -> impl ExactSizeIterator<Item = &Label> {
        self.0.iter()
    }
}

/// Makes [`Groups`], and stores each name and each set once.
#[derive(Debug)]
pub(super) struct Interner {
    labels: HashSet<Label>,
    sets: HashSet<Groups>,
    unknown: Groups,
}

impl Default for Interner {
    fn default() -> Self {
        let unknown = Groups(Arc::new([UNKNOWN.into()].into()));
        Self { labels: HashSet::new(), sets: HashSet::new(), unknown }
    }
}

impl Interner {
    /// The groups of a job with these targets; `None` if AWS omitted them.
    pub(super) fn of_targets(&mut self, targets: Option<&[JobTarget]>) -> Groups {
        let Some(targets) = targets else { return self.unknown() };
        let labels: BTreeSet<&str> = targets
            .iter()
            .filter_map(|target| match target {
                JobTarget::ThingGroup(name) => Some(name.as_str()),
                JobTarget::Thing => None,
                JobTarget::Unreadable => Some(UNKNOWN),
            })
            .collect();
        if labels.is_empty() { self.set([NONE].into()) } else { self.set(labels) }
    }

    /// The groups of a job with unknown targets.
    #[must_use]
    pub(super) fn unknown(&self) -> Groups {
        self.unknown.clone()
    }

    /// Drops unused names and sets.
    pub(super) fn sweep(&mut self) {
        self.sets.retain(|set| Arc::strong_count(&set.0) > 1);
        self.labels.retain(|label| Arc::strong_count(label) > 1);
    }

    fn set(&mut self, labels: BTreeSet<&str>) -> Groups {
        let labels = labels.into_iter().map(|label| self.label(label)).collect();
        let set = Groups(Arc::new(labels));
        if let Some(known) = self.sets.get(&set) {
            return known.clone();
        }
        self.sets.insert(set.clone());
        set
    }

    fn label(&mut self, text: &str) -> Label {
        if let Some(known) = self.labels.get(text) {
            return Arc::clone(known);
        }
        let label = Label::from(text);
        self.labels.insert(Arc::clone(&label));
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(groups: &Groups) -> Vec<&str> {
        groups.labels().map(AsRef::as_ref).collect()
    }

    fn group(name: &str) -> JobTarget {
        JobTarget::ThingGroup(name.to_owned())
    }

    #[test]
    fn each_target_group_is_a_label_once_and_things_are_none() {
        let mut interner = Interner::default();
        let of = |interner: &mut Interner, targets: &[JobTarget]| interner.of_targets(Some(targets));
        let several = of(&mut interner, &[group("b"), JobTarget::Thing, group("a"), group("b")]);
        assert_eq!(texts(&several), ["a", "b"]);
        assert_eq!(texts(&of(&mut interner, &[JobTarget::Thing])), [NONE]);
        assert_eq!(texts(&of(&mut interner, &[JobTarget::Unreadable, group("a")])), [UNKNOWN, "a"]);
        assert_eq!(texts(&interner.of_targets(None)), [UNKNOWN]);
    }

    #[test]
    fn equal_sets_are_shared_and_unused_ones_are_dropped() {
        let mut interner = Interner::default();
        let kept = interner.of_targets(Some(&[group("a"), group("b")]));
        let same = interner.of_targets(Some(&[group("b"), group("a")]));
        assert!(Arc::ptr_eq(&kept.0, &same.0));
        drop(interner.of_targets(Some(&[group("c")])));
        interner.sweep();
        assert_eq!((interner.sets.len(), interner.labels.len()), (1, 2));
        drop((kept, same));
        interner.sweep();
        assert_eq!((interner.sets.len(), interner.labels.len()), (0, 0));
    }

    #[test]
    fn the_groups_of_a_job_take_one_word() {
        assert_eq!(size_of::<Groups>(), size_of::<usize>());
    }
}
