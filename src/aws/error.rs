//! Errors of AWS calls, each with one reason and a message of one line.

use std::error::Error;
use std::fmt;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_iot::config::http::HttpResponse;
use aws_sdk_iot::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use aws_smithy_types::retry::ErrorKind;

use super::credentials::SourceError;
use super::{diagnosis, http_client};
use crate::metrics::{Failure, Reason};

/// Why a target cannot be connected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No region is configured anywhere.
    #[error(
        "{}: no AWS region: set targets[].region or AWS_REGION, or name a region in the AWS profile{}",
        named(target.as_ref()),
        faults.iter().fold(String::new(), |text, fault| text + "; " + fault)
    )]
    NoRegion {
        /// The target's name, if it has one.
        target: Option<String>,
        /// Faults of the AWS configuration files, or of the selected profile.
        faults: Vec<String>,
    },
    /// The configured region is invalid.
    #[error("{}: {region:?} is not an AWS region; regions have lower-case letters, digits and hyphens, such as eu-west-1", named(target.as_ref()))]
    InvalidRegion {
        /// The target's name, if it has one.
        target: Option<String>,
        /// The value.
        region: String,
    },
    /// The endpoint in the AWS settings is invalid. The message omits it: it can contain a password.
    #[error("{}: {found_in} is not a valid endpoint; use http:// or https:// and a host, without a user name", named(target.as_ref()))]
    InvalidEndpoint {
        /// The target's name, if it has one.
        target: Option<String>,
        /// The setting.
        found_in: &'static str,
    },
    /// The CA bundle of the environment or of the profile has no certificate.
    #[error("{}: AWS_CA_BUNDLE, or ca_bundle in the AWS profile: {reason}", named(target.as_ref()))]
    NoTrust {
        /// The target's name, if it has one.
        target: Option<String>,
        /// The file and its fault.
        reason: String,
    },
}

fn named(target: Option<&String>) -> String {
    target.map_or_else(|| "the default target".to_owned(), |name| format!("target {name:?}"))
}

/// A call that failed with all its attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The operation, by its AWS name.
    pub operation: &'static str,
    /// `on` and the host of the request with its port, if its URL names one, or `in` and the region if no request was sent.
    pub location: String,
    /// The kind of failure.
    pub reason: Reason,
    /// AWS's error code, or one of the exporter; `None` if no request was sent.
    pub code: Option<String>,
    /// The causes, outermost first, on one line.
    pub cause: String,
    /// AWS's time, if AWS refused a signature.
    pub(super) server_time: Option<SystemTime>,
}

impl Error for ApiError {}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.operation, self.location, self.cause)
    }
}

impl ApiError {
    /// An answer that could be parsed, but lacks required content.
    pub(super) fn malformed(operation: &'static str, location: &str, cause: String) -> Self {
        Self::new(operation, location, (Reason::Malformed, Some(MALFORMED.to_owned()), cause))
    }

    /// Valid answers that cannot be used.
    pub(super) fn unusable(operation: &'static str, location: &str, reason: Reason, cause: String) -> Self {
        Self::new(operation, location, (reason, None, cause))
    }

    /// An attempt that took too long.
    pub(super) fn timeout(operation: &'static str, location: &str, limit: Duration) -> Self {
        let cause = format!("no complete answer within {} s", limit.as_secs());
        Self::new(operation, location, (Reason::Timeout, Some(TIMEOUT.to_owned()), cause))
    }

    /// A request without credentials.
    pub(super) fn without_credentials(operation: &'static str, region: &str, error: &CredentialsError) -> Self {
        let (reason, cause) = of_credentials(error).unwrap_or_else(|| (Reason::Credentials, chain(error)));
        Self { operation, location: format!("in {region}"), reason, code: None, cause, server_time: None }
    }

    /// Appends a hint.
    pub(super) fn hinting(self, hint: &str) -> Self {
        Self { cause: format!("{}; {hint}", self.cause), ..self }
    }

    /// Classifies and shortens an error of the SDK.
    pub(super) fn from_sdk<E>(operation: &'static str, location: &str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let error_time = error.raw_response().and_then(server_time);
        let error = Self::new(operation, location, classify(error));
        Self { server_time: error_time.filter(|_| error.reason == Reason::Credentials), ..error }
    }

    fn new(operation: &'static str, location: &str, (reason, code, cause): Classified) -> Self {
        Self { operation, location: location.to_owned(), reason, code, cause, server_time: None }
    }

    /// Whether the same request may succeed if it is repeated.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self.reason, Reason::Throttled | Reason::Timeout | Reason::Network | Reason::Unavailable)
    }
}

/// The server's time in an answer.
pub(super) fn server_time(answer: &HttpResponse) -> Option<SystemTime> {
    let date = answer.headers().get("date")?;
    DateTime::from_str(date, Format::HttpDate).ok()?.try_into().ok()
}

/// The exporter's own codes, for attempts without a code of AWS.
pub(super) const MALFORMED: &str = "malformed";
const NETWORK: &str = "network";
const TIMEOUT: &str = "timeout";

/// The kind of failure, the code (`None` if nothing was sent), and the causes in one line.
pub(super) type Classified = (Reason, Option<String>, String);

pub(super) fn classify<E>(error: &SdkError<E, HttpResponse>) -> Classified
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let own = |reason, code: &str| (reason, Some(code.to_owned()), chain(error));
    match error {
        SdkError::ServiceError(answer) => {
            let (status, aws_code) = (answer.raw().status().as_u16(), answer.err().code());
            let reason = answered(status, aws_code);
            let unreadable = (reason == Reason::Malformed).then(|| unreadable(answer.raw())).flatten();
            let cause = unreadable.unwrap_or_else(|| described(status, aws_code, answer.err().message(), answer.err()));
            (reason, Some(code(status, aws_code)), cause)
        }
        SdkError::ResponseError(answer) => {
            let cause = unreadable(answer.raw()).unwrap_or_else(|| chain(error));
            (Reason::Malformed, Some(MALFORMED.to_owned()), cause)
        }
        SdkError::TimeoutError(_) => own(Reason::Timeout, TIMEOUT),
        SdkError::DispatchFailure(failure) => {
            let transient = matches!(failure.as_other(), Some(ErrorKind::TransientError));
            if let Some((reason, cause)) = of_credentials(error) {
                (reason, None, cause)
            } else if has_cause::<http_client::TooLarge>(error) {
                own(Reason::Malformed, MALFORMED)
            } else if failure.is_timeout() {
                own(Reason::Timeout, TIMEOUT)
            } else if failure.is_io() || transient || has_cause::<std::io::Error>(error) {
                own(Reason::Network, NETWORK)
            } else {
                // An endpoint or a signature that could not be made, or an answer that is not HTTP.
                own(Reason::Configuration, NETWORK)
            }
        }
        _ => {
            let (reason, cause) = of_credentials(error).unwrap_or_else(|| (Reason::Configuration, chain(error)));
            (reason, None, cause)
        }
    }
}

/// The fault of an answer that the SDK could not parse.
fn unreadable(answer: &HttpResponse) -> Option<String> {
    answer.body().bytes().and_then(diagnosis::of).map(|fault| one_line(&fault))
}

/// The reason and the message, if an error is about missing credentials.
pub(super) fn of_credentials(error: &(dyn Error + 'static)) -> Option<(Reason, String)> {
    if let Some(SourceError { reason, message }) = causes(error).find_map(|cause| cause.downcast_ref()) {
        return Some((*reason, one_line(message)));
    }
    let of_credentials = causes(error).find_map(|cause| cause.downcast_ref::<CredentialsError>())?;
    let reason = match of_credentials {
        CredentialsError::ProviderTimedOut(_) => Reason::Timeout,
        _ => Reason::Credentials,
    };
    Some((reason, chain(error)))
}

/// The reason for an error answer. Codes precede statuses: the model of AWS IoT uses 400 for throttling, and the
/// service answers 429.
fn answered(status: u16, code: Option<&str>) -> Reason {
    match code.unwrap_or_default() {
        "ThrottlingException"
        | "Throttling"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "SlowDown"
        | "PriorRequestNotComplete"
        | "BandwidthLimitExceeded"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException" => Reason::Throttled,
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "InvalidAccessKeyId"
        | "RequestTimeTooSkewed"
        | "InvalidToken"
        | "TokenRefreshRequired" => Reason::Credentials,
        "AccessDenied"
        | "AccessDeniedException"
        | "UnauthorizedException"
        | "UnauthorizedOperation"
        | "NotAuthorized" => Reason::Denied,
        _ => match status {
            // A status of success, but an answer that the SDK could not parse.
            200..=299 => Reason::Malformed,
            // A 403 without an AWS code comes from something else, such as a proxy.
            401 | 403 if code.is_some() => Reason::Denied,
            429 => Reason::Throttled,
            500.. => Reason::Unavailable,
            _ => Reason::Rejected,
        },
    }
}

fn described(status: u16, code: Option<&str>, message: Option<&str>, error: &(dyn Error + 'static)) -> String {
    let message = message.map(without_request);
    let text = match (code, message) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        (None, Some(message)) => message.to_owned(),
        (None, None) => chain(error),
    };
    // AWS answers the same in a region that is not enabled.
    let hint = match code {
        Some("UnrecognizedClientException" | "InvalidClientTokenId") => "; is the region enabled for the account?",
        _ => "",
    };
    one_line(&format!("{text} (HTTP {status}){hint}"))
}

/// AWS's message about a wrong signature repeats the request, with the session token in its headers.
fn without_request(message: &str) -> &str {
    let repeats = ["The Canonical String", "x-amz-security-token", "X-Amz-Security-Token"];
    let end = repeats.iter().filter_map(|text| message.find(text)).min().unwrap_or(message.len());
    message[..end].trim_end()
}

/// The code of an error answer.
pub(super) fn code(status: u16, code: Option<&str>) -> String {
    match (code, status) {
        (Some(code), _) => code.to_owned(),
        (None, 200..=299) => MALFORMED.to_owned(),
        (None, status) => format!("HTTP_{status}"),
    }
}

/// An error and its causes. Omits levels that repeat another one or only say that there is a cause.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    const SAY_NOTHING: &[&str] = &[
        "the credential provider was not enabled",
        "an error occurred while loading credentials",
        "dispatch failure",
        "io error",
        "other",
        "service error",
        "unhandled error",
    ];
    let mut texts: Vec<String> = Vec::new();
    for cause in causes(error) {
        let mut text = cause.to_string();
        // The output of an external program can contain secrets. The text before it says that and how the program
        // failed.
        if let Some(end) = text.find("Stderr:") {
            text.truncate(end);
        }
        let empty = SAY_NOTHING.contains(&text.as_str()) && cause.source().is_some();
        if !empty && !texts.last().is_some_and(|last| last.contains(&text)) {
            texts.push(text);
        }
    }
    one_line(&texts.join(": "))
}

/// An error and its causes, outermost first.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

fn has_cause<T: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(<dyn Error>::is::<T>)
}

/// Makes a text of an answer safe for logs and pages: one line, bounded length, and invisible or direction-changing
/// characters escaped.
pub(super) fn one_line(text: &str) -> String {
    const MAX_CHARS: usize = 1000;
    let mut line = String::new();
    let words: Vec<String> = text.split_whitespace().map(without_userinfo).collect();
    for (count, character) in words.join(" ").chars().enumerate() {
        if count == MAX_CHARS {
            line.push('…');
            break;
        }
        if matches!(character, '"' | '\'' | '\\') {
            line.push(character);
        } else {
            line.extend(character.escape_debug());
        }
    }
    line
}

/// A word; if it is a URL, without user name and password.
fn without_userinfo(word: &str) -> String {
    match (word.find("://"), word.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}<hidden>{}", &word[..scheme + 3], &word[at..]),
        _ => word.to_owned(),
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self { reason: error.reason, message: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttling_is_recognized_by_code_and_by_status() {
        assert_eq!(answered(400, Some("ThrottlingException")), Reason::Throttled);
        assert_eq!(answered(429, None), Reason::Throttled);
        assert_eq!(answered(429, Some("SomethingNew")), Reason::Throttled);
    }

    #[test]
    fn an_unknown_identity_differs_from_a_denied_one() {
        assert_eq!(answered(403, Some("ExpiredTokenException")), Reason::Credentials);
        assert_eq!(answered(403, Some("UnrecognizedClientException")), Reason::Credentials);
        assert_eq!(answered(403, Some("AccessDeniedException")), Reason::Denied);
        assert_eq!(answered(403, Some("SomethingNew")), Reason::Denied);
        assert_eq!(answered(403, None), Reason::Rejected, "a proxy, not a policy of AWS");
    }

    #[test]
    fn other_answers_are_classified_by_their_status() {
        assert_eq!(answered(200, None), Reason::Malformed);
        assert_eq!(answered(400, Some("InvalidRequestException")), Reason::Rejected);
        assert_eq!(answered(404, None), Reason::Rejected);
        assert_eq!(answered(500, Some("InternalFailureException")), Reason::Unavailable);
        assert_eq!(answered(503, None), Reason::Unavailable);
    }

    #[test]
    fn the_message_of_a_refused_signature_omits_the_request() {
        let message = "The request signature we calculated does not match.\n\nThe Canonical String for this request \
            should have been\n'GET\n/jobs\n\nx-amz-security-token:hunter2\n'";
        assert_eq!(without_request(message), "The request signature we calculated does not match.");
        assert_eq!(without_request("header x-amz-security-token:hunter2 is wrong"), "header");
        assert_eq!(without_request("Rate exceeded"), "Rate exceeded");
    }

    #[test]
    fn passwords_in_urls_and_output_of_programs_are_hidden() {
        assert_eq!(
            one_line("proxy http://user:p@ss@proxy.test:1/x failed"),
            "proxy http://<hidden>@proxy.test:1/x failed"
        );
        let program: Box<dyn Error> = "exited with 3. Stderr: hunter2".into();
        assert_eq!(chain(&*program), "exited with 3.");
    }

    #[test]
    fn an_answer_cannot_change_the_direction_of_a_line() {
        assert_eq!(one_line("denied \u{202e}drowssap\u{2066}"), "denied \\u{202e}drowssap\\u{2066}");
    }

    #[test]
    fn the_text_of_an_answer_is_one_line_of_bounded_length() {
        assert_eq!(one_line("a\n  b\u{1b}[31m"), "a b\\u{1b}[31m");
        assert_eq!(one_line("a\u{2028}b\0\\ \"é\" 'c'"), "a b\\0\\ \"é\" 'c'");
        assert_eq!(one_line(&"x".repeat(10_000)).chars().count(), 1001);
    }
}
