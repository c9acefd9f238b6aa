//! Faults by script: everything that AWS, or a network on the way to it, can do to a client.
//!
//! A [`Script`] says which [`Fault`] strikes which answers, and how often. Without one, nothing here does anything.
//! Faults strike the calls of known callers, after the interceptor: what [`Simulator::intercept`] answers can be struck
//! as well. [`Simulator::reply`] is where they show, over a socket and in the process alike; [`Simulator::answer`]
//! knows none.
//!
//! A fault strikes an answer, and not what the call has done by then: a job that somebody cancels is canceled, even if the
//! answer gets lost.

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
    /// Lets faults strike as `script` says, in place of the script before. What [`Simulator::struck`] tells starts
    /// again.
    pub fn set_script(&self, script: Script) {
        *self.shared.faults.lock() = State::new(script);
    }

    /// Ends what [`Simulator::set_script`] began. What [`Simulator::struck`] tells stays.
    pub fn clear_script(&self) {
        self.shared.faults.lock().armed.clear();
    }

    /// How many times each fault has struck since the script was set. Faults that never did are left out.
    #[must_use]
    pub fn struck(&self) -> BTreeMap<Fault, u64> {
        self.shared.faults.lock().struck.clone()
    }

    /// What AWS, or what stands in for it on the way there, does with one request at the time `now`: the answer, or
    /// what the script makes of it.
    #[must_use]
    pub fn reply(&self, request: &Request, now: Timestamp) -> FaultAction {
        self.handle(request, now, |call, response| self.shared.faults.strike(call, response))
    }
}

/// The script of a simulator, and how far it is.
#[derive(Default)]
pub(super) struct Faults(Mutex<State>);

#[derive(Default)]
struct State {
    armed: Vec<Armed>,
    dice: fastrand::Rng,
    walks: Walks,
    struck: BTreeMap<Fault, u64>,
}

/// A rule, how many requests for its operation and job there were, and how many strikes it has left.
struct Armed {
    rule: Rule,
    requests: u64,
    left: Option<u64>,
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of an answer.
    fn strike(&self, call: &Call<'_>, response: Response) -> FaultAction {
        let mut state = self.lock();
        if state.armed.is_empty() {
            return response.into();
        }
        state.strike(call, response)
    }
}

impl State {
    fn new(script: Script) -> Self {
        let armed = script.rules.into_iter().map(|rule| Armed { left: rule.count, requests: 0, rule });
        Self { armed: armed.collect(), dice: fastrand::Rng::with_seed(script.seed), ..Self::default() }
    }

    fn strike(&mut self, call: &Call<'_>, response: Response) -> FaultAction {
        for armed in self.armed.iter_mut().filter(|armed| armed.rule.is_for(call)) {
            armed.requests += 1;
        }
        let answer = Answer::new(call, response, &self.walks);
        answer.note(&mut self.walks);
        let struck = self.armed.iter_mut().find_map(|armed| {
            let found = armed.finds(&answer) && armed.left != Some(0);
            let struck =
                (found && armed.rule.has_luck(&mut self.dice)).then(|| armed.rule.fault.strike(&answer, &self.walks));
            let struck = struck.flatten()?;
            armed.left = armed.left.map(|left| left - 1);
            Some((armed.rule.fault, armed.rule.delay(), struck))
        });
        let Some((fault, delay, struck)) = struck else { return answer.response.into() };
        *self.struck.entry(fault).or_default() += 1;
        let action = match struck {
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

impl Armed {
    /// Whether an answer is one that its rule is for.
    fn finds(&self, answer: &Answer<'_>) -> bool {
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

    fn has_luck(&self, dice: &mut fastrand::Rng) -> bool {
        self.chance >= 1.0 || dice.f64() < self.chance
    }
}
