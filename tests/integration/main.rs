//! Everything that needs the whole program: the real SDK against the simulator, real sockets, real processes, and servers and
//! clients that nobody here wrote.
//!
//! Where time matters the clock is paused and requests stay in the process (`paused`); where a socket or a process is the point,
//! time is real.

mod floors;
mod paused;
mod process;
mod prometheus;
mod python;
mod sockets;
mod support;
