//! The simulated AWS endpoint on a loopback port, and the settings that connect the exporter to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::welcome::{Welcome, base_url};
use crate::aws::ClientOptions;
use crate::clock::Clock;
use crate::config::{Collectors, Config, ListenAddress, Loaded, Target};
use crate::http::{BindError, Listener};
use crate::jobs::{AccountId, InvalidAccountId};
use crate::simulator::{self, Lifecycle, ParseScriptError, Script, Simulator};

pub(super) const ACCOUNT: &str = "111122223333";
pub(super) const REGION: &str = "eu-west-1";
const ACCESS_KEY_ID: &str = "AKIADEMODEMODEMODEMO";
/// Not a secret: the simulator does not check signatures, and has nothing to protect.
const SECRET_ACCESS_KEY: &str = "demo";

/// Where the demo listens, unless an address is configured: on this machine only.
const LISTEN_ADDRESS: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 10114);

/// Short intervals, because a fast fleet changes quickly.
const OPEN_INTERVAL: Duration = Duration::from_secs(15);
const FULL_INTERVAL: Duration = Duration::from_mins(1);
const DETAILS_INTERVAL: Duration = Duration::from_secs(15);
const MAX_DETAILS_INTERVAL: Duration = Duration::from_mins(1);
const EXECUTIONS_INTERVAL: Duration = Duration::from_mins(2);
/// Every job of the fleet has these tags.
const TAG_KEYS: [&str; 2] = ["product", "team"];
const REQUESTS_PER_SECOND: f64 = 25.0;

/// The size and the behaviour of the simulated fleet.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// The number of its jobs.
    pub(super) jobs: usize,
    /// The same seed gives the same jobs and the same events.
    pub(super) seed: u64,
    /// The speed of its rollouts, as a multiple of real ones; `None` for a fleet that never changes.
    pub(super) speed: Option<NonZeroU32>,
    /// The faults between it and the exporter.
    pub(super) faults: Faults,
}

/// The faults of a demo.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Faults {
    /// No faults.
    #[default]
    None,
    /// Every fault, each so rare that most runs succeed.
    Mixture,
    /// The faults of a script.
    Script(Script),
}

impl FromStr for Faults {
    type Err = ParseScriptError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "mixture" => Ok(Self::Mixture),
            script => {
                let script: Script = script.parse()?;
                Ok(if script.rules.is_empty() { Self::None } else { Self::Script(script) })
            }
        }
    }
}

/// Why the demo cannot start.
#[derive(Debug, thiserror::Error)]
pub(super) enum DemoError {
    /// The endpoint cannot listen on its address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The account id of the demo is invalid.
    #[error(transparent)]
    Account(#[from] InvalidAccountId),
    /// The fleet could not be generated.
    #[error("the simulated fleet could not be made, which is a bug in the exporter")]
    Fleet,
}

/// A simulated AWS endpoint, which listens but does not serve yet.
#[derive(Debug)]
pub(super) struct Demo {
    simulator: Simulator,
    listener: Listener,
    options: Options,
}

impl Demo {
    /// Generates the fleet and binds the endpoint.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub(super) async fn bind(address: SocketAddr, options: Options) -> Result<Self, DemoError> {
        let listener = Listener::bind(Some(&address.ip().to_string()), address.port()).await?;
        let (account, now) = (AccountId::parse(ACCOUNT)?, Clock::system().now().wall);
        let simulator = Simulator::new();
        simulator.add_access_key(&account, ACCESS_KEY_ID);
        let Options { seed, jobs, speed, .. } = options;
        // A million jobs take a second or more; signals must be handled meanwhile.
        let begin = move || Lifecycle::begin(seed, jobs, speed.unwrap_or(NonZeroU32::MIN), now);
        let (fleet, lifecycle) = tokio::task::spawn_blocking(begin).await.map_err(|_| DemoError::Fleet)?;
        if speed.is_some() {
            simulator.set_fleet_with_lifecycle(&account, REGION, fleet, lifecycle);
        } else {
            simulator.set_fleet(&account, REGION, fleet);
        }
        match &options.faults {
            Faults::None => {}
            Faults::Mixture => simulator.set_script(Script::mixture(options.seed)),
            Faults::Script(script) => simulator.set_script(script.clone()),
        }
        Ok(Self { simulator, listener, options })
    }

    /// The address of this endpoint.
    #[must_use]
    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint { address: reachable(self.listener.local_addr()), speed: self.options.speed }
    }

    /// The client options for this endpoint.
    #[must_use]
    pub(super) fn client_options() -> ClientOptions {
        ClientOptions::local(ACCESS_KEY_ID, SECRET_ACCESS_KEY)
    }

    /// The text that the demo prints at its start.
    #[must_use]
    pub(super) fn welcome(&self) -> Welcome {
        Welcome { options: self.options.clone(), environment: self.environment() }
    }

    /// Shell lines that connect any AWS program to this endpoint.
    #[must_use]
    pub(super) fn environment(&self) -> String {
        format!(
            "export AWS_ENDPOINT_URL={}\nexport AWS_REGION={REGION} AWS_DEFAULT_REGION={REGION}\n\
             export AWS_ACCESS_KEY_ID={ACCESS_KEY_ID}\nexport AWS_SECRET_ACCESS_KEY={SECRET_ACCESS_KEY}\n",
            base_url("http", &self.listener.local_addr())
        )
    }

    /// The text of `--simulator-only`: shell lines and comments.
    #[must_use]
    pub(super) fn instructions(&self) -> String {
        format!(
            "# A simulated AWS endpoint with {} jobs in account {ACCOUNT}. Ctrl-C ends it. In another shell:\n{}\
             # Then, for example:\n#   aws iot list-jobs --status IN_PROGRESS\n#   aws-iot-jobs-exporter\n",
            self.options.jobs,
            self.environment()
        )
    }

    /// Serves the endpoint until `shutdown`.
    pub(super) async fn serve(self, shutdown: impl Future<Output = ()>) {
        let clock = Clock::system();
        simulator::serve(self.simulator, vec![self.listener], move || clock.now().wall, shutdown).await;
    }
}

/// The address of a simulated endpoint.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    address: SocketAddr,
    speed: Option<NonZeroU32>,
}

impl Endpoint {
    /// Connects a configuration to this endpoint. Addresses, collectors and limits get the values of the demo, unless they
    /// are configured.
    pub(super) fn configure(&self, loaded: &mut Loaded) {
        let Loaded { config, effective, .. } = loaded;
        if !effective.is_given("web.listen_addresses") {
            let (host, port) = LISTEN_ADDRESS;
            config.web.listen_addresses = vec![ListenAddress { host: Some(host.to_string()), port }];
        }
        if config.collectors == Config::default().collectors {
            let Collectors { open_jobs, all_jobs, details, executions, tags } = &mut config.collectors;
            (open_jobs.interval, all_jobs.interval) = (OPEN_INTERVAL, FULL_INTERVAL);
            (details.interval, details.max_interval) = (DETAILS_INTERVAL, MAX_DETAILS_INTERVAL);
            executions.interval = EXECUTIONS_INTERVAL;
            tags.keys = TAG_KEYS.map(str::to_owned).to_vec();
        }
        if config.limits == Config::default().limits {
            // A faster fleet changes more during a walk, so walks must be faster too.
            let speed = f64::from(self.speed.map_or(1, NonZeroU32::get));
            config.limits.requests_per_second = (REQUESTS_PER_SECOND * speed).min(1000.0);
        }
        config.targets = vec![Target {
            name: Some("demo".to_owned()),
            region: Some(REGION.to_owned()),
            endpoint_url: Some(format!("http://{}", self.address)),
            collectors: config.collectors.clone(),
            ..Target::default()
        }];
    }
}

/// The address for connections from this process to a listening address.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flag, Sources};

    fn endpoint() -> Endpoint {
        Endpoint { address: "127.0.0.1:4566".parse().expect("an address"), speed: None }
    }

    fn listens_on(flags: Vec<Flag>) -> Vec<String> {
        let sources = Sources { flags, ..Sources::default() };
        let mut loaded = crate::config::load_all(&sources).expect("a configuration");
        endpoint().configure(&mut loaded);
        loaded.config.web.listen_addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_demo_listens_on_this_machine_only_unless_an_address_is_configured() {
        assert_eq!(listens_on(Vec::new()), ["127.0.0.1:10114"]);
        // The default of the exporter, but given.
        let (key, flag) = ("web.listen_addresses".to_owned(), "--web.listen-address".to_owned());
        assert_eq!(listens_on(vec![Flag { key, flag, values: vec![":10114".to_owned()] }]), [":10114"]);
    }

    #[test]
    fn an_endpoint_on_all_interfaces_is_called_on_the_loopback_interface() {
        for (listening, called) in [
            ("0.0.0.0:9", "127.0.0.1:9"),
            ("[::]:9", "[::1]:9"),
            ("127.0.0.2:9", "127.0.0.2:9"),
            ("10.0.0.1:9", "10.0.0.1:9"),
        ] {
            let address = listening.parse().expect("an address");
            assert_eq!(reachable(address).to_string(), called);
        }
    }
}
