//! The program as a process: its command line, exit status, log and signals.

use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use aws_iot_jobs_exporter::jobs::AccountId;
use aws_iot_jobs_exporter::simulator::{self, Operation};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::support::{ACCESS_KEY_ID, Endpoint, REGION, jobs, simulator as simulated};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_aws-iot-jobs-exporter");
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

const SECRET: &str = "wJalrXUtnFEMISECRETKEY";
const SESSION_TOKEN: &str = "IQoJb3JpZ2luX2VjSESSIONTOKEN";

/// The program with an environment of its own: nothing of the machine's AWS settings reaches it.
pub fn program(arguments: &[&str]) -> Command {
    isolated(Command::new(PROGRAM), arguments)
}

pub fn isolated(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_CONFIG_FILE", "/dev/null").env("HOME", "/nonexistent");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// With credentials and an endpoint, as an operator would give them.
pub fn pointed_at(mut command: Command, endpoint: &Endpoint) -> Command {
    command.env("AWS_ENDPOINT_URL", endpoint.url()).env("AWS_REGION", REGION);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID).env("AWS_SECRET_ACCESS_KEY", SECRET);
    command
}

async fn ran(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = timeout(PATIENCE, program(arguments).output()).await.expect("an end").expect("a start");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A program that runs, and its log as far as it was read.
pub struct Running {
    child: Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStderr>>,
    pub log: String,
}

impl Running {
    /// Starts a program whose log has single runs, unless the command has a log level of its own.
    pub fn start(mut command: Command) -> Self {
        let has_level =
            command.as_std().get_args().any(|argument| argument.to_string_lossy().starts_with("--log.level"));
        if !has_level {
            command.arg("--log.level=debug");
        }
        let mut child = command.spawn().expect("a started program");
        let lines = BufReader::new(child.stderr.take().expect("an error output")).lines();
        Self { child, lines, log: String::new() }
    }

    /// Reads the log up to a line that contains `text`.
    pub async fn until(&mut self, text: &str) -> String {
        let read = timeout(PATIENCE, async {
            while let Some(line) = self.lines.next_line().await.expect("a log of UTF-8") {
                self.log.push_str(&line);
                self.log.push('\n');
                if line.contains(text) {
                    return Some(line);
                }
            }
            None
        });
        read.await.ok().flatten().unwrap_or_else(|| panic!("no line with {text:?} in\n{}", self.log))
    }

    async fn rest(&mut self) {
        while let Ok(Some(line)) = self.lines.next_line().await {
            self.log.push_str(&line);
            self.log.push('\n');
        }
    }

    /// The address in the log's first line, with the port that the system picked.
    pub async fn address(&mut self) -> String {
        let known = self.log.lines().find(|line| line.contains(" started ")).map(str::to_owned);
        let line = match known {
            Some(line) => line,
            None => self.until("started").await,
        };
        let after = line.split_once("addresses=").expect("addresses in the first line").1;
        after.split(' ').next().expect("an address").trim_matches('"').to_owned()
    }

    pub fn id(&self) -> u32 {
        self.child.id().expect("a running program")
    }

    pub fn signal(&self, name: &str) {
        send_signal(name, &self.id().to_string());
    }

    /// Waits until the process has a handler for SIGTERM, by the kernel's word.
    pub async fn handles_sigterm(&self) {
        const SIGTERM_BIT: u64 = 1 << 14;
        let path = format!("/proc/{}/status", self.id());
        let handled = async {
            loop {
                let status = std::fs::read_to_string(&path).expect("the status of a running program");
                let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("its caught signals");
                if u64::from_str_radix(caught.trim(), 16).expect("a mask") & SIGTERM_BIT != 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, handled).await.expect("a handler for SIGTERM in time");
    }

    pub async fn exit_code(&mut self) -> Option<i32> {
        timeout(PATIENCE, self.child.wait()).await.expect("an end in time").expect("a status").code()
    }
}

/// Sends a signal with the shell's own `kill`: the program of that name is missing from small images.
pub fn send_signal(name: &str, id: &str) {
    let sent = std::process::Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, id]).status().expect("sh");
    assert!(sent.success());
}

#[tokio::test]
async fn a_variable_that_is_not_text_is_told_and_not_left_out() {
    use std::os::unix::ffi::OsStrExt as _;
    let value = std::ffi::OsStr::from_bytes(b"30\xffs");
    let mut command = program(&["--config.check"]);
    let output =
        command.env("IOT_JOBS_EXPORTER_COLLECTORS__OPEN_JOBS__INTERVAL", value).output().await.expect("an end");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{errors}");
    assert!(
        errors.contains("IOT_JOBS_EXPORTER_COLLECTORS__OPEN_JOBS__INTERVAL: collectors.open_jobs.interval"),
        "{errors}"
    );
}

#[tokio::test]
async fn two_targets_of_the_same_jobs_by_the_environments_region_exit_64_and_are_told_by_name() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "targets: [{name: a}, {name: b, region: eu-west-1}]").expect("a written file");
    let flag = format!("--config.file={}", file.path().display());
    let start = |region: &str| {
        let mut command = program(&[&flag, "--web.listen-address=127.0.0.1:0"]);
        command.env("AWS_REGION", region).env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
        Running::start(command)
    };
    let mut refused = start("eu-west-1");
    refused.until("the targets \"a\" and \"b\" monitor the same jobs").await;
    assert_eq!(refused.exit_code().await, Some(64));
    // In two regions they are different jobs.
    start("us-east-1").until("started").await;
}

#[tokio::test]
async fn a_targets_profile_and_its_region_come_before_the_environment() {
    const OF_PROFILE: &str = "AKIAPROFILEPROFILE00";
    let (simulator, of_profile) = (simulated(jobs(5)), AccountId::parse("210987654321").expect("an account id"));
    simulator.add_access_key(&of_profile, OF_PROFILE);
    simulator.set_fleet(&of_profile, "ap-south-1", simulator::Fleet::new(jobs(3), []));
    let endpoint = Endpoint::start(simulator).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let written = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a written file");
        path
    };
    let profile =
        format!("[profile other]\nregion = ap-south-1\naws_access_key_id = {OF_PROFILE}\naws_secret_access_key = x\n");
    let settings = written("config", profile);
    let targets =
        written("exporter.yml", "targets: [{name: environment}, {name: profile, profile: other}]\n".to_owned());
    let flag = format!("--config.file={}", targets.display());
    let mut command = pointed_at(program(&["--web.listen-address=127.0.0.1:0", &flag]), &endpoint);
    command.env("AWS_CONFIG_FILE", settings);
    let mut daemon = Running::start(command);
    let address = daemon.address().await;
    for labels in [
        r#"{target="environment",aws_account_id="012345678901",aws_region="eu-west-1"} 1"#,
        r#"{target="profile",aws_account_id="210987654321",aws_region="ap-south-1"} 1"#,
    ] {
        get_until(&address, "/metrics", &format!("aws_iot_jobs_target_info{labels}")).await;
    }
}

#[tokio::test]
async fn a_profile_that_assumes_a_role_is_a_targets_too() {
    let (simulator, role_account) = (simulated([]), AccountId::parse("210987654321").expect("an account id"));
    simulator.set_fleet(&role_account, "ap-south-1", simulator::Fleet::new(jobs(3), []));
    let role = simulator::Role::new(role_account, "reader");
    let arn = role.arn();
    simulator.add_role(role);
    let endpoint = Endpoint::start(simulator).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (settings, targets) = (folder.path().join("config"), folder.path().join("exporter.yml"));
    let profiles = format!(
        "[profile base]\naws_access_key_id = {ACCESS_KEY_ID}\naws_secret_access_key = x\n\
         [profile other]\nregion = ap-south-1\nrole_arn = {arn}\nsource_profile = base\n"
    );
    std::fs::write(&settings, profiles).expect("a written file");
    std::fs::write(&targets, "targets: [{name: role, profile: other}]\n").expect("a written file");
    let flag = format!("--config.file={}", targets.display());
    let mut command = program(&["--web.listen-address=127.0.0.1:0", &flag]);
    command.env("AWS_ENDPOINT_URL", endpoint.url()).env("AWS_CONFIG_FILE", &settings);
    let mut daemon = Running::start(command);
    let address = daemon.address().await;
    let line = daemon.until("collector=all_jobs").await;
    assert!(line.contains("run complete") && line.contains("jobs=3"), "{line}");
    get_until(&address, "/metrics", "aws_iot_jobs_target_info{target=\"role\",aws_account_id=\"210987654321\"").await;
}

#[tokio::test]
async fn a_role_that_can_not_be_assumed_is_told_by_what_came_of_asking_and_once() {
    let simulator = simulated([]);
    let endpoint = Endpoint::start(simulator).await;
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "targets: [{role_arn: 'arn:aws:iam::210987654321:role/nobody'}]\n")
        .expect("a written file");
    let flag = format!("--config.file={}", file.path().display());
    let mut command = pointed_at(program(&["--web.listen-address=127.0.0.1:0", &flag]), &endpoint);
    command.env("IOT_JOBS_EXPORTER_COLLECTORS__OPEN_JOBS__INTERVAL", "300ms");
    let mut daemon = Running::start(command);
    let line = daemon.until("run failed").await;
    assert!(line.contains("reason=denied") && line.contains("sts:AssumeRole: AccessDenied"), "{line}");
    daemon.until("run failed again").await;

    let mut command = pointed_at(program(&["--web.listen-address=127.0.0.1:0", &flag]), &endpoint);
    command.env("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9");
    let line = Running::start(command).until("run failed").await;
    assert!(line.contains("reason=network"), "{line}");
}

#[tokio::test]
async fn what_a_credential_process_writes_is_not_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = folder.path().join("config");
    std::fs::write(&settings, "[default]\ncredential_process = sh -c 'echo hunter2 >&2; exit 3'\n")
        .expect("a written file");
    let mut command = program(&["--web.listen-address=127.0.0.1:0"]);
    command.env("AWS_REGION", REGION).env("AWS_CONFIG_FILE", &settings);
    let mut daemon = Running::start(command);
    let address = daemon.address().await;
    let line = daemon.until("run failed").await;
    let page = get_until(&address, "/", "failed (credentials)").await;
    assert!(line.contains("reason=credentials"), "{line}");
    assert!(!line.contains("hunter2") && !page.contains("hunter2"), "{line}");
}

#[tokio::test]
async fn output_that_can_not_be_written_is_no_failure() {
    for (arguments, code) in [(&["--version"][..], 0), (&["--config.check"], 0), (&["--config.file=/nonexistent"], 64)]
    {
        let full = || std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
        let status = program(arguments).stdout(full()).stderr(full()).status().await.expect("an end");
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
}

#[tokio::test]
async fn sigterm_while_the_demo_makes_its_fleet_ends_it_with_0() {
    let mut demo = Running::start(program(&["demo", "--jobs=1000000", "--web.listen-address=127.0.0.1:0"]));
    demo.handles_sigterm().await;
    demo.signal("TERM");
    assert_eq!(demo.exit_code().await, Some(0));
}

#[tokio::test]
async fn an_address_in_use_exits_1_and_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let (code, _, errors) = ran(&["demo", &format!("--web.listen-address={address}")]).await;
    assert_eq!(code, Some(1));
    assert!(errors.contains(&address), "{errors}");
}

#[tokio::test]
async fn the_demo_serves_metrics_of_a_simulated_fleet_without_anything_else() {
    let mut demo = Running::start(program(&["demo", "--jobs=600", "--web.listen-address=127.0.0.1:0"]));
    let address = demo.address().await;
    let line = demo.until("collector=all_jobs").await;
    assert!(line.contains("run complete") && line.contains("jobs=600") && line.contains("pages=3"), "{line}");
    let metrics = get(&address, "/metrics").await;
    assert!(metrics.contains("aws_iot_jobs_up{target=\"demo\",aws_region=\"eu-west-1\"} 1\n"), "{metrics}");
    demo.signal("INT");
    assert_eq!(demo.exit_code().await, Some(0));
}

pub async fn get(address: &str, path: &str) -> String {
    request("GET", address, path).await
}

/// What is at `path` once it contains `text`. What a line of the log says is published within a second after it.
pub async fn get_until(address: &str, path: &str, text: &str) -> String {
    let mut answer = String::new();
    let shown = async {
        while !answer.contains(text) {
            answer = get(address, path).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let outcome = timeout(PATIENCE, shown).await;
    outcome.unwrap_or_else(|_| panic!("{text} is not in {answer}"));
    answer
}

/// The whole answer: status line, headers and body.
async fn request(method: &str, address: &str, path: &str) -> String {
    let mut socket = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("a sent request");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test]
async fn several_addresses_are_served_and_their_real_ports_logged() {
    let two = ["demo", "--jobs=1", "--web.listen-address=127.0.0.1:0", "--web.listen-address=127.0.0.2:0"];
    let mut demo = Running::start(program(&two));
    let line = demo.until("started").await;
    let addresses = line.split_once("addresses=").expect("addresses").1;
    let addresses: Vec<&str> =
        addresses.split("targets=").next().expect("a part").trim().trim_matches('"').split(' ').collect();
    assert_eq!(addresses.len(), 2, "{line}");
    for address in addresses {
        assert!(!address.ends_with(":0"), "{line}");
        assert!(get(address, "/-/healthy").await.ends_with("Healthy.\n"));
    }
}

/// A walk that ends long after the test: at 5 requests a second, its 200 pages take 40 seconds.
async fn walking() -> (simulator::Simulator, Endpoint, Running) {
    let simulator = simulated(jobs(50_000));
    let endpoint = Endpoint::start(simulator.clone()).await;
    let mut daemon = Running::start(pointed_at(program(&["--web.listen-address=127.0.0.1:0"]), &endpoint));
    daemon.until("started").await;
    while simulator.requests(Operation::ListJobs) < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (simulator, endpoint, daemon)
}

#[tokio::test]
async fn sigterm_in_the_middle_of_a_walk_ends_it_with_0() {
    for name in ["TERM", "INT"] {
        let (simulator, _endpoint, mut daemon) = walking().await;
        daemon.signal(name);
        assert_eq!(daemon.exit_code().await, Some(0), "SIG{name}");
        assert!(simulator.requests(Operation::ListJobs) < 50, "the walk was dropped, not finished");
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let simulator = simulated(jobs(10));
    let endpoint = Endpoint::start(simulator).await;
    let mut daemon = Running::start(pointed_at(program(&["--web.listen-address=127.0.0.1:0"]), &endpoint));
    let address = daemon.address().await;
    // A request whose body does not come keeps the drain waiting. The answer says that the exporter waits for the body.
    let mut socket = tokio::net::TcpStream::connect(&address).await.expect("a connection");
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
    socket.write_all(head).await.expect("half a request");
    let mut answer = [0; 25];
    socket.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    daemon.signal("TERM");
    daemon.until("stopping").await;
    daemon.signal("TERM");
    assert_eq!(daemon.exit_code().await, Some(1), "not 0, as after a drain");
}

#[tokio::test]
async fn no_secret_reaches_the_log_at_any_level_in_either_format() {
    for format in ["text", "json"] {
        let simulator = simulated(jobs(10));
        let endpoint = Endpoint::start(simulator.clone()).await;
        let mut command = program(&["--web.listen-address=127.0.0.1:0", "--log.level=trace", "--log.format", format]);
        command = pointed_at(command, &endpoint);
        command
            .env("AWS_SESSION_TOKEN", SESSION_TOKEN)
            .env("IOT_JOBS_EXPORTER_COLLECTORS__OPEN_JOBS__INTERVAL", "200ms");
        let mut daemon = Running::start(command);
        daemon.until("run complete").await;
        simulator.intercept(|_| {
            let status = aws_iot_jobs_exporter::http::StatusCode::FORBIDDEN;
            Some(simulator::error(status, "AccessDeniedException", "no"))
        });
        daemon.until("run failed").await;
        daemon.signal("TERM");
        daemon.rest().await;
        for secret in [SECRET, SESSION_TOKEN, "Signature=", "Credential="] {
            assert!(!daemon.log.contains(secret), "{secret} is in the log");
        }
        if format == "json" {
            for line in daemon.log.lines() {
                let event: serde_json::Value = serde_json::from_str(line).expect("a JSON object a line");
                assert!(event["message"].is_string() && event["level"].is_string(), "{line}");
            }
        }
    }
}

#[tokio::test]
async fn a_failure_is_logged_whole_once_and_shorter_while_it_lasts() {
    let simulator = simulated(jobs(10));
    simulator.intercept(|call| {
        let status = aws_iot_jobs_exporter::http::StatusCode::FORBIDDEN;
        let denied =
            || simulator::error(status, "AccessDeniedException", "User: x is not authorized to perform: iot:ListJobs");
        (call.operation == Operation::ListJobs).then(denied)
    });
    let endpoint = Endpoint::start(simulator.clone()).await;
    let mut command = pointed_at(program(&["--web.listen-address=127.0.0.1:0"]), &endpoint);
    command.env("IOT_JOBS_EXPORTER_COLLECTORS__OPEN_JOBS__INTERVAL", "300ms");
    let mut daemon = Running::start(command);
    let first = daemon.until("run failed").await;
    let on = format!("ListJobs on {}: ", endpoint.address);
    for part in ["reason=denied", &on, "AccessDeniedException", "iot:ListJobs", "advice="] {
        assert!(first.contains(part), "{part} is not in {first}");
    }
    let again = daemon.until("run failed again").await;
    assert!(!again.contains("AccessDeniedException") && again.contains("failures=2"), "{again}");
    simulator.stop_intercepting();
    daemon.until("collector has recovered").await;
}

#[tokio::test]
async fn sighup_and_a_post_read_the_file_again_and_a_faulty_one_changes_nothing() {
    let endpoint = Endpoint::start(simulated(jobs(3))).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("exporter.yml");
    let targets = |names: &[&str]| {
        let target = |name: &&str| {
            let url = endpoint.url();
            format!(
                "  - {{name: {name}, region: eu-west-1, endpoint_url: '{url}', filter: {{namespace_id: {name}}}}}\n"
            )
        };
        format!("targets:\n{}", names.iter().map(target).collect::<String>())
    };
    std::fs::write(&file, targets(&["one"])).expect("a written file");
    let file_flag = format!("--config.file={}", file.display());
    let arguments = [file_flag.as_str(), "--web.listen-address=127.0.0.1:0", "--web.enable-lifecycle"];
    let mut running = Running::start(pointed_at(program(&arguments), &endpoint));
    let address = running.address().await;

    std::fs::write(&file, targets(&["one", "two"])).expect("a written file");
    running.signal("HUP");
    let line = running.until("configuration reloaded").await;
    assert!(line.contains("one, two") && line.contains("Changed: targets[1].endpoint_url, "), "{line}");
    let post = || request("POST", &address, "/-/reload");

    std::fs::write(&file, "collectors: {open_jobs: {intervall: 1m}}\n").expect("a written file");
    let (answer, checked) = (post().await, ran(&[&file_flag, "--config.check"]).await.2);
    assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains(checked.trim()), "{answer} does not have {checked}");
    let metrics = get(&address, "/metrics").await;
    assert!(metrics.contains("aws_iot_jobs_exporter_config_last_reload_successful 0"), "{metrics}");
    assert!(metrics.contains("target=\"two\""), "{metrics}");

    std::fs::write(&file, targets(&["two"])).expect("a written file");
    let answer = post().await;
    let changed = "Reloaded. Changed: targets[0].filter.namespace_id, targets[0].name, targets[1].";
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(changed), "{answer}");
    let metrics = get(&address, "/metrics").await;
    assert!(metrics.contains("config_last_reload_successful 1") && !metrics.contains("target=\"one\""), "{metrics}");

    let answer = post().await;
    let nothing = format!("Reloaded. Nothing changed in {} (last modified 20", file.display());
    assert!(answer.contains(&nothing), "{answer}");
    let same = get(&address, "/metrics").await;
    assert_eq!(
        line_of(&same, "aws_iot_jobs_exporter_config_hash "),
        line_of(&metrics, "aws_iot_jobs_exporter_config_hash ")
    );

    // Truncated, as by a failed template or a full disk.
    std::fs::write(&file, "").expect("a written file");
    running.signal("HUP");
    let line = running.until("is empty").await;
    assert!(line.contains("configuration not reloaded") && line.contains("exporter.yml: is empty"), "{line}");
    let metrics = get(&address, "/metrics").await;
    assert!(metrics.contains("config_last_reload_successful 0") && metrics.contains("target=\"two\""), "{metrics}");
    running.signal("TERM");
    assert_eq!(running.exit_code().await, Some(0));
}

fn line_of<'a>(metrics: &'a str, start: &str) -> Option<&'a str> {
    metrics.lines().find(|line| line.starts_with(start))
}

#[tokio::test]
async fn an_empty_variable_counts_as_not_set_for_the_sdk_too() {
    let endpoint = Endpoint::start(simulated(jobs(3))).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let profile = folder.path().join("config");
    std::fs::write(&profile, format!("[default]\nregion = {REGION}\n")).expect("a written file");
    for (variable, value) in [("AWS_DEFAULT_REGION", REGION), ("AWS_CONFIG_FILE", profile.to_str().expect("UTF-8"))] {
        let mut command = pointed_at(program(&["--web.listen-address=127.0.0.1:0"]), &endpoint);
        for empty in ["AWS_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_IOT", "AWS_ROLE_ARN"] {
            command.env(empty, "");
        }
        command
            .env("AWS_USE_FIPS_ENDPOINT", "")
            .env("IOT_JOBS_EXPORTER_COLLECTORS__OPEN_JOBS__INTERVAL", "")
            .env(variable, value);
        let mut daemon = Running::start(command);
        let address = daemon.address().await;
        daemon.until("run complete").await;
        let metrics = get(&address, "/metrics").await;
        assert!(metrics.contains(&format!("aws_iot_jobs_up{{target=\"{REGION}\"")), "{metrics}");
        daemon.signal("TERM");
        assert_eq!(daemon.exit_code().await, Some(0));
    }
}

#[tokio::test]
async fn the_check_reports_what_only_a_start_showed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (file, profiles) = (folder.path().join("exporter.yml"), folder.path().join("config"));
    std::fs::write(&profiles, "\u{feff}[profile monitoring]\nregion = eu-west-1\n").expect("a written file");
    let content = "targets:\n  - profile: monitoring\n    name: a\n  - profile: gone\n    name: b\n\
                   \x20 - region: eu-west-1\n    role_arn: arn:aws-cn:iam::012345678901:role/x\n";
    std::fs::write(&file, content).expect("a written file");
    let mut command = program(&[&format!("--config.file={}", file.display()), "--config.check"]);
    command.env("AWS_CONFIG_FILE", &profiles).env("AWS_REGION", "Global").env("HTTPS_PROXY", "ftp://proxy:21");
    command.env("AWS_ENDPOINT_URL", "127.0.0.1:4566").env("IOT_JOBS_EXPORTER_METRICS_SERVICE_HOST", "10.0.0.1");
    let output = command.output().await.expect("an end");
    let errors = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(64), "{errors}");
    let config = profiles.display();
    for line in [
        format!(
            "exporter.yml:4: targets[1].profile: profile \"gone\" not found in {config}, /nonexistent/.aws/credentials (does not exist)"
        ),
        "exporter.yml:7: targets[2].role_arn: is a role in partition aws-cn, but region eu-west-1 is in aws".to_owned(),
        "AWS_REGION: \"Global\" is not a region".to_owned(),
        "HTTPS_PROXY: has the scheme \"ftp\"".to_owned(),
        "AWS_ENDPOINT_URL: is not an http:// or https:// URL".to_owned(),
    ] {
        assert!(errors.contains(&line), "{line} is not in\n{errors}");
    }
    assert_eq!(errors.lines().count(), 5, "{errors}");
}

#[tokio::test]
async fn the_schema_that_is_shipped_is_printed() {
    let (code, schema, _) = ran(&["--config.schema"]).await;
    assert_eq!((code, schema), (Some(0), crate::support::text("config/exporter.schema.json")));
}

/// An exporter's answer to `--health.check` with these further arguments.
async fn health(arguments: &[&str]) -> (Option<i32>, String, String) {
    ran(&[&["--health.check"][..], arguments].concat()).await
}

#[tokio::test]
async fn the_health_check_asks_where_flags_or_the_environment_have_it_listen_and_nothing_else() {
    let mut demo = Running::start(program(&["demo", "--jobs=1", "--web.listen-address=127.0.0.1:0"]));
    let address = demo.address().await;
    let flag = format!("--web.listen-address={address}");
    let well = (Some(0), "Healthy.\n".to_owned(), String::new());
    assert_eq!(health(&[&flag]).await, well);
    // What is wrong with the rest, the exporter itself tells.
    let mut command = program(&["--health.check"]);
    command
        .env("IOT_JOBS_EXPORTER_WEB__LISTEN_ADDRESSES", &address)
        .env("IOT_JOBS_EXPORTER_COLLECTORS__OPEN_JOBS__INTERVAL", "often");
    let asked = command.output().await.expect("an end");
    assert_eq!((asked.status.code(), &asked.stdout[..]), (Some(0), &b"Healthy.\n"[..]));
    // Of several the first, and with a probe address that one.
    assert_eq!(health(&["--web.listen-address=127.0.0.1:1", &flag]).await.0, Some(1));
    let probe = format!("--web.probe-address={address}");
    assert_eq!(health(&["--web.listen-address=127.0.0.1:1", &probe]).await, well);

    let (code, _, errors) = health(&[&flag, "--config.file=exporter.yml"]).await;
    assert_eq!(code, Some(64), "{errors}");
    let (code, _, errors) = health(&["--web.listen-address=nowhere"]).await;
    assert!(code == Some(64) && errors.contains("listen"), "{errors}");

    demo.signal("TERM");
    assert_eq!(demo.exit_code().await, Some(0));
    let (code, printed, errors) = health(&[&flag]).await;
    assert_eq!((code, printed.as_str()), (Some(1), ""));
    assert_eq!(errors, format!("{address} does not answer: Connection refused (os error 111)\n"));
}

#[tokio::test]
async fn who_listens_on_every_interface_is_asked_on_this_machines_own() {
    for every in ["", "0.0.0.0", "[::]"] {
        let mut demo = Running::start(program(&["demo", "--jobs=1", &format!("--web.listen-address={every}:0")]));
        let address = demo.address().await;
        let port = address.rsplit_once(':').expect("a port").1;
        let (code, printed, errors) = health(&[&format!("--web.listen-address={every}:{port}")]).await;
        assert_eq!((code, printed.as_str()), (Some(0), "Healthy.\n"), "{every}: {errors}");
    }
}

#[tokio::test]
async fn somebody_else_at_the_address_is_not_taken_for_a_healthy_exporter() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let flag = format!("--web.listen-address={}", listener.local_addr().expect("an address"));
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
        socket.write_all(answer).await.expect("an answer");
        let _ = socket.read_to_end(&mut Vec::new()).await;
    });
    let (code, printed, errors) = health(&[&flag]).await;
    assert_eq!((code, printed.as_str()), (Some(1), ""));
    assert!(errors.contains("answers 503"), "{errors}");
    server.await.expect("an end");
}

#[tokio::test]
async fn where_tls_is_spoken_the_health_check_says_to_ask_at_the_probe_address() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    crate::test_certs::certificates(folder.path());
    let web = folder.path().join("web.yml");
    std::fs::write(&web, "tls_server_config: {cert_file: server.pem, key_file: server.key}\n").expect("a written file");
    let (web, probe) = (format!("--web.config.file={}", web.display()), crate::support::free_port());
    let probe = format!("--web.probe-address=127.0.0.1:{probe}");
    let mut demo = Running::start(program(&["demo", "--jobs=1", "--web.listen-address=127.0.0.1:0", &web, &probe]));
    let flag = format!("--web.listen-address={}", demo.address().await);
    let (code, _, errors) = health(&[&flag]).await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("--web.probe-address"), "{errors}");
    assert_eq!(health(&[&flag, &probe]).await, (Some(0), "Healthy.\n".to_owned(), String::new()));
}

#[tokio::test]
async fn of_twenty_targets_four_that_fail_in_their_own_ways_hold_up_none_of_the_others() {
    let simulator = simulated(jobs(3));
    simulator.intercept(|call| match (call.operation, call.params.get("namespaceId")) {
        (Operation::ListJobs, Some("long")) => {
            let token = "x".repeat(70_000);
            Some(simulator::json(&serde_json::json!({"jobs": [], "nextToken": token})))
        }
        (Operation::ListJobs, Some("denied")) => {
            Some(simulator::error(aws_iot_jobs_exporter::http::StatusCode::FORBIDDEN, "AccessDeniedException", "no"))
        }
        _ => None,
    });
    let endpoint = Endpoint::start(simulator).await;
    // Accepts connections in its backlog, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let silent_address = silent.local_addr().expect("an address");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let process = r#"echo '{"Version": 1, "AccessKeyId": "AKID\n", "SecretAccessKey": "secret"}'"#;
    std::fs::write(folder.path().join("config"), format!("[profile broken]\ncredential_process = {process}\n"))
        .expect("a written file");
    let mut targets = String::from("targets:\n");
    let good: Vec<String> = (0..16).map(|n| format!("good-{n}")).collect();
    for name in good.iter().cloned().chain(["long", "denied", "hangs", "broken"].map(str::to_owned)) {
        let more = match &*name {
            "hangs" => format!(", endpoint_url: 'http://{silent_address}'"),
            "broken" => ", profile: broken".to_owned(),
            _ => String::new(),
        };
        let _ = writeln!(
            targets,
            "  - {{name: {name}, filter: {{namespace_id: {name}}}, account_id: '012345678901'{more}}}"
        );
    }
    let file = folder.path().join("exporter.yml");
    std::fs::write(
        &file,
        format!("collectors: {{open_jobs: {{interval: 1s}}}}\nlimits: {{requests_per_second: 1000}}\n{targets}"),
    )
    .expect("a written file");
    let config = format!("--config.file={}", file.display());
    let mut command = pointed_at(program(&["--web.listen-address=127.0.0.1:0", &config]), &endpoint);
    command.env("AWS_CONFIG_FILE", folder.path().join("config"));
    let mut daemon = Running::start(command);
    let address = daemon.address().await;
    // Each of the others lists again and again while the first walk of one hangs.
    let listed_again = async {
        loop {
            let answer = get(&address, "/metrics").await;
            let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
            let shown = crate::support::Exposition::parse(body.as_bytes());
            let runs = |name: &str| {
                let labels = [("target", name), ("collector", "open_jobs")];
                shown.value("aws_iot_jobs_exporter_collector_runs_total", &labels)
            };
            let have_run = |names: &[String], walks: f64| names.iter().all(|name| runs(name) >= Some(walks));
            if have_run(&good, 3.0) && have_run(&["long", "denied", "broken"].map(str::to_owned), 1.0) {
                return shown;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let shown = timeout(PATIENCE, listed_again).await.expect("walks of all others");
    let up = |name: &str| shown.value("aws_iot_jobs_up", &[("target", name)]);
    for name in &good {
        assert_eq!(up(name), Some(1.0), "{name}");
    }
    for (name, reason) in [("long", "malformed"), ("denied", "denied"), ("broken", "credentials")] {
        assert_eq!(up(name), Some(0.0), "{name}");
        let labels = [("target", name), ("collector", "open_jobs"), ("reason", reason)];
        assert!(shown.value("aws_iot_jobs_exporter_collector_failures_total", &labels) > Some(0.0), "{name}: {reason}");
    }
    let hangs = |name: &str| shown.family(name).any(|(labels, _)| labels["target"] == "hangs");
    assert!(!hangs("aws_iot_jobs"), "nothing is known about its jobs");
    // On a slow machine its first walk may have failed already, after three attempts of 10 s.
    let runs = |collector| {
        shown.value("aws_iot_jobs_exporter_collector_runs_total", &[("target", "hangs"), ("collector", collector)])
    };
    let has_run = runs("open_jobs") > Some(0.0);
    assert_eq!(up("hangs"), Some(f64::from(u8::from(!has_run))), "a first walk counts as success until it fails");
    assert_eq!(hangs("aws_iot_jobs_collector_success"), has_run);
    daemon.signal("TERM");
    assert_eq!(daemon.exit_code().await, Some(0));
}

#[tokio::test]
async fn the_completions_are_accepted_by_bash_and_name_flags_and_commands() {
    for (shell, parts) in [
        ("bash", ["-o default aws-iot-jobs-exporter", "--config.file", "doctor"]),
        ("zsh", ["#compdef aws-iot-jobs-exporter", "--config.file", "doctor"]),
        ("fish", ["complete -c aws-iot-jobs-exporter", "config.file", "doctor"]),
    ] {
        let (status, script, errors) = ran(&["completions", shell]).await;
        assert_eq!((status, errors.as_str()), (Some(0), ""), "{shell}");
        for part in parts {
            assert!(script.contains(part), "{part} is not in the completions of {shell}");
        }
    }
    let (_, script, _) = ran(&["completions", "bash"]).await;
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), script).expect("a written file");
    let mut bash = Command::new("bash");
    let loaded = bash.arg("-c").arg("source \"$0\" && complete -p aws-iot-jobs-exporter").arg(file.path());
    assert!(loaded.status().await.expect("bash").success());
}

#[tokio::test]
async fn the_man_page_names_commands_flags_and_exit_status() {
    let (status, page, errors) = ran(&["man"]).await;
    assert_eq!((status, errors.as_str()), (Some(0), ""));
    let title = format!(".TH aws-iot-jobs-exporter 1  \"aws-iot-jobs-exporter {}\"", env!("CARGO_PKG_VERSION"));
    for part in [title.as_str(), ".SS doctor", "EXIT STATUS", "config.file"] {
        assert!(page.contains(part), "{part} is not on the page");
    }
}
