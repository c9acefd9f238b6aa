//! The web configuration at work: what new connections speak, who may come in, and what every response carries.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use ::http::request::Parts;
use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use rustls::ServerConfig;
use tracing::debug;

use super::login::{Logins, Verdict};
use super::{Response, short};
use crate::config::web_config::WebConfig;

/// What a client that may not come in is told to do (RFC 7617). Browsers show the realm beside their question.
const CHALLENGE: HeaderValue =
    HeaderValue::from_static(concat!("Basic realm=\"", env!("CARGO_PKG_NAME"), "\", charset=\"UTF-8\""));

/// Guards one listener or several by a web configuration, which can be replaced while they serve.
///
/// A new connection goes by the lock that is there when it comes, and keeps it; each of its requests goes by the users
/// and headers that are there when it comes. So nothing that is open is ended by a new configuration.
pub struct Guard {
    /// The paths that need no login.
    open: &'static [&'static str],
    rules: RwLock<Arc<Rules>>,
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
        Self { open, rules: RwLock::new(Arc::new(rules)) }
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
        let (status, name, value) = match verdict {
            Verdict::Admitted => return Ok(()),
            Verdict::Unknown => (StatusCode::UNAUTHORIZED, header::WWW_AUTHENTICATE, CHALLENGE),
            Verdict::TooMany => (StatusCode::TOO_MANY_REQUESTS, header::RETRY_AFTER, HeaderValue::from_static("1")),
        };
        debug!(%peer, %status, "a request without a right login");
        let mut refusal = short(status);
        refusal.headers_mut().insert(name, value);
        Err(refusal)
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
