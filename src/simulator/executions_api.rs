//! `ListJobExecutionsForJob`, `ListJobExecutionsForThing`, `DescribeJobExecution` and `CancelJobExecution`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::jobs::{ExecutionStatus, Timestamp};

use super::Call;
use super::executions::Execution;
use super::fleet::{Fleet, Job, SortKey};
use super::jobs_api::named_job;
use super::json::epoch_seconds;
use super::lifecycle::Lifecycle;
use super::paging::Paging;
use super::protocol::{ApiError, Identifier, without_nulls};

/// Failure reasons of the simulated devices.
const FAILURES: [&str; 4] = ["checksum mismatch", "download failed", "no space left on device", "signature invalid"];

pub(super) fn list_job_executions_for_job(call: &Call<'_>, fleet: &Fleet) -> Result<Value, ApiError> {
    let job = named_job(call, fleet)?;
    let status = status_param(call)?;
    let paging = Paging::of(call)?;
    let after = paging.after(|cursor| cursor.parse().ok())?;
    // One execution more than the page size shows whether another page follows.
    let executions = job.executions.list(&job.times(), status, after, paging.size().saturating_add(1));
    let page = paging.cut(executions.into_iter(), |(position, _)| position.to_string());
    let summaries: Vec<Value> = page
        .items
        .into_iter()
        .map(|(_, execution)| {
            json!({
                "thingArn": thing_arn(call, &job.thing_name(execution.thing)),
                "jobExecutionSummary": summary(&execution),
            })
        })
        .collect();
    Ok(without_nulls(json!({ "executionSummaries": summaries, "nextToken": page.next_token })))
}

pub(super) fn list_job_executions_for_thing(call: &Call<'_>, fleet: &Fleet) -> Result<Value, ApiError> {
    let name = named_thing(call)?;
    let status = status_param(call)?;
    let namespace = call.params.identifier("namespaceId", &Identifier::NAMESPACE_ID)?;
    let only = call.params.identifier("jobId", &Identifier::JOB_ID)?;
    let paging = Paging::of(call)?;
    let after = paging.after(after_execution)?;
    let key_after = after.as_ref().map(|(key, _)| key);
    // A page can end between two executions of one job.
    let begun = after.as_ref().and_then(|(key, number)| {
        let job = fleet.job(key.id()).filter(|job| SortKey::of(job) == *key)?;
        Some(
            executions_on(job, name)
                .into_iter()
                .filter(|execution| execution.number > *number)
                .map(move |it| (job, it)),
        )
    });
    let rest = fleet
        .jobs_after(key_after, None)
        .flat_map(|job| executions_on(job, name).into_iter().map(move |execution| (job, execution)));
    let executions = begun.into_iter().flatten().chain(rest).filter(|(job, execution)| {
        status.is_none_or(|status| execution.status == status)
            && namespace.is_none_or(|namespace| job.texts.namespace_id.as_deref() == Some(namespace))
            && only.is_none_or(|id| job.id == id)
    });
    let page =
        paging.cut(executions, |(job, execution)| format!("{}\n{}", execution.number, SortKey::of(job).to_cursor()));
    let summaries: Vec<Value> = page
        .items
        .into_iter()
        .map(|(job, execution)| json!({ "jobId": job.id, "jobExecutionSummary": summary(&execution) }))
        .collect();
    Ok(without_nulls(json!({ "executionSummaries": summaries, "nextToken": page.next_token })))
}

/// The sort key of a job, and the number of its last execution that was listed.
fn after_execution(cursor: &str) -> Option<(SortKey, u32)> {
    let (number, key) = cursor.split_once('\n')?;
    Some((SortKey::from_cursor(key)?, number.parse().ok()?))
}

pub(super) fn describe_job_execution(call: &Call<'_>, fleet: &Fleet) -> Result<Value, ApiError> {
    let job = named_job(call, fleet)?;
    let name = named_thing(call)?;
    let number = call.params.number("executionNumber", 1..=u32::MAX)?;
    let execution = existing_execution(job, name, number)?;
    Ok(json!({ "execution": without_nulls(json!({
        "jobId": job.id,
        "status": execution.status.as_str(),
        // Only force cancels an execution that is in progress.
        "forceCanceled": (execution.status == ExecutionStatus::Canceled).then_some(execution.started_at.is_some()),
        "statusDetails": { "detailsMap": details(job, &execution) },
        "thingArn": thing_arn(call, name),
        "queuedAt": epoch_seconds(execution.queued_at),
        "startedAt": execution.started_at.map(epoch_seconds),
        "lastUpdatedAt": epoch_seconds(execution.last_updated_at),
        "executionNumber": execution.number,
        "versionNumber": execution.version,
        "approximateSecondsBeforeTimedOut": seconds_left(job, &execution, call.now),
    })) }))
}

/// Cancels one execution. If it was the last open one of a SNAPSHOT job, the job is completed.
pub(super) fn cancel_job_execution(
    call: &Call<'_>,
    fleet: &mut Fleet,
    lifecycle: &mut Lifecycle,
) -> Result<Value, ApiError> {
    let mut job = named_job(call, fleet)?.clone();
    let name = named_thing(call)?;
    let force = call.params.flag("force")?.unwrap_or(false);
    let body = call.json_body()?;
    let details = details_param(&body)?;
    let execution = existing_execution(&job, name, None)?;
    if let Some(expected) = body.get("expectedVersion").filter(|expected| **expected != json!(execution.version)) {
        let message = format!("The execution has version {}, not {expected}", execution.version);
        return Err(ApiError::version_conflict(message));
    }
    match execution.status {
        ExecutionStatus::Queued => {}
        ExecutionStatus::InProgress if force => {}
        ExecutionStatus::InProgress => {
            let message = format!("The execution of {} on {name} is IN_PROGRESS; canceling it takes force", job.id);
            return Err(ApiError::invalid_state_transition(message));
        }
        ended => {
            let message = format!("The execution of {} on {name} is {} already", job.id, ended.as_str());
            return Err(ApiError::invalid_state_transition(message));
        }
    }
    job.executions_mut().cancel(execution.thing, execution.number, details, call.now);
    lifecycle.complete_if_over(fleet, job, call.now);
    Ok(json!({}))
}

fn details_param(body: &Map<String, Value>) -> Result<BTreeMap<String, String>, ApiError> {
    let invalid = || ApiError::invalid_request("statusDetails must be an object of names and texts");
    let Some(details) = body.get("statusDetails") else { return Ok(BTreeMap::new()) };
    let details = details.as_object().ok_or_else(invalid)?;
    let mut texts = BTreeMap::new();
    for (name, text) in details {
        let name = Identifier::DETAILS_KEY.check("statusDetails", name)?;
        texts.insert(name.to_owned(), text.as_str().filter(|text| !text.is_empty()).ok_or_else(invalid)?.to_owned());
    }
    Ok(texts)
}

/// The last report of the device, or the details of the cancellation.
fn details(job: &Job, execution: &Execution) -> BTreeMap<String, String> {
    if let Some(details) = job.executions.details(execution.thing, execution.number) {
        return details.clone();
    }
    let index = usize::try_from(execution.thing).unwrap_or_default() % FAILURES.len();
    let said = match execution.status {
        ExecutionStatus::InProgress => Some(("step", "download".to_owned())),
        ExecutionStatus::Failed => Some(("reason", FAILURES[index].to_owned())),
        ExecutionStatus::Rejected => Some(("reason", "battery low".to_owned())),
        _ => None,
    };
    said.into_iter().map(|(name, text)| (name.to_owned(), text)).collect()
}

fn seconds_left(job: &Job, execution: &Execution, now: Timestamp) -> Option<u64> {
    let (minutes, started_at) = (job.in_progress_timeout_minutes?, execution.started_at?);
    let is_timed = execution.status == ExecutionStatus::InProgress;
    is_timed.then(|| (u64::from(minutes) * 60).saturating_sub(now.since(started_at).as_secs()))
}

fn summary(execution: &Execution) -> Value {
    without_nulls(json!({
        "status": execution.status.as_str(),
        "queuedAt": epoch_seconds(execution.queued_at),
        "startedAt": execution.started_at.map(epoch_seconds),
        "lastUpdatedAt": epoch_seconds(execution.last_updated_at),
        "executionNumber": execution.number,
        "retryAttempt": execution.retry_attempt,
    }))
}

/// The executions of a job on the thing with this name, oldest first.
pub(super) fn executions_on(job: &Job, name: &str) -> Vec<Execution> {
    job.thing_index(name).map(|thing| job.executions.on_thing(&job.times(), thing)).unwrap_or_default()
}

/// The execution with this number, or the last one.
fn existing_execution(job: &Job, name: &str, number: Option<u32>) -> Result<Execution, ApiError> {
    let of_number = |execution: &Execution| number.is_none_or(|number| execution.number == number);
    executions_on(job, name)
        .into_iter()
        .rfind(of_number)
        .ok_or_else(|| ApiError::not_found(format!("The job {} has no such execution on {name}", job.id)))
}

fn status_param(call: &Call<'_>) -> Result<Option<ExecutionStatus>, ApiError> {
    Ok(call.params.one_of("status", &ExecutionStatus::ALL, |status| status.as_str())?.copied())
}

fn named_thing<'a>(call: &Call<'a>) -> Result<&'a str, ApiError> {
    Identifier::THING_NAME.check("thingName", call.thing.unwrap_or_default())
}

fn thing_arn(call: &Call<'_>, name: &str) -> String {
    call.arn(&format!("thing/{name}"))
}
