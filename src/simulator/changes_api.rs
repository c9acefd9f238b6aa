//! `CancelJob`, `DeleteJob` and `UpdateJob`.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::jobs::Status;

use super::Call;
use super::fleet::Fleet;
use super::jobs_api::{job_arn, named_job};
use super::lifecycle::{Lifecycle, MAX_DELETIONS};
use super::protocol::{ApiError, Identifier, without_nulls};

/// The longest description and comment (service model).
const MAX_TEXT_CHARS: usize = 2028;

/// The longest reason code (service model).
const MAX_REASON_CHARS: usize = 128;

pub(super) fn cancel_job(call: &Call<'_>, fleet: &mut Fleet, lifecycle: &mut Lifecycle) -> Result<Value, ApiError> {
    let mut job = named_job(call, fleet)?.clone();
    let force = call.params.flag("force")?.unwrap_or(false);
    let body = call.json_body()?;
    let comment = text(&body, "comment", MAX_TEXT_CHARS)?;
    let reason_code = text(&body, "reasonCode", MAX_REASON_CHARS)?;
    let is_code = |code: &str| code.chars().all(|letter| letter.is_uppercase() || letter.is_numeric() || letter == '_');
    if let Some(code) = reason_code.filter(|code| !is_code(code)) {
        let pattern = "Member must satisfy regular expression pattern: [\\p{Upper}\\p{Digit}_]+";
        return Err(ApiError::constraint("reasonCode", code, pattern));
    }
    if !matches!(job.status, Status::InProgress | Status::Scheduled) {
        return Err(ApiError::invalid_request(format!("The job {} is {} and cannot be canceled", job.id, job.status)));
    }
    let texts = Arc::make_mut(&mut job.texts);
    texts.comment = comment.map(str::to_owned).or_else(|| texts.comment.take());
    texts.reason_code = reason_code.map(str::to_owned);
    let answer = without_nulls(json!({
        "jobArn": job_arn(call, &job),
        "jobId": job.id,
        "description": job.texts.description,
    }));
    lifecycle.cancel(fleet, job, force, call.now);
    Ok(answer)
}

pub(super) fn delete_job(call: &Call<'_>, fleet: &mut Fleet, lifecycle: &mut Lifecycle) -> Result<Value, ApiError> {
    let job = named_job(call, fleet)?;
    let force = call.params.flag("force")?.unwrap_or(false);
    let namespace = call.params.identifier("namespaceId", &Identifier::NAMESPACE_ID)?;
    if namespace.is_some() && job.texts.namespace_id.as_deref() != namespace {
        return Err(ApiError::not_found(format!("The job {} is in another namespace", job.id)));
    }
    let is_deleting = job.status == Status::DeletionInProgress;
    if is_deleting || !(job.has_ended() || force) {
        let message = format!("The job {} is {}; deleting one that has not ended takes force", job.id, job.status);
        return Err(ApiError::invalid_state_transition(message));
    }
    if fleet.jobs_after(None, Some(&Status::DeletionInProgress)).count() >= MAX_DELETIONS {
        let message = format!("No more than {MAX_DELETIONS} jobs can be in DELETION_IN_PROGRESS at the same time");
        return Err(ApiError::limit_exceeded(message));
    }
    let job = job.clone();
    lifecycle.delete(fleet, job, call.now);
    Ok(json!({}))
}

/// Changes the fields of a job that are simulated. A request with any other field is refused.
pub(super) fn update_job(call: &Call<'_>, fleet: &mut Fleet) -> Result<Value, ApiError> {
    let mut job = named_job(call, fleet)?.clone();
    let body = call.json_body()?;
    if !matches!(job.status, Status::InProgress | Status::Scheduled) {
        return Err(ApiError::invalid_request(format!("The job {} is {} and cannot be updated", job.id, job.status)));
    }
    for (name, value) in &body {
        match name.as_str() {
            "description" => {
                let description = text(&body, "description", MAX_TEXT_CHARS)?.map(str::to_owned);
                Arc::make_mut(&mut job.texts).description = description;
            }
            "timeoutConfig" => {
                let minutes = &value["inProgressTimeoutInMinutes"];
                job.in_progress_timeout_minutes =
                    Some(whole_number("inProgressTimeoutInMinutes", minutes, 1..=10_080)?);
            }
            "jobExecutionsRetryConfig" => {
                let criteria = value["criteriaList"].as_array().filter(|criteria| !criteria.is_empty());
                let criteria = criteria.ok_or_else(|| ApiError::invalid_request("criteriaList must not be empty"))?;
                for criterion in criteria {
                    job.max_retries = whole_number("numberOfRetries", &criterion["numberOfRetries"], 0..=10)?;
                }
            }
            other => return Err(ApiError::invalid_request(format!("The simulator does not have {other}"))),
        }
    }
    fleet.add_job(job);
    Ok(json!({}))
}

fn text<'b>(body: &'b Map<String, Value>, name: &str, max_chars: usize) -> Result<Option<&'b str>, ApiError> {
    let Some(value) = body.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    let text = value.as_str().filter(|text| !text.is_empty() && text.chars().count() <= max_chars);
    text.map(Some).ok_or_else(|| {
        ApiError::constraint(name, &value.to_string(), &format!("Member must be a text of 1 to {max_chars} characters"))
    })
}

fn whole_number(name: &str, value: &Value, range: std::ops::RangeInclusive<u32>) -> Result<u32, ApiError> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| range.contains(number));
    number.ok_or_else(|| {
        let bounds = format!("Member must be a whole number from {} to {}", range.start(), range.end());
        ApiError::constraint(name, &value.to_string(), &bounds)
    })
}
