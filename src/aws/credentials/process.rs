//! `credential_process`: an external program that prints credentials.
//!
//! The program runs in its own process group, which is killed when it takes too long or when nothing waits for it any
//! more. Otherwise the program would outlive the exporter. Its other output is never shown, since it can contain
//! secrets.

use std::io::ErrorKind;
use std::process::{ExitStatus, Stdio};
use std::time::SystemTime;

use aws_credential_types::Credentials;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Map, Value};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::{SOURCE_TIMEOUT, shown};

/// In bytes; far more than credentials need.
const MAX_OUTPUT: u64 = 64 << 10;

/// Exit statuses of a shell: the command is not executable, or was not found
/// (<https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html>, section 2.8.2).
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// The credentials that `command` prints.
///
/// # Errors
/// Why there are none, as the end of a sentence that begins with `credential_process`.
pub(super) async fn run(command: &str, now: SystemTime) -> Result<Credentials, String> {
    let group = ProcessGroup::start(command)?;
    let ended = timeout(SOURCE_TIMEOUT, group.output()).await;
    let too_slow = |_| format!("{} did not end within {} s and was killed", program(command), SOURCE_TIMEOUT.as_secs());
    let (status, output) = ended.map_err(too_slow)??;
    // Checked first: a program that prints more is killed by a signal.
    if output.len() as u64 > MAX_OUTPUT {
        return Err(format!("{} printed more than {MAX_OUTPUT} bytes", program(command)));
    }
    if !status.success() {
        return Err(failure(command, status));
    }
    parse(&output, now).map_err(|reason| format!("{} {reason}", program(command)))
}

/// A running program and its child processes, unless they left its group.
struct ProcessGroup {
    leader: Child,
}

impl ProcessGroup {
    fn start(command: &str) -> Result<Self, String> {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).process_group(0);
        // A program that asks for input would wait forever.
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let leader = shell.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                "needs a shell, and there is no sh in PATH (container images often have none): use an \
                                    image with a shell, or another source of credentials"
                    .to_owned()
            }
            _ => format!("cannot be started: {error}"),
        })?;
        Ok(Self { leader })
    }

    /// Waits until it ends.
    async fn output(mut self) -> Result<(ExitStatus, Vec<u8>), String> {
        let unreadable = |error| format!("cannot be read: {error}");
        let mut output = Vec::new();
        if let Some(stdout) = self.leader.stdout.take() {
            stdout.take(MAX_OUTPUT + 1).read_to_end(&mut output).await.map_err(unreadable)?;
        }
        // Only now: its id cannot be reused before it was waited for.
        let status = self.leader.wait().await.map_err(unreadable)?;
        Ok((status, output))
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // Without an id, it ended by itself, and processes that it left are intended.
        let id = self.leader.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            // It may just have ended.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

/// The program name in a command. Arguments and variable assignments can be secrets.
fn program(command: &str) -> String {
    let word = command.split_whitespace().next().unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+~".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) { format!("{word:?}") } else { "the program".to_owned() }
}

fn failure(command: &str, status: ExitStatus) -> String {
    let program = program(command);
    match status.code() {
        Some(NOT_FOUND) => {
            format!(
                "{program} was not found by the shell (exit status {NOT_FOUND}): check the path, and that the image has it"
            )
        }
        Some(NOT_EXECUTABLE) => format!("{program} is not executable (exit status {NOT_EXECUTABLE})"),
        Some(code) => format!("{program} ended with exit status {code}: run it by hand to see what it writes"),
        None => format!("{program} was killed by a signal"),
    }
}

/// The credentials in the output of a program
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>).
fn parse(output: &[u8], now: SystemTime) -> Result<Credentials, String> {
    let output: Map<String, Value> = serde_json::from_slice(output)
        .map_err(|error| format!("did not print a JSON object (line {}, column {})", error.line(), error.column()))?;
    let field = |name: &str| output.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    if field("Version").and_then(Value::as_i64) != Some(1) {
        return Err("printed no \"Version\": 1".to_owned());
    }
    let text = |name: &str| field(name).and_then(Value::as_str).map(str::to_owned);
    let needed = |name: &str| text(name).ok_or_else(|| format!("printed no {name}"));
    let mut credentials = Credentials::builder()
        .access_key_id(needed("AccessKeyId")?)
        .secret_access_key(needed("SecretAccessKey")?)
        .provider_name("credential_process");
    credentials.set_session_token(text("SessionToken"));
    if let Some(ends) = field("Expiration").filter(|ends| !ends.is_null()) {
        let ends: Option<jiff::Timestamp> = ends.as_str().and_then(|text| text.parse().ok());
        let ends: Option<SystemTime> = ends.and_then(|ends| ends.try_into().ok());
        let ends = ends.ok_or("printed an Expiration that is not a time")?;
        if ends <= now {
            return Err(format!("printed credentials that ended at {}; it is {} now", shown(ends), shown(now)));
        }
        credentials.set_expiry(Some(ends));
    }
    Ok(credentials.build())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
    }

    async fn fault(command: &str) -> String {
        run(command, now()).await.expect_err(command)
    }

    #[test]
    fn field_names_of_credentials_are_case_insensitive() {
        let printed = br#"{"version": 1, "accesskeyid": "AKID", "SecretAccessKey": "s", "SessionToken": "t",
            "Expiration": "2026-09-21T14:13:31Z", "AccountId": "012345678901"}"#;
        let read = parse(printed, now()).expect("credentials");
        assert_eq!((read.access_key_id(), read.secret_access_key(), read.session_token()), ("AKID", "s", Some("t")));
        assert_eq!(read.expiry(), Some(now() + Duration::from_secs(11)));
        let endless =
            parse(br#"{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "s", "Expiration": null}"#, now());
        assert_eq!(endless.expect("credentials").expiry(), None);
    }

    #[test]
    fn a_fault_of_the_output_is_named_and_the_output_is_not_repeated() {
        for (printed, expected) in [
            ("", "did not print a JSON object"),
            ("hunter2", "did not print a JSON object"),
            ("[\"hunter2\"]", "did not print a JSON object"),
            (r#"{"AccessKeyId": "hunter2", "SecretAccessKey": "hunter2"}"#, "printed no \"Version\": 1"),
            (r#"{"Version": 2, "AccessKeyId": "hunter2"}"#, "printed no \"Version\": 1"),
            (r#"{"Version": 1, "SecretAccessKey": "hunter2"}"#, "printed no AccessKeyId"),
            (r#"{"Version": 1, "AccessKeyId": "hunter2"}"#, "printed no SecretAccessKey"),
            (
                r#"{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", "Expiration": "hunter2"}"#,
                "printed an Expiration that is not a time",
            ),
            (
                r#"{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", "Expiration": 1790000000}"#,
                "printed an Expiration that is not a time",
            ),
        ] {
            let fault = parse(printed.as_bytes(), now()).expect_err(printed);
            assert!(fault.starts_with(expected) && !fault.contains("hunter2"), "{printed}: {fault}");
        }
    }

    #[test]
    fn ended_credentials_are_refused() {
        for ends in ["2020-01-01T00:00:00Z", "2026-09-21T14:13:20Z"] {
            let printed = format!(
                "{{\"Version\": 1, \"AccessKeyId\": \"a\", \"SecretAccessKey\": \"b\", \"Expiration\": \"{ends}\"}}"
            );
            let fault = parse(printed.as_bytes(), now()).expect_err("ended");
            assert_eq!(fault, format!("printed credentials that ended at {ends}; it is 2026-09-21T14:13:20Z now"));
        }
    }

    #[test]
    fn only_a_plain_first_word_of_a_command_is_shown() {
        assert_eq!(program("/opt/creds/get --token hunter2"), "\"/opt/creds/get\"");
        for command in ["", "TOKEN=hunter2 get", "\"/opt/my creds/get\"", "$(hunter2)", "echo|hunter2"] {
            assert!(!program(command).contains("hunter2"), "{command}");
        }
    }

    #[tokio::test]
    async fn the_exit_of_a_program_is_named_and_its_output_is_not() {
        for (command, expected) in [
            (
                "/nonexistent/program --key hunter2",
                "\"/nonexistent/program\" was not found by the shell (exit status 127)",
            ),
            ("/dev/null", "\"/dev/null\" is not executable (exit status 126)"),
            ("echo hunter2 >&2; exit 3", "\"echo\" ended with exit status 3"),
            ("kill -9 $$", "\"kill\" was killed by a signal"),
            ("cat /dev/zero", "\"cat\" printed more than 65536 bytes"),
        ] {
            let fault = fault(command).await;
            assert!(fault.starts_with(expected) && !fault.contains("hunter2"), "{command}: {fault}");
        }
    }

    /// Waits until `is_so`, with a generous limit.
    async fn until(is_so: impl Fn() -> bool) {
        for _ in 0..2000 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the condition is false after 10 s");
    }

    /// Whether a process runs; zombies do not count.
    fn runs(id: &str) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", id.trim())).unwrap_or_default();
        status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
    }

    fn written(path: &Path) -> Option<String> {
        std::fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'))
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_with_its_children() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("child");
        let command = format!("sleep 1000 & echo $! > {}; wait", file.display());
        let running = tokio::spawn(async move { run(&command, now()).await });
        until(|| written(&file).is_some()).await;
        let child = written(&file).expect("the id of a child");
        assert!(runs(&child));
        tokio::time::pause();
        tokio::time::advance(SOURCE_TIMEOUT).await;
        let fault = running.await.expect("no panic").expect_err("no end");
        assert_eq!(fault, "\"sleep\" did not end within 15 s and was killed");
        tokio::time::resume();
        until(|| !runs(&child)).await;
    }

    #[tokio::test]
    async fn a_cancelled_program_is_killed_with_its_children() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("child");
        let command = format!("sleep 1000 & echo $! > {}; wait", file.display());
        let waiting = tokio::spawn(async move { run(&command, now()).await });
        until(|| written(&file).is_some()).await;
        let child = written(&file).expect("the id of a child");
        assert!(runs(&child));
        waiting.abort();
        until(|| !runs(&child)).await;
    }

    #[tokio::test]
    async fn a_program_gets_empty_input() {
        let command = r#"cat; echo '{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b"}'"#;
        let read = run(command, now()).await.expect("credentials");
        assert_eq!(read.access_key_id(), "a");
    }
}
