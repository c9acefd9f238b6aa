//! Reasons of failures.

use std::fmt;

/// Why a run of a collector failed. Each reason needs a different reaction of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// AWS throttled the request and its retries.
    Throttled,
    /// The identity lacks a permission.
    Denied,
    /// There are no valid credentials.
    Credentials,
    /// No complete answer in time.
    Timeout,
    /// No connection, or a broken one.
    Network,
    /// A 5xx answer.
    Unavailable,
    /// Any other error answer.
    Rejected,
    /// An answer that cannot be parsed, or lacks required content.
    Malformed,
    /// A page token that was already used in the same walk.
    TokenLoop,
    /// More pages than allowed.
    PageLimit,
    /// A job of another account than the target's.
    AccountMismatch,
    /// The request could not be made.
    Configuration,
    /// A fault in the exporter.
    Internal,
}

impl Reason {
    /// Every reason.
    pub const ALL: &'static [Self] = &[
        Self::Throttled,
        Self::Denied,
        Self::Credentials,
        Self::Timeout,
        Self::Network,
        Self::Unavailable,
        Self::Rejected,
        Self::Malformed,
        Self::TokenLoop,
        Self::PageLimit,
        Self::AccountMismatch,
        Self::Configuration,
        Self::Internal,
    ];

    /// The value of the label `reason`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Denied => "denied",
            Self::Credentials => "credentials",
            Self::Timeout => "timeout",
            Self::Network => "network",
            Self::Unavailable => "unavailable",
            Self::Rejected => "rejected",
            Self::Malformed => "malformed",
            Self::TokenLoop => "token_loop",
            Self::PageLimit => "page_limit",
            Self::AccountMismatch => "account_mismatch",
            Self::Configuration => "configuration",
            Self::Internal => "internal",
        }
    }

    /// What the operator can do.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Throttled => {
                "all clients of the account share its quota: lower limits.requests_per_second, or raise the intervals under collectors"
            }
            Self::Denied => {
                "grant the action to the identity of the exporter (the README has the policy); for a role, check its trust policy and external_id"
            }
            Self::Credentials => {
                "give the exporter valid credentials (environment, profile, web identity, ECS or EC2 role) and check the machine's clock"
            }
            Self::Timeout => {
                "check the route to the endpoint, or raise collectors.all_jobs.timeout if the walk is only slow"
            }
            Self::Network => {
                "check name resolution, route, proxy, firewall and trusted certificates between the exporter and the endpoint"
            }
            Self::Unavailable => "AWS failed; the exporter retries automatically",
            Self::Rejected => "check the target's region, endpoint_url and filter against the answer",
            Self::Malformed => "check that endpoint_url is AWS IoT and that no proxy answers instead",
            Self::TokenLoop => "the endpoint repeats pages, so a count would be wrong; check that it is AWS IoT",
            Self::PageLimit => "raise limits.max_pages, or narrow the target with targets[].filter",
            Self::AccountMismatch => {
                "check targets[].account_id and the credentials: they belong to different accounts"
            }
            Self::Configuration => "check the target's region and endpoint_url",
            Self::Internal => "report it with the log; the exporter retries the target, and the others continue",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn reasons_have_distinct_words() {
        let words: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
    }
}
