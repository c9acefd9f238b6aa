//! The targets that are refreshed, each on its own task, and how they change when the configuration is read again.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::aws::rate_limit::RateLimiters;
use crate::aws::{self, ClientOptions, ConnectError, Connection, Resolved};
use crate::clock::Clock;
use crate::config::{Config, Target, Watched};
use crate::exposition::board::{Board, Identity, Source};
use crate::refresh::{Refresher, Settings, Setup, Turn};
use crate::telemetry::Telemetry;

/// Why the targets of a configuration can't be watched.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// A target can't be connected.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Two targets would carry the same label.
    #[error("two targets are named {0:?}, one of them by its region: give targets[].name")]
    SameName(String),
    /// Two targets would count the same jobs.
    #[error(
        "the targets {0:?} and {1:?} watch the same jobs, in the region that one of them gets from elsewhere: each job \
         would be counted twice; leave one of them out"
    )]
    SameJobs(String, String),
}

/// Targets whose regions are known, no two of which are alike. What can be known without them, [`crate::config`] has seen to.
#[derive(Debug, Default)]
pub(crate) struct Roll(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    name: String,
    watched: Watched,
    /// Whether the configuration does not tell its region.
    is_found: bool,
}

impl Roll {
    /// Takes in one more.
    pub(crate) fn enter(&mut self, target: &Target, name: &str, region: &str) -> Result<(), TargetError> {
        let (name, watched, is_found) = (name.to_owned(), target.watched(Some(region)), target.region.is_none());
        for other in &self.0 {
            if other.name == name {
                return Err(TargetError::SameName(name));
            }
            if (other.is_found || is_found) && other.watched == watched {
                return Err(TargetError::SameJobs(other.name.clone(), name));
            }
        }
        self.0.push(Entry { name, watched, is_found });
        Ok(())
    }
}

/// Everything that is refreshed.
#[derive(Debug)]
pub(super) struct Crew {
    options: ClientOptions,
    clock: Clock,
    limiters: Arc<RateLimiters>,
    board: Arc<Board>,
    telemetry: Arc<Telemetry>,
    members: BTreeMap<String, Member>,
    tasks: JoinSet<Refresher>,
    /// What is known of a task that has ended by itself.
    fault: Option<String>,
}

/// A target that is refreshed.
#[derive(Debug)]
struct Member {
    target: Target,
    settings: Settings,
    identity: Arc<Identity>,
    stop: watch::Sender<bool>,
}

/// A target as a new configuration has it.
#[derive(Debug)]
enum Plan {
    /// As it is already.
    Stays,
    /// The same target under other settings.
    Changes,
    /// One that is new, or another under an old name.
    Starts(Box<Resolved>),
}

impl Crew {
    pub(super) fn new(
        options: ClientOptions,
        clock: Clock,
        limiters: Arc<RateLimiters>,
        board: Arc<Board>,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        Self {
            options,
            clock,
            limiters,
            board,
            telemetry,
            members: BTreeMap::new(),
            tasks: JoinSet::new(),
            fault: None,
        }
    }

    /// Watches what `config` says. Targets that it does not change go on undisturbed; those under other settings keep what
    /// they show and remember; those that are gone leave nothing behind.
    ///
    /// # Errors
    /// Where a target can't be had; then nothing has changed.
    pub(super) async fn take_up(&mut self, config: &Config) -> Result<(), TargetError> {
        let settings = Settings::from(config);
        let plans = self.plan(config, &settings).await?;

        self.limiters.set_rate(settings.limits.requests_per_second);
        let kept = |name: &String| plans.iter().any(|(known, _, plan)| known == name && matches!(plan, Plan::Stays));
        let leaving: Vec<String> = self.members.keys().filter(|name| !kept(name)).cloned().collect();
        let mut returned = self.stop(&leaving).await;
        let mut order = Vec::new();
        let count = u32::try_from(plans.len()).unwrap_or(u32::MAX);
        for ((name, target, plan), place) in plans.into_iter().zip(1_u32..) {
            let turn = Turn::new(place, count, settings.schedule.interval);
            let refresher = match plan {
                Plan::Stays => None,
                Plan::Changes => {
                    returned.remove(&name).map(|refresher| refresher.with_settings(settings.clone(), turn))
                }
                Plan::Starts(resolved) => {
                    if let Some(before) = returned.remove(&name) {
                        before.setup().telemetry.forget();
                    }
                    Some(self.refresher(*resolved, &target, settings.clone(), turn))
                }
            };
            if let Some(refresher) = refresher {
                self.start(name.clone(), target, refresher);
            }
            order.extend(self.members.get(&name).map(|member| Arc::clone(&member.identity)));
        }
        for gone in returned.into_values() {
            gone.setup().telemetry.forget();
        }
        self.board.arrange(&order);
        Ok(())
    }

    async fn plan(&self, config: &Config, settings: &Settings) -> Result<Vec<(String, Target, Plan)>, TargetError> {
        let (mut plans, mut roll) = (Vec::new(), Roll::default());
        for target in &config.targets {
            let known = self.members.iter().find(|(_, member)| member.target == *target);
            let of = |member: &Member| (member.identity.name.clone(), member.identity.region.clone());
            let ((name, region), plan) = match known {
                Some((_, member)) if member.settings == *settings => (of(member), Plan::Stays),
                Some((_, member)) => (of(member), Plan::Changes),
                None => {
                    let resolved = aws::resolve(target, &self.options, self.clock).await?;
                    let of = (resolved.name().to_owned(), resolved.region().to_owned());
                    (of, Plan::Starts(Box::new(resolved)))
                }
            };
            roll.enter(target, &name, &region)?;
            plans.push((name, target.clone(), plan));
        }
        Ok(plans)
    }

    fn refresher(&self, resolved: Resolved, target: &Target, settings: Settings, turn: Turn) -> Refresher {
        let identity = Arc::new(Identity {
            name: resolved.name().to_owned(),
            region: resolved.region().to_owned(),
            labels: target.labels.clone().into_iter().collect(),
        });
        let telemetry = self.telemetry.target(identity.target_labels());
        Refresher::new(Setup {
            connection: Arc::new(Connection::open(resolved, &self.limiters, telemetry.clone())),
            scope: target.scope.clone(),
            settings,
            turn,
            telemetry,
            targets: Arc::clone(&self.board),
            board: self.board.add(Arc::clone(&identity), Source::new(&identity.region, target)),
            identity,
            clock: self.clock,
        })
    }

    fn start(&mut self, name: String, target: Target, refresher: Refresher) {
        let (stop, stopping) = watch::channel(false);
        let Setup { settings, identity, .. } = refresher.setup();
        let member = Member { target, settings: settings.clone(), identity: Arc::clone(identity), stop };
        self.members.insert(name, member);
        self.tasks.spawn(refresher.run(stopping));
    }

    /// Stops these targets, and gives back what they remember.
    async fn stop(&mut self, names: &[String]) -> BTreeMap<String, Refresher> {
        let stopped: Vec<Member> = names.iter().filter_map(|name| self.members.remove(name)).collect();
        for member in &stopped {
            member.stop.send_replace(true);
        }
        let mut returned = BTreeMap::new();
        while returned.len() < stopped.len() && self.fault.is_none() {
            match self.tasks.join_next().await {
                Some(Ok(refresher)) => drop(returned.insert(refresher.identity().name.clone(), refresher)),
                Some(Err(error)) => self.fault = Some(error.to_string()),
                None => break,
            }
        }
        returned
    }

    /// What the targets are called, in the order of their names.
    pub(super) fn names(&self) -> Vec<&str> {
        self.members.keys().map(String::as_str).collect()
    }

    /// Waits until a target ends by itself, which is a fault; tells what is known of it.
    pub(super) async fn ended(&mut self) -> String {
        if let Some(fault) = self.fault.take() {
            return fault;
        }
        match self.tasks.join_next().await {
            Some(Ok(refresher)) => refresher.identity().name.clone(),
            Some(Err(error)) => error.to_string(),
            // Without any target there is nothing that could end.
            None => std::future::pending().await,
        }
    }

    /// Drops every refresh where it stands.
    pub(super) async fn shut_down(&mut self) {
        self.tasks.shutdown().await;
    }
}
