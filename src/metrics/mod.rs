//! The metrics at `/metrics`.
//!
//! - [`TargetStates`]: the state of each target. A worker publishes to its [`Slot`], which renders the samples.
//! - [`TargetCounters`] and [`ExporterMetrics`]: counters, with prometheus-client.
//! - [`Exposition`]: the body of a scrape, which references the samples and copies none.
//! - [`catalogue`]: the definition of every metric.

pub mod catalogue;
mod exporter_metrics;
mod exposition;
#[cfg(test)]
mod fixtures;
mod gzip;
mod last_hour;
mod process;
mod reason;
mod render;
mod samples;
mod target_counters;
mod target_state;
mod target_states;

pub use exporter_metrics::{ExporterMetrics, RateInForce};
pub use exposition::{Exposition, Format};
pub use last_hour::RequestCount;
pub use reason::Reason;
pub use samples::Labels;
pub use target_counters::{CREDENTIAL_OPERATIONS, OPERATIONS, TargetCounters};
pub use target_state::{
    Collector, Failing, Failure, ListingState, Published, RunOutcome, RunningWalk, TargetState, WalkProgress,
    WalkState, by_collector,
};
pub use target_states::{Identity, JobSource, ShownTarget, Slot, TargetStates};
