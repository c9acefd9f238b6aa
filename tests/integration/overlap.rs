//! Targets that turn out to watch the same jobs once their accounts are known, on the paused clock.

use std::time::Duration;

use aws_iot_jobs_exporter::config::Target;
use aws_iot_jobs_exporter::jobs::{Scope, Status};

use crate::support::{
    Exporter, Exposition, Fate, REGION, ThreadLog, account, jobs, list_only, simulator as simulated, target, thread_log,
};

const URL: &str = "http://simulator.test";

/// The targets with a row, and how many others each overlaps with.
fn overlapping(shown: &Exposition) -> Vec<(&str, f64)> {
    shown
        .family("aws_iot_jobs_overlapping_targets")
        .map(|(labels, others)| (labels["target"].as_str(), others))
        .collect()
}

fn of_statuses(name: &str, statuses: &[Status]) -> Target {
    Target { scope: Scope { statuses: statuses.to_vec(), ..Scope::default() }, ..target(name, URL) }
}

fn warnings(log: &ThreadLog) -> Vec<String> {
    log.take().into_iter().filter(|line| line.contains("WARN") && line.contains("list the same jobs")).collect()
}

#[tokio::test(start_paused = true)]
async fn two_targets_of_the_same_jobs_overlap_from_their_first_walk_until_one_is_removed_and_the_log_says_so_once() {
    let log = thread_log();
    let exporter = Exporter::start(simulated(jobs(3)), |config| {
        list_only(config);
        let configured = of_statuses("configured", &[Status::InProgress, Status::Completed]);
        config.targets = vec![
            Target { account_id: Some(account()), ..configured },
            of_statuses("found", &[Status::Completed, Status::InProgress]),
            of_statuses("filtered", &[Status::Completed]),
        ];
    })
    .await;
    exporter.wire.decide(|_| Fate::Late(Duration::from_secs(10)));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(overlapping(&exporter.scrape().await), [], "no account is known yet");
    exporter.wire.decide(|_| Fate::Arrives);

    let shown = exporter.listed(1).await;
    assert_eq!(overlapping(&shown), [("configured", 1.0), ("found", 1.0), ("filtered", 0.0)]);
    let logged = warnings(&log);
    assert_eq!(logged.len(), 1, "{logged:#?}");
    for field in ["target=", "other=", "region=eu-west-1", "advice="] {
        assert!(logged[0].contains(field), "no {field} in {}", logged[0]);
    }
    exporter.listed(4).await;
    assert_eq!(warnings(&log), [""; 0], "it was logged before");

    let mut removed = None;
    exporter.reload(|config| removed = Some(config.targets.remove(1))).await.expect("a good configuration");
    assert_eq!(overlapping(&exporter.scrape().await), [("configured", 0.0), ("filtered", 0.0)]);
    exporter.reload(|config| config.targets.extend(removed)).await.expect("a good configuration");
    tokio::time::sleep(Duration::from_mins(3)).await;
    let shown = exporter.scrape().await;
    assert_eq!(overlapping(&shown), [("configured", 1.0), ("filtered", 0.0), ("found", 1.0)]);
    let logged = warnings(&log);
    assert_eq!(logged.len(), 1, "it went away and came back: {logged:#?}");
    assert!(logged[0].contains("target=found ") && logged[0].contains("other=configured "), "{logged:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_single_target_overlaps_with_none_and_its_row_has_the_labels_of_other_target_families() {
    let exporter = Exporter::start(simulated(jobs(3)), |config| {
        config.targets[0].labels.insert("team".to_owned(), "plants".to_owned());
    })
    .await;
    let shown = exporter.listed(1).await;
    let labels = [("target", "t"), ("aws_region", REGION), ("team", "plants")];
    assert_eq!(shown.value("aws_iot_jobs_overlapping_targets", &labels), Some(0.0));
    let labels_of = |name: &str| shown.family(name).map(|(labels, _)| labels.clone()).collect::<Vec<_>>();
    assert_eq!(labels_of("aws_iot_jobs_overlapping_targets"), labels_of("aws_iot_jobs_up"));
}

#[tokio::test(start_paused = true)]
async fn each_of_three_has_two_others_and_a_target_of_another_server_has_none() {
    let log = thread_log();
    let exporter = Exporter::start(simulated(jobs(3)), |config| {
        list_only(config);
        config.targets = ["a", "b", "c"].map(|name| target(name, URL)).to_vec();
        config.targets.push(target("elsewhere", "http://another.test"));
    })
    .await;
    let shown = exporter.listed(1).await;
    assert_eq!(overlapping(&shown), [("a", 2.0), ("b", 2.0), ("c", 2.0), ("elsewhere", 0.0)]);
    assert_eq!(warnings(&log).len(), 2, "one for each target that joins another");
}
