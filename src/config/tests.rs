//! What [`load`] promises, from sources to configuration or problems.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::check::Findings;
use super::keys::KEYS;
use super::path::KeyPath;
use super::*;

const EXAMPLE: &str = include_str!("../../config/exporter.yml");

/// A directory with an `exporter.yml` in it.
struct Files(TempDir);

impl Files {
    fn with(content: impl AsRef<[u8]>) -> Self {
        let files = Self(tempfile::tempdir().expect("a temporary directory"));
        fs::write(files.path(), content).expect("a file");
        files
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("exporter.yml")
    }

    fn sources(&self) -> Sources {
        Sources { file: Some(self.path()), ..Sources::default() }
    }
}

fn load_yaml(content: impl AsRef<[u8]>) -> Result<Config, Problems> {
    load(&Files::with(content).sources())
}

fn config(yaml: &str) -> Config {
    load_yaml(yaml).unwrap_or_else(|problems| panic!("{yaml}\n{problems}"))
}

/// The problems with a file of this content, a line each, without the directory.
fn problems(yaml: impl AsRef<[u8]>) -> Vec<String> {
    let files = Files::with(yaml);
    let directory = format!("{}/", files.0.path().display());
    let found = load(&files.sources()).expect_err("problems");
    found.iter().map(|problem| problem.to_string().replace(&directory, "")).collect()
}

/// The only problem with a file of this content.
fn problem(yaml: &str) -> String {
    let mut found = problems(yaml);
    assert_eq!(found.len(), 1, "{yaml}\n{found:#?}");
    found.remove(0)
}

fn variables(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables.iter().map(|(name, text)| (format!("IOT_JOBS_EXPORTER_{name}"), (*text).to_owned())).collect()
}

fn load_variables(pairs: &[(&str, &str)]) -> Result<Config, Problems> {
    load(&Sources { environment: variables(pairs), ..Sources::default() })
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn group_filter(include: &[&str], exclude: &[&str]) -> GroupFilter {
    let owned = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>();
    GroupFilter::new(&owned(include), &owned(exclude)).expect("patterns")
}

// Defaults and the documented file.

#[test]
fn without_sources_there_is_one_target_and_the_documented_defaults() {
    let expected = Config {
        targets: vec![Target::default()],
        shard: Shard { index: 0, total: 1 },
        refresh: Refresh { interval: millis(60_000), timeout: millis(1_800_000), stale_after: None },
        thing_groups: ThingGroups {
            resolve: Resolve::Describe,
            filter: GroupFilter::default(),
            ended_jobs_within: millis(604_800_000),
        },
        jobs: Jobs { describe: true, series: true, long_running_after: vec![millis(86_400_000), millis(259_200_000)] },
        limits: Limits { requests_per_second: 5.0, max_pages: 20_000, max_thing_groups: 200, max_jobs: 500 },
        web: Web {
            listen_addresses: vec![":10114".parse().expect("an address")],
            telemetry_path: "/metrics".to_owned(),
            config_file: None,
            probe_address: None,
            enable_lifecycle: false,
        },
        log: Log { level: LogLevel::Info, format: LogFormat::Text },
    };
    assert_eq!(load(&Sources::default()), Ok(expected.clone()));
    assert_eq!(Config::default(), expected);
}

#[test]
fn the_documented_file_says_the_defaults() {
    assert_eq!(config(EXAMPLE), Config::default());
}

/// The documented file with its example taken out of the comments.
fn uncommented_example() -> String {
    let lines = EXAMPLE.lines().filter(|line| *line != "  - {}");
    lines.map(|line| if line.starts_with("#  ") { &line[1..] } else { line }.to_owned() + "\n").collect()
}

#[test]
fn the_commented_example_of_the_documented_file_is_valid() {
    let config = config(&uncommented_example());
    let [production, staging, plants @ ..] = &config.targets[..] else { panic!("{config:#?}") };
    let plants: Vec<_> = plants.iter().filter_map(Target::known_name).collect();
    assert_eq!((plants.len(), plants[0]), (4, "plants-012345678901-eu-west-1"));
    assert_eq!(production.account_id, AccountId::parse("012345678901").ok());
    assert_eq!(production.external_id.as_ref().map(Secret::expose), Some("example-external-id"));
    assert_eq!(production.labels.get("tier").map(String::as_str), Some("1"));
    assert_eq!(production.scope.statuses, [Status::InProgress, Status::Scheduled]);
    assert_eq!(production.scope.target_selection, Some(TargetSelection::Snapshot));
    assert_eq!((staging.name.as_deref(), staging.region.as_deref()), (Some("staging"), Some("us-east-1")));
}

#[test]
fn the_documented_file_names_every_key() {
    let parsed = yaml::read(&uncommented_example(), &KeyPath::root()).expect("YAML");
    for key in KEYS {
        let mut values = vec![&parsed.value];
        for name in key.path.split('.') {
            values = values
                .into_iter()
                .filter_map(|value| value.as_dict()?.get(name.trim_end_matches("[]")))
                .flat_map(|value| {
                    if name.ends_with("[]") {
                        value.as_array().unwrap_or_default().iter().collect()
                    } else {
                        vec![value]
                    }
                })
                .collect();
        }
        assert!(!values.is_empty(), "{} is not in config/exporter.yml", key.path);
    }
}

#[test]
fn every_key_of_the_table_has_a_field_to_go_to() {
    // A row without its field is refused on extraction, and every row is in the example.
    assert!(load_yaml(uncommented_example()).is_ok());
    // The example changes what it can, so a field that got lost on the way shows.
    let target = format!("{:?}", config(&uncommented_example()).targets[0]);
    assert!(!target.contains("None") && !target.contains("[]"), "{target}");
}

// Sources and their precedence.

#[test]
fn flags_win_over_the_environment_which_wins_over_the_file_which_wins_over_the_defaults() {
    let files =
        Files::with("refresh: {interval: 2m, timeout: 2m}\nlog: {level: warn, format: json}\nlimits: {max_pages: 7}\n");
    let environment = variables(&[("REFRESH__INTERVAL", "3m"), ("LOG__LEVEL", "debug")]);
    let flags = vec![Flag { key: "log.level", flag: "--log.level", value: FlagValue::Text("trace".to_owned()) }];
    let config = load(&Sources { file: Some(files.path()), environment, flags }).expect("a configuration");
    assert_eq!(config.log, Log { level: LogLevel::Trace, format: LogFormat::Json });
    assert_eq!((config.refresh.interval, config.refresh.timeout), (millis(180_000), millis(120_000)));
    assert_eq!((config.limits.max_pages, config.limits.requests_per_second), (7, 5.0));
}

#[test]
fn a_list_replaces_the_one_below_it_as_a_whole() {
    let files = Files::with("targets: [{name: a}, {name: b}]\nweb: {listen_addresses: [':1', ':2']}\n");
    let list = FlagValue::List(vec!["localhost:3".to_owned()]);
    let flags = vec![Flag { key: "web.listen_addresses", flag: "--web.listen-address", value: list }];
    let environment = variables(&[("TARGETS", "[{name: c, region: eu-west-1}]")]);
    let config = load(&Sources { file: Some(files.path()), environment, flags }).expect("a configuration");
    assert_eq!(config.web.listen_addresses, ["localhost:3".parse().expect("an address")]);
    assert_eq!(config.targets.iter().map(Target::known_name).collect::<Vec<_>>(), [Some("c")]);
}

#[test]
fn a_null_below_another_source_hides_nothing() {
    let files = Files::with("refresh:\nlog: {level: }\n");
    let environment = variables(&[("REFRESH__INTERVAL", "3m")]);
    let config = load(&Sources { file: Some(files.path()), environment, flags: Vec::new() }).expect("a configuration");
    assert_eq!((config.refresh.interval, config.log.level), (millis(180_000), LogLevel::Info));
}

#[test]
fn every_kind_is_read_from_the_environment() {
    let config = load_variables(&[
        ("TARGETS", "[{name: a, account_id: '012345678901', labels: {team: x}}, {region: eu-west-1}]"),
        ("REFRESH__STALE_AFTER", "1d"),
        ("LIMITS__REQUESTS_PER_SECOND", "0.5"),
        ("LIMITS__MAX_PAGES", "9"),
        ("THING_GROUPS__RESOLVE", "off"),
        ("THING_GROUPS__INCLUDE", "factory-1, site:.*"),
        ("THING_GROUPS__EXCLUDE", "['[a-z]{1,3}']"),
        ("THING_GROUPS__ENDED_JOBS_WITHIN", "0s"),
        ("JOBS__DESCRIBE", "false"),
        ("JOBS__SERIES", "true"),
        ("JOBS__LONG_RUNNING_AFTER", "12h,2d"),
        ("WEB__LISTEN_ADDRESSES", "127.0.0.1:1,[::1]:1"),
        ("WEB__TELEMETRY_PATH", "/m"),
        ("LOG__FORMAT", "json"),
    ])
    .expect("a configuration");
    assert_eq!(config.targets[0].account_id.as_ref().map(AccountId::as_str), Some("012345678901"));
    assert_eq!(config.refresh.stale_after, Some(millis(86_400_000)));
    assert_eq!((config.limits.requests_per_second, config.limits.max_pages), (0.5, 9));
    assert_eq!((config.web.listen_addresses.len(), config.web.telemetry_path.as_str()), (2, "/m"));
    assert_eq!(config.log.format, LogFormat::Json);
    let filter = group_filter(&["factory-1", "site:.*"], &["[a-z]{1,3}"]);
    assert_eq!(config.thing_groups, ThingGroups { resolve: Resolve::Off, filter, ended_jobs_within: Duration::ZERO });
    let long_running_after = vec![millis(43_200_000), millis(172_800_000)];
    assert_eq!(config.jobs, Jobs { describe: false, series: true, long_running_after });
}

#[test]
fn a_problem_names_the_source_that_the_value_came_from() {
    let files = Files::with("log: {level: loud}\n");
    let environment = variables(&[("REFRESH__INTERVAL", "60")]);
    let flags = vec![Flag { key: "log.format", flag: "--log.format", value: FlagValue::Text("xml".to_owned()) }];
    let found = load(&Sources { file: Some(files.path()), environment, flags }).expect_err("problems");
    let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "IOT_JOBS_EXPORTER_REFRESH__INTERVAL: refresh.interval: \"60\" is not a duration; \
         write a number with a unit, such as 30s, 5m or 1d",
            &format!("{}: log.level: \"loud\" is not one of error, warn, info, debug, trace", files.path().display()),
            "--log.format: log.format: \"xml\" is not one of text, json",
        ]
    );
    assert_eq!(
        found.iter().map(Problem::key).collect::<Vec<_>>(),
        [Some("refresh.interval"), Some("log.level"), Some("log.format")]
    );
    assert_eq!(found.to_string().lines().count(), 3);
}

// Files that are no configuration.

#[test]
fn a_file_of_nothing_but_comments_is_the_default() {
    for content in
        ["", "\n", "# nothing\n", "---\n", "{}", "refresh:\nweb:\nlog: ~\ntargets:\n", "\u{feff}log: {level: info}"]
    {
        assert_eq!(config(content), Config::default(), "{content:?}");
    }
}

#[test]
fn a_file_that_can_not_be_read_is_a_problem() {
    let files = Files::with("");
    for path in [files.0.path().join("missing.yml"), files.0.path().to_owned(), Path::new("nul\0.yml").to_owned()] {
        let found = load(&Sources { file: Some(path), ..Sources::default() }).expect_err("problems");
        assert!(found.to_string().contains(": can't be read: ") && found.iter().count() == 1, "{found}");
    }
}

#[test]
fn a_file_that_is_no_text_or_far_too_large_is_a_problem() {
    assert_eq!(problems(b"log:\n  level: \xff\n"), ["exporter.yml: is not UTF-8 text, from byte 14 on"]);
    assert!(problems(vec![b'#'; (1 << 20) + 1])[0].contains("larger than 1048576 bytes"));
}

#[test]
fn a_file_that_is_no_mapping_at_its_top_is_a_problem() {
    let expected = "at its top; write sections with keys, such as refresh:";
    assert_eq!(problem("- a\n- b\n"), format!("exporter.yml: is a list {expected}"));
    assert_eq!(problem("hello\n"), format!("exporter.yml: is a text {expected}"));
    assert_eq!(problem("5\n"), format!("exporter.yml: is a number {expected}"));
}

#[test]
fn a_text_that_is_not_yaml_is_told_with_its_place() {
    assert!(problem("log:\n  level: [info\n").starts_with("exporter.yml: is not YAML: "));
    assert!(problem("log:\n\tlevel: info\n").starts_with("exporter.yml: is not YAML: "));
    assert!(problem("log: a: b\n").contains("at line 1 column 7"));
    assert_eq!(problem("log: {level: info}\nlog: {level: warn}\n"), "exporter.yml: log: is there twice; keep one");
    assert!(problem("5: x\n").starts_with("exporter.yml: has a key that is not a text"));
}

#[test]
fn the_other_sources_are_checked_though_the_file_is_no_yaml() {
    let files = Files::with("log: [");
    let environment = variables(&[("LOG__LEVEL", "loud")]);
    let found = load(&Sources { file: Some(files.path()), environment, flags: Vec::new() }).expect_err("problems");
    assert_eq!(found.iter().count(), 2, "{found}");
}

// All at once.

#[test]
fn six_faults_of_six_kinds_are_six_problems() {
    let found = problems(
        "refresh:\n  intervall: 30s\n  timeout: 60\nlimits:\n  max_pages: 0\nlog:\n  level: warn\n  level: info\n\
         targets:\n  - name: a\n    account_id: 123456789012\n    external_id: hunter2\n",
    );
    assert_eq!(
        found,
        [
            "exporter.yml: log.level: is there twice; keep one",
            "exporter.yml: targets[0].account_id: \
             YAML reads this as the number 123456789012, and a text belongs here; put it in quotes",
            "exporter.yml: refresh.timeout: 60 is not a duration; write a number with a unit, such as 30s, 5m or 1d",
            "exporter.yml: refresh.intervall: unknown key; did you mean refresh.interval?",
            "exporter.yml: limits.max_pages: 0 is out of range; accepted is 1 to 1000000",
            "exporter.yml: targets[0].external_id: \
             is of no use without targets[0].role_arn or targets[0].role_arns; give the role to assume, or leave this out",
        ]
    );
}

// Unknown keys.

#[test]
fn an_unknown_key_is_told_with_the_nearest_known_one() {
    for (yaml, hint) in [
        ("refresh: {intervall: 1m}", "refresh.intervall: unknown key; did you mean refresh.interval?"),
        ("interval: 1m", "interval: unknown key; did you mean refresh.interval?"),
        ("refersh: {interval: 1m, x: 5}", "refersh: unknown key; did you mean refresh?"),
        ("targets: [{}, {regoin: x}]", "targets[1].regoin: unknown key; did you mean targets[1].region?"),
        ("targets: [{timeout: x}]", "targets[0].timeout: unknown key; did you mean refresh.timeout?"),
        ("thing_groups: {includes: []}", "thing_groups.includes: unknown key; did you mean thing_groups.include?"),
        ("thing_group: {}", "thing_group: unknown key; did you mean thing_groups?"),
        ("job: {}", "job: unknown key; did you mean jobs?"),
        ("jobs: {status: []}", "jobs.status: unknown key; did you mean targets[].jobs.status?"),
        ("targets: [{jobs: {describe: false}}]", "targets[0].jobs.describe: unknown key; did you mean jobs.describe?"),
        ("log: {colour: x}", "log.colour: unknown key; known here are level, format"),
        ("\"log.level\": info", "\"log.level\": unknown key; did you mean log.level?"),
        ("targets: [{\"\": x}]", "targets[0].\"\": unknown key; known here are name, region, "),
    ] {
        let found = problems(yaml);
        assert!(
            found.iter().any(|problem| problem.starts_with(&format!("exporter.yml: {hint}"))),
            "{yaml}\n{found:#?}"
        );
    }
}

// Secrets.

#[test]
fn a_secret_is_in_no_problem_whatever_is_wrong_around_it() {
    for yaml in [
        "targets: [{external_id: 'hunter2 '}]",
        "targets: [{external_id: [hunter2]}]",
        "targets: [{external_id: {hunter2: 1}}]",
        "targets: [{external_idd: hunter2}]",
        "targets: [{external-id: hunter2, password: hunter2, token: hunter2}]",
        "targets: [{external_id:hunter2}]",
        "targets: [external_id=hunter2]",
        "targets: external_id=hunter2",
        "external_id: hunter2",
        "external_id: [hunter2",
        "targets: [{external_id: !vault hunter2}]",
        "targets: [{external_id: !!int hunter2}]",
        "targets: [{external_id: hunter2, external_id: hunter2}]",
        "targets: [{external_id: hunter2}]",
        "targets: [{labels: hunter2}]",
        "targets: [{jobs: hunter2}]",
        "refresh: hunter2",
        "hunter2",
        "targets: [{endpoint_url: 'https://user:hunter2@host'}]",
        "targets: [{endpoint_url: 'user:hunter2@host'}]",
        "targets: [{endpoint_url: 'https://host/?signature=hunter2'}]",
    ] {
        let found = load_yaml(yaml).expect_err(yaml);
        assert!(!format!("{found} {found:?} {found:#?}").contains("hunter2"), "{yaml}\n{found}");
    }
    let number = load_yaml("targets: [{external_id: 4711}]").expect_err("problems");
    assert!(!number.to_string().contains("4711") && number.to_string().contains("in quotes"), "{number}");
    let variable =
        load_variables(&[("TARGETS", "{external_id: hunter2}"), ("TARGET", "hunter2")]).expect_err("problems");
    assert!(!variable.to_string().contains("hunter2"), "{variable}");
}

#[test]
fn a_secret_is_in_no_debug_output_of_the_configuration() {
    let yaml = "targets: [{role_arn: 'arn:aws:iam::012345678901:role/a', external_id: hunter2}]";
    let config = config(yaml);
    assert_eq!(config.targets[0].external_id.as_ref().map(Secret::expose), Some("hunter2"));
    assert!(!format!("{config:?} {config:#?}").contains("hunter2"));
}

// Single keys.

#[test]
fn every_key_refuses_what_is_not_of_its_kind_with_one_problem() {
    for key in KEYS {
        let mut value = Value::from("no key takes a control character: \u{7}");
        for name in key.path.rsplit('.') {
            let (name, in_list) = name.strip_suffix("[]").map_or((name, false), |name| (name, true));
            let inner = if in_list { Value::from(vec![value]) } else { value };
            value = figment::util::nest(name, inner);
        }
        let figment = figment::Figment::from(figment::providers::Serialized::defaults(value));
        let mut findings = Findings::default();
        check::settle(&figment, &mut findings);
        let found = findings.into_problems();
        assert_eq!(found.len(), 1, "{}\n{found:#?}", key.path);
        assert_eq!(found[0].key(), Some(key.path.replace("[]", "[0]").as_str()));
    }
}

#[test]
fn an_account_id_without_quotes_is_told_to_be_quoted() {
    assert!(problem("targets: [{account_id: 123456789012}]").ends_with("put it in quotes"));
    assert!(problem("targets: [{account_id: 0x10}]").contains("YAML reads this as the number 16"));
    // YAML 1.2 takes digits after a leading zero for a text, so nothing is lost.
    let config = config("targets: [{account_id: 012345678901}]");
    assert_eq!(config.targets[0].account_id.as_ref().map(AccountId::as_str), Some("012345678901"));
}

#[test]
fn texts_that_yaml_reads_as_something_else_are_told_to_be_quoted() {
    for yaml in [
        "{name: 5}",
        "{profile: true}",
        "{labels: {tier: 1}}",
        "{labels: {on: false}}",
        "{jobs: {thing_group_name: 7}}",
    ] {
        assert!(problem(&format!("targets: [{yaml}]")).ends_with("put it in quotes"), "{yaml}");
    }
}

#[test]
fn labels_are_named_as_prometheus_allows_and_the_exporter_has_not_taken() {
    let found = problems("targets: [{labels: {team: a, job_id: b, __x: c, 9a: d, 'a b': e, empty: , list: []}}]");
    assert_eq!(found.len(), 6, "{found:#?}");
    assert!(found.iter().any(|problem| problem.starts_with("exporter.yml: targets[0].labels.job_id: is a label that")));
}

#[test]
fn a_scope_has_known_statuses_each_once() {
    assert_eq!(
        problem("targets: [{jobs: {status: [in_progress]}}]"),
        "exporter.yml: targets[0].jobs.status[0]: \"in_progress\" is not one of IN_PROGRESS, SCHEDULED, \
         DELETION_IN_PROGRESS, COMPLETED, CANCELED; did you mean IN_PROGRESS?"
    );
    assert_eq!(
        problem("targets: [{jobs: {status: [CANCELED, COMPLETED, CANCELED]}}]"),
        "exporter.yml: targets[0].jobs.status[2]: \"CANCELED\" is there already, in targets[0].jobs.status[0]"
    );
    assert!(problem("targets: [{jobs: {status: COMPLETED}}]").contains("is not a list"));
    assert!(problem("targets: [{jobs: {target_selection: snapshot}}]").contains("did you mean SNAPSHOT?"));
    assert_eq!(config("targets: [{jobs: {status: []}}]").targets[0].scope, Scope::default());
}

#[test]
fn lists_that_need_an_item_are_not_empty() {
    assert_eq!(problem("targets: []"), "exporter.yml: targets: is empty; leave it out for the default");
    assert_eq!(
        problem("web: {listen_addresses: []}"),
        "exporter.yml: web.listen_addresses: is empty; leave it out for the default"
    );
    assert!(problem("targets: {name: a}").contains("is a mapping, not a list"));
}

#[test]
fn the_same_address_twice_is_told_in_any_spelling() {
    let found = problem("web: {listen_addresses: ['[::1]:9', ':9', '[0:0::1]:9']}");
    assert!(found.ends_with("\"[0:0::1]:9\" is there already, in web.listen_addresses[0]"), "{found}");
}

#[test]
fn patterns_of_thing_groups_become_a_filter() {
    let groups = config("thing_groups: {include: [factory-1, 'factory-[0-9]+'], exclude: [factory-2]}").thing_groups;
    assert_eq!(groups.filter, group_filter(&["factory-1", "factory-[0-9]+"], &["factory-2"]));
    let kept = |group| (groups.filter.shows(group), groups.filter.never_folds(group));
    assert_eq!(
        (kept("factory-1"), kept("factory-2"), kept("factory-3")),
        ((true, true), (false, false), (true, false))
    );
    assert_eq!(config("thing_groups: {include: [], exclude: }").thing_groups.filter, GroupFilter::default());
}

#[test]
fn a_pattern_that_can_not_be_used_is_told_with_its_item_and_the_reason() {
    assert_eq!(
        problem("thing_groups: {include: [a, 'factory-(']}"),
        "exporter.yml: thing_groups.include[1]: \"factory-(\" is not a pattern: found open group without closing ')'"
    );
    assert_eq!(
        problem("thing_groups: {exclude: ['']}"),
        "exporter.yml: thing_groups.exclude[0]: \"\" is not a pattern: it is empty, and no group has an empty name"
    );
    assert_eq!(
        problem("thing_groups: {exclude: [[a-z]]}"),
        "exporter.yml: thing_groups.exclude[0]: a list is not a pattern: \
         a thing group's name, or a regular expression in quotes"
    );
    assert_eq!(
        problem("thing_groups: {include: factory-1}"),
        "exporter.yml: thing_groups.include: \"factory-1\" is not a list; write [ ] around it"
    );
    assert!(problem("thing_groups: {include: [7]}").ends_with("put it in quotes"));
    assert!(problem("thing_groups: {include: [a, b, a]}").contains("is there already, in thing_groups.include[0]"));
    assert_eq!(problems("thing_groups: {include: ['(', a, '['], exclude: ['*']}").len(), 3);
    let parted = load_variables(&[("THING_GROUPS__INCLUDE", "a{1,3}")]).expect_err("problems");
    assert!(parted.to_string().contains("thing_groups.include[0]: \"a{1\" is not a pattern: "), "{parted}");
}

#[test]
fn thing_groups_are_resolved_in_one_of_three_ways() {
    for (word, resolve) in [("describe", Resolve::Describe), ("summary", Resolve::Summary), ("off", Resolve::Off)] {
        assert_eq!(config(&format!("thing_groups: {{resolve: {word}}}")).thing_groups.resolve, resolve);
    }
    assert!(
        problem("thing_groups: {resolve: Summary}").ends_with("one of describe, summary, off; did you mean summary?")
    );
    assert!(problem("thing_groups: {resolve: false}").ends_with("put it in quotes"));
}

#[test]
fn ended_jobs_may_be_left_out_and_looked_for_through_ten_years() {
    for (text, days) in [("0s", 0), ("3650d", 3650)] {
        let groups = config(&format!("thing_groups: {{ended_jobs_within: {text}}}")).thing_groups;
        assert_eq!(groups.ended_jobs_within, millis(days * 86_400_000));
    }
    assert!(problem("thing_groups: {ended_jobs_within: 3651d}").ends_with("accepted is 0d to 3650d"));
}

#[test]
fn a_boolean_is_true_or_false_and_nothing_like_it() {
    assert_eq!(
        config("jobs: {describe: false, series: false}").jobs,
        Jobs { describe: false, series: false, ..Config::default().jobs }
    );
    assert_eq!(problem("jobs: {describe: yes}"), "exporter.yml: jobs.describe: \"yes\" is not true or false");
    assert_eq!(problem("jobs: {series: 0}"), "exporter.yml: jobs.series: 0 is not true or false");
    let found = load_variables(&[("JOBS__SERIES", "True")]).expect_err("problems");
    assert_eq!(
        found.to_string(),
        "IOT_JOBS_EXPORTER_JOBS__SERIES: jobs.series: \"True\" is not true or false; did you mean true?"
    );
}

#[test]
fn long_running_has_any_number_of_thresholds() {
    let after = |yaml: &str| config(yaml).jobs.long_running_after;
    assert_eq!(after("jobs: {long_running_after: [2d, 1s]}"), [millis(172_800_000), millis(1000)]);
    assert!(after("jobs: {long_running_after: []}").is_empty());
    assert_eq!(after("jobs: {long_running_after: }"), Config::default().jobs.long_running_after);
    let none = load_variables(&[("JOBS__LONG_RUNNING_AFTER", "[]")]).expect("a configuration");
    assert!(none.jobs.long_running_after.is_empty());
}

#[test]
fn a_threshold_is_told_by_its_item_where_it_is_none_or_there_in_another_spelling() {
    let of = |list: &str| problem(&format!("jobs: {{long_running_after: {list}}}"));
    assert_eq!(
        of("[24h, 1d]"),
        "exporter.yml: jobs.long_running_after[1]: \"1d\" is there already, in jobs.long_running_after[0]"
    );
    assert!(of("[1s, 1d, 1s999us]").contains("\"1s999us\" is there already, in jobs.long_running_after[0]"));
    assert_eq!(
        of("[1d, 999ms]"),
        "exporter.yml: jobs.long_running_after[1]: \"999ms\" is out of range; accepted is 1s to 3650d"
    );
    assert!(of("[1d, 60]").contains("jobs.long_running_after[1]: 60 is not a duration"));
    assert_eq!(of("1d"), "exporter.yml: jobs.long_running_after: \"1d\" is not a list; write [ ] around it");
}

#[test]
fn limits_of_rows_go_down_to_none() {
    let limits = config("limits: {max_thing_groups: 0, max_jobs: 100000}").limits;
    assert_eq!((limits.max_thing_groups, limits.max_jobs), (0, 100_000));
    for key in ["max_thing_groups", "max_jobs"] {
        for value in ["-1", "100001"] {
            let found = problem(&format!("limits: {{{key}: {value}}}"));
            assert_eq!(found, format!("exporter.yml: limits.{key}: {value} is out of range; accepted is 0 to 100000"));
        }
    }
}

#[test]
fn a_section_that_is_none_is_told_with_the_keys_that_belong_in_it() {
    assert_eq!(problem("log: info"), "exporter.yml: log: is a text, not a section; the keys in it are level, format");
    assert!(problem("targets: [{jobs: []}]").starts_with("exporter.yml: targets[0].jobs: is a list, not a section"));
}

// Rules between keys.

#[test]
fn data_is_shown_for_an_interval_at_least() {
    assert_eq!(
        problem("refresh: {interval: 10m, stale_after: 5m}"),
        "exporter.yml: refresh.stale_after: 5m is shorter than twice refresh.interval, which is 10m: \
         data would disappear before the next walk ends"
    );
    assert!(load_yaml("refresh: {interval: 10m, stale_after: 19m}").is_err());
    assert!(load_yaml("refresh: {interval: 10m, stale_after: 20m}").is_ok());
    assert!(problem("refresh: {interval: 10, stale_after: 5s}").contains("refresh.interval: 10 is not a duration"));
}

#[test]
fn an_external_id_needs_a_role() {
    assert!(problem("targets: [{external_id: abc}]").contains("targets[0].external_id: is of no use without"));
    assert!(problem("targets: [{external_id: abc, role_arn: nonsense}]").contains("targets[0].role_arn: "));
}

#[test]
fn targets_have_names_of_their_own() {
    let clash = problem("targets: [{name: a}, {region: b}, {name: b, region: c}]");
    assert_eq!(
        clash,
        "exporter.yml: targets[2].name: names this target as targets[1].region names another; \
         give each a name of its own"
    );
    assert!(problem("targets: [{region: a}, {region: a}]").contains("targets[1].region: names this target as"));
    assert!(problem("targets: [{region: a}, {}]").contains("targets[1]: has neither a name nor a region"));
    assert!(load_yaml("targets: [{name: a, region: x}, {name: b, region: x, profile: other}]").is_ok());
    assert!(load_yaml("targets: [{profile: a}]").is_ok());
    assert_eq!(problems("targets: [{region: a}, {account_id: x}]").len(), 2);
}

#[test]
fn a_rule_keeps_silent_where_its_keys_are_at_fault_themselves() {
    for yaml in [
        "targets: [{name: 5, region: a}, {region: a}]",
        "targets: [{region: a}, {regoin: b}]",
        "targets: [{region: a}, {region: B}]",
        "targets: [{region: a}, text]",
        "targets: [{external_id: abc, role_anr: 'arn:aws:iam::012345678901:role/a'}]",
    ] {
        problem(yaml);
    }
}

#[test]
fn data_goes_stale_after_ten_minutes_or_three_times_what_it_takes_to_renew_it() {
    let refresh = Config::default().refresh;
    assert_eq!(refresh.stale_after(Duration::ZERO), millis(600_000));
    assert_eq!(
        refresh.stale_after(millis(240_000)),
        millis(3 * 480_000),
        "a walk longer than the interval is followed by as long a rest"
    );
    let slow = Refresh { interval: millis(600_000), ..refresh.clone() };
    assert_eq!(slow.stale_after(millis(60_000)), millis(3 * 690_000), "an interval with its jitter, and a walk");
    assert_eq!(refresh.stale_after(Duration::MAX), Duration::MAX);
    let fixed = Refresh { stale_after: Some(millis(1)), ..refresh };
    assert_eq!(fixed.stale_after(Duration::MAX), millis(1));
}

#[test]
fn a_secret_is_not_repeated_where_it_stands_in_a_wrong_place_too() {
    for yaml in [
        "targets: [{role_arn: arn:aws:iam::012345678901:role/a, external_id: &id hunter2, account_id: *id}]",
        "targets: [{role_arn: arn:aws:iam::012345678901:role/a, external_id: hunter2}, {region: a, account_id: hunter2}]",
        "targets: [{external_id: 24680, role_arn: arn:aws:iam::012345678901:role/a, account_id: 24680}]",
        "{targets: [{external_id: &id [hunter2 24680]}], jobs: {long_running_after: *id}}",
    ] {
        let told = problems(yaml).join("\n");
        assert!(!told.contains("hunter2") && !told.contains("24680"), "{told}");
    }
}

// Strange input.

#[test]
fn anchors_and_merge_keys_spare_repetition() {
    let config =
        config("targets:\n  - &first {name: a, profile: p, labels: {team: x}}\n  - {<<: *first, name: b, region: x}\n");
    assert_eq!(config.targets[1].profile.as_deref(), Some("p"));
    assert_eq!(config.targets[1].name.as_deref(), Some("b"));
}

#[test]
fn deep_nesting_and_endless_aliases_are_problems() {
    for yaml in
        ["[".repeat(100_000), "a: &a {b: *a}".to_owned(), format!("targets: {}{}", "[".repeat(100), "]".repeat(100))]
    {
        assert!(load_yaml(yaml).is_err());
    }
}

/// A stream of numbers that look random, the same in every run (xorshift64).
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound.max(1)).unwrap_or(1)).unwrap_or(0)
    }
}

#[test]
fn no_mutation_of_a_file_or_variable_makes_loading_panic() {
    const BITS: &[&str] = &[
        "[", "]", "{", "}", ":", "- ", "\n", "&a ", "*a", "<<: ", "!x ", "\"", "'", "\t", "\0", "é", "9", "~", "|\n",
        "? ",
    ];
    let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
    let example = uncommented_example();
    let lines = example.lines().filter(|line| !line.trim_start().starts_with('#'));
    let base: Vec<char> = lines.flat_map(|line| line.chars().chain(['\n'])).collect();
    for round in 0..1500 {
        let mut chars = base.clone();
        for _ in 0..=noise.below(8) {
            let (at, other) = (noise.below(chars.len()), noise.below(chars.len()));
            match noise.below(3) {
                0 => drop(chars.splice(at..at, BITS[noise.below(BITS.len())].chars())),
                1 => drop(chars.drain(at..chars.len().min(at + 20))),
                _ => chars.swap(at, other),
            }
        }
        let text: String = chars.iter().collect();
        let outcome = match round % 2 {
            0 => load_yaml(&text),
            _ => load_variables(&[
                ("TARGETS", &text),
                ("WEB__LISTEN_ADDRESSES", &text),
                ("THING_GROUPS__INCLUDE", &text),
                ("JOBS__LONG_RUNNING_AFTER", &text),
            ]),
        };
        if let Err(found) = outcome {
            assert!(found.iter().all(|problem| !problem.to_string().contains(char::is_control)), "{found}");
        }
    }
}

#[test]
fn every_default_of_the_table_is_valid() {
    let mut findings = Findings::default();
    check::settle(&figment::Figment::new(), &mut findings);
    assert_eq!(findings.into_problems(), []);
}

// Many targets.

fn names(config: &Config) -> Vec<&str> {
    config.targets.iter().filter_map(Target::known_name).collect()
}

#[test]
fn one_item_stands_for_a_target_in_each_region_and_of_each_role() {
    let role = |account: &str| format!("arn:aws:iam::{account}:role/path/reader");
    let (one, two) = (role("012345678901"), role("210987654321"));
    let all = config(&format!(
        "targets: [{{name: all, regions: [eu-west-1, us-east-1], role_arns: ['{one}', '{two}'], external_id: ab}}]"
    ));
    assert_eq!(
        names(&all),
        [
            "all-012345678901-eu-west-1",
            "all-012345678901-us-east-1",
            "all-210987654321-eu-west-1",
            "all-210987654321-us-east-1"
        ]
    );
    let last = &all.targets[3];
    assert_eq!((last.region.as_deref(), last.role_arn.as_deref()), (Some("us-east-1"), Some(two.as_str())));
    assert!(all.targets.iter().all(|target| target.external_id.is_some()));
    assert_eq!(names(&config("targets: [{regions: [eu-west-1, us-east-1]}]")), ["eu-west-1", "us-east-1"]);
    let roles = config(&format!("targets: [{{region: eu-west-1, role_arns: ['{one}', '{two}']}}]"));
    assert_eq!(names(&roles), ["012345678901-eu-west-1", "210987654321-eu-west-1"]);
    let named = config(&format!("targets: [{{name: x, region: eu-west-1, role_arns: ['{one}', '{two}']}}]"));
    assert_eq!(names(&named), ["x-012345678901", "x-210987654321"]);
}

#[test]
fn what_is_said_once_and_for_many_at_the_same_time_is_refused() {
    let role = "arn:aws:iam::012345678901:role/reader";
    assert_eq!(
        problem("targets: [{region: eu-west-1, regions: [us-east-1]}]"),
        "exporter.yml: targets[0].region: can't stand beside targets[0].regions; give one of the two"
    );
    assert_eq!(
        problem(&format!("targets: [{{role_arn: '{role}', role_arns: ['{role}']}}]")),
        "exporter.yml: targets[0].role_arn: can't stand beside targets[0].role_arns; give one of the two"
    );
    assert_eq!(
        problem(&format!("targets: [{{account_id: '012345678901', role_arns: ['{role}']}}]")),
        "exporter.yml: targets[0].account_id: can't stand beside targets[0].role_arns; give one of the two"
    );
    assert_eq!(
        problem("targets: [{use_fips: true, endpoint_url: 'http://localhost:1'}]"),
        "exporter.yml: targets[0].use_fips: can't be had of targets[0].endpoint_url, which is an address of its own"
    );
    assert_eq!(
        problem("targets: [{session_name: me}]"),
        "exporter.yml: targets[0].session_name: is of no use without targets[0].role_arn or targets[0].role_arns; give the role to assume, or leave this out"
    );
}

#[test]
fn two_targets_of_the_same_jobs_are_refused_whatever_they_are_called() {
    let twice = "targets: [{name: a, region: eu-west-1, labels: {x: y}}, {name: b, region: eu-west-1}]";
    assert_eq!(
        problem(twice),
        "exporter.yml: targets[1]: watches the same jobs as targets[0]: each would be counted twice; leave one of them out"
    );
    assert!(problem("targets: [{regions: [eu-west-1]}, {name: b, region: eu-west-1}]").contains("targets[1]: watches"));
    let order = "targets: [{name: a, jobs: {status: [IN_PROGRESS, SCHEDULED]}}, {name: b, jobs: {status: [SCHEDULED, IN_PROGRESS]}}]";
    assert!(problem(order).contains("targets[1]: watches the same jobs as targets[0]"), "{}", problem(order));
    let (role, other) = ("arn:aws:iam::012345678901:role/a/reader", "arn:aws:iam::012345678901:role/b/reader");
    assert_eq!(
        problem(&format!("targets: [{{name: x, role_arns: ['{role}', '{other}']}}]")),
        "exporter.yml: targets[0].role_arns: has two roles of account 012345678901: each job would be counted twice; leave one of them out"
    );
    let by_account =
        format!("targets: [{{name: a, role_arn: '{role}'}}, {{name: b, account_id: '012345678901', profile: p}}]");
    assert!(problem(&by_account).contains("targets[1]: watches the same jobs as targets[0]"));
    let parts = "targets: [{name: a, region: eu-west-1, jobs: {status: [IN_PROGRESS]}}, {name: b, region: eu-west-1, jobs: {status: [COMPLETED]}}]";
    assert_eq!(names(&config(parts)), ["a", "b"]);
}

#[test]
fn every_target_is_one_shards_and_each_shard_has_its_share() {
    let names: Vec<String> = (0..500).map(|n| format!("account-{n}-eu-west-1")).collect();
    for total in 1..=20 {
        let of = |index| names.iter().filter(|name| Shard { index, total }.holds(name)).count();
        let sizes: Vec<usize> = (0..total).map(of).collect();
        assert_eq!(sizes.iter().sum::<usize>(), names.len(), "none is lost, and none is held twice");
        let fair = names.len() / total as usize;
        assert!(sizes.iter().all(|size| (fair / 2..=fair * 7 / 4).contains(size)), "{total} shards: {sizes:?}");
        for name in &names {
            assert_eq!((0..total).filter(|index| Shard { index: *index, total }.holds(name)).count(), 1, "{name}");
        }
    }
}

#[test]
fn a_shard_is_told_by_names_that_never_change_and_watches_no_other_targets() {
    // These are part of what a version promises: two versions side by side must not watch a target twice, or not at all.
    let held = ["eu-west-1", "us-east-1", "production", "staging"]
        .map(|name| (0..7).find(|index| Shard { index: *index, total: 7 }.holds(name)));
    assert_eq!(held, [1, 2, 6, 5].map(Some));
    let sharded = |index: u32| {
        config(&format!(
            "targets: [{{regions: [eu-west-1, us-east-1, eu-central-1, ap-south-1]}}]\nshard: {{index: {index}, total: 2}}"
        ))
    };
    let (first, second) = (sharded(0), sharded(1));
    let mut all = [names(&first), names(&second)].concat();
    all.sort_unstable();
    assert_eq!(all, ["ap-south-1", "eu-central-1", "eu-west-1", "us-east-1"]);
    assert_eq!(
        problem("targets: [{region: a}]\nshard: {index: 2, total: 2}"),
        "exporter.yml: shard.index: is 2, and shard.total is 2: shards are counted from 0"
    );
    assert!(
        problem("shard: {index: 0, total: 2}")
            .contains("shard.total: is 2, and a target that has neither a name nor a region in the configuration belongs to no shard; give it a name")
    );
}
