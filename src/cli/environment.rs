//! The environment variables of the process.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;

/// The variables with names that are valid text; all keys of the exporter have such names. A value that is not valid
/// text becomes one that no key accepts, so that it is reported and not ignored.
pub(super) fn variables() -> Vec<(String, String)> {
    let variables = std::env::vars_os();
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .collect()
}

/// The variables of the SDK that are empty or blank, and the one that the SDK adds to a request header, if its value
/// is not a valid header.
pub(super) fn unusable_variables(environment: impl Iterator<Item = (OsString, OsString)>) -> Vec<OsString> {
    let is_read = |name: &str| name == "HOME" || name.starts_with("AWS_") || name.starts_with("SSL_CERT_");
    let is_blank = |value: &OsString| value.to_str().is_some_and(|value| value.trim().is_empty());
    let fits = |value: &OsString| value.as_encoded_bytes().iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    let unusable = environment.filter(|(name, value)| {
        name.to_str().is_some_and(is_read) && is_blank(value) || name == "AWS_EXECUTION_ENV" && !fits(value)
    });
    unusable.map(|(name, _)| name).collect()
}

/// Restarts the program in this process, without these variables. The exporter treats an empty variable as unset, but
/// the SDK uses it as a value, and changing the environment of a running process is unsafe in Rust. Returns only on
/// failure.
pub(super) fn restart_without(variables: &[OsString]) -> std::io::Error {
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

/// Whether a command line that cannot be parsed, or else the environment, asks for a log in JSON.
pub(super) fn asks_for_json(arguments: &[OsString]) -> bool {
    let flag = "--log.format";
    let values = arguments.iter().zip(arguments.iter().skip(1).map(Some).chain([None]));
    let format = values.filter_map(|(argument, next)| match argument.to_str()? {
        argument if argument == flag => next?.to_str(),
        argument => argument.strip_prefix(flag)?.strip_prefix('='),
    });
    let environment = std::env::var("IOT_JOBS_EXPORTER_LOG__FORMAT").ok();
    format.last().map(str::to_owned).or(environment).is_some_and(|format| format == "json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_of_the_log_is_found_on_a_command_line_that_cannot_be_parsed() {
        let asks = |arguments: &[&str]| asks_for_json(&arguments.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(asks(&["x", "--log.format=json", "--what"]) && asks(&["x", "--log.format", "json"]));
        assert!(
            !asks(&["x", "--log.format=json", "--log.format=text"]) && !asks(&["x", "--log.format"]) && !asks(&["x"])
        );
    }
}
