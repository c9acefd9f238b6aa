//! Which thing groups a job targets, as the values that the label `thing_group` has for it.
//!
//! Thousands of jobs target the same few groups again and again, so each name is held once, and each set of names too: what is
//! remembered of a job is a pointer.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::{JobTarget, NONE, UNKNOWN};

/// A value of the label `thing_group`: a group's name, or a word in angle brackets, which no group can be named.
pub(super) type Label = Arc<str>;

/// Whether a label is the name of a thing group, and not a word that stands in for one.
#[must_use]
pub(super) fn is_group(label: &str) -> bool {
    !label.starts_with('<')
}

/// The labels of one job, at least one: the groups that it targets, [`NONE`] where it targets things only, and [`UNKNOWN`] for
/// what is unknown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Groups(
    /// Boxed, so that a set is one word wide and not two: there can be a million jobs.
    Arc<Box<[Label]>>,
);

impl Groups {
    /// The labels, in alphabetical order.
    #[must_use]
    pub fn labels(&self) -> impl ExactSizeIterator<Item = &Label> {
        self.0.iter()
    }
}

/// Makes [`Groups`], and holds each name and each set once.
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
    /// The groups of a job whose targets are these; `None` if AWS did not give them.
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

    /// The groups of a job of which nothing is known.
    #[must_use]
    pub(super) fn unknown(&self) -> Groups {
        self.unknown.clone()
    }

    /// Drops what nothing else uses.
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
    fn groups_are_the_group_targets_each_once_and_things_are_none() {
        let mut interner = Interner::default();
        let of = |interner: &mut Interner, targets: &[JobTarget]| interner.of_targets(Some(targets));
        let several = of(&mut interner, &[group("b"), JobTarget::Thing, group("a"), group("b")]);
        assert_eq!(texts(&several), ["a", "b"]);
        assert_eq!(texts(&of(&mut interner, &[JobTarget::Thing])), [NONE]);
        assert_eq!(texts(&of(&mut interner, &[JobTarget::Unreadable, group("a")])), [UNKNOWN, "a"]);
        assert_eq!(texts(&interner.of_targets(None)), [UNKNOWN]);
    }

    #[test]
    fn equal_sets_are_one_and_unused_ones_are_dropped() {
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
    fn what_is_remembered_of_a_job_is_one_word() {
        assert_eq!(size_of::<Groups>(), size_of::<usize>());
    }
}
