//! systemd-analyze checks the unit that is shipped.

use super::tools::tool;
use crate::process::PROGRAM;
use crate::service::{UNIT, shipped};
use crate::support::output;

const INSTALLED: &str = "/usr/local/bin/aws-iot-jobs-exporter";

/// Ten times the exposure that `systemd-analyze security` may find; 11 is what is left where a service may reach the network.
const MOST_EXPOSED: &str = "--threshold=15";

#[test]
fn systemd_knows_all_that_the_unit_says_and_finds_little_exposed() {
    let unit = std::fs::read_to_string(shipped(UNIT)).expect("the unit");
    assert!(unit.contains(&format!("\nExecStart={INSTALLED} ")), "{unit}");
    // A score would still be good without one of these.
    for line in
        ["Type=notify", "DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet="]
    {
        assert!(unit.contains(&format!("\n{line}\n")), "{line} is not in the unit");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let here = folder.path().join(UNIT);
    // The program is not installed where the tests run.
    std::fs::write(&here, unit.replace(INSTALLED, PROGRAM)).expect("a written file");
    let verified = tool("systemd-analyze").args(["verify", "--man=no"]).arg(&here).output().expect("systemd-analyze");
    let complaints = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && complaints.is_empty(), "{complaints}");
    let judged = output(tool("systemd-analyze").args(["security", "--offline=true", MOST_EXPOSED]).arg(&here));
    println!("{}", judged.trim_end().lines().last().expect("a score"));
}
