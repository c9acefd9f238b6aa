//! Requests of `DescribeJob`: wait for a permit, then choose the job.
//!
//! At 5 permits a second, eight jobs chosen before the wait could delay a job that left the list by seconds, and
//! longer if several targets share the rate. So only one permit is awaited at a time, in the class of the most urgent
//! job.

use std::fmt;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;

use super::in_flight::{Answered, InFlight};
use super::walks::{check_same_account, other_account};
use crate::aws::rate_limit::Class;
use crate::aws::{Connection, DESCRIBE_JOB, DescribePermit};
use crate::jobs::{AccountId, DescribeClass, Description, JobId, JobRequest};
use crate::metrics::{Failure, Reason};

/// The largest number of concurrent requests. The rate limit spaces them, so this matters only if answers are slow.
const MAX_IN_FLIGHT: usize = 8;

type PermitResult = Result<DescribePermit, Failure>;

type PermitFuture = Pin<Box<dyn Future<Output = PermitResult> + Send>>;

/// The requests in flight, and the wait for the next permit.
pub(super) struct Describing {
    waiting: Option<(DescribeClass, PermitFuture)>,
    requests: InFlight<Box<Description>>,
}

impl fmt::Debug for Describing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Describing").field("requests", &self.requests).finish_non_exhaustive()
    }
}

impl Default for Describing {
    fn default() -> Self {
        Self { waiting: None, requests: InFlight::new(MAX_IN_FLIGHT) }
    }
}

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    /// A request can be sent; or none can, and the most urgent job has failed.
    Permit(PermitResult),
    Described(Answered<Box<Description>>),
}

impl Describing {
    pub(super) fn has_room(&self) -> bool {
        self.requests.has_room()
    }

    /// Waits for a permit of this class; `None` cancels the wait.
    pub(super) fn wait_for(&mut self, class: Option<DescribeClass>, connection: &Arc<Connection>) {
        if self.waiting.as_ref().map(|(waiting, _)| *waiting) == class {
            return;
        }
        self.waiting = class.map(|class| {
            let connection = Arc::clone(connection);
            let permit =
                async move { connection.describe_permit(rate_limit_class(class)).await.map_err(Failure::from) };
            (class, Box::pin(permit) as _)
        });
    }

    /// Sends a request.
    pub(super) fn send(
        &mut self,
        connection: &Arc<Connection>,
        account: &AccountId,
        request: JobRequest,
        permit: DescribePermit,
    ) {
        let (connection, account, id) = (Arc::clone(connection), account.clone(), JobId::clone(&request.id));
        self.requests.send(request, async move { describe(&connection, &account, &id, permit).await });
    }

    /// Waits for a permit, or an answer.
    pub(super) async fn next(&mut self) -> Event {
        let Self { waiting, requests } = self;
        let permit = async {
            match waiting.as_mut() {
                Some((_, permit)) => permit.await,
                None => pending().await,
            }
        };
        tokio::select! {
            permit = permit => {
                *waiting = None;
                Event::Permit(permit)
            }
            answered = requests.next() => Event::Described(answered),
        }
    }
}

const fn rate_limit_class(class: DescribeClass) -> Class {
    match class {
        DescribeClass::Left => Class::LeftJob,
        DescribeClass::Changed => Class::ChangedJob,
        DescribeClass::Open => Class::Redescription,
        DescribeClass::Ended => Class::EndedJob,
    }
}

async fn describe(
    connection: &Connection,
    account: &AccountId,
    id: &str,
    permit: DescribePermit,
) -> Result<Option<Box<Description>>, Failure> {
    let Some(description) = connection.describe_job(id, permit).await.map_err(Failure::from)? else {
        // A job of another account also looks like a missing job.
        check_same_account(connection, DESCRIBE_JOB, account).await?;
        return Ok(None);
    };
    if let Some(other) = other_account(description.summary.job_arn.as_deref(), account) {
        let cause = format!("the job belongs to account {other}, but the target is account {account}");
        return Err(connection.unusable(DESCRIBE_JOB, Reason::AccountMismatch, cause).into());
    }
    Ok(Some(Box::new(description)))
}
