//! Tests that take minutes: they try every case, or run for long, where the other tests have an example of each behaviour.
//!
//! `tests/run.sh` skips them unless it is called with `--all`.

mod connections;
mod day;
mod estimate;
mod faults;
mod groups;
mod matrix;
mod soak;
mod unread;
