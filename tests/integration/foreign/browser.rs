//! The pages in a real browser: Chromium, with axe-core.

use aws_iot_jobs_exporter::http::StatusCode;
use aws_iot_jobs_exporter::simulator::{self, Fleet, Operation};

use super::settled;
use super::tools::{python, tool};
use crate::support::{Endpoint, Listening, NOW, REGION, account, config, output, simulator as simulated, target};

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_of_thirty_targets_of_which_two_fail_have_no_fault_in_a_browser() {
    tool("chromium");
    let simulator = simulated([]);
    simulator.set_fleet(&account(), REGION, Fleet::seeded(21, 120, NOW));
    let endpoint = Endpoint::start(simulator).await;
    let denying = simulated([]);
    denying.intercept(|call| {
        (call.operation == Operation::ListJobs).then(|| {
            simulator::error(
                StatusCode::FORBIDDEN,
                "AccessDeniedException",
                "User is not authorized to perform: iot:ListJobs",
            )
        })
    });
    let denying = Endpoint::start(denying).await;
    let mut config = config(&endpoint.url());
    config.limits.requests_per_second = 500.0;
    config.targets = (0..28).map(|n| target(&format!("fleet-{n:02}"), &endpoint.url())).collect();
    config.targets[3].name = Some("<b>plants/*</b>".to_owned());
    config.targets.push(target("denied", &denying.url()));
    config.targets.push(target("unreachable", "http://127.0.0.1:9"));
    let listening = Listening::start(config).await;
    settled(&listening).await;
    let printed = output(python().arg(super::python::script("check_pages.py")).arg(listening.url("/")).args([
        "--first",
        "2 of 30 targets with problems",
        "denied",
        "iot:ListJobs",
        "grant the action to the identity",
        "unreachable",
        "check name resolution",
    ]));
    let checks = printed.split(' ').next().and_then(|checks| checks.parse::<u32>().ok());
    assert!(checks.is_some_and(|checks| checks > 30), "next to nothing was checked:\n{printed}");
}
