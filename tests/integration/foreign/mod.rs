//! Tests that need more than the Rust toolchain: servers and clients that others wrote, and tools of the system.
//!
//! `tests/run.sh` skips them unless it is called with `--all`.

mod compose;
mod curl;
mod emulators;
mod end_to_end;
mod guarded;
mod kubernetes;
mod metrics;
mod pid_1;
mod prometheus;
mod python;
mod systemd;
mod tools;
