//! Which path asks for what.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str};

/// The path of the health check: the process answers requests.
pub const HEALTHY: &str = "/-/healthy";

/// The path of the readiness check: all targets have been listed once.
const READY: &str = "/-/ready";

/// The path that reloads the configuration.
const RELOAD: &str = "/-/reload";

/// The paths of probes, which need no login.
pub const PROBES: &[&str] = &[HEALTHY, READY];

/// What is encoded in a segment of a path: all but the unreserved characters of RFC 3986.
pub(super) const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Metrics,
    StatusPage,
    Style,
    /// The page of a job.
    JobPage(JobPath),
    StatusJson,
    JobsJson,
    JobJson(JobPath),
    Healthy,
    Ready,
    Reload,
    /// Nothing. There may be a path that was meant.
    Unknown(Option<&'static str>),
    /// The metrics were meant.
    MetricsElsewhere,
}

/// A job in a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JobPath {
    pub(super) target: String,
    pub(super) job_id: String,
}

impl JobPath {
    /// `TARGET/JOB_ID`, each percent-encoded.
    fn parse(path: &str) -> Option<Self> {
        let (target, job_id) = path.split_once('/')?;
        let decode = |text: &str| percent_decode_str(text).decode_utf8().ok().map(String::from);
        let is_whole = !target.is_empty() && !job_id.is_empty() && !job_id.contains('/');
        is_whole.then(|| Some(Self { target: decode(target)?, job_id: decode(job_id)? })).flatten()
    }
}

impl Route {
    /// The route of a path. The metrics are at `telemetry_path`.
    pub(super) fn of(path: &str, telemetry_path: &str) -> Self {
        if path == telemetry_path {
            return Self::Metrics;
        }
        match path {
            "/" => Self::StatusPage,
            "/style.css" => Self::Style,
            "/api/v1/status" => Self::StatusJson,
            "/api/v1/jobs" => Self::JobsJson,
            HEALTHY => Self::Healthy,
            READY => Self::Ready,
            RELOAD => Self::Reload,
            "/health" | "/healthz" | "/healthy" | "/livez" => Self::Unknown(Some(HEALTHY)),
            "/ready" | "/readyz" => Self::Unknown(Some(READY)),
            "/reload" => Self::Unknown(Some(RELOAD)),
            "/metrics" | "/metrics/" => Self::MetricsElsewhere,
            _ if path.strip_suffix('/') == Some(telemetry_path) => Self::MetricsElsewhere,
            _ => {
                let page = path.strip_prefix("/jobs/").and_then(JobPath::parse).map(Self::JobPage);
                let json = || path.strip_prefix("/api/v1/jobs/").and_then(JobPath::parse).map(Self::JobJson);
                page.or_else(json).unwrap_or(Self::Unknown(None))
            }
        }
    }

    /// The value of the label `handler`; `None` for paths that do not exist.
    pub(super) const fn handler<'a>(&self, telemetry_path: &'a str) -> Option<&'a str> {
        Some(match self {
            Self::Metrics => telemetry_path,
            Self::StatusPage => "/",
            Self::Style => "/style.css",
            Self::JobPage(_) => "/jobs",
            Self::StatusJson => "/api/v1/status",
            Self::JobsJson | Self::JobJson(_) => "/api/v1/jobs",
            Self::Healthy => HEALTHY,
            Self::Ready => READY,
            Self::Reload => RELOAD,
            Self::Unknown(_) | Self::MetricsElsewhere => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(target: &str, job_id: &str) -> JobPath {
        JobPath { target: target.to_owned(), job_id: job_id.to_owned() }
    }

    #[test]
    fn names_of_targets_and_jobs_are_percent_encoded_segments() {
        let of = |path| Route::of(path, "/metrics");
        assert_eq!(of("/jobs/plants%2F%2A/fw-1"), Route::JobPage(job("plants/*", "fw-1")));
        assert_eq!(of("/api/v1/jobs/a%7Cb/fw-1"), Route::JobJson(job("a|b", "fw-1")));
        for path in ["/jobs/", "/jobs/a", "/jobs/a/", "/jobs//b", "/jobs/a/b/c", "/jobs/%FF/b", "/api/v1/jobs/"] {
            assert_eq!(of(path), Route::Unknown(None), "{path}");
        }
    }

    #[test]
    fn paths_that_other_programs_use_name_the_right_one() {
        assert_eq!(Route::of("/healthz", "/metrics"), Route::Unknown(Some("/-/healthy")));
        assert_eq!(Route::of("/ready", "/metrics"), Route::Unknown(Some("/-/ready")));
        assert_eq!(Route::of("/metrics/", "/metrics"), Route::MetricsElsewhere);
        assert_eq!(Route::of("/metrics", "/probe/metrics"), Route::MetricsElsewhere);
        assert_eq!(Route::of("/probe/metrics/", "/probe/metrics"), Route::MetricsElsewhere);
    }
}
