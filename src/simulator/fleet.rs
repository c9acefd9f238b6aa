//! What one account has in one region: jobs and thing groups, as plain values.

use std::borrow::Borrow;
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Bound;
use std::sync::Arc;

use crate::jobs::{ExecutionStatus, Status, TargetSelection, Timestamp};

use super::executions::{Execution, Executions, JobTimes, TrackedExecutions};
use super::json::uuid_of;

/// Jobs and thing groups. The default is none of either.
///
/// An account can have a million jobs, so each is held once, and both ways to it cost a pointer. What jobs have in
/// common ([`Job::targets`], [`Job::texts`]) they can share.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    in_order: BTreeSet<ByPlace>,
    by_id: HashSet<ById>,
    groups: BTreeMap<String, ThingGroup>,
}

impl Fleet {
    /// A fleet of exactly these. Of jobs with the same id, and of groups with the same name, the last one stays.
    #[must_use]
    pub fn new(jobs: impl IntoIterator<Item = Job>, groups: impl IntoIterator<Item = ThingGroup>) -> Self {
        let jobs = jobs.into_iter();
        let mut by_id = HashSet::with_capacity(jobs.size_hint().0);
        for job in jobs {
            by_id.replace(ById(Arc::new(job)));
        }
        // Made of all jobs at once, the tree has no half-empty nodes, and takes no search for each of them.
        let in_order = by_id.iter().map(|ById(job)| ByPlace(job.clone())).collect();
        let groups = groups.into_iter().map(|group| (group.name.clone(), group)).collect();
        Self { in_order, by_id, groups }
    }

    /// The job with this id.
    #[must_use]
    pub fn job(&self, id: &str) -> Option<&Job> {
        self.by_id.get(id).map(|ById(job)| &**job)
    }

    /// All jobs, in the order in which `ListJobs` has them.
    #[must_use]
    pub fn jobs(&self) -> impl ExactSizeIterator<Item = &Job> {
        self.in_order.iter().map(|ByPlace(job)| &**job)
    }

    /// Adds a job, or puts it in place of the one with the same id, which it gives back.
    pub fn add_job(&mut self, job: Job) -> Option<Job> {
        let replaced = self.remove_job(&job.id);
        let job = Arc::new(job);
        self.by_id.insert(ById(job.clone()));
        self.in_order.insert(ByPlace(job));
        replaced
    }

    /// Removes a job, as AWS does when a deletion ends or a job is purged.
    pub fn remove_job(&mut self, id: &str) -> Option<Job> {
        let ById(job) = self.by_id.take(id)?;
        let job = ByPlace(job);
        self.in_order.remove(&job);
        Some(Arc::unwrap_or_clone(job.0))
    }

    /// Changes a job, which then takes the place that its new values ask for. Tells whether there is such a job.
    pub fn update_job(&mut self, id: &str, change: impl FnOnce(&mut Job)) -> bool {
        let Some(mut job) = self.remove_job(id) else { return false };
        change(&mut job);
        self.add_job(job);
        true
    }

    /// The job with this id as the fleet holds it: for others that hold many jobs, too.
    pub(super) fn shared_job(&self, id: &str) -> Option<&Arc<Job>> {
        self.by_id.get(id).map(|ById(job)| job)
    }

    /// All jobs as the fleet holds them, in the order of `ListJobs`.
    pub(super) fn shared_jobs(&self) -> impl ExactSizeIterator<Item = &Arc<Job>> {
        self.in_order.iter().map(|ByPlace(job)| job)
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

    /// Adds a group, or puts it in place of the one with the same name, which it gives back.
    pub fn add_group(&mut self, group: ThingGroup) -> Option<ThingGroup> {
        self.groups.insert(group.name.clone(), group)
    }

    /// Removes a group. Jobs that target it keep its name.
    pub fn remove_group(&mut self, name: &str) -> Option<ThingGroup> {
        self.groups.remove(name)
    }

    /// Jobs of one status, or of all, that come after `cursor` in the order of `ListJobs`.
    pub(super) fn jobs_after<'a>(
        &'a self,
        cursor: Option<&Place>,
        status: Option<&'a Status>,
    ) -> impl Iterator<Item = &'a Job> {
        let start = match (cursor, status) {
            (Some(place), _) => Bound::Excluded(place.clone()),
            (None, Some(status)) => Bound::Included(Place::first_of(status)),
            (None, None) => Bound::Unbounded,
        };
        let start = start.map(|place| ByPlace(Arc::new(place.into_probe())));
        let jobs = self.in_order.range((start, Bound::Unbounded)).map(|ByPlace(job)| &**job);
        jobs.take_while(move |job| status.is_none_or(|status| job.status == *status))
    }

    /// Groups that come after the one named `cursor`, by name.
    pub(super) fn groups_after(&self, cursor: Option<&str>) -> impl Iterator<Item = &ThingGroup> {
        let start = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        self.groups.range::<str, _>((start, Bound::Unbounded)).map(|(_, group)| group)
    }

    /// The groups above `group`, from the top down.
    pub(super) fn ancestors<'a>(&'a self, group: &'a ThingGroup) -> Vec<&'a ThingGroup> {
        let parent_of = |group: &&'a ThingGroup| group.parent.as_deref().and_then(|parent| self.group(parent));
        let upwards = std::iter::successors(parent_of(&group), parent_of);
        // A circle is nothing that AWS lets happen, but nothing that a test must hang on.
        let mut ancestors: Vec<_> = upwards.take(self.groups.len()).collect();
        ancestors.reverse();
        ancestors
    }
}

/// A job, found by its id.
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

/// A job, found by its place in the order of `ListJobs`.
#[derive(Clone, Debug)]
struct ByPlace(Arc<Job>);

impl ByPlace {
    /// By status, then newest first, then by id.
    fn key(&self) -> (&Status, Reverse<Timestamp>, &str) {
        (&self.0.status, Reverse(self.0.created_at), &self.0.id)
    }
}

impl PartialEq for ByPlace {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByPlace {}

impl PartialOrd for ByPlace {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByPlace {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// A job's place in the order of `ListJobs`, without the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    status: Status,
    created_at: Timestamp,
    id: String,
}

impl Place {
    pub(super) fn of(job: &Job) -> Self {
        Self { status: job.status.clone(), created_at: job.created_at, id: job.id.clone() }
    }

    /// Before every job of `status`: the newest time there is, and an id that no job has.
    fn first_of(status: &Status) -> Self {
        Self { status: status.clone(), created_at: Timestamp::from_millis(i64::MAX), id: String::new() }
    }

    /// A job that has this place, to search for it.
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

/// A job, with what `ListJobs` and `DescribeJob` tell of it. Start with [`Job::new`]; every field can be set.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// 1 to 64 of `[a-zA-Z0-9_-]`; not checked.
    pub id: String,
    /// May be one that AWS does not have, to see what a client makes of it.
    pub status: Status,
    /// Which devices it is for.
    pub target_selection: TargetSelection,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub last_updated_at: Timestamp,
    /// When it was completed or canceled.
    pub completed_at: Option<Timestamp>,
    /// Whether it rolls out or cancels right now.
    pub is_concurrent: bool,
    /// Things and thing groups. AWS demands one at least and takes a hundred at most; not checked. Jobs can share them.
    pub targets: Arc<[Target]>,
    /// Its executions. To change them with their times, see [`Job::executions_mut`].
    pub executions: Executions,
    /// How many times an execution is tried again after it has failed or timed out, 0 to 10.
    pub max_retries: u32,
    /// AWS cancels the job once so many percent of at least [`MIN_EXECUTED`] executions have failed; 0 for a job without abort criteria.
    pub abort_percent: u8,
    /// When it starts and ends, where it is scheduled.
    pub scheduling: Option<Box<Scheduling>>,
    /// How long a device may work on it.
    pub in_progress_timeout_minutes: Option<u32>,
    /// Whether it was canceled with force, which ends executions in progress, too.
    pub force_canceled: bool,
    /// What is written about it. Jobs can share it.
    pub texts: Arc<Texts>,
}

impl Job {
    /// A SNAPSHOT job that nothing happened to since it was created, without targets and executions. One that has ended
    /// did so when it was created.
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

    /// Whether AWS cancels it for its abort criteria.
    pub(super) fn meets_abort_criteria(&self) -> bool {
        let count = |status| u64::from(self.executions.get(status));
        let failed = [ExecutionStatus::Failed, ExecutionStatus::TimedOut, ExecutionStatus::Rejected].map(count);
        let failed: u64 = failed.iter().sum();
        let executed = failed + count(ExecutionStatus::Succeeded);
        let percent = u64::from(self.abort_percent);
        percent > 0 && executed >= u64::from(MIN_EXECUTED) && failed * 100 >= executed * percent
    }

    /// The same job as a CONTINUOUS one.
    #[must_use]
    pub fn continuous(mut self) -> Self {
        self.target_selection = TargetSelection::Continuous;
        self
    }

    /// The same job with one more target, the thing group `name`.
    #[must_use]
    pub fn targeting_group(self, name: &str) -> Self {
        self.targeting(Target::ThingGroup(name.to_owned()))
    }

    /// The same job with one more target, the thing `name`.
    #[must_use]
    pub fn targeting_thing(self, name: &str) -> Self {
        self.targeting(Target::Thing(name.to_owned()))
    }

    fn targeting(mut self, target: Target) -> Self {
        self.targets = self.targets.iter().cloned().chain([target]).collect();
        self
    }

    /// The same job with `count` executions of `status`.
    #[must_use]
    pub fn with_executions(mut self, status: ExecutionStatus, count: u32) -> Self {
        self.executions.set(status, count);
        self
    }

    /// The same job with one more execution, on a thing of its own.
    #[must_use]
    pub fn with_execution(mut self, execution: Execution) -> Self {
        self.executions_mut().push(execution);
        self
    }

    /// Its executions, to be changed; what has happened to them so far does not depend on the job's times any more.
    pub fn executions_mut(&mut self) -> &mut TrackedExecutions {
        let times = self.times();
        self.executions.tracked(&times)
    }

    /// The same job with one more tag.
    #[must_use]
    pub fn tagged(mut self, key: &str, value: &str) -> Self {
        Arc::make_mut(&mut self.texts).tags.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The same job, last changed and, for one that has ended, completed `at` this time.
    #[must_use]
    pub fn updated(mut self, at: Timestamp) -> Self {
        self.last_updated_at = at;
        self.completed_at = self.completed_at.map(|_| at);
        self
    }

    /// The same job, scheduled.
    #[must_use]
    pub fn scheduled(mut self, scheduling: Scheduling) -> Self {
        self.scheduling = Some(Box::new(scheduling));
        self
    }

    /// The same job in a namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace_id: &str) -> Self {
        Arc::make_mut(&mut self.texts).namespace_id = Some(namespace_id.to_owned());
        self
    }

    /// What the times of its executions follow from where they are not tracked.
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

    /// The name of the thing with this index: first come the things that are targets themselves, then the made-up members
    /// of the groups, in turn. So the jobs of a group run on the same things.
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

    /// The index of the thing with this name; `None` if it is never one of this job's.
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

    /// Whether the group `name` itself, rather than a group above it, is a target.
    pub(super) fn targets_group(&self, name: &str) -> bool {
        self.targets.iter().any(|target| matches!(target, Target::ThingGroup(group) if group == name))
    }
}

/// In the place of a group's name, for the things of a job without groups.
const UNGROUPED: &str = "simulated-thing";

/// The start of the names of a group's made-up members. A thing's name has 128 characters at most, as a group's has.
fn member_prefix(group: &str) -> &str {
    group.get(..117).unwrap_or(group)
}

/// How many executions have had a result before a job is aborted.
pub(super) const MIN_EXECUTED: u32 = 10;

/// What is written about a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// Which namespace it belongs to.
    pub namespace_id: Option<String>,
    /// What people wrote when they created it.
    pub description: Option<String>,
    /// What people wrote when they last changed it.
    pub comment: Option<String>,
    /// Why it was canceled, as upper case letters, digits and `_`.
    pub reason_code: Option<String>,
    /// Where the job document came from.
    pub document_source: Option<String>,
    /// What people sort it by.
    pub tags: BTreeMap<String, String>,
}

/// What a job is for.
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

/// When a job runs. The default is at once, without an end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// When it starts; told with a precision of minutes.
    pub start_time: Option<Timestamp>,
    /// When it ends; told with a precision of minutes.
    pub end_time: Option<Timestamp>,
    /// `STOP_ROLLOUT`, `CANCEL` or `FORCE_CANCEL`.
    pub end_behavior: Option<String>,
    /// Outside of these it goes back to SCHEDULED.
    pub maintenance_windows: Vec<MaintenanceWindow>,
}

/// A time that comes again and again in which a job may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaintenanceWindow {
    /// When it starts, as `cron(MINUTE HOUR DAY MONTH WEEKDAY YEAR)`.
    pub start_time: String,
    /// How long it lasts, 1 to 1430.
    pub duration_in_minutes: u32,
}

/// A static thing group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThingGroup {
    /// 1 to 128 of `[a-zA-Z0-9:_-]`; not checked.
    pub name: String,
    /// 1 to 128 of `[a-zA-Z0-9-]`; AWS gives UUIDs.
    pub id: String,
    /// The group that it is in.
    pub parent: Option<String>,
    /// What people wrote about it.
    pub description: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
}

impl ThingGroup {
    /// A top group. Its id follows from its name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let id = uuid_of(&("thing group", &name));
        // 2020-09-13: long ago, and the same in every test.
        Self { name, id, parent: None, description: None, created_at: Timestamp::from_secs(1_600_000_000) }
    }

    /// The same group within another.
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
    fn a_job_that_changes_takes_its_new_place() {
        let jobs = [Job::new("a", Status::InProgress, at(5)), Job::new("b", Status::InProgress, at(4))];
        let mut fleet = Fleet::new(jobs, []);
        assert!(fleet.update_job("a", |job| job.status = Status::Canceled));
        assert_eq!(ids(&fleet), ["b", "a"]);
        assert!(!fleet.update_job("c", |_| ()), "no such job");
    }

    #[test]
    fn an_id_is_there_once() {
        let mut fleet = Fleet::new([Job::new("a", Status::InProgress, at(5))], []);
        let replaced = fleet.add_job(Job::new("a", Status::Completed, at(9)));
        assert_eq!(replaced.map(|job| job.status), Some(Status::InProgress));
        assert_eq!(fleet.jobs().len(), 1);
        assert_eq!(fleet.remove_job("a").map(|job| job.status), Some(Status::Completed));
        assert_eq!((fleet.jobs().len(), fleet.job("a")), (0, None));
    }

    #[test]
    fn of_jobs_with_the_same_id_the_last_stays() {
        let jobs = [Job::new("a", Status::InProgress, at(5)), Job::new("a", Status::Completed, at(4))];
        let fleet = Fleet::new(jobs, []);
        assert_eq!(fleet.jobs().map(|job| &job.status).collect::<Vec<_>>(), [&Status::Completed]);
    }

    #[test]
    fn a_clone_keeps_what_it_had() {
        let mut fleet = Fleet::new([Job::new("a", Status::InProgress, at(5))], []);
        let before = fleet.clone();
        fleet.update_job("a", |job| job.status = Status::Canceled);
        assert_eq!(before.job("a").map(|job| &job.status), Some(&Status::InProgress));
        assert_eq!(before.jobs().map(|job| &job.status).collect::<Vec<_>>(), [&Status::InProgress]);
    }

    #[test]
    fn a_job_takes_little_room() {
        // An account can have a million.
        assert!(size_of::<Job>() <= 200, "{}", size_of::<Job>());
    }

    #[test]
    fn a_cursor_leads_back_to_its_place() {
        let place = Place::of(&Job::new("a", Status::Unknown("NEW".into()), Timestamp::from_millis(-5)));
        assert_eq!(Place::from_cursor(&place.to_cursor()), Some(place));
        assert_eq!(Place::from_cursor("IN_PROGRESS\nx\na"), None);
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
    fn groups_in_a_circle_do_not_hang() {
        let groups = [ThingGroup::new("a").within("b"), ThingGroup::new("b").within("a")];
        let fleet = Fleet::new([], groups);
        let group = fleet.group("a").expect("it was added");
        assert_eq!(fleet.ancestors(group).len(), 2);
    }
}
