//! One query against what is known: names, labels, types and values, and which labels its result has.

use std::collections::BTreeSet;
use std::time::Duration;

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{
    self, AggregateExpr, BinaryExpr, Call, Expr, LabelModifier, VectorMatchCardinality, VectorMatchFillValues,
    VectorSelector,
};
use regex_lite::Regex;

use super::known::{ANY, Known, Labels, OF_PROCESSES, Origin, SPECIAL_GROUPS, Shape, all_labels, labels, meant};

/// Functions that a counter is for, and nothing else.
const OF_COUNTERS: &[&str] = &["increase", "irate", "rate", "resets"];

/// Functions that take a counter's restarts for falls.
const OF_GAUGES: &[&str] = &[
    "avg_over_time",
    "delta",
    "deriv",
    "double_exponential_smoothing",
    "holt_winters",
    "idelta",
    "mad_over_time",
    "max_over_time",
    "min_over_time",
    "predict_linear",
    "quantile_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "sum_over_time",
];

/// Functions and aggregations that only ask whether there is a sample.
const OF_PRESENCE: &[&str] =
    &["absent", "absent_over_time", "changes", "count", "count_over_time", "group", "present_over_time", "timestamp"];

/// Functions whose result depends on the window as an average does: a dashboard has to fit it to its zoom.
const OF_WINDOWS: &[&str] = &["delta", "deriv", "idelta", "increase", "irate", "rate"];

/// Aggregations that give some of the series that they got, with all of their labels.
const CHOOSING: &[&str] = &["bottomk", "limit_ratio", "limitk", "topk"];

/// What a query was found to be.
#[derive(Debug, Default)]
pub struct Checked {
    /// The labels of its result; `None` for a scalar, and where a fault leaves them unknown.
    pub shape: Option<Shape>,
    /// The series that it selects.
    pub names: BTreeSet<String>,
    /// Counters whose value it uses as it is.
    pub raw: BTreeSet<String>,
    /// Functions that depend on their window, with it.
    pub windows: Vec<(String, Duration)>,
    pub complaints: Vec<String>,
}

/// Parses and checks a query without variables.
pub fn check(query: &str, known: &Known) -> Checked {
    let mut checker = Checker { known, found: Checked::default() };
    match parser::parse(query) {
        Ok(expression) => {
            if let Value::Vector(vector) = checker.visit(&expression, Use::Value) {
                checker.found.shape = vector.shape;
            }
        }
        Err(error) => checker.found.complaints.push(format!("is no PromQL: {error}: {query}")),
    }
    checker.found
}

/// What an expression is used for by the one around it.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    Value,
    Presence,
}

enum Value {
    Scalar,
    Vector(Vector),
}

#[derive(Clone)]
struct Vector {
    /// `None` where a fault leaves it unknown.
    shape: Option<Shape>,
    /// The series that it comes from.
    of: BTreeSet<String>,
}

struct Checker<'a> {
    known: &'a Known,
    found: Checked,
}

impl Checker<'_> {
    fn complain(&mut self, complaint: String) {
        self.found.complaints.push(complaint);
    }

    fn visit(&mut self, expression: &Expr, usage: Use) -> Value {
        match expression {
            Expr::Paren(inner) => self.visit(&inner.expr, usage),
            Expr::Unary(inner) => self.visit(&inner.expr, usage),
            Expr::VectorSelector(selector) => Value::Vector(self.selector(selector, None, usage)),
            // The parser lets ranges through to functions only.
            Expr::MatrixSelector(_) | Expr::Subquery(_) => Value::Vector(self.range(expression, "", usage)),
            Expr::Aggregate(aggregate) => Value::Vector(self.aggregate(aggregate, usage)),
            Expr::Binary(binary) => self.binary(binary, usage),
            Expr::Call(call) => self.call(call, usage),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => Value::Scalar,
        }
    }

    fn vector(&mut self, expression: &Expr, usage: Use) -> Vector {
        match self.visit(expression, usage) {
            Value::Vector(vector) => vector,
            Value::Scalar => Vector { shape: Some(Shape::from([Labels::new()])), of: BTreeSet::new() },
        }
    }

    /// A range, as an argument of `function`.
    fn range(&mut self, expression: &Expr, function: &str, usage: Use) -> Vector {
        match expression {
            Expr::Paren(inner) => self.range(&inner.expr, function, usage),
            Expr::MatrixSelector(matrix) => {
                if OF_WINDOWS.contains(&function) {
                    self.found.windows.push((function.to_owned(), matrix.range));
                }
                self.selector(&matrix.vs, Some(function), usage)
            }
            Expr::Subquery(subquery) => {
                if OF_COUNTERS.contains(&function) {
                    self.complain(format!("{function} of a subquery, which is no counter"));
                }
                self.vector(&subquery.expr, usage)
            }
            other => self.vector(other, usage),
        }
    }

    fn selector(&mut self, selector: &VectorSelector, function: Option<&str>, usage: Use) -> Vector {
        let matchers = &selector.matchers.matchers;
        if !selector.matchers.or_matchers.is_empty() {
            self.complain("`or` between matchers is not Prometheus' PromQL".to_owned());
        }
        let of = self.selected(selector);
        self.found.names.extend(of.iter().cloned());
        let shapes: Option<Vec<Shape>> = of.iter().map(|name| self.known.series.get(name)?.shape.clone()).collect();
        for name in &of {
            let Some(series) = self.known.series.get(name) else { continue };
            self.typed(name, series.origin, function, usage);
        }
        let (Some(shapes), false) = (shapes, of.is_empty()) else { return Vector { shape: None, of } };
        let mut shape: Shape = shapes.into_iter().flatten().collect();
        for matcher in matchers.iter().filter(|matcher| matcher.name != "__name__") {
            if self.has(&Vector { shape: Some(shape.clone()), of: of.clone() }, &matcher.name, None) {
                // A series without the label is one where it is empty.
                shape.retain(|set| set.contains(&matcher.name) || matcher.is_match(""));
                if matches!(matcher.op, MatchOp::Equal) && matcher.value.is_empty() {
                    shape = shape.into_iter().map(|set| &set - &labels([&*matcher.name])).collect();
                }
            }
            self.matched(matcher);
        }
        Vector { shape: Some(shape), of }
    }

    /// The names of the series that a selector selects, unknown ones excepted.
    fn selected(&mut self, selector: &VectorSelector) -> BTreeSet<String> {
        if let Some(name) = &selector.name {
            if self.known.series.contains_key(name) {
                return BTreeSet::from([name.clone()]);
            }
            let near = meant(name, self.known.names());
            self.complain(format!("{name} is no family of the catalogue, and no rule records it{near}"));
            return BTreeSet::new();
        }
        let named: Vec<&Matcher> =
            selector.matchers.matchers.iter().filter(|matcher| matcher.name == "__name__").collect();
        let known = self.known;
        let selected: BTreeSet<String> = known
            .names()
            .filter(|name| !named.is_empty() && named.iter().all(|matcher| matcher.is_match(name)))
            .map(str::to_owned)
            .collect();
        if selected.is_empty() {
            self.complain(format!("no known name is selected by {selector}"));
        }
        selected
    }

    /// Whether a series' type allows what is done with it.
    fn typed(&mut self, name: &str, origin: Origin, function: Option<&str>, usage: Use) {
        let function = function.unwrap_or_default();
        let is_counter = origin == Origin::Counter;
        if OF_COUNTERS.contains(&function) {
            if !is_counter {
                self.complain(format!("{function} of {name}, which is {}", origin.said()));
            }
        } else if is_counter && OF_GAUGES.contains(&function) {
            self.complain(format!("{function} of {name}, which is a counter"));
        } else if is_counter && usage == Use::Value && !OF_PRESENCE.contains(&function) {
            self.found.raw.insert(name.to_owned());
        }
    }

    /// Whether any series here has the label; complains where none has.
    fn has(&mut self, vector: &Vector, label: &str, clause: Option<&str>) -> bool {
        let Some(shape) = &vector.shape else { return true };
        let here = all_labels(shape);
        if here.contains(label) || label == "__name__" && clause.is_some() {
            return true;
        }
        let of = vector.of.iter().cloned().collect::<Vec<_>>().join(", ");
        let of = if of.is_empty() { "a constant".to_owned() } else { of };
        let near = meant(label, here.iter().map(String::as_str));
        self.complain(match clause {
            None => format!("{of} has no label \"{label}\"{near}"),
            Some(clause) => format!("`{clause}`: {of} has no label \"{label}\" there{near}"),
        });
        false
    }

    /// Whether a matcher's values are such as the label can have.
    fn matched(&mut self, matcher: &Matcher) {
        let Matcher { op, name, value } = matcher;
        let is_regex = matches!(op, MatchOp::Re(_) | MatchOp::NotRe(_));
        if !is_regex && value == ".*" {
            self.complain(format!("{name}{op}\".*\" compares texts: a variable of several values takes =~"));
        }
        if value.is_empty() || value.contains(ANY) {
            return;
        }
        // Where there are no groups, each of the alternatives has to find something.
        let is_plain = !value.contains(['(', '[', '\\']);
        let parts: Vec<&str> = if is_regex && is_plain { value.split('|').collect() } else { vec![value] };
        let known = match self.known.values(name) {
            Some(known) => known,
            None if name == "thing_group" && value.contains('<') => SPECIAL_GROUPS.map(str::to_owned).to_vec(),
            None => return,
        };
        for part in parts.into_iter().filter(|part| name != "thing_group" || part.contains('<')) {
            let found = if is_regex {
                let Ok(regex) = Regex::new(&format!("^(?:{part})$")) else {
                    self.complain(format!("{name}: {part} is no regular expression"));
                    continue;
                };
                known.iter().any(|value| regex.is_match(value))
            } else {
                known.iter().any(|value| value == part)
            };
            if !found {
                let near = meant(part, known.iter().map(String::as_str));
                self.complain(format!("\"{part}\" is no value of {name}{near}"));
            }
        }
    }

    fn aggregate(&mut self, aggregate: &AggregateExpr, usage: Use) -> Vector {
        let operator = aggregate.op.to_string();
        let usage = if OF_PRESENCE.contains(&&*operator) { Use::Presence } else { usage };
        let parameter = aggregate.param.as_ref();
        if let Some(parameter) = parameter {
            self.visit(parameter, Use::Value);
        }
        let vector = self.vector(&aggregate.expr, usage);
        let (named, keeps): (Labels, bool) = match &aggregate.modifier {
            Some(LabelModifier::Include(named)) => (named.labels.iter().cloned().collect(), true),
            Some(LabelModifier::Exclude(named)) => (named.labels.iter().cloned().collect(), false),
            None => (Labels::new(), true),
        };
        for label in &named {
            if keeps || !OF_PROCESSES.contains(&&**label) {
                self.has(&vector, label, Some(if keeps { "by" } else { "without" }));
            }
        }
        if CHOOSING.contains(&&*operator) {
            return vector;
        }
        let kept = |labels: &Labels| if keeps { labels & &named } else { labels - &named };
        let mut shape: Option<Shape> = vector.shape.as_ref().map(|shape| shape.iter().map(kept).collect());
        if let (Some(Expr::StringLiteral(label)), Some(shape)) = (parameter.map(|boxed| &**boxed), &mut shape) {
            *shape = added(shape, &label.val);
        }
        Vector { shape, of: vector.of }
    }

    fn call(&mut self, call: &Call, usage: Use) -> Value {
        let name = call.func.name;
        let arguments: Vec<&Expr> = call.args.args.iter().map(|argument| &**argument).collect();
        let text = |at: usize| match arguments.get(at) {
            Some(Expr::StringLiteral(text)) => text.val.clone(),
            _ => String::new(),
        };
        let usage = if OF_PRESENCE.contains(&name) { Use::Presence } else { usage };
        if call.func.experimental {
            self.complain(format!("{name} is experimental: Prometheus has it only where a flag says so"));
        }
        if name.starts_with("histogram_") && name != "histogram_quantile" {
            self.complain(format!("{name}: no family is a native histogram"));
        }
        let mut of_arguments = None;
        for argument in &arguments {
            let value = match argument {
                Expr::MatrixSelector(_) | Expr::Subquery(_) => Value::Vector(self.range(argument, name, usage)),
                Expr::VectorSelector(selector) => Value::Vector(self.selector(selector, Some(name), usage)),
                _ => self.visit(argument, usage),
            };
            if let Value::Vector(vector) = value {
                of_arguments = Some(vector);
            }
        }
        let nothing = || Vector { shape: Some(Shape::from([Labels::new()])), of: BTreeSet::new() };
        match (name, of_arguments) {
            ("vector", _) => Value::Vector(nothing()),
            ("scalar", _) => Value::Scalar,
            ("absent" | "absent_over_time", _) => {
                let selector = match arguments.first() {
                    Some(Expr::VectorSelector(selector)) => Some(selector),
                    Some(Expr::MatrixSelector(matrix)) => Some(&matrix.vs),
                    _ => None,
                };
                let matchers = selector.into_iter().flat_map(|selector| &selector.matchers.matchers);
                let told = matchers.filter(|matcher| matches!(matcher.op, MatchOp::Equal));
                let told = labels(told.map(|matcher| &*matcher.name).filter(|name| *name != "__name__"));
                Value::Vector(Vector { shape: Some(Shape::from([told])), of: BTreeSet::new() })
            }
            ("label_replace", Some(mut vector)) => {
                let (to, from) = (text(1), text(3));
                if !from.is_empty() {
                    self.has(&vector, &from, Some(name));
                }
                vector.shape = vector.shape.map(|shape| added(&shape, &to));
                Value::Vector(vector)
            }
            ("label_join", Some(mut vector)) => {
                for at in 3..arguments.len() {
                    self.has(&vector, &text(at), Some(name));
                }
                vector.shape = vector.shape.map(|shape| added(&shape, &text(1)));
                Value::Vector(vector)
            }
            (_, Some(vector)) => Value::Vector(vector),
            (_, None) => Value::Scalar,
        }
    }

    fn binary(&mut self, binary: &BinaryExpr, usage: Use) -> Value {
        let operator = binary.op.to_string();
        let left = self.visit(&binary.lhs, usage);
        let right = self.visit(&binary.rhs, if matches!(&*operator, "and" | "unless") { Use::Presence } else { usage });
        let (left, right) = match (left, right) {
            (Value::Vector(left), Value::Vector(right)) => (left, right),
            (Value::Vector(vector), Value::Scalar) | (Value::Scalar, Value::Vector(vector)) => {
                return Value::Vector(vector);
            }
            (Value::Scalar, Value::Scalar) => return Value::Scalar,
        };
        let modifier = binary.modifier.as_ref();
        if modifier.is_some_and(|modifier| modifier.fill_values != VectorMatchFillValues::default()) {
            self.complain("`fill` is experimental: Prometheus has it only where a flag says so".to_owned());
        }
        let (named, is_on): (Labels, bool) = match modifier.and_then(|modifier| modifier.matching.as_ref()) {
            Some(LabelModifier::Include(named)) => (named.labels.iter().cloned().collect(), true),
            Some(LabelModifier::Exclude(named)) => (named.labels.iter().cloned().collect(), false),
            None => (Labels::new(), false),
        };
        let of: BTreeSet<String> = &left.of | &right.of;
        let (Some(lefts), Some(rights)) = (&left.shape, &right.shape) else {
            return Value::Vector(Vector { shape: None, of });
        };
        for label in &named {
            if is_on {
                let on = format!("{operator} on");
                self.has(&left, label, Some(&on));
                self.has(&right, label, Some(&on));
            } else if !OF_PROCESSES.contains(&&**label) {
                let either = Vector { shape: Some(lefts | rights), of: of.clone() };
                self.has(&either, label, Some(&format!("{operator} ignoring")));
            }
        }
        let key = |labels: &Labels| if is_on { labels & &named } else { labels - &named };
        let match_each_other = |shape: &Shape, others: &Shape| -> Shape {
            shape.iter().filter(|one| others.iter().any(|other| key(one) == key(other))).cloned().collect()
        };
        let (lefts_matched, rights_matched) = (match_each_other(lefts, rights), match_each_other(rights, lefts));
        if lefts_matched.is_empty() && operator != "or" {
            self.complain(format!(
                "`{operator}` finds no partners: its left side has {}, its right side {}",
                listed(lefts),
                listed(rights)
            ));
            return Value::Vector(Vector { shape: None, of });
        }
        let shape = match (&*operator, modifier.map(|modifier| &modifier.card)) {
            ("or", _) => lefts | rights,
            ("unless", _) => lefts.clone(),
            ("and", _) => lefts_matched,
            (_, Some(VectorMatchCardinality::ManyToOne(more))) => {
                self.joined(&lefts_matched, &right, "group_left", &more.labels)
            }
            (_, Some(VectorMatchCardinality::OneToMany(more))) => {
                self.joined(&rights_matched, &left, "group_right", &more.labels)
            }
            _ => lefts_matched.iter().map(key).collect(),
        };
        Value::Vector(Vector { shape: Some(shape), of })
    }

    /// The many side of a join with the labels that it takes over from the one side.
    fn joined(&mut self, many: &Shape, one: &Vector, clause: &str, more: &[String]) -> Shape {
        for label in more {
            self.has(one, label, Some(clause));
        }
        more.iter().fold(many.clone(), |shape, label| added(&shape, label))
    }
}

fn added(shape: &Shape, label: &str) -> Shape {
    shape.iter().map(|set| set | &labels([label])).collect()
}

fn listed(shape: &Shape) -> String {
    let sets = shape.iter().map(|set| format!("({})", set.iter().cloned().collect::<Vec<_>>().join(", ")));
    sets.collect::<Vec<_>>().join(" or ")
}
