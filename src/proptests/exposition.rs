//! A strict parser of both exposition formats. Every scraper accepts what it accepts.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

/// The samples of an exposition, in its order.
#[derive(Debug, Default)]
pub(crate) struct Exposition<'a>(Vec<(&'a str, Labels<'a>, f64)>);

/// The labels of a sample, in alphabetical order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Labels<'a>(Vec<(&'a str, Cow<'a, str>)>);

impl Labels<'_> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(label, value)| (*label, &**value))
    }

    /// The value of a label; `None` if it is absent.
    pub(crate) fn get(&self, label: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == label).map(|(_, value)| value)
    }

    /// The value of a label that must be present.
    #[track_caller]
    pub(crate) fn of(&self, label: &str) -> &str {
        self.get(label).unwrap_or_else(|| panic!("no {label} in {self:?}"))
    }
}

impl<'a> Exposition<'a> {
    /// Parses the text format 0.0.4, or `OpenMetrics` 1.0.
    ///
    /// # Errors
    /// The first line that violates the grammar or repeats another line.
    pub(crate) fn read(body: &'a [u8], open_metrics: bool) -> Result<Self, String> {
        let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
        let mut lines = text.strip_suffix('\n').ok_or("no line end at the end")?.split('\n');
        if open_metrics && lines.next_back() != Some("# EOF") {
            return Err("# EOF is not the last line".to_owned());
        }
        let (mut samples, mut series) = (Vec::new(), HashSet::new());
        let (mut family, mut families) = (Family::default(), BTreeSet::new());
        for line in lines {
            let fault_of_line = |fault: &str| format!("{fault}: {line:?}");
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (keyword, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                let text = words.next().ok_or_else(|| fault_of_line("no text"))?;
                if !is_name(name, true) {
                    return Err(fault_of_line("not a name"));
                }
                if keyword == "HELP" {
                    family = Family { name, kind: "", header_lines: 0 };
                    if !families.insert(name) {
                        return Err(fault_of_line("a family that is there already"));
                    }
                } else if family.name != name {
                    return Err(fault_of_line("not about the family"));
                }
                let is_unit = |unit| name.strip_suffix(unit).is_some_and(|before| before.ends_with('_'));
                let place = match (keyword, text) {
                    ("HELP", _) => 1,
                    ("TYPE", "gauge" | "counter" | "histogram") => 2,
                    ("UNIT", unit) if open_metrics && is_unit(unit) => 3,
                    _ => return Err(fault_of_line("not a header")),
                };
                if place != family.header_lines + 1 {
                    return Err(fault_of_line("a header out of order"));
                }
                family.header_lines = place;
                if keyword == "TYPE" {
                    family.kind = text;
                }
                continue;
            }
            let (name, labels, value) = read_sample(line).map_err(|fault| fault_of_line(&fault))?;
            let suffixes: &[&str] = match family.kind {
                "counter" if open_metrics => &["_total"],
                "histogram" => &["_sum", "_count", "_bucket"],
                _ => &[""],
            };
            if family.header_lines < 2 || !suffixes.iter().any(|suffix| name.strip_suffix(suffix) == Some(family.name))
            {
                return Err(fault_of_line("not a sample of the family"));
            }
            if name.ends_with("_bucket") && labels.get("le").is_none() {
                return Err(fault_of_line("a bucket without le"));
            }
            if family.kind == "counter" && (value < 0.0 || !name.ends_with("_total")) {
                return Err(fault_of_line("not a counter's"));
            }
            if !series.insert((name, labels.clone())) {
                return Err(fault_of_line("a series that is there already"));
            }
            samples.push((name, labels, value));
        }
        Ok(Self(samples))
    }

    /// All samples: the name, the labels and the value of each.
    pub(crate) fn samples(&self) -> impl Iterator<Item = (&'a str, &Labels<'a>, f64)> {
        self.0.iter().map(|(name, labels, value)| (*name, labels, *value))
    }

    /// The samples with this name.
    pub(crate) fn family(&self, name: &str) -> impl Iterator<Item = (&Labels<'a>, f64)> {
        self.samples().filter(move |(of, ..)| *of == name).map(|(_, labels, value)| (labels, value))
    }

    /// The sum of the samples with this name; `None` if there are none.
    pub(crate) fn sum(&self, name: &str) -> Option<f64> {
        self.family(name).map(|(_, value)| value).reduce(|a, b| a + b)
    }
}

#[derive(Default)]
struct Family<'a> {
    name: &'a str,
    kind: &'a str,
    /// The last of HELP, TYPE and UNIT that was read, counted from 1.
    header_lines: u8,
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`, for a label without colons.
fn is_name(text: &str, of_metric: bool) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || (of_metric && b == b':');
    !text.is_empty() && text.bytes().all(fits) && !text.as_bytes()[0].is_ascii_digit()
}

/// Parses `name{label="value",…} number`, without any other characters.
fn read_sample(line: &str) -> Result<(&str, Labels<'_>, f64), String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name, true) {
        return Err("not a metric's name".to_owned());
    }
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").ok_or("no label")?;
            if !is_name(label, false) {
                return Err(format!("{label:?} is not a label's name"));
            }
            let (value, after) = read_quoted(after)?;
            labels.push((label, value));
            rest = after;
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            rest = rest.strip_prefix(',').ok_or("neither , nor } after a label")?;
        }
    }
    labels.sort_unstable();
    if labels.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err("a label is there twice".to_owned());
    }
    let number = rest.strip_prefix(' ').ok_or("no blank before the value")?;
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    let value: f64 = number.parse().ok().filter(|_| is_number).ok_or("not a finite number")?;
    if !value.is_finite() {
        return Err("not a finite number".to_owned());
    }
    Ok((name, Labels(labels), value))
}

/// Reads up to the closing quote, and returns the rest.
fn read_quoted(text: &str) -> Result<(Cow<'_, str>, &str), String> {
    let plain = text.find(['"', '\\']).ok_or("no closing quote")?;
    if text[plain..].starts_with('"') {
        return Ok((text[..plain].into(), &text[plain + 1..]));
    }
    let (mut value, mut characters) = (text[..plain].to_owned(), text[plain..].char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value.into(), &text[plain + at + 1..])),
            '\\' => value.push(match characters.next() {
                Some((_, 'n')) => '\n',
                Some((_, same @ ('"' | '\\'))) => same,
                other => return Err(format!("{other:?} is escaped")),
            }),
            other => value.push(other),
        }
    }
    Err("no closing quote".to_owned())
}

#[test]
fn a_well_formed_exposition_is_read() {
    let text =
        "# HELP a_total Help.\n# TYPE a_total counter\na_total{l=\"\\\"\\\\\\n{}, =\\\"\"} 1\na_total{l=\"\"} 2.5e3\n";
    let read = Exposition::read(text.as_bytes(), false).expect("a text");
    assert_eq!(read.sum("a_total"), Some(2501.0));
    let values: BTreeSet<&str> = read.family("a_total").map(|(labels, _)| labels.of("l")).collect();
    assert_eq!(values, BTreeSet::from(["", "\"\\\n{}, =\""]));
    let text = "# HELP a_seconds H\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total 1\n# EOF\n";
    assert!(Exposition::read(text.as_bytes(), true).is_ok());
}

#[test]
fn violations_of_the_grammar_are_detected() {
    let head = "# HELP a H\n# TYPE a gauge\n";
    for line in [
        "a",
        "a 1 2",
        "a{} 1",
        "a{l=\"x\"}1",
        "a{l=\"x\"} ",
        "a{l=\"x\"} NaN",
        "a{l=\"x\"} 1e999",
        "a{l=\"x\",} 1",
        "a{l=\"x\" ,m=\"y\"} 1",
        "a{l=\"x\",l=\"y\"} 1",
        "a{l=\"x} 1",
        "a{l=\"\\x\"} 1",
        "a{l=\"x\"y\"} 1",
        "a{9=\"x\"} 1",
        "a{l-m=\"x\"} 1",
        "b 1",
        "a 1\na 2",
        "a 1\n\n",
        "# TYPE a gauge",
        "# HELP a H",
        "#comment",
        "# EOF",
    ] {
        assert!(Exposition::read(format!("{head}{line}\n").as_bytes(), false).is_err(), "{line}");
    }
    assert!(Exposition::read(format!("{head}a 1").as_bytes(), false).is_err(), "no line end");
    assert!(Exposition::read(format!("{head}a 1\n").as_bytes(), true).is_err(), "no EOF");
    assert!(Exposition::read(b"\xff\n", false).is_err(), "no UTF-8");
    assert!(Exposition::read(b"# TYPE a gauge\na 1\n", false).is_err(), "no help");
}
