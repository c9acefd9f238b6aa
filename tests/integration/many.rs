//! Many accounts and regions in one process: what goes wrong with one of them is its own.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_iot_jobs_exporter::config::{self, Sources, Target};
use aws_iot_jobs_exporter::http::StatusCode;
use aws_iot_jobs_exporter::jobs::{AccountId, Scope, Status};
use aws_iot_jobs_exporter::simulator::{self, Fleet, Operation, Role};

use crate::support::{Exporter, Exposition, Fate, jobs, simulator as simulated, target};

const RUNS: &str = "aws_iot_jobs_exporter_collector_runs_total";
const FAILURES: &str = "aws_iot_jobs_exporter_collector_failures_total";

/// Accounts and regions, and how many jobs each has.
const PLACES: [(&str, &str, usize); 6] = [
    ("100000000001", "eu-west-1", 10),
    ("100000000002", "eu-central-1", 300),
    ("100000000003", "us-east-1", 20),
    ("100000000004", "us-west-2", 600),
    ("100000000005", "ap-south-1", 30),
    ("100000000006", "ap-northeast-1", 1000),
];

fn place(of: usize) -> (AccountId, &'static str, usize) {
    let (account, region, jobs) = PLACES[of];
    (AccountId::parse(account).expect("an account id"), region, jobs)
}

#[tokio::test(start_paused = true)]
async fn of_six_accounts_and_regions_three_that_fail_hold_up_none_of_the_others() {
    let simulator = simulated([]);
    let mut targets = String::new();
    for of in 0..PLACES.len() {
        let (account, region, count) = place(of);
        simulator.set_fleet(&account, region, Fleet::new(jobs(count), []));
        let role = Role::new(account, "reader").with_external_id("between-us");
        let arn = role.arn();
        let _ = writeln!(
            targets,
            "  - {{name: place-{of}, region: {region}, role_arn: '{arn}', external_id: between-us, \
             endpoint_url: 'http://simulator.test'}}"
        );
        simulator.add_role(role);
    }
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), format!("targets:\n{targets}")).expect("a written file");
    let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
    let targets = config::load(&sources).expect("a valid configuration").targets;
    simulator.intercept(|call| {
        let refused = |status: u16, code| {
            let status = StatusCode::from_u16(status).expect("a status");
            Some(simulator::error(status, code, "no"))
        };
        match (call.operation, call.region) {
            (Operation::ListJobs, "eu-central-1") => refused(403, "AccessDeniedException"),
            (Operation::ListJobs, "us-west-2") => refused(429, "ThrottlingException"),
            _ => None,
        }
    });
    let exporter = Exporter::start(simulator, |config| {
        config.targets = targets;
        config.limits.requests_per_second = 5.0;
    })
    .await;
    exporter.wire.decide(|request| {
        let hangs = request
            .headers()
            .get("authorization")
            .is_some_and(|header| header.to_str().is_ok_and(|text| text.contains("/ap-northeast-1/iot/")));
        if hangs { Fate::Hangs } else { Fate::Arrives }
    });
    // A hang takes three attempts of 10 s each.
    tokio::time::sleep(Duration::from_mins(10)).await;
    let shown = exporter.scrape().await;
    let of = |family: &str, name: &str, more: &[(&str, &str)]| {
        shown.value(family, &[&[("target", name)][..], more].concat())
    };
    for of_place in [0, 2, 4] {
        let ((account, region, count), name) = (place(of_place), format!("place-{of_place}"));
        assert_eq!(of("aws_iot_jobs_up", &name, &[]), Some(1.0), "{name}");
        let rows = shown.family("aws_iot_jobs").filter(|(labels, _)| labels["target"] == name);
        let total: f64 = rows
            .map(|(labels, value)| {
                assert_eq!(
                    (labels["aws_account_id"].as_str(), labels["aws_region"].as_str()),
                    (account.as_str(), region)
                );
                value
            })
            .sum();
        assert_eq!(total, count as f64, "{name}");
        let walks = of(RUNS, &name, &[("collector", "open_jobs")]).expect("a count");
        assert!((9.0..=11.0).contains(&walks), "{name}: {walks} open walks in ten minutes");
    }
    for (name, reason) in [("place-1", "denied"), ("place-3", "throttled"), ("place-5", "timeout")] {
        assert_eq!(of("aws_iot_jobs_up", name, &[]), Some(0.0), "{name}");
        for collector in ["open_jobs", "all_jobs"] {
            let failures = of(FAILURES, name, &[("collector", collector), ("reason", reason)]);
            assert!(failures > Some(0.0), "{name}: {reason}");
            let runs = of(RUNS, name, &[("collector", collector)]);
            assert_eq!(failures, runs, "{collector} of {name} fails by {reason} alone");
        }
        assert!(!shown.job_lines().iter().any(|line| line.contains(&format!("\"{name}\""))), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn targets_start_soon_after_each_other_and_then_spread_over_the_interval() {
    let exporter = Exporter::start(simulated(jobs(3)), |config| {
        // Of one status, so that a walk is one request.
        let statuses = vec![Status::InProgress];
        let of = |n: usize| Target {
            scope: Scope { namespace_id: Some(format!("n{n}")), statuses: statuses.clone(), ..Scope::default() },
            ..target(&format!("t{n}"), "http://simulator.test")
        };
        config.targets = (0..20).map(of).collect();
        config.limits.requests_per_second = 1000.0;
    })
    .await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    let releases = exporter.wire.releases("/jobs");
    let start = releases[0];
    let within = |from: u64, to: u64| {
        let (from, to) = (Duration::from_secs(from), Duration::from_secs(to));
        releases.iter().filter(|at| (from..to).contains(&(**at - start))).count()
    };
    assert_eq!(within(0, 2), 20, "one each tenth of a second");
    assert!(releases[..20].windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(95)), "{releases:?}");
    for begin in (2..290).step_by(12) {
        let walks = within(begin, begin + 12);
        assert!((1..=8).contains(&walks), "{walks} walks from second {begin} to {}", begin + 12);
    }
}

#[tokio::test(start_paused = true)]
async fn endpoints_of_fips_and_dual_stack_are_called_where_the_target_wants_them_and_sessions_have_its_name() {
    let simulator = simulated(jobs(3));
    let role = Role::new(crate::support::account(), "reader");
    let arn = role.arn();
    simulator.add_role(role);
    let variants = [
        ("plain", None, None),
        ("fips", Some(true), None),
        ("dual", None, Some(true)),
        ("both", Some(true), Some(true)),
    ];
    let exporter = Exporter::start(simulator, |config| {
        crate::support::list_only(config);
        let of = |(name, use_fips, use_dualstack): (&str, Option<bool>, Option<bool>)| Target {
            name: Some(name.to_owned()),
            region: Some("eu-west-1".to_owned()),
            role_arn: Some(arn.clone()),
            session_name: (name == "fips").then(|| "audited".to_owned()),
            use_fips,
            use_dualstack,
            scope: Scope { namespace_id: Some(name.to_owned()), ..Scope::default() },
            ..Target::default()
        };
        config.targets = variants.map(of).to_vec();
    })
    .await;
    let (hosts, sessions) = (Arc::new(Mutex::new(BTreeSet::new())), Arc::new(Mutex::new(BTreeSet::new())));
    let (noted, named) = (Arc::clone(&hosts), Arc::clone(&sessions));
    exporter.wire.record(move |request, _, _| {
        let host = request.uri().host().unwrap_or_default().to_owned();
        noted.lock().expect("no test panics in here").insert(host);
        let body = String::from_utf8_lossy(request.body()).into_owned();
        let session = body.split('&').find_map(|pair| pair.strip_prefix("RoleSessionName=").map(str::to_owned));
        named.lock().expect("no test panics in here").extend(session);
    });
    tokio::time::sleep(Duration::from_mins(5)).await;
    let hosts: Vec<String> = hosts.lock().expect("no test panics in here").iter().cloned().collect();
    let of = |service: &str| {
        ["", "-fips"].map(|fips| ["amazonaws.com", "api.aws"].map(|zone| format!("{service}{fips}.eu-west-1.{zone}")))
    };
    let mut expected = [of("iot"), of("sts")].concat().concat();
    expected.sort_unstable();
    assert_eq!(hosts, expected);
    let sessions: Vec<String> = sessions.lock().expect("no test panics in here").iter().cloned().collect();
    assert_eq!(sessions, ["audited", "aws-iot-jobs-exporter"]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_fails_its_target_alone_which_goes_on_afterwards() {
    let other = target("other", "http://other.test");
    let exporter = Exporter::start(simulated(jobs(3)), |config| config.targets.push(other)).await;
    exporter.listed(2).await;
    exporter.wire.decide(|request| {
        assert!(request.uri().host() != Some("other.test"), "a panic on purpose");
        Fate::Arrives
    });
    tokio::time::sleep(Duration::from_mins(20)).await;
    let shown = exporter.scrape().await;
    let up = |shown: &Exposition, of| shown.value("aws_iot_jobs_up", &[("target", of)]);
    assert_eq!([up(&shown, "t"), up(&shown, "other")], [Some(1.0), Some(0.0)]);
    let labels = [("target", "other"), ("collector", "open_jobs"), ("reason", "internal")];
    assert!(shown.value(FAILURES, &labels) >= Some(15.0), "{}", shown.text);
    let labels = [("target", "t"), ("collector", "open_jobs")];
    assert!(shown.value(RUNS, &labels) >= Some(18.0), "{}", shown.text);
    exporter.wire.decide(|_| Fate::Arrives);
    // A full walk that failed is repeated after 2, 4, 8 and then 15 minutes.
    tokio::time::sleep(Duration::from_mins(16)).await;
    let shown = exporter.scrape().await;
    assert_eq!([up(&shown, "t"), up(&shown, "other")], [Some(1.0), Some(1.0)]);
}
