//! The jobs and thing groups of one account in one region, as plain values.

use std::borrow::Borrow;
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Bound;
use std::sync::Arc;

use crate::jobs::{ExecutionStatus, Status, TargetSelection, Timestamp};

use super::executions::{Execution, Executions, JobTimes, TrackedExecutions};
use super::json::uuid_of;

/// Jobs and thing groups. The default is empty.
///
/// An account can have a million jobs, so each is stored once, with two indexes of one pointer each. Jobs can share
/// [`Job::targets`] and [`Job::texts`].
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    in_order: BTreeSet<BySortKey>,
    by_id: HashSet<ById>,
    groups: BTreeMap<String, ThingGroup>,
}

impl Fleet {
    /// A fleet of these jobs and groups. If an id or a group name repeats, the last one stays.
    #[must_use]
    pub fn new(jobs: impl IntoIterator<Item = Job>, groups: impl IntoIterator<Item = ThingGroup>) -> Self {
        let jobs = jobs.into_iter();
        let mut by_id = HashSet::with_capacity(jobs.size_hint().0);
        for job in jobs {
            by_id.replace(ById(Arc::new(job)));
        }
        // Bulk building leaves no half-empty tree nodes and needs no search for each job.
        let in_order = by_id.iter().map(|ById(job)| BySortKey(job.clone())).collect();
        let groups = groups.into_iter().map(|group| (group.name.clone(), group)).collect();
        Self { in_order, by_id, groups }
    }

    /// The job with this id.
    #[must_use]
    pub fn job(&self, id: &str) -> Option<&Job> {
        self.by_id.get(id).map(|ById(job)| &**job)
    }

    /// All jobs, in the order of `ListJobs`.
    #[must_use]
    pub fn jobs(&self) -> impl ExactSizeIterator<Item = &Job> {
        self.in_order.iter().map(|BySortKey(job)| &**job)
    }

    /// Adds a job. Replaces and returns an earlier job with the same id.
    pub fn add_job(&mut self, job: Job) -> Option<Job> {
        let replaced = self.remove_job(&job.id);
        let job = Arc::new(job);
        self.by_id.insert(ById(job.clone()));
        self.in_order.insert(BySortKey(job));
        replaced
    }

    /// Removes a job, as AWS does when a deletion ends or a job is purged.
    pub fn remove_job(&mut self, id: &str) -> Option<Job> {
        let ById(job) = self.by_id.take(id)?;
        let job = BySortKey(job);
        self.in_order.remove(&job);
        Some(Arc::unwrap_or_clone(job.0))
    }

    /// Changes a job and sorts it in again. Returns whether the job exists.
    pub fn update_job(&mut self, id: &str, change: impl FnOnce(&mut Job)) -> bool {
        let Some(mut job) = self.remove_job(id) else { return false };
        change(&mut job);
        self.add_job(job);
        true
    }

    /// The shared job with this id, for other owners of many jobs.
    pub(super) fn shared_job(&self, id: &str) -> Option<&Arc<Job>> {
        self.by_id.get(id).map(|ById(job)| job)
    }

    /// All shared jobs, in the order of `ListJobs`.
    pub(super) fn shared_jobs(&self) -> impl ExactSizeIterator<Item = &Arc<Job>> {
        self.in_order.iter().map(|BySortKey(job)| job)
    }

    /// The group with this name.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&ThingGroup> {
        self.groups.get(name)
    }

    /// All groups, by name.
    #[must_use]
    pub fn groups(&self) -> impl ExactSizeIterator<Item = &ThingGroup> {
        self.groups.values()
    }

    /// Adds a group. Replaces and returns an earlier group with the same name.
    pub fn add_group(&mut self, group: ThingGroup) -> Option<ThingGroup> {
        self.groups.insert(group.name.clone(), group)
    }

    /// Removes a group. Jobs that target it keep its name.
    pub fn remove_group(&mut self, name: &str) -> Option<ThingGroup> {
        self.groups.remove(name)
    }

    /// Jobs of one status, or of all, after `cursor` in the order of `ListJobs`.
    pub(super) fn jobs_after<'a>(
        &'a self,
        cursor: Option<&SortKey>,
        status: Option<&'a Status>,
    ) -> impl Iterator<Item = &'a Job> {
        let start = match (cursor, status) {
            (Some(key), _) => Bound::Excluded(key.clone()),
            (None, Some(status)) => Bound::Included(SortKey::first_of(status)),
            (None, None) => Bound::Unbounded,
        };
        let start = start.map(|key| BySortKey(Arc::new(key.into_probe())));
        let jobs = self.in_order.range((start, Bound::Unbounded)).map(|BySortKey(job)| &**job);
        jobs.take_while(move |job| status.is_none_or(|status| job.status == *status))
    }

    /// Groups after the one named `cursor`, by name.
    pub(super) fn groups_after(&self, cursor: Option<&str>) -> impl Iterator<Item = &ThingGroup> {
        let start = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        self.groups.range::<str, _>((start, Bound::Unbounded)).map(|(_, group)| group)
    }

    /// The ancestors of `group`, from the top down.
    pub(super) fn ancestors<'a>(&'a self, group: &'a ThingGroup) -> Vec<&'a ThingGroup> {
        let parent_of = |group: &&'a ThingGroup| group.parent.as_deref().and_then(|parent| self.group(parent));
        let upwards = std::iter::successors(parent_of(&group), parent_of);
        // The limit guards against a cycle. AWS allows none, but a test could build one.
        let mut ancestors: Vec<_> = upwards.take(self.groups.len()).collect();
        ancestors.reverse();
        ancestors
    }
}

/// A job, compared by its id.
#[derive(Clone, Debug)]
struct ById(Arc<Job>);

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        &self.0.id
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.as_str().hash(state);
    }
}

/// A job, compared by its position in the order of `ListJobs`.
#[derive(Clone, Debug)]
struct BySortKey(Arc<Job>);

impl BySortKey {
    /// By status, then newest first, then by id.
    fn key(&self) -> (&Status, Reverse<Timestamp>, &str) {
        (&self.0.status, Reverse(self.0.created_at), &self.0.id)
    }
}

impl PartialEq for BySortKey {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for BySortKey {}

impl PartialOrd for BySortKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for BySortKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// The sort key of a job in the order of `ListJobs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SortKey {
    status: Status,
    created_at: Timestamp,
    id: String,
}

impl SortKey {
    pub(super) fn of(job: &Job) -> Self {
        Self { status: job.status.clone(), created_at: job.created_at, id: job.id.clone() }
    }

    /// Before every job of `status`: the newest possible time, and an id that no job has.
    fn first_of(status: &Status) -> Self {
        Self { status: status.clone(), created_at: Timestamp::from_millis(i64::MAX), id: String::new() }
    }

    /// A job with this sort key, to search for.
    fn into_probe(self) -> Job {
        Job::new(self.id, self.status, self.created_at)
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn to_cursor(&self) -> String {
        format!("{}\n{}\n{}", self.status, self.created_at.as_millis(), self.id)
    }

    pub(super) fn from_cursor(cursor: &str) -> Option<Self> {
        let mut parts = cursor.splitn(3, '\n');
        let (status, created_at, id) = (parts.next()?, parts.next()?, parts.next()?);
        let created_at = Timestamp::from_millis(created_at.parse().ok()?);
        Some(Self { status: status.into(), created_at, id: id.to_owned() })
    }
}

/// A job as `ListJobs` and `DescribeJob` return it. Start with [`Job::new`]; every field can be set.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// 1 to 64 of `[a-zA-Z0-9_-]`; not checked.
    pub id: String,
    /// May be a status that AWS does not have, to test clients.
    pub status: Status,
    /// SNAPSHOT or CONTINUOUS.
    pub target_selection: TargetSelection,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub last_updated_at: Timestamp,
    /// When it was completed or canceled.
    pub completed_at: Option<Timestamp>,
    /// Whether a rollout or a cancellation is in progress.
    pub is_concurrent: bool,
    /// Things and thing groups. AWS requires 1 to 100 of them; not checked. Jobs can share them.
    pub targets: Arc<[Target]>,
    /// Its executions. Use [`Job::executions_mut`] to change them with their times.
    pub executions: Executions,
    /// How often an execution is retried after it has failed or timed out, 0 to 10.
    pub max_retries: u32,
    /// AWS cancels the job when this percentage of at least [`MIN_EXECUTED`] executions has failed; 0 for a job
    /// without abort criteria.
    pub abort_percent: u8,
    /// Its schedule, if it has one.
    pub scheduling: Option<Box<Scheduling>>,
    /// How long an execution may be in progress.
    pub in_progress_timeout_minutes: Option<u32>,
    /// Whether it was canceled with force, which also ends executions in progress.
    pub force_canceled: bool,
    /// Its texts and tags. Jobs can share them.
    pub texts: Arc<Texts>,
}

impl Job {
    /// A SNAPSHOT job that has not changed since its creation, without targets and executions. A job with a terminal
    /// status ended when it was created.
    #[must_use]
    pub fn new(id: impl Into<String>, status: Status, created_at: Timestamp) -> Self {
        let has_ended = matches!(status, Status::Completed | Status::Canceled);
        Self {
            id: id.into(),
            status,
            target_selection: TargetSelection::Snapshot,
            created_at,
            last_updated_at: created_at,
            completed_at: has_ended.then_some(created_at),
            is_concurrent: false,
            targets: Arc::default(),
            executions: Executions::default(),
            max_retries: 0,
            abort_percent: 0,
            scheduling: None,
            in_progress_timeout_minutes: None,
            force_canceled: false,
            texts: Arc::default(),
        }
    }

    /// Whether AWS cancels it because of its abort criteria.
    pub(super) fn meets_abort_criteria(&self) -> bool {
        let count = |status| u64::from(self.executions.get(status));
        let failed = [ExecutionStatus::Failed, ExecutionStatus::TimedOut, ExecutionStatus::Rejected].map(count);
        let failed: u64 = failed.iter().sum();
        let executed = failed + count(ExecutionStatus::Succeeded);
        let percent = u64::from(self.abort_percent);
        percent > 0 && executed >= u64::from(MIN_EXECUTED) && failed * 100 >= executed * percent
    }

    /// Makes the job CONTINUOUS.
    #[must_use]
    pub fn continuous(mut self) -> Self {
        self.target_selection = TargetSelection::Continuous;
        self
    }

    /// Adds the thing group `name` to the targets.
    #[must_use]
    pub fn targeting_group(self, name: &str) -> Self {
        self.targeting(Target::ThingGroup(name.to_owned()))
    }

    /// Adds the thing `name` to the targets.
    #[must_use]
    pub fn targeting_thing(self, name: &str) -> Self {
        self.targeting(Target::Thing(name.to_owned()))
    }

    fn targeting(mut self, target: Target) -> Self {
        self.targets = self.targets.iter().cloned().chain([target]).collect();
        self
    }

    /// Sets `count` executions of `status`.
    #[must_use]
    pub fn with_executions(mut self, status: ExecutionStatus, count: u32) -> Self {
        self.executions.set(status, count);
        self
    }

    /// Adds one execution, on its own thing.
    #[must_use]
    pub fn with_execution(mut self, execution: Execution) -> Self {
        self.executions_mut().push(execution);
        self
    }

    /// The executions, to change them. From now on, their times are independent of the job's.
    pub fn executions_mut(&mut self) -> &mut TrackedExecutions {
        let times = self.times();
        self.executions.tracked(&times)
    }

    /// Adds a tag.
    #[must_use]
    pub fn tagged(mut self, key: &str, value: &str) -> Self {
        Arc::make_mut(&mut self.texts).tags.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets the last change and, for an ended job, the completion to the time `at`.
    #[must_use]
    pub fn updated(mut self, at: Timestamp) -> Self {
        self.last_updated_at = at;
        self.completed_at = self.completed_at.map(|_| at);
        self
    }

    /// Sets the schedule.
    #[must_use]
    pub fn scheduled(mut self, scheduling: Scheduling) -> Self {
        self.scheduling = Some(Box::new(scheduling));
        self
    }

    /// Sets the namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace_id: &str) -> Self {
        Arc::make_mut(&mut self.texts).namespace_id = Some(namespace_id.to_owned());
        self
    }

    /// The times from which those of untracked executions derive.
    pub(super) fn times(&self) -> JobTimes {
        let mut hasher = DefaultHasher::new();
        self.id.hash(&mut hasher);
        JobTimes {
            created: self.created_at,
            last_changed: self.completed_at.unwrap_or(self.last_updated_at),
            is_continuous: self.target_selection == TargetSelection::Continuous,
            id: hasher.finish(),
        }
    }

    /// The name of the thing with this index. The target things come first, then made-up members of the groups, in
    /// turn. So jobs of the same group run on the same things.
    pub(super) fn thing_name(&self, thing: u32) -> String {
        let index = usize::try_from(thing).unwrap_or(usize::MAX);
        let (things, groups) = self.things_and_groups();
        match things.get(index) {
            Some(name) => (*name).to_owned(),
            None if groups.is_empty() => format!("{UNGROUPED}-{:06}", index - things.len()),
            None => {
                let index = index - things.len();
                format!("{}-{:06}", member_prefix(groups[index % groups.len()]), index / groups.len())
            }
        }
    }

    /// The index of the thing with this name; `None` if the job never runs on it.
    pub(super) fn thing_index(&self, name: &str) -> Option<u32> {
        let (things, groups) = self.things_and_groups();
        let member = || {
            let (prefix, number) = name.rsplit_once('-')?;
            let number: usize = number.parse().ok()?;
            let member = match groups.iter().position(|group| member_prefix(group) == prefix) {
                Some(group) => number.checked_mul(groups.len())?.checked_add(group)?,
                None if groups.is_empty() && prefix == UNGROUPED => number,
                None => return None,
            };
            member.checked_add(things.len())
        };
        let index = things.iter().position(|thing| *thing == name).or_else(member)?;
        u32::try_from(index).ok().filter(|index| self.thing_name(*index) == name)
    }

    fn things_and_groups(&self) -> (Vec<&str>, Vec<&str>) {
        let (mut things, mut groups) = (Vec::new(), Vec::new());
        for target in self.targets.iter() {
            match target {
                Target::Thing(name) => things.push(name.as_str()),
                Target::ThingGroup(name) => groups.push(name.as_str()),
            }
        }
        (things, groups)
    }

    /// Whether it was completed or canceled.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.status, Status::Completed | Status::Canceled)
    }

    /// Whether the group `name` itself, not one of its ancestors, is a target.
    pub(super) fn targets_group(&self, name: &str) -> bool {
        self.targets.iter().any(|target| matches!(target, Target::ThingGroup(group) if group == name))
    }
}

/// The group name for things of jobs without groups.
const UNGROUPED: &str = "simulated-thing";

/// The prefix of the names of a group's made-up members. Names of things and groups have at most 128 characters.
fn member_prefix(group: &str) -> &str {
    group.get(..117).unwrap_or(group)
}

/// An abort needs this many executions with a result.
pub(super) const MIN_EXECUTED: u32 = 10;

/// Texts and tags of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// The namespace of the job.
    pub namespace_id: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// The comment of the last change.
    pub comment: Option<String>,
    /// Why it was canceled, as upper case letters, digits and `_`.
    pub reason_code: Option<String>,
    /// The URL of the job document.
    pub document_source: Option<String>,
    /// The tags.
    pub tags: BTreeMap<String, String>,
}

/// A target of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A device, by name.
    Thing(String),
    /// A thing group, by name.
    ThingGroup(String),
}

impl Target {
    /// The last part of its ARN.
    pub(super) fn resource(&self) -> String {
        match self {
            Self::Thing(name) => format!("thing/{name}"),
            Self::ThingGroup(name) => format!("thinggroup/{name}"),
        }
    }
}

/// The schedule of a job. The default starts at once and has no end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// When it starts. AWS reports minutes.
    pub start_time: Option<Timestamp>,
    /// When it ends. AWS reports minutes.
    pub end_time: Option<Timestamp>,
    /// `STOP_ROLLOUT`, `CANCEL` or `FORCE_CANCEL`.
    pub end_behavior: Option<String>,
    /// The job is SCHEDULED outside these windows.
    pub maintenance_windows: Vec<MaintenanceWindow>,
}

/// A recurring time in which a job may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaintenanceWindow {
    /// When it starts, as `cron(MINUTE HOUR DAY MONTH WEEKDAY YEAR)`.
    pub start_time: String,
    /// Its length, 1 to 1430.
    pub duration_in_minutes: u32,
}

/// A static thing group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThingGroup {
    /// 1 to 128 of `[a-zA-Z0-9:_-]`; not checked.
    pub name: String,
    /// 1 to 128 of `[a-zA-Z0-9-]`; AWS uses UUIDs.
    pub id: String,
    /// The parent group.
    pub parent: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
}

impl ThingGroup {
    /// A group without a parent. Its id derives from its name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let id = uuid_of(&("thing group", &name));
        // 2020-09-13: an arbitrary time in the past, the same in every test.
        Self { name, id, parent: None, description: None, created_at: Timestamp::from_secs(1_600_000_000) }
    }

    /// Sets the parent group.
    #[must_use]
    pub fn within(mut self, parent: &str) -> Self {
        self.parent = Some(parent.to_owned());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn ids(fleet: &Fleet) -> Vec<&str> {
        fleet.jobs().map(|job| job.id.as_str()).collect()
    }

    #[test]
    fn jobs_are_ordered_by_status_then_newest_first_then_by_id() {
        let jobs = [
            Job::new("done", Status::Completed, at(9)),
            Job::new("b", Status::InProgress, at(5)),
            Job::new("old", Status::InProgress, at(4)),
            Job::new("a", Status::InProgress, at(5)),
        ];
        assert_eq!(ids(&Fleet::new(jobs, [])), ["a", "b", "old", "done"]);
    }

    #[test]
    fn a_changed_job_is_sorted_in_again() {
        let jobs = [Job::new("a", Status::InProgress, at(5)), Job::new("b", Status::InProgress, at(4))];
        let mut fleet = Fleet::new(jobs, []);
        assert!(fleet.update_job("a", |job| job.status = Status::Canceled));
        assert_eq!(ids(&fleet), ["b", "a"]);
        assert!(!fleet.update_job("c", |_| ()), "no such job");
    }

    #[test]
    fn an_id_is_unique() {
        let mut fleet = Fleet::new([Job::new("a", Status::InProgress, at(5))], []);
        let replaced = fleet.add_job(Job::new("a", Status::Completed, at(9)));
        assert_eq!(replaced.map(|job| job.status), Some(Status::InProgress));
        assert_eq!(fleet.jobs().len(), 1);
        assert_eq!(fleet.remove_job("a").map(|job| job.status), Some(Status::Completed));
        assert_eq!((fleet.jobs().len(), fleet.job("a")), (0, None));
    }

    #[test]
    fn the_last_job_with_an_id_stays() {
        let jobs = [Job::new("a", Status::InProgress, at(5)), Job::new("a", Status::Completed, at(4))];
        let fleet = Fleet::new(jobs, []);
        assert_eq!(fleet.jobs().map(|job| &job.status).collect::<Vec<_>>(), [&Status::Completed]);
    }

    #[test]
    fn a_clone_does_not_see_later_changes() {
        let mut fleet = Fleet::new([Job::new("a", Status::InProgress, at(5))], []);
        let before = fleet.clone();
        fleet.update_job("a", |job| job.status = Status::Canceled);
        assert_eq!(before.job("a").map(|job| &job.status), Some(&Status::InProgress));
        assert_eq!(before.jobs().map(|job| &job.status).collect::<Vec<_>>(), [&Status::InProgress]);
    }

    #[test]
    fn a_job_takes_at_most_200_bytes() {
        // An account can have a million.
        assert!(size_of::<Job>() <= 200, "{}", size_of::<Job>());
    }

    #[test]
    fn a_cursor_round_trips() {
        let key = SortKey::of(&Job::new("a", Status::Unknown("NEW".into()), Timestamp::from_millis(-5)));
        assert_eq!(SortKey::from_cursor(&key.to_cursor()), Some(key));
        assert_eq!(SortKey::from_cursor("IN_PROGRESS\nx\na"), None);
    }

    #[test]
    fn every_thing_of_a_job_is_found_by_its_name() {
        let job = Job::new("a", Status::InProgress, at(5));
        let long = "g".repeat(128);
        let jobs = [
            job.clone(),
            job.clone().targeting_thing("x").targeting_thing("y-000001"),
            job.clone().targeting_group("one").targeting_group("two").targeting_thing("x"),
            job.targeting_group(&long),
        ];
        for job in jobs {
            for thing in [0, 1, 2, 3, 4, 999_999, 3_000_000] {
                let name = job.thing_name(thing);
                assert_eq!(job.thing_index(&name), Some(thing), "{name}");
                assert!(name.len() <= 128, "{name}");
            }
            for name in
                ["", "x-", "one", "one-1", "one-x", "three-000001", "simulated-thing-1", "one-99999999999999999999"]
            {
                assert_eq!(job.thing_index(name), None, "{name}");
            }
        }
    }

    #[test]
    fn a_cycle_of_groups_does_not_hang() {
        let groups = [ThingGroup::new("a").within("b"), ThingGroup::new("b").within("a")];
        let fleet = Fleet::new([], groups);
        let group = fleet.group("a").expect("it was added");
        assert_eq!(fleet.ancestors(group).len(), 2);
    }
}
