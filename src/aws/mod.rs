//! AWS clients. Only this module uses the types of the SDK.
//!
//! A [`Connection`] belongs to one target. Each call goes through the loop in [`request`], which limits its rate and
//! its time, counts it, and retries it; every failure becomes an [`ApiError`] with a reason. The requests of
//! [`credentials`], such as `AssumeRole`, are counted too. They are rare and have no rate limit.

mod credentials;
mod diagnosis;
mod error;
#[cfg(test)]
mod fake_connector;
#[cfg(test)]
pub(crate) mod fake_http;
mod http_client;
pub(crate) mod profiles;
#[cfg(test)]
mod proptests;
pub mod rate_limit;
mod request;
mod trust;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::identity::IdentityCache;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{AppName, BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_iot::config::retry::RetryConfig;
use aws_sdk_iot::config::timeout::TimeoutConfig;
use aws_sdk_iot::config::{SharedHttpClient, StalledStreamProtectionConfig};
use aws_sdk_iot::error::SdkError;
use aws_sdk_iot::operation::describe_job::DescribeJobError;
use aws_sdk_iot::operation::list_job_executions_for_job::ListJobExecutionsForJobError;
use aws_sdk_iot::operation::list_tags_for_resource::ListTagsForResourceError;
use aws_sdk_iot::primitives::DateTime;
use aws_sdk_iot::types;
use aws_smithy_http_client::tls::TrustStore;

use crate::clock::Clock;
use crate::config::{self, Target};
use crate::jobs::{
    AbortCriterion, AccountId, Description, ExecutionCounts, ExecutionLimits, ExecutionStatus, ExecutionSummary,
    JobSummary, JobTarget, Schedule, Start, Status, Tag, TargetSelection, ThingName, Timestamp, parse_start_time,
    thing_name,
};
use crate::metrics::{Reason, TargetCounters};
pub use credentials::SsoTokens;
use credentials::{CredentialRequests, CredentialsCache, Fingerprint, FoundIn, ReloadingProvider, SigningClock};
use error::one_line;
pub use error::{ApiError, ConnectError};
use http_client::Proxies;
use profiles::SharedFiles;
use rate_limit::{Class, RateLimiters, TargetLimiter};
pub use request::Answered;
pub(crate) use request::Operation;
use request::{Caller, Host, Permit};
pub use trust::CaBundles;

/// The largest page of `ListJobs` and `ListJobExecutionsForJob`. The default is not documented, so each request sets
/// it. Sources: [ListJobs](https://docs.aws.amazon.com/iot/latest/apireference/API_ListJobs.html) and
/// [ListJobExecutionsForJob](https://docs.aws.amazon.com/iot/latest/apireference/API_ListJobExecutionsForJob.html),
/// `maxResults`.
pub const PAGE_SIZE: i32 = 250;

/// The limit for the TCP and TLS handshakes; the default of the SDK.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(3100);

/// Attempts of the SDK's own calls for credentials; the default of the SDK.
const MAX_ATTEMPTS: u32 = 3;

/// The limit of pages of tags. A resource has up to 50 tags
/// ([quotas](https://docs.aws.amazon.com/general/latest/gr/iot-core.html)), so more pages mean a faulty server.
const MAX_TAG_PAGES: usize = 50;

/// The longest job id in requests, in bytes. AWS's own have up to 64 characters; the SDK panics if the request line
/// exceeds the limit of HTTP.
const MAX_JOB_ID: usize = 1024;

/// The longest page token in requests, in bytes. With each byte escaped, it fits into the 65,534 bytes of a request
/// line; beyond that, the SDK panics.
const MAX_TOKEN: usize = 16 << 10;

/// A hint for failures of STS.
const WITHOUT_STS: &str = "STS is asked only for the account id: allow access to it, or set targets[].account_id";

pub(crate) const LIST_JOBS: Operation = Operation::page("ListJobs");
pub(crate) const DESCRIBE_JOB: Operation = Operation::single("DescribeJob");
pub(crate) const LIST_EXECUTIONS: Operation = Operation::page("ListJobExecutionsForJob");
pub(crate) const LIST_TAGS: Operation = Operation::single("ListTagsForResource");
const GET_CALLER_IDENTITY: Operation = Operation::single("GetCallerIdentity");

/// A page of jobs or of executions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items. A page can be empty without being the last.
    pub items: Vec<T>,
    /// The token of the next page; `None` at the end.
    pub next_token: Option<String>,
}

/// The filters of `ListJobs`.
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

/// The AWS clients of one target.
#[derive(Debug)]
pub struct Connection {
    iot: aws_sdk_iot::Client,
    iot_host: Host,
    sts: aws_sdk_sts::Client,
    sts_host: Host,
    caller: Caller,
    configured_account: Option<AccountId>,
    configured_role: Option<String>,
    found_in: FoundIn,
    /// The account from `GetCallerIdentity`, with the fingerprint of the credentials.
    account: Mutex<Option<(Fingerprint, AccountId)>>,
}

/// Who requests are sent for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The account.
    pub account: AccountId,
    /// The user or the assumed role; `None` if STS did not name one.
    pub arn: Option<String>,
}

/// Permits one request of `DescribeJob`.
#[derive(Debug)]
pub struct DescribePermit(Permit);

/// A target's settings, completed from the environment. It has no counters yet.
#[derive(Debug)]
pub struct Resolved {
    sdk: aws_config::SdkConfig,
    clock: Clock,
    region: String,
    target: Target,
    credential_requests: CredentialRequests,
    found_in: FoundIn,
}

impl Resolved {
    /// The target's region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The target's name, or its region if it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.target.name.as_deref().unwrap_or(&self.region)
    }

    /// Whether an endpoint is configured that is not AWS's own.
    #[must_use]
    pub fn has_own_endpoint(&self) -> bool {
        self.sdk.endpoint_url().is_some() || std::env::var_os("AWS_ENDPOINT_URL_IOT").is_some()
    }

    /// Whether requests go to AWS or to another endpoint with HTTPS.
    #[must_use]
    pub fn uses_https(&self) -> bool {
        !self.sdk.endpoint_url().is_some_and(|url| url.starts_with("http:"))
    }
}

/// Client settings of the process, the same for all targets.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The HTTP client for all requests, including those for credentials.
    pub http: SharedHttpClient,
    /// If set, replaces the usual sources of credentials, as in the demo.
    pub credentials: Option<SharedCredentialsProvider>,
    /// HTTP clients with other trusted certificates than the system's.
    pub ca_bundles: CaBundles,
    /// Renewed tokens of IAM Identity Center, shared by all targets.
    pub sso_tokens: SsoTokens,
}

impl ClientOptions {
    /// The options for AWS: HTTPS, and credentials from the usual sources of AWS tools.
    #[must_use]
    pub fn usual() -> Self {
        let http = http_client::client(Proxies::FromEnvironment, trust::system());
        Self { http, credentials: None, ca_bundles: CaBundles::default(), sso_tokens: SsoTokens::default() }
    }

    /// The options for an endpoint in this process, with an access key: no proxy, no credentials of the machine.
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

    /// The HTTP client for a target with this profile, with the CA bundle of the environment or the profile.
    fn http_for(&self, profile: Option<&str>, files: &SharedFiles) -> Result<SharedHttpClient, String> {
        // Fixed credentials are for an endpoint in this process, without TLS.
        match ca_bundle(profile, files).filter(|_| self.credentials.is_none()) {
            Some((_, path)) => self.ca_bundles.client(&path),
            None => Ok(self.http.clone()),
        }
    }
}

/// The CA bundle of the environment or of a profile, with the setting that names it.
fn ca_bundle(profile: Option<&str>, files: &SharedFiles) -> Option<(String, PathBuf)> {
    if let Some(path) = std::env::var_os(trust::CA_BUNDLE) {
        return Some((trust::CA_BUNDLE.to_owned(), PathBuf::from(path)));
    }
    let profile = profile.unwrap_or(profiles::DEFAULT);
    Some((format!("ca_bundle of profile {profile:?}"), files.ca_bundle(profile)?))
}

/// The certificates that a target trusts: their number and source.
///
/// # Errors
/// If the source has no usable certificate.
pub fn trusted_certificates(target: &Target) -> Result<String, String> {
    let files = SharedFiles::of_process();
    let (number, source) = match ca_bundle(files.named_profile(target.profile.as_deref()), &files) {
        Some((setting, path)) => {
            let number = trust::in_bundle(&path).map_err(|reason| format!("{setting}: {reason}"))?;
            (number, format!("{} ({setting})", one_line(&path.to_string_lossy())))
        }
        None => trust::of_system()?,
    };
    Ok(format!("{number} trusted {} from {source}", if number == 1 { "certificate" } else { "certificates" }))
}

/// Determines a target's region and credential sources: its own keys first, then the usual AWS variables, profiles and
/// services. `clock` is used for signatures and for the end of credentials.
///
/// # Errors
/// If there is no region, or the region, the endpoint or the CA bundle is invalid.
pub async fn resolve(target: &Target, options: &ClientOptions, clock: Clock) -> Result<Resolved, ConnectError> {
    let (profile, clients) = (target.profile.clone(), options.clone());
    let read = credentials::blocking(move || {
        let files = SharedFiles::of_process();
        let http = clients.http_for(files.named_profile(profile.as_deref()), &files);
        http.map(|http| (files, http))
    });
    let read = read.await.map_err(|error| error.to_string()).flatten();
    let (files, http) = read.map_err(|reason| ConnectError::NoTrust { target: target.name.clone(), reason })?;
    let named_profile = files.named_profile(target.profile.as_deref());
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http_client::bounded(http))
        .timeout_config(timeouts)
        .profile_files(files.for_sdk())
        .profile_name(named_profile.unwrap_or(profiles::DEFAULT))
        .time_source(SigningClock(clock))
        .retry_config(RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS))
        // Bodies are read completely within the timeout of the attempt, so there are no streams to protect.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Ok(name) = AppName::new(env!("CARGO_PKG_NAME")) {
        loader = loader.app_name(name);
    }
    if let Some(credentials) = &options.credentials {
        // The environment's switches apply to AWS endpoints, and cannot be combined with a custom endpoint.
        loader = loader.credentials_provider(credentials.clone()).use_fips(false).use_dual_stack(false);
    }
    let mut region = target.region.clone().map(Region::new);
    // In the SDK's own chain, the environment precedes every profile; a profile that the target names must win.
    if let (Some(profile), None) = (&target.profile, &region) {
        let of_profile =
            |name: &str| ProfileFileRegionProvider::builder().profile_files(files.for_sdk()).profile_name(name).build();
        let chain = RegionProviderChain::first_try(of_profile(profile))
            .or_else(EnvironmentVariableRegionProvider::new())
            .or_else(of_profile(files.named_profile(None).unwrap_or(profiles::DEFAULT)));
        // If they have none, the loader tries the instance's metadata.
        region = chain.region().await;
    }
    if let Some(region) = region {
        loader = loader.region(region);
    }
    if let Some(url) = &target.endpoint_url {
        // As above: the environment's switches apply to AWS endpoints.
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
    // The environment does not apply to an endpoint that is given here.
    let applies = target.endpoint_url.is_none() && options.credentials.is_none();
    for (found_in, url) in of_environment.into_iter().chain([of_all]) {
        if applies && url.is_some_and(|url| !config::is_endpoint_url(&url)) {
            return Err(ConnectError::InvalidEndpoint { target: target.name.clone(), found_in });
        }
    }
    let (requests, found_in) = (CredentialRequests::default(), FoundIn::default());
    if options.credentials.is_none() || target.profile.is_some() {
        let (profile, tokens) = (target.profile.clone(), options.sso_tokens.clone());
        let provider = ReloadingProvider::new(&sdk, profile, tokens, requests.clone(), found_in.clone());
        sdk = credentials::reloading(sdk, provider);
    }
    if let Some(role) = &target.role_arn {
        sdk = credentials::assume(&sdk, role, target, &requests);
    }
    Ok(Resolved { sdk, clock, region, target: target.clone(), credential_requests: requests, found_in })
}

impl Connection {
    /// Creates the clients of a target. Sends no request.
    #[must_use]
    pub fn open(resolved: Resolved, limiters: &Arc<RateLimiters>, counters: Arc<TargetCounters>) -> Self {
        let limiter = TargetLimiter::new(Arc::clone(limiters), resolved.name(), resolved.region.clone());
        let Resolved { sdk, clock, region, target, credential_requests, found_in } = resolved;
        credential_requests.count_for(counters.clone());
        let clock = SigningClock(clock);
        let credentials = CredentialsCache::new(limiter.name(), sdk.credentials_provider(), clock);
        // One provider for both clients: otherwise STS could name another account than the one whose jobs are listed.
        let shared = SharedCredentialsProvider::new(credentials.clone());
        let sdk = sdk
            .into_builder()
            .credentials_provider(shared)
            .identity_cache(IdentityCache::no_cache())
            .retry_config(RetryConfig::disabled())
            .build();
        let (iot_host, sts_host) = (Host::new(clock), Host::new(clock));
        let iot = aws_sdk_iot::config::Builder::from(&sdk).interceptor(iot_host.clone()).build();
        let sts = aws_sdk_sts::config::Builder::from(&sdk).interceptor(sts_host.clone()).build();
        Self {
            iot: aws_sdk_iot::Client::from_conf(iot),
            iot_host,
            sts: aws_sdk_sts::Client::from_conf(sts),
            sts_host,
            caller: Caller { limiter, credentials, counters, clock, region },
            configured_account: target.account_id,
            configured_role: target.role_arn,
            found_in,
            account: Mutex::new(None),
        }
    }

    /// The account of this connection's jobs: the configured one, or the one of the credentials. STS is called once,
    /// and again when the identity of the credentials has changed.
    ///
    /// # Errors
    /// If the call of STS fails.
    pub async fn account(&self) -> Result<AccountId, ApiError> {
        if let Some(account) = &self.configured_account {
            self.caller.limiter.known_account(account);
            return Ok(account.clone());
        }
        if let Some(account) = self.known_account() {
            return Ok(account);
        }
        let Identity { account, .. } = self.identity().await?;
        self.caller.limiter.known_account(&account);
        let fingerprint = self.caller.credentials.last_seen();
        *self.account.lock().unwrap_or_else(PoisonError::into_inner) =
            fingerprint.map(|fingerprint| (fingerprint, account.clone()));
        Ok(account)
    }

    /// Asks STS who the credentials belong to.
    ///
    /// # Errors
    /// If the call fails, or its answer names no account.
    pub async fn identity(&self) -> Result<Identity, ApiError> {
        let send = || self.sts.get_caller_identity().send();
        let answer = self.caller.call(GET_CALLER_IDENTITY, &self.sts_host, Class::OpenWalk, send).await;
        let answer = answer.map_err(|error| {
            let is_unreachable = matches!(error.reason, Reason::Timeout | Reason::Network) && error.code.is_some();
            if is_unreachable { error.hinting(WITHOUT_STS) } else { error }
        })?;
        let account = answer.account().map(AccountId::parse).and_then(Result::ok).ok_or_else(|| {
            self.malformed(GET_CALLER_IDENTITY, &self.sts_host, "the answer names no account".to_owned())
        })?;
        Ok(Identity { account, arn: answer.arn.map(|arn| one_line(&arn)) })
    }

    /// Searches for credentials, and returns their source in words. Sends no request to AWS IoT.
    ///
    /// # Errors
    /// If there are none.
    pub async fn credentials_source(&self) -> Result<String, ApiError> {
        self.caller.credentials(LIST_JOBS).await?;
        let source = self.found_in.get().unwrap_or_else(|| "fixed credentials".to_owned());
        Ok(match &self.configured_role {
            Some(role) => format!("{source}, then role {role} of the target"),
            None => source,
        })
    }

    /// The proxy for requests to AWS IoT, as host and port; `None` without one, or before the first request.
    #[must_use]
    pub fn proxy(&self) -> Option<String> {
        http_client::proxy_of(self.iot_host.url()?)
    }

    /// The last answer of AWS IoT, of success or not; `None` if there is none so far.
    #[must_use]
    pub fn last_answer(&self) -> Option<Answered> {
        self.iot_host.last_answer()
    }

    /// Lists one page of jobs. `class` is its urgency among other lists.
    ///
    /// # Errors
    /// If all attempts failed, or the answer has no list of jobs: that is a malformed answer, not an empty account.
    pub async fn list_jobs(
        &self,
        query: &Query,
        token: Option<String>,
        class: Class,
    ) -> Result<Page<JobSummary>, ApiError> {
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
        let send = || request.clone().send();
        let answer = self.caller.call(LIST_JOBS, &self.iot_host, class, send).await?;
        let Some(jobs) = answer.jobs else {
            return Err(self.malformed(LIST_JOBS, &self.iot_host, "the answer has no list of jobs".to_owned()));
        };
        let next_token = self.next_token(LIST_JOBS, answer.next_token)?;
        Ok(Page { items: jobs.into_iter().map(summary).collect(), next_token })
    }

    /// The token of the next page; `None` at the end. An empty token also means the end.
    fn next_token(&self, operation: Operation, token: Option<String>) -> Result<Option<String>, ApiError> {
        let token = token.filter(|token| !token.is_empty());
        if let Some(token) = token.as_ref().filter(|token| token.len() > MAX_TOKEN) {
            let cause = format!("the answer has a nextToken of {} bytes, which no request can hold", token.len());
            return Err(self.malformed(operation, &self.iot_host, cause));
        }
        Ok(token)
    }

    /// Refuses an id that does not fit into a request.
    fn check_id(&self, operation: Operation, job_id: &str) -> Result<(), ApiError> {
        if job_id.len() <= MAX_JOB_ID {
            return Ok(());
        }
        let cause = format!("a job was listed with an id of {} bytes, which no job has", job_id.len());
        Err(ApiError::malformed(operation.name, &self.caller.location(&self.iot_host), cause))
    }

    /// Lists one page of the executions of a job, of one status or of all; `None` if the job does not exist.
    ///
    /// # Errors
    /// If all attempts failed, the answer has no list of executions, or the id is too long.
    pub async fn list_executions(
        &self,
        job_id: &str,
        status: Option<ExecutionStatus>,
        token: Option<String>,
        class: Class,
    ) -> Result<Option<Page<ExecutionSummary>>, ApiError> {
        self.check_id(LIST_EXECUTIONS, job_id)?;
        let request = self
            .iot
            .list_job_executions_for_job()
            .job_id(job_id)
            .max_results(PAGE_SIZE)
            .set_status(status.map(|status| types::JobExecutionStatus::from(status.as_str())))
            .set_next_token(token);
        let is_not_found = ListJobExecutionsForJobError::is_resource_not_found_exception;
        let send = || {
            let sent = request.clone().send();
            async move { found(sent.await, is_not_found) }
        };
        let Some(answer) = self.caller.call(LIST_EXECUTIONS, &self.iot_host, class, send).await? else {
            return Ok(None);
        };
        let Some(executions) = answer.execution_summaries else {
            let cause = "the answer has no list of executions".to_owned();
            return Err(self.malformed(LIST_EXECUTIONS, &self.iot_host, cause));
        };
        let next_token = self.next_token(LIST_EXECUTIONS, answer.next_token)?;
        Ok(Some(Page { items: executions.into_iter().map(execution).collect(), next_token }))
    }

    /// Lists all tags of a job; `None` if the job does not exist.
    ///
    /// # Errors
    /// If the attempt for a page failed, or there are too many pages.
    pub async fn list_tags(
        &self,
        account: &AccountId,
        job_id: &str,
        class: Class,
    ) -> Result<Option<Vec<Tag>>, ApiError> {
        self.check_id(LIST_TAGS, job_id)?;
        let region = &self.caller.region;
        let arn = format!("arn:{}:iot:{region}:{account}:job/{job_id}", config::partition_of_region(region));
        let (mut tags, mut token) = (Vec::new(), None);
        for _ in 0..MAX_TAG_PAGES {
            let request = self.iot.list_tags_for_resource().resource_arn(&arn).set_next_token(token);
            let send = || {
                let sent = request.clone().send();
                async move { found(sent.await, ListTagsForResourceError::is_resource_not_found_exception) }
            };
            let answer = self.caller.call(LIST_TAGS, &self.iot_host, class, send).await?;
            let Some(answer) = answer else { return Ok(None) };
            let page = answer.tags.unwrap_or_default().into_iter();
            tags.extend(page.map(|tag| (tag.key, tag.value.unwrap_or_default())));
            token = self.next_token(LIST_TAGS, answer.next_token)?;
            if token.is_none() {
                return Ok(Some(tags));
            }
        }
        let cause = format!("the answer has more than {MAX_TAG_PAGES} pages of tags, which no job has");
        Err(self.malformed(LIST_TAGS, &self.iot_host, cause))
    }

    /// Waits for the permit of a description. The caller chooses the job after the wait, when its request can be sent.
    /// `class` is the urgency among other jobs.
    ///
    /// # Errors
    /// If there are no credentials.
    pub async fn describe_permit(&self, class: Class) -> Result<DescribePermit, ApiError> {
        self.caller.permit(DESCRIBE_JOB, class).await.map(DescribePermit)
    }

    /// Describes one job; `None` if it does not exist.
    ///
    /// # Errors
    /// If the attempt failed, the answer is about another job, or the id is too long.
    pub async fn describe_job(&self, job_id: &str, permit: DescribePermit) -> Result<Option<Description>, ApiError> {
        self.check_id(DESCRIBE_JOB, job_id)?;
        let request = self.iot.describe_job().job_id(job_id);
        let answer = async { found(request.send().await, DescribeJobError::is_resource_not_found_exception) };
        // Boxed: the SDK's futures have tens of kilobytes.
        let answer = self.caller.send(DESCRIBE_JOB, &self.iot_host, &permit.0, Box::pin(answer)).await?;
        let Some(answer) = answer else { return Ok(None) };
        let description = answer.job.map(description).filter(|job| job.summary.id() == Some(job_id));
        description.map(Some).ok_or_else(|| {
            let cause = "the answer does not describe the job that was asked for".to_owned();
            self.malformed(DESCRIBE_JOB, &self.iot_host, cause)
        })
    }

    /// The account of this connection's jobs, if it is known without a call of STS.
    #[must_use]
    pub fn known_account(&self) -> Option<AccountId> {
        if self.configured_account.is_some() {
            return self.configured_account.clone();
        }
        let known = self.account.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known
            .filter(|(fingerprint, _)| self.caller.credentials.last_seen() == Some(*fingerprint))
            .map(|(_, account)| account)
    }

    /// Whether requests count against the quotas of an account. Before that, they are limited by access key.
    #[must_use]
    pub fn has_quota_account(&self) -> bool {
        self.caller.limiter.has_account()
    }

    /// The error of an operation of AWS IoT whose answers are each valid, but incomplete, inconsistent or of another account.
    pub(crate) fn unusable(&self, operation: Operation, reason: Reason, cause: String) -> ApiError {
        ApiError::unusable(operation.name, &self.caller.location(&self.iot_host), reason, cause)
    }

    /// An answer that the SDK could parse, but that lacks required content.
    fn malformed(&self, operation: Operation, host: &Host, cause: String) -> ApiError {
        self.caller.counters.request_failed(operation.name, error::MALFORMED);
        ApiError::malformed(operation.name, &self.caller.location(host), cause)
    }
}

/// Maps a missing job to `None`: jobs can be deleted between a walk and a request.
fn found<T, E, R>(
    answer: Result<T, SdkError<E, R>>,
    is_not_found: impl FnOnce(&E) -> bool,
) -> Result<Option<T>, SdkError<E, R>> {
    match answer {
        Err(error) if error.as_service_error().is_some_and(is_not_found) => Ok(None),
        answer => answer.map(Some),
    }
}

fn execution(listed: types::JobExecutionSummaryForJob) -> ExecutionSummary {
    let thing = listed.thing_arn.as_deref().and_then(thing_name).map(ThingName::from);
    let Some(summary) = listed.job_execution_summary else {
        return ExecutionSummary { thing, ..ExecutionSummary::default() };
    };
    ExecutionSummary {
        thing,
        status: summary.status.and_then(|status| ExecutionStatus::parse(status.as_str())),
        queued_at: summary.queued_at.and_then(timestamp),
        started_at: summary.started_at.and_then(timestamp),
        last_updated_at: summary.last_updated_at.and_then(timestamp),
        execution_number: summary.execution_number,
        retry_attempt: summary.retry_attempt,
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
    let details = job.job_process_details;
    let executions = ExecutionCounts::from_fn(|status| {
        let details = details.as_ref()?;
        let count = match status {
            ExecutionStatus::Queued => details.number_of_queued_things,
            ExecutionStatus::InProgress => details.number_of_in_progress_things,
            ExecutionStatus::Succeeded => details.number_of_succeeded_things,
            ExecutionStatus::Failed => details.number_of_failed_things,
            ExecutionStatus::TimedOut => details.number_of_timed_out_things,
            ExecutionStatus::Rejected => details.number_of_rejected_things,
            ExecutionStatus::Removed => details.number_of_removed_things,
            ExecutionStatus::Canceled => details.number_of_canceled_things,
        };
        count.and_then(|count| u32::try_from(count).ok())
    });
    let targets = job.targets.filter(|targets| !targets.is_empty());
    Description {
        targets: targets.map(|arns| arns.iter().map(|arn| JobTarget::parse(arn)).collect()),
        executions,
        schedule: schedule(job.scheduling_config.as_ref()),
        limits: ExecutionLimits {
            in_progress_timeout: job
                .timeout_config
                .and_then(|config| config.in_progress_timeout_in_minutes)
                .and_then(|minutes| u64::try_from(minutes).ok())
                .and_then(|minutes| Some(Duration::from_secs(minutes.checked_mul(60)?))),
            retries: job
                .job_executions_retry_config
                .iter()
                .flat_map(|config| &config.criteria_list)
                .filter_map(retries)
                .collect(),
            maximum_per_minute: job
                .job_executions_rollout_config
                .and_then(|config| config.maximum_per_minute)
                .and_then(|number| u32::try_from(number).ok()),
        },
        abort_criteria: job
            .abort_config
            .iter()
            .flat_map(|config| &config.criteria_list)
            .filter_map(criterion)
            .collect(),
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

/// `None` if AWS does not document the failure type or the number.
fn retries(criterion: &types::RetryCriteria) -> Option<(Option<ExecutionStatus>, u32)> {
    let failure = match criterion.failure_type.as_str() {
        "ALL" => None,
        failure => Some(ExecutionStatus::parse(failure)?),
    };
    Some((failure, u32::try_from(criterion.number_of_retries).ok()?))
}

/// `None` if AWS does not document the failure type or the number.
fn criterion(criterion: &types::AbortCriteria) -> Option<AbortCriterion> {
    let failure = match criterion.failure_type.as_str() {
        "ALL" => None,
        failure => Some(ExecutionStatus::parse(failure)?),
    };
    let hundredths = (criterion.threshold_percentage * 100.0).round();
    if !(0.0..=10_000.0).contains(&hundredths) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number between 0 and 10,000")]
    let threshold = hundredths as u32;
    let min_executed = criterion.min_number_of_executed_things.try_into().ok()?;
    Some(AbortCriterion { failure, threshold, min_executed })
}

/// A missing or empty configuration means a job without a schedule.
fn schedule(config: Option<&types::SchedulingConfig>) -> Schedule {
    let Some(config) = config else { return Schedule::default() };
    let windowed = config.maintenance_windows.as_ref().is_some_and(|windows| !windows.is_empty());
    let start = config
        .start_time
        .as_deref()
        .filter(|text| !text.is_empty())
        .map_or(Start::AtOnce, |text| parse_start_time(text).map_or(Start::Unreadable, Start::At));
    let end = config.end_time.as_deref().and_then(parse_start_time);
    Schedule { start, end, windowed }
}

/// `None` for a time before 1970 or after [`Timestamp::LATEST`].
///
/// Rounded to the nearest millisecond: the SDK reads seconds with a fraction as a float, slightly below the written
/// value.
fn timestamp(time: DateTime) -> Option<Timestamp> {
    let millis = (time.as_nanos() + 500_000).div_euclid(1_000_000);
    let time = i64::try_from(millis).ok().map(Timestamp::from_millis)?;
    (Timestamp::from_millis(0)..=Timestamp::LATEST).contains(&time).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_keeps_its_milliseconds() {
        for (written, millis) in [(1_790_000_000.063, 1_790_000_000_063), (1_560_787_022.733, 1_560_787_022_733)] {
            assert_eq!(timestamp(DateTime::from_secs_f64(written)), Some(Timestamp::from_millis(millis)));
        }
    }

    #[test]
    fn an_invalid_time_is_none() {
        for secs in [-1, i64::MIN, Timestamp::LATEST.as_millis() / 1000 + 1, i64::MAX] {
            assert_eq!(timestamp(DateTime::from_secs(secs)), None, "{secs}");
        }
    }
}
