//! Markdown: the queries that pages show, and the names that any text mentions.

use aws_iot_jobs_exporter::metrics::catalogue;
use promql_parser::parser;
use regex_lite::Regex;

use super::known::{Known, meant};
use super::rules::Alert;
use super::{File, promql};

/// Checks each query of a page: its blocks of `promql`, and its code spans with a family in them.
pub fn check(file: &File, known: &Known) -> Vec<String> {
    let mut complaints = Vec::new();
    let span = Regex::new("`([^`]+)`").expect("a regular expression");
    let mut block: Option<(String, usize, Vec<&str>)> = None;
    let mut queries: Vec<(usize, String)> = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        let fence = line.trim_start().strip_prefix("```");
        block = match (block, fence) {
            (None, Some(language)) => Some((language.trim().to_owned(), number, Vec::new())),
            (None, None) => {
                let spans = span.captures_iter(line).map(|found| found[1].to_owned());
                queries.extend(spans.filter(|code| is_query(code)).map(|code| (number, code)));
                None
            }
            (Some((language, from, lines)), Some(_)) => {
                match &*language {
                    "promql" => queries.extend(expressions(&lines).into_iter().map(|query| (from, query))),
                    "" if lines.iter().any(|line| line.contains("aws_iot_")) => {
                        complaints
                            .push(format!("{}: line {from}: the block does not say that it is promql", file.path));
                    }
                    _ => {}
                }
                None
            }
            (Some((language, from, mut lines)), None) => {
                lines.push(line);
                Some((language, from, lines))
            }
        };
    }
    for (number, query) in queries {
        let checked = promql::check(&query, known);
        let raw = checked.raw.iter().map(|name| super::shown_raw(name));
        // A code span may name a counter; only in a longer expression it is asked for its value.
        let raw = raw.filter(|_| query.contains(|c: char| c != '_' && !c.is_ascii_alphanumeric()));
        let found = checked.complaints.into_iter().chain(raw);
        complaints.extend(found.map(|complaint| format!("{}: line {number}: {complaint}", file.path)));
    }
    complaints
}

/// Whether a code span is a query, and not a sample with its value.
fn is_query(code: &str) -> bool {
    let is_sample = Regex::new(r"^[a-z_]+ [0-9]+$").expect("a regular expression").is_match(code);
    code.contains("aws_iot_") && !is_sample
}

/// The expressions of a block: the whole of it, or each of its lines.
fn expressions(lines: &[&str]) -> Vec<String> {
    let whole = lines.join("\n");
    if parser::parse(&whole).is_ok() {
        return vec![whole];
    }
    lines.iter().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// Complains of each word in a text that looks like a family, a recorded series or an alert, and is none.
pub fn check_words(file: &File, known: &Known, alerts: &[Alert]) -> Vec<String> {
    let word = Regex::new(r"\b(?:aws_iot_|AwsIot)[A-Za-z0-9_:]+").expect("a regular expression");
    let mut complaints = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        for found in word.find_iter(line) {
            let text = found.as_str().trim_end_matches(':');
            let is_name = |name: &str| {
                // Part of a pattern: `aws_iot_job_.+`. The crate's own name comes with what is in it.
                name == text || text.ends_with('_') && name.starts_with(text)
            };
            if text.starts_with("aws_iot_jobs_exporter::") || text == "aws_iot_jobs_exporter" {
                continue;
            }
            // A histogram is written about by the name that its series begin with.
            let families = || catalogue::ALL.iter().map(|family| family.name);
            let alerts = || alerts.iter().map(|alert| &*alert.name);
            if !known.names().chain(families()).chain(alerts()).any(is_name) {
                let near = meant(text, known.names().chain(families()).chain(alerts()));
                let known_as = if text.starts_with("AwsIot") { "no alert" } else { "no family and no recorded series" };
                complaints.push(format!("{}: line {number}: {text} is {known_as}{near}", file.path));
            }
        }
    }
    complaints
}
