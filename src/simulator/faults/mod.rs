//! Fault injection: the failures of AWS, or of the network, that a client can see.
//!
//! A [`Script`] says which [`Fault`] applies to which answers, and how often. Faults apply to calls of known callers,
//! after the interceptor, so answers of [`Simulator::intercept`] can be altered as well.
//! [`Simulator::answer_with_faults`] applies them, over a socket and in the process; [`Simulator::answer`] does not.
//!
//! A fault changes the answer, not the effect of the call: a canceled job stays canceled, even if the answer is lost.

mod alter;
mod fault;
mod script;
#[cfg(test)]
mod tests;
mod walks;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Response;
use crate::http::Request;
use crate::jobs::Timestamp;

use super::{Call, FaultAction, Simulator};
use alter::{Answer, Outcome};
use walks::Walks;

pub use alter::{CLOCK_SKEW, OVERSIZE, REFUSAL, SLOWNESS};
pub use fault::{Consequence, Fault};
pub use script::{ParseScriptError, Position, Rule, Script};

impl Simulator {
    /// Sets the script, and resets [`Simulator::fault_counts`].
    pub fn set_script(&self, script: Script) {
        *self.shared.faults.lock() = State::new(script);
    }

    /// Removes the script. [`Simulator::fault_counts`] keeps its values.
    pub fn clear_script(&self) {
        self.shared.faults.lock().active.clear();
    }

    /// How often each fault was applied since the script was set. Faults that were never applied are absent.
    #[must_use]
    pub fn fault_counts(&self) -> BTreeMap<Fault, u64> {
        self.shared.faults.lock().counts.clone()
    }

    /// Answers one request at the time `now`, and applies the script to the answer.
    #[must_use]
    pub fn answer_with_faults(&self, request: &Request, now: Timestamp) -> FaultAction {
        self.handle(request, now, |call, response| self.shared.faults.apply(call, response))
    }
}

/// The script of a simulator, and its progress.
#[derive(Default)]
pub(super) struct Faults(Mutex<State>);

#[derive(Default)]
struct State {
    active: Vec<ActiveRule>,
    rng: fastrand::Rng,
    walks: Walks,
    counts: BTreeMap<Fault, u64>,
}

/// A rule, the number of requests for its operation and job, and how often it still applies.
struct ActiveRule {
    rule: Rule,
    requests: u64,
    left: Option<u64>,
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies the script to an answer.
    fn apply(&self, call: &Call<'_>, response: Response) -> FaultAction {
        let mut state = self.lock();
        if state.active.is_empty() {
            return response.into();
        }
        state.apply(call, response)
    }
}

impl State {
    fn new(script: Script) -> Self {
        let active = script.rules.into_iter().map(|rule| ActiveRule { left: rule.count, requests: 0, rule });
        Self { active: active.collect(), rng: fastrand::Rng::with_seed(script.seed), ..Self::default() }
    }

    fn apply(&mut self, call: &Call<'_>, response: Response) -> FaultAction {
        for active in self.active.iter_mut().filter(|active| active.rule.is_for(call)) {
            active.requests += 1;
        }
        let answer = Answer::new(call, response, &self.walks);
        answer.note(&mut self.walks);
        let applied = self.active.iter_mut().find_map(|active| {
            let is_due = active.covers(&answer) && active.left != Some(0);
            let outcome =
                (is_due && active.rule.is_drawn(&mut self.rng)).then(|| active.rule.fault.apply(&answer, &self.walks));
            let outcome = outcome.flatten()?;
            active.left = active.left.map(|left| left - 1);
            Some((active.rule.fault, active.rule.delay(), outcome))
        });
        let Some((fault, delay, outcome)) = applied else { return answer.response.into() };
        *self.counts.entry(fault).or_default() += 1;
        let action = match outcome {
            Outcome::Action(action) => action,
            Outcome::Body(body) => {
                answer.note_altered(&body, &mut self.walks);
                answer.response.map(|_| body.to_string().into()).into()
            }
        };
        match delay {
            Some(delay) => FaultAction::Delay(delay, Box::new(action)),
            None => action,
        }
    }
}

impl ActiveRule {
    /// Whether the rule covers this answer.
    fn covers(&self, answer: &Answer<'_>) -> bool {
        self.rule.is_for(answer.call)
            && match self.rule.position {
                Position::Any => true,
                Position::Page(number) => answer.page == Some(number),
                Position::Middle => answer.page.is_some_and(|page| page > 1) && !answer.is_last,
                Position::Last => answer.is_last,
                Position::Attempt(number) => self.requests == number,
                Position::Every(number) => self.requests.is_multiple_of(number),
            }
    }
}

impl Rule {
    fn is_for(&self, call: &Call<'_>) -> bool {
        self.operation.is_none_or(|operation| operation == call.operation)
            && self.job.as_deref().is_none_or(|job| call.job_id() == Some(job))
    }

    fn delay(&self) -> Option<Duration> {
        self.delay.or((self.fault == Fault::Slow).then_some(SLOWNESS))
    }

    fn is_drawn(&self, rng: &mut fastrand::Rng) -> bool {
        self.chance >= 1.0 || rng.f64() < self.chance
    }
}
