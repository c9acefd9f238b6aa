//! The credentials that a target's requests are signed with, until they end or AWS refuses them.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_async::time::TimeSource as _;
use tokio::time::timeout;

use super::{SOURCE_TIMEOUT, SigningClock, usable};

/// For one look at all sources: a program or a service that is slow, and a role with what it gives.
const LOOK_TIMEOUT: Duration = SOURCE_TIMEOUT.saturating_mul(2);

/// Stands for an access key, without being one.
pub(in super::super) type Fingerprint = u64;

/// For how long credentials that do not tell their end are used before they are looked for again: a file may have changed.
const LOOK_AGAIN: Duration = Duration::from_mins(15);

/// So long before their end credentials are looked for again, or half of what is left where that is less.
const BEFORE_END: Duration = Duration::from_mins(1);

/// Looks for credentials once, and keeps them. Clones share them.
#[derive(Clone, Debug)]
pub(in super::super) struct CredentialsCache(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    source: Option<SharedCredentialsProvider>,
    clock: SigningClock,
    /// Locked during a look, so that all who ask wait for the same one.
    kept: tokio::sync::Mutex<Option<Kept>>,
    key: RandomState,
    last: Mutex<Option<Last>>,
}

#[derive(Debug)]
struct Kept {
    credentials: Credentials,
    until: SystemTime,
}

/// What is remembered of the credentials that were found last.
#[derive(Clone, Copy, Debug)]
struct Last {
    fingerprint: Fingerprint,
    are_temporary: bool,
}

impl CredentialsCache {
    pub(in super::super) fn new(source: Option<SharedCredentialsProvider>, clock: SigningClock) -> Self {
        Self(Arc::new(Shared {
            source,
            clock,
            kept: tokio::sync::Mutex::default(),
            key: RandomState::default(),
            last: Mutex::default(),
        }))
    }

    /// The credentials in use; where there are none, or they end soon, those that are found now.
    ///
    /// # Errors
    /// If none are found, or they cannot be used.
    pub(in super::super) async fn get(&self) -> provider::Result {
        let Shared { source, clock, kept, .. } = &*self.0;
        let mut kept = kept.lock().await;
        if let Some(Kept { credentials, .. }) = kept.as_ref().filter(|kept| clock.now() < kept.until) {
            return Ok(credentials.clone());
        }
        let Some(source) = source else {
            return Err(CredentialsError::not_loaded("no source of credentials is configured"));
        };
        let found = timeout(LOOK_TIMEOUT, source.provide_credentials())
            .await
            .unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(LOOK_TIMEOUT)));
        let credentials = usable(found?)?;
        let now = clock.now();
        let until = credentials.expiry().map_or(now + LOOK_AGAIN, |end| {
            let left = end.duration_since(now).unwrap_or_default();
            end - BEFORE_END.min(left / 2)
        });
        let fingerprint = self.0.key.hash_one(credentials.access_key_id());
        let last = Last { fingerprint, are_temporary: credentials.expiry().is_some() };
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
        *kept = Some(Kept { credentials: credentials.clone(), until });
        Ok(credentials)
    }

    /// Has the next call look for credentials again.
    pub(in super::super) async fn reset(&self) {
        *self.0.kept.lock().await = None;
    }

    /// Whose credentials were found last; `None` before the first.
    pub(in super::super) fn last_seen(&self) -> Option<Fingerprint> {
        self.last().map(|last| last.fingerprint)
    }

    /// Whether those tell when they end.
    pub(in super::super) fn are_temporary(&self) -> bool {
        self.last().is_some_and(|last| last.are_temporary)
    }

    fn last(&self) -> Option<Last> {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProvideCredentials for CredentialsCache {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.get())
    }
}
