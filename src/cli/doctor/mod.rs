//! `doctor`: checks what the exporter needs, and prints how to fix each fault.

mod check;
mod target;

use std::sync::Arc;

use clap::Args;

use self::check::{Check, Outcome};
use super::runtime::Process;
use super::{FAILURE, SUCCESS, eprint, print};
use crate::aws::rate_limit::RateLimiters;
use crate::aws::{self, ClientOptions};
use crate::clock::Clock;
use crate::config::{Loaded, Problems};

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Check this target only; without it, each one
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
}

/// Checks each target, and prints a line for each check.
pub(super) async fn run(loaded: &Loaded, arguments: &DoctorArgs, process: Process) -> u8 {
    process.interrupting(check_all(loaded, arguments)).await
}

async fn check_all(loaded: &Loaded, arguments: &DoctorArgs) -> u8 {
    let mut tally = Tally::default();
    let mut report = |check: Check| tally.report(&check);
    print("process\n");
    report(configuration(loaded));

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
    tally.finish()
}

/// Prints the problems of an invalid configuration as faults.
pub(super) fn report_invalid(problems: &Problems) -> u8 {
    print("process\n");
    let mut tally = Tally::default();
    for problem in &problems.0 {
        tally.report(&Check::new("configuration", Outcome::Fault(problem.to_string())));
    }
    tally.finish()
}

/// What was found so far.
#[derive(Debug, Default)]
struct Tally {
    faults: usize,
    warnings: usize,
}

impl Tally {
    /// Prints a check at once: one of an endpoint that does not answer takes half a minute.
    fn report(&mut self, check: &Check) {
        self.faults += usize::from(check.is_fault());
        self.warnings += usize::from(check.is_warning());
        print(&format!("  {check}\n"));
    }

    /// Prints the numbers, and returns the exit status.
    fn finish(&self) -> u8 {
        let counted = |number: usize, what: &str| match number {
            0 => None,
            1 => Some(format!("1 {what}")),
            _ => Some(format!("{number} {what}s")),
        };
        let found: Vec<_> =
            [counted(self.faults, "fault"), counted(self.warnings, "warning")].into_iter().flatten().collect();
        print(&if found.is_empty() { "\nNo fault.\n".to_owned() } else { format!("\n{}.\n", found.join(", ")) });
        if self.faults == 0 { SUCCESS } else { FAILURE }
    }
}

fn configuration(loaded: &Loaded) -> Check {
    let number = loaded.config.targets.len();
    let targets = if number == 1 { "1 target".to_owned() } else { format!("{number} targets") };
    let from = if loaded.files.is_empty() { "no file".to_owned() } else { loaded.files.join(", ") };
    Check::new("configuration", Outcome::Ok(format!("{targets}; {from}")))
}
