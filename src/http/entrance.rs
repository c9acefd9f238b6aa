//! What a request has to pass before it is answered, on the listener that it came to.

use std::net::SocketAddr;
use std::sync::Arc;

use ::http::request::Parts;
use ::http::{HeaderMap, StatusCode};
use rustls::ServerConfig;

use super::{Guard, Response, short};

/// How one listener lets requests in. The default lets all of them in.
#[derive(Clone, Debug, Default)]
pub(super) struct Entrance {
    pub(super) guard: Option<Arc<Guard>>,
    /// The paths that are served; all, where it says nothing.
    pub(super) only: Option<&'static [&'static str]>,
}

impl Entrance {
    /// What a new connection speaks TLS with; `None` for plain HTTP.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.guard.as_ref()?.tls()
    }

    /// Lets a request pass, without its credentials.
    ///
    /// # Errors
    /// The refusal, where it may not.
    pub(super) async fn admit(&self, head: &mut Parts, peer: SocketAddr) -> Result<(), Response> {
        if self.only.is_some_and(|paths| !paths.contains(&head.uri.path())) {
            return Err(short(StatusCode::NOT_FOUND));
        }
        match &self.guard {
            Some(guard) => guard.admit(head, peer).await,
            None => Ok(()),
        }
    }

    /// Adds to the headers of a response what all of them get.
    pub(super) fn complete(&self, headers: &mut HeaderMap) {
        if let Some(guard) = &self.guard {
            guard.complete(headers);
        }
    }
}
