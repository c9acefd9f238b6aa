//! The text that `demo` prints once it listens.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroU32;

use super::endpoint::{ACCOUNT, Faults, Options, REGION};

/// The text that the demo prints at its start.
#[derive(Clone, Debug)]
pub(super) struct Welcome {
    pub(super) options: Options,
    pub(super) environment: String,
}

impl Welcome {
    /// One screen: the simulated fleet, the addresses, and commands to try.
    #[must_use]
    pub(super) fn page(&self, addresses: &[SocketAddr], telemetry_path: &str, speaks_tls: bool) -> String {
        let scheme = if speaks_tls { "https" } else { "http" };
        let base_url = |address| base_url(scheme, address);
        let Options { jobs, speed, faults, .. } = &self.options;
        let faults = match faults {
            Faults::None => "no faults are simulated (--faults)".to_owned(),
            Faults::Mixture => "a mixture of faults is simulated".to_owned(),
            Faults::Script(script) => format!("these faults are simulated: {script}"),
        };
        let pace = match speed {
            None => "never changes".to_owned(),
            Some(speed) if *speed == NonZeroU32::MIN => "changes as fast as a real one".to_owned(),
            Some(speed) => format!("changes {speed} times as fast as a real one"),
        };
        let mut text = format!(
            "\nA simulated fleet of {jobs} jobs in account {ACCOUNT}, region {REGION}. It {pace}\n\
             (--speed), and {faults}. Nothing leaves this machine.\n\nOpen in a browser:\n"
        );
        for base in addresses.iter().map(base_url) {
            let _ = writeln!(text, "  {base}/  the status page\n  {base}{telemetry_path}  the metrics");
        }
        let metrics =
            addresses.first().map(|address| format!("{}{telemetry_path}", base_url(address))).unwrap_or_default();
        let _ = write!(
            text,
            "\nTry:\n  curl -s {metrics} | grep '^aws_iot_jobs{{'\n  \
             watch -n 5 \"curl -s {metrics} | grep -E '^aws_iot_jobs([{{]|_up|_collector_success)'\"\n\n\
             Any AWS program can use the simulated endpoint:\n{}\nCtrl-C ends it.\n\n",
            indented(&self.environment)
        );
        text
    }
}

/// The URL of a listening address, for this machine. In a container that publishes its ports under their own numbers, it is the one for
/// the host.
pub(super) fn base_url(scheme: &str, address: &SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("{scheme}://localhost:{}", address.port())
    } else {
        format!("{scheme}://{address}")
    }
}

fn indented(lines: &str) -> String {
    lines.lines().flat_map(|line| ["  ", line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_welcome_fits_on_one_screen_and_names_real_addresses() {
        let options = Options { jobs: 2000, seed: 1, speed: Some(NonZeroU32::MIN), faults: Faults::None };
        let welcome = Welcome { options, environment: "export A=1\nexport B=2\nexport C=3\nexport D=4\n".to_owned() };
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let addresses = [address("[::]:10114")];
        let page = welcome.page(&addresses, "/metrics", false);
        assert!(page.contains("  http://localhost:10114/metrics  the metrics\n"), "{page}");
        assert!(
            welcome.page(&addresses, "/metrics", true).contains("  https://localhost:10114/metrics  the metrics\n")
        );
        let loopback = welcome.page(&[address("127.0.0.1:10114")], "/metrics", false);
        assert!(loopback.contains("  http://127.0.0.1:10114/metrics  the metrics\n"), "{loopback}");
        assert_eq!(base_url("http", &address("0.0.0.0:4566")), "http://localhost:4566");
        assert!(page.lines().count() <= 24 && page.lines().all(|line| line.len() <= 110), "{page}");
    }
}
