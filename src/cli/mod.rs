//! The command line: arguments, exit status, and output for a terminal.
//!
//! Without a subcommand, the program is the exporter ([`serve`]). Each subcommand has a module.

mod completions;
mod demo;
mod doctor;
mod environment;
pub mod estimate;
mod explain;
mod health_check;
mod key_flags;
mod man;
mod runtime;
mod serve;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing::{error, warn};

use self::completions::CompletionsArgs;
use self::demo::DemoArgs;
use self::doctor::DoctorArgs;
use self::estimate::EstimateArgs;
use self::explain::ExplainArgs;
use self::key_flags::KeyFlags;
use crate::aws;
use crate::build_info::{REVISION, RUSTC, VERSION};
use crate::config::{self, Config, Log, LogFormat, LogLevel, Problems, Sources};
use crate::logging;

/// The command succeeded, or the process was asked to stop.
const SUCCESS: u8 = 0;
/// A failure at run time.
const FAILURE: u8 = 1;
/// Bad usage or configuration: `EX_USAGE` of `sysexits.h`.
const USAGE: u8 = 64;

/// Prometheus exporter for AWS IoT Jobs: jobs by status and thing group, and the progress of each rollout
#[derive(Parser)]
#[command(name = "aws-iot-jobs-exporter", disable_version_flag = true)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
struct Cli {
    /// Configuration file in YAML; without it, the account and region of the usual AWS settings are the only target
    #[arg(long = "config.file", value_name = "FILE", global = true)]
    config_file: Option<PathBuf>,

    #[command(flatten)]
    key_flags: KeyFlags,

    /// Read and check the configuration, print every problem, and exit
    #[arg(long = "config.check", conflicts_with_all = ["print", "schema"])]
    check: bool,

    /// Print the effective configuration as YAML with the source of each value, secrets hidden, and exit
    #[arg(long = "config.print", conflicts_with = "schema")]
    print: bool,

    /// Print the JSON Schema of the configuration file, and exit
    #[arg(long = "config.schema")]
    schema: bool,

    /// Check the health of the exporter that listens at the address of the flags or the environment, and exit with 0 if it
    /// is healthy, with 1 if not, and with 64 if the address is invalid
    // Configuration files are not read: a file that was changed later, and refused, would make a healthy exporter look
    // unhealthy.
    #[arg(long = "health.check", conflicts_with = "config_file")]
    health_check: bool,

    /// Print the version and exit
    #[arg(long)]
    version: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Work(Work),
    /// Print a script with completions for a shell
    Completions(CompletionsArgs),
    /// Print the man page, in roff
    Man,
}

/// The subcommands that need a configuration.
#[derive(Debug, Subcommand)]
enum Work {
    /// Run with a simulated fleet, which needs no AWS account, credentials or network
    #[command(
        after_help = "The demo listens on 127.0.0.1:10114, unless --web.listen-address, the environment or the file configures an address."
    )]
    Demo(DemoArgs),
    /// Check credentials, region, endpoint, clock and permissions of each target, and print how to fix each fault
    Doctor(DoctorArgs),
    /// List the jobs of each target once, and estimate the daily requests to AWS
    Estimate(EstimateArgs),
    /// Ask AWS why a job is not done, and print what to do next
    Explain(ExplainArgs),
}

/// Runs the command line, and returns the exit status.
#[must_use]
pub fn run() -> ExitCode {
    let unusable = environment::unusable_variables(std::env::vars_os());
    if unusable.is_empty() {
        return ExitCode::from(dispatch(&std::env::args_os().collect::<Vec<_>>()));
    }
    let error = environment::restart_without(&unusable);
    let names: Vec<_> = unusable.iter().map(|name| name.to_string_lossy()).collect();
    eprint(&format!(
        "aws-iot-jobs-exporter: cannot restart without the variables {}, which are empty or cannot be used: {error}; unset them\n",
        names.join(", ")
    ));
    ExitCode::from(FAILURE)
}

fn dispatch(arguments: &[OsString]) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            report_usage(&error, arguments);
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
    let work = match cli.command {
        Some(Command::Completions(arguments)) => return completions::run(&arguments),
        Some(Command::Man) => return man::run(),
        Some(Command::Work(work)) => Some(work),
        None => None,
    };
    let sources = Sources {
        file: cli.config_file,
        environment: environment::variables(),
        flags: cli.key_flags.0,
        aws_profiles: None,
    };
    let mut log = config::log_settings(&sources);
    let prints_a_report = matches!(work, Some(Work::Doctor(_) | Work::Estimate(_) | Work::Explain(_)));
    if prints_a_report && log.level == LogLevel::Info {
        // Their result is what somebody waits for, and not starts and stops.
        log.level = LogLevel::Warn;
    }
    if let Err(error) = logging::start(&log) {
        eprint(&format!("aws-iot-jobs-exporter: the log cannot be started: {error}\n"));
        return FAILURE;
    }
    if cli.health_check {
        return health_check::run(sources);
    }
    let loaded = match &work {
        // The demo has its own targets and ignores AWS settings of the machine.
        Some(Work::Demo(_)) => config::load_all(&sources),
        // These serve nothing, so they need no certificate.
        Some(_) if prints_a_report && !cli.check => config::load_without_web(&with_aws_profiles(&sources)),
        _ => config::load_all(&with_aws_profiles(&sources)),
    };
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(problems) if matches!(work, Some(Work::Doctor(_))) => return doctor::report_invalid(&problems),
        Err(problems) => {
            report(&problems);
            return USAGE;
        }
    };
    if cli.print {
        print(loaded.effective.to_yaml());
        return SUCCESS;
    }
    if cli.check {
        report_valid(&loaded.config);
        return SUCCESS;
    }
    runtime::run(async |process| match work {
        None => serve::run(loaded, sources, process).await,
        Some(Work::Demo(arguments)) => demo::run(loaded, sources, arguments, process).await,
        Some(Work::Doctor(arguments)) => doctor::run(&loaded, &arguments, process).await,
        Some(Work::Estimate(arguments)) => estimate::run(&loaded.config, &arguments, process).await,
        Some(Work::Explain(arguments)) => explain::run(&loaded.config, &arguments, process).await,
    })
}

/// The sources of a process that calls AWS, with its profiles.
fn with_aws_profiles(sources: &Sources) -> Sources {
    Sources { aws_profiles: Some(aws::profiles::read(&sources.environment)), ..sources.clone() }
}

/// Prints that a configuration is valid, and what should be reconsidered in it.
fn report_valid(config: &Config) {
    for warning in config::warnings(config) {
        if logging::is_json() {
            warn!(warning, "the configuration is valid, but should be reconsidered");
        } else {
            eprint(&format!("warning: {warning}\n"));
        }
    }
    print("The configuration is valid.\n");
}

/// Prints the problems of a configuration, each as a log line of its own if the log is JSON.
fn report(problems: &Problems) {
    if logging::is_json() {
        for problem in &problems.0 {
            error!(%problem, "invalid configuration");
        }
    } else {
        eprint(&format!("{problems}\n"));
    }
}

/// Prints an error of the command line.
fn report_usage(error: &clap::Error, arguments: &[OsString]) {
    if error.use_stderr() && environment::asks_for_json(arguments) {
        let log = Log { level: LogLevel::Info, format: LogFormat::Json };
        if logging::start(&log).is_ok() {
            let message = error.render().to_string();
            error!(error = message.trim_end(), "invalid command line");
            return;
        }
    }
    // Help goes to standard output, errors to standard error. A closed pipe is not an error.
    let _ = error.print();
}

/// Prints to standard output. A closed pipe is not an error.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Prints to standard error, as a log line if the log is JSON; see [`print()`].
fn eprint(text: &str) {
    if logging::is_json() {
        error!("{}", text.trim_end());
    } else {
        let _ = std::io::stderr().write_all(text.as_bytes());
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
