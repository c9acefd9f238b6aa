//! Where a configuration comes from, and how figment lays the sources over each other.

use std::path::{Path, PathBuf};

use figment::value::{Dict, Empty, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::file;
use super::keys::{KEYS, Key, VARIABLE_PREFIX};
use super::kind::Kind;
use super::nearest::nearest;
use super::path::KeyPath;
use super::problem::{Problem, sort};
use super::yaml;

/// Everything that a configuration is made of. Flags win over the environment, which wins over the file, which wins
/// over the defaults. Lists are replaced as a whole.
///
/// The environment is handed in, so that reading a configuration depends on nothing else. There is no `Debug`: what
/// stands in it is not checked yet, and can hold secrets.
#[derive(Clone, Default)]
pub struct Sources {
    /// The YAML file, where one is named; it must exist then.
    pub file: Option<PathBuf>,
    /// The environment, of which variables that begin with `IOT_JOBS_EXPORTER_` are read.
    pub environment: Vec<(String, String)>,
    /// The flags that were given and set a key.
    pub flags: Vec<Flag>,
}

/// A flag of the command line that sets a key.
#[derive(Clone)]
pub struct Flag {
    /// The key's full path, such as `web.listen_addresses`.
    pub key: &'static str,
    /// The flag as users write it, such as `--web.listen-address`.
    pub flag: &'static str,
    /// What was given.
    pub value: FlagValue,
}

/// The value of a [`Flag`].
#[derive(Clone)]
pub enum FlagValue {
    /// Of a flag that is given once.
    Text(String),
    /// Of a flag that can be repeated.
    List(Vec<String>),
}

/// One source for figment, which marks every value with the layer that it came from.
///
/// figment's own `Env` is not used: it reads values without knowing the key, so that an account id would become a
/// number and lose its leading zero.
struct Layer {
    source: String,
    data: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.data.clone()))
    }
}

/// The sources laid over each other, and what is wrong with those that can't be read.
pub(super) fn merge(sources: &Sources) -> (Figment, Vec<Problem>) {
    let mut problems = Vec::new();
    let file = sources.file.iter().map(|path| file_layer(path, &mut problems)).collect::<Vec<_>>();
    let environment = environment_layers(&sources.environment, &mut problems);
    let flags = sources.flags.iter().map(flag_layer).collect::<Vec<_>>();
    let layers = file.into_iter().flatten().chain(environment).chain(flags);
    (layers.fold(Figment::new(), Figment::merge), problems)
}

fn file_layer(path: &Path, problems: &mut Vec<Problem>) -> Option<Layer> {
    let source = path.display().to_string();
    match file::text(path).and_then(|text| yaml::read(&text, &KeyPath::root())) {
        Ok(parsed) => {
            problems.extend(parsed.faults.into_iter().map(|(at, reason)| Problem::new(&source, &at, reason)));
            match parsed.value {
                Value::Dict(_, data) => Some(Layer { source, data }),
                Value::Empty(..) => None,
                other => {
                    let reason = format!("is {} at its top; write sections with keys, such as refresh:", sort(&other));
                    problems.push(Problem::with_source(&source, reason));
                    None
                }
            }
        }
        Err(reason) => {
            problems.push(Problem::with_source(&source, reason));
            None
        }
    }
}

fn environment_layers(environment: &[(String, String)], problems: &mut Vec<Problem>) -> Vec<Layer> {
    let known: Vec<(String, &Key)> = KEYS.iter().filter_map(|key| Some((key.variable()?, key))).collect();
    let mut layers = Vec::new();
    for (variable, text) in environment {
        let Some(name) = variable.strip_prefix(VARIABLE_PREFIX) else { continue };
        if let Some((_, key)) = known.iter().find(|(own, _)| own == variable) {
            match from_text(&key.kind, text, &KeyPath::of(key.path)) {
                Ok(parsed) => {
                    problems.extend(parsed.faults.into_iter().map(|(at, reason)| Problem::new(variable, &at, reason)));
                    layers.push(layer(variable, key.path, parsed.value));
                }
                Err(reason) => problems.push(Problem::new(variable, &KeyPath::of(key.path), reason)),
            }
        } else if !is_service_link(name) {
            let names = || known.iter().map(|(own, _)| own.as_str());
            let hint = match nearest(name, names().filter_map(|own| own.strip_prefix(VARIABLE_PREFIX))) {
                Some(near) => format!("did you mean {VARIABLE_PREFIX}{near}?"),
                None => format!("known are {}", names().collect::<Vec<_>>().join(", ")),
            };
            problems.push(Problem::with_source(variable, format!("unknown variable; {hint}")));
        }
    }
    layers
}

/// Whether Kubernetes sets this variable, of which the prefix is left out, in every pod beside a service with the
/// name `iot-jobs-exporter`: `…_SERVICE_HOST`, `…_SERVICE_PORT[_NAME]`, `…_PORT`, `…_PORT_10114_TCP[_ADDR]`.
/// To call them unknown would keep the exporter from starting beside its own service.
fn is_service_link(name: &str) -> bool {
    let of_port = |rest: &str| rest.is_empty() || rest.strip_prefix('_').is_some_and(|port| port.contains("_TCP"));
    name == "SERVICE_HOST"
        || name == "SERVICE_PORT"
        || name.starts_with("SERVICE_PORT_")
        || name.strip_prefix("PORT").is_some_and(of_port)
}

fn flag_layer(flag: &Flag) -> Layer {
    let value = match &flag.value {
        FlagValue::Text(text) => Value::from(text.as_str()),
        FlagValue::List(texts) => Value::from(texts.iter().map(|text| Value::from(text.as_str())).collect::<Vec<_>>()),
    };
    layer(flag.flag, flag.key, value)
}

fn layer(source: &str, key: &str, value: Value) -> Layer {
    Layer { source: source.to_owned(), data: figment::util::nest(key, value).into_dict().unwrap_or_default() }
}

/// A text from the environment, or a default of the table, as a value: a scalar is left a text, which its kind reads
/// later; a list is YAML, or, where it holds scalars and begins without a bracket, parted by commas.
pub(super) fn from_text(kind: &Kind, text: &str, at: &KeyPath) -> Result<yaml::Parsed, String> {
    let plain = |value| Ok(yaml::Parsed { value, faults: Vec::new() });
    match kind {
        Kind::List { .. } if !text.trim_start().starts_with('[') => {
            plain(Value::from(text.split(',').map(|item| Value::from(item.trim())).collect::<Vec<_>>()))
        }
        Kind::Sections if text.trim().is_empty() => plain(Value::from(Empty::Unit)),
        Kind::List { .. } | Kind::Sections | Kind::Labels => yaml::read(text, at),
        _ => plain(Value::from(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> (Figment, Vec<String>) {
        let environment = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let (figment, problems) = merge(&Sources { environment, ..Sources::default() });
        (figment, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_variable_sets_the_key_that_it_is_named_by_and_stays_a_text() {
        let (figment, problems) = environment(&[("IOT_JOBS_EXPORTER_LIMITS__MAX_PAGES", "007"), ("HOME", "/x")]);
        assert_eq!(figment.find_value("limits.max_pages").ok(), Some(Value::from("007")));
        assert_eq!(problems, [""; 0]);
    }

    #[test]
    fn a_list_of_scalars_is_yaml_or_parted_by_commas() {
        let listen = "IOT_JOBS_EXPORTER_WEB__LISTEN_ADDRESSES";
        for text in ["[\":1\", 'localhost:2']", ":1, localhost:2", " :1 ,localhost:2"] {
            let (figment, problems) = environment(&[(listen, text)]);
            let expected = Value::from(vec![Value::from(":1"), Value::from("localhost:2")]);
            assert_eq!(
                (figment.find_value("web.listen_addresses").ok(), problems.len()),
                (Some(expected), 0),
                "{text}"
            );
        }
    }

    #[test]
    fn an_unknown_variable_is_told_with_the_nearest_known_one_and_without_its_value() {
        let (_, problems) = environment(&[("IOT_JOBS_EXPORTER_REFRESH_INTERVAL", "hunter2")]);
        let expected =
            "IOT_JOBS_EXPORTER_REFRESH_INTERVAL: unknown variable; did you mean IOT_JOBS_EXPORTER_REFRESH__INTERVAL?";
        assert_eq!(problems, [expected]);
        let (_, problems) = environment(&[("IOT_JOBS_EXPORTER_COLOR", "hunter2")]);
        assert!(problems[0].contains("known are IOT_JOBS_EXPORTER_TARGETS, ") && !problems[0].contains("hunter2"));
    }

    #[test]
    fn variables_that_kubernetes_sets_beside_a_service_are_no_problem() {
        let links =
            ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_10114_TCP", "PORT_10114_TCP_ADDR"];
        for link in links {
            assert!(environment(&[(&format!("{VARIABLE_PREFIX}{link}"), "10.0.0.1")]).1.is_empty(), "{link}");
        }
        assert_eq!(environment(&[("IOT_JOBS_EXPORTER_WEB__PORT", "1"), ("IOT_JOBS_EXPORTER_PORTS", "1")]).1.len(), 2);
    }

    #[test]
    fn what_can_not_be_read_is_told_and_the_other_sources_stay() {
        let (_, problems) =
            environment(&[("IOT_JOBS_EXPORTER_TARGETS", "[{external_id: hunter2"), ("IOT_JOBS_EXPORTER_X", "")]);
        assert_eq!(problems.len(), 2);
        assert!(problems[0].starts_with("IOT_JOBS_EXPORTER_TARGETS: targets: is not YAML: "), "{}", problems[0]);
        assert!(!problems[0].contains("hunter2"), "{}", problems[0]);
    }
}
