//! A configuration that is read again, on the paused clock: what changes, and what does not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_iot_jobs_exporter::config::{self, Config, Sources, Target};
use aws_iot_jobs_exporter::jobs::group_filter::Pattern;
use aws_iot_jobs_exporter::jobs::{AccountId, ExecutionStatus, Scope, Status, TargetSelection};
use aws_iot_jobs_exporter::metrics::catalogue::{self, FamilyType};
use aws_iot_jobs_exporter::simulator::{Fleet, Job, Operation, Role, Scheduling, Simulator};

use crate::support::{
    Exporter, Exposition, Fate, NOW, REGION, account, jobs, list_only, simulator as simulated, target,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const RUNS: &str = "aws_iot_jobs_exporter_collector_runs_total";
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
async fn targets_that_did_not_change_keep_their_jobs_schedule_and_descriptions() {
    let ended = (0..40).map(|n| Job::new(format!("ended-{n}"), Status::Completed, NOW).targeting_group("line"));
    let exporter = Exporter::start(simulated(ended.collect::<Vec<_>>()), |_| {}).await;
    let before = exporter.described().await;
    let described = exporter.simulator.requests(Operation::DescribeJob);
    assert_eq!(described, 40);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let walks = exporter.wire.releases("/jobs").len();
    exporter.reload(|config| config.targets.push(target("other", URL))).await.expect("a good configuration");
    let shown = exporter.scrape().await;
    assert_eq!(targets(&shown), ["t", "other"]);
    let of_first = |shown: &Exposition| -> Vec<String> {
        shown.job_lines().into_iter().filter(|line| line.contains("target=\"t\"")).map(str::to_owned).collect()
    };
    assert_eq!(of_first(&shown), of_first(&before), "nothing of it is withdrawn");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(exporter.wire.releases("/jobs").len(), walks + 4, "both walks of the new one, and none of the old one");
    assert_eq!(exporter.simulator.requests(Operation::DescribeJob), 2 * described, "as many as the new one needs");
    assert!(reloaded_at(&shown) > reloaded_at(&before));
    tokio::time::sleep(Duration::from_mins(1)).await;
    let shown = exporter.scrape().await;
    let walks = |of| shown.value(RUNS, &[("target", of), ("collector", "open_jobs")]);
    assert_eq!([walks("t"), walks("other")], [Some(2.0), Some(2.0)], "each goes on in its own step");
}

#[tokio::test(start_paused = true)]
async fn with_other_settings_a_target_goes_on_showing_its_jobs_and_describes_none_again() {
    let ended = (0..40).map(|n| Job::new(format!("ended-{n}"), Status::Completed, NOW).targeting_group("line"));
    let exporter = Exporter::start(simulated(ended.collect::<Vec<_>>()), |_| {}).await;
    let before = exporter.described().await;
    exporter.wire.decide(|_| Fate::Hangs);
    exporter.reload(|config| config.collectors.open_jobs.interval = SECOND * 10).await.expect("a good configuration");
    assert_eq!(exporter.scrape().await.job_lines(), before.job_lines(), "while the next walk is under way");
    exporter.wire.decide(|_| Fate::Arrives);
    tokio::time::sleep(Duration::from_mins(3)).await;
    let shown = exporter.scrape().await;
    assert!(shown.runs("open_jobs") > Some(8.0), "{}", shown.text);
    assert_eq!(exporter.simulator.requests(Operation::DescribeJob), 40, "no ended job is described again");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_gone_leaves_no_series_behind() {
    let exporter = Exporter::start(simulated(jobs(3)), |config| config.targets.push(target("other", URL))).await;
    exporter.listed(1).await;
    exporter.reload(|config| drop(config.targets.pop())).await.expect("a good configuration");
    let shown = exporter.scrape().await;
    assert!(!shown.text.contains("\"other\""), "{}", shown.text);
    let walks = exporter.wire.releases("/jobs").len();
    tokio::time::sleep(Duration::from_secs(63)).await;
    assert!(exporter.wire.releases("/jobs").len() <= walks + 6, "only the other one walks");
}

#[tokio::test(start_paused = true)]
async fn a_faulty_configuration_changes_nothing_and_is_told_as_a_check_would() {
    let exporter = Exporter::start(simulated(jobs(3)), |_| {}).await;
    let before = exporter.listed(1).await;
    let environment = vec![("IOT_JOBS_EXPORTER_COLLECTORS__OPEN_JOBS__INTERVALL".to_owned(), "1m".to_owned())];
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
        list_only(config);
        config.limits.requests_per_second = 1.0;
    })
    .await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    exporter.reload(|config| config.limits.requests_per_second = 10.0).await.expect("a good configuration");
    exporter.listed(1).await;
    let releases = exporter.wire.releases("/jobs");
    for (n, first) in releases.iter().enumerate() {
        let second = releases[n..].iter().filter(|at| **at - *first < Duration::from_secs(1)).count();
        assert!(second <= 10, "{second} releases in the second after release {n}");
    }
    let took = *releases.last().expect("a release") - releases[0];
    assert!(took < Duration::from_secs(12), "{took:?}");
    let shown = exporter.scrape().await;
    let rate = "aws_iot_jobs_exporter_api_rate_limit_requests_per_second";
    assert_eq!(shown.value(rate, &[("operation", "ListJobs")]), Some(10.0));
}

#[tokio::test(start_paused = true)]
async fn reloads_that_race_are_taken_one_by_one() {
    let exporter = Exporter::start(simulated(jobs(3)), |_| {}).await;
    exporter.listed(1).await;
    let one = |name: &'static str| exporter.reload(move |config| config.targets.push(target(name, URL)));
    let outcomes = tokio::join!(one("a"), one("b"), one("c"), one("d"), one("e"), one("f"));
    let outcomes = [outcomes.0, outcomes.1, outcomes.2, outcomes.3, outcomes.4, outcomes.5];
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(exporter.reads(), 6, "each of them reads the configuration");
    let shown = exporter.scrape().await;
    assert_eq!(targets(&shown), ["t", "a", "b", "c", "d", "e", "f"]);
}

/// The fleet that a scraper watches: two thing groups, open, scheduled and ended jobs.
fn watched_fleet() -> Simulator {
    let (day, start) = (Duration::from_hours(24), NOW.after(Duration::from_hours(1)));
    let job = |id: &str, status, group: &str| {
        Job::new(id, status, NOW.before(day)).targeting_group(group).with_executions(ExecutionStatus::Queued, 1)
    };
    let starting = Scheduling { start_time: Some(start), ..Scheduling::default() };
    let simulator = simulated([
        job("a", Status::InProgress, "line"),
        job("b", Status::InProgress, "line"),
        job("c", Status::InProgress, "ring").continuous(),
        job("d", Status::Scheduled, "ring").scheduled(starting),
        job("e", Status::Completed, "line").updated(NOW.before(day / 2)),
        job("f", Status::Canceled, "ring").updated(NOW.before(day / 2)),
    ]);
    simulator.add_role(Role::new(account(), "reader"));
    simulator
}

/// A sample as `name{labels}`, and its value.
type Sample<'a> = (&'a str, f64);

fn samples(shown: &Exposition) -> impl Iterator<Item = Sample<'_>> {
    let lines = shown.text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').expect("a value")).map(|(of, value)| (of, value.parse().expect("a number")))
}

fn name_of(series: &str) -> &str {
    series.split('{').next().unwrap_or_default()
}

fn label_of<'a>(series: &'a str, label: &str) -> Option<&'a str> {
    let starts = ["{", ","].map(|before| format!("{before}{label}=\""));
    let (_, value) = starts.iter().find_map(|start| series.split_once(start))?;
    value.split('"').next()
}

fn is_counter(series: &str) -> bool {
    let is_of = |family: &&catalogue::Family| match family.family_type {
        FamilyType::Gauge => false,
        FamilyType::Counter => name_of(series) == family.name,
        FamilyType::Histogram => name_of(series).starts_with(family.name),
    };
    catalogue::ALL.iter().any(is_of)
}

/// A key that a reload can change.
struct Key {
    name: &'static str,
    change: fn(&mut Config),
    /// The series that the key itself removes.
    removes: fn(&str) -> bool,
}

const fn key(name: &'static str, change: fn(&mut Config)) -> Key {
    Key { name, change, removes: |_| false }
}

const fn removing(name: &'static str, change: fn(&mut Config), removes: fn(&str) -> bool) -> Key {
    Key { name, change, removes }
}

/// A series of one job.
fn is_of_a_job(series: &str) -> bool {
    label_of(series, "job_id").is_some()
}

fn is_of_job(series: &str, ids: &[&str]) -> bool {
    label_of(series, "job_id").is_some_and(|id| ids.contains(&id))
}

fn is_of_group(series: &str, groups: &[&str]) -> bool {
    label_of(series, "thing_group").is_some_and(|group| groups.contains(&group))
}

/// What the collector `all_jobs` gives, without its counters.
fn is_of_all_jobs(series: &str) -> bool {
    let status = label_of(series, "status").is_some_and(|status| !Status::from(status).is_open());
    let collector = label_of(series, "collector") == Some("all_jobs") && !is_counter(series);
    status || collector || is_of_job(series, &["e", "f"])
}

/// What the collector `details` gives, without its counters.
fn is_of_details(series: &str) -> bool {
    const FAMILIES: [&str; 6] = [
        "aws_iot_jobs_undescribed",
        "aws_iot_job_windowed",
        "aws_iot_job_executions",
        "aws_iot_ended_job_executions",
        "aws_iot_job_described_timestamp_seconds",
        "aws_iot_job_scheduled_start_timestamp_seconds",
    ];
    let collector = label_of(series, "collector") == Some("details") && !is_counter(series);
    let executions = is_of_executions(series);
    // No CONTINUOUS job is scheduled.
    let overdue = name_of(series) == "aws_iot_jobs_start_overdue";
    let is_unknown = overdue && label_of(series, "target_selection") == Some("SNAPSHOT");
    collector
        || executions
        || is_unknown
        || is_of_group(series, &["line", "ring"])
        || FAMILIES.contains(&name_of(series))
}

/// What the collector `executions` gives, without its counters.
fn is_of_executions(series: &str) -> bool {
    const FAMILIES: [&str; 7] = [
        "aws_iot_jobs_stuck",
        "aws_iot_jobs_progress_unknown",
        "aws_iot_thing_group_jobs_stuck",
        "aws_iot_job_stuck",
        "aws_iot_job_last_progress_timestamp_seconds",
        "aws_iot_job_oldest_open_execution_timestamp_seconds",
        "aws_iot_job_open_execution_since_timestamp_seconds",
    ];
    let collector = label_of(series, "collector") == Some("executions") && !is_counter(series);
    collector || FAMILIES.contains(&name_of(series))
}

/// What the collector `tags` gives, without its counters.
fn is_of_tags(series: &str) -> bool {
    let collector = label_of(series, "collector") == Some("tags") && !is_counter(series);
    collector || name_of(series) == "aws_iot_job_tags_info"
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).expect("a pattern")
}

const KEYS: &[Key] = &[
    key("collectors.open_jobs.interval, shorter", |config| config.collectors.open_jobs.interval = SECOND * 5),
    key("collectors.open_jobs.interval, longer", |config| config.collectors.open_jobs.interval = MINUTE * 10),
    key("collectors.open_jobs.stale_after", |config| config.collectors.open_jobs.stale_after = Some(MINUTE * 5)),
    key("collectors.all_jobs.interval, shorter", |config| config.collectors.all_jobs.interval = SECOND * 5),
    key("collectors.all_jobs.interval, longer", |config| config.collectors.all_jobs.interval = MINUTE * 60),
    key("collectors.all_jobs.timeout", |config| config.collectors.all_jobs.timeout = MINUTE),
    key("collectors.all_jobs.stale_after", |config| config.collectors.all_jobs.stale_after = Some(MINUTE * 60)),
    removing("collectors.all_jobs.enabled", |config| config.collectors.all_jobs.enabled = false, is_of_all_jobs),
    key("collectors.details.interval", |config| config.collectors.details.interval = SECOND * 5),
    key("collectors.details.max_interval", |config| config.collectors.details.max_interval = MINUTE * 5),
    key("collectors.details.stale_after", |config| config.collectors.details.stale_after = Some(MINUTE * 20)),
    removing("collectors.details.enabled", |config| config.collectors.details.enabled = false, is_of_details),
    key("collectors.executions.interval", |config| config.collectors.executions.interval = MINUTE),
    key("collectors.executions.stale_after", |config| config.collectors.executions.stale_after = Some(MINUTE * 60)),
    removing("collectors.executions.enabled", |config| config.collectors.executions.enabled = false, is_of_executions),
    removing("collectors.tags.keys", |config| config.collectors.tags.keys.clear(), is_of_tags),
    // A job that is not stuck any more names no things.
    removing(
        "jobs.stuck_after",
        |config| config.jobs.stuck_after = Duration::from_hours(48),
        |series| label_of(series, "thing").is_some(),
    ),
    key("jobs.stuck_after_windowed", |config| config.jobs.stuck_after_windowed = Duration::from_hours(48)),
    removing(
        "limits.things_per_job",
        |config| config.limits.things_per_job = 0,
        |series| label_of(series, "thing").is_some(),
    ),
    key("targets[].collectors", |config| {
        config.targets[0].collectors = config.collectors.clone();
        config.targets[0].collectors.open_jobs.interval = SECOND * 20;
    }),
    removing(
        "thing_groups.include",
        |config| config.thing_groups.include = vec![pattern("line")],
        |series| is_of_group(series, &["ring"]),
    ),
    removing(
        "thing_groups.exclude",
        |config| config.thing_groups.exclude = vec![pattern("li.*")],
        |series| is_of_group(series, &["line"]),
    ),
    removing("jobs.series", |config| config.jobs.series = false, is_of_a_job),
    key("jobs.ended_within, longer", |config| config.jobs.ended_within = Duration::from_hours(24 * 30)),
    removing(
        "jobs.ended_within, shorter",
        |config| config.jobs.ended_within = Duration::from_hours(1),
        |series| is_of_job(series, &["e", "f"]),
    ),
    key("limits.requests_per_second", |config| config.limits.requests_per_second = 2.0),
    key("limits.max_pages", |config| config.limits.max_pages = 9),
    removing(
        "limits.max_thing_groups",
        |config| config.limits.max_thing_groups = 1,
        |series| is_of_group(series, &["ring"]) && name_of(series) != "aws_iot_job_thing_group_info",
    ),
    removing("limits.max_jobs", |config| config.limits.max_jobs = 2, |series| is_of_job(series, &["c", "d"])),
    removing(
        "limits.max_ended_jobs",
        |config| config.limits.max_ended_jobs = 0,
        |series| is_of_job(series, &["e", "f"]),
    ),
    key("targets[].endpoint_url", |config| {
        config.targets[0].endpoint_url = Some("http://another-name.test".to_owned());
    }),
    key("targets[].role_arn", |config| config.targets[0].role_arn = Some(Role::new(account(), "reader").arn())),
    key("targets[].account_id", |config| config.targets[0].account_id = Some(account())),
    key("targets[], one more", |config| config.targets.insert(0, target("new", URL))),
    removing(
        "targets[], one less",
        |config| drop(config.targets.remove(1)),
        |series| label_of(series, "target") == Some("other"),
    ),
    key("targets[], in another order", |config| config.targets.reverse()),
];

/// Checks every scrape from before a reload until a minute after it.
async fn watch(exporter: &Exporter, case: &str, reload: impl Future<Output = ()>, removes: impl Fn(&str) -> bool) {
    let before = exporter.scrape().await;
    let stays: BTreeSet<&str> = samples(&before).map(|(series, _)| series).filter(|series| !removes(series)).collect();
    let mut counters: BTreeMap<String, f64> = BTreeMap::new();
    let mut check = |shown: &Exposition| {
        let mut series = BTreeSet::new();
        for (of, value) in samples(shown) {
            assert!(series.insert(of), "{case}: {of} is there twice");
            if is_counter(of) {
                let known = counters.entry(of.to_owned()).or_default();
                assert!(value >= *known, "{case}: {of} goes from {known} to {value}");
                *known = value;
            }
        }
        let missing: Vec<_> = stays.iter().filter(|of| !series.contains(**of)).collect();
        assert!(missing.is_empty(), "{case}: {missing:#?}");
    };
    check(&before);
    let is_over = AtomicBool::new(false);
    let scraper = async {
        let mut shown = exporter.scrape().await;
        for step in 0.. {
            if let Some(changed) = exporter.scrape_if_changed(&shown).await {
                check(&changed);
                shown = changed;
            }
            // Later on only a walk or a description can change anything.
            let is_late = step > 100 && is_over.load(Ordering::Relaxed);
            tokio::time::sleep(if is_late { SECOND / 2 } else { SECOND / 20 }).await;
            if step > 250 {
                return;
            }
        }
    };
    let reload = async {
        reload.await;
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(scraper, reload);
}

#[tokio::test(start_paused = true)]
async fn a_reload_of_any_key_hides_no_series_that_stays_and_takes_no_counter_back() {
    for Key { name, change, removes } in KEYS {
        let exporter = Exporter::start(watched_fleet(), |config| {
            let other = Scope { target_selection: Some(TargetSelection::Snapshot), ..Scope::default() };
            config.targets.push(Target { scope: other, ..target("other", URL) });
            config.collectors.tags.keys = vec!["team".to_owned()];
        })
        .await;
        exporter.wire.decide(|_| Fate::Late(SECOND / 10));
        exporter.described().await;
        tokio::time::sleep(SECOND * 40).await;
        let reload = async {
            // In the middle of what the scraper does.
            tokio::time::sleep(SECOND / 30).await;
            exporter.reload(change).await.expect("a valid configuration");
        };
        watch(&exporter, name, reload, removes).await;
        let shown = exporter.scrape().await;
        let removed = samples(&shown).filter(|(series, _)| removes(series)).count();
        assert_eq!(removed, 0, "{name} leaves what it removes");
    }
}

#[tokio::test(start_paused = true)]
async fn other_labels_come_in_the_scrape_in_which_the_old_ones_go_with_the_same_values() {
    let exporter = Exporter::start(watched_fleet(), |config| {
        config.targets[0].labels.insert("team".to_owned(), "old".to_owned());
        config.targets.push(target("other", URL));
    })
    .await;
    exporter.wire.decide(|_| Fate::Late(SECOND / 10));
    exporter.described().await;
    tokio::time::sleep(SECOND * 40).await;
    let before = exporter.scrape().await;
    let of_team = |shown: &Exposition, team: &str| -> BTreeSet<String> {
        let label = format!(",team=\"{team}\"");
        shown.text.lines().filter(|line| line.contains(&label)).map(|line| line.replace(&label, "")).collect()
    };
    let of_jobs: BTreeSet<String> = before.job_lines().iter().map(|line| line.replace(",team=\"old\"", "")).collect();
    let of_jobs = &of_jobs & &of_team(&before, "old");
    assert!(of_jobs.len() > 50, "{of_jobs:#?}");
    let reload = async {
        tokio::time::sleep(SECOND / 30).await;
        let change = |config: &mut Config| drop(config.targets[0].labels.insert("team".to_owned(), "new".to_owned()));
        exporter.reload(change).await.expect("a valid configuration");
    };
    let scraper = async {
        let mut has_changed = false;
        for _ in 0..100 {
            let shown = exporter.scrape().await;
            let [old, new] = ["old", "new"].map(|team| of_team(&shown, team));
            assert_ne!(old.is_empty(), new.is_empty(), "{}", shown.text);
            let lacks: Vec<_> = of_jobs.iter().filter(|line| !old.contains(*line) && !new.contains(*line)).collect();
            assert!(lacks.is_empty(), "{lacks:#?}");
            assert!(old.is_empty() || !has_changed, "the old labels are back");
            has_changed |= old.is_empty();
            tokio::time::sleep(SECOND / 20).await;
        }
        assert!(has_changed);
    };
    tokio::join!(scraper, reload);
    let up = [("target", "t"), ("team", "new")];
    assert_eq!(exporter.scrape().await.value("aws_iot_jobs_up", &up), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn a_target_with_another_region_filter_or_account_starts_anew_and_shows_nothing_of_the_old_one() {
    type Case = (&'static str, fn(&mut Target), Option<f64>);
    let another = || AccountId::parse("210987654321").expect("an account id");
    let cases: [Case; 6] = [
        ("region", |target| target.region = Some("us-east-1".to_owned()), Some(7.0)),
        ("filter.status", |target| target.scope.statuses = vec![Status::InProgress], Some(3.0)),
        (
            "filter.target_selection",
            |target| target.scope.target_selection = Some(TargetSelection::Continuous),
            Some(1.0),
        ),
        ("filter.namespace_id", |target| target.scope.namespace_id = Some("none".to_owned()), Some(0.0)),
        ("role_arn", |target| target.role_arn = Some("arn:aws:iam::210987654321:role/reader".to_owned()), Some(5.0)),
        // The credentials are of the account before.
        ("account_id", |target| target.account_id = AccountId::parse("210987654321").ok(), None),
    ];
    for (case, change, expected) in cases {
        let simulator = watched_fleet();
        simulator.set_fleet(&account(), "us-east-1", Fleet::new(jobs(7), []));
        simulator.set_fleet(&another(), REGION, Fleet::new(jobs(5), []));
        simulator.add_role(Role::new(another(), "reader"));
        let exporter = Exporter::start(simulator, |_| {}).await;
        let before = exporter.described().await;
        assert_eq!(before.jobs().values().sum::<f64>(), 6.0, "{case}");
        exporter.wire.decide(|_| Fate::Late(SECOND / 10));
        exporter.reload(|config| change(&mut config.targets[0])).await.expect("a valid configuration");
        let shown = exporter.scrape().await;
        assert!(shown.job_lines().is_empty(), "{case}: {}", shown.text);
        assert_eq!((shown.up(), shown.runs("open_jobs")), (Some(1.0), Some(0.0)), "{case}: its first run is under way");
        let mut shown = shown;
        for _ in 0..400 {
            let total = shown.jobs().values().sum::<f64>();
            assert!(total <= expected.unwrap_or(0.0), "{case}: {}", shown.text);
            tokio::time::sleep(SECOND / 20).await;
            shown = exporter.scrape_if_changed(&shown).await.unwrap_or(shown);
        }
        match expected {
            Some(expected) => assert_eq!(shown.jobs().values().sum::<f64>(), expected, "{case}: {}", shown.text),
            None => assert_eq!(shown.failures("open_jobs", "account_mismatch"), Some(1.0), "{case}: {}", shown.text),
        }
    }
}
