//! The sources of a configuration, and how figment merges them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use regex_lite::Regex;

use super::aws_environment::AwsProfiles;
use super::cursor::suggest;
use super::file;
use super::key::{Field, Shape};
use super::path::KeyPath;
use super::problem::{Problem, Source, not_a_section, sort};
use super::yaml;

/// The prefix of all environment variables of the exporter.
pub(super) const VARIABLE_PREFIX: &str = "IOT_JOBS_EXPORTER_";

/// The sources of a configuration. Flags take precedence over the environment, the environment over the file, and the
/// file over the defaults. Lists are replaced as a whole.
///
/// The environment is an argument, so that loading depends on nothing else. There is no `Debug`, because the values
/// are not checked yet and can be secrets.
#[derive(Clone, Default)]
pub struct Sources {
    /// The YAML file. If it is set, it must exist.
    pub file: Option<PathBuf>,
    /// The environment. Empty variables count as unset.
    pub environment: Vec<(String, String)>,
    /// The given flags that set a key.
    pub flags: Vec<Flag>,
    /// The profiles of the AWS configuration files; `None` if targets do not use this machine's AWS settings, as in
    /// the demo.
    pub aws_profiles: Option<AwsProfiles>,
}

impl Sources {
    /// The value of an environment variable; `None` if it is empty or blank.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        let found = self.environment.iter().find(|(known, _)| known == name);
        found.map(|(_, text)| text.as_str()).filter(|text| !text.trim().is_empty())
    }
}

/// A command-line flag that sets a key.
#[derive(Clone)]
pub struct Flag {
    /// The path of the key, such as `web.listen_addresses`.
    pub key: String,
    /// The flag as users write it, such as `--web.listen-address`.
    pub flag: String,
    /// Its values; several if it was repeated.
    pub values: Vec<String>,
}

/// One source for figment, which marks every value with its layer.
///
/// figment's own `Env` parses values without knowing the key: an account id would become a number and lose its leading
/// zero.
struct Layer {
    name: String,
    data: Dict,
    /// The line of each key and item in a file.
    lines: BTreeMap<KeyPath, usize>,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        let lines = self.lines.clone();
        // The interpolater locates a key in its source: by its line, or by that of the section around it.
        Metadata::named(self.name.clone()).interpolater(move |_, keys| {
            let path = |length: usize| KeyPath(keys.iter().take(length).map(|&key| key.to_owned()).collect());
            let line = (0..=keys.len()).rev().find_map(|length| lines.get(&path(length)));
            line.map(ToString::to_string).unwrap_or_default()
        })
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.data.clone()))
    }
}

/// Merges the sources. Also returns the problems of unreadable ones.
pub(super) fn merge(sources: &Sources, fields: &[Field]) -> (Figment, Vec<Problem>) {
    let mut problems = Vec::new();
    let file = sources.file.as_deref().and_then(|path| {
        let text = file_text(path, &mut problems)?;
        text_layer(path, &text, fields, &mut problems)
    });
    let variables = variable_layers(&sources.environment, fields, &mut problems);
    let flags = sources.flags.iter().map(|flag| {
        let is_list = leaves(fields)
            .iter()
            .any(|(key, field)| *key == flag.key && matches!(field.info.shape, Shape::List { .. }));
        let value = match &flag.values[..] {
            [text] if !is_list => Value::from(text.as_str()),
            texts => Value::from(texts.iter().map(|text| Value::from(text.as_str())).collect::<Vec<_>>()),
        };
        layer(&flag.flag, &flag.key, value)
    });
    let layers = file.into_iter().chain(variables.into_iter().chain(flags).map(Figment::from));
    (layers.fold(Figment::new(), Figment::merge), problems)
}

/// The text of a YAML file.
pub(super) fn file_text(path: &Path, problems: &mut Vec<Problem>) -> Option<String> {
    let name = path.display().to_string();
    file::read_text(path).map_err(|error| problems.push(Problem::of_source(&name, None, error.to_string()))).ok()
}

/// The content of the YAML file at `path` as a layer. A file without keys is refused: it was probably truncated.
pub(super) fn text_layer(path: &Path, text: &str, fields: &[Field], problems: &mut Vec<Problem>) -> Option<Figment> {
    let name = path.display().to_string();
    let parsed = yaml::read(text, &KeyPath::default());
    let document =
        parsed.map_err(|error| problems.push(Problem::of_source(&name, Some(error.line), error.reason))).ok()?;
    let mistakes = document.mistakes.into_iter();
    problems.extend(mistakes.map(|(at, line, reason)| Problem::new(Source::new(&name, Some(line)), &at, reason)));
    let mut data = match document.value {
        Value::Dict(_, data) => data,
        Value::Empty(..) => {
            let reason = "is empty: it has no keys; write {} if the defaults are meant";
            problems.push(Problem::of_source(&name, None, reason));
            return None;
        }
        other => {
            let reason = format!("is {}, not sections with keys", sort(&other));
            problems.push(Problem::of_source(&name, None, reason));
            return None;
        }
    };
    // figment would silently drop such a value if a variable or a flag sets a key of the section.
    for field in fields.iter().filter(|field| matches!(field.info.shape, Shape::Section(_))) {
        let is_wrong = |value: &Value| !matches!(value, Value::Dict(..) | Value::Empty(..));
        if data.get(field.name).is_some_and(is_wrong)
            && let Some(value) = data.remove(field.name)
        {
            let at = KeyPath::of(field.name);
            let source = Source::new(&name, document.lines.get(&at).copied());
            problems.push(Problem::new(source, &at, not_a_section(&value, &field.names())));
        }
    }
    Some(Figment::from(Layer { name, data, lines: document.lines }))
}

/// The keys with an environment variable: all outside lists. A list of sections is set as a whole.
pub(super) fn leaves(fields: &[Field]) -> Vec<(String, &Field)> {
    let mut leaves = Vec::new();
    for field in fields {
        match &field.info.shape {
            Shape::Section(inner) => {
                leaves.extend(
                    self::leaves(inner).into_iter().map(|(path, leaf)| (format!("{}.{path}", field.name), leaf)),
                );
            }
            _ => leaves.push((field.name.to_owned(), field)),
        }
    }
    leaves
}

/// The environment variable for the key with this path.
pub(super) fn variable_of(path: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", path.replace('.', "__").to_uppercase())
}

fn variable_layers(environment: &[(String, String)], fields: &[Field], problems: &mut Vec<Problem>) -> Vec<Layer> {
    let known: Vec<(String, String, &Field)> =
        leaves(fields).into_iter().map(|(path, field)| (variable_of(&path), path, field)).collect();
    let mut layers = Vec::new();
    for (variable, text) in environment.iter().filter(|(_, text)| !text.trim().is_empty()) {
        let Some(name) = variable.strip_prefix(VARIABLE_PREFIX) else { continue };
        if let Some((_, path, field)) = known.iter().find(|(own, ..)| own == variable) {
            let at = KeyPath::of(path);
            match from_text(&field.info.shape, text, &at) {
                Ok(document) => {
                    let source = || Source::new(variable, None);
                    let mistakes = document.mistakes.into_iter();
                    problems.extend(mistakes.map(|(at, _, reason)| Problem::new(source(), &at, reason)));
                    let lines = if text.contains('\n') { document.lines } else { BTreeMap::new() };
                    layers.push(Layer { lines, ..layer(variable, path, document.value) });
                }
                Err(error) => {
                    let reason = format!("{}; a list in a variable is YAML, or separated by commas", error.reason);
                    problems.push(Problem::new(Source::new(variable, None), &at, reason));
                }
            }
        } else if !is_service_link(name) {
            let names = || known.iter().map(|(own, ..)| own.as_str());
            let hint = match suggest(name, names().filter_map(|own| own.strip_prefix(VARIABLE_PREFIX))) {
                Some(near) => format!("did you mean {VARIABLE_PREFIX}{near}?"),
                None => format!("known: {}", names().collect::<Vec<_>>().join(", ")),
            };
            problems.push(Problem::of_source(variable, None, format!("unknown variable; {hint}")));
        }
    }
    layers
}

/// Whether Kubernetes sets this variable, without its prefix, for a Service whose name begins with `iot-jobs-exporter`
/// (<https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables>). If these
/// were reported as unknown, the exporter could not start next to its own Service. The names of keys have two
/// underscores.
fn is_service_link(name: &str) -> bool {
    let pattern = "(^|_)(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$\
                   |^([A-Z0-9]+_)*PORT$";
    Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(name))
}

fn layer(source: &str, key: &str, value: Value) -> Layer {
    let data = figment::util::nest(key, value).into_dict().unwrap_or_default();
    Layer { name: source.to_owned(), data, lines: BTreeMap::new() }
}

/// A variable's text as a value. A list is YAML, or separated by commas if it begins with neither a bracket nor a
/// dash.
fn from_text(shape: &Shape, text: &str, at: &KeyPath) -> Result<yaml::Document, yaml::SyntaxError> {
    let value = match shape {
        Shape::List { .. } if !text.trim_start().starts_with('[') && !text.trim_start().starts_with("- ") => {
            Value::from(text.split(',').map(|item| Value::from(item.trim())).collect::<Vec<_>>())
        }
        Shape::Scalar { .. } => Value::from(text),
        _ => return yaml::read(text, at),
    };
    Ok(yaml::Document::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::key::Section as _;
    use crate::config::schema::Config;

    fn environment(variables: &[(&str, &str)]) -> (Figment, Vec<String>) {
        let environment = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let (figment, problems) = merge(&Sources { environment, ..Sources::default() }, &Config::fields());
        (figment, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_variable_sets_its_key_as_a_text() {
        let (figment, problems) = environment(&[("IOT_JOBS_EXPORTER_LIMITS__MAX_PAGES", "007"), ("HOME", "/x")]);
        assert_eq!(figment.find_value("limits.max_pages").ok(), Some(Value::from("007")));
        assert_eq!(problems, [""; 0]);
    }

    #[test]
    fn a_list_is_yaml_or_separated_by_commas() {
        let listen = "IOT_JOBS_EXPORTER_WEB__LISTEN_ADDRESSES";
        for text in ["[\":1\", 'localhost:2']", "- ':1'\n- localhost:2", ":1, localhost:2", " :1 ,localhost:2"] {
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
    fn an_unknown_variable_is_reported_with_the_nearest_known_one_and_without_its_value() {
        let (_, problems) = environment(&[("IOT_JOBS_EXPORTER_LOG_LEVEL", "hunter2")]);
        let expected = "IOT_JOBS_EXPORTER_LOG_LEVEL: unknown variable; did you mean IOT_JOBS_EXPORTER_LOG__LEVEL?";
        assert_eq!(problems, [expected]);
        let (_, problems) = environment(&[("IOT_JOBS_EXPORTER_COLOR", "hunter2")]);
        assert!(problems[0].contains("known: IOT_JOBS_EXPORTER_TARGETS, ") && !problems[0].contains("hunter2"));
    }

    #[test]
    fn the_variables_that_kubernetes_sets_for_services_are_ignored() {
        for (link, text) in [
            ("SERVICE_HOST", "10.0.0.1"),
            ("SERVICE_PORT", "10114"),
            ("SERVICE_PORT_HTTP", "10114"),
            ("PORT", "tcp://10.0.0.1:10114"),
            ("PORT_10114_TCP", "tcp://10.0.0.1:10114"),
            ("PORT_10114_TCP_PROTO", "tcp"),
            ("PORT_10114_TCP_PORT", "10114"),
            ("PORT_10114_TCP_ADDR", "10.0.0.1"),
            ("PORT_53_UDP", "udp://10.0.0.1:53"),
            ("METRICS_SERVICE_HOST", "10.0.0.1"),
            ("METRICS_SERVICE_PORT_HTTP_METRICS", "80"),
            ("METRICS_PORT", "tcp://10.0.0.1:80"),
            ("METRICS_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("SHARD_0_PORT_80_SCTP", "sctp://10.0.0.1:80"),
            ("_WEB_SERVICE_HOST", "10.0.0.1"),
            ("A__B_PORT_80_TCP_ADDR", "10.0.0.1"),
        ] {
            assert_eq!(environment(&[(&format!("{VARIABLE_PREFIX}{link}"), text)]).1, [""; 0], "{link}");
        }
        let others =
            [("IOT_JOBS_EXPORTER_WEB__PORT", "1"), ("IOT_JOBS_EXPORTER_PORTS", "1"), ("IOT_JOBS_EXPORTER_PORT_X", "1")];
        assert_eq!(environment(&others).1.len(), 3);
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        let names = leaves(&Config::fields()).into_iter().map(|(path, _)| variable_of(&path)).collect::<Vec<_>>();
        for name in names.iter().map(String::as_str).chain(["IOT_JOBS_EXPORTER_UNKNOWN"]) {
            for text in ["", " \n"] {
                let (figment, problems) = environment(&[(name, text)]);
                assert_eq!((figment.metadata().count(), problems.len()), (0, 0), "{name}");
            }
        }
    }

    #[test]
    fn a_variable_that_cannot_be_read_is_reported_without_its_value() {
        let (_, problems) =
            environment(&[("IOT_JOBS_EXPORTER_TARGETS", "[{external_id: hunter2"), ("IOT_JOBS_EXPORTER_X", "1")]);
        assert_eq!(problems.len(), 2);
        assert!(problems[0].starts_with("IOT_JOBS_EXPORTER_TARGETS: targets: is not YAML: "), "{}", problems[0]);
        assert!(!problems[0].contains("hunter2"), "{}", problems[0]);
    }
}
