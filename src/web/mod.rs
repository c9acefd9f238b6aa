//! What the exporter serves over HTTP, and at which paths.

pub mod accept;
mod page;
#[cfg(test)]
mod proptests;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::clock::Clock;
use crate::exposition::{self, board::Board};
use crate::http::{self, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use crate::telemetry::Telemetry;

/// How long a first refresh may hold readiness back: a target that hangs must not hide the others, nor its own `up 0`.
const READY_AFTER: Duration = Duration::from_mins(1);

/// Bodies from this size on are compressed on a thread of their own, so that other requests do not wait for it.
const COMPRESS_APART: usize = 128 * 1024;

/// The path that tells whether the process lives.
pub const HEALTHY: &str = "/-/healthy";

/// The paths that tell whether the exporter is well, which nobody needs a login for.
pub const PROBES: &[&str] = &[HEALTHY, "/-/ready"];

/// How long somebody who asks for a reload waits for it.
const RELOAD_PATIENCE: Duration = Duration::from_mins(1);

/// A way to have the configuration read again.
#[derive(Clone, Debug)]
pub struct Reloads(mpsc::Sender<oneshot::Sender<Result<String, String>>>);

impl Reloads {
    /// A way to ask, and where it is heard.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<oneshot::Sender<Result<String, String>>>) {
        // A few may wait; more than that would read the same file again and again.
        let (ask, asked) = mpsc::channel(4);
        (Self(ask), asked)
    }

    /// Has the configuration read again. Returns what changed, in a sentence.
    ///
    /// # Errors
    /// What is wrong with it, in lines for people; nothing has changed then.
    pub async fn reload(&self) -> Result<String, String> {
        let (answer, answered) = oneshot::channel();
        let answered = async {
            self.0.send(answer).await.ok()?;
            answered.await.ok()
        };
        match timeout(RELOAD_PATIENCE, answered).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => Err("the exporter is stopping".to_owned()),
            Err(_) => Err("the configuration is still being read; see the log for the result".to_owned()),
        }
    }
}

/// Everything that is served.
#[derive(Debug)]
pub struct Site {
    board: Arc<Board>,
    telemetry: Arc<Telemetry>,
    clock: Clock,
    telemetry_path: String,
    /// Where anybody may ask for a reload.
    lifecycle: Option<Reloads>,
    started: Instant,
    stopping: AtomicBool,
}

impl Site {
    /// A site that shows what is on `board`, with `/metrics` at `telemetry_path`.
    #[must_use]
    pub fn new(
        board: Arc<Board>,
        telemetry: Arc<Telemetry>,
        clock: Clock,
        telemetry_path: String,
        lifecycle: Option<Reloads>,
    ) -> Self {
        let (started, stopping) = (Instant::now(), AtomicBool::new(false));
        Self { board, telemetry, clock, telemetry_path, lifecycle, started, stopping }
    }

    /// From now on the exporter is not ready: it is about to end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// What answers requests.
    #[must_use]
    pub fn handler(self: &Arc<Self>) -> http::Handler {
        let site = Arc::clone(self);
        http::handler(move |request| {
            let site = Arc::clone(&site);
            async move { site.answer(&request).await }
        })
    }

    async fn answer(&self, request: &Request) -> Response {
        let path = request.uri().path();
        if path == "/-/reload" {
            return self.reload(request.method()).await;
        }
        let known = path == self.telemetry_path || matches!(path, "/" | "/-/healthy" | "/-/ready");
        if !known {
            return plain(StatusCode::NOT_FOUND, "Not found. The metrics are at the path that / links to.\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD are allowed here.\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/" => self.page(),
            "/-/healthy" => plain(StatusCode::OK, "Healthy.\n"),
            "/-/ready" => self.ready(),
            _ => self.metrics(request.headers()).await,
        }
    }

    async fn metrics(&self, headers: &HeaderMap) -> Response {
        let format = accept::format(&values(headers, &header::ACCEPT));
        let body = exposition::body(format, &self.board, &self.telemetry, self.clock.now());
        let wants_gzip = accept::gzip(&values(headers, &header::ACCEPT_ENCODING));
        let (body, coding) = match wants_gzip.then_some(body.clone()) {
            Some(plain) => match gzip(plain).await {
                Some(compressed) => (compressed, Some(HeaderValue::from_static("gzip"))),
                None => (body, None),
            },
            None => (body, None),
        };
        let mut response = respond(StatusCode::OK, format.content_type(), body);
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        if let Some(coding) = coding {
            headers.insert(header::CONTENT_ENCODING, coding);
        }
        response
    }

    async fn reload(&self, method: &Method) -> Response {
        let Some(reloads) = &self.lifecycle else {
            return plain(StatusCode::FORBIDDEN, "Reloading over HTTP is not enabled: see --web.enable-lifecycle.\n");
        };
        if method != Method::POST {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Only POST is allowed here.\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        match reloads.reload().await {
            Ok(outcome) => {
                respond(StatusCode::OK, "text/plain; charset=utf-8", Bytes::from(format!("Reloaded. {outcome}\n")))
            }
            Err(reason) => {
                let text = format!("Not reloaded; the previous configuration stays in use.\n{reason}\n");
                respond(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", Bytes::from(text))
            }
        }
    }

    fn page(&self) -> Response {
        let page = page::render(&self.board.read(), self.clock.now(), &self.telemetry_path);
        let mut response = respond(StatusCode::OK, "text/html; charset=utf-8", Bytes::from(page));
        let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        response
    }

    fn ready(&self) -> Response {
        if self.stopping.load(Ordering::Relaxed) {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "Not ready: stopping.\n");
        }
        let refreshed = self.board.read().iter().all(|target| target.state.last.is_some());
        if refreshed || self.started.elapsed() >= READY_AFTER {
            plain(StatusCode::OK, "Ready.\n")
        } else {
            plain(StatusCode::SERVICE_UNAVAILABLE, "Not ready: the first refresh of a target is under way.\n")
        }
    }
}

/// The values of a header that can be read as text.
fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
}

/// One gzip member of `body`. `None` where it can't be had, and then the body goes out as it is.
async fn gzip(body: Bytes) -> Option<Bytes> {
    if body.len() < COMPRESS_APART {
        return compress(&body).ok();
    }
    tokio::task::spawn_blocking(move || compress(&body)).await.ok()?.ok()
}

fn compress(body: &[u8]) -> std::io::Result<Bytes> {
    // The fastest level: an exposition repeats itself so much that the higher ones gain little for several times the work.
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish().map(Bytes::from)
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    respond(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

fn respond(status: StatusCode, content_type: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::jobs::Timestamp;

    async fn get(site: &Arc<Site>, path: &str) -> Response {
        let request = ::http::Request::get(path).body(Bytes::new()).expect("a request");
        site.answer(&request).await
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_falls_when_the_exporter_is_told_to_stop() {
        let clock = Clock::starting_at(Timestamp::from_secs(1_790_000_000));
        let site = Site::new(Arc::default(), Arc::new(Telemetry::new()), clock, "/metrics".to_owned(), None);
        let site = Arc::new(site);
        assert_eq!(get(&site, "/-/ready").await.status(), StatusCode::OK, "no target has a refresh to wait for");
        site.stop();
        assert_eq!(get(&site, "/-/ready").await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(get(&site, "/-/healthy").await.status(), StatusCode::OK, "it still lives");
    }

    #[tokio::test]
    async fn small_and_large_bodies_read_back_after_compression() {
        for size in [0, 1000, COMPRESS_APART - 1, COMPRESS_APART, 3 * COMPRESS_APART] {
            let body: Bytes = (0..size).map(|n| u8::try_from(n % 251).unwrap_or_default()).collect();
            let compressed = gzip(body.clone()).await.expect("gzip");
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&compressed[..]).read_to_end(&mut plain).expect("gzip");
            assert_eq!(plain, body, "{size} bytes");
        }
    }
}
