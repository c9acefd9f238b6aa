//! The body of `/metrics`.
//!
//! The body has two halves. The first half contains the samples of the targets, as references to lines that were
//! rendered when they changed. All responses share the list of references and its compressed form, until a target
//! changes. The second half contains the counters of the exporter. They can change at any time, so each response
//! renders them.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::OnceCell;

use super::catalogue::{self, Family};
use super::gzip::FirstHalf;
use super::samples::Samples;
use super::target_states::{ShownTarget, overlapping};
use super::{ExporterMetrics, TargetStates};
use crate::http::ResponseBody;
use crate::jobs::Timepoint;

/// A text format of Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// [`OpenMetrics` 1.0](https://prometheus.io/docs/specs/om/open_metrics_spec/).
    OpenMetrics,
    /// [Text format 0.0.4](https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format).
    Text,
}

impl Format {
    /// The value of `Content-Type`. Prometheus 3 fails a scrape without it.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Renders the bodies of `/metrics`.
///
/// # Example
/// A worker publishes a state to its slot, and a scrape gets the samples.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use aws_iot_jobs_exporter::clock::Clock;
/// use aws_iot_jobs_exporter::jobs::{AccountId, Part, Status, TargetSelection};
/// use aws_iot_jobs_exporter::metrics::{
///     ExporterMetrics, Exposition, Format, Identity, Published, Source, TargetState, TargetStates,
/// };
///
/// let (now, states) = (Clock::system().now(), Arc::new(TargetStates::default()));
/// let identity = Identity { name: "plants".to_owned(), region: "eu-west-1".to_owned(), labels: Vec::new() };
/// let slot = states.slot(identity, Source::default(), TargetState::default());
/// states.arrange([&slot]);
///
/// let jobs = BTreeMap::from([((Status::InProgress, TargetSelection::Snapshot), 3)]);
/// let part = Arc::new(Part { jobs, ..Part::default() });
/// slot.publish(TargetState {
///     account: Some(AccountId::parse("012345678901")?),
///     open: Some(Published { part, collected: now, stale_after: Duration::from_mins(10) }),
///     ..TargetState::default()
/// });
///
/// let exposition = Exposition::new(states, Arc::new(ExporterMetrics::new(Vec::new)));
/// let body = exposition.body(Format::Text, now).into_bytes();
/// let sample = r#"aws_iot_jobs{target="plants",aws_account_id="012345678901",aws_region="eu-west-1",status="IN_PROGRESS",target_selection="SNAPSHOT"} 3"#;
/// assert!(std::str::from_utf8(&body)?.lines().any(|line| line == sample));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Exposition {
    states: Arc<TargetStates>,
    exporter: Arc<ExporterMetrics>,
    open_metrics: FormatCache,
    text: FormatCache,
}

/// The cache of a format.
#[derive(Debug)]
struct FormatCache {
    /// A header for each family of the catalogue, in its order.
    headers: Vec<Bytes>,
    last: Mutex<Option<Arc<TargetsHalf>>>,
}

/// The first half of a body, for these targets.
#[derive(Debug)]
struct TargetsHalf {
    targets: Vec<Arc<ShownTarget>>,
    pieces: Arc<[Bytes]>,
    /// The compressed half, after the first client has requested it.
    gzip: OnceCell<Compressed>,
}

#[derive(Debug)]
struct Compressed {
    half: FirstHalf,
    pieces: Arc<[Bytes]>,
}

impl Exposition {
    /// The exposition of these targets and this exporter.
    #[must_use]
    pub fn new(states: Arc<TargetStates>, exporter: Arc<ExporterMetrics>) -> Self {
        let [open_metrics, text] = [Format::OpenMetrics, Format::Text].map(FormatCache::new);
        Self { states, exporter, open_metrics, text }
    }

    /// The body at `now`.
    #[must_use]
    pub fn body(&self, format: Format, now: Timepoint) -> ResponseBody {
        let (half, rest) = self.halves(format, now);
        ResponseBody::new(Arc::clone(&half.pieces), rest)
    }

    /// The body at `now`, as one gzip member; `None` if it cannot be compressed.
    pub async fn gzip_body(&self, format: Format, now: Timepoint) -> Option<ResponseBody> {
        let (half, rest) = self.halves(format, now);
        let compressed = half.gzip.get_or_try_init(|| compress(Arc::clone(&half.pieces))).await.ok()?;
        let rest = compressed.half.complete(&rest).ok()?;
        Some(ResponseBody::new(Arc::clone(&compressed.pieces), [rest]))
    }

    fn halves(&self, format: Format, now: Timepoint) -> (Arc<TargetsHalf>, Vec<Bytes>) {
        let cache = match format {
            Format::OpenMetrics => &self.open_metrics,
            Format::Text => &self.text,
        };
        let (targets, counters) = self.states.read_with_counters(now);
        let exporter = self.exporter.samples();
        let counters: Vec<&Samples> = counters.iter().map(AsRef::as_ref).chain([&exporter]).collect();
        let mut rest = cache.pieces(&counters);
        if format == Format::OpenMetrics {
            rest.push(Bytes::from_static(b"# EOF\n"));
        }
        (cache.targets_half(targets), rest)
    }
}

/// Compresses on a blocking thread, so that other requests do not wait: it takes tens of milliseconds for some
/// megabytes.
async fn compress(pieces: Arc<[Bytes]>) -> std::io::Result<Compressed> {
    let half = tokio::task::spawn_blocking(move || FirstHalf::compress(&*pieces)).await??;
    let pieces = Arc::new([half.compressed.clone()]);
    Ok(Compressed { half, pieces })
}

impl FormatCache {
    fn new(format: Format) -> Self {
        let headers = catalogue::ALL.iter().map(|family| header(format, family).into()).collect();
        Self { headers, last: Mutex::new(None) }
    }

    /// The first half for these targets: the cached one, if the targets are the same.
    fn targets_half(&self, targets: Vec<Arc<ShownTarget>>) -> Arc<TargetsHalf> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |half: &&Arc<TargetsHalf>| {
            half.targets.len() == targets.len() && half.targets.iter().zip(&targets).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        if let Some(half) = last.as_ref().filter(is_same) {
            return Arc::clone(half);
        }
        let overlapping = overlapping(&targets);
        let samples: Vec<&Samples> = targets.iter().flat_map(|target| target.samples()).chain(&overlapping).collect();
        let pieces = self.pieces(&samples).into();
        let half = Arc::new(TargetsHalf { targets, pieces, gzip: OnceCell::new() });
        *last = Some(Arc::clone(&half));
        half
    }

    /// The header and the samples of each family with samples. A header without samples would be misleading.
    fn pieces(&self, samples: &[&Samples]) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        for (family, header) in catalogue::ALL.iter().zip(&self.headers) {
            let mut lines = samples.iter().filter_map(|samples| samples.get(family)).cloned().peekable();
            if lines.peek().is_some() {
                pieces.push(header.clone());
            }
            pieces.extend(lines);
        }
        pieces
    }
}

/// The header of a family. `OpenMetrics` names a counter without `_total`; the text format names it with `_total` and
/// has no units.
fn header(format: Format, family: &Family) -> String {
    let (name, unit) = match format {
        Format::OpenMetrics => (family.family_name(), family.unit),
        Format::Text => (family.name, None),
    };
    let (help, family_type) = (escape_help(format, family.help), family.family_type.as_str());
    let unit = unit.map(|unit| format!("# UNIT {name} {unit}\n")).unwrap_or_default();
    format!("# HELP {name} {help}\n# TYPE {name} {family_type}\n{unit}")
}

/// Escapes a help text: backslash and line feed in both formats, the double quote in `OpenMetrics` only.
fn escape_help(format: Format, help: &str) -> String {
    let escaped = help.replace('\\', r"\\").replace('\n', r"\n");
    match format {
        Format::OpenMetrics => escaped.replace('"', "\\\""),
        Format::Text => escaped,
    }
}

#[cfg(test)]
mod tests;
