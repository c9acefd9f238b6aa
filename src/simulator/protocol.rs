//! Reads requests and writes answers: routes, parameters, constraints, errors.
//!
//! AWS IoT uses rest-json: parameters in path and query, JSON answers, the error's name in `x-amzn-ErrorType`. STS
//! uses the query protocol: a form as request, XML as answer.

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::Response;
use crate::http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};

use super::json::uuid_of;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// A service, by its signing name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Iot,
    Sts,
}

impl Service {
    pub(super) fn signing_name(self) -> &'static str {
        match self {
            Self::Iot => "iot",
            Self::Sts => "sts",
        }
    }
}

/// An operation of the simulator, by its name in the service model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// `GET /jobs`
    ListJobs,
    /// `GET /jobs/{jobId}`
    DescribeJob,
    /// `GET /jobs/{jobId}/things`
    ListJobExecutionsForJob,
    /// `GET /things/{thingName}/jobs`
    ListJobExecutionsForThing,
    /// `GET /things/{thingName}/jobs/{jobId}`
    DescribeJobExecution,
    /// `PUT /things/{thingName}/jobs/{jobId}/cancel`
    CancelJobExecution,
    /// `PUT /jobs/{jobId}/cancel`
    CancelJob,
    /// `DELETE /jobs/{jobId}`
    DeleteJob,
    /// `PATCH /jobs/{jobId}`
    UpdateJob,
    /// `GET /jobs/{jobId}/job-document`
    GetJobDocument,
    /// `GET /tags`
    ListTagsForResource,
    /// `POST /indices/search`
    SearchIndex,
    /// `GET /thing-groups`
    ListThingGroups,
    /// `GET /thing-groups/{thingGroupName}`
    DescribeThingGroup,
    /// STS.
    GetCallerIdentity,
    /// STS.
    AssumeRole,
    /// STS; its requests are not signed.
    AssumeRoleWithWebIdentity,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 17] = [
        Self::ListJobs,
        Self::DescribeJob,
        Self::ListJobExecutionsForJob,
        Self::ListJobExecutionsForThing,
        Self::DescribeJobExecution,
        Self::CancelJobExecution,
        Self::CancelJob,
        Self::DeleteJob,
        Self::UpdateJob,
        Self::GetJobDocument,
        Self::ListTagsForResource,
        Self::SearchIndex,
        Self::ListThingGroups,
        Self::DescribeThingGroup,
        Self::GetCallerIdentity,
        Self::AssumeRole,
        Self::AssumeRoleWithWebIdentity,
    ];

    /// Its name in the service model.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ListJobs => "ListJobs",
            Self::DescribeJob => "DescribeJob",
            Self::ListJobExecutionsForJob => "ListJobExecutionsForJob",
            Self::ListJobExecutionsForThing => "ListJobExecutionsForThing",
            Self::DescribeJobExecution => "DescribeJobExecution",
            Self::CancelJobExecution => "CancelJobExecution",
            Self::CancelJob => "CancelJob",
            Self::DeleteJob => "DeleteJob",
            Self::UpdateJob => "UpdateJob",
            Self::GetJobDocument => "GetJobDocument",
            Self::ListTagsForResource => "ListTagsForResource",
            Self::SearchIndex => "SearchIndex",
            Self::ListThingGroups => "ListThingGroups",
            Self::DescribeThingGroup => "DescribeThingGroup",
            Self::GetCallerIdentity => "GetCallerIdentity",
            Self::AssumeRole => "AssumeRole",
            Self::AssumeRoleWithWebIdentity => "AssumeRoleWithWebIdentity",
        }
    }

    /// Whether it changes a job.
    pub(super) fn is_change(self) -> bool {
        matches!(self, Self::CancelJobExecution | Self::CancelJob | Self::DeleteJob | Self::UpdateJob)
    }

    pub(super) fn service(self) -> Service {
        match self {
            Self::GetCallerIdentity | Self::AssumeRole | Self::AssumeRoleWithWebIdentity => Service::Sts,
            _ => Service::Iot,
        }
    }
}

/// The decoded parameters of a request: the query for AWS IoT, the form for STS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    fn parse(encoded: &[u8]) -> Self {
        Self(form_urlencoded::parse(encoded).into_owned().collect())
    }

    /// The first value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// All parameters, in the order of the request.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A whole number within `range`.
    pub(super) fn number(&self, name: &str, range: std::ops::RangeInclusive<u32>) -> Result<Option<u32>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse::<i64>() {
            Err(_) => Err(ApiError::constraint(name, text, "Member must be an integer")),
            Ok(number) if number < i64::from(*range.start()) => {
                let bound = format!("Member must have value greater than or equal to {}", range.start());
                Err(ApiError::constraint(name, text, &bound))
            }
            Ok(number) => match u32::try_from(number) {
                Ok(number) if number <= *range.end() => Ok(Some(number)),
                _ => {
                    let bound = format!("Member must have value less than or equal to {}", range.end());
                    Err(ApiError::constraint(name, text, &bound))
                }
            },
        }
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(text) => Err(ApiError::constraint(name, text, "Member must be a boolean")),
        }
    }

    /// One of the `known` values of an enumeration.
    pub(super) fn one_of<'k, T>(
        &self,
        name: &str,
        known: &'k [T],
        text_of: impl Fn(&T) -> &str,
    ) -> Result<Option<&'k T>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let found = known.iter().find(|value| text_of(value) == text);
        found.map(Some).ok_or_else(|| {
            let set: Vec<&str> = known.iter().map(text_of).collect();
            ApiError::constraint(name, text, &format!("Member must satisfy enum value set: [{}]", set.join(", ")))
        })
    }

    /// A valid identifier.
    pub(super) fn identifier(&self, name: &str, form: &Identifier) -> Result<Option<&str>, ApiError> {
        self.get(name).map(|text| form.check(name, text)).transpose()
    }
}

/// The syntax of an identifier: ASCII letters, digits, and some marks.
pub(super) struct Identifier {
    marks: &'static [u8],
    pattern: &'static str,
    max_length: usize,
}

impl Identifier {
    pub(super) const JOB_ID: Self = Self { marks: b"_-", pattern: "[a-zA-Z0-9_-]+", max_length: 64 };
    /// The model has no length for it; this is that of a job id.
    pub(super) const NAMESPACE_ID: Self = Self { marks: b"_-", pattern: "[a-zA-Z0-9_-]+", max_length: 64 };
    pub(super) const THING_GROUP_NAME: Self = Self { marks: b":_-", pattern: "[a-zA-Z0-9:_-]+", max_length: 128 };
    pub(super) const THING_GROUP_ID: Self = Self { marks: b"-", pattern: "[a-zA-Z0-9\\-]+", max_length: 128 };
    pub(super) const THING_NAME: Self = Self { marks: b":_-", pattern: "[a-zA-Z0-9:_-]+", max_length: 128 };
    pub(super) const DETAILS_KEY: Self = Self { marks: b":_-", pattern: "[a-zA-Z0-9:_-]+", max_length: 128 };
    pub(super) const ROLE_SESSION_NAME: Self = Self { marks: b"_=,.@+-", pattern: "[\\w+=,.@-]*", max_length: 64 };

    pub(super) fn check<'t>(&self, name: &str, text: &'t str) -> Result<&'t str, ApiError> {
        if text.is_empty() {
            return Err(ApiError::constraint(name, text, "Member must have length greater than or equal to 1"));
        }
        if text.len() > self.max_length {
            let bound = format!("Member must have length less than or equal to {}", self.max_length);
            return Err(ApiError::constraint(name, text, &bound));
        }
        if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || self.marks.contains(&byte)) {
            Ok(text)
        } else {
            let pattern = format!("Member must satisfy regular expression pattern: {}", self.pattern);
            Err(ApiError::constraint(name, text, &pattern))
        }
    }
}

/// The operation and the parameters of a request.
pub(super) struct Route {
    pub(super) operation: Operation,
    pub(super) resource: Option<String>,
    pub(super) thing: Option<String>,
    pub(super) params: Params,
}

impl Route {
    /// Reads method, path and parameters. For an unknown operation, returns the error and the service to answer for.
    pub(super) fn of(request: &Request) -> Result<Self, (Service, ApiError)> {
        let path = request.uri().path();
        if *request.method() == Method::POST && path == "/" {
            return Self::of_form(Params::parse(request.body())).map_err(|error| (Service::Sts, error));
        }
        let decoded = path.trim_start_matches('/').split('/').map(|part| percent_decode_str(part).decode_utf8_lossy());
        let segments: Vec<_> = decoded.collect();
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        let (operation, resource, thing) = match (request.method(), segments.as_slice()) {
            (&Method::GET, ["jobs"]) => (Operation::ListJobs, None, None),
            (&Method::GET, ["jobs", id]) => (Operation::DescribeJob, Some(*id), None),
            (&Method::DELETE, ["jobs", id]) => (Operation::DeleteJob, Some(*id), None),
            (&Method::PATCH, ["jobs", id]) => (Operation::UpdateJob, Some(*id), None),
            (&Method::PUT, ["jobs", id, "cancel"]) => (Operation::CancelJob, Some(*id), None),
            (&Method::GET, ["jobs", id, "job-document"]) => (Operation::GetJobDocument, Some(*id), None),
            (&Method::GET, ["jobs", id, "things"]) => (Operation::ListJobExecutionsForJob, Some(*id), None),
            (&Method::GET, ["things", name, "jobs"]) => (Operation::ListJobExecutionsForThing, None, Some(*name)),
            (&Method::GET, ["things", name, "jobs", id]) => (Operation::DescribeJobExecution, Some(*id), Some(*name)),
            (&Method::PUT, ["things", name, "jobs", id, "cancel"]) => {
                (Operation::CancelJobExecution, Some(*id), Some(*name))
            }
            (&Method::GET, ["tags"]) => (Operation::ListTagsForResource, None, None),
            (&Method::POST, ["indices", "search"]) => (Operation::SearchIndex, None, None),
            (&Method::GET, ["thing-groups"]) => (Operation::ListThingGroups, None, None),
            (&Method::GET, ["thing-groups", name]) => (Operation::DescribeThingGroup, Some(*name), None),
            _ => return Err((Service::Iot, ApiError::unknown_operation())),
        };
        let params = Params::parse(request.uri().query().unwrap_or_default().as_bytes());
        Ok(Self { operation, resource: resource.map(str::to_owned), thing: thing.map(str::to_owned), params })
    }

    fn of_form(params: Params) -> Result<Self, ApiError> {
        let operation = match params.get("Action") {
            Some("GetCallerIdentity") => Operation::GetCallerIdentity,
            Some("AssumeRole") => Operation::AssumeRole,
            Some("AssumeRoleWithWebIdentity") => Operation::AssumeRoleWithWebIdentity,
            other => {
                let message = format!("Could not find operation {} for version 2011-06-15", other.unwrap_or_default());
                return Err(ApiError::new(StatusCode::BAD_REQUEST, "InvalidAction", message));
            }
        };
        Ok(Self { operation, resource: None, thing: None, params })
    }
}

/// An error, independent of the protocol of its service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidRequestException", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "ResourceNotFoundException", message)
    }

    pub(super) fn invalid_state_transition(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "InvalidStateTransitionException", message)
    }

    pub(super) fn version_conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "VersionConflictException", message)
    }

    pub(super) fn limit_exceeded(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "LimitExceededException", message)
    }

    pub(super) fn invalid_query(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidQueryException", message)
    }

    pub(super) fn unknown_operation() -> Self {
        Self::new(StatusCode::NOT_FOUND, "UnknownOperationException", "no operation has this method and path")
    }

    /// A parameter that violates the model, in the words of AWS.
    pub(super) fn constraint(name: &str, value: &str, constraint: &str) -> Self {
        Self::invalid_request(format!(
            "1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: {constraint}"
        ))
    }

    pub(super) fn into_response(self, service: Service) -> Response {
        match service {
            Service::Iot => error(self.status, self.code, &self.message),
            Service::Sts => {
                // The services share the validation, but not the name of its error.
                let code = if self.code == "InvalidRequestException" { "ValidationError" } else { self.code };
                sts_error(self.status, code, &self.message)
            }
        }
    }
}

/// A successful answer of AWS IoT.
#[must_use]
pub fn json(body: &Value) -> Response {
    response(StatusCode::OK, "application/json", body.to_string())
}

/// Removes fields that are `null`: AWS omits fields without a value.
pub(super) fn without_nulls(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|_, field| !field.is_null());
    }
    object
}

/// An error of AWS IoT, for example `error(StatusCode::TOO_MANY_REQUESTS, "ThrottlingException", "Rate exceeded")`. A
/// `code` that is no valid header value is omitted from the header.
#[must_use]
pub fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let mut response = response(status, "application/json", json!({ "message": message }).to_string());
    if let Ok(code) = HeaderValue::from_str(code) {
        response.headers_mut().insert(ERROR_TYPE, code);
    }
    response
}

/// An error of STS, for example `sts_error(StatusCode::FORBIDDEN, "AccessDenied", "…")`.
#[must_use]
pub fn sts_error(status: StatusCode, code: &str, message: &str) -> Response {
    let kind = if status.is_server_error() { "Receiver" } else { "Sender" };
    let body = format!(
        "<ErrorResponse xmlns=\"{STS_NAMESPACE}\"><Error><Type>{kind}</Type><Code>{}</Code><Message>{}</Message></Error>\
         </ErrorResponse>",
        escape_xml(code),
        escape_xml(message),
    );
    response(status, "text/xml", body)
}

/// An answer of STS: the result of `action`, with `fields` as escaped XML.
pub(super) fn sts_result(action: &str, fields: &str) -> Response {
    let body = format!(
        "<{action}Response xmlns=\"{STS_NAMESPACE}\"><{action}Result>{fields}</{action}Result></{action}Response>"
    );
    response(StatusCode::OK, "text/xml", body)
}

const STS_NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// One element of an XML answer.
pub(super) fn xml(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escape_xml(text))
}

fn escape_xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Adds a unique request id. The id of an interceptor stays.
pub(super) fn with_request_id(mut response: Response, serial: u64) -> Response {
    if let Ok(id) = HeaderValue::from_str(&uuid_of(&("request", serial))) {
        response.headers_mut().entry(REQUEST_ID).or_insert(id);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_of_their_range_are_refused() {
        let number = |text: &str| Params::parse(format!("n={text}").as_bytes()).number("n", 1..=250);
        assert_eq!(number("1"), Ok(Some(1)));
        assert_eq!(number("250"), Ok(Some(250)));
        for text in ["0", "251", "-1", "99999999999", "99999999999999999999", "", "ten", "1.5"] {
            assert!(number(text).is_err_and(|error| error.code == "InvalidRequestException"), "{text:?}");
        }
        assert_eq!(Params::default().number("n", 1..=250), Ok(None));
    }

    #[test]
    fn xml_is_escaped() {
        assert_eq!(xml("a", "<b>&amp;"), "<a>&lt;b&gt;&amp;amp;</a>");
    }
}
