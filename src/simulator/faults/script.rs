//! Scripts: which fault strikes what, and how often; as values, and as text.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::simulator::Operation;

use super::fault::{Consequence, Fault};

/// Which answers a [`Rule`] is for.
///
/// Pages are counted from 1 in each walk, which a request without `nextToken` begins. Where an operation has no pages,
/// its answer is the first and the last one. A walk is told by account, region, operation and filters: of two clients
/// that walk the same at the same time, one has pages whose number is not known, and which only [`Position::Any`] and
/// [`Position::Last`] find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Position {
    /// All of them.
    #[default]
    Any,
    /// The page of this number.
    Page(u64),
    /// A page between the first and the last one.
    Middle,
    /// The page that has no `nextToken`.
    Last,
    /// The request of this number, from 1, of those for the rule's operation and job since the script was set. Every
    /// attempt is a request.
    Attempt(u64),
    /// One request out of so many, the first ones left alone: counted in the same way. Not 0.
    Every(u64),
}

impl Position {
    /// The first page of a walk.
    pub const FIRST: Self = Self::Page(1);
}

/// One fault, and when it strikes. [`Rule::new`] makes one that always does.
///
/// As text: `throttle-429:operation=DescribeJob,job=fw-1,page=2,count=3,chance=0.5,delay=2s`, in any order, and all but the
/// fault's name can be left out. `page` is a number, `first`, `middle` or `last`; `attempt=5` or `every=5` can stand in its
/// place.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What it strikes: all operations, where it names none.
    pub operation: Option<Operation>,
    /// The job whose answers it strikes: those about any job and about none, where it names none.
    pub job: Option<String>,
    /// Which answers of it.
    pub position: Position,
    /// How many times it strikes before it is spent: for ever, where there is none.
    pub count: Option<u64>,
    /// How probable it is to strike where it can, from 0 to 1.
    pub chance: f64,
    /// How late the client sees it. Without one, only [`Fault::Slow`] is late.
    pub delay: Option<Duration>,
    /// What strikes.
    pub fault: Fault,
}

impl Rule {
    /// `fault`, on every answer of every operation that it can be made of.
    #[must_use]
    pub const fn new(fault: Fault) -> Self {
        Self { operation: None, job: None, position: Position::Any, count: None, chance: 1.0, delay: None, fault }
    }

    /// The same on one operation.
    #[must_use]
    pub fn on(self, operation: Operation) -> Self {
        Self { operation: Some(operation), ..self }
    }

    /// The same for one job.
    #[must_use]
    pub fn of_job(self, id: &str) -> Self {
        Self { job: Some(id.to_owned()), ..self }
    }

    /// The same, so much later.
    #[must_use]
    pub fn delayed(self, by: Duration) -> Self {
        Self { delay: Some(by), ..self }
    }

    /// The same at a position.
    #[must_use]
    pub fn at(self, position: Position) -> Self {
        Self { position, ..self }
    }

    /// The same for so many times.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        Self { count: Some(count), ..self }
    }

    /// The same with a chance.
    #[must_use]
    pub fn with_chance(self, chance: f64) -> Self {
        Self { chance, ..self }
    }
}

/// Several rules. Each answer is struck by the first one that finds it, has its chance, and can strike it.
///
/// As text: rules with `;` between them; one of them can be `seed=7`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    /// The rules, in the order in which they are asked.
    pub rules: Vec<Rule>,
    /// What chances are drawn from: the same requests in the same order meet the same faults.
    pub seed: u64,
}

impl Script {
    /// A script of these rules, with the seed 0.
    #[must_use]
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { rules: rules.into_iter().collect(), seed: 0 }
    }

    /// Every fault there is, each so rarely that most walks end well: for demonstrations.
    ///
    /// What is retried or tolerated can strike any answer; what is fatal, one page of a walk of `ListJobs` at most, so
    /// that large fleets have no more failures than small ones. About one walk in twenty fails.
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
            let place = if matches!(key, "attempt" | "every") { "page" } else { key };
            if known.contains(&place) {
                return Err(ParseScriptError::Twice(setting.to_owned()));
            }
            known.push(place);
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

/// Nobody waits for longer than a day; and what is longer than the longest timer would never come.
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

/// Why a text is no script. Each says what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseScriptError {
    /// No fault has this name.
    #[error("there is no fault {0:?}; there are {known}", known = names(Fault::ALL.iter().map(|fault| fault.as_str())))]
    Fault(String),
    /// A rule has no such setting.
    #[error(
        "{0:?} is no setting of a rule; there are operation=, job=, page=, attempt=, every=, count=, chance= and delay=, with commas between"
    )]
    Setting(String),
    /// A setting is there twice, or two of `page`, `attempt` and `every` are.
    #[error(
        "{0:?} comes second: operation, job, count, chance, delay, and one of page, attempt and every can each be given once"
    )]
    Twice(String),
    /// No operation has this name.
    #[error(
        "there is no operation {0:?}; there are {known}",
        known = names(Operation::ALL.iter().map(|operation| operation.as_str()))
    )]
    Operation(String),
    /// No job has this id.
    #[error("{0:?} is no job id; give 1 to 64 of letters, digits, _ and -")]
    Job(String),
    /// No page is told by this.
    #[error("{0:?} is no page; give its number from 1, or first, middle, last or any")]
    Page(String),
    /// A number is none, or zero.
    #[error("{key}={text} is not possible; give a whole number from 1")]
    Number {
        /// The setting.
        key: &'static str,
        /// Its value.
        text: String,
    },
    /// A chance is no number from 0 to 1.
    #[error("{0:?} is no chance; give a number from 0 to 1, such as 0.05")]
    Chance(String),
    /// A delay is none, or too long.
    #[error("{0:?} is no delay; give a whole number of seconds or milliseconds up to a day, such as 9s or 250ms")]
    Delay(String),
    /// A seed is no number.
    #[error("{0:?} is no seed; give a whole number from 0 to 2^64 - 1")]
    Seed(String),
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
