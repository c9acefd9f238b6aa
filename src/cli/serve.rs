//! The exporter itself, without a subcommand.

use std::net::SocketAddr;
use std::sync::Arc;

use tracing::{error, info};

use super::runtime::Process;
use super::{FAILURE, SUCCESS, USAGE, with_aws_profiles};
use crate::aws::ClientOptions;
use crate::clock::Clock;
use crate::config::{self, Loaded, Sources};
use crate::daemon::{Daemon, Load, StartError};

/// Runs the exporter with the configuration of `sources`.
pub(super) async fn run(loaded: Loaded, sources: Sources, process: Process) -> u8 {
    let load: Load = Arc::new(move || config::load_all(&with_aws_profiles(&sources)));
    run_with(loaded, &ClientOptions::usual(), load, process, |_| {}).await
}

/// Runs the exporter until it is asked to stop. Before that, `listening` gets its addresses.
pub(super) async fn run_with(
    loaded: Loaded,
    options: &ClientOptions,
    load: Load,
    process: Process,
    listening: impl FnOnce(&[SocketAddr]),
) -> u8 {
    let Process { collectors, mut stop, mut hangups } = process;
    let web_addresses = loaded.config.web.listen_addresses.len();
    let started = tokio::select! {
        started = Box::pin(Daemon::start(loaded, options, Clock::system(), collectors)) => started,
        () = &mut stop => return SUCCESS,
    };
    let daemon = match started {
        Ok(daemon) => daemon,
        Err(error) => {
            error!(%error, "cannot start");
            let configuration = matches!(error, StartError::Target(_));
            return if configuration { USAGE } else { FAILURE };
        }
    };
    // The last one may serve only the probes.
    listening(daemon.addresses().get(..web_addresses).unwrap_or_default());
    let reloads = daemon.reloads();
    let reloading = async move {
        while hangups.recv().await.is_some() {
            // The result is in the log.
            let _ = reloads.reload().await;
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = Box::pin(daemon.run(load, stop)) => ended,
        () = reloading => return FAILURE,
    };
    match ended {
        Ok(()) => {
            info!("stopped");
            SUCCESS
        }
        Err(error) => {
            error!(%error, "ended");
            FAILURE
        }
    }
}
