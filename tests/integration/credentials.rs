//! Credentials that change while the exporter runs: it goes on by itself, and says in one line where it can't.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::future::ProvideCredentials as Provided;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_iot_jobs_exporter::config::{self, Sources};
use aws_iot_jobs_exporter::jobs::AccountId;
use aws_iot_jobs_exporter::simulator::{Fleet, Operation, Role, Simulator};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::process::{Running, program};
use crate::support::{
    ACCESS_KEY_ID, Endpoint, Exporter, Exposition, REGION, account, jobs, list_only, simulator as simulated,
};

const ROTATED: &str = "AKIAROTATEDROTATED00";

fn role() -> Role {
    Role::new(AccountId::parse("210987654321").expect("an account id"), "reader")
}

/// An account whose role has three jobs to read.
fn with_role() -> Simulator {
    let simulator = simulated([]);
    simulator.set_fleet(&AccountId::parse("210987654321").expect("an account id"), REGION, Fleet::new(jobs(3), []));
    simulator.add_role(role());
    simulator
}

/// One key that tells no end, and can be exchanged.
#[derive(Clone, Debug)]
struct Endless(Arc<Mutex<&'static str>>);

impl Endless {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(ACCESS_KEY_ID)))
    }

    fn rotate(&self) {
        *self.0.lock().expect("no test panics in here") = ROTATED;
    }
}

impl ProvideCredentials for Endless {
    fn provide_credentials<'a>(&'a self) -> Provided<'a>
    where
        Self: 'a,
    {
        let key = *self.0.lock().expect("no test panics in here");
        Provided::ready(Ok(Credentials::new(key, "secret", None, None, "test")))
    }
}

#[tokio::test(start_paused = true)]
async fn the_session_of_a_role_is_renewed_before_its_end_and_no_walk_fails_for_it() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let target = format!("{{region: {REGION}, endpoint_url: 'http://simulator.test', role_arn: '{}'}}", role().arn());
    std::fs::write(file.path(), format!("targets: [{target}]")).expect("a written file");
    let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
    let targets = config::load(&sources).expect("a valid configuration").targets;
    let exporter = Exporter::start(with_role(), |config| config.targets = targets).await;
    let first = exporter.listed(1).await;
    assert_eq!((first.up(), exporter.simulator.requests(Operation::AssumeRole)), (Some(1.0), 1), "{}", first.text);
    tokio::time::sleep(Duration::from_hours(5)).await;
    let shown = exporter.scrape().await;
    assert_eq!(shown.up(), Some(1.0));
    assert_eq!(shown.family("aws_iot_jobs_exporter_collector_failures_total").map(|(_, n)| n).sum::<f64>(), 0.0);
    // Sessions are of one hour.
    let assumed = exporter.simulator.requests(Operation::AssumeRole);
    assert!((5..=7).contains(&assumed), "{assumed} sessions in five hours");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_aws_no_longer_knows_is_sought_anew_with_the_next_try() {
    let (simulator, credentials) = (simulated(jobs(3)), Endless::new());
    simulator.add_access_key(&account(), ROTATED);
    let provider = SharedCredentialsProvider::new(credentials.clone());
    let exporter = Exporter::start_as(simulator, Some(provider), list_only).await;
    exporter.listed(2).await;
    credentials.rotate();
    exporter.simulator.remove_access_key(ACCESS_KEY_ID);
    let failures = |shown: &Exposition| shown.failures("open_jobs", "credentials");
    let shown = exporter.listed(3).await;
    assert_eq!((shown.up(), failures(&shown)), (Some(0.0), Some(1.0)));
    let shown = exporter.listed(4).await;
    assert_eq!((shown.up(), failures(&shown)), (Some(1.0), Some(1.0)), "{}", shown.text);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_replaced_before_its_end_is_no_longer_used_after_a_quarter_of_an_hour() {
    let (simulator, credentials) = (simulated(jobs(3)), Endless::new());
    simulator.add_access_key(&account(), ROTATED);
    let provider = SharedCredentialsProvider::new(credentials.clone());
    let exporter = Exporter::start_as(simulator, Some(provider), |_| {}).await;
    exporter.listed(2).await;
    credentials.rotate();
    tokio::time::sleep(Duration::from_mins(16)).await;
    exporter.simulator.remove_access_key(ACCESS_KEY_ID);
    tokio::time::sleep(Duration::from_mins(16)).await;
    let shown = exporter.scrape().await;
    let failures = shown.family("aws_iot_jobs_exporter_collector_failures_total").map(|(_, n)| n).sum::<f64>();
    assert_eq!((shown.up(), failures), (Some(1.0), 0.0));
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a written file");
}

fn profile(key: &str) -> String {
    format!("[default]\nregion = {REGION}\naws_access_key_id = {key}\naws_secret_access_key = x\n")
}

/// The program by itself, against `endpoint`, with this file of profiles, and a walk every 200 ms.
fn with_profiles(endpoint: &Endpoint, profiles: &Path) -> Running {
    let mut command = program(&["--web.listen-address=127.0.0.1:0"]);
    command.env("AWS_ENDPOINT_URL", endpoint.url()).env("AWS_CONFIG_FILE", profiles);
    command.env("IOT_JOBS_EXPORTER_COLLECTORS__OPEN_JOBS__INTERVAL", "200ms");
    Running::start(command)
}

#[tokio::test]
async fn a_key_that_is_rotated_in_a_profile_is_taken_up_without_a_restart() {
    let simulator = simulated(jobs(3));
    simulator.add_access_key(&account(), ROTATED);
    let endpoint = Endpoint::start(simulator.clone()).await;
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    write(file.path(), &profile(ACCESS_KEY_ID));
    let mut daemon = with_profiles(&endpoint, file.path());
    daemon.until("run complete").await;
    simulator.remove_access_key(ACCESS_KEY_ID);
    let line = daemon.until("run failed").await;
    assert!(line.contains("reason=credentials") && line.contains("UnrecognizedClientException"), "{line}");
    write(file.path(), &profile(ROTATED));
    daemon.until("run complete").await;
}

/// Region and key are both in the file, and the simulator only answers requests that are signed with a key it knows.
#[tokio::test]
async fn a_file_with_a_byte_order_mark_is_used_and_read_again_when_its_key_is_rotated() {
    let simulator = simulated(jobs(3));
    simulator.add_access_key(&account(), ROTATED);
    let endpoint = Endpoint::start(simulator.clone()).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (profiles, targets) = (folder.path().join("config"), folder.path().join("exporter.yml"));
    write(&targets, "targets: [{profile: marked}]\n");
    let flag = format!("--config.file={}", targets.display());
    for (arguments, section) in [(vec![], "[default]"), (vec![flag.as_str()], "[profile marked]")] {
        let marked = |key: &str| profile(key).replace("[default]", &format!("\u{feff}{section}")).replace('\n', "\r\n");
        simulator.add_access_key(&account(), ACCESS_KEY_ID);
        write(&profiles, &marked(ACCESS_KEY_ID));
        let mut command = program(&[&["--web.listen-address=127.0.0.1:0"], &arguments[..]].concat());
        command.env("AWS_ENDPOINT_URL", endpoint.url()).env("AWS_CONFIG_FILE", &profiles);
        command.env("IOT_JOBS_EXPORTER_COLLECTORS__OPEN_JOBS__INTERVAL", "200ms");
        let mut daemon = Running::start(command);
        daemon.until("run complete").await;
        write(&profiles, &marked(ROTATED));
        simulator.remove_access_key(ACCESS_KEY_ID);
        daemon.until("run failed").await;
        daemon.until("run complete").await;
    }
}

#[tokio::test]
async fn a_profile_that_is_not_there_is_named_with_the_files_that_were_searched() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (profiles, targets) = (folder.path().join("config"), folder.path().join("exporter.yml"));
    write(&profiles, &profile(ACCESS_KEY_ID));
    let target = format!("targets: [{{profile: other, region: {REGION}}}]\n");
    let flag = format!("--config.file={}", targets.display());
    let started = |aws_profile: &str| {
        let mut command = program(&["--web.listen-address=127.0.0.1:0", &flag]);
        command.env("AWS_CONFIG_FILE", &profiles).env("AWS_PROFILE", aws_profile);
        command
    };
    for (targets_text, aws_profile) in
        [(target.as_str(), ""), (&format!("targets: [{{region: {REGION}}}]\n"), "other"), ("targets: [{}]\n", "other")]
    {
        write(&targets, targets_text);
        let output = started(aws_profile).output().await.expect("an end");
        let errors = String::from_utf8(output.stderr).expect("UTF-8");
        let config = profiles.display();
        let reason = format!("profile \"other\" not found in {config}, /nonexistent/.aws/credentials (does not exist)");
        assert!(output.status.code() == Some(64) && errors.contains(&reason), "{errors}");
    }
}

#[tokio::test]
async fn a_file_that_can_not_be_used_is_named() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let utf_16: Vec<u8> =
        format!("\u{feff}{}", profile(ACCESS_KEY_ID)).encode_utf16().flat_map(u16::to_le_bytes).collect();
    let no_equals_sign = format!("{}hunter2\n", profile(ACCESS_KEY_ID)).into_bytes();
    let path = file.path().display();
    for (content, told) in [
        (utf_16, format!("{path} is UTF-16; save it as UTF-8")),
        (no_equals_sign, format!("error parsing {path} on line 5: Expected an '=' sign")),
    ] {
        std::fs::write(file.path(), content).expect("a written file");
        let mut command = program(&["--web.listen-address=127.0.0.1:0"]);
        command.env("AWS_REGION", REGION).env("AWS_CONFIG_FILE", file.path());
        let line = Running::start(command).until("run failed").await;
        println!("{line}");
        assert!(line.contains("reason=credentials") && line.contains(&told), "{line}");
        assert!(!line.contains("hunter2") && line.len() < 700, "{line}");
    }
}

#[tokio::test]
async fn a_profile_that_is_written_late_is_found() {
    let endpoint = Endpoint::start(simulated(jobs(3))).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let profiles = folder.path().join("config");
    write(&profiles, &format!("[default]\nregion = {REGION}\n"));
    let mut daemon = with_profiles(&endpoint, &profiles);
    let line = daemon.until("run failed").await;
    assert!(line.contains("reason=credentials") && line.contains("advice="), "{line}");
    write(&profiles, &profile(ACCESS_KEY_ID));
    daemon.until("run complete").await;
}

#[tokio::test]
async fn the_key_behind_a_profiles_role_is_rotated_without_a_restart_too() {
    let simulator = with_role();
    simulator.add_access_key(&account(), ROTATED);
    let endpoint = Endpoint::start(simulator.clone()).await;
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let profiles = |key: &str| {
        format!(
            "[profile base]\naws_access_key_id = {key}\naws_secret_access_key = x\n\
             [default]\nregion = {REGION}\nrole_arn = {}\nsource_profile = base\n",
            role().arn()
        )
    };
    write(file.path(), &profiles(ACCESS_KEY_ID));
    let mut daemon = with_profiles(&endpoint, file.path());
    daemon.until("run complete").await;
    simulator.remove_access_key(ACCESS_KEY_ID);
    simulator.end_sessions();
    let line = daemon.until("run failed").await;
    assert!(line.contains("reason=credentials"), "{line}");
    write(file.path(), &profiles(ROTATED));
    daemon.until("run complete").await;
}

#[tokio::test]
async fn a_web_identity_token_that_was_replaced_is_the_one_that_is_shown_next() {
    let simulator = with_role();
    simulator.trust_web_identity(role(), "token-1");
    let endpoint = Endpoint::start(simulator.clone()).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (profiles, token) = (folder.path().join("config"), folder.path().join("token"));
    write(&profiles, "");
    write(&token, "token-1");
    let mut command = program(&["--web.listen-address=127.0.0.1:0"]);
    command.env("AWS_ENDPOINT_URL", endpoint.url()).env("AWS_CONFIG_FILE", &profiles).env("AWS_REGION", REGION);
    command.env("AWS_WEB_IDENTITY_TOKEN_FILE", &token).env("AWS_ROLE_ARN", role().arn());
    command.env("IOT_JOBS_EXPORTER_COLLECTORS__OPEN_JOBS__INTERVAL", "200ms");
    let mut daemon = Running::start(command);
    daemon.until("run complete").await;
    assert_eq!(simulator.requests(Operation::AssumeRoleWithWebIdentity), 1);
    simulator.trust_web_identity(role(), "token-2");
    write(&token, "token-2");
    simulator.end_sessions();
    let line = daemon.until("run failed").await;
    assert!(line.contains("reason=credentials") && line.contains("ExpiredToken"), "{line}");
    daemon.until("run complete").await;
    assert_eq!(simulator.requests(Operation::AssumeRoleWithWebIdentity), 2);
}

/// Each of them is one line of sane length, that names what was tried and what to do.
#[tokio::test]
async fn credentials_that_are_wrong_are_told_in_one_line_that_says_what_to_do() {
    let endpoint = Endpoint::start(with_role()).await;
    let unknown = profile("AKIAUNKNOWNUNKNOWN00");
    let role = format!(
        "[default]\nregion = {REGION}\nrole_arn = arn:aws:iam::210987654321:role/nobody\nsource_profile = base\n\
         [profile base]\naws_access_key_id = {ACCESS_KEY_ID}\naws_secret_access_key = x\n"
    );
    let no_source =
        format!("[default]\nregion = {REGION}\nrole_arn = arn:aws:iam::210987654321:role/r\nsource_profile = gone\n");
    let no_token = format!(
        "[default]\nregion = {REGION}\nrole_arn = arn:aws:iam::210987654321:role/r\nweb_identity_token_file = /nonexistent/token\n"
    );
    let program = format!("[default]\nregion = {REGION}\ncredential_process = /nonexistent/program\n");
    for (profiles, reason, told) in [
        (format!("[default]\nregion = {REGION}\n"), "credentials", "no credentials in the environment"),
        (
            unknown,
            "credentials",
            "InvalidClientTokenId: The security token included in the request is invalid. (HTTP 403); is the region",
        ),
        (role, "denied", "sts:AssumeRole"),
        (no_source, "credentials", "gone"),
        (no_token, "credentials", "web identity token file"),
        (program, "credentials", "credential_process \"/nonexistent/program\" was not found by the shell"),
    ] {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        write(file.path(), &profiles);
        let line = with_profiles(&endpoint, file.path()).until("run failed").await;
        println!("{line}");
        for part in [&format!("reason={reason}"), told, "advice="] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        assert!(line.len() < 700, "{line}");
    }
}

/// A server that answers every request with `body`, and sends what it was asked.
async fn answering(body: String) -> (std::net::SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (sender, asked) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = vec![0; 8192];
            let length = socket.read(&mut request).await.unwrap_or_default();
            let _ = sender.send(String::from_utf8_lossy(&request[..length]).into_owned());
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = socket.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    (address, asked)
}

#[tokio::test]
async fn the_token_of_a_container_never_goes_through_a_proxy() {
    let endpoint = Endpoint::start(simulated(jobs(3))).await;
    let credentials = format!(
        "{{\"AccessKeyId\": \"{ACCESS_KEY_ID}\", \"SecretAccessKey\": \"x\", \"Token\": \"t\", \
         \"Expiration\": \"2099-01-01T00:00:00Z\"}}"
    );
    let (metadata, mut asked_metadata) = answering(credentials).await;
    let (proxy, mut asked_proxy) = answering(String::new()).await;
    let mut command = program(&["--web.listen-address=127.0.0.1:0"]);
    command.env("AWS_ENDPOINT_URL", endpoint.url()).env("AWS_REGION", REGION);
    command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{metadata}/v1/credentials"));
    command.env("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod-token");
    for variable in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env(variable, format!("http://{proxy}"));
    }
    let mut daemon = Running::start(command);
    daemon.until("run complete").await;
    let request = asked_metadata.recv().await.expect("a request for credentials");
    assert!(request.contains("pod-token"), "{request}");
    assert!(asked_proxy.try_recv().is_err(), "nothing goes through the proxy");
}

#[tokio::test]
async fn other_hosts_go_through_the_proxy() {
    let (proxy, mut asked_proxy) = answering(String::new()).await;
    let mut command = program(&["--web.listen-address=127.0.0.1:0"]);
    command.env("AWS_ENDPOINT_URL", "http://iot.example.test").env("AWS_REGION", REGION);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID).env("AWS_SECRET_ACCESS_KEY", "x");
    let mut daemon = Running::start({
        command.env("HTTP_PROXY", format!("http://{proxy}"));
        command
    });
    daemon.until("run failed").await;
    let request = asked_proxy.recv().await.expect("a request");
    assert!(request.starts_with("POST http://iot.example.test/"), "{request}");
}
