//! The HTTP/1.1 server: sockets, the accept loop, limits on clients, and the drain.
//!
//! Only this module and the simulator's faults use hyper. Everything else takes a [`Request`] with its body, returns a
//! [`Response`], and needs no socket.
//!
//! - [`Listener`]: binds an address, and explains failures.
//! - [`serve`]: accepts until the shutdown, then drains.
//! - [`AccessControl`]: TLS, logins and headers of the web configuration.
//! - [`Limits`]: all limits on clients.
//! - [`probe()`]: checks the health of another exporter on this machine.

mod acceptor;
mod body;
mod connection;
mod connection_limit;
mod listen;
mod probe;
mod security;
mod server;
#[cfg(test)]
mod tests;
mod timeouts;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Resource, getrlimit};

pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
pub use body::ResponseBody;
pub use listen::{BindError, Listener};
pub use probe::{ProbeError, probe};
pub use security::{AccessControl, LoginFailure};
pub use server::serve;

/// A request with its whole body, which is read within [`Limits`] before the handler runs. If it came over a socket,
/// its extensions contain the peer's [`std::net::SocketAddr`].
pub type Request = ::http::Request<Bytes>;

/// A response with its whole body. The server adds `Content-Length`, and `Date` if it is missing.
pub type Response = ::http::Response<ResponseBody>;

/// A boxed future that can be spawned.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Answers the requests of all listeners. [`handler`] makes one.
///
/// The future is cancelled when the client disconnects or the drain ends. A panic closes only its own connection.
pub type Handler = Arc<dyn Fn(Request) -> BoxFuture<Response> + Send + Sync>;

/// Makes a [`Handler`] from an asynchronous function.
pub fn handler<F, Answer>(answer: F) -> Handler
where
    F: Fn(Request) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = Response> + Send + 'static,
{
    Arc::new(move |request| Box::pin(answer(request)))
}

/// Limits on one client, or on all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The time for a header, from its first byte. For a new connection it starts with the connection, or after the
    /// TLS handshake, which has the same limit. A slower client is disconnected without a response.
    pub header_timeout: Duration,
    /// The time from the end of a response to the end of the next header. It exceeds the longest useful scrape
    /// interval (two minutes, because Prometheus drops a series after five), so that scrapers keep their connections.
    pub idle_timeout: Duration,
    /// The time from the end of the header to the end of the body. A slower client gets 408. Also the time for which
    /// the rest of a refused request is discarded.
    pub body_timeout: Duration,
    /// How long a client may read no byte of a response.
    pub write_timeout: Duration,
    /// The maximal age of a connection; the current request is still answered. A client certificate is checked only
    /// when a connection starts, so this is how long a revoked certificate can still be used.
    pub max_connection_age: Duration,
    /// The largest header, at most 16 KiB. A larger one gets 431.
    pub max_header_bytes: usize,
    /// The largest body. A larger one gets 413.
    pub max_body_bytes: usize,
    /// The largest number of connections over all listeners, at least one. Beyond it, a new connection replaces one
    /// that is idle or has no complete header. If there is none, each listener holds one new connection until a slot
    /// is free, and the others wait in the kernel's queue.
    pub max_connections: usize,
    /// How long connections may take to finish after the shutdown.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_mins(3),
            body_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(30),
            max_connection_age: Duration::from_mins(15),
            max_header_bytes: 16 * 1024,
            max_body_bytes: 64 * 1024,
            max_connections: MAX_CONNECTIONS,
            drain: Duration::from_millis(1500),
        }
    }
}

/// Far more than the scrapers of one exporter need; takes about 20 MB with TLS.
const MAX_CONNECTIONS: usize = 512;

impl Limits {
    /// The defaults, with at most half as many connections as the process may open files (`RLIMIT_NOFILE`). The other
    /// half is for requests to AWS and for files.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self { max_connections: connections(getrlimit(Resource::Nofile).current), ..Self::default() }
    }
}

/// `open_files` is `None` if the process may open any number.
fn connections(open_files: Option<u64>) -> usize {
    let half = open_files.and_then(|files| usize::try_from(files / 2).ok()).unwrap_or(MAX_CONNECTIONS);
    half.clamp(1, MAX_CONNECTIONS)
}

/// A response whose body is the name of its status.
fn status_response(status: StatusCode) -> Response {
    let mut response = Response::new(status.canonical_reason().unwrap_or_default().into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
