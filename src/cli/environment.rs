//! The environment variables of the process.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;

/// The variables whose names are text. No key of the exporter has another name. A value that is not text is made one that no key
/// accepts, so that it is reported and not ignored.
pub(super) fn variables() -> Vec<(String, String)> {
    let variables = std::env::vars_os();
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .collect()
}

/// The variables that are empty or blank among those that the SDK reads from the process environment, and the one that it puts
/// into a header of each request, if no header can have it.
pub(super) fn unusable_variables(environment: impl Iterator<Item = (OsString, OsString)>) -> Vec<OsString> {
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
