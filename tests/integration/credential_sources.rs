//! Sources of credentials that fail: what is reported, and that nothing is left behind.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_iot_jobs_exporter::jobs::AccountId;
use aws_iot_jobs_exporter::simulator::{Fault, Fleet, Operation, Role, Rule, Script, Simulator};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::process::{Running, get, get_until, program};
use crate::support::{ACCESS_KEY_ID, Endpoint, Exporter, REGION, jobs, simulator as simulated, thread_log};

/// A server that answers each request as `answer` says to its text, or never, and the requests that it got.
async fn server(
    answer: impl Fn(&str) -> Option<(u16, String)> + Send + 'static,
) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, asked) = (listener.local_addr().expect("an address"), Arc::new(Mutex::new(Vec::new())));
    let noted = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let request = request(&mut socket).await;
            let answer = answer(&request);
            noted.lock().expect("no test panics in here").push(request);
            let Some((status, body)) = answer else {
                silent.push(socket);
                continue;
            };
            // The second is for the token of instance metadata.
            let headers = "Connection: close\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600";
            let head = format!("HTTP/1.1 {status} X\r\n{headers}\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = socket.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    (address, asked)
}

/// A whole request: what is not read when a socket is closed resets the connection.
async fn request(socket: &mut TcpStream) -> String {
    let (mut request, mut part) = (String::new(), [0; 4096]);
    loop {
        let length = socket.read(&mut part).await.unwrap_or_default();
        request.push_str(&String::from_utf8_lossy(&part[..length]));
        let head = request.split_once("\r\n\r\n");
        let length_of = |line: &str| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok();
        let is_whole = |(head, body): (&str, &str)| body.len() >= head.lines().find_map(length_of).unwrap_or(0);
        if length == 0 || head.is_some_and(is_whole) {
            return request;
        }
    }
}

/// A folder for a home, and what is written to its `~/.aws/config`.
fn home(config: &str) -> TempDir {
    let home = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(home.path().join(".aws")).expect("a folder");
    std::fs::write(home.path().join(".aws/config"), config).expect("a written file");
    home
}

/// The program with nothing but this home.
fn at_home(home: &Path) -> Command {
    let mut command = program(&["--web.listen-address=127.0.0.1:0"]);
    command.env_remove("AWS_CONFIG_FILE").env("HOME", home).env("AWS_REGION", REGION);
    command.env("IOT_JOBS_EXPORTER_COLLECTORS__OPEN_JOBS__INTERVAL", "200ms");
    command
}

/// The line of the first failed walk. The status page has the same text.
async fn failure(command: Command) -> String {
    let mut daemon = Running::start(command);
    let line = daemon.until("run failed").await;
    let address = daemon.address().await;
    println!("{line}");
    assert!(line.contains("advice=") && line.len() < 900, "{line}");
    let told = line.split_once("error=").expect("an error").1.split(" advice=").next().expect("a text");
    let entities = [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;")];
    let told = entities.into_iter().fold(told.to_owned(), |text, (character, entity)| text.replace(character, entity));
    get_until(&address, "/", &told).await;
    line
}

fn assert_told(line: &str, reason: &str, parts: &[&str]) {
    assert!(line.contains(&format!("reason={reason}")), "{reason} is not in {line}");
    for part in parts {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

#[tokio::test]
async fn instance_metadata_that_does_not_answer_or_refuses_is_named_with_what_it_did() {
    let (silent, _) = server(|_| None).await;
    let (refusing, _) = server(|_| Some((403, String::new()))).await;
    let (another, _) = server(|_| Some((404, String::new()))).await;
    let (without_role, _) = server(|request| {
        let is_token = request.starts_with("PUT ");
        Some(if is_token { (200, "token".to_owned()) } else { (404, String::new()) })
    })
    .await;
    let home = home("");
    for (address, told) in [
        (silent, "did not answer within 1 s (in a container on EC2, the hop limit"),
        (refusing, "answered 403"),
        (without_role, "answered 404: the instance has no role"),
        (another, "answered 404: the instance has no role, or this is not a metadata service"),
        (SocketAddr::from(([127, 0, 0, 1], 1)), "cannot be reached"),
    ] {
        let mut command = at_home(home.path());
        command.env_remove("AWS_EC2_METADATA_DISABLED");
        command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("http://{address}"));
        let told = format!("instance metadata (http://{address}) {told}");
        assert_told(&failure(command).await, "credentials", &[&told]);
    }
}

#[tokio::test]
async fn the_profile_says_where_the_metadata_of_an_instance_is() {
    let (refusing, _) = server(|_| Some((403, String::new()))).await;
    let endpoint = format!("ec2_metadata_service_endpoint = http://{refusing}\n");
    let home = home(&format!("[default]\n{endpoint}role_arn = x\ncredential_source = Ec2InstanceMetadata\n"));
    let mut command = at_home(home.path());
    command.env_remove("AWS_EC2_METADATA_DISABLED");
    let told = format!("instance metadata (http://{refusing}) answered 403");
    assert_told(&failure(command).await, "credentials", &["profile \"default\" (", &told]);
}

#[tokio::test]
async fn container_metadata_that_refuses_is_named_by_the_variable_that_names_it() {
    let (refusing, _) = server(|_| Some((403, String::new()))).await;
    let (home, token) = (home(""), tempfile::NamedTempFile::new().expect("a temporary file"));
    std::fs::write(token.path(), "hunter2\n").expect("a written file");
    let at = |token_file: Option<&str>| {
        let mut command = at_home(home.path());
        command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{refusing}/creds"));
        command.envs(token_file.map(|path| ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path)));
        command
    };
    let named = "container metadata, which AWS_CONTAINER_CREDENTIALS_FULL_URI names, answered 403";
    assert_told(&failure(at(None)).await, "credentials", &[named]);
    let missing = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names /nonexistent, which cannot be read: No such file";
    assert_told(&failure(at(Some("/nonexistent"))).await, "credentials", &[missing]);
    let line = failure(at(token.path().to_str())).await;
    assert_told(&line, "credentials", &["the token of AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE contains a line end"]);
    assert!(!line.contains("hunter2"), "{line}");
}

#[tokio::test]
async fn without_a_shell_a_credential_process_says_so() {
    let home = home("[default]\ncredential_process = /opt/creds/static-binary\n");
    let mut command = at_home(home.path());
    command.env("PATH", home.path());
    let config = home.path().join(".aws/config").display().to_string();
    assert_told(
        &failure(command).await,
        "credentials",
        &[&config, "credential_process needs a shell", "no sh in PATH"],
    );
}

#[tokio::test]
async fn a_credential_process_that_hangs_ends_with_the_exporter() {
    let home = home("");
    let file = home.path().join("id");
    let command = format!("sleep 1000 & echo $! > {}; wait", file.display());
    // Behind a role too.
    let profiles =
        format!("[default]\nrole_arn = x\nsource_profile = b\n[profile b]\ncredential_process = {command}\n");
    std::fs::write(home.path().join(".aws/config"), profiles).expect("a written file");
    let mut daemon = Running::start(at_home(home.path()));
    let mut id = String::new();
    for _ in 0..2000 {
        id = std::fs::read_to_string(&file).unwrap_or_default();
        if id.ends_with('\n') {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let runs = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", id.trim())).unwrap_or_default();
        status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
    };
    assert!(id.ends_with('\n') && runs(), "the child of the program runs: {id:?}");
    daemon.signal("TERM");
    assert_eq!(daemon.exit_code().await, Some(0));
    for _ in 0..2000 {
        if !runs() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("process {id} outlives the exporter");
}

#[tokio::test]
async fn credentials_that_a_process_gives_after_their_end_are_refused_and_not_asked_for_by_every_request() {
    let endpoint = Endpoint::start(simulated(jobs(3))).await;
    let home = home("");
    let (file, runs) = (home.path().join("output"), home.path().join("runs"));
    let write = |ends: &str| {
        let output = format!(
            "{{\"Version\": 1, \"AccessKeyId\": \"{ACCESS_KEY_ID}\", \"SecretAccessKey\": \"x\", \"Expiration\": \"{ends}\"}}"
        );
        std::fs::write(&file, output).expect("a written file");
    };
    write("2020-01-01T00:00:00Z");
    let command = format!("echo >> {}; cat {}", runs.display(), file.display());
    std::fs::write(home.path().join(".aws/config"), format!("[default]\ncredential_process = {command}\n"))
        .expect("a written file");
    let mut command = at_home(home.path());
    command.env("AWS_ENDPOINT_URL", endpoint.url());
    for (key, value) in [("OPEN_JOBS__INTERVAL", "2s"), ("ALL_JOBS__ENABLED", "false"), ("DETAILS__ENABLED", "false")] {
        command.env(format!("IOT_JOBS_EXPORTER_COLLECTORS__{key}"), value);
    }
    let mut daemon = Running::start(command);
    let line = daemon.until("run failed").await;
    println!("{line}");
    assert_told(&line, "credentials", &["printed credentials that ended at 2020-01-01T00:00:00Z; it is 20"]);
    let run = || std::fs::read_to_string(&runs).expect("a file").lines().count();
    assert_eq!(run(), 1);
    write("2099-01-01T00:00:00Z");
    daemon.until("run complete").await;
    assert_eq!(run(), 2, "once for all requests of a walk");
}

#[tokio::test]
async fn what_a_profile_can_not_do_here_is_named_with_the_profile_and_its_file() {
    let role = "[default]\nrole_arn = arn:aws:iam::210987654321:role/reader\nsource_profile = base\n";
    let base = |key: &str| format!("[profile base]\naws_access_key_id = {key}\naws_secret_access_key = x\n");
    for (config, profile, told) in [
        (
            format!("{role}mfa_serial = arn:aws:iam::210987654321:mfa/me\n{}", base("AKIDEXAMPLE")),
            "default",
            "has mfa_serial, but the exporter cannot enter a code",
        ),
        (
            format!("{role}duration_seconds = 60\n{}", base("AKIDEXAMPLE")),
            "default",
            "has duration_seconds that is not a number from 900 to 43200",
        ),
        // What the SDK panics at.
        (format!("{role}{}", base("AKIDÉXAMPLE")), "base", "the access key id contains a blank or another character"),
    ] {
        let home = home(&config);
        let line = failure(at_home(home.path())).await;
        let named = format!("profile \"{profile}\" ({}", home.path().join(".aws/config").display());
        assert_told(&line, "credentials", &[&named, told]);
        assert!(!line.contains("XAMPLE"), "{line}");
    }
}

/// An account whose role has three jobs to read, as a profile has it.
fn with_role() -> (Simulator, String) {
    let account = AccountId::parse("210987654321").expect("an account id");
    let simulator = simulated([]);
    simulator.set_fleet(&account, REGION, Fleet::new(jobs(3), []));
    let role = Role::new(account, "reader");
    let arn = role.arn();
    simulator.add_role(role);
    let profiles = format!(
        "[default]\nrole_arn = {arn}\nsource_profile = base\nduration_seconds = 1800\n\
         [profile base]\naws_access_key_id = {ACCESS_KEY_ID}\naws_secret_access_key = x\n"
    );
    (simulator, profiles)
}

#[tokio::test]
async fn the_duration_of_a_session_is_the_profiles_and_the_call_for_it_is_counted() {
    let (simulator, profiles) = with_role();
    let (asked, noted) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(0)));
    let (seen, tries) = (Arc::clone(&asked), Arc::clone(&noted));
    simulator.intercept(move |call| {
        if call.operation != Operation::AssumeRole {
            return None;
        }
        *seen.lock().expect("no test panics in here") = call.params.get("DurationSeconds").map(str::to_owned);
        let mut tries = tries.lock().expect("no test panics in here");
        *tries += 1;
        let failure = aws_iot_jobs_exporter::http::StatusCode::INTERNAL_SERVER_ERROR;
        (*tries == 1).then(|| aws_iot_jobs_exporter::simulator::error(failure, "InternalFailure", "no"))
    });
    let endpoint = Endpoint::start(simulator).await;
    let home = home(&profiles);
    let mut command = at_home(home.path());
    command.env("AWS_ENDPOINT_URL", endpoint.url());
    let mut daemon = Running::start(command);
    let address = daemon.address().await;
    daemon.until("run complete").await;
    assert_eq!(asked.lock().expect("no test panics in here").as_deref(), Some("1800"));
    let metrics = get(&address, "/metrics").await;
    let target = format!("target=\"{REGION}\",aws_region=\"{REGION}\",operation=\"AssumeRole\"");
    for line in [
        format!("aws_iot_jobs_exporter_api_requests_total{{{target}}} 2"),
        format!("aws_iot_jobs_exporter_api_errors_total{{{target},code=\"HTTP_500\"}} 1"),
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} is not in {metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn sts_that_never_answers_is_given_up_after_15_s_with_a_way_around_it() {
    let log = thread_log();
    let simulator = simulated(jobs(3));
    simulator.set_script(Script::new([Rule::new(Fault::Hang).on(Operation::GetCallerIdentity)]));
    let started = tokio::time::Instant::now();
    let exporter = Exporter::start(simulator, |_| {}).await;
    exporter.until(|shown| shown.runs("open_jobs") >= Some(1.0)).await;
    // To the half second, in which it is looked for.
    assert!(started.elapsed() <= Duration::from_millis(15_500), "{:?}", started.elapsed());
    let line = log.take().into_iter().find(|line| line.contains("run failed")).expect("a line");
    println!("{line}");
    assert_told(&line, "timeout", &["no complete answer within 10 s", "or set targets[].account_id"]);
}

/// The token of a login that ends in two minutes, as `aws sso login` leaves it.
fn token_file(home: &Path, ends: &str) -> std::path::PathBuf {
    let folder = home.join(".aws/sso/cache");
    std::fs::create_dir_all(&folder).expect("a folder");
    // The SHA-1 of `main`, the name of the session.
    let path = folder.join("b28b7af69320201d1cf206ebf28373980add1451.json");
    let token = format!(
        "{{\"accessToken\": \"old\", \"expiresAt\": \"{ends}\", \"clientId\": \"c\", \"clientSecret\": \"s\", \
         \"refreshToken\": \"r\", \"registrationExpiresAt\": \"2099-01-01T00:00:00Z\", \"region\": \"{REGION}\"}}"
    );
    std::fs::write(&path, token).expect("a written file");
    path
}

const SSO: &str = "[default]\nsso_session = main\nsso_account_id = 012345678901\nsso_role_name = reader\n\
                   [sso-session main]\nsso_region = eu-west-1\nsso_start_url = https://a.test/start\n";

/// IAM Identity Center, which knows the token `new` only.
async fn identity_center(can_renew: bool) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    server(move |request| {
        Some(if request.starts_with("POST /token") && can_renew {
            let token =
                "{\"accessToken\": \"new\", \"expiresIn\": 3600, \"refreshToken\": \"r2\", \"tokenType\": \"Bearer\"}";
            (200, token.to_owned())
        } else if request.starts_with("POST /token") {
            (400, "{\"__type\": \"InvalidGrantException\", \"error\": \"invalid_grant\"}".to_owned())
        } else if request.contains("x-amz-sso_bearer_token: new") {
            let credentials = format!(
                "{{\"roleCredentials\": {{\"accessKeyId\": \"{ACCESS_KEY_ID}\", \"secretAccessKey\": \"x\", \
                 \"sessionToken\": \"t\", \"expiration\": 4070908800000}}}}"
            );
            (200, credentials)
        } else {
            (401, "{\"__type\": \"UnauthorizedException\", \"message\": \"Session token not found\"}".to_owned())
        })
    })
    .await
}

fn with_sso(home: &Path, endpoint: &Endpoint, center: SocketAddr) -> Command {
    let mut command = at_home(home);
    command.env("AWS_ENDPOINT_URL", endpoint.url());
    for variable in ["AWS_ENDPOINT_URL_SSO", "AWS_ENDPOINT_URL_SSO_OIDC"] {
        command.env(variable, format!("http://{center}"));
    }
    command
}

#[tokio::test]
async fn a_renewed_sso_token_is_used_and_saved_where_that_is_possible_and_kept_otherwise() {
    let endpoint = Endpoint::start(simulated(jobs(3))).await;
    let soon = "2020-01-01T00:00:00Z";
    for can_save in [true, false] {
        let (center, asked) = identity_center(true).await;
        let home = home(SSO);
        let path = token_file(home.path(), soon);
        let mut command = with_sso(home.path(), &endpoint, center);
        if !can_save {
            // Root may write everywhere.
            let mode = |path: &Path, mode| {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("changed permissions");
            };
            mode(home.path(), 0o755);
            mode(&path, 0o444);
            if std::fs::OpenOptions::new().append(true).open(&path).is_ok() {
                command.uid(65534).gid(65534);
            }
        }
        let mut daemon = Running::start(command);
        let address = daemon.address().await;
        if !can_save {
            let line = daemon.until("cannot save the renewed SSO token; it stays in memory").await;
            println!("{line}");
            assert!(line.contains(path.to_str().expect("UTF-8")) && line.contains("Permission denied"), "{line}");
        }
        daemon.until("run complete").await;
        let saved = std::fs::read_to_string(&path).expect("a file");
        assert_eq!((saved.contains("\"new\""), saved.contains("\"r2\"")), (can_save, can_save), "{saved}");
        let renewals =
            asked.lock().expect("no test panics in here").iter().filter(|text| text.starts_with("POST")).count();
        assert_eq!(renewals, 1);
        let metrics = get(&address, "/metrics").await;
        for operation in ["CreateToken", "GetRoleCredentials"] {
            let counted = format!("operation=\"{operation}\"}} 1");
            assert!(metrics.contains(&counted), "{counted} is not in {metrics}");
        }
    }
}

#[tokio::test]
async fn an_sso_token_that_can_not_be_used_says_how_to_log_in() {
    let endpoint = Endpoint::start(simulated(jobs(3))).await;
    let (center, _) = identity_center(false).await;
    let home = home(SSO);
    let login = "run `aws sso login --sso-session main`";
    let line = failure(with_sso(home.path(), &endpoint, center)).await;
    assert_told(&line, "credentials", &["profile \"default\" (", "cannot be read: No such file", login]);
    let path = token_file(home.path(), "2020-01-01T00:00:00Z");
    let line = failure(with_sso(home.path(), &endpoint, center)).await;
    assert_told(
        &line,
        "credentials",
        &["ended at 2020-01-01T00:00:00Z, and sso-oidc:CreateToken: InvalidGrantException", login],
    );
    token_file(home.path(), "2099-01-01T00:00:00Z");
    let line = failure(with_sso(home.path(), &endpoint, center)).await;
    assert_told(&line, "credentials", &["sso:GetRoleCredentials: UnauthorizedException", login]);
    std::fs::write(&path, "hunter2").expect("a written file");
    let line = failure(with_sso(home.path(), &endpoint, center)).await;
    assert_told(&line, "credentials", &["is not a JSON object, as a token is", login]);
    assert!(!line.contains("hunter2"), "{line}");
}
