//! The paths that the exporter serves over HTTP, and their responses.

mod accept;
mod api;
pub(crate) mod links;
mod page;
#[cfg(test)]
mod proptests;
mod report;
mod route;

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

use self::report::{JobFilter, JobReport, JobsReport, ShownWithRequests, StatusReport};
pub use self::route::{HEALTHY, PROBES};
use self::route::{JobPath, Route};
use crate::clock::Clock;
use crate::http::{
    self, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, ResponseBody, StatusCode, header,
};
use crate::jobs::{OTHER, Timepoint};
use crate::metrics::{ExporterMetrics, Exposition, TargetStates};

/// How long first walks delay readiness: a target that hangs must not hide the others, nor its own metrics.
const READY_AFTER: Duration = Duration::from_mins(1);

/// How long a request for a reload waits for its result.
const RELOAD_TIMEOUT: Duration = Duration::from_mins(1);

/// The answer for a job that is not shown.
const NO_JOB: &str = "this target shows no job with this id: it does not exist, is not known yet, is stale, ended too long ago, or has \
                      no series of its own because of limits.max_jobs or limits.max_ended_jobs";

/// Requests reloads of the configuration.
#[derive(Clone, Debug)]
pub struct Reloads(mpsc::Sender<oneshot::Sender<Result<String, String>>>);

impl Reloads {
    /// The two ends of the channel.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<oneshot::Sender<Result<String, String>>>) {
        // A few requests may wait; more would only read the same file repeatedly.
        let (ask, asked) = mpsc::channel(4);
        (Self(ask), asked)
    }

    /// Reloads the configuration. Returns what changed, in a sentence.
    ///
    /// # Errors
    /// The problems of the configuration, in lines for people. Nothing has changed then.
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

/// Answers all requests.
#[derive(Debug)]
pub struct Site {
    states: Arc<TargetStates>,
    exposition: Exposition,
    metrics: Arc<ExporterMetrics>,
    clock: Clock,
    telemetry_path: String,
    /// `None` if reloads over HTTP are not enabled.
    lifecycle: Option<Reloads>,
    started: Timepoint,
    stopping: AtomicBool,
    /// Reports are made one at a time, so that they leave threads for compression and logins.
    reporting: Arc<Semaphore>,
}

impl Site {
    /// A site with these targets, and the metrics at `telemetry_path`.
    #[must_use]
    pub fn new(
        states: Arc<TargetStates>,
        metrics: Arc<ExporterMetrics>,
        clock: Clock,
        telemetry_path: String,
        lifecycle: Option<Reloads>,
    ) -> Self {
        let (started, stopping) = (clock.now(), AtomicBool::new(false));
        let exposition = Exposition::new(Arc::clone(&states), Arc::clone(&metrics));
        let reporting = Arc::new(Semaphore::new(1));
        Self { states, exposition, metrics, clock, telemetry_path, lifecycle, started, stopping, reporting }
    }

    /// Makes the exporter not ready, because it is about to end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// The handler for the HTTP server.
    #[must_use]
    pub fn handler(self: &Arc<Self>) -> http::Handler {
        let site = Arc::clone(self);
        http::handler(move |request| {
            let site = Arc::clone(&site);
            async move {
                let route = Route::of(request.uri().path(), &site.telemetry_path);
                let handler = route.handler(&site.telemetry_path).unwrap_or(OTHER);
                let response = site.answer(&request, &route).await;
                site.metrics.http_request(handler, response.status());
                response
            }
        })
    }

    async fn answer(self: &Arc<Self>, request: &Request, route: &Route) -> Response {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        match route {
            Route::Reload => self.reload(request.method()).await,
            Route::Unknown(None) => {
                text(StatusCode::NOT_FOUND, "Not found. The metrics are at the path that / links to.\n")
            }
            Route::Unknown(Some(path)) => text(StatusCode::NOT_FOUND, format!("Not found. Use {path}.\n")),
            Route::MetricsElsewhere => {
                text(StatusCode::NOT_FOUND, format!("Not found. The metrics are at {}.\n", self.telemetry_path))
            }
            _ if !is_read => {
                let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD are allowed here.\n");
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
                response
            }
            Route::Metrics => self.metrics(request.headers()).await,
            Route::StatusPage => self.report(Self::status_page).await,
            Route::Style => {
                respond(StatusCode::OK, "text/css; charset=utf-8", Bytes::from_static(page::STYLE.as_bytes()))
            }
            Route::JobPage(path) => {
                let path = path.clone();
                self.report(move |site| site.job_page(&path)).await
            }
            Route::StatusJson => self.report(|site| json(StatusCode::OK, api::body(&site.status()))).await,
            Route::JobsJson => {
                let query = request.uri().query().unwrap_or_default().to_owned();
                self.report(move |site| site.jobs_json(&query)).await
            }
            Route::JobJson(path) => {
                let path = path.clone();
                self.report(move |site| site.job_json(&path)).await
            }
            Route::Healthy => text(StatusCode::OK, "Healthy.\n"),
            Route::Ready => self.ready(),
        }
    }

    /// Makes a report on a blocking thread. With many jobs it takes long, and scrapes and probes must not wait for it.
    async fn report(self: &Arc<Self>, make: impl FnOnce(&Self) -> Response + Send + 'static) -> Response {
        let site = Arc::clone(self);
        let turn = Arc::clone(&self.reporting).acquire_owned().await;
        let make = move || {
            // Held until the thread is free, even if the client disconnects.
            let _turn = turn;
            make(&site)
        };
        match spawn_blocking(make).await.map_err(JoinError::try_into_panic) {
            Ok(response) => response,
            // It closes the connection, like every panic of a handler.
            Err(Ok(panic)) => resume_unwind(panic),
            Err(Err(_cancelled)) => text(StatusCode::SERVICE_UNAVAILABLE, "The exporter is stopping.\n"),
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
            return text(StatusCode::FORBIDDEN, "Reloading over HTTP is not enabled: see --web.enable-lifecycle.\n");
        };
        if method != Method::POST {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Only POST is allowed here.\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        match reloads.reload().await {
            Ok(outcome) => text(StatusCode::OK, format!("Reloaded. {outcome}\n")),
            Err(reason) => {
                let message = format!("Not reloaded; the previous configuration stays in use.\n{reason}\n");
                text(StatusCode::INTERNAL_SERVER_ERROR, message)
            }
        }
    }

    fn shown(&self, now: Timepoint) -> Vec<ShownWithRequests> {
        self.states.read_with_requests(now)
    }

    fn status(&self) -> StatusReport {
        let now = self.clock.now();
        StatusReport::new(&self.shown(now), &self.metrics.rates_in_force(), self.started, now)
    }

    fn status_page(&self) -> Response {
        let now = self.clock.now();
        let shown = self.shown(now);
        let status = StatusReport::new(&shown, &self.metrics.rates_in_force(), self.started, now);
        let jobs = JobsReport::new(&shown, &JobFilter::default(), now);
        html(StatusCode::OK, page::status(&status, &jobs, &self.telemetry_path))
    }

    fn job(&self, JobPath { target, job_id }: &JobPath) -> (Option<JobReport>, Timepoint) {
        let now = self.clock.now();
        (report::find_job(&self.shown(now), target, job_id, now), now)
    }

    fn job_page(&self, path: &JobPath) -> Response {
        match self.job(path) {
            (Some(job), now) => html(StatusCode::OK, page::job(&job, now.wall)),
            (None, _) => html(StatusCode::NOT_FOUND, page::no_job()),
        }
    }

    fn jobs_json(&self, query: &str) -> Response {
        match api::job_filter(query) {
            Ok(filter) => {
                let now = self.clock.now();
                json(StatusCode::OK, api::body(&JobsReport::new(&self.shown(now), &filter, now)))
            }
            Err(message) => json(StatusCode::BAD_REQUEST, api::error(&message)),
        }
    }

    fn job_json(&self, path: &JobPath) -> Response {
        match self.job(path) {
            (Some(job), _) => json(StatusCode::OK, api::body(&job)),
            (None, _) => json(StatusCode::NOT_FOUND, api::error(NO_JOB)),
        }
    }

    fn ready(&self) -> Response {
        if self.stopping.load(Ordering::Relaxed) {
            return text(StatusCode::SERVICE_UNAVAILABLE, "Not ready: stopping.\n");
        }
        let targets = self.states.read(self.clock.now());
        let are_listed = targets.iter().all(|target| target.state.open_jobs.last_run.is_some());
        if are_listed || self.started.instant.elapsed() >= READY_AFTER {
            text(StatusCode::OK, "Ready.\n")
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, "Not ready: the open jobs of a target are being listed.\n")
        }
    }
}

/// The values of a header that are valid text.
fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response {
    respond(status, "text/plain; charset=utf-8", text.into())
}

fn json(status: StatusCode, body: Bytes) -> Response {
    let mut response = respond(status, "application/json", body);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn html(status: StatusCode, page: String) -> Response {
    let mut response = respond(status, "text/html; charset=utf-8", Bytes::from(page));
    let headers = response.headers_mut();
    let policy = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    // A page loads itself again after so many seconds.
    headers.insert(header::REFRESH, HeaderValue::from_static("15"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
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
        site.answer(&request, &Route::of(path, "/metrics")).await
    }

    fn site() -> Arc<Site> {
        let clock = Clock::starting_at(Timestamp::from_secs(1_790_000_000));
        let metrics = Arc::new(ExporterMetrics::new(Vec::new));
        Arc::new(Site::new(Arc::default(), metrics, clock, "/metrics".to_owned(), None))
    }

    #[tokio::test]
    async fn a_scrape_and_a_probe_wait_for_no_report() {
        let site = site();
        let ((started, has_started), (end, ended)) = (oneshot::channel(), std::sync::mpsc::channel());
        let slow = tokio::spawn({
            let site = Arc::clone(&site);
            let make = move |_: &Site| {
                started.send(()).expect("the test waits");
                ended.recv_timeout(Duration::from_secs(20)).expect("the test ends it");
                text(StatusCode::OK, "")
            };
            async move { site.report(make).await.status() }
        });
        has_started.await.expect("it starts");
        let mut reports = tokio::task::JoinSet::new();
        for path in ["/", "/api/v1/status", "/api/v1/jobs", "/api/v1/jobs/t/j", "/jobs/t/j"] {
            let site = Arc::clone(&site);
            reports.spawn(async move { (path, get(&site, path).await.status()) });
        }
        // Each report runs up to its first wait.
        tokio::task::yield_now().await;
        for path in ["/metrics", "/-/healthy", "/-/ready"] {
            assert_eq!(get(&site, path).await.status(), StatusCode::OK, "{path}");
        }
        assert!(!slow.is_finished() && reports.try_join_next().is_none(), "one report at a time");
        end.send(()).expect("the report waits");
        assert_eq!(slow.await.expect("no panic"), StatusCode::OK);
        for (path, status) in reports.join_all().await {
            let is_about_a_job = path.ends_with("/j");
            assert_eq!(status, if is_about_a_job { StatusCode::NOT_FOUND } else { StatusCode::OK }, "{path}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopping_exporter_is_healthy_but_not_ready() {
        let site = site();
        assert_eq!(get(&site, "/-/ready").await.status(), StatusCode::OK, "there is no target to wait for");
        site.stop();
        assert_eq!(get(&site, "/-/ready").await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(get(&site, "/-/healthy").await.status(), StatusCode::OK, "it still answers");
    }
}
