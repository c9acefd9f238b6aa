//! Finds the field of an answer that has a wrong type. The SDK reports only that there is one.

use serde_json::Value;

/// The JSON types of fields, by name. A name has the same type everywhere. Source: the service model `iot/2015-05-28`.
const FIELDS: &[(JsonType, &[&str])] = &[
    (
        JsonType::Number,
        &[
            "createdAt",
            "lastUpdatedAt",
            "completedAt",
            "queuedAt",
            "startedAt",
            "executionNumber",
            "retryAttempt",
            "numberOfCanceledThings",
            "numberOfSucceededThings",
            "numberOfFailedThings",
            "numberOfRejectedThings",
            "numberOfQueuedThings",
            "numberOfInProgressThings",
            "numberOfRemovedThings",
            "numberOfTimedOutThings",
        ],
    ),
    (
        JsonType::String,
        &[
            "jobId",
            "jobArn",
            "thingArn",
            "thingGroupId",
            "namespaceId",
            "status",
            "targetSelection",
            "nextToken",
            "startTime",
            "endTime",
        ],
    ),
    (JsonType::Boolean, &["isConcurrent", "forceCanceled"]),
    (JsonType::Array, &["jobs", "targets", "maintenanceWindows", "executionSummaries"]),
    (JsonType::Object, &["job", "jobProcessDetails", "schedulingConfig", "jobExecutionSummary"]),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JsonType {
    Number,
    String,
    Boolean,
    Array,
    Object,
    Null,
}

impl JsonType {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Boolean,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::String,
            Value::Array(_) => Self::Array,
            Value::Object(_) => Self::Object,
        }
    }

    const fn named(self) -> &'static str {
        match self {
            Self::Number => "a number",
            Self::String => "a string",
            Self::Boolean => "a boolean",
            Self::Array => "a list",
            Self::Object => "an object",
            Self::Null => "null",
        }
    }
}

/// The fault of an answer's body; `None` if none is found.
pub(super) fn of(body: &[u8]) -> Option<String> {
    match serde_json::from_slice(body) {
        Ok(value) => wrong_type(&value, "", None),
        Err(error) => Some(format!("the answer is not JSON: {error}")),
    }
}

/// The first value of a wrong type in `value`, which is at `path` in the job `job_id`.
fn wrong_type(value: &Value, path: &str, job_id: Option<&str>) -> Option<String> {
    match value {
        Value::Object(fields) => {
            let job_id = fields.get("jobId").and_then(Value::as_str).or(job_id);
            fields.iter().find_map(|(name, value)| {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                wrong_field(name, value, &path, job_id).or_else(|| wrong_type(value, &path, job_id))
            })
        }
        Value::Array(items) => items.iter().enumerate().find_map(|(index, item)| {
            let path = format!("{path}[{index}]");
            let is_scalar = JsonType::of(item) != JsonType::Object;
            let fault = (path.starts_with("jobs[") && is_scalar).then(|| said(&path, item, JsonType::Object, job_id));
            fault.or_else(|| wrong_type(item, &path, job_id))
        }),
        _ => None,
    }
}

fn wrong_field(name: &str, value: &Value, path: &str, job_id: Option<&str>) -> Option<String> {
    let expected = FIELDS.iter().find(|(_, names)| names.contains(&name)).map(|(kind, _)| *kind)?;
    let found = JsonType::of(value);
    (found != expected && found != JsonType::Null).then(|| said(path, value, expected, job_id))
}

fn said(path: &str, value: &Value, expected: JsonType, job_id: Option<&str>) -> String {
    let job = job_id.map(|job_id| format!(" (job {job_id:?})")).unwrap_or_default();
    format!("{path} is {}, not {}{job}", JsonType::of(value).named(), expected.named())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(body: &str) -> Option<String> {
        of(body.as_bytes())
    }

    #[test]
    fn a_value_of_a_wrong_type_is_named_with_field_and_job() {
        for (body, expected) in [
            (
                r#"{"jobs": [{"jobId": "a", "createdAt": 1.5}, {"createdAt": "2020-11-03T22:50:53.741+02:00", "jobId": "b"}]}"#,
                r#"jobs[1].createdAt is a string, not a number (job "b")"#,
            ),
            (r#"{"jobs": {}}"#, "jobs is an object, not a list"),
            (r#"{"jobs": [1]}"#, "jobs[0] is a number, not an object"),
            (r#"{"jobs": [{"jobId": 7}]}"#, "jobs[0].jobId is a number, not a string"),
            (
                r#"{"job": {"jobId": "a", "jobProcessDetails": {"numberOfFailedThings": "3"}}}"#,
                r#"job.jobProcessDetails.numberOfFailedThings is a string, not a number (job "a")"#,
            ),
            (
                r#"{"executionSummaries": [{"thingArn": false}]}"#,
                "executionSummaries[0].thingArn is a boolean, not a string",
            ),
        ] {
            assert_eq!(fault(body).as_deref(), Some(expected));
        }
    }

    #[test]
    fn an_answer_that_is_not_json_says_where() {
        assert_eq!(fault("<html>").as_deref(), Some("the answer is not JSON: expected value at line 1 column 1"));
    }

    #[test]
    fn an_answer_with_right_types_has_no_fault() {
        assert_eq!(fault(r#"{"jobs": [{"jobId": null, "new": {"status": "x"}}], "nextToken": "t"}"#), None);
    }
}
