//! What the status page and the JSON API show, as plain values. Both have the same content. `docs/api.md` documents the fields.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::links::{commands, console_url};
use crate::build_info::{REVISION, VERSION};
use crate::clock::Time;
use crate::jobs::{
    Attention, CacheState, ExecutionCounts, ExecutionStatus, JobSeries, Outcome, Part, Status, Timepoint, Timestamp,
};
use crate::metrics::{
    Collector, Failing, Failure, Identity, ListingState, Published, RateInForce, RequestCount, RunOutcome, RunningWalk,
    ShownTarget, WalkState, by_collector,
};

/// A target and its requests of the last hour, by operation.
pub(super) type ShownWithRequests = (Arc<ShownTarget>, BTreeMap<String, RequestCount>);

/// The whole status page.
#[derive(Debug, Serialize)]
pub(super) struct StatusReport {
    pub(super) version: &'static str,
    pub(super) revision: &'static str,
    pub(super) time: Time,
    pub(super) uptime_seconds: u64,
    pub(super) summary: Summary,
    /// The worst first.
    pub(super) targets: Vec<TargetReport>,
}

/// The targets in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Summary {
    pub(super) targets: usize,
    /// Those in any state but `healthy` and `starting`.
    pub(super) targets_with_problems: usize,
    /// Those of which no walk over the open jobs has ended.
    pub(super) targets_starting: usize,
    /// Of the jobs that have series of their own; `null` if no such job is known.
    pub(super) jobs_need_attention: Option<usize>,
    /// Whether there can be more, because open jobs of a target are not known or have no series of their own.
    pub(super) jobs_need_attention_is_minimum: bool,
    /// The age of the oldest list of open jobs of any target; `null` before the first.
    pub(super) open_jobs_age_seconds: Option<u64>,
}

/// The state of a target. The order is by urgency, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TargetHealth {
    /// Its open jobs are too old to be shown.
    Stale,
    /// The last run of a listing failed. What was listed before is shown.
    Failing,
    /// Its ended jobs are too old to be shown.
    EndedJobsStale,
    /// AWS denies requests about some of its jobs.
    Denied,
    /// Requests about single jobs fail, so that a collector knows no job.
    RequestsFailing,
    /// No run has ended.
    Starting,
    /// Nothing is wrong.
    Healthy,
}

impl TargetHealth {
    /// The words on the status page.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Failing => "failing",
            Self::EndedJobsStale => "ended jobs stale",
            Self::Denied => "requests denied",
            Self::RequestsFailing => "requests fail",
            Self::Starting => "starting",
            Self::Healthy => "healthy",
        }
    }

    pub(super) const fn is_problem(self) -> bool {
        !matches!(self, Self::Starting | Self::Healthy)
    }
}

/// One target.
#[derive(Debug, Serialize)]
pub(super) struct TargetReport {
    pub(super) target: String,
    pub(super) aws_account_id: Option<String>,
    pub(super) aws_region: String,
    pub(super) health: TargetHealth,
    pub(super) collectors: Vec<CollectorReport>,
    /// Jobs by status and target selection. Unknown values are left out.
    pub(super) jobs: Vec<JobCount>,
    /// Open jobs; `null` if they are not known.
    pub(super) open_jobs: Option<u64>,
    /// Open and ended jobs that `/api/v1/jobs` leaves out because of `limits.max_jobs` and `limits.max_ended_jobs`.
    pub(super) omitted_jobs: u64,
    pub(super) requests_last_hour: Vec<RequestReport>,
}

/// One collector of a target.
#[derive(Debug, Serialize)]
pub(super) struct CollectorReport {
    pub(super) collector: &'static str,
    /// Whether its data is shown; `null` for collectors that send a request for each job.
    pub(super) fresh: Option<bool>,
    /// When its last successful run ended.
    pub(super) last_success: Option<Time>,
    pub(super) age_seconds: Option<u64>,
    pub(super) last_walk: Option<WalkReport>,
    /// The walk under way, until the first one has succeeded.
    pub(super) first_walk: Option<FirstWalk>,
    pub(super) failure: Option<FailureReport>,
    /// Until the next run starts; `null` while one is under way.
    pub(super) next_run_seconds: Option<u64>,
    /// Jobs by the state of their data, of collectors that send a request for each job.
    pub(super) jobs: BTreeMap<&'static str, u64>,
}

/// The last complete walk.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct WalkReport {
    pub(super) pages: u64,
    pub(super) jobs: usize,
    pub(super) duration_seconds: Option<f64>,
}

/// A walk under way.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct FirstWalk {
    pub(super) pages: u64,
    pub(super) jobs: u64,
    pub(super) seconds: u64,
}

/// Why the last run of a collector failed.
#[derive(Debug, Serialize)]
pub(super) struct FailureReport {
    /// The value of the label `reason` of `aws_iot_jobs_exporter_collector_failures_total`.
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) advice: &'static str,
    /// When the first of the failed runs in a row ended.
    pub(super) since: Option<Time>,
    /// Failed runs in a row.
    pub(super) runs: u32,
}

/// Jobs of one status and target selection.
#[derive(Clone, Debug, Serialize)]
pub(super) struct JobCount {
    pub(super) status: String,
    pub(super) target_selection: String,
    pub(super) jobs: u64,
}

/// Requests of one operation within the last hour.
#[derive(Clone, Debug, Serialize)]
pub(super) struct RequestReport {
    pub(super) operation: String,
    pub(super) requests: u64,
    pub(super) throttled: u64,
    /// The current rate limit; `null` before the first request.
    pub(super) limit_per_second: Option<f64>,
}

/// One job that has series of its own.
#[derive(Clone, Debug, Serialize)]
pub(super) struct JobReport {
    pub(super) target: String,
    pub(super) aws_account_id: Option<String>,
    pub(super) aws_region: String,
    pub(super) job_id: String,
    pub(super) status: String,
    pub(super) target_selection: String,
    /// Why an open job needs an operator.
    pub(super) attention: Option<AttentionReport>,
    /// How an ended job went.
    pub(super) result: Option<Outcome>,
    pub(super) created_at: Option<Time>,
    pub(super) last_updated_at: Option<Time>,
    pub(super) scheduled_start_at: Option<Time>,
    pub(super) scheduled_end_at: Option<Time>,
    pub(super) completed_at: Option<Time>,
    pub(super) described_at: Option<Time>,
    pub(super) last_progress_at: Option<Time>,
    /// From its start to its end, or until now.
    pub(super) duration_seconds: Option<u64>,
    pub(super) stuck: Option<bool>,
    pub(super) windowed: Option<bool>,
    pub(super) meets_abort_criteria: Option<bool>,
    pub(super) thing_groups: Vec<String>,
    pub(super) tags: BTreeMap<String, String>,
    /// Executions by status; `null` if they are not known. A status that AWS does not count is not there.
    pub(super) executions: Option<BTreeMap<&'static str, u32>>,
    pub(super) open_executions: Option<u64>,
    pub(super) ended_share: Option<f64>,
    pub(super) succeeded_share: Option<f64>,
    pub(super) failed_share: Option<f64>,
    /// Things that hold the job open, the longest first.
    pub(super) things: Vec<ThingReport>,
    pub(super) console_url: String,
    /// Commands of the AWS CLI that list the job's open and failed executions.
    pub(super) commands: Vec<String>,
}

/// Why a job needs an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct AttentionReport {
    pub(super) reason: Attention,
    /// `critical`: act now; `warning`: look at it on the next working day.
    pub(super) severity: &'static str,
}

/// An execution that is not finished.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ThingReport {
    pub(super) thing: String,
    pub(super) status: &'static str,
    pub(super) since: Time,
}

impl StatusReport {
    pub(super) fn new(shown: &[ShownWithRequests], rates: &[RateInForce], started: Timepoint, now: Timepoint) -> Self {
        let mut targets: Vec<TargetReport> =
            shown.iter().map(|(target, requests)| TargetReport::new(target, requests, rates, now)).collect();
        // Stable: targets in the same state stay in the order of the configuration.
        targets.sort_by_key(|target| target.health);
        let counts: Vec<Option<usize>> = shown.iter().map(|(target, _)| needing_attention(target, now.wall)).collect();
        let jobs_need_attention = counts.iter().copied().flatten().reduce(|a, b| a + b);
        let has_unknown = |(target, _): &ShownWithRequests| {
            let open = target.state.open.as_ref();
            open.is_none_or(|open| open.part.omitted_jobs > 0 || open.part.series.iter().any(is_unknown))
        };
        let ages = targets.iter().filter_map(|target| target.collectors.first()?.age_seconds);
        let summary = Summary {
            targets: targets.len(),
            targets_with_problems: targets.iter().filter(|target| target.health.is_problem()).count(),
            targets_starting: targets.iter().filter(|target| target.health == TargetHealth::Starting).count(),
            jobs_need_attention,
            jobs_need_attention_is_minimum: shown.iter().any(has_unknown),
            open_jobs_age_seconds: ages.max(),
        };
        let uptime_seconds = now.since(started).as_secs();
        Self { version: VERSION, revision: REVISION, time: Time(now.wall), uptime_seconds, summary, targets }
    }
}

/// Whether it is not known if this open job is stuck or how many of its executions failed.
fn is_unknown(job: &JobSeries) -> bool {
    job.executions.is_none() || job.is_stuck.is_none()
}

/// The jobs of a target that need an operator; `None` if no open job of it has series of its own, though there are some.
fn needing_attention(target: &ShownTarget, now: Timestamp) -> Option<usize> {
    let part = &target.state.open.as_ref()?.part;
    let is_unknown = part.series.is_empty() && open_jobs(part) > 0;
    (!is_unknown).then(|| part.series.iter().filter(|job| Attention::of(job, now).is_some()).count())
}

impl TargetReport {
    fn new(
        target: &ShownTarget,
        requests: &BTreeMap<String, RequestCount>,
        rates: &[RateInForce],
        now: Timepoint,
    ) -> Self {
        let (Identity { name, region, .. }, state) = (&*target.identity, &target.state);
        let parts = || state.open.iter().chain(&state.ended).map(|published| &*published.part);
        let mut collectors = vec![CollectorReport::of_listing(Collector::OpenJobs, &state.open_jobs, now)];
        collectors
            .extend(state.all_jobs.iter().map(|listing| CollectorReport::of_listing(Collector::AllJobs, listing, now)));
        let of_jobs = by_collector(&state.states).into_iter();
        collectors.extend(of_jobs.filter_map(|(collector, jobs)| {
            Some(CollectorReport::of_jobs(collector, jobs?, state.request_failures.get(&collector)))
        }));
        let limit = |operation: &str| {
            let is_of_target = |rate: &&RateInForce| {
                state.account.as_ref() == Some(&rate.account) && rate.region == *region && rate.operation == operation
            };
            rates.iter().find(is_of_target).map(|rate| rate.rate)
        };
        Self {
            target: name.clone(),
            aws_account_id: state.account.as_ref().map(|account| account.as_str().to_owned()),
            aws_region: region.clone(),
            health: health(target),
            collectors,
            jobs: parts().flat_map(job_counts).collect(),
            open_jobs: state.open.as_ref().map(|open| open_jobs(&open.part)),
            omitted_jobs: parts().map(|part| part.omitted_jobs).sum(),
            requests_last_hour: requests
                .iter()
                .map(|(operation, RequestCount { requests, throttled })| RequestReport {
                    operation: operation.clone(),
                    requests: *requests,
                    throttled: *throttled,
                    limit_per_second: limit(operation),
                })
                .collect(),
        }
    }

    /// The failures of its collectors.
    pub(super) fn failures(&self) -> impl Iterator<Item = (&'static str, &FailureReport)> {
        self.collectors.iter().filter_map(|collector| Some((collector.collector, collector.failure.as_ref()?)))
    }
}

fn health(target: &ShownTarget) -> TargetHealth {
    let state = &target.state;
    let (open, all) = (&state.open_jobs, state.all_jobs.as_ref());
    let count = |jobs: &BTreeMap<CacheState, u64>, state| jobs.get(&state).copied().unwrap_or_default();
    let of_single_jobs: Vec<_> = by_collector(&state.states).into_iter().filter_map(|(_, jobs)| jobs).collect();
    let is_denied = of_single_jobs.iter().any(|jobs| count(jobs, CacheState::Denied) > 0);
    let knows_nothing =
        |jobs: &&BTreeMap<_, _>| count(jobs, CacheState::Failing) > 0 && count(jobs, CacheState::Fresh) == 0;
    if !open.is_fresh {
        TargetHealth::Stale
    } else if open.failing.is_some() || all.is_some_and(|all| all.failing.is_some()) {
        TargetHealth::Failing
    } else if all.is_some_and(|all| !all.is_fresh) {
        TargetHealth::EndedJobsStale
    } else if is_denied {
        TargetHealth::Denied
    } else if of_single_jobs.iter().any(knows_nothing) {
        TargetHealth::RequestsFailing
    } else if open.last_run.is_none() {
        TargetHealth::Starting
    } else {
        TargetHealth::Healthy
    }
}

fn job_counts(part: &Part) -> impl Iterator<Item = JobCount> + '_ {
    part.jobs.iter().map(|((status, selection), jobs)| JobCount {
        status: status.as_str().to_owned(),
        target_selection: selection.as_str().to_owned(),
        jobs: *jobs,
    })
}

fn open_jobs(part: &Part) -> u64 {
    part.jobs.values().sum()
}

impl FailureReport {
    fn new(failure: &Failure, failing: Option<Failing>) -> Self {
        Self {
            reason: failure.reason.as_str(),
            message: failure.message.clone(),
            advice: failure.reason.advice(),
            since: failing.map(|Failing { since, .. }| Time(since)),
            runs: failing.map_or(1, |Failing { runs, .. }| runs),
        }
    }
}

impl CollectorReport {
    fn of_listing(collector: Collector, listing: &ListingState, now: Timepoint) -> Self {
        let took = |run: &RunOutcome| run.failure.is_none().then_some(run.duration.as_secs_f64());
        let failure = listing.last_run.as_ref().and_then(|run| run.failure.as_ref());
        Self {
            collector: collector.as_str(),
            fresh: Some(listing.is_fresh && listing.last_success.is_some()),
            last_success: listing.last_success.map(Time),
            age_seconds: listing.last_success.map(|at| now.wall.since(at).as_secs()),
            last_walk: listing.last_walk.map(|WalkState { pages, stats }| WalkReport {
                pages,
                jobs: stats.jobs,
                duration_seconds: listing.last_run.as_ref().and_then(took),
            }),
            first_walk: listing.first_walk.as_ref().map(|RunningWalk { since, progress }| FirstWalk {
                pages: progress.pages(),
                jobs: progress.jobs(),
                seconds: now.instant.saturating_duration_since(*since).as_secs(),
            }),
            failure: failure.map(|failure| FailureReport::new(failure, listing.failing)),
            next_run_seconds: listing.next_run.map(|at| at.saturating_duration_since(now.instant).as_secs()),
            jobs: BTreeMap::new(),
        }
    }

    fn of_jobs(collector: Collector, jobs: &BTreeMap<CacheState, u64>, failure: Option<&(Failure, Failing)>) -> Self {
        Self {
            collector: collector.as_str(),
            fresh: None,
            last_success: None,
            age_seconds: None,
            last_walk: None,
            first_walk: None,
            failure: failure.map(|(failure, failing)| FailureReport::new(failure, Some(*failing))),
            next_run_seconds: None,
            jobs: jobs.iter().map(|(state, jobs)| (state.as_str(), *jobs)).collect(),
        }
    }
}

/// Which jobs a list has. An empty list of values lets everything through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct JobFilter {
    pub(super) targets: Vec<String>,
    pub(super) statuses: Vec<String>,
    pub(super) groups: Vec<String>,
    /// Only jobs that need an operator, or only the others.
    pub(super) attention: Option<bool>,
}

impl JobFilter {
    fn lets_through(&self, job: &JobReport) -> bool {
        let allows = |values: &[String], value: &String| values.is_empty() || values.contains(value);
        allows(&self.targets, &job.target)
            && allows(&self.statuses, &job.status)
            && (self.groups.is_empty() || job.thing_groups.iter().any(|group| self.groups.contains(group)))
            && self.attention.is_none_or(|wanted| wanted == job.attention.is_some())
    }
}

/// The jobs that have series of their own: those that need an operator first, then other open ones, then ended ones; of each the
/// newest first.
#[derive(Debug, Serialize)]
pub(super) struct JobsReport {
    pub(super) time: Time,
    pub(super) jobs: Vec<JobReport>,
}

impl JobsReport {
    pub(super) fn new(shown: &[ShownWithRequests], filter: &JobFilter, now: Timepoint) -> Self {
        let mut jobs: Vec<JobReport> = shown
            .iter()
            .flat_map(|(target, _)| series(target).map(|job| JobReport::new(target, job, now.wall)))
            .filter(|job| filter.lets_through(job))
            .collect();
        jobs.sort_by(|a, b| {
            let key = |job: &JobReport| {
                let urgency = job.attention.map(|attention| attention.reason);
                (urgency.is_none(), urgency, job.result.is_some())
            };
            let at = |job: &JobReport| job.completed_at.or(job.created_at);
            key(a).cmp(&key(b)).then_with(|| at(b).cmp(&at(a))).then_with(|| a.job_id.cmp(&b.job_id))
        });
        Self { time: Time(now.wall), jobs }
    }
}

fn series(target: &ShownTarget) -> impl Iterator<Item = &JobSeries> {
    target.state.open.iter().chain(&target.state.ended).flat_map(|Published { part, .. }| &part.series)
}

/// The job of a target with this id, if it has series of its own.
pub(super) fn find_job(shown: &[ShownWithRequests], target: &str, id: &str, now: Timepoint) -> Option<JobReport> {
    let (target, _) = shown.iter().find(|(shown, _)| shown.identity.name == target)?;
    series(target).find(|job| *job.id == *id).map(|job| JobReport::new(target, job, now.wall))
}

impl JobReport {
    fn new(target: &ShownTarget, job: &JobSeries, now: Timestamp) -> Self {
        let (Identity { name, region, .. }, state) = (&*target.identity, &target.state);
        let (status, selection) = &job.pair;
        let executions = job.executions.as_ref();
        let start = job.scheduled_start.or(job.created_at);
        let has_started = *status != Status::Scheduled;
        let end = job.completed_at.unwrap_or(now);
        let mut things: Vec<ThingReport> = job
            .named
            .iter()
            .map(|execution| ThingReport {
                thing: execution.thing.to_string(),
                status: execution.status.as_str(),
                since: Time(execution.since),
            })
            .collect();
        things.sort_by_key(|thing| thing.since);
        let tags = state.tag_keys.iter().zip(job.tags.iter().flat_map(|values| values.iter()));
        Self {
            target: name.clone(),
            aws_account_id: state.account.as_ref().map(|account| account.as_str().to_owned()),
            aws_region: region.clone(),
            job_id: job.id.to_string(),
            status: status.as_str().to_owned(),
            target_selection: selection.as_str().to_owned(),
            attention: Attention::of(job, now).map(|attention| AttentionReport {
                reason: attention,
                severity: if attention.is_critical() { "critical" } else { "warning" },
            }),
            result: Outcome::of(job),
            created_at: job.created_at.map(Time),
            last_updated_at: job.last_updated_at.map(Time),
            scheduled_start_at: job.scheduled_start.map(Time),
            scheduled_end_at: job.scheduled_end.map(Time),
            completed_at: job.completed_at.map(Time),
            described_at: job.described_at.map(Time),
            last_progress_at: job.last_progress.map(Time),
            duration_seconds: start.filter(|_| has_started).map(|start| end.since(start).as_secs()),
            stuck: job.is_stuck,
            windowed: job.windowed,
            meets_abort_criteria: job.meets_abort_criteria,
            thing_groups: job.thing_groups.iter().map(|group| group.as_ref().to_owned()).collect(),
            tags: tags.filter_map(|(key, value)| Some((key.clone(), value.as_deref()?.to_owned()))).collect(),
            executions: executions.map(by_status),
            open_executions: executions.and_then(ExecutionCounts::open),
            ended_share: executions.and_then(|counts| counts.share(|status| !status.is_open())),
            succeeded_share: executions.and_then(|counts| counts.share(|status| status == ExecutionStatus::Succeeded)),
            failed_share: executions.and_then(|counts| counts.share(ExecutionStatus::is_failure)),
            things,
            console_url: console_url(region, &job.id),
            commands: commands(region, &job.id, executions),
        }
    }
}

fn by_status(executions: &ExecutionCounts) -> BTreeMap<&'static str, u32> {
    let statuses = ExecutionStatus::ALL.into_iter();
    statuses.filter_map(|status| Some((status.as_str(), executions.get(status)?))).collect()
}
