//! HTTP/1.1 as this program serves it: sockets, the accept loop, what a client may take up, and how it all ends.
//!
//! This is the only place that knows hyper, but for the simulator's faults. Everything else sees a [`Request`] whose body
//! is already there, gives back a [`Response`], and can be called without any socket. What is served belongs elsewhere.
//!
//! - [`Listener`]: binds an address, and says why where that fails.
//! - [`serve`]: accepts until it is told to stop, then drains.
//! - [`Guard`]: the web configuration at work, for listeners that are not open to everybody: TLS, logins, headers.
//! - [`Limits`]: every bound on what one client, or all of them, can hold.
//! - [`probe()`]: asks another process of this program whether it lives.

mod accept;
mod body;
mod connection;
mod entrance;
mod guard;
mod listen;
mod login;
mod patience;
mod probe;
mod seats;
mod server;
mod stream;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
pub use body::ResponseBody;
pub use guard::Guard;
pub use listen::{BindError, Listener};
pub use login::LoginFailure;
pub use probe::{ProbeError, probe};
pub use server::serve;

/// A request with its whole body, read within [`Limits`] before the handler runs. The peer's [`std::net::SocketAddr`]
/// is among its extensions where the request came over a socket.
pub type Request = ::http::Request<Bytes>;

/// A response with its whole body. `Content-Length` is added when it is sent, and `Date` where it has none.
pub type Response = ::http::Response<ResponseBody>;

/// A boxed future that can be spawned.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What answers requests, on every connection of every listener. See [`handler`] for how to make one.
///
/// It is dropped half way when its client goes away, or when the drain is over. A panic ends the connection it was
/// called on, and no other.
pub type Handler = Arc<dyn Fn(Request) -> BoxFuture<Response> + Send + Sync>;

/// Makes a [`Handler`] of an asynchronous function.
pub fn handler<F, Answer>(answer: F) -> Handler
where
    F: Fn(Request) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = Response> + Send + 'static,
{
    Arc::new(move |request| Box::pin(answer(request)))
}

/// What a client, or all of them together, can take up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the first byte of a request to the end of its header; on a fresh connection, from its start, or from the end
    /// of its TLS handshake, for which there is as long again. A client that takes longer is cut without an answer.
    pub header_timeout: Duration,
    /// From the end of one response to the end of the next request's header. Longer than the longest useful scrape
    /// interval (two minutes: Prometheus takes a series for gone after five), so that a scraper's connection lives from
    /// one scrape to the next.
    pub idle_timeout: Duration,
    /// From the end of the header to the end of the body. A client that takes longer gets 408.
    pub body_timeout: Duration,
    /// How long a client may refuse to take more of a response.
    pub write_timeout: Duration,
    /// A connection that is older ends after the request under way. A client certificate is only checked when a connection
    /// is made, so this is how long one that is no longer accepted can still be used.
    pub max_connection_age: Duration,
    /// Largest header, in bytes: 16 KiB at most. One that is larger gets 431.
    pub max_header_bytes: usize,
    /// Largest body, in bytes. One that is larger gets 413.
    pub max_body_bytes: usize,
    /// Connections at once, over all listeners; at least one. Where there are as many, a new one takes the place of one
    /// that is idle or has not sent a whole header. While none is, each listener holds one further connection in hand
    /// without reading from it, and the rest wait in the kernel's queue.
    pub max_connections: usize,
    /// How long connections may take to finish after the shutdown; those that do not are dropped.
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

/// Far more than the scrapers of one exporter need, and with TLS about 20 MB.
const MAX_CONNECTIONS: usize = 512;

impl Limits {
    /// As the default, with no more connections than half of the files that this process may open, as far as the system
    /// tells (`RLIMIT_NOFILE`). The other half is for what the exporter calls and reads itself.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self { max_connections: connections(open_files()), ..Self::default() }
    }
}

fn connections(open_files: Option<u64>) -> usize {
    let half = open_files.and_then(|files| usize::try_from(files / 2).ok()).unwrap_or(MAX_CONNECTIONS);
    half.clamp(1, MAX_CONNECTIONS)
}

/// How many files this process may open; `None` where there is no bound, or none that can be found.
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

/// A response that says its status and no more.
fn short(status: StatusCode) -> Response {
    let mut response = Response::new(status.canonical_reason().unwrap_or_default().into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
