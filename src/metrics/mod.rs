//! What the exporter serves: the state of each target, rendered when it changes.

mod run_counters;
mod target_state;

pub use run_counters::RunCounters;
pub use target_state::{Collector, Failure, ListingState, Published, RunOutcome, TargetState, WalkState};
