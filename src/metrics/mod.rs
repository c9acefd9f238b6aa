//! What the exporter serves: the state of each target, rendered when it changes.

mod target_state;

pub use target_state::{Collector, Failure, ListingState, Published, RunOutcome, TargetState, WalkState};
