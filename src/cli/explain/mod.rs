//! `explain`: asks AWS now why a job is not done.

mod explanation;

use std::sync::Arc;

use clap::{Args, ValueEnum};
use tracing::error;

use self::explanation::{AskedTarget, Explanation, explain};
use super::runtime::Process;
use super::{FAILURE, SUCCESS, USAGE, eprint, print};
use crate::aws::rate_limit::RateLimiters;
use crate::aws::{self, ClientOptions, Connection};
use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::{Failure, TargetCounters};

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The id of the job
    job_id: String,

    /// Ask this target only; without it, all targets
    #[arg(long, value_name = "NAME")]
    target: Option<String>,

    /// Format of the output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Explains a job in each target where it exists.
pub(super) async fn run(config: &Config, arguments: &ExplainArgs, process: Process) -> u8 {
    process.interrupting(explain_all(config, arguments)).await
}

async fn explain_all(config: &Config, arguments: &ExplainArgs) -> u8 {
    let ExplainArgs { job_id, target: wanted, output } = arguments;
    if !is_job_id(job_id) {
        eprint(&format!("{job_id:?} is not a job id: those have 1 to 64 letters, digits, - and _\n"));
        return USAGE;
    }
    let (options, clock) = (ClientOptions::usual(), Clock::system());
    let limiters = Arc::new(RateLimiters::new(config.limits.requests_per_second));
    let (mut names, mut found, mut has_failed) = (Vec::new(), Vec::new(), false);
    for target in &config.targets {
        let known_name = target.known_name().unwrap_or("default");
        let resolved = match aws::resolve(target, &options, clock).await {
            Ok(resolved) => resolved,
            Err(error) => {
                names.push(known_name.to_owned());
                // One target does not keep the others from being asked.
                if wanted.as_ref().is_none_or(|wanted| wanted == known_name) {
                    has_failed = true;
                    eprint(&format!("{error}\n"));
                }
                continue;
            }
        };
        let (name, region) = (resolved.name().to_owned(), resolved.region().to_owned());
        names.push(name.clone());
        if wanted.as_ref().is_some_and(|wanted| *wanted != name) {
            continue;
        }
        match explain_in(resolved, &limiters, clock, job_id).await {
            Ok(Some(explanation)) => found.push(explanation),
            Ok(None) => {}
            Err(Failure { reason, message }) => {
                has_failed = true;
                eprint(&format!("target {name} in {region}: {message}. {}.\n", reason.advice()));
            }
        }
    }
    match output {
        Output::Text => found.iter().for_each(|explanation| print(&format!("{explanation}\n"))),
        Output::Json => match serde_json::to_string_pretty(&found) {
            Ok(json) => print(&format!("{json}\n")),
            Err(error) => {
                error!(%error, "the explanation cannot be written as JSON, which is a bug in the exporter");
                return FAILURE;
            }
        },
    }
    if found.is_empty() && !has_failed {
        let among = names.join(", ");
        eprint(&match wanted.as_ref().filter(|wanted| !names.contains(wanted)) {
            Some(wanted) => format!("there is no target {wanted}; there are {among}\n"),
            None => format!("AWS has no job {job_id}; asked in {}\n", wanted.as_ref().unwrap_or(&among)),
        });
    }
    if found.is_empty() || has_failed { FAILURE } else { SUCCESS }
}

/// Source: [CreateJob](https://docs.aws.amazon.com/iot/latest/apireference/API_CreateJob.html), `jobId`.
fn is_job_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

async fn explain_in(
    resolved: aws::Resolved,
    limiters: &Arc<RateLimiters>,
    clock: Clock,
    job_id: &str,
) -> Result<Option<Explanation>, Failure> {
    let asked = AskedTarget { name: resolved.name().to_owned(), region: resolved.region().to_owned() };
    let connection = Connection::open(resolved, limiters, Arc::new(TargetCounters::new(Vec::new())));
    explain(&connection, asked, job_id, clock).await
}
