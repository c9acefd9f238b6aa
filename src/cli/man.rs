//! `man`: the man page, from the definition of the flags.

use std::io;

use clap::CommandFactory as _;
use clap_mangen::Man;
use tracing::error;

use super::{Cli, FAILURE, SUCCESS, print};
use crate::build_info::VERSION;

/// What the definition of the flags does not say.
const SECTIONS: &str = r#".SH ENVIRONMENT
Each configuration key has a variable: IOT_JOBS_EXPORTER_, then the key in upper case, with two underscores for each dot.
IOT_JOBS_EXPORTER_COLLECTORS__OPEN_JOBS__INTERVAL=30s sets collectors.open_jobs.interval.
Region, credentials, proxies and trusted certificates come from the variables and files that other AWS tools use, such as
AWS_REGION, AWS_PROFILE, HTTPS_PROXY and AWS_CA_BUNDLE.
.SH "EXIT STATUS"
.TP
0
Stopped on request, or the command succeeded.
.TP
1
A failure.
.TP
64
Invalid usage or configuration.
.SH SIGNALS
SIGHUP reloads the configuration. SIGTERM and SIGINT stop the exporter.
.SH EXAMPLES
.TP
aws\-iot\-jobs\-exporter demo
Runs everything on a simulated fleet.
.TP
aws\-iot\-jobs\-exporter \-\-config.file=exporter.yml \-\-config.check
Prints every problem of a configuration.
.TP
aws\-iot\-jobs\-exporter \-\-config.file=exporter.yml doctor
Checks what each target needs.
.SH "SEE ALSO"
.BR prometheus (1)
.br
https://github.com/aws\-iot\-jobs\-exporter/aws\-iot\-jobs\-exporter
"#;

pub(super) fn run() -> u8 {
    match page() {
        Ok(page) => {
            print(&page);
            SUCCESS
        }
        Err(error) => {
            error!(%error, "the man page cannot be made, which is a bug in the exporter");
            FAILURE
        }
    }
}

/// One page with all commands: pages of their own would repeat the flags of the configuration.
fn page() -> io::Result<String> {
    let command = Cli::command();
    let (mut text, whole) = (
        Vec::new(),
        Man::new(command.clone()).manual("User Commands").source(format!("aws-iot-jobs-exporter {VERSION}")),
    );
    whole.render_title(&mut text)?;
    whole.render_name_section(&mut text)?;
    whole.render_synopsis_section(&mut text)?;
    whole.render_options_section(&mut text)?;
    text.extend_from_slice(b".SH COMMANDS\n");
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        text.extend_from_slice(format!(".SS {}\n", subcommand.get_name()).as_bytes());
        if let Some(about) = subcommand.get_about() {
            text.extend_from_slice(format!("{about}.\n").as_bytes());
        }
        if subcommand.get_arguments().next().is_some() {
            let mut options = Vec::new();
            Man::new(subcommand.clone()).render_options_section(&mut options)?;
            // A part of the section COMMANDS.
            text.extend_from_slice(String::from_utf8_lossy(&options).replace(".SH OPTIONS\n", "").as_bytes());
        }
    }
    text.extend_from_slice(SECTIONS.as_bytes());
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_command_and_every_flag() {
        let page = page().expect("a page").replace("\\-", "-");
        let command = Cli::command();
        let all = std::iter::once(&command).chain(command.get_subcommands());
        for flag in all.flat_map(clap::Command::get_arguments).filter_map(clap::Arg::get_long) {
            assert!(page.contains(&format!("--{flag}")), "--{flag} is not on the page");
        }
        for subcommand in command.get_subcommands() {
            assert!(page.contains(&format!(".SS {}\n", subcommand.get_name())), "{}", subcommand.get_name());
        }
        assert!(page.contains("EXIT STATUS"));
    }
}
