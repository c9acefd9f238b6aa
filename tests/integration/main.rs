//! Everything that needs the whole program: the real SDK against the simulator, real sockets, real processes, and servers and
//! clients that nobody here wrote.
//!
//! Where time matters the clock is paused and requests stay in the process (`paused`); where a socket or a process is the point,
//! time is real.

#![allow(unreachable_pub, reason = "nothing outside can reach into a test binary")]
#![allow(
    clippy::cast_precision_loss,
    clippy::float_cmp,
    clippy::unchecked_time_subtraction,
    reason = "counts are small, exact, and compared as they were sent; a test that subtracts wrongly should fail"
)]

mod compose;
mod container;
mod contract;
mod credentials;
mod describing;
mod emulators;
mod end_to_end;
mod estimate;
mod faults;
mod floors;
mod guarded;
mod hostile;
mod kubernetes;
mod many;
mod matrix;
mod paused;
mod process;
mod prometheus;
mod python;
mod reload;
mod service;
mod soak;
mod sockets;
mod support;
