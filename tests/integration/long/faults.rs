//! Hundreds of walks under faults of all kinds.

use aws_iot_jobs_exporter::simulator::Script;

use crate::faults::{with_lasting_fault, with_one_fault};
use crate::support::{Exporter, Exposition, jobs, simulator as simulated};

/// Three pages.
const JOBS: usize = 600;

const WALKS: f64 = 300.0;

/// The rows of open statuses, or the others; `None` without any.
fn sum(shown: &Exposition, open: bool) -> Option<f64> {
    let is_open = |status: &str| matches!(status, "IN_PROGRESS" | "SCHEDULED" | "DELETION_IN_PROGRESS");
    let rows = shown.family("aws_iot_jobs").filter(|(labels, _)| is_open(&labels["status"]) == open);
    rows.map(|(_, jobs)| jobs).reduce(|sum, jobs| sum + jobs)
}

#[tokio::test(start_paused = true)]
async fn a_fault_that_occurs_once_fails_an_open_walk_only_where_no_retry_can_help() {
    with_one_fault("open_jobs").await;
}

#[tokio::test(start_paused = true)]
async fn while_a_fault_lasts_the_last_good_full_walk_is_shown_with_its_reason_and_then_it_heals() {
    with_lasting_fault("all_jobs").await;
}

#[tokio::test(start_paused = true)]
async fn under_the_demos_mixture_of_faults_it_stays_up_most_of_the_time_and_is_never_wrong() {
    let simulator = simulated(jobs(JOBS));
    simulator.set_script(Script::mixture(7));
    let exporter = Exporter::start(simulator, |_| {}).await;
    let (mut up, mut looks) = (0.0, 0.0);
    loop {
        let shown = exporter.scrape().await;
        if shown.runs("open_jobs") >= Some(WALKS) {
            break;
        }
        (up, looks) = (up + shown.up().unwrap_or_default(), looks + 1.0);
        let (open, ended) = (sum(&shown, true), sum(&shown, false));
        assert!(open.is_none_or(|jobs| jobs == 1.0), "{}", shown.text);
        // Only summaries without an id are not counted.
        let malformed = shown.value("aws_iot_jobs_walk_malformed", &[("collector", "all_jobs")]).unwrap_or_default();
        let most = JOBS as f64 - if open.is_some() { 1.0 } else { 0.0 };
        let least = JOBS as f64 - 1.0 - malformed;
        assert!(
            ended.is_none_or(|jobs| (least..=most).contains(&jobs)),
            "{ended:?} of {least} to {most}: {}",
            shown.text
        );
        tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    }
    assert!(exporter.simulator.fault_counts().len() > 10, "{:?}", exporter.simulator.fault_counts());
    assert!(up > 0.8 * looks, "up in {up} of {looks} expositions");
}
