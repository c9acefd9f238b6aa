//! YAML texts as figment values, with the faults that YAML itself leaves to its reader.
//!
//! `yaml_serde` refuses a repeated key by ending at once. A file with a repeated key and five other faults should tell
//! all six, so the text is first taken as it is written, and then turned into a value fault by fault.

use std::collections::btree_map::Entry;

use figment::value::{Dict, Empty, Value};
use serde::de::{Deserialize, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::path::KeyPath;
use super::problem::abridged;

/// `yaml_serde` stops at 128 levels, but only after its scanner, whose time grows with the square of the depth of
/// brackets, has gone through the whole text.
const MAX_OPEN_BRACKETS: usize = 256;

/// The key that takes over the entries of another mapping (<https://yaml.org/type/merge.html>).
const MERGE: &str = "<<";

/// A value that a YAML text holds, and the places where the text is at fault.
pub(super) struct Parsed {
    pub(super) value: Value,
    pub(super) faults: Vec<(KeyPath, String)>,
}

/// Reads one YAML document, whose top stands at `at` in the configuration.
///
/// # Errors
/// Where it is not YAML; the text tells where and why, and repeats nothing of the document.
pub(super) fn read(text: &str, at: &KeyPath) -> Result<Parsed, String> {
    if open_brackets(text) > MAX_OPEN_BRACKETS {
        return Err("has more brackets inside brackets than any configuration needs".to_owned());
    }
    let node: Node = yaml_serde::from_str(text).map_err(|error| describe(&error))?;
    let mut faults = Vec::new();
    let value = node.into_value(at, &mut faults);
    Ok(Parsed { value, faults })
}

/// How many brackets are open at once, at most. Those in quotes and comments count too: it is a bound, no grammar.
fn open_brackets(text: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// The message of a YAML error without any value of the document: those about a type repeat the value.
fn describe(error: &yaml_serde::Error) -> String {
    let message = error.to_string();
    if !message.contains("invalid value") && !message.contains("invalid type") {
        return format!("is not YAML: {message}");
    }
    let place = error.location().map(|l| format!(" at line {} column {}", l.line(), l.column())).unwrap_or_default();
    format!("is not YAML: a value does not fit its tag{place}")
}

/// A document as it is written: keys of any sort, repeated ones, tags.
enum Node {
    Scalar(Value),
    List(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
    Tagged(String, Box<Node>),
}

type Faults = Vec<(KeyPath, String)>;

impl Node {
    fn into_value(self, at: &KeyPath, faults: &mut Faults) -> Value {
        match self {
            Self::Scalar(value) => value,
            Self::List(items) => {
                let items = items.into_iter().enumerate().map(|(index, item)| item.into_value(&at.item(index), faults));
                Value::from(items.collect::<Vec<_>>())
            }
            Self::Mapping(entries) => Value::from(mapping(entries, at, faults)),
            Self::Tagged(tag, content) => {
                faults.push((at.clone(), format!("has the tag !{}; no tag is known here", abridged(&tag))));
                content.into_value(at, faults)
            }
        }
    }
}

fn mapping(entries: Vec<(Node, Node)>, at: &KeyPath, faults: &mut Faults) -> Dict {
    let (mut own, mut merged) = (Dict::new(), Dict::new());
    for (key, node) in entries {
        let Node::Scalar(Value::String(_, name)) = key else {
            faults.push((at.clone(), "has a key that is not a text; every key here is one".to_owned()));
            continue;
        };
        if name == MERGE {
            merge(node, &mut merged, at, faults);
            continue;
        }
        let at = at.key(&name);
        match own.entry(name) {
            Entry::Occupied(_) => faults.push((at, "is there twice; keep one".to_owned())),
            Entry::Vacant(room) => drop(room.insert(node.into_value(&at, faults))),
        }
    }
    for (name, value) in merged {
        own.entry(name).or_insert(value);
    }
    own
}

/// Takes over the entries of the mapping or mappings that a merge key names; the first to name a key wins.
fn merge(node: Node, merged: &mut Dict, at: &KeyPath, faults: &mut Faults) {
    match node {
        Node::Mapping(entries) => {
            for (name, value) in mapping(entries, at, faults) {
                merged.entry(name).or_insert(value);
            }
        }
        Node::List(nodes) if nodes.iter().all(|node| matches!(node, Node::Mapping(_))) => {
            for node in nodes {
                merge(node, merged, at, faults);
            }
        }
        _ => faults.push((at.clone(), "has a merge key << that names neither a mapping nor a list of them".to_owned())),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    // A document without content.
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Empty::None.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Empty::Unit.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut mapping = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            mapping.push(entry);
        }
        Ok(Node::Mapping(mapping))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Node, A::Error> {
        let (tag, content) = tagged.variant::<String>()?;
        Ok(Node::Tagged(tag, Box::new(content.newtype_variant()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Parsed {
        read(text, &KeyPath::root()).unwrap_or_else(|error| panic!("{text:?} {error}"))
    }

    fn faults(text: &str) -> Vec<String> {
        parsed(text).faults.into_iter().map(|(at, reason)| format!("{at}: {reason}")).collect()
    }

    #[test]
    fn every_fault_of_a_text_is_told_at_once() {
        let found = faults("a: 1\na: 2\n5: x\nb: [{c: 1, c: 2}]\nd: !secret x\n");
        assert_eq!(found.len(), 4, "{found:#?}");
        assert_eq!(found[2], "b[0].c: is there twice; keep one");
    }

    #[test]
    fn a_merge_key_gives_what_the_mapping_has_not_itself() {
        let value = parsed("base: &base {a: 1, b: 1}\nof: {b: 2, <<: *base}\n").value;
        let of = value.find("of").and_then(Value::into_dict).expect("a mapping");
        assert_eq!((of.get("a"), of.get("b")), (Some(&Value::from(1u64)), Some(&Value::from(2u64))));
    }

    #[test]
    fn the_first_of_several_merged_mappings_wins() {
        let value = parsed("a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b]}\n").value;
        assert_eq!(value.clone().find("c.x"), Some(Value::from(1u64)));
        assert_eq!(value.find("c.y"), Some(Value::from(2u64)));
    }

    #[test]
    fn a_merge_key_that_names_no_mapping_is_a_fault() {
        assert_eq!(faults("a: {<<: 5}").len(), 1);
        assert_eq!(faults("a: {<<: [{b: 1}, 5]}").len(), 1);
    }

    #[test]
    fn what_is_not_yaml_is_refused_without_repeating_any_of_it() {
        for text in
            ["a: [hunter2", "a: \"hunter2", "a: !!int hunter2", "a: *hunter2", "a: 1\n---\nb: hunter2", "a: hunter2: x"]
        {
            let error = read(text, &KeyPath::root()).err().expect(text);
            assert!(error.starts_with("is not YAML: ") && !error.contains("hunter2"), "{text:?} {error}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_costs_no_stack() {
        for text in
            ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(10_000), "[".repeat(200) + &"]".repeat(200)]
        {
            assert!(read(&text, &KeyPath::root()).is_err());
        }
    }

    #[test]
    fn aliases_that_hold_themselves_or_multiply_are_refused() {
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let items = vec![format!("*a{}", level - 1); 8].join(", ");
            laughs += &["a", &level.to_string(), ": &a", &level.to_string(), " [", &items, "]\n"].concat();
        }
        for text in ["a: &a [*a]", &laughs] {
            assert!(read(text, &KeyPath::root()).is_err());
        }
    }
}
