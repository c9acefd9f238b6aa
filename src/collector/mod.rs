//! One [`Worker`] for each target: it lists and describes jobs, looks at their executions, and publishes the results.
//!
//! The worker owns all data of its target. Its collectors run concurrently; a collector that fails or hangs does not
//! delay the others.

mod describing;
mod in_flight;
mod listing;
mod log;
pub(crate) mod looks;
mod panics;
mod schedule;
mod settings;
pub(crate) mod walks;
mod worker;

pub(crate) use panics::caught;
pub use schedule::{JITTER, Spread};
pub use settings::{FULL_WALK_IDLE_FACTOR, OPEN_WALK_IDLE_FACTOR, Settings};
pub use worker::{TargetConfig, Worker, WorkerOptions};
