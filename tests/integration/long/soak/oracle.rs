//! Whether an exposition is right, judged by nothing but the answers that reached the exporter.
//!
//! It does not repeat what the exporter does. It keeps whole walks and the last descriptions of each job, and knows what must follow
//! from them: the open jobs are those of a whole open walk, and jobs that left it without an answer where they went; the ended ones are
//! those of a whole full walk, apart from jobs that were open or described since.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_iot_jobs_exporter::http::{Request, StatusCode, header};
use serde_json::Value;
use tokio::time::Instant;

use crate::support::{Exposition, Labels};

/// Changes are published within a second.
const PUBLISHED_AFTER: Duration = Duration::from_millis(1100);

/// A request that was sent before a job left can be answered so much later.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(10);

/// The default of `collectors.details.max_interval`, and the time that an attempt takes.
const LONGEST_INTERVAL: Duration = Duration::from_secs(610);

/// Walks and descriptions that are kept: the newest, and those that may still be shown.
const KEPT: usize = 3;

pub const OPEN_STATUSES: [&str; 3] = ["IN_PROGRESS", "SCHEDULED", "DELETION_IN_PROGRESS"];

/// `DescribeJob`'s names of the counts that the label `execution_status` has.
const EXECUTIONS: [(&str, &str); 8] = [
    ("numberOfQueuedThings", "QUEUED"),
    ("numberOfInProgressThings", "IN_PROGRESS"),
    ("numberOfSucceededThings", "SUCCEEDED"),
    ("numberOfFailedThings", "FAILED"),
    ("numberOfTimedOutThings", "TIMED_OUT"),
    ("numberOfRejectedThings", "REJECTED"),
    ("numberOfRemovedThings", "REMOVED"),
    ("numberOfCanceledThings", "CANCELED"),
];

/// How long each kind of data may be shown.
#[derive(Clone, Copy)]
pub struct StaleAfter {
    pub open: Duration,
    pub ended: Duration,
    pub details: Duration,
}

/// A status and a target selection.
type Pair = (String, String);

type Jobs = HashMap<String, Pair>;

#[derive(Clone)]
struct Walk {
    began: Instant,
    ended: Instant,
    jobs: Jobs,
}

/// An answer of `DescribeJob`.
#[derive(Clone)]
struct Description {
    at: Instant,
    /// `None`: there is no such job.
    status: Option<String>,
    executions: BTreeMap<String, f64>,
    groups: BTreeSet<String>,
    /// `createdAt` as it was sent.
    created: String,
}

/// What was served of one region.
#[derive(Default)]
struct Served {
    open_walk: Option<Walk>,
    full_walk: Option<Walk>,
    /// The walks that came to their end, the latest one last.
    open_walks: VecDeque<Walk>,
    full_walks: VecDeque<Walk>,
    described: HashMap<String, VecDeque<Description>>,
    /// When a job was last listed or described as open.
    seen_open: HashMap<String, Instant>,
    /// Jobs that the last whole open walk no longer had, and when it ended.
    left: HashMap<String, Instant>,
    /// When a description was last refused: then nobody says where a job went, and it is given up after two open walks.
    refused: Option<Instant>,
}

/// What was served, by region.
#[derive(Clone, Default)]
pub struct Books(Arc<Mutex<HashMap<String, Served>>>);

impl Books {
    pub fn hear(&self, request: &Request, status: StatusCode, body: &[u8]) {
        let path = request.uri().path();
        if path == "/jobs" && status == StatusCode::OK {
            // What cannot be read as a page is not one.
            let Some((jobs, is_last)) = read_page(body) else { return };
            let query = request.uri().query().unwrap_or_default();
            let status =
                OPEN_STATUSES.iter().find(|status| query.split('&').any(|part| part == format!("status={status}")));
            let place = Page { status: status.copied(), is_first: !query.contains("nextToken="), is_last };
            self.with(&region(request), |served| served.page(place, jobs));
        } else if let Some(id) = path.strip_prefix("/jobs/") {
            if status == StatusCode::FORBIDDEN {
                self.with(&region(request), |served| served.refused = Some(Instant::now()));
            }
            let Some(description) = read_description(status, body) else { return };
            self.with(&region(request), |served| served.describe(id, description));
        }
    }

    fn with<T>(&self, region: &str, act: impl FnOnce(&mut Served) -> T) -> T {
        act(self.0.lock().expect("no test panics in here").entry(region.to_owned()).or_default())
    }

    /// The target starts anew.
    pub fn forget(&self, region: &str) {
        self.with(region, |served| *served = Served::default());
    }

    /// Forgets jobs that are long gone.
    pub fn prune(&self) {
        let hours = Duration::from_hours(3);
        for served in self.0.lock().expect("no test panics in here").values_mut() {
            served.described.retain(|_, known| known.back().is_some_and(|last| last.at.elapsed() < hours));
            served.seen_open.retain(|_, at| at.elapsed() < hours);
        }
    }

    /// What is wrong with what is shown of a target.
    pub fn faults(&self, shown: &Exposition, target: &str, region: &str, stale_after: StaleAfter) -> Vec<String> {
        let shown = Shown::of(shown, target);
        self.with(region, |served| {
            let mut faults = served.faults_of_open(&shown, stale_after.open);
            faults.extend(served.faults_of_ended(&shown, stale_after.ended));
            faults.extend(served.faults_of_details(&shown, stale_after.details));
            faults
        })
    }
}

#[derive(Clone, Copy)]
struct Page {
    /// That of an open walk; `None` for a full walk.
    status: Option<&'static str>,
    is_first: bool,
    is_last: bool,
}

impl Served {
    fn page(&mut self, page: Page, jobs: Vec<(String, Pair)>) {
        let now = Instant::now();
        for (id, (status, _)) in &jobs {
            if is_open(status) {
                self.seen_open.insert(id.clone(), now);
            }
        }
        let walk = if page.status.is_some() { &mut self.open_walk } else { &mut self.full_walk };
        // An open walk begins with jobs in progress.
        if page.is_first && page.status.is_none_or(|status| status == OPEN_STATUSES[0]) {
            *walk = Some(Walk { began: now, ended: now, jobs: Jobs::new() });
        }
        let Some(under_way) = walk else { return };
        for (id, pair) in jobs {
            if page.status.is_some() && !is_open(&pair.0) {
                under_way.jobs.remove(&id);
            } else {
                under_way.jobs.insert(id, pair);
            }
        }
        if !page.is_last || page.status.is_some_and(|status| status != OPEN_STATUSES[2]) {
            return;
        }
        let whole = Walk { ended: now, ..walk.take().expect("a walk") };
        let walks = if page.status.is_some() {
            let before = self.open_walks.back().map(|before| before.jobs.clone()).unwrap_or_default();
            for id in before.into_keys().filter(|id| !whole.jobs.contains_key(id)) {
                self.left.insert(id, now);
            }
            self.left.retain(|id, _| !whole.jobs.contains_key(id));
            &mut self.open_walks
        } else {
            &mut self.full_walks
        };
        walks.push_back(whole);
        if walks.len() > KEPT {
            walks.pop_front();
        }
    }

    fn describe(&mut self, id: &str, description: Description) {
        if description.status.as_deref().is_some_and(is_open) {
            self.seen_open.insert(id.to_owned(), description.at);
        }
        let known = self.described.entry(id.to_owned()).or_default();
        // An answer 404 about a listed job removes no earlier description.
        let is_found = description.status.is_some();
        known.push_back(description);
        let same: Vec<usize> = (0..known.len()).filter(|index| known[*index].status.is_some() == is_found).collect();
        if same.len() > KEPT {
            known.remove(same[0]);
        }
    }

    fn last_description(&self, id: &str) -> Option<&Description> {
        self.described.get(id)?.back()
    }

    fn is_described_elsewhere(&self, id: &str, since: Instant) -> bool {
        let is_elsewhere = |answer: &&Description| !answer.status.as_deref().is_some_and(is_open) && answer.at >= since;
        self.described.get(id).is_some_and(|known| known.iter().any(|answer| is_elsewhere(&answer)))
    }

    fn faults_of_open(&self, shown: &Shown, stale_after: Duration) -> Vec<String> {
        let Some(counts) = &shown.open_counts else {
            return self.faults_of_absence("open jobs", &self.open_walks, stale_after).into_iter().collect();
        };
        let mut counted: BTreeMap<Pair, f64> = counts.keys().map(|pair| (pair.clone(), 0.0)).collect();
        for pair in shown.open.values() {
            *counted.entry(pair.clone()).or_default() += 1.0;
        }
        if counted != *counts {
            return vec![format!("aws_iot_jobs counts {counts:?} open jobs, and there are series of {counted:?}")];
        }
        let walks = may_be_shown(&self.open_walks);
        if walks.clone().next().is_none() {
            return vec![format!("open jobs are shown without a walk: {counts:?}")];
        }
        let newest = self.open_walks.back().expect("a walk");
        if newest.ended.elapsed() > stale_after + PUBLISHED_AFTER {
            return vec![format!("open jobs are shown {:?} after a walk", newest.ended.elapsed())];
        }
        let faults = walks.map(|walk| self.differences(shown, walk)).min_by_key(Vec::len);
        faults.unwrap_or_default()
    }

    /// How the open jobs that are shown differ from a walk and what left it.
    fn differences(&self, shown: &Shown, walk: &Walk) -> Vec<String> {
        let mut faults = Vec::new();
        for (id, pair) in &walk.jobs {
            if shown.open.get(id) != Some(pair) {
                faults.push(format!("{id} is listed as {pair:?} and shown as {:?}", shown.open.get(id)));
            }
        }
        for (id, pair) in shown.open.iter().filter(|(id, _)| !walk.jobs.contains_key(*id)) {
            if !self.seen_open.contains_key(id) {
                faults.push(format!("{id} is shown as {pair:?}, and was never open"));
            }
            // The answer is one to a request that was sent after the job left.
            if let (Some(since), Some(answer)) = (self.left.get(id), self.last_description(id)) {
                let is_elsewhere = !answer.status.as_deref().is_some_and(is_open);
                let is_late = answer.at >= *since + LONGEST_ATTEMPT && answer.at.elapsed() > PUBLISHED_AFTER;
                let is_listed_again = self.full_walks.iter().any(|walk| walk.ended >= answer.at);
                if is_elsewhere && is_late && !is_listed_again {
                    faults.push(format!("{id} is shown as {pair:?}, and was described as {:?}", answer.status));
                }
            }
        }
        for (id, since) in self.left.iter().filter(|(id, _)| !shown.open.contains_key(*id)) {
            // A job that was refused is asked for again within the longest interval.
            let is_given_up = self.refused.is_some_and(|at| at + LONGEST_INTERVAL >= *since);
            let is_answered = is_given_up || self.is_described_elsewhere(id, *since);
            let is_walked = self.full_walks.iter().any(|walk| walk.ended >= *since);
            if !is_answered && !is_walked && since.elapsed() > PUBLISHED_AFTER && *since <= walk.ended {
                faults.push(format!("{id} left the list {:?} ago, and is lost", since.elapsed()));
            }
        }
        faults
    }

    fn faults_of_ended(&self, shown: &Shown, stale_after: Duration) -> Vec<String> {
        let Some(counts) = &shown.ended_counts else {
            return self.faults_of_absence("ended jobs", &self.full_walks, stale_after).into_iter().collect();
        };
        let Some(newest) = self.full_walks.back() else {
            return vec![format!("ended jobs are shown without a walk: {counts:?}")];
        };
        if newest.ended.elapsed() > stale_after + PUBLISHED_AFTER {
            return vec![format!("ended jobs are shown {:?} after a walk", newest.ended.elapsed())];
        }
        let faults = may_be_shown(&self.full_walks).map(|walk| self.differences_of_ended(shown, counts, walk));
        faults.min_by_key(Vec::len).unwrap_or_default()
    }

    fn differences_of_ended(&self, shown: &Shown, counts: &BTreeMap<Pair, f64>, walk: &Walk) -> Vec<String> {
        // The exporter goes by when it started the walk. The first page that was served can be the third attempt.
        let began = walk.began.checked_sub(3 * LONGEST_ATTEMPT).unwrap_or(walk.began);
        let opened = self.seen_open.iter().filter(|(_, at)| **at >= began).map(|(id, _)| id);
        let described = self.described.keys().filter(|id| self.is_described_elsewhere(id, began));
        let left = self.left.keys();
        let doubtful: BTreeSet<&String> =
            opened.chain(described).chain(left).filter(|id| !shown.open.contains_key(*id)).collect();
        let mut sure: BTreeMap<&Pair, f64> = BTreeMap::new();
        for (id, pair) in walk.jobs.iter().filter(|(_, (status, _))| !is_open(status)) {
            if !shown.open.contains_key(id) && !doubtful.contains(id) {
                *sure.entry(pair).or_default() += 1.0;
            }
        }
        let pairs: BTreeSet<&Pair> = counts.keys().chain(sure.keys().copied()).collect();
        let mut faults = Vec::new();
        for pair in pairs {
            let (least, jobs) = (sure.get(pair).copied().unwrap_or_default(), counts.get(pair).copied());
            let most = least + doubtful.len() as f64;
            if !jobs.is_some_and(|jobs| (least..=most).contains(&jobs)) {
                let of_pair = walk.jobs.iter().filter(|(id, of)| *of == pair && !doubtful.contains(id));
                let stories: Vec<String> = of_pair.take(3).map(|(id, _)| format!("{id} {}", self.story(id))).collect();
                faults.push(format!("{pair:?}: {jobs:?} jobs instead of {least} to {most}, among them {stories:#?}"));
            }
        }
        faults
    }

    /// What was served about a job, for people who look for a fault.
    fn story(&self, id: &str) -> String {
        let in_walk = |walk: &Walk| (walk.ended.elapsed(), walk.jobs.get(id).cloned());
        let walks = |walks: &VecDeque<Walk>| walks.iter().map(in_walk).collect::<Vec<_>>();
        let described = self.described.get(id).into_iter().flatten();
        let described: Vec<_> = described.map(|known| (known.at.elapsed(), &known.status, &known.executions)).collect();
        let left = self.left.get(id).map(Instant::elapsed);
        let (open, full) = (walks(&self.open_walks), walks(&self.full_walks));
        format!("was described {described:?}, listed {open:?} and {full:?}, and left {left:?} ago")
    }

    /// What is wrong if none of these walks is shown.
    #[expect(clippy::unused_self, reason = "it belongs to the others")]
    fn faults_of_absence(&self, what: &str, walks: &VecDeque<Walk>, stale_after: Duration) -> Option<String> {
        let age = walks.back()?.ended.elapsed();
        let before = walks.iter().rev().nth(1).map(|before| before.ended.elapsed());
        let is_awaited = age < PUBLISHED_AFTER && before.is_none_or(|age| age >= stale_after);
        let is_stale = age + PUBLISHED_AFTER >= stale_after;
        (!is_awaited && !is_stale).then(|| format!("{what} are not shown, {age:?} after a walk"))
    }

    fn faults_of_details(&self, shown: &Shown, stale_after: Duration) -> Vec<String> {
        let mut faults = Vec::new();
        for (id, executions) in &shown.executions {
            // That a listed job is not found changes nothing that is known.
            let known = || self.described.get(id).into_iter().flatten().filter(|answer| answer.status.is_some());
            // An id can be used again. Until a walk lists the new job, an answer about it changes nothing of the old one.
            let creations: BTreeSet<&str> = known().map(|description| description.created.as_str()).collect();
            // The description before is shown until the newest one is published, and so is its age.
            let is_it = |description: &&Description| {
                description.executions == *executions && description.at.elapsed() <= stale_after + PUBLISHED_AFTER
            };
            let of = |creation| newest(known().filter(move |of| of.created == creation), |description| description.at);
            let may_be: Vec<&Description> = creations.into_iter().flat_map(of).collect();
            if !may_be.iter().any(is_it) {
                let status = shown.open.get(id);
                faults.push(format!(
                    "{id}, {status:?}, is shown with the executions {executions:?}, and {}",
                    self.story(id)
                ));
            }
            if let Some(groups) = shown.groups.get(id)
                && !may_be.iter().any(|description| description.groups == *groups)
            {
                faults.push(format!("{id} is shown with the groups {groups:?}"));
            }
        }
        let mut rows: BTreeMap<(String, Pair), f64> = BTreeMap::new();
        for (id, pair) in &shown.open {
            for group in shown.groups.get(id).into_iter().flatten() {
                *rows.entry((group.clone(), pair.clone())).or_default() += 1.0;
            }
        }
        for row in rows.keys().chain(shown.group_rows.keys()) {
            let (jobs, expected) = (shown.group_rows.get(row), rows.get(row));
            if jobs != expected {
                faults.push(format!("{row:?}: {jobs:?} jobs instead of {expected:?}"));
            }
        }
        faults
    }
}

/// Of what is in order, the newest that must be published, and what came after it.
fn newest<T>(items: impl Iterator<Item = T>, at: impl Fn(&T) -> Instant) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    let published = items.iter().rposition(|item| at(item).elapsed() >= PUBLISHED_AFTER).unwrap_or(0);
    items.split_off(published)
}

fn may_be_shown(walks: &VecDeque<Walk>) -> impl Iterator<Item = &Walk> + Clone {
    newest(walks.iter(), |walk| walk.ended).into_iter()
}

fn is_open(status: &str) -> bool {
    OPEN_STATUSES.contains(&status)
}

/// The jobs of a page, and whether it is the last one.
fn read_page(body: &[u8]) -> Option<(Vec<(String, Pair)>, bool)> {
    let page = serde_json::from_slice::<Value>(body).ok()?;
    let text = |job: &Value, name: &str| job[name].as_str().map(str::to_owned);
    let job = |job| Some((text(job, "jobId")?, (text(job, "status")?, text(job, "targetSelection")?)));
    let jobs: Option<Vec<_>> = page["jobs"].as_array()?.iter().map(job).collect();
    Some((jobs?, page["nextToken"].as_str().unwrap_or_default().is_empty()))
}

fn read_description(status: StatusCode, body: &[u8]) -> Option<Description> {
    let at = Instant::now();
    if status == StatusCode::NOT_FOUND {
        return Some(Description {
            at,
            status: None,
            executions: BTreeMap::new(),
            groups: BTreeSet::new(),
            created: String::new(),
        });
    }
    let answer = serde_json::from_slice::<Value>(body).ok().filter(|_| status == StatusCode::OK)?;
    let job = &answer["job"];
    let count =
        |(field, status): &(&str, &str)| Some(((*status).to_owned(), job["jobProcessDetails"][*field].as_f64()?));
    let targets = job["targets"].as_array()?.iter().filter_map(Value::as_str);
    let groups =
        targets.filter_map(|target| target.split_once(":thinggroup/")).map(|(_, group)| group.to_owned()).collect();
    let executions = EXECUTIONS.iter().filter_map(count).collect();
    Some(Description {
        at,
        status: Some(job["status"].as_str()?.to_owned()),
        executions,
        groups,
        created: job["createdAt"].to_string(),
    })
}

/// The region that a request was signed for.
fn region(request: &Request) -> String {
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|header| header.to_str().ok());
    authorization.and_then(|text| text.split('/').nth(2)).expect("a signed request").to_owned()
}

/// What an exposition has of one target.
struct Shown {
    open_counts: Option<BTreeMap<Pair, f64>>,
    ended_counts: Option<BTreeMap<Pair, f64>>,
    /// Open jobs with series of their own: all of them.
    open: Jobs,
    executions: BTreeMap<String, BTreeMap<String, f64>>,
    groups: HashMap<String, BTreeSet<String>>,
    group_rows: BTreeMap<(String, Pair), f64>,
}

impl Shown {
    fn of(exposition: &Exposition, target: &str) -> Self {
        let family = |name: &'static str| {
            let rows = exposition.family(name).filter(|(labels, _)| labels["target"] == target);
            rows.collect::<Vec<(&Labels, f64)>>()
        };
        let pair = |labels: &Labels| (labels["status"].clone(), labels["target_selection"].clone());
        let (open, ended): (Vec<_>, Vec<_>) =
            family("aws_iot_jobs").into_iter().partition(|(labels, _)| is_open(&labels["status"]));
        let counts = |rows: Vec<(&Labels, f64)>| {
            let counts: BTreeMap<Pair, f64> = rows.into_iter().map(|(labels, jobs)| (pair(labels), jobs)).collect();
            Some(counts).filter(|counts| !counts.is_empty())
        };
        let selections: HashMap<&String, &String> = family("aws_iot_job_info")
            .into_iter()
            .map(|(labels, _)| (&labels["job_id"], &labels["target_selection"]))
            .collect();
        let jobs = family("aws_iot_job_status").into_iter().filter(|(labels, _)| is_open(&labels["status"]));
        let open_jobs: Jobs = jobs
            .map(|(labels, _)| {
                let (id, status) = (&labels["job_id"], &labels["status"]);
                (id.clone(), (status.clone(), selections[id].clone()))
            })
            .collect();
        let mut executions: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
        for (labels, count) in family("aws_iot_job_executions") {
            let of_job = executions.entry(labels["job_id"].clone()).or_default();
            of_job.insert(labels["execution_status"].clone(), count);
        }
        let mut groups: HashMap<String, BTreeSet<String>> = HashMap::new();
        // Jobs without a description have no groups of their own.
        let is_known = |(labels, _): &(&Labels, f64)| labels["thing_group"] != "<unknown>";
        for (labels, _) in family("aws_iot_job_thing_group_info").into_iter().filter(is_known) {
            groups.entry(labels["job_id"].clone()).or_default().insert(labels["thing_group"].clone());
        }
        let rows = family("aws_iot_thing_group_jobs").into_iter();
        let group_rows = rows
            .filter(|(labels, jobs)| is_open(&labels["status"]) && *jobs > 0.0)
            .filter(is_known)
            .map(|(labels, jobs)| ((labels["thing_group"].clone(), pair(labels)), jobs))
            .collect();
        Self { open_counts: counts(open), ended_counts: counts(ended), open: open_jobs, executions, groups, group_rows }
    }
}
