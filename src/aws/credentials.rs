//! Credentials: where they come from, how a changed one is noticed, assumed roles, and a watch on who the exporter is.
//!
//! Three things keep credentials good without a restart. The SDK asks for those that tell their end anew before it, and
//! for all others every quarter of an hour. [`ReloadingProvider`] then looks at files, variables and services as they are by then. And
//! what AWS refuses is forgotten ([`ResettableIdentityCache`]), so that the next refresh looks again, whatever its end.

use std::collections::hash_map::RandomState;
use std::error::Error as _;
use std::hash::BuildHasher as _;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use aws_config::identity::IdentityCache;
use aws_config::meta::ProviderChainError;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_iot::config::{ConfigBag, RuntimeComponents};
use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::client::identity::{
    IdentityFuture, ResolveCachedIdentity, SharedIdentityCache, SharedIdentityResolver,
};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::error::causes;
use super::profiles::{self, Faults, SharedFiles};
use crate::clock::Clock;
use crate::config::Target;
use crate::job::Timestamp;

/// For one look at a source of credentials, an external program or a service that answers slowly.
const LOOK_TIMEOUT: Duration = Duration::from_secs(20);

/// Where credentials are reloading, in the order of the SDK's chain.
const NOWHERE: &str = "no credentials in the environment, the profile, a web identity token file, or from the metadata \
    service of a container or an instance";

/// What the SDK reads itself besides profiles.
const UNREADABLE: &str =
    "the web identity token file that the profile or AWS_WEB_IDENTITY_TOKEN_FILE names can't be read";

/// The SDK lists every source of its chain that has nothing, and only for a profile says what is wrong with it. It does not
/// name the files that it searched; `faults` does. `only_profile` is whether a profile was the only source.
fn shortened(error: CredentialsError, faults: Faults, only_profile: bool) -> CredentialsError {
    let mut lines = faults.lines;
    let chain = error.source().and_then(|source| source.downcast_ref::<ProviderChainError<CredentialsError>>());
    if let Some(chain) = chain {
        let of_profile = chain.attempts().iter().find(|attempt| attempt.name() == "Profile");
        let of_sdk = of_profile.and_then(|attempt| attempt.error().source()).filter(|_| !faults.missing);
        lines.push(NOWHERE.to_owned());
        lines.extend(of_sdk.map(|fault| format!("the profile: {fault}")));
        return CredentialsError::not_loaded(lines.join("; "));
    }
    // Deeper down, below what made of it something to tell, it is the network's.
    let first = causes(&error).find(|cause| !cause.is::<CredentialsError>());
    if let Some(fault) = first.and_then(|cause| cause.downcast_ref::<io::Error>()) {
        return CredentialsError::provider_error(format!("{UNREADABLE}: {fault}"));
    }
    // Other kinds of errors come from a source that the files name successfully.
    let concerns_profile =
        matches!(error, CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_));
    if lines.is_empty() || !concerns_profile {
        return error;
    }
    // The chain goes on after a profile that is missing, so its error is another source's; it stops at a file that it cannot
    // parse.
    let repeated = faults.unparsable || faults.missing && only_profile;
    let of_sdk = error.source().filter(|_| !repeated);
    lines.extend(of_sdk.map(ToString::to_string));
    CredentialsError::not_loaded(lines.join("; "))
}

/// Stands for an access key, without being one.
pub(super) type Fingerprint = u64;

/// The settings of `base`, acting as `role` of `target`.
pub(super) async fn assume(base: &SdkConfig, role: &str, target: &Target) -> SdkConfig {
    let session_name = target.session_name.as_deref().unwrap_or(env!("CARGO_PKG_NAME"));
    let mut builder = AssumeRoleProvider::builder(role).configure(base).session_name(session_name);
    if let Some(external_id) = &target.external_id {
        builder = builder.external_id(external_id.expose());
    }
    let provider = SharedCredentialsProvider::new(builder.build().await);
    base.clone().into_builder().credentials_provider(provider).build()
}

/// The settings of `base`, with credentials that are reloading anew each time they are asked for: in `profile` and nowhere
/// else, where it names one, else in all the usual places.
pub(super) fn reloading(base: SdkConfig, profile: Option<&str>) -> SdkConfig {
    let reloading = ReloadingProvider { base: base.clone(), profile: profile.map(str::to_owned) };
    base.into_builder().credentials_provider(SharedCredentialsProvider::new(reloading)).build()
}

/// Looks for credentials from the start each time. The SDK's own sources keep the profile that they read first, and with
/// it a key that was rotated since, for as long as they live.
#[derive(Clone, Debug)]
struct ReloadingProvider {
    base: SdkConfig,
    profile: Option<String>,
}

impl ReloadingProvider {
    async fn look(&self) -> provider::Result {
        let files = SharedFiles::of_process();
        let found = match &self.profile {
            Some(profile) => self.look_in_profile(profile, &files).await,
            None => self.look_everywhere(&files).await,
        };
        found.map_err(|error| {
            let faults = files.faults(files.named_profile(self.profile.as_deref()));
            shortened(error, faults, self.profile.is_some())
        })
    }

    async fn look_in_profile(&self, profile: &str, files: &SharedFiles) -> provider::Result {
        let mut settings = ProviderConfig::default()
            .with_region(self.base.region().cloned())
            .with_behavior_version(Some(BehaviorVersion::v2026_01_12()))
            .with_use_fips(self.base.use_fips())
            .with_use_dual_stack(self.base.use_dual_stack());
        if let Some(http) = self.base.http_client() {
            settings = settings.with_http_client(http);
        }
        if let Some(time) = self.base.time_source() {
            settings = settings.with_time_source(time);
        }
        if let Some(retries) = self.base.retry_config() {
            settings = settings.with_retry_config(retries.clone());
        }
        if let Some(timeouts) = self.base.timeout_config() {
            settings = settings.with_timeout_config(timeouts.clone());
        }
        let builder = ProfileFileCredentialsProvider::builder().configure(&settings).profile_files(files.for_sdk());
        builder.profile_name(profile).build().provide_credentials().await
    }

    /// With the default chain as the SDK's loader makes it: its own builder cannot be given the files.
    async fn look_everywhere(&self, files: &SharedFiles) -> provider::Result {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .profile_files(files.for_sdk())
            .profile_name(files.named_profile(None).unwrap_or(profiles::DEFAULT))
            .region(self.base.region().cloned());
        if let Some(use_fips) = self.base.use_fips() {
            loader = loader.use_fips(use_fips);
        }
        if let Some(use_dual_stack) = self.base.use_dual_stack() {
            loader = loader.use_dual_stack(use_dual_stack);
        }
        if let Some(http) = self.base.http_client() {
            loader = loader.http_client(http);
        }
        if let Some(time) = self.base.time_source() {
            loader = loader.time_source(time);
        }
        if let Some(retries) = self.base.retry_config() {
            loader = loader.retry_config(retries.clone());
        }
        if let Some(timeouts) = self.base.timeout_config() {
            loader = loader.timeout_config(timeouts.clone());
        }
        let sdk = loader.load().await;
        let chain = sdk.credentials_provider().ok_or_else(|| CredentialsError::not_loaded(NOWHERE))?;
        chain.provide_credentials().await
    }
}

impl ProvideCredentials for ReloadingProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let reloading = self.clone();
        future::ProvideCredentials::new(async {
            // A task of its own, which ends with this future: the SDK's sources panic on some of what they find.
            let mut look = JoinSet::new();
            look.spawn(async move { reloading.look().await });
            let looked = look.join_next().await.and_then(Result::ok);
            let looked = looked.unwrap_or_else(|| Err(CredentialsError::unhandled("a source of credentials panicked")));
            looked.and_then(usable)
        })
    }
}

/// Passes on credentials that requests can be signed with.
///
/// # Errors
/// If they have a character that no header can have. The SDK panics on some of them. A line end is the usual mistake: `echo`
/// writes one, and it ends up in a Kubernetes Secret.
fn usable(credentials: Credentials) -> provider::Result {
    let parts = [
        ("access key id", Some(credentials.access_key_id())),
        ("secret access key", Some(credentials.secret_access_key())),
        ("session token", credentials.session_token()),
    ];
    for (name, value) in parts {
        let fault = match value.unwrap_or_default() {
            value if value.contains(['\n', '\r']) => "a line end",
            value if !value.bytes().all(|byte| byte.is_ascii_graphic()) => {
                "a blank or another character that is not allowed"
            }
            _ => continue,
        };
        return Err(CredentialsError::invalid_configuration(format!("the {name} contains {fault}")));
    }
    Ok(credentials)
}

/// A provider that remembers whose credentials it gave out last.
#[derive(Clone, Debug)]
pub(super) struct ObservedProvider {
    inner: Option<SharedCredentialsProvider>,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    key: RandomState,
    last: Mutex<Option<(Fingerprint, bool)>>,
}

impl ObservedProvider {
    pub(super) fn new(inner: Option<SharedCredentialsProvider>) -> Self {
        Self { inner, seen: Arc::default() }
    }

    /// Whose credentials were given out last; `None` before the first.
    pub(super) fn last_seen(&self) -> Option<Fingerprint> {
        self.last().map(|(fingerprint, _)| fingerprint)
    }

    /// Whether those tell when they end.
    pub(super) fn are_temporary(&self) -> bool {
        self.last().is_some_and(|(_, are_temporary)| are_temporary)
    }

    fn last(&self) -> Option<(Fingerprint, bool)> {
        *self.seen.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProvideCredentials for ObservedProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let Some(inner) = &self.inner else {
                return Err(CredentialsError::not_loaded("no source of credentials is configured"));
            };
            let credentials = timeout(LOOK_TIMEOUT, inner.provide_credentials())
                .await
                .unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(LOOK_TIMEOUT)))
                .and_then(usable)?;
            let fingerprint = self.seen.key.hash_one(credentials.access_key_id());
            *self.seen.last.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((fingerprint, credentials.expiry().is_some()));
            Ok(credentials)
        })
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        self.inner.as_ref().and_then(ProvideCredentials::fallback_on_interrupt)
    }
}

/// The credentials that are in use, until their end or until they are forgotten. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct ResettableIdentityCache(Arc<RwLock<SharedIdentityCache>>);

impl ResettableIdentityCache {
    pub(super) fn new() -> Self {
        Self(Arc::new(RwLock::new(empty())))
    }

    /// Has whoever comes next ask for credentials again.
    pub(super) fn forget(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = empty();
    }

    fn current(&self) -> SharedIdentityCache {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn empty() -> SharedIdentityCache {
    // Longer than a look may take, so that it is our own timeout that ends one, and tells what it was.
    IdentityCache::lazy().load_timeout(LOOK_TIMEOUT * 2).build()
}

impl ResolveCachedIdentity for ResettableIdentityCache {
    fn resolve_cached_identity<'a>(
        &'a self,
        resolver: SharedIdentityResolver,
        runtime_components: &'a RuntimeComponents,
        config_bag: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        let cache = self.current();
        IdentityFuture::new(
            async move { cache.resolve_cached_identity(resolver, runtime_components, config_bag).await },
        )
    }
}

/// The clock by which requests are signed, and credentials end.
#[derive(Clone, Copy, Debug)]
pub(super) struct SigningClock(pub(super) Clock);

impl TimeSource for SigningClock {
    fn now(&self) -> SystemTime {
        let since_1970 = self.0.now().wall.since(Timestamp::from_millis(0));
        SystemTime::UNIX_EPOCH + since_1970
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: CredentialsError, faults: Faults, only_profile: bool) -> String {
        shortened(error, faults, only_profile).source().map(ToString::to_string).unwrap_or_default()
    }

    #[test]
    fn what_the_sdk_says_is_left_out_only_if_the_faults_say_it() {
        let missing = || Faults { lines: vec!["missing".to_owned()], missing: true, unparsable: false };
        let unparsable = || Faults { lines: vec!["unparsable".to_owned()], missing: false, unparsable: true };
        let unreadable = || Faults { lines: vec!["unreadable".to_owned()], missing: false, unparsable: false };
        for (faults, only_profile, expected) in [
            (Faults::default(), false, "of the SDK"),
            (missing(), true, "missing"),
            (missing(), false, "missing; of the SDK"),
            (unparsable(), true, "unparsable"),
            (unparsable(), false, "unparsable"),
            (unreadable(), true, "unreadable; of the SDK"),
        ] {
            assert_eq!(told(CredentialsError::invalid_configuration("of the SDK"), faults, only_profile), expected);
        }
        assert_eq!(told(CredentialsError::provider_error("of a service"), unreadable(), true), "of a service");
    }
}
