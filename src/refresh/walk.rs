//! One walk: every page of `ListJobs`, counted as it comes.
//!
//! The tokens are followed by hand. The SDK's paginator ends a walk without a word when a token repeats, and a walk that ends
//! early looks like jobs that are gone.

use std::collections::HashSet;
use std::hash::BuildHasher as _;
use std::hash::RandomState;

use crate::aws::{ApiError, Connection, Query};
use crate::jobs::{AccountId, JobArn, JobSummary, Scope};
use crate::telemetry::Reason;

/// Why a walk was given up.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// A page could not be had.
    #[error("page {page}: {source}")]
    Page {
        /// The page, counted from 1 over the whole walk.
        page: u64,
        /// What went wrong.
        source: ApiError,
    },
    /// A token came again; what follows would be the same pages once more.
    #[error("page {page} gave a token that an earlier page of this walk gave")]
    TokenLoop {
        /// The page that gave it.
        page: u64,
    },
    /// More pages than `limits.max_pages`.
    #[error("there are more than {max_pages} pages")]
    PageLimit {
        /// The limit.
        max_pages: u32,
    },
    /// A job that belongs to somebody else.
    #[error("page {page} lists a job of account {found}, but the target is account {expected}")]
    AccountMismatch {
        /// The page.
        page: u64,
        /// The account in the job's ARN.
        found: AccountId,
        /// The target's account.
        expected: AccountId,
    },
}

impl WalkError {
    /// The kind of failure.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Page { source, .. } => source.reason,
            Self::TokenLoop { .. } => Reason::TokenLoop,
            Self::PageLimit { .. } => Reason::PageLimit,
            Self::AccountMismatch { .. } => Reason::AccountMismatch,
        }
    }
}

/// Walks all pages of a scope, and hands each summary to `take`. Tells how many pages there were.
///
/// # Errors
/// At the first thing that makes the walk less than whole; there is no half result.
pub async fn walk(
    connection: &Connection,
    account: &AccountId,
    scope: &Scope,
    max_pages: u32,
    mut take: impl FnMut(&JobSummary),
) -> Result<u64, WalkError> {
    let mut pages = 0;
    for query in queries(scope) {
        // Hashed, since a token can be long and a walk has thousands. A chance collision fails a walk, and spoils no count.
        let (hasher, mut seen) = (RandomState::new(), HashSet::new());
        let mut token = None;
        loop {
            if pages >= u64::from(max_pages) {
                return Err(WalkError::PageLimit { max_pages });
            }
            let page = pages + 1;
            let answer =
                connection.list_jobs(&query, token).await.map_err(|source| WalkError::Page { page, source })?;
            pages = page;
            for summary in &answer.jobs {
                check_account(summary, account, page)?;
                take(summary);
            }
            let Some(next) = answer.next_token else { break };
            if !seen.insert(hasher.hash_one(&next)) {
                return Err(WalkError::TokenLoop { page });
            }
            token = Some(next);
        }
    }
    Ok(pages)
}

/// `ListJobs` takes one status, so a scope of several takes a walk for each. A job that moves from one to another between them is
/// met twice, and counted once.
fn queries(scope: &Scope) -> Vec<Query> {
    let query = |status| Query {
        status,
        target_selection: scope.target_selection.clone(),
        thing_group_name: scope.thing_group_name.clone(),
        thing_group_id: scope.thing_group_id.clone(),
        namespace_id: scope.namespace_id.clone(),
    };
    if scope.statuses.is_empty() {
        vec![query(None)]
    } else {
        scope.statuses.iter().cloned().map(Some).map(query).collect()
    }
}

fn check_account(summary: &JobSummary, account: &AccountId, page: u64) -> Result<(), WalkError> {
    match summary.job_arn.as_deref().and_then(JobArn::parse) {
        Some(arn) if arn.account != *account => {
            Err(WalkError::AccountMismatch { page, found: arn.account, expected: account.clone() })
        }
        _ => Ok(()),
    }
}
