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

use std::time::Duration;

use crate::support::{Exposition, Listening, scrape_handler};

/// What an exporter shows once both listings have run and every job is described.
async fn settled(listening: &Listening) -> Exposition {
    for _ in 0..600 {
        let shown = scrape_handler(&listening.handler).await;
        let have_run = ["open_jobs", "all_jobs"].iter().all(|listing| shown.runs(listing) > Some(0.0));
        let undescribed: f64 = shown.family("aws_iot_jobs_undescribed").map(|(_, jobs)| jobs).sum();
        if have_run && undescribed == 0.0 {
            return shown;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not every job is described after 30 s");
}
