//! `estimate`: the number of requests of a configuration per day.
//!
//! [`list_all`] runs the listings as the exporter does at its start, within the same rate limit. [`Estimate::new`]
//! does the calculation; `docs/cost.md` has its formulas.

mod day;
mod listing;
mod report;

use clap::{Args, ValueEnum};
use tracing::error;

pub use self::day::{Estimate, Quota, Requests, TargetDay, share};
pub use self::listing::{Failed, Listed, Walk, list_all};
use super::runtime::Process;
use super::{FAILURE, SUCCESS, USAGE, eprint, print};
use crate::aws::ClientOptions;
use crate::clock::Clock;
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct EstimateArgs {
    /// Share of the open jobs that change constantly, for the second column; in the first column, nothing changes
    #[arg(long, value_name = "SHARE", default_value = "10%", value_parser = share)]
    active: f64,

    /// AWS quota of the account and region in requests a second, for all operations or for one; shows the share that is used;
    /// can be repeated
    #[arg(long, value_name = "[OPERATION=]NUMBER")]
    quota: Vec<Quota>,

    /// Format of the output
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For machines.
    Json,
}

/// Lists the jobs of each target, and prints the estimate.
pub(super) async fn run(config: &Config, arguments: &EstimateArgs, process: Process) -> u8 {
    let Process { stop, mut hangups, .. } = process;
    let options = ClientOptions::usual();
    let listings = tokio::select! {
        listings = list_all(config, &options, Clock::system()) => Some(listings),
        () = stop => None,
        // A hang-up has no meaning here.
        _ = hangups.recv() => None,
    };
    let listings = match listings {
        Some(Ok(listings)) => listings,
        Some(Err(error)) => {
            error!(%error, "cannot start");
            return USAGE;
        }
        None => {
            eprint("interrupted before all jobs were listed: there is no estimate\n");
            return FAILURE;
        }
    };
    let estimate = Estimate::new(listings, config, arguments.active, &arguments.quota);
    match arguments.output {
        Output::Table => print(&estimate.to_string()),
        Output::Json => match serde_json::to_string_pretty(&estimate) {
            Ok(json) => print(&format!("{json}\n")),
            Err(error) => {
                error!(%error, "the estimate cannot be written as JSON, which is a bug in the exporter");
                return FAILURE;
            }
        },
    }
    for failed in &estimate.failed {
        eprint(&format!("the estimate does not include target {}: {}\n", failed.target, failed.reason));
    }
    if estimate.failed.is_empty() { SUCCESS } else { FAILURE }
}
