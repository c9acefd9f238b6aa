//! Credentials: assumed roles, and a watch on who the exporter is.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, PoisonError};

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{Region, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};

use aws_sdk_iot::config::SharedHttpClient;
use tokio::time::timeout;

use super::CREDENTIALS_TIMEOUT;
use crate::config::Secret;

/// Stands for an access key, without being one.
pub(super) type Fingerprint = u64;

/// The settings of `base`, acting as `role`.
pub(super) async fn assume(base: &SdkConfig, role: &str, external_id: Option<&Secret>) -> SdkConfig {
    let mut builder = AssumeRoleProvider::builder(role).configure(base).session_name(env!("CARGO_PKG_NAME"));
    if let Some(external_id) = external_id {
        builder = builder.external_id(external_id.expose());
    }
    let provider = SharedCredentialsProvider::new(builder.build().await);
    base.clone().into_builder().credentials_provider(provider).build()
}

/// The credentials of a profile, and of nothing else. `region` is where a role that it names is assumed.
pub(super) fn of_profile(
    profile: &str,
    region: Option<Region>,
    http: &SharedHttpClient,
) -> ProfileFileCredentialsProvider {
    let settings = ProviderConfig::without_region().with_region(region).with_http_client(http.clone());
    ProfileFileCredentialsProvider::builder().configure(&settings).profile_name(profile).build()
}

/// A provider that remembers whose credentials it gave out last.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    inner: Option<SharedCredentialsProvider>,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    key: RandomState,
    last: Mutex<Option<Fingerprint>>,
}

impl Watched {
    pub(super) fn new(inner: Option<SharedCredentialsProvider>) -> Self {
        Self { inner, seen: Arc::default() }
    }

    /// The identity that was given out last; `None` before the first.
    pub(super) fn last_seen(&self) -> Option<Fingerprint> {
        *self.seen.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProvideCredentials for Watched {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let Some(inner) = &self.inner else {
                return Err(CredentialsError::not_loaded("no source of credentials is configured"));
            };
            let credentials = timeout(CREDENTIALS_TIMEOUT, inner.provide_credentials())
                .await
                .unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(CREDENTIALS_TIMEOUT)))?;
            let fingerprint = self.seen.key.hash_one(credentials.access_key_id());
            *self.seen.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(fingerprint);
            Ok(credentials)
        })
    }

    fn fallback_on_interrupt(&self) -> Option<aws_credential_types::Credentials> {
        self.inner.as_ref().and_then(ProvideCredentials::fallback_on_interrupt)
    }
}
