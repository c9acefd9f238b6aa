//! The command line: what can be asked of the program, and how it answers a terminal.

use std::ffi::OsString;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::num::NonZeroU32;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, Parser, Subcommand, ValueEnum};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{error, info};

use crate::app::{App, Load, StartError};
use crate::aws::{self, ClientOptions};
use crate::build_info::{REVISION, RUSTC, VERSION};
use crate::clock::Clock;
use crate::config::{self, Config, Flag, ListenAddress, Loaded, LogFormat, LogLevel, Problems, Sources};
use crate::demo::{self, Demo, Faults};
use crate::estimate::{self, Estimate, Quota};
use crate::http;
use crate::logging;
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

/// One thread for a walk, which parses and counts, and one that a scrape finds free. More only cost memory.
const WORKER_THREADS: usize = 2;

/// Threads for what blocks: compression, checks of passwords, files and name resolution. tokio's default of 512 is beyond what
/// the systemd unit (`TasksMax`) and many containers allow, and a thread that cannot be started would panic.
const MAX_BLOCKING_THREADS: usize = 32;

/// Prometheus exporter for AWS IoT Jobs: jobs by status and thing group, and the progress of each rollout
#[derive(Parser)]
#[command(name = "aws-iot-jobs-exporter", disable_version_flag = true, args_conflicts_with_subcommands = false)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
struct Cli {
    /// Configuration file in YAML; without one, one target from the usual AWS credential and region sources
    #[arg(long = "config.file", value_name = "FILE", global = true)]
    config_file: Option<PathBuf>,

    #[command(flatten)]
    key_flags: KeyFlags,

    /// Read and check the configuration, print every problem, and exit
    #[arg(long = "config.check")]
    check: bool,

    /// Print the effective configuration as YAML with the source of each value, secrets hidden, and exit
    #[arg(long = "config.print")]
    print: bool,

    /// Print the JSON Schema of the configuration file, and exit
    #[arg(long = "config.schema")]
    schema: bool,

    /// Check the health of the local exporter, at the address that the flags or the environment have it listen on, and exit
    /// with 0 or 1, or with 64 if they have none
    // Not at that of a file: one that was changed since, and refused, would make a healthy exporter look unhealthy.
    #[arg(long = "health.check", conflicts_with = "config_file")]
    health_check: bool,

    /// Print the version and exit
    #[arg(long)]
    version: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

/// The flags that set a key of the configuration. They follow from the definitions of the keys.
struct KeyFlags(Vec<Flag>);

impl Args for KeyFlags {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.args(config::flags().into_iter().map(|flag| {
            let argument = Arg::new(flag.name).long(flag.name).help(flag.help).global(true);
            match (flag.value_name, flag.is_list) {
                ("", _) => argument.action(ArgAction::SetTrue),
                (name, true) => argument.value_name(name).action(ArgAction::Append),
                (name, false) => argument.value_name(name).action(ArgAction::Set),
            }
        }))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for KeyFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = config::flags().into_iter().filter_map(|flag| {
            let values = match flag.value_name {
                "" => matches.get_flag(flag.name).then(|| vec!["true".to_owned()])?,
                _ => matches.get_many::<String>(flag.name)?.cloned().collect(),
            };
            Some(Flag { key: flag.key, flag: format!("--{}", flag.name), values })
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run against a simulated fleet inside the process: no account, no credentials, no network
    Demo(DemoArgs),
    /// List the jobs of each target once, and estimate the requests to AWS of a day
    Estimate(EstimateArgs),
}

#[derive(Debug, Args)]
struct EstimateArgs {
    /// The share of the open jobs that change all the time, for a second estimate beside that of a fleet that stands still
    #[arg(long, value_name = "SHARE", default_value = "10%", value_parser = estimate::share)]
    active: f64,

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

    /// Serve the simulated AWS endpoint alone, for other programs, and print the variables that point them at it
    #[arg(long)]
    simulator_only: bool,
}

impl Cli {
    /// Where the configuration is read from, now and at each reload.
    fn sources(&self) -> Sources {
        // A name that is not text is none of the exporter's. A value that is not text is one that no key accepts, which is
        // reported rather than ignored.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())));
        Sources {
            file: self.config_file.clone(),
            environment: environment.collect(),
            flags: self.key_flags.0.clone(),
            aws_profiles: None,
        }
    }
}

/// The sources of a process that calls AWS: its profiles are read too.
fn for_aws(sources: &Sources) -> Sources {
    Sources { aws_profiles: Some(aws::profiles::read(&sources.environment)), ..sources.clone() }
}

/// The whole program: reads the command line and the environment, does what they say, tells how it ended.
#[must_use]
pub fn run() -> ExitCode {
    let unusable = unusable_variables(std::env::vars_os());
    if unusable.is_empty() {
        return ExitCode::from(dispatch(std::env::args_os()));
    }
    let error = restart_without(&unusable);
    let names: Vec<_> = unusable.iter().map(|name| name.to_string_lossy()).collect();
    eprint(&format!(
        "aws-iot-jobs-exporter: cannot restart without the variables {}, which are empty or cannot be used: {error}; unset them\n",
        names.join(", ")
    ));
    ExitCode::from(FAILURE)
}

/// The variables that are empty or blank among those that the SDK reads from the process environment, and the one that it puts
/// into a header of each request, if no header can have it.
fn unusable_variables(environment: impl Iterator<Item = (OsString, OsString)>) -> Vec<OsString> {
    let is_read = |name: &str| name == "HOME" || name.starts_with("AWS_") || name.starts_with("SSL_CERT_");
    let is_blank = |value: &OsString| value.to_str().is_some_and(|value| value.trim().is_empty());
    let fits = |value: &OsString| value.as_encoded_bytes().iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    let unusable = environment.filter(|(name, value)| {
        name.to_str().is_some_and(is_read) && is_blank(value) || name == "AWS_EXECUTION_ENV" && !fits(value)
    });
    unusable.map(|(name, _)| name).collect()
}

/// Starts the program again in this process, without these variables. An empty variable counts as not set, but the SDK takes
/// it for a value, and Rust can change the environment of a running process only unsafely. Returns only if that fails.
fn restart_without(variables: &[OsString]) -> std::io::Error {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    let mut arguments = std::env::args_os();
    let mut command = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    for variable in variables {
        command.env_remove(variable);
    }
    command.args(arguments).exec()
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
        print(&format!("aws-iot-jobs-exporter {VERSION} (revision {REVISION}, rustc {RUSTC})\n"));
        return SUCCESS;
    }
    if cli.schema {
        print(&config::json_schema());
        return SUCCESS;
    }
    let sources = cli.sources();
    if cli.health_check {
        return check_health(sources);
    }
    let is_estimate = matches!(cli.command, Some(Command::Estimate(_)));
    let loaded = match cli.command {
        // The demo's targets are its own, whatever AWS settings this machine has.
        Some(Command::Demo(_)) => config::load_all(&sources),
        // It serves nobody, and so needs no certificate.
        Some(Command::Estimate(_)) if !cli.check => config::load_without_web(&for_aws(&sources)),
        _ => config::load_all(&for_aws(&sources)),
    };
    let mut loaded = match loaded {
        Ok(loaded) => loaded,
        Err(problems) => {
            report(&problems, &sources);
            return USAGE;
        }
    };
    if cli.print {
        print(loaded.effective.to_yaml());
        return SUCCESS;
    }
    if is_estimate && loaded.config.log.level == LogLevel::Info {
        // Starts and stops are no news to somebody who waits for the result.
        loaded.config.log.level = LogLevel::Warn;
    }
    if cli.check {
        for warning in config::warnings(&loaded.config) {
            eprint(&format!("warning: {warning}\n"));
        }
        print("The configuration is valid.\n");
        return SUCCESS;
    }
    if let Err(error) = logging::start(&loaded.config.log) {
        eprint(&format!("aws-iot-jobs-exporter: the log can't be started: {error}\n"));
        return FAILURE;
    }

    let runtime = match runtime() {
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
                let load: Load = Arc::new(move || config::load_all(&for_aws(&sources)));
                Box::pin(daemon(loaded, &ClientOptions::usual(), load, Signals { stop, hangups }, |_| {})).await
            }
            Some(Command::Demo(arguments)) => {
                Box::pin(run_demo(loaded, sources, arguments, Signals { stop, hangups })).await
            }
            Some(Command::Estimate(arguments)) => {
                Box::pin(run_estimate(&loaded.config, &arguments, Signals { stop, hangups })).await
            }
        }
    });
    runtime.shutdown_timeout(RUNTIME_GRACE);
    status
}

fn runtime() -> std::io::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(WORKER_THREADS).max_blocking_threads(MAX_BLOCKING_THREADS).enable_all().build()
}

/// Prints the problems of a configuration, as log lines if it asks for JSON.
fn report(problems: &Problems, sources: &Sources) {
    let log = config::log_settings(sources);
    if log.format == LogFormat::Json && logging::start(&log).is_ok() {
        for problem in &problems.0 {
            error!(%problem, "invalid configuration");
        }
    } else {
        eprint(&format!("{problems}\n"));
    }
}

/// Checks the health of the exporter that these sources would start.
fn check_health(mut sources: Sources) -> u8 {
    // Only the address matters here; the exporter itself reports what is wrong with the rest.
    sources.environment.retain(|(name, _)| name.starts_with("IOT_JOBS_EXPORTER_WEB__"));
    let web = match config::load(&sources) {
        Ok(config) => config.web,
        Err(problems) => {
            eprint(&format!("{problems}\n"));
            return USAGE;
        }
    };
    let Some(address) = web.probe_address.as_ref().or(web.listen_addresses.first()) else { return USAGE };
    let candidates = match probed(address) {
        Ok(candidates) => candidates,
        Err(error) => {
            eprint(&format!("{address}: {error}\n"));
            return FAILURE;
        }
    };
    let mut failures = Vec::new();
    for candidate in candidates {
        match http::probe(candidate, HEALTHY, HEALTH_PATIENCE) {
            Ok(()) => {
                print("Healthy.\n");
                return SUCCESS;
            }
            Err(error) => failures.push(format!("{error}{}", advice(&error))),
        }
    }
    if failures.is_empty() {
        failures.push(format!("{address} has no address"));
    }
    eprint(&format!("{}\n", failures.join("; ")));
    FAILURE
}

fn advice(error: &http::ProbeError) -> &'static str {
    match error {
        // The second is what this exporter says to who speaks no TLS with it.
        http::ProbeError::NotHttp(_) | http::ProbeError::Unhealthy { status: 400, .. } => {
            ": where it speaks TLS, ask at its --web.probe-address"
        }
        _ => "",
    }
}

/// Where to ask one that listens on `address`: on every interface means on this machine's own ones too.
fn probed(address: &ListenAddress) -> std::io::Result<Vec<SocketAddr>> {
    let port = address.port;
    let own = [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
    Ok(match (&address.host, address.ip()) {
        (None, _) => own.to_vec(),
        (_, Some(IpAddr::V4(host))) if host.is_unspecified() => own[..1].to_vec(),
        (_, Some(IpAddr::V6(host))) if host.is_unspecified() => own.to_vec(),
        (_, Some(host)) => vec![SocketAddr::from((host, port))],
        (Some(name), None) => (name.as_str(), port).to_socket_addrs()?.collect(),
    })
}

/// What the system asks of the process.
struct Signals<S> {
    /// Resolves when it should end.
    stop: S,
    /// One for each time that it should read its configuration again.
    hangups: Signal,
}

/// Runs the exporter until it is asked to stop; `listening` gets its addresses before that.
async fn daemon(
    loaded: Loaded,
    options: &ClientOptions,
    load: Load,
    signals: Signals<impl Future<Output = ()>>,
    listening: impl FnOnce(&[SocketAddr]),
) -> u8 {
    let Signals { stop, mut hangups } = signals;
    let mut stop = std::pin::pin!(stop);
    let web_addresses = loaded.config.web.listen_addresses.len();
    let started = tokio::select! {
        started = App::start(loaded, options, Clock::system()) => started,
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
    listening(app.addresses().get(..web_addresses).unwrap_or_default());
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
    mut loaded: Loaded,
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
        print(&demo.instructions());
        demo.serve(stop).await;
        return SUCCESS;
    }
    let endpoint = demo.endpoint();
    endpoint.configure(&mut loaded.config);
    let load: Load = Arc::new(move || {
        let mut loaded = config::load_all(&sources)?;
        endpoint.configure(&mut loaded.config);
        Ok(loaded)
    });
    let (options, welcome) = (demo.client_options(), demo.welcome());
    let (path, speaks_tls) = (loaded.config.web.telemetry_path.clone(), loaded.web.tls.is_some());
    // The endpoint goes when this future does, after the exporter has ended.
    let endpoint = demo.serve(std::future::pending());
    tokio::select! {
        status = daemon(loaded, &options, load, Signals { stop, hangups }, |addresses| print(&welcome.page(addresses, &path, speaks_tls))) => status,
        () = endpoint => FAILURE,
    }
}

async fn run_estimate(config: &Config, arguments: &EstimateArgs, signals: Signals<impl Future<Output = ()>>) -> u8 {
    let Signals { stop, mut hangups } = signals;
    let options = ClientOptions::usual();
    let listings = tokio::select! {
        listings = estimate::list_all(config, &options, Clock::system()) => Some(listings),
        () = stop => None,
        // There is nothing to read again.
        _ = hangups.recv() => None,
    };
    let listings = match listings {
        Some(Ok(listings)) => listings,
        Some(Err(error)) => {
            error!(%error, "can't start");
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
                error!(%error, "the estimate can't be written as JSON, which is a fault in the exporter");
                return FAILURE;
            }
        },
    }
    for failed in &estimate.failed {
        eprint(&format!("the estimate does not include target {}: {}\n", failed.target, failed.reason));
    }
    if estimate.failed.is_empty() { SUCCESS } else { FAILURE }
}

/// Prints to standard output. Somebody who has closed it does not want to read it, which is no failure.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Prints to standard error; see [`print()`].
fn eprint(text: &str) {
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
    use std::sync::Mutex;

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn blocking_threads_are_bounded_and_fit_into_the_systemd_unit() {
        /// For the main thread, and for programs that give credentials.
        const OTHER_TASKS: usize = 1 + 16;
        let unit = include_str!("../config/systemd/aws-iot-jobs-exporter.service");
        let tasks_max = unit.lines().find_map(|line| line.strip_prefix("TasksMax=")).expect("a limit");
        let tasks_max: usize = tasks_max.parse().expect("a number");
        assert!(WORKER_THREADS + MAX_BLOCKING_THREADS + OTHER_TASKS <= tasks_max);

        let runtime = runtime().expect("a runtime");
        let (started, starts) = std::sync::mpsc::channel();
        let hung = Arc::new(Mutex::new(()));
        let hangs = hung.lock().expect("no panic");
        for _ in 0..4 * MAX_BLOCKING_THREADS {
            let (started, hung) = (started.clone(), Arc::clone(&hung));
            runtime.spawn_blocking(move || {
                let _ = started.send(());
                drop(hung.lock());
            });
        }
        for _ in 0..MAX_BLOCKING_THREADS {
            starts.recv_timeout(Duration::from_secs(20)).expect("a thread");
        }
        starts.recv_timeout(Duration::from_millis(200)).expect_err("all threads hang");
        drop(hangs);
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
