//! Walks over the pages of `ListJobs`.
//!
//! The tokens are followed here, not by the SDK's paginator. That one ends a walk without an error when a token
//! repeats, and an incomplete walk looks like missing jobs.

use std::collections::HashSet;
use std::hash::BuildHasher as _;
use std::hash::RandomState;

use crate::aws::rate_limit::Class;
use crate::aws::{ApiError, Connection, LIST_JOBS, Operation, Query};
use crate::jobs::{AccountId, JobArn, JobSummary, Scope, Status};
use crate::metrics::{Failure, Reason, WalkProgress};

/// Why a list with a repeated token cannot be used.
pub(super) const REPEATED_TOKEN: &str =
    "the answer repeats the token of an earlier page, so the same pages would follow";

/// The result of a complete walk.
#[derive(Debug)]
pub(crate) struct Walked<T> {
    /// The account of the jobs.
    pub account: AccountId,
    /// The number of pages.
    pub pages: u64,
    /// The jobs.
    pub jobs: T,
}

/// Which pages are walked over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk<'a> {
    /// How urgent its requests are.
    pub class: Class,
    /// The lists, one after the other.
    pub queries: &'a [Query],
    /// The walk fails if there are more.
    pub max_pages: u32,
    /// Where each page is reported.
    pub progress: &'a WalkProgress,
}

impl Walk<'_> {
    /// Walks over all pages for one account, and hands each summary to `insert`, which adds it to `jobs`.
    ///
    /// # Errors
    /// If the walk is incomplete, or the credentials belong to another account at its end.
    pub(crate) async fn run<T>(
        &self,
        connection: &Connection,
        mut jobs: T,
        insert: impl Fn(&mut T, &JobSummary),
    ) -> Result<Walked<T>, Failure> {
        let account = account(connection).await?;
        let pages = self.pages(connection, &account, |summary| insert(&mut jobs, summary)).await?;
        check_same_account(connection, LIST_JOBS, &account).await?;
        Ok(Walked { account, pages, jobs })
    }

    /// Walks over all pages, and hands each summary to `take`. Returns how many pages there were.
    ///
    /// # Errors
    /// If the walk is incomplete.
    async fn pages(
        &self,
        connection: &Connection,
        account: &AccountId,
        mut take: impl FnMut(&JobSummary),
    ) -> Result<u64, Failure> {
        let Self { class, queries, max_pages, progress } = *self;
        let mut pages = 0;
        for query in queries {
            let (mut tokens, mut token) = (Tokens::default(), None);
            loop {
                let page = pages + 1;
                let at_page =
                    |error: ApiError| Failure { reason: error.reason, message: format!("page {page}: {error}") };
                let unusable = |reason, cause| at_page(connection.unusable(LIST_JOBS, reason, cause));
                if page > u64::from(max_pages) {
                    let cause = format!("the list goes on after {max_pages} pages, the limit of limits.max_pages");
                    return Err(unusable(Reason::PageLimit, cause));
                }
                let answer = connection.list_jobs(query, token, class).await.map_err(at_page)?;
                pages = page;
                progress.page_read(answer.items.len());
                for summary in &answer.items {
                    if let Some(other) = other_account(summary.job_arn.as_deref(), account) {
                        let cause = format!("a job of account {other} is listed, but the target is account {account}");
                        return Err(unusable(Reason::AccountMismatch, cause));
                    }
                    take(summary);
                }
                let Some(next) = answer.next_token else { break };
                if !tokens.is_new(&next) {
                    return Err(unusable(Reason::TokenLoop, REPEATED_TOKEN.to_owned()));
                }
                token = Some(next);
            }
        }
        Ok(pages)
    }
}

/// The account whose jobs a connection lists.
pub(crate) async fn account(connection: &Connection) -> Result<AccountId, Failure> {
    let account = connection.account().await;
    account.map_err(|error| Failure { reason: error.reason, message: format!("account id: {error}") })
}

/// Fails if the account changed during a run of an operation: new credentials can belong to another account.
pub(super) async fn check_same_account(
    connection: &Connection,
    operation: Operation,
    before: &AccountId,
) -> Result<(), Failure> {
    let after = account(connection).await?;
    if after == *before {
        return Ok(());
    }
    let cause = format!("the credentials changed from account {before} to account {after} during the run");
    Err(connection.unusable(operation, Reason::AccountMismatch, cause).into())
}

/// The page tokens of one listing. A repeated token leads to the same pages.
///
/// Hashed, since a token can be long and a walk has thousands. A collision fails a walk, but corrupts no count.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    hasher: RandomState,
    seen: HashSet<u64>,
}

impl Tokens {
    pub(super) fn is_new(&mut self, token: &str) -> bool {
        self.seen.insert(self.hasher.hash_one(token))
    }
}

/// The queries of an open walk: one for each open status. With a thing group filter, AWS omits SCHEDULED jobs.
#[must_use]
pub(crate) fn open_queries(scope: &Scope) -> Vec<Query> {
    status_queries(scope, scope.listed_statuses().filter(|status| status.is_open()))
}

/// The queries of a full walk: one for all jobs, or one for each ended status that the scope names.
#[must_use]
pub(crate) fn full_queries(scope: &Scope) -> Vec<Query> {
    if scope.statuses.is_empty() {
        return vec![query(scope, None)];
    }
    status_queries(scope, scope.statuses.iter().filter(|status| !status.is_open()))
}

fn status_queries<'a>(scope: &Scope, statuses: impl IntoIterator<Item = &'a Status>) -> Vec<Query> {
    statuses.into_iter().map(|status| query(scope, Some(status.clone()))).collect()
}

/// The query for the jobs of a scope with this status, or with any.
pub(crate) fn query(scope: &Scope, status: Option<Status>) -> Query {
    Query {
        status,
        target_selection: scope.target_selection.clone(),
        thing_group_name: scope.thing_group_name.clone(),
        thing_group_id: scope.thing_group_id.clone(),
        namespace_id: scope.namespace_id.clone(),
    }
}

/// The account in a job's ARN, if it is not this one.
pub(super) fn other_account(arn: Option<&str>, account: &AccountId) -> Option<AccountId> {
    arn.and_then(JobArn::parse).map(|arn| arn.account).filter(|found| found != account)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(queries: &[Query]) -> Vec<&str> {
        queries.iter().map(|query| query.status.as_ref().map_or("", Status::as_str)).collect()
    }

    #[test]
    fn a_scope_without_statuses_lists_open_jobs_by_status_and_all_jobs_at_once() {
        let scope = Scope::default();
        let mut open = open_queries(&scope);
        open.sort_by_key(|query| query.status.clone());
        assert_eq!(statuses(&open), ["IN_PROGRESS", "SCHEDULED", "DELETION_IN_PROGRESS"]);
        assert_eq!(statuses(&full_queries(&scope)), [""]);
    }

    #[test]
    fn a_scope_lists_only_its_statuses() {
        let of = |statuses: &[Status]| Scope { statuses: statuses.to_vec(), ..Scope::default() };
        let both = of(&[Status::Scheduled, Status::Canceled, Status::Completed]);
        assert_eq!(statuses(&open_queries(&both)), ["SCHEDULED"]);
        assert_eq!(statuses(&full_queries(&both)), ["CANCELED", "COMPLETED"]);
        assert!(full_queries(&of(&[Status::InProgress])).is_empty());
        assert!(open_queries(&of(&[Status::Completed])).is_empty());
    }

    #[test]
    fn with_a_thing_group_filter_scheduled_jobs_are_not_listed() {
        let scope = Scope { thing_group_name: Some("line".to_owned()), ..Scope::default() };
        assert_eq!(statuses(&open_queries(&scope)), ["IN_PROGRESS", "DELETION_IN_PROGRESS"]);
    }
}
