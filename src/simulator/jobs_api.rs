//! `ListJobs`, `DescribeJob` and `ListJobExecutionsForJob`.

use serde_json::{Value, json};

use crate::job::{ExecutionStatus, Status, TargetSelection};

use super::Call;
use super::fleet::{Fleet, Job, Place, Scheduling, Target, ThingGroup};
use super::json::{epoch_seconds, schedule_time};
use super::paging::Paging;
use super::protocol::{ApiError, Identifier, without_nulls};

pub(super) fn list_jobs(call: &Call<'_>, fleet: &Fleet) -> Result<Value, ApiError> {
    let filter = JobFilter::of(call, fleet)?;
    let paging = Paging::of(call)?;
    let after = paging.after(Place::from_cursor)?;
    let jobs = fleet.jobs_after(after.as_ref(), filter.status).filter(|job| filter.has(job));
    let page = paging.cut(jobs, |job| Place::of(job).to_cursor());
    let summaries: Vec<Value> = page.items.iter().map(|job| summary(call, fleet, &filter, job)).collect();
    Ok(without_nulls(json!({ "jobs": summaries, "nextToken": page.next_token })))
}

/// The parameters of `ListJobs` that narrow it.
struct JobFilter<'a> {
    status: Option<&'a Status>,
    target_selection: Option<&'a TargetSelection>,
    group: Option<&'a ThingGroup>,
    namespace_id: Option<&'a str>,
}

impl<'a> JobFilter<'a> {
    fn of(call: &'a Call<'_>, fleet: &'a Fleet) -> Result<Self, ApiError> {
        let params = call.params;
        Ok(Self {
            status: params.one_of("status", Status::KNOWN, Status::as_str)?,
            target_selection: params.one_of("targetSelection", TargetSelection::KNOWN, TargetSelection::as_str)?,
            group: Self::group(call, fleet)?,
            namespace_id: params.identifier("namespaceId", &Identifier::NAMESPACE_ID)?,
        })
    }

    fn group(call: &Call<'_>, fleet: &'a Fleet) -> Result<Option<&'a ThingGroup>, ApiError> {
        let name = call.params.identifier("thingGroupName", &Identifier::THING_GROUP_NAME)?;
        let id = call.params.identifier("thingGroupId", &Identifier::THING_GROUP_ID)?;
        let (asked, found) = match (name, id) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                return Err(ApiError::invalid_request("Only one of thingGroupName and thingGroupId can be given"));
            }
            (Some(name), None) => (name, fleet.group(name)),
            (None, Some(id)) => (id, fleet.groups().find(|group| group.id == id)),
        };
        found.map(Some).ok_or_else(|| ApiError::not_found(format!("The thing group {asked} does not exist")))
    }

    /// Whether `job` passes. The status is left out: it is what narrows the range of jobs that are looked at.
    fn has(&self, job: &Job) -> bool {
        self.target_selection.is_none_or(|selection| job.target_selection == *selection)
            && self.namespace_id.is_none_or(|namespace| job.texts.namespace_id.as_deref() == Some(namespace))
            // Reported in aws-cli#8924: under a group filter, SCHEDULED jobs are missing.
            && self.group.is_none_or(|group| job.status != Status::Scheduled && job.targets_group(&group.name))
    }
}

fn summary(call: &Call<'_>, fleet: &Fleet, filter: &JobFilter<'_>, job: &Job) -> Value {
    let only_target = || match &*job.targets {
        [Target::ThingGroup(name)] => fleet.group(name),
        _ => None,
    };
    let group = filter.group.or_else(only_target);
    without_nulls(json!({
        "jobArn": job_arn(call, job),
        "jobId": job.id,
        "thingGroupId": group.map(|group| &group.id),
        "targetSelection": job.target_selection.as_str(),
        "status": job.status.as_str(),
        "createdAt": epoch_seconds(job.created_at),
        "lastUpdatedAt": epoch_seconds(job.last_updated_at),
        "completedAt": job.completed_at.map(epoch_seconds),
        "isConcurrent": job.is_concurrent,
    }))
}

pub(super) fn describe_job(call: &Call<'_>, fleet: &Fleet) -> Result<Value, ApiError> {
    let job = named_job(call, fleet)?;
    Ok(without_nulls(json!({ "documentSource": job.texts.document_source, "job": description(call, job) })))
}

/// The whole `Job`. Configurations that are not set are there and empty, as reported of AWS.
fn description(call: &Call<'_>, job: &Job) -> Value {
    let targets: Vec<String> = job.targets.iter().map(|target| call.arn(&target.resource())).collect();
    without_nulls(json!({
        "jobArn": job_arn(call, job),
        "jobId": job.id,
        "targetSelection": job.target_selection.as_str(),
        "status": job.status.as_str(),
        "forceCanceled": (job.status == Status::Canceled).then_some(job.force_canceled),
        "reasonCode": job.texts.reason_code,
        "comment": job.texts.comment,
        "targets": targets,
        "description": job.texts.description,
        "presignedUrlConfig": {},
        "jobExecutionsRolloutConfig": {},
        "createdAt": epoch_seconds(job.created_at),
        "lastUpdatedAt": epoch_seconds(job.last_updated_at),
        "completedAt": job.completed_at.map(epoch_seconds),
        "jobProcessDetails": process_details(job, &targets),
        "timeoutConfig": without_nulls(json!({ "inProgressTimeoutInMinutes": job.in_progress_timeout_minutes })),
        "namespaceId": job.texts.namespace_id,
        "isConcurrent": job.is_concurrent,
        "schedulingConfig": job.scheduling.as_deref().map(scheduling_config),
    }))
}

fn process_details(job: &Job, targets: &[String]) -> Value {
    let count = |status| job.executions.get(status);
    without_nulls(json!({
        // Documented: there while the job is rolled out to its targets, and not after that.
        "processingTargets": job.is_concurrent.then_some(targets),
        "numberOfQueuedThings": count(ExecutionStatus::Queued),
        "numberOfInProgressThings": count(ExecutionStatus::InProgress),
        "numberOfSucceededThings": count(ExecutionStatus::Succeeded),
        "numberOfFailedThings": count(ExecutionStatus::Failed),
        "numberOfTimedOutThings": count(ExecutionStatus::TimedOut),
        "numberOfRejectedThings": count(ExecutionStatus::Rejected),
        "numberOfRemovedThings": count(ExecutionStatus::Removed),
        "numberOfCanceledThings": count(ExecutionStatus::Canceled),
    }))
}

fn scheduling_config(scheduling: &Scheduling) -> Value {
    let windows = scheduling
        .maintenance_windows
        .iter()
        .map(|window| json!({ "startTime": window.start_time, "durationInMinutes": window.duration_in_minutes }));
    let windows: Vec<Value> = windows.collect();
    without_nulls(json!({
        "startTime": scheduling.start_time.map(schedule_time),
        "endTime": scheduling.end_time.map(schedule_time),
        "endBehavior": scheduling.end_behavior,
        "maintenanceWindows": (!windows.is_empty()).then_some(windows),
    }))
}

pub(super) fn list_job_executions_for_job(call: &Call<'_>, fleet: &Fleet) -> Result<Value, ApiError> {
    let job = named_job(call, fleet)?;
    let status = call.params.one_of("status", &ExecutionStatus::ALL, |status| status.as_str())?.copied();
    let paging = Paging::of(call)?;
    let first = paging.after(|cursor| cursor.parse::<u64>().ok()?.checked_add(1))?.unwrap_or(0);
    let executions = (first..)
        .map_while(|index| Some((index, job.executions.status_of(index)?)))
        .filter(|(_, found)| status.is_none_or(|status| status == *found));
    let page = paging.cut(executions, |(index, _)| index.to_string());
    let summaries: Vec<Value> =
        page.items.into_iter().map(|(index, status)| execution_summary(call, job, index, status)).collect();
    Ok(without_nulls(json!({ "executionSummaries": summaries, "nextToken": page.next_token })))
}

fn execution_summary(call: &Call<'_>, job: &Job, index: u64, status: ExecutionStatus) -> Value {
    use ExecutionStatus as Execution;
    let has_started =
        matches!(status, Execution::InProgress | Execution::Succeeded | Execution::Failed | Execution::TimedOut);
    json!({
        "thingArn": call.arn(&format!("thing/{}", thing_name(job, index))),
        "jobExecutionSummary": without_nulls(json!({
            "status": status.as_str(),
            "queuedAt": epoch_seconds(job.created_at),
            "startedAt": has_started.then(|| epoch_seconds(job.created_at)),
            "lastUpdatedAt": epoch_seconds(job.last_updated_at),
            "executionNumber": 1,
            "retryAttempt": 0,
        })),
    })
}

/// The things that are targets themselves, then the made-up members of the groups.
fn thing_name(job: &Job, index: u64) -> String {
    let mut things = job.targets.iter().filter_map(|target| match target {
        Target::Thing(name) => Some(name),
        Target::ThingGroup(_) => None,
    });
    let named = usize::try_from(index).ok().and_then(|index| things.nth(index));
    named.cloned().unwrap_or_else(|| format!("simulated-thing-{index:06}"))
}

fn named_job<'a>(call: &Call<'_>, fleet: &'a Fleet) -> Result<&'a Job, ApiError> {
    let id = Identifier::JOB_ID.check("jobId", call.resource.unwrap_or_default())?;
    fleet.job(id).ok_or_else(|| ApiError::not_found(format!("The job {id} does not exist")))
}

fn job_arn(call: &Call<'_>, job: &Job) -> String {
    call.arn(&format!("job/{}", job.id))
}
