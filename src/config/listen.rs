//! Listen addresses, in the common syntax of Prometheus exporters.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A listen address: `:10114` (all interfaces), `127.0.0.1:0`, `[::1]:9100` or `localhost:9100`.
///
/// # Example
/// ```
/// use aws_iot_jobs_exporter::config::ListenAddress;
///
/// let address: ListenAddress = "[::1]:9100".parse()?;
/// assert_eq!((address.host.as_deref(), address.port), (Some("::1"), 9100));
///
/// let all_interfaces: ListenAddress = ":10114".parse()?;
/// assert_eq!(all_interfaces.host, None);
/// # Ok::<(), aws_iot_jobs_exporter::config::InvalidListenAddress>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenAddress {
    /// An IP address without brackets, or a name in lower case; `None` for all interfaces, IPv4 and IPv6.
    pub host: Option<String>,
    /// The TCP port; 0 lets the system choose.
    pub port: u16,
}

/// A text that is not a listen address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a listen address is :PORT or HOST:PORT, with an IPv6 address in brackets")]
pub struct InvalidListenAddress;

impl ListenAddress {
    /// The host, if it is an IP address.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.as_deref()?.parse().ok()
    }
}

impl FromStr for ListenAddress {
    type Err = InvalidListenAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or(InvalidListenAddress)?;
        // `u16::from_str` would accept a plus sign.
        let port = port.parse().ok().filter(|_| !port.starts_with('+')).ok_or(InvalidListenAddress)?;
        let host = if host.is_empty() { None } else { Some(parse_host(host).ok_or(InvalidListenAddress)?) };
        Ok(Self { host, port })
    }
}

/// Normalizes a host.
fn parse_host(text: &str) -> Option<String> {
    if let Some(v6) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return Some(v6.parse::<Ipv6Addr>().ok()?.to_string());
    }
    // A last part with only digits makes it an IPv4 address, valid or not.
    if text.rsplit('.').next().unwrap_or_default().bytes().all(|b| b.is_ascii_digit()) {
        return Some(text.parse::<Ipv4Addr>().ok()?.to_string());
    }
    is_host_name(text).then(|| text.to_ascii_lowercase())
}

/// A DNS name (RFC 1123), or with an underscore, which container networks allow.
fn is_host_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.as_deref() {
            Some(v6) if v6.contains(':') => write!(f, "[{v6}]:{}", self.port),
            host => write!(f, "{}:{}", host.unwrap_or_default(), self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_common_syntax_round_trips() {
        for text in [":10114", "127.0.0.1:0", "[::1]:9", "[::]:65535", "localhost:9100", "a-b.c_d.example:1"] {
            assert_eq!(text.parse::<ListenAddress>().map(|address| address.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn no_host_means_all_interfaces() {
        let address: ListenAddress = ":10114".parse().expect("an address");
        assert_eq!((address.host, address.port), (None, 10114));
    }

    #[test]
    fn invalid_addresses_are_refused() {
        for text in [
            "",
            ":",
            "10114",
            "localhost",
            "::1:9",
            "[::1]",
            "[::1:9",
            "::1]:9",
            "[localhost]:9",
            "[]:9",
            ":65536",
            ":-1",
            ":+1",
            ":9 ",
            " :9",
            "a b:9",
            "http://a:9",
            "256.0.0.1:9",
            "1.2.3:9",
            "-a:9",
            "a..b:9",
            "a:9:",
            "é:9",
            "[fe80::1%eth0]:9",
        ] {
            assert_eq!(text.parse::<ListenAddress>(), Err(InvalidListenAddress), "{text}");
        }
    }
}
