//! Other resources than jobs and groups: `ListTagsForResource` and `SearchIndex`.

use serde_json::{Value, json};

use crate::jobs::{ExecutionStatus, Status, Timestamp};

use super::Call;
use super::executions_api::executions_on;
use super::fleet::Fleet;
use super::paging::Paging;
use super::protocol::{ApiError, Identifier, without_nulls};

/// How many tags a page has. The operation has no `maxResults`, and AWS does not document its page size.
pub const TAG_PAGE_SIZE: usize = 10;

pub(super) fn list_tags_for_resource(call: &Call<'_>, fleet: &Fleet) -> Result<Value, ApiError> {
    let arn = call.params.get("resourceArn").unwrap_or_default();
    let resource = arn.strip_prefix(&call.arn("")).and_then(|resource| resource.split_once('/'));
    let missing = || ApiError::not_found(format!("The resource {arn} does not exist"));
    let tags = match resource.ok_or_else(|| ApiError::constraint("resourceArn", arn, "Member must be an ARN"))? {
        ("job", id) => fleet.job(id).ok_or_else(missing)?.texts.tags.clone(),
        ("thinggroup", name) if fleet.group(name).is_some() => std::collections::BTreeMap::new(),
        _ => return Err(missing()),
    };
    let paging = Paging::of_size(call, TAG_PAGE_SIZE)?;
    let after = paging.after(|cursor| Some(cursor.to_owned()))?;
    let left = tags.iter().filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after));
    let page = paging.cut(left, |(key, _)| (*key).clone());
    let tags: Vec<Value> = page.items.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect();
    Ok(without_nulls(json!({ "tags": tags, "nextToken": page.next_token })))
}

/// Finds one thing by its name, and whether it is connected: the one query of a runbook. A thing with a queued job is
/// offline since the job was queued; all others are connected since their last report.
pub(super) fn search_index(call: &Call<'_>, fleet: &Fleet) -> Result<Value, ApiError> {
    let body = call.json_body()?;
    let query = body.get("queryString").and_then(Value::as_str).unwrap_or_default();
    let invalid = || {
        let message = format!("The query {query:?} is none of those that are simulated: thingName:NAME");
        ApiError::invalid_query(message)
    };
    let name = query.strip_prefix("thingName:").ok_or_else(invalid)?;
    let name = Identifier::THING_NAME.check("queryString", name).map_err(|_| invalid())?;
    let (mut is_known, mut queued, mut reported): (_, Option<Timestamp>, Option<Timestamp>) = (false, None, None);
    for job in fleet.jobs() {
        for execution in executions_on(job, name) {
            is_known = true;
            if execution.status == ExecutionStatus::Queued && job.status == Status::InProgress {
                queued = queued.max(Some(execution.queued_at));
            }
            if execution.started_at.is_some() {
                reported = reported.max(Some(execution.last_updated_at));
            }
        }
    }
    let timestamp = queued.or(reported).map(Timestamp::as_millis);
    let connectivity = without_nulls(json!({ "connected": queued.is_none(), "timestamp": timestamp }));
    let things: Vec<Value> =
        is_known.then(|| json!({ "thingName": name, "connectivity": connectivity })).into_iter().collect();
    Ok(json!({ "things": things }))
}
