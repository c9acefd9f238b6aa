//! Starts and stops the parts of the exporter, and applies reloads of the configuration.

#[cfg(test)]
mod proptests;
mod systemd;
mod targets;
#[cfg(test)]
mod tests;
mod web_config_watcher;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::aws::ClientOptions;
use crate::aws::rate_limit::RateLimiters;
use crate::build_info::{REVISION, VERSION};
use crate::clock::Clock;
use crate::config::{self, Config, ListenAddress, Loaded, Problems};
use crate::http::{self, AccessControl, BindError, Listener};
use crate::metrics::{ExporterMetrics, TargetStates};
use crate::web::{PROBES, Reloads, Site};
pub use targets::TargetError;
pub(crate) use targets::TargetRegistry;
use targets::{Plan, TargetManager};
use web_config_watcher::WebConfigWatcher;

/// Why the exporter cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The exporter cannot listen on an address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The targets cannot be resolved.
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// Why the exporter ended unexpectedly.
#[derive(Debug, thiserror::Error)]
#[error("the worker of a target failed, which is a bug in the exporter: {0}")]
pub struct RunError(String);

/// Why a reload is not applied. The previous configuration stays in use.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It cannot be read, or is invalid.
    #[error("{0}")]
    Invalid(Problems),
    /// The task that reads it ended unexpectedly.
    #[error("the configuration cannot be read, which is a bug in the exporter: {0}")]
    Broken(String),
    /// Its targets cannot be resolved.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// It changes a setting that only a restart can change.
    #[error("{0} cannot be changed while the exporter runs: restart it")]
    Fixed(&'static str),
}

/// Reads the configuration from the sources of the start, and the web configuration that it names.
pub type Load = Arc<dyn Fn() -> Result<Loaded, Problems> + Send + Sync>;

/// The exporter, which listens but does not serve yet.
#[derive(Debug)]
pub struct Daemon {
    listeners: Vec<Listener>,
    access_control: Arc<AccessControl>,
    watcher: WebConfigWatcher,
    site: Arc<Site>,
    targets: TargetManager,
    loaded: Loaded,
    metrics: Arc<ExporterMetrics>,
    clock: Clock,
    reloads: Reloads,
    asked: mpsc::Receiver<oneshot::Sender<Result<String, String>>>,
}

impl Daemon {
    /// Binds the addresses, applies the web configuration, and resolves the targets. Sends no request to AWS IoT.
    ///
    /// The targets are monitored on the runtime `collectors`.
    ///
    /// # Errors
    /// If an address cannot be bound, or a target cannot be resolved.
    pub async fn start(
        loaded: Loaded,
        options: &ClientOptions,
        clock: Clock,
        collectors: Handle,
    ) -> Result<Self, StartError> {
        let config = &loaded.config;
        // Addresses first: a probe then waits for an answer instead of being refused.
        let watcher = WebConfigWatcher::new(config.web.config_file.clone());
        let limiters = Arc::new(RateLimiters::new(config.limits.requests_per_second));
        let rates = Arc::clone(&limiters);
        let metrics = Arc::new(ExporterMetrics::new(move || rates.in_force()));
        let counters = Arc::clone(&metrics);
        let access_control = AccessControl::new(loaded.web.clone(), PROBES)
            .on_login_failure(move |failure| counters.http_login_failed(failure));
        let access_control = Arc::new(access_control);
        let mut listeners = Vec::new();
        for address in &config.web.listen_addresses {
            listeners.push(bind(address, &listeners).await?.with_access_control(&access_control));
        }
        if let Some(address) = &config.web.probe_address {
            listeners.push(bind(address, &listeners).await?.only_paths(PROBES));
        }

        metrics.config_applied(&loaded, clock.now().wall);
        warn_about(config);
        let states = Arc::new(TargetStates::default());
        let mut targets = TargetManager::new(options.clone(), clock, limiters, Arc::clone(&states), collectors);
        let plans = targets.plan(config).await?;
        // Logged before any walk logs something.
        info!(
            version = VERSION,
            revision = REVISION,
            addresses = %joined(listeners.iter().map(|listener| listener.local_addr().to_string()), " "),
            targets = %joined(plans.iter().map(Plan::name), ", "),
            "started"
        );
        targets.apply(config, plans);
        let (reloads, asked) = Reloads::new();
        let lifecycle = config.web.enable_lifecycle.then(|| reloads.clone());
        let path = config.web.telemetry_path.clone();
        let site = Arc::new(Site::new(states, Arc::clone(&metrics), clock, path, lifecycle));
        Ok(Self { listeners, access_control, watcher, site, targets, loaded, metrics, clock, reloads, asked })
    }

    /// The listening addresses, with their real ports.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(Listener::local_addr).collect()
    }

    /// The request handler, for callers with their own transport.
    #[must_use]
    pub fn handler(&self) -> http::Handler {
        self.site.handler()
    }

    /// Requests reloads of the configuration.
    #[must_use]
    pub fn reloads(&self) -> Reloads {
        self.reloads.clone()
    }

    /// Collects and serves until `stop`. Then it cancels requests to AWS and drains connections. A reload calls
    /// `load`.
    ///
    /// # Errors
    /// If the worker of a target failed.
    pub async fn run(self, load: Load, stop: impl Future<Output = ()>) -> Result<(), RunError> {
        systemd::ready();

        let (drain, draining) = oneshot::channel::<()>();
        let serving = http::serve(self.listeners, http::Limits::of_this_process(), self.site.handler(), async {
            // A dropped sender means the same as a message.
            let _ = draining.await;
        });
        let Self { access_control, mut watcher, site, mut targets, mut loaded, metrics, clock, mut asked, .. } = self;
        let until_stopped = async move {
            let mut stop = std::pin::pin!(stop);
            let outcome = loop {
                // One at a time: a request during a reload waits for the next one.
                let asker = tokio::select! {
                    () = &mut stop => break Ok(()),
                    fault = targets.failed() => break Err(RunError(fault)),
                    Some(asker) = asked.recv() => asker,
                    read = watcher.changed(&loaded.web) => {
                        let accepted = watcher.accept(read, &loaded.web);
                        metrics.web_config_in_use(accepted.is_ok());
                        if let Ok(Some(web)) = accepted {
                            access_control.replace(web.clone());
                            loaded.set_web(web);
                            metrics.config_in_use(&loaded);
                        }
                        continue;
                    }
                };
                systemd::reloading();
                let reloaded = tokio::select! {
                    reloaded = reload(&load, &mut loaded, &mut targets, &access_control, &mut watcher) => reloaded,
                    () = &mut stop => break Ok(()),
                };
                match &reloaded {
                    Ok(outcome) => {
                        metrics.config_applied(&loaded, clock.now().wall);
                        metrics.web_config_in_use(true);
                        info!(outcome, targets = %targets.names().join(", "), "configuration reloaded");
                    }
                    Err(error) => {
                        metrics.config_rejected();
                        if matches!(error, ReloadError::Invalid(problems) if watcher.is_about(problems)) {
                            metrics.web_config_in_use(false);
                        }
                        error!(%error, "configuration not reloaded; the previous one stays in use");
                    }
                }
                systemd::reloaded(reloaded.is_ok());
                // The caller may not wait for the answer.
                let _ = asker.send(reloaded.map_err(|error| error.to_string()));
            };
            systemd::stopping();
            site.stop();
            targets.shut_down().await;
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
    targets: &mut TargetManager,
    access_control: &AccessControl,
    watcher: &mut WebConfigWatcher,
) -> Result<String, ReloadError> {
    let load = Arc::clone(load);
    // A file on a disk that hangs must not block the server.
    let read = tokio::task::spawn_blocking(move || load()).await;
    let new = read.map_err(|fault| ReloadError::Broken(fault.to_string()))?.map_err(ReloadError::Invalid)?;
    if new.config.web != loaded.config.web {
        return Err(ReloadError::Fixed("web"));
    }
    if new.config.log != loaded.config.log {
        return Err(ReloadError::Fixed("log"));
    }
    let plans = targets.plan(&new.config).await?;
    targets.apply(&new.config, plans);
    warn_about(&new.config);
    if let Some(protection) = new.web.opens(&loaded.web) {
        warn!(protection, "reload removes protection from the web server, as the web configuration says");
    }
    access_control.replace(new.web.clone());
    watcher.reloaded();
    let outcome = new.changes_since(loaded);
    *loaded = new;
    Ok(outcome)
}

fn joined(texts: impl Iterator<Item = String>, separator: &str) -> String {
    texts.collect::<Vec<_>>().join(separator)
}

fn warn_about(config: &Config) {
    for warning in config::warnings(config) {
        warn!(warning, "the configuration is valid, but should be reconsidered");
    }
}

async fn bind(address: &ListenAddress, bound: &[Listener]) -> Result<Listener, BindError> {
    Listener::bind(address.host.as_deref(), address.port).await.map_err(|error| error.or_overlap(bound))
}
