//! Asking `DescribeJob` of many jobs: within the budget, until the time is up, and no longer than AWS answers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::aws::rate_limit::Class;
use crate::aws::{ApiError, Connection};
use crate::clock::Clock;
use crate::exposition::board::Failure;
use crate::jobs::{AccountId, Description, JobArn, Timepoint};
use crate::telemetry::Reason;

/// Requests under way at once. The budget spaces them; this only keeps it used where answers take their time.
const PARALLEL: usize = 8;

/// After so many failures in a row that are not about a single job, the rest is left for the next time.
const PATIENCE: u32 = 3;

/// After so many denials, with nothing else coming back, it is taken to be the identity and not the jobs.
pub(super) const DENIALS: usize = 5;

/// For how long nothing at all may come back.
const SILENCE: Duration = Duration::from_mins(1);

/// What came of asking.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Of which jobs it is known how they are, and since when.
    pub(super) answers: Vec<(Box<str>, Timepoint, Answer)>,
    /// Which jobs the identity may not describe.
    pub(super) denied: Vec<Box<str>>,
    /// Of which jobs there was another error.
    pub(super) failed: Vec<Box<str>>,
    /// The first failure, of whatever kind.
    pub(super) failure: Option<Failure>,
    in_a_row: u32,
}

/// What AWS says of a job.
#[derive(Debug)]
pub(super) enum Answer {
    /// How it is.
    Told(Box<Description>),
    /// There is no such job.
    Gone,
}

impl Round {
    /// How many jobs were described.
    pub(super) fn described(&self) -> u64 {
        self.answers.iter().filter(|(.., answer)| matches!(answer, Answer::Told(_))).count() as u64
    }

    /// Whether every answer was a denial. A job that is gone would be denied as well.
    pub(super) fn is_only_denials(&self) -> bool {
        !self.denied.is_empty() && self.answers.is_empty()
    }

    /// The jobs of which something became known.
    pub(super) fn answered(&self) -> HashSet<&str> {
        self.answers.iter().map(|(job_id, ..)| &**job_id).collect()
    }

    /// The jobs of which anything came back.
    pub(super) fn asked(&self) -> impl Iterator<Item = &str> {
        let answered = self.answers.iter().map(|(job_id, ..)| job_id);
        answered.chain(&self.denied).chain(&self.failed).map(AsRef::as_ref)
    }

    /// A round of which nothing may be used.
    pub(super) fn spoilt(failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::default() }
    }

    fn take(&mut self, job_id: Box<str>, at: Timepoint, outcome: Result<Answer, Failure>) {
        match outcome {
            Ok(answer) => {
                self.in_a_row = 0;
                self.answers.push((job_id, at, answer));
            }
            Err(failure) => {
                if failure.reason == Reason::Denied {
                    self.denied.push(job_id);
                } else {
                    // One that is about this job alone is followed by answers of others.
                    self.in_a_row += 1;
                    self.failed.push(job_id);
                }
                self.failure.get_or_insert(failure);
            }
        }
    }

    fn has_sense(&self) -> bool {
        self.in_a_row < PATIENCE && (self.denied.len() < DENIALS || !self.answers.is_empty())
    }
}

/// Describes `jobs` in this order, until all are, or `until`, or there is no sense in going on.
pub(super) async fn describe(
    connection: &Arc<Connection>,
    account: &AccountId,
    clock: Clock,
    class: Class,
    jobs: Vec<Box<str>>,
    until: Instant,
) -> Round {
    let (mut round, mut jobs, mut under_way) = (Round::default(), jobs.into_iter(), JoinSet::new());
    while round.has_sense() {
        for job_id in jobs.by_ref().take(PARALLEL - under_way.len()) {
            let connection = Arc::clone(connection);
            under_way.spawn(async move {
                let answer = match connection.describe_permit(class).await {
                    Ok(permit) => connection.describe_job(&job_id, permit).await,
                    Err(error) => Err(error),
                };
                (job_id, answer)
            });
        }
        let silent = Instant::now() + SILENCE.max(connection.spacing() * 2);
        match timeout_at(until.min(silent), under_way.join_next()).await {
            Ok(Some(Ok((job_id, answer)))) => round.take(job_id, clock.now(), judged(answer, account)),
            // A task that panicked; its job has no answer, as others whose description failed.
            Ok(Some(Err(_))) => round.in_a_row += 1,
            Ok(None) => break,
            Err(_) => {
                // That the time until the next refresh is up is nothing to tell as long as answers come.
                if Instant::now() >= silent || round.answers.is_empty() {
                    let message = "DescribeJob did not answer in time".to_owned();
                    round.failure.get_or_insert(Failure { reason: Reason::Timeout, message });
                }
                break;
            }
        }
    }
    round
}

fn judged(answer: Result<Option<Description>, ApiError>, account: &AccountId) -> Result<Answer, Failure> {
    let Some(description) = answer.map_err(|error| Failure { reason: error.reason, message: error.to_string() })?
    else {
        return Ok(Answer::Gone);
    };
    match description.summary.job_arn.as_deref().and_then(JobArn::parse) {
        Some(arn) if arn.account != *account => {
            let message =
                format!("DescribeJob tells of a job of account {}, but the target is account {account}", arn.account);
            Err(Failure { reason: Reason::AccountMismatch, message })
        }
        _ => Ok(Answer::Told(Box::new(description))),
    }
}
