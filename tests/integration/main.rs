//! Everything that needs the whole program: the real SDK against the simulator, real sockets, real processes, and foreign servers
//! and clients.
//!
//! Where time matters the clock is paused and requests stay in the process (`paused`); where a socket or a process is the point,
//! time is real.
//!
//! `tests/run.sh` skips two modules unless it is called with `--all`: `foreign`, which needs more than the Rust toolchain, and
//! `long`, which takes minutes.

#![allow(unreachable_pub, reason = "nothing outside can reach into a test binary")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]
#![allow(
    clippy::cast_precision_loss,
    clippy::float_cmp,
    clippy::unchecked_time_subtraction,
    reason = "counts are small, exact, and compared as they were sent; a test that subtracts wrongly should fail"
)]

mod api;
mod aws_recipes;
mod collector;
mod command_line;
mod compose;
mod container;
mod contract;
mod credential_sources;
mod credentials;
mod describing;
mod doctor;
mod estimate;
mod explain;
mod faults;
mod floors;
mod foreign;
mod hostile;
mod kubernetes;
mod long;
mod many;
mod metrics;
mod overlap;
mod paused;
mod process;
mod reload;
mod service;
mod sockets;
mod support;
mod test_certs;
mod trust;
