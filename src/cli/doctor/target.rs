//! The checks of one target, in the order in which one depends on another.

use std::sync::Arc;

use super::check::{Check, Outcome};
use crate::aws::rate_limit::{Class, RateLimiters};
use crate::aws::{self, Answered, ApiError, Connection, Identity, Page, Resolved};
use crate::clock::Age;
use crate::collector::walks::query;
use crate::config::{Collectors, Target};
use crate::jobs::{AccountId, JobSummary};
use crate::metrics::{Reason, TargetCounters};

/// The largest difference between the clocks, in seconds. Ages are wrong by it. AWS refuses signatures from 5 minutes on.
const MAX_CLOCK_DIFFERENCE: u64 = 60;

/// The id of a job that does not exist, for an account without jobs.
const NO_JOB: &str = "aws-iot-jobs-exporter-doctor";

/// Checks a target.
pub(super) async fn check(
    target: &Target,
    resolved: Resolved,
    limiters: &Arc<RateLimiters>,
    report: &mut impl FnMut(Check),
) {
    report(Check::new("region", Outcome::Ok(resolved.region().to_owned())));
    report(Check::new(
        "certificates",
        match aws::trusted_certificates(target) {
            Ok(found) => Outcome::Ok(found),
            Err(_) if !resolved.uses_https() => Outcome::Skipped("the endpoint is not HTTPS".to_owned()),
            Err(what) => {
                let fix = "install the package ca-certificates, or name a file of certificates in AWS_CA_BUNDLE";
                Outcome::fault(what, fix)
            }
        },
    ));
    let region = resolved.region().to_owned();
    let connection = Connection::open(resolved, limiters, Arc::new(TargetCounters::new(Vec::new())));
    let permissions = Permission::needed_by(&target.collectors);
    TargetChecks { target, region, connection, permissions }.run(report).await;
}

/// A permission that a collector needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Permission {
    ListJobs,
    DescribeJob,
    ListExecutions,
    ListTags,
}

impl Permission {
    /// Its action in a policy.
    const fn action(self) -> &'static str {
        match self {
            Self::ListJobs => "iot:ListJobs",
            Self::DescribeJob => "iot:DescribeJob",
            Self::ListExecutions => "iot:ListJobExecutionsForJob",
            Self::ListTags => "iot:ListTagsForResource",
        }
    }

    /// The shipped policy that has it.
    const fn policy(self) -> &'static str {
        match self {
            Self::ListJobs => "config/iam/counts.json",
            Self::DescribeJob => "config/iam/details.json",
            Self::ListExecutions => "config/iam/executions.json",
            Self::ListTags => "config/iam/tags.json",
        }
    }

    /// Those that the collectors of a target need.
    fn needed_by(Collectors { details, executions, tags, .. }: &Collectors) -> Vec<Self> {
        let needed = [
            (Self::ListJobs, true),
            (Self::DescribeJob, details.enabled),
            (Self::ListExecutions, details.enabled && executions.enabled),
            (Self::ListTags, !tags.keys.is_empty()),
        ];
        needed.into_iter().filter_map(|(permission, is_needed)| is_needed.then_some(permission)).collect()
    }
}

struct TargetChecks<'a> {
    target: &'a Target,
    region: String,
    connection: Connection,
    permissions: Vec<Permission>,
}

impl TargetChecks<'_> {
    async fn run(&self, report: &mut impl FnMut(Check)) {
        let source = self.connection.credentials_source().await;
        let has_credentials = source.is_ok();
        report(Check::new("credentials", source.map_or_else(|error| fault(&error), Outcome::Ok)));
        if !has_credentials {
            self.skip(&["identity", "endpoint", "clock"], "without credentials, no request can be sent", report);
            return;
        }
        let account = self.identity(report).await;
        let any = query(&self.target.scope, None);
        let listed = self.connection.list_jobs(&any, None, Class::OpenWalk).await;
        let Some(Answered { host, latency, clock_difference }) = self.connection.last_answer() else {
            let outcome =
                listed.err().map_or_else(|| Outcome::Skipped("no answer".to_owned()), |error| unreachable(&error));
            report(Check::new("endpoint", outcome));
            self.skip(&["clock"], "the endpoint does not answer", report);
            return;
        };
        let answered = format!("{host} answered after {} ms", latency.as_millis());
        report(Check::new("endpoint", Outcome::Ok(answered)));
        report(Check::new("clock", clock(clock_difference)));
        self.permissions(listed, account.as_ref(), report).await;
    }

    /// Reports that these checks and those of permissions are not possible.
    fn skip(&self, subjects: &[&str], why: &str, report: &mut impl FnMut(Check)) {
        let actions = self.permissions.iter().map(|permission| permission.action());
        for subject in subjects.iter().copied().chain(actions) {
            report(Check::new(subject, Outcome::Skipped(why.to_owned())));
        }
    }

    /// `listed` is the answer of ListJobs.
    async fn permissions(
        &self,
        listed: Result<Page<JobSummary>, ApiError>,
        account: Option<&AccountId>,
        report: &mut impl FnMut(Check),
    ) {
        let connection = &self.connection;
        let job_id =
            listed.as_ref().ok().and_then(|page| page.items.iter().find_map(JobSummary::id)).map(str::to_owned);
        let has_jobs = job_id.is_some();
        let job_id = job_id.as_deref().unwrap_or(NO_JOB);
        for permission in &self.permissions {
            let asked = match (permission, account) {
                (Permission::ListJobs, _) => listed.as_ref().map(|_| ()).map_err(Clone::clone),
                (Permission::DescribeJob, _) => self.describe(job_id).await,
                (Permission::ListExecutions, _) => {
                    connection.list_executions(job_id, None, None, Class::OpenWalk).await.map(|_| ())
                }
                (Permission::ListTags, Some(account)) => {
                    connection.list_tags(account, job_id, Class::OpenWalk).await.map(|_| ())
                }
                (Permission::ListTags, None) => {
                    let why = "a request for tags has the account, which is not known".to_owned();
                    report(Check::new(permission.action(), Outcome::Skipped(why)));
                    continue;
                }
            };
            report(Check::new(permission.action(), allowed(*permission, asked, has_jobs, &self.region)));
        }
    }

    async fn describe(&self, job_id: &str) -> Result<(), ApiError> {
        let permit = self.connection.describe_permit(Class::OpenWalk).await?;
        self.connection.describe_job(job_id, permit).await.map(|_| ())
    }

    /// Asks STS who the credentials belong to, and returns the account.
    async fn identity(&self, report: &mut impl FnMut(Check)) -> Option<AccountId> {
        let configured = self.target.account_id.clone();
        let (account, outcome) = match (self.connection.identity().await, configured) {
            (Ok(Identity { account, arn }), configured) => {
                let arn = arn.unwrap_or_else(|| "a user or role that STS does not name".to_owned());
                if let Some(configured) = configured.filter(|configured| *configured != account) {
                    let what = format!("{arn} is of account {account}, and targets[].account_id is {configured}");
                    let fix = "correct account_id, or use credentials of that account";
                    (Some(configured), Outcome::fault(what, fix))
                } else {
                    let text = format!("{arn}, account {account}");
                    (Some(account), Outcome::Ok(text))
                }
            }
            // With account_id, the exporter does not ask STS.
            (Err(error), Some(configured)) => {
                let text =
                    format!("{error}; the exporter does not need it, since targets[].account_id is {configured}");
                (Some(configured), Outcome::Warning(text))
            }
            (Err(error), None) => (None, fault(&error)),
        };
        report(Check::new("identity", outcome));
        account
    }
}

fn fault(error: &ApiError) -> Outcome {
    Outcome::fault(error, error.reason.advice())
}

/// An endpoint that did not answer.
fn unreachable(error: &ApiError) -> Outcome {
    let fix = if error.cause.contains("certificate") {
        "name the certificates of the authority that signed it, such as that of a proxy which inspects HTTPS, in AWS_CA_BUNDLE"
    } else {
        "check that the region exists, then name resolution, route, proxy and firewall between this machine and the endpoint"
    };
    Outcome::fault(error, fix)
}

/// `difference` is AWS's time minus the own one, in seconds.
fn clock(difference: Option<i64>) -> Outcome {
    let Some(difference) = difference else {
        return Outcome::Skipped("the answer has no date".to_owned());
    };
    let seconds = difference.unsigned_abs();
    if seconds <= MAX_CLOCK_DIFFERENCE {
        return Outcome::Ok(format!("{seconds} s from AWS's"));
    }
    let direction = if difference > 0 { "behind" } else { "ahead of" };
    let what = format!("this machine's clock is {} {direction} AWS's", Age::from_secs(seconds));
    let fix = "synchronize it, for example with chrony: ages are wrong by as much, and AWS refuses signatures from 5 minutes on";
    Outcome::fault(what, fix)
}

/// The result of a permission. Without jobs, AWS was asked for one that does not exist.
fn allowed(permission: Permission, asked: Result<(), ApiError>, has_jobs: bool, region: &str) -> Outcome {
    match asked {
        Ok(()) if has_jobs => Outcome::Ok("allowed".to_owned()),
        Ok(()) if permission == Permission::ListJobs => {
            Outcome::Warning(format!("allowed, but there are no jobs in {region}: is this the right region?"))
        }
        Ok(()) => Outcome::Ok("not denied; asked for a job that does not exist".to_owned()),
        Err(error) if error.reason == Reason::Denied => {
            let fix = format!("allow {} to this identity, as {} does", permission.action(), permission.policy());
            Outcome::fault(error, fix)
        }
        Err(error) => fault(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_at_fault_from_a_minute_on_in_either_direction() {
        assert_eq!(clock(Some(-60)), Outcome::Ok("60 s from AWS's".to_owned()));
        for (difference, expected) in [(3_600, "1 h 0 min behind AWS's"), (-61, "1 min 1 s ahead of AWS's")] {
            let Outcome::Fault(text) = clock(Some(difference)) else { panic!("{difference} is a fault") };
            assert!(text.contains(expected), "{text}");
        }
        assert!(matches!(clock(None), Outcome::Skipped(_)));
    }
}
