//! Credentials: their sources, their renewal, and assumed roles.
//!
//! [`ReloadingProvider`] reads files, variables and services anew each time. The [`cache`] in front of it decides
//! when: before the credentials end, every 15 minutes if they have no end, and after AWS refused them.
//!
//! The order of the sources and the rules for profiles are those of the SDK. They are implemented here, because the
//! SDK's chain reports neither the profile nor the cause, and does not allow another way to run programs or to save
//! SSO tokens.

mod cache;
mod metadata;
mod process;
mod profile;
mod reloading;
mod request_counter;
mod roles;
mod sso;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_config::identity::IdentityCache;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_iot::config::retry::{RetryPartition, TokenBucket};
use aws_sdk_iot::config::timeout::TimeoutConfig;
use aws_smithy_async::time::TimeSource;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::CONNECT_TIMEOUT;
use crate::clock::Clock;
use crate::config::{self, Target};
use crate::jobs::Timestamp;
use crate::metrics::Reason;
pub(super) use cache::{CredentialsCache, Fingerprint};
pub(super) use reloading::ReloadingProvider;
pub(super) use request_counter::CredentialRequests;
use roles::{AssumedRoleProvider, Role, Sts};
pub use sso::SsoTokens;

/// The timeout of one attempt of a call to STS or IAM Identity Center, which usually answer within a second. Three
/// attempts and the waits between them stay below 15 s.
pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);

/// The limit for one source of credentials: an external program, or a call with its attempts.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a configured source returned no credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct SourceError {
    pub(super) reason: Reason,
    /// What was tried, why it failed, and what to do, in one line and without secrets.
    pub(super) message: String,
}

impl SourceError {
    fn new(message: impl Into<String>) -> Self {
        Self { reason: Reason::Credentials, message: message.into() }
    }

    /// Prepends the purpose to the message.
    fn of(self, context: &str) -> Self {
        Self { message: format!("{context}: {}", self.message), ..self }
    }
}

impl From<SourceError> for CredentialsError {
    fn from(error: SourceError) -> Self {
        Self::provider_error(error)
    }
}

/// The source of the credentials that were found last, in words. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct FoundIn(Arc<Mutex<Option<String>>>);

impl FoundIn {
    fn set(&self, source: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
    }

    /// `None` before the first successful search.
    pub(super) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The settings of `base`, with credentials of `provider`.
pub(super) fn reloading(base: SdkConfig, provider: ReloadingProvider) -> SdkConfig {
    base.into_builder().credentials_provider(SharedCredentialsProvider::new(provider)).build()
}

/// The settings of `base`, with the credentials of `role`.
pub(super) fn assume(base: &SdkConfig, role: &str, target: &Target, requests: &CredentialRequests) -> SdkConfig {
    let role = Role {
        arn: role.to_owned(),
        session_name: target.session_name.clone(),
        external_id: target.external_id.clone(),
        duration_seconds: None,
    };
    let sts = Sts::new(base, requests.clone());
    let provider = AssumedRoleProvider::new(sts, role, base.credentials_provider());
    base.clone().into_builder().credentials_provider(SharedCredentialsProvider::new(provider)).build()
}

/// The settings of `base` for a call that fetches credentials: without credentials of its own, and with short
/// timeouts.
fn for_calls(base: &SdkConfig) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(SOURCE_TIMEOUT)
        .build();
    let mut settings = base.to_builder().timeout_config(timeouts).identity_cache(IdentityCache::no_cache());
    settings.set_credentials_provider(None);
    settings.build()
}

/// Retries in a separate partition: the SDK shares one retry budget between all targets.
fn retries() -> RetryPartition {
    RetryPartition::custom("credentials").token_bucket(TokenBucket::unlimited()).build()
}

/// The number of threads that can read files at once: a quarter of the blocking threads. If a file system hangs, the
/// others stay free for name resolution and programs.
static FILE_READS: Semaphore = Semaphore::const_new(4);

/// Runs `work`, which reads files, on a blocking thread: a network file system can hang, and would hang the runtime.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, SourceError> {
    let permit = FILE_READS.acquire().await;
    let work = move || {
        // Held until the thread is free, even if the caller stops waiting.
        let _permit = permit;
        work()
    };
    spawn_blocking(work).await.map_err(|_| SourceError::new("files could not be read: a bug in the exporter"))
}

/// The text of a token file: a regular file of at most 1 MiB. The error is the end of a sentence that begins with the
/// file.
async fn read_token(path: &Path) -> Result<String, SourceError> {
    let path = path.to_owned();
    let read = move || {
        // Opening a pipe would wait for its writer.
        match std::fs::metadata(&path) {
            Ok(metadata) if !metadata.is_file() => Err("is not a regular file".to_owned()),
            _ => config::read_text(&path).map_err(|error| error.to_string()),
        }
    };
    blocking(read).await?.map_err(SourceError::new)
}

/// Checks that requests can be signed with these credentials.
///
/// # Errors
/// If they contain a character that headers cannot have. The SDK panics on some of them. The usual mistake is a line
/// end: `echo` writes one, which ends up in a Kubernetes Secret.
fn usable(credentials: Credentials) -> Result<Credentials, SourceError> {
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
        return Err(SourceError::new(format!("the {name} contains {fault}")));
    }
    Ok(credentials)
}

/// The time of a system clock, for a message.
fn shown(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "an invalid time".to_owned(), |time| format!("{time:.0}"))
}

/// The clock for signatures and for the end of credentials.
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

    #[tokio::test]
    async fn a_pipe_or_an_endless_file_is_refused_as_token_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo, of Debian's coreutils");
        assert!(made.success());
        for path in [&*pipe, Path::new("/dev/zero"), folder.path()] {
            assert_eq!(read_token(path).await.expect_err("not a file").message, "is not a regular file");
        }
        let large = folder.path().join("large");
        std::fs::write(&large, vec![b'x'; 2 << 20]).expect("a written file");
        assert!(read_token(&large).await.expect_err("too large").message.contains("is larger than"));
    }
}
