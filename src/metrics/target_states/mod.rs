//! The current states of all targets. A worker publishes a target's whole state in one step; scrapes and the status
//! page read it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use super::samples::{Labels, Samples};
use super::{Published, RequestCount, TargetCounters, TargetState, render};
use crate::config;
use crate::jobs::{AccountId, Part, Scope, Timepoint};

/// The name and the labels of a target. They never change while the target exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub name: String,
    /// Its AWS region.
    pub region: String,
    /// Its constant labels.
    pub labels: Labels,
}

impl Identity {
    /// The labels of families about the target itself.
    #[must_use]
    pub fn target_labels(&self) -> Labels {
        self.labels_with(&[("target", &self.name), ("aws_region", &self.region)])
    }

    /// The labels of families about the target's jobs.
    #[must_use]
    pub fn job_labels(&self, account: &AccountId) -> Labels {
        let account = ("aws_account_id", account.as_str());
        self.labels_with(&[("target", &self.name), account, ("aws_region", &self.region)])
    }

    fn labels_with(&self, first: &[(&str, &str)]) -> Labels {
        let first = first.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned()));
        first.chain(self.labels.iter().cloned()).collect()
    }
}

/// The jobs that a target monitors, without their account: region, filter and server. Two targets of one account with
/// the same source count the same jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct JobSource {
    region: String,
    endpoint_url: Option<String>,
    scope: Scope,
}

impl JobSource {
    /// The source of a configured target, in its resolved region.
    #[must_use]
    pub fn new(region: &str, target: &config::Target) -> Self {
        let mut scope = target.scope.clone();
        // Each status has its own walk, so their order does not matter.
        scope.statuses.sort();
        Self { region: region.to_owned(), endpoint_url: target.endpoint_url.clone(), scope }
    }
}

/// One target as it is shown. It is immutable: a new state is a new value.
#[derive(Debug)]
pub struct ShownTarget {
    /// Its name and labels.
    pub identity: Arc<Identity>,
    /// The jobs that it monitors.
    pub source: Arc<JobSource>,
    /// Its state.
    pub state: TargetState,
    open: Option<Arc<RenderedPart>>,
    ended: Option<Arc<RenderedPart>>,
    /// The sums over open and ended jobs; `None` until the account is known.
    jobs: Option<Samples>,
    target: Samples,
}

#[derive(Debug)]
struct RenderedPart {
    part: Arc<Part>,
    samples: Samples,
}

impl ShownTarget {
    /// Renders what differs from `previous`.
    fn new(identity: Arc<Identity>, source: Arc<JobSource>, mut state: TargetState, previous: Option<&Self>) -> Self {
        let labels = state.account.as_ref().map(|account| identity.job_labels(account));
        let (mut open, mut ended, mut jobs) = (None, None, None);
        if let Some(labels) = &labels {
            let is_alike =
                |previous: &&Self| previous.state.account == state.account && previous.state.tag_keys == state.tag_keys;
            let previous = previous.filter(is_alike);
            let tag_keys = &state.tag_keys;
            let render = |part: &mut Published, previous| rendered(part, tag_keys, labels, previous);
            open = state.open.as_mut().map(|part| render(part, previous.and_then(|shown| shown.open.as_ref())));
            ended = state.ended.as_mut().map(|part| render(part, previous.and_then(|shown| shown.ended.as_ref())));
            jobs = Some(render::jobs_of_target(&state, labels));
        }
        let target = render::target(&state, &identity.target_labels());
        Self { identity, source, state, open, ended, jobs, target }
    }

    /// This target without its stale parts; `None` if no part is stale.
    ///
    /// Workers withdraw stale parts themselves. This is for a worker that hangs.
    fn without_stale(&self, now: Timepoint) -> Option<Self> {
        let is_stale = |part: &Option<Published>| part.as_ref().is_some_and(|part| part.is_stale(now));
        let (open, ended) = (is_stale(&self.state.open), is_stale(&self.state.ended));
        if !open && !ended {
            return None;
        }
        let mut state = self.state.clone();
        if open {
            state.open = None;
            state.open_jobs.is_fresh = false;
        }
        if ended {
            state.ended = None;
            state.all_jobs.iter_mut().for_each(|listing| listing.is_fresh = false);
        }
        Some(Self::new(Arc::clone(&self.identity), Arc::clone(&self.source), state, Some(self)))
    }

    /// Determines whether another target monitors the same jobs; `None` until the account is known.
    fn monitored_jobs(&self) -> Option<(&AccountId, &JobSource)> {
        self.state.account.as_ref().map(|account| (account, &*self.source))
    }

    pub(super) fn samples(&self) -> impl Iterator<Item = &Samples> {
        let parts = self.open.iter().chain(&self.ended).map(|rendered| &rendered.samples);
        parts.chain(&self.jobs).chain([&self.target])
    }
}

/// The samples of a part. An unchanged part is neither rendered nor stored again.
fn rendered(
    published: &mut Published,
    tag_keys: &[String],
    labels: &Labels,
    previous: Option<&Arc<RenderedPart>>,
) -> Arc<RenderedPart> {
    if let Some(previous) = previous.filter(|previous| previous.part == published.part) {
        published.part = Arc::clone(&previous.part);
        return Arc::clone(previous);
    }
    let part = Arc::clone(&published.part);
    Arc::new(RenderedPart { samples: render::part(&part, tag_keys, labels), part })
}

/// For each target, the number of others with the same jobs; empty until its account is known.
pub(super) fn overlapping(targets: &[Arc<ShownTarget>]) -> Vec<Samples> {
    let mut watching: HashMap<_, u64> = HashMap::new();
    for watched in targets.iter().filter_map(|target| target.monitored_jobs()) {
        *watching.entry(watched).or_default() += 1;
    }
    let others = |target: &ShownTarget| Some(watching.get(&target.monitored_jobs()?)? - 1);
    let samples =
        |target: &Arc<ShownTarget>| Some(render::overlapping(others(target)?, &target.identity.target_labels()));
    targets.iter().filter_map(samples).collect()
}

/// All shown targets, in order.
#[derive(Debug, Default)]
pub struct TargetStates(RwLock<Vec<Arc<Cell>>>);

#[derive(Debug)]
struct Cell {
    counters: Arc<TargetCounters>,
    shown: watch::Sender<Arc<ShownTarget>>,
}

impl Cell {
    fn shown(&self) -> Arc<ShownTarget> {
        Arc::clone(&self.shown.borrow())
    }
}

/// Where a target's worker publishes its state. Clones publish the same target.
#[derive(Clone, Debug)]
pub struct Slot {
    states: Arc<TargetStates>,
    cell: Arc<Cell>,
}

impl TargetStates {
    /// A slot for a new target with this state. The target is shown after [`Self::arrange`] includes the slot.
    #[must_use]
    pub fn slot(self: &Arc<Self>, identity: Identity, source: JobSource, state: TargetState) -> Slot {
        let counters = Arc::new(TargetCounters::new(identity.target_labels()));
        let shown = ShownTarget::new(Arc::new(identity), Arc::new(source), state, None);
        let cell = Arc::new(Cell { counters, shown: watch::Sender::new(Arc::new(shown)) });
        Slot { states: Arc::clone(self), cell }
    }

    /// Shows exactly these targets from now on, in this order, with their last states. A scrape sees either all of the
    /// change or nothing.
    pub fn arrange<'a>(&self, slots: impl IntoIterator<Item = &'a Slot>) {
        let cells = slots.into_iter().map(|slot| Arc::clone(&slot.cell)).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = cells;
    }

    /// The states of all targets at `now`, without stale parts.
    #[must_use]
    pub fn read(&self, now: Timepoint) -> Vec<Arc<ShownTarget>> {
        self.each(now, |_, shown| shown)
    }

    /// The same with each target's requests of the last hour, by operation.
    #[must_use]
    pub fn read_with_requests(&self, now: Timepoint) -> Vec<(Arc<ShownTarget>, BTreeMap<String, RequestCount>)> {
        self.each(now, |cell, shown| (shown, cell.counters.last_hour()))
    }

    /// The states and the samples of each target's counters.
    ///
    /// Nothing is published meanwhile. So a worker that publishes data before it counts a run never shows the count
    /// without the data.
    pub(super) fn read_with_counters(&self, now: Timepoint) -> (Vec<Arc<ShownTarget>>, Vec<Arc<Samples>>) {
        self.each(now, |cell, shown| (shown, cell.counters.samples())).into_iter().unzip()
    }

    fn each<T>(&self, now: Timepoint, read: impl Fn(&Cell, Arc<ShownTarget>) -> T) -> Vec<T> {
        let cells = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let each = |cell: &Arc<Cell>| {
            cell.shown.send_if_modified(|shown| {
                let withdrawn = shown.without_stale(now).map(Arc::new);
                withdrawn.map(|withdrawn| *shown = withdrawn).is_some()
            });
            let shown = cell.shown.borrow();
            read(cell, Arc::clone(&shown))
        };
        cells.iter().map(each).collect()
    }
}

impl Slot {
    /// Replaces the target's state in one step. Returns another target that is now known to monitor the same jobs.
    ///
    /// Only one worker may publish at a time.
    pub fn publish(&self, state: TargetState) -> Option<Arc<Identity>> {
        let before = self.cell.shown();
        if before.state == state {
            return None;
        }
        // No lock is held, because rendering takes time.
        let (identity, source) = (Arc::clone(&before.identity), Arc::clone(&before.source));
        let shown = Arc::new(ShownTarget::new(identity, source, state, Some(&before)));
        // If two targets are published at the same time, exactly one finds the other.
        let cells = self.states.0.write().unwrap_or_else(PoisonError::into_inner);
        self.cell.shown.send_replace(Arc::clone(&shown));
        let watched = shown.monitored_jobs().filter(|watched| before.monitored_jobs() != Some(*watched))?;
        let mut others = cells.iter().filter(|cell| !Arc::ptr_eq(cell, &self.cell)).map(|cell| cell.shown());
        others.find(|other| other.monitored_jobs() == Some(watched)).map(|other| Arc::clone(&other.identity))
    }

    /// The same target with other labels or another source, and with its current state. Its counters continue, unless
    /// their labels change.
    #[must_use]
    pub fn changed(&self, identity: Identity, source: JobSource) -> Self {
        let shown = self.shown();
        if identity == *shown.identity && source == *shown.source {
            return self.clone();
        }
        let counters = if identity == *shown.identity {
            self.counters()
        } else {
            Arc::new(TargetCounters::new(identity.target_labels()))
        };
        let shown = ShownTarget::new(Arc::new(identity), Arc::new(source), shown.state.clone(), None);
        let cell = Arc::new(Cell { counters, shown: watch::Sender::new(Arc::new(shown)) });
        Self { states: Arc::clone(&self.states), cell }
    }

    /// The target's current state.
    #[must_use]
    pub fn shown(&self) -> Arc<ShownTarget> {
        self.cell.shown()
    }

    /// The target's state, now and after each change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<ShownTarget>> {
        self.cell.shown.subscribe()
    }

    /// The target's counters. They exist as long as the slot.
    #[must_use]
    pub fn counters(&self) -> Arc<TargetCounters> {
        Arc::clone(&self.cell.counters)
    }
}

#[cfg(test)]
mod tests;
