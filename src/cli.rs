//! The command line: what can be asked of the program, and how it answers a terminal.

use std::ffi::OsString;
use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{error, info};

use crate::app::{App, Load, StartError};
use crate::aws::Access;
use crate::clock::Clock;
use crate::config::{self, Config, Flag, FlagValue, Host, ListenAddress, LogLevel, Sources, WebConfig};
use crate::demo::{self, Demo, Faults};
use crate::estimate::{self, Estimate, Progress, Quota};
use crate::http;
use crate::telemetry::{REVISION, RUSTC, VERSION, logging};
use crate::web::HEALTHY;

/// Asked to stop, or done.
const SUCCESS: u8 = 0;
/// Anything that went wrong while running.
const FAILURE: u8 = 1;
/// Bad usage or configuration: `EX_USAGE` of `sysexits.h`.
const USAGE: u8 = 64;

/// How long a health check waits for each address that it tries. Container runtimes give it 30 s by default.
const HEALTH_PATIENCE: Duration = Duration::from_secs(3);

/// How long tasks that block, a name resolution for one, may hold up the end of the process.
const RUNTIME_GRACE: Duration = Duration::from_millis(100);

/// Prometheus exporter for AWS IoT Jobs: how many jobs are in which state, and which one is stuck
#[derive(Debug, Parser)]
#[command(name = "aws-iot-jobs-exporter", disable_version_flag = true, args_conflicts_with_subcommands = false)]
struct Cli {
    #[command(flatten)]
    flags: Flags,

    /// Read and validate the configuration, print every problem, and exit
    #[arg(long = "config.check")]
    check: bool,

    /// Ask the exporter that runs on this machine whether it lives, where the flags or the environment have it serve the
    /// probes, and exit with 0 or 1, or with 64 where they don't say that
    // Not where a file does: one that was changed since, and refused, would make an exporter that is well look ill.
    #[arg(long = "health.check", conflicts_with = "config_file")]
    health_check: bool,

    /// Print the version and exit
    #[arg(long)]
    version: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct Flags {
    /// Configuration file in YAML; without one, one target from the usual AWS credential and region sources
    #[arg(long = "config.file", value_name = "FILE", global = true)]
    config_file: Option<PathBuf>,

    /// Address to listen on; can be repeated [default: :10114]
    #[arg(long = "web.listen-address", value_name = "[HOST]:PORT", global = true)]
    listen_addresses: Vec<String>,

    /// Path of the metrics [default: /metrics]
    #[arg(long = "web.telemetry-path", value_name = "PATH", global = true)]
    telemetry_path: Option<String>,

    /// File with TLS, client certificates, logins and headers, in the format of the Prometheus exporter-toolkit
    #[arg(long = "web.config.file", value_name = "FILE", global = true)]
    web_config_file: Option<PathBuf>,

    /// Address that serves the probes alone, in plain HTTP, besides
    #[arg(long = "web.probe-address", value_name = "[HOST]:PORT", global = true)]
    probe_address: Option<String>,

    /// Read the configuration again on POST /-/reload, as on SIGHUP
    #[arg(long = "web.enable-lifecycle", global = true)]
    enable_lifecycle: bool,

    /// Watch only this part of the targets, from 0 [default: 0]
    #[arg(long = "shard.index", value_name = "NUMBER", global = true)]
    shard_index: Option<String>,

    /// How many parts the targets are split into, by their names [default: 1]
    #[arg(long = "shard.total", value_name = "NUMBER", global = true)]
    shard_total: Option<String>,

    /// Least level to log: error, warn, info, debug or trace [default: info]
    #[arg(long = "log.level", value_name = "LEVEL", global = true)]
    log_level: Option<String>,

    /// Format of the log: text or json [default: text]
    #[arg(long = "log.format", value_name = "FORMAT", global = true)]
    log_format: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run against a simulated fleet inside the process: no account, no credentials, no network
    Demo(DemoArgs),
    /// Walk each target once, and tell what a day of this configuration costs in requests to AWS
    Estimate(EstimateArgs),
}

#[derive(Debug, Args)]
struct EstimateArgs {
    /// Requests a second that AWS grants an account and region, of each operation or of one, to see the share of it; can be
    /// repeated
    #[arg(long, value_name = "[OPERATION=]NUMBER")]
    quota: Vec<Quota>,

    /// How to print it
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

#[derive(Clone, Debug, Args)]
struct DemoArgs {
    /// Jobs of the simulated fleet
    #[arg(long, value_name = "NUMBER", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    jobs: u32,

    /// Seed of the simulated fleet; the same seed makes the same jobs and the same life
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,

    /// How many times faster than real ones its rollouts go, up to 3600; 0 for a fleet that stands still
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=3600))]
    speed: u32,

    /// Faults between the fleet and the exporter: `mixture`, or a script such as
    /// `throttle-429:chance=0.2;reset:page=last,count=3`
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

    /// Serve the simulated AWS endpoint alone, for other programs
    #[arg(long)]
    simulator_only: bool,
}

impl Flags {
    fn sources(self, environment: impl Iterator<Item = (OsString, OsString)>) -> Sources {
        let text =
            |key, flag, value: Option<String>| value.map(|value| Flag { key, flag, value: FlagValue::Text(value) });
        let addresses = Some(self.listen_addresses).filter(|addresses| !addresses.is_empty());
        let flags = [
            addresses.map(|addresses| Flag {
                key: "web.listen_addresses",
                flag: "--web.listen-address",
                value: FlagValue::List(addresses),
            }),
            text("web.telemetry_path", "--web.telemetry-path", self.telemetry_path),
            text(
                "web.config_file",
                "--web.config.file",
                self.web_config_file.map(|path| path.to_string_lossy().into_owned()),
            ),
            text("web.probe_address", "--web.probe-address", self.probe_address),
            text("web.enable_lifecycle", "--web.enable-lifecycle", self.enable_lifecycle.then(|| "true".to_owned())),
            text("shard.index", "--shard.index", self.shard_index),
            text("shard.total", "--shard.total", self.shard_total),
            text("log.level", "--log.level", self.log_level),
            text("log.format", "--log.format", self.log_format),
        ];
        Sources {
            file: self.config_file,
            // A name that is not text is none of the exporter's. A value that is not text is one that no key accepts, and is
            // told, rather than left out without a word.
            environment: environment
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
                .collect(),
            flags: flags.into_iter().flatten().collect(),
        }
    }
}

/// The whole program: reads the command line and the environment, does what they say, tells how it ended.
#[must_use]
pub fn run() -> ExitCode {
    ExitCode::from(dispatch(std::env::args_os()))
}

fn dispatch(arguments: impl Iterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help is no error and goes to standard output; clap knows which is which. A closed pipe is nobody's fault.
            let _ = error.print();
            return if error.use_stderr() { USAGE } else { SUCCESS };
        }
    };
    if cli.version {
        say(&format!("aws-iot-jobs-exporter {VERSION} (revision {REVISION}, rustc {RUSTC})\n"));
        return SUCCESS;
    }
    let sources = cli.flags.sources(std::env::vars_os());
    if cli.health_check {
        return check_health(sources);
    }
    // It serves nobody, and so needs no certificate.
    let estimates = matches!(cli.command, Some(Command::Estimate(_))) && !cli.check;
    let loaded = if estimates {
        config::load(&sources).map(|config| (config, WebConfig::default()))
    } else {
        config::load_all(&sources)
    };
    let (mut config, web) = match loaded {
        Ok(loaded) => loaded,
        Err(problems) => {
            complain(&format!("{problems}\n"));
            return USAGE;
        }
    };
    if estimates && config.log.level == LogLevel::Info {
        // Starts and stops are no news to whoever waits for it.
        config.log.level = LogLevel::Warn;
    }
    if cli.check {
        say("The configuration is valid.\n");
        return SUCCESS;
    }
    if let Err(error) = logging::start(&config.log) {
        complain(&format!("aws-iot-jobs-exporter: the log can't be started: {error}\n"));
        return FAILURE;
    }

    // One thread for a walk, which parses and counts, and one that a scrape finds free. More only cost memory.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "the runtime can't be started: check the limits on threads and open files");
            return FAILURE;
        }
    };
    let status = runtime.block_on(async {
        // Before anything that takes time: as PID 1 of a container the kernel drops a signal that nobody handles, and a hang-up
        // that nobody handles ends the process.
        let (stop, hangups) = match stop_signal().and_then(|stop| Ok((stop, signal(SignalKind::hangup())?))) {
            Ok(signals) => signals,
            Err(error) => {
                error!(%error, "signals can't be handled");
                return FAILURE;
            }
        };
        match cli.command {
            None => {
                let load: Load = Arc::new(move || config::load_all(&sources));
                Box::pin(daemon(&config, web, &Access::usual(), load, Signals { stop, hangups }, |_| {})).await
            }
            Some(Command::Demo(arguments)) => {
                Box::pin(run_demo(config, web, sources, arguments, Signals { stop, hangups })).await
            }
            Some(Command::Estimate(arguments)) => {
                Box::pin(run_estimate(&config, &arguments, Signals { stop, hangups })).await
            }
        }
    });
    runtime.shutdown_timeout(RUNTIME_GRACE);
    status
}

/// Asks the exporter that these sources would start whether it lives.
fn check_health(mut sources: Sources) -> u8 {
    // Where it serves is all that is asked for here; what is wrong with the rest is for the exporter itself to tell.
    sources.environment.retain(|(name, _)| name.starts_with("IOT_JOBS_EXPORTER_WEB__"));
    let web = match config::load(&sources) {
        Ok(config) => config.web,
        Err(problems) => {
            complain(&format!("{problems}\n"));
            return USAGE;
        }
    };
    let Some(address) = web.probe_address.as_ref().or(web.listen_addresses.first()) else { return USAGE };
    let candidates = match probed(address) {
        Ok(candidates) => candidates,
        Err(error) => {
            complain(&format!("{address}: {error}\n"));
            return FAILURE;
        }
    };
    let mut failures = Vec::new();
    for candidate in candidates {
        match http::probe(candidate, HEALTHY, HEALTH_PATIENCE) {
            Ok(()) => {
                say("Healthy.\n");
                return SUCCESS;
            }
            Err(error) => failures.push(format!("{error}{}", advice(&error))),
        }
    }
    if failures.is_empty() {
        failures.push(format!("{address} has no address"));
    }
    complain(&format!("{}\n", failures.join("; ")));
    FAILURE
}

fn advice(error: &http::ProbeError) -> &'static str {
    match error {
        // The second is what this exporter says to who speaks no TLS with it.
        http::ProbeError::Unintelligible(_) | http::ProbeError::Unwell { status: 400, .. } => {
            ": where it speaks TLS, ask at its --web.probe-address"
        }
        _ => "",
    }
}

/// Where to ask one that listens on `address`: on every interface means on this machine's own ones too.
fn probed(address: &ListenAddress) -> std::io::Result<Vec<SocketAddr>> {
    let port = address.port();
    let own = [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
    Ok(match address.host() {
        None => own.to_vec(),
        Some(Host::V4(host)) if host.is_unspecified() => own[..1].to_vec(),
        Some(Host::V6(host)) if host.is_unspecified() => own.to_vec(),
        Some(Host::V4(host)) => vec![SocketAddr::from((*host, port))],
        Some(Host::V6(host)) => vec![SocketAddr::from((*host, port))],
        Some(Host::Name(name)) => (name.as_str(), port).to_socket_addrs()?.collect(),
    })
}

/// What the system asks of the process.
struct Signals<S> {
    /// Resolves when it should end.
    stop: S,
    /// One for each time that it should read its configuration again.
    hangups: Signal,
}

/// Runs the exporter until it is told to stop; `listening` hears of its addresses before it starts.
async fn daemon(
    config: &Config,
    web: WebConfig,
    access: &Access,
    load: Load,
    signals: Signals<impl Future<Output = ()>>,
    listening: impl FnOnce(&[SocketAddr]),
) -> u8 {
    let Signals { stop, mut hangups } = signals;
    let mut stop = std::pin::pin!(stop);
    let started = tokio::select! {
        started = App::start(config, web, access, Clock::system()) => started,
        () = &mut stop => return SUCCESS,
    };
    let app = match started {
        Ok(app) => app,
        Err(error) => {
            error!(%error, "can't start");
            let configuration = matches!(error, StartError::Target(_));
            return if configuration { USAGE } else { FAILURE };
        }
    };
    // The last one may serve the probes alone, and is nothing to look at.
    listening(&app.addresses()[..config.web.listen_addresses.len()]);
    let reloads = app.reloads();
    let reloading = async move {
        while hangups.recv().await.is_some() {
            // The log tells how it went.
            let _ = reloads.reload().await;
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = app.run(load, stop) => ended,
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

async fn run_demo(
    mut config: Config,
    web: WebConfig,
    sources: Sources,
    arguments: DemoArgs,
    signals: Signals<impl Future<Output = ()>>,
) -> u8 {
    let Signals { stop, hangups } = signals;
    let mut stop = std::pin::pin!(stop);
    let options = demo::Options {
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
            error!(%error, "the simulated AWS endpoint can't be started");
            return FAILURE;
        }
    };
    if arguments.simulator_only {
        say(&demo.environment());
        demo.serve(stop).await;
        return SUCCESS;
    }
    let endpoint = demo.endpoint();
    endpoint.configure(&mut config);
    let load: Load = Arc::new(move || {
        let (mut config, web) = config::load_all(&sources)?;
        endpoint.configure(&mut config);
        Ok((config, web))
    });
    let (access, welcome) = (demo.access(), demo.welcome());
    let (path, speaks_tls) = (config.web.telemetry_path.clone(), web.tls.is_some());
    // The endpoint goes when this future does, after the exporter has ended.
    let endpoint = demo.serve(std::future::pending());
    tokio::select! {
        status = daemon(&config, web, &access, load, Signals { stop, hangups }, |addresses| say(&welcome.page(addresses, &path, speaks_tls))) => status,
        () = endpoint => FAILURE,
    }
}

async fn run_estimate(config: &Config, arguments: &EstimateArgs, signals: Signals<impl Future<Output = ()>>) -> u8 {
    let Signals { stop, mut hangups } = signals;
    // A terminal that logs are written to is no place for a bar.
    let progress = if config.log.level > LogLevel::Warn { Progress::hidden() } else { Progress::new() };
    let access = Access::usual();
    let walks = tokio::select! {
        walks = estimate::walk_all(config, &access, Clock::system(), &progress) => Some(walks),
        () = stop => None,
        // There is nothing to read again.
        _ = hangups.recv() => None,
    };
    progress.end();
    let walks = match walks {
        Some(Ok(walks)) => walks,
        Some(Err(error)) => {
            error!(%error, "can't start");
            return USAGE;
        }
        None => {
            complain("interrupted before all targets were walked: there is no estimate\n");
            return FAILURE;
        }
    };
    let estimate = Estimate::new(walks, config, &arguments.quota);
    match arguments.output {
        Output::Table => say(&estimate.to_string()),
        Output::Json => match serde_json::to_string_pretty(&estimate) {
            Ok(json) => say(&format!("{json}\n")),
            Err(error) => {
                error!(%error, "the estimate can't be written as JSON, which is a fault in the exporter");
                return FAILURE;
            }
        },
    }
    for failed in &estimate.failed {
        complain(&format!("the estimate is without target {}: {}\n", failed.target, failed.reason));
    }
    if estimate.failed.is_empty() { SUCCESS } else { FAILURE }
}

/// Prints to standard output. Somebody who has closed it does not want to read it, which is no failure.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Prints to standard error; see [`say`].
fn complain(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Resolves at the first SIGTERM or SIGINT; the second ends the process where it stands.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (first, seen) = oneshot::channel();
    tokio::spawn(async move {
        let name = either(&mut interrupt, &mut terminate).await;
        info!(signal = name, "stopping; a second signal ends at once");
        // Nobody waits any more where the program is ending anyhow.
        let _ = first.send(());
        either(&mut interrupt, &mut terminate).await;
        std::process::exit(i32::from(FAILURE));
    });
    Ok(async {
        let _ = seen.await;
    })
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
