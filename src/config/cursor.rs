//! Walks over the merged values of all sources, and collects all problems.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use figment::value::{Empty, Value};
use figment::{Figment, Profile, Provider as _};

use super::key::{Field, Shape};
use super::path::KeyPath;
use super::problem::{Problem, Source, given, not_a_section};

/// Longer names are not typing errors, and comparing them is slow.
const MAX_COMPARED_BYTES: usize = 64;

/// Shorter parts of secrets reveal little, and occur in many other texts.
const MIN_SECRET_BYTES: usize = 4;

/// A configuration that is being read: its merged values, and the problems found so far.
pub(super) struct Reading {
    figment: Figment,
    root: Value,
    fields: Vec<Field>,
    /// The values of secret keys. No problem repeats one, even if it occurs elsewhere.
    secrets: BTreeSet<String>,
    problems: RefCell<Vec<Problem>>,
    /// The keys of a section that an unknown key in it can mean; all of them if the value is not a section.
    misspelt: RefCell<BTreeMap<KeyPath, BTreeSet<&'static str>>>,
}

impl Reading {
    pub(super) fn new(figment: Figment, fields: Vec<Field>) -> Self {
        let root = figment.data().ok().and_then(|mut profiles| profiles.remove(&Profile::Default)).unwrap_or_default();
        let root = Value::from(root);
        let mut secrets = BTreeSet::new();
        collect_secrets(&fields, &root, &mut secrets);
        Self { figment, root, fields, secrets, problems: RefCell::default(), misspelt: RefCell::default() }
    }

    pub(super) fn root(&self) -> Cursor<'_> {
        let (path, value) = (KeyPath::default(), Some(&self.root));
        Cursor { reading: self, path, value, nearest: &self.root, global: None }
    }

    pub(super) fn fields(&self) -> &[Field] {
        &self.fields
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// Whether a text equals, contains or is part of a secret.
    fn is_secret(&self, text: &str) -> bool {
        let holds = |one: &str, other: &str| other.len() >= MIN_SECRET_BYTES && one.contains(other);
        self.secrets.iter().any(|secret| secret == text || holds(secret, text) || holds(text, secret))
    }

    /// The source of `value` at `path`; `None` for a default.
    fn source(&self, path: &KeyPath, value: &Value) -> Option<Source> {
        let metadata = self.figment.get_metadata(value.tag())?;
        let line = metadata.interpolate(&Profile::Default, &path.0).parse().ok();
        Some(Source::new(&metadata.name, line))
    }
}

/// Collects the values of the secret keys among `fields`.
fn collect_secrets(fields: &[Field], section: &Value, secrets: &mut BTreeSet<String>) {
    let Value::Dict(_, entries) = section else { return };
    for field in fields {
        let Some(value) = entries.get(field.name) else { continue };
        match &field.info.shape {
            Shape::Section(fields) => collect_secrets(fields, value, secrets),
            Shape::Sections(fields) => {
                value.as_array().unwrap_or_default().iter().for_each(|item| collect_secrets(fields, item, secrets));
            }
            _ if field.info.is_secret => collect_texts(value, secrets),
            _ => {}
        }
    }
}

fn collect_texts(value: &Value, texts: &mut BTreeSet<String>) {
    match value {
        Value::Dict(_, entries) => entries.values().for_each(|value| collect_texts(value, texts)),
        Value::Array(_, items) => items.iter().for_each(|item| collect_texts(item, texts)),
        Value::String(_, text) => drop(texts.insert(text.clone())),
        _ => {}
    }
}

/// A position in a configuration, with its value.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    reading: &'a Reading,
    pub(super) path: KeyPath,
    value: Option<&'a Value>,
    /// `value`, or that of the nearest section around it, to locate a problem with a missing key.
    nearest: &'a Value,
    /// The section with the fallback values.
    global: Option<Box<Self>>,
}

impl<'a> Cursor<'a> {
    /// A key in this section, or in the global one if it is omitted here.
    pub(super) fn key(&self, name: &str) -> Self {
        let own = self.own_key(name);
        match self.global.as_ref().map(|global| global.key(name)) {
            Some(global) if own.is_given() => Self { global: Some(Box::new(global)), ..own },
            Some(global) => global,
            None => own,
        }
    }

    /// A key in this section, even if it is omitted here.
    fn own_key(&self, name: &str) -> Self {
        let entry = self.value.and_then(Value::as_dict).and_then(|entries| entries.get(name));
        self.at(self.path.key(name), entry)
    }

    /// This section, with the section `global` as fallback for omitted keys.
    pub(super) fn or_global(&self, global: &str) -> Self {
        Self { global: Some(Box::new(self.reading.root().key(global))), ..self.clone() }
    }

    /// The items of a list; none if the value is not a list.
    pub(super) fn items(&self) -> impl Iterator<Item = Self> {
        let items = self.value.and_then(Value::as_array).unwrap_or_default().iter().enumerate();
        items.map(|(index, item)| self.at(self.path.item(index), Some(item)))
    }

    fn at(&self, path: KeyPath, value: Option<&'a Value>) -> Self {
        let nearest = value.unwrap_or(self.nearest);
        // A key without a value counts as omitted.
        let value = value.filter(|value| !matches!(value, Value::Empty(..)));
        Self { reading: self.reading, path, value, nearest, global: None }
    }

    /// Whether the key is present without a value.
    pub(super) fn is_blank(&self) -> bool {
        self.value.is_none() && matches!(self.nearest, Value::Empty(..))
    }

    /// The value; `None` if the key was omitted.
    pub(super) fn value(&self) -> Option<&'a Value> {
        self.value
    }

    /// The entries of a mapping; none if the value is not a mapping.
    pub(super) fn entries(&self) -> Vec<(&'a str, Self)> {
        let entries = self.value.and_then(Value::as_dict).into_iter().flatten();
        entries.map(|(name, _)| (name.as_str(), self.key(name))).collect()
    }

    pub(super) fn is_given(&self) -> bool {
        self.value.is_some()
    }

    /// The source of the value, or of the nearest section around it; `default` if there is none.
    pub(super) fn source(&self) -> Source {
        self.reading.source(&self.path, self.nearest).unwrap_or_else(|| Source::new("default", None))
    }

    pub(super) fn report(&self, reason: impl Into<String>) {
        self.reading.problems.borrow_mut().push(Problem::new(self.source(), &self.path, reason));
    }

    /// Reports an invalid value; `reason` completes a sentence that begins with the value.
    pub(super) fn report_value(&self, is_secret: bool, reason: &str) {
        let value = self.value.cloned().unwrap_or_else(|| Value::from(Empty::None));
        let is_secret = is_secret || value.as_str().is_some_and(|text| self.reading.is_secret(text));
        self.report(format!("{} {reason}", given(&value, is_secret)));
    }

    /// Whether this value and all values inside are valid, so that a rule can use them.
    pub(super) fn is_valid(&self) -> bool {
        let path = self.path.to_string();
        let is_inside =
            |key: &str| key.strip_prefix(&path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        !self.reading.problems.borrow().iter().filter_map(|problem| problem.key.as_deref()).any(is_inside)
    }

    /// Whether all of these keys are omitted, and no unknown key in this section can mean one of them.
    pub(super) fn omits(&self, names: &[&str]) -> bool {
        !self.misspells(names) && !names.iter().any(|name| self.key(name).is_given())
    }

    /// Whether an unknown key in this section can mean one of these keys.
    pub(super) fn misspells(&self, names: &[&str]) -> bool {
        let misspelt = self.reading.misspelt.borrow();
        misspelt.get(&self.path).is_some_and(|misspelt| names.iter().any(|name| misspelt.contains(name)))
    }

    /// Reports unknown keys in this section, and a value that is not a section.
    pub(super) fn check_section(&self, names: &[&'static str]) {
        let mut misspelt = BTreeSet::new();
        match self.value {
            None => {}
            Some(Value::Dict(_, entries)) => {
                for name in entries.keys().filter(|name| !names.contains(&name.as_str())) {
                    let near = suggest(name, names.iter().copied());
                    misspelt.extend(names.iter().filter(|known| Some(**known) == near));
                    let meant = near.map(|near| self.path.key(near).to_string());
                    let hint = match meant.or_else(|| elsewhere(name, &self.reading.fields)) {
                        Some(meant) => format!("did you mean {meant}?"),
                        None => format!("known here: {}", names.join(", ")),
                    };
                    self.own_key(name).report(format!("unknown key; {hint}"));
                }
            }
            Some(other) => {
                misspelt.extend(names);
                self.report(not_a_section(other, names));
            }
        }
        self.reading.misspelt.borrow_mut().insert(self.path.clone(), misspelt);
    }
}

/// The path of the most similar key in the whole schema, compared with its last part or its whole path.
fn elsewhere(name: &str, fields: &[Field]) -> Option<String> {
    let mut paths = Vec::new();
    all_paths(fields, "", &mut paths);
    let edits = |path: &str| {
        let last = path.rsplit('.').next().unwrap_or(path);
        [distance(name, last), distance(name, path)].into_iter().flatten().min()
    };
    let scored = paths.into_iter().filter_map(|path| Some((edits(path.trim_end_matches("[]"))?, path)));
    scored.min_by_key(|(edits, _)| *edits).map(|(_, path)| path.trim_end_matches("[]").to_owned())
}

fn all_paths(fields: &[Field], section: &str, paths: &mut Vec<String>) {
    for field in fields {
        let path = if section.is_empty() { field.name.to_owned() } else { format!("{section}.{}", field.name) };
        let path = if matches!(field.info.shape, Shape::Sections(_)) { path + "[]" } else { path };
        paths.push(path.clone());
        match &field.info.shape {
            Shape::Sections(fields) => all_paths(fields, &path, paths),
            _ => all_paths(field.own_keys().unwrap_or_default(), &path, paths),
        }
    }
}

/// The most similar candidate, ignoring case; `None` if none is similar.
pub(super) fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = candidates.into_iter().filter_map(|candidate| Some((distance(word, candidate)?, candidate)));
    scored.min_by_key(|(edits, _)| *edits).map(|(_, candidate)| candidate)
}

/// The number of edits between the two; `None` if it exceeds a third of the word.
fn distance(word: &str, candidate: &str) -> Option<usize> {
    if word.len() > MAX_COMPARED_BYTES {
        return None;
    }
    let edits = strsim::osa_distance(&word.to_lowercase(), &candidate.to_lowercase());
    (edits <= (word.chars().count() / 3).max(1)).then_some(edits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_and_wrong_case_find_the_intended_word() {
        let known = ["interval", "timeout", "stale_after"];
        for (word, meant) in [("intervall", "interval"), ("tiemout", "timeout"), ("Stale-After", "stale_after")] {
            assert_eq!(suggest(word, known), Some(meant));
        }
        for word in ["color", "", &"x".repeat(1_000_000)] {
            assert_eq!(suggest(word, known), None);
        }
    }
}
