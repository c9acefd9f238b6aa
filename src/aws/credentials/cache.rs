//! Caches the credentials of a target until they end or AWS refuses them.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_async::time::TimeSource as _;
use tokio::time::timeout;
use tracing::warn;

use super::{SOURCE_TIMEOUT, SigningClock, SourceError, shown, usable};
use crate::aws::error::chain;

/// The limit for one search of all sources: a slow program or service, and a role that is assumed with its
/// credentials.
const LOOK_TIMEOUT: Duration = SOURCE_TIMEOUT.saturating_mul(2);

/// A hash that identifies an access key without revealing it.
pub(in super::super) type Fingerprint = u64;

/// How long credentials without an end are used until the next search: a file may have changed.
const LOOK_AGAIN: Duration = Duration::from_mins(15);

/// A new search starts this long before the end of credentials, or after half of the remaining time if that is less.
const BEFORE_END: Duration = Duration::from_mins(1);

/// The pause after a failed search while the cached credentials are still valid.
const AFTER_FAILED_LOOK: Duration = Duration::from_secs(10);

/// Searches for credentials once, and caches them. Clones share the cache.
#[derive(Clone, Debug)]
pub(in super::super) struct CredentialsCache(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The target's name, for the log.
    target: String,
    source: Option<SharedCredentialsProvider>,
    clock: SigningClock,
    /// Locked during a search, so that concurrent callers wait for the same one.
    kept: tokio::sync::Mutex<Option<Kept>>,
    key: RandomState,
    last: Mutex<Option<Fingerprint>>,
}

#[derive(Debug)]
struct Kept {
    credentials: Credentials,
    /// The time of the next search.
    until: SystemTime,
}

impl CredentialsCache {
    pub(in super::super) fn new(target: &str, source: Option<SharedCredentialsProvider>, clock: SigningClock) -> Self {
        Self(Arc::new(Shared {
            target: target.to_owned(),
            source,
            clock,
            kept: tokio::sync::Mutex::default(),
            key: RandomState::default(),
            last: Mutex::default(),
        }))
    }

    /// The credentials in use. If there are none, or they end soon, this searches for new ones. If the search fails,
    /// the old ones stay in use until their end.
    ///
    /// # Errors
    /// If no credentials are found, or they are not usable.
    pub(in super::super) async fn get(&self) -> provider::Result {
        let mut kept = self.0.kept.lock().await;
        let now = self.0.clock.now();
        if let Some(kept) = kept.as_ref().filter(|kept| now < kept.until) {
            return Ok(kept.credentials.clone());
        }
        let error = match self.look().await {
            Ok(found) => {
                let credentials = found.credentials.clone();
                *kept = Some(found);
                return Ok(credentials);
            }
            Err(error) => error,
        };
        let now = self.0.clock.now();
        match kept.as_mut().filter(|kept| kept.credentials.expiry().is_none_or(|end| now < end)) {
            Some(kept) => {
                warn!(
                    target = %self.0.target,
                    error = chain(&error),
                    "cannot renew the credentials; the ones in use are still valid"
                );
                kept.until = now + AFTER_FAILED_LOOK;
                Ok(kept.credentials.clone())
            }
            None => Err(error),
        }
    }

    async fn look(&self) -> Result<Kept, CredentialsError> {
        let Shared { source, clock, key, last, .. } = &*self.0;
        let source =
            source.as_ref().ok_or_else(|| CredentialsError::not_loaded("no source of credentials is configured"))?;
        let found = timeout(LOOK_TIMEOUT, source.provide_credentials()).await;
        let credentials = usable(found.unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(LOOK_TIMEOUT)))?)?;
        let now = clock.now();
        let until = match credentials.expiry() {
            Some(end) if end <= now => {
                let message = format!("the credentials ended at {}; it is {} now", shown(end), shown(now));
                return Err(SourceError::new(message).into());
            }
            Some(end) => end - BEFORE_END.min(end.duration_since(now).unwrap_or_default() / 2),
            None => now + LOOK_AGAIN,
        };
        let fingerprint = key.hash_one(credentials.access_key_id());
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(fingerprint);
        Ok(Kept { credentials, until })
    }

    /// Records that AWS refused these credentials. The next call searches for others, unless a search was made
    /// meanwhile.
    pub(in super::super) async fn refused(&self, credentials: &Credentials) {
        let is_in_use = |kept: &mut Kept| kept.credentials.access_key_id() == credentials.access_key_id();
        self.0.kept.lock().await.take_if(is_in_use);
    }

    /// The credentials in use, which [`Self::get`] has just checked.
    async fn in_use(&self) -> provider::Result {
        if let Some(kept) = &*self.0.kept.lock().await {
            return Ok(kept.credentials.clone());
        }
        self.get().await
    }

    /// The fingerprint of the credentials that were found last; `None` before the first search.
    pub(in super::super) fn last_seen(&self) -> Option<Fingerprint> {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProvideCredentials for CredentialsCache {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.in_use())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::sleep;

    use super::*;
    use crate::clock::Clock;
    use crate::jobs::Timestamp;

    /// Returns what the test sets, and counts the calls.
    #[derive(Clone, Debug, Default)]
    struct TestProvider(Arc<(AtomicU32, Mutex<Given>)>);

    #[derive(Clone, Copy, Debug, Default)]
    enum Given {
        /// Credentials with this key, and their remaining seconds.
        Key(&'static str, Option<i64>),
        #[default]
        Failure,
    }

    impl TestProvider {
        fn set(&self, given: Given) {
            *self.0.1.lock().expect("no test panics in here") = given;
        }

        fn asked(&self) -> u32 {
            self.0.0.swap(0, Ordering::Relaxed)
        }
    }

    impl ProvideCredentials for TestProvider {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            self.0.0.fetch_add(1, Ordering::Relaxed);
            let given = *self.0.1.lock().expect("no test panics in here");
            let Given::Key(key, lasts) = given else {
                return future::ProvideCredentials::ready(Err(CredentialsError::provider_error("down")));
            };
            let end = lasts.map(|seconds| {
                let (now, by) = (clock().now(), Duration::from_secs(seconds.unsigned_abs()));
                if seconds < 0 { now - by } else { now + by }
            });
            future::ProvideCredentials::ready(Ok(Credentials::new(key, "secret", None, end, "test")))
        }
    }

    /// The clock of a test: each test runs on its own thread.
    fn clock() -> SigningClock {
        thread_local!(static CLOCK: SigningClock = SigningClock(Clock::starting_at(Timestamp::from_secs(1_790_000_000))));
        CLOCK.with(|clock| *clock)
    }

    fn cache() -> (CredentialsCache, TestProvider) {
        let source = TestProvider::default();
        let provider = SharedCredentialsProvider::new(source.clone());
        (CredentialsCache::new("t", Some(provider), clock()), source)
    }

    async fn key(cache: &CredentialsCache) -> Option<String> {
        cache.get().await.ok().map(|credentials| credentials.access_key_id().to_owned())
    }

    const A_MINUTE: Duration = Duration::from_mins(1);

    #[tokio::test(start_paused = true)]
    async fn credentials_are_renewed_before_their_end_and_kept_if_that_fails() {
        let (cache, source) = cache();
        source.set(Given::Key("A", Some(3600)));
        assert_eq!((key(&cache).await.as_deref(), source.asked()), (Some("A"), 1));
        sleep(58 * A_MINUTE).await;
        assert_eq!((key(&cache).await.as_deref(), source.asked()), (Some("A"), 0));
        source.set(Given::Failure);
        sleep(A_MINUTE).await;
        assert_eq!((key(&cache).await.as_deref(), source.asked()), (Some("A"), 1));
        assert_eq!((key(&cache).await.as_deref(), source.asked()), (Some("A"), 0), "not for every request");
        sleep(A_MINUTE).await;
        assert_eq!(key(&cache).await, None, "they have ended");
        source.set(Given::Key("B", None));
        assert_eq!(key(&cache).await.as_deref(), Some("B"));
    }

    #[tokio::test(start_paused = true)]
    async fn ended_credentials_are_refused_with_both_times() {
        let (cache, source) = cache();
        source.set(Given::Key("A", Some(-100)));
        let error = chain(&cache.get().await.expect_err("ended"));
        assert!(error.contains("ended at 2026-09-21T14:11:40Z; it is 2026-09-21T14:13:20Z now"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_that_end_soon_are_not_renewed_with_every_request() {
        let (cache, source) = cache();
        source.set(Given::Key("A", Some(20)));
        for _ in 0..10 {
            assert_eq!(key(&cache).await.as_deref(), Some("A"));
        }
        assert_eq!(source.asked(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_refused_together_cause_one_search() {
        let (cache, source) = cache();
        source.set(Given::Key("A", None));
        let refused = cache.get().await.expect("credentials");
        source.set(Given::Key("B", None));
        assert_eq!(source.asked(), 1);
        for _ in 0..8 {
            cache.refused(&refused).await;
            assert_eq!(key(&cache).await.as_deref(), Some("B"));
        }
        assert_eq!(source.asked(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_signer_gets_the_credentials_in_use_without_a_search() {
        let (cache, source) = cache();
        source.set(Given::Key("A", Some(20)));
        cache.get().await.expect("credentials");
        sleep(Duration::from_secs(15)).await;
        let signed = cache.provide_credentials().await.expect("credentials");
        assert_eq!((signed.access_key_id(), source.asked()), ("A", 1));
    }
}
