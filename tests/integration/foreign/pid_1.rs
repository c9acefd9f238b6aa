//! The program as the first process of a PID namespace, as in a container. It takes unshare, and a kernel that allows it.

use tokio::process::Command;

use super::tools::tool;
use crate::process::{PROGRAM, Running, isolated, pointed_at, send_signal};
use crate::support::{Endpoint, jobs, simulator as simulated};

#[tokio::test]
async fn as_pid_1_sigterm_ends_it_too() {
    let simulator = simulated(jobs(10));
    let endpoint = Endpoint::start(simulator).await;
    // A process of a new PID namespace; mapping root makes it work for other users too.
    let mut unshare = Command::from(tool("unshare"));
    let arguments =
        ["--user", "--map-root-user", "--pid", "--fork", "--kill-child", PROGRAM, "--web.listen-address=127.0.0.1:0"];
    unshare.args(["--mount-proc"]);
    let mut daemon = Running::start(pointed_at(isolated(unshare, &arguments), &endpoint));
    daemon.until("run complete").await;
    let children = format!("/proc/{0}/task/{0}/children", daemon.id());
    let child = std::fs::read_to_string(children).expect("the children of unshare").trim().to_owned();
    let status = std::fs::read_to_string(format!("/proc/{child}/status")).expect("the daemon's status");
    let inner = status.lines().find(|line| line.starts_with("NSpid:")).expect("its ids");
    assert_eq!(inner.split_whitespace().last(), Some("1"), "{inner}");
    send_signal("TERM", &child);
    assert_eq!(daemon.exit_code().await, Some(0));
}
