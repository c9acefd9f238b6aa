//! The flags that set a key of the configuration.

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches};

use crate::config::{self, Flag};

/// The flags that set a key of the configuration, generated from the definitions of the keys.
pub(super) struct KeyFlags(pub(super) Vec<Flag>);

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
