//! Tests that need more than the Rust toolchain: servers and clients that others wrote, and tools of the system.
//!
//! `tests/run.sh` skips them unless it is called with `--all`.

mod aws_recipes;
mod browser;
mod compatibility;
mod compose;
mod curl;
mod docs;
mod emulators;
mod end_to_end;
mod kubernetes;
mod metrics;
mod pid_1;
mod prometheus;
mod python;
mod security;
mod systemd;
mod tools;
mod workflows;

use std::time::Duration;

use crate::support::{Exposition, Listening, scrape_handler};

/// What an exporter shows once both listings have run and every job is known to the other collectors.
async fn settled(listening: &Listening) -> Exposition {
    for _ in 0..600 {
        let shown = scrape_handler(&listening.handler).await;
        let is_listing = |collector: &str| ["open_jobs", "all_jobs"].contains(&collector);
        let have_run = shown
            .family("aws_iot_jobs_exporter_collector_runs_total")
            .all(|(labels, runs)| runs > 0.0 || !is_listing(&labels["collector"]));
        let states = shown.family("aws_iot_jobs_collector_jobs");
        let overdue: f64 = states.filter(|(labels, _)| labels["state"] == "overdue").map(|(_, jobs)| jobs).sum();
        if have_run && overdue == 0.0 {
            return shown;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not every job is known after 30 s");
}
