//! Fleets of many jobs and thing groups.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_iot_jobs_exporter::jobs::{Status, Timestamp};
use aws_iot_jobs_exporter::simulator::{Fleet, Job, Operation, Simulator, Target, ThingGroup};

use crate::describing::{ended, group_rows, only, open};
use crate::support::{Exporter, NOW, REGION, account, simulator as simulated, truth};

const DAY: Duration = Duration::from_hours(24);

/// What [`group_rows`] has to be, from the fleet itself: open jobs, and those that ended since `since`.
fn group_truth(simulator: &Simulator, since: Timestamp) -> BTreeMap<[String; 3], f64> {
    let mut rows = BTreeMap::new();
    simulator.with_fleet(&account(), REGION, |fleet| {
        for job in fleet.jobs().filter(|job| job.completed_at.is_none_or(|at| at >= since)) {
            let groups: BTreeSet<&str> = job
                .targets
                .iter()
                .filter_map(|target| match target {
                    Target::ThingGroup(name) => Some(name.as_str()),
                    Target::Thing(_) => None,
                })
                .collect();
            let groups = if groups.is_empty() { BTreeSet::from(["<none>"]) } else { groups };
            for group in groups {
                let row = [group.to_owned(), job.status.to_string(), job.target_selection.to_string()];
                *rows.entry(row).or_default() += 1.0;
            }
        }
    });
    rows
}

/// 20,000 jobs over 300 groups, many of them over several; some hundreds are open, and some thousands ended within a week.
fn large_fleet() -> Simulator {
    let mut rng = fastrand::Rng::with_seed(4);
    let jobs = (0..20_000_u32).map(|n| {
        let status = match n {
            0..250 => Status::InProgress,
            250..300 => Status::Scheduled,
            300..310 => Status::DeletionInProgress,
            _ if rng.u8(0..5) == 0 => Status::Canceled,
            _ => Status::Completed,
        };
        let created = NOW.before(Duration::from_secs(rng.u64(0..60 * 86_400)));
        let mut job = Job::new(format!("job-{n:05}"), status, created);
        if rng.bool() {
            job = job.continuous();
        }
        for _ in 0..rng.u8(0..4) {
            job = job.targeting_group(&format!("group-{:03}", rng.u32(0..300)));
        }
        // In every group there is something open, so that each is sure to be shown.
        job.targeting_thing("thing").targeting_group(&format!("group-{:03}", n % 300))
    });
    let simulator = simulated([]);
    let groups = (0..300).map(|n| ThingGroup::new(format!("group-{n:03}")));
    simulator.set_fleet(&account(), REGION, Fleet::new(jobs, groups));
    simulator
}

#[tokio::test(start_paused = true)]
async fn every_group_row_of_20000_jobs_equals_an_independent_count_also_when_groups_are_folded() {
    let exporter = Exporter::start(large_fleet(), |config| {
        config.limits.max_thing_groups = 300;
        config.limits.requests_per_second = 100.0;
    })
    .await;
    let folding = Exporter::start(exporter.simulator.clone(), |config| config.limits.max_thing_groups = 50).await;
    let mut shown = exporter.refreshed(1).await;
    assert!(only(&shown, "aws_iot_jobs_undescribed") > Some(2000.0), "{:?}", only(&shown, "aws_iot_jobs_undescribed"));
    while only(&shown, "aws_iot_jobs_undescribed") != Some(0.0) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        shown = exporter.scrape().await;
    }
    let started = NOW.after(Duration::from_secs(1));
    let rows = group_rows(&shown);
    assert_eq!(rows, group_truth(&exporter.simulator, started.before(7 * DAY)));
    assert!(rows.contains_key(&["group-251", "SCHEDULED", "SNAPSHOT"].map(str::to_owned)), "SCHEDULED ones, too");
    assert_eq!(only(&shown, "aws_iot_jobs_folded_thing_groups"), Some(0.0));

    let folded = folding.refreshed(2).await;
    assert_eq!(only(&folded, "aws_iot_jobs_undescribed"), Some(0.0));
    assert_eq!(only(&folded, "aws_iot_jobs_folded_thing_groups"), Some(250.0));
    let sums = |rows: &BTreeMap<[String; 3], f64>| {
        let mut sums: BTreeMap<[String; 2], f64> = BTreeMap::new();
        for ([_, status, selection], jobs) in rows {
            *sums.entry([status.clone(), selection.clone()]).or_default() += jobs;
        }
        sums
    };
    let (rows, folded) = (group_rows(&exporter.refreshed(2).await), group_rows(&folding.refreshed(2).await));
    assert_eq!(sums(&folded), sums(&rows));
    let groups: BTreeSet<&String> = folded.keys().map(|[group, ..]| group).collect();
    assert_eq!((groups.len(), groups.contains(&"<other>".to_owned())), (51, true));
}

#[tokio::test(start_paused = true)]
async fn in_steady_state_a_refresh_costs_a_request_for_250_jobs_and_one_for_each_open_job() {
    let jobs = (0..100_000_u32).map(|n| match n {
        0..200 => open(&format!("open-{n}")).targeting_group("line"),
        _ => ended(&format!("ended-{n}"), Duration::from_secs(u64::from(n) * 200)).targeting_group("line"),
    });
    let exporter = Exporter::start(simulated(jobs), |config| {
        config.thing_groups.ended_jobs_within = 2 * DAY;
        // More ended jobs than are described at once.
        config.limits.requests_per_second = 50.0;
    })
    .await;
    let cost = || [Operation::ListJobs, Operation::DescribeJob].map(|of| exporter.simulator.requests(of));
    let shown = exporter.refreshed(1).await;
    assert_eq!(only(&shown, "aws_iot_jobs_undescribed"), Some(665.0));
    assert_eq!(exporter.refreshed(2).await.jobs(), truth(&exporter.simulator));
    let before = cost();
    assert_eq!(before, [2 * 400, 2 * 200 + 665], "each ended job of the window once");
    exporter.refreshed(3).await;
    let after = cost();
    assert_eq!([after[0] - before[0], after[1] - before[1]], [400, 200]);
}
