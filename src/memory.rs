//! What a target remembers of its jobs from one walk to the next: what `DescribeJob` has told, and can be asked again.
//!
//! Nothing here outlives the process, and nothing needs to: after a restart AWS is asked once more.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fingerprint::{ByFingerprint, Fingerprint, Fingerprinter};
use crate::jobs::Timepoint;
use crate::jobs::thing_groups::{Groups, Interner};
use crate::jobs::{Description, ExecutionCounts, JobTarget, Schedule, Timestamp, same_creation};

/// What is remembered of one target's jobs.
#[derive(Debug)]
pub struct Memory {
    fingerprints: Fingerprinter,
    interner: Interner,
    attributed: ByFingerprint<Attributed>,
    open: BTreeMap<Box<str>, OpenMemory>,
    trouble: ByFingerprint<Trouble>,
}

/// The groups of one job, of which there can be a million: a few words.
#[derive(Debug)]
struct Attributed {
    /// A job's id can be used again after its job is deleted, so a job is told by its id and this.
    created_at: PackedTime,
    groups: Groups,
    standing: Standing,
}

/// A time that may not be known, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PackedTime(i64);

impl PackedTime {
    fn new(time: Option<Timestamp>) -> Self {
        Self(time.map_or(i64::MIN, Timestamp::as_millis))
    }

    fn get(self) -> Option<Timestamp> {
        (self.0 != i64::MIN).then_some(Timestamp::from_millis(self.0))
    }
}

/// How long what is known of a job's groups holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// For the job's life: targets change by `AssociateTargetsWithJob` only, which takes CONTINUOUS jobs in progress.
    Settled,
    /// Until it is told anew.
    MayChange,
    /// AWS gives no description of just this job. It is asked again some day.
    Refused,
}

/// An open job that could not be described, or an ended one.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    /// How often, while other jobs could be.
    failures: u8,
    /// Whether that was for lack of permission.
    denied: bool,
    /// It is not asked for before this.
    until: Option<Timepoint>,
}

/// After so many failures, while others were described, a job is taken for one that AWS does not describe.
const REFUSED_AFTER: u8 = 5;

/// What is remembered of an open job.
#[derive(Clone, Debug, Default)]
struct OpenMemory {
    created_at: Option<Timestamp>,
    schedule: Option<Schedule>,
    executions: Option<(Timepoint, ExecutionCounts)>,
    /// When it was asked for last, described or not.
    asked_at: Option<Timestamp>,
    /// Since when walks have not listed it.
    missing_since: Option<Timepoint>,
}

/// What is known of an open job besides what the walk tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// When it runs.
    pub schedule: Option<Schedule>,
    /// How many executions it has, and when that was told.
    pub executions: Option<(Timepoint, ExecutionCounts)>,
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
            trouble: ByFingerprint::default(),
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
        let known = self.attributed.get(&job).filter(|known| same_creation(known.created_at.get(), created_at))?;
        Some((&known.groups, known.standing))
    }

    /// The groups of a job of which nothing is known.
    #[must_use]
    pub fn unknown_groups(&self) -> Groups {
        self.interner.unknown()
    }

    /// Remembers the groups of a job by its targets. A description that tells none takes away nothing that is known.
    pub fn learn_targets(
        &mut self,
        job: Fingerprint,
        created_at: Option<Timestamp>,
        targets: Option<&[JobTarget]>,
        standing: Standing,
    ) {
        let known = self.groups(job, created_at).map(|(groups, _)| groups.clone());
        let groups = match (targets, known) {
            (None, Some(known)) => known,
            (targets, _) => self.interner.of_targets(targets),
        };
        self.attribute(job, created_at, groups, standing);
    }

    /// Remembers the one group id that a job's summary gives.
    pub fn learn_summary(&mut self, job: Fingerprint, created_at: Option<Timestamp>, thing_group_id: Option<&str>) {
        let groups = self.interner.of_summary(thing_group_id);
        self.attribute(job, created_at, groups, Standing::Settled);
    }

    fn attribute(&mut self, job: Fingerprint, created_at: Option<Timestamp>, groups: Groups, standing: Standing) {
        self.attributed.insert(job, Attributed { created_at: PackedTime::new(created_at), groups, standing });
    }

    /// Remembers that AWS gives no description of a job, which is not asked for again before `until`. The groups that were known
    /// of it are those that it had last.
    pub fn refused(&mut self, job: Fingerprint, created_at: Option<Timestamp>, denied: bool, until: Timepoint) {
        self.trouble.insert(job, Trouble { failures: REFUSED_AFTER, denied, until: Some(until) });
        let groups = self.groups(job, created_at).map_or_else(|| self.interner.unknown(), |(groups, _)| groups.clone());
        self.attribute(job, created_at, groups, Standing::Refused);
    }

    /// Remembers that a job could not be described while others could. After some times it is [`Memory::refused`].
    pub fn failed(&mut self, job: Fingerprint, created_at: Option<Timestamp>, until: Timepoint) {
        let trouble = self.trouble.entry(job).or_insert(Trouble { failures: 0, denied: false, until: None });
        trouble.failures = trouble.failures.saturating_add(1);
        if trouble.failures >= REFUSED_AFTER {
            self.refused(job, created_at, false, until);
        }
    }

    /// A job was described.
    pub fn well(&mut self, job: Fingerprint) {
        self.trouble.remove(&job);
    }

    /// Whether a job is not to be asked for yet.
    #[must_use]
    pub fn is_left_alone(&self, job: Fingerprint, now: Timepoint) -> bool {
        let until = self.trouble.get(&job).and_then(|trouble| trouble.until);
        until.is_some_and(|until| now.instant < until.instant)
    }

    /// Whether a job could not be described lately.
    #[must_use]
    pub fn is_in_trouble(&self, job: Fingerprint) -> bool {
        self.trouble.contains_key(&job)
    }

    /// Whether a job is refused for lack of permission.
    #[must_use]
    pub fn is_denied(&self, job: Fingerprint) -> bool {
        self.trouble.get(&job).is_some_and(|trouble| trouble.denied)
    }

    /// Whether any job is refused for lack of permission.
    #[must_use]
    pub fn has_denials(&self) -> bool {
        self.trouble.values().any(|trouble| trouble.denied)
    }

    /// Lets refused jobs be asked for again whose time has come. Until they are told of, they count as they did.
    pub fn forgive(&mut self, now: Timepoint) {
        for trouble in self.trouble.values_mut() {
            trouble.until = trouble.until.filter(|until| now.instant < until.instant);
        }
    }

    /// Whether an ended job is to be asked for, though what is known of it counts: it was refused, and its time has come.
    #[must_use]
    pub fn is_due(&self, job: Fingerprint) -> bool {
        self.trouble.get(&job).is_some_and(|trouble| trouble.until.is_none() && trouble.failures >= REFUSED_AFTER)
    }

    /// Remembers what a description told of an open job.
    pub fn described(&mut self, job_id: &str, created_at: Option<Timestamp>, description: &Description, at: Timepoint) {
        let described = OpenMemory {
            created_at,
            schedule: Some(description.schedule),
            executions: Some((at, description.executions)),
            asked_at: Some(at.wall),
            missing_since: None,
        };
        self.open.insert(job_id.into(), described);
    }

    /// What the last description told of an open job; nothing where it was another job of the same id.
    #[must_use]
    pub fn known(&self, job_id: &str, created_at: Option<Timestamp>) -> Known {
        let last = self.open.get(job_id).filter(|last| same_creation(last.created_at, created_at));
        last.map_or_else(Known::default, |last| Known { schedule: last.schedule, executions: last.executions })
    }

    /// The jobs that were open when the last walk was published, and those missed then of which nothing could be learned.
    pub fn open(&self) -> impl Iterator<Item = &str> {
        self.open.keys().map(AsRef::as_ref)
    }

    /// When a job was asked for last; `None`, which sorts before any time, where it never was.
    #[must_use]
    pub fn asked_at(&self, job_id: &str) -> Option<Timestamp> {
        self.open.get(job_id)?.asked_at
    }

    /// These jobs have been asked for.
    pub fn asked<'a>(&mut self, jobs: impl Iterator<Item = &'a str>, at: Timepoint) {
        for job in jobs {
            if let Some(open) = self.open.get_mut(job) {
                open.asked_at = Some(at.wall);
            }
        }
    }

    /// Forgets every job that is not `open`, but for those of `missing` that have been so for no longer than `patience`; and takes
    /// up those of which nothing is known yet.
    pub fn keep_open<'a>(
        &mut self,
        open: impl Iterator<Item = (&'a str, Option<Timestamp>)>,
        missing: impl Iterator<Item = &'a str>,
        now: Timepoint,
        patience: Duration,
    ) {
        let mut before = std::mem::take(&mut self.open);
        for (job_id, created_at) in open {
            let known = before.remove(job_id).filter(|last| same_creation(last.created_at, created_at));
            let known = known.unwrap_or_else(|| OpenMemory { created_at, ..OpenMemory::default() });
            self.open.insert(job_id.into(), OpenMemory { missing_since: None, ..known });
        }
        for job_id in missing {
            let Some(known) = before.remove(job_id) else { continue };
            let since = known.missing_since.unwrap_or(now);
            if now.since(since) <= patience {
                self.open.insert(job_id.into(), OpenMemory { missing_since: Some(since), ..known });
            }
        }
    }

    /// Forgets execution counts that are older than this: they move, and what is stale is not shown.
    pub fn expire_executions(&mut self, now: Timepoint, older_than: Duration) {
        for last in self.open.values_mut() {
            last.executions = last.executions.filter(|(at, _)| now.since(*at) <= older_than);
        }
    }

    /// Forgets the groups of the jobs that the last walk did not see, and names that no job has any more.
    pub fn keep_attributed(&mut self, seen: impl Fn(Fingerprint, Option<Timestamp>) -> bool) {
        self.attributed.retain(|job, known| seen(*job, known.created_at.get()));
        // A table that a burst has grown gives its room back.
        if self.attributed.capacity() > 4 * self.attributed.len().max(256) {
            self.attributed.shrink_to_fit();
        }
        self.interner.sweep();
    }

    /// Forgets the trouble with jobs that are gone.
    pub fn keep_trouble(&mut self, seen: impl Fn(Fingerprint) -> bool) {
        self.trouble.retain(|job, _| seen(*job));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        Memory::new(Fingerprinter::new(&[1; 16]))
    }

    fn labels(memory: &Memory, job: Fingerprint, created_at: Option<Timestamp>) -> Vec<String> {
        let groups = memory.groups(job, created_at).map(|(groups, _)| groups.clone());
        groups.iter().flat_map(Groups::labels).map(ToString::to_string).collect()
    }

    #[test]
    fn a_remembered_job_takes_a_few_dozen_bytes() {
        assert!(size_of::<(Fingerprint, Attributed)>() <= 40, "{}", size_of::<(Fingerprint, Attributed)>());
    }

    #[test]
    fn an_id_that_is_used_again_is_another_job_and_a_fraction_of_a_second_is_none() {
        let mut memory = memory();
        let job = memory.fingerprints().of("a");
        let at = |millis| Some(Timestamp::from_millis(millis));
        memory.learn_targets(job, at(1_000_733), Some(&[JobTarget::Thing]), Standing::Settled);
        for same in [at(1_000_733), at(1_000_000), None] {
            assert!(memory.groups(job, same).is_some(), "{same:?}");
        }
        assert_eq!(memory.groups(job, at(1_001_000)), None);
    }

    #[test]
    fn what_is_known_of_groups_is_not_taken_away_by_what_is_not_told() {
        let mut memory = memory();
        let job = memory.fingerprints().of("a");
        memory.learn_targets(job, None, Some(&[JobTarget::ThingGroup("line".to_owned())]), Standing::Settled);
        memory.learn_targets(job, None, None, Standing::MayChange);
        assert_eq!(labels(&memory, job, None), ["line"]);
        memory.learn_targets(memory.fingerprints().of("b"), None, None, Standing::MayChange);
        assert_eq!(labels(&memory, memory.fingerprints().of("b"), None), ["<unknown>"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_fails_again_and_again_is_left_alone_for_a_while() {
        let (mut memory, clock) = (memory(), crate::clock::Clock::starting_at(Timestamp::from_secs(1)));
        let job = memory.fingerprints().of("a");
        let start = clock.now();
        let until = Timepoint { instant: start.instant + Duration::from_mins(1), wall: start.wall };
        for _ in 1..REFUSED_AFTER {
            memory.failed(job, None, until);
            assert!(memory.is_in_trouble(job) && !memory.is_left_alone(job, start));
        }
        memory.failed(job, None, until);
        assert!(memory.is_left_alone(job, start));
        assert_eq!(memory.groups(job, None).map(|(_, standing)| standing), Some(Standing::Refused));
        assert!(!memory.is_due(job));
        tokio::time::advance(Duration::from_mins(1)).await;
        memory.forgive(clock.now());
        assert!(memory.is_due(job) && !memory.is_left_alone(job, clock.now()));
        assert_eq!(
            memory.groups(job, None).map(|(_, standing)| standing),
            Some(Standing::Refused),
            "until it is told of"
        );
    }
}
