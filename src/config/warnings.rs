//! Warnings about valid but probably unintended settings.

use std::collections::BTreeMap;

use super::duration::Shown;
use super::schema::{Config, Target};

/// The largest share of a rate limit for open walks that leaves enough for other requests.
const MAX_OPEN_WALK_SHARE: f64 = 0.5;

/// Warnings, in sentences. The number of pages of a walk is unknown here, so each open status counts with one request,
/// the minimum.
#[must_use]
pub fn warnings(config: &Config) -> Vec<String> {
    let rate = config.limits.requests_per_second;
    let mut sharing: BTreeMap<_, Vec<&Target>> = BTreeMap::new();
    for target in &config.targets {
        sharing.entry(target.monitored_jobs(None).quota()).or_default().push(target);
    }
    let is_too_much = |targets: &Vec<&Target>| open_walk_rate(targets) > rate * MAX_OPEN_WALK_SHARE;
    let warning = |targets: Vec<&Target>| {
        let names: Vec<&str> = targets.iter().map(|target| target.known_name().unwrap_or("default")).collect();
        let intervals = targets.iter().map(|target| target.collectors.open_jobs.interval);
        format!(
            "the open walks of {} need at least {:.1} requests of ListJobs a second, more than half of \
             limits.requests_per_second ({rate}), which they share with all other requests of the account and region; raise \
             collectors.open_jobs.interval (now {}) or the limit",
            names.join(", "),
            open_walk_rate(&targets),
            Shown(intervals.min().unwrap_or_default()),
        )
    };
    sharing.into_values().filter(is_too_much).map(warning).collect()
}

/// The minimal requests a second of the open walks of these targets.
fn open_walk_rate(targets: &[&Target]) -> f64 {
    let rate = |target: &&Target| {
        let walks = target.scope.listed_statuses().filter(|status| status.is_open()).count();
        f64::from(u32::try_from(walks).unwrap_or(u32::MAX)) / target.collectors.open_jobs.interval.as_secs_f64()
    };
    targets.iter().map(rate).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A configuration with one region for each target, and its interval of open walks.
    fn config(targets: &[(&str, &str, Duration)]) -> Config {
        let target = |(name, region, interval): &(&str, &str, Duration)| {
            let mut target =
                Target { name: Some((*name).to_owned()), region: Some((*region).to_owned()), ..Target::default() };
            target.collectors.open_jobs.interval = *interval;
            target
        };
        Config { targets: targets.iter().map(target).collect(), ..Config::default() }
    }

    #[test]
    fn open_walks_that_need_more_than_half_of_a_shared_rate_are_reported() {
        let second = Duration::from_secs(1);
        let alone = config(&[("a", "eu-west-1", second * 2), ("b", "us-east-1", second * 2)]);
        assert_eq!(warnings(&alone), Vec::<String>::new(), "each has a rate of its own");
        let shared = config(&[("a", "eu-west-1", second * 2), ("b", "eu-west-1", second * 2)]);
        assert_eq!(
            warnings(&shared),
            ["the open walks of a, b need at least 3.0 requests of ListJobs a second, more than half of \
              limits.requests_per_second (5), which they share with all other requests of the account and region; raise \
              collectors.open_jobs.interval (now 2s) or the limit"]
        );
        assert_eq!(warnings(&Config::default()), Vec::<String>::new());
    }
}
