//! Counts jobs while pages stream by: each job once, by its last sighting, in a few dozen bytes.
//!
//! An account holds tens or hundreds of thousands of ended jobs and hundreds of open ones. So an ended job is 24 bytes (a
//! 128-bit keyed hash of its id and a packed word), only open ones, and ended ones whose groups are still to be asked for, are
//! kept as records, and the sums are made at the end: only then is it known which sighting was the last, and what its
//! description made of it.

use std::cmp::Reverse;
use std::collections::btree_map::Entry as BTreeEntry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::fingerprint::{ByFingerprint, Fingerprint, Fingerprinter};
use crate::jobs::thing_groups::Groups;
use crate::jobs::{
    JobSummary, OTHER, Scope, Status, TargetSelection, Timestamp, UNKNOWN, is_label_text, same_creation,
};
use crate::memory::{Memory, Standing};
use crate::snapshot::{Counts, OpenJob, Pair};

/// How many unknown statuses (and as many selections) get rows of their own; the rest is folded into [`OTHER`].
pub const MAX_UNKNOWN_WORDS: usize = 16;

/// A count in the making.
#[derive(Debug)]
pub struct Tally {
    fingerprints: Fingerprinter,
    attribution: Attribution,
    statuses: Words,
    selections: Words,
    seen: Seen,
    /// Those that have neither id nor ARN can't be told apart, and are counted as they come.
    nameless: Vec<Sighting>,
    open: ByFingerprint<OpenRecord>,
    waiting: ByFingerprint<WaitingRecord>,
    duplicates: u64,
    malformed: u64,
    recovered: u64,
}

/// Which jobs are attributed to thing groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribution {
    /// None.
    Nothing,
    /// Open ones.
    Open,
    /// Open ones, and those that ended at this time or later.
    EndedSince(Timestamp),
}

#[derive(Debug)]
struct OpenRecord {
    job_id: Box<str>,
    created_at: Option<Timestamp>,
    last_updated_at: Option<Timestamp>,
}

#[derive(Debug)]
struct WaitingRecord {
    job_id: Box<str>,
    ended_at: Option<Timestamp>,
    last_updated_at: Option<Timestamp>,
}

/// A finished count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tallied {
    /// The counts.
    pub counts: Counts,
    /// What groups the jobs have that are not in [`Counts::open`]; `None` where groups are not looked at.
    pub attributed: Option<Attributed>,
}

/// Ended jobs of the window, by their groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributed {
    /// How many jobs have these groups.
    pub sums: BTreeMap<(Pair, Groups), Sum>,
    /// Jobs whose groups are still to be asked for, by their ids.
    pub waiting: BTreeMap<Box<str>, Waiting>,
    /// How many of the sums are of jobs that AWS does not describe.
    pub refused: u64,
    /// Whether ended jobs are attributed at all.
    pub includes_ended: bool,
}

/// Some jobs of one pair and one set of groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub jobs: u64,
    /// When the oldest was created.
    pub oldest: Option<Timestamp>,
}

impl Sum {
    /// Adds a job.
    pub fn add(&mut self, created_at: Option<Timestamp>) {
        self.jobs += 1;
        self.oldest = earlier(self.oldest, created_at);
    }
}

/// A job whose groups are still to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// When it ended, as far as AWS tells: when it was completed, else last changed, else created.
    pub ended_at: Option<Timestamp>,
    /// As what it is counted.
    pub pair: Pair,
}

impl Tally {
    /// Starts a count.
    #[must_use]
    pub fn new(fingerprints: Fingerprinter, attribution: Attribution) -> Self {
        Self {
            fingerprints,
            attribution,
            statuses: Words::new(Status::KNOWN.iter().map(Status::as_str)),
            selections: Words::new(TargetSelection::KNOWN.iter().map(TargetSelection::as_str)),
            seen: Seen::default(),
            nameless: Vec::new(),
            open: ByFingerprint::default(),
            waiting: ByFingerprint::default(),
            duplicates: 0,
            malformed: 0,
            recovered: 0,
        }
    }

    /// Counts one summary. A later summary of the same job takes the place of an earlier one.
    pub fn add(&mut self, summary: &JobSummary, memory: &Memory) {
        let id = summary.id();
        if id.is_none() || summary.status.is_none() || summary.target_selection.is_none() {
            self.malformed += 1;
        }
        let Some(id) = id else {
            let sighting = self.sighting(summary);
            self.nameless.push(sighting);
            return;
        };
        self.duplicates += u64::from(self.put(id, summary, memory));
    }

    /// What a description says of a job, and, of what it leaves out, what the count tells of it so far.
    #[must_use]
    pub fn completed(&self, job_id: &str, description: &JobSummary) -> JobSummary {
        let job = self.fingerprints.of(job_id);
        let Some(seen) = self.seen.get(job) else { return description.clone() };
        let (open, waiting) = (self.open.get(&job), self.waiting.get(&job));
        let updated =
            open.and_then(|open| open.last_updated_at).or(waiting.and_then(|waiting| waiting.last_updated_at));
        let status = || self.statuses.told(seen.status()).map(Status::from);
        let selection = || self.selections.told(seen.selection()).map(TargetSelection::from);
        JobSummary {
            status: description.status.clone().or_else(status),
            target_selection: description.target_selection.clone().or_else(selection),
            created_at: description.created_at.or(seen.created_at()),
            last_updated_at: description.last_updated_at.or(updated),
            completed_at: description.completed_at.or(waiting.and_then(|waiting| waiting.ended_at)),
            is_concurrent: description.is_concurrent.or(seen.is_concurrent()),
            ..description.clone()
        }
    }

    /// Takes what a newer description says of a job in place of its sighting; what it leaves out stays as it was seen.
    ///
    /// A job whose status is out of `scope` by now is counted no more, as if the walk had come later.
    pub fn amend(&mut self, job_id: &str, description: &JobSummary, scope: &Scope, memory: &Memory) {
        let Some(seen) = self.seen.get(self.fingerprints.of(job_id)) else { return };
        let amended = self.completed(job_id, description);
        // What ListJobs has listed as it is now is in scope, whatever is known of its filters.
        let is_as_seen = self.statuses.told(seen.status()) == amended.status.as_ref().map(Status::as_str);
        if is_as_seen || scope.covers(&amended) {
            self.put(job_id, &amended, memory);
        } else {
            self.remove(job_id);
        }
    }

    /// Counts a job that the walk missed by its description, unless it is out of `scope` by now. Tells whether it is counted.
    pub fn recover(&mut self, job_id: &str, description: &JobSummary, scope: &Scope, memory: &Memory) -> bool {
        let counts = scope.covers(description);
        if counts {
            self.put(job_id, description, memory);
            self.recovered += 1;
        }
        counts
    }

    /// Takes a job out of the count: it is gone.
    pub fn remove(&mut self, job_id: &str) {
        let job = self.fingerprints.of(job_id);
        self.seen.shard_mut(job).remove(&job);
        self.open.remove(&job);
        self.waiting.remove(&job);
    }

    /// Whether a job was met.
    #[must_use]
    pub fn has_met(&self, job_id: &str) -> bool {
        self.seen.get(self.fingerprints.of(job_id)).is_some()
    }

    /// What the count tells of a job so far; `None` where it was not met.
    #[must_use]
    pub fn seen(&self, job_id: &str) -> Option<SeenJob> {
        let job = self.fingerprints.of(job_id);
        let sighting = self.seen.get(job)?;
        let (open, waiting) = (self.open.get(&job), self.waiting.get(&job));
        Some(SeenJob {
            is_open: sighting.is_open(),
            created_at: sighting.created_at(),
            last_updated_at: open
                .and_then(|open| open.last_updated_at)
                .or(waiting.and_then(|waiting| waiting.last_updated_at)),
        })
    }

    /// Whether a job is one of those that are attributed to groups.
    #[must_use]
    pub fn attributes(&self, summary: &JobSummary) -> bool {
        let is_open = summary.status.as_ref().is_some_and(Status::is_open);
        match self.attribution {
            Attribution::Nothing => false,
            Attribution::Open => is_open,
            // One that tells no time can't be left out for its age.
            Attribution::EndedSince(since) => is_open || ended_at(summary).is_none_or(|ended| ended >= since),
        }
    }

    /// The ids of the open jobs.
    pub fn open(&self) -> impl Iterator<Item = &str> {
        self.open.values().map(|record| &*record.job_id)
    }

    /// The ids of the open jobs, and when each was created.
    pub fn open_with_creation(&self) -> impl Iterator<Item = (&str, Option<Timestamp>)> {
        self.open.values().map(|record| (&*record.job_id, record.created_at))
    }

    /// The ids of the ended jobs whose groups are still to be asked for, the last to end first; after them those that could not
    /// be described lately.
    #[must_use]
    pub fn waiting(&self, memory: &Memory) -> Vec<Box<str>> {
        let waiting = self.waiting.iter().map(|(job, record)| (*job, record.ended_at, &record.job_id));
        in_order(waiting, memory)
    }

    /// Tells whether the job was met before.
    fn put(&mut self, id: &str, summary: &JobSummary, memory: &Memory) -> bool {
        let sighting = self.sighting(summary);
        let job = self.fingerprints.of(id);
        let met_before = self.seen.shard_mut(job).insert(job, sighting).is_some();
        if sighting.is_open() {
            let JobSummary { created_at, last_updated_at, .. } = *summary;
            self.open.insert(job, OpenRecord { job_id: id.into(), created_at, last_updated_at });
        } else {
            self.open.remove(&job);
        }
        let is_to_ask = || settled(memory, job, sighting).is_none() || memory.is_due(job);
        if sighting.is_attributed() && !sighting.is_open() && is_to_ask() {
            let JobSummary { last_updated_at, .. } = *summary;
            self.waiting.insert(job, WaitingRecord { job_id: id.into(), ended_at: ended_at(summary), last_updated_at });
        } else {
            self.waiting.remove(&job);
        }
        met_before
    }

    fn sighting(&mut self, summary: &JobSummary) -> Sighting {
        let is_attributed = self.attributes(summary);
        Sighting::new(
            self.statuses.index(summary.status.as_ref().map(Status::as_str)),
            self.selections.index(summary.target_selection.as_ref().map(TargetSelection::as_str)),
            summary.is_concurrent,
            is_attributed,
            summary.created_at,
        )
    }

    /// Ends the count, and lets `memory` forget the groups of the jobs that it did not meet. `scope` says which pairs are known
    /// to be none where none was met.
    #[must_use]
    pub fn finish(self, scope: &Scope, memory: &mut Memory) -> Tallied {
        memory.keep_attributed(|job, created_at| {
            let seen = self.seen.get(job);
            seen.is_some_and(|seen| seen.is_attributed() && same_creation(seen.created_at(), created_at))
        });
        memory.keep_trouble(|job| self.seen.get(job).is_some());
        let sightings = || self.seen.sightings().map(|(_, sighting)| sighting).chain(&self.nameless).copied();
        // Which unknown words are shown is decided by their text, once all of them are known: never by the order of pages.
        let statuses = self.statuses.shown(sightings().map(Sighting::status));
        let selections = self.selections.shown(sightings().map(Sighting::selection));
        let pair = |sighting: Sighting| -> Pair {
            (
                Status::from(statuses[sighting.status()].as_str()),
                TargetSelection::from(selections[sighting.selection()].as_str()),
            )
        };

        let mut counts = Counts {
            jobs: scope.known_pairs().map(|pair| (pair, 0)).collect(),
            concurrent: scope.selections().iter().map(|selection| (selection.clone(), 0)).collect(),
            duplicates: self.duplicates,
            malformed: self.malformed,
            recovered: self.recovered,
            ..Counts::default()
        };
        // Packed words make few distinct groups, so texts are made once a group and not once a job.
        let mut groups: BTreeMap<(usize, usize), Group> = BTreeMap::new();
        for sighting in sightings() {
            groups.entry((sighting.status(), sighting.selection())).or_default().add(sighting);
            counts.total += 1;
        }
        let mut unsure = BTreeSet::new();
        for group in groups.into_values() {
            let Some(sample) = group.sample else { continue };
            let pair = pair(sample);
            if let (true, Some(created)) = (pair.0.is_open(), group.oldest) {
                match counts.oldest.entry(pair.clone()) {
                    BTreeEntry::Vacant(vacant) => drop(vacant.insert(created)),
                    BTreeEntry::Occupied(mut known) => *known.get_mut() = created.min(*known.get()),
                }
            }
            *counts.concurrent.entry(pair.1.clone()).or_default() += group.concurrent;
            if pair.0 == Status::InProgress && group.concurrency_untold {
                unsure.insert(pair.1.clone());
            }
            *counts.jobs.entry(pair).or_default() += group.jobs;
        }
        counts.concurrent.retain(|selection, _| scope.statuses.is_empty() && !unsure.contains(selection));

        let is_attributing = self.attribution != Attribution::Nothing;
        let open = |(job, record): (&Fingerprint, &OpenRecord)| {
            let (status, target_selection) = pair(self.seen.get(*job)?);
            let groups = || memory.groups(*job, record.created_at).map(|(groups, _)| groups.clone());
            let known = memory.known(&record.job_id, record.created_at);
            Some(OpenJob {
                job_id: record.job_id.clone(),
                status,
                target_selection,
                created_at: record.created_at,
                last_updated_at: record.last_updated_at,
                groups: is_attributing.then(|| groups().unwrap_or_else(|| memory.unknown_groups())),
                schedule: known.schedule,
                executions: known.executions.map(|(_, executions)| executions),
                described_at: known.executions.map(|(at, _)| at.wall),
            })
        };
        counts.open = self.open.iter().filter_map(open).collect();
        counts.open.sort_by(|a, b| {
            let age = |job: &OpenJob| (job.created_at.is_none(), job.created_at);
            age(a).cmp(&age(b)).then_with(|| a.job_id.cmp(&b.job_id))
        });
        let attributed = is_attributing.then(|| self.attribute(&pair, memory));
        Tallied { counts, attributed }
    }

    /// Sums the attributed jobs that have no record as an open one.
    fn attribute(&self, pair: &impl Fn(Sighting) -> Pair, memory: &Memory) -> Attributed {
        // Again few distinct keys for many jobs.
        let mut sums: HashMap<(usize, usize, Groups), (Sighting, Sum)> = HashMap::new();
        let mut add = |sighting: Sighting, groups: Groups| {
            let key = (sighting.status(), sighting.selection(), groups);
            sums.entry(key).or_insert((sighting, Sum::default())).1.add(sighting.created_at());
        };
        let mut refused = 0;
        for (job, sighting) in
            self.seen.sightings().filter(|(_, sighting)| sighting.is_attributed() && !sighting.is_open())
        {
            // Those that wait were put there when they were seen; of any other, what is known is as good as it gets.
            let is_waiting = self.waiting.contains_key(job) && settled(memory, *job, *sighting).is_none();
            if let Some((groups, standing)) = memory.groups(*job, sighting.created_at()).filter(|_| !is_waiting) {
                refused += u64::from(standing == Standing::Refused);
                add(*sighting, groups.clone());
            }
        }
        for sighting in self.nameless.iter().filter(|sighting| sighting.is_attributed()) {
            add(*sighting, memory.unknown_groups());
        }
        let waiting = |(job, record): (&Fingerprint, &WaitingRecord)| {
            let sighting = self.seen.get(*job).filter(|sighting| settled(memory, *job, *sighting).is_none())?;
            let waiting =
                Waiting { created_at: sighting.created_at(), ended_at: record.ended_at, pair: pair(sighting) };
            Some((record.job_id.clone(), waiting))
        };
        let waiting = self.waiting.iter().filter_map(waiting).collect();
        let mut by_pair: BTreeMap<(Pair, Groups), Sum> = BTreeMap::new();
        for ((_, _, groups), (sighting, sum)) in sums {
            let known = by_pair.entry((pair(sighting), groups)).or_default();
            known.jobs += sum.jobs;
            known.oldest = earlier(known.oldest, sum.oldest);
        }
        let includes_ended = matches!(self.attribution, Attribution::EndedSince(_));
        Attributed { sums: by_pair, waiting, refused, includes_ended }
    }
}

impl Tallied {
    /// Takes a job from those whose groups are still to be asked for.
    pub fn settle(&mut self, job_id: &str) -> Option<Waiting> {
        self.attributed.as_mut()?.waiting.remove(job_id)
    }

    /// Puts a job back to those whose groups are still to be asked for.
    pub fn wait(&mut self, job_id: &str, job: Waiting) {
        if let Some(attributed) = &mut self.attributed {
            attributed.waiting.insert(job_id.into(), job);
        }
    }

    /// As [`Tally::waiting`].
    #[must_use]
    pub fn waiting(&self, memory: &Memory) -> Vec<Box<str>> {
        let waiting = self.attributed.iter().flat_map(|attributed| &attributed.waiting);
        in_order(waiting.map(|(job_id, waiting)| (memory.fingerprints().of(job_id), waiting.ended_at, job_id)), memory)
    }

    /// Attributes a job that was waiting to the groups that are known of it by now.
    pub fn attribute(&mut self, job: &Waiting, fingerprint: Fingerprint, memory: &Memory) {
        let Some(attributed) = &mut self.attributed else { return };
        let Some((groups, standing)) = memory.groups(fingerprint, job.created_at) else { return };
        attributed.refused += u64::from(standing == Standing::Refused);
        attributed.sums.entry((job.pair.clone(), groups.clone())).or_default().add(job.created_at);
    }

    /// Takes a job that was waiting out of the count: it is gone.
    pub fn remove(&mut self, job: &Waiting) {
        if let Some(jobs) = self.counts.jobs.get_mut(&job.pair) {
            *jobs = jobs.saturating_sub(1);
            self.counts.total = self.counts.total.saturating_sub(1);
        }
    }
}

/// What a count tells of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenJob {
    /// Whether it is counted as an open one.
    pub is_open: bool,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// When it last changed, for an open one and for one whose groups are to be asked for.
    pub last_updated_at: Option<Timestamp>,
}

impl SeenJob {
    /// Whether a description that was asked for later is really newer: AWS may answer with what it knew before. Fractions of a
    /// second don't count, since nothing says that all calls write them alike.
    #[must_use]
    pub fn is_older_than(&self, description: &JobSummary) -> bool {
        let second = |time: Timestamp| time.as_millis().div_euclid(1000);
        match (self.last_updated_at, description.last_updated_at) {
            (Some(seen), Some(described)) => second(seen) <= second(described),
            _ => true,
        }
    }
}

fn in_order<'a>(
    waiting: impl Iterator<Item = (Fingerprint, Option<Timestamp>, &'a Box<str>)>,
    memory: &Memory,
) -> Vec<Box<str>> {
    let mut waiting: Vec<_> =
        waiting.map(|(job, ended_at, job_id)| (memory.is_in_trouble(job), Reverse(ended_at), job_id)).collect();
    waiting.sort_unstable();
    waiting.into_iter().map(|(.., job_id)| job_id.clone()).collect()
}

/// The groups that are known of an ended job for good.
fn settled(memory: &Memory, job: Fingerprint, sighting: Sighting) -> Option<(&Groups, Standing)> {
    memory.groups(job, sighting.created_at()).filter(|(_, standing)| *standing != Standing::MayChange)
}

/// When a job that is not open ended, as far as it tells.
fn ended_at(summary: &JobSummary) -> Option<Timestamp> {
    summary.completed_at.or(summary.last_updated_at).or(summary.created_at)
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}

/// The sums of all sightings with the same status and selection.
#[derive(Default)]
struct Group {
    sample: Option<Sighting>,
    jobs: u64,
    concurrent: u64,
    concurrency_untold: bool,
    oldest: Option<Timestamp>,
}

impl Group {
    fn add(&mut self, sighting: Sighting) {
        self.sample.get_or_insert(sighting);
        self.jobs += 1;
        match sighting.is_concurrent() {
            Some(concurrent) => self.concurrent += u64::from(concurrent),
            None => self.concurrency_untold = true,
        }
        self.oldest = earlier(self.oldest, sighting.created_at());
    }
}

/// The last sighting of every job. In shards, because a table that grows holds its old and its new buckets for a moment: in
/// sixteen tables that is a sixteenth of the jobs at a time, and not half as much again of all of them.
#[derive(Debug, Default)]
struct Seen([Shard; SHARDS]);

type Shard = ByFingerprint<Sighting>;

const SHARDS: usize = 16;

impl Seen {
    /// Chosen by bits that the table itself does not use.
    fn index(fingerprint: Fingerprint) -> usize {
        mask(fingerprint.spare_bits(), SHARDS.ilog2())
    }

    fn shard_mut(&mut self, fingerprint: Fingerprint) -> &mut Shard {
        &mut self.0[Self::index(fingerprint)]
    }

    fn get(&self, fingerprint: Fingerprint) -> Option<Sighting> {
        self.0[Self::index(fingerprint)].get(&fingerprint).copied()
    }

    fn sightings(&self) -> impl Iterator<Item = (&Fingerprint, &Sighting)> {
        self.0.iter().flatten()
    }
}

/// A job's status, selection, concurrency, whether it is attributed to groups, and creation time in one word: 9, 8, 2, 1 and 44
/// bits.
///
/// 44 bits of milliseconds reach to [`Timestamp::LATEST`]; a time before 1970 or after that is kept as unknown.
#[derive(Clone, Copy, Debug)]
struct Sighting(u64);

const STATUS_BITS: u32 = 9;
const SELECTION_BITS: u32 = 8;
const CONCURRENT_BITS: u32 = 2;
const ATTRIBUTED_BITS: u32 = 1;
const TIME_BITS: u32 = 44;
const NO_TIME: u64 = (1 << TIME_BITS) - 1;

const ATTRIBUTED_AT: u32 = TIME_BITS;
const CONCURRENT_AT: u32 = ATTRIBUTED_AT + ATTRIBUTED_BITS;
const SELECTION_AT: u32 = CONCURRENT_AT + CONCURRENT_BITS;
const STATUS_AT: u32 = SELECTION_AT + SELECTION_BITS;

impl Sighting {
    fn new(
        status: usize,
        selection: usize,
        is_concurrent: Option<bool>,
        is_attributed: bool,
        created_at: Option<Timestamp>,
    ) -> Self {
        let time = created_at.and_then(|at| u64::try_from(at.as_millis()).ok()).map_or(NO_TIME, |at| at.min(NO_TIME));
        let concurrent = match is_concurrent {
            None => 0,
            Some(false) => 1,
            Some(true) => 2,
        };
        let attributed = u64::from(is_attributed) << ATTRIBUTED_AT;
        Self(
            (status as u64) << STATUS_AT
                | (selection as u64) << SELECTION_AT
                | concurrent << CONCURRENT_AT
                | attributed
                | time,
        )
    }

    /// Known statuses come first among the words.
    fn is_open(self) -> bool {
        Status::KNOWN.get(self.status()).is_some_and(Status::is_open)
    }

    fn is_attributed(self) -> bool {
        mask(self.0 >> ATTRIBUTED_AT, ATTRIBUTED_BITS) == 1
    }

    fn status(self) -> usize {
        mask(self.0 >> STATUS_AT, STATUS_BITS)
    }

    fn selection(self) -> usize {
        mask(self.0 >> SELECTION_AT, SELECTION_BITS)
    }

    fn is_concurrent(self) -> Option<bool> {
        match mask(self.0 >> CONCURRENT_AT, CONCURRENT_BITS) {
            0 => None,
            1 => Some(false),
            _ => Some(true),
        }
    }

    fn created_at(self) -> Option<Timestamp> {
        let time = self.0 & NO_TIME;
        i64::try_from(time).ok().filter(|_| time != NO_TIME).map(Timestamp::from_millis)
    }
}

fn mask(value: u64, bits: u32) -> usize {
    usize::try_from(value & ((1 << bits) - 1)).unwrap_or(0)
}

/// The words met for one label, each with a small number: the known ones first, then what AWS sent.
#[derive(Debug)]
struct Words {
    known: usize,
    texts: Vec<Box<str>>,
}

/// More distinct words than this are folded as they come. It keeps indices within [`SELECTION_BITS`], and is so far above
/// [`MAX_UNKNOWN_WORDS`] that no service which means well gets there.
const MAX_WORDS: usize = 200;

impl Words {
    fn new<'a>(known: impl Iterator<Item = &'a str>) -> Self {
        let mut texts: Vec<Box<str>> = known.map(Into::into).collect();
        texts.extend([UNKNOWN.into(), OTHER.into()]);
        Self { known: texts.len(), texts }
    }

    fn index(&mut self, word: Option<&str>) -> usize {
        let other = self.known - 1;
        let word = match word {
            None => UNKNOWN,
            Some(word) if is_label_text(word) => word,
            Some(_) => return other,
        };
        if let Some(index) = self.texts.iter().position(|text| **text == *word) {
            return index;
        }
        if self.texts.len() >= MAX_WORDS {
            return other;
        }
        self.texts.push(word.into());
        self.texts.len() - 1
    }

    /// What was told by this number; `None` where nothing was.
    fn told(&self, index: usize) -> Option<&str> {
        Some(&*self.texts[index]).filter(|text| *text != UNKNOWN)
    }

    /// The text to show for each number: of the unknown words in use, the first [`MAX_UNKNOWN_WORDS`] in alphabetical order keep theirs.
    fn shown(&self, used: impl Iterator<Item = usize>) -> Vec<String> {
        let used: BTreeSet<&str> = used.filter(|index| *index >= self.known).map(|index| &*self.texts[index]).collect();
        let own: BTreeSet<&str> = used.into_iter().take(MAX_UNKNOWN_WORDS).collect();
        let text = |(index, text): (usize, &str)| {
            let shown = index < self.known || own.contains(text);
            if shown { text.to_owned() } else { OTHER.to_owned() }
        };
        self.texts.iter().map(AsRef::as_ref).enumerate().map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    const FINGERPRINTS: [u8; 16] = [7; 16];

    fn memory() -> Memory {
        Memory::new(Fingerprinter::new(&FINGERPRINTS))
    }

    fn tally() -> Tally {
        Tally::new(Fingerprinter::new(&FINGERPRINTS), Attribution::Nothing)
    }

    fn count<'a>(summaries: impl IntoIterator<Item = &'a JobSummary>) -> Counts {
        let (mut tally, mut memory) = (tally(), memory());
        for summary in summaries {
            tally.add(summary, &memory);
        }
        tally.finish(&Scope::default(), &mut memory).counts
    }

    fn job(id: &str, status: &str) -> JobSummary {
        JobSummary {
            job_id: Some(id.to_owned()),
            status: Some(status.into()),
            target_selection: Some(TargetSelection::Snapshot),
            created_at: Some(Timestamp::from_secs(1_700_000_000)),
            is_concurrent: Some(false),
            ..JobSummary::default()
        }
    }

    fn pair(status: &str) -> Pair {
        (status.into(), TargetSelection::Snapshot)
    }

    fn any_summary() -> impl Strategy<Value = JobSummary> {
        const STATUSES: &[&str] =
            &["IN_PROGRESS", "COMPLETED", "CANCELED", "SCHEDULED", "DELETION_IN_PROGRESS", "QUEUED", "a b"];
        (
            proptest::option::weighted(0.95, "[a-c][0-9]"),
            proptest::option::weighted(0.95, select(STATUSES)),
            proptest::option::weighted(0.95, select(&["SNAPSHOT", "CONTINUOUS", "NEW"][..])),
            proptest::option::of(-5_i64..2_000_000_000),
            any::<Option<bool>>(),
        )
            .prop_map(|(id, status, selection, created, is_concurrent)| JobSummary {
                job_id: id,
                status: status.map(Into::into),
                target_selection: selection.map(Into::into),
                created_at: created.map(Timestamp::from_secs),
                is_concurrent,
                ..JobSummary::default()
            })
    }

    /// Counts in the plainest way there is: a map of ids.
    fn reference(summaries: &[JobSummary]) -> BTreeMap<(String, String), u64> {
        let mut last: BTreeMap<String, &JobSummary> = BTreeMap::new();
        let mut jobs = Vec::new();
        for summary in summaries {
            match &summary.job_id {
                Some(id) => drop(last.insert(id.clone(), summary)),
                None => jobs.push(summary),
            }
        }
        jobs.extend(last.into_values());
        let mut counts = BTreeMap::new();
        let text = |text: Option<&str>| match text {
            None => UNKNOWN.to_owned(),
            Some("a b") => OTHER.to_owned(),
            Some(text) => text.to_owned(),
        };
        for job in jobs {
            let key = (
                text(job.status.as_ref().map(Status::as_str)),
                text(job.target_selection.as_ref().map(TargetSelection::as_str)),
            );
            *counts.entry(key).or_default() += 1;
        }
        counts
    }

    fn non_zero(counts: &Counts) -> BTreeMap<(String, String), u64> {
        let text = |((status, selection), n): (&Pair, &u64)| ((status.to_string(), selection.to_string()), *n);
        counts.jobs.iter().filter(|(_, n)| **n > 0).map(text).collect()
    }

    proptest! {
        #[test]
        fn counts_equal_those_of_a_plain_map_of_ids(summaries in vec(any_summary(), 0..80)) {
            prop_assert_eq!(non_zero(&count(&summaries)), reference(&summaries));
        }

        #[test]
        fn every_summary_is_a_job_or_a_duplicate(summaries in vec(any_summary(), 0..80)) {
            let counts = count(&summaries);
            prop_assert_eq!(counts.total, counts.jobs.values().sum::<u64>());
            prop_assert_eq!(counts.total + counts.duplicates, summaries.len() as u64);
        }

        #[test]
        fn page_boundaries_never_change_a_count(summaries in vec(any_summary(), 0..80), page in 1_usize..20) {
            prop_assert_eq!(count(summaries.chunks(page).flatten()), count(&summaries));
        }

        #[test]
        fn order_and_repeats_never_change_a_count(
            jobs in proptest::collection::btree_map("[a-z]{1,3}", any_summary(), 0..40),
            repeats in vec(any::<prop::sample::Index>(), 0..20),
            seed in any::<u64>(),
        ) {
            let once: Vec<JobSummary> =
                jobs.into_iter().map(|(id, summary)| JobSummary { job_id: Some(id), ..summary }).collect();
            let mut again = once.clone();
            if !once.is_empty() {
                again.extend(repeats.iter().map(|index| index.get(&once).clone()));
            }
            fastrand::Rng::with_seed(seed).shuffle(&mut again);
            let (expected, mut met) = (count(&once), count(&again));
            prop_assert_eq!(met.duplicates, (again.len() - once.len()) as u64);
            met.duplicates = 0;
            met.malformed = expected.malformed;
            prop_assert_eq!(met, expected);
        }

        #[test]
        fn what_is_amended_removed_or_recovered_counts_as_if_the_walk_had_seen_it_so(
            summaries in vec(any_summary(), 0..60), after in vec(("[a-d][0-9]", any_summary(), 0_u8..3), 0..30),
        ) {
            let (mut tally, mut memory, scope) = (tally(), memory(), Scope::default());
            let mut last: BTreeMap<String, JobSummary> = BTreeMap::new();
            let known = summaries.into_iter().filter_map(|summary| Some((summary.job_id.clone()?, summary)));
            for (id, summary) in known {
                tally.add(&summary, &memory);
                last.insert(id, summary);
            }
            for (id, mut description, what) in after {
                description.job_id = Some(id.clone());
                match (what, last.get(&id)) {
                    (0, _) => {
                        tally.remove(&id);
                        last.remove(&id);
                    }
                    (_, None) => {
                        tally.recover(&id, &description, &scope, &memory);
                        last.insert(id, description);
                    }
                    (_, Some(before)) => {
                        tally.amend(&id, &description, &scope, &memory);
                        description.status = description.status.or_else(|| before.status.clone());
                        description.target_selection =
                            description.target_selection.or_else(|| before.target_selection.clone());
                        last.insert(id, description);
                    }
                }
            }
            let expected: Vec<JobSummary> = last.into_values().collect();
            let counts = tally.finish(&scope, &mut memory).counts;
            prop_assert_eq!(counts.total, expected.len() as u64);
            prop_assert_eq!(non_zero(&counts), reference(&expected));
            let open = expected.iter().filter(|job| job.status.as_ref().is_some_and(Status::is_open));
            let open: BTreeSet<&str> = open.filter_map(JobSummary::id).collect();
            prop_assert_eq!(counts.open.iter().map(|job| &*job.job_id).collect::<BTreeSet<_>>(), open);
        }

        #[test]
        fn a_sighting_keeps_what_it_was_given(
            status in 0..MAX_WORDS, selection in 0..MAX_WORDS, concurrent: Option<bool>, attributed: bool,
            created in any::<Option<i64>>(),
        ) {
            let sighting = Sighting::new(status, selection, concurrent, attributed, created.map(Timestamp::from_millis));
            prop_assert_eq!(sighting.is_attributed(), attributed);
            prop_assert_eq!((sighting.status(), sighting.selection()), (status, selection));
            prop_assert_eq!(sighting.is_concurrent(), concurrent);
            let kept = created.filter(|ms| (0..NO_TIME.cast_signed()).contains(ms)).map(Timestamp::from_millis);
            prop_assert_eq!(sighting.created_at(), kept);
        }
    }

    #[test]
    fn the_later_sighting_of_a_job_wins() {
        let counts = count(&[job("a", "IN_PROGRESS"), job("b", "IN_PROGRESS"), job("a", "COMPLETED")]);
        assert_eq!((counts.jobs[&pair("IN_PROGRESS")], counts.jobs[&pair("COMPLETED")]), (1, 1));
        assert_eq!((counts.total, counts.duplicates), (2, 1));
        assert_eq!(counts.open.iter().map(|job| &*job.job_id).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn known_pairs_in_scope_are_zero_and_those_outside_absent() {
        let scope = Scope { statuses: vec![Status::InProgress], ..Scope::default() };
        let counts = tally().finish(&scope, &mut memory()).counts;
        let expected = TargetSelection::KNOWN.iter().map(|selection| ((Status::InProgress, selection.clone()), 0));
        assert_eq!(counts.jobs, expected.collect());
        assert!(counts.oldest.is_empty(), "no job is no age, not an age of 0");
    }

    #[test]
    fn jobs_without_any_name_are_counted_as_they_come_and_told() {
        let nameless = JobSummary { job_id: None, ..job("", "IN_PROGRESS") };
        let counts = count(&[nameless.clone(), nameless]);
        assert_eq!((counts.jobs[&pair("IN_PROGRESS")], counts.malformed, counts.duplicates), (2, 2, 0));
        assert!(counts.open.is_empty(), "a job that can't be named can't be listed");
    }

    #[test]
    fn a_job_without_status_is_unknown_and_told() {
        let counts = count(&[JobSummary { status: None, ..job("a", "") }]);
        assert_eq!((counts.jobs[&pair(UNKNOWN)], counts.malformed), (1, 1));
    }

    #[test]
    fn unknown_statuses_beyond_sixteen_are_folded_by_name_whatever_the_order() {
        let mut jobs: Vec<_> = (0..20).map(|n| job(&format!("job-{n}"), &format!("NEW_{n:02}"))).collect();
        let forward = count(&jobs);
        jobs.reverse();
        assert_eq!(count(&jobs), forward);
        assert_eq!(forward.jobs[&pair("NEW_15")], 1);
        assert_eq!(forward.jobs[&pair(OTHER)], 4);
        assert_eq!(forward.jobs.get(&pair("NEW_16")), None);
    }

    #[test]
    fn more_distinct_words_than_fit_are_folded_not_lost() {
        let jobs: Vec<_> = (0..5000).map(|n| job(&format!("job-{n}"), &format!("S{n}"))).collect();
        assert_eq!(count(&jobs).jobs.values().sum::<u64>(), 5000);
    }

    #[test]
    fn free_text_never_becomes_a_label() {
        assert_eq!(count(&[job("a", "some \"text\"\n")]).jobs[&pair(OTHER)], 1);
    }

    #[test]
    fn concurrent_jobs_are_unknown_while_one_in_progress_does_not_tell() {
        let telling = JobSummary { is_concurrent: Some(true), ..job("a", "IN_PROGRESS") };
        let silent = JobSummary { is_concurrent: None, ..job("b", "IN_PROGRESS") };
        let ended = JobSummary { is_concurrent: None, ..job("c", "COMPLETED") };
        assert_eq!(count(&[telling.clone(), ended]).concurrent[&TargetSelection::Snapshot], 1);
        assert_eq!(count(&[telling, silent]).concurrent.get(&TargetSelection::Snapshot), None);
    }

    #[test]
    fn the_oldest_open_job_is_told_by_its_creation_time() {
        let created = |id, secs| JobSummary { created_at: Some(Timestamp::from_secs(secs)), ..job(id, "IN_PROGRESS") };
        let undated = JobSummary { created_at: None, ..job("c", "IN_PROGRESS") };
        let ended = JobSummary { created_at: Some(Timestamp::from_secs(1)), ..job("d", "COMPLETED") };
        let counts = count(&[created("a", 300), undated, created("b", 200), ended]);
        assert_eq!(counts.oldest, BTreeMap::from([(pair("IN_PROGRESS"), Timestamp::from_secs(200))]));
        assert_eq!(counts.open.iter().map(|job| &*job.job_id).collect::<Vec<_>>(), ["b", "a", "c"]);
    }

    /// A hash table of the standard library has a power of two of buckets, filled to 7/8 at most, and one control byte for
    /// each; so just after it grew, 7/16 of it is in use. While it grows, the old half is there as well.
    #[test]
    fn a_job_takes_at_most_64_bytes_also_while_a_table_grows() {
        let bucket = size_of::<(Fingerprint, Sighting)>() + 1;
        let buckets = |shard: &Shard| {
            if shard.capacity() == 0 { 0 } else { (shard.capacity() * 8).div_ceil(7).next_power_of_two() }
        };
        let (mut tally, memory, mut grown) = (tally(), memory(), 0);
        for n in 1..=300_000_usize {
            tally.add(&job(&n.to_string(), "COMPLETED"), &memory);
            let all: usize = tally.seen.0.iter().map(buckets).sum();
            // A table that has just grown had half as many buckets before, and for a moment both.
            let old = all - grown;
            assert!(n < 10_000 || (all + old) * bucket <= 64 * n, "{} bytes for {n} jobs", (all + old) * bucket);
            grown = all;
        }
    }

    #[test]
    fn filtered_by_thing_group_scheduled_jobs_are_unknown_and_not_0() {
        let scope = Scope { thing_group_name: Some("line-1".to_owned()), ..Scope::default() };
        let counts = tally().finish(&scope, &mut memory()).counts;
        assert_eq!(counts.jobs.get(&pair("SCHEDULED")), None);
        assert_eq!(counts.jobs[&pair("IN_PROGRESS")], 0);
    }

    #[test]
    fn concurrent_jobs_are_unknown_where_only_some_statuses_are_walked() {
        let scope = Scope { statuses: vec![Status::InProgress], ..Scope::default() };
        assert!(tally().finish(&scope, &mut memory()).counts.concurrent.is_empty());
    }
}
