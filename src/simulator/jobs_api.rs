//! `ListJobs`, `DescribeJob` and `GetJobDocument`.

use serde_json::{Value, json};

use crate::jobs::{ExecutionStatus, Status, TargetSelection};

use super::Call;
use super::fleet::{Fleet, Job, MIN_EXECUTED, Scheduling, SortKey, Target, ThingGroup};
use super::json::{epoch_seconds, schedule_time};
use super::paging::Paging;
use super::protocol::{ApiError, Identifier, without_nulls};

pub(super) fn list_jobs(call: &Call<'_>, fleet: &Fleet) -> Result<Value, ApiError> {
    let filter = JobFilter::of(call, fleet)?;
    let paging = Paging::of(call)?;
    let after = paging.after(SortKey::from_cursor)?;
    let jobs = fleet.jobs_after(after.as_ref(), filter.status).filter(|job| filter.has(job));
    let page = paging.cut(jobs, |job| SortKey::of(job).to_cursor());
    let summaries: Vec<Value> = page.items.iter().map(|job| summary(call, fleet, &filter, job)).collect();
    Ok(without_nulls(json!({ "jobs": summaries, "nextToken": page.next_token })))
}

/// The filters of `ListJobs`.
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

    /// Whether `job` matches. The status is not checked here: it already selected the range of jobs.
    fn has(&self, job: &Job) -> bool {
        self.target_selection.is_none_or(|selection| job.target_selection == *selection)
            && self.namespace_id.is_none_or(|namespace| job.texts.namespace_id.as_deref() == Some(namespace))
            // aws-cli#8924: AWS omits SCHEDULED jobs when a group filter is set.
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

/// The whole `Job`. Configurations that are not set are empty objects, as reported for AWS.
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
        "jobExecutionsRetryConfig": (job.max_retries > 0).then(|| retry_config(job.max_retries)),
        "abortConfig": (job.abort_percent > 0).then(|| abort_config(job.abort_percent)),
        "timeoutConfig": without_nulls(json!({ "inProgressTimeoutInMinutes": job.in_progress_timeout_minutes })),
        "namespaceId": job.texts.namespace_id,
        "isConcurrent": job.is_concurrent,
        "schedulingConfig": job.scheduling.as_deref().map(scheduling_config),
    }))
}

fn abort_config(percent: u8) -> Value {
    let percent = f64::from(percent);
    json!({ "criteriaList": [{
        "failureType": "ALL",
        "action": "CANCEL",
        "thresholdPercentage": percent,
        "minNumberOfExecutedThings": MIN_EXECUTED,
    }] })
}

fn retry_config(max_retries: u32) -> Value {
    json!({ "criteriaList": [{ "failureType": "ALL", "numberOfRetries": max_retries }] })
}

fn process_details(job: &Job, targets: &[String]) -> Value {
    let count = |status| job.executions.get(status);
    without_nulls(json!({
        // Documented: present only while the job is rolled out to its targets.
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

/// A made-up job document.
pub(super) fn get_job_document(call: &Call<'_>, fleet: &Fleet) -> Result<Value, ApiError> {
    let job = named_job(call, fleet)?;
    call.params.flag("beforeSubstitution")?;
    let files: Vec<Value> = job.texts.document_source.iter().map(|url| json!({ "url": url })).collect();
    let document = json!({ "operation": "update", "files": files });
    Ok(json!({ "document": document.to_string() }))
}

/// The job with the id in the path.
pub(super) fn named_job<'a>(call: &Call<'_>, fleet: &'a Fleet) -> Result<&'a Job, ApiError> {
    let id = Identifier::JOB_ID.check("jobId", call.resource.unwrap_or_default())?;
    fleet.job(id).ok_or_else(|| ApiError::not_found(format!("The job {id} does not exist")))
}

pub(super) fn job_arn(call: &Call<'_>, job: &Job) -> String {
    call.arn(&format!("job/{}", job.id))
}
