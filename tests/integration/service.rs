//! The exporter as a service of systemd: what it tells its manager, heard on a socket of the test's own, and the unit that is shipped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::time::timeout;

use crate::process::{Running, get, pointed_at, program};
use crate::support::{Endpoint, jobs, simulator as simulated};

pub const UNIT: &str = "aws-iot-jobs-exporter.service";

pub fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/systemd").join(name)
}

/// The socket that a service manager listens on.
struct Manager {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Manager {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        Self { socket, folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("notify")
    }

    /// What it is told next, as the lines of one message.
    async fn told(&self) -> Vec<String> {
        let mut message = [0; 1024];
        let received = timeout(Duration::from_secs(20), self.socket.recv(&mut message)).await;
        let length = received.expect("a message in time").expect("a message");
        String::from_utf8_lossy(&message[..length]).lines().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn a_service_manager_is_told_of_the_start_of_each_reload_and_of_the_end() {
    let (manager, endpoint) = (Manager::start(), Endpoint::start(simulated(jobs(3))).await);
    let file = manager.folder.path().join("exporter.yml");
    std::fs::write(&file, "collectors: {open_jobs: {interval: 1m}}\n").expect("a written file");
    let flag = format!("--config.file={}", file.display());
    let mut command = pointed_at(program(&["--web.listen-address=127.0.0.1:0", &flag]), &endpoint);
    command.env("NOTIFY_SOCKET", manager.path());
    let mut daemon = Running::start(command);
    assert_eq!(manager.told().await, ["READY=1"]);
    let address = daemon.address().await;
    assert!(get(&address, "/-/healthy").await.ends_with("Healthy.\n"), "it was told before anybody could ask");

    let mut last = 0;
    let faulty = "STATUS=The last configuration was refused: see the log";
    for (text, status) in [
        ("collectors: {open_jobs: {interval: 2m}}\n", "STATUS="),
        ("collectors: {open_jobs: {intervall: 1m}}\n", faulty),
        ("{}\n", "STATUS="),
    ] {
        std::fs::write(&file, text).expect("a written file");
        daemon.signal("HUP");
        let reloading = manager.told().await;
        let [reloads, at] = &reloading[..] else { panic!("{reloading:?}") };
        assert_eq!(reloads, "RELOADING=1");
        // By this systemd knows a reload that began after its signal from one that was under way.
        let at: u64 = at.strip_prefix("MONOTONIC_USEC=").and_then(|at| at.parse().ok()).expect("a time");
        assert!(at > last, "{at} is not after {last}");
        last = at;
        assert_eq!(manager.told().await, ["READY=1", status]);
    }

    daemon.signal("TERM");
    assert_eq!(manager.told().await, ["STOPPING=1"]);
    assert_eq!(daemon.exit_code().await, Some(0));
}

#[tokio::test]
async fn who_can_not_listen_is_never_ready() {
    let manager = Manager::start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("--web.listen-address={}", taken.local_addr().expect("an address"));
    let mut command = program(&["demo", &address]);
    command.env("NOTIFY_SOCKET", manager.path());
    assert_eq!(command.status().await.expect("an end").code(), Some(1));
    let told = manager.socket.try_recv(&mut [0; 64]).expect_err("nothing to tell");
    assert_eq!(told.kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_service_manager_that_is_gone_is_noted_and_all_runs_on() {
    let endpoint = Endpoint::start(simulated(jobs(3))).await;
    let mut command = pointed_at(program(&["--web.listen-address=127.0.0.1:0"]), &endpoint);
    command.env("NOTIFY_SOCKET", "/nonexistent/notify");
    let mut daemon = Running::start(command);
    daemon.until("cannot report the state to the service manager").await;
    daemon.until("run complete").await;
    daemon.signal("TERM");
    assert_eq!(daemon.exit_code().await, Some(0));
}

#[tokio::test]
async fn the_exporter_takes_what_the_environment_file_says_and_every_line_that_is_commented_out() {
    let file = std::fs::read_to_string(shipped("aws-iot-jobs-exporter.env")).expect("the environment file");
    let variables: Vec<(&str, &str)> = file
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once('=').filter(|(name, _)| !name.contains(' ')))
        .collect();
    let arguments = variables.iter().find(|(name, _)| *name == "ARGUMENTS").expect("arguments").1.trim_matches('"');
    let configuration = concat!(env!("CARGO_MANIFEST_DIR"), "/config/exporter.yml");
    let arguments = arguments.replace("/etc/aws-iot-jobs-exporter/exporter.yml", configuration);
    let mut command = program(&arguments.split(' ').collect::<Vec<_>>());
    command.arg("--config.check").envs(variables.iter().copied());
    let checked = command.output().await.expect("an end");
    assert_eq!(String::from_utf8_lossy(&checked.stdout), "The configuration is valid.\n");
    assert_eq!(variables.iter().filter(|(name, _)| name.starts_with("IOT_JOBS_EXPORTER_")).count(), 2, "{variables:?}");

    let unit = std::fs::read_to_string(shipped(UNIT)).expect("the unit");
    assert!(unit.contains("\nEnvironmentFile=-/etc/default/aws-iot-jobs-exporter\n") && unit.contains(" $ARGUMENTS\n"));
    // Exit status 64 too: at boot the region may not be there yet.
    assert!(unit.contains("\nRestart=on-failure\n") && !unit.contains("RestartPreventExitStatus="));
    assert!(unit.contains("\nStartLimitIntervalSec=0\n"), "it gives up some day");
}
