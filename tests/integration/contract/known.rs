//! What a query may name: series, their labels, and the values of labels whose values are all known.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use aws_iot_jobs_exporter::jobs::{
    CacheState, EXCLUDED, ExecutionStatus, NONE, OTHER, Status, TargetSelection, UNKNOWN,
};
use aws_iot_jobs_exporter::metrics::Collector;
use aws_iot_jobs_exporter::metrics::catalogue::{self, Family, FamilyType};
use aws_iot_jobs_exporter::metrics::{CREDENTIAL_OPERATIONS, OPERATIONS, Reason};

pub type Labels = BTreeSet<String>;

/// The labels of what an expression gives: a set for each kind of series in it, of which `a or b` has two.
pub type Shape = BTreeSet<Labels>;

/// What Prometheus attaches to all that it scrapes.
const ATTACHED: [&str; 2] = ["instance", "job"];

/// What scrape configurations attach in places: rules may take these away without there being any.
pub const OF_PROCESSES: [&str; 4] = ["container", "endpoint", "node", "pod"];

/// Series that Prometheus writes itself for each alert.
pub const OF_ALERTS: [&str; 2] = ["ALERTS", "ALERTS_FOR_STATE"];

/// Series that Prometheus writes itself for each scrape.
const OF_SCRAPES: [&str; 5] = [
    "scrape_duration_seconds",
    "scrape_samples_post_metric_relabeling",
    "scrape_samples_scraped",
    "scrape_series_added",
    "up",
];

/// What the text of a variable that can have any one value is filled in as.
pub const ANY: &str = "filled_in";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Counter,
    Gauge,
    /// What a rule records is a gauge to those who use it.
    Recorded,
}

impl Origin {
    pub fn said(self) -> &'static str {
        match self {
            Self::Counter => "a counter",
            Self::Gauge => "a gauge",
            Self::Recorded => "recorded by a rule and no counter",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Series {
    pub origin: Origin,
    /// `None` where a faulty rule leaves it unknown, which is told of the rule and not of all that use it.
    pub shape: Option<Shape>,
}

/// Every series that a query may select, by name.
#[derive(Clone, Debug)]
pub struct Known {
    pub series: BTreeMap<String, Series>,
    /// The scrape jobs that are configured anywhere.
    pub jobs: BTreeSet<String>,
}

impl Known {
    /// The families of the catalogue, and what Prometheus adds to each scrape.
    pub fn scraped() -> Self {
        let mut series = BTreeMap::new();
        for name in OF_SCRAPES {
            let shape = Some(Shape::from([labels(ATTACHED)]));
            series.insert(name.to_owned(), Series { origin: Origin::Gauge, shape });
        }
        for family in catalogue::ALL {
            let own = family.subject.labels().iter().chain(family.labels).copied();
            let shape = Some(Shape::from([labels(ATTACHED.into_iter().chain(own))]));
            let origin = if family.family_type == FamilyType::Gauge { Origin::Gauge } else { Origin::Counter };
            for name in series_of(family) {
                let mut shape = shape.clone();
                if name.ends_with("_bucket") {
                    shape = shape.map(|shape| shape.into_iter().map(|set| &set | &labels(["le"])).collect());
                }
                series.insert(name, Series { origin, shape });
            }
        }
        Self { series, jobs: BTreeSet::new() }
    }

    /// The same where every series has these labels too.
    pub fn with_labels(mut self, more: &[&str]) -> Self {
        for series in self.series.values_mut() {
            let shape = series.shape.take().unwrap_or_default();
            series.shape = Some(shape.into_iter().map(|set| &set | &labels(more.iter().copied())).collect());
        }
        self
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.series.keys().map(String::as_str)
    }

    /// Every value that a label can have; `None` where that is open.
    ///
    /// The codes of AWS's errors are open, as are names and ids.
    pub fn values(&self, label: &str) -> Option<Vec<String>> {
        let owned = |values: Vec<&str>| Some(values.into_iter().map(str::to_owned).collect());
        match label {
            "status" => owned(Status::KNOWN.iter().map(Status::as_str).chain([UNKNOWN, OTHER]).collect()),
            "target_selection" => {
                owned(TargetSelection::KNOWN.iter().map(TargetSelection::as_str).chain([UNKNOWN, OTHER]).collect())
            }
            "execution_status" => owned(ExecutionStatus::ALL.into_iter().map(ExecutionStatus::as_str).collect()),
            "collector" => owned(Collector::ALL.into_iter().map(Collector::as_str).collect()),
            "state" => owned(CacheState::ALL.into_iter().map(CacheState::as_str).collect()),
            "reason" => owned(Reason::ALL.iter().map(|reason| reason.as_str()).collect()),
            "operation" => owned([OPERATIONS, CREDENTIAL_OPERATIONS].concat()),
            "job" if !self.jobs.is_empty() => Some(self.jobs.iter().cloned().collect()),
            _ => None,
        }
    }
}

/// The names of a family's series.
pub fn series_of(family: &Family) -> Vec<String> {
    match family.family_type {
        FamilyType::Histogram => {
            ["_bucket", "_count", "_sum"].iter().map(|end| format!("{}{end}", family.name)).collect()
        }
        FamilyType::Counter | FamilyType::Gauge => vec![family.name.to_owned()],
    }
}

/// The values that stand in angle brackets where they are a thing group's.
pub const SPECIAL_GROUPS: [&str; 4] = [NONE, UNKNOWN, OTHER, EXCLUDED];

pub fn labels<'a>(names: impl IntoIterator<Item = &'a str>) -> Labels {
    names.into_iter().map(str::to_owned).collect()
}

/// Every label that any series of a shape has.
pub fn all_labels(shape: &Shape) -> Labels {
    shape.iter().flatten().cloned().collect()
}

/// ` (did you mean "…"?)`, or nothing where no candidate is near.
pub fn meant<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let near = candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|(edits, _)| *edits <= (word.len() / 3).max(1))
        .min();
    let mut said = String::new();
    if let Some((_, candidate)) = near {
        // Writing to a string can't fail.
        let _ = write!(said, " (did you mean \"{candidate}\"?)");
    }
    said
}
