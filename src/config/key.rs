//! The definition of a key: name, accepted values, default and documentation.
//!
//! [`define_section!`] turns definitions into a struct with a field for each key. The parser, environment variables,
//! flags, the JSON Schema, the sample file and `docs/configuration.md` are generated from them.

use std::collections::BTreeMap;

use figment::value::Value;
use serde_json::{Value as Json, json};

use super::cursor::Cursor;
use super::problem::sort;
use super::value::Scalar;

/// A section of a configuration; [`define_section!`] implements it.
pub(super) trait Section: Sized + 'static {
    fn fields() -> Vec<Field>;
    fn read_fields(cursor: &Cursor<'_>) -> Self;
}

/// A key in its section.
pub(super) struct Field {
    pub(super) name: &'static str,
    /// Markdown. The first sentence must make sense alone, for example in `--help`.
    pub(super) doc: &'static str,
    pub(super) info: KeyInfo,
}

impl Field {
    /// The names of the keys in this section, or in each section of this list.
    pub(super) fn names(&self) -> Vec<&'static str> {
        match &self.info.shape {
            Shape::Section(fields) | Shape::Sections(fields) => names(fields),
            _ => Vec::new(),
        }
    }

    /// The keys of a section. The keys of a section with an example are defined and documented elsewhere.
    pub(super) fn own_keys(&self) -> Option<&[Self]> {
        match &self.info.shape {
            Shape::Section(fields) if self.info.example.is_none() => Some(fields),
            _ => None,
        }
    }

    /// The documentation, on one line.
    pub(super) fn description(&self) -> String {
        self.doc.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The first sentence of the documentation, without its full stop.
    pub(super) fn summary(&self) -> String {
        let description = self.description();
        description.split_once(". ").map_or(description.trim_end_matches('.'), |(first, _)| first).to_owned()
    }
}

pub(super) fn names(fields: &[Field]) -> Vec<&'static str> {
    fields.iter().map(|field| field.name).collect()
}

/// The properties of a key.
pub(super) struct KeyInfo {
    /// In the format of an environment variable.
    pub(super) default: Option<&'static str>,
    pub(super) flag: Option<(&'static str, &'static str)>,
    /// Whether its value is never shown.
    pub(super) is_secret: bool,
    /// A value for the documentation, in YAML.
    pub(super) example: Option<&'static str>,
    pub(super) shape: Shape,
}

/// The type of a key's value.
pub(super) enum Shape {
    /// A single value; `accepted` describes it.
    Scalar { accepted: String, schema: Json },
    /// A list of single values.
    List { accepted: String, schema: Json },
    /// A mapping of user-defined names to single values.
    Mapping { accepted: String, schema: Json },
    /// A section of keys.
    Section(Vec<Field>),
    /// A list of sections.
    Sections(Vec<Field>),
}

/// A key with values of type `T`. Invalid and missing values become the default.
pub(super) struct Key<T> {
    pub(super) info: KeyInfo,
    read: Box<dyn Fn(&Cursor<'_>) -> T>,
}

impl<T: 'static> Key<T> {
    fn new(shape: Shape, read: impl Fn(&Cursor<'_>) -> T + 'static) -> Self {
        let info = KeyInfo { default: None, flag: None, is_secret: false, example: None, shape };
        Self { info, read: Box::new(read) }
    }

    pub(super) fn read(&self, cursor: &Cursor<'_>) -> T {
        (self.read)(cursor)
    }

    pub(super) fn map<U: 'static>(self, convert: fn(T) -> U) -> Key<U> {
        let read = self.read;
        Key { info: self.info, read: Box::new(move |cursor| convert(read(cursor))) }
    }

    /// Adds the flag `--flag VALUE`. Boolean keys get a flag without a value.
    pub(super) fn flag(mut self, flag: &'static str, value_name: &'static str) -> Self {
        self.info.flag = Some((flag, value_name));
        self
    }

    pub(super) fn example(mut self, yaml: &'static str) -> Self {
        self.info.example = Some(yaml);
        self
    }
}

impl<T: Clone + 'static> Scalar<T> {
    /// An optional key, for which "omitted" has its own meaning.
    pub(super) fn optional(self) -> Key<Option<T>> {
        let (is_secret, shape) = (self.is_secret, self.shape());
        let mut key = Key::new(shape, move |cursor| self.read(cursor));
        key.info.is_secret = is_secret;
        key
    }

    /// A key with the default `text`.
    #[expect(clippy::panic, reason = "a default is written in the schema, and a test reads all of them")]
    pub(super) fn default(self, text: &'static str) -> Key<T> {
        let default = self.parse(text).unwrap_or_else(|reason| panic!("the default {text} {reason}"));
        let mut key = Key::new(self.shape(), move |cursor| self.read(cursor).unwrap_or_else(|| default.clone()));
        key.info.default = Some(text);
        key
    }

    fn shape(&self) -> Shape {
        Shape::Scalar { accepted: self.accepted.clone(), schema: self.schema.clone() }
    }

    fn read(&self, cursor: &Cursor<'_>) -> Option<T> {
        let Value::String(_, text) = cursor.value()? else {
            cursor.report_value(false, &format!("is not {}", self.accepted));
            return None;
        };
        self.parse(text).map_err(|reason| cursor.report_value(self.is_secret, &reason)).ok()
    }
}

/// A list of distinct items; empty by default.
pub(super) fn list<T: Clone + PartialEq + 'static>(of: Scalar<T>) -> Key<Vec<T>> {
    let accepted = format!("a list; each item is {}", of.accepted);
    let schema = json!({ "type": "array", "items": of.schema, "uniqueItems": true });
    let mut key = Key::new(Shape::List { accepted, schema }, move |cursor| read_list(&of, cursor).unwrap_or_default());
    key.info.default = Some("[]");
    key
}

/// A list with a default, in the format of an environment variable.
#[expect(clippy::panic, reason = "a default is written in the schema, and a test reads all of them")]
pub(super) fn list_or<T: Clone + PartialEq + 'static>(of: Scalar<T>, default: &'static str) -> Key<Vec<T>> {
    let parse = |text: &str| of.parse(text).unwrap_or_else(|reason| panic!("the default {text} {reason}"));
    let items: Vec<T> = default.split(',').map(parse).collect();
    let mut key = list(of);
    let read = key.read;
    key.read = Box::new(move |cursor| if cursor.is_given() { read(cursor) } else { items.clone() });
    key.info.default = Some(default);
    key
}

/// A list that must not be empty if it is given.
pub(super) fn not_empty<T: 'static>(mut key: Key<Vec<T>>) -> Key<Vec<T>> {
    key.info.default = key.info.default.filter(|default| *default != "[]");
    let read = key.read;
    key.read = Box::new(move |cursor| {
        if cursor.value().and_then(Value::as_array).is_some_and(<[Value]>::is_empty) {
            cursor.report("is empty; leave it out for the default");
        }
        read(cursor)
    });
    if let Shape::List { schema, .. } = &mut key.info.shape {
        schema["minItems"] = json!(1);
    }
    key
}

fn read_list<T: Clone + PartialEq + 'static>(of: &Scalar<T>, cursor: &Cursor<'_>) -> Option<Vec<T>> {
    if !matches!(cursor.value()?, Value::Array(..)) {
        cursor.report_value(false, "is not a list; write [ ] around it");
        return None;
    }
    let mut found: Vec<(Cursor<'_>, T)> = Vec::new();
    for item in cursor.items() {
        let Some(value) = of.read(&item) else {
            if !item.is_given() {
                item.report_value(false, &format!("is not {}", of.accepted));
            }
            continue;
        };
        match found.iter().find(|(_, earlier)| *earlier == value) {
            Some((earlier, _)) => item.report_value(false, &format!("is given already, in {}", earlier.path)),
            None => found.push((item, value)),
        }
    }
    Some(found.into_iter().map(|(_, value)| value).collect())
}

/// A mapping of user-defined names to values. `check_name` returns the fault of a name.
pub(super) fn mapping<T: Clone + 'static>(
    check_name: fn(&str) -> Option<&'static str>,
    name: &'static str,
    of: Scalar<T>,
) -> Key<BTreeMap<String, T>> {
    let accepted = format!("{name}: {} for each", of.accepted);
    let schema = json!({ "type": "object", "additionalProperties": of.schema });
    let is_secret = of.is_secret;
    let mut key = Key::new(Shape::Mapping { accepted, schema }, move |cursor| {
        if let Some(other) = cursor.value().filter(|value| value.as_dict().is_none()) {
            cursor.report(format!("is {}, not a mapping; write {name}: VALUE for each", sort(other)));
        }
        let mut found = BTreeMap::new();
        for (name, entry) in cursor.entries() {
            if let Some(fault) = check_name(name) {
                entry.report(fault);
            } else if !entry.is_given() {
                entry.report(format!("has no value; write {}", of.accepted));
            } else if let Some(value) = of.read(&entry) {
                found.insert(name.to_owned(), value);
            }
        }
        found
    });
    key.info.is_secret = is_secret;
    key
}

/// A nested section.
pub(super) fn section<S: Section>() -> Key<S> {
    let fields = S::fields();
    let names = names(&fields);
    Key::new(Shape::Section(fields), move |cursor| {
        cursor.check_section(&names);
        S::read_fields(cursor)
    })
}

/// A section with the section `global` as fallback for omitted keys.
pub(super) fn overriding<S: Section>(global: &'static str) -> Key<S> {
    let fields = S::fields();
    let names = names(&fields);
    Key::new(Shape::Section(fields), move |cursor| {
        cursor.check_section(&names);
        S::read_fields(&cursor.or_global(global))
    })
}

/// A list of sections; by default, one without keys. An empty list is refused: it was probably truncated.
pub(super) fn sections<S: Section>() -> Key<Vec<S>> {
    let fields = S::fields();
    let names = names(&fields);
    let mut key = Key::new(Shape::Sections(fields), move |cursor| match cursor.value() {
        None if !cursor.is_blank() => vec![S::read_fields(cursor)],
        Some(Value::Array(_, items)) if !items.is_empty() => {
            let read = |item: Cursor<'_>| {
                item.check_section(&names);
                S::read_fields(&item)
            };
            cursor.items().map(read).collect()
        }
        None | Some(Value::Array(..)) => {
            cursor.report("is empty; leave it out for the default");
            Vec::new()
        }
        Some(other) => {
            cursor.report(format!("is {}, not a list; begin each item with a dash", sort(other)));
            Vec::new()
        }
    });
    key.info.default = Some("[{}]");
    key
}

/// A key of the exporter-toolkit format that is refused with a reason, because it is not supported.
pub(super) fn unsupported(reason: &'static str) -> Key<()> {
    let shape = Shape::Scalar { accepted: "not supported".to_owned(), schema: json!(false) };
    Key::new(shape, move |cursor| {
        if cursor.is_given() {
            cursor.report(reason);
        }
    })
}

/// Defines a section: a struct with a documented field for each key. If the name of a key differs from its field,
/// write `field = "Name"`.
macro_rules! define_section {
    (
        $(#[doc = $doc:literal])*
        $(#[derive($($derive:path),*)])?
        $visibility:vis struct $section:ident {
            $(
                $(#[doc = $key_doc:literal])*
                $key_visibility:vis $field:ident $(= $name:literal)?: $type:ty => $key:expr;
            )*
        }
    ) => {
        $(#[doc = $doc])*
        $(#[derive($($derive),*)])?
        $visibility struct $section {
            $($(#[doc = $key_doc])* $key_visibility $field: $type,)*
        }

        impl $crate::config::key::Section for $section {
            fn fields() -> Vec<$crate::config::key::Field> {
                vec![$({
                    let key: $crate::config::key::Key<$type> = $key;
                    $crate::config::key::Field {
                        name: $crate::config::key::define_section!(@name $field $($name)?),
                        doc: concat!($($key_doc, "\n"),*),
                        info: key.info,
                    }
                }),*]
            }

            fn read_fields(cursor: &$crate::config::cursor::Cursor<'_>) -> Self {
                Self {
                    $($field: {
                        let key: $crate::config::key::Key<$type> = $key;
                        key.read(&cursor.key($crate::config::key::define_section!(@name $field $($name)?)))
                    },)*
                }
            }
        }
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $name:literal) => { $name };
}
pub(super) use define_section;
