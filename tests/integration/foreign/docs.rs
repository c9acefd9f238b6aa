//! The commands of the documentation that need tools of Prometheus.

use super::tools::tool;
use crate::contract::assert_none;
use crate::contract::docs::{RunBy, TOOLS, run_commands};

#[tokio::test]
async fn commands_of_the_tools_run() {
    let _ = TOOLS.map(tool);
    assert_none(&run_commands(RunBy::Foreign).await);
}
