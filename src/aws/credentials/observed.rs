//! Who the exporter is: the credentials in use, and how they are forgotten.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_iot::config::{ConfigBag, RuntimeComponents};
use aws_smithy_runtime_api::client::identity::{
    IdentityFuture, ResolveCachedIdentity, SharedIdentityCache, SharedIdentityResolver,
};
use tokio::time::timeout;

use super::{SOURCE_TIMEOUT, usable};

/// For one look at all sources: a program or a service that is slow, and a role with what it gives.
const LOOK_TIMEOUT: Duration = SOURCE_TIMEOUT.saturating_mul(2);

/// Stands for an access key, without being one.
pub(in super::super) type Fingerprint = u64;

/// A provider that remembers whose credentials it gave out last.
#[derive(Clone, Debug)]
pub(in super::super) struct ObservedProvider {
    inner: Option<SharedCredentialsProvider>,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    key: RandomState,
    last: Mutex<Option<(Fingerprint, bool)>>,
}

impl ObservedProvider {
    pub(in super::super) fn new(inner: Option<SharedCredentialsProvider>) -> Self {
        Self { inner, seen: Arc::default() }
    }

    /// Whose credentials were given out last; `None` before the first.
    pub(in super::super) fn last_seen(&self) -> Option<Fingerprint> {
        self.last().map(|(fingerprint, _)| fingerprint)
    }

    /// Whether those tell when they end.
    pub(in super::super) fn are_temporary(&self) -> bool {
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
            let given = timeout(LOOK_TIMEOUT, inner.provide_credentials()).await;
            let timed_out = |_| Err(CredentialsError::provider_timed_out(LOOK_TIMEOUT));
            let credentials = usable(given.unwrap_or_else(timed_out)?)?;
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
pub(in super::super) struct ResettableIdentityCache(Arc<RwLock<SharedIdentityCache>>);

impl ResettableIdentityCache {
    pub(in super::super) fn new() -> Self {
        Self(Arc::new(RwLock::new(empty())))
    }

    /// Has whoever comes next ask for credentials again.
    pub(in super::super) fn forget(&self) {
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
