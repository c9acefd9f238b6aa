//! Requests about single jobs in flight.

use std::fmt;
use std::future::pending;

use tokio::task::JoinSet;

use super::caught;
use crate::jobs::{Answer, FailureReason, JobRequest};
use crate::metrics::{Failure, Reason};

/// Requests in flight.
pub(super) struct InFlight<T> {
    max_in_flight: usize,
    requests: JoinSet<Answered<T>>,
}

impl<T> fmt::Debug for InFlight<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").field("requests", &self.requests.len()).finish_non_exhaustive()
    }
}

/// The result of a request.
#[derive(Debug)]
pub(super) struct Answered<T> {
    pub(super) request: JobRequest,
    /// `None` if the job does not exist.
    pub(super) outcome: Result<Option<T>, Failure>,
}

impl<T: Send + 'static> InFlight<T> {
    pub(super) fn new(max_in_flight: usize) -> Self {
        Self { max_in_flight, requests: JoinSet::new() }
    }

    pub(super) fn has_room(&self) -> bool {
        self.requests.len() < self.max_in_flight
    }

    /// Sends a request. A panic counts as a failure.
    pub(super) fn send(
        &mut self,
        request: JobRequest,
        outcome: impl Future<Output = Result<Option<T>, Failure>> + Send + 'static,
    ) {
        self.requests.spawn(async move {
            let outcome = caught(outcome).await.unwrap_or_else(|| {
                Err(Failure { reason: Reason::Internal, message: "the request panicked".to_owned() })
            });
            Answered { request, outcome }
        });
    }

    /// Waits for an answer.
    pub(super) async fn next(&mut self) -> Answered<T> {
        loop {
            match self.requests.join_next().await {
                Some(Ok(answered)) => return answered,
                Some(Err(_)) => {}
                None => pending().await,
            }
        }
    }
}

impl<T> Answered<T> {
    pub(super) const fn failure(&self) -> Option<&Failure> {
        match &self.outcome {
            Ok(_) => None,
            Err(failure) => Some(failure),
        }
    }

    /// The answer for the store.
    pub(super) fn answer(self) -> (JobRequest, Answer<T>) {
        let answer = match self.outcome {
            Ok(Some(found)) => Answer::Found(found),
            Ok(None) => Answer::NotFound,
            Err(Failure { reason: Reason::Denied, .. }) => Answer::Failed(FailureReason::Denied),
            Err(Failure { reason: Reason::Credentials, .. }) => Answer::Failed(FailureReason::Credentials),
            Err(Failure { reason: Reason::Network, .. }) => Answer::Failed(FailureReason::Connection),
            Err(_) => Answer::Failed(FailureReason::Other),
        };
        (self.request, answer)
    }
}
