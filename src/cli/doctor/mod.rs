//! `doctor`: checks what the exporter needs, and says what to mend.

mod check;
mod target;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::net::TcpStream;
use tokio::time::timeout;

use self::check::{Check, Outcome};
use super::runtime::Signals;
use super::{FAILURE, SUCCESS, eprint, print};
use crate::aws::rate_limit::RateLimiters;
use crate::aws::{self, ClientOptions};
use crate::clock::Clock;
use crate::config::{Loaded, Proxy, Sources};

/// The limit for a connection to a proxy.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Check this target only; without it, each one
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
}

/// Checks each target, and prints a line for each check.
pub(super) async fn run(loaded: &Loaded, sources: &Sources, arguments: &DoctorArgs, signals: Signals) -> u8 {
    let Signals { stop, mut hangups } = signals;
    tokio::select! {
        status = Box::pin(check_all(loaded, sources, arguments)) => status,
        () = stop => FAILURE,
        // There is nothing to reload.
        _ = hangups.recv() => FAILURE,
    }
}

async fn check_all(loaded: &Loaded, sources: &Sources, arguments: &DoctorArgs) -> u8 {
    let mut faults = 0;
    // Each line is printed at once: a check of an endpoint that does not answer takes half a minute.
    let mut report = |check: Check| {
        faults += usize::from(check.is_fault());
        print(&format!("  {check}\n"));
    };
    print("process\n");
    report(configuration(loaded));
    report(proxies(sources).await);

    let (options, clock) = (ClientOptions::usual(), Clock::system());
    let limiters = Arc::new(RateLimiters::new(loaded.config.limits.requests_per_second));
    let mut names = Vec::new();
    for target in &loaded.config.targets {
        let resolved = aws::resolve(target, &options, clock).await;
        let name = match &resolved {
            Ok(resolved) => resolved.name(),
            Err(_) => target.known_name().unwrap_or("default"),
        };
        names.push(name.to_owned());
        if arguments.target.as_ref().is_none_or(|wanted| *wanted == name) {
            print(&format!("\ntarget {name}\n"));
            match resolved {
                Ok(resolved) => target::check(target, resolved, &limiters, &mut report).await,
                // It says what to do.
                Err(error) => report(Check::new("region", Outcome::Fault(format!("{error}.")))),
            }
        }
    }
    if let Some(wanted) = arguments.target.as_ref().filter(|wanted| !names.contains(wanted)) {
        eprint(&format!("there is no target {wanted}; there are {}\n", names.join(", ")));
        return FAILURE;
    }
    print(&match faults {
        0 => "\nNo fault was found.\n".to_owned(),
        1 => "\n1 fault was found.\n".to_owned(),
        number => format!("\n{number} faults were found.\n"),
    });
    if faults == 0 { SUCCESS } else { FAILURE }
}

/// An invalid configuration is reported before, with all its problems.
fn configuration(loaded: &Loaded) -> Check {
    let number = loaded.config.targets.len();
    let targets = if number == 1 { "1 target".to_owned() } else { format!("{number} targets") };
    let from = if loaded.files.is_empty() { "no file".to_owned() } else { loaded.files.join(", ") };
    Check::new("configuration", Outcome::Ok(format!("{targets}; {from}")))
}

async fn proxies(sources: &Sources) -> Check {
    let (proxies, mut reached) = (sources.proxies(), Vec::new());
    for Proxy { variable, address } in &proxies {
        let fault = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => {
                reached.push(format!("{address} ({variable}) accepts connections"));
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()),
        };
        return Check::new(
            "proxy",
            Outcome::fault(
                format_args!("{address} ({variable}): {fault}"),
                format_args!("correct {variable}, or list the hosts that need no proxy in NO_PROXY"),
            ),
        );
    }
    Check::new("proxy", Outcome::Ok(if reached.is_empty() { "none".to_owned() } else { reached.join("; ") }))
}
