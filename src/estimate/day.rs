//! The arithmetic of a day: from one walk of each target to the requests of 24 hours.

#![expect(clippy::cast_precision_loss, reason = "counts of a day are far below 2^53")]

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::config::{Config, Resolve, Shard, Shown};
use crate::refresh;
use crate::telemetry::VERSION;

pub(super) const DAY: Duration = Duration::from_hours(24);

const LIST_JOBS: &str = "ListJobs";
const DESCRIBE_JOB: &str = "DescribeJob";
const GET_CALLER_IDENTITY: &str = "GetCallerIdentity";
const ASSUME_ROLE: &str = "AssumeRole";

/// How long a session of a role lasts where nothing else is said, by
/// [AssumeRole](https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html), `DurationSeconds`; and taken for that of
/// all other credentials that end.
const SESSION: Duration = Duration::from_hours(1);

/// In the order in which they are told.
pub(super) const OPERATIONS: [&str; 4] = [LIST_JOBS, DESCRIBE_JOB, GET_CALLER_IDENTITY, ASSUME_ROLE];

/// Those that come in numbers, and have a quota for each account and region.
const WITH_QUOTA: [&str; 2] = [LIST_JOBS, DESCRIBE_JOB];

/// What one walk told of a target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Walked {
    /// The target's name.
    pub target: String,
    /// Whose jobs they are.
    pub aws_account_id: String,
    /// Where.
    pub aws_region: String,
    /// Distinct jobs.
    pub jobs: u64,
    /// Those of them that have not ended.
    pub open_jobs: u64,
    /// Those that ended within `thing_groups.ended_jobs_within`.
    pub jobs_ended_within: u64,
    /// Pages of the walk, one request each where nothing goes wrong.
    pub pages: u64,
    /// Requests of the walk besides those: for what failed at first.
    pub retries: u64,
    /// How long the walk took, the waits for the budget included.
    pub walk_seconds: f64,
    /// For how long each of those was open; `None` where its groups were not known for good by then.
    #[serde(skip)]
    pub lives: Vec<Option<Duration>>,
    /// Whether the credentials end some day.
    #[serde(skip)]
    pub has_temporary_credentials: bool,
    /// Whether `targets[].role_arn` gives them.
    #[serde(skip)]
    pub assumes_role: bool,
    /// Whether the account is not configured, and so asked for whenever they are new.
    #[serde(skip)]
    pub asks_for_account: bool,
}

/// A target whose walk did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// The target's name.
    pub target: String,
    /// Where.
    pub aws_region: String,
    /// What went wrong.
    pub reason: String,
}

/// What came of the walks, in the order of the configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Walks {
    /// Those that came to their end.
    pub whole: Vec<Walked>,
    /// Those that did not.
    pub failed: Vec<Failed>,
}

/// A day of one target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TargetDay {
    /// What it is reckoned from.
    #[serde(flatten)]
    pub walked: Walked,
    /// How long the walk takes at the budget where AWS answers at once.
    pub walk_seconds_at_budget: f64,
    /// How long describing the open jobs takes at the budget.
    pub describe_seconds_at_budget: f64,
    /// How long a walk takes with those of other targets that share its budget. Where it is longer than `refresh.timeout`,
    /// refreshes fail.
    pub expected_walk_seconds: f64,
    /// From the start of one refresh to the start of the next.
    pub seconds_between_refreshes: f64,
    /// Refreshes in 24 hours.
    pub refreshes_per_day: f64,
    /// Requests in 24 hours, by operation.
    pub requests_per_day: BTreeMap<&'static str, u64>,
    /// `DescribeJob` requests once after each start, in the background, for the groups of jobs that have ended.
    pub describe_requests_after_start: u64,
}

/// What an account and region has to bear of one operation, and what share of its quota that is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuotaShare {
    /// The account.
    pub aws_account_id: String,
    /// The region.
    pub aws_region: String,
    /// The operation.
    pub operation: &'static str,
    /// Over a day.
    pub mean_requests_per_second: f64,
    /// While a refresh is under way: `limits.requests_per_second`.
    pub most_requests_per_second: f64,
    /// As given.
    pub quota_requests_per_second: Option<f64>,
    /// The mean's share of the quota.
    pub mean_share: Option<f64>,
    /// The most's share of the quota.
    pub most_share: Option<f64>,
}

/// What another configuration would cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The keys that differ, and their values.
    pub settings: BTreeMap<&'static str, Value>,
    /// Requests in 24 hours, of all targets and operations.
    pub requests_per_day: u64,
    /// By how much that is more or, below 0, less than now, as a share of what it is now; `None` where that is nothing.
    pub difference: Option<f64>,
}

/// A day of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The version of the program.
    pub version: &'static str,
    /// Whose targets these are, where several processes share them.
    pub shard: Shard,
    /// `refresh.interval`.
    #[serde(rename = "interval_seconds", serialize_with = "as_seconds")]
    pub interval: Duration,
    /// `thing_groups.ended_jobs_within`.
    #[serde(rename = "ended_jobs_within_seconds", serialize_with = "as_seconds")]
    pub ended_jobs_within: Duration,
    /// `refresh.timeout`.
    #[serde(rename = "refresh_timeout_seconds", serialize_with = "as_seconds")]
    pub timeout: Duration,
    /// `limits.requests_per_second`.
    pub requests_per_second_limit: f64,
    /// Each target whose walk came to its end.
    pub targets: Vec<TargetDay>,
    /// The others, which no sum here includes.
    pub failed: Vec<Failed>,
    /// Requests in 24 hours, of all targets and operations.
    pub requests_per_day: u64,
    /// The same by operation.
    pub requests_per_day_by_operation: BTreeMap<&'static str, u64>,
    /// Of each account and region.
    pub quotas: Vec<QuotaShare>,
    /// What else could be configured.
    pub changes: Vec<Change>,
}

/// Requests a second that AWS grants an account and region, as people write them: `10` for each operation, `ListJobs=10` for
/// one.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    operation: Option<&'static str>,
    requests_per_second: f64,
}

/// A text that is no quota.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuota {
    /// There is no such operation, or it has no quota of its own.
    #[error("no operation {0:?} with a quota: there are ListJobs and DescribeJob")]
    Operation(String),
    /// That is no rate.
    #[error("{0:?} is no number of requests a second above 0")]
    Rate(String),
}

impl FromStr for Quota {
    type Err = InvalidQuota;

    fn from_str(text: &str) -> Result<Self, InvalidQuota> {
        let (operation, rate) = match text.split_once('=') {
            Some((name, rate)) => {
                let known = WITH_QUOTA.into_iter().find(|known| known.eq_ignore_ascii_case(name));
                (Some(known.ok_or_else(|| InvalidQuota::Operation(name.to_owned()))?), rate)
            }
            None => (None, text),
        };
        let requests_per_second: Option<f64> = rate.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
        let requests_per_second = requests_per_second.ok_or_else(|| InvalidQuota::Rate(rate.to_owned()))?;
        Ok(Self { operation, requests_per_second })
    }
}

/// The last one that is given for an operation counts; one for it alone before one for all.
fn quota_of(operation: &str, quotas: &[Quota]) -> Option<f64> {
    let of = |wanted: Option<&str>| quotas.iter().rev().find(|quota| quota.operation == wanted);
    of(Some(operation)).or_else(|| of(None)).map(|quota| quota.requests_per_second)
}

impl Estimate {
    /// Reckons what a day of `config` costs, by a walk of each of its targets.
    #[must_use]
    pub fn new(walks: Walks, config: &Config, quotas: &[Quota]) -> Self {
        let Walks { whole, failed } = walks;
        let targets = day(&whole, config);
        let now = total(&targets);
        let changes = changes(config).into_iter().map(|(settings, changed)| {
            let requests_per_day = total(&day(&whole, &changed));
            let difference = (now > 0).then(|| requests_per_day as f64 / now as f64 - 1.0);
            Change { settings, requests_per_day, difference }
        });
        let of = |operation| targets.iter().map(|day| day.requests_per_day[operation]).sum();
        Self {
            version: VERSION,
            shard: config.shard,
            interval: config.refresh.interval,
            timeout: config.refresh.timeout,
            ended_jobs_within: config.thing_groups.ended_jobs_within,
            requests_per_second_limit: config.limits.requests_per_second,
            requests_per_day: now,
            requests_per_day_by_operation: OPERATIONS.into_iter().map(|operation| (operation, of(operation))).collect(),
            quotas: shares(&whole, &targets, config, quotas),
            changes: changes.collect(),
            targets,
            failed,
        }
    }
}

fn as_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn total(targets: &[TargetDay]) -> u64 {
    targets.iter().flat_map(|target| target.requests_per_day.values()).sum()
}

/// A day of each target.
fn day(walks: &[Walked], config: &Config) -> Vec<TargetDay> {
    let mut paces: Vec<Pace> = walks.iter().map(|walked| Pace::alone(walked, config)).collect();
    for group in by_quota(walks).into_values() {
        // How long each takes follows from how much of the time the others are under way, and the other way round.
        for _ in 0..ROUNDS {
            let busy: Vec<(f64, f64)> = group.iter().map(|place| paces[*place].busy()).collect();
            let sum = |part: fn(&(f64, f64)) -> f64| busy.iter().map(part).sum::<f64>();
            let (walking, describing) = (sum(|(walking, _)| *walking), sum(|(_, describing)| *describing));
            for (place, own) in group.iter().zip(&busy) {
                paces[*place].slow_down(walking - own.0, describing - own.1, &walks[*place], config);
            }
        }
    }
    walks.iter().zip(paces).map(|(walked, pace)| TargetDay::new(walked, &pace, config)).collect()
}

/// The targets of each account and region, by their places.
fn by_quota(walks: &[Walked]) -> BTreeMap<(&str, &str), Vec<usize>> {
    let mut groups = BTreeMap::<_, Vec<usize>>::new();
    for (place, walked) in walks.iter().enumerate() {
        groups.entry((&*walked.aws_account_id, &*walked.aws_region)).or_default().push(place);
    }
    groups
}

/// After so many the paces of targets that share a budget don't change any more.
const ROUNDS: usize = 50;

/// How long the parts of a refresh take, in seconds.
#[derive(Clone, Copy, Debug)]
struct Pace {
    walking: f64,
    describing: f64,
    between: f64,
}

impl Pace {
    /// Of a target that has its account and region for itself.
    fn alone(walked: &Walked, config: &Config) -> Self {
        let mut pace = Self { walking: 0.0, describing: 0.0, between: 0.0 };
        pace.slow_down(0.0, 0.0, walked, config);
        pace
    }

    /// Of which share of the time it walks, and describes.
    fn busy(&self) -> (f64, f64) {
        (self.walking / self.between, self.describing / self.between)
    }

    /// Beside so many others that walk at once on average, and so many that describe.
    fn slow_down(&mut self, walking: f64, describing: f64, walked: &Walked, config: &Config) {
        // Where AWS is slower than the budget, there is room for others in between.
        self.walking = walked.walk_seconds.max(at_budget(walked.pages, walking, config));
        self.describing = if config.jobs.describe { at_budget(walked.open_jobs, describing, config) } else { 0.0 };
        let [walking, describing] =
            [self.walking, self.describing].map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(DAY));
        // On average half of the jitter.
        self.between = refresh::period(walking, describing, config.refresh.interval, 0.5).as_secs_f64();
    }
}

/// How many seconds so many requests take where AWS answers at once, with those of so many others in between. The first one
/// waits for others only.
fn at_budget(requests: u64, others: f64, config: &Config) -> f64 {
    (requests.saturating_sub(1) as f64 + requests as f64 * others) / config.limits.requests_per_second
}

impl TargetDay {
    fn new(walked: &Walked, pace: &Pace, config: &Config) -> Self {
        let refreshes = DAY.as_secs_f64() / pace.between;
        let resolves = config.thing_groups.resolve == Resolve::Describe;
        let mut describes = 0.0;
        if config.jobs.describe {
            describes += walked.open_jobs as f64 * refreshes;
        }
        let window = config.thing_groups.ended_jobs_within;
        if resolves && !window.is_zero() {
            // Those whose groups no refresh has learnt while they were open.
            let unknown = |life: &Option<Duration>| match life {
                Some(life) if config.jobs.describe => (1.0 - life.as_secs_f64() / pace.between).max(0.0),
                _ => 1.0,
            };
            describes += walked.lives.iter().map(unknown).sum::<f64>() / window.div_duration_f64(DAY);
        }
        let is_renewed = walked.assumes_role || walked.has_temporary_credentials;
        let renewals = if is_renewed { DAY.div_duration_f64(SESSION).min(refreshes) } else { 0.0 };
        let requests = [
            (LIST_JOBS, walked.pages as f64 * refreshes),
            (DESCRIBE_JOB, describes),
            (GET_CALLER_IDENTITY, if walked.asks_for_account { renewals } else { 0.0 }),
            (ASSUME_ROLE, if walked.assumes_role { renewals } else { 0.0 }),
        ];
        Self {
            walked: walked.clone(),
            walk_seconds_at_budget: at_budget(walked.pages, 0.0, config),
            describe_seconds_at_budget: if config.jobs.describe {
                at_budget(walked.open_jobs, 0.0, config)
            } else {
                0.0
            },
            expected_walk_seconds: pace.walking,
            seconds_between_refreshes: pace.between,
            refreshes_per_day: refreshes,
            requests_per_day: requests.into_iter().map(|(operation, count)| (operation, rounded(count))).collect(),
            describe_requests_after_start: if resolves { walked.jobs_ended_within } else { 0 },
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count is not negative, and casts saturate"
)]
fn rounded(count: f64) -> u64 {
    count.round() as u64
}

fn shares(walks: &[Walked], days: &[TargetDay], config: &Config, quotas: &[Quota]) -> Vec<QuotaShare> {
    let mut shares = Vec::new();
    for ((aws_account_id, aws_region), group) in by_quota(walks) {
        for operation in WITH_QUOTA {
            let requests: u64 = group.iter().map(|place| days[*place].requests_per_day[operation]).sum();
            if requests == 0 {
                continue;
            }
            let mean = requests as f64 / DAY.as_secs_f64();
            let (most, quota) = (config.limits.requests_per_second, quota_of(operation, quotas));
            shares.push(QuotaShare {
                aws_account_id: aws_account_id.to_owned(),
                aws_region: aws_region.to_owned(),
                operation,
                mean_requests_per_second: mean,
                most_requests_per_second: most,
                quota_requests_per_second: quota,
                mean_share: quota.map(|quota| mean / quota),
                most_share: quota.map(|quota| most / quota),
            });
        }
    }
    shares
}

/// What could be configured otherwise: the keys with their values, and the whole.
fn changes(config: &Config) -> Vec<(BTreeMap<&'static str, Value>, Config)> {
    let (describes, resolve) = (config.jobs.describe, config.thing_groups.resolve);
    let describing = |config: &mut Config, describes| {
        config.jobs.describe = describes;
        ("jobs.describe", Value::from(describes))
    };
    let resolving = |config: &mut Config, resolve| {
        config.thing_groups.resolve = resolve;
        let word = match resolve {
            Resolve::Describe => "describe",
            Resolve::Summary => "summary",
            Resolve::Off => "off",
        };
        ("thing_groups.resolve", Value::from(word))
    };
    let otherwise = if resolve == Resolve::Off { Resolve::Describe } else { Resolve::Off };
    let mut changes = Vec::new();
    let mut add = |change: &dyn Fn(&mut Config) -> Vec<(&'static str, Value)>| {
        let mut other = config.clone();
        let settings = change(&mut other).into_iter().collect();
        changes.push((settings, other));
    };
    add(&|config| vec![describing(config, !describes)]);
    add(&|config| vec![resolving(config, otherwise)]);
    if describes && resolve != Resolve::Off {
        add(&|config| vec![describing(config, false), resolving(config, Resolve::Off)]);
    }
    for interval in [2, 5].map(|times| config.refresh.interval.saturating_mul(times)) {
        // The longest that can be configured.
        if interval <= DAY {
            add(&|config| {
                config.refresh.interval = interval;
                vec![("refresh.interval", Value::from(Shown(interval).to_string()))]
            });
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn walked(target: &str, pages: u64, open: u64) -> Walked {
        Walked {
            target: target.to_owned(),
            aws_account_id: "012345678901".to_owned(),
            aws_region: "eu-west-1".to_owned(),
            jobs: pages * 250,
            open_jobs: open,
            jobs_ended_within: 70,
            lives: vec![Some(Duration::from_hours(1)); 70],
            pages,
            retries: 0,
            walk_seconds: pages as f64 / 5.0,
            has_temporary_credentials: false,
            assumes_role: false,
            asks_for_account: true,
        }
    }

    fn estimate(whole: &[Walked], quotas: &[&str], configure: impl FnOnce(&mut Config)) -> Estimate {
        let mut config = Config::default();
        configure(&mut config);
        let quotas: Vec<Quota> = quotas.iter().map(|text| text.parse().expect("a quota")).collect();
        Estimate::new(Walks { whole: whole.to_vec(), failed: Vec::new() }, &config, &quotas)
    }

    fn requests(estimate: &Estimate, operation: &str) -> u64 {
        estimate.targets.iter().map(|day| day.requests_per_day[operation]).sum()
    }

    #[test]
    fn a_refresh_costs_its_pages_and_its_open_jobs() {
        let estimate = estimate(&[walked("a", 40, 10)], &[], |_| {});
        // A minute, and half of the jitter of 5 %.
        assert!((estimate.targets[0].seconds_between_refreshes - 61.5).abs() < 1e-6);
        assert_eq!((requests(&estimate, LIST_JOBS), requests(&estimate, DESCRIBE_JOB)), (56_195, 14_049));
        assert_eq!(estimate.requests_per_day, 56_195 + 14_049);
        assert_eq!(estimate.targets[0].describe_requests_after_start, 70);
    }

    #[test]
    fn a_walk_that_is_slower_than_the_interval_makes_refreshes_rarer() {
        let estimate = estimate(&[walked("a", 400, 501)], &[], |_| {});
        // 80 s of pages, and after 100 s of descriptions a rest as long as they took.
        assert!((estimate.targets[0].seconds_between_refreshes - 280.0).abs() < 1e-6);
        assert_eq!(requests(&estimate, LIST_JOBS), 123_429);
    }

    #[test]
    fn targets_slow_each_other_down_where_they_share_a_budget_and_nowhere_else() {
        let crowd = ["a", "b", "c"].map(|name| walked(name, 401, 0));
        let seconds = |walks: &[Walked]| {
            let estimate = estimate(walks, &[], |_| {});
            let seconds = estimate.targets.iter().map(|day| day.seconds_between_refreshes * 10.0);
            seconds.map(rounded).collect::<Vec<u64>>()
        };
        // Each walks half of the time, so it shares the budget with one of the two others on average.
        assert_eq!(seconds(&crowd), [3204; 3]);
        let mut apart = crowd;
        apart[1].aws_region = "us-east-1".to_owned();
        apart[2].aws_account_id = "210987654321".to_owned();
        assert_eq!(seconds(&apart), [1604; 3]);
    }

    #[test]
    fn a_walk_that_others_make_longer_than_its_timeout_is_told() {
        let crowd = ["a", "b", "c", "d", "e", "f"].map(|name| walked(name, 26, 0));
        let estimate = estimate(&crowd, &[], |config| {
            config.refresh.timeout = Duration::from_secs(10);
            config.refresh.interval = Duration::from_secs(10);
        });
        // 5 s alone, and those of half of the others in between.
        assert!(estimate.targets.iter().all(|day| day.expected_walk_seconds > 15.0), "{estimate:?}");
        assert_eq!(estimate.to_string().matches("refreshes fail").count(), 6, "{estimate}");
    }

    #[test]
    fn jobs_that_have_ended_are_described_where_no_refresh_learnt_their_groups_while_they_were_open() {
        let of = |lives: &[Option<u64>], configure: fn(&mut Config)| {
            let lives: Vec<_> = lives.iter().map(|life| life.map(Duration::from_secs)).collect();
            let walked = Walked { lives: lives.repeat(70), open_jobs: 0, ..walked("a", 1, 0) };
            requests(&estimate(&[walked], &[], configure), DESCRIBE_JOB)
        };
        // 70 in seven days are ten a day.
        assert_eq!(of(&[None], |_| {}), 10, "CONTINUOUS ones");
        assert_eq!(of(&[Some(3600), Some(62)], |_| {}), 0, "seen while they were open");
        assert_eq!(of(&[Some(0)], |_| {}), 10, "never seen open");
        assert_eq!(of(&[Some(15)], |_| {}), 8, "open for a quarter of the time between two refreshes");
        assert_eq!(of(&[Some(3600)], |config| config.jobs.describe = false), 10);
        assert_eq!(of(&[None], |config| config.thing_groups.resolve = Resolve::Summary), 0);
        let none = estimate(&[walked("a", 1, 0)], &[], |config| config.thing_groups.ended_jobs_within = Duration::ZERO);
        assert_eq!(requests(&none, DESCRIBE_JOB), 0);
    }

    #[test]
    fn roles_are_assumed_and_accounts_asked_for_as_often_as_credentials_end() {
        let counts = |has_temporary_credentials, assumes_role, asks_for_account, configure: fn(&mut Config)| {
            let walked = Walked { has_temporary_credentials, assumes_role, asks_for_account, ..walked("a", 1, 1) };
            let estimate = estimate(&[walked], &[], configure);
            (requests(&estimate, GET_CALLER_IDENTITY), requests(&estimate, ASSUME_ROLE))
        };
        assert_eq!(counts(true, true, true, |_| {}), (24, 24));
        assert_eq!(counts(true, true, false, |_| {}), (0, 24));
        assert_eq!(counts(true, false, true, |_| {}), (24, 0));
        assert_eq!(counts(false, false, true, |_| {}), (0, 0));
        let rare = |config: &mut Config| config.refresh.interval = Duration::from_hours(6);
        assert_eq!(counts(true, true, true, rare), (4, 4), "no more often than it refreshes");
    }

    #[test]
    fn the_share_is_that_of_the_quota_of_the_operation() {
        let estimate = estimate(&[walked("a", 40, 10), walked("b", 40, 0)], &["10", "DescribeJob=20"], |_| {});
        let shares: Vec<_> = estimate.quotas.iter().map(|of| (of.operation, of.mean_share, of.most_share)).collect();
        let mean = |requests: u64, quota: f64| Some(requests as f64 / 86_400.0 / quota);
        assert_eq!(
            shares,
            [(LIST_JOBS, mean(2 * 56_195, 10.0), Some(0.5)), (DESCRIBE_JOB, mean(14_049, 20.0), Some(0.25))]
        );
    }

    #[test]
    fn what_is_no_quota_is_refused() {
        for (text, error) in [
            ("AssumeRole=1", InvalidQuota::Operation("AssumeRole".to_owned())),
            ("0", InvalidQuota::Rate("0".to_owned())),
            ("listjobs=-1", InvalidQuota::Rate("-1".to_owned())),
            ("inf", InvalidQuota::Rate("inf".to_owned())),
            ("ten", InvalidQuota::Rate("ten".to_owned())),
        ] {
            assert_eq!(text.parse::<Quota>(), Err(error));
        }
    }

    #[test]
    fn changes_are_such_that_can_be_configured_and_are_not() {
        let told = |configure: fn(&mut Config)| {
            let changes = estimate(&[walked("a", 40, 10)], &[], configure).changes;
            changes.into_iter().map(|change| (json!(change.settings), change.requests_per_day)).collect::<Vec<_>>()
        };
        assert_eq!(
            told(|_| {}),
            [
                (json!({"jobs.describe": false}), 56_195 + 10),
                (json!({"thing_groups.resolve": "off"}), 70_244),
                (json!({"jobs.describe": false, "thing_groups.resolve": "off"}), 56_195),
                (json!({"refresh.interval": "2m"}), 28_098 + 7_024),
                (json!({"refresh.interval": "5m"}), 11_239 + 2_810),
            ]
        );
        let bare = told(|config| {
            config.jobs.describe = false;
            config.thing_groups.resolve = Resolve::Off;
            config.refresh.interval = DAY;
        });
        let settings: Vec<_> = bare.into_iter().map(|(settings, _)| settings).collect();
        assert_eq!(settings, [json!({"jobs.describe": true}), json!({"thing_groups.resolve": "describe"})]);
    }

    #[test]
    fn of_nothing_no_share_is_told() {
        let nothing = estimate(&[], &["10"], |_| {});
        assert_eq!((nothing.requests_per_day, nothing.quotas.len()), (0, 0));
        assert!(nothing.changes.iter().all(|change| change.difference.is_none()), "{nothing:?}");
    }
}
