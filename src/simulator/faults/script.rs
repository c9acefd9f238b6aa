//! Scripts: which fault applies to which answers, and how often; as values and as text.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::simulator::Operation;

use super::fault::{Consequence, Fault};

/// Which answers a [`Rule`] covers.
///
/// Pages are counted from 1 in each walk; a request without `nextToken` begins a walk. The answer of an operation
/// without pages is both the first and the last page. A walk is identified by account, region, operation and filters.
/// If two clients make the same walk at the same time, one of them has pages of unknown number; only [`Position::Any`]
/// and [`Position::Last`] cover those.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Position {
    /// All answers.
    #[default]
    Any,
    /// The page with this number.
    Page(u64),
    /// A page between the first and the last one.
    Middle,
    /// The page without `nextToken`.
    Last,
    /// The request with this number, from 1, among those for the rule's operation and job since the script was set.
    /// Every attempt counts.
    Attempt(u64),
    /// Every n-th request, counted in the same way. Not 0.
    Every(u64),
}

impl Position {
    /// The first page of a walk.
    pub const FIRST: Self = Self::Page(1);
}

/// One fault, and when it applies. By default, it always applies.
///
/// As text: `throttle-429:operation=DescribeJob,job=fw-1,page=2,count=3,chance=0.5,delay=2s`, in any order. Everything
/// except the fault's name is optional. `page` is a number, `first`, `middle` or `last`; `attempt=5` or `every=5` can
/// replace it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its operation. Without one, all operations.
    pub operation: Option<Operation>,
    /// Its job. Without one, answers about any job and about none.
    pub job: Option<String>,
    /// Which answers it covers.
    pub position: Position,
    /// How often it applies. Without a count, without limit.
    pub count: Option<u64>,
    /// The probability of applying it to an answer that it covers, from 0 to 1.
    pub chance: f64,
    /// The delay of the answer. Without one, only [`Fault::Slow`] delays.
    pub delay: Option<Duration>,
    /// The fault.
    pub fault: Fault,
}

impl Rule {
    /// Applies `fault` to every answer that it fits.
    #[must_use]
    pub const fn new(fault: Fault) -> Self {
        Self { operation: None, job: None, position: Position::Any, count: None, chance: 1.0, delay: None, fault }
    }

    /// Restricts the rule to one operation.
    #[must_use]
    pub fn on(self, operation: Operation) -> Self {
        Self { operation: Some(operation), ..self }
    }

    /// Restricts the rule to one job.
    #[must_use]
    pub fn of_job(self, id: &str) -> Self {
        Self { job: Some(id.to_owned()), ..self }
    }

    /// Delays the answer.
    #[must_use]
    pub fn delayed(self, by: Duration) -> Self {
        Self { delay: Some(by), ..self }
    }

    /// Restricts the rule to a position.
    #[must_use]
    pub fn at(self, position: Position) -> Self {
        Self { position, ..self }
    }

    /// Limits how often it applies.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        Self { count: Some(count), ..self }
    }

    /// Sets the probability.
    #[must_use]
    pub fn with_chance(self, chance: f64) -> Self {
        Self { chance, ..self }
    }
}

/// Several rules. The first rule that covers an answer, is drawn and fits is applied to it.
///
/// As text: rules separated by `;`; one entry can be `seed=7`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    /// The rules, in order of precedence.
    pub rules: Vec<Rule>,
    /// The seed of all random choices: the same requests in the same order get the same faults.
    pub seed: u64,
}

impl Script {
    /// A script with these rules and the seed 0.
    #[must_use]
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { rules: rules.into_iter().collect(), seed: 0 }
    }

    /// Every fault, each so rare that most walks complete: for demonstrations.
    ///
    /// Retried and tolerated faults can apply to any answer. Fatal ones apply to at most one page of a walk of
    /// `ListJobs`, so that large fleets have no more failures than small ones. About one walk in twenty fails.
    #[must_use]
    pub fn mixture(seed: u64) -> Self {
        let rules = Fault::ALL.iter().map(|&fault| match fault.consequence() {
            Consequence::Retried => Rule::new(fault).with_chance(0.002),
            Consequence::Tolerated => Rule::new(fault).with_chance(0.005),
            Consequence::Fatal => {
                let page = match fault {
                    Fault::RepeatedToken | Fault::ExpiredToken => 2,
                    Fault::TokenCycle => 3,
                    _ => 1,
                };
                Rule::new(fault).on(Operation::ListJobs).at(Position::Page(page)).with_chance(0.005)
            }
        });
        Self { rules: rules.collect(), seed }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let page = |page: &str| format!("page={page}");
        let settings = [
            self.operation.map(|operation| format!("operation={}", operation.as_str())),
            self.job.as_ref().map(|job| format!("job={job}")),
            match self.position {
                Position::Any => None,
                Position::FIRST => Some(page("first")),
                Position::Page(number) => Some(page(&number.to_string())),
                Position::Middle => Some(page("middle")),
                Position::Last => Some(page("last")),
                Position::Attempt(number) => Some(format!("attempt={number}")),
                Position::Every(number) => Some(format!("every={number}")),
            },
            self.count.map(|count| format!("count={count}")),
            (self.chance < 1.0).then(|| format!("chance={}", self.chance)),
            self.delay.map(|delay| format!("delay={}ms", delay.as_millis())),
        ];
        f.write_str(self.fault.as_str())?;
        for (n, setting) in settings.iter().flatten().enumerate() {
            write!(f, "{}{setting}", if n == 0 { ':' } else { ',' })?;
        }
        Ok(())
    }
}

impl FromStr for Rule {
    type Err = ParseScriptError;

    fn from_str(text: &str) -> Result<Self, ParseScriptError> {
        let (fault, settings) = text.split_once(':').unwrap_or((text, ""));
        let mut rule = Self::new(fault.trim().parse()?);
        let mut known: Vec<&str> = Vec::new();
        for setting in settings.split(',').map(str::trim).filter(|setting| !setting.is_empty()) {
            let (key, value) = setting.split_once('=').ok_or_else(|| ParseScriptError::Setting(setting.to_owned()))?;
            let (key, value) = (key.trim(), value.trim());
            match key {
                "operation" => rule.operation = Some(operation(value)?),
                "job" => rule.job = Some(job(value)?),
                "page" => rule.position = page(value)?,
                "attempt" => rule.position = Position::Attempt(number("attempt", value)?),
                "every" => rule.position = Position::Every(number("every", value)?),
                "count" => rule.count = Some(number("count", value)?),
                "chance" => rule.chance = chance(value)?,
                "delay" => rule.delay = Some(delay(value)?),
                _ => return Err(ParseScriptError::Setting(setting.to_owned())),
            }
            let unique_key = if matches!(key, "attempt" | "every") { "page" } else { key };
            if known.contains(&unique_key) {
                return Err(ParseScriptError::Twice(setting.to_owned()));
            }
            known.push(unique_key);
        }
        Ok(rule)
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seed = (self.seed != 0).then(|| format!("seed={}", self.seed));
        let parts: Vec<String> = seed.into_iter().chain(self.rules.iter().map(ToString::to_string)).collect();
        f.write_str(&parts.join(";"))
    }
}

impl FromStr for Script {
    type Err = ParseScriptError;

    fn from_str(text: &str) -> Result<Self, ParseScriptError> {
        let mut script = Self::default();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some((key, seed)) if key.trim() == "seed" => {
                    script.seed = seed.trim().parse().map_err(|_| ParseScriptError::Seed(seed.to_owned()))?;
                }
                _ => script.rules.push(part.parse()?),
            }
        }
        Ok(script)
    }
}

fn operation(text: &str) -> Result<Operation, ParseScriptError> {
    let found = Operation::ALL.into_iter().find(|operation| operation.as_str() == text);
    found.ok_or_else(|| ParseScriptError::Operation(text.to_owned()))
}

fn page(text: &str) -> Result<Position, ParseScriptError> {
    match text {
        "any" => Ok(Position::Any),
        "first" => Ok(Position::FIRST),
        "middle" => Ok(Position::Middle),
        "last" => Ok(Position::Last),
        _ => positive(text).map(Position::Page).ok_or_else(|| ParseScriptError::Page(text.to_owned())),
    }
}

fn number(key: &'static str, text: &str) -> Result<u64, ParseScriptError> {
    positive(text).ok_or_else(|| ParseScriptError::Number { key, text: text.to_owned() })
}

fn positive(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number > 0)
}

fn job(text: &str) -> Result<String, ParseScriptError> {
    let is_id = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let id = Some(text).filter(|id| is_id && (1..=64).contains(&id.len()));
    id.map(str::to_owned).ok_or_else(|| ParseScriptError::Job(text.to_owned()))
}

/// No test waits for longer than a day, and a delay beyond the longest timer would never end.
const MAX_DELAY: Duration = Duration::from_hours(24);

fn delay(text: &str) -> Result<Duration, ParseScriptError> {
    let (number, unit_millis) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1),
        (None, Some(number)) => (number, 1000),
        (None, None) => ("", 1),
    };
    let millis = positive(number).and_then(|number| number.checked_mul(unit_millis));
    let delay = millis.map(Duration::from_millis).filter(|delay| *delay <= MAX_DELAY);
    delay.ok_or_else(|| ParseScriptError::Delay(text.to_owned()))
}

fn chance(text: &str) -> Result<f64, ParseScriptError> {
    let number = text.parse().ok().filter(|chance| (0.0..=1.0).contains(chance));
    number.ok_or_else(|| ParseScriptError::Chance(text.to_owned()))
}

/// Why a text is not a script. Each message says what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseScriptError {
    /// Unknown fault.
    #[error("there is no fault {0:?}; there are {known}", known = names(Fault::ALL.iter().map(|fault| fault.as_str())))]
    Fault(String),
    /// Unknown setting of a rule.
    #[error(
        "{0:?} is not a setting of a rule; there are operation=, job=, page=, attempt=, every=, count=, chance= and delay=, separated by commas"
    )]
    Setting(String),
    /// A setting occurs twice, or two of `page`, `attempt` and `every` occur.
    #[error(
        "{0:?} repeats or contradicts an earlier setting; operation, job, count, chance, delay, and one of page, attempt and every can each be given once"
    )]
    Twice(String),
    /// Unknown operation.
    #[error(
        "there is no operation {0:?}; there are {known}",
        known = names(Operation::ALL.iter().map(|operation| operation.as_str()))
    )]
    Operation(String),
    /// Invalid job id.
    #[error("{0:?} is not a job id; give 1 to 64 of letters, digits, _ and -")]
    Job(String),
    /// Invalid page.
    #[error("{0:?} is not a page; give its number from 1, or first, middle, last or any")]
    Page(String),
    /// Not a positive number.
    #[error("{key}={text} is not valid; give a whole number from 1")]
    Number {
        /// The setting.
        key: &'static str,
        /// Its value.
        text: String,
    },
    /// Not a number from 0 to 1.
    #[error("{0:?} is not a chance; give a number from 0 to 1, such as 0.05")]
    Chance(String),
    /// Invalid delay, or too long.
    #[error("{0:?} is not a delay; give a whole number of seconds or milliseconds up to a day, such as 9s or 250ms")]
    Delay(String),
    /// Invalid seed.
    #[error("{0:?} is not a seed; give a whole number from 0 to 2^64 - 1")]
    Seed(String),
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
