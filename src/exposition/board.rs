//! What every target shows at the moment. A refresh replaces a target's whole state in one step; scrapes and the status page read it.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue};
use tokio::sync::watch;

use super::fragments::{Fragments, Gauges};
use crate::catalogue::{
    DESCRIBE_DURATION, FOLDED_THING_GROUPS, Family, LAST_SUCCESS, OMITTED_JOBS, UP, WALK_DUPLICATES, WALK_DURATION,
    WALK_JOBS, WALK_MALFORMED, WALK_PAGES, WALK_RECOVERED,
};
use crate::clock::Moment;
use crate::job::Timestamp;
use crate::snapshot::Snapshot;
use crate::telemetry::{Labels, Reason};

/// What a target is called, which never changes while it runs.
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
    pub fn job_labels(&self, account: &str) -> Labels {
        self.labels_with(&[("target", &self.name), ("aws_account_id", account), ("aws_region", &self.region)])
    }

    fn labels_with(&self, first: &[(&str, &str)]) -> Labels {
        let first = first.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned()));
        first.chain(self.labels.iter().cloned()).collect()
    }
}

/// What a target shows.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The last complete walk.
    pub good: Option<Arc<Good>>,
    /// How the last refresh ended; `None` before the first one has.
    pub last: Option<Ended>,
}

/// A complete walk, published.
#[derive(Debug)]
pub struct Good {
    /// What was found.
    pub snapshot: Snapshot,
    /// Its samples.
    pub fragments: Fragments,
    /// When the refresh ended.
    pub published: Moment,
    /// For how long after that it may be shown.
    pub stale_after: Duration,
}

/// How a refresh ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
}

/// A failed refresh.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The kind of failure.
    pub reason: Reason,
    /// What was tried, on what, and what came of it, in one line.
    pub message: String,
}

impl State {
    /// The last complete walk, unless it is stale.
    ///
    /// Both clocks must agree that it is fresh; see [`Moment::since`].
    #[must_use]
    pub fn fresh(&self, now: Moment) -> Option<&Arc<Good>> {
        self.good.as_ref().filter(|good| now.since(good.published) <= good.stale_after)
    }

    /// Whether the last refresh succeeded and what it found is still fresh.
    #[must_use]
    pub fn is_up(&self, now: Moment) -> bool {
        self.last.as_ref().is_some_and(|ended| ended.failure.is_none()) && self.fresh(now).is_some()
    }
}

/// One target as it stands on the board.
#[derive(Clone, Debug)]
pub struct Target {
    /// What it is called.
    pub identity: Arc<Identity>,
    /// What it shows.
    pub state: State,
}

/// All targets. Which ones there are changes when the configuration is read again.
#[derive(Debug, Default)]
pub struct Board(RwLock<Vec<Place>>);

type Place = (Arc<Identity>, watch::Receiver<State>);

impl Board {
    /// Adds a target that shows nothing yet; what is sent is what it shows from then on.
    pub fn add(&self, identity: Arc<Identity>) -> watch::Sender<State> {
        let (sender, receiver) = watch::channel(State::default());
        self.0.write().unwrap_or_else(PoisonError::into_inner).push((identity, receiver));
        sender
    }

    /// Takes the targets away that are none of `identities`, and puts the others into their order.
    pub fn arrange(&self, identities: &[Arc<Identity>]) {
        let mut places = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let order = |(identity, _): &Place| identities.iter().position(|known| Arc::ptr_eq(known, identity));
        places.retain(|place| order(place).is_some());
        places.sort_by_key(order);
    }

    /// What all targets show now.
    #[must_use]
    pub fn read(&self) -> Vec<Target> {
        let target =
            |(identity, state): &Place| Target { identity: Arc::clone(identity), state: state.borrow().clone() };
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().map(target).collect()
    }
}

/// The families about targets, made from their states at a moment.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) targets: Vec<Target>,
    pub(super) now: Moment,
}

impl Collector for Status {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        self.write(&mut encoder, &UP, |state| Some(u64::from(state.is_up(self.now))))?;
        self.of_good(&mut encoder, &LAST_SUCCESS, |good| good.published.wall.as_secs_f64())?;
        self.of_good(&mut encoder, &WALK_DURATION, |good| good.snapshot.walk.duration.as_secs_f64())?;
        self.of_good(&mut encoder, &WALK_PAGES, |good| good.snapshot.walk.pages)?;
        self.of_good(&mut encoder, &WALK_JOBS, |good| good.snapshot.counts.total)?;
        self.of_good(&mut encoder, &WALK_DUPLICATES, |good| good.snapshot.counts.duplicates)?;
        self.of_good(&mut encoder, &WALK_MALFORMED, |good| good.snapshot.counts.malformed)?;
        self.of_good(&mut encoder, &WALK_RECOVERED, |good| good.snapshot.counts.recovered)?;
        self.of_good(&mut encoder, &OMITTED_JOBS, |good| good.snapshot.omitted_jobs)?;
        self.write(&mut encoder, &DESCRIBE_DURATION, |state| {
            state.good.as_ref()?.snapshot.describing.map(|describing| describing.duration.as_secs_f64())
        })?;
        self.write(&mut encoder, &FOLDED_THING_GROUPS, |state| {
            state.good.as_ref()?.snapshot.groups.as_ref().map(|groups| groups.folded)
        })
    }
}

impl Status {
    /// Writes a family that follows from the last complete walk, fresh or not.
    fn of_good<V: EncodeGaugeValue>(
        &self,
        encoder: &mut DescriptorEncoder,
        family: &Family,
        value: impl Fn(&Good) -> V,
    ) -> Result<(), fmt::Error> {
        self.write(encoder, family, |state| state.good.as_deref().map(&value))
    }

    /// Writes one family: a row for each target that has a value.
    fn write<V: EncodeGaugeValue>(
        &self,
        encoder: &mut DescriptorEncoder,
        family: &Family,
        value: impl Fn(&State) -> Option<V>,
    ) -> Result<(), fmt::Error> {
        for target in &self.targets {
            let labels = target.identity.target_labels();
            let row = value(&target.state).map(|value| ([], value));
            Gauges { encoder, labels: &labels }.family(family, row.into_iter())?;
        }
        Ok(())
    }
}
