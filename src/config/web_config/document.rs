//! The file as it is written: its sections and keys, and everything that is wrong with them.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use figment::value::{Dict, Value};

use super::headers;
use crate::config::file;
use crate::config::nearest::nearest;
use crate::config::path::KeyPath;
use crate::config::problem::{Problem, abridged, given, sort};
use crate::config::yaml;

/// The keys of each section. Those of `basic_auth_users` are the users.
fn keys_in(section: &str) -> Vec<&'static str> {
    match section {
        "" => vec!["tls_server_config", "http_server_config", "basic_auth_users"],
        "tls_server_config" => vec![
            "cert_file",
            "key_file",
            "cert",
            "key",
            "client_auth_type",
            "client_ca_file",
            "client_ca",
            "client_allowed_sans",
            "min_version",
            "max_version",
            "cipher_suites",
            "prefer_server_cipher_suites",
            "curve_preferences",
        ],
        "http_server_config" => vec!["http2", "headers"],
        "http_server_config.headers" => headers::names(),
        _ => Vec::new(),
    }
}

/// The sections whose keys are known.
const SECTIONS: [&str; 4] = ["", "tls_server_config", "http_server_config", "http_server_config.headers"];

/// What was probably meant by `name` in `section`: a key of this section, or else one of another.
fn meant(section: &KeyPath, name: &str) -> Option<String> {
    if let Some(near) = nearest(name, keys_in(section.pattern())) {
        return Some(section.key(near).to_string());
    }
    let others =
        || SECTIONS.into_iter().flat_map(|section| keys_in(section).into_iter().map(move |key| (section, key)));
    let near = nearest(name, others().map(|(_, key)| key))?;
    let (section, key) = others().find(|(_, key)| *key == near)?;
    Some(if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") })
}

/// A web configuration while it is read.
pub(super) struct Document {
    source: String,
    directory: PathBuf,
    problems: Vec<Problem>,
    /// Over everything that was read.
    content: digest::Context,
}

impl Document {
    /// Reads the file, and gives its content; an empty one where there is none that can be read.
    pub(super) fn open(path: &Path) -> (Self, Value) {
        let mut document = Self::at(path);
        let value = match file::text(path) {
            Ok(text) => document.parse(&text),
            Err(reason) => document.fail(reason),
        };
        (document, value)
    }

    /// A document that stands at `path`, nothing of it read yet.
    pub(super) fn at(path: &Path) -> Self {
        Self {
            source: path.display().to_string(),
            directory: path.parent().map(Path::to_path_buf).unwrap_or_default(),
            problems: Vec::new(),
            content: digest::Context::new(&digest::SHA256),
        }
    }

    /// Takes its text.
    pub(super) fn parse(&mut self, text: &str) -> Value {
        self.note(text.as_bytes());
        match yaml::read(text, &KeyPath::root()) {
            Ok(parsed) => {
                for (at, reason) in parsed.faults {
                    self.tell(&at, reason);
                }
                parsed.value
            }
            Err(reason) => self.fail(reason),
        }
    }

    fn fail(&mut self, reason: String) -> Value {
        self.tell(&KeyPath::root(), reason);
        Value::from(Dict::new())
    }

    /// Tells of a problem with what stands at `at`.
    pub(super) fn tell(&mut self, at: &KeyPath, reason: impl Into<String>) {
        self.problems.push(Problem::new(&self.source, at, reason));
    }

    /// The whole document as a section.
    pub(super) fn top(&mut self, value: &Value) -> Section<'_> {
        Section::new(self, KeyPath::root(), Some(value))
    }

    /// Everything that is wrong, and the digest of everything that was read.
    pub(super) fn close(self) -> (Vec<Problem>, digest::Digest) {
        (self.problems, self.content.finish())
    }

    fn note(&mut self, bytes: &[u8]) {
        // With its length, so that what moves from one file to the next is seen.
        self.content.update(&bytes.len().to_be_bytes());
        self.content.update(bytes);
    }
}

/// A section of the document. What is asked for and is not right is told, and then it is as if it were not there.
pub(super) struct Section<'a> {
    document: &'a mut Document,
    at: KeyPath,
    entries: Dict,
    /// How much was wrong before this section was read.
    earlier: usize,
    garbled: bool,
}

impl<'a> Section<'a> {
    /// Takes what stands at `at` for a section; tells of keys that are unknown there. One that is empty or not there
    /// has no keys.
    fn new(document: &'a mut Document, at: KeyPath, value: Option<&Value>) -> Self {
        let earlier = document.problems.len();
        let known = keys_in(at.pattern());
        let entries = match value {
            Some(Value::Dict(_, entries)) => entries.clone(),
            None | Some(Value::Empty(..)) => Dict::new(),
            Some(other) => {
                let keys = if known.is_empty() { "NAME: HASH for each user".to_owned() } else { known.join(", ") };
                document.tell(&at, format!("is {}, not a section; in it belong {keys}", sort(other)));
                Dict::new()
            }
        };
        let mut section = Self { document, at, entries, earlier, garbled: false };
        if !known.is_empty() {
            for name in section.names().into_iter().filter(|name| !known.contains(&name.as_str())) {
                section.unknown(&name, &known);
            }
        }
        section
    }

    fn unknown(&mut self, name: &str, known: &[&str]) {
        let reason = match (self.at.pattern(), name) {
            // Part of the format, so that it deserves better than to be unknown.
            ("", "rate_limit") => "is not supported: this exporter has no rate limit; leave it out".to_owned(),
            _ => match meant(&self.at, name) {
                Some(near) => format!("unknown key; did you mean {near}?"),
                None => format!("unknown key; known here are {}", known.join(", ")),
            },
        };
        self.tell(name, reason);
        self.garbled = true;
    }

    /// Every key that was given, known or not.
    pub(super) fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    /// Whether `name` was given, rightly or not.
    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Whether anything was given at all.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a key that is missing was left out on purpose, for all that is known: no other one stands here that could
    /// be it, mistyped.
    pub(super) fn tells_all(&self) -> bool {
        !self.garbled
    }

    /// Whether nothing was told of this section so far.
    pub(super) fn is_flawless(&self) -> bool {
        self.document.problems.len() == self.earlier
    }

    /// Tells of a problem with the key `name`.
    pub(super) fn tell(&mut self, name: &str, reason: impl Into<String>) {
        self.document.tell(&self.at.key(name), reason);
    }

    /// Tells that the text given for `name` is not what is accepted there.
    pub(super) fn is_not(&mut self, name: &str, text: &str, accepted: &str) {
        self.tell(name, format!("{} is not {accepted}", given(&Value::from(text), false)));
    }

    /// A section in this one.
    pub(super) fn section(&mut self, name: &str) -> Section<'_> {
        let value = self.value(name).cloned();
        Section::new(self.document, self.at.key(name), value.as_ref())
    }

    /// A text.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.scalar(name, false)
    }

    /// A text that is not shown in a problem.
    pub(super) fn secret(&mut self, name: &str) -> Option<String> {
        self.scalar(name, true)
    }

    /// A text, or the number that YAML makes of one that is a digit.
    pub(super) fn text_or_digit(&mut self, name: &str) -> Option<String> {
        match self.value(name).and_then(Value::to_u128) {
            Some(digit @ 0..=9) => Some(digit.to_string()),
            _ => self.text(name),
        }
    }

    /// True or false.
    pub(super) fn truth(&mut self, name: &str) -> Option<bool> {
        let value = self.value(name)?;
        let truth = value.to_bool();
        if truth.is_none() {
            let reason = format!("{} is not true or false", given(value, false));
            self.tell(name, reason);
        }
        truth
    }

    /// A text that is one of some words, each of which stands for something.
    pub(super) fn word<T: Copy>(&mut self, name: &str, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(name)?;
        let meaning = find(&text, words);
        if meaning.is_none() {
            self.is_not(name, &text, &one_of(&text, words));
        }
        meaning
    }

    /// A list of texts, with the place of each; `None` where it is left out.
    pub(super) fn list(&mut self, name: &str) -> Option<Vec<(KeyPath, String)>> {
        let at = self.at.key(name);
        match self.value(name)?.clone() {
            Value::Array(_, items) => {
                let items = items.iter().enumerate();
                Some(items.filter_map(|(index, item)| self.document.text(&at.item(index), item, false)).collect())
            }
            other => {
                self.tell(name, format!("{} is not a list; write [ ] around it", given(&other, false)));
                None
            }
        }
    }

    /// Whether a list without items was given for `name`.
    pub(super) fn is_empty_list(&self, name: &str) -> bool {
        self.value(name).and_then(Value::as_array).is_some_and(<[Value]>::is_empty)
    }

    /// A list of words, each of which stands for something; none of them twice. What is wrong with one of them is told
    /// by `describe` where that has something to say.
    pub(super) fn words<T: Copy>(
        &mut self,
        name: &str,
        words: &[(&'static str, T)],
        describe: impl Fn(&str) -> Option<String>,
    ) -> Vec<T> {
        let mut found: Vec<(String, T)> = Vec::new();
        for (at, text) in self.list(name).unwrap_or_default() {
            match find(&text, words) {
                Some(_) if found.iter().any(|(earlier, _)| *earlier == text) => {}
                Some(meaning) => found.push((text, meaning)),
                None => {
                    let reason = describe(&text).unwrap_or_else(|| format!("is not {}", one_of(&text, words)));
                    self.document.tell(&at, format!("{} {reason}", given(&Value::from(text), false)));
                }
            }
        }
        found.into_iter().map(|(_, meaning)| meaning).collect()
    }

    /// The bytes that stand in the key `inline`, or in the file that the key `file` names, and which of the two keys
    /// that was. A relative path starts in the folder of the document.
    pub(super) fn bytes(
        &mut self,
        inline: &'static str,
        file: &'static str,
        secret: bool,
    ) -> Option<(&'static str, Vec<u8>)> {
        if self.has(inline) && self.has(file) {
            self.tell(inline, format!("is given, and {file} too; leave one of them out"));
            return None;
        }
        if self.has(inline) {
            return Some((inline, self.scalar(inline, secret)?.into_bytes()));
        }
        let path = self.text(file)?;
        if path.is_empty() {
            self.tell(file, "is empty; give the path of a file");
            return None;
        }
        // Not to be repeated as a path that can't be read.
        if path.contains("-----BEGIN") || path.contains('\n') {
            self.tell(file, format!("is no path; what stands in the file itself belongs in {inline}"));
            return None;
        }
        // A URL can hold a password, and is not repeated either.
        if path.contains("://") {
            self.tell(file, "is a URL; give the path of a file");
            return None;
        }
        let path = self.document.directory.join(path);
        match file::bytes(&path) {
            Ok(bytes) => {
                self.document.note(&bytes);
                Some((file, bytes))
            }
            Err(reason) => {
                self.tell(file, format!("\"{}\" {reason}", abridged(&path.display().to_string())));
                None
            }
        }
    }

    fn scalar(&mut self, name: &str, secret: bool) -> Option<String> {
        let (at, value) = (self.at.key(name), self.value(name)?.clone());
        self.document.text(&at, &value, secret).map(|(_, text)| text)
    }

    /// What was given for `name`. A key without a value is one that was left out.
    fn value(&self, name: &str) -> Option<&Value> {
        self.entries.get(name).filter(|value| !matches!(value, Value::Empty(..)))
    }
}

impl Document {
    fn text(&mut self, at: &KeyPath, value: &Value, secret: bool) -> Option<(KeyPath, String)> {
        let reason = match value {
            Value::String(_, text) => return Some((at.clone(), text.clone())),
            Value::Num(..) | Value::Bool(..) => {
                let read = if secret { sort(value).to_owned() } else { given(value, false) };
                format!("YAML reads this as {read}, and a text belongs here; put it in quotes")
            }
            other => format!("{} is not a text", given(other, secret)),
        };
        self.tell(at, reason);
        None
    }
}

fn find<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Option<T> {
    words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning)
}

fn one_of<T>(text: &str, words: &[(&'static str, T)]) -> String {
    let words = || words.iter().map(|(word, _)| *word);
    let hint = nearest(text, words()).map(|word| format!("; did you mean {word}?")).unwrap_or_default();
    format!("one of {}{hint}", words().collect::<Vec<_>>().join(", "))
}
