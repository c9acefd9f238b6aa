//! A configuration that is read again, on the paused clock: what changes, and what does not.

use std::time::Duration;

use aws_iot_jobs_exporter::config::{self, Sources};
use aws_iot_jobs_exporter::jobs::Status;
use aws_iot_jobs_exporter::simulator::{Fleet, Job, Operation};

use crate::support::{Exporter, Exposition, Fate, NOW, REGION, account, jobs, simulator as simulated, target};

const URL: &str = "http://simulator.test";

fn successful(shown: &Exposition) -> Option<f64> {
    shown.value("aws_iot_jobs_exporter_config_last_reload_successful", &[])
}

fn reloaded_at(shown: &Exposition) -> f64 {
    shown.value("aws_iot_jobs_exporter_config_last_reload_success_timestamp_seconds", &[]).expect("a time")
}

fn targets(shown: &Exposition) -> Vec<&str> {
    shown.family("aws_iot_jobs_up").map(|(labels, _)| labels["target"].as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn targets_that_did_not_change_keep_snapshot_schedule_and_memory() {
    let ended = (0..40).map(|n| Job::new(format!("ended-{n}"), Status::Completed, NOW).targeting_group("line"));
    let exporter = Exporter::start(simulated(ended.collect::<Vec<_>>()), |_| {}).await;
    let before = exporter.refreshed(2).await;
    let described = exporter.simulator.requests(Operation::DescribeJob);
    assert_eq!(described, 40);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let walks = exporter.wire.releases("/jobs").len();
    exporter.reload(|config| config.targets.push(target("other", URL))).await.expect("a good configuration");
    let shown = exporter.scrape().await;
    assert_eq!(targets(&shown), ["other", "t"]);
    let of_first = |shown: &Exposition| -> Vec<String> {
        shown.job_lines().into_iter().filter(|line| line.contains("target=\"t\"")).map(str::to_owned).collect()
    };
    assert_eq!(of_first(&shown), of_first(&before), "nothing of it is withdrawn");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(exporter.wire.releases("/jobs").len(), walks + 1, "the new one's walk, and none of the old one's");
    assert_eq!(exporter.simulator.requests(Operation::DescribeJob), 2 * described, "as many as the new one needs");
    assert!(reloaded_at(&shown) > reloaded_at(&before));
    tokio::time::sleep(Duration::from_mins(1)).await;
    let shown = exporter.scrape().await;
    let refreshes = |of| shown.value("aws_iot_jobs_exporter_refreshes_total", &[("target", of)]);
    assert_eq!([refreshes("t"), refreshes("other")], [Some(3.0), Some(2.0)], "each goes on in its own step");
}

#[tokio::test(start_paused = true)]
async fn under_other_settings_a_target_goes_on_showing_what_it_has_and_what_it_remembers() {
    let ended = (0..40).map(|n| Job::new(format!("ended-{n}"), Status::Completed, NOW).targeting_group("line"));
    let exporter = Exporter::start(simulated(ended.collect::<Vec<_>>()), |_| {}).await;
    let before = exporter.refreshed(2).await;
    exporter.wire.decide(|_| Fate::Hangs);
    exporter.reload(|config| config.refresh.interval = Duration::from_secs(10)).await.expect("a good configuration");
    assert_eq!(exporter.scrape().await.job_lines(), before.job_lines(), "while the next walk is under way");
    exporter.wire.decide(|_| Fate::Arrives);
    tokio::time::sleep(Duration::from_mins(3)).await;
    let shown = exporter.scrape().await;
    assert!(shown.value("aws_iot_jobs_exporter_refreshes_total", &[]) > Some(8.0), "{}", shown.text);
    assert_eq!(exporter.simulator.requests(Operation::DescribeJob), 40, "no ended job is described again");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_gone_leaves_no_series_behind() {
    let exporter = Exporter::start(simulated(jobs(3)), |config| config.targets.push(target("other", URL))).await;
    exporter.refreshed(4).await;
    exporter.reload(|config| drop(config.targets.pop())).await.expect("a good configuration");
    let shown = exporter.scrape().await;
    assert!(!shown.text.contains("\"other\""), "{}", shown.text);
    let walks = exporter.wire.releases("/jobs").len();
    tokio::time::sleep(Duration::from_secs(63)).await;
    assert!(exporter.wire.releases("/jobs").len() <= walks + 2, "only the other one walks");
}

#[tokio::test(start_paused = true)]
async fn another_target_under_an_old_name_shows_nothing_of_the_old_one() {
    let simulator = simulated(jobs(3));
    simulator.set_fleet(&account(), "us-east-1", Fleet::new(jobs(7), []));
    let exporter = Exporter::start(simulator, |_| {}).await;
    exporter.refreshed(2).await;
    exporter.wire.decide(|_| Fate::Late(Duration::from_secs(1)));
    exporter.reload(|config| config.targets[0].region = Some("us-east-1".to_owned())).await.expect("a good one");
    let shown = exporter.scrape().await;
    assert!(shown.job_lines().is_empty() && !shown.text.contains(REGION), "{}", shown.text);
    let shown = exporter.refreshed(1).await;
    assert_eq!(shown.jobs().values().sum::<f64>(), 7.0);
}

#[tokio::test(start_paused = true)]
async fn a_faulty_configuration_changes_nothing_and_is_told_as_a_check_would() {
    let exporter = Exporter::start(simulated(jobs(3)), |_| {}).await;
    let before = exporter.refreshed(1).await;
    let environment = vec![("IOT_JOBS_EXPORTER_REFRESH__INTERVALL".to_owned(), "1m".to_owned())];
    let problems = config::load(&Sources { environment, ..Sources::default() }).expect_err("an unknown key");
    let told = exporter.reload_faulty(problems.clone()).await.expect_err("a fault");
    assert_eq!(told, problems.to_string());
    assert!(told.contains("INTERVALL") && told.contains("did you mean"), "{told}");
    let shown = exporter.scrape().await;
    assert_eq!((successful(&before), successful(&shown)), (Some(1.0), Some(0.0)));
    assert_eq!(reloaded_at(&shown), reloaded_at(&before));
    assert_eq!(shown.job_lines(), before.job_lines());

    let told = exporter.reload(|config| config.targets.push(target("t", URL))).await.expect_err("two of one name");
    assert!(told.contains("\"t\""), "{told}");
    exporter.reload(|config| drop(config.targets.pop())).await.expect("as it was");
    assert_eq!(successful(&exporter.scrape().await), Some(1.0));

    let told =
        exporter.reload(|config| config.web.telemetry_path = "/other".to_owned()).await.expect_err("a fixed key");
    assert!(told.contains("web") && told.contains("restart"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn another_rate_holds_at_once_for_budgets_that_are_in_use() {
    let exporter = Exporter::start(simulated(jobs(5000)), |config| {
        config.limits.requests_per_second = 1.0;
        config.jobs.describe = false;
    })
    .await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    exporter.reload(|config| config.limits.requests_per_second = 10.0).await.expect("a good configuration");
    exporter.refreshed(1).await;
    let releases = exporter.wire.releases("/jobs");
    for (n, first) in releases.iter().enumerate() {
        let second = releases[n..].iter().filter(|at| **at - *first < Duration::from_secs(1)).count();
        assert!(second <= 10, "{second} releases in the second after release {n}");
    }
    let took = *releases.last().expect("a release") - releases[0];
    assert!(took < Duration::from_secs(12), "{took:?}");
    let shown = exporter.scrape().await;
    assert_eq!(shown.value("aws_iot_jobs_exporter_requests_per_second_limit", &[]), Some(10.0));
    assert_eq!(shown.value("aws_iot_jobs_exporter_refresh_interval_seconds", &[]), Some(60.0));
}

#[tokio::test(start_paused = true)]
async fn reloads_that_race_are_taken_one_by_one() {
    let exporter = Exporter::start(simulated(jobs(3)), |_| {}).await;
    exporter.refreshed(1).await;
    let one = |name: &'static str| exporter.reload(move |config| config.targets.push(target(name, URL)));
    let outcomes = tokio::join!(one("a"), one("b"), one("c"), one("d"), one("e"), one("f"));
    assert!([outcomes.0, outcomes.1, outcomes.2, outcomes.3, outcomes.4, outcomes.5].iter().all(Result::is_ok));
    let shown = exporter.scrape().await;
    assert_eq!(targets(&shown), ["a", "b", "c", "d", "e", "f", "t"]);
}
