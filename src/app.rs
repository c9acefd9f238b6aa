//! Puts the parts together, runs them, and takes them apart again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::info;

use crate::aws::budget::Budgets;
use crate::aws::{self, Access, ConnectError, Connection};
use crate::clock::Clock;
use crate::config::{Config, Host};
use crate::exposition::board::{Board, Identity};
use crate::http::{self, BindError, Listener};
use crate::refresh::{Refresher, Setup};
use crate::telemetry::{REVISION, Telemetry, VERSION};
use crate::web::Site;

/// Why the exporter can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address can't be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A target can't be connected.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Two targets would carry the same label.
    #[error("two targets are named {0:?}, one of them by its region: give targets[].name")]
    SameName(String),
}

/// Why the exporter ended without having been asked to.
#[derive(Debug, thiserror::Error)]
#[error("the refresh of a target ended by itself, which is a fault in the exporter: {0}")]
pub struct RunError(String);

/// The exporter, listening and not yet running.
#[derive(Debug)]
pub struct App {
    listeners: Vec<Listener>,
    site: Arc<Site>,
    refreshers: Vec<Refresher>,
    interval: std::time::Duration,
}

impl App {
    /// Binds the addresses and finds what each target needs. Nothing is asked of AWS IoT yet.
    ///
    /// # Errors
    /// Where an address or a target can't be had.
    pub async fn start(config: &Config, access: &Access, clock: Clock) -> Result<Self, StartError> {
        // Addresses first: whoever probes the exporter meanwhile waits for an answer instead of being refused.
        let mut listeners = Vec::new();
        for address in &config.web.listen_addresses {
            let host = address.host().map(|host| match host {
                Host::V6(address) => address.to_string(),
                Host::V4(_) | Host::Name(_) => host.to_string(),
            });
            listeners.push(Listener::bind(host.as_deref(), address.port()).await?);
        }

        let telemetry = Arc::new(Telemetry::new(true));
        let budgets = Arc::new(Budgets::new(config.limits.requests_per_second));
        let mut board = Board::default();
        let (mut refreshers, mut names) = (Vec::new(), BTreeSet::new());
        for target in &config.targets {
            let resolved = aws::resolve(target, access, config.refresh.timeout).await?;
            let identity = Arc::new(Identity {
                name: resolved.name().to_owned(),
                region: resolved.region().to_owned(),
                labels: target.labels.clone().into_iter().collect(),
            });
            if !names.insert(identity.name.clone()) {
                return Err(StartError::SameName(identity.name.clone()));
            }
            let counters = telemetry.target(identity.target_labels());
            refreshers.push(Refresher::new(Setup {
                connection: Arc::new(Connection::open(resolved, &budgets, counters.clone())),
                scope: target.scope.clone(),
                schedule: config.refresh.clone(),
                limits: config.limits.clone(),
                thing_groups: config.thing_groups.clone(),
                jobs: config.jobs.clone(),
                telemetry: counters,
                board: board.add(Arc::clone(&identity)),
                identity,
                clock,
            }));
        }
        let site = Arc::new(Site::new(Arc::new(board), telemetry, clock, config.web.telemetry_path.clone()));
        Ok(Self { listeners, site, refreshers, interval: config.refresh.interval })
    }

    /// The addresses that are listened on, with their real ports.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(Listener::local_addr).collect()
    }

    /// What answers requests, for a caller that has its own way to bring them.
    #[must_use]
    pub fn handler(&self) -> http::Handler {
        self.site.handler()
    }

    /// Refreshes and serves until `stop`; then walks are dropped and connections drained.
    ///
    /// # Errors
    /// Where a refresh ended by itself.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), RunError> {
        let addresses: Vec<String> = self.addresses().iter().map(ToString::to_string).collect();
        let targets: Vec<&str> = self.refreshers.iter().map(|refresher| refresher.identity().name.as_str()).collect();
        info!(
            version = VERSION,
            revision = REVISION,
            addresses = %addresses.join(" "),
            targets = %targets.join(", "),
            interval = ?self.interval,
            "started"
        );

        let (drain, draining) = oneshot::channel::<()>();
        let serving = http::serve(self.listeners, http::Limits::default(), self.site.handler(), async {
            // A sender that is gone means the same as one that has sent.
            let _ = draining.await;
        });
        let mut refreshes: JoinSet<()> = self.refreshers.into_iter().map(Refresher::run).collect();
        let site = self.site;
        let until_stopped = async move {
            let outcome = tokio::select! {
                () = stop => Ok(()),
                Some(ended) = refreshes.join_next() => Err(RunError(ended.err().map_or_else(String::new, |e| e.to_string()))),
            };
            site.stop();
            refreshes.shutdown().await;
            drop(drain);
            outcome
        };
        let (outcome, ()) = tokio::join!(until_stopped, serving);
        outcome
    }
}
