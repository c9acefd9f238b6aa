//! The faults, and the consequence of each for a walk.

use std::fmt;
use std::str::FromStr;

use super::script::ParseScriptError;

/// What one fault does to a walk of `ListJobs`, for a client that makes three attempts as the AWS SDKs do and
/// validates each answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Consequence {
    /// The attempt fails, and the next one succeeds: the walk completes after a delay.
    Retried,
    /// The answer is valid but unusual: the walk completes, if its client can handle it.
    Tolerated,
    /// No retry is made, or none could succeed: the walk fails.
    Fatal,
}

/// Declares the faults, with the name and the consequence of each.
macro_rules! faults {
    ($($(#[$meta:meta])* $variant:ident = $text:literal is $consequence:ident;)+) => {
        /// A failure between a client and AWS.
        ///
        /// A fault applies only to answers that it fits: a page that was requested without a token has no token to
        /// repeat. Faults that alter a successful answer of AWS IoT leave its other parts unchanged.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault {
            $($(#[$meta])* $variant,)+
        }

        impl Fault {
            /// Every fault.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name, in kebab-case.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// What one application of it does to a walk.
            #[must_use]
            pub const fn consequence(self) -> Consequence {
                match self {
                    $(Self::$variant => Consequence::$consequence,)+
                }
            }
        }
    };
}

faults! {
    /// 400 `ThrottlingException`, "Rate exceeded" (STS: `Throttling`): the documented answer to a caller above its
    /// quota.
    Throttle400 = "throttle-400" is Retried;
    /// The same with status 429, as some calls of AWS IoT answer in practice.
    Throttle429 = "throttle-429" is Retried;
    /// 500 `InternalFailureException` (STS: `InternalFailure`): an internal error of AWS.
    Error500 = "error-500" is Retried;
    /// 503 `ServiceUnavailableException` (STS: `ServiceUnavailable`): AWS, overloaded or being deployed.
    Error503 = "error-503" is Retried;
    /// 403 `AccessDeniedException` (STS: `AccessDenied`): a policy that lacks the action.
    Denied = "denied" is Fatal;
    /// 403 `ExpiredTokenException` (STS: `ExpiredToken`): temporary credentials that were not renewed.
    ExpiredCredentials = "expired-credentials" is Fatal;
    /// 403 `UnrecognizedClientException` (STS: `InvalidClientTokenId`): an access key that was deleted or mistyped.
    InvalidCredentials = "invalid-credentials" is Fatal;
    /// A server's clock that is [an hour ahead](super::CLOCK_SKEW), or a client's that is an hour behind. Applies to
    /// every answer: its `Date` is from that clock. A request whose `X-Amz-Date` differs by more than five minutes
    /// gets 403 `InvalidSignatureException` (STS: `SignatureDoesNotMatch`), "Signature expired: …"; the SDKs correct
    /// their clock by `Date` and retry.
    ClockSkew = "clock-skew" is Retried;
    /// The connection is reset without an answer ([`FaultAction::Reset`]): a firewall, or a NAT gateway that has
    /// dropped the connection.
    ///
    /// [`FaultAction::Reset`]: crate::simulator::FaultAction::Reset
    Reset = "reset" is Retried;
    /// The connection is reset, and so is every new one for [a moment](super::REFUSAL) ([`FaultAction::Refuse`]): an
    /// endpoint that is being replaced. A longer outage needs a larger count.
    ///
    /// [`FaultAction::Refuse`]: crate::simulator::FaultAction::Refuse
    Refused = "refused" is Retried;
    /// No answer, and the connection stays open ([`FaultAction::Hang`]): a firewall that drops packets, or a server
    /// that hangs. The client waits for its whole attempt timeout.
    ///
    /// [`FaultAction::Hang`]: crate::simulator::FaultAction::Hang
    Hang = "hang" is Retried;
    /// The right answer after [a delay](super::SLOWNESS), or after that of its rule ([`FaultAction::Delay`]): a
    /// service under load. A client with a shorter timeout retries.
    ///
    /// [`FaultAction::Delay`]: crate::simulator::FaultAction::Delay
    Slow = "slow" is Tolerated;
    /// The header and half of the body, and then silence ([`Body::stalled`]).
    ///
    /// [`Body::stalled`]: crate::simulator::Body::stalled
    HangInBody = "hang-in-body" is Retried;
    /// The header and half of the body, and then the end of the connection ([`Body::truncated`]): a proxy that was
    /// restarted.
    ///
    /// [`Body::truncated`]: crate::simulator::Body::truncated
    Truncated = "truncated" is Retried;
    /// The right answer, padded with blanks to [64 MiB](super::OVERSIZE) ([`Body::padded`]). AWS never does this; a
    /// client that reads without a limit would fill its memory.
    ///
    /// [`Body::padded`]: crate::simulator::Body::padded
    Oversized = "oversized" is Fatal;
    /// 200 with a page of HTML: the login page of a captive portal or of a company's proxy.
    Html = "html" is Fatal;
    /// 200 with the first half of the body, and a matching `Content-Length`: a proxy that truncates answers silently.
    WrongJson = "wrong-json" is Fatal;
    /// Every text is a number, and every number and boolean is a text: an answer of another service than AWS.
    WrongTypes = "wrong-types" is Fatal;
    /// The `nextToken` of a page equals the token of its request. Applies to pages that were requested with a token.
    /// An emulator with broken paging does this (moto).
    RepeatedToken = "repeated-token" is Fatal;
    /// The `nextToken` of a page leads back to the second page of the walk. Applies from the third page on.
    TokenCycle = "token-cycle" is Fatal;
    /// 400 `InvalidRequestException` for a token: one that has expired. AWS documents neither a lifetime nor an error
    /// for it; this is the declared error that fits. Applies to pages that were requested with a token.
    ExpiredToken = "expired-token" is Fatal;
    /// A page without items, whose token leads to the same items: AWS filters a page after it has cut it.
    EmptyPage = "empty-page" is Tolerated;
    /// The last page has an empty text as `nextToken`, instead of none.
    EmptyToken = "empty-token" is Tolerated;
    /// A page without its list: no `jobs` (`thingGroups`, `executionSummaries`). This is not an empty list: a client
    /// must not conclude that the fleet is empty.
    MissingJobs = "missing-jobs" is Fatal;
    /// A page of `ListJobs` lists its last job twice; a full page has one item more than requested.
    DuplicateJob = "duplicate-job" is Tolerated;
    /// The first job of the walk appears again on a later page, now ended (or being deleted, if it had already ended):
    /// a job that changed during the walk. Applies to `ListJobs` without a status filter, from the second page on.
    MovedJob = "moved-job" is Tolerated;
    /// A job has the status `PAUSED`, which AWS does not have: AWS adds values over time. Applies to the first job of
    /// a page of `ListJobs`, the job of `DescribeJob`, and the first execution of `ListJobExecutionsForJob`.
    UnknownStatus = "unknown-status" is Tolerated;
    /// The first item of a page lacks its first field, the second one its second, and so on, alphabetically and
    /// cyclically; a description lacks all of them. The model requires none.
    MissingFields = "missing-fields" is Tolerated;
    /// Like `missing-fields`, with `null` instead of the missing values.
    NullFields = "null-fields" is Tolerated;
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Fault {
    type Err = ParseScriptError;

    fn from_str(text: &str) -> Result<Self, ParseScriptError> {
        let found = Self::ALL.iter().copied().find(|fault| fault.as_str() == text);
        found.ok_or_else(|| ParseScriptError::Fault(text.to_owned()))
    }
}
