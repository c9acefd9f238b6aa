//! Grafana dashboards: their queries with the variables filled in, their links, and how they are built.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regex_lite::{Captures, Regex};
use serde_json::Value;

use super::known::{ANY, Known, Labels, Shape, all_labels, meant};
use super::rules::Alert;
use super::{File, promql};

/// What Grafana fills in by itself. The durations are such as nobody writes, so that they are known again in a query.
const BUILT_IN: &[(&str, &str)] = &[
    ("__rate_interval", "3723s"),
    ("__range", "18367s"),
    ("__interval", "489s"),
    ("__interval_ms", "489000"),
    ("__range_s", "18367"),
    ("__range_ms", "18367000"),
    ("__from", "0"),
    ("__to", "18367000"),
];
const RATE_INTERVAL: Duration = Duration::from_secs(3723);
const RANGE: Duration = Duration::from_secs(18367);

/// What Grafana fills in by itself in links.
const IN_LINKS: &[&str] = &["__all", "__all_variables", "__data", "__field", "__series", "__url_time_range", "__value"];

/// What is read of each transformation. One that is not here would go unchecked.
const TRANSFORMATIONS: &[&str] = &[
    "filterByValue",
    "groupingToMatrix",
    "joinByField",
    "merge",
    "organize",
    "partitionByValues",
    "renameByRegex",
    "sortBy",
];

/// Panels without a query.
const SILENT: &[&str] = &["row", "text"];

#[derive(Debug)]
pub struct Variable {
    name: String,
    /// What it is filled in as.
    filling: String,
    /// The label that its values are of, where it lists those of one.
    label: Option<String>,
}

#[derive(Debug)]
pub struct Dashboard {
    path: String,
    uid: String,
    tags: BTreeSet<String>,
    variables: Vec<Variable>,
    document: Value,
}

/// What was found in all dashboards.
#[derive(Debug, Default)]
pub struct Found {
    pub complaints: Vec<String>,
    /// The series that their panels ask for.
    pub names: BTreeSet<String>,
    /// Counters that a panel uses as they are: path, panel, name.
    pub raw: BTreeSet<(String, String, String)>,
}

impl Found {
    fn complain(&mut self, place: &str, complaint: &str) {
        self.complaints.push(format!("{place}: {complaint}"));
    }
}

/// Reads the dashboards as far as links to them go; the others are checked one by one.
pub fn read(files: &[File], found: &mut Found) -> Vec<Dashboard> {
    let mut dashboards: Vec<Dashboard> = Vec::new();
    for file in files {
        let document: Value = match serde_json::from_str(&file.text) {
            Ok(document) => document,
            Err(error) => {
                found.complain(&file.path, &error.to_string());
                continue;
            }
        };
        let uid = text(&document["uid"]);
        if uid.is_empty() || dashboards.iter().any(|other| other.uid == uid) {
            found.complain(&file.path, &format!("uid \"{uid}\" is not its own"));
        }
        let tags = items(&document["tags"]).map(text).collect();
        let variables = items(&document["templating"]["list"]).map(variable).collect();
        dashboards.push(Dashboard { path: file.path.clone(), uid, tags, variables, document });
    }
    dashboards
}

fn variable(declared: &Value) -> Variable {
    let is_several = declared["multi"] == true || declared["includeAll"] == true;
    let query = query_of(declared);
    let filling = match declared["type"].as_str() {
        Some("textbox" | "constant" | "custom") => query.split(',').next().unwrap_or_default().trim().to_owned(),
        Some("interval") => "5m".to_owned(),
        // Not escaped, so that it can be a matcher.
        _ if declared["includeAll"] == true && !text(&declared["allValue"]).is_empty() => text(&declared["allValue"]),
        _ if is_several => ".*".to_owned(),
        _ => ANY.to_owned(),
    };
    Variable { name: text(&declared["name"]), filling, label: label_values(&query).map(|(_, label)| label) }
}

fn query_of(declared: &Value) -> String {
    declared["query"]["query"].as_str().or(declared["query"].as_str()).unwrap_or_default().to_owned()
}

/// The selector and the label of `label_values(selector, label)`.
fn label_values(query: &str) -> Option<(String, String)> {
    let inner = query.trim().strip_prefix("label_values(")?.strip_suffix(')')?;
    let (selector, label) = inner.rsplit_once(',')?;
    Some((selector.trim().to_owned(), label.trim().to_owned()))
}

/// A query of a panel, with the variables filled in.
#[derive(Clone, Debug)]
pub struct Query {
    /// Dashboard, panel and query: `fleet 9/D`.
    pub place: String,
    pub title: String,
    pub is_instant: bool,
    pub expression: String,
}

/// Every query of a dashboard's panels and annotations. A variable has the value that is given for it, or else one that says
/// nothing.
pub fn queries(dashboard: &Dashboard, values: &[(&str, &str)]) -> Vec<Query> {
    let name = dashboard.path.rsplit('/').next().and_then(|name| name.strip_suffix(".json")).unwrap_or_default();
    let targets = panels(&dashboard.document).into_iter().flat_map(|panel| {
        items(&panel["targets"]).map(move |target| Query {
            place: format!("{name} {}/{}", panel["id"], text(&target["refId"])),
            title: text(&panel["title"]),
            is_instant: target["instant"] == true,
            expression: filled_with(dashboard, &text(&target["expr"]), values),
        })
    });
    let annotations = items(&dashboard.document["annotations"]["list"]).map(|annotation| Query {
        place: format!("{name} annotation {}", text(&annotation["name"])),
        title: text(&annotation["name"]),
        is_instant: false,
        expression: filled_with(dashboard, &text(&annotation["expr"]), values),
    });
    targets.chain(annotations).collect()
}

/// What a dashboard's variables list: each one's name, and the query of which the values of a label are listed.
pub fn choices(dashboard: &Dashboard, values: &[(&str, &str)]) -> Vec<(String, String, String)> {
    let lists = items(&dashboard.document["templating"]["list"]).filter_map(|declared| {
        let (selector, label) = label_values(&query_of(declared))?;
        Some((text(&declared["name"]), filled_with(dashboard, &selector, values), label))
    });
    lists.collect()
}

/// Checks one dashboard.
pub fn check(dashboard: &Dashboard, all: &[Dashboard], known: &Known, found: &mut Found) {
    let place = &*dashboard.path;
    let document = &dashboard.document;
    for key in ["__inputs", "__requires", "__elements"] {
        if !document[key].is_null() {
            found.complain(place, &format!("{key} is for exports that ask for a data source on import"));
        }
    }
    if !document["schemaVersion"].as_u64().is_some_and(|version| (39..=42).contains(&version)) {
        found.complain(place, &format!("schemaVersion {} is not one of 39 to 42", document["schemaVersion"]));
    }
    let declared: Vec<&Value> = items(&document["templating"]["list"]).collect();
    if !declared
        .iter()
        .any(|one| one["name"] == "datasource" && one["type"] == "datasource" && one["query"] == "prometheus")
    {
        found.complain(place, "there is no variable \"datasource\" of Prometheus data sources");
    }
    for one in declared {
        check_variable(dashboard, one, known, found);
    }
    for annotation in items(&document["annotations"]["list"]).filter(|one| one["expr"].is_string()) {
        let place = format!("{place}: annotation \"{}\"", text(&annotation["name"]));
        check_data_source(&annotation["datasource"], &place, found);
        let _ = ask(dashboard, &annotation["expr"], &place, known, found);
    }
    for link in items(&document["links"]) {
        let place = format!("{place}: link \"{}\"", text(&link["title"]));
        if link["type"] == "dashboards" {
            let tags: Vec<String> = items(&link["tags"]).map(text).collect();
            if !all.iter().any(|other| tags.iter().all(|tag| other.tags.contains(tag))) {
                found.complain(&place, &format!("no dashboard has the tags {tags:?}"));
            }
        } else {
            check_link(dashboard, all, &text(&link["url"]), &|_| None, &place, found);
        }
    }
    check_variable_names(dashboard, document, found);
    let panels = panels(document);
    check_grid(place, document, found);
    let mut ids = BTreeSet::new();
    for panel in panels {
        let title = text(&panel["title"]);
        let place = format!("{place}: panel \"{title}\"");
        if !panel["id"].as_u64().is_some_and(|id| ids.insert(id)) {
            found.complain(&place, &format!("id {} is not its own", panel["id"]));
        }
        if !panel["type"].as_str().is_some_and(|kind| SILENT.contains(&kind)) {
            check_panel(dashboard, all, panel, &place, known, found);
        }
    }
}

/// All panels, those in collapsed rows too.
fn panels(document: &Value) -> Vec<&Value> {
    let outer = items(&document["panels"]);
    outer.flat_map(|panel| std::iter::once(panel).chain(items(&panel["panels"]))).collect()
}

fn check_variable(dashboard: &Dashboard, declared: &Value, known: &Known, found: &mut Found) {
    let place = format!("{}: variable \"{}\"", dashboard.path, text(&declared["name"]));
    if declared["type"] != "query" {
        return;
    }
    check_data_source(&declared["datasource"], &place, found);
    let query = query_of(declared);
    if declared["definition"].is_string() && declared["definition"] != *query {
        found.complain(&place, "its definition is another query than its query");
    }
    if let Some((selector, label)) = label_values(&query) {
        if let Some(shape) = ask(dashboard, &Value::from(selector.clone()), &place, known, found) {
            let here = all_labels(&shape);
            if !here.contains(&label) {
                let near = meant(&label, here.iter().map(String::as_str));
                found.complain(&place, &format!("{selector} has no label \"{label}\"{near}"));
            }
        }
    } else if let Some(asked) = query.strip_prefix("query_result(").and_then(|rest| rest.strip_suffix(')')) {
        let _ = ask(dashboard, &Value::from(asked), &place, known, found);
    } else {
        found.complain(&place, &format!("this test can't read {query}"));
    }
}

fn check_data_source(source: &Value, place: &str, found: &mut Found) {
    if source["type"] != "prometheus" || source["uid"] != "${datasource}" {
        found.complain(place, &format!("its data source is {source} and not the variable"));
    }
}

/// The labels of a query's result.
fn ask(dashboard: &Dashboard, query: &Value, place: &str, known: &Known, found: &mut Found) -> Option<Shape> {
    let checked = promql::check(&filled(dashboard, &text(query)), known);
    for complaint in &checked.complaints {
        found.complain(place, complaint);
    }
    found.names.extend(checked.names);
    checked.shape
}

fn check_panel(dashboard: &Dashboard, all: &[Dashboard], panel: &Value, place: &str, known: &Known, found: &mut Found) {
    if text(&panel["description"]).is_empty() {
        found.complain(place, "has no description");
    }
    if text(&panel["fieldConfig"]["defaults"]["unit"]).is_empty() {
        found.complain(place, "has no unit");
    }
    check_data_source(&panel["datasource"], place, found);
    let targets: Vec<&Value> = items(&panel["targets"]).collect();
    let mut fields = Fields::default();
    for target in &targets {
        let reference = text(&target["refId"]);
        let place = if targets.len() > 1 { format!("{place}, query {reference}") } else { place.to_owned() };
        check_data_source(&target["datasource"], &place, found);
        let checked = promql::check(&filled(dashboard, &text(&target["expr"])), known);
        for complaint in &checked.complaints {
            found.complain(&place, complaint);
        }
        for (function, window) in &checked.windows {
            let is_total = target["instant"] == true && *window == RANGE;
            if *window != RATE_INTERVAL && !is_total {
                found.complain(&place, &format!("{function} over another window than $__rate_interval"));
            }
        }
        found.names.extend(checked.names);
        let title = text(&panel["title"]);
        found.raw.extend(checked.raw.into_iter().map(|name| (dashboard.path.clone(), title.clone(), name)));
        let shape = checked.shape.unwrap_or_default();
        check_legend(&text(&target["legendFormat"]), &shape, &place, &mut fields, known, found);
        fields.labels.extend(all_labels(&shape));
        if target["format"] == "table" {
            fields.names.extend(all_labels(&shape));
            fields.names.insert("Time".to_owned());
            fields.names.insert(if targets.len() > 1 { format!("Value #{reference}") } else { "Value".to_owned() });
        } else {
            fields.names.insert("Time".to_owned());
        }
    }
    for transformation in items(&panel["transformations"]) {
        fields.transform(transformation, place, known, found);
    }
    for (name, rule) in overrides(panel) {
        if !fields.names.contains(&name) && !fields.is_open {
            let near = meant(&name, fields.names.iter().map(String::as_str));
            found.complain(place, &format!("an override is for \"{name}\", which no field is called{near}"));
        }
        let label_of = |field: &str| {
            let field = if field == "__value" { &*name } else { field };
            fields.label_of(field)
        };
        for url in urls(rule) {
            check_link(dashboard, all, &url, &label_of, place, found);
        }
    }
    let mut rest = panel.clone();
    rest["fieldConfig"]["overrides"] = Value::Null;
    rest["panels"] = Value::Null;
    for url in urls(&rest) {
        check_link(dashboard, all, &url, &|field| fields.label_of(field), place, found);
    }
}

fn overrides(panel: &Value) -> impl Iterator<Item = (String, &Value)> {
    items(&panel["fieldConfig"]["overrides"])
        .filter(|rule| rule["matcher"]["id"] == "byName")
        .map(|rule| (text(&rule["matcher"]["options"]), rule))
}

/// The fields of a panel, as they are called after each of its transformations.
#[derive(Debug, Default)]
struct Fields {
    names: BTreeSet<String>,
    /// Labels of any of its queries.
    labels: Labels,
    /// What the labels are called where they are renamed.
    renamed: BTreeMap<String, String>,
    /// Some of the names hang on labels of which any value can come.
    is_open: bool,
}

impl Fields {
    fn label_of(&self, field: &str) -> Option<String> {
        let renamed = self.renamed.iter().find(|(_, to)| *to == field).map(|(from, _)| from.clone());
        renamed.or_else(|| self.labels.get(field).cloned())
    }

    fn transform(&mut self, transformation: &Value, place: &str, known: &Known, found: &mut Found) {
        let id = text(&transformation["id"]);
        let options = &transformation["options"];
        if !TRANSFORMATIONS.contains(&&*id) {
            found.complain(place, &format!("this test does not know the transformation {id}"));
        }
        match &*id {
            "organize" => {
                for key in ["excludeByName", "includeByName", "indexByName", "renameByName"] {
                    for name in options[key].as_object().into_iter().flatten().map(|(name, _)| name) {
                        self.need(name, &format!("organize: {key}"), place, found);
                    }
                }
                for (from, to) in options["renameByName"].as_object().into_iter().flatten() {
                    self.names.remove(from);
                    self.names.insert(text(to));
                    self.renamed.insert(from.clone(), text(to));
                }
            }
            "sortBy" => {
                for name in items(&options["sort"]).map(|sort| text(&sort["field"])) {
                    self.need(&name, "sortBy", place, found);
                }
            }
            "groupingToMatrix" => {
                let (row, column) = (text(&options["rowField"]), text(&options["columnField"]));
                for name in [&row, &column, &text(&options["valueField"])] {
                    self.need(name, "groupingToMatrix", place, found);
                }
                self.names = BTreeSet::from([format!("{row}\\{column}")]);
                match known.values(&column) {
                    Some(values) => self.names.extend(values),
                    None => self.is_open = true,
                }
            }
            "renameByRegex" => {
                let Ok(regex) = Regex::new(&text(&options["regex"])) else {
                    found.complain(place, &format!("renameByRegex: {} is no regular expression", options["regex"]));
                    return;
                };
                let to = text(&options["renamePattern"]);
                self.names = self.names.iter().map(|name| regex.replace(name, &*to).into_owned()).collect();
            }
            "joinByField" => self.need(&text(&options["byField"]), "joinByField", place, found),
            "filterByValue" => {
                for name in items(&options["filters"]).map(|filter| text(&filter["fieldName"])) {
                    self.need(&name, "filterByValue", place, found);
                }
            }
            "partitionByValues" => {
                for name in items(&options["fields"]).map(text) {
                    self.need(&name, "partitionByValues", place, found);
                }
            }
            _ => {}
        }
    }

    fn need(&self, name: &str, clause: &str, place: &str, found: &mut Found) {
        if !self.names.contains(name) && !self.is_open {
            let near = meant(name, self.names.iter().map(String::as_str));
            found.complain(place, &format!("{clause}: no field is called \"{name}\"{near}"));
        }
    }
}

/// Checks the labels in a legend, and tells what the series can be called.
fn check_legend(legend: &str, shape: &Shape, place: &str, fields: &mut Fields, known: &Known, found: &mut Found) {
    let here = all_labels(shape);
    let mut names = vec![legend.to_owned()];
    for label in Regex::new(r"\{\{\s*(\w+)\s*\}\}").expect("a regular expression").captures_iter(legend) {
        let (whole, label) = (&label[0], &label[1]);
        if !here.contains(label) {
            let near = meant(label, here.iter().map(String::as_str));
            found.complain(place, &format!("its legend names the label \"{label}\", which its result has not{near}"));
        }
        match known.values(label) {
            Some(values) => {
                let each =
                    |name: &String| -> Vec<String> { values.iter().map(|value| name.replace(whole, value)).collect() };
                names = names.iter().flat_map(each).collect();
            }
            None => fields.is_open = true,
        }
    }
    fields.names.extend(names);
}

/// Checks that a link leads to a dashboard, and hands each of its variables the label that it is of.
fn check_link(
    dashboard: &Dashboard,
    all: &[Dashboard],
    url: &str,
    label_of: &dyn Fn(&str) -> Option<String>,
    place: &str,
    found: &mut Found,
) {
    let field = Regex::new(r"\$\{__data\.fields\.(\w+)(?::\w+)?\}").expect("a regular expression");
    let Some(path) = url.strip_prefix("/d/") else {
        if !url.starts_with("https://") {
            found.complain(place, &format!("the link {url} is neither to a dashboard nor https"));
        }
        for name in field.captures_iter(url).map(|field| field[1].to_owned()).filter(|name| label_of(name).is_none()) {
            found.complain(place, &format!("a link asks for the field \"{name}\", which there is not"));
        }
        return;
    };
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let uid = path.split('/').next().unwrap_or_default();
    let Some(other) = all.iter().find(|other| other.uid == uid) else {
        let near = meant(uid, all.iter().map(|other| &*other.uid));
        found.complain(place, &format!("a link leads to the dashboard \"{uid}\", which there is not{near}"));
        return;
    };
    let value_of = Regex::new(r"^\$\{__data\.fields\.(\w+)(?::\w+)?\}$").expect("a regular expression");
    let variable_of = Regex::new(r"^\$\{(\w+)(?::\w+)?\}$").expect("a regular expression");
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = match parameter.split_once('=') {
            Some((key, value)) => match key.strip_prefix("var-") {
                Some(name) => (name.to_owned(), value),
                None => continue,
            },
            // `${name:queryparam}` is `var-name=…`.
            None => match variable_of.captures(parameter) {
                Some(variable) if !variable[1].starts_with("__") => (variable[1].to_owned(), parameter),
                _ => continue,
            },
        };
        let Some(variable) = other.variables.iter().find(|variable| variable.name == name) else {
            let near = meant(&name, other.variables.iter().map(|variable| &*variable.name));
            found.complain(
                place,
                &format!("a link hands {} the variable \"{name}\", which it has not{near}", other.path),
            );
            continue;
        };
        let given = if let Some(field) = value_of.captures(value) {
            let Some(label) = label_of(&field[1]) else {
                found.complain(place, &format!("a link asks for the field \"{}\", which there is not", &field[1]));
                continue;
            };
            Some(label)
        } else if value.starts_with("${__value.") {
            label_of("__value")
        } else if let Some(own) = variable_of.captures(value) {
            dashboard.variables.iter().find(|own_one| own_one.name == own[1]).and_then(|own_one| own_one.label.clone())
        } else {
            continue;
        };
        if given != variable.label {
            let said = |label: &Option<String>| label.clone().unwrap_or_else(|| "no label".to_owned());
            found.complain(
                place,
                &format!("a link hands {} as \"{name}\", which is of {}", said(&given), said(&variable.label)),
            );
        }
    }
}

/// Checks the links of an alert: each label that it has and that its dashboard has a variable of is handed over.
///
/// `kept` are those that one keeps on purpose: alert and variable.
pub fn check_alert(alert: &Alert, all: &[Dashboard], kept: &[(&str, &str)], found: &mut Found) {
    let place = format!("{}: alert {}: dashboard", alert.path, alert.name);
    let link = Regex::new(r"/d/([\w-]+)((?:[?&][\w-]+=\{\{ urlquery \$labels\.\w+ \}\})*)(\S*)")
        .expect("a regular expression");
    let parameter = Regex::new(r"[?&]var-(\w+)=\{\{ urlquery \$labels\.(\w+) \}\}").expect("a regular expression");
    let annotation = alert.annotations.get("dashboard").map_or("", String::as_str);
    let mut links = 0;
    for found_link in link.captures_iter(annotation) {
        links += 1;
        if !found_link[3].is_empty() {
            found.complain(&place, &format!("this test can't read {}", &found_link[3]));
        }
        let Some(other) = all.iter().find(|other| other.uid == found_link[1]) else {
            let near = meant(&found_link[1], all.iter().map(|other| &*other.uid));
            found.complain(&place, &format!("there is no dashboard \"{}\"{near}", &found_link[1]));
            continue;
        };
        let handed: BTreeMap<&str, &str> =
            parameter.captures_iter(&found_link[2]).map(|one| (group(&one, 1), group(&one, 2))).collect();
        for (name, label) in &handed {
            match other.variables.iter().find(|variable| variable.name == *name) {
                None => {
                    let near = meant(name, other.variables.iter().map(|variable| &*variable.name));
                    found.complain(&place, &format!("{} has no variable \"{name}\"{near}", other.path));
                }
                Some(variable) if variable.label.as_deref() != Some(label) => {
                    let of = variable.label.as_deref().unwrap_or("no label");
                    found.complain(&place, &format!("\"{name}\" is of {of}, and not of {label}"));
                }
                Some(_) => {}
            }
        }
        for variable in &other.variables {
            let Some(label) = variable.label.as_ref().filter(|label| alert.labels.contains(*label)) else { continue };
            let is_kept = kept.contains(&(&alert.name, &variable.name));
            match (handed.contains_key(&*variable.name), is_kept) {
                (false, false) => {
                    found.complain(
                        &place,
                        &format!("the alert has {label}, and does not hand over \"{}\"", variable.name),
                    );
                }
                (true, true) => {
                    found.complain(&place, &format!("hands over \"{}\", and is excused from it", variable.name));
                }
                _ => {}
            }
        }
    }
    if links == 0 {
        found.complain(&place, "the alert has no link to a dashboard");
    }
}

fn group<'a>(found: &Captures<'a>, at: usize) -> &'a str {
    found.get(at).map_or("", |group| group.as_str())
}

/// Every text under a key `url`.
fn urls(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(urls).collect(),
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, value)| match value.as_str() {
                Some(url) if key == "url" && !url.is_empty() => vec![url.to_owned()],
                _ => urls(value),
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn in_variables() -> Regex {
    Regex::new(r"\$([A-Za-z_]\w*)|\$\{(\w+)[^}]*\}|\[\[(\w+)[^\]]*\]\]").expect("a regular expression")
}

fn variable_name<'a>(found: &Captures<'a>) -> &'a str {
    (1..=3).find_map(|at| found.get(at)).map_or("", |name| name.as_str())
}

/// A query with its variables filled in.
fn filled(dashboard: &Dashboard, query: &str) -> String {
    filled_with(dashboard, query, &[])
}

/// The same with values of the caller's for some of them.
fn filled_with(dashboard: &Dashboard, query: &str, values: &[(&str, &str)]) -> String {
    let fill = |found: &Captures| {
        let name = variable_name(found);
        let given = values.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let built_in = BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, filling)| (*filling).to_owned());
        let own = || dashboard.variables.iter().find(|own| own.name == name).map(|own| own.filling.clone());
        // One that there is not is told of where all texts are looked through.
        given.or(built_in).or_else(own).unwrap_or_else(|| ANY.to_owned())
    };
    in_variables().replace_all(query, fill).into_owned()
}

/// Complains of each variable in any text of a dashboard that it has not.
fn check_variable_names(dashboard: &Dashboard, value: &Value, found: &mut Found) {
    fn texts<'a>(value: &'a Value, title: &'a str, each: &mut dyn FnMut(&'a str, &'a str)) {
        match value {
            Value::String(text) => each(title, text),
            Value::Array(items) => items.iter().for_each(|item| texts(item, title, each)),
            Value::Object(fields) => {
                let is_panel = fields.contains_key("gridPos");
                let title = fields.get("title").and_then(Value::as_str).filter(|_| is_panel).unwrap_or(title);
                fields.values().for_each(|field| texts(field, title, each));
            }
            _ => {}
        }
    }
    let own: Vec<&str> = dashboard.variables.iter().map(|variable| &*variable.name).collect();
    let mut complaints = BTreeSet::new();
    texts(value, "", &mut |title, text| {
        for variable in in_variables().captures_iter(text) {
            let name = variable_name(&variable);
            let is_built_in = BUILT_IN.iter().any(|(known, _)| *known == name) || IN_LINKS.contains(&name);
            if !own.contains(&name) && !is_built_in {
                let near = meant(name, own.iter().copied());
                let place = if title.is_empty() { String::new() } else { format!(" panel \"{title}\":") };
                complaints.insert(format!("{}:{place} there is no variable \"{name}\"{near}", dashboard.path));
            }
        }
    });
    found.complaints.extend(complaints);
}

/// Complains of panels that lie over each other or beyond the edge.
fn check_grid(path: &str, document: &Value, found: &mut Found) {
    let mut grids = vec![items(&document["panels"]).collect::<Vec<_>>()];
    grids.extend(items(&document["panels"]).map(|row| items(&row["panels"]).collect()));
    for grid in grids {
        let side = |panel: &Value, side: &str| panel["gridPos"][side].as_u64().unwrap_or(u64::MAX / 2);
        for (at, panel) in grid.iter().enumerate() {
            let place = format!("{path}: panel \"{}\"", text(&panel["title"]));
            let (x, y, w, h) = (side(panel, "x"), side(panel, "y"), side(panel, "w"), side(panel, "h"));
            if x + w > 24 || w == 0 || h == 0 {
                found.complain(&place, &format!("{} is not within the grid's 24 columns", panel["gridPos"]));
            }
            for other in &grid[..at] {
                let (left, top, wide, high) = (side(other, "x"), side(other, "y"), side(other, "w"), side(other, "h"));
                if x < left + wide && left < x + w && y < top + high && top < y + h {
                    found.complain(&place, &format!("lies over \"{}\"", text(&other["title"])));
                }
            }
        }
    }
}

/// Complains of each value that has several colours: by an override of its name, or by a mapping to its text.
pub fn check_colors(dashboards: &[Dashboard], found: &mut Found) {
    let mut colors: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for dashboard in dashboards {
        for panel in panels(&dashboard.document) {
            let place = format!("{}: panel \"{}\"", dashboard.path, text(&panel["title"]));
            let mut tell = |name: String, color: String| {
                if color != "transparent" && !color.is_empty() {
                    colors.entry(name).or_default().entry(color).or_insert_with(|| place.clone());
                }
            };
            let config = &panel["fieldConfig"];
            let mut mappings: Vec<&Value> = items(&config["defaults"]["mappings"]).collect();
            for rule in items(&config["overrides"]) {
                for property in items(&rule["properties"]) {
                    if property["id"] == "mappings" {
                        mappings.extend(items(&property["value"]));
                    } else if property["id"] == "color" && rule["matcher"]["id"] == "byName" {
                        tell(text(&rule["matcher"]["options"]), text(&property["value"]["fixedColor"]));
                    }
                }
            }
            for mapping in mappings.into_iter().filter(|mapping| mapping["type"] == "value") {
                for (_, to) in mapping["options"].as_object().into_iter().flatten() {
                    tell(text(&to["text"]), text(&to["color"]));
                }
            }
        }
    }
    for (name, colors) in colors.into_iter().filter(|(_, colors)| colors.len() > 1) {
        let said: Vec<String> = colors.into_iter().map(|(color, place)| format!("{color} in {place}")).collect();
        found.complaints.push(format!("\"{name}\" has several colours: {}", said.join(", ")));
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
