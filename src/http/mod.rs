//! The HTTP/1.1 server: sockets, the accept loop, limits on clients, and the drain.
//!
//! Only this module knows hyper, apart from the simulator's faults. Everything else gets a [`Request`] with its body, returns a
//! [`Response`], and needs no socket.
//!
//! - [`Listener`]: binds an address, and explains failures.
//! - [`serve`]: accepts until the shutdown, then drains.
//! - [`AccessControl`]: TLS, logins and headers of the web configuration.
//! - [`Limits`]: every bound on one client, or on all of them.
//! - [`probe()`]: checks the health of another exporter on this machine.

mod accept;
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

pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
pub use body::ResponseBody;
pub use listen::{BindError, Listener};
pub use probe::{ProbeError, probe};
pub use security::{AccessControl, LoginFailure};
pub use server::serve;

/// A request with its whole body, which is read within [`Limits`] before the handler runs. Its extensions have the peer's
/// [`std::net::SocketAddr`] if it came over a socket.
pub type Request = ::http::Request<Bytes>;

/// A response with its whole body. `Content-Length`, and `Date` if it is missing, are added when it is sent.
pub type Response = ::http::Response<ResponseBody>;

/// A boxed future that can be spawned.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Answers the requests of all listeners. [`handler`] makes one.
///
/// Its future is cancelled when the client disconnects or the drain ends. A panic closes its own connection only.
pub type Handler = Arc<dyn Fn(Request) -> BoxFuture<Response> + Send + Sync>;

/// Makes a [`Handler`] from an asynchronous function.
pub fn handler<F, Answer>(answer: F) -> Handler
where
    F: Fn(Request) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = Response> + Send + 'static,
{
    Arc::new(move |request| Box::pin(answer(request)))
}

/// Bounds on one client, or on all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the first byte of a header to its end; for a new connection from its start, or from the end of its TLS handshake,
    /// which has the same bound. A client that takes longer is disconnected without a response.
    pub header_timeout: Duration,
    /// From the end of a response to the end of the next header. Longer than the longest useful scrape interval (two minutes,
    /// because Prometheus drops a series after five), so that a scraper keeps its connection.
    pub idle_timeout: Duration,
    /// From the end of the header to the end of the body. A client that takes longer gets 408. Also how long the rest of a
    /// refused request is discarded.
    pub body_timeout: Duration,
    /// How long a client may read nothing of a response.
    pub write_timeout: Duration,
    /// The age at which a connection ends, after the request under way. A client certificate is checked only when a connection
    /// is made, so this is how long one that is no longer accepted can still be used.
    pub max_connection_age: Duration,
    /// The largest header, 16 KiB at most. A larger one gets 431.
    pub max_header_bytes: usize,
    /// The largest body. A larger one gets 413.
    pub max_body_bytes: usize,
    /// Connections at once, over all listeners; at least one. Beyond that, a new connection replaces one that is idle or has no
    /// complete header. If there is none, each listener holds one new connection until a slot is free, and the others wait in
    /// the kernel's queue.
    pub max_connections: usize,
    /// How long connections may take to finish after the shutdown, before they are dropped.
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

/// Far more than the scrapers of one exporter need; about 20 MB with TLS.
const MAX_CONNECTIONS: usize = 512;

impl Limits {
    /// The default, with at most half as many connections as this process may open files (`RLIMIT_NOFILE`). The other half is for
    /// requests to AWS and for files.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self { max_connections: connections(open_files()), ..Self::default() }
    }
}

fn connections(open_files: Option<u64>) -> usize {
    let half = open_files.and_then(|files| usize::try_from(files / 2).ok()).unwrap_or(MAX_CONNECTIONS);
    half.clamp(1, MAX_CONNECTIONS)
}

/// How many files this process may open; `None` if it is not bounded, or the bound is not known.
#[cfg(target_os = "linux")]
fn open_files() -> Option<u64> {
    use procfs::process::{LimitValue, Process};
    match Process::myself().ok()?.limits().ok()?.max_open_files.soft_limit {
        LimitValue::Value(files) => Some(files),
        LimitValue::Unlimited => None,
    }
}

#[cfg(not(target_os = "linux"))]
fn open_files() -> Option<u64> {
    None
}

/// A response that has only its status.
fn status_response(status: StatusCode) -> Response {
    let mut response = Response::new(status.canonical_reason().unwrap_or_default().into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
