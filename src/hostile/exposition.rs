//! A strict reader of the exposition in both formats: what it takes, every scraper takes.

use std::collections::{BTreeMap, BTreeSet};

/// What stands in an exposition.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Exposition {
    /// Reads the text format 0.0.4, or `OpenMetrics` 1.0.
    ///
    /// # Errors
    /// At the first line that breaks the format's grammar, or that says something that another line said already.
    pub(crate) fn read(body: &[u8], open_metrics: bool) -> Result<Self, String> {
        let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
        let mut lines: Vec<&str> = text.strip_suffix('\n').ok_or("no line end at the end")?.split('\n').collect();
        if open_metrics && lines.pop() != Some("# EOF") {
            return Err("# EOF is not the last line".to_owned());
        }
        let (mut exposition, mut family, mut families) = (Self::default(), Family::default(), BTreeSet::new());
        let mut rows = BTreeSet::new();
        for line in lines {
            let told = |fault: &str| format!("{fault}: {line:?}");
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (keyword, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                let text = words.next().ok_or_else(|| told("no text"))?;
                if !is_name(name, true) {
                    return Err(told("not a name"));
                }
                if keyword == "HELP" {
                    family = Family { name: name.to_owned(), is_counter: false, told: 0 };
                    if !families.insert(name.to_owned()) {
                        return Err(told("a family that is there already"));
                    }
                } else if family.name != name {
                    return Err(told("not about the family"));
                }
                let place = match (keyword, text) {
                    ("HELP", _) => 1,
                    ("TYPE", "gauge" | "counter") => 2,
                    ("UNIT", unit) if open_metrics && name.ends_with(&format!("_{unit}")) => 3,
                    _ => return Err(told("not a header")),
                };
                if place <= family.told || place > family.told + 1 {
                    return Err(told("a header out of order"));
                }
                family.told = place;
                family.is_counter |= (keyword, text) == ("TYPE", "counter");
                continue;
            }
            let sample = read_sample(line).map_err(|fault| told(&fault))?;
            let suffix = if family.is_counter && open_metrics { "_total" } else { "" };
            if family.told < 2 || sample.name.strip_suffix(suffix) != Some(&family.name) {
                return Err(told("not a sample of the family"));
            }
            if family.is_counter && (sample.value < 0.0 || !sample.name.ends_with("_total")) {
                return Err(told("not a counter's"));
            }
            if !rows.insert((sample.name.clone(), sample.labels.clone())) {
                return Err(told("a series that is there already"));
            }
            exposition.samples.push(sample);
        }
        Ok(exposition)
    }

    /// The samples of a name.
    pub(crate) fn family(&self, name: &str) -> impl Iterator<Item = (&BTreeMap<String, String>, f64)> {
        self.samples.iter().filter(move |sample| sample.name == name).map(|sample| (&sample.labels, sample.value))
    }

    /// The sum of a name's samples; `None` where there are none.
    pub(crate) fn sum(&self, name: &str) -> Option<f64> {
        self.family(name).map(|(_, value)| value).reduce(|a, b| a + b)
    }
}

#[derive(Default)]
struct Family {
    name: String,
    is_counter: bool,
    /// The last of HELP, TYPE and UNIT that was told, counted from 1.
    told: u8,
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`, without the colons for a label.
fn is_name(text: &str, of_metric: bool) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || (of_metric && b == b':');
    !text.is_empty() && text.bytes().all(fits) && !text.as_bytes()[0].is_ascii_digit()
}

/// Reads `name{label="value",…} number`, with nothing before, between or after it.
fn read_sample(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name, true) {
        return Err("not a metric's name".to_owned());
    }
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").ok_or("no label")?;
            if !is_name(label, false) {
                return Err(format!("{label:?} is not a label's name"));
            }
            let (value, after) = read_quoted(after)?;
            if labels.insert(label.to_owned(), value).is_some() {
                return Err(format!("{label} is there twice"));
            }
            rest = after;
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            rest = rest.strip_prefix(',').ok_or("neither , nor } after a label")?;
        }
    }
    let number = rest.strip_prefix(' ').ok_or("no blank before the value")?;
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    let value: f64 = number.parse().ok().filter(|_| is_number).ok_or("not a finite number")?;
    if !value.is_finite() {
        return Err("not a finite number".to_owned());
    }
    Ok(Sample { name: name.to_owned(), labels, value })
}

/// Reads to the closing quote, and gives what follows it.
fn read_quoted(text: &str) -> Result<(String, &str), String> {
    let (mut value, mut characters) = (String::new(), text.char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
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
    assert_eq!(read.family("a_total").next().map(|(labels, _)| labels["l"].as_str()), Some("\"\\\n{}, =\""));
    let text = "# HELP a_seconds H\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total 1\n# EOF\n";
    assert!(Exposition::read(text.as_bytes(), true).is_ok());
}

#[test]
fn whatever_breaks_the_grammar_is_told() {
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
