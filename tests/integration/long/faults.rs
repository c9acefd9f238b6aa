//! Hundreds of refreshes under faults of all kinds.

use aws_iot_jobs_exporter::simulator::Script;

use crate::faults::{JOBS, total};
use crate::support::{Exporter, jobs, simulator as simulated};

#[tokio::test(start_paused = true)]
async fn under_the_demos_mixture_of_faults_it_stays_up_most_of_the_time_and_is_never_wrong() {
    let simulator = simulated(jobs(JOBS));
    simulator.set_script(Script::mixture(7));
    let exporter = Exporter::start(simulator, |_| {}).await;
    let (mut up, refreshes) = (0.0, 300);
    for refresh in 1..=refreshes {
        let shown = exporter.refreshed(refresh).await;
        up += shown.up().unwrap_or_default();
        let total = total(&shown);
        assert!(total == 600.0 || (shown.up() == Some(0.0) && shown.job_lines().is_empty()), "{total} jobs of 600");
    }
    assert!(exporter.simulator.struck().len() > 10, "{:?}", exporter.simulator.struck());
    assert!(up > 0.85 * f64::from(refreshes), "up in {up} of {refreshes} refreshes");
}
