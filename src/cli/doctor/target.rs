//! The checks of one target, in the order in which one depends on another.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::check::{Check, Outcome};
use crate::aws::rate_limit::{Class, RateLimiters};
use crate::aws::{self, Answered, ApiError, Connection, Identity, Page, Resolved};
use crate::clock::Age;
use crate::collector::walks::query;
use crate::config::{Collectors, Target};
use crate::jobs::{AccountId, JobArn, JobSummary, Scope};
use crate::metrics::{Reason, TargetCounters};

/// The largest difference between the clocks, in seconds. Ages are wrong by it. AWS refuses signatures from 5 minutes on.
const MAX_CLOCK_DIFFERENCE: u64 = 60;

/// The limit for a connection to a proxy.
const PROXY_TIMEOUT: Duration = Duration::from_secs(3);

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
    let (region, has_own_endpoint) = (resolved.region().to_owned(), resolved.has_own_endpoint());
    let connection = Connection::open(resolved, limiters, Arc::new(TargetCounters::new(Vec::new())));
    let permissions = Permission::needed_by(&target.collectors);
    TargetChecks { target, region, connection, permissions, has_own_endpoint }.run(report).await;
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

    /// The shipped policy that allows it.
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
    /// Whether it is not AWS's own endpoint.
    has_own_endpoint: bool,
}

impl TargetChecks<'_> {
    async fn run(&self, report: &mut impl FnMut(Check)) {
        let source = self.connection.credentials_source().await;
        let has_credentials = source.is_ok();
        report(Check::new("credentials", source.map_or_else(|error| fault(&error), Outcome::Ok)));
        if !has_credentials {
            self.skip(
                &["proxy", "endpoint", "clock", "identity"],
                "without credentials, no request can be sent",
                report,
            );
            return;
        }
        // Any job shows whether the region is the right one.
        let any = query(&self.target.scope, None);
        let listed = self.connection.list_jobs(&any, None, Class::OpenWalk).await;
        report(Check::new("proxy", proxy(self.connection.proxy()).await));
        let answer = self.connection.last_answer();
        let Some(Answered { host, latency, clock_difference }) = answer.filter(|_| is_of_aws(&listed)) else {
            let outcome = match &listed {
                Err(error) => self.unreachable(error),
                Ok(_) => Outcome::Skipped("no answer".to_owned()),
            };
            report(Check::new("endpoint", outcome));
            self.skip(&["clock", "identity"], "the endpoint does not answer as AWS IoT does", report);
            return;
        };
        let answered = format!("{host} answered after {} ms", latency.as_millis());
        report(Check::new("endpoint", Outcome::Ok(answered)));
        report(Check::new("clock", clock(clock_difference)));
        let account = self.identity(listed.as_ref().ok(), report).await;
        self.permissions(listed, account.as_ref(), report).await;
    }

    /// An endpoint that did not answer, or not as AWS IoT does.
    fn unreachable(&self, error: &ApiError) -> Outcome {
        let is_proxied = self.connection.proxy().is_some();
        let fix = if error.cause.contains("certificate") {
            "if a proxy decrypts HTTPS, set AWS_CA_BUNDLE to a file with the CA certificate of the proxy"
        } else if is_proxied {
            "check user and password of the proxy, and whether it allows the endpoint; NO_PROXY has the hosts that need no proxy"
        } else if self.has_own_endpoint {
            "check endpoint_url or AWS_ENDPOINT_URL: its scheme, host and port, and whether it is AWS IoT"
        } else if error.reason == Reason::Configuration {
            "check the region and the keys use_fips and use_dualstack"
        } else {
            "check that the region exists, then name resolution, route and firewall between this machine and the endpoint"
        };
        Outcome::fault(error, fix)
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
                    let why = "a request for tags needs the account, which is unknown".to_owned();
                    report(Check::new(permission.action(), Outcome::Skipped(why)));
                    continue;
                }
            };
            let is_filtered = self.target.scope != Scope::default();
            let no_jobs = (!has_jobs).then_some(NoJobs { region: &self.region, is_filtered });
            report(Check::new(permission.action(), allowed(*permission, asked, no_jobs)));
        }
    }

    async fn describe(&self, job_id: &str) -> Result<(), ApiError> {
        let permit = self.connection.describe_permit(Class::OpenWalk).await?;
        self.connection.describe_job(job_id, permit).await.map(|_| ())
    }

    /// Asks STS who the credentials belong to, and returns the account of the jobs.
    async fn identity(&self, listed: Option<&Page<JobSummary>>, report: &mut impl FnMut(Check)) -> Option<AccountId> {
        let mut identity = self.connection.identity().await;
        if identity.as_ref().is_err_and(|error| error.reason == Reason::Credentials) {
            // If only the clock differs, the SDK has learned AWS's time from the first answer.
            identity = self.connection.identity().await;
        }
        let account = |job: &JobSummary| job.job_arn.as_deref().and_then(JobArn::parse).map(|arn| arn.account);
        let of_jobs = listed.and_then(|page| page.items.iter().find_map(account));
        let configured = self.target.account_id.clone();
        let outcome = match (&identity, &configured) {
            (Ok(Identity { account, arn }), _) => {
                let arn = arn.as_deref().unwrap_or("a user or role that STS does not name");
                Outcome::Ok(format!("{arn}, account {account}"))
            }
            // With account_id, the exporter does not ask STS.
            (Err(error), Some(_)) => Outcome::Warning(format!(
                "{} {}: STS is not needed, since account_id is set",
                error.operation, error.location
            )),
            (Err(error), None) => fault(error),
        };
        report(Check::new("identity", outcome));
        let account = of_jobs.or_else(|| identity.ok().map(|identity| identity.account));
        match (account, configured) {
            (Some(account), Some(configured)) if account != configured => {
                let what = format!("the jobs belong to account {account}, and targets[].account_id is {configured}");
                report(Check::new(
                    "account",
                    Outcome::fault(what, "correct account_id, or use credentials of that account"),
                ));
                Some(account)
            }
            (account, configured) => account.or(configured),
        }
    }
}

/// Whether an answer has the form of AWS's, and not of a proxy or a login page.
fn is_of_aws<T>(answer: &Result<T, ApiError>) -> bool {
    match answer {
        Ok(_) => true,
        Err(error) => {
            let is_code = error.code.as_deref().is_some_and(|code| !code.starts_with("HTTP_"));
            let is_answer = !matches!(error.reason, Reason::Timeout | Reason::Network | Reason::Malformed);
            is_code && is_answer && error.reason != Reason::Configuration
        }
    }
}

/// Tries to connect to the proxy of the endpoint.
async fn proxy(address: Option<String>) -> Outcome {
    let Some(address) = address else { return Outcome::Ok("none for this endpoint".to_owned()) };
    let fault = match timeout(PROXY_TIMEOUT, TcpStream::connect(&address)).await {
        Ok(Ok(_)) => return Outcome::Ok(format!("{address} accepts connections")),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no connection within {} s", PROXY_TIMEOUT.as_secs()),
    };
    let fix = "correct HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, or name the endpoint's host in NO_PROXY";
    Outcome::fault(format_args!("{address}: {fault}"), fix)
}

/// A failed request. The exporter would try again by itself; here, somebody waits.
fn fault(error: &ApiError) -> Outcome {
    let fix = match error.reason {
        Reason::Timeout => "check route and firewall, and try again",
        Reason::Unavailable => "try again: the fault is on AWS's side",
        Reason::Throttled => "try again in a minute: all clients of the account share its quota",
        Reason::Credentials if error.code.as_deref() == Some("UnrecognizedClientException") => {
            "enable the region for the account, or give the exporter valid credentials"
        }
        Reason::Rejected if error.cause.contains("ResourceNotFound") => {
            "check targets[].filter: it names something that does not exist"
        }
        reason => reason.advice(),
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
        return Outcome::Ok(format!("{seconds} s apart from AWS"));
    }
    let direction = if difference > 0 { "behind" } else { "ahead of" };
    let what = format!("this machine's clock is {} {direction} AWS's", Age::from_secs(seconds));
    let fix = "synchronize it, for example with chrony: ages are wrong by this difference, and AWS refuses signatures from 5 minutes on";
    Outcome::fault(what, fix)
}

/// A first page without jobs.
#[derive(Clone, Copy, Debug)]
struct NoJobs<'a> {
    region: &'a str,
    is_filtered: bool,
}

/// The result of a permission. Without jobs, AWS was asked for one that does not exist.
fn allowed(permission: Permission, asked: Result<(), ApiError>, no_jobs: Option<NoJobs<'_>>) -> Outcome {
    match (asked, no_jobs) {
        (Ok(()), None) => Outcome::Ok("allowed".to_owned()),
        (Ok(()), Some(NoJobs { is_filtered: true, .. })) if permission == Permission::ListJobs => {
            Outcome::Warning("allowed, but no job matches targets[].filter on the first page".to_owned())
        }
        (Ok(()), Some(NoJobs { region, .. })) if permission == Permission::ListJobs => Outcome::Warning(format!(
            "allowed, but no jobs are on the first page in {region}: is this the right region?"
        )),
        (Ok(()), Some(_)) => Outcome::Ok("not denied (tested with a job that does not exist)".to_owned()),
        (Err(error), _) if error.reason == Reason::Denied => {
            let fix = format!("grant {} to this identity: {} has the policy", permission.action(), permission.policy());
            Outcome::fault(error, fix)
        }
        (Err(error), _) => fault(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_at_fault_from_a_minute_on_in_either_direction() {
        assert_eq!(clock(Some(-60)), Outcome::Ok("60 s apart from AWS".to_owned()));
        for (difference, expected) in [(3_600, "1 h 0 min behind AWS's"), (-61, "1 min 1 s ahead of AWS's")] {
            let Outcome::Fault(text) = clock(Some(difference)) else { panic!("{difference} is a fault") };
            assert!(text.contains(expected), "{text}");
        }
        assert!(matches!(clock(None), Outcome::Skipped(_)));
    }
}
