//! Parses YAML into figment values, with the line of every key and with mistakes that YAML parsers ignore.
//!
//! Every scalar stays a text, and its key determines the meaning. So a file, a variable and a flag are parsed the same
//! way, and an account id keeps its leading zero.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use figment::value::{Dict, Empty, Value};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::path::KeyPath;

/// The largest nesting of lists and mappings. The deepest key has a depth of six.
const MAX_DEPTH: usize = 32;

/// The largest number of values in a document, including those of aliases. A thousand targets have fewer than 20,000.
const MAX_VALUES: usize = 200_000;

/// The key that merges the entries of another mapping (<https://yaml.org/type/merge.html>).
const MERGE: &str = "<<";

/// A document, with the line of each of its keys and items, counted from 1.
pub(super) struct Document {
    pub(super) value: Value,
    pub(super) lines: BTreeMap<KeyPath, usize>,
    pub(super) mistakes: Vec<(KeyPath, usize, String)>,
}

/// Why a text is not YAML. The reason does not repeat the text.
pub(super) struct SyntaxError {
    pub(super) line: usize,
    pub(super) reason: String,
}

impl SyntaxError {
    fn new(span: Span, reason: &str) -> Self {
        Self { line: span.start.line(), reason: format!("is not YAML: {reason}") }
    }
}

impl From<ScanError> for SyntaxError {
    fn from(error: ScanError) -> Self {
        Self { line: error.marker().line(), reason: format!("is not YAML: {}", error.info()) }
    }
}

/// Parses one document with its root at `root`.
///
/// # Errors
/// If the text is not YAML, or exceeds the limits of nesting or aliases.
pub(super) fn read(text: &str, root: &KeyPath) -> Result<Document, SyntaxError> {
    let mut loader = Loader { events: Parser::new_from_str(text), anchors: BTreeMap::new(), values: 0 };
    let node = loader.document()?;
    let mut document = Document::from(Value::from(Empty::None));
    document.value = document.convert(node, root);
    Ok(document)
}

#[derive(Clone)]
struct Node {
    line: usize,
    /// The number of its values.
    size: usize,
    is_tagged: bool,
    content: Content,
}

#[derive(Clone)]
enum Content {
    /// `None` is YAML's null.
    Scalar(Option<String>),
    List(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
}

struct Loader<'a> {
    events: Parser<'a, StrInput<'a>>,
    anchors: BTreeMap<usize, Node>,
    values: usize,
}

impl<'a> Loader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), SyntaxError> {
        Ok(self.events.next().transpose()?.unwrap_or((Event::StreamEnd, Span::default())))
    }

    fn document(&mut self) -> Result<Node, SyntaxError> {
        let mut content = None;
        loop {
            match self.next()? {
                (Event::StreamEnd, span) => {
                    let line = span.start.line();
                    let empty = Node { line, size: 1, is_tagged: false, content: Content::Scalar(None) };
                    return Ok(content.unwrap_or(empty));
                }
                (Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd, _) => {}
                (_, span) if content.is_some() => return Err(SyntaxError::new(span, "there is a second document")),
                (event, span) => content = Some(self.node(event, span, 0)?),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, SyntaxError> {
        if depth > MAX_DEPTH {
            return Err(SyntaxError::new(span, "lists and mappings are nested too deeply"));
        }
        let before = self.values;
        self.values += 1;
        let (anchor, is_tagged, content) = match event {
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| SyntaxError::new(span, "an alias stands inside its own anchor"))?;
                self.values += node.size;
                return if self.values > MAX_VALUES { Err(too_many(span)) } else { Ok(node) };
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_null = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                (anchor, tag.is_some(), Content::Scalar((!is_null).then(|| text.into_owned())))
            }
            Event::SequenceStart(anchor, tag) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                }
                (anchor, tag.is_some(), Content::List(items))
            }
            Event::MappingStart(anchor, tag) => {
                let mut entries = Vec::new();
                loop {
                    let key = match self.next()? {
                        (Event::MappingEnd, _) => break,
                        (event, span) => self.node(event, span, depth + 1)?,
                    };
                    let (event, span) = self.next()?;
                    entries.push((key, self.node(event, span, depth + 1)?));
                }
                (anchor, tag.is_some(), Content::Mapping(entries))
            }
            _ => return Err(SyntaxError::new(span, "it ends too early")),
        };
        if self.values > MAX_VALUES {
            return Err(too_many(span));
        }
        let node = Node { line: span.start.line(), size: self.values - before, is_tagged, content };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }
}

fn too_many(span: Span) -> SyntaxError {
    SyntaxError::new(span, &format!("it has more than {MAX_VALUES} values, those of aliases included"))
}

impl From<Value> for Document {
    fn from(value: Value) -> Self {
        Self { value, lines: BTreeMap::new(), mistakes: Vec::new() }
    }
}

impl Document {
    fn convert(&mut self, node: Node, at: &KeyPath) -> Value {
        self.lines.entry(at.clone()).or_insert(node.line);
        if node.is_tagged {
            self.mistakes.push((at.clone(), node.line, "has a tag (!…); no tags are supported".to_owned()));
        }
        match node.content {
            Content::Scalar(None) => Value::from(Empty::None),
            Content::Scalar(Some(text)) => Value::from(text),
            Content::List(items) => {
                let items = items.into_iter().enumerate();
                Value::from(items.map(|(index, item)| self.convert(item, &at.item(index))).collect::<Vec<_>>())
            }
            Content::Mapping(entries) => Value::from(self.mapping(entries, at)),
        }
    }

    fn mapping(&mut self, entries: Vec<(Node, Node)>, at: &KeyPath) -> Dict {
        let (mut own, mut merged) = (Dict::new(), Vec::new());
        for (key, node) in entries {
            match key.content {
                Content::Scalar(Some(name)) if name == MERGE => merged.push(node),
                Content::Scalar(Some(name)) => {
                    let at = at.key(&name);
                    match own.entry(name) {
                        Entry::Occupied(_) => {
                            self.mistakes.push((at, key.line, "is given twice; keep one".to_owned()));
                        }
                        Entry::Vacant(slot) => {
                            // The line of the key, not that of a block that begins below it.
                            self.lines.entry(at.clone()).or_insert(key.line);
                            slot.insert(self.convert(node, &at));
                        }
                    }
                }
                _ => self.mistakes.push((at.clone(), key.line, "has a key that is not a name".to_owned())),
            }
        }
        for node in merged {
            self.merge(node, &mut own, at);
        }
        own
    }

    /// Adds the entries of the mapping or mappings of a merge key; the first one with a key wins.
    fn merge(&mut self, node: Node, into: &mut Dict, at: &KeyPath) {
        match node.content {
            Content::Mapping(entries) => {
                for (name, value) in self.mapping(entries, at) {
                    into.entry(name).or_insert(value);
                }
            }
            Content::List(nodes) => nodes.into_iter().for_each(|node| self.merge(node, into, at)),
            Content::Scalar(_) => {
                let reason = "has a merge key << that names neither a mapping nor a list of mappings";
                self.mistakes.push((at.clone(), node.line, reason.to_owned()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        read(text, &KeyPath::default()).unwrap_or_else(|error| panic!("{text:?} {}", error.reason))
    }

    fn mistakes(text: &str) -> Vec<String> {
        document(text).mistakes.into_iter().map(|(at, line, reason)| format!("{line}: {at}: {reason}")).collect()
    }

    #[test]
    fn every_mistake_is_reported_with_its_line() {
        let found = mistakes("a: 1\na: 2\n[5]: x\nb: [{c: 1, c: 2}]\nd: !secret x\n");
        assert_eq!(
            found,
            [
                "2: a: is given twice; keep one",
                "3: : has a key that is not a name",
                "4: b[0].c: is given twice; keep one",
                "5: d: has a tag (!…); no tags are supported"
            ]
        );
    }

    #[test]
    fn every_key_and_item_has_its_line() {
        let lines = document("a:\n  b:\n    - c: 1\n\n      d: 2\n    - e\nf: {g: 1,\n h: 2}\n").lines;
        let line = |path: KeyPath| lines[&path];
        let b = KeyPath::of("a.b");
        assert_eq!((line(KeyPath::of("a")), line(b.clone()), line(b.item(0).key("c"))), (1, 2, 3));
        assert_eq!((line(b.item(0).key("d")), line(b.item(1)), line(KeyPath::of("f.h"))), (5, 6, 8));
    }

    #[test]
    fn scalars_keep_the_text_that_was_written() {
        for (text, value) in [("012", "012"), ("0x10", "0x10"), ("true", "true"), ("1.50", "1.50"), ("'null'", "null")]
        {
            assert_eq!(document(text).value, Value::from(value));
        }
        for text in ["~", "null", "", "# nothing", "---"] {
            assert_eq!(document(text).value, Value::from(Empty::None), "{text:?}");
        }
    }

    #[test]
    fn a_merge_key_adds_missing_entries() {
        let value = document("base: &base {a: 1, b: 1}\nof: {b: 2, <<: *base}\n").value;
        assert_eq!(value.clone().find("of.a"), Some(Value::from("1")));
        assert_eq!(value.find("of.b"), Some(Value::from("2")));
    }

    #[test]
    fn the_first_of_several_merged_mappings_wins() {
        let value = document("a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b]}\n").value;
        assert_eq!(value.clone().find("c.x"), Some(Value::from("1")));
        assert_eq!(value.find("c.y"), Some(Value::from("2")));
    }

    #[test]
    fn a_given_and_merged_key_has_its_own_line() {
        let lines = document("base: &base\n  a: 1\n  b: 1\nof:\n  <<: *base\n  b: 2\n").lines;
        assert_eq!((lines[&KeyPath::of("of.b")], lines[&KeyPath::of("of.a")]), (6, 2));
    }

    #[test]
    fn a_merge_key_that_names_no_mapping_is_a_mistake() {
        assert_eq!(mistakes("a: {<<: 5}").len(), 1);
        assert_eq!(mistakes("a: {<<: [{b: 1}, 5]}").len(), 1);
    }

    #[test]
    fn a_text_that_is_not_yaml_is_refused_without_repeating_it() {
        for text in ["a: [hunter2", "a: \"hunter2", "a: *hunter2", "a: 1\n---\nb: hunter2", "a: hunter2: x"] {
            let error = read(text, &KeyPath::default()).err().expect(text).reason;
            assert!(error.starts_with("is not YAML: ") && !error.contains("hunter2"), "{text:?} {error}");
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(10_000), "[".repeat(40) + &"]".repeat(40)]
        {
            assert!(read(&text, &KeyPath::default()).is_err());
        }
    }

    #[test]
    fn aliases_that_contain_themselves_or_multiply_are_refused() {
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let items = vec![format!("*a{}", level - 1); 8].join(", ");
            laughs += &["a", &level.to_string(), ": &a", &level.to_string(), " [", &items, "]\n"].concat();
        }
        for text in ["a: &a [*a]", &laughs] {
            assert!(read(text, &KeyPath::default()).is_err());
        }
    }
}
