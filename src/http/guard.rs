//! The web configuration at work: what new connections speak, who may come in, and what every response carries.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use ::http::request::Parts;
use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use rustls::ServerConfig;
use tokio::time::Instant;
use tracing::warn;

use super::login::{LoginFailure, Logins, Verdict};
use super::{Response, short};
use crate::config::web_config::WebConfig;

/// What a client that may not come in is told to do (RFC 7617). Browsers show the realm beside their question.
const CHALLENGE: HeaderValue =
    HeaderValue::from_static(concat!("Basic realm=\"", env!("CARGO_PKG_NAME"), "\", charset=\"UTF-8\""));

/// How often failed logins are logged, for each reason: anybody can make them, at any rate.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Guards one listener or several by a web configuration, which can be replaced while they serve.
///
/// A new connection goes by the lock that is there when it comes, and keeps it; each of its requests goes by the users
/// and headers that are there when it comes. So nothing that is open is ended by a new configuration.
pub struct Guard {
    /// The paths that need no login.
    open: &'static [&'static str],
    rules: RwLock<Arc<Rules>>,
    failures: Mutex<[FailureLog; LoginFailure::ALL.len()]>,
    on_login_failure: Box<dyn Fn(LoginFailure) + Send + Sync>,
}

/// The failed logins of one reason.
#[derive(Default)]
struct FailureLog {
    logged: Option<Instant>,
    /// Since the last line.
    count: u64,
}

impl FailureLog {
    /// Counts one more. Returns the count if it is time for a line.
    fn add(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.logged.is_some_and(|logged| now - logged < LOG_INTERVAL) {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

struct Rules {
    tls: Option<Arc<ServerConfig>>,
    headers: Vec<(HeaderName, HeaderValue)>,
    logins: Logins,
}

impl Guard {
    /// Guards by `config`. Who asks for one of the paths in `open`, letter by letter, needs no login.
    #[must_use]
    pub fn new(config: WebConfig, open: &'static [&'static str]) -> Self {
        let WebConfig { tls, headers, users, .. } = config;
        let rules = Rules { tls, headers, logins: Logins::new(users) };
        Self {
            open,
            rules: RwLock::new(Arc::new(rules)),
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

    /// Guards by `config` from now on.
    pub fn replace(&self, config: WebConfig) {
        let WebConfig { tls, headers, users, .. } = config;
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        *rules = Arc::new(Rules { tls, headers, logins: rules.logins.replaced(users) });
    }

    /// Whether a new connection has to speak TLS.
    #[must_use]
    pub fn speaks_tls(&self) -> bool {
        self.tls().is_some()
    }

    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.rules().tls.clone()
    }

    /// Lets a request pass. Its credentials go no further, so that nothing behind this can show them.
    ///
    /// # Errors
    /// The refusal, where it may not.
    pub(super) async fn admit(&self, head: &mut Parts, peer: SocketAddr) -> Result<(), Response> {
        let verdict = if self.open.contains(&head.uri.path()) {
            Verdict::Admitted
        } else {
            self.rules().logins.judge(&head.headers, peer.ip()).await
        };
        head.headers.remove(header::AUTHORIZATION);
        let Verdict::Failed(failure) = verdict else { return Ok(()) };
        self.report(failure, peer);
        let (status, name, value) = match failure {
            LoginFailure::TooManyAttempts => {
                (StatusCode::TOO_MANY_REQUESTS, header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
            _ => (StatusCode::UNAUTHORIZED, header::WWW_AUTHENTICATE, CHALLENGE),
        };
        let mut refusal = short(status);
        refusal.headers_mut().insert(name, value);
        Err(refusal)
    }

    fn report(&self, failure: LoginFailure, peer: SocketAddr) {
        (self.on_login_failure)(failure);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        // The discriminants count from 0.
        let due = failures.get_mut(failure as usize).and_then(|log| log.add(Instant::now()));
        drop(failures);
        if let Some(count) = due {
            warn!(reason = failure.as_str(), count, last_peer = %peer.ip(), "logins failed");
        }
    }

    /// Adds the configured headers. They go before those of the handler, or they would be obeyed here and there only.
    pub(super) fn complete(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.rules().headers {
            headers.insert(name, value.clone());
        }
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("open", &self.open).finish_non_exhaustive()
    }
}
