//! Any file and any environment give a valid configuration, or problems in readable lines.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestCaseError;
use tempfile::TempDir;

use super::key::Field;
use super::sources::{VARIABLE_PREFIX, variable_of};
use std::time::Duration;

use super::*;
use crate::jobs::tag_label;
use crate::proptests::{cases, damage, damaged, fault_of_line, folder, text};

/// A key with its path in the schema, and values that are valid or almost valid.
struct Key {
    path: String,
    has_variable: bool,
    values: Vec<String>,
}

static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let fields = Config::fields();
    let mut keys = Vec::new();
    collect_keys(&fields, "", &mut keys);
    keys
});

fn collect_keys(fields: &[Field], section: &str, keys: &mut Vec<Key>) {
    for field in fields {
        let path = if section.is_empty() { field.name.to_owned() } else { format!("{section}.{}", field.name) };
        let has_variable = !path.contains("[]");
        match &field.info.shape {
            Shape::Section(fields) => collect_keys(fields, &path, keys),
            Shape::Sections(fields) => {
                keys.push(Key { path: path.clone(), has_variable, values: Vec::new() });
                collect_keys(fields, &format!("{path}[]"), keys);
            }
            _ => {
                let values = fitting(&path, &field.info.shape);
                keys.push(Key { path, has_variable, values });
            }
        }
    }
}

impl Key {
    fn variable(&self) -> Option<String> {
        self.has_variable.then(|| variable_of(&self.path))
    }
}

/// The value of all secrets here.
const SECRET: &str = "s3cr3t";

/// The longest problem, in characters. The path of a key can have a hundred names.
const MAX_PROBLEM: usize = 10_000;

thread_local! {
    /// A folder for files, one for all inputs of a thread: creating one for each would take longer than everything
    /// else.
    static FOLDER: RefCell<TempDir> = RefCell::new(folder());
}

/// Loads these bytes as a file. Also returns its path, which problems contain.
fn load_file(content: &[u8]) -> (PathBuf, Result<Config, Problems>) {
    let path = FOLDER.with_borrow(|folder| folder.path().join("exporter.yml"));
    fs::write(&path, content).expect("a file");
    let loaded = load(&Sources { file: Some(path.clone()), ..Sources::default() });
    (path, loaded)
}

/// A YAML value in flow style.
#[derive(Clone, Debug)]
enum Yaml {
    Raw(String),
    List(Vec<Yaml>),
    Mapping(Vec<(String, Yaml)>),
}

impl Yaml {
    fn render(&self) -> String {
        match self {
            Self::Raw(text) => text.clone(),
            Self::List(items) => format!("[{}]", items.iter().map(Self::render).collect::<Vec<_>>().join(", ")),
            Self::Mapping(entries) => {
                let entries: Vec<_> = entries.iter().map(|(key, value)| format!("{key}: {}", value.render())).collect();
                format!("{{{}}}", entries.join(", "))
            }
        }
    }
}

/// A text in double quotes.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON, and so YAML")
}

/// Valid or almost valid values of a key.
fn fitting(path: &str, shape: &Shape) -> Vec<String> {
    let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let of_schema = |schema: &serde_json::Value, accepted: &str| match schema["type"].as_str() {
        Some("boolean") => owned(&["true", "false", "\"true\""]),
        Some("number") => owned(&["5", "0.01", "1000", "\"2.5\""]),
        Some("integer") => owned(&["1", "200", "100000", "\"7\""]),
        _ if schema["enum"].is_array() => schema["enum"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|word| word.as_str())
            .map(str::to_owned)
            .collect(),
        _ if accepted.contains("duration") => owned(&["1m", "30s", "10m", "1d", "100ms", "0s", "3650d", "1m30s"]),
        _ if accepted.contains("address") => owned(&["\":10114\"", "\"127.0.0.1:0\"", "\"[::1]:9100\"", "localhost:1"]),
        _ if accepted.contains("pattern") => owned(&["line-1", "\"line-[0-9]+\"", "\".*\"", "\"(a|b){1,3}\""]),
        _ => owned(&["a", "x-1"]),
    };
    match (path, shape) {
        ("targets[].name", _) => owned(&["a", "b", "\"Werk 1\"", "\"<b>&\""]),
        ("targets[].region", _) => owned(&["eu-west-1", "us-east-1"]),
        ("targets[].role_arn", _) => owned(&["arn:aws:iam::012345678901:role/a/b"]),
        ("targets[].regions", _) => owned(&["[eu-west-1, us-east-1]", "[eu-west-1]", "[]"]),
        ("targets[].role_arns", _) => owned(&["[arn:aws:iam::012345678901:role/a]", "[]"]),
        ("targets[].external_id", _) => vec![SECRET.to_owned(), format!("{SECRET}+=,.@:/-")],
        ("targets[].account_id", _) => owned(&["\"012345678901\""]),
        ("targets[].endpoint_url", _) => owned(&["http://localhost:4566", "\"https://[::1]/x\""]),
        ("web.telemetry_path", _) => owned(&["/metrics", "/a/b"]),
        (_, Shape::Mapping { .. }) => owned(&["{team: x}", "{a: \"1\", b: \"\"}", "{}"]),
        (_, Shape::List { accepted, schema }) => {
            let items = of_schema(&schema["items"], accepted);
            vec![format!("[{}]", items[..2].join(", ")), format!("[{}]", items[0]), "[]".to_owned()]
        }
        (_, Shape::Scalar { accepted, schema }) => of_schema(schema, accepted),
        (_, Shape::Section(_) | Shape::Sections(_)) => Vec::new(),
    }
}

/// Values that no key or only some keys accept.
fn odd() -> impl Strategy<Value = Yaml> {
    let raw: &[&str] = &[
        "",
        "~",
        "null",
        "true",
        "5",
        "-5",
        "0x10",
        "0o7",
        "1e999",
        ".inf",
        ".nan",
        "007",
        "1_000",
        "99999999999999999999999",
        "012345678901",
        "2026-09-21",
        "12:30:00",
        "[]",
        "{}",
        "[~]",
        "{a: }",
        "{~: 1}",
        "{[a]: b}",
        "{1: 2}",
        "!x y",
        "!!int x",
        "!!binary aGk=",
        "&a x",
        "*a",
        "&a [*a]",
        "{<<: {a: 1}}",
        "{<<: 5}",
        "{a: 1, a: 2}",
        "'it''s'",
        "\"\\x00\"",
        "\"\\u2028\"",
        "\"\\ud800\"",
        "\"open",
        "'open",
        "|",
        "- x",
        "? x",
        "# x",
        "%x",
        "@x",
        "`x`",
        "yes",
        "NO",
        "on",
        "1m",
        "1 m",
        "-1s",
        "1e9d",
        "99999999999999999999d",
        "1ns",
        "\"99999999999999999999s\"",
        "\":99999\"",
        "\":+1\"",
        "\"a(\"",
        "\"a{99999}\"",
        "\"(((((((((((a{99}){99}){99}){99}){99}){99}){99}){99}){99}){99})\"",
    ];
    let leaf = prop_oneof![
        4 => select(raw).prop_map(|raw| Yaml::Raw(raw.to_owned())),
        2 => text().prop_map(|text| Yaml::Raw(quoted(&text))),
        1 => text().prop_map(Yaml::Raw),
        1 => (select(vec!["[", "{a: "]), 1_usize..300).prop_map(|(open, times)| {
            Yaml::Raw(format!("{}1{}", open.repeat(times), if open == "[" { "]" } else { "}" }.repeat(times)))
        }),
    ];
    let key = prop_oneof![
        select(vec!["a", "region", "<<", "\"\"", "?", "[a]", "&x y"]).prop_map(str::to_owned),
        text().prop_map(|text| quoted(&text))
    ];
    leaf.prop_recursive(2, 8, 3, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Yaml::List),
            vec((key.clone(), inner), 0..3).prop_map(Yaml::Mapping),
        ]
    })
}

/// A secret with an invalid syntax.
fn odd_secret() -> impl Strategy<Value = Yaml> {
    let forms = [
        "\"S \\n S\"",
        "[S]",
        "[[S, S]]",
        "{a: S}",
        "\"S\\u0000\"",
        "é-S",
        "\"é S",
        "!!int S",
        "!x S",
        "&a S",
        "S: S",
        "'S",
    ];
    let forms: Vec<String> = forms.iter().map(|form| form.replace('S', SECRET)).collect();
    prop_oneof![select(forms).prop_map(Yaml::Raw), (2_usize..400).prop_map(|times| Yaml::Raw(SECRET.repeat(times)))]
}

/// One key with its value, in one of the targets if it belongs there.
#[derive(Clone, Debug)]
struct Entry {
    /// `None` means one of the secret keys.
    key: Option<Index>,
    target: usize,
    value: Result<Index, Yaml>,
    secret: Yaml,
    misspelt: Option<String>,
}

fn entry() -> impl Strategy<Value = Entry> {
    let value = prop_oneof![6 => any::<Index>().prop_map(Ok), 1 => odd().prop_map(Err)];
    let misspelling = prop_oneof![
        select(vec!["s", "_", " ", ":", "\"", "#", "-", "é"]).prop_map(str::to_owned),
        text().prop_map(|text| quoted(&text)),
    ];
    (weighted(0.9, any::<Index>()), 0_usize..3, value, odd_secret(), weighted(0.05, misspelling))
        .prop_map(|(key, target, value, secret, misspelt)| Entry { key, target, value, secret, misspelt })
}

impl Entry {
    fn key(&self) -> &'static Key {
        let is_secret = |key: &&Key| key.path == "targets[].external_id";
        let secret = || KEYS.iter().find(is_secret).expect("a secret key");
        self.key.map_or_else(secret, |key| key.get(&KEYS[..]))
    }

    /// The value for a key; `None` for the whole list of targets, whose keys are generated here.
    fn value(&self, key: &Key) -> Option<Yaml> {
        let (values, is_secret) = (&key.values, key.path.ends_with("external_id"));
        match &self.value {
            Ok(_) if values.is_empty() => None,
            Ok(_) if is_secret && self.target > 0 => Some(self.secret.clone()),
            Ok(which) => Some(Yaml::Raw(which.get(values).clone())),
            Err(_) if is_secret => Some(self.secret.clone()),
            Err(odd) => Some(odd.clone()),
        }
    }

    fn insert_into(&self, top: &mut Vec<(String, Yaml)>) {
        let key = self.key();
        let Some(value) = self.value(key) else { return };
        let (section, name) = key.path.rsplit_once('.').unwrap_or(("", &key.path));
        let name = match &self.misspelt {
            Some(more) if more.starts_with('"') => more.clone(),
            Some(more) => format!("{name}{more}"),
            None => name.to_owned(),
        };
        let mut at = top;
        for part in section.split('.').filter(|part| !part.is_empty()) {
            at = match part.strip_suffix("[]") {
                None => mapping(at, part),
                Some(list) => item(at, list, self.target),
            };
        }
        at.push((name, value));
    }
}

/// The section `name` in a mapping, which is created if it is missing.
fn mapping<'a>(entries: &'a mut Vec<(String, Yaml)>, name: &str) -> &'a mut Vec<(String, Yaml)> {
    let is_it = |(known, value): &(String, Yaml)| known == name && matches!(value, Yaml::Mapping(_));
    let position = entries.iter().position(is_it).unwrap_or_else(|| {
        entries.push((name.to_owned(), Yaml::Mapping(Vec::new())));
        entries.len() - 1
    });
    let Yaml::Mapping(inside) = &mut entries[position].1 else { unreachable!("it is one") };
    inside
}

/// The item `index` of the list `name` in a mapping, which is created if it is missing.
fn item<'a>(entries: &'a mut Vec<(String, Yaml)>, name: &str, index: usize) -> &'a mut Vec<(String, Yaml)> {
    let is_section = |item: &Yaml| matches!(item, Yaml::Mapping(_));
    let is_it = |(known, value): &(String, Yaml)| {
        known == name && matches!(value, Yaml::List(items) if items.iter().all(is_section))
    };
    let position = entries.iter().position(is_it).unwrap_or_else(|| {
        entries.push((name.to_owned(), Yaml::List(Vec::new())));
        entries.len() - 1
    });
    let Yaml::List(items) = &mut entries[position].1 else { unreachable!("it is one") };
    // Each one has a name, so that several of them can be valid.
    while items.len() <= index {
        let name = format!("target-{}", items.len());
        items.push(Yaml::Mapping(vec![("region".to_owned(), Yaml::Raw(name))]));
    }
    let Yaml::Mapping(inside) = &mut items[index] else { unreachable!("each is one") };
    inside
}

fn document(entries: &[Entry]) -> Yaml {
    let mut top = Vec::new();
    for entry in entries {
        entry.insert_into(&mut top);
    }
    Yaml::Mapping(top)
}

/// The fault of the result of a load, whose values came from `sources`.
fn fault(loaded: &Result<Config, Problems>, sources: &BTreeSet<&str>) -> Option<String> {
    let problems = match loaded {
        Ok(config) => return fault_of_config(config).map(|fault| format!("{fault}: {config:?}")),
        Err(problems) => problems,
    };
    if problems.0.is_empty() {
        return Some("no problem at all".to_owned());
    }
    problems.0.iter().find_map(|problem| {
        if !sources.contains(problem.source.name.as_str()) {
            return Some(format!("{:?} is no source", problem.source.name));
        }
        let line = problem.to_string();
        // A source is named in full; the system limits its length.
        fault_of_line(&line, MAX_PROBLEM + problem.source.name.chars().count())
    })
}

/// A promise to users that this configuration breaks.
fn fault_of_config(config: &Config) -> Option<&'static str> {
    let Config { targets, jobs, limits, web, .. } = config;
    let day = Duration::from_hours(24);
    let mut names = BTreeSet::new();
    let are_targets_told_apart =
        targets.len() == 1 || targets.iter().all(|target| target.known_name().is_some_and(|name| names.insert(name)));
    let is_target_right = |target: &Target| {
        let printable = |text: &Option<String>| text.as_ref().is_none_or(|text| !text.contains(char::is_control));
        [&target.name, &target.profile, &target.role_arn, &target.endpoint_url].into_iter().all(printable)
            && target.region.as_deref().is_none_or(is_region)
            && (target.external_id.is_none() || target.role_arn.is_some())
            && target.labels.keys().all(|name| syntax::label_name_error(name).is_none())
    };
    let fits = |interval: Duration, stale_after: Option<Duration>| {
        let is_interval = (Duration::from_millis(100)..=day).contains(&interval);
        is_interval && stale_after.is_none_or(|shown| shown >= interval * 2)
    };
    let fit = |Collectors { open_jobs, all_jobs, details, executions, tags }: &Collectors| {
        fits(open_jobs.interval, open_jobs.stale_after)
            && fits(all_jobs.interval, all_jobs.stale_after)
            && fits(details.max_interval, details.stale_after)
            && fits(executions.interval, executions.stale_after)
            && tags.keys.iter().map(|key| tag_label(key)).collect::<BTreeSet<_>>().len() == tags.keys.len()
            && details.interval <= details.max_interval
            && (Duration::from_secs(1)..=day).contains(&all_jobs.timeout)
    };
    [
        (!targets.is_empty() || config.shard.total > 1, "no target"),
        (are_targets_told_apart, "two targets with one name"),
        (targets.iter().all(is_target_right), "a target"),
        (fit(&config.collectors), "collectors"),
        (targets.iter().all(|target| fit(&target.collectors)), "targets[].collectors"),
        (jobs.ended_within <= day * 3650, "jobs.ended_within"),
        ((0.01..=1000.0).contains(&limits.requests_per_second), "limits.requests_per_second"),
        ((1..=1_000_000).contains(&limits.max_pages), "limits.max_pages"),
        (limits.max_thing_groups.max(limits.max_jobs) <= 100_000, "limits"),
        (!web.listen_addresses.is_empty(), "no address"),
        (web.telemetry_path.starts_with('/') && web.telemetry_path.len() > 1, "web.telemetry_path"),
        (!format!("{config:?}").contains(SECRET), "a secret is shown"),
    ]
    .into_iter()
    .find_map(|(kept, promise)| (!kept).then_some(promise))
}

/// The fault, if the secret or a password is reported. The name of a source is not a secret.
fn fault_of_secrecy(loaded: &Result<Config, Problems>) -> Option<String> {
    let reported = |problem: &Problem| format!("{:?}: {}", problem.key, problem.reason);
    let mut reported = loaded.as_ref().err()?.0.iter().map(reported);
    reported.find(|reported| [SECRET, "hunter2"].iter().any(|secret| reported.contains(secret)))
}

/// The documented file, with or without its example uncommented.
fn documented(with_example: bool) -> Vec<u8> {
    let uncommented = |line: &str| if line.starts_with("#  ") { line[1..].to_owned() } else { line.to_owned() };
    let sample = reference::sample();
    let lines = sample.lines().filter(|line| !with_example || *line != "  - {}");
    lines.map(|line| if with_example { uncommented(line) } else { line.to_owned() } + "\n").collect::<String>().into()
}

/// A variable with a valid or an arbitrary value.
fn variable() -> impl Strategy<Value = (String, String)> {
    let name = prop_oneof![
        8 => Just(None),
        1 => text().prop_map(Some),
        1 => select(vec!["SERVICE_HOST", "PORT", "PORT_1_TCP", "LOG_LEVEL", "log__level", ""])
            .prop_map(|name| Some(name.to_owned())),
    ];
    let targets = vec(entry(), 0..6);
    let commas = vec(prop_oneof!["[a-z0-9:.]{0,6}", text()], 0..4).prop_map(|items| items.join(","));
    let other = prop_oneof![2 => odd().prop_map(|odd| odd.render()), 2 => text(), 1 => commas];
    (weighted(0.85, any::<Index>()), name, any::<Index>(), weighted(0.3, other), targets).prop_map(
        |(key, name, which, other, targets)| {
            let known: Vec<&Key> = KEYS.iter().filter(|key| key.variable().is_some()).collect();
            // Secrets are in the list of targets.
            let key = key.map_or(known[0], |key| *key.get(&known));
            let values = &key.values;
            let value = match other {
                _ if key.path == "targets" => {
                    let Yaml::Mapping(top) = document(&targets) else { unreachable!("it is one") };
                    let list = top.into_iter().find(|(name, _)| name == "targets").map(|(_, list)| list.render());
                    list.or(other).unwrap_or_default()
                }
                Some(other) => other,
                None if values.is_empty() => String::new(),
                None => which.get(values).trim_matches('"').to_owned(),
            };
            let name =
                name.map_or_else(|| key.variable().unwrap_or_default(), |name| format!("{VARIABLE_PREFIX}{name}"));
            (name, value)
        },
    )
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn any_document_of_known_keys_is_a_configuration_or_problems_of_one_line_without_a_secret(
        entries in vec(entry(), 0..12),
    ) {
        let (path, loaded) = load_file(document(&entries).render().as_bytes());
        let path = path.display().to_string();
        prop_assert_eq!(fault(&loaded, &BTreeSet::from([path.as_str()])), None);
        prop_assert_eq!(fault_of_secrecy(&loaded), None);
    }

    #[test]
    fn a_damaged_documented_file_is_a_configuration_or_problems_of_one_line(
        with_example: bool, damages in vec(damage(), 1..6),
    ) {
        let (path, loaded) = load_file(&damaged(documented(with_example), &damages));
        let path = path.display().to_string();
        prop_assert_eq!(fault(&loaded, &BTreeSet::from([path.as_str()])), None);
    }

    #[test]
    fn any_bytes_are_a_configuration_or_problems_of_one_line(
        bytes in prop_oneof![vec(any::<u8>(), 0..100), text().prop_map(String::into_bytes), odd().prop_map(|odd| odd.render().into())],
        damages in vec(damage(), 0..3),
    ) {
        let (path, loaded) = load_file(&damaged(bytes, &damages));
        let path = path.display().to_string();
        prop_assert_eq!(fault(&loaded, &BTreeSet::from([path.as_str()])), None);
    }

    #[test]
    fn any_environment_is_a_configuration_or_problems_of_one_line_without_a_secret(
        environment in vec(variable(), 0..8), damages in weighted(0.2, vec(damage(), 1..3)),
    ) {
        let mut environment = environment;
        if let (Some(damages), Some((_, value))) = (&damages, environment.first_mut()) {
            *value = String::from_utf8_lossy(&damaged(value.as_bytes().to_vec(), damages)).into_owned();
        }
        let loaded = load(&Sources { environment: environment.clone(), ..Sources::default() });
        let escaped: Vec<String> =
            environment.iter().map(|(name, _)| Problem::of_source(name, None, "").source.name).collect();
        prop_assert_eq!(fault(&loaded, &escaped.iter().map(String::as_str).collect()), None);
        if damages.is_none() {
            prop_assert_eq!(fault_of_secrecy(&loaded), None);
        }
    }
}

/// Half of the generated documents must pass the checks, so that not only the first check is tested.
#[test]
fn many_generated_documents_are_valid_or_almost_valid() -> Result<(), TestCaseError> {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut valid, mut problems) = (0, 0);
    for _ in 0..300 {
        let entries = vec(entry(), 0..12).new_tree(&mut runner).map_err(TestCaseError::Reject)?.current();
        match load_file(document(&entries).render().as_bytes()).1 {
            Ok(_) => valid += 1,
            Err(found) if !found.to_string().contains("is not YAML") => problems += 1,
            Err(_) => {}
        }
    }
    assert!(valid > 30 && problems > 100, "{valid} valid ones, and {problems} that are YAML");
    Ok(())
}
