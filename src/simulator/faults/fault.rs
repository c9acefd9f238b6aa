//! The faults themselves: what each one is, and what becomes of a walk that meets it.

use std::fmt;
use std::str::FromStr;

use super::script::ParseScriptError;

/// What one strike of a fault does to a walk of `ListJobs`, for a client that makes three attempts as the AWS SDKs do,
/// and takes no answer for more than it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Consequence {
    /// The attempt fails, and the next one is good: the walk ends well, after a wait.
    Retried,
    /// The answer is a good one that has something odd in it: the walk ends well, if its client copes.
    Tolerated,
    /// No further attempt is made, or none could help: the walk fails.
    Fatal,
}

/// Declares the faults: each with its name on command lines and in tables, and its consequence.
macro_rules! faults {
    ($($(#[$meta:meta])* $variant:ident = $text:literal is $consequence:ident;)+) => {
        /// Something that goes wrong between a client and AWS.
        ///
        /// A fault strikes an answer that it can be made of, and leaves others alone: there is no token to repeat on a
        /// page that was asked for without one. Those that alter an answer leave its other parts as they are; they need
        /// an answer of AWS IoT that is no error.
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

            /// What one strike of it does to a walk.
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
    /// 400 `ThrottlingException`, "Rate exceeded" (STS: `Throttling`): what the service model of AWS IoT says that a
    /// caller above its quota gets.
    Throttle400 = "throttle-400" is Retried;
    /// The same with status 429, as some calls of AWS IoT answer in practice.
    Throttle429 = "throttle-429" is Retried;
    /// 500 `InternalFailureException` (STS: `InternalFailure`): AWS, on a bad day.
    Error500 = "error-500" is Retried;
    /// 503 `ServiceUnavailableException` (STS: `ServiceUnavailable`): AWS, overloaded or being deployed.
    Error503 = "error-503" is Retried;
    /// 403 `AccessDeniedException` (STS: `AccessDenied`): a policy that lacks the action, or has just been changed.
    Denied = "denied" is Fatal;
    /// 403 `ExpiredTokenException` (STS: `ExpiredToken`): temporary credentials that nobody renewed.
    ExpiredCredentials = "expired-credentials" is Fatal;
    /// 403 `UnrecognizedClientException` (STS: `InvalidClientTokenId`): an access key that was deleted or mistyped.
    InvalidCredentials = "invalid-credentials" is Fatal;
    /// A server's clock that is [an hour ahead](super::CLOCK_SKEW), or a client's that is an hour behind. Strikes every
    /// answer: its `Date` is by that clock. A request whose `X-Amz-Date` is more than five minutes from it gets 403
    /// `InvalidSignatureException` (STS: `SignatureDoesNotMatch`), "Signature expired: …"; the SDKs correct their clock
    /// by `Date` and try again.
    ClockSkew = "clock-skew" is Retried;
    /// The connection is reset without an answer ([`FaultAction::Reset`]): a firewall, or a NAT gateway that has forgotten a
    /// connection.
    ///
    /// [`FaultAction::Reset`]: crate::simulator::FaultAction::Reset
    Reset = "reset" is Retried;
    /// The connection is reset, and so is every new one for [a moment](super::REFUSAL) ([`FaultAction::Refuse`]): an endpoint
    /// that is being replaced. A longer outage takes a greater count.
    ///
    /// [`FaultAction::Refuse`]: crate::simulator::FaultAction::Refuse
    Refused = "refused" is Retried;
    /// No answer, on a connection that stays open ([`FaultAction::Hang`]): a firewall that drops packets, a server that is
    /// stuck. Costs a client the whole timeout of an attempt.
    ///
    /// [`FaultAction::Hang`]: crate::simulator::FaultAction::Hang
    Hang = "hang" is Retried;
    /// The right answer, [late](super::SLOWNESS), or as late as its rule says ([`FaultAction::Delay`]): a service under load. A
    /// client whose timeout is shorter makes another attempt.
    ///
    /// [`FaultAction::Delay`]: crate::simulator::FaultAction::Delay
    Slow = "slow" is Tolerated;
    /// The header and half of the body, and then silence ([`Body::stalled`]): the same a moment later.
    ///
    /// [`Body::stalled`]: crate::simulator::Body::stalled
    HangInBody = "hang-in-body" is Retried;
    /// The header and half of the body, and then the end of the connection ([`Body::truncated`]): a proxy that was
    /// restarted.
    ///
    /// [`Body::truncated`]: crate::simulator::Body::truncated
    Truncated = "truncated" is Retried;
    /// The right answer, and blanks after it up to [64 MiB](super::OVERSIZE) ([`Body::padded`]): nothing that AWS does,
    /// and what would fill the memory of a client that reads without a bound.
    ///
    /// [`Body::padded`]: crate::simulator::Body::padded
    Oversized = "oversized" is Fatal;
    /// 200 with a page of HTML: the login page of a captive portal or of a company's proxy.
    Html = "html" is Fatal;
    /// 200 with the first half of the body, and a `Content-Length` that is right for it: a proxy that cut an answer and
    /// kept quiet about it.
    WrongJson = "wrong-json" is Fatal;
    /// Every text is a number, and every number and boolean is a text: an answer of something else than AWS.
    WrongTypes = "wrong-types" is Fatal;
    /// The `nextToken` of a page is the one that it was asked for with. Strikes pages that were asked for with one. An
    /// emulator whose paging is broken does so (moto).
    RepeatedToken = "repeated-token" is Fatal;
    /// The `nextToken` of a page leads back to the second page of the walk. Strikes from the third page on.
    TokenCycle = "token-cycle" is Fatal;
    /// 400 `InvalidRequestException` for a token: one that was kept for too long. AWS documents no lifetime, and no
    /// error; of those that it declares, this is the one that fits. Strikes pages that were asked for with one.
    ExpiredToken = "expired-token" is Fatal;
    /// A page without items, whose token leads to what it would have had: AWS filters a page after it has cut it.
    EmptyPage = "empty-page" is Tolerated;
    /// The last page has an empty text for `nextToken`, where none is the rule.
    EmptyToken = "empty-token" is Tolerated;
    /// A page without its list: no `jobs` (`thingGroups`, `executionSummaries`). Not the same as an empty list, and no
    /// reason to take a fleet for empty.
    MissingJobs = "missing-jobs" is Fatal;
    /// The last job of a page of `ListJobs` is on it twice; a full page has one more than was asked for.
    DuplicateJob = "duplicate-job" is Tolerated;
    /// The first job of the walk is on a later page of it again, ended now, or being deleted where it had: a job that
    /// changed while it was walked over. Strikes a `ListJobs` without a filter by status, from the second page on.
    MovedJob = "moved-job" is Tolerated;
    /// A job has the status `PAUSED`, which AWS does not have: it adds values over time. The first job of a page of
    /// `ListJobs`, or the one of `DescribeJob`; the first execution of `ListJobExecutionsForJob`.
    UnknownStatus = "unknown-status" is Tolerated;
    /// The first item of a page lacks the first of its fields, the second one the second, and so on, by the alphabet
    /// and over again; a description lacks all of them. The model requires none.
    MissingFields = "missing-fields" is Tolerated;
    /// As `missing-fields`, with `null` in the place of what is missing.
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
