//! Puts the parts together, runs them, changes them when the configuration is read again, and takes them apart.

mod crew;
mod manager;
#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;
mod web_config_watcher;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::aws::ClientOptions;
use crate::aws::rate_limit::RateLimiters;
use crate::clock::Clock;
use crate::config::{ListenAddress, Loaded, Problems};
use crate::exposition::board::Board;
use crate::http::{self, BindError, Guard, Listener};
use crate::telemetry::{REVISION, Telemetry, VERSION};
use crate::web::{PROBES, Reloads, Site};
use crew::Crew;
pub(crate) use crew::Roll;
pub use crew::TargetError;
use web_config_watcher::WebConfigWatcher;

/// Why the exporter can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address can't be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The targets can't be watched.
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// Why the exporter ended without having been asked to.
#[derive(Debug, thiserror::Error)]
#[error("the refresh of a target ended by itself, which is a fault in the exporter: {0}")]
pub struct RunError(String);

/// Why a configuration that was read again is not applied. The previous one stays in use.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It cannot be read, or is invalid.
    #[error("{0}")]
    Invalid(Problems),
    /// Reading it ended by itself.
    #[error("the configuration can't be read, which is a fault in the exporter: {0}")]
    Broken(String),
    /// Its targets can't be watched.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// It changes something that only a start can.
    #[error("{0} can't be changed while the exporter runs: restart it")]
    Fixed(&'static str),
}

/// Reads the configuration again, from the same sources as at the start, and the web configuration that it names.
pub type Load = Arc<dyn Fn() -> Result<Loaded, Problems> + Send + Sync>;

/// The exporter, listening and not yet running.
#[derive(Debug)]
pub struct App {
    listeners: Vec<Listener>,
    guard: Arc<Guard>,
    watcher: WebConfigWatcher,
    site: Arc<Site>,
    crew: Crew,
    loaded: Loaded,
    telemetry: Arc<Telemetry>,
    clock: Clock,
    reloads: Reloads,
    asked: mpsc::Receiver<oneshot::Sender<Result<String, String>>>,
}

impl App {
    /// Binds the addresses, guarded as the web configuration says, and finds what each target needs. Nothing is asked of
    /// AWS IoT yet.
    ///
    /// # Errors
    /// If an address cannot be bound, or a target cannot be resolved.
    pub async fn start(loaded: Loaded, options: &ClientOptions, clock: Clock) -> Result<Self, StartError> {
        let config = &loaded.config;
        // Addresses first: whoever probes the exporter meanwhile waits for an answer instead of being refused.
        let watcher = WebConfigWatcher::new(config.web.config_file.clone());
        let guard = Arc::new(Guard::new(loaded.web.clone(), PROBES));
        let mut listeners = Vec::new();
        for address in &config.web.listen_addresses {
            listeners.push(bind(address).await?.guarded(&guard));
        }
        if let Some(address) = &config.web.probe_address {
            listeners.push(bind(address).await?.only(PROBES));
        }

        let limiters = Arc::new(RateLimiters::new(config.limits.requests_per_second));
        let rates = Arc::clone(&limiters);
        let telemetry = Arc::new(Telemetry::of_process(move || rates.in_force()));
        telemetry.configured(&loaded, clock.now().wall);
        let board = Arc::new(Board::default());
        let mut crew = Crew::new(options.clone(), clock, limiters, Arc::clone(&board), Arc::clone(&telemetry));
        crew.take_up(config).await?;
        let (reloads, asked) = Reloads::new();
        let lifecycle = config.web.enable_lifecycle.then(|| reloads.clone());
        let path = config.web.telemetry_path.clone();
        let site = Arc::new(Site::new(board, Arc::clone(&telemetry), clock, path, lifecycle));
        Ok(Self { listeners, guard, watcher, site, crew, loaded, telemetry, clock, reloads, asked })
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

    /// A way to have the configuration read again.
    #[must_use]
    pub fn reloads(&self) -> Reloads {
        self.reloads.clone()
    }

    /// Refreshes and serves until `stop`; then walks are dropped and connections drained. `load` reads the configuration again
    /// when somebody asks for that.
    ///
    /// # Errors
    /// Where a refresh ended by itself.
    pub async fn run(self, load: Load, stop: impl Future<Output = ()>) -> Result<(), RunError> {
        let addresses: Vec<String> = self.addresses().iter().map(ToString::to_string).collect();
        info!(
            version = VERSION,
            revision = REVISION,
            addresses = %addresses.join(" "),
            targets = %self.crew.names().join(", "),
            interval = ?self.loaded.config.refresh.interval,
            "started"
        );
        manager::ready();

        let (drain, draining) = oneshot::channel::<()>();
        let serving = http::serve(self.listeners, http::Limits::of_this_process(), self.site.handler(), async {
            // A sender that is gone means the same as one that has sent.
            let _ = draining.await;
        });
        let Self { guard, mut watcher, site, mut crew, mut loaded, telemetry, clock, mut asked, .. } = self;
        let until_stopped = async move {
            let mut stop = std::pin::pin!(stop);
            let outcome = loop {
                // One at a time: whoever asks while one is under way waits for the next.
                let asker = tokio::select! {
                    () = &mut stop => break Ok(()),
                    fault = crew.ended() => break Err(RunError(fault)),
                    Some(asker) = asked.recv() => asker,
                    read = watcher.changed(&loaded.web) => {
                        let accepted = watcher.accept(read, &loaded.web);
                        telemetry.web_configured(accepted.is_ok());
                        if let Ok(Some(web)) = accepted {
                            guard.replace(web.clone());
                            loaded.set_web(web);
                            telemetry.config_hash(&loaded);
                        }
                        continue;
                    }
                };
                manager::reloading();
                let reloaded = tokio::select! {
                    reloaded = reload(&load, &mut loaded, &mut crew, &guard, &mut watcher) => reloaded,
                    () = &mut stop => break Ok(()),
                };
                match &reloaded {
                    Ok(outcome) => {
                        telemetry.configured(&loaded, clock.now().wall);
                        telemetry.web_configured(true);
                        info!(outcome, targets = %crew.names().join(", "), "configuration reloaded");
                    }
                    Err(error) => {
                        telemetry.not_configured();
                        if matches!(error, ReloadError::Invalid(problems) if watcher.is_about(problems)) {
                            telemetry.web_configured(false);
                        }
                        error!(%error, "configuration not reloaded; the previous one stays in use");
                    }
                }
                manager::reloaded(reloaded.is_ok());
                // Nobody has to wait for the answer.
                let _ = asker.send(reloaded.map_err(|error| error.to_string()));
            };
            manager::stopping();
            site.stop();
            crew.shut_down().await;
            drop(drain);
            outcome
        };
        let (outcome, ()) = tokio::join!(until_stopped, serving);
        outcome
    }
}

/// Reads the configuration, validates all of it, and then applies it. Returns what changed, in a sentence.
async fn reload(
    load: &Load,
    loaded: &mut Loaded,
    crew: &mut Crew,
    guard: &Guard,
    watcher: &mut WebConfigWatcher,
) -> Result<String, ReloadError> {
    let load = Arc::clone(load);
    // A file on a disk that hangs must not hold up what serves.
    let read = tokio::task::spawn_blocking(move || load()).await;
    let new = read.map_err(|fault| ReloadError::Broken(fault.to_string()))?.map_err(ReloadError::Invalid)?;
    if new.config.web != loaded.config.web {
        return Err(ReloadError::Fixed("web"));
    }
    if new.config.log != loaded.config.log {
        return Err(ReloadError::Fixed("log"));
    }
    crew.take_up(&new.config).await?;
    if let Some(protection) = new.web.opens(&loaded.web) {
        warn!(protection, "reload removes protection from the web server, as the web configuration says");
    }
    guard.replace(new.web.clone());
    watcher.reloaded();
    let outcome = new.changes_since(loaded);
    *loaded = new;
    Ok(outcome)
}

async fn bind(address: &ListenAddress) -> Result<Listener, BindError> {
    Listener::bind(address.host.as_deref(), address.port).await
}
