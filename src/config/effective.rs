//! The effective configuration: the value and the source of every key.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use figment::value::Value;
use regex_lite::Regex;
use serde_json::Value as Json;

use super::cursor::Cursor;
use super::key::{Field, KeyInfo, Shape};

/// The value of every key.
#[derive(Clone, Debug, Default)]
pub struct Effective {
    yaml: String,
    /// The digest of each value, by the path of its key.
    digests: BTreeMap<String, Vec<u8>>,
    /// The digests of secrets. They detect changes, but no published hash may depend on them.
    secrets: BTreeMap<String, Vec<u8>>,
    /// The paths of the keys that a source gives.
    given: BTreeSet<String>,
}

impl Effective {
    /// `web` is the digest of the web configuration and all its files.
    pub(super) fn new(fields: &[Field], root: &Cursor<'_>, web: Option<Vec<u8>>) -> Self {
        let mut effective = Self::default();
        effective.add(fields, root, "", false);
        effective.set_web(web);
        effective
    }

    /// Replaces the web configuration.
    pub(super) fn set_web(&mut self, digest: Option<Vec<u8>>) {
        self.digests.extend(digest.map(|digest| ("the web configuration".to_owned(), digest)));
    }

    /// The configuration as YAML, with the source of each value in a comment. Secrets are hidden.
    #[must_use]
    pub fn to_yaml(&self) -> &str {
        &self.yaml
    }

    /// A hash that changes with the value of any key that is not a secret, and with the web configuration. It has 48
    /// bits, which a metric represents exactly.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let all: Vec<u8> = self.digests.iter().flat_map(|(path, digest)| [path.as_bytes(), digest].concat()).collect();
        digest(&SHA256, &all).as_ref().iter().take(6).fold(0, |hash, byte| (hash << 8) | u64::from(*byte))
    }

    /// The keys whose values differ from those of `earlier`.
    #[must_use]
    pub fn changes_since(&self, earlier: &Self) -> Vec<String> {
        let all =
            |of: &Self| [of.digests.clone(), of.secrets.clone()].into_iter().flatten().collect::<BTreeMap<_, _>>();
        let (now, before) = (all(self), all(earlier));
        let keys: BTreeSet<&String> = now.keys().chain(before.keys()).collect();
        keys.into_iter().filter(|key| now.get(*key) != before.get(*key)).cloned().collect()
    }

    /// Whether a source gives this key, such as `web.listen_addresses`. A given value can equal the default.
    #[must_use]
    pub fn is_given(&self, path: &str) -> bool {
        self.given.contains(path)
    }

    fn add(&mut self, fields: &[Field], section: &Cursor<'_>, indent: &str, is_in_list: bool) {
        for field in fields {
            let at = section.key(field.name);
            match &field.info.shape {
                // Most keys of an item are omitted.
                _ if is_in_list && !at.is_given() => {}
                Shape::Section(inner) => {
                    let _ = writeln!(self.yaml, "{indent}{}:", field.name);
                    self.add(inner, &at, &format!("{indent}  "), is_in_list);
                }
                Shape::Sections(inner) if at.is_given() => {
                    let _ = writeln!(self.yaml, "{indent}{}:", field.name);
                    for item in at.items() {
                        let start = self.yaml.len();
                        self.add(inner, &item, &format!("{indent}    "), true);
                        if self.yaml.len() == start {
                            let _ = writeln!(self.yaml, "{indent}    {{}}  # {}", item.source());
                            self.digests.insert(item.path.to_string(), Vec::new());
                        }
                        // The dash of the item precedes its first key by two columns.
                        let dash = start + indent.len() + 2;
                        self.yaml.replace_range(dash..=dash, "-");
                    }
                }
                _ => self.add_value(field, &at, indent),
            }
        }
    }

    fn add_value(&mut self, field: &Field, at: &Cursor<'_>, indent: &str) {
        let value = at.value().map_or_else(|| default(&field.info), |value| to_yaml(value, &field.info));
        let shown = if field.info.is_secret && at.is_given() { "\"<hidden>\"" } else { &value };
        let source = if at.is_given() { at.source().to_string() } else { "default".to_owned() };
        if at.is_given() {
            self.given.insert(at.path.to_string());
        }
        let space = if shown.is_empty() { "" } else { " " };
        // Writing to a string cannot fail.
        let _ = writeln!(self.yaml, "{indent}{}:{space}{shown}  # {source}", field.name);
        let digests = if field.info.is_secret { &mut self.secrets } else { &mut self.digests };
        digests.insert(at.path.to_string(), digest(&SHA256, value.as_bytes()).as_ref().to_vec());
    }
}

fn default(info: &KeyInfo) -> String {
    match (&info.shape, info.default) {
        (_, None) => String::new(),
        (Shape::List { .. }, Some(text)) if !text.starts_with('[') => {
            to_yaml(&Value::from(text.split(',').map(Value::from).collect::<Vec<_>>()), info)
        }
        (Shape::Scalar { .. }, Some(text)) => to_yaml(&Value::from(text), info),
        (_, Some(text)) => text.to_owned(),
    }
}

/// A value as YAML on one line.
fn to_yaml(value: &Value, info: &KeyInfo) -> String {
    match value {
        Value::Dict(_, entries) => {
            let name = |name: &String| to_yaml(&Value::from(name.as_str()), info);
            let entry = |(key, value): (&String, &Value)| format!("{}: {}", name(key), to_yaml(value, info));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        Value::Array(_, items) => {
            format!("[{}]", items.iter().map(|item| to_yaml(item, info)).collect::<Vec<_>>().join(", "))
        }
        Value::String(_, text) if is_plain(text, info) => text.clone(),
        Value::String(_, text) => Json::from(text.as_str()).to_string(),
        _ => "~".to_owned(),
    }
}

/// Whether all YAML readers agree on the text without quotes.
fn is_plain(text: &str, info: &KeyInfo) -> bool {
    const RESERVED: &[&str] = &["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    if let Shape::Scalar { schema, .. } = &info.shape
        && matches!(schema["type"].as_str(), Some("number" | "integer" | "boolean"))
    {
        return true;
    }
    let word = Regex::new("^([A-Za-z/][A-Za-z0-9_./-]*|[0-9]+(ms|[smhdw]))$");
    word.is_ok_and(|word| word.is_match(text)) && !RESERVED.contains(&text.to_ascii_lowercase().as_str())
}
