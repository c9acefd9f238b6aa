//! Applies a fault to the right answer.

use std::time::Duration;

use serde_json::{Map, Value};

use super::super::Response;
use crate::http::{HeaderValue, StatusCode, header};
use crate::jobs::{Status, Timestamp};
use crate::simulator::credentials::{expired, unknown_key};
use crate::simulator::json::{basic_iso_8601, epoch_seconds, from_basic_iso_8601, http_date};
use crate::simulator::paging::{AGAIN, scope_of};
use crate::simulator::protocol::{ApiError, REQUEST_ID, Service};
use crate::simulator::{Body, Call, FaultAction, Operation};

use super::fault::Fault;
use super::walks::Walks;

/// How long [`Fault::Refused`] refuses connections: less than most retry delays of the SDKs.
pub const REFUSAL: Duration = Duration::from_millis(20);

/// The default delay of [`Fault::Slow`]: longer than most timeouts of an attempt.
pub const SLOWNESS: Duration = Duration::from_secs(9);

/// The size of an answer by [`Fault::Oversized`], in bytes.
pub const OVERSIZE: u64 = 64 << 20;

/// How far the server's clock is ahead in [`Fault::ClockSkew`].
pub const CLOCK_SKEW: Duration = Duration::from_hours(1);

/// The largest accepted difference between a request's date and the server's clock ("Troubleshooting Signature Version
/// 4" in the IAM guide).
const TOLERATED_SKEW: Duration = Duration::from_mins(5);

/// A status that AWS does not have.
const UNKNOWN_STATUS: &str = "PAUSED";

const LOGIN_PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head>\
    <body><h1>Sign in to use this network</h1><form method=\"post\"><input name=\"user\"></form></body></html>\n";

/// The right answer to a call.
pub(super) struct Answer<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) response: Response,
    /// The number of its page. `None` for an unknown walk.
    pub(super) page: Option<u64>,
    /// Whether no page follows.
    pub(super) is_last: bool,
    /// The JSON object, for a successful answer of AWS IoT.
    body: Option<Value>,
    scope: u64,
}

/// The result of applying a fault.
pub(super) enum Outcome {
    /// Another action instead of the answer.
    Action(FaultAction),
    /// The same answer with another body.
    Body(Value),
}

impl<'a> Answer<'a> {
    pub(super) fn new(call: &'a Call<'a>, response: Response, walks: &Walks) -> Self {
        let is_good = response.status() == StatusCode::OK;
        let is_json = is_good && call.operation.service() == Service::Iot;
        let body = is_json.then(|| serde_json::from_slice(response.body()).ok()).flatten().filter(Value::is_object);
        let has_next = body.as_ref().is_some_and(|body| next_token(body).is_some());
        let scope = scope_of(call);
        let page = walks.page(scope, call.params.get("nextToken"));
        Self { call, response, page, is_last: is_good && !has_next, body, scope }
    }

    /// Records this page in the walks.
    pub(super) fn note(&self, walks: &mut Walks) {
        if let (Some(list), Some(body), Some(page)) = (self.list(), &self.body, self.page) {
            walks.page_is_cut(self.scope, page, next_token(body), body[list].get(0));
        }
    }

    /// Records the token that the client gets.
    pub(super) fn note_altered(&self, body: &Value, walks: &mut Walks) {
        if let (Some(token), Some(page)) = (next_token(body), self.page) {
            walks.token_is_given(self.scope, page, token);
        }
    }

    /// The name of its list, for operations with pages.
    fn list(&self) -> Option<&'static str> {
        Shape::of(self.call.operation).list
    }

    /// The token in the request.
    fn token(&self) -> Option<&str> {
        self.list().and_then(|_| self.call.params.get("nextToken"))
    }
}

fn next_token(body: &Value) -> Option<&str> {
    body["nextToken"].as_str()
}

impl Fault {
    /// Applies this fault to an answer; `None` if it does not fit the answer.
    pub(super) fn apply(self, answer: &Answer<'_>, walks: &Walks) -> Option<Outcome> {
        if let Some(action) = self.replace(answer) {
            return Some(Outcome::Action(action));
        }
        let original = answer.body.as_ref()?;
        let mut body = original.clone();
        self.alter(answer, walks, &mut body);
        (body != *original).then_some(Outcome::Body(body))
    }

    /// What happens instead of the answer; `None` for faults that alter the body.
    fn replace(self, answer: &Answer<'_>) -> Option<FaultAction> {
        let refuse = |status, iot: &'static str, sts: &'static str, message: &str| {
            let code = by_service(answer.call, iot, sts);
            Some(refusal(answer, ApiError::new(status, code, message)).into())
        };
        let service = answer.call.operation.service();
        let broken = |body: fn(bytes::Bytes, usize) -> Body| {
            let half = answer.response.body().len() / 2;
            Some(FaultAction::Response(answer.response.clone().map(|data| body(data, half))))
        };
        match self {
            Self::Throttle400 => refuse(StatusCode::BAD_REQUEST, "ThrottlingException", "Throttling", "Rate exceeded"),
            Self::Throttle429 => {
                refuse(StatusCode::TOO_MANY_REQUESTS, "ThrottlingException", "Throttling", "Rate exceeded")
            }
            Self::Error500 => refuse(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalFailureException",
                "InternalFailure",
                "An unexpected error has occurred.",
            ),
            Self::Error503 => refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailableException",
                "ServiceUnavailable",
                "The service is temporarily unavailable.",
            ),
            Self::Denied => {
                refuse(StatusCode::FORBIDDEN, "AccessDeniedException", "AccessDenied", &denial(answer.call))
            }
            Self::ExpiredCredentials => Some(refusal(answer, expired(service)).into()),
            Self::InvalidCredentials => Some(refusal(answer, unknown_key(service)).into()),
            Self::ClockSkew => Some(skewed_answer(answer).into()),
            Self::Reset => Some(FaultAction::Reset),
            Self::Refused => Some(FaultAction::Refuse(REFUSAL)),
            Self::Hang => Some(FaultAction::Hang),
            Self::Slow => Some(answer.response.clone().into()),
            Self::HangInBody => broken(Body::stalled),
            Self::Truncated => broken(Body::truncated),
            Self::Oversized => broken(|data, _| Body::padded(data, OVERSIZE)),
            Self::WrongJson => broken(|data, half| Body::whole(data.slice(..half))),
            Self::Html => Some(login_page().into()),
            Self::ExpiredToken => {
                answer.token()?;
                Some(refusal(answer, ApiError::invalid_request("The nextToken has expired")).into())
            }
            Self::WrongTypes
            | Self::RepeatedToken
            | Self::TokenCycle
            | Self::EmptyPage
            | Self::EmptyToken
            | Self::MissingJobs
            | Self::DuplicateJob
            | Self::MovedJob
            | Self::UnknownStatus
            | Self::MissingFields
            | Self::NullFields => None,
        }
    }

    /// Alters the body. Leaves it unchanged if this fault does not fit the answer.
    fn alter(self, answer: &Answer<'_>, walks: &Walks, body: &mut Value) {
        match self {
            Self::WrongTypes => retype(body),
            Self::MissingFields => each_loses_one(answer, body, |fields, name| {
                fields.remove(name);
            }),
            Self::NullFields => each_loses_one(answer, body, |fields, name| {
                fields.insert(name.to_owned(), Value::Null);
            }),
            Self::UnknownStatus => {
                let pointer = Shape::of(answer.call.operation).status;
                if let Some(status) = pointer.and_then(|pointer| body.pointer_mut(pointer)) {
                    *status = UNKNOWN_STATUS.into();
                }
            }
            Self::DuplicateJob => {
                if let Some(jobs) = jobs(answer, body)
                    && let Some(last) = jobs.last().cloned()
                {
                    jobs.push(last);
                }
            }
            Self::MovedJob => {
                if let Some(jobs) = jobs(answer, body)
                    && let Some(job) = moved_job(answer, walks, jobs)
                {
                    jobs.push(job);
                }
            }
            Self::RepeatedToken => {
                if let Some(token) = answer.token() {
                    body["nextToken"] = token.into();
                }
            }
            Self::TokenCycle => {
                if answer.list().is_some()
                    && answer.page.is_some_and(|page| page > 2)
                    && let Some(token) = walks.to_second_page(answer.scope)
                {
                    body["nextToken"] = token.into();
                }
            }
            Self::EmptyPage => {
                if let Some(list) = answer.list() {
                    body[list] = Value::Array(Vec::new());
                    body["nextToken"] = format!("{AGAIN}{}", answer.token().unwrap_or_default()).into();
                }
            }
            Self::EmptyToken => {
                if answer.list().is_some() && answer.is_last {
                    body["nextToken"] = "".into();
                }
            }
            Self::MissingJobs => {
                if let (Some(list), Some(fields)) = (answer.list(), body.as_object_mut()) {
                    fields.remove(list);
                }
            }
            // These replace the whole answer.
            Self::Throttle400
            | Self::Throttle429
            | Self::Error500
            | Self::Error503
            | Self::Denied
            | Self::ExpiredCredentials
            | Self::InvalidCredentials
            | Self::ClockSkew
            | Self::Reset
            | Self::Refused
            | Self::Hang
            | Self::Slow
            | Self::HangInBody
            | Self::Truncated
            | Self::Oversized
            | Self::Html
            | Self::WrongJson
            | Self::ExpiredToken => {}
        }
    }
}

/// Where the answers of an operation have what faults alter.
#[derive(Clone, Copy, Default)]
struct Shape {
    /// The name of its list, for operations with pages.
    list: Option<&'static str>,
    /// The name of the one item that it describes.
    item: Option<&'static str>,
    /// The status of the first or only item, as a JSON pointer.
    status: Option<&'static str>,
}

impl Shape {
    fn of(operation: Operation) -> Self {
        let list = |name, status| Self { list: Some(name), status, ..Self::default() };
        let item = |name, status| Self { item: Some(name), status: Some(status), ..Self::default() };
        match operation {
            Operation::ListJobs => list("jobs", Some("/jobs/0/status")),
            Operation::ListJobExecutionsForJob | Operation::ListJobExecutionsForThing => {
                list("executionSummaries", Some("/executionSummaries/0/jobExecutionSummary/status"))
            }
            Operation::ListTagsForResource => list("tags", None),
            Operation::ListThingGroups => list("thingGroups", None),
            Operation::DescribeJob => item("job", "/job/status"),
            Operation::DescribeJobExecution => item("execution", "/execution/status"),
            Operation::CancelJobExecution
            | Operation::CancelJob
            | Operation::DeleteJob
            | Operation::UpdateJob
            | Operation::GetJobDocument
            | Operation::SearchIndex
            | Operation::DescribeThingGroup
            | Operation::GetCallerIdentity
            | Operation::AssumeRole
            | Operation::AssumeRoleWithWebIdentity => Self::default(),
        }
    }
}

fn by_service(call: &Call<'_>, iot: &'static str, sts: &'static str) -> &'static str {
    match call.operation.service() {
        Service::Iot => iot,
        Service::Sts => sts,
    }
}

/// An error instead of an answer, with the same request id.
fn refusal(answer: &Answer<'_>, error: ApiError) -> Response {
    let mut response = error.into_response(answer.call.operation.service());
    if let Some(id) = answer.response.headers().get(REQUEST_ID) {
        response.headers_mut().insert(REQUEST_ID, id.clone());
    }
    response
}

fn denial(call: &Call<'_>) -> String {
    let action = format!("{}:{}", call.operation.service().signing_name(), call.operation.as_str());
    format!(
        "User: {} is not authorized to perform: {action} because no identity-based policy allows the {action} action",
        call.principal.arn
    )
}

/// The answer of a server whose clock is ahead by [`CLOCK_SKEW`].
fn skewed_answer(answer: &Answer<'_>) -> Response {
    let clock = answer.call.now.after(CLOCK_SKEW);
    let signed = answer.call.headers.get("x-amz-date").and_then(|date| date.to_str().ok()).unwrap_or_default();
    let mut response = match signature_error(signed, clock) {
        None => answer.response.clone(),
        Some(message) => {
            let code = by_service(answer.call, "InvalidSignatureException", "SignatureDoesNotMatch");
            refusal(answer, ApiError::new(StatusCode::FORBIDDEN, code, message))
        }
    };
    if let Ok(date) = HeaderValue::from_str(&http_date(clock)) {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

/// The error message for a request whose date is too far from the server's clock.
fn signature_error(signed: &str, clock: Timestamp) -> Option<String> {
    let time = from_basic_iso_8601(signed);
    let (earliest, latest) = (clock.before(TOLERATED_SKEW), clock.after(TOLERATED_SKEW));
    let (earliest_text, latest_text, clock) = (basic_iso_8601(earliest), basic_iso_8601(latest), basic_iso_8601(clock));
    match time {
        Some(time) if time > latest => {
            Some(format!("Signature not yet current: {signed} is still later than {latest_text} ({clock} + 5 min.)"))
        }
        Some(time) if time >= earliest => None,
        Some(_) | None => {
            Some(format!("Signature expired: {signed} is now earlier than {earliest_text} ({clock} - 5 min.)"))
        }
    }
}

fn login_page() -> Response {
    let mut response = Response::new(LOGIN_PAGE.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

/// Texts become numbers, numbers and booleans become texts; arrays and objects stay.
fn retype(value: &mut Value) {
    match value {
        Value::String(text) => *value = text.len().into(),
        Value::Number(_) | Value::Bool(_) => *value = value.to_string().into(),
        Value::Array(items) => items.iter_mut().for_each(retype),
        Value::Object(fields) => fields.values_mut().for_each(retype),
        Value::Null => {}
    }
}

/// The first item of a page loses its first field, the second one its second, and so on; a description loses all of
/// them.
fn each_loses_one(answer: &Answer<'_>, body: &mut Value, lose: impl Fn(&mut Map<String, Value>, &str)) {
    let names_of = |fields: &Map<String, Value>| fields.keys().cloned().collect::<Vec<_>>();
    if let Some(list) = answer.list() {
        let items = body.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (n, fields) in items.filter_map(Value::as_object_mut).enumerate() {
            let names = names_of(fields);
            if let Some(name) = names.get(n % names.len().max(1)) {
                lose(fields, name);
            }
        }
        return;
    }
    let description = match Shape::of(answer.call.operation).item {
        Some(item) => body.get_mut(item),
        None => Some(body),
    };
    if let Some(fields) = description.and_then(Value::as_object_mut) {
        for name in names_of(fields) {
            lose(fields, &name);
        }
    }
}

fn jobs<'b>(answer: &Answer<'_>, body: &'b mut Value) -> Option<&'b mut Vec<Value>> {
    (answer.call.operation == Operation::ListJobs).then(|| body.get_mut("jobs")?.as_array_mut()).flatten()
}

/// The first job of a walk, moved to a later page that does not have it.
fn moved_job(answer: &Answer<'_>, walks: &Walks, jobs: &[Value]) -> Option<Value> {
    if answer.page.is_none_or(|page| page == 1) || answer.call.params.get("status").is_some() {
        return None;
    }
    let mut job = walks.first_item(answer.scope).filter(|job| job.is_object())?.clone();
    if jobs.iter().any(|other| other["jobId"] == job["jobId"]) {
        return None;
    }
    let now = epoch_seconds(answer.call.now);
    if job["status"] == Status::Completed.as_str() {
        job["status"] = Status::DeletionInProgress.as_str().into();
    } else {
        job["status"] = Status::Completed.as_str().into();
        job["completedAt"] = now.clone();
    }
    job["lastUpdatedAt"] = now;
    Some(job)
}
