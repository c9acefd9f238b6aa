//! Requests of `DescribeJob`: a permit is waited for first, then the job is chosen.
//!
//! At 5 permits a second eight jobs that were chosen before they wait could delay a job that left the list by seconds, and by
//! more if several targets share the rate. So one permit is waited for at a time, in the class of the most urgent job.

use std::fmt;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::caught;
use super::walks::check_same_account;
use crate::aws::rate_limit::Class;
use crate::aws::{ApiError, Connection, DescribePermit};
use crate::jobs::{AccountId, Answer, DescribeClass, DescribeRequest, Description, FailureReason, JobArn};
use crate::metrics::{Failure, Reason};

/// Requests under way at once. The rate limit spaces them; this only uses it where answers take their time.
const MAX_IN_FLIGHT: usize = 8;

type PermitResult = Result<DescribePermit, Failure>;

type PermitFuture = Pin<Box<dyn Future<Output = PermitResult> + Send>>;

/// Requests under way, and the next one.
#[derive(Default)]
pub(super) struct Describing {
    waiting: Option<(DescribeClass, PermitFuture)>,
    requests: JoinSet<Described>,
}

impl fmt::Debug for Describing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Describing").field("in_flight", &self.requests.len()).finish_non_exhaustive()
    }
}

/// A request that was answered, or failed.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) request: DescribeRequest,
    /// `None`: there is no such job.
    pub(super) outcome: Result<Option<Box<Description>>, Failure>,
}

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    /// A request can be sent; or none can, and the job that it was for has failed.
    Permit(PermitResult),
    Described(Described),
}

impl Describing {
    pub(super) fn has_room(&self) -> bool {
        self.requests.len() < MAX_IN_FLIGHT
    }

    /// Waits for a permit of this class from now on; `None` for no permit.
    pub(super) fn wait_for(&mut self, class: Option<DescribeClass>, connection: &Arc<Connection>) {
        if self.waiting.as_ref().map(|(waiting, _)| *waiting) == class {
            return;
        }
        self.waiting = class.map(|class| {
            let connection = Arc::clone(connection);
            let permit = async move {
                connection.describe_permit(rate_limit_class(class)).await.map_err(|error| failure(&error))
            };
            (class, Box::pin(permit) as _)
        });
    }

    /// Sends a request.
    pub(super) fn send(
        &mut self,
        connection: &Arc<Connection>,
        account: &AccountId,
        request: DescribeRequest,
        permit: DescribePermit,
    ) {
        let (connection, account) = (Arc::clone(connection), account.clone());
        self.requests.spawn(async move {
            let outcome = caught(describe(&connection, &account, &request.id, permit)).await.unwrap_or_else(|| {
                Err(Failure { reason: Reason::Internal, message: "the request panicked".to_owned() })
            });
            Described { request, outcome }
        });
    }

    /// Waits for a permit, or an answer.
    pub(super) async fn next(&mut self) -> Event {
        let Self { waiting, requests } = self;
        loop {
            let permit = async {
                match waiting.as_mut() {
                    Some((_, permit)) => permit.await,
                    None => pending().await,
                }
            };
            tokio::select! {
                permit = permit => {
                    *waiting = None;
                    return Event::Permit(permit);
                }
                Some(answered) = requests.join_next() => {
                    if let Ok(described) = answered {
                        return Event::Described(described);
                    }
                }
            }
        }
    }
}

impl Described {
    /// The answer as the store takes it.
    pub(super) fn answer(self) -> (DescribeRequest, Answer) {
        let answer = match self.outcome {
            Ok(Some(description)) => Answer::Found(description),
            Ok(None) => Answer::NotFound,
            Err(Failure { reason: Reason::Denied, .. }) => Answer::Failed(FailureReason::Denied),
            Err(Failure { reason: Reason::Credentials, .. }) => Answer::Failed(FailureReason::Credentials),
            Err(Failure { reason: Reason::Network, .. }) => Answer::Failed(FailureReason::Connection),
            Err(_) => Answer::Failed(FailureReason::Other),
        };
        (self.request, answer)
    }
}

const fn rate_limit_class(class: DescribeClass) -> Class {
    match class {
        DescribeClass::Left => Class::LeftJob,
        DescribeClass::Changed => Class::ChangedJob,
        DescribeClass::Open => Class::OpenJob,
        DescribeClass::Ended => Class::EndedJob,
    }
}

async fn describe(
    connection: &Connection,
    account: &AccountId,
    id: &str,
    permit: DescribePermit,
) -> Result<Option<Box<Description>>, Failure> {
    let Some(description) = connection.describe_job(id, permit).await.map_err(|error| failure(&error))? else {
        // Another account does not have the job either.
        check_same_account(connection, account).await?;
        return Ok(None);
    };
    match description.summary.job_arn.as_deref().and_then(JobArn::parse) {
        Some(arn) if arn.account != *account => {
            let found = arn.account;
            let message =
                format!("DescribeJob describes a job of account {found}, but the target is account {account}");
            Err(Failure { reason: Reason::AccountMismatch, message })
        }
        _ => Ok(Some(Box::new(description))),
    }
}

fn failure(error: &ApiError) -> Failure {
    Failure { reason: error.reason, message: error.to_string() }
}
