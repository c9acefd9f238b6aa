//! Tests of [`load`], from sources to configuration or problems.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::key::Field;
use super::sources::{leaves, variable_of};
use std::time::Duration;

use super::*;
use crate::jobs::group_filter::Pattern;
use crate::jobs::{AccountId, Status, TargetSelection};

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

/// The problems of a file with this content, one line each, without the directory.
fn problems(yaml: impl AsRef<[u8]>) -> Vec<String> {
    let files = Files::with(yaml);
    let directory = format!("{}/", files.0.path().display());
    let found = load(&files.sources()).expect_err("problems");
    found.0.iter().map(|problem| problem.to_string().replace(&directory, "")).collect()
}

/// The only problem of a file with this content, without the file and the line.
fn problem(yaml: &str) -> String {
    let found = problems(yaml);
    assert_eq!(found.len(), 1, "{yaml}\n{found:#?}");
    without_place(&found[0]).to_owned()
}

fn without_place(problem: &str) -> &str {
    problem.split_once(": ").map_or(problem, |(_, rest)| rest)
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

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect()
}

fn flag(key: &str, flag: &str, values: &[&str]) -> Flag {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    Flag { key: key.to_owned(), flag: flag.to_owned(), values }
}

// Defaults and the documented file.

#[test]
fn without_sources_there_is_one_target_and_the_documented_defaults() {
    let expected = Config {
        targets: vec![Target::default()],
        shard: Shard { index: 0, total: 1 },
        collectors: Collectors {
            open_jobs: OpenJobs { interval: millis(60_000), stale_after: None },
            all_jobs: AllJobs {
                enabled: true,
                interval: millis(900_000),
                timeout: millis(7_200_000),
                stale_after: None,
            },
            details: Details {
                enabled: true,
                interval: millis(60_000),
                max_interval: millis(600_000),
                stale_after: None,
            },
            executions: Executions { enabled: true, interval: millis(1_800_000), stale_after: None },
            tags: Tags { keys: Vec::new() },
        },
        thing_groups: ThingGroups { include: Vec::new(), exclude: Vec::new() },
        jobs: Jobs {
            series: true,
            ended_within: millis(604_800_000),
            stuck_after: millis(86_400_000),
            stuck_after_windowed: millis(1_209_600_000),
        },
        limits: Limits {
            requests_per_second: 5.0,
            max_pages: 20_000,
            max_thing_groups: 200,
            max_jobs: 500,
            max_ended_jobs: 100,
            things_per_job: 5,
        },
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
fn the_sample_has_the_defaults() {
    assert_eq!(config(reference::sample().as_str()), Config::default());
}

/// The sample with its example uncommented.
fn uncommented_sample() -> String {
    let sample = reference::sample();
    let lines = sample.lines().filter(|line| *line != "  - {}");
    lines.map(|line| if line.starts_with("#  ") { &line[1..] } else { line }.to_owned() + "\n").collect()
}

#[test]
fn the_example_in_the_sample_is_valid() {
    let config = config(&uncommented_sample());
    let [production, plants @ ..] = &config.targets[..] else { panic!("{config:#?}") };
    let plants: Vec<_> = plants.iter().filter_map(Target::known_name).collect();
    assert_eq!(plants, ["plants-012345678901-eu-west-1", "plants-012345678901-eu-central-1"]);
    assert_eq!(production.account_id, AccountId::parse("012345678901").ok());
    assert_eq!(production.external_id.as_ref().map(Secret::expose), Some("example-external-id"));
    assert_eq!(production.scope.statuses, [Status::InProgress, Status::Scheduled]);
    assert_eq!(production.scope.target_selection, Some(TargetSelection::Snapshot));
}

// Sources and their precedence.

#[test]
fn flags_precede_environment_and_file_and_defaults() {
    let files = Files::with(
        "collectors: {all_jobs: {interval: 2m, timeout: 2m}}\nlog: {level: warn, format: json}\nlimits: {max_pages: 7}\n",
    );
    let environment = variables(&[("COLLECTORS__ALL_JOBS__INTERVAL", "3m"), ("LOG__LEVEL", "debug")]);
    let flags = vec![flag("log.level", "--log.level", &["trace"])];
    let config = load(&Sources { environment, flags, ..files.sources() }).expect("a configuration");
    assert_eq!(config.log, Log { level: LogLevel::Trace, format: LogFormat::Json });
    let AllJobs { interval, timeout, .. } = config.collectors.all_jobs;
    assert_eq!((interval, timeout), (millis(180_000), millis(120_000)));
    assert_eq!((config.limits.max_pages, config.limits.requests_per_second), (7, 5.0));
}

#[test]
fn a_list_replaces_that_of_a_lower_source() {
    let files = Files::with("targets: [{name: a}, {name: b}]\nweb: {listen_addresses: [':1', ':2']}\n");
    let flags = vec![flag("web.listen_addresses", "--web.listen-address", &["localhost:3"])];
    let environment = variables(&[("TARGETS", "[{name: c, region: eu-west-1}]")]);
    let config = load(&Sources { environment, flags, ..files.sources() }).expect("a configuration");
    assert_eq!(config.web.listen_addresses, ["localhost:3".parse().expect("an address")]);
    assert_eq!(config.targets.iter().map(Target::known_name).collect::<Vec<_>>(), [Some("c")]);
}

#[test]
fn a_null_in_a_lower_source_hides_nothing() {
    let files = Files::with("collectors: {open_jobs: }\nlog: {level: }\n");
    let environment = variables(&[("COLLECTORS__OPEN_JOBS__INTERVAL", "3m")]);
    let config = load(&Sources { environment, ..files.sources() }).expect("a configuration");
    assert_eq!((config.collectors.open_jobs.interval, config.log.level), (millis(180_000), LogLevel::Info));
}

#[test]
fn every_type_is_read_from_the_environment() {
    let config = load_variables(&[
        ("TARGETS", "[{name: a, account_id: '012345678901', labels: {team: x}}, {region: eu-west-1}]"),
        ("COLLECTORS__OPEN_JOBS__STALE_AFTER", "1d"),
        ("COLLECTORS__DETAILS__ENABLED", "false"),
        ("LIMITS__REQUESTS_PER_SECOND", "0.5"),
        ("LIMITS__MAX_PAGES", "9"),
        ("THING_GROUPS__INCLUDE", "factory-1, site:.*"),
        ("THING_GROUPS__EXCLUDE", "['[a-z]{1,3}']"),
        ("JOBS__SERIES", "true"),
        ("JOBS__ENDED_WITHIN", "2d"),
        ("COLLECTORS__TAGS__KEYS", "team,cost:center"),
        ("WEB__LISTEN_ADDRESSES", "127.0.0.1:1,[::1]:1"),
        ("WEB__TELEMETRY_PATH", "/m"),
        ("LOG__FORMAT", "json"),
    ])
    .expect("a configuration");
    assert_eq!(config.targets[0].account_id.as_ref().map(AccountId::as_str), Some("012345678901"));
    assert_eq!(config.collectors.open_jobs.stale_after, Some(millis(86_400_000)));
    assert!(!config.collectors.details.enabled);
    assert_eq!((config.limits.requests_per_second, config.limits.max_pages), (0.5, 9));
    assert_eq!((config.web.listen_addresses.len(), config.web.telemetry_path.as_str()), (2, "/m"));
    assert_eq!(config.log.format, LogFormat::Json);
    let (include, exclude) = (patterns(&["factory-1", "site:.*"]), patterns(&["[a-z]{1,3}"]));
    assert_eq!(config.thing_groups, ThingGroups { include, exclude });
    assert_eq!(config.jobs, Jobs { ended_within: millis(172_800_000), ..Config::default().jobs });
    assert_eq!(config.collectors.tags.keys, ["team", "cost:center"]);
}

#[test]
fn a_problem_names_the_source_and_the_line_of_the_value() {
    let files = Files::with("# a comment\nlog:\n  level: loud\n");
    let environment = variables(&[("COLLECTORS__OPEN_JOBS__INTERVAL", "60")]);
    let flags = vec![flag("log.format", "--log.format", &["xml"])];
    let found = load(&Sources { environment, flags, ..files.sources() }).expect_err("problems");
    let lines: Vec<_> = found.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "--log.format: log.format: \"xml\" is not one of text, json",
            &format!("{}:3: log.level: \"loud\" is not one of error, warn, info, debug, trace", files.path().display()),
            "IOT_JOBS_EXPORTER_COLLECTORS__OPEN_JOBS__INTERVAL: collectors.open_jobs.interval: \"60\" is not a duration; \
         write a number with a unit, such as 30s, 5m or 1d",
        ]
    );
    let parts: Vec<_> = found.0.iter().map(|problem| (problem.key.as_deref(), problem.source.line)).collect();
    assert_eq!(
        parts,
        [(Some("log.format"), None), (Some("log.level"), Some(3)), (Some("collectors.open_jobs.interval"), None)]
    );
}

// Invalid files.

#[test]
fn keys_without_values_have_the_defaults() {
    for content in ["{}", "collectors:\nweb:\nlog: ~\n", "collectors: {open_jobs: {interval: }}"] {
        assert_eq!(config(content), Config::default(), "{content:?}");
    }
}

#[test]
fn a_file_without_keys_is_a_problem() {
    let expected = "exporter.yml: is empty: it has no keys; write {} if the defaults are meant";
    for content in ["", "\n", " \n", "\u{feff}", "\u{feff}\n", "# a comment\n", "---\n", "---\n...\n", "null", "~\n"] {
        assert_eq!(problems(content), [expected], "{content:?}");
    }
    // A template that lists no target, and a variable with only comments.
    assert_eq!(problem("targets:\n"), "targets: is empty; leave it out for the default");
    let found = load_variables(&[("TARGETS", "# x")]).expect_err("a problem").to_string();
    assert_eq!(found, "IOT_JOBS_EXPORTER_TARGETS: targets: is empty; leave it out for the default");
}

#[test]
fn a_value_instead_of_a_section_is_a_problem_even_with_flags() {
    let files = Files::with("log: debug\nweb: [5]\n");
    let flags = vec![flag("log.format", "--log.format", &["json"]), flag("web.telemetry_path", "--x", &["/x"])];
    let found = load(&Sources { flags, ..files.sources() }).expect_err("problems").to_string();
    assert!(found.contains("yml:1: log: is a single value, not a section; its keys are level, format"), "{found}");
    assert!(found.contains("yml:2: web: is a list, not a section"), "{found}");
}

#[test]
fn a_byte_order_mark_is_accepted_and_utf_16_is_reported() {
    for content in
        ["\u{feff}log: {level: warn}", "\u{feff}---\nlog: {level: warn}\n", "\u{feff}# a comment\nlog: {level: warn}"]
    {
        assert_eq!(config(content).log.level, LogLevel::Warn, "{content:?}");
    }
    let utf16 = |bytes: fn(u16) -> [u8; 2], text: &str| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    for content in [
        utf16(u16::to_le_bytes, "\u{feff}log: {}"),
        utf16(u16::to_be_bytes, "\u{feff}log: {}"),
        utf16(u16::to_le_bytes, "log: {}"),
        utf16(u16::to_be_bytes, "log: {}"),
    ] {
        assert_eq!(problems(&content), ["exporter.yml: is UTF-16; save it as UTF-8"]);
    }
}

#[test]
fn an_unreadable_file_is_a_problem() {
    let files = Files::with("{}");
    for path in [files.0.path().join("missing.yml"), files.0.path().to_owned(), Path::new("nul\0.yml").to_owned()] {
        let found = load(&Sources { file: Some(path), ..Sources::default() }).expect_err("problems");
        assert!(found.to_string().contains(": cannot be read: ") && found.0.len() == 1, "{found}");
    }
}

#[test]
fn a_binary_or_too_large_file_is_a_problem() {
    assert_eq!(problems(b"log:\n  level: \xff\n"), ["exporter.yml: is not UTF-8; the first invalid byte is number 15"]);
    assert!(problems(vec![b'#'; (1 << 20) + 1])[0].contains("larger than 1048576 bytes"));
}

#[test]
fn a_file_without_a_mapping_at_its_root_is_a_problem() {
    for (content, sort) in [("- a\n- b\n", "a list"), ("hello\n", "a single value"), ("5\n", "a single value")] {
        assert_eq!(problem(content), format!("is {sort}, not sections with keys"));
    }
}

#[test]
fn a_text_that_is_not_yaml_is_reported_with_its_line() {
    assert!(problems("log:\n  level: [info\n")[0].starts_with("exporter.yml:3: is not YAML: "));
    assert!(problems("log:\n\tlevel: info\n")[0].starts_with("exporter.yml:2: is not YAML: "));
    assert!(problems("log: a: b\n")[0].starts_with("exporter.yml:1: is not YAML: "));
    assert_eq!(problems("log: {level: info}\nlog: {level: warn}\n"), ["exporter.yml:2: log: is given twice; keep one"]);
    assert_eq!(problems("\n[5]: x\n"), ["exporter.yml:2: has a key that is not a name"]);
}

#[test]
fn other_sources_are_checked_even_if_the_file_is_not_yaml() {
    let files = Files::with("log: [");
    let environment = variables(&[("LOG__LEVEL", "loud")]);
    let found = load(&Sources { environment, ..files.sources() }).expect_err("problems");
    assert_eq!(found.0.len(), 2, "{found}");
}

// All problems at once.

#[test]
fn six_different_faults_are_six_problems_with_their_lines() {
    let found = problems(
        "jobs:\n  ended_witin: 1d\n  ended_within: 60\nlimits:\n  max_pages: 0\nlog:\n  level: warn\n  level: info\n\
         targets:\n  - name: a\n    account_id: 1234\n    external_id: hunter2\n",
    );
    assert_eq!(
        found,
        [
            "exporter.yml:2: jobs.ended_witin: unknown key; did you mean jobs.ended_within?",
            "exporter.yml:3: jobs.ended_within: \"60\" is not a duration; write a number with a unit, such as 30s, 5m or 1d",
            "exporter.yml:5: limits.max_pages: \"0\" is out of range; accepted: 1 to 1000000",
            "exporter.yml:8: log.level: is given twice; keep one",
            "exporter.yml:11: targets[0].account_id: \"1234\" is not an account id of 12 digits",
            "exporter.yml:12: targets[0].external_id: \
             has no effect without targets[0].role_arn or targets[0].role_arns; give the role, or remove this",
        ]
    );
}

#[test]
fn the_web_configuration_is_checked_even_if_the_configuration_is_invalid() {
    let files = Files::with("log: {level: loud}\nweb: {config_file: /nonexistent/web.yml}\n");
    let found = load_all(&files.sources()).expect_err("problems").to_string();
    assert!(found.contains("log.level: ") && found.contains("/nonexistent/web.yml: cannot be read: "), "{found}");
}

// Unknown keys.

#[test]
fn an_unknown_key_is_reported_with_the_nearest_known_one() {
    for (yaml, hint) in [
        ("limits: {max_page: 1}", "limits.max_page: unknown key; did you mean limits.max_pages?"),
        ("interval: 1m", "interval: unknown key; did you mean collectors.open_jobs.interval?"),
        ("colectors: {interval: 1m, x: 5}", "colectors: unknown key; did you mean collectors?"),
        ("targets: [{}, {regoin: x}]", "targets[1].regoin: unknown key; did you mean targets[1].region?"),
        ("targets: [{timeout: x}]", "targets[0].timeout: unknown key; did you mean collectors.all_jobs.timeout?"),
        (
            "targets: [{collectors: {details: {intervals: }}}]",
            "targets[0].collectors.details.intervals: unknown key; did you mean targets[0].collectors.details.interval?",
        ),
        ("thing_groups: {includes: []}", "thing_groups.includes: unknown key; did you mean thing_groups.include?"),
        ("thing_group: {}", "thing_group: unknown key; did you mean thing_groups?"),
        ("job: {}", "job: unknown key; did you mean jobs?"),
        ("jobs: {status: []}", "jobs.status: unknown key; did you mean targets[].filter.status?"),
        ("targets: [{jobs: {status: []}}]", "targets[0].jobs: unknown key; did you mean jobs?"),
        ("targets: [{filter: {series: false}}]", "targets[0].filter.series: unknown key; did you mean jobs.series?"),
        ("log: {colour: x}", "log.colour: unknown key; known here: level, format"),
        ("\"log.level\": info", "\"log.level\": unknown key; did you mean log.level?"),
        ("targets: [{\"\": x}]", "targets[0].\"\": unknown key; known here: name, region, "),
    ] {
        let found = problems(yaml);
        assert!(found.iter().any(|problem| without_place(problem).starts_with(hint)), "{yaml}\n{found:#?}");
    }
}

// Secrets.

#[test]
fn no_problem_contains_a_secret() {
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
        "targets: [{filter: hunter2}]",
        "collectors: hunter2",
        "hunter2",
        "targets: [{endpoint_url: 'https://user:hunter2@host'}]",
        "targets: [{endpoint_url: 'user:hunter2@host'}]",
        "targets: [{endpoint_url: 'https://host/?signature=hunter2'}]",
    ] {
        let found = load_yaml(yaml).expect_err(yaml);
        assert!(!format!("{found} {found:?} {found:#?}").contains("hunter2"), "{yaml}\n{found}");
    }
    let variable =
        load_variables(&[("TARGETS", "{external_id: hunter2}"), ("TARGET", "hunter2")]).expect_err("problems");
    assert!(!variable.to_string().contains("hunter2"), "{variable}");
}

#[test]
fn no_debug_output_contains_a_secret() {
    let yaml = "targets: [{role_arn: 'arn:aws:iam::012345678901:role/a', external_id: hunter2}]";
    let config = config(yaml);
    assert_eq!(config.targets[0].external_id.as_ref().map(Secret::expose), Some("hunter2"));
    assert!(!format!("{config:?} {config:#?}").contains("hunter2"));
}

// Single keys.

/// All keys with their paths, those of targets included.
fn all_keys(fields: &[Field], section: &str, keys: &mut Vec<(String, bool)>) {
    for field in fields {
        let path = if section.is_empty() { field.name.to_owned() } else { format!("{section}.{}", field.name) };
        match &field.info.shape {
            Shape::Section(fields) => all_keys(fields, &path, keys),
            Shape::Sections(fields) => all_keys(fields, &format!("{path}[0]"), keys),
            Shape::Scalar { .. } => keys.push((path, false)),
            Shape::List { .. } | Shape::Mapping { .. } => keys.push((path, true)),
        }
    }
}

#[test]
fn every_key_refuses_an_invalid_value_with_one_problem() {
    let mut keys = Vec::new();
    all_keys(&Config::fields(), "", &mut keys);
    assert!(keys.len() > 35, "{keys:?}");
    for (path, is_many) in keys {
        let value = if is_many { "5" } else { "\"no key accepts a control character: \\a\"" };
        let yaml = path.rsplit('.').fold(value.to_owned(), |inner, name| match name.strip_suffix("[0]") {
            Some(name) => format!("{{{name}: [{inner}]}}"),
            None => format!("{{{name}: {inner}}}"),
        });
        let found = load_yaml(&yaml).expect_err(&yaml);
        assert_eq!(
            found.0.iter().map(|problem| problem.key.as_deref()).collect::<Vec<_>>(),
            [Some(path.as_str())],
            "{found}"
        );
    }
}

#[test]
fn texts_need_no_quotes() {
    let config = config("targets: [{name: 5, profile: true, account_id: 012345678901, labels: {tier: 1, on: false}}]");
    let target = &config.targets[0];
    assert_eq!((target.name.as_deref(), target.profile.as_deref()), (Some("5"), Some("true")));
    assert_eq!(target.account_id.as_ref().map(AccountId::as_str), Some("012345678901"));
    assert_eq!((target.labels["tier"].as_str(), target.labels["on"].as_str()), ("1", "false"));
    assert!(problem("targets: [{account_id: 0x10}]").contains("\"0x10\" is not an account id"));
}

#[test]
fn label_names_are_valid_and_not_reserved() {
    let found = problems("targets: [{labels: {team: a, job_id: b, __x: c, 9a: d, 'a b': e, empty: , list: []}}]");
    assert_eq!(found.len(), 6, "{found:#?}");
    assert!(
        found.iter().any(|problem| problem.contains("targets[0].labels.job_id: is a label that the exporter sets"))
    );
    for name in ["job", "instance", "namespace", "pod", "container", "endpoint", "service", "node"] {
        let expected =
            format!("targets[0].labels.{name}: is a label that Prometheus attaches itself; choose another name");
        assert_eq!(problem(&format!("targets: [{{labels: {{{name}: plant-1}}}}]")), expected);
    }
}

#[test]
fn the_length_and_the_number_of_labels_are_limited() {
    let labels = |count: usize| {
        let labels: Vec<_> = (0..count).map(|n| format!("l{n}: x")).collect();
        format!("targets: [{{labels: {{{}}}}}]", labels.join(", "))
    };
    assert_eq!(config(&labels(16)).targets[0].labels.len(), 16);
    assert_eq!(problem(&labels(200)), "targets[0].labels: has 200 labels; a target has at most 16");
    let long = problem(&format!("targets: [{{labels: {{note: {}}}}}]", "x".repeat(10_240)));
    assert!(long.ends_with("has 10240 characters; a label's value has at most 256") && long.len() < 300, "{long}");
}

#[test]
fn a_scope_has_known_statuses_each_once() {
    assert_eq!(
        problem("targets: [{filter: {status: [in_progress]}}]"),
        "targets[0].filter.status[0]: \"in_progress\" is not one of IN_PROGRESS, SCHEDULED, \
         DELETION_IN_PROGRESS, COMPLETED, CANCELED; did you mean IN_PROGRESS?"
    );
    assert_eq!(
        problem("targets: [{filter: {status: [CANCELED, COMPLETED, CANCELED]}}]"),
        "targets[0].filter.status[2]: \"CANCELED\" is given already, in targets[0].filter.status[0]"
    );
    assert!(problem("targets: [{filter: {status: COMPLETED}}]").contains("is not a list"));
    assert!(problem("targets: [{filter: {target_selection: snapshot}}]").contains("did you mean SNAPSHOT?"));
    assert_eq!(config("targets: [{filter: {status: []}}]").targets[0].scope, Scope::default());
}

#[test]
fn lists_that_need_an_item_are_not_empty() {
    assert_eq!(problem("targets: []"), "targets: is empty; leave it out for the default");
    assert_eq!(problem("web: {listen_addresses: []}"), "web.listen_addresses: is empty; leave it out for the default");
    assert!(problem("targets: {name: a}").contains("is a mapping, not a list"));
}

#[test]
fn a_repeated_address_is_reported_in_any_spelling() {
    let found = problem("web: {listen_addresses: ['[::1]:9', ':9', '[0:0::1]:9']}");
    assert!(found.ends_with("\"[0:0::1]:9\" is given already, in web.listen_addresses[0]"), "{found}");
}

#[test]
fn patterns_of_thing_groups_become_a_filter() {
    let groups = config("thing_groups: {include: [factory-1, 'factory-[0-9]+'], exclude: [factory-2]}").thing_groups;
    let filter = groups.filter();
    assert_eq!(filter, GroupFilter::new(&patterns(&["factory-1", "factory-[0-9]+"]), &patterns(&["factory-2"])));
    let kept = |group| (filter.shows(group), filter.never_folds(group));
    assert_eq!(
        (kept("factory-1"), kept("factory-2"), kept("factory-3")),
        ((true, true), (false, false), (true, false))
    );
    assert_eq!(config("thing_groups: {include: [], exclude: }").thing_groups.filter(), GroupFilter::default());
}

#[test]
fn an_invalid_pattern_is_reported_with_its_item_and_the_reason() {
    assert_eq!(
        problem("thing_groups: {include: [a, 'factory-(']}"),
        "thing_groups.include[1]: \"factory-(\" is not a pattern: found open group without closing ')'"
    );
    assert_eq!(
        problem("thing_groups: {exclude: ['']}"),
        "thing_groups.exclude[0]: \"\" is not a pattern: it is empty, and no group has an empty name"
    );
    assert_eq!(
        problem("thing_groups: {exclude: [[a-z]]}"),
        "thing_groups.exclude[0]: a list is not a pattern: \
         a thing group's name, or a regular expression in quotes"
    );
    assert_eq!(
        problem("thing_groups: {include: factory-1}"),
        "thing_groups.include: \"factory-1\" is not a list; write [ ] around it"
    );
    assert!(problem("thing_groups: {include: [a, b, a]}").contains("is given already, in thing_groups.include[0]"));
    assert_eq!(problems("thing_groups: {include: ['(', a, '['], exclude: ['*']}").len(), 3);
    let parted = load_variables(&[("THING_GROUPS__INCLUDE", "a{1,3}")]).expect_err("problems");
    assert!(parted.to_string().contains("thing_groups.include[0]: \"a{1\" is not a pattern: "), "{parted}");
}

#[test]
fn ended_within_ranges_from_zero_to_ten_years() {
    for (text, days) in [("0s", 0), ("3650d", 3650)] {
        assert_eq!(config(&format!("jobs: {{ended_within: {text}}}")).jobs.ended_within, millis(days * 86_400_000));
    }
    assert!(problem("jobs: {ended_within: 3651d}").ends_with("accepted: 0d to 3650d"));
}

#[test]
fn a_boolean_is_only_true_or_false() {
    assert_eq!(config("jobs: {series: false}").jobs, Jobs { series: false, ..Config::default().jobs });
    assert_eq!(problem("jobs: {series: yes}"), "jobs.series: \"yes\" is not true or false");
    assert_eq!(problem("jobs: {series: 0}"), "jobs.series: \"0\" is not true or false");
    let found = load_variables(&[("JOBS__SERIES", "True")]).expect_err("problems");
    assert_eq!(
        found.to_string(),
        "IOT_JOBS_EXPORTER_JOBS__SERIES: jobs.series: \"True\" is not true or false; did you mean true?"
    );
}

#[test]
fn limits_of_rows_can_be_zero() {
    let limits = config("limits: {max_thing_groups: 0, max_jobs: 100000}").limits;
    assert_eq!((limits.max_thing_groups, limits.max_jobs), (0, 100_000));
    for key in ["max_thing_groups", "max_jobs"] {
        for value in ["-1", "100001"] {
            let found = problem(&format!("limits: {{{key}: {value}}}"));
            assert_eq!(found, format!("limits.{key}: \"{value}\" is out of range; accepted: 0 to 100000"));
        }
    }
}

#[test]
fn a_value_instead_of_a_section_is_reported_with_its_keys() {
    assert_eq!(problem("log: info"), "log: is a single value, not a section; its keys are level, format");
    assert!(problem("targets: [{filter: []}]").starts_with("targets[0].filter: is a list, not a section"));
}

// Rules between keys.

#[test]
fn data_is_shown_for_an_interval_at_least() {
    assert_eq!(
        problem("collectors: {all_jobs: {interval: 10m, stale_after: 5m}}"),
        "collectors.all_jobs.stale_after: 5m is shorter than twice collectors.all_jobs.interval, which is 10m: \
         data would disappear before it is renewed"
    );
    assert!(load_yaml("collectors: {open_jobs: {interval: 10m, stale_after: 19m}}").is_err());
    assert!(load_yaml("collectors: {open_jobs: {interval: 10m, stale_after: 20m}}").is_ok());
    assert!(
        problem("collectors: {open_jobs: {interval: 10, stale_after: 5s}}")
            .contains("open_jobs.interval: \"10\" is not a duration")
    );
}

#[test]
fn an_external_id_needs_a_role() {
    assert!(problem("targets: [{external_id: abc}]").contains("targets[0].external_id: has no effect without"));
    assert!(problem("targets: [{external_id: abc, role_arn: nonsense}]").contains("targets[0].role_arn: "));
}

#[test]
fn targets_have_unique_names() {
    let clash = problem("targets: [{name: a}, {region: us-east-1}, {name: us-east-1, region: eu-west-1}]");
    assert_eq!(clash, "targets[2].name: \"us-east-1\" is the name of targets[1] too; give each target its own name");
    assert!(
        problem("targets: [{region: eu-west-1}, {region: eu-west-1, profile: p}]")
            .contains("targets[1].region: \"eu-west-1\" is the name of targets[0] too")
    );
    assert!(problem("targets: [{region: eu-west-1}, {}]").contains("targets[1]: has neither name nor region"));
    assert!(load_yaml("targets: [{name: a, region: us-east-1}, {name: b, region: us-east-1, profile: other}]").is_ok());
    assert!(load_yaml("targets: [{profile: a}]").is_ok());
    assert_eq!(problems("targets: [{region: eu-west-1}, {account_id: x}]").len(), 2);
}

#[test]
fn a_rule_is_skipped_if_its_keys_are_invalid() {
    for yaml in [
        "targets: [{name: 5, region: eu-west-1}, {region: eu-west-1}]",
        "targets: [{region: eu-west-1}, {regoin: us-east-1}]",
        "targets: [{region: eu-west-1}, {region: EU}]",
        "targets: [{region: eu-west-1}, text]",
        "targets: [{external_id: abc, role_anr: 'arn:aws:iam::012345678901:role/a'}]",
        "targets: [{name: a, region: eu-west-1}, {name: b, region: eu-west-1, profil: x}]",
    ] {
        problem(yaml);
    }
}

#[test]
fn a_problem_in_one_key_hides_none_in_another() {
    let labels = problems(
        "targets: [{name: a, region: eu-west-1, labels: {job: x}}, {name: b, region: eu-west-1, session_name: '!'}]",
    );
    assert!(
        labels.iter().any(|problem| problem.contains("targets[1]: monitors the same jobs as targets[0]")),
        "{labels:?}"
    );
    let unknown = problems("targets: [{regoin: eu-west-1, external_id: abcd, foo: 1}]");
    assert!(unknown.iter().any(|problem| problem.contains("external_id: has no effect without")), "{unknown:?}");
    let role = |name: &str| format!("'arn:aws:iam::012345678901:role/{name}'");
    let roles = problems(format!("targets: [{{name: a, region: Global, role_arns: [{}, {}]}}]", role("x"), role("y")));
    assert!(roles.iter().any(|problem| problem.contains("has two roles of account 012345678901")), "{roles:?}");
}

#[test]
fn a_secret_in_a_wrong_position_is_not_repeated() {
    for yaml in [
        "targets: [{role_arn: arn:aws:iam::012345678901:role/a, external_id: &id hunter2, account_id: *id}]",
        "targets: [{role_arn: arn:aws:iam::012345678901:role/a, external_id: hunter2}, {region: eu-west-1, account_id: hunter2}]",
        "targets: [{external_id: 24680, role_arn: arn:aws:iam::012345678901:role/a, account_id: 24680}]",
        "{targets: [{external_id: &id [hunter2 24680]}], thing_groups: {include: *id}}",
        "targets: [{external_id: hunter2-24680, session_name: 'hunter2-24680!', role_arn: hunter2-24680/x, region: hunter2}]",
    ] {
        let reported = problems(yaml).join("\n");
        assert!(!reported.contains("hunter2") && !reported.contains("24680"), "{reported}");
    }
}

// Unusual input.

#[test]
fn anchors_and_merge_keys_work() {
    let config = config(
        "targets:\n  - &first {name: a, profile: p, labels: {team: x}}\n  - {<<: *first, name: b, region: us-east-1}\n",
    );
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

/// Pseudo-random numbers, the same in every run (xorshift64).
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
fn no_mutation_of_a_file_or_variable_causes_a_panic() {
    const BITS: &[&str] = &[
        "[", "]", "{", "}", ":", "- ", "\n", "&a ", "*a", "<<: ", "!x ", "\"", "'", "\t", "\0", "é", "9", "~", "|\n",
        "? ",
    ];
    let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
    let example = uncommented_sample();
    let lines = example.lines().filter(|line| !line.trim_start().starts_with('#'));
    let base: Vec<char> = lines.flat_map(|line| line.chars().chain(['\n'])).collect();
    for round in 0..500 {
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
                ("THING_GROUPS__EXCLUDE", &text),
            ]),
        };
        if let Err(found) = outcome {
            assert!(found.0.iter().all(|problem| !problem.to_string().contains(char::is_control)), "{found}");
        }
    }
}

// Many targets.

fn names(config: &Config) -> Vec<&str> {
    config.targets.iter().filter_map(Target::known_name).collect()
}

#[test]
fn one_item_represents_a_target_for_each_region_and_role() {
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
fn single_and_multiple_values_cannot_be_combined() {
    let role = "arn:aws:iam::012345678901:role/reader";
    assert_eq!(
        problem("targets: [{region: eu-west-1, regions: [us-east-1]}]"),
        "targets[0].region: cannot be combined with targets[0].regions; give one of the two"
    );
    assert_eq!(
        problem(&format!("targets: [{{role_arn: '{role}', role_arns: ['{role}']}}]")),
        "targets[0].role_arn: cannot be combined with targets[0].role_arns; give one of the two"
    );
    assert_eq!(
        problem(&format!("targets: [{{account_id: '012345678901', role_arns: ['{role}']}}]")),
        "targets[0].account_id: cannot be combined with targets[0].role_arns; give one of the two"
    );
    assert_eq!(
        problem("targets: [{use_fips: true, endpoint_url: 'http://localhost:1'}]"),
        "targets[0].use_fips: cannot be combined with targets[0].endpoint_url"
    );
    assert_eq!(
        problem("targets: [{session_name: me}]"),
        "targets[0].session_name: has no effect without targets[0].role_arn or targets[0].role_arns; give the role, or remove this"
    );
}

#[test]
fn two_targets_with_the_same_jobs_are_refused() {
    let twice = "targets: [{name: a, region: eu-west-1, labels: {x: y}}, {name: b, region: eu-west-1}]";
    assert_eq!(problem(twice), "targets[1]: monitors the same jobs as targets[0]: each would count twice; remove one");
    assert!(
        problem("targets: [{regions: [eu-west-1]}, {name: b, region: eu-west-1}]").contains("targets[1]: monitors")
    );
    let order = "targets: [{name: a, filter: {status: [IN_PROGRESS, SCHEDULED]}}, {name: b, filter: {status: [SCHEDULED, IN_PROGRESS]}}]";
    assert!(problem(order).contains("targets[1]: monitors the same jobs as targets[0]"), "{}", problem(order));
    let (role, other) = ("arn:aws:iam::012345678901:role/a/reader", "arn:aws:iam::012345678901:role/b/reader");
    assert_eq!(
        problem(&format!("targets: [{{name: x, role_arns: ['{role}', '{other}']}}]")),
        "targets[0].role_arns: has two roles of account 012345678901: each job would count twice; remove one"
    );
    let by_account =
        format!("targets: [{{name: a, role_arn: '{role}'}}, {{name: b, account_id: '012345678901', profile: p}}]");
    assert!(problem(&by_account).contains("targets[1]: monitors the same jobs as targets[0]"));
    let parts = "targets: [{name: a, region: eu-west-1, filter: {status: [IN_PROGRESS]}}, {name: b, region: eu-west-1, filter: {status: [COMPLETED]}}]";
    assert_eq!(names(&config(parts)), ["a", "b"]);
}

#[test]
fn each_target_belongs_to_one_shard() {
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
fn the_shard_of_a_name_never_changes() {
    // These are a promise of each version: two versions side by side must neither monitor a target twice nor omit it.
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
        problem("targets: [{region: eu-west-1}]\nshard: {index: 2, total: 2}"),
        "shard.index: is 2, and shard.total is 2: shards are counted from 0"
    );
    assert!(
        problem("shard: {index: 0, total: 2}")
            .contains("shard.total: is 2, but a target has neither name nor region in the configuration, so it belongs to no shard; give it a name")
    );
}

// Filters.

#[test]
fn a_filter_that_matches_nothing_is_refused() {
    for group in ["thing_group_name: line-1", "thing_group_id: 0a-1b"] {
        let key = group.split(':').next().expect("a key");
        assert_eq!(
            problem(&format!("targets: [{{filter: {{status: [SCHEDULED], {group}}}}}]")),
            format!(
                "targets[0].filter.status: matches nothing: AWS omits SCHEDULED jobs when targets[0].filter.{key} is set; \
                 add another status, or remove one of the two"
            )
        );
        assert!(load_yaml(format!("targets: [{{filter: {{status: [SCHEDULED, IN_PROGRESS], {group}}}}}]")).is_ok());
        assert!(load_yaml(format!("targets: [{{filter: {{{group}}}}}]")).is_ok());
    }
    assert!(load_yaml("targets: [{filter: {status: [SCHEDULED]}}]").is_ok());
    let both = problem("targets: [{filter: {thing_group_name: a, thing_group_id: b}}]");
    assert!(both.contains("thing_group_name: cannot be combined with targets[0].filter.thing_group_id"), "{both}");
}

#[test]
fn a_filter_by_group_id_is_passed_on() {
    let config = config("targets: [{filter: {thing_group_id: 12345678-abcd}}]");
    assert_eq!(config.targets[0].scope.thing_group_id.as_deref(), Some("12345678-abcd"));
    assert!(problem("targets: [{filter: {thing_group_id: a_b}}]").contains("is not a thing group's id"));
}

// AWS settings.

/// The problems of a configuration file with this environment, on a machine with one AWS profile.
fn aws_problems(yaml: &str, environment: &[(&str, &str)]) -> Vec<String> {
    aws_problems_with(yaml, environment, Vec::new)
}

/// The same, with these sources of trusted certificates without a usable one.
fn aws_problems_with(yaml: &str, environment: &[(&str, &str)], trust: impl Fn() -> Vec<TrustProblem>) -> Vec<String> {
    let files = Files::with(yaml);
    let environment = environment.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let aws_profiles = Some(AwsProfiles {
        searched: vec!["/home/a/.aws/config".to_owned(), "/home/a/.aws/credentials (does not exist)".to_owned()],
        names: ["monitoring", "china", "wrong", "chained", "private"].map(str::to_owned).into(),
        problems: Vec::new(),
        properties: [
            ("monitoring", "endpoint_url", "http://localhost:4566"),
            ("china", "region", "cn-north-1"),
            ("wrong", "region", "Global"),
            ("chained", "source_profile", "gone"),
            ("private", "ca_bundle", "ca.pem"),
        ]
        .map(|(profile, property, value)| ((profile.to_owned(), property.to_owned()), value.to_owned()))
        .into(),
        trust: trust(),
    });
    let directory = format!("{}/", files.0.path().display());
    match load(&Sources { environment, aws_profiles, ..files.sources() }) {
        Ok(_) => Vec::new(),
        Err(found) => found.0.iter().map(|problem| problem.to_string().replace(&directory, "")).collect(),
    }
}

#[test]
fn a_profile_that_does_not_exist_is_reported_with_the_files_that_were_searched() {
    let not_found = "profile \"gone\" not found in /home/a/.aws/config, /home/a/.aws/credentials (does not exist)";
    assert_eq!(
        aws_problems("targets:\n  - profile: gone\n", &[]),
        [format!("exporter.yml:2: targets[0].profile: {not_found}")]
    );
    assert_eq!(aws_problems("{}", &[("AWS_PROFILE", "gone")]), [format!("AWS_PROFILE: {not_found}")]);
    for (yaml, environment) in [
        ("targets: [{profile: monitoring}]", ("AWS_PROFILE", "gone")),
        ("{}", ("AWS_PROFILE", "monitoring")),
        ("{}", ("AWS_PROFILE", "")),
        ("{}", ("AWS_PROFILE", "default")),
    ] {
        assert_eq!(aws_problems(yaml, &[environment]), [""; 0], "{yaml} {environment:?}");
    }
    for (profile, reason) in [
        ("wrong", "region of profile \"wrong\": \"Global\" is not a region, such as eu-west-1 or us-gov-west-1"),
        (
            "chained",
            "source_profile \"gone\" of profile \"chained\" not found in /home/a/.aws/config, \
             /home/a/.aws/credentials (does not exist)",
        ),
    ] {
        assert_eq!(aws_problems("{}", &[("AWS_PROFILE", profile)]), [format!("AWS_PROFILE: {reason}")]);
    }
    let role = "role_arn: 'arn:aws:iam::012345678901:role/x'";
    let china = aws_problems(&format!("targets: [{{profile: china, {role}}}]"), &[("AWS_REGION", "eu-west-1")]);
    assert!(china.len() == 1 && china[0].contains("region cn-north-1 is in aws-cn"), "{china:?}");
}

#[test]
fn certificates_are_checked_if_a_target_needs_them() {
    let of_profile = || TrustProblem { profile: Some("private".to_owned()), ..TrustProblem::new("a", "no".to_owned()) };
    let of_variable = || TrustProblem::new("b", "no".to_owned());
    let of_system = || TrustProblem { is_of_system: true, ..TrustProblem::new("c", "no".to_owned()) };
    let problems = |yaml: &str, environment: &[(&str, &str)]| {
        aws_problems_with(yaml, environment, || vec![of_profile(), of_variable(), of_system()])
    };
    let private = "targets: [{profile: private, region: eu-west-1}]";
    assert_eq!(problems("{}", &[]), ["b: no", "c: no"]);
    assert_eq!(problems(private, &[]), ["a: no"]);
    assert_eq!(problems("{}", &[("AWS_PROFILE", "private")]), ["a: no"]);
    let both = "targets: [{profile: private, name: a, region: eu-west-1}, {name: b, region: us-east-1}]";
    assert_eq!(problems(both, &[]), ["a: no", "b: no", "c: no"]);
    for (yaml, environment) in
        [("{}", &[("AWS_ENDPOINT_URL", "http://a.test")][..]), ("targets: [{endpoint_url: 'http://a.test'}]", &[])]
    {
        assert_eq!(problems(yaml, environment), ["b: no"], "{yaml}");
    }
    let bundle = aws_problems_with(private, &[("AWS_CA_BUNDLE", "x")], || vec![of_variable()]);
    assert_eq!(bundle, ["b: no"], "the environment's comes before the profile's");
}

#[test]
fn a_region_from_the_environment_is_checked_if_a_target_uses_it() {
    for (region, reason) in [
        ("Global", "\"Global\" is not a region, such as eu-west-1 or us-gov-west-1"),
        (" eu-west-1", "\" eu-west-1\" is not a region, such as eu-west-1 or us-gov-west-1"),
        ("eu-west-1a", "\"eu-west-1a\" is an availability zone; the region is eu-west-1"),
    ] {
        assert_eq!(aws_problems("{}", &[("AWS_REGION", region)]), [format!("AWS_REGION: {reason}")]);
        let default = [("AWS_REGION", ""), ("AWS_DEFAULT_REGION", region)];
        assert_eq!(aws_problems("{}", &default), [format!("AWS_DEFAULT_REGION: {reason}")]);
        assert_eq!(aws_problems("targets: [{region: eu-west-1}]", &default), [""; 0]);
    }
    assert!(problem("targets: [{region: eu-west-1a}]").ends_with("is an availability zone; the region is eu-west-1"));
    assert!(problem("targets: [{region: Global}]").ends_with("is not a region, such as eu-west-1 or us-gov-west-1"));
}

#[test]
fn a_role_and_its_region_are_of_one_partition() {
    for (partition, region, of_region) in [
        ("aws-cn", "eu-west-1", "aws"),
        ("aws", "cn-north-1", "aws-cn"),
        ("aws", "us-gov-west-1", "aws-us-gov"),
        ("aws-us-gov", "us-east-1", "aws"),
    ] {
        let role = format!("arn:{partition}:iam::012345678901:role/x");
        let reason = format!(
            "is a role in partition {partition}, but region {region} is in {of_region}; a role works in its own partition only"
        );
        assert_eq!(
            aws_problems(&format!("targets: [{{region: {region}, role_arn: '{role}'}}]"), &[]),
            [format!("exporter.yml:1: targets[0].role_arn: {reason}")]
        );
        assert_eq!(
            aws_problems(&format!("targets: [{{role_arns: ['{role}']}}]"), &[("AWS_REGION", region)]),
            [format!("exporter.yml:1: targets[0].role_arns: {reason}")]
        );
    }
    let role = "arn:aws-cn:iam::012345678901:role/x";
    assert_eq!(aws_problems(&format!("targets: [{{region: cn-north-1, role_arn: '{role}'}}]"), &[]), [""; 0]);
}

#[test]
fn endpoints_and_proxies_of_the_environment_are_checked_without_showing_them() {
    for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_IOT", "AWS_ENDPOINT_URL_STS"] {
        let found = aws_problems("{}", &[(name, "127.0.0.1:4566")]);
        assert!(
            found.len() == 1 && found[0].starts_with(&format!("{name}: is not an http:// or https:// URL")),
            "{found:?}"
        );
        assert_eq!(aws_problems("{}", &[(name, "http://127.0.0.1:4566")]), [""; 0]);
        assert_eq!(aws_problems("{}", &[(name, "")]), [""; 0]);
        assert_eq!(aws_problems("targets: [{endpoint_url: 'http://a'}]", &[(name, "x")]), [""; 0], "not used");
    }
    for name in ["HTTP_PROXY", "https_proxy", "ALL_PROXY"] {
        let scheme = aws_problems("{}", &[(name, "ftp://proxy:21")]);
        assert_eq!(scheme, [format!("{name}: has the scheme \"ftp\"; only http and https proxies are supported")]);
        let secret = aws_problems("{}", &[(name, "http://u:hunter2 ü@proxy")]).concat();
        assert!(secret.contains("is not a URL such as http://proxy:3128") && !secret.contains("hunter2"), "{secret}");
        assert_eq!(aws_problems("{}", &[(name, "")]), [""; 0]);
    }
}

// The effective configuration.

#[test]
fn the_effective_configuration_has_every_value_with_its_source_without_secrets() {
    let files = Files::with(
        "targets:\n  - name: a\n    role_arn: arn:aws:iam::012345678901:role/r\n    external_id: hunter2\n\
         \x20   filter: {status: [SCHEDULED]}\n  - region: eu-west-1\n    account_id: 012345678901\n\
         \x20   labels: {team: x, tier: 1}\njobs:\n  ended_within: 30d\n",
    );
    let environment = variables(&[("LIMITS__MAX_JOBS", "7"), ("THING_GROUPS__INCLUDE", "a, b")]);
    let flags = vec![flag("log.level", "--log.level", &["warn"])];
    let loaded = load_all(&Sources { environment, flags, ..files.sources() }).expect("a configuration");
    let printed = loaded.effective.to_yaml().replace(&format!("{}/", files.0.path().display()), "");
    for line in [
        "targets:\n  - name: a  # exporter.yml:2\n    role_arn: \"arn:aws:iam::012345678901:role/r\"  # exporter.yml:3\n",
        "    external_id: \"<hidden>\"  # exporter.yml:4\n    filter:\n      status: [SCHEDULED]  # exporter.yml:5\n",
        "  - region: eu-west-1  # exporter.yml:6\n    account_id: \"012345678901\"  # exporter.yml:7\n",
        "    labels: {team: x, tier: \"1\"}  # exporter.yml:8\n",
        "  all_jobs:\n    enabled: true  # default\n    interval: 15m  # default\n    timeout: 2h  # default\n    stale_after:  # default\n",
        "  include: [a, b]  # IOT_JOBS_EXPORTER_THING_GROUPS__INCLUDE\n",
        "  ended_within: 30d  # exporter.yml:10\n",
        "  max_jobs: 7  # IOT_JOBS_EXPORTER_LIMITS__MAX_JOBS\n",
        "  listen_addresses: [\":10114\"]  # default\n",
        "log:\n  level: warn  # --log.level\n  format: text  # default\n",
    ] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
    assert!(!printed.contains("hunter2"), "{printed}");
    let reread = load(&Files::with(printed.replace("<hidden>", "hunter2")).sources()).expect("YAML");
    assert_eq!(reread, loaded.config, "what is printed is a configuration");
}

#[test]
fn the_defaults_are_printed_and_read_back() {
    let loaded = load_all(&Sources::default()).expect("the defaults");
    let printed = loaded.effective.to_yaml();
    assert_eq!(config(printed), Config::default(), "{printed}");
    assert_eq!(printed.lines().filter(|line| line.contains("# default")).count(), leaves(&Config::fields()).len());
}

#[test]
fn the_hash_and_the_changes_depend_on_values_not_on_spelling() {
    let role = "role_arn: 'arn:aws:iam::012345678901:role/r'";
    let loaded = |yaml: &str| load_all(&Files::with(yaml).sources()).expect(yaml);
    let hash = |yaml: &str| loaded(yaml).effective.hash();
    let changed = |one: &str, other: &str| {
        let (one, other) = (loaded(one), loaded(other));
        assert!(one.effective.hash() < 1 << 48);
        other.effective.changes_since(&one.effective)
    };
    assert_eq!(changed("{}", "# nothing\nlog:\n"), [""; 0]);
    assert_eq!(changed("{}", "targets: [{labels: {'null': x}}]"), ["targets", "targets[0].labels"]);
    assert_eq!(changed("log: {level: info}", "log: {\"level\": 'info'}"), [""; 0]);
    assert_eq!(changed("log: {level: info}", "log: {level: warn}"), ["log.level"]);
    let secret = |id: &str| format!("targets: [{{{role}, external_id: {id}}}]");
    assert_eq!(changed(&secret("one"), &secret("two")), ["targets[0].external_id"]);
    assert_eq!(hash(&secret("one")), hash(&secret("two")), "a hash that is shown would let secrets be guessed");
    assert_ne!(hash("log: {level: info}"), hash("log: {level: warn}"));
    assert_eq!(hash("{}"), hash("log: {level: info}"));
    assert_eq!(changed("{}", "targets: [{name: a}]"), ["targets", "targets[0].name"]);
}

#[test]
fn a_reload_message_says_what_changed_or_when_the_file_was_modified() {
    let files = Files::with("log: {level: info}\n");
    let (before, same) = (load_all(&files.sources()).expect("valid"), load_all(&files.sources()).expect("valid"));
    let nothing = same.changes_since(&before);
    assert!(
        nothing.starts_with("Nothing changed in ") && nothing.contains("exporter.yml (last modified 20"),
        "{nothing}"
    );
    fs::write(files.path(), "log: {level: warn}\njobs: {series: false}\n").expect("a file");
    let changed = load_all(&files.sources()).expect("valid").changes_since(&before);
    assert_eq!(changed, "Changed: jobs.series, log.level.");
}

#[test]
fn every_key_outside_targets_has_a_variable() {
    for (path, field) in leaves(&Config::fields()) {
        let text = match (&field.info.shape, field.info.default) {
            (Shape::Sections(_), _) => "[{name: other}]",
            (_, Some(default)) => default,
            (_, None) => "10m",
        };
        let environment = vec![(variable_of(&path), text.to_owned())];
        if let Err(found) = load(&Sources { environment, ..Sources::default() }) {
            let is_read = found
                .0
                .iter()
                .all(|problem| problem.source.name == variable_of(&path) && problem.key.as_ref() == Some(&path));
            assert!(is_read, "{found}");
        }
    }
}

#[test]
fn a_target_inherits_omitted_keys_from_the_global_collectors() {
    let config = config(
        "collectors: {open_jobs: {interval: 2m, stale_after: 1h}, details: {enabled: false}}\n\
         targets: [{region: eu-west-1}, {region: us-east-1, collectors: {open_jobs: {interval: 5m}, all_jobs: }}]",
    );
    let [first, second] = &config.targets[..] else { panic!("{config:#?}") };
    assert_eq!(first.collectors, config.collectors);
    assert_eq!(
        second.collectors.open_jobs,
        OpenJobs { interval: millis(300_000), stale_after: Some(millis(3_600_000)) }
    );
    assert_eq!(second.collectors.all_jobs, Collectors::default().all_jobs);
    assert!(!second.collectors.details.enabled);
}

#[test]
fn a_problem_with_the_global_collectors_is_reported_once_and_one_of_a_target_by_its_own_path() {
    let several = "targets: [{region: eu-west-1}, {region: us-east-1}]";
    assert_eq!(
        problem(&format!("{several}\ncollectors: {{open_jobs: {{interval: 5}}}}")),
        "collectors.open_jobs.interval: \"5\" is not a duration; write a number with a unit, such as 30s, 5m or 1d"
    );
    assert_eq!(
        problem("targets: [{collectors: {open_jobs: {intervall: 1m}}}]"),
        "targets[0].collectors.open_jobs.intervall: unknown key; did you mean targets[0].collectors.open_jobs.interval?"
    );
    assert_eq!(
        problem("targets: [{collectors: {open_jobs: {interval: 1h}}}]\ncollectors: {open_jobs: {stale_after: 1h}}"),
        "collectors.open_jobs.stale_after: 1h is shorter than twice targets[0].collectors.open_jobs.interval, which is 1h: \
         data would disappear before it is renewed"
    );
}

#[test]
fn the_intervals_of_details_are_in_order() {
    assert_eq!(
        problem("collectors: {details: {interval: 30m}}"),
        "collectors.details.interval: 30m is longer than collectors.details.max_interval, which is 10m"
    );
    assert_eq!(
        problem("collectors: {details: {max_interval: 30s}}"),
        "collectors.details.max_interval: 30s is shorter than collectors.details.interval, which is 1m"
    );
    assert!(load_yaml("collectors: {details: {interval: 30m, max_interval: 30m}}").is_ok());
    assert_eq!(
        problem("collectors: {details: {stale_after: 19m}}"),
        "collectors.details.stale_after: 19m is shorter than twice collectors.details.max_interval, which is 10m: \
         data would disappear before it is renewed"
    );
}
