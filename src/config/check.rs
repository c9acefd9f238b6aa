//! Holds the merged values against the table of keys, and finds everything that is wrong with them at once.
//!
//! serde ends at its first error, so it gets only what came through here: the settled value, in which each key that
//! was given rightly has the form that its field takes, and every other one its default.

use std::collections::{BTreeMap, BTreeSet};

use figment::value::{Dict, Value};
use figment::{Figment, Profile, Provider};

use super::form;
use super::keys::{self, Key};
use super::kind::{Kind, Refusal};
use super::path::KeyPath;
use super::problem::{Problem, given, sort};
use super::sources::from_text;

/// The problems found, and where each given value came from.
#[derive(Default)]
pub(super) struct Findings {
    problems: Vec<Problem>,
    sources: BTreeMap<String, String>,
    /// Sections with an unknown key in them, or with something that is no section in their place.
    garbled: BTreeSet<String>,
}

impl Findings {
    /// Tells of a problem with what stands at `at`.
    pub(super) fn tell(&mut self, at: &KeyPath, reason: impl Into<String>) {
        let source = self.sources.get(at.shown()).map_or("defaults", String::as_str);
        self.problems.push(Problem::new(source, at, reason));
    }

    /// Whether nothing was found at `at` or inside it, so that rules can go by its value.
    pub(super) fn none_at(&self, at: &KeyPath) -> bool {
        let inside = |key: &str| {
            key.strip_prefix(at.shown()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        !self.problems.iter().filter_map(Problem::key).any(inside)
    }

    /// Whether a key that is missing in `section` was left out on purpose, for all that is known: no other one stands
    /// there that could be it, mistyped.
    pub(super) fn tells_all(&self, section: &KeyPath) -> bool {
        !self.garbled.contains(section.shown())
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}

/// Checks what the sources say together, and settles it.
pub(super) fn settle(figment: &Figment, findings: &mut Findings) -> Value {
    let merged = figment.data().ok().and_then(|mut profiles| profiles.remove(&Profile::Default)).unwrap_or_default();
    let merged = Value::from(merged);
    let mut secrets = BTreeSet::new();
    collect_secrets(&merged, &KeyPath::root(), false, &mut secrets);
    Walk { figment, findings, secrets }.section(&KeyPath::root(), Some(&merged))
}

/// Everything that stands where a secret belongs, as a problem would repeat it.
fn collect_secrets(value: &Value, at: &KeyPath, secret: bool, secrets: &mut BTreeSet<String>) {
    let secret = secret || keys::find(at).is_some_and(|key| key.secret);
    match value {
        Value::Dict(_, entries) => {
            for (name, value) in entries {
                collect_secrets(value, &at.key(name), secret, secrets);
            }
        }
        Value::Array(_, items) => {
            for (index, item) in items.iter().enumerate() {
                collect_secrets(item, &at.item(index), secret, secrets);
            }
        }
        Value::String(..) | Value::Char(..) | Value::Num(..) if secret => {
            secrets.insert(given(value, false));
        }
        _ => {}
    }
}

struct Walk<'a> {
    figment: &'a Figment,
    findings: &'a mut Findings,
    secrets: BTreeSet<String>,
}

impl Walk<'_> {
    /// Settles the keys of a section. One that is empty or not there has all defaults.
    fn section(&mut self, at: &KeyPath, value: Option<&Value>) -> Value {
        let names = keys::names_in(at);
        let empty = Dict::new();
        let entries = match value {
            Some(Value::Dict(_, entries)) => entries,
            None | Some(Value::Empty(..)) => &empty,
            Some(other) => {
                let reason = format!("is {}, not a section; the keys in it are {}", sort(other), names.join(", "));
                self.findings.tell(at, reason);
                self.findings.garbled.insert(at.shown().to_owned());
                &empty
            }
        };
        let mut settled = Dict::new();
        for name in &names {
            if let Some(value) = self.entry(&at.key(name), entries.get(*name)) {
                settled.insert((*name).to_owned(), value);
            }
        }
        for (name, value) in entries.iter().filter(|(name, _)| !names.contains(&name.as_str())) {
            self.unknown(at, name, value);
        }
        Value::from(settled)
    }

    /// Settles a known key or section; `None` where it is left out and has no default.
    fn entry(&mut self, at: &KeyPath, value: Option<&Value>) -> Option<Value> {
        let value = value.filter(|value| !matches!(value, Value::Empty(..)));
        if let Some(value) = value {
            self.note_source(at, value);
        }
        match keys::find(at) {
            None => Some(self.section(at, value)),
            Some(key) => value.and_then(|value| self.read(at, key, value)).or_else(|| self.default(at, key)),
        }
    }

    fn default(&mut self, at: &KeyPath, key: &Key) -> Option<Value> {
        let parsed = from_text(&key.kind, key.default?, at).ok()?;
        self.read(at, key, &parsed.value)
    }

    fn unknown(&mut self, section: &KeyPath, name: &str, value: &Value) {
        let at = section.key(name);
        self.note_source(&at, value);
        let hint = match keys::nearest(section, name) {
            Some(near) => format!("did you mean {}?", at.localize(near)),
            None => format!("known here are {}", keys::names_in(section).join(", ")),
        };
        self.findings.tell(&at, format!("unknown key; {hint}"));
        self.findings.garbled.insert(section.shown().to_owned());
    }

    fn read(&mut self, at: &KeyPath, key: &Key, value: &Value) -> Option<Value> {
        match &key.kind {
            Kind::Sections => self.sections(at, value),
            Kind::Labels => self.labels(at, value),
            Kind::List { of, min_items } => self.list(at, key, of, *min_items, value),
            scalar => self.scalar(at, key, scalar, value),
        }
    }

    fn scalar(&mut self, at: &KeyPath, key: &Key, kind: &Kind, value: &Value) -> Option<Value> {
        match kind.read_scalar(value) {
            Ok(read) => Some(read),
            Err(Refusal::Unquoted) => {
                self.findings.tell(at, unquoted(value, self.is_secret(key.secret, value)));
                None
            }
            Err(Refusal::Because(reason)) => {
                self.findings.tell(at, format!("{} {reason}", given(value, self.is_secret(key.secret, value))));
                None
            }
        }
    }

    fn list(&mut self, at: &KeyPath, key: &Key, of: &Kind, min_items: usize, value: &Value) -> Option<Value> {
        let Value::Array(_, items) = value else {
            self.findings.tell(
                at,
                format!("{} is not a list; write [ ] around it", given(value, self.is_secret(key.secret, value))),
            );
            return None;
        };
        if items.len() < min_items {
            self.findings.tell(at, "is empty; leave it out for the default");
            return None;
        }
        let mut settled: Vec<(KeyPath, Value)> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let at = at.item(index);
            self.note_source(&at, item);
            let Some(read) = self.scalar(&at, key, of, item) else { continue };
            match settled.iter().find(|(_, earlier)| *earlier == read) {
                Some((earlier, _)) => {
                    self.findings.tell(
                        &at,
                        format!("{} is there already, in {earlier}", given(item, self.is_secret(key.secret, item))),
                    );
                }
                None => settled.push((at, read)),
            }
        }
        Some(Value::from(settled.into_iter().map(|(_, value)| value).collect::<Vec<_>>()))
    }

    /// Settles a list of sections. What is wrong with an item leaves an empty one in its place, so that the index of
    /// the others stays.
    fn sections(&mut self, at: &KeyPath, value: &Value) -> Option<Value> {
        let Value::Array(_, items) = value else {
            self.findings.tell(at, format!("is {}, not a list; begin each item with a dash", sort(value)));
            return None;
        };
        if items.is_empty() {
            self.findings.tell(at, "is empty; leave it out for the default");
            return None;
        }
        let settled = items.iter().enumerate().map(|(index, item)| {
            let at = at.item(index);
            self.note_source(&at, item);
            self.section(&at, Some(item))
        });
        Some(Value::from(settled.collect::<Vec<_>>()))
    }

    fn labels(&mut self, at: &KeyPath, value: &Value) -> Option<Value> {
        let Value::Dict(_, entries) = value else {
            self.findings.tell(at, format!("is {}, not a mapping; write NAME: VALUE for each label", sort(value)));
            return None;
        };
        let mut settled = Dict::new();
        for (name, value) in entries {
            let at = at.key(name);
            self.note_source(&at, value);
            let fault = form::label_name_fault(name);
            match (fault, value) {
                (Some(fault), _) => self.findings.tell(&at, fault),
                (None, Value::String(..)) => drop(settled.insert(name.clone(), value.clone())),
                (None, Value::Num(..) | Value::Bool(..)) => {
                    self.findings.tell(&at, unquoted(value, self.is_secret(false, value)));
                }
                (None, _) => {
                    self.findings.tell(
                        &at,
                        format!("{} is not a label's value; write a text", given(value, self.is_secret(false, value))),
                    );
                }
            }
        }
        Some(Value::from(settled))
    }

    /// Whether a value must not be repeated: it is a secret, or the same as one, by an alias or put into the wrong place.
    fn is_secret(&self, of_secret_key: bool, value: &Value) -> bool {
        of_secret_key || self.secrets.contains(&given(value, false))
    }

    fn note_source(&mut self, at: &KeyPath, value: &Value) {
        if let Some(metadata) = self.figment.get_metadata(value.tag()) {
            self.findings.sources.insert(at.shown().to_owned(), metadata.name.clone().into_owned());
        }
    }
}

/// The reason where a text was asked for and YAML read something else. What was written is gone by then: `0x10` is
/// told as the 16 that YAML made of it.
fn unquoted(value: &Value, secret: bool) -> String {
    let read = match value {
        _ if secret => sort(value).to_owned(),
        Value::Num(..) => format!("the number {}", given(value, secret)),
        _ => given(value, secret),
    };
    format!("YAML reads this as {read}, and a text belongs here; put it in quotes")
}
