//! Access control: TLS, basic authentication and configured headers.

mod basic_auth;
mod tls;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use ::http::request::Parts;
use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use rustls::ServerConfig;
use tokio::time::Instant;
use tracing::warn;

use self::basic_auth::{AuthResult, BasicAuth};
use super::{Response, status_response};
use crate::config::web_config::WebConfig;
pub use basic_auth::LoginFailure;
pub(super) use tls::handshake;

/// Requests a login (RFC 7617). Browsers show the realm.
const CHALLENGE: HeaderValue =
    HeaderValue::from_static(concat!("Basic realm=\"", env!("CARGO_PKG_NAME"), "\", charset=\"UTF-8\""));

/// How often failed logins are logged, for each reason. Any client can cause them at any rate.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Applies a web configuration to one or more listeners. The configuration can be replaced at any time.
///
/// TLS settings are fixed per connection; users and headers are checked per request.
pub struct AccessControl {
    public_paths: &'static [&'static str],
    config: RwLock<Arc<ActiveConfig>>,
    failures: Mutex<[FailureLog; LoginFailure::ALL.len()]>,
    on_login_failure: Box<dyn Fn(LoginFailure) + Send + Sync>,
}

struct ActiveConfig {
    tls: Option<Arc<ServerConfig>>,
    headers: Vec<(HeaderName, HeaderValue)>,
    basic_auth: BasicAuth,
}

impl AccessControl {
    /// Applies `config`. Requests for one of `public_paths`, compared exactly, need no login.
    #[must_use]
    pub fn new(config: WebConfig, public_paths: &'static [&'static str]) -> Self {
        let WebConfig { tls, headers, users, .. } = config;
        let config = ActiveConfig { tls, headers, basic_auth: BasicAuth::new(users) };
        Self {
            public_paths,
            config: RwLock::new(Arc::new(config)),
            failures: Mutex::default(),
            on_login_failure: Box::new(|_| {}),
        }
    }

    /// Calls `report` for each failed login.
    #[must_use]
    pub fn on_login_failure(mut self, report: impl Fn(LoginFailure) + Send + Sync + 'static) -> Self {
        self.on_login_failure = Box::new(report);
        self
    }

    /// Applies `config` to new connections, and to the next requests of existing ones.
    pub fn replace(&self, config: WebConfig) {
        let WebConfig { tls, headers, users, .. } = config;
        let mut config = self.config.write().unwrap_or_else(PoisonError::into_inner);
        *config = Arc::new(ActiveConfig { tls, headers, basic_auth: config.basic_auth.with_users(users) });
    }

    /// The TLS settings of new connections; `None` for plain HTTP.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.config().tls.clone()
    }

    /// Checks the credentials of a request, and removes them, so that no handler can show them.
    ///
    /// # Errors
    /// The refusal, as a response.
    pub(super) async fn authorize(&self, head: &mut Parts, peer: SocketAddr) -> Result<(), Response> {
        let result = if self.public_paths.contains(&head.uri.path()) {
            AuthResult::Accepted
        } else {
            self.config().basic_auth.authenticate(&head.headers, peer.ip()).await
        };
        head.headers.remove(header::AUTHORIZATION);
        let AuthResult::Failed(failure) = result else { return Ok(()) };
        self.report(failure, peer);
        let (status, name, value) = match failure {
            LoginFailure::TooManyAttempts => {
                (StatusCode::TOO_MANY_REQUESTS, header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
            LoginFailure::NoCredentials | LoginFailure::WrongCredentials => {
                (StatusCode::UNAUTHORIZED, header::WWW_AUTHENTICATE, CHALLENGE)
            }
        };
        let mut refusal = status_response(status);
        refusal.headers_mut().insert(name, value);
        Err(refusal)
    }

    fn report(&self, failure: LoginFailure, peer: SocketAddr) {
        (self.on_login_failure)(failure);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let due = failures.get_mut(failure as usize).and_then(|log| log.add(Instant::now()));
        drop(failures);
        if let Some(count) = due {
            warn!(reason = failure.as_str(), count, last_peer = %peer.ip(), "logins failed");
        }
    }

    /// Adds the configured headers. They replace those of the handler.
    pub(super) fn add_headers(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.config().headers {
            headers.insert(name, value.clone());
        }
    }

    fn config(&self) -> Arc<ActiveConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for AccessControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessControl").field("public_paths", &self.public_paths).finish_non_exhaustive()
    }
}

/// The failed logins of one reason.
#[derive(Default)]
struct FailureLog {
    last_line: Option<Instant>,
    /// Failures since the last log line.
    count: u64,
}

impl FailureLog {
    /// Counts a failure. Returns the count if a log line is due.
    fn add(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.last_line.is_some_and(|last_line| now - last_line < LOG_INTERVAL) {
            return None;
        }
        self.last_line = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

/// The requests that one listener serves.
#[derive(Clone, Debug)]
pub(super) struct ListenerPolicy {
    pub(super) access_control: Arc<AccessControl>,
    /// If set, only these paths are served.
    pub(super) only_paths: Option<&'static [&'static str]>,
}

impl ListenerPolicy {
    /// # Errors
    /// The refusal, as a response.
    pub(super) async fn authorize(&self, head: &mut Parts, peer: SocketAddr) -> Result<(), Response> {
        if self.only_paths.is_some_and(|paths| !paths.contains(&head.uri.path())) {
            return Err(status_response(StatusCode::NOT_FOUND));
        }
        self.access_control.authorize(head, peer).await
    }
}
