//! AWS, as the exporter meets it: the only place that knows the SDK's types.
//!
//! A [`Connection`] is one target's: its credentials, its clients, its retries. Every attempt of its operations goes through
//! the [`http_client`], which spaces, bounds and counts it; every failure becomes an [`ApiError`] with a reason. What
//! [`credentials`] take (`AssumeRole`, for one) is counted too, and is rare enough to need no budget.

mod credentials;
mod error;
#[cfg(test)]
pub(crate) mod fake_http;
mod http_client;
pub mod profiles;
#[cfg(test)]
mod proptests;
pub mod rate_limit;
mod trust;

use std::error::Error;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{AppName, BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_iot::config::http::HttpResponse;
use aws_sdk_iot::config::retry::{RetryConfig, RetryPartition, TokenBucket};
use aws_sdk_iot::config::timeout::TimeoutConfig;
use aws_sdk_iot::config::{SharedHttpClient, StalledStreamProtectionConfig};
use aws_sdk_iot::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_iot::operation::describe_job::DescribeJobError;
use aws_sdk_iot::primitives::DateTime;
use aws_sdk_iot::types;
use aws_smithy_http_client::tls::TrustStore;

use crate::clock::Clock;
use crate::config::{self, Target};
use crate::job::{
    AccountId, Description, ExecutionCounts, ExecutionStatus, JobSummary, JobTarget, Schedule, Start, Status,
    TargetSelection, Timestamp, parse_start_time,
};
use crate::telemetry::{Reason, TargetTelemetry};
pub use credentials::SsoTokens;
use credentials::{CredentialRequests, ObservedProvider, ReloadingProvider, ResettableIdentityCache, SigningClock};
pub use error::{ApiError, ConnectError};
use http_client::Proxies;
use profiles::SharedFiles;
use rate_limit::{RateLimiters, TargetLimiter};
pub use trust::CaBundles;

/// The largest page that `ListJobs` gives. The default is not documented, so it is always asked for.
/// Source: [ListJobs](https://docs.aws.amazon.com/iot/latest/apireference/API_ListJobs.html), `maxResults`.
pub const PAGE_SIZE: i32 = 250;

/// For the TCP and TLS handshakes. The SDK's own default.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(3100);

/// Attempts of an operation, the first one included: the SDK's standard.
const MAX_ATTEMPTS: u32 = 3;

/// The longest job id that is asked for, in bytes. AWS's own have 64 characters; the SDK panics where a request's line gets
/// longer than HTTP allows.
const MAX_JOB_ID: usize = 1024;

/// The longest page token that is sent back, in bytes. With each byte escaped it still fits into the 65,534 bytes of a
/// request's line, beyond which the SDK panics.
const MAX_TOKEN: usize = 16 << 10;

/// What spares the call to STS.
const WITHOUT_STS: &str = "STS is asked only for the account id: let it be reached, or set targets[].account_id";

const LIST_JOBS: &str = "ListJobs";
const DESCRIBE_JOB: &str = "DescribeJob";
const GET_CALLER_IDENTITY: &str = "GetCallerIdentity";

/// A page of `ListJobs`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Its jobs; a page can be empty and still not be the last.
    pub jobs: Vec<JobSummary>,
    /// The token of the next page; `None` at the end.
    pub next_token: Option<String>,
}

/// Which jobs to list: `ListJobs`' own parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only this status.
    pub status: Option<Status>,
    /// Only this target selection.
    pub target_selection: Option<TargetSelection>,
    /// Only jobs whose target is this group.
    pub thing_group_name: Option<String>,
    /// Only jobs whose target is the group with this id.
    pub thing_group_id: Option<String>,
    /// Only jobs of this namespace.
    pub namespace_id: Option<String>,
}

/// One target's way to AWS.
#[derive(Debug)]
pub struct Connection {
    iot: aws_sdk_iot::Client,
    sts: aws_sdk_sts::Client,
    region: String,
    configured_account: Option<AccountId>,
    credentials: ObservedProvider,
    identity: ResettableIdentityCache,
    /// The account that `GetCallerIdentity` named, and the identity that it named it for.
    account: Mutex<Option<(credentials::Fingerprint, AccountId)>>,
    limiter: Arc<TargetLimiter>,
    telemetry: TargetTelemetry,
}

/// A target's settings with everything that the SDK found in the environment. It still has no name to count under.
#[derive(Debug)]
pub struct Resolved {
    sdk: aws_config::SdkConfig,
    region: String,
    target: Target,
    credential_requests: CredentialRequests,
}

impl Resolved {
    /// The region that the target is in.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The target's name: its own, else its region.
    #[must_use]
    pub fn name(&self) -> &str {
        self.target.name.as_deref().unwrap_or(&self.region)
    }
}

/// How AWS is reached, the same for all targets.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Carries every request, those for credentials included.
    pub http: SharedHttpClient,
    /// Used in place of the usual sources where set. The demo's fleet has its own.
    pub credentials: Option<SharedCredentialsProvider>,
    /// Clients that trust other certificates than the system's.
    pub ca_bundles: CaBundles,
    /// What all targets know of tokens of IAM Identity Center.
    pub sso_tokens: SsoTokens,
}

impl ClientOptions {
    /// The way to the real AWS: HTTPS, and credentials from where AWS's own tools find them.
    #[must_use]
    pub fn usual() -> Self {
        let http = http_client::client(Proxies::FromEnvironment, trust::system());
        Self { http, credentials: None, ca_bundles: CaBundles::default(), sso_tokens: SsoTokens::default() }
    }

    /// The way to an endpoint in this process, with an access key that it knows. No proxy, no credentials of the machine.
    #[must_use]
    pub fn local(access_key_id: &str, secret_access_key: &str) -> Self {
        let credentials = Credentials::new(access_key_id, secret_access_key, None, None, "local");
        Self {
            http: http_client::client(Proxies::None, TrustStore::empty()),
            credentials: Some(SharedCredentialsProvider::new(credentials)),
            ca_bundles: CaBundles::default(),
            sso_tokens: SsoTokens::default(),
        }
    }

    /// The client for a target with this profile: that of the CA bundle that the environment or the profile names.
    fn http_for(&self, profile: Option<&str>, files: &SharedFiles) -> Result<SharedHttpClient, String> {
        let of_environment = std::env::var_os(trust::CA_BUNDLE).map(PathBuf::from);
        let bundle = of_environment.or_else(|| files.ca_bundle(profile.unwrap_or(profiles::DEFAULT)));
        // Credentials of one's own are for an endpoint in this process, which speaks no TLS.
        match bundle.filter(|_| self.credentials.is_none()) {
            Some(path) => self.ca_bundles.client(&path),
            None => Ok(self.http.clone()),
        }
    }
}

/// Finds a target's region and credential sources: its own keys first, then the usual AWS variables, profiles and services.
/// Requests are signed, and credentials end, by `clock`. `timeout` bounds each operation with all its attempts and their
/// waits for a permit.
///
/// # Errors
/// Where no region is to be found, or what is found can't be one, or the endpoint that is found can't be one.
pub async fn resolve(
    target: &Target,
    options: &ClientOptions,
    clock: Clock,
    timeout: Duration,
) -> Result<Resolved, ConnectError> {
    let files = SharedFiles::of_process();
    let named_profile = files.named_profile(target.profile.as_deref());
    let http = options.http_for(named_profile, &files);
    let http = http.map_err(|reason| ConnectError::NoTrust { target: target.name.clone(), reason })?;
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_timeout(timeout).build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http_client::bounded(http))
        .timeout_config(timeouts)
        .profile_files(files.for_sdk())
        .profile_name(named_profile.unwrap_or(profiles::DEFAULT))
        .time_source(SigningClock(clock))
        .retry_config(RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS))
        // Bodies are read whole and within the attempt's timeout; there is no stream left to watch.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Ok(name) = AppName::new(env!("CARGO_PKG_NAME")) {
        loader = loader.app_name(name);
    }
    if let Some(credentials) = &options.credentials {
        // The switches of the environment are for the real AWS, and can't be combined with an endpoint of one's own.
        loader = loader.credentials_provider(credentials.clone()).use_fips(false).use_dual_stack(false);
    }
    let mut region = target.region.clone().map(Region::new);
    // In the SDK's own chain the environment comes before any profile, and a target that names one means that one.
    if let (Some(profile), None) = (&target.profile, &region) {
        let of_profile =
            |name: &str| ProfileFileRegionProvider::builder().profile_files(files.for_sdk()).profile_name(name).build();
        let chain = RegionProviderChain::first_try(of_profile(profile))
            .or_else(EnvironmentVariableRegionProvider::new())
            .or_else(of_profile(files.named_profile(None).unwrap_or(profiles::DEFAULT)));
        // If they have none, the loader goes on to the instance's metadata.
        region = chain.region().await;
    }
    if let Some(region) = region {
        loader = loader.region(region);
    }
    if let Some(url) = &target.endpoint_url {
        // As above: the switches of the environment are for AWS's own endpoints.
        loader = loader.endpoint_url(url).use_fips(false).use_dual_stack(false);
    }
    if let Some(use_fips) = target.use_fips {
        loader = loader.use_fips(use_fips);
    }
    if let Some(use_dualstack) = target.use_dualstack {
        loader = loader.use_dual_stack(use_dualstack);
    }
    let mut sdk = loader.load().await;
    let Some(region) = sdk.region().map(ToString::to_string).filter(|region| !region.is_empty()) else {
        let faults = files.faults(named_profile).lines;
        return Err(ConnectError::NoRegion { target: target.name.clone(), faults });
    };
    if !config::is_region(&region) {
        return Err(ConnectError::InvalidRegion { target: target.name.clone(), region });
    }
    let of_environment = ["AWS_ENDPOINT_URL_IOT", "AWS_ENDPOINT_URL_STS"].map(|name| (name, std::env::var(name).ok()));
    let of_all = ("AWS_ENDPOINT_URL, or endpoint_url in the AWS profile", sdk.endpoint_url().map(str::to_owned));
    // The environment has nothing to say where an endpoint is given here.
    let applies = target.endpoint_url.is_none() && options.credentials.is_none();
    for (found_in, url) in of_environment.into_iter().chain([of_all]) {
        if applies && url.is_some_and(|url| !config::is_endpoint_url(&url)) {
            return Err(ConnectError::InvalidEndpoint { target: target.name.clone(), found_in });
        }
    }
    let requests = CredentialRequests::default();
    if options.credentials.is_none() || target.profile.is_some() {
        let (profile, tokens) = (target.profile.clone(), options.sso_tokens.clone());
        let provider = ReloadingProvider::new(&sdk, profile, tokens, requests.clone());
        sdk = credentials::reloading(sdk, provider);
    }
    if let Some(role) = &target.role_arn {
        sdk = credentials::assume(&sdk, role, target, &requests);
    }
    Ok(Resolved { sdk, region, target: target.clone(), credential_requests: requests })
}

impl Connection {
    /// Makes the clients of a target. Sends nothing yet.
    #[must_use]
    pub fn open(resolved: Resolved, limiters: &Arc<RateLimiters>, telemetry: TargetTelemetry) -> Self {
        let limiter = Arc::new(TargetLimiter::new(Arc::clone(limiters), resolved.name(), resolved.region.clone()));
        let Resolved { sdk, region, target, credential_requests } = resolved;
        credential_requests.count_for(telemetry.clone());
        let http = sdk.http_client().map(|http| http_client::metered(http, Arc::clone(&limiter), telemetry.clone()));
        let watched = ObservedProvider::new(sdk.credentials_provider());
        // One provider for both clients, and so one place in the identity cache: else each would have credentials of its
        // own, and the account that STS tells could be another than the one that lists jobs.
        let shared = SharedCredentialsProvider::new(watched.clone());
        let identity = ResettableIdentityCache::new();
        let watch = http_client::Watch::new(telemetry.clone());
        // The SDK's budget of retries is otherwise one for all accounts of a region: one that fails would use up those of all. And
        // within a target, DescribeJob's failures would use up those of ListJobs. Our rate limit bounds retries already.
        let partition = RetryPartition::custom(format!("target {}", limiter.name()));
        let partition = partition.token_bucket(TokenBucket::unlimited()).build();

        let mut iot =
            aws_sdk_iot::config::Builder::from(&sdk).retry_partition(partition.clone()).interceptor(watch.clone());
        let mut sts = aws_sdk_sts::config::Builder::from(&sdk).retry_partition(partition).interceptor(watch);
        iot.set_identity_cache(identity.clone());
        sts.set_identity_cache(identity.clone());
        iot.set_http_client(http.clone()).set_credentials_provider(Some(shared.clone()));
        sts.set_http_client(http).set_credentials_provider(Some(shared));
        Self {
            iot: aws_sdk_iot::Client::from_conf(iot.build()),
            sts: aws_sdk_sts::Client::from_conf(sts.build()),
            region,
            configured_account: target.account_id,
            credentials: watched,
            identity,
            account: Mutex::new(None),
            limiter,
            telemetry,
        }
    }

    /// The account whose jobs this connection lists: the configured one, else what STS says of the credentials. STS is asked
    /// once, and again when the credentials' identity has changed.
    ///
    /// # Errors
    /// Where STS has to be asked, and doesn't tell.
    pub async fn account(&self) -> Result<AccountId, ApiError> {
        if let Some(account) = &self.configured_account {
            self.limiter.known_account(account);
            return Ok(account.clone());
        }
        let known = self.account.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((fingerprint, account)) = known
            && self.credentials.last_seen() == Some(fingerprint)
        {
            return Ok(account);
        }
        let answer = self.sts.get_caller_identity().send().await;
        let answer = answer.map_err(|error| {
            let failed = self.failed(GET_CALLER_IDENTITY, &error);
            let is_unreachable = matches!(failed.reason, Reason::Timeout | Reason::Network);
            if is_unreachable && error::of_credentials(&error).is_none() { failed.hinting(WITHOUT_STS) } else { failed }
        })?;
        let account = answer.account().map(AccountId::parse).and_then(Result::ok).ok_or_else(|| {
            ApiError::new(
                GET_CALLER_IDENTITY,
                &self.region,
                Reason::Malformed,
                "the answer names no account".to_owned(),
            )
        })?;
        self.limiter.known_account(&account);
        let fingerprint = self.credentials.last_seen();
        *self.account.lock().unwrap_or_else(PoisonError::into_inner) =
            fingerprint.map(|fingerprint| (fingerprint, account.clone()));
        Ok(account)
    }

    /// One page of jobs.
    ///
    /// # Errors
    /// Where all attempts failed, or the answer has no list of jobs: that is a malformed answer, not an empty account.
    pub async fn list_jobs(&self, query: &Query, token: Option<String>) -> Result<Page, ApiError> {
        let request = self
            .iot
            .list_jobs()
            .max_results(PAGE_SIZE)
            .set_status(query.status.as_ref().map(|status| types::JobStatus::from(status.as_str())))
            .set_target_selection(
                query.target_selection.as_ref().map(|selection| types::TargetSelection::from(selection.as_str())),
            )
            .set_thing_group_name(query.thing_group_name.clone())
            .set_thing_group_id(query.thing_group_id.clone())
            .set_namespace_id(query.namespace_id.clone())
            .set_next_token(token);
        let answer = request.send().await.map_err(|error| self.failed(LIST_JOBS, &error))?;
        let Some(jobs) = answer.jobs else {
            let message = "the answer has no list of jobs".to_owned();
            return Err(ApiError::new(LIST_JOBS, &self.region, Reason::Malformed, message));
        };
        // An empty token means the end, as none does.
        let next_token = answer.next_token.filter(|token| !token.is_empty());
        if let Some(token) = next_token.as_ref().filter(|token| token.len() > MAX_TOKEN) {
            let message = format!("the answer has a nextToken of {} bytes, which no request can hold", token.len());
            return Err(ApiError::new(LIST_JOBS, &self.region, Reason::Malformed, message));
        }
        Ok(Page { jobs: jobs.into_iter().map(summary).collect(), next_token })
    }

    /// One job; `None` where there is no such job.
    ///
    /// # Errors
    /// Where all attempts failed, or the answer does not describe this job, or no job can have this id.
    pub async fn describe_job(&self, job_id: &str) -> Result<Option<Description>, ApiError> {
        if job_id.len() > MAX_JOB_ID {
            let message = format!("a job was listed with an id of {} bytes, which no job has", job_id.len());
            return Err(ApiError::new(DESCRIBE_JOB, &self.region, Reason::Malformed, message));
        }
        let answer = match self.iot.describe_job().job_id(job_id).send().await {
            Ok(answer) => answer,
            Err(error) if error.as_service_error().is_some_and(DescribeJobError::is_resource_not_found_exception) => {
                return Ok(None);
            }
            Err(error) => return Err(self.failed(DESCRIBE_JOB, &error)),
        };
        let description = answer.job.map(description).filter(|job| job.summary.id() == Some(job_id));
        description.map(Some).ok_or_else(|| {
            let message = "the answer does not describe the job that was asked for".to_owned();
            ApiError::new(DESCRIBE_JOB, &self.region, Reason::Malformed, message)
        })
    }

    /// What is to be told of a call that failed. Credentials that are refused are not used again.
    fn failed<E>(&self, operation: &'static str, error: &SdkError<E, HttpResponse>) -> ApiError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let error = ApiError::from_sdk(operation, &self.region, error);
        if error.reason == Reason::Credentials {
            self.identity.forget();
        }
        error
    }

    /// Whether the credentials that were used last end some day, and are renewed then.
    #[must_use]
    pub fn has_temporary_credentials(&self) -> bool {
        self.credentials.are_temporary()
    }

    /// How far apart the requests of one operation are at least.
    #[must_use]
    pub fn spacing(&self) -> Duration {
        self.limiter.spacing()
    }

    /// Requests sent so far, retries included.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.telemetry.requests()
    }
}

fn summary(job: types::JobSummary) -> JobSummary {
    JobSummary {
        target_selection: job.target_selection.map(|selection| selection.as_str().into()),
        status: job.status.map(|status| status.as_str().into()),
        created_at: job.created_at.and_then(timestamp),
        last_updated_at: job.last_updated_at.and_then(timestamp),
        completed_at: job.completed_at.and_then(timestamp),
        is_concurrent: job.is_concurrent,
        job_id: job.job_id,
        job_arn: job.job_arn,
        thing_group_id: job.thing_group_id,
    }
}

fn description(job: types::Job) -> Description {
    let told = job.job_process_details;
    let executions = ExecutionCounts::from_fn(|status| {
        let told = told.as_ref()?;
        let count = match status {
            ExecutionStatus::Queued => told.number_of_queued_things,
            ExecutionStatus::InProgress => told.number_of_in_progress_things,
            ExecutionStatus::Succeeded => told.number_of_succeeded_things,
            ExecutionStatus::Failed => told.number_of_failed_things,
            ExecutionStatus::TimedOut => told.number_of_timed_out_things,
            ExecutionStatus::Rejected => told.number_of_rejected_things,
            ExecutionStatus::Removed => told.number_of_removed_things,
            ExecutionStatus::Canceled => told.number_of_canceled_things,
        };
        count.and_then(|count| u32::try_from(count).ok())
    });
    let targets = job.targets.filter(|targets| !targets.is_empty());
    Description {
        targets: targets.map(|arns| arns.iter().map(|arn| JobTarget::parse(arn)).collect()),
        executions,
        schedule: schedule(job.scheduling_config.as_ref()),
        summary: JobSummary {
            target_selection: job.target_selection.map(|selection| selection.as_str().into()),
            status: job.status.map(|status| status.as_str().into()),
            created_at: job.created_at.and_then(timestamp),
            last_updated_at: job.last_updated_at.and_then(timestamp),
            completed_at: job.completed_at.and_then(timestamp),
            is_concurrent: job.is_concurrent,
            job_id: job.job_id,
            job_arn: job.job_arn,
            thing_group_id: None,
        },
    }
}

/// One that is not there, or empty, is that of a job without a schedule.
fn schedule(told: Option<&types::SchedulingConfig>) -> Schedule {
    let Some(told) = told else { return Schedule::default() };
    let windowed = told.maintenance_windows.as_ref().is_some_and(|windows| !windows.is_empty());
    let start = told
        .start_time
        .as_deref()
        .filter(|text| !text.is_empty())
        .map_or(Start::AtOnce, |text| parse_start_time(text).map_or(Start::Unreadable, Start::At));
    Schedule { start, windowed }
}

/// A time before 1970 or after [`Timestamp::LATEST`] is no time that anything happened to a job at.
///
/// To the nearest millisecond: the SDK reads seconds with a fraction as a float, and so a little less than was written.
fn timestamp(time: DateTime) -> Option<Timestamp> {
    let millis = (time.as_nanos() + 500_000).div_euclid(1_000_000);
    let time = i64::try_from(millis).ok().map(Timestamp::from_millis)?;
    (Timestamp::from_millis(0)..=Timestamp::LATEST).contains(&time).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_kept_to_the_millisecond_that_was_written() {
        for (written, millis) in [(1_790_000_000.063, 1_790_000_000_063), (1_560_787_022.733, 1_560_787_022_733)] {
            assert_eq!(timestamp(DateTime::from_secs_f64(written)), Some(Timestamp::from_millis(millis)));
        }
    }

    #[test]
    fn a_time_that_nothing_can_have_happened_at_is_none() {
        for secs in [-1, i64::MIN, Timestamp::LATEST.as_millis() / 1000 + 1, i64::MAX] {
            assert_eq!(timestamp(DateTime::from_secs(secs)), None, "{secs}");
        }
    }
}
