//! What every target shows at the moment. A refresh replaces a target's whole state in one step; scrapes and the status page read it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue};
use tokio::sync::watch;

use super::fragments::{Fragments, Gauges};
use crate::catalogue::{
    DESCRIBE_DURATION, FOLDED_THING_GROUPS, Family, LAST_SUCCESS, OMITTED_JOBS, OVERLAPPING_TARGETS, UP,
    WALK_DUPLICATES, WALK_DURATION, WALK_JOBS, WALK_MALFORMED, WALK_PAGES, WALK_RECOVERED,
};
use crate::config;
use crate::jobs::{AccountId, Scope, Timepoint, Timestamp};
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

/// Which jobs of its account a target watches, and on which server. Two targets of one account with the same source count the
/// same jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Source {
    region: String,
    endpoint_url: Option<String>,
    scope: Scope,
}

impl Source {
    /// The source of a configured target in the region that it was resolved to.
    #[must_use]
    pub fn new(region: &str, target: &config::Target) -> Self {
        let mut scope = target.scope.clone();
        // One walk for each status: their order makes no difference.
        scope.statuses.sort();
        Self { region: region.to_owned(), endpoint_url: target.endpoint_url.clone(), scope }
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
    pub published: Timepoint,
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
    /// The account of its jobs, once a walk has found it.
    fn account(&self) -> Option<&AccountId> {
        self.good.as_ref().map(|good| &good.snapshot.account)
    }

    /// The last complete walk, unless it is stale.
    ///
    /// Both clocks must agree that it is fresh; see [`Timepoint::since`].
    #[must_use]
    pub fn fresh(&self, now: Timepoint) -> Option<&Arc<Good>> {
        self.good.as_ref().filter(|good| now.since(good.published) <= good.stale_after)
    }

    /// Whether the last refresh succeeded and what it found is still fresh.
    #[must_use]
    pub fn is_up(&self, now: Timepoint) -> bool {
        self.last.as_ref().is_some_and(|ended| ended.failure.is_none()) && self.fresh(now).is_some()
    }
}

/// One target as it stands on the board.
#[derive(Clone, Debug)]
pub struct Target {
    /// What it is called.
    pub identity: Arc<Identity>,
    /// Which jobs it watches.
    pub source: Arc<Source>,
    /// What it shows.
    pub state: State,
}

impl Target {
    /// What decides whether another target watches the same jobs; `None` until the account is known.
    fn watched(&self) -> Option<(&AccountId, &Source)> {
        self.state.account().map(|account| (account, &*self.source))
    }
}

/// All targets. Which ones there are changes when the configuration is read again.
#[derive(Debug, Default)]
pub struct Board(RwLock<Vec<Place>>);

type Place = (Arc<Identity>, Arc<Source>, watch::Receiver<State>);

impl Board {
    /// Adds a target that shows nothing yet; what is sent is what it shows from then on.
    pub fn add(&self, identity: Arc<Identity>, source: Source) -> watch::Sender<State> {
        let (sender, receiver) = watch::channel(State::default());
        self.0.write().unwrap_or_else(PoisonError::into_inner).push((identity, Arc::new(source), receiver));
        sender
    }

    /// Replaces what a target shows. Returns another target that watches the same jobs, if that was not known before.
    ///
    /// The lock lets targets publish one after the other. Of two that are published at the same time, exactly one finds the other.
    pub fn publish(
        &self,
        identity: &Arc<Identity>,
        sender: &watch::Sender<State>,
        state: State,
    ) -> Option<Arc<Identity>> {
        let account = state.account().cloned();
        let places = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if sender.send_replace(state).account() == account.as_ref() {
            return None;
        }
        let account = account?;
        let is_own = |known: &Arc<Identity>| Arc::ptr_eq(known, identity);
        let (_, own, _) = places.iter().find(|(known, ..)| is_own(known))?;
        let mut others = places.iter().filter(|(known, source, _)| !is_own(known) && source == own);
        let (other, ..) = others.find(|(_, _, state)| state.borrow().account() == Some(&account))?;
        Some(Arc::clone(other))
    }

    /// Takes the targets away that are none of `identities`, and puts the others into their order.
    pub fn arrange(&self, identities: &[Arc<Identity>]) {
        let mut places = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let order = |(identity, ..): &Place| identities.iter().position(|known| Arc::ptr_eq(known, identity));
        places.retain(|place| order(place).is_some());
        places.sort_by_key(order);
    }

    /// What all targets show now.
    #[must_use]
    pub fn read(&self) -> Vec<Target> {
        let target = |(identity, source, state): &Place| Target {
            identity: Arc::clone(identity),
            source: Arc::clone(source),
            state: state.borrow().clone(),
        };
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().map(target).collect()
    }
}

/// The families about targets, made from their states at a moment.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) targets: Vec<Target>,
    pub(super) now: Timepoint,
}

impl Collector for Status {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        self.write(&mut encoder, &UP, |target| Some(u64::from(target.state.is_up(self.now))))?;
        let mut watching: HashMap<_, u64> = HashMap::new();
        for watched in self.targets.iter().filter_map(Target::watched) {
            *watching.entry(watched).or_default() += 1;
        }
        self.write(&mut encoder, &OVERLAPPING_TARGETS, |target| Some(watching.get(&target.watched()?)? - 1))?;
        self.of_good(&mut encoder, &LAST_SUCCESS, |good| good.published.wall.as_secs_f64())?;
        self.of_good(&mut encoder, &WALK_DURATION, |good| good.snapshot.walk.duration.as_secs_f64())?;
        self.of_good(&mut encoder, &WALK_PAGES, |good| good.snapshot.walk.pages)?;
        self.of_good(&mut encoder, &WALK_JOBS, |good| good.snapshot.counts.total)?;
        self.of_good(&mut encoder, &WALK_DUPLICATES, |good| good.snapshot.counts.duplicates)?;
        self.of_good(&mut encoder, &WALK_MALFORMED, |good| good.snapshot.counts.malformed)?;
        self.of_good(&mut encoder, &WALK_RECOVERED, |good| good.snapshot.counts.recovered)?;
        self.of_good(&mut encoder, &OMITTED_JOBS, |good| good.snapshot.omitted_jobs)?;
        self.write(&mut encoder, &DESCRIBE_DURATION, |target| {
            target.state.good.as_ref()?.snapshot.describing.map(|describing| describing.duration.as_secs_f64())
        })?;
        self.write(&mut encoder, &FOLDED_THING_GROUPS, |target| {
            target.state.good.as_ref()?.snapshot.groups.as_ref().map(|groups| groups.folded)
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
        self.write(encoder, family, |target| target.state.good.as_deref().map(&value))
    }

    /// Writes one family: a row for each target that has a value.
    fn write<V: EncodeGaugeValue>(
        &self,
        encoder: &mut DescriptorEncoder,
        family: &Family,
        value: impl Fn(&Target) -> Option<V>,
    ) -> Result<(), fmt::Error> {
        for target in &self.targets {
            let labels = target.identity.target_labels();
            let row = value(target).map(|value| ([], value));
            Gauges { encoder, labels: &labels }.family(family, row.into_iter())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::snapshot::{Attention, Counts, Walk};

    /// Adds a target to the board, and gives back how it publishes a walk of an account.
    fn added<'a>(board: &'a Board, name: &str, source: Source) -> impl Fn(&str) -> Option<String> + use<'a> {
        let identity = Arc::new(Identity { name: name.to_owned(), region: source.region.clone(), labels: Vec::new() });
        let sender = board.add(Arc::clone(&identity), source);
        move |account| {
            let snapshot = Snapshot {
                account: AccountId::parse(account).expect("an account id"),
                counts: Counts::default(),
                attention: Attention::default(),
                groups: None,
                series: Vec::new(),
                omitted_jobs: 0,
                walk: Walk { duration: Duration::ZERO, pages: 1, requests: 1 },
                describing: None,
            };
            let fragments = Fragments::render(&snapshot, &Vec::new());
            let published = Clock::system().now();
            let good = Some(Arc::new(Good { snapshot, fragments, published, stale_after: Duration::from_mins(1) }));
            let other = board.publish(&identity, &sender, State { good, last: None });
            other.map(|other| other.name.clone())
        }
    }

    #[test]
    fn an_overlap_is_found_when_the_second_account_becomes_known_and_again_only_after_it_was_gone() {
        let (one, another) = ("012345678901", "210987654321");
        let board = Board::default();
        let (first, second) = (added(&board, "a", Source::default()), added(&board, "b", Source::default()));
        assert_eq!(first(one), None, "the account of b is unknown");
        assert_eq!(second(one).as_deref(), Some("a"));
        assert_eq!((first(one), second(one)), (None, None), "it was found before");
        assert_eq!(first(another), None);
        assert_eq!(first(one).as_deref(), Some("b"));
    }

    #[test]
    fn another_region_server_or_filter_is_another_source_and_the_order_of_statuses_makes_none() {
        use crate::jobs::Status::{Completed, InProgress};
        let with = |statuses: &[crate::jobs::Status]| config::Target {
            scope: Scope { statuses: statuses.to_vec(), ..Scope::default() },
            ..config::Target::default()
        };
        let plain = config::Target::default();
        let elsewhere = config::Target { endpoint_url: Some("http://127.0.0.1:4566".to_owned()), ..plain.clone() };
        let region = "eu-west-1";
        assert_ne!(Source::new(region, &plain), Source::new("us-east-1", &plain));
        assert_ne!(Source::new(region, &plain), Source::new(region, &elsewhere));
        assert_ne!(Source::new(region, &plain), Source::new(region, &with(&[InProgress])));
        assert_eq!(
            Source::new(region, &with(&[InProgress, Completed])),
            Source::new(region, &with(&[Completed, InProgress]))
        );
    }
}
