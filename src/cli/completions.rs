//! `completions`: the completions of a shell, from the definition of the flags.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, SUCCESS, print};

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(arguments: &CompletionsArgs) -> u8 {
    let (mut command, mut script) = (Cli::command(), Vec::new());
    let name = command.get_name().to_owned();
    clap_complete::generate(arguments.shell, &mut command, name, &mut script);
    print(&String::from_utf8_lossy(&script));
    SUCCESS
}
