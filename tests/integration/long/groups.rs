//! A fleet of many jobs and thing groups.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_iot_jobs_exporter::jobs::Status;
use aws_iot_jobs_exporter::simulator::{Fleet, Job, Simulator, Target, ThingGroup};

use crate::support::{Exporter, Exposition, NOW, REGION, account, simulator as simulated};

const WEEK_HOURS: u64 = 7 * 24;

type Rows = BTreeMap<[String; 3], f64>;

fn rows(shown: &Exposition) -> Rows {
    let rows = shown.family("aws_iot_thing_group_jobs").filter(|(_, jobs)| *jobs > 0.0);
    rows.map(|(of, jobs)| (["thing_group", "status", "target_selection"].map(|label| of[label].clone()), jobs))
        .collect()
}

/// What [`rows`] has to be, from the fleet itself: open jobs, and those that ended within a week.
fn truth(simulator: &Simulator) -> Rows {
    let since = NOW.before(Duration::from_hours(WEEK_HOURS));
    let mut rows = Rows::new();
    simulator.with_fleet(&account(), REGION, |fleet| {
        for job in fleet.jobs().filter(|job| job.completed_at.is_none_or(|at| at >= since)) {
            let groups = job.targets.iter().filter_map(|target| match target {
                Target::ThingGroup(name) => Some(name.as_str()),
                Target::Thing(_) => None,
            });
            for group in groups.collect::<BTreeSet<&str>>() {
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
        // Half an hour off, so that no job becomes a week old during the test.
        let age = Duration::from_hours(rng.u64(0..60 * 24)) + Duration::from_mins(30);
        let mut job = Job::new(format!("job-{n:05}"), status, NOW.before(age));
        if rng.bool() {
            job = job.continuous();
        }
        for _ in 0..rng.u8(0..4) {
            job = job.targeting_group(&format!("group-{:03}", rng.u32(0..300)));
        }
        // Something is open in every group, so that each is sure to be shown.
        job.targeting_thing("thing").targeting_group(&format!("group-{:03}", n % 300))
    });
    let simulator = simulated([]);
    let groups = (0..300).map(|n| ThingGroup::new(format!("group-{n:03}")));
    simulator.set_fleet(&account(), REGION, Fleet::new(jobs, groups));
    simulator
}

fn undescribed(shown: &Exposition) -> Option<f64> {
    shown.value("aws_iot_jobs_undescribed", &[])
}

async fn described(exporter: &Exporter) -> Exposition {
    let all_listed = |shown: &Exposition| shown.runs("all_jobs") >= Some(1.0);
    exporter.until(|shown| all_listed(shown) && undescribed(shown) == Some(0.0)).await
}

#[tokio::test(start_paused = true)]
async fn every_group_row_of_20000_jobs_equals_an_independent_count_also_when_groups_are_folded() {
    let exporter = Exporter::start(large_fleet(), |config| config.limits.max_thing_groups = 300).await;
    let folding = Exporter::start(exporter.simulator.clone(), |config| config.limits.max_thing_groups = 50).await;
    let (shown, folded) = (described(&exporter).await, described(&folding).await);
    assert_eq!(shown.value("aws_iot_jobs_folded_thing_groups", &[]), Some(0.0));
    assert_eq!(folded.value("aws_iot_jobs_folded_thing_groups", &[]), Some(250.0));
    let described = shown.in_state("details", "fresh");
    assert!(described > Some(2000.0), "{described:?}");
    let (rows, folded) = (rows(&shown), rows(&folded));
    assert_eq!(rows, truth(&exporter.simulator));
    assert!(rows.contains_key(&["group-251", "SCHEDULED", "SNAPSHOT"].map(str::to_owned)), "SCHEDULED ones, too");

    let sums = |rows: &Rows| {
        let mut sums: BTreeMap<[String; 2], f64> = BTreeMap::new();
        for ([_, status, selection], jobs) in rows {
            *sums.entry([status.clone(), selection.clone()]).or_default() += jobs;
        }
        sums
    };
    assert_eq!(sums(&folded), sums(&rows));
    let groups: BTreeSet<&String> = folded.keys().map(|[group, ..]| group).collect();
    assert_eq!((groups.len(), groups.contains(&"<other>".to_owned())), (51, true));
}
