//! A check and its line.

use std::fmt;

/// What was checked, and the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    subject: String,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok(String),
    /// Valid, but often a mistake.
    Warning(String),
    /// What is wrong, and what to do.
    Fault(String),
    /// Not checked, and why.
    Skipped(String),
}

impl Outcome {
    /// A fault with what to do, which begins with a verb.
    pub(super) fn fault(what: impl fmt::Display, fix: impl fmt::Display) -> Self {
        Self::Fault(format!("{what}. Fix: {fix}."))
    }
}

impl Check {
    pub(super) fn new(subject: impl Into<String>, outcome: Outcome) -> Self {
        Self { subject: subject.into(), outcome }
    }

    pub(super) fn is_warning(&self) -> bool {
        matches!(self.outcome, Outcome::Warning(_))
    }

    pub(super) fn is_fault(&self) -> bool {
        matches!(self.outcome, Outcome::Fault(_))
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, text) = match &self.outcome {
            Outcome::Ok(text) => ("ok", text),
            Outcome::Warning(text) => ("warning", text),
            Outcome::Fault(text) => ("FAULT", text),
            Outcome::Skipped(why) => ("skipped", why),
        };
        write!(f, "{:<28} {word:<8} {text}", self.subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_line_with_what_to_do() {
        let check = Check::new("clock", Outcome::fault("it is an hour ahead", "set it"));
        assert_eq!(check.to_string(), "clock                        FAULT    it is an hour ahead. Fix: set it.");
        assert!(check.is_fault());
    }
}
