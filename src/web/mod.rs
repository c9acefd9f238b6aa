//! What the exporter serves over HTTP, and at which paths.

mod accept;
mod page;
#[cfg(test)]
mod proptests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::clock::Clock;
use crate::http::{
    self, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, ResponseBody, StatusCode, header,
};
use crate::jobs::OTHER;
use crate::metrics::{ExporterMetrics, Exposition, TargetStates};

/// How long first walks delay readiness: a target that hangs must not hide the others, nor its own metrics.
const READY_AFTER: Duration = Duration::from_mins(1);

/// The path that shows that the process answers requests.
pub const HEALTHY: &str = "/-/healthy";

/// The path that shows whether the targets have been listed once.
const READY: &str = "/-/ready";

/// The path that reads the configuration again.
const RELOAD: &str = "/-/reload";

/// The paths of probes, which need no login.
pub const PROBES: &[&str] = &[HEALTHY, READY];

/// How long a request for a reload waits for its result.
const RELOAD_TIMEOUT: Duration = Duration::from_mins(1);

/// A way to have the configuration read again.
#[derive(Clone, Debug)]
pub struct Reloads(mpsc::Sender<oneshot::Sender<Result<String, String>>>);

impl Reloads {
    /// The two ends of the channel.
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
        match timeout(RELOAD_TIMEOUT, answered).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => Err("the exporter is stopping".to_owned()),
            Err(_) => Err("the configuration is still being read; see the log for the result".to_owned()),
        }
    }
}

/// Everything that is served.
#[derive(Debug)]
pub struct Site {
    states: Arc<TargetStates>,
    exposition: Exposition,
    metrics: Arc<ExporterMetrics>,
    clock: Clock,
    telemetry_path: String,
    /// `None` if reloads over HTTP are not enabled.
    lifecycle: Option<Reloads>,
    started: Instant,
    stopping: AtomicBool,
}

impl Site {
    /// A site that shows these targets, with the metrics at `telemetry_path`.
    #[must_use]
    pub fn new(
        states: Arc<TargetStates>,
        metrics: Arc<ExporterMetrics>,
        clock: Clock,
        telemetry_path: String,
        lifecycle: Option<Reloads>,
    ) -> Self {
        let (started, stopping) = (Instant::now(), AtomicBool::new(false));
        let exposition = Exposition::new(Arc::clone(&states), Arc::clone(&metrics));
        Self { states, exposition, metrics, clock, telemetry_path, lifecycle, started, stopping }
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
            async move {
                let response = site.answer(&request).await;
                site.metrics.http_request(site.handler_name(request.uri().path()), response.status());
                response
            }
        })
    }

    /// The value of the label `handler` for requests to a path.
    fn handler_name<'a>(&self, path: &'a str) -> &'a str {
        let is_known = path == self.telemetry_path || ["/", RELOAD, HEALTHY, READY].contains(&path);
        if is_known { path } else { OTHER }
    }

    async fn answer(&self, request: &Request) -> Response {
        let path = request.uri().path();
        if path == RELOAD {
            return self.reload(request.method()).await;
        }
        if self.handler_name(path) == OTHER {
            return plain(StatusCode::NOT_FOUND, "Not found. The metrics are at the path that / links to.\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD are allowed here.\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/" => self.page(),
            HEALTHY => plain(StatusCode::OK, "Healthy.\n"),
            READY => self.ready(),
            _ => self.metrics(request.headers()).await,
        }
    }

    async fn metrics(&self, headers: &HeaderMap) -> Response {
        let format = accept::format(&values(headers, &header::ACCEPT));
        let now = self.clock.now();
        let wants_gzip = accept::gzip(&values(headers, &header::ACCEPT_ENCODING));
        let compressed = if wants_gzip { self.exposition.gzip_body(format, now).await } else { None };
        let is_compressed = compressed.is_some();
        let body = compressed.unwrap_or_else(|| self.exposition.body(format, now));
        let mut response = respond(StatusCode::OK, format.content_type(), body);
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        if is_compressed {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
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
        let page = {
            let now = self.clock.now();
            page::render(&self.states.read(now), now, &self.telemetry_path)
        };
        let mut response = respond(StatusCode::OK, "text/html; charset=utf-8", Bytes::from(page));
        let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        response
    }

    fn ready(&self) -> Response {
        if self.stopping.load(Ordering::Relaxed) {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "Not ready: stopping.\n");
        }
        let targets = self.states.read(self.clock.now());
        let are_listed = targets.iter().all(|target| target.state.open_jobs.last_run.is_some());
        if are_listed || self.started.elapsed() >= READY_AFTER {
            plain(StatusCode::OK, "Ready.\n")
        } else {
            plain(StatusCode::SERVICE_UNAVAILABLE, "Not ready: the open jobs of a target are being listed.\n")
        }
    }
}

/// The values of a header that can be read as text.
fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    respond(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<ResponseBody>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::Timestamp;

    async fn get(site: &Arc<Site>, path: &str) -> Response {
        let request = ::http::Request::get(path).body(Bytes::new()).expect("a request");
        site.answer(&request).await
    }

    #[tokio::test(start_paused = true)]
    async fn an_exporter_that_stops_is_healthy_and_not_ready() {
        let clock = Clock::starting_at(Timestamp::from_secs(1_790_000_000));
        let site =
            Site::new(Arc::default(), Arc::new(ExporterMetrics::new(Vec::new)), clock, "/metrics".to_owned(), None);
        let site = Arc::new(site);
        assert_eq!(get(&site, "/-/ready").await.status(), StatusCode::OK, "there is no target to wait for");
        site.stop();
        assert_eq!(get(&site, "/-/ready").await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(get(&site, "/-/healthy").await.status(), StatusCode::OK, "it still answers");
    }
}
