//! One [`Worker`] for each target: it lists and describes the target's jobs and looks at their executions on a schedule, and publishes what it knows.
//!
//! The worker owns all data of its target. Its collectors run at the same time; one that fails or hangs delays no other.

mod describing;
mod listing;
mod log;
mod looks;
mod panics;
mod requests;
mod schedule;
mod settings;
pub(crate) mod walks;
mod worker;

pub(crate) use panics::caught;
pub use schedule::{JITTER, Spread};
pub use settings::{FULL_WALK_IDLE_FACTOR, OPEN_WALK_IDLE_FACTOR, Settings};
pub use worker::{TargetConfig, Worker, WorkerOptions};
