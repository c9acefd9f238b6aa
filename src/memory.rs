//! What a target remembers of its jobs from one walk to the next: what `DescribeJob` has told, and can be asked again.
//!
//! Nothing here outlives the process, and nothing needs to: after a restart AWS is asked once more.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Moment;
use crate::fingerprint::{ByFingerprint, Fingerprint, Fingerprinter};
use crate::groups::{Groups, Interner};
use crate::job::{Description, ExecutionCounts, JobTarget, Schedule, Timestamp};

/// What is remembered of one target's jobs.
#[derive(Debug)]
pub struct Memory {
    fingerprints: Fingerprinter,
    interner: Interner,
    attributed: ByFingerprint<Attributed>,
    open: BTreeMap<Box<str>, LastDescribed>,
}

/// The groups of one job, of which there can be a million: a few words.
#[derive(Debug)]
struct Attributed {
    /// A job's id can be used again after its job is deleted, so a job is told by its id and this.
    created_at: Timestamp,
    groups: Groups,
    standing: Standing,
}

/// How long what is known of a job's groups holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// For the job's life: targets change by `AssociateTargetsWithJob` only, which takes CONTINUOUS jobs in progress.
    Settled,
    /// Until it is told anew.
    MayChange,
    /// AWS gave no description of just this job. It is asked again some day.
    Refused,
}

/// What the last description of an open job told.
#[derive(Clone, Debug, Default)]
struct LastDescribed {
    created_at: Option<Timestamp>,
    schedule: Option<Schedule>,
    executions: Option<(Moment, ExecutionCounts)>,
}

/// What is known of an open job besides what the walk tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// When it runs.
    pub schedule: Option<Schedule>,
    /// How many executions it has.
    pub executions: Option<ExecutionCounts>,
}

impl Memory {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new(fingerprints: Fingerprinter) -> Self {
        Self {
            fingerprints,
            interner: Interner::default(),
            attributed: ByFingerprint::default(),
            open: BTreeMap::new(),
        }
    }

    /// What jobs are remembered by.
    #[must_use]
    pub const fn fingerprints(&self) -> Fingerprinter {
        self.fingerprints
    }

    /// The groups of a job, and how long they hold.
    #[must_use]
    pub fn groups(&self, job: Fingerprint, created_at: Option<Timestamp>) -> Option<(&Groups, Standing)> {
        let known = self.attributed.get(&job).filter(|known| known.created_at == or_never(created_at))?;
        Some((&known.groups, known.standing))
    }

    /// The groups of a job of which nothing is known.
    #[must_use]
    pub fn unknown_groups(&self) -> Groups {
        self.interner.unknown()
    }

    /// Remembers the groups of a job by its targets.
    pub fn learn_targets(
        &mut self,
        job: Fingerprint,
        created_at: Option<Timestamp>,
        targets: Option<&[JobTarget]>,
        standing: Standing,
    ) {
        let groups = self.interner.of_targets(targets);
        self.attribute(job, created_at, groups, standing);
    }

    /// Remembers the one group id that a job's summary gives.
    pub fn learn_summary(&mut self, job: Fingerprint, created_at: Option<Timestamp>, thing_group_id: Option<&str>) {
        let groups = self.interner.of_summary(thing_group_id);
        self.attribute(job, created_at, groups, Standing::Settled);
    }

    /// Remembers that AWS gives no description of a job.
    pub fn refused(&mut self, job: Fingerprint, created_at: Option<Timestamp>) {
        let unknown = self.interner.unknown();
        self.attribute(job, created_at, unknown, Standing::Refused);
    }

    /// Forgets every refusal, so that those jobs are asked for again.
    pub fn forget_refusals(&mut self) {
        self.attributed.retain(|_, known| known.standing != Standing::Refused);
    }

    fn attribute(&mut self, job: Fingerprint, created_at: Option<Timestamp>, groups: Groups, standing: Standing) {
        self.attributed.insert(job, Attributed { created_at: or_never(created_at), groups, standing });
    }

    /// Remembers what a description told of an open job.
    pub fn described(&mut self, job_id: &str, description: &Description, at: Moment) {
        let described = LastDescribed {
            created_at: description.summary.created_at,
            schedule: description.schedule,
            executions: Some((at, description.executions)),
        };
        self.open.insert(job_id.into(), described);
    }

    /// What the last description told of an open job; nothing where it was another job of the same id.
    #[must_use]
    pub fn known(&self, job_id: &str, created_at: Option<Timestamp>) -> Known {
        let last = self.open.get(job_id).filter(|last| last.created_at == created_at);
        last.map_or_else(Known::default, |last| Known {
            schedule: last.schedule,
            executions: last.executions.map(|(_, executions)| executions),
        })
    }

    /// The jobs that were open when the last walk was published, and those missed then of which nothing could be learned.
    pub fn open(&self) -> impl Iterator<Item = &str> {
        self.open.keys().map(AsRef::as_ref)
    }

    /// When an open job was created.
    #[must_use]
    pub fn created_at(&self, job_id: &str) -> Option<Timestamp> {
        self.open.get(job_id)?.created_at
    }

    /// When a job was described last; `None` sorts before any time.
    #[must_use]
    pub fn last_described(&self, job_id: &str) -> Option<Timestamp> {
        Some(self.open.get(job_id)?.executions?.0.wall)
    }

    /// Forgets every job that is not `open`, and takes up those of which nothing is known yet.
    pub fn keep_open<'a>(&mut self, open: impl Iterator<Item = (&'a str, Option<Timestamp>)>) {
        let mut before = std::mem::take(&mut self.open);
        for (job_id, created_at) in open {
            let known = before.remove(job_id).filter(|last| last.created_at == created_at);
            let known = known.unwrap_or_else(|| LastDescribed { created_at, ..LastDescribed::default() });
            self.open.insert(job_id.into(), known);
        }
    }

    /// Forgets execution counts that are older than this: they move, and what is stale is not shown.
    pub fn expire_executions(&mut self, now: Moment, older_than: Duration) {
        for last in self.open.values_mut() {
            last.executions = last.executions.filter(|(at, _)| now.since(*at) <= older_than);
        }
    }

    /// Forgets the groups of the jobs that the last walk did not see, and names that no job has any more.
    pub fn keep_attributed(&mut self, seen: impl Fn(Fingerprint, Timestamp) -> bool) {
        self.attributed.retain(|job, known| seen(*job, known.created_at));
        // A table that a burst has grown gives its room back.
        if self.attributed.capacity() > 4 * self.attributed.len().max(256) {
            self.attributed.shrink_to_fit();
        }
        self.interner.sweep();
    }

    /// How many jobs' groups are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.attributed.len()
    }

    /// Whether no job's groups are remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.attributed.is_empty()
    }
}

/// A creation time that is not known, as one that no job has.
#[must_use]
pub fn or_never(created_at: Option<Timestamp>) -> Timestamp {
    created_at.unwrap_or(Timestamp::from_millis(i64::MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remembered_job_takes_a_few_dozen_bytes() {
        assert!(size_of::<(Fingerprint, Attributed)>() <= 40, "{}", size_of::<(Fingerprint, Attributed)>());
    }

    #[test]
    fn an_id_that_is_used_again_is_another_job() {
        let mut memory = Memory::new(Fingerprinter::new(&[1; 16]));
        let job = memory.fingerprints().of("a");
        let (first, second) = (Some(Timestamp::from_secs(1)), Some(Timestamp::from_secs(2)));
        memory.learn_targets(job, first, Some(&[JobTarget::Thing]), Standing::Settled);
        assert!(memory.groups(job, first).is_some());
        assert_eq!(memory.groups(job, second), None);
        assert_eq!(memory.groups(job, None), None);
    }
}
