//! Asking `DescribeJob` of many jobs: within the budget, until the time is up, and no longer than AWS answers.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::aws::{ApiError, Connection};
use crate::clock::{Clock, Moment};
use crate::exposition::board::Failure;
use crate::job::{AccountId, Description, JobArn};
use crate::snapshot::Permission;
use crate::telemetry::Reason;

/// Requests under way at once. The budget spaces them; this only keeps it used where answers take their time.
const PARALLEL: usize = 8;

/// After so many failures in a row that are not about a single job, the rest is left for the next time.
const PATIENCE: u32 = 3;

/// What came of asking.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Of which jobs it is known how they are, and since when.
    pub(super) answers: Vec<(Box<str>, Moment, Answer)>,
    /// Of which jobs AWS gives no description, though it describes others: it will not be otherwise soon.
    pub(super) refused: Vec<Box<str>>,
    /// The first failure, of whatever kind.
    pub(super) failure: Option<Failure>,
    /// How many requests were refused for lack of permission.
    denials: u64,
    told: u64,
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
    /// Whether the identity may describe jobs, as far as this round tells.
    pub(super) fn permission(&self) -> Permission {
        match self.denials {
            0 => Permission::Granted,
            _ if self.is_denied() => Permission::Denied,
            _ => Permission::Partial,
        }
    }

    /// Whether it may describe no job at all. A job that is gone would be denied as well.
    pub(super) fn is_denied(&self) -> bool {
        self.denials > 0 && self.answers.is_empty()
    }

    /// How many jobs were described.
    pub(super) fn described(&self) -> u64 {
        self.told
    }

    /// The jobs of which something became known.
    pub(super) fn answered(&self) -> HashSet<&str> {
        self.answers.iter().map(|(job_id, ..)| &**job_id).collect()
    }

    fn take(&mut self, job_id: Box<str>, at: Moment, outcome: Result<Answer, Failure>) {
        match outcome {
            Ok(answer) => {
                self.told += u64::from(matches!(answer, Answer::Told(_)));
                self.in_a_row = 0;
                self.answers.push((job_id, at, answer));
            }
            Err(failure) => {
                match failure.reason {
                    Reason::Denied => {
                        self.denials += 1;
                        // Where nothing else comes back either, it is the identity and not the job.
                        self.in_a_row = if self.answers.is_empty() { self.in_a_row + 1 } else { 0 };
                        self.refused.push(job_id);
                    }
                    Reason::Rejected | Reason::Malformed => {
                        self.in_a_row = 0;
                        self.refused.push(job_id);
                    }
                    _ => self.in_a_row += 1,
                }
                self.failure.get_or_insert(failure);
            }
        }
    }
}

/// Describes `jobs` in this order, until all are, or `until`, or there is no sense in going on.
pub(super) async fn describe(
    connection: &Arc<Connection>,
    account: &AccountId,
    clock: Clock,
    jobs: Vec<Box<str>>,
    until: Instant,
) -> Round {
    let (mut round, mut jobs, mut under_way) = (Round::default(), jobs.into_iter(), JoinSet::new());
    while round.in_a_row < PATIENCE {
        for job_id in jobs.by_ref().take(PARALLEL - under_way.len()) {
            let connection = Arc::clone(connection);
            under_way.spawn(async move {
                let answer = connection.describe_job(&job_id).await;
                (job_id, answer)
            });
        }
        match timeout_at(until, under_way.join_next()).await {
            Ok(Some(Ok((job_id, answer)))) => round.take(job_id, clock.now(), judged(answer, account)),
            // A task that panicked; its job has no answer, as others whose description failed.
            Ok(Some(Err(_))) => round.in_a_row += 1,
            Ok(None) => break,
            Err(_) => {
                let message =
                    "DescribeJob took too long: the time for it was up before all jobs were described".to_owned();
                round.failure.get_or_insert(Failure { reason: Reason::Timeout, message });
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
