//! Calculates the requests of a day from one run of each listing. `docs/cost.md` has the formulas.

#![expect(clippy::cast_precision_loss, reason = "counts of a day are far below 2^53")]

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use super::{Failed, Listed};
use crate::build_info::VERSION;
use crate::config::{Collectors, Config, Shard};

const DAY: Duration = Duration::from_hours(24);

const LIST_JOBS: &str = "ListJobs";
const DESCRIBE_JOB: &str = "DescribeJob";
const LIST_EXECUTIONS: &str = "ListJobExecutionsForJob";
const LIST_TAGS: &str = "ListTagsForResource";
const OPERATIONS: [&str; 4] = [LIST_JOBS, DESCRIBE_JOB, LIST_EXECUTIONS, LIST_TAGS];

/// A look at a job lists its `QUEUED` and its `IN_PROGRESS` executions, each on at least one page.
const PAGES_OF_A_LOOK: f64 = 2.0;

/// Open walks must leave time for full walks, which share their rate limit.
const OPEN_WALKS: &str = "ListJobs of open jobs";

/// The estimate for a day of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The version of the program.
    pub version: &'static str,
    /// The shard of the targets, if several processes share them.
    pub shard: Shard,
    /// `--active`.
    pub active_share: f64,
    /// `limits.requests_per_second`.
    pub requests_per_second_limit: f64,
    /// The targets whose walks are complete.
    pub targets: Vec<TargetDay>,
    /// The other targets. No number here includes them.
    pub failed: Vec<Failed>,
    /// Warnings about requests that the rate limit delays.
    pub warnings: Vec<String>,
}

/// The estimate for a day of a target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TargetDay {
    /// What the listings found.
    #[serde(flatten)]
    pub listed: Listed,
    /// One entry for each operation.
    pub requests_per_day: [Requests; 4],
    /// `DescribeJob` requests after each start: one for each job that ended recently.
    pub describe_requests_after_start: usize,
}

/// The requests of one operation in 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Requests {
    /// The operation.
    pub operation: &'static str,
    /// If no job changes.
    pub standing_still: f64,
    /// If the share `--active` of the open jobs changes before each description.
    pub active: f64,
    /// The limit of `--quota` for 24 hours.
    pub quota: Option<f64>,
}

impl Estimate {
    /// Estimates a day of `config` from one run of each listing of its targets.
    #[must_use]
    pub fn new(listings: Vec<Result<Listed, Failed>>, config: &Config, active: f64, quotas: &[Quota]) -> Self {
        let (mut targets, mut failed) = (Vec::new(), Vec::new());
        for listing in listings {
            match listing {
                Ok(listed) => targets.push(TargetDay::new(listed, active, quotas)),
                Err(failure) => failed.push(failure),
            }
        }
        let limit = config.limits.requests_per_second;
        Self {
            version: VERSION,
            shard: config.shard,
            active_share: active,
            requests_per_second_limit: limit,
            warnings: warnings(&targets, limit),
            targets,
            failed,
        }
    }
}

/// Compares the needs of targets in one account and region with their common rate limit.
fn warnings(targets: &[TargetDay], limit: f64) -> Vec<String> {
    let mut rates = BTreeMap::<_, f64>::new();
    for TargetDay { listed, requests_per_day, .. } in targets {
        let mut add = |requests, rate| {
            *rates.entry((&listed.aws_account_id, &listed.aws_region, requests)).or_default() += rate;
        };
        for of in requests_per_day {
            add(of.operation, of.active / DAY.as_secs_f64());
        }
        let interval = listed.collectors.open_jobs.interval;
        add(OPEN_WALKS, listed.open_jobs.pages as f64 / interval.as_secs_f64());
    }
    let exceeded = rates.into_iter().filter_map(|((account, region, requests), rate)| {
        let (share, allowed) = if requests == OPEN_WALKS { ("half of ", limit / 2.0) } else { ("", limit) };
        (rate > allowed).then(|| {
            format!(
                "{requests} in {account}, {region}: {rate:.2} requests a second are planned, more than {share}\
                 limits.requests_per_second ({limit}). They will be late."
            )
        })
    });
    exceeded.collect()
}

impl TargetDay {
    fn new(listed: Listed, active: f64, quotas: &[Quota]) -> Self {
        let Collectors { details, executions, tags, .. } = &listed.collectors;
        let quota = |operation| {
            let quotas = quotas.iter().filter(|quota| quota.operation.is_none_or(|of| of == operation));
            // The last quota for this operation, else the last one for all.
            let quota = quotas.max_by_key(|quota| quota.operation);
            quota.map(|quota| quota.requests_per_second * DAY.as_secs_f64())
        };
        let requests = |operation, standing_still: f64, active: f64| Requests {
            operation,
            standing_still: standing_still.round(),
            active: active.round(),
            quota: quota(operation),
        };
        let walks = [Some(listed.open_jobs), listed.all_jobs].into_iter().flatten();
        let list = walks.map(|walk| walk.pages as f64 * DAY.as_secs_f64() / walk.seconds_between_starts).sum();
        let recent = listed.all_jobs.map_or(0, |walk| walk.ended_recently);
        let tagged = if tags.keys.is_empty() { 0 } else { listed.open_jobs.open + recent };
        let (open, recent) = if details.enabled { (listed.open_jobs.open as f64, recent) } else { (0.0, 0) };
        let every = |interval: Duration| open * DAY.div_duration_f64(interval);
        let (still, changing) = (every(details.max_interval), every(details.interval));
        let describe = still + active * (changing - still);
        let looks = if executions.enabled { PAGES_OF_A_LOOK * every(executions.interval) } else { 0.0 };
        let tagged = tagged as f64;
        Self {
            requests_per_day: [
                requests(LIST_JOBS, list, list),
                requests(DESCRIBE_JOB, still, describe),
                requests(LIST_EXECUTIONS, looks, looks),
                requests(LIST_TAGS, tagged, tagged),
            ],
            describe_requests_after_start: recent,
            listed,
        }
    }
}

/// Reads a share from 0 to 1, written as `10%` or `0.1`.
///
/// # Errors
/// If the text is not a share.
pub fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let share = number.parse().map(|number: f64| number / unit).ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("{text:?} is not a share, such as 10% or 0.1"))
}

/// An AWS quota in requests a second, per account and region: `10` for each operation, `ListJobs=10` for one.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    operation: Option<&'static str>,
    requests_per_second: f64,
}

impl FromStr for Quota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rate) = text.split_once('=').map_or((None, text), |(name, rate)| (Some(name), rate));
        let operation = OPERATIONS.into_iter().find(|known| name.is_some_and(|name| known.eq_ignore_ascii_case(name)));
        if let Some(name) = name.filter(|_| operation.is_none()) {
            return Err(format!("{name:?} is not an operation with a quota: {}", OPERATIONS.join(", ")));
        }
        let rate = rate.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
        let requests_per_second = rate.ok_or_else(|| format!("{text:?} has no number of requests a second above 0"))?;
        Ok(Self { operation, requests_per_second })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Walk;
    use super::*;

    fn walk(jobs: usize, pages: u64, seconds_between_starts: f64) -> Walk {
        Walk { jobs, open: jobs, ended_recently: 70, pages, seconds: 1.0, seconds_between_starts }
    }

    fn listed(target: &str, open: usize) -> Listed {
        Listed {
            target: target.to_owned(),
            aws_account_id: "012345678901".to_owned(),
            aws_region: "eu-west-1".to_owned(),
            open_jobs: walk(open, 3, 60.0),
            all_jobs: Some(walk(10_000, 40, 1000.0)),
            collectors: Config::default().collectors,
        }
    }

    fn estimate(targets: &[Listed], quotas: &[&str]) -> Estimate {
        let quotas: Vec<Quota> = quotas.iter().map(|text| text.parse().expect("a quota")).collect();
        Estimate::new(targets.iter().cloned().map(Ok).collect(), &Config::default(), 0.1, &quotas)
    }

    fn requests(listed: Listed) -> [(f64, f64); 4] {
        estimate(&[listed], &[]).targets[0].requests_per_day.map(|of| (of.standing_still, of.active))
    }

    #[test]
    fn each_walk_costs_its_pages_and_each_open_job_a_request_in_its_interval() {
        let list_jobs = 3.0 * 1440.0 + 40.0 * 86.4;
        let expected = [(80.0 * 144.0, 72.0 * 144.0 + 8.0 * 1440.0), (80.0 * 96.0, 80.0 * 96.0), (0.0, 0.0)];
        assert_eq!(requests(listed("a", 80))[0], (list_jobs, list_jobs));
        assert_eq!(requests(listed("a", 80))[1..], expected);
        let mut tagged = listed("a", 80);
        tagged.collectors.tags.keys = vec!["team".to_owned()];
        assert_eq!(requests(tagged)[3], (150.0, 150.0), "open jobs and those that ended recently");
        assert_eq!(estimate(&[listed("a", 80)], &[]).targets[0].describe_requests_after_start, 70);
    }

    #[test]
    fn a_collector_that_is_disabled_costs_nothing() {
        let mut collectors: Collectors = Config::default().collectors;
        collectors.details.enabled = false;
        let without = Listed { all_jobs: None, collectors, ..listed("a", 80) };
        assert_eq!(requests(without.clone()), [(4320.0, 4320.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)]);
        assert_eq!(estimate(&[without], &[]).targets[0].describe_requests_after_start, 0);
    }

    #[test]
    fn targets_of_one_account_and_region_that_exceed_their_rate_limit_are_warned_of() {
        let crowd: Vec<Listed> = (0..60).map(|_| listed("a", 80)).collect();
        let warnings = estimate(&crowd, &[]).warnings;
        let [describe, looks, list, open_walks] = warnings.as_slice() else { panic!("{warnings:?}") };
        let place = "in 012345678901, eu-west-1:";
        assert!(list.starts_with(&format!("ListJobs {place} 5.40 requests a second")), "{list}");
        // 60 times 80 jobs, 72 of them every 600 s and 8 every 60 s.
        assert!(describe.starts_with(&format!("DescribeJob {place} 15.20 requests a second")), "{describe}");
        assert!(looks.starts_with(&format!("ListJobExecutionsForJob {place} 5.33 requests a second")), "{looks}");
        let needed = format!("ListJobs of open jobs {place} 3.00 requests a second are planned, more than half of ");
        assert!(open_walks.starts_with(&needed), "{open_walks}");
        let regions = crowd.into_iter().zip(0..);
        let apart: Vec<_> = regions.map(|(of, region)| Listed { aws_region: format!("r-{region}-1"), ..of }).collect();
        assert_eq!(estimate(&apart, &[]).warnings, Vec::<String>::new());
    }

    #[test]
    fn a_quota_for_one_operation_wins_over_a_quota_for_all() {
        let quotas = |texts: &[&str]| {
            let estimate = estimate(&[listed("a", 1)], texts);
            estimate.targets[0].requests_per_day.map(|of| of.quota.map(|quota| quota / 86_400.0))
        };
        assert_eq!(quotas(&[]), [None; 4]);
        assert_eq!(quotas(&["describejob=20", "10"]), [Some(10.0), Some(20.0), Some(10.0), Some(10.0)]);
        assert_eq!(quotas(&["ListJobs=4"]), [Some(4.0), None, None, None]);
    }

    #[test]
    fn a_text_that_is_not_a_quota_or_a_share_is_refused() {
        for text in ["AssumeRole=1", "0", "listjobs=-1", "inf", "ten", "=5"] {
            assert!(text.parse::<Quota>().is_err(), "{text}");
        }
        assert_eq!((share("10%"), share("0.1"), share("0"), share("100%")), (Ok(0.1), Ok(0.1), Ok(0.0), Ok(1.0)));
        for text in ["", "%", "10", "-1%", "nan", "101%"] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
