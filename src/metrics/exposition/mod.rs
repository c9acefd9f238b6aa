//! The body of `/metrics`.
//!
//! The body has three sections. The first one contains the samples of the targets, the second one their counters.
//! All responses share a section and its compressed form until its samples change. The third section contains the
//! metrics of the exporter itself. They change with each scrape, so each response renders them.

mod section;

use std::sync::Arc;

use bytes::Bytes;

use self::section::{Section, SectionCache, joined};
use super::catalogue::{self, Family};
use super::gzip;
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
///     ExporterMetrics, Exposition, Format, Identity, JobSource, Published, TargetState, TargetStates,
/// };
///
/// let (now, states) = (Clock::system().now(), Arc::new(TargetStates::default()));
/// let identity = Identity { name: "plants".to_owned(), region: "eu-west-1".to_owned(), labels: Vec::new() };
/// let slot = states.slot(identity, JobSource::default(), TargetState::default());
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
    targets: SectionCache<ShownTarget>,
    counters: SectionCache<Samples>,
}

/// A body.
struct Sections {
    /// In this order.
    shared: [Arc<Section>; 2],
    own: Vec<Bytes>,
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
        let Sections { shared, own } = self.sections(format, now);
        let own = joined(&own).into();
        ResponseBody::new(shared.iter().map(|section| Arc::clone(section.pieces())).chain([own]))
    }

    /// The body at `now`, as one gzip member; `None` if it cannot be compressed.
    pub async fn gzip_body(&self, format: Format, now: Timepoint) -> Option<ResponseBody> {
        let Sections { shared: [targets, counters], own } = self.sections(format, now);
        let fragments = [targets.gzip().await.ok()?, counters.gzip().await.ok()?];
        let end = gzip::end(&fragments, &own);
        let compressed = fragments.map(|fragment| fragment.compressed.clone());
        let pieces: Vec<Bytes> = [gzip::HEADER].into_iter().chain(compressed).chain([end]).collect();
        Some(ResponseBody::new([pieces.into()]))
    }

    fn sections(&self, format: Format, now: Timepoint) -> Sections {
        let cache = match format {
            Format::OpenMetrics => &self.open_metrics,
            Format::Text => &self.text,
        };
        let (targets, counters) = self.states.read_with_counters(now);
        let targets = cache.targets.section(targets, |targets| {
            let overlapping = overlapping(targets);
            cache.pieces(targets.iter().flat_map(|target| target.samples()).chain(&overlapping))
        });
        let counters = cache.counters.section(counters, |counters| cache.pieces(counters.iter().map(AsRef::as_ref)));
        let mut own = cache.pieces([&self.exporter.samples()]);
        if format == Format::OpenMetrics {
            own.push(Bytes::from_static(b"# EOF\n"));
        }
        Sections { shared: [targets, counters], own }
    }
}

impl FormatCache {
    fn new(format: Format) -> Self {
        let headers = catalogue::ALL.iter().map(|family| header(format, family).into()).collect();
        Self { headers, targets: SectionCache::default(), counters: SectionCache::default() }
    }

    /// The header and the samples of each family with samples. A header without samples would be misleading.
    fn pieces<'a>(&self, samples: impl IntoIterator<Item = &'a Samples>) -> Vec<Bytes> {
        let mut rest: Vec<_> = samples.into_iter().map(Samples::families).collect();
        // At most a header for each.
        let mut pieces = Vec::with_capacity(2 * rest.iter().map(|families| families.len()).sum::<usize>());
        for (family, header) in catalogue::ALL.iter().zip(&self.headers) {
            let mut is_first = true;
            for samples in &mut rest {
                let Some(((next, lines), others)) = samples.split_first() else { continue };
                if next.position == family.position {
                    pieces.extend(std::mem::take(&mut is_first).then(|| header.clone()));
                    pieces.push(lines.clone());
                    *samples = others;
                }
            }
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
