//! Selects the thing groups with their own rows, by patterns of included and excluded names.
//!
//! A pattern matches a whole name, as in Prometheus. A pattern with only valid characters of names is the name of one
//! group: it is looked up, not evaluated as an expression.

use std::collections::{BTreeMap, BTreeSet};

use regex_lite::Regex;

/// Selects the thing groups with their own rows. By default, all of them.
///
/// Two filters are equal if they have the same patterns, in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupFilter {
    include: Patterns,
    exclude: Patterns,
}

impl GroupFilter {
    /// A filter of the groups that match a pattern in `include`, or of all groups if it is empty, without those that
    /// match a pattern in `exclude`.
    ///
    /// # Example
    /// ```
    /// use aws_iot_jobs_exporter::jobs::group_filter::{GroupFilter, Pattern};
    ///
    /// let include = [Pattern::parse("factory-1")?, Pattern::parse("site-[0-9]+")?];
    /// let exclude = [Pattern::parse("site-9")?];
    /// let filter = GroupFilter::new(&include, &exclude);
    ///
    /// assert!(filter.shows("factory-1") && filter.never_folds("factory-1"));
    /// assert!(filter.shows("site-12") && !filter.never_folds("site-12"));
    /// assert!(!filter.shows("site-9") && filter.excludes("site-9"));
    /// # Ok::<(), aws_iot_jobs_exporter::jobs::group_filter::InvalidPattern>(())
    /// ```
    #[must_use]
    pub fn new(include: &[Pattern], exclude: &[Pattern]) -> Self {
        Self { include: include.iter().cloned().collect(), exclude: exclude.iter().cloned().collect() }
    }

    /// Whether a pattern excludes the group.
    #[must_use]
    pub fn excludes(&self, group: &str) -> bool {
        self.exclude.matches(group)
    }

    /// Whether the filter allows rows for the group.
    #[must_use]
    pub fn shows(&self, group: &str) -> bool {
        (self.include.is_empty() || self.include.matches(group)) && !self.excludes(group)
    }

    /// Whether the group has its own rows regardless of the limit: its exact name is included, and it is not excluded.
    #[must_use]
    pub fn never_folds(&self, group: &str) -> bool {
        self.include.names.contains(group) && !self.excludes(group)
    }
}

/// A pattern of group names. Two are equal if they have the same text.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    /// Matches whole names only; `None` if the text is the name of one group.
    expression: Option<Regex>,
}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// If it is empty, has a control character, or is not a valid regular expression of `regex-lite`.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let invalid = |reason: Fault| InvalidPattern { pattern: text.to_owned(), reason: reason.to_string() };
        let expression = if is_name(text) { None } else { Some(whole(text).map_err(invalid)?) };
        Ok(Self { text: text.to_owned(), expression })
    }
}

// Expressions are not comparable; their texts are.
impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// An invalid pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is not a pattern: {reason}")]
pub struct InvalidPattern {
    /// The text of the pattern.
    pub pattern: String,
    /// Its fault.
    pub reason: String,
}

#[derive(Clone, Debug, Default)]
struct Patterns {
    /// Patterns that are names of groups.
    names: BTreeSet<String>,
    /// The other patterns, each with the expression for whole names.
    expressions: BTreeMap<String, Regex>,
}

impl FromIterator<Pattern> for Patterns {
    fn from_iter<I: IntoIterator<Item = Pattern>>(patterns: I) -> Self {
        let mut collected = Self::default();
        for Pattern { text, expression } in patterns {
            match expression {
                None => drop(collected.names.insert(text)),
                Some(expression) => drop(collected.expressions.insert(text, expression)),
            }
        }
        collected
    }
}

impl Patterns {
    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.expressions.is_empty()
    }

    fn matches(&self, group: &str) -> bool {
        self.names.contains(group) || self.expressions.values().any(|expression| expression.is_match(group))
    }
}

// Expressions are not comparable; their texts are.
impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        self.names == other.names && self.expressions.keys().eq(other.expressions.keys())
    }
}

impl Eq for Patterns {}

/// Whether the pattern has only characters of group names. None of them is special in an expression.
fn is_name(pattern: &str) -> bool {
    !pattern.is_empty() && pattern.bytes().all(|b| b.is_ascii_alphanumeric() || b":_-".contains(&b))
}

/// The expression that matches whole names.
fn whole(pattern: &str) -> Result<Regex, Fault> {
    if pattern.is_empty() {
        return Err(Fault::Empty);
    }
    if pattern.contains(char::is_control) {
        return Err(Fault::Control);
    }
    // Compiled alone first: `a)|(b` would be valid inside the brackets, and would not match whole names.
    Regex::new(pattern)?;
    Ok(Regex::new(&format!("^(?:{pattern})$"))?)
}

/// A fault of a pattern.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("it is empty, and no group has an empty name")]
    Empty,
    // For example a line end at the end of a YAML block: the pattern would silently match no group.
    #[error("it contains a control character, such as a line end, which no group's name can have")]
    Control,
    #[error(transparent)]
    Syntax(#[from] regex_lite::Error),
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A filter of these patterns, which must be valid.
    pub(crate) fn filter(include: &[&str], exclude: &[&str]) -> GroupFilter {
        let parsed = |patterns: &[&str]| {
            patterns.iter().map(|pattern| Pattern::parse(pattern).expect(pattern)).collect::<Vec<_>>()
        };
        GroupFilter::new(&parsed(include), &parsed(exclude))
    }

    fn fault(pattern: &str) -> String {
        let invalid = Pattern::parse(pattern).expect_err(pattern);
        assert_eq!(invalid.pattern, pattern);
        invalid.reason
    }

    #[test]
    fn without_patterns_every_group_is_shown_and_may_be_folded() {
        let all = GroupFilter::default();
        assert_eq!(all, filter(&[], &[]));
        assert!(all.shows("factory-1") && all.shows("") && !all.never_folds("factory-1"));
    }

    #[test]
    fn a_name_includes_one_group_and_prevents_its_folding() {
        let one = filter(&["site:berlin_1-a"], &[]);
        assert!(one.shows("site:berlin_1-a") && one.never_folds("site:berlin_1-a"));
        for other in ["site:berlin_1-a2", "my-site:berlin_1-a", "SITE:BERLIN_1-A", "site", ""] {
            assert!(!one.shows(other) && !one.never_folds(other), "{other}");
        }
    }

    #[test]
    fn an_expression_matches_whole_names_only() {
        let factories = filter(&["factory-[0-9]+"], &[]);
        assert!(factories.shows("factory-12"));
        for other in ["factory-12b", "my-factory-12", "factory-", "Factory-12", "factory-12\n"] {
            assert!(!factories.shows(other), "{other}");
        }
        // The first branch matches the start of the second.
        assert!(filter(&["a|ab"], &[]).shows("ab"));
        assert!(!filter(&["a|b"], &[]).shows("ax") && !filter(&["a|b"], &[]).shows("xb"));
        assert!(filter(&["(?i)FACTORY"], &[]).shows("factory") && filter(&["^a.$"], &[]).shows("ab"));
    }

    #[test]
    fn a_group_that_only_an_expression_includes_may_be_folded() {
        let some = filter(&["factory-.*", "factory-1"], &[]);
        assert!(some.shows("factory-1") && some.never_folds("factory-1"));
        assert!(some.shows("factory-2") && !some.never_folds("factory-2"));
    }

    #[test]
    fn exclusion_takes_precedence_over_inclusion() {
        for exclude in ["factory-1", "factory-.", ".*"] {
            let none = filter(&["factory-1", "factory-.*"], &[exclude]);
            assert!(!none.shows("factory-1") && !none.never_folds("factory-1"), "{exclude}");
        }
        let others = filter(&[], &["test-.*"]);
        assert!(others.shows("factory-1") && others.shows("my-test-1") && !others.shows("test-1"));
    }

    #[test]
    fn a_pattern_that_does_not_compile_is_reported_with_the_reason() {
        assert_eq!(fault("factory-("), "found open group without closing ')'");
        assert_eq!(fault("a)|(b"), "found closing ')' without matching '('");
        assert_eq!(fault("(?=a)"), "look-around is not supported");
        let error = Pattern::parse("*").expect_err("a fault");
        assert_eq!(error.to_string(), format!("\"*\" is not a pattern: {}", error.reason));
    }

    #[test]
    fn a_pattern_that_can_match_no_name_is_refused() {
        assert_eq!(fault(""), "it is empty, and no group has an empty name");
        for pattern in ["factory-1\n", "a\tb", ".*\u{7f}"] {
            assert!(fault(pattern).starts_with("it contains a control character"), "{pattern:?}");
        }
    }

    #[test]
    fn a_pattern_that_needs_much_memory_is_refused() {
        assert_eq!(fault("((a{1000}){1000}){1000}"), "compiled regex exceeded size limit");
        assert_eq!(fault(&"(".repeat(100_000)), "pattern has too much nesting");
    }

    #[test]
    fn filters_are_equal_by_their_patterns() {
        assert_eq!(filter(&["a", "b.", "c."], &["d"]), filter(&["c.", "b.", "a"], &["d"]));
        assert_ne!(filter(&["a."], &[]), filter(&["a.*"], &[]));
        assert_ne!(filter(&["a"], &[]), filter(&[], &["a"]));
    }

    proptest! {
        #[test]
        fn no_pattern_causes_a_panic(
            any in "\\PC*",
            signs in "[\\[\\](){}|?*+^$\\\\:=!<>#&~.,xim0-9a-c-]*",
            group in ".*",
        ) {
            for pattern in [any, signs] {
                if let Ok(pattern) = Pattern::parse(&pattern) {
                    let filter = GroupFilter::new(&[pattern], &[]);
                    prop_assert!(filter.shows(&group) || !filter.never_folds(&group));
                }
            }
        }

        #[test]
        fn a_name_and_its_expression_show_the_same_groups(
            names in prop::collection::vec("[ab:_-]{1,3}", 1..4),
            group in "[ab:_-]{1,3}",
        ) {
            let by_name = filter(&names.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
            let by_expression = filter(&[&format!("(?:{})", names.join("|"))], &[]);
            prop_assert_eq!(by_name.shows(&group), names.contains(&group));
            prop_assert_eq!(by_expression.shows(&group), names.contains(&group));
        }

        #[test]
        fn exclude_removes_only_matching_groups(
            include in "[ab]{1,2}\\.?\\*?",
            exclude in "[ab]{1,2}\\.?\\*?",
            group in "[ab]{1,3}",
        ) {
            let both = filter(&[&include], &[&exclude]);
            let included = filter(&[&include], &[]);
            let excluded = filter(&[&exclude], &[]).shows(&group);
            prop_assert_eq!(both.shows(&group), included.shows(&group) && !excluded);
            prop_assert_eq!(both.never_folds(&group), included.never_folds(&group) && !excluded);
        }
    }
}
