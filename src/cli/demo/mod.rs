//! `demo`: the exporter on a simulated fleet.

mod endpoint;
mod welcome;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use clap::Args;
use tracing::error;

use self::endpoint::{Demo, Faults, Options};
use super::runtime::Process;
use super::{FAILURE, SUCCESS, print, serve};
use crate::config::{self, Loaded, Sources};
use crate::daemon::Load;

#[derive(Clone, Debug, Args)]
pub(super) struct DemoArgs {
    /// Jobs of the simulated fleet
    #[arg(long, value_name = "NUMBER", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    jobs: u32,

    /// Seed of the simulated fleet; the same seed gives the same jobs and events
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,

    /// Speed of the rollouts as a multiple of real time, up to 3600; 0 for a fleet that never changes
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=3600))]
    speed: u32,

    /// Faults of AWS and of the network to simulate: `mixture`, or a script such as
    /// `throttle-429:chance=0.2;reset:page=last,count=3;slow:job=fw-1,every=2,delay=9s`
    #[arg(
        long,
        value_name = "SCRIPT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "mixture",
        value_parser = clap::value_parser!(Faults)
    )]
    faults: Option<Faults>,

    /// Address of the simulated AWS endpoint
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    simulator_address: SocketAddr,

    /// Serve only the simulated AWS endpoint, for other programs, and print the variables that they need
    #[arg(long)]
    simulator_only: bool,
}

/// Runs the exporter on a simulated fleet, or the simulated AWS endpoint alone.
pub(super) async fn run(mut loaded: Loaded, sources: Sources, arguments: DemoArgs, process: Process) -> u8 {
    let Process { collectors, mut stop, hangups } = process;
    let options = Options {
        jobs: arguments.jobs as usize,
        seed: arguments.seed,
        speed: NonZeroU32::new(arguments.speed),
        faults: arguments.faults.unwrap_or_default(),
    };
    let bound = tokio::select! {
        bound = Demo::bind(arguments.simulator_address, options) => bound,
        () = &mut stop => return SUCCESS,
    };
    let demo = match bound {
        Ok(demo) => demo,
        Err(error) => {
            error!(%error, "the simulated AWS endpoint cannot be started");
            return FAILURE;
        }
    };
    if arguments.simulator_only {
        print(&demo.instructions());
        demo.serve(stop).await;
        return SUCCESS;
    }
    let endpoint = demo.endpoint();
    endpoint.configure(&mut loaded);
    let load: Load = Arc::new(move || {
        let mut loaded = config::load_all(&sources)?;
        endpoint.configure(&mut loaded);
        Ok(loaded)
    });
    let (options, welcome) = (Demo::client_options(), demo.welcome());
    let (path, speaks_tls) = (loaded.config.web.telemetry_path.clone(), loaded.web.tls.is_some());
    // The endpoint goes when this future does, after the exporter has ended.
    let endpoint = demo.serve(std::future::pending());
    tokio::select! {
        status = serve::run_with(loaded, &options, load, Process { collectors, stop, hangups }, |addresses| print(&welcome.page(addresses, &path, speaks_tls))) => status,
        () = endpoint => FAILURE,
    }
}
