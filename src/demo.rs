//! The demo: the simulated AWS endpoint on a loopback port, and the settings that point the exporter at it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use crate::aws::Access;
use crate::clock::Clock;
use crate::config::{Config, Target};
use crate::http::{BindError, Listener};
use crate::job::{AccountId, InvalidAccountId};
use crate::simulator::{self, Fleet, Simulator};

const ACCOUNT: &str = "111122223333";
const REGION: &str = "eu-west-1";
const ACCESS_KEY_ID: &str = "AKIADEMODEMODEMODEMO";
/// Not a secret: the simulator does not check signatures, and listens for nothing else.
const SECRET_ACCESS_KEY: &str = "demo";

/// A first look should not wait a minute for the second walk.
const INTERVAL: Duration = Duration::from_secs(15);

/// What the simulated fleet looks like.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Jobs in it.
    pub jobs: usize,
    /// The same seed makes the same jobs.
    pub seed: u64,
}

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The endpoint's address can't be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The demo's own account id is none.
    #[error(transparent)]
    Account(#[from] InvalidAccountId),
}

/// A simulated AWS endpoint, bound and not yet serving.
#[derive(Debug)]
pub struct Demo {
    simulator: Simulator,
    listener: Listener,
    jobs: usize,
}

impl Demo {
    /// Makes the fleet and binds the endpoint.
    ///
    /// # Errors
    /// Where the address can't be had.
    pub async fn bind(address: SocketAddr, options: &Options) -> Result<Self, DemoError> {
        let listener = Listener::bind(Some(&address.ip().to_string()), address.port()).await?;
        let (account, now) = (AccountId::parse(ACCOUNT)?, Clock::system().now().wall);
        let simulator = Simulator::new();
        simulator.add_access_key(&account, ACCESS_KEY_ID);
        simulator.set_fleet(&account, REGION, Fleet::seeded(options.seed, options.jobs, now));
        Ok(Self { simulator, listener, jobs: options.jobs })
    }

    fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr())
    }

    /// Points a configuration at this endpoint. What it says of the log, the web and the limits stays.
    pub fn configure(&self, config: &mut Config) {
        if config.refresh == Config::default().refresh {
            config.refresh.interval = INTERVAL;
        }
        config.targets = vec![Target {
            name: Some("demo".to_owned()),
            region: Some(REGION.to_owned()),
            endpoint_url: Some(self.url()),
            ..Target::default()
        }];
    }

    /// The way to this endpoint.
    #[must_use]
    pub fn access(&self) -> Access {
        Access::local(ACCESS_KEY_ID, SECRET_ACCESS_KEY)
    }

    /// What to tell somebody who has just started the demo.
    #[must_use]
    pub fn welcome(&self, config: &Config) -> String {
        let mut text = format!(
            "\nA simulated fleet with {} jobs in account {ACCOUNT}, region {REGION}, is at {}.\n\
             Nothing leaves this machine. Open, in a browser or with curl:\n\n",
            self.jobs,
            self.url()
        );
        for address in &config.web.listen_addresses {
            let host = address.host().map_or_else(|| "localhost".to_owned(), ToString::to_string);
            let base = format!("http://{host}:{}", address.port());
            let _ = writeln!(text, "  {base}/  the status page\n  {base}{}  the metrics", config.web.telemetry_path);
        }
        text.push_str("\nCtrl-C ends it.\n");
        text
    }

    /// Shell lines that point any AWS program at this endpoint.
    #[must_use]
    pub fn environment(&self) -> String {
        format!(
            "export AWS_ENDPOINT_URL={}\nexport AWS_REGION={REGION}\nexport AWS_ACCESS_KEY_ID={ACCESS_KEY_ID}\n\
             export AWS_SECRET_ACCESS_KEY={SECRET_ACCESS_KEY}\n",
            self.url()
        )
    }

    /// Serves the endpoint until `shutdown`.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let clock = Clock::system();
        simulator::serve(self.simulator, vec![self.listener], move || clock.now().wall, shutdown).await;
    }
}
